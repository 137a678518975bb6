//! Entra's token and device code endpoints over the network.

use std::time::{Duration, SystemTime};

use ureq::Agent;
use ureq::http::HeaderMap;
use url::Url;
use zeroize::Zeroizing;

use super::aadsts;
use super::device_code::DeviceAuthorization;
use super::token_endpoint::{Form, OauthError, TokenResponse, encoded};
use crate::config::Config;
use crate::error::{EntraError, Failure, Kind};
use crate::outgoing::{agent_config, mend, retry_after};

/// A token response is a few kilobytes; what is longer is none.
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// For the whole exchange; Entra answers within a second.
const TIMEOUT: Duration = Duration::from_secs(30);
/// What MSAL takes for an absent `Retry-After`, and the longest that it honours.
pub const DEFAULT_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// Why Entra gave nothing.
pub struct Refusal {
    /// For the person.
    pub failure: Failure,
    /// What Entra said, where it said something: for what is to be decided by it.
    pub error: Option<Box<OauthError>>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            error: None,
        }
    }
}

/// The client of the endpoints of one configuration.
pub struct Entra {
    agent: Agent,
    token_endpoint: Url,
    device_code_endpoint: Url,
}

impl Entra {
    /// A client that posts to the endpoints of `config`.
    pub fn new(config: &Config) -> Self {
        let token_endpoint = config.authority.endpoint("token");
        let device_code_endpoint = config.authority.endpoint("devicecode");
        // A pooled connection that Entra has just closed would fail a request that must not be
        // repeated blindly.
        let config = agent_config(&token_endpoint)
            .timeout_global(Some(TIMEOUT))
            .max_idle_connections(0)
            .build();
        Self {
            agent: config.new_agent(),
            token_endpoint,
            device_code_endpoint,
        }
    }

    /// Asks for tokens with `form`, for `purpose` ("the sign-in"). Never repeated from here: whether a code
    /// or a refresh token was used up is not known after a transport failure.
    ///
    /// # Errors
    /// [`Kind::SignInRequired`] where Entra refuses the grant for good, [`Kind::RetryLater`] where it
    /// is not to be had, and what else an OAuth error asks for.
    pub fn token(
        &self,
        config: &Config,
        form: Form<'_>,
        purpose: &str,
    ) -> Result<TokenResponse, Refusal> {
        self.post(
            &self.token_endpoint,
            config,
            form,
            purpose,
            TokenResponse::parse,
        )
    }

    /// Asks for a device code with `form`, for `purpose`.
    ///
    /// # Errors
    /// As [`Entra::token`].
    pub fn device_code(
        &self,
        config: &Config,
        form: Form<'_>,
        purpose: &str,
    ) -> Result<DeviceAuthorization, Refusal> {
        self.post(
            &self.device_code_endpoint,
            config,
            form,
            purpose,
            DeviceAuthorization::parse,
        )
    }

    fn post<T>(
        &self,
        endpoint: &Url,
        config: &Config,
        form: Form<'_>,
        purpose: &str,
        parse: impl Fn(&[u8]) -> Result<T, &'static str>,
    ) -> Result<T, Refusal> {
        let later = |message: String, wait: Duration| {
            Failure::new(Kind::RetryLater, message).retry_after(wait)
        };
        let unreachable = |error: &ureq::Error| {
            let message = format!("Entra could not be reached for {purpose}: {error}.");
            later(message, DEFAULT_RETRY).hint(mend(error))
        };
        let unusable = |reason: &str| {
            later(format!("Entra's answer to {purpose} could not be used: {reason}."), DEFAULT_RETRY)
                .hint("Check AZURE_CLOUD or AZURE_AUTHORITY_HOST, and whether a proxy answers in Entra's place.")
        };
        // No Origin: with one, Entra takes us for a single-page application (AADSTS9002327).
        let request = self
            .agent
            .post(endpoint.as_str())
            .header("accept", "application/json");
        let sent = request
            .header("content-type", "application/x-www-form-urlencoded")
            .send(encoded(form).as_bytes());
        let mut answer = sent.map_err(|error| unreachable(&error))?;
        let status = answer.status().as_u16();
        log::debug!("Entra answered {purpose} with status {status}");
        if status == 429 || status >= 500 {
            let message = format!("Entra answered {purpose} with status {status}.");
            return Err(later(message, retry_after(answer.headers()))
                .hint("Try again later.")
                .into());
        }
        let body = match answer
            .body_mut()
            .with_config()
            .limit(MOST_ANSWER_BYTES)
            .read_to_vec()
        {
            Ok(body) => Zeroizing::new(body),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                return Err(unusable("it is longer than 1 MiB").into());
            }
            Err(error) => return Err(unreachable(&error).into()),
        };
        if status == 200 {
            return parse(&body).map_err(|reason| unusable(reason).into());
        }
        let error = OauthError::parse(&body)
            .ok_or_else(|| unusable("it is neither a token nor an OAuth error"))?;
        Err(Refusal {
            failure: refusal(config, &error, purpose),
            error: Some(Box::new(error)),
        })
    }
}

/// What an OAuth error means here, in words that fit `config`.
pub fn refusal(config: &Config, error: &OauthError, purpose: &str) -> Failure {
    let kind = error.kind();
    let remedy = match kind {
        Kind::SignInRequired => "Sign in again.",
        Kind::RetryLater => "Try again later.",
        Kind::Refused => "Sign in again if that was not meant, or ask an administrator.",
        _ => "Check the settings and the app registration.",
    };
    let application = config.application();
    let by_number = error
        .details
        .aadsts
        .and_then(|number| aadsts::advice(number, &application));
    let advice = by_number.or_else(|| aadsts::advice_by_name(&error.error, &application));
    let (title, hint) = match advice {
        Some(advice) => (Some(advice.title), advice.remedy),
        None => (None, remedy.to_owned()),
    };
    let description = if error.description.is_empty() {
        &error.error
    } else {
        &error.description
    };
    Failure {
        entra: Some(Box::new(EntraError {
            title,
            ..error.details.clone()
        })),
        ..Failure::new(kind, format!("Entra refused {purpose}: {description}")).hint(hint)
    }
}

/// `Retry-After` within bounds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let value = headers
        .get("retry-after")
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| retry_after::parse(value, SystemTime::now()))
        .unwrap_or(DEFAULT_RETRY)
        .min(LONGEST_RETRY)
}
