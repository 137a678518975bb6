//! The API tools on the wire: what reaches the backend, and what of its answer reaches the client;
//! then the tools about the server and its accounts.

use std::io::Write as _;
use std::net::{Shutdown, TcpListener};
use std::thread;

use crate::support::Gate;
use crate::support::backend::Backend;
use crate::support::entra::{ACCESS_TOKEN_MARK, ADA, CLIENT_ID, Entra, GRACE, TENANT_ID};
use crate::support::http::{Answer, Reply, Request, StandIn};
use crate::support::server::{Mcp, Running, Setup, as_refs};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use entra_auth_mcp::api::headers::AllowedHeaders;
use serde_json::{Value, json};

const METHODS: [(&str, &str); 5] = [
    ("api_get_request", "GET"),
    ("api_post_request", "POST"),
    ("api_put_request", "PUT"),
    ("api_patch_request", "PATCH"),
    ("api_delete_request", "DELETE"),
];
/// Of these a request without a body says so.
const ANTICIPATING: [&str; 3] = ["api_post_request", "api_put_request", "api_patch_request"];
const WITH_DATA: [&str; 4] = [
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];

/// A server with Ada signed in, and an MCP client of it.
struct Bench {
    mcp: Mcp,
    server: Running,
    backend: Backend,
    entra: Entra,
}

impl Bench {
    fn new() -> Self {
        Self::with(|setup| setup)
    }

    fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let server = change(Setup::new(&entra, Some(&backend))).start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            server,
            backend,
            entra,
        }
    }

    /// From now on the backend answers so, whatever is asked.
    fn answer(&self, reply: Reply) {
        self.backend.on(move |_| Some(reply.clone().into()));
    }

    fn get(&mut self, endpoint: &str) -> Value {
        self.mcp
            .call("api_get_request", json!({"endpoint": endpoint}))
    }

    /// What `api_get_request` makes of `reply`, whose status is a success.
    fn got(&mut self, reply: Reply) -> Value {
        self.answer(reply);
        self.mcp.ok("api_get_request", json!({"endpoint": "/x"}))
    }

    /// Calls `tool` with its arguments written just so; gives the answer's text as it was written.
    fn call_as_written(&mut self, tool: &str, arguments: &str) -> String {
        let headers = self.mcp.headers("tools/call", Some(tool));
        let body = self.mcp.body(
            "tools/call",
            json!({"name": tool, "arguments": "ARGUMENTS"}),
        );
        let body = body.replace("\"ARGUMENTS\"", arguments);
        let reply = self
            .mcp
            .http
            .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }
}

fn values_of<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    let named = request
        .headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

// ---- What reaches the backend ----

#[test]
fn every_api_tool_sends_its_own_method() {
    let mut bench = Bench::new();
    for (tool, method) in METHODS {
        let answer = bench.mcp.ok(tool, json!({"endpoint": "/echo"}));
        assert_eq!(answer["data"]["method"], method);
        assert_eq!(
            (
                bench.backend.last().method.as_str(),
                bench.backend.last().target.as_str()
            ),
            (method, "/v1.0/echo")
        );
    }
    assert_eq!(bench.backend.requests().len(), METHODS.len());
}

#[test]
fn params_become_the_query_in_the_order_given() {
    let mut bench = Bench::new();
    for (endpoint, params, target) in [
        ("/echo", "{}", "/echo"),
        ("/echo", r#"{"a":"b"}"#, "/echo?a=b"),
        ("/echo", r#"{"z":"1","a":"2"}"#, "/echo?z=1&a=2"),
        // Numbers stay as they were written.
        ("/echo", r#"{"n":1.50}"#, "/echo?n=1.50"),
        ("/echo", r#"{"n":-0}"#, "/echo?n=-0"),
        ("/echo", r#"{"n":1e3}"#, "/echo?n=1e3"),
        (
            "/echo",
            r#"{"n":123456789012345678901234567890}"#,
            "/echo?n=123456789012345678901234567890",
        ),
        (
            "/echo",
            r#"{"yes":true,"no":false}"#,
            "/echo?yes=true&no=false",
        ),
        // An array repeats its key.
        ("/echo", r#"{"k":["a",2.0,true]}"#, "/echo?k=a&k=2.0&k=true"),
        (
            "/echo",
            r#"{"a":1,"k":[ "x" , "y" ],"b":2}"#,
            "/echo?a=1&k=x&k=y&b=2",
        ),
        ("/echo", r#"{"k":[]}"#, "/echo"),
        ("/echo", r#"{"empty":""}"#, "/echo?empty="),
        // Whatever has a meaning in a URL is encoded; a space as %20, which every decoder knows.
        ("/echo", r#"{"q":"a b"}"#, "/echo?q=a%20b"),
        ("/echo", r#"{"q":"a+b"}"#, "/echo?q=a%2Bb"),
        (
            "/echo",
            r#"{"q":"a&b=c#d?e/f%20"}"#,
            "/echo?q=a%26b%3Dc%23d%3Fe%2Ff%2520",
        ),
        ("/echo", r#"{"a&b":"c"}"#, "/echo?a%26b=c"),
        ("/echo", r#"{"q":"\u00fc"}"#, "/echo?q=%C3%BC"),
        (
            "/echo",
            r#"{"q":"ü日🎉"}"#,
            "/echo?q=%C3%BC%E6%97%A5%F0%9F%8E%89",
        ),
        (
            "/echo",
            r#"{"q":"line\r\nX: y"}"#,
            "/echo?q=line%0D%0AX%3A%20y",
        ),
        ("/echo", r#"{"$top":5}"#, "/echo?%24top=5"),
        // They join the query that the endpoint has.
        ("/echo?x=1", r#"{"a":"b"}"#, "/echo?x=1&a=b"),
        ("/echo?x=a%20b+c", r#"{"a":"b"}"#, "/echo?x=a%20b+c&a=b"),
        ("/echo?", r#"{"a":"b"}"#, "/echo?a=b"),
    ] {
        bench.call_as_written(
            "api_get_request",
            &format!(r#"{{"endpoint":"{endpoint}","params":{params}}}"#),
        );
        assert_eq!(
            bench.backend.last().target,
            format!("/v1.0{target}"),
            "{params}"
        );
    }
}

#[test]
fn encoded_params_decode_to_what_was_given() {
    let mut bench = Bench::new();
    let odd: String = (' '..='~')
        .chain("\t\r\n\u{7f}üß日🎉\u{2028}".chars())
        .collect();
    bench.mcp.ok(
        "api_get_request",
        json!({"endpoint": "/echo", "params": {&odd: &odd}}),
    );
    assert_eq!(bench.backend.last().query, [(odd.clone(), odd)]);
}

// CASES B8
#[test]
fn data_reaches_the_backend_byte_for_byte_as_json() {
    let mut bench = Bench::new();
    for data in [
        r#"{"z":1,"a":2,"m":{"y":[],"b":null}}"#,
        "12345678901234567890123456789",
        "[1.50,1E+3,-0.0,0.1000000000000000055511151231257827]",
        r#"{ "spaced" : [ 1 , 2 ] }"#,
        "{\n\t\"lines\": true\n}",
        r#"{"escapes":"\u00fc\/\ud83c\udf89 ü🎉"}"#,
        r#""just text""#,
        "true",
    ] {
        for tool in WITH_DATA {
            bench.call_as_written(tool, &format!(r#"{{"endpoint":"/echo","data":{data}}}"#));
            let request = bench.backend.last();
            assert_eq!(String::from_utf8(request.body.clone()).unwrap(), data);
            assert_eq!(values_of(&request, "content-type"), ["application/json"]);
            assert_eq!(
                values_of(&request, "content-length"),
                [data.len().to_string()]
            );
        }
    }
}

#[test]
fn data_is_json_under_any_json_media_type() {
    let mut bench = Bench::new();
    for content_type in [
        "application/json; charset=utf-8",
        "application/merge-patch+json",
        "Application/JSON",
    ] {
        let headers = json!({"content-type": content_type});
        bench.mcp.ok(
            "api_patch_request",
            json!({"endpoint": "/echo", "data": {"a": [1]}, "headers": headers}),
        );
        let request = bench.backend.last();
        assert_eq!(request.body, br#"{"a":[1]}"#);
        assert_eq!(values_of(&request, "content-type"), [content_type]);
    }
}

#[test]
fn a_string_goes_as_its_text_under_the_content_type_given() {
    let mut bench = Bench::new();
    for (content_type, text) in [
        ("text/plain", "grüße\n\t\"quoted\" 🎉"),
        ("text/csv; charset=utf-8", "a,b\r\n1,2\r\n"),
        ("application/x-www-form-urlencoded", "a=b&c=d"),
        ("application/xml", "<a>ü</a>"),
        ("text/plain", ""),
    ] {
        let headers = json!({"Content-Type": content_type});
        for tool in WITH_DATA {
            let arguments = json!({"endpoint": "/echo", "data": text, "headers": headers});
            bench.mcp.ok(tool, arguments);
            let request = bench.backend.last();
            assert_eq!(String::from_utf8(request.body.clone()).unwrap(), text);
            assert_eq!(values_of(&request, "content-type"), [content_type]);
            assert_eq!(
                values_of(&request, "content-length"),
                [text.len().to_string()]
            );
        }
    }
}

#[test]
fn what_is_no_string_cannot_go_as_text() {
    let mut bench = Bench::new();
    for data in [json!({"a": 1}), json!([1]), json!(1), json!(true)] {
        let arguments =
            json!({"endpoint": "/echo", "data": data, "headers": {"Content-Type": "text/plain"}});
        let refused = bench.mcp.fails("api_post_request", arguments);
        assert_eq!(refused["error"], "invalid_request");
        assert!(
            refused["message"].as_str().unwrap().contains("text/plain"),
            "{refused}"
        );
        assert!(
            refused["hint"].as_str().unwrap().contains("Content-Type"),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

/// RFC 9110 §8.6: a method that anticipates content says that there is none.
#[test]
fn without_data_there_is_no_body() {
    let mut bench = Bench::new();
    for (tool, _) in METHODS {
        bench.mcp.ok(tool, json!({"endpoint": "/echo"}));
        let request = bench.backend.last();
        let length = if ANTICIPATING.contains(&tool) {
            vec!["0"]
        } else {
            vec![]
        };
        assert_eq!(values_of(&request, "content-length"), length, "{tool}");
        assert!(
            request.body.is_empty() && request.header("content-type").is_none(),
            "{request:?}"
        );
        assert!(request.header("transfer-encoding").is_none(), "{request:?}");
    }
}

#[test]
fn harmless_headers_go_along() {
    let mut bench = Bench::new();
    for (name, value) in [
        ("Accept", "text/csv"),
        ("accept", "application/json;odata.metadata=full"),
        ("If-Match", "W/\"1\""),
        ("If-None-Match", "*"),
        ("Prefer", "return=minimal, respond-async"),
        ("ConsistencyLevel", "eventual"),
        ("consistencylevel", "eventual"),
        ("Idempotency-Key", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        ("Range", "bytes=0-99"),
        ("Accept-Language", "de, en;q=0.5"),
        ("Content-Language", "de"),
        ("Content-Disposition", "attachment; filename=\"a.txt\""),
        ("If-Modified-Since", "Sat, 28 Nov 2026 00:00:00 GMT"),
        ("If-Unmodified-Since", "Sat, 28 Nov 2026 00:00:00 GMT"),
        ("OData-Version", "4.0"),
        ("OData-MaxVersion", "4.01"),
        ("OData-Isolation", "snapshot"),
        ("MSCRM.SolutionUniqueName", "x"),
        ("MSCRMBypassCustomPluginExecution", "true"),
        ("client-request-id", "1"),
        ("return-client-request-id", "true"),
        ("X-Correlation-Id", "1"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("X-Ms-Client-Request-Id", "1"),
        (
            "X-Request-Id",
            "a value, with \"all\" sorts of 'marks' @ <once>",
        ),
    ] {
        bench.mcp.ok(
            "api_get_request",
            json!({"endpoint": "/echo", "headers": {name: value}}),
        );
        assert_eq!(values_of(&bench.backend.last(), name), [value], "{name}");
    }
}

#[test]
fn a_url_or_a_header_that_is_longer_than_servers_take_is_refused_in_few_words() {
    let mut bench = Bench::new();
    let long = |length| "x".repeat(length);
    bench.mcp.ok(
        "api_get_request",
        json!({"endpoint": "/echo", "params": {"q": long(30_000)}}),
    );
    bench.mcp.ok(
        "api_get_request",
        json!({"endpoint": "/echo", "headers": {"x-request-id": long(31_000), "prefer": long(31_000)}}),
    );
    let before = bench.backend.requests().len();
    for length in [32_000, 40_000, 200_000] {
        for given in [
            json!({"params": {"q": long(length)}}),
            json!({"headers": {"x-request-id": long(length)}}),
        ] {
            let mut arguments = given.clone();
            arguments["endpoint"] = json!("/echo");
            let refused = bench.mcp.fails("api_get_request", arguments);
            assert_eq!(refused["error"], "invalid_request");
            assert!(refused.to_string().len() < 500, "{refused}");
        }
    }
    assert_eq!(bench.backend.requests().len(), before);
}

#[test]
fn an_answer_of_any_type_is_accepted_unless_the_caller_says_otherwise() {
    let mut bench = Bench::new();
    bench.get("/echo");
    let accept = bench.backend.last().header("accept").unwrap().to_owned();
    assert!(
        accept.contains("application/json") && accept.contains("*/*"),
        "{accept}"
    );
}

#[test]
fn headers_that_could_redirect_or_impersonate_are_refused() {
    let mut bench = Bench::new();
    for name in [
        // Credentials and the host.
        "Authorization",
        "authorization",
        "AUTHORIZATION",
        "Proxy-Authorization",
        "Cookie",
        "Cookie2",
        "Set-Cookie",
        "Host",
        ":authority",
        // Hop by hop and framing (RFC 9110 §7.6.1, RFC 9112 §6).
        "Connection",
        "Proxy-Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "Content-Length",
        "Content-Encoding",
        "Expect",
        "Via",
        // Who is calling, and from where.
        "Forwarded",
        "X-Forwarded",
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "X-Forwarded-Anything",
        "X_Forwarded_For",
        "X-Real-IP",
        "X-Client-IP",
        "X-True-Client-IP",
        "X-ProxyUser-Ip",
        "X-Originating-IP",
        "X-Azure-ClientIP",
        "X-SSL-Client-Verify",
        "X-WebAuth-User",
        "X-Consumer-Username",
        "X-Cluster-Client-IP",
        "Origin",
        "Referer",
        "User-Agent",
        // Another method, path or host than the one that was checked.
        "X-HTTP-Method-Override",
        "x-http-method-override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Original-Host",
        "X-HTTP-DestinationURL",
        "X-Rewrite-URL",
        "X-Host",
        // A platform's own way to say who has signed in.
        "X-MS-Client-Principal",
        "X-MS-Client-Principal-Name",
        "X-MS-Token-AAD-Access-Token",
        // CASES C12: what no list of bad headers had.
        "X-Override-URL",
        "X-Original-Path",
        "X-Invoke-Path",
        "X-Pomerium-Claim-Email",
        "X-Middleware-Subrequest",
        "X-Custom",
        "x-ms-version",
        "X-Request-Id-2",
        "X_Request_Id",
        "Accept-Encoding",
        "If-Range",
        "Impersonate-User",
        // No header names at all.
        "",
        " ",
        "X A",
        "X-A:",
        "X-A: b\r\nAuthorization",
        "X-Ünicode",
        " Authorization",
        "Authorization ",
        "Accept\u{0}",
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/echo", "headers": {name: "GET"}}),
        );
        assert_eq!(refused["error"], "invalid_request", "{name:?}");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains(&format!("{name:?}")),
            "{refused}"
        );
        assert!(
            refused["hint"].as_str().unwrap().contains("if-none-match"),
            "{refused}"
        );
        assert!(
            refused["hint"]
                .as_str()
                .unwrap()
                .contains("ALLOWED_REQUEST_HEADERS"),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

// CASES C12
#[test]
fn a_setting_adds_headers_to_the_allowed_ones() {
    let added = "X-Tenant, api-*\tX-Unused";
    let mut bench = Bench::with(|setup| setup.with("ALLOWED_REQUEST_HEADERS", added));
    for name in ["X-Tenant", "x-tenant", "Api-Version", "api-", "If-Match"] {
        let call = json!({"endpoint": "/echo", "headers": {name: "7"}});
        bench.mcp.ok("api_get_request", call);
        assert_eq!(values_of(&bench.backend.last(), name), ["7"], "{name}");
    }
    for name in [
        "X-Tenant-2",
        "X_Tenant",
        "Api",
        "X-Api-Version",
        "api-ü",
        "api- x",
    ] {
        let call = json!({"endpoint": "/echo", "headers": {name: "7"}});
        let refused = bench.mcp.fails("api_get_request", call);
        assert_eq!(refused["error"], "invalid_request", "{name}: {refused}");
    }
}

const NEVER: [&str; 20] = [
    "Authorization",
    "Proxy-Authorization",
    "Cookie",
    "Host",
    "Connection",
    "Proxy-Connection",
    "Proxy-Authenticate",
    "Proxy",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Transfer_Encoding",
    "Upgrade",
    "Content-Length",
    "content_length",
    "Expect",
    "HTTP2-Settings",
    "proxy_authorization",
    "cOOKIE",
];

// CASES C12
#[test]
fn no_setting_allows_headers_of_the_connection_or_credentials() {
    let wide: Vec<String> = ('a'..='z').map(|letter| format!("{letter}*")).collect();
    let wide = wide.join(" ");
    let mut bench = Bench::with(|setup| setup.with("ALLOWED_REQUEST_HEADERS", &wide));
    for name in NEVER {
        let call = json!({"endpoint": "/echo", "headers": {name: "x"}});
        let refused = bench.mcp.fails("api_get_request", call);
        assert_eq!(refused["error"], "invalid_request", "{name}: {refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("no setting allows it"), "{refused}");
    }
    assert!(bench.backend.requests().is_empty());
    let call = json!({"endpoint": "/echo", "headers": {"X-Anything": "x"}});
    bench.mcp.ok("api_get_request", call);
    for name in NEVER {
        for setting in [name.to_owned(), format!("X-A {name}*")] {
            let mend = AllowedHeaders::parse(&setting).unwrap_err();
            assert!(mend.contains(name), "{mend}");
        }
    }
    assert!(AllowedHeaders::parse("Proxy-Something").is_err());
}

#[test]
fn header_values_that_would_end_the_header_are_refused() {
    let mut bench = Bench::new();
    for value in [
        "a\r\nAuthorization: Bearer x",
        "a\nb",
        "a\rb",
        "\u{0}",
        "\u{1b}[0m",
        "\u{7f}",
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/echo", "headers": {"X-Request-Id": value}}),
        );
        assert_eq!(refused["error"], "invalid_request", "{value:?}");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("\"X-Request-Id\""),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

#[test]
fn a_header_given_twice_is_refused() {
    let mut bench = Bench::new();
    for headers in [
        json!({"X-Request-Id": "1", "x-request-id": "2"}),
        json!({"Content-Type": "text/plain", "content-type": "a/b"}),
    ] {
        let refused = bench.mcp.fails(
            "api_post_request",
            json!({"endpoint": "/x", "data": "", "headers": headers}),
        );
        assert!(
            refused["message"].as_str().unwrap().contains("twice"),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

#[test]
fn the_token_is_sent_once_and_shown_to_nobody_else() {
    let mut bench = Bench::new();
    for (tool, _) in METHODS {
        for endpoint in ["/echo", "/status/500", "/redirect", "/photo", "/v9"] {
            let result = bench.mcp.call(tool, json!({"endpoint": endpoint}));
            assert!(!result.to_string().contains(ACCESS_TOKEN_MARK), "{result}");
        }
    }
    for request in bench.backend.requests() {
        let authorization = values_of(&request, "authorization");
        assert_eq!(authorization.len(), 1, "{request:?}");
        let token = authorization[0].strip_prefix("Bearer ").unwrap();
        assert_eq!(bench.entra.valid_access_token(token).unwrap().username, ADA);
        let elsewhere = request
            .headers
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        assert!(
            elsewhere.clone().all(|(_, value)| !value.contains(token)),
            "{request:?}"
        );
        assert!(
            !request.target.contains(token) && request.body.is_empty(),
            "{request:?}"
        );
    }
}

#[test]
fn bad_arguments_are_refused_before_a_token_is_fetched() {
    let mut bench = Bench::new();
    // The token has expired: whoever wants one must ask Entra.
    bench.server.clock.advance(4000);
    bench.entra.advance(4000);
    let asked = bench.entra.token_requests().len();
    for (tool, arguments) in [
        ("api_get_request", json!({})),
        ("api_get_request", json!({"endpoint": 7})),
        ("api_get_request", json!({"endpoint": "../me"})),
        (
            "api_get_request",
            json!({"endpoint": "https://evil.example/me"}),
        ),
        ("api_get_request", json!({"endpoint": "/me", "data": {}})),
        ("api_get_request", json!({"endpoint": "/me", "unknown": 1})),
        (
            "api_get_request",
            json!({"endpoint": "/me", "params": "a=b"}),
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "params": {"a": {"b": 1}}}),
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "params": {"a": [[1]]}}),
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "params": {"a": [null]}}),
        ),
        ("api_get_request", json!({"endpoint": "/me", "headers": []})),
        (
            "api_get_request",
            json!({"endpoint": "/me", "headers": {"X-A": 1}}),
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "headers": {"Cookie": "a"}}),
        ),
        ("api_get_request", json!({"endpoint": "/me", "user_id": 7})),
        (
            "api_post_request",
            json!({"endpoint": "/me", "data": 7, "headers": {"Content-Type": "text/plain"}}),
        ),
    ] {
        let refused = bench.mcp.fails(tool, arguments);
        assert_eq!(refused["error"], "invalid_request", "{refused}");
        assert!(
            !refused["message"].as_str().unwrap().is_empty()
                && !refused["hint"].as_str().unwrap().is_empty()
        );
    }
    assert_eq!(bench.entra.token_requests().len(), asked);
    assert!(bench.backend.requests().is_empty());
    bench.mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(bench.entra.token_requests().len(), asked + 1);
}

// ---- What of the answer reaches the client ----

#[test]
fn an_answer_has_status_url_type_headers_and_data() {
    let mut bench = Bench::new();
    let created = bench.mcp.ok(
        "api_post_request",
        json!({"endpoint": "/tasks", "data": {"title": "Sleep"}}),
    );
    let url = format!("{}/tasks", bench.backend.url());
    assert_eq!(
        created,
        json!({
            "success": true,
            "status": 201,
            "endpoint": url,
            "content_type": "application/json; charset=utf-8",
            "headers": {"etag": "W/\"1\"", "location": format!("{url}/1")},
            "truncated": false,
            "data": {"id": "1", "title": "Sleep"},
        })
    );
}

#[test]
fn a_resource_is_created_changed_and_deleted() {
    let mut bench = Bench::new();
    let created = bench.mcp.ok(
        "api_post_request",
        json!({"endpoint": "tasks", "data": {"title": "a"}}),
    );
    // The location is absolute, below the base.
    let (task, etag) = (&created["headers"]["location"], &created["headers"]["etag"]);
    let change = json!({"endpoint": task, "data": {"done": true}, "headers": {"If-Match": etag}});
    let changed = bench.mcp.ok("api_patch_request", change.clone());
    assert_eq!(
        changed["data"],
        json!({"id": "1", "title": "a", "done": true})
    );
    assert_eq!(bench.mcp.fails("api_patch_request", change)["status"], 412);
    let replaced = bench.mcp.ok(
        "api_put_request",
        json!({"endpoint": task, "data": {"title": "b"}}),
    );
    assert_eq!(replaced["data"], json!({"id": "1", "title": "b"}));
    assert_eq!(
        bench
            .mcp
            .ok("api_delete_request", json!({"endpoint": task}))["status"],
        204
    );
    assert_eq!(
        bench
            .mcp
            .fails("api_get_request", json!({"endpoint": task}))["status"],
        404
    );
}

// CASES B2
#[test]
fn response_headers_are_handed_on_but_for_cookies_the_connections_and_policies() {
    let mut bench = Bench::new();
    let handed_on = [
        ("ETag", "\"7\""),
        ("Last-Modified", "Tue, 01 Sep 2026 00:00:00 GMT"),
        ("Location", "https://elsewhere.example/x"),
        ("Content-Location", "/x/7"),
        ("Retry-After", "120"),
        ("Link", "<https://api.example/x?page=2>; rel=\"next\""),
        ("request-id", "a"),
        ("X-Request-Id", "b"),
        ("client-request-id", "c"),
        ("X-Correlation-Id", "d"),
        ("x-ms-request-id", "e"),
        // What stands in a header alone: a new id, the next page, an operation to poll, a total, a
        // name, a limit.
        ("OData-EntityId", "https://api.example/x(7)"),
        ("OData-Version", "4.0"),
        ("Preference-Applied", "return=minimal"),
        ("x-ms-continuationtoken", "abc=="),
        ("Operation-Location", "https://api.example/operations/7"),
        (
            "Azure-AsyncOperation",
            "https://api.example/operations/7?v=1",
        ),
        ("X-Total-Count", "4711"),
        ("Content-Range", "bytes 0-9/100"),
        ("Content-Disposition", "attachment; filename=\"a.pdf\""),
        ("Content-Language", "de"),
        ("Accept-Ranges", "bytes"),
        ("Allow", "GET, PUT"),
        ("X-RateLimit-Remaining", "12"),
        ("RateLimit", "\"default\";r=50;t=30"),
        ("Deprecation", "@1688169599"),
        ("Sunset", "Wed, 11 Nov 2026 23:59:59 GMT"),
        ("Warning", "199 - \"old\""),
        ("Cache-Control", "max-age=60"),
        ("Date", "Tue, 01 Sep 2026 00:00:00 GMT"),
        ("Server", "x"),
        ("X-Powered-By", "x"),
        ("X-Cookie-Policy-Id", "7"),
    ];
    let kept_back = [
        ("Set-Cookie", "session=secret"),
        ("Set-Cookie2", "session=secret"),
        ("WWW-Authenticate", "Bearer"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Status", "x"),
        ("Authentication-Info", "nextnonce=\"x\""),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Trailer", "x"),
        ("Upgrade", "h2c"),
        ("Alt-Svc", "h3=\":443\""),
        ("Content-Encoding", "identity"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("Content-Security-Policy-Report-Only", "default-src 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("X-XSS-Protection", "0"),
        ("Referrer-Policy", "no-referrer"),
        ("Permissions-Policy", "camera=()"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "x"),
        ("X-Permitted-Cross-Domain-Policies", "none"),
        ("Report-To", "{}"),
        ("NEL", "{}"),
        ("Expect-CT", "max-age=0"),
    ];
    for status in [200, 404] {
        bench.answer(handed_on.iter().chain(&kept_back).fold(
            Reply::of_json(status, &json!({})),
            |reply, (name, value)| reply.with(name, value),
        ));
        let answer = bench.get("/x")["structuredContent"].take();
        let expected = handed_on
            .iter()
            .map(|(name, value)| (name.to_lowercase(), json!(value)));
        assert_eq!(answer["headers"], Value::Object(expected.collect()));
    }
}

/// A head may have 64 KiB; the model pays for each of them.
#[test]
fn response_headers_are_handed_on_within_a_bound_and_the_useful_ones_first() {
    let mut bench = Bench::new();
    let many = (0..100).fold(Reply::of_json(200, &json!({})), |reply, n| {
        reply.with(&format!("X-Noise-{n}"), &"n".repeat(300))
    });
    let long = "l".repeat(8_000);
    let answer = bench.got(
        many.with("Location", &long)
            .with("Operation-Location", "/o"),
    );
    let headers = answer["headers"].as_object().unwrap();
    assert_eq!(headers["location"], long);
    assert_eq!(headers["operation-location"], "/o");
    let length = |(name, value): (&String, &Value)| name.len() + value.as_str().unwrap().len();
    let (count, bytes) = (headers.len(), headers.iter().map(length).sum::<usize>());
    assert!(bytes <= 16 * 1024 && bytes > 15 * 1024, "{bytes}");
    let left_out = format!("{} response headers", 102 - count);
    assert!(
        answer["hint"].as_str().unwrap().contains(&left_out),
        "{answer}"
    );
    // One that is too long alone takes no other with it.
    let reply = Reply::of_json(200, &json!({})).with("X-Long", &"l".repeat(20_000));
    let answer = bench.got(reply.with("X-Total-Count", "7"));
    assert_eq!(answer["headers"], json!({"x-total-count": "7"}));
}

/// RFC 9110 §5.3: several fields of one name mean their values, joined by commas.
#[test]
fn a_response_header_that_comes_twice_is_handed_on_whole() {
    let mut bench = Bench::new();
    let reply = Reply::of_json(200, &json!({}))
        .with("Link", "</a>; rel=\"next\"")
        .with("Link", "</b>; rel=\"last\"");
    assert_eq!(
        bench.got(reply)["headers"]["link"],
        "</a>; rel=\"next\", </b>; rel=\"last\""
    );
}

#[test]
fn json_is_handed_on_exactly_as_it_came() {
    let mut bench = Bench::new();
    for content_type in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/problem+json",
    ] {
        for body in [
            r#"{"z":1.50,"a":12345678901234567890123,"m":[1E+3,-0.0]}"#,
            r#"{"escapes":"\u00fc\/ü"}"#,
            "[ 1 , { } ]",
            "\"text\"",
            "null",
            "0",
        ] {
            bench.answer(Reply::new(200, content_type, body));
            let text = bench.call_as_written("api_get_request", r#"{"endpoint":"/x"}"#);
            assert!(text.contains(&format!("\"data\":{body}")), "{text}");
            // The text that a model reads says the same.
            let result: Value = serde_json::from_str(&text).unwrap();
            assert!(
                text_of(&result["result"]).contains(&format!("\"data\":{body}")),
                "{text}"
            );
        }
    }
}

#[test]
fn the_text_of_a_result_is_its_structured_content_whatever_it_holds() {
    let mut bench = Bench::new();
    let body = "{\r\n\t\"a\\\"b\\\\\": [\"\\u0001\\n\",\t\"näher – 🙂 \u{7f}\"]\n}";
    bench.answer(Reply::new(200, "application/json", body));
    let result = bench.get("/x");
    let text = text_of(&result);
    assert!(text.ends_with(&format!(",\"data\":{body}}}")), "{text}");
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        result["structuredContent"]
    );
}

#[test]
fn what_only_claims_to_be_json_is_handed_on_as_text() {
    let mut bench = Bench::new();
    for body in ["{\"a\":", "<html>busy</html>", "{} {}", "NaN"] {
        let answer = bench.got(Reply::new(200, "application/json", body));
        assert_eq!(answer["data"], body);
    }
}

#[test]
fn text_is_handed_on_as_text() {
    let mut bench = Bench::new();
    for (content_type, body) in [
        ("text/csv; charset=utf-8", "a,b\r\n1,\"2\"\r\n"),
        ("TEXT/PLAIN", "grüße 🎉\0"),
        ("text/html", "<p>&amp;</p>"),
        ("application/xml", "<a/>"),
        ("application/atom+xml", "<feed/>"),
        ("image/svg+xml", "<svg/>"),
        ("application/x-ndjson", "{}\n{}\n"),
        ("", "no type at all"),
    ] {
        let answer = bench.got(Reply::new(200, content_type, body));
        assert_eq!(answer["data"], body, "{content_type}");
        let expected = if content_type.is_empty() {
            Value::Null
        } else {
            content_type.into()
        };
        assert_eq!(answer["content_type"], expected);
    }
}

#[test]
fn anything_else_is_handed_on_as_base64_with_type_and_size() {
    let mut bench = Bench::new();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (content_type, body) in [
        ("application/octet-stream", every_byte.as_slice()),
        ("application/pdf", b"%PDF-1.7"),
        // Not UTF-8, whatever the type says.
        ("text/plain; charset=utf-8", b"gr\xfc\xdfe"),
        ("text/plain; charset=shift_jis", b"\x83\x65"),
        ("application/json", b"\"\xff\""),
        // As an MP3 begins.
        ("", b"\xff\xfb\x90\x64"),
    ] {
        let answer = bench.got(Reply::new(200, content_type, body));
        let expected = if content_type.is_empty() {
            Value::Null
        } else {
            content_type.into()
        };
        let base64 = BASE64_STANDARD.encode(body);
        assert_eq!(
            answer["data"],
            json!({"base64": base64, "content_type": expected, "size": body.len()})
        );
    }
}

#[test]
fn images_are_image_content_too() {
    let mut bench = Bench::new();
    for (content_type, media_type) in [
        ("image/png", "image/png"),
        ("IMAGE/JPEG; q=1", "image/jpeg"),
        ("image/webp", "image/webp"),
    ] {
        bench.answer(Reply::new(200, content_type, b"\x89PNG\r\n".to_vec()));
        let result = bench.get("/photo");
        let base64 = BASE64_STANDARD.encode(b"\x89PNG\r\n");
        assert_eq!(
            result["content"][1],
            json!({"type": "image", "data": base64, "mimeType": media_type})
        );
        assert_eq!(result["structuredContent"]["data"]["base64"], base64);
        // Once is enough: the text does not repeat it.
        let (text, structured) = (
            serde_json::from_str::<Value>(text_of(&result)).unwrap(),
            &result["structuredContent"],
        );
        assert_eq!(
            (&text["status"], text.get("data")),
            (&structured["status"], None),
            "{result}"
        );
    }
    // A client that knows no structured content reads what went wrong, too.
    bench.answer(Reply::new(403, "image/png", b"\x89PNG\r\n".to_vec()));
    let text = serde_json::from_str::<Value>(text_of(&bench.get("/photo"))).unwrap();
    assert_eq!(
        (&text["status"], &text["error"]),
        (&json!(403), &json!("http_error")),
        "{text}"
    );
    bench.answer(Reply::new(200, "application/octet-stream", [0, 255]));
    assert_eq!(bench.get("/binary")["content"].as_array().unwrap().len(), 1);
}

#[test]
fn an_empty_answer_has_no_data() {
    let mut bench = Bench::new();
    for reply in [
        Reply::empty(204),
        Reply::empty(200),
        Reply::new(200, "application/json", ""),
    ] {
        let status = reply.status;
        let answer = bench.got(reply);
        assert_eq!(
            (&answer["status"], &answer["data"], &answer["truncated"]),
            (&status.into(), &json!(null), &json!(false))
        );
    }
}

#[test]
fn gzip_is_decoded() {
    let mut bench = Bench::new();
    let answer = bench
        .mcp
        .ok("api_get_request", json!({"endpoint": "/gzip"}));
    assert_eq!(answer["data"], json!({"packed": true, "text": "grüße"}));
    assert!(
        bench
            .backend
            .last()
            .header("accept-encoding")
            .unwrap()
            .contains("gzip")
    );
    let chunked = Reply::new(200, "text/plain", gzip(b"in chunks"));
    let chunked = chunked
        .with("Content-Encoding", "gzip")
        .with("Transfer-Encoding", "chunked");
    assert_eq!(bench.got(chunked)["data"], "in chunks");
}

#[test]
fn error_answers_are_errors_with_the_backends_body() {
    let mut bench = Bench::new();
    for (status, hint) in [
        (400, ""),
        (401, "CUSTOM_API_SCOPE"),
        (403, "CUSTOM_API_SCOPE"),
        (404, ""),
        (409, ""),
        (410, ""),
        (418, ""),
        (422, ""),
        (429, "Wait"),
        (500, ""),
        (502, ""),
        (503, "Wait"),
        (504, ""),
        (599, ""),
    ] {
        let endpoint = format!("/status/{status}?retry_after=17");
        let answer = bench
            .mcp
            .fails("api_get_request", json!({"endpoint": endpoint}));
        assert_eq!(
            (&answer["status"], &answer["error"]),
            (&status.into(), &json!("http_error"))
        );
        assert_eq!(answer["data"]["error"]["code"], format!("Status{status}"));
        assert_eq!(
            answer["headers"]["request-id"],
            "00000000-feed-4bee-8bee-000000000000"
        );
        assert!(
            answer["message"]
                .as_str()
                .unwrap()
                .contains(&status.to_string()),
            "{answer}"
        );
        assert!(
            answer["hint"].as_str().unwrap_or_default().contains(hint),
            "{answer}"
        );
        let wait = matches!(status, 429 | 503).then_some("17");
        assert_eq!(answer["headers"]["retry-after"].as_str(), wait);
    }
    let repeated = 1 + 2 * 2; // the 401 with another token, and where a gateway is unwell
    assert_eq!(bench.backend.requests().len(), 14 + repeated);
}

#[test]
fn not_modified_is_no_error() {
    let mut bench = Bench::new();
    bench.answer(Reply::empty(304).with("ETag", "\"7\""));
    let arguments = json!({"endpoint": "/x", "headers": {"If-None-Match": "\"7\""}});
    let answer = bench.mcp.ok("api_get_request", arguments);
    assert_eq!(
        (
            &answer["status"],
            &answer["data"],
            &answer["headers"]["etag"]
        ),
        (&json!(304), &json!(null), &json!("\"7\""))
    );
}

#[test]
fn redirects_are_reported_and_not_followed() {
    let elsewhere = StandIn::serve(|_| -> Answer { panic!("the redirect was followed") });
    let mut bench = Bench::new();
    let elsewhere = format!("{}/v1.0/me", elsewhere.url());
    let here = format!("{}/me", bench.backend.url());
    let targets = [
        (elsewhere.as_str(), &elsewhere),
        ("/v1.0/me", &here),
        ("me", &here),
    ];
    for status in [301, 302, 303, 307, 308] {
        for (location, target) in targets {
            bench.answer(Reply::empty(status).with("Location", location));
            for (tool, _) in METHODS {
                let before = bench.backend.requests().len();
                let answer = bench.mcp.fails(tool, json!({"endpoint": "/old"}));
                assert_eq!(
                    (&answer["status"], &answer["error"]),
                    (&status.into(), &json!("redirect"))
                );
                assert_eq!(answer["redirect_target"], target.as_str());
                assert!(
                    answer["message"].as_str().unwrap().contains("not followed"),
                    "{answer}"
                );
                assert_eq!(bench.backend.requests().len(), before + 1);
            }
        }
    }
}

/// What is not there is left out: `null` is not what the output schema promises.
#[test]
fn a_redirect_without_a_target_has_none() {
    let mut bench = Bench::new();
    for status in [300, 302] {
        bench.answer(Reply::new(status, "text/plain", "choose"));
        let answer = bench
            .mcp
            .fails("api_get_request", json!({"endpoint": "/old"}));
        assert_eq!(
            (&answer["status"], &answer["data"]),
            (&status.into(), &json!("choose"))
        );
        assert!(answer.get("redirect_target").is_none(), "{answer}");
    }
}

// ---- Long answers ----

const LIMIT: usize = 16;

fn limited() -> Bench {
    Bench::with(|setup| setup.with("MAX_RESPONSE_BYTES", &LIMIT.to_string()))
}

/// `body` as `text/plain`, framed as the end of the path says.
fn framed(path: &str, body: &[u8]) -> Answer {
    let reply = |body: &[u8]| Reply::new(200, "text/plain", body);
    match path.rsplit('/').next().unwrap() {
        "length" => reply(body).into(),
        "chunked" => reply(body).with("Transfer-Encoding", "chunked").into(),
        "gzip" => reply(&gzip(body)).with("Content-Encoding", "gzip").into(),
        _ => Answer::raw([b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", body].concat()),
    }
}

#[test]
fn a_long_answer_is_cut_and_its_whole_length_told() {
    let mut bench = limited();
    for (body, data) in [
        ("x".repeat(LIMIT), "x".repeat(LIMIT)),
        ("x".repeat(LIMIT + 1), "x".repeat(LIMIT)),
        ("x".repeat(100_000), "x".repeat(LIMIT)),
        // A cut in the middle of a character gives up its first bytes.
        (
            format!("{}ü and more", "x".repeat(LIMIT - 1)),
            "x".repeat(LIMIT - 1),
        ),
        (
            format!("{}🎉 and more", "x".repeat(LIMIT - 3)),
            "x".repeat(LIMIT - 3),
        ),
        (
            format!("{}ü and more", "x".repeat(LIMIT - 2)),
            format!("{}ü", "x".repeat(LIMIT - 2)),
        ),
    ] {
        let (is_cut, length) = (body.len() > LIMIT, body.len() as u64);
        bench
            .backend
            .on(move |request| Some(framed(&request.path, body.as_bytes())));
        for framing in ["length", "chunked", "gzip", "close"] {
            let answer = bench
                .mcp
                .ok("api_get_request", json!({"endpoint": framing}));
            assert_eq!(
                (&answer["data"], &answer["truncated"]),
                (&json!(data), &json!(is_cut)),
                "{framing}"
            );
            assert_eq!(
                answer["total_bytes"].as_u64(),
                is_cut.then_some(length),
                "{framing}"
            );
        }
    }
}

/// What is handed on has come by then.
#[test]
fn a_long_answer_that_breaks_off_where_it_is_only_counted_is_no_failure() {
    let mut bench = limited();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    bench
        .backend
        .on(move |_| Some(Answer::raw(format!("{head}64\r\n{}\r\n", "x".repeat(100)))));
    let answer = bench
        .mcp
        .ok("api_get_request", json!({"endpoint": "/feed"}));
    assert_eq!(
        (&answer["data"], &answer["truncated"]),
        (&json!("x".repeat(LIMIT)), &json!(true))
    );
    assert_eq!(
        (&answer["total_bytes"], bench.backend.requests().len()),
        (&json!(100), 1)
    );
}

#[test]
fn cut_json_is_text_and_a_cut_image_no_image() {
    let mut bench = limited();
    let answer = bench.got(Reply::new(200, "application/json", r#"{"a":"0123456789"}"#));
    assert_eq!(
        (&answer["data"], &answer["total_bytes"]),
        (&json!(r#"{"a":"0123456789"#), &json!(18))
    );
    bench.answer(Reply::new(200, "image/png", [0xff; 17]));
    let result = bench.get("/photo");
    assert_eq!(result["content"].as_array().unwrap().len(), 1);
    let answer = &result["structuredContent"];
    assert_eq!(
        answer["data"]["base64"],
        BASE64_STANDARD.encode([0xff; LIMIT])
    );
    assert_eq!(
        (&answer["truncated"], &answer["total_bytes"]),
        (&json!(true), &json!(17))
    );
}

#[test]
fn one_mebibyte_is_handed_on_unless_set_otherwise() {
    let mut bench = Bench::new();
    let mut large = |bytes: usize| {
        bench.mcp.ok(
            "api_get_request",
            json!({"endpoint": format!("/large?bytes={bytes}")}),
        )
    };
    let whole = large(1 << 20);
    assert_eq!(
        (whole["data"].as_str().unwrap().len(), &whole["truncated"]),
        ((1 << 20) - 2, &json!(false))
    );
    let cut = large((1 << 20) + 1);
    assert_eq!(
        (cut["data"].as_str().unwrap().len(), &cut["truncated"]),
        (1 << 20, &json!(true))
    );
    assert_eq!(cut["total_bytes"], (1 << 20) + 1);
}

#[test]
fn an_endless_answer_ends() {
    let mut bench = limited();
    bench.backend.on(|_| {
        Some(Answer::script(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk)?;
            }
        }))
    });
    let answer = bench.mcp.ok("api_get_request", json!({"endpoint": "/x"}));
    assert_eq!(
        (&answer["data"], &answer["truncated"]),
        (&json!("x".repeat(LIMIT)), &json!(true))
    );
    assert!(
        answer["total_bytes"].as_u64().unwrap() > 1 << 20,
        "{answer}"
    );
    // One that only says how long it is need not be read.
    bench.backend.on(|_| {
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000000000000\r\n\r\n";
        Some(Answer::raw(format!("{head}{}", "x".repeat(LIMIT + 1))))
    });
    let answer = bench.mcp.ok("api_get_request", json!({"endpoint": "/x"}));
    assert_eq!(
        (&answer["truncated"], &answer["total_bytes"]),
        (&json!(true), &json!(1_000_000_000_000_u64))
    );
}

// ---- A backend that fails ----

fn assert_unreachable(failure: &Value, url: &str) {
    assert_eq!(failure["error"], "backend_unreachable", "{failure}");
    assert!(
        failure["message"].as_str().unwrap().contains(url),
        "{failure}"
    );
    assert!(!failure["hint"].as_str().unwrap().is_empty(), "{failure}");
    assert!(
        !failure.to_string().contains(ACCESS_TOKEN_MARK),
        "{failure}"
    );
}

#[test]
fn a_backend_that_is_down_is_reported_as_such() {
    // An address of which only the IPv4 half is anybody's.
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://[::1]:{}/v1.0", holder.local_addr().unwrap().port());
    let mut bench = Bench::with(|setup| setup.with("BACKEND_API_BASE_URL", &base));
    for (tool, _) in METHODS {
        assert_unreachable(
            &bench.mcp.fails(tool, json!({"endpoint": "/me"})),
            &format!("{base}/me"),
        );
    }
}

#[test]
fn an_answer_whose_head_breaks_off_or_is_none_is_reported_as_such() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";
    for broken in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        "HTTP/1.1 abc\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        format!("{ok}Content-Length: ten\r\n\r\n12345"),
    ] {
        assert_reported(&broken, {
            let broken = broken.clone();
            move || Answer::raw(broken.clone())
        });
    }
    assert_reported("closed", || Answer::Close);
    assert_reported("reset", || Answer::Reset);
    assert_reported("an endless head", || {
        Answer::script(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            (0..1 << 20).try_for_each(|_| stream.write_all(b"X-Endless: yes\r\n"))
        })
    });
}

/// A POST that is answered so fails, and is not sent again.
fn assert_reported(what: &str, answer: impl Fn() -> Answer + Send + Sync + 'static) {
    let mut bench = Bench::new();
    bench.backend.on(move |_| Some(answer()));
    let result = bench
        .mcp
        .call("api_post_request", json!({"endpoint": "/x", "data": 1}));
    assert_eq!(result["isError"], true, "{what}: {result}");
    assert_unreachable(
        &result["structuredContent"],
        &format!("{}/x", bench.backend.url()),
    );
    assert_eq!(
        bench.backend.requests().len(),
        1,
        "{what}: it was sent again"
    );
}

#[test]
fn a_connection_that_the_backend_closed_after_its_answer_harms_no_later_call() {
    let mut bench = Bench::new();
    let closed = Gate::default();
    closed.open();
    let gate = closed.clone();
    bench.backend.on(move |_| {
        let gate = gate.clone();
        Some(Answer::script(move |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            stream.shutdown(Shutdown::Both)?;
            gate.pass();
            Ok(())
        }))
    });
    for calls in 1..=3 {
        bench
            .mcp
            .ok("api_post_request", json!({"endpoint": "/x", "data": 1}));
        closed.wait_for_arrivals(calls);
    }
}

#[test]
fn a_slow_answer_is_waited_for_and_holds_nobody_else_up() {
    let mut bench = Bench::new();
    let gates = [Gate::default(), Gate::default(), Gate::default()];
    let pieces = [
        b"HTTP/1.1 200 OK\r\nContent-Len".as_slice(),
        b"gth: 4\r\n\r\nsl",
        b"ow",
    ];
    let for_backend = gates.clone();
    bench.backend.on(move |request| {
        let pieces = for_backend.iter().cloned().zip(pieces.map(<[u8]>::to_vec));
        (request.path == "/v1.0/slow").then(|| Answer::pieces(pieces.collect()))
    });
    let mut others = bench.server.modern();
    let mut slow = bench.server.modern();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| slow.ok("api_get_request", json!({"endpoint": "/slow"})));
        for gate in &gates {
            gate.wait_for_arrivals(1);
            others.ok("ping", json!({}));
            others.ok("api_get_request", json!({"endpoint": "/me"}));
            bench.mcp.ok("check_auth_status", json!({}));
            gate.open();
        }
        assert_eq!(waiting.join().unwrap()["data"], "slow");
    });
}

// ---- Without a backend, with several accounts ----

#[test]
fn without_a_backend_the_api_tools_say_what_to_set() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    let mut mcp = server.modern();
    for (tool, _) in METHODS {
        let refused = mcp.fails(tool, json!({"endpoint": "/me"}));
        assert_eq!(refused["error"], "configuration");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("BACKEND_API_BASE_URL"),
            "{refused}"
        );
        assert!(
            refused["hint"]
                .as_str()
                .unwrap()
                .contains("CUSTOM_API_SCOPE"),
            "{refused}"
        );
    }
    assert_eq!(
        mcp.ok("get_server_info", json!({}))["backend_base_url"],
        Value::Null
    );
}

#[test]
fn user_id_chooses_the_account() {
    let mut bench = Bench::new();
    bench.mcp.sign_in(GRACE);
    for user in [ADA, GRACE] {
        let me = bench.mcp.ok(
            "api_get_request",
            json!({"endpoint": "/me", "user_id": user}),
        );
        assert_eq!(me["data"]["userPrincipalName"], user);
    }
    let refused = bench
        .mcp
        .fails("api_get_request", json!({"endpoint": "/me"}));
    let text = format!("{} {}", refused["message"], refused["hint"]);
    assert!(
        text.contains(ADA) && text.contains(GRACE) && text.contains("user_id"),
        "{refused}"
    );
    let unknown = bench.mcp.fails(
        "api_get_request",
        json!({"endpoint": "/me", "user_id": "nobody@contoso.example"}),
    );
    assert_eq!(unknown["error"], "sign_in_required");
    assert!(
        unknown["sign_in_url"]
            .as_str()
            .unwrap()
            .starts_with(&bench.server.url()),
        "{unknown}"
    );
    assert_eq!(bench.backend.requests().len(), 2);
}

#[test]
fn view_userid_lists_the_signed_in_accounts() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    let mut mcp = server.modern();
    let mut seen = || mcp.ok("view_userid", json!({}));
    assert_eq!(
        seen(),
        json!({"success": true, "user_id": null, "user_ids": []})
    );
    server.modern().sign_in(ADA);
    assert_eq!(
        seen(),
        json!({"success": true, "user_id": ADA, "user_ids": [ADA]})
    );
    server.modern().sign_in(GRACE);
    assert_eq!(
        seen(),
        json!({"success": true, "user_id": null, "user_ids": [ADA, GRACE]})
    );
}

#[test]
fn logout_user_forgets_one_account() {
    let mut bench = Bench::new();
    bench.mcp.sign_in(GRACE);
    let refused = bench.mcp.fails("logout_user", json!({}));
    let text = format!("{} {}", refused["message"], refused["hint"]);
    assert!(text.contains(ADA) && text.contains(GRACE), "{refused}");

    let gone = bench.mcp.ok("logout_user", json!({"user_id": ADA}));
    assert_eq!(gone["user_id"], ADA);
    let microsoft = format!(
        "{}/{TENANT_ID}/oauth2/v2.0/logout",
        bench.entra.authority_host()
    );
    assert!(
        gone["logout_url"].as_str().unwrap().starts_with(&microsoft),
        "{gone}"
    );
    assert!(
        gone["message"]
            .as_str()
            .unwrap()
            .contains("live on until they expire"),
        "{gone}"
    );
    // On disk and in memory.
    let file = std::fs::read_to_string(bench.server.token_file()).unwrap();
    assert!(!file.contains(ADA) && file.contains(GRACE), "{file}");
    let refused = bench.mcp.fails(
        "api_get_request",
        json!({"endpoint": "/me", "user_id": ADA}),
    );
    assert_eq!(refused["error"], "sign_in_required");

    // With only one account left, no name is needed; with none, there is nobody to sign out.
    assert_eq!(bench.mcp.ok("logout_user", json!({}))["user_id"], GRACE);
    assert_eq!(
        bench.mcp.ok("view_userid", json!({}))["user_ids"],
        json!([])
    );
    for arguments in [json!({}), json!({"user_id": ADA})] {
        assert!(
            !bench.mcp.fails("logout_user", arguments)["message"]
                .as_str()
                .unwrap()
                .is_empty()
        );
    }
    assert!(bench.backend.requests().is_empty());
}

// ---- About the server ----

#[test]
fn ping_answers_at_once() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    assert_eq!(
        server.modern().ok("ping", json!({})),
        json!({"success": true, "message": "pong"})
    );
    assert!(entra.token_requests().is_empty());
}

#[test]
fn get_server_info_tells_the_configuration() {
    let mut bench = Bench::new();
    let mut info = bench.mcp.ok("get_server_info", json!({}));
    assert!(info["uptime_seconds"].take().as_u64().is_some());
    assert_eq!(
        info,
        json!({
            "success": true,
            "name": "entra-auth-mcp",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol_versions": ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"],
            "tenant": TENANT_ID,
            "client_id": CLIENT_ID,
            "authority": bench.entra.authority_host(),
            "backend_base_url": format!("{}/", bench.backend.url()),
            "scopes": "openid profile offline_access api://backend/access",
            "redirect_uri": format!("{}/auth/callback", bench.server.url()),
            "uptime_seconds": null,
            "accounts": 1,
            "token_cache": "ok",
        })
    );
    bench.mcp.sign_in(GRACE);
    assert_eq!(bench.mcp.ok("get_server_info", json!({}))["accounts"], 2);
}

/// `bytes` in the gzip format (RFC 1952), stored rather than compressed.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap();
        packed.push(u8::from(blocks.peek().is_none()));
        packed.extend(length.to_le_bytes());
        packed.extend((!length).to_le_bytes());
        packed.extend(block);
    }
    packed.extend(crc32(bytes).to_le_bytes());
    packed.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    packed
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[test]
fn params_and_headers_that_would_grow_beyond_all_bounds_are_refused() {
    let mut bench = Bench::new();
    let many = |count: usize| {
        (0..count)
            .map(|n| (format!("x-h{n}"), json!("")))
            .collect::<serde_json::Map<_, _>>()
    };
    for (argument, value) in [
        ("params", json!({"k".repeat(2_000_000): vec![1; 100_000]})),
        ("params", json!({"k".repeat(257): 1})),
        ("params", json!({"k": vec![1; 201]})),
        ("params", json!(many(201))),
        ("headers", json!(many(40_000))),
        ("headers", json!({format!("x-{}", "k".repeat(256)): ""})),
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/me", argument: value}),
        );
        assert_eq!(refused["error"], "invalid_request");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("must be at most"),
            "{}",
            refused["message"]
        );
    }
    assert!(bench.backend.requests().is_empty());
    // Characters are counted, not bytes.
    bench.mcp.ok(
        "api_get_request",
        json!({"endpoint": "/me", "params": {"\u{5b57}".repeat(256): 1}}),
    );
}
