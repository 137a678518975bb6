//! What `tools/list` gives: our own tools, without what the settings do not allow, and those of the
//! API's operations.

use serde_json::Value;

use super::definitions::{self, Offer};
use super::described::{Described, Generic};
use super::searched::Searched;
use crate::config::Config;
use crate::openapi::Skipped;

/// The tools of one server.
pub(crate) struct Listing {
    /// As they are listed.
    pub(crate) tools: Vec<Value>,
    /// What calls of our own tools are checked against.
    pub(super) definitions: Vec<Value>,
    pub(super) described: Described,
}

impl Listing {
    /// The tools that the settings allow.
    pub(crate) fn of(config: &Config) -> Self {
        let definitions = definitions::checked(config.max_response_bytes);
        let mut tools = definitions::listed(&Offer {
            device_codes: config.allow_device_code,
            files: config.files_dir.is_some(),
            session_cookies: !config.session_cookies.is_empty(),
            most_answer_bytes: config.max_response_bytes,
        });
        let generic = Generic {
            listed: &tools,
            checked: &definitions,
        };
        let mut described = Described::of(config, &generic);
        tools.retain(|tool| {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            if Searched::is_name(name) {
                return described.is_by_search;
            }
            method_of(name).is_none_or(|method| config.policy.can_allow(&method))
        });
        tools.append(&mut described.listed);
        Self {
            tools,
            definitions,
            described,
        }
    }

    /// The operation that the tool `name` calls, as `GET /users/{id}`, if it is one's.
    pub(crate) fn operation_of(&self, name: &str) -> Option<String> {
        let tool = self.described.tools.get(name)?;
        Some(tool.operation.line())
    }

    /// The operations that cannot be listed.
    pub(crate) fn skipped(&self) -> &[Skipped] {
        &self.described.skipped
    }

    /// Whether operations are found by search.
    pub(crate) fn is_by_search(&self) -> bool {
        self.described.is_by_search
    }
}

/// The HTTP method of the generic tool `name`; `None` for the others.
pub(super) fn method_of(name: &str) -> Option<String> {
    let method = name.strip_prefix("api_")?.strip_suffix("_request")?;
    Some(method.to_ascii_uppercase())
}
