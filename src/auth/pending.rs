//! The sign-ins that people have begun and not yet ended.
//!
//! ```text
//! Offered ── /auth/login ──> Sent ── the response ──> Returned ── /auth/complete, redeemed ──> Ended
//! ```
//! Each step uses up what led to it: the ticket opens in one browser only, the state is good for one
//! response, the response is redeemed once. All of it ends ten minutes after it began, but for what is being redeemed
//! then. A sign-in with a device code is sent from the beginning, and ends when a poll says so.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::device_code::DeviceAuthorization;
use crate::auth::request::{Demand, Proofs};
use crate::auth::response::AuthorizationResponse;
use crate::error::{Failure, Kind};
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
    /// What it must bring.
    pub demand: Demand,
    /// Names the attempt in `/auth/complete`, in its cookie and to clients; no secret.
    pub handle: String,
    /// How the person gets to Entra.
    pub way: Way,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// How a person gets to Entra.
pub enum Way {
    /// With a link to this server.
    Browser(BrowserSecrets),
    /// With a code to enter on Microsoft's page.
    Device(DeviceAuthorization),
}

impl Way {
    /// How long it is open, in seconds.
    fn lifetime(&self) -> u64 {
        if let Self::Device(device) = self {
            device.expires_in
        } else {
            LIFETIME
        }
    }
}

/// What ties a sign-in to a browser and to its authorization request.
pub struct BrowserSecrets {
    /// For `/auth/login?ticket=`.
    pub ticket: Secret,
    /// The cookie's value, known to the one browser that opened the ticket.
    pub binding: Secret,
    /// Of the authorization request.
    pub proofs: Proofs,
}

impl Attempt {
    /// Of a sign-in in a browser.
    pub fn browser(&self) -> Option<&BrowserSecrets> {
        if let Way::Browser(secrets) = &self.way {
            Some(secrets)
        } else {
            None
        }
    }
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

    /// Whether `cookie` is that of the browser which opened the link.
    fn is_bound_by(&self, cookie: Option<&str>) -> bool {
        self.attempt
            .browser()
            .zip(cookie)
            .is_some_and(|(own, cookie)| own.binding.matches(cookie))
    }

    /// Whether its time is not over. What is being redeemed has come in time.
    fn is_current(&self, now: u64) -> bool {
        self.attempt.expires_at > now || matches!(self.phase, Phase::Returned(None))
    }

    /// How it ended, and when.
    fn ending(&self) -> Option<(&Outcome, Instant)> {
        if let Phase::Ended(outcome, at) = &self.phase {
            Some((outcome, *at))
        } else {
            None
        }
    }
}

/// The pending sign-ins of one server, oldest first.
#[derive(Default)]
pub struct PendingSignIns {
    entries: Mutex<VecDeque<Entry>>,
    /// The last that have given way, so that whoever comes for one learns why it is not there.
    evicted: Mutex<VecDeque<Arc<Attempt>>>,
    changed: Condvar,
}

pub(crate) fn start_again(message: &str) -> Failure {
    Failure::new(Kind::SignInRequired, message).hint("Start the sign-in again from a new link.")
}

impl PendingSignIns {
    /// Those that have not expired.
    fn current(&self, now: u64) -> MutexGuard<'_, VecDeque<Entry>> {
        let mut entries = locked(&self.entries);
        entries.retain(|entry| entry.is_current(now));
        entries
    }

    /// Begins a sign-in of `user_id` in a browser at the time `now` (seconds since 1970).
    ///
    /// # Errors
    /// No randomness.
    pub fn begin(&self, user_id: &str, demand: Demand, now: u64) -> Result<Arc<Attempt>, Failure> {
        let secrets = BrowserSecrets {
            ticket: Secret::random()?,
            binding: Secret::random()?,
            proofs: Proofs::random()?,
        };
        self.add(user_id, demand, Way::Browser(secrets), now)
    }

    /// Begins a sign-in with the device code that Entra has given.
    ///
    /// # Errors
    /// No randomness.
    pub fn begin_with_code(
        &self,
        user_id: &str,
        demand: Demand,
        device: DeviceAuthorization,
        now: u64,
    ) -> Result<Arc<Attempt>, Failure> {
        self.add(user_id, demand, Way::Device(device), now)
    }

    fn add(
        &self,
        user_id: &str,
        demand: Demand,
        way: Way,
        now: u64,
    ) -> Result<Arc<Attempt>, Failure> {
        let phase = if matches!(way, Way::Browser(_)) {
            Phase::Offered
        } else {
            Phase::Sent
        };
        let (user_id, handle) = (user_id.to_owned(), secret::random_base64url::<12>()?);
        let attempt = Arc::new(Attempt {
            user_id,
            demand,
            handle,
            expires_at: now + way.lifetime(),
            way,
        });
        let mut entries = self.current(now);
        if entries.len() >= MOST {
            // Nobody is in the middle of one that is only offered, or over.
            let is_idle = |entry: &Entry| matches!(entry.phase, Phase::Offered | Phase::Ended(..));
            let oldest = entries.iter().position(is_idle).unwrap_or(0);
            entries
                .remove(oldest)
                .filter(|entry| entry.ending().is_none())
                .into_iter()
                .for_each(|entry| self.evict(entry));
        }
        entries.push_back(Entry {
            attempt: Arc::clone(&attempt),
            phase,
        });
        self.changed.notify_all();
        Ok(attempt)
    }

    fn evict(&self, entry: Entry) {
        log::warn!(
            "{MOST} sign-ins are under way; the oldest, of {}, gives way",
            entry.attempt.user_id
        );
        let mut evicted = locked(&self.evicted);
        evicted.truncate(MOST - 1);
        evicted.push_front(entry.attempt);
    }

    /// Why the sign-in that `is_meant` is not there: it has given way to another, or else for `reason`.
    fn missing(&self, is_meant: impl Fn(&Attempt) -> bool, now: u64, reason: &str) -> Failure {
        let has_given_way = locked(&self.evicted)
            .iter()
            .any(|attempt| attempt.expires_at > now && is_meant(attempt));
        start_again(if has_given_way {
            "Too many sign-ins were begun at once, and this one had to give way."
        } else {
            reason
        })
    }

    /// A sign-in of `user_id` that can be shown to a person again, so that a client that asks and asks pushes
    /// out nobody else's: a link that nobody has opened yet, or a device code, with half its life to come.
    pub fn offered(
        &self,
        user_id: &str,
        demand: &Demand,
        with_code: bool,
        now: u64,
    ) -> Option<Arc<Attempt>> {
        let is_same =
            |entry: &&Entry| entry.is_of(Some(user_id)) && entry.attempt.demand == *demand;
        let is_on_offer = |entry: &&Entry| match &entry.attempt.way {
            Way::Browser(_) => !with_code && matches!(entry.phase, Phase::Offered),
            Way::Device(_) => with_code && entry.ending().is_none(),
        };
        let has_time =
            |entry: &&Entry| entry.attempt.expires_at > now + entry.attempt.way.lifetime() / 2;
        let entries = self.current(now);
        let found = entries
            .iter()
            .filter(is_same)
            .filter(is_on_offer)
            .find(has_time);
        found.map(|entry| Arc::clone(&entry.attempt))
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
        let is_meant = |attempt: &Attempt| {
            attempt
                .browser()
                .is_some_and(|own| own.ticket.matches(ticket))
        };
        let entry = entries.iter_mut().find(|entry| is_meant(&entry.attempt));
        let unknown = || {
            self.missing(
                is_meant,
                now,
                "This sign-in link is unknown or has expired.",
            )
        };
        let entry = entry.ok_or_else(unknown)?;
        match entry.phase {
            Phase::Offered => entry.phase = Phase::Sent,
            Phase::Sent
                if entry.is_bound_by(cookie(&cookie_name(&entry.attempt.handle)).as_deref()) => {}
            _ => return Err(start_again("This sign-in link was used already.")),
        }
        Ok(Arc::clone(&entry.attempt))
    }

    /// Takes a response of Entra; its state is used up. Gives the handle for `/auth/complete`.
    ///
    /// # Errors
    /// An unknown, expired or used state.
    pub fn take_response(
        &self,
        response: AuthorizationResponse,
        now: u64,
    ) -> Result<String, Failure> {
        let mut entries = self.current(now);
        let state = response.state.expose();
        let is_meant = |attempt: &Attempt| {
            attempt
                .browser()
                .is_some_and(|own| own.proofs.state.matches(state))
        };
        let entry = entries.iter_mut().find(|entry| is_meant(&entry.attempt));
        let entry = entry.ok_or_else(|| {
            const UNKNOWN: &str =
                "This answer of Entra belongs to no sign-in that is under way here; it may have expired.";
            self.missing(is_meant, now, UNKNOWN)
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
    pub fn redeem(
        &self,
        handle: &str,
        cookie: Option<&str>,
        now: u64,
    ) -> Result<Redemption, Failure> {
        let mut entries = self.current(now);
        let entry = entries
            .iter_mut()
            .find(|entry| entry.attempt.handle == handle);
        let entry = entry.ok_or_else(|| start_again("This sign-in is unknown or has expired."))?;
        if !entry.is_bound_by(cookie) {
            return Err(start_again(
                "This sign-in was begun in another browser, or this browser keeps no cookies.",
            ));
        }
        let Entry { attempt, phase } = entry;
        match phase {
            Phase::Offered | Phase::Sent => {
                Err(start_again("Entra has not answered this sign-in."))
            }
            Phase::Returned(response) => match response.take() {
                Some(response) => Ok(Ok((Arc::clone(attempt), response))),
                None => Err(
                    Failure::new(Kind::RetryLater, "This sign-in is being completed.")
                        .hint("Reload this page in a moment."),
                ),
            },
            Phase::Ended(outcome, _) => Ok(Err(outcome.clone())),
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        if let Some(entry) = locked(&self.entries)
            .iter_mut()
            .find(|entry| entry.attempt.handle == handle)
        {
            entry.phase = Phase::Ended(outcome, Instant::now());
        }
        self.changed.notify_all();
    }

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        locked(&self.entries).retain(|entry| entry.attempt.user_id != user_id);
        self.changed.notify_all();
    }

    /// Forgets the sign-in `handle`, unless a person is in the middle of it in a browser.
    pub fn withdraw(&self, handle: &str) {
        let is_idle = |entry: &Entry| {
            matches!(entry.phase, Phase::Offered) || entry.attempt.browser().is_none()
        };
        locked(&self.entries).retain(|entry| entry.attempt.handle != handle || !is_idle(entry));
        self.changed.notify_all();
    }

    /// Forgets all of them: nobody waits any longer.
    pub fn close(&self) {
        locked(&self.entries).clear();
        self.changed.notify_all();
    }

    /// Whether the sign-in `handle` was not forgotten.
    pub fn holds(&self, handle: &str) -> bool {
        locked(&self.entries)
            .iter()
            .any(|entry| entry.attempt.handle == handle)
    }

    /// The sign-in `handle`, when it is under way.
    pub fn under_way(&self, handle: &str, now: u64) -> Option<Arc<Attempt>> {
        let entries = self.current(now);
        let found = entries
            .iter()
            .find(|entry| entry.attempt.handle == handle && entry.ending().is_none());
        found.map(|entry| Arc::clone(&entry.attempt))
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>, now: u64) -> bool {
        self.current(now)
            .iter()
            .any(|entry| entry.is_of(user_id) && entry.ending().is_none())
    }

    /// How the sign-in `handle` ended, when it did and is not forgotten.
    pub fn outcome(&self, handle: &str, now: u64) -> Option<Outcome> {
        let entries = self.current(now);
        let mut endings = entries
            .iter()
            .filter(|entry| entry.attempt.handle == handle)
            .filter_map(Entry::ending);
        endings.next().map(|(outcome, _)| outcome.clone())
    }

    /// Whether `user_id` has just signed in with a demand that `fits`.
    pub fn has_success(&self, user_id: &str, fits: impl Fn(&Demand) -> bool, now: u64) -> bool {
        let is_success = |entry: &Entry| entry.ending().is_some_and(|(outcome, _)| outcome.is_ok());
        let is_it = |entry: &Entry| {
            entry.is_of(Some(user_id)) && fits(&entry.attempt.demand) && is_success(entry)
        };
        self.current(now).iter().any(is_it)
    }

    /// Whether `user_id` has just signed in with a demand that `fits`; the sign-in is forgotten then, so that it
    /// counts once.
    pub fn take_success(&self, user_id: &str, fits: impl Fn(&Demand) -> bool, now: u64) -> bool {
        let is_success = |entry: &Entry| entry.ending().is_some_and(|(outcome, _)| outcome.is_ok());
        let is_it = |entry: &Entry| {
            entry.is_of(Some(user_id)) && fits(&entry.attempt.demand) && is_success(entry)
        };
        let mut entries = self.current(now);
        let found = entries.iter().position(is_it);
        found.and_then(|at| entries.remove(at)).is_some()
    }

    /// How the last sign-in of `user_id` failed, when it did and is not forgotten.
    pub fn last_failure(&self, user_id: &str, now: u64) -> Option<Failure> {
        let entries = self.current(now);
        let endings = entries
            .iter()
            .filter(|entry| entry.is_of(Some(user_id)))
            .filter_map(Entry::ending);
        endings.max_by_key(|(_, at)| *at)?.0.as_ref().err().cloned()
    }

    /// Waits at most `step` for a sign-in of `user_id` (of anybody, without one) to end later than `since`.
    /// `true`: one has, or none is under way any more.
    pub fn wait(
        &self,
        user_id: Option<&str>,
        since: Instant,
        step: Duration,
        now: impl Fn() -> u64,
    ) -> bool {
        let goes_on = |entries: &mut VecDeque<Entry>| {
            let (now, own) = (now(), entries.iter().filter(|entry| entry.is_of(user_id)));
            let has_ended = own
                .clone()
                .any(|entry| entry.ending().is_some_and(|(_, at)| at >= since));
            let is_pending = own
                .clone()
                .any(|entry| entry.ending().is_none() && entry.is_current(now));
            !has_ended && is_pending
        };
        let waited = self
            .changed
            .wait_timeout_while(locked(&self.entries), step, goes_on);
        let (mut entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !goes_on(&mut entries)
    }

    /// Sleeps for `length`, or until the sign-in `handle` is over. Whether it still goes on.
    pub fn sleep(&self, handle: &str, length: Duration, now: impl Fn() -> u64) -> bool {
        let is_it = |entry: &Entry| entry.attempt.handle == handle && entry.ending().is_none();
        let goes_on = |entries: &mut VecDeque<Entry>| {
            entries
                .iter()
                .any(|entry| is_it(entry) && entry.is_current(now()))
        };
        let waited = self
            .changed
            .wait_timeout_while(locked(&self.entries), length, goes_on);
        let (mut entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        goes_on(&mut entries)
    }
}
