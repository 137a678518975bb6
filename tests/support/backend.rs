//! A stand-in for the user's API: takes only tokens that Entra vouches for, and records what came.

use super::entra::{Entra, Granted, TokenCheck, User};
use super::http::{Answer, Reply, Request, StandIn};
use super::{Gate, Hold, Pairs, lock, value_of};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

const MESSAGES: usize = 25;
/// One pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGPQrr4CAAJPAXsYZncXAAAA\
                   AElFTkSuQmCC";
/// `{"packed":true,"text":"grüße"}`
const GZIP: &str = "H4sIAAAAAAAC/6tWKkhMzk5NUbIqKSpN1VEqSa0oUbJSSi86vOfw/FSlWgBii1SvIAAAAA==";

/// What `/v1.0/write` wants of a token.
pub const WRITE_SCOPE: &str = "api://backend/write";

type Override = Arc<dyn Fn(&Request) -> Option<Answer> + Send + Sync>;

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    tasks: BTreeMap<u64, Task>,
    last_task: u64,
    hold: Option<Gate>,
    handler: Option<Override>,
    challenge: Option<Vec<String>>,
}

struct Task {
    fields: Map<String, Value>,
    version: u64,
}

pub struct Backend {
    server: StandIn,
    state: Arc<Mutex<State>>,
}

impl Backend {
    /// With no check, any bearer token will do and is Ada's.
    pub fn start(check: Option<TokenCheck>) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let for_handler = Arc::clone(&state);
        let server = StandIn::serve(move |request: &Request| {
            lock(&for_handler).requests.push(request.clone());
            let handler = lock(&for_handler).handler.clone();
            handler
                .and_then(|handler| handler(request))
                .unwrap_or_else(|| answer(&for_handler, check.as_ref(), request))
        });
        Self { server, state }
    }

    pub fn start_for(entra: &Entra) -> Self {
        Self::start(Some(entra.token_check()))
    }

    /// The value of `BACKEND_API_BASE_URL`.
    pub fn url(&self) -> String {
        format!("{}/v1.0", self.server.url())
    }

    /// `http://127.0.0.1:port`
    pub fn origin(&self) -> String {
        self.server.url()
    }

    /// Everything that arrived, refused or not.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    pub fn last(&self) -> Request {
        let last = lock(&self.state).requests.last().cloned();
        last.expect("a request")
    }

    /// Asked before anything else, the check of the token included; `None` leaves the request to
    /// the sample API.
    pub fn on(&self, handler: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        lock(&self.state).handler = Some(Arc::new(handler));
    }

    /// What `/v1.0/cae` says in `WWW-Authenticate` from now on, a line each.
    pub fn challenge_with(&self, lines: Vec<String>) {
        lock(&self.state).challenge = Some(lines);
    }

    /// `/v1.0/slow` waits until this is dropped.
    #[must_use]
    pub fn hold(&self) -> Hold {
        let gate = Gate::default();
        lock(&self.state).hold = Some(gate.clone());
        Hold(gate)
    }
}

/// What `/v1.0/cae` wants the claims of a token to contain.
pub fn cae_claims() -> Value {
    json!({ "access_token": { "acrs": { "essential": true, "value": "c1" } } })
}

/// The `WWW-Authenticate` line that asks for claims, as continuous access evaluation does.
pub fn claims_header(claims: &Value) -> String {
    let claims = STANDARD.encode(claims.to_string());
    format!(
        "Bearer realm=\"\", authorization_uri=\"https://evil.example/authorize\", \
         error=\"insufficient_claims\", claims=\"{claims}\""
    )
}

/// A 401 that asks for claims.
pub fn claims_challenge(claims: &Value) -> Reply {
    challenge(&[claims_header(claims)])
}

fn challenge(lines: &[String]) -> Reply {
    let reply = error(
        401,
        "InvalidAuthenticationToken",
        "Continuous access evaluation",
    );
    lines
        .iter()
        .fold(reply, |reply, line| reply.with("WWW-Authenticate", line))
}

fn cae(state: &Mutex<State>, granted: &Granted) -> Reply {
    if contains(&granted.claims, &cae_claims()) {
        return Reply::of_json(200, &json!({ "cae": true }));
    }
    let lines = lock(state).challenge.clone();
    challenge(&lines.unwrap_or_else(|| vec![claims_header(&cae_claims())]))
}

/// Whether every member that `wanted` has is in `given`, with the same value.
fn contains(given: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(members) => members
            .iter()
            .all(|(name, wanted)| given.get(name).is_some_and(|given| contains(given, wanted))),
        None => given == wanted,
    }
}

fn write(granted: &Granted) -> Reply {
    if granted.scope.contains(WRITE_SCOPE) {
        return Reply::of_json(200, &json!({ "written": true }));
    }
    let line = format!("Bearer error=\"insufficient_scope\", scope=\"{WRITE_SCOPE}\"");
    error(
        403,
        "Authorization_RequestDenied",
        "Insufficient privileges.",
    )
    .with("WWW-Authenticate", &line)
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": message } });
    Reply::of_json(status, &body).with("request-id", "00000000-feed-4bee-8bee-000000000000")
}

fn answer(state: &Mutex<State>, check: Option<&TokenCheck>, request: &Request) -> Answer {
    let token = request.header("Authorization").unwrap_or_default();
    let granted = match (token.strip_prefix("Bearer "), check) {
        (Some(token), Some(check)) => check(token),
        (Some(_), None) => Some(Granted {
            user: User::ada(),
            scope: BTreeSet::new(),
            claims: json!({}),
        }),
        (None, _) => None,
    };
    let Some(granted) = granted else {
        return error(
            401,
            "InvalidAuthenticationToken",
            "Access token is empty or invalid.",
        )
        .with(
            "WWW-Authenticate",
            "Bearer realm=\"\", error=\"invalid_token\"",
        )
        .into();
    };
    let Some(path) = request.path.strip_prefix("/v1.0/") else {
        return error(404, "NotFound", "The API lives below /v1.0.").into();
    };
    if path == "slow" {
        let hold = lock(state).hold.clone();
        if let Some(gate) = hold {
            gate.pass(); // with the lock free
        }
        return Reply::of_json(200, &json!({ "slow": true })).into();
    }
    match path.split_once('/') {
        None if path == "cae" => cae(state, &granted),
        None if path == "write" => write(&granted),
        None if path == "tasks" => tasks(&mut lock(state), request),
        Some(("tasks", id)) => task(&mut lock(state), request, id),
        Some(("status", code)) => status(code, request),
        _ if request.method == "GET" || request.method == "HEAD" || path == "echo" => {
            sample(path, &granted.user, request)
        }
        _ => error(405, "MethodNotAllowed", "Read only.").with("Allow", "GET, HEAD"),
    }
    .into()
}

fn sample(path: &str, user: &User, request: &Request) -> Reply {
    let query = |name| value_of(&request.query, name);
    let number = |name, default| query(name).map_or(default, |n| n.parse().unwrap_or(default));
    match path {
        "me" => Reply::of_json(
            200,
            &json!({
                "id": user.oid,
                "displayName": user.name,
                "userPrincipalName": user.username,
                "mail": user.email,
            }),
        ),
        "me/messages" => messages(number("$top", 10), number("$skiptoken", 0), request),
        "photo" => Reply::new(200, "image/png", STANDARD.decode(PNG).unwrap()),
        "report.csv" => {
            let csv = "quarter,revenue\r\nQ1,100\r\nQ2,\"1,250\"\r\n";
            Reply::new(200, "text/csv; charset=utf-8", csv)
        }
        "binary" => {
            let bytes: Vec<u8> = (0..=255).collect();
            Reply::new(200, "application/octet-stream", bytes)
        }
        "gzip" => {
            let packed = STANDARD.decode(GZIP).unwrap();
            Reply::new(200, "application/json", packed).with("Content-Encoding", "gzip")
        }
        "large" => {
            let bytes = number("bytes", 2 << 20).max(2);
            let body = format!("\"{}\"", "x".repeat(bytes - 2));
            let reply = Reply::new(200, "application/json", body);
            match query("chunked") {
                Some(_) => reply.with("Transfer-Encoding", "chunked"),
                None => reply,
            }
        }
        "redirect" => Reply::empty(302).with("Location", query("to").unwrap_or("/v1.0/me")),
        "echo" => Reply::of_json(200, &echo(request)),
        "empty" => Reply::empty(204),
        _ => error(404, "ResourceNotFound", "There is no such resource."),
    }
}

fn messages(top: usize, skip: usize, request: &Request) -> Reply {
    let end = MESSAGES.min(skip.saturating_add(top.max(1)));
    let message = |n: usize| {
        json!({
            "id": format!("message-{n}"),
            "subject": format!("Message {n} of {MESSAGES}"),
            "from": { "emailAddress": { "address": format!("sender{n}@contoso.example") } },
        })
    };
    let mut body = json!({ "value": (skip + 1..=end).map(message).collect::<Vec<_>>() });
    if end < MESSAGES {
        let link = format!(
            "{}/v1.0/me/messages?$top={top}&$skiptoken={end}",
            request.origin
        );
        body["@odata.nextLink"] = json!(link);
    }
    Reply::of_json(200, &body)
}

/// The request as it came, but for the token: an echo must not hand it to whoever asks.
fn echo(request: &Request) -> Value {
    let headers: Pairs = request
        .headers
        .iter()
        .map(|(name, value)| {
            let secret = name.eq_ignore_ascii_case("Authorization");
            let value = if secret { "(withheld)" } else { value };
            (name.to_lowercase(), value.to_owned())
        })
        .collect();
    json!({
        "method": request.method,
        "target": request.target,
        "query": request.query,
        "headers": headers.into_iter().collect::<BTreeMap<_, _>>(),
        "body": String::from_utf8_lossy(&request.body),
    })
}

fn status(code: &str, request: &Request) -> Reply {
    let Ok(code @ 200..=599) = code.parse() else {
        return error(400, "BadRequest", "Not a status.");
    };
    let reply = error(code, &format!("Status{code}"), "As you wished.");
    match code {
        429 | 503 => {
            let seconds = value_of(&request.query, "retry_after").unwrap_or("1");
            reply.with("Retry-After", seconds)
        }
        401 => reply.with("WWW-Authenticate", "Bearer realm=\"\""),
        _ => reply,
    }
}

fn tasks(state: &mut State, request: &Request) -> Reply {
    match request.method.as_str() {
        "GET" => {
            let all: Vec<_> = state.tasks.values().map(|task| &task.fields).collect();
            Reply::of_json(200, &json!({ "value": all }))
        }
        "POST" => {
            let Some(fields) = object(request) else {
                return error(400, "BadRequest", "The body must be a JSON object.");
            };
            state.last_task += 1;
            let id = state.last_task;
            let mut task = Task { fields, version: 0 };
            let reply = task.changed(201, id);
            state.tasks.insert(id, task);
            reply.with("Location", &format!("{}/v1.0/tasks/{id}", request.origin))
        }
        _ => error(405, "MethodNotAllowed", "GET or POST.").with("Allow", "GET, POST"),
    }
}

impl Task {
    fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }

    fn reply(&self, status: u16) -> Reply {
        Reply::of_json(status, &json!(self.fields)).with("ETag", &self.etag())
    }

    fn changed(&mut self, status: u16, id: u64) -> Reply {
        self.version += 1;
        self.fields.insert("id".to_owned(), json!(id.to_string()));
        self.reply(status)
    }
}

fn object(request: &Request) -> Option<Map<String, Value>> {
    serde_json::from_slice(&request.body).ok()
}

fn task(state: &mut State, request: &Request, id: &str) -> Reply {
    let id: u64 = id.parse().unwrap_or_default();
    let Some(task) = state.tasks.get_mut(&id) else {
        return error(404, "ResourceNotFound", "There is no such task.");
    };
    let expected = request.header("If-Match").unwrap_or("*");
    if expected != "*" && expected != task.etag() {
        return error(412, "PreconditionFailed", "The ETag does not match.");
    }
    match (request.method.as_str(), object(request)) {
        ("GET", _) => task.reply(200),
        ("DELETE", _) => {
            state.tasks.remove(&id);
            Reply::empty(204)
        }
        ("PUT", Some(fields)) => {
            task.fields = fields;
            task.changed(200, id)
        }
        ("PATCH", Some(fields)) => {
            task.fields.extend(fields);
            task.changed(200, id)
        }
        ("PUT" | "PATCH", None) => error(400, "BadRequest", "The body must be a JSON object."),
        _ => error(405, "MethodNotAllowed", "No.").with("Allow", "GET, PUT, PATCH, DELETE"),
    }
}
