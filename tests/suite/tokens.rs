//! Keeping tokens: when and how they are refreshed, what is kept when that fails, and the token file.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::entra::{self, ADA, Entra, GRACE, TENANT_ID, TokenFailure};
use crate::support::http::Reply;
use crate::support::server::{Mcp, Process, Running, Setup, World, account_in};
use crate::support::{encode_pairs, lock, value_of};
use entra_auth_mcp::clock::iso8601_seconds;
use serde_json::{Value, json};

const SCOPE: &str = "openid profile offline_access api://backend/access";
/// Of the 3900 seconds that a token lives: it is still valid, but about to expire.
const DUE: u64 = 3700;
/// From there until it has expired.
const THE_REST: u64 = 250;

impl World {
    /// A call that goes through; gives the access token that reached the backend.
    fn call(&self) -> String {
        call(&mut self.server.modern());
        self.bearer()
    }

    /// A call that does not.
    fn refused(&self) -> Value {
        let calls = self.backend.requests().len();
        let refused = refused(&mut self.server.modern());
        assert_eq!(self.backend.requests().len(), calls, "{refused}");
        refused
    }

    fn bearer(&self) -> String {
        self.backend
            .last()
            .header("authorization")
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
            .to_owned()
    }

    /// How often Entra was asked for tokens.
    fn asked(&self) -> usize {
        self.entra.token_requests().len()
    }

    fn account(&self, user_id: &str) -> Value {
        self.setup.stored_account(user_id)
    }

    fn user_ids(&self) -> BTreeSet<String> {
        self.setup.stored_user_ids().into_iter().collect()
    }

    fn restarted_with(self, name: &str, value: &str) -> Self {
        self.with(|setup| setup.with(name, value))
    }
}

fn call(mcp: &mut Mcp) -> Value {
    mcp.ok("api_get_request", json!({"endpoint": "/me"}))
}

fn refused(mcp: &mut Mcp) -> Value {
    mcp.fails("api_get_request", json!({"endpoint": "/me"}))
}

/// Signs in as a person does who starts in the browser.
fn sign_in(server_url: &str, user_id: &str, username: &str) -> Page {
    Browser::new().sign_in(
        &format!(
            "{server_url}/auth/login?{}",
            encode_pairs(&[("user_id", user_id)])
        ),
        username,
    )
}

fn status(server: &Running, user_id: &str) -> Value {
    server
        .modern()
        .ok("check_auth_status", json!({"user_id": user_id}))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn oauth(error: &'static str, aadsts: u32) -> TokenFailure {
    TokenFailure::Oauth {
        error,
        aadsts,
        suberror: None,
        claims: None,
    }
}

/// What lies beside the token file, locks and logs aside.
fn names_beside(setup: &Setup) -> Vec<String> {
    let paths = fs::read_dir(&setup.directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_kept = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        *path != setup.token_file() && !["lock", "owner", "log"].iter().any(|own| extension == *own)
    };
    paths
        .filter(is_kept)
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"))
}

// ---- When a token is refreshed ----

#[test]
fn a_token_is_refreshed_five_minutes_before_it_expires_and_no_sooner() {
    let world = World::signed_in();
    let first = world.call();
    world.advance(3900 - 300 - 60);
    assert_eq!((world.call(), world.entra.refreshes()), (first.clone(), 0));
    world.advance(60);
    assert_ne!(world.call(), first);
    assert_eq!(world.entra.refreshes(), 1);
    world.call();
    assert_eq!(world.entra.refreshes(), 1);
}

#[test]
fn a_token_is_refreshed_when_entra_would_like_it_to_be() {
    let world = World::new();
    world.entra.set(|settings| settings.refresh_in = Some(1000));
    world.server.modern().sign_in(ADA);
    for refreshes in 1..=2 {
        world.advance(940);
        world.call();
        assert_eq!(world.entra.refreshes(), refreshes - 1);
        world.advance(60);
        world.call();
        assert_eq!(world.entra.refreshes(), refreshes);
    }
    // It is a wish: the token is good for longer.
    world.entra.fail_tokens(TokenFailure::Status(503, None));
    world.advance(1001);
    world.call();
}

#[test]
fn the_seconds_at_which_a_token_is_due_and_has_expired_are_the_first_of_their_kind() {
    let world = World::by_the_second();
    let first = world.call();
    world.advance(3900 - 300 - 1);
    assert_eq!((world.call(), world.asked()), (first.clone(), 1));
    world
        .entra
        .fail_tokens(TokenFailure::Status(503, Some(299)));
    world.advance(1);
    assert_eq!((world.call(), world.asked()), (first.clone(), 2));
    world.advance(298);
    assert_eq!(
        (world.call(), world.asked()),
        (first.clone(), 2),
        "Entra wants to be left alone for so long"
    );
    world.advance(1);
    // Entra is asked again at the second that it has named, ...
    assert_eq!((world.call(), world.asked()), (first, 3));
    world.advance(1);
    // ... and at the one in which the token expires, nobody is sent it any more (RFC 6749 §5.1).
    assert_eq!(world.refused()["error"], "retry_later");

    let world = World::by_the_second();
    world.entra.set(|settings| settings.refresh_in = Some(1000));
    world.server.modern().sign_in(GRACE);
    let mut mcp = world.server.modern();
    for (seconds, refreshes) in [(999, 0), (1, 1)] {
        world.advance(seconds);
        mcp.ok(
            "api_get_request",
            json!({"user_id": GRACE, "endpoint": "/me"}),
        );
        assert_eq!(world.entra.refreshes(), refreshes);
    }
}

#[test]
fn a_refresh_sends_what_was_requested_and_never_what_was_granted() {
    let world = World::signed_in();
    assert_ne!(world.account(ADA)["granted_scope"], SCOPE);
    let refresh_token = text(&world.account(ADA)["refresh_token"]).to_owned();
    world.advance(DUE);
    world.call();
    let mut sent = world.entra.last_token_request();
    sent.sort();
    let due = [
        (
            "claims",
            r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#,
        ),
        ("client_id", entra::CLIENT_ID),
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.as_str()),
        ("scope", SCOPE),
    ];
    assert_eq!(
        sent,
        due.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn numbers_may_come_as_text() {
    let world = World::new();
    world.entra.set(|settings| {
        settings.numbers_as_strings = true;
        settings.refresh_in = Some(1000);
    });
    world.server.modern().sign_in(ADA);
    let seconds = status(&world.server, ADA)["expires_in_seconds"]
        .as_u64()
        .unwrap();
    assert!((3890..=3900).contains(&seconds), "{seconds}");
    world.advance(1000);
    world.call();
    assert_eq!(world.entra.refreshes(), 1);
}

/// Groups and roles make them long, and the head of a request with them.
#[test]
fn tokens_and_heads_may_be_many_kilobytes_long() {
    let entra = Entra::start();
    let backend = Backend::start(None);
    let server = Setup::new(&entra, Some(&backend)).start();
    let long = "A".repeat(16 * 1024);
    let token = long.clone();
    entra.token_tamper(move |body| body["access_token"] = json!(token));
    server.modern().sign_in(ADA);
    let head = long.clone();
    backend.on(move |_| {
        Some(
            Reply::of_json(200, &json!({"done": true}))
                .with("X-Long", &head)
                .into(),
        )
    });
    assert_eq!(call(&mut server.modern())["data"]["done"], true);
    assert_eq!(
        backend.last().header("authorization"),
        Some(format!("Bearer {long}").as_str())
    );
}

#[test]
fn a_token_that_is_longer_than_servers_take_is_not_sent_and_the_way_out_is_named() {
    let sign_in = |length| {
        let (entra, backend) = (Entra::start(), Backend::start(None));
        let server = Setup::new(&entra, Some(&backend)).start();
        entra.token_tamper(move |body| body["access_token"] = json!("A".repeat(length)));
        server.modern().sign_in(ADA);
        (server, backend, entra)
    };
    let (server, ..) = &sign_in(31 * 1024);
    call(&mut server.modern());
    let (server, backend, _) = &sign_in(31 * 1024 + 1);
    let refused = server
        .modern()
        .fails("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(refused["error"], "configuration");
    let hint = refused["hint"].as_str().unwrap();
    assert!(
        hint.contains("fewer claims") && refused.to_string().len() < 500,
        "{refused}"
    );
    assert_eq!(backend.requests().len(), 0);
}

// Issue 13 §1
#[test]
fn many_calls_at_once_share_one_refresh() {
    let world = World::signed_in();
    world.advance(DUE + THE_REST);
    let hold = world.entra.hold_tokens();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            let mut mcp = world.server.modern();
            let start = &start;
            scope.spawn(move || {
                start.wait();
                call(&mut mcp);
            });
        }
        hold.wait_for_arrivals(1);
        drop(hold);
    });
    assert_eq!(
        (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
        (1, 0)
    );
    let tokens: BTreeSet<_> = world
        .backend
        .requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!((world.backend.requests().len(), tokens.len()), (8, 1));
}

#[test]
fn many_calls_at_once_share_one_failure() {
    for (failure, error) in [
        (TokenFailure::Status(503, None), "retry_later"),
        (TokenFailure::CloseWithoutAnswer, "retry_later"),
        (oauth("invalid_client", 7_000_218), "configuration"),
        (oauth("invalid_grant", 50173), "sign_in_required"),
    ] {
        let world = World::signed_in();
        world.advance(DUE + THE_REST);
        world.entra.fail_tokens(failure);
        let hold = world.entra.hold_tokens();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(refused(&mut world.server.modern())["error"], error);
                });
            }
            hold.wait_for_arrivals(1);
            drop(hold);
        });
        assert_eq!(world.asked(), 2, "the sign-in and one refresh");
        assert!(world.backend.requests().is_empty());
    }
}

#[test]
fn accounts_do_not_wait_for_each_others_refresh() {
    let world = World::signed_in();
    world.server.modern().sign_in(GRACE);
    world.advance(DUE);
    let held = world.entra.hold_tokens();
    thread::scope(|scope| {
        let adas = scope.spawn(|| {
            world.server.modern().ok(
                "api_get_request",
                json!({"user_id": ADA, "endpoint": "/me"}),
            )
        });
        held.wait_for_arrivals(1);
        drop(world.entra.hold_tokens()); // those that come now are not held
        let grace = world.server.modern().ok(
            "api_get_request",
            json!({"user_id": GRACE, "endpoint": "/me"}),
        );
        assert_eq!(grace["data"]["userPrincipalName"], GRACE);
        assert_eq!((held.arrivals(), world.entra.refreshes()), (1, 1));
        drop(held);
        assert_eq!(adas.join().unwrap()["data"]["userPrincipalName"], ADA);
    });
}

#[test]
fn what_was_rotated_is_on_the_disk_before_it_is_used() {
    let world = World::signed_in();
    let before = world.account(ADA);
    let (path, on_arrival) = (world.server.token_file(), Arc::new(Mutex::new(Value::Null)));
    let at_backend = Arc::clone(&on_arrival);
    world.backend.on(move |_| {
        *lock(&at_backend) = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        None
    });
    world.advance(DUE);
    let bearer = world.call();
    let mut on_arrival = lock(&on_arrival).clone();
    let on_arrival = account_in(&mut on_arrival, ADA).unwrap().clone();
    assert_eq!(on_arrival["access_token"], bearer.as_str());
    assert_eq!(on_arrival, world.account(ADA));
    assert_ne!(on_arrival["refresh_token"], before["refresh_token"]);
    // The next refresh uses the new one.
    world.advance(DUE);
    world.call();
    assert_eq!(
        value_of(&world.entra.last_token_request(), "refresh_token"),
        on_arrival["refresh_token"].as_str()
    );
    assert_eq!(world.entra.reused_refresh_tokens(), 0);
}

// Issue 13 §1
#[test]
fn a_refresh_that_cannot_be_written_serves_from_memory() {
    let world = World::signed_in();
    let before = text(&world.account(ADA)["access_token"]).to_owned();
    world.advance(DUE + THE_REST);
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| world.call());
        hold.wait_for_arrivals(1);
        fs::remove_dir_all(&world.setup.directory.0).unwrap();
        drop(hold);
        let refreshed = call.join().unwrap();
        assert_ne!(refreshed, before);
        assert_eq!(world.call(), refreshed);
    });
    assert_eq!(
        (world.entra.refreshes(), world.entra.reused_refresh_tokens()),
        (1, 0)
    );
}

#[test]
fn a_response_without_a_refresh_token_keeps_the_last_one() {
    let world = World::signed_in();
    world
        .entra
        .set(|settings| settings.omit_refresh_token_on_refresh = true);
    let kept = world.account(ADA)["refresh_token"].clone();
    for refreshes in 1..=2 {
        world.advance(DUE);
        world.call();
        assert_eq!(world.entra.refreshes(), refreshes);
        assert_eq!(world.account(ADA)["refresh_token"], kept);
    }
}

#[test]
fn without_a_refresh_token_the_sign_in_ends_with_its_access_token() {
    let world = World::signed_in().with_stored(ADA, |account| {
        account.as_object_mut().unwrap().remove("refresh_token");
    });
    world.advance(DUE);
    world.call();
    assert_eq!(status(&world.server, ADA)["can_refresh"], false);
    world.advance(THE_REST);
    assert_eq!(world.refused()["error"], "sign_in_required");
    let status = status(&world.server, ADA);
    assert_eq!(
        (&status["authenticated"], &status["has_token"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(world.asked(), 1, "for the sign-in alone");
}

// ---- When Entra refuses ----

#[test]
fn a_refresh_that_entra_refuses_asks_for_a_sign_in_and_drops_what_is_good_for_nothing() {
    let world = World::signed_in();
    for (error, suberror, number, ends) in [
        ("invalid_grant", None, 50173, true),
        ("invalid_grant", Some("bad_token"), 70000, true),
        ("invalid_grant", Some("token_expired"), 700_082, true),
        ("invalid_grant", Some("client_mismatch"), 70000, true),
        ("invalid_grant", Some("basic_action"), 50076, false),
        ("invalid_grant", Some("additional_action"), 50079, false),
        ("invalid_grant", Some("user_password_expired"), 50055, false),
        ("invalid_grant", Some("consent_required"), 65001, false),
        ("interaction_required", None, 50076, false),
        ("login_required", None, 50058, false),
        ("consent_required", None, 65001, false),
    ] {
        world.advance(DUE + THE_REST);
        world.entra.fail_next_token(TokenFailure::Oauth {
            error,
            aadsts: number,
            suberror,
            claims: None,
        });
        let refused = world.refused();
        assert_eq!(
            (&refused["error"], &refused["aadsts"]),
            (&json!("sign_in_required"), &json!(number)),
            "{refused}"
        );
        assert!(
            text(&refused["message"]).contains(&format!("AADSTS{number}")),
            "{refused}"
        );
        let account = world.account(ADA);
        assert_eq!(
            (&account["username"], account["refresh_token"].is_null()),
            (&json!(ADA), ends),
            "{error}: {account}"
        );
        let status = status(&world.server, ADA);
        for (name, value) in [
            ("authenticated", false),
            ("has_token", false),
            ("can_refresh", !ends),
        ] {
            assert_eq!(status[name], value, "{name}: {status}");
        }

        // Entra is not asked again, and the link leads to a working sign-in.
        let asked = world.asked();
        let again = world.refused();
        assert_eq!(
            (&again["error"], world.asked()),
            (&json!("sign_in_required"), asked)
        );
        assert_eq!(again.get("retry_after_seconds"), None, "{again}");
        assert_eq!(
            Browser::new()
                .sign_in(text(&again["sign_in_url"]), ADA)
                .status,
            200
        );
        world.call();
    }
}

#[test]
fn a_sign_in_that_was_revoked_is_asked_for_again_every_time() {
    let world = World::signed_in();
    world.advance(DUE);
    world.entra.revoke_all();
    for _ in 0..2 {
        assert_eq!(world.refused()["error"], "sign_in_required");
        // Of the token, too, nothing is left.
        assert_eq!(status(&world.server, ADA)["expires_in_seconds"], 0);
    }
}

#[test]
fn the_link_for_the_only_account_is_for_that_account() {
    let world = World::new();
    sign_in(&world.server.url(), "work", ADA);
    world.advance(DUE + THE_REST);
    world.entra.revoke_all();
    let refused = world.refused();
    assert_eq!(
        Browser::new()
            .sign_in(text(&refused["sign_in_url"]), ADA)
            .status,
        200
    );
    world.call();
    assert_eq!(world.user_ids(), BTreeSet::from(["work".to_owned()]));
}

#[test]
fn the_link_of_a_call_that_names_an_account_is_for_that_account() {
    let world = World::signed_in();
    let arguments = json!({"user_id": "work", "endpoint": "/me"});
    let refused = world
        .server
        .modern()
        .fails("api_get_request", arguments.clone());
    assert_eq!(
        Browser::new()
            .sign_in(text(&refused["sign_in_url"]), GRACE)
            .status,
        200
    );
    let me = world.server.modern().ok("api_get_request", arguments);
    assert_eq!(me["data"]["userPrincipalName"], GRACE);
    assert_eq!(
        world.user_ids(),
        BTreeSet::from([ADA, "work"].map(str::to_owned))
    );
}

#[test]
fn any_other_error_of_entra_keeps_everything() {
    for (error, number, kind) in [
        ("invalid_client", 7_000_218, "configuration"),
        ("unauthorized_client", 700_016, "configuration"),
        ("invalid_scope", 70011, "configuration"),
        ("invalid_request", 900_144, "configuration"),
        ("never_heard_of", 1, "configuration"),
        ("temporarily_unavailable", 90033, "retry_later"),
        ("server_error", 90033, "retry_later"),
    ] {
        let world = World::signed_in();
        let before = world.account(ADA);
        world.entra.fail_tokens(oauth(error, number));
        world.advance(DUE);
        assert_eq!(
            world.call(),
            before["access_token"],
            "{error}: what is left of the token serves"
        );
        world.advance(THE_REST);
        let refused = world.refused();
        assert_eq!(refused["error"], kind, "{refused}");
        assert!(
            text(&refused["message"]).contains(&format!("AADSTS{number}")),
            "{refused}"
        );
        assert_eq!(world.account(ADA), before, "{error}");
        let will_pass = kind == "retry_later";
        assert_eq!(status(&world.server, ADA)["authenticated"], will_pass);
        // That Entra is unwell in between mends nothing.
        world.entra.fail_tokens(TokenFailure::Status(503, None));
        world.advance(120);
        assert_eq!(world.refused()["error"], "retry_later");
        assert_eq!(status(&world.server, ADA)["authenticated"], will_pass);
        world.entra.heal();
        world.advance(120);
        assert_ne!(world.call(), before["access_token"]);
        // A token that is had again is good until it expires, and can be refreshed then.
        world.advance(DUE + THE_REST);
        assert_eq!(status(&world.server, ADA)["authenticated"], true);
    }
}

#[test]
fn while_entra_is_unwell_everything_is_kept_and_it_is_left_alone() {
    for (failure, longest) in [
        (TokenFailure::Status(429, Some(120)), 120),
        (TokenFailure::Status(429, None), 60),
        (TokenFailure::Status(503, Some(30)), 30),
        (TokenFailure::Status(500, None), 60),
        (TokenFailure::Status(502, None), 60),
        (TokenFailure::Garbage, 60),
        (TokenFailure::Huge(2 << 20), 60),
        (TokenFailure::CloseWithoutAnswer, 60),
        (TokenFailure::LoseAnswer, 60),
    ] {
        let world = World::signed_in();
        let before = world.account(ADA);
        world.entra.fail_tokens(failure);
        world.advance(DUE);
        for _ in 0..3 {
            assert_eq!(world.call(), before["access_token"], "it is still valid");
        }
        assert_eq!(world.asked(), 2, "the sign-in and one refresh");

        world.advance(THE_REST);
        for _ in 0..3 {
            let refused = world.refused();
            assert_eq!(refused["error"], "retry_later", "{refused}");
            let seconds = refused["retry_after_seconds"].as_u64().unwrap();
            assert!((1..=longest).contains(&seconds), "{refused}");
        }
        assert_eq!(world.asked(), 3);
        assert_eq!(world.account(ADA), before);
        assert_eq!(status(&world.server, ADA)["authenticated"], true);

        world.entra.heal();
        world.refused();
        assert_eq!(world.asked(), 3, "Entra has said when to come back");
        world.advance(longest + 1);
        assert_ne!(world.call(), before["access_token"]);
        assert_eq!(world.asked(), 4);
    }
}

/// An OAuth error has no header to say when to come back.
#[test]
fn an_error_that_will_pass_is_tried_again_after_five_seconds() {
    let world = World::by_the_second();
    world.advance(DUE + THE_REST);
    world
        .entra
        .fail_tokens(oauth("temporarily_unavailable", 90033));
    for (seconds, asked, left) in [
        (0, 2, Value::Null),
        (2, 2, json!(3)),
        (2, 2, json!(1)),
        (1, 3, Value::Null),
    ] {
        world.advance(seconds);
        let refused = world.refused();
        assert_eq!(
            (&refused["error"], &refused["retry_after_seconds"]),
            (&json!("retry_later"), &left)
        );
        assert_eq!(world.asked(), asked);
    }
}

#[test]
fn while_entra_is_down_everything_is_kept() {
    let world = World::signed_in();
    let before = world.account(ADA);
    world.entra.down();
    world.advance(DUE);
    assert_eq!(world.call(), before["access_token"]);
    world.advance(THE_REST);
    assert_eq!(world.refused()["error"], "retry_later");
    assert_eq!(world.account(ADA), before);
    world.entra.up();
    world.advance(60);
    assert_ne!(world.call(), before["access_token"]);
}

#[test]
fn an_hour_is_the_longest_that_entra_is_left_alone() {
    let world = World::signed_in();
    world.advance(DUE + THE_REST);
    world
        .entra
        .fail_next_token(TokenFailure::Status(503, Some(1_000_000)));
    assert_eq!(world.refused()["retry_after_seconds"], 3600);
    world.advance(3600);
    world.call();
}

#[test]
fn a_new_sign_in_does_not_wait_until_entra_wants_to_be_asked_again() {
    let world = World::signed_in();
    world.advance(DUE + THE_REST);
    world
        .entra
        .fail_next_token(TokenFailure::Status(429, Some(3000)));
    world.refused();
    world.entra.expires_in(1000);
    assert_eq!(sign_in(&world.server.url(), ADA, ADA).status, 200);
    world.call();
    world.advance(800);
    world.call();
    assert_eq!(world.entra.refreshes(), 1);
}

#[test]
fn a_sign_in_during_a_refresh_that_fails_has_nothing_of_the_failure() {
    for failure in [
        TokenFailure::Status(503, Some(3000)),
        oauth("invalid_client", 7_000_218),
    ] {
        let world = World::signed_in();
        world.advance(DUE);
        let held = world.entra.hold_tokens();
        thread::scope(|scope| {
            let call = scope.spawn(|| world.call());
            held.wait_for_arrivals(1);
            drop(world.entra.hold_tokens()); // those that come now are not held
            world.entra.expires_in(1000);
            assert_eq!(sign_in(&world.server.url(), ADA, ADA).status, 200);
            world.entra.fail_next_token(failure);
            drop(held);
            assert_eq!(call.join().unwrap(), world.account(ADA)["access_token"]);
        });
        world.advance(1001);
        assert_eq!(status(&world.server, ADA)["authenticated"], true);
        world.call();
        assert_eq!(world.entra.refreshes(), 1);
    }
}

// ---- What happens meanwhile ----

#[test]
fn a_sign_out_during_a_refresh_is_final() {
    let world = World::signed_in();
    world.advance(DUE);
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| world.refused());
        hold.wait_for_arrivals(1);
        world
            .server
            .modern()
            .ok("logout_user", json!({"user_id": ADA}));
        drop(hold);
        assert_eq!(call.join().unwrap()["error"], "sign_in_required");
    });
    assert_eq!((world.user_ids().len(), world.entra.refreshes()), (0, 1));
    assert_eq!(world.refused()["error"], "sign_in_required");
    assert!(world.backend.requests().is_empty());
}

#[test]
fn a_sign_in_during_a_refresh_wins() {
    let world = World::signed_in();
    world.advance(DUE);
    let held = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| world.call());
        held.wait_for_arrivals(1);
        drop(world.entra.hold_tokens()); // those that come now are not held
        assert_eq!(sign_in(&world.server.url(), ADA, ADA).status, 200);
        let newest = world.account(ADA);
        drop(held);
        assert_eq!(call.join().unwrap(), newest["access_token"]);
        assert_eq!(world.account(ADA), newest);
    });
}

#[test]
fn a_call_that_waits_for_a_refresh_is_not_made_as_somebody_else_who_signs_in_meanwhile() {
    let world = World::new();
    // A name that is no address may stand for anybody.
    assert_eq!(sign_in(&world.server.url(), "work", ADA).status, 200);
    while_grace_signs_in(&world);
    // Nor as them where the account is one of the Python server, which does not say whose it is.
    let world = World::new();
    assert_eq!(sign_in(&world.server.url(), "work", ADA).status, 200);
    while_grace_signs_in(&world.with_stored("work", |account| {
        account["tid"] = Value::Null;
        account["oid"] = Value::Null;
    }));
}

/// A call as "work" waits for a refresh, and Grace signs in under that name.
fn while_grace_signs_in(world: &World) {
    world.advance(DUE + THE_REST);
    let held = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| refused(&mut world.server.modern()));
        held.wait_for_arrivals(1);
        drop(world.entra.hold_tokens()); // those that come now are not held
        assert_eq!(sign_in(&world.server.url(), "work", GRACE).status, 200);
        drop(held);
        let failure = call.join().unwrap();
        assert_eq!(failure["error"], "retry_later", "{failure}");
        assert!(
            text(&failure["message"]).contains("Somebody else"),
            "{failure}"
        );
    });
    assert!(world.backend.requests().is_empty());
    assert_eq!(world.account("work")["oid"], entra::GRACE_OID);
}

/// A machine may start with its clock ahead, and without a network.
#[test]
fn a_clock_that_is_set_back_ends_the_pause_after_a_failure() {
    let world = World::signed_in();
    world.advance(DUE + THE_REST);
    world.server.clock.advance(7200);
    world.entra.fail_next_token(TokenFailure::Status(503, None));
    refused(&mut world.server.modern());
    world.server.clock.set_back(7200);
    world.call();
    assert_eq!(world.entra.refreshes(), 1);
}

// CASES C23
#[test]
fn other_scopes_are_fetched_and_all_agree_while_entra_refuses_them() {
    let world = World::signed_in();
    let before = world.account(ADA);
    let world = world.restarted_with("CUSTOM_API_SCOPE", "api://other/access");
    world.entra.fail_next_token(oauth("invalid_scope", 70011));
    assert_eq!(world.refused()["error"], "configuration");
    assert_eq!(world.account(ADA), before);
    // Calls fail until there is a new sign-in, or other settings: nobody says otherwise.
    assert_eq!(status(&world.server, ADA)["authenticated"], false);
    let mut mcp = world.server.modern();
    let offered = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    assert_eq!(offered["already_signed_in"], false, "{offered}");
    assert!(offered["sign_in_url"].is_string(), "{offered}");
    let home = world.server.client().get("/").text();
    assert!(!home.contains("signed in until"), "{home}");

    world
        .entra
        .set(|settings| settings.accept_other_scope_on_refresh = true);
    // What Entra has just refused is not sent again for a minute.
    world.server.clock.advance(61);
    assert_ne!(world.call(), text(&before["access_token"]));
    let requested = "openid profile offline_access api://other/access";
    assert_eq!(
        value_of(&world.entra.last_token_request(), "scope"),
        Some(requested)
    );
    assert_eq!(world.account(ADA)["requested_scope"], requested);
    assert_eq!(status(&world.server, ADA)["authenticated"], true);
    let served = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    assert_eq!(served["already_signed_in"], true, "{served}");
}

// ---- Which account ----

#[test]
fn without_a_user_id_the_only_account_is_meant_and_several_are_listed() {
    let world = World::new();
    let nobody = world.refused();
    assert_eq!(nobody["error"], "sign_in_required");
    assert_eq!(
        world.server.modern().ok("view_userid", json!({})),
        json!({"success": true, "user_id": null, "user_ids": []})
    );
    world.server.modern().fails("logout_user", json!({}));

    // The link of that answer signs in whoever calls without a name.
    assert_eq!(
        Browser::new()
            .sign_in(text(&nobody["sign_in_url"]), ADA)
            .status,
        200
    );
    world.call();
    assert_eq!(world.user_ids().len(), 1);

    world.server.modern().sign_in(GRACE);
    let mut mcp = world.server.modern();
    for tool in ["api_get_request", "logout_user"] {
        let arguments = if tool == "logout_user" {
            json!({})
        } else {
            json!({"endpoint": "/me"})
        };
        let several = mcp.fails(tool, arguments);
        assert_eq!(several["error"], "invalid_request");
        assert!(
            world
                .user_ids()
                .iter()
                .all(|user_id| text(&several["message"]).contains(user_id)),
            "{several}"
        );
    }
    assert_eq!(world.user_ids().len(), 2);
    let both = mcp.ok("view_userid", json!({}));
    assert_eq!(
        (&both["user_id"], both["user_ids"].as_array().unwrap().len()),
        (&json!(null), 2)
    );
    let all = mcp.ok("check_auth_status", json!({}));
    let usernames: BTreeSet<_> = all["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| text(&account["username"]))
        .collect();
    assert_eq!(
        (&all["authenticated"], usernames),
        (&json!(true), BTreeSet::from([ADA, GRACE]))
    );
    let me = mcp.ok(
        "api_get_request",
        json!({"user_id": GRACE, "endpoint": "/me"}),
    );
    assert_eq!(me["data"]["userPrincipalName"], GRACE);

    mcp.ok("logout_user", json!({"user_id": GRACE}));
    world.call();
    mcp.ok("logout_user", json!({}));
    assert_eq!(world.user_ids().len(), 0);
}

#[test]
fn signing_out_forgets_the_tokens_and_says_what_lives_on() {
    let world = World::signed_in();
    let before = world.account(ADA);
    let gone = world
        .server
        .modern()
        .ok("logout_user", json!({"user_id": ADA}));
    let logout_url = format!(
        "{}/{TENANT_ID}/oauth2/v2.0/logout",
        world.entra.authority_host()
    );
    assert_eq!(
        (&gone["user_id"], &gone["logout_url"]),
        (&json!(ADA), &json!(logout_url))
    );
    assert!(
        text(&gone["message"]).contains("live on until they expire"),
        "{gone}"
    );
    let file = fs::read_to_string(world.server.token_file()).unwrap();
    for token in ["access_token", "refresh_token"] {
        assert!(!file.contains(text(&before[token])), "{file}");
    }
    let status = status(&world.server, ADA);
    assert_eq!(
        (&status["authenticated"], &status["has_token"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(world.refused()["error"], "sign_in_required");
    world
        .server
        .modern()
        .fails("logout_user", json!({"user_id": ADA}));
}

#[test]
fn the_status_says_who_is_signed_in_as_what_until_when() {
    let world = World::signed_in();
    let status = status(&world.server, ADA);
    for (name, value) in [
        ("user_id", json!(ADA)),
        ("authenticated", json!(true)),
        ("has_token", json!(true)),
        ("username", json!(ADA)),
        ("display_name", json!("Ada Lovelace")),
        ("tenant_id", json!(TENANT_ID)),
        ("can_refresh", json!(true)),
        ("pending_sign_in", json!(false)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
    let account = world.account(ADA);
    assert_eq!(
        status["scopes"],
        json!(
            text(&account["granted_scope"])
                .split(' ')
                .collect::<Vec<_>>()
        )
    );
    let seconds = status["expires_in_seconds"].as_u64().unwrap();
    assert!((3890..=3900).contains(&seconds), "{status}");
    let expires_at = iso8601_seconds(account["expires_at"].as_u64().unwrap());
    assert_eq!(status["expires_at"], expires_at);
}

// ---- The token file ----

#[test]
fn the_file_has_the_documented_layout() {
    let world = World::new();
    world.entra.set(|settings| settings.refresh_in = Some(1000));
    world.server.modern().sign_in(ADA);
    let file = world.setup.stored();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        names(&file),
        BTreeSet::from(["accounts", "version"].map(str::to_owned))
    );
    assert_eq!(file["version"], 2);
    let account = world.account(ADA);
    let all = [
        "user_id",
        "client_id",
        "authority",
        "tenant",
        "tid",
        "oid",
        "username",
        "name",
        "requested_scope",
        "granted_scope",
        "access_token",
        "expires_at",
        "refresh_at",
        "refresh_token",
        "signed_in_at",
    ];
    assert_eq!(names(&account), BTreeSet::from(all.map(str::to_owned)));
    let authority = world.entra.authority_host();
    for (name, value) in [
        ("user_id", ADA),
        ("client_id", entra::CLIENT_ID),
        ("authority", &authority),
        ("tenant", TENANT_ID),
        ("tid", TENANT_ID),
        ("oid", entra::ADA_OID),
        ("username", ADA),
        ("name", "Ada Lovelace"),
        ("requested_scope", SCOPE),
    ] {
        assert_eq!(account[name], value, "{name}");
    }
    let time = |name: &str| account[name].as_u64().unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(time("signed_in_at").abs_diff(now) < 60);
    assert_eq!(time("expires_at") - time("signed_in_at"), 3900);
    assert_eq!(time("refresh_at") - time("signed_in_at"), 1000);
    assert!(
        names_beside(&world.setup).is_empty(),
        "{:?}",
        names_beside(&world.setup)
    );
}

#[test]
fn a_file_that_cannot_be_understood_is_set_aside_byte_for_byte() {
    let entra = Entra::start();
    let no_expiry = r#"{"version":1,"accounts":{"a":{"access_token":"AT-kept"}}}"#;
    for bytes in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"{\"version\":1}",
        b"{\"version\":\"1\",\"accounts\":{}}",
        b"{\"version\":1,\"accounts\":[]}",
        b"{\"version\":1,\"accounts\":{\"a\":7}}",
        b"{\"version\":2,\"accounts\":{}}",
        b"{\"version\":2,\"accounts\":[7]}",
        no_expiry.as_bytes(),
        b"{\"a\":{\"unheard\":\"of\"}}",
    ] {
        let setup = Setup::new(&entra, None);
        fs::write(setup.token_file(), bytes).unwrap();
        let server = setup.start();
        assert_eq!(
            server.modern().ok("view_userid", json!({}))["user_ids"],
            json!([])
        );
        server.modern().sign_in(ADA);
        let [aside] = names_beside(&setup).try_into().unwrap();
        assert!(aside.starts_with("token_cache.json.corrupt-"), "{aside}");
        assert_eq!(fs::read(setup.directory.file(&aside)).unwrap(), bytes);
        drop(server);
        assert_eq!(status(&setup.start(), ADA)["authenticated"], true);
    }
}

#[test]
fn setting_a_file_aside_is_loud() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("LOG_LEVEL", "error");
    fs::write(setup.token_file(), "spoilt").unwrap();
    let process = Process::start(binary(), &setup);
    let [aside] = names_beside(&setup).try_into().unwrap();
    assert!(
        process.log().contains(" error ") && process.log().contains(&aside),
        "{}",
        process.log()
    );
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let newer = r#"{"version":3,"accounts":{"a":{}}}"#;
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    fs::write(setup.token_file(), newer).unwrap();
    let failure = setup.try_start().err().unwrap().text();
    assert!(
        failure.contains("version 3") && failure.contains("token_cache.json"),
        "{failure}"
    );
    assert_eq!(fs::read_to_string(setup.token_file()).unwrap(), newer);
    assert!(names_beside(&setup).is_empty());
}

/// The server owns the file, so nobody else is to change it meanwhile.
// Issue 13 §1
#[test]
fn what_becomes_of_the_file_while_a_server_runs_is_not_noticed_and_the_next_change_overwrites_it() {
    let foreign = [None, Some("spoilt"), Some(r#"{"version":3,"accounts":{}}"#)];
    for text in foreign {
        let world = World::signed_in();
        match text {
            None => fs::remove_file(world.server.token_file()).unwrap(),
            Some(text) => fs::write(world.server.token_file(), text).unwrap(),
        }
        world.call();
        assert_eq!(status(&world.server, ADA)["authenticated"], true);
        assert_eq!(
            fs::read_to_string(world.server.token_file())
                .ok()
                .as_deref(),
            text
        );
        world.server.modern().sign_in(GRACE);
        assert_eq!(
            world.user_ids(),
            BTreeSet::from([ADA, GRACE].map(str::to_owned))
        );
        assert!(names_beside(&world.setup).is_empty());
        let world = world.restarted();
        for user_id in [ADA, GRACE] {
            assert_eq!(status(&world.server, user_id)["authenticated"], true);
        }
    }
}

#[test]
fn a_directory_in_the_files_place_is_refused() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    fs::create_dir(setup.token_file()).unwrap();
    let failure = setup.try_start().err().unwrap().text();
    assert!(
        failure.contains("TOKEN_CACHE_FILE") && failure.contains("directory"),
        "{failure}"
    );
}

#[test]
fn a_directory_that_is_not_there_is_named_at_the_start() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let path = setup.directory.file("missing").join("token_cache.json");
    let setup = setup.with("TOKEN_CACHE_FILE", path.to_str().unwrap());
    let failure = setup.try_start().err().unwrap().text();
    assert!(
        failure.contains("missing") && failure.contains("TOKEN_CACHE_FILE"),
        "{failure}"
    );
}

#[test]
fn a_sign_in_that_cannot_be_written_is_not_acknowledged() {
    let world = World::new();
    fs::remove_dir_all(&world.setup.directory.0).unwrap();
    let page = sign_in(&world.server.url(), ADA, ADA);
    assert_eq!(page.status, 400);
    assert!(
        page.text().contains("token_cache.json") && page.text().contains("TOKEN_CACHE_FILE"),
        "{}",
        page.text()
    );
    fs::create_dir(&world.setup.directory.0).unwrap();
    let status = status(&world.server, ADA);
    assert_eq!(
        (&status["authenticated"], &status["has_token"]),
        (&json!(false), &json!(false))
    );
    world.server.modern().sign_in(ADA);
}

#[test]
fn a_sign_out_that_cannot_be_written_is_not_acknowledged() {
    let world = World::signed_in();
    let moved = world.setup.directory.0.with_extension("moved");
    fs::rename(&world.setup.directory.0, &moved).unwrap();
    assert_eq!(
        world
            .server
            .modern()
            .fails("logout_user", json!({"user_id": ADA}))["error"],
        "token_cache"
    );
    fs::rename(&moved, &world.setup.directory.0).unwrap();
    world
        .server
        .modern()
        .ok("logout_user", json!({"user_id": ADA}));
}

// ---- A restart ----

#[test]
fn a_sign_in_that_was_acknowledged_survives_a_kill() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let process = Process::start(binary(), &setup);
    process.modern().sign_in(ADA);
    drop(process);
    let process = Process::start(binary(), &setup);
    assert_eq!(
        call(&mut process.modern())["data"]["userPrincipalName"],
        ADA
    );
    assert_eq!(entra.redemptions(), 1);
}

// ---- The Python server's file ----

/// As the Python server writes it.
fn python_file(account: &Value, age: f64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let claims = json!({"aud": entra::CLIENT_ID, "tid": TENANT_ID, "oid": entra::ADA_OID, "preferred_username": ADA,
                        "name": "Ada Lovelace"});
    let complete = json!({
        "token_type": "Bearer", "scope": "api://backend/access", "expires_in": 3599, "ext_expires_in": 3599,
        "access_token": account["access_token"], "refresh_token": account["refresh_token"], "id_token": "e30.e30.c2ln",
        "id_token_claims": claims, "client_info": "e30", "timestamp": now - age,
    });
    let least = json!({"access_token": "AT-without-the-rest", "expires_in": 3599.0, "timestamp": (now - age).floor()});
    serde_json::to_string_pretty(&json!({ADA: complete, "least": least})).unwrap()
}

#[test]
fn the_python_servers_file_is_converted_once_and_kept() {
    let world = World::signed_in();
    let before = world.account(ADA);
    let old = python_file(&before, 100.25);
    let world = world.with_file(&old);
    let status = status(&world.server, ADA);
    for (name, value) in [
        ("authenticated", json!(true)),
        ("username", json!(ADA)),
        ("display_name", json!("Ada Lovelace")),
        ("tenant_id", json!(TENANT_ID)),
        ("can_refresh", json!(true)),
    ] {
        assert_eq!(status[name], value, "{name}");
    }
    let seconds = status["expires_in_seconds"].as_u64().unwrap();
    assert!((3450..3500).contains(&seconds), "{status}");
    assert_eq!(
        (&world.setup.stored()["version"], world.user_ids().len()),
        (&json!(2), 2)
    );
    let account = world.account(ADA);
    assert_eq!(
        (text(&account["oid"]), text(&account["granted_scope"])),
        (entra::ADA_OID, "api://backend/access")
    );
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(
        (now - 150..now - 99).contains(&account["signed_in_at"].as_u64().unwrap()),
        "{account}"
    );
    let arguments = json!({"user_id": ADA, "endpoint": "/me"});
    world
        .server
        .modern()
        .ok("api_get_request", arguments.clone());
    assert_eq!(
        (world.bearer().as_str(), world.asked()),
        (text(&before["access_token"]), 1)
    );

    // Its refresh token works, with the scopes that are configured.
    world.advance(DUE);
    world
        .server
        .modern()
        .ok("api_get_request", arguments.clone());
    assert_eq!(
        (
            world.entra.refreshes(),
            world.account(ADA)["requested_scope"].as_str()
        ),
        (1, Some(SCOPE))
    );

    // The old file is kept, and a second start changes nothing.
    let converted = world.setup.stored();
    let world = world.restarted();
    world.server.modern().ok("api_get_request", arguments);
    let [kept] = names_beside(&world.setup).try_into().unwrap();
    assert_eq!(
        fs::read_to_string(world.setup.directory.file(&kept)).unwrap(),
        old
    );
    assert_eq!(world.setup.stored(), converted);
}

#[test]
fn what_has_expired_in_the_python_servers_file_is_refreshed_or_signed_in_anew() {
    let world = World::signed_in();
    let old = python_file(&world.account(ADA), 1e6);
    let world = world.with_file(&old);
    let mut mcp = world.server.modern();
    mcp.ok(
        "api_get_request",
        json!({"user_id": ADA, "endpoint": "/me"}),
    );
    assert_eq!(world.entra.refreshes(), 1);
    let refused = mcp.fails(
        "api_get_request",
        json!({"user_id": "least", "endpoint": "/me"}),
    );
    assert_eq!(refused["error"], "sign_in_required");
}

#[test]
fn the_python_servers_file_without_anybody_in_it_is_no_damage() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    fs::write(setup.token_file(), "{}").unwrap();
    setup.start().modern().sign_in(ADA);
    assert!(
        !names_beside(&setup)
            .iter()
            .any(|name| name.contains("corrupt")),
        "{:?}",
        names_beside(&setup)
    );
}

// ---- Protection ----

#[cfg(unix)]
mod protection {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::{
        ADA, Backend, Command, Entra, GRACE, Process, Setup, World, binary, fs, json, names_beside,
        python_file, sign_in, text,
    };

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn make_readable(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    #[test]
    fn nobody_else_can_read_what_is_written() {
        let world = World::signed_in();
        let old = python_file(&world.account(ADA), 1.0);
        let world = world.with(|setup| {
            fs::write(setup.token_file(), old).unwrap();
            make_readable(&setup.token_file());
            setup
        });
        world.server.modern().sign_in(GRACE);
        let entries: Vec<_> = fs::read_dir(&world.setup.directory.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(entries.len() > 2, "{entries:?}");
        for path in entries {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_mended_with_a_message() {
        let (setup, _backend, _entra) = World::signed_in().stop();
        make_readable(&setup.token_file());
        let process = Process::start(binary(), &setup);
        assert_eq!(mode(&setup.token_file()), 0o600);
        assert!(
            process.log().contains(" warn ") && process.log().contains("0600"),
            "{}",
            process.log()
        );
        // One that is made readable meanwhile is replaced with the next change.
        make_readable(&setup.token_file());
        process.modern().sign_in(GRACE);
        assert_eq!(mode(&setup.token_file()), 0o600);
        assert_eq!(setup.stored_user_ids(), [ADA, GRACE]);
    }

    #[test]
    fn a_link_in_the_files_place_is_refused_and_its_target_left_alone() {
        let entra = Entra::start();
        let setup = Setup::new(&entra, None);
        let target = setup.directory.file("elsewhere.json");
        for contents in [None, Some(r#"{"version":1,"accounts":{}}"#), Some("spoilt")] {
            if let Some(contents) = contents {
                fs::write(&target, contents).unwrap();
            }
            symlink(&target, setup.token_file()).unwrap();
            let failure = setup.try_start().err().unwrap().text();
            assert!(
                failure.contains("link") && failure.contains("TOKEN_CACHE_FILE"),
                "{failure}"
            );
            assert_eq!(fs::read_to_string(&target).ok().as_deref(), contents);
            fs::remove_file(setup.token_file()).unwrap();
        }
        // Nor is one followed that appears while the server runs: it is replaced.
        let server = setup.start();
        symlink(&target, setup.token_file()).unwrap();
        assert_eq!(sign_in(&server.url(), ADA, ADA).status, 200);
        assert_eq!(fs::read_to_string(&target).unwrap(), "spoilt");
        assert!(!setup.token_file().is_symlink());
        assert_eq!(setup.stored_user_ids(), [ADA]);
    }

    /// A limit on the size of files stands for a full disk. The file that names the owner is shorter.
    fn binary_on_a_full_disk() -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args([
            "-c",
            "trap '' XFSZ; ulimit -f 1; exec \"$0\"",
            env!("CARGO_BIN_EXE_entra-auth-mcp"),
        ]);
        shell
    }

    #[test]
    fn on_a_full_disk_nothing_is_acknowledged_and_nothing_lost() {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend));
        let server = setup.start();
        server.modern().sign_in(GRACE);
        entra.expires_in(0); // so that the next call needs a refresh
        server.modern().sign_in(ADA);
        entra.expires_in(3900);
        drop(server);
        let before = fs::read(setup.token_file()).unwrap();

        let process = Process::start(binary_on_a_full_disk(), &setup);
        let page = sign_in(&process.url(), GRACE, GRACE);
        assert!(
            page.status == 400 && page.text().contains("free space"),
            "{}",
            page.text()
        );
        // What Entra has rotated serves from memory.
        for _ in 0..2 {
            process.modern().ok(
                "api_get_request",
                json!({"user_id": ADA, "endpoint": "/me"}),
            );
        }
        assert_eq!((entra.refreshes(), entra.reused_refresh_tokens()), (1, 0));
        assert_eq!(
            process.client().get("/healthz").json()["status"],
            "degraded"
        );
        let info = process.modern().ok("get_server_info", json!({}));
        assert!(text(&info["token_cache"]).contains("free space"), "{info}");
        assert_eq!(
            process
                .modern()
                .fails("logout_user", json!({"user_id": ADA}))["error"],
            "token_cache"
        );
        assert_eq!(fs::read(setup.token_file()).unwrap(), before);
        assert!(
            names_beside(&setup).is_empty(),
            "{:?}",
            names_beside(&setup)
        );
    }
}
