//! The authorization request: the address that the browser is sent to (OpenID Connect Core
//! §3.1.2.1, with PKCE).

use url::Url;

use super::authority::{Application, ResponseMode};
use super::challenge::Claims;
use super::pkce;
use crate::error::Failure;
use crate::secret::Secret;

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
        Ok(Self {
            state: Secret::random()?,
            nonce: Secret::random()?,
            code_verifier: Secret::random()?,
        })
    }
}

/// What Entra is to show the person, whatever it would show otherwise (OpenID Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Nothing: where that does not do, the redirect URI is sent an error.
    Nothing,
    /// The choice of an account.
    SelectAccount,
    /// The sign-in itself, whatever session the browser has.
    Login,
    /// The consent, also to what was consented to before.
    Consent,
}

impl Prompt {
    /// The prompt of that name, among those for a person.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::SelectAccount, Self::Login, Self::Consent]
            .into_iter()
            .find(|prompt| prompt.name() == name)
    }

    /// The value of `prompt`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::SelectAccount => "select_account",
            Self::Login => "login",
            Self::Consent => "consent",
        }
    }
}

/// What a sign-in must bring beyond what every sign-in does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What the API wants of the token.
    pub wanted: Claims,
    /// What Entra is asked for: the same, unless it has said what it wants instead.
    pub claims: Claims,
    /// Scopes beyond the configured ones, separated by spaces.
    pub extra_scope: String,
    /// What the person is to be shown.
    pub prompt: Option<Prompt>,
    /// Who it must be (tenant and object id), where a call was made in that person's name.
    pub person: Option<(String, String)>,
}

/// Whom an authorization request is meant for, as far as that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// The account that should sign in.
    pub login: Option<&'a str>,
    /// Its home: Entra then goes straight to the organization's own page.
    pub domain: Option<&'a str>,
}

/// The address of an authorization request. Without a hint of the account the person chooses, since a
/// label may stand for any of their accounts.
pub fn url(
    application: &Application<'_>,
    mode: ResponseMode,
    proofs: &Proofs,
    demand: &Demand,
    hints: Hints<'_>,
) -> Url {
    let prompt = demand
        .prompt
        .or_else(|| hints.login.is_none().then_some(Prompt::SelectAccount));
    let login_hint = hints
        .login
        .filter(|_| prompt != Some(Prompt::SelectAccount));
    let optional = [
        ("prompt", prompt.map(Prompt::name)),
        ("login_hint", login_hint),
        ("domain_hint", hints.domain),
    ];
    let mut url = application.authority.endpoint("authorize");
    url.query_pairs_mut()
        .append_pair("client_id", application.client_id)
        .append_pair("response_type", "code")
        .append_pair("redirect_uri", application.redirect_uri)
        .append_pair("response_mode", mode.name())
        .append_pair("scope", application.scopes.requested())
        .append_pair("state", proofs.state.expose())
        .append_pair("nonce", proofs.nonce.expose())
        .append_pair(
            "code_challenge",
            &pkce::code_challenge(&proofs.code_verifier),
        )
        .append_pair("code_challenge_method", pkce::METHOD)
        .append_pair("claims", demand.claims.as_str())
        .extend_pairs(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    url
}
