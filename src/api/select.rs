//! Parts of a JSON answer, chosen by the caller.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Value, from_str};

use crate::error::{Failure, Kind};
use crate::json_pointer::Pointer;

/// An answer is looked through so often at most, all pointers and their parts together.
const MOST_READINGS: usize = 256;

/// What of an answer is wanted.
pub(crate) enum Selection {
    /// One part, in the answer's place.
    One(Pointer),
    /// An object of parts, by their pointers.
    Several(Vec<Pointer>),
}

impl Selection {
    /// Reads a pointer or a list of them.
    ///
    /// # Errors
    /// Which of them is none.
    pub(crate) fn parse(json: &RawValue) -> Result<Self, Failure> {
        let pointer = |text: String| {
            Pointer::parse(text.clone()).map_err(|reason| {
                Failure::new(
                    Kind::InvalidRequest,
                    format!("The pointer {text:?} in select is refused: {reason}."),
                )
                .hint("Write JSON Pointers (RFC 6901), such as /value/0/subject.")
            })
        };
        match from_str::<Vec<String>>(json.get()) {
            Ok(mut texts) => {
                // One member for each.
                let mut known = BTreeSet::new();
                texts.retain(|text| known.insert(text.clone()));
                texts
                    .into_iter()
                    .map(pointer)
                    .collect::<Result<_, _>>()
                    .map(Self::Several)
            }
            Err(_) => pointer(from_str(json.get()).unwrap_or_default()).map(Self::One),
        }
    }

    /// The parts of `json` as JSON, of which at most `most` bytes are copied, together.
    pub(crate) fn of(&self, json: &RawValue, most: usize) -> Selected {
        let left = json.get().len().saturating_mul(MOST_READINGS);
        let mut selected = Selected {
            parts: Vec::new(),
            length: 0,
            not_found: Vec::new(),
            left,
        };
        match self {
            Self::One(pointer) => {
                let found = selected.find(pointer, json);
                selected.add(found.unwrap_or("null"), most);
            }
            Self::Several(pointers) => {
                selected.add("{", most);
                for pointer in pointers {
                    let Some(found) = selected.find(pointer, json) else {
                        continue;
                    };
                    let comma = if selected.length == 1 { "" } else { "," };
                    let name = Value::from(pointer.text()).to_string();
                    for part in [comma, &name, ":", found] {
                        selected.add(part, most);
                    }
                }
                selected.add("}", most);
            }
        }
        selected
    }

    /// Every pointer, as it was given.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let pointers = match self {
            Self::One(pointer) => std::slice::from_ref(pointer),
            Self::Several(pointers) => pointers,
        };
        pointers
            .iter()
            .map(|pointer| pointer.text().to_owned())
            .collect()
    }
}

/// What was selected of an answer.
pub(crate) struct Selected {
    /// JSON, or the beginning of it.
    pub(crate) parts: Vec<u8>,
    /// The length of the whole.
    pub(crate) length: usize,
    /// The pointers that found nothing.
    pub(crate) not_found: Vec<String>,
    /// So many bytes may still be looked through.
    left: usize,
}

impl Selected {
    fn find<'j>(&mut self, pointer: &Pointer, json: &'j RawValue) -> Option<&'j str> {
        let found = pointer.find(json, &mut self.left).map(RawValue::get);
        if found.is_none() {
            self.not_found.push(pointer.text().to_owned());
        }
        found
    }

    fn add(&mut self, part: &str, most: usize) {
        let room = most - self.parts.len();
        self.parts
            .extend_from_slice(part.as_bytes().get(..room).unwrap_or(part.as_bytes()));
        self.length += part.len();
    }
}
