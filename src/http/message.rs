//! What a connection hands to the application, and what it gets back.

use std::io::{self, Empty};

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

use super::event_stream::EventStream;
use super::head::Head;
use super::listener::{Entry, Shared};
use crate::pieces::Pieces;

/// A request, borrowed from the connection's buffers.
pub struct Request<'a> {
    /// Method, path, query and fields.
    pub(crate) head: &'a Head<'a>,
    /// The whole body.
    pub(crate) body: &'a [u8],
    pub(super) entry: &'a Entry,
    pub(super) shared: &'a Shared,
}

impl<'a> Request<'a> {
    /// Whether there is still somebody to work for.
    ///
    /// # Errors
    /// The client has closed its side.
    pub fn check(&self) -> io::Result<()> {
        if self.entry.client_is_gone() {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }

    /// The same, and whether the server goes on.
    ///
    /// # Errors
    /// As above, or the server was told to stop.
    pub fn check_transfer(&self) -> io::Result<()> {
        if self.shared.is_stopping() {
            Err(io::Error::other("the server is stopping"))
        } else {
            self.check()
        }
    }

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

    /// The first value of the cookie `name`.
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.cookies(name).next()
    }

    /// Every value of the cookie `name` (RFC 6265 §4.2).
    pub fn cookies(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let pairs = self.fields("cookie").flat_map(|value| value.split(';'));
        pairs.filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
    }
}

/// A response whose body is in memory; the body is kept apart, so that it is written as it was made.
pub struct Reply {
    head: Response<Empty>,
    body: Pieces,
}

impl Reply {
    /// Its status code.
    pub fn status(&self) -> u16 {
        self.head.status_code().0
    }
}

/// What is streamed as server-sent events: it runs on the connection's thread and may block.
pub type Stream<'a> = Box<dyn FnOnce(&mut EventStream<'_>) -> io::Result<()> + 'a>;

/// The answer to a request.
pub enum Answer<'a> {
    /// One response.
    Reply(Reply),
    /// A stream of events behind the head of this response.
    Stream(Reply, Stream<'a>),
}

impl<'a> Answer<'a> {
    /// An answer that `run` streams.
    pub fn stream(run: impl FnOnce(&mut EventStream<'_>) -> io::Result<()> + 'a) -> Self {
        let Reply { head, body } = reply(200, "text/event-stream", Pieces::default());
        let endless = Reply {
            head: head.with_data(io::empty(), None),
            body,
        };
        // nginx would hold the events back otherwise.
        Self::Stream(
            with_field(endless, "X-Accel-Buffering", "no"),
            Box::new(run),
        )
    }

    /// The same with one more header field.
    pub fn with_field(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Reply(reply) => Self::Reply(with_field(reply, name, value)),
            Self::Stream(head, run) => Self::Stream(with_field(head, name, value), run),
        }
    }
}

const NO_LENGTH: &[u8] = b"Content-Length: 0\r\n";

/// The application.
pub trait Application: Send + Sync {
    /// Whether a body of more than [`SMALL_BODY`] is waited for; the body of `request` has not come yet.
    fn takes_large_body(&self, request: &Request<'_>) -> bool;

    /// Answers one request; called on the connection's thread.
    fn answer<'a>(&'a self, request: &Request<'_>) -> Answer<'a>;
}

/// What is taken from everybody, in bytes.
pub const SMALL_BODY: usize = 64 * 1024;

/// What every answer says of who gave it.
pub const SERVER_NAME: &str = "entra-auth-mcp";

/// A response of `status` with a body of `content_type`.
pub fn reply(status: u16, content_type: &str, body: Pieces) -> Reply {
    reply_under(status, content_type, body, "no-referrer")
}

/// The same under another `Referrer-Policy`.
pub fn reply_under(status: u16, content_type: &str, body: Pieces, referrer_policy: &str) -> Reply {
    let head = Response::new(
        StatusCode(status),
        Vec::new(),
        io::empty(),
        Some(body.len()),
        None,
    );
    // Never chunked: the length is known.
    let response = Reply {
        head: head.with_chunked_threshold(usize::MAX),
        body,
    };
    let fields = [
        ("Server", SERVER_NAME),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", referrer_policy),
        ("Cache-Control", "no-store"),
        ("Content-Type", content_type),
    ];
    fields
        .into_iter()
        .fold(response, |response, (name, value)| {
            with_field(response, name, value)
        })
}

/// A response of `status` without a body.
pub fn empty_reply(status: u16) -> Reply {
    reply(status, "", Pieces::default())
}

/// A response with a body of JSON.
pub fn json_reply(status: u16, body: impl Into<Pieces>) -> Reply {
    reply(status, "application/json", body.into())
}

/// `response` with one more header field, unless its value is empty. One that could end the field is
/// left out, too: `tiny_http` would print it as it is (CVE-2026-66753).
pub fn with_field(mut response: Reply, name: &'static str, value: &str) -> Reply {
    let is_fit = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if is_fit && let Ok(field) = Header::from_bytes(name, value) {
        response.head.add_header(field);
    }
    response
}

/// The head of `reply` as bytes, and its body. `tiny_http` keeps `Connection` to itself, so it is put in behind
/// the status line; and it gives a 204 a length, which that must not have (RFC 9110 §8.6).
pub(super) fn print(reply: Reply, keep_alive: bool) -> (Vec<u8>, Pieces) {
    let mut bytes = Vec::with_capacity(512);
    let has_no_content = reply.status() == 204;
    // Writing into memory cannot fail.
    let _ = reply
        .head
        .raw_print(&mut bytes, HTTPVersion(1, 1), &[], true, None);
    let find =
        |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
    if !keep_alive && let Some(end) = find(&bytes, b"\r\n") {
        bytes.splice(end + 2..end + 2, *b"Connection: close\r\n");
    }
    if has_no_content && let Some(start) = find(&bytes, NO_LENGTH) {
        bytes.drain(start..start + NO_LENGTH.len());
    }
    (bytes, reply.body)
}
