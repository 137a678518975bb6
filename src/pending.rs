//! The sign-ins that people have begun and not yet ended.
//!
//! ```text
//! Offered ── /auth/login ──> Sent ── the response ──> Returned ── /auth/complete ──> Redeeming ──> Ended
//! ```
//! Each step uses up what led to it: the ticket opens in one browser only, the state is good for one
//! response, the response is redeemed once. All of it ends ten minutes after it began.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Failure, Kind};
use crate::oauth::callback::AuthorizationResponse;
use crate::secret::{self, Secret};

/// How long a sign-in may take, in seconds; an authorization code lives as long.
pub const LIFETIME: u64 = 600;
/// More people than that do not sign in at once; beyond it the oldest gives way.
const MOST: usize = 64;

/// How a sign-in ended: what the page tells the person, and `check_auth_status` the model.
pub type Outcome = Result<String, Failure>;

/// What the authorization request carries, and the response is checked against.
#[derive(Clone)]
pub struct Proofs {
    /// Ties the response to the request.
    pub state: Secret,
    /// Ties the ID token to the request.
    pub nonce: Secret,
    /// Shows that whoever redeems the code made the request.
    pub code_verifier: Secret,
}

enum Phase {
    Offered,
    Sent,
    Returned(AuthorizationResponse),
    Redeeming,
    Ended(Outcome),
}

struct Entry {
    user_id: String,
    ticket: Secret,
    /// Names the sign-in in `/auth/complete` and in the cookie's name; no secret.
    handle: String,
    /// The cookie's value, known to the one browser that opened the ticket.
    binding: Secret,
    proofs: Proofs,
    expires_at: u64,
    phase: Phase,
}

/// A sign-in that was begun.
pub struct Offer {
    /// For `/auth/login?ticket=`.
    pub ticket: Secret,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// A sign-in that a browser opened.
pub struct Opened {
    /// Who should sign in.
    pub user_id: String,
    /// For the authorization request.
    pub proofs: Proofs,
    /// See [`cookie_name`].
    pub handle: String,
    /// The cookie's value.
    pub binding: Secret,
}

/// What a browser came back with, to be redeemed now and only now.
pub struct Returned {
    /// Who should have signed in.
    pub user_id: String,
    /// Of the authorization request.
    pub proofs: Proofs,
    /// Of Entra.
    pub response: AuthorizationResponse,
}

/// The name of the cookie that binds the sign-in `handle` to a browser: one for each, so that two
/// sign-ins in one browser do not disturb each other.
#[must_use]
pub fn cookie_name(handle: &str) -> String {
    format!("entra_auth_mcp_{handle}")
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
    pub fn offer(&self, user_id: &str, now: u64) -> Result<Offer, Failure> {
        let entry = Entry {
            user_id: user_id.to_owned(),
            ticket: Secret::random()?,
            handle: secret::random_base64url::<12>()?,
            binding: Secret::random()?,
            proofs: Proofs { state: Secret::random()?, nonce: Secret::random()?, code_verifier: Secret::random()? },
            expires_at: now + LIFETIME,
            phase: Phase::Offered,
        };
        let offer = Offer { ticket: entry.ticket.clone(), expires_at: entry.expires_at };
        let mut inner = self.lock();
        inner.forget_expired(now);
        if inner.entries.len() >= MOST {
            inner.entries.pop_front();
        }
        inner.entries.push_back(entry);
        self.changed.notify_all();
        Ok(offer)
    }

    /// Opens `ticket` in a browser. `cookie` gives the value of a cookie that the browser sent: the
    /// browser that opened a ticket may open it again, as after closing Entra's page; another may
    /// not.
    ///
    /// # Errors
    /// An unknown, expired or used ticket.
    pub fn open(&self, ticket: &str, now: u64, cookie: impl Fn(&str) -> Option<String>) -> Result<Opened, Failure> {
        let mut inner = self.lock();
        inner.forget_expired(now);
        let entry = inner
            .entries
            .iter_mut()
            .find(|entry| entry.ticket.matches(ticket))
            .ok_or_else(|| start_again("This sign-in link is unknown or has expired."))?;
        let is_same_browser = || cookie(&cookie_name(&entry.handle)).is_some_and(|value| entry.binding.matches(&value));
        match entry.phase {
            Phase::Offered => entry.phase = Phase::Sent,
            Phase::Sent if is_same_browser() => {}
            _ => return Err(start_again("This sign-in link was used already.")),
        }
        Ok(Opened {
            user_id: entry.user_id.clone(),
            proofs: entry.proofs.clone(),
            handle: entry.handle.clone(),
            binding: entry.binding.clone(),
        })
    }

    /// Takes a response of Entra; its state is used up. Gives the handle for `/auth/complete`.
    ///
    /// # Errors
    /// An unknown, expired or used state.
    pub fn take_response(&self, response: AuthorizationResponse, now: u64) -> Result<String, Failure> {
        let mut inner = self.lock();
        inner.forget_expired(now);
        let entry = inner.entries.iter_mut().find(|entry| entry.proofs.state.matches(response.state.expose()));
        match entry {
            Some(entry) if matches!(entry.phase, Phase::Sent) => {
                entry.phase = Phase::Returned(response);
                Ok(entry.handle.clone())
            }
            Some(_) => Err(start_again("This answer from Entra was used already.")),
            None => Err(start_again(
                "This answer from Entra belongs to no sign-in that is under way here; it may have expired.",
            )),
        }
    }

    /// Hands out what is to be redeemed, once; afterwards how it ended. `Ok(Err(_))` is the outcome
    /// of a sign-in that has ended.
    ///
    /// # Errors
    /// An unknown or expired sign-in, another browser than the one that opened it, or one that is
    /// being redeemed in this moment.
    pub fn redeem(&self, handle: &str, cookie: Option<&str>, now: u64) -> Result<Result<Returned, Outcome>, Failure> {
        let mut inner = self.lock();
        inner.forget_expired(now);
        let entry = inner
            .entries
            .iter_mut()
            .find(|entry| entry.handle == handle)
            .ok_or_else(|| start_again("This sign-in is unknown or has expired."))?;
        if !cookie.is_some_and(|value| entry.binding.matches(value)) {
            return Err(start_again("This sign-in was begun in another browser, or this browser keeps no cookies."));
        }
        match std::mem::replace(&mut entry.phase, Phase::Redeeming) {
            Phase::Returned(response) => {
                Ok(Ok(Returned { user_id: entry.user_id.clone(), proofs: entry.proofs.clone(), response }))
            }
            Phase::Ended(outcome) => {
                entry.phase = Phase::Ended(outcome.clone());
                Ok(Err(outcome))
            }
            phase @ Phase::Redeeming => {
                entry.phase = phase;
                Err(Failure::new(Kind::RetryLater, "This sign-in is being completed.")
                    .hint("Reload this page in a moment."))
            }
            phase => {
                entry.phase = phase;
                Err(start_again("Entra has not answered this sign-in."))
            }
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.iter_mut().find(|entry| entry.handle == handle) {
            entry.phase = Phase::Ended(outcome);
        }
        inner.ended += 1;
        self.changed.notify_all();
    }

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        self.lock().entries.retain(|entry| entry.user_id != user_id);
        self.changed.notify_all();
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.lock().entries.iter().any(|entry| entry.is_pending(user_id, now))
    }

    /// How the last sign-in of `user_id` failed, when it did and is not forgotten.
    pub fn last_failure(&self, user_id: &str, now: u64) -> Option<Failure> {
        let inner = self.lock();
        let mut of_user = inner.entries.iter().rev().filter(|entry| entry.user_id == user_id && entry.expires_at > now);
        of_user.find_map(|entry| match &entry.phase {
            Phase::Ended(outcome) => Some(outcome.clone().err()),
            _ => None,
        })?
    }

    /// How many sign-ins have ended so far; see [`PendingSignIns::wait`].
    pub fn ended(&self) -> u64 {
        self.lock().ended
    }

    /// Waits at most `step` for more than `ended` sign-ins to have ended. `true`: they have, or none
    /// of `user_id` is under way any more.
    pub fn wait(&self, user_id: Option<&str>, ended: u64, step: Duration, now: impl Fn() -> u64) -> bool {
        let is_over =
            |inner: &Inner| inner.ended > ended || !inner.entries.iter().any(|entry| entry.is_pending(user_id, now()));
        let inner = self.lock();
        if is_over(&inner) {
            return true;
        }
        let (inner, _) = self.changed.wait_timeout(inner, step).unwrap_or_else(PoisonError::into_inner);
        is_over(&inner)
    }
}

impl Entry {
    fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.expires_at > now && user_id.is_none_or(|id| id == self.user_id) && !matches!(self.phase, Phase::Ended(_))
    }
}

impl Inner {
    fn forget_expired(&mut self, now: u64) {
        self.entries.retain(|entry| entry.expires_at > now);
    }
}
