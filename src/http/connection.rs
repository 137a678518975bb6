//! One connection, on one thread at a time: each request is read and answered before the next,
//! until the client or the server closes the connection.

use std::io::{self, ErrorKind, Read as _};
use std::iter;
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::Limits;
use super::answer::{Answer, Output};
use super::application::{Application, SMALL_BODY};
use super::body::ChunkedBody;
use super::head::{self, Framing, Head, Refusal, TOO_LARGE, refusal};
use super::message::{BodyFraming, Reply, Request, json_reply};
use super::slots::{Slot, Slots};
use super::ticker::Ticker;

/// The most bytes of one `read`.
const MOST_READ_BYTES: usize = 64 * 1024;
/// The most bytes of the first `read` of a request. Most requests are shorter.
const READ_BYTES: usize = 2 * 1024;
/// The largest buffer that is kept after a large request.
const KEPT_BUFFER_BYTES: usize = 64 * 1024;
/// After an error answer, this much of what the client still sends is read and thrown away.
/// Otherwise closing could reset the connection before the client has read the answer (RFC 9112
/// §9.6).
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_millis(500);

const INTERNAL_ERROR: &str =
    r#"{"error":"This request hit a bug of the server; its log says more."}"#;

/// Why a connection ends without an answer.
enum End {
    /// The request is refused, and the client is told why.
    Refused(Refusal),
    /// The browser has sent too many cookies, and the person is told so.
    TooManyCookies,
    /// The client has closed it, the network has failed, or another connection needed its slot.
    Closed,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// How far a connection has been served.
#[derive(PartialEq, Eq)]
pub enum Served {
    /// To its end.
    Whole,
    /// Until it went quiet.
    Quiet,
}

/// What the connections share.
pub struct Shared {
    /// What each connection may cost.
    pub limits: Limits,
    /// Answers the requests.
    pub application: Box<dyn Application>,
    /// All connections.
    pub slots: Slots,
    /// Looks after the answers that may become streams.
    pub ticker: Ticker<Output>,
}

/// Serves the connection until it ends or goes quiet. If it `is_quiet` already, it cannot go quiet
/// before another request.
pub fn serve(shared: &Shared, slot: &Arc<Slot>, mut is_quiet: bool) -> Served {
    let _ = slot.socket.set_nodelay(true);
    let mut connection = Connection {
        shared,
        slot,
        output: Arc::new(Output::new(Arc::clone(slot), &shared.limits)),
        input: Vec::new(),
        read_timeout: None,
    };
    loop {
        if let Err(served) = connection.await_request(is_quiet) {
            return served;
        }
        is_quiet = false;
        match connection.exchange() {
            Ok(true) => {}
            Ok(false) => break,
            Err(End::Closed) => return Served::Whole,
            Err(End::Refused(Refusal { status, reason })) => {
                let body = serde_json::json!({"error": reason}).to_string();
                connection.write_last(&json_reply(status, body));
                break;
            }
            Err(End::TooManyCookies) => {
                connection.write_last(&shared.application.too_many_cookies());
                break;
            }
        }
    }
    drain(&slot.socket);
    Served::Whole
}

struct Connection<'a> {
    shared: &'a Shared,
    slot: &'a Slot,
    output: Arc<Output>,
    /// Bytes that were read and are not used yet: the current request, then perhaps pipelined ones.
    input: Vec<u8>,
    /// The timeout that the socket has, so that the same is not set again.
    read_timeout: Option<Duration>,
}

impl Connection<'_> {
    /// Waits for the first byte of a request, for as long as a connection may idle.
    fn await_request(&mut self, is_quiet: bool) -> Result<(), Served> {
        if !self.input.is_empty() {
            return Ok(());
        }
        if self.shared.slots.is_stopping() {
            return Err(Served::Whole);
        }
        let Limits { idle, quiet, .. } = self.shared.limits;
        let goes_quiet = !quiet.is_zero() && quiet < idle;
        let patience = match (goes_quiet, is_quiet) {
            (true, false) => quiet,
            (true, true) => idle.saturating_sub(quiet),
            (false, _) => idle,
        };
        match self.read_within(patience) {
            Err(error) if is_late(&error) && goes_quiet && !is_quiet => Err(Served::Quiet),
            Err(_) => Err(Served::Whole),
            Ok(()) => Ok(()),
        }
    }

    /// Reads one request and answers it. Returns whether another may follow.
    fn exchange(&mut self) -> Result<bool, End> {
        let head = self.read_head()?;
        let mut head = head::parse(&head)?;
        let most = self.most_body(&head);
        // While the body is awaited, the connection may be given up for another, so that a flood of
        // requests that are never whole keeps nobody out.
        self.slot.begin_body();
        let length = match self.read_body(&head, most) {
            // The application refuses this request by its head. Its body is not waited for
            // (RFC 9110 §10.1.1).
            Err(End::Refused(Refusal { status: 413, .. }))
                if most < self.shared.limits.body_bytes =>
            {
                head.keep_alive = false;
                0
            }
            length => length?,
        };
        if !self.slot.begin_request() {
            return Err(End::Closed);
        }
        let keep_alive = self.answer(&head, self.input.get(..length).unwrap_or_default())?;
        self.input.drain(..length);
        self.input.shrink_to(KEPT_BUFFER_BYTES);
        self.slot.end_request();
        Ok(keep_alive)
    }

    /// The longest body that is waited for.
    fn most_body(&self, head: &Head<'_>) -> usize {
        let most = self.shared.limits.body_bytes;
        let may_be_large = match head.framing {
            Framing::Length(length) => length > SMALL_BODY && length <= most,
            Framing::Chunked => true,
        };
        let request = Request { head, body: &[] };
        if may_be_large && !self.shared.application.takes_large_body(&request) {
            most.min(SMALL_BODY)
        } else {
            most
        }
    }

    /// Takes the bytes of one head off the input.
    fn read_head(&mut self) -> Result<Vec<u8>, End> {
        let deadline = Instant::now() + self.shared.limits.head;
        let mut seen = 0;
        loop {
            // An empty line before a request is ignored (RFC 9112 §2.2), even if it came in two
            // pieces.
            if seen <= 1 && self.input.starts_with(b"\r\n") {
                self.input.drain(..2);
            }
            match head::end_of_head(&self.input, seen) {
                Ok(Some(end)) => return Ok(self.input.drain(..end).collect()),
                Ok(None) => seen = self.input.len(),
                Err(Refusal { status: 431, .. })
                    if head::is_of_browser_with_cookies(&self.input) =>
                {
                    return Err(End::TooManyCookies);
                }
                Err(refusal) => return Err(refusal.into()),
            }
            self.read_until(deadline, "The request head took too long.")?;
        }
    }

    /// Reads the whole body, so that it is the beginning of the input, decoded. Returns its length.
    fn read_body(&mut self, head: &Head<'_>, most: usize) -> Result<usize, End> {
        let deadline = Instant::now() + self.shared.limits.body;
        if matches!(head.framing, Framing::Length(length) if length > most) {
            return Err(TOO_LARGE.into());
        }
        if head.expects_continue && self.input.is_empty() && head.framing != Framing::Length(0) {
            self.output
                .write(iter::once(&b"HTTP/1.1 100 Continue\r\n\r\n"[..]))?;
        }
        let mut chunked = ChunkedBody::new(most);
        loop {
            match head.framing {
                Framing::Length(length) if self.input.len() >= length => return Ok(length),
                Framing::Length(_) => {}
                Framing::Chunked => {
                    // What was decoded is dropped at once, so that there are no two copies.
                    let used = chunked.decode(&self.input)?;
                    self.input.drain(..used);
                    if chunked.is_complete() {
                        let length = chunked.decoded.len();
                        self.input.splice(..0, chunked.decoded);
                        return Ok(length);
                    }
                }
            }
            self.read_until(deadline, "The request body took too long.")?;
        }
    }

    /// Writes the last answer. The connection is closed after it, whether or not it was written.
    fn write_last(&self, reply: &Reply) {
        let head = reply.head(BodyFraming::Length(reply.body.len()), false);
        let pieces = iter::once(head.as_slice()).chain(reply.body.iter());
        let _ = self.output.write(pieces);
    }

    fn answer(&self, head: &Head<'_>, body: &[u8]) -> io::Result<bool> {
        let request = Request { head, body };
        let mut answer = Answer::new(
            &self.output,
            &self.shared.ticker,
            &self.shared.slots,
            head.is_http_11,
            head.keep_alive,
        );
        // A bug affects one request alone: that gets a 500, and the server goes on.
        let reply = catch_unwind(AssertUnwindSafe(|| {
            self.shared.application.answer(&request, &mut answer)
        }));
        let reply = reply.unwrap_or_else(|_| json_reply(500, INTERNAL_ERROR.to_owned()));
        answer.finish(reply, head.method == Method::Head)
    }

    /// Reads at least one byte before `deadline`. A client that is too late is told so (408).
    fn read_until(&mut self, deadline: Instant, late: &'static str) -> Result<(), End> {
        time_left(deadline)
            .and_then(|left| self.read_within(left))
            .map_err(|error| {
                if is_late(&error) {
                    refusal(408, late).into()
                } else {
                    End::Closed
                }
            })
    }

    /// Reads at least one byte within `timeout`.
    fn read_within(&mut self, timeout: Duration) -> io::Result<()> {
        if self.read_timeout.replace(timeout) != Some(timeout) {
            self.slot.socket.set_read_timeout(Some(timeout))?;
        }
        read_some(&self.slot.socket, &mut self.input)
    }
}

/// Whether the time was up.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// How long it is until `deadline`. After that, an error.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

/// Reads at least one byte. The end of the stream is an error: nothing more can come.
fn read_some(mut socket: &TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    let filled = input.len();
    input.resize(filled + filled.clamp(READ_BYTES, MOST_READ_BYTES), 0);
    let read = loop {
        match socket.read(input.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => break result,
        }
    };
    input.truncate(filled + read.as_ref().map_or(0, |count| *count));
    read.map(drop)
}

/// Tells the client that nothing more will come, and lets it finish what it is sending.
pub fn drain(socket: &TcpStream) {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut piece = Vec::new();
    let mut drained = 0;
    let _ = socket.shutdown(Shutdown::Write);
    let step = |piece: &mut Vec<u8>| {
        socket.set_read_timeout(Some(time_left(deadline)?))?;
        piece.clear();
        read_some(socket, piece)
    };
    while drained < DRAIN_BYTES && step(&mut piece).is_ok() {
        drained += piece.len();
    }
}
