//! The response headers that the caller gets: all except those that are of no use to it or must not
//! be shown.

use serde_json::{Map, Value};
use ureq::http::header::CONNECTION;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

/// The most bytes of all names and values together.
const MOST_BYTES: usize = 16 * 1024;

/// Headers that come first, so that others cannot take their room.
const FIRST: [&str; 6] = [
    "location",
    "operation-location",
    "azure-asyncoperation",
    "link",
    "retry-after",
    "etag",
];

/// Headers that are not handed on: cookies; headers about the connection, the framing and the
/// coding (RFC 9110 §7.6.1, §8.4, §8.6); challenges, which this server answers itself; and
/// `Content-Type`, which is a member of the result.
const KEPT_BACK: [&str; 16] = [
    "alt-svc",
    "authentication-info",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "http2-settings",
    "keep-alive",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Headers for browsers, which are not handed on: security policies and reports about them.
const POLICIES: [&str; 22] = [
    "clear-site-data",
    "content-security-policy",
    "content-security-policy-report-only",
    "document-policy",
    "expect-ct",
    "feature-policy",
    "nel",
    "origin-agent-cluster",
    "p3p",
    "permissions-policy",
    "public-key-pins",
    "public-key-pins-report-only",
    "referrer-policy",
    "report-to",
    "reporting-endpoints",
    "strict-transport-security",
    "timing-allow-origin",
    "x-content-type-options",
    "x-dns-prefetch-control",
    "x-download-options",
    "x-frame-options",
    "x-xss-protection",
];

/// How the names of other headers begin that are not handed on.
const PREFIXES: [&str; 4] = [
    "access-control-",
    "cross-origin-",
    "proxy-",
    "x-permitted-cross-domain",
];

/// The headers as the caller gets them, and how many of them did not fit. `text` turns a value into
/// text. Values of the same name are joined to a list (RFC 9110 §5.3).
pub(crate) fn handed_on(
    headers: &HeaderMap,
    text: impl Fn(&HeaderValue) -> String,
) -> (Map<String, Value>, usize) {
    // `Connection` names further headers about the connection (RFC 9110 §7.6.1).
    let connection = headers.get_all(CONNECTION).iter();
    let options: Vec<_> = connection
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let is_handed_on = |name: &str| {
        !KEPT_BACK.contains(&name)
            && !POLICIES.contains(&name)
            && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !options.iter().any(|option| option == name)
    };
    let names = || {
        headers
            .keys()
            .map(HeaderName::as_str)
            .filter(|name| is_handed_on(name))
    };
    let first = names().filter(|name| FIRST.contains(name));
    let rest = names().filter(|name| !FIRST.contains(name));
    let mut map = Map::new();
    let mut room = MOST_BYTES;
    let mut left_out = 0;
    for name in first.chain(rest) {
        let values: Vec<_> = headers.get_all(name).iter().map(&text).collect();
        let value = values.join(", ");
        let length = name.len() + value.len();
        if length > room {
            left_out += 1;
        } else {
            room -= length;
            map.insert(name.to_owned(), value.into());
        }
    }
    (map, left_out)
}
