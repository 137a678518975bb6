//! Which calls of the API this server makes: the methods and endpoints that the settings allow.
//!
//! The API may read a path in another way than this server. So, if there are patterns, a path that
//! could be read in more than one way is refused, and the patterns are matched against the only
//! reading.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use ureq::http::HeaderMap;
use url::form_urlencoded;

use crate::api::headers::AllowedHeaders;
use crate::error::{Failure, Kind};
use crate::text::is_plain;

/// The methods that the tools have.
pub const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
/// What a pattern may contain besides letters, digits and slashes.
const PLAIN: &str = "-._~!$&'()*+=:@";
const HINT: &str = "If it should be allowed, ask whoever runs this server.";

/// A pattern of paths below the base URL: `*` stands for any characters of one segment, the segment
/// `**` for any number of segments.
#[derive(Clone, Debug)]
pub struct Pattern {
    segments: Vec<String>,
    /// The same segments in folded case.
    folded: Vec<String>,
}

impl Pattern {
    /// Reads a pattern of a setting. Slashes at its ends make no difference.
    ///
    /// # Errors
    /// How to correct it.
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
        Ok(Self {
            segments: path.split('/').map(str::to_owned).collect(),
            folded: path.split('/').map(fold).collect(),
        })
    }

    /// Whether `path` fits it. Slashes at its ends make no difference.
    pub fn fits(&self, path: &str) -> bool {
        path_fits(&self.segments, path.trim_matches('/'))
    }

    /// Whether some path that is made of `template` fits it: a name in braces stands for any text
    /// without a slash.
    fn can_fit(&self, template: &str) -> bool {
        let segments: Vec<Vec<Part>> = template.split('/').map(parts).collect();
        fits(
            &self.segments,
            &segments,
            |part| part == "**",
            |part, segment| meet(part, segment),
        )
    }

    fn fits_everything(&self) -> bool {
        self.segments.iter().all(|segment| segment == "**")
    }
}

/// What the settings allow.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Some of [`METHODS`].
    pub methods: Vec<&'static str>,
    /// If there are any, only endpoints that fit one are allowed.
    pub allowed: Vec<Pattern>,
    /// Endpoints that fit one are not allowed.
    pub denied: Vec<Pattern>,
    /// Which headers a call may have.
    pub headers: AllowedHeaders,
}

impl Policy {
    /// Whether any call of `method` can be allowed.
    pub fn can_allow(&self, method: &str) -> bool {
        self.methods.contains(&method) && !self.denied.iter().any(Pattern::fits_everything)
    }

    /// Refuses a method that is not allowed.
    ///
    /// # Errors
    /// It is not; the message names the setting.
    pub fn check_method(&self, method: &str) -> Result<(), Failure> {
        if self.methods.contains(&method) {
            return Ok(());
        }
        let allowed = self.methods.join(", ");
        Err(refused(format!(
            "{method} is not allowed here: ALLOWED_METHODS of this server is {allowed}."
        )))
    }

    /// Refuses a `template` of paths, with names in braces, if no path that is made of it is
    /// allowed with this method.
    ///
    /// # Errors
    /// Which setting forbids it, as the rest of a sentence.
    pub fn check_template(&self, method: &str, template: &str) -> Result<(), String> {
        if !self.methods.contains(&method) {
            return Err(format!("ALLOWED_METHODS does not have {method}"));
        }
        let path = template.split('?').next().unwrap_or_default();
        let path = path.trim_matches('/');
        // No pattern contains a brace, so only a wildcard fits what a caller gives.
        let folded = fold(&filled(path, "{}"));
        let is_denied = |pattern: &Pattern| path_fits(&pattern.folded, &folded);
        if self.denied.iter().any(is_denied) {
            return Err("DENIED_ENDPOINTS has it".to_owned());
        }
        let is_allowed = |pattern: &Pattern| pattern.can_fit(path);
        if !self.allowed.is_empty() && !self.allowed.iter().any(is_allowed) {
            return Err("ALLOWED_ENDPOINTS does not have it".to_owned());
        }
        if self.allowed.is_empty() && self.denied.is_empty() {
            return Ok(());
        }
        let read = reading(&filled(path, "x"));
        read.map(drop).map_err(|what| {
            format!(
                "its path holds {what}, so ALLOWED_ENDPOINTS and DENIED_ENDPOINTS cannot be applied"
            )
        })
    }

    /// If methods are restricted, refuses a call that some APIs would take for one of another
    /// method: they read the method from a header, or from a field of the query or of a form.
    ///
    /// # Errors
    /// There is such a field; the message names it and the setting.
    pub fn check_overrides(
        &self,
        query: &str,
        headers: &HeaderMap,
        form: &Form<'_>,
    ) -> Result<(), Failure> {
        if METHODS.iter().all(|method| self.methods.contains(method)) {
            return Ok(());
        }
        let of_headers = headers.keys().map(|name| name.as_str().into());
        let mut names = of_headers.chain(field_names(query)).chain(form.names());
        let overriding = names.find(|name| overrides_method(name));
        let what = match (overriding, form) {
            (Some(name), _) => format!("{name:?} can make this a call of another method"),
            (None, Form::InFile) => {
                "A form in a file could make this a call of another method".to_owned()
            }
            (None, _) => return Ok(()),
        };
        let allowed = self.methods.join(", ");
        Err(refused(format!(
            "{what}, and ALLOWED_METHODS of this server is {allowed}."
        )))
    }

    /// Refuses a path that is not allowed. `path` is below the base URL, and as it is sent.
    ///
    /// # Errors
    /// It is not, or it could be read in more than one way; the message names the setting.
    pub fn check_path(&self, path: &str) -> Result<(), Failure> {
        if self.allowed.is_empty() && self.denied.is_empty() {
            return Ok(());
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let reading = reading(path).map_err(|what| ambiguous(path, what))?;
        let folded = fold(&reading);
        let is_denied = |pattern: &Pattern| path_fits(&pattern.folded, &folded);
        if self.denied.iter().any(is_denied) {
            return Err(refused(format!(
                "The path /{path} is not allowed here: DENIED_ENDPOINTS of this server has it."
            )));
        }
        let is_allowed = |pattern: &Pattern| path_fits(&pattern.segments, &reading);
        if self.allowed.is_empty() || self.allowed.iter().any(is_allowed) {
            return Ok(());
        }
        Err(refused(format!(
            "The path /{path} is not allowed here: ALLOWED_ENDPOINTS of this server does not have it."
        )))
    }
}

/// The form that a body is.
pub enum Form<'a> {
    /// It is not a form.
    None,
    /// `application/x-www-form-urlencoded`
    UrlEncoded(Cow<'a, str>),
    /// `multipart/form-data`
    Multipart(Cow<'a, str>),
    /// A form in a file, which is not looked into.
    InFile,
}

impl Form<'_> {
    /// The names of its fields. Of a multipart form, these are all words of the lines that have
    /// parameters.
    fn names(&self) -> Vec<Cow<'_, str>> {
        match self {
            Self::None | Self::InFile => Vec::new(),
            Self::UrlEncoded(text) => field_names(text).collect(),
            Self::Multipart(text) => text
                .lines()
                .filter(|line| line.contains('='))
                .flat_map(|line| line.split([' ', '\t', ';', '=', '"', '\'']))
                .map(Cow::from)
                .collect(),
        }
    }
}

/// The names of the fields of a query or a form. Some servers also separate them by `;`.
fn field_names(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    text.split(['&', ';'])
        .flat_map(|field| form_urlencoded::parse(field.as_bytes()))
        .map(|(name, _)| name)
}

/// Whether some framework reads the method from a header or a field of this name: `_method`,
/// `$method`, `httpMethod`, `X-HTTP-Method-Override`. Case and punctuation differ between
/// frameworks, and PHP turns `.method` into `_method`. Plain `method` is an ordinary parameter.
pub(crate) fn overrides_method(name: &str) -> bool {
    let name = name.split('[').next().unwrap_or_default();
    let is_letter = |c: &char| c.is_ascii_alphanumeric();
    let letters: String = name.chars().filter(is_letter).collect();
    match letters.to_ascii_lowercase().as_str() {
        "method" => letters != name,
        "httpmethod"
        | "methodoverride"
        | "httpmethodoverride"
        | "xmethod"
        | "xhttpmethod"
        | "xmethodoverride"
        | "xhttpmethodoverride" => true,
        _ => false,
    }
}

fn refused(message: String) -> Failure {
    Failure::new(Kind::Refused, message).hint(HINT)
}

fn ambiguous(path: &str, what: &str) -> Failure {
    let message = format!(
        "The path /{path} is not allowed here: it holds {what}, so it could be read in more than one way, and \
         ALLOWED_ENDPOINTS or DENIED_ENDPOINTS of this server could not be applied."
    );
    Failure::new(Kind::Refused, message).hint(
        "Write the path in its plain form: letters, digits and - . _ ~ as they are, one slash between segments, no dot \
         or space at the end of a segment. A name that needs such a character cannot be called here.",
    )
}

/// `path` without percent-encoding, if that is the only way to read it.
///
/// # Errors
/// Which part of it some server reads in another way.
fn reading(path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Ok(String::new());
    }
    let segments: Result<Vec<_>, _> = path.split('/').map(segment_reading).collect();
    Ok(segments?.join("/"))
}

fn segment_reading(segment: &str) -> Result<String, &'static str> {
    if segment.is_empty() {
        return Err("an empty segment");
    }
    if encodes_needlessly(segment) {
        return Err("an encoded character that needs no encoding");
    }
    let decoded = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| "bytes that are not UTF-8")?;
    // Path parameters follow a `;` (RFC 3986 §3.3). A server that decodes first ends the path at a
    // `?` or a `#`.
    if decoded.contains(['/', '\\', '%', ';', '?', '#']) {
        return Err("a backslash, a semicolon, or an encoded / % ? or #");
    }
    // Windows drops spaces and dots at the end of a name. Some servers decode `+` as a space in
    // paths, too.
    let is_space = |c: char| c.is_whitespace() || c == '+';
    if decoded.starts_with(is_space) || decoded.ends_with(|c| is_space(c) || c == '.') {
        return Err("a segment that begins or ends with a space or a plus, or ends with a dot");
    }
    // An NTFS stream, such as `::$DATA`, is another name of its file.
    if decoded.contains(":$") {
        return Err("the characters :$");
    }
    if decoded.contains(|c| !is_plain(c) || is_lookalike(c)) {
        return Err("a character that is invisible, or that can be taken for others");
    }
    Ok(decoded.into_owned())
}

/// Whether an unreserved character is encoded (RFC 3986 §2.3).
fn encodes_needlessly(segment: &str) -> bool {
    segment.split('%').skip(1).any(|rest| {
        let digits = rest.get(..2).unwrap_or_default();
        u8::from_str_radix(digits, 16)
            .is_ok_and(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    })
}

/// Whether some server replaces `c` by other characters. Differences of case are left to [`fold`].
fn is_lookalike(c: char) -> bool {
    matches!(
        c,
        // Compatibility mappings (Unicode TR #15) turn them into ASCII.
        '\u{aa}' | '\u{b2}' | '\u{b3}' | '\u{b9}'..='\u{be}'
            | '\u{132}' | '\u{133}' | '\u{13f}' | '\u{140}' | '\u{149}'
            | '\u{1c4}'..='\u{1cc}' | '\u{1f1}'..='\u{1f3}'
            | '\u{2b0}'..='\u{2b8}' | '\u{2e0}'..='\u{2e4}'
            | '\u{37e}' | '\u{1d2c}'..='\u{1dbf}' | '\u{1e9a}' | '\u{1fef}'
            | '\u{2024}'..='\u{2026}' | '\u{203c}' | '\u{2047}'..='\u{2049}'
            | '\u{2070}'..='\u{209f}' | '\u{20a8}' | '\u{2100}'..='\u{218f}'
            | '\u{2460}'..='\u{24ff}' | '\u{2a74}'..='\u{2a76}' | '\u{2c7c}' | '\u{2c7d}'
            | '\u{3200}'..='\u{33ff}' | '\u{a7f2}'..='\u{a7f4}'
            | '\u{fb00}'..='\u{fb06}' | '\u{fb29}' | '\u{fe10}'..='\u{fe19}'
            | '\u{fe30}'..='\u{fe6f}' | '\u{ff01}'..='\u{ffef}'
            | '\u{10780}'..='\u{107ba}' | '\u{1d400}'..='\u{1d7ff}'
            | '\u{1f100}'..='\u{1f19f}' | '\u{1fbf0}'..='\u{1fbf9}'
            // Code pages and transliteration turn them into slashes and backslashes.
            | '\u{a5}' | '\u{20a9}' | '\u{2044}' | '\u{2215}' | '\u{2216}'
            | '\u{2571}' | '\u{2572}' | '\u{29f5}'..='\u{29f9}'
            // Canonical composition merges them with the character before.
            | '\u{300}'..='\u{36f}' | '\u{1100}'..='\u{11ff}' | '\u{3099}' | '\u{309a}'
    )
}

/// `text` without differences of case, by upper case and by lower case: the long s (U+017F) becomes
/// an s, and the dotted capital I (U+0130) an i, without the combining dot.
fn fold(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .filter(|c| *c != '\u{307}')
        .collect()
}

/// A part of a segment of a template.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Byte(u8),
    /// Any text.
    Any,
}

/// The parts of a segment of a template, in which a name in braces stands for any text.
fn parts(segment: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut is_in_name = false;
    for byte in segment.bytes() {
        match byte {
            b'{' => is_in_name = true,
            b'}' => {
                is_in_name = false;
                parts.push(Part::Any);
            }
            _ if is_in_name => {}
            _ => parts.push(Part::Byte(byte)),
        }
    }
    parts
}

/// A path that is made of `template`, with `value` in place of each name in braces.
fn filled(template: &str, value: &str) -> String {
    let mut path = String::new();
    for (at, piece) in template.split('{').enumerate() {
        let behind = piece.split_once('}').map_or(piece, |(_, behind)| behind);
        if at > 0 {
            path.push_str(value);
        }
        path.push_str(behind);
    }
    path
}

/// Whether some text fits both `pattern` and the segment of a template.
fn meet(pattern: &str, segment: &[Part]) -> bool {
    let pattern = pattern.bytes().map(|byte| match byte {
        b'*' => Part::Any,
        byte => Part::Byte(byte),
    });
    // reached[i]: the pattern so far and the first i parts of the segment can be the same text.
    let mut reached: Vec<bool> = vec![true];
    reached.extend(segment.iter().scan(true, |so_far, part| {
        *so_far &= *part == Part::Any;
        Some(*so_far)
    }));
    for part in pattern {
        let mut next = vec![part == Part::Any && reached.first() == Some(&true)];
        for (both, other) in reached.windows(2).zip(segment) {
            let [before, here] = both else { continue };
            let left = next.last() == Some(&true);
            let is_reached = match (part, other) {
                // What stands for any text takes one more part of the other side, or none.
                (Part::Any, _) | (_, Part::Any) => *here || left,
                (part, other) => *before && part == *other,
            };
            next.push(is_reached);
        }
        reached = next;
    }
    reached.last() == Some(&true)
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

/// Whether `items` fit `pattern`, in which a wildcard stands for any number of items. On a
/// mismatch, the last wildcard takes one item more; earlier wildcards need not be tried again.
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
