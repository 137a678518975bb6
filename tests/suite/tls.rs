//! TLS verification cannot be switched off: certificates are checked against the machine's store, or
//! the one that `SSL_CERT_FILE` names, and plain HTTP is for this machine alone.

use std::fs;
use std::io::{self, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::browser::TYPED;
use crate::support::entra::{ADA, CLIENT_ID, Entra, TENANT_ID};
use crate::support::http::{Client, Reply, Request, StandIn, proxy, target_of};
use crate::support::server::{Process, Setup, TempDir};
use crate::support::{PATIENCE, decode_pairs, lock, value_of};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use url::Url;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");

/// What switches verification off elsewhere, and must not here.
const SWITCHES: [(&str, &str); 8] = [
    ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
    ("PYTHONHTTPSVERIFY", "0"),
    ("GIT_SSL_NO_VERIFY", "1"),
    ("CURL_INSECURE", "1"),
    ("SSL_VERIFY", "false"),
    ("VERIFY_SSL", "false"),
    ("TLS_VERIFY", "0"),
    ("INSECURE", "1"),
];

/// A certificate authority of the test's own.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

pub type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for `name`, good until the end of `year`.
    pub fn issue(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.into(), key.into())
    }
}

/// A certificate for `name` that vouches for itself.
fn self_signed(name: &str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (certificate.into(), key.into())
}

/// The length of what `POST /long` is answered with: a few times what a connection reads at once.
const LONG: usize = 400_000;

/// An HTTPS server on 127.0.0.1 that keeps what it is asked. It ends with the test process.
pub struct TlsServer {
    pub port: u16,
    connections: Arc<AtomicUsize>,
    arrived: Arc<Mutex<Vec<String>>>,
}

impl TlsServer {
    /// It answers `{"secure":true}`, and `POST /long` with `LONG` characters.
    fn start(identity: Identity) -> Self {
        Self::answering(identity, |request| {
            let body = if request.starts_with("POST /long") {
                format!("\"{}\"", "x".repeat(LONG))
            } else {
                r#"{"secure":true}"#.to_owned()
            };
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        })
    }

    /// It answers each request, which is given as text, with what `answer` gives.
    pub fn answering(
        (certificate, key): Identity,
        answer: impl Fn(&str) -> String + Send + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = Arc::new(
            config
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
        let requests = Arc::clone(&arrived);
        let connections: Arc<AtomicUsize> = Arc::default();
        let accepted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                accepted.fetch_add(1, Ordering::SeqCst);
                // Who does not trust us hangs up.
                let _ = serve(stream.unwrap(), &config, &requests, &answer);
            }
        });
        Self {
            port,
            connections,
            arrived,
        }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn arrived(&self) -> Vec<String> {
        lock(&self.arrived).clone()
    }
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    requests: &Mutex<Vec<String>>,
    answer: &impl Fn(&str) -> String,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let request = read_request(&mut stream)?;
    let answer = answer(&request);
    lock(requests).push(request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}")?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Head and body of a request, as text.
fn read_request(stream: &mut impl Read) -> io::Result<String> {
    let mut request = String::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece)?;
        request += std::str::from_utf8(&piece[..length]).map_err(io::Error::other)?;
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let expected = lower
                .split_once("content-length: ")
                .and_then(|(_, rest)| rest.lines().next()?.parse().ok());
            if body.len() >= expected.unwrap_or(0) {
                return Ok(request);
            }
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A server's certificate and what becomes of it.
struct Case {
    what: &'static str,
    identity: Identity,
    /// Whether its authority is in the store that is named.
    is_trusted: bool,
    /// What the failure must say; `None` where it will do.
    refusal: Option<&'static str>,
}

/// Every sort of certificate.
fn certificates(authority: &Authority) -> [Case; 6] {
    let untrusted = Some("add the proxy's root certificate");
    [
        Case {
            what: "of an authority that is in the store",
            identity: authority.issue("127.0.0.1", 2099),
            is_trusted: true,
            refusal: None,
        },
        Case {
            what: "of an authority that is not in the store",
            identity: authority.issue("127.0.0.1", 2099),
            is_trusted: false,
            // The machine has a store of its own, or none.
            refusal: Some("SSL_CERT_FILE"),
        },
        Case {
            what: "that vouches for itself",
            identity: self_signed("127.0.0.1"),
            is_trusted: true,
            refusal: untrusted,
        },
        Case {
            what: "that vouches for itself, with no store named",
            identity: self_signed("127.0.0.1"),
            is_trusted: false,
            refusal: Some("SSL_CERT_FILE"),
        },
        Case {
            what: "of another host",
            identity: authority.issue("other.example", 2099),
            is_trusted: true,
            refusal: Some("is for another host"),
        },
        Case {
            what: "that has expired",
            identity: authority.issue("127.0.0.1", 2020),
            is_trusted: true,
            refusal: Some("has expired: check this machine's clock"),
        },
    ]
}

/// `setup` with a store that holds `authority` when `is_trusted`, or with the machine's.
fn with_store(mut setup: Setup, authority: &Authority, is_trusted: bool) -> Setup {
    for (name, value) in SWITCHES {
        setup = setup.with(name, value);
    }
    if is_trusted {
        let store = setup.directory.file("authority.pem");
        fs::write(&store, &authority.pem).unwrap();
        setup = setup.with("SSL_CERT_FILE", store.to_str().unwrap());
    }
    setup
}

#[test]
fn the_backend_is_called_only_when_its_certificate_holds() {
    let authority = Authority::new();
    for case in certificates(&authority) {
        let Case {
            what,
            identity,
            is_trusted,
            refusal,
        } = case;
        let backend = TlsServer::start(identity);
        let entra = Entra::start();
        let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", &backend.url());
        let setup = with_store(setup, &authority, is_trusted);
        let server = Process::start(Command::new(PROGRAM), &setup);
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        let result =
            mcp.call("api_get_request", json!({"endpoint": "/me"}))["structuredContent"].take();
        let Some(part) = refusal else {
            assert_eq!(
                (&result["status"], &result["data"]),
                (&json!(200), &json!({"secure": true})),
                "{what}"
            );
            assert_eq!(backend.arrived().len(), 1, "{what}");
            continue;
        };
        assert_eq!(result["error"], "backend_unreachable", "{what}: {result}");
        let message = result["message"].as_str().unwrap();
        assert!(
            message.contains(part) && message.contains("certificate"),
            "{what}: {message}"
        );
        assert_eq!(backend.arrived(), [""; 0], "{what}");
        // A certificate is no better the next time, and before it nothing is sent.
        assert_eq!(backend.connections.load(Ordering::SeqCst), 1, "{what}");
        let post = mcp.fails("api_post_request", json!({"endpoint": "/me", "data": {}}));
        for result in [&result, &post] {
            assert!(
                result["hint"]
                    .as_str()
                    .unwrap()
                    .contains("The request was not sent."),
                "{what}: {result}"
            );
        }
    }
}

// CASES C25
#[test]
fn a_code_is_redeemed_only_when_the_authoritys_certificate_holds() {
    let authority = Authority::new();
    let nobody = Entra::start();
    for case in certificates(&authority) {
        let Case {
            what,
            identity,
            is_trusted,
            refusal,
        } = case;
        let entra = TlsServer::start(identity);
        let setup = Setup::new(&nobody, None).with("AZURE_AUTHORITY_HOST", &entra.url());
        let setup = with_store(setup, &authority, is_trusted);
        let server = Process::start(Command::new(PROGRAM), &setup);
        let page = return_with_a_code(&server);
        let Some(part) = refusal else {
            let arrived = entra.arrived();
            assert_eq!(arrived.len(), 1, "{what}");
            assert!(
                arrived[0].starts_with(&format!("POST /{TENANT_ID}/oauth2/v2.0/token ")),
                "{arrived:?}"
            );
            assert!(arrived[0].contains("code=the-code"), "{arrived:?}");
            continue;
        };
        let page = page.replace("&#39;", "'");
        assert!(
            page.contains(part) && page.contains("certificate"),
            "{what}: {page}"
        );
        assert!(!page.contains("when the network is back"), "{what}: {page}");
        assert_eq!(entra.arrived(), [""; 0], "{what}");
    }
}

// CASES C26
#[test]
fn through_a_proxy_much_can_be_sent_and_received() {
    let authority = Authority::new();
    let backend = TlsServer::start(authority.issue("api.example.invalid", 2099));
    let (proxy, heads) = proxy(backend.port);
    let entra = Entra::start();
    let setup = Setup::new(&entra, None)
        .with("BACKEND_API_BASE_URL", "https://api.example.invalid")
        .with("HTTPS_PROXY", &format!("http://127.0.0.1:{proxy}"));
    let setup = with_store(setup, &authority, true);
    let server = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let sent = "y".repeat(LONG);
    let result = mcp.ok(
        "api_post_request",
        json!({"endpoint": "/long", "data": sent}),
    );
    assert_eq!(result["data"].as_str().unwrap().len(), LONG);
    assert!(backend.arrived()[0].contains(&sent));
    assert_eq!(lock(&heads).len(), 1);
}

#[test]
fn a_proxy_that_gives_no_connection_has_not_sent_the_request_on() {
    let (proxy, entra) = (
        StandIn::serve(|_: &Request| Reply::empty(502)),
        Entra::start(),
    );
    let setup =
        Setup::new(&entra, None).with("BACKEND_API_BASE_URL", "https://api.example.invalid");
    let setup = setup.with("HTTPS_PROXY", &proxy.url());
    let server = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let failure = mcp.fails("api_post_request", json!({"endpoint": "/me", "data": {}}));
    assert!(
        failure["hint"]
            .as_str()
            .unwrap()
            .contains("The request was not sent."),
        "{failure}"
    );
}

/// As in a container image without root certificates.
#[test]
fn an_empty_store_is_explained() {
    let (backend, entra) = (TlsServer::start(self_signed("127.0.0.1")), Entra::start());
    let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", &backend.url());
    let store = setup.directory.file("empty.pem");
    fs::write(&store, "").unwrap();
    let setup = setup.with("SSL_CERT_FILE", store.to_str().unwrap());
    let server = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let failure = mcp.fails("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(failure["error"], "backend_unreachable");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("install ca-certificates, or set SSL_CERT_FILE"),
        "{failure}"
    );
}

/// A sign-in whose authorization response arrives with a code; gives the page at its end.
fn return_with_a_code(server: &Process) -> String {
    let begun = server
        .modern()
        .ok("authenticate_user", json!({"user_id": ADA}));
    let link = Url::parse(begun["sign_in_url"].as_str().unwrap()).unwrap();
    let mut browser = Client::new(&server.url());
    let login = browser.request("GET", &target_of(&link), &TYPED, b"");
    let cookie = login
        .header("Set-Cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let authorize = Url::parse(login.header("Location").unwrap()).unwrap();
    let state = value_of(
        &decode_pairs(authorize.query().unwrap().as_bytes()),
        "state",
    )
    .unwrap()
    .to_owned();
    let form = format!("code=the-code&state={state}");
    let content_type = ("Content-Type", "application/x-www-form-urlencoded");
    let returned = browser.request("POST", "/auth/callback", &[content_type], form.as_bytes());
    assert_eq!(returned.status, 303, "{}", returned.text());
    let complete = returned.header("Location").unwrap().to_owned();
    browser
        .request("GET", &complete, &[("Cookie", &cookie)], b"")
        .text()
}

/// Whatever is no loopback host, however much it looks like one.
#[test]
fn plain_http_is_refused_beyond_this_machine() {
    let directory = TempDir::new();
    for setting in ["BACKEND_API_BASE_URL", "AZURE_AUTHORITY_HOST"] {
        for host in [
            "api.example.com",
            "10.0.0.1",
            "192.168.1.1:5000",
            "169.254.169.254",
            "0.0.0.0:5000",
            "[::]:5000",
            "[fe80::1]",
            "128.0.0.1",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
            "2130706434.example",
        ] {
            let url = format!("http://{host}");
            let mut command = Command::new(PROGRAM);
            command
                .arg("--check-config")
                .env_clear()
                .current_dir(&directory.0)
                .stdin(Stdio::null());
            command.envs([
                ("AZURE_CLIENT_ID", CLIENT_ID),
                ("AZURE_TENANT_ID", TENANT_ID),
                (setting, &url),
            ]);
            let output = command.output().unwrap();
            let report = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{setting}={url}: {report}");
            assert!(
                report.contains(setting) && report.contains("https"),
                "{report}"
            );
        }
    }
}

#[test]
fn no_setting_is_about_verification() {
    for setting in entra_auth_mcp::config::SETTINGS {
        for word in ["TLS", "SSL", "CERT", "VERIFY", "INSECURE"] {
            assert!(!setting.name.contains(word), "{}", setting.name);
        }
    }
}
