//! `WWW-Authenticate`: what is demanded is fit to be sent on, and a challenge of another scheme before it
//! changes nothing.

use base64::prelude::*;
use entra_auth_mcp::auth::challenge::{Challenge, Claims};
use serde_json::Value;

pub fn holds(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let challenge = Challenge::of_backend(text.split('\n'));
    match &challenge {
        Some(Challenge::Claims(claims)) => are_fit(claims),
        Some(Challenge::InsufficientScope(scopes)) => {
            let is_fit = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
            assert!(
                scopes.len() <= 20
                    && scopes
                        .iter()
                        .all(|scope| !scope.is_empty() && scope.bytes().all(is_fit))
            );
        }
        None => {}
    }
    // Several fields are one list (RFC 9110 §5.3), so only what comes first can stand before them.
    let behind_another = format!("Basic realm=\"a, b\", {text}");
    assert_eq!(Challenge::of_backend(behind_another.split('\n')), challenge);

    if let Some(claims) = Claims::of_challenge(&text) {
        are_fit(&claims);
        for encoded in [
            BASE64_STANDARD.encode(text.as_bytes()),
            BASE64_URL_SAFE_NO_PAD.encode(text.as_bytes()),
        ] {
            let field =
                format!("Negotiate, bearer Error = \"insufficient_claims\",claims=\"{encoded}\"");
            assert_eq!(
                Challenge::of_backend([field.as_str()].into_iter()),
                Some(Challenge::Claims(claims.clone()))
            );
        }
    }
}

/// A JSON object that declares our capability, and that stays as it is when it comes back.
fn are_fit(claims: &Claims) {
    let json: Value = serde_json::from_str(claims.as_str()).expect("claims are JSON");
    let capabilities = json["access_token"]["xms_cc"]["values"]
        .as_array()
        .expect("the capability is declared");
    assert!(capabilities.iter().any(|value| value == "cp1"));
    if claims.as_str().len() <= 8 * 1024 {
        assert_eq!(Claims::of_challenge(claims.as_str()).as_ref(), Some(claims));
    }
}
