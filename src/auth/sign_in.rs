//! Signing people in, keeping their tokens fresh, signing them out.
//!
//! Invariants: an access token leaves [`SignIn::acquire`] only when the refresh token that came with it is on the disk,
//! or kept under its account's lock until the disk takes it; at most one refresh of an account is on its way to Entra, in
//! this process and in all that share the token file; no lock that another account needs is held across the network.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

use crate::audit::{AuditLog, Entry, Event};
use crate::auth::authority::Application;
use crate::auth::challenge::Claims;
use crate::auth::entra::{self, Entra, Refusal};
use crate::auth::id_token::{self, Identity};
use crate::auth::pending::{self, Attempt, BrowserSecrets, Outcome, PendingSignIns, Way};
use crate::auth::request::{self, Demand, Hints, Prompt};
use crate::auth::response::AuthorizationResponse;
use crate::auth::scope::Scopes;
use crate::auth::token_endpoint::{self, OauthError, TokenResponse};
use crate::auth::token_file::{Account, Accounts, RefreshLock, TokenCache};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::secret::Secret;
use crate::sync::{locked, try_locked};

/// What Entra has refused is not sent again for so long, as MSAL does it (AADSTS50196).
pub(crate) const PAUSE: Duration = Duration::from_secs(60);
/// A token is refreshed so long before it expires, in seconds.
const REFRESH_MARGIN: u64 = 300;
/// The longest `user_id`, in characters.
const MAX_USER_ID: usize = 256;

/// Demands that are kept at a time: of more accounts than that nobody makes use.
const MOST_DEMANDS: usize = 64;
/// Refused refreshes with claims that are kept at a time, for each account; then no others are asked for.
const MOST_CLOSED: usize = 16;
/// Refreshes that a backend gets in a minute, for each account.
const MOST_RENEWED: usize = 16;

/// What is known from an account's last turns at the token endpoint.
#[derive(Default)]
struct Turns {
    closed: Vec<Closed>,
    /// When the backend has had a token renewed in the last minute, and for which claims.
    renewed: Vec<(u64, Claims)>,
}

impl Turns {
    /// Why `claims` are not asked for at `now`.
    fn refused(&mut self, claims: &Claims, now: u64) -> Option<&Closed> {
        self.closed.retain(|closed| closed.during.contains(&now));
        let is_same =
            |closed: &&Closed| closed.claims == *claims || closed.failure.kind == Kind::RetryLater;
        self.closed.iter().find(is_same)
    }
}

/// What Entra is not asked for again for a while.
struct Closed {
    /// From when, and until when, in seconds since 1970: a clock that is set back ends it, too.
    during: Range<u64>,
    claims: Claims,
    failure: Failure,
    /// What a sign-in must bring instead.
    demand: Option<Demand>,
}

/// A demand, for as long as a sign-in for it takes.
#[derive(Clone)]
struct Noted {
    /// Seconds since 1970.
    until: u64,
    /// When the account had last signed in.
    signed_in_at: Option<u64>,
    demand: Demand,
}

/// Whoever holds it is the one whose turn it is.
type Flight = Arc<Mutex<Turns>>;

/// Who is meant, and their account as it was found then.
pub struct Chosen {
    /// Their label.
    pub user_id: String,
    account: Option<Arc<Account>>,
}

/// What a browser is sent on with.
pub struct Opened {
    /// Names the sign-in.
    pub handle: String,
    /// The value of the cookie that binds it to the browser.
    pub binding: Secret,
    /// The authorization request.
    pub url: Url,
}

/// The state of all sign-ins.
pub struct SignIn {
    pub(crate) config: Arc<Config>,
    clock: Clock,
    pub(crate) entra: Entra,
    /// Where all of it is recorded.
    pub(crate) audit: AuditLog,
    cache: TokenCache,
    pending: PendingSignIns,
    flights: Mutex<HashMap<String, Flight>>,
    /// What the next sign-in of an account must bring.
    demands: Mutex<HashMap<String, Noted>>,
}

impl SignIn {
    /// Opens the token file and the audit log of `config`.
    ///
    /// # Errors
    /// Those of [`TokenCache::open`] and [`AuditLog::open`].
    pub fn new(config: Arc<Config>, clock: Clock) -> Result<Self, Failure> {
        let path = &config.token_cache_file;
        let cache = TokenCache::open(
            path,
            clock.clone(),
            &config.client_id,
            config.scopes.requested(),
        )?;
        Ok(Self {
            entra: Entra::new(&config),
            audit: AuditLog::open(&config, clock.clone())?,
            config,
            clock,
            cache,
            pending: PendingSignIns::default(),
            flights: Mutex::default(),
            demands: Mutex::default(),
        })
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The sign-ins that are under way.
    pub fn pending(&self) -> &PendingSignIns {
        &self.pending
    }

    // ---- Signing in ----

    /// Begins a sign-in of `user_id` in the browser that asks for it; gives its ticket.
    ///
    /// # Errors
    /// A `user_id` that cannot be one; no randomness.
    pub fn begin(&self, user_id: &str) -> Result<Secret, Failure> {
        check_user_id(user_id)?;
        let attempt = self
            .pending
            .begin(user_id, self.due(user_id, None), self.now())?;
        Ok(attempt
            .browser()
            .map(|secrets| secrets.ticket.clone())
            .unwrap_or_default())
    }

    /// A sign-in of `user_id` for a client to show the link to, which must bring `demand`: one that is still on
    /// offer, or a new one.
    ///
    /// # Errors
    /// Those of [`SignIn::begin`].
    pub fn offer(&self, user_id: &str, demand: Demand) -> Result<Arc<Attempt>, Failure> {
        check_user_id(user_id)?;
        let offered = self.pending.offered(user_id, &demand, false, self.now());
        offered.map_or_else(|| self.pending.begin(user_id, demand, self.now()), Ok)
    }

    /// What a sign-in of `user_id` that is begun now must bring: what is wanted of it, and what was granted
    /// before.
    pub fn due(&self, user_id: &str, prompt: Option<Prompt>) -> Demand {
        let usual = || Demand {
            extra_scope: self.granted(user_id),
            ..Demand::default()
        };
        let demand = self.demand(user_id).unwrap_or_else(usual);
        Demand {
            prompt: prompt.or(demand.prompt),
            ..demand
        }
    }

    /// What a sign-in must bring that a call in the name of `user_id` has asked for.
    pub(crate) fn due_of_caller(&self, user_id: &str) -> Demand {
        let known = self
            .known(user_id)
            .filter(|account| !account.oid.is_empty());
        let person = known.map(|account| (account.tid.clone(), account.oid.clone()));
        Demand {
            person,
            ..self.due(user_id, None)
        }
    }

    /// What `user_id` has granted beyond the configured scopes.
    pub(crate) fn granted(&self, user_id: &str) -> String {
        self.known(user_id)
            .map(|account| self.extra_scope(&account).to_owned())
            .unwrap_or_default()
    }

    /// What the next sign-in of `user_id` must bring, where one is wanted, by Entra or the backend.
    pub fn demand(&self, user_id: &str) -> Option<Demand> {
        let signed_in_at = self.last_sign_in(user_id);
        let noted = locked(&self.demands).get(user_id).cloned();
        // Whoever has signed in since, at whichever server, has had the occasion.
        let is_due = |noted: &Noted| noted.signed_in_at == signed_in_at && noted.until > self.now();
        noted.filter(is_due).map(|noted| noted.demand)
    }

    /// Notes what the next sign-in of `user_id` must bring.
    pub fn note(&self, user_id: &str, demand: Demand) {
        let signed_in_at = self.last_sign_in(user_id);
        let mut demands = locked(&self.demands);
        if demands.len() >= MOST_DEMANDS
            && !demands.contains_key(user_id)
            && let Some(another) = demands.keys().next().cloned()
        {
            demands.remove(&another);
        }
        demands.insert(
            user_id.to_owned(),
            Noted {
                until: self.now() + pending::LIFETIME,
                signed_in_at,
                demand,
            },
        );
    }

    /// Takes back a sign-in that the person does not want. What the account can do without stays as it is.
    pub fn withdraw(&self, handle: &str, user_id: &str) {
        self.pending.withdraw(handle);
        let is_usable = self
            .known(user_id)
            .is_some_and(|account| self.is_valid(&account));
        let mut demands = locked(&self.demands);
        // What every call needs is still due.
        if is_usable
            || demands
                .get(user_id)
                .is_some_and(|noted| noted.demand.wanted != Claims::default())
        {
            demands.remove(user_id);
        }
    }

    /// When `user_id` signed in, as the token file has it.
    pub fn last_sign_in(&self, user_id: &str) -> Option<u64> {
        self.known(user_id).map(|account| account.signed_in_at)
    }

    /// The account of `user_id`, signed in or not.
    fn known(&self, user_id: &str) -> Option<Arc<Account>> {
        self.cache
            .get(user_id)
            .filter(|account| self.is_ours(account))
    }

    /// Where the person goes to sign in. The link is ours, not Entra's: short, good for one browser, and
    /// nothing leaks from it. A device code is entered at Entra's own address.
    pub fn link(&self, attempt: &Attempt) -> String {
        match &attempt.way {
            Way::Browser(BrowserSecrets { ticket, .. }) => {
                format!(
                    "{}/auth/login?ticket={}",
                    self.config.redirect_uri.origin,
                    ticket.expose()
                )
            }
            Way::Device(device) => device.verification_uri.to_string(),
        }
    }

    /// Opens a ticket; gives the handle of the sign-in, the value of the cookie that binds it, and the
    /// browser's way to Entra.
    ///
    /// # Errors
    /// Those of [`PendingSignIns::open`].
    pub fn open(
        &self,
        ticket: &str,
        cookie: impl Fn(&str) -> Option<String>,
    ) -> Result<Opened, Failure> {
        let attempt = self.pending.open(ticket, self.now(), cookie)?;
        let secrets = attempt
            .browser()
            .ok_or_else(|| pending::start_again("This is no sign-in link."))?;
        let Attempt {
            user_id, demand, ..
        } = attempt.as_ref();
        // What is wanted of an account is wanted of the person who signed in.
        let is_wanted =
            demand.prompt.is_some() || demand.person.is_some() || self.demand(user_id).is_some();
        let known = self.known(user_id).filter(|_| is_wanted);
        let username = known
            .as_ref()
            .map(|account| account.username.as_str())
            .filter(|name| !name.is_empty());
        let hints = Hints {
            login: Some(user_id.as_str())
                .filter(|user_id| is_address(user_id))
                .or(username),
            domain: self.config.domain_hint.as_deref(),
        };
        let scopes = self.scopes(demand);
        let application = Application {
            scopes: &scopes,
            ..self.config.application()
        };
        let url = request::url(
            &application,
            self.config.response_mode,
            &secrets.proofs,
            demand,
            hints,
        );
        Ok(Opened {
            handle: attempt.handle.clone(),
            binding: secrets.binding.clone(),
            url,
        })
    }

    /// What a sign-in with `demand` asks for.
    pub(crate) fn scopes(&self, demand: &Demand) -> Scopes {
        self.config
            .scopes
            .with(&demand.extra_scope)
            .unwrap_or_else(|| self.config.scopes.clone())
    }

    /// Completes the sign-in `handle` in the browser that sent `cookie` and calls itself `client`.
    ///
    /// # Errors
    /// Why there is nothing to complete; how the sign-in ended stands inside.
    pub fn complete(
        &self,
        handle: &str,
        cookie: Option<&str>,
        client: &str,
    ) -> Result<Outcome, Failure> {
        let (attempt, response) = match self.pending.redeem(handle, cookie, self.now())? {
            Ok(returned) => returned,
            Err(outcome) => return Ok(outcome),
        };
        let entry = Entry::new(Event::SignIn, &attempt.user_id, client);
        let outcome = self
            .audit
            .ready()
            .and_then(|()| self.redeem(&attempt, response));
        Ok(self.end(&attempt, outcome, entry))
    }

    /// Notes how `attempt` ended, in the audit log with `entry`; gives what the person is told.
    pub(crate) fn end(&self, attempt: &Attempt, outcome: Outcome, mut entry: Entry<'_>) -> Outcome {
        entry.account = self.known(&attempt.user_id).filter(|_| outcome.is_ok());
        entry.failed(outcome.as_ref().err());
        let recorded = self.audit.record(&entry);
        let outcome = outcome.and_then(|message| recorded.map(|()| message));
        match &outcome {
            Ok(message) => log::info!("{message}"),
            Err(failure) => log::warn!("sign-in of {} failed: {}", attempt.user_id, failure.text()),
        }
        self.pending.end(&attempt.handle, outcome.clone());
        outcome
    }

    fn redeem(&self, attempt: &Attempt, response: AuthorizationResponse) -> Outcome {
        const PURPOSE: &str = "the sign-in";
        let Attempt {
            user_id, demand, ..
        } = attempt;
        let BrowserSecrets { proofs, .. } = attempt
            .browser()
            .ok_or_else(|| untrusted("it was not asked for"))?;
        // RFC 9207 §2.4: before the code is redeemed and before an error is believed.
        let issuer = response.issuer.as_deref();
        if issuer.is_some_and(|issuer| !self.config.authority.may_be_issuer(issuer)) {
            return Err(untrusted("it names another issuer"));
        }
        let code = response.outcome.map_err(|error| {
            self.note_refusal(user_id, demand, &error);
            entra::refusal(&self.config, &error, PURPOSE)
        })?;
        let scopes = self.scopes(demand);
        let application = Application {
            scopes: &scopes,
            ..self.config.application()
        };
        let form =
            token_endpoint::redeem(&application, &code, &proofs.code_verifier, &demand.claims);
        let tokens = self
            .entra
            .token(&self.config, form, PURPOSE)
            .map_err(|refusal| {
                refusal
                    .error
                    .iter()
                    .for_each(|error| self.note_refusal(user_id, demand, error));
                refusal.failure
            })?;
        self.accept(attempt, tokens, Some(&proofs.nonce), issuer)
    }

    /// Where Entra wants the person once more, the next sign-in brings what it says.
    pub(crate) fn note_refusal(&self, user_id: &str, sent: &Demand, error: &OauthError) {
        if error.kind() == Kind::SignInRequired && error.demand(sent) != Demand::default() {
            self.note(user_id, error.demand(sent));
        }
    }

    /// Stores what Entra issued for `attempt`, when it is for the person who was meant.
    pub(crate) fn accept(
        &self,
        attempt: &Attempt,
        tokens: TokenResponse,
        nonce: Option<&Secret>,
        issuer: Option<&str>,
    ) -> Outcome {
        let user_id = &attempt.user_id;
        let identity = self.identify(&tokens, nonce)?;
        if issuer.is_some_and(|issuer| !self.config.authority.issues(issuer, &identity.tid)) {
            return Err(untrusted("it names another issuer"));
        }
        if is_address(user_id) && !identity.has_address(user_id) {
            let signed_in = &identity.username;
            let message =
                format!("You signed in as {signed_in}, not as {user_id}. Nothing was stored.");
            return Err(Failure::new(Kind::Refused, message).hint(format!(
                "Sign in as {user_id}, or begin a sign-in for {signed_in}."
            )));
        }
        let person = (identity.tid.as_str(), identity.oid.as_str());
        if attempt
            .demand
            .person
            .as_ref()
            .is_some_and(|(tid, oid)| (tid.as_str(), oid.as_str()) != person)
        {
            let signed_in = &identity.username;
            let message = format!(
                "You signed in as {signed_in}, who is not the person known as {user_id} here. Nothing was stored."
            );
            let hint = format!(
                "Sign in as that person, or give {signed_in} a name of its own with authenticate_user."
            );
            return Err(Failure::new(Kind::Refused, message).hint(hint));
        }
        self.store(attempt, identity, tokens)
    }

    fn identify(
        &self,
        tokens: &TokenResponse,
        nonce: Option<&Secret>,
    ) -> Result<Identity, Failure> {
        let id_token = tokens
            .id_token
            .as_ref()
            .ok_or_else(|| untrusted("there is no ID token in it"))?;
        let identity = id_token::check(
            id_token,
            &self.config.client_id,
            &self.config.authority,
            nonce,
            self.now(),
        )
        .map_err(|reason| untrusted(&format!("of the ID token, {reason}")))?;
        if identity.clock_is_off {
            log::warn!("this machine's clock and Entra's are more than five minutes apart");
        }
        Ok(identity)
    }

    fn store(&self, attempt: &Attempt, identity: Identity, tokens: TokenResponse) -> Outcome {
        let user_id = &attempt.user_id;
        let account = Account {
            client_id: self.config.client_id.clone(),
            tid: identity.tid,
            oid: identity.oid,
            username: identity.username,
            name: identity.name,
            // `.default` asks for them from now on.
            extra_scope: if self.config.scopes.is_default() {
                String::new()
            } else {
                attempt.demand.extra_scope.clone()
            },
            signed_in_at: self.now(),
            ..Account::default()
        };
        let account = Arc::new(self.with_tokens(account, tokens));
        // Asked under the lock of the file: a sign-out first forgets the sign-ins, then changes the file.
        let insert = |accounts: &mut Accounts| {
            self.pending
                .holds(&attempt.handle)
                .then(|| accounts.insert(user_id.clone(), Arc::clone(&account)))
        };
        let Some(replaced) = self.cache.change(insert)? else {
            return Err(Failure::new(
                Kind::Refused,
                format!(
                    "The sign-in of {user_id} was given up or signed out meanwhile. Nothing was stored."
                ),
            ));
        };
        locked(&self.flights).remove(user_id);
        locked(&self.demands).remove(user_id);
        let message = success(user_id, &account);
        let other = replaced.filter(|old| (&old.oid, &old.tid) != (&account.oid, &account.tid));
        let also = other.map(|old| {
            format!(
                " The account {} that had this name before is signed out here.",
                old.username
            )
        });
        Ok(message + &also.unwrap_or_default())
    }

    /// The account with what Entra just issued.
    fn with_tokens(&self, account: Account, tokens: TokenResponse) -> Account {
        let now = self.now();
        Account {
            requested_scope: self.requested(&account),
            granted_scope: tokens.scope,
            access_token: tokens.access_token,
            expires_at: now + tokens.expires_in,
            refresh_at: tokens.refresh_in.map(|seconds| now + seconds),
            // A response without a refresh token keeps the last one (RFC 6749 §6).
            refresh_token: tokens.refresh_token.or(account.refresh_token),
            ..account
        }
    }

    // ---- Acquiring a token ----

    /// The account of who was `chosen`, its access token good for use now. Where Entra has to be asked, that is on
    /// record as of a client that calls itself `client`.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`], and whatever keeps a token from being refreshed.
    pub fn acquire(&self, chosen: &Chosen, client: &str) -> Result<Arc<Account>, Failure> {
        let user_id = chosen.user_id.as_str();
        let account = chosen
            .account
            .clone()
            .ok_or_else(|| not_signed_in(user_id))?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        let flight = self.flight(user_id);
        let mut turns = match try_locked(&flight) {
            Some(turns) => turns,
            // Somebody is at it: what is left of the token serves.
            None if self.is_valid(&account) => return Ok(account),
            None => locked(&flight),
        };
        let refreshed = self.refresh_in_turn(user_id, client, &mut turns, None, &Claims::default());
        let refreshed = refreshed.or_else(|failure| {
            // What is left of the token serves, unless the refusal has ended it; perhaps another server has a new one.
            Some(self.usable(user_id)?)
                .filter(|account| self.is_valid(account))
                .ok_or(failure)
        });
        still_of_one(user_id, &account, refreshed?)
    }

    /// Another token in place of the one of `rejected`, which the backend does not take: one with `claims`.
    /// `None` when there was one a moment ago and the backend does not take that either, when it has had too many in the
    /// last minute, or when there is no refresh token to get one with.
    ///
    /// # Errors
    /// As [`SignIn::acquire`].
    pub fn renew(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        claims: &Claims,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let flight = self.flight(user_id);
        let mut turns = locked(&flight);
        let (account, now) = (
            still_of_one(user_id, rejected, self.usable(user_id)?)?,
            self.now(),
        );
        let is_another = !account.access_token.matches(rejected.access_token.expose());
        if is_another && self.is_fresh(&account) {
            return Ok(Some(account));
        }
        turns
            .renewed
            .retain(|(at, _)| (*at..at + PAUSE.as_secs()).contains(&now));
        let is_enough = turns.renewed.len() >= MOST_RENEWED
            || turns.renewed.iter().any(|(_, asked)| asked == claims);
        let is_refused = turns.refused(claims, now).is_none() && turns.closed.len() >= MOST_CLOSED;
        if is_enough || is_refused || account.refresh_token.is_none() {
            return Ok(None);
        }
        let renewed = self.refresh_in_turn(
            user_id,
            client,
            &mut turns,
            Some(&rejected.access_token),
            claims,
        )?;
        turns.renewed.push((now, claims.clone()));
        still_of_one(user_id, rejected, renewed).map(Some)
    }

    fn flight(&self, user_id: &str) -> Flight {
        Arc::clone(locked(&self.flights).entry(user_id.to_owned()).or_default())
    }

    /// Who is meant: the given `user_id`, or that of the only account.
    ///
    /// # Errors
    /// There is no account, or several.
    pub fn choose(&self, user_id: Option<&str>) -> Result<Chosen, Failure> {
        if let Some(user_id) = user_id {
            return Ok(Chosen {
                user_id: user_id.to_owned(),
                account: self.known(user_id),
            });
        }
        let accounts = self.accounts();
        if accounts.len() > 1 {
            let names: Vec<String> = accounts.into_keys().collect();
            let message = format!("Several accounts are signed in: {}.", names.join(", "));
            return Err(Failure::new(Kind::InvalidRequest, message)
                .hint("Say which one is meant with user_id."));
        }
        let only = accounts
            .into_iter()
            .next()
            .map(|(user_id, account)| Chosen {
                user_id,
                account: Some(account),
            });
        only.ok_or_else(|| Failure::new(Kind::SignInRequired, "Nobody is signed in."))
    }

    fn usable(&self, user_id: &str) -> Result<Arc<Account>, Failure> {
        self.known(user_id).ok_or_else(|| not_signed_in(user_id))
    }

    /// Tokens of another application are left alone: they may be wanted again.
    fn is_ours(&self, account: &Account) -> bool {
        account.client_id == self.config.client_id
    }

    /// What is asked for beyond the configured scopes when the account is refreshed.
    pub(crate) fn extra_scope<'a>(&self, account: &'a Account) -> &'a str {
        // `.default` asks for everything as it is.
        if self.config.scopes.is_default() {
            ""
        } else {
            &account.extra_scope
        }
    }

    /// The scopes that are requested for the account.
    fn requested(&self, account: &Account) -> String {
        let wider = self.config.scopes.with(self.extra_scope(account));
        wider
            .as_ref()
            .unwrap_or(&self.config.scopes)
            .requested()
            .to_owned()
    }

    fn is_valid(&self, account: &Account) -> bool {
        let is_as_requested = if account.extra_scope.is_empty() {
            account.requested_scope == self.config.scopes.requested()
        } else {
            account.requested_scope == self.requested(account)
        };
        !account.access_token.expose().is_empty()
            && is_as_requested
            && account.expires_at > self.now()
    }

    fn is_fresh(&self, account: &Account) -> bool {
        let now = self.now();
        self.is_valid(account)
            && account.expires_at > now + REFRESH_MARGIN
            && account.refresh_at.is_none_or(|refresh_at| refresh_at > now)
    }

    /// Refreshes with `claims`, unless somebody else did while we waited for our turn; a token that is
    /// `rejected` does not count. What has just failed is not tried again for a while.
    fn refresh_in_turn(
        &self,
        user_id: &str,
        client: &str,
        turns: &mut Turns,
        rejected: Option<&Secret>,
        claims: &Claims,
    ) -> Result<Arc<Account>, Failure> {
        let account = self.usable(user_id)?;
        if self.is_good(&account, rejected) {
            return Ok(account);
        }
        if let Some(Closed {
            during,
            failure,
            demand,
            ..
        }) = turns.refused(claims, self.now())
        {
            if let Some(demand) = demand {
                self.note(user_id, demand.clone());
            }
            let (failure, left) = (
                failure.clone(),
                Duration::from_secs(during.end.saturating_sub(self.now())),
            );
            return Err(if failure.kind == Kind::SignInRequired {
                failure
            } else {
                failure.retry_after(left)
            });
        }
        let is_patient = rejected.is_some() || !self.is_valid(&account);
        let lock = self.cache.lock_refresh(user_id, is_patient);
        let result = lock.and_then(|lock| self.refresh(lock, user_id, client, rejected, claims));
        if let Err(failure) = &result {
            let pause = match failure.kind {
                Kind::TokenCache => Duration::ZERO,
                Kind::RetryLater => entra::DEFAULT_RETRY,
                _ => PAUSE,
            };
            let now = self.now();
            let during = now..now + failure.retry_after.unwrap_or(pause).as_secs();
            let demand = self
                .demand(user_id)
                .filter(|_| failure.kind == Kind::SignInRequired);
            turns.closed.insert(
                0,
                Closed {
                    during,
                    claims: claims.clone(),
                    failure: failure.clone(),
                    demand,
                },
            );
        }
        result
    }

    /// A refresh that has brought `sent` makes a sign-in needless that was wanted for no more.
    fn fulfil(&self, user_id: &str, sent: &Demand) {
        let is_met = |demand: &Demand| {
            demand.wanted == sent.wanted && demand.extra_scope == sent.extra_scope
        };
        locked(&self.demands).retain(|known, noted| known != user_id || !is_met(&noted.demand));
    }

    fn is_good(&self, account: &Account, rejected: Option<&Secret>) -> bool {
        self.is_fresh(account)
            && rejected.is_none_or(|rejected| !rejected.matches(account.access_token.expose()))
    }

    /// Only under the account's lock: asks Entra, unless another process has.
    fn refresh(
        &self,
        lock: RefreshLock,
        user_id: &str,
        client: &str,
        rejected: Option<&Secret>,
        claims: &Claims,
    ) -> Result<Arc<Account>, Failure> {
        self.cache.reload()?;
        let account = self.usable(user_id)?;
        if self.is_good(&account, rejected) {
            return Ok(account);
        }
        let Some(refresh_token) = &account.refresh_token else {
            let ended = || {
                Failure::new(
                    Kind::SignInRequired,
                    format!("The sign-in of {user_id} has ended."),
                )
            };
            return Some(account)
                .filter(|account| self.is_valid(account))
                .ok_or_else(ended);
        };
        let extra_scope = self.extra_scope(&account).to_owned();
        let demand = Demand {
            wanted: claims.clone(),
            claims: claims.clone(),
            extra_scope,
            ..Demand::default()
        };
        let scopes = self.scopes(&demand);
        let form = token_endpoint::refresh(
            &Application {
                scopes: &scopes,
                ..self.config.application()
            },
            refresh_token,
            claims,
        );
        let old = Account::clone(&account);
        let mut refused = None;
        let mut entry = Entry::new(Event::Refresh, user_id, client);
        entry.account = Some(Arc::clone(&account));
        let answer = self.entra.token(&self.config, form, "the refresh");
        entry.failed(answer.as_ref().err().map(|refusal| &refusal.failure));
        // Tokens that Entra has issued are kept all the same.
        let recorded = self.audit.record(&entry);
        let (new, result) = match answer {
            Ok(tokens) => {
                self.fulfil(user_id, &demand);
                let new = Arc::new(self.with_tokens(old, tokens));
                (Arc::clone(&new), Ok(new))
            }
            Err(Refusal { failure, error }) => {
                log::warn!(
                    "the tokens of {user_id} could not be refreshed: {}",
                    failure.text()
                );
                let Some(error) = error.filter(|error| error.kind() == Kind::SignInRequired) else {
                    return Err(failure);
                };
                refused = Some(error.demand(&demand));
                if *claims != Claims::default() && !error.ends_refresh_token() {
                    // The token at hand is as good for other calls as it was.
                    (Arc::clone(&account), Err(failure))
                } else {
                    // Nobody shall find a token that goes through once more.
                    let (access_token, expires_at) = (Secret::default(), self.now());
                    let refresh_token = old
                        .refresh_token
                        .clone()
                        .filter(|_| !error.ends_refresh_token());
                    (
                        Arc::new(Account {
                            access_token,
                            expires_at,
                            refresh_token,
                            ..old
                        }),
                        Err(failure),
                    )
                }
            }
        };
        if self.cache.rotate(lock, user_id, refresh_token, &new) {
            if let Some(demand) = refused {
                self.note(user_id, demand);
            }
            let refreshed =
                result.inspect(|_| log::info!("the tokens of {user_id} were refreshed"))?;
            return recorded.map(|()| refreshed);
        }
        // The person signed in anew, or out, meanwhile: that counts.
        self.usable(user_id)
    }

    // ---- Asking and signing out ----

    /// Every account of this application, by `user_id`.
    pub fn accounts(&self) -> Accounts {
        let mut accounts = self.cache.all();
        accounts.retain(|_, account| self.is_ours(account));
        accounts
    }

    /// Why the token file cannot be read or written, where that is so: then what is in memory serves.
    pub fn trouble(&self) -> Option<Failure> {
        self.cache.trouble()
    }

    /// Writes what could not be written into the token file.
    ///
    /// # Errors
    /// It still cannot be.
    pub fn write_unwritten(&self) -> Result<(), Failure> {
        self.cache.write_unwritten()
    }

    /// Whether a call with the account of `user_id` would go through without a new sign-in.
    pub fn is_signed_in(&self, user_id: &str, account: &Account) -> bool {
        self.is_valid(account)
            || (account.refresh_token.is_some() && self.demand(user_id).is_none())
    }

    /// Forgets the tokens of `user_id` (without one, of the only account) on the disk and in memory, for
    /// a client that calls itself `client`; gives its `user_id`.
    ///
    /// # Errors
    /// Nobody, or several to choose from; the file or the audit log cannot be written.
    pub fn sign_out(&self, user_id: Option<&str>, client: &str) -> Result<String, Failure> {
        let Chosen { user_id, account } = self.choose(user_id)?;
        self.audit.ready()?;
        let mut entry = Entry::new(Event::SignOut, &user_id, client);
        self.pending.forget(&user_id);
        let forget = |accounts: &mut Accounts| {
            let is_ours = accounts
                .get(&user_id)
                .is_some_and(|account| self.is_ours(account));
            is_ours.then(|| accounts.remove(&user_id)).flatten()
        };
        let forgotten = self.cache.change(forget);
        // Whoever was signed in last: on record is whose tokens were forgotten.
        entry.account = forgotten.as_ref().map_or(account, Clone::clone);
        entry.failed(forgotten.as_ref().err());
        let recorded = if entry.account.is_some() {
            self.audit.record(&entry)
        } else {
            Ok(())
        };
        if forgotten?.is_none() {
            let message = format!("{user_id} is not signed in, so there is nothing to forget.");
            return Err(Failure::new(Kind::InvalidRequest, message));
        }
        locked(&self.flights).remove(&user_id);
        locked(&self.demands).remove(&user_id);
        log::info!("{user_id} was signed out");
        recorded.map(|()| user_id)
    }
}

/// What a sign-in that went well is answered with.
pub(crate) fn success(user_id: &str, account: &Account) -> String {
    format!("{} is signed in as {user_id}.", account.username)
}

/// `now`, when it is of the same person as it was `before`: a call is made as who it was meant to be made as.
fn still_of_one(
    user_id: &str,
    before: &Account,
    now: Arc<Account>,
) -> Result<Arc<Account>, Failure> {
    // Who it was is not known of an account that was taken over without it.
    if before.oid.is_empty() || (&now.tid, &now.oid) == (&before.tid, &before.oid) {
        return Ok(now);
    }
    Err(Failure::new(
        Kind::RetryLater,
        format!("Somebody else has just signed in as {user_id}."),
    )
    .hint("Nothing was called. Call again only if it is to be done as them."))
}

fn not_signed_in(user_id: &str) -> Failure {
    Failure::new(Kind::SignInRequired, format!("{user_id} is not signed in."))
}

pub(crate) fn check_user_id(user_id: &str) -> Result<(), Failure> {
    let is_too_long = user_id.chars().count() > MAX_USER_ID;
    if is_too_long || user_id.trim().is_empty() || user_id.chars().any(char::is_control) {
        let rule = format!(
            "user_id must have 1 to {MAX_USER_ID} characters, none of them a control character."
        );
        return Err(Failure::new(Kind::InvalidRequest, rule));
    }
    Ok(())
}

fn is_address(user_id: &str) -> bool {
    user_id.contains('@')
}

fn untrusted(reason: &str) -> Failure {
    Failure::new(Kind::Refused, format!("Entra's answer did not fit the sign-in: {reason}. Nothing was stored."))
        .hint("Start again; if it persists, check AZURE_TENANT_ID and AZURE_CLOUD or AZURE_AUTHORITY_HOST.")
}
