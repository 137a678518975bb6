//! The verbs for a person at a terminal. They share the token file with a running server, which sees each
//! change at its next call.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use url::form_urlencoded::Serializer;

use crate::auth::Auth;
use crate::auth::account::Account;
use crate::auth::pending::{Attempt, LIFETIME, Method};
use crate::auth::sign_in::check_user_id;
use crate::clock::{Clock, iso8601_seconds};
use crate::config::{Config, SignInMethod};
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::mcp::tools::result::add;
use crate::mcp::tools::{DEFAULT_USER_ID, Tools};
use crate::outgoing::is_loopback_host;
use crate::owner::{Owner, PATIENCE, Purpose};
use crate::serve::{self, Server};

/// How often a sign-in that is under way is looked at.
const STEP: Duration = Duration::from_millis(250);

/// Tells the person what to do, and opens the link, where there is one to open here.
pub type Show<'a> = &'a dyn Fn(&str, Option<&str>);

/// Signs in as `user_id` (without one, as the only account, else as `default`), in the browser or with a
/// device code; gives what the page says that ends it.
///
/// # Errors
/// How it failed.
pub fn login(
    config: Config,
    clock: Clock,
    user_id: Option<&str>,
    with_code: bool,
    show: Show<'_>,
) -> Result<String, Failure> {
    let sign_in = Arc::new(own(config.clone(), clock.clone())?);
    let user_id = match choose(&sign_in, user_id, "login") {
        Err(failure) if failure.kind == Kind::SignInRequired => DEFAULT_USER_ID.to_owned(),
        chosen => chosen?,
    };
    check_user_id(&user_id)?;
    if with_code || config.sign_in_method == SignInMethod::DeviceCode {
        let attempt = sign_in.offer_device_code(
            &user_id,
            sign_in.next_requirements(&user_id, None),
            "entra-auth-mcp login",
        )?;
        if let Method::DeviceCode(device) = &attempt.method {
            let (uri, code) = (&device.verification_uri, &device.user_code);
            show(
                &format!(
                    "To sign in as {user_id}:\nOpen {uri} on any device and enter the code {code}\n"
                ),
                None,
            );
        }
        return ended(&sign_in, &attempt);
    }
    drop(sign_in);
    let server = Server::start(config, clock, Limits::default())?;
    let (sign_in, config) = (server.auth(), server.config());
    let attempt = sign_in.offer(&user_id, sign_in.next_requirements(&user_id, None))?;
    show_link(config, &user_id, sign_in.link(&attempt).expose(), show);
    // Dropped behind this, the server first lets the browser have its last page.
    ended(sign_in, &attempt)
}

fn show_link(config: &Config, user_id: &str, link: &str, show: Show<'_>) {
    let host = &config.redirect_uri.host;
    let from_elsewhere = match host.port.filter(|_| is_loopback_host(&host.name)) {
        Some(port) => format!(
            " A browser on another machine needs the port, too: ssh -L {port}:localhost:{} HOST",
            config.server_port
        ),
        None => String::new(),
    };
    let text = format!(
        "To sign in as {user_id}, open this link in a browser:\n  {link}\n\
         If none opens by itself, copy the link into one.{from_elsewhere}\n"
    );
    show(&text, Some(link));
}

/// Waits until `attempt`, which is under way in this process, is over; how it ended.
fn ended(sign_in: &Auth, attempt: &Attempt) -> Result<String, Failure> {
    while sign_in.pending().sleep(&attempt.handle, STEP) {}
    let outcome = sign_in.pending().outcome(&attempt.handle);
    let message = outcome
        .unwrap_or_else(|| Err(too_late(&attempt.user_id).hint("Start again with a new login.")))?;
    Ok(message + "\n")
}

fn own(config: Config, clock: Clock) -> Result<Auth, Failure> {
    let owner = Owner::acquire(&config.token_cache_file, Purpose::Server, PATIENCE)?;
    Auth::start(Arc::new(config), clock, owner)
}

fn too_late(user_id: &str) -> Failure {
    Failure::new(
        Kind::SignInRequired,
        format!("{user_id} has not signed in in time."),
    )
}

/// Forgets the tokens of `user_id` (without one, of the only account); says so.
///
/// # Errors
/// Nobody, or several to choose from; the token file is out of order.
pub fn logout(config: Config, user_id: Option<&str>) -> Result<String, Failure> {
    let sign_in = own(config, Clock::system())?;
    let user_id = choose(&sign_in, user_id, "logout")?;
    sign_in.sign_out(Some(&user_id), "entra-auth-mcp logout")?;
    let logout_url = sign_in.config.authority.endpoint("logout");
    Ok(format!(
        "The tokens of {user_id} are forgotten. Those that were already issued live on until they expire.\n\
         To end the browser's own session with Microsoft, open this link:\n  {logout_url}\n"
    ))
}

/// The account that is meant, in the words of a command line.
fn choose(sign_in: &Auth, user_id: Option<&str>, verb: &str) -> Result<String, Failure> {
    sign_in
        .choose(user_id)
        .map(|chosen| chosen.user_id)
        .map_err(|failure| match failure.kind {
            Kind::InvalidRequest => failure.hint(format!(
                "Say which one is meant: entra-auth-mcp {verb} USER."
            )),
            _ => failure,
        })
}

/// Who is signed in, in which token file, and whether a server is running, as lines or as JSON; and whether
/// anybody is signed in.
///
/// # Errors
/// The token file is out of order.
pub fn status(config: Config, as_json: bool) -> Result<(String, bool), Failure> {
    let file = token_file(&config);
    let config = Arc::new(config);
    let sign_in = Arc::new(own(Config::clone(&config), Clock::system())?);
    let accounts = sign_in.accounts();
    let is_anybody = accounts
        .keys()
        .any(|user_id| sign_in.standing(user_id).is_signed_in());
    let server = serve::is_running(&config).then(|| config.redirect_uri.origin.clone());
    if as_json {
        // Whether calls could move files is none of it.
        let mut config = Config::clone(&config);
        config.files_dir = None;
        let mut status = Tools::new(Arc::new(config), sign_in)?.status(None);
        // Only the process in which a sign-in ends knows of it before.
        status
            .as_object_mut()
            .map(|members| members.remove("pending_sign_in"));
        add(&mut status, "token_file", Some(file.to_string_lossy()));
        add(&mut status, "server", Some(server));
        return Ok((format!("{status:#}\n"), is_anybody));
    }
    let line = |(user_id, account): (&String, &Arc<Account>)| {
        let state = describe(account, sign_in.standing(user_id).is_signed_in());
        format!(
            "{user_id}: {}, tenant {}, {state}\n",
            account.username,
            account
                .person
                .as_ref()
                .map_or("", |person| person.tid.as_str())
        )
    };
    let lines: String = accounts.iter().map(line).collect();
    let lines = if lines.is_empty() {
        "Nobody is signed in.\n".to_owned()
    } else {
        lines
    };
    let server = server.map_or_else(
        || "none is running".to_owned(),
        |origin| format!("running at {origin}"),
    );
    Ok((
        format!("{lines}Token file: {}\nServer: {server}\n", file.display()),
        is_anybody,
    ))
}

fn describe(account: &Account, is_signed_in: bool) -> String {
    let until = iso8601_seconds(account.expires_at);
    match &account.refresh_token {
        _ if !is_signed_in => "the sign-in has ended".to_owned(),
        Some(_) => format!("token good until {until}, then refreshed"),
        None => format!("signed in until {until}, which cannot be refreshed"),
    }
}

/// The whole path, so that it can be compared with a server's that runs in another directory.
fn token_file(config: &Config) -> PathBuf {
    std::path::absolute(&config.token_cache_file)
        .unwrap_or_else(|_| config.token_cache_file.clone())
}
