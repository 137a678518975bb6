//! A redirect that is not followed (RFC 9110 §15.4): where it leads.

use url::Url;

use super::endpoint::Target;

/// Words with which a segment of the path of a sign-in page of ASP.NET begins.
const SIGN_IN_WORDS: [&str; 4] = ["login", "logon", "signin", "sign-in"];

/// Where an answer leads.
pub(crate) struct Redirect {
    /// The absolute URL, or else what the API has written.
    pub(crate) target: String,
    /// Whether a person is to sign in there.
    pub(crate) is_sign_in: bool,
}

impl Redirect {
    /// The redirect to `location`, which is relative to the URL that was `called` (RFC 9110
    /// §10.2.2).
    pub(crate) fn new(called: &Target, location: String) -> Self {
        let Ok(url) = called.join(&location) else {
            return Self::unresolved(location);
        };
        Self {
            is_sign_in: is_sign_in(&url),
            target: url.into(),
        }
    }

    /// The redirect to `location`, of which only the text is known.
    pub(crate) fn unresolved(location: String) -> Self {
        Self {
            target: location,
            is_sign_in: false,
        }
    }
}

/// Whether `url` is that of a page for signing in. APIs for browsers send everybody there who has
/// no session: by OAuth 2.0 (RFC 6749 §4.1.1), SAML (Bindings 2.0 §3.4) or WS-Federation (1.2
/// §13.2), or as Azure App Service and ASP.NET do.
fn is_sign_in(url: &Url) -> bool {
    let has = |name: &str| {
        let mut parameters = url.query_pairs();
        parameters.any(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let path = url.path().to_ascii_lowercase();
    let is_oauth = has("response_type") && has("client_id");
    let is_federation = has("wa") && has("wtrealm");
    let is_app_service = path.starts_with("/.auth/login/");
    let begins_so = |segment: &str| SIGN_IN_WORDS.iter().any(|word| segment.starts_with(word));
    // Other pages of ASP.NET have `ReturnUrl`, too.
    let is_asp_net = has("ReturnUrl") && path.split('/').any(begins_so);
    is_oauth || is_federation || has("SAMLRequest") || is_app_service || is_asp_net
}
