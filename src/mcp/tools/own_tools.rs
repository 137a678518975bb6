//! This server's own tools: how they are listed, and what they take.

use std::collections::BTreeMap;

use serde_json::Value;

use super::definitions::{self, Offer};
use super::input::Input;
use crate::config::Config;
use crate::sorted;

/// Our own tools.
pub(super) struct OwnTools {
    /// As they are listed, those included that the policy forbids.
    pub(super) tools: Vec<Value>,
    /// What each takes, by its name.
    pub(super) inputs: BTreeMap<String, Input>,
}

impl OwnTools {
    pub(super) fn of(config: &Config) -> Self {
        let definitions = definitions::checked(config.max_response_bytes);
        let input = |tool: &Value| {
            let schema = tool.get("inputSchema").unwrap_or(&Value::Null);
            (name(tool).to_owned(), Input::of(schema))
        };
        let tools = definitions::listed(&Offer {
            device_codes: config.allow_device_code,
            files: config.files_dir.is_some(),
            session_cookies: !config.session_cookies.is_empty(),
            most_answer_bytes: config.max_response_bytes,
        });
        Self {
            tools,
            inputs: sorted::map(definitions.iter().map(input)),
        }
    }

    /// The tool of this name, as it is listed.
    pub(super) fn listed(&self, wanted: &str) -> Option<&Value> {
        self.tools.iter().find(|tool| name(tool) == wanted)
    }
}

/// The name of a listed tool.
pub(super) fn name(tool: &Value) -> &str {
    tool.get("name").and_then(Value::as_str).unwrap_or_default()
}
