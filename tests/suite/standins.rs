//! The stand-ins themselves: one that cannot fail is worth nothing.

use crate::support::backend::{self, Backend};
use crate::support::browser::{Browser, Page};
use crate::support::entra::{
    self, ADA, EVE, Entra, GRACE, PAT, Platform, TENANT_ID, TokenFailure, User,
};
use crate::support::http::{self, Answer, Client, Event, Reply, Request, StandIn};
use crate::support::mcp::{Mcp, elicitation_error, input_required};
use crate::support::server::{Setup, Verb};
use crate::support::{Gate, encode_pairs, value_of};
use serde_json::{Value, json};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

const VERIFIER: &str = "dBjftJeZ4CVP-mBbMAtHbFhsoZ9r~.qIL2gmTpEMXwE";
const REDIRECT: &str = "http://localhost:8000/auth/callback";
const SCOPE: &str = "openid profile offline_access api://sample/.default";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

type Params = Vec<(&'static str, String)>;

/// What a correct client sends, changed: a name given empties or replaces, a new one is added.
fn changed(mut params: Params, changes: &[(&'static str, &str)]) -> Params {
    for (name, value) in changes {
        params.retain(|(n, _)| n != name);
        if !value.is_empty() {
            params.push((name, (*value).to_owned()));
        }
    }
    params
}

fn owned(params: &[(&'static str, &str)]) -> Params {
    params.iter().map(|(n, v)| (*n, (*v).to_owned())).collect()
}

fn authorize_params(changes: &[(&'static str, &str)]) -> Params {
    let challenge = entra::s256(VERIFIER);
    let params = owned(&[
        ("client_id", entra::CLIENT_ID),
        ("response_type", "code"),
        ("response_mode", "form_post"),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "state-1"),
        ("nonce", "nonce-1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    changed(params, changes)
}

fn authorize_url(entra: &Entra, changes: &[(&'static str, &str)]) -> String {
    let query = encode_pairs(&authorize_params(changes));
    let host = entra.authority_host();
    format!("{host}/{TENANT_ID}/oauth2/v2.0/authorize?{query}")
}

/// The page that posts the answer on.
fn answer_page(entra: &Entra, changes: &[(&'static str, &str)]) -> Page {
    let mut browser = Browser::new();
    let accounts = browser.navigate(&authorize_url(entra, changes));
    browser.submit(&accounts, ADA)
}

fn code(entra: &Entra, changes: &[(&'static str, &str)]) -> String {
    let form = answer_page(entra, changes).form();
    assert_eq!(value_of(&form.fields, "state"), Some("state-1"));
    value_of(&form.fields, "code").unwrap().to_owned()
}

fn code_params(code: &str) -> Params {
    owned(&[
        ("client_id", entra::CLIENT_ID),
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
        ("scope", SCOPE),
    ])
}

fn refresh_params(tokens: &Value) -> Params {
    owned(&[
        ("client_id", entra::CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("scope", SCOPE),
    ])
}

fn post(entra: &Entra, params: &Params) -> Reply {
    let body = encode_pairs(params);
    http::post(&entra.token_endpoint(TENANT_ID), &[FORM], body.as_bytes())
}

fn sign_in(entra: &Entra) -> Value {
    let reply = post(entra, &code_params(&code(entra, &[])));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[track_caller]
fn assert_refused(reply: &Reply, aadsts: u32) {
    let body = reply.json();
    assert_eq!(body["error_codes"], json!([aadsts]), "{body}");
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with(&format!("AADSTS{aadsts}: ")));
    assert!(matches!(reply.status, 400 | 401));
}

#[test]
fn a_correct_client_is_served() {
    let entra = start();
    let tokens = sign_in(&entra);
    let claims = id_token_claims(&tokens);
    for (claim, value) in [
        ("aud", entra::CLIENT_ID),
        ("nonce", "nonce-1"),
        ("tid", TENANT_ID),
        ("oid", entra::ADA_OID),
        ("preferred_username", ADA),
        ("ver", "2.0"),
        (
            "iss",
            &format!("{}/{TENANT_ID}/v2.0", entra.authority_host()),
        ),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    let user = entra.valid_access_token(tokens["access_token"].as_str().unwrap());
    assert_eq!(user, Some(User::ada()));
    let refreshed = post(&entra, &refresh_params(&tokens)).json();
    assert_ne!(refreshed["refresh_token"], tokens["refresh_token"]);
    assert_eq!((entra.redemptions(), entra.refreshes()), (1, 1));
    assert_eq!(entra.reused_refresh_tokens(), 0);
    assert_eq!(post(&entra, &refresh_params(&tokens)).status, 200);
    assert_eq!(entra.reused_refresh_tokens(), 1);
    assert_eq!(entra.violations(), [""; 0]);
}

fn id_token_claims(tokens: &Value) -> Value {
    use base64::Engine as _;
    let payload = tokens["id_token"]
        .as_str()
        .unwrap()
        .split('.')
        .nth(1)
        .unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&json.unwrap()).unwrap()
}

#[test]
fn wrong_redemptions_are_violations() {
    type Case<'a> = (&'a [(&'static str, &'a str)], u32);
    let cases: &[Case] = &[
        (&[("code_verifier", &"x".repeat(43))], 501_481),
        (&[("code_verifier", "")], 501_481),
        (
            &[("redirect_uri", "http://localhost:8001/auth/callback")],
            500_112,
        ),
        (
            &[("scope", "openid api://sample/.default api://b/.default")],
            65001,
        ),
        (&[("client_secret", "s")], 700_025),
        (&[("resource", "api://sample")], 901_002),
        (&[("claims", "{")], 9_002_313),
        (&[("grant_type", "password")], 70003),
    ];
    let entra = start_lenient();
    for (number, (changes, aadsts)) in cases.iter().enumerate() {
        let params = changed(code_params(&code(&entra, &[])), changes);
        assert_refused(&post(&entra, &params), *aadsts);
        assert_eq!(
            entra.violations().len(),
            number + 1,
            "{:?}",
            entra.violations()
        );
    }
    assert_eq!(entra.redemptions(), 0);
}

#[test]
fn codes_work_once_in_time_and_at_their_tenant() {
    let entra = start_lenient();
    let params = code_params(&code(&entra, &[]));
    let body = encode_pairs(&params);
    let elsewhere = http::post(&entra.token_endpoint("common"), &[FORM], body.as_bytes());
    assert_refused(&elsewhere, 700_005);
    assert_eq!(post(&entra, &params).status, 200);
    assert_refused(&post(&entra, &params), 54005);
    assert_eq!(entra.violations().len(), 2);
    let late = code_params(&code(&entra, &[]));
    entra.advance(601);
    assert_refused(&post(&entra, &late), 70008);
    assert_eq!(entra.violations().len(), 2, "being late is no violation");
}

#[test]
fn wrong_requests_are_violations() {
    let entra = start_lenient();
    let url = entra.token_endpoint(TENANT_ID);
    let body = encode_pairs(&code_params(&code(&entra, &[])));
    let twice = format!("{body}&scope=openid");
    let json = ("Content-Type", "application/json");
    let with_query = format!("{url}?code=1");
    for (reply, aadsts) in [
        (http::get(&url), 900_561),
        (http::post(&url, &[json], body.as_bytes()), 900_144),
        (
            http::post(&url, &[FORM, ("Origin", "null")], body.as_bytes()),
            9_002_326,
        ),
        (
            http::post(
                &url,
                &[FORM, ("Authorization", "Basic eA==")],
                body.as_bytes(),
            ),
            700_025,
        ),
        (
            http::post(&url, &[FORM, ("Cookie", "a=b")], body.as_bytes()),
            9_002_313,
        ),
        (http::post(&with_query, &[FORM], body.as_bytes()), 9_002_313),
        (http::post(&url, &[FORM], twice.as_bytes()), 9_000_411),
    ] {
        assert_refused(&reply, aadsts);
    }
    assert_eq!(entra.violations().len(), 7);
}

#[test]
fn refreshing_with_the_granted_scope_breaks() {
    let entra = start_lenient();
    let tokens = sign_in(&entra);
    let granted = tokens["scope"].as_str().unwrap();
    assert!(granted.contains("api://sample/.default") && granted.contains("user_impersonation"));
    let echoing = changed(refresh_params(&tokens), &[("scope", granted)]);
    assert_refused(&post(&entra, &echoing), 70011);
    let fewer = changed(
        refresh_params(&tokens),
        &[("scope", "openid offline_access")],
    );
    assert_refused(&post(&entra, &fewer), 70011);
    let spanning = format!("{SCOPE} api://other/.default");
    let spanning = changed(refresh_params(&tokens), &[("scope", &spanning)]);
    assert_refused(&post(&entra, &spanning), 28000);
    assert_eq!(entra.violations().len(), 3);
}

#[test]
fn refresh_tokens_are_revoked_and_reuse_is_refused_where_told() {
    let entra = start();
    let tokens = sign_in(&entra);
    assert_eq!(post(&entra, &refresh_params(&tokens)).status, 200);
    entra.set(|settings| settings.reject_reused_refresh_tokens = true);
    let reply = post(&entra, &refresh_params(&tokens));
    assert_refused(&reply, 70000);
    assert_eq!(reply.json()["suberror"], "bad_token");
    entra.revoke_all();
    assert_refused(&post(&entra, &refresh_params(&tokens)), 50173);
}

#[test]
fn the_platform_decides() {
    let entra = start();
    for (platform, aadsts) in [(Platform::Web, 7_000_218), (Platform::Spa, 9_002_327)] {
        entra.set(|settings| settings.platform = platform);
        let reply = post(&entra, &code_params(&code(&entra, &[])));
        assert_refused(&reply, aadsts);
    }
}

#[test]
fn untrusted_clients_see_entras_own_page() {
    let entra = start();
    for (change, aadsts) in [
        (
            ("client_id", "00000000-0000-0000-0000-000000000000"),
            "AADSTS700016",
        ),
        (
            ("redirect_uri", "http://localhost:8000/Auth/callback"),
            "AADSTS50011",
        ),
        (
            ("redirect_uri", "http://127.0.0.1:8000/auth/callback"),
            "AADSTS50011",
        ),
        (
            ("redirect_uri", "https://localhost:8000/auth/callback"),
            "AADSTS50011",
        ),
    ] {
        let page = Browser::new().navigate(&authorize_url(&entra, &[change]));
        assert!(
            page.status == 400 && page.text().contains(aadsts),
            "{}",
            page.body
        );
    }
    let other_port = ("redirect_uri", "http://localhost:49152/auth/callback");
    assert_eq!(
        Browser::new()
            .navigate(&authorize_url(&entra, &[other_port]))
            .status,
        200
    );
    let mut browser = Browser::new();
    let accounts = browser.navigate(&authorize_url(&entra, &[("login_hint", GRACE)]));
    assert_eq!(
        accounts.form().buttons[0].value,
        GRACE,
        "the hinted account comes first"
    );
    let page = browser.submit(&accounts, EVE);
    assert!(page.text().contains("AADSTS50020"), "{}", page.body);
    entra.set(|settings| settings.single_tenant = true);
    let url = authorize_url(&entra, &[]).replace(TENANT_ID, "common");
    assert!(Browser::new().navigate(&url).text().contains("AADSTS50194"));
}

#[test]
fn careless_authorize_requests_are_violations() {
    let entra = start_lenient();
    for (number, change) in [
        ("code_challenge", ""),
        ("code_challenge", "short"),
        ("code_challenge_method", "plain"),
        ("code_challenge_method", ""),
        ("state", ""),
        ("state", "<b>"),
        ("nonce", ""),
        ("scope", "profile"),
        ("prompt", "often"),
        ("response_type", "token"),
    ]
    .into_iter()
    .enumerate()
    {
        let page = Browser::new().navigate(&authorize_url(&entra, &[change]));
        let fields = page.form().fields;
        assert!(value_of(&fields, "error").is_some(), "{change:?}");
        assert_eq!(entra.violations().len(), number + 1, "{change:?}");
    }
    let mixed = ("scope", "openid api://a/.default api://a/Read");
    let fields = Browser::new()
        .navigate(&authorize_url(&entra, &[mixed]))
        .form()
        .fields;
    let description = value_of(&fields, "error_description").unwrap();
    assert!(description.starts_with("AADSTS70011"));
}

#[test]
fn a_violation_fails_the_test_that_caused_it() {
    let entra = start();
    post(&entra, &owned(&[("client_secret", "s")]));
    assert!(catch_unwind(AssertUnwindSafe(move || drop(entra))).is_err());
}

#[test]
fn the_token_endpoint_fails_as_told() {
    let entra = start();
    let path = format!("/{TENANT_ID}/oauth2/v2.0/token");
    let tokens = sign_in(&entra);
    let body = encode_pairs(&refresh_params(&tokens));
    let attempt = || {
        let mut client = Client::new(&entra.authority_host());
        client.try_request("POST", &path, &[FORM], body.as_bytes())
    };
    entra.fail_next_token(TokenFailure::Oauth {
        error: "interaction_required",
        aadsts: 50076,
        suberror: Some("basic_action"),
        claims: Some("{}"),
    });
    let reply = attempt().unwrap();
    assert_refused(&reply, 50076);
    assert_eq!(reply.json()["error"], "interaction_required");
    assert_eq!(reply.json()["suberror"], "basic_action");
    assert_eq!(reply.json()["claims"], "{}");
    entra.fail_next_token(TokenFailure::Status(503, Some(7)));
    assert_eq!(attempt().unwrap().header("Retry-After"), Some("7"));
    entra.fail_next_token(TokenFailure::Huge(1 << 20));
    assert_eq!(attempt().unwrap().body.len(), 1 << 20);
    entra.fail_tokens(TokenFailure::CloseWithoutAnswer);
    assert!(attempt().is_err() && attempt().is_err());
    entra.heal();
    assert_eq!(entra.refreshes(), 0);
    entra.fail_next_token(TokenFailure::LoseAnswer);
    assert!(attempt().is_err());
    assert_eq!(entra.refreshes(), 1, "carried out all the same");
    let gate = Gate::default();
    entra.fail_next_token(TokenFailure::Hang(gate.clone()));
    thread::scope(|scope| {
        let hanging = scope.spawn(attempt);
        gate.wait_for_arrivals(1);
        gate.open();
        assert!(hanging.join().unwrap().is_err());
    });
    entra.down();
    assert!(attempt().is_err());
    entra.up();
    assert_eq!(attempt().unwrap().status, 200);
}

#[test]
fn held_requests_wait_without_being_carried_out() {
    let entra = start();
    let tokens = sign_in(&entra);
    let hold = entra.hold_tokens();
    thread::scope(|scope| {
        let waiting =
            [(); 2].map(|()| scope.spawn(|| post(&entra, &refresh_params(&tokens)).status));
        hold.wait_for_arrivals(2);
        assert_eq!(entra.refreshes(), 0);
        drop(hold);
        assert_eq!(waiting.map(|w| w.join().unwrap()), [200, 200]);
    });
    assert_eq!(entra.refreshes(), 2);
}

/// `/set?c=…` sets a cookie, `/form?to=…&policy=…&csp=…` shows a form, `/hop?to=…&status=…`
/// redirects, anything else says which headers came.
fn site(request: &Request) -> Reply {
    let query = |name| value_of(&request.query, name).unwrap_or_default();
    match request.path.as_str() {
        "/set" => request
            .query
            .iter()
            .fold(Reply::empty(204), |reply, (_, cookie)| {
                reply.with("Set-Cookie", cookie)
            }),
        "/form" => {
            let action = crate::support::escape_html(query("to"));
            let form =
                format!("<form method=\"post\" action=\"{action}\"><button>Go</button></form>");
            let reply = Reply::of_html(200, form + "<script>document.forms[0].submit()</script>");
            let reply = reply.with("Referrer-Policy", query("policy"));
            if query("csp").is_empty() {
                reply
            } else {
                reply.with("Content-Security-Policy", query("csp"))
            }
        }
        "/hop" => Reply::empty(query("status").parse().unwrap()).with("Location", query("to")),
        _ => {
            let header = |name| request.header(name).unwrap_or("-");
            let parts = [
                &*request.method,
                header("Cookie"),
                header("Origin"),
                header("Sec-Fetch-Site"),
            ];
            Reply::of_html(200, parts.join(" | "))
        }
    }
}

/// The same server under two names, which are two sites.
fn two_sites() -> (StandIn, String, String) {
    let server = StandIn::serve(site);
    let (ours, theirs) = (
        format!("http://localhost:{}", server.addr().port()),
        server.url(),
    );
    (server, ours, theirs)
}

fn with_query(url: &str, query: &[(&str, &str)]) -> String {
    format!("{url}?{}", encode_pairs(query))
}

#[test]
fn cookies_follow_the_browsers_rules() {
    let (_server, ours, theirs) = two_sites();
    let mut browser = Browser::new();
    let cookies = [
        ("c", "lax=1; Path=/"),
        ("c", "strict=1; Path=/; SameSite=Strict; HttpOnly"),
        ("c", "none=1; Path=/; SameSite=None"),
        ("c", "secure=1; Path=/; Secure"),
        ("c", "deep=1; Path=/auth"),
        ("c", "gone=1; Path=/; Max-Age=0"),
    ];
    browser.navigate(&with_query(&format!("{ours}/set"), &cookies));
    assert_eq!(
        browser.navigate(&ours).text(),
        "GET | lax=1; strict=1 | - | none"
    );
    let deep = browser.navigate(&format!("{ours}/auth/x"));
    assert_eq!(deep.text(), "GET | lax=1; strict=1; deep=1 | - | none");
    assert!(
        browser
            .navigate(&format!("{ours}/authority"))
            .text()
            .starts_with("GET | lax=1; strict=1 |")
    );
    assert_eq!(
        browser.navigate(&theirs).text(),
        "GET | - | - | none",
        "another host"
    );
    let other = StandIn::serve(site);
    let other_port = browser.navigate(&format!("http://localhost:{}", other.addr().port()));
    assert_eq!(
        other_port.text(),
        "GET | lax=1; strict=1 | - | none",
        "ports do not matter"
    );

    let post_to = |browser: &mut Browser, from: &str, to: &str, policy: &str| {
        let form = browser.navigate(&with_query(
            &format!("{from}/form"),
            &[("to", to), ("policy", policy)],
        ));
        browser.auto_submit(&form).text()
    };
    let same = post_to(&mut browser, &ours, "/", "");
    assert_eq!(
        same,
        format!("POST | lax=1; strict=1 | {ours} | same-origin")
    );
    let cross = post_to(&mut browser, &theirs, &ours, "");
    assert_eq!(
        cross,
        format!("POST | - | {theirs} | cross-site"),
        "Lax stays behind"
    );
    let see_other = with_query(&format!("{ours}/hop"), &[("status", "303"), ("to", "/")]);
    let after = post_to(&mut browser, &theirs, &see_other, "");
    assert_eq!(
        after, "GET | lax=1 | - | cross-site",
        "Lax comes with the GET after a 303"
    );
    let kept = with_query(&format!("{ours}/hop"), &[("status", "307"), ("to", "/")]);
    let kept = post_to(&mut browser, &theirs, &kept, "no-referrer");
    assert_eq!(kept, "POST | - | null | cross-site");
    let clear = with_query(&format!("{ours}/set"), &[("c", "lax=; Path=/; Max-Age=0")]);
    browser.navigate(&clear);
    assert!(browser.cookie("lax").is_none() && browser.cookie("strict").unwrap().http_only);
    assert_eq!(browser.history.last(), Some(&clear));
}

#[test]
fn form_action_holds_for_redirects_too() {
    let (_server, ours, theirs) = two_sites();
    let hop = with_query(
        &format!("{ours}/hop"),
        &[("status", "302"), ("to", &theirs)],
    );
    let try_with = |csp: &str| {
        let mut browser = Browser::new();
        let form = browser.navigate(&with_query(
            &format!("{ours}/form"),
            &[("to", &hop), ("csp", csp)],
        ));
        catch_unwind(AssertUnwindSafe(|| browser.submit(&form, "Go").status)).is_ok()
    };
    assert!(!try_with("default-src 'none'; form-action 'self'"));
    assert!(try_with(&format!("form-action 'self' {theirs}")));
    assert!(try_with("default-src 'none'"));
}

#[test]
fn a_browser_signs_in_without_a_code_in_its_history() {
    let entra = start();
    let app =
        StandIn::serve(|request: &Request| Reply::new(200, "text/plain", request.body.clone()));
    let redirect = format!("http://localhost:{}/auth/callback", app.addr().port());
    let mut browser = Browser::new();
    let link = authorize_url(&entra, &[("redirect_uri", &redirect)]);
    let fields = crate::support::decode_pairs(browser.sign_in(&link, ADA).body.as_bytes());
    assert!(value_of(&fields, "code").is_some_and(|code| code.starts_with(entra::CODE_MARK)));
    assert!(
        !browser
            .history
            .iter()
            .any(|url| url.contains(entra::CODE_MARK))
    );
    let fields = crate::support::decode_pairs(browser.decline(&link).body.as_bytes());
    assert_eq!(value_of(&fields, "error"), Some("access_denied"));
    let link = authorize_url(
        &entra,
        &[("redirect_uri", &redirect), ("response_mode", "query")],
    );
    browser.sign_in(&link, ADA);
    assert!(browser.history.last().unwrap().contains(entra::CODE_MARK));
}

#[test]
fn misbehaviour_reaches_the_client() {
    let gate = Gate::default();
    let script_gate = gate.clone();
    let server = StandIn::serve(move |request: &Request| match request.path.as_str() {
        "/close" => Answer::Close,
        "/reset" => Answer::Reset,
        "/raw" => Answer::raw("HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        "/chunked" => Reply::new(200, "", "in chunks")
            .with("Transfer-Encoding", "chunked")
            .into(),
        "/events" => {
            let gate = script_gate.clone();
            Answer::script(move |stream| {
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n",
                )?;
                gate.pass();
                stream.write_all(b"event: message\r\nid: 7\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n")
            })
        }
        _ => Reply::new(200, "text/plain", request.body.clone()).into(),
    });
    let mut client = Client::new(&server.url());
    assert_eq!(client.request("POST", "/", &[], b"echo").text(), "echo");
    let chunked = http::chunks(b"echo in chunks", 3);
    let reply = client.request("POST", "/", &[("Transfer-Encoding", "chunked")], &chunked);
    assert_eq!(reply.text(), "echo in chunks");
    assert_eq!(client.request("HEAD", "/raw", &[], b"").body, b"");
    let mut client = Client::new(&server.url());
    assert_eq!(client.get("/chunked").text(), "in chunks");
    assert!(client.is_connected(), "kept alive throughout");
    assert_eq!(client.get("/raw").text(), "until the end");
    assert!(!client.is_connected());
    let kind = |target| {
        Client::new(&server.url())
            .try_request("GET", target, &[], b"")
            .unwrap_err()
            .kind()
    };
    assert_eq!(kind("/close"), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(kind("/reset"), std::io::ErrorKind::ConnectionReset);
    let (head, mut events) = client.open_stream("GET", "/events", &[], b"");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(
        events.next(),
        Some(Event::Comment("hello".to_owned())),
        "before the gate opens"
    );
    gate.open();
    assert_eq!(events.next_json(), Some(json!({ "a": 1 })));
    assert_eq!(events.next(), None);
    let received = http::raw(
        &server.addr(),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert!(received.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_panic_in_a_handler_fails_the_test() {
    let server = StandIn::serve(|_: &Request| -> Reply { panic!("as a failed assertion does") });
    assert_eq!(http::get(&server.url()).status, 500);
    assert!(catch_unwind(AssertUnwindSafe(move || drop(server))).is_err());
}

#[test]
fn the_backend_wants_a_token_of_entras() {
    let entra = start();
    let backend = Backend::start_for(&entra);
    let url = |path: &str| format!("{}{path}", backend.url());
    let tokens = sign_in(&entra);
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let get = |token: &str| http::one_shot("GET", &url("/me"), &[("Authorization", token)], b"");
    let refused = get("Bearer AT-forged");
    assert!(refused.status == 401 && refused.header("WWW-Authenticate").is_some());
    assert_eq!(get(&bearer).json()["userPrincipalName"], ADA);
    assert_eq!(backend.requests().len(), 2);
    entra.advance(3901);
    assert_eq!(get(&bearer).status, 401, "expired");
    backend.on(|_| Some(backend::claims_challenge(&json!({ "access_token": {} })).into()));
    assert!(
        get("")
            .header("WWW-Authenticate")
            .unwrap()
            .contains("insufficient_claims")
    );
}

#[test]
fn the_sample_api_does_what_apis_do() {
    let backend = Backend::start(None);
    let send = |method: &str, target: &str, headers: &[(&str, &str)], body: &str| {
        let headers = [headers, &[("Authorization", "Bearer any")]].concat();
        let target = format!("/v1.0{target}");
        Client::new(&backend.origin()).request(method, &target, &headers, body.as_bytes())
    };
    let get = |target: &str| send("GET", target, &[], "");
    let first = get("/me/messages?$top=20").json();
    let next = first["@odata.nextLink"].as_str().unwrap();
    let rest = get(next.strip_prefix(&backend.url()).unwrap()).json();
    assert_eq!(rest["value"].as_array().unwrap().len(), 5);
    assert_eq!(rest["@odata.nextLink"], Value::Null);

    let created = send("POST", "/tasks", &[], r#"{"title":"a"}"#);
    let etag = created.header("ETag").unwrap().to_owned();
    assert_eq!(created.status, 201);
    let patch = |etag: &str| {
        send(
            "PATCH",
            "/tasks/1",
            &[("If-Match", etag)],
            r#"{"done":true}"#,
        )
    };
    assert_eq!(
        patch(&etag).json(),
        json!({ "id": "1", "title": "a", "done": true })
    );
    assert_eq!(patch(&etag).status, 412, "the ETag is of yesterday");
    assert_eq!(send("DELETE", "/tasks/1", &[], "").status, 204);
    assert_eq!(get("/tasks/1").status, 404);

    assert_eq!(get("/large?bytes=70000&chunked=1").body.len(), 70_000);
    assert_eq!(get("/gzip").header("Content-Encoding"), Some("gzip"));
    assert_eq!(
        get("/status/429?retry_after=3").header("Retry-After"),
        Some("3")
    );
    assert_eq!(
        get("/redirect?to=https://evil.example/").header("Location"),
        Some("https://evil.example/")
    );
    assert!(
        !get("/echo").text().contains("any"),
        "the token is withheld"
    );
    assert!(get("/photo").body.starts_with(b"\x89PNG"));
    assert_eq!(backend.last().target, "/v1.0/photo");
    let hold = backend.hold();
    thread::scope(|scope| {
        let slow = scope.spawn(|| get("/slow").status);
        hold.wait_for_arrivals(1);
        assert_eq!(get("/empty").status, 204, "others are served meanwhile");
        drop(hold);
        assert_eq!(slow.join().unwrap(), 200);
    });
}

/// Without the demand that every request declares the capability, which has tests of its own.
fn start() -> Entra {
    let entra = Entra::start();
    entra.set(|settings| settings.demand_cp1 = false);
    entra
}

fn start_lenient() -> Entra {
    let entra = start();
    entra.allow_violations();
    entra
}

const CP1: &str = r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#;
const STEP_UP: &str =
    r#"{"access_token":{"xms_cc":{"values":["cp1"]},"acrs":{"essential":true,"value":"c1"}}}"#;
const READ: &str = "openid profile offline_access api://backend/access";
const READ_AND_WRITE: &str =
    "openid profile offline_access api://backend/access api://backend/write";

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn text_at(answer: &Value, name: &str) -> String {
    answer[name]
        .as_str()
        .unwrap_or_else(|| panic!("no {name} in {answer}"))
        .to_owned()
}

/// Signs Ada in with changes of the authorize request, which the redemption repeats.
fn sign_in_with(entra: &Entra, changes: &[(&'static str, &str)]) -> Value {
    let reply = post(entra, &changed(code_params(&code(entra, changes)), changes));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn granted(entra: &Entra, tokens: &Value) -> entra::Granted {
    entra.granted(&text_at(tokens, "access_token")).unwrap()
}

#[test]
fn where_it_is_demanded_every_request_declares_cp1() {
    let entra = start_lenient();
    let tokens = sign_in_with(&entra, &[("claims", CP1)]);
    let code = code(&entra, &[("claims", CP1)]);
    let begun = begin_device(&entra, &[("claims", CP1)]).json();
    entra.set(|settings| settings.demand_cp1 = true);
    let mut count = 0;
    for claims in [
        "",
        "{}",
        r#"{"access_token":{"xms_cc":{"values":["cp2"]}}}"#,
        r#"{"xms_cc":"cp1"}"#,
    ] {
        let page = Browser::new().navigate(&authorize_url(&entra, &[("claims", claims)]));
        assert!(
            page.status == 400 && page.text().contains("'cp1'"),
            "{}",
            page.body
        );
        for params in [
            code_params(&code),
            refresh_params(&tokens),
            poll_params(&begun),
        ] {
            assert_refused(
                &post(&entra, &changed(params, &[("claims", claims)])),
                9_002_313,
            );
        }
        assert_refused(&begin_device(&entra, &[("claims", claims)]), 9_002_313);
        count += 5;
        assert_eq!(entra.violations().len(), count, "{:?}", entra.violations());
    }
    for params in [code_params(&code), refresh_params(&tokens)] {
        assert_eq!(
            post(&entra, &changed(params, &[("claims", CP1)])).status,
            200
        );
    }
    assert_eq!(begin_device(&entra, &[("claims", CP1)]).status, 200);
    assert_eq!(entra.violations().len(), count);
}

#[test]
fn an_access_token_remembers_scope_and_claims() {
    let entra = start_lenient();
    let tokens = sign_in_with(&entra, &[("claims", STEP_UP), ("scope", READ)]);
    let of_code = granted(&entra, &tokens);
    assert_eq!(
        (of_code.claims, of_code.user),
        (json_of(STEP_UP), User::ada())
    );
    assert!(of_code.scope.contains("api://backend/access") && of_code.scope.len() == 4);
    let refresh = |changes: &[(&'static str, &str)]| {
        let reply = post(
            &entra,
            &changed(
                refresh_params(&tokens),
                &[&[("scope", READ)], changes].concat(),
            ),
        );
        granted(&entra, &reply.json()).claims
    };
    assert_eq!(refresh(&[]), json!({}));
    assert_eq!(refresh(&[("claims", CP1)]), json_of(CP1));
    assert_eq!(entra.violations(), [""; 0]);
    let other = changed(
        code_params(&code(&entra, &[("claims", STEP_UP)])),
        &[("claims", CP1)],
    );
    assert_refused(&post(&entra, &other), 9_002_313);
    assert_eq!(entra.violations().len(), 1);
}

#[test]
fn claims_need_a_person_where_told() {
    let entra = start();
    let tokens = sign_in(&entra);
    let refresh = |claims: &str| {
        post(
            &entra,
            &changed(refresh_params(&tokens), &[("claims", claims)]),
        )
    };
    entra.require_interaction_for_claims(true);
    let refused = refresh(STEP_UP);
    assert_refused(&refused, 50076);
    assert_eq!(refused.json()["error"], "invalid_grant");
    assert_eq!(refused.json()["suberror"], "basic_action");
    assert_eq!(refused.json()["claims"], STEP_UP);
    assert_eq!(
        (entra.refreshes(), refresh(CP1).status),
        (0, 200),
        "capabilities are no demand"
    );
    assert_eq!(
        entra.reused_refresh_tokens(),
        0,
        "what was refused has rotated nothing"
    );
    entra.require_interaction_for_claims(false);
    assert_eq!(refresh(STEP_UP).status, 200);
}

#[test]
fn a_refresh_needs_consent() {
    let entra = start();
    let consented = ["api://backend/access".to_owned()].into();
    entra.set(|settings| settings.consented = Some(consented));
    let tokens = sign_in_with(&entra, &[("scope", READ)]);
    let refresh = |scope: &str| {
        post(
            &entra,
            &changed(refresh_params(&tokens), &[("scope", scope)]),
        )
    };
    assert_eq!(refresh(READ).status, 200);
    let refused = refresh(READ_AND_WRITE);
    assert_refused(&refused, 65001);
    assert_eq!(
        (&refused.json()["error"], &refused.json()["suberror"]),
        (&json!("invalid_grant"), &json!("consent_required"))
    );
    sign_in_with(&entra, &[("scope", READ_AND_WRITE)]);
    let scope = granted(&entra, &refresh(READ_AND_WRITE).json()).scope;
    assert!(scope.contains("api://backend/write"), "{scope:?}");
    let tokens = sign_in(&entra); // for `.default`
    entra.set(|settings| settings.consented = Some(["api://sample/read".to_owned()].into()));
    assert_eq!(
        post(&entra, &refresh_params(&tokens)).status,
        200,
        "`.default` is what was consented to"
    );
    entra.set(|settings| settings.consented = Some(["api://other/read".to_owned()].into()));
    assert_refused(&post(&entra, &refresh_params(&tokens)), 65001);
}

#[test]
fn a_refresh_adds_only_scopes_that_the_person_was_asked_for() {
    let entra = start_lenient();
    let tokens = sign_in_with(&entra, &[("scope", READ)]);
    let refresh = |scope: &str| {
        post(
            &entra,
            &changed(refresh_params(&tokens), &[("scope", scope)]),
        )
    };
    let mut browser = Browser::new();
    let accounts = browser.navigate(&authorize_url(&entra, &[("scope", READ_AND_WRITE)]));
    browser.submit(&accounts, GRACE);
    assert_refused(&refresh(READ_AND_WRITE), 70011);
    assert_eq!(entra.violations().len(), 1, "Grace was asked, not Ada");
    sign_in_with(&entra, &[("scope", READ_AND_WRITE)]);
    assert_eq!(refresh(READ_AND_WRITE).status, 200);
    assert_refused(&refresh("openid api://backend/write"), 70011);
    assert_eq!(
        entra.violations().len(),
        2,
        "nothing that was requested is left out"
    );
}

/// What Entra shows after `username` was picked at `tenant`.
fn picked(entra: &Entra, tenant: &str, username: &str) -> Page {
    let mut browser = Browser::new();
    let accounts = browser.navigate(&authorize_url(entra, &[]).replace(TENANT_ID, tenant));
    assert_eq!(accounts.status, 200, "{}", accounts.body);
    browser.submit(&accounts, username)
}

#[test]
fn a_tenant_segment_admits_its_own() {
    let entra = start();
    let refused =
        Browser::new().navigate(&authorize_url(&entra, &[]).replace(TENANT_ID, "consumers"));
    assert!(refused.text().contains("AADSTS9002332"));
    let accounts = Browser::new().navigate(&authorize_url(&entra, &[]));
    assert!(
        accounts.form().button(PAT).is_none(),
        "no personal accounts"
    );
    entra.set(|settings| settings.consumers_allowed = true);
    for (tenant, admitted) in [
        ("common", [ADA, EVE, PAT].as_slice()),
        ("organizations", &[ADA, EVE]),
        ("consumers", &[PAT]),
        (entra::CONSUMERS_TENANT_ID, &[PAT]),
        (TENANT_ID, &[ADA]),
        ("contoso.example", &[ADA]),
        ("Fabrikam.example", &[EVE]),
    ] {
        for username in [ADA, EVE, PAT] {
            let page = picked(&entra, tenant, username);
            let in_vain = page.text().contains("AADSTS50020");
            assert!(page.submits_itself() != in_vain, "{}", page.body);
            assert_eq!(
                page.submits_itself(),
                admitted.contains(&username),
                "{username} at {tenant}"
            );
        }
    }
    let unknown =
        Browser::new().navigate(&authorize_url(&entra, &[]).replace(TENANT_ID, "unknown.example"));
    assert!(unknown.text().contains("AADSTS90002"));
}

#[test]
fn discovery_names_the_tenants_guid() {
    let entra = start();
    entra.set(|settings| settings.consumers_allowed = true);
    let host = entra.authority_host();
    let discovery = |tenant: &str| {
        http::get(&format!(
            "{host}/{tenant}/v2.0/.well-known/openid-configuration"
        ))
    };
    for (tenant, issuer) in [
        ("contoso.example", TENANT_ID),
        (TENANT_ID, TENANT_ID),
        ("consumers", entra::CONSUMERS_TENANT_ID),
        ("common", "{tenantid}"),
        ("organizations", "{tenantid}"),
    ] {
        let found = discovery(tenant).json();
        assert_eq!(found["issuer"], format!("{host}/{issuer}/v2.0"));
        assert_eq!(
            found["device_authorization_endpoint"],
            format!("{host}/{tenant}/oauth2/v2.0/devicecode")
        );
    }
    assert_eq!(
        discovery("unknown.example").json()["error"],
        "invalid_tenant"
    );
}

#[test]
fn every_answer_carries_the_date() {
    assert_eq!(
        crate::support::http_date(784_111_777),
        "Sun, 06 Nov 1994 08:49:37 GMT"
    );
    assert_eq!(
        crate::support::http_date(1_709_251_199),
        "Thu, 29 Feb 2024 23:59:59 GMT"
    );
    assert_eq!(
        crate::support::http_date(1_709_251_200),
        "Fri, 01 Mar 2024 00:00:00 GMT"
    );
    assert_eq!(
        crate::support::http_date(1_798_761_599),
        "Thu, 31 Dec 2026 23:59:59 GMT"
    );
    let entra = start_lenient();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let base = 10_000_000_000 - i64::try_from(now).unwrap();
    entra.set(|settings| (settings.clock_offset, settings.date_offset) = (3600, base - 3600));
    let url = authorize_url(&entra, &[]);
    let host = entra.authority_host();
    for reply in [
        http::get(&url),
        http::get(&format!("{host}/device")),
        http::get(&format!("{host}/nowhere")),
        post(&entra, &owned(&[])),
        begin_device(&entra, &[]),
    ] {
        // 10^10 is Sat, 20 Nov 2286 17:46:40 GMT; the rest of the minute is patience.
        let dates = reply.headers_named("Date");
        assert!(
            dates.len() == 1 && dates[0].starts_with("Sat, 20 Nov 2286 17:4"),
            "{dates:?}"
        );
    }
}

#[test]
fn a_silent_sign_in_is_answered_without_a_page() {
    let entra = start();
    let changes = [
        ("prompt", "none"),
        ("response_mode", "query"),
        ("domain_hint", "contoso.example"),
    ];
    let reply = http::get(&authorize_url(&entra, &changes));
    let location = url::Url::parse(reply.header("Location").unwrap()).unwrap();
    assert!(
        reply.status == 302 && location.as_str().starts_with(&format!("{REDIRECT}?")),
        "{location}"
    );
    let fields = crate::support::decode_pairs(location.query().unwrap().as_bytes());
    assert_eq!(value_of(&fields, "error"), Some("login_required"));
    assert_eq!(value_of(&fields, "state"), Some("state-1"));
    assert!(
        value_of(&fields, "error_description")
            .unwrap()
            .starts_with("AADSTS50058: ")
    );
}

#[test]
fn a_sign_in_fails_as_told_after_an_account_was_picked() {
    let entra = start();
    entra.set(|settings| {
        settings.fail_authorize = Some(("access_denied", 50105, "Not assigned to a role."));
    });
    let fields = answer_page(&entra, &[]).form().fields;
    assert_eq!(value_of(&fields, "error"), Some("access_denied"));
    assert!(
        value_of(&fields, "error_description")
            .unwrap()
            .starts_with("AADSTS50105: Not assigned to a role.")
    );
    assert_eq!(value_of(&fields, "error_subcode"), None, "nobody declined");
    entra.set(|settings| settings.fail_only = Some(entra::GRACE_OID));
    let fields = answer_page(&entra, &[]).form().fields;
    assert!(value_of(&fields, "code").is_some(), "only Grace is refused");
    entra.set(|settings| {
        settings.page_error = Some((53003, "Blocked by Conditional Access.".to_owned()));
    });
    let page = answer_page(&entra, &[]);
    assert!(
        page.status == 400 && page.text().contains("AADSTS53003: Blocked by"),
        "{}",
        page.body
    );
}

fn begin_device(entra: &Entra, changes: &[(&'static str, &str)]) -> Reply {
    let params = changed(
        owned(&[("client_id", entra::CLIENT_ID), ("scope", SCOPE)]),
        changes,
    );
    http::post(
        &devicecode_endpoint(entra),
        &[FORM],
        encode_pairs(&params).as_bytes(),
    )
}

fn devicecode_endpoint(entra: &Entra) -> String {
    format!(
        "{}/{TENANT_ID}/oauth2/v2.0/devicecode",
        entra.authority_host()
    )
}

fn poll_params(begun: &Value) -> Params {
    owned(&[
        ("client_id", entra::CLIENT_ID),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", &text_at(begun, "device_code")),
    ])
}

/// A poll when its time has come.
fn poll(entra: &Entra, begun: &Value) -> Reply {
    entra.advance(60);
    post(entra, &poll_params(begun))
}

#[track_caller]
fn assert_error(reply: &Reply, error: &str, aadsts: u32) {
    assert_refused(reply, aadsts);
    assert_eq!(reply.json()["error"], error);
}

#[test]
fn a_device_code_is_redeemed_once_its_person_approved() {
    let entra = start_lenient();
    let begun = begin_device(&entra, &[("claims", CP1)]).json();
    let user_code = text_at(&begun, "user_code");
    assert!(
        user_code.len() == 9 && user_code.as_bytes()[4] == b'-',
        "{user_code}"
    );
    assert!(text_at(&begun, "device_code").starts_with(entra::DEVICE_CODE_MARK));
    assert_eq!(
        begun["verification_uri"],
        format!("{}/device", entra.authority_host())
    );
    assert_eq!(
        (&begun["expires_in"], &begun["interval"]),
        (&json!(900), &json!(1))
    );
    assert!(text_at(&begun, "message").contains(&user_code));
    assert_error(&poll(&entra, &begun), "authorization_pending", 70016);
    entra.approve_device(&user_code, ADA);
    let tokens = poll(&entra, &begun).json();
    let claims = id_token_claims(&tokens);
    assert_eq!(
        (&claims["oid"], claims.get("nonce")),
        (&json!(entra::ADA_OID), None)
    );
    assert_eq!(granted(&entra, &tokens).claims, json_of(CP1));
    assert_eq!(post(&entra, &refresh_params(&tokens)).status, 200);
    let device = entra.devices().remove(0);
    assert_eq!(
        (device.user_code, device.polls, device.redeemed),
        (user_code, 2, true)
    );
    assert_eq!(entra.violations(), [""; 0]);
    assert_error(&poll(&entra, &begun), "invalid_grant", 54005);
    let other = json!({ "device_code": "DC-unknown" });
    assert_error(&poll(&entra, &other), "bad_verification_code", 70018);
    assert_eq!(entra.violations().len(), 1);
    let begun = begin_device(&entra, &[]).json();
    let body = encode_pairs(&poll_params(&begun));
    assert_refused(
        &http::post(&entra.token_endpoint("common"), &[FORM], body.as_bytes()),
        700_005,
    );
}

#[test]
fn the_device_grant_ends_without_tokens_too() {
    let entra = start();
    let new_device = || {
        let begun = begin_device(&entra, &[]).json();
        (text_at(&begun, "user_code"), begun)
    };
    let (user_code, begun) = new_device();
    entra.decline_device(&user_code);
    assert_error(&poll(&entra, &begun), "authorization_declined", 65004);
    let (user_code, begun) = new_device();
    entra.expire_device(&user_code);
    assert_error(&poll(&entra, &begun), "expired_token", 70020);
    entra.set(|settings| settings.says_code_expired = true);
    assert_error(&poll(&entra, &begun), "code_expired", 70019);
    entra.set(|settings| settings.says_code_expired = false);
    let (user_code, begun) = new_device();
    entra.advance(900);
    assert_error(&poll(&entra, &begun), "expired_token", 70020);
    let late = catch_unwind(AssertUnwindSafe(|| entra.approve_device(&user_code, ADA)));
    assert!(late.is_err(), "too late to approve");
    entra.set(|settings| settings.device_code_allowed = false);
    assert_error(&poll(&entra, &new_device().1), "invalid_client", 7_000_218);
}

#[test]
fn polling_too_soon_is_a_violation_and_slows_the_client_down() {
    let entra = start_lenient();
    entra.set(|settings| (settings.device_interval, settings.device_expires_in) = (1000, 100_000));
    let begun = begin_device(&entra, &[]).json();
    let poll_after = |seconds, error: &str, violations: usize| {
        entra.advance(seconds);
        assert_error(&post(&entra, &poll_params(&begun)), error, 70016);
        assert_eq!(entra.violations().len(), violations);
    };
    poll_after(0, "authorization_pending", 0);
    poll_after(900, "slow_down", 1);
    poll_after(1000, "slow_down", 2); // five seconds more are due by now
    poll_after(1010, "authorization_pending", 2);
    entra.fail_next_poll("slow_down", 70016);
    poll_after(1010, "slow_down", 2);
    poll_after(1010, "slow_down", 3);
    poll_after(1020, "authorization_pending", 3);
    assert_eq!(entra.devices()[0].polls, 7);
}

#[test]
fn polls_fail_as_told_and_nothing_else_does() {
    let entra = start();
    let begun = begin_device(&entra, &[]).json();
    entra.fail_next_poll("access_denied", 53003);
    entra.fail_next_device_poll(TokenFailure::Status(503, Some(7)));
    let tokens = sign_in(&entra);
    assert_eq!(post(&entra, &refresh_params(&tokens)).status, 200);
    assert_error(&poll(&entra, &begun), "access_denied", 53003);
    assert_eq!(poll(&entra, &begun).header("Retry-After"), Some("7"));
    assert_error(&poll(&entra, &begun), "authorization_pending", 70016);
    assert_eq!(entra.devices()[0].polls, 3);
}

#[test]
fn wrong_device_requests_are_violations() {
    let entra = start_lenient();
    let url = devicecode_endpoint(&entra);
    let body = encode_pairs(&owned(&[("client_id", entra::CLIENT_ID), ("scope", SCOPE)]));
    let with_query = format!("{url}?scope=openid");
    for (reply, aadsts) in [
        (http::get(&url), 900_561),
        (
            http::post(&url, &[FORM, ("Origin", "null")], body.as_bytes()),
            9_002_326,
        ),
        (
            http::post(&url, &[FORM, ("Cookie", "a=b")], body.as_bytes()),
            9_002_313,
        ),
        (http::post(&with_query, &[FORM], body.as_bytes()), 9_002_313),
        (begin_device(&entra, &[("client_secret", "s")]), 700_025),
        (begin_device(&entra, &[("scope", "profile")]), 900_144),
        (
            begin_device(&entra, &[("scope", "openid api://a/x api://b/y")]),
            28000,
        ),
    ] {
        assert_refused(&reply, aadsts);
    }
    assert_eq!(entra.violations().len(), 7);
    assert!(entra.devices().is_empty());
}

#[test]
fn a_person_types_the_code_of_a_device() {
    let entra = start();
    entra.set(|settings| settings.consented = Some([].into()));
    let begun = begin_device(&entra, &[("scope", READ)]).json();
    let user_code = text_at(&begun, "user_code");
    let mut browser = Browser::new();
    let page = browser.navigate(&text_at(&begun, "verification_uri"));
    let mut submit =
        |code: &str, button: &str| browser.submit_with(&page, button, &[("user_code", code)]);
    assert!(submit("XXXX-XXXX", ADA).text().contains("AADSTS70018"));
    assert!(
        submit(&user_code, EVE).text().contains("AADSTS50020"),
        "of another tenant"
    );
    entra.set(|settings| settings.page_error = Some((53003, "Blocked.".to_owned())));
    assert!(submit(&user_code, ADA).text().contains("AADSTS53003"));
    entra.set(|settings| settings.page_error = None);
    assert_eq!(submit(&user_code.to_lowercase(), ADA).status, 200);
    let tokens = poll(&entra, &begun).json();
    assert_eq!(granted(&entra, &tokens).user, User::ada());
    let refresh = changed(refresh_params(&tokens), &[("scope", READ)]);
    assert_eq!(
        post(&entra, &refresh).status,
        200,
        "consented to by approving"
    );
    let begun = begin_device(&entra, &[]).json();
    assert_eq!(
        submit(&text_at(&begun, "user_code"), "Deny consent").status,
        200
    );
    assert_error(&poll(&entra, &begun), "authorization_declined", 65004);
}

#[test]
fn the_backend_asks_for_claims_and_scopes() {
    let entra = start();
    let backend = Backend::start_for(&entra);
    let send = |method: &str, path: &str, tokens: &Value| {
        let bearer = format!("Bearer {}", text_at(tokens, "access_token"));
        http::one_shot(
            method,
            &format!("{}{path}", backend.url()),
            &[("Authorization", &bearer)],
            b"",
        )
    };
    let plain = sign_in_with(&entra, &[("scope", READ), ("claims", CP1)]);
    let strong = sign_in_with(&entra, &[("scope", READ_AND_WRITE), ("claims", STEP_UP)]);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
        let challenge = send(method, "/cae", &plain);
        let wanted = backend::claims_header(&backend::cae_claims());
        assert_eq!(
            (
                challenge.status,
                challenge.headers_named("WWW-Authenticate")
            ),
            (401, vec![&*wanted])
        );
        assert_eq!(send(method, "/cae", &strong).status, 200);
        let refused = send(method, "/write", &plain);
        let wanted = r#"Bearer error="insufficient_scope", scope="api://backend/write""#;
        assert_eq!(
            (refused.status, refused.headers_named("WWW-Authenticate")),
            (403, vec![wanted])
        );
        assert_eq!(send(method, "/write", &strong).status, 200);
    }
    backend.challenge_with(vec![
        "Basic realm=\"x\"".to_owned(),
        "Bearer error=\"insufficient_claims\"".to_owned(),
    ]);
    let lines = send("GET", "/cae", &plain);
    let lines = lines.headers_named("WWW-Authenticate");
    assert_eq!(
        lines,
        ["Basic realm=\"x\"", "Bearer error=\"insufficient_claims\""]
    );
    assert_eq!(send("GET", "/cae", &strong).status, 200);
}

/// An MCP server that answers `initialize` as it should and a tool with what its arguments say.
fn mcp_server() -> StandIn {
    StandIn::serve(|request: &Request| {
        let message = request.json();
        let response =
            |result: &Value| json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        match message["method"].as_str().unwrap() {
            "initialize" => Reply::of_json(200, &response(&message["params"])).into(),
            "notifications/initialized" => Reply::empty(202).into(),
            _ if message["params"]["arguments"]["stream"] == true => {
                let progress =
                    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}});
                let response = response(&message["params"]);
                Answer::raw(format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n\
                     : still here\n\ndata: {progress}\n\ndata: {response}\n\n"
                ))
            }
            _ => Reply::of_json(200, &response(&message["params"])).into(),
        }
    })
}

#[test]
fn the_mcp_client_declares_its_capabilities_and_reads_both_kinds_of_answer() {
    let server = mcp_server();
    let http = || Client::new(&server.url());
    let urls = Mcp::can_open_urls();
    assert_eq!(urls, json!({"elicitation": {"url": {}}}));
    let mut modern = Mcp::modern(http(), urls.clone());
    let extra = json!({"inputResponses": {"k": {"action": "accept"}}, "requestState": "s", "_meta": {"progressToken": 7}});
    let answered = modern.call_with("t", json!({"a": 1}), extra.clone());
    let params = &answered.response["result"];
    assert_eq!(
        (answered.status, answered.is_stream, answered.messages.len()),
        (200, false, 1)
    );
    assert_eq!(
        (&params["name"], &params["arguments"]),
        (&json!("t"), &json!({"a": 1}))
    );
    assert_eq!(
        (&params["inputResponses"], &params["requestState"]),
        (&extra["inputResponses"], &extra["requestState"])
    );
    assert_eq!(params["_meta"]["progressToken"], 7);
    assert_eq!(
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"],
        urls
    );
    let streamed = modern.call_with("t", json!({"stream": true}), json!({}));
    assert!(streamed.is_stream && streamed.had_keep_alive);
    assert_eq!(streamed.messages[0]["method"], "notifications/progress");
    assert_eq!(streamed.messages.last(), Some(&streamed.response));
    let (head, mut events) = modern.open_call("t", json!({"stream": true}), json!({}));
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(events.next(), Some(Event::Comment("still here".to_owned())));
    assert_eq!(
        events.next_json().unwrap()["method"],
        "notifications/progress"
    );
    let mut legacy = Mcp::legacy(http(), "2025-11-25", urls);
    let answered = legacy.call_with("t", json!({}), json!({"_meta": {"progressToken": 7}}));
    assert_eq!(
        answered.response["result"]["_meta"],
        json!({"progressToken": 7}),
        "nothing of the modern era"
    );
}

#[test]
fn a_legacy_client_initializes_with_its_capabilities() {
    let capabilities = Arc::new(Mutex::new(Value::Null));
    let seen = Arc::clone(&capabilities);
    let server = StandIn::serve(move |request: &Request| {
        let message = request.json();
        if message["method"] != "initialize" {
            return Reply::empty(202);
        }
        *crate::support::lock(&seen) = message["params"]["capabilities"].clone();
        Reply::of_json(
            200,
            &json!({"jsonrpc": "2.0", "id": 0, "result": message["params"]}),
        )
    });
    Mcp::legacy(
        Client::new(&server.url()),
        "2025-11-25",
        Mcp::can_open_urls(),
    );
    assert_eq!(
        *crate::support::lock(&capabilities),
        json!({"elicitation": {"url": {}}})
    );
}

#[track_caller]
fn assert_panics<T>(what: &Value, read: impl Fn(&Value) -> T) {
    assert!(
        catch_unwind(AssertUnwindSafe(|| read(what))).is_err(),
        "{what}"
    );
}

#[test]
fn only_a_well_formed_input_required_result_passes() {
    let right = json!({
        "resultType": "input_required",
        "requestState": "state",
        "inputRequests": {"sign_in": {"method": "elicitation/create",
            "params": {"mode": "url", "url": "http://localhost:8000/auth/login", "message": "Sign in.",
                "elicitationId": "e1"}}},
    });
    let read = input_required(&json!({"jsonrpc": "2.0", "id": 1, "result": &right}));
    assert_eq!(read, input_required(&right));
    assert_eq!(
        (&*read.key, &*read.state, &*read.message),
        ("sign_in", "state", "Sign in.")
    );
    assert_eq!(read.url, "http://localhost:8000/auth/login");
    assert_eq!(read.elicitation_id, "e1");
    let retry =
        json!({"inputResponses": {"sign_in": {"action": "accept"}}, "requestState": "state"});
    assert_eq!(read.answered_with("accept"), retry);
    for (pointer, value) in [
        ("/resultType", json!("complete")),
        ("/requestState", json!("")),
        ("/content", json!([])),
        ("/isError", json!(true)),
        ("/inputRequests", json!({})),
        (
            "/inputRequests/second",
            right["inputRequests"]["sign_in"].clone(),
        ),
        ("/inputRequests/sign_in/method", json!("roots/list")),
        ("/inputRequests/sign_in/id", json!(1)),
        ("/inputRequests/sign_in/params/mode", json!("form")),
        ("/inputRequests/sign_in/params/url", json!("/auth/login")),
        ("/inputRequests/sign_in/params/message", json!("")),
        ("/inputRequests/sign_in/params/elicitationId", json!("")),
        ("/inputRequests/sign_in/params/elicitationId", json!(1)),
        ("/inputRequests/sign_in/params/requestedSchema", json!({})),
    ] {
        assert_panics(&with_member(&right, pointer, value), input_required);
    }
}

#[test]
fn only_a_well_formed_elicitation_error_passes() {
    let right = json!({"code": -32042, "message": "Sign in first.", "data": {"elicitations": [
        {"mode": "url", "url": "http://localhost:8000/auth/login", "message": "Sign in.", "elicitationId": "e1"}]}});
    let read = elicitation_error(&json!({"jsonrpc": "2.0", "id": 1, "error": &right}));
    assert_eq!(read, elicitation_error(&right));
    assert_eq!(
        read,
        (
            "http://localhost:8000/auth/login".into(),
            "Sign in.".into(),
            "e1".into()
        )
    );
    for (pointer, value) in [
        ("/code", json!(-32000)),
        ("/message", json!("")),
        ("/result", json!({})),
        ("/data/elicitations", json!([])),
        ("/data/elicitations/0/mode", json!("form")),
        ("/data/elicitations/0/elicitationId", json!("")),
        ("/data/elicitations/0/url", json!("login")),
        ("/data/elicitations/0/requestedSchema", json!({})),
    ] {
        assert_panics(&with_member(&right, pointer, value), elicitation_error);
    }
}

/// `object` with one member set or added, named as by a JSON pointer.
fn with_member(object: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap()[name] = value;
    changed
}

#[test]
fn a_verb_runs_to_its_end_or_is_read_line_by_line() {
    let setup = Setup::new(&start(), None);
    let program = || Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    let check = |tenant: &str| {
        let mut command = program();
        command.arg("--check-config").env("AZURE_TENANT_ID", tenant);
        Verb::run(command, &setup)
    };
    let (code, stdout, stderr) = check("common");
    assert_eq!(code, 0, "{stderr}");
    assert!(
        stdout.contains("AZURE_TENANT_ID=common  # environment\n"),
        "{stdout}"
    );
    let (code, _, stderr) = check("no tenant");
    assert!(code == 2 && stderr.contains("AZURE_TENANT_ID"), "{stderr}");
    let mut serving = Verb::start(program(), &setup);
    assert!(
        serving.line().unwrap().contains(" is ready "),
        "{}",
        serving.log()
    );
    assert!(
        serving.line().unwrap().ends_with("/mcp"),
        "a line at a time"
    );
}
