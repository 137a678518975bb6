//! From "a call needs a token" to the token: memory, the gate, a refresh.

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::accounts::{RefusedRefresh, not_signed_in};
use super::challenge::Claims;
use super::id_token::Person;
use super::request::Requirements;
use super::token_endpoint::{self, DEFAULT_RETRY, OauthError, Refusal, TokenResponse};
use super::{Auth, Chosen, PAUSE};
use crate::audit::{Entry, Event};
use crate::error::{Failure, Kind};

/// A token is refreshed so long before it expires, in seconds.
const REFRESH_MARGIN: u64 = 300;
/// Refused refreshes that are remembered for each account; then no other claims are asked for.
const MOST_REFUSED: usize = 16;
/// Refreshes that the API gets in a minute, for each account.
const MOST_RENEWED: usize = 16;
const PURPOSE: &str = "the refresh";

/// How a refresh ended.
enum Refresh {
    /// With a good token: just fetched, or fetched by another call while this one waited its turn.
    Refreshed(Arc<Account>),
    /// There is no refresh token.
    NothingToRefreshWith,
    /// Entra, or the way to it, gives no token now.
    RefusedForNow(Failure),
    /// Entra wants the person.
    SignInRequired(Failure),
    /// The person signed in anew, or out, meanwhile.
    Superseded,
}

/// Why a token is wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// The account with the token that the API does not take, if it is that.
    rejected: Option<&'a Account>,
    /// The claims that the token must have.
    claims: Option<&'a Claims>,
    /// What the client calls itself, for the audit log.
    client: &'a str,
}

impl Auth {
    /// The account of who was `chosen`, with an access token that is good now. If Entra has to be
    /// asked, that is on record as of a client that calls itself `client`.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`], and whatever keeps a token from being refreshed.
    pub fn acquire(&self, chosen: &Chosen, client: &str) -> Result<Arc<Account>, Failure> {
        let user_id = chosen.user_id.as_str();
        let Some(account) = &chosen.account else {
            return Err(not_signed_in(user_id));
        };
        self.accounts.retry();
        if self.is_fresh(account) {
            return Ok(Arc::clone(account));
        }
        let Some(gate) = self.accounts.gate(user_id) else {
            return Err(not_signed_in(user_id));
        };
        let _turn = match gate.try_enter() {
            Some(turn) => turn,
            // Another call is refreshing: what is left of the token serves.
            None if self.is_valid(account) => return Ok(Arc::clone(account)),
            None => gate.enter(),
        };
        let wanted = Wanted {
            rejected: None,
            claims: None,
            client,
        };
        let failure = match self.refresh(user_id, wanted) {
            Refresh::Refreshed(refreshed) => return still_of_one(user_id, account, refreshed),
            Refresh::NothingToRefreshWith => Failure::new(
                Kind::SignInRequired,
                format!("The sign-in of {user_id} has ended."),
            ),
            Refresh::RefusedForNow(failure) | Refresh::SignInRequired(failure) => failure,
            Refresh::Superseded => not_signed_in(user_id),
        };
        // What is left of the token serves, unless the refusal has ended it.
        match self
            .account(user_id)
            .filter(|current| self.is_valid(current))
        {
            Some(current) => still_of_one(user_id, account, current),
            None => Err(failure),
        }
    }

    /// Another token in place of that of `rejected`, which the API does not take: one with the
    /// `claims` of its challenge, if it has made one. Entra is asked only if it `may_refresh`.
    /// `None` means that the API's answer stands.
    ///
    /// # Errors
    /// A sign-in is due, or Entra refuses what the API wants.
    pub fn renew(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        claims: Option<&Claims>,
        may_refresh: bool,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let wanted = Wanted {
            rejected: Some(rejected),
            claims,
            client,
        };
        let renewed = if may_refresh {
            self.renewed(user_id, rejected, wanted)
        } else {
            Ok(None)
        };
        let refused = match renewed {
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
        self.note(
            user_id,
            Requirements {
                wanted: Some(claims.clone()),
                claims: Some(claims.clone()),
                ..Requirements::default()
            },
        );
        Err(Failure::new(
            Kind::SignInRequired,
            "The API wants a further check of the user.",
        ))
    }

    /// A token that was fetched for the API. `None` if there was one a moment ago and the API does not
    /// take that either, if it has had too many in the last minute, or if there is no refresh token.
    fn renewed(
        &self,
        user_id: &str,
        rejected: &Account,
        wanted: Wanted<'_>,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let gate = self
            .accounts
            .gate(user_id)
            .ok_or_else(|| not_signed_in(user_id))?;
        let _turn = gate.enter();
        let account = self
            .account(user_id)
            .ok_or_else(|| not_signed_in(user_id))?;
        let account = still_of_one(user_id, rejected, account)?;
        if self.is_fresh(&account) && !has_token_of(&account, rejected) {
            return Ok(Some(account));
        }
        if !self.may_renew(user_id, wanted.claims) {
            return Ok(None);
        }
        match self.refresh(user_id, wanted) {
            Refresh::Refreshed(refreshed) => {
                let now = self.now();
                self.accounts.with_slot(user_id, |slot| {
                    slot.renewed.push((now, wanted.claims.cloned()));
                });
                still_of_one(user_id, rejected, refreshed).map(Some)
            }
            Refresh::NothingToRefreshWith => Ok(None),
            Refresh::RefusedForNow(failure) | Refresh::SignInRequired(failure) => Err(failure),
            Refresh::Superseded => {
                let current = self
                    .account(user_id)
                    .filter(|current| self.is_valid(current));
                let current = current.ok_or_else(|| not_signed_in(user_id))?;
                still_of_one(user_id, rejected, current).map(Some)
            }
        }
    }

    /// Whether Entra may be asked for a token with `claims` because the API wants one: not for the
    /// same twice in a minute, and not too often in all.
    fn may_renew(&self, user_id: &str, claims: Option<&Claims>) -> bool {
        let now = self.now();
        let may_renew = self.accounts.with_slot(user_id, |slot| {
            slot.renewed
                .retain(|(at, _)| (*at..at + PAUSE.as_secs()).contains(&now));
            let is_repeated = slot
                .renewed
                .iter()
                .any(|(_, asked)| asked.as_ref() == claims);
            let refused = slot
                .refused
                .iter()
                .filter(|refused| refused.during.contains(&now));
            let is_refused = refused
                .clone()
                .any(|refused| refused.claims.as_ref() == claims);
            let is_often_refused = refused.count() >= MOST_REFUSED && !is_refused;
            slot.renewed.len() < MOST_RENEWED && !is_repeated && !is_often_refused
        });
        may_renew.unwrap_or(false)
    }

    /// Whether `user_id` has just signed in for `claims`.
    fn has_signed_in_for(&self, user_id: &str, claims: &Claims) -> bool {
        let now = self.now();
        let account = self.account(user_id);
        let is_recent = account.is_some_and(|account| now < account.signed_in_at + PAUSE.as_secs());
        is_recent
            && self.pending.has_success(user_id, |requirements| {
                let wanted = requirements.wanted.as_ref();
                wanted.is_some_and(|wanted| wanted.is_like(claims))
            })
    }

    /// Whether its token is good and need not be refreshed yet.
    fn is_fresh(&self, account: &Account) -> bool {
        let now = self.now();
        self.is_valid(account)
            && account.expires_at > now + REFRESH_MARGIN
            && account.refresh_at.is_none_or(|refresh_at| refresh_at > now)
    }

    // ---- The refresh, by whoever has passed the gate ----

    fn refresh(&self, user_id: &str, wanted: Wanted<'_>) -> Refresh {
        let Some(account) = self.account(user_id) else {
            return Refresh::Superseded;
        };
        let is_rejected = wanted
            .rejected
            .is_some_and(|rejected| has_token_of(&account, rejected));
        if self.is_fresh(&account) && !is_rejected {
            return Refresh::Refreshed(account);
        }
        let Some(refresh_token) = &account.refresh_token else {
            return Refresh::NothingToRefreshWith;
        };
        if let Some(refused) = self.refused_before(user_id, wanted.claims) {
            return refused;
        }
        let form =
            token_endpoint::refresh(&self.config.application(), refresh_token, wanted.claims);
        let mut entry = Entry::new(Event::Refresh, user_id, wanted.client);
        entry.account = Some(Arc::clone(&account));
        let answer = self.token_endpoint.token(&self.config, form, PURPOSE);
        entry.failed(answer.as_ref().err().map(Refusal::failure));
        let recorded = self.audit.record(&entry);
        let refresh = match answer {
            Ok(tokens) => self.store_refreshed(user_id, &account, tokens, wanted.claims),
            Err(refusal) => self.note_refused(user_id, &account, refusal, wanted.claims),
        };
        match (refresh, recorded) {
            // Tokens that Entra has issued are kept all the same.
            (Refresh::Refreshed(_), Err(unrecorded)) => Refresh::RefusedForNow(unrecorded),
            (refresh, _) => refresh,
        }
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
        // OpenID Connect Core §12.2: an ID token must be of the same issuer, application and person.
        // An account that does not know its person learns it here.
        if tokens.id_token.is_some() || account.person.is_none() {
            match self.identify(&tokens, None) {
                Ok(identity) if is_same_person(account, &identity.person) => {
                    refreshed.person = Some(identity.person);
                    refreshed.username = identity.username;
                    refreshed.name = identity.name;
                }
                Ok(_) => return Refresh::SignInRequired(of_somebody_else(user_id)),
                Err(failure) => {
                    log::warn!(
                        "the refresh of {user_id} brought nothing: {}",
                        failure.text()
                    );
                    return Refresh::SignInRequired(Failure {
                        kind: Kind::SignInRequired,
                        ..failure
                    });
                }
            }
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
        self.accounts.with_slot(user_id, |slot| {
            slot.refused
                .retain(|refused| refused.claims.as_ref() != claims);
            // It has brought what a sign-in was wanted for.
            if matches!(&slot.due, Some(due) if due.requirements.wanted.as_ref() == claims) {
                slot.due = None;
            }
        });
        log::info!("the tokens of {user_id} were refreshed");
        Refresh::Refreshed(refreshed)
    }

    /// Takes note of a refusal, so that the same is not asked again for a while, and ends what it ends.
    fn note_refused(
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
        let mut due = None;
        if let Some(error) = &error {
            if !self.end_tokens(user_id, account, error, claims) {
                return Refresh::Superseded;
            }
            let requirements = error.requirements(&Requirements {
                wanted: claims.cloned(),
                claims: claims.cloned(),
                ..Requirements::default()
            });
            self.note(user_id, requirements.clone());
            due = Some(requirements);
        }
        let pause = failure.retry_after.unwrap_or(match failure.kind {
            Kind::RetryLater => DEFAULT_RETRY,
            _ => PAUSE,
        });
        let now = self.now();
        self.accounts.with_slot(user_id, |slot| {
            // What is over and was for some calls only says nothing of the account any more.
            slot.refused.retain(|refused| {
                let is_same = refused.claims.as_ref() == claims;
                !is_same && (refused.claims.is_none() || refused.during.contains(&now))
            });
            let refused = RefusedRefresh {
                during: now..now + pause.as_secs(),
                claims: claims.cloned(),
                failure: failure.clone(),
                due,
            };
            slot.refused.insert(0, refused);
        });
        if error.is_some() {
            Refresh::SignInRequired(failure)
        } else {
            Refresh::RefusedForNow(failure)
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
        let mut ended = Account::clone(account);
        if error.ends_refresh_token() {
            ended.refresh_token = None;
        } else if claims.is_some() {
            // The token at hand is as good for other calls as it was.
            let current = self.account(user_id);
            return current.is_some_and(|current| Arc::ptr_eq(&current, account));
        }
        // Nobody shall find a token that goes through once more.
        ended.access_token = None;
        self.accounts.replace(user_id, account, &Arc::new(ended))
    }

    /// What Entra has refused a moment ago is not asked for again.
    fn refused_before(&self, user_id: &str, claims: Option<&Claims>) -> Option<Refresh> {
        let now = self.now();
        let (failure, due, until) = self.accounts.with_slot(user_id, |slot| {
            let refused = slot.refused.iter().find(|refused| {
                let is_same = refused.claims.as_ref() == claims;
                refused.during.contains(&now)
                    && (is_same || refused.failure.kind == Kind::RetryLater)
            })?;
            Some((
                refused.failure.clone(),
                refused.due.clone(),
                refused.during.end,
            ))
        })??;
        if let Some(requirements) = due {
            self.note(user_id, requirements);
        }
        if failure.kind == Kind::SignInRequired {
            return Some(Refresh::SignInRequired(failure));
        }
        let left = Duration::from_secs(until.saturating_sub(now));
        Some(Refresh::RefusedForNow(failure.retry_after(left)))
    }

    /// Whether Entra has refused the last refresh of `user_id` for a reason that does not pass by
    /// itself.
    pub(super) fn is_refresh_refused(&self, user_id: &str) -> bool {
        let is_refused = self.accounts.with_slot(user_id, |slot| {
            let mut refused = slot.refused.iter();
            refused
                .any(|refused| refused.claims.is_none() && refused.failure.kind != Kind::RetryLater)
        });
        is_refused.unwrap_or(false)
    }
}

/// `now`, if it is of the same person as it was `before`: a call is made as who it was meant to be
/// made as.
fn still_of_one(
    user_id: &str,
    before: &Account,
    now: Arc<Account>,
) -> Result<Arc<Account>, Failure> {
    // An account of the Python server may not know its person.
    if before.person.is_none() || before.person == now.person {
        return Ok(now);
    }
    Err(Failure::new(
        Kind::RetryLater,
        format!("Somebody else has just signed in as {user_id}."),
    )
    .hint("Nothing was called. Call again only if it is to be done as them."))
}

/// Whether both have the same access token.
fn has_token_of(account: &Account, other: &Account) -> bool {
    match (&account.access_token, &other.access_token) {
        (Some(token), Some(other)) => token.matches(other.expose()),
        (None, None) => true,
        _ => false,
    }
}

fn is_same_person(account: &Account, person: &Person) -> bool {
    account.person.as_ref().is_none_or(|known| known == person)
}

fn of_somebody_else(user_id: &str) -> Failure {
    Failure::new(
        Kind::SignInRequired,
        format!("Entra has answered the refresh of {user_id} with tokens of somebody else. Nothing was stored."),
    )
    .hint("Sign in again; if it persists, tell whoever runs this server.")
}
