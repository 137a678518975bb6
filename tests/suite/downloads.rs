//! Redirects to downloads (`DOWNLOAD_HOSTS`): where they are followed to, and what goes there.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use crate::support::backend::{Backend, cae_claims, claims_header};
use crate::support::entra::{ADA, Entra};
use crate::support::http::Reply;
use crate::support::server::{Mcp, Running, Setup, TempDir, World};
use crate::tls::{Authority, TlsServer};
use entra_auth_mcp::api::downloads::DownloadHosts;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::outgoing::public::is_public;
use entra_auth_mcp::serve::Server;
use serde_json::{Value, json};

/// Set in the process that a test starts to run itself in.
const STORE: &str = "TEST_CERTIFICATE_STORE";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Runs the test `name` in a process of its own, in which `body` gets an authority whose
/// certificates are trusted.
fn trusting(name: &str, body: impl FnOnce(&Authority)) {
    if let Ok(store) = env::var(STORE) {
        let authority = Authority::new();
        fs::write(store, &authority.pem).unwrap();
        body(&authority);
        return;
    }
    let directory = TempDir::new();
    let store = directory.file("authority.pem");
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("downloads::{name}"), "--nocapture"]);
    let output = command.envs([(STORE, &store), ("SSL_CERT_FILE", &store)]);
    let output = output.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

/// A server for which `localhost` is a host of downloads, and its loopback addresses are allowed:
/// with the settings alone, neither could be.
struct Bench {
    mcp: Mcp,
    _server: Running,
    directory: Arc<TempDir>,
    backend: Backend,
    entra: Entra,
}

impl Bench {
    fn new() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend));
        let key = format!("Ocp-Apim-Subscription-Key: {KEY}");
        let headers = setup.directory.write("headers", key);
        let files = setup.directory.file("files");
        fs::create_dir(&files).unwrap();
        let setup = setup
            .with("BACKEND_HEADERS_FILE", headers.to_str().unwrap())
            .with("BACKEND_SESSION_COOKIES", "session")
            .with("FILES_DIR", files.to_str().unwrap());
        let mut config = Config::from_variables(&setup.variables).unwrap();
        let hosts = DownloadHosts::parse("localhost").unwrap();
        config.download_hosts = Some(hosts.at(|_| true));
        let server = Server::start(config, setup.clock.clock(), setup.limits.clone());
        let server = Running {
            server: server.unwrap_or_else(|failure| panic!("{}", failure.text())),
            clock: setup.clock.clone(),
            directory: Arc::clone(&setup.directory),
        };
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            _server: server,
            directory: setup.directory,
            backend,
            entra,
        }
    }

    /// Everything is redirected there.
    fn redirect_to(&self, status: u16, location: &str) {
        let reply = Reply::empty(status)
            .with("Location", location)
            .with("Set-Cookie", "session=7");
        self.backend.on(move |_| Some(reply.clone().into()));
    }

    fn get(&mut self, arguments: &Value) -> Value {
        self.mcp.call("api_get_request", arguments.clone())["structuredContent"].take()
    }
}

fn x() -> Value {
    json!({"endpoint": "/x", "headers": {"Prefer": "a", "Range": "bytes=0-3"}})
}

/// `/text`, `/json`, `/hop/N` with N more hops before it, and what else is asked for.
fn answer(request: &str) -> String {
    let path = request.split(' ').nth(1).unwrap();
    let hops = path.strip_prefix("/hop/").map(str::parse::<u32>);
    match (path, hops) {
        (_, Some(Ok(0))) | ("/text?sig=s", _) => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\ncontent".to_owned()
        }
        (_, Some(Ok(hops))) => format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", hops - 1),
        ("/json", _) => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLink: </x>; rel=next\r\nContent-Length: 45\r\n\r\n{\"a\":[1],\"@odata.nextLink\":\"/v1.0/x?p=2\"}    ".to_owned(),
        ("/plain", _) => "HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ("/claims", _) => {
            let line = claims_header(&cae_claims());
            format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {line}\r\nContent-Length: 2\r\n\r\nno")
        }
        _ => panic!("{request}"),
    }
}

#[test]
fn a_download_from_an_allowed_host_is_fetched_without_anything_of_the_call() {
    trusting(
        "a_download_from_an_allowed_host_is_fetched_without_anything_of_the_call",
        |authority| {
            let host = TlsServer::answering(authority.issue("localhost", 2099), answer);
            let url = format!("https://localhost:{}", host.port);
            let mut bench = Bench::new();
            for status in [301, 302, 303, 307, 308] {
                bench.redirect_to(status, &format!("{url}/text?sig=s#fragment"));
                let before = host.arrived().len();
                let content = bench.get(&x());
                assert_eq!(
                    (&content["success"], &content["status"], &content["data"]),
                    (&json!(true), &json!(200), &json!("content")),
                    "{status}: {content}"
                );
                assert_eq!(content["downloaded_from"], "localhost");
                assert_eq!(content["endpoint"], format!("{}/x", bench.backend.url()));
                let arrived = host.arrived();
                assert_eq!(arrived.len(), before + 1);
                let request = arrived[before].to_ascii_lowercase();
                let mut lines: Vec<&str> = request.trim_end().lines().collect();
                lines.sort_unstable();
                let version = env!("CARGO_PKG_VERSION");
                assert_eq!(
                    lines,
                    [
                        "accept-encoding: gzip",
                        "accept: */*",
                        "get /text?sig=s http/1.1",
                        &format!("host: localhost:{}", host.port),
                        &format!("user-agent: entra-auth-mcp/{version}"),
                    ]
                );
            }
            // As a file, and a part of it.
            let content = bench.get(&json!({"endpoint": "/x", "save_to": "saved.txt"}));
            assert_eq!(content["file"]["bytes"], 7, "{content}");
            let saved = fs::read(bench.directory.file("files/saved.txt")).unwrap();
            assert_eq!(saved, b"content");
            bench.redirect_to(302, &format!("{url}/json"));
            let content = bench.get(&json!({"endpoint": "/x", "select": "/a"}));
            assert_eq!(
                (&content["data"], content.get("next")),
                (&json!([1]), None),
                "{content}"
            );
        },
    );
}

#[test]
fn three_hops_are_followed_and_each_is_checked_anew() {
    trusting(
        "three_hops_are_followed_and_each_is_checked_anew",
        |authority| {
            let host = TlsServer::answering(authority.issue("localhost", 2099), answer);
            let url = format!("https://localhost:{}", host.port);
            let mut bench = Bench::new();
            bench.redirect_to(302, &format!("{url}/hop/2"));
            assert_eq!(bench.get(&x())["data"], "content");
            bench.redirect_to(302, &format!("{url}/hop/3"));
            let content = bench.get(&x());
            assert_eq!(
                (&content["error"], &content["redirect_target"]),
                (&json!("redirect"), &json!("0")),
                "{content}"
            );
            assert_eq!(host.arrived().len(), 6);
            bench.redirect_to(302, &format!("{url}/plain"));
            let content = bench.get(&x());
            assert_eq!(
                (&content["error"], &content["redirect_target"]),
                (&json!("redirect"), &json!("http://localhost/")),
                "{content}"
            );
        },
    );
}

#[test]
fn a_host_of_downloads_has_no_say_in_the_sign_in() {
    trusting(
        "a_host_of_downloads_has_no_say_in_the_sign_in",
        |authority| {
            let host = TlsServer::answering(authority.issue("localhost", 2099), answer);
            let mut bench = Bench::new();
            bench.redirect_to(302, &format!("https://localhost:{}/claims", host.port));
            let before = bench.entra.token_requests().len();
            let content = bench.get(&x());
            assert_eq!(
                (&content["error"], &content["status"]),
                (&json!("http_error"), &json!(401)),
                "{content}"
            );
            let message = content["message"].as_str().unwrap();
            assert!(message.contains("download from localhost"), "{message}");
            assert_eq!(bench.entra.token_requests().len(), before);
            assert_eq!(bench.backend.requests().len(), 1);
        },
    );
}

#[test]
fn only_a_get_is_followed_and_only_by_https_to_a_name_without_credentials() {
    trusting(
        "only_a_get_is_followed_and_only_by_https_to_a_name_without_credentials",
        |authority| {
            let host = TlsServer::answering(authority.issue("localhost", 2099), answer);
            let port = host.port;
            let mut bench = Bench::new();
            bench.redirect_to(307, &format!("https://localhost:{port}/text?sig=s"));
            for tool in [
                "api_post_request",
                "api_put_request",
                "api_patch_request",
                "api_delete_request",
            ] {
                let content = bench.mcp.fails(tool, json!({"endpoint": "/x"}));
                assert_eq!(content["error"], "redirect", "{tool}: {content}");
            }
            for location in [
                format!("http://localhost:{port}/text?sig=s"),
                format!("https://127.0.0.1:{port}/text?sig=s"),
                format!("https://[::1]:{port}/text?sig=s"),
                format!("https://user@localhost:{port}/text?sig=s"),
                format!("https://user:password@localhost:{port}/text?sig=s"),
                format!("https://localhost.:{port}/text?sig=s"),
                "ftp://localhost/".to_owned(),
                "/v1.0/me".to_owned(),
                String::new(),
            ] {
                bench.redirect_to(302, &location);
                let content = bench.get(&x());
                assert_eq!(content["error"], "redirect", "{location}: {content}");
            }
            // No redirects, whatever they name.
            for status in [200, 201, 300, 304] {
                bench.redirect_to(status, &format!("https://localhost:{port}/text?sig=s"));
                assert_eq!(bench.get(&x())["status"], status);
            }
            assert_eq!(host.arrived(), [""; 0]);
        },
    );
}

#[test]
fn a_download_whose_certificate_does_not_hold_is_a_failure_that_names_the_host() {
    trusting(
        "a_download_whose_certificate_does_not_hold_is_a_failure_that_names_the_host",
        |authority| {
            let identity = authority.issue("other.example", 2099);
            let host = TlsServer::answering(identity, answer);
            let mut bench = Bench::new();
            bench.redirect_to(302, &format!("https://localhost:{}/text?sig=s", host.port));
            let content = bench.get(&x());
            assert_eq!(content["error"], "backend_unreachable", "{content}");
            let message = content["message"].as_str().unwrap();
            assert!(
                message.contains("redirect to localhost") && message.contains("certificate"),
                "{message}"
            );
            assert_eq!(host.arrived(), [""; 0]);
            assert_eq!(bench.backend.requests().len(), 1);
        },
    );
}

/// With what the settings can say, nothing on this machine can be reached.
#[test]
fn no_setting_leads_a_download_to_an_address_that_is_not_public() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = World::signed_in().with(|setup| setup.with("DOWNLOAD_HOSTS", "localhost"));
    let location = format!("https://localhost:{port}/");
    world
        .backend
        .on(move |_| Some(Reply::empty(302).with("Location", &location).into()));
    let mut mcp = world.server.modern();
    let failure = mcp.fails("api_get_request", json!({"endpoint": "/x"}));
    assert_eq!(failure["error"], "refused", "{failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("localhost") && message.contains("not a public one"),
        "{message}"
    );
    let nobody = listener.accept().map(drop).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_redirect_elsewhere_is_reported_with_the_setting_that_would_allow_it() {
    let world = World::signed_in()
        .with(|setup| setup.with("DOWNLOAD_HOSTS", "files.example, *.cdn.example"));
    let mut mcp = world.server.modern();
    for (location, named) in [
        ("https://a.files.example/x", Some("add a.files.example to")),
        ("https://cdn.example/x", Some("add cdn.example to")),
        ("https://xcdn.example/x", Some("add xcdn.example to")),
        (
            "https://files.example.evil.example/",
            Some("add files.example.evil.example to"),
        ),
        ("http://other.example/", None),
        ("https://10.0.0.1/", None),
    ] {
        world
            .backend
            .on(move |_| Some(Reply::empty(302).with("Location", location).into()));
        let content = mcp.fails("api_get_request", json!({"endpoint": "/x"}));
        assert_eq!(
            (&content["error"], &content["redirect_target"]),
            (&json!("redirect"), &json!(location))
        );
        let hint = content["hint"].as_str().unwrap_or_default();
        assert_eq!(hint.contains("DOWNLOAD_HOSTS"), named.is_some(), "{hint}");
        assert!(named.is_none_or(|named| hint.contains(named)), "{hint}");
    }
}

#[test]
fn only_addresses_of_the_public_internet_are_public() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "223.255.255.255",
        "2001:200::",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700:4700::1111",
        "3ffe:ffff::1",
        "3fff:1000::1",
    ] {
        assert!(is_public(address.parse::<IpAddr>().unwrap()), "{address}");
    }
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "1fff::1",
        "2001::1",
        "2001:0:808:808::1",
        "2001:2::1",
        "2001:10::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "2002::1",
        "2002:7f00:1::",
        "3fff::1",
        "3fff:fff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd00::2",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff::1",
    ] {
        assert!(!is_public(address.parse::<IpAddr>().unwrap()), "{address}");
    }
}
