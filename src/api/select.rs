//! Parts of a JSON answer, chosen by the caller.

use std::collections::BTreeSet;
use std::rc::Rc;

use serde_json::value::RawValue;
use serde_json::{Value, from_str};

use crate::error::{Failure, Kind};
use crate::json_pointer::{self, Pointer};

/// All pointers together read at most so many times the length of the answer.
const MOST_READINGS: usize = 256;

/// Which parts of an answer the caller wants.
pub(crate) enum Selection {
    /// One part, in place of the answer.
    One(Pointer),
    /// An object with a member for each pointer.
    Several(Vec<Pointer>),
}

impl Selection {
    /// Reads a pointer or a list of them.
    ///
    /// # Errors
    /// One of them is not a JSON Pointer.
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
                // A member for a pointer stands there once.
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

    /// The selected parts of `json`, cut to `most` bytes.
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

    /// All pointers, as they were given.
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

    /// The pointer into the answer to what `path` leads to in the selected parts.
    pub(crate) fn pointer_to(&self, path: &[Rc<str>]) -> String {
        match (self, path) {
            (Self::One(pointer), _) => pointer.text().to_owned() + &json_pointer::to_text(path),
            // The members of the parts are named by their pointers.
            (Self::Several(_), [pointer, inner @ ..]) => {
                pointer.to_string() + &json_pointer::to_text(inner)
            }
            (Self::Several(_), []) => String::new(),
        }
    }
}

/// The parts that were selected.
pub(crate) struct Selected {
    /// JSON, or the beginning of it if it was cut.
    pub(crate) parts: Vec<u8>,
    /// The length of all of it.
    pub(crate) length: usize,
    /// The pointers that found nothing.
    pub(crate) not_found: Vec<String>,
    /// How many bytes may still be read.
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
