//! The few HTML pages: plain, without script, under a strict Content-Security-Policy. Everything that
//! comes from outside is escaped.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::clock::iso8601_seconds;
use crate::error::Failure;
use crate::http::message::{Reply, reply, with_field};
use crate::token_cache::Accounts;

const LAYOUT: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// Nothing is loaded, nothing runs, nobody frames us; the one style sheet is named by its hash.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// `text` so that it can stand in HTML text and in a quoted attribute.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// A page; `body` is HTML.
fn page(status: u16, title: &str, body: &str) -> Reply {
    let html = LAYOUT
        .replace("{title}", &escaped(title))
        .replace("{style}", STYLE)
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{body}", body);
    let reply = reply(status, "text/html; charset=utf-8", html.into_bytes());
    with_field(reply, "Content-Security-Policy", &POLICY)
}

/// A sign-in or sign-out that went well.
#[must_use]
pub fn success(title: &str, message: &str, more: &str) -> Reply {
    let body = format!(
        "<h1 class=\"good\">{}</h1><p>{}</p><p>{}</p><p><a href=\"/\">To the start page</a></p>",
        escaped(title),
        escaped(message),
        more
    );
    page(200, title, &body)
}

/// What went wrong, and what to do.
#[must_use]
pub fn failure(status: u16, title: &str, failure: &Failure) -> Reply {
    let id = failure.correlation_id.as_ref().map(|id| {
        format!(
            "<p class=\"soft\">Microsoft's support can find this sign-in by its correlation id {}.</p>",
            escaped(id)
        )
    });
    let body = format!(
        "<h1 class=\"bad\">{}</h1><p>{}</p><p>{}</p>{}<p><a href=\"/\">To the start page</a></p>",
        escaped(title),
        escaped(&failure.message),
        escaped(&failure.hint),
        id.unwrap_or_default()
    );
    page(status, title, &body)
}

/// Asks the person to confirm what another site's page has led them to.
#[must_use]
pub fn confirm_sign_in(user_id: &str) -> Reply {
    let link = format!("/auth/login?{}", user_query(user_id));
    let body = format!(
        "<h1>Sign in?</h1><p>Another site has led you here to sign in as {}. Go on only if you meant to.</p>\
         <p><a class=\"button\" href=\"{}\">Sign in</a></p>",
        escaped(user_id),
        escaped(&link)
    );
    page(403, "Sign in?", &body)
}

/// The start page: who is signed in, and how a client is connected.
#[must_use]
pub fn home(accounts: &Accounts, mcp_url: &str) -> Reply {
    let mut rows = String::new();
    for (user_id, account) in accounts {
        let state = if account.refresh_token.is_some() {
            "signed in".to_owned()
        } else {
            format!("signed in until {}", iso8601_seconds(account.expires_at))
        };
        let query = escaped(&user_query(user_id));
        rows.push_str(&format!(
            "<li><strong>{}</strong> <span class=\"soft\">{} {}, {state}</span><br>\
             <a href=\"/auth/login?{query}\">Sign in again</a> · <a href=\"/auth/logout?{query}\">Sign out</a></li>",
            escaped(user_id),
            escaped(&account.name),
            escaped(&account.username),
        ));
    }
    if rows.is_empty() {
        rows.push_str("<li>Nobody yet.</li>");
    }
    let body = format!(
        "<h1>Your company API, as you, in your MCP client</h1>\
         <p>This server signs you in with Microsoft Entra ID and lets MCP clients on this machine call one API as you.</p>\
         <h2>Signed in</h2><ul>{rows}</ul><p><a class=\"button\" href=\"/auth/login\">Sign in</a></p>\
         <h2>Connect a client</h2>\
         <p>VS Code, <code>.vscode/mcp.json</code>:</p><pre>{vscode}</pre>\
         <p>Claude Code:</p><pre>claude mcp add --transport http company-api {url}</pre>\
         <p>Cursor, <code>.cursor/mcp.json</code>:</p><pre>{cursor}</pre>",
        vscode = escaped(&format!(
            "{{ \"servers\": {{ \"company-api\": {{ \"type\": \"http\", \"url\": \"{mcp_url}\" }} }} }}"
        )),
        cursor = escaped(&format!("{{ \"mcpServers\": {{ \"company-api\": {{ \"url\": \"{mcp_url}\" }} }} }}")),
        url = escaped(mcp_url),
    );
    page(200, "entra-auth-mcp", &body)
}

fn user_query(user_id: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("user_id", user_id).finish()
}
