//! What a connection hands to the application, and what it gets back.

use std::io::Cursor;

use tiny_http::{Header, Method, Response, StatusCode};

use super::event_stream::EventStream;
use super::head::Head;

/// A request, borrowed from the connection's buffer.
pub struct Request<'a> {
    head: &'a Head,
    bytes: &'a [u8],
    body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `bytes` are those that `head` was read from.
    #[must_use]
    pub fn new(head: &'a Head, bytes: &'a [u8], body: &'a [u8]) -> Self {
        Self { head, bytes, body }
    }

    fn text(&self, range: &std::ops::Range<usize>) -> &'a str {
        // The whole head was found to be UTF-8, and every range ends at an ASCII delimiter.
        self.bytes.get(range.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        // Every token is a method of that name.
        self.text(&self.head.method).parse().unwrap_or(Method::Options)
    }

    /// The path, as sent.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.text(&self.head.path)
    }

    /// The query, as sent, without its `?`.
    #[must_use]
    pub fn query(&self) -> &'a str {
        self.head.query.as_ref().map_or("", |range| self.text(range))
    }

    /// The first value of the query parameter `name`, decoded.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query().as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// Every value of the field `name`, in any case.
    pub fn fields<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'_, 'a, 'n> {
        self.head
            .fields
            .iter()
            .filter(move |(field, _)| self.text(field).eq_ignore_ascii_case(name))
            .map(|(_, value)| self.text(value))
    }

    /// The first value of the field `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }

    /// The value of the cookie `name` (RFC 6265 §4.2).
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.fields("cookie")
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// A response whose body is in memory.
pub type Reply = Response<Cursor<Vec<u8>>>;

/// What is streamed as server-sent events: it runs on the connection's thread and may block.
pub type Stream<'a> = Box<dyn FnOnce(&mut EventStream<'_>) -> std::io::Result<()> + 'a>;

/// The answer to a request.
pub enum Answer<'a> {
    /// One response.
    Reply(Reply),
    /// A stream of events behind a 200 with these header fields.
    Stream(Vec<Header>, Stream<'a>),
}

impl<'a> Answer<'a> {
    /// An answer that `run` streams.
    pub fn stream(run: impl FnOnce(&mut EventStream<'_>) -> std::io::Result<()> + 'a) -> Self {
        Self::Stream(Vec::new(), Box::new(run))
    }

    /// The same with one more header field.
    #[must_use]
    pub fn with_field(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Reply(reply) => Self::Reply(with_field(reply, name, value)),
            Self::Stream(mut fields, stream) => {
                fields.extend(field(name, value));
                Self::Stream(fields, stream)
            }
        }
    }
}

/// The application.
pub trait Application: Send + Sync {
    /// Answers one request; called on the connection's thread.
    fn answer<'a>(&'a self, request: &Request<'_>) -> Answer<'a>;
}

/// A response of `status` with a body of `content_type`.
#[must_use]
pub fn reply(status: u16, content_type: &str, body: Vec<u8>) -> Reply {
    let length = body.len();
    let response = Response::new(StatusCode(status), Vec::new(), Cursor::new(body), Some(length), None)
        // Never chunked: the length is known.
        .with_chunked_threshold(usize::MAX);
    let response = with_field(response, "Server", "entra-auth-mcp");
    if content_type.is_empty() { response } else { with_field(response, "Content-Type", content_type) }
}

/// A response of `status` without a body.
#[must_use]
pub fn empty_reply(status: u16) -> Reply {
    reply(status, "", Vec::new())
}

/// A response with a body of JSON.
#[must_use]
pub fn json_reply(status: u16, body: String) -> Reply {
    reply(status, "application/json", body.into_bytes())
}

/// `response` with one more header field. A value that could end the field is left out: tiny_http
/// would print it as it is (CVE-2026-66753).
#[must_use]
pub fn with_field(mut response: Reply, name: &'static str, value: &str) -> Reply {
    if let Some(field) = field(name, value) {
        response.add_header(field);
    }
    response
}

fn field(name: &'static str, value: &str) -> Option<Header> {
    let printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    printable.then(|| Header::from_bytes(name, value).ok()).flatten()
}
