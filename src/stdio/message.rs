//! The parts of a message that must be known to carry it. The rest is carried unchanged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// What is to be done with a line.
pub(super) enum Routed {
    /// Nothing: it is empty, or a notification that every server ignores.
    Nothing,
    /// The client has cancelled the request of this id.
    Cancellation(Value),
    /// It goes to the server, even if it is not a message: the server says what is wrong.
    Message(Message),
}

/// A message for the server.
#[derive(Clone, Default)]
pub(super) struct Message {
    /// The id of the request. A batch has several; other messages have none.
    pub(super) ids: Vec<Value>,
    pub(super) method: Option<String>,
    /// The revision that the message itself names (MCP 2026-07-28, "Per-request metadata").
    pub(super) version: Option<String>,
    pub(super) is_initialize: bool,
    /// What the client calls itself in `initialize`.
    pub(super) client: Option<String>,
    /// The name of the tool.
    name: Option<String>,
}

impl Message {
    /// Whether it does nothing but wait.
    pub(super) fn is_subscription(&self) -> bool {
        self.method.as_deref() == Some("subscriptions/listen")
    }

    /// The value of `Mcp-Name`. In Base64, any name can stand in a header (MCP 2026-07-28
    /// transports, "Value Encoding").
    pub(super) fn encoded_name(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(format!("=?base64?{}?=", BASE64_STANDARD.encode(name)))
    }
}

/// Reads what is needed of `line`.
pub(super) fn parse(line: &[u8]) -> Routed {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Routed::Nothing;
    }
    let Ok(members) = serde_json::from_slice::<Members<'_>>(line) else {
        return Routed::Message(Message {
            ids: ids_of_batch(line),
            ..Message::default()
        });
    };
    let method = members.get("method").and_then(|raw| text(raw));
    let params = object(&members, "params");
    let is_request = members.contains_key("method");
    if is_request && !members.contains_key("id") {
        let cancelled = params.get("requestId").and_then(|raw| value(raw));
        return match (method.as_deref(), cancelled) {
            (Some("notifications/cancelled"), Some(id)) => Routed::Cancellation(id),
            _ => Routed::Nothing,
        };
    }
    let meta = object(&params, "_meta");
    let is_initialize = method.as_deref() == Some("initialize");
    let client = object(&params, "clientInfo");
    // The id of a response is not the client's.
    let id = members.get("id").filter(|_| is_request);
    let id = id.and_then(|raw| value(raw));
    Routed::Message(Message {
        ids: id.into_iter().collect(),
        version: meta.get(VERSION_KEY).and_then(|raw| text(raw)),
        client: client_name(&client).filter(|_| is_initialize),
        is_initialize,
        name: params.get("name").and_then(|raw| text(raw)),
        method,
    })
}

/// Whether `message` is a response, and neither a request nor a notification.
pub(super) fn is_response(message: &[u8]) -> bool {
    serde_json::from_slice::<Members<'_>>(message)
        .is_ok_and(|members| !members.contains_key("method"))
}

/// The ids of the requests in a batch (MCP 2025-03-26).
fn ids_of_batch(line: &[u8]) -> Vec<Value> {
    let messages: Vec<&RawValue> = serde_json::from_slice(line).unwrap_or_default();
    let id = |message: &&RawValue| {
        let members: Members<'_> = serde_json::from_str(message.get()).ok()?;
        value(members.get("id")?)
    };
    messages.iter().filter_map(id).collect()
}

/// `name/version`, as in the `User-Agent` of a client that speaks HTTP.
fn client_name(client: &Members<'_>) -> Option<String> {
    let member = |name: &str| client.get(name).and_then(|raw| text(raw));
    let name = member("name")?;
    Some(match member("version") {
        Some(version) => format!("{name}/{version}"),
        None => name,
    })
}

fn object<'a>(members: &Members<'a>, name: &str) -> Members<'a> {
    let raw = members.get(name);
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// What is not null.
fn value(raw: &RawValue) -> Option<Value> {
    let value: Value = serde_json::from_str(raw.get()).ok()?;
    (!value.is_null()).then_some(value)
}
