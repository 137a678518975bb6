//! The request head (RFC 9112 §2, §3, §5, §6), read strictly: what two parsers could read in two
//! ways is refused, so that nobody in front of us and we ever disagree where a request ends.

use std::ops::Range;

use super::{MOST_BODY_BYTES, MOST_FIELDS, MOST_HEAD_BYTES};

/// How long the body is (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A refusal at the level of HTTP: the status, and a sentence for the person behind the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// What is wrong.
    pub reason: &'static str,
}

const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// Where the parts of a head stand in the bytes that were read.
#[derive(Debug)]
pub struct Head {
    /// The length of the head with its empty line.
    pub length: usize,
    /// The method.
    pub method: Range<usize>,
    /// The path of the request target.
    pub path: Range<usize>,
    /// The query of the request target, without its `?`.
    pub query: Option<Range<usize>>,
    /// Name and value of each field.
    pub fields: Vec<(Range<usize>, Range<usize>)>,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the client keeps the connection for another request.
    pub keep_alive: bool,
    /// HTTP/1.1; else HTTP/1.0.
    pub is_http_11: bool,
    /// Whether the client waits for a `100 Continue` (RFC 9110 §10.1.1).
    pub expects_continue: bool,
}

/// Reads a head from the start of `bytes`. `None`: there is not enough of it yet.
///
/// # Errors
/// A refusal; what follows on the connection cannot be trusted then.
pub fn parse(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let Some(end) = end_of_head(bytes)? else {
        return Ok(None);
    };
    let head = bytes.get(..end).unwrap_or_default();
    check_bytes(head)?;
    check_version(head)?;
    let mut slots = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == end => {}
        Err(httparse::Error::TooManyHeaders) => return Err(refusal(431, "There are too many header fields.")),
        _ => return Err(refusal(400, "The request head is malformed.")),
    }
    let is_http_11 = request.version == Some(1);
    let fields = Fields(request.headers);
    let host = fields.host()?;
    let (path, query) = target(request.path.unwrap_or_default(), request.method.unwrap_or_default(), host)?;
    let within = |part: &str| range_within(head, part.as_bytes());
    Ok(Some(Head {
        length: end,
        method: within(request.method.unwrap_or_default()),
        path: within(path),
        query: query.map(within),
        fields: fields.0.iter().map(|field| (within(field.name), range_within(head, field.value))).collect(),
        framing: fields.framing(is_http_11)?,
        keep_alive: is_http_11 && !fields.has_token("connection", "close"),
        is_http_11,
        expects_continue: is_http_11 && fields.expects_continue()?,
    }))
}

/// The length of the head, when its empty line is there.
fn end_of_head(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let window = bytes.get(..MOST_HEAD_BYTES).unwrap_or(bytes);
    if let Some(at) = window.windows(4).position(|four| four == b"\r\n\r\n") {
        return Ok(Some(at + 4));
    }
    if bytes.len() >= MOST_HEAD_BYTES {
        let in_request_line = !window.contains(&b'\n');
        return Err(if in_request_line {
            refusal(414, "The request target is too long.")
        } else {
            refusal(431, "The request head is too long.")
        });
    }
    // Garbage is refused at once instead of waiting for an end that never comes.
    check_bytes(bytes.strip_suffix(b"\r").unwrap_or(bytes))?;
    Ok(None)
}

/// No control bytes, no bare CR or LF, no folded lines (RFC 9112 §2.2, §5.2), and UTF-8.
fn check_bytes(head: &[u8]) -> Result<(), Refusal> {
    let mut previous = 0;
    for &byte in head {
        let fine = match byte {
            b'\n' => previous == b'\r',
            _ if previous == b'\r' => false,
            b' ' | b'\t' => previous != b'\n',
            b'\r' => true,
            0..0x20 | 0x7f => false,
            _ => true,
        };
        if !fine {
            return Err(refusal(
                400,
                "The request head holds a control character, a bare line break or a folded line.",
            ));
        }
        previous = byte;
    }
    if head.starts_with(b"\r") || std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some()) {
        return Err(refusal(400, "The request head is malformed."));
    }
    Ok(())
}

/// 505 for any version but 1.0 and 1.1, before the parser calls it malformed.
fn check_version(head: &[u8]) -> Result<(), Refusal> {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.rsplit(|&byte| byte == b' ').next().unwrap_or_default() {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        other if other.starts_with(b"HTTP/") => Err(refusal(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")),
        _ => Err(refusal(400, "The request line is malformed.")),
    }
}

/// Path and query of the request target (RFC 9112 §3.2).
fn target<'a>(target: &'a str, method: &str, host: &str) -> Result<(&'a str, Option<&'a str>), Refusal> {
    let malformed = refusal(400, "The request target is malformed.");
    // The absolute form must be taken (§3.2.2); it must agree with Host, so that both mean the same.
    let origin_form = match target.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("http://") => {
            let rest = target.get(7..).unwrap_or_default();
            let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(host) {
                return Err(refusal(400, "Host and request target disagree."));
            }
            if path.is_empty() { "/" } else { path }
        }
        _ => target,
    };
    if origin_form == "*" && method == "OPTIONS" {
        return Ok((target, None));
    }
    if !origin_form.starts_with('/') || origin_form.contains('#') {
        return Err(malformed);
    }
    Ok(match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin_form, None),
    })
}

/// Where `part` stands in `whole`, of which it is a slice; an empty range for one that is not.
fn range_within(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr().addr()).wrapping_sub(whole.as_ptr().addr());
    let end = start.wrapping_add(part.len());
    if start <= end && end <= whole.len() { start..end } else { 0..0 }
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Exactly one `Host`, of `host` or `host:port` (RFC 9112 §3.2).
    fn host(&self) -> Result<&'a str, Refusal> {
        let mut hosts = self.values("host");
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(refusal(400, "There must be exactly one Host."));
        };
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
        let host = std::str::from_utf8(host).unwrap_or_default();
        if host.is_empty() || !host.as_bytes().iter().all(fits) {
            return Err(refusal(400, "Host is malformed."));
        }
        Ok(host)
    }

    /// Never both, never twice, nothing but digits, nothing but `chunked` (RFC 9112 §6.1, §6.2).
    fn framing(&self, is_http_11: bool) -> Result<Framing, Refusal> {
        let mut lengths = self.values("content-length");
        let mut encodings = self.values("transfer-encoding");
        match (lengths.next(), encodings.next()) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(length), None) if lengths.next().is_none() => content_length(length),
            (None, Some(encoding)) if is_http_11 && encodings.next().is_none() => {
                if encoding.eq_ignore_ascii_case(b"chunked") {
                    Ok(Framing::Chunked)
                } else {
                    Err(refusal(501, "The only transfer encoding here is chunked."))
                }
            }
            _ => Err(refusal(400, "The length of the body is ambiguous.")),
        }
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    fn expects_continue(&self) -> Result<bool, Refusal> {
        let mut expectations = self.values("expect").peekable();
        let any = expectations.peek().is_some();
        if expectations.all(|value| value.eq_ignore_ascii_case(b"100-continue")) {
            Ok(any)
        } else {
            Err(refusal(417, "The only expectation here is 100-continue."))
        }
    }
}

fn content_length(digits: &[u8]) -> Result<Framing, Refusal> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(refusal(400, "Content-Length is malformed."));
    }
    // More digits than a number can hold are too many bytes, too.
    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX);
    if length > MOST_BODY_BYTES { Err(TOO_LARGE) } else { Ok(Framing::Length(length)) }
}

/// For a body that is longer than we take.
pub const TOO_LARGE: Refusal = refusal(413, "The request body is larger than 4 MiB.");
