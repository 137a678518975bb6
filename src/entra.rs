//! Entra's token endpoint over the network. Only this file and `backend` name `ureq`.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use url::Url;

use crate::config::is_loopback_host;
use crate::error::{Failure, Kind};
use crate::oauth::token::{Form, OauthError, TokenResponse};
use crate::secret;

/// A token response is a few kilobytes; what is longer is none.
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// For the whole exchange; Entra answers within a second.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What MSAL takes for an absent `Retry-After`, and the longest that it honours.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(3600);

/// Why there is no token response.
#[derive(Debug)]
pub enum TokenError {
    /// Entra said so.
    Oauth(Box<OauthError>),
    /// Entra is not well or wants to be left alone for a while.
    Unwell {
        /// The HTTP status.
        status: u16,
        /// How long to leave it alone.
        retry_after: Duration,
    },
    /// Entra could not be reached; the form may or may not have arrived.
    Transport(String),
    /// What came back is no token response.
    Unreadable(String),
}

/// The client of one token endpoint.
pub struct Entra {
    agent: Agent,
    token_endpoint: Url,
}

/// An agent that verifies TLS with the operating system's certificates, follows no redirect and
/// speaks plain HTTP only to a loopback host.
#[must_use]
pub fn agent_config(url: &Url) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .https_only(!url.host_str().is_some_and(is_loopback_host))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("entra-auth-mcp/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
}

impl Entra {
    /// A client that posts to `token_endpoint`.
    #[must_use]
    pub fn new(token_endpoint: Url) -> Self {
        let config = agent_config(&token_endpoint)
            .timeout_global(Some(TIMEOUT))
            // A pooled connection that Entra has just closed would fail a request that must not be
            // repeated blindly.
            .max_idle_connections(0)
            .build();
        Self { agent: config.new_agent(), token_endpoint }
    }

    /// Posts `form`. Never repeated from here: whether a code or a refresh token was used up is not
    /// known after a transport failure.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn token(&self, form: Form<'_>) -> Result<TokenResponse, TokenError> {
        let correlation_id = correlation_id().map_err(|failure| TokenError::Transport(failure.message))?;
        // No Origin: with one, Entra takes us for a single-page application (AADSTS9002327).
        let sent = self
            .agent
            .post(self.token_endpoint.as_str())
            .header("accept", "application/json")
            .header("client-request-id", &correlation_id)
            .send_form(form);
        let mut answer = sent.map_err(|error| TokenError::Transport(explain(&error)))?;
        let status = answer.status().as_u16();
        log::debug!("token endpoint answered {status} (client-request-id {correlation_id})");
        if status == 429 || status >= 500 {
            return Err(TokenError::Unwell { status, retry_after: retry_after(answer.headers()) });
        }
        let body = answer.body_mut().with_config().limit(MOST_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => TokenError::Unreadable("it is longer than 1 MiB".to_owned()),
            error => TokenError::Transport(explain(&error)),
        })?;
        if status == 200 {
            return TokenResponse::parse(&body).map_err(|reason| TokenError::Unreadable(reason.to_owned()));
        }
        match OauthError::parse(&body) {
            Some(error) => Err(TokenError::Oauth(Box::new(error))),
            None => Err(TokenError::Unreadable(format!("its status is {status} and its body is no OAuth error"))),
        }
    }
}

/// `Retry-After` in whole seconds (RFC 9110 §10.2.3), within bounds.
fn retry_after(headers: &ureq::http::HeaderMap) -> Duration {
    let seconds =
        headers.get("retry-after").and_then(|value| value.to_str().ok()).and_then(|value| value.trim().parse().ok());
    seconds.map_or(DEFAULT_RETRY, Duration::from_secs).min(LONGEST_RETRY)
}

/// A random GUID (RFC 9562 §5.4), under which Microsoft's support finds the request.
fn correlation_id() -> Result<String, Failure> {
    let mut bytes = secret::random_bytes::<16>()?;
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    let mut guid = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            guid.push('-');
        }
        guid.push_str(&format!("{byte:02x}"));
    }
    Ok(guid)
}

/// A transport error in words, with the mend where one is known.
#[must_use]
pub fn explain(error: &ureq::Error) -> String {
    let text = error.to_string();
    let mend = match error {
        ureq::Error::HostNotFound => " Check the host name, the network and the proxy settings.",
        ureq::Error::Timeout(_) => " The other side took too long.",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) if text.contains("No CA certificates") => {
            " This machine has no root certificates: install ca-certificates, or set SSL_CERT_FILE."
        }
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => {
            " Its TLS certificate was not accepted; where a proxy inspects TLS, add the proxy's root certificate to the system's store or name it in SSL_CERT_FILE."
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            " Nothing listens there, or a proxy is needed (HTTPS_PROXY)."
        }
        _ => "",
    };
    format!("{text}.{mend}")
}

impl TokenError {
    /// The failure to show when a request of `purpose` ("the refresh", "the sign-in") ended so.
    #[must_use]
    pub fn into_failure(self, purpose: &str, hint: impl FnOnce(&OauthError) -> String) -> Failure {
        use crate::oauth::token::Remedy;
        match self {
            Self::Oauth(error) => {
                let kind = match error.remedy() {
                    Remedy::SignIn => Kind::SignInRequired,
                    Remedy::Retry => Kind::RetryLater,
                    Remedy::Accept => Kind::Refused,
                    Remedy::Configure => Kind::Configuration,
                };
                let description = if error.description.is_empty() { &error.error } else { &error.description };
                let mut failure =
                    Failure::new(kind, format!("Entra refused {purpose}: {description}")).hint(hint(&error));
                failure.aadsts = error.aadsts;
                failure.correlation_id = error.correlation_id;
                failure
            }
            Self::Unwell { status, retry_after } => {
                Failure::new(Kind::RetryLater, format!("Entra answered {purpose} with status {status}."))
                    .hint("Nothing is lost; try again later.")
                    .retry_after(retry_after)
            }
            Self::Transport(reason) => {
                Failure::new(Kind::RetryLater, format!("Entra could not be reached for {purpose}: {reason}"))
                    .hint("Nothing is lost; try again when the network is back.")
                    .retry_after(DEFAULT_RETRY)
            }
            Self::Unreadable(reason) => {
                Failure::new(Kind::RetryLater, format!("Entra's answer to {purpose} could not be used: {reason}."))
                    .hint("Check AZURE_AUTHORITY_HOST and whether a proxy answers in Entra's place.")
                    .retry_after(DEFAULT_RETRY)
            }
        }
    }
}
