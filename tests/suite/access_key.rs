//! A server with an access key: who is let in, by what, and that the key shows nowhere.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::entra::{ADA, Entra, GRACE};
use crate::support::http::Reply;
use crate::support::server::{MEDIA_TYPES, Mcp, Process, Running, Setup, Verb};
use crate::support::{PATIENCE, encode_pairs, value_of};
use serde_json::{Value, json};
use url::Url;

const KEY: &str = "kEy-5f1f0c7a2b9e4d3861f0a7c5e2b4d968";
const BEARER: &str = "Bearer kEy-5f1f0c7a2b9e4d3861f0a7c5e2b4d968";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn setup() -> (Entra, Setup) {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("SERVER_ACCESS_KEY", KEY);
    (entra, setup)
}

fn start() -> (Entra, Running) {
    let (entra, setup) = setup();
    let server = setup.start();
    (entra, server)
}

fn send(server: &Running, method: &str, target: &str, headers: &[(&str, &str)]) -> Reply {
    let media_types: &[_] = if target == "/mcp" { &MEDIA_TYPES } else { &[] };
    let body = if method == "POST" { PING } else { "" };
    server.client().request(
        method,
        target,
        &[media_types, headers].concat(),
        body.as_bytes(),
    )
}

/// Sends the key as the form does, with these headers.
fn enter(server: &Running, key: &str, headers: &[(&str, &str)]) -> Reply {
    let body = encode_pairs(&[("key", key)]);
    server.client().request(
        "POST",
        "/auth/key",
        &[&[FORM], headers].concat(),
        body.as_bytes(),
    )
}

fn enter_at_home(server: &Running, key: &str) -> Reply {
    enter(server, key, &[("Origin", &server.url())])
}

/// `name=value` of the cookie that `reply` sets.
fn cookie_of(reply: &Reply) -> String {
    reply
        .header("Set-Cookie")
        .expect("a cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned()
}

fn session(server: &Running) -> String {
    cookie_of(&enter_at_home(server, KEY))
}

fn home_with(server: &Running, cookie: &str) -> u16 {
    send(server, "GET", "/", &[("Cookie", cookie)]).status
}

fn another_site() -> Page {
    let url = Url::parse("https://evil.example/").unwrap();
    Page {
        url,
        status: 200,
        headers: Vec::new(),
        body: String::new(),
    }
}

/// A page that asks for the key.
#[track_caller]
fn assert_asks(page: &Page) {
    assert_eq!(page.status, 401, "{}", page.text());
    assert!(page.form().action.starts_with("/auth/key"), "{}", page.body);
}

const PROGRAMS: [(&str, &str); 4] = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("GET", "/auth/status"),
    ("GET", "/auth/status?user_id=ada"),
];
const PEOPLE: [(&str, &str); 6] = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/auth/login"),
    ("GET", "/auth/login?user_id=ada"),
    ("GET", "/auth/logout"),
    ("GET", "/auth/logout?user_id=ada"),
];

// ---- Programs ----

#[test]
fn without_the_key_nobody_is_let_in_and_learns_how() {
    let (_entra, server) = start();
    for (method, target) in [&PROGRAMS[..], &PEOPLE].concat() {
        let reply = send(&server, method, target, &[]);
        assert_eq!(reply.status, 401, "{method} {target}");
        assert_eq!(
            reply.headers_named("WWW-Authenticate"),
            [r#"Bearer realm="entra-auth-mcp""#],
            "{method} {target}"
        );
        assert!(
            reply.header("Set-Cookie").is_none() && reply.header("Location").is_none(),
            "{method} {target}"
        );
        let reply = send(&server, method, target, &[("Authorization", BEARER)]);
        assert_ne!(reply.status, 401, "{method} {target}");
    }
    let refusal = send(&server, "POST", "/mcp", &[]).json();
    assert_eq!(
        (&refusal["jsonrpc"], &refusal["error"]["code"]),
        (&json!("2.0"), &json!(-32600))
    );
    for text in [
        &refusal["error"]["message"],
        &send(&server, "GET", "/auth/status", &[]).json()["error"],
    ] {
        let text = text.as_str().unwrap();
        assert!(
            text.contains("Authorization: Bearer") && text.contains("SERVER_ACCESS_KEY"),
            "{text}"
        );
    }
}

// CASES A16: the Python SDK shows the message only where there is an id, be it null.
#[test]
fn the_refusal_at_mcp_is_a_json_rpc_error_that_has_an_id() {
    let (_entra, server) = start();
    for (method, headers) in [
        ("POST", &[][..]),
        ("GET", &[]),
        ("POST", &[("Authorization", "Bearer x")]),
    ] {
        let refusal = send(&server, method, "/mcp", headers).json();
        assert_eq!(refusal.get("id"), Some(&Value::Null), "{refusal}");
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(message.contains("There is no OAuth here"), "{message}");
    }
}

/// Where clients look for OAuth when the access key is missing.
const DISCOVERY: [&str; 10] = [
    "/.well-known/oauth-authorization-server",
    "/.well-known/oauth-authorization-server/mcp",
    "/mcp/.well-known/oauth-authorization-server",
    "/.well-known/oauth-protected-resource",
    "/.well-known/oauth-protected-resource/mcp",
    "/mcp/.well-known/oauth-protected-resource",
    "/.well-known/openid-configuration",
    "/.well-known/openid-configuration/mcp",
    "/mcp/.well-known/openid-configuration",
    "/mcp/.well-known/openid-configuration/",
];

/// What a client prints must say what to send, and may hold what RFC 6749 §5.2 allows.
#[track_caller]
fn assert_says_what_to_send(text: &Value) {
    let text = text.as_str().unwrap();
    for part in [
        "There is no OAuth here",
        "Authorization: Bearer",
        "SERVER_ACCESS_KEY",
    ] {
        assert!(text.contains(part), "{part:?} is due in {text:?}");
    }
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    assert!(text.bytes().all(is_allowed), "{text:?}");
}

// CASES A16
#[test]
fn a_client_that_looks_for_oauth_is_told_to_send_the_key() {
    let (_entra, server) = start();
    for target in DISCOVERY {
        for headers in [&[][..], &[("Authorization", "Bearer x")]] {
            let reply = send(&server, "GET", target, headers);
            assert_eq!(reply.status, 404, "{target}");
            assert_says_what_to_send(&reply.json()["error"]);
        }
    }
    // RFC 7591 §3.2.2 and RFC 6749 §5.2.
    for (target, error) in [
        ("/register", "invalid_client_metadata"),
        ("/mcp/register", "invalid_client_metadata"),
        ("/token", "unsupported_grant_type"),
        ("/mcp/token", "unsupported_grant_type"),
    ] {
        let body = r#"{"redirect_uris":["http://localhost:1/callback"]}"#;
        let media_type = ("Content-Type", "application/json");
        let reply = server
            .client()
            .request("POST", target, &[media_type], body.as_bytes());
        assert_eq!(reply.status, 400, "{target}");
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        let refusal = reply.json();
        assert_eq!(refusal["error"], error, "{target}");
        assert_says_what_to_send(&refusal["error_description"]);
    }
    // This is where a browser is led.
    for target in [
        "/authorize?response_type=code&client_id=x",
        "/mcp/authorize",
    ] {
        let page = Browser::new().navigate(&format!("{}{target}", server.url()));
        assert_eq!(page.status, 404, "{target}");
        assert_says_what_to_send(&json!(page.text()));
    }
}

// CASES A16: nothing there looks as if there were OAuth.
#[test]
fn where_clients_look_for_oauth_nothing_is_found_under_any_method() {
    let (_entra, server) = start();
    let others = ["/register", "/token", "/authorize"];
    for target in DISCOVERY.into_iter().chain(others) {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            for headers in [&[][..], &[("Authorization", BEARER)]] {
                let reply = send(&server, method, target, headers);
                assert!(
                    matches!(reply.status, 400 | 404),
                    "{method} {target}: {}",
                    reply.status
                );
                for name in ["Location", "WWW-Authenticate", "Set-Cookie"] {
                    assert_eq!(reply.header(name), None, "{method} {target}");
                }
            }
        }
    }
    for target in [
        "/.well-known/oauth-authorization-serverx",
        "/.well-known/other",
        "/registered",
        "/mcpregister",
        "/oauth/register",
        "/auth/register",
    ] {
        let reply = send(&server, "GET", target, &[]);
        assert_eq!(reply.status, 404);
        assert!(!reply.text().contains("OAuth"), "{target}");
    }
}

// CASES A16: a client in a page must be able to read it.
#[test]
fn a_page_of_an_allowed_origin_reads_that_there_is_no_oauth() {
    let (_entra, setup) = setup();
    let origin = ("Origin", "https://app.contoso.example");
    let server = setup.with("ALLOWED_ORIGINS", origin.1).start();
    for target in [DISCOVERY[0], "/register", "/token"] {
        let asks = [
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
            origin,
        ];
        let leave = send(&server, "OPTIONS", target, &asks);
        assert_eq!(leave.status, 204, "{target}");
        assert!(leave.header("Access-Control-Allow-Headers").is_some());
        for reply in [leave, send(&server, "POST", target, &[origin])] {
            assert_eq!(
                reply.header("Access-Control-Allow-Origin"),
                Some(origin.1),
                "{target}"
            );
        }
        let foreign = [("Origin", "https://evil.example")];
        assert_eq!(send(&server, "POST", target, &foreign).status, 403);
    }
}

// CASES A16: behind a proxy that serves this server below a path.
#[test]
fn below_a_prefix_too_there_is_no_oauth() {
    let (_entra, setup) = setup();
    let redirect_uri = "https://its.name/crm/auth/callback";
    let server = setup.with("REDIRECT_URI", redirect_uri).start();
    for (target, status) in [
        ("/crm/register", 400),
        ("/register", 400),
        ("/crm/mcp/.well-known/oauth-protected-resource", 404),
        ("/.well-known/oauth-protected-resource/crm/mcp", 404),
    ] {
        let reply = send(&server, "GET", target, &[("Host", "its.name")]);
        assert_eq!(reply.status, status, "{target}");
        assert!(reply.text().contains("There is no OAuth here"), "{target}");
    }
}

// CASES A16: without a key nobody is refused, so nobody looks for OAuth.
#[test]
fn without_an_access_key_there_is_nothing_at_the_paths_of_oauth() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    for target in DISCOVERY.into_iter().chain(["/register", "/token"]) {
        let reply = send(&server, "POST", target, &[]);
        assert_eq!(reply.status, 404, "{target}");
        assert!(!reply.text().contains("OAuth"), "{target}");
    }
}

#[test]
fn what_proves_itself_or_tells_nothing_needs_no_key() {
    let (_entra, server) = start();
    for (method, target, status) in [
        ("GET", "/healthz", 200),
        ("GET", "/auth/logout-complete", 200),
        ("GET", "/auth/login?ticket=unknown", 400),
        ("GET", "/auth/complete?sign_in=unknown", 400),
        ("GET", "/auth/callback?code=c&state=s", 303),
        ("GET", "/auth/callback?error=no_answer", 400),
        ("GET", "/nothing", 404),
        ("OPTIONS", "/mcp", 204),
        ("OPTIONS", "*", 204),
    ] {
        assert_eq!(
            send(&server, method, target, &[]).status,
            status,
            "{method} {target}"
        );
    }
}

#[test]
fn only_the_whole_key_as_the_one_bearer_token_is_taken() {
    let (_entra, server) = start();
    for good in [
        BEARER.to_owned(),
        format!("bearer {KEY}"),
        format!("BEARER   {KEY}"),
    ] {
        assert_eq!(
            send(&server, "POST", "/mcp", &[("Authorization", &good)]).status,
            200,
            "{good}"
        );
    }
    let (shorter, same_length) = (&KEY[..KEY.len() - 1], KEY.replace('5', "6"));
    for bad in [
        KEY.to_owned(),
        format!("Bearer {shorter}"),
        format!("Bearer {KEY}0"),
        format!("Bearer {same_length}"),
        format!("Bearer {}", KEY.to_lowercase()),
        format!("Bearer {}", KEY.to_uppercase()),
        format!("Bearer {KEY}, Bearer {KEY}"),
        format!("Bearer \"{KEY}\""),
        format!("Bearer{KEY}"),
        format!("Basic {KEY}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer (set)".to_owned(),
    ] {
        let reply = send(&server, "POST", "/mcp", &[("Authorization", &bad)]);
        assert_eq!(reply.status, 401, "{bad}");
        assert_eq!(
            reply.header("WWW-Authenticate"),
            Some(r#"Bearer realm="entra-auth-mcp", error="invalid_token""#)
        );
    }
    // The first or the last of two: whoever stands between may see the other one.
    for two in [[BEARER, "Bearer x"], ["Bearer x", BEARER], [BEARER, BEARER]] {
        let headers = two.map(|value| ("Authorization", value));
        assert_eq!(
            send(&server, "POST", "/mcp", &headers).status,
            401,
            "{two:?}"
        );
    }
    for (target, name) in [
        ("/mcp", "Cookie"),
        ("/mcp", "X-Api-Key"),
        ("/mcp", "Proxy-Authorization"),
    ] {
        assert_eq!(
            send(&server, "POST", target, &[(name, BEARER), (name, KEY)]).status,
            401,
            "{name}"
        );
    }
    // An address stands in histories and logs.
    for target in [
        format!("/?key={KEY}"),
        format!("/?access_token={KEY}"),
        format!("/auth/status?key={KEY}"),
    ] {
        assert_eq!(send(&server, "GET", &target, &[]).status, 401, "{target}");
    }
}

#[test]
fn host_and_origin_are_checked_with_the_key_as_without_it() {
    let (_entra, server) = start();
    for (name, value) in [
        ("Host", "evil.example"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
    ] {
        for (method, target) in [&PROGRAMS[..], &PEOPLE].concat() {
            let reply = send(
                &server,
                method,
                target,
                &[(name, value), ("Authorization", BEARER)],
            );
            assert_eq!(reply.status, 403, "{method} {target} {value}");
        }
    }
}

#[test]
fn a_page_of_an_allowed_origin_may_ask_without_the_key_and_then_send_it() {
    let (_entra, setup) = setup();
    let origin = ("Origin", "https://app.contoso.example");
    let server = setup.with("ALLOWED_ORIGINS", origin.1).start();
    let asks = [
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
        origin,
    ];
    let reply = send(&server, "OPTIONS", "/mcp", &asks);
    assert_eq!(reply.status, 204);
    assert!(
        reply
            .header("Access-Control-Allow-Headers")
            .unwrap()
            .contains("authorization")
    );
    for (headers, status) in [
        (&[origin][..], 401),
        (&[origin, ("Authorization", BEARER)], 200),
    ] {
        let reply = send(&server, "POST", "/mcp", headers);
        assert_eq!(
            (reply.status, reply.header("Access-Control-Allow-Origin")),
            (status, Some(origin.1))
        );
    }
    // Browsers send no cookie along without leave, and there is none.
    assert_eq!(reply.header("Access-Control-Allow-Credentials"), None);
}

#[test]
fn a_client_with_the_key_does_everything_and_nobody_else_gets_to_see_it() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend))
        .with("SERVER_ACCESS_KEY", KEY)
        .start();
    let mut mcp = server.modern().with_key(KEY);
    mcp.sign_in(ADA);
    assert_eq!(
        mcp.ok("api_get_request", json!({"endpoint": "/me"}))["data"]["userPrincipalName"],
        ADA
    );
    let headers = json!({"Authorization": BEARER});
    let refused = mcp.fails(
        "api_get_request",
        json!({"endpoint": "/me", "headers": headers}),
    );
    assert_eq!(refused["error"], "invalid_request", "{refused}");

    let sent = backend.requests();
    assert_eq!(sent.len(), 1);
    let authorizations: Vec<_> = sent[0]
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        .collect();
    assert_eq!(authorizations.len(), 1, "{authorizations:?}");
    let token = authorizations[0].1.strip_prefix("Bearer ").unwrap();
    assert!(
        entra.valid_access_token(token).is_some(),
        "the user's own token is what was sent"
    );
    assert!(
        !format!(
            "{sent:?} {:?} {:?}",
            entra.authorize_requests(),
            entra.token_requests()
        )
        .contains(KEY)
    );
    assert!(
        !fs::read_to_string(server.token_file())
            .unwrap()
            .contains(KEY)
    );
}

#[test]
fn without_a_key_set_what_a_client_sends_as_one_is_ignored_and_goes_nowhere() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern().with_key("whatever");
    mcp.sign_in(ADA);
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert!(!format!("{:?}", backend.requests()).contains("whatever"));
    assert_eq!(enter_at_home(&server, "whatever").status, 404);
}

// ---- People ----

#[test]
fn a_person_enters_the_key_once_and_signs_in_and_out() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let asked = browser.navigate(&server.url());
    assert_asks(&asked);
    let home = browser.submit_with(&asked, "Go on", &[("key", KEY)]);
    assert_eq!(
        (home.status, home.url.path(), home.url.query()),
        (200, "/", None),
        "{}",
        home.text()
    );
    let accounts = browser.follow(&home, "/auth/login?user_id=ada");
    let answer = browser.submit(&accounts, ADA);
    let signed_in = browser.auto_submit(&answer);
    assert!(
        signed_in.text().contains("You are signed in"),
        "{}",
        signed_in.text()
    );
    let home = browser.follow(&signed_in, "/");
    assert!(home.text().contains("Ada"), "{}", home.text());
    let signed_out = browser.follow(&home, "/auth/logout?user_id=ada");
    assert!(
        signed_out.text().contains("Signed out"),
        "{}",
        signed_out.text()
    );
    assert!(
        !format!("{:?}", browser.history).contains(KEY),
        "no address holds the key"
    );
}

#[test]
fn the_person_whom_a_link_names_is_offered_the_sign_in_behind_the_key() {
    let (_entra, server) = start();
    for user_id in [ADA, "a b&c=\"<i>", "ü"] {
        let mut browser = Browser::new();
        let link = format!(
            "{}/auth/login?{}",
            server.url(),
            encode_pairs(&[("user_id", user_id)])
        );
        let asked = browser.navigate(&link);
        assert_asks(&asked);
        let again = browser.submit_with(&asked, "Go on", &[("key", "wrong")]);
        assert_asks(&again);
        let home = browser.submit_with(&again, "Go on", &[("key", KEY)]);
        assert_eq!(home.status, 200, "{}", home.text());
        let (href, _) = home
            .links()
            .into_iter()
            .find(|(_, text)| *text == format!("Sign in as {user_id}"))
            .expect("the link");
        let accounts = browser.follow(&home, &href);
        let answer = browser.submit(&accounts, ADA);
        let page = browser.auto_submit(&answer);
        assert_eq!(
            page.status == 200,
            !user_id.contains('@') || user_id == ADA,
            "{}",
            page.text()
        );
        let status = send(
            &server,
            "GET",
            &format!("/auth/status?{}", encode_pairs(&[("user_id", user_id)])),
            &[("Authorization", BEARER)],
        );
        assert_eq!(status.json()["authenticated"], true);
        let logout = format!("/auth/logout?{}", encode_pairs(&[("user_id", user_id)]));
        let gone = send(&server, "GET", &logout, &[("Authorization", BEARER)]);
        assert_eq!(gone.status, 303);
    }
}

#[test]
fn a_wrong_key_is_refused_and_not_shown_again() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let asked = browser.navigate(&server.url());
    for wrong in ["", "guess-<b>-0123456789", &KEY[1..], &format!("{KEY}x")] {
        let refused = browser.submit_with(&asked, "Go on", &[("key", wrong)]);
        assert_asks(&refused);
        assert!(
            refused.text().contains("not the access key"),
            "{}",
            refused.text()
        );
        assert!(
            wrong.is_empty() || !refused.body.contains("guess"),
            "{}",
            refused.body
        );
        assert!(
            browser.cookies.is_empty()
                && refused.form().fields == [("key".to_owned(), String::new())]
        );
    }
}

#[test]
fn a_sign_in_link_of_a_client_needs_no_key_in_the_browser() {
    let (_entra, server) = start();
    let begun = server
        .modern()
        .with_key(KEY)
        .ok("authenticate_user", json!({"user_id": "ada"}));
    let mut browser = Browser::new();
    let page = browser.sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert!(page.text().contains("You are signed in"), "{}", page.text());
    assert_asks(&browser.follow(&page, "/"));
}

#[test]
fn the_start_page_tells_clients_to_send_the_key_and_does_not_show_it() {
    let (_entra, server) = start();
    let home = send(&server, "GET", "/", &[("Authorization", BEARER)]).text();
    assert!(
        home.contains("Authorization: Bearer …") && home.contains("--header"),
        "{home}"
    );
    assert!(!home.contains(KEY), "{home}");
    let entra = Entra::start();
    let open = Setup::new(&entra, None).start();
    assert!(!open.client().get("/").text().contains("access key"));
}

#[test]
fn the_form_is_complete_stands_under_a_strict_policy_and_is_of_this_server() {
    let (_entra, server) = start();
    let asked = Browser::new().navigate(&server.url());
    let policy = asked.header("Content-Security-Policy").unwrap();
    for directive in [
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(directive), "{policy}");
    }
    // With `no-referrer` the browser would hide the form's origin from us; across origins it shows none.
    assert_eq!(asked.header("Referrer-Policy"), Some("same-origin"));
    assert_eq!(asked.header("Cache-Control"), Some("no-store"));
    let form = asked.form();
    assert_eq!(
        (form.method.as_str(), form.action.as_str()),
        ("POST", "/auth/key")
    );
    assert!(asked.body.contains("type=\"password\""), "{}", asked.body);
}

// ---- The cookie ----

#[test]
fn the_cookie_is_for_this_servers_pages_alone_and_is_not_the_key() {
    let (_entra, server) = start();
    let reply = enter_at_home(&server, KEY);
    assert_eq!((reply.status, reply.header("Location")), (303, Some("/")));
    let cookie = reply.header("Set-Cookie").unwrap();
    for attribute in [
        "; HttpOnly",
        "; SameSite=Strict",
        "; Path=/;",
        "; Max-Age=3600",
    ] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(
        !cookie.contains("Domain") && !cookie.contains("Secure") && !cookie.contains(KEY),
        "{cookie}"
    );
    let cookie = cookie_of(&reply);
    for (method, target) in PEOPLE {
        assert_ne!(
            send(&server, method, target, &[("Cookie", &cookie)]).status,
            401,
            "{method} {target}"
        );
    }
    // Another port of this host gets to see it; it must not be worth the API.
    for (method, target) in PROGRAMS {
        assert_eq!(
            send(&server, method, target, &[("Cookie", &cookie)]).status,
            401,
            "{method} {target}"
        );
    }
    let value = cookie.split_once('=').unwrap().1;
    assert_eq!(
        send(
            &server,
            "POST",
            "/mcp",
            &[("Authorization", &format!("Bearer {value}"))]
        )
        .status,
        401
    );
}

#[test]
fn behind_https_the_cookie_is_sent_over_nothing_else() {
    let (_entra, setup) = setup();
    let server = setup
        .with("REDIRECT_URI", "https://its.name/auth/callback")
        .start();
    let reply = enter(
        &server,
        KEY,
        &[("Host", "its.name"), ("Origin", "https://its.name")],
    );
    assert!(
        reply.header("Set-Cookie").unwrap().ends_with("; Secure"),
        "{reply:?}"
    );
}

#[test]
fn a_cookie_that_this_process_has_not_made_or_that_is_over_lets_nobody_in() {
    let (_entra, setup) = setup();
    let server = setup.start();
    let cookie = session(&server);
    assert_eq!(home_with(&server, &cookie), 200);
    let (name, value) = cookie.split_once('=').unwrap();
    let (end, code) = value.split_once('.').unwrap();
    let later = end.parse::<u64>().unwrap() + 1;
    for forged in [
        format!("{name}="),
        format!("{name}={KEY}"),
        format!("{name}={end}"),
        format!("{name}={end}."),
        format!("{name}=.{code}"),
        format!("{name}={later}.{code}"),
        format!("{name}={end}.{}", code.to_uppercase()),
        format!("{name}={end}.{code}A"),
        format!("{name}x={value}"),
        format!("x{name}={value}"),
        format!("other={value}"),
    ] {
        assert_eq!(home_with(&server, &forged), 401, "{forged}");
    }
    // The server of another port of this host may set one of the same name, before or behind ours.
    for planted in [
        format!("{name}=1.x; {cookie}"),
        format!("{cookie}; {name}=1.x"),
    ] {
        assert_eq!(home_with(&server, &planted), 200, "{planted}");
    }
    // Another process has another seal, whatever it is called.
    let (_entra, other) = start();
    let others_name = session(&other).split_once('=').unwrap().0.to_owned();
    assert_ne!(others_name, name);
    assert_eq!(home_with(&other, &format!("{others_name}={value}")), 401);

    server.clock.advance(1800);
    assert_eq!(home_with(&server, &cookie), 200);
    server.clock.advance(1801);
    assert_eq!(home_with(&server, &cookie), 401);
}

#[test]
fn where_the_redirect_uri_shares_the_start_pages_path_the_page_is_locked_all_the_same() {
    let (_entra, setup) = setup();
    let server = setup.with("REDIRECT_URI", "http://localhost:8000").start();
    for (target, status) in [
        ("/", 401),
        ("/?user_id=ada", 401),
        ("/?code=c&state=s", 303),
        ("/?error=no_answer", 400),
    ] {
        let reply = send(&server, "GET", target, &[]);
        assert_eq!(reply.status, status, "{target}");
        assert!(!reply.text().contains("Signed in"), "{target}");
    }
    assert_eq!(enter_at_home(&server, KEY).status, 303);
}

#[test]
fn a_wrong_key_is_told_to_whoever_runs_the_server_without_showing_it() {
    let (_entra, setup) = setup();
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    server.client().request(
        "GET",
        "/auth/status",
        &[("Authorization", "Bearer gu3ss")],
        b"",
    );
    let asked = Browser::new().navigate(&server.url());
    Browser::new().submit_with(&asked, "Go on", &[("key", "gu3ss")]);
    let log = server.log();
    assert!(
        log.contains("/auth/status was refused") && log.contains("a key that was entered"),
        "{log}"
    );
    assert!(!log.contains("gu3ss"), "{log}");
}

// ---- Other sites ----

#[test]
fn the_key_is_taken_from_our_own_form_alone() {
    let (_entra, setup) = setup();
    let allowed = "https://app.contoso.example";
    let server = setup.with("ALLOWED_ORIGINS", allowed).start();
    let (url, other_port) = (server.url(), "http://localhost:1".to_owned());
    let ipv4 = format!("http://{}", server.address());
    for headers in [
        &[][..],
        &[("Origin", "null")],
        &[("Origin", "https://evil.example")],
        &[("Origin", &other_port)],
        &[("Origin", allowed)],
        // Another of our own names, but not the one that is asked.
        &[("Origin", &ipv4)],
        &[("Origin", &url), ("Origin", &url)],
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Host", "evil.example"), ("Origin", "http://evil.example")],
    ] {
        let reply = enter(&server, KEY, headers);
        assert_eq!(
            (reply.status, reply.header("Set-Cookie")),
            (403, None),
            "{headers:?}"
        );
    }
    let text = ("Content-Type", "text/plain");
    let reply = server.client().request(
        "POST",
        "/auth/key",
        &[text, ("Origin", &url)],
        format!("key={KEY}").as_bytes(),
    );
    assert_eq!((reply.status, reply.header("Set-Cookie")), (403, None));
    assert_eq!(
        send(
            &server,
            "GET",
            &format!("/auth/key?key={KEY}"),
            &[("Origin", &url)]
        )
        .status,
        405
    );
    assert_eq!(enter(&server, KEY, &[("Origin", &url)]).status, 303);
}

#[test]
fn the_key_is_taken_at_any_name_that_is_allowed() {
    let (_entra, setup) = setup();
    let server = setup
        .with("ALLOWED_HOSTS", "mcp.contoso.example:8000")
        .start();
    let host = ("Host", "mcp.contoso.example:8000");
    for (origin, status) in [
        ("http://mcp.contoso.example:8000", 303),
        ("http://mcp.contoso.example", 403),
    ] {
        assert_eq!(
            enter(&server, KEY, &[host, ("Origin", origin)]).status,
            status,
            "{origin}"
        );
    }
}

// CASES D6: a proxy has written its own name for this server into Host.
#[test]
fn where_a_proxy_has_replaced_host_the_refusal_of_the_form_and_the_log_name_it() {
    let (_entra, setup) = setup();
    let setup = setup.with("REDIRECT_URI", "https://mcp.contoso.example/auth/callback");
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let host = server.url().replace("http://", "");
    let body = encode_pairs(&[("key", KEY)]);
    let refused = |headers: &[(&str, &str)]| {
        let headers = [&[FORM], headers].concat();
        let reply = server
            .client()
            .request("POST", "/auth/key", &headers, body.as_bytes());
        assert_eq!(reply.status, 403, "{headers:?}");
        reply.text()
    };
    let page = refused(&[("Origin", "https://mcp.contoso.example")]);
    for part in [
        "https://mcp.contoso.example",
        &format!("Host is {host}"),
        "proxy_set_header Host $http_host",
        "ProxyPreserveHost On",
        "proxy.preserve-host: ON",
    ] {
        assert!(page.contains(part), "{part:?} is due in {page}");
    }
    for other in [
        &[][..],
        &[("Origin", "null")],
        &[("Origin", "https://a"), ("Origin", "https://b")],
    ] {
        assert!(!refused(other).contains("Host"), "{other:?}");
    }
    let log = server.log();
    let line = format!("came from \"https://mcp.contoso.example\", but Host is \"{host}\"");
    assert!(log.contains(&line), "{log}");
    assert!(!log.contains(KEY), "{log}");
}

// CASES D6: its name for this server is not even an allowed one.
#[test]
fn the_refusal_of_a_host_says_that_a_proxy_must_keep_it() {
    let (_entra, server) = start();
    let reply = send(&server, "GET", "/", &[("Host", "upstream")]);
    assert_eq!(reply.status, 403);
    let hint = reply.json()["hint"].to_string();
    assert!(
        hint.contains("ALLOWED_HOSTS") && hint.contains("proxy_set_header Host"),
        "{hint}"
    );
    let reply = send(&server, "GET", "/", &[("Origin", "https://upstream")]);
    assert_eq!(reply.status, 403);
    assert!(!reply.text().contains("proxy"), "{}", reply.text());
}

#[test]
fn a_link_of_another_site_gets_no_further_than_the_start_page() {
    let (entra, server) = start();
    let mut mcp = server.modern().with_key(KEY);
    mcp.sign_in(ADA);
    let signed_in = |mcp: &mut Mcp| {
        mcp.ok("check_auth_status", json!({"user_id": ADA}))["authenticated"].clone()
    };
    let mut browser = Browser::new();
    let asked = browser.navigate(&server.url());
    browser.submit_with(&asked, "Go on", &[("key", KEY)]);
    let begun = entra.authorize_requests().len();
    for (target, status) in [
        (format!("/auth/logout?user_id={ADA}"), 403),
        // A page that asks the person first.
        ("/auth/login?user_id=mallory".to_owned(), 200),
    ] {
        // The cookie stays behind, and entering the key anew must not do what the site wanted.
        let asked = browser.follow(&another_site(), &format!("{}{target}", server.url()));
        assert_asks(&asked);
        let home = browser.submit_with(&asked, "Go on", &[("key", KEY)]);
        assert_eq!(
            (home.status, home.url.path()),
            (200, "/"),
            "{}",
            home.text()
        );
        assert!(!home.body.contains("mallory"), "{}", home.text());
        // Nor with a cookie that an old browser sends along.
        let headers = [
            ("Cookie", session(&server)),
            ("Sec-Fetch-Site", "cross-site".to_owned()),
        ];
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = send(&server, "GET", &target, &headers);
        assert_eq!((reply.status, reply.header("Location")), (status, None));
    }
    assert_eq!(signed_in(&mut mcp), true);
    assert_eq!(entra.authorize_requests().len(), begun);
}

// ---- Verbs ----

#[test]
fn the_verbs_work_beside_a_server_with_a_key() {
    let (_entra, setup) = setup();
    let server = setup.start();
    let verb = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
        command
            .args(arguments)
            .env("SERVER_PORT", server.server.port().to_string());
        command
    };
    let mut login = Verb::start(verb(&["login", GRACE]), &setup);
    let link = std::iter::from_fn(|| login.line())
        .find(|line| line.contains("?ticket="))
        .expect("a link");
    // The ticket lets the browser in.
    let page = Browser::new().sign_in(link.trim(), GRACE);
    assert_eq!(page.status, 200, "{}", page.text());
    let (code, stdout, stderr) = login.end();
    assert!(code == 0 && stdout.contains(GRACE), "{stdout}{stderr}");
    let (_, stdout, stderr) = Verb::run(verb(&["status"]), &setup);
    assert!(
        stdout.contains(GRACE)
            && stdout.contains(&format!("running at http://{}", server.address())),
        "{stdout}{stderr}"
    );
    let (code, _, stderr) = Verb::run(verb(&["logout"]), &setup);
    assert_eq!(code, 0, "{stderr}");
    assert!(!format!("{stdout}{stderr}").contains(KEY));
}

#[test]
fn a_login_that_serves_for_itself_needs_no_key() {
    let (_entra, setup) = setup();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command.args(["login", ADA]);
    let mut login = Verb::start(command, &setup);
    let link = std::iter::from_fn(|| login.line())
        .find(|line| line.contains("?ticket="))
        .expect("a link");
    let page = Browser::new().sign_in(link.trim(), ADA);
    assert_eq!((page.status, login.end().0), (200, 0), "{}", page.text());
}

/// After a wrong key, the address bar has the address of the form.
#[test]
fn the_address_of_the_form_leads_a_person_to_the_start_page() {
    let (_entra, setup) = setup();
    let server = setup.start();
    let mut browser = Browser::new();
    let asked = browser.navigate(&server.url());
    let refused = browser.submit_with(&asked, "Go on", &[("key", "wrong")]);
    assert_eq!(refused.url.path(), "/auth/key");
    let again = browser.navigate(refused.url.as_str());
    assert_eq!((again.status, again.url.path()), (401, "/"));
    let home = browser.submit_with(&again, "Go on", &[("key", KEY)]);
    assert_eq!(home.status, 200, "{}", home.text());
}

// ---- Settings ----

/// Exit code and everything that was printed.
fn run(setup: &Setup, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command.args(arguments);
    let (code, stdout, stderr) = Verb::run(command, setup);
    (code, stdout + &stderr)
}

#[test]
fn the_key_shows_in_no_log_error_or_report() {
    let (_entra, setup) = setup();
    let (code, text) = run(&setup, &["--check-config"]);
    assert!(
        code == 0 && text.contains("SERVER_ACCESS_KEY=(set)  # "),
        "{text}"
    );
    let mut heard = vec![text];
    for arguments in [
        &["doctor"][..],
        &["doctor", "--json"],
        &["status"],
        &["status", "--json"],
        &["--help"],
    ] {
        heard.push(run(&setup, arguments).1);
    }
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let mut browser = Browser::new();
    let asked = browser.navigate(&server.url());
    for key in ["guess", KEY] {
        heard.push(format!(
            "{:?}",
            browser.submit_with(&asked, "Go on", &[("key", key)])
        ));
    }
    let mut mcp = server.modern().with_key(KEY);
    heard.push(mcp.ok("get_server_info", json!({})).to_string());
    for authorization in [BEARER, "Bearer x", KEY] {
        let headers = [
            ("Authorization", authorization),
            ("Cookie", KEY),
            ("Referer", KEY),
        ];
        heard.push(format!(
            "{:?}",
            server
                .client()
                .request("GET", "/auth/status", &headers, b"")
        ));
        heard.push(format!(
            "{:?}",
            server
                .client()
                .request("POST", "/auth/login", &headers, KEY.as_bytes())
        ));
    }
    heard.push(server.log());
    assert!(
        server.log().contains(" debug "),
        "the log is at its highest level: {heard:?}"
    );
    assert!(!heard.concat().contains(KEY), "{heard:?}");
    for (name, bad) in [
        ("SERVER_ACCESS_KEY", format!("{KEY} {KEY}")),
        ("SERVER_ACCESS_KEY", format!("{KEY}ü")),
        ("SERVER_ACCESS_KEY", KEY[..31].to_owned()),
        ("SERVER_ACCESS_KEYS", KEY.to_owned()),
        ("SERVER_ACCESS_KEY_FILES", KEY.to_owned()),
    ] {
        let (_, setup) = self::setup();
        for arguments in [&["--check-config"][..], &["serve", "x"], &["doctor"]] {
            let (_, text) = run(
                &Setup {
                    variables: setup.variables.clone(),
                    ..self::setup().1
                }
                .with(name, &bad),
                arguments,
            );
            assert!(!text.contains(&KEY[..16]), "{text}");
        }
    }
}

#[test]
fn a_key_that_cannot_be_used_is_a_mistake_that_says_what_one_is() {
    let long = "x".repeat(1025);
    for bad in [
        "short",
        &KEY[..31],
        "a key of several words, which is thirty-two",
        &format!("{KEY}\u{7f}"),
        &format!("{KEY}é"),
        &long,
    ] {
        let (_, setup) = setup();
        let (code, text) = run(&setup.with("SERVER_ACCESS_KEY", bad), &["--check-config"]);
        assert_eq!(code, 2, "{text}");
        assert!(
            text.contains("SERVER_ACCESS_KEY must have 32 to 1024")
                && text.contains("openssl rand"),
            "{text}"
        );
        assert!(!text.contains(bad), "{text}");
    }
    for good in [&KEY[..32], &"~".repeat(1024), &format!("  {KEY}\t")] {
        let (_, setup) = setup();
        assert_eq!(
            run(&setup.with("SERVER_ACCESS_KEY", good), &["--check-config"]).0,
            0
        );
    }
}

/// With the key in a file of these contents and mode.
fn with_file(contents: &[u8], mode: u32) -> Setup {
    let (_, mut setup) = setup();
    setup.variables.remove("SERVER_ACCESS_KEY");
    let path = setup.directory.file("key");
    fs::write(&path, contents).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    setup.with("SERVER_ACCESS_KEY_FILE", path.to_str().unwrap())
}

#[test]
fn the_key_may_stand_in_a_file() {
    for contents in [KEY.to_owned(), format!("{KEY}\n"), format!("\n {KEY} \r\n")] {
        let setup = with_file(contents.as_bytes(), 0o600);
        let (code, text) = run(&setup, &["--check-config"]);
        assert!(
            code == 0 && !text.contains(KEY) && !text.contains("chmod"),
            "{text}"
        );
        assert!(
            text.contains("SERVER_ACCESS_KEY=  # not set") && text.contains("/key  # "),
            "{text}"
        );
        let server = setup.start();
        assert_eq!(send(&server, "POST", "/mcp", &[]).status, 401);
        assert_eq!(
            send(&server, "POST", "/mcp", &[("Authorization", BEARER)]).status,
            200
        );
    }
}

#[test]
fn a_key_file_that_cannot_be_used_is_a_mistake() {
    let elsewhere = |path: &str| with_file(b"", 0o600).with("SERVER_ACCESS_KEY_FILE", path);
    for (setup, reason) in [
        (with_file(b"", 0o600), "what stands in it must have 32"),
        (with_file(b"\n", 0o600), "what stands in it must have 32"),
        (
            with_file(&KEY.as_bytes()[..20], 0o600),
            "what stands in it must have 32",
        ),
        (
            with_file(format!("{KEY}\n{KEY}\n").as_bytes(), 0o600),
            "what stands in it must have 32",
        ),
        (
            with_file(b"\xff\xfe0123456789012345678901234567890123", 0o600),
            "cannot be read",
        ),
        (elsewhere("/no/such/file"), "cannot be read"),
        (elsewhere("/"), "cannot be read"),
        (elsewhere("/dev/zero"), "what stands in it must have 32"),
        (
            with_file(KEY.as_bytes(), 0o600).with("SERVER_ACCESS_KEY", KEY),
            "are both set: leave one out",
        ),
    ] {
        for arguments in [&["--check-config"][..], &[]] {
            let (code, text) = run(&setup, arguments);
            assert!(
                code == 2 && text.contains("SERVER_ACCESS_KEY_FILE") && text.contains(reason),
                "{text}"
            );
            assert!(!text.contains(&KEY[..16]), "{text}");
        }
    }
}

#[test]
fn a_key_file_that_others_can_read_earns_a_warning() {
    for (mode, is_warned_of) in [
        (0o600, false),
        (0o400, false),
        (0o640, true),
        (0o604, true),
        (0o666, true),
    ] {
        let (code, text) = run(&with_file(KEY.as_bytes(), mode), &["--check-config"]);
        assert_eq!(
            (
                code,
                text.contains("SERVER_ACCESS_KEY_FILE can be read or written by others")
            ),
            (0, is_warned_of),
            "{text}"
        );
    }
}

/// systemd makes it readable by the group and lets nobody else in by other means.
#[test]
fn a_key_file_that_systemd_hands_over_earns_none() {
    for (name, is_warned_of) in [("", false), ("elsewhere", true)] {
        let setup = with_file(KEY.as_bytes(), 0o440);
        let directory = setup.directory.file(name).display().to_string();
        let (code, text) = run(
            &setup.with("CREDENTIALS_DIRECTORY", &directory),
            &["--check-config"],
        );
        assert_eq!(
            (code, text.contains("can be read or written by others")),
            (0, is_warned_of),
            "{text}"
        );
    }
}

#[test]
fn an_env_file_with_the_key_that_others_can_read_earns_a_warning() {
    for (mode, key, is_warned_of) in [
        (0o600, true, false),
        (0o644, true, true),
        (0o644, false, false),
    ] {
        let (_, mut setup) = setup();
        setup.variables.remove("SERVER_ACCESS_KEY");
        let path = setup.directory.file(".env");
        fs::write(
            &path,
            if key {
                format!("SERVER_ACCESS_KEY={KEY}\n")
            } else {
                String::new()
            },
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (code, text) = run(&setup, &["--check-config"]);
        assert_eq!(
            (code, text.contains(".env holds SERVER_ACCESS_KEY")),
            (0, is_warned_of),
            "{text}"
        );
        assert!(!text.contains(KEY), "{text}");
    }
}

#[test]
fn the_browser_that_is_opened_does_not_inherit_the_key() {
    let (_entra, setup) = setup();
    let program = setup.directory.file("xdg-open");
    let noted = setup.directory.file("noted");
    fs::write(
        &program,
        format!(
            "#!/bin/sh\n/usr/bin/env > {0}.part\n/bin/mv {0}.part {0}\n",
            noted.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command
        .args(["login", ADA])
        .env("DISPLAY", ":0")
        .env("PATH", &setup.directory.0);
    let mut login = Verb::start(command, &setup);
    let link = std::iter::from_fn(|| login.line())
        .find(|line| line.contains("?ticket="))
        .expect("a link");
    Browser::new().sign_in(link.trim(), ADA);
    assert_eq!(login.end().0, 0);
    let start = Instant::now();
    while !noted.exists() {
        assert!(start.elapsed() < PATIENCE, "the browser was not opened");
        thread::yield_now();
    }
    let inherited = fs::read_to_string(&noted).unwrap();
    assert!(
        inherited.contains("AZURE_CLIENT_ID=") && !inherited.contains(KEY),
        "{inherited}"
    );
}

#[test]
fn beyond_loopback_no_server_starts_without_a_key() {
    for host in [
        "0.0.0.0",
        "::",
        "192.0.2.1",
        "mcp.example.com",
        "::ffff:127.0.0.1",
    ] {
        let (_entra, mut setup) = setup();
        setup = setup.with("SERVER_HOST", host);
        let (code, text) = run(&setup, &["--check-config"]);
        assert!(code == 0 && text.contains("a proxy with TLS"), "{text}");
        setup.variables.remove("SERVER_ACCESS_KEY");
        for arguments in [&["--check-config"][..], &[], &["serve"], &["login"]] {
            let (code, text) = run(&setup, arguments);
            assert_eq!(code, 2, "{text}");
            assert!(
                text.contains(&format!("SERVER_HOST is {host:?}"))
                    && text.contains("set SERVER_ACCESS_KEY"),
                "{text}"
            );
            assert!(
                text.contains("could call the API as the signed-in users"),
                "{text}"
            );
        }
        let (code, text) = run(&setup, &["doctor", "--json"]);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (code, report["findings"][2]["level"].as_str()),
            (2, Some("failure")),
            "{text}"
        );
        assert!(
            report["findings"][2]["message"]
                .as_str()
                .unwrap()
                .contains("set SERVER_ACCESS_KEY"),
            "{text}"
        );
        // A key that is none is no help, and the rest is checked all the same.
        let (code, text) = run(&setup.with("SERVER_ACCESS_KEY", "short"), &["doctor"]);
        assert!(
            code == 2 && text.contains("SERVER_HOST is") && text.contains("token-file"),
            "{text}"
        );
    }
    for host in ["localhost", "127.0.0.1", "::1", "127.8.8.8"] {
        let (_, mut setup) = setup();
        setup.variables.remove("SERVER_ACCESS_KEY");
        assert_eq!(
            run(&setup.with("SERVER_HOST", host), &["--check-config"]).0,
            0
        );
    }
}

#[test]
fn beyond_loopback_the_key_lets_in_as_anywhere() {
    let (_entra, setup) = setup();
    let server = setup.with("SERVER_HOST", "0.0.0.0").start();
    assert_eq!(send(&server, "POST", "/mcp", &[]).status, 401);
    assert_eq!(
        send(&server, "POST", "/mcp", &[("Authorization", BEARER)]).status,
        200
    );
    assert_eq!(
        value_of(&send(&server, "GET", "/healthz", &[]).headers, "Server"),
        Some("entra-auth-mcp")
    );
}
