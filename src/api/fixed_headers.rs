//! Headers that the administrator sends with every call of the API, such as the key of a gateway.
//! They go to the API alone, and nobody is shown their values.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use ureq::http::{HeaderName, HeaderValue};

use super::headers::{AllowedHeaders, is_never_allowed, with_hyphens};
use super::policy::overrides_method;
use crate::error::{Failure, Kind};
use crate::os;
use crate::secret::Secret;

/// The most headers of one file, more than any gateway needs.
const MOST_HEADERS: usize = 32;
/// The longest value, as long as most servers accept.
const MOST_VALUE_BYTES: usize = 4096;
/// The longest file, with comments.
const MOST_FILE_BYTES: u64 = 256 * 1024;
/// A value of this length is not in an answer by chance.
const LONG_BYTES: usize = 16;
/// Nor is a value of this length with both letters and digits. Shorter ones, words and dates are.
const SHORT_BYTES: usize = 8;

/// The headers of one file.
#[derive(Clone, Debug)]
pub struct FixedHeaders {
    headers: Vec<(HeaderName, Secret)>,
    /// The parts of their values that could be keys.
    keys: Vec<Secret>,
    /// Where they come from.
    pub file: PathBuf,
    /// Whether others can read or write that file.
    pub is_exposed: bool,
}

impl FixedHeaders {
    /// Reads the file at `path`: one `Name: value` a line, and comments that begin with `#`. If
    /// systemd has handed it over (`is_handed_over`), its mode does not say who can read it.
    ///
    /// # Errors
    /// What is wrong, in words that show no value.
    pub fn read(path: &str, is_handed_over: bool) -> Result<Self, String> {
        let unreadable =
            |error: std::io::Error| format!("{path:?}, which cannot be read ({error})");
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mut text = String::new();
        // A device may have no end.
        let mut limited = file.take(MOST_FILE_BYTES + 1);
        limited.read_to_string(&mut text).map_err(unreadable)?;
        let text = Secret::new(text);
        if text.expose().len() as u64 > MOST_FILE_BYTES {
            return Err(format!("{path:?}, which is longer than 256 KiB"));
        }
        let headers = headers_of(text.expose()).map_err(|mend| format!("{path:?}: {mend}"))?;
        Ok(Self {
            keys: keys_of(&headers),
            headers,
            file: path.into(),
            is_exposed: os::others_have_access(&metadata) && !is_handed_over,
        })
    }

    /// Refuses a call whose own headers would replace one of these. Underscores count as hyphens,
    /// as with [`is_never_allowed`].
    ///
    /// # Errors
    /// One would.
    pub(crate) fn check(&self, given: &BTreeMap<String, String>) -> Result<(), Failure> {
        let is_fixed = |name: &&String| self.has(&name.to_ascii_lowercase());
        let Some(name) = given.keys().find(is_fixed) else {
            return Ok(());
        };
        let message = format!(
            "The header {name:?} is refused: BACKEND_HEADERS_FILE of this server sets it for every call."
        );
        Err(Failure::new(Kind::InvalidRequest, message).hint("Leave it out."))
    }

    /// Whether one of them is called `name`, in lower case.
    pub(crate) fn has(&self, name: &str) -> bool {
        let name = with_hyphens(name);
        let mut names = self.headers.iter();
        names.any(|(fixed, _)| with_hyphens(fixed.as_str()) == name)
    }

    /// All headers. Their values must not be shown.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, HeaderValue)> {
        self.headers.iter().filter_map(|(name, value)| {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
    }

    /// The parts of the values that no answer may contain.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Secret> {
        self.keys.iter()
    }
}

fn headers_of(text: &str) -> Result<Vec<(HeaderName, Secret)>, String> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mistake = |mend: &str| format!("in line {}, {mend}", index + 1);
        let (name, value) = header(line).map_err(|mend| mistake(&mend))?;
        let is_known = |(known, _): &(HeaderName, Secret)| {
            with_hyphens(known.as_str()) == with_hyphens(name.as_str())
        };
        if headers.iter().any(is_known) {
            return Err(mistake(&format!("leave out {name}: it stands there twice")));
        }
        headers.push((name, value));
    }
    if headers.len() > MOST_HEADERS {
        return Err(format!(
            "leave some out: it has more than {MOST_HEADERS} headers"
        ));
    }
    Ok(headers)
}

/// Reads one line. An error does not quote it, as it may hold a key.
fn header(line: &str) -> Result<(HeaderName, Secret), String> {
    let mend = "write Name: value, such as Ocp-Apim-Subscription-Key: and the key";
    let (name, value) = line.split_once(':').ok_or(mend)?;
    let name = HeaderName::try_from(name.trim_end()).map_err(|_| mend)?;
    if is_never_allowed(name.as_str()) || overrides_method(name.as_str()) {
        return Err(format!(
            "leave out {name}: it belongs to the connection, to the credentials or to the method of each call"
        ));
    }
    if with_hyphens(name.as_str()) == "content-type" {
        return Err(format!(
            "leave out {name}: it belongs to the body of each call"
        ));
    }
    let value = value.trim();
    let is_sendable = value
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if value.is_empty() || value.len() > MOST_VALUE_BYTES || !is_sendable {
        return Err(format!(
            "give {name} a value of printable ASCII characters, at most {MOST_VALUE_BYTES}"
        ));
    }
    Ok((name, Secret::new(value.to_owned())))
}

/// The parts of the values that could be keys. A header that every caller may set has none.
fn keys_of(headers: &[(HeaderName, Secret)]) -> Vec<Secret> {
    let allowed = AllowedHeaders::default();
    let secrets = headers
        .iter()
        .filter(|(name, _)| !allowed.allows(name.as_str()));
    let parts = secrets.flat_map(|(_, value)| value.expose().split_ascii_whitespace());
    parts
        .filter(|part| is_like_a_key(part))
        .map(|part| Secret::new(part.to_owned()))
        .collect()
}

fn is_like_a_key(part: &str) -> bool {
    let has_letter = part.contains(|c: char| c.is_ascii_alphabetic());
    let has_digit = part.contains(|c: char| c.is_ascii_digit());
    part.len() >= LONG_BYTES || (part.len() >= SHORT_BYTES && has_letter && has_digit)
}
