//! The forms of texts: what keeps a text from showing as what it is, how it is escaped and broken
//! into lines, what is said of a panic, and what is a GUID.

use std::panic::PanicHookInfo;

/// Whether `text` shows as what it is, on one line: nothing in it is invisible, ends a line or
/// changes the order in which the rest is shown.
pub fn is_plain_label(text: &str) -> bool {
    text.chars().all(is_plain)
}

/// `text` with `\u` and four hexadecimal digits in place of each character that is not plain.
/// Inside a JSON string it means the same text (RFC 8259 §7).
pub fn json_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    escaped
}

/// What a log says of a `panic`: where it happened, and its message if that is a fixed text. Any
/// other message may quote what the program worked on, such as a token.
pub fn of_panic(panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    match panic.payload().downcast_ref::<&'static str>() {
        Some(message) => format!("a bug at {place}: {message}"),
        None => format!("a bug at {place}; its message is left out, as it may hold a secret"),
    }
}

/// Whether `c` is visible, or a space, and leaves what stands beside it as it is.
pub fn is_plain(c: char) -> bool {
    // The ranges are Unicode's categories Cc, Cf, Zl and Zp, and what else has the property
    // Default_Ignorable_Code_Point.
    let is_hidden = matches!(c,
        '\u{ad}'
        | '\u{34f}'
        | '\u{600}'..='\u{605}'
        | '\u{61c}'
        | '\u{6dd}'
        | '\u{70f}'
        | '\u{890}'..='\u{891}'
        | '\u{8e2}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{110bd}'
        | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !is_hidden
}

/// Whether `text` has the form of a GUID (RFC 9562 §4), in either case.
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The lines of `text` when it is broken at spaces, each of at most `width` characters where words
/// allow.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}
