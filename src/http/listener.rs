//! Accepting connections: a bounded number of them, and a way to stop.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};
use std::{iter, thread};

use super::Limits;
use super::connection::{self, Served};
use super::message::{Application, json_reply, print, with_field};
use super::workers::Workers;
use crate::sync::locked;

/// Enough for a TLS handshake and the deepest JSON; memory is taken only as it is touched.
const STACK_BYTES: usize = 512 * 1024;
/// Beyond the limit of connections there may be a part of it once more: those that were given up and whose threads
/// have not ended yet,
const ENDING_PART: usize = 4;
/// and those that were refused, whose threads wait for them to read why.
const REFUSALS_PART: usize = 16;
/// So long a connection may be without a request, or an answer not read to its end, before its place can be another's.
const CLIENT_PATIENCE: Duration = Duration::from_millis(100);
/// A client may wait so long for a place, as long as places become free.
const ROOM_PATIENCE: Duration = Duration::from_millis(250);
const ROOM_STEP: Duration = Duration::from_millis(10);
/// How often a server that stops looks whether requests have ended.
const STOP_STEP: Duration = Duration::from_millis(10);
/// After a failed accept (no descriptors, say) the listener pauses, then goes on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the connections share.
pub struct Shared {
    pub(super) limits: Limits,
    pub(super) application: Box<dyn Application>,
    stopping: AtomicBool,
    workers: Workers<Arc<Entry>>,
    /// Held by the thread of every refusal, and so counted.
    refusals: Arc<()>,
    /// Each is held by whoever serves it, or is about to, and so ends with that, however it ends.
    connections: Mutex<Vec<Weak<Entry>>>,
}

/// One connection among the others.
pub struct Entry {
    /// The connection's socket.
    pub socket: TcpStream,
    /// When the last request ended, in microseconds, or one of the values below. It is the one
    /// word on which the connection and whoever wants its place must agree.
    idle_since: AtomicU64,
}

/// A request is in hand: its connection is not given up.
const IN_REQUEST: u64 = 0;
/// Added while the body of a request is awaited: only then is it given up after every idle one, and
/// not because the server stops.
const RECEIVING: u64 = 1 << 63;
/// Added to the time, while an answer is being written: given up last, once its client has left it unread for long.
const ANSWERING: u64 = 0b11 << 62;
const EVICTED: u64 = u64::MAX;

/// Microseconds since somebody first asked, never 0.
fn clock() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    1 + u64::try_from(FIRST.elapsed().as_micros()).unwrap_or_default()
}

impl Entry {
    /// Whether the client has closed its side.
    pub fn client_is_gone(&self) -> bool {
        let peeked = self
            .socket
            .set_nonblocking(true)
            .and_then(|()| self.socket.peek(&mut [0]));
        let is_there = peeked.map_or_else(
            |error| error.kind() == ErrorKind::WouldBlock,
            |count| count > 0,
        );
        self.socket.set_nonblocking(false).is_err() || !is_there
    }

    /// Marks that a head has come, whose body may take its time.
    pub fn begin_body(&self) {
        self.idle_since.fetch_or(RECEIVING, Ordering::AcqRel);
    }

    /// Marks the start of a request; `false` when the connection was given up just before.
    pub fn begin_request(&self) -> bool {
        self.idle_since.swap(IN_REQUEST, Ordering::AcqRel) != EVICTED
    }

    /// Marks that an answer is being written.
    pub fn begin_answer(&self) {
        self.idle_since
            .store(ANSWERING | clock(), Ordering::Release);
    }

    /// Marks that it is written; `false` when the connection was given up meanwhile.
    pub fn end_answer(&self) -> bool {
        self.begin_request()
    }

    /// Marks the end of a request.
    pub fn end_request(&self) {
        self.idle_since.store(clock(), Ordering::Release);
    }

    /// Closes the connection if it is idle, or in whatever other state comes before `end`, and has been so since
    /// `latest` or longer.
    fn evict(&self, end: u64, latest: u64) -> bool {
        let fits =
            |since: &u64| (IN_REQUEST + 1..end).contains(since) && *since & !ANSWERING <= latest;
        let evict = |since| Some(since).filter(fits).map(|_| EVICTED);
        let evicted = self
            .idle_since
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, evict);
        // Its thread wakes from its read and ends.
        evicted
            .map(|_| self.socket.shutdown(Shutdown::Both))
            .is_ok()
    }
}

impl Shared {
    /// Whether the server has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The connections that have not ended.
    fn connections(&self) -> MutexGuard<'_, Vec<Weak<Entry>>> {
        let mut connections = locked(&self.connections);
        connections.retain(|entry| entry.strong_count() > 0);
        connections
    }

    /// Closes every idle connection; gives the number of those that have not ended, whatever they do.
    fn evict_idle(&self) -> usize {
        let connections = self.connections();
        for entry in connections.iter().filter_map(Weak::upgrade) {
            entry.evict(RECEIVING, EVICTED);
        }
        connections.len()
    }

    /// Closes the connection that has been idle longest, or else that has waited longest for the body of its
    /// request, or else that has not read its answer to the end; `false` when every request is in hand, or is so new that
    /// its client has had no time yet.
    fn evict_longest_idle(&self) -> bool {
        let mut entries: Vec<Arc<Entry>> = self
            .connections()
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        // A request that ends in this moment leaves its connection idle for the shortest time: it comes last.
        entries.sort_by_cached_key(|entry| {
            entry
                .idle_since
                .load(Ordering::Acquire)
                .wrapping_sub(IN_REQUEST + 1)
        });
        let patience = u64::try_from(CLIENT_PATIENCE.as_micros()).unwrap_or_default();
        let latest = clock().saturating_sub(patience);
        entries.iter().any(|entry| entry.evict(EVICTED, latest))
    }
}

/// The sockets of a server that does not accept yet, so that the port is known before the
/// application is built.
pub struct Listeners(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// Binds `host` at `port`; 0 takes a free one. `localhost` is both loopback families, since
    /// browsers try `::1` first; one of them is enough where the other does not exist.
    ///
    /// # Errors
    /// The operating system's, when nothing could be bound.
    pub fn bind(host: &str, port: u16) -> io::Result<Self> {
        if host.eq_ignore_ascii_case("localhost") {
            // A free port of one family may be taken in the other: then another one is drawn.
            bind_loopback(port, if port == 0 { 15 } else { 0 }).map(Self)
        } else {
            Ok(Self(vec![listen((host, port))?]))
        }
    }

    /// The first address that was bound.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.first().map(|(address, _)| *address)
    }

    /// The port that was bound.
    pub fn port(&self) -> u16 {
        self.0.first().map_or(0, |(address, _)| address.port())
    }

    /// Accepts connections from now on, on threads of its own.
    ///
    /// # Errors
    /// The operating system's, when there is no thread to be had.
    pub fn serve(
        self,
        application: Box<dyn Application>,
        limits: Limits,
    ) -> io::Result<HttpServer> {
        let (stopping, workers, refusals, connections) = Default::default();
        let shared = Arc::new(Shared {
            limits,
            application,
            stopping,
            workers,
            refusals,
            connections,
        });
        let mut server = HttpServer {
            shared,
            listeners: Vec::new(),
        };
        for (address, socket) in self.0 {
            let (shared, socket) = (Arc::clone(&server.shared), Arc::new(socket));
            server.listeners.push((address, Arc::downgrade(&socket)));
            spawn("accept", move || accept(&shared, &socket))?;
        }
        Ok(server)
    }
}

fn listen(at: impl ToSocketAddrs) -> io::Result<(SocketAddr, TcpListener)> {
    TcpListener::bind(at).and_then(|socket| Ok((socket.local_addr()?, socket)))
}

fn bind_loopback(port: u16, redraws: u32) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let v4 = listen((Ipv4Addr::LOCALHOST, port));
    let v6 = listen((
        Ipv6Addr::LOCALHOST,
        v4.as_ref().map_or(port, |(address, _)| address.port()),
    ));
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(vec![v4, v6]),
        (Err(error), _) | (_, Err(error)) if error.kind() == ErrorKind::AddrInUse => {
            match redraws {
                0 => Err(error),
                _ => bind_loopback(port, redraws - 1),
            }
        }
        (Ok(only), Err(_)) | (Err(_), Ok(only)) => Ok(vec![only]),
        (Err(error), Err(_)) => Err(error),
    }
}

/// A listening server; it stops when it is dropped.
pub struct HttpServer {
    shared: Arc<Shared>,
    /// Each socket is held by its thread alone, and so closed with it.
    listeners: Vec<(SocketAddr, Weak<TcpListener>)>,
}

impl HttpServer {
    /// Accepts nothing more, lets requests in flight finish as long as the limits say, and returns.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.workers.close();
        // Their descriptors may be what the connections below need.
        self.shared.evict_idle();
        for (address, _) in &self.listeners {
            // A connection wakes the blocked accept; where none can be made, the deadline ends the wait.
            let _ = TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(1));
        }
        let deadline = Instant::now() + self.shared.limits.shutdown;
        let accepts = || {
            self.listeners
                .iter()
                .any(|(_, socket)| socket.strong_count() > 0)
        };
        while self.shared.evict_idle() > 0 || accepts() {
            if Instant::now() >= deadline {
                log::warn!("requests were still in flight when the server stopped");
                return;
            }
            thread::sleep(STOP_STEP);
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a listener on every address can be reached from here.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(run)
        .map(drop)
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    // After one wait in vain, nobody waits any more until there is room again.
    let mut patience = ROOM_PATIENCE;
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        match accepted {
            Ok((socket, _)) if has_room(shared, patience) => {
                patience = ROOM_PATIENCE;
                admit(shared, socket);
            }
            Ok((socket, _)) => {
                patience = Duration::ZERO;
                refuse(shared, socket);
            }
            // A client that has left again is no reason to pause, or to take anybody's place.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => {
                log::warn!(
                    "a connection could not be accepted ({error}); the longest idle one is closed"
                );
                shared.evict_longest_idle();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Whether there is a place for one more connection, be it that of another, or one that becomes free in time.
fn has_room(shared: &Shared, patience: Duration) -> bool {
    let (begun, most) = (Instant::now(), shared.limits.connections);
    loop {
        let open = shared.connections().len();
        if open < most || (open < most + (most / ENDING_PART).max(1) && shared.evict_longest_idle())
        {
            return true;
        }
        if begun.elapsed() >= patience || shared.is_stopping() {
            return false;
        }
        thread::sleep(ROOM_STEP);
    }
}

/// Gives the connection a thread: one that waits, or a new one.
fn admit(shared: &Arc<Shared>, socket: TcpStream) {
    let entry = Arc::new(Entry {
        socket,
        idle_since: AtomicU64::new(IN_REQUEST),
    });
    entry.end_request();
    shared.connections().push(Arc::downgrade(&entry));
    if let Err(entry) = shared.workers.give(entry)
        && let Err(error) = spawn_work(shared, Arc::clone(&entry), false)
    {
        log::warn!("there was no thread for a connection ({error})");
        tell_no_room(&entry.socket);
    }
}

fn spawn_work(shared: &Arc<Shared>, entry: Arc<Entry>, is_quiet: bool) -> io::Result<()> {
    let shared = Arc::clone(shared);
    spawn("connection", move || work(&shared, entry, is_quiet))
}

/// Serves the connection, and then others while there are any. What goes quiet gets a new thread: a call leaves a stack
/// of eighty kilobytes, which would stay for as long as the client does.
fn work(shared: &Arc<Shared>, mut entry: Arc<Entry>, mut is_quiet: bool) {
    loop {
        match connection::serve(shared, &entry, is_quiet) {
            Served::Quiet if spawn_work(shared, Arc::clone(&entry), true).is_ok() => return,
            Served::Quiet => is_quiet = true,
            Served::Whole => {
                drop(entry);
                let Some(next) = shared.workers.wait(shared.limits.quiet) else {
                    return;
                };
                (entry, is_quiet) = (next, false);
            }
        }
    }
}

/// Answers 503 without holding up the listener; in a flood of connections, just closes.
fn refuse(shared: &Shared, socket: TcpStream) {
    tell_no_room(&socket);
    let place = Arc::clone(&shared.refusals);
    // One more is held by `shared`.
    if Arc::strong_count(&place) <= (shared.limits.connections / REFUSALS_PART).max(1) + 1 {
        let _ = spawn("refusal", move || {
            connection::drain(&socket);
            drop(place);
        });
    }
}

fn tell_no_room(mut socket: &TcpStream) {
    let reply = json_reply(
        503,
        r#"{"error":"All connections are busy. Try again."}"#.to_owned(),
    );
    let (head, body) = print(with_field(reply, "Retry-After", "1"), false);
    // A fresh socket has room for this; where it has not, the client learns from the close.
    let parts: Vec<&[u8]> = iter::once(head.as_slice()).chain(body.iter()).collect();
    let _ = socket
        .set_nonblocking(true)
        .and_then(|()| socket.write(&parts.concat()));
    let _ = socket.set_nonblocking(false);
}
