//! One request to the server, and its answer, over HTTP/1.1.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem;
use std::net::TcpStream;

use serde_json::Value;

use super::message::{self, Message};
use super::output::Output;
use super::under_way::Entry;
use crate::http::body::ChunkedBody;
use crate::http::{MOST_FIELDS, MOST_HEAD_BYTES};
use crate::secret::Secret;

const EVENT_STREAM: &str = "text/event-stream";
const READ_BYTES: usize = 64 * 1024;

/// What became of a request.
pub(super) enum Exchanged {
    /// The client has its answer.
    Answered,
    /// The client no longer waits for an answer.
    Cancelled,
    /// The server did not receive it; says why.
    NotSent(String),
    /// It was sent, but no complete answer arrived.
    Broken(io::Error),
    /// The server has refused it without an answer that the client would understand.
    Refused(String),
}

/// The head of a request.
pub(super) struct Header(String);

impl Header {
    pub(super) fn new(host: &str, length: usize) -> Self {
        Self(format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n"
        ))
    }

    /// Adds a field, unless its value could end it.
    pub(super) fn add(&mut self, name: &str, value: Option<&str>) {
        let is_safe = |value: &&str| value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if let Some(value) = value.filter(is_safe) {
            for part in [name, ": ", value, "\r\n"] {
                self.0.push_str(part);
            }
        }
    }

    /// The whole head, with the access key if there is one.
    pub(super) fn with_key(self, key: Option<&Secret>) -> Secret {
        match key {
            Some(key) => key.between(&format!("{}Authorization: Bearer ", self.0), "\r\n\r\n"),
            None => Secret::new(self.0 + "\r\n"),
        }
    }
}

/// Sends a request, and reads the head of its answer.
///
/// # Errors
/// The connection has broken.
pub(super) fn send(mut socket: TcpStream, head: &str, body: &[u8]) -> io::Result<Answer> {
    // One after the other: a copy of the head would leave the access key behind.
    socket.write_all(head.as_bytes())?;
    socket.write_all(body)?;
    let mut input = Vec::new();
    loop {
        if let Some(head) = Head::parse(&input)? {
            input.drain(..head.length);
            let body = Body {
                socket,
                input,
                framing: head.framing,
            };
            return Ok(Answer {
                status: head.status,
                is_stream: head.is_stream,
                session: head.session,
                body,
            });
        }
        if input.len() >= MOST_HEAD_BYTES {
            return Err(malformed());
        }
        read_some(&mut socket, &mut input)?;
    }
}

/// The head of an answer.
struct Head {
    length: usize,
    status: u16,
    is_stream: bool,
    session: Option<String>,
    framing: Framing,
}

impl Head {
    /// `None` while it is not whole.
    fn parse(input: &[u8]) -> io::Result<Option<Self>> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(input).map_err(|_| malformed())?;
        let httparse::Status::Complete(length) = parsed else {
            return Ok(None);
        };
        let field = |name: &str| {
            let mut fields = response.headers.iter();
            let found = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let framing = if field("transfer-encoding").is_some() {
            Framing::Chunked(ChunkedBody::new(usize::MAX))
        } else {
            match field("content-length").map(str::parse) {
                Some(length) => Framing::Length(length.map_err(|_| malformed())?),
                None => Framing::UntilClose,
            }
        };
        Ok(Some(Self {
            length,
            status: response.code.ok_or_else(malformed)?,
            is_stream: field("content-type").is_some_and(|value| value.starts_with(EVENT_STREAM)),
            session: field("mcp-session-id").map(str::to_owned),
            framing,
        }))
    }
}

enum Framing {
    /// So many bytes are still to come.
    Length(usize),
    Chunked(ChunkedBody),
    UntilClose,
}

/// The body of an answer, as it comes.
struct Body {
    socket: TcpStream,
    /// What was read and not yet used.
    input: Vec<u8>,
    framing: Framing,
}

impl Body {
    /// The next piece; an empty one is the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match &mut self.framing {
                Framing::Length(0) => return Ok(Vec::new()),
                Framing::Length(left) if !self.input.is_empty() => {
                    self.input.truncate(*left);
                    *left -= self.input.len();
                    return Ok(mem::take(&mut self.input));
                }
                Framing::Chunked(chunked) => {
                    let used = chunked.decode(&self.input).map_err(|_| malformed())?;
                    self.input.drain(..used);
                    if !chunked.decoded.is_empty() || chunked.is_complete() {
                        return Ok(mem::take(&mut chunked.decoded));
                    }
                }
                Framing::UntilClose if !self.input.is_empty() => {
                    return Ok(mem::take(&mut self.input));
                }
                Framing::Length(_) | Framing::UntilClose => {}
            }
            match read_some(&mut self.socket, &mut self.input) {
                Err(error)
                    if error.kind() == ErrorKind::UnexpectedEof
                        && matches!(self.framing, Framing::UntilClose) =>
                {
                    return Ok(Vec::new());
                }
                read => read?,
            }
        }
    }

    fn whole(&mut self) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        loop {
            let piece = self.next()?;
            if piece.is_empty() {
                return Ok(whole);
            }
            whole.extend(piece);
        }
    }
}

/// An answer whose head has come.
pub(super) struct Answer {
    status: u16,
    is_stream: bool,
    /// The id of the session that it begins.
    pub(super) session: Option<String>,
    body: Body,
}

impl Answer {
    /// Hands on what it holds to the client that waits for the answer to `message`.
    pub(super) fn hand_on(
        mut self,
        message: &Message,
        entry: &Entry,
        output: &Output,
    ) -> Exchanged {
        let handed_on = if self.is_stream {
            self.hand_on_events(entry, output)
        } else {
            self.hand_on_response(message, entry, output)
        };
        match handed_on {
            _ if entry.is_cancelled() => Exchanged::Cancelled,
            Ok(exchanged) => exchanged,
            Err(error) => Exchanged::Broken(error),
        }
    }

    /// Every event is a message; the last one is the response. Once the client has that, whatever
    /// becomes of the connection is nothing to it.
    fn hand_on_events(&mut self, entry: &Entry, output: &Output) -> io::Result<Exchanged> {
        let mut text = Vec::new();
        loop {
            let mut piece = self.body.next()?;
            if piece.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else {
                text.extend(piece);
                continue;
            };
            let rest = piece.split_off(end + 1);
            text.extend(piece);
            for line in text.split(|byte| *byte == b'\n') {
                let Some(message) = line.strip_prefix(b"data:") else {
                    continue;
                };
                if entry.is_cancelled() || output.write(message.trim_ascii()).is_err() {
                    return Ok(Exchanged::Cancelled);
                }
                if message::is_response(message) {
                    return Ok(Exchanged::Answered);
                }
            }
            text = rest;
        }
    }

    fn hand_on_response(
        &mut self,
        message: &Message,
        entry: &Entry,
        output: &Output,
    ) -> io::Result<Exchanged> {
        let body = self.body.whole()?;
        if body.is_empty() && message.ids.is_empty() {
            return Ok(Exchanged::Answered);
        }
        if self.status != 200 && !is_response(&body, message) {
            return Ok(Exchanged::Refused(self.refusal(&body)));
        }
        if entry.is_cancelled() || output.write(&body).is_err() {
            return Ok(Exchanged::Cancelled);
        }
        Ok(Exchanged::Answered)
    }

    /// What the server says in an answer that is no response to the request.
    fn refusal(&self, body: &[u8]) -> String {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = [json.pointer("/error/message"), json.get("error")];
        let said = said.into_iter().flatten().find_map(Value::as_str);
        let said = said.unwrap_or("The server gives no reason.");
        match self.status {
            401 => format!("{said} Set it here as that server has it."),
            status => format!("The server has refused this with status {status}: {said}"),
        }
    }
}

/// Whether the client can tell what `body` is an answer to.
fn is_response(body: &[u8], message: &Message) -> bool {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    match json.get("id") {
        Some(id) => message.ids.contains(id),
        None => message.ids.is_empty() && json.get("jsonrpc").is_some(),
    }
}

fn malformed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the answer is no HTTP")
}

/// Reads at least one byte. The end of the stream is an error.
fn read_some(socket: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let mut piece = vec![0; READ_BYTES];
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                piece.truncate(count);
                input.append(&mut piece);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
