//! The slots of connections: a bounded number of them, the order in which they are given up, and
//! the threads that serve them.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::workers::Workers;
use crate::sync::locked;

/// Beyond the limit there may be a quarter of it: connections that were given up, whose threads
/// have not ended yet.
const ENDING_PART: usize = 4;
/// Beyond the limit there may also be a sixteenth of it: connections that were refused, whose
/// threads wait until the client has read why.
const REFUSALS_PART: usize = 16;
/// How long a connection keeps its slot at least while it has no request, or its answer is not
/// read.
const CLIENT_PATIENCE: Duration = Duration::from_millis(100);

/// The connections of a server.
pub struct Slots {
    most: usize,
    is_stopping: AtomicBool,
    /// Threads that have ended a connection and wait for the next.
    pub workers: Workers<Arc<Slot>>,
    /// The thread of every refusal holds it, so that they can be counted.
    refusals: Arc<()>,
    /// Only whoever serves a slot, or is about to, holds it. So it ends with them, however they
    /// end.
    held: Mutex<Vec<Weak<Slot>>>,
}

/// One connection among the others.
pub struct Slot {
    /// The connection's socket.
    pub socket: TcpStream,
    /// When the last request ended, in microseconds, or one of the values below. It is one atomic
    /// value, so that the connection and whoever wants its slot always agree.
    idle_since: AtomicU64,
}

/// A request is being answered: the connection is not given up.
const IN_REQUEST: u64 = 0;
/// Added to the time while the body of a request is awaited. The connection is then given up after
/// every idle one, and not because the server stops.
const RECEIVING: u64 = 1 << 63;
/// Added to the time while an answer is being written. The connection is then given up last, when
/// its client has left the answer unread for long.
const ANSWERING: u64 = 0b11 << 62;
/// The connection was given up.
const EVICTED: u64 = u64::MAX;

/// Microseconds since the first call of this function, never 0.
fn clock() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    1 + u64::try_from(FIRST.elapsed().as_micros()).unwrap_or_default()
}

impl Slot {
    /// Whether the client has closed its side. Nobody else may use the socket meanwhile, as it is
    /// nonblocking then.
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

    /// Marks that a head has come, and its body is awaited.
    pub fn begin_body(&self) {
        self.idle_since.fetch_or(RECEIVING, Ordering::AcqRel);
    }

    /// Marks that a request is being answered. Returns `false` if the connection was given up just
    /// before.
    pub fn begin_request(&self) -> bool {
        self.idle_since.swap(IN_REQUEST, Ordering::AcqRel) != EVICTED
    }

    /// Marks that an answer is being written.
    pub fn begin_answer(&self) {
        self.idle_since
            .store(ANSWERING | clock(), Ordering::Release);
    }

    /// Marks that it is written. Returns `false` if the connection was given up meanwhile.
    pub fn end_answer(&self) -> bool {
        self.begin_request()
    }

    /// Marks the end of a request.
    pub fn end_request(&self) {
        self.idle_since.store(clock(), Ordering::Release);
    }

    /// Closes the connection if its state comes before `end`, and it has been in that state since
    /// `latest` or longer. Returns whether it did. A request that is being answered is left alone.
    fn evict(&self, end: u64, latest: u64) -> bool {
        let evict = |state: u64| {
            let since = state & !ANSWERING;
            let is_due = state != IN_REQUEST && state < end && since <= latest;
            is_due.then_some(EVICTED)
        };
        let evicted = self
            .idle_since
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, evict);
        if evicted.is_err() {
            return false;
        }
        // Its thread wakes from its read and ends.
        let _ = self.socket.shutdown(Shutdown::Both);
        true
    }
}

impl Slots {
    /// Room for `most` connections.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            is_stopping: AtomicBool::new(false),
            workers: Workers::default(),
            refusals: Arc::default(),
            held: Mutex::default(),
        }
    }

    /// Whether the server has been told to stop.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Tells everybody that the server stops. Returns `false` if somebody has done so before.
    pub fn begin_stop(&self) -> bool {
        let is_first = !self.is_stopping.swap(true, Ordering::AcqRel);
        self.workers.close();
        is_first
    }

    /// A slot for a connection, which is idle at first.
    pub fn add(&self, socket: TcpStream) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            socket,
            idle_since: AtomicU64::new(IN_REQUEST),
        });
        slot.end_request();
        self.held().push(Arc::downgrade(&slot));
        slot
    }

    /// Makes room for one more connection, if need be by giving up another one. Returns whether
    /// there is room.
    pub fn make_room(&self) -> bool {
        let open = self.held().len();
        let ending = (self.most / ENDING_PART).max(1);
        open < self.most || (open < self.most + ending && self.evict_longest_idle())
    }

    /// A place for one refusal, until it is dropped. `None` if there are too many refusals.
    pub fn place_of_refusal(&self) -> Option<Arc<()>> {
        let place = Arc::clone(&self.refusals);
        // `self` holds one more.
        let most = (self.most / REFUSALS_PART).max(1) + 1;
        (Arc::strong_count(&place) <= most).then_some(place)
    }

    /// The connections that have not ended.
    fn held(&self) -> MutexGuard<'_, Vec<Weak<Slot>>> {
        let mut held = locked(&self.held);
        held.retain(|slot| slot.strong_count() > 0);
        held
    }

    /// Closes every idle connection. Returns how many connections have not ended.
    pub fn evict_idle(&self) -> usize {
        let held = self.held();
        for slot in held.iter().filter_map(Weak::upgrade) {
            slot.evict(RECEIVING, EVICTED);
        }
        held.len()
    }

    /// Closes the connection that has been idle for the longest time. If none is idle, closes the
    /// one that has waited for a request body for the longest time. If there is none either, closes
    /// the one whose client has not read its answer for the longest time. Returns `false` if there
    /// is no such connection, or none for as long as a client may take.
    pub fn evict_longest_idle(&self) -> bool {
        let mut slots: Vec<Arc<Slot>> = self.held().iter().filter_map(Weak::upgrade).collect();
        // `IN_REQUEST` comes last: a request that ends now leaves its connection idle most
        // recently.
        slots.sort_by_cached_key(|slot| {
            slot.idle_since
                .load(Ordering::Acquire)
                .wrapping_sub(IN_REQUEST + 1)
        });
        let patience = u64::try_from(CLIENT_PATIENCE.as_micros()).unwrap_or_default();
        let latest = clock().saturating_sub(patience);
        slots.iter().any(|slot| slot.evict(EVICTED, latest))
    }
}
