//! Who may talk to us, and which path means what.

use std::sync::Arc;

use serde_json::json;
use tiny_http::Method;

use crate::config::{AllowedHost, Config};
use crate::error::{Failure, Kind};
use crate::http::message::{Answer, Application, Reply, Request, empty_reply, json_reply, with_field};
use crate::mcp::protocol::Protocol;
use crate::mcp::tools::Tools;
use crate::oauth::authorize::ResponseMode;
use crate::oauth::callback;
use crate::pages;
use crate::pending::{self, LIFETIME};
use crate::sign_in::SignIn;

/// The account of a person who starts in the browser without saying a name.
const DEFAULT_USER_ID: &str = "default";
/// What MCP clients send beyond the headers that need no leave (Fetch standard, CORS-safelisted).
const CORS_HEADERS: &str =
    "content-type, accept, authorization, mcp-protocol-version, mcp-method, mcp-name, mcp-session-id, last-event-id";

/// The application behind the listener.
pub struct Routes {
    config: Arc<Config>,
    sign_in: Arc<SignIn>,
    protocol: Protocol,
    hosts: Vec<AllowedHost>,
    own_origins: Vec<String>,
    callback_path: String,
}

/// An answer other than the one that was asked for.
type Refusal = Answer<'static>;

impl Routes {
    /// The routes of a server that listens on the port of `config`.
    #[must_use]
    pub fn new(config: Arc<Config>, sign_in: Arc<SignIn>) -> Self {
        let redirect_uri = config.redirect_uri().clone();
        let loopback = ["localhost", "127.0.0.1", "[::1]"];
        let port = config.server_port();
        let mut hosts: Vec<AllowedHost> =
            loopback.iter().map(|name| AllowedHost { name: (*name).to_owned(), port: Some(port) }).collect();
        hosts.push(redirect_uri.host.clone());
        hosts.extend(config.allowed_hosts.iter().cloned());
        let mut own_origins: Vec<String> = loopback.iter().map(|name| format!("http://{name}:{port}")).collect();
        own_origins.push(redirect_uri.origin.clone());
        let callback_path = redirect_uri.path.clone();
        let tools = Tools::new(Arc::clone(&config), Arc::clone(&sign_in));
        Self { protocol: Protocol::new(tools), hosts, own_origins, callback_path, config, sign_in }
    }

    /// The `Host` must be one of ours, so that no other name can be made to point at us (DNS
    /// rebinding).
    fn check_host(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let host = request.field("host").unwrap_or_default();
        let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((name, port)) => (name, port.parse().ok()),
            None => (host, Some(80)),
        };
        let scheme_port =
            |allowed: &AllowedHost| allowed.port == Some(443) && !host.ends_with(":80") && port == Some(80);
        let fits = |allowed: &AllowedHost| {
            allowed.name.eq_ignore_ascii_case(name)
                && (allowed.port.is_none() || allowed.port == port || scheme_port(allowed))
        };
        if self.hosts.iter().any(fits) { Ok(()) } else { Err(forbidden("Host", host, "ALLOWED_HOSTS")) }
    }

    /// Where a page sends the request, its origin must be ours or an allowed one (MCP 2026-07-28
    /// transports, "Security"). Gives the origin that needs a CORS answer.
    fn check_origin<'r>(&self, request: &Request<'r>) -> Result<Option<&'r str>, Refusal> {
        let mut origins = request.fields("origin");
        let Some(origin) = origins.next() else { return Ok(None) };
        let is_among = |list: &[String]| list.iter().any(|allowed| allowed == origin);
        if origins.next().is_none() && is_among(&self.own_origins) {
            return Ok(None);
        }
        if origins.next().is_none() && is_among(&self.config.allowed_origins) {
            return Ok(Some(origin));
        }
        Err(forbidden("Origin", origin, "ALLOWED_ORIGINS"))
    }

    fn dispatch<'a>(&'a self, request: &Request<'_>) -> Result<Answer<'a>, Refusal> {
        self.check_host(request)?;
        let method = request.method();
        let path = request.path();
        let is_callback = path == self.callback_path && (path != "/" || self.is_callback_at_root(request));
        if is_callback {
            let methods: &[Method] = match self.config.response_mode {
                ResponseMode::FormPost => &[Method::Post, Method::Get],
                ResponseMode::Query => &[Method::Get],
            };
            // Entra's POST comes with Entra's origin, or `null`; it rests on its state alone.
            if method != Method::Post {
                self.check_origin(request)?;
            }
            return allow(&method, methods).map(|()| Answer::Reply(self.callback(request)));
        }
        let cors = self.check_origin(request)?;
        if path == "/mcp" {
            return Ok(with_cors(self.mcp(&method, request), cors));
        }
        let (methods, page): (&[Method], fn(&Self, &Request<'_>) -> Reply) = match path {
            "/" => (&[Method::Get, Method::Head], Self::home),
            "/healthz" => (&[Method::Get, Method::Head], |_, _| json_reply(200, r#"{"status":"ok"}"#.to_owned())),
            "/auth/login" => (&[Method::Get], Self::login),
            "/auth/complete" => (&[Method::Get], Self::complete),
            "/auth/logout" => (&[Method::Get], Self::logout),
            "/auth/logout-complete" => (&[Method::Get, Method::Head], Self::logout_complete),
            "/auth/status" => (&[Method::Get, Method::Head], Self::status),
            "*" => (&[], |_, _| empty_reply(204)),
            _ => {
                return Err(Answer::Reply(json_reply(404, r#"{"error":"There is nothing at this path."}"#.to_owned())));
            }
        };
        allow(&method, methods)?;
        Ok(Answer::Reply(page(self, request)))
    }

    /// A redirect URI without a path shares it with the start page.
    fn is_callback_at_root(&self, request: &Request<'_>) -> bool {
        request.method() == Method::Post || ["code", "error"].iter().any(|name| request.parameter(name).is_some())
    }

    fn mcp<'a>(&'a self, method: &Method, request: &Request<'_>) -> Answer<'a> {
        match allow(method, &[Method::Post]) {
            Ok(()) => self.protocol.answer(request),
            Err(refusal) => refusal,
        }
    }

    // ---- Pages ----

    fn home(&self, _request: &Request<'_>) -> Reply {
        match self.sign_in.accounts() {
            Ok(accounts) => pages::home(&accounts, &format!("{}/mcp", self.config.redirect_uri().origin)),
            Err(failure) => pages::failure(500, "The token file is out of order", &failure),
        }
    }

    fn login(&self, request: &Request<'_>) -> Reply {
        if let Some(elsewhere) = self.same_page_at_redirect_origin(request) {
            return redirect(302, &elsewhere);
        }
        let ticket = match (request.parameter("ticket"), request.parameter("user_id")) {
            (Some(ticket), _) => Ok(ticket),
            (None, user_id) => {
                let user_id = user_id.unwrap_or_else(|| DEFAULT_USER_ID.to_owned());
                if is_led_from_elsewhere(request) {
                    return pages::confirm_sign_in(&user_id);
                }
                self.sign_in.begin(&user_id).map(|attempt| attempt.ticket.expose().to_owned())
            }
        };
        let cookie = |name: &str| request.cookie(name).map(str::to_owned);
        match ticket.and_then(|ticket| self.sign_in.open(&ticket, cookie)) {
            Ok((opened, entra)) => {
                let secure = if self.config.redirect_uri().is_https { "; Secure" } else { "" };
                let cookie = format!(
                    "{}={}; Max-Age={LIFETIME}; Path=/auth; HttpOnly; SameSite=Lax{secure}",
                    pending::cookie_name(&opened.handle),
                    opened.binding.expose()
                );
                with_field(redirect(302, entra.as_str()), "Set-Cookie", &cookie)
            }
            Err(failure) => pages::failure(400, "This sign-in cannot begin", &failure),
        }
    }

    /// Where the page must be opened instead: the cookie that is set there must reach the redirect
    /// URI, and `localhost` and `127.0.0.1` are two hosts to a browser.
    fn same_page_at_redirect_origin(&self, request: &Request<'_>) -> Option<String> {
        let ours = self.config.redirect_uri();
        let asked = request.field("host")?.rsplit_once(':')?.0;
        let is_loopback = crate::config::is_loopback_host;
        let differs =
            is_loopback(asked) && is_loopback(&ours.host.name) && !asked.eq_ignore_ascii_case(&ours.host.name);
        differs.then(|| format!("{}{}?{}", ours.origin, request.path(), request.query()))
    }

    fn callback(&self, request: &Request<'_>) -> Reply {
        let parameters = match (self.config.response_mode, request.method()) {
            (ResponseMode::FormPost, Method::Post) if is_form(request) => request.body(),
            (ResponseMode::Query, Method::Get) => request.query().as_bytes(),
            // A code in an address bar may have been put there by somebody else: it is never redeemed.
            _ => {
                let failure = Failure::new(Kind::Refused, "A sign-in does not end at this address.")
                    .hint("If somebody asked you to copy or open this address, do not: they may be after your account. Start the sign-in again from a new link.");
                return pages::failure(400, "This is not how a sign-in ends", &failure);
            }
        };
        let response = callback::parse(parameters)
            .map_err(|reason| Failure::new(Kind::InvalidRequest, format!("This is no answer of Entra: {reason}.")));
        match response.and_then(|response| self.sign_in.pending().take_response(response, self.sign_in.now())) {
            // 303: the browser comes back with a GET, which carries the SameSite=Lax cookie.
            Ok(handle) => redirect(303, &format!("/auth/complete?sign_in={handle}")),
            Err(failure) => pages::failure(400, "The sign-in could not be completed", &failure),
        }
    }

    fn complete(&self, request: &Request<'_>) -> Reply {
        let handle = request.parameter("sign_in").unwrap_or_default();
        let cookie = request.cookie(&pending::cookie_name(&handle));
        match self.sign_in.complete(&handle, cookie) {
            Ok(Ok(message)) => {
                pages::success("You are signed in", &message, "You can close this page and go back to your MCP client.")
            }
            Ok(Err(failure)) | Err(failure) => pages::failure(400, "The sign-in could not be completed", &failure),
        }
    }

    fn logout(&self, request: &Request<'_>) -> Reply {
        if is_led_from_elsewhere(request) {
            let failure =
                Failure::new(Kind::Refused, "Another site has led you here to sign out. Nothing was changed.")
                    .hint("To sign out, use the link on the start page.");
            return pages::failure(403, "Not signed out", &failure);
        }
        match self.sign_in.sign_out(request.parameter("user_id").as_deref()) {
            Ok(_) => redirect(303, "/auth/logout-complete"),
            Err(failure) => pages::failure(400, "Not signed out", &failure),
        }
    }

    fn logout_complete(&self, _request: &Request<'_>) -> Reply {
        let more = format!(
            "Tokens that were already issued live on until they expire, an hour or so. \
             <a href=\"{}\">End this browser's session with Microsoft, too</a>.",
            pages::escaped(self.sign_in.logout_url().as_str())
        );
        pages::success("Signed out", "The tokens are forgotten here.", &more)
    }

    fn status(&self, request: &Request<'_>) -> Reply {
        let status = match request.parameter("user_id") {
            Some(user_id) => self.protocol.tools().status_of(&user_id),
            None => self.protocol.tools().status_of_all(),
        };
        match status {
            Ok(status) => json_reply(200, status.to_string()),
            Err(failure) => {
                json_reply(500, json!({"error": failure.kind.code(), "message": failure.text()}).to_string())
            }
        }
    }
}

impl Application for Routes {
    fn answer<'a>(&'a self, request: &Request<'_>) -> Answer<'a> {
        let answer = if request.method() == Method::Options && request.field("access-control-request-method").is_some()
        {
            self.check_host(request).and_then(|()| self.check_origin(request)).map(|cors| preflight(request, cors))
        } else {
            self.dispatch(request)
        };
        let answer = answer.unwrap_or_else(|refusal| refusal);
        if let Answer::Reply(reply) = &answer {
            log::debug!("{} {} {}", request.method(), request.path(), reply.status_code().0);
        }
        answer
            .with_field("X-Content-Type-Options", "nosniff")
            .with_field("Referrer-Policy", "no-referrer")
            .with_field("Cache-Control", "no-store")
    }
}

/// `Ok` when `method` is one of `methods`; else 405, or 204 to `OPTIONS`, with `Allow`.
fn allow(method: &Method, methods: &[Method]) -> Result<(), Refusal> {
    if methods.contains(method) {
        return Ok(());
    }
    let reply = match method {
        Method::Options => empty_reply(204),
        _ => json_reply(405, r#"{"error":"This method is not allowed here."}"#.to_owned()),
    };
    let mut allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
    allowed.push("OPTIONS");
    Err(Answer::Reply(with_field(reply, "Allow", &allowed.join(", "))))
}

fn forbidden(what: &str, rejected: &str, setting: &str) -> Refusal {
    log::warn!("a request was refused: its {what} {rejected:?} is not allowed; {setting} can allow it");
    let body = json!({
        "error": format!("This {what} is not allowed."),
        "rejected": rejected,
        "setting": setting,
        "hint": format!("If it is yours, add it to the setting {setting} of this server."),
    });
    Answer::Reply(json_reply(403, body.to_string()))
}

/// The answer to a browser that asks before it sends (Fetch standard, CORS preflight).
fn preflight(request: &Request<'_>, cors: Option<&str>) -> Answer<'static> {
    let answer = Answer::Reply(empty_reply(204)).with_field("Allow", "POST, OPTIONS");
    if request.path() != "/mcp" || cors.is_none() {
        return answer;
    }
    with_cors(answer, cors)
        .with_field("Access-Control-Allow-Methods", "POST, OPTIONS")
        .with_field("Access-Control-Allow-Headers", CORS_HEADERS)
        .with_field("Access-Control-Max-Age", "600")
}

fn with_cors<'a>(answer: Answer<'a>, origin: Option<&str>) -> Answer<'a> {
    let answer = answer.with_field("Vary", "Origin");
    match origin {
        Some(origin) => answer
            .with_field("Access-Control-Allow-Origin", origin)
            .with_field("Access-Control-Expose-Headers", "mcp-session-id"),
        None => answer,
    }
}

fn redirect(status: u16, location: &str) -> Reply {
    with_field(empty_reply(status), "Location", location)
}

fn is_form(request: &Request<'_>) -> bool {
    let content_type = request.field("content-type").unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// Whether a page of another origin has sent the browser here (Fetch Metadata). Another port of
/// this machine is another origin.
fn is_led_from_elsewhere(request: &Request<'_>) -> bool {
    request.field("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none"))
}
