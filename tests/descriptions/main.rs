//! Real descriptions of APIs, those of a folder: what is made of each, and how well it is searched.
//! `tests/descriptions/run DIR`
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod questions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use entra_auth_mcp::api::policy::{METHODS, Policy};
use entra_auth_mcp::openapi::offer::Wanted;
use entra_auth_mcp::openapi::{Description, Surroundings};
use url::Url;

fn main() -> ExitCode {
    let Some(folder) = env::args().nth(1) else {
        eprintln!("Usage: tests/descriptions/run DIR");
        return ExitCode::FAILURE;
    };
    let mut faults = Vec::new();
    for file in descriptions(Path::new(&folder)) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let contents = fs::read(&file).unwrap();
        match read(contents) {
            Ok(description) => {
                println!(
                    "{name}: {} operations, {} skipped",
                    description.operations().len(),
                    description.skipped().len()
                );
                faults.extend(questions::ask(name, &description));
            }
            Err(reason) => println!("{name}: not used: {reason}"),
        }
    }
    for fault in &faults {
        println!("FAULT: {fault}");
    }
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
    let base = Url::parse("https://api.contoso.example/").unwrap();
    let surroundings = Surroundings {
        policy: &policy,
        base: Some(&base),
        wanted: &Wanted::default(),
        own_tools: &[],
    };
    Description::read(contents, &surroundings)
}
