//! The verbs for a person at a terminal. `login` and `logout` act through the process that owns the
//! token file, or own it themselves; `status` only reads.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::auth::account::{Account, Stored};
use crate::auth::pending::{Attempt, LIFETIME, Method};
use crate::auth::sign_in::{check_user_id, success_of};
use crate::auth::standing::{self, Notes, Standing};
use crate::auth::token_file::TokenFile;
use crate::auth::{Auth, DEFAULT_USER_ID};
use crate::browser::Link;
use crate::clock::{Clock, iso8601_seconds};
use crate::config::{CALLBACK_PATH, Config, SignInMethod};
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::mcp::tools::result::add;
use crate::mcp::tools::{NO_DEVICE_CODES, describe};
use crate::outgoing::is_loopback_host;
use crate::owner::{self, Owner, OwnerInfo, Purpose};
use crate::owner_client::OwnerClient;
use crate::secret::{Secret, SecretJson};
use crate::serve::{Server, taken_address};
use crate::sorted;
use crate::text::json_escaped;

/// How often a sign-in is looked at that nobody has begun yet, and a server that is starting or
/// stopping.
const STEP: Duration = Duration::from_millis(100);
/// How long the server is asked to wait for the end of one that is under way, in seconds.
const WAIT: u64 = 2;

/// Tells the person what to do, and opens the link, where there is one to open here.
pub type Show<'a> = &'a dyn Fn(&str, Option<&Link>);

/// What `login` was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Login<'a> {
    /// Without it, the only account is meant, else `default`.
    pub user_id: Option<&'a str>,
    /// With a device code.
    pub with_code: bool,
    /// Of a running server, and of the one that `login` starts where none runs.
    pub access_key: Option<&'a Secret>,
}

// ---- Signing in ----

/// Signs in, in the browser or with a device code; gives what the page says that ends it.
///
/// # Errors
/// How it failed.
pub fn login(
    config: Config,
    clock: Clock,
    login: Login<'_>,
    show: Show<'_>,
) -> Result<String, Failure> {
    if let Some(user_id) = login.user_id {
        check_user_id(user_id)?;
    }
    let with_code = login.with_code || config.sign_in_method == SignInMethod::DeviceCode;
    let login = Login { with_code, ..login };
    if let Some(origin) = running_server(&config.token_cache_file)? {
        let token_file = Some(config.token_cache_file.as_path());
        return login_at(&origin, token_file, &clock, login, show);
    }
    if with_code {
        return login_with_code(config, clock, login.user_id, show);
    }
    let server = Server::start(config, clock.clone(), Limits::default())?;
    // Dropped behind this, the server first lets the browser have its last page.
    login_at(server.local_origin(), None, &clock, login, show)
}

/// Signs in through the server at `origin`, which is one of this process or owns `token_file`.
fn login_at(
    origin: &str,
    token_file: Option<&Path>,
    clock: &Clock,
    login: Login<'_>,
    show: Show<'_>,
) -> Result<String, Failure> {
    let server = OwnerClient::new(origin, token_file, login.access_key, "entra-auth-mcp login")?;
    let user_id = match login.user_id {
        Some(user_id) => user_id.to_owned(),
        None => only_user(&server, "login")?.unwrap_or_else(|| DEFAULT_USER_ID.to_owned()),
    };
    let before = server.call("check_auth_status", &json!({ "user_id": user_id }))?;
    // Sign-ins are told apart by the second in which they end.
    if text_of(&before, "signed_in_at") == iso8601_seconds(clock.now()) {
        thread::sleep(Duration::from_secs(1));
    }
    // A plain link is no secret, so every browser can be started with it. But where the server has
    // a key, only a link with a ticket works without typing the key. And after a failure, only a
    // sign-in that is begun here can be told from the one that failed.
    let has_failed = before.get("last_sign_in_error").is_some();
    let is_begun = server.has_access_key() || login.with_code || has_failed;
    let mut lifetime = LIFETIME;
    if is_begun {
        let offer = offer(&server, &user_id, login.with_code)?;
        let seconds = offer.get("link_expires_in_seconds");
        lifetime = seconds.and_then(Value::as_u64).unwrap_or(LIFETIME);
        show_offer(&server, &user_id, &offer, show);
    } else {
        let link = plain_link(&server, &user_id)?;
        show_link(&server, &user_id, &Link::Plain(link), show);
    }
    let sign_in = SignInAt {
        server: &server,
        clock,
        user_id: &user_id,
        before: &before,
        is_begun,
        deadline: clock.now() + lifetime,
    };
    sign_in.wait()
}

/// A sign-in that the server at `origin` offers, also to a person who is signed in already: who
/// says `login` wants to sign in anew, perhaps as somebody else.
fn offer(server: &OwnerClient<'_>, user_id: &str, with_code: bool) -> Result<SecretJson, Failure> {
    let mut arguments = json!({ "user_id": user_id });
    if with_code {
        let method = SignInMethod::DeviceCode.name();
        add(&mut arguments, "method", Some(method));
    }
    let offer = match server.call("authenticate_user", &arguments) {
        Err(failure) if failure.message.contains(NO_DEVICE_CODES) => {
            return Err(no_device_codes(server));
        }
        offer => offer?,
    };
    if !is_set(&offer, "already_signed_in") {
        return Ok(offer);
    }
    add(&mut arguments, "prompt", Some("select_account"));
    server.call("authenticate_user", &arguments)
}

fn no_device_codes(server: &OwnerClient<'_>) -> Failure {
    let message = format!(
        "The running server at {} does not allow device codes.",
        server.origin()
    );
    Failure::new(Kind::Configuration, message).hint(
        "Restart it with ALLOW_DEVICE_CODE=true, or stop it first: without a server, login --device-code needs no \
         permission. Or sign in without --device-code (and SIGN_IN_METHOD=browser).",
    )
}

fn show_offer(server: &OwnerClient<'_>, user_id: &str, offer: &Value, show: Show<'_>) {
    let link = text_of(offer, "sign_in_url");
    if let Some(code) = offer.get("user_code").and_then(Value::as_str) {
        show_code(user_id, link, code, show);
    } else {
        let link = Link::WithTicket(Secret::new(link.to_owned()));
        show_link(server, user_id, &link, show);
    }
}

/// The address that begins a sign-in of `user_id`, which the server tells browsers.
fn plain_link(server: &OwnerClient<'_>, user_id: &str) -> Result<String, Failure> {
    let info = server.call("get_server_info", &json!({}))?;
    let redirect_uri = text_of(&info, "redirect_uri");
    let base = match redirect_uri.strip_suffix(CALLBACK_PATH) {
        // With the path below which a proxy serves it.
        Some(base) => base.to_owned(),
        None => Url::parse(redirect_uri).map_or_else(
            |_| server.origin().to_owned(),
            |uri| uri.origin().ascii_serialization(),
        ),
    };
    let query = Serializer::new(String::new())
        .append_pair("user_id", user_id)
        .finish();
    Ok(format!("{base}/auth/login?{query}"))
}

fn show_link(server: &OwnerClient<'_>, user_id: &str, link: &Link, show: Show<'_>) {
    let from_elsewhere = match (loopback_port(link.expose()), loopback_port(server.origin())) {
        (Some(port), Some(server_port)) => format!(
            " A browser on another machine needs the port, too: ssh -L {port}:localhost:{server_port} HOST"
        ),
        _ => String::new(),
    };
    let whom = as_whom(user_id);
    let before = format!("To sign in{whom}, open this link in a browser:\n  ");
    let after = format!("\nIf no browser opens, copy the link into one.{from_elsewhere}\n");
    show(link.between(&before, &after).expose(), Some(link));
}

/// The port of `url` where its host is this machine alone.
fn loopback_port(url: &str) -> Option<u16> {
    let url = Url::parse(url).ok()?;
    if is_loopback_host(url.host_str()?) {
        url.port()
    } else {
        None
    }
}

fn show_code(user_id: &str, address: &str, code: &str, show: Show<'_>) {
    let whom = as_whom(user_id);
    let text =
        format!("To sign in{whom}, open {address} on any device and enter the code {code}\n");
    show(&text, None);
}

/// " as ada"; empty for the account that nobody has named.
fn as_whom(user_id: &str) -> String {
    if user_id == DEFAULT_USER_ID {
        String::new()
    } else {
        format!(" as {user_id}")
    }
}

/// A sign-in that ends at a server.
struct SignInAt<'a> {
    server: &'a OwnerClient<'a>,
    clock: &'a Clock,
    user_id: &'a str,
    /// What the server knew of the account before.
    before: &'a Value,
    /// Whether it is under way at the server. Else the person begins it by opening the link.
    is_begun: bool,
    /// In seconds since 1970.
    deadline: u64,
}

impl SignInAt<'_> {
    /// Waits for its end.
    fn wait(&self) -> Result<String, Failure> {
        let mut was_pending = self.is_begun;
        loop {
            let arguments = json!({ "user_id": self.user_id, "wait_seconds": WAIT });
            let status = self.server.call("check_auth_status", &arguments)?;
            let is_pending = is_set(&status, "pending_sign_in");
            let is_over = was_pending && !is_pending;
            let is_late = self.clock.now() >= self.deadline;
            if self.is_new(&status, "signed_in_at") {
                return Ok(self.success(&status));
            }
            // The same failure as before is a new one if there was a sign-in in between.
            if is_over || self.is_new(&status, "last_sign_in_error") {
                let error = status.get("last_sign_in_error").and_then(Value::as_str);
                if let Some(error) = error {
                    return Err(Failure::new(Kind::SignInRequired, error));
                }
            }
            if is_over && self.is_begun {
                // In the same second as the last sign-in.
                return if is_set(&status, "authenticated") && !is_late {
                    Ok(self.success(&status))
                } else {
                    Err(too_late(self.user_id))
                };
            }
            if is_late {
                return Err(too_late(self.user_id));
            }
            was_pending = is_pending;
            if !is_pending {
                thread::sleep(STEP);
            }
        }
    }

    /// Whether `status` has a `member` that it did not have before.
    fn is_new(&self, status: &Value, member: &str) -> bool {
        let now = status.get(member);
        now.is_some() && now != self.before.get(member)
    }

    fn success(&self, status: &Value) -> String {
        let username = json_escaped(text_of(status, "username"));
        success_of(self.user_id, &username) + "\n"
    }
}

fn too_late(user_id: &str) -> Failure {
    Failure::new(
        Kind::SignInRequired,
        format!("Nobody signed in{} in time.", as_whom(user_id)),
    )
    .hint("Start again with a new login.")
}

/// Signs in with a device code, for which nothing has to listen.
fn login_with_code(
    config: Config,
    clock: Clock,
    user_id: Option<&str>,
    show: Show<'_>,
) -> Result<String, Failure> {
    let owner = Owner::acquire(
        &config.token_cache_file,
        Purpose::DeviceCode,
        owner::PATIENCE,
    )?;
    let auth = Arc::new(Auth::start(Arc::new(config), clock, owner)?);
    let user_id = match choose(&auth, user_id, "login") {
        Err(failure) if failure.kind == Kind::SignInRequired => DEFAULT_USER_ID.to_owned(),
        chosen => chosen?,
    };
    let requirements = auth.next_requirements(&user_id, None);
    let attempt = auth.offer_device_code(&user_id, requirements, "entra-auth-mcp login")?;
    if let Method::DeviceCode(device) = &attempt.method {
        let address = device.verification_uri.as_str();
        show_code(&user_id, address, &device.user_code, show);
    }
    match ended(&auth, &attempt) {
        Err(failure) if failure.kind == Kind::Refused => {
            let hint = format!(
                "{} For the browser: entra-auth-mcp login with SIGN_IN_METHOD=browser and without --device-code.",
                failure.hint
            );
            Err(failure.hint(hint))
        }
        outcome => outcome,
    }
}

/// Waits until `attempt`, which is under way in this process, is over; how it ended.
fn ended(auth: &Auth, attempt: &Attempt) -> Result<String, Failure> {
    let pending = auth.pending();
    while pending.sleep(&attempt.handle, STEP) {}
    let outcome = pending.outcome(&attempt.handle);
    let message = outcome.unwrap_or_else(|| Err(too_late(&attempt.user_id)))?;
    Ok(json_escaped(&message) + "\n")
}

// ---- Signing out ----

/// Forgets the tokens of `user_id` (without one, of the only account); says so. `access_key` is
/// that of a server that runs.
///
/// # Errors
/// Nobody, or several to choose from; the token file is out of order.
pub fn logout(
    config: Config,
    user_id: Option<&str>,
    access_key: Option<&Secret>,
) -> Result<String, Failure> {
    const NAME: &str = "entra-auth-mcp logout";
    if let Some(origin) = running_server(&config.token_cache_file)? {
        let token_file = Some(config.token_cache_file.as_path());
        let server = OwnerClient::new(&origin, token_file, access_key, NAME)?;
        let user_id = match user_id {
            Some(user_id) => user_id.to_owned(),
            None => only_user(&server, "logout")?.ok_or_else(nobody)?,
        };
        let done = server.call("logout_user", &json!({ "user_id": user_id }));
        let done = done.map_err(not_signed_out)?;
        return Ok(signed_out(&user_id, text_of(&done, "logout_url")));
    }
    let owner = Owner::acquire(&config.token_cache_file, Purpose::Server, owner::PATIENCE)?;
    let auth = Auth::start(Arc::new(config), Clock::system(), owner)?;
    let user_id = choose(&auth, user_id, "logout")?;
    auth.sign_out(Some(&user_id), NAME)
        .map_err(not_signed_out)?;
    let logout_url = auth.config.authority.endpoint("logout");
    Ok(signed_out(&user_id, logout_url.as_str()))
}

/// Why nobody was signed out, in the words of a command line.
fn not_signed_out(failure: Failure) -> Failure {
    if failure.kind == Kind::InvalidRequest {
        failure.hint("entra-auth-mcp status shows who is signed in.")
    } else {
        failure
    }
}

fn signed_out(user_id: &str, logout_url: &str) -> String {
    format!(
        "The tokens of {user_id} are forgotten. Those that were already issued live on until they expire.\n\
         To end the browser's own session with Microsoft, open this link:\n  {logout_url}\n"
    )
}

// ---- Who is meant, and who does it ----

/// The origin of the server that owns `token_file`; `None` when nobody owns it. One that is
/// starting or stopping is waited for.
pub(crate) fn running_server(token_file: &Path) -> Result<Option<String>, Failure> {
    let deadline = Instant::now() + owner::PATIENCE;
    loop {
        let refusal = match owner::current(token_file) {
            Ok(None) => return Ok(None),
            Ok(Some(OwnerInfo {
                origin: Some(origin),
                ..
            })) => return Ok(Some(origin)),
            Ok(Some(owner)) if owner.purpose == Purpose::DeviceCode => {
                return Err(owner.refusal(token_file));
            }
            Ok(Some(owner)) => owner.refusal(token_file),
            Err(failure) => failure,
        };
        if Instant::now() >= deadline {
            return Err(refusal);
        }
        thread::sleep(STEP);
    }
}

/// The only account of the server, if there is one.
fn only_user(server: &OwnerClient<'_>, verb: &str) -> Result<Option<String>, Failure> {
    let known = server.call("view_userid", &json!({}))?;
    let user_ids: Vec<&str> = known
        .get("user_ids")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match user_ids.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some((*only).to_owned())),
        several => {
            let message = format!("Several accounts are signed in: {}.", several.join(", "));
            Err(Failure::new(Kind::InvalidRequest, message).hint(which_one(verb)))
        }
    }
}

/// The account that is meant, in the words of a command line.
fn choose(auth: &Auth, user_id: Option<&str>, verb: &str) -> Result<String, Failure> {
    match auth.choose(user_id) {
        Ok(chosen) => Ok(chosen.user_id),
        Err(failure) if failure.kind == Kind::InvalidRequest => Err(failure.hint(which_one(verb))),
        Err(failure) => Err(failure),
    }
}

fn which_one(verb: &str) -> String {
    format!("Say which one is meant: entra-auth-mcp {verb} USER.")
}

fn nobody() -> Failure {
    Failure::new(Kind::SignInRequired, "Nobody is signed in.")
}

fn is_set(result: &Value, member: &str) -> bool {
    result.get(member).and_then(Value::as_bool).unwrap_or(false)
}

fn text_of<'a>(result: &'a Value, member: &str) -> &'a str {
    result.get(member).and_then(Value::as_str).unwrap_or("")
}

// ---- Status ----

/// Who is signed in, in which token file, and whether a server is running, as lines or as JSON; and
/// whether anybody is signed in. The token file is only read, so it can be asked beside any owner.
///
/// # Errors
/// The token file cannot be read.
pub fn status(config: &Config, as_json: bool) -> Result<(String, bool), Failure> {
    let now = Clock::system().now();
    let found = TokenFile::look(&config.token_cache_file, &standing::binding(config))?;
    let mut accounts = Vec::new();
    for stored in found {
        if standing::fits(&stored.account, config) {
            sorted::insert(&mut accounts, stored, |one| one.user_id.clone());
        }
    }
    let standing_of = |account: &Account| standing::of(account, config, now, Notes::default());
    let is_anybody = accounts
        .iter()
        .any(|stored| standing_of(&stored.account).is_signed_in());
    let file = whole_path(&config.token_cache_file);
    let owner = owner::current(&config.token_cache_file);
    if as_json {
        let origin = owner.ok().flatten().and_then(|owner| owner.origin);
        let accounts: Vec<Value> = accounts
            .iter()
            .map(|Stored { user_id, account }| {
                describe(user_id, account, standing_of(account), now)
            })
            .collect();
        let status = json!({
            "authenticated": is_anybody,
            "accounts": accounts,
            "token_file": file.to_string_lossy(),
            "server": origin,
        });
        return Ok((format!("{status:#}\n"), is_anybody));
    }
    let mut text = String::new();
    for Stored { user_id, account } in &accounts {
        // No name makes a line of its own.
        let username = json_escaped(&account.username);
        let tid = account.person.as_ref().map(|person| person.tid.as_str());
        let tenant = tid.unwrap_or("not known yet");
        let state = state_of(account, standing_of(account));
        // Writing into memory cannot fail.
        let _ = writeln!(text, "{user_id}: {username}, tenant {tenant}, {state}");
    }
    if accounts.is_empty() {
        text += "Nobody is signed in.\n";
    }
    let may_listen = match &owner {
        Ok(Some(owner)) => owner.purpose == Purpose::Server,
        Ok(None) => false,
        // An owner that does not say who it is may be a server.
        Err(_) => true,
    };
    let server = server_state(owner);
    let _ = write!(text, "Token file: {}\nServer: {server}\n", file.display());
    if !may_listen && let Some(address) = taken_address(config) {
        let _ = writeln!(
            text,
            "Port: something else listens on {address}; it is not the server of this token file"
        );
    }
    Ok((text, is_anybody))
}

fn state_of(account: &Account, standing: Standing) -> String {
    let until = iso8601_seconds(account.expires_at);
    match &account.refresh_token {
        _ if !standing.is_signed_in() => "the sign-in has ended".to_owned(),
        Some(_) => format!("token good until {until}, then refreshed"),
        None => format!("signed in until {until}, which cannot be refreshed"),
    }
}

fn server_state(owner: Result<Option<OwnerInfo>, Failure>) -> String {
    match owner {
        Ok(None) => "none is running".to_owned(),
        Ok(Some(OwnerInfo {
            pid,
            origin,
            purpose,
        })) => match (purpose, origin) {
            (Purpose::Server, Some(origin)) => format!("running at {origin} (process {pid})"),
            (Purpose::Server, None) => format!("starting or stopping (process {pid})"),
            (Purpose::DeviceCode, _) => {
                format!("none is running; login --device-code is under way (process {pid})")
            }
        },
        Err(failure) => failure.message,
    }
}

/// The whole path, so that it can be compared with a server's that runs in another directory.
fn whole_path(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
