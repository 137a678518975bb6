//! References into other files, which are not read.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use memchr::memmem;

use super::document::{Document, Node, Source, Span};
use super::text::tidy;
use super::work::Work;

/// Members that may have any content, in which a `$ref` is no reference.
const DATA: [&str; 5] = ["const", "default", "enum", "example", "examples"];
/// The longest reason.
const MOST_REASON_BYTES: usize = 300;
const REFERENCE: &str = "\"$ref\"";

/// What in a document leads to other files.
pub(super) struct Leaving {
    /// Whether anything can lead there.
    is_possible: bool,
    /// The parts that lead there, however indirectly, each with the reason as the rest of a
    /// sentence.
    parts: BTreeMap<Span, String>,
}

impl Leaving {
    /// Looks through all that the paths refer to, each part once.
    ///
    /// # Errors
    /// That is too much work.
    pub(super) fn of(source: &Source) -> Result<Self, String> {
        let mut leaving = Self {
            is_possible: may_leave(source.text()),
            parts: BTreeMap::new(),
        };
        if leaving.is_possible {
            let work = Work::new(source.text().len());
            work.for_all(|| {
                leaving.look_through(source.with(&work));
                Ok(())
            })?;
        }
        Ok(leaving)
    }

    fn look_through(&mut self, document: Document<'_>) {
        // For each part, the parts that refer to it.
        let mut users: BTreeMap<Span, Vec<Span>> = BTreeMap::new();
        let mut seen: BTreeSet<Span> = BTreeSet::new();
        let mut left: Vec<Node<'_>> = document.paths().map(|(_, item)| item).collect();
        while let Some(part) = left.pop() {
            for reference in references(part) {
                match document.target(&reference) {
                    Ok(target) => {
                        let place = document.span(target);
                        users.entry(place).or_default().push(document.span(part));
                        if seen.insert(place) {
                            left.push(target);
                        }
                    }
                    Err(reason) if is_elsewhere(&reference) => {
                        let reason = tidy(&reason, MOST_REASON_BYTES);
                        self.parts.insert(document.span(part), reason);
                    }
                    // What leads nowhere is told where it is needed.
                    Err(_) => {}
                }
            }
        }
        let mut left: Vec<(Span, String)> = self.parts.clone().into_iter().collect();
        while let Some((part, reason)) = left.pop() {
            for user in users.remove(&part).unwrap_or_default() {
                if let Entry::Vacant(place) = self.parts.entry(user) {
                    place.insert(reason.clone());
                    left.push((user, reason.clone()));
                }
            }
        }
    }

    /// Refuses `part`, of an operation, if it needs something in another file.
    ///
    /// # Errors
    /// What it needs; as the rest of a sentence.
    pub(super) fn check(&self, document: Document<'_>, part: Node<'_>) -> Result<(), String> {
        if !self.is_possible {
            return Ok(());
        }
        for reference in references(part) {
            match document.target(&reference) {
                Ok(target) => {
                    if let Some(reason) = self.parts.get(&document.span(target)) {
                        return Err(reason.clone());
                    }
                }
                Err(reason) if is_elsewhere(&reference) => return Err(reason),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether something in `text` may refer to another file. One pass shows that most documents have
/// no such reference.
fn may_leave(text: &str) -> bool {
    let mut found = memmem::find_iter(text.as_bytes(), REFERENCE.as_bytes());
    found.any(|at| {
        let behind = text.get(at + REFERENCE.len()..).unwrap_or_default();
        let value = behind.trim_start().strip_prefix(':');
        let value = value.map(str::trim_start).unwrap_or_default();
        value.starts_with('"') && !value.starts_with("\"#")
    })
}

fn is_elsewhere(reference: &str) -> bool {
    !reference.starts_with('#')
}

/// The references that stand in `part`.
fn references(part: Node<'_>) -> Vec<Cow<'_, str>> {
    let mut references = Vec::new();
    let mut left = vec![part];
    while let Some(node) = left.pop() {
        if node.json().starts_with('[') {
            left.extend(node.items());
        }
        if !node.json().starts_with('{') {
            continue;
        }
        for (name, value) in node.object().members() {
            if name == "$ref"
                && let Some(reference) = value.text()
            {
                references.push(reference);
            } else if !DATA.contains(&&**name) {
                // A property may be named $ref, too.
                left.push(value);
            }
        }
    }
    references
}
