//! Calls that an API fails: which are made again, how often, and what is said in the end.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::entra::{ADA, Entra};
use crate::support::http::{Answer, Reply, StandIn, connect};
use crate::support::server::{Mcp, Setup, World};
use crate::support::{Gate, http_date};
use serde_json::{Value, json};

fn me(mcp: &mut Mcp) -> Value {
    mcp.ok("api_get_request", json!({"endpoint": "/me"}))
}

fn refused(mcp: &mut Mcp) -> Value {
    mcp.fails("api_get_request", json!({"endpoint": "/me"}))
}

const IDEMPOTENT: [&str; 3] = ["api_get_request", "api_put_request", "api_delete_request"];
const ALL: [&str; 5] = [
    "api_get_request",
    "api_put_request",
    "api_delete_request",
    "api_post_request",
    "api_patch_request",
];
const ONCE_ONLY: [&str; 2] = ["api_post_request", "api_patch_request"];

/// All at once: some of them pause.
fn with_each(tools: &[&'static str], test: impl Fn(&'static str) + Sync) {
    thread::scope(|scope| {
        for tool in tools {
            scope.spawn(|| test(tool));
        }
    });
}

/// Answers the first requests with `answer`, the others as usual.
fn fail_first(world: &World, count: usize, answer: impl Fn() -> Answer + Send + Sync + 'static) {
    let seen = AtomicUsize::new(0);
    world.backend.on(move |_| {
        let is_first = seen.fetch_add(1, Ordering::SeqCst) < count;
        Some(if is_first {
            answer()
        } else {
            Reply::of_json(200, &json!({"done": true})).into()
        })
    });
}

fn status(
    status: u16,
    retry_after: Option<String>,
) -> impl Fn() -> Answer + Send + Sync + Clone + 'static {
    move || {
        let reply = Reply::of_json(status, &json!({}));
        match &retry_after {
            Some(value) => reply.with("Retry-After", value).into(),
            None => reply.into(),
        }
    }
}

#[test]
fn what_may_be_repeated_is_repeated_and_goes_through() {
    let soon = || Some("0".to_owned());
    with_each(&IDEMPOTENT, |tool| {
        let world = World::signed_in();
        let call = |what: &str| {
            let sent = world.backend.requests().len();
            let answer = world.server.modern().ok(tool, json!({"endpoint": "/x"}));
            assert_eq!(answer["data"]["done"], true, "{tool} {what}: {answer}");
            world.backend.requests().len() - sent
        };
        fail_first(&world, 2, || Answer::Reset);
        assert_eq!(call("reset"), 3);
        fail_first(&world, 2, || Answer::Close);
        assert_eq!(call("closed"), 3);
        // Of a write that was answered with success, only the answer would be worth another try.
        if tool == "api_get_request" {
            fail_first(&world, 1, || {
                Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            });
            assert_eq!(call("broken off"), 2);
        }
        for code in [429, 503] {
            fail_first(&world, 2, status(code, soon()));
            assert_eq!(call("soon"), 3);
        }
        for code in [502, 503, 504] {
            fail_first(&world, 1, status(code, None));
            assert_eq!(call("unwell"), 2);
        }
    });
}

#[test]
fn what_may_not_be_repeated_is_sent_once_whatever_happens() {
    let world = World::signed_in();
    for tool in ONCE_ONLY {
        let call = |what: &str| {
            let sent = world.backend.requests().len();
            let failure = world
                .server
                .modern()
                .fails(tool, json!({"endpoint": "/x", "data": 1}));
            assert_eq!(
                world.backend.requests().len() - sent,
                1,
                "{tool} {what}: it was sent again"
            );
            failure
        };
        for what in ["reset", "closed"] {
            fail_first(&world, 1, move || {
                if what == "reset" {
                    Answer::Reset
                } else {
                    Answer::Close
                }
            });
            let failure = call(what);
            assert_eq!(failure["error"], "backend_unreachable", "{failure}");
            assert!(
                failure["hint"].as_str().unwrap().contains("not known"),
                "{failure}"
            );
        }
        for code in [429, 500, 502, 503, 504] {
            fail_first(&world, 1, status(code, Some("0".to_owned())));
            assert_eq!(call("status")["status"], code);
        }
    }
}

#[test]
fn an_api_that_stays_unwell_is_asked_three_times_and_its_answer_handed_on() {
    let world = World::signed_in();
    fail_first(&world, usize::MAX, status(503, None));
    let answer = refused(&mut world.server.modern());
    assert_eq!(
        (&answer["status"], world.backend.requests().len()),
        (&json!(503), 3),
        "{answer}"
    );
    // What an API refuses for good is not asked for again.
    for code in [400, 404, 409, 500, 501] {
        let sent = world.backend.requests().len();
        fail_first(&world, usize::MAX, status(code, None));
        assert_eq!(refused(&mut world.server.modern())["status"], code);
        assert_eq!(world.backend.requests().len() - sent, 1, "{code}");
    }
}

#[test]
fn an_api_that_wants_to_be_left_alone_for_long_is() {
    let world = World::signed_in();
    for code in [429, 503] {
        let sent = world.backend.requests().len();
        fail_first(&world, usize::MAX, status(code, Some("3600".to_owned())));
        let answer = refused(&mut world.server.modern());
        assert_eq!(
            (&answer["status"], &answer["retry_after_seconds"]),
            (&json!(code), &json!(3600)),
            "{answer}"
        );
        assert_eq!(world.backend.requests().len() - sent, 1);
    }
    // As a date, too.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let date = http_date(i64::try_from(now + 3600).unwrap());
    fail_first(&world, usize::MAX, status(503, Some(date)));
    let seconds = refused(&mut world.server.modern())["retry_after_seconds"]
        .as_u64()
        .unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
}

#[test]
fn a_second_is_what_an_api_is_left_alone_for_that_throttles_and_does_not_say_how_long() {
    let world = World::signed_in();
    fail_first(&world, 1, status(429, None));
    assert_eq!(me(&mut world.server.modern())["data"]["done"], true);
    assert_eq!(world.backend.requests().len(), 2);
}

#[test]
fn a_request_that_found_nobody_listening_was_not_sent_and_says_so() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    // An address of which only the IPv4 half is anybody's.
    let base = format!("http://[::1]:{}/v1.0", holder.local_addr().unwrap().port());
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", &base)
        .start();
    server.modern().sign_in(ADA);
    with_each(&ALL, |tool| {
        let failure = server.modern().fails(tool, json!({"endpoint": "/x"}));
        assert_eq!(failure["error"], "backend_unreachable");
        assert!(
            failure["hint"].as_str().unwrap().contains("not sent"),
            "{failure}"
        );
    });
}

/// The API has acted on the first try, so the second finds nothing, or another version.
#[test]
fn a_write_that_fails_after_an_earlier_try_says_that_it_may_be_done() {
    const MAY_BE_DONE: &str = "may have acted";
    let world = World::signed_in();
    for (tool, code) in [("api_delete_request", 404), ("api_put_request", 412)] {
        for first in ["reset", "gateway", "throttled"] {
            let seen = AtomicUsize::new(0);
            world.backend.on(move |_| {
                let is_first = seen.fetch_add(1, Ordering::SeqCst) == 0;
                Some(match first {
                    "reset" if is_first => Answer::Reset,
                    "gateway" if is_first => status(504, None)(),
                    _ if is_first => status(429, Some("0".to_owned()))(),
                    _ => status(code, None)(),
                })
            });
            let answer = world.server.modern().fails(tool, json!({"endpoint": "/x"}));
            assert_eq!(answer["status"], code, "{answer}");
            let hint = answer["hint"].as_str().unwrap_or_default();
            let is_said = hint.contains(MAY_BE_DONE);
            assert_eq!(is_said, first != "throttled", "{tool} {first}: {answer}");
        }
    }
    // A new token makes nothing undone.
    let seen = AtomicUsize::new(0);
    world.backend.on(move |_| {
        Some(match seen.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Reset,
            1 => status(401, None)(),
            _ => status(412, None)(),
        })
    });
    let answer = world
        .server
        .modern()
        .fails("api_put_request", json!({"endpoint": "/x"}));
    assert_eq!(answer["status"], 412, "{answer}");
    assert!(
        answer["hint"].as_str().unwrap().contains(MAY_BE_DONE),
        "{answer}"
    );
    // Nobody minds a second look, and what has gone through is done.
    fail_first(&world, 1, || Answer::Reset);
    let mut mcp = world.server.modern();
    let answer = mcp.ok("api_delete_request", json!({"endpoint": "/x"}));
    assert!(answer.get("hint").is_none(), "{answer}");
}

#[test]
fn a_request_that_was_sent_before_the_api_went_down_is_not_called_unsent() {
    for tool in ["api_put_request", "api_delete_request"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1.0", listener.local_addr().unwrap());
        let entra = Entra::start();
        let server = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", &base)
            .start();
        server.modern().sign_in(ADA);
        let api = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            drop(listener);
            let read = socket.read(&mut [0; 4096]).unwrap();
            assert!(read > 0);
        });
        let failure = server.modern().fails(tool, json!({"endpoint": "/x"}));
        api.join().unwrap();
        let hint = failure["hint"].as_str().unwrap();
        assert!(hint.contains("not known"), "{failure}");
    }
}

/// As behind a gateway that has waited for the API in vain.
#[test]
fn what_a_gateway_answers_says_that_the_effect_is_not_known() {
    let world = World::signed_in();
    for tool in ONCE_ONLY {
        for code in [502, 504] {
            fail_first(&world, 1, status(code, None));
            let answer = world.server.modern().fails(tool, json!({"endpoint": "/x"}));
            assert_eq!(answer["status"], code, "{answer}");
            let hint = answer["hint"].as_str().unwrap_or_default();
            assert!(hint.contains("not known"), "{tool}: {answer}");
        }
    }
}

#[test]
fn an_api_that_is_down_and_comes_back_is_called_again() {
    let entra = Entra::start();
    let api = || Reply::of_json(200, &json!({"done": true}));
    let backend = StandIn::serve(move |_| api());
    let server = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", &backend.url())
        .start();
    server.modern().sign_in(ADA);
    let call_all = || {
        with_each(&ALL, |tool| {
            drop(server.modern().ok(tool, json!({"endpoint": "/x"})));
        });
    };
    call_all();

    let address = backend.addr();
    drop(backend);
    with_each(&ALL, |tool| {
        assert_eq!(
            server.modern().fails(tool, json!({"endpoint": "/x"}))["error"],
            "backend_unreachable"
        );
    });
    let _back = StandIn::serve_at(address, move |_| api());
    call_all();
}

/// A client may leave at any time; what it asked for is then cancelled (MCP 2026-07-28 cancellation).
#[test]
fn nothing_is_sent_again_for_a_client_that_has_left() {
    for (tool, refusal) in [
        ("api_put_request", 503),
        ("api_delete_request", 503),
        ("api_post_request", 401),
    ] {
        let world = World::signed_in();
        let gate = Gate::default();
        let held = gate.clone();
        world.backend.on(move |_| {
            held.pass();
            Some(
                Reply::of_json(refusal, &json!({}))
                    .with("Retry-After", "0")
                    .into(),
            )
        });
        let mut leaving = world.server.modern();
        let body = leaving.body(
            "tools/call",
            json!({"name": tool, "arguments": {"endpoint": "/x"}}),
        );
        let headers = leaving.headers("tools/call", Some(tool));
        let address = world.server.address();
        let mut socket = connect(&address).unwrap();
        write!(
            socket,
            "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n",
            body.len()
        )
        .unwrap();
        for (name, value) in headers {
            write!(socket, "{name}: {value}\r\n").unwrap();
        }
        write!(socket, "\r\n{body}").unwrap();
        gate.wait_for_arrivals(1);
        drop(socket);
        gate.open();
        let World {
            server, backend, ..
        } = world;
        // It ends when the call has.
        drop(server);
        assert_eq!(backend.requests().len(), 1, "{tool}");
    }
}
