//! The few HTML pages: plain, without script, under a strict Content-Security-Policy.

use base64::prelude::*;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::auth::aadsts::Advice;
use crate::auth::token_file::{Account, Accounts};
use crate::clock::iso8601_seconds;
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
fn filled(template: &str, values: &[(&str, Html)]) -> Html {
    let mut html = String::new();
    for piece in template.split("{{") {
        let (name, text) = piece.split_once("}}").unwrap_or(("", piece));
        let value = values.iter().find(|(known, _)| *known == name);
        html.extend(value.map(|(_, Html(value))| value.as_str()));
        html.push_str(text);
    }
    Html(html)
}

/// A page whose body is `template` with `values`.
fn page(status: u16, title: &str, template: &str, values: &[(&str, Html)]) -> Reply {
    page_with(status, title, template, values, false)
}

fn page_with(
    status: u16,
    title: &str,
    template: &str,
    values: &[(&str, Html)],
    has_form: bool,
) -> Reply {
    let values = [
        ("title", escaped(title)),
        ("style", Html(STYLE.to_owned())),
        ("body", filled(template, values)),
        ("version", escaped(env!("CARGO_PKG_VERSION"))),
    ];
    let Html(html) = filled(include_str!("pages/page.html"), &values);
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
    // Nothing is loaded, nothing runs, nobody frames us; the one style sheet is named by its hash.
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    );
    with_field(reply, "Content-Security-Policy", &policy)
}

/// A sign-in that went well.
pub(crate) fn signed_in(message: &str) -> Reply {
    page(
        200,
        "You are signed in",
        include_str!("pages/signed_in.html"),
        &[("message", escaped(message))],
    )
}

/// A sign-out that went well.
pub(crate) fn signed_out(logout_url: &Url) -> Reply {
    let values = [("logout_url", escaped(logout_url.as_str()))];
    page(
        200,
        "Signed out",
        include_str!("pages/signed_out.html"),
        &values,
    )
}

/// What went wrong, and what to do.
pub(crate) fn failure(status: u16, title: &str, failure: &Failure) -> Reply {
    let support = failure
        .entra
        .as_ref()
        .map(|entra| entra.support())
        .unwrap_or_default();
    let title = failure.title().unwrap_or(title);
    let values = [
        ("title", escaped(title)),
        ("message", escaped(&failure.message)),
        ("hint", escaped(&failure.hint)),
        ("support", escaped(&support)),
    ];
    page(status, title, include_str!("pages/failure.html"), &values)
}

/// Asks the person to confirm what another site's page has led them to.
pub(crate) fn confirm_sign_in(user_id: &str) -> Reply {
    let values = [("user_id", escaped(user_id)), ("query", query(user_id))];
    page(403, "Sign in?", include_str!("pages/confirm.html"), &values)
}

/// Asks for the access key. Then comes the start page, and there the sign-in of `user_id`, where one is named:
/// the policy that lets the form be sent would not let it lead on to Entra.
pub(crate) fn ask_for_key(user_id: Option<&str>, was_wrong: bool) -> Reply {
    let refusal = if was_wrong {
        "That is not the access key of this server."
    } else {
        ""
    };
    let values = [("refusal", escaped(refusal)), ("query", query_of(user_id))];
    page_with(
        401,
        "Access key",
        include_str!("pages/key.html"),
        &values,
        true,
    )
}

/// The start page: who is signed in, how a client is connected, and what to do about errors that only
/// Microsoft's page shows. `user_id` is who is about to sign in.
pub(crate) fn home(
    accounts: &Accounts,
    user_id: Option<&str>,
    mcp_url: &str,
    has_key: bool,
    errors: &[(u32, Advice)],
) -> Reply {
    let rows: String = accounts
        .iter()
        .map(|(user_id, account)| row(user_id, account).0)
        .collect();
    let rows = if rows.is_empty() {
        "<li>Nobody yet.</li>".to_owned()
    } else {
        rows
    };
    let error = |(number, Advice { title, remedy }): &(u32, Advice)| {
        let values = [
            ("number", escaped(&number.to_string())),
            ("title", escaped(title)),
            ("remedy", escaped(remedy)),
        ];
        filled(include_str!("pages/error.html"), &values).0
    };
    let errors = Html(errors.iter().map(error).collect());
    let key = if has_key {
        include_str!("pages/home_key.html")
    } else {
        ""
    };
    let values = [
        ("accounts", Html(rows)),
        ("query", query_of(user_id)),
        (
            "as",
            escaped(
                &user_id
                    .map(|user_id| format!(" as {user_id}"))
                    .unwrap_or_default(),
            ),
        ),
        ("key", Html(key.to_owned())),
        ("url", escaped(mcp_url)),
        ("errors", errors),
    ];
    page(
        200,
        "entra-auth-mcp",
        include_str!("pages/home.html"),
        &values,
    )
}

fn row(user_id: &str, account: &Account) -> Html {
    let state = match account.refresh_token {
        Some(_) => "signed in".to_owned(),
        None if account.access_token.expose().is_empty() => "the sign-in has ended".to_owned(),
        None => format!("signed in until {}", iso8601_seconds(account.expires_at)),
    };
    let values = [
        ("user_id", escaped(user_id)),
        ("name", escaped(&account.name)),
        ("username", escaped(&account.username)),
        ("state", escaped(&state)),
        ("query", query(user_id)),
    ];
    filled(include_str!("pages/account.html"), &values)
}

/// With its question mark; empty where nobody is named.
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
