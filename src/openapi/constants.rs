//! Required members of a body that have only one possible value. They are not listed as arguments,
//! but always sent.

use serde_json::Value;
use serde_json::value::RawValue;

use super::document::Document;
use super::shape::Shape;
use crate::json_object::Object;

/// The greatest depth of an object that consists only of constants.
const MOST_DEPTH: usize = 8;
/// How many schemas it is made of at most: some that hold others several times would be many.
const MOST_SCHEMAS: usize = 40;
/// How deep constants are added to what is given. JSON in a string has no bound of its own.
const MOST_GIVEN_DEPTH: usize = 128;

/// Which schema of [`Constants`] is meant.
pub(super) type Index = usize;

/// What is added to a value, schema by schema, because a schema may contain itself.
#[derive(Debug, Default)]
pub(crate) struct Constants(Vec<Additions>);

/// What is added to the values of one schema.
#[derive(Debug, Default)]
pub(super) struct Additions {
    /// The constants of an object: name and JSON.
    pub(super) members: Vec<(String, String)>,
    /// The members that may lack something themselves.
    pub(super) within: Vec<Within>,
    /// The items of an array.
    pub(super) items: Option<Index>,
}

/// A member that may lack something itself.
#[derive(Debug)]
pub(super) struct Within {
    pub(super) name: String,
    pub(super) schema: Index,
    /// Whether it is required and needs nothing but constants.
    pub(super) is_made: bool,
}

impl Constants {
    /// A place for what is added to the values of one more schema.
    pub(super) fn reserve(&mut self) -> Index {
        self.0.push(Additions::default());
        self.0.len() - 1
    }

    pub(super) fn set(&mut self, index: Index, additions: Additions) {
        if let Some(place) = self.0.get_mut(index) {
            *place = additions;
        }
    }

    /// Whether something is added to an object of the schema at `index`.
    pub(super) fn has_members(&self, index: Index) -> bool {
        let additions = self.0.get(index);
        additions.is_some_and(|additions| !additions.members.is_empty())
    }

    /// Without constants, nothing is ever added.
    pub(super) fn unless_none(self) -> Option<Self> {
        let has_members = |additions: &Additions| !additions.members.is_empty();
        let has_some = self.0.iter().any(has_members);
        has_some.then_some(self)
    }

    /// `json` with the constants that it lacks.
    pub(crate) fn added_to(&self, json: &str) -> String {
        // The first schema is that of the whole body.
        self.added(json, 0, MOST_GIVEN_DEPTH)
    }

    /// A value that has another form than the schema, or is deeper than `depth`, stays unchanged.
    fn added(&self, json: &str, index: Index, depth: usize) -> String {
        let additions = self.0.get(index).filter(|_| depth > 0);
        let Some(additions) = additions else {
            return json.to_owned();
        };
        let depth = depth.saturating_sub(1);
        if let Some(schema) = additions.items
            && json.starts_with('[')
        {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            let items = items
                .into_iter()
                .map(|item| self.added(item.get(), schema, depth));
            return format!("[{}]", items.collect::<Vec<_>>().join(","));
        }
        if !json.starts_with('{') {
            return json.to_owned();
        }
        let given: Object<'_> = serde_json::from_str(json).unwrap_or_default();
        let mut members = Vec::new();
        for (name, value) in &given.0 {
            let within = additions.within.iter().find(|within| within.name == **name);
            let value = match within {
                Some(within) => self.added(value.get(), within.schema, depth),
                None => value.get().to_owned(),
            };
            members.push(member(name, &value));
        }
        let is_missing = |name: &str| given.get(name).is_none();
        for (name, value) in &additions.members {
            if is_missing(name) {
                members.push(member(name, value));
            }
        }
        for within in &additions.within {
            if within.is_made && is_missing(&within.name) {
                let made = self.added("{}", within.schema, depth);
                members.push(member(&within.name, &made));
            }
        }
        format!("{{{}}}", members.join(","))
    }
}

/// The only value of `shape`, as JSON: a constant, or an object whose members are all required
/// constants.
pub(super) fn only_value(document: Document<'_>, shape: &Shape<'_>) -> Option<String> {
    let mut left = MOST_SCHEMAS;
    value_within(document, shape, MOST_DEPTH, &mut left)
}

/// As [`only_value`], with so many schemas `left` to look at.
fn value_within(
    document: Document<'_>,
    shape: &Shape<'_>,
    depth: usize,
    left: &mut usize,
) -> Option<String> {
    *left = left.checked_sub(1)?;
    if let Some(only) = shape.constant() {
        return Some(only.json().to_owned());
    }
    let is_closed = shape.has_members() && shape.branches.is_empty();
    if !is_closed || depth == 0 {
        return None;
    }
    let mut members = Vec::new();
    for (name, property) in &shape.properties {
        if !shape.required.contains(name) {
            return None;
        }
        let inner = Shape::of(document, *property);
        let value = value_within(document, &inner, depth - 1, left)?;
        members.push(member(name, &value));
    }
    Some(format!("{{{}}}", members.join(",")))
}

fn member(name: &str, value: &str) -> String {
    format!("{}:{value}", Value::from(name))
}
