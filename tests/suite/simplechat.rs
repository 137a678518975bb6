//! What the Python server had tools of its own for: SimpleChat, by its description, with its session cookie.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::{Reply, Request};
use crate::support::lock;
use crate::support::schema::breaks_the_rules;
use crate::support::server::{Mcp, Running, Setup};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const DESCRIPTION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/demo/simplechat.openapi.json"
);
const TOOLS: [&str; 9] = [
    "create_group",
    "get_conversations",
    "get_embedding_models",
    "get_gpt_models",
    "get_groups",
    "get_image_models",
    "get_session",
    "send_chat_message",
    "upload_file",
];

/// A stand-in for SimpleChat, and a server that has its description. Ada is signed in.
struct Bench {
    mcp: Mcp,
    _server: Running,
    chat: Backend,
    _entra: Entra,
}

impl Bench {
    fn new() -> Self {
        let entra = Entra::start();
        let chat = Backend::start_for(&entra);
        let check = entra.token_check();
        let sessions: Mutex<BTreeSet<String>> = Mutex::default();
        chat.on(move |request| {
            let token = request.header("Authorization").unwrap_or_default();
            let token = token.strip_prefix("Bearer ").unwrap_or_default();
            if check(token).is_none() {
                return Some(Reply::of_json(401, &json!({"error": "no token"})).into());
            }
            Some(answer(request, &mut lock(&sessions)).into())
        });
        let setup = Setup::new(&entra, None)
            .with("BACKEND_API_BASE_URL", &chat.origin())
            .with("OPENAPI_FILE", DESCRIPTION)
            .with("BACKEND_SESSION_COOKIES", "session");
        let server = setup.start();
        let mut mcp = server.modern();
        mcp.sign_in(ADA);
        Self {
            mcp,
            _server: server,
            chat,
            _entra: entra,
        }
    }

    fn with_session() -> Self {
        let mut bench = Self::new();
        bench.mcp.ok("get_session", json!({}));
        bench
    }

    fn has_session(&mut self) -> Value {
        self.mcp.ok("check_auth_status", json!({"user_id": ADA}))["has_session_cookie"].take()
    }

    /// What reaches SimpleChat of a call that succeeds: method, path with query, and body.
    fn sent(&mut self, tool: &str, arguments: Value) -> (String, Value) {
        self.mcp.ok(tool, arguments);
        let request = self.chat.last();
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        (format!("{} {}", request.method, request.target), body)
    }
}

/// What SimpleChat answers to whoever has a token.
fn answer(request: &Request, sessions: &mut BTreeSet<String>) -> Reply {
    if request.path == "/getASession" {
        let id = format!("eyJzZXNzaW9uIjox.{}", crate::support::random_token());
        let cookie = format!("session={id}; HttpOnly; Path=/; SameSite=Lax");
        // It shows what it has set.
        let body = json!({"message": "Session opened", "session_id": id});
        sessions.insert(id);
        return Reply::of_json(200, &body).with("Set-Cookie", &cookie);
    }
    let cookie = request.header("Cookie").unwrap_or_default();
    let session = cookie.strip_prefix("session=").unwrap_or_default();
    if !sessions.contains(session) {
        return Reply::of_json(401, &json!({"error": "no session"}));
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/get_conversations") => Reply::of_json(200, &json!({"conversations": []})),
        ("POST", "/api/chat") => Reply::of_json(200, &json!({"reply": "Hello, Ada."})),
        ("GET", "/api/models/gpt" | "/api/models/embedding" | "/api/models/image") => {
            Reply::of_json(200, &json!({"models": []}))
        }
        ("GET", "/api/groups/discover") => Reply::of_json(200, &json!([])),
        ("POST", "/api/groups") => Reply::of_json(201, &json!({"id": "g1"})),
        ("POST", "/upload") => Reply::of_json(200, &json!({"uploaded": true})),
        _ => Reply::of_json(404, &json!({"error": "not found"})),
    }
}

#[test]
fn every_operation_is_a_tool_under_the_name_that_the_python_server_had() {
    let mut bench = Bench::new();
    let listed = bench.mcp.result("tools/list", json!({}));
    let tools = listed["tools"].as_array().unwrap();
    for name in TOOLS {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        assert_eq!(breaks_the_rules(tool), [""; 0], "{name}");
    }
    let chat = tools
        .iter()
        .find(|tool| tool["name"] == "send_chat_message");
    let data = &chat.unwrap()["inputSchema"]["properties"]["data"];
    let asked: BTreeSet<&String> = data["properties"].as_object().unwrap().keys().collect();
    let expected = [
        "active_group_id",
        "conversation_id",
        "message",
        "model_deployment",
    ];
    assert!(asked.into_iter().eq(expected), "{data}");
    let model = data["properties"]["model_deployment"].to_string();
    assert!(model.contains("gpt-4.1"), "{model}");
}

#[test]
fn a_session_is_opened_with_the_token_and_goes_with_every_call_beside_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.has_session(), false);
    let failure = bench.mcp.fails("get_conversations", json!({}));
    assert_eq!(failure["data"]["error"], "no session", "{failure}");
    let opened = bench.mcp.ok("get_session", json!({}));
    assert_eq!(opened["data"]["session_id"], "[session cookie removed]");
    assert_eq!(bench.has_session(), true);

    let message = json!({
        "message": "Hello",
        "conversation_id": "c1",
        "active_group_id": "g1",
        "model_deployment": "gpt-4.1",
    });
    let sent_message = json!({
        "message": "Hello",
        "conversation_id": "c1",
        "active_group_id": "g1",
        "model_deployment": "gpt-4.1",
        "hybrid_search": false,
        "selected_document_id": null,
        "classifications": "",
        "bing_search": false,
        "image_generation": false,
        "doc_scope": "all",
        "chat_type": "user",
    });
    let group = json!({"name": "Readers", "description": "Those who read"});
    for (tool, arguments, line, body) in [
        (
            "get_conversations",
            json!({}),
            "GET /api/get_conversations",
            Value::Null,
        ),
        (
            "send_chat_message",
            json!({"data": message}),
            "POST /api/chat",
            sent_message,
        ),
        (
            "get_gpt_models",
            json!({}),
            "GET /api/models/gpt",
            Value::Null,
        ),
        (
            "get_embedding_models",
            json!({}),
            "GET /api/models/embedding",
            Value::Null,
        ),
        (
            "get_image_models",
            json!({}),
            "GET /api/models/image",
            Value::Null,
        ),
        (
            "get_groups",
            json!({}),
            "GET /api/groups/discover",
            Value::Null,
        ),
        (
            "get_groups",
            json!({"search": "read ers", "showAll": true}),
            "GET /api/groups/discover?search=read%20ers&showAll=true",
            Value::Null,
        ),
        (
            "create_group",
            json!({"data": group.clone()}),
            "POST /api/groups",
            group,
        ),
    ] {
        assert_eq!(
            bench.sent(tool, arguments),
            (line.to_owned(), body),
            "{tool}"
        );
    }
    // Each had both: without them, the stand-in would have refused it.
    assert_eq!(bench.has_session(), true);
}

#[test]
fn a_document_is_uploaded_as_the_part_that_simplechat_reads() {
    let mut bench = Bench::with_session();
    let file = json!({
        "filename": "notes.md",
        "content_type": "text/markdown",
        "base64": STANDARD.encode("# Notes\r\n"),
    });
    bench.mcp.ok("upload_file", json!({"data": {"file": file}}));
    let request = bench.chat.last();
    let content_type = request.header("Content-Type").unwrap();
    let boundary = content_type
        .strip_prefix("multipart/form-data; boundary=")
        .unwrap();
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"notes.md\"\r\n\
         Content-Type: text/markdown\r\n\r\n# Notes\r\n\r\n--{boundary}--\r\n"
    );
    assert_eq!(String::from_utf8(request.body.clone()).unwrap(), expected);
}

#[test]
fn a_session_that_has_ended_is_opened_anew() {
    let mut bench = Bench::with_session();
    bench.mcp.ok("get_conversations", json!({}));
    bench.mcp.ok("logout_user", json!({"user_id": ADA}));
    bench.mcp.sign_in(ADA);
    assert_eq!(bench.has_session(), false);
    let failure = bench.mcp.fails("get_conversations", json!({}));
    assert_eq!(failure["data"]["error"], "no session", "{failure}");
    bench.mcp.ok("get_session", json!({}));
    bench.mcp.ok("get_conversations", json!({}));
}
