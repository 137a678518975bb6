//! Log lines on standard error: one event a line, nothing secret, nothing that a peer could use to
//! forge a line.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::SystemTime;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock;

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
        let mut line =
            format!("{} {} ", clock::iso8601(SystemTime::now()), record.level().as_str().to_ascii_lowercase());
        for c in record.args().to_string().chars() {
            // Writing to a string cannot fail; an escaped control character keeps it one line.
            let _ = if c.is_control() { write!(line, "{}", c.escape_default()) } else { line.write_char(c) };
        }
        // A closed standard error must not take the server down.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn flush(&self) {}
}
