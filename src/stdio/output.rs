//! Standard output: one message a line, and nothing else.

use std::io::{self, ErrorKind, Write as _};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::sync::locked;

/// JSON-RPC 2.0 §5.1.
const INTERNAL_ERROR: i32 = -32603;
const INVALID_REQUEST: i32 = -32600;

/// Until it is tried again to write what would block.
const PAUSE: Duration = Duration::from_millis(5);

/// Lines of several threads, each in one piece.
#[derive(Default)]
pub(super) struct Output(Mutex<()>);

impl Output {
    /// Writes a message. Line breaks in JSON are white space.
    ///
    /// # Errors
    /// Nobody reads it any longer.
    pub(super) fn write(&self, message: &[u8]) -> io::Result<()> {
        let mut line = message.to_vec();
        for byte in &mut line {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        let _turn = locked(&self.0);
        let mut out = io::stdout().lock();
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let written = patiently(|| out.write(rest))?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        patiently(|| out.flush())
    }

    /// Answers the requests `ids` with an error. Without ids, the error has no id.
    pub(super) fn write_errors(&self, ids: &[Value], text: &str) {
        let errors: Vec<Value> = ids
            .iter()
            .map(|id| error(Some(id), INTERNAL_ERROR, text))
            .collect();
        let written = match errors.as_slice() {
            [] => self.write(error(None, INVALID_REQUEST, text).to_string().as_bytes()),
            [error] => self.write(error.to_string().as_bytes()),
            errors => self.write(json!(errors).to_string().as_bytes()),
        };
        if written.is_err() {
            log::warn!("standard output is closed; it should have had: {text}");
        }
    }
}

/// Tries again for as long as `write` would block: whoever has started this program may have made
/// standard output so.
fn patiently<T>(mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match write() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Without an id where none could be read: MCP has no `null` id.
fn error(id: Option<&Value>, code: i32, text: &str) -> Value {
    let error = json!({ "code": code, "message": text });
    match id {
        Some(id) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
        None => json!({ "jsonrpc": "2.0", "error": error }),
    }
}
