//! Server-sent events as the answer to one request (HTML Living Standard §9.2).

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tiny_http::Header;

use super::connection::write_all;

/// The open answer. HTTP/1.1 clients get it chunked, older ones until the connection ends.
pub struct EventStream<'a> {
    socket: &'a TcpStream,
    chunked: bool,
    answer_deadline: Duration,
    stopping: &'a AtomicBool,
}

impl<'a> EventStream<'a> {
    /// Sends the head of the answer.
    ///
    /// # Errors
    /// The client is gone.
    pub fn begin(
        socket: &'a TcpStream,
        chunked: bool,
        fields: &[Header],
        answer_deadline: Duration,
        stopping: &'a AtomicBool,
    ) -> io::Result<Self> {
        let mut head = String::from(
            "HTTP/1.1 200 OK\r\nServer: entra-auth-mcp\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
             X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n",
        );
        for field in fields {
            head.push_str(&format!("{}: {}\r\n", field.field, field.value));
        }
        head.push_str(if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "Connection: close\r\n\r\n" });
        let stream = Self { socket, chunked, answer_deadline, stopping };
        stream.write(head.as_bytes())?;
        Ok(stream)
    }

    /// One `message` event. Line breaks in `data` become lines of the same event.
    ///
    /// # Errors
    /// The client is gone.
    pub fn message(&mut self, data: &str) -> io::Result<()> {
        let mut event = String::with_capacity(data.len() + 32);
        event.push_str("event: message\n");
        for line in data.split(['\n', '\r']) {
            event.push_str("data: ");
            event.push_str(line);
            event.push('\n');
        }
        event.push('\n');
        self.chunk(event.as_bytes())
    }

    /// A comment, which keeps the connection from looking idle.
    ///
    /// # Errors
    /// The client is gone.
    pub fn keep_alive(&mut self) -> io::Result<()> {
        self.chunk(b": keep-alive\n\n")
    }

    /// Whether the client has closed its side.
    #[must_use]
    pub fn client_is_gone(&self) -> bool {
        let peeked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let is_there = match peeked {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        self.socket.set_nonblocking(false).is_err() || !is_there
    }

    /// Whether the server has been told to stop, and the stream should end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// The client is gone.
    pub fn end(&mut self) -> io::Result<()> {
        if self.chunked { self.write(b"0\r\n\r\n") } else { Ok(()) }
    }

    fn chunk(&self, bytes: &[u8]) -> io::Result<()> {
        if !self.chunked {
            return self.write(bytes);
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        write_all(self.socket, bytes, Instant::now() + self.answer_deadline)
    }
}
