//! What clients, frameworks and the APIs of models do to a server, and must not be failed for.

use std::thread;
use std::time::Duration;

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra, TokenFailure};
use crate::support::http::{Reply, Request, raw};
use crate::support::mcp::{MEDIA_TYPES, as_refs, input_required};
use crate::support::schema::{breaks_the_rules, breaks_the_strict_rules};
use crate::support::server::{Mcp, Running, Setup, TempDir};
use serde_json::{Map, Value, json};

/// The revisions before the newest.
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
const WITH_DATA: [&str; 4] = [
    "api_post_request",
    "api_put_request",
    "api_patch_request",
    "api_delete_request",
];
const API: [&str; 5] = [
    "api_get_request",
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
    _entra: Entra,
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
            _entra: entra,
        }
    }

    /// The names of the arguments that `tool` is listed with.
    fn properties(&mut self, tool: &str) -> Vec<String> {
        let listed = self.mcp.result("tools/list", json!({}));
        let mut tools = listed["tools"].as_array().unwrap().iter();
        let tool = tools.find(|known| known["name"] == tool).unwrap();
        let properties = tool["inputSchema"]["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    }

    /// From now on every path of the backend is there.
    fn answer_any(&self) {
        self.backend
            .on(|_| Some(Reply::of_json(200, &json!({})).into()));
    }

    /// Calls `tool`, which succeeds; gives what has reached the backend.
    fn sent(&mut self, tool: &str, arguments: Value) -> Request {
        self.mcp.ok(tool, arguments);
        self.backend.last()
    }
}

// ---- What is listed ----

/// The definitions that a server with these settings lists.
fn listed(settings: &[(&str, &str)]) -> Vec<Value> {
    let entra = Entra::start();
    let mut setup = Setup::new(&entra, None);
    for (name, value) in settings {
        setup = setup.with(name, value);
    }
    let mut result = setup.start().modern().result("tools/list", json!({}));
    serde_json::from_value(result["tools"].take()).unwrap()
}

// CASES A2, A13
#[test]
fn every_listed_schema_keeps_the_rules_of_every_models_api() {
    let files = TempDir::new();
    let files_dir = ("FILES_DIR", files.0.to_str().unwrap());
    let device_codes = ("ALLOW_DEVICE_CODE", "true");
    let settings: [&[(&str, &str)]; 5] = [
        &[],
        &[("ALLOWED_METHODS", "GET")],
        &[files_dir],
        &[device_codes],
        &[files_dir, device_codes],
    ];
    let mut seen = Vec::new();
    for settings in settings {
        for tool in listed(settings) {
            assert_eq!(breaks_the_rules(&tool), Vec::<String>::new());
            let properties = tool["inputSchema"]["properties"].as_object().unwrap();
            seen.extend(properties.keys().cloned());
        }
    }
    for argument in ["data", "save_to", "body_file", "method"] {
        assert!(seen.iter().any(|known| known == argument), "{argument}");
    }
}

/// What takes any keys is not strict; what stays optional is not either. All else is.
// CASES A2
#[test]
fn nothing_but_optional_arguments_keeps_the_tools_for_signing_in_from_being_strict() {
    let tools = listed(&[("ALLOW_DEVICE_CODE", "true")]);
    let found: Vec<String> = tools.iter().flat_map(breaks_the_strict_rules).collect();
    assert_eq!(
        found,
        [
            "authenticate_user/method is optional",
            "authenticate_user/prompt is optional",
            "check_auth_status/user_id is optional",
            "check_auth_status/wait_seconds is optional",
            "logout_user/user_id is optional",
        ]
    );
}

#[test]
fn a_schema_that_an_api_of_a_model_refuses_is_found() {
    let tool =
        |schema: Value| json!({"name": "a_tool", "description": "A tool.", "inputSchema": schema});
    let with = |argument: Value| {
        tool(
            json!({"type": "object", "additionalProperties": false, "properties": {"a": argument}}),
        )
    };
    assert_eq!(breaks_the_rules(&with(json!({"type": "string"}))), [""; 0]);
    for argument in [
        json!({}),
        json!(true),
        json!({"type": ["string", "null"]}),
        json!({"type": "null"}),
        json!({"type": "string", "format": "uri"}),
        json!({"type": "string", "enum": ["a", ""]}),
        json!({"type": "integer", "enum": [1]}),
        json!({"type": "string", "enum": (0..251).map(|n| format!("{n:060}")).collect::<Vec<_>>()}),
        json!({"type": "string", "pattern": "a"}),
        json!({"type": "array"}),
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": {"type": "object"}}),
        json!({"type": "object", "additionalProperties": false, "properties": {"$top": {"type": "string"}}}),
        json!({"type": "object", "additionalProperties": false, "required": ["b"]}),
        json!({"anyOf": [{"type": "string"}]}),
        json!({"type": "string", "anyOf": [{"type": "string"}, {"type": "number"}]}),
        json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        json!({"$ref": "#/$defs/a"}),
    ] {
        assert_ne!(
            breaks_the_rules(&with(argument.clone())),
            [""; 0],
            "{argument}"
        );
    }
    for schema in [
        json!({"type": "object"}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"anyOf": [{"type": "object", "properties": {}}, {"type": "string"}]}),
        json!({"type": "object", "additionalProperties": false, "properties": {"api-version": {"type": "string"}}}),
    ] {
        assert_ne!(breaks_the_rules(&tool(schema.clone())), [""; 0], "{schema}");
    }
    for name in ["", "a tool", "1_tool", "a.tool", &"a".repeat(65)] {
        let mut tool = with(json!({"type": "string"}));
        tool["name"] = json!(name);
        assert_ne!(breaks_the_rules(&tool), [""; 0], "{name:?}");
    }
    // An object in an object in an object, and so on.
    let mut deep = json!({"type": "string"});
    for _ in 0..10 {
        deep = json!({"type": "object", "additionalProperties": false, "properties": {"a": deep}});
    }
    assert_ne!(breaks_the_rules(&with(deep)), [""; 0]);
}

// CASES A1
#[test]
fn data_is_listed_as_any_json_in_so_many_words() {
    for tool in listed(&[]) {
        let Some(data) = tool.pointer("/inputSchema/properties/data") else {
            continue;
        };
        let branches = data["anyOf"].as_array().unwrap();
        let kinds: Vec<&str> = branches
            .iter()
            .map(|branch| branch["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["object", "array", "string", "number", "boolean"]);
        // What makes a schema strict closes every object that does not say that it is open.
        assert_eq!(branches[0]["additionalProperties"], true);
        assert!(branches[1]["items"]["anyOf"].is_array());
    }
}

#[test]
fn what_is_not_listed_is_checked_all_the_same() {
    let mut bench = Bench::new();
    for (argument, value) in [
        ("params", json!({"k".repeat(257): 1})),
        ("params", json!({"k": vec![1; 201]})),
        ("headers", json!({"k".repeat(257): ""})),
        ("select", json!(vec!["/a"; 51])),
        ("select", json!("/".repeat(1025))),
        ("user_id", json!("u".repeat(257))),
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/echo", argument: value}),
        );
        assert_eq!(refused["error"], "invalid_request");
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("must be at most"),
            "{refused}"
        );
    }
    let refused = bench.mcp.fails(
        "api_get_request",
        json!({"endpoint": "/echo", "select": []}),
    );
    assert!(
        refused["message"].as_str().unwrap().contains("at least 1"),
        "{refused}"
    );
    assert!(bench.backend.requests().is_empty());
}

// ---- JSON as text ----

// CASES A1
#[test]
fn data_that_is_json_as_text_is_sent_as_that_json() {
    let mut bench = Bench::new();
    for (text, content_type) in [
        (r#"{"subject":"x"}"#, None),
        (r#"[{"a":1.50},null]"#, None),
        ("{}", None),
        ("[]", None),
        (
            " {\n\t\"subject\": \"Gr\\u00fc\u{df}e \u{1f389}\"\n}\n",
            None,
        ),
        (r#"{"n":12345678901234567890123456789}"#, None),
        (r#"{"op":"replace"}"#, Some("application/merge-patch+json")),
        (
            r#"[{"op":"remove","path":"/a"}]"#,
            Some("Application/JSON; charset=utf-8"),
        ),
    ] {
        for tool in WITH_DATA {
            let mut arguments = json!({"endpoint": "/echo", "data": text});
            if let Some(content_type) = content_type {
                arguments["headers"] = json!({"Content-Type": content_type});
            }
            let sent = bench.sent(tool, arguments);
            assert_eq!(String::from_utf8(sent.body.clone()).unwrap(), text);
            assert_eq!(
                sent.header("content-type"),
                Some(content_type.unwrap_or("application/json"))
            );
        }
    }
}

#[test]
fn data_that_is_no_object_or_array_as_text_stays_a_string() {
    let mut bench = Bench::new();
    for text in [
        "",
        "x",
        "7",
        "true",
        "null",
        "\"x\"",
        "{",
        "{a: 1}",
        "[1,]",
        "{} {}",
        "{\"a\":1} and more",
        "[see here]",
    ] {
        let sent = bench.sent(
            "api_post_request",
            json!({"endpoint": "/echo", "data": text}),
        );
        assert_eq!(sent.body, json!(text).to_string().as_bytes(), "{text:?}");
    }
    // A text is a text.
    let sent = bench.sent(
        "api_post_request",
        json!({"endpoint": "/echo", "data": "{\"a\":1}", "headers": {"Content-Type": "text/plain"}}),
    );
    assert_eq!(sent.body, br#"{"a":1}"#);
}

// CASES A1
#[test]
fn params_headers_and_select_may_be_json_as_text() {
    let mut bench = Bench::new();
    for tool in API {
        let arguments = json!({
            "endpoint": "/echo",
            "params": " {\"$top\": 1.50, \"k\": [\"a\", true]}",
            "headers": "{\"If-Match\": \"W/\\\"1\\\"\"}",
            "select": "[\"/method\", \"/none\"]",
        });
        let answer = bench.mcp.ok(tool, arguments);
        let sent = bench.backend.last();
        assert_eq!(sent.target, "/v1.0/echo?%24top=1.50&k=a&k=true");
        assert_eq!(sent.header("if-match"), Some("W/\"1\""));
        assert_eq!(answer["data"], json!({"/method": sent.method}), "{answer}");
        assert_eq!(answer["not_found"], json!(["/none"]), "{answer}");
    }
}

#[test]
fn text_that_is_not_the_json_of_the_argument_is_refused() {
    let mut bench = Bench::new();
    for (argument, text, words) in [
        ("params", "a=b", "params must be of type object"),
        ("params", "[1]", "params must be of type object"),
        ("params", "{\"a\":1", "params must be of type object"),
        // One reader takes the first, the next one the last.
        (
            "params",
            r#"{"a":1,"a":2}"#,
            "params must be of type object",
        ),
        ("params", r#"{"a":{"b":1}}"#, "params.a must be of type"),
        ("headers", "If-Match: *", "headers must be of type object"),
        (
            "headers",
            r#"{"If-Match":7}"#,
            "headers.If-Match must be of type string",
        ),
        (
            "headers",
            r#"{"Authorization":"Bearer x"}"#,
            "\"Authorization\"",
        ),
        ("select", r#"{"a":"/b"}"#, "select"),
        (
            "select",
            "[7]",
            "every item of select must be of type string",
        ),
        ("user_id", "[7]", "[7]"),
    ] {
        let refused = bench.mcp.fails(
            "api_get_request",
            json!({"endpoint": "/echo", argument: text}),
        );
        assert!(
            refused["message"].as_str().unwrap().contains(words),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

// ---- null and "" for what was not given ----

// CASES A3, A14
#[test]
fn null_of_an_optional_argument_is_as_if_it_were_not_given() {
    let mut bench = Bench::new();
    for tool in API {
        let properties = bench.properties(tool);
        let mut arguments: Map<String, Value> = properties
            .into_iter()
            .map(|name| (name, Value::Null))
            .collect();
        arguments.insert("endpoint".to_owned(), json!("/echo"));
        let sent = bench.sent(tool, arguments.into());
        assert_eq!(sent.target, "/v1.0/echo", "{tool}");
        assert!(
            sent.body.is_empty() && sent.header("content-type").is_none(),
            "{sent:?}"
        );
    }
    for arguments in [
        json!({"user_id": null}),
        json!({"user_id": null, "wait_seconds": null}),
    ] {
        assert_eq!(
            bench.mcp.ok("check_auth_status", arguments)["authenticated"],
            true
        );
    }
    let begun = bench.mcp.ok(
        "authenticate_user",
        json!({"user_id": "new", "prompt": null, "method": null}),
    );
    assert_eq!(begun["already_signed_in"], false);
    assert_eq!(
        bench.mcp.ok("logout_user", json!({"user_id": null}))["user_id"],
        ADA
    );
}

// CASES A3
#[test]
fn an_empty_text_is_as_if_it_were_not_given_where_it_cannot_be_a_value() {
    let files = TempDir::new();
    let mut bench = Bench::with(|setup| setup.with("FILES_DIR", files.0.to_str().unwrap()));
    for tool in API {
        let sent = bench.sent(
            tool,
            json!({"endpoint": "/echo", "user_id": "", "params": "", "headers": ""}),
        );
        assert_eq!(sent.target, "/v1.0/echo", "{tool}");
    }
    bench.sent(
        "api_get_request",
        json!({"endpoint": "/echo", "save_to": ""}),
    );
    let sent = bench.sent(
        "api_put_request",
        json!({"endpoint": "/echo", "body_file": "", "data": [1]}),
    );
    assert_eq!(sent.body, b"[1]");
    assert_eq!(
        bench.mcp.ok(
            "check_auth_status",
            json!({"user_id": "", "wait_seconds": ""})
        )["authenticated"],
        true
    );
    let begun = bench.mcp.ok(
        "authenticate_user",
        json!({"user_id": "new", "prompt": "", "method": ""}),
    );
    assert_eq!(begun["already_signed_in"], false);
    // A body, the base URL itself, and the whole answer.
    let sent = bench.sent("api_post_request", json!({"endpoint": "/echo", "data": ""}));
    assert_eq!(sent.body, b"\"\"");
    bench.answer_any();
    let sent = bench.sent("api_get_request", json!({"endpoint": "", "select": ""}));
    assert_eq!(sent.target, "/v1.0/");
    assert_eq!(
        bench.mcp.ok("logout_user", json!({"user_id": ""}))["user_id"],
        ADA
    );
}

// CASES A3
#[test]
fn nulls_in_params_and_headers_are_as_if_they_were_not_given() {
    let mut bench = Bench::new();
    for (params, headers) in [
        (
            json!({"a": null, "n": 1.50, "b": "", "c": null, "\"d\u{fc}\"": "e"}),
            json!({"If-Match": null, "Prefer": "x", "Authorization": null}),
        ),
        (
            json!(r#"{"a":null,"n":1.5,"b":"","\"dü\"":"e"}"#),
            json!(r#"{"If-Match":null,"Prefer":"x"}"#),
        ),
    ] {
        let sent = bench.sent(
            "api_get_request",
            json!({"endpoint": "/echo", "params": params, "headers": headers}),
        );
        let mut query = sent.query.clone();
        query.sort();
        let expected = [("\"d\u{fc}\"", "e"), ("b", ""), ("n", "1.5")];
        assert_eq!(
            query,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(
            (sent.header("prefer"), sent.header("if-match")),
            (Some("x"), None)
        );
    }
    let sent = bench.sent(
        "api_get_request",
        json!({"endpoint": "/echo", "params": {"a": null}, "headers": {"a": null}}),
    );
    assert_eq!(sent.target, "/v1.0/echo");
}

#[test]
fn what_is_demanded_must_be_given() {
    let mut bench = Bench::new();
    for (tool, arguments, words) in [
        (
            "api_get_request",
            json!({"endpoint": null}),
            "endpoint must be of type string",
        ),
        (
            "authenticate_user",
            json!({"user_id": null}),
            "user_id must be of type string",
        ),
        (
            "authenticate_user",
            json!({"user_id": ""}),
            "user_id must be at least 1",
        ),
        (
            "api_get_request",
            json!({"endpoint": "/echo", "params": {"a": [null]}}),
            "every item of params.a",
        ),
        (
            "api_get_request",
            json!({"endpoint": "/echo", "select": [null]}),
            "every item of select",
        ),
    ] {
        let refused = bench.mcp.fails(tool, arguments);
        assert!(
            refused["message"].as_str().unwrap().contains(words),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

// CASES A5
#[test]
fn null_in_the_protocol_is_as_if_it_were_not_given() {
    let bench = Bench::new();
    for revision in LEGACY {
        let mut mcp = bench.server.legacy(revision);
        for params in [
            Value::Null,
            json!({"cursor": null}),
            json!({"cursor": null, "_meta": null}),
        ] {
            assert!(mcp.result("tools/list", params)["tools"].is_array());
        }
        assert_eq!(mcp.result("ping", Value::Null), json!({}));
        let pong = mcp.result(
            "tools/call",
            json!({"name": "ping", "arguments": null, "_meta": null}),
        );
        assert_eq!(pong["isError"], false);
    }
    let mut mcp = bench.server.modern();
    assert!(mcp.result("tools/list", json!({"cursor": null}))["tools"].is_array());
    for extra in [
        json!({"arguments": null}),
        json!({"requestState": null, "inputResponses": null}),
    ] {
        let mut params = json!({"name": "ping"});
        params
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        assert_eq!(mcp.result("tools/call", params)["isError"], false);
    }
    // What is demanded is missing then.
    let reply = mcp.send("tools/call", json!({"name": null}));
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (400, &json!(-32602))
    );
}

// ---- Arguments that clients add ----

// CASES A4
#[test]
fn arguments_that_clients_add_to_every_call_are_ignored() {
    let mut bench = Bench::new();
    let added = json!({"toolCallId": "call_1", "tool_call_id": 7, "sessionId": {"a": 1}, "action": "sendMessage", "chatInput": "hello"});
    let with_added = |mut arguments: Value| {
        arguments
            .as_object_mut()
            .unwrap()
            .extend(added.as_object().unwrap().clone());
        arguments
    };
    for tool in [
        "ping",
        "get_server_info",
        "view_userid",
        "check_auth_status",
    ] {
        bench.mcp.ok(tool, with_added(json!({})));
    }
    bench
        .mcp
        .ok("authenticate_user", with_added(json!({"user_id": "new"})));
    for tool in API {
        let sent = bench.sent(tool, with_added(json!({"endpoint": "/echo"})));
        assert_eq!((sent.target.as_str(), sent.body.len()), ("/v1.0/echo", 0));
    }
    bench
        .mcp
        .ok("logout_user", with_added(json!({"user_id": ADA})));
}

// CASES A4
#[test]
fn any_other_unknown_argument_is_refused_with_those_that_exist() {
    let mut bench = Bench::new();
    for name in [
        "toolcallid",
        "toolCallID",
        "session_id",
        "Action",
        "input",
        "",
        "data ",
    ] {
        for tool in API {
            let refused = bench.mcp.fails(
                tool,
                json!({"endpoint": "/echo", name: 1, "toolCallId": "x"}),
            );
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(&format!("{name:?}")), "{message}");
            for known in bench.properties(tool) {
                assert!(message.contains(&known), "{message}");
            }
        }
        let refused = bench.mcp.fails("ping", json!({name: null}));
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .contains("none is taken"),
            "{refused}"
        );
    }
    assert!(bench.backend.requests().is_empty());
}

#[test]
fn a_call_that_comes_back_from_its_sign_in_may_have_another_id_of_its_clients() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern_url();
    let arguments = |id: &str| json!({"endpoint": "/echo", "toolCallId": id, "user_id": null});
    let asked = mcp.call_with("api_post_request", arguments("1"), json!({}));
    let asked = input_required(&asked.response);
    Browser::new().sign_in(&asked.url, ADA);
    let done = mcp.call_with(
        "api_post_request",
        arguments("2"),
        asked.answered_with("accept"),
    );
    assert_eq!(
        done.response["result"]["isError"], false,
        "{}",
        done.response
    );
    assert_eq!(backend.requests().len(), 1);
}

// ---- HTTP as clients speak it ----

/// An `initialize` that asks for `version`, under these values of `MCP-Protocol-Version`.
fn initialize(server: &Running, headers: &[&str], version: &str) -> Reply {
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
    let named = headers
        .iter()
        .map(|version| ("MCP-Protocol-Version", *version));
    let headers: Vec<_> = MEDIA_TYPES.into_iter().chain(named).collect();
    server
        .client()
        .request("POST", "/mcp", &headers, body.to_string().as_bytes())
}

// CASES A6
#[test]
fn initialize_negotiates_the_version_of_its_body_whatever_its_header_says() {
    let bench = Bench::new();
    for headers in [
        &["2025-11-25"][..],
        &["2025-03-26"],
        &["2026-07-28"],
        &["2024-11-05"],
        &["2099-01-01"],
        &["latest"],
        &[""],
        &["2025-11-25", "2025-06-18"],
    ] {
        for (asked, given) in [
            ("2025-11-25", "2025-11-25"),
            ("2025-06-18", "2025-06-18"),
            ("2025-03-26", "2025-03-26"),
            ("2026-07-28", "2025-11-25"),
            ("2024-11-05", "2025-11-25"),
        ] {
            let reply = initialize(&bench.server, headers, asked);
            assert_eq!(reply.status, 200, "{headers:?} {}", reply.text());
            assert_eq!(
                reply.json()["result"]["protocolVersion"],
                given,
                "{headers:?}"
            );
            let session = reply.header("Mcp-Session-Id").unwrap();
            assert!(session.starts_with(given), "{session}");
        }
    }
}

// CASES A8
#[test]
fn a_slash_behind_the_endpoint_changes_nothing() {
    let entra = Entra::start();
    for prefix in ["", "/entra"] {
        let redirect_uri = format!("https://mcp.contoso.example{prefix}/auth/callback");
        let server = Setup::new(&entra, None)
            .with("REDIRECT_URI", &redirect_uri)
            .with("ALLOWED_ORIGINS", "https://app.contoso.example")
            .start();
        for path in ["/mcp/".to_owned(), format!("{prefix}/mcp/")] {
            let ping = |headers: &[(&str, &str)]| {
                let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
                let headers = [&MEDIA_TYPES, headers].concat();
                server
                    .client()
                    .request("POST", &path, &headers, body.as_bytes())
            };
            assert_eq!(ping(&[]).json()["result"], json!({}), "{path}");
            let origin = ("Origin", "https://app.contoso.example");
            assert_eq!(
                ping(&[origin]).header("Access-Control-Allow-Origin"),
                Some(origin.1)
            );
            assert_eq!(ping(&[("Origin", "https://evil.example")]).status, 403);
            // A body that is larger than what other paths take.
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "x".repeat(200_000)}});
            let reply =
                server
                    .client()
                    .request("POST", &path, &MEDIA_TYPES, body.to_string().as_bytes());
            assert_eq!(reply.status, 200, "{path}");
            let reply = server.client().request("GET", &path, &[], b"");
            assert_eq!(
                (reply.status, reply.header("Allow")),
                (405, Some("POST, OPTIONS"))
            );
        }
    }
}

#[test]
fn a_slash_behind_the_endpoint_does_not_get_round_the_access_key() {
    let entra = Entra::start();
    let key = "k".repeat(43);
    let server = Setup::new(&entra, None)
        .with("SERVER_ACCESS_KEY", &key)
        .start();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let reply = server
        .client()
        .request("POST", "/mcp/", &MEDIA_TYPES, body.as_bytes());
    assert_eq!(reply.status, 401);
    assert!(reply.header("WWW-Authenticate").is_some());
    let bearer = format!("Bearer {key}");
    let headers = [&MEDIA_TYPES[..], &[("Authorization", bearer.as_str())]].concat();
    let reply = server
        .client()
        .request("POST", "/mcp/", &headers, body.as_bytes());
    assert_eq!(reply.json()["result"], json!({}));
}

// CASES A9
#[test]
fn who_does_not_ask_for_streams_gets_json_however_long_it_takes() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .limits(|limits| {
            limits.silence = Duration::from_millis(50);
            limits.keep_alive = Duration::from_millis(50);
        })
        .start();
    for accept in [
        None,
        Some(""),
        Some("application/json"),
        Some("application/json, text/event-stream;q=0"),
    ] {
        let mut mcp = server.modern();
        let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
        let arguments = json!({"user_id": ADA, "wait_seconds": 20});
        let params = json!({"name": "check_auth_status", "arguments": arguments, "_meta": {"progressToken": 1}});
        let mut headers = mcp.headers("tools/call", Some("check_auth_status"));
        headers.retain(|(name, _)| name != "Accept");
        headers.extend(accept.map(|accept| ("Accept".to_owned(), accept.to_owned())));
        let body = mcp.body("tools/call", params);
        let reply = thread::scope(|scope| {
            let call = scope.spawn(|| {
                mcp.http
                    .request("POST", "/mcp", &as_refs(&headers), body.as_bytes())
            });
            // Several times as long as it takes to become a stream.
            thread::sleep(Duration::from_millis(300));
            assert!(!call.is_finished(), "{accept:?}");
            Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
            call.join().unwrap()
        });
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (200, Some("application/json")),
            "{accept:?}"
        );
        assert_eq!(
            reply.json()["result"]["structuredContent"]["authenticated"],
            true
        );
        server.modern().ok("logout_user", json!({}));
    }
}

#[test]
fn a_subscription_needs_a_client_that_takes_streams() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None).start();
    let mut mcp = server.modern();
    let mut headers = mcp.headers("subscriptions/listen", None);
    headers.retain(|(name, _)| name != "Accept");
    headers.push(("Accept".to_owned(), "application/json".to_owned()));
    let body = mcp.body("subscriptions/listen", json!({"notifications": {}}));
    let reply = mcp
        .http
        .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (406, &json!(-32600))
    );
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("text/event-stream")
    );
}

/// Sends `head`, whose lines end as they should, and `body`; gives status and text of the answer.
fn sent_raw(server: &Running, head: &[&[u8]], body: &str) -> (u16, String) {
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let head = head.join(&b"\r\n"[..]);
    let bytes = [
        &head[..],
        b"\r\nConnection: close\r\n",
        length.as_bytes(),
        body.as_bytes(),
    ]
    .concat();
    let answer = String::from_utf8_lossy(&raw(&server.address(), &bytes)).into_owned();
    (answer[9..12].parse().unwrap(), answer)
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

// CASES A7
#[test]
fn a_header_value_may_have_any_bytes_above_ascii() {
    let bench = Bench::new();
    let host = format!("Host: {}", bench.server.address());
    for value in [
        &b"Jos\xe9"[..],
        b"\x80",
        b"a\xff\xfeb",
        b"\xc3\x28",
        b"\xc3",
        b"\xed\xa0\x80",
        "Jos\u{e9}".as_bytes(),
    ] {
        for name in [
            "X-User",
            "Cookie",
            "User-Agent",
            "Referer",
            "Accept-Language",
            "Authorization",
        ] {
            let field = [name.as_bytes(), b": ", value].concat();
            let head = [
                &b"POST /mcp HTTP/1.1"[..],
                host.as_bytes(),
                &field,
                b"Content-Type: application/json",
            ];
            let (status, answer) = sent_raw(&bench.server, &head, PING);
            assert_eq!(status, 200, "{name} {value:?}: {answer}");
            assert!(answer.contains(r#""result":{}"#), "{answer}");
        }
    }
}

#[test]
fn what_a_header_means_here_is_not_read_out_of_opaque_bytes() {
    let entra = Entra::start();
    let key = "k".repeat(43);
    let server = Setup::new(&entra, None)
        .with("SERVER_ACCESS_KEY", &key)
        .start();
    let host = format!("Host: {}", server.address());
    let bearer = format!("Authorization: Bearer {key}");
    let with = |bytes: &str, more: &[u8]| [bytes.as_bytes(), more].concat();
    for (fields, status) in [
        (vec![host.clone().into(), bearer.clone().into()], 200),
        // Two of what there may be one of stay two.
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Host: \xff".to_vec(),
            ],
            400,
        ),
        (vec![with(&host, b"\xe9"), bearer.clone().into()], 400),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Content-Length: \xff".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Transfer-Encoding: \xff".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Origin: http://localhost\xff".to_vec(),
            ],
            403,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Expect: 100-continue\xff".to_vec(),
            ],
            417,
        ),
        (vec![host.clone().into(), with(&bearer, b"\xff")], 401),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"Authorization: \xff".to_vec(),
            ],
            401,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X\xe9: a".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X: \xe9\0".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X: \xe9\rY".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X: \xe9\nY: a".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X: \xe9\x1b".to_vec(),
            ],
            400,
        ),
        (
            vec![
                host.clone().into(),
                bearer.clone().into(),
                b"X: \xe9\x7f".to_vec(),
            ],
            400,
        ),
    ] {
        let mut head: Vec<&[u8]> = vec![b"POST /mcp HTTP/1.1", b"Content-Type: application/json"];
        head.extend(fields.iter().map(Vec::as_slice));
        assert_eq!(
            sent_raw(&server, &head, PING).0,
            status,
            "{:?}",
            String::from_utf8_lossy(&head.concat())
        );
    }
    let head: [&[u8]; 2] = [b"POST /mcp\xff HTTP/1.1", host.as_bytes()];
    assert_eq!(sent_raw(&server, &head, PING).0, 400);
}

#[test]
fn a_cookie_of_ours_is_found_beside_one_of_any_bytes() {
    let entra = Entra::start();
    let key = "k".repeat(43);
    let server = Setup::new(&entra, None)
        .with("SERVER_ACCESS_KEY", &key)
        .start();
    let origin = server.url();
    let headers = [
        ("Origin", origin.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let let_in = server.client().request(
        "POST",
        "/auth/key",
        &headers,
        format!("key={key}").as_bytes(),
    );
    let cookie = let_in
        .header("Set-Cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let host = format!("Host: {}", server.address());
    for (cookies, status) in [
        (
            [b"Cookie: other=Jos\xe9; ", cookie.as_bytes()].concat(),
            200,
        ),
        (
            [b"Cookie: ", cookie.as_bytes(), b"; other=\xff"].concat(),
            200,
        ),
        (
            [b"Cookie: other=Jos\xe9;", cookie.as_bytes(), b"\xe9"].concat(),
            401,
        ),
    ] {
        let head: [&[u8]; 3] = [b"GET / HTTP/1.1", host.as_bytes(), &cookies];
        assert_eq!(
            sent_raw(&server, &head, "").0,
            status,
            "{:?}",
            String::from_utf8_lossy(&cookies)
        );
    }
}

// ---- What a model is told of a sign-in ----

// CASES A17
#[test]
fn a_call_that_needs_a_sign_in_says_little_but_what_to_do() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    for mut mcp in [server.modern(), server.legacy(LEGACY[0])] {
        let result = mcp.call("api_get_request", json!({"endpoint": "/me"}));
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("Nobody is signed in. "), "{text}");
        assert!(text.len() < 500, "{} bytes: {text}", text.len());
        assert!(result.to_string().len() < 2000, "{result}");
        for aside in ["AADSTS", "az ad", "Microsoft's page", "registration"] {
            assert!(!result.to_string().contains(aside), "{aside}: {result}");
        }
    }
}

#[test]
fn what_a_model_is_told_of_a_failure_holds_no_command() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let server = Setup::new(&entra, Some(&backend)).start();
    let mut mcp = server.modern();
    for number in [50011, 7_000_218] {
        let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
        entra.fail_next_token(TokenFailure::Oauth {
            error: "invalid_client",
            aadsts: number,
            suberror: None,
            claims: None,
        });
        Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
        let status = mcp.ok("check_auth_status", json!({"user_id": ADA}));
        let why = status["last_sign_in_error"].as_str().unwrap();
        assert!(
            why.contains("Mobile and desktop applications") && !why.contains("az ad"),
            "{why}"
        );
        let failed = mcp.call("api_get_request", json!({"endpoint": "/me"}));
        assert!(!failed.to_string().contains("az ad"), "{failed}");
    }
}
