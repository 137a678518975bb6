//! Log lines on standard error: one event a line, nothing secret, nothing that a peer could use to
//! forge a line.

use std::io::Write as _;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock::{Clock, iso8601_seconds};

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
        let (time, level) = (
            iso8601_seconds(Clock::system().now()),
            record.level().as_str().to_ascii_lowercase(),
        );
        // An escaped control character keeps it one line.
        let escaped = |c: char| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.into()
            }
        };
        let line: String = record.args().to_string().chars().map(escaped).collect();
        // A closed standard error must not take the server down.
        let _ = writeln!(std::io::stderr().lock(), "{time} {level} {line}");
    }

    fn flush(&self) {}
}
