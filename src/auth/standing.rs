//! How an account stands: whether it belongs to the settings, and whether calls go through with it.

use super::account::{Account, Binding};
use crate::config::Config;

/// How an account stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has signed in under that name.
    NotSignedIn,
    /// The sign-in has ended: every call fails until there is a new one.
    Ended,
    /// Calls go through, but for those that need a further sign-in.
    MoreWanted,
    /// Calls go through.
    SignedIn,
}

impl Standing {
    /// Whether calls go through.
    pub fn is_signed_in(self) -> bool {
        matches!(self, Self::SignedIn | Self::MoreWanted)
    }
}

/// What is known of an account beside its tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes {
    /// Entra or the API wants a further sign-in.
    pub is_due: bool,
    /// Entra has refused the last refresh for a reason that does not pass by itself.
    pub is_refresh_refused: bool,
}

/// How `account` stands at `now` (seconds since 1970). Nothing else decides who is signed in.
pub fn of(account: &Account, config: &Config, now: u64, notes: Notes) -> Standing {
    let can_refresh = account.refresh_token.is_some() && !notes.is_refresh_refused;
    match (is_valid(account, config, now) || can_refresh, notes.is_due) {
        (false, _) => Standing::Ended,
        (true, true) => Standing::MoreWanted,
        (true, false) => Standing::SignedIn,
    }
}

/// Whether the access token of `account` is good for a call at `now`.
pub fn is_valid(account: &Account, config: &Config, now: u64) -> bool {
    account.access_token.is_some()
        && account.requested_scope == config.scopes.requested()
        && account.expires_at > now
}

/// What an account that signs in now belongs to.
pub fn binding(config: &Config) -> Binding {
    Binding {
        client_id: config.client_id.clone(),
        authority: config.authority.origin(),
        tenant: config.authority.tenant().segment().to_owned(),
    }
}

/// Whether `account` belongs to the application, authority and tenant of `config`. That a domain
/// name has become its GUID is no difference; whether two domain names are one tenant only Entra
/// knows.
pub fn fits(account: &Account, config: &Config) -> bool {
    let own = binding(config);
    let tenant = config.authority.tenant();
    let is_of_tenant = match &account.person {
        Some(person) => tenant.includes(&person.tid),
        None => true,
    };
    let is_same_tenant = account.binding.tenant == own.tenant
        || (account.person.is_some() && !tenant.is_domain_name());
    account.binding.client_id == own.client_id
        && account.binding.authority == own.authority
        && is_of_tenant
        && is_same_tenant
}
