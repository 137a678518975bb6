//! A small HTTP server that can misbehave.

use super::super::{Gate, Pairs, decode_pairs, lock};
use super::{Framing, Reply, headers_named, invalid, owned_headers, read_body, read_head};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A request as a stand-in got it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// As it stood in the request line.
    pub target: String,
    pub path: String,
    pub query: Pairs,
    pub headers: Pairs,
    pub body: Vec<u8>,
    /// `http://ip:port` of the stand-in.
    pub origin: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).into_iter().next()
    }

    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        headers_named(&self.headers, name)
    }

    pub fn form(&self) -> Pairs {
        decode_pairs(&self.body)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    fn read(reader: &mut BufReader<Connection>) -> io::Result<Option<Self>> {
        let Some(head) = read_head(reader)? else {
            return Ok(None);
        };
        let mut slots = [httparse::EMPTY_HEADER; 200];
        let mut parsed = httparse::Request::new(&mut slots);
        parsed.parse(&head).map_err(io::Error::other)?;
        let headers = owned_headers(parsed.headers);
        if headers_named(&headers, "Host").len() != 1 {
            return Err(invalid("not exactly one Host"));
        }
        if !headers_named(&headers, "Expect").is_empty() {
            let stream = &mut reader.get_mut().stream;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let target = parsed.path.unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Ok(Some(Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: decode_pairs(query.as_bytes()),
            body: read_body(reader, Framing::of(&headers, Framing::Length(0))?)?,
            origin: format!("http://{}", reader.get_ref().stream.local_addr()?),
            headers,
            target,
        }))
    }
}

type Script = Box<dyn FnOnce(&mut TcpStream) -> io::Result<()>>;

/// What a stand-in does with a request.
pub enum Answer {
    Reply(Reply),
    /// Writes what it likes, when it likes (see [`Gate`]); then the connection is closed.
    Script(Script),
    Close,
    Reset,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Answer {
    pub fn script(script: impl FnOnce(&mut TcpStream) -> io::Result<()> + 'static) -> Self {
        Self::Script(Box::new(script))
    }

    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::script(move |stream| stream.write_all(&bytes))
    }

    /// Each piece after its gate was opened.
    pub fn pieces(pieces: Vec<(Gate, Vec<u8>)>) -> Self {
        Self::script(move |stream| {
            pieces.iter().try_for_each(|(gate, bytes)| {
                gate.pass();
                stream.write_all(bytes)
            })
        })
    }
}

/// A connection whose last read byte is only peeked at until more is wanted: closing while the
/// kernel still holds an unread byte sends a reset, which std cannot do otherwise without
/// unstable `set_linger`.
struct Connection {
    stream: TcpStream,
    owed: bool,
}

impl Connection {
    fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.owed) {
            self.stream.read_exact(&mut [0])?;
        }
        Ok(())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.settle()?;
        let available = self.stream.peek(buffer)?;
        if available > 0 {
            self.stream.read_exact(&mut buffer[..available - 1])?;
            self.owed = true;
        }
        Ok(available)
    }
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// Clones of the open connections, to cut them.
    open: Mutex<HashMap<SocketAddr, TcpStream>>,
    /// What handlers panicked with; raised again when the stand-in is dropped.
    panics: Mutex<Vec<String>>,
}

/// A small HTTP server, a thread a connection. Dropped, it cuts its connections and frees its
/// port, and panics if one of its handlers did.
pub struct StandIn {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl StandIn {
    pub fn serve<A: Into<Answer>>(handler: impl Fn(&Request) -> A + Send + Sync + 'static) -> Self {
        Self::serve_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler)
    }

    /// At an address chosen earlier: a peer that was down and is back.
    pub fn serve_at<A: Into<Answer>>(
        addr: SocketAddr,
        handler: impl Fn(&Request) -> A + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("the port is free");
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let handler = Arc::new(move |request: &Request| handler(request).into());
        let accepting = thread::spawn(move || accept(&listener, &for_thread, &handler));
        Self {
            addr,
            shared,
            accepting: Some(accepting),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the accepting thread
        let accepted = self.accepting.take().map(JoinHandle::join);
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let panics = lock(&self.shared.panics).join("; ");
        if !thread::panicking() {
            assert!(matches!(accepted, Some(Ok(()))), "accepting panicked");
            assert!(panics.is_empty(), "a stand-in's handler panicked: {panics}");
        }
    }
}

fn accept<H>(listener: &TcpListener, shared: &Arc<Shared>, handler: &Arc<H>)
where
    H: Fn(&Request) -> Answer + Send + Sync + 'static,
{
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (Ok(peer), Ok(clone)) = (stream.peer_addr(), stream.try_clone()) else {
            continue;
        };
        lock(&shared.open).insert(peer, clone);
        let (shared, handler) = (Arc::clone(shared), Arc::clone(handler));
        thread::spawn(move || {
            let _ = converse(stream, &shared, &*handler); // a peer may go whenever it likes
            lock(&shared.open).remove(&peer);
        });
    }
}

/// The requests of one connection, in order.
fn converse(
    stream: TcpStream,
    shared: &Shared,
    handler: &impl Fn(&Request) -> Answer,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let owed = false;
    let mut reader = BufReader::new(Connection { stream, owed });
    while let Some(request) = Request::read(&mut reader)? {
        let answer = answer(&request, shared, handler);
        let connection = reader.get_mut();
        match answer {
            Answer::Reset => return Ok(()), // with a byte unread
            Answer::Close => return connection.settle(),
            Answer::Script(script) => {
                connection.settle()?;
                return script(&mut connection.stream);
            }
            Answer::Reply(reply) => {
                let bytes = reply.to_bytes(&request.method);
                connection.stream.write_all(&bytes)?;
                let last = [request.header("Connection"), reply.header("Connection")];
                if last.contains(&Some("close")) {
                    return connection.settle();
                }
            }
        }
    }
    Ok(())
}

fn answer(request: &Request, shared: &Shared, handler: &impl Fn(&Request) -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(|| handler(request))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        lock(&shared.panics).push(text.unwrap_or_default());
        Reply::new(500, "text/plain", "the stand-in's handler panicked").into()
    })
}
