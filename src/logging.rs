//! Log lines on standard error: one event a line, nothing secret, nothing that a peer could use to
//! forge a line.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock::{Clock, iso8601_seconds};
use crate::text::is_plain;

struct StandardError;

/// Logs at `level` and above from now on. Only this program's own events: those of libraries may
/// hold headers.
pub fn set_level(level: LevelFilter) {
    // A second call, as by several servers in one process, finds the logger set.
    let _ = log::set_logger(&StandardError);
    log::set_max_level(level);
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let time = iso8601_seconds(Clock::system().now());
        let level = record.level().as_str().to_ascii_lowercase();
        let line = escaped(&record.args().to_string());
        // A closed standard error must not take the server down.
        let _ = writeln!(std::io::stderr().lock(), "{time} {level} {line}");
    }

    fn flush(&self) {}
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
