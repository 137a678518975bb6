//! What `tools/list` gives: our own tools, without what the settings do not allow, and those of the
//! API's operations.

use std::collections::BTreeMap;

use super::described::Described;
use super::input::Input;
use super::own_tools::{OwnTools, name};
use super::searched::Searched;
use crate::config::Config;
use crate::openapi::Skipped;

/// The tools of one server.
pub(crate) struct Listing {
    /// As they are listed: a JSON array.
    pub(crate) tools: String,
    /// What each of our own tools takes, by its name.
    pub(super) inputs: BTreeMap<String, Input>,
    pub(super) described: Described,
}

impl Listing {
    /// The tools that the settings allow.
    pub(crate) fn of(config: &Config) -> Self {
        let own = OwnTools::of(config);
        let mut described = Described::of(config, &own);
        let mut tools = String::from("[");
        for tool in &own.tools {
            let name = name(tool);
            let is_allowed = if Searched::is_name(name) {
                described.is_by_search
            } else {
                method_of(name).is_none_or(|method| config.policy.can_allow(&method))
            };
            if is_allowed {
                tools.push_str(&tool.to_string());
                tools.push(',');
            }
        }
        tools.push_str(&std::mem::take(&mut described.listed));
        if tools.ends_with(',') {
            tools.pop();
        }
        tools.push(']');
        Self {
            tools,
            inputs: own.inputs,
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
