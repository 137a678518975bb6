//! From "a call needs a token" to the token: memory, the gate, a refresh.

use std::sync::Arc;

use super::account::Account;
use super::accounts::Due;
use super::asked::{Came, PAUSE};
use super::challenge::Claims;
use super::oauth_error::OauthError;
use super::pending::LIFETIME;
use super::request::Requirements;
use super::token_endpoint::{self, DEFAULT_RETRY, Refusal, TokenResponse};
use super::{Auth, Chosen};
use crate::audit::{Entry, Event};
use crate::error::{Failure, Kind};

const PURPOSE: &str = "the refresh";

/// How a refresh ended.
enum Refresh {
    /// The account has a good token.
    Refreshed(Arc<Account>),
    /// There is none to be had: Entra wants the person, or is not to be had itself.
    Refused(Failure),
    /// The person signed in anew, or out, meanwhile.
    Superseded,
}

impl Auth {
    // ---- A token for a call ----

    /// The account of who was `chosen`, with an access token that is good now. A refresh is on
    /// record as asked for by a client that calls itself `client`.
    pub fn acquire(&self, chosen: &Chosen, client: &str) -> Result<Arc<Account>, Failure> {
        let user_id = chosen.user_id.as_str();
        let Some(account) = &chosen.account else {
            return Err(not_signed_in(user_id));
        };
        self.accounts.retry();
        if self.is_fresh(account) {
            return Ok(Arc::clone(account));
        }
        let gate = self.accounts.gate(user_id);
        let gate = gate.ok_or_else(|| not_signed_in(user_id))?;
        let _turn = match gate.try_enter() {
            Some(turn) => turn,
            // Another call is refreshing: what is left of the token serves.
            None if self.is_valid(account) => return Ok(Arc::clone(account)),
            None => gate.enter(),
        };
        let refresh = match self.accounts.behind(user_id, &gate) {
            // Another call has refreshed it.
            Some(current) if self.is_fresh(&current) => Refresh::Refreshed(current),
            Some(current) => self.refresh(user_id, &current, None, client),
            None => Refresh::Superseded,
        };
        let current = match refresh {
            Refresh::Refreshed(refreshed) => refreshed,
            // What is left of the token serves, unless the refusal has ended it.
            Refresh::Refused(failure) => self.valid_account(user_id).ok_or(failure)?,
            Refresh::Superseded => self.account_after_new_sign_in(user_id)?,
        };
        if is_still_of(&current, account) {
            return Ok(current);
        }
        let message = format!("Somebody else has just signed in as {user_id}.");
        Err(Failure::new(Kind::RetryLater, message)
            .hint("Nothing was called. Call again only if it is to be done as them."))
    }

    /// The account of `user_id`, if its token is good.
    fn valid_account(&self, user_id: &str) -> Option<Arc<Account>> {
        self.account(user_id)
            .filter(|account| self.is_valid(account))
    }

    /// The account of `user_id`, who has just signed in anew, or out.
    fn account_after_new_sign_in(&self, user_id: &str) -> Result<Arc<Account>, Failure> {
        let account = self.valid_account(user_id);
        account.ok_or_else(|| not_signed_in(user_id))
    }

    // ---- Another token, for an API that does not take the one it was sent ----

    /// Another token in place of that of `rejected`, for the same person: one with the `claims` of
    /// the API's challenge, if it has made one. `None`: there is none, and the API's own words are
    /// the better answer.
    pub fn renew(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        claims: Option<&Claims>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let gate = self.accounts.gate(user_id);
        let gate = gate.ok_or_else(|| not_signed_in(user_id))?;
        let _turn = gate.enter();
        let renewed = match self.accounts.behind(user_id, &gate) {
            // Another call has refreshed it.
            Some(current) if self.is_valid(&current) && !has_token_of(&current, rejected) => {
                Some(current)
            }
            Some(current) => self.another(user_id, client, &current, claims)?,
            None => Some(self.account_after_new_sign_in(user_id)?),
        };
        Ok(renewed.filter(|renewed| is_still_of(renewed, rejected)))
    }

    /// The same for an account that nobody has refreshed since.
    fn another(
        &self,
        user_id: &str,
        client: &str,
        current: &Arc<Account>,
        claims: Option<&Claims>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let was_asked = matches!(self.asked_before(user_id, claims), Some(Came::Tokens));
        if was_asked || current.refresh_token.is_none() {
            return self.person_is_wanted(user_id, claims);
        }
        match self.refresh(user_id, current, claims, client) {
            Refresh::Refreshed(refreshed) => Ok(Some(refreshed)),
            Refresh::Superseded => self.account_after_new_sign_in(user_id).map(Some),
            Refresh::Refused(failure) => {
                let is_for_person = matches!(failure.kind, Kind::SignInRequired | Kind::Refused);
                if is_for_person && !self.has_signed_in_for(user_id, claims) {
                    return Err(failure);
                }
                Ok(None)
            }
        }
    }

    /// No refresh brings what the API wants. A sign-in is asked for if the API has named `claims`.
    fn person_is_wanted(
        &self,
        user_id: &str,
        claims: Option<&Claims>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        if claims.is_none() || self.has_signed_in_for(user_id, claims) {
            return Ok(None);
        }
        self.note(user_id, Requirements::for_api(claims));
        Err(Failure::new(
            Kind::SignInRequired,
            "The API wants a further check of the user.",
        ))
    }

    /// Whether `user_id` has just signed in for `claims`. They are not asked to do it again at
    /// once.
    fn has_signed_in_for(&self, user_id: &str, claims: Option<&Claims>) -> bool {
        let Some(account) = self.account(user_id) else {
            return false;
        };
        if claims.is_none() || self.now() >= account.signed_in_at + PAUSE.as_secs() {
            return false;
        }
        let is_for_them = self
            .accounts
            .with_slot(user_id, |slot| slot.signed_in_for.as_ref() == claims);
        is_for_them == Some(true)
    }

    /// What came of it, if Entra was asked for a token of `user_id` with `claims` a moment ago.
    fn asked_before(&self, user_id: &str, claims: Option<&Claims>) -> Option<Came> {
        let now = self.now();
        self.accounts
            .with_slot(user_id, |slot| slot.asked.before(now, claims))?
    }

    // ---- The refresh, by whoever has passed the gate ----

    /// Asks Entra for fresh tokens of `account`, once, and notes on the account what came of it.
    fn refresh(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        claims: Option<&Claims>,
        client: &str,
    ) -> Refresh {
        if let Some(Came::Refusal(failure)) = self.asked_before(user_id, claims) {
            return Refresh::Refused(failure);
        }
        let Some(refresh_token) = &account.refresh_token else {
            let message = format!("The sign-in of {user_id} has ended.");
            return Refresh::Refused(Failure::new(Kind::SignInRequired, message));
        };
        let form = token_endpoint::refresh(&self.config.application(), refresh_token, claims);
        let mut entry = Entry::new(Event::Refresh, user_id, client);
        entry.account = Some(Arc::clone(account));
        let refreshed = match self.token_endpoint.token(form, PURPOSE) {
            Ok(tokens) => self.store_refreshed(user_id, account, tokens, claims),
            Err(refusal) => self.refused(user_id, account, claims, refusal),
        };
        match &refreshed {
            // An account of the Python server knows its person now.
            Refresh::Refreshed(refreshed) => entry.account = Some(Arc::clone(refreshed)),
            Refresh::Refused(failure) => entry.failed(Some(failure)),
            Refresh::Superseded => entry.failed(Some(&not_signed_in(user_id))),
        }
        // If it cannot be recorded, the tokens are kept all the same: the call of the API asks the
        // audit log once more before it sends them.
        let _ = self.audit.record(&entry);
        refreshed
    }

    /// Stores what Entra has issued in place of `account`.
    fn store_refreshed(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        tokens: TokenResponse,
        claims: Option<&Claims>,
    ) -> Refresh {
        let mut refreshed = Account::clone(account);
        // OpenID Connect Core §12.2: an ID token must be of the same issuer, application and
        // person. An account that does not know its person learns it here.
        if tokens.id_token.is_some() || account.person.is_none() {
            let identity = match self.identify(&tokens, None, PURPOSE) {
                Ok(identity) => identity,
                Err(failure) => return self.unfit(user_id, account, claims, failure),
            };
            let known = account.person.as_ref();
            if known.is_some_and(|person| *person != identity.person) {
                let message = "Entra has answered the refresh with tokens of somebody else. Nothing was stored.";
                let failure = Failure::new(Kind::Refused, message)
                    .hint("Sign in again; if it persists, tell whoever runs this server.");
                return self.unfit(user_id, account, claims, failure);
            }
            refreshed.person = Some(identity.person);
            refreshed.username = identity.username;
            refreshed.name = identity.name;
        }
        let now = self.now();
        self.config
            .scopes
            .requested()
            .clone_into(&mut refreshed.requested_scope);
        refreshed.granted_scope = tokens.scope;
        refreshed.access_token = Some(tokens.access_token);
        refreshed.expires_at = now + tokens.expires_in;
        refreshed.refresh_at = tokens.refresh_in.map(|seconds| now + seconds);
        // A response without a refresh token keeps the last one (RFC 6749 §6).
        if tokens.refresh_token.is_some() {
            refreshed.refresh_token = tokens.refresh_token;
        }
        let refreshed = Arc::new(refreshed);
        if !self.accounts.replace(user_id, account, &refreshed) {
            return Refresh::Superseded;
        }
        self.accounts.with_slot_of(user_id, &refreshed, |slot| {
            slot.asked.note(now, PAUSE, claims, Came::Tokens);
            // It has brought what a sign-in was wanted for.
            let is_met = |due: &mut Due| due.requirements.api_claims.as_ref() == claims;
            slot.due.take_if(is_met);
        });
        log::info!("the tokens of {user_id} were refreshed");
        Refresh::Refreshed(refreshed)
    }

    /// What Entra has issued is not for `account`, as `failure` says. The tokens at hand stay as
    /// they are, and the person is asked to sign in.
    fn unfit(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        claims: Option<&Claims>,
        failure: Failure,
    ) -> Refresh {
        let failure = Failure {
            kind: Kind::SignInRequired,
            ..failure
        };
        let refusal = Refusal {
            failure,
            error: None,
        };
        self.refused(user_id, account, claims, refusal)
    }

    /// Notes that a refresh of `account` was refused, by Entra or by us, and ends the tokens that
    /// this ends. If the person signed in anew, or out, meanwhile, it says nothing of what they
    /// have now.
    fn refused(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        claims: Option<&Claims>,
        refusal: Refusal,
    ) -> Refresh {
        let Refusal { failure, error } = refusal;
        log::warn!(
            "the tokens of {user_id} could not be refreshed: {}",
            failure.text()
        );
        let now = self.now();
        let pause = failure.retry_after.unwrap_or(match failure.kind {
            Kind::RetryLater => DEFAULT_RETRY,
            _ => PAUSE,
        });
        let mut requirements = Requirements::for_api(claims);
        if let Some(error) = &error {
            requirements = error.requirements(&requirements);
        }
        let is_noted = self.accounts.with_slot_of(user_id, account, |slot| {
            let is_due = slot.due.as_ref().is_some_and(|due| due.is_due(now));
            // A sign-in that is due is not replaced by one that must bring nothing.
            let is_more = !is_due || requirements != Requirements::default();
            if failure.kind == Kind::SignInRequired && is_more {
                let until = now + LIFETIME;
                slot.due = Some(Due {
                    until,
                    requirements,
                });
            }
            let came = Came::Refusal(failure.clone());
            slot.asked.note(now, pause, claims, came);
        });
        let mut is_still_theirs = is_noted.is_some();
        if let Some(ended) = error.and_then(|error| self.ended_by(&error, account, claims)) {
            is_still_theirs &= self.accounts.replace(user_id, account, &Arc::new(ended));
        }
        if is_still_theirs {
            Refresh::Refused(failure)
        } else {
            Refresh::Superseded
        }
    }

    /// `account` without the tokens that Entra's `error` has ended, if it has ended any.
    fn ended_by(
        &self,
        error: &OauthError,
        account: &Account,
        claims: Option<&Claims>,
    ) -> Option<Account> {
        // Some suberrors (`basic_action`) only want to see the person: the refresh token may serve
        // again, and the access token is as good as it was for calls that need no such claims.
        let is_ended = error.ends_refresh_token();
        let is_for_claims = claims.is_some() && !is_ended;
        if error.kind() != Kind::SignInRequired || is_for_claims {
            return None;
        }
        let mut ended = account.clone();
        // Entra wants the person before the next call: what is left of the token does not serve.
        ended.access_token = None;
        ended.expires_at = ended.expires_at.min(self.now());
        if is_ended {
            ended.refresh_token = None;
        }
        Some(ended)
    }
}

/// Whether both have the same access token.
fn has_token_of(account: &Account, other: &Account) -> bool {
    match (&account.access_token, &other.access_token) {
        (Some(token), Some(other)) => token.matches(other.expose()),
        _ => false,
    }
}

/// Whether `now` is of the same person as the account was `before`: a call is made as who it was
/// meant to be made as.
fn is_still_of(now: &Account, before: &Account) -> bool {
    match &before.person {
        Some(person) => now.person.as_ref() == Some(person),
        // An account of the Python server may not know its person. It learns it in a refresh,
        // which is no new sign-in.
        None => now.signed_in_at == before.signed_in_at,
    }
}

fn not_signed_in(user_id: &str) -> Failure {
    Failure::new(Kind::SignInRequired, format!("{user_id} is not signed in."))
}
