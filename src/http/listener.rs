//! Accepting connections: a bounded number of them, and a way to stop.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Limits;
use super::connection;
use super::message::Application;

/// Enough for a TLS handshake and the deepest JSON; memory is taken only as it is touched.
const STACK_BYTES: usize = 512 * 1024;
/// Threads that may tell clients that there is no room, beyond the limit of connections.
const MOST_REFUSALS: usize = 16;
/// Connections that were given up and whose threads have not ended yet, beyond the limit.
const MOST_ENDING: usize = 64;
/// How often a server that stops looks for connections that have become idle.
const STOP_STEP: Duration = Duration::from_millis(100);
/// After a failed accept (no descriptors, say) the listener pauses, then goes on.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nServer: entra-auth-mcp\r\nContent-Type: application/json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 50\r\n\r\n{\"error\":\"All connections are busy. Try again.\"}\r\n";

/// What the connections share.
pub struct Shared {
    pub(super) limits: Limits,
    pub(super) application: Box<dyn Application>,
    started: Instant,
    pub(super) stopping: AtomicBool,
    refusals: AtomicUsize,
    connections: Mutex<HashMap<u64, Arc<Entry>>>,
    one_ended: Condvar,
}

/// One connection among the others.
pub struct Entry {
    /// The connection's socket.
    pub socket: TcpStream,
    /// Milliseconds since the start of the server, at least 1, since when no request is in hand;
    /// or one of the two values below. It is the one word on which the connection and whoever
    /// wants its place must agree.
    idle_since: AtomicU64,
    started: Instant,
}

const IN_REQUEST: u64 = 0;
const EVICTED: u64 = u64::MAX;

impl Entry {
    fn new(socket: TcpStream, started: Instant) -> Self {
        let entry = Self { socket, idle_since: AtomicU64::new(IN_REQUEST), started };
        entry.end_request();
        entry
    }

    /// Marks the start of a request; `false` when the connection was given up just before.
    pub fn begin_request(&self) -> bool {
        let begun = |idle_since| (idle_since != EVICTED).then_some(IN_REQUEST);
        self.idle_since.fetch_update(Ordering::AcqRel, Ordering::Acquire, begun).is_ok()
    }

    /// Marks the end of a request.
    pub fn end_request(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.idle_since.store(now.max(1), Ordering::Release);
    }

    /// Closes the connection if no request is in hand.
    fn evict(&self) -> bool {
        let idle = |idle_since| (!matches!(idle_since, IN_REQUEST | EVICTED)).then_some(EVICTED);
        let evicted = self.idle_since.fetch_update(Ordering::AcqRel, Ordering::Acquire, idle).is_ok();
        if evicted {
            // Its thread wakes from its read and ends.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        evicted
    }
}

impl Shared {
    /// Whether the server has been told to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Entry>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the connection that has been idle longest; `false` when none is idle.
    fn evict_longest_idle(&self) -> bool {
        let mut idle: Vec<(u64, Arc<Entry>)> = self
            .connections()
            .values()
            .map(|entry| (entry.idle_since.load(Ordering::Acquire), Arc::clone(entry)))
            .collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.iter().any(|(_, entry)| entry.evict())
    }
}

/// A listening server.
pub struct HttpServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

/// The sockets of a server that does not accept yet, so that the port is known before the
/// application is built.
pub struct Listeners {
    sockets: Vec<TcpListener>,
    port: u16,
}

impl Listeners {
    /// Binds `host` at `port`; 0 takes a free one. `localhost` is both loopback families, since
    /// browsers try `::1` first; one of them is enough where the other does not exist.
    ///
    /// # Errors
    /// The operating system's, when nothing could be bound.
    pub fn bind(host: &str, port: u16) -> io::Result<Self> {
        if !host.eq_ignore_ascii_case("localhost") {
            let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
            let socket = TcpListener::bind(addresses.as_slice())?;
            return Ok(Self { port: socket.local_addr()?.port(), sockets: vec![socket] });
        }
        // A free port of one family may be taken in the other: then another one is drawn.
        let mut attempts = if port == 0 { 16 } else { 1 };
        loop {
            attempts -= 1;
            let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            let port =
                v4.as_ref().ok().and_then(|socket| socket.local_addr().ok()).map_or(port, |address| address.port());
            let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port));
            let sockets = match (v4, v6) {
                (Ok(v4), Ok(v6)) => vec![v4, v6],
                (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::AddrInUse && attempts == 0 => {
                    return Err(error);
                }
                (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::AddrInUse => continue,
                (Ok(only), Err(_)) | (Err(_), Ok(only)) => vec![only],
                (Err(error), Err(_)) => return Err(error),
            };
            let port = sockets.first().map_or(Ok(port), |socket| socket.local_addr().map(|address| address.port()))?;
            return Ok(Self { sockets, port });
        }
    }

    /// The port that was bound.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Accepts connections from now on, on threads of its own.
    ///
    /// # Errors
    /// The operating system's, when there is no thread to be had.
    pub fn serve(self, application: Box<dyn Application>, limits: Limits) -> io::Result<HttpServer> {
        let shared = Arc::new(Shared {
            limits,
            application,
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            refusals: AtomicUsize::new(0),
            connections: Mutex::new(HashMap::new()),
            one_ended: Condvar::new(),
        });
        let mut addresses = Vec::new();
        for socket in self.sockets {
            addresses.push(socket.local_addr()?);
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("accept".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || accept(&shared, &socket))?;
        }
        Ok(HttpServer { shared, addresses })
    }
}

impl HttpServer {
    /// Accepts nothing more, lets requests in flight finish as long as the limits say, and returns.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        for address in &self.addresses {
            // A connection wakes the blocked accept. One that fails found no listener.
            let _ = TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(1));
        }
        let deadline = Instant::now() + self.shared.limits.shutdown;
        let mut connections = self.shared.connections();
        while !connections.is_empty() {
            for entry in connections.values() {
                entry.evict();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log::warn!("{} requests were still in flight when the server stopped", connections.len());
                return;
            }
            connections = self
                .shared
                .one_ended
                .wait_timeout(connections, left.min(STOP_STEP))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where a listener on every address can be reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let accepted = listener.accept();
        if shared.is_stopping() {
            return;
        }
        match accepted {
            Ok((socket, _)) => admit(shared, socket, NEXT.fetch_add(1, Ordering::Relaxed)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::warn!("a connection could not be accepted ({error}); the longest idle one is closed");
                shared.evict_longest_idle();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Gives the connection a thread, if need be in the place of the one that has been idle longest.
fn admit(shared: &Arc<Shared>, socket: TcpStream, number: u64) {
    let entry = Arc::new(Entry::new(socket, shared.started));
    // A timeout that ends every write to a client that does not read.
    let _ = entry.socket.set_write_timeout(Some(shared.limits.answer));
    let open = shared.connections().len();
    let has_room = open < shared.limits.connections
        || (open < shared.limits.connections + MOST_ENDING && shared.evict_longest_idle());
    if !has_room {
        return refuse(shared, entry);
    }
    shared.connections().insert(number, Arc::clone(&entry));
    let place = Place { shared: Arc::clone(shared), number };
    let spawned = thread::Builder::new().name("connection".to_owned()).stack_size(STACK_BYTES).spawn({
        let entry = Arc::clone(&entry);
        move || connection::serve(&place.shared, &entry)
    });
    if let Err(error) = spawned {
        // The closure is gone, and its `Place` with it.
        log::warn!("there was no thread for a connection ({error})");
        tell_no_room(&entry.socket);
    }
}

/// A connection's place in the list; given back when its thread ends, however it ends.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let entry = self.shared.connections().remove(&self.number);
        if let Some(entry) = entry {
            let _ = entry.socket.shutdown(Shutdown::Both);
        }
        self.shared.one_ended.notify_all();
    }
}

/// Answers 503 without holding up the listener; in a flood of connections, just closes.
fn refuse(shared: &Arc<Shared>, entry: Arc<Entry>) {
    if shared.refusals.fetch_add(1, Ordering::AcqRel) >= MOST_REFUSALS {
        shared.refusals.fetch_sub(1, Ordering::AcqRel);
        return tell_no_room(&entry.socket);
    }
    let spawned = thread::Builder::new().name("refusal".to_owned()).stack_size(STACK_BYTES).spawn({
        let shared = Arc::clone(shared);
        move || {
            tell_no_room(&entry.socket);
            connection::drain(&entry.socket);
            shared.refusals.fetch_sub(1, Ordering::AcqRel);
        }
    });
    if spawned.is_err() {
        shared.refusals.fetch_sub(1, Ordering::AcqRel);
    }
}

fn tell_no_room(mut socket: &TcpStream) {
    // A fresh socket has room for this; where it has not, the client learns from the close.
    let _ = socket.set_nonblocking(true).and_then(|()| io::Write::write(&mut socket, NO_ROOM));
    let _ = socket.set_nonblocking(false);
}
