//! The sign-ins that people have begun, until shortly after they have ended.
//!
//! ```text
//! Offered ── a browser opens the link ──> Opened ── Entra's answer comes ──> Answered
//!     Answered ── the same browser shows receipt and cookie ──> Redeeming ──> Ended
//! ```
//!
//! Two secrets tie the steps to one browser. The *binding* is a cookie, set when the link is opened.
//! The *receipt* is in the address that the answer to the authorization response leads to, so only
//! the browser that delivered the response has it. A sign-in is completed by a browser that has
//! both: the one that opened the link and also delivered the response. A cookie alone would not do:
//! somebody could open his own link, let another person's browser deliver the response, and then
//! complete the sign-in as that person.
//!
//! A sign-in with a device code is `Polling` from its beginning. Every sign-in is over ten minutes
//! (a device code: when the code expires) after it began, unless its code is just being redeemed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::device_code::DeviceAuthorization;
use super::request::{Proofs, Requirements};
use super::response::AuthorizationResponse;
use crate::clock::Clock;
use crate::error::{Failure, Kind};
use crate::secret::{self, Secret};
use crate::sync::locked;

/// How long a sign-in may take, in seconds. An authorization code lives as long.
pub const LIFETIME: u64 = 600;
/// The most sign-ins at a time. Beyond it the oldest that nobody is in the middle of gives way.
const MOST: usize = 64;

/// How a sign-in ended: what the page tells the person, and `check_auth_status` the model.
pub type Outcome = Result<String, Failure>;

/// Whether the browser that asks shows a cookie of this name with this value.
pub type Shows<'a> = &'a dyn Fn(&str, &Secret) -> bool;

/// One sign-in: what stays the same from its beginning to its end.
pub struct Attempt {
    /// Who should sign in.
    pub user_id: String,
    /// What it must bring.
    pub requirements: Requirements,
    /// Names the attempt in `/auth/complete`, in its cookie and to clients. It is no secret.
    pub handle: String,
    /// How the person gets to Entra.
    pub method: Method,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// How a person gets to Entra.
pub enum Method {
    /// With a link to this server; the ticket is what makes the link work.
    Browser { ticket: Secret },
    /// With a code to enter on Microsoft's page.
    DeviceCode(DeviceAuthorization),
}

impl Method {
    /// How long a sign-in by it may take, in seconds.
    fn lifetime(&self) -> u64 {
        match self {
            Self::Browser { .. } => LIFETIME,
            Self::DeviceCode(device) => device.expires_in,
        }
    }
}

/// The browser that has opened the link last, and the authorization request that it was sent with.
pub struct Browser {
    /// The value of its cookie.
    pub binding: Secret,
    /// Of its authorization request.
    pub proofs: Proofs,
}

/// Entra's answer to an authorization request.
pub struct Answer {
    /// The browser whose request it answers.
    pub browser: Arc<Browser>,
    /// What Entra has answered.
    pub response: AuthorizationResponse,
    /// Known to the browser that delivered the answer.
    receipt: Secret,
}

/// What came of delivering an authorization response.
pub enum Delivery {
    /// It was taken. The browser completes the sign-in with the receipt.
    Taken { handle: String, receipt: Secret },
    /// Another browser has delivered it than the one that opened the link.
    WrongBrowser(Arc<Attempt>),
}

/// What a browser that wants to complete a sign-in leads to.
pub enum Completion {
    /// The answer is to be redeemed, by this caller and by nobody else.
    Redeem(Arc<Attempt>, Arc<Answer>),
    /// It delivered the answer, but did not open the link.
    WrongBrowser(Arc<Attempt>),
    /// The sign-in has ended.
    Ended(Outcome),
}

enum Phase {
    /// Nobody has opened the link.
    Offered,
    /// A browser is at Entra.
    Opened(Arc<Browser>),
    /// Entra's answer is here.
    Answered(Arc<Answer>),
    /// Entra's answer is being redeemed, or shown to be an error.
    Redeeming(Arc<Answer>),
    /// Entra is asked now and then whether the person has entered the code.
    Polling,
    /// It is over.
    Ended {
        outcome: Outcome,
        at: Instant,
        /// For the browser that reloads its last page.
        answer: Option<Arc<Answer>>,
    },
}

impl Phase {
    /// Entra's answer, once it is here.
    fn answer(&self) -> Option<&Arc<Answer>> {
        match self {
            Self::Answered(answer) | Self::Redeeming(answer) => Some(answer),
            Self::Ended { answer, .. } => answer.as_ref(),
            Self::Offered | Self::Opened(_) | Self::Polling => None,
        }
    }

    /// The browser that has opened the link last.
    fn browser(&self) -> Option<&Browser> {
        match self {
            Self::Opened(browser) => Some(browser),
            _ => self.answer().map(|answer| answer.browser.as_ref()),
        }
    }
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

    /// Whether its time is not over. What is being redeemed has come in time.
    fn is_current(&self, now: u64) -> bool {
        self.attempt.expires_at > now || matches!(self.phase, Phase::Redeeming(_))
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether nobody is in the middle of it.
    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Offered | Phase::Ended { .. })
    }

    fn is_success(&self) -> bool {
        matches!(&self.phase, Phase::Ended { outcome: Ok(_), .. })
    }

    fn has_ticket(&self, ticket: &str) -> bool {
        matches!(&self.attempt.method, Method::Browser { ticket: own } if own.matches(ticket))
    }

    /// Whether `state` is that of its authorization request.
    fn has_state(&self, state: &Secret) -> bool {
        let browser = self.phase.browser();
        browser.is_some_and(|browser| browser.proofs.state.matches(state.expose()))
    }

    /// Whether a browser has opened the link that `shows` this cookie.
    fn is_bound(&self, browser: &Browser, shows: Shows<'_>) -> bool {
        shows(&cookie_name(&self.attempt.handle), &browser.binding)
    }
}

/// When Entra has refused a device code.
struct DeviceRefusal {
    /// For which seconds since 1970 the same is not asked for again. A clock that is set back ends
    /// it, too.
    during: Range<u64>,
    requirements: Requirements,
    failure: Failure,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    entries: VecDeque<Entry>,
    device_refusal: Option<DeviceRefusal>,
}

/// The pending sign-ins of one server.
pub struct PendingSignIns {
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

/// The name of the cookie that binds the sign-in `handle` to a browser. Each sign-in has its own, so
/// that two in one browser do not disturb each other.
pub fn cookie_name(handle: &str) -> String {
    format!("entra_auth_mcp_{handle}")
}

pub(crate) fn start_again(message: &str) -> Failure {
    Failure::new(Kind::SignInRequired, message).hint("Start the sign-in again from a new link.")
}

fn unknown_link() -> Failure {
    start_again("This sign-in link is unknown or has expired.")
}

fn unknown_sign_in() -> Failure {
    start_again("This sign-in is unknown or has expired.")
}

impl PendingSignIns {
    /// None yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The state without what has expired.
    fn current(&self) -> MutexGuard<'_, State> {
        let now = self.clock.now();
        let mut state = locked(&self.state);
        state.entries.retain(|entry| entry.is_current(now));
        state
    }

    // ---- A sign-in, from its beginning to its end ----

    /// Begins a sign-in of `user_id` in a browser.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn begin(
        &self,
        user_id: &str,
        requirements: Requirements,
    ) -> Result<Arc<Attempt>, Failure> {
        let ticket = Secret::random()?;
        self.add(user_id, requirements, Method::Browser { ticket })
    }

    /// Begins a sign-in of `user_id` with the device code that Entra has given.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn begin_with_code(
        &self,
        user_id: &str,
        requirements: Requirements,
        device: DeviceAuthorization,
    ) -> Result<Arc<Attempt>, Failure> {
        self.add(user_id, requirements, Method::DeviceCode(device))
    }

    fn add(
        &self,
        user_id: &str,
        requirements: Requirements,
        method: Method,
    ) -> Result<Arc<Attempt>, Failure> {
        let phase = match method {
            Method::Browser { .. } => Phase::Offered,
            Method::DeviceCode(_) => Phase::Polling,
        };
        let attempt = Arc::new(Attempt {
            user_id: user_id.to_owned(),
            requirements,
            handle: secret::random_base64url::<12>()?,
            expires_at: self.clock.now() + method.lifetime(),
            method,
        });
        let mut state = self.current();
        if state.entries.len() >= MOST {
            let idle = state.entries.iter().position(Entry::is_idle);
            if let Some(entry) = state.entries.remove(idle.unwrap_or(0))
                && !entry.has_ended()
            {
                log::warn!(
                    "{MOST} sign-ins are under way; the oldest, of {}, gives way",
                    entry.attempt.user_id
                );
            }
        }
        state.entries.push_back(Entry {
            attempt: Arc::clone(&attempt),
            phase,
        });
        self.changed.notify_all();
        Ok(attempt)
    }

    /// A sign-in of `user_id` that can be shown again, so that a client that asks and asks pushes out
    /// nobody else's: a link that nobody has opened, or a device code, with half its life to come.
    pub fn offered(
        &self,
        user_id: &str,
        requirements: &Requirements,
        with_code: bool,
    ) -> Option<Arc<Attempt>> {
        let now = self.clock.now();
        let state = self.current();
        let found = state.entries.iter().find(|entry| {
            let attempt = &entry.attempt;
            let is_on_offer = match entry.phase {
                Phase::Offered => !with_code,
                Phase::Polling => with_code,
                _ => false,
            };
            let has_time = attempt.expires_at > now + attempt.method.lifetime() / 2;
            is_on_offer
                && has_time
                && entry.is_of(Some(user_id))
                && attempt.requirements == *requirements
        });
        found.map(|entry| Arc::clone(&entry.attempt))
    }

    /// Opens the link with `ticket` in a browser. Until Entra has answered, it may be opened anew: a
    /// link scanner or a second click does no harm. The browser that opened it last holds it; in
    /// another browser, what Entra answers to the earlier one belongs to no sign-in any more.
    ///
    /// # Errors
    /// The ticket is unknown, has expired, or Entra has answered; no random numbers.
    pub fn open(
        &self,
        ticket: &str,
        shows: Shows<'_>,
    ) -> Result<(Arc<Attempt>, Arc<Browser>), Failure> {
        let mut state = self.current();
        let Some(entry) = state
            .entries
            .iter_mut()
            .find(|entry| entry.has_ticket(ticket))
        else {
            return Err(unknown_link());
        };
        let browser = match &entry.phase {
            // A second tab of the same browser asks for the same.
            Phase::Opened(browser) if entry.is_bound(browser, shows) => Arc::clone(browser),
            Phase::Offered | Phase::Opened(_) => Arc::new(Browser {
                binding: Secret::random()?,
                proofs: Proofs::random()?,
            }),
            _ => return Err(start_again("This sign-in link was used already.")),
        };
        entry.phase = Phase::Opened(Arc::clone(&browser));
        Ok((Arc::clone(&entry.attempt), browser))
    }

    /// Takes an authorization response. The same one may come twice, as when a browser has lost the
    /// reply to the first: until it is redeemed it gets the same receipt. `shows` is given if the
    /// request carries cookies, as the GET of query mode does and the cross-site POST does not; then
    /// the browser must be the one that opened the link.
    ///
    /// # Errors
    /// The state is unknown, has expired or was used; no random numbers.
    pub fn deliver(
        &self,
        response: AuthorizationResponse,
        shows: Option<Shows<'_>>,
    ) -> Result<Delivery, Failure> {
        let mut state = self.current();
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.has_state(&response.state));
        let Some(entry) = entry else {
            return Err(start_again(
                "This answer of Entra belongs to no sign-in that is under way here; it may have expired.",
            ));
        };
        let handle = entry.attempt.handle.clone();
        match &entry.phase {
            Phase::Opened(browser) => {
                if shows.is_some_and(|shows| !entry.is_bound(browser, shows)) {
                    return Ok(Delivery::WrongBrowser(Arc::clone(&entry.attempt)));
                }
                let receipt = Secret::random()?;
                entry.phase = Phase::Answered(Arc::new(Answer {
                    browser: Arc::clone(browser),
                    response,
                    receipt: receipt.clone(),
                }));
                Ok(Delivery::Taken { handle, receipt })
            }
            Phase::Answered(answer)
                if answer.response.is_repeated_by(&response)
                    && shows.is_none_or(|shows| entry.is_bound(&answer.browser, shows)) =>
            {
                let receipt = answer.receipt.clone();
                Ok(Delivery::Taken { handle, receipt })
            }
            _ => Err(start_again("This answer of Entra was used already.")),
        }
    }

    /// Gives what is to be redeemed to the browser that shows both secrets, once.
    ///
    /// # Errors
    /// The sign-in is unknown, has expired, has no answer yet, or is being redeemed; or the browser
    /// did not deliver the answer, which changes nothing.
    pub fn complete(
        &self,
        handle: &str,
        receipt: &str,
        shows: Shows<'_>,
    ) -> Result<Completion, Failure> {
        let mut state = self.current();
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.attempt.handle == handle);
        let entry = entry.ok_or_else(unknown_sign_in)?;
        if matches!(entry.phase, Phase::Offered | Phase::Opened(_)) {
            return Err(start_again("Entra has not answered this sign-in."));
        }
        let answer = entry.phase.answer().cloned().ok_or_else(unknown_sign_in)?;
        if !answer.receipt.matches(receipt) {
            return Err(unknown_sign_in());
        }
        let is_bound = entry.is_bound(&answer.browser, shows);
        match &entry.phase {
            Phase::Answered(_) if is_bound => {
                entry.phase = Phase::Redeeming(Arc::clone(&answer));
                Ok(Completion::Redeem(Arc::clone(&entry.attempt), answer))
            }
            Phase::Answered(_) => Ok(Completion::WrongBrowser(Arc::clone(&entry.attempt))),
            Phase::Ended { outcome, .. } if is_bound => Ok(Completion::Ended(outcome.clone())),
            Phase::Redeeming(_) if is_bound => Err(Failure::new(
                Kind::RetryLater,
                "This sign-in is being completed.",
            )
            .hint("Reload this page in a moment.")),
            _ => Err(wrong_browser()),
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it. Only the first end counts.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        let mut state = locked(&self.state);
        let entry = state
            .entries
            .iter_mut()
            .find(|entry| entry.attempt.handle == handle);
        if let Some(entry) = entry.filter(|entry| !entry.has_ended()) {
            let answer = entry.phase.answer().cloned();
            entry.phase = Phase::Ended {
                outcome,
                at: Instant::now(),
                answer,
            };
        }
        self.changed.notify_all();
    }

    // ---- Giving up ----

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        let mut state = locked(&self.state);
        state
            .entries
            .retain(|entry| entry.attempt.user_id != user_id);
        self.changed.notify_all();
    }

    /// Forgets the sign-in `handle`, unless a person is in the middle of it in a browser.
    pub fn withdraw(&self, handle: &str) {
        let mut state = locked(&self.state);
        state.entries.retain(|entry| {
            let is_idle = matches!(entry.phase, Phase::Offered)
                || matches!(entry.attempt.method, Method::DeviceCode(_));
            entry.attempt.handle != handle || !is_idle
        });
        self.changed.notify_all();
    }

    /// Forgets all of them: nobody waits any longer.
    pub fn close(&self) {
        locked(&self.state).entries.clear();
        self.changed.notify_all();
    }

    // ---- Looking ----

    /// Who should sign in with the link that has `ticket`.
    ///
    /// # Errors
    /// The ticket is unknown or has expired.
    pub fn user_of(&self, ticket: &str) -> Result<String, Failure> {
        let state = self.current();
        match state.entries.iter().find(|entry| entry.has_ticket(ticket)) {
            Some(entry) => Ok(entry.attempt.user_id.clone()),
            None => Err(unknown_link()),
        }
    }

    /// Whether a browser that `shows` these cookies is at Entra with `state`.
    pub fn is_opened_by(&self, state: &Secret, shows: Shows<'_>) -> bool {
        let pending = self.current();
        pending.entries.iter().any(|entry| match &entry.phase {
            Phase::Opened(browser) => entry.has_state(state) && entry.is_bound(browser, shows),
            _ => false,
        })
    }

    /// Whether the sign-in `handle` was not forgotten.
    pub fn holds(&self, handle: &str) -> bool {
        let state = locked(&self.state);
        state
            .entries
            .iter()
            .any(|entry| entry.attempt.handle == handle)
    }

    /// The sign-in `handle`, if it is under way.
    pub fn under_way(&self, handle: &str) -> Option<Arc<Attempt>> {
        let state = self.current();
        let found = state
            .entries
            .iter()
            .find(|entry| entry.attempt.handle == handle && !entry.has_ended());
        found.map(|entry| Arc::clone(&entry.attempt))
    }

    /// Whether a sign-in of `user_id` (of anybody, without one) is under way.
    pub fn is_pending(&self, user_id: Option<&str>) -> bool {
        let state = self.current();
        state
            .entries
            .iter()
            .any(|entry| entry.is_of(user_id) && !entry.has_ended())
    }

    /// How the sign-in `handle` ended, if it did and is not forgotten.
    pub fn outcome(&self, handle: &str) -> Option<Outcome> {
        let state = self.current();
        let entry = state
            .entries
            .iter()
            .find(|entry| entry.attempt.handle == handle)?;
        match &entry.phase {
            Phase::Ended { outcome, .. } => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Whether `user_id` has just signed in with requirements that `fits` takes.
    pub fn has_success(&self, user_id: &str, fits: impl Fn(&Requirements) -> bool) -> bool {
        let state = self.current();
        state.entries.iter().any(|entry| {
            entry.is_of(Some(user_id)) && entry.is_success() && fits(&entry.attempt.requirements)
        })
    }

    /// The same; the sign-in is forgotten then, so that it counts once.
    pub fn take_success(&self, user_id: &str, fits: impl Fn(&Requirements) -> bool) -> bool {
        let mut state = self.current();
        let found = state.entries.iter().position(|entry| {
            entry.is_of(Some(user_id)) && entry.is_success() && fits(&entry.attempt.requirements)
        });
        match found {
            Some(at) => state.entries.remove(at).is_some(),
            None => false,
        }
    }

    /// Why the last sign-in of `user_id` failed, if the last one did and is not forgotten.
    pub fn last_failure(&self, user_id: &str) -> Option<Failure> {
        let state = self.current();
        let ended = state
            .entries
            .iter()
            .filter(|entry| entry.is_of(Some(user_id)));
        let last = ended
            .filter_map(|entry| match &entry.phase {
                Phase::Ended { outcome, at, .. } => Some((*at, outcome)),
                _ => None,
            })
            .max_by_key(|(at, _)| *at)?;
        last.1.as_ref().err().cloned()
    }

    /// The users whose last sign-in is not forgotten, each once.
    pub fn users(&self) -> Vec<String> {
        let state = self.current();
        let mut users: Vec<String> = state
            .entries
            .iter()
            .map(|entry| entry.attempt.user_id.clone())
            .collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    // ---- Waiting ----

    /// Waits at most `step` for a sign-in of `user_id` (of anybody, without one) to end later than
    /// `since`. `true`: one has, or none is under way any more.
    pub fn wait(&self, user_id: Option<&str>, since: Instant, step: Duration) -> bool {
        let goes_on = |state: &mut State| {
            let now = self.clock.now();
            let mut is_pending = false;
            for entry in state.entries.iter().filter(|entry| entry.is_of(user_id)) {
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
        self.wait_while(length, |state| {
            let now = self.clock.now();
            state.entries.iter().any(|entry| {
                entry.attempt.handle == handle && !entry.has_ended() && entry.is_current(now)
            })
        })
    }

    /// Waits at most `length` while `goes_on`, and says whether it still does.
    fn wait_while(&self, length: Duration, mut goes_on: impl FnMut(&mut State) -> bool) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(locked(&self.state), length, |state| goes_on(state));
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        goes_on(&mut state)
    }

    // ---- Device codes that Entra has refused ----

    /// Notes that Entra has refused a device code with `requirements`, for `pause` from now.
    pub fn refuse_device_code(
        &self,
        requirements: &Requirements,
        failure: &Failure,
        pause: Duration,
    ) {
        let now = self.clock.now();
        locked(&self.state).device_refusal = Some(DeviceRefusal {
            during: now..now + pause.as_secs(),
            requirements: without_person(requirements),
            failure: failure.clone(),
        });
    }

    /// Why no device code is asked for now that must bring `requirements`.
    pub fn device_refusal(&self, requirements: &Requirements) -> Option<Failure> {
        let now = self.clock.now();
        let state = locked(&self.state);
        let refusal = state.device_refusal.as_ref()?;
        let is_same = refusal.requirements == without_person(requirements)
            || refusal.failure.kind == Kind::RetryLater;
        (refusal.during.contains(&now) && is_same).then(|| refusal.failure.clone())
    }
}

/// Entra gives device codes to anybody alike.
fn without_person(requirements: &Requirements) -> Requirements {
    Requirements {
        person: None,
        ..requirements.clone()
    }
}

/// What a browser is told that has only one of the two secrets.
pub(crate) fn wrong_browser() -> Failure {
    start_again("This sign-in was begun in another browser, or this browser keeps no cookies.")
}
