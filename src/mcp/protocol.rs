//! `POST /mcp`: both eras of the protocol on one endpoint, stateless in both.
//!
//! A request with per-request `_meta`, or with the header `MCP-Protocol-Version: 2026-07-28`, is
//! modern; every other one is legacy (MCP 2026-07-28 versioning, "Backward Compatibility").

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use serde_json::value::RawValue;

use super::jsonrpc::{
    self, BadMessage, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Message, Object, RpcError,
    quoted,
};
use super::tools::{Called, Tools, Wait};
use crate::http::event_stream::EventStream;
use crate::http::message::{Answer, Request, empty_reply, json_reply, with_field};
use crate::secret;

/// The revision with per-request metadata.
const MODERN: &str = "2026-07-28";
/// The revisions that begin with `initialize`, the newest first.
const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", BATCHING];
/// The revision that has batches, and that is meant where no version is named.
const BATCHING: &str = "2025-03-26";
/// Every revision spoken here.
pub const VERSIONS: [&str; 4] = [MODERN, LEGACY[0], LEGACY[1], LEGACY[2]];

const HEADER_MISMATCH: i32 = -32020;
const UNSUPPORTED_VERSION: i32 = -32022;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";

/// The tools change with a new version of this program only.
const CACHING: &str = r#","ttlMs":3600000,"cacheScope":"public""#;
const MOST_BATCHED: usize = 50;
/// Streams that only wait for the client to leave; each holds a thread.
const MOST_SUBSCRIPTIONS: usize = 32;
/// How often a waiting stream looks whether its client is still there.
const STEP: Duration = Duration::from_millis(500);
/// Every so many steps, something is sent that keeps proxies from closing the connection.
const STEPS_PER_KEEP_ALIVE: u32 = 20;

const INSTRUCTIONS: &str = "This server calls one company API as a user who signed in with Microsoft Entra ID. \
    Use api_get_request, api_post_request, api_put_request, api_patch_request and api_delete_request with an endpoint \
    below the API's base URL (get_server_info names it). If a call answers sign_in_required, show the user the \
    sign_in_url it gives, as a link, and ask them to open it and sign in; call check_auth_status with wait_seconds (60 is \
    good) until it says authenticated; then repeat the call. authenticate_user gives such a link in advance. Leave user_id \
    out while only one account is signed in; view_userid lists them. Never ask for a password or a token: the user enters \
    those on Microsoft's page only.";

/// Which rules a request is under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    Modern,
    Legacy,
}

/// A request that is refused before its method is looked at.
struct Refused(u16, RpcError);

impl From<RpcError> for Refused {
    fn from(error: RpcError) -> Self {
        Self(400, error)
    }
}

/// The endpoint.
pub struct Protocol {
    tools: Tools,
    server_info: String,
    subscriptions: AtomicUsize,
}

/// What a request leads to.
enum Outcome {
    /// A result or an error, with its HTTP status.
    Now(u16, Result<String, RpcError>),
    /// The result of `initialize`, and a session id.
    Initialized(String, String),
    /// A stream that ends with the result, when a sign-in has ended.
    Wait(Era, Wait, Option<Box<RawValue>>),
    /// A stream of change notifications.
    Subscription,
}

impl Protocol {
    /// An endpoint that offers `tools`.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        let server_info = json!({
            "name": "entra-auth-mcp",
            "title": "Company API with Microsoft Entra ID",
            "version": env!("CARGO_PKG_VERSION"),
        });
        Self { tools, server_info: server_info.to_string(), subscriptions: AtomicUsize::new(0) }
    }

    /// The tools.
    #[must_use]
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Answers one POST.
    pub fn answer<'a>(&'a self, request: &Request<'_>) -> Answer<'a> {
        self.try_answer(request)
            .unwrap_or_else(|Refused(status, error)| Answer::Reply(json_reply(status, error.response(None))))
    }

    fn try_answer<'a>(&'a self, request: &Request<'_>) -> Result<Answer<'a>, Refused> {
        check_media_types(request)?;
        let body = jsonrpc::parse(request.body())?;
        if body.get().starts_with('[') {
            return self.batch(request, body);
        }
        match jsonrpc::message(body) {
            Ok(Message::Request { id, method, params }) => Ok(self.request(request, id, &method, &params)),
            Ok(Message::Notification) => check_version_header(request).map(|_| Answer::Reply(empty_reply(202))),
            Ok(Message::Response) => match check_version_header(request)? {
                Some(MODERN) => Err(RpcError::new(INVALID_REQUEST, "A client sends no responses.").into()),
                _ => Ok(Answer::Reply(empty_reply(202))),
            },
            Err(BadMessage { id, error }) => Ok(Answer::Reply(json_reply(400, error.response(id)))),
        }
    }

    fn request<'a>(&'a self, request: &Request<'_>, id: &RawValue, method: &str, params: &Object<'_>) -> Answer<'a> {
        let outcome = match era(request, method, params) {
            Ok(Era::Modern) => self.modern(method, params),
            Ok(Era::Legacy) => self.legacy(method, params),
            Err(Refused(status, error)) => Outcome::Now(status, Err(error)),
        };
        match outcome {
            Outcome::Now(status, result) => Answer::Reply(json_reply(status, response(id, result))),
            Outcome::Initialized(members, session) => {
                Answer::Reply(with_field(json_reply(200, response(id, Ok(members))), "Mcp-Session-Id", &session))
            }
            Outcome::Wait(era, wait, token) => {
                let id = id.to_owned();
                Answer::stream(move |stream| self.wait(&id, era, &wait, token.as_deref(), stream))
            }
            Outcome::Subscription => {
                let id = id.to_owned();
                Answer::stream(move |stream| self.subscription(&id, stream))
            }
        }
    }

    /// Several messages of revision 2025-03-26, answered in order (JSON-RPC 2.0 §6).
    fn batch<'a>(&'a self, request: &Request<'_>, body: &RawValue) -> Result<Answer<'a>, Refused> {
        let refuse = |message| Err(Refused::from(RpcError::new(INVALID_REQUEST, message)));
        if legacy_version(request)? != BATCHING {
            return refuse("Only revision 2025-03-26 has batches.");
        }
        let messages: Vec<&RawValue> = serde_json::from_str(body.get()).unwrap_or_default();
        if messages.is_empty() || messages.len() > MOST_BATCHED {
            return refuse("A batch has 1 to 50 messages.");
        }
        let responses: Vec<String> = messages.into_iter().filter_map(|message| self.batched(message)).collect();
        Ok(Answer::Reply(match responses.as_slice() {
            [] => empty_reply(202),
            _ => json_reply(200, format!("[{}]", responses.join(","))),
        }))
    }

    fn batched(&self, message: &RawValue) -> Option<String> {
        match jsonrpc::message(message) {
            Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                let error = RpcError::new(INVALID_REQUEST, "initialize cannot be part of a batch.");
                Some(error.response(Some(id)))
            }
            Ok(Message::Request { id, method, params }) => Some(match self.legacy(&method, &params) {
                Outcome::Now(_, result) => response(id, result),
                // A batch has one answer, so nothing in it waits.
                Outcome::Wait(era, wait, _) => response(id, Ok(self.close(era, self.tools.waited(&wait).members()))),
                Outcome::Initialized(members, _) => response(id, Ok(members)),
                Outcome::Subscription => response(id, Err(method_not_found(&method))),
            }),
            Ok(Message::Notification | Message::Response) => None,
            Err(BadMessage { id, error }) => Some(error.response(id)),
        }
    }

    fn modern(&self, method: &str, params: &Object<'_>) -> Outcome {
        match method {
            "server/discover" => self.done(Era::Modern, Ok(discovery())),
            "tools/list" => self.done(Era::Modern, self.list(params).map(|members| members + CACHING)),
            "tools/call" => self.call(Era::Modern, params),
            "subscriptions/listen" => Outcome::Subscription,
            _ => Outcome::Now(404, Err(method_not_found(method))),
        }
    }

    /// Errors have status 200 here: to a legacy client, 404 says that its session has ended.
    fn legacy(&self, method: &str, params: &Object<'_>) -> Outcome {
        match method {
            "initialize" => self.initialize(params),
            "ping" => Outcome::Now(200, Ok(String::new())),
            "tools/list" => self.done(Era::Legacy, self.list(params)),
            "tools/call" => self.call(Era::Legacy, params),
            _ => Outcome::Now(200, Err(method_not_found(method))),
        }
    }

    fn done(&self, era: Era, result: Result<String, RpcError>) -> Outcome {
        Outcome::Now(200, result.map(|members| self.close(era, members)))
    }

    /// The members of a result with those that every modern result has.
    fn close(&self, era: Era, members: String) -> String {
        match era {
            Era::Legacy => members,
            Era::Modern => format!(
                r#""resultType":"complete",{members},"_meta":{{"io.modelcontextprotocol/serverInfo":{}}}"#,
                self.server_info
            ),
        }
    }

    fn initialize(&self, params: &Object<'_>) -> Outcome {
        let requested = params.string("protocolVersion");
        if requested.is_none() {
            return Outcome::Now(200, Err(RpcError::new(INVALID_PARAMS, "initialize needs a protocolVersion.")));
        }
        let version = LEGACY.iter().find(|known| requested.as_deref() == Some(**known)).unwrap_or(&LEGACY[0]);
        let random = match secret::random_base64url::<16>() {
            Ok(random) => random,
            Err(failure) => return Outcome::Now(200, Err(RpcError::new(INTERNAL_ERROR, failure.text()))),
        };
        let elicits_urls = params
            .object("capabilities")
            .and_then(|all| all.object("elicitation"))
            .is_some_and(|kinds| kinds.get("url").is_some());
        let members = format!(
            r#""protocolVersion":"{version}","capabilities":{{"tools":{{}}}},"serverInfo":{},"instructions":{}"#,
            self.server_info,
            quoted(INSTRUCTIONS)
        );
        Outcome::Initialized(members, format!("{version}.{}.{random}", if elicits_urls { "url" } else { "nourl" }))
    }

    fn list(&self, params: &Object<'_>) -> Result<String, RpcError> {
        match params.get("cursor") {
            None => Ok(format!(r#""tools":{}"#, self.tools.definitions())),
            Some(_) => {
                Err(RpcError::new(INVALID_PARAMS, "There is one page of tools; this cursor is not one of ours."))
            }
        }
    }

    fn call(&self, era: Era, params: &Object<'_>) -> Outcome {
        let invalid = |message: String| Outcome::Now(200, Err(RpcError::new(INVALID_PARAMS, message)));
        let Some(name) = params.string("name") else {
            return invalid("tools/call needs the name of a tool.".to_owned());
        };
        let arguments = match params.get("arguments") {
            None => Object::default(),
            Some(arguments) => match Object::parse(arguments) {
                Some(arguments) => arguments,
                None => return invalid("arguments must be an object.".to_owned()),
            },
        };
        match self.tools.call(&name, &arguments) {
            None => invalid(format!("Unknown tool: {name}")),
            Some(Called::Done(result)) => self.done(era, Ok(result.members())),
            Some(Called::Wait(wait)) => Outcome::Wait(era, wait, progress_token(params)),
        }
    }

    fn wait(
        &self,
        id: &RawValue,
        era: Era,
        wait: &Wait,
        token: Option<&RawValue>,
        stream: &mut EventStream<'_>,
    ) -> io::Result<()> {
        let mut steps = 0_u32;
        while !self.tools.wait(wait, STEP) && !stream.is_stopping() {
            if stream.client_is_gone() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            steps += 1;
            match token {
                _ if !steps.is_multiple_of(STEPS_PER_KEEP_ALIVE) => {}
                Some(token) => stream.message(&format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{steps},"message":"Waiting for the user to sign in"}}}}"#
                ))?,
                None => stream.keep_alive()?,
            }
        }
        stream.message(&response(id, Ok(self.close(era, self.tools.waited(wait).members()))))
    }

    /// `subscriptions/listen`: the tools do not change while we run, so there is nothing to send but
    /// the acknowledgement, that nothing is watched (MCP 2026-07-28 subscriptions).
    fn subscription(&self, id: &RawValue, stream: &mut EventStream<'_>) -> io::Result<()> {
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
        stream.message(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{{meta},"notifications":{{}}}}}}"#
        ))?;
        let open = self.subscriptions.fetch_add(1, Ordering::AcqRel);
        let mut steps = 0_u32;
        while open < MOST_SUBSCRIPTIONS && !stream.is_stopping() && !stream.client_is_gone() {
            std::thread::sleep(STEP);
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_KEEP_ALIVE) && stream.keep_alive().is_err() {
                break;
            }
        }
        self.subscriptions.fetch_sub(1, Ordering::AcqRel);
        stream.message(&response(id, Ok(format!(r#""resultType":"complete",{meta}"#))))
    }
}

fn response(id: &RawValue, result: Result<String, RpcError>) -> String {
    match result {
        Ok(members) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{{members}}}}}"#),
        Err(error) => error.response(Some(id)),
    }
}

fn discovery() -> String {
    format!(
        r#""supportedVersions":{},"capabilities":{{"tools":{{}}}},"instructions":{}{CACHING}"#,
        json!(VERSIONS),
        quoted(INSTRUCTIONS)
    )
}

fn method_not_found(method: &str) -> RpcError {
    RpcError::new(METHOD_NOT_FOUND, format!("Method not found: {method}"))
}

fn progress_token(params: &Object<'_>) -> Option<Box<RawValue>> {
    let token = params.object("_meta")?.get("progressToken")?;
    jsonrpc::is_id(token).then(|| token.to_owned())
}

/// 415 for a body that is not JSON, 406 for a client that cannot take both kinds of answer (MCP
/// 2026-07-28 transports, "Sending Messages").
fn check_media_types(request: &Request<'_>) -> Result<(), Refused> {
    let refuse = |status, message: &str| Err(Refused(status, RpcError::new(INVALID_REQUEST, message)));
    let content_type = request.field("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    if !content_type.trim().eq_ignore_ascii_case("application/json") {
        return refuse(415, "Content-Type must be application/json.");
    }
    let accepts = |wanted: &str| {
        request.fields("accept").flat_map(|value| value.split(',')).any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media_range = parts.next().unwrap_or_default();
            let fits = media_range == "*/*"
                || media_range.eq_ignore_ascii_case(wanted)
                || media_range.strip_suffix("/*").is_some_and(|kind| wanted.split('/').next() == Some(kind));
            fits && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    };
    if accepts("application/json") && accepts("text/event-stream") {
        return Ok(());
    }
    refuse(406, "Accept must list application/json and text/event-stream.")
}

/// `MCP-Protocol-Version`, when it is there and spoken here.
fn check_version_header<'r>(request: &Request<'r>) -> Result<Option<&'r str>, Refused> {
    let mut values = request.fields("mcp-protocol-version");
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(version), None) if VERSIONS.contains(&version) => Ok(Some(version)),
        (Some(version), None) => Err(unsupported(version).into()),
        _ => Err(mismatch("MCP-Protocol-Version stands there twice.").into()),
    }
}

fn unsupported(requested: &str) -> RpcError {
    let data = json!({"supported": VERSIONS, "requested": requested}).to_string();
    RpcError { data: Some(data), ..RpcError::new(UNSUPPORTED_VERSION, "Unsupported protocol version") }
}

fn mismatch(message: impl Into<String>) -> RpcError {
    RpcError::new(HEADER_MISMATCH, message)
}

/// Which era the request is of; its metadata and headers are valid then.
fn era(request: &Request<'_>, method: &str, params: &Object<'_>) -> Result<Era, Refused> {
    let meta = params.object("_meta").unwrap_or_default();
    let declared = meta.get(VERSION_KEY);
    let header = request.field("mcp-protocol-version");
    if declared.is_none() && header != Some(MODERN) {
        // `initialize` begins a session, whichever one the client had before.
        let checked = if method == "initialize" {
            check_version_header(request).map(drop)
        } else {
            legacy_version(request).map(drop)
        };
        return checked.map(|()| Era::Legacy);
    }
    let invalid = |message: &str| RpcError::new(INVALID_PARAMS, message);
    let Some(version) = declared.and_then(jsonrpc::string) else {
        return Err(invalid(
            "_meta must name the protocol version as a string: io.modelcontextprotocol/protocolVersion.",
        )
        .into());
    };
    if meta.object(CAPABILITIES_KEY).is_none() {
        return Err(invalid("_meta must hold an object io.modelcontextprotocol/clientCapabilities.").into());
    }
    if header != Some(version.as_ref()) || request.fields("mcp-protocol-version").count() > 1 {
        return Err(mismatch("MCP-Protocol-Version does not match the version in _meta, or is missing.").into());
    }
    // A legacy revision has no per-request metadata; whoever sends it means `initialize` to come first.
    if version != MODERN {
        return Err(unsupported(&version).into());
    }
    if !request.fields("mcp-method").eq([method]) {
        return Err(mismatch("Mcp-Method does not match the method of the body, or is missing.").into());
    }
    if method == "tools/call" {
        let name = params.string("name").ok_or_else(|| invalid("tools/call needs the name of a tool."))?;
        let mirrored = request.field("mcp-name").map(decode_sentinel).transpose()?;
        if request.fields("mcp-name").count() > 1 || mirrored.as_deref() != Some(name.as_ref()) {
            return Err(mismatch("Mcp-Name does not match params.name, or is missing.").into());
        }
    }
    Ok(Era::Modern)
}

/// The legacy revision of a request: what the header says, else what the session id says, else the
/// one that had no header yet. A session id that is not of our making: 404, so that the client
/// initializes anew.
fn legacy_version(request: &Request<'_>) -> Result<&'static str, Refused> {
    let known = |version: &str| LEGACY.into_iter().find(|known| *known == version);
    let session = match request.field("mcp-session-id") {
        None => BATCHING,
        Some(session) => session.split('.').next().and_then(known).ok_or_else(|| {
            Refused(404, RpcError::new(INVALID_REQUEST, "This session is unknown. Initialize again."))
        })?,
    };
    Ok(check_version_header(request)?.and_then(known).unwrap_or(session))
}

/// The value of `Mcp-Name`: plain, or UTF-8 in Base64 between `=?base64?` and `?=` (MCP 2026-07-28
/// transports, "Value Encoding").
fn decode_sentinel(value: &str) -> Result<String, RpcError> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return if value.is_ascii() {
            Ok(value.to_owned())
        } else {
            Err(mismatch("Mcp-Name holds invalid characters."))
        };
    };
    let decoded = BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.ok_or_else(|| mismatch("Mcp-Name is not valid Base64 of UTF-8."))
}
