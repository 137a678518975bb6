//! What the token file, the calls and the people live through: processes that are killed, disks that fill up, crowds
//! at the moment of expiry, and outages. `cargo test --release --test stress_faults`; `-- --short` does less of it,
//! names of scenarios choose among them. The first that fails ends it.
//!
//! The server runs as a process of its own: the binary that `RELEASE_BINARY` names, else the one built with this.
//! One at a time has the token file.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "faults/bursts.rs"]
mod bursts;
#[cfg(unix)]
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/kills.rs"]
mod kills;
#[path = "faults/names.rs"]
mod names;
#[path = "faults/outages.rs"]
mod outages;
mod program;
#[path = "faults/second.rs"]
mod second;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use program::{Wanted, binary};
use serde_json::Value;

fn main() -> ExitCode {
    let wanted = match Wanted::of_arguments("stress_faults") {
        Ok(wanted) => wanted,
        Err(code) => return code,
    };
    let is_short = wanted.is_short;
    kills::expect_panics_of_workers();
    wanted.run("kills", || kills::run(if is_short { 100 } else { 1000 }));
    #[cfg(unix)]
    {
        wanted.run("full-disk", disk::full_and_read_only);
        wanted.run("forbidden", disk::forbidden);
    }
    wanted.run("bursts", || bursts::run(if is_short { 3 } else { 20 }));
    wanted.run("outages", || outages::run(if is_short { 1 } else { 10 }));
    wanted.run("names", names::run);
    wanted.run("second", second::run);
    ExitCode::SUCCESS
}

fn server() -> Command {
    Command::new(binary())
}

/// The accounts of a token file, by user id. Version 1 of the file has a map of them, version 2 a list.
fn accounts_in(file: &[u8]) -> BTreeMap<String, Value> {
    let mut json: Value = serde_json::from_slice(file).expect("the file always parses");
    match json["accounts"].take() {
        Value::Object(accounts) => accounts.into_iter().collect(),
        Value::Array(accounts) => accounts
            .into_iter()
            .map(|account| (account["user_id"].as_str().unwrap().to_owned(), account))
            .collect(),
        other => panic!("no accounts: {other}"),
    }
}

/// A server in file systems of its own, after `preparation`, which finds the arguments from `$1` on; `None` where
/// this machine allows no such thing.
fn server_in_its_own_file_systems(preparation: &str, with: &[&str]) -> Option<Command> {
    let is_root = uid() == 0;
    let own = if is_root {
        ["--mount"].as_slice()
    } else {
        &["--map-root-user", "--mount"]
    };
    let is_allowed = Command::new("unshare")
        .args(own)
        .args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"])
        .output();
    if !is_allowed.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    let count = with.len();
    let script = format!("set -e; {preparation}; shift {count}; exec \"$@\"");
    command
        .args(own)
        .args(["sh", "-c", &script, "sh"])
        .args(with)
        .arg(binary());
    Some(command)
}

/// Whose process this is; nobody's where there are no such numbers.
fn uid() -> u32 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    #[cfg(not(unix))]
    return u32::MAX;
}
