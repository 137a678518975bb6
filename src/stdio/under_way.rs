//! The requests that are under way.

use std::net::{Shutdown, TcpStream};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::message::Message;
use crate::sync::locked;

/// The most requests at a time. Each has a thread and a connection.
const MOST: usize = 64;

/// One request.
#[derive(Default)]
pub(super) struct Entry {
    ids: Vec<Value>,
    is_subscription: bool,
    connection: Mutex<Connection>,
}

#[derive(Default)]
enum Connection {
    #[default]
    None,
    Open(TcpStream),
    Cancelled,
}

impl Entry {
    /// Takes the connection `socket`, which a cancellation closes. `false` if it was cancelled
    /// before.
    pub(super) fn attach(&self, socket: &TcpStream) -> bool {
        let mut connection = locked(&self.connection);
        if matches!(*connection, Connection::Cancelled) {
            return false;
        }
        if let Ok(socket) = socket.try_clone() {
            *connection = Connection::Open(socket);
        }
        true
    }

    /// Whether the client no longer waits for its answer.
    pub(super) fn is_cancelled(&self) -> bool {
        matches!(*locked(&self.connection), Connection::Cancelled)
    }

    fn cancel(&self) {
        let mut connection = locked(&self.connection);
        if let Connection::Open(socket) = &*connection {
            let _ = socket.shutdown(Shutdown::Both);
        }
        *connection = Connection::Cancelled;
    }
}

/// A request for as long as it is under way.
pub(super) struct Request {
    all: Arc<UnderWay>,
    entry: Arc<Entry>,
}

impl Deref for Request {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let is_other = |other: &Arc<Entry>| !Arc::ptr_eq(other, &self.entry);
        locked(&self.all.entries).retain(is_other);
        self.all.has_ended.notify_all();
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct UnderWay {
    entries: Mutex<Vec<Arc<Entry>>>,
    has_ended: Condvar,
    is_closed: AtomicBool,
}

impl UnderWay {
    /// Begins the request that `message` is; `None` if there are too many, or no more are taken.
    pub(super) fn begin(self: &Arc<Self>, message: &Message) -> Option<Request> {
        let mut entries = locked(&self.entries);
        if entries.len() >= MOST || self.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let entry = Arc::new(Entry {
            ids: message.ids.clone(),
            is_subscription: message.is_subscription(),
            connection: Mutex::default(),
        });
        entries.push(Arc::clone(&entry));
        Some(Request {
            all: Arc::clone(self),
            entry,
        })
    }

    /// Closes the connection of the request `id`. The server then cancels the call.
    pub(super) fn cancel(&self, id: &Value) {
        let entries = locked(&self.entries);
        for entry in entries.iter().filter(|entry| entry.ids.contains(id)) {
            entry.cancel();
        }
    }

    /// Takes no more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    /// Ends those that do nothing but wait.
    pub(super) fn end_subscriptions(&self) {
        let entries = locked(&self.entries);
        for entry in entries.iter().filter(|entry| entry.is_subscription) {
            entry.cancel();
        }
    }

    /// Waits until none is left, where there is a `patience` no longer than that.
    pub(super) fn wait_for_end(&self, patience: Option<Duration>) {
        let entries = locked(&self.entries);
        let is_any = |entries: &mut Vec<Arc<Entry>>| !entries.is_empty();
        // A panic elsewhere is no reason to end in another way.
        match patience {
            Some(patience) => drop(self.has_ended.wait_timeout_while(entries, patience, is_any)),
            None => drop(self.has_ended.wait_while(entries, is_any)),
        }
    }
}
