//! A request as the application gets it, and a response as it makes one.

use std::io::{self, Write as _};
use std::time::SystemTime;

use tiny_http::{Header, StatusCode};

use super::head::Head;
use crate::clock::http_date;
use crate::pieces::Pieces;

/// A request, borrowed from the connection's buffers.
pub struct Request<'a> {
    /// Method, path, query and fields.
    pub(crate) head: &'a Head<'a>,
    /// The whole body.
    pub(crate) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first value of the query parameter `name`, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut parameters = url::form_urlencoded::parse(self.head.query.as_bytes());
        parameters
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Every value of the field `name`, in any case.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &'a str> + Clone {
        self.head.fields.values(name)
    }

    /// The first value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// Every value of the cookie `name` (RFC 6265 §4.2).
    pub fn cookies(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.fields("cookie").flat_map(|value| value.split(';'));
        // A space of Unicode belongs to the name: a browser sees no prefix `__Host-` behind it.
        let pairs = pairs.map(|pair| pair.trim_matches([' ', '\t']));
        pairs.filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A response whose body is in memory.
pub struct Reply {
    status: StatusCode,
    content_type: Option<&'static str>,
    referrer_policy: &'static str,
    /// The other fields, without those that every response has.
    pub(super) fields: Vec<Header>,
    pub(super) body: Pieces,
}

/// How the client finds the end of the body (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Reply {
    /// Its status code.
    pub fn status(&self) -> u16 {
        self.status.0
    }

    /// The head with which it is sent.
    pub(super) fn head(&self, framing: BodyFraming, keep_alive: bool) -> Vec<u8> {
        let fields = self.fields.iter().map(field_bytes).sum::<usize>();
        let mut head = Vec::with_capacity(MOST_FIXED_BYTES + fields);
        // Writing into memory cannot fail.
        let _ = self.write_head(&mut head, framing, keep_alive);
        head
    }

    fn write_head(
        &self,
        head: &mut Vec<u8>,
        framing: BodyFraming,
        keep_alive: bool,
    ) -> io::Result<()> {
        let reason = self.status.default_reason_phrase();
        write!(head, "HTTP/1.1 {} {reason}\r\n", self.status.0)?;
        // Without a usable clock, a server sends no date (RFC 9110 §6.6.1).
        if let Some(date) = http_date(SystemTime::now()) {
            write!(head, "Date: {date}\r\n")?;
        }
        write!(head, "Server: {SERVER_NAME}\r\n")?;
        head.extend_from_slice(b"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n");
        write!(head, "Referrer-Policy: {}\r\n", self.referrer_policy)?;
        if let Some(content_type) = self.content_type {
            write!(head, "Content-Type: {content_type}\r\n")?;
        }
        for field in &self.fields {
            write!(head, "{}: {}\r\n", field.field, field.value)?;
        }
        match framing {
            // A 204 must not have a length (RFC 9110 §8.6).
            BodyFraming::Length(_) if self.status.0 == 204 => {}
            BodyFraming::Length(length) => write!(head, "Content-Length: {length}\r\n")?,
            BodyFraming::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            BodyFraming::UntilClose => {}
        }
        if !keep_alive {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// The most bytes of a head without `Reply::fields`. With it, a head is allocated once.
const MOST_FIXED_BYTES: usize = 384;

fn field_bytes(field: &Header) -> usize {
    field.field.as_str().len() + field.value.as_str().len() + b": \r\n".len()
}

/// The value of `Server` in every answer.
pub const SERVER_NAME: &str = "entra-auth-mcp";

/// A response of `status` with a body of `content_type`.
pub fn reply(status: u16, content_type: &'static str, body: Pieces) -> Reply {
    Reply {
        content_type: Some(content_type),
        body,
        ..empty_reply(status)
    }
}

/// The same with another `Referrer-Policy`.
pub fn reply_under(
    status: u16,
    content_type: &'static str,
    body: Pieces,
    referrer_policy: &'static str,
) -> Reply {
    Reply {
        referrer_policy,
        ..reply(status, content_type, body)
    }
}

/// A response of `status` without a body.
pub fn empty_reply(status: u16) -> Reply {
    Reply {
        status: StatusCode(status),
        content_type: None,
        referrer_policy: "no-referrer",
        fields: Vec::new(),
        body: Pieces::default(),
    }
}

/// A response with a body of JSON.
pub fn json_reply(status: u16, body: impl Into<Pieces>) -> Reply {
    reply(status, "application/json", body.into())
}

/// `reply` with one more header field, unless its value is empty or could end the field.
/// `tiny_http` itself accepts line breaks in a `Header` (CVE-2026-66753).
pub fn with_field(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    reply.fields.extend(header(name, value));
    reply
}

/// The header field, unless its value is empty or could end it.
pub(super) fn header(name: &'static str, value: &str) -> Option<Header> {
    let is_fit = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    Header::from_bytes(name, value).ok().filter(|_| is_fit)
}
