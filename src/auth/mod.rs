//! Signing people in with Microsoft Entra ID, and keeping their access tokens fresh. This is the
//! whole auth path; an auditor reads this page first, then the files in the order below.
//!
//! **A sign-in.** A client asks for a sign-in of `user_id` ([`Auth::offer`]) and shows the person a
//! link, `/auth/login?ticket=…`. The browser that opens it gets a cookie and is sent to Entra with
//! an authorization request: a state, a nonce and the challenge of a code verifier that only this
//! process knows ([`Auth::open`], [`request`]). Entra posts the authorization response to the
//! redirect URI ([`Auth::deliver`], [`response`]). The browser that delivered it is sent on to
//! `/auth/complete` with a receipt. If it has the receipt and the cookie, it is the browser that
//! opened the link: then the code is redeemed with the verifier, the ID token is checked against
//! the request, and the account is stored ([`Auth::complete`], [`pending`] has the reasons).
//!
//! **A call.** It asks for the account's access token ([`Auth::acquire`]). A token that is good for
//! five more minutes comes from memory. Otherwise one caller passes the account's gate and
//! refreshes; the others wait, or use what is left of the token. The new refresh token is on the
//! disk before the new access token is used. If the API refuses a token, or wants other claims,
//! [`Auth::renew`] gets another one. Where Entra wants the person, the call fails with
//! `SignInRequired`, and what the next sign-in must bring is kept with the account.
//!
//! **Who is who.** An account belongs to one application, one authority and one tenant, and is one
//! person (`tid` and `oid`). A refresh, or a sign-in that a call has asked for, must fit all of
//! that. If the settings change, an account that no longer fits stays in the file, unused; it still
//! fits if the tenant of the settings includes its `tid` for certain, as a GUID in place of the
//! domain name does ([`standing`]).
//!
//! **State** has two homes: [`accounts`], one slot for each account in one map that is written to
//! the [`token_file`], and [`pending`], the sign-ins that are under way. This process owns the
//! token file.
//!
//! **Invariants**
//! - An access token leaves the auth path through [`Auth::acquire`] and [`Auth::renew`] alone, and
//!   only after its account was written to the disk. If the disk fails, memory counts as written,
//!   and the account is written as soon as that is possible.
//! - At most one refresh of an account is on its way to Entra.
//! - No lock that another account needs is held across the network.
//! - A code is redeemed once, for a browser that has shown both secrets of its sign-in.
//!
//! The main line, in reading order: this page, [`request`], [`response`], [`pending`], [`sign_in`],
//! [`id_token`], [`token_endpoint`], [`accounts`], [`asked`], [`acquire`], and `routes/auth.rs`,
//! which is where browsers come in. The leaves, each a contract that is read once: [`account`],
//! [`token_file`], [`challenge`], [`authority`], [`scope`], [`oauth_error`], [`standing`],
//! [`waiting`], [`device_code`] with [`device_sign_in`], [`aadsts`], [`python_file`].

pub mod aadsts;
pub mod account;
pub(crate) mod accounts;
mod acquire;
mod asked;
pub mod authority;
pub mod challenge;
pub mod device_code;
mod device_sign_in;
pub mod id_token;
pub mod oauth_error;
pub(crate) mod pending;
mod python_file;
pub mod request;
pub mod response;
pub mod scope;
pub(crate) mod sign_in;
pub(crate) mod standing;
pub mod token_endpoint;
pub mod token_file;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::account::Account;
use self::accounts::Accounts;
use self::device_code::DeviceRefusal;
use self::pending::PendingSignIns;
use self::request::Requirements;
use self::standing::{Notes, Standing};
use self::token_endpoint::TokenEndpoint;
use self::token_file::TokenFile;
use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::owner::Owner;

/// A token is refreshed so long before it expires, in seconds.
const REFRESH_MARGIN: u64 = 300;

/// The label of an account where nobody has said one.
pub(crate) const DEFAULT_USER_ID: &str = "default";

/// Whom a call is for, and their account as it was when the call began.
pub(crate) struct Chosen {
    /// Their label.
    pub user_id: String,
    account: Option<Arc<Account>>,
}

/// The auth path: all that the rest of the program uses of it.
pub(crate) struct Auth {
    pub(crate) config: Arc<Config>,
    clock: Clock,
    /// Where sign-ins, refreshes and sign-outs are recorded.
    pub(crate) audit: AuditLog,
    token_endpoint: TokenEndpoint,
    accounts: Arc<Accounts>,
    pending: PendingSignIns,
    device_refusal: DeviceRefusal,
}

impl Auth {
    /// Reads the token file of `config`, which `owner` owns, and opens the audit log.
    ///
    /// # Errors
    /// Those of [`TokenFile::open`] and [`AuditLog::open`].
    pub fn start(config: Arc<Config>, clock: Clock, owner: Owner) -> Result<Self, Failure> {
        let (file, stored) = TokenFile::open(
            &config.token_cache_file,
            clock.clone(),
            &standing::binding(&config),
            config.scopes.requested(),
        )?;
        let accounts = Accounts::new(file, stored, owner, |account| {
            standing::fits(account, &config)
        });
        Ok(Self {
            audit: AuditLog::open(&config, clock.clone())?,
            token_endpoint: TokenEndpoint::new(Arc::clone(&config)),
            accounts: Arc::new(accounts),
            pending: PendingSignIns::new(clock.clone()),
            device_refusal: DeviceRefusal::default(),
            config,
            clock,
        })
    }

    /// Says at which origin this server can be spoken to; `None` when it stops.
    pub fn announce(&self, origin: Option<&str>) {
        self.accounts.announce(origin);
    }

    /// Ends the pending sign-ins, writes what the disk has not taken yet, and frees the token file.
    ///
    /// # Errors
    /// It still cannot be written: tokens that Entra has renewed are lost.
    pub fn close(&self) -> Result<(), Failure> {
        self.pending.close();
        self.accounts.close()
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The sign-ins that are under way.
    pub fn pending(&self) -> &PendingSignIns {
        &self.pending
    }

    /// Every account, by `user_id`.
    pub fn accounts(&self) -> BTreeMap<String, Arc<Account>> {
        self.accounts.all()
    }

    /// The account of `user_id`, signed in or not.
    pub fn account(&self, user_id: &str) -> Option<Arc<Account>> {
        self.accounts.get(user_id)
    }

    /// Why the token file does not hold what is in memory, if it does not.
    pub fn trouble(&self) -> Option<Failure> {
        self.accounts.trouble()
    }

    /// Who is meant: the given `user_id`, or that of the only account.
    ///
    /// # Errors
    /// There is no account, or several.
    pub fn choose(&self, user_id: Option<&str>) -> Result<Chosen, Failure> {
        if let Some(user_id) = user_id {
            return Ok(Chosen {
                user_id: user_id.to_owned(),
                account: self.account(user_id),
            });
        }
        let mut accounts = self.accounts();
        if accounts.len() > 1 {
            let names: Vec<String> = accounts.into_keys().collect();
            let message = format!("Several accounts are signed in: {}.", names.join(", "));
            return Err(Failure::new(Kind::InvalidRequest, message)
                .hint("Say which one is meant with user_id."));
        }
        match accounts.pop_first() {
            Some((user_id, account)) => Ok(Chosen {
                user_id,
                account: Some(account),
            }),
            None => Err(Failure::new(Kind::SignInRequired, "Nobody is signed in.")),
        }
    }

    /// How the account of `user_id` stands.
    pub fn standing(&self, user_id: &str) -> Standing {
        let Some(account) = self.account(user_id) else {
            return Standing::NotSignedIn;
        };
        let is_refused = self
            .accounts
            .with_slot(user_id, |slot| slot.asked.is_refused());
        let notes = Notes {
            is_due: self.due(user_id).is_some(),
            is_refresh_refused: is_refused.unwrap_or(false),
        };
        standing::of(&account, &self.config, self.now(), notes)
    }

    /// What the next sign-in of `user_id` must bring, if Entra or the API wants one.
    pub fn due(&self, user_id: &str) -> Option<Requirements> {
        let now = self.now();
        self.accounts.with_slot(user_id, |slot| {
            let due = slot.due.as_ref().filter(|due| due.is_due(now))?;
            Some(due.requirements.clone())
        })?
    }

    fn is_valid(&self, account: &Account) -> bool {
        standing::is_valid(account, &self.config, self.now())
    }

    /// Whether its token is good and need not be refreshed yet.
    fn is_fresh(&self, account: &Account) -> bool {
        let now = self.now();
        self.is_valid(account)
            && account.expires_at > now + REFRESH_MARGIN
            && account.refresh_at.is_none_or(|refresh_at| refresh_at > now)
    }
}
