//! The settings: environment and `.env` become one validated [`Config`], or a list of every mistake.

pub mod env_file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use crate::access_key::AccessKey;
use crate::api::headers::AllowedHeaders;
use crate::api::policy::{METHODS, Pattern, Policy};
use crate::auth::authority::{Application, Authority, CLOUDS, ResponseMode, Tenant, is_guid};
use crate::auth::scope::Scopes;
use crate::outgoing::is_loopback_host;

/// One setting, as `--help`, the README and `.env.example` name it.
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What holds when it is not set; empty when nothing does.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn setting(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        name,
        default,
        meaning,
    }
}

/// Every setting that there is.
pub const SETTINGS: &[Setting] = &[
    setting(
        "AZURE_CLIENT_ID",
        "",
        "required: the application (client) id of the app registration",
    ),
    setting(
        "AZURE_TENANT_ID",
        "",
        "required: the tenant: its GUID, a domain name, or common, organizations, consumers",
    ),
    setting(
        "REDIRECT_URI",
        "http://localhost:{SERVER_PORT}/auth/callback",
        "the redirect URI, with the port of this server",
    ),
    setting(
        "SERVER_HOST",
        "localhost",
        "the address to listen on; localhost listens on 127.0.0.1 and ::1",
    ),
    setting(
        "SERVER_PORT",
        "8000",
        "the port to listen on; 0 takes a free one",
    ),
    setting(
        "BACKEND_API_BASE_URL",
        "",
        "the API that the tools call; the token goes there and nowhere else",
    ),
    setting(
        "CUSTOM_API_SCOPE",
        "",
        "the scopes of that API, separated by spaces",
    ),
    setting(
        "TOKEN_CACHE_FILE",
        "token_cache.json",
        "where the tokens are kept",
    ),
    setting(
        "AZURE_CLOUD",
        "public",
        "your cloud: public, usgov, china, france, germany or singapore",
    ),
    setting(
        "AZURE_AUTHORITY_HOST",
        "",
        "the sign-in host of your cloud; by default the host of AZURE_CLOUD",
    ),
    setting(
        "AUTH_RESPONSE_MODE",
        "form_post",
        "form_post, or query for a registration that needs it",
    ),
    setting(
        "DOMAIN_HINT",
        "",
        "whose sign-in page to go to: a domain name, or organizations, consumers",
    ),
    setting(
        "SIGN_IN_METHOD",
        "browser",
        "browser, or device_code to sign in on another device",
    ),
    setting(
        "ALLOW_DEVICE_CODE",
        "false",
        "true lets callers ask for a device code; such codes can be phished",
    ),
    setting(
        "SIGN_IN_WAIT_SECONDS",
        "120",
        "how long a call that needs a sign-in waits for it; 0 does not wait",
    ),
    setting(
        "ALLOWED_HOSTS",
        "",
        "further Host values to answer to, separated by commas: name or name:port",
    ),
    setting(
        "ALLOWED_ORIGINS",
        "",
        "web origins that may call /mcp from a browser, separated by commas",
    ),
    setting(
        "SERVER_ACCESS_KEY",
        "",
        "the key that callers must send as a bearer token; required beyond loopback",
    ),
    setting("SERVER_ACCESS_KEY_FILE", "", "a file with that key"),
    setting(
        "ALLOWED_METHODS",
        "GET POST PUT PATCH DELETE",
        "the methods that the API may be called with",
    ),
    setting(
        "ALLOWED_ENDPOINTS",
        "",
        "patterns of all the paths that may be called: * in a segment, ** for segments",
    ),
    setting(
        "DENIED_ENDPOINTS",
        "",
        "patterns of paths that may not be called, also where the above allows them",
    ),
    setting(
        "ALLOWED_REQUEST_HEADERS",
        "",
        "further headers that a call may have; a * may end a name",
    ),
    setting(
        "MAX_RESPONSE_BYTES",
        "1048576",
        "how much of a backend answer is handed on, in bytes",
    ),
    setting(
        "MAX_REQUEST_BYTES",
        "4194304",
        "how long the body of a request may be, in bytes",
    ),
    setting(
        "FILES_DIR",
        "",
        "the directory of the files that calls may send and make; without it, none",
    ),
    setting(
        "MAX_FILE_BYTES",
        "104857600",
        "how large such a file may be, in bytes",
    ),
    setting("LOG_LEVEL", "info", "error, warn, info or debug"),
    setting(
        "AUDIT_LOG",
        "",
        "a file that gets a line of JSON for each sign-in, refresh, sign-out and API call; - is stdout",
    ),
    setting(
        "AUDIT_LOG_REQUIRED",
        "true",
        "whether calls fail while the audit log cannot be written",
    ),
];

/// The largest `MAX_RESPONSE_BYTES`: answers are held in memory.
const MOST_RESPONSE_BYTES: usize = 256 * 1024 * 1024;
/// The bounds of `MAX_REQUEST_BYTES`: what is sent to the API is held in memory.
const REQUEST_BYTES: [usize; 2] = [64 * 1024, 256 * 1024 * 1024];
/// The largest `MAX_FILE_BYTES`: 1 TiB.
const MOST_FILE_BYTES: u64 = 1 << 40;
/// The largest `SIGN_IN_WAIT_SECONDS`: a call that waits holds a connection.
const MOST_SIGN_IN_WAIT_SECONDS: u64 = 600;
/// The longest redirect URI that Entra takes.
const MOST_REDIRECT_URI_CHARS: usize = 256;
/// What stands in `.env.example` for an id; nobody has it.
pub const PLACEHOLDER: &str = "00000000-0000-0000-0000-000000000000";
/// Endpoints of this server at which no authorization response can arrive.
const TAKEN_PATHS: [&str; 8] = [
    "/mcp",
    "/healthz",
    "/auth/key",
    "/auth/login",
    "/auth/complete",
    "/auth/logout",
    "/auth/logout-complete",
    "/auth/status",
];

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

/// How a person signs in where the caller does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignInMethod {
    /// With a link to open in the browser.
    #[default]
    Browser,
    /// With a code to type on any device (RFC 8628).
    DeviceCode,
}

impl SignInMethod {
    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::DeviceCode => "device_code",
        }
    }
}

/// Where the audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output, whatever that is.
    StandardOutput,
    /// The file at this path.
    File(PathBuf),
}

/// The settings of one server, validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The application's client id, in lower case.
    pub client_id: String,
    /// The tenant and its endpoints.
    pub authority: Authority,
    /// The host to listen on.
    pub server_host: String,
    /// The API's base URL, its path ending in a slash.
    pub backend: Option<Url>,
    /// What is requested.
    pub scopes: Scopes,
    /// Where tokens are kept.
    pub token_cache_file: PathBuf,
    /// How Entra answers.
    pub response_mode: ResponseMode,
    /// Whose sign-in page Entra goes to: a domain name, `organizations` or `consumers`.
    pub domain_hint: Option<String>,
    /// How people sign in where the caller does not say.
    pub sign_in_method: SignInMethod,
    /// Whether callers may ask for a device code.
    pub allow_device_code: bool,
    /// How long a call that asked for a sign-in waits for it to end.
    pub sign_in_wait: Duration,
    /// Further hosts to answer to.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Origins that may call `/mcp`, as browsers write them.
    pub allowed_origins: Vec<String>,
    /// What callers have to bring.
    pub access_key: Option<AccessKey>,
    /// Which calls of the API are made.
    pub policy: Policy,
    /// How much of a backend answer is handed on, in bytes.
    pub max_response_bytes: usize,
    /// How long the body of a request may be, in bytes.
    pub max_request_bytes: usize,
    /// The directory of the files that calls may send and make.
    pub files_dir: Option<PathBuf>,
    /// How large such a file may be, in bytes.
    pub max_file_bytes: u64,
    /// How much is logged.
    pub log_level: log::LevelFilter,
    /// Where sign-ins and calls are recorded.
    pub audit_log: Option<AuditTarget>,
    /// Whether calls fail while they cannot be recorded.
    pub audit_log_required: bool,
    /// The port to listen on; 0 until one was taken.
    pub server_port: u16,
    /// Where authorization responses arrive.
    pub redirect_uri: RedirectUri,
    redirect_uri_is_default: bool,
}

impl Config {
    /// The files that are the server's alone, each with the setting that names it.
    pub fn own_files(&self) -> Vec<(&'static str, &Path)> {
        let mut files = vec![("TOKEN_CACHE_FILE", self.token_cache_file.as_path())];
        files.extend(
            self.access_key
                .as_ref()
                .and_then(|key| Some(("SERVER_ACCESS_KEY_FILE", key.file.as_deref()?))),
        );
        if let Some(AuditTarget::File(path)) = &self.audit_log {
            files.push(("AUDIT_LOG", path));
        }
        files
    }

    /// Reads the settings from `variables`; an empty one counts as not set.
    ///
    /// # Errors
    /// Every mistake in them: which setting, what it says (without a password), and the mend.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader {
            variables,
            mistakes: Vec::new(),
        };
        let config = reader.config().filter(|_| reader.mistakes.is_empty());
        config.ok_or(reader.mistakes)
    }

    /// The same for a server that listens on `port`, which is part of the default redirect URI.
    pub fn at_port(mut self, port: u16) -> Self {
        self.server_port = port;
        if self.redirect_uri_is_default
            && let Some(redirect_uri) = default_redirect_uri(port)
        {
            self.redirect_uri = redirect_uri;
        }
        self
    }

    /// What Entra knows of us.
    pub fn application(&self) -> Application<'_> {
        Application {
            authority: &self.authority,
            client_id: &self.client_id,
            redirect_uri: &self.redirect_uri.text,
            scopes: &self.scopes,
        }
    }

    /// What is no mistake but probably not meant.
    pub fn doubts(&self) -> Vec<String> {
        let RedirectUri { text, host, .. } = &self.redirect_uri;
        let (port, listens_on) = (self.server_port, &self.server_host);
        let tenant = self.authority.tenant().segment();
        let is_placeholder = [self.client_id.as_str(), tenant].contains(&PLACEHOLDER);
        let ends_elsewhere = !self.redirect_uri_is_default
            && is_loopback_host(&host.name)
            && host.port != Some(port);
        let no_backend = self.backend.is_none();
        let no_scope = !no_backend && !self.scopes.names_a_resource();
        let is_open = !is_loopback_host(listens_on);
        let as_localhost = ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"];
        let ends_nowhere = is_loopback_host(&host.name)
            && !as_localhost
                .iter()
                .any(|name| name.eq_ignore_ascii_case(listens_on));
        let is_exposed = self.access_key.as_ref().is_some_and(|key| key.is_exposed);
        let authority_host = self.authority.origin();
        let domain_hint = self.domain_hint.as_deref().unwrap_or_default();
        let hints_elsewhere = match tenant {
            "organizations" => domain_hint == "consumers",
            "consumers" => !matches!(domain_hint, "" | "consumers"),
            _ => false,
        };
        let doubts = [
            (
                is_placeholder,
                "AZURE_CLIENT_ID and AZURE_TENANT_ID: copy them from the app registration."
                    .to_owned(),
            ),
            (
                no_backend,
                "BACKEND_API_BASE_URL is not set: the API tools only explain what to set."
                    .to_owned(),
            ),
            (
                no_scope,
                "CUSTOM_API_SCOPE is not set: your API will hardly accept the access tokens."
                    .to_owned(),
            ),
            (
                ends_elsewhere,
                format!(
                    "REDIRECT_URI is {text}, but the server listens on port {port}: unless that port is forwarded here, \
                     sign-ins end where nothing listens. Leave REDIRECT_URI out; the registration needs no port."
                ),
            ),
            (
                is_open,
                format!(
                    "SERVER_HOST is {listens_on}: whoever is on the way there can read the access key. Let only this machine or \
                     a proxy with TLS reach it."
                ),
            ),
            (
                ends_nowhere,
                format!(
                    "REDIRECT_URI is {text}, but the server listens on {listens_on} alone: unless that is forwarded here, \
                     sign-ins end where nothing listens. Set SERVER_HOST to localhost, or REDIRECT_URI to where it is reached."
                ),
            ),
            (
                is_exposed,
                "SERVER_ACCESS_KEY_FILE can be read or written by others: chmod 600 it.".to_owned(),
            ),
            (
                authority_host == "https://login.chinacloudapi.cn",
                format!(
                    "AZURE_AUTHORITY_HOST is {authority_host}, an old name: set AZURE_CLOUD=china in its place."
                ),
            ),
            (
                hints_elsewhere,
                format!(
                    "DOMAIN_HINT is {domain_hint}, but AZURE_TENANT_ID={tenant} takes no such accounts."
                ),
            ),
        ];
        doubts
            .into_iter()
            .filter_map(|(holds, doubt)| holds.then_some(doubt))
            .collect()
    }

    /// Every setting with what holds for `variables`, which this was read from, for people to read, without the
    /// access key, the only secret among them.
    pub fn effective(&self, variables: &BTreeMap<String, String>) -> String {
        let (authority_host, allow_device_code) =
            (self.authority.origin(), self.allow_device_code.to_string());
        let cloud = CLOUDS
            .iter()
            .find(|(_, host)| *host == authority_host)
            .map_or("", |(cloud, _)| cloud);
        let port = if self.server_port == 0 {
            "{the free port}".to_owned()
        } else {
            self.server_port.to_string()
        };
        let value_of = |setting: &Setting| match setting.name {
            "AZURE_CLOUD" => cloud.to_owned(),
            "AZURE_AUTHORITY_HOST" => authority_host.clone(),
            "ALLOW_DEVICE_CODE" => allow_device_code.clone(),
            name @ "SERVER_ACCESS_KEY" => value(variables, name).map_or("", |_| "(set)").to_owned(),
            name => value(variables, name)
                .unwrap_or(setting.default)
                .replace("{SERVER_PORT}", &port),
        };
        SETTINGS.iter().fold(String::new(), |lines, setting| {
            lines + setting.name + "=" + &value_of(setting) + "\n"
        })
    }
}

/// The names among `variables` that look like a misspelt setting, each with the setting.
pub fn misspelt<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'static str)> {
    let unknown = names.filter(|name| !SETTINGS.iter().any(|setting| setting.name == *name));
    let misspelling_of = |name: &str| {
        let name = name.to_ascii_uppercase();
        let is_meant = |setting: &&Setting| {
            let most = setting.name.len() / 5;
            // The distance is at least that of the lengths, which costs nothing to see.
            name.len().abs_diff(setting.name.len()) <= most && is_near(&name, setting.name, most)
        };
        SETTINGS.iter().find(is_meant).map(|setting| setting.name)
    };
    unknown
        .filter_map(|name| Some((name, misspelling_of(name)?)))
        .collect()
}

/// Whether `b` can be made of `a` by inserting, deleting or replacing at most `most` bytes (Levenshtein).
fn is_near(a: &str, b: &str, most: usize) -> bool {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, in_a) in a.bytes().enumerate() {
        let (mut replaced, mut inserted) = (i, i + 1);
        row.iter_mut()
            .take(1)
            .for_each(|distance| *distance = inserted);
        for (distance, in_b) in row.iter_mut().skip(1).zip(b.bytes()) {
            let deleted = *distance;
            inserted = (inserted + 1)
                .min(deleted + 1)
                .min(replaced + usize::from(in_a != in_b));
            (replaced, *distance) = (deleted, inserted);
        }
        // It grows no smaller any more.
        if row.iter().all(|distance| *distance > most) {
            return false;
        }
    }
    row.last().is_some_and(|distance| *distance <= most)
}

fn value<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> Option<&'v str> {
    variables
        .get(name)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// Reads one setting after the other and notes each mistake.
struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    /// `None` only where there was a mistake. All settings are read before the first `?`, so that every
    /// mistake is noted; what stands in the place of a wrong one is not used.
    fn config(&mut self) -> Option<Config> {
        let client_id = self.required("AZURE_CLIENT_ID", client_id);
        let tenant = self.required("AZURE_TENANT_ID", tenant);
        let redirect_uri = self.optional("REDIRECT_URI", redirect_uri);
        let server_port = self.or_default("SERVER_PORT", port);
        let cloud = self.optional("AZURE_CLOUD", cloud_host);
        let authority_host = self.optional("AZURE_AUTHORITY_HOST", |text| {
            authority_host(text, cloud.as_ref())
        });
        let sign_in_method = self.or_default("SIGN_IN_METHOD", sign_in_method);
        let allow_device_code = self.or_default("ALLOW_DEVICE_CODE", true_or_false);
        let log_level = self.or_default("LOG_LEVEL", |text| log_level(text).map(Some));
        let access_key = self.access_key();
        let has_key = access_key.is_some();
        let token_cache_file = self.or_default("TOKEN_CACHE_FILE", |text| Ok(PathBuf::from(text)));
        Some(Config {
            client_id,
            server_host: self.or_default("SERVER_HOST", |text| server_host(text, has_key)),
            backend: self.optional("BACKEND_API_BASE_URL", backend),
            scopes: self.or_default("CUSTOM_API_SCOPE", Scopes::parse),
            audit_log: self.optional("AUDIT_LOG", |text| audit_log(text, &token_cache_file)),
            audit_log_required: self.or_default("AUDIT_LOG_REQUIRED", true_or_false),
            token_cache_file,
            response_mode: self.or_default("AUTH_RESPONSE_MODE", response_mode),
            domain_hint: self.optional("DOMAIN_HINT", domain_hint),
            sign_in_method,
            allow_device_code: allow_device_code || sign_in_method == SignInMethod::DeviceCode,
            sign_in_wait: self.or_default("SIGN_IN_WAIT_SECONDS", sign_in_wait),
            allowed_hosts: self.or_default("ALLOWED_HOSTS", |text| list(text, allowed_host)),
            allowed_origins: self.or_default("ALLOWED_ORIGINS", |text| list(text, allowed_origin)),
            access_key,
            policy: Policy {
                methods: self.or_default("ALLOWED_METHODS", |text| full_list(text, method)),
                allowed: self
                    .optional("ALLOWED_ENDPOINTS", patterns)
                    .unwrap_or_default(),
                denied: self
                    .optional("DENIED_ENDPOINTS", patterns)
                    .unwrap_or_default(),
                headers: self.or_default("ALLOWED_REQUEST_HEADERS", AllowedHeaders::parse),
            },
            max_response_bytes: self.or_default("MAX_RESPONSE_BYTES", max_response_bytes),
            max_request_bytes: self.or_default("MAX_REQUEST_BYTES", max_request_bytes),
            files_dir: self.optional("FILES_DIR", files_dir),
            max_file_bytes: self.or_default("MAX_FILE_BYTES", max_file_bytes),
            authority: Authority::new(
                authority_host
                    .or(cloud)
                    .or_else(|| cloud_host("public").ok())?,
                tenant,
            ),
            log_level: log_level?,
            server_port,
            redirect_uri_is_default: redirect_uri.is_none(),
            redirect_uri: redirect_uri.or_else(|| default_redirect_uri(server_port))?,
        })
    }

    /// Of the key itself, no mistake shows anything.
    fn access_key(&mut self) -> Option<AccessKey> {
        let [key, file, handed_over] = [
            "SERVER_ACCESS_KEY",
            "SERVER_ACCESS_KEY_FILE",
            "CREDENTIALS_DIRECTORY",
        ]
        .map(|name| value(self.variables, name));
        let read = match (key, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => Err(
                "SERVER_ACCESS_KEY and SERVER_ACCESS_KEY_FILE are both set: leave one out"
                    .to_owned(),
            ),
            (Some(key), None) => {
                AccessKey::parse(key).map_err(|mend| format!("SERVER_ACCESS_KEY {mend}"))
            }
            (None, Some(file)) => {
                // What systemd hands over is its to protect, and not only by the mode (systemd.exec, LoadCredential=).
                let is_handed_over =
                    handed_over.is_some_and(|directory| Path::new(file).starts_with(directory));
                AccessKey::read(file, is_handed_over)
                    .map_err(|mistake| format!("SERVER_ACCESS_KEY_FILE is {mistake}"))
            }
        };
        read.map_err(|mistake| self.mistakes.push(mistake)).ok()
    }

    fn optional<T>(
        &mut self,
        setting: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value(self.variables, setting)?;
        let mistake = |mend| format!("{setting} is {:?}: {mend}", without_password(value));
        parse(value)
            .map_err(|mend| self.mistakes.push(mistake(mend)))
            .ok()
    }

    fn or_default<T: Default>(
        &mut self,
        setting: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        if value(self.variables, setting).is_some() {
            return self.optional(setting, parse).unwrap_or_default();
        }
        let default = SETTINGS
            .iter()
            .find(|known| known.name == setting)
            .map_or("", |known| known.default);
        parse(default).unwrap_or_default()
    }

    fn required<T: Default>(
        &mut self,
        setting: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        if value(self.variables, setting).is_none() {
            self.mistakes.push(format!(
                "{setting} is not set: copy it from the overview of the app registration"
            ));
        }
        self.optional(setting, parse).unwrap_or_default()
    }
}

/// `value` without what may be the userinfo of a URL.
fn without_password(value: &str) -> String {
    value
        .rsplit_once('@')
        .map_or_else(|| value.to_owned(), |(_, rest)| format!("…@{rest}"))
}

/// `Ok` where `is_right`, else the mend.
fn demand(is_right: bool, mend: &str) -> Result<(), String> {
    if is_right {
        Ok(())
    } else {
        Err(mend.to_owned())
    }
}

fn client_id(text: &str) -> Result<String, String> {
    demand(
        is_guid(text),
        "write the application's GUID, such as 11111111-2222-3333-4444-555555555555",
    )?;
    Ok(text.to_ascii_lowercase())
}

fn tenant(text: &str) -> Result<Tenant, String> {
    let mend =
        "write the tenant's GUID, one of its domain names, or common, organizations, consumers";
    Tenant::parse(text).ok_or_else(|| mend.to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "write a number from 0 to 65535".to_owned())
}

fn max_response_bytes(text: &str) -> Result<usize, String> {
    let bytes = text
        .parse()
        .ok()
        .filter(|bytes| (1..=MOST_RESPONSE_BYTES).contains(bytes));
    bytes.ok_or_else(|| format!("write a number of bytes from 1 to {MOST_RESPONSE_BYTES}"))
}

fn max_request_bytes(text: &str) -> Result<usize, String> {
    let [least, most] = REQUEST_BYTES;
    let bytes = text
        .parse()
        .ok()
        .filter(|bytes| (least..=most).contains(bytes));
    bytes.ok_or_else(|| format!("write a number of bytes from {least} to {most}"))
}

fn files_dir(text: &str) -> Result<PathBuf, String> {
    demand(
        !text.contains(char::is_control),
        "write the path of a directory",
    )?;
    Ok(PathBuf::from(text))
}

fn max_file_bytes(text: &str) -> Result<u64, String> {
    let bytes = text
        .parse()
        .ok()
        .filter(|bytes| (1..=MOST_FILE_BYTES).contains(bytes));
    bytes.ok_or_else(|| format!("write a number of bytes from 1 to {MOST_FILE_BYTES}"))
}

fn response_mode(text: &str) -> Result<ResponseMode, String> {
    let mode = [ResponseMode::FormPost, ResponseMode::Query]
        .into_iter()
        .find(|mode| mode.name() == text);
    mode.ok_or_else(|| "write form_post or query".to_owned())
}

fn sign_in_method(text: &str) -> Result<SignInMethod, String> {
    let method = [SignInMethod::Browser, SignInMethod::DeviceCode]
        .into_iter()
        .find(|method| method.name() == text);
    method.ok_or_else(|| "write browser or device_code".to_owned())
}

fn true_or_false(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

fn sign_in_wait(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| *seconds <= MOST_SIGN_IN_WAIT_SECONDS);
    let mend = || format!("write a number of seconds from 0 to {MOST_SIGN_IN_WAIT_SECONDS}");
    seconds.map(Duration::from_secs).ok_or_else(mend)
}

fn domain_hint(text: &str) -> Result<String, String> {
    let hint =
        Tenant::parse(text).filter(|hint| hint.guid().is_none() && hint.segment() != "common");
    let mend = || "write a domain name such as contoso.com, or organizations, consumers".to_owned();
    hint.map(|hint| hint.segment().to_owned()).ok_or_else(mend)
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    use log::LevelFilter::{Debug, Error, Info, Warn};
    let level = text
        .parse()
        .ok()
        .filter(|level| [Error, Warn, Info, Debug].contains(level));
    level.ok_or_else(|| "write error, warn, info or debug".to_owned())
}

fn audit_log(text: &str, token_cache_file: &Path) -> Result<AuditTarget, String> {
    let path = Path::new(text);
    demand(
        !text.ends_with('/') && path.file_name().is_some(),
        "write the path of a file, or - for standard output",
    )?;
    demand(
        path != token_cache_file,
        "TOKEN_CACHE_FILE is the same file; choose another",
    )?;
    Ok(if text == "-" {
        AuditTarget::StandardOutput
    } else {
        AuditTarget::File(path.to_owned())
    })
}

fn server_host(text: &str, has_key: bool) -> Result<String, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let is_host =
        bare.parse::<IpAddr>().is_ok() || matches!(Host::parse(text), Ok(Host::Domain(_)));
    demand(
        is_host,
        "write localhost, an IP address or a host name, without a scheme and port",
    )?;
    demand(
        has_key || is_loopback_host(bare),
        "whoever reaches that address could call the API as the signed-in users; set SERVER_ACCESS_KEY as well, or listen on localhost",
    )?;
    Ok(bare.to_owned())
}

/// An absolute web URL without userinfo, query and fragment.
fn bare_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("write a URL such as https://example.com ({error})"))?;
    demand(
        matches!(url.scheme(), "http" | "https"),
        "write an https URL",
    )?;
    demand(
        url.username().is_empty() && url.password().is_none(),
        "leave out the user name and password",
    )?;
    demand(
        url.query().is_none() && url.fragment().is_none(),
        "leave out what begins with '?' or '#'",
    )?;
    Ok(url)
}

/// A [`bare_url`] with `https`, or with `http` for a loopback host.
fn web_url(text: &str) -> Result<Url, String> {
    let url = bare_url(text)?;
    let is_safe = url.scheme() == "https" || url.host_str().is_some_and(is_loopback_host);
    demand(is_safe, "write https; http is only for a loopback host")?;
    Ok(url)
}

fn cloud_host(name: &str) -> Result<Url, String> {
    let host = CLOUDS
        .iter()
        .find(|(cloud, _)| *cloud == name)
        .and_then(|(_, host)| Url::parse(host).ok());
    host.ok_or_else(|| format!("write one of {}", CLOUDS.map(|(cloud, _)| cloud).join(", ")))
}

/// `cloud` is the host of `AZURE_CLOUD`, where that is set.
fn authority_host(text: &str, cloud: Option<&Url>) -> Result<Url, String> {
    let url = web_url(text)?;
    demand(
        url.path() == "/",
        "write scheme and host only; the tenant goes into AZURE_TENANT_ID",
    )?;
    let is_closed = url.host_str() == Some("login.microsoftonline.de");
    demand(
        !is_closed,
        "that cloud was closed; set AZURE_CLOUD to the one where your tenant is now",
    )?;
    demand(
        cloud.is_none_or(|cloud| *cloud == url),
        "AZURE_CLOUD has another host; leave one of the two out",
    )?;
    Ok(url)
}

fn backend(text: &str) -> Result<Url, String> {
    let mut url = web_url(text)?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// Microsoft's rules for redirect URIs, as far as they can be told from the text.
fn redirect_uri(text: &str) -> Result<RedirectUri, String> {
    let url = web_url(text)?;
    let host = url.host_str().unwrap_or_default();
    demand(
        url.scheme() == "https" || matches!(host, "localhost" | "127.0.0.1"),
        "Entra takes http for localhost and 127.0.0.1 alone",
    )?;
    demand(
        text.len() <= MOST_REDIRECT_URI_CHARS,
        "shorten it: Entra takes at most 256 characters",
    )?;
    let bad = text
        .chars()
        .find(|c| !c.is_ascii_graphic() || "!$'(),;*".contains(*c));
    demand(
        bad.is_none(),
        &format!(
            "leave out {:?}: Entra takes no such character",
            bad.unwrap_or_default()
        ),
    )?;
    demand(
        !TAKEN_PATHS.contains(&url.path()),
        "choose another path: this one is an endpoint of this server",
    )?;
    Ok(RedirectUri {
        text: text.to_owned(),
        path: url.path().to_owned(),
        origin: url.origin().ascii_serialization(),
        host: AllowedHost {
            name: host.to_owned(),
            port: url.port_or_known_default(),
        },
        is_https: url.scheme() == "https",
    })
}

fn default_redirect_uri(port: u16) -> Option<RedirectUri> {
    redirect_uri(&format!("http://localhost:{port}/auth/callback")).ok()
}

fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split([',', ' ', '\t'])
        .filter(|item| !item.is_empty())
        .map(parse)
        .collect()
}

/// A list that would mean the opposite if it were empty.
fn full_list<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let list = list(text, parse)?;
    demand(!list.is_empty(), "name at least one")?;
    Ok(list)
}

fn method(text: &str) -> Result<&'static str, String> {
    let method = METHODS
        .into_iter()
        .find(|method| method.eq_ignore_ascii_case(text));
    method.ok_or_else(|| format!("write some of {}", METHODS.join(", ")))
}

fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    full_list(text, Pattern::parse)
}

fn allowed_host(text: &str) -> Result<AllowedHost, String> {
    let mend = format!(
        "write host names, with or without a port, not {:?}",
        without_password(text)
    );
    demand(!text.contains(['/', '*', '@', '?', '#']), &mend)?;
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| mend)?;
    // `Url` drops the scheme's own port.
    let port = if text.ends_with(":80") {
        Some(80)
    } else {
        url.port()
    };
    Ok(AllowedHost {
        name: url.host_str().unwrap_or_default().to_owned(),
        port,
    })
}

fn allowed_origin(text: &str) -> Result<String, String> {
    let url = bare_url(text).ok().filter(|url| url.path() == "/");
    let origin = url.map(|url| url.origin().ascii_serialization());
    origin.ok_or_else(|| {
        format!(
            "write origins such as http://localhost:6274, not {:?}",
            without_password(text)
        )
    })
}
