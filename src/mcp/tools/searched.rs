//! The two tools that find and describe the API's operations, which the generic tools then call.

use std::sync::Arc;

use serde_json::{Value, json};

use super::result::add;
use crate::error::{Failure, Kind};
use crate::openapi::search::Index;
use crate::openapi::{Bounds, Description, Operation};
use crate::sorted;

pub(super) const FIND: &str = "find_operations";
pub(super) const DESCRIBE: &str = "describe_operation";

/// The most bytes in which the arguments of an operation are described.
const MOST_ARGUMENT_BYTES: usize = 16 * 1024;
/// How many tags are named to a model that names none of them.
const MOST_TAGS: usize = 50;
/// How many operations of a tag are listed when no word fits.
const MOST_LISTED: usize = 10;

/// Finds and describes the operations of a description.
pub(super) struct Searched {
    description: Arc<Description>,
    index: Index,
    takes_files: bool,
}

impl Searched {
    /// Whether `tool` is one of the two.
    pub(super) fn is_name(tool: &str) -> bool {
        matches!(tool, FIND | DESCRIBE)
    }

    pub(super) fn new(description: &Arc<Description>, takes_files: bool) -> Self {
        Self {
            description: Arc::clone(description),
            index: Index::new(description.operations()),
            takes_files,
        }
    }

    /// The operations that fit `query`, of those with `tag`.
    pub(super) fn find(&self, query: &str, tag: Option<&str>) -> Result<Value, Failure> {
        let operations = self.description.operations();
        let has_tag = |operation: &Operation| match tag {
            Some(tag) => operation
                .tags
                .iter()
                .any(|known| known.eq_ignore_ascii_case(tag)),
            None => true,
        };
        if !operations.iter().any(|operation| has_tag(operation)) {
            let message = format!("No operation has the tag {:?}.", tag.unwrap_or_default());
            return Err(Failure::new(Kind::InvalidRequest, message).hint(self.tags()));
        }
        let may_be_found = |number: usize| {
            operations
                .get(number)
                .is_some_and(|operation| has_tag(operation))
        };
        let found = self.index.find(query, may_be_found);
        let mut found: Vec<&Operation> = found
            .into_iter()
            .filter_map(|number| operations.get(number).map(AsRef::as_ref))
            .collect();
        if found.is_empty() && tag.is_some() {
            let tagged = operations.iter().filter(|operation| has_tag(operation));
            found.extend(tagged.map(AsRef::as_ref).take(MOST_LISTED));
        }
        let is_empty = found.is_empty();
        let mut result = json!({"operations": found.into_iter().map(line).collect::<Vec<Value>>()});
        if is_empty {
            let hint = format!("No operation has these words: use others. {}", self.tags());
            add(&mut result, "hint", Some(hint));
        }
        Ok(result)
    }

    /// What the operation that `text` names takes.
    pub(super) fn describe(&self, text: &str) -> Result<Value, Failure> {
        let operation = self.description.operation(text).ok_or_else(|| {
            Failure::new(
                Kind::InvalidRequest,
                format!("There is no operation {text:?}."),
            )
            .hint("Give an operation as find_operations names it.")
        })?;
        let bounds = Bounds {
            most_bytes: MOST_ARGUMENT_BYTES,
            takes_files: self.takes_files,
        };
        self.description
            .describe(operation, bounds)
            .map_err(|reason| {
                let message = format!("{} cannot be described: {reason}.", operation.line());
                Failure::new(Kind::InvalidRequest, message)
                    .hint("Call it with the generic tool of its method.")
            })
    }

    /// A sentence with the tags that there are.
    fn tags(&self) -> String {
        let operations = self.description.operations().iter();
        let tags = operations.flat_map(|operation| operation.tags.iter().map(String::as_str));
        let tags = sorted::set(tags);
        let named: Vec<&str> = tags.iter().copied().take(MOST_TAGS).collect();
        match named.as_slice() {
            [] => "There are no tags.".to_owned(),
            _ if tags.len() > MOST_TAGS => format!("Some of the tags: {}.", named.join(", ")),
            _ => format!("The tags: {}.", named.join(", ")),
        }
    }
}

fn line(operation: &Operation) -> Value {
    json!({
        "id": operation.handle(),
        "method": operation.method,
        "path": operation.path,
        "summary": operation.short_text(),
    })
}
