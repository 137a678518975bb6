//! Writes lines on a thread of its own, to where a write may never end: a pipe that nobody reads, a
//! terminal that is stopped. Whoever waits for a line can stop waiting.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::sync;

/// The side that waits.
pub struct LineWriter {
    lines: SyncSender<Vec<u8>>,
    ends: Receiver<Result<(), NotWritten>>,
    /// The thread has a line, and it is not known how that ended.
    is_writing: bool,
    /// How long a line may take.
    patience: Duration,
}

struct NotWritten {
    /// What is left of the line.
    rest: Vec<u8>,
    error: io::Error,
}

impl LineWriter {
    /// Starts a thread that writes to `out`; a line may take as long as `patience`.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(mut out: Box<dyn Write + Send>, patience: Duration) -> io::Result<Self> {
        let (lines, to_write) = mpsc::sync_channel(1);
        let (end, ends) = mpsc::sync_channel(1);
        let write_lines = move || {
            for line in to_write {
                if end.send(write_line(&mut out, line)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("line writer".to_owned());
        sync::spawn(thread, Box::new(write_lines))?;
        Ok(Self {
            lines,
            ends,
            is_writing: false,
            patience,
        })
    }

    /// Writes `lines`, the oldest first, and removes those that are written, or may still be. Of
    /// one that was written in part, the rest stays.
    ///
    /// # Errors
    /// Not all are written. Where one takes too long, that is the answer at once until it is done.
    pub fn write(&mut self, lines: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
        if self.is_writing {
            self.wait(Duration::ZERO, lines)?;
        }
        let deadline = Instant::now() + self.patience;
        while let Some(line) = lines.pop_front() {
            self.lines.send(line).map_err(io::Error::other)?;
            self.is_writing = true;
            self.wait(deadline.saturating_duration_since(Instant::now()), lines)?;
        }
        Ok(())
    }

    /// Waits until the thread has done its line. What could not be written of it is the oldest of
    /// `lines` again.
    fn wait(&mut self, patience: Duration, lines: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
        let Ok(written) = self.ends.recv_timeout(patience) else {
            return Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it"));
        };
        self.is_writing = false;
        written.map_err(|NotWritten { rest, error }| {
            lines.push_front(rest);
            error
        })
    }
}

fn write_line(out: &mut dyn Write, mut rest: Vec<u8>) -> Result<(), NotWritten> {
    while !rest.is_empty() {
        let error = match out.write(&rest) {
            Ok(0) => ErrorKind::WriteZero.into(),
            Ok(count) => {
                rest.drain(..count);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        return Err(NotWritten { rest, error });
    }
    Ok(())
}
