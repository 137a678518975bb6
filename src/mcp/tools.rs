//! The tools: what `tools.json` describes, done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json, value::RawValue};
use ureq::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::jsonrpc::{Object, read};
use super::protocol::VERSIONS;
use super::schema;
use super::tool_result::{self, add};
use crate::backend::{self, Backend, Call};
use crate::clock::iso8601_seconds;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::media_type;
use crate::sign_in::SignIn;
use crate::token_cache::Account;

/// The account of a person who does not say a name.
pub(crate) const DEFAULT_USER_ID: &str = "default";

const NOT_FOLLOWED: &str =
    "The API answered with a redirect, which is not followed: the token goes below the base URL only.";

/// What a call leads to.
pub(super) enum Called {
    /// The members of the result.
    Done(String),
    /// The result can be had when a sign-in has ended, or at the latest at the deadline.
    Wait(Wait),
}

/// Waiting for a sign-in to end.
pub(super) struct Wait {
    user_id: Option<String>,
    since: Instant,
    deadline: Instant,
}

/// The tools of one server.
pub(crate) struct Tools {
    config: Arc<Config>,
    sign_in: Arc<SignIn>,
    backend: Option<Backend>,
    started: Instant,
    /// Name, title, description, schemas and annotations of every tool.
    definitions: Value,
    /// The same as `tools/list` gives it, printed once.
    pub(super) list: String,
}

impl Tools {
    /// The tools that act through `sign_in`.
    pub(crate) fn new(config: Arc<Config>, sign_in: Arc<SignIn>) -> Self {
        let definitions: Value = serde_json::from_str(include_str!("tools.json")).unwrap_or_default();
        Self {
            backend: config.backend.clone().map(|base| Backend::new(base, config.max_response_bytes)),
            started: Instant::now(),
            list: definitions.to_string(),
            definitions,
            config,
            sign_in,
        }
    }

    /// Calls the tool `name`; `None` when there is none of that name.
    pub(super) fn call(&self, name: &str, arguments: &Object<'_>) -> Option<Called> {
        let is_meant = |tool: &&Value| tool.get("name").is_some_and(|known| known == name);
        let definition = self.definitions.as_array()?.iter().find(is_meant)?;
        if let Err(reason) = schema::check(definition.get("inputSchema")?, arguments) {
            let failure = Failure::new(Kind::InvalidRequest, reason).hint("Correct the arguments and call again.");
            return Some(Called::Done(tool_result::of(Err(failure))));
        }
        let user_id = arguments.read::<String>("user_id");
        let user_id = user_id.as_deref();
        let result = match name {
            "ping" => Ok(json!({"message": "pong"})),
            "get_server_info" => self.server_info(),
            "authenticate_user" => self.authenticate(user_id.unwrap_or_default()),
            "check_auth_status" => match self.awaited(user_id, arguments) {
                Some(wait) => return Some(Called::Wait(wait)),
                None => self.status(user_id),
            },
            "view_userid" => self.user_ids(),
            "logout_user" => self.sign_out(user_id),
            _ => {
                let method = name.strip_prefix("api_")?.strip_suffix("_request")?.to_ascii_uppercase();
                let result = self.call_api(&method, user_id, arguments);
                return Some(Called::Done(result.unwrap_or_else(|failure| self.api_failure(failure, user_id))));
            }
        };
        Some(Called::Done(tool_result::of(result)))
    }

    fn server_info(&self) -> Result<Value, Failure> {
        Ok(json!({
            "name": "entra-auth-mcp",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol_versions": VERSIONS,
            "tenant": self.config.authority.tenant().segment(),
            "client_id": self.config.client_id,
            "authority": self.config.authority.origin(),
            "backend_base_url": self.config.backend.as_ref().map(url::Url::as_str),
            "scopes": self.config.scopes.requested(),
            "redirect_uri": self.config.redirect_uri.text.as_str(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "accounts": self.sign_in.accounts()?.len(),
        }))
    }

    fn authenticate(&self, user_id: &str) -> Result<Value, Failure> {
        let accounts = self.sign_in.accounts()?;
        if let Some(account) = accounts.get(user_id).filter(|account| self.sign_in.is_signed_in(account)) {
            let message = format!("{user_id} is already signed in. To sign in anew, call logout_user first.");
            let mut status = self.describe(user_id, account);
            add(&mut status, "already_signed_in", Some(true));
            add(&mut status, "message", Some(message));
            return Ok(status);
        }
        let attempt = self.sign_in.offer(user_id)?;
        let link = self.sign_in.link(&attempt);
        Ok(json!({
            "user_id": user_id,
            "authenticated": false,
            "already_signed_in": false,
            "sign_in_url": link,
            "auth_url": link,
            "link_expires_at": iso8601_seconds(attempt.expires_at),
            "link_expires_in_seconds": attempt.expires_at.saturating_sub(self.sign_in.now()),
            "message": "Show the user sign_in_url and ask them to open it in their browser and sign in. \
                        Then call check_auth_status with wait_seconds to learn when they have finished.",
        }))
    }

    /// The pending sign-in that a call wants to see ended before it is answered.
    fn awaited(&self, user_id: Option<&str>, arguments: &Object<'_>) -> Option<Wait> {
        let seconds = Duration::try_from_secs_f64(arguments.read("wait_seconds")?).ok()?;
        let since = Instant::now();
        let is_worth_it = !seconds.is_zero() && self.sign_in.pending().is_pending(user_id, self.sign_in.now());
        is_worth_it.then(|| Wait { user_id: user_id.map(str::to_owned), since, deadline: since + seconds })
    }

    /// Waits at most `step`; `true` when there is nothing more to wait for.
    pub(super) fn wait(&self, wait: &Wait, step: Duration) -> bool {
        let left = wait.deadline.saturating_duration_since(Instant::now());
        let now = || self.sign_in.now();
        left.is_zero() || self.sign_in.pending().wait(wait.user_id.as_deref(), wait.since, step.min(left), now)
    }

    /// The result of a call that waited.
    pub(super) fn waited(&self, wait: &Wait) -> String {
        tool_result::of(self.status(wait.user_id.as_deref()))
    }

    /// What is known of `user_id`, signed in or not; without one, of every account.
    ///
    /// # Errors
    /// The token file cannot be read.
    pub(crate) fn status(&self, user_id: Option<&str>) -> Result<Value, Failure> {
        let accounts = self.sign_in.accounts()?;
        let mut status = match user_id.map(|user_id| (user_id, accounts.get(user_id))) {
            Some((user_id, Some(account))) => self.describe(user_id, account),
            Some((user_id, None)) => json!({"user_id": user_id, "authenticated": false, "has_token": false}),
            None => json!({
                "authenticated": accounts.values().any(|account| self.sign_in.is_signed_in(account)),
                "accounts": accounts.iter().map(|(id, account)| self.describe(id, account)).collect::<Vec<_>>(),
            }),
        };
        let (pending, now) = (self.sign_in.pending(), self.sign_in.now());
        add(&mut status, "pending_sign_in", Some(pending.is_pending(user_id, now)));
        let failure = user_id.and_then(|user_id| pending.last_failure(user_id, now));
        add(&mut status, "last_sign_in_error", failure.map(|failure| failure.text()));
        Ok(status)
    }

    fn describe(&self, user_id: &str, account: &Account) -> Value {
        json!({
            "user_id": user_id,
            "authenticated": self.sign_in.is_signed_in(account),
            "has_token": !account.access_token.expose().is_empty(),
            "username": account.username,
            "display_name": account.name,
            "tenant_id": account.tid,
            "scopes": account.granted_scope.split_whitespace().collect::<Vec<_>>(),
            "expires_at": iso8601_seconds(account.expires_at),
            "expires_in_seconds": account.expires_at.saturating_sub(self.sign_in.now()),
            "can_refresh": account.refresh_token.is_some(),
        })
    }

    fn user_ids(&self) -> Result<Value, Failure> {
        let user_ids: Vec<String> = self.sign_in.accounts()?.into_keys().collect();
        let only = if let [only] = user_ids.as_slice() { Some(only) } else { None };
        Ok(json!({"user_id": only, "user_ids": user_ids}))
    }

    fn sign_out(&self, user_id: Option<&str>) -> Result<Value, Failure> {
        let user_id = self.sign_in.sign_out(user_id)?;
        Ok(json!({
            "user_id": user_id,
            "logout_url": self.config.authority.endpoint("logout").as_str(),
            "message": format!("The tokens of {user_id} are forgotten, on disk and in memory. Tokens that were already issued \
                                live on until they expire. To end the browser's own session with Microsoft, open logout_url."),
        }))
    }

    fn call_api(&self, method: &str, user_id: Option<&str>, arguments: &Object<'_>) -> Result<String, Failure> {
        let backend = self.backend.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, "This server has no API to call: BACKEND_API_BASE_URL is not set.")
                .hint("Ask whoever runs it to set BACKEND_API_BASE_URL (and CUSTOM_API_SCOPE) and to start it again.")
        })?;
        // Everything is checked before a token is touched.
        let endpoint: String = arguments.read("endpoint").unwrap_or_default();
        let target = backend.target(&endpoint, &parameters(arguments))?;
        let mut headers = backend::headers(&arguments.read("headers").unwrap_or_default())?;
        let body = arguments.get("data").map(|data| request_body(data, &mut headers)).transpose()?;
        let account = self.sign_in.acquire(user_id)?;
        backend.send(Call { method, target, headers, body }, &account.access_token).map(api_result)
    }

    /// Why there is no answer of the API; where a sign-in is what is wanted, with the link to it.
    fn api_failure(&self, failure: Failure, user_id: Option<&str>) -> String {
        let user_id = self.sign_in.choose(user_id);
        let begin = || self.sign_in.offer(user_id.as_deref().unwrap_or(DEFAULT_USER_ID)).ok();
        let Some(attempt) = (failure.kind == Kind::SignInRequired).then(begin).flatten() else {
            return tool_result::of(Err(failure));
        };
        let link = self.sign_in.link(&attempt);
        let hint = format!(
            "{} Show the user this link and ask them to sign in there: {link} Then call check_auth_status with \
             wait_seconds, and repeat this call.",
            failure.hint
        );
        tool_result::of_failure(&failure.hint(hint.trim()), Some(&link))
    }
}

/// JSON goes as it was written, with its own media type; a string with a given `Content-Type` as
/// its text.
fn request_body(data: &RawValue, headers: &mut HeaderMap) -> Result<Vec<u8>, Failure> {
    let content_type = headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    let media_type = media_type::essence(content_type.to_str().unwrap_or_default());
    if media_type::is_json(&media_type) {
        return Ok(data.get().into());
    }
    read(data).map(String::into_bytes).ok_or_else(|| {
        Failure::new(Kind::InvalidRequest, format!("data must be a string to be sent as {media_type}."))
            .hint("Leave out Content-Type to send it as JSON.")
    })
}

/// `params` as the pairs of a query; an array repeats its key.
fn parameters(arguments: &Object<'_>) -> Vec<(String, String)> {
    let params: Object<'_> = arguments.read("params").unwrap_or_default();
    let scalar = |raw: &RawValue| read(raw).unwrap_or_else(|| raw.get().to_owned());
    let pairs = params.0.into_iter().flat_map(|(name, value)| {
        let items = read(value).unwrap_or_else(|| vec![value]);
        items.into_iter().map(move |item| (name.clone(), scalar(item)))
    });
    pairs.collect()
}

fn api_result(reply: backend::Reply) -> String {
    let (error, message) = match reply.status {
        ..300 | 304 => (None, None),
        300..400 => (Some("redirect"), Some(NOT_FOLLOWED.to_owned())),
        400.. => (Some("http_error"), Some(format!("The API answered with status {}.", reply.status))),
    };
    let mut members = json!({
        "success": error.is_none(),
        "status": reply.status,
        "endpoint": reply.endpoint,
        "content_type": reply.content_type,
        "truncated": reply.truncated.is_some(),
    });
    add(&mut members, "total_bytes", reply.truncated);
    add(&mut members, "error", error);
    add(&mut members, "message", message);
    add(&mut members, "hint", status_hint(reply.status));
    add(&mut members, "redirect_target", reply.headers.get("location").filter(|_| error == Some("redirect")).cloned());
    add(&mut members, "headers", Some(reply.headers));
    // The body stands last and as it came: it is not read into a tree.
    let mut structured = members.to_string();
    structured.pop();
    structured.extend([",\"data\":", &reply.data, "}"]);
    let image = reply.image.as_ref();
    let picture = image.map(|(media_type, _)| format!("The image at {} ({media_type}).", reply.endpoint));
    tool_result::content(picture.as_ref().unwrap_or(&structured), &structured, image, error.is_some())
}

fn status_hint(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("The API does not accept the token: check that CUSTOM_API_SCOPE belongs to this API."),
        403 => Some("The API knows the user and refuses: the account lacks a permission, or CUSTOM_API_SCOPE a scope."),
        429 | 503 => Some("Wait as long as retry-after says, then call again."),
        _ => None,
    }
}
