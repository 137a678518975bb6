//! JSON-RPC 2.0 messages as MCP restricts them. No tree is built: every value keeps the text in
//! which it was sent, and what the tools pass on to the backend reaches it byte for byte.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub use crate::json_object::Object;
use crate::json_object::is_null;
pub(super) use crate::json_object::read;
use crate::json_pointer::Text;
use crate::json_string;

pub(super) const PARSE_ERROR: i32 = -32700;
pub(super) const INVALID_REQUEST: i32 = -32600;
pub(super) const METHOD_NOT_FOUND: i32 = -32601;
pub(super) const INVALID_PARAMS: i32 = -32602;
pub(super) const INTERNAL_ERROR: i32 = -32603;

/// RFC 8259 §2.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// A JSON-RPC error.
#[derive(Debug)]
pub struct RpcError {
    /// The HTTP status that goes with it.
    pub status: u16,
    /// Its code.
    pub code: i32,
    /// What is wrong, for the person behind the client.
    pub message: String,
    /// Further members, as JSON.
    pub data: Option<String>,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The same with another HTTP status.
    pub(super) fn at(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// The whole error response. Without an `id` where none could be read: MCP has no `null` id.
    pub(super) fn response(&self, id: Option<&RawValue>) -> String {
        let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
        let data = self
            .data
            .as_ref()
            .map(|data| format!(",\"data\":{data}"))
            .unwrap_or_default();
        format!(
            r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{},"message":{}{data}}}}}"#,
            self.code,
            quoted(&self.message)
        )
    }
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// As much of a client's `name` as stands in an error.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Adds `parts`, together one JSON string, to `json`.
pub(super) fn quote(json: &mut Vec<u8>, parts: &[&str]) {
    json.push(b'"');
    for part in parts {
        json_string::escape(json, part);
    }
    json.push(b'"');
}

/// One message of a client.
pub enum Message<'a> {
    /// It wants an answer.
    Request {
        /// A string or an integer, as the client wrote it.
        id: &'a RawValue,
        /// What is asked for.
        method: Cow<'a, str>,
        /// Empty where there are none. None is `null`.
        params: Object<'a>,
    },
    /// It wants none, and there is none that we act on: closing the connection is what cancels.
    Notification,
    /// The answer to a request, of which we make none.
    Response,
}

/// A body that is no message, with the id if there was one to be read.
pub struct BadMessage<'a> {
    /// Of the message.
    pub id: Option<&'a RawValue>,
    /// What is wrong.
    pub error: RpcError,
}

/// Refuses what is not UTF-8, not JSON, or has an object with the same key twice: there, one
/// reader takes the first and the next one the last. Gives the one value.
///
/// # Errors
/// `Parse error`.
pub fn parse(body: &[u8]) -> Result<&str, RpcError> {
    let refuse = |error: &dyn fmt::Display| {
        RpcError::new(
            PARSE_ERROR,
            format!("The body is not acceptable JSON: {error}."),
        )
    };
    let text = std::str::from_utf8(body).map_err(|error| refuse(&error))?;
    let checked = serde_json::from_str(text).map_err(|error| refuse(&error));
    checked.map(|Checked| text.trim_matches(WHITE_SPACE))
}

/// Reads one message.
///
/// # Errors
/// `Invalid Request`, or `Invalid params` for params that are no object.
pub fn message(value: &str) -> Result<Message<'_>, BadMessage<'_>> {
    let object: Object<'_> = serde_json::from_str(value).unwrap_or_default();
    let id = object.get("id");
    let bad = |code, message| BadMessage {
        id: id.filter(|id| is_id(id)),
        error: RpcError::new(code, message),
    };
    if object.text("jsonrpc").as_deref() != Some("2.0") {
        return Err(bad(
            INVALID_REQUEST,
            "A message is an object whose jsonrpc is \"2.0\".",
        ));
    }
    if object.get("method").is_none() {
        let is_response = object.get("result").or(object.get("error")).is_some();
        return if is_response {
            Ok(Message::Response)
        } else {
            Err(bad(INVALID_REQUEST, "There is no method."))
        };
    }
    let method = object
        .text("method")
        .ok_or_else(|| bad(INVALID_REQUEST, "method must be a string."))?;
    let Some(id) = id else {
        return Ok(Message::Notification);
    };
    if !is_id(id) {
        return Err(bad(INVALID_REQUEST, "id must be a string or an integer."));
    }
    let params = object
        .given("params")
        .map_or_else(|| Some(Object::default()), read);
    let mut params: Object<'_> =
        params.ok_or_else(|| bad(INVALID_PARAMS, "params must be an object."))?;
    // Some clients write `null` for what they leave out, and no member means anything by it.
    params.0.retain(|(_, value)| !is_null(value));
    Ok(Message::Request { id, method, params })
}

/// Whether `id` is a string or an integer: what ids and progress tokens are.
pub(super) fn is_id(id: &RawValue) -> bool {
    let text = id.get();
    text.starts_with('"')
        || text
            .strip_prefix('-')
            .unwrap_or(text)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
}

/// Any JSON value without a key that stands twice in one object. It keeps nothing.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some((Text(key), Self)) = map.next_entry::<Text<'de>, Self>()? {
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!(
                    "the key {:?} stands twice in one object",
                    shown(&twice)
                )));
            }
        }
        Ok(self)
    }
}
