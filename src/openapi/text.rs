//! The texts of a description, made fit to be listed.

use std::borrow::Cow;

use crate::text::is_plain;

/// `text` on one line, without what does not show, and not longer than `most` bytes.
pub(super) fn tidy(text: &str, most: usize) -> String {
    let mut tidied = String::new();
    if most == 0 {
        return tidied;
    }
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        // Nothing of ASCII but its control characters is hidden.
        let word: Cow<'_, str> = if word.is_ascii() {
            word.into()
        } else {
            word.chars().filter(|c| is_plain(*c)).collect()
        };
        if word.is_empty() {
            continue;
        }
        if !tidied.is_empty() {
            tidied.push(' ');
        }
        tidied.push_str(&word);
        if tidied.len() > most {
            return cut(&tidied, most);
        }
    }
    tidied
}

/// `texts` one after the other, each with a full stop at its end if another follows.
pub(super) fn sentences(texts: &[String]) -> String {
    let mut joined = String::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        if joined.ends_with(|c: char| c.is_alphanumeric() || "`'\")]".contains(c)) {
            joined.push('.');
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(text);
    }
    joined
}

/// `text` without what is beyond `most` bytes, the ellipsis included.
fn cut(text: &str, most: usize) -> String {
    let room = most.saturating_sub('…'.len_utf8());
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= room).last().unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    // Whole words, unless one is very long.
    let whole = kept.rfind(' ').filter(|end| *end > most / 2);
    let kept = whole.and_then(|end| kept.get(..end)).unwrap_or(kept);
    format!("{kept}…")
}
