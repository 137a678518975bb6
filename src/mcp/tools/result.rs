//! Results of tool calls, each as the members of the JSON-RPC result.

use std::slice;

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Failure;
use crate::mcp::jsonrpc::quote;
use crate::pieces::Pieces;

/// The result whose text and structured content are the JSON object `members`, or why there is
/// none.
pub(super) fn of(result: Result<Value, Failure>) -> Pieces {
    match result {
        Ok(mut members) => {
            add(&mut members, "success", Some(true));
            content(None, &members.to_string(), None, None, false)
        }
        Err(failure) => of_failure(&failure, None),
    }
}

/// What of the offer of a sign-in stands beside a failure.
const OF_OFFER: [&str; 2] = ["sign_in_url", "user_code"];

/// A failure that a model can act on; where a sign-in mends it, with the offer of one.
pub(super) fn of_failure(failure: &Failure, offer: Option<&Value>) -> Pieces {
    let mut members = json!({
        "success": false,
        "error": failure.kind.code(),
        "message": failure.message,
        "hint": failure.hint,
    });
    add(
        &mut members,
        "retry_after_seconds",
        failure.retry_after.map(|wait| wait.as_secs()),
    );
    if let Some(entra) = &failure.entra {
        add(&mut members, "title", entra.title);
        add(&mut members, "aadsts", entra.aadsts);
        add(
            &mut members,
            "correlation_id",
            entra.correlation_id.as_deref(),
        );
        add(&mut members, "trace_id", entra.trace_id.as_deref());
        add(&mut members, "timestamp", entra.timestamp.as_deref());
    }
    for name in OF_OFFER {
        add(
            &mut members,
            name,
            offer.and_then(|offer| offer.get(name)).cloned(),
        );
    }
    content(
        Some(&failure.text()),
        &members.to_string(),
        None,
        None,
        true,
    )
}

/// The JSON object `members`, with `data`, if any, as one more member; a model reads `text` first,
/// or else the object. An image is its media type and its bytes in Base64. A long `data` is escaped
/// once and otherwise not copied.
pub(super) fn content(
    text: Option<&str>,
    members: &str,
    data: Option<String>,
    image: Option<&(String, String)>,
    is_error: bool,
) -> Pieces {
    let open = members.strip_suffix('}').unwrap_or_default();
    let (comma, known) = data
        .as_ref()
        .map_or(("", ""), |data| (",\"data\":", data.as_str()));
    let structured = [open, comma, known, "}"];
    let text = text.as_ref().map_or(structured.as_slice(), slice::from_ref);
    // Escaping adds a sixth or so to JSON, more to some.
    let length = text.iter().map(|part| part.len()).sum::<usize>() / 4 * 5 + open.len();
    let mut json = Vec::with_capacity(256 + length);
    json.extend(br#""content":[{"type":"text","text":"#);
    quote(&mut json, text);
    if let Some((media_type, base64)) = image {
        json.extend(br#"},{"type":"image","data":""#);
        json.extend(base64.as_bytes());
        json.extend(br#"","mimeType":"#);
        quote(&mut json, &[media_type]);
    }
    json.extend(
        [
            br#"}],"structuredContent":"#,
            open.as_bytes(),
            comma.as_bytes(),
        ]
        .concat(),
    );
    let mut members = Pieces::from(json);
    if let Some(data) = data {
        members.push(data);
    }
    members.copy(format!(r#"}},"isError":{is_error}"#).as_bytes());
    members
}

/// A JSON object that is written member by member.
pub(super) struct Members(Vec<u8>);

impl Members {
    /// One without members.
    pub(super) fn new() -> Self {
        // Most have less.
        let mut json = Vec::with_capacity(512);
        json.extend_from_slice(b"{}");
        Self(json)
    }

    /// Adds the member `name`, when there is a value.
    pub(super) fn add(&mut self, name: &str, value: Option<impl Serialize>) {
        let Some(value) = value else { return };
        self.0.pop();
        self.0
            .extend_from_slice(if self.0.len() > 1 { b",\"" } else { b"\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.0, &value);
        self.0.push(b'}');
    }

    /// The object.
    pub(super) fn into_json(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }
}

/// Adds the member `name` to a JSON object, when there is a value.
pub(crate) fn add(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), value.into());
    }
}
