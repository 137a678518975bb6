//! The text of a description, and an index of it. No tree is built: a description may have
//! megabytes, so the part of an operation is only read when it is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::Deserialize;
use serde_json::value::RawValue;

use super::split;
use super::work::Work;
use crate::json_object::Object;
use crate::json_pointer::Pointer;
use crate::sorted;

/// How many `$ref`s may lead from one to the next.
const MOST_STEPS: usize = 16;
/// What other parts of a description refer to: indexed by name. (`components` holds more of them.)
const INDEXED: [&str; 5] = [
    "paths",
    "x-ms-paths",
    "definitions",
    "parameters",
    "responses",
];

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A piece of JSON within the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'d> {
    json: &'d str,
    work: &'d Work,
}

impl<'d> Node<'d> {
    /// Its JSON.
    pub(crate) fn json(self) -> &'d str {
        self.json
    }

    /// Its members; none if it is not an object.
    pub(crate) fn object(self) -> ObjectNode<'d> {
        let members = self.looked_at().and_then(split::members);
        ObjectNode {
            node: self,
            members: members.unwrap_or_default(),
        }
    }

    /// Its items; none if it is not an array.
    pub(crate) fn items(self) -> Vec<Node<'d>> {
        let items = self.looked_at().and_then(split::items);
        let items = items.unwrap_or_default().into_iter();
        items.map(|json| Self { json, ..self }).collect()
    }

    /// The member or the item of that name.
    pub(crate) fn get(self, name: &str) -> Option<Node<'d>> {
        if self.json.starts_with('[') {
            let index: usize = name.parse().ok()?;
            return self.items().get(index).copied();
        }
        self.object().get(name)
    }

    /// Its text, if it is a string. Never inlined into its many callers, to stay small.
    #[inline(never)]
    pub(crate) fn text(self) -> Option<Cow<'d, str>> {
        self.looked_at().and_then(split::text)
    }

    /// Its value, if it is a `T`.
    pub(crate) fn read<T: Deserialize<'d>>(self) -> Option<T> {
        serde_json::from_str(self.looked_at()?).ok()
    }

    /// Its JSON, if there is work left to look at it.
    fn looked_at(self) -> Option<&'d str> {
        self.work.look(self.json.len()).then_some(self.json)
    }
}

/// An object within the text.
#[derive(Debug)]
pub(crate) struct ObjectNode<'d> {
    /// The object itself.
    pub(crate) node: Node<'d>,
    members: Vec<(Cow<'d, str>, &'d str)>,
}

impl<'d> ObjectNode<'d> {
    /// Its members, in the order in which they stand.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Cow<'d, str>, Node<'d>)> {
        let members = self.members.iter();
        members.map(|(name, json)| (name, self.piece(json)))
    }

    /// The member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Node<'d>> {
        let mut members = self.members.iter();
        let member = members.find(|(known, _)| known == name);
        member.map(|(_, json)| self.piece(json))
    }

    /// The text of the member of that name, if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'d, str>> {
        self.get(name)?.text()
    }

    /// The value of the member of that name, if it is a `T`.
    pub(crate) fn read<T: Deserialize<'d>>(&self, name: &str) -> Option<T> {
        self.get(name)?.read()
    }

    fn piece(&self, json: &'d str) -> Node<'d> {
        Node { json, ..self.node }
    }
}

/// Where a piece stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    start: usize,
    length: usize,
}

/// Which rules a description follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Swagger 2.0
    Swagger2,
    /// OpenAPI 3.0, 3.1 or 3.2
    OpenApi3,
}

/// A description that was read.
pub(crate) struct Source {
    text: String,
    version: Version,
    /// The members of the description itself.
    root: BTreeMap<String, Span>,
    /// The members of what is referred to, by the path to it, such as `components/schemas`.
    index: BTreeMap<String, BTreeMap<String, Span>>,
}

impl Source {
    /// Reads the contents of a file.
    ///
    /// # Errors
    /// Why it is no description that can be used, and what to do.
    pub(crate) fn parse(mut contents: Vec<u8>) -> Result<Self, String> {
        // RFC 8259 §8.1 lets a parser skip a byte-order mark.
        if contents.starts_with(BYTE_ORDER_MARK) {
            contents.drain(..BYTE_ORDER_MARK.len());
        }
        let text = String::from_utf8(contents)
            .map_err(|_| "it is not UTF-8 text: save it as UTF-8".to_owned())?;
        if !text.trim_start().starts_with('{') {
            return Err(no_json(&text));
        }
        let members: Object<'_> = serde_json::from_str(&text)
            .map_err(|error| format!("it is not valid JSON ({error}): export it again"))?;
        let version = version(&members)?;
        let mut index = BTreeMap::new();
        for name in INDEXED {
            if let Some(section) = members.get(name) {
                index.insert(name.to_owned(), spans(&text, section.get()));
            }
        }
        let components = members.get("components").map(RawValue::get);
        let components = components.and_then(split::members);
        for (name, section) in components.unwrap_or_default() {
            index.insert(format!("components/{name}"), spans(&text, section));
        }
        let root = spans(&text, &text);
        Ok(Self {
            text,
            version,
            root,
            index,
        })
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The description, to be read with `work`.
    pub(crate) fn with<'d>(&'d self, work: &'d Work) -> Document<'d> {
        Document { source: self, work }
    }
}

/// A description that is read, and the work that is left for that.
#[derive(Clone, Copy)]
pub(crate) struct Document<'d> {
    source: &'d Source,
    pub(crate) work: &'d Work,
}

impl<'d> Document<'d> {
    /// Which rules it follows.
    pub(crate) fn version(self) -> Version {
        self.source.version
    }

    /// An object without members.
    pub(crate) fn empty(self) -> Node<'d> {
        self.piece("{}")
    }

    /// The piece at `span`.
    pub(crate) fn node(self, span: Span) -> Node<'d> {
        let end = span.start + span.length;
        // Every span is of this text.
        self.piece(self.source.text.get(span.start..end).unwrap_or("null"))
    }

    fn piece(self, json: &'d str) -> Node<'d> {
        Node {
            json,
            work: self.work,
        }
    }

    /// Where `node`, a piece of this text, stands.
    pub(crate) fn span(self, node: Node<'_>) -> Span {
        span_in(&self.source.text, node.json)
    }

    /// The member `name` of the description itself.
    pub(crate) fn root(self, name: &str) -> Option<Node<'d>> {
        self.source.root.get(name).map(|span| self.node(*span))
    }

    /// The members of `section`, such as `paths` or `components/schemas`, in alphabetical order.
    pub(crate) fn section(self, section: &str) -> impl Iterator<Item = (&'d str, Node<'d>)> {
        let members = self.source.index.get(section).into_iter().flatten();
        members.map(move |(name, span)| (name.as_str(), self.node(*span)))
    }

    /// The paths, each with its path item. Azure's descriptions keep those with a query in
    /// `x-ms-paths` (Azure's extensions of Swagger 2.0).
    pub(crate) fn paths(self) -> impl Iterator<Item = (&'d str, Node<'d>)> {
        let known = self.source.index.get("paths");
        let is_new = move |path: &str| known.is_none_or(|known| !known.contains_key(path));
        let with_query = self.section("x-ms-paths");
        let with_query = with_query.filter(move |(path, _)| is_new(path));
        self.section("paths").chain(with_query)
    }

    /// The object `node`, or what its `$ref` leads to.
    ///
    /// # Errors
    /// The reference cannot be followed, and why.
    pub(crate) fn resolve(self, node: Node<'d>) -> Result<ObjectNode<'d>, String> {
        let mut node = node;
        for _ in 0..MOST_STEPS {
            let object = node.object();
            let Some(reference) = object.text("$ref") else {
                return Ok(object);
            };
            node = self.target(&reference)?;
        }
        Err("its $refs lead in a circle".to_owned())
    }

    /// What `reference`, the value of a `$ref`, leads to.
    ///
    /// # Errors
    /// It leads to another file or nowhere.
    pub(crate) fn target(self, reference: &str) -> Result<Node<'d>, String> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(format!(
                "its $ref {reference:?} leads to another file, which is not read: bundle the files \
                 into one"
            ));
        };
        self.at(fragment)
            .ok_or_else(|| format!("its $ref {reference:?} leads nowhere"))
    }

    /// What a URI fragment with a JSON Pointer points at (RFC 6901 §6).
    fn at(self, fragment: &str) -> Option<Node<'d>> {
        let index = &self.source.index;
        let pointer = percent_decode_str(fragment).decode_utf8().ok()?;
        let pointer = Pointer::parse(pointer.into_owned()).ok()?;
        let (node, rest) = match pointer.tokens() {
            [components, section, name, rest @ ..] if components == "components" => {
                let section = index.get(&format!("components/{section}"))?;
                (self.node(*section.get(name)?), rest)
            }
            [section, name, rest @ ..] if index.contains_key(section) => {
                let section = index.get(section)?;
                (self.node(*section.get(name)?), rest)
            }
            [name, rest @ ..] => (self.root(name)?, rest),
            [] => return None,
        };
        rest.iter().try_fold(node, |node, token| node.get(token))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("version", &self.version)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// What to do with a file that does not hold a JSON object.
fn no_json(text: &str) -> String {
    let is_yaml = text.lines().any(|line| {
        line.starts_with("openapi:") || line.starts_with("swagger:") || line.starts_with("%YAML")
    });
    if is_yaml {
        "it is YAML, and JSON is read: convert it, such as with \
         `yq -o=json openapi.yaml > openapi.json`"
            .to_owned()
    } else {
        "it is not JSON: name the OpenAPI or Swagger description of the API".to_owned()
    }
}

fn version(members: &Object<'_>) -> Result<Version, String> {
    let version = |name| members.text(name);
    match (version("swagger"), version("openapi")) {
        (Some(version), None) if version == "2.0" => Ok(Version::Swagger2),
        (None, Some(version)) if is_known(&version) => Ok(Version::OpenApi3),
        (None, None) => Err(
            "it says neither openapi nor swagger: name the OpenAPI description of the API"
                .to_owned(),
        ),
        (Some(version), _) => Err(format!(
            "it is of Swagger {version}: export it as 2.0, or as OpenAPI 3.0, 3.1 or 3.2"
        )),
        (None, Some(version)) => Err(format!(
            "it is of OpenAPI {version}: export it as 3.0, 3.1 or 3.2"
        )),
    }
}

fn is_known(version: &str) -> bool {
    ["3.0", "3.1", "3.2"].iter().any(|known| {
        let patch = version.strip_prefix(known);
        patch.is_some_and(|patch| patch.is_empty() || patch.starts_with('.'))
    })
}

/// Where the members of `object` stand in `text`, of which it is a piece.
fn spans(text: &str, object: &str) -> BTreeMap<String, Span> {
    let members = split::members(object).unwrap_or_default().into_iter();
    sorted::map(members.map(|(name, value)| (name.into_owned(), span_in(text, value))))
}

fn span_in(text: &str, piece: &str) -> Span {
    let start = piece.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    Span {
        start,
        length: piece.len(),
    }
}
