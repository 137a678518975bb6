//! Bodies of 20 MiB: that they pass, and what of memory a file on its way takes.

use std::fs;
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Reply;
use crate::support::server::{Mcp, Process, Setup, TempDir};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
const BIG: usize = 20 * MIB;

/// The built program with Ada signed in and bodies of 24 MiB allowed.
struct Bench {
    process: Process,
    mcp: Mcp,
    backend: Backend,
    files: TempDir,
    _setup: Setup,
    _entra: Entra,
}

impl Bench {
    fn new() -> Self {
        let (entra, files) = (Entra::start(), TempDir::new());
        let backend = Backend::start_for(&entra);
        let most = (24 * MIB).to_string();
        let setup = Setup::new(&entra, Some(&backend))
            .with("FILES_DIR", files.0.to_str().unwrap())
            .with("MAX_RESPONSE_BYTES", &most)
            .with("MAX_REQUEST_BYTES", &most);
        let program = std::env::var("PROGRAM")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_entra-auth-mcp").to_owned());
        let process = Process::start(Command::new(program), &setup);
        let mut mcp = process.modern();
        mcp.sign_in(ADA);
        mcp.ok("api_get_request", json!({"endpoint": "/me"}));
        Self {
            process,
            mcp,
            backend,
            files,
            _setup: setup,
            _entra: entra,
        }
    }

    fn answer(&self, reply: Reply) {
        self.backend.on(move |_| Some(reply.clone().into()));
    }

    /// By how much more than before the peak is after `call`; told, and given.
    fn growth(&mut self, what: &str, call: impl FnOnce(&mut Self)) -> usize {
        let before = self.process.peak_memory().unwrap_or_default();
        call(self);
        let growth = self
            .process
            .peak_memory()
            .unwrap_or_default()
            .saturating_sub(before);
        println!(
            "{what}: {} KiB more than {} KiB",
            growth / 1024,
            before / 1024
        );
        growth
    }
}

#[test]
fn a_file_on_its_way_is_never_in_memory_as_a_whole() {
    let mut bench = Bench::new();
    let bytes = vec![b'x'; BIG];
    bench.answer(Reply::new(200, "application/octet-stream", bytes.clone()));
    let growth = bench.growth("save_to", |bench| {
        let (head, events) = bench.mcp.open_call(
            "api_get_request",
            json!({"endpoint": "/x", "save_to": "x"}),
            json!({}),
        );
        let answered = crate::support::server::Answered::read(&head, events);
        assert_eq!(
            answered.response["result"]["structuredContent"]["file"]["bytes"],
            BIG
        );
    });
    assert!(fs::read(bench.files.file("x")).unwrap() == bytes);
    assert!(growth < 4 * MIB, "{growth}");
    bench.answer(Reply::empty(204));
    let growth = bench.growth("body_file", |bench| {
        let arguments = json!({"endpoint": "/x", "body_file": "x"});
        let (head, events) = bench.mcp.open_call("api_put_request", arguments, json!({}));
        let answered = crate::support::server::Answered::read(&head, events);
        assert_eq!(
            answered.response["result"]["structuredContent"]["file"]["bytes"],
            BIG
        );
    });
    assert!(bench.backend.last().body == bytes);
    assert!(growth < 4 * MIB, "{growth}");
}

#[test]
fn an_upload_of_20_mib_is_held_about_once() {
    let mut bench = Bench::new();
    bench.answer(Reply::empty(204));
    let data = format!("[\"{}\"]", "x".repeat(BIG - 4));
    let growth = bench.growth("upload", |bench| {
        let data: Value = serde_json::from_str(&data).unwrap();
        bench
            .mcp
            .ok("api_post_request", json!({"endpoint": "/x", "data": data}));
    });
    assert!(bench.backend.last().body == data.as_bytes());
    assert!(growth < 2 * BIG, "{growth}");
}

#[test]
fn an_answer_of_20_mib_is_handed_on_whole_and_a_part_of_it_alone() {
    let mut bench = Bench::new();
    let body = format!("{{\"filling\":\"{}\",\"part\":1.50}}", "x".repeat(BIG));
    bench.answer(Reply::new(200, "application/json", body.clone()));
    let growth = bench.growth("select", |bench| {
        let part = bench.mcp.ok(
            "api_get_request",
            json!({"endpoint": "/x", "select": "/part"}),
        );
        assert_eq!(part["data"], 1.5);
    });
    let more = bench.growth("answer", |bench| {
        let whole = bench.mcp.ok("api_get_request", json!({"endpoint": "/x"}));
        assert_eq!(
            (
                &whole["truncated"],
                whole["data"]["filling"].as_str().unwrap().len()
            ),
            (&json!(false), BIG)
        );
    });
    // Once as JSON and once as text.
    assert!(
        growth < BIG + 2 * MIB && growth + more < 2 * BIG + 4 * MIB,
        "{growth} {more}"
    );
}
