//! Being told to stop: nothing more is accepted, what is in flight is finished, the program exits with 0.
#![cfg(unix)]

use std::io::{BufRead, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra};
use crate::support::http::{Client, connect, read_to_close};
use crate::support::server::{MEDIA_TYPES, Process, Running, Setup, Verb};
use crate::support::{Hold, PATIENCE};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");

/// Sends a request that the backend holds; gives what receives the answer.
fn held_request(base: &str, hold: &Hold) -> thread::JoinHandle<crate::support::http::Reply> {
    let params = json!({"name": "api_get_request", "arguments": {"endpoint": "/slow"}});
    let body =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let mut client = Client::new(base);
    let answer =
        thread::spawn(move || client.request("POST", "/mcp", &MEDIA_TYPES, body.as_bytes()));
    hold.wait_for_arrivals(1);
    answer
}

fn sign_in(base: &str) {
    let page = Browser::new().sign_in(&format!("{base}/auth/login?user_id={ADA}"), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
}

/// Connections that are not in the middle of a request: one that was used, one with half a head.
fn idle_connections(address: &str) -> [TcpStream; 2] {
    let [mut used, mut half_open] = [connect(address).unwrap(), connect(address).unwrap()];
    half_open.write_all(b"GET /healthz HTT").unwrap();
    used.write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())
        .unwrap();
    assert_ne!(used.peek(&mut [0]).unwrap(), 0, "an answer");
    [used, half_open]
}

/// Returns when the server has closed them, which says that it is stopping.
fn wait_until_closed(connections: [TcpStream; 2]) {
    let [used, half_open] = connections.map(read_to_close);
    assert!(used.starts_with(b"HTTP/1.1 200 ") && half_open.is_empty());
}

fn wait_until_refused(address: &str) {
    let start = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(start.elapsed() < PATIENCE, "connections are still accepted");
    }
}

fn signal(name: &str, process: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, process])
            .status()
            .unwrap()
            .success()
    );
}

/// The whole of a good end; `process_id` finds the program in what `command` started.
fn stops_well(command: Command, name: &str, process_id: impl Fn(&Process) -> String) {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let mut server = Process::start(command, &setup);
    sign_in(&server.url());
    let hold = backend.hold();
    let in_flight = held_request(&server.url(), &hold);
    let idle = idle_connections(&server.address());

    signal(name, &process_id(&server));
    wait_until_refused(&server.address());
    wait_until_closed(idle);
    assert!(server.is_running());

    drop(hold);
    let answer = in_flight.join().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["result"]["structuredContent"]["data"],
        json!({"slow": true})
    );
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn sigterm_lets_the_request_in_flight_finish() {
    stops_well(Command::new(PROGRAM), "TERM", |server| {
        server.id().to_string()
    });
}

#[test]
fn ctrl_c_lets_the_request_in_flight_finish() {
    stops_well(Command::new(PROGRAM), "INT", |server| {
        server.id().to_string()
    });
}

#[test]
fn a_program_that_is_ready_can_be_told_to_stop_at_once() {
    let setup = Setup::new(&Entra::start(), None);
    for _ in 0..10 {
        let mut server = Process::start(Command::new(PROGRAM), &setup);
        signal("TERM", &server.id().to_string());
        assert_eq!(server.exit_code(), Some(0));
    }
}

/// A server that logs into a pipe, and the pipe, which is full and is not read.
fn unread(setup: &Setup) -> (Process, impl BufRead + Send + 'static, usize) {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" 2>&1", PROGRAM]);
    let (process, output) = Process::start_with_output(command, setup);
    let mut client = process.client();
    // More than any pipe holds, and more lines than are kept.
    let path = format!("/{}", "x".repeat(8000));
    let (long, short) = (150, 1200);
    for _ in 0..long {
        assert_eq!(client.get(&path).status, 404);
    }
    for _ in 0..short {
        assert_eq!(client.get("/healthz").status, 200);
    }
    (process, output, long + short)
}

// CASES D3
#[test]
fn when_nobody_reads_the_log_everything_else_goes_on_and_lost_lines_are_counted() {
    let setup = Setup::new(&Entra::start(), None);
    let (process, output, mut requests) = unread(&setup);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut lines = output.lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    let (mut logged, mut lost) = (0, 0);
    let mut client = process.client();
    let begun = Instant::now();
    while lost == 0 || logged + lost < requests {
        assert!(
            begun.elapsed() < PATIENCE,
            "{logged} + {lost} of {requests}"
        );
        // With a line of its own come those that wait.
        assert_eq!(client.get("/healthz").status, 200);
        requests += 1;
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
            logged += usize::from(line.contains(" debug GET "));
            if let Some((before, _)) = line.split_once(" lines of the log are lost") {
                lost += before.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
            }
        }
    }
    assert_eq!(logged + lost, requests);
    drop(process);
    reader.join().unwrap().unwrap();
}

// CASES D3
#[test]
fn a_server_whose_log_nobody_reads_can_be_told_to_stop() {
    let setup = Setup::new(&Entra::start(), None);
    let (mut process, output, _) = unread(&setup);
    signal("TERM", &process.id().to_string());
    assert_eq!(process.exit_code(), Some(0));
    drop(output);
}

// CASES D3: both were full before it began.
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_nobody_has_ever_read_can_be_told_to_stop() {
    for audit_log in ["", "-"] {
        let setup = Setup::new(&Entra::start(), None).with("AUDIT_LOG", audit_log);
        let script = "mkfifo full && exec 3<>full
            dd if=/dev/zero of=full oflag=nonblock bs=4096 count=1000 2>/dev/null
            exec \"$0\" >full 2>&1";
        let mut command = Command::new("sh");
        let path = std::env::var_os("PATH").unwrap();
        command.args(["-c", script, PROGRAM]).env("PATH", path);
        let server = Verb::start(command, &setup);
        let announced = setup.directory.file("token_cache.json.owner");
        let begun = Instant::now();
        while !announced.exists() {
            assert!(begun.elapsed() < PATIENCE, "it never was ready");
        }
        signal("TERM", &server.id().to_string());
        let (code, _, _) = server.end();
        assert_eq!(code, 0);
    }
}

/// The command that runs a program as process 1 of a PID namespace, as in a container.
fn as_process_1(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        program,
    ]);
    command
}

#[cfg(target_os = "linux")]
#[test]
fn process_1_of_a_container_stops_as_well() {
    let possible = as_process_1("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine lets us make no PID namespace");
        return;
    }
    for name in ["TERM", "INT"] {
        // The program is the only child of `unshare`.
        stops_well(as_process_1(PROGRAM), name, |unshare| {
            let id = unshare.id();
            std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
                .unwrap()
                .trim()
                .to_owned()
        });
    }
}

/// A server in this process with a request that the backend holds.
struct Busy {
    hold: Hold,
    in_flight: thread::JoinHandle<crate::support::http::Reply>,
    server: Running,
    _backend: Backend,
    _entra: Entra,
}

fn busy(shutdown: Duration) -> Busy {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend))
        .limits(|limits| limits.shutdown = shutdown)
        .start();
    sign_in(&server.url());
    let hold = backend.hold();
    let in_flight = held_request(&server.url(), &hold);
    Busy {
        hold,
        in_flight,
        server,
        _backend: backend,
        _entra: entra,
    }
}

#[test]
fn the_last_answer_of_a_connection_says_so() {
    // RFC 9112 §9.6.
    let Busy {
        hold,
        in_flight,
        server,
        _backend,
        _entra,
    } = busy(PATIENCE);
    let idle = idle_connections(&server.address());
    thread::scope(|scope| {
        scope.spawn(|| server.server.stop());
        wait_until_closed(idle);
        drop(hold);
    });
    assert_eq!(
        in_flight.join().unwrap().header("Connection"),
        Some("close")
    );
}

#[test]
fn a_request_whose_body_is_still_coming_is_let_finish() {
    let server = Setup::new(&Entra::start(), None).start();
    let address = server.address();
    let mut half_sent = connect(&address).unwrap();
    let head = format!(
        "POST /nothing HTTP/1.1\r\nHost: {address}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    );
    half_sent.write_all(head.as_bytes()).unwrap();
    assert_ne!(
        half_sent.peek(&mut [0]).unwrap(),
        0,
        "leave to send the body"
    );
    let idle = idle_connections(&address);
    thread::scope(|scope| {
        scope.spawn(|| server.server.stop());
        wait_until_closed(idle);
        half_sent.write_all(b"some body").unwrap();
        let answer = String::from_utf8(read_to_close(half_sent)).unwrap();
        assert!(
            answer.contains("HTTP/1.1 404 ") && answer.contains("\r\nConnection: close\r\n"),
            "{answer}"
        );
    });
}

#[test]
fn a_request_that_does_not_finish_is_not_waited_for_for_ever() {
    let Busy {
        hold,
        in_flight,
        server,
        _backend,
        _entra,
    } = busy(Duration::from_millis(50));
    server.server.stop();
    assert!(!in_flight.is_finished());
    drop(hold);
    in_flight.join().unwrap();
}

#[test]
fn streams_end_with_their_answer_when_the_server_stops() {
    let server = Setup::new(&Entra::start(), None)
        .limits(|limits| limits.silence = Duration::from_millis(5))
        .start();
    let mut waiting = server.modern();
    waiting.ok("authenticate_user", json!({"user_id": ADA}));
    let arguments = json!({"user_id": ADA, "wait_seconds": 120});
    let (_, wait) = waiting.open(
        "tools/call",
        json!({"name": "check_auth_status", "arguments": arguments}),
    );
    let (_, mut subscription) = server
        .modern()
        .open("subscriptions/listen", json!({"notifications": {}}));
    assert!(
        subscription.next_json().unwrap()["method"]
            .as_str()
            .unwrap()
            .ends_with("/acknowledged")
    );

    server.server.stop();
    for stream in [wait, subscription] {
        let messages: Vec<_> = stream.filter_map(|event| event.json()).collect();
        assert!(
            messages.last().unwrap()["result"].is_object(),
            "{messages:?}"
        );
    }
}

#[test]
fn a_verb_waits_for_a_server_that_is_stopping_and_then_owns_the_token_file() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let server = setup.start();
    sign_in(&server.url());
    let address = server.address();
    let hold = backend.hold();
    let in_flight = held_request(&server.url(), &hold);
    let stopping = thread::spawn(move || drop(server));
    wait_until_refused(&address);
    let verb = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        Verb::start(command, &setup)
    };
    let (_, status, _) = verb(&["status"]).end();
    assert!(status.contains("starting or stopping"), "{status}");
    let logout = verb(&["logout", ADA]);
    drop(hold);
    assert_eq!(in_flight.join().unwrap().status, 200);
    stopping.join().unwrap();
    let (code, stdout, stderr) = logout.end();
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("are forgotten"), "{stdout}");
}
