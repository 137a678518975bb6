//! The verb `tools`: which tools there are, what they cost a client's context, and which operations
//! of the API's description are skipped.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::config::Config;
use crate::json_object::Object;
use crate::mcp::tools::listing::Listing;
use crate::openapi::{Description, Skipped};

/// More tools than these are too many for some clients, and then for others.
const MANY: usize = 40;
const TOO_MANY: usize = 128;
/// What of a tool a client hands to its model.
const HANDED_ON: [&str; 3] = ["name", "description", "inputSchema"];

/// What there is to tell.
pub struct ToolReport {
    tools: Vec<Tool>,
    /// How many operations are found by search instead.
    searched: usize,
    skipped: Vec<(String, String)>,
}

struct Tool {
    name: String,
    /// The operation that it calls, if it is one's.
    operation: Option<String>,
    bytes: usize,
}

impl ToolReport {
    /// The tools of a server with these settings.
    pub fn of(config: &Config) -> Self {
        let listing = Listing::of(config);
        // It was printed a moment ago.
        let tools: Vec<Object<'_>> = serde_json::from_str(&listing.tools).unwrap_or_default();
        let tools = tools.iter().map(|tool| {
            let name = tool.text("name").unwrap_or_default();
            Tool {
                operation: listing.operation_of(&name),
                name: name.into_owned(),
                bytes: bytes(tool),
            }
        });
        let description = config.description.as_deref();
        let skipped = description.map(Description::skipped);
        let skipped = skipped.into_iter().flatten().chain(listing.skipped());
        let pair = |skipped: &Skipped| (skipped.operation.clone(), skipped.reason.clone());
        let searched = description.filter(|_| listing.is_by_search());
        Self {
            tools: tools.collect(),
            searched: searched.map_or(0, |description| description.operations().len()),
            skipped: skipped.map(pair).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.tools.iter().map(|tool| tool.bytes).sum()
    }

    fn warning(&self) -> Option<String> {
        let count = self.tools.len();
        let what = if count > TOO_MANY {
            "clients take 128 in all, some about 40"
        } else if count > MANY {
            "some clients take about 40 in all"
        } else {
            return None;
        };
        Some(format!(
            "There are {count} tools, and {what}. OPENAPI_INCLUDE offers fewer operations, and \
             API_TOOLS=search offers all of them with two tools."
        ))
    }

    /// It as lines.
    pub fn text(&self) -> String {
        let names = self.tools.iter().map(|tool| tool.name.len());
        let width = names.max().unwrap_or_default();
        let mut text = format!("{:width$}  {:>6}  operation\n", "tool", "bytes");
        // Writing into memory cannot fail.
        for tool in &self.tools {
            let operation = tool.operation.as_deref().unwrap_or_default();
            let line = format!("{:width$}  {:>6}  {operation}", tool.name, tool.bytes);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(
            text,
            "\n{} tools take {} bytes of a client's context.",
            self.tools.len(),
            self.bytes()
        );
        if self.searched > 0 {
            let _ = writeln!(text, "{} operations are found by search.", self.searched);
        }
        if let Some(warning) = self.warning() {
            let _ = writeln!(text, "Warning: {warning}");
        }
        if !self.skipped.is_empty() {
            let _ = writeln!(text, "\nSkipped operations: {}", self.skipped.len());
        }
        for (operation, reason) in &self.skipped {
            let _ = writeln!(text, "  {operation}: {reason}");
        }
        text
    }

    /// It as JSON.
    pub fn json(&self) -> String {
        let tools = self.tools.iter().map(
            |tool| json!({"name": tool.name, "operation": tool.operation, "bytes": tool.bytes}),
        );
        let tools: Vec<Value> = tools.collect();
        let skipped = self.skipped.iter();
        let skipped =
            skipped.map(|(operation, reason)| json!({"operation": operation, "reason": reason}));
        let skipped: Vec<Value> = skipped.collect();
        let report = json!({
            "tools": tools,
            "bytes": self.bytes(),
            "operations_found_by_search": self.searched,
            "skipped": skipped,
            "warning": self.warning(),
        });
        format!("{report:#}\n")
    }
}

fn bytes(tool: &Object<'_>) -> usize {
    let parts = HANDED_ON.iter().filter_map(|name| tool.get(name));
    parts.map(|part| part.get().len()).sum()
}
