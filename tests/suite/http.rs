//! The listener from outside: where a request ends, how large and how slow it may be, who keeps a
//! connection, what each path takes, and whose requests are refused.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
#[cfg(unix)]
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::backend::Backend;
use crate::support::browser::{Browser, TYPED};
use crate::support::entra::{ADA, Entra};
use crate::support::http::{
    Reply, authority, chunks, connect, one_shot, raw, raw_then_eof, read_to_close,
};
use crate::support::random::Random;
use crate::support::server::{MEDIA_TYPES, Process, Running, Setup};
use entra_auth_mcp::http::Limits;
use serde_json::{Value, json};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// A deadline that a test waits for. Nothing is asserted on how long it takes.
const SOON: Duration = Duration::from_millis(100);
const KEY: &str = "kEy-5f1f0c7a2b9e4d3861f0a7c5e2b4d968";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Settings for tests that sign nobody in: no Entra is ever asked.
fn setup() -> Setup {
    Setup::new(&Entra::start(), None)
}

fn start() -> Running {
    setup().start()
}

/// A server with a signed-in user, and a backend that tells what reached it.
struct SignedIn {
    server: Running,
    backend: Backend,
    _entra: Entra,
}

fn signed_in(limits: impl FnOnce(&mut Limits)) -> SignedIn {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend)).with("MAX_RESPONSE_BYTES", "16777216");
    let server = setup.start();
    let page = Browser::new().sign_in(&format!("{}/auth/login?user_id={ADA}", server.url()), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
    drop(server);
    SignedIn {
        server: setup.limits(limits).start(),
        backend,
        _entra: entra,
    }
}

fn get(server: &Running, target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address()
    )
}

/// A POST to `/mcp` with these further header lines.
fn post(server: &Running, lines: &str, body: &str) -> String {
    let [content_type, accept] = MEDIA_TYPES.map(|(name, value)| format!("{name}: {value}"));
    format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\n{content_type}\r\n{accept}\r\n{lines}\r\n\r\n{body}",
        server.address()
    )
}

fn post_message(server: &Running, message: &Value) -> String {
    let body = message.to_string();
    post(server, &format!("Content-Length: {}", body.len()), &body)
}

fn ping(server: &Running, id: usize) -> String {
    post_message(
        server,
        &json!({"jsonrpc": "2.0", "id": id, "method": "ping"}),
    )
}

/// A call that reaches the backend, if it is executed.
fn call(server: &Running, endpoint: &str) -> String {
    let params = json!({"name": "api_get_request", "arguments": {"endpoint": endpoint}});
    post_message(
        server,
        &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
    )
}

/// The status of every answer in `received`.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    let after_version = text
        .match_indices("HTTP/1.1 ")
        .map(|(at, version)| &text[at + version.len()..]);
    after_version
        .filter_map(|rest| rest.split_once(' ')?.0.parse().ok())
        .collect()
}

/// Sends what must be refused: the one answer, after which the server closes.
fn refused(server: &Running, bytes: impl AsRef<[u8]>) -> u16 {
    let received = raw(&server.address(), bytes.as_ref());
    let text = String::from_utf8_lossy(&received);
    let sent = String::from_utf8_lossy(bytes.as_ref());
    assert_eq!(statuses(&received).len(), 1, "{text:?} for {sent:?}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text:?}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        serde_json::from_str::<Value>(body).unwrap()["error"].is_string(),
        "{text:?}"
    );
    statuses(&received)[0]
}

fn assert_serves(server: &Running) {
    assert_eq!(server.client().get("/healthz").status, 200);
}

/// A place that was just given up may take a moment to be free.
fn assert_serves_at_last(server: &Running) {
    let start = Instant::now();
    loop {
        match server.client().get("/healthz").status {
            503 => assert!(start.elapsed() < PATIENCE, "no place becomes free"),
            status => return assert_eq!(status, 200),
        }
    }
}

/// One connection, byte by byte.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(server: &Running) -> Self {
        Self(BufReader::new(connect(&server.address()).unwrap()))
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next head, interim ones included.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.0.read_line(&mut head).unwrap(),
                0,
                "the connection ended after {head:?}"
            );
        }
        head
    }

    /// The next answer, to a request other than HEAD.
    fn reply(&mut self) -> Reply {
        let head = self.head();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        let mut reply = Reply {
            status,
            headers: headers.collect(),
            body: Vec::new(),
        };
        reply.body = vec![
            0;
            reply
                .header("Content-Length")
                .map_or(0, |length| length.parse().unwrap())
        ];
        self.0.read_exact(&mut reply.body).unwrap();
        reply
    }

    /// What still comes until the server closes.
    fn rest(self) -> Vec<u8> {
        let mut received = self.0.buffer().to_vec();
        received.extend(read_to_close(self.0.into_inner()));
        received
    }

    /// Closes with an answer unread, which resets the connection (RFC 9293 §3.10.4).
    fn reset(self) {
        assert_ne!(self.0.get_ref().peek(&mut [0]).unwrap(), 0);
    }
}

// ---- Where a request ends (RFC 9112 §6, §7, §11.2) ----

#[test]
fn a_body_of_doubtful_length_is_refused_and_what_follows_never_runs() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hidden = call(&server, "/me");

    // So much is read behind a body of a certain length: the hidden request does run.
    let received = raw_then_eof(
        &server.address(),
        (post(&server, "Content-Length: 5", "0\r\n\r\n") + &hidden).as_bytes(),
    );
    assert_eq!(
        (statuses(&received), backend.requests().len()),
        (vec![400, 200], 1)
    );

    for (lines, status) in [
        ("Content-Length: 5\r\nContent-Length: 0", 400),
        ("Content-Length: 0\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: 0, 5", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: -0", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 5x", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: 5.0", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length: 5;", 400),
        ("Content-Length: \"5\"", 400),
        ("Content-Length: \u{ff15}", 400),
        ("Content-Length:", 400),
        ("Content-Length : 5", 400),
        ("Content-Length\t: 5", 400),
        (" Content-Length: 5", 400),
        ("X: y\r\n Content-Length: 5", 400),
        ("Content-Length: 18446744073709551621", 413), // 5 modulo 2^64
        (
            "Content-Length: 99999999999999999999999999999999999999999",
            413,
        ),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: identity", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            400,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            400,
        ),
        (" Transfer-Encoding: chunked", 400),
        ("X: y\r\n\tTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding: \u{b}chunked", 400),
        ("Transfer-Encoding: chunked\0", 400),
        ("X: y\nTransfer-Encoding: chunked", 400),
        ("X: y\rTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding:\r\n chunked", 400),
        ("Transfer-Encoding:", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: chunkedx", 501),
        ("Transfer-Encoding: \"chunked\"", 501),
        ("Transfer-Encoding: chunked;q=1", 501),
        ("Transfer-Encoding: chunked,", 501),
        ("Transfer-Encoding: ,chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: chunked, identity", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: identity", 501),
    ] {
        // The hidden request stands where a body of no bytes would end, and behind one of five
        // bytes that is a whole chunked body, too.
        for body in ["", "0\r\n\r\n"] {
            assert_eq!(
                refused(&server, post(&server, lines, body) + &hidden),
                status,
                "{lines:?}"
            );
        }
    }
    let under_http_10 = post(&server, "Transfer-Encoding: chunked", "0\r\n\r\n")
        .replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(refused(&server, under_http_10 + &hidden), 400);

    assert_eq!(backend.requests().len(), 1);
    assert_serves(&server);
}

// CASES D9
#[test]
fn a_malformed_chunked_body_is_refused_and_what_follows_never_runs() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hidden = call(&server, "/me");
    let received = raw_then_eof(
        &server.address(),
        (post(
            &server,
            "Transfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ) + &hidden)
            .as_bytes(),
    );
    assert_eq!(
        (statuses(&received), backend.requests().len()),
        (vec![400, 200], 1)
    );

    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
    let long_trailer = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "x".repeat(300));
    for (body, status) in [
        ("\r\n5\r\nhello\r\n0\r\n\r\n", 400),
        ("0x5\r\nhello\r\n0\r\n\r\n", 400),
        ("+5\r\nhello\r\n0\r\n\r\n", 400),
        ("-5\r\nhello\r\n0\r\n\r\n", 400),
        (" 5\r\nhello\r\n0\r\n\r\n", 400),
        ("5 \r\nhello\r\n0\r\n\r\n", 400),
        ("5g\r\nhello\r\n0\r\n\r\n", 400),
        (";x\r\nhello\r\n0\r\n\r\n", 400),
        ("5\nhello\r\n0\r\n\r\n", 400),
        ("5\rhello\r\n0\r\n\r\n", 400),
        ("5;x\nhello\r\n0\r\n\r\n", 400),
        ("5;x\ry\r\nhello\r\n0\r\n\r\n", 400),
        ("3\r\nhello\r\n0\r\n\r\n", 400),
        ("5\r\nhello0\r\n\r\n", 400),
        ("5\r\nhello\n0\r\n\r\n", 400),
        ("5\r\nhelloXX0\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\n\n", 400),
        ("5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX: a\rY: b\r\n\r\n", 400),
        ("5;x\0y\r\nhello\r\n0\r\n\r\n", 400),
        ("5;x\x7fy\r\nhello\r\n0\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nXX\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\n: a\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX : a\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX Y: a\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nÄ: a\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX: a\0\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\n X: a\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nX: a\r\n\tb: c\r\n\r\n", 400),
        ("5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n", 400),
        (long_extension.as_str(), 400),
        (long_trailer.as_str(), 400),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", 413), // 5 modulo 2^64
        ("ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 413),
    ] {
        let request = post(&server, "Transfer-Encoding: chunked", body);
        assert_eq!(refused(&server, request + &hidden), status, "{body:?}");
    }
    assert_eq!(backend.requests().len(), 1);
    assert_serves(&server);
}

#[test]
fn a_head_that_two_parsers_could_read_in_two_ways_is_refused_and_what_follows_never_runs() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hidden = call(&server, "/me");
    let host = server.address();
    for head in [
        // Line ends, folded lines and control characters (RFC 9112 §2.2, §5.2).
        "GET / HTTP/1.1\nHost: {host}\n\n",
        "GET / HTTP/1.1\r\nHost: {host}\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\n",
        "GET / HTTP/1.1\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1\rHost: {host}\r\r",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\nY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\rY: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: {host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\u{1}b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX: a\u{7f}b\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        // Fields (RFC 9112 §5.1).
        "GET / HTTP/1.1\r\nHost: {host}\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX : space\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nX(y): no token\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\n\u{e9}: no token\r\n\r\n",
        // The request line (RFC 9112 §3).
        "GET /\r\n\r\n",
        "GET / \r\nHost: {host}\r\n\r\n",
        "GET HTTP/1.1\r\nHost: {host}\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: {host}\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET\t/\tHTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET / http/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTTPS/1.1\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1, HTTP/1.1\r\nHost: {host}\r\n\r\n",
        // The target (RFC 9112 §3.2).
        "GET healthz HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET ?a=b HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET /#fragment HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET https://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET http://user@{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "GET http:// HTTP/1.1\r\nHost: {host}\r\n\r\n",
        // Exactly one Host, of a host and perhaps a port (RFC 9112 §3.2).
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\r\nhost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host} evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}/\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: http://{host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@{host}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: {host}\u{e9}\r\n\r\n",
    ] {
        assert_eq!(
            refused(&server, head.replace("{host}", &host) + &hidden),
            400,
            "{head:?}"
        );
    }
    assert_eq!(
        refused(&server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        400,
        "a TLS handshake"
    );
    assert_eq!(
        refused(
            &server,
            [b"GET /\xff\xfe HTTP/1.1\r\nX: ", hidden.as_bytes()].concat()
        ),
        400
    );
    assert!(backend.requests().is_empty());
    assert_serves(&server);
}

#[test]
fn other_versions_of_http_are_refused_and_the_server_goes_on() {
    let server = start();
    for version in [
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/3.0",
        "HTTP/1.2",
        "HTTP/1.10",
        "HTTP/0.9",
        "HTTP/9999.9",
    ] {
        assert_eq!(
            refused(
                &server,
                get(&server, "/healthz").replace("HTTP/1.1", version)
            ),
            505,
            "{version}"
        );
    }
    // The preface of HTTP/2 (RFC 9113 §3.4).
    assert_eq!(refused(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
    assert_serves(&server);
}

#[test]
fn a_chunked_body_is_the_same_in_chunks_of_any_size() {
    let server = start();
    let mut wire = Wire::to(&server);
    let head = post(&server, "Transfer-Encoding: chunked", "");
    for size in 1..=PING.len() {
        wire.send([head.as_bytes(), &chunks(PING.as_bytes(), size)].concat());
        let reply = wire.reply();
        assert_eq!(
            (reply.status, &reply.json()["result"]),
            (200, &json!({})),
            "{size}"
        );
    }
    let (half, rest) = PING.split_at(0xb);
    for body in [
        format!(
            "B;name=value;flag\r\n{half}\r\n{:X}\r\n{rest}\r\n0\r\n\r\n",
            rest.len()
        ),
        format!(
            "000b\r\n{half}\r\n00{:x}\r\n{rest}\r\n000;last\r\n\r\n",
            rest.len()
        ),
        format!(
            "b\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\nDigest:x\r\nEmpty:\r\nX: Jos\u{e9} \t\r\nContent-Length: 9\r\n\r\n",
            rest.len()
        ),
    ] {
        wire.send(post(&server, "Transfer-Encoding: Chunked", &body));
        assert_eq!(wire.reply().status, 200, "{body:?}");
    }
}

#[test]
fn a_request_is_the_same_however_it_is_cut_into_packets() {
    let server = start();
    let mut wire = Wire::to(&server);
    let length = format!("Content-Length: {}", PING.len());
    let chunked = String::from_utf8(chunks(PING.as_bytes(), 16)).unwrap();
    for request in [
        post(&server, &length, PING),
        post(&server, "Transfer-Encoding: chunked", &chunked),
    ] {
        for at in 1..request.len() {
            wire.send(&request[..at]);
            wire.send(&request[at..]);
            assert_eq!(wire.reply().status, 200, "cut at {at}");
        }
        for byte in request.as_bytes() {
            wire.send([*byte]);
        }
        assert_eq!(wire.reply().status, 200);
    }
}

#[test]
fn optional_white_space_and_letter_case_do_not_matter() {
    let server = start();
    let mut wire = Wire::to(&server);
    let length = PING.len();
    for line in [
        format!("Content-Length:{length}"),
        format!("Content-Length: \t {length} \t "),
        format!("cOnTeNt-LeNgTh: 000{length}"),
    ] {
        wire.send(post(&server, &line, PING));
        assert_eq!(wire.reply().status, 200, "{line:?}");
    }
}

#[test]
fn an_empty_line_before_a_request_is_ignored() {
    let server = start();
    // RFC 9112 §2.2: on a new connection, and behind a body to which an old client adds one.
    let mut wire = Wire::to(&server);
    for _ in 0..2 {
        wire.send("\r\n".to_owned() + &ping(&server, 1));
        assert_eq!(wire.reply().status, 200);
    }
    wire.send("\r\n");
    wire.send(ping(&server, 1));
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn the_body_of_a_request_that_needs_none_does_not_run_as_a_request() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hidden = call(&server, "/me");
    let mut wire = Wire::to(&server);
    for target in ["/healthz", "/", "/nothing"] {
        let lines = format!("\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
        wire.send(get(&server, target).replacen("\r\n\r\n", &lines, 1));
        wire.reply();
    }
    wire.send(ping(&server, 7));
    assert_eq!(wire.reply().json()["id"], 7);
    assert!(backend.requests().is_empty());
}

// ---- How large it may be ----

#[test]
fn a_huge_content_length_is_refused_before_a_byte_of_the_body_is_sent() {
    let server = start();
    for length in [
        "4194305",
        "100000000000",
        "9223372036854775807",
        "18446744073709551615",
    ] {
        for lines in ["", "Expect: 100-continue\r\n"] {
            let head = post(&server, &format!("{lines}Content-Length: {length}"), "");
            assert_eq!(refused(&server, &head), 413, "{length}");
            // The path and whoever asks make no difference.
            let elsewhere =
                head.replacen("/mcp", "/nothing", 1)
                    .replacen(&server.address(), "evil.example", 1);
            assert_eq!(refused(&server, elsewhere), 413, "{length}");
        }
    }
    assert_serves(&server);
}

#[test]
fn a_body_of_4_mib_is_taken_and_a_longer_one_refused() {
    let server = start();
    let body = |length: usize| " ".repeat(length - PING.len()) + PING;
    let mut wire = Wire::to(&server);

    wire.send(post(
        &server,
        &format!("Content-Length: {}", 4 * MIB),
        &body(4 * MIB),
    ));
    assert_eq!(wire.reply().status, 200);

    let chunked = |body: &str, size| {
        [
            post(&server, "Transfer-Encoding: chunked", "").as_bytes(),
            &chunks(body.as_bytes(), size),
        ]
        .concat()
    };
    for size in [4 * MIB, 100_000] {
        wire.send(chunked(&body(4 * MIB), size));
        assert_eq!(wire.reply().status, 200, "chunks of {size}");
    }
    for size in [4 * MIB + 1, 100_000] {
        assert_eq!(
            refused(&server, chunked(&body(4 * MIB + 1), size)),
            413,
            "chunks of {size}"
        );
    }
    assert_serves(&server);
}

/// Who is not let in does not fill the memory first.
#[test]
fn a_large_body_is_waited_for_only_from_who_is_let_in() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("SERVER_ACCESS_KEY", KEY)
        .start();
    let (key, large) = (
        format!("Authorization: Bearer {KEY}\r\n"),
        format!("Content-Length: {}", 64 * KIB + 1),
    );
    let elsewhere =
        |path: &str| post(&server, &format!("{key}{large}"), "").replacen("/mcp", path, 1);
    for (head, status) in [
        (post(&server, &large, ""), 401),
        (
            post(&server, &format!("Expect: 100-continue\r\n{large}"), ""),
            401,
        ),
        (
            post(
                &server,
                &format!("{key}Origin: https://evil.example\r\n{large}"),
                "",
            ),
            403,
        ),
        (
            post(&server, &format!("{key}{large}"), "").replacen(
                &server.address(),
                "evil.example",
                1,
            ),
            403,
        ),
        (elsewhere("/nothing"), 404),
        (elsewhere("/auth/status"), 405),
        (elsewhere("/auth/key"), 403),
    ] {
        let received = raw(&server.address(), head.as_bytes());
        assert_eq!(statuses(&received), [status], "{head}");
        assert!(
            String::from_utf8_lossy(&received).contains("\r\nConnection: close\r\n"),
            "{head}"
        );
    }
    let endless = post(
        &server,
        "Transfer-Encoding: chunked",
        &format!("10001\r\n{}\r\n", " ".repeat(64 * KIB + 1)),
    );
    assert_eq!(statuses(&raw(&server.address(), endless.as_bytes())), [401]);
    // Who sends it all the same still gets to read why.
    let whole = post(
        &server,
        &format!("Content-Length: {}", 2 * MIB),
        &" ".repeat(2 * MIB),
    );
    assert_eq!(statuses(&raw(&server.address(), whole.as_bytes())), [401]);
    let body = " ".repeat(64 * KIB) + PING;
    let mut wire = Wire::to(&server);
    wire.send(post(
        &server,
        &format!("{key}Content-Length: {}", body.len()),
        &body,
    ));
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn how_long_a_body_may_be_can_be_set() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("MAX_REQUEST_BYTES", "100000")
        .start();
    let body = |length: usize| " ".repeat(length - PING.len()) + PING;
    let mut wire = Wire::to(&server);
    wire.send(post(&server, "Content-Length: 100000", &body(100_000)));
    assert_eq!(wire.reply().status, 200);
    for length in ["100001", "100000000000", "99999999999999999999999999"] {
        assert_eq!(
            refused(
                &server,
                post(&server, &format!("Content-Length: {length}"), "")
            ),
            413,
            "{length}"
        );
    }
    let coded = chunks(body(100_001).as_bytes(), 70_000);
    assert_eq!(
        refused(
            &server,
            [
                post(&server, "Transfer-Encoding: chunked", "").as_bytes(),
                &coded
            ]
            .concat()
        ),
        413
    );
}

#[test]
fn a_body_without_end_is_cut_off_with_413() {
    let server = start();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(64 * KIB));
    let mut stream = connect(&server.address()).unwrap();
    stream
        .write_all(post(&server, "Transfer-Encoding: chunked", "").as_bytes())
        .unwrap();
    let error = loop {
        if let Err(error) = stream.write_all(chunk.as_bytes()) {
            break error;
        }
    };
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    assert_eq!(statuses(&read_to_close(stream)), [413]);
    assert_serves(&server);
}

#[test]
fn a_head_may_have_16_kib_and_100_fields() {
    let server = start();
    let padded_to = |length: usize| {
        let head = get(&server, "/healthz").replacen("\r\n\r\n", "\r\nX: \r\n\r\n", 1);
        head.replacen("X: ", &format!("X: {}", "x".repeat(length - head.len())), 1)
    };
    let with_fields = |count: usize| {
        get(&server, "/healthz").replacen(
            "\r\n\r\n",
            &format!("{}\r\n\r\n", "\r\nX: y".repeat(count - 1)),
            1,
        )
    };
    let mut wire = Wire::to(&server);
    for head in [
        padded_to(16 * KIB),
        with_fields(100),
        get(&server, &format!("/healthz?{}", "x".repeat(8000))),
    ] {
        wire.send(head);
        assert_eq!(wire.reply().status, 200);
    }
    assert_eq!(refused(&server, padded_to(16 * KIB + 1)), 431);
    assert_eq!(refused(&server, padded_to(200 * KIB)), 431);
    assert_eq!(refused(&server, with_fields(101)), 431);
    assert_eq!(refused(&server, with_fields(2000)), 431);
    assert_eq!(
        refused(&server, get(&server, &format!("/{}", "x".repeat(16 * KIB)))),
        414
    );
    assert_eq!(refused(&server, "x".repeat(200 * KIB)), 414);
    assert_serves(&server);
}

// CASES A10: other programs at localhost have set them.
#[test]
fn a_browser_that_sends_too_many_cookies_gets_a_page_that_says_so() {
    let setup = setup();
    let server = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    let host = authority(&server.url()).to_owned();
    let ask = |lines: &str| {
        let head = format!("GET /auth/login HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n");
        let received = String::from_utf8(raw(&host, head.as_bytes())).unwrap();
        let (head, body) = received.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
        (head.to_owned(), body.to_owned())
    };
    let accept = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let cookies =
        |bytes: usize| format!("Cookie: theirs={}\r\n", "s3cret-c00kie".repeat(bytes / 13));
    let many = cookies(16 * KIB);
    for lines in [
        format!("{accept}{many}"),
        format!("{accept}{many}Sec-Fetch-Mode: navigate\r\n"),
        format!("ACCEPT: Text/HTML\r\ncookie: a=b\r\n{many}"),
        format!("{accept}{}", cookies(9 * KIB).repeat(2)),
        format!("{accept}{}", cookies(200 * KIB)),
    ] {
        let (head, page) = ask(&lines);
        assert!(
            head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nContent-Security-Policy: "), "{head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(page.contains("cookies of localhost"), "{page}");
        assert!(page.contains("private window"), "{page}");
        assert!(!page.contains("s3cret"), "{page}");
    }
    let told = |log: &str| log.matches("cookies").count();
    let log = server.log();
    assert_eq!(told(&log), 5, "{log}");
    assert!(!log.contains("s3cret"), "{log}");

    // Other clients, and heads that are too long for another reason.
    let padding = format!("X: {}\r\n", "x".repeat(16 * KIB));
    for lines in [
        many.clone(),
        format!("Accept: */*\r\n{many}"),
        format!("Accept: application/json, text/event-stream\r\n{many}"),
        format!("{accept}{padding}"),
        format!("{accept}Cookie: a=b\r\n{padding}"),
    ] {
        let (head, body) = ask(&lines);
        assert!(
            head.contains("\r\nContent-Type: application/json\r\n"),
            "{head}"
        );
        assert_eq!(body, r#"{"error":"The request head is too long."}"#);
    }
    let log = server.log();
    assert_eq!(told(&log), 5, "{log}");
    assert_eq!(server.client().get("/healthz").status, 200);
}

// ---- How slow it may be ----

/// Sends `start`, then `more` again and again, a little at a time, until the server closes.
fn trickle(server: &Running, start: &str, more: &str) -> Vec<u8> {
    let mut stream = connect(&server.address()).unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .unwrap();
    let begun = Instant::now();
    let mut received = Vec::new();
    loop {
        assert!(begun.elapsed() < PATIENCE, "the server waits for ever");
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return received,
            Ok(count) => received.extend(&bytes[..count]),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                let _ = stream.write_all(more.as_bytes()); // the server may have had enough meanwhile
            }
            Err(_) => return received,
        }
    }
}

#[test]
fn a_head_that_takes_too_long_is_ended_however_steadily_it_trickles() {
    let server = setup().limits(|limits| limits.head = SOON).start();
    let begun = get(&server, "/healthz").replacen("\r\n\r\n", "\r\nX: ", 1);
    assert_eq!(refused(&server, &begun), 408);
    assert_eq!(refused(&server, "G"), 408);
    assert_eq!(statuses(&trickle(&server, &begun, "x")), [408]);
    assert_eq!(statuses(&trickle(&server, "", "x")), [408]);

    // The second head of a connection is under the same rule.
    let mut wire = Wire::to(&server);
    wire.send(get(&server, "/healthz") + &begun);
    assert_eq!(wire.reply().status, 200);
    assert_eq!(statuses(&wire.rest()), [408]);
    assert_serves(&server);
}

#[test]
fn a_body_that_takes_too_long_is_ended_however_steadily_it_trickles() {
    let server = setup().limits(|limits| limits.body = SOON).start();
    let cases = [
        ("Content-Length: 1000000", "", ""),
        ("Content-Length: 1000000", "{", " "),
        ("Transfer-Encoding: chunked", "", ""),
        ("Transfer-Encoding: chunked", "5\r\nhel", ""),
        ("Transfer-Encoding: chunked", "", "1\r\n \r\n"),
        ("Transfer-Encoding: chunked", "1\r\n \r\n0\r\n", ""),
    ];
    let server = &server;
    thread::scope(|scope| {
        for (lines, body, more) in cases {
            scope.spawn(move || {
                let received = trickle(server, &post(server, lines, body), more);
                assert_eq!(statuses(&received), [408], "{lines} {body:?} {more:?}");
            });
        }
    });
    let waits_for_leave = post(server, "Expect: 100-continue\r\nContent-Length: 9", "");
    assert_eq!(
        statuses(&raw(&server.address(), waits_for_leave.as_bytes())),
        [100, 408]
    );
    assert_serves(server);
}

#[test]
fn a_connection_that_stays_idle_is_closed_without_a_word() {
    // By the thread that it has come to when it went quiet.
    let times = |limits: &mut Limits| (limits.quiet, limits.idle) = (SOON, 5 * SOON);
    let server = setup().limits(times).start();
    let silent = Wire::to(&server);
    let mut wire = Wire::to(&server);
    wire.send(get(&server, "/healthz"));
    assert_eq!(wire.reply().status, 200);
    assert_eq!(wire.rest(), b"");
    assert_eq!(silent.rest(), b"");
}

#[test]
fn a_connection_that_has_gone_quiet_is_still_served() {
    let quiet = Duration::from_millis(1);
    let server = setup().limits(|limits| limits.quiet = quiet).start();
    let [mut lively, mut wire] = [Wire::to(&server), Wire::to(&server)];
    for _ in 0..3 {
        let begun = Instant::now();
        while begun.elapsed() < quiet * 50 {
            use_once(&server, &mut lively);
        }
        use_once(&server, &mut wire);
    }
}

#[test]
fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let server = setup().limits(|limits| limits.answer = SOON).start();
    let list = post_message(
        &server,
        &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    );
    let mut stream = connect(&server.address()).unwrap();
    // The answers fill every buffer; then the server reads no more, and in the end gives up.
    let error = loop {
        if let Err(error) = stream.write_all(list.as_bytes()) {
            break error;
        }
    };
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    assert_serves(&server);
}

// ---- Who keeps a connection ----

#[test]
fn many_connections_at_once_are_all_served() {
    let server = start();
    let mut wires: Vec<Wire> = (0..100).map(|_| Wire::to(&server)).collect();
    for round in 0..3 {
        for (id, wire) in wires.iter_mut().enumerate() {
            wire.send(ping(&server, id));
        }
        for (id, wire) in wires.iter_mut().enumerate().rev() {
            assert_eq!(wire.reply().json()["id"], id, "round {round}");
        }
    }
}

#[test]
fn clients_that_vanish_at_any_point_do_no_harm() {
    // Three hundred come; a place that one of them kept would soon be missed.
    let server = setup().limits(|limits| limits.connections = 4).start();
    let whole = get(&server, "/healthz");
    let half_body = post(&server, "Content-Length: 1000", "{");
    let half_chunk = post(&server, "Transfer-Encoding: chunked", "9\r\nhel");
    for begun in ["", "G", &whole[..20], &half_body, &half_chunk] {
        for _ in 0..20 {
            drop(
                connect(&server.address())
                    .map(|mut stream| stream.write_all(begun.as_bytes()))
                    .unwrap(),
            );
            assert_eq!(
                raw_then_eof(&server.address(), begun.as_bytes()),
                b"",
                "{begun:?}"
            );
            let mut wire = Wire::to(&server);
            wire.send(whole.clone() + begun);
            wire.reset();
        }
    }
    assert_serves(&server);
}

#[test]
fn a_client_that_resets_while_its_request_is_in_flight_does_no_harm() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hold = backend.hold();
    for in_flight in 1..=8 {
        let mut wire = Wire::to(&server);
        wire.send(get(&server, "/healthz") + &call(&server, "/slow"));
        hold.wait_for_arrivals(in_flight);
        wire.reset();
    }
    assert_serves(&server);
    drop(hold);
    assert_serves(&server);
}

#[test]
fn a_client_that_says_it_sends_no_more_still_gets_its_answers() {
    let server = start();
    let received = raw_then_eof(
        &server.address(),
        (get(&server, "/healthz") + &ping(&server, 1)).as_bytes(),
    );
    assert_eq!(statuses(&received), [200, 200]);
}

fn use_once(server: &Running, wire: &mut Wire) {
    wire.send(get(server, "/healthz"));
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn at_the_cap_the_connection_that_is_idle_longest_makes_room() {
    let server = setup().limits(|limits| limits.connections = 3).start();
    let mut wires = [Wire::to(&server), Wire::to(&server), Wire::to(&server)];
    // They are accepted in order: with the last, all are.
    use_once(&server, &mut wires[2]);
    use_once(&server, &mut wires[0]);
    let mut newcomer = Wire::to(&server);
    use_once(&server, &mut newcomer);

    let [first, longest_idle, last] = wires;
    assert_eq!(longest_idle.rest(), b"");
    for mut wire in [first, last, newcomer] {
        use_once(&server, &mut wire);
    }
}

#[test]
fn connections_with_half_a_head_make_room() {
    let server = setup().limits(|limits| limits.connections = 2).start();
    let half_open = ["GET /he", "GET /healthz HTTP/1.1\r\nX: "].map(|begun| {
        let mut wire = Wire::to(&server);
        wire.send(begun);
        wire
    });
    let mut first = Wire::to(&server);
    use_once(&server, &mut first);
    let mut second = Wire::to(&server);
    use_once(&server, &mut second);
    use_once(&server, &mut first);
    for wire in half_open {
        assert_eq!(wire.rest(), b"");
    }
}

#[test]
fn connections_that_withhold_their_bodies_make_room() {
    let server = setup().limits(|limits| limits.connections = 2).start();
    let withheld = ["Content-Length: 9", "Transfer-Encoding: chunked"].map(|lines| {
        let mut wire = Wire::to(&server);
        wire.send(post(
            &server,
            &format!("Expect: 100-continue\r\n{lines}"),
            "",
        ));
        assert!(wire.head().starts_with("HTTP/1.1 100 "));
        wire
    });
    assert_serves(&server);
    drop(withheld);
}

#[test]
fn a_flood_of_idle_connections_locks_nobody_out() {
    let server = setup().limits(|limits| limits.connections = 8).start();
    let flood: Vec<Wire> = (0..100).map(|_| Wire::to(&server)).collect();
    assert_serves(&server);
    let request = get(&server, "/healthz");
    let is_open = |wire: Wire| {
        let mut stream = wire.0.into_inner();
        stream.write_all(request.as_bytes()).is_ok()
            && stream.read(&mut [0]).is_ok_and(|count| count > 0)
    };
    assert!(flood.into_iter().map(is_open).filter(|open| *open).count() <= 8);
}

/// What they ask for does not fit into the buffers between them and the server.
#[test]
fn clients_that_leave_their_answers_unread_lock_nobody_out() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|limits| limits.connections = 2);
    backend.on(|_| Some(Reply::new(200, "text/plain", vec![b'x'; 15 * 1024 * 1024]).into()));
    let mut greedy = [Wire::to(&server), Wire::to(&server)];
    for wire in &mut greedy {
        wire.send(call(&server, "/large"));
        // The head has come, so the answer is being written.
        assert_eq!(wire.0.fill_buf().unwrap().first(), Some(&b'H'));
    }
    let start = Instant::now();
    while server
        .client()
        .try_request("GET", "/healthz", &[], b"")
        .map_or(503, |reply| reply.status)
        != 200
    {
        assert!(start.elapsed() < PATIENCE, "no place becomes free");
    }
}

#[test]
fn a_request_in_hand_is_never_given_up_and_with_nothing_idle_newcomers_are_told_to_come_back() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|limits| limits.connections = 2);
    let hold = backend.hold();
    let mut in_hand = [Wire::to(&server), Wire::to(&server)];
    for wire in &mut in_hand {
        wire.send(call(&server, "/slow"));
    }
    hold.wait_for_arrivals(2);

    for _ in 0..50 {
        // One client sends at once, the other waits to hear first.
        let busy = server.client().get("/healthz");
        assert_eq!((busy.status, busy.header("Retry-After")), (503, Some("1")));
        assert!(busy.json()["error"].is_string());
        assert_eq!(refused(&server, ""), 503);
    }
    // A crowd is told, too.
    let crowd: Vec<Wire> = (0..100).map(|_| Wire::to(&server)).collect();
    for wire in crowd {
        assert_eq!(statuses(&wire.rest()), [503]);
    }

    drop(hold);
    for wire in &mut in_hand {
        assert_eq!(
            wire.reply().json()["result"]["structuredContent"]["data"],
            json!({"slow": true})
        );
    }
    assert_serves_at_last(&server);
}

#[test]
fn an_idle_connection_makes_room_beside_a_request_in_hand() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|limits| limits.connections = 2);
    let hold = backend.hold();
    let mut in_hand = Wire::to(&server);
    in_hand.send(call(&server, "/slow"));
    hold.wait_for_arrivals(1);
    let idle = Wire::to(&server);

    use_once(&server, &mut Wire::to(&server));
    assert_eq!(idle.rest(), b"");

    drop(hold);
    assert_eq!(in_hand.reply().status, 200);
}

#[test]
fn the_place_of_a_client_that_left_a_stream_becomes_free() {
    let server = setup()
        .limits(|limits| {
            limits.connections = 1;
            limits.silence = SOON;
        })
        .start();
    let mut mcp = server.modern();
    mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let arguments = json!({"user_id": ADA, "wait_seconds": 120});
    let (head, stream) = mcp.open(
        "tools/call",
        json!({"name": "check_auth_status", "arguments": arguments}),
    );
    assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
    assert_eq!(server.client().get("/healthz").status, 503);
    drop(stream);
    assert_serves_at_last(&server);
}

#[test]
fn a_connection_is_kept_after_an_answer_to_a_well_formed_request() {
    let server = start();
    let mut client = server.client();
    for (method, target, headers, status) in [
        ("GET", "/healthz", &[][..], 200),
        ("HEAD", "/healthz", &[], 200),
        ("GET", "/nothing", &[], 404),
        ("HEAD", "/nothing", &[], 404),
        ("DELETE", "/healthz", &[], 405),
        ("HEAD", "/mcp", &[], 405),
        ("OPTIONS", "/mcp", &[], 204),
        ("POST", "/mcp", &[("Content-Type", "text/plain")], 415),
        ("GET", "/", &[("Host", "evil.example")], 403),
        ("GET", "/", &[("Origin", "https://evil.example")], 403),
        ("GET", "/auth/login", &[], 200),
        ("GET", "/auth/login", &TYPED, 302),
    ] {
        let reply = client.request(method, target, headers, b"");
        assert_eq!(
            (reply.status, client.is_connected()),
            (status, true),
            "{method} {target}"
        );
        assert_eq!(reply.header("Connection"), None, "{method} {target}");
    }
}

#[test]
fn a_connection_ends_with_the_request_that_says_so() {
    let server = start();
    for line in [
        "close",
        "Close",
        "keep-alive, close",
        "x , CLOSE ,y",
        "x\r\nConnection: close",
    ] {
        let request = get(&server, "/healthz").replacen(
            "\r\n\r\n",
            &format!("\r\nConnection: {line}\r\n\r\n"),
            1,
        );
        let received = raw(&server.address(), (request + &ping(&server, 1)).as_bytes());
        assert_eq!(statuses(&received), [200], "{line:?}");
        assert!(
            String::from_utf8_lossy(&received).contains("\r\nConnection: close\r\n"),
            "{line:?}"
        );
    }
}

#[test]
fn http_1_0_is_answered_and_the_connection_closed() {
    let server = start();
    let old = |request: String| request.replacen("HTTP/1.1", "HTTP/1.0", 1);
    let kept =
        get(&server, "/healthz").replacen("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n", 1);
    // RFC 9110 §10.1.1: such a client cannot expect a 100.
    let expects = post(
        &server,
        &format!("Expect: 100-continue\r\nContent-Length: {}", PING.len()),
        PING,
    );
    for request in [get(&server, "/healthz"), kept, ping(&server, 1), expects] {
        let received = raw(&server.address(), old(request).as_bytes());
        assert_eq!(statuses(&received), [200]);
        assert!(String::from_utf8_lossy(&received).contains("\r\nConnection: close\r\n"));
    }
}

#[test]
fn a_stream_to_http_1_0_lasts_until_the_connection_ends() {
    let server = start();
    let mut mcp = server.modern();
    let body = mcp.body("subscriptions/listen", json!({"notifications": {}}));
    let headers = mcp.headers("subscriptions/listen", None);
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    // Some old clients send an empty line behind a body (RFC 9112 §2.2); left unread, it would reset the connection.
    let rest = format!(
        "Host: {}\r\nContent-Length: {}\r\n\r\n{body}\r\n",
        server.address(),
        body.len()
    );
    let mut wire = Wire::to(&server);
    wire.send(format!("POST /mcp HTTP/1.0\r\n{}{rest}", lines.concat()));
    let head = wire.head();
    assert!(
        head.contains("\r\nContent-Type: text/event-stream\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\nConnection: close\r\n") && !head.contains("\r\nTransfer-Encoding:"),
        "{head}"
    );
    server.server.stop();
    let mut received = Vec::new();
    wire.0.read_to_end(&mut received).unwrap();
    assert!(received.starts_with(b"event: message\ndata: {"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let SignedIn {
        server,
        backend,
        _entra,
    } = signed_in(|_| {});
    let hold = backend.hold();
    let mut wire = Wire::to(&server);
    let chunked = String::from_utf8(chunks(PING.as_bytes(), 7)).unwrap();
    wire.send(
        [
            call(&server, "/slow"),
            ping(&server, 2),
            get(&server, "/healthz"),
            get(&server, "/nothing"),
            get(&server, "/healthz").replacen("GET", "HEAD", 1),
            post(&server, "Transfer-Encoding: chunked", &chunked),
            ping(&server, 3),
        ]
        .concat(),
    );
    hold.wait_for_arrivals(1);
    drop(hold);
    assert_eq!(
        wire.reply().json()["result"]["structuredContent"]["data"],
        json!({"slow": true})
    );
    assert_eq!(wire.reply().json()["id"], 2);
    assert_eq!(wire.reply().json()["status"], "ok");
    assert_eq!(wire.reply().status, 404);
    assert!(wire.head().starts_with("HTTP/1.1 200 "));
    assert_eq!(wire.reply().json()["id"], 1);
    assert_eq!(wire.reply().json()["id"], 3);

    // A thousand of them in one go.
    wire.send((0..1000).map(|id| ping(&server, id)).collect::<String>());
    for id in 0..1000 {
        assert_eq!(wire.reply().json()["id"], id);
    }
}

// ---- Expect (RFC 9110 §10.1.1) ----

#[test]
fn leave_to_send_a_body_is_given_where_the_body_is_missing() {
    let server = start();
    let mut wire = Wire::to(&server);
    let length = format!("Content-Length: {}", PING.len());
    let chunked = String::from_utf8(chunks(PING.as_bytes(), 16)).unwrap();
    for (lines, body) in [
        (length.as_str(), PING),
        ("Transfer-Encoding: chunked", &chunked),
    ] {
        for expect in ["Expect: 100-continue", "expect: 100-Continue"] {
            let head = post(&server, &format!("{expect}\r\n{lines}"), "");
            wire.send(&head);
            assert_eq!(wire.head(), "HTTP/1.1 100 Continue\r\n\r\n", "{head:?}");
            wire.send(body);
            assert_eq!(wire.reply().status, 200);

            wire.send(head + body);
            assert_eq!(wire.reply().status, 200);
        }
    }
    wire.send(get(&server, "/healthz").replacen("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1));
    assert_eq!(wire.reply().status, 200);
}

#[test]
fn any_other_expectation_fails() {
    let server = start();
    for expect in [
        "200-ok",
        "100-continue, 200-ok",
        "100-continue\r\nExpect: 200-ok",
    ] {
        let lines = format!("Expect: {expect}\r\nContent-Length: {}", PING.len());
        assert_eq!(
            refused(&server, post(&server, &lines, PING)),
            417,
            "{expect}"
        );
    }
    assert_serves(&server);
}

// ---- Targets and methods ----

#[test]
fn the_target_may_be_absolute() {
    let server = start();
    let mut wire = Wire::to(&server);
    let host = server.address();
    for (target, contains) in [
        (format!("http://{host}/healthz"), "\"ok\""),
        (format!("HTTP://{host}/healthz?a=b"), "\"ok\""),
        (format!("http://{host}/"), "<html"),
        // An empty path is the same as "/" (RFC 9110 §4.2.3).
        (format!("http://{host}"), "<html"),
        (format!("http://{host}?a=b"), "<html"),
    ] {
        wire.send(get(&server, &target));
        let reply = wire.reply();
        assert_eq!(reply.status, 200, "{target}");
        assert!(
            reply.text().contains(contains),
            "{target}: {}",
            reply.text()
        );
    }
}

/// Every path with what it takes.
const PATHS: [(&str, &[&str]); 9] = [
    ("/", &["GET", "HEAD"]),
    ("/healthz", &["GET", "HEAD"]),
    ("/mcp", &["POST"]),
    // A HEAD would use up what a GET uses up.
    ("/auth/login", &["GET"]),
    ("/auth/callback", &["GET", "POST"]),
    ("/auth/complete", &["GET"]),
    ("/auth/logout", &["GET"]),
    ("/auth/logout-complete", &["GET", "HEAD"]),
    ("/auth/status", &["GET", "HEAD"]),
];
const METHODS: [&str; 10] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "X-UNKNOWN",
];

fn allowed(reply: &Reply) -> BTreeSet<&str> {
    reply.header("Allow").expect("Allow").split(", ").collect()
}

#[test]
fn each_path_takes_its_methods_and_names_them_otherwise() {
    let server = start();
    let mut client = server.client();
    for (path, methods) in PATHS {
        let with_options: BTreeSet<&str> = methods.iter().copied().chain(["OPTIONS"]).collect();
        for method in METHODS {
            let reply = client.request(method, path, &[], b"");
            match reply.status {
                204 => assert_eq!(
                    (method, allowed(&reply)),
                    ("OPTIONS", with_options.clone()),
                    "{path}"
                ),
                405 => {
                    assert!(!with_options.contains(method), "{method} {path}");
                    assert_eq!(allowed(&reply), with_options, "{method} {path}");
                }
                status => assert!(
                    methods.contains(&method) && status != 404,
                    "{method} {path}: {status}"
                ),
            }
        }
    }
}

#[test]
fn in_response_mode_query_the_callback_takes_get_alone() {
    let server = setup().with("AUTH_RESPONSE_MODE", "query").start();
    let reply = server
        .client()
        .request("POST", "/auth/callback", &[], b"code=x&state=y");
    assert_eq!(
        (reply.status, allowed(&reply)),
        (405, BTreeSet::from(["GET", "OPTIONS"]))
    );
}

#[test]
fn there_is_nothing_at_any_other_path() {
    let server = start();
    let mut client = server.client();
    for path in [
        "/nothing",
        "/mcp//",
        "/mcp/x",
        "/MCP",
        "//mcp",
        "/%6dcp",
        "/mcp;x",
        "/auth",
        "/auth/",
        "/healthz/x",
        "/.env",
    ] {
        for method in METHODS {
            assert_eq!(
                client.request(method, path, &[], b"").status,
                404,
                "{method} {path}"
            );
        }
    }
}

#[test]
fn options_for_the_whole_server_is_answered() {
    let server = start();
    let reply = server.client().request("OPTIONS", "*", &[], b"");
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert!(allowed(&reply).contains("OPTIONS"));
}

#[test]
fn an_answer_without_content_has_no_content_length() {
    // RFC 9110 §8.6.
    let server = start();
    for target in ["*", "/mcp", "/healthz"] {
        let reply = server.client().request("OPTIONS", target, &[], b"");
        assert_eq!(
            (reply.status, reply.header("Content-Length")),
            (204, None),
            "{target}"
        );
        assert_eq!(reply.header("Transfer-Encoding"), None, "{target}");
    }
}

#[test]
fn head_is_get_without_the_body() {
    let server = start();
    for (path, methods) in PATHS {
        if !methods.contains(&"HEAD") {
            continue;
        }
        let same = |reply: &Reply| {
            let fields = reply
                .headers
                .iter()
                .filter(|(name, _)| name != "Date")
                .cloned();
            (reply.status, fields.collect::<BTreeSet<_>>())
        };
        let get = server.client().get(path);
        assert_eq!(
            get.header("Content-Length"),
            Some(get.body.len().to_string().as_str())
        );
        assert_eq!(
            same(&server.client().request("HEAD", path, &[], b"")),
            same(&get),
            "{path}"
        );
    }
    // Refusals have no body either, or the next answer would begin within it.
    let mut wire = Wire::to(&server);
    for target in ["/healthz", "/nothing", "/mcp", "/auth/login"] {
        wire.send(get(&server, target).replacen("GET", "HEAD", 1) + &ping(&server, 4));
        assert!(wire.head().starts_with("HTTP/1.1 "), "{target}");
        assert_eq!(wire.reply().json()["id"], 4, "{target}");
    }
}

#[test]
fn a_post_to_mcp_that_is_no_json_is_415() {
    let server = start();
    // What a web page may send without asking first (Fetch standard, CORS-safelisted).
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
    ] {
        let headers = [("Content-Type", media_type), MEDIA_TYPES[1]];
        let reply = server
            .client()
            .request("POST", "/mcp", &headers, PING.as_bytes());
        assert_eq!(reply.status, 415, "{media_type}");
    }
    assert_eq!(
        server
            .client()
            .request("POST", "/mcp", &MEDIA_TYPES[1..], PING.as_bytes())
            .status,
        415
    );
    assert_eq!(
        server
            .client()
            .request("POST", "/mcp", &MEDIA_TYPES, PING.as_bytes())
            .status,
        200
    );
}

// ---- Whose requests are refused ----

fn from_host(server: &Running, host: &str) -> Reply {
    server
        .client()
        .request("GET", "/healthz", &[("Host", host)], b"")
}

fn assert_refused(reply: &Reply, rejected: &str, setting: &str) {
    assert_eq!(reply.status, 403, "{rejected}");
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    let body = reply.json();
    assert_eq!(
        (&body["rejected"], &body["setting"]),
        (&json!(rejected), &json!(setting))
    );
    assert!(
        reply
            .headers
            .iter()
            .all(|(name, _)| !name.to_lowercase().starts_with("access-control-")),
        "{rejected}"
    );
}

#[test]
fn the_loopback_names_are_answered_at_our_port_alone() {
    let server = start();
    let port = server.server.port();
    for name in ["localhost", "LocalHost", "127.0.0.1", "[::1]"] {
        assert_eq!(
            from_host(&server, &format!("{name}:{port}")).status,
            200,
            "{name}"
        );
        let other_port = port ^ 1;
        for host in [
            name.to_owned(),
            format!("{name}:"),
            format!("{name}:80"),
            format!("{name}:{other_port}"),
        ] {
            assert_refused(&from_host(&server, &host), &host, "ALLOWED_HOSTS");
        }
    }
    for name in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "localhost.",
        "127.0.0.2",
        "2130706433",
        "127.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "::1",
    ] {
        let host = format!("{name}:{port}");
        assert_refused(&from_host(&server, &host), &host, "ALLOWED_HOSTS");
    }
}

#[test]
fn a_port_is_digits() {
    let server = start();
    let port = server.server.port();
    for port in [
        format!("+{port}"),
        format!("{port}x"),
        format!("-{port}"),
        format!("{port}:{port}"),
        "65537".into(),
    ] {
        let host = format!("localhost:{port}");
        assert!(
            matches!(from_host(&server, &host).status, 400 | 403),
            "{host}"
        );
    }
}

#[test]
fn the_host_of_the_redirect_uri_is_answered() {
    for (redirect_uri, fine, refused) in [
        (
            "https://mcp.contoso.example/auth/callback",
            &[
                "mcp.contoso.example",
                "mcp.contoso.example:443",
                "MCP.contoso.example",
            ][..],
            &[
                "mcp.contoso.example:80",
                "mcp.contoso.example:8000",
                "contoso.example",
            ][..],
        ),
        (
            "https://mcp.contoso.example:8443/cb",
            &["mcp.contoso.example:8443"],
            &["mcp.contoso.example"],
        ),
        // A published port of a container.
        (
            "http://localhost:9999/auth/callback",
            &["localhost:9999"],
            &["localhost:9998", "127.0.0.1:9999"],
        ),
        (
            "http://localhost/auth/callback",
            &["localhost", "localhost:80"],
            &["localhost:443"],
        ),
    ] {
        let server = setup().with("REDIRECT_URI", redirect_uri).start();
        assert_serves(&server);
        for host in fine {
            assert_eq!(
                from_host(&server, host).status,
                200,
                "{host} with {redirect_uri}"
            );
        }
        for host in refused {
            assert_refused(&from_host(&server, host), host, "ALLOWED_HOSTS");
        }
    }
}

#[test]
fn allowed_hosts_are_answered_with_their_port_or_with_any() {
    let allowed = "any.example, Fixed.Example:8443 plain.example:80,[2001:db8::1],192.0.2.7:8000";
    let server = setup().with("ALLOWED_HOSTS", allowed).start();
    for host in [
        "any.example",
        "ANY.example",
        "any.example:80",
        "any.example:12345",
        "fixed.example:8443",
        "plain.example",
        "plain.example:80",
        "[2001:db8::1]",
        "[2001:db8::1]:8000",
        "192.0.2.7:8000",
    ] {
        assert_eq!(from_host(&server, host).status, 200, "{host}");
    }
    for host in [
        "fixed.example",
        "fixed.example:443",
        "plain.example:8080",
        "sub.any.example",
        "any.example.evil.example",
        "[2001:db8::2]",
        "192.0.2.7",
    ] {
        assert_refused(&from_host(&server, host), host, "ALLOWED_HOSTS");
    }
    assert_serves(&server);
}

#[test]
fn the_host_rule_holds_for_every_path_and_method() {
    let server = start();
    let mut client = server.client();
    let hosts = [("Host", "evil.example:80")];
    for path in PATHS.map(|(path, _)| path).into_iter().chain(["/nothing"]) {
        for method in METHODS {
            let reply = client.request(method, path, &hosts, b"");
            assert_eq!(reply.status, 403, "{method} {path}");
            assert!(
                method == "HEAD" || reply.json()["rejected"] == "evil.example:80",
                "{method} {path}"
            );
        }
    }
    assert_eq!(client.request("OPTIONS", "*", &hosts, b"").status, 403);
    let preflight = [hosts[0], ("Access-Control-Request-Method", "POST")];
    assert_refused(
        &client.request("OPTIONS", "/mcp", &preflight, b""),
        "evil.example:80",
        "ALLOWED_HOSTS",
    );
}

fn ping_from(server: &Running, origins: &[&str]) -> Reply {
    let mut headers = MEDIA_TYPES.to_vec();
    headers.extend(origins.iter().map(|origin| ("Origin", *origin)));
    server
        .client()
        .request("POST", "/mcp", &headers, PING.as_bytes())
}

#[test]
fn our_own_origins_are_answered_and_need_no_cors() {
    let server = setup()
        .with("REDIRECT_URI", "https://mcp.contoso.example/auth/callback")
        .start();
    let port = server.server.port();
    for origin in [
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}"),
        format!("http://[::1]:{port}"),
        "https://mcp.contoso.example".to_owned(),
    ] {
        let reply = ping_from(&server, &[&origin]);
        assert_eq!(
            (reply.status, reply.header("Access-Control-Allow-Origin")),
            (200, None),
            "{origin}"
        );
    }
}

#[test]
fn a_foreign_origin_is_refused() {
    let server = setup()
        .with("ALLOWED_ORIGINS", "https://app.contoso.example")
        .start();
    let port = server.server.port();
    for origin in [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        "*".to_owned(),
        String::new(),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("https://localhost:{port}"),
        format!("http://localhost:{port}/"),
        format!("http://localhost:{port}.evil.example"),
        format!("http://localhost:{port} https://evil.example"),
        "http://app.contoso.example".to_owned(),
        "https://app.contoso.example:8443".to_owned(),
        "https://app.contoso.example.evil.example".to_owned(),
        "https://sub.app.contoso.example".to_owned(),
        "chrome-extension://abcdefghijklmnop".to_owned(),
    ] {
        assert_refused(&ping_from(&server, &[&origin]), &origin, "ALLOWED_ORIGINS");
    }
}

#[test]
fn two_origins_are_refused_whatever_they_are() {
    let allowed = "https://app.contoso.example";
    let server = setup().with("ALLOWED_ORIGINS", allowed).start();
    let own = server.url();
    let evil = "https://evil.example";
    for origins in [
        [own.as_str(), own.as_str()],
        [&own, evil],
        [evil, &own],
        [&own, allowed],
        [allowed, &own],
        [allowed, allowed],
        [allowed, evil],
        [evil, allowed],
    ] {
        let reply = ping_from(&server, &origins);
        assert_eq!(reply.status, 403, "{origins:?}");
        assert_eq!(
            reply.header("Access-Control-Allow-Origin"),
            None,
            "{origins:?}"
        );
    }
}

#[test]
fn an_allowed_origin_may_read_every_answer_of_mcp() {
    let origin = "https://app.contoso.example";
    let server = setup()
        .with(
            "ALLOWED_ORIGINS",
            "https://other.example, HTTPS://APP.Contoso.example/",
        )
        .start();
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
    });
    let json = MEDIA_TYPES[0];
    for (method, headers, body, status) in [
        ("POST", &MEDIA_TYPES[..], PING.to_owned(), 200),
        ("POST", &MEDIA_TYPES, initialize.to_string(), 200),
        ("POST", &MEDIA_TYPES, "{".to_owned(), 400),
        ("POST", &[json], PING.to_owned(), 200),
        (
            "POST",
            &[json, ("Accept", "text/html")],
            PING.to_owned(),
            406,
        ),
        ("POST", &[], PING.to_owned(), 415),
        ("GET", &[], String::new(), 405),
        ("DELETE", &[], String::new(), 405),
    ] {
        let headers: Vec<_> = headers
            .iter()
            .copied()
            .chain([("Origin", origin)])
            .collect();
        let reply = server
            .client()
            .request(method, "/mcp", &headers, body.as_bytes());
        assert_eq!(reply.status, status, "{method} {body}");
        assert_eq!(
            reply.headers_named("Access-Control-Allow-Origin"),
            [origin],
            "{method} {body}"
        );
        assert!(
            reply.headers_named("Vary").contains(&"Origin"),
            "{method} {body}"
        );
        assert_eq!(reply.header("Access-Control-Allow-Credentials"), None);
        let exposed = reply
            .header("Access-Control-Expose-Headers")
            .unwrap_or_default()
            .to_lowercase();
        assert!(
            exposed.split(", ").any(|name| name == "mcp-session-id"),
            "{exposed}"
        );
    }
}

fn preflight(server: &Running, path: &str, origin: &str, headers: &str) -> Reply {
    let headers = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", headers),
    ];
    server.client().request("OPTIONS", path, &headers, b"")
}

#[test]
fn an_allowed_origin_may_send_the_headers_of_mcp_clients() {
    let origin = "https://app.contoso.example";
    let server = setup().with("ALLOWED_ORIGINS", origin).start();
    let wanted = [
        "accept",
        "authorization",
        "content-type",
        "last-event-id",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
    ];
    let reply = preflight(&server, "/mcp", origin, &wanted.join(","));
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(reply.headers_named("Access-Control-Allow-Origin"), [origin]);
    assert!(reply.headers_named("Vary").contains(&"Origin"));
    let listed = |name| reply.header(name).unwrap().to_lowercase();
    let methods = listed("Access-Control-Allow-Methods");
    assert!(
        methods.split(", ").any(|method| method == "post"),
        "{methods}"
    );
    let headers = listed("Access-Control-Allow-Headers");
    for name in wanted {
        assert!(
            headers.split(", ").any(|header| header == name),
            "{name} in {headers}"
        );
    }
}

#[test]
fn nobody_else_gets_leave_to_send() {
    let origin = "https://app.contoso.example";
    let server = setup().with("ALLOWED_ORIGINS", origin).start();
    for foreign in ["https://evil.example", "null"] {
        for path in ["/mcp", "/", "/auth/callback"] {
            assert_refused(
                &preflight(&server, path, foreign, "content-type"),
                foreign,
                "ALLOWED_ORIGINS",
            );
        }
    }
    for (path, origin) in [
        ("/", origin),
        ("/auth/status", origin),
        ("/mcp", server.url().as_str()),
    ] {
        let reply = preflight(&server, path, origin, "content-type");
        assert_eq!(
            reply.header("Access-Control-Allow-Origin"),
            None,
            "{origin} {path}"
        );
        assert_eq!(
            reply.header("Access-Control-Allow-Headers"),
            None,
            "{origin} {path}"
        );
    }
}

#[test]
fn the_origin_rule_holds_everywhere_but_for_the_post_to_the_callback() {
    let origin = "https://login.microsoftonline.com";
    let with_root_callback = setup()
        .with("REDIRECT_URI", "http://localhost:8000")
        .start();
    for (server, callback) in [(start(), "/auth/callback"), (with_root_callback, "/")] {
        let mut client = server.client();
        for origin in [origin, "null"] {
            for path in PATHS.map(|(path, _)| path).into_iter().chain(["/nothing"]) {
                for method in METHODS {
                    let headers = [
                        ("Origin", origin),
                        ("Content-Type", "application/x-www-form-urlencoded"),
                    ];
                    let reply = client.request(method, path, &headers, b"code=c&state=s");
                    let is_exempt = (method, path) == ("POST", callback);
                    // What is let through fails for want of such a sign-in.
                    assert_eq!(
                        reply.status,
                        if is_exempt { 400 } else { 403 },
                        "{origin} {method} {path}"
                    );
                    assert_eq!(
                        reply.header("Access-Control-Allow-Origin"),
                        None,
                        "{origin} {method} {path}"
                    );
                }
            }
        }
        let headers = [("Origin", origin), ("Host", "evil.example:80")];
        let reply = client.request("POST", callback, &headers, b"code=c&state=s");
        assert_refused(&reply, "evil.example:80", "ALLOWED_HOSTS");
    }
}

// ---- What every answer carries ----

/// `name` exactly once, with `value`.
fn assert_has(reply: &Reply, name: &str, value: &str, what: &str) {
    assert_eq!(
        reply.headers_named(name),
        [value],
        "{name} of {what}: {:?}",
        reply.headers
    );
}

fn assert_is_safe(reply: &Reply, what: &str) {
    assert_has(reply, "X-Content-Type-Options", "nosniff", what);
    assert_has(reply, "Referrer-Policy", "no-referrer", what);
    assert_has(reply, "Cache-Control", "no-store", what);
    if reply
        .header("Content-Type")
        .is_some_and(|kind| kind.starts_with("text/html"))
    {
        let policy = reply.headers_named("Content-Security-Policy");
        assert_eq!(policy.len(), 1, "{what}");
        for directive in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(
                policy[0].split("; ").any(|has| has == directive),
                "{what}: {}",
                policy[0]
            );
        }
        assert!(!policy[0].contains("unsafe"), "{what}: {}", policy[0]);
        assert!(!reply.text().contains("<script"), "{what}");
    }
}

#[test]
fn every_kind_of_answer_carries_the_security_headers() {
    let server = setup()
        .with("ALLOWED_ORIGINS", "https://app.contoso.example")
        .start();
    let mut client = server.client();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let asks = ("Access-Control-Request-Method", "POST");
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    for (method, target, headers, body, status) in [
        ("GET", "/", &[][..], "", 200),
        ("HEAD", "/", &[], "", 200),
        ("GET", "/healthz", &[], "", 200),
        ("GET", "/auth/status", &[], "", 200),
        ("GET", "/auth/status?user_id=x", &[], "", 200),
        ("GET", "/auth/login?user_id=x", &TYPED, "", 302),
        ("GET", "/auth/login?user_id=x", &[], "", 200),
        ("GET", "/auth/login?ticket=unknown", &[], "", 400),
        (
            "GET",
            "/auth/login",
            &[("Sec-Fetch-Site", "cross-site")],
            "",
            200,
        ),
        (
            "GET",
            "/auth/logout",
            &[("Sec-Fetch-Site", "cross-site")],
            "",
            403,
        ),
        ("GET", "/auth/logout-complete", &[], "", 200),
        ("GET", "/auth/complete", &[], "", 400),
        ("GET", "/auth/callback?code=c&state=s", &[], "", 303),
        ("GET", "/auth/callback?error=no_answer", &[], "", 400),
        ("POST", "/auth/callback", &[form], "code=c&state=s", 400),
        ("POST", "/mcp", &MEDIA_TYPES, PING, 200),
        ("POST", "/mcp", &MEDIA_TYPES, notification, 202),
        ("POST", "/mcp", &MEDIA_TYPES, "{", 400),
        ("POST", "/mcp", &[], PING, 415),
        ("GET", "/mcp", &[], "", 405),
        ("GET", "/nothing", &[], "", 404),
        ("OPTIONS", "/mcp", &[], "", 204),
        (
            "OPTIONS",
            "/mcp",
            &[asks, ("Origin", "https://app.contoso.example")],
            "",
            204,
        ),
        (
            "OPTIONS",
            "/mcp",
            &[asks, ("Origin", "https://evil.example")],
            "",
            403,
        ),
        ("GET", "/", &[("Origin", "https://evil.example")], "", 403),
        ("GET", "/", &[("Host", "evil.example")], "", 403),
    ] {
        let reply = client.request(method, target, headers, body.as_bytes());
        let what = format!("{method} {target} {headers:?}");
        assert_eq!(reply.status, status, "{what}");
        assert_is_safe(&reply, &what);
    }
}

#[test]
fn a_stream_carries_the_security_headers() {
    let server = setup().limits(|limits| limits.silence = SOON).start();
    let mut mcp = server.modern();
    mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let arguments = json!({"user_id": ADA, "wait_seconds": 120});
    let (head, _stream) = mcp.open(
        "tools/call",
        json!({"name": "check_auth_status", "arguments": arguments}),
    );
    assert_has(&head, "Content-Type", "text/event-stream", "a stream");
    assert_is_safe(&head, "a stream");
}

#[test]
fn refusals_of_the_listener_carry_the_security_headers() {
    let server = setup().limits(|limits| limits.head = SOON).start();
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("G".to_owned(), 408),
        (post(&server, "Content-Length: 100000000000", ""), 413),
        (get(&server, &"x".repeat(16 * KIB)), 414),
        (post(&server, "Expect: x", ""), 417),
        (
            get(&server, "/").replacen("\r\n\r\n", &"\r\nX: y".repeat(200), 1) + "\r\n\r\n",
            431,
        ),
        (post(&server, "Transfer-Encoding: gzip", ""), 501),
        (get(&server, "/").replacen("HTTP/1.1", "HTTP/2.0", 1), 505),
    ] {
        let mut wire = Wire::to(&server);
        wire.send(bytes);
        let reply = wire.reply();
        assert_eq!(reply.status, status);
        assert_is_safe(&reply, &status.to_string());
    }
}

#[test]
fn nothing_that_a_client_sends_becomes_a_line_of_the_answers_head() {
    let server = setup()
        .with("ALLOWED_ORIGINS", "https://app.contoso.example")
        .start();
    let split = "x%0d%0aX-Injected:%20yes%0d%0a%0d%0a";
    let mut replies = Vec::new();
    // At `127.0.0.1` the sign-in page sends the browser to itself at `localhost`, query and all.
    for base in [server.url(), format!("http://{}", server.address())] {
        for (path, _) in PATHS {
            for parameter in [
                "user_id",
                "ticket",
                "sign_in",
                "code",
                "state",
                "error_description",
            ] {
                replies.push(one_shot(
                    "GET",
                    &format!("{base}{path}?{parameter}={split}"),
                    &[],
                    b"",
                ));
            }
        }
    }
    let initialize = json!({
        "jsonrpc": "2.0", "id": "\r\nX-Injected: yes", "method": "initialize",
        "params": {"protocolVersion": "2025-11-25\r\nX-Injected: yes", "capabilities": {}, "clientInfo": {}},
    });
    replies.push(server.client().request(
        "POST",
        "/mcp",
        &MEDIA_TYPES,
        initialize.to_string().as_bytes(),
    ));
    for reply in replies {
        assert_eq!(reply.header("X-Injected"), None);
        let clean = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        assert!(
            reply.headers.iter().all(|(_, value)| clean(value)),
            "{:?}",
            reply.headers
        );
    }
}

#[test]
fn a_redirect_always_says_where_to() {
    let server = start();
    for host in [
        server.address(),
        format!("localhost:{}", server.server.port()),
    ] {
        for target in [
            "/auth/login",
            "/auth/login?user_id=a%20b",
            "/auth/login?user_id=\u{e9}",
            "/auth/login?user_id=\"<>",
        ] {
            let mut headers = TYPED.to_vec();
            headers.push(("Host", &host));
            let reply = server.client().request("GET", target, &headers, b"");
            assert_eq!(
                (reply.status, reply.headers_named("Location").len()),
                (302, 1),
                "{host} {target}"
            );
        }
    }
}

// ---- Where it listens ----

fn has_ipv6_loopback() -> bool {
    let has = TcpListener::bind("[::1]:0").is_ok();
    if !has {
        eprintln!("skipped: this machine has no IPv6 loopback");
    }
    has
}

#[test]
fn localhost_is_both_loopback_families() {
    let server = start();
    let port = server.server.port();
    let mut addresses = vec![format!("127.0.0.1:{port}")];
    if has_ipv6_loopback() {
        addresses.push(format!("[::1]:{port}"));
    }
    for address in addresses {
        assert_eq!(
            one_shot("GET", &format!("http://{address}/healthz"), &[], b"").status,
            200,
            "{address}"
        );
    }
}

/// CASES C10
#[test]
fn where_links_say_localhost_either_loopback_address_brings_the_other() {
    if !has_ipv6_loopback() {
        return;
    }
    for host in ["127.0.0.1", "::1", "0:0:0:0:0:0:0:1"] {
        let server = setup().with("SERVER_HOST", host).start();
        let port = server.server.port();
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            let reply = one_shot("GET", &format!("http://{address}/healthz"), &[], b"");
            assert_eq!(reply.status, 200, "{host}: {address}");
        }
    }
}

/// CASES C10: whoever has the other family would get what browsers send to `localhost`.
#[test]
fn a_port_that_somebody_has_in_either_family_is_not_shared() {
    let families = if has_ipv6_loopback() {
        &["127.0.0.1", "[::1]"][..]
    } else {
        &["127.0.0.1"]
    };
    for family in families {
        let taken = TcpListener::bind(format!("{family}:0")).unwrap();
        let port = taken.local_addr().unwrap().port();
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "::1"] {
            let failure = setup()
                .with("SERVER_HOST", host)
                .with("SERVER_PORT", &port.to_string())
                .try_start()
                .err()
                .expect("a failure")
                .text();
            let address = format!("{family}:{port}");
            assert!(failure.contains(&address), "{host}: {failure}");
            assert!(failure.contains("Another program"), "{host}: {failure}");
            assert!(failure.contains("needs both"), "{host}: {failure}");
            assert!(failure.contains("SERVER_PORT"), "{host}: {failure}");
        }
    }
}

/// CASES C10
#[test]
fn where_links_lead_elsewhere_the_other_family_is_anybodys() {
    if !has_ipv6_loopback() {
        return;
    }
    let taken = TcpListener::bind("[::1]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let elsewhere = port ^ 1;
    for (host, redirect_uri) in [
        (
            "127.0.0.1",
            format!("http://127.0.0.1:{port}/auth/callback"),
        ),
        ("127.0.0.1", "https://mcp.example/auth/callback".to_owned()),
        // Somebody forwards that port to this one.
        (
            "127.0.0.1",
            format!("http://localhost:{elsewhere}/auth/callback"),
        ),
        // As in a container.
        ("0.0.0.0", format!("http://localhost:{port}/auth/callback")),
    ] {
        let server = setup()
            .with("SERVER_HOST", host)
            .with("SERVER_PORT", &port.to_string())
            .with("REDIRECT_URI", &redirect_uri)
            .with("SERVER_ACCESS_KEY", &"k".repeat(32))
            .start();
        let reply = one_shot("GET", &format!("http://127.0.0.1:{port}/healthz"), &[], b"");
        assert_eq!(reply.status, 200, "{host} {redirect_uri}");
        drop(server);
    }
}

#[test]
fn an_address_that_this_machine_lacks_is_named() {
    let failure = setup()
        .with("SERVER_HOST", "192.0.2.1")
        .with("SERVER_ACCESS_KEY", &"k".repeat(32))
        .try_start()
        .err()
        .expect("a failure")
        .text();
    assert!(failure.contains("192.0.2.1:0"), "{failure}");
    assert!(failure.contains("SERVER_HOST"), "{failure}");
}

#[test]
fn a_server_on_every_address_is_reached_and_stops() {
    for host in ["0.0.0.0", "127.0.0.1"] {
        let server = setup()
            .with("SERVER_HOST", host)
            .with("SERVER_ACCESS_KEY", &"k".repeat(32))
            .start();
        assert_serves(&server);
        let address = server.address();
        server.server.stop();
        let start = Instant::now();
        while TcpStream::connect(&address).is_ok() {
            assert!(start.elapsed() < PATIENCE, "{host} still listens");
        }
    }
}

// CASES D5
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_address_space_is_not_reached_by_half_open_heads_or_ends_the_start() {
    use crate::support::server::Verb;

    let setup = setup();
    let program = |kib: usize| {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {kib} && exec \"$0\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_entra-auth-mcp")]);
        command
    };
    let (code, _, log) = Verb::run(program(1_000_000), &setup);
    assert_eq!(code, 1);
    assert!(
        log.contains("address space") && log.contains("ulimit -v"),
        "{log}"
    );

    let words: Vec<&str> = log.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "MiB").unwrap();
    let needed: usize = words[unit - 1].parse().unwrap();
    let mut server = Process::start(program(needed * KIB), &setup);
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(15 * KIB));
    let connections: Vec<_> = (0..280)
        .map(|_| {
            let mut socket = connect(&server.address()).unwrap();
            // It may have been told by now that there is no room.
            let _ = socket.write_all(head.as_bytes());
            socket
        })
        .collect();
    assert!(server.is_running(), "{}", server.log());
    drop(connections);
    let ask = || server.client().try_request("GET", "/healthz", &[], b"");
    let begun = Instant::now();
    while !ask().is_ok_and(|reply| reply.status == 200) {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
    }
}

#[cfg(unix)]
#[test]
fn a_server_without_a_free_descriptor_makes_room_and_goes_on() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 12 && exec \"$0\"",
        env!("CARGO_BIN_EXE_entra-auth-mcp"),
    ]);
    let setup = setup();
    let server = Process::start(command, &setup);
    let flood: Vec<TcpStream> = (0..20)
        .map(|_| connect(&server.address()).unwrap())
        .collect();
    assert_eq!(server.client().get("/healthz").status, 200);
    assert!(
        server.log().contains("os error 24"),
        "the limit was not reached: {}",
        server.log()
    );
    drop(flood);
}

// ---- Garbage ----

impl Random {
    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..self.below(300)).map(|_| self.byte()).collect()
    }

    /// Pieces that heads are made of, in any order.
    fn jumble(&mut self, host: &str) -> Vec<u8> {
        const PIECES: [&str; 24] = [
            "GET ",
            "POST ",
            "OPTIONS ",
            "/",
            "/mcp",
            "*",
            "http://",
            "?",
            "#",
            " HTTP/1.1",
            " HTTP/1.0",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            "\0",
            ":",
            " ",
            "\t",
            "5",
            "Content-Length: ",
            "Transfer-Encoding: chunked\r\n",
            "Expect: ",
            "\u{e9}",
        ];
        let host = format!("Host: {host}\r\n");
        let mut bytes = Vec::new();
        for _ in 0..self.below(20) {
            let piece = self.below(PIECES.len() + 2);
            bytes.extend(
                PIECES
                    .get(piece)
                    .map_or(host.as_bytes(), |piece| piece.as_bytes()),
            );
        }
        bytes
    }

    /// `valid` with some bytes changed, left out, put in or repeated.
    fn mutation(&mut self, valid: &str) -> Vec<u8> {
        let mut bytes = valid.as_bytes().to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + self.below(30)).min(bytes.len());
            match self.below(4) {
                0 => bytes[at] = self.byte(),
                1 => bytes.insert(at, self.byte()),
                2 => drop(bytes.drain(at..end)),
                _ => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            }
            bytes.push(b'\n'); // never empty
        }
        bytes
    }
}

#[test]
fn garbage_never_stops_the_server() {
    let server = start();
    let host = server.address();
    let chunked = String::from_utf8(chunks(PING.as_bytes(), 9)).unwrap();
    let valid = [
        get(&server, "/auth/status?user_id=a%20b"),
        get(&server, &format!("http://{host}/healthz")),
        ping(&server, 1),
        post(&server, "Transfer-Encoding: chunked", &chunked),
        get(&server, "/").replacen("\r\n\r\n", "\r\nCookie: a=b; c=\r\nOrigin: null\r\n\r\n", 1),
    ];
    let throw = |seed: u64| {
        let mut random = Random::new(seed);
        for round in 0..600 {
            let garbage = match random.below(4) {
                0 => random.bytes(),
                1 => random.jumble(&host),
                _ => {
                    let valid = &valid[random.below(valid.len())];
                    random.mutation(valid)
                }
            };
            let received = raw_then_eof(&host, &garbage);
            let sent = String::from_utf8_lossy(&garbage);
            let known = [
                100, 200, 202, 204, 400, 403, 404, 405, 406, 413, 414, 415, 417, 431, 501, 505,
            ];
            let statuses = statuses(&received);
            assert!(
                statuses.iter().all(|status| known.contains(status)),
                "{seed} {round} {sent:?}: {statuses:?}"
            );
            assert!(
                received.is_empty() || received.starts_with(b"HTTP/1.1 "),
                "{seed} {round} {sent:?}"
            );
        }
    };
    thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || throw(seed));
        }
    });
    assert_serves(&server);
}
