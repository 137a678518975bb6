//! Files that go between the API and `FILES_DIR` without passing through the model.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::{Answer, Event, Reply};
use crate::support::schema::departures;
use crate::support::server::{Answered, Mcp, Running, Setup, TempDir, as_refs};
use crate::support::{Gate, PATIENCE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MIB: usize = 1024 * 1024;
const SENDERS: [&str; 3] = ["api_post_request", "api_put_request", "api_patch_request"];

/// A server with Ada signed in and a directory for files, which has a directory `sub` in it.
struct Bench {
    server: Running,
    backend: Backend,
    entra: Entra,
    files: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (entra, files) = (Entra::start(), TempDir::new());
        fs::create_dir(files.file("sub")).unwrap();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend)).with("FILES_DIR", files.0.to_str().unwrap());
        let server = change(setup).start();
        server.modern().sign_in(ADA);
        Self {
            server,
            backend,
            entra,
            files,
        }
    }

    /// Calls `tool` and gives all of the answer, whose structured content fits its schema.
    fn answered(&self, tool: &str, arguments: Value, extra: Value) -> Answered {
        let mut mcp = self.server.modern();
        let answered = mcp.call_with(tool, arguments, extra);
        let tools = definitions(&mut mcp);
        let definition = tools.iter().find(|known| known["name"] == tool).unwrap();
        let structured = &answered.response["result"]["structuredContent"];
        assert_eq!(
            departures(&definition["outputSchema"], structured, ""),
            Vec::<String>::new()
        );
        answered
    }

    fn call(&self, tool: &str, arguments: Value) -> Value {
        self.answered(tool, arguments, json!({})).response["result"]["structuredContent"].take()
    }

    fn save(&self, endpoint: &str, name: &str) -> Value {
        self.call(
            "api_get_request",
            json!({"endpoint": endpoint, "save_to": name}),
        )
    }

    fn send(&self, name: &str) -> Value {
        self.call(
            "api_put_request",
            json!({"endpoint": "/echo", "body_file": name}),
        )
    }

    fn answer(&self, reply: Reply) {
        self.backend.on(move |_| Some(reply.clone().into()));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.file(name)
    }

    /// Every file below the directory.
    fn names(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![self.files.0.clone()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    waiting.push(entry.path());
                } else {
                    found.push(
                        entry
                            .path()
                            .strip_prefix(&self.files.0)
                            .unwrap()
                            .display()
                            .to_string(),
                    );
                }
            }
        }
        found.sort();
        found
    }
}

fn definitions(mcp: &mut Mcp) -> Vec<Value> {
    mcp.result("tools/list", json!({}))["tools"]
        .as_array()
        .unwrap()
        .clone()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |digits, byte| {
            digits + &format!("{byte:02x}")
        })
}

fn noise(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from((n ^ (n >> 8) ^ (n >> 16)) & 0xff).unwrap())
        .collect()
}

fn asserts_refused(failure: &Value, error: &str, part: &str) {
    let message = failure["message"].as_str().unwrap_or_default();
    assert!(
        failure["success"] == false && failure["error"] == error && message.contains(part),
        "{failure}"
    );
    assert!(
        failure["hint"]
            .as_str()
            .is_some_and(|hint| !hint.is_empty()),
        "{failure}"
    );
}

/// Waits until `holds`, which something else brings about.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::yield_now();
    }
}

// ---- What is offered ----

#[test]
fn without_a_directory_the_arguments_are_not_offered_and_refused_by_name() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern();
    for tool in definitions(&mut mcp) {
        for argument in ["save_to", "body_file"] {
            assert!(
                tool["inputSchema"]["properties"].get(argument).is_none(),
                "{tool}"
            );
        }
    }
    for (tool, argument) in [
        ("api_get_request", "save_to"),
        ("api_post_request", "body_file"),
    ] {
        let failure = mcp.fails(tool, json!({"endpoint": "/me", argument: "a.txt"}));
        asserts_refused(&failure, "configuration", argument);
        assert!(
            failure["message"].as_str().unwrap().contains("FILES_DIR"),
            "{failure}"
        );
    }
    assert_eq!(backend.requests().len(), 0);
}

#[test]
fn with_a_directory_they_are_offered_where_they_work() {
    let bench = Bench::new();
    for tool in definitions(&mut bench.server.modern()) {
        let name = tool["name"].as_str().unwrap();
        let has = |argument: &str| tool["inputSchema"]["properties"].get(argument).is_some();
        assert_eq!(
            (has("save_to"), has("body_file")),
            (name == "api_get_request", SENDERS.contains(&name)),
            "{name}"
        );
        if has("save_to") {
            // Clients may let pass unasked what only reads.
            assert_eq!(tool["annotations"]["readOnlyHint"], false);
        }
    }
}

// ---- Saving ----

#[test]
fn a_successful_answer_is_saved_byte_for_byte_and_described() {
    let bench = Bench::new();
    let bytes = noise(MIB + 17);
    for (name, reply) in [
        (
            "report.pdf",
            Reply::new(200, "application/pdf", bytes.clone()),
        ),
        (
            "sub/Übersicht 2026.bin",
            Reply::new(200, "application/pdf", bytes.clone()).with("Transfer-Encoding", "chunked"),
        ),
        (
            "a-b_c.tar.gz",
            Reply::new(201, "application/pdf", bytes.clone()),
        ),
    ] {
        bench.answer(reply);
        let saved = bench.save("/report", name);
        assert_eq!(saved["success"], true, "{saved}");
        let file = json!({"path": name, "bytes": bytes.len(), "sha256": sha256(&bytes), "content_type": "application/pdf"});
        assert_eq!(
            (&saved["file"], &saved["data"], &saved["truncated"]),
            (&file, &Value::Null, &json!(false))
        );
        assert!(fs::read(bench.file(name)).unwrap() == bytes, "{name}");
    }
    bench.answer(Reply::new(200, "text/plain", ""));
    assert_eq!(bench.save("/nothing", "empty")["file"]["bytes"], 0);
    assert_eq!(fs::read(bench.file("empty")).unwrap(), b"");
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_what_is_saved() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.save("/me", "me.json");
    let mode = fs::metadata(bench.file("me.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_answer_that_is_no_success_or_has_no_content_makes_no_file() {
    let bench = Bench::new();
    for (reply, success) in [
        (Reply::new(404, "text/plain", "why"), false),
        (Reply::new(500, "text/plain", "why"), false),
        (Reply::empty(302).with("Location", "/x"), false),
        (Reply::empty(304), true),
        (Reply::empty(204), true),
    ] {
        let status = reply.status;
        bench.answer(reply);
        let answer = bench.save("/x", "x");
        assert_eq!(
            (&answer["status"], &answer["success"]),
            (&json!(status), &json!(success)),
            "{answer}"
        );
        assert_eq!(
            answer["data"],
            if status >= 400 {
                json!("why")
            } else {
                Value::Null
            }
        );
        assert!(
            answer.get("file").is_none() && bench.names().is_empty(),
            "{answer}"
        );
    }
}

#[test]
fn a_file_that_exists_is_neither_overwritten_nor_asked_for() {
    let bench = Bench::new();
    fs::write(bench.file("there"), "mine").unwrap();
    for name in ["there", "sub"] {
        asserts_refused(
            &bench.save("/me", name),
            "invalid_request",
            "exists already",
        );
    }
    assert_eq!(
        (
            fs::read_to_string(bench.file("there")).unwrap(),
            bench.backend.requests().len()
        ),
        ("mine".into(), 0)
    );
    // One that comes to be meanwhile stays as it is, too.
    let path = bench.file("late");
    bench.backend.on(move |_| {
        fs::write(&path, "first").unwrap();
        Some(Reply::new(200, "text/plain", "second").into())
    });
    asserts_refused(
        &bench.save("/x", "late"),
        "invalid_request",
        "exists already",
    );
    assert_eq!(fs::read_to_string(bench.file("late")).unwrap(), "first");
}

#[test]
fn what_is_longer_than_allowed_is_not_kept() {
    let bench = Bench::with(|setup| setup.with("MAX_FILE_BYTES", "1000"));
    let reply = |length: usize| Reply::new(200, "application/octet-stream", noise(length));
    for reply in [
        reply(1001),
        reply(1001).with("Transfer-Encoding", "chunked"),
        reply(MIB),
    ] {
        bench.answer(reply);
        asserts_refused(&bench.save("/x", "x"), "configuration", "MAX_FILE_BYTES");
        assert_eq!(bench.names(), [""; 0]);
    }
    bench.answer(reply(1000));
    assert_eq!(bench.save("/x", "x")["file"]["bytes"], 1000);
    fs::write(bench.file("long"), noise(1001)).unwrap();
    asserts_refused(&bench.send("long"), "invalid_request", "MAX_FILE_BYTES");
}

#[test]
fn of_an_answer_that_breaks_off_nothing_is_kept() {
    let bench = Bench::new();
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbeginning",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\nxx\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nbeginning",
    ] {
        bench.backend.on(move |_| Some(Answer::raw(wire)));
        let failure = bench.save("/x", "x");
        asserts_refused(&failure, "backend_unreachable", "/v1.0/x");
        assert_eq!(bench.names(), [""; 0], "{wire}");
    }
}

// ---- Sending ----

#[test]
fn a_file_is_sent_byte_for_byte_with_its_length() {
    let bench = Bench::new();
    let bytes = noise(300_005);
    fs::write(bench.file("sub/in.bin"), &bytes).unwrap();
    for tool in SENDERS {
        let sent = bench.call(
            tool,
            json!({"endpoint": "/echo", "body_file": "sub/in.bin"}),
        );
        let file = json!({"path": "sub/in.bin", "bytes": bytes.len(), "sha256": sha256(&bytes),
            "content_type": "application/octet-stream"});
        assert_eq!(
            (&sent["success"], &sent["file"]),
            (&json!(true), &file),
            "{}",
            sent["message"]
        );
        let request = bench.backend.last();
        assert!(request.body == bytes, "{tool}");
        assert_eq!(
            request.header("Content-Length"),
            Some(bytes.len().to_string().as_str())
        );
        assert_eq!(request.header("Transfer-Encoding"), None);
        assert_eq!(
            request.header("Content-Type"),
            Some("application/octet-stream")
        );
    }
    fs::write(bench.file("empty"), "").unwrap();
    let arguments =
        json!({"endpoint": "/echo", "body_file": "empty", "headers": {"Content-Type": "text/csv"}});
    let sent = bench.call("api_post_request", arguments);
    assert_eq!(
        (&sent["file"]["bytes"], &sent["file"]["content_type"]),
        (&json!(0), &json!("text/csv"))
    );
    let request = bench.backend.last();
    assert_eq!(
        (
            request.header("Content-Length"),
            request.header("Content-Type")
        ),
        (Some("0"), Some("text/csv"))
    );
}

#[test]
fn a_file_is_sent_again_when_the_token_was_not_taken() {
    let bench = Bench::new();
    let bytes = noise(150_000);
    fs::write(bench.file("in"), &bytes).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    bench.backend.on(move |_| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then(|| {
            Reply::empty(401)
                .with("WWW-Authenticate", "Bearer error=\"invalid_token\"")
                .into()
        })
    });
    let answered = bench.answered(
        "api_put_request",
        json!({"endpoint": "/echo", "body_file": "in"}),
        with_token("up"),
    );
    let sent = &answered.response["result"]["structuredContent"];
    assert_eq!(
        (&sent["success"], &sent["file"]["sha256"]),
        (&json!(true), &json!(sha256(&bytes)))
    );
    assert!(
        bench
            .backend
            .requests()
            .iter()
            .all(|request| request.body == bytes)
    );
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert_grows(&answered, "up", bytes.len());
}

/// It answers from the head of a request alone, and closes.
#[test]
fn an_api_that_refuses_the_token_is_not_sent_the_file() {
    let entra = Entra::start();
    let files = TempDir::new();
    let bytes = vec![7; 12_000_000];
    fs::write(files.file("in"), &bytes).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let api = thread::spawn(move || {
        let mut bodies = Vec::new();
        for status in [
            "401 \r\nWWW-Authenticate: Bearer error=\"invalid_token\"",
            "200 ",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).unwrap();
            }
            let mut body = Vec::new();
            if status.starts_with("200") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                reader.take(12_000_000).read_to_end(&mut body).unwrap();
            }
            bodies.push(body);
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
        }
        bodies
    });
    let server = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", &base)
        .with("FILES_DIR", files.0.to_str().unwrap())
        .start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let answered = mcp.call_with(
        "api_put_request",
        json!({"endpoint": "/x", "body_file": "in"}),
        json!({}),
    );
    let sent = &answered.response["result"]["structuredContent"];
    assert_eq!(
        (&sent["status"], &sent["file"]["bytes"]),
        (&json!(200), &json!(12_000_000)),
        "{sent}"
    );
    assert!(api.join().unwrap() == [vec![], bytes]);
}

#[test]
fn a_file_that_the_api_did_not_wait_for_is_not_said_to_be_sent() {
    let bench = Bench::new();
    fs::write(bench.file("in"), vec![7; 12_000_000]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let api = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while !lines.next().unwrap().unwrap().is_empty() {}
        stream
            .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
    });
    let files = bench.file("").to_str().unwrap().to_owned();
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", &base)
        .with("FILES_DIR", &files)
        .start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let answered = mcp.call_with(
        "api_put_request",
        json!({"endpoint": "/x", "body_file": "in"}),
        json!({}),
    );
    let failure = &answered.response["result"]["structuredContent"];
    asserts_refused(
        failure,
        "backend_unreachable",
        "status 202 before it had the file",
    );
    api.join().unwrap();
}

#[test]
fn what_cannot_go_together_is_refused() {
    let bench = Bench::new();
    fs::write(bench.file("in"), "x").unwrap();
    let both = bench.call(
        "api_post_request",
        json!({"endpoint": "/echo", "body_file": "in", "data": {}}),
    );
    asserts_refused(&both, "invalid_request", "body_file and data");
    let both = bench.call(
        "api_get_request",
        json!({"endpoint": "/me", "save_to": "x", "select": "/id"}),
    );
    asserts_refused(&both, "invalid_request", "save_to and select");
    assert_eq!(
        (bench.backend.requests().len(), bench.names()),
        (0, vec!["in".to_owned()])
    );
}

// ---- Names ----

// CASES C12
#[test]
fn a_form_in_a_file_is_refused_where_methods_are_restricted() {
    let bench = Bench::with(|setup| setup.with("ALLOWED_METHODS", "PUT"));
    fs::write(bench.file("form"), "_method=DELETE").unwrap();
    for content_type in [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
    ] {
        let headers = json!({"Content-Type": content_type});
        let call = json!({"endpoint": "/echo", "body_file": "form", "headers": headers});
        asserts_refused(
            &bench.call("api_put_request", call),
            "refused",
            "ALLOWED_METHODS",
        );
    }
    assert!(bench.backend.requests().is_empty());
    assert_eq!(bench.send("form")["success"], true);
}

#[test]
fn a_name_that_could_lead_elsewhere_is_refused_before_anything_is_called() {
    let bench = Bench::new();
    let secret = bench.server.token_file();
    let absolute = secret.to_str().unwrap().to_owned();
    let up = format!(
        "../{}/token_cache.json",
        bench
            .server
            .directory
            .0
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
    );
    let long = "x".repeat(256);
    let names = [
        "/",
        "/etc/passwd",
        "//server/share",
        "..",
        "../x",
        "sub/..",
        "sub/../../x",
        "sub/../x",
        ".",
        "./x",
        "sub/.",
        "sub//x",
        "sub/",
        "x/",
        ".env",
        ".ssh/authorized_keys",
        "sub/.hidden",
        "...",
        "..x",
        "x\0y",
        "x\0/../..",
        "x\ny",
        "x\u{7f}",
        "x\u{85}",
        // CASES C27: what shows another name than it is.
        "x\u{202e}fdp.exe",
        "x\u{2066}y",
        "x\u{200e}y",
        "x\u{61c}y",
        "x\u{2028}y",
        "x\u{2029}y",
        "sub/x\u{200b}y",
        "x\u{2060}",
        "\u{feff}x",
        "x\u{ad}y",
        "..\\x",
        "sub\\x",
        "\\\\server\\share",
        "C:\\x",
        "C:x",
        "c:/x",
        "x:stream",
        "x::$DATA",
        "CON",
        "con.txt",
        "NUL",
        "nul.tar.gz",
        "sub/AUX",
        "COM1",
        "lpt9.log",
        "COM¹",
        "CONIN$",
        "con .txt",
        "x.",
        "x ",
        " x",
        "ENV~1",
        "TOKEN_~1.JSO",
        "a*",
        "a?",
        "a\"b",
        "<a",
        "a|b",
        "nowhere/x",
        "nowhere/../x",
        "%2e%2e/\0",
        &absolute,
        &up,
        &long,
    ];
    for name in names {
        asserts_refused(&bench.save("/me", name), "invalid_request", "refused");
        asserts_refused(&bench.send(name), "invalid_request", "refused");
    }
    for name in [json!("x".repeat(1025)), json!(5), json!(["x"])] {
        let failure = bench.call(
            "api_get_request",
            json!({"endpoint": "/me", "save_to": name}),
        );
        asserts_refused(&failure, "invalid_request", "save_to");
    }
    assert_eq!((bench.backend.requests().len(), bench.names()), (0, vec![]));
}

#[test]
fn a_name_that_only_looks_odd_is_taken_as_it_is() {
    let bench = Bench::new();
    for name in [
        "%2e%2e",
        "a..b",
        "~x",
        "-rf",
        "$HOME",
        "nullable",
        "com10",
        "console.log",
        "‥",
        "sub/ü",
        "a b",
        "'x'",
        "a;b",
    ] {
        assert_eq!(bench.save("/me", name)["file"]["path"], name, "{name}");
        assert!(bench.file(name).is_file(), "{name}");
        assert_eq!(bench.send(name)["success"], true, "{name}");
    }
}

#[cfg(unix)]
#[test]
fn no_link_is_followed_in_any_place() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    let outside = TempDir::new();
    fs::write(outside.file("secret"), "secret").unwrap();
    fs::write(bench.file("real"), "mine").unwrap();
    symlink(&outside.0, bench.file("out")).unwrap();
    symlink(outside.file("secret"), bench.file("secret")).unwrap();
    symlink(outside.file("planted"), bench.file("dangling")).unwrap();
    symlink("real", bench.file("within")).unwrap();
    symlink("sub", bench.file("to-sub")).unwrap();
    for name in ["out/secret", "secret", "within", "dangling"] {
        asserts_refused(&bench.send(name), "invalid_request", "refused");
    }
    for name in [
        "out/new",
        "secret",
        "dangling",
        "within",
        "to-sub/new",
        "real/x",
        "out",
    ] {
        asserts_refused(&bench.save("/me", name), "invalid_request", "refused");
    }
    let left: Vec<_> = fs::read_dir(&outside.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        (left, fs::read_to_string(outside.file("secret")).unwrap()),
        (vec!["secret".into()], "secret".into())
    );
    assert_eq!(bench.backend.requests().len(), 0);
}

#[cfg(unix)]
#[test]
fn only_a_regular_file_without_further_names_is_sent() {
    let bench = Bench::new();
    fs::hard_link(bench.server.token_file(), bench.file("linked")).unwrap();
    asserts_refused(&bench.send("linked"), "invalid_request", "hard links");
    let _socket = std::os::unix::net::UnixListener::bind(bench.file("socket")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(bench.file("fifo"))
        .status()
        .unwrap();
    assert!(made.success());
    for name in ["sub", "socket", "fifo"] {
        asserts_refused(&bench.send(name), "invalid_request", "not a regular file");
        asserts_refused(
            &bench.save("/me", name),
            "invalid_request",
            "exists already",
        );
    }
    asserts_refused(&bench.send("missing"), "invalid_request", "missing");
    assert_eq!(bench.backend.requests().len(), 0);
}

/// A directory that was swapped for a link while the API answered leads nowhere.
#[cfg(unix)]
#[test]
fn a_link_that_is_planted_during_the_call_is_not_followed() {
    let bench = Bench::new();
    let outside = TempDir::new();
    let (sub, target, elsewhere) = (bench.file("sub"), outside.0.clone(), bench.file("moved"));
    bench.backend.on(move |_| {
        fs::rename(&sub, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&target, &sub).unwrap();
        Some(Reply::new(200, "text/plain", "words").into())
    });
    let failure = bench.save("/x", "sub/x");
    assert_eq!(
        (
            &failure["success"],
            fs::read_dir(&outside.0).unwrap().count()
        ),
        (&json!(false), 0),
        "{failure}"
    );
}

#[test]
fn a_directory_that_cannot_be_meant_ends_the_start() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let (inside, file) = (
        setup.directory.file("inside"),
        setup.directory.file("a-file"),
    );
    fs::create_dir(&inside).unwrap();
    fs::write(&file, "").unwrap();
    let tokens = setup.directory.0.to_str().unwrap().to_owned();
    let missing = setup.directory.file("missing");
    let refused = [
        tokens.as_str(),
        &format!("{tokens}/inside/.."),
        "/",
        file.to_str().unwrap(),
        missing.to_str().unwrap(),
    ];
    for directory in refused {
        let setup = Setup {
            variables: setup.variables.clone(),
            ..Setup::new(&entra, None)
        }
        .with("FILES_DIR", directory);
        let failure = setup
            .try_start()
            .err()
            .unwrap_or_else(|| panic!("{directory} was taken"))
            .text();
        assert!(
            failure.contains("FILES_DIR") && failure.contains(directory),
            "{failure}"
        );
    }
    for (setting, contents) in [
        ("AUDIT_LOG", String::new()),
        ("SERVER_ACCESS_KEY_FILE", "k".repeat(40)),
        ("BACKEND_HEADERS_FILE", "X-Key: k".to_owned()),
    ] {
        let setup = Setup::new(&entra, None);
        let (inside, own) = (
            setup.directory.file("inside"),
            setup.directory.file("inside/own"),
        );
        fs::create_dir(&inside).unwrap();
        fs::write(&own, contents).unwrap();
        let setup = setup
            .with("FILES_DIR", inside.to_str().unwrap())
            .with(setting, own.to_str().unwrap());
        let failure = setup
            .try_start()
            .err()
            .unwrap_or_else(|| panic!("{setting} may lie there"))
            .text();
        assert!(
            failure.contains(&format!("{setting} lies in it")),
            "{failure}"
        );
    }
    // Beside the token file there may be one.
    setup.with("FILES_DIR", inside.to_str().unwrap()).start();
}

// ---- Progress, and its end ----

fn with_token(token: &str) -> Value {
    json!({"_meta": {"progressToken": token}})
}

/// The progress that was told grows up to `total`.
fn assert_grows(answered: &Answered, token: &str, total: usize) {
    assert!(answered.is_stream);
    let (_, told) = answered.messages.split_last().unwrap();
    let mut last = 0;
    for message in told {
        let params = &message["params"];
        assert_eq!(
            (&message["method"], &params["progressToken"]),
            (&json!("notifications/progress"), &json!(token))
        );
        assert_eq!(params["total"], total);
        let progress = params["progress"].as_u64().unwrap();
        assert!(progress > last, "{told:?}");
        last = progress;
    }
    assert_eq!(last, total as u64);
}

#[test]
fn progress_is_told_to_who_asked_for_it() {
    let bench = Bench::new();
    let bytes = noise(3 * MIB);
    bench.answer(Reply::new(200, "application/octet-stream", bytes.clone()));
    let answered = bench.answered(
        "api_get_request",
        json!({"endpoint": "/x", "save_to": "x"}),
        with_token("down"),
    );
    assert_grows(&answered, "down", bytes.len());
    assert!(answered.messages.len() > 3, "{:?}", answered.messages);
    let answered = bench.answered(
        "api_post_request",
        json!({"endpoint": "/x", "body_file": "x", "select": ""}),
        with_token("up"),
    );
    assert_grows(&answered, "up", bytes.len());
    let answered = bench.answered(
        "api_get_request",
        json!({"endpoint": "/x", "save_to": "y"}),
        json!({}),
    );
    assert!(!answered.is_stream);
}

#[test]
fn a_client_of_each_revision_saves_and_so_does_a_batch() {
    let bench = Bench::new();
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let arguments = json!({"endpoint": "/me", "save_to": revision});
        let answered =
            bench
                .server
                .legacy(revision)
                .call_with("api_get_request", arguments, with_token("t"));
        assert_eq!(
            answered.response["result"]["structuredContent"]["file"]["path"],
            revision
        );
    }
    let mut legacy = bench.server.legacy("2025-03-26");
    let arguments = json!({"endpoint": "/me", "save_to": "batched"});
    let call = legacy.body(
        "tools/call",
        json!({"name": "api_get_request", "arguments": arguments}),
    );
    let headers = legacy.headers("tools/call", None);
    let reply = legacy.http.request(
        "POST",
        "/mcp",
        &as_refs(&headers),
        format!("[{call}]").as_bytes(),
    );
    assert_eq!(
        reply.json()[0]["result"]["structuredContent"]["file"]["path"],
        "batched",
        "{}",
        reply.text()
    );
    assert!(bench.file("batched").is_file());
}

/// The backend sends pieces until nobody takes them any longer.
fn endless(bench: &Bench, begun: &Gate) {
    let begun = begun.clone();
    bench.backend.on(move |_| {
        let begun = begun.clone();
        Some(Answer::script(move |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")?;
            stream.write_all(&vec![0; 2 * MIB])?;
            begun.pass();
            let piece = vec![0; MIB];
            (0..90).try_for_each(|_| stream.write_all(&piece))
        }))
    });
}

#[test]
fn when_the_client_goes_the_transfer_ends_and_nothing_of_it_is_kept() {
    let bench =
        Bench::with(|setup| setup.limits(|limits| limits.silence = Duration::from_millis(20)));
    for extra in [with_token("t"), json!({})] {
        let begun = Gate::default();
        endless(&bench, &begun);
        let arguments = json!({"endpoint": "/x", "save_to": "x"});
        let (head, events) = bench
            .server
            .modern()
            .open_call("api_get_request", arguments, extra);
        assert_eq!(
            (head.status, head.header("Content-Type")),
            (200, Some("text/event-stream"))
        );
        eventually("the file to be begun", || bench.file("x").is_file());
        drop(events);
        begun.open();
        eventually("the file to be removed", || bench.names().is_empty());
    }
}

#[test]
fn a_server_that_stops_keeps_nothing_of_a_transfer() {
    let bench = Bench::new();
    let begun = Gate::default();
    endless(&bench, &begun);
    let arguments = json!({"endpoint": "/x", "save_to": "x"});
    let (_, mut events) =
        bench
            .server
            .modern()
            .open_call("api_get_request", arguments, with_token("t"));
    assert!(matches!(events.next(), Some(Event::Message { .. })));
    thread::scope(|scope| {
        scope.spawn(|| bench.server.server.stop());
        begun.open();
        let last = events.filter_map(|event| event.json()).last().unwrap();
        let failure = &last["result"]["structuredContent"];
        asserts_refused(failure, "retry_later", "the server is stopping");
    });
    assert_eq!(bench.names(), [""; 0]);
}

// ---- Secrets ----

#[test]
fn neither_the_bytes_nor_a_token_show_in_the_answer() {
    let bench = Bench::new();
    bench.answer(Reply::new(
        200,
        "text/plain",
        "what only the file shall hold",
    ));
    let answered = bench.answered(
        "api_get_request",
        json!({"endpoint": "/x", "save_to": "x"}),
        with_token("t"),
    );
    let text = format!("{:?}", answered.messages);
    assert!(
        !text.contains("only the file") && !text.contains(crate::support::entra::ACCESS_TOKEN_MARK),
        "{text}"
    );
    assert!(Path::new(&bench.file("x")).is_file());
    drop(bench.entra);
}
