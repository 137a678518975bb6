//! Takes secrets out of the API's answer: the access tokens that were sent with the call, the keys
//! among the fixed headers, and the session cookies of the account. Some APIs send back what they
//! were sent, and no assistant is given any of these.

use std::cell::Cell;
use std::ops::Range;

use memchr::memmem::Finder;

use crate::secret::Secret;

/// Replaces a token.
const TOKEN_MARKER: &[u8] = b"[access token removed]";
/// Replaces a key.
const KEY_MARKER: &[u8] = b"[key removed]";
/// Replaces a session cookie.
const COOKIE_MARKER: &[u8] = b"[session cookie removed]";
/// The least length of a secret that is searched for.
const LEAST_BYTES: usize = 8;
/// How many bytes of a token are searched for. The end of a signature is unlike anything else.
const MOST_ANCHOR_BYTES: usize = 256;
/// By how many bytes all places of a token together may be longer than the text. Real ones hardly
/// overlap. Without a limit, an API could choose a cookie and a text in which every byte begins a
/// comparison with the whole cookie.
const MOST_OVERLAP_BYTES: usize = 64 * 1024;
/// The length of the longest form of one character, as in `\u002b`.
const MOST_FORM_BYTES: usize = 6;

/// The tokens and the keys that were sent with a call, and the cookies of its account.
pub(crate) struct Tokens<'a> {
    tokens: Vec<Needle<'a>>,
    has_removed: Cell<bool>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(
        tokens: &[&'a Secret],
        keys: impl Iterator<Item = &'a Secret>,
        cookies: &'a [Secret],
    ) -> Self {
        let tokens = tokens
            .iter()
            .filter_map(|token| Needle::new(token, TOKEN_MARKER));
        let keys = keys.filter_map(|key| Needle::new(key, KEY_MARKER));
        let cookies = cookies
            .iter()
            .filter_map(|cookie| Needle::new(cookie, COOKIE_MARKER));
        Self {
            tokens: tokens.chain(keys).chain(cookies).collect(),
            has_removed: Cell::new(false),
        }
    }

    /// Whether one was taken out of anything.
    pub(crate) fn has_removed(&self) -> bool {
        self.has_removed.get()
    }

    /// The most bytes that a token can have in an answer.
    pub(crate) fn longest(&self) -> usize {
        let longest = self.tokens.iter().map(Needle::longest).max();
        longest.unwrap_or_default()
    }

    /// The first `most` of `bytes`, without the tokens that begin there. They are copied only if
    /// there is one.
    pub(crate) fn taken_out(&self, mut bytes: Vec<u8>, most: usize) -> Vec<u8> {
        let mut found: Vec<_> = self
            .tokens
            .iter()
            .flat_map(|token| {
                let ranges = token.all_in(&bytes).into_iter();
                ranges.map(|range| (range, token.marker))
            })
            .collect();
        found.sort_by_key(|(range, _)| range.start);
        let (mut kept, mut at) = (Vec::new(), 0);
        for (range, marker) in found {
            if range.start >= most {
                break;
            }
            if range.start < at {
                at = at.max(range.end);
                continue;
            }
            kept.extend_from_slice(bytes.get(at..range.start).unwrap_or_default());
            kept.extend_from_slice(marker);
            at = range.end;
        }
        if at == 0 {
            bytes.truncate(most);
            return bytes;
        }
        self.has_removed.set(true);
        let end = bytes.len().min(most);
        kept.extend_from_slice(bytes.get(at..end).unwrap_or_default());
        kept
    }

    /// `text` without the tokens.
    pub(crate) fn taken_out_of(&self, text: String) -> String {
        let bytes = self.taken_out(text.into_bytes(), usize::MAX);
        // It is still UTF-8: what was taken out is ASCII, or all that follows, and the markers are
        // ASCII.
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// One token, and the part of it that is searched for, its anchor.
struct Needle<'a> {
    token: &'a [u8],
    anchor: Range<usize>,
    /// Finds the anchor.
    finder: Finder<'a>,
    /// Replaces the token.
    marker: &'static [u8],
}

impl<'a> Needle<'a> {
    fn new(token: &'a Secret, marker: &'static [u8]) -> Option<Self> {
        let token = token.expose().as_bytes();
        if token.len() < LEAST_BYTES {
            return None;
        }
        let anchor = anchor_of(token);
        Some(Self {
            token,
            finder: Finder::new(token.get(anchor.clone())?),
            anchor,
            marker,
        })
    }

    fn longest(&self) -> usize {
        let forms = self
            .token
            .iter()
            .map(|c| if is_plain(*c) { 1 } else { MOST_FORM_BYTES });
        forms.sum()
    }

    /// All places of the token in `text`. If they overlap too much, the last one is the rest of
    /// `text`.
    fn all_in(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut at = 0;
        let mut left = text.len() + MOST_OVERLAP_BYTES;
        while let Some(start) = text.get(at..).and_then(|rest| self.finder.find(rest)) {
            let start = at + start;
            let end = start + self.anchor.len();
            let (range, is_whole) = self.around(text, start..end);
            // If the token repeats itself, the whole of it may begin within this part.
            at = if is_whole { range.end } else { start + 1 };
            if range.len() > left {
                found.push(range.start..text.len());
                break;
            }
            left -= range.len();
            found.push(range);
        }
        found
    }

    /// How much of the token stands around its anchor, and whether that is the whole token.
    fn around(&self, text: &[u8], anchor: Range<usize>) -> (Range<usize>, bool) {
        let (mut start, mut end) = (anchor.start, anchor.end);
        let mut is_whole = true;
        for c in self.token.iter().take(self.anchor.start).rev() {
            let before = text.get(..start).unwrap_or_default();
            let form = form(*c, |form| ends_with(before, form));
            let Some(form) = form else {
                is_whole = false;
                break;
            };
            start -= form;
        }
        for c in self.token.iter().skip(self.anchor.end) {
            let behind = text.get(end..).unwrap_or_default();
            let form = form(*c, |form| {
                behind
                    .get(..form.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(form))
            });
            let Some(form) = form else {
                is_whole = false;
                break;
            };
            end += form;
        }
        (start..end, is_whole)
    }
}

fn ends_with(text: &[u8], form: &[u8]) -> bool {
    let start = text.len().checked_sub(form.len());
    let end = start.and_then(|start| text.get(start..));
    end.is_some_and(|end| end.eq_ignore_ascii_case(form))
}

/// The part to be searched for: the end of the longest run of characters that have only one form.
fn anchor_of(token: &[u8]) -> Range<usize> {
    let (mut longest, mut start) = (0..0, 0);
    for (at, c) in token.iter().chain([&b'/']).enumerate() {
        if !is_plain(*c) {
            if at - start > longest.len() {
                longest = start..at;
            }
            start = at + 1;
        }
    }
    if longest.len() < LEAST_BYTES {
        longest = 0..token.len();
    }
    longest.end - longest.len().min(MOST_ANCHOR_BYTES)..longest.end
}

/// Whether JSON, forms and HTML have only one form of `c`.
fn is_plain(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_')
}

/// The length of the form of `c` for which `is_there` holds: `c` itself, or its escape in JSON
/// (`\/`, `\u002b`), in a URL (`%2B`) or in HTML (`&#x2B;`, `&#43;`). `None` if it holds for none.
fn form(c: u8, is_there: impl Fn(&[u8]) -> bool) -> Option<usize> {
    if is_plain(c) {
        return is_there(&[c]).then_some(1);
    }
    let is_there = |form: &String| is_there(form.as_bytes());
    // The longer forms come first, as they may end with the character itself.
    let forms = [
        format!("\\{}", char::from(c)),
        format!("\\u{c:04x}"),
        format!("%{c:02x}"),
        format!("&#x{c:x};"),
        format!("&#{c};"),
        char::from(c).to_string(),
    ];
    forms.iter().find(|form| is_there(form)).map(String::len)
}
