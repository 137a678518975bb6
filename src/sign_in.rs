//! Signing people in, keeping their tokens fresh, signing them out.
//!
//! Invariants: an access token leaves [`SignIn::acquire`] only when the refresh token that came with
//! it is on the disk; at most one refresh of an account is on its way to Entra, in this process and
//! in all that share the token file; no lock that another account needs is held across the network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use url::Url;

use crate::clock::Clock;
use crate::config::Config;
use crate::entra::{self, Entra};
use crate::error::{Failure, Kind};
use crate::oauth::callback::AuthorizationResponse;
use crate::oauth::id_token::{self, Identity};
use crate::oauth::token::TokenResponse;
use crate::oauth::{authorize, token};
use crate::pending::{Attempt, Outcome, PendingSignIns};
use crate::secret::Secret;
use crate::sync::locked;
use crate::token_cache::{Account, Accounts, TokenCache};

/// What Entra has refused is not sent again for so long, as MSAL does it (AADSTS50196).
const PAUSE: Duration = Duration::from_secs(60);
/// A token is refreshed so long before it expires, in seconds.
const REFRESH_MARGIN: u64 = 300;
/// The longest `user_id`, in characters.
const MAX_USER_ID: usize = 256;

/// An account's turns at the token endpoint. Until the time inside (seconds since 1970) Entra wants to
/// be left alone, for that reason.
type Flight = Arc<Mutex<Option<(u64, Failure)>>>;

/// The state of all sign-ins.
pub struct SignIn {
    config: Arc<Config>,
    clock: Clock,
    entra: Entra,
    cache: TokenCache,
    pending: PendingSignIns,
    flights: Mutex<HashMap<String, Flight>>,
}

impl SignIn {
    /// Opens the token file of `config`.
    ///
    /// # Errors
    /// Those of [`TokenCache::open`].
    pub fn new(config: Arc<Config>, clock: Clock) -> Result<Self, Failure> {
        let path = &config.token_cache_file;
        let cache = TokenCache::open(path, clock.clone(), &config.client_id, config.scopes.requested())?;
        Ok(Self {
            entra: Entra::new(&config),
            config,
            clock,
            cache,
            pending: PendingSignIns::default(),
            flights: Mutex::default(),
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

    /// Begins a sign-in of `user_id`.
    ///
    /// # Errors
    /// A `user_id` that cannot be one; no randomness.
    pub fn begin(&self, user_id: &str) -> Result<Arc<Attempt>, Failure> {
        let is_too_long = user_id.chars().count() > MAX_USER_ID;
        if is_too_long || user_id.trim().is_empty() || user_id.chars().any(char::is_control) {
            let rule = format!("user_id must have 1 to {MAX_USER_ID} characters, none of them a control character.");
            return Err(Failure::new(Kind::InvalidRequest, rule));
        }
        self.pending.begin(user_id, self.now())
    }

    /// A sign-in of `user_id` for a client to show the link to: one that is still on offer, or a new one.
    ///
    /// # Errors
    /// Those of [`SignIn::begin`].
    pub fn offer(&self, user_id: &str) -> Result<Arc<Attempt>, Failure> {
        self.pending.offered(user_id, self.now()).map_or_else(|| self.begin(user_id), Ok)
    }

    /// The link to a sign-in. It is ours, not Entra's: short, good for one browser, and nothing leaks
    /// from it.
    pub fn link(&self, attempt: &Attempt) -> String {
        format!("{}/auth/login?ticket={}", self.config.redirect_uri.origin, attempt.ticket.expose())
    }

    /// Opens a ticket; gives the browser's way to Entra.
    ///
    /// # Errors
    /// Those of [`PendingSignIns::open`].
    pub fn open(&self, ticket: &str, cookie: impl Fn(&str) -> Option<String>) -> Result<(Arc<Attempt>, Url), Failure> {
        let attempt = self.pending.open(ticket, self.now(), cookie)?;
        let login_hint = Some(attempt.user_id.as_str()).filter(|user_id| is_address(user_id));
        let url = authorize::url(&self.config.application(), self.config.response_mode, &attempt.proofs, login_hint);
        Ok((attempt, url))
    }

    /// Completes the sign-in `handle` in the browser that sent `cookie`.
    ///
    /// # Errors
    /// Why there is nothing to complete; how the sign-in ended stands inside.
    pub fn complete(&self, handle: &str, cookie: Option<&str>) -> Result<Outcome, Failure> {
        let (attempt, response) = match self.pending.redeem(handle, cookie, self.now())? {
            Ok(returned) => returned,
            Err(outcome) => return Ok(outcome),
        };
        let outcome = self.redeem(&attempt, response);
        match &outcome {
            Ok(message) => log::info!("{message}"),
            Err(failure) => log::warn!("sign-in of {} failed: {}", attempt.user_id, failure.text()),
        }
        self.pending.end(handle, outcome.clone());
        Ok(outcome)
    }

    fn redeem(&self, attempt: &Attempt, response: AuthorizationResponse) -> Outcome {
        const PURPOSE: &str = "the sign-in";
        let Attempt { user_id, proofs, .. } = attempt;
        // RFC 9207 §2.4: before the code is redeemed and before an error is believed.
        let issuer = response.issuer.as_deref();
        if issuer.is_some_and(|issuer| !self.config.authority.may_be_issuer(issuer)) {
            return Err(untrusted("it names another issuer"));
        }
        let code = response.outcome.map_err(|error| entra::refusal(&self.config, &error, PURPOSE))?;
        let form = token::redeem(&self.config.application(), &code, &proofs.code_verifier);
        let tokens = self.entra.token(&self.config, form, PURPOSE)?;
        let identity = self.identify(&tokens, &proofs.nonce)?;
        if issuer.is_some_and(|issuer| issuer != self.config.authority.issuer(&identity.tid)) {
            return Err(untrusted("it names another issuer"));
        }
        if is_address(user_id) && !identity.has_address(user_id) {
            let signed_in = &identity.username;
            let message = format!("You signed in as {signed_in}, not as {user_id}. Nothing was stored.");
            return Err(Failure::new(Kind::Refused, message)
                .hint(format!("Sign in as {user_id}, or begin a sign-in for {signed_in}.")));
        }
        self.store(attempt, identity, tokens)
    }

    fn identify(&self, tokens: &TokenResponse, nonce: &Secret) -> Result<Identity, Failure> {
        let id_token = tokens.id_token.as_ref().ok_or_else(|| untrusted("there is no ID token in it"))?;
        let identity = id_token::check(id_token, &self.config.client_id, &self.config.authority, nonce, self.now())
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
            signed_in_at: self.now(),
            ..Account::default()
        };
        let account = Arc::new(self.with_tokens(account, tokens));
        // Asked under the lock of the file: a sign-out first forgets the sign-ins, then changes the file.
        let insert = |accounts: &mut Accounts| {
            self.pending.holds(&attempt.handle).then(|| accounts.insert(user_id.clone(), Arc::clone(&account)))
        };
        let Some(replaced) = self.cache.change(insert)? else {
            return Err(Failure::new(
                Kind::Refused,
                format!("{user_id} was signed out meanwhile. Nothing was stored."),
            ));
        };
        locked(&self.flights).remove(user_id);
        let message = format!("{} is signed in as {user_id}.", account.username);
        let other = replaced.filter(|old| (&old.oid, &old.tid) != (&account.oid, &account.tid));
        let also =
            other.map(|old| format!(" The account {} that had this name before is signed out here.", old.username));
        Ok(message + &also.unwrap_or_default())
    }

    /// The account with what Entra just issued.
    fn with_tokens(&self, account: Account, tokens: TokenResponse) -> Account {
        let now = self.now();
        Account {
            requested_scope: self.config.scopes.requested().to_owned(),
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

    /// The account of `user_id` (without one, the only signed-in account), its access token good for
    /// use now.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`], and whatever keeps a token from being refreshed.
    pub fn acquire(&self, user_id: Option<&str>) -> Result<Arc<Account>, Failure> {
        let user_id = self.choose(user_id)?;
        let account = self.usable(&user_id)?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        let flight = Arc::clone(locked(&self.flights).entry(user_id.clone()).or_default());
        let mut closed = locked(&flight);
        match self.refresh_in_turn(&user_id, &mut closed) {
            // Entra cannot be had: what is left of the token serves, if it is still there.
            Err(failure) if failure.kind != Kind::SignInRequired => {
                Some(self.usable(&user_id)?).filter(|account| self.is_valid(account)).ok_or(failure)
            }
            result => result,
        }
    }

    /// The `user_id` that is meant: the given one, or that of the only account.
    ///
    /// # Errors
    /// There is no account, or several.
    pub fn choose(&self, user_id: Option<&str>) -> Result<String, Failure> {
        if let Some(user_id) = user_id {
            return Ok(user_id.to_owned());
        }
        let names: Vec<String> = self.accounts()?.into_keys().collect();
        match names.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Failure::new(Kind::SignInRequired, "Nobody is signed in.")),
            several => {
                let message = format!("Several accounts are signed in: {}.", several.join(", "));
                Err(Failure::new(Kind::InvalidRequest, message).hint("Say which one is meant with user_id."))
            }
        }
    }

    fn usable(&self, user_id: &str) -> Result<Arc<Account>, Failure> {
        let account = self.cache.get(user_id)?.filter(|account| self.is_ours(account));
        account.ok_or_else(|| Failure::new(Kind::SignInRequired, format!("{user_id} is not signed in.")))
    }

    /// Tokens of another application are left alone: they may be wanted again.
    fn is_ours(&self, account: &Account) -> bool {
        account.client_id == self.config.client_id
    }

    fn is_valid(&self, account: &Account) -> bool {
        !account.access_token.expose().is_empty()
            && account.requested_scope == self.config.scopes.requested()
            && account.expires_at > self.now()
    }

    fn is_fresh(&self, account: &Account) -> bool {
        let now = self.now();
        self.is_valid(account)
            && account.expires_at > now + REFRESH_MARGIN
            && account.refresh_at.is_none_or(|refresh_at| refresh_at > now)
    }

    /// Refreshes, unless somebody else did while we waited for our turn. What has just failed is not tried
    /// again for a while.
    fn refresh_in_turn(&self, user_id: &str, closed: &mut Option<(u64, Failure)>) -> Result<Arc<Account>, Failure> {
        let account = self.usable(user_id)?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        if let Some((until, failure)) = closed.as_ref().filter(|(until, _)| *until > self.now()) {
            return Err(failure.clone().retry_after(Duration::from_secs(until.saturating_sub(self.now()))));
        }
        let result = self.cache.lock_refresh(user_id).and_then(|_lock| self.refresh(user_id));
        let failure = result.as_ref().err().filter(|failure| failure.kind != Kind::SignInRequired).cloned();
        *closed = failure.map(|failure| (self.now() + failure.retry_after.unwrap_or(PAUSE).as_secs(), failure));
        result
    }

    /// Only under the account's lock: asks Entra, unless another process has.
    fn refresh(&self, user_id: &str) -> Result<Arc<Account>, Failure> {
        self.cache.reload()?;
        let account = self.usable(user_id)?;
        if self.is_fresh(&account) {
            return Ok(account);
        }
        let Some(refresh_token) = &account.refresh_token else {
            let ended = || Failure::new(Kind::SignInRequired, format!("The sign-in of {user_id} has ended."));
            return Some(account).filter(|account| self.is_valid(account)).ok_or_else(ended);
        };
        let form = token::refresh(&self.config.application(), refresh_token);
        let old = Account::clone(&account);
        let (new, result) = match self.entra.token(&self.config, form, "the refresh") {
            Ok(tokens) => {
                let new = Arc::new(self.with_tokens(old, tokens));
                (Arc::clone(&new), Ok(new))
            }
            Err(failure) => {
                log::warn!("the tokens of {user_id} could not be refreshed: {}", failure.text());
                if failure.kind != Kind::SignInRequired {
                    return Err(failure);
                }
                // Refused for good: the tokens are dropped.
                let (access_token, expires_at) = (Secret::default(), self.now());
                (Arc::new(Account { access_token, expires_at, refresh_token: None, ..old }), Err(failure))
            }
        };
        if self.cache.change(|accounts| replace(accounts, user_id, refresh_token, new))? {
            return result.inspect(|_| log::info!("the tokens of {user_id} were refreshed"));
        }
        // The person signed in anew, or out, meanwhile: that counts.
        self.usable(user_id)
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
    pub fn is_signed_in(&self, account: &Account) -> bool {
        account.refresh_token.is_some() || self.is_valid(account)
    }

    /// Forgets the tokens of `user_id` (without one, of the only account) on the disk and in memory;
    /// gives its `user_id`.
    ///
    /// # Errors
    /// Nobody, or several to choose from; the file cannot be written.
    pub fn sign_out(&self, user_id: Option<&str>) -> Result<String, Failure> {
        let user_id = self.choose(user_id)?;
        self.pending.forget(&user_id);
        locked(&self.flights).remove(&user_id);
        let forget = |accounts: &mut Accounts| {
            accounts.get(&user_id).is_some_and(|account| self.is_ours(account)) && accounts.remove(&user_id).is_some()
        };
        if !self.cache.change(forget)? {
            let message = format!("{user_id} is not signed in, so there is nothing to forget.");
            return Err(Failure::new(Kind::InvalidRequest, message));
        }
        log::info!("{user_id} was signed out");
        Ok(user_id)
    }
}

/// Puts `new` in place of the account that `refresh_token` was read from; not when that was meanwhile
/// signed out, or its refresh token replaced.
fn replace(accounts: &mut Accounts, user_id: &str, refresh_token: &Secret, new: Arc<Account>) -> bool {
    let is_same = |current: &Secret| current.matches(refresh_token.expose());
    let current = accounts.get_mut(user_id).filter(|current| current.refresh_token.as_ref().is_some_and(is_same));
    current.map(|current| *current = new).is_some()
}

fn is_address(user_id: &str) -> bool {
    user_id.contains('@')
}

fn untrusted(reason: &str) -> Failure {
    Failure::new(Kind::Refused, format!("Entra's answer did not fit the sign-in: {reason}. Nothing was stored."))
        .hint("Start again; if it persists, check AZURE_TENANT_ID and AZURE_AUTHORITY_HOST.")
}
