//! The arguments of an operation's tool: their listed schemas, and the constants that are sent
//! although they are no arguments.

use std::collections::BTreeMap;

use super::body::{Body, Form};
use super::constants::{Constants, only_value};
use super::detail::DETAILS;
use super::document::Document;
use super::form::Field;
use super::listed::{Members, Schema, Values, can_be_listed};
use super::operation::Operation;
use super::parameter::{Place, Style};
use super::schema::{Lister, TooLarge};
use super::shape::Shape;
use super::writable::writable;

/// The argument for a body.
const DATA: &str = "data";

/// What an operation's own arguments are.
#[derive(Debug)]
pub struct Arguments {
    /// The schema of each, as it is listed.
    pub properties: BTreeMap<String, Schema>,
    /// Those that must be given.
    pub required: Vec<String>,
    /// What the body is made of.
    pub body: BodyArgument,
}

/// What the body is made of.
#[derive(Debug)]
pub enum BodyArgument {
    /// There is no body.
    None,
    /// It is always this JSON.
    Fixed(String),
    /// It is made of an argument.
    Given(GivenBody),
}

/// A body that is made of an argument.
#[derive(Debug)]
pub struct GivenBody {
    /// The name of the argument.
    pub(crate) argument: String,
    /// What is added to JSON.
    pub(crate) constants: Option<Constants>,
    /// Whether the constants are sent also when the argument is not given.
    pub(crate) is_always_sent: bool,
    /// The fields of a form.
    pub(crate) fields: Vec<Field>,
}

/// What may be listed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long all of it may be, in bytes.
    pub most_bytes: usize,
    /// Whether a file of `FILES_DIR` may stand for its bytes.
    pub takes_files: bool,
}

impl Operation {
    /// The name of one of this server's own arguments in this operation, whose parameters keep
    /// theirs.
    pub fn our_argument(&self, name: &str) -> String {
        let mut name = name.to_owned();
        while self.parameters.iter().any(|known| known.argument == name) {
            name.insert(0, '_');
        }
        name
    }

    /// What it takes.
    ///
    /// # Errors
    /// It cannot be said within the bounds, or not sent; as the rest of a sentence.
    pub(super) fn arguments(
        &self,
        document: Document<'_>,
        bounds: Bounds,
    ) -> Result<Arguments, String> {
        let fields = match self.body.as_ref().map(|body| &body.form) {
            Some(Form::Multipart(fields)) => fields.read(document)?,
            Some(Form::UrlEncoded(fields)) => {
                let mut fields = fields.read(document)?;
                // Such a form holds no files, only texts.
                for field in &mut fields {
                    field.is_file = false;
                }
                fields
            }
            Some(Form::Json(_) | Form::Bytes) | None => Vec::new(),
        };
        for detail in DETAILS {
            let lister = Lister::new(document, detail, bounds.most_bytes);
            let mut draft = Draft::new(lister, bounds.takes_files);
            match draft.add_all(self, &fields) {
                Ok(()) if draft.length() <= bounds.most_bytes => return Ok(draft.finished(fields)),
                Ok(()) | Err(Unlisted::TooLarge) => {}
                Err(Unlisted::NotWritable(what)) => {
                    return Err(format!("no value of {what} can be written in its style"));
                }
            }
        }
        Err(format!(
            "its arguments cannot be described in {} bytes",
            bounds.most_bytes
        ))
    }
}

/// Why arguments are not listed.
enum Unlisted {
    /// In less detail, they may be.
    TooLarge,
    /// This is required, and no value of it can be sent.
    NotWritable(String),
}

impl From<TooLarge> for Unlisted {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// Arguments that are being listed in some detail.
struct Draft<'d> {
    lister: Lister<'d>,
    takes_files: bool,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    body: DraftBody,
}

enum DraftBody {
    None,
    Fixed(String),
    Given {
        argument: String,
        constants: Constants,
        is_always_sent: bool,
    },
}

impl<'d> Draft<'d> {
    fn new(lister: Lister<'d>, takes_files: bool) -> Self {
        Self {
            lister,
            takes_files,
            properties: BTreeMap::new(),
            required: Vec::new(),
            body: DraftBody::None,
        }
    }

    fn add_all(&mut self, operation: &Operation, fields: &[Field]) -> Result<(), Unlisted> {
        for parameter in &operation.parameters {
            if parameter.constant.is_some() {
                continue;
            }
            let description = if parameter.argument == parameter.name {
                parameter.description.clone()
            } else if parameter.description.is_empty() {
                parameter.name.clone()
            } else {
                format!("{}: {}", parameter.name, parameter.description)
            };
            let schema = parameter.schema.map(|span| self.lister.document.node(span));
            let schema = if schema.is_none() && parameter.place == Place::Path {
                Schema::text()
            } else {
                self.lister.argument(schema, &description)?
            };
            match writable(schema, parameter.style) {
                Some(schema) => self.add(&parameter.argument, schema, parameter.is_required),
                None if parameter.is_required => {
                    let what = format!("its parameter {:?}", parameter.name);
                    return Err(Unlisted::NotWritable(what));
                }
                None => {}
            }
        }
        if let Some(body) = &operation.body {
            let argument = operation.our_argument(DATA);
            self.add_body(body, argument, fields)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, schema: Schema, is_required: bool) {
        self.properties.insert(name.to_owned(), schema);
        if is_required {
            self.required.push(name.to_owned());
        }
    }

    fn add_body(
        &mut self,
        body: &Body,
        argument: String,
        fields: &[Field],
    ) -> Result<(), Unlisted> {
        let mut constants = Constants::default();
        let mut schema = match &body.form {
            Form::Json(span) => {
                let document = self.lister.document;
                let shape = self.lister.shape_of(span.map(|span| document.node(span)));
                if body.is_required
                    && let Some(value) = only_value(document, &shape)
                {
                    self.body = DraftBody::Fixed(value);
                    return Ok(());
                }
                self.lister.body(shape, &mut constants)?
            }
            Form::UrlEncoded(_) | Form::Multipart(_) => self.form(fields)?,
            Form::Bytes => Schema::text_for(&format!(
                "The bytes of the body ({}), in Base64.",
                body.media_type
            )),
        };
        schema.describe(&body.description);
        let needs_nothing = !schema.demands_members();
        let has_constants =
            constants.has_members(0) || fields.iter().any(|field| field.constant.is_some());
        let is_always_sent = body.is_required && needs_nothing && has_constants;
        let is_instead = matches!(body.form, Form::Bytes) && self.takes_files;
        let is_required = body.is_required && !is_always_sent && !is_instead;
        self.add(&argument, schema, is_required);
        self.body = DraftBody::Given {
            argument,
            constants,
            is_always_sent,
        };
        Ok(())
    }

    /// The schema of a form.
    fn form(&mut self, fields: &[Field]) -> Result<Schema, Unlisted> {
        let mut form = Members::default();
        for field in fields.iter().filter(|field| field.constant.is_none()) {
            let node = field.schema.map(|span| self.lister.document.node(span));
            let schema = if field.is_file {
                let file = file(self.takes_files);
                let mut schema = if field.is_list {
                    Schema::array_of(file)
                } else {
                    file
                };
                let shape = node.map(|node| Shape::of(self.lister.document, node));
                let description = shape.and_then(|shape| shape.description);
                schema.describe(&description.unwrap_or_default());
                schema
            } else {
                let schema = self.lister.argument(node, "")?;
                let style = field.style.map_or(Style::Json, |(style, _)| style);
                match writable(schema, style) {
                    Some(schema) => schema,
                    None if field.is_required => {
                        let what = format!("its field {:?}", field.name);
                        return Err(Unlisted::NotWritable(what));
                    }
                    None => continue,
                }
            };
            if !can_be_listed(&field.name) {
                continue;
            }
            form.add(field.name.clone(), schema);
            if field.is_required {
                form.required.push(field.name.clone());
            }
        }
        Ok(Values::Object(form).into())
    }

    /// How long the listed arguments are.
    fn length(&self) -> usize {
        let schemas = self.properties.iter();
        let schemas = schemas.map(|(name, schema)| name.len() + schema.length() + 4);
        let required = self.required.iter().map(|name| name.len() + 3);
        schemas.chain(required).sum()
    }

    fn finished(self, fields: Vec<Field>) -> Arguments {
        let body = match self.body {
            DraftBody::None => BodyArgument::None,
            DraftBody::Fixed(value) => BodyArgument::Fixed(value),
            DraftBody::Given {
                argument,
                constants,
                is_always_sent,
            } => BodyArgument::Given(GivenBody {
                argument,
                constants: constants.unless_none(),
                is_always_sent,
                fields,
            }),
        };
        Arguments {
            properties: self.properties,
            required: self.required,
            body,
        }
    }
}

/// The schema of a file of a form.
fn file(takes_files: bool) -> Schema {
    let mut file = Members::closed();
    file.add("filename".to_owned(), Schema::text());
    let content_type = Schema::text_for("By default application/octet-stream.");
    file.add("content_type".to_owned(), content_type);
    let base64 = Schema::text_for("Its bytes, in Base64.");
    file.add("base64".to_owned(), base64);
    if takes_files {
        let path = "Instead of base64: its path in the server's directory for files.";
        file.add("path".to_owned(), Schema::text_for(path));
    } else {
        file.required.push("base64".to_owned());
    }
    Values::Object(file).into()
}
