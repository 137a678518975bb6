//! The token goes to the backend's origin and below its base path, nowhere else: endpoints that are
//! refused before a token is fetched, endpoints that pass with what then reaches the backend, and a
//! search for an endpoint that passes and leads out.

use std::sync::{Arc, Mutex};

use crate::corpus::oracles::lenient;
use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::{Answer, Reply, Request, StandIn};
use crate::support::lock;
use crate::support::random::Random;
use crate::support::server::{Mcp, Running, Setup};
use lenient::stays_below;
use serde_json::json;

/// A server with Ada signed in, whose backend has its base at `/v1.0` and answers everything, and a
/// server next to it that nobody may call.
struct Bench {
    mcp: Mcp,
    server: Running,
    /// What arrived since it was last asked.
    arrived: Arc<Mutex<Vec<Request>>>,
    backend: Backend,
    elsewhere: StandIn,
    entra: Entra,
}

impl Bench {
    fn new() -> Self {
        Self::with_base("{backend}/v1.0")
    }

    /// `base` is the setting; `{backend}` and `{port}` stand for the backend's origin and port.
    fn with_base(base: &str) -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let elsewhere = StandIn::serve(|_| -> Answer { panic!("somebody else was called") });
        let arrived: Arc<Mutex<Vec<Request>>> = Arc::default();
        let for_backend = Arc::clone(&arrived);
        backend.on(move |request| {
            lock(&for_backend).push(request.clone());
            Some(Reply::empty(204).into())
        });
        let base = filled(base, &backend, &elsewhere);
        let server = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", &base)
            .start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            server,
            arrived,
            backend,
            elsewhere,
            entra,
        }
    }

    fn filled(&self, endpoint: &str) -> String {
        filled(endpoint, &self.backend, &self.elsewhere)
    }

    /// Calls `endpoint`: what arrived at the backend, or the reason for the refusal.
    fn call(&mut self, endpoint: &str) -> Result<Request, String> {
        let result = self
            .mcp
            .call("api_get_request", json!({"endpoint": endpoint}));
        let mut arrived = std::mem::take(&mut *lock(&self.arrived));
        let answer = &result["structuredContent"];
        match (arrived.pop(), answer["error"].as_str()) {
            (Some(request), None) if arrived.is_empty() => Ok(request),
            (None, Some("invalid_request")) => Err(answer["message"].as_str().unwrap().to_owned()),
            (last, _) => panic!("{endpoint:?} led to {arrived:?}, {last:?} and {result}"),
        }
    }

    fn assert_passes(&mut self, endpoint: &str, target: &str) {
        let endpoint = self.filled(endpoint);
        match self.call(&endpoint) {
            Ok(request) => assert_eq!(request.target, target, "{endpoint:?}"),
            Err(reason) => panic!("{reason}"),
        }
    }
}

fn filled(text: &str, backend: &Backend, elsewhere: &StandIn) -> String {
    let origin = backend.origin();
    let port = origin.rsplit(':').next().unwrap();
    let other = elsewhere.addr().port().to_string();
    text.replace("{backend}", &origin)
        .replace("{port}", port)
        .replace("{other}", &other)
}

/// In `{backend}` the base is `{backend}/v1.0`.
const REFUSED: &[&str] = &[
    // Upwards, as it is and encoded once, twice, three times, in either case.
    "..",
    "/..",
    "../",
    "/../",
    "../admin",
    "/../v1.0evil",
    "/me/../../admin",
    "me/..",
    "/me/../you",
    "/me/../../v1.0/you",
    "{backend}/v1.0/..",
    "{backend}/v1.0/../admin",
    "{backend}/v1.0/../v1.0/me",
    "{backend}/admin/../v1.0/me",
    "%2e%2e",
    "%2E%2E/admin",
    "%2e%2E/admin",
    ".%2e/admin",
    "%2E./admin",
    "me/%2e%2e/%2e%2e/admin",
    "%252e%252e/admin",
    "%252E./admin",
    "%25252e%25252e/admin",
    "%2525252525252e./admin",
    "%%32%65%%32%65/admin",
    "%2%65%2%65/admin",
    "{backend}/v1.0/%2e%2e/admin",
    "{backend}/v1.0/%252e%252e/admin",
    "..%2fadmin",
    "..%2Fadmin",
    "%2e%2e%2fadmin",
    "me%2f..%2f..%2fadmin",
    "me%252f..%252f..%252fadmin",
    "%2f..%2fadmin",
    "me/.. ",
    ".. ",
    "../ ",
    // With path parameters, which some servers drop before they resolve dots (RFC 3986 §3.3).
    "..;/admin",
    "/..;/admin",
    "..;a=b/admin",
    "/me/..;x/..;y/admin",
    "%2e%2e;/admin",
    "..%3b/admin",
    "..%253b/admin",
    ".%2e%3Ba/admin",
    // With backslashes, which some servers take for slashes.
    "\\",
    "me\\you",
    "..\\admin",
    "/me\\..\\..\\admin",
    "\\..\\admin",
    "..%5cadmin",
    "..%5Cadmin",
    "%5c..%5cadmin",
    "me%5c%2e%2e%5c%2e%2e",
    "..%255cadmin",
    "me/x%5c..",
    // Overlong and otherwise invalid UTF-8, which lax decoders read as dots and slashes (RFC 3629 §10).
    "%c0%ae%c0%ae/admin",
    "%C0%AE./admin",
    "%e0%80%ae%e0%80%ae/admin",
    "..%c0%afadmin",
    "..%c1%9cadmin",
    "%c0%2e%c0%2e/admin",
    "%25c0%25ae%25c0%25ae/admin",
    // Characters that compatibility mappings turn into dots and slashes.
    "．．/admin",
    "․․/admin",
    "‥/admin",
    "．.／admin",
    "..／admin",
    "..＼admin",
    "..∕admin",
    "..⁄admin",
    "%ef%bc%8e%ef%bc%8e/admin",
    "%EF%BC%8E%EF%BC%8E%EF%BC%8Fadmin",
    // CASES B5: also within a name, as soon as a part of it could lead upwards.
    "．",
    "．/admin",
    "‥",
    "︰/admin",
    "reports／．．／admin",
    "reports／‥／admin",
    "reports∕..",
    "reports／．",
    "reports＼．．",
    "reports﹨﹒﹒﹨admin",
    "．．;x/admin",
    "．． /admin",
    "．∖．/admin",
    "‥∖admin",
    "．\u{200b}．/admin",
    "reports%ef%bc%8f%e2%80%a5",
    "reports%25ef%25bc%258f..%25ef%25bc%258fadmin",
    // CASES C8: characters that some API takes for a slash or a backslash, or does not see, beside dots.
    "reports/..∖..∖admin",
    "..∖admin",
    "reports∖..",
    "reports¥..¥admin",
    "..₩admin",
    "..⧵admin",
    "..⧸admin",
    "..╱admin",
    "..į..įadmin",
    "a..é",
    "é...",
    ".\u{200b}.",
    ".\u{200b}./admin",
    ".\u{ad}\u{200b}.∖admin",
    "reports∖.\u{2060}.∖admin",
    "\u{feff}../admin",
    "..%E2%88%96..%E2%88%96admin",
    "%2e%2e%e2%88%96admin",
    "..%25e2%2588%2596admin",
    "{backend}/v1.0/..∖admin",
    // The notation of which Windows' http.sys decodes more than RFC 3986 knows.
    "%u002e%u002e/admin",
    "%U002E./admin",
    "..%u002fadmin",
    "me%u002f%u002e%u002e",
    "me/%u0079ou",
    "%25u002e%25u002e/admin",
    "%25%75002e./admin",
    // Another host, in every notation that some parser takes for one.
    "//127.0.0.1:{other}",
    "//127.0.0.1:{other}/v1.0/me",
    "///127.0.0.1:{other}/v1.0/me",
    "////127.0.0.1:{other}/v1.0/me",
    "//127.0.0.1:{port}/v1.0/me",
    "//",
    "\\\\127.0.0.1:{other}",
    "\\127.0.0.1:{other}",
    "/\\127.0.0.1:{other}",
    "\\/127.0.0.1:{other}",
    "/\t/127.0.0.1:{other}",
    "http://127.0.0.1:{other}",
    "http://127.0.0.1:{other}/v1.0/me",
    "https://127.0.0.1:{other}/v1.0/me",
    "HTTP://127.0.0.1:{other}/v1.0/me",
    "http://evil.example/v1.0/me",
    "https://evil.example/v1.0/me",
    "http:\\\\127.0.0.1:{other}\\v1.0\\me",
    "http:///127.0.0.1:{other}/v1.0/me",
    "http://",
    "http:///v1.0/me",
    "http://127.0.0.2:{port}/v1.0/me",
    "http://127.0.0.1.evil.example:{port}/v1.0/me",
    "http://evil.example/{backend}/v1.0/me",
    "http://evil.example?{backend}/v1.0/me",
    "http://evil.example#{backend}/v1.0/me",
    "http://127。0。0。1:{port}/v1.0/me",
    "http://Z\u{e9}.example/v1.0/me",
    "http://Z%c3%a9.example/v1.0/me",
    "http:////Z\u{e9}.example/v1.0/me",
    // The same host under another name, port or scheme.
    "http://localhost:{port}/v1.0/me",
    "http://127.0.0.1/v1.0/me",
    "http://127.0.0.1:80/v1.0/me",
    "http://127.0.0.1:{other}0/v1.0/me",
    "http://127.0.0.1:/v1.0/me",
    "http://127.0.0.1:{port}x/v1.0/me",
    "https://127.0.0.1:{port}/v1.0/me",
    "ftp://127.0.0.1:{port}/v1.0/me",
    "ws://127.0.0.1:{port}/v1.0/me",
    "file:///etc/passwd",
    // Userinfo.
    "http://ada@127.0.0.1:{port}/v1.0/me",
    "http://ada:secret@127.0.0.1:{port}/v1.0/me",
    "http://:secret@127.0.0.1:{port}/v1.0/me",
    "http://@127.0.0.1:{port}/v1.0/me",
    "http://:@127.0.0.1:{port}/v1.0/me",
    "http://127.0.0.1:{port}@127.0.0.1:{other}/v1.0/me",
    "http://127.0.0.1:{port}%40127.0.0.1:{other}/v1.0/me",
    "http://127.0.0.1:{port}\\@127.0.0.1:{other}/v1.0/me",
    "http://127.0.0.1:{port}#@127.0.0.1:{other}/v1.0/me",
    "http://127.0.0.1:{port}?@127.0.0.1:{other}/v1.0/me",
    "http://127.0.0.1:{other}/@127.0.0.1:{port}/v1.0/me",
    // The right origin, but not below the base.
    "{backend}",
    "{backend}/",
    "{backend}/me",
    "{backend}/V1.0/me",
    "{backend}/v1.0evil",
    "{backend}/v1.0evil/me",
    "{backend}/v1.0.evil/me",
    "{backend}/v1.0%2fme",
    "{backend}/v1%2e0/me",
    "{backend}//v1.0/me",
    "{backend}/x/v1.0/me",
    "{backend}?/v1.0/me",
    "{backend}@127.0.0.1:{other}/v1.0/me",
    "{backend}.evil.example/v1.0/me",
    // Fragments.
    "#",
    "me#x",
    "/me?x=1#y",
    "{backend}/v1.0/me#x",
    // Control characters, raw and encoded.
    "me\0",
    "\tme",
    "me\t",
    "m\te",
    ".\t./admin",
    ".\n./admin",
    "me\r\nHost: evil.example",
    "me HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /v1.0/me",
    "me?x=1\r\ny",
    "me\u{7f}",
    "me\u{85}",
    "{backend}/v1.0/\tme",
    "ht\ntp://127.0.0.1:{other}/v1.0/me",
    "me%00",
    "me%00.png",
    "..%00/admin",
    "me%0a",
    "me%0D%0AHost:%20evil.example",
    "me%09you",
    "me%1b",
    "me%7F",
    "me%2500",
    "me%25250a",
];

#[test]
fn whatever_would_leave_the_base_is_refused_before_a_token_is_fetched() {
    let mut bench = Bench::new();
    // The token has expired: whoever wants one must ask Entra.
    bench.server.clock.advance(4000);
    bench.entra.advance(4000);
    let asked = bench.entra.token_requests().len();
    let too_long = format!("/{}", "x".repeat(8192));
    let mut passed = Vec::new();
    for endpoint in REFUSED.iter().copied().chain([too_long.as_str()]) {
        let endpoint = bench.filled(endpoint);
        match bench.call(&endpoint) {
            Err(reason) => assert!(!reason.is_empty()),
            Ok(request) => passed.push((endpoint, request.target)),
        }
    }
    assert!(passed.is_empty(), "these passed: {passed:#?}");
    assert_eq!(bench.entra.token_requests().len(), asked);
}

#[test]
fn a_refusal_names_the_endpoint_the_reason_and_the_base() {
    let mut bench = Bench::new();
    let refused = bench
        .mcp
        .fails("api_get_request", json!({"endpoint": "/a/../b"}));
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("\"/a/../b\"") && message.contains("upwards"),
        "{refused}"
    );
    assert!(
        refused["hint"]
            .as_str()
            .unwrap()
            .contains(&bench.backend.url()),
        "{refused}"
    );
}

// CASES B5
#[test]
fn the_refusal_of_a_number_sign_says_how_to_write_it_in_a_name() {
    let mut bench = Bench::new();
    for endpoint in ["files/Invoice #7.pdf", "#", "/me?x=1#y"] {
        let refused = bench
            .mcp
            .fails("api_get_request", json!({"endpoint": endpoint}));
        let (message, hint) = (&refused["message"], &refused["hint"]);
        assert!(message.as_str().unwrap().contains("'#'"), "{refused}");
        assert!(
            hint.as_str().unwrap().contains("'#' is written %23"),
            "{refused}"
        );
    }
    bench.assert_passes("files/Invoice %237.pdf", "/v1.0/files/Invoice%20%237.pdf");
}

#[test]
fn whatever_lies_below_the_base_reaches_it_as_written() {
    let mut bench = Bench::new();
    for (endpoint, target) in [
        ("", "/v1.0/"),
        ("/", "/v1.0/"),
        ("me", "/v1.0/me"),
        ("/me", "/v1.0/me"),
        ("me/", "/v1.0/me/"),
        ("me/messages/7", "/v1.0/me/messages/7"),
        ("?x=1", "/v1.0/?x=1"),
        ("/?x=1", "/v1.0/?x=1"),
        // Absolute, under the base.
        ("{backend}/v1.0", "/v1.0/"),
        ("{backend}/v1.0/", "/v1.0/"),
        ("{backend}/v1.0/me", "/v1.0/me"),
        ("HTTP://127.0.0.1:{port}/v1.0/me", "/v1.0/me"),
        (
            "{backend}/v1.0/me/messages?$top=10&$skiptoken=a%2Bb%3D%3D",
            "/v1.0/me/messages?$top=10&$skiptoken=a%2Bb%3D%3D",
        ),
        // OData.
        (
            "users('ada')/messages(7)/$value",
            "/v1.0/users('ada')/messages(7)/$value",
        ),
        (
            "Orders(1)/Lines?$expand=Product($select=Name)",
            "/v1.0/Orders(1)/Lines?$expand=Product($select=Name)",
        ),
        (
            "users?$filter=name%20eq%20%27O%27%27Neil%27",
            "/v1.0/users?$filter=name%20eq%20%27O%27%27Neil%27",
        ),
        (
            "users?$filter=age gt 10",
            "/v1.0/users?$filter=age%20gt%2010",
        ),
        (
            "users?$select=id,displayName&$count=true",
            "/v1.0/users?$select=id,displayName&$count=true",
        ),
        (
            "drive/root:/Documents/report.docx:/content",
            "/v1.0/drive/root:/Documents/report.docx:/content",
        ),
        // What is encoded stays so; what must be encoded is.
        ("files/a%2Fb", "/v1.0/files/a%2Fb"),
        ("files/a%2fb%20c%23d%3fe", "/v1.0/files/a%2fb%20c%23d%3fe"),
        ("files/100%25", "/v1.0/files/100%25"),
        ("files/100%25unit", "/v1.0/files/100%25unit"),
        ("files/a b", "/v1.0/files/a%20b"),
        ("files/größe", "/v1.0/files/gr%C3%B6%C3%9Fe"),
        ("files/gr%C3%B6%C3%9Fe", "/v1.0/files/gr%C3%B6%C3%9Fe"),
        ("日本/🎉", "/v1.0/%E6%97%A5%E6%9C%AC/%F0%9F%8E%89"),
        ("search?q=ü&r=日", "/v1.0/search?q=%C3%BC&r=%E6%97%A5"),
        ("search?q=a+b&r=c%2Bd", "/v1.0/search?q=a+b&r=c%2Bd"),
        ("search?q=%0D%0A", "/v1.0/search?q=%0D%0A"),
        ("a+b~c!d*e,f;g=h@i&j=k", "/v1.0/a+b~c!d*e,f;g=h@i&j=k"),
        (
            "cars;color=red/wheels;size=18",
            "/v1.0/cars;color=red/wheels;size=18",
        ),
        (
            "urn:example:animal:ferret",
            "/v1.0/urn:example:animal:ferret",
        ),
        ("me:8080", "/v1.0/me:8080"),
        (
            "users/ada@contoso.example/messages",
            "/v1.0/users/ada@contoso.example/messages",
        ),
        ("@evil.example", "/v1.0/@evil.example"),
        (":80", "/v1.0/:80"),
        // CASES B5: look-alikes that lead nowhere.
        (
            "files/Offer 1／2.pdf",
            "/v1.0/files/Offer%201%EF%BC%8F2.pdf",
        ),
        ("files/3⁄4 ∕ 5", "/v1.0/files/3%E2%81%844%20%E2%88%95%205"),
        ("files/a＼b", "/v1.0/files/a%EF%BC%BCb"),
        (
            "files/v1．2 и т．д．",
            "/v1.0/files/v1%EF%BC%8E2%20%D0%B8%20%D1%82%EF%BC%8E%D0%B4%EF%BC%8E",
        ),
        ("files/A‥Z", "/v1.0/files/A%E2%80%A5Z"),
        ("files/1%EF%BC%8F2", "/v1.0/files/1%EF%BC%8F2"),
        ("files/a%23b %231", "/v1.0/files/a%23b%20%231"),
        // Dots that lead nowhere.
        ("...", "/v1.0/..."),
        ("a..b/c..", "/v1.0/a..b/c.."),
        (".well-known/..x/x..", "/v1.0/.well-known/..x/x.."),
        ("v1..2/%2e%2ex", "/v1.0/v1..2/%2e%2ex"),
        (
            "Größe – v1..2.∖é.日本.pdf",
            "/v1.0/Gr%C3%B6%C3%9Fe%20%E2%80%93%20v1..2.%E2%88%96%C3%A9.%E6%97%A5%E6%9C%AC.pdf",
        ),
        ("v1.0/me", "/v1.0/v1.0/me"),
        // In a query nothing leads anywhere.
        (
            "me?path=../../admin&next=//evil.example",
            "/v1.0/me?path=../../admin&next=//evil.example",
        ),
        (
            "me?next=http://evil.example/..;/",
            "/v1.0/me?next=http://evil.example/..;/",
        ),
        ("me?x=%2e%2e%2f", "/v1.0/me?x=%2e%2e%2f"),
        ("me?a=b?c=d/..", "/v1.0/me?a=b?c=d/.."),
    ] {
        bench.assert_passes(endpoint, target);
    }
}

#[test]
fn the_links_that_an_api_gives_can_be_followed() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern();
    mcp.sign_in(ADA);
    let mut pages = 0;
    let mut next = json!("/me/messages?$top=10");
    while next.is_string() {
        let mut page = mcp.ok("api_get_request", json!({"endpoint": next}));
        pages += 1;
        next = page["data"]["@odata.nextLink"].take();
    }
    assert_eq!(pages, 3);
}

#[test]
fn the_base_may_be_a_whole_origin() {
    let mut bench = Bench::with_base("{backend}");
    for (endpoint, target) in [
        ("", "/"),
        ("/", "/"),
        ("me", "/me"),
        ("{backend}", "/"),
        ("{backend}/me?x=1", "/me?x=1"),
        ("me//x", "/me//x"),
    ] {
        bench.assert_passes(endpoint, target);
    }
    for endpoint in [
        "..",
        "%2e%2e/",
        "//127.0.0.1:{other}/me",
        "http://127.0.0.1:{other}/",
        "{backend}@127.0.0.1:{other}/",
    ] {
        let endpoint = bench.filled(endpoint);
        assert!(bench.call(&endpoint).is_err(), "{endpoint}");
    }
}

#[test]
fn the_base_may_end_in_a_slash_and_be_deep() {
    let mut bench = Bench::with_base("{backend}/api/tenants/a%20b/v1.0/");
    for endpoint in ["me", "/me", "{backend}/api/tenants/a%20b/v1.0/me"] {
        bench.assert_passes(endpoint, "/api/tenants/a%20b/v1.0/me");
    }
    bench.assert_passes(
        "{backend}/api/tenants/a%20b/v1.0",
        "/api/tenants/a%20b/v1.0/",
    );
    for endpoint in [
        "{backend}/api/tenants/b/v1.0/me",
        "{backend}/api/me",
        "{backend}/api/tenants/a%20b/v1.0x",
    ] {
        let endpoint = bench.filled(endpoint);
        assert!(bench.call(&endpoint).is_err(), "{endpoint}");
    }
}

/// RFC 3986 §6.2.2.1: scheme and host do not know case; a path does.
#[test]
fn a_host_name_is_the_same_in_any_case() {
    let mut bench = Bench::with_base("http://LocalHost:{port}/v1.0");
    for endpoint in [
        "http://localhost:{port}/v1.0/me",
        "HTTP://LOCALHOST:{port}/v1.0/me",
    ] {
        bench.assert_passes(endpoint, "/v1.0/me");
    }
    let endpoint = bench.filled("http://localhost:{port}/V1.0/me");
    assert!(bench.call(&endpoint).is_err());
}

/// RFC 3986 §6.2.3: the scheme's own port is the same as none. Nobody is there to answer; what
/// counts is that the call was tried.
#[test]
fn the_schemes_own_port_may_be_named_or_not() {
    let entra = Entra::start();
    for (base, endpoint) in [
        ("https://localhost/v1.0", "https://localhost:443/v1.0/me"),
        ("https://localhost:443/v1.0", "https://localhost/v1.0/me"),
    ] {
        let server = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", base)
            .start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        let tried = mcp.fails("api_get_request", json!({"endpoint": endpoint}));
        assert_eq!(tried["error"], "backend_unreachable", "{tried}");
    }
}

#[test]
fn params_lead_nowhere() {
    let mut bench = Bench::new();
    let params = json!({"/../": "/../", "#": "#", "?": "?", "\\": "\r\n"});
    bench.mcp.ok(
        "api_get_request",
        json!({"endpoint": "me", "params": params}),
    );
    let request = lock(&bench.arrived).pop().unwrap();
    assert_eq!(
        (request.path.as_str(), request.query.len()),
        ("/v1.0/me", 4)
    );
}

/// Random endpoints made of everything that has ever led a server astray. Whatever passes must lie
/// below the base for the most lenient reader there is.
#[test]
fn no_random_endpoint_leads_out() {
    const PIECES: &[&str] = &[
        "..",
        ".",
        "/",
        "/",
        "//",
        "\\",
        "%2e",
        "%2E",
        "%252e",
        "%25",
        "%2f",
        "%5c",
        "%255c",
        "%3b",
        ";",
        ";a=b",
        "?",
        "#",
        "@",
        ":",
        "&",
        "=",
        "$",
        "'",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "^",
        "`",
        "<",
        "\"",
        "~",
        "+",
        "*",
        "%",
        "%2",
        "%c0%ae",
        "%c0%ae%c0%ae/",
        "..%c0%af",
        "..;/",
        "/%2e%2e/",
        "%00",
        "%09",
        "%0d%0a",
        "%20",
        " ",
        "\t",
        "\n",
        "\u{feff}",
        "．",
        "／",
        "∖",
        "¥",
        "\u{200b}",
        "。",
        "é",
        "me",
        "me",
        "me/",
        "/you",
        "v1.0",
        "/v1.0/",
        "evil",
        "x=1",
        "http:",
        "http://",
        "https://",
        "HTTP://",
        "file://",
        "127.0.0.1",
        "localhost",
        "{port}",
        "{other}",
        "{backend}",
        "{backend}/v1.0",
        "{backend}/v1.0/",
        "{backend}/v1.0/",
        "127.0.0.1:{other}",
    ];
    let mut bench = Bench::new();
    let authority = bench.backend.origin().replace("http://", "");
    let mut random = Random::new(0x9e37_79b9_7f4a_7c15);
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..1000 {
        let length = 1 + random.below(6);
        let endpoint: String = (0..length)
            .map(|_| PIECES[random.below(PIECES.len())])
            .collect();
        let endpoint = bench.filled(&endpoint);
        let Ok(request) = bench.call(&endpoint) else {
            refused += 1;
            continue;
        };
        passed += 1;
        assert!(
            stays_below(&request.target, "v1.0"),
            "{endpoint:?} led to {}",
            request.target
        );
        assert_eq!(
            request.header("host"),
            Some(authority.as_str()),
            "{endpoint:?}"
        );
        assert!(
            request
                .target
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'#'),
            "{endpoint:?}"
        );
    }
    assert!(
        passed > 100 && refused > 100,
        "{passed} passed, {refused} were refused: the pieces are badly chosen"
    );
}

#[test]
fn the_most_lenient_reader_sees_through_every_disguise() {
    for target in [
        "/v1.0/me",
        "/v1.0/",
        "/v1.0/a%2Fb;x/...?/../..",
        "/v1.0/a/../b",
    ] {
        assert!(stays_below(target, "v1.0"), "{target}");
    }
    for target in [
        "/admin",
        "/v1.0evil/me",
        "/v1.0/..",
        "/v1.0/../v1.0/me",
        "/v1.0/a/%2e%2e/%252E%252e",
        "/v1.0/..;a/x",
        "/v1.0/%5c..%255C",
        "/v1.0//../x",
        "/v1.0/%c0%ae%c0%ae/x",
        "//v1.0/me",
        "http://evil.example/v1.0/",
    ] {
        assert!(!stays_below(target, "v1.0"), "{target}");
    }
}
