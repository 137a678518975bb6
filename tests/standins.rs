//! The stand-ins themselves: one that cannot fail is worth nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use support::backend::{self, Backend};
use support::browser::{Browser, Page};
use support::entra::{self, ADA, EVE, Entra, GRACE, Platform, TENANT_ID, TokenFailure, User};
use support::http::{self, Answer, Client, Event, Reply, Request, StandIn};
use support::{Gate, encode_pairs, value_of};

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
    let entra = Entra::start();
    let tokens = sign_in(&entra);
    let claims = id_token_claims(&tokens);
    for (claim, value) in [
        ("aud", entra::CLIENT_ID),
        ("nonce", "nonce-1"),
        ("tid", TENANT_ID),
        ("oid", entra::ADA_OID),
        ("preferred_username", ADA),
        ("ver", "2.0"),
        ("iss", &format!("{}/{TENANT_ID}/v2.0", entra.authority_host())),
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
    let payload = tokens["id_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&json.unwrap()).unwrap()
}

#[test]
fn wrong_redemptions_are_violations() {
    type Case<'a> = (&'a [(&'static str, &'a str)], u32);
    let cases: &[Case] = &[
        (&[("code_verifier", &"x".repeat(43))], 501_481),
        (&[("code_verifier", "")], 501_481),
        (&[("redirect_uri", "http://localhost:8001/auth/callback")], 500_112),
        (&[("scope", "openid api://sample/.default api://b/.default")], 65001),
        (&[("client_secret", "s")], 700_025),
        (&[("resource", "api://sample")], 901_002),
        (&[("claims", "{")], 9_002_313),
        (&[("grant_type", "password")], 70003),
    ];
    let entra = Entra::start_lenient();
    for (number, (changes, aadsts)) in cases.iter().enumerate() {
        let params = changed(code_params(&code(&entra, &[])), changes);
        assert_refused(&post(&entra, &params), *aadsts);
        assert_eq!(entra.violations().len(), number + 1, "{:?}", entra.violations());
    }
    assert_eq!(entra.redemptions(), 0);
}

#[test]
fn codes_work_once_in_time_and_at_their_tenant() {
    let entra = Entra::start_lenient();
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
    let entra = Entra::start_lenient();
    let url = entra.token_endpoint(TENANT_ID);
    let body = encode_pairs(&code_params(&code(&entra, &[])));
    let twice = format!("{body}&scope=openid");
    let json = ("Content-Type", "application/json");
    let with_query = format!("{url}?code=1");
    for (reply, aadsts) in [
        (http::get(&url), 900_561),
        (http::post(&url, &[json], body.as_bytes()), 900_144),
        (http::post(&url, &[FORM, ("Origin", "null")], body.as_bytes()), 9_002_326),
        (http::post(&url, &[FORM, ("Authorization", "Basic eA==")], body.as_bytes()), 700_025),
        (http::post(&url, &[FORM, ("Cookie", "a=b")], body.as_bytes()), 9_002_313),
        (http::post(&with_query, &[FORM], body.as_bytes()), 9_002_313),
        (http::post(&url, &[FORM], twice.as_bytes()), 9_000_411),
    ] {
        assert_refused(&reply, aadsts);
    }
    assert_eq!(entra.violations().len(), 7);
}

#[test]
fn refreshing_with_the_granted_scope_breaks() {
    let entra = Entra::start_lenient();
    let tokens = sign_in(&entra);
    let granted = tokens["scope"].as_str().unwrap();
    assert!(granted.contains("api://sample/.default") && granted.contains("user_impersonation"));
    let echoing = changed(refresh_params(&tokens), &[("scope", granted)]);
    assert_refused(&post(&entra, &echoing), 70011);
    let fewer = changed(refresh_params(&tokens), &[("scope", "openid offline_access")]);
    assert_refused(&post(&entra, &fewer), 70011);
    let spanning = format!("{SCOPE} api://other/.default");
    let spanning = changed(refresh_params(&tokens), &[("scope", &spanning)]);
    assert_refused(&post(&entra, &spanning), 28000);
    assert_eq!(entra.violations().len(), 3);
}

#[test]
fn refresh_tokens_are_revoked_and_reuse_is_refused_where_told() {
    let entra = Entra::start();
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
    let entra = Entra::start();
    for (platform, aadsts) in [(Platform::Web, 7_000_218), (Platform::Spa, 9_002_327)] {
        entra.set(|settings| settings.platform = platform);
        let reply = post(&entra, &code_params(&code(&entra, &[])));
        assert_refused(&reply, aadsts);
    }
}

#[test]
fn untrusted_clients_see_entras_own_page() {
    let entra = Entra::start();
    for (change, aadsts) in [
        (("client_id", "00000000-0000-0000-0000-000000000000"), "AADSTS700016"),
        (("redirect_uri", "http://localhost:8000/Auth/callback"), "AADSTS50011"),
        (("redirect_uri", "http://127.0.0.1:8000/auth/callback"), "AADSTS50011"),
        (("redirect_uri", "https://localhost:8000/auth/callback"), "AADSTS50011"),
    ] {
        let page = Browser::new().navigate(&authorize_url(&entra, &[change]));
        assert!(page.status == 400 && page.text().contains(aadsts), "{}", page.body);
    }
    let other_port = ("redirect_uri", "http://localhost:49152/auth/callback");
    assert_eq!(Browser::new().navigate(&authorize_url(&entra, &[other_port])).status, 200);
    let mut browser = Browser::new();
    let accounts = browser.navigate(&authorize_url(&entra, &[("login_hint", GRACE)]));
    assert_eq!(accounts.form().buttons[0].value, GRACE, "the hinted account comes first");
    let page = browser.submit(&accounts, EVE);
    assert!(page.text().contains("AADSTS50020"), "{}", page.body);
    entra.set(|settings| settings.single_tenant = true);
    let url = authorize_url(&entra, &[]).replace(TENANT_ID, "common");
    assert!(Browser::new().navigate(&url).text().contains("AADSTS50194"));
}

#[test]
fn careless_authorize_requests_are_violations() {
    let entra = Entra::start_lenient();
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
    let fields = Browser::new().navigate(&authorize_url(&entra, &[mixed])).form().fields;
    let description = value_of(&fields, "error_description").unwrap();
    assert!(description.starts_with("AADSTS70011"));
}

#[test]
fn a_violation_fails_the_test_that_caused_it() {
    let entra = Entra::start();
    post(&entra, &owned(&[("client_secret", "s")]));
    assert!(catch_unwind(AssertUnwindSafe(move || drop(entra))).is_err());
}

#[test]
fn the_token_endpoint_fails_as_told() {
    let entra = Entra::start();
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
    let entra = Entra::start();
    let tokens = sign_in(&entra);
    let hold = entra.hold_tokens();
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| post(&entra, &refresh_params(&tokens)).status));
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
        "/set" => request.query.iter().fold(Reply::empty(204), |reply, (_, cookie)| reply.with("Set-Cookie", cookie)),
        "/form" => {
            let action = support::escape_html(query("to"));
            let form = format!("<form method=\"post\" action=\"{action}\"><button>Go</button></form>");
            let reply = Reply::of_html(200, form + "<script>document.forms[0].submit()</script>");
            let reply = reply.with("Referrer-Policy", query("policy"));
            if query("csp").is_empty() { reply } else { reply.with("Content-Security-Policy", query("csp")) }
        }
        "/hop" => Reply::empty(query("status").parse().unwrap()).with("Location", query("to")),
        _ => {
            let header = |name| request.header(name).unwrap_or("-");
            let parts = [&*request.method, header("Cookie"), header("Origin"), header("Sec-Fetch-Site")];
            Reply::of_html(200, parts.join(" | "))
        }
    }
}

/// The same server under two names, which are two sites.
fn two_sites() -> (StandIn, String, String) {
    let server = StandIn::serve(site);
    let (ours, theirs) = (format!("http://localhost:{}", server.addr().port()), server.url());
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
    assert_eq!(browser.navigate(&ours).text(), "GET | lax=1; strict=1 | - | none");
    let deep = browser.navigate(&format!("{ours}/auth/x"));
    assert_eq!(deep.text(), "GET | lax=1; strict=1; deep=1 | - | none");
    assert!(browser.navigate(&format!("{ours}/authority")).text().starts_with("GET | lax=1; strict=1 |"));
    assert_eq!(browser.navigate(&theirs).text(), "GET | - | - | none", "another host");
    let other = StandIn::serve(site);
    let other_port = browser.navigate(&format!("http://localhost:{}", other.addr().port()));
    assert_eq!(other_port.text(), "GET | lax=1; strict=1 | - | none", "ports do not matter");

    let post_to = |browser: &mut Browser, from: &str, to: &str, policy: &str| {
        let form = browser.navigate(&with_query(&format!("{from}/form"), &[("to", to), ("policy", policy)]));
        browser.auto_submit(&form).text()
    };
    let same = post_to(&mut browser, &ours, "/", "");
    assert_eq!(same, format!("POST | lax=1; strict=1 | {ours} | same-origin"));
    let cross = post_to(&mut browser, &theirs, &ours, "");
    assert_eq!(cross, format!("POST | - | {theirs} | cross-site"), "Lax stays behind");
    let see_other = with_query(&format!("{ours}/hop"), &[("status", "303"), ("to", "/")]);
    let after = post_to(&mut browser, &theirs, &see_other, "");
    assert_eq!(after, "GET | lax=1 | - | cross-site", "Lax comes with the GET after a 303");
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
    let hop = with_query(&format!("{ours}/hop"), &[("status", "302"), ("to", &theirs)]);
    let try_with = |csp: &str| {
        let mut browser = Browser::new();
        let form = browser.navigate(&with_query(&format!("{ours}/form"), &[("to", &hop), ("csp", csp)]));
        catch_unwind(AssertUnwindSafe(|| browser.submit(&form, "Go").status)).is_ok()
    };
    assert!(!try_with("default-src 'none'; form-action 'self'"));
    assert!(try_with(&format!("form-action 'self' {theirs}")));
    assert!(try_with("default-src 'none'"));
}

#[test]
fn a_browser_signs_in_without_a_code_in_its_history() {
    let entra = Entra::start();
    let app = StandIn::serve(|request: &Request| Reply::new(200, "text/plain", request.body.clone()));
    let redirect = format!("http://localhost:{}/auth/callback", app.addr().port());
    let mut browser = Browser::new();
    let link = authorize_url(&entra, &[("redirect_uri", &redirect)]);
    let fields = support::decode_pairs(browser.sign_in(&link, ADA).body.as_bytes());
    assert!(value_of(&fields, "code").is_some_and(|code| code.starts_with(entra::CODE_MARK)));
    assert!(!browser.history.iter().any(|url| url.contains(entra::CODE_MARK)));
    let fields = support::decode_pairs(browser.decline(&link).body.as_bytes());
    assert_eq!(value_of(&fields, "error"), Some("access_denied"));
    let link = authorize_url(&entra, &[("redirect_uri", &redirect), ("response_mode", "query")]);
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
        "/chunked" => Reply::new(200, "", "in chunks").with("Transfer-Encoding", "chunked").into(),
        "/events" => {
            let gate = script_gate.clone();
            Answer::script(move |stream| {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: hello\n\n")?;
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
    let kind = |target| Client::new(&server.url()).try_request("GET", target, &[], b"").unwrap_err().kind();
    assert_eq!(kind("/close"), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(kind("/reset"), std::io::ErrorKind::ConnectionReset);
    let (head, mut events) = client.open_stream("GET", "/events", &[], b"");
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.next(), Some(Event::Comment("hello".to_owned())), "before the gate opens");
    gate.open();
    assert_eq!(events.next_json(), Some(json!({ "a": 1 })));
    assert_eq!(events.next(), None);
    let received = http::raw(&server.addr(), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
    let entra = Entra::start();
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
    assert!(get("").header("WWW-Authenticate").unwrap().contains("insufficient_claims"));
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
    let patch = |etag: &str| send("PATCH", "/tasks/1", &[("If-Match", etag)], r#"{"done":true}"#);
    assert_eq!(patch(&etag).json(), json!({ "id": "1", "title": "a", "done": true }));
    assert_eq!(patch(&etag).status, 412, "the ETag is of yesterday");
    assert_eq!(send("DELETE", "/tasks/1", &[], "").status, 204);
    assert_eq!(get("/tasks/1").status, 404);

    assert_eq!(get("/large?bytes=70000&chunked=1").body.len(), 70_000);
    assert_eq!(get("/gzip").header("Content-Encoding"), Some("gzip"));
    assert_eq!(get("/status/429?retry_after=3").header("Retry-After"), Some("3"));
    assert_eq!(get("/redirect?to=https://evil.example/").header("Location"), Some("https://evil.example/"));
    assert!(!get("/echo").text().contains("any"), "the token is withheld");
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
