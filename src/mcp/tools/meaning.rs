//! What a client means by the arguments that it sends.

use serde_json::Value;
use serde_json::value::RawValue;

use super::schema::{kind_of, types};
use crate::json_pointer::Text;
use crate::mcp::jsonrpc::{self, Object, read};

enum Meaning {
    AsGiven,
    Other(Box<RawValue>),
}

/// What each argument of a call means.
pub(crate) struct Meanings(Vec<Meaning>);

impl Meanings {
    /// Of the arguments that are `given` to the tool with this input schema.
    pub(super) fn of(schema: Option<&Value>, given: &Object<'_>) -> Self {
        let meanings = given.0.iter().map(|(name, value)| {
            let property = schema
                .and_then(|schema| schema.get("properties"))
                .and_then(|properties| properties.get(&**name));
            property.map_or(Meaning::AsGiven, |property| meaning(property, value))
        });
        Self(meanings.collect())
    }

    /// The arguments that are meant by those that are `given`.
    pub(crate) fn arguments<'a>(&'a self, given: &Object<'a>) -> Object<'a> {
        let arguments = given.0.iter().zip(&self.0);
        let arguments = arguments.map(|((name, value), meaning)| {
            let value: &'a RawValue = match meaning {
                Meaning::AsGiven => value,
                Meaning::Other(other) => other,
            };
            (name.clone(), value)
        });
        Object(arguments.collect())
    }
}

/// What the `value` of an argument means, which should fit the schema `property`.
fn meaning(property: &Value, value: &RawValue) -> Meaning {
    json_in_text(property, value).map_or(Meaning::AsGiven, Meaning::Other)
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
