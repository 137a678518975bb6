//! Who may talk to us, and which path means what.

mod auth;
mod oauth;
mod pages;

use std::sync::{Arc, Mutex};

use serde_json::json;
use tiny_http::Method;
use url::Url;

use self::oauth::Wanted;
use self::pages::Pages;
use self::pages::home::{Home, Row};
use crate::access_key::Sessions;
use crate::auth::Auth;
use crate::auth::aadsts;
use crate::auth::authority::ResponseMode;
use crate::auth::sign_in::check_user_id;
use crate::config::{AllowedHost, CALLBACK_PATH, Config};
use crate::error::{Failure, Kind};
use crate::http::answer::Answer;
use crate::http::application::Application;
use crate::http::message::{Reply, Request, empty_reply, json_reply, with_field};
use crate::logging;
use crate::mcp::protocol::{self, Protocol};
use crate::mcp::tools::Tools;
use crate::media_type;
use crate::secret::Secret;

/// What MCP clients send beyond the headers that need no leave (Fetch standard, CORS-safelisted).
const CORS_HEADERS: &str = "content-type, accept, authorization, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id";

/// The methods of what can be read as often as one likes.
const READ: &[Method] = &[Method::Get, Method::Head];
/// The challenge to who is not let in (RFC 6750 §3).
const BEARER: &str = r#"Bearer realm="entra-auth-mcp""#;
const KEY_FORM: &str = "/auth/key";
const NO_KEY: &str = "There is no OAuth here. Send this server's access key with each request, as the header \
                      'Authorization: Bearer KEY'. Whoever runs the server has set the key as SERVER_ACCESS_KEY or SERVER_ACCESS_KEY_FILE.";
const KEEP_HOST: &str = "A proxy in front of this server must keep Host. nginx: `proxy_set_header Host $http_host`; \
                         Apache: `ProxyPreserveHost On`; h2o: `proxy.preserve-host: ON`.";
/// To whoever can reach the port; why it is so, `get_server_info` says and the log.
const TROUBLE: &str = "The token file cannot be read or written; what is in memory serves.";
const NOT_RECORDED: &str =
    "The audit log cannot be written; while it is required, every call fails.";
const NOT_COMPLETED: &str = "The sign-in could not be completed";
const NOT_SIGNED_OUT: &str = "Not signed out";

/// The application behind the listener.
pub(crate) struct Routes {
    config: Arc<Config>,
    auth: Arc<Auth>,
    sessions: Sessions,
    protocol: Protocol,
    pages: Pages,
    hosts: Vec<AllowedHost>,
    own_origins: Vec<String>,
    /// Whoever holds it begins a sign-in under a label that is free.
    choosing: Mutex<()>,
}

/// What makes the answer of one path.
type Page = fn(&Routes, &Request<'_>) -> Reply;

/// Whom a path is for, where there is an access key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Everybody,
    /// Whoever sends the key.
    Programs,
    /// Whoever does, or has entered it in this browser.
    People,
}

impl Routes {
    /// The routes of a server that listens on the port of `config`.
    ///
    /// # Errors
    /// No randomness.
    pub(crate) fn new(config: Arc<Config>, auth: Arc<Auth>) -> Result<Self, Failure> {
        let redirect_uri = &config.redirect_uri;
        let port = config.server_port;
        let mut hosts = config.allowed_hosts.clone();
        hosts.push(redirect_uri.host.clone());
        let mut own_origins = vec![redirect_uri.origin.clone()];
        for name in ["localhost", "127.0.0.1", "[::1]"] {
            hosts.push(AllowedHost {
                name: name.to_owned(),
                port: Some(port),
            });
            // As browsers write it: without the scheme's own port.
            own_origins.push(
                format!("http://{name}:{port}")
                    .trim_end_matches(":80")
                    .to_owned(),
            );
        }
        let tools = Tools::new(Arc::clone(&config), Arc::clone(&auth))?;
        let sessions = Sessions::new(port)?;
        Ok(Self {
            protocol: Protocol::new(tools),
            pages: Pages::new(redirect_uri.prefix()),
            sessions,
            config,
            auth,
            hosts,
            own_origins,
            choosing: Mutex::default(),
        })
    }

    /// The `Host` must be one of ours, so that no other name can be made to point at us (DNS
    /// rebinding).
    fn check_host(&self, request: &Request<'_>) -> Result<(), Reply> {
        let host = request.field("host").unwrap_or_default();
        let (name, port) = name_and_port(host);
        // Without a port, the scheme's own is meant; behind a proxy, the scheme may be https.
        let is_port = |allowed: u16| {
            port.map_or(matches!(allowed, 80 | 443), |port| {
                port == allowed.to_string()
            })
        };
        let fits = |allowed: &AllowedHost| {
            allowed.name.eq_ignore_ascii_case(name) && allowed.port.is_none_or(is_port)
        };
        if self.hosts.iter().any(fits) {
            Ok(())
        } else {
            Err(forbidden("Host", host, "ALLOWED_HOSTS"))
        }
    }

    /// Where a page sends the request, its origin must be ours or an allowed one (MCP 2026-07-28
    /// transports, "Security"). Gives the origin that needs a CORS answer.
    fn check_origin<'r>(&self, request: &Request<'r>) -> Result<Option<&'r str>, Reply> {
        let mut origins = request.fields("origin");
        let Some(origin) = origins.next() else {
            return Ok(None);
        };
        let is_among = |list: &[String]| list.iter().any(|allowed| allowed == origin);
        match origins.next() {
            None if is_among(&self.own_origins) => Ok(None),
            None if is_among(&self.config.allowed_origins) => Ok(Some(origin)),
            _ => Err(forbidden("Origin", origin, "ALLOWED_ORIGINS")),
        }
    }

    /// Where there is an access key, who asks for a path must have it. A browser may ask what it
    /// may send before it sends it.
    fn is_let_in(&self, request: &Request<'_>, whom: For) -> bool {
        let Some(key) = &self.config.access_key else {
            return true;
        };
        let is_let_in = whom == For::Everybody
            || request.head.method == Method::Options
            || key.is_brought_by(request)
            || (whom == For::People && self.sessions.is_open(request, self.auth.now()));
        if !is_let_in && request.field("authorization").is_some() {
            log::warn!(
                "a request for {} was refused: it has another key than the access key",
                request.head.path
            );
        }
        is_let_in
    }

    fn dispatch(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Result<Reply, Reply> {
        self.check_host(request)?;
        let method = &request.head.method;
        let path = self.path(request);
        if self.is_callback(request, path) {
            // Entra's POST comes with Entra's origin, or `null`; it rests on its state alone.
            if *method != Method::Post {
                self.check_origin(request)?;
            }
            let by_form = self.config.response_mode == ResponseMode::FormPost;
            allow(
                method,
                if by_form {
                    &[Method::Post, Method::Get]
                } else {
                    &[Method::Get]
                },
            )?;
            return Ok(self.shown(self.callback(request), NOT_COMPLETED));
        }
        // The form for the key may stand at any allowed host, and is looked at more strictly: see
        // `take_key`.
        let cors = if path == KEY_FORM {
            None
        } else {
            self.check_origin(request)?
        };
        if path == "/mcp" {
            allow_origin(answer, cors);
            if *method == Method::Options && cors.is_some() {
                return Ok(preflight());
            }
            if is_opened_by_a_person(request) {
                return Ok(with_field(self.pages.endpoint(), "Allow", "POST, OPTIONS"));
            }
            if !self.is_let_in(request, For::Programs) {
                let refusal = protocol::unauthorized(NO_KEY);
                return Ok(with_field(refusal, "WWW-Authenticate", &challenge(request)));
            }
            allow(method, &[Method::Post])?;
            return Ok(self.protocol.answer(request, answer));
        }
        if self.config.access_key.is_some()
            && let Some(wanted) = Wanted::at(path)
        {
            allow_origin(answer, cors);
            if *method == Method::Options && cors.is_some() {
                return Ok(preflight());
            }
            return Ok(wanted.refusal(NO_KEY, &self.pages));
        }
        // The ticket of a sign-in link is proof enough: it cannot be guessed.
        let who_signs_in = if request.parameter("ticket").is_some() {
            For::Everybody
        } else {
            For::People
        };
        let (whom, methods, page): (For, &[Method], Page) = match path {
            "/" => (For::People, READ, Self::home),
            "/healthz" => (For::Everybody, READ, Self::health),
            // The address bar still has it after a wrong key.
            KEY_FORM if is_opened_by_a_person(request) && self.config.access_key.is_some() => {
                (For::Everybody, READ, Self::to_start)
            }
            KEY_FORM if self.config.access_key.is_some() => {
                (For::Everybody, &[Method::Post], Self::take_key)
            }
            "/auth/login" => (who_signs_in, &[Method::Get], |this, request| {
                this.shown(this.login(request), "This sign-in cannot begin")
            }),
            "/auth/complete" => (For::Everybody, &[Method::Get], |this, request| {
                this.shown(this.complete(request), NOT_COMPLETED)
            }),
            "/auth/logout" => (For::People, &[Method::Get], |this, request| {
                this.shown(this.logout(request), NOT_SIGNED_OUT)
            }),
            "/auth/logout-complete" => (For::Everybody, READ, |this, _| {
                this.pages
                    .signed_out(&this.config.authority.endpoint("logout"))
            }),
            "/auth/status" => (For::Programs, READ, Self::status),
            "*" => (For::Everybody, &[], Self::home),
            _ if is_opened_by_a_person(request) => return Err(self.pages.not_found()),
            _ => {
                return Err(json_reply(
                    404,
                    r#"{"error":"There is nothing at this path."}"#.to_owned(),
                ));
            }
        };
        if !self.is_let_in(request, whom) {
            let refusal = match whom {
                For::Programs => json_reply(401, json!({"error": NO_KEY}).to_string()),
                _ => self
                    .pages
                    .ask_for_key(who_signs_in_next(request).as_deref(), false),
            };
            return Err(with_field(refusal, "WWW-Authenticate", &challenge(request)));
        }
        allow(method, methods)?;
        Ok(page(self, request))
    }

    /// The path below the prefix of the redirect URI. Some proxies strip that prefix, others do
    /// not.
    fn path<'r>(&self, request: &Request<'r>) -> &'r str {
        let path = request.head.path;
        let path = match path.strip_prefix(self.config.redirect_uri.prefix()) {
            Some(below) if below.starts_with('/') => below,
            _ => path,
        };
        // Some clients and proxies add the slash.
        if path == "/mcp/" { "/mcp" } else { path }
    }

    /// A redirect URI without a path shares it with the start page.
    fn is_callback(&self, request: &Request<'_>, path: &str) -> bool {
        let own = &self.config.redirect_uri;
        if !own.prefix().is_empty() {
            return path == CALLBACK_PATH;
        }
        let is_answer = || {
            ["code", "error", "admin_consent"]
                .iter()
                .any(|name| request.parameter(name).is_some())
        };
        path == own.path && (path != "/" || request.head.method == Method::Post || is_answer())
    }

    /// A failure as a page of its own, under `title`.
    fn shown(&self, result: Result<Reply, Failure>, title: &str) -> Reply {
        result.unwrap_or_else(|failure| self.pages.failure(400, title, &failure))
    }

    // ---- Pages ----

    fn to_start(&self, _request: &Request<'_>) -> Reply {
        redirect(303, &format!("{}/", self.config.redirect_uri.prefix()))
    }

    /// The key from our own form: it lets the browser in for a while.
    fn take_key(&self, request: &Request<'_>) -> Reply {
        if let Err(failure) = check_own_form(request) {
            return self.pages.failure(403, "Not let in", &failure);
        }
        let user_id = request.parameter("user_id");
        let mut fields = url::form_urlencoded::parse(request.body);
        let given = fields
            .find(|(name, _)| name == "key")
            .map(|(_, key)| Secret::new(key.trim().to_owned()));
        let is_right = |given: &Secret| {
            self.config
                .access_key
                .as_ref()
                .is_some_and(|key| key.matches(given.expose()))
        };
        if !given.as_ref().is_some_and(is_right) {
            log::warn!("a key that was entered is not the access key");
            let refusal = self.pages.ask_for_key(user_id.as_deref(), true);
            return with_field(refusal, "WWW-Authenticate", BEARER);
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query
            .extend_pairs(user_id.map(|user_id| ("user_id", user_id)))
            .finish();
        let prefix = self.config.redirect_uri.prefix();
        let to = if query.is_empty() {
            format!("{prefix}/")
        } else {
            format!("{prefix}/?{query}")
        };
        let cookie = self
            .sessions
            .cookie(self.auth.now(), self.config.redirect_uri.is_https);
        with_field(redirect(303, &to), "Set-Cookie", &cookie)
    }

    fn home(&self, request: &Request<'_>) -> Reply {
        let accounts = self.auth.accounts();
        let rows = accounts.iter().map(|(user_id, account)| Row {
            user_id,
            account,
            standing: self.auth.standing(user_id),
        });
        let mcp_url = format!("{}/mcp", self.config.redirect_uri.base());
        let user_id = who_signs_in_next(request);
        self.pages.home(&Home {
            backend: self.config.backend.as_ref().map(Url::as_str),
            tenant: self.config.authority.tenant().segment(),
            scopes: self.config.scopes.requested(),
            accounts: rows.collect(),
            user_id: user_id.as_deref(),
            mcp_url: &mcp_url,
            has_key: self.config.access_key.is_some(),
            errors: aadsts::own_page(&self.config.application()),
        })
    }

    /// 200 also where only memory serves: whoever restarts a server that does not answer 200 would
    /// lose that.
    fn health(&self, _request: &Request<'_>) -> Reply {
        let health = if self.auth.trouble().is_some() {
            json!({"status": "degraded", "reason": TROUBLE})
        } else if self.auth.audit.is_broken() {
            json!({"status": "degraded", "reason": NOT_RECORDED})
        } else {
            json!({"status": "ok"})
        };
        json_reply(200, health.to_string())
    }

    fn status(&self, request: &Request<'_>) -> Reply {
        json_reply(
            200,
            self.protocol
                .tools
                .status(request.parameter("user_id").as_deref())
                .to_string(),
        )
    }
}

impl Application for Routes {
    fn takes_large_body(&self, request: &Request<'_>) -> bool {
        self.path(request) == "/mcp"
            && self.check_host(request).is_ok()
            && self.check_origin(request).is_ok()
            && self
                .config
                .access_key
                .as_ref()
                .is_none_or(|key| key.is_brought_by(request))
    }

    fn answer(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Reply {
        let reply = self
            .dispatch(request, answer)
            .unwrap_or_else(|refusal| refusal);
        let head = &request.head;
        logging::debug(format_args!(
            "{} {} {}",
            head.method,
            head.path,
            reply.status()
        ));
        reply
    }

    fn too_many_cookies(&self) -> Reply {
        let host = &self.config.redirect_uri.host.name;
        log::warn!(
            "a browser was refused: its cookies of {host} are too many; a private window has none"
        );
        self.pages.too_many_cookies(host)
    }
}

/// What to do about a missing or wrong key.
fn challenge(request: &Request<'_>) -> String {
    let error = request
        .field("authorization")
        .map_or("", |_| r#", error="invalid_token""#);
    format!("{BEARER}{error}")
}

/// `Ok` when `method` is one of `methods`; else 405, or 204 to `OPTIONS`, with `Allow`.
fn allow(method: &Method, methods: &[Method]) -> Result<(), Reply> {
    if methods.contains(method) {
        return Ok(());
    }
    let reply = match method {
        Method::Options => empty_reply(204),
        _ => json_reply(
            405,
            r#"{"error":"This method is not allowed here."}"#.to_owned(),
        ),
    };
    let mut allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    allowed.push("OPTIONS");
    Err(with_field(reply, "Allow", &allowed.join(", ")))
}

fn forbidden(what: &str, rejected: &str, setting: &str) -> Reply {
    log::warn!(
        "a request was refused: its {what} {rejected:?} is not allowed; {setting} can allow it"
    );
    let mut hint = format!("If it is yours, add it to the setting {setting} of this server.");
    if what == "Host" {
        hint = format!("{hint} {KEEP_HOST}");
    }
    let body = json!({
        "error": format!("This {what} is not allowed."),
        "rejected": rejected,
        "setting": setting,
        "hint": hint,
    });
    json_reply(403, body.to_string())
}

/// The answer to a browser that asks before it sends (Fetch standard, CORS preflight).
fn preflight() -> Reply {
    // GET and DELETE, so that a legacy client gets to read that they are not offered.
    let methods = "POST, GET, DELETE, OPTIONS";
    let reply = with_field(empty_reply(204), "Allow", "POST, OPTIONS");
    let reply = with_field(reply, "Access-Control-Allow-Methods", methods);
    let reply = with_field(reply, "Access-Control-Allow-Headers", CORS_HEADERS);
    with_field(reply, "Access-Control-Max-Age", "600")
}

/// Lets pages of `origin`, if any, read the answer (Fetch standard, CORS).
fn allow_origin(answer: &mut Answer<'_>, origin: Option<&str>) {
    answer.add_field("Vary", "Origin");
    if let Some(origin) = origin {
        answer.add_field("Access-Control-Allow-Origin", origin);
        answer.add_field("Access-Control-Expose-Headers", "mcp-session-id");
    }
}

fn redirect(status: u16, location: &str) -> Reply {
    with_field(empty_reply(status), "Location", location)
}

/// The two parts of a `Host` (RFC 9110 §7.2); an IPv6 address has colons of its own.
fn name_and_port(host: &str) -> (&str, Option<&str>) {
    let parts = host
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'));
    parts.map_or((host, None), |(name, port)| (name, Some(port)))
}

/// What the browser calls itself.
fn user_agent<'r>(request: &Request<'r>) -> &'r str {
    request.field("user-agent").unwrap_or_default()
}

/// The label that a page of ours offers to sign in under. Another site has no say in it: a click on
/// our page needs no further confirmation. Nor is anything shown that can be no label.
fn who_signs_in_next(request: &Request<'_>) -> Option<String> {
    request
        .parameter("user_id")
        .filter(|user_id| !is_led_from_elsewhere(request) && check_user_id(user_id).is_ok())
}

/// The key is taken from our own form alone: its origin is the host that was asked.
fn check_own_form(request: &Request<'_>) -> Result<(), Failure> {
    let mut origins = request.fields("origin");
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        return Err(not_our_form());
    };
    let Some((_, authority)) = origin.split_once("://") else {
        return Err(not_our_form());
    };
    if !is_form(request) {
        return Err(not_our_form());
    }
    let host = request.field("host").unwrap_or_default();
    if authority == host {
        return Ok(());
    }
    log::warn!(
        "the form for the access key was refused: it came from {origin:?}, but Host is {host:?}; a proxy must keep Host"
    );
    let message = format!("The form came from {origin}, but the request's Host is {host}.");
    let hint = format!("{KEEP_HOST} Without a proxy, enter the key on the start page.");
    Err(Failure::new(Kind::Refused, message).hint(hint))
}

fn not_our_form() -> Failure {
    Failure::new(
        Kind::Refused,
        "The key did not come from this server's own form.",
    )
    .hint("Enter it on the start page.")
}

/// Whether a person has opened the address in a browser, and is to be shown a page.
fn is_opened_by_a_person(request: &Request<'_>) -> bool {
    let takes_pages = || {
        request
            .fields("accept")
            .any(|types| types.contains("text/html"))
    };
    let is_document = request.field("sec-fetch-dest") == Some("document");
    request.head.method == Method::Get && (is_document || takes_pages())
}

fn is_form(request: &Request<'_>) -> bool {
    request
        .field("content-type")
        .is_some_and(|value| media_type::is(value, "application/x-www-form-urlencoded"))
}

/// Whether a page of another origin has sent the browser here (Fetch Metadata). Another port of
/// this machine is another origin.
fn is_led_from_elsewhere(request: &Request<'_>) -> bool {
    request.field("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
        // Nor has the person asked for what a browser loads in advance.
        || request.field("sec-purpose").is_some()
}
