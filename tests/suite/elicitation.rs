//! A call that needs a sign-in asks for it as its client can: with a result that asks for input, with an error
//! that does, or with a link for the model to show.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra, GRACE, TokenFailure};
use crate::support::http::{Client, Event, EventReader, Reply};
use crate::support::mcp::{
    Answered, Era, InputRequired, Mcp, as_refs, elicitation_error, input_required,
};
use crate::support::schema::departures;
use crate::support::server::{Running, Setup, World};
use crate::support::{PATIENCE, value_of};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use entra_auth_mcp::http::Limits;
use serde_json::{Value, json};

const INVALID_PARAMS: i64 = -32602;
const PROMPTS: [&str; 3] = ["select_account", "login", "consent"];
/// The revisions before 2026-07-28.
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

fn world(change: impl FnOnce(Setup) -> Setup) -> World {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = change(Setup::new(&entra, Some(&backend)));
    World {
        server: setup.start(),
        setup,
        backend,
        entra,
    }
}

/// A call that waits does so for longer than the test runs, and shows that it does.
fn patient() -> World {
    world(|setup| {
        let setup = setup.with("SIGN_IN_WAIT_SECONDS", "600");
        setup.limits(show_at_once)
    })
}

/// The same, but nothing shows before a call has been silent for as long as it may.
fn patient_and_silent() -> World {
    world(|setup| setup.with("SIGN_IN_WAIT_SECONDS", "600"))
}

fn show_at_once(limits: &mut Limits) {
    limits.silence = Duration::from_millis(20);
    limits.keep_alive = Duration::from_millis(20);
}

/// No call waits.
fn impatient() -> World {
    world(|setup| setup.with("SIGN_IN_WAIT_SECONDS", "0"))
}

fn with_ada(world: World) -> World {
    world.server.modern().sign_in(ADA);
    world
}

/// A call of each tool that needs a sign-in.
fn calls() -> [(&'static str, Value); 6] {
    let (read, write) = (
        json!({"endpoint": "/echo"}),
        json!({"endpoint": "/echo", "data": {"n": 1}}),
    );
    [
        ("authenticate_user", json!({"user_id": ADA})),
        ("api_get_request", read.clone()),
        ("api_delete_request", read),
        ("api_post_request", write.clone()),
        ("api_put_request", write.clone()),
        ("api_patch_request", write),
    ]
}

fn me() -> Value {
    json!({"endpoint": "/me"})
}

/// Calls a tool that asks for a sign-in.
fn ask(mcp: &mut Mcp, tool: &str, arguments: &Value) -> InputRequired {
    input_required(&mcp.call(tool, arguments.clone()))
}

/// Calls again after a sign-in was `asked` for, and has nobody to wait for.
fn again(mcp: &mut Mcp, tool: &str, arguments: &Value, asked: &InputRequired) -> Answered {
    mcp.call_with(tool, arguments.clone(), asked.answered_with("accept"))
}

/// Calls again before the person has finished; the call waits by now.
fn wait(
    mcp: &mut Mcp,
    tool: &str,
    arguments: &Value,
    asked: &InputRequired,
) -> (Reply, EventReader) {
    let (head, mut events) = open(mcp, tool, arguments, asked);
    assert_eq!(
        (head.status, head.header("Content-Type")),
        (200, Some("text/event-stream")),
        "{tool}"
    );
    assert!(waits(&mut events), "{tool} does not wait");
    (head, events)
}

/// Calls again, and wants to know what the call waits for.
fn open(
    mcp: &mut Mcp,
    tool: &str,
    arguments: &Value,
    asked: &InputRequired,
) -> (Reply, EventReader) {
    let mut extra = asked.answered_with("accept");
    extra["_meta"] = json!({"progressToken": "token"});
    mcp.open_call(tool, arguments.clone(), extra)
}

/// Whether the call waits for the sign-in, as its progress says before it has ended.
fn waits(events: &mut EventReader) -> bool {
    let says_so =
        |message: &Value| message["params"]["message"] == "Waiting for the user to sign in";
    std::iter::from_fn(|| events.next_json()).any(|message| says_so(&message))
}

/// The structured content of a tool result, which is what the tool promises.
fn content(server: &Running, tool: &str, answered: &Answered) -> Value {
    assert_eq!(
        (answered.status, &answered.response["error"]),
        (200, &Value::Null)
    );
    let result = &answered.response["result"];
    assert!(
        matches!(result["resultType"].as_str(), Some("complete") | None),
        "{result}"
    );
    let structured = &result["structuredContent"];
    assert_eq!(
        result["isError"],
        structured["success"] == false,
        "{result}"
    );
    let tools = server.modern().result("tools/list", json!({}));
    let definition = tools["tools"]
        .as_array()
        .unwrap()
        .iter()
        .find(|known| known["name"] == tool)
        .unwrap();
    assert_eq!(
        departures(&definition["outputSchema"], structured, tool),
        [""; 0],
        "{structured}"
    );
    structured.clone()
}

/// Holds `answered` to be what the call gives to whoever is signed in, with one request of the backend.
fn assert_done(world: &World, tool: &str, answered: &Answered) {
    let done = content(&world.server, tool, answered);
    let is_call = tool.starts_with("api_");
    assert_eq!(done["success"], true, "{tool}: {done}");
    assert_eq!(
        done[if is_call {
            "status"
        } else {
            "already_signed_in"
        }],
        if is_call { json!(200) } else { json!(true) }
    );
    assert_eq!(
        world.backend.requests().len(),
        usize::from(is_call),
        "{tool}"
    );
}

/// The message of a JSON-RPC error in a legible HTTP answer.
fn invalid_params(reply: &Reply) -> String {
    let response = reply.json();
    assert_eq!(
        (reply.status, &response["error"]["code"]),
        (200, &json!(INVALID_PARAMS)),
        "{response}"
    );
    assert_eq!(response.get("result"), None);
    response["error"]["message"].as_str().unwrap().to_owned()
}

fn call_params(tool: &str, arguments: &Value, extra: &Value) -> Value {
    let mut params = json!({"name": tool, "arguments": arguments});
    params
        .as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    params
}

fn opens(link: &str) -> bool {
    Browser::new().navigate(link).status == 200
}

// ---- Asking (MCP 2026-07-28) ----

#[test]
fn each_call_without_a_sign_in_asks_for_one_at_our_address() {
    let world = impatient();
    let mut mcp = world.server.modern_url();
    for (tool, arguments) in calls() {
        let asked = ask(&mut mcp, tool, &arguments);
        let ticket = asked
            .url
            .strip_prefix(&format!("{}/auth/login?ticket=", world.server.url()))
            .unwrap();
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.decode(ticket).unwrap().len(),
            32,
            "{tool}: {ticket}"
        );
        let account = if tool == "authenticate_user" {
            ADA
        } else {
            "default"
        };
        let message = &asked.message;
        assert!(
            message.contains(account) && message.contains(&world.backend.url()),
            "{tool}: {message}"
        );
    }
    assert!(world.backend.requests().is_empty());
}

#[test]
fn whose_sign_in_has_ended_is_asked_by_name() {
    let world = impatient();
    let mut plain = world.server.modern();
    let begun = plain.ok("authenticate_user", json!({"user_id": "work"}));
    Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    world.entra.revoke_all();
    world.advance(4000);
    for (tool, arguments) in calls().into_iter().skip(1) {
        let asked = ask(&mut world.server.modern_url(), tool, &arguments);
        let names =
            [ADA, "\"work\""].map(|name| asked.message.contains(name) && !asked.url.contains(name));
        assert_eq!(names, [true; 2], "{tool}: {asked:?}");
    }
    assert!(world.backend.requests().is_empty());
}

#[test]
fn a_call_that_no_sign_in_would_mend_asks_for_none() {
    let world = patient();
    let endpoint = |endpoint: &str| json!({"endpoint": endpoint});
    for mut mcp in [
        world.server.modern_url(),
        world.server.legacy_url("2025-11-25"),
    ] {
        for (tool, arguments) in [
            ("api_get_request", endpoint("/../admin")),
            (
                "api_get_request",
                json!({"endpoint": "/me", "headers": {"Authorization": "x"}}),
            ),
            (
                "api_get_request",
                json!({"endpoint": "/me", "user_id": "a\u{7}b"}),
            ),
            (
                "api_post_request",
                json!({"endpoint": "/me", "data": 1, "headers": {"Content-Type": "text/plain"}}),
            ),
            ("authenticate_user", json!({})),
            ("authenticate_user", json!({"user_id": " "})),
        ] {
            assert_eq!(
                mcp.fails(tool, arguments)["error"],
                "invalid_request",
                "{tool}"
            );
        }
        assert_eq!(
            mcp.ok("check_auth_status", json!({}))["pending_sign_in"],
            false
        );
    }
    world.server.modern().sign_in(ADA);
    world.server.modern().sign_in(GRACE);
    assert_eq!(
        world.server.modern_url().fails("api_get_request", me())["error"],
        "invalid_request"
    );
    assert!(world.backend.requests().is_empty());
}

#[test]
fn nothing_secret_stands_where_people_and_programs_read() {
    let world = impatient();
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_get_request", &me());
    let payload = asked.state.split('.').next().unwrap();
    let payload = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let [handle, user_id, expires_at] = serde_json::from_str::<[Value; 3]>(&payload).unwrap();
    assert_eq!(
        (handle.is_string(), user_id, expires_at.is_u64()),
        (true, json!("default"), true),
        "{payload}"
    );

    let mut browser = Browser::new();
    browser.navigate(&asked.url);
    let sent = world.entra.last_authorize();
    let secrets =
        ["state", "nonce", "code_challenge"].map(|name| value_of(&sent, name).unwrap().to_owned());
    let ticket = asked.url.rsplit('=').next().unwrap().to_owned();
    assert!(browser.cookies.len() == 1 && !ticket.is_empty());
    for secret in secrets
        .iter()
        .chain(browser.cookies.iter().map(|cookie| &cookie.value))
    {
        assert!(
            ![&asked.url, &asked.message, &payload, &asked.state]
                .iter()
                .any(|text| text.contains(secret))
        );
    }
    assert!(
        ![&asked.message, &payload, &asked.state]
            .iter()
            .any(|text| text.contains(&ticket))
    );
    // The name of the sign-in opens nothing.
    let handle = handle.as_str().unwrap();
    for path in ["login?ticket", "complete?sign_in"] {
        assert_eq!(
            world
                .server
                .client()
                .get(&format!("/auth/{path}={handle}"))
                .status,
            400,
            "{path}"
        );
    }
}

// ---- Calling again ----

#[test]
fn the_call_that_comes_back_signed_in_goes_through_at_once() {
    for (tool, arguments) in calls() {
        for action in ["accept", ""] {
            let world = patient_and_silent();
            let mut mcp = world.server.modern_url();
            let asked = ask(&mut mcp, tool, &arguments);
            assert_eq!(Browser::new().sign_in(&asked.url, ADA).status, 200);
            let mut extra = asked.answered_with(action);
            match action {
                // Whoever is signed in need not have said that they would.
                "" => extra["inputResponses"] = json!({}),
                _ => extra["inputResponses"]["other"] = json!(["of", "no", "concern"]),
            }
            let answered = mcp.call_with(tool, arguments.clone(), extra);
            assert!(!answered.is_stream, "{tool}");
            assert_done(&world, tool, &answered);
        }
    }
}

#[test]
fn the_call_that_comes_back_early_waits_for_the_sign_in() {
    for (tool, arguments) in calls() {
        let world = patient();
        let mut mcp = world.server.modern_url();
        let asked = ask(&mut mcp, tool, &arguments);
        let (head, events) = wait(&mut mcp, tool, &arguments, &asked);
        Browser::new().sign_in(&asked.url, ADA);
        assert_done(&world, tool, &Answered::read(&head, events));
    }
}

/// In an event, each line of the data is a field of its own (HTML Living Standard §9.2.6).
#[test]
fn an_answer_in_lines_arrives_on_a_stream_as_it_is() {
    let world = patient();
    world
        .backend
        .on(|_| Some(Reply::new(200, "application/json", "{\n \"a\":\r\n [1,\r2]\n}\n").into()));
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_get_request", &me());
    let (head, events) = wait(&mut mcp, "api_get_request", &me(), &asked);
    Browser::new().sign_in(&asked.url, ADA);
    let done = content(
        &world.server,
        "api_get_request",
        &Answered::read(&head, events),
    );
    assert_eq!(done["data"], json!({"a": [1, 2]}));
}

#[test]
fn a_client_that_wants_progress_gets_it_while_it_waits() {
    for token in [json!("token"), json!(7)] {
        let world = patient();
        let mut mcp = world.server.modern_url();
        let asked = ask(&mut mcp, "api_get_request", &me());
        let mut extra = asked.answered_with("accept");
        extra["_meta"] = json!({"progressToken": token});
        let (head, mut events) = mcp.open_call("api_get_request", me(), extra);
        for progress in 1..=2 {
            let message = events.next_json().unwrap();
            assert_eq!(message["method"], "notifications/progress", "{message}");
            assert_eq!(
                (
                    &message["params"]["progressToken"],
                    &message["params"]["progress"]
                ),
                (&token, &json!(progress))
            );
        }
        Browser::new().sign_in(&asked.url, ADA);
        let answered = Answered::read(&head, events);
        assert!(!answered.had_keep_alive);
        assert_done(&world, "api_get_request", &answered);
    }
}

#[test]
fn a_wait_that_was_in_vain_asks_again() {
    for (seconds, count) in [("0", 6), ("1", 1)] {
        let world = world(|setup| {
            let setup = setup.with("SIGN_IN_WAIT_SECONDS", seconds);
            match seconds {
                "0" => setup,
                _ => setup.limits(show_at_once),
            }
        });
        let mut mcp = world.server.modern_url();
        for (tool, arguments) in calls().into_iter().take(count) {
            let asked = ask(&mut mcp, tool, &arguments);
            let answered = again(&mut mcp, tool, &arguments, &asked);
            assert_eq!(
                (answered.is_stream, answered.had_keep_alive),
                (seconds != "0", seconds != "0"),
                "{tool}"
            );
            // It is still the same link.
            assert_eq!(input_required(&answered.response).url, asked.url, "{tool}");
        }
        assert!(world.backend.requests().is_empty());
    }
}

#[test]
fn a_sign_in_that_runs_out_of_time_while_a_call_waits_is_asked_for_again() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    for (tool, arguments) in calls() {
        let asked = ask(&mut mcp, tool, &arguments);
        let (head, events) = wait(&mut mcp, tool, &arguments, &asked);
        world.advance(601);
        let next = input_required(&Answered::read(&head, events).response);
        assert!(
            next.url != asked.url && !opens(&asked.url) && opens(&next.url),
            "{tool}"
        );
    }
}

#[test]
fn a_call_that_waits_when_the_server_stops_is_answered() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_get_request", &me());
    let (head, events) = wait(&mut mcp, "api_get_request", &me(), &asked);
    thread::scope(|scope| {
        scope.spawn(|| world.server.server.stop());
        input_required(&Answered::read(&head, events).response);
    });
}

/// What goes wrong with a sign-in.
type Mishap = fn(&World, &str);

fn declined(_: &World, link: &str) {
    Browser::new().decline(link);
}

fn refused_by_policy(world: &World, link: &str) {
    world.entra.set(|settings| {
        settings.fail_authorize = Some(("access_denied", 53003, "Blocked by policy."));
    });
    Browser::new().sign_in(link, ADA);
}

fn of_another_person(_: &World, link: &str) {
    Browser::new().sign_in(link, GRACE);
}

fn of_no_registered_client(world: &World, link: &str) {
    let (error, aadsts) = ("invalid_client", 7_000_218);
    world.entra.fail_next_token(TokenFailure::Oauth {
        error,
        aadsts,
        suberror: None,
        claims: None,
    });
    Browser::new().sign_in(link, ADA);
}

fn to_be_done_anew(world: &World, link: &str) {
    world.entra.set(|settings| {
        settings.fail_authorize = Some(("login_required", 50058, "Nobody is signed in."));
    });
    Browser::new().sign_in(link, ADA);
}

#[test]
fn a_sign_in_that_fails_answers_the_call_that_waits_with_the_failure() {
    let mishaps: [(Mishap, &str, &str); 4] = [
        (declined, "refused", "65004"),
        (refused_by_policy, "refused", "53003"),
        (of_another_person, "refused", GRACE),
        (of_no_registered_client, "configuration", "7000218"),
    ];
    for (mishap, error, detail) in mishaps {
        for (tool, arguments) in [
            ("authenticate_user", json!({"user_id": ADA})),
            (
                "authenticate_user",
                json!({"user_id": ADA, "prompt": "login"}),
            ),
            (
                "api_post_request",
                json!({"endpoint": "/echo", "user_id": ADA, "data": 1}),
            ),
        ] {
            let world = patient();
            let mut mcp = world.server.modern_url();
            let asked = ask(&mut mcp, tool, &arguments);
            let (head, events) = wait(&mut mcp, tool, &arguments, &asked);
            mishap(&world, &asked.url);
            let waited = Answered::read(&head, events);
            // Whoever comes back later hears the same.
            for answered in [waited, again(&mut mcp, tool, &arguments, &asked)] {
                let failure = content(&world.server, tool, &answered);
                assert_eq!(
                    (&failure["success"], &failure["error"]),
                    (&json!(false), &json!(error)),
                    "{failure}"
                );
                assert!(failure.to_string().contains(detail), "{tool}: {failure}");
            }
            assert!(world.backend.requests().is_empty());
            // A call from the beginning asks, and says what went wrong before.
            let next = ask(&mut mcp, tool, &arguments);
            assert!(
                next.message.contains("The last attempt failed") && next.message.contains(detail),
                "{next:?}"
            );
        }
    }
}

#[test]
fn a_sign_in_that_is_to_be_done_anew_is_asked_for_anew() {
    for (tool, arguments) in calls() {
        let world = patient();
        let mut mcp = world.server.modern_url();
        let asked = ask(&mut mcp, tool, &arguments);
        let (head, events) = wait(&mut mcp, tool, &arguments, &asked);
        to_be_done_anew(&world, &asked.url);
        let next = input_required(&Answered::read(&head, events).response);
        assert!(
            next.url != asked.url && next.message.contains("50058"),
            "{tool}: {next:?}"
        );
        world.entra.set(|settings| settings.fail_authorize = None);
        Browser::new().sign_in(&next.url, ADA);
        assert_done(&world, tool, &again(&mut mcp, tool, &arguments, &next));
    }
}

// CASES A15
#[test]
fn who_does_not_want_to_sign_in_is_left_alone() {
    for (action, words) in [
        ("decline", "has declined to sign in"),
        ("cancel", "has not decided to sign in"),
    ] {
        for (tool, arguments) in calls() {
            let world = patient_and_silent();
            let mut mcp = world.server.modern_url();
            let asked = ask(&mut mcp, tool, &arguments);
            let answered = mcp.call_with(tool, arguments.clone(), asked.answered_with(action));
            assert!(!answered.is_stream);
            let refused = content(&world.server, tool, &answered);
            assert_eq!(
                (&refused["success"], &refused["error"]),
                (&json!(false), &json!("refused")),
                "{refused}"
            );
            assert!(
                refused["message"].as_str().unwrap().contains(words),
                "{refused}"
            );
            // A client without a person says so at once, and somebody reads this in its log.
            let hint = refused["hint"].as_str().unwrap();
            let start_page = format!("{}/ ", world.server.url());
            assert!(
                hint.contains(&start_page) && hint.contains("entra-auth-mcp login"),
                "{hint}"
            );
            assert!(!opens(&asked.url), "{tool}");
            assert_eq!(
                mcp.ok("check_auth_status", json!({}))["pending_sign_in"],
                false
            );
            assert!(world.backend.requests().is_empty());
            assert_ne!(ask(&mut mcp, tool, &arguments).url, asked.url);
        }
    }
}

#[test]
fn a_sign_in_that_is_declined_takes_no_other_with_it() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    let others = ask(&mut mcp, "authenticate_user", &json!({"user_id": "other"}));
    let asked = ask(&mut mcp, "api_get_request", &me());
    mcp.call_with("api_get_request", me(), asked.answered_with("decline"));
    assert!(!opens(&asked.url) && opens(&others.url));
}

#[test]
fn a_sign_in_that_was_given_up_elsewhere_is_asked_for_again_at_once() {
    let world = patient_and_silent();
    let mut clients = [world.server.modern_url(), world.server.modern_url()];
    let [asked, same] = clients
        .each_mut()
        .map(|mcp| ask(mcp, "api_get_request", &me()));
    assert_eq!(asked.url, same.url);
    let [one, other] = &mut clients;
    one.call_with("api_get_request", me(), asked.answered_with("decline"));
    // There is another one by now, which nobody waits for here.
    let next = ask(one, "api_get_request", &me());
    let answered = again(other, "api_get_request", &me(), &same);
    assert_eq!(
        (answered.is_stream, input_required(&answered.response).url),
        (false, next.url)
    );
}

#[test]
fn a_missing_response_is_asked_for_again() {
    let world = patient_and_silent();
    let mut mcp = world.server.modern_url();
    for (tool, arguments) in calls() {
        let asked = ask(&mut mcp, tool, &arguments);
        let state = &asked.state;
        for extra in [
            json!({"requestState": state}),
            json!({"requestState": state, "inputResponses": null}),
            json!({"requestState": state, "inputResponses": {}}),
            json!({"requestState": state, "inputResponses": {"other": {"action": "decline"}}}),
            // Without the state it is a first call, whatever else comes with it.
            json!({"inputResponses": {&asked.key: {"action": "decline"}}}),
            json!({"inputResponses": 7}),
            json!({"requestState": null}),
        ] {
            let answered = mcp.call_with(tool, arguments.clone(), extra.clone());
            assert!(!answered.is_stream, "{extra}");
            assert_eq!(input_required(&answered.response).url, asked.url, "{extra}");
        }
    }
}

#[test]
fn what_is_no_response_is_refused_and_changes_nothing() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_get_request", &me());
    let of_action = |action: Value| json!({&asked.key: {"action": action}});
    for responses in [
        json!([]),
        json!("accept"),
        json!(7),
        json!({&asked.key: null}),
        json!({&asked.key: []}),
        json!({&asked.key: "accept"}),
        json!({&asked.key: {}}),
        json!({&asked.key: {"content": {"action": "accept"}}}),
        of_action(json!(null)),
        of_action(json!("")),
        of_action(json!("Accept")),
        of_action(json!("accept ")),
        of_action(json!(1)),
        of_action(json!(["accept"])),
    ] {
        let extra = json!({"requestState": asked.state, "inputResponses": responses});
        let message =
            invalid_params(&mcp.send("tools/call", call_params("api_get_request", &me(), &extra)));
        assert!(message.contains("inputResponses"), "{responses}: {message}");
    }
    Browser::new().sign_in(&asked.url, ADA);
    assert_done(
        &world,
        "api_get_request",
        &again(&mut mcp, "api_get_request", &me(), &asked),
    );
}

#[test]
fn what_the_api_demands_beyond_a_sign_in_is_asked_for_in_the_same_way() {
    let arguments = json!({"endpoint": "/cae"});
    let world = with_ada(patient());
    world.entra.require_interaction_for_claims(true);
    let mut mcp = world.server.modern_url();
    // Who does not want that can go on as before.
    let asked = ask(&mut mcp, "api_get_request", &arguments);
    let declined = mcp.call_with(
        "api_get_request",
        arguments.clone(),
        asked.answered_with("decline"),
    );
    assert_eq!(
        content(&world.server, "api_get_request", &declined)["error"],
        "refused"
    );
    assert_eq!(
        mcp.ok("check_auth_status", json!({"user_id": ADA}))["authenticated"],
        true
    );
    mcp.ok("api_get_request", me());

    let asked = ask(&mut mcp, "api_get_request", &arguments);
    let (head, events) = wait(&mut mcp, "api_get_request", &arguments, &asked);
    Browser::new().decline(&asked.url);
    let failure = content(
        &world.server,
        "api_get_request",
        &Answered::read(&head, events),
    );
    assert_eq!(failure["aadsts"], 65004, "{failure}");

    let asked = ask(&mut mcp, "api_get_request", &arguments);
    let (head, events) = wait(&mut mcp, "api_get_request", &arguments, &asked);
    Browser::new().sign_in(&asked.url, ADA);
    assert!(
        world
            .entra
            .last_authorize()
            .iter()
            .any(|(_, value)| value.contains("c1"))
    );
    let done = content(
        &world.server,
        "api_get_request",
        &Answered::read(&head, events),
    );
    assert_eq!(done["status"], 200, "{done}");
}

// ---- requestState ----

/// A client for which `asked` was signed in to: whatever state is taken calls the backend.
fn signed_in_by_asking(world: &World, arguments: &Value) -> (Mcp, InputRequired) {
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_post_request", arguments);
    Browser::new().sign_in(&asked.url, ADA);
    (mcp, asked)
}

fn assert_state_is_refused(mcp: &mut Mcp, tool: &str, arguments: &Value, state: &str) {
    let extra = json!({"requestState": state, "inputResponses": {"sign_in": {"action": "accept"}}});
    let message = invalid_params(&mcp.send("tools/call", call_params(tool, arguments, &extra)));
    assert!(
        message.contains("Make the call again without it"),
        "{state}: {message}"
    );
}

#[test]
fn state_that_was_changed_in_any_place_is_refused() {
    let world = patient();
    let arguments = json!({"endpoint": "/echo", "data": 1});
    let (mut mcp, asked) = signed_in_by_asking(&world, &arguments);
    let state = &asked.state;
    let bytes = state.as_bytes();
    let mut changed: Vec<String> = (0..state.len())
        .map(|end| state[..end].to_owned())
        .collect();
    for at in 0..bytes.len() {
        let flipped = (0..7).map(|bit| bytes[at] ^ (1 << bit));
        changed.extend(
            flipped.map(|byte| format!("{}{}{}", &state[..at], char::from(byte), &state[at + 1..])),
        );
    }
    let (payload, code) = state.split_once('.').unwrap();
    changed.extend(["A", "=", "==", ".", ".A", " ", "\n", "\0"].map(|end| format!("{state}{end}")));
    changed.extend([" ", ".", "A"].map(|start| format!("{start}{state}")));
    changed.extend([
        format!("{payload}..{code}"),
        format!("{code}.{payload}"),
        format!(".{code}"),
        ".".to_owned(),
    ]);
    for changed in &changed {
        assert_state_is_refused(&mut mcp, "api_post_request", &arguments, changed);
    }
    assert!(world.backend.requests().is_empty());
    assert_done(
        &world,
        "api_post_request",
        &again(&mut mcp, "api_post_request", &arguments, &asked),
    );
}

#[test]
fn state_of_another_call_is_refused() {
    let world = patient();
    let arguments = json!({"endpoint": "/echo", "user_id": ADA, "data": {"a": [1, 2], "b": "x"}});
    let (mut mcp, asked) = signed_in_by_asking(&world, &arguments);
    assert_state_is_refused(&mut mcp, "api_put_request", &arguments, &asked.state);
    assert_state_is_refused(
        &mut mcp,
        "authenticate_user",
        &json!({"user_id": ADA}),
        &asked.state,
    );
    let others = [
        ("endpoint", json!("/echo/")),
        ("user_id", json!(GRACE)),
        ("user_id", json!(ADA.to_uppercase())),
        ("user_id", Value::Null),
        ("data", json!({"a": [2, 1], "b": "x"})),
        ("data", json!({"a": [1, 2], "b": "y"})),
        ("data", json!({"a": [1, 2], "b": "x", "c": null})),
        ("headers", json!({})),
        ("unknown", json!(1)),
    ];
    for (name, value) in others {
        let mut other = arguments.clone();
        match value {
            Value::Null => drop(other.as_object_mut().unwrap().remove(name)),
            value => other[name] = value,
        }
        assert_state_is_refused(&mut mcp, "api_post_request", &other, &asked.state);
    }
    assert!(world.backend.requests().is_empty());
    assert_done(
        &world,
        "api_post_request",
        &again(&mut mcp, "api_post_request", &arguments, &asked),
    );
}

#[test]
fn state_is_for_the_very_numbers_however_large_they_are() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    for (number, other) in [
        ("36893488147419103232", "36893488147419103233"),
        ("0.1", "0.10000000000000000001"),
    ] {
        let mut send = |number: &str, extra: &Value| {
            let params = call_params(
                "api_post_request",
                &json!({"endpoint": "/echo", "data": "?"}),
                extra,
            );
            let headers = mcp.headers("tools/call", Some("api_post_request"));
            let body = mcp.body("tools/call", params).replace("\"?\"", number);
            world
                .server
                .client()
                .request("POST", "/mcp", &as_refs(&headers), body.as_bytes())
        };
        let asked = input_required(&send(number, &json!({})).json()["result"]);
        let declined = asked.answered_with("decline");
        invalid_params(&send(other, &declined));
        assert_eq!(
            send(number, &declined).json()["result"]["structuredContent"]["error"],
            "refused"
        );
    }
}

#[test]
fn state_of_before_a_restart_is_refused() {
    let world = patient();
    let arguments = json!({"endpoint": "/echo", "data": 1});
    let (_, asked) = signed_in_by_asking(&world, &arguments);
    // Ada is still signed in after a restart.
    let world = world.restarted();
    assert_state_is_refused(
        &mut world.server.modern_url(),
        "api_post_request",
        &arguments,
        &asked.state,
    );
    assert!(world.backend.requests().is_empty());
    world.server.modern().ok("api_post_request", arguments);
}

#[test]
fn state_that_has_expired_is_refused() {
    let world = patient();
    let arguments = json!({"endpoint": "/echo", "data": 1});
    let (mut mcp, asked) = signed_in_by_asking(&world, &arguments);
    world.advance(590);
    let early = again(&mut mcp, "api_post_request", &arguments, &asked);
    assert_done(&world, "api_post_request", &early);
    world.advance(11);
    assert_state_is_refused(&mut mcp, "api_post_request", &arguments, &asked.state);
    assert_eq!(world.backend.requests().len(), 1);
}

#[test]
fn state_that_is_no_string_is_refused() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    for state in [json!(7), json!(true), json!([]), json!({}), json!(["x"])] {
        for (tool, arguments) in calls() {
            let params = call_params(tool, &arguments, &json!({"requestState": state}));
            let message = invalid_params(&mcp.send("tools/call", params));
            assert!(message.contains("must be a string"), "{message}");
        }
    }
    assert!(world.backend.requests().is_empty());
}

#[test]
fn neither_the_order_of_the_arguments_nor_white_space_matters_to_the_state() {
    let world = patient();
    let written = r#"{"data":{"a":1,"b":[2,{"c":3,"d":4}]},"endpoint":"/echo"}"#;
    let (mut mcp, asked) = signed_in_by_asking(&world, &serde_json::from_str(written).unwrap());
    let other = "{ \"endpoint\" :\t\"\\u002fecho\",\n \"data\": {\"b\": [2, {\"d\":4, \"c\" : 3}], \"\\u0061\": 1} }";
    let params = call_params(
        "api_post_request",
        &serde_json::from_str(written).unwrap(),
        &asked.answered_with("accept"),
    );
    let headers = mcp.headers("tools/call", Some("api_post_request"));
    let body = mcp.body("tools/call", params);
    assert!(body.contains(written));
    let body = body.replace(written, other);
    let reply = mcp
        .http
        .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
    assert_eq!(
        reply.json()["result"]["structuredContent"]["success"],
        true,
        "{}",
        reply.text()
    );
    // And the backend gets the data as they were written.
    let sent = String::from_utf8(world.backend.last().body).unwrap();
    assert_eq!(sent, "{\"b\": [2, {\"d\":4, \"c\" : 3}], \"\\u0061\": 1}");
}

#[test]
fn state_is_verified_whatever_the_client_declares() {
    let world = impatient();
    let asked = ask(&mut world.server.modern_url(), "api_get_request", &me());
    let mut plain = world.server.modern();
    assert_state_is_refused(
        &mut plain,
        "api_get_request",
        &me(),
        &format!("{}A", asked.state),
    );
    assert_state_is_refused(
        &mut plain,
        "api_get_request",
        &json!({"endpoint": "/echo"}),
        &asked.state,
    );
    // It cannot be asked; it is told the link.
    let told = content(
        &world.server,
        "api_get_request",
        &again(&mut plain, "api_get_request", &me(), &asked),
    );
    assert_eq!(
        (&told["error"], &told["sign_in_url"]),
        (&json!("sign_in_required"), &json!(asked.url))
    );
    Browser::new().sign_in(&asked.url, ADA);
    assert_done(
        &world,
        "api_get_request",
        &again(&mut plain, "api_get_request", &me(), &asked),
    );
}

// ---- Two accounts, two links ----

#[test]
fn the_call_is_made_as_the_account_that_was_asked() {
    let world = patient();
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "api_get_request", &me());
    world.server.modern().sign_in(GRACE);
    let state = json!({"requestState": asked.state});
    let still = input_required(&mcp.call_with("api_get_request", me(), state).response);
    assert_eq!(
        (&still.url, still.message.contains("default")),
        (&asked.url, true),
        "{still:?}"
    );
    let (head, events) = wait(&mut mcp, "api_get_request", &me(), &asked);
    assert!(world.backend.requests().is_empty());
    Browser::new().sign_in(&asked.url, ADA);
    let answered = Answered::read(&head, events);
    assert_done(&world, "api_get_request", &answered);
    assert_eq!(
        content(&world.server, "api_get_request", &answered)["data"]["userPrincipalName"],
        ADA
    );
}

#[test]
fn a_sign_in_with_another_link_of_the_same_account_will_do() {
    for (tool, mut arguments) in calls() {
        for was_declined in [false, true] {
            arguments["user_id"] = json!(ADA);
            let world = patient();
            let mut mcp = world.server.modern_url();
            let asked = ask(&mut mcp, tool, &arguments);
            let answered = if was_declined {
                // A sign-in that failed does not stand in the way of one that did not.
                Browser::new().decline(&asked.url);
                world.server.modern().sign_in(ADA);
                again(&mut mcp, tool, &arguments, &asked)
            } else {
                assert!(opens(&asked.url));
                let (head, events) = wait(&mut mcp, tool, &arguments, &asked);
                world.server.modern().sign_in(ADA);
                Answered::read(&head, events)
            };
            assert_done(&world, tool, &answered);
        }
    }
}

// ---- authenticate_user with a prompt ----

fn prompted(prompt: &str) -> Value {
    json!({"user_id": ADA, "prompt": prompt})
}

fn assert_prompted(world: &World, prompt: &str) {
    assert_eq!(
        value_of(&world.entra.last_authorize(), "prompt"),
        Some(prompt)
    );
}

#[test]
fn a_prompt_asks_people_who_are_signed_in_and_counts_once() {
    for prompt in PROMPTS {
        for is_early in [false, true] {
            let world = with_ada(patient());
            let mut mcp = world.server.modern_url();
            let asked = ask(&mut mcp, "authenticate_user", &prompted(prompt));
            let unanswered = json!({"requestState": asked.state});
            let still = input_required(
                &mcp.call_with("authenticate_user", prompted(prompt), unanswered)
                    .response,
            );
            assert_eq!(still.url, asked.url);
            let answered = if is_early {
                let (head, events) = wait(&mut mcp, "authenticate_user", &prompted(prompt), &asked);
                Browser::new().sign_in(&asked.url, ADA);
                Answered::read(&head, events)
            } else {
                Browser::new().sign_in(&asked.url, ADA);
                again(&mut mcp, "authenticate_user", &prompted(prompt), &asked)
            };
            assert_done(&world, "authenticate_user", &answered);
            assert_prompted(&world, prompt);
            let next = ask(&mut mcp, "authenticate_user", &prompted(prompt));
            assert!(next.url != asked.url && opens(&next.url));
            mcp.ok("api_get_request", me());
        }
    }
}

#[test]
fn a_prompt_that_nobody_came_back_from_does_not_answer_the_next() {
    let world = with_ada(patient());
    let mut mcp = world.server.modern_url();
    let asked = ask(&mut mcp, "authenticate_user", &prompted("login"));
    Browser::new().sign_in(&asked.url, ADA);
    let next = ask(&mut mcp, "authenticate_user", &prompted("login"));
    assert!(next.url != asked.url && opens(&next.url));
}

// CASES A12: a client of 2026-07-28 shows its dialog only for a request that has an id.
#[test]
fn an_elicitation_of_either_revision_has_the_id_of_its_sign_in() {
    let world = World::new();
    let mut modern = world.server.modern_url();
    let asked = ask(&mut modern, "api_get_request", &me());
    let repeated = ask(&mut modern, "api_get_request", &me());
    assert_eq!(repeated.elicitation_id, asked.elicitation_id);

    let mut legacy = world.server.legacy_url("2025-11-25");
    let refused = legacy.call_with("api_get_request", me(), json!({}));
    let (_, _, id) = elicitation_error(&refused.response);
    assert_eq!(id, asked.elicitation_id);

    let of_grace = json!({"endpoint": "/me", "user_id": GRACE});
    let other = ask(&mut modern, "api_get_request", &of_grace);
    assert_ne!(other.elicitation_id, asked.elicitation_id);
}

#[test]
fn a_prompt_of_a_client_that_repeats_the_call_counts_once() {
    for prompt in PROMPTS {
        let world = with_ada(patient());
        let mut mcp = world.server.legacy_url("2025-11-25");
        let call = |mcp: &mut Mcp| mcp.call_with("authenticate_user", prompted(prompt), json!({}));
        let (url, _, id) = elicitation_error(&call(&mut mcp).response);
        assert_eq!(
            elicitation_error(&call(&mut mcp).response).2,
            id,
            "it was not done yet"
        );
        Browser::new().sign_in(&url, ADA);
        assert_prompted(&world, prompt);
        assert_done(&world, "authenticate_user", &call(&mut mcp));
        assert_ne!(elicitation_error(&call(&mut mcp).response).0, url);
    }
}

#[test]
fn a_prompt_counts_also_where_the_api_wanted_more() {
    let mut clients: [fn(&World) -> Mcp; 2] = [
        |world| world.server.modern_url(),
        |world| world.server.legacy_url("2025-11-25"),
    ];
    for client in &mut clients {
        let world = with_ada(patient());
        world.entra.require_interaction_for_claims(true);
        let mut mcp = client(&world);
        mcp.call_with("api_get_request", json!({"endpoint": "/cae"}), json!({}));
        let asked = mcp.call_with("authenticate_user", prompted("login"), json!({}));
        let (url, extra) = if matches!(mcp.era, Era::Modern) {
            let asked = input_required(&asked.response);
            (asked.url.clone(), asked.answered_with("accept"))
        } else {
            (elicitation_error(&asked.response).0, json!({}))
        };
        Browser::new().sign_in(&url, ADA);
        let answered = mcp.call_with("authenticate_user", prompted("login"), extra);
        assert_eq!(
            content(&world.server, "authenticate_user", &answered)["already_signed_in"],
            true
        );
    }
}

#[test]
fn a_client_that_shows_links_gets_one_for_a_prompt_though_signed_in() {
    for prompt in PROMPTS {
        let world = with_ada(patient());
        let begun = world
            .server
            .modern()
            .ok("authenticate_user", prompted(prompt));
        assert_eq!(begun["already_signed_in"], false);
        Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
        assert_prompted(&world, prompt);
    }
}

#[test]
fn a_prompt_that_is_none_is_an_invalid_request() {
    let world = patient();
    for mut mcp in [
        world.server.modern_url(),
        world.server.modern(),
        world.server.legacy_url("2025-11-25"),
    ] {
        for prompt in [
            json!("none"),
            json!("create"),
            json!("Login"),
            json!(7),
            json!(["login"]),
        ] {
            let refused = mcp.fails(
                "authenticate_user",
                json!({"user_id": ADA, "prompt": prompt}),
            );
            assert_eq!(refused["error"], "invalid_request", "{prompt}");
        }
        assert_eq!(
            mcp.ok("check_auth_status", json!({}))["pending_sign_in"],
            false
        );
    }
}

// ---- Asking with an error (MCP 2025-11-25) ----

#[test]
fn a_client_of_2025_11_25_that_opens_urls_is_asked_with_an_error() {
    for (tool, arguments) in calls() {
        let world = patient_and_silent();
        let mut mcp = world.server.legacy_url("2025-11-25");
        let asked = mcp.send("tools/call", json!({"name": tool, "arguments": arguments}));
        assert_eq!(asked.status, 200);
        let (url, message, id) = elicitation_error(&asked.json());
        assert_eq!(asked.json()["error"]["message"], message.as_str());
        assert!(
            message.contains(&world.backend.url()) && !message.contains(&id),
            "{message}"
        );
        let ticket = url
            .strip_prefix(&format!("{}/auth/login?ticket=", world.server.url()))
            .unwrap();
        assert!(!ticket.contains(&id) && !message.contains(ticket));
        Browser::new().sign_in(&url, ADA);
        let answered = mcp.call_with(tool, arguments, json!({}));
        assert!(!answered.is_stream);
        assert_done(&world, tool, &answered);
    }
}

#[test]
fn the_session_id_says_at_any_server_what_the_client_can_do() {
    let world = patient();
    let clients = LEGACY.map(|revision| (world.server.legacy_url(revision), revision));
    let plain = (world.server.legacy("2025-11-25"), "2025-11-25");
    for (prefix, (mcp, revision)) in ["urls.", "", "", ""]
        .into_iter()
        .zip(clients.into_iter().chain([plain]))
    {
        let Era::Legacy {
            session: Some(session),
            ..
        } = mcp.era
        else {
            panic!("a session")
        };
        let random = session
            .strip_prefix(&format!("{revision}.{prefix}"))
            .unwrap();
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.decode(random).unwrap().len(),
            16,
            "{session}"
        );
    }
    let mut mcp = world.server.legacy_url("2025-11-25");
    let world = world.restarted();
    mcp.http = world.server.client();
    let asked = mcp
        .send(
            "tools/call",
            json!({"name": "api_get_request", "arguments": me()}),
        )
        .json();
    assert!(elicitation_error(&asked).0.starts_with(&world.server.url()));
    // The version may stand in the session id alone.
    let headers = mcp.headers("tools/call", None);
    let headers: Vec<_> = as_refs(&headers)
        .into_iter()
        .filter(|(name, _)| *name != "MCP-Protocol-Version")
        .collect();
    let body = mcp.body(
        "tools/call",
        json!({"name": "api_get_request", "arguments": me()}),
    );
    elicitation_error(
        &mcp.http
            .request("POST", "/mcp", &headers, body.as_bytes())
            .json(),
    );
}

// ---- Links (everybody else) ----

/// Holds every call to be answered by a tool result with a link.
fn assert_gets_links(world: &World, mcp: &mut Mcp, what: &str) {
    for (tool, arguments) in calls() {
        let answered = mcp.call_with(tool, arguments, json!({}));
        let told = content(&world.server, tool, &answered);
        let link = told["sign_in_url"]
            .as_str()
            .unwrap_or_else(|| panic!("{what}: {told}"));
        assert!(link.starts_with(&world.server.url()), "{what}: {told}");
        let text = answered.response["result"]["content"][0]["text"]
            .as_str()
            .unwrap();
        for part in [
            link,
            "Show the user",
            "Then call check_auth_status with wait_seconds",
        ] {
            assert!(text.contains(part), "{what}: {text}");
        }
        if tool != "authenticate_user" {
            assert_eq!(told["error"], "sign_in_required", "{what}");
            assert!(text.ends_with("Then repeat this call."), "{what}: {text}");
        }
        // CASES A17: what Microsoft's own page may show is explained on ours, not in every result.
        assert!(!text.contains("AADSTS"), "{what}: {text}");
    }
    assert!(world.backend.requests().is_empty());
}

#[test]
fn a_client_that_does_not_open_urls_is_told_a_link() {
    let world = patient();
    for capabilities in [
        json!({}),
        json!({"elicitation": {}}),
        json!({"elicitation": {"form": {}}}),
        json!({"elicitation": {"url": null}}),
        json!({"elicitation": {"url": true}}),
        json!({"elicitation": {"url": "url"}}),
        json!({"elicitation": {"url": []}}),
        json!({"elicitation": {"URL": {}}}),
        json!({"elicitation": null}),
        json!({"elicitation": ["url"]}),
        json!({"url": {}}),
    ] {
        assert_gets_links(
            &world,
            &mut world.server.modern_with(capabilities.clone()),
            &capabilities.to_string(),
        );
        let mut legacy = world.server.legacy_with("2025-11-25", capabilities.clone());
        assert_gets_links(&world, &mut legacy, &capabilities.to_string());
    }
}

#[test]
fn a_client_that_opens_urls_may_do_more() {
    let world = patient();
    for capabilities in [
        json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}}),
        json!({"elicitation": {"url": {"later": 1}}}),
    ] {
        ask(
            &mut world.server.modern_with(capabilities.clone()),
            "api_get_request",
            &me(),
        );
        let mut legacy = world.server.legacy_with("2025-11-25", capabilities);
        elicitation_error(
            &legacy
                .call_with("api_get_request", me(), json!({}))
                .response,
        );
    }
}

#[test]
fn a_revision_without_url_elicitation_gets_links_whatever_is_declared() {
    let world = patient();
    for revision in &LEGACY[1..] {
        assert_gets_links(&world, &mut world.server.legacy_url(revision), revision);
        // Nor does the session id of another revision change that.
        let mut mcp = world.server.legacy_url(revision);
        let Era::Legacy { session, .. } = &mut mcp.era else {
            panic!("a legacy client")
        };
        *session = Some("2025-11-25.urls.AAAAAAAAAAAAAAAAAAAAAA".to_owned());
        if *revision != "2025-03-26" {
            assert_gets_links(&world, &mut mcp, revision);
        }
    }
    for unmarked in [
        None,
        Some("2025-11-25.AAAAAAAAAAAAAAAAAAAAAA"),
        Some("2025-06-18.urls.AAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let mut mcp = world.server.legacy_url("2025-11-25");
        let session = unmarked.map(str::to_owned);
        mcp.era = Era::Legacy {
            revision: "2025-11-25".to_owned(),
            session,
        };
        assert_gets_links(&world, &mut mcp, &format!("{unmarked:?}"));
    }
}

#[test]
fn a_call_in_a_batch_gets_a_link() {
    let world = patient();
    for session in [
        "2025-03-26.urls.AAAAAAAAAAAAAAAAAAAAAA",
        "2025-11-25.urls.AAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let mut mcp = world.server.legacy_url("2025-03-26");
        let mut headers = mcp.headers("tools/call", None);
        headers.retain(|(name, _)| name != "Mcp-Session-Id");
        headers.push(("Mcp-Session-Id".to_owned(), session.to_owned()));
        headers.push(("MCP-Protocol-Version".to_owned(), "2025-03-26".to_owned()));
        let bodies = calls().map(|(tool, arguments)| {
            mcp.body("tools/call", call_params(tool, &arguments, &json!({})))
        });
        let body = format!("[{}]", bodies.join(","));
        let reply = mcp
            .http
            .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
        let responses = reply.json();
        assert_eq!(responses.as_array().unwrap().len(), bodies.len());
        for response in responses.as_array().unwrap() {
            let told = &response["result"]["structuredContent"];
            let link = told["sign_in_url"].as_str();
            assert!(
                link.is_some_and(|link| link.starts_with(&world.server.url())),
                "{response}"
            );
        }
    }
}

#[test]
fn whoever_was_asked_can_wait_for_the_sign_in_by_check_auth_status() {
    let clients: [fn(&World) -> Mcp; 6] = [
        |world| world.server.modern(),
        |world| world.server.modern_url(),
        |world| world.server.legacy(LEGACY[0]),
        |world| world.server.legacy_url(LEGACY[0]),
        |world| world.server.legacy(LEGACY[1]),
        |world| world.server.legacy(LEGACY[2]),
    ];
    for client in clients {
        let world = patient();
        let mut mcp = client(&world);
        let asked = mcp.call_with("api_get_request", me(), json!({}));
        let text = asked.response.to_string();
        let start = text
            .find(&format!("{}/auth/login?ticket=", world.server.url()))
            .unwrap();
        let link: String = text[start..]
            .chars()
            .take_while(|c| !c.is_whitespace() && *c != '"')
            .collect();
        let (head, mut events) =
            mcp.open_call("check_auth_status", json!({"wait_seconds": 120}), json!({}));
        assert!(matches!(events.next(), Some(Event::Comment(_))), "{text}");
        Browser::new().sign_in(&link, ADA);
        let status = content(
            &world.server,
            "check_auth_status",
            &Answered::read(&head, events),
        );
        assert_eq!(
            (&status["authenticated"], &status["pending_sign_in"]),
            (&json!(true), &json!(false))
        );
        assert_done(
            &world,
            "api_get_request",
            &mcp.call_with("api_get_request", me(), json!({})),
        );
    }
}

// ---- Clients that go away, and crowds ----

#[test]
fn a_client_that_goes_away_while_it_waits_frees_its_place() {
    let world = world(|setup| {
        let setup = setup.with("SIGN_IN_WAIT_SECONDS", "600");
        // Nothing is written that would show that they are gone.
        setup.limits(|limits| {
            limits.connections = 3;
            limits.silence = Duration::from_millis(20);
            limits.keep_alive = Duration::from_secs(600);
        })
    });
    let asked = ask(&mut world.server.modern_url(), "api_get_request", &me());
    let health = || Client::new(&world.server.url()).get("/healthz").status;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            world.server.modern_url().open_call(
                "api_get_request",
                me(),
                asked.answered_with("accept"),
            )
        })
        .collect();
    assert!(
        waiting
            .iter()
            .all(|(head, _)| head.header("Content-Type") == Some("text/event-stream"))
    );
    assert_eq!(health(), 503, "every place is taken");
    drop(waiting);
    let start = Instant::now();
    while health() != 200 {
        assert!(start.elapsed() < PATIENCE, "no place becomes free");
        thread::yield_now();
    }
}

#[test]
fn beyond_so_many_who_wait_a_call_asks_again_at_once() {
    let world = patient();
    let asked = ask(&mut world.server.modern_url(), "api_get_request", &me());
    let crowd: Vec<_> = (0..32)
        .map(|_| {
            wait(
                &mut world.server.modern_url(),
                "api_get_request",
                &me(),
                &asked,
            )
        })
        .collect();
    let mut mcp = world.server.modern_url();
    let answered = again(&mut mcp, "api_get_request", &me(), &asked);
    assert_eq!(input_required(&answered.response).url, asked.url);
    // Those who wait are not disturbed, and who leaves makes room.
    let mut crowd = crowd.into_iter();
    let (head, events) = crowd.next().unwrap();
    drop(crowd);
    let start = Instant::now();
    let placed = loop {
        let (head, mut events) = open(&mut mcp, "api_get_request", &me(), &asked);
        if head.header("Content-Type") == Some("text/event-stream") && waits(&mut events) {
            break (head, events);
        }
        assert!(start.elapsed() < PATIENCE, "no place becomes free");
    };
    Browser::new().sign_in(&asked.url, ADA);
    for (head, events) in [(head, events), placed] {
        assert_eq!(
            content(
                &world.server,
                "api_get_request",
                &Answered::read(&head, events)
            )["success"],
            true
        );
    }
}
