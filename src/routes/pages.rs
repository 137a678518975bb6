//! The few HTML pages: plain, without script, under a strict Content-Security-Policy.

pub(super) mod home;

use base64::prelude::*;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::error::Failure;
use crate::http::message::{Reply, reply_under, with_field};

const STYLE: &str = include_str!("pages/page.css");

/// What may stand in a page. Text from outside becomes HTML by being escaped, and in no other way.
struct Html(String);

/// `text` so that it can stand in HTML text and in a quoted attribute.
fn escaped(text: &str) -> Html {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    Html(text.replace('"', "&quot;").replace('\'', "&#39;"))
}

/// `template` with a value for every `{{name}}`, in one pass: no value is taken for a template.
/// `{{prefix}}` stands before each of our own paths.
fn filled(template: &str, values: &[(&str, Html)], prefix: &str) -> Html {
    let mut html = String::new();
    for piece in template.split("{{") {
        let (name, text) = piece.split_once("}}").unwrap_or(("", piece));
        if name == "prefix" {
            html += &escaped(prefix).0;
        }
        let value = values.iter().find(|(known, _)| *known == name);
        html.extend(value.map(|(_, Html(value))| value.as_str()));
        html.push_str(text);
    }
    Html(html)
}

/// The pages of one server.
pub(super) struct Pages {
    /// What stands before our own paths.
    prefix: String,
}

impl Pages {
    /// Pages whose links begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// A page whose body is `template` with `values`.
    fn page(&self, status: u16, title: &str, template: &str, values: &[(&str, Html)]) -> Reply {
        self.page_with(status, title, template, values, false)
    }

    fn page_with(
        &self,
        status: u16,
        title: &str,
        template: &str,
        values: &[(&str, Html)],
        has_form: bool,
    ) -> Reply {
        let body = filled(template, values, &self.prefix);
        let values = [
            ("title", escaped(title)),
            ("style", Html(STYLE.to_owned())),
            ("body", body),
            ("version", escaped(env!("CARGO_PKG_VERSION"))),
        ];
        let Html(html) = filled(include_str!("pages/page.html"), &values, &self.prefix);
        // Without a referrer a form would come without its origin, too (Fetch §3.2).
        let (form_action, referrer_policy) = if has_form {
            ("'self'", "same-origin")
        } else {
            ("'none'", "no-referrer")
        };
        let reply = reply_under(
            status,
            "text/html; charset=utf-8",
            html.into(),
            referrer_policy,
        );
        // Nothing is loaded, nothing runs, nobody frames us; the one style sheet is named by its
        // hash.
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
        );
        with_field(reply, "Content-Security-Policy", &policy)
    }

    /// A sign-in that went well.
    pub(super) fn signed_in(&self, message: &str) -> Reply {
        let values = [("message", escaped(message))];
        let template = include_str!("pages/signed_in.html");
        self.page(200, "You are signed in", template, &values)
    }

    /// A sign-out that went well.
    pub(super) fn signed_out(&self, logout_url: &Url) -> Reply {
        let values = [("logout_url", escaped(logout_url.as_str()))];
        let template = include_str!("pages/signed_out.html");
        self.page(200, "Signed out", template, &values)
    }

    /// An administrator has answered a request for consent.
    pub(super) fn admin_consent(&self) -> Reply {
        let template = include_str!("pages/admin_consent.html");
        self.page(200, "An administrator has answered", template, &[])
    }

    /// What went wrong, and what to do.
    pub(super) fn failure(&self, status: u16, title: &str, failure: &Failure) -> Reply {
        self.failure_page(status, title, failure, Html(String::new()))
    }

    /// The same for a sign-in that `user_id` may try again.
    pub(super) fn failed_sign_in(&self, title: &str, failure: &Failure, user_id: &str) -> Reply {
        let address = format!("/auth/login{}", query_of(Some(user_id)).0);
        let values = [("address", Html(address))];
        let again = filled(include_str!("pages/again.html"), &values, &self.prefix);
        self.failure_page(400, title, failure, again)
    }

    fn failure_page(&self, status: u16, title: &str, failure: &Failure, again: Html) -> Reply {
        let support = failure.entra.as_ref().map(|entra| entra.support());
        let title = failure.title().unwrap_or(title);
        let values = [
            ("title", escaped(title)),
            ("message", escaped(&failure.message)),
            ("hint", escaped(&failure.hint)),
            ("support", escaped(&support.unwrap_or_default())),
            ("again", again),
        ];
        self.page(status, title, include_str!("pages/failure.html"), &values)
    }

    /// Nothing is at the address.
    pub(super) fn not_found(&self) -> Reply {
        let template = include_str!("pages/not_found.html");
        self.page(404, "There is nothing here", template, &[])
    }

    /// A person has opened the address of the MCP endpoint.
    pub(super) fn endpoint(&self) -> Reply {
        let template = include_str!("pages/endpoint.html");
        self.page(405, "This address is for MCP clients", template, &[])
    }

    /// A browser has more cookies of this `host` than can be read.
    pub(super) fn too_many_cookies(&self, host: &str) -> Reply {
        let values = [("host", escaped(host))];
        let template = include_str!("pages/too_many_cookies.html");
        self.page(431, "Too many cookies", template, &values)
    }

    /// Says what a sign-in of `user_id` is for, and asks the person to confirm it by opening
    /// `/auth/login` with `query`.
    pub(super) fn confirm_sign_in(
        &self,
        user_id: &str,
        client_id: &str,
        backend: Option<&str>,
        scopes: &str,
        query: &str,
    ) -> Reply {
        let values = [
            ("user_id", escaped(user_id)),
            ("client_id", escaped(client_id)),
            ("backend", escaped(backend.unwrap_or("none is configured"))),
            ("scopes", escaped(scopes)),
            ("query", escaped(query)),
        ];
        self.page(200, "Sign in?", include_str!("pages/confirm.html"), &values)
    }

    /// Asks for the access key. Then comes the start page, and there the sign-in of `user_id`, if
    /// one is named: the policy that lets the form be sent would not let it lead on to Entra.
    pub(super) fn ask_for_key(&self, user_id: Option<&str>, was_wrong: bool) -> Reply {
        let refusal = if was_wrong {
            "That is not the access key of this server."
        } else {
            ""
        };
        let values = [("refusal", escaped(refusal)), ("query", query_of(user_id))];
        let template = include_str!("pages/key.html");
        self.page_with(401, "Access key", template, &values, true)
    }
}

/// With its question mark; empty if nobody is named.
fn query_of(user_id: Option<&str>) -> Html {
    user_id.map_or(Html(String::new()), |user_id| {
        Html(format!("?{}", query(user_id).0))
    })
}

fn query(user_id: &str) -> Html {
    escaped(
        &url::form_urlencoded::Serializer::new(String::new())
            .append_pair("user_id", user_id)
            .finish(),
    )
}
