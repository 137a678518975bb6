//! A schema in the form in which it is listed. It can only say what the API of every model takes.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Number;

use super::text::sentences;

/// The only format that the API of every model takes.
pub(super) const DATE_TIME: &str = "date-time";

/// A listed schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Empty where nothing is said.
    pub(super) description: String,
    pub(super) values: Values,
}

/// The values that a schema allows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Values {
    /// Those of each of these schemas.
    AnyOf(Vec<Schema>),
    Object(Members),
    /// Arrays of what this schema allows.
    Array(Box<Schema>),
    Text(Text),
    Number(Range),
    Boolean,
}

/// The members of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Members {
    /// In alphabetical order, as [`Members::add`] keeps them.
    properties: Vec<(String, Schema)>,
    pub(super) required: Vec<String>,
    pub(super) others: Others,
}

/// Members that are no properties.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Others {
    /// They may be anything.
    #[default]
    Any,
    None,
    Of(Box<Schema>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Text {
    Any,
    DateTime,
    OneOf(Vec<String>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Range {
    pub(super) is_integer: bool,
    pub(super) minimum: Option<Number>,
    pub(super) maximum: Option<Number>,
}

impl From<Values> for Schema {
    fn from(values: Values) -> Self {
        Self {
            description: String::new(),
            values,
        }
    }
}

impl Schema {
    /// Any text.
    pub(super) fn text() -> Self {
        Values::Text(Text::Any).into()
    }

    /// Any text, described.
    pub(super) fn text_for(description: &str) -> Self {
        Self::text().described(description.to_owned())
    }

    /// Any object.
    pub(super) fn object() -> Self {
        Values::Object(Members::default()).into()
    }

    /// Any array of anything.
    pub(super) fn array() -> Self {
        Self::array_of(Self::single_or_object())
    }

    pub(super) fn array_of(items: Self) -> Self {
        Values::Array(Box::new(items)).into()
    }

    /// Any JSON value but an array.
    pub(super) fn single_or_object() -> Self {
        let branches = ["object", "string", "number", "boolean"].map(Self::of_type);
        Values::AnyOf(branches.into()).into()
    }

    /// Any JSON value, as for the generic tools.
    pub(super) fn any() -> Self {
        let branches = ["object", "array", "string", "number", "boolean"].map(Self::of_type);
        Values::AnyOf(branches.into()).into()
    }

    /// Any value of the type of this name.
    pub(super) fn of_type(name: &str) -> Self {
        match name {
            "object" => Self::object(),
            "array" => Self::array(),
            "string" => Self::text(),
            "boolean" => Values::Boolean.into(),
            _ => Values::Number(Range {
                is_integer: name == "integer",
                ..Range::default()
            })
            .into(),
        }
    }

    /// What one of `branches` allows; any JSON value if there are none.
    pub(super) fn either(mut branches: Vec<Self>) -> Self {
        match branches.len() {
            0 => Self::any(),
            1 => branches.remove(0),
            _ => Values::AnyOf(branches).into(),
        }
    }

    /// It with this description in place of its own.
    pub(super) fn described(mut self, description: String) -> Self {
        self.description = description;
        self
    }

    /// Puts `text` before its description.
    pub(super) fn describe(&mut self, text: &str) {
        let own = std::mem::take(&mut self.description);
        self.description = sentences(&[text.to_owned(), own]);
    }

    /// Whether it is an object that demands some of its members.
    pub(super) fn demands_members(&self) -> bool {
        matches!(&self.values, Values::Object(members) if !members.required.is_empty())
    }

    /// The schemas of which a value must fit one.
    fn branches(&self) -> &[Self] {
        match &self.values {
            Values::AnyOf(branches) => branches,
            _ => std::slice::from_ref(self),
        }
    }

    /// It as JSON.
    pub fn json(&self) -> String {
        // Nothing in it is no JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Its length as JSON.
    pub(super) fn length(&self) -> usize {
        self.json().len()
    }

    /// Whether a value may be an array.
    pub fn takes_arrays(&self) -> bool {
        let is_array = |branch: &Self| matches!(branch.values, Values::Array(_));
        self.branches().iter().any(is_array)
    }

    /// Whether a value may be an object.
    pub fn takes_objects(&self) -> bool {
        let is_object = |branch: &Self| matches!(branch.values, Values::Object(_));
        self.branches().iter().any(is_object)
    }

    /// Whether a value may be any text, the empty one, too.
    pub fn takes_any_text(&self) -> bool {
        let is_open =
            |branch: &Self| matches!(branch.values, Values::Text(Text::Any | Text::DateTime));
        self.branches().iter().any(is_open)
    }
}

impl Members {
    /// Those of an object that has no members but its properties.
    pub(super) fn closed() -> Self {
        Self {
            others: Others::None,
            ..Self::default()
        }
    }

    /// Adds a property, or replaces the one of the same name.
    pub(super) fn add(&mut self, name: String, schema: Schema) {
        let place = self
            .properties
            .binary_search_by(|(known, _)| known.cmp(&name));
        match place {
            Ok(place) => {
                if let Some((_, known)) = self.properties.get_mut(place) {
                    *known = schema;
                }
            }
            Err(place) => self.properties.insert(place, (name, schema)),
        }
    }

    /// Keeps the properties whose schemas `fits` accepts.
    pub(super) fn keep(&mut self, mut fits: impl FnMut(&mut Schema) -> bool) {
        self.properties.retain_mut(|(_, schema)| fits(schema));
    }

    /// The properties, in alphabetical order.
    pub(super) fn properties(&self) -> &[(String, Schema)] {
        &self.properties
    }

    /// Whether there is a property of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let found = self
            .properties
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        found.is_ok()
    }
}

/// JSON, with the keywords in alphabetical order.
impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keywords = serializer.serialize_map(None)?;
        match &self.values {
            Values::AnyOf(branches) => {
                keywords.serialize_entry("anyOf", branches)?;
                self.add_description(&mut keywords)?;
            }
            Values::Object(members) => {
                keywords.serialize_entry("additionalProperties", &members.others)?;
                self.add_description(&mut keywords)?;
                if !members.properties.is_empty() {
                    keywords.serialize_entry("properties", &Properties(members))?;
                }
                if !members.required.is_empty() {
                    keywords.serialize_entry("required", &members.required)?;
                }
                keywords.serialize_entry("type", "object")?;
            }
            Values::Array(items) => {
                self.add_description(&mut keywords)?;
                keywords.serialize_entry("items", items)?;
                keywords.serialize_entry("type", "array")?;
            }
            Values::Text(text) => {
                self.add_description(&mut keywords)?;
                match text {
                    Text::Any => {}
                    Text::DateTime => keywords.serialize_entry("format", DATE_TIME)?,
                    Text::OneOf(choices) => keywords.serialize_entry("enum", choices)?,
                }
                keywords.serialize_entry("type", "string")?;
            }
            Values::Number(range) => {
                self.add_description(&mut keywords)?;
                if let Some(maximum) = &range.maximum {
                    keywords.serialize_entry("maximum", maximum)?;
                }
                if let Some(minimum) = &range.minimum {
                    keywords.serialize_entry("minimum", minimum)?;
                }
                let kind = if range.is_integer {
                    "integer"
                } else {
                    "number"
                };
                keywords.serialize_entry("type", kind)?;
            }
            Values::Boolean => {
                self.add_description(&mut keywords)?;
                keywords.serialize_entry("type", "boolean")?;
            }
        }
        keywords.end()
    }
}

impl Schema {
    fn add_description<M: SerializeMap>(&self, keywords: &mut M) -> Result<(), M::Error> {
        if self.description.is_empty() {
            return Ok(());
        }
        keywords.serialize_entry("description", &self.description)
    }
}

struct Properties<'m>(&'m Members);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let properties = self.0.properties.iter();
        serializer.collect_map(properties.map(|(name, schema)| (name, schema)))
    }
}

impl Serialize for Others {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // What makes schemas strict closes every object that does not say that it is open.
            Self::Any => serializer.serialize_bool(true),
            Self::None => serializer.serialize_bool(false),
            Self::Of(schema) => schema.serialize(serializer),
        }
    }
}

/// Whether a member of this name can be listed. Anthropic's API refuses others.
pub(super) fn can_be_listed(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=64).contains(&name.len()) && name.chars().all(is_allowed)
}
