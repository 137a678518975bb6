//! One operation: its method and path, its parameters, its body.

use super::body::{self, Body, Form};
use super::document::{Document, ObjectNode, Version};
use super::parameter::{self, GivenParameters, Parameter, Place, Rules};
use super::style;
use super::template::{self, Piece};
use super::text::tidy;

/// The longest description of an operation.
const MOST_DESCRIPTION_BYTES: usize = 1024;
const MOST_SUMMARY_BYTES: usize = 200;
/// A longer id is nothing that anybody writes.
const MOST_ID_BYTES: usize = 1000;

/// Something that the API can do.
#[derive(Debug)]
pub struct Operation {
    /// The name of its tool: unique, and the same from run to run.
    pub name: String,
    /// The id that the description gives it.
    pub id: Option<String>,
    /// One of [`crate::api::policy::METHODS`].
    pub method: &'static str,
    /// The template of its path, as the description writes it.
    pub path: String,
    /// Empty where there is none.
    pub summary: String,
    /// Empty where there is none; a long one is cut.
    pub description: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it should not be used any more.
    pub is_deprecated: bool,
    /// What it takes besides the body. Credentials are not among them.
    pub parameters: Vec<Parameter>,
    /// What it takes as its body.
    pub(crate) body: Option<Body>,
}

impl Operation {
    /// Whether its body is bytes, so that a file can be sent instead.
    pub(crate) fn takes_bytes(&self) -> bool {
        let form = self.body.as_ref().map(|body| &body.form);
        matches!(form, Some(Form::Bytes))
    }

    /// What people read of it.
    pub fn title(&self) -> String {
        match (&self.summary, &self.id) {
            (summary, _) if !summary.is_empty() => summary.clone(),
            (_, Some(id)) => id.clone(),
            _ => self.line(),
        }
    }

    /// What a model reads of it: its summary and its description.
    pub fn text(&self) -> String {
        let summary = self.summary.trim_end_matches('.');
        let description = self.description.as_str();
        let text = match (summary, description) {
            ("", "") => self.line(),
            (summary, "") => summary.to_owned(),
            (summary, description) if description.starts_with(summary) => description.to_owned(),
            (summary, description) => format!("{summary}. {description}"),
        };
        tidy(&text, MOST_DESCRIPTION_BYTES)
    }

    /// `GET /users/{id}`
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// What it does in a few words: its summary, else the first sentence of its description.
    pub fn short_text(&self) -> &str {
        if !self.summary.is_empty() {
            return &self.summary;
        }
        let sentence = self.description.split_inclusive(". ").next();
        sentence.unwrap_or_default().trim_end()
    }
}

/// Reads the operation with these `members`, of the path item `item` at the template `path`.
///
/// # Errors
/// Why it cannot be called.
pub(super) fn read(
    document: Document<'_>,
    rules: &Rules<'_>,
    (method, path): (&'static str, &str),
    item: &ObjectNode<'_>,
    members: &ObjectNode<'_>,
) -> Result<Operation, String> {
    let given = GivenParameters::read(document, [item, members])?;

    let mut parameters = Vec::new();
    for members in given.besides_the_body() {
        parameters.extend(parameter::read(document, rules, members)?);
    }
    complete(&mut parameters, path)?;
    parameters.iter().try_for_each(check_constant)?;

    let body = match document.version() {
        Version::OpenApi3 => body::read(document, members)?,
        Version::Swagger2 => body::read_swagger(document, members, &given)?,
    };
    // A body has no meaning with GET (RFC 9110 §9.3.1), and some descriptions give all operations
    // one.
    let body = body.filter(|body| method != "GET" || body.is_required);
    if method == "GET" && body.is_some() {
        return Err("it requires a body, which is not sent with GET".to_owned());
    }

    let text = |name: &str| members.text(name).unwrap_or_default();
    let id = members.text("operationId").map(|id| id.trim().to_owned());
    Ok(Operation {
        name: String::new(),
        id: id.filter(|id| (1..=MOST_ID_BYTES).contains(&id.len())),
        method,
        path: path.to_owned(),
        summary: tidy(&text("summary"), MOST_SUMMARY_BYTES),
        description: tidy(&text("description"), MOST_DESCRIPTION_BYTES),
        tags: members.read("tags").unwrap_or_default(),
        is_deprecated: members.read("deprecated") == Some(true),
        parameters,
        body,
    })
}

/// Refuses a parameter of the path whose only value cannot stand there.
///
/// # Errors
/// Why it cannot.
fn check_constant(parameter: &Parameter) -> Result<(), String> {
    let Parameter {
        name,
        style,
        explode,
        ..
    } = parameter;
    if let (Place::Path, Some(value)) = (parameter.place, &parameter.constant) {
        style::path(name, value, *style, *explode)
            .map_err(|reason| format!("its parameter {name:?} {reason}"))?;
    }
    Ok(())
}

/// Drops path parameters that `path` does not have, and adds those that it has and nobody
/// describes.
///
/// # Errors
/// The path is no template that can be filled in.
fn complete(parameters: &mut Vec<Parameter>, path: &str) -> Result<(), String> {
    let path = template::without_fields(path, parameters);
    let pieces = template::pieces(&path)?;
    let named: Vec<&str> = pieces.iter().filter_map(Piece::parameter).collect();
    parameters.retain(|parameter| {
        parameter.place != Place::Path || named.contains(&parameter.name.as_str())
    });
    for name in named {
        let is_same = |known: &Parameter| known.place == Place::Path && known.name == name;
        if !parameters.iter().any(is_same) {
            parameters.push(Parameter::of_path(name));
        }
    }
    Ok(())
}
