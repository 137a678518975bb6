//! Answers of Entra and the API that no honest server gives, and text that would like to be more than text: each
//! leads to a clear result, and the server goes on.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::encode_pairs;
use crate::support::entra::{ADA, Entra, TokenFailure};
use crate::support::http::{Answer, Client, Reply};
use crate::support::mcp::{MEDIA_TYPES, Mcp, as_refs};
use crate::support::server::{Process, Setup, World};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

const LURE: &str = "http://127.0.0.1:9/lure";

fn raw(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A gzip of `megabytes` of the letter `a` (RFC 1951 §3.2.6: fixed codes, of which each 13 bits repeat 258 letters).
fn gzip_bomb(megabytes: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false]; // the last block, with fixed codes
    let mut code =
        |value: u32, length: u32| bits.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    code(0x30 + u32::from(b'a'), 8);
    for _ in 0..megabytes * (1 << 20) / 258 {
        code(0b1100_0101, 8); // 258 letters,
        code(0, 5); // from one letter before
    }
    code(0, 7);
    let deflated = bits.chunks(8).map(|bits| {
        bits.iter()
            .rev()
            .fold(0, |byte, bit| byte << 1 | u8::from(*bit))
    });
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    // With a wrong checksum, which nobody should get as far as.
    head.into_iter().chain(deflated).chain([0; 8]).collect()
}

impl World {
    fn page_of_a_sign_in(&self) -> Page {
        let link = format!(
            "{}/auth/login?{}",
            self.server.url(),
            encode_pairs(&[("user_id", ADA)])
        );
        Browser::new().sign_in(&link, ADA)
    }

    fn accounts(&self) -> Value {
        self.server.modern().ok("view_userid", json!({}))["user_ids"].take()
    }

    fn what_a_call_gives(&self) -> Value {
        self.server
            .modern()
            .call("api_get_request", json!({"endpoint": "/me"}))["structuredContent"]
            .take()
    }
}

// ---- Entra ----

#[test]
fn whatever_the_token_endpoint_answers_the_sign_in_fails_clearly_and_stores_nothing() {
    let world = World::new();
    let deep = "[".repeat(100_000);
    let json = "Content-Type: application/json\r\n";
    let gzip = format!("{json}Content-Encoding: gzip\r\n");
    for answer in [
        raw("200 OK", json, ""),
        raw("200 OK", json, "null"),
        raw("200 OK", json, "[[]]"),
        raw("200 OK", json, "\"Bearer\""),
        raw("200 OK", json, [0xff, 0xfe, 0, b'{']),
        raw("200 OK", json, "\u{feff}{}"),
        raw("200 OK", json, &deep),
        raw("200 OK", json, format!("{{\"token_type\":{deep}")),
        raw("200 OK", json, r#"{"error":"invalid_grant"}"#),
        raw(
            "200 OK",
            json,
            r#"{"token_type":"Bearer","access_token":{"a":1},"expires_in":1}"#,
        ),
        raw(
            "200 OK",
            json,
            r#"{"token_type":["Bearer"],"access_token":"a","expires_in":1}"#,
        ),
        raw(
            "200 OK",
            json,
            r#"{"token_type":"Bearer","access_token":"a\u0000b","expires_in":1}"#,
        ),
        raw(
            "200 OK",
            json,
            r#"{"token_type":"Bearer","access_token":"ä","expires_in":1}"#,
        ),
        raw("200 OK", &gzip, gzip_bomb(20)),
        raw("200 OK", &gzip, "no gzip"),
        raw(
            "200 OK",
            "Content-Type: text/html\r\n",
            "<html>Sign in to the Wi-Fi</html>",
        ),
        raw(
            "201 Created",
            json,
            r#"{"token_type":"Bearer","access_token":"a","expires_in":1}"#,
        ),
        raw("204 No Content", "", ""),
        raw("302 Found", &format!("Location: {LURE}\r\n"), ""),
        raw("400 Bad Request", json, r#"{"error":7}"#),
        raw(
            "400 Bad Request",
            json,
            r#"{"error":{"error":"invalid_grant"}}"#,
        ),
        raw(
            "400 Bad Request",
            json,
            format!(
                r#"{{"error":"x","error_description":"{}"}}"#,
                "y".repeat(900_000)
            ),
        ),
        raw(
            "400 Bad Request",
            json,
            format!(r#"{{"error":"{}"}}"#, "x".repeat(900_000)),
        ),
        raw(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer authorization_uri=\"{LURE}\"\r\n"),
            "{}",
        ),
        raw("429 Slow", "Retry-After: -1\r\n", ""),
        raw("503 No", "Retry-After: 99999999999999999999999999\r\n", ""),
        raw("599 \u{7f}", "", ""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
        b"HTTP/9.9 200 OK\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        [
            b"HTTP/1.1 200 OK\r\nX: ".to_vec(),
            vec![b'x'; 1 << 20],
            b"\r\n\r\n{}".to_vec(),
        ]
        .concat(),
        [
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"X: y\r\n".repeat(10_000),
            b"\r\n{}".to_vec(),
        ]
        .concat(),
        b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000),
    ] {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        world.entra.fail_next_token(TokenFailure::Raw(answer));
        let page = world.page_of_a_sign_in();
        assert_eq!(page.status, 400, "{shown}: {}", page.text());
        assert!(
            page.text().contains("Entra") && page.text().len() < 3_000,
            "{shown}: {}",
            page.text()
        );
        assert_eq!(world.accounts(), json!([]), "{shown}");
    }
    world.entra.fail_next_token(TokenFailure::Huge(20 << 20));
    assert!(
        world
            .page_of_a_sign_in()
            .text()
            .contains("longer than 1 MiB")
    );
    assert_eq!(world.page_of_a_sign_in().status, 200);
    assert_eq!(world.what_a_call_gives()["success"], true);
}

#[test]
fn a_lifetime_that_is_none_is_refused_and_an_absurd_one_bounded() {
    let world = World::new();
    for none in [
        json!(-1),
        json!("-1"),
        json!(""),
        json!("soon"),
        json!(null),
        json!(true),
        json!([60]),
        json!(1.5),
    ] {
        let lifetime = none.clone();
        world
            .entra
            .token_tamper(move |body| body["expires_in"] = lifetime.clone());
        let page = world.page_of_a_sign_in();
        assert!(
            page.status == 400 && page.text().contains("expires_in"),
            "{none}: {}",
            page.text()
        );
        assert_eq!(world.accounts(), json!([]), "{none}");
    }
    for absurd in [json!(u64::MAX), json!(u64::MAX.to_string()), json!("3600")] {
        let lifetime = absurd.clone();
        world.entra.token_tamper(move |body| {
            body["expires_in"] = lifetime.clone();
            body["refresh_in"] = json!("never");
        });
        assert_eq!(world.page_of_a_sign_in().status, 200, "{absurd}");
        let status = world
            .server
            .modern()
            .ok("check_auth_status", json!({"user_id": ADA}));
        assert!(
            status["expires_in_seconds"].as_u64().unwrap() <= 366 * 86_400,
            "{status}"
        );
    }
    // What else of it has a wrong type counts as absent.
    world.entra.token_tamper(|body| {
        body["scope"] = json!(["a"]);
        body["refresh_token"] = json!({"of": "nobody"});
    });
    assert_eq!(world.page_of_a_sign_in().status, 200);
    let status = world
        .server
        .modern()
        .ok("check_auth_status", json!({"user_id": ADA}));
    assert_eq!(
        (&status["can_refresh"], &status["scopes"]),
        (&json!(false), &json!([]))
    );
    world.entra.token_tamper(|body| body["id_token"] = json!(7));
    assert!(world.page_of_a_sign_in().text().contains("no ID token"));
}

// ---- The API ----

#[test]
fn whatever_the_api_answers_the_call_has_a_result_and_the_server_goes_on() {
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    for answer in [
        b"".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"HTTP/0.9 200\r\n\r\n".to_vec(),
        b"HTTP/1.1 000 Nothing\r\n\r\n".to_vec(),
        b"HTTP/1.1 999 Much\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nETag: a\r\n Set-Cookie: folded=1\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nETag: a\rX-Request-Id: b\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nX-Request-Id: \x9b31m\xff\xfe\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff/\xff; \"\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\"><script>\r\nContent-Length: 2\r\n\r\n<>"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked, identity\r\n\r\n0\r\n\r\n".to_vec(),
        raw("200 OK", "Content-Encoding: gzip\r\n", "no gzip"),
        raw(
            "200 OK",
            "Content-Type: application/json\r\n",
            "[".repeat(100_000),
        ),
        [
            b"HTTP/1.1 200 OK\r\nETag: ".to_vec(),
            vec![b'x'; 1 << 20],
            b"\r\n\r\n".to_vec(),
        ]
        .concat(),
        [
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"Link: y\r\n".repeat(10_000),
            b"\r\n".to_vec(),
        ]
        .concat(),
        b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000),
    ] {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(120)]).into_owned();
        world.backend.on(move |_| Some(Answer::raw(answer.clone())));
        let result = mcp.call("api_get_request", json!({"endpoint": "/x"}));
        let structured = &result["structuredContent"];
        assert!(structured["success"].is_boolean(), "{shown}: {result}");
        assert!(
            structured["success"] == true || structured["message"].as_str().unwrap().len() > 20,
            "{shown}: {result}"
        );
        assert!(
            structured["headers"].get("set-cookie").is_none(),
            "{shown}: {result}"
        );
    }
    world.backend.on(|_| None);
    assert_eq!(world.what_a_call_gives()["success"], true);
}

#[test]
fn an_answer_whose_head_is_too_long_is_called_so_and_not_asked_for_again() {
    let world = World::signed_in();
    let head = [
        b"HTTP/1.1 200 OK\r\nETag: ".to_vec(),
        vec![b'x'; 100_000],
        b"\r\n\r\n".to_vec(),
    ]
    .concat();
    world.backend.on(move |_| Some(Answer::raw(head.clone())));
    let before = world.backend.requests().len();
    let result = world.what_a_call_gives();
    assert!(
        result["message"].as_str().unwrap().contains("header"),
        "{result}"
    );
    assert_eq!(world.backend.requests().len(), before + 1);
}

/// `start`, and then `again` for as long as somebody reads it.
fn endless(start: &'static [u8], again: &'static [u8]) -> Answer {
    Answer::script(move |stream| {
        stream.write_all(start)?;
        let again = again.repeat(1 << 12);
        loop {
            stream.write_all(&again)?;
        }
    })
}

#[test]
fn what_never_comes_to_its_end_is_left_off_long_before_the_time_is_up() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    for (what, start, again) in [
        (
            "a status line",
            b"HTTP/1.1 200 ".as_slice(),
            b"O".as_slice(),
        ),
        ("a field", b"HTTP/1.1 200 OK\r\nETag: ", b"x"),
        ("fields", b"HTTP/1.1 200 OK\r\n", b"Link: y\r\n"),
        ("a chunk size", CHUNKED, b"0"),
        (
            "a chunk extension",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            b"x",
        ),
        ("empty lines", b"", b"\r\n"),
        ("interim answers", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ] {
        world.backend.on(move |_| Some(endless(start, again)));
        let arguments = json!({"endpoint": "/x"});
        if what.starts_with("a chunk") {
            // The head said what has become of the call.
            let answer = mcp.ok("api_get_request", arguments);
            assert_eq!(answer["truncated"], true, "{what}: {answer}");
        } else {
            let answer = mcp.fails("api_get_request", arguments);
            assert_eq!(answer["error"], "backend_unreachable", "{what}: {answer}");
        }
    }
    world.backend.on(|_| None);
    assert_eq!(world.what_a_call_gives()["success"], true);
}

/// Each time that it is decoded, it is encoded once less.
#[test]
fn a_next_page_that_is_encoded_again_and_again_takes_no_time() {
    let world = World::signed_in();
    let link = format!("/v1.0/x%{}41", "25".repeat(50_000));
    let reply = Reply::of_json(200, &json!({"@odata.nextLink": link}));
    world.backend.on(move |_| Some(reply.clone().into()));
    let begun = Instant::now();
    let content = world.what_a_call_gives();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(content["success"], true);
    assert_eq!(content.get("next"), None);
}

#[test]
fn a_redirect_to_itself_or_elsewhere_is_one_request_whatever_its_status() {
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    for target in [
        "/v1.0/again",
        "",
        "?",
        "//evil.example/",
        LURE,
        "javascript:alert(1)",
        "\u{e9}\u{ff}",
    ] {
        for status in [300, 301, 302, 303, 305, 307, 308] {
            world
                .backend
                .on(move |_| Some(Reply::empty(status).with("Location", target).into()));
            let before = world.backend.requests().len();
            let answer = mcp.fails(
                "api_post_request",
                json!({"endpoint": "/again", "data": {}}),
            );
            assert_eq!(
                (&answer["error"], &answer["status"]),
                (&json!("redirect"), &json!(status)),
                "{target}"
            );
            assert_eq!(
                world.backend.requests().len(),
                before + 1,
                "{target} {status}"
            );
        }
    }
}

#[test]
fn a_hostile_challenge_costs_one_refresh_at_most_and_is_never_a_loop() {
    let nested = BASE64_STANDARD.encode(format!("{{\"access_token\":{}", "{\"a\":".repeat(10_000)));
    let large = BASE64_STANDARD
        .encode(json!({"access_token": {"a": {"value": "x".repeat(100_000)}}}).to_string());
    let fields = [
        format!("Bearer error=\"insufficient_claims\", claims=\"{nested}\""),
        format!("Bearer error=\"insufficient_claims\", claims=\"{large}\""),
        "Bearer ".to_owned() + &"a=\"".repeat(20_000),
        "Bearer ".repeat(20_000),
        ",".repeat(50_000),
        "Bearer error=\"insufficient_scope\", scope=\"\\\"".to_owned() + &"s ".repeat(20_000),
        format!(
            "Bearer authorization_uri=\"{LURE}\", resource_metadata=\"{LURE}\", error=\"invalid_token\""
        ),
        "Negotiate, NTLM, Basic realm=\"give me the password\"".to_owned(),
        "\u{ff}\u{fe}".to_owned(),
    ];
    for (field, status) in fields.iter().flat_map(|field| [(field, 401), (field, 403)]) {
        let world = World::signed_in();
        let reply = Reply::new(status, "text/plain", "no").with("WWW-Authenticate", field);
        world.backend.on(move |_| Some(reply.clone().into()));
        let shown: String = field.chars().take(80).collect();
        let answer = world.what_a_call_gives();
        // What the API says is missing, nobody here is made to ask for.
        let is_about_scope = status == 403 && field.contains("insufficient_scope");
        let kinds = if is_about_scope {
            &["configuration"][..]
        } else {
            &["http_error", "backend_unreachable"]
        };
        assert!(
            kinds.contains(&answer["error"].as_str().unwrap()),
            "{shown}: {answer}"
        );
        assert!(
            world.backend.requests().len() <= 2 && world.entra.refreshes() <= 1,
            "{status} {shown}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_gzip_bomb_is_cut_and_takes_no_memory() {
    let World {
        server,
        setup,
        backend,
        entra: _entra,
    } = World::signed_in();
    // The process takes over the token file.
    drop(server);
    let process = Process::start(
        Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")),
        &setup.with("MAX_RESPONSE_BYTES", "1000"),
    );
    let peak = || process.peak_memory().unwrap();
    process
        .modern()
        .ok("api_get_request", json!({"endpoint": "/me"}));
    let (before, bomb) = (peak(), gzip_bomb(80));
    backend.on(move |_| {
        Some(
            Reply::new(200, "text/plain", bomb.clone())
                .with("Content-Encoding", "gzip")
                .into(),
        )
    });
    let result = process
        .modern()
        .call("api_get_request", json!({"endpoint": "/bomb"}));
    let answer = &result["structuredContent"];
    assert_eq!(
        (&answer["truncated"], &answer["data"]),
        (&json!(true), &json!("a".repeat(1000)))
    );
    assert!(
        peak() < before + 8 * 1024 * 1024,
        "{before} bytes became {}",
        peak()
    );
}

/// Megabytes of nearly nothing, of which a tree of values would be a hundred times as large.
#[cfg(target_os = "linux")]
#[test]
fn a_request_takes_a_few_times_its_length_in_memory() {
    const LENGTH: usize = 1024 * 1024;
    let many = |item: &str| format!("[{}]", vec![item; LENGTH / (item.len() + 1)].join(","));
    let keys = || {
        format!(
            "{{{}}}",
            (0..LENGTH / 12)
                .map(|n| format!("\"{n:07x}\":0"))
                .collect::<Vec<_>>()
                .join(",")
        )
    };
    let post = |data: String| format!(r#"{{"endpoint":"/me","data":{data}}}"#);
    let get = |name: &str, value: String| format!(r#"{{"endpoint":"/me","{name}":{value}}}"#);
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    for (tool, arguments) in [
        (
            "check_auth_status",
            format!(r#"{{"user_id":{}}}"#, many(r#"{"":0}"#)),
        ),
        (
            "api_get_request",
            get("headers", format!(r#"{{"x":{}}}"#, many(r#"{"":0}"#))),
        ),
        ("api_get_request", get("params", many(r#"{"":0}"#))),
        ("api_get_request", get("params", keys())),
        ("api_get_request", get("select", many("0"))),
        ("api_get_request", keys()),
        (
            "api_get_request",
            format!(r#"{{"{}":0}}"#, "\u{7f}".repeat(LENGTH)),
        ),
        (
            "api_get_request",
            format!(r#"{{"{0}":0,"{0}":0}}"#, "\u{7f}".repeat(LENGTH / 2)),
        ),
        ("api_post_request", post(many("0"))),
        ("api_post_request", post(many(r#"{"":0}"#))),
        ("api_post_request", post(keys())),
    ] {
        let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
        let mut asking = Mcp::modern(process.client(), Mcp::can_open_urls());
        asking.call("view_userid", json!({}));
        let before = process.peak_memory().unwrap();
        let body = asking.body("tools/call", json!({"name": tool, "arguments": "?"}));
        let headers = asking.headers("tools/call", Some(tool));
        let body = body.replacen(r#""?""#, &arguments, 1);
        let reply = asking
            .http
            .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
        assert!(matches!(reply.status, 200 | 400), "{}", reply.text());
        let growth = process.peak_memory().unwrap() - before;
        println!(
            "{tool} {}…: {} times",
            &arguments[..30],
            growth / body.len()
        );
        assert!(
            growth < 12 * body.len(),
            "{growth} bytes for {}",
            body.len()
        );
    }
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let (before, batch) = (process.peak_memory().unwrap(), many("0"));
    let reply = process
        .client()
        .request("POST", "/mcp", &MEDIA_TYPES, batch.as_bytes());
    assert_eq!(reply.status, 400);
    let growth = process.peak_memory().unwrap() - before;
    assert!(
        growth < 16 * batch.len(),
        "{growth} bytes for {}",
        batch.len()
    );
}

// ---- Text that would like to be more ----

#[test]
fn no_text_from_outside_begins_a_line_of_the_log_or_the_audit_log() {
    const FORGED: &str = "x\r\n2026-11-25T00:00:00Z error forged\n{\"event\":\"forged\"}\u{1b}[2J\u{85}\u{9b}2J\u{2028}\u{2029}\u{202e}\u{200b}\u{e0041}";
    let entra = Entra::start_lenient();
    let setup = Setup::new(&entra, None);
    let audit = setup.directory.file("audit.jsonl");
    let setup = setup.with("AUDIT_LOG", audit.to_str().unwrap());
    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let login = format!(
        "{}/auth/login?{}",
        process.url(),
        encode_pairs(&[("user_id", "label")])
    );
    let body = json!({"error": FORGED, "error_description": FORGED, "correlation_id": FORGED, "trace_id": FORGED,
        "suberror": FORGED, "timestamp": FORGED});
    entra.fail_next_token(TokenFailure::Raw(raw(
        "400 Bad Request",
        "",
        body.to_string(),
    )));
    assert_eq!(Browser::new().sign_in(&login, ADA).status, 400);
    entra.set(|settings| settings.fail_authorize = Some(("access_denied", 65004, FORGED)));
    assert_eq!(Browser::new().sign_in(&login, ADA).status, 400);
    entra.set(|settings| settings.fail_authorize = None);
    entra.id_token_tamper(|claims| {
        for name in ["name", "preferred_username", "oid"] {
            claims[name] = json!(FORGED);
        }
    });
    assert_eq!(Browser::new().sign_in(&login, ADA).status, 200);
    let mut mcp = process.modern();
    mcp.call(
        "api_get_request",
        json!({"endpoint": FORGED, "user_id": FORGED}),
    );
    mcp.call("authenticate_user", json!({"user_id": FORGED}));
    mcp.ok("logout_user", json!({"user_id": "label"}));
    let mut stream = std::net::TcpStream::connect(process.address()).unwrap();
    stream
        .write_all(b"GET /x%0d%0a2026 HTTP/1.1\r\nHost: \x9b2J\r\nOrigin: a\r\n\r\n")
        .unwrap();
    Client::new(&process.url()).request(
        "GET",
        "/%0aforged",
        &[("Origin", "http://evil.example\u{9b}")],
        b"",
    );

    let log = process.log();
    assert!(log.contains("forged"), "{log}");
    for line in log.lines() {
        let level = line.split(' ').nth(1).unwrap_or_default();
        assert!(
            line.starts_with("20") && ["error", "warn", "info", "debug"].contains(&level),
            "{line:?}"
        );
        assert!(
            !line.starts_with("2026-11-25T00:00:00Z") && !line.contains(char::is_control),
            "{line:?}"
        );
    }
    // CASES C27: no reader ends a line where we do not, and nothing is shown in another order.
    let is_hidden =
        |c: char| c.is_control() || "\u{2028}\u{2029}\u{202e}\u{200b}\u{e0041}".contains(c);
    assert!(!log.contains(|c| c != '\n' && is_hidden(c)), "{log:?}");
    let audit = fs::read_to_string(audit).unwrap();
    assert!(!audit.contains(|c| c != '\n' && is_hidden(c)), "{audit:?}");
    for line in audit.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            ["sign_in", "sign_out", "api_call"].contains(&line["event"].as_str().unwrap()),
            "{line}"
        );
    }
    assert!(audit.contains("forged"), "{audit}");
}
