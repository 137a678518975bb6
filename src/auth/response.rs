//! The authorization response as it reaches the redirect URI (RFC 6749 §4.1.2).

use super::token_endpoint::OauthError;
use crate::secret::Secret;

/// What came back from Entra for one state.
pub struct AuthorizationResponse {
    /// The state that the request carried.
    pub state: Secret,
    /// `iss` (RFC 9207), where Entra sends it.
    pub issuer: Option<String>,
    /// The code, or why there is none.
    pub outcome: Result<Secret, OauthError>,
}

/// Reads the parameters of a form body or a query (`application/x-www-form-urlencoded`). Unknown
/// parameters are ignored (RFC 6749 §4.1.2).
///
/// # Errors
/// What is wrong with it: no state, a parameter twice (RFC 6749 §3.1), or neither a code nor an
/// error.
pub fn parse(parameters: &[u8]) -> Result<AuthorizationResponse, &'static str> {
    let mut fields = [
        ("state", None),
        ("code", None),
        ("error", None),
        ("error_description", None),
        ("iss", None),
    ];
    for (name, value) in url::form_urlencoded::parse(parameters) {
        if let Some((_, slot)) = fields.iter_mut().find(|(known, _)| *known == name)
            && slot.replace(value.into_owned()).is_some()
        {
            return Err("a parameter stands in it twice");
        }
    }
    let [
        (_, state),
        (_, code),
        (_, error),
        (_, description),
        (_, issuer),
    ] = fields;
    let state = Secret::new(
        state
            .filter(|state| !state.is_empty())
            .ok_or("there is no state in it")?,
    );
    let outcome = match (code, error) {
        (Some(code), None) if !code.is_empty() => Ok(Secret::new(code)),
        (None, Some(error)) => Err(OauthError::new(&error, &description.unwrap_or_default())),
        _ => return Err("there is neither a code nor an error in it"),
    };
    Ok(AuthorizationResponse {
        state,
        issuer,
        outcome,
    })
}
