//! What a schema says, gathered from its `$ref`s and the parts of its `allOf`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::document::{Document, Node, Span};
use crate::json_object::Object;
use crate::media_type;
use crate::sorted;

/// How many schemas one may be made of.
const MOST_PARTS: usize = 64;
const KINDS: [&str; 6] = ["string", "integer", "number", "boolean", "array", "object"];

/// A schema without `$ref` and `allOf` at its top.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape<'d> {
    pub(super) description: Option<Cow<'d, str>>,
    /// The name of the component that it is, for people.
    pub(super) name: Option<String>,
    /// The types that are allowed; none where nothing is said.
    pub(super) kinds: Vec<&'static str>,
    pub(super) is_nullable: bool,
    pub(super) is_read_only: bool,
    pub(super) properties: Vec<(Cow<'d, str>, Node<'d>)>,
    pub(super) required: BTreeSet<Cow<'d, str>>,
    pub(super) additional: Option<Node<'d>>,
    pub(super) items: Option<Node<'d>>,
    /// The values of `enum` or `const`.
    pub(super) choices: Option<Vec<Node<'d>>>,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) format: Option<Cow<'d, str>>,
    /// Whether it is bytes that are not written as text (OpenAPI 3.1 §4.8.15).
    pub(super) is_binary: bool,
    pub(super) default: Option<Node<'d>>,
    /// The branches of `oneOf` and `anyOf`.
    pub(super) branches: Vec<Node<'d>>,
    /// What it is, not counting the parts of an `allOf`: the schema, and where its `$ref` leads.
    pub(super) through: Vec<Span>,
    /// Every schema that it was gathered from.
    pub(super) gathered: Vec<Span>,
    /// Why a part of it is not known.
    pub(super) gap: Option<String>,
}

impl<'d> Shape<'d> {
    /// What `schema` says.
    pub(super) fn of(document: &'d Document, schema: Node<'d>) -> Self {
        let mut shape = Self::default();
        shape.add(document, schema);
        shape
    }

    /// Adds what `schema` says besides.
    pub(super) fn add(&mut self, document: &'d Document, schema: Node<'d>) {
        self.gather(document, schema, true);
    }

    /// `is_whole`: `schema` is not one of several parts.
    fn gather(&mut self, document: &'d Document, schema: Node<'d>, is_whole: bool) {
        let span = document.span(schema);
        if self.gathered.contains(&span) || self.gathered.len() >= MOST_PARTS {
            return;
        }
        self.gathered.push(span);
        if is_whole {
            self.through.push(span);
        }
        let members = schema.object();
        self.add_texts(&members);
        if let Some(reference) = members.text("$ref") {
            match document.target(&reference) {
                Ok(target) => {
                    if self.name.is_none() {
                        self.name = reference.rsplit('/').next().map(str::to_owned);
                    }
                    self.gather(document, target, is_whole);
                }
                Err(gap) => self.gap = Some(gap),
            }
        }
        self.add_types(&members);
        self.add_members(&members);
        self.add_values(&members);
        let parts = list(&members, "allOf");
        let is_only = parts.len() == 1;
        for part in parts {
            self.gather(document, part, is_whole && is_only);
        }
        // Of several, the first: a value fits one branch of each.
        for combinator in ["oneOf", "anyOf"] {
            if self.branches.is_empty() {
                self.branches = list(&members, combinator);
            }
        }
    }

    fn add_texts(&mut self, members: &Object<'d>) {
        if self.description.is_none() {
            self.description = members.text("description");
        }
        if self.format.is_none() {
            self.format = members.text("format");
        }
        self.is_binary |= is_binary(members);
        if self.default.is_none() {
            self.default = members.get("default").map(Node::from);
        }
    }

    fn add_types(&mut self, members: &Object<'d>) {
        let is_true = |name| members.read(name) == Some(true);
        self.is_nullable |= is_true("nullable") || is_true("x-nullable");
        self.is_read_only |= is_true("readOnly");
        // A list of them since OpenAPI 3.1.
        let mut names: Vec<String> = members.read("type").unwrap_or_default();
        names.extend(members.read::<String>("type"));
        self.is_nullable |= names.iter().any(|name| name == "null");
        let kinds = KINDS
            .into_iter()
            .filter(|kind| names.iter().any(|name| name == kind));
        let kinds: Vec<&'static str> = kinds.collect();
        if self.kinds.is_empty() {
            self.kinds = kinds;
        }
    }

    fn add_members(&mut self, members: &Object<'d>) {
        let properties = members
            .get("properties")
            .map(|known| Node::from(known).object());
        let known = self.properties.iter().enumerate();
        let mut places = sorted::map(known.map(|(place, (name, _))| (name.clone(), place)));
        for (name, property) in properties.unwrap_or_default().0 {
            let place = places.get(&name);
            if let Some((_, known)) = place.and_then(|place| self.properties.get_mut(*place)) {
                // Of a base and what is derived from it, the latter says more.
                *known = property.into();
                continue;
            }
            places.insert(name.clone(), self.properties.len());
            self.properties.push((name, property.into()));
        }
        // Of a parameter of Swagger 2.0, it is no list.
        for name in list(members, "required") {
            self.required.extend(name.text());
        }
        if self.additional.is_none() {
            self.additional = members.get("additionalProperties").map(Node::from);
        }
        if self.items.is_none() {
            self.items = members.get("items").map(Node::from);
        }
    }

    fn add_values(&mut self, members: &Object<'d>) {
        if self.choices.is_none() {
            self.choices = match members.get("const") {
                Some(only) => Some(vec![only.into()]),
                None => members.get("enum").map(|list| Node::from(list).items()),
            };
        }
        let is_exclusive = |name| members.read(name) == Some(true);
        if self.minimum.is_none() && !is_exclusive("exclusiveMinimum") {
            self.minimum = members.read("minimum");
        }
        if self.maximum.is_none() && !is_exclusive("exclusiveMaximum") {
            self.maximum = members.read("maximum");
        }
    }

    /// The types that a value may have: those that are named, else what the rest tells.
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        if !self.kinds.is_empty() {
            return self.kinds.clone();
        }
        if !self.properties.is_empty() || self.additional.is_some() {
            return vec!["object"];
        }
        if self.items.is_some() {
            return vec!["array"];
        }
        if let Some(choices) = &self.choices {
            let is_text = |choice: &Node<'_>| choice.json().starts_with('"');
            let texts = choices.iter().filter(|choice| is_text(choice)).count();
            if texts == choices.len() {
                return vec!["string"];
            }
        }
        if self.minimum.is_some() || self.maximum.is_some() {
            return vec!["number"];
        }
        if self.format.is_some() {
            return vec!["string"];
        }
        Vec::new()
    }

    /// Whether it says something of the members of an object.
    pub(super) fn has_members(&self) -> bool {
        !self.properties.is_empty()
    }

    /// The only value that it allows.
    pub(super) fn constant(&self) -> Option<Node<'d>> {
        match self.choices.as_deref() {
            Some([only]) => Some(*only),
            _ => None,
        }
    }

    /// Whether it is the bytes of a file, as a field of a form.
    pub(super) fn is_file(&self) -> bool {
        self.is_binary
    }
}

/// Whether a schema with these members is bytes as they are: `format` says so in OpenAPI 3.0, and a
/// media type without an encoding in 3.1 (§4.8.15).
pub(super) fn is_binary(members: &Object<'_>) -> bool {
    if members.text("format").as_deref() == Some("binary") {
        return true;
    }
    let Some(media_type) = members.text("contentMediaType") else {
        return false;
    };
    let essence = media_type::essence(&media_type);
    let is_text = media_type::is_called_json(&essence) || media_type::is_text(&essence);
    !is_text && members.get("contentEncoding").is_none()
}

fn list<'d>(members: &Object<'d>, name: &str) -> Vec<Node<'d>> {
    let list = members.get(name).map(|list| Node::from(list).items());
    list.unwrap_or_default()
}
