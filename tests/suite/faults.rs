//! What breaks around the server, and what it goes on doing meanwhile: the disk, Entra.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use crate::support::browser::Browser;
use crate::support::entra::{ADA, GRACE, TENANT_ID, TokenFailure, User};
use crate::support::server::{Mcp, Process, Running, World};
use crate::support::{PATIENCE, encode_pairs};
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

/// What was not written is, as soon as calls find that the disk is back.
fn assert_becomes_sound(server: &Running) {
    let start = Instant::now();
    while server.client().get("/healthz").json()["status"] != "ok" {
        assert!(start.elapsed() < PATIENCE, "nothing is written");
        me(&mut server.modern());
    }
    assert_sound(server);
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
}

// ---- Descriptors ----

#[cfg(target_os = "linux")]
#[test]
fn with_few_descriptors_there_are_fewer_places_and_who_finds_none_is_told_so() {
    const PLACES: usize = 18;
    let (setup, backend, _entra) = World::new().stop();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 64 && exec \"$0\"",
        env!("CARGO_BIN_EXE_entra-auth-mcp"),
    ]);
    let server = Process::start(command, &setup);
    server.modern().sign_in(ADA);
    assert!(
        server.log().contains("at most 18, as only 64 open files"),
        "{}",
        server.log()
    );
    let hold = backend.hold();
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

/// Whatever has become of the file: it is not looked at.
// Issue 13 §1
#[test]
fn a_call_that_needs_no_refresh_does_not_touch_the_disk() {
    let world = World::signed_in();
    let before = world.contents();
    #[cfg(unix)]
    {
        // To open a pipe that nobody writes to would take for ever.
        for name in ["token_cache.json", "token_cache.json.lock"] {
            let path = world.setup.directory.file(name);
            fs::remove_file(&path).unwrap();
            assert!(
                Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap()
                    .success()
            );
        }
        me(&mut world.server.modern());
        assert_sound(&world.server);
    }
    fs::remove_dir_all(&world.setup.directory.0).unwrap();
    me(&mut world.server.modern());
    assert_sound(&world.server);
    assert_eq!(
        world.server.modern().ok("view_userid", json!({}))["user_id"],
        ADA
    );
    assert_eq!(world.entra.refreshes(), 0);
    fs::create_dir(&world.setup.directory.0).unwrap();
    fs::write(world.server.token_file(), before).unwrap();
    me(&mut world.restarted().server.modern());
}

// Issue 13 §1
#[test]
fn a_directory_that_vanishes_leaves_what_is_in_memory_to_serve_until_it_is_back() {
    let world = World::signed_in();
    let before = world.contents();
    let directory = &world.setup.directory.0;
    let moved = directory.with_extension("moved");
    fs::rename(directory, &moved).unwrap();
    // A refresh goes through, and its tokens serve.
    world.advance(DUE + THE_REST);
    for _ in 0..3 {
        me(&mut world.server.modern());
    }
    assert_eq!(world.entra.refreshes(), 1);
    assert_degraded(&world.server, "token_cache.json");
    assert_eq!(
        world.server.modern().ok("view_userid", json!({}))["user_id"],
        ADA
    );
    // Nobody is told that a sign-in is kept which is not.
    assert_eq!(
        Browser::new()
            .sign_in(&login_url(&world.server, GRACE), GRACE)
            .status,
        400
    );

    fs::rename(&moved, directory).unwrap();
    assert_becomes_sound(&world.server);
    assert_ne!(world.contents(), before);
    assert_eq!(world.entra.refreshes(), 1);
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
    world.server.modern().sign_in(GRACE);
    assert_sound(&world.server);
}

// Issue 13 §1
#[test]
fn to_ask_how_the_server_is_writes_nothing() {
    let world = World::signed_in();
    let in_the_way = world.block_writes();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    let before = world.contents();
    fs::remove_dir(in_the_way).unwrap();
    let mut mcp = world.server.modern();
    mcp.ok("check_auth_status", json!({}));
    mcp.ok("view_userid", json!({}));
    for path in ["/", "/auth/status"] {
        assert_eq!(world.server.client().get(path).status, 200);
    }
    assert_degraded(&world.server, "Could not write");
    assert_eq!(world.contents(), before);
    assert_becomes_sound(&world.server);
    assert_ne!(world.contents(), before);
}

// Issue 13 §1
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
    assert_becomes_sound(&world.server);
    assert_ne!(world.contents(), before);
    // Whoever reads the file from now on has the newest.
    let world = world.restarted();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    assert_eq!(
        (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
        (3, 0)
    );
}

// Issue 13 §1
#[test]
fn what_the_disk_did_not_take_is_written_with_the_next_change() {
    let world = World::signed_in();
    let in_the_way = world.block_writes();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    let before = world.setup.stored_account(ADA);
    fs::remove_dir(in_the_way).unwrap();
    world.server.modern().sign_in(GRACE);
    assert_sound(&world.server);
    let newest = world.setup.stored_account(ADA);
    assert_ne!(newest["refresh_token"], before["refresh_token"]);
    assert_eq!(world.setup.stored_user_ids(), [ADA, GRACE]);
}

// Issue 13 §1
#[test]
fn the_log_says_that_the_disk_fails_and_that_it_is_back_once_each() {
    let (setup, backend, entra) = World::signed_in().stop();
    entra.expires_in(200); // so that each call needs a refresh
    setup.change_stored(ADA, |account| account["expires_at"] = json!(0));
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let in_the_way = setup.directory.file("token_cache.json.tmp");
    fs::create_dir(&in_the_way).unwrap();
    for _ in 0..3 {
        process
            .modern()
            .call("api_get_request", json!({"endpoint": "/me"}));
    }
    assert_eq!(entra.refreshes(), 3);
    let failed = process.log();
    assert_eq!(
        failed.matches("Could not write the token file").count(),
        1,
        "{failed}"
    );
    assert!(!failed.contains("can be written again"), "{failed}");
    fs::remove_dir(in_the_way).unwrap();
    for _ in 0..3 {
        process
            .modern()
            .call("api_get_request", json!({"endpoint": "/me"}));
    }
    let mended = process.log();
    assert_eq!(
        mended.matches("Could not write the token file").count(),
        1,
        "{mended}"
    );
    assert_eq!(
        mended.matches("can be written again").count(),
        1,
        "{mended}"
    );
    drop(backend);
}

// Issue 13 §1
#[test]
fn what_could_not_be_written_is_written_when_the_server_stops() {
    let world = World::signed_in();
    let before = world.setup.stored_account(ADA);
    let in_the_way = world.block_writes();
    world.advance(DUE + THE_REST);
    me(&mut world.server.modern());
    fs::remove_dir(in_the_way).unwrap();
    let world = world.restarted();
    let newest = world.setup.stored_account(ADA);
    assert_ne!(newest["refresh_token"], before["refresh_token"]);
    me(&mut world.server.modern());
    assert_eq!(world.entra.refreshes(), 1);
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

// ---- Many calls ----

#[test]
fn two_hundred_calls_of_five_accounts_lead_to_five_refreshes() {
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
    for user in &users {
        world.server.modern().sign_in(user);
    }
    world.entra.expires_in(3900);
    let start = Barrier::new(CALLS);
    thread::scope(|scope| {
        for number in 0..CALLS {
            let mut mcp = world.server.modern();
            let user = &users[number % 5];
            let start = &start;
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
    world.advance(DUE);
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let first = scope.spawn(|| me(&mut world.server.modern()));
        hold.wait_for_arrivals(1);
        me(&mut world.server.modern());
        assert_eq!((hold.arrivals(), world.backend.requests().len()), (1, 1));
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
