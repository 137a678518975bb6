//! What a person sees of the stand-in; also of the demo, so it should please.

use super::Settings;
use crate::support::{Pairs, escape_html, value_of};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886;--accent:#2f6feb}\
body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;\
place-items:center;background:light-dark(#eef1f5,#15181d)}\
main{width:min(26rem,calc(100vw - 6rem));padding:2rem;border-radius:12px;\
background:light-dark(#fff,#20242b);box-shadow:0 4px 24px #0003;overflow-wrap:anywhere}\
h1{font-size:1.4rem;margin:0}p{margin:.5rem 0 1rem}code{font-size:.85em}\
small{display:block;margin-top:1.5rem;opacity:.75}\
button{font:inherit;color:inherit;text-align:left;display:block;width:100%;margin:.5rem 0;\
padding:.7rem 1rem;border:1px solid var(--line);border-radius:8px;background:none;cursor:pointer}\
button span{display:block;opacity:.75}button:hover{border-color:var(--accent)}\
button:focus-visible{outline:3px solid var(--accent);outline-offset:2px}\
input{font:inherit;color:inherit;width:100%;box-sizing:border-box;padding:.7rem 1rem;\
border:1px solid var(--line);border-radius:8px;background:none;text-transform:uppercase}\
.deny{text-align:center}";

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}\
         <small>A local stand-in for Microsoft Entra ID. No password, no network.</small>\
         </main></body></html>"
    )
}

/// The accounts to choose from, the hinted one first.
pub(super) fn sign_in(
    settings: &Settings,
    tenant: &str,
    params: &Pairs,
    transaction: &str,
) -> String {
    let accounts = accounts(settings, value_of(params, "login_hint").unwrap_or_default());
    let scope = value_of(params, "scope").unwrap_or_default();
    let [client_id, tenant, scope] = [&settings.client_id, tenant, scope].map(escape_html);
    page(
        "Sign in",
        &format!(
            "<h1>Pick an account</h1><p>to continue to app <code>{client_id}</code></p>\
             <form method=\"post\" action=\"/{tenant}/login\">\
             <input type=\"hidden\" name=\"transaction\" value=\"{transaction}\">{accounts}\
             <p>The app asks for: <code>{scope}</code></p>\
             <button class=\"deny\" name=\"deny\" value=\"1\">Deny consent</button></form>"
        ),
    )
}

/// A button for each account, the hinted one first.
fn accounts(settings: &Settings, hint: &str) -> String {
    let is_hinted = |username: &str| username.eq_ignore_ascii_case(hint);
    let mut users: Vec<_> = settings.people().collect();
    users.sort_by_key(|user| !is_hinted(&user.username));
    let button = |user: &&super::User| {
        let [username, name] = [&user.username, &user.name].map(|text| escape_html(text));
        let focus = if is_hinted(&user.username) {
            " autofocus"
        } else {
            ""
        };
        format!(
            "<button name=\"account\" value=\"{username}\"{focus}><strong>{name}</strong>\
             <span>{username}</span></button>"
        )
    };
    users.iter().map(button).collect()
}

/// Where a person types the code that another device shows.
pub(super) fn device(settings: &Settings) -> String {
    page(
        "Sign in on another device",
        &format!(
            "<h1>Enter code to allow access</h1>\
             <p>Only if you got the code from an app that you started yourself.</p>\
             <form method=\"post\" action=\"/device\">\
             <input name=\"user_code\" aria-label=\"Code\" placeholder=\"Code\" autocomplete=\"off\" required autofocus>{}\
             <button class=\"deny\" name=\"deny\" value=\"1\">Deny consent</button></form>",
            accounts(settings, "")
        ),
    )
}

pub(super) fn device_done() -> String {
    let body = "<h1>You are done here</h1><p>Go back to your app; you may close this window.</p>";
    page("Done", body)
}

/// OAuth 2.0 Form Post Response Mode: posts itself on, with a button where scripts are off.
pub(super) fn form_post(redirect_uri: &str, fields: &Pairs) -> String {
    let input = |(name, value): &(String, String)| {
        let value = escape_html(value);
        format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">")
    };
    let inputs: Vec<String> = fields.iter().map(input).collect();
    page(
        "Working…",
        &format!(
            "<form method=\"POST\" name=\"hiddenform\" action=\"{}\">{}<noscript><p>Script is \
             disabled. Choose Submit to continue.</p><button>Submit</button></noscript></form>\
             <script>document.forms[0].submit();</script>",
            escape_html(redirect_uri),
            inputs.concat()
        ),
    )
}

pub(super) fn failed(description: &str) -> String {
    let description = escape_html(description);
    let heading = "<h1>Sorry, but we’re having trouble signing you in.</h1>";
    page("Sign-in failed", &format!("{heading}<p>{description}</p>"))
}

pub(super) fn signed_out() -> String {
    let body = "<h1>You signed out</h1><p>You may close this window.</p>";
    page("Signed out", body)
}
