//! The fields of a form.

use super::body::Fields;
use super::document::{Document, Node, ObjectNode, Span};
use super::parameter::{Place, Style, style_of, style_of_format};
use super::shape::Shape;

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) schema: Option<Span>,
    pub(crate) is_required: bool,
    /// Whether it is a file, or a list of them.
    pub(crate) is_file: bool,
    /// Whether there may be several.
    pub(crate) is_list: bool,
    /// The media type that the description gives it.
    pub(crate) media_type: Option<String>,
    /// How it is written, where that is said; else every item is a field, and an object is JSON.
    pub(crate) style: Option<(Style, bool)>,
    /// The only value that the API takes, as JSON.
    pub(crate) constant: Option<String>,
}

impl Fields {
    /// Reads them.
    ///
    /// # Errors
    /// One cannot be sent.
    pub(super) fn read(&self, document: Document<'_>) -> Result<Vec<Field>, String> {
        match self {
            Self::Parameters(spans) => spans
                .iter()
                .map(|span| parameter(document, *span))
                .collect(),
            Self::Properties { schema, encoding } => {
                let Some(schema) = schema else {
                    return Ok(Vec::new());
                };
                let shape = Shape::of(document, document.node(*schema));
                let encoding = encoding.map(|span| document.node(span));
                let encoding = encoding.unwrap_or(document.empty()).object();
                let mut fields = Vec::new();
                for (name, property) in &shape.properties {
                    let inner = Shape::of(document, *property);
                    if inner.is_read_only {
                        continue;
                    }
                    let encoding = encoding.get(name).unwrap_or(document.empty());
                    let is_required = shape.required.contains(name);
                    fields.push(property_field(
                        document,
                        name,
                        *property,
                        &inner,
                        &encoding.object(),
                        is_required,
                    )?);
                }
                Ok(fields)
            }
        }
    }
}

/// A parameter that is `in: formData` (Swagger 2.0).
fn parameter(document: Document<'_>, span: Span) -> Result<Field, String> {
    let node = document.node(span);
    let members = node.object();
    let name = members.text("name").unwrap_or_default().into_owned();
    let kind = members.text("type").unwrap_or_default();
    let format = members.text("collectionFormat").unwrap_or_default();
    let is_required = members.read("required") == Some(true);
    let shape = Shape::of(document, node);
    Ok(Field {
        schema: Some(span),
        is_required,
        is_file: kind == "file",
        is_list: kind == "array",
        media_type: None,
        style: Some(style_of_format(&name, Place::Query, &format)?),
        constant: constant(&shape, is_required),
        name,
    })
}

/// A property of the schema of a form (OpenAPI 3), with its `encoding`.
fn property_field(
    document: Document<'_>,
    name: &str,
    node: Node<'_>,
    shape: &Shape<'_>,
    encoding: &ObjectNode<'_>,
    is_required: bool,
) -> Result<Field, String> {
    let items = shape.items.map(|items| Shape::of(document, items));
    let is_file = items.as_ref().map_or(shape.is_file(), Shape::is_file);
    let given = encoding.text("style");
    let explode: Option<bool> = encoding.read("explode");
    let style = if given.is_some() || explode.is_some() {
        let given = given.unwrap_or_default();
        let (style, explodes) = style_of(name, Place::Query, &given)?;
        Some((style, explode.unwrap_or(explodes)))
    } else {
        None
    };
    Ok(Field {
        name: name.to_owned(),
        schema: Some(document.span(node)),
        is_required,
        is_file,
        is_list: items.is_some(),
        media_type: encoding
            .text("contentType")
            .and_then(|given| media_type(&given)),
        style,
        constant: constant(shape, is_required),
    })
}

fn constant(shape: &Shape<'_>, is_required: bool) -> Option<String> {
    let only = shape.constant().filter(|_| is_required);
    only.map(|only| only.json().to_owned())
}

/// The media type that a part gets, of those that a description names for it. Several may be named;
/// the first is as good as any. It becomes a header field, so it must be able to stand in one.
fn media_type(given: &str) -> Option<String> {
    let first = given.split(',').next()?.trim();
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let is_one = !first.is_empty() && !first.contains('*') && first.bytes().all(is_visible);
    is_one.then(|| first.to_owned())
}
