//! One thread that does what is due at some time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::sync::locked;

/// What the ticker looks after.
pub trait Tick {
    /// Does what is due at `now`, without blocking, and says when the ticker must come back.
    fn tick(&self, now: Instant) -> Instant;
}

/// The items that are looked after, and until when the thread sleeps.
pub struct Ticker<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    entries: Vec<Entry<T>>,
    /// Until when the thread sleeps; `None`: until something is added.
    sleeps_until: Option<Instant>,
    is_closed: bool,
}

struct Entry<T> {
    item: Arc<T>,
    due: Instant,
}

impl<T> Default for Ticker<T> {
    fn default() -> Self {
        let state = State {
            entries: Vec::new(),
            sleeps_until: None,
            is_closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl<T: Tick> Ticker<T> {
    /// Looks after `item` from `due` on. The thread is woken only if it would sleep for longer. So
    /// a call that is over before it is due rarely costs a system call.
    pub fn add(&self, item: &Arc<T>, due: Instant) {
        let mut state = locked(&self.state);
        state.entries.push(Entry {
            item: Arc::clone(item),
            due,
        });
        if state.sleeps_until.is_none_or(|until| due < until) {
            state.sleeps_until = Some(due);
            self.changed.notify_one();
        }
    }

    /// Stops looking after `item`.
    pub fn remove(&self, item: &Arc<T>) {
        let mut state = locked(&self.state);
        let is_it = |entry: &Entry<T>| Arc::ptr_eq(&entry.item, item);
        if let Some(at) = state.entries.iter().position(is_it) {
            state.entries.swap_remove(at);
        }
    }

    /// Ends the thread.
    pub fn close(&self) {
        locked(&self.state).is_closed = true;
        self.changed.notify_one();
    }

    /// What the thread does.
    pub fn run(&self) {
        while let Some(now) = self.sleep() {
            let due: Vec<Arc<T>> = locked(&self.state)
                .entries
                .iter()
                .filter(|entry| entry.due <= now)
                .map(|entry| Arc::clone(&entry.item))
                .collect();
            for item in due {
                let next = item.tick(now);
                self.put_off(&item, now, next);
            }
        }
    }

    /// Looks after `item` again at `next`. If it was removed and added anew meanwhile, it has
    /// another time already, and keeps that.
    fn put_off(&self, item: &Arc<T>, now: Instant, next: Instant) {
        let mut state = locked(&self.state);
        let is_it = |entry: &&mut Entry<T>| Arc::ptr_eq(&entry.item, item) && entry.due <= now;
        if let Some(entry) = state.entries.iter_mut().find(is_it) {
            entry.due = next;
        }
    }

    /// Sleeps until something is due, and returns the time; `None` if the ticker is closed.
    fn sleep(&self) -> Option<Instant> {
        let mut state = locked(&self.state);
        loop {
            if state.is_closed {
                return None;
            }
            let now = Instant::now();
            state.sleeps_until = state.entries.iter().map(|entry| entry.due).min();
            state = match state.sleeps_until {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let waited = self.changed.wait_timeout(state, due - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => return Some(now),
            };
        }
    }
}
