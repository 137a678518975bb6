//! The authority: which tenant of which cloud signs people in, and its endpoints (v2.0); and the
//! application that is registered there.

use url::Url;

use super::scope::Scopes;
use crate::text::is_guid;

/// The clouds and their sign-in hosts. Each has its own tenants and app registrations.
pub const CLOUDS: [(&str, &str); 6] = [
    ("public", "https://login.microsoftonline.com"),
    ("usgov", "https://login.microsoftonline.us"),
    ("china", "https://login.partner.microsoftonline.cn"),
    ("france", "https://login.sovcloud-identity.fr"),
    ("germany", "https://login.sovcloud-identity.de"),
    ("singapore", "https://login.sovcloud-identity.sg"),
];
/// The tenant of all personal Microsoft accounts.
const CONSUMER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// A tenant: its GUID, one of its domain names, or `common`, `organizations`, `consumers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(String);

impl Tenant {
    /// The tenant that `text` names; `None` when it is none of these.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_label = |label: &str| {
            !label.is_empty() && label.trim_matches('-') == label && label.chars().all(is_allowed)
        };
        let is_tenant = is_guid(&lower)
            || matches!(lower.as_str(), "common" | "organizations" | "consumers")
            || (lower.contains('.') && lower.split('.').all(is_label));
        is_tenant.then_some(Self(lower))
    }

    /// The tenant's segment of every endpoint path.
    pub fn segment(&self) -> &str {
        &self.0
    }

    /// The GUID of the one tenant whose tokens are good, where it is configured.
    pub fn guid(&self) -> Option<&str> {
        Some(self.segment()).filter(|segment| is_guid(segment))
    }

    /// Whether this tenant stands for the one with the GUID `tid`, in lower case.
    pub fn includes(&self, tid: &str) -> bool {
        let is_included = match self.segment() {
            "common" => true,
            "consumers" => tid == CONSUMER_TENANT,
            guid if is_guid(guid) => tid == guid,
            // `organizations`; or a domain name, whose GUID Entra alone knows.
            _ => tid != CONSUMER_TENANT,
        };
        is_included && is_guid(tid)
    }
}

/// A tenant of a cloud.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Scheme, host and port; no path.
    host: Url,
    tenant: Tenant,
}

impl Authority {
    /// `host` is an origin such as `https://login.microsoftonline.com`.
    pub fn new(host: Url, tenant: Tenant) -> Self {
        Self { host, tenant }
    }

    /// The configured tenant.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Scheme, host and port without a trailing slash.
    pub fn origin(&self) -> String {
        self.host.origin().ascii_serialization()
    }

    /// The `iss` of an ID token that this cloud issued for the tenant `tid`.
    pub fn issuer(&self, tid: &str) -> String {
        format!("{}/{tid}/v2.0", self.origin())
    }

    /// Whether `issuer` is this cloud's for a tenant that the configured one stands for.
    pub fn may_be_issuer(&self, issuer: &str) -> bool {
        let tid = issuer
            .strip_prefix(&self.origin())
            .and_then(|rest| rest.strip_prefix('/')?.strip_suffix("/v2.0"));
        tid.is_some_and(|tid| self.tenant.includes(tid))
    }

    /// Where the tenant's own description is (OpenID Connect Discovery §4).
    pub fn discovery(&self) -> Url {
        let mut url = self.host.clone();
        url.set_path(&format!(
            "/{}/v2.0/.well-known/openid-configuration",
            self.tenant.segment()
        ));
        url
    }

    /// The endpoint `name`: `authorize`, where the browser is sent to sign in; `token`; or `logout`, where
    /// the browser's own session with Entra is ended, which revokes no token.
    pub fn endpoint(&self, name: &str) -> Url {
        let mut url = self.host.clone();
        url.set_path(&format!("/{}/oauth2/v2.0/{name}", self.tenant.segment()));
        url
    }
}

/// The application, as it was registered and configured.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// Where it is registered.
    pub authority: &'a Authority,
    /// Its client id.
    pub client_id: &'a str,
    /// As registered, byte for byte.
    pub redirect_uri: &'a str,
    /// What it asks for.
    pub scopes: &'a Scopes,
}

/// How Entra hands the authorization response to the redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// A cross-site POST; the code never stands in an address bar, a history or a log.
    FormPost,
    /// The query of a GET, for registrations that need it.
    Query,
}

impl ResponseMode {
    /// The value of `response_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FormPost => "form_post",
            Self::Query => "query",
        }
    }
}
