//! MCP over streamable HTTP, in all four revisions: what the specification says a server with the
//! `tools` capability must and should do, status codes and error codes included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra, GRACE, TokenFailure};
use crate::support::http::{Answer, Event, EventReader, Reply, raw_then_eof};
use crate::support::schema::{departures, texts};
use crate::support::server::{Era, MEDIA_TYPES, MODERN, Mcp, Running, Setup, as_refs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};

const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
const VERSIONS: [&str; 4] = [MODERN, LEGACY[0], LEGACY[1], LEGACY[2]];

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;

/// What every request of 2026-07-28 says about its client.
const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

type Headers = Vec<(String, String)>;

fn start() -> (Entra, Running) {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    (entra, server)
}

/// A client of each revision, the newest first.
fn clients(server: &Running) -> Vec<Mcp> {
    let legacy = LEGACY.iter().map(|revision| server.legacy(revision));
    [server.modern()].into_iter().chain(legacy).collect()
}

fn is_modern(mcp: &Mcp) -> bool {
    matches!(mcp.era, Era::Modern)
}

/// A request of the client's era with exactly these texts as its id and method.
fn request(mcp: &Mcp, id: &str, method: &str) -> String {
    let params = if is_modern(mcp) {
        format!(r#"{{"_meta":{META}}}"#)
    } else {
        "{}".to_owned()
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn post(mcp: &mut Mcp, headers: &Headers, body: impl AsRef<[u8]>) -> Reply {
    mcp.http
        .request("POST", "/mcp", &as_refs(headers), body.as_ref())
}

/// POSTs `body` with the headers that belong to `method`.
fn post_as(mcp: &mut Mcp, method: &str, body: impl AsRef<[u8]>) -> Reply {
    let headers = mcp.headers(method, None);
    post(mcp, &headers, body)
}

/// A client that sends no more than the media types and these headers.
fn post_bare(server: &Running, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Reply {
    let headers = [&MEDIA_TYPES, headers].concat();
    server
        .client()
        .request("POST", "/mcp", &headers, body.as_ref())
}

/// `headers` with exactly these values of `name`.
fn with_values(mut headers: Headers, name: &str, values: &[&str]) -> Headers {
    headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    headers.extend(
        values
            .iter()
            .map(|value| (name.to_owned(), (*value).to_owned())),
    );
    headers
}

/// The response, which must be an error as JSON-RPC and MCP shape it: with an id that is a string
/// or an integer, or without one.
#[track_caller]
fn error_of(reply: &Reply, status: u16, code: i64) -> Value {
    let response = reply.json();
    assert_eq!(
        (reply.status, &response["error"]["code"]),
        (status, &json!(code)),
        "{response}"
    );
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    check_error(&response);
    response
}

#[track_caller]
fn check_error(response: &Value) {
    assert_eq!(response["jsonrpc"], "2.0");
    assert!(
        response["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{response}"
    );
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    let allowed = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert!(
        keys(response).is_subset(&allowed(&["jsonrpc", "id", "error"])),
        "{response}"
    );
    assert!(
        keys(&response["error"]).is_subset(&allowed(&["code", "message", "data"])),
        "{response}"
    );
    assert!(
        response
            .get("id")
            .is_none_or(|id| id.is_string() || id.is_i64() || id.is_u64()),
        "{response}"
    );
}

/// The result of a request with the id 1.
#[track_caller]
fn result_of(reply: &Reply) -> Value {
    let mut response = reply.json();
    assert_eq!(
        (reply.status, &response["id"], &response["jsonrpc"]),
        (200, &json!(1), &json!("2.0")),
        "{response}"
    );
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert!(
        response.get("error").is_none() && response["result"].is_object(),
        "{response}"
    );
    response["result"].take()
}

// ---- Messages (MCP 2026-07-28 basic, "Messages"; JSON-RPC 2.0) ----

#[test]
fn a_body_that_is_not_json_is_a_parse_error() {
    let (_entra, server) = start();
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let with_params =
        |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}"#);
    let bodies: Vec<Vec<u8>> = vec![
        "".into(),
        " ".into(),
        "{".into(),
        "{} {}".into(),
        "{'a':1}".into(),
        r#"{"a":1,}"#.into(),
        r#"{"a":NaN}"#.into(),
        r#"{"a":01}"#.into(),
        with_params("{\"a\":\"line\nbreak\"}").into(),
        with_params(r#"{"a":"\ud800"}"#).into(),
        with_params(r#"{"a":"\x41"}"#).into(),
        // Not UTF-8: a stray byte, an overlong form, UTF-16.
        [b"{\"a\":\"", &[0xff_u8][..], b"\"}"].concat(),
        [b"{\"a\":\"", &[0xc0_u8, 0x80][..], b"\"}"].concat(),
        "{}".encode_utf16().flat_map(u16::to_le_bytes).collect(),
        // RFC 8259 §8.1: no byte order mark.
        [b"\xef\xbb\xbf", with_params("{}").as_bytes()].concat(),
        nested(100_000).into(),
        with_params(&nested(1000)).into(),
        with_params(&format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000))).into(),
        // A key that stands twice means one thing to one reader and another to the next.
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#.into(),
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","\u006dethod":"tools/list"}"#.into(),
        with_params(r#"{"_meta":{"a":1,"a":1}}"#).into(),
        with_params(r#"{"name":"ping","name":"logout_user"}"#).into(),
        with_params(r#"{"arguments":{"data":[[{"deep":{"x":1,"y":2,"x":3}}]]}}"#).into(),
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}]"#.into(),
    ];
    for mut mcp in clients(&server) {
        for body in &bodies {
            let response = error_of(&post_as(&mut mcp, "ping", body), 400, PARSE_ERROR);
            assert!(response.get("id").is_none(), "{response}");
        }
    }
    let mut mcp = server.legacy(LEGACY[0]);
    assert_eq!(
        result_of(&post_as(
            &mut mcp,
            "ping",
            with_params(&format!(r#"{{"a":{}}}"#, nested(64)))
        )),
        json!({})
    );
}

#[test]
fn a_message_that_is_no_request_is_refused() {
    let (_entra, server) = start();
    // The id is echoed where there is one to be read.
    let cases = [
        ("7", None),
        (r#""text""#, None),
        ("null", None),
        ("true", None),
        ("{}", None),
        (r#"{"jsonrpc":"2.0"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1}"#, Some(json!(1))),
        (r#"{"id":1,"method":"ping"}"#, Some(json!(1))),
        (
            r#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#,
            Some(json!("a")),
        ),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, Some(json!(1))),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Some(json!(1))),
        (r#"{"jsonrpc":"2.0","id":1,"method":null}"#, Some(json!(1))),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":[],"method":"ping"}"#, None),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, None),
        (r#"{"jsonrpc":"1.0","id":null,"method":"ping"}"#, None),
    ];
    for mut mcp in clients(&server) {
        for (body, id) in &cases {
            let response = error_of(&post_as(&mut mcp, "ping", body), 400, INVALID_REQUEST);
            assert_eq!(response.get("id"), id.as_ref(), "{body}");
        }
    }
}

#[test]
fn params_must_be_an_object() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for params in ["[]", r#""text""#, "7", "true"] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{params}}}"#);
            assert_eq!(
                error_of(&post_as(&mut mcp, "tools/list", body), 400, INVALID_PARAMS)["id"],
                "x"
            );
        }
    }
}

#[test]
fn an_id_is_echoed_as_it_was_written() {
    let (_entra, server) = start();
    let ids = [
        "0",
        "7",
        "-7",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551616",
        r#""7""#,
        r#""""#,
        r#""a b/é""#,
        r#""\"\\\n\u0000""#,
    ];
    for mut mcp in clients(&server) {
        for (id, method) in ids
            .iter()
            .flat_map(|id| [(id, "tools/list"), (id, "no/such/method")])
        {
            let body = request(&mcp, id, method);
            let reply = post_as(&mut mcp, method, body);
            let response: BTreeMap<&str, &RawValue> = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(response["id"].get(), *id);
            assert_eq!(response.contains_key("result"), method == "tools/list");
        }
    }
}

#[test]
fn a_notification_is_accepted_without_a_body() {
    let (_entra, server) = start();
    let notifications = [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"unknown","reason":"x"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/of/tomorrow","params":{"a":[1]}}"#,
        // The name of a request does not make a request of it: it is never answered.
        r#"{"jsonrpc":"2.0","method":"tools/list"}"#,
    ];
    for mut mcp in clients(&server) {
        for notification in notifications {
            let reply = post_as(&mut mcp, "notifications/initialized", notification);
            assert_eq!(
                (reply.status, reply.text()),
                (202, String::new()),
                "{notification}"
            );
            assert_eq!(reply.header("Content-Type"), None);
        }
    }
}

#[test]
fn responses_are_accepted_in_legacy_revisions_only() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for response in [
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"a","error":{"code":-32601,"message":"no"}}"#,
        ] {
            let reply = post_as(&mut mcp, "ping", response);
            if is_modern(&mcp) {
                assert!(error_of(&reply, 400, INVALID_REQUEST).get("id").is_none());
            } else {
                assert_eq!((reply.status, reply.text()), (202, String::new()));
            }
        }
    }
}

// ---- HTTP (transports, "Sending Messages") ----

#[test]
fn the_endpoint_takes_post_alone() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for method in ["GET", "HEAD", "DELETE", "PUT", "PATCH"] {
            let headers = with_values(
                mcp.headers("tools/list", None),
                "Accept",
                &["text/event-stream"],
            );
            let headers = with_values(headers, "Last-Event-ID", &["7"]);
            let reply = mcp.http.request(method, "/mcp", &as_refs(&headers), b"");
            assert_eq!(
                (reply.status, reply.header("Allow")),
                (405, Some("POST, OPTIONS")),
                "{method}"
            );
        }
    }
}

#[test]
fn a_page_of_another_origin_is_forbidden() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for origin in ["https://evil.example", "null", "http://localhost:1"] {
            let headers = with_values(mcp.headers("tools/list", None), "Origin", &[origin]);
            let body = request(&mcp, "1", "tools/list");
            let reply = post(&mut mcp, &headers, body);
            assert_eq!(
                (reply.status, &reply.json()["rejected"]),
                (403, &json!(origin))
            );
        }
    }
}

#[test]
fn content_type_must_be_application_json() {
    let (_entra, server) = start();
    let cases: [(&[&str], u16); 13] = [
        (&["application/json"], 200),
        (&["Application/JSON"], 200),
        (&["application/json; charset=utf-8"], 200),
        (&["application/json;charset=\"UTF-8\""], 200),
        (&["application/json ; x=y"], 200),
        (&[], 415),
        (&[""], 415),
        (&["text/plain"], 415),
        (&["text/plain; application/json"], 415),
        (&["application/x-www-form-urlencoded"], 415),
        (&["application/jsonl"], 415),
        (&["application/json-patch+json"], 415),
        (&["multipart/form-data; boundary=application/json"], 415),
    ];
    for mut mcp in clients(&server) {
        for (values, status) in cases {
            let headers = with_values(mcp.headers("tools/list", None), "Content-Type", values);
            let body = request(&mcp, "1", "tools/list");
            let reply = post(&mut mcp, &headers, body);
            assert_eq!(reply.status, status, "{values:?}");
            if status == 415 {
                error_of(&reply, 415, INVALID_REQUEST);
            }
        }
    }
}

#[test]
fn accept_must_take_json_or_say_nothing() {
    let (_entra, server) = start();
    let cases: [(&[&str], u16); 25] = [
        (&["application/json, text/event-stream"], 200),
        (&["text/event-stream,application/json"], 200),
        (&["application/json", "text/event-stream"], 200),
        (&["Application/JSON , Text/Event-Stream"], 200),
        (&["application/json;q=0.1, text/event-stream; q=1.000"], 200),
        (&["application/*, text/*"], 200),
        (&["Application/*, TEXT/*"], 200),
        (&["*/*"], 200),
        (&["text/html, */*;q=0.1"], 200),
        (&["*/*;q=0, application/json, text/event-stream"], 200),
        // Who says nothing takes anything (RFC 9110 §12.5.1).
        (&[], 200),
        (&[""], 200),
        (&["", " "], 200),
        (&["application/json"], 200),
        (&["application/*;q=0.5"], 200),
        (&["text/event-stream"], 406),
        (&["text/html, image/*"], 406),
        (&["application/jsonx, text/event-streams"], 406),
        // A weight of nothing: "not acceptable", whatever a wider range says (RFC 9110 §12.4.2, §12.5.1).
        (&["application/json, text/event-stream;q=0"], 200),
        (&["application/json; q=0.000, text/event-stream"], 406),
        (&["application/json, text/event-stream; Q=0"], 200),
        (&["*/*;q=0.0"], 406),
        (&["text/event-stream;q=0, */*"], 200),
        (&["*/*", "application/json;q=0"], 406),
        (&["text/*;q=0, */*"], 200),
    ];
    for mut mcp in clients(&server) {
        for (values, status) in cases {
            let headers = with_values(mcp.headers("tools/list", None), "Accept", values);
            let body = request(&mcp, "1", "tools/list");
            let reply = post(&mut mcp, &headers, body);
            assert_eq!(reply.status, status, "{values:?}");
            if status == 406 {
                error_of(&reply, 406, INVALID_REQUEST);
            }
        }
    }
}

#[test]
fn both_eras_share_one_connection() {
    let (_entra, server) = start();
    let (mut modern, mut legacy) = (server.modern(), server.legacy(LEGACY[0]));
    let mut connection = server.client();
    for _ in 0..2 {
        for (mcp, is_typed) in [(&mut modern, true), (&mut legacy, false)] {
            std::mem::swap(&mut mcp.http, &mut connection);
            assert_eq!(
                mcp.result("tools/list", json!({}))
                    .get("resultType")
                    .is_some(),
                is_typed
            );
            std::mem::swap(&mut mcp.http, &mut connection);
        }
        assert!(connection.is_connected());
    }
}

// ---- 2026-07-28: headers and metadata (transports, "Request Metadata"; basic, "_meta") ----

/// A call of `tool` with these headers for it.
fn modern_call(mcp: &mut Mcp, tool: &str, headers: &Headers) -> Reply {
    let params = json!({"name": tool, "_meta": serde_json::from_str::<Value>(META).unwrap()});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    post(mcp, headers, body.to_string())
}

#[test]
fn headers_must_agree_with_the_body() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let headers = mcp.headers("tools/call", Some("ping"));
    assert_eq!(
        result_of(&modern_call(&mut mcp, "ping", &headers))["isError"],
        false
    );
    let cases: [(&str, &[&str]); 23] = [
        ("MCP-Protocol-Version", &[]),
        ("MCP-Protocol-Version", &[""]),
        ("MCP-Protocol-Version", &["2025-11-25"]),
        ("MCP-Protocol-Version", &[MODERN, MODERN]),
        ("MCP-Protocol-Version", &[MODERN, "2025-11-25"]),
        ("Mcp-Method", &[]),
        ("Mcp-Method", &["tools/list"]),
        ("Mcp-Method", &["Tools/Call"]),
        ("Mcp-Method", &["tools/call", "tools/call"]),
        // The sentinel is for names and parameters.
        ("Mcp-Method", &["=?base64?dG9vbHMvY2FsbA==?="]),
        ("Mcp-Name", &[]),
        ("Mcp-Name", &["view_userid"]),
        ("Mcp-Name", &["Ping"]),
        ("Mcp-Name", &["ping", "ping"]),
        ("Mcp-Name", &["p\u{ef}ng"]),
        ("Mcp-Name", &["=?base64?dmlld191c2VyaWQ=?="]),
        ("Mcp-Name", &["=?BASE64?cGluZw==?="]),
        ("Mcp-Name", &["=?base64?cGluZw==?"]),
        ("Mcp-Name", &["=?base64?cGluZw?="]),
        ("Mcp-Name", &["=?base64?cGlu Zw==?="]),
        ("Mcp-Name", &["=?base64?!!!!?="]),
        ("Mcp-Name", &["=?base64??="]),
        ("Mcp-Name", &["=?base64?/////w==?="]),
    ];
    for (name, values) in cases {
        let reply = modern_call(
            &mut mcp,
            "ping",
            &with_values(headers.clone(), name, values),
        );
        let response = error_of(&reply, 400, HEADER_MISMATCH);
        assert_eq!(response["id"], 1, "{name}: {values:?}");
    }
}

#[test]
fn header_names_are_in_any_case_and_header_values_are_trimmed() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let headers = mcp.headers("tools/call", Some("ping"));
    let respelt = |respell: fn(&str) -> String, pad: &str| -> Headers {
        headers
            .iter()
            .map(|(name, value)| (respell(name), format!("{pad}{value}{pad}")))
            .collect()
    };
    for headers in [
        respelt(str::to_lowercase, ""),
        respelt(str::to_uppercase, " \t "),
    ] {
        assert_eq!(
            result_of(&modern_call(&mut mcp, "ping", &headers))["isError"],
            false
        );
    }
}

#[test]
fn a_name_in_the_base64_sentinel_is_decoded_before_it_is_compared() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let headers = mcp.headers("tools/call", Some("=?base64?cGluZw==?="));
    assert_eq!(
        result_of(&modern_call(&mut mcp, "ping", &headers))["isError"],
        false
    );
    // The examples of the specification: they agree with the body and name no tool.
    for (name, encoded) in [
        ("Hello, 世界", "SGVsbG8sIOS4lueVjA=="),
        (" padded ", "IHBhZGRlZCA="),
        ("line1\nline2", "bGluZTEKbGluZTI="),
        ("=?base64?literal?=", "PT9iYXNlNjQ/bGl0ZXJhbD89"),
    ] {
        let headers = mcp.headers("tools/call", Some(&format!("=?base64?{encoded}?=")));
        let response = error_of(&modern_call(&mut mcp, name, &headers), 200, INVALID_PARAMS);
        assert!(
            response["error"]["message"]
                .as_str()
                .unwrap()
                .contains(name),
            "{response}"
        );
    }
    let headers = mcp.headers("tools/call", Some("=?base64?literal?="));
    error_of(
        &modern_call(&mut mcp, "=?base64?literal?=", &headers),
        400,
        HEADER_MISMATCH,
    );
}

#[test]
fn headers_that_mirror_nothing_are_ignored() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    for (name, value) in [
        ("Mcp-Param-Region", "us-west1"),
        ("Mcp-Param-Region", "=?base64?!?="),
        ("Mcp-Session-Id", "unknown"),
        ("Last-Event-ID", "7"),
    ] {
        let headers = with_values(mcp.headers("tools/call", Some("ping")), name, &[value]);
        let reply = modern_call(&mut mcp, "ping", &headers);
        assert_eq!(result_of(&reply)["isError"], false, "{name}");
        assert_eq!(reply.header("Mcp-Session-Id"), None);

        let headers = with_values(
            mcp.headers("notifications/initialized", None),
            name,
            &[value],
        );
        let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(post(&mut mcp, &headers, notification).status, 202, "{name}");
    }
}

#[test]
fn a_request_without_its_metadata_is_malformed() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let meta = |version: &str, capabilities: &str| {
        let members: Vec<String> = [
            ("protocolVersion", version),
            ("clientCapabilities", capabilities),
        ]
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!(r#""io.modelcontextprotocol/{name}":{value}"#))
        .collect();
        format!(r#"{{"_meta":{{{}}}}}"#, members.join(","))
    };
    for params in [
        "{}".to_owned(),
        r#"{"_meta":{}}"#.to_owned(),
        r#"{"_meta":null}"#.to_owned(),
        r#"{"_meta":[]}"#.to_owned(),
        meta("", "{}"),
        meta("null", "{}"),
        meta("20260728", "{}"),
        meta(r#"["2026-07-28"]"#, "{}"),
        meta(r#""2026-07-28""#, ""),
        meta(r#""2026-07-28""#, "null"),
        meta(r#""2026-07-28""#, "[]"),
        meta(r#""2026-07-28""#, r#""{}""#),
    ] {
        for method in ["tools/list", "server/discover", "no/such/method"] {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            assert_eq!(
                error_of(&post_as(&mut mcp, method, body), 400, INVALID_PARAMS)["id"],
                1,
                "{params}"
            );
        }
    }
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert_eq!(
        error_of(&post_as(&mut mcp, "tools/list", body), 400, INVALID_PARAMS)["id"],
        1
    );
}

#[test]
fn an_unsupported_version_is_refused_in_either_era() {
    let (_entra, server) = start();
    let check = |reply: &Reply, version: &str| {
        let response = error_of(reply, 400, UNSUPPORTED_VERSION);
        assert_eq!(
            response["error"]["data"],
            json!({"supported": VERSIONS, "requested": version})
        );
        response
    };
    let mut mcp = server.modern();
    for version in [
        "2024-11-05",
        "1900-01-01",
        "2026-07-29",
        "DRAFT-2027-v1",
        "2026-07-28.1",
        "latest",
    ] {
        // Named by header and body.
        let headers = with_values(
            mcp.headers("tools/list", None),
            "MCP-Protocol-Version",
            &[version],
        );
        let body = request(&mcp, "1", "tools/list").replace(MODERN, version);
        assert_eq!(check(&post(&mut mcp, &headers, body), version)["id"], 1);
        // Named by the header alone.
        let header = [("MCP-Protocol-Version", version)];
        for method in ["ping", "tools/list", "no/such/method"] {
            let params = json!({"protocolVersion": LEGACY[0], "capabilities": {}});
            let body = json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params});
            assert_eq!(
                check(&post_bare(&server, &header, body.to_string()), version)["id"],
                "a"
            );
        }
        for body in [
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        ] {
            assert!(
                check(&post_bare(&server, &header, body), version)
                    .get("id")
                    .is_none()
            );
        }
    }
}

#[test]
fn a_legacy_version_has_no_per_request_metadata() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    for version in LEGACY {
        let headers = with_values(
            mcp.headers("tools/list", None),
            "MCP-Protocol-Version",
            &[version],
        );
        let body = request(&mcp, "1", "tools/list").replace(MODERN, version);
        let response = error_of(&post(&mut mcp, &headers, body), 400, UNSUPPORTED_VERSION);
        let data = &response["error"]["data"];
        assert_eq!(data["requested"], version);
        assert!(
            data["supported"]
                .as_array()
                .unwrap()
                .contains(&json!(MODERN)),
            "{response}"
        );
    }
}

#[test]
fn a_legacy_version_that_stands_there_twice_is_refused() {
    let (_entra, server) = start();
    for second in ["2025-11-25", "2025-06-18"] {
        let header = [
            ("MCP-Protocol-Version", "2025-11-25"),
            ("MCP-Protocol-Version", second),
        ];
        for (body, id) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
                Some(json!(1)),
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                None,
            ),
        ] {
            let response = error_of(&post_bare(&server, &header, body), 400, HEADER_MISMATCH);
            assert_eq!(response.get("id"), id.as_ref());
        }
    }
}

#[test]
fn a_method_that_2026_07_28_does_not_know_or_has_removed_is_not_found() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    for (method, params) in [
        (
            "initialize",
            json!({"protocolVersion": MODERN, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
        ),
        ("ping", json!({})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("resources/subscribe", json!({"uri": "file:///x"})),
        ("resources/unsubscribe", json!({"uri": "file:///x"})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
        ("prompts/get", json!({"name": "x"})),
        ("completion/complete", json!({})),
        ("tasks/get", json!({"taskId": "x"})),
        ("sampling/createMessage", json!({})),
        ("notifications/initialized", json!({})),
        ("Tools/List", json!({})),
        ("tools", json!({})),
        ("rpc.discover", json!({})),
    ] {
        let response = error_of(&mcp.send(method, params), 404, METHOD_NOT_FOUND);
        assert!(response["id"].is_u64(), "{response}");
        assert!(
            response["error"]["message"]
                .as_str()
                .unwrap()
                .contains(method),
            "{response}"
        );
    }
}

#[test]
fn every_result_of_2026_07_28_says_its_type_and_its_server() {
    let (_entra, server) = start();
    let requests = [
        ("tools/list", json!({})),
        ("tools/call", json!({"name": "ping", "arguments": {}})),
        ("tools/call", json!({"name": "ping", "arguments": {"x": 1}})),
        (
            "tools/call",
            json!({"name": "api_get_request", "arguments": {"endpoint": "/me"}}),
        ),
    ];
    let mut mcp = server.modern();
    for (method, params) in [("server/discover", json!({}))].iter().chain(&requests) {
        let result = mcp.result(method, params.clone());
        assert_eq!(result["resultType"], "complete", "{method}");
        assert_eq!(result["_meta"].as_object().unwrap().len(), 1, "{result}");
        let info = &result["_meta"][SERVER_INFO];
        assert_eq!(
            (&info["name"], &info["version"]),
            (&json!("entra-auth-mcp"), &json!(env!("CARGO_PKG_VERSION")))
        );
        let is_cacheable = *method != "tools/call";
        assert_eq!(
            result.get("ttlMs").is_some_and(Value::is_u64),
            is_cacheable,
            "{method}"
        );
        assert_eq!(
            result.get("cacheScope") == Some(&json!("public")),
            is_cacheable,
            "{method}"
        );
    }
    for revision in LEGACY {
        let mut mcp = server.legacy(revision);
        for (method, params) in &requests {
            let result = mcp.result(method, params.clone());
            for member in ["resultType", "_meta", "ttlMs", "cacheScope"] {
                assert!(
                    result.get(member).is_none(),
                    "{revision} {method}: {member}"
                );
            }
        }
    }
}

#[test]
fn discovery_says_what_a_client_needs() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let result = mcp.result("server/discover", json!({}));
    assert_eq!(result["supportedVersions"], json!(VERSIONS));
    assert_eq!(result["capabilities"], json!({"tools": {}}));
    assert_eq!(
        (&result["cacheScope"], result["ttlMs"].is_u64()),
        (&json!("public"), true)
    );
    let known = [
        "resultType",
        "supportedVersions",
        "capabilities",
        "instructions",
        "ttlMs",
        "cacheScope",
        "_meta",
    ];
    assert_eq!(result.as_object().unwrap().len(), known.len(), "{result}");
    assert!(
        known.iter().all(|name| result.get(name).is_some()),
        "{result}"
    );
    assert_eq!(
        mcp.send("server/discover", json!({}))
            .header("Mcp-Session-Id"),
        None
    );
}

#[test]
fn the_instructions_teach_a_model_to_sign_the_user_in() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with("ALLOW_DEVICE_CODE", "true")
        .start();
    let mut mcp = server.modern();
    let discovered = mcp.result("server/discover", json!({}));
    let instructions = discovered["instructions"].as_str().unwrap();
    for word in [
        "Entra ID",
        "sign_in_required",
        "sign_in_url",
        "check_auth_status",
        "wait_seconds",
        "user_id",
    ] {
        assert!(instructions.contains(word), "{word}");
    }
    // Every name in it is the name of something.
    let tools = mcp.result("tools/list", json!({}));
    let tools = tools["tools"].as_array().unwrap();
    let mut known: BTreeSet<&str> = BTreeSet::from(["sign_in_required"]);
    for tool in tools {
        known.extend(tool["name"].as_str());
        for schema in ["inputSchema", "outputSchema"] {
            known.extend(
                tool[schema]["properties"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .map(String::as_str),
            );
        }
    }
    let words = instructions.split(|c: char| !c.is_alphanumeric() && c != '_');
    let unknown: Vec<&str> = words
        .filter(|word| word.contains('_') && !known.contains(word))
        .collect();
    assert_eq!(unknown, [""; 0]);
    for revision in LEGACY {
        assert_eq!(
            result_of(&initialize(&server, &json!(revision)))["instructions"],
            instructions
        );
    }
}

// ---- Legacy revisions: initialize, sessions, ping, batches ----

fn initialize(server: &Running, version: &Value) -> Reply {
    let client = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    post_bare(server, &[], body.to_string())
}

fn session_of(reply: &Reply) -> String {
    let [session] = reply.headers_named("Mcp-Session-Id")[..] else {
        panic!("not one session id: {reply:?}")
    };
    session.to_owned()
}

#[test]
fn initialize_negotiates_the_version() {
    let (_entra, server) = start();
    let same = LEGACY.map(|version| (version, version));
    // What is not spoken here, or begins with no `initialize`, becomes the newest that does.
    let others = [
        "2024-11-05",
        "2026-07-28",
        "2025-06-19",
        "1900-01-01",
        "2099-12-31",
        "DRAFT",
        "",
    ];
    for (asked, given) in same
        .into_iter()
        .chain(others.map(|version| (version, LEGACY[0])))
    {
        let result = result_of(&initialize(&server, &json!(asked)));
        assert_eq!(result["protocolVersion"], given, "{asked}");
        assert_eq!(result["capabilities"], json!({"tools": {}}));
        let info = &result["serverInfo"];
        assert_eq!(
            (&info["name"], &info["version"]),
            (&json!("entra-auth-mcp"), &json!(env!("CARGO_PKG_VERSION")))
        );
        assert!(result["instructions"].is_string());
        assert!(
            result.get("resultType").is_none() && result.get("_meta").is_none(),
            "{result}"
        );
    }
}

#[test]
fn initialize_needs_a_version() {
    let (_entra, server) = start();
    for version in [json!(null), json!(20_251_125), json!(["2025-11-25"])] {
        let reply = initialize(&server, &version);
        assert_eq!(error_of(&reply, 200, INVALID_PARAMS)["id"], 1);
        assert_eq!(reply.header("Mcp-Session-Id"), None);
    }
    let reply = post_bare(
        &server,
        &[],
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#,
    );
    error_of(&reply, 200, INVALID_PARAMS);
}

#[test]
fn a_session_id_is_visible_ascii_and_unique_and_known_to_every_server() {
    let entra = Entra::start();
    let servers = [
        Setup::new(&entra, None).start(),
        Setup::new(&entra, None).start(),
    ];
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let mut seen = BTreeSet::new();
    for version in LEGACY.into_iter().flat_map(|version| [version; 2]) {
        let session = session_of(&initialize(&servers[0], &json!(version)));
        assert!(
            session.bytes().all(|byte| (0x21..=0x7e).contains(&byte)),
            "{session}"
        );
        assert!(session.len() >= 22, "room for 128 random bits: {session}");
        for server in &servers {
            let header = [("Mcp-Session-Id", session.as_str())];
            assert_eq!(result_of(&post_bare(server, &header, ping)), json!({}));
            // Without a header for it, the version is that of the session.
            let batch = post_bare(server, &header, format!("[{ping}]"));
            assert_eq!(
                batch.status,
                if version == "2025-03-26" { 200 } else { 400 },
                "{session}"
            );
        }
        assert!(seen.insert(session));
    }
}

#[test]
fn an_unknown_session_is_not_found() {
    let (_entra, server) = start();
    for session in [
        "x",
        "",
        "0",
        "2024-11-05.url.AAAAAAAAAAAAAAAAAAAAAA",
        "2025-11-25x.url.AAAA",
        ".2025-11-25.",
    ] {
        for version in [None, Some("2025-11-25"), Some("2025-03-26")] {
            let mut headers = vec![("Mcp-Session-Id", session)];
            headers.extend(version.map(|version| ("MCP-Protocol-Version", version)));
            for (body, id) in [
                (
                    r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#,
                    Some(json!("a")),
                ),
                (
                    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
                    Some(json!(1)),
                ),
                (
                    r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    None,
                ),
                (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None),
                (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, None),
            ] {
                let response = error_of(&post_bare(&server, &headers, body), 404, INVALID_REQUEST);
                assert_eq!(
                    response.get("id"),
                    id.as_ref(),
                    "{session:?} {version:?} {body}"
                );
            }
            // That is what 404 asks the client to send.
            let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
            let reply = post_bare(&server, &headers, body.to_string());
            assert_eq!(result_of(&reply)["protocolVersion"], "2025-11-25");
            assert_ne!(session_of(&reply), session);
        }
    }
}

#[test]
fn a_request_that_names_no_version_is_of_2025_03_26() {
    let (_entra, server) = start();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(result_of(&post_bare(&server, &[], ping)), json!({}));
    let reply = post_bare(&server, &[], format!("[{ping}]"));
    assert_eq!(
        (reply.status, reply.json()),
        (200, json!([{"jsonrpc": "2.0", "id": 1, "result": {}}]))
    );
}

#[test]
fn ping_is_answered_with_nothing() {
    let (_entra, server) = start();
    for revision in LEGACY {
        let mut mcp = server.legacy(revision);
        for body in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":1}}}"#,
        ] {
            let reply = post_as(&mut mcp, "ping", body);
            assert_eq!(
                (reply.status, reply.json()),
                (200, json!({"jsonrpc": "2.0", "id": 1, "result": {}}))
            );
        }
    }
}

#[test]
fn a_method_that_legacy_revisions_do_not_know_is_an_error_with_status_200() {
    let (_entra, server) = start();
    for revision in LEGACY {
        let mut mcp = server.legacy(revision);
        for method in [
            "server/discover",
            "subscriptions/listen",
            "logging/setLevel",
            "resources/list",
            "prompts/list",
            "completion/complete",
            "notifications/initialized",
            "Ping",
            "",
        ] {
            let response = error_of(&mcp.send(method, json!({})), 200, METHOD_NOT_FOUND);
            assert!(response["id"].is_u64(), "{response}");
        }
    }
}

#[test]
fn a_batch_is_answered_with_one_response_for_each_request() {
    let (_entra, server) = start();
    let mut mcp = server.legacy("2025-03-26");
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "list", "method": "tools/list"},
        {"jsonrpc": "2.0", "id": "call", "method": "tools/call", "params": {"name": "ping"}},
        {"jsonrpc": "2.0", "id": "wrong", "method": "tools/call", "params": {"name": "no_such_tool"}},
        {"jsonrpc": "2.0", "id": "unknown", "method": "no/such/method"},
        {"jsonrpc": "2.0", "id": "array", "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": "initialize", "method": "initialize", "params": {"protocolVersion": "2025-03-26"}},
        {"jsonrpc": "2.0", "id": "no method"},
    ]);
    let reply = post_as(&mut mcp, "", batch.to_string());
    assert_eq!(
        (reply.status, reply.header("Content-Type")),
        (200, Some("application/json"))
    );
    assert_eq!(reply.header("Mcp-Session-Id"), None);
    let responses = reply.json();
    let responses = responses.as_array().unwrap();
    assert_eq!(responses.len(), 8, "{responses:?}");
    let response = |id: Value| {
        responses
            .iter()
            .find(|response| response["id"] == id)
            .unwrap()
    };
    assert_eq!(response(json!(1))["result"], json!({}));
    assert_eq!(
        response(json!("list"))["result"],
        mcp.result("tools/list", json!({}))
    );
    assert_eq!(response(json!("call"))["result"]["isError"], false);
    for (id, code) in [
        ("wrong", INVALID_PARAMS),
        ("unknown", METHOD_NOT_FOUND),
        ("array", INVALID_PARAMS),
        // "The initialize request MUST NOT be part of a JSON-RPC batch."
        ("initialize", INVALID_REQUEST),
        ("no method", INVALID_REQUEST),
    ] {
        assert_eq!(response(json!(id))["error"]["code"], code, "{id}");
        check_error(response(json!(id)));
    }
}

#[test]
fn what_is_no_message_in_a_batch_has_an_error_of_its_own() {
    let (_entra, server) = start();
    let reply = post_bare(
        &server,
        &[],
        r#"[7, [], null, {"jsonrpc":"2.0","id":null,"method":"ping"}]"#,
    );
    assert_eq!(reply.status, 200);
    let responses = reply.json();
    assert_eq!(responses.as_array().unwrap().len(), 4);
    for response in responses.as_array().unwrap() {
        check_error(response);
        assert_eq!(
            (&response["error"]["code"], response.get("id")),
            (&json!(INVALID_REQUEST), None)
        );
    }
}

#[test]
fn a_batch_without_a_request_is_accepted_without_a_body() {
    let (_entra, server) = start();
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let response = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    for batch in [
        format!("[{notification},{notification}]"),
        format!("[{response}]"),
    ] {
        let reply = post_bare(&server, &[], batch);
        assert_eq!((reply.status, reply.text()), (202, String::new()));
    }
}

#[test]
fn an_empty_batch_and_an_endless_one_are_refused() {
    let (_entra, server) = start();
    let pings = |count: usize| {
        format!(
            "[{}]",
            [r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#]
                .repeat(count)
                .join(",")
        )
    };
    for batch in [
        "[]".to_owned(),
        " [ ] ".to_owned(),
        pings(51),
        pings(10_000),
    ] {
        assert!(
            error_of(&post_bare(&server, &[], batch), 400, INVALID_REQUEST)
                .get("id")
                .is_none()
        );
    }
    assert_eq!(
        post_bare(&server, &[], pings(50))
            .json()
            .as_array()
            .unwrap()
            .len(),
        50
    );
}

#[test]
fn what_is_left_of_a_batch_with_a_long_answer_is_refused() {
    let (entra, backend) = (Entra::start(), Backend::start(None));
    let server = Setup::new(&entra, Some(&backend)).start();
    server.modern().sign_in(ADA);
    backend.on(|_| Some(Reply::of_json(200, &json!("x".repeat(900_000))).into()));
    let call = |id: usize| {
        let params = json!({"name": "api_get_request", "arguments": {"endpoint": "/x"}});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
    };
    let batch: Vec<Value> = (0..10).map(call).collect();
    let answers = post_bare(&server, &[], json!(batch).to_string()).json();
    let (made, left): (Vec<_>, Vec<_>) = answers
        .as_array()
        .unwrap()
        .iter()
        .partition(|answer| answer["result"].is_object());
    assert_eq!(
        (made.len(), left.len(), backend.requests().len()),
        (3, 7, 3)
    );
    for (answer, id) in left.iter().zip(3..) {
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&json!(id), &json!(-32603))
        );
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("send this request alone"),
            "{answer}"
        );
    }
}

#[test]
fn batches_belong_to_2025_03_26_alone() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        let ping = format!("[{}]", request(&mcp, "1", "ping"));
        let notification = r#"[{"jsonrpc":"2.0","method":"notifications/initialized"}]"#;
        let replies = [
            post_as(&mut mcp, "ping", ping),
            post_as(&mut mcp, "ping", notification),
        ];
        match &mcp.era {
            Era::Legacy { revision, .. } if revision == "2025-03-26" => {
                assert_eq!(replies.map(|reply| reply.status), [200, 202]);
            }
            _ => replies.iter().for_each(|reply| {
                assert!(error_of(reply, 400, INVALID_REQUEST).get("id").is_none());
            }),
        }
    }
}

#[test]
fn nothing_in_a_batch_waits() {
    let (_entra, server) = start();
    let mut mcp = server.legacy("2025-03-26");
    mcp.ok("authenticate_user", json!({"user_id": "ada"}));
    let params =
        json!({"name": "check_auth_status", "arguments": {"user_id": "ada", "wait_seconds": 120}});
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}]);
    let reply = post_as(&mut mcp, "", batch.to_string());
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(
        reply.json()[0]["result"]["structuredContent"]["pending_sign_in"],
        true
    );
}

// ---- tools/list ----

#[test]
fn the_list_of_tools_is_the_same_byte_for_byte() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let server = setup.start();
    let list = |server: &Running| {
        let mut mcp = server.modern();
        let body = request(&mcp, "1", "tools/list");
        post_as(&mut mcp, "tools/list", body)
    };
    let first = list(&server);
    assert_eq!(list(&server).body, first.body);
    // It does not depend on who is signed in, nor on what was asked before.
    let mut mcp = server.modern();
    let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert_eq!(mcp.ok("view_userid", json!({}))["user_id"], ADA);
    assert_eq!(list(&server).body, first.body);
    for revision in LEGACY {
        let tools = server.legacy(revision).result("tools/list", json!({}));
        assert_eq!(tools, json!({"tools": first.json()["result"]["tools"]}));
    }
    drop(server);
    assert_eq!(list(&setup.start()).body, first.body);
}

#[test]
fn there_is_one_page_of_tools() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        assert!(
            mcp.result("tools/list", json!({}))
                .get("nextCursor")
                .is_none()
        );
        for cursor in [json!("next"), json!(""), json!(7), json!({})] {
            let reply = mcp.send("tools/list", json!({"cursor": cursor}));
            assert!(error_of(&reply, 200, INVALID_PARAMS)["id"].is_u64());
        }
    }
}

fn definitions(server: &Running) -> Vec<Value> {
    let mut result = server.modern().result("tools/list", json!({}));
    serde_json::from_value(result["tools"].take()).unwrap()
}

/// What every conversation pays for, and what is fetched.
#[test]
fn the_list_of_tools_is_short() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let body = request(&mcp, "1", "tools/list");
    let answer = post_as(&mut mcp, "tools/list", body).body;
    let mut read_by_models = definitions(&server);
    for tool in &mut read_by_models {
        for unread in ["annotations", "outputSchema", "title"] {
            tool.as_object_mut().unwrap().remove(unread);
        }
    }
    let read_by_models = Value::from(read_by_models).to_string();
    println!(
        "{} bytes, of which models read {}",
        answer.len(),
        read_by_models.len()
    );
    assert!(read_by_models.len() <= 9000, "{}", read_by_models.len());
    assert!(answer.len() <= 20_000, "{}", answer.len());
}

fn names(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// What JSON Schema 2020-12 says of the keywords that our schemas use; no others are used.
fn check_schema(schema: &Value, at: &str) {
    for (keyword, value) in schema
        .as_object()
        .unwrap_or_else(|| panic!("{at} is no schema: {schema}"))
    {
        let at = format!("{at}/{keyword}");
        match keyword.as_str() {
            // One type: some clients take no list of them.
            "type" => {
                let known = [
                    "null", "boolean", "object", "array", "number", "string", "integer",
                ];
                assert!(known.iter().any(|kind| value == kind), "{at}");
            }
            "description" => assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{at}"),
            "properties" => value
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(name, schema)| {
                    check_schema(schema, &format!("{at}/{name}"));
                }),
            "required" => {
                let required = texts(value);
                assert_eq!(
                    required.iter().collect::<BTreeSet<_>>().len(),
                    required.len(),
                    "{at}"
                );
                assert!(
                    required
                        .iter()
                        .all(|name| schema["properties"].get(name).is_some()),
                    "{at}"
                );
            }
            "additionalProperties" if value.is_boolean() => {}
            "additionalProperties" | "items" => check_schema(value, &at),
            "anyOf" => {
                let branches = value.as_array().unwrap();
                assert!(branches.len() > 1, "{at}");
                for branch in branches {
                    check_schema(branch, &at);
                }
            }
            "minLength" | "maxLength" | "maxProperties" | "minItems" | "maxItems" => {
                assert!(value.is_u64(), "{at}");
            }
            "minimum" | "maximum" => assert!(value.is_number(), "{at}"),
            "enum" => assert!(
                value.as_array().unwrap().iter().all(Value::is_string),
                "{at}"
            ),
            _ => panic!("{at}: is this a keyword, and do both checkers know it?"),
        }
    }
}

#[test]
fn every_tool_is_well_defined() {
    let (_entra, server) = start();
    let tools = definitions(&server);
    let distinct: BTreeSet<&str> = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(distinct.len(), tools.len());
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        assert!(
            (1..=128).contains(&name.len()) && name.chars().all(allowed),
            "{name}"
        );
        for text in ["title", "description"] {
            assert!(
                tool[text]
                    .as_str()
                    .is_some_and(|text| !text.trim().is_empty()),
                "{name}: {text}"
            );
        }
        let known = [
            "annotations",
            "description",
            "inputSchema",
            "name",
            "outputSchema",
            "title",
        ];
        assert_eq!(names(tool), known, "{name}");
        for kind in ["inputSchema", "outputSchema"] {
            let schema = &tool[kind];
            check_schema(schema, &format!("{name}/{kind}"));
            assert_eq!(schema["type"], "object", "{name}/{kind}");
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(
            tool["outputSchema"]["required"],
            json!(["success"]),
            "{name}"
        );
        for (argument, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(
                schema["description"].is_string(),
                "{name}: {argument} is not described"
            );
        }
    }
}

#[test]
fn every_tool_takes_the_arguments_it_is_said_to_take() {
    let (_entra, server) = start();
    let reads = [
        "endpoint",
        "headers",
        "max_bytes",
        "params",
        "select",
        "user_id",
    ];
    let writes = [
        "data",
        "endpoint",
        "headers",
        "max_bytes",
        "params",
        "select",
        "user_id",
    ];
    let expected: BTreeMap<&str, (&[&str], &[&str])> = BTreeMap::from([
        ("ping", (&[][..], &[][..])),
        ("get_server_info", (&[], &[])),
        ("view_userid", (&[], &[])),
        ("authenticate_user", (&["prompt", "user_id"], &["user_id"])),
        ("check_auth_status", (&["user_id", "wait_seconds"], &[])),
        ("logout_user", (&["user_id"], &[])),
        ("api_get_request", (&reads, &["endpoint"])),
        ("api_delete_request", (&writes, &["endpoint"])),
        ("api_post_request", (&writes, &["endpoint"])),
        ("api_put_request", (&writes, &["endpoint"])),
        ("api_patch_request", (&writes, &["endpoint"])),
    ]);
    let tools = definitions(&server);
    assert_eq!(tools.len(), expected.len());
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        let schema = &tool["inputSchema"];
        let (arguments, required) = expected[name];
        assert_eq!(
            (names(&schema["properties"]), texts(&schema["required"])),
            (arguments.into(), required.into()),
            "{name}"
        );
    }
}

/// What the annotations claim; `destructive` and `idempotent` say nothing of what only reads.
fn claims(tool: &Value) -> String {
    let hint = |name: &str, default: bool| {
        tool["annotations"]
            .get(name)
            .map_or(default, |hint| hint.as_bool().unwrap())
    };
    let reads = hint("readOnlyHint", false);
    let claims = [
        ("read-only", reads),
        ("destructive", !reads && hint("destructiveHint", true)),
        ("idempotent", !reads && hint("idempotentHint", false)),
        ("open-world", hint("openWorldHint", true)),
    ];
    claims
        .iter()
        .filter(|(_, claimed)| *claimed)
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn annotations_are_honest() {
    let (_entra, server) = start();
    let expected = BTreeMap::from([
        ("ping", "read-only"),
        ("get_server_info", "read-only"),
        ("view_userid", "read-only"),
        ("check_auth_status", "read-only"),
        ("authenticate_user", "open-world"),
        ("logout_user", "destructive idempotent"),
        ("api_get_request", "read-only open-world"),
        ("api_post_request", "destructive open-world"),
        ("api_put_request", "destructive idempotent open-world"),
        ("api_patch_request", "destructive open-world"),
        ("api_delete_request", "destructive idempotent open-world"),
    ]);
    for tool in definitions(&server) {
        assert_eq!(
            claims(&tool),
            expected[tool["name"].as_str().unwrap()],
            "{}",
            tool["name"]
        );
        // It would be said twice.
        assert_eq!(tool["annotations"].get("title"), None);
    }
}

// ---- tools/call ----

#[test]
fn a_call_of_no_tool_is_a_protocol_error() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for name in ["no_such_tool", "Ping", "tools/list", "ping.", ""] {
            let response = error_of(
                &mcp.send("tools/call", json!({"name": name, "arguments": {}})),
                200,
                INVALID_PARAMS,
            );
            assert!(response["id"].is_u64(), "{response}");
            assert!(
                response["error"]["message"]
                    .as_str()
                    .unwrap()
                    .contains(name),
                "{response}"
            );
        }
        for params in [
            json!({}),
            json!({"name": 7}),
            json!({"name": null}),
            json!({"name": ["ping"]}),
        ] {
            let status = if is_modern(&mcp) { 400 } else { 200 };
            error_of(&mcp.send("tools/call", params), status, INVALID_PARAMS);
        }
    }
}

#[test]
fn arguments_that_are_no_object_are_a_protocol_error() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        for arguments in [json!([]), json!("user_id"), json!(7), json!(true)] {
            error_of(
                &mcp.send(
                    "tools/call",
                    json!({"name": "ping", "arguments": arguments}),
                ),
                200,
                INVALID_PARAMS,
            );
        }
        assert_eq!(
            mcp.result("tools/call", json!({"name": "ping"}))["isError"],
            false
        );
    }
}

#[test]
fn wrong_arguments_are_tool_errors_that_say_which_and_why() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    let long = "x".repeat(257);
    let mut cases: Vec<(&str, Value, &[&str])> = vec![
        ("ping", json!({"x": 1}), &["\"x\"", "no argument"]),
        (
            "get_server_info",
            json!({"user_id": "ada"}),
            &["\"user_id\"", "no argument"],
        ),
        (
            "view_userid",
            json!({"user_id": "ada"}),
            &["\"user_id\"", "no argument"],
        ),
        ("authenticate_user", json!({}), &["\"user_id\"", "missing"]),
        (
            "authenticate_user",
            json!({"user": "ada"}),
            &["\"user\"", "user_id"],
        ),
        (
            "authenticate_user",
            json!({"user_id": ""}),
            &["user_id", "at least 1"],
        ),
        (
            "authenticate_user",
            json!({"user_id": long}),
            &["user_id", "at most 256"],
        ),
        (
            "authenticate_user",
            json!({"user_id": 7}),
            &["user_id", "string"],
        ),
        (
            "authenticate_user",
            json!({"user_id": null}),
            &["user_id", "string"],
        ),
        (
            "authenticate_user",
            json!({"user_id": ["ada"]}),
            &["user_id", "string"],
        ),
        (
            "check_auth_status",
            json!({"user_id": {}}),
            &["user_id", "string"],
        ),
        (
            "check_auth_status",
            json!({"wait_seconds": -1}),
            &["wait_seconds", "at least 0"],
        ),
        (
            "check_auth_status",
            json!({"wait_seconds": 121}),
            &["wait_seconds", "at most 120"],
        ),
        (
            "check_auth_status",
            json!({"wait_seconds": u64::MAX}),
            &["wait_seconds", "at most 120"],
        ),
        (
            "check_auth_status",
            json!({"wait_seconds": 1.5}),
            &["wait_seconds", "integer"],
        ),
        (
            "check_auth_status",
            json!({"wait_seconds": "5"}),
            &["wait_seconds", "integer"],
        ),
        (
            "check_auth_status",
            json!({"user_id": "ada", "wait": 5}),
            &["\"wait\"", "wait_seconds"],
        ),
        (
            "logout_user",
            json!({"user_id": true}),
            &["user_id", "string"],
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "data": {}}),
            &["\"data\"", "endpoint"],
        ),
        (
            "api_get_request",
            json!({"endpoint": "/me", "data": null}),
            &["\"data\"", "endpoint"],
        ),
    ];
    let endpoint = "/".repeat(8193);
    for tool in [
        "api_get_request",
        "api_post_request",
        "api_put_request",
        "api_patch_request",
        "api_delete_request",
    ] {
        cases.extend::<[(&str, Value, &[&str]); 11]>([
            (tool, json!({}), &["\"endpoint\"", "missing"]),
            (tool, json!({"url": "/me"}), &["\"url\"", "endpoint"]),
            (tool, json!({"endpoint": 7}), &["endpoint", "string"]),
            (
                tool,
                json!({"endpoint": endpoint}),
                &["endpoint", "at most 8192"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "user_id": 7}),
                &["user_id", "string"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "params": "a=b"}),
                &["params", "object"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "params": {"$top": {}}}),
                &["params.$top", "array"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "params": {"id": [1, [2]]}}),
                &["params.id", "item"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "params": {"id": [null]}}),
                &["params.id", "item"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "headers": ["Accept"]}),
                &["headers", "object"],
            ),
            (
                tool,
                json!({"endpoint": "/me", "headers": {"Accept": 1}}),
                &["headers.Accept", "string"],
            ),
        ]);
    }
    for (tool, arguments, words) in cases {
        let result = mcp.call(tool, arguments.clone());
        assert_eq!(
            (&result["isError"], &result["structuredContent"]["error"]),
            (&json!(true), &json!("invalid_request"))
        );
        for text in [
            &result["structuredContent"]["message"],
            &result["content"][0]["text"],
        ] {
            let text = text.as_str().unwrap();
            assert!(
                words.iter().all(|word| text.contains(word)),
                "{tool} {arguments}: {text}"
            );
            assert!(!text.contains(": ."), "{tool} {arguments}: {text}");
        }
    }
}

#[test]
fn arguments_that_fit_the_schema_are_taken() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    for (tool, arguments) in [
        // Characters are counted, not bytes.
        ("authenticate_user", json!({"user_id": "ä".repeat(256)})),
        ("check_auth_status", json!({"wait_seconds": 0})),
        (
            "check_auth_status",
            json!({"user_id": "grace", "wait_seconds": 120}),
        ),
        // Any number without a fraction is an integer (JSON Schema 2020-12 validation §6.1.1).
        (
            "check_auth_status",
            json!({"user_id": "grace", "wait_seconds": 5.0}),
        ),
    ] {
        mcp.ok(tool, arguments);
    }
    // As far as the token, which nobody has.
    for arguments in [
        json!({"endpoint": "/me", "params": {"a": "x", "b": 1, "c": 1.5, "d": true, "e": [], "f": ["x", 1, false]}}),
        json!({"endpoint": "me", "headers": {"Accept": "text/plain"}, "data": {"any": [null, 1, "x"]}}),
        json!({"endpoint": "", "data": null}),
    ] {
        assert_eq!(
            mcp.fails("api_post_request", arguments)["error"],
            "configuration"
        );
    }
}

/// A client that holds every result to the tool's definition.
struct Inspector {
    mcp: Mcp,
    tools: BTreeMap<String, Value>,
    errors: BTreeSet<String>,
}

impl Inspector {
    fn new(server: &Running) -> Self {
        let tools = definitions(server)
            .into_iter()
            .map(|tool| (tool["name"].as_str().unwrap().to_owned(), tool));
        Self {
            mcp: server.modern(),
            tools: tools.collect(),
            errors: BTreeSet::new(),
        }
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.mcp.call(tool, arguments);
        let known = [
            "_meta",
            "content",
            "isError",
            "resultType",
            "structuredContent",
        ];
        assert_eq!(names(&result), known, "{tool}");
        let structured = result["structuredContent"].take();
        let schema = &self.tools[tool]["outputSchema"];
        assert_eq!(
            departures(schema, &structured, tool),
            [""; 0],
            "{structured}"
        );
        // Nothing is given that is not described.
        let described = names(&schema["properties"]);
        assert!(
            names(&structured)
                .iter()
                .all(|name| described.contains(name)),
            "{tool}: {structured}"
        );

        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            result["content"][0]["type"] == "text" && !text.is_empty(),
            "{result}"
        );
        let succeeded = structured["success"].as_bool().unwrap();
        assert_eq!(result["isError"], !succeeded, "{result}");
        if succeeded && result["content"].get(1).is_none() {
            assert_eq!(
                serde_json::from_str::<Value>(text).unwrap(),
                structured,
                "{tool}"
            );
        }
        if !succeeded {
            assert!(
                text.contains(structured["message"].as_str().unwrap()),
                "{tool}: {text}"
            );
            let error = structured["error"].as_str().unwrap();
            let documented = schema["properties"]["error"]["description"]
                .as_str()
                .unwrap();
            assert!(
                documented.contains(error),
                "{tool}: {error} is not in {documented:?}"
            );
            self.errors.insert(error.to_owned());
        }
        structured
    }

    fn sign_in(&mut self, user_id: &str, username: &str) {
        let begun = self.call("authenticate_user", json!({"user_id": user_id}));
        Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), username);
        assert_eq!(
            self.call("check_auth_status", json!({"user_id": user_id}))["authenticated"],
            true
        );
    }
}

#[test]
fn results_conform_to_the_output_schemas_whatever_happens() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend))
        .with("MAX_RESPONSE_BYTES", "2000")
        .start();
    let mut tools = Inspector::new(&server);
    let get = |endpoint: &str| json!({"endpoint": endpoint});

    // Nobody is signed in.
    for tool in [
        "ping",
        "get_server_info",
        "view_userid",
        "check_auth_status",
        "logout_user",
    ] {
        tools.call(tool, json!({}));
    }
    tools.call("check_auth_status", json!({"user_id": ADA}));
    tools.call("logout_user", json!({"user_id": ADA}));
    for tool in [
        "api_get_request",
        "api_post_request",
        "api_put_request",
        "api_patch_request",
        "api_delete_request",
    ] {
        assert_eq!(tools.call(tool, get("/me"))["error"], "sign_in_required");
    }
    // A sign-in is under way, fails, succeeds.
    let begun = tools.call("authenticate_user", json!({"user_id": ADA}));
    assert_eq!(
        tools.call("check_auth_status", json!({}))["pending_sign_in"],
        true
    );
    Browser::new().decline(begun["sign_in_url"].as_str().unwrap());
    assert!(
        tools.call("check_auth_status", json!({"user_id": ADA}))["last_sign_in_error"].is_string()
    );
    tools.sign_in(ADA, ADA);
    assert_eq!(
        tools.call("authenticate_user", json!({"user_id": ADA}))["already_signed_in"],
        true
    );
    for tool in ["get_server_info", "view_userid", "check_auth_status"] {
        tools.call(tool, json!({}));
    }

    // Every kind of answer.
    for (endpoint, status) in [
        ("/me", 200),
        ("/photo", 200),
        ("/report.csv", 200),
        ("/binary", 200),
        ("/gzip", 200),
        ("/empty", 204),
        ("/large?bytes=5000", 200),
        ("/redirect", 302),
        ("/status/400", 400),
        ("/status/401", 401),
        ("/status/403", 403),
        ("/status/429", 429),
        ("/status/500", 500),
    ] {
        assert_eq!(
            tools.call("api_get_request", get(endpoint))["status"],
            status,
            "{endpoint}"
        );
    }
    let task = tools.call(
        "api_post_request",
        json!({"endpoint": "/tasks", "data": {"title": "x"}}),
    );
    assert_eq!(
        (&task["status"], task["headers"]["etag"].is_string()),
        (&json!(201), true),
        "{task}"
    );
    tools.call(
        "api_put_request",
        json!({"endpoint": "/tasks/1", "data": {"title": "y"}}),
    );
    tools.call(
        "api_patch_request",
        json!({"endpoint": "/tasks/1", "data": {"title": "z"}}),
    );
    tools.call("api_delete_request", get("/tasks/1"));

    // What is refused here.
    assert_eq!(
        tools.call("api_get_request", get("/../admin"))["error"],
        "invalid_request"
    );
    tools.call(
        "api_get_request",
        json!({"endpoint": "/me", "headers": {"Authorization": "x"}}),
    );
    tools.call(
        "api_post_request",
        json!({"endpoint": "/me", "data": 1, "headers": {"Content-Type": "text/plain"}}),
    );
    for tool in tools.tools.keys().cloned().collect::<Vec<_>>() {
        assert_eq!(
            tools.call(&tool, json!({"nonsense": 1}))["error"],
            "invalid_request"
        );
    }
    // Two accounts, and no word which of them.
    tools.sign_in("grace", GRACE);
    for tool in ["view_userid", "check_auth_status", "logout_user"] {
        tools.call(tool, json!({}));
    }
    tools.call("api_get_request", get("/me"));
    tools.call("logout_user", json!({"user_id": "grace"}));

    // The API is out of order, then Entra.
    backend.on(|_| Some(Answer::Close));
    assert_eq!(
        tools.call("api_get_request", get("/me"))["error"],
        "backend_unreachable"
    );
    server.clock.advance(4000);
    entra.advance(4000);
    entra.fail_tokens(TokenFailure::Status(503, Some(7)));
    assert_eq!(
        tools.call("api_get_request", get("/me"))["retry_after_seconds"],
        7
    );
    entra.heal();
    entra.revoke_all();
    server.clock.advance(7);
    let refused = tools.call("api_get_request", get("/me"));
    assert_eq!(
        (&refused["error"], refused["aadsts"].is_u64()),
        (&json!("sign_in_required"), true),
        "{refused}"
    );
    tools.call("check_auth_status", json!({}));
    assert_eq!(
        tools.call("logout_user", json!({"user_id": ADA}))["success"],
        true
    );

    let expected = [
        "backend_unreachable",
        "http_error",
        "invalid_request",
        "redirect",
        "retry_later",
        "sign_in_required",
    ];
    assert_eq!(
        tools.errors.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn a_server_without_a_backend_says_what_to_set() {
    let (_entra, server) = start();
    let mut tools = Inspector::new(&server);
    for tool in [
        "api_get_request",
        "api_post_request",
        "api_put_request",
        "api_patch_request",
        "api_delete_request",
    ] {
        let refused = tools.call(tool, json!({"endpoint": "/me"}));
        assert_eq!(refused["error"], "configuration");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("BACKEND_API_BASE_URL"),
            "{refused}"
        );
    }
    assert_eq!(
        tools.call("get_server_info", json!({}))["backend_base_url"],
        Value::Null
    );
}

#[test]
fn an_image_is_image_content_too() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    Inspector::new(&server).sign_in(ADA, ADA);
    for mut mcp in clients(&server) {
        let result = mcp.call("api_get_request", json!({"endpoint": "/photo"}));
        let image = &result["content"][1];
        assert_eq!(
            (&image["type"], &image["mimeType"]),
            (&json!("image"), &json!("image/png"))
        );
        assert!(
            STANDARD
                .decode(image["data"].as_str().unwrap())
                .unwrap()
                .starts_with(b"\x89PNG")
        );
        assert_eq!(result["content"].as_array().unwrap().len(), 2);
    }
}

// ---- Streams (transports, "Receiving Messages"; progress; cancellation) ----

/// Begins a sign-in of `user_id` and waits for it; gives the link, and the id and the answer of the
/// waiting call.
fn wait_for_sign_in(
    mcp: &mut Mcp,
    user_id: &str,
    seconds: u64,
) -> (String, Value, Reply, EventReader) {
    wait_with_token(mcp, user_id, seconds, &json!("token"))
}

fn wait_with_token(
    mcp: &mut Mcp,
    user_id: &str,
    seconds: u64,
    token: &Value,
) -> (String, Value, Reply, EventReader) {
    let begun = mcp.ok("authenticate_user", json!({"user_id": user_id}));
    let arguments = json!({"user_id": user_id, "wait_seconds": seconds});
    let params = json!({"name": "check_auth_status", "arguments": arguments, "_meta": {"progressToken": token}});
    let headers = mcp.headers("tools/call", Some("check_auth_status"));
    let body = mcp.body("tools/call", params);
    let id = serde_json::from_str::<Value>(&body).unwrap()["id"].take();
    let (head, events) = mcp
        .http
        .open_stream("POST", "/mcp", &as_refs(&headers), body.as_bytes());
    (
        begun["sign_in_url"].as_str().unwrap().to_owned(),
        id,
        head,
        events,
    )
}

/// How many calls wait at a time, and how many subscriptions.
const MOST_WAITING: usize = 32;

/// The rest of the stream: progress, then the response to `id`, then the end. Gives its result.
fn final_result(events: &mut EventReader, id: &Value) -> Value {
    let mut message = next_message_but(events, "notifications/progress");
    assert_eq!(
        (&message["jsonrpc"], &message["id"]),
        (&json!("2.0"), id),
        "{message}"
    );
    assert_eq!(events.next(), None);
    message["result"].take()
}

fn next_message(events: &mut EventReader) -> Value {
    next_message_but(events, "")
}

/// The next event that is neither a comment nor a notification of the method `skipped`. None has an
/// id: streams are not resumable here.
fn next_message_but(events: &mut EventReader, skipped: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    for event in events {
        assert!(Instant::now() < deadline, "waited in vain for a message");
        let Event::Message {
            event: kind, id, ..
        } = &event
        else {
            continue;
        };
        assert!(
            matches!((kind.as_deref(), id), (None | Some("message"), None)),
            "{event:?}"
        );
        let message = event.json().unwrap();
        if message["method"] != skipped {
            return message;
        }
    }
    panic!("the stream ended without a response");
}

#[test]
fn a_call_that_waits_is_answered_by_a_stream_that_ends_with_the_result() {
    let (_entra, server) = start_impatient();
    for (mut mcp, user_id) in clients(&server).into_iter().zip(["a", "b", "c", "d"]) {
        let (link, id, head, mut events) = wait_for_sign_in(&mut mcp, user_id, 120);
        assert_eq!(
            (head.status, head.header("Content-Type")),
            (200, Some("text/event-stream"))
        );
        assert_eq!(head.header("X-Accel-Buffering"), Some("no"));
        assert_eq!(head.headers_named("Cache-Control"), ["no-store"]);
        Browser::new().sign_in(&link, ADA);
        let result = final_result(&mut events, &id);
        let status = &result["structuredContent"];
        assert_eq!(
            (&result["isError"], &status["user_id"]),
            (&json!(false), &json!(user_id))
        );
        assert_eq!(
            (&status["authenticated"], &status["pending_sign_in"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(result.get("resultType").is_some(), is_modern(&mcp));
        assert_eq!(result["_meta"].get(SERVER_INFO).is_some(), is_modern(&mcp));
        server
            .modern()
            .ok("logout_user", json!({"user_id": user_id}));
    }
}

/// A server that looks after its streams all the time, and shows it.
fn start_impatient() -> (Entra, Running) {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .limits(|limits| {
            limits.silence = Duration::from_millis(5);
            limits.keep_alive = Duration::from_millis(5);
        })
        .start();
    (entra, server)
}

#[test]
fn progress_increases_while_a_call_waits() {
    let (_entra, server) = start_impatient();
    let tokens = [json!("token"), json!(7), json!(""), json!(-1)];
    for ((mut mcp, user_id), token) in clients(&server)
        .into_iter()
        .zip(["a", "b", "c", "d"])
        .zip(tokens)
    {
        let (link, id, _, mut events) = wait_with_token(&mut mcp, user_id, 120, &token);
        let mut last = 0.0;
        for _ in 0..3 {
            let notification = next_message(&mut events);
            assert_eq!(notification["method"], "notifications/progress");
            let params = &notification["params"];
            assert_eq!(
                (&params["progressToken"], params["message"].is_string()),
                (&token, true)
            );
            let progress = params["progress"].as_f64().unwrap();
            assert!(progress > last, "{progress} after {last}");
            last = progress;
        }
        Browser::new().sign_in(&link, ADA);
        assert_eq!(
            final_result(&mut events, &id)["structuredContent"]["authenticated"],
            true
        );
        server
            .modern()
            .ok("logout_user", json!({"user_id": user_id}));
    }
}

#[test]
fn a_stream_without_a_progress_token_is_kept_alive_by_comments() {
    let (_entra, server) = start_impatient();
    let mut mcp = server.modern();
    let is_comment = |event: Option<Event>| matches!(event, Some(Event::Comment(_)));
    // A token is a string or an integer.
    for (user_id, token) in [
        ("a", json!(null)),
        ("b", json!(1.5)),
        ("c", json!({})),
        ("d", json!(true)),
    ] {
        let (link, id, _, mut events) = wait_with_token(&mut mcp, user_id, 120, &token);
        assert!((0..3).all(|_| is_comment(events.next())), "{token}");
        Browser::new().sign_in(&link, ADA);
        assert_eq!(
            final_result(&mut events, &id)["structuredContent"]["authenticated"],
            true
        );
        server
            .modern()
            .ok("logout_user", json!({"user_id": user_id}));
    }
    let (_, mut events) = listen(&mut mcp, "1");
    next_message(&mut events);
    assert!((0..3).all(|_| is_comment(events.next())));
}

#[test]
fn a_wait_ends_when_the_sign_in_fails() {
    let (_entra, server) = start_impatient();
    let (link, id, _, mut events) = wait_for_sign_in(&mut server.modern(), ADA, 120);
    Browser::new().decline(&link);
    let result = final_result(&mut events, &id);
    assert_eq!(result["structuredContent"]["authenticated"], false);
    assert!(
        result["structuredContent"]["last_sign_in_error"].is_string(),
        "{result}"
    );
}

#[test]
fn a_wait_for_one_user_outlasts_the_sign_in_of_another() {
    let (_entra, server) = start_impatient();
    let mut mcp = server.modern();
    let other = mcp.ok("authenticate_user", json!({"user_id": GRACE}));
    let (link, id, _, mut events) = wait_for_sign_in(&mut mcp, ADA, 120);
    Browser::new().sign_in(other["sign_in_url"].as_str().unwrap(), GRACE);
    Browser::new().sign_in(&link, ADA);
    assert_eq!(
        final_result(&mut events, &id)["structuredContent"]["authenticated"],
        true
    );
}

#[test]
fn a_wait_ends_at_its_deadline() {
    let (_entra, server) = start_impatient();
    let (_, id, _, mut events) = wait_for_sign_in(&mut server.modern(), ADA, 1);
    let result = final_result(&mut events, &id);
    let status = &result["structuredContent"];
    assert_eq!(
        (&status["authenticated"], &status["pending_sign_in"]),
        (&json!(false), &json!(true))
    );
}

#[test]
fn where_nothing_is_pending_there_is_nothing_to_wait_for() {
    let (_entra, server) = start();
    for mut mcp in clients(&server) {
        let params = json!({"name": "check_auth_status", "arguments": {"user_id": ADA, "wait_seconds": 120}});
        let reply = mcp.send("tools/call", params);
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (200, Some("application/json"))
        );
        assert_eq!(
            reply.json()["result"]["structuredContent"]["authenticated"],
            false
        );
    }
}

#[test]
fn a_server_that_stops_ends_a_wait_with_its_result() {
    let (_entra, server) = start_impatient();
    let (_, id, _, mut events) = wait_for_sign_in(&mut server.modern(), ADA, 120);
    server.server.stop();
    assert_eq!(
        final_result(&mut events, &id)["structuredContent"]["pending_sign_in"],
        true
    );
}

fn listen(mcp: &mut Mcp, id: &str) -> (Reply, EventReader) {
    let filter = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["file:///x"]}"#;
    let params = format!(r#"{{"_meta":{META},"notifications":{filter}}}"#);
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{params}}}"#
    );
    let headers = mcp.headers("subscriptions/listen", None);
    mcp.http
        .open_stream("POST", "/mcp", &as_refs(&headers), body.as_bytes())
}

#[test]
fn a_subscription_is_acknowledged_first_and_ends_with_its_result() {
    let (_entra, server) = start_impatient();
    let mut mcp = server.modern();
    let mut open: Vec<(Value, EventReader)> = Vec::new();
    for id in [json!(7), json!("listen-1")] {
        let (head, mut events) = listen(&mut mcp, &id.to_string());
        assert_eq!(
            (head.status, head.header("Content-Type")),
            (200, Some("text/event-stream"))
        );
        assert_eq!(head.header("X-Accel-Buffering"), Some("no"));
        // Nothing changes here while the server runs, so nothing is watched.
        let params = json!({"_meta": {SUBSCRIPTION_ID: id}, "notifications": {}});
        let method = "notifications/subscriptions/acknowledged";
        let acknowledged = json!({"jsonrpc": "2.0", "method": method, "params": params});
        assert_eq!(next_message(&mut events), acknowledged);
        open.push((id, events));
    }
    server.server.stop();
    for (id, mut events) in open {
        let end = next_message(&mut events);
        assert_eq!(
            (&end["id"], &end["result"]["resultType"]),
            (&id, &json!("complete")),
            "{end}"
        );
        assert_eq!(end["result"]["_meta"][SUBSCRIPTION_ID], id);
        assert_eq!(
            end["result"]["_meta"][SERVER_INFO]["name"],
            "entra-auth-mcp"
        );
        assert_eq!(events.next(), None);
    }
}

#[test]
fn a_subscription_says_what_to() {
    let (_entra, server) = start();
    let mut mcp = server.modern();
    for params in [
        json!({}),
        json!({"notifications": 7}),
        json!({"notifications": []}),
    ] {
        error_of(
            &mcp.send("subscriptions/listen", params),
            200,
            INVALID_PARAMS,
        );
    }
}

#[test]
fn a_subscription_stays_open() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .limits(|limits| limits.connections = 1)
        .start();
    let (_, mut events) = listen(&mut server.modern(), "1");
    assert_eq!(
        events.next_json().unwrap()["method"],
        "notifications/subscriptions/acknowledged"
    );
    // The one connection that there is room for is in use, so it is not given up for another.
    assert_eq!(server.client().get("/healthz").status, 503);
}

#[test]
fn streams_that_wait_leave_room_for_other_requests() {
    let (_entra, server) = start_impatient();
    let mut mcp = server.modern();
    let subscribe = |mcp: &mut Mcp, id: usize| {
        let (_, mut events) = listen(mcp, &id.to_string());
        let acknowledged = next_message(&mut events);
        assert_eq!(acknowledged["params"]["_meta"][SUBSCRIPTION_ID], id);
        events
    };
    let mut held: Vec<EventReader> = (0..MOST_WAITING)
        .map(|id| subscribe(&mut mcp, id))
        .collect();
    let end = next_message(&mut subscribe(&mut mcp, MOST_WAITING));
    assert_eq!(end["result"]["_meta"][SUBSCRIPTION_ID], MOST_WAITING);
    for events in &mut held {
        assert!(matches!(events.next(), Some(Event::Comment(_))));
    }
    // Calls that wait have room of their own; beyond it, one is answered as things stand.
    let says_so = |message: &Value| {
        let text = message["params"]["message"].as_str();
        text == Some("Waiting for the user to sign in")
    };
    let waiting: Vec<EventReader> = (0..MOST_WAITING)
        .map(|_| {
            let (_, _, _, mut events) = wait_for_sign_in(&mut mcp, ADA, 120);
            while !says_so(&next_message(&mut events)) {}
            events
        })
        .collect();
    let arguments = json!({"user_id": ADA, "wait_seconds": 120});
    let status = mcp.ok("check_auth_status", arguments);
    assert_eq!(status["pending_sign_in"], true, "{status}");
    drop(waiting);
}

#[test]
fn a_client_that_leaves_ends_its_stream_without_another_message() {
    let (_entra, server) = start_impatient();
    let mut mcp = server.modern();
    mcp.ok("authenticate_user", json!({"user_id": ADA}));
    let wait =
        json!({"name": "check_auth_status", "arguments": {"user_id": ADA, "wait_seconds": 120}});
    for (method, name, params) in [
        ("tools/call", Some("check_auth_status"), wait),
        (
            "subscriptions/listen",
            None,
            json!({"notifications": {"toolsListChanged": true}}),
        ),
    ] {
        let body = mcp.body(method, params);
        let mut head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n",
            server.address(),
            body.len()
        );
        for (name, value) in mcp.headers(method, name) {
            head.extend([&name, ": ", &value, "\r\n"]);
        }
        // The connection is closed long before the wait is over.
        let (sender, ending) = mpsc::channel();
        let address = server.address();
        thread::spawn(move || {
            sender.send(raw_then_eof(
                &address,
                format!("{head}\r\n{body}").as_bytes(),
            ))
        });
        let received = ending
            .recv_timeout(PATIENCE)
            .expect("the end of the stream");
        let received = String::from_utf8(received).unwrap();
        // A call may not have become a stream before its client left.
        let is_stream =
            received.starts_with("HTTP/1.1 200 ") && received.contains("text/event-stream");
        assert!(
            is_stream || (name.is_some() && received.is_empty()),
            "{received}"
        );
        assert!(!received.contains(r#""result""#), "{received}");
    }
}
