//! The request headers that a caller may set: known ones, which speak for nobody else and change nothing that was
//! checked, and those that the settings add.

use std::collections::BTreeMap;

use ureq::http::header::ACCEPT;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Failure, Kind};

/// What every caller may set. A `*` stands for any end of the name.
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

/// What no setting can add, beside those that begin with `proxy-`: they carry credentials, name the host, or
/// belong to the connection and the framing (RFC 9110 §7.6.1, §10.1.1; RFC 9112 §6). CGI makes a variable of
/// `Proxy` that HTTP clients take for their own setting (CVE-2016-5385).
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

/// What a setting adds to the headers that every caller may set.
#[derive(Clone, Debug, Default)]
pub struct AllowedHeaders {
    /// In lower case; a `*` at the end of one stands for any end.
    added: Vec<String>,
}

impl AllowedHeaders {
    /// Takes names as they stand in a setting, separated by spaces or commas.
    ///
    /// # Errors
    /// The mend.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text
            .split([',', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .map(addition);
        Ok(Self {
            added: names.collect::<Result<_, _>>()?,
        })
    }

    /// The caller's headers, when all of them are allowed.
    ///
    /// # Errors
    /// Which one is not.
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

    fn allows(&self, name: &str) -> bool {
        let added = self.added.iter().map(String::as_str);
        let mut patterns = ALLOWED.into_iter().chain(added);
        patterns.any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    }
}

/// One name of the setting.
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

/// With an underscore, too: CGI (RFC 3875 §4.1.18) and its kin take `transfer_encoding` for `transfer-encoding`.
fn is_never_allowed(name: &str) -> bool {
    let name = name.replace('_', "-");
    NEVER_ALLOWED.contains(&name.as_str()) || name.starts_with("proxy-")
}
