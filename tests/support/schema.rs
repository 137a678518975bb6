//! Schemas of tools: whether a result fits one, and whether the APIs of models take them.

use serde_json::Value;

/// Where `value` departs from `schema`.
pub fn departures(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => panic!("{kind}"),
    };
    if let Some(kind) = schema["type"].as_str()
        && !is(kind)
    {
        return vec![format!("{at} is no {kind}: {value}")];
    }
    if let Some(branches) = schema["anyOf"].as_array() {
        let fits = |branch: &Value| departures(branch, value, at).is_empty();
        if !branches.iter().any(fits) {
            return vec![format!("{at} fits none of {branches:?}: {value}")];
        }
    }
    let mut found = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) => found.extend(departures(schema, value, &at)),
            (None, Some(Value::Bool(false))) => found.push(format!("{at} is unknown")),
            (None, Some(schema)) if schema.is_object() => {
                found.extend(departures(schema, value, &at));
            }
            (None, _) => {}
        }
    }
    let missing = texts(&schema["required"])
        .into_iter()
        .filter(|name| value.get(name).is_none());
    found.extend(missing.map(|name| format!("{at}/{name} is missing")));
    if let (Some(schema), Some(items)) = (schema.get("items"), value.as_array()) {
        found.extend(items.iter().flat_map(|item| departures(schema, item, at)));
    }
    found
}

/// The strings of an array; none where there is no array.
pub fn texts(array: &Value) -> Vec<&str> {
    array
        .as_array()
        .into_iter()
        .flatten()
        .map(|text| text.as_str().unwrap())
        .collect()
}

// ---- What the APIs of models take ----

// The published rules, as of November 2026:
//
// - OpenAI: the guides "Function calling" and "Structured model outputs" (Supported schemas), at
//   platform.openai.com/docs/guides. The second has the rules of strict mode, and bounds.
// - Gemini: FunctionDeclaration and Schema, at ai.google.dev/api/caching and, with the rules of
//   names, cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/FunctionDeclaration.
// - Anthropic: "Define tools" and the reference of the Messages API, at platform.claude.com/docs.
//
// What stands in quotation marks is what an API answers to a schema that breaks the rule.

/// The keywords that every API takes: those of Gemini's `parametersJsonSchema`, less those that
/// `OpenAI`'s strict mode refuses (`oneOf`, `prefixItems`) or Anthropic's API does (`$ref`). Gemini's older `parameters` has them all, but for
/// `additionalProperties`, which its clients leave out.
const KEYWORDS: [&str; 13] = [
    "additionalProperties",
    "anyOf",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "properties",
    "required",
    "type",
];
/// Gemini's older `parameters` takes one of these, not a list of them, and no `null`.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a listed tool breaks the published rules of `OpenAI`'s function calling (non-strict),
/// Gemini's function declarations or Anthropic's tools. Each rule is the narrowest of the three.
pub fn breaks_the_rules(tool: &Value) -> Vec<String> {
    let name = tool["name"].as_str().unwrap();
    let mut found = Vec::new();
    // OpenAI and Anthropic: ^[a-zA-Z0-9_-]{1,64}$. Gemini: a letter or an underscore comes first.
    if !is_name(name, 64, "_-") || name.starts_with(|c: char| !c.is_ascii_alphabetic() && c != '_')
    {
        found.push(format!("{name:?} is no name of a function"));
    }
    // Azure's OpenAI has a bound, the others have none.
    let description = tool["description"].as_str().unwrap_or_default();
    if description.is_empty() || description.chars().count() > 1024 {
        found.push(format!(
            "{name} has no description of 1 to 1,024 characters"
        ));
    }
    let schema = &tool["inputSchema"];
    // OpenAI and Anthropic: "schema must have type 'object' and not have
    // 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level". OpenAI: "object schema missing
    // properties".
    if schema["type"] != "object" || !schema["properties"].is_object() {
        found.push(format!("{name} takes no object with properties"));
    }
    // Gemini: the name of a parameter is an identifier.
    for (argument, _) in properties(schema) {
        let is_identifier =
            is_name(argument, 64, "_") && !argument.starts_with(|c: char| c.is_ascii_digit());
        if !is_identifier {
            found.push(format!("{name} has an argument {argument:?}"));
        }
    }
    walk(schema, name, &mut found);
    // OpenAI: bounds of a whole schema, of Structured Outputs.
    let size = Size::of(schema);
    if size.depth > 10 || size.properties > 5000 || size.choices > 1000 || size.text > 120_000 {
        found.push(format!("{name} is too big: {size:?}"));
    }
    found
}

/// Where a listed tool breaks the further rules of `OpenAI`'s strict mode ("All fields must be
/// required", "additionalProperties: false must always be set in objects"). None for a tool that
/// takes an object with any keys: strict mode has no such objects, and clients send it as
/// non-strict.
///
/// An optional argument is not possible in strict mode. Clients that make schemas strict require
/// every argument, so the server takes `null` and `""` as not given.
pub fn breaks_the_strict_rules(tool: &Value) -> Vec<String> {
    let schema = &tool["inputSchema"];
    let mut found = Vec::new();
    if !has_free_objects(schema) {
        walk_strictly(schema, tool["name"].as_str().unwrap(), &mut found);
    }
    found
}

fn walk(schema: &Value, at: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        found.push(format!("{at} is no schema: {schema}"));
        return;
    };
    for keyword in keywords.keys() {
        if !KEYWORDS.contains(&keyword.as_str()) {
            found.push(format!("{at} has {keyword}"));
        }
    }
    match (schema.get("type"), schema.get("anyOf")) {
        (Some(Value::String(kind)), None) if TYPES.contains(&kind.as_str()) => {}
        (None, Some(Value::Array(branches))) if branches.len() > 1 => {
            // Gemini: "when using any_of, it must be the only field set"; a description passes.
            let others = keywords.keys().filter(|name| *name != "anyOf");
            for other in others.filter(|name| *name != "description") {
                found.push(format!("{at} has {other} beside anyOf"));
            }
        }
        _ => found.push(format!("{at} has neither one type nor anyOf: {schema}")),
    }
    // OpenAI and Gemini: "array schema missing items".
    if schema["type"] == "array" && !schema["items"].is_object() {
        found.push(format!("{at} does not say of what"));
    }
    // OpenAI's clients close an object that does not say that it is open.
    if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
        found.push(format!("{at} does not say whether it is open"));
    }
    // Gemini: the choices are strings, and none is empty.
    if let Some(choices) = schema.get("enum") {
        let choices = choices.as_array().unwrap();
        let is_choice = |choice: &Value| choice.as_str().is_some_and(|text| !text.is_empty());
        // OpenAI: a long enum must be short in characters.
        let length: usize = choices.iter().filter_map(Value::as_str).map(str::len).sum();
        if choices.len() > 250 && length > 15_000 {
            found.push(format!("{at} has too long choices"));
        }
        if schema["type"] != "string" || choices.is_empty() || !choices.iter().all(is_choice) {
            found.push(format!("{at} has an odd enum"));
        }
    }
    // Gemini: "only 'enum' and 'date-time' are supported for STRING type".
    if schema
        .get("format")
        .is_some_and(|format| format != "date-time")
    {
        found.push(format!("{at} has the format {}", schema["format"]));
    }
    // Anthropic: ^[a-zA-Z0-9_.-]{1,64}$.
    for (name, _) in properties(schema) {
        if !is_name(name, 64, "_.-") {
            found.push(format!("{at} has a property {name:?}"));
        }
    }
    for required in texts(&schema["required"]) {
        if schema["properties"].get(required).is_none() {
            found.push(format!("{at} requires {required}, which it does not have"));
        }
    }
    for (name, inner) in inner(schema) {
        walk(inner, &format!("{at}/{name}"), found);
    }
}

fn walk_strictly(schema: &Value, at: &str, found: &mut Vec<String>) {
    if schema["type"] == "object" {
        if schema["additionalProperties"] != false {
            found.push(format!("{at} is not closed"));
        }
        let required = texts(&schema["required"]);
        for (name, _) in properties(schema) {
            if !required.contains(&name) {
                found.push(format!("{at}/{name} is optional"));
            }
        }
    }
    for (name, inner) in inner(schema) {
        walk_strictly(inner, &format!("{at}/{name}"), found);
    }
}

/// Whether an object with any keys is somewhere in `schema`.
fn has_free_objects(schema: &Value) -> bool {
    let additional = schema.get("additionalProperties");
    additional.is_some_and(|additional| *additional != false)
        || inner(schema)
            .iter()
            .any(|(_, inner)| has_free_objects(inner))
}

/// What counts in the bounds of a whole schema.
#[derive(Debug, Default)]
struct Size {
    /// Objects within objects.
    depth: usize,
    properties: usize,
    choices: usize,
    /// Of the names of properties and of choices.
    text: usize,
}

impl Size {
    fn of(schema: &Value) -> Self {
        let mut size = Self::default();
        for (_, inner) in inner(schema) {
            let inner = Self::of(inner);
            size.depth = size.depth.max(inner.depth);
            size.properties += inner.properties;
            size.choices += inner.choices;
            size.text += inner.text;
        }
        if schema["type"] == "object" {
            size.depth += 1;
        }
        for (name, _) in properties(schema) {
            size.properties += 1;
            size.text += name.len();
        }
        for choice in schema["enum"].as_array().into_iter().flatten() {
            size.choices += 1;
            size.text += choice.as_str().map_or(0, str::len);
        }
        size
    }
}

/// The schemas right within `schema`, each with its name or number there.
fn inner(schema: &Value) -> Vec<(String, &Value)> {
    let mut found: Vec<(String, &Value)> = Vec::new();
    for (name, inner) in properties(schema) {
        found.push((name.to_owned(), inner));
    }
    for (index, inner) in schema["anyOf"].as_array().into_iter().flatten().enumerate() {
        found.push((index.to_string(), inner));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(keyword).filter(|inner| !inner.is_boolean()) {
            found.push((keyword.to_owned(), inner));
        }
    }
    found
}

/// The properties of an object; none where `schema` has none.
fn properties(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, schema)| (name.as_str(), schema))
}

fn is_name(name: &str, most: usize, marks: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    (1..=most).contains(&name.len()) && name.chars().all(is_allowed)
}
