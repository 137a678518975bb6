//! JSON Pointer (RFC 6901) into JSON that is not read into a tree: what is found keeps its own
//! text.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A pointer.
pub(crate) struct Pointer {
    text: String,
    tokens: Vec<String>,
}

impl Pointer {
    /// Reads a pointer in its string form (§5).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: String) -> Result<Self, &'static str> {
        let mut tokens = text.split('/');
        if tokens.next() != Some("") {
            return Err("it must be empty or begin with a slash");
        }
        let tokens: Option<Vec<String>> = tokens.map(unescaped).collect();
        let tokens = tokens.ok_or("behind each ~ there must be 0 (for ~) or 1 (for /)")?;
        Ok(Self { text, tokens })
    }

    /// As it was given.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its reference tokens, unescaped.
    pub(crate) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// What it points at in `json`. So many bytes as are `left` are looked through at most, and
    /// taken off it.
    pub(crate) fn find<'j>(&self, json: &'j RawValue, left: &mut usize) -> Option<&'j RawValue> {
        self.tokens.iter().try_fold(json, |json, token| {
            *left = left.checked_sub(json.get().len())?;
            member(json, token)
        })
    }
}

/// The pointer that names one member after the other.
pub(crate) fn to_text(path: &[Rc<str>]) -> String {
    let token = |name: &Rc<str>| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    path.iter().map(token).collect()
}

/// §4: `~1` is a slash and `~0` a tilde.
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.try_fold(first, |text, part| {
        let (escaped, rest) = part.split_at_checked(1)?;
        let literal = match escaped {
            "0" => "~",
            "1" => "/",
            _ => return None,
        };
        Some(text + literal + rest)
    })
}

/// The member or the item of `json` that `token` names.
pub(crate) fn member<'j>(json: &'j RawValue, token: &str) -> Option<&'j RawValue> {
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let found = match json.get().as_bytes().first() {
        Some(b'{') => reader.deserialize_map(Wanted(token)),
        Some(b'[') => reader.deserialize_seq(Wanted(token)),
        _ => return None,
    };
    found.ok().flatten()
}

/// Picks one value out of an object or an array.
struct Wanted<'t>(&'t str);

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            // Of a key that stands there twice, the last counts, as with most readers.
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>().map(drop)?;
            }
        }
        Ok(found)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let index = index(self.0);
        let (mut found, mut at) = (None, 0_usize);
        loop {
            if index == Some(at) {
                found = items.next_element()?;
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}

/// Digits without a leading zero (§4).
fn index(token: &str) -> Option<usize> {
    let is_index = token.bytes().all(|byte| byte.is_ascii_digit())
        && (token == "0" || !token.starts_with('0'));
    token.parse().ok().filter(|_| is_index)
}

/// A string in a JSON text, borrowed from it unless it has escapes.
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self(Cow::default()))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Text<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self, E> {
        Ok(Self(text.into()))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(text.to_owned().into()))
    }
}
