//! How far a transfer has come, told to the client that waits for it.

use std::cell::Cell;
use std::io;
use std::time::Instant;

use serde_json::value::RawValue;

use crate::http::event_stream::EventStream;

/// A client is told of each further megabyte, and when it has heard nothing for long.
const STEP: u64 = 1024 * 1024;

/// The progress of one call.
pub(super) struct Progress<'a> {
    stream: &'a EventStream<'a>,
    /// Without one, the client only gets signs of life.
    token: Option<&'a RawValue>,
    told: Cell<u64>,
    last_sign: Cell<Instant>,
}

impl<'a> Progress<'a> {
    /// To the client at the other end of `stream`, which has asked for it with `token`, and was `told` so much.
    pub(super) fn new(stream: &'a EventStream<'a>, token: Option<&'a RawValue>, told: u64) -> Self {
        Self {
            stream,
            token,
            told: Cell::new(told),
            last_sign: Cell::new(Instant::now()),
        }
    }

    /// `bytes` were moved, of `total`.
    ///
    /// # Errors
    /// Nobody waits for the transfer any longer.
    pub(super) fn moved(&self, bytes: u64, total: Option<u64>) -> io::Result<()> {
        self.stream.check()?;
        let is_silent = self.last_sign.get().elapsed() >= self.stream.keep_alive_interval();
        match self.token {
            // What is sent again begins anew, and progress only grows (MCP 2026-07-28 progress).
            Some(token)
                if bytes > self.told.get()
                    && (bytes - self.told.get() >= STEP || total == Some(bytes) || is_silent) =>
            {
                self.told.set(bytes);
                let total = total
                    .map(|total| format!(",\"total\":{total}"))
                    .unwrap_or_default();
                self.stream.message(format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{bytes}{total},"message":"Bytes moved"}}}}"#
                ))?;
            }
            _ if is_silent => self.stream.keep_alive()?,
            _ => return Ok(()),
        }
        self.last_sign.set(Instant::now());
        Ok(())
    }
}
