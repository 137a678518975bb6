//! Who owns the token file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use entra_auth_mcp::error::{Failure, Kind};
use entra_auth_mcp::owner::{self, Owner, OwnerInfo, Purpose};
use serde_json::json;

use crate::support::server::TempDir;

const ORIGIN: &str = "http://localhost:4321";

fn beside(token_file: &Path, suffix: &str) -> PathBuf {
    let mut name = token_file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn acquire(token_file: &Path, purpose: Purpose) -> Result<Owner, Failure> {
    Owner::acquire(token_file, purpose, Duration::ZERO)
}

fn refused(token_file: &Path) -> Failure {
    let failure = acquire(token_file, Purpose::Server).err().unwrap();
    assert_eq!(failure.kind, Kind::TokenCache);
    failure
}

#[test]
fn an_owner_says_who_it_is_for_as_long_as_it_lives() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    assert_eq!(owner::current(&token_file).unwrap(), None);

    let owner = acquire(&token_file, Purpose::Server).unwrap();
    let mut expected = OwnerInfo {
        pid: std::process::id(),
        origin: None,
        purpose: Purpose::Server,
    };
    assert_eq!(owner::current(&token_file).unwrap(), Some(expected.clone()));
    owner.announce(ORIGIN);
    expected.origin = Some(ORIGIN.to_owned());
    assert_eq!(owner::current(&token_file).unwrap(), Some(expected));

    drop(owner);
    assert_eq!(owner::current(&token_file).unwrap(), None);
    let left: Vec<_> = fs::read_dir(&directory.0).unwrap().collect();
    assert_eq!(left.len(), 1, "only the lock file stays: {left:?}");
    assert!(beside(&token_file, ".lock").exists());
    acquire(&token_file, Purpose::Server).unwrap();
}

#[test]
fn a_second_owner_is_told_whose_the_file_is() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let pid = std::process::id().to_string();

    let server = acquire(&token_file, Purpose::Server).unwrap();
    let starting = refused(&token_file).text();
    assert!(starting.contains("a server that is starting"), "{starting}");
    server.announce(ORIGIN);
    let running = refused(&token_file).text();
    for part in [
        "a server at",
        ORIGIN,
        &pid,
        "each server a TOKEN_CACHE_FILE of its own",
    ] {
        assert!(running.contains(part), "{part}: {running}");
    }
    drop(server);

    let _login = acquire(&token_file, Purpose::DeviceCode).unwrap();
    let login = refused(&token_file).text();
    for part in ["login --device-code", &pid, "15 minutes"] {
        assert!(login.contains(part), "{part}: {login}");
    }
}

#[test]
fn a_new_owner_waits_for_the_previous_one_to_end() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let previous = acquire(&token_file, Purpose::Server).unwrap();
    let waiting = std::thread::spawn({
        let token_file = token_file.clone();
        move || Owner::acquire(&token_file, Purpose::Server, crate::support::PATIENCE).map(drop)
    });
    drop(previous);
    waiting.join().unwrap().unwrap();
}

// Version 0.1.0 takes this lock while it changes the file, and writes no owner file.
#[test]
fn a_lock_without_an_owner_file_is_another_process_of_unknown_purpose() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let lock = File::create(beside(&token_file, ".lock")).unwrap();
    lock.lock().unwrap();
    let refusals = [
        refused(&token_file),
        owner::current(&token_file).unwrap_err(),
    ];
    for refusal in refusals {
        let text = refusal.text();
        assert!(text.contains("does not say which one it is"), "{text}");
        assert!(text.contains("version 0.1.0"), "{text}");
    }
}

// Root can look at the token file of a service, but not speak to it.
#[test]
#[cfg(unix)]
fn an_owner_file_of_another_user_is_told() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let _owner = Owner::acquire(&token_file, Purpose::Server, Duration::ZERO).unwrap();
    let owner_file = beside(&token_file, ".owner");
    // Only root can give a file away.
    if std::os::unix::fs::chown(&owner_file, Some(65534), None).is_err() {
        return;
    }
    let text = owner::current(&token_file).unwrap_err().text();
    assert!(
        text.contains("A process of another user") && text.contains("as that user"),
        "{text}"
    );
}

#[test]
fn an_owner_file_that_a_killed_owner_left_behind_says_nothing() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let stale = json!({ "pid": 1, "origin": "http://localhost:1", "purpose": "server" });
    fs::write(beside(&token_file, ".owner"), stale.to_string()).unwrap();
    #[cfg(unix)]
    chmod(&beside(&token_file, ".owner"), 0o600);
    assert_eq!(owner::current(&token_file).unwrap(), None);

    // Another process holds the lock, as at the very start of the next owner.
    let lock = File::create(beside(&token_file, ".lock")).unwrap();
    lock.lock().unwrap();
    assert!(owner::current(&token_file).is_err());
    assert!(!refused(&token_file).text().contains("http://localhost:1"));
    drop(lock);

    let _owner = acquire(&token_file, Purpose::Server).unwrap();
    let info = owner::current(&token_file).unwrap().unwrap();
    assert_eq!(info.pid, std::process::id());
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
#[test]
fn the_files_of_an_owner_are_private_and_an_owner_file_that_is_not_is_not_trusted() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let owner = acquire(&token_file, Purpose::Server).unwrap();
    owner.announce(ORIGIN);
    for suffix in [".lock", ".owner"] {
        let mode = fs::metadata(beside(&token_file, suffix)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    for mode in [0o644, 0o620, 0o606] {
        chmod(&beside(&token_file, ".owner"), mode);
        owner::current(&token_file).unwrap_err();
    }
}

#[cfg(unix)]
fn put(kind: &str, path: &Path) {
    match kind {
        "pipe" => {
            let made = Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }
        "link" => std::os::unix::fs::symlink(path.with_extension("target"), path).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        other => unreachable!("{other}"),
    }
}

// CASES C14
#[cfg(unix)]
#[test]
fn a_lock_file_that_is_no_regular_file_is_refused_at_once() {
    for kind in ["pipe", "link", "directory"] {
        let directory = TempDir::new();
        let token_file = directory.file("tokens.json");
        let lock = beside(&token_file, ".lock");
        put(kind, &lock);
        let refusals = [
            refused(&token_file),
            owner::current(&token_file).unwrap_err(),
        ];
        for refusal in refusals {
            let text = refusal.text();
            assert!(text.contains("is not a regular file"), "{kind}: {text}");
        }
        assert!(!lock.with_extension("target").exists(), "{kind}");
    }
}

// CASES C14
#[cfg(unix)]
#[test]
fn an_owner_file_that_is_no_regular_file_is_replaced_or_says_nothing() {
    for kind in ["pipe", "link", "directory"] {
        let directory = TempDir::new();
        let token_file = directory.file("tokens.json");
        let owner_file = beside(&token_file, ".owner");
        put(kind, &owner_file);
        let owner = acquire(&token_file, Purpose::Server).unwrap();
        assert!(!owner_file.with_extension("target").exists(), "{kind}");
        // A directory stays: the server serves, and nobody is told where.
        if kind != "directory" {
            assert!(fs::symlink_metadata(&owner_file).unwrap().is_file());
            fs::remove_file(&owner_file).unwrap();
            put(kind, &owner_file);
        }
        owner::current(&token_file).unwrap_err();
        drop(owner);
        assert_eq!(owner::current(&token_file).unwrap(), None);
    }
}

// Else the key would go to whoever has the port of an owner that was killed.
#[cfg(unix)]
#[test]
fn those_who_look_for_the_owner_at_the_same_time_do_not_take_each_other_for_it() {
    let directory = TempDir::new();
    let token_file = directory.file("tokens.json");
    let stale = json!({ "pid": 1, "origin": "http://localhost:1", "purpose": "server" });
    directory.write("tokens.json.owner", stale.to_string());
    // As of an owner that could not write its file.
    let lock = File::create(directory.file("tokens.json.lock")).unwrap();
    lock.lock().unwrap();
    let looking: Vec<_> = (0..4)
        .map(|_| {
            let token_file = token_file.clone();
            std::thread::spawn(move || {
                for _ in 0..2000 {
                    assert!(owner::current(&token_file).is_err());
                }
            })
        })
        .collect();
    for looks in looking {
        looks.join().unwrap();
    }
}
