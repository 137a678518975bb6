//! The sign-ins that people have begun and not yet ended.
//!
//! ```text
//! Offered ── /auth/login ──> Sent ── the response ──> Returned ── /auth/complete, redeemed ──> Ended
//! ```
//! Each step uses up what led to it: the ticket opens in one browser only, the state is good for one
//! response, the response is redeemed once. All of it ends ten minutes after it began.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::oauth::authorize::Proofs;
use crate::oauth::callback::AuthorizationResponse;
use crate::secret::{self, Secret};
use crate::sync::locked;

/// How long a sign-in may take, in seconds; an authorization code lives as long.
pub const LIFETIME: u64 = 600;
/// More people than that do not sign in at once; beyond it the oldest gives way.
const MOST: usize = 64;

/// How a sign-in ended: what the page tells the person, and `check_auth_status` the model.
pub type Outcome = Result<String, Failure>;
/// What is to be redeemed, or how a sign-in ended that has ended.
pub type Redemption = Result<(Arc<Attempt>, AuthorizationResponse), Outcome>;

/// One sign-in: what stays the same from its beginning to its end.
pub struct Attempt {
    /// Who should sign in.
    pub user_id: String,
    /// For `/auth/login?ticket=`.
    pub ticket: Secret,
    /// Names the attempt in `/auth/complete` and in its cookie; no secret.
    pub handle: String,
    /// The cookie's value, known to the one browser that opened the ticket.
    pub binding: Secret,
    /// Of the authorization request.
    pub proofs: Proofs,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// The name of the cookie that binds the sign-in `handle` to a browser: one for each, so that two
/// sign-ins in one browser do not disturb each other.
pub fn cookie_name(handle: &str) -> String {
    format!("entra_auth_mcp_{handle}")
}

enum Phase {
    Offered,
    Sent,
    /// The response, until it is handed out to be redeemed.
    Returned(Option<AuthorizationResponse>),
    /// How, and when.
    Ended(Outcome, Instant),
}

struct Entry {
    attempt: Arc<Attempt>,
    phase: Phase,
}

impl Entry {
    /// Whether it is a sign-in of `user_id` (of anybody, without one).
    fn is_of(&self, user_id: Option<&str>) -> bool {
        user_id.is_none_or(|user_id| user_id == self.attempt.user_id)
    }

    /// How it ended, and when.
    fn ending(&self) -> Option<(&Outcome, Instant)> {
        if let Phase::Ended(outcome, at) = &self.phase { Some((outcome, *at)) } else { None }
    }
}

/// The pending sign-ins of one server, oldest first.
#[derive(Default)]
pub struct PendingSignIns {
    entries: Mutex<VecDeque<Entry>>,
    changed: Condvar,
}

fn start_again(message: &str) -> Failure {
    Failure::new(Kind::SignInRequired, message).hint("Start the sign-in again from a new link.")
}

impl PendingSignIns {
    /// Those that have not expired.
    fn current(&self, now: u64) -> MutexGuard<'_, VecDeque<Entry>> {
        let mut entries = locked(&self.entries);
        entries.retain(|entry| entry.attempt.expires_at > now);
        entries
    }

    /// Begins a sign-in of `user_id` at the time `now` (seconds since 1970).
    ///
    /// # Errors
    /// No randomness.
    pub fn begin(&self, user_id: &str, now: u64) -> Result<Arc<Attempt>, Failure> {
        let attempt = Arc::new(Attempt {
            user_id: user_id.to_owned(),
            ticket: Secret::random()?,
            handle: secret::random_base64url::<12>()?,
            binding: Secret::random()?,
            proofs: Proofs::random()?,
            expires_at: now + LIFETIME,
        });
        let mut entries = self.current(now);
        if entries.len() >= MOST {
            // Nobody is in the middle of one that is only offered, or over.
            let is_idle = |entry: &Entry| matches!(entry.phase, Phase::Offered | Phase::Ended(..));
            let oldest = entries.iter().position(is_idle).unwrap_or(0);
            entries.remove(oldest);
        }
        entries.push_back(Entry { attempt: Arc::clone(&attempt), phase: Phase::Offered });
        self.changed.notify_all();
        Ok(attempt)
    }

    /// A sign-in of `user_id` whose link nobody has opened yet, with half its life to come: it serves again,
    /// so that a client that asks and asks pushes out nobody else's.
    pub fn offered(&self, user_id: &str, now: u64) -> Option<Arc<Attempt>> {
        let is_on_offer = |entry: &&Entry| entry.is_of(Some(user_id)) && matches!(entry.phase, Phase::Offered);
        let has_time = |entry: &&Entry| entry.attempt.expires_at > now + LIFETIME / 2;
        locked(&self.entries).iter().filter(is_on_offer).find(has_time).map(|entry| Arc::clone(&entry.attempt))
    }

    /// Opens `ticket` in a browser. `cookie` gives the value of a cookie that the browser sent: the
    /// browser that opened a ticket may open it again, as after closing Entra's page; another may
    /// not.
    ///
    /// # Errors
    /// An unknown, expired or used ticket.
    pub fn open(
        &self,
        ticket: &str,
        now: u64,
        cookie: impl Fn(&str) -> Option<String>,
    ) -> Result<Arc<Attempt>, Failure> {
        let mut entries = self.current(now);
        let entry = entries.iter_mut().find(|entry| entry.attempt.ticket.matches(ticket));
        let entry = entry.ok_or_else(|| start_again("This sign-in link is unknown or has expired."))?;
        let Attempt { handle, binding, .. } = entry.attempt.as_ref();
        match entry.phase {
            Phase::Offered => entry.phase = Phase::Sent,
            Phase::Sent if cookie(&cookie_name(handle)).is_some_and(|value| binding.matches(&value)) => {}
            _ => return Err(start_again("This sign-in link was used already.")),
        }
        Ok(Arc::clone(&entry.attempt))
    }

    /// Takes a response of Entra; its state is used up. Gives the handle for `/auth/complete`.
    ///
    /// # Errors
    /// An unknown, expired or used state.
    pub fn take_response(&self, response: AuthorizationResponse, now: u64) -> Result<String, Failure> {
        let mut entries = self.current(now);
        let entry = entries.iter_mut().find(|entry| entry.attempt.proofs.state.matches(response.state.expose()));
        let entry = entry.ok_or_else(|| {
            start_again("This answer of Entra belongs to no sign-in that is under way here; it may have expired.")
        })?;
        if !matches!(entry.phase, Phase::Sent) {
            return Err(start_again("This answer of Entra was used already."));
        }
        entry.phase = Phase::Returned(Some(response));
        Ok(entry.attempt.handle.clone())
    }

    /// Hands out what is to be redeemed, once.
    ///
    /// # Errors
    /// An unknown or expired sign-in, another browser than the one that opened it, or one that is
    /// being redeemed in this moment.
    pub fn redeem(&self, handle: &str, cookie: Option<&str>, now: u64) -> Result<Redemption, Failure> {
        let mut entries = self.current(now);
        let entry = entries.iter_mut().find(|entry| entry.attempt.handle == handle);
        let Entry { attempt, phase } = entry.ok_or_else(|| start_again("This sign-in is unknown or has expired."))?;
        if !cookie.is_some_and(|value| attempt.binding.matches(value)) {
            return Err(start_again("This sign-in was begun in another browser, or this browser keeps no cookies."));
        }
        match phase {
            Phase::Offered | Phase::Sent => Err(start_again("Entra has not answered this sign-in.")),
            Phase::Returned(response) => match response.take() {
                Some(response) => Ok(Ok((Arc::clone(attempt), response))),
                None => Err(Failure::new(Kind::RetryLater, "This sign-in is being completed.")
                    .hint("Reload this page in a moment.")),
            },
            Phase::Ended(outcome, _) => Ok(Err(outcome.clone())),
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        if let Some(entry) = locked(&self.entries).iter_mut().find(|entry| entry.attempt.handle == handle) {
            entry.phase = Phase::Ended(outcome, Instant::now());
        }
        self.changed.notify_all();
    }

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        locked(&self.entries).retain(|entry| entry.attempt.user_id != user_id);
        self.changed.notify_all();
    }

    /// Whether the sign-in `handle` was not forgotten.
    pub fn holds(&self, handle: &str) -> bool {
        locked(&self.entries).iter().any(|entry| entry.attempt.handle == handle)
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.current(now).iter().any(|entry| entry.is_of(user_id) && entry.ending().is_none())
    }

    /// How the last sign-in of `user_id` failed, when it did and is not forgotten.
    pub fn last_failure(&self, user_id: &str, now: u64) -> Option<Failure> {
        let entries = self.current(now);
        let endings = entries.iter().filter(|entry| entry.is_of(Some(user_id))).filter_map(Entry::ending);
        endings.max_by_key(|(_, at)| *at)?.0.as_ref().err().cloned()
    }

    /// Waits at most `step` for a sign-in of `user_id` (of anybody, without one) to end later than `since`.
    /// `true`: one has, or none is under way any more.
    pub fn wait(&self, user_id: Option<&str>, since: Instant, step: Duration, now: impl Fn() -> u64) -> bool {
        let goes_on = |entries: &mut VecDeque<Entry>| {
            let (now, own) = (now(), entries.iter().filter(|entry| entry.is_of(user_id)));
            let has_ended = own.clone().any(|entry| entry.ending().is_some_and(|(_, at)| at >= since));
            let is_pending = own.clone().any(|entry| entry.ending().is_none() && entry.attempt.expires_at > now);
            !has_ended && is_pending
        };
        let waited = self.changed.wait_timeout_while(locked(&self.entries), step, goes_on);
        let (mut entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !goes_on(&mut entries)
    }
}
