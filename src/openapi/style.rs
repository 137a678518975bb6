//! How values are written in paths, queries, headers and forms (OpenAPI 3.1 §4.8.12.3, "Style
//! Values"; RFC 6570).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;

use super::parameter::Style;
use crate::json_object::{Object, is_null};

/// All but the unreserved characters (RFC 3986 §2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same, but the reserved characters that mean nothing in a query are kept. What separates its
/// fields is always encoded, and so is a plus, which some read as a space.
const RESERVED_KEPT: &AsciiSet = &ENCODED
    .remove(b':')
    .remove(b'/')
    .remove(b'?')
    .remove(b'[')
    .remove(b']')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b',')
    .remove(b';');
/// How many times a value is decoded to see whether it leads elsewhere.
const MOST_DECODINGS: usize = 8;

/// A value of JSON that can be written elsewhere.
pub(super) enum Written {
    One(String),
    List(Vec<String>),
    /// Names and values.
    Members(Vec<(String, String)>),
}

impl Written {
    /// Reads `value`, which is JSON.
    ///
    /// # Errors
    /// An item or a member holds others; as the rest of a sentence.
    pub(super) fn read(value: &str) -> Result<Self, String> {
        if value.starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value).unwrap_or_default();
            let items = items.into_iter().filter(|item| !is_null(item));
            let items = items.map(|item| text(item.get()));
            return items.collect::<Result<_, _>>().map(Self::List);
        }
        if value.starts_with('{') {
            let members: Object<'_> = serde_json::from_str(value).unwrap_or_default();
            let members = members.0.into_iter().filter(|(_, value)| !is_null(value));
            let members = members.map(|(name, value)| Ok((name.into_owned(), text(value.get())?)));
            return members.collect::<Result<_, String>>().map(Self::Members);
        }
        text(value).map(Self::One)
    }
}

/// A single value as text.
fn text(value: &str) -> Result<String, String> {
    if value.starts_with(['{', '[']) {
        return Err(
            "holds lists or objects within a list or an object, which cannot be written there"
                .to_owned(),
        );
    }
    Ok(serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()))
}

/// How the text of a value is encoded.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    /// All but the unreserved characters are encoded.
    All,
    /// Reserved characters that mean nothing in a query are kept, too.
    KeepReserved,
    /// Nothing is encoded.
    None,
}

impl Encoding {
    fn of(self, text: &str) -> String {
        match self {
            Self::All => utf8_percent_encode(text, ENCODED).to_string(),
            Self::KeepReserved => utf8_percent_encode(text, RESERVED_KEPT).to_string(),
            Self::None => text.to_owned(),
        }
    }

    /// The reserved characters of a name are always encoded.
    fn of_name(self, name: &str) -> String {
        match self {
            Self::All | Self::KeepReserved => Self::All.of(name),
            Self::None => name.to_owned(),
        }
    }

    /// An item of a list, in which commas separate.
    fn of_item(self, item: &str) -> String {
        match self {
            Self::KeepReserved => self.of(item).replace(',', "%2C"),
            Self::All | Self::None => self.of(item),
        }
    }
}

/// A field of a query or a form: name and value, encoded.
type Pair = (String, String);

/// The fields that `value` becomes.
///
/// # Errors
/// It cannot be written in that style; as the rest of a sentence.
pub(super) fn fields(
    name: &str,
    value: &str,
    style: Style,
    explode: bool,
    encoding: Encoding,
) -> Result<Vec<Pair>, String> {
    let pair = |name: &str, value: &str| (encoding.of_name(name), encoding.of(value));
    if style == Style::Json {
        return Ok(vec![pair(name, value)]);
    }
    let is_deep = style == Style::DeepObject;
    let items = match Written::read(value)? {
        Written::One(_) | Written::List(_) if is_deep => {
            return Err("must be an object".to_owned());
        }
        Written::One(value) => return Ok(vec![pair(name, &value)]),
        Written::List(items) if explode => {
            return Ok(items.iter().map(|item| pair(name, item)).collect());
        }
        Written::List(items) => items,
        Written::Members(members) if is_deep => {
            let members = members.iter();
            let pairs = members.map(|(member, value)| pair(&format!("{name}[{member}]"), value));
            return Ok(pairs.collect());
        }
        Written::Members(members) if explode => {
            let members = members.iter();
            return Ok(members.map(|(member, value)| pair(member, value)).collect());
        }
        Written::Members(members) => flat(members),
    };
    // An empty list is not there (RFC 6570 §3.2.1).
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let value = match style {
        Style::Delimited(delimiter) => {
            // Encoded or not, it would be read as what separates items.
            if items.iter().any(|item| item.contains(delimiter)) {
                return Err(format!("holds {delimiter:?}, which separates its items"));
            }
            encoding.of(&items.join(&delimiter.to_string()))
        }
        _ => comma_separated(&items, encoding),
    };
    Ok(vec![(encoding.of_name(name), value)])
}

/// The value of a header. It is not encoded.
///
/// # Errors
/// It cannot be written there; as the rest of a sentence.
pub(super) fn header(value: &str, style: Style, explode: bool) -> Result<String, String> {
    if style == Style::Json {
        return Ok(value.to_owned());
    }
    Ok(match Written::read(value)? {
        Written::One(value) => value,
        Written::List(items) => items.join(","),
        Written::Members(members) if explode => assigned(&members, Encoding::None).join(","),
        Written::Members(members) => flat(members).join(","),
    })
}

/// What stands in a path for the parameter `name`.
///
/// # Errors
/// It cannot be written there, is empty, or could be read as more than one segment; as the rest of
/// a sentence.
pub(super) fn path(name: &str, value: &str, style: Style, explode: bool) -> Result<String, String> {
    if style == Style::Json {
        check_segment(value)?;
        return Ok(Encoding::All.of(value));
    }
    let written = Written::read(value)?;
    check_path_texts(&written)?;
    // What stands before each value, or before the first where they are one list.
    let (prefix, between) = match style {
        Style::Label => (".".to_owned(), "."),
        Style::Matrix => (format!(";{}=", Encoding::All.of(name)), ";"),
        _ => (String::new(), ","),
    };
    let all = Encoding::All;
    Ok(match written {
        Written::One(value) => format!("{prefix}{}", all.of(&value)),
        Written::List(items) if explode && style != Style::Simple => {
            let items = items.iter().map(|item| format!("{prefix}{}", all.of(item)));
            items.collect()
        }
        Written::List(items) => format!("{prefix}{}", comma_separated(&items, all)),
        Written::Members(members) if explode => {
            let assigned = assigned(&members, all).join(between);
            match style {
                Style::Label | Style::Matrix => format!("{between}{assigned}"),
                _ => assigned,
            }
        }
        Written::Members(members) => {
            format!("{prefix}{}", comma_separated(&flat(members), all))
        }
    })
}

fn check_path_texts(written: &Written) -> Result<(), String> {
    match written {
        Written::One(value) => check_segment(value),
        Written::List(items) if items.is_empty() => Err("must not be empty".to_owned()),
        Written::List(items) => items.iter().try_for_each(|item| check_segment(item)),
        Written::Members(members) if members.is_empty() => Err("must not be empty".to_owned()),
        Written::Members(members) => members.iter().try_for_each(|(name, value)| {
            check_segment(name)?;
            check_segment(value)
        }),
    }
}

/// Refuses what is empty, or what an API could read as more than one segment, or as one that leads
/// elsewhere: many decode what is encoded before they split a path (CVE-2026-32871).
fn check_segment(value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let mut text = value.to_owned();
    for _ in 0..MOST_DECODINGS {
        if text.contains(['/', '\\']) {
            return Err(
                "must not contain a slash or a backslash, not even an encoded one (a path with \
                 such a value can be called with the generic tool)"
                    .to_owned(),
            );
        }
        if matches!(text.trim(), "." | "..") {
            return Err("must not be . or ..".to_owned());
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return Ok(());
        }
        text = decoded;
    }
    Err("is encoded too often".to_owned())
}

fn comma_separated(items: &[String], encoding: Encoding) -> String {
    let items = items.iter().map(|item| encoding.of_item(item));
    items.collect::<Vec<_>>().join(",")
}

/// `name=value` of each.
fn assigned(members: &[Pair], encoding: Encoding) -> Vec<String> {
    let members = members.iter();
    let assigned =
        members.map(|(name, value)| format!("{}={}", encoding.of(name), encoding.of(value)));
    assigned.collect()
}

/// Names and values in turn.
fn flat(members: Vec<Pair>) -> Vec<String> {
    let flat = members.into_iter().flat_map(|(name, value)| [name, value]);
    flat.collect()
}
