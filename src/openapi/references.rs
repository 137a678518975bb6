//! References into other files, which are not read.

use std::collections::BTreeSet;

use memchr::memmem;

use super::document::{Document, Node, Span};

/// Members that may have any content, in which a `$ref` is no reference.
const DATA: [&str; 5] = ["const", "default", "enum", "example", "examples"];
const REFERENCE: &str = "\"$ref\"";

/// Whether something in `document` may refer to another file. One pass over the text shows that
/// most documents have no such reference.
pub(super) fn may_leave(document: &Document) -> bool {
    let text = document.text();
    let mut found = memmem::find_iter(text.as_bytes(), REFERENCE.as_bytes());
    found.any(|at| {
        let behind = text.get(at + REFERENCE.len()..).unwrap_or_default();
        let value = behind.trim_start().strip_prefix(':');
        let value = value.map(str::trim_start).unwrap_or_default();
        value.starts_with('"') && !value.starts_with("\"#")
    })
}

/// Looks through `nodes` and all that they refer to.
///
/// # Errors
/// Something in another file is needed; as the rest of a sentence.
pub(super) fn check<'d>(
    document: &'d Document,
    nodes: impl Iterator<Item = Node<'d>>,
) -> Result<(), String> {
    let mut left: Vec<Node<'d>> = nodes.collect();
    let mut seen: BTreeSet<Span> = BTreeSet::new();
    while let Some(node) = left.pop() {
        if node.json().starts_with('[') {
            left.extend(node.items());
        }
        for (name, value) in node.object().0 {
            let value = Node::from(value);
            if name != "$ref" {
                if !DATA.contains(&&*name) {
                    left.push(value);
                }
                continue;
            }
            // A property may have this name, too.
            let Some(reference) = value.text() else {
                left.push(value);
                continue;
            };
            if !reference.starts_with('#') {
                document.target(&reference)?;
            } else if let Ok(target) = document.target(&reference)
                && seen.insert(document.span(target))
            {
                left.push(target);
            }
        }
    }
    Ok(())
}
