//! Checks a tool's arguments against its input schema: the part of JSON Schema 2020-12 that our own
//! schemas use.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::jsonrpc::Object;

/// Checks `arguments` against an object `schema`.
///
/// # Errors
/// A sentence that names the argument and says what is wrong with it.
pub fn check(schema: &Value, arguments: &Object<'_>) -> Result<(), String> {
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, value) in arguments.members() {
        let Some(property) = properties.get(name) else {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            return Err(format!("There is no argument {name:?}; the arguments are: {}.", known.join(", ")));
        };
        check_value(property, value, name)?;
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    match required.into_iter().find(|name| arguments.get(name).is_none()) {
        Some(missing) => Err(format!("The argument {missing:?} is missing.")),
        None => Ok(()),
    }
}

fn check_value(schema: &Value, raw: &RawValue, name: &str) -> Result<(), String> {
    let Some(types) = schema.get("type") else {
        return Ok(()); // Anything: not even looked at.
    };
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| format!("{name}: {error}."))?;
    check_typed(schema, types, &value, name)
}

fn check_typed(schema: &Value, types: &Value, value: &Value, name: &str) -> Result<(), String> {
    let is = |kind: &str| match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let allowed: Vec<&str> = match types {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !allowed.iter().any(|kind| is(kind)) {
        return Err(format!("{name} must be of type {}.", allowed.join(" or ")));
    }
    check_bounds(schema, value, name)?;
    let nested = |schema: Option<&Value>, value: &Value, name: String| match schema
        .and_then(|schema| Some((schema, schema.get("type")?)))
    {
        Some((schema, types)) => check_typed(schema, types, value, &name),
        None => Ok(()),
    };
    match value {
        Value::Object(members) => members
            .iter()
            .try_for_each(|(key, value)| nested(schema.get("additionalProperties"), value, format!("{name}.{key}"))),
        Value::Array(items) => {
            items.iter().try_for_each(|item| nested(schema.get("items"), item, format!("every item of {name}")))
        }
        _ => Ok(()),
    }
}

fn check_bounds(schema: &Value, value: &Value, name: &str) -> Result<(), String> {
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_i64);
    let (size, least, most, unit) = match value {
        Value::String(text) => {
            (i64::try_from(text.chars().count()).ok(), bound("minLength"), bound("maxLength"), " characters long")
        }
        Value::Number(number) => (number.as_i64(), bound("minimum"), bound("maximum"), ""),
        _ => return Ok(()),
    };
    let size = size.unwrap_or(i64::MAX);
    match (least.filter(|least| size < *least), most.filter(|most| size > *most)) {
        (Some(least), _) => Err(format!("{name} must be at least {least}{unit}.")),
        (_, Some(most)) => Err(format!("{name} must be at most {most}{unit}.")),
        _ => Ok(()),
    }
}
