//! One connection, on its own thread: requests are read, answered and followed by the next, in
//! order, until either side has had enough.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Method};

use super::body::ChunkedBody;
use super::event_stream::EventStream;
use super::head::{self, Framing, Head, Refusal};
use super::listener::{Entry, Shared};
use super::message::{Answer, Reply, Request, json_reply};

/// One `read` takes at most so much.
const READ_BYTES: usize = 16 * 1024;
/// A buffer that one large request grew beyond this is given back.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;
/// After an error answer, so much of what the client still sends is read and thrown away, so that
/// closing does not reset the connection before the client has read the answer (RFC 9112 §9.6).
const DRAIN_BYTES: usize = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// Why a connection ends without an answer.
enum End {
    /// The client closed, or went silent between requests, or the transport failed, or the place
    /// was needed.
    Quietly,
    /// The client is told, then the connection is closed.
    Refused(Refusal),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Quietly
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Serves the connection until it ends.
pub fn serve(shared: &Shared, entry: &Arc<Entry>) {
    let mut connection =
        Connection { shared, entry, socket: &entry.socket, input: Vec::new(), read_timeout: Duration::ZERO };
    let _ = entry.socket.set_nodelay(true);
    loop {
        match connection.exchange() {
            Ok(true) => {}
            Ok(false) => break,
            Err(End::Quietly) => return,
            Err(End::Refused(refusal)) => {
                connection.refuse(refusal);
                break;
            }
        }
    }
    drain(&entry.socket);
}

struct Connection<'a> {
    shared: &'a Shared,
    entry: &'a Entry,
    socket: &'a TcpStream,
    /// Bytes that were read and not yet used: the current request, then perhaps pipelined ones.
    input: Vec<u8>,
    /// What the socket's read timeout is set to, so that it is set only when it changes.
    read_timeout: Duration,
}

impl Connection<'_> {
    /// Reads one request and answers it. `true`: another may follow.
    fn exchange(&mut self) -> Result<bool, End> {
        let head = self.read_head()?;
        if !self.entry.begin_request() {
            return Err(End::Quietly);
        }
        let (used, chunked_body) = self.read_body(&head)?;
        let body = match &chunked_body {
            Some(body) => body.decoded.as_slice(),
            None => self.input.get(head.length..used).unwrap_or_default(),
        };
        let keep_alive = self.answer(&head, body)?;
        self.input.drain(..used);
        if self.input.capacity() > KEPT_BUFFER_BYTES {
            self.input.shrink_to(KEPT_BUFFER_BYTES);
        }
        self.entry.end_request();
        Ok(keep_alive)
    }

    fn read_head(&mut self) -> Result<Head, End> {
        // One empty line before a request is ignored (RFC 9112 §2.2).
        if self.input.starts_with(b"\r\n") {
            self.input.drain(..2);
        }
        let mut deadline = (!self.input.is_empty()).then(|| Instant::now() + self.shared.limits.head);
        loop {
            if !self.input.is_empty()
                && let Some(head) = head::parse(&self.input)?
            {
                return Ok(head);
            }
            if self.shared.is_stopping() {
                return Err(End::Quietly);
            }
            match deadline {
                None => {
                    self.read_within(self.shared.limits.idle)?;
                    deadline = Some(Instant::now() + self.shared.limits.head);
                }
                Some(deadline) => self.read_until(deadline, "The request head took too long.")?,
            }
        }
    }

    /// Makes the whole body available; gives where the request ends in `input`, and the decoded
    /// body of a chunked one.
    fn read_body(&mut self, head: &Head) -> Result<(usize, Option<ChunkedBody>), End> {
        const LATE: &str = "The request body took too long.";
        let deadline = Instant::now() + self.shared.limits.body;
        let is_missing = match head.framing {
            Framing::Length(length) => self.input.len() < head.length + length,
            Framing::Chunked => self.input.len() == head.length,
        };
        if head.expects_continue && is_missing {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        match head.framing {
            Framing::Length(length) => {
                let end = head.length + length;
                while self.input.len() < end {
                    self.read_until(deadline, LATE)?;
                }
                Ok((end, None))
            }
            Framing::Chunked => {
                let mut body = ChunkedBody::new();
                loop {
                    let used = body.decode(self.input.get(head.length..).unwrap_or_default())?;
                    // What is decoded is dropped at once, so that the buffer holds no second copy.
                    self.input.drain(head.length..head.length + used);
                    if body.is_complete() {
                        return Ok((head.length, Some(body)));
                    }
                    self.read_until(deadline, LATE)?;
                }
            }
        }
    }

    fn answer(&self, head: &Head, body: &[u8]) -> Result<bool, End> {
        let request = Request::new(head, &self.input, body);
        let keep_alive = head.keep_alive && !self.shared.is_stopping();
        // A bug in one request is that request's: it gets a 500, the server goes on.
        let answer = catch_unwind(AssertUnwindSafe(|| self.shared.application.answer(&request)));
        match answer.unwrap_or_else(|_| Answer::Reply(internal_error())) {
            Answer::Reply(reply) => {
                let is_head = request.method() == Method::Head;
                self.write(&print(reply, keep_alive, is_head))?;
                Ok(keep_alive)
            }
            Answer::Stream(fields, run) => {
                let mut stream = EventStream::begin(
                    self.socket,
                    head.is_http_11,
                    &fields,
                    self.shared.limits.answer,
                    &self.shared.stopping,
                )?;
                let ran = catch_unwind(AssertUnwindSafe(|| run(&mut stream)));
                ran.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
                stream.end()?;
                Ok(keep_alive)
            }
        }
    }

    fn refuse(&self, refusal: Refusal) {
        let body = serde_json::json!({"error": refusal.reason}).to_string();
        // The connection is closed whether or not the client still gets to read why.
        let _ = self.write(&print(json_reply(refusal.status, body), false, false));
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write_all(self.socket, bytes, Instant::now() + self.shared.limits.answer)
    }

    /// Reads what is there by `deadline`; a client that is too late is told so (408).
    fn read_until(&mut self, deadline: Instant, late: &'static str) -> Result<(), End> {
        let late = Refusal { status: 408, reason: late };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(End::Refused(late));
        }
        self.read_within(left).map_err(|error| if is_timeout(&error) { End::Refused(late) } else { End::Quietly })
    }

    fn read_within(&mut self, timeout: Duration) -> io::Result<()> {
        if self.read_timeout != timeout {
            self.socket.set_read_timeout(Some(timeout))?;
            self.read_timeout = timeout;
        }
        let mut bytes = [0; READ_BYTES];
        let count = read_some(self.socket, &mut bytes)?;
        self.input.extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(())
    }
}

fn internal_error() -> Reply {
    json_reply(500, r#"{"error":"This request hit a bug of the server; its log says more."}"#.to_owned())
}

/// Head and body as the bytes of one write. tiny_http keeps `Connection` to itself, so it is put
/// in behind the status line.
fn print(reply: Reply, keep_alive: bool, is_head: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512 + reply.data_length().unwrap_or(0));
    // Writing into memory cannot fail.
    let _ = reply.raw_print(&mut bytes, HTTPVersion(1, 1), &[], is_head, None);
    if !keep_alive && let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        bytes.splice(end + 2..end + 2, *b"Connection: close\r\n");
    }
    bytes
}

/// At least one byte; the end of the stream is an error, as nothing more can come of it.
fn read_some(mut socket: &TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Writes all of `bytes` by `deadline`. The write timeout is armed again only where one write does
/// not take everything: a slow reader.
///
/// # Errors
/// The client is gone, or too slow.
pub fn write_all(mut socket: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            socket.set_write_timeout(Some(left))?;
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Says that nothing more will come, and lets the client finish what it is sending.
pub fn drain(socket: &TcpStream) {
    if socket.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + DRAIN_TIME;
    let mut bytes = [0; READ_BYTES];
    let mut drained = 0;
    while drained < DRAIN_BYTES {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || socket.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match read_some(socket, &mut bytes) {
            Ok(count) => drained += count,
            Err(_) => return,
        }
    }
}
