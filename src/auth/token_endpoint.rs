//! The token endpoint (RFC 6749 §4.1.3, §5, §6; RFC 8628 §3.4): one grant, one function, one form;
//! one POST; one answer. A public client: no secret, ever.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ureq::Agent;
use ureq::http::HeaderMap;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::authority::Application;
use super::challenge::{self, Claims};
use super::device_code::DeviceAuthorization;
use super::oauth_error::OauthError;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::logging;
use crate::outgoing::{agent, agent_config, describe, mend, retry_after};
use crate::secret::{Secret, SecretJson};

/// No token of Entra lives longer than a year, and sums with it cannot overflow.
const LONGEST_LIFE: u64 = 366 * 86_400;
/// A token response is a few kilobytes; what is longer is none.
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// For the whole exchange; Entra answers within a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What MSAL takes for an absent `Retry-After`, and the longest that it honours.
pub const DEFAULT_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// With none, everybody who waits would ask at once.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// The fields of a form, in the order in which they are sent.
pub type Form<'a> = Vec<(&'static str, &'a str)>;

/// Redeems an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5), with the scopes and claims of
/// the authorization request.
pub fn redeem<'a>(
    application: &Application<'a>,
    code: &'a Secret,
    code_verifier: &'a Secret,
    claims: Option<&'a Claims>,
) -> Form<'a> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", application.client_id),
        ("scope", application.scopes.requested()),
        ("redirect_uri", application.redirect_uri),
        ("code", code.expose()),
        ("code_verifier", code_verifier.expose()),
        ("claims", challenge::parameter(claims)),
    ]
}

/// Refreshes (RFC 6749 §6), with the scopes that were requested, not those that were granted: Entra
/// echoes `.default` beside resource scopes and then refuses the mix (AADSTS70011).
pub fn refresh<'a>(
    application: &Application<'a>,
    refresh_token: &'a Secret,
    claims: Option<&'a Claims>,
) -> Form<'a> {
    vec![
        ("grant_type", "refresh_token"),
        ("client_id", application.client_id),
        ("scope", application.scopes.requested()),
        ("refresh_token", refresh_token.expose()),
        ("claims", challenge::parameter(claims)),
    ]
}

/// `form` as it is sent, in a buffer that does not grow, because what is left behind of it would
/// not be wiped.
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

// ---- One POST ----

/// Why Entra gave nothing.
pub struct Refusal {
    /// What the person is told.
    pub failure: Failure,
    /// What Entra has answered, if that is an OAuth error.
    pub error: Option<Box<OauthError>>,
}

impl Refusal {
    /// Entra could not be asked, or its answer is no OAuth error.
    fn unanswered(failure: Failure) -> Self {
        Self {
            failure,
            error: None,
        }
    }
}

/// The endpoints of one authority that this server posts to.
pub struct TokenEndpoint {
    config: Arc<Config>,
    agent: Agent,
    token: Url,
    device_code: Url,
}

impl TokenEndpoint {
    /// Those of the authority of `config`.
    pub fn new(config: Arc<Config>) -> Self {
        let token = config.authority.endpoint("token");
        let device_code = config.authority.endpoint("devicecode");
        // A pooled connection that Entra has just closed would fail a request that must not be
        // repeated blindly.
        let agent_config = agent_config(&token)
            .timeout_global(Some(TIMEOUT))
            .max_idle_connections(0)
            .build();
        Self {
            agent: agent(agent_config),
            config,
            token,
            device_code,
        }
    }

    /// Asks for tokens with `form`, for `purpose` ("the sign-in"). It is never repeated from here:
    /// whether a code or a refresh token was used up is not known after a transport failure.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`] if Entra refuses the grant for good, [`Kind::RetryLater`] if it is
    /// not to be had, and what else an OAuth error asks for.
    pub fn token(&self, form: Form<'_>, purpose: &str) -> Result<TokenResponse, Refusal> {
        self.post(&self.token, form, purpose, TokenResponse::parse)
    }

    /// Asks for a device code with `form`, for `purpose` (RFC 8628 §3.1).
    ///
    /// # Errors
    /// As [`TokenEndpoint::token`].
    pub fn device_code(
        &self,
        form: Form<'_>,
        purpose: &str,
    ) -> Result<DeviceAuthorization, Refusal> {
        self.post(&self.device_code, form, purpose, DeviceAuthorization::parse)
    }

    fn post<T>(
        &self,
        endpoint: &Url,
        form: Form<'_>,
        purpose: &str,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<T, Refusal> {
        // No Origin: with one, Entra takes us for a single-page application (AADSTS9002327).
        let sent = self
            .agent
            .post(endpoint.as_str())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .send(encoded(form).as_bytes());
        let mut answer = sent.map_err(|error| unreachable(purpose, &error))?;
        let status = answer.status().as_u16();
        logging::debug(format_args!(
            "Entra answered {purpose} with status {status}"
        ));
        if status == 429 || status >= 500 {
            let failure = Failure::new(
                Kind::RetryLater,
                format!("Entra answered {purpose} with status {status}."),
            )
            .hint("Try again later.")
            .retry_after(wait_wanted(answer.headers()));
            return Err(Refusal::unanswered(failure));
        }
        let body = answer
            .body_mut()
            .with_config()
            .limit(MOST_ANSWER_BYTES)
            .read_to_vec();
        let body = match body {
            Ok(body) => Zeroizing::new(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(unusable(purpose, "it is longer than 1 MiB"));
            }
            Err(error) => return Err(unreachable(purpose, &error)),
        };
        if status == 200 {
            return parse(&body).map_err(|reason| unusable(purpose, reason));
        }
        match OauthError::parse(&body) {
            Some(error) => {
                let failure = error.failure(&self.config.application(), purpose);
                let error = Some(Box::new(error));
                Err(Refusal { failure, error })
            }
            None => Err(unusable(
                purpose,
                "it is neither a token nor an OAuth error",
            )),
        }
    }
}

fn unreachable(purpose: &str, error: &ureq::Error) -> Refusal {
    Refusal::unanswered(
        Failure::new(
            Kind::RetryLater,
            format!(
                "Entra could not be reached for {purpose}: {}.",
                describe(error)
            ),
        )
        .hint(mend(error))
        .retry_after(DEFAULT_RETRY),
    )
}

fn unusable(purpose: &str, reason: &str) -> Refusal {
    Refusal::unanswered(
        Failure::new(
            Kind::RetryLater,
            format!("Entra's answer to {purpose} could not be used: {reason}."),
        )
        .hint("Check AZURE_CLOUD or AZURE_AUTHORITY_HOST, and whether a proxy answers in Entra's place.")
        .retry_after(DEFAULT_RETRY),
    )
}

/// `Retry-After` within bounds.
fn wait_wanted(headers: &HeaderMap) -> Duration {
    let value = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| retry_after::parse(value, SystemTime::now()))
        .unwrap_or(DEFAULT_RETRY)
        .clamp(SHORTEST_RETRY, LONGEST_RETRY)
}

// ---- What came back ----

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
