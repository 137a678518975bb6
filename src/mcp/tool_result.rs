//! The result of a tool call, as the members of a JSON-RPC result.

use serde_json::{Map, Value, json};

use super::jsonrpc::quoted;
use crate::error::Failure;

/// What a tool gives back.
#[derive(Debug)]
pub struct ToolResult {
    /// What a model reads first.
    pub text: String,
    /// A JSON object, as text.
    pub structured: String,
    /// An image: its media type and its bytes in Base64.
    pub image: Option<(String, String)>,
    /// Whether the call failed.
    pub is_error: bool,
}

impl ToolResult {
    /// A success whose text is its JSON.
    #[must_use]
    pub fn success(members: Value) -> Self {
        let structured = merged(json!({"success": true}), members);
        Self { text: structured.clone(), structured, image: None, is_error: false }
    }

    /// A failure that a model can act on; `members` are added to its JSON.
    #[must_use]
    pub fn failure(failure: &Failure, members: Value) -> Self {
        let mut json = json!({
            "success": false,
            "error": failure.kind.code(),
            "message": failure.message,
            "hint": failure.hint,
        });
        if let Some(json) = json.as_object_mut() {
            json.extend(failure.retry_after.map(|wait| ("retry_after_seconds".to_owned(), wait.as_secs().into())));
            json.extend(failure.aadsts.map(|number| ("aadsts".to_owned(), number.into())));
            json.extend(failure.correlation_id.clone().map(|id| ("correlation_id".to_owned(), id.into())));
        }
        Self { text: failure.text(), structured: merged(json, members), image: None, is_error: true }
    }

    /// `"content":[…],"structuredContent":{…},"isError":…`
    #[must_use]
    pub fn members(&self) -> String {
        let image = self.image.as_ref().map(|(media_type, base64)| {
            format!(r#",{{"type":"image","data":"{base64}","mimeType":{}}}"#, quoted(media_type))
        });
        format!(
            r#""content":[{{"type":"text","text":{}}}{}],"structuredContent":{},"isError":{}"#,
            quoted(&self.text),
            image.unwrap_or_default(),
            self.structured,
            self.is_error
        )
    }
}

fn merged(first: Value, second: Value) -> String {
    let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
    let mut all = members(first);
    all.extend(members(second));
    Value::Object(all).to_string()
}
