//! The verb `stdio`: MCP over standard input and output, as a client has it that starts programs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use entra_auth_mcp::owner::{Owner, Purpose};

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra};
use crate::support::server::{MODERN, Process, Setup, elicitation_error, input_required};
use crate::support::{PATIENCE, random_token};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A port that nobody has, that no other test gets, and that the system gives to no outgoing connection.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 64 + TAKEN.fetch_add(1, Ordering::SeqCst);
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        let is_free = |host: &str| TcpListener::bind((host, port)).is_ok();
        if is_free("127.0.0.1") && is_free("::1") {
            return port;
        }
    }
}

/// Entra, the API, and the settings of all who share one token file.
struct World {
    setup: Setup,
    backend: Backend,
    _entra: Entra,
}

impl World {
    fn new() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup =
            Setup::new(&entra, Some(&backend)).with("SERVER_PORT", &free_port().to_string());
        Self {
            setup,
            backend,
            _entra: entra,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.setup = self.setup.with(name, value);
        self
    }

    fn program(&self) -> Program {
        Program::start(&self.setup)
    }

    /// Who owns the token file.
    fn owner(&self) -> Value {
        let path = self.setup.directory.file("token_cache.json.owner");
        let text = fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// The program, and the client that has started it.
struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    log: PathBuf,
    next_id: u64,
}

impl Program {
    fn start(setup: &Setup) -> Self {
        let log = setup.directory.file(&format!("{}.log", random_token()));
        let mut child = Command::new(PROGRAM)
            .arg("stdio")
            .env_clear()
            .envs(&setup.variables)
            .current_dir(&setup.directory.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            output
                .lines()
                .try_for_each(|line| sender.send(line.unwrap()))
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            log,
            next_id: 0,
        }
    }

    /// One that has been initialized.
    fn legacy(setup: &Setup, revision: &str, capabilities: Value) -> Self {
        let mut program = Self::start(setup);
        let result = program.result(
            "initialize",
            json!({"protocolVersion": revision, "capabilities": capabilities,
                "clientInfo": {"name": "desk", "version": "7"}}),
        );
        assert_eq!(result["protocolVersion"], revision);
        program.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        program
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn write(&mut self, line: &[u8]) {
        let input = self.input.as_mut().unwrap();
        let written = input.write_all(line).and_then(|()| input.flush());
        written.unwrap_or_else(|error| panic!("it does not read ({error}): {}", self.log()));
    }

    fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// The next message.
    fn receive(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no message ({error}): {}", self.log()));
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    fn begin(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        let response = self.receive();
        assert_eq!(response["id"], id, "{response}");
        response
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        let mut response = self.request(method, params);
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    fn begin_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        self.result("tools/call", params)["structuredContent"].take()
    }

    fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let content = self.call(tool, arguments);
        assert_eq!(content["success"], true, "{content}");
        content
    }

    fn sign_in(&mut self) {
        let begun = self.ok("authenticate_user", json!({"user_id": ADA}));
        open(begun["sign_in_url"].as_str().unwrap());
    }

    fn me(&mut self) -> Value {
        self.ok("api_get_request", json!({"endpoint": "/me"}))["data"].take()
    }

    /// Ends the input, and gives every message that still came, and the exit code.
    fn end(mut self) -> (Vec<Value>, Option<i32>) {
        drop(self.input.take());
        let mut messages = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            messages.push(serde_json::from_str(&line).unwrap());
        }
        (messages, self.child.wait().unwrap().code())
    }

    /// SIGKILL; it is gone when this returns.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that does what a test says, and owns the token file.
struct Scripted {
    listener: TcpListener,
    _owner: Owner,
}

impl Scripted {
    fn start(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = Owner::acquire(&world.setup.token_file(), Purpose::Server, PATIENCE).unwrap();
        owner.announce(&format!("http://{}", listener.local_addr().unwrap()));
        Self {
            listener,
            _owner: owner,
        }
    }

    /// The connection of the next request, which has been read.
    fn next_request(&self) -> TcpStream {
        let (socket, _) = self.listener.accept().unwrap();
        let mut request = BufReader::new(socket);
        let mut length = 0;
        loop {
            let mut line = String::new();
            request.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim_end().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        request.read_exact(&mut vec![0; length]).unwrap();
        request.into_inner()
    }

    /// Answers it with a stream that has this message, and is cut off or `ends`.
    fn answer_next(&self, message: &Value, ends: bool) {
        let mut socket = self.next_request();
        let event = format!("data: {message}\n\n");
        let length = event.len();
        let end = if ends { "0\r\n\r\n" } else { "" };
        write!(
            socket,
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{event}\r\n{end}"
        )
        .unwrap();
    }
}

fn tell_to_stop(program: &Program) {
    let pid = program.child.id().to_string();
    let told = Command::new("kill").args(["-s", "TERM", &pid]).status();
    assert!(told.unwrap().success());
}

fn open(link: &str) {
    let page = Browser::new().sign_in(link, ADA);
    assert_eq!(page.status, 200, "{}", page.text());
}

/// The parameters of a request of the newest revision.
fn modern(mut params: Value, capabilities: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    params
}

fn opens_urls() -> Value {
    json!({"elicitation": {"url": {}}})
}

fn get(endpoint: &str) -> Value {
    json!({"name": "api_get_request", "arguments": {"endpoint": endpoint}})
}

// ---- Messages ----

#[test]
fn every_revision_lists_and_calls_tools() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26"] {
        let mut program = Program::legacy(&world.setup, revision, json!({}));
        let listed = program.result("tools/list", json!({}));
        assert!(listed["tools"].as_array().unwrap().len() > 5, "{listed}");
        assert_eq!(program.me()["userPrincipalName"], ADA);
        assert_eq!(program.end(), (Vec::new(), Some(0)));
    }
    let params = modern(json!({}), json!({}));
    let found = program.result("server/discover", params);
    assert_eq!(found["resultType"], "complete", "{found}");
    let result = program.result("tools/call", modern(get("/me"), json!({})));
    assert_eq!(result["resultType"], "complete", "{result}");
    let content = &result["structuredContent"];
    assert_eq!(content["data"]["userPrincipalName"], ADA, "{result}");
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

#[test]
fn a_batch_is_answered_in_one_line() {
    let world = World::new();
    let mut program = Program::legacy(&world.setup, "2025-03-26", json!({}));
    program.send(&json!([
        {"jsonrpc": "2.0", "id": "a", "method": "ping"},
        {"jsonrpc": "2.0", "id": "b", "method": "ping"},
    ]));
    let responses = program.lines.recv_timeout(PATIENCE).unwrap();
    let responses: Value = serde_json::from_str(&responses).unwrap();
    assert_eq!(
        (&responses[0]["id"], &responses[1]["id"]),
        (&json!("a"), &json!("b"))
    );
}

#[test]
fn the_audit_log_names_the_client_as_it_names_itself() {
    let world = World::new();
    let audit = world.setup.directory.file("audit.jsonl");
    let world = world.with("AUDIT_LOG", audit.to_str().unwrap());
    let mut program = Program::legacy(&world.setup, "2025-11-25", json!({}));
    program.sign_in();
    program.me();
    let lines = fs::read_to_string(audit).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["client"], "desk/7", "{last}");
}

#[test]
fn a_call_that_needs_a_sign_in_asks_for_it_and_goes_through() {
    let world = World::new();
    let mut program = Program::legacy(&world.setup, "2025-11-25", opens_urls());
    let (url, _, _) = elicitation_error(&program.request("tools/call", get("/me")));
    open(&url);
    assert_eq!(program.me()["userPrincipalName"], ADA);
    program.ok("logout_user", json!({}));

    let asked = program.result("tools/call", modern(get("/me"), opens_urls()));
    let asked = input_required(&asked);
    open(&asked.url);
    let mut params = modern(get("/me"), opens_urls());
    let answer = asked.answered_with("accept");
    params
        .as_object_mut()
        .unwrap()
        .extend(answer.as_object().unwrap().clone());
    let result = program.result("tools/call", params);
    assert_eq!(result["structuredContent"]["success"], true, "{result}");
}

#[test]
fn what_a_stream_brings_comes_line_by_line() {
    let world = World::new();
    let mut program = world.program();
    let params = modern(json!({"notifications": {}}), json!({}));
    program.begin("subscriptions/listen", params);
    let message = program.receive();
    assert_eq!(
        message["method"],
        "notifications/subscriptions/acknowledged"
    );
    // It does nothing but wait, and so does not keep the program.
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

#[test]
fn what_is_no_message_is_answered_with_an_error_and_the_next_one_works() {
    let world = World::new().with("MAX_REQUEST_BYTES", "65536");
    let mut program = world.program();
    for line in [
        "no json\n".to_owned(),
        "{\"jsonrpc\":\"2.0\"}\n".to_owned(),
        "\u{0}\n".to_owned(),
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}\n".to_owned(),
        format!("{}\n", "x".repeat(300_000)),
    ] {
        program.write(line.as_bytes());
        let answer = program.receive();
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    // Where it can be read what was asked for, the answer says so.
    let long = program.request("tools/list", json!({"x": "x".repeat(70_000)}));
    let text = long["error"]["message"].as_str().unwrap();
    assert!(
        text.contains("65536") && text.contains("Nothing was done"),
        "{text}"
    );
    program.write(b"\n\r\n{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n");
    program.ok("ping", json!({}));
    let unknown = program.request("tools/\u{e9}", modern(json!({}), json!({})));
    assert!(unknown["error"]["message"].is_string(), "{unknown}");
    program.ok("ping", json!({}));
}

#[test]
fn a_line_break_in_what_the_api_says_makes_no_new_line() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    world.backend.on(|_| {
        let body = "{\n \"a\": 1,\r\n \"b\": [\n2]\n}\n";
        Some(crate::support::http::Reply::new(200, "application/json", body).into())
    });
    let content = program.ok("api_get_request", json!({"endpoint": "/x"}));
    assert_eq!(content["data"], json!({"a": 1, "b": [2]}));
}

/// Who shares standard output with this program may have made it so.
#[cfg(unix)]
#[test]
fn a_standard_output_that_does_not_block_loses_nothing() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    let world = World::new();
    let (ours, its) = UnixStream::pair().unwrap();
    its.set_nonblocking(true).unwrap();
    let mut child = Command::new(PROGRAM)
        .arg("stdio")
        .env_clear()
        .envs(&world.setup.variables)
        .stdin(Stdio::piped())
        .stdout(OwnedFd::from(its))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than any buffer on the way takes.
    for id in 0..60 {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"});
        writeln!(input, "{request}").unwrap();
    }
    drop(input);
    let mut lines = BufReader::new(ours).lines();
    let mut ids: Vec<u64> = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        let message: Value = serde_json::from_str(&line).unwrap();
        ids.push(message["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..60).collect::<Vec<_>>());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_request_that_is_cancelled_is_not_answered() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    let hold = world.backend.hold();
    let id = program.begin_call("api_get_request", json!({"endpoint": "/slow"}));
    hold.wait_for_arrivals(1);
    program.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": id, "reason": "changed my mind"}}),
    );
    program.ok("ping", json!({}));
    drop(hold);
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

#[test]
fn when_the_input_ends_what_is_under_way_is_answered_first() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    let hold = world.backend.hold();
    let first = program.begin_call("api_get_request", json!({"endpoint": "/slow"}));
    let second = program.begin_call("api_get_request", json!({"endpoint": "/slow?2"}));
    hold.wait_for_arrivals(2);
    drop(program.input.take());
    drop(hold);
    let (messages, code) = program.end();
    let mut ids: Vec<_> = messages
        .iter()
        .map(|message| message["id"].as_u64())
        .collect();
    ids.sort_unstable();
    assert_eq!((ids, code), (vec![Some(first), Some(second)], Some(0)));
}

#[test]
fn so_many_requests_may_be_under_way_and_each_can_be_cancelled() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    let hold = world.backend.hold();
    for _ in 0..64 {
        program.begin_call("api_get_request", json!({"endpoint": "/slow"}));
    }
    hold.wait_for_arrivals(64);
    let refused = program.request("ping", json!({}));
    let text = refused["error"]["message"].as_str().unwrap();
    assert!(text.contains("Too many requests"), "{text}");
    let last = program.next_id;
    for id in last - 64..last {
        program.send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"requestId": id}}),
        );
    }
    let begun = Instant::now();
    while program.request("ping", json!({})).get("result").is_none() {
        assert!(begun.elapsed() < PATIENCE, "{}", program.log());
    }
    drop(hold);
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

// ---- Several programs ----

#[test]
fn two_programs_share_one_token_file_and_one_server() {
    let world = World::new();
    let mut first = world.program();
    first.sign_in();
    let mut second = world.program();
    assert_eq!(second.me()["userPrincipalName"], ADA);
    assert_eq!(world.owner()["pid"], first.child.id());
    // One that ends lets the other one go on, and nothing is lost.
    assert_eq!(first.end(), (Vec::new(), Some(0)));
    assert_eq!(second.me()["userPrincipalName"], ADA);
    assert_eq!(world.owner()["pid"], second.child.id());
    let mut third = world.program();
    assert_eq!(third.me()["userPrincipalName"], ADA);
}

#[test]
fn when_the_server_is_killed_what_was_under_way_says_so_and_the_rest_works() {
    let world = World::new();
    let mut first = world.program();
    first.sign_in();
    let mut second = world.program();
    second.ok("ping", json!({}));
    let hold = world.backend.hold();
    let arguments = json!({"endpoint": "/slow"});
    let id = second.begin_call("api_get_request", arguments);
    hold.wait_for_arrivals(1);
    first.kill();
    let error = second.receive();
    assert_eq!(error["id"], id);
    let text = error["error"]["message"].as_str().unwrap();
    assert!(text.contains("is not known"), "{text}");
    assert_eq!(second.me()["userPrincipalName"], ADA);
    assert_eq!(world.owner()["pid"], second.child.id());
}

#[test]
fn pending_sign_ins_begin_anew_where_the_server_that_had_them_was_killed() {
    let world = World::new();
    let mut first = world.program();
    first.ok("ping", json!({}));
    let mut second = world.program();
    let ada = json!({"user_id": ADA});
    let lost = second.ok("authenticate_user", ada.clone());
    assert_eq!(world.owner()["pid"], first.child.id());
    let status = second.ok("check_auth_status", ada.clone());
    assert_eq!(status["pending_sign_in"], true, "{status}");
    first.kill();
    let status = second.ok("check_auth_status", ada.clone());
    assert_eq!(status["pending_sign_in"], false, "{status}");
    let anew = second.ok("authenticate_user", ada);
    assert_ne!(anew["sign_in_url"], lost["sign_in_url"]);
    open(anew["sign_in_url"].as_str().unwrap());
    assert_eq!(second.me()["userPrincipalName"], ADA);
}

#[test]
fn the_place_of_a_server_that_has_ended_is_taken_without_a_message() {
    let world = World::new();
    let mut first = world.program();
    first.ok("ping", json!({}));
    let mut second = world.program();
    second.ok("ping", json!({}));
    let pid = second.child.id();
    first.kill();
    let begun = Instant::now();
    while world.owner()["pid"] != pid || world.owner()["origin"].is_null() {
        assert!(begun.elapsed() < PATIENCE, "{}", second.log());
        thread::yield_now();
    }
}

#[test]
fn beside_a_server_its_messages_go_there_with_the_access_key() {
    let world = World::new().with("SERVER_ACCESS_KEY", KEY);
    let server = Process::start(Command::new(PROGRAM), &world.setup);
    let mut mcp = server.modern().with_key(KEY);
    mcp.sign_in(ADA);
    let mut program = world.program();
    assert_eq!(program.me()["userPrincipalName"], ADA);
    assert_eq!(world.owner()["pid"], server.id());
    // One that has another key, or none, is told so.
    for key in ["", "another-key-0123456789abcdef01234"] {
        let setup = world.setup.clone().with("SERVER_ACCESS_KEY", key);
        let mut stranger = Program::start(&setup);
        let refused = stranger.request("ping", json!({}));
        let text = refused["error"]["message"].as_str().unwrap();
        assert!(
            text.contains("access key") && !text.contains("another-key"),
            "{text}"
        );
    }
    // Without the server, it asks its own for the same key.
    drop(server);
    assert_eq!(program.me()["userPrincipalName"], ADA);
}

#[test]
fn who_takes_the_port_of_a_server_that_has_ended_is_sent_nothing() {
    let world = World::new().with("SERVER_ACCESS_KEY", KEY);
    let mut server = Process::start(Command::new(PROGRAM), &world.setup);
    let address = server.address();
    let world = world.with("SERVER_PORT", &free_port().to_string());
    let mut program = world.program();
    program.ok("ping", json!({}));
    server.kill();
    let other = TcpListener::bind(&address).unwrap();
    program.ok("ping", json!({}));
    assert_eq!(world.owner()["pid"], program.child.id());
    other.set_nonblocking(true).unwrap();
    while let Ok((mut stream, _)) = other.accept() {
        let mut sent = Vec::new();
        let _ = stream.read_to_end(&mut sent);
        assert_eq!(String::from_utf8_lossy(&sent), "");
    }
}

#[test]
fn a_program_that_is_told_to_stop_lets_what_is_under_way_finish() {
    let world = World::new();
    let mut program = world.program();
    program.sign_in();
    let hold = world.backend.hold();
    let id = program.begin_call("api_get_request", json!({"endpoint": "/slow"}));
    hold.wait_for_arrivals(1);
    tell_to_stop(&program);
    drop(hold);
    assert_eq!(program.receive()["id"], id);
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}

/// A client ends the input first, and then asks the program to stop (MCP, lifecycle, "Shutdown").
#[test]
fn a_program_can_be_told_to_stop_whatever_it_waits_for() {
    let world = World::new();
    let server = Scripted::start(&world);
    let mut agreeing = world.program();
    agreeing.begin("initialize", json!({"protocolVersion": "2025-11-25"}));
    let _first = server.next_request();
    let mut ending = world.program();
    ending.begin("ping", json!({}));
    let _second = server.next_request();
    drop(ending.input.take());
    // By the time that another program has got so far, that one has seen the end of its input.
    let mut other = world.program();
    other.begin("ping", json!({}));
    let _third = server.next_request();
    let programs = [agreeing, ending];
    programs.iter().for_each(tell_to_stop);
    for mut program in programs {
        let begun = Instant::now();
        while program.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "{}", program.log());
            thread::yield_now();
        }
    }
}

#[test]
fn a_request_has_one_answer_where_the_server_ends_behind_it() {
    let world = World::new();
    let server = Scripted::start(&world);
    let mut program = world.program();
    let id = program.begin("ping", json!({}));
    server.answer_next(&json!({"jsonrpc": "2.0", "id": id, "result": {}}), false);
    assert_eq!(program.receive()["result"], json!({}));
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

#[test]
fn a_request_has_an_answer_where_the_server_gives_none() {
    let world = World::new();
    let server = Scripted::start(&world);
    let mut program = world.program();
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}});
    for ends in [true, false] {
        let id = program.begin("ping", json!({}));
        server.answer_next(&progress, ends);
        assert_eq!(program.receive(), progress);
        let error = program.receive();
        assert_eq!(error["id"], id);
        let text = error["error"]["message"].as_str().unwrap();
        assert!(text.contains("is not known"), "{text}");
    }
    assert_eq!(program.end(), (Vec::new(), Some(0)));
}

// ---- Settings ----

/// What is said of settings that cannot be used.
fn refusal(setup: &Setup, arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM)
        .arg("stdio")
        .args(arguments)
        .env_clear()
        .envs(&setup.variables)
        .current_dir(&setup.directory.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(output.stdout, b"", "{stderr}");
    stderr
}

#[test]
fn settings_that_do_not_go_with_standard_output_or_a_foreign_directory_are_mistakes() {
    let world = World::new();
    world.setup.directory.write("key", KEY);
    world.setup.directory.write("headers", "X-Version: 2\n");
    fs::create_dir(world.setup.directory.file("files")).unwrap();
    let description = include_str!("../demo/simplechat.openapi.json");
    world.setup.directory.write("api.json", description);
    for (name, value) in [
        ("AUDIT_LOG", "-"),
        ("AUDIT_LOG", "audit.jsonl"),
        ("SERVER_PORT", "0"),
        ("TOKEN_CACHE_FILE", ""),
        ("TOKEN_CACHE_FILE", "tokens.json"),
        ("TOKEN_CACHE_FILE", "./tokens.json"),
        ("FILES_DIR", "files"),
        ("OPENAPI_FILE", "api.json"),
        ("BACKEND_HEADERS_FILE", "headers"),
        ("SERVER_ACCESS_KEY_FILE", "key"),
    ] {
        let setup = world.setup.clone().with(name, value);
        let text = refusal(&setup, &[]);
        assert!(
            text.contains(name) && text.contains("with stdio"),
            "{name}={value}: {text}"
        );
    }
    let text = refusal(&world.setup, &["--env-file", "my.env"]);
    assert!(
        text.contains("--env-file") && text.contains("whole path"),
        "{text}"
    );
}

#[test]
fn settings_come_from_the_environment_and_from_a_file_that_is_named_and_no_other() {
    let mut world = World::new();
    let client_id = world.setup.variables.remove("AZURE_CLIENT_ID").unwrap();
    let directory = world.setup.directory.clone();
    let line = format!("AZURE_CLIENT_ID={client_id}\n");
    directory.write(".env", &line);
    let text = refusal(&world.setup, &[]);
    assert!(text.contains("AZURE_CLIENT_ID is not set"), "{text}");
    assert!(text.contains("--env-file"), "{text}");

    let file = directory.write("named.env", &line);
    let output = Command::new(PROGRAM)
        .args(["stdio", "--env-file", file.to_str().unwrap()])
        .env_clear()
        .envs(&world.setup.variables)
        .current_dir(&directory.0)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_port_that_somebody_else_has_is_said_at_the_start() {
    let world = World::new();
    let port = world.setup.variables["SERVER_PORT"].parse::<u16>().unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut program = world.program();
    assert_eq!(program.child.wait().unwrap().code(), Some(1));
    assert!(program.log().contains("SERVER_PORT"), "{}", program.log());
}
