//! The app registration, its people, and how Entra behaves.

use super::{
    ADA, ADA_OID, CLIENT_ID, CONSUMERS_TENANT_ID, EVE, EVE_OID, GRACE, GRACE_OID, INVALID,
    LOGOUT_REDIRECT_URI, OTHER_TENANT_ID, PAT, PAT_OID, REDIRECT_URI, Refusal, TENANT_ID,
    resource_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub oid: String,
    pub tid: String,
    pub username: String,
    pub name: String,
    pub email: String,
}

impl User {
    pub fn new(oid: &str, tid: &str, username: &str, name: &str) -> Self {
        Self {
            oid: oid.to_owned(),
            tid: tid.to_owned(),
            username: username.to_owned(),
            name: name.to_owned(),
            email: username.to_owned(),
        }
    }

    pub fn ada() -> Self {
        Self::new(ADA_OID, TENANT_ID, ADA, "Ada Lovelace")
    }

    fn is_consumer(&self) -> bool {
        self.tid == CONSUMERS_TENANT_ID
    }
}

/// The platform under which the redirect URI was registered; it decides the type of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    PublicClient,
    Web,
    Spa,
}

/// The app registration and how Entra behaves; change it with [`super::Entra::set`].
pub struct Settings {
    pub client_id: String,
    pub redirect_uris: Vec<String>,
    pub platform: Platform,
    /// `common` and `organizations` are refused (AADSTS50194).
    pub single_tenant: bool,
    /// Personal accounts may sign in, at `common` and `consumers`.
    pub consumers_allowed: bool,
    /// "Allow public client flows", without which the device grant is refused (AADSTS7000218).
    pub device_code_allowed: bool,
    pub users: Vec<User>,
    /// Domain names and the tenants that they stand for.
    pub domains: BTreeMap<String, String>,
    /// The scopes that may be had without a person, by refreshing; `None` for all.
    pub consented: Option<BTreeSet<String>>,
    /// Every request must declare the client capability `cp1`.
    pub demand_cp1: bool,
    /// A refresh with claims beyond `cp1` needs the person (AADSTS50076).
    pub interaction_for_claims: bool,
    /// Of access tokens. The server refreshes five minutes early, so 60 forces a refresh at the
    /// next call while the backend still takes the token.
    pub expires_in: i64,
    pub refresh_in: Option<i64>,
    /// As older stacks emit them.
    pub numbers_as_strings: bool,
    pub omit_refresh_token_on_refresh: bool,
    /// Entra lets a rotated refresh token live on; with this, the strict behaviour.
    pub reject_reused_refresh_tokens: bool,
    pub accept_other_scope_on_refresh: bool,
    /// The page that posts the answer is sent with `Referrer-Policy: no-referrer`, which makes
    /// the browser send `Origin: null`.
    pub opaque_origin: bool,
    /// Whoever picks an account is sent back to the app with this: error, AADSTS number, message.
    pub fail_authorize: Option<(&'static str, u32, &'static str)>,
    /// The only person, by `oid`, whom `fail_authorize` meets; `None` for all.
    pub fail_only: Option<&'static str>,
    /// Whoever picks an account sees this on Entra's own page: AADSTS number, message.
    pub page_error: Option<(u32, String)>,
    /// Of device codes.
    pub device_expires_in: i64,
    /// In seconds, between two polls with one device code.
    pub device_interval: i64,
    /// An expired device code answers `code_expired` instead of `expired_token`.
    pub says_code_expired: bool,
    /// Added to the clock: codes and tokens age.
    pub clock_offset: i64,
    /// Where the clock stands; without this, it goes on by itself.
    pub clock_stands_at: Option<SystemTime>,
    /// Added to the clock in the header `Date` only.
    pub date_offset: i64,
}

impl Default for Settings {
    fn default() -> Self {
        let domains = [
            ("contoso.example", TENANT_ID),
            ("fabrikam.example", OTHER_TENANT_ID),
        ];
        Self {
            client_id: CLIENT_ID.to_owned(),
            redirect_uris: vec![REDIRECT_URI.to_owned(), LOGOUT_REDIRECT_URI.to_owned()],
            platform: Platform::PublicClient,
            single_tenant: false,
            consumers_allowed: false,
            device_code_allowed: true,
            users: vec![
                User::ada(),
                User::new(GRACE_OID, TENANT_ID, GRACE, "Grace Hopper"),
                User::new(EVE_OID, OTHER_TENANT_ID, EVE, "Eve Fabrikam"),
                User::new(PAT_OID, CONSUMERS_TENANT_ID, PAT, "Pat Personal"),
            ],
            domains: domains
                .map(|(name, tenant)| (name.to_owned(), tenant.to_owned()))
                .into(),
            consented: None,
            demand_cp1: true,
            interaction_for_claims: false,
            expires_in: 3900,
            refresh_in: None,
            numbers_as_strings: false,
            omit_refresh_token_on_refresh: false,
            reject_reused_refresh_tokens: false,
            accept_other_scope_on_refresh: false,
            opaque_origin: false,
            fail_authorize: None,
            fail_only: None,
            page_error: None,
            device_expires_in: 900,
            device_interval: 1,
            says_code_expired: false,
            clock_offset: 0,
            clock_stands_at: None,
            date_offset: 0,
        }
    }
}

/// Who may sign in at a tenant segment of the URL.
pub(super) enum Audience {
    Everybody,
    WorkAccounts,
    Tenant(String),
}

impl Audience {
    fn admits(&self, user: &User) -> bool {
        match self {
            Self::Everybody => true,
            Self::WorkAccounts => !user.is_consumer(),
            Self::Tenant(guid) => user.tid == *guid,
        }
    }
}

impl Settings {
    /// The accounts that the app's registration lets in.
    pub(super) fn people(&self) -> impl Iterator<Item = &User> {
        self.users
            .iter()
            .filter(|user| self.consumers_allowed || !user.is_consumer())
    }

    pub(super) fn audience(&self, tenant: &str) -> Result<Audience, Refusal> {
        let multi_tenant = |audience| {
            let message = "Application is not configured as a multi-tenant application.";
            Refusal::unless(!self.single_tenant, INVALID, 50194, message).map(|()| audience)
        };
        match tenant {
            "common" => multi_tenant(Audience::Everybody),
            "organizations" => multi_tenant(Audience::WorkAccounts),
            "consumers" => {
                let message = "Application is configured for use by Microsoft Entra users only.";
                Refusal::unless(self.consumers_allowed, INVALID, 9_002_332, message)?;
                Ok(Audience::Tenant(CONSUMERS_TENANT_ID.to_owned()))
            }
            name => {
                let guid = self
                    .domains
                    .get(&name.to_lowercase())
                    .map_or(name, String::as_str);
                let message = format!("Tenant '{name}' not found.");
                Refusal::unless(
                    self.people().any(|user| user.tid == guid),
                    INVALID,
                    90002,
                    message,
                )?;
                Ok(Audience::Tenant(guid.to_owned()))
            }
        }
    }

    /// The account that a person picked at a tenant segment.
    pub(super) fn pick_user(&self, tenant: &str, username: &str) -> Result<User, Refusal> {
        let refuse = |aadsts, directory| {
            let message = format!("User account '{username}' does not exist in the {directory}.");
            Refusal::new(INVALID, aadsts, message)
        };
        let user = self
            .people()
            .find(|user| user.username == username)
            .ok_or_else(|| refuse(50034, "directory"))?;
        let audience = self.audience(tenant)?;
        if audience.admits(user) {
            Ok(user.clone())
        } else {
            Err(refuse(50020, "tenant"))
        }
    }

    /// `.default` stands for whatever of its resource was consented to.
    pub(super) fn has_consent(&self, scope: &str) -> bool {
        let Some(consented) = &self.consented else {
            return true;
        };
        let same_resource = |other: &String| resource_of(other) == resource_of(scope);
        match resource_of(scope) {
            None => true, // of OIDC
            Some(_) if scope.ends_with("/.default") => consented.iter().any(same_resource),
            Some(_) => consented.contains(scope),
        }
    }
}
