//! Signing in: what is sent to Entra, what is believed of its answers, and who may end a sign-in.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use crate::support::browser::{Browser, Cookie, Page, SameSite, TYPED};
use crate::support::entra::{
    self, ADA, EVE, Entra, GRACE, OTHER_TENANT_ID, Platform, TENANT_ID, TokenFailure, User,
};
use crate::support::http::{Answer, Client, EventReader, Reply, Request, StandIn};
use crate::support::server::{Process, Running, Setup};
use crate::support::{PATIENCE, base64url, decode_pairs, encode_pairs, escape_html, value_of};
use serde_json::{Value, json};
use url::Url;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
/// A little more than a sign-in may take.
const TOO_LATE: u64 = 601;

fn start() -> (Entra, Running) {
    start_with(|setup| setup)
}

fn start_with(change: impl FnOnce(Setup) -> Setup) -> (Entra, Running) {
    let entra = Entra::start();
    let server = change(Setup::new(&entra, None))
        .limits(|limits| limits.silence = Duration::from_millis(20))
        .start();
    (entra, server)
}

/// The link that a client shows to the person.
fn link(server: &Running, user_id: &str) -> String {
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": user_id}));
    begun["sign_in_url"].as_str().unwrap().to_owned()
}

/// The link of a person who starts in the browser.
fn login_url(server: &Running, user_id: &str) -> String {
    format!(
        "{}/auth/login?{}",
        server.url(),
        encode_pairs(&[("user_id", user_id)])
    )
}

fn sign_in(server: &Running, user_id: &str, username: &str) -> Page {
    Browser::new().sign_in(&link(server, user_id), username)
}

fn status(server: &Running, user_id: &str) -> Value {
    server
        .client()
        .get(&format!(
            "/auth/status?{}",
            encode_pairs(&[("user_id", user_id)])
        ))
        .json()
}

/// The account that is signed in as `user_id`.
fn who_is(server: &Running, user_id: &str) -> Option<String> {
    let status = status(server, user_id);
    let username = status["username"].as_str().map(str::to_owned);
    username.filter(|_| status["authenticated"] == true)
}

/// The accounts of the token file.
fn stored(server: &Running) -> Value {
    match std::fs::read(server.token_file()) {
        Ok(text) => serde_json::from_slice::<Value>(&text).unwrap()["accounts"].take(),
        Err(_) => json!([]),
    }
}

#[track_caller]
fn assert_signed_in(page: &Page) {
    assert!(
        page.status == 200 && page.text().contains("You are signed in"),
        "{} {}",
        page.status,
        page.text()
    );
}

/// The page says `why`, and nobody is signed in.
#[track_caller]
fn assert_refused(server: &Running, page: &Page, why: &str) {
    assert!(
        page.status == 400 && page.text().contains(why),
        "{why:?}: {} {}",
        page.status,
        page.text()
    );
    assert_eq!(stored(server), json!([]));
}

fn state(entra: &Entra) -> String {
    value_of(&entra.last_authorize(), "state")
        .unwrap()
        .to_owned()
}

/// Entra's page after the person has picked an account: it posts the answer.
fn answer_page(browser: &mut Browser, link: &str, username: &str) -> Page {
    let accounts = browser.navigate(link);
    browser.submit(&accounts, username)
}

/// The same page, but posting `fields`.
fn posting(answer: &Page, fields: &[(&str, &str)]) -> Page {
    let input = |(name, value): &(&str, &str)| {
        format!(
            "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
            escape_html(name),
            escape_html(value)
        )
    };
    let inputs: String = fields.iter().map(input).collect();
    let action = escape_html(&answer.form().action);
    let body = format!(
        "<form method=\"POST\" action=\"{action}\">{inputs}</form><script>document.forms[0].submit();</script>"
    );
    Page {
        body,
        ..answer.clone()
    }
}

/// The same page, with one more field.
fn also_posting(answer: &Page, name: &str, value: &str) -> Page {
    let fields = answer.form().fields;
    let mut fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    fields.push((name, value));
    posting(answer, &fields)
}

/// A page of another site.
fn foreign_page(url: &str) -> Page {
    Page {
        url: Url::parse(url).unwrap(),
        status: 200,
        headers: Vec::new(),
        body: String::new(),
    }
}

fn post_callback(server: &Running, headers: &[(&str, &str)], body: &str) -> Reply {
    server
        .client()
        .request("POST", "/auth/callback", headers, body.as_bytes())
}

fn location(reply: &Reply) -> String {
    reply
        .header("Location")
        .unwrap_or_else(|| panic!("{} has no Location", reply.status))
        .to_owned()
}

/// A sign-in as far as Entra's door, without a browser.
struct Sent {
    state: String,
    nonce: String,
    cookie: String,
}

impl Sent {
    fn begin(server: &Running, user_id: &str) -> Self {
        let login = format!("/auth/login?{}", encode_pairs(&[("user_id", user_id)]));
        let reply = server.client().request("GET", &login, &TYPED, b"");
        assert_eq!(reply.status, 302, "{}", reply.text());
        let url = Url::parse(&location(&reply)).unwrap();
        let query = decode_pairs(url.query().unwrap().as_bytes());
        let of = |name| value_of(&query, name).unwrap().to_owned();
        let cookie = reply
            .header("Set-Cookie")
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        Self {
            state: of("state"),
            nonce: of("nonce"),
            cookie,
        }
    }

    /// Posts an answer with a code; gives the way to the last page.
    fn answer(&self, server: &Running) -> String {
        let reply = post_callback(
            server,
            &[FORM],
            &format!("code=CODE-by-hand&state={}", self.state),
        );
        assert_eq!(reply.status, 303, "{}", reply.text());
        location(&reply)
    }

    fn complete(&self, server: &Running, target: &str) -> Reply {
        server
            .client()
            .request("GET", target, &[("Cookie", &self.cookie)], b"")
    }
}

/// Another port in front of a server, as of a container.
struct PortMapping {
    outside: StandIn,
    inside: Arc<OnceLock<String>>,
}

impl PortMapping {
    fn new() -> Self {
        let inside: Arc<OnceLock<String>> = Arc::default();
        let target = Arc::clone(&inside);
        let relay = move |request: &Request| {
            let headers: Vec<(&str, &str)> = request
                .headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            let mut client = Client::new(target.get().expect("the server has started"));
            client.request(&request.method, &request.target, &headers, &request.body)
        };
        Self {
            outside: StandIn::serve(relay),
            inside,
        }
    }

    fn port(&self) -> u16 {
        self.outside.addr().port()
    }

    fn lead_to(&self, server: &Running) {
        self.inside.set(server.url()).unwrap();
    }
}

// ---- What Entra is sent ----

#[test]
fn the_authorization_request_carries_pkce_state_nonce_and_the_configured_scopes() {
    let (entra, server) = start();
    assert_signed_in(&sign_in(&server, "work", ADA));
    let asked = entra.last_authorize();
    let redirect_uri = format!("{}/auth/callback", server.url());
    for (name, value) in [
        ("client_id", entra::CLIENT_ID),
        ("response_type", "code"),
        ("response_mode", "form_post"),
        ("redirect_uri", redirect_uri.as_str()),
        (
            "scope",
            "openid profile offline_access api://backend/access",
        ),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(value_of(&asked, name), Some(value), "{name}");
    }
    // 256 random bits each, base64url.
    let random = ["state", "nonce", "code_challenge"].map(|name| value_of(&asked, name).unwrap());
    assert!(random.iter().all(|value| value.len() == 43), "{random:?}");
    assert_eq!(BTreeSet::from(random).len(), 3);

    let redeemed = entra.last_token_request();
    let names: BTreeSet<&str> = redeemed.iter().map(|(name, _)| name.as_str()).collect();
    let due = [
        "claims",
        "client_id",
        "code",
        "code_verifier",
        "grant_type",
        "redirect_uri",
        "scope",
    ];
    assert_eq!(
        names,
        BTreeSet::from(due),
        "a public client sends no secret"
    );
    assert_eq!(
        value_of(&redeemed, "redirect_uri"),
        Some(redirect_uri.as_str())
    );
    let verifier = value_of(&redeemed, "code_verifier").unwrap();
    assert_eq!(
        entra::s256(verifier),
        value_of(&asked, "code_challenge").unwrap()
    );
}

#[test]
fn no_two_sign_ins_share_a_state_a_nonce_or_a_challenge() {
    let (entra, server) = start();
    for _ in 0..3 {
        Browser::new().navigate(&link(&server, "work"));
    }
    let requests = entra.authorize_requests();
    for name in ["state", "nonce", "code_challenge"] {
        let values: BTreeSet<_> = requests
            .iter()
            .map(|request| value_of(request, name))
            .collect();
        assert_eq!(values.len(), requests.len(), "{name}");
    }
}

#[test]
fn an_address_is_hinted_and_a_label_lets_the_person_choose() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    browser.navigate(&link(&server, GRACE));
    assert_eq!(value_of(&entra.last_authorize(), "login_hint"), Some(GRACE));
    assert_eq!(value_of(&entra.last_authorize(), "prompt"), None);
    browser.navigate(&link(&server, "work"));
    assert_eq!(value_of(&entra.last_authorize(), "login_hint"), None);
    assert_eq!(
        value_of(&entra.last_authorize(), "prompt"),
        Some("select_account")
    );
}

#[test]
fn the_link_is_ours_and_says_nothing_of_the_request() {
    let (entra, server) = start();
    let link = link(&server, ADA);
    let ticket = link
        .strip_prefix(&format!("{}/auth/login?ticket=", server.url()))
        .unwrap();
    assert!(
        ticket.len() == 43
            && ticket
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
        "{link}"
    );
    Browser::new().navigate(&link);
    for name in ["state", "nonce", "code_challenge"] {
        assert_ne!(value_of(&entra.last_authorize(), name), Some(ticket));
    }
}

#[test]
fn the_cookie_is_for_this_sign_in_alone_and_out_of_reach_of_scripts_and_other_sites() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let accounts = browser.navigate(&link(&server, ADA));
    let [cookie] = browser.cookies.as_slice() else {
        panic!("{:?}", browser.cookies)
    };
    assert_eq!((cookie.http_only, cookie.same_site), (true, SameSite::Lax));
    assert_eq!(
        (cookie.host.as_str(), cookie.path.as_str()),
        ("localhost", "/auth")
    );
    assert_eq!(cookie.value.len(), 43, "256 random bits");
    assert!(!accounts.url.as_str().contains(&cookie.value));
    browser.navigate(&link(&server, ADA));
    assert_eq!(browser.cookies.len(), 2, "each sign-in has its own");
}

#[test]
fn behind_https_the_cookie_is_secure() {
    let (_entra, server) =
        start_with(|setup| setup.with("REDIRECT_URI", "https://mcp.contoso.example/auth/callback"));
    let public = "https://mcp.contoso.example";
    let mut browser = Browser {
        proxies: vec![(public.to_owned(), server.address())],
        ..Browser::default()
    };
    // As far as Entra's door.
    let page = browser.navigate(&format!("{public}/auth/login"));
    browser.follow(&page, &page.confirmation().unwrap());
    assert_eq!(browser.cookies.len(), 2, "{:?}", browser.cookies);
    for cookie in &browser.cookies {
        assert!(cookie.secure, "{cookie:?}");
    }
}

// ---- How the answer comes back ----

#[test]
fn the_code_never_stands_in_an_address() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    assert_signed_in(&browser.sign_in(&link(&server, ADA), ADA));
    let code = value_of(&entra.last_token_request(), "code")
        .unwrap()
        .to_owned();
    for secret in [code.as_str(), "code="] {
        assert!(
            browser.history.iter().all(|url| !url.contains(secret)),
            "{:?}",
            browser.history
        );
    }
    // The last page's address is good in this browser only: it can be shown, kept and reloaded.
    let last = browser.history.last().unwrap();
    assert!(
        last.contains("/auth/complete?") && !last.contains(&state(&entra)),
        "{last}"
    );
}

#[test]
fn an_answer_with_the_origin_null_is_taken() {
    let (entra, server) = start();
    entra.set(|settings| settings.opaque_origin = true);
    assert_signed_in(&sign_in(&server, ADA, ADA));
}

/// Login CSRF (RFC 6749 §10.12, RFC 9700 §4.7): an attacker lets the victim's browser deliver the
/// answer to the attacker's own sign-in.
#[test]
fn an_answer_that_another_browser_delivers_signs_nobody_in() {
    let (entra, server) = start();
    let mut attacker = Browser::new();
    let answer = answer_page(&mut attacker, &link(&server, "work"), GRACE);
    let forged = Cookie {
        value: "A".repeat(43),
        ..attacker.cookies[0].clone()
    };
    let mut busy = Browser::new();
    busy.navigate(&link(&server, "work"));
    let with_forged_cookie = Browser {
        cookies: vec![forged],
        ..Browser::default()
    };
    for mut victim in [Browser::new(), busy, with_forged_cookie] {
        let answer = answer_page(&mut attacker, &link(&server, "work"), GRACE);
        let page = victim.auto_submit(&answer);
        assert_refused(&server, &page, "another browser");
    }
    // Nor does the address of the last page help.
    attacker.auto_submit(&answer);
    let last = attacker.history.last().unwrap().clone();
    assert_eq!(entra.redemptions(), 1);
    assert_eq!(Browser::new().navigate(&last).status, 400);
    assert_eq!(entra.redemptions(), 1);
}

#[test]
fn a_browser_that_keeps_no_cookies_is_told_so() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    browser.cookies.clear();
    assert_refused(&server, &browser.auto_submit(&answer), "cookies");
    assert_eq!(entra.redemptions(), 0);
}

#[test]
fn a_code_in_an_address_is_never_redeemed_and_nothing_of_it_is_shown() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    let state = state(&entra);
    for query in [
        answer.form().fields,
        vec![
            ("code".to_owned(), "<script>a</script>".to_owned()),
            ("state".to_owned(), state.clone()),
        ],
        vec![
            ("error".to_owned(), "<script>a</script>".to_owned()),
            (
                "error_description".to_owned(),
                "<script>a</script>".to_owned(),
            ),
            ("state".to_owned(), "unknown".to_owned()),
        ],
    ] {
        let url = format!("{}/auth/callback?{}", server.url(), encode_pairs(&query));
        let page = browser.navigate(&url);
        assert_refused(&server, &page, "Start the sign-in again");
        for (_, value) in query {
            assert!(
                !page.body.contains(&value) && !page.body.contains(&escape_html(&value)),
                "{value}"
            );
        }
    }
    assert!(entra.token_requests().is_empty());
    // Whoever has changed the request gets nothing by another answer either.
    let page = browser.auto_submit(&answer);
    assert_refused(&server, &page, "belongs to no sign-in");
    assert_eq!(who_is(&server, ADA), None);
}

#[test]
fn the_query_mode_takes_a_get_and_only_that() {
    let (entra, server) = start_with(|setup| setup.with("AUTH_RESPONSE_MODE", "query"));
    let mut browser = Browser::new();
    let page = browser.sign_in(&link(&server, ADA), ADA);
    assert_signed_in(&page);
    assert!(!page.url.as_str().contains("code="), "{}", page.url);
    assert_eq!(
        value_of(&entra.last_authorize(), "response_mode"),
        Some("query")
    );

    // The address in the history is worth nothing any more.
    let with_code = browser
        .history
        .iter()
        .find(|url| url.contains("code="))
        .unwrap()
        .clone();
    assert_eq!(browser.navigate(&with_code).status, 400);
    let body = with_code.split_once('?').unwrap().1;
    assert_eq!(post_callback(&server, &[FORM], body).status, 405);
    assert_eq!(entra.token_requests().len(), 1);
    assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
}

#[test]
fn in_the_query_mode_too_another_browser_signs_nobody_in() {
    let (entra, server) = start_with(|setup| setup.with("AUTH_RESPONSE_MODE", "query"));
    let sent = Sent::begin(&server, "work");
    let callback = format!(
        "{}/auth/callback?code=CODE-attackers&state={}",
        server.url(),
        sent.state
    );
    let page = Browser::new().navigate(&callback);
    assert_refused(&server, &page, "another browser");
    // That was its end, in its own browser, too.
    let reply = server
        .client()
        .request("GET", &callback, &[("Cookie", &sent.cookie)], b"");
    assert_eq!((reply.status, reply.header("Location")), (400, None));
    assert!(entra.token_requests().is_empty());
}

#[test]
fn what_is_no_answer_of_entra_is_refused() {
    let (entra, server) = start();
    let sent = Sent::begin(&server, "work");
    let state = &sent.state;
    for (content_type, body) in [
        (FORM.1, String::new()),
        (FORM.1, "code=c".to_owned()),
        (FORM.1, "code=c&state=".to_owned()),
        (FORM.1, "code=c&state=unknown".to_owned()),
        (FORM.1, format!("code=c&state={}", base64url(&[0; 32]))),
        (FORM.1, format!("state={state}")),
        (FORM.1, format!("code=&state={state}")),
        (FORM.1, format!("code=c&error=access_denied&state={state}")),
        (FORM.1, format!("code=c&code=d&state={state}")),
        (FORM.1, format!("code=c&state={state}&state={state}")),
        (FORM.1, format!("code=c&state={}", &state[..42])),
        (FORM.1, format!("code=c&state={state}A")),
        (
            "application/json",
            format!("{{\"code\":\"c\",\"state\":\"{state}\"}}"),
        ),
        ("text/plain", format!("code=c&state={state}")),
        (
            "multipart/form-data; boundary=x",
            format!("code=c&state={state}"),
        ),
    ] {
        let reply = post_callback(&server, &[("Content-Type", content_type)], &body);
        assert_eq!(reply.status, 400, "{content_type} {body}: {}", reply.text());
        assert!(reply.header("Location").is_none());
    }
    assert!(entra.token_requests().is_empty());
    // None of them has used the state up.
    sent.answer(&server);
}

#[test]
fn a_state_is_good_for_one_answer() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    let accounts = browser.navigate(&link(&server, ADA));
    let first = browser.submit(&accounts, ADA);
    let again = browser.submit(&accounts, ADA);
    assert_ne!(
        first.form().fields,
        again.form().fields,
        "another code, the same state"
    );
    assert_signed_in(&browser.auto_submit(&first));
    for replayed in [&first, &again] {
        let page = browser.auto_submit(replayed);
        assert!(
            page.status == 400 && page.text().contains("used already"),
            "{}",
            page.text()
        );
    }
    assert_eq!((entra.token_requests().len(), entra.redemptions()), (1, 1));
    assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
}

#[test]
fn the_last_page_can_be_reloaded_and_redeems_nothing() {
    let (entra, server) = start();
    for (username, code) in [(ADA, 200), (GRACE, 400)] {
        let mut browser = Browser::new();
        let page = browser.sign_in(&link(&server, ADA), username);
        assert_eq!(page.status, code);
        let again = browser.navigate(page.url.as_str());
        assert_eq!((again.status, &again.body), (code, &page.body));
        // Nor does the outcome show in another browser.
        let elsewhere = Browser::new().navigate(page.url.as_str());
        assert!(
            elsewhere.status == 400 && !elsewhere.body.contains(username),
            "{}",
            elsewhere.body
        );
        server.modern().call("logout_user", json!({"user_id": ADA}));
    }
    assert_eq!(entra.token_requests().len(), 2);
}

#[test]
fn a_page_that_is_loaded_twice_at_once_redeems_once() {
    let (entra, server) = start();
    let sent = Sent::begin(&server, "work");
    let hold = entra.hold_tokens();
    entra.fail_tokens(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 70008,
        suberror: None,
        claims: None,
    });
    let target = sent.answer(&server);
    thread::scope(|scope| {
        let first = scope.spawn(|| sent.complete(&server, &target));
        hold.wait_for_arrivals(1);
        let second = sent.complete(&server, &target);
        assert!(
            second.text().contains("being completed"),
            "{}",
            second.text()
        );
        drop(hold);
        let first = first.join().unwrap();
        assert!(first.text().contains("AADSTS70008"), "{}", first.text());
        assert_eq!(sent.complete(&server, &target).text(), first.text());
    });
    assert_eq!(entra.token_requests().len(), 1);
}

// ---- The ID token ----

#[test]
fn an_id_token_that_does_not_fit_the_sign_in_stores_nothing() {
    type Tamper = fn(&mut Value);
    let cases: &[(&str, Tamper)] = &[
        ("aud", |claims| {
            claims["aud"] = json!("00000000-0000-0000-0000-000000000000");
        }),
        ("aud", |claims| claims["aud"] = json!([entra::CLIENT_ID])),
        ("aud", |claims| {
            claims["aud"] = json!(entra::CLIENT_ID.to_uppercase());
        }),
        ("aud", |claims| {
            drop(claims.as_object_mut().unwrap().remove("aud"));
        }),
        ("nonce", |claims| {
            claims["nonce"] = json!("of-another-sign-in");
        }),
        ("nonce", |claims| claims["nonce"] = json!("")),
        ("nonce", |claims| {
            drop(claims.as_object_mut().unwrap().remove("nonce"));
        }),
        ("iss", |claims| {
            claims["iss"] = json!(format!("https://evil.example/{TENANT_ID}/v2.0"));
        }),
        ("iss", |claims| {
            claims["iss"] = json!(
                claims["iss"]
                    .as_str()
                    .unwrap()
                    .replace(TENANT_ID, OTHER_TENANT_ID)
            );
        }),
        ("iss", |claims| {
            claims["iss"] = json!(claims["iss"].as_str().unwrap().trim_end_matches("/v2.0"));
        }),
        ("iss", |claims| {
            drop(claims.as_object_mut().unwrap().remove("iss"));
        }),
        ("tid", |claims| claims["tid"] = json!(OTHER_TENANT_ID)),
        ("tid", |claims| {
            claims["tid"] = json!(OTHER_TENANT_ID);
            claims["iss"] = json!(
                claims["iss"]
                    .as_str()
                    .unwrap()
                    .replace(TENANT_ID, OTHER_TENANT_ID)
            );
        }),
        ("tid", |claims| {
            drop(claims.as_object_mut().unwrap().remove("tid"));
        }),
        ("ver", |claims| claims["ver"] = json!("1.0")),
        ("ver", |claims| claims["ver"] = json!(2.0)),
        ("ver", |claims| {
            drop(claims.as_object_mut().unwrap().remove("ver"));
        }),
        ("oid", |claims| claims["oid"] = json!("")),
        ("oid", |claims| claims["oid"] = json!(7)),
        ("oid", |claims| {
            drop(claims.as_object_mut().unwrap().remove("oid"));
        }),
    ];
    let (entra, server) = start();
    for (number, (claim, tamper)) in cases.iter().enumerate() {
        entra.id_token_tamper(tamper);
        let page = sign_in(&server, "work", ADA);
        assert!(
            page.text().contains("Nothing was stored"),
            "{number} {claim}: {}",
            page.text()
        );
        assert_refused(&server, &page, "");
        assert_eq!(who_is(&server, "work"), None);
    }
    assert_eq!(entra.redemptions(), cases.len());
    entra.heal();
    assert_signed_in(&sign_in(&server, "work", ADA));
}

#[test]
fn an_id_token_that_does_not_fit_leaves_the_account_that_is_signed_in() {
    let (entra, server) = start();
    assert_signed_in(&sign_in(&server, "work", ADA));
    let before = stored(&server);
    entra.id_token_tamper(|claims| claims["nonce"] = json!("of-another-sign-in"));
    assert_eq!(
        Browser::new()
            .sign_in(&login_url(&server, "work"), GRACE)
            .status,
        400
    );
    assert_eq!(stored(&server), before);
}

#[test]
fn a_clock_that_is_off_is_no_reason_to_refuse() {
    let (entra, server) = start();
    entra.id_token_tamper(|claims| {
        for claim in ["exp", "nbf", "iat"] {
            claims[claim] = json!(claims[claim].as_i64().unwrap() - 86_400);
        }
    });
    assert_signed_in(&sign_in(&server, ADA, ADA));
}

#[test]
fn a_token_response_that_is_none_stores_nothing() {
    let (_entra, server, responses) = by_hand();
    let claims = |sent: &Sent| {
        let iss = format!("{}/{TENANT_ID}/v2.0", responses.url());
        let claims = json!({"aud": entra::CLIENT_ID, "iss": iss, "tid": TENANT_ID, "oid": entra::ADA_OID, "ver": "2.0",
                            "nonce": sent.nonce, "preferred_username": ADA});
        base64url(claims.to_string().as_bytes())
    };
    let whole = |sent: &Sent| {
        json!({"token_type": "Bearer", "expires_in": 3600, "access_token": "AT-1", "refresh_token": "RT-1",
               "id_token": format!("e30.{}.c2ln", claims(sent))})
    };
    let cases: &[fn(&mut Value, &str)] = &[
        |body, _| drop(body.as_object_mut().unwrap().remove("id_token")),
        |body, _| body["id_token"] = json!(""),
        |body, _| body["id_token"] = json!({"aud": entra::CLIENT_ID}),
        |body, claims| body["id_token"] = json!(claims),
        |body, claims| body["id_token"] = json!(format!("e30.{claims}")),
        |body, claims| body["id_token"] = json!(format!("e30.{claims}.c2ln.more")),
        |body, claims| body["id_token"] = json!(format!("e30.{claims}=.c2ln")),
        |body, _| body["id_token"] = json!("e30.bm8ganNvbg.c2ln"),
        |body, _| drop(body.as_object_mut().unwrap().remove("access_token")),
        |body, _| body["access_token"] = json!(""),
        |body, _| body["access_token"] = json!("AT-1\r\nX-Injected: 1"),
        |body, _| body["token_type"] = json!("mac"),
        |body, _| drop(body.as_object_mut().unwrap().remove("token_type")),
        |body, _| body["expires_in"] = json!(-1),
        |body, _| drop(body.as_object_mut().unwrap().remove("expires_in")),
        |body, _| *body = json!([]),
    ];
    for (number, change) in cases.iter().enumerate() {
        let sent = Sent::begin(&server, "work");
        let mut body = whole(&sent);
        change(&mut body, &claims(&sent));
        responses.next(Reply::of_json(200, &body));
        let page = sent.complete(&server, &sent.answer(&server));
        assert_eq!(page.status, 400, "{number}: {}", page.text());
        assert_eq!(stored(&server), json!([]), "{number}");
        assert!(
            !page.text().contains("AT-1") && !page.text().contains("RT-1"),
            "{}",
            page.text()
        );
    }
    let sent = Sent::begin(&server, "work");
    responses.next(Reply::of_json(200, &whole(&sent)));
    assert_eq!(sent.complete(&server, &sent.answer(&server)).status, 200);
    assert_eq!(who_is(&server, "work").as_deref(), Some(ADA));
}

#[test]
fn a_redirect_of_the_token_endpoint_is_not_followed() {
    let (_entra, server, responses) = by_hand();
    let sent = Sent::begin(&server, "work");
    let elsewhere = StandIn::serve(|_| -> Reply { panic!("the code was sent elsewhere") });
    responses.next(Reply::empty(307).with("Location", &elsewhere.url()));
    assert_eq!(sent.complete(&server, &sent.answer(&server)).status, 400);
    assert_eq!(stored(&server), json!([]));
}

/// A token endpoint that answers what the test wants.
struct Responses {
    server: StandIn,
    next: Arc<Mutex<Option<Reply>>>,
}

impl Responses {
    fn url(&self) -> String {
        self.server.url()
    }

    fn next(&self, reply: Reply) {
        *crate::support::lock(&self.next) = Some(reply);
    }
}

fn by_hand() -> (Entra, Running, Responses) {
    let next: Arc<Mutex<Option<Reply>>> = Arc::default();
    let replies = Arc::clone(&next);
    let server = StandIn::serve(move |_| {
        crate::support::lock(&replies)
            .take()
            .map_or(Answer::Close, Answer::Reply)
    });
    let responses = Responses { server, next };
    let (entra, server) = start_with(|setup| setup.with("AZURE_AUTHORITY_HOST", &responses.url()));
    (entra, server, responses)
}

// ---- Which account ----

#[test]
fn somebody_else_than_the_address_says_is_not_stored() {
    let (entra, server) = start();
    let page = sign_in(&server, ADA, GRACE);
    assert_refused(
        &server,
        &page,
        &format!("You signed in as {GRACE}, not as {ADA}"),
    );
    assert_eq!(entra.redemptions(), 1);
    let status = status(&server, ADA);
    assert_eq!(
        (&status["authenticated"], &status["has_token"]),
        (&json!(false), &json!(false))
    );
    assert!(
        status["last_sign_in_error"]
            .as_str()
            .unwrap()
            .contains(GRACE),
        "{status}"
    );
    assert_signed_in(&sign_in(&server, ADA, ADA));
}

#[test]
fn an_address_is_compared_without_regard_to_case() {
    let (_entra, server) = start();
    let shouted = "ADA@Contoso.Example";
    assert_signed_in(&sign_in(&server, shouted, ADA));
    assert_eq!(who_is(&server, shouted).as_deref(), Some(ADA));
}

#[test]
fn an_address_may_be_another_one_of_the_same_person() {
    let (entra, server) = start();
    let mail = "augusta.king@contoso.example";
    for claim in ["email", "upn"] {
        entra.id_token_tamper(move |claims| claims[claim] = json!(mail));
        assert_signed_in(&sign_in(&server, mail, ADA));
        assert_eq!(who_is(&server, mail).as_deref(), Some(ADA), "{claim}");
        server.modern().ok("logout_user", json!({"user_id": mail}));
    }
}

#[test]
fn a_label_takes_whoever_signs_in() {
    let (_entra, server) = start();
    let page = sign_in(&server, "work", GRACE);
    assert_signed_in(&page);
    assert!(
        page.text().contains(&format!(
            "{GRACE} is signed in. Clients call this account work."
        )),
        "{}",
        page.text()
    );
    assert_eq!(who_is(&server, "work").as_deref(), Some(GRACE));
}

#[test]
fn accounts_under_other_names_are_left_alone() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    for user_id in [ADA, GRACE] {
        assert_signed_in(&browser.sign_in(&link(&server, user_id), user_id));
    }
    assert_eq!(
        [ADA, GRACE].map(|user_id| who_is(&server, user_id).unwrap()),
        [ADA, GRACE]
    );
}

#[test]
fn another_account_under_the_same_name_replaces_the_first_and_the_page_says_so() {
    let (_entra, server) = start();
    assert_signed_in(&sign_in(&server, "work", ADA));
    let first = stored(&server)[0].clone();
    let page = Browser::new().sign_in(&login_url(&server, "work"), GRACE);
    assert_signed_in(&page);
    assert!(
        page.text()
            .contains(&format!("{ADA} that had this name before is signed out")),
        "{}",
        page.text()
    );
    assert_eq!(who_is(&server, "work").as_deref(), Some(GRACE));
    let file = std::fs::read_to_string(server.token_file()).unwrap();
    for token in ["access_token", "refresh_token"] {
        assert!(!file.contains(first[token].as_str().unwrap()), "{file}");
    }
    // The same account again replaces its tokens and says nothing.
    let page = Browser::new().sign_in(&login_url(&server, "work"), GRACE);
    assert!(!page.text().contains("signed out"), "{}", page.text());
}

#[test]
fn in_several_tenants_each_person_has_their_own_issuer() {
    let (entra, server) = start_with(|setup| setup.with("AZURE_TENANT_ID", "organizations"));
    for (user_id, tid) in [(ADA, TENANT_ID), (EVE, OTHER_TENANT_ID)] {
        assert_signed_in(&sign_in(&server, user_id, user_id));
        assert_eq!(status(&server, user_id)["tenant_id"], tid);
    }
    entra.id_token_tamper(|claims| claims["tid"] = json!(TENANT_ID));
    assert_eq!(
        sign_in(&server, "work", EVE).status,
        400,
        "tid and iss must agree"
    );
    assert_eq!(who_is(&server, "work"), None);
}

#[test]
fn a_name_that_can_be_none_is_refused() {
    let (entra, server) = start();
    for user_id in ["", " ", "a\u{0}b", "a\nb", &"x".repeat(257)] {
        let page = Browser::new().navigate(&login_url(&server, user_id));
        assert_eq!(page.status, 400, "{user_id:?}");
        server
            .modern()
            .fails("authenticate_user", json!({"user_id": user_id}));
    }
    assert!(entra.authorize_requests().is_empty());
    assert_signed_in(&sign_in(&server, &"é".repeat(256), ADA));
}

#[test]
fn who_is_signed_in_already_is_told_so() {
    let (_entra, server) = start();
    assert_signed_in(&sign_in(&server, ADA, ADA));
    let again = server
        .modern()
        .ok("authenticate_user", json!({"user_id": ADA}));
    assert_eq!(
        (&again["already_signed_in"], &again["authenticated"]),
        (&json!(true), &json!(true))
    );
    assert!(again.get("sign_in_url").is_none());
}

// ---- Where it begins ----

#[test]
fn a_person_can_start_in_the_browser() {
    let (_entra, server) = start();
    assert_signed_in(&Browser::new().sign_in(&login_url(&server, ADA), ADA));
    assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
    assert_signed_in(&Browser::new().sign_in(&format!("{}/auth/login", server.url()), GRACE));
    assert_eq!(who_is(&server, "default").as_deref(), Some(GRACE));
}

#[test]
fn a_sign_in_that_begins_under_another_loopback_name_ends_well() {
    let (_entra, server) = start();
    let port = server.server.port();
    for link in [login_url(&server, ADA), link(&server, ADA)] {
        let mut browser = Browser::new();
        let elsewhere = link.replace("localhost", "127.0.0.1");
        assert_signed_in(&browser.sign_in(&elsewhere, ADA));
        assert!(
            browser
                .cookies
                .iter()
                .all(|cookie| cookie.host == "localhost"),
            "{:?}",
            browser.cookies
        );
    }
    let host = format!("[::1]:{port}");
    let reply =
        server
            .client()
            .request("GET", "/auth/login?user_id=a%26b", &[("Host", &host)], b"");
    assert_eq!(
        (reply.status, location(&reply)),
        (
            302,
            format!("http://localhost:{port}/auth/login?user_id=a%26b")
        )
    );
}

#[test]
fn a_sign_in_that_another_site_leads_to_waits_for_a_click() {
    let (entra, server) = start();
    let url = login_url(&server, ADA);
    for origin in [
        "https://evil.example/",
        "http://localhost:1/",
        "http://127.0.0.1:1/",
    ] {
        let mut browser = Browser::new();
        let page = browser.follow(&foreign_page(origin), &url);
        assert!(
            page.text().contains(ADA) && page.text().contains("Go on only if it was you"),
            "{}",
            page.text()
        );
        assert_eq!(browser.cookies.len(), 1, "that of the button");
    }
    assert!(entra.authorize_requests().is_empty(), "nothing has begun");
    assert_eq!(status(&server, ADA)["pending_sign_in"], false);

    let mut browser = Browser::new();
    let page = browser.follow(&foreign_page("https://evil.example/"), &url);
    let (href, _) = page
        .links()
        .into_iter()
        .find(|(_, text)| text == "Sign in")
        .unwrap();
    let accounts = browser.follow(&page, &href);
    let answer = browser.submit(&accounts, ADA);
    assert_signed_in(&browser.auto_submit(&answer));
}

// CASES C3
#[test]
fn a_link_opens_anew_until_entra_has_answered_and_the_newest_browser_holds_it() {
    let (entra, server) = start();
    let link = link(&server, ADA);
    let mut other = Browser::new();
    let superseded = answer_page(&mut other, &link, ADA);
    let mut browser = Browser::new();
    browser.navigate(&link); // and the person closes the page
    let page = other.auto_submit(&superseded);
    assert_refused(&server, &page, "belongs to no sign-in that is under way");
    assert_signed_in(&browser.sign_in(&link, ADA));
    assert_eq!(entra.authorize_requests().len(), 3);
    let page = browser.navigate(&link);
    assert!(
        page.status == 400 && page.text().contains("used already"),
        "{}",
        page.text()
    );
}

#[test]
fn a_person_who_gives_up_can_start_again_from_a_new_link() {
    let (_entra, server) = start();
    let mut browser = Browser::new();
    let abandoned = answer_page(&mut browser, &link(&server, ADA), ADA);
    assert_signed_in(&browser.sign_in(&link(&server, ADA), ADA));
    assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
    // The page that was left open still works.
    assert_signed_in(&browser.auto_submit(&abandoned));
}

#[test]
fn two_sign_ins_of_one_user_do_not_disturb_each_other() {
    let (entra, server) = start();
    let (mut one, mut other) = (Browser::new(), Browser::new());
    let first = answer_page(&mut one, &link(&server, "work"), ADA);
    let second = answer_page(&mut other, &link(&server, "work"), GRACE);
    assert_signed_in(&other.auto_submit(&second));
    assert_signed_in(&one.auto_submit(&first));
    assert_eq!(
        who_is(&server, "work").as_deref(),
        Some(ADA),
        "the later one counts"
    );

    // In two tabs of one browser, too.
    let mut tabs = Browser::new();
    server
        .modern()
        .ok("logout_user", json!({"user_id": "work"}));
    let first = answer_page(&mut tabs, &login_url(&server, ADA), ADA);
    let second = answer_page(&mut tabs, &login_url(&server, GRACE), GRACE);
    assert_signed_in(&tabs.auto_submit(&first));
    assert_signed_in(&tabs.auto_submit(&second));
    assert_eq!(
        [ADA, GRACE].map(|user_id| who_is(&server, user_id).unwrap()),
        [ADA, GRACE]
    );
    assert_eq!(entra.redemptions(), 4);
}

// ---- When it is over ----

#[test]
fn a_sign_in_takes_ten_minutes_at_most() {
    let (entra, server) = start();
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": ADA}));
    let seconds = begun["link_expires_in_seconds"].as_u64().unwrap();
    assert!((590..=600).contains(&seconds), "{begun}");
    let mut browser = Browser::new();

    let expired = link(&server, ADA);
    server.clock.advance(TOO_LATE);
    assert_refused(&server, &browser.navigate(&expired), "expired");
    assert!(entra.authorize_requests().is_empty());

    let late = answer_page(&mut browser, &link(&server, ADA), ADA);
    server.clock.advance(TOO_LATE);
    assert_refused(&server, &browser.auto_submit(&late), "expired");

    let sent = Sent::begin(&server, ADA);
    let target = sent.answer(&server);
    server.clock.advance(TOO_LATE);
    let reply = sent.complete(&server, &target);
    assert!(
        reply.status == 400 && reply.text().contains("expired"),
        "{}",
        reply.text()
    );

    let in_time = link(&server, ADA);
    server.clock.advance(500);
    assert_eq!(browser.navigate(&in_time).status, 200);
    assert!(entra.token_requests().is_empty());
}

/// Whoever looks at the pending sign-ins meanwhile takes it for nothing that has run out.
#[test]
fn an_answer_that_has_come_in_time_is_redeemed_though_entra_takes_longer() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    let held = entra.hold_tokens();
    thread::scope(|scope| {
        let page = scope.spawn(|| browser.auto_submit(&answer));
        held.wait_for_arrivals(1);
        server.clock.advance(TOO_LATE);
        server
            .modern()
            .ok("check_auth_status", json!({"user_id": ADA}));
        server.clock.set_back(TOO_LATE);
        drop(held);
        let page = page.join().unwrap();
        assert_eq!(page.status, 200, "{}", page.text());
    });
    assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
}

#[test]
fn at_the_very_second_at_which_its_time_is_over_a_sign_in_is_over_for_all() {
    let (entra, server) = start_with(Setup::by_the_second);
    let in_time = link(&server, ADA);
    server.clock.advance(599);
    assert_eq!(Browser::new().navigate(&in_time).status, 200);
    let expired = link(&server, ADA);
    let waiting = wait_for(&server, Some(ADA));
    server.clock.advance(600);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(result(waiting)));
    let status = ended
        .recv_timeout(PATIENCE)
        .expect("nobody waits until the client has had enough");
    assert_eq!(status["pending_sign_in"], false);
    assert_refused(&server, &Browser::new().navigate(&expired), "expired");
    assert_eq!(entra.authorize_requests().len(), 1);
}

#[test]
fn a_link_is_shown_again_while_it_has_more_than_half_its_life_to_come() {
    let (_entra, server) = start_with(Setup::by_the_second);
    let first = link(&server, ADA);
    server.clock.advance(299);
    assert_eq!(link(&server, ADA), first);
    server.clock.advance(1);
    assert_ne!(link(&server, ADA), first);
}

#[test]
fn of_too_many_sign_ins_the_oldest_gives_way() {
    let (_entra, server) = start();
    let links: Vec<String> = (0..65)
        .map(|number| link(&server, &format!("user-{number}")))
        .collect();
    let gone = Browser::new().navigate(&links[0]);
    assert_refused(&server, &gone, "unknown or has expired");
    for (kept, person) in [(&links[1], ADA), (&links[64], GRACE)] {
        assert_signed_in(&Browser::new().sign_in(kept, person));
    }
}

#[test]
fn the_log_says_whose_sign_in_gave_way() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("LOG_LEVEL", "warn");
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let begin = |number: usize| {
        server.modern().ok(
            "authenticate_user",
            json!({"user_id": format!("user-{number}")}),
        )
    };
    (0..64).for_each(|number| drop(begin(number)));
    assert!(!server.log().contains("gives way"), "{}", server.log());
    begin(64);
    assert!(
        server
            .log()
            .contains("64 sign-ins are under way; that of user-0 gives way"),
        "{}",
        server.log()
    );
}

#[test]
fn signing_out_ends_the_sign_ins_of_the_same_name() {
    let (_entra, server) = start();
    assert_signed_in(&sign_in(&server, ADA, ADA));
    let mut browser = Browser::new();
    let late = answer_page(&mut browser, &login_url(&server, ADA), ADA);
    server.modern().ok("logout_user", json!({"user_id": ADA}));
    assert_refused(&server, &browser.auto_submit(&late), "");
}

// ---- When Entra refuses ----

#[test]
fn a_person_who_declines_is_told_what_that_means() {
    let (entra, server) = start();
    let page = Browser::new().decline(&link(&server, ADA));
    assert_refused(&server, &page, "AADSTS65004");
    assert!(
        page.text().contains("Sign in again and accept"),
        "{}",
        page.text()
    );
    assert!(entra.token_requests().is_empty());
    let status = status(&server, ADA);
    assert!(
        status["last_sign_in_error"]
            .as_str()
            .unwrap()
            .contains("AADSTS65004"),
        "{status}"
    );
    assert_eq!(status["pending_sign_in"], false);
}

#[test]
fn errors_on_the_callback_come_with_what_to_do() {
    let (entra, server) = start();
    let admin_consent = format!("adminconsent?client_id={}", entra::CLIENT_ID);
    for (error, number, hint) in [
        ("access_denied", 65004, "accept"),
        ("access_denied", 90094, admin_consent.as_str()),
        ("access_denied", 50105, entra::CLIENT_ID),
        ("access_denied", 53003, "Conditional Access"),
        ("consent_required", 65001, admin_consent.as_str()),
        ("interaction_required", 50076, "MFA"),
        ("login_required", 50058, "Sign in again"),
        ("invalid_request", 50194, "AZURE_TENANT_ID"),
        ("invalid_resource", 500_011, "CUSTOM_API_SCOPE"),
        ("invalid_scope", 70011, "CUSTOM_API_SCOPE"),
        ("server_error", 90033, "later"),
        ("temporarily_unavailable", 0, "later"),
        ("never_heard_of", 0, "registration"),
    ] {
        let mut browser = Browser::new();
        let answer = answer_page(&mut browser, &link(&server, "work"), ADA);
        let description = format!(
            "AADSTS{number}: It went wrong. Trace ID: t Correlation ID: corr-7 Timestamp: now"
        );
        let state = state(&entra);
        let fields = [
            ("error", error),
            ("error_description", description.as_str()),
            ("state", state.as_str()),
        ];
        let page = browser.auto_submit(&posting(&answer, &fields));
        assert_refused(&server, &page, "It went wrong.");
        assert!(
            page.text().contains(hint),
            "{error} {number}: {}",
            page.text()
        );
        assert!(
            page.text().contains("corr-7"),
            "Microsoft's support asks for it: {}",
            page.text()
        );
        assert_eq!(browser.navigate(page.url.as_str()).body, page.body);
    }
    assert!(entra.token_requests().is_empty());
}

#[test]
fn an_error_that_another_browser_delivers_is_not_shown() {
    let (entra, server) = start();
    let answer = answer_page(&mut Browser::new(), &link(&server, ADA), ADA);
    let lure = "Call 555-0100 and read out your password.";
    let state = state(&entra);
    let fields = [
        ("error", "access_denied"),
        ("error_description", lure),
        ("state", state.as_str()),
    ];
    let page = Browser::new().auto_submit(&posting(&answer, &fields));
    assert!(
        page.status == 400 && !page.body.contains("555-0100"),
        "{}",
        page.body
    );
}

#[test]
fn markup_in_an_answer_is_text() {
    let (entra, server) = start();
    let markup = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, "work"), ADA);
    let state = state(&entra);
    for fields in [
        [
            ("error", markup),
            ("error_description", markup),
            ("state", markup),
        ],
        [("code", markup), ("x", markup), ("state", markup)],
        [
            ("error", markup),
            ("error_description", markup),
            ("state", state.as_str()),
        ],
    ] {
        let page = browser.auto_submit(&posting(&answer, &fields));
        assert_eq!(page.status, 400);
        assert!(
            !page.body.contains("<script") && !page.body.contains("<img"),
            "{}",
            page.body
        );
    }
    // The last one was Entra's to the person who asked: they may read it.
    let page = browser.navigate(&browser.history.last().unwrap().clone());
    assert!(page.text().contains(markup), "{}", page.text());
}

/// RFC 9207 §2.4: the client must not proceed with the grant.
#[test]
fn an_answer_that_names_another_issuer_is_not_redeemed() {
    let (entra, server) = start();
    let host = entra.authority_host();
    for issuer in [
        "https://evil.example",
        &format!("{host}/{OTHER_TENANT_ID}/v2.0"),
        &format!("{host}/v2.0"),
        "",
    ] {
        let mut browser = Browser::new();
        let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
        let page = browser.auto_submit(&also_posting(&answer, "iss", issuer));
        assert_refused(&server, &page, "issuer");
        assert_eq!(entra.token_requests().len(), 0, "{issuer}");
    }
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    let right = format!("{host}/{TENANT_ID}/v2.0");
    assert_signed_in(&browser.auto_submit(&also_posting(&answer, "iss", &right)));
}

/// RFC 9207 §2.4: an error, too, may be believed only of the issuer that was asked.
#[test]
fn an_error_that_names_another_issuer_is_not_shown() {
    let (entra, server) = start();
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    let state = state(&entra);
    let fields = [
        ("error", "access_denied"),
        ("error_description", "Call 555-0100."),
        ("state", state.as_str()),
        ("iss", "https://evil.example"),
    ];
    let page = browser.auto_submit(&posting(&answer, &fields));
    assert_refused(&server, &page, "issuer");
    assert!(!page.body.contains("555-0100"), "{}", page.body);
}

#[test]
fn a_redemption_that_fails_is_not_repeated() {
    let (entra, server) = start();
    for (number, (failure, why)) in [
        (TokenFailure::Status(503, Some(30)), "503"),
        (TokenFailure::Status(429, None), "429"),
        (TokenFailure::Garbage, "could not be used"),
        (TokenFailure::Huge(2 << 20), "could not be used"),
        (TokenFailure::CloseWithoutAnswer, "could not be reached"),
        (TokenFailure::LoseAnswer, "could not be reached"),
        (
            TokenFailure::Oauth {
                error: "invalid_grant",
                aadsts: 54005,
                suberror: None,
                claims: None,
            },
            "AADSTS54005",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        entra.fail_next_token(failure);
        let mut browser = Browser::new();
        let page = browser.sign_in(&link(&server, ADA), ADA);
        assert_refused(&server, &page, why);
        assert_eq!(browser.navigate(page.url.as_str()).body, page.body, "{why}");
        assert_eq!(entra.token_requests().len(), number + 1, "{why}");
    }
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &link(&server, ADA), ADA);
    entra.down();
    assert_refused(
        &server,
        &browser.auto_submit(&answer),
        "could not be reached",
    );
    entra.up();
    assert_signed_in(&sign_in(&server, ADA, ADA));
}

#[test]
fn a_wrong_registration_is_explained_with_this_servers_redirect_uri() {
    let (entra, server) = start();
    for (platform, number) in [
        (Platform::Web, "AADSTS7000218"),
        (Platform::Spa, "AADSTS9002327"),
    ] {
        entra.set(|settings| settings.platform = platform);
        let page = sign_in(&server, ADA, ADA);
        assert_refused(&server, &page, number);
        let text = page.text();
        assert!(text.contains("Mobile and desktop applications"), "{text}");
        assert!(
            text.contains(&format!("{}/auth/callback", server.url())),
            "{text}"
        );
    }
}

// ---- Who waits for it ----

fn wait_for(server: &Running, user_id: Option<&str>) -> EventReader {
    let mut arguments = json!({"wait_seconds": 120});
    if let Some(user_id) = user_id {
        arguments["user_id"] = json!(user_id);
    }
    let (head, events) = server.modern().open(
        "tools/call",
        json!({"name": "check_auth_status", "arguments": arguments}),
    );
    assert_eq!(
        (head.status, head.header("Content-Type")),
        (200, Some("text/event-stream"))
    );
    events
}

fn result(mut events: EventReader) -> Value {
    let mut response = events.next_json().unwrap();
    response["result"]["structuredContent"].take()
}

#[test]
fn whoever_waits_for_a_sign_in_hears_of_its_end() {
    let (_entra, server) = start();
    for (username, authenticated) in [(GRACE, false), (ADA, true)] {
        let link = link(&server, ADA);
        let (named, any) = (wait_for(&server, Some(ADA)), wait_for(&server, None));
        Browser::new().sign_in(&link, username);
        let status = result(named);
        assert_eq!(
            (&status["user_id"], &status["authenticated"]),
            (&json!(ADA), &json!(authenticated)),
            "{status}"
        );
        assert_eq!(
            status["last_sign_in_error"].is_string(),
            !authenticated,
            "{status}"
        );
        assert_eq!(result(any)["authenticated"], authenticated);
    }
}

#[test]
fn the_end_of_another_sign_in_is_not_waited_for() {
    let (_entra, server) = start();
    let (adas, graces) = (link(&server, ADA), link(&server, GRACE));
    let waiting = wait_for(&server, Some(ADA));
    assert_signed_in(&Browser::new().sign_in(&graces, GRACE));
    assert_signed_in(&Browser::new().sign_in(&adas, ADA));
    let status = result(waiting);
    assert_eq!(status["authenticated"], true, "{status}");
}

#[test]
fn waiting_ends_when_the_sign_in_expires_or_there_is_none() {
    let (_entra, server) = start();
    let nobody = server.modern().ok(
        "check_auth_status",
        json!({"user_id": ADA, "wait_seconds": 120}),
    );
    assert_eq!(
        (&nobody["authenticated"], &nobody["pending_sign_in"]),
        (&json!(false), &json!(false))
    );
    link(&server, ADA);
    assert_eq!(status(&server, ADA)["pending_sign_in"], true);
    let waiting = wait_for(&server, Some(ADA));
    server.clock.advance(TOO_LATE);
    let status = result(waiting);
    assert_eq!(
        (&status["authenticated"], &status["pending_sign_in"]),
        (&json!(false), &json!(false))
    );
}

// ---- Other redirect URIs ----

#[test]
fn a_port_mapping_and_another_path_are_the_redirect_uris() {
    let entra = Entra::start();
    entra.set(|settings| {
        settings.redirect_uris = [
            "http://localhost/signin-oidc",
            "http://127.0.0.1/auth/callback",
        ]
        .map(str::to_owned)
        .into();
    });
    for (host, path) in [
        ("localhost", "/signin-oidc"),
        ("127.0.0.1", "/auth/callback"),
    ] {
        let mapping = PortMapping::new();
        let origin = format!("http://{host}:{}", mapping.port());
        let redirect_uri = format!("{origin}{path}");
        let server = Setup::new(&entra, None)
            .with("REDIRECT_URI", &redirect_uri)
            .start();
        mapping.lead_to(&server);
        let link = link(&server, ADA);
        assert!(link.starts_with(&format!("{origin}/auth/login?")), "{link}");
        assert_signed_in(&Browser::new().sign_in(&link, ADA));
        assert_eq!(
            value_of(&entra.last_authorize(), "redirect_uri"),
            Some(redirect_uri.as_str())
        );
        assert_eq!(who_is(&server, ADA).as_deref(), Some(ADA));
        if path != "/auth/callback" {
            assert_eq!(
                post_callback(&server, &[FORM], "code=c&state=s").status,
                404
            );
        }
    }
}

#[test]
fn a_redirect_uri_without_a_path_shares_it_with_the_start_page() {
    let entra = Entra::start();
    entra.set(|settings| settings.redirect_uris = vec!["http://localhost".to_owned()]);
    for (slash, mode) in [
        ("", "form_post"),
        ("/", "form_post"),
        ("", "query"),
        ("/", "query"),
    ] {
        let mapping = PortMapping::new();
        let redirect_uri = format!("http://localhost:{}{slash}", mapping.port());
        let setup = Setup::new(&entra, None)
            .with("REDIRECT_URI", &redirect_uri)
            .with("AUTH_RESPONSE_MODE", mode);
        let server = setup.start();
        mapping.lead_to(&server);
        assert_signed_in(&Browser::new().sign_in(&link(&server, ADA), ADA));
        assert_eq!(
            value_of(&entra.last_authorize(), "redirect_uri"),
            Some(redirect_uri.as_str()),
            "as registered"
        );
        let home = server.client().get("/");
        assert!(
            home.status == 200 && home.text().contains(ADA),
            "{}",
            home.text()
        );
        let with_code = server.client().get("/?code=CODE-of-nobody&state=s");
        let status = if mode == "query" { 400 } else { 303 };
        assert_eq!(with_code.status, status, "{mode}");
        assert!(!with_code.text().contains("CODE-of-nobody"));
    }
    assert_eq!(entra.token_requests().len(), 4);
}

#[test]
fn a_display_name_and_a_username_may_be_anything() {
    let (entra, server) = start();
    let odd = "o'brien+test@contoso.example";
    entra.set(|settings| {
        settings.users.push(User::new(
            "0a1b2c3d-4444-4aaa-8bbb-000000000004",
            TENANT_ID,
            odd,
            "Ó Briain \"Bri\" <b>&",
        ));
    });
    assert_signed_in(&sign_in(&server, odd, odd));
    assert_eq!(value_of(&entra.last_authorize(), "login_hint"), Some(odd));
    assert_eq!(
        status(&server, odd)["display_name"],
        "Ó Briain \"Bri\" <b>&"
    );
}
