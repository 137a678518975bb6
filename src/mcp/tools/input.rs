//! The arguments that a tool takes, as calls are checked.

use std::sync::Arc;

use serde_json::Value;

use super::schema::check_value;
use crate::mcp::jsonrpc::{Object, shown};
use crate::sorted;

/// The arguments of one tool.
#[derive(Default)]
pub(super) struct Input {
    /// Each by its name. Many tools share the schema of a value.
    arguments: Vec<(String, Arc<Value>)>,
    required: Vec<String>,
}

impl Input {
    /// What an object schema says.
    pub(super) fn of(schema: &Value) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        let arguments = properties.map(|(name, value)| (name.clone(), Arc::new(value.clone())));
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        Self {
            arguments: arguments.collect(),
            required: required.map(str::to_owned).collect(),
        }
    }

    pub(super) fn add(&mut self, name: String, value: Arc<Value>) {
        self.arguments.push((name, value));
    }

    pub(super) fn require(&mut self, names: Vec<String>) {
        self.required.extend(names);
    }

    /// The arguments that the tool demands.
    pub(super) fn required(&self) -> &[String] {
        &self.required
    }

    /// The schema of the argument `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Value>> {
        let mut arguments = self.arguments.iter();
        let found = arguments.find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// Whether the tool demands the argument `name`.
    pub(super) fn requires(&self, name: &str) -> bool {
        self.required.iter().any(|required| required == name)
    }

    /// Checks the arguments that are `given`.
    ///
    /// # Errors
    /// A sentence that names the argument and says what is wrong with it.
    pub(super) fn check(&self, given: &Object<'_>) -> Result<(), String> {
        for (name, value) in &given.0 {
            match self.get(name) {
                Some(schema) => check_value(Some(schema), value, name)?,
                None => return Err(self.unknown(name)),
            }
        }
        let mut required = self.required.iter();
        match required.find(|name| given.get(name).is_none()) {
            Some(missing) => Err(format!("The argument {missing:?} is missing.")),
            None => Ok(()),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known = sorted::set(self.arguments.iter().map(|(known, _)| known.as_str()));
        let known: Vec<&str> = known.into_iter().collect();
        let known = if known.is_empty() {
            "none is taken".to_owned()
        } else {
            known.join(", ")
        };
        format!(
            "There is no argument {:?}; the arguments are: {known}.",
            shown(name)
        )
    }
}
