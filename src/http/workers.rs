//! Threads that have done their work and wait a moment for more. That is cheaper than to start new
//! ones.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::sync::locked;

/// Threads that wait.
pub struct Workers<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Work for threads that were woken and have not taken it yet.
    given: Vec<T>,
    /// How many other threads wait.
    waiting: usize,
    is_closed: bool,
}

impl<T> Default for Workers<T> {
    fn default() -> Self {
        let state = Mutex::new(State {
            given: Vec::new(),
            waiting: 0,
            is_closed: false,
        });
        Self {
            state,
            changed: Condvar::new(),
        }
    }
}

impl<T> Workers<T> {
    /// Gives `work` to a thread that waits.
    ///
    /// # Errors
    /// No thread waits. `work` is returned.
    pub fn give(&self, work: T) -> Result<(), T> {
        let mut state = locked(&self.state);
        let Some(waiting) = state.waiting.checked_sub(1) else {
            return Err(work);
        };
        state.waiting = waiting;
        state.given.push(work);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for work, at most for `patience`.
    pub fn wait(&self, patience: Duration) -> Option<T> {
        let mut state = locked(&self.state);
        state.waiting += 1;
        let has_none = |state: &mut State<T>| state.given.is_empty() && !state.is_closed;
        let waited = self.changed.wait_timeout_while(state, patience, has_none);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let work = state.given.pop();
        if work.is_none() {
            state.waiting -= 1;
        }
        work
    }

    /// Lets all threads go that wait, now and from now on.
    pub fn close(&self) {
        locked(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}
