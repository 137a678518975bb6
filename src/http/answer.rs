//! The answer to one request. It is one response, unless something must be sent before the result
//! is there. Then it becomes a stream of server-sent events (HTML Living Standard §9.2) that ends
//! with the result.
//!
//! Two threads write to it: the one that makes the result, and the ticker, which never blocks. Each
//! locks the state of the [`Output`] first. What the socket had no room for stays in that state.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::iter;
use std::mem;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use memchr::memchr2;
use tiny_http::Header;

use super::Limits;
use super::message::{BodyFraming, Reply, header, reply, with_field};
use super::slots::{Slot, Slots};
use super::ticker::{Tick, Ticker};
use crate::pieces::Pieces;
use crate::sync::{locked, try_locked};

/// How often a call that waits checks whether its client is still there.
const STEP: Duration = Duration::from_millis(100);
/// How often the ticker tries again to write to a client that does not read.
const RETRY: Duration = Duration::from_millis(100);
/// A comment keeps the connection from looking idle.
const KEEP_ALIVE: &str = ": keep-alive\n\n";
const EVENT_START: &str = "event: message\ndata: ";
const EVENT_END: &str = "\n\n";

/// Makes the data of an event that says that the call goes on. It is called under the lock of the
/// answer, so events are sent in the order in which they were made.
pub type SignOfLife = Box<dyn FnMut() -> String + Send>;

/// The writing side of a connection.
pub struct Output {
    slot: Arc<Slot>,
    /// How long an answer is silent before it becomes a stream, if it can.
    silence: Duration,
    /// How long a stream is silent before it gets a sign of life.
    keep_alive: Duration,
    /// How long a client may take to read one answer, or one event.
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    form: Form,
    /// The header fields that the answer has in each form.
    fields: Vec<Header>,
    /// What the socket had no room for. It is sent before everything else.
    unsent: Option<Unsent>,
    /// The timeout that the socket has, so that the same is not set again.
    write_timeout: Option<Duration>,
}

/// What the answer is at the moment.
enum Form {
    /// One response, whatever happens.
    Response,
    /// A stream of events, which may not have begun yet.
    Stream(EventStream),
    /// The client has left, or does not read: nothing more is sent.
    Closed,
}

struct EventStream {
    has_begun: bool,
    /// When something was last sent; before that, when the answer was begun.
    last_sign: Instant,
    framing: BodyFraming,
    keeps_connection: bool,
    /// Without one, the client gets comments as signs of life.
    sign_of_life: Option<SignOfLife>,
}

struct Unsent {
    bytes: Vec<u8>,
    since: Instant,
}

impl EventStream {
    /// The head, if it was not sent yet.
    fn opening(&mut self, fields: &mut Vec<Header>) -> Pieces {
        if mem::replace(&mut self.has_begun, true) {
            return Pieces::default();
        }
        let head = reply(200, "text/event-stream", Pieces::default());
        // nginx would hold the events back otherwise.
        let mut head = with_field(head, "X-Accel-Buffering", "no");
        head.fields.append(fields);
        head.head(self.framing, self.keeps_connection).into()
    }

    fn sign_of_life(&mut self) -> Pieces {
        match &mut self.sign_of_life {
            Some(sign_of_life) => event(sign_of_life().into()),
            None => KEEP_ALIVE.into(),
        }
    }

    /// `event` as it is sent: HTTP/1.1 clients get it as a chunk (RFC 9112 §7.1).
    fn framed(&self, event: Pieces) -> Pieces {
        if self.framing != BodyFraming::Chunked {
            return event;
        }
        let mut chunk = Pieces::from(format!("{:x}\r\n", event.len()));
        chunk.append(event);
        chunk.push("\r\n");
        chunk
    }

    /// The end of the stream; without chunks, it is the end of the connection.
    fn ending(&self) -> Pieces {
        self.framed(Pieces::default())
    }
}

/// One `message` event with `data` in JSON.
fn event(data: Pieces) -> Pieces {
    let mut event = Pieces::from(EVENT_START);
    event.append(in_one_line(data));
    event.push(EVENT_END);
    event
}

/// `data` without line breaks. In JSON they are white space, but they would end the field of an
/// event.
fn in_one_line(data: Pieces) -> Pieces {
    let is_break = |byte: u8| matches!(byte, b'\n' | b'\r');
    let has_breaks = |piece: &[u8]| memchr2(b'\n', b'\r', piece).is_some();
    if !data.iter().any(has_breaks) {
        return data;
    }
    let mut line = data.iter().collect::<Vec<_>>().concat();
    for byte in line.iter_mut().filter(|byte| is_break(**byte)) {
        *byte = b' ';
    }
    line.into()
}

fn aborted() -> io::Error {
    ErrorKind::ConnectionAborted.into()
}

impl Output {
    /// The writing side of the connection of `slot`.
    pub fn new(slot: Arc<Slot>, limits: &Limits) -> Self {
        let state = State {
            form: Form::Response,
            fields: Vec::new(),
            unsent: None,
            write_timeout: None,
        };
        Self {
            slot,
            silence: limits.silence,
            keep_alive: limits.keep_alive,
            patience: limits.answer,
            state: Mutex::new(state),
        }
    }

    /// Writes outside of an answer: an interim response, or a refusal of what was read.
    ///
    /// # Errors
    /// The client has left, or does not read.
    pub fn write<'b>(&self, pieces: impl Iterator<Item = &'b [u8]>) -> io::Result<()> {
        self.write_all(&mut locked(&self.state), pieces)
    }

    /// Writes a part of an answer. If the client does not read it, another connection may take the
    /// slot meanwhile.
    fn write_answer<'b>(
        &self,
        state: &mut State,
        pieces: impl Iterator<Item = &'b [u8]>,
    ) -> io::Result<()> {
        self.slot.begin_answer();
        self.write_all(state, pieces)?;
        if self.slot.end_answer() {
            Ok(())
        } else {
            Err(aborted())
        }
    }

    /// Writes what is unsent, then `pieces`, within the time that one answer has. If the socket has
    /// room, this is one system call.
    fn write_all<'b>(
        &self,
        state: &mut State,
        pieces: impl Iterator<Item = &'b [u8]>,
    ) -> io::Result<()> {
        let unsent = state.unsent.take();
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        slices.extend(unsent.iter().map(|unsent| IoSlice::new(&unsent.bytes)));
        for piece in pieces {
            slices.push(IoSlice::new(piece));
        }
        let mut pieces = slices.as_mut_slice();
        let mut socket = &self.slot.socket;
        let deadline = Instant::now() + self.patience;
        let mut left = self.patience;
        while !pieces.is_empty() {
            if state.write_timeout.replace(left) != Some(left) {
                socket.set_write_timeout(Some(left))?;
            }
            match socket.write_vectored(pieces) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut pieces, count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if !pieces.is_empty() {
                left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
        }
        Ok(())
    }

    /// Writes as much of `bytes` as the socket has room for, and returns how much that was.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut socket = &self.slot.socket;
        socket.set_nonblocking(true)?;
        let written = socket.write(bytes);
        socket.set_nonblocking(false)?;
        match written {
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Ok(0)
            }
            written => written,
        }
    }

    /// Sends a sign of life if the silence has lasted for too long. Returns when to come back.
    fn look_after(&self, state: &mut State, now: Instant) -> io::Result<Instant> {
        let Form::Stream(stream) = &mut state.form else {
            // The result is there, and the ticker is about to be told.
            return Ok(now + self.silence);
        };
        let next = if stream.has_begun {
            stream.last_sign + self.keep_alive
        } else {
            stream.last_sign + self.silence
        };
        let mut unsent = match state.unsent.take() {
            Some(unsent) => unsent,
            None if now < next => return Ok(next),
            None => {
                let mut pieces = stream.opening(&mut state.fields);
                let sign_of_life = stream.sign_of_life();
                pieces.append(stream.framed(sign_of_life));
                stream.last_sign = now;
                self.slot.begin_answer();
                Unsent {
                    bytes: pieces.iter().collect::<Vec<_>>().concat(),
                    since: now,
                }
            }
        };
        let written = self.write_some(&unsent.bytes)?;
        unsent.bytes.drain(..written);
        if unsent.bytes.is_empty() {
            let is_kept = self.slot.end_answer();
            return is_kept.then_some(now + self.keep_alive).ok_or_else(aborted);
        }
        if now.duration_since(unsent.since) >= self.patience {
            return Err(ErrorKind::TimedOut.into());
        }
        state.unsent = Some(unsent);
        Ok(now + RETRY)
    }

    /// Sends nothing more, and closes the connection.
    fn close(&self, state: &mut State) {
        state.form = Form::Closed;
        state.unsent = None;
        // The thread of the call learns of it when it checks whether its client is there.
        let _ = self.slot.socket.shutdown(Shutdown::Both);
    }
}

impl Tick for Output {
    fn tick(&self, now: Instant) -> Instant {
        // Somebody else holds the lock, and so is writing.
        let Some(mut state) = try_locked(&self.state) else {
            return now + RETRY;
        };
        self.look_after(&mut state, now).unwrap_or_else(|_| {
            self.close(&mut state);
            now + self.silence
        })
    }
}

/// The answer to one request, for whoever makes the result.
pub struct Answer<'a> {
    output: &'a Arc<Output>,
    ticker: &'a Ticker<Output>,
    slots: &'a Slots,
    is_http_11: bool,
    keeps_connection: bool,
    is_looked_after: bool,
}

impl<'a> Answer<'a> {
    /// An answer through `output`: one response, unless [`Self::allow_stream`] is called.
    pub(super) fn new(
        output: &'a Arc<Output>,
        ticker: &'a Ticker<Output>,
        slots: &'a Slots,
        is_http_11: bool,
        keeps_connection: bool,
    ) -> Self {
        Self {
            output,
            ticker,
            slots,
            is_http_11,
            keeps_connection,
            is_looked_after: false,
        }
    }

    /// Adds a header field to the answer in each form, unless its value could end the field.
    pub fn add_field(&mut self, name: &'static str, value: &str) {
        locked(&self.output.state)
            .fields
            .extend(header(name, value));
    }

    /// From now on, the answer becomes a stream when there is an event to send, or when it has been
    /// silent for too long. As a stream, it is kept alive by what `sign_of_life` makes.
    pub fn allow_stream(&mut self, sign_of_life: Option<SignOfLife>) {
        let now = Instant::now();
        let framing = if self.is_http_11 {
            BodyFraming::Chunked
        } else {
            BodyFraming::UntilClose
        };
        locked(&self.output.state).form = Form::Stream(EventStream {
            has_begun: false,
            last_sign: now,
            framing,
            keeps_connection: self.keeps_connection,
            sign_of_life,
        });
        // An event may begin the stream earlier. Then it must be kept alive in time, too.
        let due = now + self.output.silence.min(self.output.keep_alive);
        self.ticker.add(self.output, due);
        self.is_looked_after = true;
    }

    /// Sends an event with the data that `data` makes, if it makes any. If the answer cannot become
    /// a stream, nothing is sent.
    ///
    /// # Errors
    /// The client has left, or does not read.
    pub fn tell(&self, data: impl FnOnce() -> Option<String>) -> io::Result<()> {
        let mut state = locked(&self.output.state);
        let state = &mut *state;
        let stream = match &mut state.form {
            Form::Stream(stream) => stream,
            Form::Response => return Ok(()),
            Form::Closed => return Err(aborted()),
        };
        let Some(data) = data() else {
            return Ok(());
        };
        let mut pieces = stream.opening(&mut state.fields);
        pieces.append(stream.framed(event(data.into())));
        stream.last_sign = Instant::now();
        let written = self.output.write_answer(state, pieces.iter());
        if written.is_err() {
            self.output.close(state);
        }
        written
    }

    /// Whether there is still somebody to work for.
    ///
    /// # Errors
    /// The client has left, or the server was told to stop.
    pub fn check(&self) -> io::Result<()> {
        if self.client_is_gone(&locked(&self.output.state)) {
            Err(io::Error::other("the client is gone"))
        } else if self.slots.is_stopping() {
            Err(io::Error::other("the server is stopping"))
        } else {
            Ok(())
        }
    }

    /// The lock of the answer keeps the ticker from the socket meanwhile.
    fn client_is_gone(&self, state: &State) -> bool {
        matches!(state.form, Form::Closed) || self.output.slot.client_is_gone()
    }

    /// Repeats `step` until it returns `true`, or the server is told to stop. `step` blocks no
    /// longer than the time that it gets.
    ///
    /// # Errors
    /// The client has left. Nothing more is sent to it.
    pub fn wait(&self, mut step: impl FnMut(Duration) -> bool) -> io::Result<()> {
        while !step(STEP) && !self.slots.is_stopping() {
            let mut state = locked(&self.output.state);
            if self.client_is_gone(&state) {
                self.output.close(&mut state);
                return Err(aborted());
            }
        }
        Ok(())
    }

    /// Sends the result, but not the body of an answer to `HEAD`. Returns whether the connection
    /// goes on.
    pub(super) fn finish(self, mut reply: Reply, is_head: bool) -> io::Result<bool> {
        if self.is_looked_after {
            self.ticker.remove(self.output);
        }
        let keeps_connection = self.keeps_connection && !self.slots.is_stopping();
        let mut state = locked(&self.output.state);
        let form = mem::replace(&mut state.form, Form::Response);
        reply.fields.append(&mut state.fields);
        match form {
            Form::Stream(stream) if stream.has_begun => {
                let mut pieces = stream.framed(event(reply.body));
                pieces.append(stream.ending());
                self.output.write_answer(&mut state, pieces.iter())?;
            }
            Form::Response | Form::Stream(_) => {
                let length = BodyFraming::Length(reply.body.len());
                let head = reply.head(length, keeps_connection);
                let body = reply.body.iter().filter(|_| !is_head);
                let pieces = iter::once(head.as_slice()).chain(body);
                self.output.write_answer(&mut state, pieces)?;
            }
            Form::Closed => return Err(aborted()),
        }
        Ok(keeps_connection)
    }
}
