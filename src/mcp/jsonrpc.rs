//! JSON-RPC 2.0 messages as MCP restricts them. Nothing is copied out of the body and no tree is
//! built: what the tools pass on to the backend reaches it byte for byte as it was sent.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// `Parse error`.
pub const PARSE_ERROR: i32 = -32700;
/// `Invalid Request`.
pub const INVALID_REQUEST: i32 = -32600;
/// `Method not found`.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// `Invalid params`.
pub const INVALID_PARAMS: i32 = -32602;
/// `Internal error`.
pub const INTERNAL_ERROR: i32 = -32603;

/// A JSON-RPC error.
#[derive(Debug, PartialEq, Eq)]
pub struct RpcError {
    /// Its code.
    pub code: i32,
    /// What is wrong, for the person behind the client.
    pub message: String,
    /// Further members, as JSON.
    pub data: Option<String>,
}

impl RpcError {
    /// An error without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The whole error response. Without an `id` where none could be read: MCP has no `null` id.
    #[must_use]
    pub fn response(&self, id: Option<&RawValue>) -> String {
        let id = id.map(|id| format!("\"id\":{id},")).unwrap_or_default();
        let data = self.data.as_ref().map(|data| format!(",\"data\":{data}")).unwrap_or_default();
        format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{},"message":{}{data}}}}}"#, self.code, quoted(&self.message))
    }
}

/// `text` as a JSON string.
#[must_use]
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of a JSON object, in the order in which they stand, each value as its own text.
#[derive(Debug, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The value of `name` when it is a string.
    #[must_use]
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        string(self.get(name)?)
    }

    /// The members of `name` when it is an object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Self> {
        Self::parse(self.get(name)?)
    }

    /// The members of `value` when it is an object.
    #[must_use]
    pub fn parse(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// Every member.
    pub fn members(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }
}

/// `value` when it is a string.
#[must_use]
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0)
}

/// One message of a client.
#[derive(Debug)]
pub enum Message<'a> {
    /// It wants an answer.
    Request {
        /// A string or an integer, as the client wrote it.
        id: &'a RawValue,
        /// What is asked for.
        method: Cow<'a, str>,
        /// Empty where there are none.
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
pub fn parse(body: &[u8]) -> Result<&RawValue, RpcError> {
    let wrong =
        |error: serde_json::Error| RpcError::new(PARSE_ERROR, format!("The body is not acceptable JSON: {error}."));
    serde_json::from_slice::<Checked>(body).map_err(wrong)?;
    serde_json::from_slice(body).map_err(wrong)
}

/// Reads one message.
///
/// # Errors
/// `Invalid Request`, or `Invalid params` for params that are no object.
pub fn message(value: &RawValue) -> Result<Message<'_>, BadMessage<'_>> {
    let invalid = |message: &str| BadMessage { id: None, error: RpcError::new(INVALID_REQUEST, message) };
    let Some(object) = Object::parse(value) else {
        return Err(invalid("A JSON-RPC message is an object."));
    };
    if object.string("jsonrpc").as_deref() != Some("2.0") {
        return Err(BadMessage { id: object.get("id").filter(|id| is_id(id)), ..invalid("jsonrpc must be \"2.0\".") });
    }
    let method = match object.get("method") {
        Some(method) => string(method).ok_or_else(|| invalid("method must be a string."))?,
        None if object.get("result").is_some() || object.get("error").is_some() => return Ok(Message::Response),
        None => {
            return Err(BadMessage { id: object.get("id").filter(|id| is_id(id)), ..invalid("There is no method.") });
        }
    };
    let Some(id) = object.get("id") else {
        return Ok(Message::Notification);
    };
    if !is_id(id) {
        return Err(invalid("id must be a string or an integer."));
    }
    let params = match object.get("params") {
        None => Object::default(),
        Some(params) => Object::parse(params).ok_or_else(|| BadMessage {
            id: Some(id),
            error: RpcError::new(INVALID_PARAMS, "params must be an object."),
        })?,
    };
    Ok(Message::Request { id, method, params })
}

/// Whether `id` is a string or an integer: what ids and progress tokens are.
#[must_use]
pub fn is_id(id: &RawValue) -> bool {
    let text = id.get();
    text.starts_with('"') || text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    members.push((key.0, map.next_value()?));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A string, borrowed where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowed)
    }
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
        let mut keys = std::collections::BTreeSet::new();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            map.next_value::<Self>()?;
            if let Some(twice) = keys.replace(key.0) {
                return Err(A::Error::custom(format_args!("the key {twice:?} stands twice in one object")));
            }
        }
        Ok(self)
    }
}
