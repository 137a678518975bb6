//! Results of tool calls, each as the members of the JSON-RPC result.

use serde_json::{Value, json};

use super::jsonrpc::quote;
use crate::error::Failure;

/// The result whose text and structured content are the JSON object `members`, or why there is none.
pub(super) fn of(result: Result<Value, Failure>) -> Vec<u8> {
    match result {
        Ok(mut members) => {
            add(&mut members, "success", Some(true));
            let structured = members.to_string();
            content(&[&structured], &[&structured], None, false)
        }
        Err(failure) => of_failure(&failure, None),
    }
}

/// What of the offer of a sign-in stands beside a failure.
const OF_OFFER: [&str; 3] = ["sign_in_url", "user_code", "errors_on_microsofts_page"];

/// A failure that a model can act on; where a sign-in mends it, with the offer of one.
pub(super) fn of_failure(failure: &Failure, offer: Option<&Value>) -> Vec<u8> {
    let mut members = json!({
        "success": false,
        "error": failure.kind.code(),
        "message": failure.message,
        "hint": failure.hint,
    });
    add(&mut members, "retry_after_seconds", failure.retry_after.map(|wait| wait.as_secs()));
    if let Some(entra) = &failure.entra {
        add(&mut members, "title", entra.title);
        add(&mut members, "aadsts", entra.aadsts);
        add(&mut members, "correlation_id", entra.correlation_id.as_deref());
        add(&mut members, "trace_id", entra.trace_id.as_deref());
        add(&mut members, "timestamp", entra.timestamp.as_deref());
    }
    for name in OF_OFFER {
        add(&mut members, name, offer.and_then(|offer| offer.get(name)).cloned());
    }
    content(&[&failure.text()], &[&members.to_string()], None, true)
}

/// `text` is what a model reads first, `structured` a JSON object, both in parts; an image is its media type and
/// its bytes in Base64. A long part is copied once as it is and once as a part of a string, and no more.
pub(super) fn content(text: &[&str], structured: &[&str], image: Option<&(String, String)>, is_error: bool) -> Vec<u8> {
    let length = |parts: &[&str]| parts.iter().map(|part| part.len()).sum::<usize>();
    // Escaping adds an eighth or so to JSON.
    let mut members = Vec::with_capacity(256 + length(text) / 8 * 9 + length(structured));
    members.extend(br#""content":[{"type":"text","text":"#);
    quote(&mut members, text);
    if let Some((media_type, base64)) = image {
        members.extend([br#"},{"type":"image","data":""#, base64.as_bytes(), br#"","mimeType":"#].concat());
        quote(&mut members, &[media_type]);
    }
    members.extend(br#"}],"structuredContent":"#);
    for part in structured {
        members.extend(part.as_bytes());
    }
    members.extend(format!(r#","isError":{is_error}"#).as_bytes());
    members
}

/// Adds the member `name` to a JSON object, when there is a value.
pub(crate) fn add(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), value.into());
    }
}
