//! The settings: environment and `.env` become one validated [`Config`], or a list of every
//! mistake.
//!
//! `settings` is the table of them, `reader` makes values of their texts, `doubts` says what is
//! probably not meant, `sources` where the texts come from, and `env_file` reads the file.

mod doubts;
pub mod env_file;
mod reader;
mod settings;
pub mod sources;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use self::settings::value;
pub use self::settings::{SETTINGS, Setting};
pub use self::sources::Sources;
use crate::access_key::AccessKey;
use crate::api::downloads::DownloadHosts;
use crate::api::fixed_headers::FixedHeaders;
use crate::api::policy::Policy;
use crate::auth::authority::{Application, Authority, CLOUDS, ResponseMode};
use crate::auth::scope::Scopes;
use crate::openapi::Description;
use crate::secret::ACCESS_KEY;

/// What stands in `.env.example` for an id; nobody has it.
pub const PLACEHOLDER: &str = "00000000-0000-0000-0000-000000000000";
/// Where authorization responses arrive by default.
pub const CALLBACK_PATH: &str = "/auth/callback";

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

impl RedirectUri {
    /// What stands before our own paths where a proxy serves us below a path of its own:
    /// `/crm` of `https://host/crm/auth/callback`; mostly empty.
    pub fn prefix(&self) -> &str {
        self.path.strip_suffix(CALLBACK_PATH).unwrap_or_default()
    }

    /// The address that our own paths are below, without a trailing slash.
    pub fn base(&self) -> String {
        format!("{}{}", self.origin, self.prefix())
    }
}

/// How a person signs in where the caller does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInMethod {
    /// With a link to open in the browser.
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

/// How the operations of the API's description are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiTools {
    /// As tools if they are few, else by search.
    Auto,
    /// As a tool each.
    Named,
    /// By two tools that find and describe them.
    Search,
    /// Not at all.
    Generic,
}

impl ApiTools {
    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Named => "named",
            Self::Search => "search",
            Self::Generic => "generic",
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
    /// What every call of the API has beside the caller's headers.
    pub backend_headers: Option<FixedHeaders>,
    /// Where downloads may come from that the API redirects to.
    pub download_hosts: Option<DownloadHosts>,
    /// Which calls of the API are made.
    pub policy: Policy,
    /// The names of the cookies of the API that are kept for each account.
    pub session_cookies: Vec<String>,
    /// What the API's own description says of it.
    pub description: Option<Arc<Description>>,
    /// How its operations are offered.
    pub api_tools: ApiTools,
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
        if let Some(key) = &self.access_key
            && let Some(path) = &key.file
        {
            files.push(("SERVER_ACCESS_KEY_FILE", path));
        }
        if let Some(headers) = &self.backend_headers {
            files.push(("BACKEND_HEADERS_FILE", &headers.file));
        }
        if let Some(AuditTarget::File(path)) = &self.audit_log {
            files.push(("AUDIT_LOG", path));
        }
        files
    }

    /// Whether links lead browsers to `localhost` at the port that is listened on.
    pub fn is_reached_as_localhost(&self) -> bool {
        let host = &self.redirect_uri.host;
        host.name == "localhost" && host.port == Some(self.server_port)
    }

    /// What Entra knows of us.
    pub fn application(&self) -> Application<'_> {
        Application {
            authority: &self.authority,
            client_id: &self.client_id,
            redirect_uri: &self.redirect_uri.text,
            scopes: &self.scopes,
            response_mode: self.response_mode,
            domain_hint: self.domain_hint.as_deref(),
        }
    }

    /// Every setting with what holds and where that comes from, as lines of a settings file.
    /// `sources` are what this was read from. The access key, the only secret among them, is not
    /// shown.
    pub fn effective(&self, sources: &Sources) -> String {
        let mut lines = String::new();
        for setting in SETTINGS {
            let value = self.effective_value(setting, sources);
            let origin = self.origin(setting, sources);
            // Writing into memory cannot fail.
            let _ = writeln!(lines, "{}={value}  # {origin}", setting.name);
        }
        lines
    }

    fn effective_value(&self, setting: &Setting, sources: &Sources) -> String {
        let value = value(&sources.values, setting.name);
        match setting.name {
            "AZURE_CLOUD" => self.cloud().unwrap_or_default().to_owned(),
            "AZURE_AUTHORITY_HOST" => self.authority.origin(),
            "ALLOW_DEVICE_CODE" => self.allow_device_code.to_string(),
            ACCESS_KEY if value.is_some() => "(set)".to_owned(),
            _ => {
                let port = match self.server_port {
                    0 => "{the free port}".to_owned(),
                    port => port.to_string(),
                };
                let value = value.or(setting.default).unwrap_or_default();
                value.replace("{SERVER_PORT}", &port)
            }
        }
    }

    /// Where the effective value of `setting` comes from.
    fn origin(&self, setting: &Setting, sources: &Sources) -> String {
        let is_set = |name| value(&sources.values, name).is_some();
        let implied_by = match setting.name {
            "AZURE_CLOUD" if is_set("AZURE_AUTHORITY_HOST") => Some("AZURE_AUTHORITY_HOST"),
            "AZURE_AUTHORITY_HOST" if is_set("AZURE_CLOUD") => Some("AZURE_CLOUD"),
            "ALLOW_DEVICE_CODE" if self.sign_in_method == SignInMethod::DeviceCode => {
                Some("SIGN_IN_METHOD")
            }
            _ => None,
        };
        match (sources.origin(setting.name), implied_by) {
            (Some(origin), _) => origin,
            (None, Some(other)) => format!("by {other}"),
            (None, None) if self.effective_value(setting, sources).is_empty() => {
                "not set".to_owned()
            }
            (None, None) => "default".to_owned(),
        }
    }

    /// The name of the cloud whose sign-in host is configured.
    fn cloud(&self) -> Option<&'static str> {
        let origin = self.authority.origin();
        let cloud = CLOUDS.iter().find(|cloud| cloud.origin == origin)?;
        Some(cloud.name)
    }
}
