//! The authority: which tenant of which cloud signs people in, and its endpoints (v2.0); and the
//! application that is registered there.

use url::Url;

use super::scope::Scopes;
use crate::text::is_guid;

/// A cloud: its tenants and app registrations are its own.
pub struct Cloud {
    /// What the settings call it.
    pub name: &'static str,
    /// Where people sign in, and the name that its ID tokens bear.
    pub origin: &'static str,
    /// Other and older names of that host. MSAL's built-in metadata knows the same.
    aliases: &'static [&'static str],
}

/// The clouds for which there are sign-in hosts.
pub static CLOUDS: [Cloud; 6] = [
    Cloud {
        name: "public",
        origin: "https://login.microsoftonline.com",
        aliases: &[
            "https://login.windows.net",
            "https://login.microsoft.com",
            "https://sts.windows.net",
        ],
    },
    Cloud {
        name: "usgov",
        origin: "https://login.microsoftonline.us",
        aliases: &["https://login.usgovcloudapi.net"],
    },
    Cloud {
        name: "china",
        origin: "https://login.partner.microsoftonline.cn",
        aliases: &["https://login.chinacloudapi.cn"],
    },
    Cloud {
        name: "france",
        origin: "https://login.sovcloud-identity.fr",
        aliases: &[],
    },
    Cloud {
        name: "germany",
        origin: "https://login.sovcloud-identity.de",
        aliases: &[],
    },
    Cloud {
        name: "singapore",
        origin: "https://login.sovcloud-identity.sg",
        aliases: &[],
    },
];
/// The domain of the sign-in hosts of External ID: `{name or GUID of the tenant}.ciamlogin.com`.
const EXTERNAL_ID: &str = "ciamlogin.com";
/// The domains of the sign-in hosts of Azure AD B2C.
const B2C: [&str; 4] = ["b2clogin.com", "b2clogin.us", "b2clogin.cn", "b2clogin.de"];
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

    /// Whether it is one of the tenant's domain names, whose GUID Entra alone knows.
    pub fn is_domain_name(&self) -> bool {
        self.segment().contains('.')
    }

    /// Whether it stands for more than one tenant, or for whichever the person's account is in.
    fn is_for_several(&self) -> bool {
        matches!(self.segment(), "common" | "organizations" | "consumers")
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

/// What is known of a sign-in host by its name.
enum Kind {
    Cloud(&'static Cloud),
    ExternalId,
    B2c,
    /// A private cloud or a stand-in: its ID tokens bear its own name.
    Unknown,
}

impl Kind {
    fn of(host: &Url) -> Self {
        let origin = host.origin().ascii_serialization();
        let is_named =
            |cloud: &&Cloud| cloud.origin == origin || cloud.aliases.contains(&origin.as_str());
        let is_under = |domain: &str| {
            let name = host.host_str().and_then(|host| host.strip_suffix(domain));
            name.is_some_and(|name| name.ends_with('.'))
        };
        if let Some(cloud) = CLOUDS.iter().find(is_named) {
            Self::Cloud(cloud)
        } else if is_under(EXTERNAL_ID) {
            Self::ExternalId
        } else if B2C.iter().any(|domain| is_under(domain)) {
            Self::B2c
        } else {
            Self::Unknown
        }
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

    /// Whether `issuer` is the `iss` of an ID token that comes from here for the tenant `tid`, in
    /// lower case. It may bear another name than the host that was asked for it: that of the cloud
    /// for an alias of it, that with the tenant's GUID for External ID.
    pub fn issues(&self, issuer: &str, tid: &str) -> bool {
        let is_of = |origin: &str| issuer == format!("{origin}/{tid}/v2.0");
        let own = self.origin();
        if is_of(&own) {
            return true;
        }
        match Kind::of(&self.host) {
            Kind::Cloud(cloud) => is_of(cloud.origin),
            Kind::ExternalId => is_of(&format!("https://{tid}.{EXTERNAL_ID}")),
            Kind::B2c | Kind::Unknown => false,
        }
    }

    /// Whether `issuer` is one of a tenant that the configured one stands for.
    pub fn may_be_issuer(&self, issuer: &str) -> bool {
        let Some((_, tid)) = issuer
            .strip_suffix("/v2.0")
            .and_then(|rest| rest.rsplit_once('/'))
        else {
            return false;
        };
        self.tenant.includes(tid) && self.issues(issuer, tid)
    }

    /// The cloud of which the host is an alias.
    pub fn alias_of(&self) -> Option<&'static Cloud> {
        match Kind::of(&self.host) {
            Kind::Cloud(cloud) if cloud.origin != self.origin() => Some(cloud),
            _ => None,
        }
    }

    /// Whether `tenant` can sign people in at `host`, as far as can be told without asking it.
    ///
    /// # Errors
    /// What to do where it cannot.
    pub fn check(host: &Url, tenant: Option<&Tenant>) -> Result<(), String> {
        match (Kind::of(host), tenant) {
            // Only the issuer of tokens of version 1.0 has this name.
            (Kind::Cloud(cloud), _) if host.host_str() == Some("sts.windows.net") => Err(format!(
                "nobody signs in there; set AZURE_AUTHORITY_HOST to {}",
                cloud.origin
            )),
            (Kind::ExternalId, Some(tenant)) if tenant.is_for_several() => Err(format!(
                "External ID has no {}; set AZURE_TENANT_ID to the tenant's GUID or domain name",
                tenant.segment()
            )),
            (Kind::B2c, _) => Err(
                "Azure AD B2C has other endpoints, one for each user flow, and cannot be used; \
                 Entra ID and External ID (https://contoso.ciamlogin.com) can"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
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

    /// The endpoint `name`: `authorize`, where the browser is sent to sign in; `token`; or
    /// `logout`, where the browser's own session with Entra is ended, which revokes no token.
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
    /// How it wants its answers.
    pub response_mode: ResponseMode,
    /// The home of its accounts: Entra then goes straight to the organization's own page.
    pub domain_hint: Option<&'a str>,
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
