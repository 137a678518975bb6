//! The tools of the API's own operations, as its description has them: listed here, and called as
//! the generic tools are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::result::add;
use crate::config::{ApiTools, Config};
use crate::openapi::{Arguments, BodyArgument, Bounds, Description, Operation, Skipped};

/// The longest entry of one tool in `tools/list`.
const MOST_TOOL_BYTES: usize = 16 * 1024;
/// As many operations as become tools by themselves, and how long all of them may be.
const MOST_NAMED: usize = 25;
const MOST_NAMED_BYTES: usize = 64 * 1024;
/// The arguments of a generic tool that an operation has of its own.
const OF_OPERATION: [&str; 4] = ["endpoint", "params", "headers", "data"];
const BODY_FILE: &str = "body_file";

/// The tools of operations.
#[derive(Default)]
pub(super) struct Described {
    pub(super) tools: BTreeMap<String, DescribedTool>,
    /// As `tools/list` gives them.
    pub(super) listed: Vec<Value>,
    /// The operations that cannot be listed.
    pub(super) skipped: Vec<Skipped>,
    /// Whether operations are found by search instead.
    pub(super) is_by_search: bool,
}

/// A tool that calls one operation.
pub(super) struct DescribedTool {
    pub(super) operation: Arc<Operation>,
    /// What calls are checked against.
    pub(super) checked: Value,
    pub(super) body: BodyArgument,
    /// The names of our arguments here, by those that they have elsewhere.
    ours: BTreeMap<String, String>,
}

impl DescribedTool {
    /// The name that our argument `name` has here.
    pub(super) fn ours(&self, name: &str) -> &str {
        self.ours.get(name).map_or("", String::as_str)
    }
}

/// The definitions of the generic tools, by their method.
pub(super) struct Generic<'a> {
    pub(super) listed: &'a [Value],
    pub(super) checked: &'a [Value],
}

impl Described {
    /// The tools that the settings want.
    pub(super) fn of(config: &Config, generic: &Generic<'_>) -> Self {
        let Some(description) = &config.description else {
            return Self::default();
        };
        let by_search = Self {
            is_by_search: true,
            ..Self::default()
        };
        let is_few = description.operations().len() <= MOST_NAMED;
        match config.api_tools {
            ApiTools::Generic => return Self::default(),
            ApiTools::Search => return by_search,
            ApiTools::Auto if !is_few => return by_search,
            ApiTools::Auto | ApiTools::Named => {}
        }
        let named = Self::all(description, generic, config.files_dir.is_some());
        let bytes: usize = named.listed.iter().map(|tool| tool.to_string().len()).sum();
        if config.api_tools == ApiTools::Auto && bytes > MOST_NAMED_BYTES {
            return by_search;
        }
        named
    }

    fn all(description: &Description, generic: &Generic<'_>, takes_files: bool) -> Self {
        let mut described = Self::default();
        for operation in description.operations() {
            let mut draft = Draft::new(operation, generic);
            let bounds = Bounds {
                most_bytes: MOST_TOOL_BYTES.saturating_sub(draft.length()),
                takes_files,
            };
            match description.arguments(operation, bounds) {
                Ok(arguments) => {
                    draft.add(&arguments);
                    let tool = DescribedTool {
                        operation: Arc::clone(operation),
                        checked: draft.checked,
                        body: arguments.body,
                        ours: draft.ours,
                    };
                    described.tools.insert(operation.name.clone(), tool);
                    described.listed.push(draft.listed);
                }
                Err(reason) => described.skipped.push(Skipped {
                    operation: operation.line(),
                    reason,
                }),
            }
        }
        described
    }
}

/// A tool that is being put together.
struct Draft {
    listed: Value,
    checked: Value,
    ours: BTreeMap<String, String>,
}

impl Draft {
    /// With our arguments alone.
    fn new(operation: &Operation, generic: &Generic<'_>) -> Self {
        let name = format!("api_{}_request", operation.method.to_ascii_lowercase());
        let listed = definition(generic.listed, &name);
        let checked = definition(generic.checked, &name);
        let mut ours = BTreeMap::new();
        let mut properties = Map::new();
        let mut checks = Map::new();
        for (name, schema) in arguments(listed) {
            let is_ours = !OF_OPERATION.contains(&name.as_str())
                && (name != BODY_FILE || operation.takes_bytes());
            if !is_ours {
                continue;
            }
            let named = operation.our_argument(name);
            properties.insert(named.clone(), schema.clone());
            if let Some((_, check)) = arguments(checked).find(|(known, _)| *known == name) {
                checks.insert(named.clone(), check.clone());
            }
            ours.insert(name.clone(), named);
        }
        let listed = json!({
            "name": operation.name,
            "title": operation.title(),
            "description": operation.text(),
            "inputSchema": {
                "type": "object",
                "properties": properties,
                "additionalProperties": false,
            },
            "annotations": listed.and_then(|tool| tool.get("annotations")),
        });
        let checked = json!({"properties": checks});
        Self {
            listed,
            checked,
            ours,
        }
    }

    fn length(&self) -> usize {
        self.listed.to_string().len() + r#","required":[]"#.len()
    }

    /// Adds the operation's own arguments.
    fn add(&mut self, arguments: &Arguments) {
        let body = match &arguments.body {
            BodyArgument::Given(body) => Some(&body.argument),
            BodyArgument::None | BodyArgument::Fixed(_) => None,
        };
        for (name, schema) in &arguments.properties {
            // The API checks its body.
            let check = if body == Some(name) {
                json!({})
            } else {
                check_of(schema)
            };
            if let Some(checks) = self.checked.pointer_mut("/properties") {
                add(checks, name, Some(check));
            }
            if let Some(listed) = self.listed.pointer_mut("/inputSchema/properties") {
                add(listed, name, Some(schema.clone()));
            }
        }
        if arguments.required.is_empty() {
            return;
        }
        add(
            &mut self.checked,
            "required",
            Some(arguments.required.clone()),
        );
        if let Some(listed) = self.listed.get_mut("inputSchema") {
            add(listed, "required", Some(arguments.required.clone()));
        }
    }
}

fn definition<'a>(tools: &'a [Value], name: &str) -> Option<&'a Value> {
    let mut tools = tools.iter();
    tools.find(|tool| tool.get("name").is_some_and(|known| known == name))
}

fn arguments(tool: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    let properties = tool.and_then(|tool| tool.pointer("/inputSchema/properties"));
    properties.and_then(Value::as_object).into_iter().flatten()
}

/// What a value of an argument with the listed `schema` is checked for: only that it is a list or
/// an object where it can be one. A description may be older than its API, which checks the rest.
fn check_of(schema: &Value) -> Value {
    let branches = schema.get("anyOf").and_then(Value::as_array);
    let branches = branches.map_or_else(|| vec![schema], |branches| branches.iter().collect());
    let is_of = |wanted: &str| {
        let kinds = branches.iter().filter_map(|branch| branch.get("type"));
        kinds.filter_map(Value::as_str).any(|kind| kind == wanted)
    };
    let mut kinds = vec!["string", "number", "boolean"];
    kinds.extend(["array", "object"].into_iter().filter(|kind| is_of(kind)));
    let kinds: Vec<Value> = kinds
        .into_iter()
        .map(|kind| json!({"type": kind}))
        .collect();
    let mut check = json!({"anyOf": kinds});
    // An empty text is then no value of it.
    let takes_any_text = is_of("string") && schema.get("enum").is_none();
    if !takes_any_text {
        add(&mut check, "minLength", Some(1));
    }
    check
}
