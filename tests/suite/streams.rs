//! Answers that become streams: what a slow call of the API looks like to clients.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support::PATIENCE;
use crate::support::backend::{Backend, cae_claims, claims_challenge};
use crate::support::entra::{ADA, Entra, TokenFailure};
use crate::support::http::{Client, Event, EventReader, Reply, connect};
use crate::support::mcp::{Answered, Mcp, as_refs};
use crate::support::server::{Process, Running, Setup, World};
use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::serve::Server;
use serde_json::{Value, json};

const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
const SHORT: Duration = Duration::from_millis(10);

/// Ada is signed in; an answer is not silent for long.
fn talkative() -> World {
    World::signed_in().with(|setup| {
        setup.limits(|limits| {
            limits.silence = SHORT;
            limits.keep_alive = SHORT;
        })
    })
}

fn slow() -> Value {
    json!({"endpoint": "/slow"})
}

fn with_token(token: &str) -> Value {
    json!({"_meta": {"progressToken": token}})
}

fn open(mcp: &mut Mcp, extra: Value) -> (Reply, EventReader) {
    mcp.open_call("api_get_request", slow(), extra)
}

#[track_caller]
fn assert_is_stream(head: &Reply) {
    assert_eq!(
        (head.status, head.header("Content-Type")),
        (200, Some("text/event-stream"))
    );
}

#[track_caller]
fn assert_kept_alive(events: &mut EventReader, count: usize) {
    for event in events.take(count) {
        assert!(matches!(event, Event::Comment(_)), "{event:?}");
    }
}

#[track_caller]
fn assert_succeeded(answered: &Answered) {
    let result = &answered.response["result"];
    assert_eq!(result["structuredContent"]["status"], 200, "{result}");
}

/// The bytes of a call.
fn request(server: &Running, mcp: &mut Mcp, params: Value) -> String {
    let name = params["name"].as_str().unwrap().to_owned();
    let mut headers = mcp.headers("tools/call", Some(&name));
    let body = mcp.body("tools/call", params);
    headers.push(("Host".to_owned(), server.address()));
    headers.push(("Content-Length".to_owned(), body.len().to_string()));
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("POST /mcp HTTP/1.1\r\n{}\r\n{body}", lines.concat())
}

/// Sends a call without waiting for the answer.
fn send(server: &Running, mcp: &mut Mcp, params: Value) -> TcpStream {
    let mut socket = connect(&server.address()).unwrap();
    let request = request(server, mcp, params);
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

// CASES A11
#[test]
fn a_slow_call_becomes_a_stream_that_is_kept_alive_and_ends_with_the_result() {
    let world = talkative();
    let revisions = LEGACY.iter().map(|revision| world.server.legacy(revision));
    for mut mcp in [world.server.modern()].into_iter().chain(revisions) {
        let before = world.backend.requests().len();
        let hold = world.backend.hold();
        let (head, mut events) = open(&mut mcp, json!({}));
        assert_is_stream(&head);
        assert_eq!(head.header("X-Accel-Buffering"), Some("no"));
        assert_kept_alive(&mut events, 3);
        drop(hold);
        let answered = Answered::read(&head, events);
        assert_succeeded(&answered);
        assert_eq!(answered.messages.len(), 1);
        assert_eq!(world.backend.requests().len(), before + 1);
    }
}

#[test]
fn a_call_that_is_not_slow_is_one_response() {
    let world = World::signed_in();
    let answered = world
        .server
        .modern()
        .call_with("api_get_request", slow(), with_token("t"));
    assert!(!answered.is_stream);
    assert_succeeded(&answered);
}

#[test]
fn a_page_of_an_allowed_origin_may_read_the_stream() {
    let origin = "https://app.example";
    let world = talkative().with(|setup| setup.with("ALLOWED_ORIGINS", origin));
    let hold = world.backend.hold();
    let mut mcp = world.server.modern();
    let mut headers = mcp.headers("tools/call", Some("api_get_request"));
    headers.push(("Origin".to_owned(), origin.to_owned()));
    let body = mcp.body(
        "tools/call",
        json!({"name": "api_get_request", "arguments": slow()}),
    );
    let (head, events) = mcp
        .http
        .open_stream("POST", "/mcp", &as_refs(&headers), body.as_bytes());
    assert_is_stream(&head);
    assert_eq!(head.header("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(head.header("Vary"), Some("Origin"));
    drop(hold);
    assert_succeeded(&Answered::read(&head, events));
}

#[test]
fn a_batch_waits_for_its_json_however_slow_it_is() {
    let world = talkative();
    let hold = world.backend.hold();
    let mut legacy = world.server.legacy("2025-03-26");
    let call = legacy.body(
        "tools/call",
        json!({"name": "api_get_request", "arguments": slow(),
            "_meta": {"progressToken": "t"}}),
    );
    let headers = legacy.headers("tools/call", None);
    std::thread::scope(|scope| {
        let batch = scope.spawn(|| {
            let body = format!("[{call},{call}]");
            legacy
                .http
                .request("POST", "/mcp", &as_refs(&headers), body.as_bytes())
        });
        hold.wait_for_arrivals(1);
        // Beside it, a call of its own shows that the silence has lasted for long enough.
        let (head, mut events) = open(&mut world.server.modern(), json!({}));
        assert_is_stream(&head);
        assert_kept_alive(&mut events, 5);
        drop(hold);
        let reply = batch.join().unwrap();
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        let responses: Vec<Value> = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(responses.len(), 2);
        for response in responses {
            assert_eq!(response["result"]["structuredContent"]["status"], 200);
        }
    });
    assert_eq!(world.backend.requests().len(), 3);
}

// CASES A11
#[test]
fn a_slow_call_tells_growing_progress_to_who_has_sent_a_token() {
    let world = talkative();
    let hold = world.backend.hold();
    let (head, mut events) = open(&mut world.server.modern(), with_token("slow"));
    assert_is_stream(&head);
    for progress in 1..=3 {
        let message = events.next().unwrap().json().expect("no comment");
        assert_eq!(
            message,
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": "slow", "progress": progress, "message": "Waiting for the API"}})
        );
    }
    drop(hold);
    assert_succeeded(&Answered::read(&head, events));
}

#[test]
fn an_api_is_called_once_for_a_client_that_leaves_its_stream() {
    for tool in ["api_post_request", "api_get_request"] {
        let world = talkative();
        let hold = world.backend.hold();
        let (head, mut events) =
            world
                .server
                .modern()
                .open_call(tool, json!({"endpoint": "/slow"}), json!({}));
        assert_is_stream(&head);
        assert_kept_alive(&mut events, 1);
        hold.wait_for_arrivals(1);
        drop(events);
        drop(hold);
        let World {
            server, backend, ..
        } = world;
        // It ends when the call has.
        drop(server);
        assert_eq!(backend.requests().len(), 1, "{tool}");
    }
}

#[test]
fn an_error_that_asks_for_a_sign_in_arrives_on_a_stream() {
    let world = talkative();
    let hold = world.backend.hold();
    let gate = hold.0.clone();
    world.backend.on(move |_| {
        gate.pass();
        Some(Reply::of_json(401, &json!({})).into())
    });
    world.entra.fail_tokens(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 50173,
        suberror: None,
        claims: None,
    });
    let mut mcp = world.server.legacy_url("2025-11-25");
    let (head, mut events) = open(&mut mcp, json!({}));
    assert_is_stream(&head);
    assert_kept_alive(&mut events, 1);
    drop(hold);
    let answered = Answered::read(&head, events);
    assert_eq!(answered.response["error"]["code"], -32042);
}

#[test]
fn the_connection_of_a_stream_serves_the_next_call() {
    let world = talkative();
    let hold = world.backend.hold();
    let requests = ["/slow", "/me"].map(|endpoint| {
        let arguments = json!({"endpoint": endpoint});
        let params = json!({"name": "api_get_request", "arguments": arguments});
        request(&world.server, &mut world.server.modern(), params)
    });
    let mut socket = connect(&world.server.address()).unwrap();
    socket.write_all(requests.concat().as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(&socket);
    let first = read_until(&mut reader, ": keep-alive\n\n");
    assert!(first.contains("Content-Type: text/event-stream\r\n"));
    drop(hold);
    let rest = read_until(&mut reader, "\r\n0\r\n\r\n");
    assert!(rest.contains(r#""status":200"#), "{rest}");
    assert!(read_until(&mut reader, "\r\n").starts_with("HTTP/1.1 200 OK"));
}

fn read_until(reader: &mut impl std::io::Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        reader.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// A server whose clock panics, which stands for any bug.
struct Breakable {
    server: Server,
    bugs: Bugs,
    _setup: Setup,
}

/// How many more times the clock panics.
#[derive(Clone, Default)]
struct Bugs(Arc<AtomicUsize>);

impl Bugs {
    fn set(&self, count: usize) {
        self.0.store(count, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let bugs = self.clone();
        Clock::from_fn(move || {
            let one_less = |count: usize| count.checked_sub(1);
            let is_bug = bugs
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
            assert!(is_bug.is_err(), "the bug of this test");
            SystemTime::now()
        })
    }
}

impl Breakable {
    fn start(setup: Setup) -> Self {
        let bugs = Bugs::default();
        let config = Config::from_variables(&setup.variables).unwrap();
        let server = Server::start(config, bugs.clock(), setup.limits.clone()).ok();
        Self {
            server: server.expect("a server"),
            bugs,
            _setup: setup,
        }
    }

    fn set_broken(&self, is_broken: bool) {
        self.bugs.set(if is_broken { usize::MAX } else { 0 });
    }

    fn client(&self) -> Client {
        Client::new(&format!("http://localhost:{}", self.server.port()))
    }
}

#[track_caller]
fn assert_is_bug(response: &Value) {
    assert_eq!(response["error"]["code"], -32603, "{response}");
    let message = response["error"]["message"].as_str().unwrap();
    assert!(message.contains("is not known"), "{message}");
}

// CASES D1
#[test]
fn a_bug_in_a_call_is_an_error_of_json_rpc_and_the_server_goes_on() {
    let server = Breakable::start(Setup::new(&Entra::start(), None));
    let mut mcp = Mcp::modern(server.client(), json!({}));
    let mut legacy = Mcp::legacy(server.client(), "2025-03-26", json!({}));

    server.set_broken(true);
    let reply = mcp.send("tools/call", json!({"name": "check_auth_status"}));
    assert_eq!(reply.status, 500);
    assert_is_bug(&reply.json());
    assert!(reply.json()["id"].is_u64());

    let mut call = |tool: &str| legacy.body("tools/call", json!({"name": tool}));
    let body = format!("[{},{}]", call("check_auth_status"), call("ping"));
    let headers = legacy.headers("tools/call", None);
    let reply = legacy
        .http
        .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
    assert_eq!(reply.status, 200);
    assert_is_bug(&reply.json()[0]);
    assert_eq!(reply.json()[1]["result"]["isError"], false);

    server.set_broken(false);
    mcp.ok("check_auth_status", json!({}));
}

// CASES D1
#[test]
fn a_bug_in_a_call_that_has_become_a_stream_is_its_last_event() {
    let setup = Setup::new(&Entra::start(), None).limits(|limits| {
        limits.silence = SHORT;
        limits.keep_alive = SHORT;
    });
    let server = Breakable::start(setup);
    let mut mcp = Mcp::modern(server.client(), json!({}));
    mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let arguments = json!({"wait_seconds": 120});
    let (head, mut events) = mcp.open_call("check_auth_status", arguments, json!({}));
    assert_is_stream(&head);
    assert_kept_alive(&mut events, 1);
    server.set_broken(true);
    assert_is_bug(&Answered::read(&head, events).response);
    server.set_broken(false);
    mcp.ok("check_auth_status", json!({}));
}

// CASES D1
#[test]
fn a_bug_after_the_api_has_a_request_is_on_record_and_its_effect_is_not_known() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let audit = setup.directory.file("audit.jsonl");
    let server = Breakable::start(setup.with("AUDIT_LOG", audit.to_str().unwrap()));
    let mut mcp = Mcp::modern(server.client(), json!({}));
    mcp.sign_in(ADA);
    let bugs = server.bugs.clone();
    // The server looks at its clock before it gets another token, with the account's gate closed.
    backend.on(move |request| {
        let is_task = request.method == "POST";
        is_task.then(|| {
            bugs.set(1);
            claims_challenge(&cae_claims()).into()
        })
    });
    let failure = mcp.fails(
        "api_post_request",
        json!({"endpoint": "/tasks", "data": {}}),
    );
    assert_eq!(failure["error"], "internal", "{failure}");
    assert_eq!(
        failure["hint"], "Whether the API has acted on it is not known.",
        "{failure}"
    );
    let recorded = fs::read_to_string(&audit).unwrap();
    let line: Value = serde_json::from_str(recorded.lines().last().unwrap()).unwrap();
    for (member, value) in [
        ("event", "api_call"),
        ("user_id", ADA),
        ("method", "POST"),
        ("path", "/v1.0/tasks"),
        ("outcome", "internal"),
    ] {
        assert_eq!(line[member], value, "{line}");
    }
    // The gate is open again: another token can be had.
    mcp.ok("api_get_request", json!({"endpoint": "/cae"}));
    assert_eq!(
        fs::read_to_string(&audit)
            .unwrap()
            .matches(r#""event":"api_call""#)
            .count(),
        2
    );
}

// CASES D1
#[test]
fn a_bug_in_a_page_leaves_its_connection_its_place_and_every_lock_usable() {
    let setup = Setup::new(&Entra::start(), None).limits(|limits| limits.connections = 1);
    let server = Breakable::start(setup);
    let page = "/auth/status";
    let mut client = server.client();
    for is_broken in [true, false, true, false] {
        server.set_broken(is_broken);
        let reply = client.get(page);
        if is_broken {
            assert_eq!(reply.status, 500);
            assert_eq!(
                reply.json(),
                json!({"error": "This request hit a bug of the server; its log says more."})
            );
        } else {
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    for _ in 0..4 {
        server.set_broken(true);
        assert_eq!(server.client().get(page).status, 500);
    }
    server.set_broken(false);
    assert_eq!(server.client().get(page).status, 200);
}

/// Each event of the slow reader is a megabyte, so its socket is full after a few.
#[test]
fn a_client_that_does_not_read_holds_up_no_other_and_loses_nothing() {
    let world = talkative();
    let hold = world.backend.hold();
    let token = "t".repeat(1 << 20);
    let mut params = json!({"name": "api_get_request", "arguments": slow()});
    params["_meta"] = with_token(&token)["_meta"].take();
    let unread = send(&world.server, &mut world.server.modern(), params);
    hold.wait_for_arrivals(1);
    let (head, mut events) = open(&mut world.server.modern(), json!({}));
    assert_is_stream(&head);
    assert_kept_alive(&mut events, 100);
    drop(hold);
    assert_succeeded(&Answered::read(&head, events));

    let (head, events) = EventReader::of(unread);
    assert_is_stream(&head);
    let answered = Answered::read(&head, events);
    assert_succeeded(&answered);
    let (_, told) = answered.messages.split_last().unwrap();
    for (at, message) in told.iter().enumerate() {
        assert!(message["params"]["progressToken"] == token);
        assert_eq!(message["params"]["progress"], at + 1);
    }
}

#[test]
fn a_stream_that_is_not_read_for_long_ends() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .limits(|limits| {
            limits.silence = SHORT;
            limits.keep_alive = SHORT;
            limits.answer = Duration::from_millis(100);
        })
        .start();
    let mut mcp = server.modern();
    mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let mut params = json!({"name": "check_auth_status", "arguments": {"wait_seconds": 120}});
    params["_meta"] = with_token(&"t".repeat(1 << 20))["_meta"].take();
    let mut unread = send(&server, &mut mcp, params);
    let start = Instant::now();
    // A byte more than the request is taken for as long as the connection is there.
    while unread.write_all(b"\n").is_ok() {
        assert!(start.elapsed() < PATIENCE, "the stream does not end");
        assert_eq!(server.client().get("/healthz").status, 200);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn one_thread_keeps_every_silent_answer_alive() {
    const CALLS: usize = 12;
    let World {
        server,
        setup,
        backend,
        entra: _entra,
    } = World::signed_in();
    drop(server);
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let threads = || -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        tasks.filter_map(|task| name(task.unwrap())).collect()
    };
    let mut mcp = process.modern();
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    let before = threads().len();
    let hold = backend.hold();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS)
            .map(|_| scope.spawn(|| open(&mut process.modern(), json!({}))))
            .collect();
        let streams: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        let during = threads();
        let tickers = during.iter().filter(|name| name.trim() == "ticker");
        assert_eq!(tickers.count(), 1, "{during:?}");
        assert!(during.len() <= before + CALLS, "{during:?}");
        drop(hold);
        for (head, events) in streams {
            assert_is_stream(&head);
            assert_succeeded(&Answered::read(&head, events));
        }
    });
}
