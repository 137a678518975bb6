//! Headers that the administrator sends with every call (`BACKEND_HEADERS_FILE`).

use std::fs;
use std::process::Command;

use crate::support::backend::Backend;
use crate::support::entra::{ADA, Entra};
use crate::support::http::Reply;
use crate::support::server::{Process, Setup, Verb, World};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");
const KEY: &str = "0123456789abcdef0123456789abcdef";
const MARKER: &str = "[key removed]";

fn file() -> String {
    format!("Ocp-Apim-Subscription-Key: {KEY}\napi-version: 2024-02-01\n")
}

/// With a file that nobody else can read.
fn with_file(setup: Setup, contents: impl AsRef<[u8]>) -> Setup {
    let path = setup.directory.write("headers", contents);
    setup.with("BACKEND_HEADERS_FILE", path.to_str().unwrap())
}

fn world(contents: impl AsRef<[u8]>) -> World {
    World::signed_in().with(|setup| with_file(setup, contents))
}

/// What `--check-config` says, and how it ends.
fn check(contents: impl AsRef<[u8]>) -> (i32, String) {
    let setup = with_file(Setup::new(&Entra::start(), None), contents);
    checked(&setup)
}

fn checked(setup: &Setup) -> (i32, String) {
    let mut command = Command::new(PROGRAM);
    command.arg("--check-config");
    let (code, stdout, stderr) = Verb::run(command, setup);
    (code, stdout + &stderr)
}

#[test]
fn every_call_has_the_headers_of_the_file() {
    let world = world(format!(
        "\u{feff}# The gateway's\r\n\r\n  Ocp-Apim-Subscription-Key :  {KEY}\t\r\nX-Url: https://a.example/?b=c: d\n#X-Off: 1\nAccept: application/vnd.api+json\nUser-Agent: ours"
    ));
    let mut mcp = world.server.modern();
    for tool in [
        "api_get_request",
        "api_post_request",
        "api_put_request",
        "api_patch_request",
        "api_delete_request",
    ] {
        mcp.call(
            tool,
            json!({"endpoint": "/echo", "headers": {"Prefer": "a"}}),
        );
        let request = world.backend.last();
        for (name, value) in [
            ("ocp-apim-subscription-key", KEY),
            ("x-url", "https://a.example/?b=c: d"),
            // They go before our own.
            ("accept", "application/vnd.api+json"),
            ("user-agent", "ours"),
            // The caller's others are sent as ever.
            ("prefer", "a"),
        ] {
            assert_eq!(request.headers_named(name), [value], "{tool}: {name}");
        }
        assert_eq!(request.header("x-off"), None);
        assert!(request.header("authorization").is_some());
    }
}

#[test]
fn a_call_that_is_made_again_has_them_again() {
    let world = world(file());
    world
        .backend
        .on(|_| Some(Reply::of_json(401, &json!({})).into()));
    let mut mcp = world.server.modern();
    mcp.call("api_get_request", json!({"endpoint": "/me"}));
    let requests = world.backend.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        assert_eq!(request.header("ocp-apim-subscription-key"), Some(KEY));
    }
}

#[test]
fn no_caller_overrides_them() {
    let setup = |setup: Setup| {
        with_file(setup, format!("{}Accept: a/b\nX_Tenant: t", file())).with(
            "ALLOWED_REQUEST_HEADERS",
            "Ocp-* Ocp_* api-version X-Tenant",
        )
    };
    let world = World::signed_in().with(setup);
    let mut mcp = world.server.modern();
    for name in [
        "Ocp-Apim-Subscription-Key",
        "ocp-apim-subscription-key",
        "Ocp_Apim_Subscription_Key",
        "API-Version",
        "Accept",
        "X-Tenant",
    ] {
        let call = json!({"endpoint": "/echo", "headers": {name: "mine"}});
        let refused = mcp.fails("api_get_request", call);
        assert_eq!(refused["error"], "invalid_request", "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains("BACKEND_HEADERS_FILE") && message.contains(name),
            "{message}"
        );
        assert!(!refused.to_string().contains(KEY), "{refused}");
    }
    assert!(world.backend.requests().is_empty());
}

/// What the API answers to whoever calls it.
fn answered(world: &World, reply: Reply) -> Value {
    world.backend.on(move |_| Some(reply.clone().into()));
    let mut mcp = world.server.modern();
    let call = json!({"name": "api_get_request", "arguments": {"endpoint": "/x"}});
    let reply = mcp.send("tools/call", call);
    assert!(!reply.text().contains(KEY), "{}", reply.text());
    reply.json()["result"]["structuredContent"].clone()
}

// CASES B11
#[test]
fn a_key_that_the_api_sends_back_is_replaced_and_the_result_says_so() {
    let world = world(file());
    let echo = json!({"headers": {"ocp-apim-subscription-key": KEY}});
    for status in [200, 401, 403, 500] {
        let content = answered(&world, Reply::of_json(status, &echo));
        assert_eq!(
            content["data"]["headers"]["ocp-apim-subscription-key"],
            MARKER
        );
        let hint = content["hint"].as_str().unwrap();
        assert!(hint.contains("removed"), "{hint}");
    }
    let content = answered(&world, Reply::of_json(200, &json!({})).with("X-Key", KEY));
    assert_eq!(content["headers"]["x-key"], MARKER);
    let text = format!("{KEY}, {KEY}");
    let content = answered(&world, Reply::new(200, "text/plain", text));
    assert_eq!(content["data"], format!("{MARKER}, {MARKER}"));
}

/// Words and dates stand in many answers, and what any caller may set is no secret.
#[test]
fn only_what_could_be_a_key_is_searched_for() {
    let world = world(
        "X-Scheme: Apikey abc123def4\nX-Environment: production\napi-version: 2024-02-01\nX-Short: a1b2c3\nAccept: application/vnd.example-v1+json",
    );
    let data = json!(["Apikey", "production", "2024-02-01", "a1b2c3"]);
    let reply = Reply::of_json(200, &data);
    let content = answered(&world, reply);
    assert_eq!((&content["data"], content.get("hint")), (&data, None));
    let reply = Reply::new(200, "application/vnd.example-v1+json", "[1]");
    assert_eq!(answered(&world, reply)["data"], json!([1]));
    let reply = Reply::of_json(200, &json!(["abc123def4"]));
    assert_eq!(answered(&world, reply)["data"], json!([MARKER]));
}

#[test]
fn no_value_is_shown_or_sent_elsewhere() {
    let (entra, elsewhere) = (Entra::start(), Backend::start(None));
    let backend = Backend::start_for(&entra);
    let setup = with_file(Setup::new(&entra, Some(&backend)), file());
    let audit = setup.directory.file("audit.jsonl");
    let setup = setup.with("AUDIT_LOG", audit.to_str().unwrap());
    let (code, config) = checked(&setup);
    assert!(
        code == 0 && config.contains("/headers  # environment\n"),
        "{config}"
    );
    let process = Process::start(Command::new(PROGRAM), &setup);
    let mut mcp = process.modern();
    mcp.sign_in(ADA);
    let mut shown = vec![config];
    let url = elsewhere.url();
    backend.on(move |request| {
        let is_moved = request.path.ends_with("/moved");
        is_moved.then(|| Reply::empty(302).with("Location", &url).into())
    });
    for (endpoint, headers) in [
        ("/me", json!({})),
        ("/none", json!({})),
        ("/moved", json!({})),
        ("/me", json!({"Ocp-Apim-Subscription-Key": "x"})),
    ] {
        let arguments = json!({"endpoint": endpoint, "headers": headers});
        shown.push(mcp.call("api_get_request", arguments).to_string());
    }
    shown.push(mcp.call("get_server_info", json!({})).to_string());
    shown.push(mcp.result("tools/list", json!({})).to_string());
    shown.push(process.client().get("/").text());
    shown.push(fs::read_to_string(&audit).unwrap());
    shown.push(process.log());
    shown.push(format!("{:?}", entra.token_requests()));
    for text in shown {
        assert!(!text.contains(KEY), "{text}");
    }
    assert!(elsewhere.requests().is_empty());
    assert_eq!(
        backend.last().header("ocp-apim-subscription-key"),
        Some(KEY)
    );
}

#[test]
fn a_file_that_cannot_be_used_is_a_mistake_that_shows_no_value() {
    let many = |count| (0..count).fold(String::new(), |text, n| text + &format!("X-{n}: {n}\n"));
    let long = |length| format!("X-Key: {}", "k".repeat(length));
    for (contents, reason) in [
        (KEY.to_owned(), "in line 1, write Name: value"),
        (format!("#\n\nX-Key {KEY}"), "in line 3, write Name: value"),
        (format!("X Key: {KEY}"), "in line 1, write Name: value"),
        (format!(": {KEY}"), "in line 1, write Name: value"),
        ("X-Key:".to_owned(), "give x-key a value"),
        (format!("X-Key: {KEY}ä"), "give x-key a value"),
        (format!("X-Key: {KEY}\u{1}"), "give x-key a value"),
        (long(4097), "give x-key a value"),
        (
            format!("X-Key: {KEY}\nx_key: {KEY}"),
            "in line 2, leave out x_key: it stands there twice",
        ),
        (format!("Content-Type: {KEY}"), "it belongs to the body"),
        (format!("X-HTTP-Method-Override: {KEY}"), "leave out x-http"),
        (many(33), "more than 32 headers"),
        ("#".repeat(300_000), "longer than 256 KiB"),
    ] {
        let (code, text) = check(&contents);
        assert_eq!(code, 2, "{reason}: {text}");
        assert!(
            text.contains("BACKEND_HEADERS_FILE is ") && text.contains(reason),
            "{text}"
        );
        assert!(!text.contains(KEY), "{text}");
    }
    for contents in [many(32), long(4096), "# none\n".to_owned(), String::new()] {
        let (code, text) = check(&contents);
        assert_eq!(code, 0, "{text}");
    }
    let (code, text) = check(b"X-Key: \xff");
    assert!(code == 2 && text.contains("cannot be read"), "{text}");
    for path in ["/no/such/file", "/"] {
        let setup = Setup::new(&Entra::start(), None);
        let (code, text) = checked(&setup.with("BACKEND_HEADERS_FILE", path));
        assert!(code == 2 && text.contains("cannot be read"), "{text}");
    }
}

// CASES C12
#[test]
fn what_no_caller_may_set_stands_in_no_file() {
    for name in [
        "Authorization",
        "authorization",
        "Cookie",
        "Host",
        "Connection",
        "Content-Length",
        "content_length",
        "Expect",
        "HTTP2-Settings",
        "Keep-Alive",
        "Proxy",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ] {
        let (code, text) = check(format!("X-A: 1\n{name}: {KEY}"));
        assert_eq!(code, 2, "{name}: {text}");
        assert!(
            text.contains("in line 2, leave out ") && !text.contains(KEY),
            "{name}: {text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_others_can_read_earns_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    for (mode, handed_over, is_warned_of) in [
        (0o600, false, false),
        (0o400, false, false),
        (0o640, false, true),
        (0o604, false, true),
        (0o440, true, false),
    ] {
        let mut setup = with_file(Setup::new(&Entra::start(), None), file());
        if handed_over {
            let directory = setup.directory.0.display().to_string();
            setup = setup.with("CREDENTIALS_DIRECTORY", &directory);
        }
        let path = setup.directory.file("headers");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let (code, text) = checked(&setup);
        let warning = "BACKEND_HEADERS_FILE can be read or written by others: chmod 600 it";
        assert_eq!((code, text.contains(warning)), (0, is_warned_of), "{text}");
    }
}
