//! What a schema says, gathered from its `$ref`s and the parts of its `allOf`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::document::{Document, Node, ObjectNode, Span};
use crate::media_type;
use crate::sorted;

/// How many schemas one may be made of.
const MOST_PARTS: usize = 64;
/// About how many bytes a part of a shape takes.
const PART_BYTES: usize = 32;
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
    /// What the description says of some of these values.
    pub(super) meanings: Vec<Meaning<'d>>,
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

/// What the description says of a value.
#[derive(Clone, Debug)]
pub(super) struct Meaning<'d> {
    pub(super) value: Cow<'d, str>,
    pub(super) text: Cow<'d, str>,
}

impl<'d> Shape<'d> {
    /// What `schema` says.
    pub(super) fn of(document: Document<'d>, schema: Node<'d>) -> Self {
        let mut shape = Self::default();
        shape.add(document, schema);
        shape
    }

    /// Adds what `schema` says, too.
    pub(super) fn add(&mut self, document: Document<'d>, schema: Node<'d>) {
        self.gather(document, schema, true);
    }

    /// Adds what `schema` says, and what it refers to. `is_whole`: it is not one of several parts.
    fn gather(&mut self, document: Document<'d>, schema: Node<'d>, is_whole: bool) {
        let span = document.span(schema);
        if self.gathered.contains(&span) || self.gathered.len() >= MOST_PARTS {
            return;
        }
        // What was gathered before is looked through once more.
        if !document.work.look(self.size()) {
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
        // A value fits one branch of each list. The first list is listed.
        for combinator in ["oneOf", "anyOf"] {
            if self.branches.is_empty() {
                self.add_branches(document, list(&members, combinator), is_whole);
            }
        }
    }

    /// Adds the branches of a combinator. If there is only one besides `null`, it is the schema
    /// itself.
    fn add_branches(&mut self, document: Document<'d>, given: Vec<Node<'d>>, is_whole: bool) {
        let count = given.len();
        let mut branches = given;
        branches.retain(|branch| !is_null(&branch.object()));
        self.is_nullable |= branches.len() < count;
        if let [only] = branches.as_slice() {
            self.gather(document, *only, is_whole);
        } else if let Some(choices) = Choices::of(&branches) {
            self.add_choices(choices);
        } else {
            self.branches = branches;
        }
    }

    fn add_choices(&mut self, given: Choices<'d>) {
        if self.choices.is_none() {
            self.choices = Some(given.values);
        }
        self.meanings.extend(given.meanings);
        if self.kinds.is_empty() {
            self.kinds = given.kinds;
        }
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
        let choices = self.choices.as_ref().map_or(0, Vec::len);
        let members = self.properties.len() + self.required.len();
        let values = choices + self.meanings.len() + self.branches.len();
        (members + values) * PART_BYTES
    }

    fn add_texts(&mut self, members: &ObjectNode<'d>) {
        if self.description.is_none() {
            self.description = members.text("description");
        }
        if self.format.is_none() {
            self.format = members.text("format");
        }
        self.is_binary |= is_binary(members);
        if self.default.is_none() {
            self.default = members.get("default");
        }
    }

    fn add_types(&mut self, members: &ObjectNode<'d>) {
        let is_true = |name| members.read(name) == Some(true);
        self.is_nullable |= is_true("nullable") || is_true("x-nullable");
        self.is_read_only |= is_true("readOnly");
        let names = types(members);
        self.is_nullable |= names.iter().any(|name| name == "null");
        if self.kinds.is_empty() {
            self.kinds = known_kinds(&names);
        }
    }

    fn add_members(&mut self, members: &ObjectNode<'d>) {
        if let Some(properties) = members.get("properties") {
            self.add_properties(&properties.object());
        }
        // In a parameter of Swagger 2.0 it is no list.
        for name in list(members, "required") {
            self.required.extend(name.text());
        }
        if self.additional.is_none() {
            self.additional = members.get("additionalProperties");
        }
        if self.items.is_none() {
            self.items = members.get("items");
        }
    }

    fn add_properties(&mut self, properties: &ObjectNode<'d>) {
        let known = self.properties.iter().enumerate();
        let mut places = sorted::map(known.map(|(place, (name, _))| (name.clone(), place)));
        for (name, property) in properties.members() {
            let place = places.get(name);
            if let Some((_, known)) = place.and_then(|place| self.properties.get_mut(*place)) {
                // Of a base and what is derived from it, the latter says more.
                *known = property;
                continue;
            }
            places.insert(name.clone(), self.properties.len());
            self.properties.push((name.clone(), property));
        }
    }

    fn add_values(&mut self, members: &ObjectNode<'d>) {
        if self.choices.is_none() {
            self.choices = values(members);
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
            let mut kinds = self.kinds.clone();
            // ASP.NET Core gives every number the type string, too, since it also reads numbers in
            // strings.
            if self.is_number_by_format() {
                kinds.retain(|kind| *kind != "string");
            }
            return kinds;
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

    /// Whether its types have one for numbers, and its format is that of a number.
    fn is_number_by_format(&self) -> bool {
        let is_number = |kind: &&str| matches!(*kind, "integer" | "number");
        let format = self.format.as_deref().unwrap_or_default();
        let formats = ["int", "uint", "float", "double", "decimal"];
        self.kinds.iter().any(is_number) && formats.iter().any(|known| format.starts_with(known))
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

/// Branches of one value each: an `enum` whose values have texts of their own (OpenAPI 3.2,
/// "Annotated Enumerations").
struct Choices<'d> {
    values: Vec<Node<'d>>,
    meanings: Vec<Meaning<'d>>,
    kinds: Vec<&'static str>,
}

impl<'d> Choices<'d> {
    /// `None` where `branches` are not such branches, all of one type.
    fn of(branches: &[Node<'d>]) -> Option<Self> {
        let first = branches.first()?.object();
        let names = types(&first);
        let mut choices = Self {
            values: Vec::new(),
            meanings: Vec::new(),
            kinds: known_kinds(&names),
        };
        for branch in branches {
            let members = branch.object();
            let values = values(&members)?;
            let [only] = values.as_slice() else {
                return None;
            };
            if types(&members) != names {
                return None;
            }
            choices.values.push(*only);
            let value = only.text().unwrap_or_else(|| only.json().into());
            let description = members.text("description");
            let text = description.or_else(|| members.text("title"));
            if let Some(text) = text.filter(|text| !text.eq_ignore_ascii_case(&value)) {
                choices.meanings.push(Meaning { value, text });
            }
        }
        Some(choices)
    }
}

/// The values of `const` or `enum`. An empty `enum` would allow nothing: it is taken for none.
pub(super) fn values<'d>(members: &ObjectNode<'d>) -> Option<Vec<Node<'d>>> {
    match members.get("const") {
        Some(only) => Some(vec![only]),
        None => Some(list(members, "enum")).filter(|values| !values.is_empty()),
    }
}

/// Whether a schema with these members takes nothing but `null`.
fn is_null(members: &ObjectNode<'_>) -> bool {
    // OpenAPI 3.0 has no such type.
    let is_nullable_alone =
        members.members().count() == 1 && members.read("nullable") == Some(true);
    let has_only_null = |values: Vec<Node<'_>>| values.iter().all(|value| value.json() == "null");
    members.text("type").as_deref() == Some("null")
        || is_nullable_alone
        || values(members).is_some_and(has_only_null)
}

/// Whether a schema with these members is bytes as they are: `format` says so in OpenAPI 3.0, and a
/// media type without an encoding in 3.1 (§4.8.15).
pub(super) fn is_binary(members: &ObjectNode<'_>) -> bool {
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

/// The names of `type`: a list of them since OpenAPI 3.1.
fn types<'d>(members: &ObjectNode<'d>) -> Vec<Cow<'d, str>> {
    let Some(names) = members.get("type") else {
        return Vec::new();
    };
    match names.text() {
        Some(name) => vec![name],
        None => names.items().into_iter().filter_map(Node::text).collect(),
    }
}

fn known_kinds(names: &[Cow<'_, str>]) -> Vec<&'static str> {
    let is_named = |kind: &&str| names.iter().any(|name| name == kind);
    KINDS.into_iter().filter(is_named).collect()
}

fn list<'d>(members: &ObjectNode<'d>, name: &str) -> Vec<Node<'d>> {
    let list = members.get(name).map(Node::items);
    list.unwrap_or_default()
}
