//! Connections that the server makes: which address they go to, who looks names up, what a proxy
//! says, and how much an answer may bring besides its content.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra, TENANT_ID};
use crate::support::http::{Reply, Request, StandIn, deafen};
use crate::support::server::{Process, Setup};
use crate::support::{Gate, PATIENCE, lock};
use entra_auth_mcp::outgoing::connector::{first_to_answer, silent_families};
use entra_auth_mcp::outgoing::resolver::{NamedBy, Names};
use serde_json::{Value, json};
use url::Url;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");
/// As long as the server has for one connection.
const BUDGET: Duration = Duration::from_secs(10);

fn ipv4(last: u8) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, last), 443).into()
}

fn ipv6(last: u16) -> SocketAddr {
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), 443).into()
}

/// A network that takes no real time: what each address does, and how long each was waited for.
struct Network {
    /// The addresses that answer, and after how long.
    answering: Vec<(SocketAddr, Duration)>,
    refusing: Vec<SocketAddr>,
    attempts: Vec<(SocketAddr, Duration)>,
}

impl Network {
    fn new(answering: &[SocketAddr], round_trip: Duration) -> Self {
        Self {
            answering: answering
                .iter()
                .map(|address| (*address, round_trip))
                .collect(),
            refusing: Vec::new(),
            attempts: Vec::new(),
        }
    }

    fn connect(&mut self, address: SocketAddr, wait: Duration) -> io::Result<SocketAddr> {
        if self.refusing.contains(&address) {
            self.attempts.push((address, Duration::ZERO));
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let round_trip = self
            .answering
            .iter()
            .find(|(answering, _)| *answering == address)
            .map(|(_, round_trip)| *round_trip)
            .filter(|round_trip| *round_trip <= wait);
        self.attempts.push((address, round_trip.unwrap_or(wait)));
        round_trip
            .map(|_| address)
            .ok_or_else(|| ErrorKind::TimedOut.into())
    }

    fn reach(&mut self, addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        self.reach_proven(addresses, None)
    }

    fn reach_proven(
        &mut self,
        addresses: &[SocketAddr],
        proven: Option<SocketAddr>,
    ) -> io::Result<SocketAddr> {
        first_to_answer(addresses, proven, BUDGET, |address, wait| {
            self.connect(address, wait)
        })
    }

    /// How long all attempts took.
    fn took(&self) -> Duration {
        self.attempts.iter().map(|(_, took)| *took).sum()
    }
}

// CASES B9
#[test]
fn eight_addresses_that_do_not_answer_cost_less_than_two_seconds() {
    let round_trip = Duration::from_millis(50);
    let of_one_family: Vec<_> = (1..=9).map(ipv4).collect();
    let mut network = Network::new(&[ipv4(9)], round_trip);
    assert_eq!(network.reach(&of_one_family).unwrap(), ipv4(9));
    assert!(
        network.took() < Duration::from_millis(1800),
        "{:?}",
        network.attempts
    );

    // As Entra's are listed: the other family is not last in turn.
    let of_both: Vec<_> = (1..=8).map(ipv6).chain([ipv4(1)]).collect();
    let mut network = Network::new(&[ipv4(1)], round_trip);
    assert_eq!(network.reach(&of_both).unwrap(), ipv4(1));
    assert_eq!(network.attempts.len(), 2, "{:?}", network.attempts);
}

// CASES B9
#[test]
fn families_take_turns_in_the_order_of_the_system() {
    let addresses = [
        ipv6(1),
        ipv6(2),
        ipv4(1),
        ipv6(3),
        ipv4(2),
        ipv4(3),
        ipv4(4),
    ];
    let mut network = Network::new(&[], Duration::ZERO);
    network.refusing = addresses.to_vec();
    let error = network.reach(&addresses).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let tried: Vec<_> = network.attempts.iter().map(|attempt| attempt.0).collect();
    // Each once: a refusal is an answer.
    assert_eq!(
        tried,
        [
            ipv6(1),
            ipv4(1),
            ipv6(2),
            ipv4(2),
            ipv6(3),
            ipv4(3),
            ipv4(4)
        ]
    );
}

// CASES B9
#[test]
fn a_slow_network_is_reached_through_any_number_of_addresses() {
    for round_trip in [400, 900].map(Duration::from_millis) {
        for count in [1, 2, 4, 9, 16] {
            let addresses: Vec<_> = (1..=count).map(ipv4).collect();
            let mut network = Network::new(&addresses, round_trip);
            let reached = network.reach(&addresses);
            let attempts = &network.attempts;
            // With sixteen addresses the third round would begin too late.
            assert!(
                reached.is_ok() || (count == 16 && round_trip.as_millis() == 900),
                "{count}: {attempts:?}"
            );
            assert!(network.took() <= BUDGET, "{count}: {:?}", network.attempts);
        }
    }
    let mut alone = Network::new(&[ipv4(1)], Duration::from_secs(9));
    assert_eq!(alone.reach(&[ipv4(1)]).unwrap(), ipv4(1));
    assert_eq!(alone.attempts.len(), 1);
}

// CASES B9
#[test]
fn the_address_that_answered_last_is_tried_first_and_longer() {
    let addresses: Vec<_> = (1..=16).map(ipv4).collect();
    let mut network = Network::new(&addresses, Duration::from_millis(900));
    let reached = network.reach_proven(&addresses, Some(ipv4(12)));
    assert_eq!(reached.unwrap(), ipv4(12));
    assert_eq!(network.attempts.len(), 1, "{:?}", network.attempts);

    // Another name's, and one that answers no longer.
    for (proven, attempts) in [(ipv4(99), 1), (ipv4(2), 2)] {
        let mut network = Network::new(&[ipv4(1)], Duration::ZERO);
        let reached = network.reach_proven(&addresses, Some(proven));
        assert_eq!(reached.unwrap(), ipv4(1));
        assert_eq!(network.attempts.len(), attempts, "{:?}", network.attempts);
    }
}

// CASES B9
#[test]
fn when_nothing_answers_the_time_is_used_up_and_not_exceeded() {
    for count in [1, 2, 3, 9, 16, 64] {
        let addresses: Vec<_> = (1..=count).map(ipv4).collect();
        let mut network = Network::new(&[], Duration::ZERO);
        network.refusing = vec![ipv4(3)];
        let error = network.reach(&addresses).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{count}");
        assert_eq!(network.took(), BUDGET, "{count}: {:?}", network.attempts);
    }
}

/// Listeners at one port of both loopback addresses: IPv4, IPv6.
#[cfg(target_os = "linux")]
fn pair() -> (TcpListener, TcpListener) {
    for _ in 0..100 {
        let ours = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = ours.local_addr().unwrap().port();
        if let Ok(other) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
            return (ours, other);
        }
    }
    panic!("no port is free in both families");
}

// CASES B9
#[cfg(target_os = "linux")]
#[test]
fn a_family_that_does_not_answer_is_passed_over_and_named() {
    let (v4, v6) = pair();
    let port = v4.local_addr().unwrap().port();
    let loopback: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    assert!(silent_families(&loopback, port).is_empty());
    let _filling = deafen(&v6);
    let addresses = loopback.map(|address| SocketAddr::new(address, port));
    let reached = first_to_answer(&addresses, None, BUDGET, |address, wait| {
        TcpStream::connect_timeout(&address, wait)
    });
    assert!(reached.unwrap().peer_addr().unwrap().is_ipv4());
    assert_eq!(silent_families(&loopback, port), ["IPv6"]);
    drop(v4);
    // A refusal is an answer.
    assert_eq!(silent_families(&loopback, port), ["IPv6"]);
    let unheard: [IpAddr; 1] = [Ipv6Addr::LOCALHOST.into()];
    drop(v6);
    assert!(silent_families(&unheard, port).is_empty());
}

/// A listener that answers nobody, at the port of `url` and the other loopback address.
#[cfg(target_os = "linux")]
fn deaf_beside(url: &str) -> (TcpListener, Vec<TcpStream>) {
    let port = Url::parse(url).unwrap().port().unwrap();
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).unwrap();
    let filling = deafen(&listener);
    (listener, filling)
}

// CASES B9
#[cfg(target_os = "linux")]
#[test]
fn authority_and_api_are_reached_where_the_first_address_of_their_name_does_not_answer() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let urls = [entra.authority_host(), backend.url()];
    let _deaf = urls.each_ref().map(|url| deaf_beside(url));
    let [authority, api] = urls.map(|url| url.replace("127.0.0.1", "localhost"));
    let issuer = format!("{authority}/{TENANT_ID}/v2.0");
    entra.id_token_tamper(move |claims| claims["iss"] = json!(issuer));
    let setup = Setup::new(&entra, None)
        .with("AZURE_AUTHORITY_HOST", &authority)
        .with("BACKEND_API_BASE_URL", &api);
    // For this server alone, localhost has both addresses. The deaf one comes first.
    let hosts = setup
        .directory
        .write("hosts", "::1 localhost\n127.0.0.1 localhost\n");
    let script = "mount --bind \"$1\" /etc/hosts && getent ahosts localhost | head -n 1 | grep '^::1 ' >&2 \
                  && exec \"$2\"";
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([hosts.as_os_str(), PROGRAM.as_ref()])
        .env("PATH", std::env::var_os("PATH").unwrap());
    let server = Process::start(command, &setup);
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let result = mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(result["data"]["userPrincipalName"], ADA, "{result}");
}

// ---- Names ----

fn names(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> &'static Names {
    Box::leak(Box::new(Names::new(ask)))
}

const FOUND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

// CASES D2
#[test]
fn one_look_up_serves_everybody_who_waits_for_the_name() {
    for is_found in [true, false] {
        let gate = Gate::default();
        let held = gate.clone();
        let names = names(move |_| {
            held.pass();
            if is_found {
                Ok(vec![FOUND])
            } else {
                Err(io::Error::other("no such name"))
            }
        });
        let all_wait = AtomicUsize::new(0);
        thread::scope(|scope| {
            let calls: Vec<_> = (0..240)
                .map(|_| {
                    scope.spawn(|| {
                        all_wait.fetch_add(1, Ordering::SeqCst);
                        names.look_up("api.example", NamedBy::Settings, PATIENCE)
                    })
                })
                .collect();
            gate.wait_for_arrivals(1);
            while all_wait.load(Ordering::SeqCst) < 240 {
                thread::yield_now();
            }
            gate.open();
            for call in calls {
                match call.join().unwrap() {
                    Ok(found) => assert!(is_found && found == [FOUND]),
                    Err(error) => {
                        assert!(!is_found);
                        let text = error.to_string();
                        assert!(
                            text.contains("DNS has no address for api.example (no such name)"),
                            "{text}"
                        );
                    }
                }
            }
        });
        // A failure does not serve those who have come after it.
        if is_found {
            assert_eq!(gate.arrivals(), 1);
        }
    }
}

// CASES D2
#[test]
fn dead_name_servers_hold_few_threads_and_each_call_says_which_name_it_waited_for() {
    let gate = Gate::default();
    let held = gate.clone();
    let names = names(move |_| {
        held.pass();
        Ok(vec![FOUND])
    });
    thread::scope(|scope| {
        for number in 0..240 {
            scope.spawn(move || {
                let host = format!("api{}.example", number % 24);
                let error = names.look_up(&host, NamedBy::Settings, Duration::from_millis(100));
                let text = error.unwrap_err().to_string();
                assert!(text.contains("DNS") && text.contains(&host), "{text}");
            });
        }
    });
    assert_eq!(gate.arrivals(), 4);
    gate.open();
    assert_eq!(
        names
            .look_up("api23.example", NamedBy::Settings, PATIENCE)
            .unwrap(),
        [FOUND]
    );
}

/// A name server of an API's redirects that never answers.
#[test]
fn names_of_others_leave_room_for_those_of_the_settings() {
    let gate = Gate::default();
    let held = gate.clone();
    let names = names(move |host| {
        if host.ends_with(".slow.example") {
            held.pass();
        }
        Ok(vec![FOUND])
    });
    thread::scope(|scope| {
        for number in 0..24 {
            scope.spawn(move || {
                let host = format!("api{number}.slow.example");
                names.look_up(&host, NamedBy::Others, Duration::from_millis(100))
            });
        }
    });
    let found = names.look_up("login.example", NamedBy::Settings, PATIENCE);
    assert_eq!(found.unwrap(), [FOUND]);
    gate.open();
}

// CASES D2
#[test]
fn addresses_are_remembered_for_a_moment_and_failures_are_not() {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let for_names = Arc::clone(&asked);
    let names = names(move |host| {
        let mut asked = lock(&for_names);
        asked.push(host.to_owned());
        match host {
            "a.example" => Ok(vec![FOUND]),
            "none.example" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        }
    });
    for _ in 0..3 {
        assert_eq!(
            names
                .look_up("a.example", NamedBy::Settings, PATIENCE)
                .unwrap(),
            [FOUND]
        );
        assert!(
            names
                .look_up("none.example", NamedBy::Settings, PATIENCE)
                .is_err()
        );
        assert!(
            names
                .look_up("b.example", NamedBy::Settings, PATIENCE)
                .is_err()
        );
    }
    let count = |name: &str| lock(&asked).iter().filter(|host| *host == name).count();
    assert_eq!(
        ["a.example", "none.example", "b.example"].map(count),
        [1, 3, 3]
    );
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", "https://api.invalid");
    let server = setup.start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let failure = mcp.fails("api_post_request", json!({"endpoint": "/me", "data": {}}));
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("DNS has no address for api.invalid"),
        "{failure}"
    );
    assert!(
        message.contains("Check the host name, the network and the proxy settings"),
        "{failure}"
    );
    assert_eq!(failure["hint"], "The request was not sent.", "{failure}");
}

// ---- Proxies ----

/// What a call of the API, and the page of a sign-in, say where a proxy answers CONNECT with
/// `answer`.
fn refused_by_proxy(answer: Reply) -> [String; 2] {
    let proxy = StandIn::serve(move |_: &Request| answer.clone());
    let address = proxy.url().replace("http://", "http://ada:S3cret@");
    let entra = Entra::start();
    let setup =
        Setup::new(&entra, None).with("BACKEND_API_BASE_URL", "https://api.example.invalid");
    let setup = setup.with("HTTPS_PROXY", &address);
    let server = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let failure = mcp.fails("api_post_request", json!({"endpoint": "/me", "data": {}}));
    assert_eq!(failure["hint"], "The request was not sent.", "{failure}");
    assert!(!server.log().contains("S3cret"));
    drop(server);

    let setup = Setup::new(&entra, None)
        .with("AZURE_AUTHORITY_HOST", "https://login.example.invalid")
        .with("ALLOW_DEVICE_CODE", "true")
        .with("HTTPS_PROXY", &address);
    let server = Process::start(Command::new(PROGRAM), &setup);
    let code = json!({"user_id": ADA, "method": "device_code"});
    let sign_in = server.modern().fails("authenticate_user", code);
    let texts = [failure, sign_in].map(|failure| failure.to_string());
    for text in &texts {
        assert!(
            !text.contains("S3cret") && !text.contains("YWRhOlMzY3JldA"),
            "{text}"
        );
    }
    texts
}

// CASES B10
#[test]
fn a_proxy_that_wants_credentials_is_given_as_the_reason() {
    let wanted = Reply::empty(407).with("Proxy-Authenticate", "Negotiate");
    for text in refused_by_proxy(wanted) {
        for part in [
            "the proxy wants credentials (status 407)",
            "user name and a password into the proxy's URL",
            "Basic is the only kind",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

// CASES B10
#[test]
fn what_else_a_proxy_answers_is_said_as_its_answer() {
    for status in [403, 502] {
        for text in refused_by_proxy(Reply::empty(status)) {
            let part = format!("the proxy refused the connection with status {status}");
            assert!(text.contains(&part), "{text}");
            assert!(!text.contains("credentials"), "{text}");
        }
    }
}

#[test]
fn no_connection_is_made_past_a_proxy_of_another_kind() {
    let entra = Entra::start();
    for protocol in ["socks5", "socks5h", "socks4"] {
        let setup = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", "https://api.example.invalid")
            .with("ALL_PROXY", &format!("{protocol}://127.0.0.1:9"));
        let server = Process::start(Command::new(PROGRAM), &setup);
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        let failure = mcp.fails("api_get_request", json!({"endpoint": "/me"}));
        let message = failure["message"].as_str().unwrap();
        let part = format!("{} is not supported", protocol.to_uppercase());
        assert!(
            message.to_uppercase().contains(&part.to_uppercase()) && message.contains("NO_PROXY"),
            "{failure}"
        );
    }
}

// ---- What an answer brings besides its content ----

/// An API that answers each request with `head`, then sends `endless` again and again; counts its
/// bytes.
fn endless_api(head: &'static str, endless: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, counted) = (client.unwrap(), Arc::clone(&counted));
            thread::spawn(move || {
                let mut request = [0; 4096];
                let _ = client.read(&mut request).unwrap();
                let _ = client.write_all(head.as_bytes());
                let piece = endless.repeat(64);
                while client.write_all(piece.as_bytes()).is_ok() {
                    counted.fetch_add(piece.len(), Ordering::SeqCst);
                }
            });
        }
    });
    (url, sent)
}

fn call(url: &str, tool: &str) -> Value {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", url);
    let server = setup.start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    mcp.call(tool, json!({"endpoint": "/me"}))["structuredContent"].take()
}

// CASES C26
#[test]
fn header_fields_without_end_are_bounded_wherever_they_stand() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, endless) in [
        // Trailers, after a body or none, and with bare line feeds.
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n2\r\nhi\r\n0\r\n",
            "X: y\r\n",
        ),
        (
            "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0;a=b\r\n",
            "X: y\r\n",
        ),
        // Trailers behind a bare line feed in an extension, or behind a line of white space.
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nX\r\nhello\r\n0\r\n",
            "X: y\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n \r\n",
            "X: y\r\n",
        ),
        // Interim responses.
        ("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        ("\r\n", "HTTP/1.1 100 Continue\r\n\r\n"),
        // The head, and one line of it.
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "y"),
        (CHUNKED, "y"),
    ] {
        let (url, sent) = endless_api(head, endless);
        let result = call(&url, "api_delete_request").to_string();
        let sent = sent.load(Ordering::SeqCst);
        // Of many short fields, those of the first packets may be counted before their bytes.
        let is_bounded = result.contains("too big") || result.contains("too many headers");
        assert!(is_bounded, "{head:?}: {result}");
        // The rest fills what the system keeps for the connection.
        assert!(sent < 32 * 1024 * 1024, "{head:?}: {sent}");
    }
}

// CASES C26
#[test]
fn an_ordinary_answer_has_room_for_trailers_and_interim_responses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bodies: Vec<String> = (1..40).map(|n| "0\r\n\r\nx".repeat(n * 173)).collect();
    let to_send = bodies.clone();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            for body in &to_send {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                let head = "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n\
                            HTTP/1.1 200 OK\r\nContent-Type:\r\n text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunks = body.as_bytes().chunks(1 + body.len() / 7).map(|chunk| {
                    let text = std::str::from_utf8(chunk).unwrap();
                    format!("{:x};ext=\"1\"\r\n{text}\r\n", chunk.len())
                });
                let trailers = format!("X: {}\r\n", "y".repeat(1000)).repeat(60);
                let answer = format!("{head}{}000\r\n{trailers}\r\n", chunks.collect::<String>());
                // In pieces of any length.
                for piece in answer.as_bytes().chunks(1 + body.len() % 1500) {
                    client.write_all(piece).unwrap();
                }
            }
        }
    });
    let entra = Entra::start();
    let setup = Setup::new(&entra, None).with("BACKEND_API_BASE_URL", &url);
    let server = setup.start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    for body in &bodies {
        let result = mcp.ok("api_get_request", json!({"endpoint": "/me"}));
        assert_eq!(result["data"], *body, "{result}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
