//! `POST /mcp`: both eras of the protocol on one endpoint, stateless in both.
//!
//! A request with per-request `_meta`, or with the header `MCP-Protocol-Version: 2026-07-28`, is
//! modern; every other one is legacy, and so is `initialize` whatever its header says (MCP
//! 2026-07-28 versioning, "Backward Compatibility").

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::*;
use serde_json::{json, value::RawValue};

use super::call_answer::{CallAnswer, Room};
use super::elicitation::UrlElicitation;
use super::jsonrpc::{
    self, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, Object,
    RpcError, quoted, read,
};
use super::tools::{Called, ToolCall, Tools};
use super::version::{BATCHING, LEGACY, MODERN, VERSIONS};
use crate::error::Failure;
use crate::http::answer::Answer;
use crate::http::message::{Reply, Request, empty_reply, json_reply, with_field};
use crate::pieces::Pieces;
use crate::{media_type, secret};

const EVENT_STREAM: &str = "text/event-stream";
const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";
const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";
const CLIENT_INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The tools change only when this program is started anew, with another version or other settings.
const CACHING: &str = r#","ttlMs":300000,"cacheScope":"public""#;
const MOST_BATCHED: usize = 50;
/// After this time, or with this much of an answer, the rest of a batch is refused: it would hold a
/// thread, and memory.
const BATCH_TIME: Duration = Duration::from_secs(100);
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const BUG: &str = "This call hit a bug of the server; its log says more. Whether the API has acted on it is not known.";

/// Stands in the session id of a client that opens URLs.
const URLS: &str = "urls";

/// What a model is told about the server as a whole.
const INSTRUCTIONS: &str = include_str!("instructions.txt").trim_ascii_end();

/// What a client is told about this program, as JSON.
const SERVER_INFO: &str = concat!(
    r#"{"name":"entra-auth-mcp","title":"Company API with Microsoft Entra ID","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

type Answered = Result<Reply, RpcError>;

/// The endpoint.
pub(crate) struct Protocol {
    /// What it offers.
    pub(crate) tools: Tools,
    /// Of calls that wait for a sign-in.
    waiting: Room,
    /// Of subscriptions, which do nothing but wait.
    listening: Room,
}

impl Protocol {
    /// An endpoint that offers `tools`.
    pub(crate) fn new(tools: Tools) -> Self {
        Self {
            tools,
            waiting: Room::default(),
            listening: Room::default(),
        }
    }

    /// Answers one POST.
    pub(crate) fn answer(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Reply {
        self.try_answer(request, answer)
            .unwrap_or_else(|error| refusal(&error, None))
    }

    fn try_answer(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Answered {
        check_media_types(request)?;
        let body = jsonrpc::parse(request.body)?;
        if body.starts_with('[') {
            return self.batch(request, body, answer);
        }
        match jsonrpc::message(body) {
            Ok(Message::Request { id, method, params }) => Ok(self
                .request(request, id, &method, &params, answer)
                .unwrap_or_else(|error| refusal(&error, Some(id)))),
            Ok(message) => match (message, version(request)?) {
                (Message::Response, MODERN) => Err(RpcError::new(
                    INVALID_REQUEST,
                    "A client sends no responses.",
                )),
                _ => Ok(empty_reply(202)),
            },
            Err(bad) => Ok(refusal(&bad.error, bad.id)),
        }
    }

    fn request(
        &self,
        request: &Request<'_>,
        id: &RawValue,
        method: &str,
        params: &Object<'_>,
        answer: &mut Answer<'_>,
    ) -> Answered {
        let client = client(request, method, params)?;
        match method {
            "subscriptions/listen" if client.is_modern => {
                if !takes(request, EVENT_STREAM) {
                    let message = "Accept must list text/event-stream for subscriptions/listen.";
                    return Err(RpcError::new(INVALID_REQUEST, message).at(406));
                }
                return self.subscription(id, params, answer);
            }
            "initialize" if !client.is_modern => return self.initialize(id, params),
            _ => {}
        }
        let performed = if method == "tools/call" {
            let token = progress_token(params);
            let answer = CallAnswer::new(answer, token, &self.waiting, asks_for_stream(request));
            self.call(&client, params, &answer)
        } else {
            self.perform(&client, method, params)
        };
        match performed {
            Ok(called) => Ok(json_reply(200, response(client.is_modern, id, called))),
            Err(error) if client.is_modern && error.code == METHOD_NOT_FOUND => Err(error.at(404)),
            Err(error) if error.code == INTERNAL_ERROR => Err(error.at(500)),
            // To a legacy client, 404 says that its session has ended.
            Err(error) => Err(error.at(200)),
        }
    }

    /// Begins a session. Its id says which revision was agreed on, and whether the client opens
    /// URLs. Nothing is stored for a session, and nothing is trusted because of its id.
    fn initialize(&self, id: &RawValue, params: &Object<'_>) -> Answered {
        let invalid = || {
            RpcError::new(
                INVALID_PARAMS,
                "initialize needs a protocolVersion as a string.",
            )
            .at(200)
        };
        let requested: String = params.read("protocolVersion").ok_or_else(invalid)?;
        let version = LEGACY
            .into_iter()
            .find(|known| *known == requested)
            .unwrap_or(LEGACY[0]);
        let internal = |failure: Failure| RpcError::new(INTERNAL_ERROR, failure.text()).at(200);
        let random = secret::random_base64url::<16>().map_err(internal)?;
        let can_open =
            version == LEGACY[0] && opens_urls(&params.read("capabilities").unwrap_or_default());
        let session = if can_open {
            format!("{version}.{URLS}.{random}")
        } else {
            format!("{version}.{random}")
        };
        let members = format!(
            r#""protocolVersion":"{version}","serverInfo":{SERVER_INFO},{}"#,
            self.offer()
        );
        let reply = json_reply(200, response(false, id, Called::Done(members.into())));
        Ok(with_field(reply, "Mcp-Session-Id", &session))
    }

    /// What the server can do, as members of a result.
    fn offer(&self) -> String {
        let mut instructions = INSTRUCTIONS.to_owned();
        if let Some(more) = self.tools.about_operations() {
            instructions.push(' ');
            instructions.push_str(more);
        }
        format!(
            r#""capabilities":{{"tools":{{}}}},"instructions":{}"#,
            quoted(&instructions)
        )
    }

    /// Several messages of revision 2025-03-26, answered in order (JSON-RPC 2.0 §6).
    fn batch(&self, request: &Request<'_>, body: &str, answer: &Answer<'_>) -> Answered {
        if version(request)? != BATCHING {
            return Err(RpcError::new(
                INVALID_REQUEST,
                "Only revision 2025-03-26 has batches.",
            ));
        }
        let messages: Vec<&RawValue> = serde_json::from_str(body).unwrap_or_default();
        if messages.is_empty() || messages.len() > MOST_BATCHED {
            return Err(RpcError::new(
                INVALID_REQUEST,
                format!("A batch has 1 to {MOST_BATCHED} messages."),
            ));
        }
        let client = Client {
            is_modern: false,
            opens_urls: false,
            name: user_agent(request),
        };
        let answer = CallAnswer::in_batch(answer);
        let begun = Instant::now();
        let mut whole = Pieces::default();
        for message in messages {
            let is_enough = begun.elapsed() >= BATCH_TIME || whole.len() >= BATCH_BYTES;
            let Some(response) = self.batched(&client, message, is_enough, &answer) else {
                continue;
            };
            whole.copy(if whole.is_empty() { b"[" } else { b"," });
            whole.append(response);
        }
        if whole.is_empty() {
            return Ok(empty_reply(202));
        }
        whole.copy(b"]");
        Ok(json_reply(200, whole))
    }

    fn batched(
        &self,
        client: &Client,
        message: &RawValue,
        is_enough: bool,
        answer: &CallAnswer<'_>,
    ) -> Option<Pieces> {
        match jsonrpc::message(message.get()) {
            Ok(Message::Request { id, .. }) if is_enough => {
                let message = "This batch takes too long, or its answer is too long. Nothing was done: send this request alone.";
                let error = RpcError::new(INTERNAL_ERROR, message);
                Some(error.response(Some(id)).into())
            }
            Ok(Message::Request { id, method, params }) => {
                let performed = if method == "tools/call" {
                    self.call(client, &params, answer)
                } else {
                    self.perform(client, &method, &params)
                };
                let refused = |error: RpcError| error.response(Some(id)).into();
                Some(performed.map_or_else(refused, |called| response(false, id, called)))
            }
            Ok(Message::Notification | Message::Response) => None,
            Err(bad) => Some(bad.error.response(bad.id).into()),
        }
    }

    /// What `method`, which is not a call of a tool, gives to `client`.
    fn perform(
        &self,
        client: &Client,
        method: &str,
        params: &Object<'_>,
    ) -> Result<Called, RpcError> {
        let is_modern = client.is_modern;
        let caching = if is_modern { CACHING } else { "" };
        let done = |members: String| Ok(Called::Done(members.into()));
        match method {
            "server/discover" if is_modern => done(format!(
                r#""supportedVersions":{},{}{caching}"#,
                json!(VERSIONS),
                self.offer()
            )),
            "ping" if !is_modern => done(String::new()),
            "initialize" if !is_modern => Err(RpcError::new(
                INVALID_REQUEST,
                "initialize cannot be part of a batch.",
            )),
            "tools/list" if params.get("cursor").is_some() => Err(RpcError::new(
                INVALID_PARAMS,
                "There is one page of tools; this cursor is not one of ours.",
            )),
            "tools/list" => {
                let mut members = Pieces::from(r#""tools":"#);
                members.share(&self.tools.list);
                members.copy(caching.as_bytes());
                Ok(Called::Done(members))
            }
            _ => Err(RpcError::new(
                METHOD_NOT_FOUND,
                format!("Method not found: {method}"),
            )),
        }
    }

    /// Calls a tool. A bug in it is this call's alone.
    fn call(
        &self,
        client: &Client,
        params: &Object<'_>,
        answer: &CallAnswer<'_>,
    ) -> Result<Called, RpcError> {
        let call = AssertUnwindSafe(|| self.call_tool(client, params, answer));
        catch_unwind(call).unwrap_or_else(|_| Err(RpcError::new(INTERNAL_ERROR, BUG)))
    }

    fn call_tool(
        &self,
        client: &Client,
        params: &Object<'_>,
        answer: &CallAnswer<'_>,
    ) -> Result<Called, RpcError> {
        let name = tool_name(params)?;
        let given = params
            .get("arguments")
            .map_or_else(|| Some(Object::default()), read);
        let given =
            given.ok_or_else(|| RpcError::new(INVALID_PARAMS, "arguments must be an object."))?;
        let meant = self.tools.meant(&name, &given);
        let arguments = meant.arguments(&given);
        let returned = if client.is_modern {
            self.tools.returned(params, &name, &arguments)?
        } else {
            None
        };
        self.tools.call(&ToolCall {
            name: &name,
            arguments: &arguments,
            client: &client.name,
            url_elicitation: client.url_elicitation(),
            returned,
            answer,
        })
    }

    /// `subscriptions/listen`: the tools do not change while we run, so there is nothing to send
    /// but the acknowledgement, that nothing is watched (MCP 2026-07-28 subscriptions).
    fn subscription(
        &self,
        id: &RawValue,
        params: &Object<'_>,
        answer: &mut Answer<'_>,
    ) -> Answered {
        if params.read::<Object<'_>>("notifications").is_none() {
            let message = "subscriptions/listen needs notifications, an object.";
            return Err(RpcError::new(INVALID_PARAMS, message).at(200));
        }
        answer.allow_stream(None);
        let acknowledgement = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION_KEY}":{id}}},"notifications":{{}}}}}}"#
        );
        // Before it is acknowledged, so that the first who come are the ones who stay.
        let place = self.listening.enter();
        let told = answer.tell(|| Some(acknowledgement));
        if told.is_ok() && place.is_some() {
            // Once the client has left, nothing more is sent, the result neither.
            let _ = answer.wait(|step| {
                thread::sleep(step);
                false
            });
        }
        let result = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_KEY}":{id},"{SERVER_INFO_KEY}":{SERVER_INFO}}}}}}}"#
        );
        Ok(json_reply(200, result))
    }
}

/// The answer to a caller who is not let in. The Python SDK shows no message without an id.
pub(crate) fn unauthorized(message: &str) -> Reply {
    let error = RpcError::new(INVALID_REQUEST, message).at(401);
    refusal(&error, Some(RawValue::NULL))
}

fn refusal(error: &RpcError, id: Option<&RawValue>) -> Reply {
    json_reply(error.status, error.response(id))
}

/// The response with what a call led to, and with the members that every modern result has.
fn response(is_modern: bool, id: &RawValue, called: Called) -> Pieces {
    let (kind, members) = match called {
        Called::Done(members) => ("complete", members),
        Called::InputRequired(members) => ("input_required", members.into()),
    };
    let mut response = Pieces::from(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#));
    if is_modern {
        response.copy(format!(r#""resultType":"{kind}","#).as_bytes());
    }
    response.append(members);
    if is_modern {
        response.copy(format!(r#","_meta":{{"{SERVER_INFO_KEY}":{SERVER_INFO}}}"#).as_bytes());
    }
    response.copy(b"}}");
    response
}

/// Whether these are the capabilities of a client that takes URL mode elicitation.
fn opens_urls(capabilities: &Object<'_>) -> bool {
    let elicitation: Object<'_> = capabilities.read("elicitation").unwrap_or_default();
    elicitation.read::<Object<'_>>("url").is_some()
}

fn progress_token(params: &Object<'_>) -> Option<Box<RawValue>> {
    let meta: Object<'_> = params.read("_meta")?;
    meta.get("progressToken")
        .filter(|token| jsonrpc::is_id(token))
        .map(ToOwned::to_owned)
}

fn tool_name<'a>(params: &Object<'a>) -> Result<Cow<'a, str>, RpcError> {
    params
        .text("name")
        .ok_or_else(|| RpcError::new(INVALID_PARAMS, "tools/call needs the name of a tool."))
}

/// 415 for a body that is not JSON, 406 for a client that does not take JSON. Clients must take
/// event streams, too, but nothing has a server insist on it (MCP 2026-07-28 transports, "Sending
/// Messages").
fn check_media_types(request: &Request<'_>) -> Result<(), RpcError> {
    let refuse = |status, message| Err(RpcError::new(INVALID_REQUEST, message).at(status));
    if !media_type::is(
        request.field("content-type").unwrap_or_default(),
        "application/json",
    ) {
        return refuse(415, "Content-Type must be application/json.");
    }
    if !takes(request, "application/json") {
        return refuse(406, "Accept must list application/json.");
    }
    Ok(())
}

/// What the client says that it takes.
fn accepted<'r>(request: &Request<'r>) -> impl Iterator<Item = &'r str> + Clone {
    let fields = request.fields("accept");
    fields.filter(|field| !field.trim_ascii().is_empty())
}

/// Whether the client takes an answer of this media type: anything, if it says nothing (RFC 9110
/// §12.5.1).
fn takes(request: &Request<'_>, wanted: &str) -> bool {
    let accepted = accepted(request);
    accepted.clone().next().is_none() || media_type::is_accepted(&accepted, wanted)
}

/// Whether a call may become a stream. A client that says nothing of streams may not know them.
fn asks_for_stream(request: &Request<'_>) -> bool {
    media_type::is_accepted(&accepted(request), EVENT_STREAM)
}

/// `MCP-Protocol-Version`, when it is there and spoken here.
fn version_header(request: &Request<'_>) -> Result<Option<&'static str>, RpcError> {
    let mut values = request.fields("mcp-protocol-version");
    let Some(requested) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(mismatch("MCP-Protocol-Version stands there twice."));
    }
    let known = VERSIONS.into_iter().find(|known| *known == requested);
    known.map(Some).ok_or_else(|| unsupported(requested))
}

fn unsupported(requested: &str) -> RpcError {
    // Never the one that was asked for: a legacy revision is spoken here, but not with `_meta`.
    let supported: Vec<&str> = VERSIONS
        .into_iter()
        .filter(|version| *version != requested)
        .collect();
    let data = json!({"supported": supported, "requested": requested}).to_string();
    RpcError {
        data: Some(data),
        ..RpcError::new(UNSUPPORTED_VERSION, "Unsupported protocol version")
    }
}

fn mismatch(message: &str) -> RpcError {
    RpcError::new(HEADER_MISMATCH, message)
}

/// What is known of the client that has sent a request.
struct Client {
    /// Of which era it is.
    is_modern: bool,
    /// Whether it opens URLs that it is asked to.
    opens_urls: bool,
    /// What it calls itself.
    name: String,
}

impl Client {
    fn url_elicitation(&self) -> UrlElicitation {
        match (self.opens_urls, self.is_modern) {
            (false, _) => UrlElicitation::Unsupported,
            (true, false) => UrlElicitation::RequiredError,
            (true, true) => UrlElicitation::InputRequired,
        }
    }
}

/// Which client the request is of; its metadata and headers are valid then.
fn client(request: &Request<'_>, method: &str, params: &Object<'_>) -> Result<Client, RpcError> {
    let meta: Object<'_> = params.read("_meta").unwrap_or_default();
    // The header is for the requests after `initialize`, whose body says what is wanted (MCP
    // 2025-11-25 transports, "Protocol Version Header"; 2026-07-28 versioning, "Backward
    // Compatibility").
    let is_initialize = method == "initialize";
    let is_named_modern = request.field("mcp-protocol-version") == Some(MODERN) && !is_initialize;
    if meta.get(VERSION_KEY).is_some() || is_named_modern {
        check_modern(request, method, params, &meta)?;
        let opens_urls = opens_urls(&meta.read(CAPABILITIES_KEY).unwrap_or_default());
        let name = client_name(&meta).unwrap_or_else(|| user_agent(request));
        return Ok(Client {
            is_modern: true,
            opens_urls,
            name,
        });
    }
    // It begins a session, too, whichever one the client had before.
    let opens_urls = !is_initialize && {
        let session = request.field("mcp-session-id").unwrap_or_default();
        version(request)? == LEGACY[0] && session.split('.').take(2).eq([LEGACY[0], URLS])
    };
    Ok(Client {
        is_modern: false,
        opens_urls,
        name: user_agent(request),
    })
}

/// `name/version` of the client, as it says itself.
fn client_name(meta: &Object<'_>) -> Option<String> {
    let info: Object<'_> = meta.read(CLIENT_INFO_KEY)?;
    let name: String = info.read("name")?;
    match info.read::<String>("version") {
        Some(version) => Some(format!("{name}/{version}")),
        None => Some(name),
    }
}

/// What is known of a client that does not say its name: nothing is kept of a legacy `initialize`.
fn user_agent(request: &Request<'_>) -> String {
    request.field("user-agent").unwrap_or_default().to_owned()
}

/// The metadata of a modern request, and the headers that repeat its body (MCP 2026-07-28
/// transports, "Server Validation").
fn check_modern(
    request: &Request<'_>,
    method: &str,
    params: &Object<'_>,
    meta: &Object<'_>,
) -> Result<(), RpcError> {
    let invalid = |key| RpcError::new(INVALID_PARAMS, format!("_meta must hold {key}."));
    let version: String = meta
        .read(VERSION_KEY)
        .ok_or_else(|| invalid(format!("{VERSION_KEY}, a string")))?;
    if meta.read::<Object<'_>>(CAPABILITIES_KEY).is_none() {
        return Err(invalid(format!("{CAPABILITIES_KEY}, an object")));
    }
    if !request.fields("mcp-protocol-version").eq([&version]) {
        return Err(mismatch(
            "MCP-Protocol-Version does not match the version in _meta, or is missing.",
        ));
    }
    // A legacy revision has no per-request metadata; whoever sends it means `initialize` to come
    // first.
    if version != MODERN {
        return Err(unsupported(&version));
    }
    if !request.fields("mcp-method").eq([method]) {
        return Err(mismatch(
            "Mcp-Method does not match the method of the body, or is missing.",
        ));
    }
    if method == "tools/call" {
        let name = tool_name(params)?;
        if !request.fields("mcp-name").map(decoded).eq([Some(name)]) {
            return Err(mismatch(
                "Mcp-Name does not match params.name, is malformed, or is missing.",
            ));
        }
    }
    Ok(())
}

/// The revision of a request without metadata: what the header says, else what the session id says,
/// else the one that had no header yet. A session id that is not of our making: 404, so that the
/// client initializes anew. The modern revision has no sessions, and ignores their ids.
fn version(request: &Request<'_>) -> Result<&'static str, RpcError> {
    let header = version_header(request)?;
    let session = request
        .field("mcp-session-id")
        .filter(|_| header != Some(MODERN));
    let agreed = session.map(|session| {
        LEGACY
            .into_iter()
            .find(|known| session.split('.').next() == Some(known))
    });
    if agreed == Some(None) {
        return Err(RpcError::new(
            INVALID_REQUEST,
            "This session is unknown. Initialize again.",
        )
        .at(404));
    }
    Ok(header.or(agreed.flatten()).unwrap_or(BATCHING))
}

/// The value of `Mcp-Name`: plain, or UTF-8 in Base64 between `=?base64?` and `?=` (MCP 2026-07-28
/// transports, "Value Encoding").
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    match value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="))
    {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?)
            .ok()
            .map(Cow::Owned),
        None => value.is_ascii().then_some(Cow::Borrowed(value)),
    }
}
