//! The tools: what `tools.json` describes, done.

mod api;
mod api_result;
mod definitions;
mod described;
pub(crate) mod listing;
pub(crate) mod meaning;
pub(crate) mod result;
pub(crate) mod schema;
mod searched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::api::Caller;
use self::described::Described;
use self::listing::Listing;
use self::meaning::Meanings;
use self::result::add;
use self::searched::{DESCRIBE, FIND, Searched};
use super::call_answer::CallAnswer;
use super::elicitation::{self, Action, Elicitation, Returned, Seal, UrlElicitation};
use super::jsonrpc::{INVALID_PARAMS, Object, RpcError};
use super::version::VERSIONS;
use crate::api::Api;
use crate::auth::account::Account;
use crate::auth::pending::{Attempt, Method};
use crate::auth::request::{Prompt, Requirements};
use crate::auth::standing::Standing;
use crate::auth::{Auth, DEFAULT_USER_ID};
use crate::clock::iso8601_seconds;
use crate::config::{Config, SignInMethod};
use crate::error::{Failure, Kind};
use crate::pieces::Pieces;

/// The tool for signing in.
const AUTHENTICATE: &str = "authenticate_user";

/// Why a device code is refused that the settings do not allow.
pub(crate) const NO_DEVICE_CODES: &str = "Device codes are not allowed here.";

/// What a model is told where operations of the API are tools.
const OF_NAMED: &str = "Every other tool calls one operation of that API: where one fits, use it \
    instead of api_get_request and its like.";
/// The same where they are found by search.
const OF_SEARCH: &str = "find_operations finds operations of that API by a few words, and \
    describe_operation says how one is called with api_get_request and its like.";

/// A call of a tool.
pub(super) struct ToolCall<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a Object<'a>,
    /// What the client calls itself.
    pub(super) client: &'a str,
    /// How the client asks a person to sign in.
    pub(super) url_elicitation: UrlElicitation,
    /// What came of asking for a sign-in before.
    pub(super) returned: Option<Returned>,
    /// Where progress is told, and where the call waits.
    pub(super) answer: &'a CallAnswer<'a>,
}

/// What a call leads to.
pub(super) enum Called {
    /// The members of the result, as JSON.
    Done(Pieces),
    /// The members of a result that asks the person for something first.
    InputRequired(String),
}

/// What becomes of a call that comes back after its sign-in was asked for.
enum Resumed {
    /// It is made now.
    Made,
    /// It is not made.
    Ended(Called),
    /// It is made after this.
    Waits(Wait),
}

/// Waiting for a sign-in to end.
struct Wait {
    user_id: Option<String>,
    since: Instant,
    deadline: Instant,
}

type Outcome = Result<Called, RpcError>;

/// The tools of one server.
pub(crate) struct Tools {
    config: Arc<Config>,
    auth: Arc<Auth>,
    api: Api,
    seal: Seal,
    started: Instant,
    /// The tools of the API's own operations.
    described: Described,
    /// The same, where they are found by search.
    searched: Option<Searched>,
    /// What the arguments of each tool of ours are checked against, by the tool's name.
    input_schemas: BTreeMap<String, Value>,
    /// The definitions as `tools/list` gives them, printed once; without what the settings do not allow.
    pub(super) list: Arc<str>,
}

impl Tools {
    /// The tools that act through `auth`.
    ///
    /// # Errors
    /// No randomness; `FILES_DIR` cannot be used.
    pub(crate) fn new(config: Arc<Config>, auth: Arc<Auth>) -> Result<Self, Failure> {
        let Listing {
            tools,
            definitions,
            described,
        } = Listing::of(&config);
        let api = api::open(&config, Arc::clone(&auth))?;
        let description = config.description.as_ref();
        let description = description.filter(|_| described.is_by_search);
        Ok(Self {
            searched: description.map(|known| Searched::new(known, config.files_dir.is_some())),
            api,
            seal: Seal::new()?,
            started: Instant::now(),
            list: Value::from(tools).to_string().into(),
            described,
            input_schemas: input_schemas(definitions),
            config,
            auth,
        })
    }

    /// What a model is told about the tools of the API's operations, if there are any.
    pub(super) fn about_operations(&self) -> Option<&'static str> {
        if self.searched.is_some() {
            return Some(OF_SEARCH);
        }
        let has_named = !self.described.tools.is_empty();
        has_named.then_some(OF_NAMED)
    }

    /// What is meant by the arguments that are `given` to the tool `name`.
    pub(super) fn meant(&self, name: &str, given: &Object<'_>) -> Meanings {
        Meanings::of(self.input_schema(name), given)
    }

    /// What a repeated call of the tool `name` brings back with it.
    ///
    /// # Errors
    /// Those of [`Seal::open`].
    pub(super) fn returned(
        &self,
        params: &Object<'_>,
        name: &str,
        arguments: &Object<'_>,
    ) -> Result<Option<Returned>, RpcError> {
        self.seal.open(params, name, arguments, self.auth.now())
    }

    /// Makes `call`.
    ///
    /// # Errors
    /// There is no tool of that name, or the client must ask the person first, or it has left.
    pub(super) fn call(&self, call: &ToolCall<'_>) -> Outcome {
        let ToolCall {
            name, arguments, ..
        } = *call;
        let unknown = || RpcError::new(INVALID_PARAMS, format!("Unknown tool: {name}"));
        let schema = self.input_schema(name).ok_or_else(unknown)?;
        if let Err(reason) = schema::check(schema, arguments) {
            let failure = Failure::new(Kind::InvalidRequest, reason)
                .hint("Correct the arguments and call again.");
            return Ok(done(Err(failure)));
        }
        if let Some(returned) = &call.returned
            && let Some(ended) = self.resume(call, returned)?
        {
            return Ok(ended);
        }
        let described = self.described.tools.get(name);
        let user_id = arguments.text(described.map_or("user_id", |tool| tool.ours("user_id")));
        let user_id = user_id.as_deref();
        if described.is_some() {
            return self.call_api(call, user_id);
        }
        let result = match name {
            "ping" => Ok(json!({"message": "pong"})),
            "get_server_info" => Ok(self.server_info()),
            AUTHENTICATE => {
                return self.authenticate(call, user_id.unwrap_or_default());
            }
            "check_auth_status" => {
                if let Some(wait) = self.awaited(user_id, arguments) {
                    self.wait(call, &wait)?;
                }
                Ok(self.status(user_id))
            }
            "view_userid" => Ok(self.user_ids()),
            "logout_user" => self.sign_out(user_id, call.client),
            FIND | DESCRIBE => {
                let searched = self.searched.as_ref().ok_or_else(unknown)?;
                search(searched, name, arguments)
            }
            _ => return self.call_api(call, user_id),
        };
        Ok(done(result))
    }

    /// Calls the API for the tool `name`: an operation's own, or a generic one.
    fn call_api(&self, call: &ToolCall<'_>, user_id: Option<&str>) -> Outcome {
        // Who was asked to sign in is whom the call is made as, whoever else has signed in
        // meanwhile.
        let asked = call.returned.as_ref();
        let user_id = user_id.or(asked.map(|returned| returned.user_id.as_str()));
        let watch = |bytes, total| call.answer.moved(bytes, total);
        let caller = Caller {
            client: call.client,
            user_id,
            watch: &watch,
        };
        let result = match self.described.tools.get(call.name) {
            Some(tool) => api::call_operation(&self.api, tool, &caller, call.arguments),
            None => api::call(&self.api, call.name, &caller, call.arguments),
        };
        match result {
            Ok(members) => Ok(Called::Done(members)),
            Err(failure) if failure.kind == Kind::SignInRequired => {
                self.ask_for(call, user_id, &failure)
            }
            Err(failure) => Ok(done(Err(failure))),
        }
    }

    /// What the arguments of `tool` are checked against.
    fn input_schema(&self, tool: &str) -> Option<&Value> {
        match self.described.tools.get(tool) {
            Some(described) => Some(&described.checked),
            None => self.input_schemas.get(tool),
        }
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
            "accounts": self.auth.accounts().len(),
            "token_cache": self.auth.trouble().map_or_else(|| "ok".to_owned(), |failure| failure.text()),
        })
    }

    // ---- Asking for a sign-in ----

    /// Takes up a call that comes back from asking for a sign-in, which may be under way. `None`:
    /// it is made now.
    ///
    /// # Errors
    /// The client has left.
    fn resume(&self, call: &ToolCall<'_>, returned: &Returned) -> Result<Option<Called>, RpcError> {
        let mut resumed = self.resumed(call, returned);
        if let Resumed::Waits(wait) = &resumed {
            self.wait(call, wait)?;
            resumed = self.resumed(call, returned);
        }
        match resumed {
            Resumed::Ended(called) => Ok(Some(called)),
            // Who has waited in vain is asked again.
            Resumed::Made | Resumed::Waits(_) => Ok(None),
        }
    }

    fn resumed(&self, call: &ToolCall<'_>, returned: &Returned) -> Resumed {
        let Returned {
            handle,
            user_id,
            action,
        } = returned;
        let since = Instant::now();
        let given_up = match action {
            Some(Action::Decline) => Some("The user has declined to sign in."),
            Some(Action::Cancel) => Some("The user has not decided to sign in."),
            _ => None,
        };
        if let Some(message) = given_up {
            self.auth.pending().withdraw(handle);
            // Where there is no person, the client may have said so by itself.
            let hint = format!(
                "Nothing was called. Call again only when the user wants to sign in; they can also do so without this \
                 client, at {}/ or with the command entra-auth-mcp login.",
                self.config.redirect_uri.base()
            );
            let failure = Failure::new(Kind::Refused, message).hint(hint);
            return Resumed::Ended(done(Err(failure)));
        }
        let under_way = self.auth.pending().under_way(handle);
        // Other calls may go through while this one needs more. A sign-in with another link may
        // have brought it.
        let is_due = self.auth.due(user_id).is_some();
        let brings_more =
            |attempt: &Arc<Attempt>| attempt.requirements.api_claims.is_some() && is_due;
        if !under_way.as_ref().is_some_and(brings_more) && self.is_served(call, user_id) {
            return Resumed::Made;
        }
        match self.auth.pending().outcome(handle) {
            // What a new sign-in would not mend is not asked for again.
            Some(Err(failure)) if failure.kind != Kind::SignInRequired => {
                Resumed::Ended(done(Err(failure)))
            }
            None if *action == Some(Action::Accept) && under_way.is_some() => {
                Resumed::Waits(Wait {
                    user_id: Some(user_id.clone()),
                    since,
                    deadline: since + self.config.sign_in_wait,
                })
            }
            _ => Resumed::Made,
        }
    }

    /// Whether `user_id` is signed in and nothing more is wanted of them, by `call` neither.
    fn is_served(&self, call: &ToolCall<'_>, user_id: &str) -> bool {
        let asks_anew = call.name == AUTHENTICATE && call.arguments.get("prompt").is_some();
        !asks_anew && self.auth.standing(user_id) == Standing::SignedIn
    }

    fn authenticate(&self, call: &ToolCall<'_>, user_id: &str) -> Outcome {
        let prompt = call
            .arguments
            .text("prompt")
            .and_then(|name| Prompt::parse(&name));
        let with_code = match call.arguments.text("method").as_deref() {
            Some(method) => method == SignInMethod::DeviceCode.name(),
            None => self.config.sign_in_method == SignInMethod::DeviceCode,
        };
        if with_code && !self.config.allow_device_code {
            let failure = Failure::new(Kind::Configuration, NO_DEVICE_CODES);
            let hint =
                "Leave method out, or ask whoever runs this server for ALLOW_DEVICE_CODE=true.";
            return Ok(done(Err(failure.hint(hint))));
        }
        // Who repeats the call after the sign-in has had what was asked for.
        let pending = self.auth.pending();
        let has_come_back = prompt.is_some()
            && match (&call.returned, call.url_elicitation) {
                (Some(returned), _) => {
                    matches!(pending.outcome(&returned.handle), Some(Ok(_)))
                }
                (None, UrlElicitation::RequiredError) => {
                    pending.take_success(user_id, |done| done.prompt == prompt)
                }
                (None, _) => false,
            };
        if has_come_back || self.is_served(call, user_id) {
            let mut status = self.status(Some(user_id));
            let message = format!(
                "{user_id} is signed in. To sign in anew, call logout_user first, or give a prompt."
            );
            add(&mut status, "already_signed_in", Some(true));
            add(&mut status, "message", Some(message));
            return Ok(done(Ok(status)));
        }
        let requirements = self.auth.next_requirements(user_id, prompt);
        let attempt = match self.offer(call, user_id, requirements, with_code) {
            Ok(attempt) => attempt,
            Err(failure) => return Ok(done(Err(failure))),
        };
        match call.url_elicitation {
            UrlElicitation::Unsupported => Ok(done(Ok(self.describe_offer(&attempt)))),
            _ => self.ask(call, &attempt, ""),
        }
    }

    fn offer(
        &self,
        call: &ToolCall<'_>,
        user_id: &str,
        requirements: Requirements,
        with_code: bool,
    ) -> Result<Arc<Attempt>, Failure> {
        if with_code {
            self.auth
                .offer_device_code(user_id, requirements, call.client)
        } else {
            self.auth.offer(user_id, requirements)
        }
    }

    /// Asks for the sign-in without which `call` has failed.
    fn ask_for(&self, call: &ToolCall<'_>, user_id: Option<&str>, failure: &Failure) -> Outcome {
        let chosen = self.auth.choose(user_id).map(|chosen| chosen.user_id);
        let user_id = chosen.as_deref().unwrap_or(DEFAULT_USER_ID);
        let requirements = self.auth.next_requirements_of_call(user_id);
        let with_code = self.config.sign_in_method == SignInMethod::DeviceCode;
        match (
            self.offer(call, user_id, requirements, with_code),
            call.url_elicitation,
        ) {
            (Ok(attempt), UrlElicitation::Unsupported) => {
                let offer = self.describe_offer(&attempt);
                let what = offer
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let hint = format!("{} {what} Then repeat this call.", failure.hint);
                Ok(Called::Done(result::of_failure(
                    &failure.clone().hint(hint.trim()),
                    Some(&offer),
                )))
            }
            (Ok(attempt), _) => self.ask(call, &attempt, &failure.message),
            (Err(failure), _) => Ok(done(Err(failure))),
        }
    }

    /// Has the client ask the person, for `reason`.
    fn ask(&self, call: &ToolCall<'_>, attempt: &Attempt, reason: &str) -> Outcome {
        let Attempt {
            handle,
            user_id,
            expires_at,
            ..
        } = attempt;
        let link = self.auth.link(attempt);
        let message = self.invitation(attempt, reason);
        let asked = Elicitation {
            handle,
            user_id,
            url: link.expose(),
            message: &message,
            expires_at: *expires_at,
        };
        match call.url_elicitation {
            UrlElicitation::InputRequired => Ok(Called::InputRequired(self.seal.input_required(
                &asked,
                call.name,
                call.arguments,
            ))),
            UrlElicitation::RequiredError | UrlElicitation::Unsupported => {
                Err(elicitation::required(&asked))
            }
        }
    }

    /// What the person reads who is asked to sign in: why, as whom, what for, and what to do if it
    /// fails.
    fn invitation(&self, attempt: &Attempt, reason: &str) -> String {
        let Attempt {
            user_id, method, ..
        } = attempt;
        let backend = self
            .config
            .backend
            .as_ref()
            .map_or("the API", url::Url::as_str);
        let account = self.auth.accounts().remove(user_id);
        let name = account
            .map(|account| account.username.clone())
            .filter(|name| !name.is_empty() && name != user_id);
        let who = name.map_or_else(
            || user_id.clone(),
            |name| format!("{name} (\"{user_id}\" here)"),
        );
        let last = self.auth.pending().last_failure(user_id);
        let last = last.map(|failure| format!("The last attempt failed: {}", failure.text()));
        let code = match method {
            Method::DeviceCode(device) => format!("Enter the code {} there.", device.user_code),
            Method::Browser { .. } => String::new(),
        };
        let sentences = [
            reason.to_owned(),
            format!(
                "Sign in with Microsoft Entra ID as {who}, so that {backend} can be called as you."
            ),
            code,
            last.unwrap_or_default(),
            self.when_it_fails(),
        ];
        sentences
            .into_iter()
            .filter(|sentence| !sentence.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Some errors Entra shows on its own page, and we never hear of them.
    fn when_it_fails(&self) -> String {
        format!(
            "If Microsoft's page shows an error, {}/ says what to do.",
            self.config.redirect_uri.base()
        )
    }

    /// Where and until when to sign in, for a model to show.
    fn describe_offer(&self, attempt: &Attempt) -> Value {
        let link = self.auth.link(attempt);
        let then =
            " Then call check_auth_status with wait_seconds to learn when they have finished.";
        let (user_code, what) = match &attempt.method {
            Method::Browser { .. } => (
                None,
                "Show the user this link and ask them to open it in their browser and sign in: "
                    .to_owned(),
            ),
            Method::DeviceCode(device) => {
                let code = device.user_code.as_str();
                let what = format!(
                    "Ask the user to open this address on any device and to enter the code {code}: "
                );
                (Some(code), what)
            }
        };
        let message = link.between(&what, then);
        let mut offer = json!({
            "user_id": attempt.user_id,
            "authenticated": false,
            "already_signed_in": false,
            "sign_in_url": link.expose(),
            "auth_url": link.expose(),
            "link_expires_at": iso8601_seconds(attempt.expires_at),
            "link_expires_in_seconds": attempt.expires_at.saturating_sub(self.auth.now()),
            "message": message.expose(),
        });
        add(&mut offer, "user_code", user_code);
        offer
    }

    // ---- Waiting ----

    /// The pending sign-in that a call wants to see ended before it is answered.
    fn awaited(&self, user_id: Option<&str>, arguments: &Object<'_>) -> Option<Wait> {
        let seconds = Duration::try_from_secs_f64(arguments.read("wait_seconds")?).ok()?;
        let since = Instant::now();
        let is_worth_it = !seconds.is_zero() && self.auth.pending().is_pending(user_id);
        is_worth_it.then(|| Wait {
            user_id: user_id.map(str::to_owned),
            since,
            deadline: since + seconds,
        })
    }

    /// Waits until the sign-in has ended, or the deadline has come.
    ///
    /// # Errors
    /// The client has left.
    fn wait(&self, call: &ToolCall<'_>, wait: &Wait) -> Result<(), RpcError> {
        let pending = self.auth.pending();
        let user_id = wait.user_id.as_deref();
        call.answer.wait_for_sign_in(|step| {
            let left = wait.deadline.saturating_duration_since(Instant::now());
            left.is_zero() || pending.wait(user_id, wait.since, step.min(left))
        })
    }

    /// What is known of `user_id`, signed in or not; without one, of every account.
    pub(crate) fn status(&self, user_id: Option<&str>) -> Value {
        let accounts = self.auth.accounts();
        let mut status = match user_id.map(|user_id| (user_id, accounts.get(user_id))) {
            Some((user_id, Some(account))) => self.describe(user_id, account),
            Some((user_id, None)) => {
                json!({"user_id": user_id, "authenticated": false, "has_token": false})
            }
            None => json!({
                "authenticated": accounts.keys().any(|user_id| self.auth.standing(user_id).is_signed_in()),
                "accounts": accounts.iter().map(|(id, account)| self.describe(id, account)).collect::<Vec<_>>(),
            }),
        };
        let pending = self.auth.pending();
        let is_pending = pending.is_pending(user_id);
        add(&mut status, "pending_sign_in", Some(is_pending));
        let failure = match user_id {
            Some(user_id) => pending.last_failure(user_id).map(|failure| failure.text()),
            None => self.last_failures(),
        };
        add(&mut status, "last_sign_in_error", failure);
        status
    }

    /// Why the last sign-ins failed, each with whose it was; `None` if none did.
    fn last_failures(&self) -> Option<String> {
        let pending = self.auth.pending();
        let failures: Vec<String> = pending
            .users()
            .into_iter()
            .filter_map(|user_id| {
                let failure = pending.last_failure(&user_id)?;
                Some(format!("{user_id}: {}", failure.text()))
            })
            .collect();
        (!failures.is_empty()).then(|| failures.join("\n"))
    }

    fn describe(&self, user_id: &str, account: &Account) -> Value {
        let now = self.auth.now();
        let mut description = describe(user_id, account, self.auth.standing(user_id), now);
        if !self.config.session_cookies.is_empty() {
            let has_session_cookie = !account.cookies.is_empty(now);
            add(
                &mut description,
                "has_session_cookie",
                Some(has_session_cookie),
            );
        }
        description
    }

    fn user_ids(&self) -> Value {
        let user_ids: Vec<String> = self.auth.accounts().into_keys().collect();
        let only = if let [only] = user_ids.as_slice() {
            Some(only)
        } else {
            None
        };
        json!({"user_id": only, "user_ids": user_ids})
    }

    fn sign_out(&self, user_id: Option<&str>, client: &str) -> Result<Value, Failure> {
        let user_id = self.auth.sign_out(user_id, client)?;
        Ok(json!({
            "user_id": user_id,
            "logout_url": self.config.authority.endpoint("logout").as_str(),
            "message": format!("The tokens of {user_id} are forgotten, on disk and in memory. Tokens that were already issued \
                                live on until they expire. To end the browser's own session with Microsoft, open logout_url."),
        }))
    }
}

/// What is told of the account of `user_id` at `now`.
pub(crate) fn describe(user_id: &str, account: &Account, standing: Standing, now: u64) -> Value {
    let mut description = json!({
        "user_id": user_id,
        "authenticated": standing.is_signed_in(),
        "has_token": account.access_token.is_some(),
        "username": account.username,
        "display_name": account.name,
        "scopes": account.granted_scope.split_whitespace().collect::<Vec<_>>(),
        "signed_in_at": iso8601_seconds(account.signed_in_at),
        "expires_at": iso8601_seconds(account.expires_at),
        "expires_in_seconds": account.expires_at.saturating_sub(now),
        "can_refresh": account.refresh_token.is_some(),
    });
    let tenant_id = account.person.as_ref().map(|person| person.tid.as_str());
    add(&mut description, "tenant_id", tenant_id);
    description
}

/// The schema of the arguments of each of `definitions`, by the tool's name.
fn input_schemas(definitions: Vec<Value>) -> BTreeMap<String, Value> {
    let mut schemas = BTreeMap::new();
    for mut definition in definitions {
        let schema = definition.get_mut("inputSchema").map(Value::take);
        let name = definition.get("name").and_then(Value::as_str);
        if let (Some(name), Some(schema)) = (name, schema) {
            schemas.insert(name.to_owned(), schema);
        }
    }
    schemas
}

/// Finds or describes operations.
fn search(searched: &Searched, tool: &str, arguments: &Object<'_>) -> Result<Value, Failure> {
    if tool == DESCRIBE {
        return searched.describe(&arguments.text("operation").unwrap_or_default());
    }
    let query = arguments.text("query").unwrap_or_default();
    searched.find(&query, arguments.text("tag").as_deref())
}

fn done(result: Result<Value, Failure>) -> Called {
    Called::Done(result::of(result))
}
