//! Signing in with a device code: who may ask for one, what the person is shown, and how the polling goes on
//! and ends.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use crate::support::backend::{Backend, cae_claims};
use crate::support::browser::Browser;
use crate::support::entra::{
    ACCESS_TOKEN_MARK, ADA, CLIENT_ID, DEVICE_CODE_MARK, Device, Entra, GRACE, OTHER_TENANT_ID,
    REFRESH_TOKEN_MARK, TENANT_ID, TokenFailure,
};
use crate::support::http::{Answer, Reply, StandIn};
use crate::support::server::{Mcp, Process, Setup, World, elicitation_error, input_required};
use crate::support::{PATIENCE, encode_pairs};
use serde_json::{Value, json};

/// A world where every sign-in that a call asks for is one with a device code.
fn world() -> World {
    world_with("SIGN_IN_METHOD", "device_code")
}

fn world_with(setting: &str, value: &str) -> World {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend)).with(setting, value);
    World {
        server: setup.start(),
        setup,
        backend,
        entra,
    }
}

/// Begins a sign-in of `user_id`; gives the code for the person.
fn begin(mcp: &mut Mcp, user_id: &str) -> String {
    text(&mcp.ok("authenticate_user", json!({"user_id": user_id}))["user_code"])
}

/// What is known of `user_id` when nothing is under way any more.
fn ended(mcp: &mut Mcp, user_id: &str) -> Value {
    let arguments = json!({"user_id": user_id, "wait_seconds": 20});
    let status = mcp
        .call_with("check_auth_status", arguments, json!({}))
        .response["result"]["structuredContent"]
        .take();
    assert_eq!(status["pending_sign_in"], false, "{status}");
    status
}

/// The names of the accounts on the disk.
fn stored(setup: &Setup) -> Vec<String> {
    if setup.token_file().exists() {
        setup.stored_user_ids()
    } else {
        Vec::new()
    }
}

fn device(entra: &Entra, user_code: &str) -> Device {
    entra
        .devices()
        .into_iter()
        .find(|device| device.user_code == user_code)
        .unwrap()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("a text is due, not {value}"))
        .to_owned()
}

fn me() -> Value {
    json!({"endpoint": "/me"})
}

// ---- Who may ask for one ----

#[test]
fn device_codes_are_off_unless_a_setting_allows_them() {
    for (setting, value, is_allowed) in [
        ("ALLOW_DEVICE_CODE", "false", false),
        ("ALLOW_DEVICE_CODE", "true", true),
        ("SIGN_IN_METHOD", "device_code", true),
    ] {
        let world = world_with(setting, value);
        let mut mcp = world.server.modern();
        let tools = mcp.result("tools/list", json!({}))["tools"].take();
        let has_choice = |tool: &&Value| tool.pointer("/inputSchema/properties/method").is_some();
        let with_choice: Vec<&Value> = tools
            .as_array()
            .unwrap()
            .iter()
            .filter(has_choice)
            .map(|tool| &tool["name"])
            .collect();
        assert_eq!(
            with_choice,
            if is_allowed {
                vec!["authenticate_user"]
            } else {
                vec![]
            }
        );
        let asked = json!({"user_id": ADA, "method": "device_code"});
        if is_allowed {
            assert!(mcp.ok("authenticate_user", asked)["user_code"].is_string());
        } else {
            let refused = mcp.fails("authenticate_user", asked);
            assert_eq!(refused["error"], "configuration", "{refused}");
            assert!(
                text(&refused["hint"]).contains("ALLOW_DEVICE_CODE=true"),
                "{refused}"
            );
            assert!(world.entra.device_requests().is_empty());
        }
        let link = mcp.ok(
            "authenticate_user",
            json!({"user_id": ADA, "method": "browser"}),
        );
        assert!(
            text(&link["sign_in_url"]).contains("/auth/login?ticket=")
                && link.get("user_code").is_none(),
            "{link}"
        );
    }
}

#[test]
fn where_codes_are_allowed_one_is_had_by_asking_for_it() {
    let world = world_with("ALLOW_DEVICE_CODE", "true");
    let mut mcp = world.server.modern();
    assert!(
        mcp.fails("api_get_request", me())
            .get("user_code")
            .is_none(),
        "it was not asked for"
    );
    let begun = mcp.ok(
        "authenticate_user",
        json!({"user_id": ADA, "method": "device_code"}),
    );
    let (user_code, address) = (text(&begun["user_code"]), text(&begun["sign_in_url"]));
    assert_eq!(address, format!("{}/device", world.entra.authority_host()));
    assert_eq!(
        (&begun["auth_url"], &begun["authenticated"]),
        (&begun["sign_in_url"], &json!(false))
    );
    assert!(
        (895..=900).contains(&begun["link_expires_in_seconds"].as_u64().unwrap()),
        "{begun}"
    );
    assert!(
        [&user_code, &address]
            .iter()
            .all(|part| text(&begun["message"]).contains(*part)),
        "{begun}"
    );
    assert_eq!(
        mcp.ok("check_auth_status", json!({"user_id": ADA}))["pending_sign_in"],
        true
    );

    let mut browser = Browser::new();
    let page = browser.navigate(&address);
    assert_eq!(
        browser
            .submit_with(&page, ADA, &[("user_code", &user_code)])
            .status,
        200
    );
    let status = ended(&mut mcp, ADA);
    // Read at once: the tokens were there before anybody was told.
    assert_eq!(stored(&world.setup), [ADA]);
    assert_eq!(
        (&status["authenticated"], &status["tenant_id"]),
        (&json!(true), &json!(TENANT_ID)),
        "{status}"
    );
    assert_eq!(
        mcp.ok("api_get_request", me())["data"]["userPrincipalName"],
        ADA
    );
    assert_eq!(
        mcp.ok(
            "authenticate_user",
            json!({"user_id": ADA, "method": "device_code"})
        )["already_signed_in"],
        true
    );
    assert_eq!(world.entra.devices().len(), 1);
    assert!(world.entra.authorize_requests().is_empty());
}

#[test]
fn as_the_method_of_the_settings_every_sign_in_that_a_call_asks_for_is_one() {
    let world = world();
    let [mut link, mut modern, mut legacy] = [
        world.server.modern(),
        world.server.modern_url(),
        world.server.legacy_url("2025-11-25"),
    ];
    let refused = link.fails("api_get_request", me());
    let (user_code, address) = (text(&refused["user_code"]), text(&refused["sign_in_url"]));
    assert_eq!(
        (&refused["error"], &address),
        (
            &json!("sign_in_required"),
            &format!("{}/device", world.entra.authority_host())
        )
    );
    assert!(text(&refused["hint"]).contains(&user_code), "{refused}");

    let asked = input_required(
        &modern
            .call_with("api_get_request", me(), json!({}))
            .response,
    );
    assert!(
        asked.url == address && asked.message.contains(&user_code),
        "{asked:?}"
    );
    let (url, message, _) = elicitation_error(
        &legacy
            .call_with("api_get_request", me(), json!({}))
            .response,
    );
    assert!(
        url == address && message.contains(&user_code),
        "{url} {message}"
    );
    assert_eq!(
        world.entra.devices().len(),
        1,
        "they are shown one and the same"
    );

    world.entra.approve_device(&user_code, ADA);
    let answer = modern.call_with("api_get_request", me(), asked.answered_with("accept"));
    assert_eq!(
        answer.response["result"]["structuredContent"]["data"]["userPrincipalName"], ADA,
        "{answer:?}"
    );
    for mcp in [&mut link, &mut legacy] {
        assert_eq!(
            mcp.ok("api_get_request", me())["data"]["userPrincipalName"],
            ADA
        );
    }
}

#[test]
fn whoever_asks_again_is_shown_the_same_code_while_it_has_half_its_life_to_come() {
    for (life, as_text) in [(900, false), (900, true), (60, false)] {
        let world = world();
        world.entra.set(|settings| {
            (settings.device_expires_in, settings.numbers_as_strings) =
                (i64::try_from(life).unwrap(), as_text);
        });
        let mut mcp = world.server.modern();
        let adas = begin(&mut mcp, ADA);
        assert_ne!(begin(&mut mcp, GRACE), adas, "each person has their own");
        world.advance(life / 2 - 10);
        assert_eq!(begin(&mut mcp, ADA), adas);
        world.advance(15);
        assert_ne!(begin(&mut mcp, ADA), adas);
        assert_eq!(world.entra.devices().len(), 3);
    }
}

#[test]
fn a_code_that_has_expired_is_waited_for_no_longer() {
    let world = world();
    let mut mcp = world.server.modern();
    // Nor is a sign-in that has ended before.
    let login = format!("{}/auth/login?user_id=grace", world.server.url());
    assert_eq!(Browser::new().sign_in(&login, "Deny consent").status, 400);
    let first = begin(&mut mcp, ADA);
    let (_, mut waiting) = world.server.modern().open_call(
        "check_auth_status",
        json!({"wait_seconds": 120}),
        json!({}),
    );
    world.advance(901);
    let status = waiting.next_json().unwrap()["result"]["structuredContent"].take();
    assert_eq!(
        (&status["authenticated"], &status["pending_sign_in"]),
        (&json!(false), &json!(false)),
        "{status}"
    );
    assert_ne!(begin(&mut mcp, ADA), first);
}

#[test]
fn at_the_very_second_at_which_a_code_expires_it_is_polled_for_no_more() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None)
        .with("SIGN_IN_METHOD", "device_code")
        .by_the_second();
    let server = setup.start();
    let expired = begin(&mut server.modern(), ADA);
    server.clock.advance(900);
    // Its first poll is due after that of the other one.
    let user_code = begin(&mut server.modern(), GRACE);
    entra.approve_device(&user_code, GRACE);
    assert_eq!(ended(&mut server.modern(), GRACE)["authenticated"], true);
    assert_eq!(device(&entra, &expired).polls, 0);
}

// ---- How the polling goes on and ends ----

/// The stand-in takes it ill to be polled before its time, which each of these puts off.
#[test]
fn a_poll_that_says_nothing_of_the_person_is_repeated_in_due_time() {
    let oauth = |error| TokenFailure::Oauth {
        error,
        aadsts: 70016,
        suberror: None,
        claims: None,
    };
    let failures = [
        oauth("authorization_pending"),
        oauth("slow_down"),
        oauth("server_error"),
        oauth("temporarily_unavailable"),
        TokenFailure::Status(500, Some(1)),
        TokenFailure::Status(503, Some(3)),
        TokenFailure::Status(429, Some(1)),
        TokenFailure::Status(400, None),
        TokenFailure::Garbage,
        TokenFailure::CloseWithoutAnswer,
    ];
    let worlds = failures.map(|failure| {
        let world = world();
        world.entra.fail_next_device_poll(failure);
        let user_code = begin(&mut world.server.modern(), ADA);
        world.entra.approve_device(&user_code, ADA);
        (world, user_code)
    });
    for (at, (world, user_code)) in worlds.iter().enumerate() {
        let status = ended(&mut world.server.modern(), ADA);
        assert_eq!(status["authenticated"], true, "{at}: {status}");
        assert_eq!(device(&world.entra, user_code).polls, 2, "{at}");
    }
}

#[test]
fn a_poll_that_says_how_it_ended_is_the_last_and_says_what_to_do() {
    type End = fn(&Entra, &str);
    const IN_THE_BROWSER: &str = "sign in with the browser";
    let ends: [(End, &[&str]); 12] = [
        (
            |entra, code| entra.decline_device(code),
            &["declined", "AADSTS65004"],
        ),
        (
            |entra, _| entra.fail_next_poll("access_denied", 50105),
            &["AADSTS50105", "not assigned"],
        ),
        (
            |entra, code| entra.expire_device(code),
            &["AADSTS70020", "Start again"],
        ),
        (
            |entra, code| {
                entra.set(|settings| settings.says_code_expired = true);
                entra.expire_device(code);
            },
            &["AADSTS70019", "Start again"],
        ),
        (
            |entra, _| entra.fail_next_poll("bad_verification_code", 70018),
            &["AADSTS70018"],
        ),
        (
            |entra, _| entra.fail_next_poll("access_denied", 53003),
            &["AADSTS53003", IN_THE_BROWSER],
        ),
        (
            |entra, _| entra.fail_next_poll("invalid_grant", 530_036),
            &["AADSTS530036", IN_THE_BROWSER],
        ),
        (
            |entra, _| entra.set(|settings| settings.device_code_allowed = false),
            &["Allow public client flows"],
        ),
        (
            |entra, _| entra.fail_next_poll("unauthorized_client", 700_016),
            &["AADSTS700016", CLIENT_ID],
        ),
        (
            |entra, _| entra.fail_next_poll("an_error_of_tomorrow", 1),
            &["The test wants this error"],
        ),
        (
            |entra, code| entra.approve_device(code, GRACE),
            &["You signed in as grace@", "not as ada@"],
        ),
        (
            |entra, code| {
                entra.id_token_tamper(|claims| claims["tid"] = json!(OTHER_TENANT_ID));
                entra.approve_device(code, ADA);
            },
            &["did not fit", "(iss)"],
        ),
    ];
    let worlds = ends.map(|(end, words)| {
        let world = world();
        let user_code = begin(&mut world.server.modern(), ADA);
        end(&world.entra, &user_code);
        (world, user_code, words)
    });
    for (world, user_code, words) in &worlds {
        let mut mcp = world.server.modern();
        let status = ended(&mut mcp, ADA);
        let error = text(&status["last_sign_in_error"]);
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{words:?}: {error}"
        );
        assert_eq!(
            (&status["authenticated"], stored(&world.setup)),
            (&json!(false), vec![]),
            "{status}"
        );
        assert_eq!(device(&world.entra, user_code).polls, 1, "{error}");
        assert_ne!(begin(&mut mcp, ADA), *user_code, "{error}");
    }
}

#[test]
fn a_sign_in_that_is_given_up_is_polled_for_no_longer_and_stores_nothing() {
    let world = world();
    let (mut link, mut asking) = (world.server.modern(), world.server.modern_url());
    // One whose poll is under way when it is given up.
    let in_flight = begin(&mut link, "in flight");
    world.entra.approve_device(&in_flight, ADA);
    let hold = world.entra.hold_tokens();
    hold.wait_for_arrivals(1);
    link.fails("logout_user", json!({"user_id": "in flight"}));
    drop(hold);
    // Others before their first poll, while somebody else's goes on.
    begin(&mut link, "bystander");
    let tool = begin(&mut link, "tool");
    link.fails("logout_user", json!({"user_id": "tool"}));
    let page = begin(&mut link, "page");
    world.server.client().get(&format!(
        "/auth/logout?{}",
        encode_pairs(&[("user_id", "page")])
    ));
    let mut given_up = vec![tool, page];
    for action in ["decline", "cancel"] {
        let arguments = json!({"endpoint": "/me", "user_id": action});
        let asked = input_required(
            &asking
                .call_with("api_get_request", arguments.clone(), json!({}))
                .response,
        );
        given_up.push(world.entra.devices().last().unwrap().user_code.clone());
        let answer = asking.call_with("api_get_request", arguments, asked.answered_with(action));
        assert_eq!(
            answer.response["result"]["structuredContent"]["error"], "refused",
            "{answer:?}"
        );
    }
    for user_code in &given_up {
        world.entra.approve_device(user_code, ADA);
    }
    // Its first poll is due after theirs.
    let user_code = begin(&mut link, GRACE);
    world.entra.approve_device(&user_code, GRACE);
    assert_eq!(ended(&mut link, GRACE)["authenticated"], true);
    assert!(
        given_up
            .iter()
            .all(|user_code| device(&world.entra, user_code).polls == 0),
        "{:?}",
        world.entra.devices()
    );
    assert!(device(&world.entra, &in_flight).redeemed);
    assert_eq!(stored(&world.setup), [GRACE]);
}

#[test]
fn a_server_that_stops_waits_for_no_code_and_polls_for_none() {
    let World {
        server,
        setup,
        backend: _backend,
        entra,
    } = world();
    let mut mcp = server.modern();
    let in_flight = begin(&mut mcp, ADA);
    entra.approve_device(&in_flight, ADA);
    let hold = entra.hold_tokens();
    hold.wait_for_arrivals(1);
    let pending = begin(&mut mcp, "default");
    entra.approve_device(&pending, ADA);
    let (stopped, has_stopped) = mpsc::channel();
    thread::spawn(move || {
        drop(server);
        stopped.send(())
    });
    has_stopped
        .recv_timeout(PATIENCE)
        .expect("it stops while Entra has not answered");
    drop(hold);
    // The first poll of another server's is due after theirs.
    let other = setup.start();
    let user_code = begin(&mut other.modern(), GRACE);
    entra.approve_device(&user_code, GRACE);
    assert_eq!(ended(&mut other.modern(), GRACE)["authenticated"], true);
    assert_eq!(
        [in_flight, pending].map(|user_code| device(&entra, &user_code).polls),
        [1, 0]
    );
    assert_eq!(stored(&setup), [GRACE]);
}

// ---- Where there is no code to be had ----

#[test]
fn a_code_that_entra_refuses_is_not_asked_for_again_for_a_minute() {
    let world = world();
    let mut mcp = world.server.modern();
    world
        .entra
        .set(|settings| settings.client_id = OTHER_TENANT_ID.to_owned());
    for (later, asked) in [(0, 1), (0, 1), (50, 1), (10, 2), (50, 2)] {
        world.advance(later);
        for (tool, arguments) in [
            ("authenticate_user", json!({"user_id": ADA})),
            ("api_get_request", me()),
        ] {
            let refused = mcp.fails(tool, arguments);
            assert_eq!(
                (&refused["error"], &refused["aadsts"]),
                (&json!("configuration"), &json!(700_016)),
                "{refused}"
            );
            assert_eq!(world.entra.device_requests().len(), asked);
        }
    }
    world
        .entra
        .set(|settings| settings.client_id = CLIENT_ID.to_owned());
    assert!(
        mcp.ok(
            "authenticate_user",
            json!({"user_id": ADA, "method": "browser"})
        )
        .get("user_code")
        .is_none()
    );
    world.advance(60);
    begin(&mut mcp, ADA);
}

/// Whoever is asked for a sign-in, and by which call: the code would be the same (AADSTS50196).
#[test]
fn a_refused_code_is_not_asked_for_again_for_anybody_but_for_what_differs() {
    let oauth = Reply::of_json(
        400,
        &json!({"error": "unauthorized_client", "error_codes": [700_016]}),
    );
    let later = Reply::empty(503).with("Retry-After", "30");
    for (reply, seconds, another) in [(oauth, 60, 2), (later, 30, 1)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let authority = StandIn::serve(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Answer::from(reply.clone())
        });
        let setup = Setup::new(&Entra::start(), None)
            .with("SIGN_IN_METHOD", "device_code")
            .by_the_second();
        let server = setup.with("AZURE_AUTHORITY_HOST", &authority.url()).start();
        let mut mcp = server.modern();
        let mut fails = |arguments: Value, times: usize| {
            mcp.fails("authenticate_user", arguments);
            assert_eq!(asked.load(Ordering::SeqCst), times, "{seconds}");
        };
        fails(json!({"user_id": ADA}), 1);
        server.clock.advance(seconds - 1);
        fails(json!({"user_id": GRACE}), 1);
        server.clock.advance(1);
        fails(json!({"user_id": GRACE}), 2);
        // What Entra refuses for one thing it may grant for another, unless it is not to be had at all.
        fails(json!({"user_id": GRACE, "prompt": "login"}), 1 + another);
    }
}

#[test]
fn a_call_in_a_persons_name_asks_no_more_often_for_a_code_that_is_refused() {
    let world = world();
    let mut mcp = world.server.modern();
    let link = mcp.ok(
        "authenticate_user",
        json!({"user_id": "work", "method": "browser"}),
    );
    Browser::new().sign_in(&text(&link["sign_in_url"]), ADA);
    world.advance(4000);
    world.entra.revoke_all();
    // A code for it expires unused.
    assert!(mcp.fails("api_get_request", me())["user_code"].is_string());
    world.advance(901);
    world
        .entra
        .set(|settings| settings.client_id = OTHER_TENANT_ID.to_owned());
    for _ in 0..2 {
        assert_eq!(mcp.fails("api_get_request", me())["aadsts"], 700_016);
        assert_eq!(world.entra.device_requests().len(), 2);
    }
    // Entra gives a code to anybody alike.
    let other = mcp.fails("authenticate_user", json!({"user_id": "home"}));
    assert_eq!(other["aadsts"], 700_016);
    assert_eq!(world.entra.device_requests().len(), 2);
}

#[test]
fn an_answer_that_gives_no_code_is_reported_and_nothing_of_it_is_shown() {
    let good = json!({"user_code": "BCDF-GHJK", "device_code": "DC-x", "verification_uri": "https://evil.example/",
        "expires_in": 900, "interval": 1});
    let without = |name: &str, value: Value| {
        let mut answer = good.clone();
        answer[name] = value;
        Reply::of_json(200, &answer)
    };
    for (reply, seconds) in [
        (Reply::new(200, "text/html", "<h1>evil.example</h1>"), 5),
        (Reply::new(400, "text/html", "<h1>evil.example</h1>"), 5),
        (
            Reply::empty(302).with("Location", "https://evil.example/"),
            5,
        ),
        (
            Reply::new(503, "text/html", "evil.example").with("Retry-After", "30"),
            30,
        ),
        (
            without("verification_uri", json!("http://evil.example/")),
            5,
        ),
        (without("user_code", json!("Call evil.example")), 5),
        (without("device_code", json!("")), 5),
    ] {
        let what = reply.text();
        let authority = StandIn::serve(move |_| Answer::from(reply.clone()));
        let entra = Entra::start();
        let setup = Setup::new(&entra, None).with("SIGN_IN_METHOD", "device_code");
        let server = setup.with("AZURE_AUTHORITY_HOST", &authority.url()).start();
        let failure = server
            .modern()
            .fails("authenticate_user", json!({"user_id": ADA}));
        assert_eq!(
            (&failure["error"], &failure["retry_after_seconds"]),
            (&json!("retry_later"), &json!(seconds)),
            "{what}"
        );
        assert!(!failure.to_string().contains("evil.example"), "{failure}");
    }
}

// ---- With more than usual; without a secret shown ----

#[test]
fn a_code_brings_the_claims_that_the_api_demands() {
    let world = world();
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern();
    let link = mcp.ok(
        "authenticate_user",
        json!({"user_id": ADA, "method": "browser"}),
    );
    Browser::new().sign_in(link["sign_in_url"].as_str().unwrap(), ADA);
    let arguments = json!({"endpoint": "/cae", "user_id": ADA});
    let refused = mcp.fails("api_get_request", arguments.clone());
    world
        .entra
        .approve_device(&text(&refused["user_code"]), ADA);
    assert_eq!(
        world.entra.devices().remove(0).claims["access_token"]["acrs"],
        cae_claims()["access_token"]["acrs"]
    );
    assert_eq!(ended(&mut mcp, ADA)["authenticated"], true);
    let answer = mcp.ok("api_get_request", arguments);
    assert_eq!(answer["data"]["cae"], true);
}

#[test]
fn the_device_code_shows_in_no_answer_page_or_log() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None)
        .with("SIGN_IN_METHOD", "device_code")
        .with("LOG_LEVEL", "debug");
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let mut mcp = process.modern();
    let mut heard: Vec<String> = Vec::new();
    let mut asking = Mcp::modern(process.client(), Mcp::can_open_urls());
    for user_id in ["declined", "other", GRACE, ADA] {
        for mcp in [&mut mcp, &mut asking] {
            heard.push(
                mcp.send(
                    "tools/call",
                    json!({"name": "authenticate_user", "arguments": {"user_id": user_id}}),
                )
                .text(),
            );
        }
        let user_code = entra.devices().last().unwrap().user_code.clone();
        match user_id {
            "declined" => entra.decline_device(&user_code),
            _ => entra.approve_device(&user_code, ADA),
        }
    }
    for user_id in ["declined", "other", GRACE, ADA] {
        heard.push(ended(&mut mcp, user_id).to_string());
    }
    heard.extend(
        ["/", "/auth/status", "/auth/logout-complete"]
            .map(|path| process.client().get(path).text()),
    );
    heard.push(mcp.ok("view_userid", json!({})).to_string());
    heard.push(process.log());
    assert_eq!(
        entra
            .devices()
            .iter()
            .map(|device| device.polls)
            .collect::<Vec<_>>(),
        [1; 4]
    );
    let log = process.log();
    assert!(
        log.contains("device code") && log.contains(" debug "),
        "{log}"
    );
    for heard in heard {
        for mark in [DEVICE_CODE_MARK, ACCESS_TOKEN_MARK, REFRESH_TOKEN_MARK] {
            assert!(!heard.contains(mark), "{heard}");
        }
    }
}
