//! The request headers that a caller may set: a fixed list, and those that a setting adds.

use std::collections::BTreeMap;

use ureq::http::header::ACCEPT;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Failure, Kind};

/// Headers that every caller may set. A `*` at the end stands for any rest of the name.
const ALLOWED: [&str; 23] = [
    "accept",
    "accept-language",
    "client-request-id",
    "consistencylevel",
    "content-disposition",
    "content-language",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
    "mscrm*",
    "odata-isolation",
    "odata-maxversion",
    "odata-version",
    "prefer",
    "range",
    "return-client-request-id",
    "x-correlation-id",
    "x-ms-client-request-id",
    "x-request-id",
    "x-requested-with",
];

/// Headers that no setting can add, nor any that begins with `proxy-`. They carry credentials, name
/// the host, or belong to the connection and the framing (RFC 9110 §7.6.1, §10.1.1; RFC 9112 §6).
/// CGI turns `Proxy` into a variable that HTTP clients read as their own setting (CVE-2016-5385).
const NEVER_ALLOWED: [&str; 13] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The headers that a caller may set.
#[derive(Clone, Debug, Default)]
pub struct AllowedHeaders {
    /// Those of the setting, in lower case, with a `*` as in [`ALLOWED`].
    added: Vec<String>,
}

impl AllowedHeaders {
    /// Reads the setting: names, separated by spaces or commas.
    ///
    /// # Errors
    /// How to correct it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text
            .split([',', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .map(addition);
        Ok(Self {
            added: names.collect::<Result<_, _>>()?,
        })
    }

    /// The caller's headers, if all of them are allowed.
    ///
    /// # Errors
    /// One is not allowed, or cannot be sent.
    pub(crate) fn checked(&self, given: &BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let refuse = |reason: &str| {
                let message = format!("The header {name:?} is refused: {reason}.");
                Failure::new(Kind::InvalidRequest, message).hint(format!(
                    "Allowed are {}; ALLOWED_REQUEST_HEADERS of this server can add others.",
                    ALLOWED.join(", ")
                ))
            };
            let lower = name.to_ascii_lowercase();
            if is_never_allowed(&lower) {
                return Err(refuse("no caller may set it, and no setting allows it"));
            }
            if !self.allows(&lower) {
                return Err(refuse(
                    "it is none of the allowed ones, and ALLOWED_REQUEST_HEADERS does not have it",
                ));
            }
            let (Ok(key), Ok(value)) = (HeaderName::try_from(lower), HeaderValue::from_str(value))
            else {
                return Err(refuse("it holds characters that a header cannot carry"));
            };
            if headers.insert(key, value).is_some() {
                return Err(refuse("it is given twice"));
            }
        }
        headers
            .entry(ACCEPT)
            .or_insert(HeaderValue::from_static("application/json, */*;q=0.8"));
        Ok(headers)
    }

    /// Whether a caller may set the header `name`.
    pub(crate) fn admits(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        !is_never_allowed(&name) && self.allows(&name)
    }

    /// Whether a caller may set `name`, in lower case.
    pub(crate) fn allows(&self, name: &str) -> bool {
        let added = self.added.iter().map(String::as_str);
        let mut patterns = ALLOWED.into_iter().chain(added);
        patterns.any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

/// Reads one name of the setting.
fn addition(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('*').unwrap_or(&lower);
    if name.is_empty() {
        return Err(
            "put the beginning of a name before the *: alone it would add every header".into(),
        );
    }
    if name.contains('*') || HeaderName::try_from(name).is_err() {
        return Err(format!(
            "write names of headers, such as X-Tenant or X-Trace-*, not {text:?}"
        ));
    }
    if is_never_allowed(name) {
        return Err(format!("leave out {text:?}: no caller may set it"));
    }
    Ok(lower)
}

/// Whether no setting can add `name`, in lower case.
pub(crate) fn is_never_allowed(name: &str) -> bool {
    let name = with_hyphens(name);
    NEVER_ALLOWED.contains(&name.as_str()) || name.starts_with("proxy-")
}

/// Underscores count as hyphens: CGI (RFC 3875 §4.1.18) and its relatives do not tell them apart.
pub(crate) fn with_hyphens(name: &str) -> String {
    name.replace('_', "-")
}
