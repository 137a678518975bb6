//! The authorization response as it reaches the redirect URI (RFC 6749 §4.1.2).

use super::oauth_error::OauthError;
use crate::secret::Secret;

/// What came back from Entra for one state.
pub struct AuthorizationResponse {
    /// The state that the request carried.
    pub state: Secret,
    /// `iss` (RFC 9207), if Entra sends it.
    pub issuer: Option<String>,
    /// The code, or why there is none.
    pub outcome: Result<Secret, OauthError>,
}

impl AuthorizationResponse {
    /// Whether `other` is the same answer with the same code: a browser has sent it twice.
    pub fn is_repeated_by(&self, other: &Self) -> bool {
        match (&self.outcome, &other.outcome) {
            (Ok(code), Ok(repeated)) => code.matches(repeated.expose()),
            (Err(error), Err(repeated)) => error.error == repeated.error,
            _ => false,
        }
    }
}

/// What arrived at the redirect URI.
pub enum Arrival {
    /// An authorization response.
    Response(Box<AuthorizationResponse>),
    /// An administrator has answered a request for consent (Microsoft's `adminconsent` endpoint).
    /// It belongs to no sign-in.
    AdminConsent,
}

/// Reads the parameters of a form body or a query (`application/x-www-form-urlencoded`). Unknown
/// parameters are ignored (RFC 6749 §4.1.2).
///
/// # Errors
/// What is wrong with it: no state, a parameter twice (RFC 6749 §3.1), or neither a code nor an
/// error.
pub fn parse(parameters: &[u8]) -> Result<Arrival, &'static str> {
    let mut state = None;
    let mut code = None;
    let mut error = None;
    let mut description = None;
    let mut issuer = None;
    let mut admin_consent = None;
    for (name, value) in url::form_urlencoded::parse(parameters) {
        let field = match name.as_ref() {
            "state" => &mut state,
            "code" => &mut code,
            "error" => &mut error,
            "error_description" => &mut description,
            "iss" => &mut issuer,
            "admin_consent" => &mut admin_consent,
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            return Err("a parameter stands in it twice");
        }
    }
    if admin_consent.is_some() && code.is_none() {
        return Ok(Arrival::AdminConsent);
    }
    let state = match state {
        Some(state) if !state.is_empty() => Secret::new(state),
        _ => return Err("there is no state in it"),
    };
    let outcome = match (code, error) {
        (Some(code), None) if !code.is_empty() => Ok(Secret::new(code)),
        (None, Some(error)) => Err(OauthError::new(&error, &description.unwrap_or_default())),
        _ => return Err("there is neither a code nor an error in it"),
    };
    Ok(Arrival::Response(Box::new(AuthorizationResponse {
        state,
        issuer,
        outcome,
    })))
}
