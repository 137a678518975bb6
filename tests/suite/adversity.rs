//! What happens at the worst moment: sign-outs and sign-ins in the middle of something else, crashes, proxies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::encode_pairs;
use crate::support::entra::{ADA, Entra, GRACE, TokenFailure};
use crate::support::server::{Process, Running, Setup, World};
use serde_json::{Value, json};

const DUE: u64 = 3700;
const THE_REST: u64 = 250;

impl World {
    fn result_of_call(&self) -> Value {
        self.server
            .modern()
            .call("api_get_request", json!({"endpoint": "/me"}))["structuredContent"]
            .take()
    }
}

fn link(server: &Running, user_id: &str) -> String {
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": user_id}));
    begun["sign_in_url"].as_str().unwrap().to_owned()
}

fn login_url(server: &Running, user_id: &str) -> String {
    format!(
        "{}/auth/login?{}",
        server.url(),
        encode_pairs(&[("user_id", user_id)])
    )
}

fn answer_page(browser: &mut Browser, link: &str, username: &str) -> Page {
    let accounts = browser.navigate(link);
    browser.submit(&accounts, username)
}

fn oauth(error: &'static str, aadsts: u32) -> TokenFailure {
    TokenFailure::Oauth {
        error,
        aadsts,
        suberror: None,
        claims: None,
    }
}

#[test]
fn a_loopback_backend_is_not_called_through_a_proxy() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let for_proxy = Arc::clone(&seen);
    thread::spawn(move || {
        for socket in proxy.incoming() {
            let (mut socket, seen) = (socket.unwrap(), Arc::clone(&for_proxy));
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut bytes) {
                    seen.lock().unwrap().extend(&bytes[..count]);
                    // To CONNECT first, then in the backend's place.
                    let is_connect = bytes.starts_with(b"CONNECT");
                    let answer: &[u8] = if is_connect {
                        b"HTTP/1.1 200 OK\r\n\r\n"
                    } else {
                        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
                    };
                    let _ = socket.write_all(answer);
                }
            });
        }
    });
    let (setup, _backend, _entra) = World::signed_in().stop();
    let setup = setup.with("HTTPS_PROXY", &format!("http://{address}"));
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let _ = process
        .modern()
        .call("api_get_request", json!({"endpoint": "/me"}));
    let seen = String::from_utf8_lossy(&seen.lock().unwrap()).into_owned();
    assert!(
        !seen.contains("Bearer "),
        "the proxy saw the token: {} …",
        seen.chars().take(400).collect::<String>()
    );
}

#[test]
fn a_sign_out_during_a_redemption_is_final() {
    let world = World::signed_in();
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, &login_url(&world.server, ADA), ADA);
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let page = scope.spawn(|| browser.auto_submit(&answer));
        hold.wait_for_arrivals(1);
        world
            .server
            .modern()
            .ok("logout_user", json!({"user_id": ADA}));
        drop(hold);
        page.join().unwrap();
    });
    assert_eq!(
        world.server.modern().ok("view_userid", json!({}))["user_ids"],
        json!([])
    );
}

#[test]
fn a_sign_out_during_a_refresh_that_fails_is_final() {
    let world = World::signed_in();
    world.advance(DUE);
    world.entra.fail_tokens(TokenFailure::Status(503, None));
    let hold = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| world.result_of_call());
        hold.wait_for_arrivals(1);
        world
            .server
            .modern()
            .ok("logout_user", json!({"user_id": ADA}));
        drop(hold);
        let answer = call.join().unwrap();
        assert_eq!(answer["error"], "sign_in_required", "{answer}");
    });
    assert!(world.backend.requests().is_empty());
}

#[test]
fn calls_that_offer_links_do_not_end_the_sign_in_that_a_person_is_in() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern();
    let offered = mcp.fails("api_get_request", json!({"endpoint": "/me"}));
    let mut browser = Browser::new();
    let answer = answer_page(&mut browser, offered["sign_in_url"].as_str().unwrap(), ADA);
    for number in 0..64 {
        mcp.fails(
            "api_get_request",
            json!({"endpoint": "/me", "user_id": format!("u{number}")}),
        );
    }
    let page = browser.auto_submit(&answer);
    assert_eq!(page.status, 200, "{}", page.text());
}

#[test]
fn an_identical_failing_refresh_is_not_repeated_at_once() {
    for (error, number) in [("invalid_client", 7_000_218), ("server_error", 90033)] {
        let world = World::signed_in();
        world.advance(DUE + THE_REST);
        world.entra.fail_tokens(oauth(error, number));
        for _ in 0..5 {
            world.result_of_call();
        }
        assert_eq!(
            world.entra.token_requests().len(),
            2,
            "{error}: the sign-in and one refresh"
        );
    }
}

#[test]
fn a_sign_in_during_a_refused_refresh_wins() {
    let world = World::signed_in();
    world.advance(DUE);
    let held = world.entra.hold_tokens();
    thread::scope(|scope| {
        let call = scope.spawn(|| world.result_of_call());
        held.wait_for_arrivals(1);
        world.entra.revoke_all();
        drop(world.entra.hold_tokens()); // those that come now are not held
        let page = Browser::new().sign_in(&login_url(&world.server, ADA), ADA);
        assert_eq!(page.status, 200, "{}", page.text());
        drop(held);
        let answer = call.join().unwrap();
        assert_eq!(answer["success"], true, "{answer}");
    });
}

#[test]
fn an_upward_segment_is_refused_before_an_encoded_question_mark_too() {
    let world = World::signed_in();
    for endpoint in [
        "/a/..%3fx",
        "/a/..%23x",
        "/a/%2e%2e%253fx/b",
        "/a/\u{fe52}\u{fe52}/b",
        "/a/\u{fe30}/b",
    ] {
        let answer = world
            .server
            .modern()
            .call("api_get_request", json!({"endpoint": endpoint}))["structuredContent"]
            .take();
        assert_eq!(answer["error"], "invalid_request", "{endpoint}: {answer}");
    }
}

#[test]
fn an_empty_access_token_is_never_sent() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let file = json!({"default": {"access_token": null, "expires_in": 3599, "timestamp": now}});
    let world = World::signed_in().with_file(&file.to_string());
    let answer = world.result_of_call();
    assert_eq!(answer["error"], "sign_in_required", "{answer}");
}

#[test]
fn a_sign_in_that_succeeds_last_leaves_no_error() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    let first = link(&server, "work");
    Browser::new().decline(&login_url(&server, "work"));
    let page = Browser::new().sign_in(&first, GRACE);
    assert_eq!(page.status, 200);
    let status = server
        .modern()
        .ok("check_auth_status", json!({"user_id": "work"}));
    assert_eq!(status["last_sign_in_error"], Value::Null, "{status}");
}

#[test]
fn the_start_page_says_when_a_sign_in_has_ended() {
    let world = World::signed_in();
    world.advance(DUE + THE_REST);
    world.entra.fail_next_token(oauth("invalid_grant", 50173));
    world.result_of_call();
    let page = world.server.client().get("/").text();
    assert!(!page.contains("signed in until"), "{page}");
}

#[test]
fn what_a_crash_left_behind_goes_with_the_next_change() {
    let world = World::signed_in();
    // As after a kill between the writing and the rename.
    let left = world
        .setup
        .directory
        .file("token_cache.json.tmp-AAAAAAAAAAA");
    fs::copy(world.server.token_file(), &left).unwrap();
    let fixed = world.setup.directory.file("token_cache.json.tmp");
    fs::copy(world.server.token_file(), &fixed).unwrap();
    world
        .server
        .modern()
        .ok("logout_user", json!({"user_id": ADA}));
    assert!(!fixed.exists() || !left.exists());
}

#[test]
fn a_second_conversion_keeps_the_first_file_too() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for token in ["AT-first", "AT-second"] {
        let file =
            json!({"default": {"access_token": token, "expires_in": 3599, "timestamp": now}})
                .to_string();
        fs::write(setup.token_file(), file).unwrap();
        drop(setup.start());
    }
    let kept: String = fs::read_dir(&setup.directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(".python"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert!(
        kept.contains("AT-first") && kept.contains("AT-second"),
        "{kept}"
    );
}
