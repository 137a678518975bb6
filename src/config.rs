//! The settings: environment and `.env` become one validated [`Config`], or a list of every mistake.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use url::{Host, Url};

use crate::oauth::authority::{Authority, Tenant, is_guid};
use crate::oauth::authorize::ResponseMode;
use crate::oauth::scope::Scopes;

/// One setting, as `--help`, the README and `.env.example` name it.
#[derive(Debug)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What holds when it is not set; empty when nothing does.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// Every setting that there is.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "AZURE_CLIENT_ID",
        default: "",
        meaning: "required: the application (client) id of the app registration",
    },
    Setting {
        name: "AZURE_TENANT_ID",
        default: "",
        meaning: "required: the tenant: its GUID, a domain name, or common, organizations, consumers",
    },
    Setting {
        name: "REDIRECT_URI",
        default: "http://localhost:{SERVER_PORT}/auth/callback",
        meaning: "the redirect URI, as registered",
    },
    Setting {
        name: "SERVER_HOST",
        default: "localhost",
        meaning: "the address to listen on; localhost listens on 127.0.0.1 and ::1",
    },
    Setting { name: "SERVER_PORT", default: "8000", meaning: "the port to listen on; 0 takes a free one" },
    Setting {
        name: "BACKEND_API_BASE_URL",
        default: "",
        meaning: "the API that the tools call; the token goes there and nowhere else",
    },
    Setting { name: "CUSTOM_API_SCOPE", default: "", meaning: "the scopes of that API, separated by spaces" },
    Setting { name: "TOKEN_CACHE_FILE", default: "token_cache.json", meaning: "where the tokens are kept" },
    Setting {
        name: "AZURE_AUTHORITY_HOST",
        default: "https://login.microsoftonline.com",
        meaning: "the sign-in host of your cloud",
    },
    Setting {
        name: "AUTH_RESPONSE_MODE",
        default: "form_post",
        meaning: "form_post, or query for a registration that needs it",
    },
    Setting {
        name: "ALLOWED_HOSTS",
        default: "",
        meaning: "further Host values to answer to, separated by commas: name or name:port",
    },
    Setting {
        name: "ALLOWED_ORIGINS",
        default: "",
        meaning: "web origins that may call /mcp from a browser, separated by commas",
    },
    Setting {
        name: "MAX_RESPONSE_BYTES",
        default: "1048576",
        meaning: "how much of a backend answer is handed on, in bytes",
    },
    Setting { name: "LOG_LEVEL", default: "info", meaning: "error, warn, info or debug" },
];

/// The largest `MAX_RESPONSE_BYTES`: answers are held in memory.
const MOST_RESPONSE_BYTES: usize = 256 * 1024 * 1024;

/// A setting that cannot be used: which, what it says, and the mend.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting's name.
    pub setting: &'static str,
    /// What it says, without a password; `None` when it is not set.
    pub value: Option<String>,
    /// What is wrong and what to write instead.
    pub mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} is {value:?}: {}", self.setting, self.mend),
            None => write!(f, "{} is not set: {}", self.setting, self.mend),
        }
    }
}

/// A `Host` that we answer to: with a port, only at that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// Lower case; IPv6 in brackets.
    pub name: String,
    /// `None` allows any port.
    pub port: Option<u16>,
}

/// The redirect URI: the text as registered, and what we need of it.
#[derive(Clone, Debug)]
pub struct RedirectUri {
    /// What is sent to Entra: byte for byte what was configured.
    pub text: String,
    /// The path at which authorization responses arrive.
    pub path: String,
    /// The origin that the browser knows us by; sign-in links start with it, since the cookie that
    /// binds a sign-in to a browser must be there when the response arrives.
    pub origin: String,
    /// Its host and port, the scheme's own port included.
    pub host: AllowedHost,
    /// Whether cookies may be marked `Secure`.
    pub is_https: bool,
}

/// The settings of one server, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The application's client id, in lower case.
    pub client_id: String,
    /// The tenant and its endpoints.
    pub authority: Authority,
    /// As configured; [`Config::redirect_uri`] also knows the default.
    pub configured_redirect_uri: Option<RedirectUri>,
    /// The host to listen on.
    pub server_host: String,
    /// The port to listen on; 0 until one was taken.
    pub server_port: u16,
    /// The API's base URL, its path ending in a slash.
    pub backend: Option<Url>,
    /// What is requested.
    pub scopes: Scopes,
    /// Where tokens are kept.
    pub token_cache_file: PathBuf,
    /// How Entra answers.
    pub response_mode: ResponseMode,
    /// `ALLOWED_HOSTS`.
    pub allowed_hosts: Vec<AllowedHost>,
    /// `ALLOWED_ORIGINS`, as browsers write them.
    pub allowed_origins: Vec<String>,
    /// How much of a backend answer is handed on, in bytes.
    pub max_response_bytes: usize,
    /// How much is logged.
    pub log_level: log::LevelFilter,
}

impl Config {
    /// Reads the settings from `variables`; an empty one counts as not set.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader { variables, mistakes: Vec::new() };
        let client_id = reader.required(
            "AZURE_CLIENT_ID",
            "copy the \"Application (client) ID\" of the app registration here",
            client_id,
        );
        let tenant = reader.required(
            "AZURE_TENANT_ID",
            "copy the \"Directory (tenant) ID\" of the app registration here",
            tenant,
        );
        let host = reader.or_default("AZURE_AUTHORITY_HOST", authority_host);
        let configured_redirect_uri = reader.optional("REDIRECT_URI", redirect_uri);
        let server_host = reader.or_default("SERVER_HOST", server_host);
        let server_port = reader.or_default("SERVER_PORT", port);
        let backend = reader.optional("BACKEND_API_BASE_URL", backend);
        let scopes = reader.optional("CUSTOM_API_SCOPE", Scopes::parse).or_else(|| Scopes::parse("").ok());
        let token_cache_file = reader.or_default("TOKEN_CACHE_FILE", |text| Ok(PathBuf::from(text)));
        let response_mode = reader.or_default("AUTH_RESPONSE_MODE", response_mode);
        let allowed_hosts = reader.optional("ALLOWED_HOSTS", |text| list(text, allowed_host)).unwrap_or_default();
        let allowed_origins = reader.optional("ALLOWED_ORIGINS", |text| list(text, allowed_origin)).unwrap_or_default();
        let max_response_bytes = reader.or_default("MAX_RESPONSE_BYTES", max_response_bytes);
        let log_level = reader.or_default("LOG_LEVEL", |text| log_level(text));
        let mistakes = reader.mistakes;
        let config = || {
            Some(Self {
                client_id: client_id?,
                authority: Authority::new(host?, tenant?),
                configured_redirect_uri,
                server_host: server_host?,
                server_port: server_port?,
                backend,
                scopes: scopes?,
                token_cache_file: token_cache_file?,
                response_mode: response_mode?,
                allowed_hosts,
                allowed_origins,
                max_response_bytes: max_response_bytes?,
                log_level: log_level?,
            })
        };
        if mistakes.is_empty() { config().ok_or(mistakes) } else { Err(mistakes) }
    }

    /// The redirect URI: the configured one, or the default at the port that we listen on.
    #[must_use]
    pub fn redirect_uri(&self) -> RedirectUri {
        self.configured_redirect_uri.clone().unwrap_or_else(|| default_redirect_uri(self.server_port))
    }

    /// Every setting with what holds, for `--check-config`. None of them is a secret.
    #[must_use]
    pub fn effective(&self) -> Vec<(&'static str, String)> {
        let hosts = self.allowed_hosts.iter().map(|host| match host.port {
            Some(port) => format!("{}:{port}", host.name),
            None => host.name.clone(),
        });
        vec![
            ("AZURE_CLIENT_ID", self.client_id.clone()),
            ("AZURE_TENANT_ID", self.authority.tenant().segment().to_owned()),
            ("REDIRECT_URI", self.redirect_uri().text),
            ("SERVER_HOST", self.server_host.clone()),
            ("SERVER_PORT", self.server_port.to_string()),
            ("BACKEND_API_BASE_URL", self.backend.as_ref().map(Url::to_string).unwrap_or_default()),
            ("CUSTOM_API_SCOPE", self.scopes.requested().to_owned()),
            ("TOKEN_CACHE_FILE", self.token_cache_file.display().to_string()),
            ("AZURE_AUTHORITY_HOST", self.authority.origin()),
            ("AUTH_RESPONSE_MODE", self.response_mode.name().to_owned()),
            ("ALLOWED_HOSTS", hosts.collect::<Vec<_>>().join(",")),
            ("ALLOWED_ORIGINS", self.allowed_origins.join(",")),
            ("MAX_RESPONSE_BYTES", self.max_response_bytes.to_string()),
            ("LOG_LEVEL", self.log_level.to_string().to_ascii_lowercase()),
        ]
    }

    /// What is no mistake but probably not meant.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.backend.is_none() {
            doubts.push(
                "BACKEND_API_BASE_URL is not set: the API tools will explain what to set, and call nothing.".to_owned(),
            );
        } else if !self.scopes.names_a_resource() {
            doubts
                .push("CUSTOM_API_SCOPE is not set: the access tokens will hardly be accepted by your API.".to_owned());
        }
        if !is_loopback_host(&self.server_host) {
            doubts.push(format!(
                "SERVER_HOST is {:?}: whoever can reach this port can call the API as the signed-in users.",
                self.server_host
            ));
        }
        doubts
    }
}

/// The names among `variables` that look like a misspelt setting, each with the setting.
pub fn misspelt<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'static str)> {
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.name == name);
    let mut found = Vec::new();
    for name in names.filter(|name| !known(name)) {
        let upper = name.to_ascii_uppercase();
        let near = |setting: &&Setting| edit_distance(&upper, setting.name) * 5 <= setting.name.len();
        if let Some(setting) = SETTINGS.iter().find(near) {
            found.push((name, setting.name));
        }
    }
    found
}

/// The number of characters to insert, delete or replace to make `a` of `b` (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, in_a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row, vec![i + 1]);
        for ((replace, insert), in_b) in diagonal.iter().zip(diagonal.iter().skip(1)).zip(b.chars()) {
            let left = row.last().copied().unwrap_or_default();
            row.push((replace + usize::from(in_a != in_b)).min(insert + 1).min(left + 1));
        }
        diagonal.clear();
    }
    row.last().copied().unwrap_or_default()
}

/// Whether `host` names this machine alone.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads one setting after the other and notes each mistake.
struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn optional<T>(&mut self, setting: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value(setting)?.to_owned();
        parse(&value)
            .map_err(|mend| self.mistakes.push(Mistake { setting, value: Some(without_password(&value)), mend }))
            .ok()
    }

    fn required<T>(
        &mut self,
        setting: &'static str,
        mend: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.value(setting).is_none() {
            self.mistakes.push(Mistake { setting, value: None, mend: mend.to_owned() });
        }
        self.optional(setting, parse)
    }

    fn or_default<T>(&mut self, setting: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.value(setting).is_some() {
            return self.optional(setting, parse);
        }
        let default = SETTINGS.iter().find(|known| known.name == setting)?.default;
        parse(default).ok()
    }
}

/// `value` without the userinfo of a URL.
fn without_password(value: &str) -> String {
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://…@{rest}"),
        None => value.to_owned(),
    }
}

fn client_id(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if is_guid(&lower) {
        Ok(lower)
    } else {
        Err("write the application's GUID, such as 11111111-2222-3333-4444-555555555555".to_owned())
    }
}

fn tenant(text: &str) -> Result<Tenant, String> {
    Tenant::parse(text).ok_or_else(|| {
        "write the tenant's GUID, one of its domain names, or common, organizations, consumers".to_owned()
    })
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "write a number from 0 to 65535".to_owned())
}

fn max_response_bytes(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|bytes| (1..=MOST_RESPONSE_BYTES).contains(bytes))
        .ok_or_else(|| format!("write a number of bytes from 1 to {MOST_RESPONSE_BYTES}"))
}

fn response_mode(text: &str) -> Result<ResponseMode, String> {
    [ResponseMode::FormPost, ResponseMode::Query]
        .into_iter()
        .find(|mode| mode.name() == text)
        .ok_or_else(|| "write form_post or query".to_owned())
}

fn server_host(text: &str) -> Result<String, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    match Host::parse(text) {
        Ok(Host::Domain(name)) => Ok(name),
        _ => Err("write localhost, an IP address or a host name, without a scheme and port".to_owned()),
    }
}

/// An absolute `https` URL, or `http` where `http_allowed` says so for its host.
fn web_url(text: &str, http_allowed: impl Fn(&str) -> bool) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("write an absolute URL such as https://example.com ({error})"))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => {}
        "http" if http_allowed(host) => {}
        "http" => return Err("write https; http is only for a loopback host".to_owned()),
        _ => return Err("write an https URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave out the user name and password".to_owned());
    }
    if url.fragment().is_some() {
        return Err("leave out the '#' and what follows it".to_owned());
    }
    Ok(url)
}

fn authority_host(text: &str) -> Result<Url, String> {
    let url = web_url(text, is_loopback_host)?;
    if url.path() == "/" && url.query().is_none() {
        Ok(url)
    } else {
        Err("write scheme and host only; the tenant goes into AZURE_TENANT_ID".to_owned())
    }
}

fn backend(text: &str) -> Result<Url, String> {
    let mut url = web_url(text, is_loopback_host)?;
    if url.query().is_some() {
        return Err("leave out the '?' and what follows it".to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// Microsoft's rules for redirect URIs, as far as they can be told from the text.
fn redirect_uri(text: &str) -> Result<RedirectUri, String> {
    let url = web_url(text, |host| matches!(host, "localhost" | "127.0.0.1")).map_err(|mend| {
        if mend.contains("loopback") {
            "write https; Entra takes http for localhost and 127.0.0.1 alone".to_owned()
        } else {
            mend
        }
    })?;
    if text.len() > 256 {
        return Err("shorten it: Entra takes at most 256 characters".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || "!$'(),;*".contains(*c)) {
        return Err(format!("leave out {bad:?}: Entra takes no such character in a redirect URI"));
    }
    if url.query().is_some() {
        return Err("leave out the '?' and what follows it".to_owned());
    }
    let ours =
        ["/mcp", "/healthz", "/auth/login", "/auth/complete", "/auth/logout", "/auth/logout-complete", "/auth/status"];
    if ours.contains(&url.path()) {
        return Err(format!("choose another path: {} is an endpoint of this server", url.path()));
    }
    Ok(RedirectUri {
        text: text.to_owned(),
        path: url.path().to_owned(),
        origin: url.origin().ascii_serialization(),
        host: AllowedHost { name: url.host_str().unwrap_or_default().to_owned(), port: url.port_or_known_default() },
        is_https: url.scheme() == "https",
    })
}

fn default_redirect_uri(port: u16) -> RedirectUri {
    let origin = format!("http://localhost:{port}");
    RedirectUri {
        text: format!("{origin}/auth/callback"),
        path: "/auth/callback".to_owned(),
        origin,
        host: AllowedHost { name: "localhost".to_owned(), port: Some(port) },
        is_https: false,
    }
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    let known = ["error", "warn", "info", "debug"].contains(&text.to_ascii_lowercase().as_str());
    text.parse().ok().filter(|_| known).ok_or_else(|| "write error, warn, info or debug".to_owned())
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split([',', ' ', '\t']).filter(|item| !item.is_empty()).map(parse).collect()
}

fn allowed_host(text: &str) -> Result<AllowedHost, String> {
    let wrong = || format!("write host names, with or without a port, not {text:?}");
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| wrong())?;
    let plain = url.path() == "/" && url.username().is_empty() && url.query().is_none() && url.fragment().is_none();
    let name = url.host_str().filter(|_| plain && !text.contains(['/', '*'])).ok_or_else(wrong)?;
    // `Url` drops the scheme's own port.
    let port = if text.ends_with(":80") { Some(80) } else { url.port() };
    Ok(AllowedHost { name: name.to_ascii_lowercase(), port })
}

fn allowed_origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none());
    url.map(|url| url.origin().ascii_serialization())
        .ok_or_else(|| format!("write origins such as http://localhost:6274, not {text:?}"))
}
