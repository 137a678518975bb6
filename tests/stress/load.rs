//! What crowds and bad clients cost: while they are there, every call of a well-behaved client goes through and
//! threads, memory and descriptors stay below the bounds here; afterwards all of it is given back.
//! `cargo test --release --test stress_load`; `-- --short` does less of it, names of scenarios choose among them.
//! The first that fails ends it. It reads `/proc`, so it needs Linux.
//!
//! The server runs as a process of its own: the binary that `RELEASE_BINARY` names, else the one built with this.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod program;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use program::{Wanted, binary};
use serde_json::{Value, json};
use support::PATIENCE;
use support::entra::{ADA, Entra};
use support::http::{Reply, Request, StandIn};
use support::mcp::Mcp;
use support::server::{Process, Setup};

/// 256 connections, 64 that end, 16 refusals, 4 look-ups of names; those that accept, watch for signals and the like; and
/// for a moment one more for each connection that goes quiet.
const MOST_THREADS: usize = 256 + 64 + 16 + 4 + 8 + 256;
/// A descriptor for each connection and for its call of the API, 64 kept for the next call, and those of the server.
const MOST_DESCRIPTORS: usize = 2 * (256 + 64 + 16) + 64 + 32;
/// Beside the answers that wait to be read.
const MOST_MEMORY: usize = 64 * 1024 * 1024;
const LARGE_ANSWER: usize = 900_000;
/// It stands in an answer twice: as text and as JSON; and in the buffer of whoever reads it.
const MEMORY_OF_ANSWERS: usize = 256 * 4 * LARGE_ANSWER;
/// What the allocator keeps of memory that is free again: a sixth of the answers' at most, and no more next time.
const KEPT: usize = MEMORY_OF_ANSWERS / 6;
/// Connections to the API that are kept for the next call, and a few besides.
const KEPT_DESCRIPTORS: usize = 64 + 8;

/// Does so much to a server, and says what it saw.
type Scenario = fn(&Bench, &Counts) -> String;

/// How much there is to do.
struct Counts {
    connections: usize,
    open: usize,
    slow: usize,
    vanishing: usize,
    calls: usize,
}

const LONG: Counts = Counts {
    connections: 10_000,
    open: 2000,
    slow: 500,
    vanishing: 500,
    calls: 200_000,
};
const SHORT: Counts = Counts {
    connections: 1000,
    open: 600,
    slow: 100,
    vanishing: 60,
    calls: 4000,
};

fn main() -> ExitCode {
    let wanted = match Wanted::of_arguments("stress_load") {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let counts = if wanted.is_short { SHORT } else { LONG };
    let scenarios: [(&str, Scenario); 7] = [
        ("opened-and-closed", opened_and_closed),
        ("half-open", half_open),
        ("idle", idle),
        ("slow-readers", slow_readers),
        ("vanishing", vanishing),
        ("soak", soak),
        ("descriptors", descriptors),
    ];
    for (name, scenario) in scenarios {
        wanted.run(name, || scenario(&Bench::new(name), &counts));
    }
    ExitCode::SUCCESS
}

/// A server with Ada signed in, and an API that answers everybody.
struct Bench {
    process: Process,
    _setup: Setup,
    _api: StandIn,
    _entra: Entra,
}

impl Bench {
    fn new(scenario: &str) -> Self {
        let entra = Entra::start();
        let api = StandIn::serve(|request: &Request| {
            let length = if request.target.ends_with("/large") {
                LARGE_ANSWER
            } else {
                10
            };
            Reply::of_json(200, &json!({"text": "x".repeat(length)}))
        });
        let setup = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", &format!("{}/v1.0", api.url()))
            .with("LOG_LEVEL", "error");
        let process = Process::start(server(scenario == "descriptors"), &setup);
        process.modern().sign_in(ADA);
        let bench = Self {
            process,
            _setup: setup,
            _api: api,
            _entra: entra,
        };
        (0..20).for_each(|_| bench.call());
        bench
    }

    fn call(&self) {
        call(&mut self.process.modern());
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.process.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Runs `crowd` beside a well-behaved client, whose every call must go through, and below the bounds;
    /// then `leave` ends the crowd and all must be given back.
    fn stands<T>(&self, memory: usize, crowd: impl FnOnce() -> T) -> String {
        let before = Usage::of(self.process.id());
        let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        let most = thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut most = before;
                // A few calls at least while the crowd is at its largest.
                while !is_over.load(Ordering::SeqCst) {
                    self.call();
                    calls.fetch_add(1, Ordering::SeqCst);
                    most = most.max(Usage::of(self.process.id()));
                }
                most
            });
            let crowd = crowd();
            let so_far = calls.load(Ordering::SeqCst);
            while calls.load(Ordering::SeqCst) < so_far + 20 && !client.is_finished() {
                thread::yield_now();
            }
            is_over.store(true, Ordering::SeqCst);
            let most = client
                .join()
                .expect("every call of the well-behaved client goes through");
            drop(crowd);
            most
        });
        assert!(most.threads <= MOST_THREADS, "{most:?}");
        assert!(most.descriptors <= MOST_DESCRIPTORS, "{most:?}");
        assert!(most.memory <= memory, "{most:?}");
        let after = self.given_back(
            before,
            if memory > MOST_MEMORY {
                KEPT
            } else {
                MOST_MEMORY / 4
            },
        );
        let calls = calls.load(Ordering::SeqCst);
        format!(
            "{calls} calls beside it, none failed; before {before:?}, most {most:?}, after {after:?}"
        )
    }

    /// Waits until what is in use is what was in use `before`.
    fn given_back(&self, before: Usage, kept: usize) -> Usage {
        let begun = Instant::now();
        loop {
            let now = Usage::of(self.process.id());
            let is_given_back = now.threads <= before.threads + 4
                && now.descriptors <= before.descriptors + KEPT_DESCRIPTORS
                && now.memory <= before.memory + kept;
            if is_given_back {
                return now;
            }
            assert!(
                begun.elapsed() < 2 * PATIENCE,
                "not given back: before {before:?}, now {now:?}"
            );
            thread::yield_now();
        }
    }
}

fn call(mcp: &mut Mcp) {
    let answer = mcp.ok("api_get_request", json!({"endpoint": "/small"}));
    assert_eq!(answer["data"]["text"], "xxxxxxxxxx");
}

/// What a process uses, as `/proc` has it; memory in bytes.
#[derive(Clone, Copy, Debug)]
struct Usage {
    threads: usize,
    memory: usize,
    descriptors: usize,
}

impl Usage {
    fn of(process: u32) -> Self {
        let status =
            fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
        let number = |name: &str| -> usize {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
        Self {
            threads: number("Threads:"),
            memory: 1024 * number("VmRSS:"),
            descriptors,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            threads: self.threads.max(other.threads),
            memory: self.memory.max(other.memory),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

fn server(has_few_descriptors: bool) -> Command {
    let mut command = Command::new("sh");
    let limit = if has_few_descriptors {
        "ulimit -n 64 && "
    } else {
        ""
    };
    command
        .args(["-c", &format!("{limit}exec \"$@\""), "sh"])
        .arg(binary());
    command
}

// ---- The crowds ----

fn opened_and_closed(bench: &Bench, counts: &Counts) -> String {
    bench.stands(MOST_MEMORY, || {
        (0..counts.connections).for_each(|_| drop(bench.connect()));
    })
}

fn half_open(bench: &Bench, counts: &Counts) -> String {
    bench.stands(MOST_MEMORY, || {
        sent_by_each(bench, counts.open, b"POST /mcp HTTP/1.1\r\nHost: loc")
    })
}

fn idle(bench: &Bench, counts: &Counts) -> String {
    let request = format!(
        "GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n",
        bench.process.address()
    );
    bench.stands(MOST_MEMORY, || {
        let mut sockets = sent_by_each(bench, counts.open, request.as_bytes());
        for socket in &mut sockets {
            // Those that came first have made room for the last.
            let _ = socket.read(&mut [0; 1024]);
        }
        sockets
    })
}

/// Each asks for more than fits into the buffers between it and the server, and reads no more than its beginning.
fn slow_readers(bench: &Bench, counts: &Counts) -> String {
    let requests = posted(bench, "api_get_request", &json!({"endpoint": "/large"})).repeat(8);
    let reader = |_| {
        let mut socket = sent(bench, &requests);
        // Then its answer is being written; one after another, as the crowd is of readers and not of calls.
        socket.read_exact(&mut [0]).unwrap();
        socket
    };
    let crowd = || {
        bench.stands(MOST_MEMORY + MEMORY_OF_ANSWERS, || {
            (0..counts.slow).map(reader).collect::<Vec<_>>()
        })
    };
    let (first, kept) = (crowd(), Usage::of(bench.process.id()).memory);
    let (second, after) = (crowd(), Usage::of(bench.process.id()).memory);
    assert!(
        after <= kept + KEPT / 2,
        "what the allocator keeps grows from {kept} to {after}"
    );
    format!("{first}; once more: {second}")
}

fn vanishing(bench: &Bench, counts: &Counts) -> String {
    let large = posted(bench, "api_get_request", &json!({"endpoint": "/large"}));
    bench
        .process
        .modern()
        .call("authenticate_user", json!({"user_id": "somebody"}));
    let wait = posted(
        bench,
        "check_auth_status",
        &json!({"user_id": "somebody", "wait_seconds": 100}),
    );
    bench.stands(MOST_MEMORY + MEMORY_OF_ANSWERS, || {
        for _ in 0..counts.vanishing {
            drop(sent(bench, &large[..large.len() - 10]));
            let mut in_the_middle = sent(bench, &large);
            in_the_middle.read_exact(&mut [0; 1000]).unwrap();
            drop(in_the_middle);
            drop(sent(bench, &wait));
        }
    })
}

fn soak(bench: &Bench, counts: &Counts) -> String {
    const CLIENTS: usize = 4;
    let run = |calls: usize| {
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut mcp = bench.process.modern();
                    for number in 0..calls / CLIENTS {
                        if number % 2 == 0 {
                            call(&mut mcp);
                        } else {
                            assert!(mcp.result("tools/list", json!({}))["tools"].is_array());
                        }
                    }
                });
            }
        });
    };
    // What is taken once and kept is taken by then.
    run(counts.calls / 20);
    let before = Usage::of(bench.process.id());
    run(counts.calls);
    let after = Usage::of(bench.process.id());
    assert!(
        after.threads <= before.threads + 4
            && after.descriptors <= before.descriptors + KEPT_DESCRIPTORS,
        "{before:?} {after:?}"
    );
    assert!(
        after.memory <= before.memory + 8 * 1024 * 1024,
        "{before:?} {after:?}"
    );
    format!("{} calls, before {before:?}, after {after:?}", counts.calls)
}

/// Of more clients than there are descriptors for, each gets an answer, a 503 or a close; then all is well.
fn descriptors(bench: &Bench, counts: &Counts) -> String {
    let before = Usage::of(bench.process.id());
    let request = posted(bench, "api_get_request", &json!({"endpoint": "/small"}));
    let mut statuses = [("200", 0), ("503", 0), ("closed", 0)];
    let mut sockets: Vec<TcpStream> = (0..counts.slow).map(|_| sent(bench, &request)).collect();
    for socket in &mut sockets {
        let mut start = [0; 12];
        let status = socket
            .read_exact(&mut start)
            .map(|()| String::from_utf8_lossy(&start[9..]).into_owned());
        let status = status.unwrap_or_else(|_| "closed".to_owned());
        let (_, count) = statuses
            .iter_mut()
            .find(|(known, _)| *known == status)
            .expect("nothing else is answered");
        *count += 1;
    }
    drop(sockets);
    bench.given_back(before, MOST_MEMORY / 4);
    (0..20).for_each(|_| bench.call());
    format!(
        "{statuses:?} of {} clients at once, and calls go through again",
        counts.slow
    )
}

/// Connections that have sent `bytes`.
fn sent_by_each(bench: &Bench, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    (0..count).map(|_| sent(bench, bytes)).collect()
}

fn sent(bench: &Bench, bytes: &[u8]) -> TcpStream {
    let mut socket = bench.connect();
    // One that is given up at once learns so when it reads.
    let _ = socket.write_all(bytes);
    socket
}

/// A call of `tool` as bytes.
fn posted(bench: &Bench, tool: &str, arguments: &Value) -> Vec<u8> {
    let mut mcp = bench.process.modern();
    let headers = mcp.headers("tools/call", Some(tool));
    let body = mcp.body("tools/call", json!({"name": tool, "arguments": arguments}));
    let fields: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let (host, length, fields) = (bench.process.address(), body.len(), fields.join("\r\n"));
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{fields}\r\n\r\n{body}"
    )
    .into_bytes()
}
