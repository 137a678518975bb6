//! Parts of a JSON answer, chosen by the caller.

use serde_json::value::RawValue;
use serde_json::{Value, from_str};

use crate::error::{Failure, Kind};
use crate::json_pointer::Pointer;

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
                Failure::new(Kind::InvalidRequest, format!("The pointer {text:?} in select is refused: {reason}."))
                    .hint("Write JSON Pointers (RFC 6901), such as /value/0/subject.")
            })
        };
        match from_str::<Vec<String>>(json.get()) {
            Ok(texts) => texts.into_iter().map(pointer).collect::<Result<_, _>>().map(Self::Several),
            Err(_) => pointer(from_str(json.get()).unwrap_or_default()).map(Self::One),
        }
    }

    /// The parts of `json` as JSON, and the pointers that found nothing there.
    pub(crate) fn of(&self, json: &RawValue) -> (String, Vec<String>) {
        let mut missing = Vec::new();
        let mut find = |pointer: &Pointer| {
            let found = pointer.find(json).map(RawValue::get);
            if found.is_none() {
                missing.push(pointer.text().to_owned());
            }
            found
        };
        let parts = match self {
            Self::One(pointer) => find(pointer).unwrap_or("null").to_owned(),
            Self::Several(pointers) => {
                let member = |pointer| Some(format!("{}:{}", Value::from(Pointer::text(pointer)), find(pointer)?));
                let members: Vec<String> = pointers.iter().filter_map(member).collect();
                format!("{{{}}}", members.join(","))
            }
        };
        (parts, missing)
    }

    /// Every pointer, as it was given.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let pointers = match self {
            Self::One(pointer) => std::slice::from_ref(pointer),
            Self::Several(pointers) => pointers,
        };
        pointers.iter().map(|pointer| pointer.text().to_owned()).collect()
    }
}
