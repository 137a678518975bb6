//! Which operations are offered: what `OPENAPI_INCLUDE` and `OPENAPI_EXCLUDE` say, and what the
//! policy forbids. An offer is no permission: other operations can still be called.

use super::operation::Operation;
use crate::api::policy::{METHODS, Pattern};

/// An entry of `OPENAPI_INCLUDE` or `OPENAPI_EXCLUDE`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As it was written.
    pub text: String,
    means: Meaning,
}

#[derive(Clone, Debug)]
enum Meaning {
    Tag(String),
    Id(String),
    Endpoint { method: &'static str, path: Pattern },
}

impl Entry {
    /// Reads `tag:NAME`, `METHOD /pattern` or an operation id.
    ///
    /// # Errors
    /// How to correct it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err("leave out what does not show".to_owned());
        }
        let means = if let Some(tag) = text.strip_prefix("tag:") {
            if tag.trim().is_empty() {
                return Err("write the name of a tag behind tag:".to_owned());
            }
            Meaning::Tag(tag.trim().to_owned())
        } else if let Some((method, path)) = text.split_once(char::is_whitespace) {
            let known = METHODS
                .into_iter()
                .find(|known| known.eq_ignore_ascii_case(method));
            let method = known.ok_or_else(|| {
                format!(
                    "write tag:NAME, an operation id, or one of {} and a path, not {text:?}",
                    METHODS.join(", ")
                )
            })?;
            let path = Pattern::parse(path.trim())?;
            Meaning::Endpoint { method, path }
        } else {
            Meaning::Id(text.to_owned())
        };
        Ok(Self {
            text: text.to_owned(),
            means,
        })
    }

    fn fits(&self, operation: &Operation) -> bool {
        match &self.means {
            Meaning::Tag(tag) => operation.tags.contains(tag),
            Meaning::Id(id) => operation.id.as_ref() == Some(id) || operation.name == *id,
            // A parameter is written in braces, which no pattern contains: only a * matches it.
            Meaning::Endpoint { method, path } => {
                operation.method == *method && path.fits(&operation.path)
            }
        }
    }
}

/// Which operations the settings offer.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// If there are any, only operations that fit one are offered.
    pub include: Vec<Entry>,
    /// Operations that fit one are not offered.
    pub exclude: Vec<Entry>,
}

impl Wanted {
    /// Whether `operation` is wanted.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn check(&self, operation: &Operation) -> Result<(), String> {
        let fits = |entry: &Entry| entry.fits(operation);
        let is_named = self.include.iter().any(fits);
        if self.exclude.iter().any(fits) {
            return Err("OPENAPI_EXCLUDE has it".to_owned());
        }
        if operation.is_deprecated && !is_named {
            return Err("it is deprecated, and OPENAPI_INCLUDE does not name it".to_owned());
        }
        if !self.include.is_empty() && !is_named {
            return Err("OPENAPI_INCLUDE does not have it".to_owned());
        }
        Ok(())
    }

    /// The entries that fit none of `operations`, as warnings.
    pub(super) fn doubts(&self, operations: &[Operation]) -> Vec<String> {
        let fits_nothing =
            |entry: &&Entry| !operations.iter().any(|operation| entry.fits(operation));
        let settings = [
            ("OPENAPI_INCLUDE", &self.include),
            ("OPENAPI_EXCLUDE", &self.exclude),
        ];
        let mut doubts = Vec::new();
        for (setting, entries) in settings {
            for entry in entries.iter().filter(fits_nothing) {
                doubts.push(format!(
                    "{setting} has {:?}, which fits no operation of OPENAPI_FILE.",
                    entry.text
                ));
            }
        }
        doubts
    }
}
