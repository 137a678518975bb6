//! Accepting connections: a bounded number of them, and a way to stop.

use std::io::{self, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{iter, thread};

use super::Limits;
use super::application::Application;
use super::connection::{self, Served, Shared};
use super::message::{BodyFraming, json_reply, with_field};
use super::slots::{Slot, Slots};
use super::ticker::Ticker;
use crate::sync;

/// Enough for a TLS handshake and the deepest JSON. The system gives memory only for what is used.
const STACK_BYTES: usize = 512 * 1024;
/// How long a client may wait for a place, unless the last one has waited in vain.
const ROOM_PATIENCE: Duration = Duration::from_millis(250);
/// How often a place is looked for meanwhile.
const ROOM_STEP: Duration = Duration::from_millis(10);
/// How often a server that stops checks whether requests have ended.
const STOP_STEP: Duration = Duration::from_millis(10);
/// How long the listener pauses after a failed accept, such as one without a free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets of a server that does not accept connections yet. They are bound before the
/// application is built, which must know the port.
#[derive(Debug)]
pub struct Listeners(Vec<(SocketAddr, TcpListener)>);

/// An address that could not be bound.
#[derive(Debug)]
pub struct NotBound {
    /// Host and port, as in a URL.
    pub address: String,
    pub error: io::Error,
}

impl NotBound {
    /// Whether the address exists, but cannot be had: another program listens there, or the system
    /// does not allow it (on Windows, also if another user's program listens there).
    pub fn is_taken(&self) -> bool {
        matches!(
            self.error.kind(),
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied
        )
    }
}

const LOOPBACK_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// How many free ports are tried until one is free in both loopback families.
const DRAWS: u32 = 16;

impl Listeners {
    /// Binds `host` at `port`, or at a free port if that is 0.
    ///
    /// `localhost` means both loopback addresses. So does either of them if the server
    /// `is_reached_as_localhost`: a browser may try the other one first, and whoever listened there
    /// would get what it sends. A family that the machine lacks is left out.
    ///
    /// # Errors
    /// `host` does not exist, or one of the addresses is taken.
    pub fn bind(host: &str, port: u16, is_reached_as_localhost: bool) -> Result<Self, NotBound> {
        let bind = |port| match host.parse() {
            Ok(LOOPBACK_V4) if is_reached_as_localhost => bind_both(LOOPBACK_V4, LOOPBACK_V6, port),
            Ok(LOOPBACK_V6) if is_reached_as_localhost => bind_both(LOOPBACK_V6, LOOPBACK_V4, port),
            _ if host.eq_ignore_ascii_case("localhost") => bind_localhost(port),
            _ => Ok(vec![listen(host, port)?]),
        };
        let mut bound = bind(port);
        let draws = if port == 0 { DRAWS } else { 1 };
        for _ in 1..draws {
            match bound {
                Err(not_bound) if not_bound.is_taken() => bound = bind(port),
                _ => break,
            }
        }
        bound.map(Self)
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
    /// There is no thread to be had.
    pub fn serve(
        self,
        application: Box<dyn Application>,
        limits: Limits,
    ) -> io::Result<HttpServer> {
        let shared = Arc::new(Shared {
            slots: Slots::new(limits.connections),
            ticker: Ticker::default(),
            limits,
            application,
        });
        let mut server = HttpServer {
            shared,
            listeners: Vec::new(),
        };
        let shared = Arc::clone(&server.shared);
        spawn("ticker", move || shared.ticker.run())?;
        for (address, socket) in self.0 {
            let shared = Arc::clone(&server.shared);
            let socket = Arc::new(socket);
            server.listeners.push((address, Arc::downgrade(&socket)));
            spawn("accept", move || accept(&shared, &socket))?;
        }
        Ok(server)
    }
}

fn listen(host: &str, port: u16) -> Result<(SocketAddr, TcpListener), NotBound> {
    let bind = || {
        let socket = TcpListener::bind((host, port))?;
        let address = socket.local_addr()?;
        Ok((address, socket))
    };
    bind().map_err(|error| NotBound {
        address: if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        },
        error,
    })
}

/// Binds `asked` at `port`, and `other` at the same port unless the machine lacks its family.
fn bind_both(
    asked: IpAddr,
    other: IpAddr,
    port: u16,
) -> Result<Vec<(SocketAddr, TcpListener)>, NotBound> {
    let asked = listen(&asked.to_string(), port)?;
    match listen(&other.to_string(), asked.0.port()) {
        Ok(other) => Ok(vec![asked, other]),
        Err(not_bound) if not_bound.is_taken() => Err(not_bound),
        Err(_) => Ok(vec![asked]),
    }
}

fn bind_localhost(port: u16) -> Result<Vec<(SocketAddr, TcpListener)>, NotBound> {
    match bind_both(LOOPBACK_V4, LOOPBACK_V6, port) {
        // The machine lacks IPv4.
        Err(not_bound) if !not_bound.is_taken() => bind_both(LOOPBACK_V6, LOOPBACK_V4, port),
        bound => bound,
    }
}

/// A server that accepts connections. It stops when it is dropped.
pub struct HttpServer {
    shared: Arc<Shared>,
    /// Each socket belongs to the thread that accepts from it, and is closed with that.
    listeners: Vec<(SocketAddr, Weak<TcpListener>)>,
}

impl HttpServer {
    /// Accepts nothing more, and waits for requests in flight as long as the limits say.
    pub fn stop(&self) {
        if self.shared.slots.begin_stop() {
            self.finish_requests();
            self.shared.ticker.close();
        }
    }

    fn finish_requests(&self) {
        let slots = &self.shared.slots;
        // This frees descriptors for the connections below.
        slots.evict_idle();
        for (address, _) in &self.listeners {
            // A connection wakes the thread that accepts. If none can be made, the deadline ends
            // the wait.
            let _ = TcpStream::connect_timeout(&reachable(*address), Duration::from_secs(1));
        }
        let deadline = Instant::now() + self.shared.limits.shutdown;
        let accepts = || {
            self.listeners
                .iter()
                .any(|(_, socket)| socket.strong_count() > 0)
        };
        while slots.evict_idle() > 0 || accepts() {
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

/// The address at which a listener at `address`, which may be every address, is reached from here.
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
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES);
    sync::spawn(thread, Box::new(run))
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    // After one client has waited in vain, no other waits until there is room again.
    let mut patience = ROOM_PATIENCE;
    loop {
        let accepted = listener.accept();
        if shared.slots.is_stopping() {
            return;
        }
        match accepted {
            Ok((socket, _)) if has_room(&shared.slots, patience) => {
                patience = ROOM_PATIENCE;
                admit(shared, socket);
            }
            Ok((socket, _)) => {
                patience = Duration::ZERO;
                refuse(shared, socket);
            }
            // If a client has left again, there is no reason to pause or to close a connection.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                ) => {}
            Err(error) => {
                log::warn!(
                    "a connection could not be accepted ({error}); the longest idle one is closed"
                );
                shared.slots.evict_longest_idle();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Whether there is a slot for one more connection: a free one, one that becomes free in time, or
/// that of an idle connection.
fn has_room(slots: &Slots, patience: Duration) -> bool {
    let begun = Instant::now();
    while !slots.make_room() {
        if begun.elapsed() >= patience || slots.is_stopping() {
            return false;
        }
        thread::sleep(ROOM_STEP);
    }
    true
}

/// Gives the connection to a thread that waits, or to a new one.
fn admit(shared: &Arc<Shared>, socket: TcpStream) {
    let slot = shared.slots.add(socket);
    if let Err(slot) = shared.slots.workers.give(slot)
        && let Err(error) = spawn_work(shared, Arc::clone(&slot), false)
    {
        log::warn!("there was no thread for a connection ({error})");
        tell_no_room(&slot.socket);
    }
}

fn spawn_work(shared: &Arc<Shared>, slot: Arc<Slot>, is_quiet: bool) -> io::Result<()> {
    let shared = Arc::clone(shared);
    spawn("connection", move || work(&shared, slot, is_quiet))
}

/// Serves the connection, and then others while there are any. A connection that goes quiet gets a
/// new thread: a call leaves a stack of 80 KB, which would stay as long as the client does.
fn work(shared: &Arc<Shared>, mut slot: Arc<Slot>, mut is_quiet: bool) {
    loop {
        match connection::serve(shared, &slot, is_quiet) {
            Served::Quiet if spawn_work(shared, Arc::clone(&slot), true).is_ok() => return,
            Served::Quiet => is_quiet = true,
            Served::Whole => {
                drop(slot);
                let Some(next) = shared.slots.workers.wait(shared.limits.quiet) else {
                    return;
                };
                slot = next;
                is_quiet = false;
            }
        }
    }
}

/// Answers 503 without holding up the listener. In a flood of connections, the client may not get
/// to read it.
fn refuse(shared: &Shared, socket: TcpStream) {
    tell_no_room(&socket);
    if let Some(place) = shared.slots.place_of_refusal() {
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
    let reply = with_field(reply, "Retry-After", "1");
    let head = reply.head(BodyFraming::Length(reply.body.len()), false);
    // A new socket has room for this. If it has not, the client sees the connection close.
    let parts: Vec<&[u8]> = iter::once(head.as_slice())
        .chain(reply.body.iter())
        .collect();
    let _ = socket
        .set_nonblocking(true)
        .and_then(|()| socket.write(&parts.concat()));
    let _ = socket.set_nonblocking(false);
}
