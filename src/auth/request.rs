//! The authorization request: the address that the browser is sent to (RFC 6749 §4.1.1, OpenID
//! Connect Core §3.1.2.1), with PKCE (RFC 7636).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::authority::Application;
use super::challenge::{self, Claims};
use super::id_token::Person;
use crate::error::Failure;
use crate::secret::Secret;

/// The only challenge method that is ever sent: Entra would accept `plain`, and takes a missing
/// method for `plain` (RFC 7636 §4.3).
const CHALLENGE_METHOD: &str = "S256";

/// What one request carries and its response is checked against.
pub struct Proofs {
    /// Ties the response to the request (RFC 6749 §10.12). Entra strips HTML from a state;
    /// base64url has none.
    pub state: Secret,
    /// Ties the ID token to the request (OpenID Connect Core §3.1.2.1).
    pub nonce: Secret,
    /// Shows that whoever redeems the code made the request; only its challenge is sent. It has 32
    /// random bytes as 43 unreserved characters (RFC 7636 §4.1).
    pub code_verifier: Secret,
}

impl Proofs {
    /// New random values.
    ///
    /// # Errors
    /// The operating system gives no random numbers.
    pub fn random() -> Result<Self, Failure> {
        Ok(Self {
            state: Secret::random()?,
            nonce: Secret::random()?,
            code_verifier: Secret::random()?,
        })
    }
}

/// `BASE64URL(SHA256(code_verifier))` (RFC 7636 §4.2).
pub fn code_challenge(code_verifier: &Secret) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(code_verifier.expose().as_bytes()))
}

/// What Entra is told to show the person (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Nothing. If that is not enough, the redirect URI is sent an error.
    None,
    /// The choice of an account.
    SelectAccount,
    /// The sign-in itself, whatever session the browser has.
    Login,
    /// The consent, even if it was given before.
    Consent,
}

impl Prompt {
    /// The prompt that a person or a client may ask for by this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SelectAccount, Self::Login, Self::Consent]
            .into_iter()
            .find(|prompt| prompt.name() == name)
    }

    /// The value of the parameter `prompt`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SelectAccount => "select_account",
            Self::Login => "login",
            Self::Consent => "consent",
        }
    }
}

/// What a sign-in must bring beyond what every sign-in does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// The claims that the API has demanded of the access token, if it has. A refresh that brings
    /// them makes the sign-in unnecessary.
    pub api_claims: Option<Claims>,
    /// The claims that Entra is asked for. They are those of the API, unless Entra itself has named
    /// others when it refused a request.
    pub claims: Option<Claims>,
    /// What the person is shown.
    pub prompt: Option<Prompt>,
    /// Who must sign in, if a call was made in that person's name.
    pub person: Option<Person>,
}

impl Requirements {
    /// What the API has demanded, and nothing more.
    pub fn for_api(claims: Option<&Claims>) -> Self {
        Self {
            api_claims: claims.cloned(),
            claims: claims.cloned(),
            ..Self::default()
        }
    }
}

/// The address of an authorization request. `login_hint` is the account that should sign in;
/// without one the person chooses, because a label may stand for any account of theirs.
pub fn url(
    application: &Application<'_>,
    proofs: &Proofs,
    requirements: &Requirements,
    login_hint: Option<&str>,
) -> Url {
    let prompt = match (requirements.prompt, login_hint) {
        (None, None) => Some(Prompt::SelectAccount),
        (prompt, _) => prompt,
    };
    let mut url = application.authority.endpoint("authorize");
    let mut query = url.query_pairs_mut();
    query
        .append_pair("client_id", application.client_id)
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", application.redirect_uri)
        .append_pair("response_mode", application.response_mode.name())
        .append_pair("scope", application.scopes.requested())
        .append_pair("state", proofs.state.expose())
        .append_pair("nonce", proofs.nonce.expose())
        .append_pair("code_challenge", &code_challenge(&proofs.code_verifier))
        .append_pair("code_challenge_method", CHALLENGE_METHOD)
        .append_pair("claims", challenge::parameter(requirements.claims.as_ref()));
    if let Some(prompt) = prompt {
        query.append_pair("prompt", prompt.name());
    }
    // A hint would preselect what the person is to choose.
    if let Some(login_hint) = login_hint.filter(|_| prompt != Some(Prompt::SelectAccount)) {
        query.append_pair("login_hint", login_hint);
    }
    if let Some(domain_hint) = application.domain_hint {
        query.append_pair("domain_hint", domain_hint);
    }
    drop(query);
    url
}
