//! What breaks around the server, and what it goes on doing meanwhile: the disk, the lock, Entra.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::browser::Browser;
use crate::support::encode_pairs;
use crate::support::entra::{ADA, GRACE, TENANT_ID, TokenFailure, User};
use crate::support::server::{Mcp, Process, Running, TempDir, World};
use serde_json::{Value, json};

/// Of the 3900 seconds that a token lives: it is still valid, but about to expire.
const DUE: u64 = 3700;
/// From there until it has expired.
const THE_REST: u64 = 250;

fn me(mcp: &mut Mcp) -> Value {
    mcp.ok("api_get_request", json!({"endpoint": "/me"}))
}

fn refused(mcp: &mut Mcp) -> Value {
    mcp.fails("api_get_request", json!({"endpoint": "/me"}))
}

fn login_url(server: &Running, user_id: &str) -> String {
    format!(
        "{}/auth/login?{}",
        server.url(),
        encode_pairs(&[("user_id", user_id)])
    )
}

/// What the server says of its token file, in both places.
fn assert_sound(server: &Running) {
    let health = server.client().get("/healthz");
    assert_eq!(
        (health.status, health.text().as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    assert_eq!(
        server.modern().ok("get_server_info", json!({}))["token_cache"],
        "ok"
    );
}

/// Degraded, for a reason that has `word` in it.
fn assert_degraded(server: &Running, word: &str) {
    let health = server.client().get("/healthz");
    let body = health.json();
    assert_eq!(
        (health.status, &body["status"]),
        (200, &json!("degraded")),
        "{body}"
    );
    assert!(
        body["reason"].as_str().unwrap().contains("token file"),
        "{body}"
    );
    let info = server.modern().ok("get_server_info", json!({}));
    assert!(
        info["token_cache"].as_str().unwrap().contains(word),
        "{info}"
    );
}

impl World {
    /// No file can be written beside the token file: something is in the way of the first step.
    fn block_writes(&self) -> PathBuf {
        let in_the_way = self.setup.directory.file("token_cache.json.tmp");
        fs::create_dir(&in_the_way).unwrap();
        in_the_way
    }

    fn contents(&self) -> String {
        fs::read_to_string(self.server.token_file()).unwrap()
    }

    fn refresh_token(&self) -> Value {
        serde_json::from_str::<Value>(&self.contents()).unwrap()["accounts"][ADA]["refresh_token"]
            .take()
    }
}

// ---- Descriptors ----

#[cfg(target_os = "linux")]
#[test]
fn with_few_descriptors_there_are_fewer_places_and_who_finds_none_is_told_so() {
    const PLACES: usize = 18;
    let world = World::new();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 64 && exec \"$0\"",
        env!("CARGO_BIN_EXE_entra-auth-mcp"),
    ]);
    let server = Process::start(command, &world.setup);
    server.modern().sign_in(ADA);
    assert!(
        server.log().contains("at most 18, as only 64 open files"),
        "{}",
        server.log()
    );
    let hold = world.backend.hold();
    thread::scope(|scope| {
        let slow = || {
            server
                .modern()
                .ok("api_get_request", json!({"endpoint": "/slow"}))
        };
        let calls: Vec<_> = (0..PLACES).map(|_| scope.spawn(slow)).collect();
        hold.wait_for_arrivals(PLACES);
        for _ in 0..2 * PLACES {
            let reply = server.client().get("/healthz");
            assert_eq!(
                (reply.status, reply.header("Retry-After")),
                (503, Some("1"))
            );
        }
        drop(hold);
        for call in calls {
            assert_eq!(call.join().unwrap()["status"], 200);
        }
    });
    (0..2 * PLACES).for_each(|_| drop(me(&mut server.modern())));
    assert!(!server.log().contains("os error 24"), "{}", server.log());
}

// ---- The disk ----

#[test]
fn a_directory_that_vanishes_leaves_what_is_in_memory_to_serve_until_it_is_back() {
    let world = World::signed_in();
    let (directory, moved) = (
        &world.setup.directory.0,
        world.setup.directory.0.with_extension("moved"),
    );
    fs::rename(directory, &moved).unwrap();
    for _ in 0..3 {
        me(&mut world.server.modern());
    }
    assert_degraded(&world.server, "token_cache.json");
    assert_eq!(
        world.server.modern().ok("view_userid", json!({}))["user_id"],
        ADA
    );
    // What is on the disk cannot be known, so it is not refreshed; what is left of the token serves.
    world.advance(DUE);
    me(&mut world.server.modern());
    world.advance(THE_REST);
    let failure = refused(&mut world.server.modern());
    assert_eq!(failure["error"], "token_cache", "{failure}");
    assert_eq!(world.entra.refreshes(), 0);
    assert_eq!(
        Browser::new()
            .sign_in(&login_url(&world.server, GRACE), GRACE)
            .status,
        400
    );

    fs::rename(&moved, directory).unwrap();
    me(&mut world.server.modern());
    assert_eq!(world.entra.refreshes(), 1);
    assert_sound(&world.server);
}

#[test]
fn a_file_of_a_newer_version_or_of_something_else_leaves_what_is_in_memory_to_serve() {
    for (foreign, word) in [
        (r#"{"version":2,"accounts":{}}"#, "version 2"),
        ("spoilt", "cannot be understood"),
    ] {
        let world = World::signed_in();
        let before = world.contents();
        fs::write(world.server.token_file(), foreign).unwrap();
        me(&mut world.server.modern());
        assert_degraded(&world.server, word);
        assert_eq!(world.contents(), foreign, "it is left alone");

        fs::write(world.server.token_file(), &before).unwrap();
        me(&mut world.server.modern());
        assert_sound(&world.server);
        assert_eq!(
            world.refresh_token(),
            serde_json::from_str::<Value>(&before).unwrap()["accounts"][ADA]["refresh_token"]
        );
    }
}

#[test]
fn a_sign_in_that_cannot_be_written_changes_nothing_and_shows() {
    let world = World::signed_in();
    let before = world.contents();
    let in_the_way = world.block_writes();
    let page = Browser::new().sign_in(&login_url(&world.server, GRACE), GRACE);
    assert!(
        page.status == 400 && page.text().contains("token_cache.json"),
        "{}",
        page.text()
    );
    assert_degraded(&world.server, "Could not write");
    assert_eq!(
        world.server.modern().ok("view_userid", json!({}))["user_id"],
        ADA
    );
    me(&mut world.server.modern());
    assert_eq!(world.contents(), before);

    fs::remove_dir(in_the_way).unwrap();
    assert_sound(&world.server);
    world.server.modern().sign_in(GRACE);
}

#[test]
fn what_entra_has_rotated_is_kept_in_memory_until_it_can_be_written() {
    let world = World::signed_in();
    let before = world.contents();
    let in_the_way = world.block_writes();
    for refreshes in 1..=2 {
        world.advance(DUE + THE_REST);
        for _ in 0..3 {
            me(&mut world.server.modern());
        }
        // The second time with the token that is in memory alone.
        assert_eq!(
            (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
            (refreshes, 0)
        );
        assert_degraded(&world.server, "Could not write");
        assert_eq!(world.contents(), before);
    }

    fs::remove_dir(in_the_way).unwrap();
    me(&mut world.server.modern());
    assert_sound(&world.server);
    assert_ne!(world.contents(), before);
    // Whoever reads the file from now on has the newest.
    let other = world.setup.start();
    world.advance(DUE + THE_REST);
    me(&mut other.modern());
    assert_eq!(
        (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
        (3, 0)
    );
}

#[test]
fn what_was_kept_in_memory_is_forgotten_once_it_is_written() {
    let world = World::signed_in();
    let other = world.setup.start();
    // The refresh token stays the same, so that nothing else tells old from new.
    world
        .entra
        .set(|settings| settings.omit_refresh_token_on_refresh = true);
    let in_the_way = world.block_writes();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    fs::remove_dir(in_the_way).unwrap();
    assert_sound(&world.server);
    world.advance(DUE + THE_REST);
    me(&mut other.modern());
    let newest = world
        .backend
        .last()
        .header("authorization")
        .unwrap()
        .to_owned();
    me(&mut world.server.modern());
    assert_eq!(
        world.backend.last().header("authorization"),
        Some(newest.as_str())
    );
    assert_eq!(world.entra.refreshes(), 2);
}

/// Also while another process is about to write.
#[test]
fn what_could_not_be_written_is_written_when_the_server_stops() {
    let world = World::signed_in();
    let in_the_way = world.block_writes();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    fs::remove_dir(in_the_way).unwrap();
    let World {
        server,
        setup,
        backend: _backend,
        entra,
    } = world;
    let lock = File::options()
        .write(true)
        .open(setup.directory.file("token_cache.json.lock"))
        .unwrap();
    lock.lock().unwrap();
    let address = server.address();
    thread::scope(|scope| {
        let stopping = scope.spawn(|| drop(server));
        while TcpStream::connect(&address).is_ok() {
            thread::yield_now();
        }
        // Whoever does not wait has ended by then.
        let begun = Instant::now();
        while !stopping.is_finished() && begun.elapsed() < Duration::from_millis(300) {
            thread::yield_now();
        }
        drop(lock);
    });
    let server = setup.start();
    me(&mut server.modern());
    server.clock.advance(DUE + THE_REST);
    entra.advance(3950);
    me(&mut server.modern());
    assert_eq!((entra.refreshes(), entra.reused_refresh_tokens()), (2, 0));
}

#[test]
fn a_refresh_that_entra_refuses_while_nothing_can_be_written_is_believed() {
    let world = World::signed_in();
    world.block_writes();
    world.advance(DUE + THE_REST);
    world.entra.revoke_all();
    for _ in 0..2 {
        assert_eq!(
            refused(&mut world.server.modern())["error"],
            "sign_in_required"
        );
    }
    assert_eq!(
        world.entra.token_requests().len(),
        2,
        "the sign-in and one refresh"
    );
}

// ---- Several processes ----

#[test]
fn two_hundred_calls_of_five_accounts_in_two_processes_lead_to_five_refreshes() {
    const CALLS: usize = 200;
    let world = World::new();
    let users: Vec<String> = (0..5)
        .map(|number| format!("user{number}@contoso.example"))
        .collect();
    world.entra.set(|settings| {
        let user = |(number, name): (usize, &String)| {
            User::new(
                &format!("0a1b2c3d-6666-4aaa-8bbb-00000000000{number}"),
                TENANT_ID,
                name,
                "One of Five",
            )
        };
        settings.users.extend(users.iter().enumerate().map(user));
    });
    // What they sign in with has expired at once; what they get then has not.
    world.entra.expires_in(0);
    let processes: Vec<_> = (0..2)
        .map(|_| {
            Process::start(
                Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")),
                &world.setup,
            )
        })
        .collect();
    for user in &users {
        world.server.modern().sign_in(user);
    }
    world.entra.expires_in(3900);
    let start = Barrier::new(CALLS);
    thread::scope(|scope| {
        for number in 0..CALLS {
            let (mut mcp, user, start) = (
                processes[number % 2].modern(),
                &users[number / 2 % 5],
                &start,
            );
            scope.spawn(move || {
                start.wait();
                let me = mcp.ok(
                    "api_get_request",
                    json!({"endpoint": "/me", "user_id": user}),
                );
                assert_eq!(me["data"]["userPrincipalName"], user.as_str());
            });
        }
    });
    assert_eq!(
        (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
        (5, 0)
    );
    let tokens: BTreeSet<_> = world
        .backend
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!((world.backend.requests().len(), tokens.len()), (CALLS, 5));
}

// ---- Entra ----

#[test]
fn while_entra_is_slow_a_token_that_is_still_valid_serves() {
    let world = World::signed_in();
    let process = world.setup.start();
    world.advance(DUE);
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let first = scope.spawn(|| me(&mut world.server.modern()));
        hold.wait_for_arrivals(1);
        // At the same server and at another one.
        me(&mut world.server.modern());
        me(&mut process.modern());
        assert_eq!((hold.arrivals(), world.backend.requests().len()), (1, 2));
        drop(hold);
        first.join().unwrap();
    });
    assert_eq!(world.entra.refreshes(), 1);
}

#[test]
fn after_an_outage_of_entra_refreshes_go_through_within_seconds() {
    let oauth = |error| TokenFailure::Oauth {
        error,
        aadsts: 90033,
        suberror: None,
        claims: None,
    };
    for failure in [
        TokenFailure::Status(429, None),
        TokenFailure::Status(503, None),
        TokenFailure::CloseWithoutAnswer,
        TokenFailure::Garbage,
        oauth("server_error"),
        oauth("temporarily_unavailable"),
    ] {
        let world = World::signed_in();
        world.advance(DUE + THE_REST);
        world.entra.fail_tokens(failure);
        let refused = refused(&mut world.server.modern());
        assert_eq!(refused["error"], "retry_later", "{refused}");
        world.entra.heal();
        world.advance(6);
        me(&mut world.server.modern());
    }
}
