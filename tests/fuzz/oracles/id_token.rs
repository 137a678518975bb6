//! The ID token: who is let in is whom it names, for this application, this sign-in and this tenant.

use base64::prelude::*;
use entra_auth_mcp::auth::authority::{Authority, Tenant};
use entra_auth_mcp::auth::id_token::{Identity, check};
use entra_auth_mcp::secret::Secret;
use serde_json::Value;

const TID: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const CONSUMERS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
const TENANTS: [&str; 5] = [TID, "common", "organizations", "consumers", "contoso.com"];

pub fn holds(input: &[u8]) {
    let (choice, rest) = super::choice(input);
    let (tenant, with_nonce) = (TENANTS[choice % TENANTS.len()], choice < 128);
    let checked = |token: String| {
        let authority = Authority::new(
            "https://login.example".parse().unwrap(),
            Tenant::parse(tenant).unwrap(),
        );
        let nonce = with_nonce.then(|| Secret::new("n".to_owned()));
        check(&Secret::new(token), "client", &authority, nonce.as_ref())
    };
    // As a whole token, and as the claims of one.
    let token = String::from_utf8_lossy(rest).into_owned();
    if let Ok(identity) = checked(token.clone()) {
        let claims = BASE64_URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).unwrap())
            .unwrap();
        assert!(is_meant(
            &serde_json::from_slice(&claims).unwrap(),
            tenant,
            with_nonce,
            &identity
        ));
    }
    let identity = checked(format!("e30.{}.", BASE64_URL_SAFE_NO_PAD.encode(rest)));
    match (serde_json::from_slice(rest), identity) {
        (Ok(claims), Ok(identity)) => {
            assert!(is_meant(&claims, tenant, with_nonce, &identity), "{claims}");
        }
        (Ok(claims), Err(reason)) => {
            assert!(!fits(&claims, tenant, with_nonce), "{claims}: {reason}");
        }
        (Err(_), Ok(identity)) => panic!("{identity:?} comes of no JSON"),
        (Err(_), Err(_)) => {}
    }
}

fn text<'a>(claims: &'a Value, name: &str) -> &'a str {
    claims.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn fits(claims: &Value, tenant: &str, with_nonce: bool) -> bool {
    let tid = text(claims, "tid").to_ascii_lowercase();
    let groups: Vec<usize> = tid.split('-').map(str::len).collect();
    let is_guid = groups == [8, 4, 4, 4, 12]
        && tid
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    let is_of_tenant = match tenant {
        TID => tid == TID,
        "common" => true,
        "consumers" => tid == CONSUMERS,
        _ => tid != CONSUMERS,
    };
    text(claims, "aud") == "client"
        && text(claims, "ver") == "2.0"
        && !text(claims, "oid").is_empty()
        && (!with_nonce || text(claims, "nonce") == "n")
        && text(claims, "iss") == format!("https://login.example/{tid}/v2.0")
        && is_guid
        && is_of_tenant
}

fn is_meant(claims: &Value, tenant: &str, with_nonce: bool, identity: &Identity) -> bool {
    let email = text(claims, "email");
    // With several tenants, each could claim another's addresses.
    let is_unverified = tenant != TID
        && !email.is_empty()
        && ["preferred_username", "upn"]
            .iter()
            .all(|name| text(claims, name).to_lowercase() != email.to_lowercase());
    fits(claims, tenant, with_nonce)
        && (identity.person.oid.as_str(), identity.person.tid.as_str())
            == (
                text(claims, "oid"),
                text(claims, "tid").to_ascii_lowercase().as_str(),
            )
        && !(is_unverified && identity.has_address(email))
}
