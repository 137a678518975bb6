//! What a client means by the arguments that it sends: frameworks write `null` or `""` for what was
//! not given, JSON into strings, and add arguments of their own.

use serde_json::Value;
use serde_json::value::RawValue;

use super::input::Input;
use super::schema::{MOST_BYTES, kind_of, types};
use crate::json_pointer::Text;
use crate::mcp::jsonrpc::{self, Object, quoted, read};

/// What clients add to every call, n8n above all. It says nothing to a tool without that argument.
const OF_CLIENTS: [&str; 5] = [
    "toolCallId",
    "tool_call_id",
    "sessionId",
    "action",
    "chatInput",
];

enum Meaning {
    Nothing,
    AsGiven,
    Other(Box<RawValue>),
}

/// What each argument of a call means.
pub(crate) struct Meanings(Vec<Meaning>);

impl Meanings {
    /// Of the arguments that are `given` to the tool that takes `input`.
    pub(super) fn of(input: &Input, given: &Object<'_>) -> Self {
        let meanings = given.0.iter().map(|(name, value)| match input.get(name) {
            Some(property) if is_nothing(property, value) && !input.requires(name) => {
                Meaning::Nothing
            }
            Some(property) => meaning_of(property, value),
            None if OF_CLIENTS.contains(&&**name) => Meaning::Nothing,
            None => Meaning::AsGiven,
        });
        Self(meanings.collect())
    }

    /// The arguments that are meant by those that are `given`.
    pub(crate) fn arguments<'a>(&'a self, given: &Object<'a>) -> Object<'a> {
        let arguments = given.0.iter().zip(&self.0);
        let arguments = arguments.filter_map(|((name, value), meaning)| {
            let value: &'a RawValue = match meaning {
                Meaning::Nothing => return None,
                Meaning::AsGiven => value,
                Meaning::Other(other) => other,
            };
            Some((name.clone(), value))
        });
        Object(arguments.collect())
    }
}

/// Whether `value` stands for an argument with the schema `property` that was not given: `null`,
/// and where that cannot be a value, `""`, too.
fn is_nothing(property: &Value, value: &RawValue) -> bool {
    match value.get() {
        "null" => true,
        "\"\"" => {
            let is_untyped = types(property).next().is_none();
            let takes_text = is_untyped || types(property).any(|kind| kind == "string");
            let is_choice = property.get("enum").is_some();
            let least = property.get("minLength").and_then(Value::as_u64);
            !takes_text || is_choice || least.is_some_and(|least| least > 0)
        }
        _ => false,
    }
}

/// What `value` means for the argument with the schema `property`.
fn meaning_of(property: &Value, value: &RawValue) -> Meaning {
    let json = json_in_text(property, value);
    let without = without_nulls(property, json.as_deref().unwrap_or(value));
    without.or(json).map_or(Meaning::AsGiven, Meaning::Other)
}

/// The members of a map that were given, if some were not.
fn without_nulls(property: &Value, value: &RawValue) -> Option<Box<RawValue>> {
    let is_map = property
        .get("additionalProperties")
        .is_some_and(Value::is_object);
    // What is longer is refused.
    if !is_map || value.get().len() > MOST_BYTES {
        return None;
    }
    let members: Object<'_> = read(value)?;
    let is_given = |value: &RawValue| value.get() != "null";
    if members.0.iter().all(|(_, value)| is_given(value)) {
        return None;
    }
    let given = members.0.iter().filter(|(_, value)| is_given(value));
    let given: Vec<String> = given
        .map(|(name, value)| format!("{}:{value}", quoted(name)))
        .collect();
    RawValue::from_string(format!("{{{}}}", given.join(","))).ok()
}

/// The object or the array that `property` takes and that a client has written into a string.
fn json_in_text(property: &Value, value: &RawValue) -> Option<Box<RawValue>> {
    let is_composite = |kind: &str| matches!(kind, "object" | "array");
    if kind_of(value) != "string" || !types(property).any(is_composite) {
        return None;
    }
    let Text(text) = read(value)?;
    // A key that stands there twice is refused here, too.
    let json = RawValue::from_string(jsonrpc::parse(text.as_bytes()).ok()?.to_owned()).ok()?;
    let kind = kind_of(&json);
    (is_composite(kind) && types(property).any(|wanted| wanted == kind)).then_some(json)
}
