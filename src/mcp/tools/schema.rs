//! Checks the value of an argument against its schema: the part of JSON Schema 2020-12 that our own
//! schemas use. What is listed of these schemas is less, and keeps to what every model's API takes.

use std::slice;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::json_pointer::Text;
use crate::mcp::jsonrpc::{Object, read};

/// An object or an array that is longer is not looked into. What is allowed ends up in a URL or a
/// head of 31 KiB.
pub(super) const MOST_BYTES: usize = 256 * 1024;
const LENGTH: [&str; 2] = ["minLength", "maxLength"];
/// What only we check. Gemini's API refuses a whole session for the first; no model needs any.
const UNLISTED: [&str; 6] = [
    "propertyNames",
    "maxProperties",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
];

/// Makes the `schema` that is checked into the one that is listed.
pub(super) fn list(schema: &mut Value) {
    let Some(keywords) = schema.as_object_mut() else {
        return;
    };
    keywords.retain(|keyword, _| !UNLISTED.contains(&keyword.as_str()));
    if !keywords.contains_key("type") && !keywords.contains_key("anyOf") {
        keywords.insert("anyOf".to_owned(), any_json());
    }
    // Of what types the members of a map may be is checked. A model knows what a query takes.
    if let Some(members) = keywords.get_mut("additionalProperties")
        && members.get("anyOf").is_some()
    {
        *members = true.into();
    }
    for (keyword, inner) in keywords {
        match (keyword.as_str(), inner) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(list),
            ("anyOf", Value::Array(branches)) => branches.iter_mut().for_each(list),
            ("items" | "additionalProperties", inner) => list(inner),
            _ => {}
        }
    }
}

/// The branches of what may be any JSON value. Some clients make a string of an argument without a
/// type, and some APIs refuse it, or an array that does not say of what. The object says that it is
/// open: what makes schemas strict would close it.
fn any_json() -> Value {
    let object = json!({"type": "object", "additionalProperties": true});
    let scalars = ["string", "number", "boolean"].map(|kind| json!({"type": kind}));
    let mut flat = vec![object];
    flat.extend(scalars);
    let array = json!({"type": "array", "items": {"anyOf": flat}});
    flat.insert(1, array);
    flat.into()
}

/// The schemas of which a value must fit one: those of `anyOf`, each of another type, or `schema`
/// itself.
fn branches(schema: &Value) -> &[Value] {
    let branches = schema.get("anyOf").and_then(Value::as_array);
    branches.map_or(slice::from_ref(schema), Vec::as_slice)
}

/// The types that a value may have; none where it may be anything.
pub(super) fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let types = branches(schema).iter().map(|branch| branch.get("type"));
    types.flatten().filter_map(Value::as_str)
}

/// Checks the value of what is called `name`. Without a type in its schema it may be anything, and
/// is not even looked at.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn check_value(
    schema: Option<&Value>,
    value: &RawValue,
    name: &str,
) -> Result<(), String> {
    let Some(schema) = schema.filter(|schema| types(schema).next().is_some()) else {
        return Ok(());
    };
    let kind = kind_of(value);
    let number: Option<f64> = if kind == "number" { read(value) } else { None };
    // 60.0 is an integer, too (JSON Schema 2020-12 core §4.2.3).
    let is_integer = number.is_some_and(|number| number.fract() == 0.0);
    let fits = |branch: &&Value| types(branch).any(|t| t == kind || (t == "integer" && is_integer));
    let Some(schema) = branches(schema).iter().find(fits) else {
        let types: Vec<&str> = types(schema).collect();
        return Err(format!("{name} must be of type {}.", types.join(" or ")));
    };
    let unreadable = || format!("{name} cannot be read.");
    let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    match kind {
        "string" => {
            let Text(text) = read(value).ok_or_else(unreadable)?;
            if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
                let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
                if !choices.contains(&&*text) {
                    return Err(format!("{name} must be one of {}.", choices.join(", ")));
                }
            }
            check_bounds(
                schema,
                LENGTH,
                size(text.chars().count()),
                name,
                " characters long",
            )
        }
        "number" => check_bounds(
            schema,
            ["minimum", "maximum"],
            number.unwrap_or(f64::NAN),
            name,
            "",
        ),
        "object" | "array" if value.get().len() > MOST_BYTES => {
            Err(format!("{name} must be at most {MOST_BYTES} bytes long."))
        }
        "object" => {
            let members: Object<'_> = read(value).ok_or_else(unreadable)?;
            check_bounds(
                schema,
                ["minProperties", "maxProperties"],
                size(members.0.len()),
                name,
                " members long",
            )?;
            let names = schema.get("propertyNames").unwrap_or(&Value::Null);
            members.0.iter().try_for_each(|(key, value)| {
                let length = size(key.chars().count());
                check_bounds(
                    names,
                    LENGTH,
                    length,
                    &format!("every key of {name}"),
                    " characters long",
                )?;
                check_value(
                    schema.get("additionalProperties"),
                    value,
                    &format!("{name}.{key}"),
                )
            })
        }
        "array" => {
            let items: Vec<&RawValue> = read(value).ok_or_else(unreadable)?;
            check_bounds(
                schema,
                ["minItems", "maxItems"],
                size(items.len()),
                name,
                " items long",
            )?;
            let name = format!("every item of {name}");
            items
                .into_iter()
                .try_for_each(|item| check_value(schema.get("items"), item, &name))
        }
        _ => Ok(()),
    }
}

/// The type of JSON Schema that `value` has; integers are numbers here.
pub(super) fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

fn check_bounds(
    schema: &Value,
    [least, most]: [&str; 2],
    size: f64,
    name: &str,
    unit: &str,
) -> Result<(), String> {
    let bound = |keyword| schema.get(keyword).and_then(Value::as_f64);
    match (
        bound(least).filter(|least| size < *least),
        bound(most).filter(|most| size > *most),
    ) {
        (Some(least), _) => Err(format!("{name} must be at least {least}{unit}.")),
        (_, Some(most)) => Err(format!("{name} must be at most {most}{unit}.")),
        _ => Ok(()),
    }
}
