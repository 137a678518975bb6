//! Makes the request that the arguments of an operation mean.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde_json::value::RawValue;

use super::arguments::{BodyArgument, GivenBody};
use super::body::Form;
use super::form::Field;
use super::multipart::{Finished, Multipart};
use super::operation::Operation;
use super::parameter::{Parameter, Place, Style};
use super::style::{self, Encoding};
use super::template::{self, Piece};
use crate::error::{Failure, Kind};
use crate::json_object::{Object, is_null, json_in_string, read};

const BYTES: &str = "application/octet-stream";

/// A request. It is not yet checked against the settings.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The path below the API's base URL, with the query.
    pub endpoint: String,
    /// The headers, by name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: PreparedBody<'a>,
}

/// The body of a request.
#[derive(Debug)]
pub enum PreparedBody<'a> {
    /// Nothing.
    None,
    /// The JSON of an argument.
    Given(&'a RawValue),
    /// These bytes.
    Bytes(Vec<u8>),
    /// Bytes with a file of `FILES_DIR` in its middle.
    AroundFile {
        /// What stands before the file.
        before: Vec<u8>,
        /// Its name.
        file: String,
        /// What stands after it.
        after: Vec<u8>,
    },
}

impl Operation {
    /// What is sent for a call with the arguments that are `given`.
    ///
    /// # Errors
    /// One is missing, or cannot be sent as it is.
    pub fn prepare<'a>(
        &self,
        body: &BodyArgument,
        given: &Object<'a>,
    ) -> Result<Prepared<'a>, Failure> {
        let mut request = Request {
            operation: self,
            in_path: BTreeMap::new(),
            query: Vec::new(),
            headers: BTreeMap::new(),
        };
        for parameter in &self.parameters {
            request.add(parameter, given)?;
        }
        let body = request.body(body, given)?;
        Ok(Prepared {
            endpoint: request.endpoint()?,
            headers: request.headers,
            body,
        })
    }
}

/// Why `argument` cannot be sent.
fn refuse(argument: &str, reason: &str) -> Failure {
    let message = format!("The argument {argument} {reason}.");
    Failure::new(Kind::InvalidRequest, message).hint("Correct the arguments and call again.")
}

/// A request that is being made.
struct Request<'o> {
    operation: &'o Operation,
    /// What stands in the path for each of its parameters.
    in_path: BTreeMap<&'o str, String>,
    query: Vec<String>,
    headers: BTreeMap<String, String>,
}

impl<'o> Request<'o> {
    fn add(&mut self, parameter: &'o Parameter, given: &Object<'_>) -> Result<(), Failure> {
        let refuse = |reason: &str| refuse(&parameter.argument, reason);
        let given = given.given(&parameter.argument);
        let constant = parameter.constant.as_deref();
        let Some(value) = constant.or(given.map(RawValue::get)) else {
            if parameter.is_required {
                return Err(refuse("is missing"));
            }
            return Ok(());
        };
        let Parameter {
            name,
            style,
            explode,
            ..
        } = parameter;
        match parameter.place {
            Place::Path => {
                let written = style::path(name, value, *style, *explode);
                let written = written.map_err(|reason| refuse(&reason))?;
                self.in_path.insert(name, written);
            }
            Place::Query => {
                let encoding = if parameter.allow_reserved {
                    Encoding::KeepReserved
                } else {
                    Encoding::All
                };
                let fields = style::fields(name, value, *style, *explode, encoding);
                let fields = fields.map_err(|reason| refuse(&reason))?;
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| format!("{name}={value}"));
                self.query.extend(fields);
            }
            Place::Header => {
                let written = style::header(value, *style, *explode);
                let written = written.map_err(|reason| refuse(&reason))?;
                self.headers.insert(name.clone(), written);
            }
        }
        Ok(())
    }

    fn endpoint(&self) -> Result<String, Failure> {
        let path = template::without_fields(&self.operation.path, &self.operation.parameters);
        // It was read once already.
        let pieces =
            template::pieces(&path).map_err(|fault| Failure::new(Kind::Internal, fault))?;
        let mut endpoint = String::with_capacity(path.len());
        for piece in pieces {
            match piece {
                Piece::Literal(text) => endpoint.push_str(text),
                Piece::Parameter(name) => {
                    endpoint.push_str(self.in_path.get(name).map_or("", String::as_str));
                }
            }
        }
        for field in &self.query {
            endpoint.push(if endpoint.contains('?') { '&' } else { '?' });
            endpoint.push_str(field);
        }
        Ok(endpoint)
    }

    fn body<'a>(
        &mut self,
        argument: &BodyArgument,
        given: &Object<'a>,
    ) -> Result<PreparedBody<'a>, Failure> {
        let Some(body) = &self.operation.body else {
            return Ok(PreparedBody::None);
        };
        let mut media_type = body.media_type.clone();
        let made = match argument {
            BodyArgument::None => PreparedBody::None,
            BodyArgument::Fixed(json) => PreparedBody::Bytes(json.clone().into_bytes()),
            BodyArgument::Given(argument) => {
                let value = given.get(&argument.argument);
                let value = value.filter(|value| !is_null(value));
                let maker = Maker { argument, value };
                match &body.form {
                    Form::Json(_) => maker.json(),
                    Form::UrlEncoded(_) => maker.url_encoded()?,
                    Form::Multipart(_) => maker.multipart(&mut media_type)?,
                    Form::Bytes => maker.bytes()?,
                }
            }
        };
        // Where nothing is made, a file of `FILES_DIR` may be the body.
        if !matches!(made, PreparedBody::None) || matches!(body.form, Form::Bytes) {
            self.headers.insert("Content-Type".to_owned(), media_type);
        }
        Ok(made)
    }
}

/// Makes a body of the value of its argument.
struct Maker<'m, 'a> {
    argument: &'m GivenBody,
    value: Option<&'a RawValue>,
}

impl<'a> Maker<'_, 'a> {
    fn json(&self) -> PreparedBody<'a> {
        match (self.value, &self.argument.constants) {
            (Some(value), None) => PreparedBody::Given(value),
            (Some(value), Some(constants)) => {
                let text = json_in_string(value);
                let json = constants.added_to(text.as_deref().unwrap_or(value.get()));
                PreparedBody::Bytes(json.into_bytes())
            }
            (None, Some(constants)) if self.argument.is_always_sent => {
                PreparedBody::Bytes(constants.added_to("{}").into_bytes())
            }
            (None, _) => PreparedBody::None,
        }
    }

    fn bytes(&self) -> Result<PreparedBody<'a>, Failure> {
        let Some(value) = self.value else {
            return Ok(PreparedBody::None);
        };
        let bytes = from_base64(value.get());
        let bytes = bytes.ok_or_else(|| refuse(&self.argument.argument, "must be Base64"))?;
        Ok(PreparedBody::Bytes(bytes))
    }

    fn url_encoded(&self) -> Result<PreparedBody<'a>, Failure> {
        let Some(form) = self.form() else {
            return Ok(PreparedBody::None);
        };
        let mut pairs = Vec::new();
        for entry in self.entries(&self.object(&form)?)? {
            let fields = entry.fields(Encoding::All);
            let fields = fields.map_err(|reason| self.refuse(&entry.name, &reason))?;
            let fields = fields.into_iter();
            pairs.extend(fields.map(|(name, value)| format!("{name}={value}")));
        }
        Ok(PreparedBody::Bytes(pairs.join("&").into_bytes()))
    }

    fn multipart(&self, media_type: &mut String) -> Result<PreparedBody<'a>, Failure> {
        let Some(form) = self.form() else {
            return Ok(PreparedBody::None);
        };
        let mut multipart = Multipart::new()?;
        for entry in self.entries(&self.object(&form)?)? {
            let added = if entry.is_file() {
                entry.add_files(&mut multipart)
            } else {
                entry.add_texts(&mut multipart)
            };
            added.map_err(|reason| self.refuse(&entry.name, &reason))?;
        }
        *media_type = multipart.media_type();
        Ok(match multipart.finished() {
            Finished::Bytes(bytes) => PreparedBody::Bytes(bytes),
            Finished::AroundFile {
                before,
                file,
                after,
            } => PreparedBody::AroundFile {
                before,
                file,
                after,
            },
        })
    }

    /// The JSON of a form's fields; `None` where there is no form to send.
    fn form(&self) -> Option<String> {
        match self.value {
            Some(value) => Some(json_in_string(value).unwrap_or_else(|| value.get().to_owned())),
            None if self.argument.is_always_sent => Some("{}".to_owned()),
            None => None,
        }
    }

    fn object<'e>(&self, form: &'e str) -> Result<Object<'e>, Failure> {
        let object = serde_json::from_str(form);
        object.map_err(|_| refuse(&self.argument.argument, "must be an object"))
    }

    /// The fields that are given, and the constants that are not.
    fn entries<'e>(&'e self, given: &'e Object<'e>) -> Result<Vec<Entry<'e>>, Failure> {
        let fields = &self.argument.fields;
        let mut entries = Vec::new();
        for (name, value) in given.0.iter().filter(|(_, value)| !is_null(value)) {
            entries.push(Entry {
                name: name.as_ref().into(),
                json: value.get(),
                field: fields.iter().find(|field| field.name == **name),
            });
        }
        for field in fields.iter().filter(|field| field.is_required) {
            if given.given(&field.name).is_some() {
                continue;
            }
            let Some(constant) = &field.constant else {
                return Err(self.refuse(&field.name, "is missing"));
            };
            entries.push(Entry {
                name: field.name.as_str().into(),
                json: constant,
                field: Some(field),
            });
        }
        Ok(entries)
    }

    fn refuse(&self, field: &str, reason: &str) -> Failure {
        refuse(&format!("{}.{field}", self.argument.argument), reason)
    }
}

/// A field of a form, and its value.
struct Entry<'e> {
    name: Cow<'e, str>,
    json: &'e str,
    /// What the description says of it.
    field: Option<&'e Field>,
}

impl Entry<'_> {
    fn is_file(&self) -> bool {
        self.field.is_some_and(|field| field.is_file)
    }

    /// How it is written, where the description says that.
    fn style(&self) -> Option<(Style, bool)> {
        self.field.and_then(|field| field.style)
    }

    /// Its names and values as text.
    fn fields(&self, encoding: Encoding) -> Result<Vec<(String, String)>, String> {
        if let Some((style, explode)) = self.style() {
            return style::fields(&self.name, self.json, style, explode, encoding);
        }
        let mut fields = Vec::new();
        for value in self.values() {
            let style = style_of_value(value);
            fields.extend(style::fields(&self.name, value, style, false, encoding)?);
        }
        Ok(fields)
    }

    /// Its values, where no style is described: every item of a list is a field (OpenAPI 3.1
    /// §4.8.15, "Encoding Object").
    fn values(&self) -> Vec<&str> {
        if !self.json.starts_with('[') {
            return vec![self.json];
        }
        let items: Vec<&RawValue> = serde_json::from_str(self.json).unwrap_or_default();
        let items = items.into_iter().filter(|item| !is_null(item));
        items.map(RawValue::get).collect()
    }

    fn add_texts(&self, multipart: &mut Multipart) -> Result<(), String> {
        let said = self.field.and_then(|field| field.media_type.as_deref());
        if self.style().is_some() {
            for (name, value) in self.fields(Encoding::None)? {
                multipart.add(&name, None, said, value.as_bytes());
            }
            return Ok(());
        }
        for value in self.values() {
            let style = style_of_value(value);
            let is_json = style == Style::Json;
            let media_type = said.or(is_json.then_some("application/json"));
            for (name, value) in style::fields(&self.name, value, style, false, Encoding::None)? {
                multipart.add(&name, None, media_type, value.as_bytes());
            }
        }
        Ok(())
    }

    fn add_files(&self, multipart: &mut Multipart) -> Result<(), String> {
        let files: Vec<&RawValue> = if self.json.starts_with('[') {
            serde_json::from_str(self.json).unwrap_or_default()
        } else {
            serde_json::from_str(self.json).into_iter().collect()
        };
        for file in files {
            self.add_file(file, multipart)?;
        }
        Ok(())
    }

    fn add_file(&self, file: &RawValue, multipart: &mut Multipart) -> Result<(), String> {
        let file: Object<'_> =
            read(file).ok_or("must be an object with base64, or a list of such objects")?;
        let path = file.text("path");
        let filename = file.text("filename").or_else(|| {
            let path = path.as_deref()?;
            path.rsplit('/').next().map(|name| name.to_owned().into())
        });
        let filename = filename.unwrap_or_else(|| self.name.clone());
        let given = file.text("content_type");
        let said = self.field.and_then(|field| field.media_type.as_deref());
        let media_type = given.as_deref().or(said).unwrap_or(BYTES);
        if !is_fit(media_type) {
            return Err("has a content_type that is no media type".to_owned());
        }
        match (file.get("base64"), path) {
            (Some(base64), None) => {
                let bytes = from_base64(base64.get()).ok_or("has a base64 that is not Base64")?;
                multipart.add(&self.name, Some(&filename), Some(media_type), &bytes);
                Ok(())
            }
            (None, Some(path)) => multipart.add_file(&self.name, &filename, media_type, &path),
            _ => Err("must have base64 or path".to_owned()),
        }
    }
}

/// How one value of a form is written where no style is described: an object is JSON.
fn style_of_value(value: &str) -> Style {
    if value.starts_with(['{', '[']) {
        Style::Json
    } else {
        Style::Form
    }
}

/// Whether `media_type` can stand in a header.
fn is_fit(media_type: &str) -> bool {
    media_type.contains('/') && media_type.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The bytes of a JSON string in Base64, with or without its padding and in either alphabet.
fn from_base64(json: &str) -> Option<Vec<u8>> {
    let text: String = serde_json::from_str(json).ok()?;
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let text = text
        .trim_end_matches('=')
        .replace('-', "+")
        .replace('_', "/");
    BASE64_STANDARD_NO_PAD.decode(text).ok()
}
