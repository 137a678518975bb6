//! Threads, and locks whose holder may have panicked.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;

/// Runs `work` on a thread of its own. It is boxed because `Builder::spawn` is compiled anew for
/// every type, 2 KB each.
///
/// # Errors
/// There is no thread to be had.
pub fn spawn(thread: thread::Builder, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread.spawn(work).map(drop)
}

/// Locks `mutex`. A panic while it was held is one request's: each holder leaves what it guards
/// whole at every step.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`locked`], but `None` while somebody else holds it.
pub fn try_locked<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}
