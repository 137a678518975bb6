//! The body that an operation takes: which of its media types is sent, and of what it is made.

use super::document::{Document, Node, ObjectNode, Span};
use super::parameter::GivenParameters;
use super::shape::is_binary;
use super::text::tidy;
use crate::media_type;

/// The longest description of a body.
const MOST_DESCRIPTION_BYTES: usize = 300;
const JSON: &str = "application/json";
const URL_ENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";
const BYTES: &str = "application/octet-stream";

/// What an operation takes as its body.
#[derive(Debug)]
pub(crate) struct Body {
    /// The `Content-Type` that is sent.
    pub(crate) media_type: String,
    pub(crate) is_required: bool,
    /// Empty where there is none.
    pub(crate) description: String,
    pub(crate) form: Form,
}

/// How a body is made.
#[derive(Debug)]
pub(crate) enum Form {
    /// Of any JSON value, with this schema.
    Json(Option<Span>),
    /// `application/x-www-form-urlencoded`
    UrlEncoded(Fields),
    /// `multipart/form-data`
    Multipart(Fields),
    /// Of bytes.
    Bytes,
}

/// The fields of a form.
#[derive(Debug)]
pub(crate) enum Fields {
    /// The properties of this schema, written as `encoding` says (OpenAPI 3).
    Properties {
        schema: Option<Span>,
        encoding: Option<Span>,
    },
    /// The parameters that are `in: formData` (Swagger 2.0).
    Parameters(Vec<Span>),
}

/// A media type that the API takes.
struct Offer<'d> {
    media_type: &'d str,
    schema: Option<Node<'d>>,
    encoding: Option<Node<'d>>,
}

/// Reads the body of an operation of OpenAPI 3.
///
/// # Errors
/// It has none of the media types that are sent.
pub(super) fn read(
    document: Document<'_>,
    operation: &ObjectNode<'_>,
) -> Result<Option<Body>, String> {
    let Some(body) = operation.get("requestBody") else {
        return Ok(None);
    };
    let body = document.resolve(body)?;
    let content = body.get("content").unwrap_or(document.empty()).object();
    let mut offers = Vec::new();
    for (media_type, described) in content.members() {
        let described = document.resolve(described)?;
        offers.push(Offer {
            media_type,
            schema: described.get("schema"),
            encoding: described.get("encoding"),
        });
    }
    // A body of which nothing is said.
    if offers.is_empty() {
        return Ok(None);
    }
    let (media_type, form) = chosen(document, &offers)?;
    let description = body.text("description").unwrap_or_default();
    Ok(Some(Body {
        media_type,
        is_required: body.read("required") == Some(true),
        description: tidy(&description, MOST_DESCRIPTION_BYTES),
        form,
    }))
}

/// Reads the body of an operation of Swagger 2.0: the parameter that is `in: body`, or the form of
/// those that are `in: formData`.
///
/// # Errors
/// It has none of the media types that are sent.
pub(super) fn read_swagger(
    document: Document<'_>,
    operation: &ObjectNode<'_>,
    given: &GivenParameters<'_>,
) -> Result<Option<Body>, String> {
    let consumes: Option<Vec<String>> = operation.read("consumes");
    let consumes = consumes.or_else(|| document.root("consumes")?.read());
    let consumes = consumes.unwrap_or_default();
    let fields: Vec<&ObjectNode<'_>> = given.of("formData").collect();
    if !fields.is_empty() {
        let is_file = |field: &&ObjectNode<'_>| field.text("type").as_deref() == Some("file");
        let consumes_form = |form| consumes.iter().any(|given| media_type::is(given, form));
        let is_multipart =
            fields.iter().any(is_file) || (consumes_form(MULTIPART) && !consumes_form(URL_ENCODED));
        let is_required = |field: &&ObjectNode<'_>| field.read("required") == Some(true);
        let required = fields.iter().any(is_required);
        let fields = fields.into_iter().map(|field| document.span(field.node));
        let fields = Fields::Parameters(fields.collect());
        let (media_type, form) = if is_multipart {
            (MULTIPART, Form::Multipart(fields))
        } else {
            (URL_ENCODED, Form::UrlEncoded(fields))
        };
        return Ok(Some(Body {
            media_type: media_type.to_owned(),
            is_required: required,
            description: String::new(),
            form,
        }));
    }
    let Some(body) = given.of("body").last() else {
        return Ok(None);
    };
    let schema = body.get("schema");
    let media_types = if consumes.is_empty() {
        vec![JSON.to_owned()]
    } else {
        consumes
    };
    let offers = media_types.iter().map(|media_type| Offer {
        media_type,
        schema,
        encoding: None,
    });
    let offers: Vec<Offer<'_>> = offers.collect();
    let (media_type, form) = chosen(document, &offers)?;
    let description = body.text("description").unwrap_or_default();
    Ok(Some(Body {
        media_type,
        is_required: body.read("required") == Some(true),
        description: tidy(&description, MOST_DESCRIPTION_BYTES),
        form,
    }))
}

/// The media type that is sent, and how the body is made then: JSON, where it is offered.
fn chosen(document: Document<'_>, offers: &[Offer<'_>]) -> Result<(String, Form), String> {
    let span = |node: Option<Node<'_>>| node.map(|node| document.span(node));
    let fields = |offer: &Offer<'_>| Fields::Properties {
        schema: span(offer.schema),
        encoding: span(offer.encoding),
    };
    let of = |fits: &dyn Fn(&str) -> bool| {
        let fits = |offer: &&Offer<'_>| {
            is_utf8(offer.media_type) && fits(&media_type::essence(offer.media_type))
        };
        offers.iter().find(fits)
    };
    if let Some(offer) = of(&|essence| essence == JSON).or_else(|| of(&media_type::is_json)) {
        // A schema of bytes says nothing about JSON: then any JSON is taken.
        let is_json_itself = |schema: &Node<'_>| !is_binary_schema(document, *schema);
        let form = Form::Json(span(offer.schema.filter(is_json_itself)));
        return Ok((offer.media_type.to_owned(), form));
    }
    if let Some(offer) = of(&|essence| essence == URL_ENCODED) {
        return Ok((URL_ENCODED.to_owned(), Form::UrlEncoded(fields(offer))));
    }
    if let Some(offer) = of(&|essence| essence == MULTIPART) {
        return Ok((MULTIPART.to_owned(), Form::Multipart(fields(offer))));
    }
    if let Some(offer) = offers.iter().find(|offer| is_bytes(document, offer)) {
        let media_type = if offer.media_type.contains('*') {
            BYTES
        } else {
            offer.media_type
        };
        return Ok((media_type.to_owned(), Form::Bytes));
    }
    if let Some(offer) = of(&|essence| matches!(essence, "*/*" | "application/*")) {
        return Ok((JSON.to_owned(), Form::Json(span(offer.schema))));
    }
    let media_types: Vec<&str> = offers.iter().map(|offer| offer.media_type).collect();
    Err(format!(
        "its body is {}, which is not supported",
        media_types.join(" or ")
    ))
}

/// Whether text of this media type can be UTF-8, which is what is sent.
fn is_utf8(media_type: &str) -> bool {
    let charset = media_type::parameter(media_type, "charset").unwrap_or("utf-8");
    ["utf-8", "utf8", "us-ascii"]
        .iter()
        .any(|known| charset.eq_ignore_ascii_case(known))
}

/// Whether a body of this media type is bytes as they are.
fn is_bytes(document: Document<'_>, offer: &Offer<'_>) -> bool {
    let essence = media_type::essence(offer.media_type);
    if essence == BYTES {
        return true;
    }
    if media_type::is_text(&essence) {
        return false;
    }
    let Some(schema) = offer.schema else {
        // OpenAPI 3.1 leaves the schema out.
        return !essence.contains('*');
    };
    is_binary_schema(document, schema)
}

fn is_binary_schema(document: Document<'_>, schema: Node<'_>) -> bool {
    let schema = document.resolve(schema);
    schema.is_ok_and(|schema| is_binary(&schema))
}
