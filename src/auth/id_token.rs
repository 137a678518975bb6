//! The ID token: who signed in (OpenID Connect Core §3.1.3.7).
//!
//! It came straight from the token endpoint over TLS, so its signature need not be checked (§3.1.3.7
//! step 6); what it says must still fit the request that we made.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::authority::Authority;
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
    /// The display name.
    pub name: String,
    /// Whether `exp` or `nbf` and our clock are more than five minutes apart: worth a warning, not a
    /// refusal, since nothing here is decided by these times.
    pub clock_is_off: bool,
    /// The person's own, in lower case.
    addresses: [String; 3],
}

impl Identity {
    /// Whether `address` is one of the person's own, in any case.
    pub fn has_address(&self, address: &str) -> bool {
        self.addresses.contains(&address.to_lowercase())
    }
}

/// Checks `id_token` against the request of `client_id` with `nonce` (that for a device code has none) to
/// `authority`, at the time `now` (seconds since 1970).
///
/// # Errors
/// What does not agree.
pub fn check(
    id_token: &Secret,
    client_id: &str,
    authority: &Authority,
    nonce: Option<&Secret>,
    now: u64,
) -> Result<Identity, &'static str> {
    let claims = claims(id_token)?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let (oid, tid) = (claim("oid"), claim("tid").to_ascii_lowercase());
    let tenant = authority.tenant().guid();
    let fits = [
        (
            claim("aud") == client_id,
            "it was issued for another application (aud)",
        ),
        (
            nonce.is_none_or(|nonce| nonce.matches(claim("nonce"))),
            "it belongs to another sign-in (nonce)",
        ),
        (claim("ver") == "2.0", "it is not of version 2.0 (ver)"),
        (
            !oid.is_empty() && !tid.is_empty(),
            "it does not name the account (oid, tid)",
        ),
        (
            authority.issues(claim("iss"), &tid),
            "it was issued by another authority (iss)",
        ),
        (
            authority.tenant().includes(&tid),
            "it is of another tenant than the configured one (tid)",
        ),
    ];
    if let Some((_, problem)) = fits.iter().find(|(fits, _)| !fits) {
        return Err(problem);
    }
    let time = |name: &str| claims.get(name).and_then(Value::as_u64);
    // Nobody verifies `email`: with several tenants, each could claim another's addresses.
    let email = if tenant.is_some() { claim("email") } else { "" };
    Ok(Identity {
        oid: oid.to_owned(),
        username: claim("preferred_username").to_owned(),
        name: claim("name").to_owned(),
        clock_is_off: time("exp").is_some_and(|exp| exp.saturating_add(SKEW) < now)
            || time("nbf").is_some_and(|nbf| nbf > now + SKEW),
        addresses: [claim("preferred_username"), claim("upn"), email].map(str::to_lowercase),
        tid,
    })
}

/// The claims of a compact JWS (RFC 7519 §3.1), unverified.
fn claims(id_token: &Secret) -> Result<Value, &'static str> {
    let parts: Vec<&str> = id_token.expose().split('.').collect();
    let [_header, payload, _signature] = parts.as_slice() else {
        return Err("it does not have three parts");
    };
    let payload = BASE64_URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| "its claims are not base64url")?;
    serde_json::from_slice(&payload).map_err(|_| "its claims are not JSON")
}
