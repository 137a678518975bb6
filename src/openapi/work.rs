//! How much work it may be to read a description. A small file can make a lot of it: by references
//! to references, or by thousands of operations that share something large.

use std::cell::Cell;

const MIB: usize = 1024 * 1024;
/// How many bytes are looked through for one operation. Real ones need two MiB at most.
const MOST_FOR_ONE: usize = 16 * MIB;
/// For all operations, [`MOST_FOR_ALL`] bytes are looked through, plus [`MOST_TIMES`] times the
/// length of the text. Microsoft Graph's need ten times its text.
const MOST_FOR_ALL: usize = 512 * MIB;
const MOST_TIMES: usize = 16;
/// What a look costs besides the bytes that are looked through.
const LOOK: usize = 64;

/// The bytes that may still be looked through. Once they are spent, nothing more is found.
#[derive(Debug)]
pub(crate) struct Work {
    /// For what is being read.
    left: Cell<usize>,
    /// For all that is read afterwards.
    left_for_others: Cell<usize>,
    is_spent: Cell<bool>,
}

impl Work {
    /// For the operations of a description of this length.
    pub(crate) fn new(length: usize) -> Self {
        let most = MOST_FOR_ALL + MOST_TIMES * length;
        Self {
            left: Cell::new(0),
            left_for_others: Cell::new(most),
            is_spent: Cell::new(false),
        }
    }

    /// Does `read`, which reads one operation.
    ///
    /// # Errors
    /// It is too much work; or what it says itself.
    pub(crate) fn for_one<T>(&self, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.within(MOST_FOR_ONE, read)
    }

    /// Does `read`, which reads something for all operations.
    ///
    /// # Errors
    /// It is too much work; or what it says itself.
    pub(crate) fn for_all<T>(&self, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.within(usize::MAX, read)
    }

    fn within<T>(
        &self,
        most: usize,
        read: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        let all = self.left_for_others.get();
        let granted = most.min(all);
        self.left.set(granted);
        self.left_for_others.set(all - granted);
        self.is_spent.set(false);
        let outcome = read();
        self.left_for_others.set(all - granted + self.left.take());
        if self.is_spent.get() {
            return Err("its description takes too much work to read".to_owned());
        }
        outcome
    }

    /// Takes a look at so many bytes. Says whether it may.
    pub(crate) fn look(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes + LOOK);
        self.left.set(left.unwrap_or_default());
        self.is_spent.set(self.is_spent.get() || left.is_none());
        left.is_some()
    }
}
