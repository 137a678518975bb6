//! An account: what is kept of somebody who has signed in.

use super::id_token::Person;
use crate::error::{Failure, Kind};
use crate::secret::Secret;

/// What an account belongs to. `standing::fits` says whether it belongs to the settings; if not,
/// its tokens are sent nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The application.
    pub client_id: String,
    /// The origin of the authority.
    pub authority: String,
    /// The tenant as it was configured when the account signed in.
    pub tenant: String,
}

/// An account that has signed in.
#[derive(Clone, Debug)]
pub struct Account {
    /// What it belongs to.
    pub binding: Binding,
    /// Who it is. `None` until the first refresh of an account of the Python server, which did not
    /// always say.
    pub person: Option<Person>,
    /// The sign-in name, for display; empty if Entra gave none.
    pub username: String,
    /// The person's name, for display; empty if Entra gave none.
    pub name: String,
    /// What was requested, and is again on refresh.
    pub requested_scope: String,
    /// What was granted, for display.
    pub granted_scope: String,
    /// For the API. `None` once Entra has refused a refresh.
    pub access_token: Option<Secret>,
    /// When the access token expires; seconds since 1970, as are the times below.
    pub expires_at: u64,
    /// When Entra would like to see a refresh.
    pub refresh_at: Option<u64>,
    /// `None` once Entra has refused it for good.
    pub refresh_token: Option<Secret>,
    /// When the person signed in.
    pub signed_in_at: u64,
}

impl Account {
    /// Whether `other` is the same person's at the same application and authority, whatever the
    /// tenant is called.
    pub fn is_same_but_for_tenant_name(&self, other: &Self) -> bool {
        self.person.is_some()
            && self.person == other.person
            && self.binding.client_id == other.binding.client_id
            && self.binding.authority == other.binding.authority
    }

    /// The access token.
    ///
    /// # Errors
    /// Entra has ended it.
    pub fn token(&self) -> Result<&Secret, Failure> {
        self.access_token
            .as_ref()
            .ok_or_else(|| Failure::new(Kind::SignInRequired, "The sign-in has ended."))
    }
}

/// One entry of the token file.
pub struct Stored {
    /// The label of the account.
    pub user_id: String,
    /// The account itself.
    pub account: Account,
}
