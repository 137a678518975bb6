//! The server connects to the authority and the API, and to nothing else but public hosts of downloads, and
//! needs no thread to do so: the system calls of the built program are watched, and some of them fail. Needs strace, so
//! it is run by name: `.ci/run` does.
#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;
use support::backend::{Backend, cae_claims, claims_challenge};
use support::browser::Browser;
use support::entra::{ADA, Entra, GRACE, TokenFailure};
use support::http::Reply;
use support::server::{Mcp, Process, Setup};

/// Where the traced calls connected or sent to: `address port`, or what it is instead.
fn destinations(trace: &str) -> BTreeSet<String> {
    let addresses = trace
        .lines()
        .filter(|line| line.contains("sa_family="))
        // Where the C library asks for a name before it reads /etc/hosts.
        .filter(|line| !line.contains("/nscd/socket"))
        .map(|line| {
            let quoted = line.split('"').nth(1).unwrap_or(line);
            let port = line
                .split_once("_port=htons(")
                .and_then(|(_, rest)| rest.split(')').next());
            port.map_or_else(|| line.to_owned(), |port| format!("{quoted} {port}"))
        });
    addresses.collect()
}

fn of_url(url: &str) -> String {
    url.trim_start_matches("http://")
        .split('/')
        .next()
        .unwrap()
        .replace(':', " ")
}

#[test]
fn the_server_connects_to_the_authority_and_the_api_and_to_nothing_else() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let lure = format!("http://{}", elsewhere.local_addr().unwrap());
    let (entra, backend) = (Entra::start(), Backend::start(None));
    let of_authority = lure.clone();
    // A host of downloads, but at an address that is not public.
    let download = lure.replace("http://127.0.0.1", "https://localhost");
    backend.on(move |request| {
        let unauthorized = format!(
            "Bearer authorization_uri=\"{of_authority}/authorize\", error=\"invalid_token\""
        );
        match request.path.rsplit('/').next() {
            Some("elsewhere") => Some(Reply::empty(302).with("Location", &of_authority).into()),
            Some("download") => Some(Reply::empty(302).with("Location", &download).into()),
            Some("itself") => Some(Reply::empty(307).with("Location", &request.path).into()),
            Some("unauthorized") => Some(
                Reply::empty(401)
                    .with("WWW-Authenticate", &unauthorized)
                    .into(),
            ),
            Some("claims") => Some(claims_challenge(&cae_claims()).into()),
            _ => None,
        }
    });
    let setup = Setup::new(&entra, Some(&backend)).with("ALLOW_DEVICE_CODE", "true");
    let setup = setup.with("DOWNLOAD_HOSTS", "localhost");
    let audit = setup.directory.file("audit.jsonl");
    let setup = setup.with("AUDIT_LOG", audit.to_str().unwrap());
    let trace = setup.directory.file("trace");
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-o",
        trace.to_str().unwrap(),
    ]);
    command.arg(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    let mut process = Process::start(command, &setup);
    let mut mcp = process.modern();

    entra.expires_in(60); // so that every call wants a refresh
    entra.fail_next_token(TokenFailure::Status(503, None));
    let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    mcp.sign_in(ADA);
    let code = mcp.ok(
        "authenticate_user",
        json!({"user_id": "device", "method": "device_code"}),
    );
    entra.approve_device(code["user_code"].as_str().unwrap(), GRACE);
    mcp.call_with(
        "check_auth_status",
        json!({"user_id": "device", "wait_seconds": 20}),
        json!({}),
    );
    for endpoint in [
        "/me",
        "/elsewhere",
        "/download",
        "/itself",
        "/unauthorized",
        "/claims",
        "/photo",
        &format!("{lure}/me"),
    ] {
        mcp.call(
            "api_get_request",
            json!({"endpoint": endpoint, "user_id": ADA}),
        );
    }
    mcp.ok(
        "api_post_request",
        json!({"endpoint": "/tasks", "data": {"link": lure}, "user_id": ADA}),
    );
    let mut asking = Mcp::modern(process.client(), Mcp::can_open_urls());
    asking.send(
        "tools/call",
        json!({"name": "api_get_request", "arguments": {"endpoint": "/me", "user_id": "x"}}),
    );
    for path in ["/", "/healthz", "/auth/status", "/auth/logout-complete"] {
        process.client().get(path);
    }
    mcp.ok("logout_user", json!({"user_id": ADA}));

    let children = format!("/proc/{0}/task/{0}/children", process.id());
    let server = fs::read_to_string(children).unwrap();
    assert!(
        Command::new("kill")
            .args(["-s", "TERM", server.trim()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(process.exit_code(), Some(0));
    let found = destinations(&fs::read_to_string(&trace).unwrap());
    // And to itself, when it stops, so that whoever waits for a connection wakes up.
    let port = process.address().rsplit(':').next().unwrap().to_owned();
    let own = ["127.0.0.1", "::1"].map(|address| format!("{address} {port}"));
    let found: BTreeSet<String> = found.difference(&BTreeSet::from(own)).cloned().collect();
    let expected = BTreeSet::from([of_url(&entra.authority_host()), of_url(&backend.origin())]);
    assert_eq!(found, expected);
}

// CASES D1
#[test]
fn a_call_is_made_and_recorded_where_no_thread_is_left() {
    let (entra, backend) = (Entra::start(), Backend::start(None));
    // A name, so that it must be looked up.
    let base = backend.url().replace("127.0.0.1", "localhost");
    let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", &base);
    let audit = setup.directory.file("audit.jsonl");
    let setup = setup.with("AUDIT_LOG", audit.to_str().unwrap());
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let mut mcp = process.modern();
    mcp.sign_in(ADA);

    let trace = setup.directory.file("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=clone,clone3"])
        .args(["-e", "inject=clone,clone3:error=EAGAIN"])
        .args(["-o", trace.to_str().unwrap()])
        .args(["-p", &process.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut attached = String::new();
    let mut messages = BufReader::new(strace.stderr.take().unwrap());
    messages.read_line(&mut attached).unwrap();
    assert!(attached.contains("attached"), "{attached}");

    let task = json!({"endpoint": "/tasks", "data": {}, "user_id": ADA});
    mcp.ok("api_post_request", task.clone());
    // The name had to be looked up. The next calls use the same connection, and start no thread.
    let of_the_first = fs::read_to_string(&trace).unwrap();
    for _ in 0..2 {
        mcp.ok("api_post_request", task.clone());
    }
    let of_all = fs::read_to_string(&trace).unwrap();
    let attempts = |trace: &str| trace.matches("clone").count();
    assert_eq!(attempts(&of_all), attempts(&of_the_first), "{of_all}");
    let strace_id = strace.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &strace_id])
            .status()
            .unwrap()
            .success()
    );
    strace.wait().unwrap();
    let trace = fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("INJECTED"), "{trace}");
    let recorded = fs::read_to_string(&audit).unwrap();
    assert_eq!(
        recorded.matches(r#""event":"api_call""#).count(),
        3,
        "{recorded}"
    );
}
