//! Checks a tool's arguments against its input schema: the part of JSON Schema 2020-12 that our own
//! schemas use.

use std::slice;

use serde_json::Value;

use super::jsonrpc::{Object, read};

const LENGTH: [&str; 2] = ["minLength", "maxLength"];

/// Checks `arguments` against an object `schema`.
///
/// # Errors
/// A sentence that names the argument and says what is wrong with it.
pub(super) fn check(schema: &Value, arguments: &Object<'_>) -> Result<(), String> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in &arguments.0 {
        let Some((_, property)) = properties.clone().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = properties.map(|(known, _)| known.as_str()).collect();
            let known = if known.is_empty() { "none is taken".to_owned() } else { known.join(", ") };
            return Err(format!("There is no argument {name:?}; the arguments are: {known}."));
        };
        // Without a type it may be anything, and is not even looked at.
        if property.get("type").is_some() {
            let value = read(value).ok_or_else(|| format!("{name} cannot be read."))?;
            check_value(Some(property), &value, name)?;
        }
    }
    let mut required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let missing = required.find(|name| arguments.get(name).is_none());
    missing.map_or(Ok(()), |missing| Err(format!("The argument {missing:?} is missing.")))
}

fn check_value(schema: Option<&Value>, value: &Value, name: &str) -> Result<(), String> {
    let Some((schema, types)) = schema.and_then(|schema| Some((schema, schema.get("type")?))) else {
        return Ok(());
    };
    let types = types.as_array().map_or(slice::from_ref(types), Vec::as_slice);
    let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
    if !types.iter().any(|kind| is_of_type(value, kind)) {
        return Err(format!("{name} must be of type {}.", types.join(" or ")));
    }
    if let Some(choices) = schema.get("enum").and_then(Value::as_array).filter(|choices| !choices.contains(value)) {
        let choices: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        return Err(format!("{name} must be one of {}.", choices.join(", ")));
    }
    let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    match value {
        Value::String(text) => check_bounds(schema, LENGTH, size(text.chars().count()), name, " characters long"),
        Value::Number(number) => {
            check_bounds(schema, ["minimum", "maximum"], number.as_f64().unwrap_or(f64::NAN), name, "")
        }
        Value::Object(members) => {
            check_bounds(schema, ["minProperties", "maxProperties"], size(members.len()), name, " members long")?;
            members.iter().try_for_each(|(key, value)| {
                let names = schema.get("propertyNames").unwrap_or(&Value::Null);
                check_bounds(
                    names,
                    LENGTH,
                    size(key.chars().count()),
                    &format!("every key of {name}"),
                    " characters long",
                )?;
                check_value(schema.get("additionalProperties"), value, &format!("{name}.{key}"))
            })
        }
        Value::Array(items) => {
            check_bounds(schema, ["minItems", "maxItems"], size(items.len()), name, " items long")?;
            let name = format!("every item of {name}");
            items.iter().try_for_each(|item| check_value(schema.get("items"), item, &name))
        }
        _ => Ok(()),
    }
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        // 60.0 is one, too (JSON Schema 2020-12 core §4.2.3).
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn check_bounds(schema: &Value, [least, most]: [&str; 2], size: f64, name: &str, unit: &str) -> Result<(), String> {
    let bound = |keyword| schema.get(keyword).and_then(Value::as_f64);
    match (bound(least).filter(|least| size < *least), bound(most).filter(|most| size > *most)) {
        (Some(least), _) => Err(format!("{name} must be at least {least}{unit}.")),
        (_, Some(most)) => Err(format!("{name} must be at most {most}{unit}.")),
        _ => Ok(()),
    }
}
