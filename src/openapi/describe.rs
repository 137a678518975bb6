//! An operation, described to a model that calls it with a generic tool: what it takes, how that is
//! sent, and an example.

use serde_json::{Map, Value, json};

use super::Description;
use super::arguments::{Arguments, BodyArgument, Bounds};
use super::body::Form;
use super::listed::{Members, Schema, Text, Values};
use super::operation::Operation;
use super::parameter::{Parameter, Place, Style};
use super::send::{Prepared, PreparedBody};
use crate::json_object::Object;
use crate::media_type;

/// How deep objects are in an example.
const MOST_DEPTH: usize = 4;
/// How many members an object without required ones has in an example.
const MOST_OPTIONAL: usize = 3;

impl Description {
    /// What `operation`, one of this description, takes, how that is sent, and an example call.
    ///
    /// # Errors
    /// It cannot be said within the bounds; as the rest of a sentence.
    pub(crate) fn describe(&self, operation: &Operation, bounds: Bounds) -> Result<Value, String> {
        let arguments = self.arguments(operation, bounds)?;
        let tool = format!("api_{}_request", operation.method.to_ascii_lowercase());
        let call = example(operation, &arguments);
        let call = call.map(|call| json!({"tool": tool, "arguments": call}));
        let mut described = json!({
            "operation": operation.handle(),
            "method": operation.method,
            "path": operation.path,
            "summary": operation.summary,
            "description": operation.description,
            "arguments": {
                "type": "object",
                "properties": arguments.properties,
                "required": arguments.required,
            },
            "sent": sent(operation, &arguments, bounds.takes_files),
        });
        if let (Some(members), Some(call)) = (described.as_object_mut(), call) {
            members.insert("call".to_owned(), call);
        }
        Ok(described)
    }
}

impl Operation {
    /// What it is called by in a search: its id, else the name of its tool.
    pub(crate) fn handle(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }
}

/// Where each argument goes, in words.
fn sent(operation: &Operation, arguments: &Arguments, takes_files: bool) -> Map<String, Value> {
    let mut sent = Map::new();
    for parameter in &operation.parameters {
        if let Some(schema) = arguments.properties.get(&parameter.argument) {
            let place = place_of(parameter, schema);
            sent.insert(parameter.argument.clone(), place.into());
        }
    }
    if let (BodyArgument::Given(given), Some(body)) = (&arguments.body, &operation.body) {
        let place = match body.form {
            Form::Json(_) => "as data",
            Form::UrlEncoded(_) | Form::Multipart(_) => "as data, a text",
            Form::Bytes if takes_files => "as a file, named in body_file",
            Form::Bytes => "as data, if it is text",
        };
        let place = if media_type::is_json(&media_type::essence(&body.media_type)) {
            place.to_owned()
        } else {
            format!("{place}, with Content-Type {} in headers", body.media_type)
        };
        sent.insert(given.argument.clone(), place.into());
    }
    sent
}

fn place_of(parameter: &Parameter, schema: &Schema) -> String {
    let Parameter {
        name,
        style,
        explode,
        ..
    } = parameter;
    match parameter.place {
        Place::Path => format!("in endpoint, percent-encoded, in place of {{{name}}}"),
        Place::Header => format!("in headers as {name}"),
        Place::Query => {
            let written = match (&schema.values, style) {
                (Values::Array(_) | Values::Object(_), Style::Json) => format!("{name}=JSON"),
                (_, Style::DeepObject) => format!("{name}[MEMBER]=VALUE for each member"),
                (Values::Array(_), _) if *explode => format!("{name}=VALUE for each item"),
                (Values::Array(_), Style::Delimited(sign)) => {
                    format!("{name}=A{sign}B, one text of all items")
                }
                (Values::Array(_), _) => format!("{name}=A,B, one text of all items"),
                (Values::Object(_), _) if *explode => "MEMBER=VALUE for each member".to_owned(),
                (Values::Object(_), _) => format!("{name}=MEMBER,VALUE,MEMBER,VALUE"),
                _ => format!("{name}=VALUE"),
            };
            format!("in params: {written}")
        }
    }
}

/// The arguments of the generic tool in an example call; `None` where none can be made.
fn example(operation: &Operation, arguments: &Arguments) -> Option<Value> {
    let mut given = Map::new();
    for (name, schema) in &arguments.properties {
        if arguments.required.contains(name) || is_shown(operation, name) {
            given.insert(name.clone(), sample(schema, name, MOST_DEPTH));
        }
    }
    if let BodyArgument::Given(body) = &arguments.body {
        let schema = arguments.properties.get(&body.argument)?;
        let value = sample(schema, &body.argument, MOST_DEPTH);
        given.insert(body.argument.clone(), value);
    }
    let json = Value::from(given).to_string();
    let given: Object<'_> = serde_json::from_str(&json).ok()?;
    let prepared = operation.prepare(&arguments.body, &given).ok()?;
    call_of(prepared)
}

/// Whether an example shows the argument `name` though it is not required: the first of the query,
/// where the query is all there is.
fn is_shown(operation: &Operation, name: &str) -> bool {
    let mut in_query = operation
        .parameters
        .iter()
        .filter(|known| known.place == Place::Query);
    let is_required = operation
        .parameters
        .iter()
        .any(|known| known.place == Place::Query && known.is_required);
    !is_required && in_query.next().is_some_and(|first| first.argument == name)
}

/// What the generic tool is given for what would be sent.
fn call_of(prepared: Prepared<'_>) -> Option<Value> {
    let mut headers = prepared.headers;
    let content_type = headers.get("Content-Type");
    let is_json = content_type.is_none_or(|given| media_type::essence(given) == "application/json");
    if is_json {
        headers.remove("Content-Type");
    }
    let data = match prepared.body {
        PreparedBody::None => None,
        PreparedBody::Given(json) => Some(json.get().to_owned()),
        PreparedBody::Bytes(bytes) => Some(String::from_utf8(bytes).ok()?),
        PreparedBody::AroundFile { .. } => return None,
    };
    let mut call = Map::new();
    call.insert("endpoint".to_owned(), prepared.endpoint.into());
    if let Some(data) = data {
        let data = if is_json {
            serde_json::from_str(&data).ok()?
        } else {
            Value::from(data)
        };
        call.insert("data".to_owned(), data);
    }
    if !headers.is_empty() {
        call.insert("headers".to_owned(), json!(headers));
    }
    Some(call.into())
}

/// A value that fits the listed `schema` of what is called `name`.
fn sample(schema: &Schema, name: &str, depth: usize) -> Value {
    match &schema.values {
        Values::AnyOf(branches) => branches
            .first()
            .map_or_else(|| json!(name), |branch| sample(branch, name, depth)),
        Values::Object(members) if depth > 0 => sample_object(members, depth - 1),
        Values::Object(_) => json!({}),
        Values::Array(items) if depth > 0 => json!([sample(items, name, depth - 1)]),
        Values::Array(_) => json!([]),
        Values::Text(Text::OneOf(choices)) => json!(choices.first()),
        Values::Text(_) if name == "base64" => json!("dGV4dA"),
        Values::Text(Text::DateTime) => json!("2026-01-31T09:00:00Z"),
        Values::Text(Text::Any) => json!(name),
        Values::Number(range) => range.minimum.clone().map_or(json!(1), Value::Number),
        Values::Boolean => json!(true),
    }
}

fn sample_object(members: &Members, depth: usize) -> Value {
    let mut object = Map::new();
    for (name, schema) in members.properties() {
        let is_shown = if members.required.is_empty() {
            object.len() < MOST_OPTIONAL
        } else {
            members.required.contains(name)
        };
        if is_shown {
            object.insert(name.clone(), sample(schema, name, depth));
        }
    }
    object.into()
}
