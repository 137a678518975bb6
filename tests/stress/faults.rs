//! What the token file, the calls and the people live through: processes that are killed, disks that fill up, crowds
//! at the moment of expiry, and outages. `cargo run --release --example stress_faults`; `-- --short` does less of it,
//! names of scenarios choose among them. The first that fails ends it.
//!
//! The server runs as processes of its own: the binary that `RELEASE_BINARY` names, else this program once more.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

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
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The first argument of this program when it is to be the server.
const AS_SERVER: &str = "--as-server";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == AS_SERVER) {
        return entra_auth_mcp::cli::run(arguments.into_iter().skip(1));
    }
    let (options, wanted): (Vec<String>, Vec<String>) = arguments.into_iter().partition(|word| word.starts_with('-'));
    let is_short = options == ["--short"];
    if !is_short && !options.is_empty() {
        eprintln!("usage: stress_faults [--short] [SCENARIO]…");
        return ExitCode::from(2);
    }
    kills::expect_panics_of_workers();
    let run = |name: &str, scenario: &dyn Fn() -> String| {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            let begun = Instant::now();
            let outcome = scenario();
            println!("{name}: {outcome} ({:.1} s)", begun.elapsed().as_secs_f64());
        }
    };
    run("kills", &|| kills::run(if is_short { 100 } else { 1000 }));
    #[cfg(unix)]
    {
        run("full-disk", &disk::full_and_read_only);
        run("forbidden", &disk::forbidden);
        run("locked", &|| disk::locked(is_short));
    }
    run("bursts", &|| bursts::run(if is_short { 3 } else { 20 }));
    run("outages", &|| outages::run(if is_short { 1 } else { 10 }));
    run("names", &names::run);
    ExitCode::SUCCESS
}

/// The program that serves.
fn program() -> PathBuf {
    std::env::var_os("RELEASE_BINARY").map_or_else(|| std::env::current_exe().unwrap(), PathBuf::from)
}

/// What makes `program` a server.
fn arguments() -> Vec<&'static str> {
    if std::env::var_os("RELEASE_BINARY").is_some() { vec![] } else { vec![AS_SERVER] }
}

fn server() -> Command {
    let mut command = Command::new(program());
    command.args(arguments());
    command
}

/// A server in file systems of its own, after `preparation`, which finds the arguments from `$1` on; `None` where
/// this machine allows no such thing.
fn server_in_its_own_file_systems(preparation: &str, with: &[&str]) -> Option<Command> {
    let is_root = uid() == 0;
    let own = if is_root { ["--mount"].as_slice() } else { &["--map-root-user", "--mount"] };
    let is_allowed = Command::new("unshare").args(own).args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    if !is_allowed.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let mut command = Command::new("unshare");
    let count = with.len();
    let script = format!("set -e; {preparation}; shift {count}; exec \"$@\"");
    command.args(own).args(["sh", "-c", &script, "sh"]).args(with).arg(program()).args(arguments());
    Some(command)
}

/// Whose process this is; nobody's where there are no such numbers.
fn uid() -> u32 {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    #[cfg(not(unix))]
    return u32::MAX;
}
