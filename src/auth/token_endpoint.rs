//! The token endpoint (RFC 6749 §4.1.3, §5, §6): one grant, one form; one response, one type.
//! A public client: no secret, ever.

use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::aadsts;
use super::authority::Application;
use super::challenge::Claims;
use super::request::{Demand, Prompt};
use crate::error::{EntraError, Kind};
use crate::secret::{Secret, SecretJson};

/// No token of Entra lives longer than a year, and sums with it cannot overflow.
const LONGEST_LIFE: u64 = 366 * 86_400;
/// So much of a description is shown.
const MOST_DESCRIPTION_CHARS: usize = 600;
const MOST_ID_CHARS: usize = 64;

/// The fields of a form, in the order in which they are sent.
pub type Form<'a> = Vec<(&'static str, &'a str)>;

/// Redeems an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5), with the scopes and claims of the
/// authorization request.
pub fn redeem<'a>(
    application: &Application<'a>,
    code: &'a Secret,
    code_verifier: &'a Secret,
    claims: &'a Claims,
) -> Form<'a> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", application.client_id),
        ("scope", application.scopes.requested()),
        ("redirect_uri", application.redirect_uri),
        ("code", code.expose()),
        ("code_verifier", code_verifier.expose()),
        ("claims", claims.as_str()),
    ]
}

/// Refreshes (RFC 6749 §6), with the scopes that were requested, not those that were granted.
pub fn refresh<'a>(
    application: &Application<'a>,
    refresh_token: &'a Secret,
    claims: &'a Claims,
) -> Form<'a> {
    vec![
        ("grant_type", "refresh_token"),
        ("client_id", application.client_id),
        ("scope", application.scopes.requested()),
        ("refresh_token", refresh_token.expose()),
        ("claims", claims.as_str()),
    ]
}

/// `form` as it is sent, in a buffer that does not grow, since what is left behind of it would not be wiped.
pub fn encoded(form: Form<'_>) -> Zeroizing<String> {
    let most = form
        .iter()
        .map(|(name, value)| name.len() + 3 * value.len() + 2)
        .sum();
    let buffer = String::with_capacity(most);
    Zeroizing::new(
        form_urlencoded::Serializer::new(buffer)
            .extend_pairs(form)
            .finish(),
    )
}

/// A successful token response (RFC 6749 §5.1). The access token is opaque: it is for the backend.
pub struct TokenResponse {
    /// For the backend.
    pub access_token: Secret,
    /// Lifetime of the access token, in seconds from the response.
    pub expires_in: u64,
    /// When Entra would like to see a refresh, in seconds from the response.
    pub refresh_in: Option<u64>,
    /// The next refresh token; without one the last one stays good.
    pub refresh_token: Option<Secret>,
    /// Who signed in.
    pub id_token: Option<Secret>,
    /// What was granted, for people to read.
    pub scope: String,
}

impl TokenResponse {
    /// Reads the body of a 200 answer. Numbers may arrive as strings, as older stacks send them.
    ///
    /// # Errors
    /// What is missing or of the wrong type; the body itself is never quoted.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let body = SecretJson(serde_json::from_slice(body).map_err(|_| "it is not JSON")?);
        let secret = |name| {
            text(&body, name)
                .filter(|token| !token.is_empty())
                .map(Secret::new)
        };
        if !text(&body, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer")) {
            return Err("its token_type is not Bearer");
        }
        let access_token = secret("access_token").ok_or("there is no access_token in it")?;
        // It goes into a header; nothing that could end the header may be in it (RFC 6750 §2.1).
        if !access_token
            .expose()
            .bytes()
            .all(|byte| byte.is_ascii_graphic())
        {
            return Err("its access_token holds characters that no token may");
        }
        Ok(Self {
            access_token,
            expires_in: seconds(&body, "expires_in")
                .ok_or("its expires_in is not a number of seconds")?,
            refresh_in: seconds(&body, "refresh_in"),
            refresh_token: secret("refresh_token"),
            id_token: secret("id_token"),
            scope: text(&body, "scope").unwrap_or_default(),
        })
    }
}

/// An error of the token endpoint (RFC 6749 §5.2) or of the authorization response (§4.1.2.1).
#[derive(Debug)]
pub struct OauthError {
    /// The code that programs may branch on.
    pub error: String,
    /// Entra's finer division of `error`, for programs, too.
    pub suberror: String,
    /// What the next authorization request must ask for: a JSON object (OpenID Connect Core §5.5).
    pub claims: Option<String>,
    /// For people, without Entra's ids and times; from outside, so escape it where it is shown.
    pub description: String,
    /// The number and what Microsoft's support asks for; decides nothing.
    pub details: EntraError,
}

impl OauthError {
    /// From the parameters of an authorization response.
    pub fn new(error: &str, description: &str) -> Self {
        let after = |label| {
            description
                .split_once(label)
                .map(|(_, rest): (_, &str)| rest)
        };
        let digits =
            after("AADSTS").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let word = |label| {
            after(label)
                .and_then(|rest| rest.split_whitespace().next())
                .map(short)
        };
        let sentences = description
            .split("Trace ID:")
            .next()
            .unwrap_or_default()
            .trim();
        Self {
            error: short(error),
            suberror: String::new(),
            claims: None,
            description: sentences.chars().take(MOST_DESCRIPTION_CHARS).collect(),
            details: EntraError {
                aadsts: digits.and_then(|digits| digits.parse().ok()),
                title: None,
                correlation_id: word("Correlation ID: "),
                trace_id: word("Trace ID: "),
                // A date and a time.
                timestamp: after("Timestamp: ")
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                    .map(short),
            },
        }
    }

    /// Reads the body of an error answer; `None` when it is no OAuth error.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = Self::new(
            &text(&body, "error")?,
            &text(&body, "error_description").unwrap_or_default(),
        );
        let own =
            |name, from_description| text(&body, name).map(|id| short(&id)).or(from_description);
        let EntraError {
            correlation_id,
            trace_id,
            timestamp,
            ..
        } = error.details;
        Some(Self {
            suberror: text(&body, "suberror").unwrap_or_default(),
            claims: text(&body, "claims"),
            details: EntraError {
                aadsts: error.details.aadsts.or_else(|| error_code(&body)),
                correlation_id: own("correlation_id", correlation_id),
                trace_id: own("trace_id", trace_id),
                timestamp: own("timestamp", timestamp),
                ..error.details
            },
            ..error
        })
    }

    /// What to do, from `error` and `suberror` alone: Microsoft warns not to branch on numbers or texts.
    pub fn kind(&self) -> Kind {
        match (self.error.as_str(), self.suberror.as_str()) {
            // A sign-in would only show the same message, or wants an app that enforces the policy.
            (_, "message_only" | "protection_policy_required")
            | ("access_denied" | "authorization_declined", _) => Kind::Refused,
            (
                "invalid_grant" | "interaction_required" | "login_required" | "consent_required"
                // Of a device code (RFC 8628 §3.5), in the standard's words and Entra's own.
                | "expired_token" | "code_expired" | "bad_verification_code",
                _,
            ) => Kind::SignInRequired,
            ("temporarily_unavailable" | "server_error", _) => Kind::RetryLater,
            _ => Kind::Configuration,
        }
    }

    /// Whether the refresh token that was sent is good for nothing any more. Where Entra only wants to see
    /// the person, it says in which matter, and the token may serve again.
    pub fn ends_refresh_token(&self) -> bool {
        let is_of_the_token = matches!(
            self.suberror.as_str(),
            "bad_token" | "token_expired" | "client_mismatch"
        );
        self.error == "invalid_grant"
            && (is_of_the_token || (self.suberror.is_empty() && self.claims.is_none()))
    }

    /// What the next sign-in must bring, where `sent` is what this one asked for.
    pub fn demand(&self, sent: &Demand) -> Demand {
        let is_consent = [&self.error, &self.suberror]
            .into_iter()
            .any(|code| code == "consent_required");
        Demand {
            claims: self
                .claims
                .as_deref()
                .and_then(Claims::of_challenge)
                .unwrap_or_else(|| sent.claims.clone()),
            prompt: if is_consent {
                Some(Prompt::Consent)
            } else {
                sent.prompt
            },
            ..sent.clone()
        }
    }
}

/// The first of `error_codes` that there is help for, else the first.
fn error_code(body: &Value) -> Option<u32> {
    let codes = body.get("error_codes")?.as_array()?;
    let numbers = || {
        codes
            .iter()
            .filter_map(|code| u32::try_from(code.as_u64()?).ok())
    };
    numbers()
        .find(|number| aadsts::is_known(*number))
        .or_else(|| numbers().next())
}

/// Of an id or a time, which are shorter, whatever somebody put in its place.
fn short(text: &str) -> String {
    text.chars().take(MOST_ID_CHARS).collect()
}

fn text(body: &Value, name: &str) -> Option<String> {
    body.get(name)?.as_str().map(str::to_owned)
}

fn seconds(body: &Value, name: &str) -> Option<u64> {
    let value = body.get(name)?;
    let number = value
        .as_u64()
        .or_else(|| value.as_str()?.trim().parse().ok())?;
    Some(number.min(LONGEST_LIFE))
}
