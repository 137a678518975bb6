//! What may be known of the pending sign-ins from outside the auth path: which are under way, how
//! they ended, and waiting for their end. Nothing here takes a step of a sign-in.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::pending::{Attempt, Entries, Entry, Outcome, PendingSignIns, Phase};
use super::request::Requirements;
use crate::error::Failure;
use crate::sorted;
use crate::sync::locked;

impl Entry {
    /// Whether it is a sign-in of `user_id` (of anybody, without one).
    fn is_of(&self, user_id: Option<&str>) -> bool {
        user_id.is_none_or(|user_id| user_id == self.attempt.user_id)
    }

    fn is_success_of(&self, user_id: &str, fits: impl Fn(&Requirements) -> bool) -> bool {
        let is_success = matches!(&self.phase, Phase::Ended { outcome: Ok(_), .. });
        is_success && self.is_of(Some(user_id)) && fits(&self.attempt.requirements)
    }
}

impl PendingSignIns {
    /// The sign-in `handle`, if it is under way.
    pub fn under_way(&self, handle: &str) -> Option<Arc<Attempt>> {
        let entries = self.current();
        let mut under_way = entries.iter().filter(|entry| !entry.has_ended());
        let found = under_way.find(|entry| entry.attempt.handle == handle)?;
        Some(Arc::clone(&found.attempt))
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>) -> bool {
        let entries = self.current();
        entries
            .iter()
            .any(|entry| entry.is_of(user_id) && !entry.has_ended())
    }

    /// How the sign-in `handle` ended, if it did and is not forgotten.
    pub fn outcome(&self, handle: &str) -> Option<Outcome> {
        let entries = self.current();
        let entry = entries
            .iter()
            .find(|entry| entry.attempt.handle == handle)?;
        match &entry.phase {
            Phase::Ended { outcome, .. } => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Whether `user_id` has just signed in with requirements that `fits` takes: a sign-in that
    /// would have expired by now counts no more. It is forgotten then, so that it counts once.
    pub fn take_success(&self, user_id: &str, fits: impl Fn(&Requirements) -> bool) -> bool {
        let now = self.clock.now();
        let mut entries = self.current();
        let found = entries.iter().position(|entry| {
            entry.attempt.expires_at > now && entry.is_success_of(user_id, &fits)
        });
        found.and_then(|at| entries.remove(at)).is_some()
    }

    /// Why the last sign-in of `user_id` failed, if the last one did and is not forgotten.
    pub fn last_failure(&self, user_id: &str) -> Option<Failure> {
        let entries = self.current();
        let endings = entries.iter().filter_map(|entry| match &entry.phase {
            Phase::Ended { outcome, at, .. } if entry.is_of(Some(user_id)) => Some((at, outcome)),
            _ => None,
        });
        let (_, outcome) = endings.max_by_key(|(at, _)| *at)?;
        outcome.as_ref().err().cloned()
    }

    /// Whose sign-ins are not forgotten.
    pub fn users(&self) -> BTreeSet<String> {
        let entries = self.current();
        let users = entries.iter().map(|entry| entry.attempt.user_id.clone());
        sorted::set(users)
    }

    /// Waits at most `step` for a sign-in of `user_id` (of anybody, without one) to end later than
    /// `since`. `true`: one has, or none is under way any more.
    pub fn wait(&self, user_id: Option<&str>, since: Instant, step: Duration) -> bool {
        let goes_on = |entries: &Entries| {
            let now = self.clock.now();
            let mut is_pending = false;
            for entry in entries.iter().filter(|entry| entry.is_of(user_id)) {
                match entry.phase {
                    Phase::Ended { at, .. } if at >= since => return false,
                    Phase::Ended { .. } => {}
                    _ => is_pending |= entry.is_current(now),
                }
            }
            is_pending
        };
        !self.wait_while(step, goes_on)
    }

    /// Sleeps for `length`, or until the sign-in `handle` is over. Whether it still goes on.
    pub fn sleep(&self, handle: &str, length: Duration) -> bool {
        self.wait_while(length, |entries| {
            let now = self.clock.now();
            let mut under_way = entries.iter().filter(|entry| !entry.has_ended());
            under_way.any(|entry| entry.attempt.handle == handle && entry.is_current(now))
        })
    }

    /// Waits at most `length` while `goes_on`, and says whether it still does.
    fn wait_while(&self, length: Duration, goes_on: impl Fn(&Entries) -> bool) -> bool {
        let entries = locked(&self.entries);
        let waited = self
            .changed
            .wait_timeout_while(entries, length, |entries| goes_on(entries));
        let (entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        goes_on(&entries)
    }
}
