//! The tools of the API's own operations, as its description has them: listed here, and called as
//! the generic tools are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::input::Input;
use super::own_tools::OwnTools;
use super::result::add;
use crate::api::policy::METHODS;
use crate::config::{ApiTools, Config};
use crate::mcp::jsonrpc::quoted;
use crate::openapi::listed::Schema;
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
    /// Their entries in `tools/list`, with commas between.
    pub(super) listed: String,
    /// The operations that cannot be listed.
    pub(super) skipped: Vec<Skipped>,
    /// Whether operations are found by search instead.
    pub(super) is_by_search: bool,
}

/// A tool that calls one operation.
pub(super) struct DescribedTool {
    pub(super) operation: Arc<Operation>,
    pub(super) input: Input,
    pub(super) body: BodyArgument,
}

impl DescribedTool {
    /// The name that the argument `name` of the generic tools has here.
    pub(super) fn ours(&self, name: &str) -> String {
        self.operation.our_argument(name)
    }
}

impl Described {
    /// The tools that the settings want.
    pub(super) fn of(config: &Config, own: &OwnTools) -> Self {
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
        let named = Self::all(description, own, config.files_dir.is_some());
        if config.api_tools == ApiTools::Auto && named.listed.len() > MOST_NAMED_BYTES {
            return by_search;
        }
        named
    }

    fn all(description: &Description, own: &OwnTools, takes_files: bool) -> Self {
        let generic = METHODS.map(|method| (method, Generic::of(method, own)));
        let reading = description.reading();
        let mut checks = Checks::default();
        let mut described = Self::default();
        for operation in description.operations() {
            let of_method = generic
                .iter()
                .find(|(method, _)| *method == operation.method);
            let Some((_, generic)) = of_method else {
                continue;
            };
            let mut draft = Draft::new(operation, generic);
            // What the operation's own arguments add to this must fit, too.
            let length = draft.printed().len() + r#","required":[]"#.len();
            let bounds = Bounds {
                most_bytes: MOST_TOOL_BYTES.saturating_sub(length),
                takes_files,
            };
            match reading.arguments(operation, bounds) {
                Ok(arguments) => {
                    draft.add(&arguments, &mut checks);
                    if !described.listed.is_empty() {
                        described.listed.push(',');
                    }
                    described.listed.push_str(&draft.printed());
                    let tool = DescribedTool {
                        operation: Arc::clone(operation),
                        input: draft.input,
                        body: arguments.body,
                    };
                    described.tools.insert(operation.name.clone(), tool);
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

/// What the tools of one method have of its generic tool.
struct Generic {
    /// As JSON.
    annotations: String,
    arguments: Vec<GenericArgument>,
}

struct GenericArgument {
    name: String,
    /// Its schema as it is listed, as JSON.
    listed: String,
    checked: Arc<Value>,
}

impl Generic {
    fn of(method: &str, own: &OwnTools) -> Self {
        let tool = format!("api_{}_request", method.to_ascii_lowercase());
        let listed = own.listed(&tool);
        let input = own.inputs.get(&tool);
        let annotations = listed.and_then(|listed| listed.get("annotations"));
        let properties = listed.and_then(|listed| listed.pointer("/inputSchema/properties"));
        let properties = properties.and_then(Value::as_object).into_iter().flatten();
        let mut arguments = Vec::new();
        for (name, listed) in properties {
            if OF_OPERATION.contains(&name.as_str()) {
                continue;
            }
            if let Some(checked) = input.and_then(|input| input.get(name)) {
                arguments.push(GenericArgument {
                    name: name.clone(),
                    listed: listed.to_string(),
                    checked: Arc::clone(checked),
                });
            }
        }
        Self {
            annotations: json!(annotations).to_string(),
            arguments,
        }
    }
}

/// A tool that is being put together.
struct Draft<'a> {
    operation: &'a Operation,
    annotations: &'a str,
    /// The listed schema of each argument, as JSON.
    properties: BTreeMap<String, String>,
    input: Input,
}

impl<'a> Draft<'a> {
    /// With the arguments of the generic tools alone.
    fn new(operation: &'a Operation, generic: &'a Generic) -> Self {
        let mut draft = Self {
            operation,
            annotations: &generic.annotations,
            properties: BTreeMap::new(),
            input: Input::default(),
        };
        for argument in &generic.arguments {
            if argument.name == BODY_FILE && !operation.takes_bytes() {
                continue;
            }
            let name = operation.our_argument(&argument.name);
            draft.input.add(name.clone(), Arc::clone(&argument.checked));
            draft.properties.insert(name, argument.listed.clone());
        }
        draft
    }

    /// Adds the operation's own arguments.
    fn add(&mut self, arguments: &Arguments, checks: &mut Checks) {
        let body = match &arguments.body {
            BodyArgument::Given(body) => Some(&body.argument),
            BodyArgument::None | BodyArgument::Fixed(_) => None,
        };
        for (name, schema) in &arguments.properties {
            let check = if body == Some(name) {
                checks.of_body()
            } else {
                checks.of(schema)
            };
            self.input.add(name.clone(), check);
            self.properties.insert(name.clone(), schema.json());
        }
        self.input.require(arguments.required.clone());
    }

    /// Its entry in `tools/list`.
    fn printed(&self) -> String {
        let properties = self.properties.iter();
        let properties: Vec<String> = properties
            .map(|(name, schema)| format!("{}:{schema}", quoted(name)))
            .collect();
        let required = self.input.required();
        let required = if required.is_empty() {
            String::new()
        } else {
            format!(r#","required":{}"#, json!(required))
        };
        format!(
            r#"{{"annotations":{},"description":{},"inputSchema":{{"additionalProperties":false,"properties":{{{}}}{required},"type":"object"}},"name":{},"title":{}}}"#,
            self.annotations,
            quoted(&self.operation.text()),
            properties.join(","),
            quoted(&self.operation.name),
            quoted(&self.operation.title()),
        )
    }
}

/// What the operations' own arguments are checked for: only whether a value is a list or an object
/// where it cannot be one. A description may be older than its API, which checks the rest.
#[derive(Default)]
struct Checks(BTreeMap<Option<Check>, Arc<Value>>);

/// What differs between the checks of two arguments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Check {
    takes_arrays: bool,
    takes_objects: bool,
    takes_any_text: bool,
}

impl Checks {
    /// Of a body: nothing, since the API checks it.
    fn of_body(&mut self) -> Arc<Value> {
        self.shared(None)
    }

    /// Of an argument with the listed `schema`.
    fn of(&mut self, schema: &Schema) -> Arc<Value> {
        self.shared(Some(Check {
            takes_arrays: schema.takes_arrays(),
            takes_objects: schema.takes_objects(),
            takes_any_text: schema.takes_any_text(),
        }))
    }

    fn shared(&mut self, check: Option<Check>) -> Arc<Value> {
        let made = || Arc::new(check.map_or_else(|| json!({}), Check::schema));
        Arc::clone(self.0.entry(check).or_insert_with(made))
    }
}

impl Check {
    fn schema(self) -> Value {
        let mut kinds = vec!["string", "number", "boolean"];
        if self.takes_arrays {
            kinds.push("array");
        }
        if self.takes_objects {
            kinds.push("object");
        }
        let branches = kinds.into_iter().map(|kind| json!({"type": kind}));
        let branches: Vec<Value> = branches.collect();
        let mut schema = json!({"anyOf": branches});
        // An empty text is then no value of it.
        if !self.takes_any_text {
            add(&mut schema, "minLength", Some(1));
        }
        schema
    }
}
