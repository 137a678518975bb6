//! The ID token: who signed in (OpenID Connect Core §3.1.3.7).
//!
//! It came straight from the token endpoint over TLS, so its signature need not be checked (§3.1.3.7
//! step 6); what it says must still fit the request that we made.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::authority::{Authority, Tenant};
use crate::secret::Secret;

/// How far our clock and Entra's may be apart, in seconds.
const SKEW: u64 = 300;

/// The person, as one tenant knows them. `oid` with `tid` is the account; the rest is for display
/// and may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Object id of the person in the tenant.
    pub oid: String,
    /// The tenant.
    pub tid: String,
    /// The sign-in name that the person would type.
    pub username: String,
    /// Further addresses of the person: `email`, `upn`.
    pub addresses: Vec<String>,
    /// The display name.
    pub name: String,
}

impl Identity {
    /// Whether `address` is one of the person's own, in any case.
    #[must_use]
    pub fn has_address(&self, address: &str) -> bool {
        let same = |own: &str| own.to_lowercase() == address.to_lowercase();
        same(&self.username) || self.addresses.iter().any(|own| same(own))
    }
}

/// What the ID token must agree with.
pub struct Expected<'a> {
    /// `aud`.
    pub client_id: &'a str,
    /// `iss`, and `tid` where one tenant is configured by its GUID.
    pub authority: &'a Authority,
    /// The nonce of the authorization request.
    pub nonce: &'a Secret,
    /// Seconds since 1970.
    pub now: u64,
}

/// An identity that passed, and whether the clocks disagree.
#[derive(Debug)]
pub struct Checked {
    /// Who signed in.
    pub identity: Identity,
    /// `exp` or `nbf` and our clock are more than five minutes apart: worth a warning, not a
    /// refusal, since nothing here is decided by these times.
    pub clock_is_off: bool,
}

/// Checks `id_token` and takes the identity from it.
///
/// # Errors
/// What does not agree.
pub fn check(id_token: &Secret, expected: &Expected<'_>) -> Result<Checked, String> {
    let claims = claims(id_token)?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let tid = claim("tid").to_ascii_lowercase();
    if claim("aud") != expected.client_id {
        return Err("it was issued for another application (aud)".to_owned());
    }
    if !expected.nonce.matches(claim("nonce")) {
        return Err("it belongs to another sign-in (nonce)".to_owned());
    }
    if claim("ver") != "2.0" {
        return Err("it is not of version 2.0 (ver)".to_owned());
    }
    if tid.is_empty() || claim("oid").is_empty() {
        return Err("it does not name the account (oid, tid)".to_owned());
    }
    if claim("iss") != expected.authority.issuer(&tid) {
        return Err(format!("its issuer is not {} (iss)", expected.authority.issuer(&tid)));
    }
    if let Tenant::Guid(configured) = expected.authority.tenant()
        && *configured != tid
    {
        return Err(format!("it is of the tenant {tid}, not of the configured one (tid)"));
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_u64);
    let clock_is_off = time("exp").is_some_and(|exp| exp + SKEW < expected.now)
        || time("nbf").is_some_and(|nbf| nbf > expected.now + SKEW);
    Ok(Checked { identity: identity(&claims, tid), clock_is_off })
}

/// The claims of a compact JWS (RFC 7519 §3.1), unverified.
fn claims(id_token: &Secret) -> Result<Value, String> {
    let parts: Vec<&str> = id_token.expose().split('.').collect();
    let [_header, payload, _signature] = parts.as_slice() else {
        return Err("it does not have three parts".to_owned());
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| "its claims are not base64url".to_owned())?;
    serde_json::from_slice(&payload).map_err(|_| "its claims are not JSON".to_owned())
}

fn identity(claims: &Value, tid: String) -> Identity {
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Identity {
        oid: claim("oid"),
        tid,
        username: claim("preferred_username"),
        addresses: ["email", "upn"].into_iter().map(claim).filter(|address| !address.is_empty()).collect(),
        name: claim("name"),
    }
}
