//! JSON-RPC: what a message is, and what a running server answers to it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process;
use std::sync::LazyLock;
use std::time::Duration;

use base64::prelude::*;
use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::http::Limits;
use entra_auth_mcp::mcp::jsonrpc::{Message, message, parse};
use entra_auth_mcp::serve::Server;
use serde_json::Value;

pub fn holds(input: &[u8]) {
    let (choice, body) = super::choice(input);
    is_read_rightly(body);
    is_answered_rightly(choice, body);
}

fn is_read_rightly(body: &[u8]) {
    let tree = serde_json::from_slice::<Value>(body).ok();
    let Ok(raw) = parse(body) else {
        let has_twice = tree.is_some_and(|tree| members(&tree) < colons(body));
        assert!(
            has_twice || serde_json::from_slice::<Value>(body).is_err(),
            "it is good JSON"
        );
        return;
    };
    let tree = tree.expect("what is read is JSON");
    assert_eq!(members(&tree), colons(body), "a key stands twice");
    match message(raw) {
        Ok(Message::Request { id, method, params }) => {
            assert_eq!(
                (tree["jsonrpc"].as_str(), tree["method"].as_str()),
                (Some("2.0"), Some(method.as_ref()))
            );
            assert!(
                tree["id"].is_string() || !id.get().contains(['.', 'e', 'E']),
                "{id}"
            );
            let given = tree
                .get("params")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            for (name, value) in given {
                // What is null is as if it were absent.
                assert_eq!(
                    params
                        .get(&name)
                        .map(|raw| serde_json::from_str(raw.get()).unwrap()),
                    Some(value).filter(|value| !value.is_null())
                );
            }
        }
        Ok(Message::Notification) => {
            assert!(tree["method"].is_string() && tree.get("id").is_none());
        }
        Ok(Message::Response) => assert!(tree.get("method").is_none()),
        Err(bad) => assert!(matches!(bad.error.code, -32600 | -32602)),
    }
}

/// How many members the objects of `tree` have.
fn members(tree: &Value) -> usize {
    match tree {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(items) => items.iter().map(members).sum(),
        _ => 0,
    }
}

/// How many colons stand outside of strings.
fn colons(json: &[u8]) -> usize {
    let (mut count, mut is_in_string, mut is_escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_in_string,
            b'"' => is_in_string = !is_in_string,
            b':' if !is_in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Nobody is signed in at it, and nobody listens where its Entra and its API should be.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("entra-auth-mcp-mcp-{}.json", process::id()));
    let settings = [
        ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
        ("AZURE_TENANT_ID", "contoso.example"),
        ("AZURE_AUTHORITY_HOST", "http://127.0.0.1:1"),
        ("BACKEND_API_BASE_URL", "http://127.0.0.1:1/v1.0"),
        ("CUSTOM_API_SCOPE", "api://backend/access"),
        ("SERVER_PORT", "0"),
        ("TOKEN_CACHE_FILE", file.to_str().unwrap()),
    ];
    let settings: BTreeMap<String, String> = settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let config =
        Config::from_variables(&settings).unwrap_or_else(|_| panic!("the settings are right"));
    Server::start(config, Clock::system(), Limits::default())
        .unwrap_or_else(|failure| panic!("{}", failure.text()))
});

thread_local! {
    static CONNECTION: RefCell<Option<TcpStream>> = const { RefCell::new(None) };
}

fn is_answered_rightly(choice: usize, body: &[u8]) {
    let tree = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let request = [head(choice, &tree, body.len()).as_bytes(), body].concat();
    let Some((status, answer)) = exchange(&request) else {
        return;
    };
    let is_message = |answer: &Value| {
        assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
        assert!(
            answer["result"].is_object() != answer["error"]["code"].is_i64(),
            "{answer}"
        );
        let is_success = answer.pointer("/result/structuredContent/status").is_some();
        assert!(!is_success, "an API was called for nobody: {answer}");
    };
    assert!(matches!(status, 200 | 202 | 400 | 404), "{status}");
    if status == 202 {
        return assert!(answer.is_empty());
    }
    let answer: Value = serde_json::from_slice(&answer).expect("an answer is JSON");
    match answer.as_array() {
        Some(answers) => answers.iter().for_each(is_message),
        None => is_message(&answer),
    }
    match parse(body).ok().map(message) {
        None => assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &Value::from(-32700))
        ),
        Some(Ok(Message::Request { .. })) => assert_eq!(answer["id"], tree["id"]),
        Some(_) => {}
    }
}

/// A head that fits the body as far as one can.
fn head(choice: usize, tree: &Value, length: usize) -> String {
    let value = |text: &str| format!("=?base64?{}?=", BASE64_STANDARD.encode(text));
    let mut fields = vec![
        format!("Host: localhost:{}", SERVER.port()),
        "Content-Type: application/json".to_owned(),
        "Accept: application/json, text/event-stream".to_owned(),
        format!("Content-Length: {length}"),
    ];
    match choice % 6 {
        0 => {}
        1 => fields.push("Mcp-Session-Id: 2025-11-25.urls.x".to_owned()),
        2 => fields.push("MCP-Protocol-Version: 2025-06-18".to_owned()),
        3 => fields.push("MCP-Protocol-Version: 2025-03-26".to_owned()),
        _ => {
            fields.push("MCP-Protocol-Version: 2026-07-28".to_owned());
            let is_printable = |text: &&str| text.bytes().all(|byte| byte.is_ascii_graphic());
            let method = tree["method"].as_str().filter(is_printable).unwrap_or("x");
            let name = tree["params"]["name"].as_str().unwrap_or("x");
            fields.extend([
                format!("Mcp-Method: {method}"),
                format!("Mcp-Name: {}", value(name)),
            ]);
        }
    }
    format!("POST /mcp HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n"))
}

/// Status and body of the answer; `None` for a stream, which is left at once.
fn exchange(request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut connection = CONNECTION.take().unwrap_or_else(|| {
        let connection = TcpStream::connect(("127.0.0.1", SERVER.port())).unwrap();
        connection
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        connection.set_nodelay(true).unwrap();
        connection
    });
    connection.write_all(request).unwrap();
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let count = match connection.read(&mut piece) {
            // By libFuzzer's alarm.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.expect("the answer comes in time"),
        };
        assert!(
            count > 0,
            "the server has closed the connection after {:?}",
            String::from_utf8_lossy(&answer)
        );
        answer.extend_from_slice(&piece[..count]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8(answer[..end].to_vec())
            .unwrap()
            .to_ascii_lowercase();
        if head.contains("\r\ncontent-type: text/event-stream") {
            return None;
        }
        let length = head
            .split("\r\ncontent-length: ")
            .nth(1)
            .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        if answer.len() == end + 4 + length {
            // A header that stands twice could be read in two ways.
            let names: Vec<&str> = head
                .lines()
                .skip(1)
                .map(|line| line.split(':').next().unwrap())
                .collect();
            assert_eq!(
                names.iter().collect::<HashSet<_>>().len(),
                names.len(),
                "{head}"
            );
            CONNECTION.set(Some(connection));
            return Some((head[9..12].parse().unwrap(), answer.split_off(end + 4)));
        }
    }
}
