//! The tools: what `tools.json` describes, done.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json, value::RawValue};
use ureq::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::elicitation::{self, Action, Elicitation, Manner, Returned, Seal};
use super::jsonrpc::{Object, RpcError, read};
use super::protocol::VERSIONS;
use super::schema;
use super::tool_result::{self, add};
use crate::audit::{Entry, Event};
use crate::backend::{self, Backend, Call, Content, NextPage};
use crate::clock::iso8601_seconds;
use crate::config::{Config, SignInMethod};
use crate::device_sign_in::DeviceSignIn;
use crate::error::{Failure, Kind};
use crate::files::{Files, Watch};
use crate::media_type;
use crate::oauth::aadsts::{self, Advice};
use crate::oauth::authorize::{Demand, Prompt};
use crate::oauth::claims_challenge::{Challenge, Claims};
use crate::pending::{Attempt, Way};
use crate::select::Selection;
use crate::sign_in::{PAUSE, SignIn};
use crate::token_cache::Account;

/// The account of a person who does not say a name.
pub(crate) const DEFAULT_USER_ID: &str = "default";

const REDIRECT: &str = "redirect";
const NOT_FOLLOWED: &str =
    "The API answered with a redirect, which is not followed: the token goes below the base URL only.";

/// A call of a tool.
pub(super) struct ToolCall<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a Object<'a>,
    /// What the client calls itself.
    pub(super) client: &'a str,
    /// How the client has a person sign in.
    pub(super) manner: Manner,
    /// What came of asking for a sign-in before.
    pub(super) returned: Option<Returned>,
    /// Whether it can still become a stream.
    pub(super) turn: Turn<'a>,
}

/// Which time it is that a call is made.
#[derive(Clone, Copy)]
pub(super) enum Turn<'a> {
    /// It may be put off until there is a stream, and a wait is over.
    First,
    /// It is answered, and what it moves is watched.
    Last(Watch<'a>),
}

impl Turn<'_> {
    pub(super) fn is_last(self) -> bool {
        matches!(self, Self::Last(_))
    }
}

/// What a call leads to.
pub(super) enum Called {
    /// The members of the result, as JSON.
    Done(Vec<u8>),
    /// The members of a result that asks the person for something first.
    InputRequired(String),
    /// The call is to be made again when a sign-in has ended, or at the latest at the deadline.
    Wait(Wait),
    /// The call is to be made again with a stream: it moves a file.
    Transfer,
}

/// Waiting for a sign-in to end.
pub(super) struct Wait {
    user_id: Option<String>,
    since: Instant,
    deadline: Instant,
}

type Outcome = Result<Called, RpcError>;

/// The tools of one server.
pub(crate) struct Tools {
    config: Arc<Config>,
    sign_in: Arc<SignIn>,
    device_sign_in: DeviceSignIn,
    backend: Option<Backend>,
    files: Option<Files>,
    seal: Seal,
    started: Instant,
    /// Name, title, description, schemas and annotations of every tool.
    definitions: Value,
    /// The same as `tools/list` gives it, printed once; without what the settings do not allow.
    pub(super) list: String,
}

impl Tools {
    /// The tools that act through `sign_in`.
    ///
    /// # Errors
    /// No randomness; `FILES_DIR` cannot be used.
    pub(crate) fn new(config: Arc<Config>, sign_in: Arc<SignIn>) -> Result<Self, Failure> {
        let definitions: Value = serde_json::from_str(include_str!("tools.json")).unwrap_or_default();
        let mut listed = definitions.clone();
        if !config.allow_device_code {
            forget(&mut listed, "method");
        }
        let files = config.files_dir.as_ref();
        let files = files.map(|directory| Files::open(directory, config.max_file_bytes, &config.token_cache_file));
        let files = files.transpose()?;
        match files {
            Some(_) => admit_writing(&mut listed),
            None => ["save_to", "body_file"].into_iter().for_each(|argument| forget(&mut listed, argument)),
        }
        let can_be_called = |tool: &Value| {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            method_of(name).is_none_or(|method| config.policy.can_allow(&method))
        };
        listed.as_array_mut().into_iter().for_each(|tools| tools.retain(can_be_called));
        Ok(Self {
            backend: config.backend.clone().map(|base| Backend::new(base, config.max_response_bytes)),
            files,
            seal: Seal::new()?,
            started: Instant::now(),
            list: listed.to_string(),
            definitions,
            config,
            sign_in,
            device_sign_in: DeviceSignIn::default(),
        })
    }

    /// What a repeated call of the tool `name` brings back with it. Its time was up to when it came, not to when
    /// it `has_waited`.
    ///
    /// # Errors
    /// Those of [`Seal::open`].
    pub(super) fn returned(
        &self,
        params: &Object<'_>,
        name: &str,
        arguments: &Object<'_>,
        has_waited: bool,
    ) -> Result<Option<Returned>, RpcError> {
        let now = if has_waited { 0 } else { self.sign_in.now() };
        self.seal.open(params, name, arguments, now)
    }

    /// Makes `call`; `None` when there is no tool of that name.
    pub(super) fn call(&self, call: &ToolCall<'_>) -> Option<Outcome> {
        let ToolCall { name, arguments, .. } = *call;
        let is_meant = |tool: &&Value| tool.get("name").is_some_and(|known| known == name);
        let definition = self.definitions.as_array()?.iter().find(is_meant)?;
        if let Err(reason) = schema::check(definition.get("inputSchema")?, arguments) {
            let failure = Failure::new(Kind::InvalidRequest, reason).hint("Correct the arguments and call again.");
            return Some(Ok(done(Err(failure))));
        }
        if let Some(called) = call.returned.as_ref().and_then(|returned| self.resumed(call, returned)) {
            return Some(Ok(called));
        }
        let user_id = arguments.read::<String>("user_id");
        let user_id = user_id.as_deref();
        let result = match name {
            "ping" => Ok(json!({"message": "pong"})),
            "get_server_info" => Ok(self.server_info()),
            "authenticate_user" => return Some(self.authenticate(call, user_id.unwrap_or_default())),
            "check_auth_status" => match self.awaited(user_id, arguments).filter(|_| !call.turn.is_last()) {
                Some(wait) => return Some(Ok(Called::Wait(wait))),
                None => Ok(self.status(user_id)),
            },
            "view_userid" => Ok(self.user_ids()),
            "logout_user" => self.sign_out(user_id, call.client),
            _ => {
                let method = method_of(name)?;
                let moves_a_file = ["save_to", "body_file"].into_iter().any(|name| arguments.get(name).is_some());
                let watch = match call.turn {
                    Turn::First if moves_a_file && self.files.is_some() => return Some(Ok(Called::Transfer)),
                    Turn::First => NOBODY,
                    Turn::Last(watch) => watch,
                };
                // Who was asked to sign in is whom the call is made as, whoever else has signed in meanwhile.
                let user_id = user_id.or(call.returned.as_ref().map(|returned| returned.user_id.as_str()));
                return Some(match self.call_api(call, &method, user_id, watch) {
                    Ok(members) => Ok(Called::Done(members)),
                    Err(failure) if failure.kind == Kind::SignInRequired => self.ask_for(call, user_id, &failure),
                    Err(failure) => Ok(done(Err(failure))),
                });
            }
        };
        Some(Ok(done(result)))
    }

    fn server_info(&self) -> Value {
        json!({
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
            "accounts": self.sign_in.accounts().len(),
            "token_cache": self.sign_in.trouble().map_or_else(|| "ok".to_owned(), |failure| failure.text()),
        })
    }

    // ---- Asking for a sign-in ----

    /// A call that comes back from asking for a sign-in: refused by the person, failed, or to be waited for.
    /// `None` when it can be made now.
    fn resumed(&self, call: &ToolCall<'_>, returned: &Returned) -> Option<Called> {
        let Returned { handle, user_id, action } = returned;
        let (since, now) = (Instant::now(), self.sign_in.now());
        let given_up = match action {
            Some(Action::Decline) => Some("The user has declined to sign in."),
            Some(Action::Cancel) => Some("The user has not decided to sign in."),
            _ => None,
        };
        if let Some(message) = given_up {
            self.sign_in.withdraw(handle, user_id);
            let failure = Failure::new(Kind::Refused, message);
            let failure = failure.hint("Nothing was called. Call again only when the user wants to sign in.");
            return Some(Called::Done(tool_result::of(Err(failure))));
        }
        let under_way = self.sign_in.pending().under_way(handle, now);
        // Other calls may go through while this one needs more. A sign-in with another link may have brought it.
        let is_due = self.sign_in.demand(user_id).is_some();
        let brings_more = |attempt: &Arc<Attempt>| {
            (attempt.demand.wanted != Claims::default() && is_due)
                || attempt.demand.extra_scope != self.sign_in.granted(user_id)
        };
        if !under_way.as_ref().is_some_and(brings_more) && self.is_served(call, user_id) {
            return None;
        }
        match self.sign_in.pending().outcome(handle, now) {
            // What a new sign-in would not mend is not asked for again.
            Some(Err(failure)) if failure.kind != Kind::SignInRequired => {
                Some(Called::Done(tool_result::of(Err(failure))))
            }
            Some(_) => None,
            None => {
                let is_awaited = *action == Some(Action::Accept) && !call.turn.is_last() && under_way.is_some();
                let (user_id, deadline) = (Some(user_id.clone()), since + self.config.sign_in_wait);
                is_awaited.then_some(Called::Wait(Wait { user_id, since, deadline }))
            }
        }
    }

    /// Whether `user_id` is signed in and nothing more is wanted of them, by `call` neither.
    fn is_served(&self, call: &ToolCall<'_>, user_id: &str) -> bool {
        if call.arguments.get("prompt").is_some() {
            return false;
        }
        let accounts = self.sign_in.accounts();
        let is_signed_in = accounts.get(user_id).is_some_and(|account| self.sign_in.is_signed_in(user_id, account));
        is_signed_in && self.sign_in.demand(user_id).is_none()
    }

    fn authenticate(&self, call: &ToolCall<'_>, user_id: &str) -> Outcome {
        let prompt = call.arguments.read::<String>("prompt").and_then(|name| Prompt::parse(&name));
        let with_code = match call.arguments.read::<String>("method").as_deref() {
            Some(method) => method == SignInMethod::DeviceCode.name(),
            None => self.config.sign_in_method == SignInMethod::DeviceCode,
        };
        if with_code && !self.config.allow_device_code {
            let failure = Failure::new(Kind::Configuration, "Device codes are not allowed here.");
            let hint = "Leave method out, or ask whoever runs this server for ALLOW_DEVICE_CODE=true.";
            return Ok(done(Err(failure.hint(hint))));
        }
        // Who repeats the call after the sign-in has had what was asked for.
        let (pending, now) = (self.sign_in.pending(), self.sign_in.now());
        let has_come_back = prompt.is_some()
            && match (&call.returned, call.manner) {
                (Some(returned), _) => matches!(pending.outcome(&returned.handle, now), Some(Ok(_))),
                (None, Manner::Error) => pending.take_success(user_id, |done| done.prompt == prompt, now),
                (None, _) => false,
            };
        if has_come_back || self.is_served(call, user_id) {
            let mut status = self.status(Some(user_id));
            let message = format!("{user_id} is signed in. To sign in anew, call logout_user first, or give a prompt.");
            add(&mut status, "already_signed_in", Some(true));
            add(&mut status, "message", Some(message));
            return Ok(done(Ok(status)));
        }
        match (self.offer(user_id, self.sign_in.due(user_id, prompt), with_code), call.manner) {
            (Ok(attempt), Manner::Link) => Ok(done(Ok(self.describe_offer(&attempt)))),
            (Ok(attempt), _) => self.ask(call, &attempt, ""),
            (Err(failure), _) => Ok(done(Err(failure))),
        }
    }

    fn offer(&self, user_id: &str, demand: Demand, with_code: bool) -> Result<Arc<Attempt>, Failure> {
        if with_code {
            self.device_sign_in.offer(&self.sign_in, user_id, demand)
        } else {
            self.sign_in.offer(user_id, demand)
        }
    }

    /// Asks for the sign-in without which `call` has failed.
    fn ask_for(&self, call: &ToolCall<'_>, user_id: Option<&str>, failure: &Failure) -> Outcome {
        let chosen = self.sign_in.choose(user_id);
        let user_id = chosen.as_deref().unwrap_or(DEFAULT_USER_ID);
        let (demand, with_code) =
            (self.sign_in.due_of_caller(user_id), self.config.sign_in_method == SignInMethod::DeviceCode);
        match (self.offer(user_id, demand, with_code), call.manner) {
            (Ok(attempt), Manner::Link) => {
                let offer = self.describe_offer(&attempt);
                let what = offer.get("message").and_then(Value::as_str).unwrap_or_default();
                let hint = format!("{} {what} Then repeat this call.", failure.hint);
                Ok(Called::Done(tool_result::of_failure(&failure.clone().hint(hint.trim()), Some(&offer))))
            }
            (Ok(attempt), _) => self.ask(call, &attempt, &failure.message),
            (Err(failure), _) => Ok(done(Err(failure))),
        }
    }

    /// Has the client ask the person, for `reason`.
    fn ask(&self, call: &ToolCall<'_>, attempt: &Attempt, reason: &str) -> Outcome {
        let Attempt { handle, user_id, expires_at, .. } = attempt;
        let (url, message) = (self.sign_in.link(attempt), self.invitation(attempt, reason));
        let asked = Elicitation { handle, user_id, url: &url, message: &message, expires_at: *expires_at };
        match call.manner {
            Manner::InputRequired => {
                Ok(Called::InputRequired(self.seal.input_required(&asked, call.name, call.arguments)))
            }
            Manner::Error | Manner::Link => Err(elicitation::required(&asked)),
        }
    }

    /// What the person reads who is asked to sign in: why, as whom, what for, and what to do if it fails.
    fn invitation(&self, attempt: &Attempt, reason: &str) -> String {
        let Attempt { user_id, way, .. } = attempt;
        let backend = self.config.backend.as_ref().map_or("the API", url::Url::as_str);
        let account = self.sign_in.accounts().remove(user_id);
        let name = account.map(|account| account.username.clone()).filter(|name| !name.is_empty() && name != user_id);
        let who = name.map_or_else(|| user_id.clone(), |name| format!("{name} (\"{user_id}\" here)"));
        let last = self.sign_in.pending().last_failure(user_id, self.sign_in.now());
        let last = last.map(|failure| format!("The last attempt failed: {}", failure.text()));
        let code = match way {
            Way::Device(device) => format!("Enter the code {} there.", device.user_code),
            Way::Browser(_) => String::new(),
        };
        let sentences = [
            reason.to_owned(),
            format!("Sign in with Microsoft Entra ID as {who}, so that {backend} can be called as you."),
            code,
            last.unwrap_or_default(),
            self.when_it_fails(),
        ];
        sentences.into_iter().filter(|sentence| !sentence.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// Some errors Entra shows on its own page, and we never hear of them.
    fn when_it_fails(&self) -> String {
        format!("If Microsoft's page shows an error, {}/ says what to do.", self.config.redirect_uri.origin)
    }

    /// Where and until when to sign in, for a model to show.
    fn describe_offer(&self, attempt: &Attempt) -> Value {
        let link = self.sign_in.link(attempt);
        let (user_code, what) = match &attempt.way {
            Way::Browser(_) => {
                (None, "Show the user this link and ask them to open it in their browser and sign in:".to_owned())
            }
            Way::Device(device) => {
                let code = &device.user_code;
                (
                    Some(code.as_str()),
                    format!("Ask the user to open this address on any device and to enter the code {code}:"),
                )
            }
        };
        let help = aadsts::own_page(&self.config.application());
        let help = help.iter().map(|(number, Advice { title, remedy })| format!("AADSTS{number}: {title}. {remedy}"));
        let help: Vec<String> = help.collect();
        let mut offer = json!({
            "user_id": attempt.user_id,
            "authenticated": false,
            "already_signed_in": false,
            "sign_in_url": link,
            "auth_url": link,
            "link_expires_at": iso8601_seconds(attempt.expires_at),
            "link_expires_in_seconds": attempt.expires_at.saturating_sub(self.sign_in.now()),
            "message": format!("{what} {link} Then call check_auth_status with wait_seconds to learn when they have finished."),
            "errors_on_microsofts_page": help,
        });
        add(&mut offer, "user_code", user_code);
        offer
    }

    // ---- Waiting ----

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

    /// What is known of `user_id`, signed in or not; without one, of every account.
    pub(crate) fn status(&self, user_id: Option<&str>) -> Value {
        let accounts = self.sign_in.accounts();
        let mut status = match user_id.map(|user_id| (user_id, accounts.get(user_id))) {
            Some((user_id, Some(account))) => self.describe(user_id, account),
            Some((user_id, None)) => json!({"user_id": user_id, "authenticated": false, "has_token": false}),
            None => json!({
                "authenticated": accounts.iter().any(|(id, account)| self.sign_in.is_signed_in(id, account)),
                "accounts": accounts.iter().map(|(id, account)| self.describe(id, account)).collect::<Vec<_>>(),
            }),
        };
        let (pending, now) = (self.sign_in.pending(), self.sign_in.now());
        add(&mut status, "pending_sign_in", Some(pending.is_pending(user_id, now)));
        let failure = user_id.and_then(|user_id| pending.last_failure(user_id, now));
        add(&mut status, "last_sign_in_error", failure.map(|failure| failure.text()));
        status
    }

    fn describe(&self, user_id: &str, account: &Account) -> Value {
        json!({
            "user_id": user_id,
            "authenticated": self.sign_in.is_signed_in(user_id, account),
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

    fn user_ids(&self) -> Value {
        let user_ids: Vec<String> = self.sign_in.accounts().into_keys().collect();
        let only = if let [only] = user_ids.as_slice() { Some(only) } else { None };
        json!({"user_id": only, "user_ids": user_ids})
    }

    fn sign_out(&self, user_id: Option<&str>, client: &str) -> Result<Value, Failure> {
        let user_id = self.sign_in.sign_out(user_id, client)?;
        Ok(json!({
            "user_id": user_id,
            "logout_url": self.config.authority.endpoint("logout").as_str(),
            "message": format!("The tokens of {user_id} are forgotten, on disk and in memory. Tokens that were already issued \
                                live on until they expire. To end the browser's own session with Microsoft, open logout_url."),
        }))
    }

    /// The place that the argument `name` gives to a file, made of it by `open`.
    fn file<'f, T>(
        &'f self,
        arguments: &Object<'_>,
        name: &str,
        open: impl Fn(&'f Files, &str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(path) = arguments.read::<String>(name) else { return Ok(None) };
        let files = self.files.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, format!("{name} needs a directory for files: FILES_DIR is not set."))
                .hint("Ask whoever runs this server to set FILES_DIR, or make the call without it.")
        })?;
        let other = ["data", "select"].into_iter().find(|other| arguments.get(other).is_some());
        match (name, other) {
            ("body_file", Some("data")) | ("save_to", Some("select")) => {
                let message = format!("{name} and {} cannot both be given.", other.unwrap_or_default());
                Err(Failure::new(Kind::InvalidRequest, message).hint("Leave one of the two out."))
            }
            _ => open(files, &path).map(Some),
        }
    }

    fn call_api(
        &self,
        call: &ToolCall<'_>,
        method: &str,
        user_id: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<Vec<u8>, Failure> {
        self.sign_in.audit.ready()?;
        let mut entry = Entry::new(Event::ApiCall, user_id.unwrap_or_default(), call.client);
        entry.method = method;
        let result = self.exchange(&mut entry, user_id, call.arguments, watch);
        match &result {
            Ok((reply, _)) => {
                (entry.status, entry.bytes) = (Some(reply.status), Some(reply.length));
                entry.correlation_id = correlation_id(reply);
                entry.ended(error_code(reply.status).unwrap_or("ok"));
            }
            Err(failure) => entry.failed(Some(failure)),
        }
        let recorded = self.sign_in.audit.record(&entry);
        let (reply, sent_as) = result?;
        recorded.map(|()| api_result(reply, sent_as))
    }

    /// The API's answer, and the media type of a file that was sent.
    fn exchange(
        &self,
        entry: &mut Entry<'_>,
        user_id: Option<&str>,
        arguments: &Object<'_>,
        watch: Watch<'_>,
    ) -> Result<(backend::Reply, Option<String>), Failure> {
        let method = entry.method;
        let backend = self.backend.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, "This server has no API to call: BACKEND_API_BASE_URL is not set.")
                .hint("Ask whoever runs it to set BACKEND_API_BASE_URL (and CUSTOM_API_SCOPE) and to start it again.")
        })?;
        // Everything is checked before a token is touched.
        self.config.policy.check_method(method)?;
        let endpoint: String = arguments.read("endpoint").unwrap_or_default();
        entry.asked_for(&endpoint);
        let target = backend.target(&endpoint, &parameters(arguments))?;
        target.path().clone_into(&mut entry.path);
        self.config.policy.check_path(backend.path(&target))?;
        let mut headers = backend::headers(&arguments.read("headers").unwrap_or_default())?;
        let data = arguments.get("data").map(|data| request_body(data, &mut headers)).transpose()?;
        let source = self.file(arguments, "body_file", Files::source)?;
        let save_to = self.file(arguments, "save_to", Files::destination)?;
        let body = match (source, data) {
            (Some(source), _) => {
                let any = HeaderValue::from_static("application/octet-stream");
                headers.entry(CONTENT_TYPE).or_insert(any);
                Content::File(source)
            }
            (None, data) => data.map_or(Content::Nothing, Content::Bytes),
        };
        let sent_as = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let select = arguments.get("select").map(Selection::parse).transpose()?;
        let user_id = self.sign_in.choose(user_id)?;
        user_id.clone_into(&mut entry.user_id);
        let mut account = self.sign_in.acquire(&user_id)?;
        entry.account = Some(Arc::clone(&account));
        // A refresh may just have been the first that could not be recorded.
        self.sign_in.audit.ready()?;
        let call = Call { method, target, headers, body, select: select.as_ref(), save_to, watch };
        let mut reply = backend.send(&call, &account.access_token)?;
        let first = reply.challenge.clone();
        // Twice where the other token may be one without the claims: fetched by somebody else, or before the API
        // has asked for them.
        for _ in 0..2 {
            let may_renew = first.is_none() || reply.challenge == first;
            let Some(renewed) = self.renewed(&user_id, &account, &reply, may_renew)? else { break };
            account = renewed;
            reply = backend.send(&call, &account.access_token)?;
        }
        Ok((reply, sent_as.filter(|_| matches!(call.body, Content::File(_)))))
    }

    /// The account with another token, for an API that does not take the one that it was sent; `None` where
    /// the API's answer stands.
    ///
    /// # Errors
    /// A sign-in is due, or Entra refuses what the API wants.
    fn renewed(
        &self,
        user_id: &str,
        rejected: &Account,
        reply: &backend::Reply,
        may_renew: bool,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let usual = Claims::default();
        let claims = match (reply.status, &reply.challenge) {
            (401, Some(Challenge::Claims(claims))) => claims,
            (401, _) => &usual,
            (403, Some(Challenge::InsufficientScope(missing))) => {
                return self.check_scope(user_id, rejected, missing).map(|()| None);
            }
            _ => return Ok(None),
        };
        let is_more = *claims != usual;
        let renewed = if may_renew { self.sign_in.renew(user_id, rejected, claims) } else { Ok(None) };
        let refused = match renewed {
            Ok(None) if is_more => None,
            Err(failure) if matches!(failure.kind, Kind::SignInRequired | Kind::Refused) => Some(failure),
            // Then the API's own words are the better answer.
            Err(_) => return Ok(None),
            renewed => return renewed,
        };
        // Who has just signed in for it is not asked again at once.
        if is_more && self.has_signed_in(user_id, |demand| demand.wanted.is_like(claims)) {
            return Ok(None);
        }
        Err(refused.unwrap_or_else(|| {
            // What no refresh has brought, a sign-in may bring.
            let extra_scope = self.sign_in.extra_scope(rejected).to_owned();
            let (wanted, claims) = (claims.clone(), claims.clone());
            let demand = Demand { wanted, claims, extra_scope, ..Demand::default() };
            self.sign_in.note(user_id, demand);
            Failure::new(Kind::SignInRequired, "The API wants a further check of the user.")
        }))
    }

    /// A scope that the API misses, a sign-in may bring, unless it was asked for already.
    ///
    /// # Errors
    /// That sign-in is due.
    fn check_scope(&self, user_id: &str, account: &Account, missing: &[String]) -> Result<(), Failure> {
        let known = self.sign_in.extra_scope(account);
        let Some(extra_scope) = self.config.scopes.widened(known, missing) else { return Ok(()) };
        if self.has_signed_in(user_id, |demand| demand.extra_scope == extra_scope) {
            return Ok(());
        }
        self.sign_in.note(user_id, Demand { extra_scope, ..Demand::default() });
        let message = format!("The API wants a permission that is missing: {}.", missing.join(", "));
        Err(Failure::new(Kind::SignInRequired, message))
    }

    /// Whether `user_id` has just signed in for a demand that `fits`.
    fn has_signed_in(&self, user_id: &str, fits: impl Fn(&Demand) -> bool) -> bool {
        let now = self.sign_in.now();
        let is_recent = self.sign_in.last_sign_in(user_id).is_some_and(|at| now < at + PAUSE.as_secs());
        is_recent && self.sign_in.pending().has_success(user_id, fits, now)
    }
}

/// The HTTP method of the API tool `name`; `None` for the others.
fn method_of(name: &str) -> Option<String> {
    Some(name.strip_prefix("api_")?.strip_suffix("_request")?.to_ascii_uppercase())
}

/// For a call of which nobody follows the progress.
const NOBODY: Watch<'static> = &|_, _| Ok(());

/// A call that can make a file does not only read.
fn admit_writing(definitions: &mut Value) {
    let tools = definitions.as_array_mut().into_iter().flatten();
    for tool in tools.filter(|tool| tool.pointer("/inputSchema/properties/save_to").is_some()) {
        if let Some(annotations) = tool.get_mut("annotations") {
            add(annotations, "readOnlyHint", Some(false));
            add(annotations, "destructiveHint", Some(false));
        }
    }
}

/// Leaves out an argument that the settings do not allow.
fn forget(definitions: &mut Value, argument: &str) {
    for tool in definitions.as_array_mut().into_iter().flatten() {
        if let Some(properties) = tool.pointer_mut("/inputSchema/properties").and_then(Value::as_object_mut) {
            properties.remove(argument);
        }
    }
}

fn done(result: Result<Value, Failure>) -> Called {
    Called::Done(tool_result::of(result))
}

/// JSON goes as it was written, with its own media type; a string with a given `Content-Type` as
/// its text.
fn request_body<'a>(data: &'a RawValue, headers: &mut HeaderMap) -> Result<Cow<'a, [u8]>, Failure> {
    let content_type = headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    let media_type = media_type::essence(content_type.to_str().unwrap_or_default());
    if media_type::is_json(&media_type) {
        return Ok(data.get().as_bytes().into());
    }
    read(data).map(|text: String| text.into_bytes().into()).ok_or_else(|| {
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

/// What an answer with this status is called in `error`, where it is one.
fn error_code(status: u16) -> Option<&'static str> {
    match status {
        ..300 | 304 => None,
        300..400 => Some(REDIRECT),
        400.. => Some("http_error"),
    }
}

/// What the API calls the request by, where it says so.
fn correlation_id(reply: &backend::Reply) -> Option<String> {
    let named = |end: &str| reply.headers.iter().find(|(name, _)| name.ends_with(end)).map(|(_, value)| value);
    let id = named("correlation-id").or_else(|| named("request-id"))?;
    id.as_str().map(str::to_owned)
}

/// `sent_as` is the media type of a file that was sent.
fn api_result(reply: backend::Reply, sent_as: Option<String>) -> Vec<u8> {
    let error = error_code(reply.status);
    let message = error.map(|error| match error {
        REDIRECT => NOT_FOLLOWED.to_owned(),
        _ => format!("The API answered with status {}.", reply.status),
    });
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
    add(&mut members, "hint", status_hint(reply.status).or(select_hint(&reply)));
    add(&mut members, "not_found", Some(reply.not_found).filter(|pointers| !pointers.is_empty()));
    add(&mut members, "retry_after_seconds", reply.retry_after.map(|wait| wait.as_secs()));
    if let Some((path, moved)) = reply.file {
        let content_type = sent_as.or_else(|| reply.content_type.clone());
        let file = json!({"path": path, "bytes": moved.bytes, "sha256": moved.sha256, "content_type": content_type});
        add(&mut members, "file", Some(file));
    }
    match reply.next {
        Some(NextPage::Here(url)) => add(&mut members, "next", Some(url)),
        Some(NextPage::Elsewhere(url)) => add(&mut members, "next_outside_base", Some(url)),
        None => {}
    }
    add(&mut members, "redirect_target", reply.headers.get("location").filter(|_| error == Some(REDIRECT)).cloned());
    add(&mut members, "headers", Some(reply.headers));
    // The body stands last and as it came: it is not read into a tree.
    let members = members.to_string();
    let structured = [members.strip_suffix('}').unwrap_or_default(), ",\"data\":", &reply.data, "}"];
    let image = reply.image.as_ref();
    let picture = image.map(|(media_type, _)| format!("The image at {} ({media_type}).", reply.endpoint));
    match &picture {
        Some(picture) => tool_result::content(&[picture], &structured, image, error.is_some()),
        None => tool_result::content(&structured, &structured, image, error.is_some()),
    }
}

fn select_hint(reply: &backend::Reply) -> Option<&'static str> {
    (!reply.not_found.is_empty()).then_some(
        "not_found names the pointers of select that found nothing; an answer that is not JSON, or is too long to be read \
         as a whole, is handed on as it is.",
    )
}

fn status_hint(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("The API does not accept the token: check that CUSTOM_API_SCOPE belongs to this API."),
        403 => Some("The API knows the user and refuses: the account lacks a permission, or CUSTOM_API_SCOPE a scope."),
        429 | 503 => Some("Wait for retry_after_seconds, or a minute where that is absent, then call again."),
        _ => None,
    }
}
