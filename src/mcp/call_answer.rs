//! The answer to one call, as a tool sees it: progress can be told on it, and it can wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;

use super::jsonrpc::{INTERNAL_ERROR, RpcError};
use super::progress::Progress;
use crate::http::answer::{Answer, SignOfLife};

/// How many wait at a time: each holds a thread.
const MOST_WAITING: usize = 32;

/// The room for those who only wait.
#[derive(Default)]
pub(super) struct Room(AtomicUsize);

/// A place in a [`Room`], until it is dropped.
pub(super) struct Place<'a>(&'a Room);

impl Room {
    /// A place, unless all are taken.
    pub(super) fn enter(&self) -> Option<Place<'_>> {
        let taken = self.0.fetch_add(1, Ordering::AcqRel);
        let place = Place(self);
        (taken < MOST_WAITING).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The answer to one call.
pub(super) struct CallAnswer<'a> {
    answer: &'a Answer<'a>,
    progress: Option<Arc<Progress>>,
    /// Without one, the call does not wait.
    room: Option<&'a Room>,
}

impl<'a> CallAnswer<'a> {
    /// For a call that is part of a batch: it does not wait, and never becomes a stream.
    pub(super) fn in_batch(answer: &'a Answer<'a>) -> Self {
        Self {
            answer,
            progress: None,
            room: None,
        }
    }

    /// For a call of its own, which becomes a stream when it takes long, if `may_stream`. A client
    /// that has sent a `token` is told progress then. The call may wait while there is `room`.
    pub(super) fn new(
        answer: &'a mut Answer<'_>,
        token: Option<Box<RawValue>>,
        room: &'a Room,
        may_stream: bool,
    ) -> Self {
        let progress = token.map(|token| Arc::new(Progress::new(token)));
        let sign_of_life = progress
            .clone()
            .map(|progress| -> SignOfLife { Box::new(move || progress.goes_on()) });
        if may_stream {
            answer.allow_stream(sign_of_life);
        }
        Self {
            answer,
            progress,
            room: Some(room),
        }
    }

    /// `bytes` of a file of `total` were moved.
    ///
    /// # Errors
    /// Nobody waits for the call any longer.
    pub(super) fn moved(&self, bytes: u64, total: Option<u64>) -> io::Result<()> {
        self.answer.check()?;
        match &self.progress {
            Some(progress) => self.answer.tell(|| progress.moved(bytes, total)),
            None => Ok(()),
        }
    }

    /// Waits for a sign-in: repeats `step`, which blocks no longer than it is told, until it gives
    /// `true`. Where the call may not wait, it returns at once.
    ///
    /// # Errors
    /// The client has left. Nothing is done for it, and nothing is sent to it.
    pub(super) fn wait_for_sign_in(
        &self,
        step: impl FnMut(Duration) -> bool,
    ) -> Result<(), RpcError> {
        let Some(_place) = self.room.and_then(Room::enter) else {
            return Ok(());
        };
        self.set_activity("Waiting for the user to sign in");
        let waited = self.answer.wait(step);
        self.set_activity("Waiting for the API");
        waited.map_err(|error| RpcError::new(INTERNAL_ERROR, error.to_string()))
    }

    fn set_activity(&self, activity: &'static str) {
        if let Some(progress) = &self.progress {
            progress.set_activity(activity);
        }
    }
}
