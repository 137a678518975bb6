//! The authorization request: the address that the browser is sent to (OpenID Connect Core
//! §3.1.2.1, with PKCE).

use url::Url;

use super::authority::Authority;
use super::pkce;
use super::scope::Scopes;
use crate::secret::Secret;

/// How Entra hands the authorization response to the redirect URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    /// A cross-site POST; the code never stands in an address bar, a history or a log.
    FormPost,
    /// The query of a GET, for registrations that need it.
    Query,
}

impl ResponseMode {
    /// The value of `response_mode`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FormPost => "form_post",
            Self::Query => "query",
        }
    }
}

/// One authorization request.
pub struct AuthorizationRequest<'a> {
    /// The application's client id.
    pub client_id: &'a str,
    /// As registered, byte for byte.
    pub redirect_uri: &'a str,
    /// How the answer comes back.
    pub response_mode: ResponseMode,
    /// What is asked for.
    pub scopes: &'a Scopes,
    /// Ties the answer to this request (RFC 6749 §10.12); base64url, as Entra strips HTML from it.
    pub state: &'a Secret,
    /// Ties the ID token to this request (OpenID Connect Core §3.1.2.1).
    pub nonce: &'a Secret,
    /// Its challenge is sent, itself only when the code is redeemed.
    pub code_verifier: &'a Secret,
    /// The account that should sign in, where it is known.
    pub login_hint: Option<&'a str>,
}

impl AuthorizationRequest<'_> {
    /// The whole address.
    #[must_use]
    pub fn url(&self, authority: &Authority) -> Url {
        let mut url = authority.authorize_endpoint();
        url.query_pairs_mut()
            .append_pair("client_id", self.client_id)
            .append_pair("response_type", "code")
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("response_mode", self.response_mode.name())
            .append_pair("scope", self.scopes.requested())
            .append_pair("state", self.state.expose())
            .append_pair("nonce", self.nonce.expose())
            .append_pair("code_challenge", &pkce::code_challenge(self.code_verifier))
            .append_pair("code_challenge_method", pkce::METHOD);
        match self.login_hint {
            Some(account) => url.query_pairs_mut().append_pair("login_hint", account),
            // Without a hint the person chooses: a label may stand for any of their accounts.
            None => url.query_pairs_mut().append_pair("prompt", "select_account"),
        };
        url
    }
}
