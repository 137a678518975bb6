//! Shortens JSON that is too long for its reader, so that it is still JSON.

use std::cmp::Reverse;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::json_pointer::Text;
use crate::sorted;

/// How many objects deep arrays are looked for.
const MOST_LEVELS: usize = 8;
/// How many arrays are considered. If there are more, these are the largest.
const MOST_ARRAYS: usize = 1000;

/// JSON without some elements of its arrays.
pub(crate) struct Shortened {
    pub(crate) json: String,
    /// What the arrays have lost.
    pub(crate) left_out: Vec<LeftOut>,
}

/// How many elements of an array were left out.
pub(crate) struct LeftOut {
    /// The names of the members that lead to the array.
    pub(crate) path: Vec<Rc<str>>,
    /// How many elements were kept: the first ones.
    pub(crate) kept: usize,
    /// How many elements were left out: the last ones.
    pub(crate) count: usize,
}

/// Shortens `json` to at most `most` bytes. The largest array keeps as many of its first elements
/// as fit. If not even one fits, other arrays are emptied, too, the larger ones first. An array
/// inside another array counts as part of an element.
///
/// Returns `None` if `json` is not JSON, or is too long even when all arrays are empty. It also
/// returns `None` if the paths of the arrays are together longer than `most`: they are reported.
pub(crate) fn shortened(json: &str, most: usize) -> Option<Shortened> {
    let whole: &RawValue = serde_json::from_str(json).ok()?;
    let mut arrays = Vec::new();
    find_arrays(whole, &[], &mut arrays);
    sort(&mut arrays);
    let (largest, others) = arrays.split_first()?;

    let json = whole.get();
    let mut excess = json.len().saturating_sub(most);
    let mut cuts = Vec::new();
    let mut others = others.iter();
    // Emptying the largest array alone would not be enough.
    while excess > largest.content_bytes() {
        let other = others.next()?;
        cuts.push(other.cut(json, other.content_bytes())?);
        excess -= other.content_bytes();
    }
    cuts.push(largest.cut(json, excess)?);
    let names = cuts.iter().flat_map(|cut| &cut.left_out.path);
    let name_bytes: usize = names.map(|name| name.len()).sum();
    if name_bytes > most {
        return None;
    }

    let mut in_order = Vec::new();
    for cut in cuts {
        sorted::insert(&mut in_order, cut, |cut| cut.start);
    }
    let mut text = String::new();
    let mut copied = 0;
    for cut in &in_order {
        text.push_str(json.get(copied..cut.start)?);
        copied = cut.end;
    }
    text.push_str(json.get(copied..)?);
    Some(Shortened {
        json: text,
        left_out: in_order.into_iter().map(|cut| cut.left_out).collect(),
    })
}

/// An array that is not inside another array.
struct Array<'j> {
    path: Vec<Rc<str>>,
    /// Its text, with the brackets.
    json: &'j str,
}

impl Array<'_> {
    /// The length of its text without the brackets.
    fn content_bytes(&self) -> usize {
        self.json.len().saturating_sub(2)
    }

    /// The cut that makes this array shorter by at least `excess` bytes. Its text is a slice of
    /// `whole`.
    fn cut(&self, whole: &str, excess: usize) -> Option<Cut> {
        let fitting = Fitting {
            array: self.json,
            most: self.json.len() - excess,
        };
        let fitted = Deserializer::from_str(self.json).deserialize_seq(fitting);
        let fitted = fitted.ok()?;
        let start = offset(whole, self.json);
        Some(Cut {
            start: start + fitted.end,
            end: start + self.json.len() - 1,
            left_out: LeftOut {
                path: self.path.clone(),
                kept: fitted.kept,
                count: fitted.count - fitted.kept,
            },
        })
    }
}

/// The last elements of an array, which are cut out of the JSON.
struct Cut {
    /// Where they begin and end in the whole JSON.
    start: usize,
    end: usize,
    left_out: LeftOut,
}

/// Sorts arrays by the length of their text, the longest first.
fn sort(arrays: &mut [Array<'_>]) {
    arrays.sort_by_key(|array| Reverse(array.json.len()));
}

/// Adds the arrays in `json` to `found`. `path` leads to `json`.
fn find_arrays<'j>(json: &'j RawValue, path: &[Rc<str>], found: &mut Vec<Array<'j>>) {
    match json.get().as_bytes().first() {
        Some(b'[') => {
            if found.len() >= 2 * MOST_ARRAYS {
                sort(found);
                found.truncate(MOST_ARRAYS);
            }
            found.push(Array {
                path: path.to_vec(),
                json: json.get(),
            });
        }
        Some(b'{') if path.len() < MOST_LEVELS => {
            // It cannot fail: this text has been parsed before.
            let _ = Deserializer::from_str(json.get()).deserialize_map(Members { path, found });
        }
        _ => {}
    }
}

/// Looks for arrays in the members of an object, to which `path` leads.
struct Members<'f, 'j> {
    path: &'f [Rc<str>],
    found: &'f mut Vec<Array<'j>>,
}

impl<'j> Visitor<'j> for Members<'_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'j>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = members.next_key()? {
            let value: &RawValue = members.next_value()?;
            if value.get().starts_with(['[', '{']) {
                let path = [self.path, &[Rc::from(name)]].concat();
                find_arrays(value, &path, self.found);
            }
        }
        Ok(())
    }
}

/// Counts the elements of `array`: all of them, and those that fit into `most` bytes together with
/// the brackets.
struct Fitting<'j> {
    array: &'j str,
    most: usize,
}

struct Fitted {
    count: usize,
    kept: usize,
    /// Where the last element that fits ends in the array.
    end: usize,
}

impl<'j> Visitor<'j> for Fitting<'j> {
    type Value = Fitted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'j>>(self, mut elements: A) -> Result<Fitted, A::Error> {
        let mut fitted = Fitted {
            count: 0,
            kept: 0,
            end: "[".len(),
        };
        while let Some(element) = elements.next_element::<&RawValue>()? {
            fitted.count += 1;
            let end = offset(self.array, element.get()) + element.get().len();
            if end + "]".len() <= self.most {
                fitted.kept = fitted.count;
                fitted.end = end;
            }
        }
        Ok(fitted)
    }
}

/// The position of `part` in `whole`, of which it is a slice.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
