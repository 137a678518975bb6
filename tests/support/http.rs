//! HTTP/1.1 from both ends: a client that hides nothing, and a server that can misbehave.

mod server;

pub use server::{Answer, Request, StandIn};

use super::{PATIENCE, Pairs, lock};
use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const HEAD_LIMIT: usize = 1 << 20;

/// An answer, as a client got it or as a stand-in gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub headers: Pairs,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let reply = Self {
            status,
            body,
            ..Self::default()
        };
        if content_type.is_empty() {
            reply
        } else {
            reply.with("Content-Type", content_type)
        }
    }

    pub fn empty(status: u16) -> Self {
        Self::new(status, "", "")
    }

    pub fn of_json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub fn of_html(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/html; charset=utf-8", body).with("Cache-Control", "no-store")
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).into_iter().next()
    }

    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        headers_named(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    /// The body, or the last event of a stream: any call may become one that takes long.
    pub fn json(&self) -> Value {
        let is_stream = self.header("Content-Type") == Some("text/event-stream");
        let last_event = || {
            self.body
                .rsplit(|byte| *byte == b'\n')
                .nth(2)?
                .strip_prefix(b"data: ")
        };
        let json = last_event().filter(|_| is_stream).unwrap_or(&self.body);
        serde_json::from_slice(json)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", String::from_utf8_lossy(&self.body)))
    }

    fn has_no_body(&self, method: &str) -> bool {
        method == "HEAD" || matches!(self.status, 204 | 304)
    }

    /// The bytes on the wire. A `Transfer-Encoding` header makes two chunks of the body.
    fn to_bytes(&self, method: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} \r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let chunked = self.header("Transfer-Encoding").is_some();
        let given = chunked || self.header("Content-Length").is_some();
        if !given && !matches!(self.status, 204 | 304) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        if !self.has_no_body(method) {
            if chunked {
                bytes.extend(chunks(&self.body, self.body.len() / 2 + 1));
            } else {
                bytes.extend(&self.body);
            }
        }
        bytes
    }
}

fn headers_named<'a>(headers: &'a Pairs, name: &str) -> Vec<&'a str> {
    let named = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, v)| v.as_str()).collect()
}

/// `body` in the chunked coding (RFC 9112 §7.1), `size` bytes a chunk.
pub fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        coded.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend(chunk);
        coded.extend(b"\r\n");
    }
    coded.extend(b"0\r\n\r\n");
    coded
}

/// `host:port` of a base URL or of a bare address.
pub fn authority(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

/// Connects as a browser does; for `localhost` IPv4 first, then IPv6.
pub fn connect(authority: &str) -> io::Result<TcpStream> {
    let stream = match authority.strip_prefix("localhost:") {
        Some(port) => TcpStream::connect(format!("127.0.0.1:{port}"))
            .or_else(|_| TcpStream::connect(format!("[::1]:{port}")))?,
        None => TcpStream::connect(authority)?,
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A proxy that leads every CONNECT to `port` of this machine and keeps the heads of them.
pub fn proxy(port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&heads);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let head = read_head(&mut BufReader::new(&client)).unwrap().unwrap();
            lock(&kept).push(String::from_utf8(head).unwrap());
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    (own, heads)
}

/// Fills the queue of a listener, so that it answers nobody, on Linux at least. Gives the
/// connections that fill it.
pub fn deafen(listener: &TcpListener) -> Vec<TcpStream> {
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(50));
    let mut filling = Vec::new();
    while let Ok(stream) = connect() {
        filling.push(stream);
    }
    filling
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The head up to and with the empty line; `None` where the peer closed before its first byte.
fn read_head(reader: &mut BufReader<impl Read>) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return match head.len() {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        if head.len() > HEAD_LIMIT {
            return Err(invalid("endless head"));
        }
    }
    Ok(Some(head))
}

fn owned_headers(headers: &[httparse::Header]) -> Pairs {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let pair = |h: &httparse::Header| (h.name.to_owned(), text(h.value));
    headers.iter().map(pair).collect()
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Framing {
    /// What the headers say (RFC 9112 §6.3), `otherwise` where they say nothing.
    fn of(headers: &Pairs, otherwise: Self) -> io::Result<Self> {
        let codings = headers_named(headers, "Transfer-Encoding");
        let lengths = headers_named(headers, "Content-Length");
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(otherwise),
            (["chunked"], []) => Ok(Self::Chunked),
            ([], [length]) => length.parse().map(Self::Length).map_err(io::Error::other),
            _ => Err(invalid("ambiguous framing")),
        }
    }
}

/// The next piece of a body as it arrives; an empty one is its end.
fn next_piece(reader: &mut BufReader<impl Read>, framing: &mut Framing) -> io::Result<Vec<u8>> {
    match framing {
        Framing::Length(0) => Ok(Vec::new()),
        Framing::Length(left) => {
            let piece = take_buffered(reader, *left)?;
            *left -= piece.len();
            match piece.len() {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                _ => Ok(piece),
            }
        }
        Framing::UntilClose => take_buffered(reader, usize::MAX),
        Framing::Chunked => {
            let chunk = read_chunk(reader)?;
            if chunk.is_empty() {
                *framing = Framing::Length(0);
            }
            Ok(chunk)
        }
    }
}

fn take_buffered(reader: &mut BufReader<impl Read>, limit: usize) -> io::Result<Vec<u8>> {
    let buffered = reader.fill_buf()?;
    let piece = buffered[..buffered.len().min(limit)].to_vec();
    reader.consume(piece.len());
    Ok(piece)
}

fn read_chunk(reader: &mut BufReader<impl Read>) -> io::Result<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let digits = line.trim_end().split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(digits, 16).map_err(|_| invalid("bad chunk size"))?;
    let mut chunk = Vec::new();
    reader.take(size as u64).read_to_end(&mut chunk)?;
    let mut end = [0; 2];
    reader.read_exact(&mut end)?; // after the last chunk: no trailers in anything we talk to
    if chunk.len() == size && &end == b"\r\n" {
        Ok(chunk)
    } else {
        Err(invalid("bad chunk"))
    }
}

fn read_body(reader: &mut BufReader<impl Read>, mut framing: Framing) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let piece = next_piece(reader, &mut framing)?;
        if piece.is_empty() {
            return Ok(body);
        }
        body.extend(piece);
    }
}

/// A client with one keep-alive connection and no second tries: what fails, fails visibly.
pub struct Client {
    authority: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// For a base URL or a `host:port`.
    pub fn new(base: &(impl ToString + ?Sized)) -> Self {
        Self {
            authority: authority(&base.to_string()).to_owned(),
            stream: None,
        }
    }

    /// Waits so long for each answer on its first connection.
    #[must_use]
    pub fn with_patience(mut self, patience: std::time::Duration) -> Self {
        let stream = connect(&self.authority).expect("connected");
        stream.set_read_timeout(Some(patience)).unwrap();
        self.stream = Some(BufReader::new(stream));
        self
    }

    /// Adds `Host` and, where a body is due, `Content-Length`, unless `headers` has them (or
    /// `Transfer-Encoding`; then `body` must be coded already).
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.try_request(method, target, headers, body)
            .unwrap_or_else(|e| panic!("{method} {target} at {}: {e}", self.authority))
    }

    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let (mut reply, mut reader, framing) = self.exchange(method, target, headers, body)?;
        let closes = matches!(framing, Framing::UntilClose)
            || reply
                .header("Connection")
                .is_some_and(|v| v.eq_ignore_ascii_case("close"));
        reply.body = read_body(&mut reader, framing)?;
        self.stream = (!closes).then_some(reader);
        Ok(reply)
    }

    /// Sends a request whose answer may be a stream of events; the connection goes with it.
    pub fn open_stream(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (Reply, EventReader) {
        let (head, reader, framing) = self
            .exchange(method, target, headers, body)
            .unwrap_or_else(|e| panic!("{method} {target} at {}: {e}", self.authority));
        let buffer = Vec::new();
        let events = EventReader {
            reader,
            framing,
            buffer,
        };
        (head, events)
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, &[], b"")
    }

    /// Whether the next request uses the connection of the last.
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    fn exchange(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<(Reply, BufReader<TcpStream>, Framing)> {
        let mut reader = match self.stream.take() {
            Some(open) => open,
            None => BufReader::new(connect(&self.authority)?),
        };
        let bytes = self.request_bytes(method, target, headers, body);
        let sent = reader.get_mut().write_all(&bytes);
        // A refusal may come before all of the request was sent: read it all the same.
        let (reply, framing) = read_reply_head(&mut reader, method).map_err(|e| match sent {
            Err(cause) => cause,
            Ok(()) => e,
        })?;
        Ok((reply, reader, framing))
    }

    fn request_bytes(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        if !has("Host") {
            head += &format!("Host: {}\r\n", self.authority);
        }
        let body_is_due = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if body_is_due && !has("Content-Length") && !has("Transfer-Encoding") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        [(head + "\r\n").as_bytes(), body].concat()
    }
}

fn read_reply_head(
    reader: &mut BufReader<TcpStream>,
    method: &str,
) -> io::Result<(Reply, Framing)> {
    loop {
        let head = read_head(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut slots = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Response::new(&mut slots);
        parsed.parse(&head).map_err(io::Error::other)?;
        let reply = Reply {
            status: parsed.code.unwrap_or_default(),
            headers: owned_headers(parsed.headers),
            body: Vec::new(),
        };
        match reply.status {
            100..200 => {} // interim: the answer follows
            _ if reply.has_no_body(method) => return Ok((reply, Framing::Length(0))),
            _ => {
                let framing = Framing::of(&reply.headers, Framing::UntilClose)?;
                return Ok((reply, framing));
            }
        }
    }
}

/// What a stream of server-sent events yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message {
        event: Option<String>,
        id: Option<String>,
        data: String,
    },
    Comment(String),
}

impl Event {
    /// The JSON in the data of a message; `None` for a comment.
    pub fn json(&self) -> Option<Value> {
        match self {
            Self::Message { data, .. } => Some(serde_json::from_str(data).expect("JSON data")),
            Self::Comment(_) => None,
        }
    }

    fn parse(block: &str) -> Option<Self> {
        let (mut event, mut id, mut data) = (None, None, Vec::new());
        let mut comment = None;
        for line in block.lines().filter(|line| !line.is_empty()) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => comment = Some(value),
                "event" => event = Some(value),
                "id" => id = Some(value),
                "data" => data.push(value),
                _ => {}
            }
        }
        match (data.is_empty(), comment) {
            (false, _) => Some(Self::Message {
                event,
                id,
                data: data.join("\n"),
            }),
            (true, comment) => comment.map(Self::Comment),
        }
    }
}

/// Server-sent events as they arrive. Dropping it hangs up.
pub struct EventReader {
    reader: BufReader<TcpStream>,
    framing: Framing,
    buffer: Vec<u8>,
}

impl Iterator for EventReader {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let event = Event::parse(std::str::from_utf8(&block).expect("UTF-8 events"));
                if event.is_some() {
                    return event;
                }
            }
            let piece = next_piece(&mut self.reader, &mut self.framing).expect("the next event");
            if piece.is_empty() {
                return None;
            }
            self.buffer.extend(piece.iter().filter(|b| **b != b'\r'));
        }
    }
}

impl EventReader {
    /// The answer to what was sent on `stream` already.
    pub fn of(stream: TcpStream) -> (Reply, Self) {
        let mut reader = BufReader::new(stream);
        let (head, framing) = read_reply_head(&mut reader, "POST").expect("an answer");
        let buffer = Vec::new();
        let events = Self {
            reader,
            framing,
            buffer,
        };
        (head, events)
    }

    /// The next message's JSON, comments skipped.
    pub fn next_json(&mut self) -> Option<Value> {
        self.find_map(|event| event.json())
    }

    /// The whole body, for an answer that turned out not to be a stream.
    pub fn into_body(mut self) -> Vec<u8> {
        read_body(&mut self.reader, self.framing).expect("the body")
    }
}

pub fn get(url: &str) -> Reply {
    one_shot("GET", url, &[], b"")
}

pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    one_shot("POST", url, headers, body)
}

/// One request on a connection of its own.
pub fn one_shot(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let url = url::Url::parse(url).expect("an absolute URL");
    Client::new(&url).request(method, &target_of(&url), headers, body)
}

pub fn target_of(url: &url::Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

/// Sends `bytes` as they are and reads until the peer closes, which it must do in time.
pub fn raw(addr: &(impl ToString + ?Sized), bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(authority(&addr.to_string())).expect("connected");
    let _ = stream.write_all(bytes); // the peer may have refused already
    read_to_close(stream)
}

/// As `raw`, but tells the peer that nothing follows; for a peer that would keep the connection.
pub fn raw_then_eof(addr: &(impl ToString + ?Sized), bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(authority(&addr.to_string())).expect("connected");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_to_close(stream)
}

/// Everything up to the end; a reset after some bytes counts as an end.
pub fn read_to_close(mut stream: TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(e) if e.kind() != io::ErrorKind::ConnectionReset => {
            let so_far = String::from_utf8_lossy(&received);
            panic!("the peer did not close ({e}) after {so_far:?}")
        }
        _ => received,
    }
}
