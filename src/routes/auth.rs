//! Where browsers come in: the link of a sign-in, Entra's answer, the last page, and signing out.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tiny_http::Method;
use url::Url;
use url::form_urlencoded::Serializer;

use super::pages::home::ANOTHER;
use super::{Routes, is_form, is_led_from_elsewhere, name_and_port, redirect, user_agent};
use crate::auth::DEFAULT_USER_ID;
use crate::auth::authority::ResponseMode;
use crate::auth::pending::{self, Attempt, LIFETIME, Shows};
use crate::auth::response::{self, Arrival};
use crate::auth::sign_in::{Opened, check_user_id};
use crate::error::{Failure, Kind};
use crate::http::message::{Reply, Request, with_field};
use crate::outgoing::is_loopback_host;
use crate::secret::Secret;
use crate::sync::locked;

/// What the browser of a person who has pressed the button shows; see [`Routes::is_meant`].
const CONFIRM_COOKIE: &str = "entra_auth_mcp_confirm";

/// The query with which the redirect URI shows that it was given no answer.
const NO_ANSWER: &str = "error=no_answer";

/// What a sign-in page is asked for.
enum Asked {
    /// The sign-in whose link has this ticket.
    Ticket(String),
    /// A new sign-in of this user.
    User(String),
    /// A new sign-in under a label that is free.
    Another,
}

impl Asked {
    fn by(request: &Request<'_>) -> Self {
        if let Some(ticket) = request.parameter("ticket") {
            return Self::Ticket(ticket);
        }
        if let Some(user_id) = request.parameter("user_id") {
            return Self::User(user_id);
        }
        if request.parameter(ANOTHER).is_some() {
            return Self::Another;
        }
        Self::User(DEFAULT_USER_ID.to_owned())
    }
}

impl Routes {
    /// `/auth/login`: opens the link of a sign-in, or begins one, and sends the browser to Entra.
    pub(super) fn login(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        if let Some(elsewhere) = self.same_page_at_redirect_origin(request) {
            return Ok(redirect(302, &elsewhere));
        }
        let asked = Asked::by(request);
        if !self.is_meant(request) {
            return self.ask_to_confirm(&asked);
        }
        let opened = match &asked {
            Asked::Ticket(ticket) => self.auth.open(ticket, &self.shows(request))?,
            Asked::User(user_id) => self.auth.begin(user_id)?,
            Asked::Another => {
                // Two people who ask at the same time get two labels.
                let _turn = locked(&self.choosing);
                self.auth.begin(&self.free_label())?
            }
        };
        let Opened {
            handle,
            cookie,
            url,
        } = opened;
        let cookie = self.cookie(&pending::cookie_name(&handle), &cookie, "Lax");
        Ok(with_field(
            redirect(302, url.as_str()),
            "Set-Cookie",
            cookie.expose(),
        ))
    }

    /// A label that no account has, and under which nobody is signing in.
    fn free_label(&self) -> String {
        let accounts = self.auth.accounts();
        let signing_in = self.auth.pending().users();
        let mut number = accounts.len() + 1;
        loop {
            let label = format!("account-{number}");
            if !accounts.contains_key(&label) && !signing_in.contains(&label) {
                return label;
            }
            number += 1;
        }
    }

    /// Whether the person at this browser has asked for a sign-in, and not a page of somebody
    /// else's that has led the browser here, where a session with Microsoft would sign in without a
    /// click.
    ///
    /// Fetch Metadata tells, for a document that the person has navigated to. Beyond loopback, and
    /// for a browser that sends no such metadata, the person presses the button of a page of ours:
    /// its link has the digest of a cookie that the page has set, so it works in that browser only.
    fn is_meant(&self, request: &Request<'_>) -> bool {
        let has_metadata = request.field("sec-fetch-site").is_some();
        if has_metadata && (is_led_from_elsewhere(request) || !is_navigation(request)) {
            return false;
        }
        let is_here = is_loopback_host(&self.config.redirect_uri.host.name);
        if has_metadata && is_here {
            return true;
        }
        let Some(confirmation) = request.parameter("confirm").map(Secret::new) else {
            return false;
        };
        let name = self.own_cookie_name(CONFIRM_COOKIE);
        let mut cookies = request.cookies(&name);
        cookies.any(|cookie| confirmation.matches(&digest(cookie)))
    }

    /// The page that says what the sign-in is for, with a button.
    fn ask_to_confirm(&self, asked: &Asked) -> Result<Reply, Failure> {
        let (user_id, name, value) = match asked {
            Asked::Ticket(ticket) => (
                self.auth.pending().user_of(ticket)?,
                "ticket",
                ticket.as_str(),
            ),
            Asked::User(user_id) => {
                check_user_id(user_id)?;
                (user_id.clone(), "user_id", user_id.as_str())
            }
            // The label that it will have, unless somebody else takes it before the button is
            // pressed.
            Asked::Another => (self.free_label(), ANOTHER, "true"),
        };
        let confirmation = Secret::random()?;
        let cookie = self.cookie(CONFIRM_COOKIE, &confirmation, "Strict");
        let query = Serializer::new(String::new())
            .append_pair(name, value)
            .append_pair("confirm", &digest(confirmation.expose()))
            .finish();
        let backend = self.config.backend.as_ref().map(Url::as_str);
        let page = self.pages.confirm_sign_in(
            &user_id,
            &self.config.client_id,
            backend,
            self.config.scopes.requested(),
            &query,
        );
        Ok(with_field(page, "Set-Cookie", cookie.expose()))
    }

    /// Where the page must be opened instead: the cookie that is set there must reach the redirect
    /// URI, and `localhost` and `127.0.0.1` are two hosts to a browser.
    fn same_page_at_redirect_origin(&self, request: &Request<'_>) -> Option<String> {
        let (asked, _) = name_and_port(request.field("host")?);
        let redirect_uri = &self.config.redirect_uri;
        let own = &redirect_uri.host.name;
        let is_other =
            is_loopback_host(asked) && is_loopback_host(own) && !asked.eq_ignore_ascii_case(own);
        if !is_other {
            return None;
        }
        // As a URL, so that what stands there raw becomes fit for a header.
        let address = format!(
            "{}{}?{}",
            redirect_uri.origin, request.head.path, request.head.query
        );
        Url::parse(&address).ok().map(String::from)
    }

    /// The cookie of a sign-in, or of its button.
    fn cookie(&self, name: &str, value: &Secret, same_site: &str) -> Secret {
        let redirect_uri = &self.config.redirect_uri;
        let prefix = redirect_uri.prefix();
        // The redirect URI may be anywhere; the other pages of a sign-in are below `/auth`.
        let scope = if redirect_uri.is_https {
            "Path=/; Secure".to_owned()
        } else if redirect_uri.path.starts_with(&format!("{prefix}/auth/")) {
            format!("Path={prefix}/auth")
        } else {
            "Path=/".to_owned()
        };
        let attributes = format!("; Max-Age={LIFETIME}; HttpOnly; SameSite={same_site}; {scope}");
        let name = self.own_cookie_name(name);
        value.between(&format!("{name}="), &attributes)
    }

    /// `name` as a browser knows it. Behind https it has the prefix that keeps other hosts of the
    /// domain from setting the cookie (RFC 6265bis §4.1.3.2). Otherwise somebody there could give
    /// another person's browser the cookie of his own sign-in, and so have it completed by them.
    /// The prefix asks for the path `/`.
    fn own_cookie_name(&self, name: &str) -> String {
        if self.config.redirect_uri.is_https {
            format!("__Host-{name}")
        } else {
            name.to_owned()
        }
    }

    /// Which cookies the browser shows. Other programs at this host may have set one of the same
    /// name: it hides none of ours (RFC 6265 §8.5).
    fn shows<'r>(&'r self, request: &'r Request<'_>) -> impl Fn(&str, &Secret) -> bool + 'r {
        |name, value| {
            let name = self.own_cookie_name(name);
            request.cookies(&name).any(|cookie| value.matches(cookie))
        }
    }

    /// The redirect URI: takes Entra's answer and sends the browser on to `/auth/complete`.
    pub(super) fn callback(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        let is_post = request.head.method == Method::Post;
        let is_unasked_get = !is_post && self.config.response_mode == ResponseMode::FormPost;
        let parameters = if is_post {
            request.body
        } else {
            request.head.query.as_bytes()
        };
        if is_post && !is_form(request) {
            return Ok(self.not_how_a_sign_in_ends(request));
        }
        let response = match response::parse(parameters) {
            Ok(Arrival::AdminConsent) => return Ok(self.pages.admin_consent()),
            Ok(Arrival::Response(response)) => *response,
            Err(_) if !is_post => return Ok(self.not_how_a_sign_in_ends(request)),
            Err(reason) => {
                return Err(Failure::new(
                    Kind::InvalidRequest,
                    format!("This is no answer of Entra: {reason}."),
                )
                .hint("Start the sign-in again from a new link."));
            }
        };
        let client = user_agent(request);
        if is_unasked_get && response.outcome.is_ok() {
            // Somebody has changed the request, so that the code stands in the address, and may ask
            // the person to send it to him. It is never redeemed: the sign-in ends as if no browser
            // had opened it.
            let _ = self.auth.deliver(response, Some(&|_, _| false), client);
            return Ok(self.not_how_a_sign_in_ends(request));
        }
        let shows = self.shows(request);
        // The POST is cross-site, so it brings no SameSite=Lax cookie; the GET does.
        let cookies: Option<Shows<'_>> = if is_post { None } else { Some(&shows) };
        let (handle, receipt) = self.auth.deliver(response, cookies, client)?;
        let complete = format!(
            "{}/auth/complete?sign_in={handle}&receipt=",
            self.config.redirect_uri.prefix()
        );
        // 303: the browser comes back with a GET, which brings the cookie.
        Ok(redirect(303, receipt.between(&complete, "").expose()))
    }

    /// The reply to a request that brings no usable answer of Entra. Somebody may have changed the
    /// authorization request so that the code stands in the address, and may ask the person for
    /// that address. So a GET is first sent on to an address without a code. The fragment of the
    /// redirect replaces the one in the address bar (RFC 9110 §10.2.2), which no server sees.
    fn not_how_a_sign_in_ends(&self, request: &Request<'_>) -> Reply {
        if request.head.method != Method::Post && request.head.query != NO_ANSWER {
            return redirect(303, &format!("?{NO_ANSWER}#none"));
        }
        let failure = Failure::new(Kind::Refused, "A sign-in does not end at this address.").hint(
            "If somebody asked you to copy or open this address, do not: they may be after your account. \
             Start the sign-in again from a new link.",
        );
        self.pages
            .failure(400, "This is not how a sign-in ends", &failure)
    }

    /// `/auth/complete`: redeems the code, and shows how the sign-in ended. It can be reloaded.
    pub(super) fn complete(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        let handle = request.parameter("sign_in").unwrap_or_default();
        let receipt = Secret::new(request.parameter("receipt").unwrap_or_default());
        let shows = self.shows(request);
        let outcome = self
            .auth
            .complete(&handle, receipt.expose(), &shows, user_agent(request));
        match outcome {
            Ok(message) => Ok(self.pages.signed_in(&message)),
            Err(failure) => match self.auth.pending().ended_for(&handle, &shows) {
                Some(attempt) if may_work_again(&attempt, &failure) => {
                    let title = super::NOT_COMPLETED;
                    Ok(self.pages.failed_sign_in(title, &failure, &attempt.user_id))
                }
                _ => Err(failure),
            },
        }
    }

    /// `/auth/logout`: forgets the tokens of an account.
    pub(super) fn logout(&self, request: &Request<'_>) -> Result<Reply, Failure> {
        if is_led_from_elsewhere(request) {
            let failure = Failure::new(
                Kind::Refused,
                "Another site has led you here to sign out. Nothing was changed.",
            )
            .hint("To sign out, use the link on the start page.");
            return Ok(self.pages.failure(403, super::NOT_SIGNED_OUT, &failure));
        }
        let user_id = request.parameter("user_id");
        self.auth
            .sign_out(user_id.as_deref(), user_agent(request))?;
        let prefix = self.config.redirect_uri.prefix();
        Ok(redirect(303, &format!("{prefix}/auth/logout-complete")))
    }
}

/// Whether the person may have more luck with the same sign-in. A page cannot begin one that is for
/// a certain person; only a call can.
fn may_work_again(attempt: &Attempt, failure: &Failure) -> bool {
    let is_for_anybody = attempt.requirements.person.is_none();
    is_for_anybody && !matches!(failure.kind, Kind::Configuration | Kind::Internal)
}

fn digest(cookie: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(cookie))
}

/// Whether the browser loads a page for its window, and no image, frame or prefetch.
fn is_navigation(request: &Request<'_>) -> bool {
    request.field("sec-fetch-dest") == Some("document")
        && request
            .field("sec-fetch-mode")
            .is_none_or(|mode| mode == "navigate")
}
