//! JSON that is too long for its reader, made shorter so that it stays JSON.

use std::cmp::Reverse;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use crate::json_pointer::Text;

/// Arrays below more objects than these are not looked for.
const MOST_LEVELS: usize = 8;
/// Of more arrays than these, the largest count.
const MOST_ARRAYS: usize = 1000;

/// JSON without some elements of its arrays.
pub(crate) struct Shortened {
    pub(crate) json: String,
    /// What the arrays have lost.
    pub(crate) left_out: Vec<LeftOut>,
}

/// How many elements of an array were left out.
pub(crate) struct LeftOut {
    /// The members that lead to the array.
    pub(crate) path: Vec<Rc<str>>,
    /// How many of its first elements are still there.
    pub(crate) kept: usize,
    /// How many are not.
    pub(crate) count: usize,
}

/// `json` in at most `most` bytes. The largest array keeps as many of its first elements as there
/// is room for. Where there is room for none, the other arrays lose theirs, too, the larger ones
/// first. An array in another one is part of an element. `None` where `json` is none, or is too
/// long without all of them, or what leads to them is too long itself.
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
    while excess > largest.content_bytes() {
        let other = others.next()?;
        cuts.push(other.cut(json, other.content_bytes())?);
        excess -= other.content_bytes();
    }
    cuts.push(largest.cut(json, excess)?);
    let names = cuts.iter().flat_map(|cut| &cut.left_out.path);
    if names.map(|name| name.len()).sum::<usize>() > most {
        return None;
    }

    cuts.sort_by_key(|cut| cut.start);
    let mut text = String::new();
    let mut at = 0;
    for cut in &cuts {
        text.push_str(json.get(at..cut.start)?);
        at = cut.end;
    }
    text.push_str(json.get(at..)?);
    Some(Shortened {
        json: text,
        left_out: cuts.into_iter().map(|cut| cut.left_out).collect(),
    })
}

/// An array that is not in another one.
struct Array<'j> {
    path: Vec<Rc<str>>,
    /// With its brackets.
    json: &'j str,
}

impl Array<'_> {
    /// The length without the brackets.
    fn content_bytes(&self) -> usize {
        self.json.len().saturating_sub(2)
    }

    /// The cut that makes this array, a part of `whole`, shorter by at least `excess` bytes.
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

/// What is cut out of the JSON: the last elements of an array.
struct Cut {
    start: usize,
    end: usize,
    left_out: LeftOut,
}

/// The largest first.
fn sort(arrays: &mut [Array<'_>]) {
    arrays.sort_by_key(|array| Reverse(array.json.len()));
}

/// Adds the arrays in `json`, to which `path` leads.
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
            // It has been read once already.
            let _ = Deserializer::from_str(json.get()).deserialize_map(Members { path, found });
        }
        _ => {}
    }
}

/// Looks for arrays in the members of an object.
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

/// Counts the elements of `array`, and those that fit into `most` bytes with its brackets.
struct Fitting<'j> {
    array: &'j str,
    most: usize,
}

struct Fitted {
    count: usize,
    kept: usize,
    /// Where the last element that fits ends.
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

/// Where `part` stands in `whole`, of which it is a slice.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
