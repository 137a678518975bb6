//! Calls of operations, parsed back by the specification: what a stand-in receives must be what was
//! given. Nothing of the server's own code takes part in the parsing.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use entra_auth_mcp::openapi::{Operation, Parameter, Place};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::support::http::Request;

/// How deep values are.
pub const MOST_DEPTH: usize = 4;

/// A value for an argument with this listed schema.
pub fn value(schema: &Value, name: &str, depth: usize) -> Value {
    let first = |keyword: &str| schema[keyword].as_array().and_then(|list| list.first());
    if let Some(choice) = first("enum") {
        return choice.clone();
    }
    if let Some(branch) = first("anyOf") {
        return value(branch, name, depth);
    }
    match schema["type"].as_str() {
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(7)),
        Some("boolean") => json!(false),
        Some("array") if depth > 0 => {
            let item = value(&schema["items"], name, depth - 1);
            json!([item, item])
        }
        Some("array") => json!([]),
        Some("object") => object(schema, depth.saturating_sub(1)),
        _ if name == "base64" => json!(BASE64_STANDARD.encode("bytes: ü\r\n\0")),
        _ if is_bytes(schema) => json!(BASE64_STANDARD.encode("bytes: ü\r\n\0")),
        _ if name == "content_type" => json!("text/plain"),
        // A space may be what separates items and members.
        _ if depth < MOST_DEPTH => json!("c+ü"),
        _ => json!("a b+ü"),
    }
}

/// Whether a text is bytes in Base64.
fn is_bytes(schema: &Value) -> bool {
    let description = schema["description"].as_str().unwrap_or_default();
    description.contains("in Base64")
}

fn object(schema: &Value, depth: usize) -> Value {
    let mut members = Map::new();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if depth > 0 {
            members.insert(name.clone(), value(schema, name, depth));
        }
    }
    members.into()
}

/// Where what was `sent` departs from what was `given` to `operation`, which `raw` describes.
pub fn departures(
    raw: &Value,
    operation: &Operation,
    given: &Map<String, Value>,
    sent: &Request,
) -> Vec<String> {
    let described = Described::of(raw, operation);
    let target = sent.target.strip_prefix("/v1.0").unwrap_or(&sent.target);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // Some templates have a query of their own.
    let template = operation.path.split('?').next().unwrap_or_default();
    let Some(in_path) = parse_path(template, path) else {
        return vec![format!("{path} does not fit its template")];
    };
    let query: Vec<(String, String)> = parse_form(query);
    let mut found = Vec::new();
    for parameter in &operation.parameters {
        let Some(value) = given.get(&parameter.argument) else {
            continue;
        };
        let received = match parameter.place {
            Place::Path => in_path.get(&parameter.name).cloned().map(|text| vec![text]),
            Place::Query => described.of_query(parameter, value, &query),
            Place::Header => sent
                .header(&parameter.name)
                .map(|text| vec![text.to_owned()]),
        };
        let wanted = described.written(parameter, value);
        if received.as_ref() != Some(&wanted) {
            found.push(format!(
                "{}: {wanted:?} became {received:?}",
                parameter.name
            ));
        }
    }
    let is_own = |name: &String| {
        operation
            .parameters
            .iter()
            .any(|known| known.argument == *name)
    };
    if let Some((_, data)) = given.iter().find(|(name, _)| !is_own(name)) {
        found.extend(departure_of_body(data, sent));
    }
    found
}

/// An operation in the description itself.
struct Described<'a> {
    parameters: Vec<&'a Value>,
}

impl<'a> Described<'a> {
    fn of(raw: &'a Value, operation: &Operation) -> Self {
        let sections = [&raw["paths"], &raw["x-ms-paths"]];
        let item = sections
            .iter()
            .find_map(|section| section.get(&operation.path));
        let item = item.unwrap_or(&Value::Null);
        let own = &item[operation.method.to_ascii_lowercase()];
        let lists = [&own["parameters"], &item["parameters"]];
        let parameters = lists
            .into_iter()
            .flat_map(|list| list.as_array().into_iter().flatten());
        let resolve = |node: &'a Value| match node["$ref"].as_str() {
            Some(reference) => raw.pointer(&reference[1..]).unwrap_or(node),
            None => node,
        };
        Self {
            parameters: parameters.map(resolve).collect(),
        }
    }

    /// What the description says of `parameter`; those of the operation come first.
    fn raw(&self, parameter: &Parameter) -> &'a Value {
        let is_it = |raw: &&&Value| {
            raw["name"] == parameter.name.as_str() && raw["in"] == parameter.place.name()
        };
        self.parameters
            .iter()
            .find(is_it)
            .copied()
            .unwrap_or(&Value::Null)
    }

    /// Whether every item is a value of its own.
    fn explodes(&self, parameter: &Parameter) -> bool {
        let raw = self.raw(parameter);
        let is_form = matches!(raw["style"].as_str(), None | Some("form"));
        match raw["explode"].as_bool() {
            Some(explode) => explode,
            None if raw.get("type").is_some() => raw["collectionFormat"] == "multi",
            None => parameter.place == Place::Query && is_form,
        }
    }

    /// What stands between the items of a list in one value.
    fn separator(&self, parameter: &Parameter) -> &'static str {
        let raw = self.raw(parameter);
        match raw["style"].as_str().or(raw["collectionFormat"].as_str()) {
            Some("spaceDelimited" | "ssv") => " ",
            Some("pipeDelimited" | "pipes") => "|",
            Some("tsv") => "\t",
            _ => ",",
        }
    }

    fn is_json(&self, parameter: &Parameter) -> bool {
        self.raw(parameter).get("content").is_some()
    }

    /// The decoded texts that stand for `value`.
    fn written(&self, parameter: &Parameter, value: &Value) -> Vec<String> {
        if self.is_json(parameter) {
            return vec![value.to_string()];
        }
        let raw = self.raw(parameter);
        let style = raw["style"].as_str();
        let name = &parameter.name;
        let explodes = self.explodes(parameter);
        let pair = |(name, value): (&String, &Value)| format!("{name}={}", text(value));
        let texts: Vec<String> = match value {
            Value::Array(items) => items.iter().map(text).collect(),
            Value::Object(members) if explodes || style == Some("deepObject") => {
                members.iter().map(pair).collect()
            }
            Value::Object(members) => members
                .iter()
                .flat_map(|(name, value)| [name.clone(), text(value)])
                .collect(),
            scalar => vec![text(scalar)],
        };
        // What is empty is left out of a query.
        let is_in_fields = explodes || style == Some("deepObject") || texts.is_empty();
        if parameter.place == Place::Query && is_in_fields {
            return texts;
        }
        match (style, explodes) {
            (Some("label"), _) => {
                vec![format!(".{}", texts.join(if explodes { "." } else { "," }))]
            }
            (Some("matrix"), true) if value.is_object() => {
                vec![texts.iter().map(|text| format!(";{text}")).collect()]
            }
            (Some("matrix"), true) => {
                vec![texts.iter().map(|text| format!(";{name}={text}")).collect()]
            }
            (Some("matrix"), false) => vec![format!(";{name}={}", texts.join(","))],
            _ => vec![texts.join(self.separator(parameter))],
        }
    }

    /// The same as it stands in a query.
    fn of_query(
        &self,
        parameter: &Parameter,
        value: &Value,
        query: &[(String, String)],
    ) -> Option<Vec<String>> {
        let name = &parameter.name;
        let is_deep = self.raw(parameter)["style"] == "deepObject";
        if let Value::Object(members) = value
            && !self.is_json(parameter)
            && (is_deep || self.explodes(parameter))
        {
            let of = |member: &String| {
                let key = if is_deep {
                    format!("{name}[{member}]")
                } else {
                    member.clone()
                };
                let (_, value) = query.iter().find(|(known, _)| *known == key)?;
                Some(format!("{member}={value}"))
            };
            return members.keys().map(of).collect();
        }
        let values = query.iter().filter(|(known, _)| known == name);
        Some(values.map(|(_, value)| value.clone()).collect())
    }
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The pairs of a query or of an `application/x-www-form-urlencoded` body.
fn parse_form(text: &str) -> Vec<(String, String)> {
    let fields = text.split('&').filter(|field| !field.is_empty());
    let pair = |field: &str| {
        let field = field.replace('+', " ");
        let (name, value) = field.split_once('=').unwrap_or((&field, ""));
        (decoded(name), decoded(value))
    };
    fields.map(pair).collect()
}

/// The values of the parameters of `template` in `path`.
fn parse_path(template: &str, path: &str) -> Option<BTreeMap<String, String>> {
    let Some((literal, rest)) = template.split_once('{') else {
        return (decoded(template) == decoded(path)).then(BTreeMap::new);
    };
    let (name, rest) = rest.split_once('}')?;
    let path = path.strip_prefix(literal)?;
    let ends = path.char_indices().map(|(end, _)| end).chain([path.len()]);
    let within = ends.take_while(|end| !path[..*end].contains('/'));
    for end in within {
        if let Some(mut values) = parse_path(rest, &path[end..]) {
            values.insert(name.to_owned(), decoded(&path[..end]));
            return Some(values);
        }
    }
    None
}

/// Where a body departs from the `data` that was given.
fn departure_of_body(data: &Value, sent: &Request) -> Option<String> {
    let content_type = sent.header("Content-Type").unwrap_or_default().to_owned();
    let is = |kind: &str| content_type.starts_with(kind);
    let fits = if is("application/x-www-form-urlencoded") {
        let fields = parse_form(std::str::from_utf8(&sent.body).ok()?);
        members(data).all(|(name, value)| {
            let received = fields.iter().filter(|(known, _)| known == name);
            let received: Vec<&String> = received.map(|(_, value)| value).collect();
            is_field(value, &received)
        })
    } else if is("multipart/form-data") {
        let parts = parts(&content_type, &sent.body);
        members(data)
            .all(|(name, value)| is_part(value, parts.get(name)) || are_fields(name, value, &parts))
    } else if is("application/json") || content_type.contains("json") {
        let received: Value = serde_json::from_slice(&sent.body).unwrap_or_default();
        holds(&received, data)
    } else {
        data.as_str()
            .and_then(|text| BASE64_STANDARD.decode(text).ok())
            == Some(sent.body.clone())
    };
    (!fits).then(|| {
        let body = String::from_utf8_lossy(&sent.body);
        format!("the body {data} became {body:?} of {content_type}")
    })
}

fn members(data: &Value) -> impl Iterator<Item = (&String, &Value)> {
    data.as_object().into_iter().flatten()
}

/// Whether `received` is `given`, to which constants may have been added.
fn holds(received: &Value, given: &Value) -> bool {
    match (received, given) {
        (Value::Object(received), Value::Object(given)) => given.iter().all(|(name, value)| {
            received
                .get(name)
                .is_some_and(|received| holds(received, value))
        }),
        (Value::Array(received), Value::Array(given)) => {
            received.len() == given.len()
                && received
                    .iter()
                    .zip(given)
                    .all(|(received, given)| holds(received, given))
        }
        _ => received == given,
    }
}

fn is_field(value: &Value, received: &[&String]) -> bool {
    let as_json =
        |text: &&String| serde_json::from_str::<Value>(text).is_ok_and(|json| json == *value);
    let is_joined = |items: &[String]| {
        let separators = [",", " ", "|"];
        matches!(received, [one] if separators.iter().any(|sign| **one == items.join(sign)))
    };
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            items.iter().eq(received.iter().copied())
                || is_joined(&items)
                || matches!(received, [one] if as_json(one))
        }
        Value::Object(members) => {
            let pairs = members.iter();
            let pairs = pairs.flat_map(|(name, value)| [name.clone(), text(value)]);
            is_joined(&pairs.collect::<Vec<_>>()) || matches!(received, [one] if as_json(one))
        }
        scalar => matches!(received, [one] if **one == text(scalar)),
    }
}

/// The parts of a multipart body by their names (RFC 7578).
fn parts(content_type: &str, body: &[u8]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let boundary = content_type.split("boundary=").nth(1).unwrap_or_default();
    let boundary = format!("--{}", boundary.trim_matches('"'));
    let text: String = body.iter().map(|byte| char::from(*byte)).collect();
    let mut parts: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for part in text.split(&boundary).skip(1) {
        let Some((head, content)) = part.split_once("\r\n\r\n") else {
            continue;
        };
        let name = head
            .split("name=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let content = content.strip_suffix("\r\n").unwrap_or(content);
        let bytes = content
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect();
        parts
            .entry(name.unwrap_or_default().to_owned())
            .or_default()
            .push(bytes);
    }
    parts
}

/// Whether the members of an object are fields of their own, as with the styles form and deepObject.
fn are_fields(name: &str, value: &Value, parts: &BTreeMap<String, Vec<Vec<u8>>>) -> bool {
    let is_field = |(member, value): (&String, &Value)| {
        let keys = [member.clone(), format!("{name}[{member}]")];
        let mut fields = keys.iter().filter_map(|key| parts.get(key));
        fields.any(|field| *field == [text(value).into_bytes()])
    };
    value.is_object() && members(value).all(is_field)
}

fn is_part(value: &Value, received: Option<&Vec<Vec<u8>>>) -> bool {
    let received = received.map(Vec::as_slice).unwrap_or_default();
    let files: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    };
    if files.iter().all(|file| file["base64"].is_string()) && !files.is_empty() {
        let bytes = |file: &&Value| {
            BASE64_STANDARD
                .decode(file["base64"].as_str().unwrap())
                .unwrap()
        };
        return files.iter().map(bytes).eq(received.iter().cloned());
    }
    let texts: Vec<String> = received
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    is_field(value, &texts.iter().collect::<Vec<_>>())
}
