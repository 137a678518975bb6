//! Log lines on standard error: one event a line, nothing secret, nothing that a peer could use to
//! forge a line. A server loses lines rather than wait until somebody reads them.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::panic;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock::{Clock, iso8601_seconds};
use crate::line_writer::LineWriter;
use crate::sync::locked;
use crate::text::{is_plain, of_panic};

/// How long the first line waits that nobody reads. Those behind it do not wait at all.
const PATIENCE: Duration = Duration::from_millis(100);
/// Lines that are kept until they can be written. What finds no room is counted, and lost.
const MOST_WAITING: usize = 1000;

/// What a server writes with.
static PATIENT: OnceLock<Mutex<Patient>> = OnceLock::new();

struct Patient {
    writer: LineWriter,
    /// The oldest first.
    waiting: VecDeque<Vec<u8>>,
    lost: u64,
}

struct StandardError;

/// Logs at `level` and above from now on. Only this program's own events: those of libraries may
/// hold headers.
pub fn set_level(level: LevelFilter) {
    // A second call, as by several servers in one process, finds the logger set.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(level);
}

/// From now on no line is waited for.
///
/// # Errors
/// There is no thread to be had.
pub fn never_block() -> io::Result<()> {
    let patient = Patient {
        writer: LineWriter::start(Box::new(io::stderr()), PATIENCE)?,
        waiting: VecDeque::new(),
        lost: 0,
    };
    // A second call finds it set.
    let _ = PATIENT.set(Mutex::new(patient));
    Ok(())
}

/// From now on, a panic is logged without the text that it may quote.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| log::error!("{}", of_panic(panic))));
}

/// Logs at the level debug. `log::debug!` would do nothing: it is compiled out (`max_level_info`),
/// since the debug messages of libraries may hold headers.
pub(crate) fn debug(event: fmt::Arguments<'_>) {
    if log::max_level() >= LevelFilter::Debug {
        write(Level::Debug, &event.to_string());
    }
}

impl Patient {
    fn write(&mut self, line: String) {
        if self.waiting.len() >= MOST_WAITING {
            self.lost += 1;
        } else {
            self.waiting.push_back(line.into_bytes());
        }
        if self.writer.write(&mut self.waiting).is_ok() && self.lost > 0 {
            let lost = format!(
                "{} lines of the log are lost: nobody has read them",
                self.lost
            );
            self.lost = 0;
            let line = line_of(Level::Warn, &lost);
            self.waiting.push_back(line.into_bytes());
            let _ = self.writer.write(&mut self.waiting);
        }
    }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        write(record.level(), &record.args().to_string());
    }

    fn flush(&self) {}
}

fn write(level: Level, text: &str) {
    let line = line_of(level, text);
    if let Some(patient) = PATIENT.get() {
        locked(patient).write(line);
    } else {
        // A closed standard error must not take the program down.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

fn line_of(level: Level, text: &str) -> String {
    let time = iso8601_seconds(Clock::system().now());
    let level = level.as_str().to_ascii_lowercase();
    format!("{time} {level} {}\n", escaped(text))
}

/// Escaped so that it stays one line, and shows what it holds.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    escaped
}
