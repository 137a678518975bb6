//! The request head (RFC 9112 §2, §3, §5, §6), read strictly. What two parsers could read in two
//! ways is refused, so that this server and a proxy in front of it always agree where a request
//! ends.

use std::borrow::Cow;
use std::str;

use tiny_http::Method;

use super::{MOST_FIELDS, MOST_HEAD_BYTES};

/// How long the body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A request that is refused at the level of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// What is wrong, in a sentence for the person who uses the client.
    pub reason: &'static str,
}

pub(super) const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// The refusal of a body that is too long.
pub(super) const TOO_LARGE: Refusal = refusal(
    413,
    "The request body is larger than MAX_REQUEST_BYTES allows.",
);
const MALFORMED: Refusal = refusal(400, "The request head is malformed.");

/// A request head, borrowed from the bytes that were read.
pub struct Head<'a> {
    /// The method, which may be any token.
    pub method: Method,
    /// The path of the request target, as sent.
    pub path: &'a str,
    /// The query of the request target, as sent, without its `?`.
    pub query: &'a str,
    /// The header fields.
    pub(super) fields: Fields<'a>,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the client keeps the connection for another request.
    pub keep_alive: bool,
    /// Whether it is HTTP/1.1; otherwise it is HTTP/1.0.
    pub is_http_11: bool,
    /// Whether the client waits for a `100 Continue` (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// The length of the head at the start of `bytes`; `None` if its empty line has not come yet. The
/// first `seen` bytes were looked at before and are not searched again.
///
/// # Errors
/// A refusal. Then, nothing that follows on the connection can be trusted.
pub fn end_of_head(bytes: &[u8], seen: usize) -> Result<Option<usize>, Refusal> {
    let window = bytes.get(..MOST_HEAD_BYTES).unwrap_or(bytes);
    let from = seen.saturating_sub(3);
    let fresh = window.get(from..).unwrap_or_default();
    if let Some(at) = fresh.windows(4).position(|four| four == b"\r\n\r\n") {
        return Ok(Some(from + at + 4));
    }
    match bytes.len() {
        ..MOST_HEAD_BYTES => {}
        _ if window.contains(&b'\n') => return Err(refusal(431, "The request head is too long.")),
        _ => return Err(refusal(414, "The request target is too long.")),
    }
    // Garbage is refused at once instead of waiting for an end that never comes.
    check_lines(fresh)?;
    let line = bytes.split_inclusive(|byte| *byte == b'\n').next();
    let is_no_text = line
        .is_some_and(|line| str::from_utf8(line).is_err_and(|error| error.error_len().is_some()));
    let is_empty_line = matches!(bytes, [b'\n', ..] | [b'\r', b'\n', ..]);
    if is_no_text || is_empty_line {
        Err(MALFORMED)
    } else {
        Ok(None)
    }
}

/// Whether a head that is too long is mostly cookies, and comes from a browser that asks for a
/// page. The names of fields are looked for at the start of a line, where a browser writes them.
pub(super) fn is_of_browser_with_cookies(bytes: &[u8]) -> bool {
    let window = bytes.get(..MOST_HEAD_BYTES).unwrap_or(bytes);
    let text = String::from_utf8_lossy(window).to_ascii_lowercase();
    let mut asks_for_page = false;
    let mut cookies = 0;
    for line in text.lines() {
        if let Some(accepted) = line.strip_prefix("accept:") {
            asks_for_page |= accepted.contains("text/html");
        }
        if line.starts_with("cookie:") {
            cookies += line.len();
        }
    }
    asks_for_page && cookies > MOST_HEAD_BYTES / 2
}

/// Refuses control characters, a bare CR or LF, and folded lines (RFC 9112 §2.2, §5.2).
fn check_lines(bytes: &[u8]) -> Result<(), Refusal> {
    let is_fit = |(at, byte): (usize, &u8)| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(at + 1);
        match byte {
            b'\t' => true,
            b'\r' => matches!(after, None | Some(b'\n')),
            b'\n' => matches!(before, None | Some(b'\r')) && !matches!(after, Some(b' ' | b'\t')),
            _ => !byte.is_ascii_control(),
        }
    };
    if bytes.iter().enumerate().all(is_fit) {
        return Ok(());
    }
    Err(refusal(
        400,
        "The request head holds a control character, a bare line break or a folded line.",
    ))
}

/// Reads a whole head, up to its empty line.
///
/// # Errors
/// A refusal, as above.
pub fn parse<'a>(head: &'a [u8]) -> Result<Head<'a>, Refusal> {
    check_lines(head)?;
    // The version is looked at first, as the parser calls all others malformed.
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let line = str::from_utf8(line.unwrap_or_default()).map_err(|_| MALFORMED)?;
    match line.rsplit(' ').next() {
        Some("HTTP/1.1" | "HTTP/1.0") => {}
        Some(version) if version.starts_with("HTTP/") => {
            return Err(refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here."));
        }
        _ => return Err(refusal(400, "The request line is malformed.")),
    }
    let mut slots = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refusal(431, "There are too many header fields."));
        }
        _ => return Err(MALFORMED),
    }
    let is_http_11 = request.version == Some(1);
    let method = request
        .method
        .unwrap_or_default()
        .parse()
        .map_err(|()| MALFORMED)?;
    // Bytes above 0x7F are opaque (RFC 9110 §5.5). What is not UTF-8 becomes U+FFFD. Such a value
    // still counts, but is equal to none that has a meaning here.
    let text = |field: &httparse::Header<'a>| (field.name, String::from_utf8_lossy(field.value));
    let fields = Fields(request.headers.iter().map(text).collect());
    let (path, query) = target(request.path.unwrap_or_default(), &method, fields.host()?)?;
    let framing = fields.framing(is_http_11)?;
    let keep_alive = is_http_11 && !fields.ask_to_close();
    let expects_continue = is_http_11 && fields.expect_continue()?;
    Ok(Head {
        method,
        path,
        query,
        fields,
        framing,
        keep_alive,
        is_http_11,
        expects_continue,
    })
}

/// Path and query of the request target (RFC 9112 §3.2).
fn target<'a>(target: &'a str, method: &Method, host: &str) -> Result<(&'a str, &'a str), Refusal> {
    let (before_query, query) = target.split_once('?').unwrap_or((target, ""));
    // The absolute form must be accepted (§3.2.2). Here it must name the same host as Host.
    let path = match before_query.split_at_checked(7) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(host) {
                return Err(refusal(400, "Host and request target disagree."));
            }
            if path.is_empty() { "/" } else { path }
        }
        _ => before_query,
    };
    let is_of_server = target == "*" && *method == Method::Options;
    if !is_of_server && (!path.starts_with('/') || target.contains('#')) {
        return Err(refusal(400, "The request target is malformed."));
    }
    Ok((path, query))
}

/// Names and values of the header fields.
pub(super) struct Fields<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl Fields<'_> {
    /// Every value of the field `name`, in any case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> + Clone {
        self.0
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// The value of `Host`, of which there must be exactly one: `host` or `host:port` (RFC 9112
    /// §3.2).
    fn host(&self) -> Result<&str, Refusal> {
        let mut hosts = self.values("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(refusal(400, "There must be exactly one Host."));
        };
        let fits =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte);
        if host.is_empty() || !host.bytes().all(fits) {
            return Err(refusal(400, "Host is malformed."));
        }
        Ok(host)
    }

    /// How long the body is. `Content-Length` and `Transfer-Encoding` must not both be there, nor
    /// one of them twice (RFC 9112 §6.1, §6.2).
    fn framing(&self, is_http_11: bool) -> Result<Framing, Refusal> {
        let lengths: Vec<&str> = self.values("content-length").collect();
        let codings: Vec<&str> = self.values("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Framing::Length(0)),
            ([digits], []) => content_length(digits).map(Framing::Length),
            ([], [coding]) if is_http_11 && coding.eq_ignore_ascii_case("chunked") => {
                Ok(Framing::Chunked)
            }
            ([], [_]) if is_http_11 => {
                Err(refusal(501, "The only transfer encoding here is chunked."))
            }
            _ => Err(refusal(400, "The length of the body is ambiguous.")),
        }
    }

    fn ask_to_close(&self) -> bool {
        let mut options = self.values("connection").flat_map(|value| value.split(','));
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case("close"))
    }

    fn expect_continue(&self) -> Result<bool, Refusal> {
        if self
            .values("expect")
            .all(|value| value.eq_ignore_ascii_case("100-continue"))
        {
            return Ok(self.values("expect").next().is_some());
        }
        Err(refusal(417, "The only expectation here is 100-continue."))
    }
}

fn content_length(digits: &str) -> Result<usize, Refusal> {
    number(digits, 10).ok_or(refusal(400, "Content-Length is malformed."))
}

/// The number that `digits` write; `None` if they are not all digits.
pub(super) fn number(digits: &str, radix: u32) -> Option<usize> {
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    // A number that is too large for its type stands for too many bytes all the same.
    is_number.then(|| usize::from_str_radix(digits, radix).unwrap_or(usize::MAX))
}
