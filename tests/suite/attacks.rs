//! Attacks on the auth path that have once succeeded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::serve::Server;
use serde_json::json;

use crate::operations::{Bench, description, with_body};
use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::entra::{ADA, Entra, GRACE, TENANT_ID, TokenFailure, User};
use crate::support::mcp::Mcp;
use crate::support::server::{Running, Setup, World};

const ALAN: &str = "alan@contoso.example";

/// Whoever may call `/mcp` can begin a sign-in of somebody else, and have it fail.
#[test]
fn a_sign_in_that_fails_ends_no_sign_in_that_can_be_refreshed() {
    let world = World::signed_in();
    world.advance(4000);
    let begun = world.server.modern().ok(
        "authenticate_user",
        json!({"user_id": ADA, "prompt": "login"}),
    );
    world.entra.fail_next_token(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 70008,
        suberror: None,
        claims: None,
    });
    let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert_eq!(page.status, 400, "{}", page.text());
    let status = world
        .server
        .modern()
        .ok("check_auth_status", json!({"user_id": ADA}));
    assert_eq!(status["authenticated"], true, "{status}");
}

/// As where there is no thread for looking up Entra's address, and ureq panics.
#[test]
fn a_sign_in_that_is_cut_off_by_a_panic_does_not_stay_for_ever() {
    let entra = Arc::new(Entra::start());
    let setup = Setup::new(&entra, None);
    let panics = Arc::new(AtomicBool::new(false));
    let clock = Clock::from_fn({
        let (panics, entra, ahead) = (Arc::clone(&panics), Arc::clone(&entra), setup.clock.clone());
        move || {
            let goes_on = entra.token_requests().is_empty() || panics.swap(true, Ordering::SeqCst);
            assert!(goes_on, "this panic is the test's");
            let at = ahead.clock().now();
            SystemTime::UNIX_EPOCH + Duration::from_secs(at)
        }
    });
    let config = Config::from_variables(&setup.variables).unwrap();
    let running = Running {
        server: Server::start(config, clock, setup.limits.clone()).unwrap(),
        clock: setup.clock.clone(),
        directory: Arc::clone(&setup.directory),
    };
    let mut mcp = running.modern();
    let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert_eq!(page.status, 500, "{}", page.text());
    assert!(panics.load(Ordering::SeqCst));
    running.clock.advance(1201);
    let status = mcp.ok("check_auth_status", json!({"user_id": ADA}));
    assert_eq!(status["pending_sign_in"], false, "{status}");
}

/// Between the moment in which a refusal is seen to be of the account at hand, and the note of it.
#[test]
fn a_refusal_is_not_noted_on_who_signs_in_at_that_moment() {
    let entra = Arc::new(Entra::start());
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let url = Arc::new(OnceLock::<String>::new());
    let is_armed = Arc::new(AtomicBool::new(false));
    let clock = Clock::from_fn({
        let (entra, url, is_armed) = (Arc::clone(&entra), Arc::clone(&url), Arc::clone(&is_armed));
        let clock = setup.clock.clock();
        move || {
            if entra.token_requests().len() == 2 && is_armed.swap(false, Ordering::SeqCst) {
                let url = url.get().unwrap();
                let link = format!("{url}/auth/login?user_id=work");
                let signed_in = thread::scope(|scope| {
                    let browser = scope.spawn(|| Browser::new().sign_in(&link, GRACE));
                    browser.join().unwrap()
                });
                assert_eq!(signed_in.status, 200, "{}", signed_in.text());
            }
            SystemTime::UNIX_EPOCH + Duration::from_secs(clock.now())
        }
    });
    let config = Config::from_variables(&setup.variables).unwrap();
    let running = Running {
        server: Server::start(config, clock, setup.limits.clone()).unwrap(),
        clock: setup.clock.clone(),
        directory: Arc::clone(&setup.directory),
    };
    url.set(running.url()).unwrap();
    let link = format!("{}/auth/login?user_id=work", running.url());
    assert_eq!(Browser::new().sign_in(&link, ADA).status, 200);
    let advance = |seconds| {
        running.clock.advance(seconds);
        entra.advance(i64::try_from(seconds).unwrap());
    };
    advance(4000);
    entra.fail_next_token(TokenFailure::Oauth {
        error: "invalid_scope",
        aadsts: 70011,
        suberror: None,
        claims: None,
    });
    is_armed.store(true, Ordering::SeqCst);
    let mut mcp = running.modern();
    let failure = mcp.fails("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(failure["error"], "retry_later", "{failure}");
    // Nothing is known against Grace: her token expires, and can be refreshed.
    advance(4000);
    let status = mcp.ok("check_auth_status", json!({"user_id": "work"}));
    assert_eq!(status["username"], GRACE, "{status}");
    assert_eq!(status["authenticated"], true, "{status}");
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
}

/// A call that has waited behind the refresh of an account that is replaced by now.
#[test]
fn after_a_new_sign_in_too_one_refresh_at_a_time_is_on_its_way() {
    let world = World::signed_in();
    world.advance(4000);
    let call = || {
        world
            .server
            .modern()
            .ok("api_get_request", json!({"endpoint": "/me"}))
    };
    let first = world.entra.hold_tokens();
    thread::scope(|scope| {
        let one = scope.spawn(call);
        first.wait_for_arrivals(1);
        let two = scope.spawn(call);
        // Nothing shows that it has come to the gate.
        thread::sleep(Duration::from_millis(300));
        drop(world.entra.hold_tokens()); // those that come now are not held
        // Good for a minute, so that it is refreshed at once.
        world.entra.expires_in(60);
        let link = format!("{}/auth/login?user_id={ADA}", world.server.url());
        assert_eq!(Browser::new().sign_in(&link, ADA).status, 200);
        let second = world.entra.hold_tokens();
        let three = scope.spawn(call);
        second.wait_for_arrivals(1);
        drop(first);
        one.join().unwrap();
        two.join().unwrap();
        drop(second);
        three.join().unwrap();
    });
    assert_eq!(world.entra.reused_refresh_tokens(), 0);
    let refreshes: Vec<_> = world.entra.token_requests();
    assert_eq!(refreshes.len(), 4, "two codes and two refreshes");
}

/// They are kept for a while, and count as sign-ins.
#[test]
fn sign_ins_that_have_ended_take_no_place_of_a_link_that_somebody_has() {
    let world = World::new();
    let mut mcp = world.server.modern();
    let offer = |mcp: &mut Mcp, user_id: &str| {
        let begun = mcp.ok("authenticate_user", json!({"user_id": user_id}));
        begun["sign_in_url"].as_str().unwrap().to_owned()
    };
    let link = offer(&mut mcp, ADA);
    for number in 0..63 {
        let link = offer(&mut mcp, &format!("other-{number}"));
        assert_eq!(Browser::new().decline(&link).status, 400);
    }
    offer(&mut mcp, "one-more");
    let page = Browser::new().sign_in(&link, ADA);
    assert_eq!(page.status, 200, "{}", page.text());
}

/// JSON in a string is not read with the message, whose depth is bounded.
#[test]
fn json_in_a_string_that_is_nested_without_end_does_not_end_the_server() {
    let mut described = description(&with_body(
        "application/json",
        json!({"$ref": "#/components/schemas/Node"}),
    ));
    described["components"] = json!({"schemas": {"Node": {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"const": "node"},
            "a": {"$ref": "#/components/schemas/Node"},
        },
    }}});
    let mut bench = Bench::of(&described, &[]);
    let levels = 20_000;
    let nested = format!("{}{{}}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    let sent = bench.sent("call", json!({ "data": nested }));
    let text = String::from_utf8(sent.body).unwrap();
    assert!(text.ends_with(r#""kind":"node"}"#), "{}", text.len());
}

/// Each schema of constants holds the next one many times.
#[test]
fn constants_that_hold_others_many_times_do_not_grow_without_end() {
    let each = |number: usize| {
        let next = format!("#/components/schemas/L{}", number + 1);
        let names: Vec<String> = (0..10).map(|place| format!("p{place}")).collect();
        let properties: serde_json::Map<_, _> = names
            .iter()
            .map(|name| (name.clone(), json!({ "$ref": next })))
            .collect();
        json!({"type": "object", "required": names, "properties": properties})
    };
    let mut schemas: serde_json::Map<_, _> = (0..7)
        .map(|number| (format!("L{number}"), each(number)))
        .collect();
    schemas.insert("L7".to_owned(), json!({"const": "lol"}));
    let mut described = description(&with_body(
        "application/json",
        json!({"$ref": "#/components/schemas/L0"}),
    ));
    described["components"] = json!({ "schemas": schemas });
    let mut bench = Bench::of(&described, &[]);
    assert_eq!(bench.json("call", json!({"data": {"p0": 1}}))["p0"], 1);
}

#[test]
fn an_operation_with_more_parameters_than_a_model_can_read_is_skipped() {
    let parameters: Vec<_> = (0..1001)
        .map(|number| json!({"name": format!("p{number}"), "in": "query"}))
        .collect();
    let paths = json!({
        "/a": {"get": {"operationId": "a", "parameters": parameters}},
        "/b": {"get": {"operationId": "b"}},
    });
    let listed = Bench::new(&paths).listed();
    assert!(listed.iter().any(|tool| tool["name"] == "b"));
    assert!(listed.iter().all(|tool| tool["name"] != "a"));
}

/// A part of a form would have fields that nobody has checked.
#[test]
fn a_media_type_that_could_end_its_field_is_in_no_part_of_a_form() {
    let schema = json!({"type": "object", "properties": {"note": {"type": "string"}}});
    let mut paths = with_body("multipart/form-data", schema);
    let content = "/~1things/post/requestBody/content/multipart~1form-data";
    paths.pointer_mut(content).unwrap()["encoding"] =
        json!({"note": {"contentType": "text/plain\r\nX-Forged: yes"}});
    let sent = Bench::new(&paths).sent("call", json!({"data": {"note": "hello"}}));
    let text = String::from_utf8(sent.body).unwrap();
    assert!(
        text.contains("hello") && !text.contains("X-Forged"),
        "{text}"
    );
}

/// Both are at Entra at the same time.
#[test]
fn two_sign_ins_of_a_person_at_once_make_one_account() {
    let world = World::new();
    let hold = world.entra.hold_tokens();
    let pages = thread::scope(|scope| {
        let both = ["work", "home"].map(|label| {
            let link = format!("{}/auth/login?user_id={label}", world.server.url());
            scope.spawn(move || Browser::new().sign_in(&link, ADA))
        });
        hold.wait_for_arrivals(2);
        drop(hold);
        both.map(|one| one.join().unwrap())
    });
    let mut answers = pages.each_ref().map(|page| page.status);
    answers.sort_unstable();
    assert_eq!(answers, [200, 400]);
    let all = world.server.client().get("/auth/status").json();
    assert_eq!(all["accounts"].as_array().unwrap().len(), 1, "{all}");
    let refused = pages.iter().find(|page| page.status == 400).unwrap();
    assert!(
        refused.text().contains("No second one was made"),
        "{}",
        refused.text()
    );
}

/// The start page was loaded by both before one of them has signed in.
#[test]
fn who_signs_in_another_account_replaces_none() {
    let world = World::signed_in();
    world.entra.set(|settings| {
        let alan = User::new("alan's oid", TENANT_ID, ALAN, "Alan");
        settings.users.push(alan);
    });
    let start_page = || {
        let mut browser = Browser::new();
        let home = browser.navigate(&world.server.url());
        (browser, home)
    };
    let sign_in = |(browser, home): &mut (Browser, Page), username: &str| {
        let links = home.links();
        let mut links = links.iter();
        let (href, _) = links
            .find(|(_, text)| text == "Sign in another account")
            .unwrap();
        let accounts = browser.follow(home, href);
        let answer = browser.submit(&accounts, username);
        let page = browser.auto_submit(&answer);
        assert_eq!(page.status, 200, "{}", page.text());
    };
    let mut one = start_page();
    let mut other = start_page();
    sign_in(&mut one, GRACE);
    sign_in(&mut other, ALAN);
    let all = world.server.client().get("/auth/status").json();
    assert_eq!(all["accounts"].as_array().unwrap().len(), 3, "{all}");
}

/// Both are shown the page with the button before one of them presses it.
#[test]
fn two_people_who_confirm_another_account_get_two_labels() {
    let world = World::signed_in();
    world.entra.set(|settings| {
        let alan = User::new("alan's oid", TENANT_ID, ALAN, "Alan");
        settings.users.push(alan);
    });
    let link = format!("{}/auth/login?another=true", world.server.url());
    let mut people = [GRACE, ALAN].map(|username| {
        let mut browser = Browser {
            without_metadata: true,
            ..Browser::default()
        };
        let page = browser.navigate(&link);
        (username, browser, page)
    });
    for (username, browser, page) in &mut people {
        let button = page.confirmation().unwrap();
        let accounts = browser.follow(page, &button);
        let answer = browser.submit(&accounts, username);
        let page = browser.auto_submit(&answer);
        assert_eq!(page.status, 200, "{}", page.text());
    }
    let all = world.server.client().get("/auth/status").json();
    assert_eq!(all["accounts"].as_array().unwrap().len(), 3, "{all}");
}

#[test]
fn people_who_ask_for_another_account_at_once_get_labels_of_their_own() {
    let world = World::new();
    let many = 16;
    let link = format!("{}/auth/login?another=true", world.server.url());
    let barrier = Barrier::new(many);
    thread::scope(|scope| {
        for _ in 0..many {
            scope.spawn(|| {
                barrier.wait();
                Browser::new().navigate(&link);
            });
        }
    });
    // Every sign-in under way keeps its label from the next.
    let page = Browser {
        without_metadata: true,
        ..Browser::default()
    }
    .navigate(&link);
    let next = format!("account-{}", many + 1);
    assert!(page.text().contains(&next), "{}", page.text());
}
