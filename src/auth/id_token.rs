//! The ID token: who signed in (OpenID Connect Core §3.1.3.7).
//!
//! It came straight from the token endpoint over TLS a moment ago, so its signature need not be
//! checked (§3.1.3.7 step 6). What it says must still fit the request that we made. Its times are
//! not checked: nothing is decided by them, and a clock that is off would keep everybody out.
//! `doctor` compares the clocks.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::authority::Authority;
use crate::secret::Secret;

/// Who somebody is: an object of a tenant. Names and addresses change, this does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The tenant, a GUID in lower case.
    pub tid: String,
    /// The object id of the person in that tenant.
    pub oid: String,
}

/// What an ID token says of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is; everything else is for display and may change.
    pub person: Person,
    /// The sign-in name that the person would type.
    pub username: String,
    /// The display name.
    pub name: String,
    /// The person's own, in lower case.
    addresses: [String; 3],
}

impl Identity {
    /// Whether `address` is one of the person's own, in any case.
    pub fn has_address(&self, address: &str) -> bool {
        self.addresses.contains(&address.to_lowercase())
    }
}

/// Checks `id_token` against a request of `client_id` to `authority`. `nonce` is that of the
/// authorization request; a device code and a refresh have none.
///
/// # Errors
/// What does not agree.
pub fn check(
    id_token: &Secret,
    client_id: &str,
    authority: &Authority,
    nonce: Option<&Secret>,
) -> Result<Identity, &'static str> {
    let claims = claims(id_token)?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let tid = claim("tid").to_ascii_lowercase();
    let oid = claim("oid").to_owned();
    if claim("aud") != client_id {
        return Err("it was issued for another application (aud)");
    }
    if nonce.is_some_and(|nonce| !nonce.matches(claim("nonce"))) {
        return Err("it belongs to another sign-in (nonce)");
    }
    if claim("ver") != "2.0" {
        return Err("it is not of version 2.0 (ver)");
    }
    if oid.is_empty() || tid.is_empty() {
        return Err("it does not name the account (oid, tid)");
    }
    if !authority.issues(claim("iss"), &tid) {
        return Err("it was issued by another authority (iss)");
    }
    if !authority.tenant().includes(&tid) {
        return Err("it is of a tenant that AZURE_TENANT_ID does not include (tid)");
    }
    // Nobody verifies `email`: with several tenants, each could claim another's addresses.
    let email = if authority.tenant().guid().is_some() {
        claim("email")
    } else {
        ""
    };
    let addresses = [claim("preferred_username"), claim("upn"), email].map(str::to_lowercase);
    Ok(Identity {
        person: Person { tid, oid },
        username: claim("preferred_username").to_owned(),
        name: claim("name").to_owned(),
        addresses,
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
