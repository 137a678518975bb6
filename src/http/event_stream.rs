//! Server-sent events as the answer to one request (HTML Living Standard §9.2).

use std::borrow::Cow;
use std::time::{Duration, Instant};
use std::{io, iter};

use super::connection::Connection;
use crate::pieces::Pieces;

/// How often a stream that waits looks whether its client is still there.
const STEP: Duration = Duration::from_millis(100);

/// The open answer. HTTP/1.1 clients get it chunked, older ones until the connection ends.
pub struct EventStream<'a> {
    connection: &'a Connection<'a>,
    chunked: bool,
}

impl<'a> EventStream<'a> {
    /// Sends the head of the answer.
    pub(super) fn begin(
        connection: &'a Connection<'a>,
        head: &[u8],
        chunked: bool,
    ) -> io::Result<Self> {
        connection.write(head)?;
        Ok(Self {
            connection,
            chunked,
        })
    }

    /// One `message` event with `data` in JSON, where a line break is white space and would begin another field.
    ///
    /// # Errors
    /// The client is gone.
    pub fn message(&self, data: impl Into<Pieces>) -> io::Result<()> {
        let data = data.into();
        let line: Vec<Cow<'_, [u8]>> = data.iter().map(in_one_line).collect();
        let line = line.iter().map(|piece| &**piece);
        self.send(
            iter::once(&b"event: message\ndata: "[..])
                .chain(line)
                .chain(iter::once(&b"\n\n"[..])),
        )
    }

    /// A comment, which keeps the connection from looking idle.
    ///
    /// # Errors
    /// The client is gone.
    pub fn keep_alive(&self) -> io::Result<()> {
        self.send(iter::once(&b": keep-alive\n\n"[..]))
    }

    /// Repeats `step`, which blocks no longer than it is told, until it says that there is nothing more to
    /// wait for, or the server is told to stop. In between, `sign_of_life` is sent now and then.
    ///
    /// # Errors
    /// The client is gone.
    pub fn wait(
        &mut self,
        mut step: impl FnMut(Duration) -> bool,
        mut sign_of_life: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let shared = self.connection.shared;
        let interval = shared.limits.keep_alive;
        let mut last_sign = Instant::now();
        while !step(interval.min(STEP)) && !shared.is_stopping() {
            if self.connection.entry.client_is_gone() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if last_sign.elapsed() >= interval {
                sign_of_life(self)?;
                last_sign = Instant::now();
            }
        }
        Ok(())
    }

    /// Whether there is still somebody to work for.
    ///
    /// # Errors
    /// The client is gone, or the server was told to stop.
    pub fn check(&self) -> io::Result<()> {
        match (
            self.connection.entry.client_is_gone(),
            self.connection.shared.is_stopping(),
        ) {
            (false, false) => Ok(()),
            (true, _) => Err(io::Error::other("the client is gone")),
            (false, true) => Err(io::Error::other("the server is stopping")),
        }
    }

    /// How long a stream may say nothing.
    pub fn keep_alive_interval(&self) -> Duration {
        self.connection.shared.limits.keep_alive
    }

    /// Ends the answer: with an empty chunk, which is the last (RFC 9112 §7.1), or else with the connection.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.chunked {
            self.send(iter::empty())
        } else {
            Ok(())
        }
    }

    fn send<'b>(&self, event: impl Iterator<Item = &'b [u8]>) -> io::Result<()> {
        let event: Vec<&[u8]> = event.collect();
        if !self.chunked {
            return self.connection.write_all(event.into_iter());
        }
        let size = format!(
            "{:x}\r\n",
            event.iter().map(|part| part.len()).sum::<usize>()
        );
        self.connection.write_all(
            iter::once(size.as_bytes())
                .chain(event)
                .chain(iter::once(&b"\r\n"[..])),
        )
    }
}

fn in_one_line(piece: &[u8]) -> Cow<'_, [u8]> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !piece.iter().any(is_break) {
        return piece.into();
    }
    piece
        .iter()
        .map(|byte| if is_break(byte) { b' ' } else { *byte })
        .collect()
}
