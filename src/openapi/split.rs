//! Splits JSON into its parts. The text is known to be valid JSON, so only the end of each value is
//! looked for. That is much less work than to parse it.

use std::borrow::Cow;

use memchr::{memchr2, memchr3};

use crate::json_pointer::Text;

/// The members of an object; `None` if `json` is none.
pub(super) fn members(json: &str) -> Option<Vec<(Cow<'_, str>, &str)>> {
    let mut splitter = Splitter { json, at: 0 };
    splitter.enter(b'{')?;
    let mut members = Vec::new();
    while !splitter.leaves(b'}') {
        let name = text(splitter.value()?)?;
        members.push((name, splitter.value()?));
    }
    Some(members)
}

/// The items of an array; `None` if `json` is none.
pub(super) fn items(json: &str) -> Option<Vec<&str>> {
    let mut splitter = Splitter { json, at: 0 };
    splitter.enter(b'[')?;
    let mut items = Vec::new();
    while !splitter.leaves(b']') {
        items.push(splitter.value()?);
    }
    Some(items)
}

/// The text of a string; `None` if `json` is none.
pub(super) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        let Text(text) = serde_json::from_str(json).ok()?;
        return Some(text);
    }
    Some(inner.into())
}

struct Splitter<'j> {
    json: &'j str,
    /// How many of its bytes were passed.
    at: usize,
}

impl<'j> Splitter<'j> {
    fn rest(&self) -> &'j [u8] {
        self.json.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn byte(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// Passes white space, and what separates values.
    fn pass_separators(&mut self) {
        let separates = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b':');
        self.at += self.rest().iter().take_while(separates).count();
    }

    /// Passes the bracket that opens an object or an array.
    fn enter(&mut self, opening: u8) -> Option<()> {
        self.pass_separators();
        let is_there = self.byte() == Some(opening);
        self.at += 1;
        is_there.then_some(())
    }

    /// Whether the closing bracket is next, or nothing is.
    fn leaves(&mut self, closing: u8) -> bool {
        self.pass_separators();
        self.byte().is_none_or(|byte| byte == closing)
    }

    /// Passes a value.
    fn value(&mut self) -> Option<&'j str> {
        self.pass_separators();
        let start = self.at;
        match self.byte()? {
            b'"' => self.pass_string()?,
            b'{' => self.pass_nested(b'{', b'}')?,
            b'[' => self.pass_nested(b'[', b']')?,
            _ => self.pass_scalar(),
        }
        let value = self.json.get(start..self.at);
        value.filter(|value| !value.is_empty())
    }

    fn pass_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            let rest = self.rest();
            let found = memchr2(b'"', b'\\', rest)?;
            let is_end = rest.get(found) == Some(&b'"');
            // A backslash belongs to what follows.
            self.at += found + if is_end { 1 } else { 2 };
            if is_end {
                return Some(());
            }
        }
    }

    /// Passes an object or an array. Brackets of the other kind pair within it, so they need not be
    /// counted.
    fn pass_nested(&mut self, opening: u8, closing: u8) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let rest = self.rest();
            let found = memchr3(b'"', opening, closing, rest)?;
            let byte = rest.get(found).copied();
            self.at += found;
            if byte == Some(b'"') {
                self.pass_string()?;
                continue;
            }
            self.at += 1;
            if byte == Some(opening) {
                depth += 1;
                continue;
            }
            depth -= 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Passes a number, `true`, `false` or `null`.
    fn pass_scalar(&mut self) {
        let is_part =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        self.at += self.rest().iter().take_while(is_part).count();
    }
}
