//! What of JSON Schema 2020-12 the tools' output schemas use, checked.

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
    let types = schema["type"]
        .as_str()
        .map_or_else(|| texts(&schema["type"]), |one| vec![one]);
    if !types.is_empty() && !types.iter().any(|kind| is(kind)) {
        return vec![format!("{at} is not {types:?}: {value}")];
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
