//! Which calls of the API this server makes at all: its methods and endpoints.
//!
//! The API may read a path in another way than we do. So a call is denied when a pattern fits the path in any
//! of its readings, and allowed only when patterns fit it as it is sent and in each of them.

use std::collections::BTreeSet;

use percent_encoding::{CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::{Failure, Kind};

/// The methods that the tools have.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// What a pattern may hold beside letters, digits and slashes: what is sent as it stands there.
const PLAIN: &str = "-._~!$&'()*+=:@";
/// A path that can be read in more ways is refused.
const MOST_READINGS: usize = 64;
const HINT: &str = "Ask whoever runs this server, if it should be.";

/// What some server or proxy makes of a path before it looks it up.
const REWRITINGS: [fn(&str) -> String; 7] = [
    |path| percent_decode_str(path).decode_utf8_lossy().into_owned(),
    |path| path.replace('\\', "/"),
    // It takes the path for a whole request target.
    |path| path.split(['?', '#']).take(1).collect(),
    // Path parameters (RFC 3986 §3.3). Whoever takes segments apart before decoding them has their slashes in them.
    |path| each_segment(path, |segment| first_of(segment.split(';'))),
    |path| {
        each_segment(path, |segment| {
            first_of(first_of(segment.split("%3b")).split("%3B"))
        })
    },
    // Windows drops them from file names.
    |path| each_segment(path, |segment| segment.trim().trim_end_matches(['.', ' '])),
    |path| {
        path.split('/')
            .filter(|segment| !segment.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    },
];

fn first_of<'p>(mut parts: impl Iterator<Item = &'p str>) -> &'p str {
    parts.next().unwrap_or_default()
}

fn each_segment<'p>(path: &'p str, change: impl Fn(&'p str) -> &'p str) -> String {
    path.split('/').map(change).collect::<Vec<_>>().join("/")
}

/// A pattern of paths below the base URL: `*` stands for any characters of one segment, the segment `**` for any
/// number of segments.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As a path that fits it is sent.
    sent: Vec<String>,
    /// In folded case.
    folded: Vec<String>,
}

impl Pattern {
    /// Takes `text` as it stands in a setting; slashes at its ends make no difference.
    ///
    /// # Errors
    /// The mend.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(odd) = text
            .chars()
            .find(|c| !c.is_alphanumeric() && *c != '/' && !PLAIN.contains(*c))
        {
            return Err(format!(
                "leave {odd:?} out of {text:?}: * stands for what a path needs encoding for"
            ));
        }
        let path = text.strip_prefix('/').unwrap_or(text);
        let path = path.strip_suffix('/').unwrap_or(path);
        if text.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(format!(
                "write {text:?} without empty segments, \".\" and \"..\""
            ));
        }
        if path
            .split('/')
            .any(|segment| segment != "**" && segment.contains("**"))
        {
            return Err(format!(
                "let ** stand alone between slashes in {text:?}, such as /reports/**"
            ));
        }
        let sent = path
            .split('/')
            .map(|segment| utf8_percent_encode(segment, CONTROLS).to_string());
        Ok(Self {
            sent: sent.collect(),
            folded: path.split('/').map(fold).collect(),
        })
    }

    fn fits_everything(&self) -> bool {
        self.sent.iter().all(|segment| segment == "**")
    }
}

/// What the settings allow.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Of [`METHODS`].
    pub methods: Vec<&'static str>,
    /// Where there is any, all that is allowed.
    pub allowed: Vec<Pattern>,
    /// What is not, even so.
    pub denied: Vec<Pattern>,
}

impl Policy {
    /// Whether any call of `method` can be allowed.
    pub fn can_allow(&self, method: &str) -> bool {
        self.methods.contains(&method) && !self.denied.iter().any(Pattern::fits_everything)
    }

    /// Whether calls of `method` are allowed.
    ///
    /// # Errors
    /// They are not; the setting that says so.
    pub fn check_method(&self, method: &str) -> Result<(), Failure> {
        if self.methods.contains(&method) {
            return Ok(());
        }
        let allowed = self.methods.join(", ");
        Err(refused(format!(
            "{method} is not allowed here: ALLOWED_METHODS of this server is {allowed}."
        )))
    }

    /// Whether calls of `path`, which is below the base URL and as it is sent, are allowed.
    ///
    /// # Errors
    /// They are not; the setting that says so.
    pub fn check_path(&self, path: &str) -> Result<(), Failure> {
        if self.allowed.is_empty() && self.denied.is_empty() {
            return Ok(());
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let Some(readings) = readings(path) else {
            let settings = "ALLOWED_ENDPOINTS and DENIED_ENDPOINTS";
            return Err(refused(format!(
                "The path /{path} is not allowed here: it can be read in too many ways for {settings}."
            )));
        };
        let fits = |patterns: &[Pattern], reading: &String| {
            let folded = fold(reading);
            patterns
                .iter()
                .any(|known| path_fits(&known.sent, reading) || path_fits(&known.folded, &folded))
        };
        if readings.iter().any(|reading| fits(&self.denied, reading)) {
            return Err(refused(format!(
                "The path /{path} is not allowed here: DENIED_ENDPOINTS of this server has it."
            )));
        }
        let is_allowed = self
            .allowed
            .iter()
            .any(|pattern| path_fits(&pattern.sent, path))
            && readings.iter().all(|reading| fits(&self.allowed, reading));
        if is_allowed || self.allowed.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "The path /{path} is not allowed here: ALLOWED_ENDPOINTS of this server does not have it."
        )))
    }
}

fn refused(message: String) -> Failure {
    Failure::new(Kind::Refused, message).hint(HINT)
}

/// Everything that `path` becomes by [`REWRITINGS`], in any order and number, itself included; `None` when that
/// is too much.
fn readings(path: &str) -> Option<BTreeSet<String>> {
    let mut readings = BTreeSet::new();
    let mut new = vec![path.to_owned()];
    while let Some(path) = new.pop() {
        if readings.contains(&path) {
            continue;
        }
        if readings.len() == MOST_READINGS {
            return None;
        }
        new.extend(REWRITINGS.iter().map(|rewritten| rewritten(&path)));
        readings.insert(path);
    }
    Some(readings)
}

/// Without a difference of case, however a server compares: by upper case, the long s is an S.
fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

fn path_fits(pattern: &[String], path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    let segment_fits = |pattern: &String, segment: &&str| {
        fits(
            pattern.as_bytes(),
            segment.as_bytes(),
            |byte| *byte == b'*',
            |part, byte| part == byte,
        )
    };
    fits(pattern, &segments, |part| part == "**", segment_fits)
}

/// Whether `items` can be made of `pattern` by putting any number of items in the place of each wildcard. When
/// they differ, the last wildcard takes one item more: those before it need not be tried again.
fn fits<P, I>(
    mut pattern: &[P],
    mut items: &[I],
    is_wildcard: impl Fn(&P) -> bool,
    is_same: impl Fn(&P, &I) -> bool,
) -> bool {
    let mut last_wildcard: Option<(&[P], &[I])> = None;
    loop {
        match (pattern, items) {
            ([], []) => return true,
            ([part, rest @ ..], _) if is_wildcard(part) => {
                last_wildcard = Some((rest, items));
                pattern = rest;
            }
            ([part, rest @ ..], [item, others @ ..]) if is_same(part, item) => {
                (pattern, items) = (rest, others);
            }
            _ => {
                let Some((rest, [_, others @ ..])) = last_wildcard else {
                    return false;
                };
                last_wildcard = Some((rest, others));
                (pattern, items) = (rest, others);
            }
        }
    }
}
