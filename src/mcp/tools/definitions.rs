//! The definitions of the tools. `tools.json` says once what tools have in common; each definition
//! is put together from it when the server starts.

use serde_json::{Map, Value, json};

use super::result::add;
use super::schema;

/// The least that a caller may want of an answer. Less is of no use.
const LEAST_ANSWER_BYTES: usize = 1024;

/// What the settings allow.
pub(super) struct Offer {
    pub(super) device_codes: bool,
    pub(super) files: bool,
    /// How much of an answer is handed on at most, in bytes.
    pub(super) most_answer_bytes: usize,
}

impl Offer {
    /// Whether the argument or member of results `name` is offered.
    fn has(&self, name: &str) -> bool {
        match name {
            "method" | "user_code" => self.device_codes,
            "save_to" | "body_file" | "file" => self.files,
            "max_bytes" => self.most_answer_bytes >= LEAST_ANSWER_BYTES,
            _ => true,
        }
    }
}

/// The definitions that calls are checked against. They have every argument, so that one which is
/// not offered is refused with the setting that would allow it.
pub(super) fn checked(most_answer_bytes: usize) -> Vec<Value> {
    let everything = Offer {
        device_codes: true,
        files: true,
        most_answer_bytes,
    };
    put_together(&everything)
}

/// The definitions as `tools/list` gives them.
pub(super) fn listed(offer: &Offer) -> Vec<Value> {
    let mut tools = put_together(offer);
    for tool in &mut tools {
        if tool.pointer("/inputSchema/properties/save_to").is_some() {
            admit_writing(tool);
        }
        if let Some(input) = tool.get_mut("inputSchema") {
            schema::list(input);
        }
    }
    tools
}

fn put_together(offer: &Offer) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("tools.json")).unwrap_or_default();
    let shared = file.get("shared").unwrap_or(&Value::Null);
    let tools = file.get("tools").and_then(Value::as_array);
    let tools = tools.into_iter().flatten();
    tools.map(|tool| definition(tool, shared, offer)).collect()
}

fn definition(tool: &Value, shared: &Value, offer: &Offer) -> Value {
    let mut input = json!({
        "type": "object",
        "properties": properties(tool.get("takes"), shared, offer),
        "additionalProperties": false,
    });
    add(&mut input, "required", tool.get("requires").cloned());
    if let Some(max_bytes) = input.pointer_mut("/properties/max_bytes") {
        add(max_bytes, "minimum", Some(LEAST_ANSWER_BYTES));
        add(max_bytes, "maximum", Some(offer.most_answer_bytes));
    }
    let output = json!({
        "type": "object",
        "properties": properties(tool.get("gives"), shared, offer),
        "required": ["success"],
    });
    json!({
        "name": tool.get("name"),
        "title": tool.get("title"),
        "description": tool.get("description"),
        "inputSchema": input,
        "outputSchema": output,
        "annotations": tool.get("annotations"),
    })
}

/// The properties of `sets`. Each is the name of a shared set, or a set itself; a later one may say
/// more of the same property.
fn properties(sets: Option<&Value>, shared: &Value, offer: &Offer) -> Map<String, Value> {
    let mut properties = Map::new();
    for set in sets.and_then(Value::as_array).into_iter().flatten() {
        let set = match set {
            Value::String(name) => shared.get(name),
            own => Some(own),
        };
        for (name, schema) in set.and_then(Value::as_object).into_iter().flatten() {
            if offer.has(name) {
                properties.insert(name.clone(), schema.clone());
            }
        }
    }
    properties
}

/// A call that can make a file does not only read.
fn admit_writing(tool: &mut Value) {
    if let Some(annotations) = tool.get_mut("annotations") {
        add(annotations, "readOnlyHint", Some(false));
        add(annotations, "destructiveHint", Some(false));
    }
}
