//! How far a call has come, for a client that wants to know (MCP 2026-07-28 progress).

use std::sync::Mutex;

use serde_json::value::RawValue;

use super::jsonrpc::quoted;
use crate::sync::locked;

/// A client is told of each further megabyte.
const STEP: u64 = 1024 * 1024;

/// The progress of one call. The numbers that are told only grow, as the specification wants it.
pub(super) struct Progress {
    token: Box<RawValue>,
    state: Mutex<State>,
}

struct State {
    told: u64,
    activity: &'static str,
    moved: Option<Moved>,
}

/// The part of a file that was moved.
#[derive(Clone, Copy)]
struct Moved {
    bytes: u64,
    total: Option<u64>,
}

impl Progress {
    /// For the client that sent `token`.
    pub(super) fn new(token: Box<RawValue>) -> Self {
        let state = State {
            told: 0,
            activity: "Waiting for the API",
            moved: None,
        };
        Self {
            token,
            state: Mutex::new(state),
        }
    }

    /// Says from now on that the call is busy with `activity`.
    pub(super) fn set_activity(&self, activity: &'static str) {
        locked(&self.state).activity = activity;
    }

    /// The notification that the call goes on.
    pub(super) fn goes_on(&self) -> String {
        let mut state = locked(&self.state);
        match state.moved {
            Some(moved) if moved.bytes > state.told => self.tell_moved(&mut state, moved),
            _ => {
                state.told += 1;
                self.notification(state.told, None, state.activity)
            }
        }
    }

    /// The notification that `bytes` of `total` were moved, where it is due. A file that is sent
    /// again begins anew, and is told again when there is more than before.
    pub(super) fn moved(&self, bytes: u64, total: Option<u64>) -> Option<String> {
        let mut state = locked(&self.state);
        let moved = Moved { bytes, total };
        state.moved = Some(moved);
        let news = bytes.checked_sub(state.told)?;
        let is_due = news >= STEP || (news > 0 && total == Some(bytes));
        is_due.then(|| self.tell_moved(&mut state, moved))
    }

    fn tell_moved(&self, state: &mut State, moved: Moved) -> String {
        state.told = moved.bytes;
        self.notification(moved.bytes, moved.total, "Bytes moved")
    }

    fn notification(&self, progress: u64, total: Option<u64>, message: &str) -> String {
        let token = &self.token;
        let message = quoted(message);
        let total = total
            .map(|total| format!(",\"total\":{total}"))
            .unwrap_or_default();
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress}{total},"message":{message}}}}}"#
        )
    }
}
