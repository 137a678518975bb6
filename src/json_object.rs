//! A JSON object that is not read into a tree: every member keeps its own text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_pointer::Text;

/// The members of a JSON object, in the order in which they stand, each value as its own text.
#[derive(Debug, Default)]
pub struct Object<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// The value of `name`, when it is not `null`.
    pub(crate) fn given(&self, name: &str) -> Option<&'a RawValue> {
        self.get(name).filter(|value| !is_null(value))
    }

    /// The value of `name`, when it is a string; as it stands in the text unless it has escapes.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.read(name).map(|Text(text)| text)
    }

    /// The value of `name`, when it is a `T`.
    pub(crate) fn read<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        read(self.get(name)?)
    }
}

/// `value`, when it is a `T`.
pub(crate) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The JSON object or array that stands in a string: some clients write them so.
pub(crate) fn json_in_string(value: &RawValue) -> Option<String> {
    // Whatever else is long is not read.
    let text = value.get().starts_with('"').then_some(value.get())?;
    let text: String = serde_json::from_str(text).ok()?;
    let is_json = text.trim_start().starts_with(['{', '['])
        && serde_json::from_str::<&RawValue>(&text).is_ok();
    is_json.then_some(text)
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((Text(name), value)) = map.next_entry()? {
            self.0.push((name, value));
        }
        Ok(self)
    }
}
