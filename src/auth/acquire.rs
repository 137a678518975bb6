//! From "a call needs a token" to the token: memory, the gate, a refresh.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::accounts::{Due, Gate, RefusedRefresh};
use super::challenge::Claims;
use super::oauth_error::OauthError;
use super::pending::LIFETIME;
use super::request::Requirements;
use super::token_endpoint::{self, DEFAULT_RETRY, Refusal, TokenResponse};
use super::{Auth, Chosen, PAUSE};
use crate::audit::{Entry, Event};
use crate::error::{Failure, Kind};

/// So often in a minute Entra is asked for a token of one account because the API wants another
/// one.
const MOST_ASKED: usize = 16;
const PURPOSE: &str = "the refresh";

/// How a refresh ended.
enum Refresh {
    /// The account has a good token: just fetched, or fetched by another call meanwhile.
    Refreshed(Arc<Account>),
    /// There is none to be had: Entra wants the person, or is not to be had itself.
    Refused(Failure),
    /// The person signed in anew, or out, meanwhile.
    Superseded,
}

impl Auth {
    // ---- A token for a call ----

    /// The account of who was `chosen`, with an access token that is good now. If Entra has to be
    /// asked, that is on record as of a client that calls itself `client`.
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
        let failure = match self.refresh_if_due(user_id, &gate, client) {
            Refresh::Refreshed(refreshed) => return still_of_one(user_id, account, refreshed),
            Refresh::Refused(failure) => failure,
            Refresh::Superseded => not_signed_in(user_id),
        };
        // Who signed out meanwhile is told that, and not why the refresh failed.
        let current = self.account(user_id);
        let current = current.ok_or_else(|| not_signed_in(user_id))?;
        // What is left of the token serves, unless the refusal has ended it.
        if self.is_valid(&current) {
            return still_of_one(user_id, account, current);
        }
        Err(failure)
    }

    /// Refreshes the account behind `gate`, which the caller has passed, if that is still due.
    fn refresh_if_due(&self, user_id: &str, gate: &Gate, client: &str) -> Refresh {
        match self.accounts.behind(user_id, gate) {
            Some(account) if self.is_fresh(&account) => Refresh::Refreshed(account),
            Some(account) => match self.refused_before(user_id, None) {
                Some(failure) if account.refresh_token.is_some() => Refresh::Refused(failure),
                _ => self.refresh(user_id, &account, None, client),
            },
            None => Refresh::Superseded,
        }
    }

    // ---- Another token, for an API that does not take the one it was sent ----

    /// Another token in place of that of `rejected`: one with the `claims` of the API's challenge,
    /// if it has made one. Entra is asked only if it `may_refresh`. `None`: the API's answer
    /// stands.
    pub fn renew(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        claims: Option<&Claims>,
        may_refresh: bool,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let another = if may_refresh {
            self.another_token(user_id, client, rejected, claims)
        } else {
            Ok(None)
        };
        let refused = match another {
            Ok(Some(account)) => return Ok(Some(account)),
            Ok(None) => None,
            Err(failure) if matches!(failure.kind, Kind::SignInRequired | Kind::Refused) => {
                Some(failure)
            }
            // Then the API's own words are the better answer.
            Err(_) => return Ok(None),
        };
        let Some(claims) = claims else {
            return refused.map_or(Ok(None), Err);
        };
        // Who has just signed in for these claims is not asked again at once.
        if self.has_signed_in_for(user_id, claims) {
            return Ok(None);
        }
        if let Some(failure) = refused {
            return Err(failure);
        }
        // What no refresh has brought, a sign-in may bring.
        self.note(user_id, for_claims(Some(claims)));
        Err(Failure::new(
            Kind::SignInRequired,
            "The API wants a further check of the user.",
        ))
    }

    /// A token that was fetched for the API. `None` if there was one a moment ago and the API does
    /// not take that either, if it has had too many in the last minute, or if there is no refresh
    /// token.
    fn another_token(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        claims: Option<&Claims>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let gate = self.accounts.gate(user_id);
        let gate = gate.ok_or_else(|| not_signed_in(user_id))?;
        let _turn = gate.enter();
        let account = self
            .account(user_id)
            .ok_or_else(|| not_signed_in(user_id))?;
        let account = still_of_one(user_id, rejected, account)?;
        if self.is_fresh(&account) && !has_token_of(&account, rejected) {
            return Ok(Some(account));
        }
        if account.refresh_token.is_none() {
            return Ok(None);
        }
        if let Some(failure) = self.refused_before(user_id, claims) {
            return Err(failure);
        }
        if !self.may_ask(user_id, claims) {
            return Ok(None);
        }
        let refresh = match self.accounts.behind(user_id, &gate) {
            Some(account) => self.refresh(user_id, &account, claims, client),
            None => Refresh::Superseded,
        };
        match refresh {
            Refresh::Refreshed(refreshed) => still_of_one(user_id, rejected, refreshed).map(Some),
            Refresh::Refused(failure) => Err(failure),
            Refresh::Superseded => {
                let current = self.account(user_id).filter(|now| self.is_valid(now));
                let current = current.ok_or_else(|| not_signed_in(user_id))?;
                still_of_one(user_id, rejected, current).map(Some)
            }
        }
    }

    /// Whether Entra may be asked for a token with `claims` because the API wants one: not for the
    /// same twice in a minute, and not too often in all. If it may, that counts.
    fn may_ask(&self, user_id: &str, claims: Option<&Claims>) -> bool {
        let now = self.now();
        let may_ask = self.accounts.with_slot(user_id, |slot| {
            slot.asked
                .retain(|(at, _)| (*at..at + PAUSE.as_secs()).contains(&now));
            let is_repeated = slot
                .asked
                .iter()
                .any(|(_, before)| before.as_ref() == claims);
            if is_repeated || slot.asked.len() >= MOST_ASKED {
                return false;
            }
            slot.asked.push((now, claims.cloned()));
            true
        });
        may_ask.unwrap_or(false)
    }

    /// Whether `user_id` has just signed in for `claims`.
    fn has_signed_in_for(&self, user_id: &str, claims: &Claims) -> bool {
        let now = self.now();
        let account = self.account(user_id);
        let is_recent = account.is_some_and(|account| now < account.signed_in_at + PAUSE.as_secs());
        let is_like = |wanted: &Claims| wanted.is_like(claims);
        is_recent
            && self.pending.has_success(user_id, |requirements| {
                requirements.wanted.as_ref().is_some_and(is_like)
            })
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
        let Some(refresh_token) = &account.refresh_token else {
            let message = format!("The sign-in of {user_id} has ended.");
            return Refresh::Refused(Failure::new(Kind::SignInRequired, message));
        };
        let form = token_endpoint::refresh(&self.config.application(), refresh_token, claims);
        let mut entry = Entry::new(Event::Refresh, user_id, client);
        entry.account = Some(Arc::clone(account));
        let refreshed = match self.token_endpoint.token(&self.config, form, PURPOSE) {
            Ok(tokens) => self.store_refreshed(user_id, account, tokens, claims),
            Err(refusal) => self.note_refusal_of(user_id, account, refusal, claims),
        };
        match &refreshed {
            // An account of the Python server knows its person now.
            Refresh::Refreshed(refreshed) => entry.account = Some(Arc::clone(refreshed)),
            Refresh::Refused(failure) => entry.failed(Some(failure)),
            Refresh::Superseded => entry.failed(Some(&not_signed_in(user_id))),
        }
        // Tokens that Entra has issued are kept all the same. Whoever calls the API asks the audit
        // log once more before.
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
                Err(failure) => return self.note_unfit(user_id, account, &failure.message, claims),
            };
            let known = account.person.as_ref();
            if known.is_some_and(|person| *person != identity.person) {
                let message = "Entra has answered the refresh with tokens of somebody else. Nothing was stored.";
                return self.note_unfit(user_id, account, message, claims);
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
            slot.refused = None;
            // It has brought what a sign-in was wanted for.
            if matches!(&slot.due, Some(due) if due.requirements.wanted.as_ref() == claims) {
                slot.due = None;
            }
        });
        log::info!("the tokens of {user_id} were refreshed");
        Refresh::Refreshed(refreshed)
    }

    /// Takes note that what Entra has issued is not for `account`. The tokens at hand stay as they
    /// are.
    fn note_unfit(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        message: &str,
        claims: Option<&Claims>,
    ) -> Refresh {
        log::warn!("the refresh of {user_id} brought nothing: {message}");
        let failure = Failure::new(Kind::SignInRequired, message)
            .hint("Sign in again; if it persists, tell whoever runs this server.");
        let due = Some(for_claims(claims));
        if self.remember_refused(user_id, account, &failure, claims, due) {
            Refresh::Refused(failure)
        } else {
            Refresh::Superseded
        }
    }

    /// Takes note of a refusal, and ends what it ends.
    fn note_refusal_of(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        refusal: Refusal,
        claims: Option<&Claims>,
    ) -> Refresh {
        let failure = refusal.failure().clone();
        log::warn!(
            "the tokens of {user_id} could not be refreshed: {}",
            failure.text()
        );
        let error = match refusal {
            Refusal::Oauth(error, _) if error.kind() == Kind::SignInRequired => Some(error),
            _ => None,
        };
        let due = error
            .as_ref()
            .map(|error| error.requirements(&for_claims(claims)));
        let is_of_account = self.remember_refused(user_id, account, &failure, claims, due)
            && error.is_none_or(|error| self.end_tokens(user_id, account, &error, claims));
        if is_of_account {
            Refresh::Refused(failure)
        } else {
            Refresh::Superseded
        }
    }

    /// Ends the tokens that Entra has just refused. `false` if they are the account's no longer.
    fn end_tokens(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        error: &OauthError,
        claims: Option<&Claims>,
    ) -> bool {
        let is_ended = error.ends_refresh_token();
        if claims.is_some() && !is_ended {
            // The token at hand is as good for other calls as it was.
            return true;
        }
        let mut ended = Account::clone(account);
        // Nobody shall find a token that goes through once more.
        ended.access_token = None;
        ended.expires_at = ended.expires_at.min(self.now());
        if is_ended {
            ended.refresh_token = None;
        }
        self.accounts.replace(user_id, account, &Arc::new(ended))
    }

    /// Remembers that a refresh of `account` with `claims` has failed, so that the same is not
    /// asked again for a while, and what a sign-in must bring instead. `false` if the person signed
    /// in anew, or out, meanwhile: the refusal says nothing of what they have now.
    fn remember_refused(
        &self,
        user_id: &str,
        account: &Arc<Account>,
        failure: &Failure,
        claims: Option<&Claims>,
        due: Option<Requirements>,
    ) -> bool {
        let pause = failure.retry_after.unwrap_or(match failure.kind {
            Kind::RetryLater => DEFAULT_RETRY,
            _ => PAUSE,
        });
        let now = self.now();
        let is_remembered = self.accounts.with_slot_of(user_id, account, |slot| {
            if let Some(requirements) = due.clone() {
                let until = now + LIFETIME;
                slot.due = Some(Due {
                    until,
                    requirements,
                });
            }
            slot.refused = Some(RefusedRefresh {
                during: now..now + pause.as_secs(),
                claims: claims.cloned(),
                failure: failure.clone(),
                due,
            });
        });
        is_remembered.is_some()
    }

    /// Why a refresh with `claims` is not tried now: what was refused a moment ago is not asked
    /// again.
    fn refused_before(&self, user_id: &str, claims: Option<&Claims>) -> Option<Failure> {
        let now = self.now();
        self.accounts.with_slot(user_id, |slot| {
            let refused = slot.refused.as_ref()?;
            let is_same = refused.claims.as_ref() == claims;
            let is_outage = refused.failure.kind == Kind::RetryLater;
            if !refused.during.contains(&now) || !(is_same || is_outage) {
                return None;
            }
            let left = Duration::from_secs(refused.during.end - now);
            let failure = refused.failure.clone();
            let failure = match failure.kind {
                Kind::SignInRequired => failure,
                _ => failure.retry_after(left),
            };
            // The person may have declined it meanwhile; this call needs it all the same.
            if let Some(requirements) = refused.due.clone() {
                let until = now + LIFETIME;
                slot.due = Some(Due {
                    until,
                    requirements,
                });
            }
            Some(failure)
        })?
    }
}

/// What a sign-in must bring for an API that wants `claims`.
fn for_claims(claims: Option<&Claims>) -> Requirements {
    Requirements {
        wanted: claims.cloned(),
        claims: claims.cloned(),
        ..Requirements::default()
    }
}

/// Whether both have the same access token.
fn has_token_of(account: &Account, other: &Account) -> bool {
    match (&account.access_token, &other.access_token) {
        (Some(token), Some(other)) => token.matches(other.expose()),
        (None, None) => true,
        _ => false,
    }
}

/// `now`, if it is of the same person as it was `before`: a call is made as who it was meant to be
/// made as.
fn still_of_one(
    user_id: &str,
    before: &Account,
    now: Arc<Account>,
) -> Result<Arc<Account>, Failure> {
    // An account of the Python server may not know its person. It learns it in a refresh, which is
    // no new sign-in.
    let is_one = match &before.person {
        Some(person) => now.person.as_ref() == Some(person),
        None => now.signed_in_at == before.signed_in_at,
    };
    if is_one {
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
