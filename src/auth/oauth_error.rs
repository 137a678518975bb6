//! An OAuth error as Entra says it, and what it means: decided by `error`, `suberror` and `claims`
//! alone. Microsoft warns not to branch on numbers or texts; they choose the hint.

use serde_json::Value;

use super::aadsts;
use super::authority::Application;
use super::challenge::Claims;
use super::request::Requirements;
use crate::error::{EntraError, Failure, Kind};

/// So much of a description is shown.
const MOST_DESCRIPTION_CHARS: usize = 600;
const MOST_ID_CHARS: usize = 64;

/// An error of the token endpoint (RFC 6749 §5.2) or of the authorization response (§4.1.2.1).
#[derive(Debug)]
pub struct OauthError {
    /// The code that programs may branch on.
    pub error: String,
    /// Entra's finer division of `error`, for programs, too.
    pub suberror: Option<String>,
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
            suberror: None,
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
            suberror: text(&body, "suberror").filter(|suberror| !suberror.is_empty()),
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

    /// What to do, from `error` and `suberror` alone: Microsoft warns not to branch on numbers or
    /// texts.
    pub fn kind(&self) -> Kind {
        match (self.error.as_str(), self.suberror.as_deref()) {
            // A sign-in would only show the same message, or wants an app that enforces the policy.
            (_, Some("message_only" | "protection_policy_required"))
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

    /// Whether the refresh token that was sent is good for nothing any more. Where Entra only wants
    /// to see the person, it says in which matter, and the token may serve again.
    pub fn ends_refresh_token(&self) -> bool {
        let is_of_the_token = match self.suberror.as_deref() {
            Some(suberror) => matches!(suberror, "bad_token" | "token_expired" | "client_mismatch"),
            None => self.claims.is_none(),
        };
        self.error == "invalid_grant" && is_of_the_token
    }

    /// What the next sign-in must bring, if this one was `sent`. No prompt is added: Entra itself
    /// asks for the consent that is missing.
    pub fn requirements(&self, sent: &Requirements) -> Requirements {
        let own_claims = self.claims.as_deref().and_then(Claims::of_challenge);
        Requirements {
            claims: own_claims.or_else(|| sent.claims.clone()),
            ..sent.clone()
        }
    }

    /// What it means for `purpose` ("the sign-in"), in words that fit `application`.
    pub fn failure(&self, application: &Application<'_>, purpose: &str) -> Failure {
        let kind = self.kind();
        let by_number = self
            .details
            .aadsts
            .and_then(|number| aadsts::advice(number, application));
        let advice = by_number.or_else(|| aadsts::advice_by_name(&self.error, application));
        let (title, hint) = match advice {
            Some(advice) => (Some(advice.title), advice.remedy),
            None => (None, remedy(kind).to_owned()),
        };
        let description = if self.description.is_empty() {
            &self.error
        } else {
            &self.description
        };
        let details = EntraError {
            title,
            ..self.details.clone()
        };
        Failure {
            entra: Some(Box::new(details)),
            ..Failure::new(kind, format!("Entra refused {purpose}: {description}")).hint(hint)
        }
    }
}

/// What to do about an error that there is no advice for.
fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::SignInRequired => "Sign in again.",
        Kind::RetryLater => "Try again later.",
        Kind::Refused => "Sign in again if that was not meant, or ask an administrator.",
        _ => "Check the settings and the app registration.",
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
