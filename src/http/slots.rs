//! Who holds a connection: a bounded number of slots, the order in which they are given up, and the
//! threads that serve them.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use super::workers::Workers;
use crate::sync::locked;

/// Beyond the limit there may be this part of it once more: connections that were given up and
/// whose threads have not ended yet,
const ENDING_PART: usize = 4;
/// and this part: connections that were refused, whose threads wait until the client has read why.
const REFUSALS_PART: usize = 16;
/// A connection without a request, or with an answer that is not read, keeps its slot at least for
/// this long.
const CLIENT_PATIENCE: Duration = Duration::from_millis(100);

/// The connections of a server.
pub struct Slots {
    most: usize,
    is_stopping: AtomicBool,
    /// Threads that have ended a connection and wait for the next.
    pub workers: Workers<Arc<Slot>>,
    /// Held by the thread of every refusal, and so counted.
    refusals: Arc<()>,
    /// Each is held by whoever serves it, or is about to, and so ends with that, however it ends.
    held: Mutex<Vec<Weak<Slot>>>,
}

/// One connection among the others.
pub struct Slot {
    /// The connection's socket.
    pub socket: TcpStream,
    /// When the last request ended, in microseconds, or one of the values below. It is the one
    /// word on which the connection and whoever wants its slot must agree.
    idle_since: AtomicU64,
}

/// A request is in hand: its connection is not given up.
const IN_REQUEST: u64 = 0;
/// Added while the body of a request is awaited: only then is it given up after every idle one, and
/// not because the server stops.
const RECEIVING: u64 = 1 << 63;
/// Added to the time while an answer is being written: given up last, once its client has left it
/// unread for long.
const ANSWERING: u64 = 0b11 << 62;
const EVICTED: u64 = u64::MAX;

/// Microseconds since somebody first asked, never 0.
fn clock() -> u64 {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    1 + u64::try_from(FIRST.elapsed().as_micros()).unwrap_or_default()
}

impl Slot {
    /// Whether the client has closed its side. The socket is nonblocking meanwhile, so nobody else
    /// may use it.
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

    /// Closes the connection if it is idle, or in whatever other state comes before `end`, and has
    /// been so since `latest` or longer.
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

    /// Tells everybody that the server stops; `false` when somebody has done so before.
    pub fn begin_stop(&self) -> bool {
        let is_first = !self.is_stopping.swap(true, Ordering::AcqRel);
        self.workers.close();
        is_first
    }

    /// A slot for a connection that idles so far.
    pub fn add(&self, socket: TcpStream) -> Arc<Slot> {
        let slot = Arc::new(Slot {
            socket,
            idle_since: AtomicU64::new(IN_REQUEST),
        });
        slot.end_request();
        self.held().push(Arc::downgrade(&slot));
        slot
    }

    /// Makes room for one more connection, at the cost of another one if need be.
    pub fn make_room(&self) -> bool {
        let open = self.held().len();
        let ending = (self.most / ENDING_PART).max(1);
        open < self.most || (open < self.most + ending && self.evict_longest_idle())
    }

    /// A place for one refusal, until it is dropped; `None` in a flood of connections.
    pub fn place_of_refusal(&self) -> Option<Arc<()>> {
        let place = Arc::clone(&self.refusals);
        // One more is held by `self`.
        let most = (self.most / REFUSALS_PART).max(1) + 1;
        (Arc::strong_count(&place) <= most).then_some(place)
    }

    /// The connections that have not ended.
    fn held(&self) -> MutexGuard<'_, Vec<Weak<Slot>>> {
        let mut held = locked(&self.held);
        held.retain(|slot| slot.strong_count() > 0);
        held
    }

    /// Closes every idle connection. Gives the number of all that have not ended.
    pub fn evict_idle(&self) -> usize {
        let held = self.held();
        for slot in held.iter().filter_map(Weak::upgrade) {
            slot.evict(RECEIVING, EVICTED);
        }
        held.len()
    }

    /// Closes the connection that has been idle for the longest time; without one, the one whose
    /// request body is overdue the longest; without one, the one whose client has not read its
    /// answer for the longest time. `false` when there is none, or none for as long as a client may
    /// take.
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
