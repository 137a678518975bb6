//! A sign-in, from the link to the stored account; and signing out.

use std::sync::Arc;

use url::Url;

use super::account::Account;
use super::accounts::Due;
use super::id_token::{self, Identity};
use super::oauth_error::OauthError;
use super::pending::{
    Answer, Attempt, Browser, Completion, Delivery, LIFETIME, Method, Outcome, Shows, wrong_browser,
};
use super::request::{self, Prompt, Requirements};
use super::response::AuthorizationResponse;
use super::standing::binding;
use super::token_endpoint::{self, Refusal, TokenResponse};
use super::{Auth, Chosen, DEFAULT_USER_ID};
use crate::audit::{Entry, Event};
use crate::error::{Failure, Kind};
use crate::secret::Secret;
use crate::text;

/// The longest `user_id`, in characters.
const MAX_USER_ID: usize = 256;
const PURPOSE: &str = "the sign-in";

/// What a browser is sent on with.
pub struct Opened {
    /// Names the sign-in.
    pub handle: String,
    /// The value of the cookie that binds it to the browser.
    pub cookie: Secret,
    /// The authorization request.
    pub url: Url,
}

impl Auth {
    // ---- Asking for a sign-in ----

    /// A sign-in of `user_id` that a client shows the link to, which must bring `requirements`: one
    /// that nobody has opened yet, or a new one.
    pub fn offer(
        &self,
        user_id: &str,
        requirements: Requirements,
    ) -> Result<Arc<Attempt>, Failure> {
        check_user_id(user_id)?;
        match self.pending.offered(user_id, &requirements, false) {
            Some(attempt) => Ok(attempt),
            None => self.pending.begin(user_id, requirements),
        }
    }

    /// Begins a sign-in of `user_id` in the browser that asks for it, and opens it there.
    pub fn begin(&self, user_id: &str) -> Result<Opened, Failure> {
        check_user_id(user_id)?;
        let requirements = self.next_requirements(user_id, None);
        let (attempt, browser) = self.pending.begin_opened(user_id, requirements)?;
        Ok(self.opened(&attempt, &browser))
    }

    /// What a sign-in of `user_id` that is begun now must bring: what is due, with `prompt` if
    /// there is one.
    pub fn next_requirements(&self, user_id: &str, prompt: Option<Prompt>) -> Requirements {
        let due = self.due(user_id).unwrap_or_default();
        Requirements {
            prompt: prompt.or(due.prompt),
            ..due
        }
    }

    /// The same for a call that was made in the name of `user_id`: the same person must sign in.
    pub fn next_requirements_of_call(&self, user_id: &str) -> Requirements {
        let account = self.account(user_id);
        Requirements {
            person: account.and_then(|account| account.person.clone()),
            ..self.next_requirements(user_id, None)
        }
    }

    /// Where the person goes to sign in. The link is ours, not Entra's: it is short, works in one
    /// browser, and nothing leaks from it. A device code is entered at Entra's own address.
    pub fn link(&self, attempt: &Attempt) -> Secret {
        match &attempt.method {
            Method::Browser { ticket } => {
                let login = format!("{}/auth/login?ticket=", self.config.redirect_uri.base());
                ticket.between(&login, "")
            }
            Method::DeviceCode(device) => Secret::new(device.verification_uri.to_string()),
        }
    }

    // ---- In the browser ----

    /// Opens the link with `ticket` in a browser that `shows` these cookies.
    pub fn open(&self, ticket: &str, shows: Shows<'_>) -> Result<Opened, Failure> {
        let (attempt, browser) = self.pending.open(ticket, shows)?;
        Ok(self.opened(&attempt, &browser))
    }

    /// What `browser`, which has opened the link of `attempt`, is sent on with.
    fn opened(&self, attempt: &Attempt, browser: &Browser) -> Opened {
        let login_hint = self.login_hint(&attempt.user_id, &attempt.requirements);
        let url = request::url(
            &self.config.application(),
            &browser.proofs,
            &attempt.requirements,
            login_hint.as_deref(),
        );
        Opened {
            handle: attempt.handle.clone(),
            cookie: browser.cookie.clone(),
            url,
        }
    }

    /// Whom the person is led to. If nothing is asked of the existing account, they choose.
    fn login_hint(&self, user_id: &str, requirements: &Requirements) -> Option<String> {
        if is_address(user_id) {
            return Some(user_id.to_owned());
        }
        let is_asked_of = requirements.prompt.is_some()
            || requirements.person.is_some()
            || self.due(user_id).is_some();
        let username = self.account(user_id)?.username.clone();
        (is_asked_of && !username.is_empty()).then_some(username)
    }

    /// Takes an authorization response from a browser; gives what the browser is sent on with to
    /// [`Auth::complete`]: the handle of the sign-in and the receipt. `shows` is given if the
    /// request carries cookies.
    pub fn deliver(
        &self,
        response: AuthorizationResponse,
        shows: Option<Shows<'_>>,
        client: &str,
    ) -> Result<(String, Secret), Failure> {
        match self.pending.deliver(response, shows)? {
            Delivery::Taken { handle, receipt } => Ok((handle, receipt)),
            Delivery::WrongBrowser(attempt) => Err(self.refuse_browser(&attempt, client)),
        }
    }

    /// Completes the sign-in `handle` in the browser that brings `receipt` and `shows` these
    /// cookies, and calls itself `client`.
    pub fn complete(&self, handle: &str, receipt: &str, shows: Shows<'_>, client: &str) -> Outcome {
        match self.pending.complete(handle, receipt, shows)? {
            Completion::Ended(outcome) => outcome,
            Completion::WrongBrowser(attempt) => Err(self.refuse_browser(&attempt, client)),
            Completion::Redeem(attempt, answer) => {
                let entry = Entry::new(Event::SignIn, &attempt.user_id, client);
                let outcome = match self.audit.ready() {
                    Ok(()) => self.redeem(&attempt, &answer),
                    Err(failure) => Err(failure),
                };
                self.end(&attempt, outcome, entry)
            }
        }
    }

    /// The browser that opened the link and the one that delivered the answer are two: somebody may
    /// be after the account of the person at the second. The sign-in ends.
    fn refuse_browser(&self, attempt: &Attempt, client: &str) -> Failure {
        let entry = Entry::new(Event::SignIn, &attempt.user_id, client);
        let _ = self.end(attempt, Err(wrong_browser()), entry);
        wrong_browser()
    }

    /// Notes how `attempt` ended, in the audit log with `entry`; gives what the person is told.
    pub(super) fn end(&self, attempt: &Attempt, outcome: Outcome, mut entry: Entry<'_>) -> Outcome {
        if outcome.is_ok() {
            entry.account = self.account(&attempt.user_id);
        }
        entry.failed(outcome.as_ref().err());
        let recorded = self.audit.record(&entry);
        let outcome = match (outcome, recorded) {
            (Ok(_), Err(unrecorded)) => Err(unrecorded),
            (outcome, _) => outcome,
        };
        match &outcome {
            Ok(message) => log::info!("{message}"),
            Err(failure) => log::warn!("sign-in of {} failed: {}", attempt.user_id, failure.text()),
        }
        self.pending.end(&attempt.handle, outcome.clone());
        outcome
    }

    // ---- From the answer to the account ----

    /// Redeems the code of `answer` and stores the account.
    fn redeem(&self, attempt: &Attempt, answer: &Answer) -> Outcome {
        let response = &answer.response;
        // RFC 9207 §2.4: before the code is redeemed and before an error is believed.
        let issuer = response.issuer.as_deref();
        if issuer.is_some_and(|issuer| !self.config.authority.may_be_issuer(issuer)) {
            return Err(untrusted(PURPOSE, "it names another issuer"));
        }
        let code = match &response.outcome {
            Ok(code) => code,
            Err(error) => {
                self.note_refusal(attempt, error);
                return Err(error.failure(&self.config.application(), PURPOSE));
            }
        };
        let proofs = &answer.browser.proofs;
        let form = token_endpoint::redeem(
            &self.config.application(),
            code,
            &proofs.code_verifier,
            attempt.requirements.claims.as_ref(),
        );
        let tokens = match self.token_endpoint.token(form, PURPOSE) {
            Ok(tokens) => tokens,
            Err(Refusal { failure, error }) => {
                if let Some(error) = error {
                    self.note_refusal(attempt, &error);
                }
                return Err(failure);
            }
        };
        let identity = self.identify(&tokens, Some(&proofs.nonce), PURPOSE)?;
        self.accept(attempt, identity, tokens)
    }

    /// If Entra wants the person once more, the next sign-in asks for the claims that it names, or
    /// that the API has demanded. The person and the prompt of this sign-in are not carried over.
    pub(super) fn note_refusal(&self, attempt: &Attempt, error: &OauthError) {
        let requirements = Requirements {
            prompt: None,
            person: None,
            ..error.requirements(&attempt.requirements)
        };
        if error.kind() == Kind::SignInRequired && requirements != Requirements::default() {
            self.note(&attempt.user_id, requirements);
        }
    }

    /// Notes what the next sign-in of `user_id` must bring.
    pub(super) fn note(&self, user_id: &str, requirements: Requirements) {
        let until = self.now() + LIFETIME;
        self.accounts.note(
            user_id,
            Due {
                until,
                requirements,
            },
        );
    }

    /// Who signed in, as the ID token in `tokens` says.
    pub(super) fn identify(
        &self,
        tokens: &TokenResponse,
        nonce: Option<&Secret>,
        purpose: &str,
    ) -> Result<Identity, Failure> {
        let Some(id_token) = &tokens.id_token else {
            return Err(untrusted(purpose, "there is no ID token in it"));
        };
        let client_id = &self.config.client_id;
        let authority = &self.config.authority;
        id_token::check(id_token, client_id, authority, nonce).map_err(|reason| {
            let reason = format!("the ID token does not fit, because {reason}");
            untrusted(purpose, &reason)
        })
    }

    /// Stores what Entra issued for `attempt`, if it is for the person who was meant.
    pub(super) fn accept(
        &self,
        attempt: &Attempt,
        identity: Identity,
        tokens: TokenResponse,
    ) -> Outcome {
        let user_id = &attempt.user_id;
        let signed_in = &identity.username;
        if is_address(user_id) && !identity.has_address(user_id) {
            let message =
                format!("You signed in as {signed_in}, not as {user_id}. Nothing was stored.");
            return Err(Failure::new(Kind::Refused, message).hint(format!(
                "Sign in as {user_id}, or begin a sign-in for {signed_in}."
            )));
        }
        let meant = attempt.requirements.person.as_ref();
        if meant.is_some_and(|person| *person != identity.person) {
            let message = format!(
                "You signed in as {signed_in}, who is not the person known as {user_id} here. Nothing was stored."
            );
            return Err(Failure::new(Kind::Refused, message).hint(format!(
                "Sign in as that person, or give {signed_in} a name of its own with authenticate_user."
            )));
        }
        self.store(attempt, self.new_account(identity, tokens))
    }

    fn new_account(&self, identity: Identity, tokens: TokenResponse) -> Account {
        let now = self.now();
        Account {
            binding: binding(&self.config),
            person: Some(identity.person),
            username: identity.username,
            name: identity.name,
            requested_scope: self.config.scopes.requested().to_owned(),
            granted_scope: tokens.scope,
            access_token: Some(tokens.access_token),
            expires_at: now + tokens.expires_in,
            refresh_at: tokens.refresh_in.map(|seconds| now + seconds),
            refresh_token: tokens.refresh_token,
            signed_in_at: now,
            cookies: Arc::default(),
        }
    }

    fn store(&self, attempt: &Attempt, account: Account) -> Outcome {
        let user_id = &attempt.user_id;
        let account = Arc::new(account);
        let api_claims = attempt.requirements.api_claims.as_ref();
        let check = || self.check_wanted(attempt, &account);
        let before = self
            .accounts
            .sign_in(user_id, &account, api_claims, check)?;
        let message = success(user_id, &account);
        let Some(other) = before.filter(|before| before.person != account.person) else {
            return Ok(message);
        };
        let username = &other.username;
        Ok(format!(
            "{message} The account {username} that had this name before is signed out here."
        ))
    }

    /// Refuses to store `account` if `attempt` was given up, or if a browser would make it a second
    /// account of a person who is signed in. (A client that gives them another label has a reason.)
    fn check_wanted(&self, attempt: &Attempt, account: &Account) -> Result<(), Failure> {
        let user_id = &attempt.user_id;
        if !self.pending.holds(&attempt.handle) {
            let message = format!(
                "The sign-in of {user_id} was given up or signed out meanwhile. Nothing was stored."
            );
            return Err(Failure::new(Kind::Refused, message)
                .hint("Start again from a new link, if you want to sign in."));
        }
        if !attempt.is_from_browser {
            return Ok(());
        }
        let mut theirs = self.accounts();
        theirs.retain(|_, other| other.person == account.person);
        if theirs.contains_key(user_id) {
            return Ok(());
        }
        let mut labels = theirs.into_keys();
        match labels.find(|label| self.standing(label).is_signed_in()) {
            None => Ok(()),
            Some(label) => {
                let username = &account.username;
                let message = format!(
                    "{username} has an account here already: {label}. No second one was made."
                );
                Err(Failure::new(Kind::Refused, message).hint(format!(
                    "Use {label} as the user_id, or choose another account on Microsoft's page."
                )))
            }
        }
    }

    // ---- Signing out ----

    /// Forgets the tokens of `user_id` (without one, of the only account) on the disk and in
    /// memory, for a client that calls itself `client`; gives its `user_id`.
    pub fn sign_out(&self, user_id: Option<&str>, client: &str) -> Result<String, Failure> {
        let Chosen { user_id, account } = match self.choose(user_id) {
            Err(nobody) if nobody.kind == Kind::SignInRequired => {
                return Err(nothing_to_forget("Nobody is signed in"));
            }
            chosen => chosen?,
        };
        self.audit.ready()?;
        let mut entry = Entry::new(Event::SignOut, &user_id, client);
        self.pending.forget(&user_id);
        let forgotten = self.accounts.sign_out(&user_id);
        // The record says whose tokens were forgotten, or should have been.
        entry.account = match &forgotten {
            Ok(account) => account.clone(),
            Err(_) => account,
        };
        entry.failed(forgotten.as_ref().err());
        let recorded = match &entry.account {
            Some(_) => self.audit.record(&entry),
            None => Ok(()),
        };
        if forgotten?.is_none() {
            return Err(nothing_to_forget(&format!("{user_id} is not signed in")));
        }
        log::info!("{user_id} was signed out");
        recorded.map(|()| user_id)
    }
}

/// What a sign-in that went well is answered with.
pub(crate) fn success(user_id: &str, account: &Account) -> String {
    success_of(user_id, &account.username)
}

/// The same for the person whom Entra calls `username`. The label is named where it says more.
pub(crate) fn success_of(user_id: &str, username: &str) -> String {
    if username.is_empty() {
        format!("{user_id} is signed in.")
    } else if user_id == DEFAULT_USER_ID || user_id.eq_ignore_ascii_case(username) {
        format!("{username} is signed in.")
    } else {
        format!("{username} is signed in. Clients call this account {user_id}.")
    }
}

pub(crate) fn check_user_id(user_id: &str) -> Result<(), Failure> {
    let is_too_long = user_id.chars().count() > MAX_USER_ID;
    if is_too_long || user_id.trim().is_empty() || !text::is_plain_label(user_id) {
        let rule = format!(
            "user_id must have 1 to {MAX_USER_ID} characters, none of them invisible or a control character."
        );
        return Err(Failure::new(Kind::InvalidRequest, rule)
            .hint("Use a short name or the person's address, or leave user_id out."));
    }
    Ok(())
}

fn is_address(user_id: &str) -> bool {
    user_id.contains('@')
}

fn untrusted(purpose: &str, reason: &str) -> Failure {
    Failure::new(
        Kind::Refused,
        format!("Entra's answer did not fit {purpose}: {reason}. Nothing was stored."),
    )
    .hint("Start again; if it persists, check AZURE_TENANT_ID and AZURE_CLOUD or AZURE_AUTHORITY_HOST.")
}

fn nothing_to_forget(who: &str) -> Failure {
    Failure::new(
        Kind::InvalidRequest,
        format!("{who}, so there is nothing to forget."),
    )
    .hint("check_auth_status lists the accounts that are signed in.")
}
