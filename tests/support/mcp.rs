//! An MCP client of one era, and what it makes of answers that ask for a person.

use super::PATIENCE;
use super::browser::Browser;
use super::http::{Client, Event, EventReader, Reply};
use serde_json::{Map, Value, json};
use std::time::Instant;

#[derive(Clone, Debug)]
pub enum Era {
    Modern,
    Legacy {
        revision: String,
        session: Option<String>,
    },
}

/// An MCP client of one era, which sends what the revision demands.
pub struct Mcp {
    pub http: Client,
    pub era: Era,
    pub capabilities: Value,
    /// The access key that it was set up with.
    pub key: Option<String>,
    next_id: u64,
}

pub const MODERN: &str = "2026-07-28";

/// The answer to a request: JSON, or a stream of events that was read to its end.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub is_stream: bool,
    /// All of them; the response is the last.
    pub messages: Vec<Value>,
    pub response: Value,
    /// Comments came, which keep a stream alive.
    pub had_keep_alive: bool,
}

impl Mcp {
    /// Of the newest revision.
    pub fn modern(http: Client, capabilities: Value) -> Self {
        Self {
            http,
            era: Era::Modern,
            capabilities,
            key: None,
            next_id: 0,
        }
    }

    /// Of a legacy `revision`, initialized.
    pub fn legacy(http: Client, revision: &str, capabilities: Value) -> Self {
        let era = Era::Legacy {
            revision: revision.to_owned(),
            session: None,
        };
        let mut mcp = Self {
            http,
            era,
            capabilities,
            key: None,
            next_id: 0,
        };
        mcp.initialize();
        mcp
    }

    /// The capabilities of a client that shows URLs to its user.
    pub fn can_open_urls() -> Value {
        json!({ "elicitation": { "url": {} } })
    }

    /// The same, with the access key of a server that has one.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    fn initialize(&mut self) {
        let Era::Legacy { revision, .. } = self.era.clone() else {
            unreachable!()
        };
        let capabilities = &self.capabilities;
        let params = json!({"protocolVersion": revision, "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
            .to_string();
        let reply = self
            .http
            .request("POST", "/mcp", &MEDIA_TYPES, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["result"]["protocolVersion"], revision.as_str());
        let session = reply.header("Mcp-Session-Id").map(str::to_owned);
        self.era = Era::Legacy { revision, session };
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        let headers = self.headers("notifications/initialized", None);
        let reply = self
            .http
            .request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
        assert_eq!((reply.status, reply.body.len()), (202, 0));
    }

    /// The headers of a request for `method`, of the tool `name`.
    pub fn headers(&self, method: &str, name: Option<&str>) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> = MEDIA_TYPES
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        if let Some(key) = &self.key {
            add("Authorization", &format!("Bearer {key}"));
        }
        match &self.era {
            Era::Modern => {
                add("MCP-Protocol-Version", MODERN);
                add("Mcp-Method", method);
                if let Some(name) = name {
                    add("Mcp-Name", name);
                }
            }
            Era::Legacy { revision, session } => {
                if revision != "2025-03-26" {
                    add("MCP-Protocol-Version", revision);
                }
                if let Some(session) = session {
                    add("Mcp-Session-Id", session);
                }
            }
        }
        headers
    }

    /// A request body; modern ones carry their metadata.
    pub fn body(&mut self, method: &str, mut params: Value) -> String {
        self.next_id += 1;
        if matches!(self.era, Era::Modern) {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            });
            match params["_meta"].as_object_mut() {
                Some(given) => given.extend(meta.as_object().unwrap().clone()),
                None => params["_meta"] = meta,
            }
        }
        json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params})
            .to_string()
    }

    /// Sends a request and gives the HTTP answer.
    pub fn send(&mut self, method: &str, params: Value) -> Reply {
        let headers = self.headers(method, params["name"].as_str());
        let body = self.body(method, params);
        self.http
            .request("POST", "/mcp", &as_refs(&headers), body.as_bytes())
    }

    /// Sends a request that is answered by a stream.
    pub fn open(&mut self, method: &str, params: Value) -> (Reply, EventReader) {
        let headers = self.headers(method, params["name"].as_str());
        let body = self.body(method, params);
        self.http
            .open_stream("POST", "/mcp", &as_refs(&headers), body.as_bytes())
    }

    /// Sends a request and gives its result.
    pub fn result(&mut self, method: &str, params: Value) -> Value {
        let reply = self.send(method, params);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut response = reply.json();
        assert_eq!(response["id"], self.next_id, "{response}");
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    /// Calls a tool and gives the whole result.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// As [`Mcp::call`], with more in `params` (`inputResponses`, `requestState`, `_meta`), and gives
    /// every message of the answer.
    pub fn call_with(&mut self, tool: &str, arguments: Value, extra: Value) -> Answered {
        let (head, events) = self.open_call(tool, arguments, extra);
        let answered = Answered::read(&head, events);
        assert_eq!(
            answered.response["id"], self.next_id,
            "{:?}",
            answered.messages
        );
        answered
    }

    /// As [`Mcp::call_with`], and leaves it to the test to read the answer.
    pub fn open_call(
        &mut self,
        tool: &str,
        arguments: Value,
        extra: Value,
    ) -> (Reply, EventReader) {
        let mut params = json!({"name": tool, "arguments": arguments});
        params
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        self.open("tools/call", params)
    }

    /// Calls a tool that succeeds and gives its structured content.
    pub fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{result}");
        assert_eq!(result["structuredContent"]["success"], true, "{result}");
        result["structuredContent"].take()
    }

    /// Signs `user` in, in a browser of its own.
    pub fn sign_in(&mut self, user: &str) {
        let begun = self.ok("authenticate_user", json!({"user_id": user}));
        let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), user);
        assert_eq!(page.status, 200, "{}", page.text());
    }

    /// Calls a tool that fails and gives its structured content.
    pub fn fails(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        assert_eq!(result["structuredContent"]["success"], false, "{result}");
        result["structuredContent"].take()
    }
}

impl Answered {
    /// Reads to the end; before the response come only messages without an `id`.
    pub fn read(head: &Reply, events: EventReader) -> Self {
        let content_type = head.header("Content-Type").unwrap_or_default();
        let is_stream = content_type.starts_with("text/event-stream");
        let mut had_keep_alive = false;
        let messages: Vec<Value> = if is_stream {
            let start = Instant::now();
            let in_time = |_: &Event| {
                assert!(
                    start.elapsed() < PATIENCE,
                    "waited in vain for the end of a stream"
                );
            };
            let events: Vec<Event> = events.inspect(in_time).collect();
            had_keep_alive = events
                .iter()
                .any(|event| matches!(event, Event::Comment(_)));
            events.iter().filter_map(Event::json).collect()
        } else {
            let body = events.into_body();
            vec![
                serde_json::from_slice(&body)
                    .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&body))),
            ]
        };
        let (response, before) = messages.split_last().expect("a response");
        assert!(
            before.iter().all(|message| message.get("id").is_none()),
            "{messages:?}"
        );
        Self {
            status: head.status,
            is_stream,
            response: response.clone(),
            had_keep_alive,
            messages,
        }
    }
}

/// What an `input_required` result asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequired {
    pub url: String,
    pub message: String,
    /// Opaque, to be sent back as it is.
    pub state: String,
    /// Of the request in `inputRequests`.
    pub key: String,
    /// Not of this revision; a client of it needs one nevertheless.
    pub elicitation_id: String,
}

impl InputRequired {
    /// The parameters of the next try, after the user's `accept`, `decline` or `cancel`.
    pub fn answered_with(&self, action: &str) -> Value {
        json!({ "inputResponses": { &self.key: { "action": action } }, "requestState": self.state })
    }
}

/// Of a response or its result: `InputRequiredResult` of MCP 2026-07-28 with one URL to open.
pub fn input_required(answer: &Value) -> InputRequired {
    let result = answer.get("result").unwrap_or(answer);
    assert_eq!(result["resultType"], "input_required", "{answer}");
    assert_members(result, &["resultType", "inputRequests", "requestState"]);
    let requests = result["inputRequests"]
        .as_object()
        .expect("a map of requests");
    assert_eq!(requests.len(), 1, "{answer}");
    let (key, request) = requests.iter().next().unwrap();
    assert_members(request, &["method", "params"]);
    assert_eq!(request["method"], "elicitation/create", "{answer}");
    let (url, message, elicitation_id) = url_to_open(&request["params"]);
    InputRequired {
        url,
        message,
        state: text(&result["requestState"]),
        key: key.clone(),
        elicitation_id,
    }
}

/// Of a response or its error: `URLElicitationRequiredError` of MCP 2025-11-25 with one URL to open;
/// gives that, its message and its id.
pub fn elicitation_error(answer: &Value) -> (String, String, String) {
    assert!(answer.get("result").is_none(), "{answer}");
    let error = answer.get("error").unwrap_or(answer);
    assert_eq!(error["code"], -32042, "{answer}");
    text(&error["message"]);
    let elicitations = error["data"]["elicitations"]
        .as_array()
        .expect("a list of elicitations");
    assert_eq!(elicitations.len(), 1, "{answer}");
    url_to_open(&elicitations[0])
}

/// URL, message and id of an elicitation.
fn url_to_open(params: &Value) -> (String, String, String) {
    assert_members(params, &["mode", "message", "url", "elicitationId"]);
    assert_eq!(params["mode"], "url", "{params}");
    let url = text(&params["url"]);
    assert!(
        url::Url::parse(&url).is_ok_and(|url| url.has_host()),
        "{url}"
    );
    (
        url,
        text(&params["message"]),
        text(&params["elicitationId"]),
    )
}

/// All of `members` and, but for `_meta`, nothing else.
fn assert_members(object: &Value, members: &[&str]) {
    let known = |name: &String| name == "_meta" || members.contains(&name.as_str());
    let object: &Map<String, Value> = object.as_object().expect("an object");
    let complete = members.iter().all(|name| object.contains_key(*name));
    assert!(
        complete && object.keys().all(known),
        "{members:?} are due in {object:?}"
    );
}

fn text(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    assert!(!text.is_empty(), "a text is due, not {value}");
    text.to_owned()
}

pub const MEDIA_TYPES: [(&str, &str); 2] = [
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
];

pub fn as_refs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}
