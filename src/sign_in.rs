//! Signing people in, keeping their tokens fresh, signing them out.
//!
//! Invariants: an access token leaves [`SignIn::acquire`] only when the refresh token that came with
//! it is on the disk; at most one refresh of an account is on its way to Entra, in this process and
//! in all that share the token file; no lock that another account needs is held across the network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use crate::clock::Clock;
use crate::config::Config;
use crate::entra::{Entra, TokenError};
use crate::error::{Failure, Kind};
use crate::oauth::aadsts::{self, Registration};
use crate::oauth::authorize::AuthorizationRequest;
use crate::oauth::callback::AuthorizationResponse;
use crate::oauth::id_token::{self, Expected, Identity};
use crate::oauth::token::{self, OauthError, Remedy, TokenResponse};
use crate::pending::{Offer, Opened, Outcome, PendingSignIns, Returned};
use crate::secret::Secret;
use crate::token_cache::{Account, Accounts, TokenCache};

/// A token is refreshed so long before it expires, in seconds.
const REFRESH_MARGIN: u64 = 300;
/// The longest `user_id`.
const MOST_USER_ID_CHARS: usize = 256;

/// One account's turn at the token endpoint.
#[derive(Default)]
struct Flight {
    /// Entra wants to be left alone until then (seconds since 1970), for that reason.
    closed: Option<(u64, Failure)>,
}

/// The state of all sign-ins.
pub struct SignIn {
    config: Arc<Config>,
    clock: Clock,
    entra: Entra,
    cache: TokenCache,
    pending: PendingSignIns,
    flights: Mutex<HashMap<String, Arc<Mutex<Flight>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SignIn {
    /// Opens the token file of `config`.
    ///
    /// # Errors
    /// Those of [`TokenCache::open`].
    pub fn new(config: Arc<Config>, clock: Clock) -> Result<Self, Failure> {
        let cache =
            TokenCache::open(&config.token_cache_file, clock.clone(), &config.client_id, config.scopes.requested())?;
        let entra = Entra::new(config.authority.token_endpoint());
        Ok(Self { config, clock, entra, cache, pending: PendingSignIns::default(), flights: Mutex::default() })
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The sign-ins that are under way.
    #[must_use]
    pub fn pending(&self) -> &PendingSignIns {
        &self.pending
    }

    // ---- Signing in ----

    /// Begins a sign-in of `user_id`.
    ///
    /// # Errors
    /// A `user_id` that cannot be one; no randomness.
    pub fn begin(&self, user_id: &str) -> Result<Offer, Failure> {
        check_user_id(user_id)?;
        self.pending.offer(user_id, self.now())
    }

    /// The link that opens `offer`. It is ours, not Entra's: short, good for one browser, and nothing
    /// leaks from it.
    #[must_use]
    pub fn link(&self, offer: &Offer) -> String {
        format!("{}/auth/login?ticket={}", self.config.redirect_uri().origin, offer.ticket.expose())
    }

    /// Opens a ticket; gives the browser's way to Entra.
    ///
    /// # Errors
    /// Those of [`PendingSignIns::open`].
    pub fn open(&self, ticket: &str, cookie: impl Fn(&str) -> Option<String>) -> Result<(Opened, Url), Failure> {
        let opened = self.pending.open(ticket, self.now(), cookie)?;
        let request = AuthorizationRequest {
            client_id: &self.config.client_id,
            redirect_uri: &self.config.redirect_uri().text,
            response_mode: self.config.response_mode,
            scopes: &self.config.scopes,
            state: &opened.proofs.state,
            nonce: &opened.proofs.nonce,
            code_verifier: &opened.proofs.code_verifier,
            login_hint: Some(opened.user_id.as_str()).filter(|user_id| is_address(user_id)),
        };
        let url = request.url(&self.config.authority);
        Ok((opened, url))
    }

    /// Completes the sign-in `handle` in the browser that sent `cookie`.
    ///
    /// # Errors
    /// Why there is nothing to complete; how the sign-in ended stands inside.
    pub fn complete(&self, handle: &str, cookie: Option<&str>) -> Result<Outcome, Failure> {
        let returned = match self.pending.redeem(handle, cookie, self.now())? {
            Ok(returned) => returned,
            Err(outcome) => return Ok(outcome),
        };
        let outcome = self.redeem(&returned);
        match &outcome {
            Ok(message) => log::info!("{message}"),
            Err(failure) => log::warn!("sign-in of {} failed: {}", returned.user_id, failure.text()),
        }
        self.pending.end(handle, outcome.clone());
        Ok(outcome)
    }

    fn redeem(&self, Returned { user_id, proofs, response }: &Returned) -> Outcome {
        let AuthorizationResponse { issuer, outcome, .. } = response;
        let code = match outcome {
            Ok(code) => code,
            Err(error) => return Err(self.explain(TokenError::Oauth(Box::new(error.clone())), "the sign-in")),
        };
        let redirect_uri = self.config.redirect_uri().text;
        let form =
            token::redeem(&self.config.client_id, &self.config.scopes, &redirect_uri, code, &proofs.code_verifier);
        let response = self.entra.token(form).map_err(|error| self.explain(error, "the sign-in"))?;
        let identity = self.identify(&response, &proofs.nonce)?;
        // RFC 9207 §2.4: an issuer that is named must be the one that was asked.
        if issuer.as_ref().is_some_and(|issuer| *issuer != self.config.authority.issuer(&identity.tid)) {
            return Err(untrusted("the answer names another issuer"));
        }
        if is_address(user_id) && !identity.has_address(user_id) {
            return Err(Failure::new(
                Kind::Refused,
                format!("You signed in as {}, not as {user_id}. Nothing was stored.", identity.username),
            )
            .hint(format!("Sign in as {user_id}, or begin a sign-in for {}.", identity.username)));
        }
        self.store(user_id, identity, response)
    }

    fn identify(&self, response: &TokenResponse, nonce: &Secret) -> Result<Identity, Failure> {
        let id_token = response.id_token.as_ref().ok_or_else(|| untrusted("there is no ID token"))?;
        let expected =
            Expected { client_id: &self.config.client_id, authority: &self.config.authority, nonce, now: self.now() };
        let checked = id_token::check(id_token, &expected).map_err(|reason| untrusted(&reason))?;
        if checked.clock_is_off {
            log::warn!("this machine's clock and Entra's are more than five minutes apart");
        }
        Ok(checked.identity)
    }

    fn store(&self, user_id: &str, identity: Identity, response: TokenResponse) -> Outcome {
        let now = self.now();
        let account = Account {
            client_id: self.config.client_id.clone(),
            tid: identity.tid,
            oid: identity.oid,
            username: identity.username,
            name: identity.name,
            requested_scope: self.config.scopes.requested().to_owned(),
            granted_scope: response.scope,
            access_token: response.access_token,
            expires_at: now + response.expires_in,
            refresh_at: response.refresh_in.map(|seconds| now + seconds),
            refresh_token: response.refresh_token,
            signed_in_at: now,
        };
        let message = format!("{} is signed in as {}.", account.username, user_id);
        let replaced = self.cache.change(|accounts| accounts.insert(user_id.to_owned(), Arc::new(account.clone())))?;
        self.flights().remove(user_id);
        match replaced.filter(|old| (&old.oid, &old.tid) != (&account.oid, &account.tid)) {
            Some(old) => {
                Ok(format!("{message} The account {} that had this name before is signed out here.", old.username))
            }
            None => Ok(message),
        }
    }

    // ---- Acquiring a token ----

    /// The account of `user_id`, its access token good for use now; without a `user_id`, the only
    /// signed-in account.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`], and whatever keeps a token from being refreshed.
    pub fn acquire(&self, user_id: Option<&str>) -> Result<(String, Arc<Account>), Failure> {
        let user_id = self.choose(user_id)?;
        let account = self.usable(&user_id)?;
        if self.is_fresh(&account) {
            return Ok((user_id, account));
        }
        let account = self.refreshed(&user_id, account)?;
        Ok((user_id, account))
    }

    /// The `user_id` that is meant.
    fn choose(&self, user_id: Option<&str>) -> Result<String, Failure> {
        if let Some(user_id) = user_id {
            return Ok(user_id.to_owned());
        }
        let mut names = self.accounts()?.into_keys();
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Failure::new(Kind::SignInRequired, "Nobody is signed in.")),
            (Some(first), Some(second)) => {
                let names: Vec<String> = [first, second].into_iter().chain(names).collect();
                Err(Failure::new(
                    Kind::InvalidRequest,
                    format!("Several accounts are signed in: {}.", names.join(", ")),
                )
                .hint("Say which one is meant with user_id."))
            }
        }
    }

    fn usable(&self, user_id: &str) -> Result<Arc<Account>, Failure> {
        self.cache
            .get(user_id)?
            .filter(|account| self.is_ours(account))
            .ok_or_else(|| Failure::new(Kind::SignInRequired, format!("{user_id} is not signed in.")))
    }

    /// Tokens of another application are left alone: they may be wanted again.
    fn is_ours(&self, account: &Account) -> bool {
        account.client_id == self.config.client_id
    }

    fn is_valid(&self, account: &Account) -> bool {
        account.requested_scope == self.config.scopes.requested() && account.expires_at > self.now()
    }

    fn is_fresh(&self, account: &Account) -> bool {
        let now = self.now();
        self.is_valid(account)
            && account.expires_at > now + REFRESH_MARGIN
            && account.refresh_at.is_none_or(|at| at > now)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Flight>>>> {
        locked(&self.flights)
    }

    /// Refreshes, unless somebody else did while we waited for our turn.
    fn refreshed(&self, user_id: &str, stale: Arc<Account>) -> Result<Arc<Account>, Failure> {
        let flight = Arc::clone(self.flights().entry(user_id.to_owned()).or_default());
        let mut flight = locked(&flight);
        match self.refresh_in_turn(user_id, &mut flight) {
            // Entra cannot be had: what is left of the old token serves.
            Err(failure) if matches!(failure.kind, Kind::RetryLater | Kind::Configuration) && self.is_valid(&stale) => {
                Ok(stale)
            }
            result => result,
        }
    }

    fn refresh_in_turn(&self, user_id: &str, flight: &mut Flight) -> Result<Arc<Account>, Failure> {
        let account = self.usable(user_id)?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        if let Some((until, failure)) = flight.closed.as_ref().filter(|(until, _)| *until > self.now()) {
            return Err(failure.clone().retry_after(Duration::from_secs(until - self.now())));
        }
        let _lock = self.cache.lock_refresh(user_id)?;
        self.cache.reload()?;
        let account = self.usable(user_id)?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        let result = self.refresh(user_id, &account);
        flight.closed = match &result {
            Err(failure) => failure.retry_after.map(|wait| (self.now() + wait.as_secs(), failure.clone())),
            Ok(_) => None,
        };
        result
    }

    fn refresh(&self, user_id: &str, account: &Arc<Account>) -> Result<Arc<Account>, Failure> {
        let Some(refresh_token) = &account.refresh_token else {
            return if self.is_valid(account) {
                Ok(Arc::clone(account))
            } else {
                Err(Failure::new(Kind::SignInRequired, format!("The sign-in of {user_id} has ended.")))
            };
        };
        let form = token::refresh(&self.config.client_id, &self.config.scopes, refresh_token);
        let response = match self.entra.token(form) {
            Ok(response) => response,
            Err(error) => return Err(self.refresh_failed(user_id, refresh_token, error)),
        };
        let now = self.now();
        let account = Arc::new(Account {
            requested_scope: self.config.scopes.requested().to_owned(),
            granted_scope: response.scope,
            access_token: response.access_token,
            expires_at: now + response.expires_in,
            refresh_at: response.refresh_in.map(|seconds| now + seconds),
            // A response without a refresh token keeps the last one (RFC 6749 §6).
            refresh_token: response.refresh_token.or_else(|| account.refresh_token.clone()),
            ..Account::clone(account)
        });
        let kept = self.cache.change(|accounts| replace(accounts, user_id, refresh_token, Some(&account)))?;
        if !kept {
            return Err(Failure::new(Kind::SignInRequired, format!("{user_id} was signed out meanwhile.")));
        }
        log::info!("the tokens of {user_id} were refreshed");
        Ok(account)
    }

    /// A refresh token that Entra refuses for good is dropped; all else is kept.
    fn refresh_failed(&self, user_id: &str, refresh_token: &Secret, error: TokenError) -> Failure {
        let is_final = matches!(&error, TokenError::Oauth(error) if error.remedy() == Remedy::SignIn);
        let failure = self.explain(error, "the refresh");
        log::warn!("the tokens of {user_id} could not be refreshed: {}", failure.text());
        if is_final
            && let Err(write_failure) = self.cache.change(|accounts| replace(accounts, user_id, refresh_token, None))
        {
            return write_failure;
        }
        failure
    }

    // ---- Asking and signing out ----

    /// Every account of this application, by `user_id`.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn accounts(&self) -> Result<Accounts, Failure> {
        let mut accounts = self.cache.all()?;
        accounts.retain(|_, account| self.is_ours(account));
        Ok(accounts)
    }

    /// Whether a call with the account would go through without a new sign-in.
    #[must_use]
    pub fn is_signed_in(&self, account: &Account) -> bool {
        account.refresh_token.is_some() || self.is_valid(account)
    }

    /// Forgets the tokens of `user_id` (of the only account, without one) on the disk and in memory;
    /// gives its `user_id`.
    ///
    /// # Errors
    /// Nobody, or several to choose from; the file cannot be written.
    pub fn sign_out(&self, user_id: Option<&str>) -> Result<String, Failure> {
        let user_id = self.choose(user_id)?;
        let removed = self.cache.change(|accounts| accounts.remove(&user_id))?;
        self.pending.forget(&user_id);
        self.flights().remove(&user_id);
        match removed {
            Some(_) => {
                log::info!("{user_id} was signed out");
                Ok(user_id)
            }
            None => Err(Failure::new(
                Kind::InvalidRequest,
                format!("{user_id} is not signed in, so there is nothing to forget."),
            )),
        }
    }

    /// Where the browser's own session with Entra is ended. It revokes no token.
    #[must_use]
    pub fn logout_url(&self) -> Url {
        self.config.authority.logout_endpoint()
    }

    /// What an error of Entra means here.
    fn explain(&self, error: TokenError, purpose: &str) -> Failure {
        error.into_failure(purpose, |error: &OauthError| self.remedy(error))
    }

    fn remedy(&self, error: &OauthError) -> String {
        let registration = Registration {
            client_id: &self.config.client_id,
            tenant: self.config.authority.tenant().segment(),
            redirect_uri: &self.config.redirect_uri().text,
            scopes: self.config.scopes.requested(),
            authority: &self.config.authority.origin(),
        };
        error.aadsts.and_then(|number| aadsts::hint(number, &registration)).unwrap_or_else(|| {
            match error.remedy() {
                Remedy::SignIn => "Sign in again.",
                Remedy::Retry => "Try again later.",
                Remedy::Accept => "Sign in again if that was not meant, or ask an administrator.",
                Remedy::Configure => "Check the settings and the app registration.",
            }
            .to_owned()
        })
    }
}

/// Replaces the account of `user_id`, or drops its refresh token; not when another process has
/// meanwhile signed it out or replaced the refresh token that ours came from.
fn replace(accounts: &mut Accounts, user_id: &str, used: &Secret, with: Option<&Arc<Account>>) -> bool {
    let Some(current) = accounts.get_mut(user_id) else { return false };
    if !current.refresh_token.as_ref().is_some_and(|token| token.matches(used.expose())) {
        return false;
    }
    *current = match with {
        Some(account) => Arc::clone(account),
        None => Arc::new(Account { refresh_token: None, ..Account::clone(current) }),
    };
    true
}

fn is_address(user_id: &str) -> bool {
    user_id.contains('@')
}

fn untrusted(reason: &str) -> Failure {
    Failure::new(Kind::Refused, format!("Entra's answer did not fit the sign-in: {reason}. Nothing was stored."))
        .hint("Start again; if it persists, check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST.")
}

fn check_user_id(user_id: &str) -> Result<(), Failure> {
    let fits = !user_id.trim().is_empty()
        && user_id.chars().count() <= MOST_USER_ID_CHARS
        && !user_id.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Failure::new(
        Kind::InvalidRequest,
        format!("user_id must have 1 to {MOST_USER_ID_CHARS} characters, none of them a control character."),
    ))
}
