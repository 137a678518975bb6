//! The request headers that a caller may set: harmless ones, which speak for nobody else and change nothing that
//! was checked.

use std::collections::BTreeMap;

use ureq::http::header::ACCEPT;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Failure, Kind};

/// Request headers that a caller may set, beside those that begin with `x-`.
const ALLOWED: [&str; 7] = [
    "accept",
    "content-type",
    "if-match",
    "if-none-match",
    "prefer",
    "consistencylevel",
    "idempotency-key",
];
/// Those that begin so tell a server or a proxy of another client than the one that the token is of,
const OF_CLIENTS: &str = "x-forward x-real-ip x-client- x-cluster-client-ip x-remote- x-auth x-user x-originating- \
                          x-true-client- x-proxyuser- x-webauth- x-consumer- x-ssl- x-ms-client- x-ms-token x-amzn- \
                          x-arr- x-azure- x-envoy- x-goog-";
/// and those of another host, path or method than the one that was checked here.
const OF_TARGETS: &str =
    "x-original- x-rewrite-url x-host x-http-method x-method-override x-http-dest";

/// The caller's headers, when all of them are harmless.
///
/// # Errors
/// Which one is not.
pub(crate) fn checked(given: &BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let refuse = |reason: &str| {
            Failure::new(
                Kind::InvalidRequest,
                format!("The header {name:?} is refused: {reason}."),
            )
            .hint(format!(
                "Allowed are {} and X-… headers.",
                ALLOWED.join(", ")
            ))
        };
        let lower = name.to_ascii_lowercase();
        if !is_allowed(&lower) {
            return Err(refuse("callers may not set it"));
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

/// Only letters, digits and hyphens: CGI (RFC 3875 §4.1.18) and its kin take `x-real_ip` for `x-real-ip`.
fn is_allowed(name: &str) -> bool {
    let is_plain = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let mut refused = OF_CLIENTS.split(' ').chain(OF_TARGETS.split(' '));
    ALLOWED.contains(&name)
        || (name.starts_with("x-") && is_plain && !refused.any(|start| name.starts_with(start)))
}
