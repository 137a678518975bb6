//! The tools: what `tools.json` describes, done.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::jsonrpc::{Object, string};
use super::protocol::VERSIONS;
use super::schema;
use super::tool_result::ToolResult;
use crate::backend::{self, Backend, Call};
use crate::clock::iso8601_seconds;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::sign_in::SignIn;
use crate::token_cache::Account;

/// Name, title, description, schemas and annotations of every tool, in the order of `tools/list`.
const DEFINITIONS: &str = include_str!("tools.json");

/// What a call leads to.
pub enum Called {
    /// The result.
    Done(ToolResult),
    /// The result can be had when a sign-in has ended, or at the latest at the deadline.
    Wait(Wait),
}

/// Waiting for a sign-in to end.
pub struct Wait {
    user_id: Option<String>,
    ended: u64,
    deadline: Instant,
}

/// The tools of one server.
pub struct Tools {
    config: Arc<Config>,
    sign_in: Arc<SignIn>,
    backend: Option<Backend>,
    started: Instant,
    definitions: String,
    schemas: HashMap<String, Value>,
}

impl Tools {
    /// The tools that act through `sign_in`.
    #[must_use]
    pub fn new(config: Arc<Config>, sign_in: Arc<SignIn>) -> Self {
        let definitions: Vec<Value> = serde_json::from_str(DEFINITIONS).unwrap_or_default();
        let schemas = definitions.into_iter().filter_map(|mut tool| {
            let name = tool.get("name")?.as_str()?.to_owned();
            Some((name, tool.get_mut("inputSchema")?.take()))
        });
        Self {
            backend: config.backend.clone().map(|base| Backend::new(base, config.max_response_bytes)),
            started: Instant::now(),
            definitions: minified(DEFINITIONS),
            schemas: schemas.collect(),
            config,
            sign_in,
        }
    }

    /// The JSON array that `tools/list` gives.
    #[must_use]
    pub fn definitions(&self) -> &str {
        &self.definitions
    }

    /// Calls the tool `name`; `None` when there is none of that name.
    #[must_use]
    pub fn call(&self, name: &str, arguments: &Object<'_>) -> Option<Called> {
        let schema = self.schemas.get(name)?;
        if let Err(reason) = schema::check(schema, arguments) {
            let failure = Failure::new(Kind::InvalidRequest, reason).hint("Correct the arguments and call again.");
            return Some(Called::Done(ToolResult::failure(&failure, json!({}))));
        }
        let user_id = arguments.string("user_id");
        let user_id = user_id.as_deref();
        let result = match name {
            "ping" => Ok(ToolResult::success(json!({"message": "pong"}))),
            "get_server_info" => self.server_info(),
            "authenticate_user" => self.authenticate(user_id.unwrap_or_default()),
            "check_auth_status" => return Some(self.check_status(user_id, arguments)),
            "view_userid" => self.view_user_ids(),
            "logout_user" => self.sign_out(user_id),
            "api_get_request" => self.api("GET", user_id, arguments),
            "api_post_request" => self.api("POST", user_id, arguments),
            "api_put_request" => self.api("PUT", user_id, arguments),
            "api_patch_request" => self.api("PATCH", user_id, arguments),
            "api_delete_request" => self.api("DELETE", user_id, arguments),
            _ => return None,
        };
        Some(Called::Done(result.unwrap_or_else(|failure| self.failed(&failure, user_id))))
    }

    /// A failure; where a sign-in is what is wanted, with the link to it.
    fn failed(&self, failure: &Failure, user_id: Option<&str>) -> ToolResult {
        let offer = (failure.kind == Kind::SignInRequired).then(|| self.sign_in.begin(user_id.unwrap_or("default")));
        let Some(Ok(offer)) = offer else {
            return ToolResult::failure(failure, json!({}));
        };
        let link = self.sign_in.link(&offer);
        let failure = failure.clone().hint(format!(
            "{} Show the user this link and ask them to sign in there: {link} Then call check_auth_status with wait_seconds, and repeat this call.",
            failure.hint
        ).trim());
        ToolResult::failure(&failure, json!({"sign_in_url": link}))
    }

    fn server_info(&self) -> Result<ToolResult, Failure> {
        let config = &self.config;
        Ok(ToolResult::success(json!({
            "name": "entra-auth-mcp",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol_versions": VERSIONS,
            "tenant": config.authority.tenant().segment(),
            "client_id": config.client_id,
            "authority": config.authority.origin(),
            "backend_base_url": config.backend.as_ref().map(url::Url::as_str),
            "scopes": config.scopes.requested(),
            "redirect_uri": config.redirect_uri().text.as_str(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "accounts": self.sign_in.accounts()?.len(),
        })))
    }

    fn authenticate(&self, user_id: &str) -> Result<ToolResult, Failure> {
        let accounts = self.sign_in.accounts()?;
        if let Some(account) = accounts.get(user_id).filter(|account| self.sign_in.is_signed_in(account)) {
            let mut status = self.describe(user_id, account);
            status["already_signed_in"] = true.into();
            status["message"] =
                format!("{user_id} is already signed in. To sign in anew, call logout_user first.").into();
            return Ok(ToolResult::success(status));
        }
        let offer = self.sign_in.begin(user_id)?;
        let link = self.sign_in.link(&offer);
        Ok(ToolResult::success(json!({
            "user_id": user_id,
            "authenticated": false,
            "already_signed_in": false,
            "sign_in_url": link,
            "auth_url": link,
            "link_expires_at": iso8601_seconds(offer.expires_at),
            "link_expires_in_seconds": offer.expires_at.saturating_sub(self.sign_in.now()),
            "message": "Show the user sign_in_url and ask them to open it in their browser and sign in. \
                        Then call check_auth_status with wait_seconds to learn when they have finished.",
        })))
    }

    fn check_status(&self, user_id: Option<&str>, arguments: &Object<'_>) -> Called {
        let seconds = arguments.get("wait_seconds").and_then(|seconds| seconds.get().parse().ok()).unwrap_or(0);
        let pending = self.sign_in.pending();
        let ended = pending.ended();
        if seconds > 0 && pending.is_pending(user_id, self.sign_in.now()) {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            return Called::Wait(Wait { user_id: user_id.map(str::to_owned), ended, deadline });
        }
        Called::Done(self.status(user_id))
    }

    /// Waits at most `step`; `true` when there is nothing more to wait for.
    #[must_use]
    pub fn wait(&self, wait: &Wait, step: Duration) -> bool {
        let left = wait.deadline.saturating_duration_since(Instant::now());
        let now = || self.sign_in.now();
        left.is_zero() || self.sign_in.pending().wait(wait.user_id.as_deref(), wait.ended, step.min(left), now)
    }

    /// The result of a call that waited.
    #[must_use]
    pub fn waited(&self, wait: &Wait) -> ToolResult {
        self.status(wait.user_id.as_deref())
    }

    fn status(&self, user_id: Option<&str>) -> ToolResult {
        let members = match user_id {
            Some(user_id) => self.status_of(user_id),
            None => self.status_of_all(),
        };
        members.map_or_else(|failure| ToolResult::failure(&failure, json!({})), ToolResult::success)
    }

    fn is_pending(&self, user_id: Option<&str>) -> bool {
        self.sign_in.pending().is_pending(user_id, self.sign_in.now())
    }

    /// What is known of `user_id`, signed in or not.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn status_of(&self, user_id: &str) -> Result<Value, Failure> {
        let accounts = self.sign_in.accounts()?;
        let mut status = match accounts.get(user_id) {
            Some(account) => self.describe(user_id, account),
            None => json!({"user_id": user_id, "authenticated": false, "has_token": false}),
        };
        status["pending_sign_in"] = self.is_pending(Some(user_id)).into();
        if let Some(failure) = self.sign_in.pending().last_failure(user_id, self.sign_in.now()) {
            status["last_sign_in_error"] = failure.text().into();
        }
        Ok(status)
    }

    /// What is known of every account.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub fn status_of_all(&self) -> Result<Value, Failure> {
        let accounts = self.sign_in.accounts()?;
        let all: Vec<Value> = accounts.iter().map(|(user_id, account)| self.describe(user_id, account)).collect();
        let any = accounts.values().any(|account| self.sign_in.is_signed_in(account));
        Ok(json!({"authenticated": any, "accounts": all, "pending_sign_in": self.is_pending(None)}))
    }

    fn describe(&self, user_id: &str, account: &Account) -> Value {
        json!({
            "user_id": user_id,
            "authenticated": self.sign_in.is_signed_in(account),
            "has_token": true,
            "username": account.username,
            "display_name": account.name,
            "tenant_id": account.tid,
            "scopes": account.granted_scope.split_whitespace().collect::<Vec<_>>(),
            "expires_at": iso8601_seconds(account.expires_at),
            "expires_in_seconds": account.expires_at.saturating_sub(self.sign_in.now()),
            "can_refresh": account.refresh_token.is_some(),
        })
    }

    fn view_user_ids(&self) -> Result<ToolResult, Failure> {
        let user_ids: Vec<String> = self.sign_in.accounts()?.into_keys().collect();
        let only = if let [only] = user_ids.as_slice() { Some(only.clone()) } else { None };
        Ok(ToolResult::success(json!({"user_id": only, "user_ids": user_ids})))
    }

    fn sign_out(&self, user_id: Option<&str>) -> Result<ToolResult, Failure> {
        let user_id = self.sign_in.sign_out(user_id)?;
        Ok(ToolResult::success(json!({
            "user_id": user_id,
            "logout_url": self.sign_in.logout_url().as_str(),
            "message": format!("The tokens of {user_id} are forgotten, on disk and in memory. Tokens that were already issued \
                                live on until they expire. To end the browser's own session with Microsoft, open logout_url."),
        })))
    }

    fn api(&self, method: &'static str, user_id: Option<&str>, arguments: &Object<'_>) -> Result<ToolResult, Failure> {
        let backend = self.backend.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, "This server has no API to call: BACKEND_API_BASE_URL is not set.")
                .hint("Ask whoever runs it to set BACKEND_API_BASE_URL (and CUSTOM_API_SCOPE) and to start it again.")
        })?;
        // Everything is checked before a token is touched.
        let target = backend.target(&arguments.string("endpoint").unwrap_or_default(), &parameters(arguments))?;
        let given = arguments.object("headers").unwrap_or_default();
        let mut headers = backend::headers(given.members().filter_map(|(name, value)| Some((name, string(value)?))))?;
        let body = arguments.get("data").map(|data| request_body(data, &mut headers)).transpose()?;
        let account = self.sign_in.acquire(user_id)?;
        let reply = backend.send(Call { method, target, headers, body }, &account.access_token)?;
        Ok(api_result(reply))
    }
}

/// JSON goes as it was written, with its own media type; a string with a given `Content-Type` as
/// its text.
fn request_body<'a>(data: &'a RawValue, headers: &mut Vec<backend::Header>) -> Result<Cow<'a, [u8]>, Failure> {
    let content_type =
        headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.to_str().unwrap_or_default());
    let Some(content_type) = content_type else {
        headers.push(backend::json_content_type());
        return Ok(Cow::Borrowed(data.get().as_bytes()));
    };
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media_type == "application/json" || media_type.ends_with("+json") {
        return Ok(Cow::Borrowed(data.get().as_bytes()));
    }
    match string(data) {
        Some(text) => Ok(Cow::Owned(text.into_owned().into_bytes())),
        None => Err(Failure::new(Kind::InvalidRequest, format!("data must be a string to be sent as {media_type}."))
            .hint("Leave out Content-Type to send it as JSON.")),
    }
}

/// `params` as the pairs of a query, in the order given; an array repeats its key.
fn parameters(arguments: &Object<'_>) -> Vec<(String, String)> {
    let params = arguments.object("params").unwrap_or_default();
    let scalar = |raw: &RawValue| string(raw).map_or_else(|| raw.get().to_owned(), Cow::into_owned);
    let mut pairs = Vec::new();
    for (name, value) in params.members() {
        match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
            Ok(items) => pairs.extend(items.into_iter().map(|item| (name.to_owned(), scalar(item)))),
            Err(_) => pairs.push((name.to_owned(), scalar(value))),
        }
    }
    pairs
}

fn api_result(reply: backend::Reply) -> ToolResult {
    let is_redirect = (300..400).contains(&reply.status) && reply.status != 304;
    let success = reply.status < 400 && !is_redirect;
    let mut members = json!({
        "success": success,
        "status": reply.status,
        "endpoint": reply.endpoint,
        "content_type": reply.content_type,
        "headers": reply.headers,
        "truncated": reply.truncated.is_some(),
    });
    if let Some(total) = reply.truncated {
        members["total_bytes"] = total.into();
    }
    if is_redirect {
        members["error"] = "redirect".into();
        members["redirect_target"] = reply.headers.get("location").cloned().unwrap_or_default();
        members["message"] =
            "The API answered with a redirect, which is not followed: the token goes below the base URL only.".into();
    } else if !success {
        members["error"] = "http_error".into();
        members["message"] = format!("The API answered with status {}.", reply.status).into();
    }
    if let Some(hint) = status_hint(reply.status) {
        members["hint"] = hint.into();
    }
    // The body stands last and as it came: it is not read into a tree.
    let mut structured = members.to_string();
    structured.pop();
    structured.push_str(",\"data\":");
    structured.push_str(&reply.data);
    structured.push('}');
    let text = match &reply.image {
        Some((media_type, _)) => format!("The image at {} ({media_type}).", reply.endpoint),
        None => structured.clone(),
    };
    ToolResult { text, structured, image: reply.image, is_error: !success }
}

fn status_hint(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("The API does not accept the token: check that CUSTOM_API_SCOPE belongs to this API."),
        403 => Some("The API knows the user and refuses: the account lacks a permission, or CUSTOM_API_SCOPE a scope."),
        429 | 503 => Some("Wait as long as retry-after says, then call again."),
        _ => None,
    }
}

/// JSON without the white space between its tokens.
fn minified(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let is_kept = in_string || !c.is_whitespace();
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = *c == '\\' && !escaped;
        is_kept
    };
    json.chars().filter(keep).collect()
}
