//! BACKEND_SESSION_COOKIES: cookies of the API, kept for one account in memory and shown to nobody.

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::backend::claims_challenge;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, GRACE};
use crate::support::http::{Answer, Reply, Request, StandIn};
use crate::support::server::{Mcp, Process, Setup, World};
use crate::support::{Gate, http_date, lock};
use serde_json::{Value, json};

const SECRET: &str = "s3cr3t-session-value-0123456789";
const MARKER: &str = "[session cookie removed]";

fn with_cookies(setup: Setup) -> Setup {
    setup.with("BACKEND_SESSION_COOKIES", "session, ARRAffinity")
}

/// Ada is signed in, and the API's cookies are kept.
fn world() -> World {
    World::signed_in().with(with_cookies)
}

/// The same, with clocks that the test alone moves.
fn world_by_the_second() -> World {
    World::by_the_second().with(with_cookies)
}

/// The API answers `/set` with these `Set-Cookie` headers, and everything else with an empty object.
fn set_by(world: &World, cookies: &[&str]) {
    let cookies: Vec<String> = cookies.iter().map(ToString::to_string).collect();
    world.backend.on(move |request| {
        let reply = Reply::of_json(200, &json!({}));
        let is_set = request.path.ends_with("/set");
        let cookies = cookies.iter().filter(|_| is_set);
        Some(
            cookies
                .fold(reply, |reply, cookie| reply.with("Set-Cookie", cookie))
                .into(),
        )
    });
}

fn get(mcp: &mut Mcp, endpoint: &str) -> Value {
    mcp.ok("api_get_request", json!({"endpoint": endpoint}))
}

/// The `Cookie` header that a call of `endpoint` has.
fn sent(world: &World, endpoint: &str) -> Option<String> {
    get(&mut world.server.modern(), endpoint);
    world.backend.last().header("Cookie").map(str::to_owned)
}

/// What is sent to `/v1.0/x` after the API has answered `/v1.0/set` with `cookie`.
fn sent_after(world: &World, cookie: &str) -> Option<String> {
    set_by(world, &[cookie]);
    get(&mut world.server.modern(), "/set");
    sent(world, "/x")
}

fn seconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

fn has_session(world: &World, user_id: &str) -> Value {
    let mut mcp = world.server.modern();
    mcp.ok("check_auth_status", json!({"user_id": user_id}))["has_session_cookie"].take()
}

#[test]
fn a_cookie_that_the_setting_names_is_sent_beside_the_token_and_shown_to_nobody() {
    let world = world();
    let cookie = format!("session={SECRET}; HttpOnly; Path=/");
    set_by(&world, &[&cookie, "other=visible-to-nobody; Path=/"]);
    assert_eq!(has_session(&world, ADA), false);
    assert_eq!(sent(&world, "/x"), None);
    let mut mcp = world.server.modern();
    let arguments = json!({"endpoint": "/set"});
    let params = json!({"name": "api_get_request", "arguments": arguments});
    let reply = mcp.send("tools/call", params);
    assert!(!reply.text().contains(SECRET), "{}", reply.text());
    assert!(!reply.text().contains("visible"), "{}", reply.text());

    assert_eq!(has_session(&world, ADA), true);
    assert_eq!(sent(&world, "/x"), Some(format!("session={SECRET}")));
    let request = world.backend.last();
    let token = request.header("Authorization").unwrap();
    assert!(token.starts_with("Bearer AT-"), "{token}");
    let status = mcp.send(
        "tools/call",
        json!({"name": "check_auth_status", "arguments": {}}),
    );
    let text = status.text();
    assert!(
        text.contains("has_session_cookie") && !text.contains(SECRET),
        "{text}"
    );
}

#[test]
fn without_the_setting_no_cookie_is_kept_and_nothing_is_said_of_one() {
    let world = World::signed_in();
    assert_eq!(sent_after(&world, "session=12345678; Path=/"), None);
    assert_eq!(has_session(&world, ADA), Value::Null);
    let listed = world
        .server
        .modern()
        .result("tools/list", json!({}))
        .to_string();
    assert!(!listed.contains("session_cookie"), "{listed}");
}

#[test]
fn each_account_has_cookies_of_its_own() {
    let world = world();
    let mut mcp = world.server.modern();
    mcp.sign_in(GRACE);
    world.backend.on(|request| {
        let user = request.header("X-Request-Id").unwrap_or_default();
        let cookie = format!("session=of-{user}; Path=/");
        Some(
            Reply::of_json(200, &json!({}))
                .with("Set-Cookie", &cookie)
                .into(),
        )
    });
    for _ in 0..2 {
        for user in [ADA, GRACE] {
            let headers = json!({"X-Request-Id": user});
            let arguments = json!({"endpoint": "/x", "user_id": user, "headers": headers});
            mcp.ok("api_get_request", arguments);
        }
    }
    let requests = world.backend.requests();
    let cookies: Vec<_> = requests
        .iter()
        .map(|request| request.header("Cookie"))
        .collect();
    let ada = format!("session=of-{ADA}");
    let grace = format!("session=of-{GRACE}");
    assert_eq!(cookies, [None, None, Some(&*ada), Some(&*grace)]);
}

#[test]
fn the_path_says_which_calls_a_cookie_goes_with() {
    let world = world();
    for (cookie, endpoint, is_sent) in [
        ("session=a; Path=/", "/x", true),
        ("session=a; Path=/v1.0", "/x", true),
        ("session=a; Path=/v1.0/", "/x", true),
        ("session=a; Path=/v1.0/x", "/x", true),
        ("session=a; Path=/v1.0/x", "/x/y", true),
        ("session=a; Path=/v1.0/x", "/xy", false),
        ("session=a; Path=/v1.0/x/", "/x", false),
        ("session=a; Path=/v1", "/x", false),
        ("session=a; Path=/other", "/x", false),
        ("session=a; path = /v1.0/y ; Path=/v1.0/x", "/x", true),
        ("session=a; Path=/v1.0/x; Path=/v1.0/y", "/x", false),
        // No path, or none that is one: that of the call which has set it, up to its last slash.
        ("session=a", "/x", true),
        ("session=a; Path=", "/x", true),
        ("session=a; Path=v1.0/y", "/x", true),
    ] {
        set_by(&world, &["session=gone; Max-Age=0", cookie]);
        get(&mut world.server.modern(), "/set");
        assert_eq!(sent(&world, endpoint).is_some(), is_sent, "{cookie}");
        let path = cookie.rsplit_once("Path=").map_or("", |(_, path)| path);
        set_by(&world, &[&format!("session=gone; Max-Age=0; Path={path}")]);
        get(&mut world.server.modern(), "/set");
        assert_eq!(sent(&world, endpoint), None, "{cookie}");
    }
    set_by(&world, &["session=deep"]);
    get(&mut world.server.modern(), "/a/b/set");
    assert_eq!(sent(&world, "/a/b/c").as_deref(), Some("session=deep"));
    assert_eq!(sent(&world, "/a/c"), None);
}

#[test]
fn longer_paths_come_first_then_older_cookies_and_a_new_value_makes_none_younger() {
    let world = world();
    let cookies = [
        "ARRAffinity=1; Path=/",
        "session=2; Path=/",
        "session=3; Path=/v1.0/x",
        "ARRAffinity=4; Path=/",
    ];
    set_by(&world, &cookies);
    get(&mut world.server.modern(), "/set");
    let cookie = sent(&world, "/x");
    assert_eq!(
        cookie.as_deref(),
        Some("session=3; ARRAffinity=4; session=2")
    );
}

#[test]
fn a_cookie_ends_when_the_api_says_so() {
    let world = world_by_the_second();
    for ended in [
        "Max-Age=0",
        "Max-Age=-1",
        "max-age=0; Expires=Wed, 01 Jan 2098 00:00:00 GMT",
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "expires=Thu, 01-Jan-1970 00:00:10 GMT",
        "Expires=Thu, 01-Dec-94 16:00:00 GMT",
        "Expires=Sun Nov  6 08:49:37 1994",
        "Expires=Mon, 01 Jan 0001 00:00:00 GMT",
    ] {
        assert!(sent_after(&world, "session=a; Path=/").is_some());
        let cookie = format!("session=a; Path=/; {ended}");
        assert_eq!(sent_after(&world, &cookie), None, "{ended}");
        assert_eq!(has_session(&world, ADA), false);
    }
    // What is no time does not count.
    for kept in ["Max-Age=soon", "Max-Age=", "Expires=tomorrow", "Expires="] {
        let cookie = format!("session=a; Path=/; {kept}");
        assert!(sent_after(&world, &cookie).is_some(), "{kept}");
    }
    let later = |seconds: i64| http_date(seconds_since_1970() + seconds);
    let date = later(20_000);
    let with_dashes = format!("{}-{}-{}", &date[..7], &date[8..11], &date[12..]);
    for (lasting, seconds) in [
        ("Max-Age=600".to_owned(), 600),
        (format!("Max-Age=600; Expires={}", http_date(0)), 600),
        (format!("Expires={}", later(10_000)), 8600),
        (format!("Expires={with_dashes}"), 9900),
    ] {
        let cookie = format!("session=a; Path=/; {lasting}");
        assert!(sent_after(&world, &cookie).is_some(), "{lasting}");
        world.advance(seconds - 100);
        assert!(sent(&world, "/x").is_some(), "{lasting}");
        assert_eq!(has_session(&world, ADA), true);
        world.advance(200);
        assert_eq!(sent(&world, "/x"), None, "{lasting}");
        assert_eq!(has_session(&world, ADA), false);
    }
}

#[test]
fn a_secure_cookie_does_not_come_or_go_over_plain_http() {
    let world = world();
    assert_eq!(sent_after(&world, "session=a; Path=/; Secure"), None);
    assert!(sent_after(&world, "session=a; Path=/").is_some());
    // Nor does one that was not set end anything.
    let ended = "session=a; Path=/; Secure; Max-Age=0";
    assert!(sent_after(&world, ended).is_some());
}

#[test]
fn a_domain_that_is_not_the_apis_own_makes_a_cookie_none() {
    let world = world();
    for domain in ["example.com", "0.0.1", ".1", "127.0.0.1.example.com"] {
        let cookie = format!("session=a; Path=/; Domain={domain}");
        assert_eq!(sent_after(&world, &cookie), None, "{domain}");
    }
    for domain in ["127.0.0.1", ".127.0.0.1", ""] {
        let cookie = format!("session=a; Path=/; Domain={domain}");
        assert!(sent_after(&world, &cookie).is_some(), "{domain}");
    }
    let world = world.with(|setup| {
        let url = setup.variables["BACKEND_API_BASE_URL"].replace("127.0.0.1", "localhost");
        setup.with("BACKEND_API_BASE_URL", &url)
    });
    for domain in ["host", "sub.localhost", "ocalhost"] {
        let cookie = format!("session=a; Path=/; Domain={domain}");
        assert_eq!(sent_after(&world, &cookie), None, "{domain}");
    }
    let cookie = "session=a; Path=/; Domain=LocalHost";
    assert!(sent_after(&world, cookie).is_some());
}

#[test]
fn what_is_no_cookie_is_not_kept_and_what_is_one_goes_back_as_it_came() {
    let world = world();
    for cookie in [
        "session",
        "=value; Path=/",
        "Session=value; Path=/",
        "session2=value; Path=/",
        "session=value\u{e9}; Path=/",
        "",
    ] {
        assert_eq!(sent_after(&world, cookie), None, "{cookie}");
    }
    for value in ["\"quoted, with = and space\"", "a=b==", "", "%41%zz"] {
        let cookie = format!(" session = {value} ; Path=/");
        assert_eq!(
            sent_after(&world, &cookie),
            Some(format!("session={value}"))
        );
    }
}

#[test]
fn the_cookies_of_an_account_have_a_few_kilobytes_at_most() {
    let world = world();
    let long = "x".repeat(4000);
    let cookies: Vec<String> = (0..8)
        .map(|n| format!("session={long}; Path=/v1.0/{n}"))
        .collect();
    let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
    set_by(&world, &cookies);
    get(&mut world.server.modern(), "/set");
    let sent_with: Vec<_> = (0..8)
        .map(|n| sent(&world, &format!("/{n}")).is_some())
        .collect();
    assert_eq!(
        sent_with,
        [true, true, false, false, false, false, false, false]
    );
    // What cannot be kept leaves nothing that is out of date.
    let too_long = format!("session={}; Path=/v1.0/0", "x".repeat(9000));
    set_by(&world, &[&too_long]);
    get(&mut world.server.modern(), "/set");
    assert_eq!(sent(&world, "/0"), None);
}

// ---- Shown to nobody ----

/// What a call gives when the API answers so; the whole message is without the cookie.
fn echoed(world: &World, reply: Reply) -> Value {
    world.backend.on(move |_| Some(reply.clone().into()));
    let params = json!({"name": "api_get_request", "arguments": {"endpoint": "/x"}});
    let reply = world.server.modern().send("tools/call", params);
    assert!(!reply.text().contains(SECRET), "{}", reply.text());
    reply.json()["result"]["structuredContent"].clone()
}

#[test]
fn a_cookie_that_the_api_sends_back_is_taken_out_of_the_answer() {
    let world = world();
    let body = json!({"session": SECRET, "header": format!("session={SECRET}; x=1")});
    let clean = json!({"session": MARKER, "header": format!("session={MARKER}; x=1")});
    let setting = format!("session={SECRET}; Path=/");
    for status in [200, 401, 404, 500] {
        // Also in the answer that sets it, and in the one that ends it.
        for cookie in [&setting, "", &format!("{setting}; Max-Age=0")] {
            let reply = Reply::of_json(status, &body)
                .with("Set-Cookie", cookie)
                .with("X-Session", SECRET)
                .with("Location", &format!("/login?session={SECRET}"));
            let content = echoed(&world, reply);
            assert_eq!(content["data"], clean, "{status} {cookie}");
            assert_eq!(content["headers"]["x-session"], MARKER);
            let hint = content["hint"].as_str().unwrap();
            assert!(hint.contains("it was removed"), "{hint}");
        }
    }
}

#[test]
fn a_cookie_is_found_in_an_answer_however_it_is_written() {
    let world = world();
    let cookie = "session=s%3AabcdEFGH%2B1234%2Fz.sig%3D; Path=/";
    set_by(&world, &[cookie]);
    get(&mut world.server.modern(), "/set");
    for (shown, is_json) in [
        ("s%3AabcdEFGH%2B1234%2Fz.sig%3D", false),
        ("s:abcdEFGH+1234/z.sig=", false),
        ("s%3aabcdEFGH%2b1234%2fz.sig%3d", false),
        ("s:abcdEFGH\\u002b1234\\/z.sig\\u003d", true),
        ("s&#58;abcdEFGH&#x2b;1234/z.sig&#61;", false),
    ] {
        let media_type = if is_json {
            "application/json"
        } else {
            "text/plain"
        };
        let body = if is_json {
            format!("\"<{shown}>\"")
        } else {
            format!("<{shown}>")
        };
        let content = echoed(&world, Reply::new(200, media_type, body));
        assert_eq!(content["data"], format!("<{MARKER}>"), "{shown}");
    }
}

#[test]
fn neither_logs_nor_files_nor_the_processs_words_have_the_cookie() {
    let world = World::signed_in();
    let (setup, backend, _entra) = world.stop();
    let setup = with_cookies(setup).with("AUDIT_LOG", "audit.jsonl");
    let cookies = [
        format!("session={SECRET}; Path=/"),
        format!("session={SECRET}-of-another; Domain=example.com"),
        format!("ARRAffinity={SECRET}{}", "x".repeat(9000)),
    ];
    backend.on(move |_| {
        let reply = Reply::of_json(200, &json!({}));
        let cookies = cookies.iter();
        Some(
            cookies
                .fold(reply, |reply, cookie| reply.with("Set-Cookie", cookie))
                .into(),
        )
    });
    let mut process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let mut mcp = process.modern();
    for _ in 0..2 {
        mcp.ok("api_get_request", json!({"endpoint": "/x"}));
    }
    let sent = backend.last().header("Cookie").map(str::to_owned);
    assert_eq!(sent, Some(format!("session={SECRET}")));
    assert_eq!(
        process.log().matches("the cookie ").count(),
        4,
        "{}",
        process.log()
    );
    process.kill();
    for entry in fs::read_dir(&setup.directory.0).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains(SECRET), "{}: {text}", path.display());
    }
}

// ---- The end of a session ----

#[test]
fn a_refresh_keeps_the_cookies() {
    let world = world_by_the_second();
    sent_after(&world, "session=a; Path=/");
    let refreshes = world.entra.refreshes();
    world.advance(6000);
    assert_eq!(sent(&world, "/x").as_deref(), Some("session=a"));
    assert_eq!(world.entra.refreshes(), refreshes + 1);
}

#[test]
fn a_session_ends_with_the_sign_out_a_new_sign_in_and_the_process() {
    let world = world_by_the_second();
    let mut mcp = world.server.modern();
    assert!(sent_after(&world, "session=a; Path=/").is_some());
    mcp.ok("logout_user", json!({"user_id": ADA}));
    mcp.sign_in(ADA);
    assert_eq!(has_session(&world, ADA), false);
    assert_eq!(sent(&world, "/x"), None);

    assert!(sent_after(&world, "session=a; Path=/").is_some());
    let arguments = json!({"user_id": ADA, "prompt": "login"});
    let begun = mcp.ok("authenticate_user", arguments);
    let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(sent(&world, "/x"), None);

    assert!(sent_after(&world, "session=a; Path=/").is_some());
    let world = world.restarted();
    assert_eq!(sent(&world, "/x"), None);
}

#[test]
fn another_person_under_a_name_has_nothing_of_the_session() {
    let world = World::new().with(with_cookies);
    let mut mcp = world.server.modern();
    let mut sign_in = |prompt: &str, username: &str| {
        let arguments = json!({"user_id": "me", "prompt": prompt});
        let begun = mcp.ok("authenticate_user", arguments);
        let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), username);
        assert_eq!(page.status, 200, "{}", page.text());
    };
    sign_in("login", ADA);
    assert!(sent_after(&world, "session=a; Path=/").is_some());
    sign_in("select_account", GRACE);
    assert_eq!(has_session(&world, "me"), false);
    assert_eq!(sent(&world, "/x"), None);
}

#[test]
fn a_cookie_that_arrives_after_the_sign_out_is_nobodys() {
    let world = world();
    let gate = Gate::default();
    let held = gate.clone();
    world.backend.on(move |_| {
        held.pass();
        let reply = Reply::of_json(200, &json!({}));
        Some(reply.with("Set-Cookie", "session=late; Path=/").into())
    });
    thread::scope(|scope| {
        let call = scope.spawn(|| get(&mut world.server.modern(), "/x"));
        gate.wait_for_arrivals(1);
        let mut mcp = world.server.modern();
        mcp.ok("logout_user", json!({"user_id": ADA}));
        mcp.sign_in(ADA);
        gate.open();
        call.join().unwrap();
    });
    assert_eq!(has_session(&world, ADA), false);
}

// ---- Calls that are not made again ----

#[test]
fn a_call_whose_answer_sets_a_cookie_is_not_made_again_by_itself() {
    for status in [429, 502, 503, 504] {
        let world = world();
        world.backend.on(move |_| {
            let reply = Reply::of_json(status, &json!({})).with("Retry-After", "0");
            Some(reply.with("Set-Cookie", "session=a; Path=/").into())
        });
        let arguments = json!({"endpoint": "/x"});
        let failure = world.server.modern().fails("api_get_request", arguments);
        assert_eq!(failure["status"], status);
        assert_eq!(world.backend.requests().len(), 1, "{status}");
        assert_eq!(has_session(&world, ADA), true);
    }
    // An answer that only ends one may be made again.
    let world = world();
    assert!(sent_after(&world, "session=a; Path=/").is_some());
    let before = world.backend.requests().len();
    world.backend.on(|request| {
        let has_cookie = request.header("Cookie").is_some();
        let status = if has_cookie { 503 } else { 200 };
        let reply = Reply::of_json(status, &json!({})).with("Retry-After", "0");
        Some(
            reply
                .with("Set-Cookie", "session=; Path=/; Max-Age=0")
                .into(),
        )
    });
    get(&mut world.server.modern(), "/x");
    assert_eq!(world.backend.requests().len(), before + 2);
}

/// The API refuses the first token that it sees with `reply`, which sets a cookie.
fn refuses_the_first_token(world: &World, reply: Reply) {
    let first: Mutex<Option<String>> = Mutex::default();
    world.backend.on(move |request| {
        let token = request.header("Authorization").unwrap().to_owned();
        let mut first = lock(&first);
        let is_first = *first.get_or_insert_with(|| token.clone()) == token;
        Some(if is_first {
            reply.clone().with("Set-Cookie", "session=a; Path=/").into()
        } else {
            Reply::of_json(200, &json!({"cookie": request.header("Cookie").is_some()})).into()
        })
    });
}

#[test]
fn a_refused_token_is_renewed_and_the_next_call_has_it_and_the_cookie() {
    let claims = json!({"access_token": {"acrs": {"essential": true, "value": "c1"}}});
    for reply in [Reply::of_json(401, &json!({})), claims_challenge(&claims)] {
        let world = world();
        let refreshes = world.entra.refreshes();
        refuses_the_first_token(&world, reply);
        let mut mcp = world.server.modern();
        let failure = mcp.fails("api_get_request", json!({"endpoint": "/x"}));
        assert_eq!(failure["status"], 401, "{failure}");
        let hint = failure["hint"].as_str().unwrap();
        assert!(hint.contains("not made again by itself"), "{hint}");
        assert_eq!(world.backend.requests().len(), 1);
        assert_eq!(world.entra.refreshes(), refreshes + 1);
        assert_eq!(get(&mut mcp, "/x")["data"], json!({"cookie": true}));
    }
}

// ---- Elsewhere ----

#[test]
fn a_redirect_elsewhere_gets_no_cookie() {
    let world = world();
    assert!(sent_after(&world, "session=a; Path=/").is_some());
    let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
    let for_handler = Arc::clone(&seen);
    let elsewhere = StandIn::serve(move |request: &Request| -> Answer {
        lock(&for_handler).push(request.clone());
        Reply::of_json(200, &json!({})).into()
    });
    let url = elsewhere.url();
    world
        .backend
        .on(move |_| Some(Reply::empty(302).with("Location", &url).into()));
    let mut mcp = world.server.modern();
    mcp.call("api_get_request", json!({"endpoint": "/x"}));
    let seen = lock(&seen);
    assert!(
        seen.iter()
            .all(|request| request.header("Cookie").is_none())
    );
}

/// Every byte of the body would be compared with the whole cookie.
#[test]
fn a_body_that_repeats_a_part_of_a_cookie_is_searched_in_no_time() {
    let world = world();
    let part = "a".repeat(7000);
    let cookie = format!("session=b{part}; Path=/");
    let body = "a".repeat(64 * 1024);
    let reply = Reply::new(200, "text/plain", body.clone()).with("Set-Cookie", &cookie);
    world.backend.on(move |_| Some(reply.clone().into()));
    let begun = Instant::now();
    let result = get(&mut world.server.modern(), "/x");
    assert!(begun.elapsed() < Duration::from_secs(5), "{result}");
    assert_eq!(result["data"], MARKER, "{result}");
    assert!(
        result["hint"].as_str().unwrap().contains("removed"),
        "{result}"
    );
}
