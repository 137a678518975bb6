//! Real descriptions of APIs, those of a folder: what is made of each, and how well it is searched.
//! `tests/descriptions/run DIR`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod calls;
mod questions;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use entra_auth_mcp::api::policy::{METHODS, Policy};
use entra_auth_mcp::openapi::offer::Wanted;
use entra_auth_mcp::openapi::{Bounds, Description, Surroundings};
use serde_json::{Map, Value, json};
use support::backend::Backend;
use support::entra::{ADA, Entra};
use support::http::Reply;
use support::schema::breaks_the_rules;
use support::server::Setup;
use url::Url;

/// How many operations of a description are called.
const MOST_CALLS: usize = 40;
/// The longest tool and the longest description of one.
const MOST_TOOL_BYTES: usize = 16 * 1024;
const MOST_DESCRIPTION_BYTES: usize = 1024;
/// What an operation's arguments may surely take.
const ROOM: Bounds = Bounds {
    most_bytes: 12 * 1024,
    takes_files: false,
};
const OF_PATHS: [&str; 9] = [
    "get", "put", "post", "delete", "patch", "head", "options", "trace", "query",
];

fn main() -> ExitCode {
    let Some(folder) = env::args().nth(1) else {
        eprintln!("Usage: tests/descriptions/run DIR");
        return ExitCode::FAILURE;
    };
    let mut faults = Vec::new();
    for file in descriptions(Path::new(&folder)) {
        let name = file.file_name().unwrap().to_str().unwrap();
        match read(fs::read(&file).unwrap()) {
            Ok(description) => {
                println!(
                    "{name}: {} operations, {} skipped",
                    description.operations().len(),
                    description.skipped().len()
                );
                let found = look_at(&file, &description);
                faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
                faults.extend(questions::ask(name, &description));
            }
            Err(reason) => println!("{name}: not used: {reason}"),
        }
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
    println!("{} faults", faults.len());
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn descriptions(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.sort();
    files
}

fn read(contents: Vec<u8>) -> Result<Description, String> {
    let policy = Policy {
        methods: METHODS.to_vec(),
        ..Policy::default()
    };
    let base = Url::parse("http://localhost/v1.0/").unwrap();
    let surroundings = Surroundings {
        policy: &policy,
        base: Some(&base),
        fixed_headers: None,
        wanted: &Wanted::default(),
    };
    Description::read(contents, &surroundings)
}

/// What does not hold of the description in `file`.
fn look_at(file: &Path, description: &Description) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let raw: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
    let mut faults = accounted(&raw, description);

    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    backend.on(|_| Some(Reply::of_json(200, &json!({})).into()));
    let setup = Setup::new(&entra, Some(&backend))
        .with("LOG_LEVEL", "error")
        .with("OPENAPI_FILE", file.to_str().unwrap())
        .with("API_TOOLS", "named");
    let server = setup.start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let mut result = mcp.result("tools/list", json!({}));
    let tools: Vec<Value> = serde_json::from_value(result["tools"].take()).unwrap();
    keep_schemas(&tools);
    let mut names = BTreeSet::new();
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        let is_legal = (1..=48).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !is_legal || !names.insert(name) {
            faults.push(format!("the name {name:?}"));
        }
        let length = tool.to_string().len();
        if length > MOST_TOOL_BYTES {
            faults.push(format!("{name} has {length} bytes"));
        }
        let length = tool["description"].as_str().unwrap().len();
        if length > MOST_DESCRIPTION_BYTES {
            faults.push(format!("the description of {name} has {length} bytes"));
        }
        faults.extend(breaks_the_rules(tool));
    }
    let mut called = Vec::new();
    for operation in description.operations() {
        match tools
            .iter()
            .find(|tool| tool["name"] == operation.name.as_str())
        {
            Some(tool) => called.push((operation, tool)),
            None if description.arguments(operation, ROOM).is_ok() => {
                faults.push(format!("{} is not listed", operation.line()));
            }
            None => {}
        }
    }
    println!("  {} listed", called.len());
    let step = called.len().div_ceil(MOST_CALLS).max(1);
    let mut calls = 0;
    for (operation, tool) in called.into_iter().step_by(step) {
        let own = description.arguments(operation, ROOM).ok();
        let own = own
            .map(|arguments| arguments.properties)
            .unwrap_or_default();
        let given: Map<String, Value> = own
            .keys()
            .map(|name| {
                let schema = &tool["inputSchema"]["properties"][name];
                (name.clone(), calls::value(schema, name, calls::MOST_DEPTH))
            })
            .collect();
        let before = backend.requests().len();
        let answer = mcp.call(&operation.name, given.clone().into());
        if backend.requests().len() == before {
            let message = answer["structuredContent"]["message"].as_str();
            let message = message.unwrap_or_default();
            faults.push(format!("{}: nothing was sent: {message}", operation.line()));
            continue;
        }
        let sent = backend.last();
        let found = calls::departures(&raw, operation, &given, &sent);
        faults.extend(
            found
                .into_iter()
                .map(|fault| format!("{}: {fault}", operation.line())),
        );
        calls += 1;
    }
    println!("  {calls} calls parsed back");
    faults
}

/// The operations of `raw` that are neither offered nor skipped.
fn accounted(raw: &Value, description: &Description) -> Vec<String> {
    let mut faults = Vec::new();
    let skipped = description.skipped();
    let sections = [&raw["paths"], &raw["x-ms-paths"]];
    let sections = sections.into_iter().filter_map(Value::as_object);
    for (path, item) in sections.flatten() {
        for method in item.as_object().into_iter().flatten().map(|(name, _)| name) {
            if !OF_PATHS.contains(&method.as_str()) || path.starts_with("x-") {
                continue;
            }
            let line = format!("{} {path}", method.to_ascii_uppercase());
            let is_offered = description.operation(&line).is_some();
            let mut reasons = skipped.iter().filter(|known| known.operation == line);
            let reason = reasons.next().map(|known| known.reason.as_str());
            if is_offered == reason.is_some() || reason == Some("") {
                faults.push(format!("{line} is neither offered nor skipped, or both"));
            }
        }
    }
    faults
}

/// Appends the schemas to the file that `SCHEMAS_FILE` names, where another program checks them.
fn keep_schemas(tools: &[Value]) {
    let Some(file) = env::var_os("SCHEMAS_FILE") else {
        return;
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .unwrap();
    for tool in tools {
        writeln!(file, "{}", tool["inputSchema"]).unwrap();
    }
}
