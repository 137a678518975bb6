//! The authorization request: the address that the browser is sent to (OpenID Connect Core
//! §3.1.2.1, with PKCE).

use url::Url;

use super::authority::Authority;
use super::pkce;
use super::scope::Scopes;
use crate::error::Failure;
use crate::secret::Secret;

/// How Entra hands the authorization response to the redirect URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseMode {
    /// A cross-site POST; the code never stands in an address bar, a history or a log.
    #[default]
    FormPost,
    /// The query of a GET, for registrations that need it.
    Query,
}

impl ResponseMode {
    /// The value of `response_mode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FormPost => "form_post",
            Self::Query => "query",
        }
    }
}

/// What one request carries and its response is checked against.
pub struct Proofs {
    /// Ties the response to the request (RFC 6749 §10.12); base64url, as Entra strips HTML from it.
    pub state: Secret,
    /// Ties the ID token to the request.
    pub nonce: Secret,
    /// Shows that whoever redeems the code made the request; only its challenge is sent.
    pub code_verifier: Secret,
}

impl Proofs {
    /// New ones.
    ///
    /// # Errors
    /// No randomness.
    pub fn random() -> Result<Self, Failure> {
        Ok(Self { state: Secret::random()?, nonce: Secret::random()?, code_verifier: Secret::random()? })
    }
}

/// The application, as it was registered and configured.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// Where it is registered.
    pub authority: &'a Authority,
    /// Its client id.
    pub client_id: &'a str,
    /// As registered, byte for byte.
    pub redirect_uri: &'a str,
    /// What it asks for.
    pub scopes: &'a Scopes,
}

/// The address of an authorization request. `login_hint` is the account that should sign in; without
/// one the person chooses, since a label may stand for any of their accounts.
pub fn url(application: &Application<'_>, mode: ResponseMode, proofs: &Proofs, login_hint: Option<&str>) -> Url {
    let mut url = application.authority.endpoint("authorize");
    url.query_pairs_mut()
        .append_pair("client_id", application.client_id)
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", application.redirect_uri)
        .append_pair("response_mode", mode.name())
        .append_pair("scope", application.scopes.requested())
        .append_pair("state", proofs.state.expose())
        .append_pair("nonce", proofs.nonce.expose())
        .append_pair("code_challenge", &pkce::code_challenge(&proofs.code_verifier))
        .append_pair("code_challenge_method", pkce::METHOD)
        .extend_pairs([login_hint.map_or(("prompt", "select_account"), |account| ("login_hint", account))]);
    url
}
