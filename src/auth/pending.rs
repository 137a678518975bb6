//! The sign-ins that people have begun, and for a while how they ended.
//!
//! ```text
//! Offered ── a browser opens the link ──> Opened ── Entra's answer comes ──> Answered
//!     Answered ── the same browser shows receipt and cookie ──> Redeeming ──> Ended
//! ```
//!
//! Two secrets tie the steps to one browser. The *cookie* is set when the link is opened. The
//! *receipt* is in the address that a browser is sent to after it has delivered the authorization
//! response, so only that browser has it. A sign-in is completed by a browser that has
//! both: the one that opened the link and also delivered the response. A cookie alone would not do:
//! somebody could open his own link, let another person's browser deliver the response, and then
//! complete the sign-in as that person.
//!
//! A sign-in with a device code is `Polling` from its beginning. Every sign-in expires ten minutes
//! (a device code: when the code does) after it began. While its code is being redeemed, and once
//! it has ended, it is kept ten minutes longer. What others may know of it is in
//! [`super::waiting`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::device_code::DeviceAuthorization;
use super::request::{Proofs, Requirements};
use super::response::AuthorizationResponse;
use crate::clock::Clock;
use crate::error::{Failure, Kind};
use crate::secret::{self, Secret};
use crate::sync::locked;

/// How long a sign-in may take, in seconds. An authorization code lives as long.
pub const LIFETIME: u64 = 600;
/// The most sign-ins at a time.
const MOST: usize = 64;

/// How a sign-in ended: what the page tells the person, and `check_auth_status` the model.
pub type Outcome = Result<String, Failure>;

/// Whether the browser that asks shows a cookie of this name with this value.
pub type Shows<'a> = &'a dyn Fn(&str, &Secret) -> bool;

/// One sign-in: what stays the same from its beginning to its end.
pub struct Attempt {
    pub user_id: String,
    pub requirements: Requirements,
    /// Names the attempt in `/auth/complete`, in its cookie and to clients. It is no secret.
    pub handle: String,
    pub method: Method,
    /// Whether it was begun by the browser of the person, and not by a client.
    pub is_from_browser: bool,
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
    pub cookie: Secret,
    pub proofs: Proofs,
}

impl Browser {
    fn new() -> Result<Arc<Self>, Failure> {
        Ok(Arc::new(Self {
            cookie: Secret::random()?,
            proofs: Proofs::random()?,
        }))
    }
}

/// Entra's answer to an authorization request.
pub struct Answer {
    /// The browser whose request it answers.
    pub browser: Arc<Browser>,
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

/// What comes of it when a browser wants to complete a sign-in.
pub enum Completion {
    /// The answer is to be redeemed, by this caller and by nobody else.
    Redeem(Arc<Attempt>, Arc<Answer>),
    /// It delivered the answer, but did not open the link.
    WrongBrowser(Arc<Attempt>),
    /// The sign-in has ended.
    Ended(Outcome),
}

pub(super) enum Phase {
    /// Nobody has opened the link.
    Offered,
    /// A browser is at Entra.
    Opened(Arc<Browser>),
    /// Entra's answer is here.
    Answered(Arc<Answer>),
    /// The code of Entra's answer is being redeemed, or its error is being noted.
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

pub(super) struct Entry {
    pub(super) attempt: Arc<Attempt>,
    pub(super) phase: Phase,
}

impl Entry {
    /// Whether it is kept. Redeeming may take longer than the sign-in had left; ten minutes later,
    /// the thread that redeemed it must have died.
    pub(super) fn is_current(&self, now: u64) -> bool {
        let more = match self.phase {
            Phase::Redeeming(_) | Phase::Ended { .. } => LIFETIME,
            _ => 0,
        };
        self.attempt.expires_at + more > now
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    fn has_handle(&self, handle: &str) -> bool {
        self.attempt.handle == handle
    }

    fn has_ticket(&self, ticket: &str) -> bool {
        matches!(&self.attempt.method, Method::Browser { ticket: own } if own.matches(ticket))
    }

    /// Whether `state` is that of its authorization request.
    fn has_state(&self, state: &Secret) -> bool {
        let browser = self.phase.browser();
        browser.is_some_and(|browser| browser.proofs.state.matches(state.expose()))
    }

    /// Whether a browser that `shows` these cookies is the one that opened the link.
    fn is_bound(&self, browser: &Browser, shows: Shows<'_>) -> bool {
        shows(&cookie_name(&self.attempt.handle), &browser.cookie)
    }

    fn end(&mut self, outcome: Outcome) -> Arc<Attempt> {
        self.phase = Phase::Ended {
            outcome,
            at: Instant::now(),
            answer: self.phase.answer().cloned(),
        };
        Arc::clone(&self.attempt)
    }
}

/// The oldest first.
pub(super) type Entries = VecDeque<Entry>;

/// The pending sign-ins of one server.
pub struct PendingSignIns {
    pub(super) clock: Clock,
    pub(super) entries: Mutex<Entries>,
    /// Told whenever a sign-in begins or ends.
    pub(super) changed: Condvar,
}

impl PendingSignIns {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            entries: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Those that have not expired.
    pub(super) fn current(&self) -> MutexGuard<'_, Entries> {
        let now = self.clock.now();
        let mut entries = locked(&self.entries);
        entries.retain(|entry| entry.is_current(now));
        entries
    }

    /// A sign-in of `user_id` with a link for a browser.
    pub fn begin(
        &self,
        user_id: &str,
        requirements: Requirements,
    ) -> Result<Arc<Attempt>, Failure> {
        let ticket = Secret::random()?;
        let method = Method::Browser { ticket };
        self.add(user_id, requirements, method, Phase::Offered)
    }

    /// The same, opened by the browser that asks for it.
    pub fn begin_opened(
        &self,
        user_id: &str,
        requirements: Requirements,
    ) -> Result<(Arc<Attempt>, Arc<Browser>), Failure> {
        let ticket = Secret::random()?;
        let method = Method::Browser { ticket };
        let browser = Browser::new()?;
        let phase = Phase::Opened(Arc::clone(&browser));
        let attempt = self.add(user_id, requirements, method, phase)?;
        Ok((attempt, browser))
    }

    /// A sign-in of `user_id` with the device code that Entra has given.
    pub fn begin_with_code(
        &self,
        user_id: &str,
        requirements: Requirements,
        device: DeviceAuthorization,
    ) -> Result<Arc<Attempt>, Failure> {
        let method = Method::DeviceCode(device);
        self.add(user_id, requirements, method, Phase::Polling)
    }

    fn add(
        &self,
        user_id: &str,
        requirements: Requirements,
        method: Method,
        phase: Phase,
    ) -> Result<Arc<Attempt>, Failure> {
        let attempt = Arc::new(Attempt {
            user_id: user_id.to_owned(),
            requirements,
            handle: secret::random_base64url::<12>()?,
            is_from_browser: matches!(phase, Phase::Opened(_)),
            expires_at: self.clock.now() + method.lifetime(),
            method,
        });
        let mut entries = self.current();
        if entries.len() >= MOST {
            make_room(&mut entries);
        }
        entries.push_back(Entry {
            attempt: Arc::clone(&attempt),
            phase,
        });
        self.changed.notify_all();
        Ok(attempt)
    }

    /// A sign-in of `user_id` that can be shown again, so that a client that asks and asks pushes
    /// out nobody else's: a link that nobody has opened, or a device code, with half its life to
    /// come.
    pub fn offered(
        &self,
        user_id: &str,
        requirements: &Requirements,
        with_code: bool,
    ) -> Option<Arc<Attempt>> {
        let now = self.clock.now();
        let entries = self.current();
        let found = entries.iter().find(|Entry { attempt, phase }| {
            let is_on_offer = match phase {
                Phase::Offered => !with_code,
                Phase::Polling => with_code,
                _ => false,
            };
            let has_time = attempt.expires_at > now + attempt.method.lifetime() / 2;
            let is_same = attempt.user_id == user_id && attempt.requirements == *requirements;
            is_on_offer && has_time && is_same
        });
        found.map(|entry| Arc::clone(&entry.attempt))
    }

    /// Who should sign in with the link that has `ticket`.
    pub fn user_of(&self, ticket: &str) -> Result<String, Failure> {
        let entries = self.current();
        match entries.iter().find(|entry| entry.has_ticket(ticket)) {
            Some(entry) => Ok(entry.attempt.user_id.clone()),
            None => Err(unknown_link()),
        }
    }

    /// Opens the link with `ticket` in a browser. Until Entra has answered, it may be opened anew,
    /// so a link scanner that came first does not use it up. The browser that opened it last holds
    /// it: what Entra answers to an earlier one belongs to no sign-in any more.
    pub fn open(
        &self,
        ticket: &str,
        shows: Shows<'_>,
    ) -> Result<(Arc<Attempt>, Arc<Browser>), Failure> {
        let mut entries = self.current();
        let entry = entries.iter_mut().find(|entry| entry.has_ticket(ticket));
        let entry = entry.ok_or_else(unknown_link)?;
        let browser = match &entry.phase {
            // A second tab of the same browser asks for the same.
            Phase::Opened(browser) if entry.is_bound(browser, shows) => Arc::clone(browser),
            Phase::Offered | Phase::Opened(_) => Browser::new()?,
            _ => return Err(start_again("This sign-in link was used already.")),
        };
        entry.phase = Phase::Opened(Arc::clone(&browser));
        Ok((Arc::clone(&entry.attempt), browser))
    }

    /// The sign-in `handle` for the browser that opened its link and `shows` its cookie, once it
    /// has ended.
    pub fn ended_for(&self, handle: &str, shows: Shows<'_>) -> Option<Arc<Attempt>> {
        let entries = self.current();
        let entry = entries.iter().find(|entry| entry.has_handle(handle))?;
        let browser = entry.phase.browser()?;
        let is_told = entry.has_ended() && entry.is_bound(browser, shows);
        is_told.then(|| Arc::clone(&entry.attempt))
    }

    /// Takes an authorization response. The same one may come twice, as when a browser has lost the
    /// reply to the first: until it is redeemed it gets the same receipt. `shows` is given if the
    /// request carries cookies, as the GET of query mode does and the cross-site POST does not;
    /// then the browser must be the one that opened the link.
    pub fn deliver(
        &self,
        response: AuthorizationResponse,
        shows: Option<Shows<'_>>,
    ) -> Result<Delivery, Failure> {
        let mut entries = self.current();
        let entry = entries
            .iter_mut()
            .find(|entry| entry.has_state(&response.state));
        let Some(entry) = entry else {
            return Err(start_again(
                "This answer of Entra belongs to no sign-in that is under way here; it may have expired.",
            ));
        };
        let handle = entry.attempt.handle.clone();
        let is_bound = |browser| shows.is_none_or(|shows| entry.is_bound(browser, shows));
        match &entry.phase {
            Phase::Opened(browser) if is_bound(browser) => {
                let receipt = Secret::random()?;
                entry.phase = Phase::Answered(Arc::new(Answer {
                    browser: Arc::clone(browser),
                    response,
                    receipt: receipt.clone(),
                }));
                Ok(Delivery::Taken { handle, receipt })
            }
            Phase::Opened(_) => Ok(Delivery::WrongBrowser(entry.end(Err(wrong_browser())))),
            Phase::Answered(answer)
                if answer.response.is_repeated_by(&response) && is_bound(&answer.browser) =>
            {
                let receipt = answer.receipt.clone();
                Ok(Delivery::Taken { handle, receipt })
            }
            _ => Err(start_again("This answer of Entra was used already.")),
        }
    }

    /// Gives what is to be redeemed to the browser that shows both secrets, once. A browser that
    /// did not deliver the answer changes nothing.
    pub fn complete(
        &self,
        handle: &str,
        receipt: &str,
        shows: Shows<'_>,
    ) -> Result<Completion, Failure> {
        let mut entries = self.current();
        let entry = entries.iter_mut().find(|entry| entry.has_handle(handle));
        let entry = entry.ok_or_else(unknown_sign_in)?;
        if matches!(entry.phase, Phase::Offered | Phase::Opened(_)) {
            return Err(start_again("Entra has not answered this sign-in."));
        }
        let answer = entry.phase.answer().cloned();
        let answer = answer.filter(|answer| answer.receipt.matches(receipt));
        let answer = answer.ok_or_else(unknown_sign_in)?;
        let is_bound = entry.is_bound(&answer.browser, shows);
        match &entry.phase {
            Phase::Answered(_) if is_bound => {
                entry.phase = Phase::Redeeming(Arc::clone(&answer));
                Ok(Completion::Redeem(Arc::clone(&entry.attempt), answer))
            }
            Phase::Answered(_) => Ok(Completion::WrongBrowser(entry.end(Err(wrong_browser())))),
            _ if !is_bound => Err(wrong_browser()),
            Phase::Ended { outcome, .. } => Ok(Completion::Ended(outcome.clone())),
            _ => {
                let failure = Failure::new(Kind::RetryLater, "This sign-in is being completed.");
                Err(failure.hint("Reload this page in a moment."))
            }
        }
    }

    /// Notes how the sign-in `handle` ended, and wakes whoever waits for it. Only the first end
    /// counts.
    pub fn end(&self, handle: &str, outcome: Outcome) {
        let mut entries = locked(&self.entries);
        let entry = entries.iter_mut().find(|entry| entry.has_handle(handle));
        if let Some(entry) = entry.filter(|entry| !entry.has_ended()) {
            entry.end(outcome);
        }
        self.changed.notify_all();
    }

    /// Whether the sign-in `handle` is still kept: nobody has signed out or given it up.
    pub fn holds(&self, handle: &str) -> bool {
        locked(&self.entries)
            .iter()
            .any(|entry| entry.has_handle(handle))
    }

    /// Forgets the sign-ins of `user_id`.
    pub fn forget(&self, user_id: &str) {
        locked(&self.entries).retain(|entry| entry.attempt.user_id != user_id);
        self.changed.notify_all();
    }

    /// Forgets the sign-in `handle`, unless a person is in the middle of it in a browser.
    pub fn withdraw(&self, handle: &str) {
        locked(&self.entries).retain(|entry| {
            let is_in_browser = matches!(entry.attempt.method, Method::Browser { .. })
                && !matches!(entry.phase, Phase::Offered);
            !entry.has_handle(handle) || is_in_browser
        });
        self.changed.notify_all();
    }

    /// Forgets all of them: nobody waits any longer.
    pub fn close(&self) {
        locked(&self.entries).clear();
        self.changed.notify_all();
    }
}

/// Of too many sign-ins, the one gives way that is missed least, and of several the oldest.
fn make_room(entries: &mut Entries) {
    let how_much_missed = |entry: &Entry| match entry.phase {
        Phase::Ended { .. } => 0,
        Phase::Offered => 1,
        Phase::Opened(_) | Phase::Answered(_) | Phase::Polling => 2,
        Phase::Redeeming(_) => 3,
    };
    let least_missed = (0..entries.len()).min_by_key(|at| entries.get(*at).map(how_much_missed));
    let gives_way = least_missed.and_then(|at| entries.remove(at));
    if let Some(entry) = gives_way.filter(|entry| !entry.has_ended()) {
        let user_id = &entry.attempt.user_id;
        log::warn!("{MOST} sign-ins are under way; that of {user_id} gives way");
    }
}

/// The name of the cookie that binds the sign-in `handle` to a browser. Each sign-in has its own,
/// so that two in one browser do not disturb each other.
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

/// What a browser is told that has only one of the two secrets.
pub(super) fn wrong_browser() -> Failure {
    start_again("This sign-in was begun in another browser, or this browser keeps no cookies.")
}
