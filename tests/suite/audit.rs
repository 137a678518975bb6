//! The audit log: what is recorded of whom, that nothing is done that cannot be, and who can read the file.

use std::fs;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use crate::stdio::free_port;
use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, ADA_OID, Entra, GRACE, TENANT_ID, TokenFailure};
use crate::support::http::Reply;
use crate::support::server::{Process, Setup, Verb, World};
use crate::support::{PATIENCE, encode_pairs};
use serde_json::{Value, json};

/// What the browser calls itself.
const BROWSER: &str = "Mozilla/5.0 (stand-in)";
const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");

fn log_of(setup: &Setup) -> PathBuf {
    setup.directory.file("audit.jsonl")
}

impl World {
    fn audited() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend));
        let file = log_of(&setup);
        let setup = setup.with("AUDIT_LOG", file.to_str().unwrap());
        Self {
            server: setup.start(),
            setup,
            backend,
            entra,
        }
    }

    fn lines(&self) -> Vec<Value> {
        lines(&log_of(&self.setup))
    }

    fn last_line(&self) -> Value {
        self.lines().pop().unwrap()
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn get(endpoint: &str) -> Value {
    json!({"endpoint": endpoint})
}

fn failure(result: &mut Value) -> Value {
    assert_eq!(result["isError"], true, "{result}");
    result["structuredContent"].take()
}

/// A failure that names the setting.
fn assert_names_the_setting(failure: &Value) {
    let text = failure.to_string();
    assert!(
        failure["error"] == "configuration" && text.contains("AUDIT_LOG"),
        "{failure}"
    );
}

/// The line without what differs each time, which is looked at here.
fn steady(mut line: Value) -> Value {
    let time = line["time"].as_str().unwrap();
    assert!(
        time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.',
        "{time}"
    );
    assert!(line["duration_ms"].as_u64().unwrap() < 20_000, "{line}");
    let members = line.as_object_mut().unwrap();
    members.remove("time");
    members.remove("duration_ms");
    line
}

// ---- What is recorded ----

#[test]
fn each_sign_in_refresh_call_and_sign_out_is_a_line() {
    let world = World::audited();
    let mut mcp = world.server.modern();
    let link = mcp.ok("authenticate_user", json!({"user_id": ADA}))["sign_in_url"]
        .as_str()
        .unwrap()
        .to_owned();
    Browser::new().decline(&link);
    let declined = world.last_line();
    assert!(
        declined["correlation_id"].as_str().unwrap().len() == 36,
        "{declined}"
    );
    world.entra.expires_in(3600);
    mcp.sign_in(ADA);
    world.backend.on(|request| {
        let reply =
            Reply::of_json(200, &json!({"value": []})).with("x-correlation-id", "of the API");
        (request.path == "/v1.0/me").then(|| reply.into())
    });
    mcp.ok("api_get_request", get("/me?a=s3cret"));
    mcp.call(
        "api_post_request",
        json!({"endpoint": "/nothing", "params": {"b": "s3cret"}, "data": {"c": "s3cret"}}),
    );
    mcp.call(
        "api_delete_request",
        get("https://u:s3cret@evil.example/x?d=s3cret"),
    );
    world.advance(3400);
    mcp.ok("api_get_request", get("/me"));
    world.advance(3400);
    world.entra.fail_next_token(TokenFailure::Oauth {
        error: "invalid_grant",
        aadsts: 50173,
        suberror: None,
        claims: None,
    });
    mcp.call("api_get_request", get("/me"));
    mcp.ok("logout_user", json!({"user_id": ADA}));
    // There is nobody left to sign out.
    mcp.call("logout_user", json!({"user_id": ADA}));

    let of = |event: &str, outcome: &str, more: Value| {
        let mut entry = json!({"event": event, "user_id": ADA, "tid": TENANT_ID, "oid": ADA_OID, "outcome": outcome});
        for (name, value) in more.as_object().unwrap() {
            entry[name] = value.clone();
        }
        entry
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        entry
    };
    let call = |method: &str, path: &str, outcome: &str, more: Value| {
        let mut entry = of(
            "api_call",
            outcome,
            json!({"client": "test/1", "method": method, "path": path}),
        );
        entry
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        entry
    };
    let me = json!({"status": 200, "bytes": 12, "correlation_id": "of the API"});
    let expected = [
        of(
            "sign_in",
            "refused",
            json!({"tid": null, "oid": null, "client": BROWSER}),
        ),
        of("sign_in", "ok", json!({"client": BROWSER})),
        call("GET", "/v1.0/me", "ok", me.clone()),
        call(
            "POST",
            "/v1.0/nothing",
            "http_error",
            json!({"status": 405}),
        ),
        json!({"event": "api_call", "user_id": ADA, "client": "test/1", "method": "DELETE", "path": "https://evil.example/x", "outcome": "invalid_request"}),
        of("refresh", "ok", json!({"client": "test/1"})),
        call("GET", "/v1.0/me", "ok", me),
        of("refresh", "sign_in_required", json!({"client": "test/1"})),
        json!({"event": "api_call", "user_id": ADA, "client": "test/1", "method": "GET", "path": "/v1.0/me", "outcome": "sign_in_required"}),
        of("sign_out", "ok", json!({"client": "test/1"})),
    ];
    let found: Vec<Value> = world.lines().into_iter().map(steady).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (mut line, expected) in found.into_iter().zip(expected) {
        for random in ["correlation_id", "bytes"] {
            if expected.get(random).is_none() {
                line.as_object_mut().unwrap().remove(random);
            }
        }
        assert_eq!(line, expected);
    }
    assert!(
        !fs::read_to_string(log_of(&world.setup))
            .unwrap()
            .contains("s3cret")
    );
}

#[test]
fn a_call_that_the_policy_refuses_is_recorded_with_its_account_and_path() {
    let (setup, _backend, _entra) = World::audited().stop();
    let setup = setup
        .with("ALLOWED_METHODS", "GET")
        .with("DENIED_ENDPOINTS", "secret/**");
    let server = setup.start();
    server.modern().sign_in(ADA);
    let mut mcp = server.modern();
    mcp.call("api_post_request", get("/me?token=s3cret"));
    mcp.call("api_get_request", get("/secret/plans"));
    let refused: Vec<Value> = lines(&log_of(&setup)).split_off(1);
    for (line, method, path) in [
        (&refused[0], "POST", "/me"),
        (&refused[1], "GET", "/v1.0/secret/plans"),
    ] {
        assert_eq!(
            (&line["method"], &line["path"]),
            (&json!(method), &json!(path))
        );
        assert_eq!(line["user_id"], ADA);
        assert_eq!(
            (&line["outcome"], &line["status"]),
            (&json!("refused"), &Value::Null)
        );
    }
}

#[test]
fn the_client_is_what_it_calls_itself_and_cannot_forge_a_line() {
    let world = World::audited();
    world.server.modern().sign_in(ADA);
    let modern = world.server.modern();
    // CASES C27
    let hostile =
        "\u{9b}31m\n{\"event\":\"forged\"}\r\u{7f}\u{85}\u{2028}\u{2029}\u{202e}\u{e0041}é"
            .to_owned()
            + &"x".repeat(5000);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "api_get_request", "arguments": {"endpoint": "/me"},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": hostile, "version": "2"}}}});
    let headers = modern.headers("tools/call", Some("api_get_request"));
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let reply =
        world
            .server
            .client()
            .request("POST", "/mcp", &headers, body.to_string().as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = fs::read_to_string(log_of(&world.setup)).unwrap();
    assert_eq!(text.lines().count(), 2);
    let is_hidden = |c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{e0041}".contains(c);
    assert!(!text.contains(|c| c != '\n' && is_hidden(c)), "{text}");
    assert!(
        text.contains("\\u2028\\u2029\\u202e\\udb40\\udc41é"),
        "{text}"
    );
    let client = world.last_line()["client"].as_str().unwrap().to_owned();
    assert!(
        hostile.starts_with(&client) && client.chars().count() == 1024,
        "{client}"
    );

    // A legacy client has no name after its first request; how it calls itself in HTTP is what is known.
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "api_get_request", "arguments": {"endpoint": "/me"}}});
    for (body, revision) in [(body.clone(), "2025-11-25"), (json!([body]), "2025-03-26")] {
        let headers = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", revision),
            ("User-Agent", "legacy/3"),
        ];
        let reply =
            world
                .server
                .client()
                .request("POST", "/mcp", &headers, body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(world.last_line()["client"], "legacy/3");
    }
    assert_eq!(world.lines().len(), 4);
}

#[test]
fn a_sign_in_with_a_device_code_and_the_verbs_are_recorded_too() {
    let (setup, _backend, entra) = World::audited().stop();
    let setup = setup.with("SIGN_IN_METHOD", "device_code");
    let last_line = || lines(&log_of(&setup)).pop().unwrap();
    entra.set(|settings| settings.device_interval = 1);
    let mut login = Command::new(PROGRAM);
    login.args(["login", ADA]);
    let mut login = Verb::start(login, &setup);
    let code = loop {
        let line = login.line().unwrap_or_else(|| panic!("{}", login.log()));
        if let Some((_, code)) = line.split_once("enter the code ") {
            break code.to_owned();
        }
    };
    entra.approve_device(&code, ADA);
    assert_eq!(login.end().0, 0);
    let line = last_line();
    assert_eq!(
        (&line["event"], &line["outcome"], &line["oid"]),
        (&json!("sign_in"), &json!("ok"), &json!(ADA_OID))
    );
    assert_eq!(line["client"], "entra-auth-mcp login");
    let mut logout = Command::new(PROGRAM);
    logout.args(["logout", ADA]);
    assert_eq!(Verb::run(logout, &setup).0, 0);
    let line = last_line();
    assert_eq!(
        (&line["event"], &line["client"]),
        (&json!("sign_out"), &json!("entra-auth-mcp logout"))
    );
}

#[test]
fn a_hyphen_is_standard_output() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("AUDIT_LOG", "-");
    let mut server = Verb::start(Command::new(PROGRAM), &setup);
    let port = server
        .line()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let login = format!(
        "http://localhost:{port}/auth/login?{}",
        encode_pairs(&[("user_id", ADA)])
    );
    assert_eq!(Browser::new().sign_in(&login, ADA).status, 200);
    let line = loop {
        let line = server.line().unwrap();
        if line.starts_with('{') {
            break line;
        }
    };
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap()["event"],
        "sign_in"
    );
}

/// The binary with its standard output sent elsewhere by a shell.
#[cfg(unix)]
fn program_with(redirection: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" {redirection}"), PROGRAM]);
    command
}

// CASES D4
#[cfg(unix)]
#[test]
fn where_standard_output_leads_nowhere_the_server_does_not_start() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("AUDIT_LOG", "-");
    for redirection in [">&-", ">/dev/null", "1<>/dev/null"] {
        let (code, _, log) = Verb::run(program_with(redirection), &setup);
        assert_eq!(code, 1, "{redirection}");
        assert!(
            log.contains("standard output") && log.contains("AUDIT_LOG"),
            "{log}"
        );
    }
    // Where it need not be written, that is said once.
    let setup = setup.with("AUDIT_LOG_REQUIRED", "false");
    let server = Verb::start(program_with(">&-"), &setup);
    let begun = Instant::now();
    while !server
        .log()
        .contains("cannot be written to standard output")
    {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
    }
}

// CASES D3
#[cfg(unix)]
#[test]
fn when_nobody_reads_standard_output_calls_fail_before_anything_is_sent() {
    let (setup, backend, _entra) = World::signed_in().stop();
    let setup = setup.with("AUDIT_LOG", "-");
    let (mut process, output) = Process::start_with_output(Command::new(PROGRAM), &setup);
    let mut mcp = process.modern();
    let call =
        |n: usize| json!({"endpoint": format!("/tasks/{n}/{}", "x".repeat(900)), "data": {}});
    // Until the pipe is full, whatever it holds.
    let mut made = 0;
    let unrecorded = loop {
        let mut result = mcp.call("api_post_request", call(made));
        made += 1;
        assert!(made < 10_000, "the pipe is never full");
        if result["structuredContent"]["error"] == "configuration" {
            break failure(&mut result);
        }
    };
    assert_names_the_setting(&unrecorded);
    let hint = unrecorded["hint"].as_str().unwrap();
    assert!(hint.contains("done all the same"), "{unrecorded}");
    assert_eq!(backend.requests().len(), made);
    for _ in 0..3 {
        let refused = failure(&mut mcp.call("api_post_request", call(0)));
        assert_names_the_setting(&refused);
        assert!(refused.to_string().contains("nobody reads it"), "{refused}");
    }
    assert_eq!(backend.requests().len(), made);

    // Somebody reads again: no line is missing, and none comes twice.
    let mut lines = output.lines().map(Result::unwrap);
    let mut recorded = 0;
    while recorded < made {
        let line = lines.next().expect("a line for each call");
        if line.starts_with('{') {
            let line: Value = serde_json::from_str(&line).unwrap();
            let path = line["path"].as_str().unwrap();
            assert!(path.contains(&format!("/tasks/{recorded}/")), "{path}");
            recorded += 1;
        }
    }
    // The server may not know yet.
    while mcp.call("api_post_request", call(made))["structuredContent"]["error"] == "configuration"
    {
    }
    let line = lines.next().unwrap();
    assert!(line.contains(&format!("/tasks/{made}/")), "{line}");
    assert_eq!(backend.requests().len(), made + 1);
    signal("TERM", &process);
    assert_eq!(process.exit_code(), Some(0));
}

// CASES D3
#[cfg(unix)]
#[test]
fn a_server_whose_standard_output_nobody_reads_can_be_told_to_stop() {
    let (setup, _backend, _entra) = World::signed_in().stop();
    let setup = setup
        .with("AUDIT_LOG", "-")
        .with("AUDIT_LOG_REQUIRED", "false");
    let (mut process, output) = Process::start_with_output(Command::new(PROGRAM), &setup);
    let mut mcp = process.modern();
    while !process.log().contains("nobody reads it") {
        mcp.call("api_get_request", get(&format!("/{}", "x".repeat(900))));
    }
    // Calls go through unrecorded.
    mcp.ok("api_get_request", get("/me"));
    signal("TERM", &process);
    assert_eq!(process.exit_code(), Some(0));
    drop(output);
}

// ---- Who can read it ----

#[cfg(unix)]
#[test]
fn nobody_else_can_read_it_and_a_file_that_others_can_read_is_mended() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    let world = World::audited();
    assert_eq!(mode(&log_of(&world.setup)), 0o600);
    fs::write(log_of(&world.setup), "{\"earlier\":true}\n").unwrap();
    fs::set_permissions(log_of(&world.setup), fs::Permissions::from_mode(0o644)).unwrap();
    let world = world.restarted();
    assert_eq!(mode(&log_of(&world.setup)), 0o600);
    world.server.modern().sign_in(ADA);
    // What was there stays.
    assert!(world.lines().len() == 2 && world.lines()[0] == json!({"earlier": true}));
}

#[cfg(unix)]
#[test]
fn a_link_or_a_directory_in_its_place_is_refused_at_the_start() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let (file, target) = (
        setup.directory.file("audit.jsonl"),
        setup.directory.file("target"),
    );
    let setup = setup.with("AUDIT_LOG", file.to_str().unwrap());
    fs::write(&target, "of somebody else").unwrap();
    std::os::unix::fs::symlink(&target, &file).unwrap();
    let refused = |setup: &Setup| setup.try_start().err().expect("a refusal").text();
    assert!(
        refused(&setup).contains("AUDIT_LOG") && refused(&setup).contains("not a regular file")
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "of somebody else");
    fs::remove_file(&file).unwrap();
    // A link to what is not there yet makes nothing there.
    std::os::unix::fs::symlink(setup.directory.file("nothing"), &file).unwrap();
    assert!(
        refused(&setup).contains("not a regular file") && !setup.directory.file("nothing").exists()
    );
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refused(&setup).contains("not a regular file"));
    // Where it is not required, a warning is all.
    let setup = setup.with("AUDIT_LOG_REQUIRED", "false");
    let process = Process::start(Command::new(PROGRAM), &setup);
    assert!(
        process.log().contains("cannot be written") && process.log().contains("AUDIT_LOG"),
        "{}",
        process.log()
    );
}

// ---- When it cannot be written ----

/// Puts a directory in the place of the log, and has the server open it anew.
fn block(world: &World) {
    fs::rename(
        log_of(&world.setup),
        world.setup.directory.file("audit.jsonl.1"),
    )
    .unwrap();
    fs::create_dir(log_of(&world.setup)).unwrap();
    let _ = world.server.server.reopen_audit_log();
}

fn unblock(world: &World) {
    fs::remove_dir(log_of(&world.setup)).unwrap();
}

#[test]
fn while_it_cannot_be_written_nothing_is_sent_or_changed() {
    let world = World::audited();
    let mut mcp = world.server.modern();
    mcp.sign_in(ADA);
    block(&world);
    // A refresh is due, too.
    world.advance(3700);
    let link = mcp.ok("authenticate_user", json!({"user_id": GRACE}))["sign_in_url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_names_the_setting(&failure(&mut mcp.call("api_get_request", get("/me"))));
    assert_names_the_setting(&failure(
        &mut mcp.call("logout_user", json!({"user_id": ADA})),
    ));
    let page = world.server.client().get(&format!(
        "/auth/logout?{}",
        encode_pairs(&[("user_id", ADA)])
    ));
    assert!(
        page.status == 400 && page.text().contains("AUDIT_LOG"),
        "{}",
        page.text()
    );
    let page = Browser::new().sign_in(&link, GRACE);
    assert!(
        page.status == 400 && page.text().contains("AUDIT_LOG"),
        "{}",
        page.text()
    );
    let health = world.server.client().get("/healthz").text();
    assert!(
        health.contains("degraded") && health.contains("audit log"),
        "{health}"
    );
    assert!(world.backend.requests().is_empty());
    assert_eq!((world.entra.redemptions(), world.entra.refreshes()), (1, 0));
    assert_eq!(mcp.ok("view_userid", json!({}))["user_ids"], json!([ADA]));

    unblock(&world);
    mcp.ok("api_get_request", get("/me"));
    let health = world.server.client().get("/healthz").text();
    assert_eq!(health, r#"{"status":"ok"}"#);
    mcp.ok("logout_user", json!({"user_id": ADA}));
    let events: Vec<Value> = world
        .lines()
        .into_iter()
        .map(|mut line| line["event"].take())
        .collect();
    // The sign-in that failed for want of it comes first: it could not be written before.
    assert_eq!(events, ["sign_in", "refresh", "api_call", "sign_out"]);
}

#[test]
fn the_call_during_which_it_fails_says_that_it_was_made_and_the_next_is_not() {
    let (setup, backend, _entra) = World::signed_in().stop();
    // Its standard output is closed as soon as it has said that it is ready.
    let setup = setup.with("AUDIT_LOG", "-");
    let process = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = process.modern();
    // Another test that is starting a program may hold the other end a moment longer.
    let post = json!({"endpoint": "/tasks", "data": {}});
    let mut calls = 1;
    let mut result = mcp.call("api_post_request", post.clone());
    while result["isError"] == false && calls < 1000 {
        calls += 1;
        result = mcp.call("api_post_request", post.clone());
    }
    let made = failure(&mut result);
    assert_names_the_setting(&made);
    assert!(
        made["hint"].as_str().unwrap().contains("done all the same"),
        "{made}"
    );
    assert_eq!(backend.requests().len(), calls);
    let refused = failure(&mut mcp.call("api_post_request", post));
    assert_names_the_setting(&refused);
    assert!(
        !refused["hint"]
            .as_str()
            .unwrap()
            .contains("done all the same"),
        "{refused}"
    );
    assert_eq!(backend.requests().len(), calls);

    drop(process);
    let setup = setup.with("AUDIT_LOG_REQUIRED", "false");
    let process = Process::start(Command::new(PROGRAM), &setup);
    for _ in 0..2 {
        process.modern().ok("api_get_request", get("/me"));
    }
    assert_eq!(backend.requests().len(), calls + 2);
    assert_eq!(
        process.log().matches("audit log").count(),
        1,
        "{}",
        process.log()
    );
}

#[cfg(target_os = "linux")]
#[test]
fn of_a_line_that_the_disk_does_not_take_whole_nothing_stays() {
    const MOST: u64 = 16 * 1024; // 32 blocks of 512 bytes
    let (setup, backend, _entra) = World::signed_in().stop();
    let file = log_of(&setup);
    let setup = setup
        .with("AUDIT_LOG", file.to_str().unwrap())
        .with("LOG_LEVEL", "error");
    let filler = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(16_250));
    assert!((MOST - 200..MOST).contains(&(filler.len() as u64)));
    fs::write(log_of(&setup), &filler).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\"", PROGRAM]);
    let process = Process::start(command, &setup);
    let mut mcp = process.modern();
    let made = failure(&mut mcp.call("api_get_request", get("/me")));
    assert!(
        made["hint"].as_str().unwrap().contains("done all the same"),
        "{made}"
    );
    assert_eq!(fs::read_to_string(log_of(&setup)).unwrap(), filler);
    assert_names_the_setting(&failure(&mut mcp.call("api_get_request", get("/me"))));
    assert_eq!(backend.requests().len(), 1);
    // Somebody makes room: what was owed is written first.
    fs::OpenOptions::new()
        .write(true)
        .open(log_of(&setup))
        .unwrap()
        .set_len(0)
        .unwrap();
    mcp.ok("api_get_request", get("/me"));
    assert_eq!(backend.requests().len(), 2);
    assert_eq!(lines(&log_of(&setup)).len(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn of_a_line_that_standard_output_takes_in_part_the_rest_comes_next() {
    let (setup, _backend, _entra) = World::signed_in().stop();
    let port = free_port().to_string();
    let setup = setup.with("AUDIT_LOG", "-").with("SERVER_PORT", &port);
    let file = log_of(&setup);
    // Behind it there is room for what says that the server is ready, and for no whole line.
    let filler = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(16_100));
    fs::write(&file, &filler).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "echo \"it is ready on port $1\"; trap '' XFSZ; ulimit -f 32; exec \"$0\" >>\"$2\"",
            PROGRAM,
            &port,
        ])
        .arg(&file);
    let process = Process::start(command, &setup);
    let begun = Instant::now();
    while !fs::read_to_string(&file).unwrap().contains("start page") {
        assert!(begun.elapsed() < PATIENCE, "{}", process.log());
    }
    let mut mcp = process.modern();
    let made = failure(&mut mcp.call("api_get_request", get("/me")));
    assert_names_the_setting(&made);
    let mut text = fs::read_to_string(&file).unwrap();
    assert!(!text.ends_with('\n'), "it is taken in part");
    fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(0)
        .unwrap();
    mcp.ok("api_get_request", get("/me"));
    text += &fs::read_to_string(&file).unwrap();
    let recorded = text.lines().filter(|line| line.starts_with('{'));
    let whole = recorded.map(|line| serde_json::from_str::<Value>(line).expect(line));
    assert_eq!(whole.count(), 3, "{text}");
}

// ---- Many calls, and rotating ----

#[cfg(unix)]
fn signal(name: &str, process: &Process) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &process.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// The program as `nohup` starts it: SIGHUP is ignored.
#[cfg(unix)]
fn program_under_nohup() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\"", PROGRAM]);
    command
}

/// The program as a terminal starts it: SIGHUP has its default action, even when these tests run under `nohup`.
/// A shell cannot undo what it inherits. GNU `env` can; without it, the tests must not run under `nohup`.
#[cfg(unix)]
fn program_in_a_terminal() -> Command {
    const DEFAULT_SIGHUP: &str = "--default-signal=HUP";
    let can_reset = Command::new("env").args([DEFAULT_SIGHUP, "true"]).output();
    if !can_reset.is_ok_and(|output| output.status.success()) {
        return Command::new(PROGRAM);
    }
    let mut command = Command::new("env");
    command.args([DEFAULT_SIGHUP, PROGRAM]);
    command
}

#[cfg(unix)]
#[test]
fn a_rotated_file_is_left_whole_and_a_new_one_begun() {
    for command in [program_in_a_terminal(), program_under_nohup()] {
        let (setup, _backend, _entra) = World::signed_in().stop();
        let file = log_of(&setup);
        let setup = setup.with("AUDIT_LOG", file.to_str().unwrap());
        let process = Process::start(command, &setup);
        let mut mcp = process.modern();
        for round in 0..3 {
            mcp.ok("api_get_request", get("/me"));
            let old = setup.directory.file(&format!("audit.jsonl.{round}"));
            fs::rename(&file, &old).unwrap();
            // Until it is told, the server goes on with the file that it has.
            mcp.ok("api_get_request", get("/me"));
            signal("HUP", &process);
            let start = Instant::now();
            while !file.exists() {
                assert!(start.elapsed() < PATIENCE, "no new file");
                thread::yield_now();
            }
            assert_eq!(lines(&old).len(), 2);
        }
        mcp.ok("api_get_request", get("/me"));
        assert_eq!(lines(&file).len(), 1);
    }
}

/// Setups that have no audit log to open anew.
#[cfg(unix)]
fn setups_without_a_file() -> [Setup; 2] {
    let entra = Entra::start();
    [
        Setup::new(&entra, None),
        Setup::new(&entra, None).with("AUDIT_LOG", "-"),
    ]
}

#[cfg(unix)]
#[test]
fn without_a_file_to_open_anew_a_terminal_that_goes_away_ends_the_server() {
    for setup in setups_without_a_file() {
        let mut process = Process::start(program_in_a_terminal(), &setup);
        signal("HUP", &process);
        assert_eq!(process.exit_code(), None);
    }
}

#[cfg(unix)]
#[test]
fn without_a_file_to_open_anew_a_server_under_nohup_outlives_its_terminal() {
    for setup in setups_without_a_file() {
        let mut process = Process::start(program_under_nohup(), &setup);
        signal("HUP", &process);
        // A server that SIGHUP has ended has no exit code.
        signal("TERM", &process);
        assert_eq!(process.exit_code(), Some(0));
    }
}

#[test]
fn lines_of_many_calls_stay_whole() {
    const CALLS: usize = 25;
    let world = World::audited();
    world.server.modern().sign_in(ADA);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut mcp = world.server.modern();
                for n in 0..CALLS {
                    mcp.call("api_get_request", get(&format!("/{}", "x".repeat(n * 30))));
                }
            });
        }
    });
    assert_eq!(world.lines().len(), 1 + 4 * CALLS);
}
