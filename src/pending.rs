//! The sign-ins that people have begun and not yet ended.
//!
//! ```text
//! Offered ── /auth/login ──> Sent ── the response ──> Returned ── /auth/complete ──> Redeeming ──> Ended
//! ```
//! Each step uses up what led to it: the ticket opens in one browser only, the state is good for one
//! response, the response is redeemed once. All of it ends ten minutes after it began.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Failure, Kind};
use crate::oauth::authorize::Proofs;
use crate::oauth::callback::AuthorizationResponse;
use crate::secret::{self, Secret};

/// How long a sign-in may take, in seconds; an authorization code lives as long.
pub const LIFETIME: u64 = 600;
/// More people than that do not sign in at once; beyond it the oldest gives way.
const MOST: usize = 64;

/// How a sign-in ended: what the page tells the person, and `check_auth_status` the model.
pub type Outcome = Result<String, Failure>;

/// One sign-in: what stays the same from its beginning to its end.
#[derive(Debug)]
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
    Returned(AuthorizationResponse),
    Redeeming,
    /// How, and as the how-manieth.
    Ended(Outcome, u64),
}

struct Entry {
    attempt: Arc<Attempt>,
    phase: Phase,
}

/// The pending sign-ins of one server.
#[derive(Default)]
pub struct PendingSignIns {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    entries: VecDeque<Entry>,
    /// How many have ended so far.
    ended: u64,
}

impl Inner {
    fn find(&mut self, now: u64, is_meant: impl Fn(&Attempt) -> bool) -> Option<&mut Entry> {
        self.entries.retain(|entry| entry.attempt.expires_at > now);
        self.entries.iter_mut().find(|entry| is_meant(&entry.attempt))
    }

    fn of<'a>(&'a self, user_id: Option<&'a str>) -> impl DoubleEndedIterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| user_id.is_none_or(|user_id| user_id == entry.attempt.user_id))
    }

    fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.of(user_id).any(|entry| entry.attempt.expires_at > now && !matches!(entry.phase, Phase::Ended(..)))
    }
}

fn start_again(message: &str) -> Failure {
    Failure::new(Kind::SignInRequired, message).hint("Start the sign-in again from a new link.")
}

impl PendingSignIns {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut inner = self.lock();
        inner.entries.retain(|entry| entry.attempt.expires_at > now);
        if inner.entries.len() >= MOST {
            inner.entries.pop_front();
        }
        inner.entries.push_back(Entry { attempt: Arc::clone(&attempt), phase: Phase::Offered });
        self.changed.notify_all();
        Ok(attempt)
    }

    /// A sign-in of `user_id` whose link nobody has opened yet, with half its life to come: it serves again,
    /// so that a client that asks and asks pushes out nobody else's.
    pub fn offered(&self, user_id: &str, now: u64) -> Option<Arc<Attempt>> {
        let inner = self.lock();
        let entries = inner.of(Some(user_id)).filter(|entry| matches!(entry.phase, Phase::Offered));
        let mut attempts = entries.map(|entry| &entry.attempt);
        attempts.find(|attempt| attempt.expires_at > now + LIFETIME / 2).cloned()
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
        let mut inner = self.lock();
        let entry = inner
            .find(now, |attempt| attempt.ticket.matches(ticket))
            .ok_or_else(|| start_again("This sign-in link is unknown or has expired."))?;
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
        let mut inner = self.lock();
        let entry =
            inner.find(now, |attempt| attempt.proofs.state.matches(response.state.expose())).ok_or_else(|| {
                start_again("This answer of Entra belongs to no sign-in that is under way here; it may have expired.")
            })?;
        if !matches!(entry.phase, Phase::Sent) {
            return Err(start_again("This answer of Entra was used already."));
        }
        entry.phase = Phase::Returned(response);
        Ok(entry.attempt.handle.clone())
    }

    /// Hands out what is to be redeemed, once; `Err` inside is how a sign-in ended that has ended.
    ///
    /// # Errors
    /// An unknown or expired sign-in, another browser than the one that opened it, or one that is
    /// being redeemed in this moment.
    pub fn redeem(
        &self,
        handle: &str,
        cookie: Option<&str>,
        now: u64,
    ) -> Result<Result<(Arc<Attempt>, AuthorizationResponse), Outcome>, Failure> {
        let mut inner = self.lock();
        let entry = inner
            .find(now, |attempt| attempt.handle == handle)
            .ok_or_else(|| start_again("This sign-in is unknown or has expired."))?;
        if !cookie.is_some_and(|value| entry.attempt.binding.matches(value)) {
            return Err(start_again("This sign-in was begun in another browser, or this browser keeps no cookies."));
        }
        match &mut entry.phase {
            Phase::Ended(outcome, _) => Ok(Err(outcome.clone())),
            Phase::Redeeming => Err(Failure::new(Kind::RetryLater, "This sign-in is being completed.")
                .hint("Reload this page in a moment.")),
            Phase::Offered | Phase::Sent => Err(start_again("Entra has not answered this sign-in.")),
            phase @ Phase::Returned(_) => match mem::replace(phase, Phase::Redeeming) {
                Phase::Returned(response) => Ok(Ok((Arc::clone(&entry.attempt), response))),
                _ => Err(start_again("Entra has not answered this sign-in.")),
            },
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        let mut inner = self.lock();
        inner.ended += 1;
        let number = inner.ended;
        if let Some(entry) = inner.entries.iter_mut().find(|entry| entry.attempt.handle == handle) {
            entry.phase = Phase::Ended(outcome, number);
        }
        self.changed.notify_all();
    }

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        self.lock().entries.retain(|entry| entry.attempt.user_id != user_id);
        self.changed.notify_all();
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.lock().is_pending(user_id, now)
    }

    /// How the last sign-in of `user_id` failed, when it did and is not forgotten.
    pub fn last_failure(&self, user_id: &str, now: u64) -> Option<Failure> {
        let inner = self.lock();
        let ended = inner.of(Some(user_id)).rev().find_map(|Entry { attempt, phase }| match phase {
            Phase::Ended(outcome, _) if attempt.expires_at > now => Some(outcome),
            _ => None,
        });
        ended?.as_ref().err().cloned()
    }

    /// How many sign-ins have ended so far; see [`PendingSignIns::wait`].
    pub fn ended(&self) -> u64 {
        self.lock().ended
    }

    /// Waits at most `step` for a sign-in of `user_id` (of anybody, without one) to end after the first
    /// `ended` ones. `true`: one has, or none is under way any more.
    pub fn wait(&self, user_id: Option<&str>, ended: u64, step: Duration, now: impl Fn() -> u64) -> bool {
        let goes_on = |inner: &mut Inner| {
            let has_ended = |entry: &Entry| matches!(entry.phase, Phase::Ended(_, number) if number > ended);
            !inner.of(user_id).any(has_ended) && inner.is_pending(user_id, now())
        };
        let waited = self.changed.wait_timeout_while(self.lock(), step, goes_on);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !goes_on(&mut inner)
    }
}
