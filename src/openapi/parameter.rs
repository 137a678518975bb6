//! One parameter: where it is sent, and how its value is written there.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::document::{Document, Node, ObjectNode, Span, Version};
use super::shape::values;
use super::text::tidy;
use crate::api::fixed_headers::FixedHeaders;
use crate::api::headers::{AllowedHeaders, is_never_allowed};
use crate::media_type;
use crate::sorted;

/// The longest description of a parameter.
const MOST_DESCRIPTION_BYTES: usize = 300;
/// More parameters of one operation are not described in what a model can read.
const MOST_PARAMETERS: usize = 1000;
/// The longest name of one, and the longest constant: both become part of a URL or a header.
const MOST_NAME_BYTES: usize = 1000;
const MOST_CONSTANT_BYTES: usize = 8192;
/// OpenAPI 3.1 §4.8.12.2: parameters of the first three names are to be ignored. Every request has
/// the others.
const IGNORED_HEADERS: [&str; 5] = [
    "accept",
    "content-type",
    "authorization",
    "accept-encoding",
    "user-agent",
];

/// Where a parameter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Within the path.
    Path,
    /// In the query.
    Query,
    /// As a header.
    Header,
}

impl Place {
    /// Its name in a description.
    pub fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// How the value of a parameter is written (OpenAPI 3.1 §4.8.12.3, "Style Values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `a,b` in a path or a header.
    Simple,
    /// `.a,b` in a path.
    Label,
    /// `;name=a,b` in a path.
    Matrix,
    /// `name=a,b` in the query.
    Form,
    /// `name=a b` in the query, with this character between the items.
    Delimited(char),
    /// `name[member]=a` in the query.
    DeepObject,
    /// JSON, whatever the value is.
    Json,
}

/// What an operation takes besides its body.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in the description, which is sent.
    pub name: String,
    /// The name of the argument for it.
    pub argument: String,
    /// Where it is sent.
    pub place: Place,
    /// Whether the API demands it.
    pub is_required: bool,
    /// Empty where there is none.
    pub description: String,
    pub(crate) style: Style,
    /// Whether every item and member is written as a value of its own.
    pub(crate) explode: bool,
    /// Whether reserved characters (RFC 3986 §2.2) are sent as they are.
    pub(crate) allow_reserved: bool,
    /// The schema of its value; the parameter itself, which is one in Swagger 2.0.
    pub(crate) schema: Option<Span>,
    /// The only value that the API takes, as JSON. It is always sent, and no argument.
    pub(crate) constant: Option<String>,
}

impl Parameter {
    /// A parameter of the path that nobody describes.
    pub(super) fn of_path(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            argument: name.to_owned(),
            place: Place::Path,
            is_required: true,
            description: String::new(),
            style: Style::Simple,
            explode: false,
            allow_reserved: false,
            schema: None,
            constant: None,
        }
    }
}

/// The parameters of an operation.
pub(super) struct GivenParameters<'d>(Vec<GivenParameter<'d>>);

struct GivenParameter<'d> {
    name: Cow<'d, str>,
    place: Cow<'d, str>,
    members: ObjectNode<'d>,
}

impl<'d> GivenParameters<'d> {
    /// Those of `owners`: of a path, and of an operation. One of the same name and place takes the
    /// place of the one before (OpenAPI 3.1 §4.8.10.1).
    ///
    /// # Errors
    /// A `$ref` cannot be followed, or there are too many.
    pub(super) fn read(
        document: Document<'d>,
        owners: [&ObjectNode<'d>; 2],
    ) -> Result<Self, String> {
        let mut all = Vec::new();
        for owner in owners {
            let list = owner.get("parameters").unwrap_or(document.empty());
            for node in document.resolve(list)?.node.items() {
                let members = document.resolve(node)?;
                all.push(GivenParameter {
                    name: members.text("name").unwrap_or_default(),
                    place: members.text("in").unwrap_or_default(),
                    members,
                });
                if all.len() > MOST_PARAMETERS {
                    return Err(format!("it has more than {MOST_PARAMETERS} parameters"));
                }
            }
        }
        let mut known = BTreeSet::new();
        // From the end, since of two the later one stays.
        all.reverse();
        all.retain(|given| known.insert((given.name.clone(), given.place.clone())));
        all.reverse();
        Ok(Self(all))
    }

    /// Those that are `in` this place, which are the body in Swagger 2.0.
    pub(super) fn of(&self, place: &str) -> impl Iterator<Item = &ObjectNode<'d>> {
        let of_place = self.0.iter().filter(move |given| given.place == place);
        of_place.map(|given| &given.members)
    }

    /// Those that are no part of a body.
    pub(super) fn besides_the_body(&self) -> impl Iterator<Item = &ObjectNode<'d>> {
        let given = self.0.iter();
        let others = given.filter(|given| !matches!(given.place.as_ref(), "body" | "formData"));
        others.map(|given| &given.members)
    }
}

/// What decides which parameters become arguments.
pub(super) struct Rules<'a> {
    pub(super) headers: &'a AllowedHeaders,
    /// What every call has, which no caller sets.
    pub(super) fixed_headers: Option<&'a FixedHeaders>,
    /// The API keys of the description's `securitySchemes`. Names of headers are in lower case.
    pub(super) credentials: BTreeSet<(Place, String)>,
}

/// How a parameter is treated.
enum Rule {
    /// The caller gives it.
    Argument,
    /// It carries a credential, or the server sets it.
    Withheld,
    /// A header that a setting could allow.
    NotAllowed,
}

impl Rules<'_> {
    fn rule(&self, place: Place, name: &str) -> Rule {
        let is_header = place == Place::Header;
        let known = if is_header {
            name.to_ascii_lowercase()
        } else {
            name.to_owned()
        };
        let is_ours =
            is_header && (IGNORED_HEADERS.contains(&known.as_str()) || is_never_allowed(&known));
        let is_fixed = is_header && self.fixed_headers.is_some_and(|fixed| fixed.has(&known));
        if is_ours || is_fixed || self.credentials.contains(&(place, known.clone())) {
            Rule::Withheld
        } else if is_header && !self.headers.admits(&known) {
            Rule::NotAllowed
        } else {
            Rule::Argument
        }
    }
}

/// The names of the API keys that the description's security schemes name.
pub(super) fn credentials(document: Document<'_>) -> BTreeSet<(Place, String)> {
    let schemes: Vec<Node<'_>> = match document.version() {
        Version::OpenApi3 => document
            .section("components/securitySchemes")
            .map(|(_, scheme)| scheme)
            .collect(),
        Version::Swagger2 => {
            let schemes = document.root("securityDefinitions");
            let schemes = schemes.unwrap_or(document.empty()).object();
            schemes.members().map(|(_, scheme)| scheme).collect()
        }
    };
    let names = schemes.into_iter().filter_map(|scheme| {
        let scheme = document.resolve(scheme).ok()?;
        let name = scheme.text("name")?;
        match scheme.text("in")?.as_ref() {
            "header" => Some((Place::Header, name.to_ascii_lowercase())),
            "query" => Some((Place::Query, name.into_owned())),
            _ => None,
        }
    });
    sorted::set(names)
}

/// Reads a parameter that is not a body. `None` where it is nothing that a caller gives.
///
/// # Errors
/// It cannot be sent, and so the operation cannot be called.
pub(super) fn read(
    document: Document<'_>,
    rules: &Rules<'_>,
    members: &ObjectNode<'_>,
) -> Result<Option<Parameter>, String> {
    let name = members.text("name").unwrap_or_default().into_owned();
    let place = match members.text("in").unwrap_or_default().as_ref() {
        "path" => Place::Path,
        "query" => Place::Query,
        "header" => Place::Header,
        // Cookies are credentials, or the API's own.
        "cookie" => return Ok(None),
        other => {
            return Err(format!(
                "its parameter {name:?} is in {other:?}, which cannot be sent"
            ));
        }
    };
    if name.len() > MOST_NAME_BYTES {
        return Err(format!(
            "the name of one of its parameters has more than {MOST_NAME_BYTES} bytes"
        ));
    }
    let is_required = place == Place::Path || members.read("required") == Some(true);
    match rules.rule(place, &name) {
        Rule::Argument => {}
        Rule::NotAllowed if is_required => {
            return Err(format!(
                "it needs the header {name:?}: add it to ALLOWED_REQUEST_HEADERS or \
                 BACKEND_HEADERS_FILE"
            ));
        }
        Rule::Withheld | Rule::NotAllowed => return Ok(None),
    }
    let content = members.get("content").map(Node::object);
    let (style, explode, schema) = if let Some(content) = content {
        (
            Style::Json,
            false,
            Some(json_schema(document, &name, &content)?),
        )
    } else if document.version() == Version::Swagger2 {
        let format = members.text("collectionFormat").unwrap_or_default();
        let (style, explode) = style_of_format(&name, place, &format)?;
        (style, explode, Some(members.node))
    } else {
        let given = members.text("style").unwrap_or_default();
        let (style, explodes) = style_of(&name, place, &given)?;
        let explode = members.read("explode").unwrap_or(explodes);
        (style, explode, members.get("schema"))
    };
    let description = members.text("description").unwrap_or_default();
    Ok(Some(Parameter {
        argument: name.clone(),
        place,
        is_required,
        description: tidy(&description, MOST_DESCRIPTION_BYTES),
        style,
        explode,
        allow_reserved: place == Place::Query && members.read("allowReserved") == Some(true),
        schema: schema.map(|schema| document.span(schema)),
        constant: schema
            .filter(|_| is_required)
            .and_then(|schema| constant(document, schema))
            .filter(|constant| constant.len() <= MOST_CONSTANT_BYTES),
        name,
    }))
}

/// The schema of a parameter that is described by its media type.
fn json_schema<'d>(
    document: Document<'d>,
    name: &str,
    content: &ObjectNode<'d>,
) -> Result<Node<'d>, String> {
    let is_json = |media_type: &str| media_type::is_json(&media_type::essence(media_type));
    let mut content = content.members();
    let described = content.find(|(media_type, _)| is_json(media_type));
    let (_, described) = described
        .ok_or_else(|| format!("its parameter {name:?} is written in no media type of JSON"))?;
    let schema = described.get("schema");
    Ok(schema.unwrap_or(document.empty()))
}

/// The style that is `given` for a parameter (empty: none), and whether it explodes by itself.
pub(super) fn style_of(name: &str, place: Place, given: &str) -> Result<(Style, bool), String> {
    match (place, given) {
        (Place::Path | Place::Header, "" | "simple") => Ok((Style::Simple, false)),
        (Place::Path, "label") => Ok((Style::Label, false)),
        (Place::Path, "matrix") => Ok((Style::Matrix, false)),
        (Place::Query, "" | "form") => Ok((Style::Form, true)),
        // Not a style of queries, but Microsoft's descriptions have it: one list with commas.
        (Place::Query, "simple") => Ok((Style::Form, false)),
        (Place::Query, "spaceDelimited") => Ok((Style::Delimited(' '), false)),
        (Place::Query, "pipeDelimited") => Ok((Style::Delimited('|'), false)),
        (Place::Query, "deepObject") => Ok((Style::DeepObject, true)),
        _ => Err(format!(
            "its parameter {name:?} has the style {given:?}, which a {} cannot have",
            place.name()
        )),
    }
}

/// The same of a `collectionFormat` (Swagger 2.0, "Parameter Object").
pub(super) fn style_of_format(
    name: &str,
    place: Place,
    format: &str,
) -> Result<(Style, bool), String> {
    match (place, format) {
        (Place::Path | Place::Header, "" | "csv") => Ok((Style::Simple, false)),
        (Place::Query, "" | "csv") => Ok((Style::Form, false)),
        (Place::Query, "multi") => Ok((Style::Form, true)),
        (Place::Query, "ssv") => Ok((Style::Delimited(' '), false)),
        (Place::Query, "tsv") => Ok((Style::Delimited('\t'), false)),
        (Place::Query, "pipes") => Ok((Style::Delimited('|'), false)),
        _ => Err(format!(
            "its parameter {name:?} has the collectionFormat {format:?}, which a {} cannot have",
            place.name()
        )),
    }
}

/// The only value that `schema` allows, as JSON, if it is one.
pub(super) fn constant(document: Document<'_>, schema: Node<'_>) -> Option<String> {
    let schema = document.resolve(schema).ok()?;
    match values(&schema)?.as_slice() {
        [only] => Some(only.json().to_owned()),
        _ => None,
    }
}
