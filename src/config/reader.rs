//! From the text of each setting to its value. A mistake is told with its mend.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, ParseError, Url};

use super::settings::{named, value};
use super::{AllowedHost, ApiTools, AuditTarget, Config, RedirectUri, SignInMethod};
use crate::access_key::AccessKey;
use crate::api::downloads::DownloadHosts;
use crate::api::fixed_headers::FixedHeaders;
use crate::api::headers::AllowedHeaders;
use crate::api::policy::{METHODS, Pattern, Policy};
use crate::auth::authority::{Authority, CLOUDS, ResponseMode, Tenant};
use crate::auth::scope::Scopes;
use crate::openapi::offer::{Entry, Wanted};
use crate::openapi::{Description, Surroundings};
use crate::outgoing::is_loopback_host;
use crate::secret::ACCESS_KEY;
use crate::text::is_guid;

/// The largest `MAX_RESPONSE_BYTES`: answers are held in memory.
const MOST_RESPONSE_BYTES: usize = 256 * 1024 * 1024;
/// The bounds of `MAX_REQUEST_BYTES`: what is sent to the API is held in memory.
const LEAST_REQUEST_BYTES: usize = 64 * 1024;
const MOST_REQUEST_BYTES: usize = 256 * 1024 * 1024;
/// The largest `MAX_FILE_BYTES`: 1 TiB.
const MOST_FILE_BYTES: u64 = 1 << 40;
/// The largest `SIGN_IN_WAIT_SECONDS`: a call that waits holds a connection.
const MOST_SIGN_IN_WAIT_SECONDS: u64 = 600;
/// The largest `OPENAPI_FILE`.
const MOST_OPENAPI_BYTES: u64 = 32 * 1024 * 1024;
/// The longest redirect URI that Entra takes.
const MOST_REDIRECT_URI_CHARS: usize = 256;
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

impl Config {
    /// Reads the settings from `variables`; an empty one counts as not set.
    ///
    /// # Errors
    /// Every mistake in them: which setting, what it says (without a password), and the mend.
    pub fn from_variables(variables: &BTreeMap<String, String>) -> Result<Self, Vec<String>> {
        let mut reader = Reader {
            variables,
            mistakes: Vec::new(),
        };
        match reader.config() {
            Some(config) if reader.mistakes.is_empty() => Ok(config),
            _ => Err(reader.mistakes),
        }
    }

    /// The same for a server that listens on `port`, which is part of the default redirect URI.
    pub fn at_port(mut self, port: u16) -> Self {
        self.server_port = port;
        if self.redirect_uri_is_default
            && let Ok(redirect_uri) = default_redirect_uri(port)
        {
            self.redirect_uri = redirect_uri;
        }
        self
    }
}

/// Reads one setting after the other and notes each mistake. Functions that parse a value are
/// passed as `dyn`: otherwise each method would be compiled once for every setting.
struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    /// `None` only where there was a mistake. Every setting is read before the first `?`, so that
    /// every mistake is noted.
    fn config(&mut self) -> Option<Config> {
        let client_id = self.required("AZURE_CLIENT_ID", &client_id);
        let authority = self.authority();
        let redirect_uri = self.optional("REDIRECT_URI", &redirect_uri);
        let response_mode = self.with_default("AUTH_RESPONSE_MODE", &response_mode);
        let domain_hint = self.optional("DOMAIN_HINT", &domain_hint);
        let scopes = self.optional("CUSTOM_API_SCOPE", &Scopes::parse);
        let sign_in_method = self.with_default("SIGN_IN_METHOD", &sign_in_method);
        let allow_device_code = self.with_default("ALLOW_DEVICE_CODE", &true_or_false);
        let sign_in_wait = self.with_default("SIGN_IN_WAIT_SECONDS", &sign_in_wait);

        let access_key = self.access_key();
        let has_key = access_key.is_some();
        let server_host = self.with_default("SERVER_HOST", &|text| server_host(text, has_key));
        let server_port = self.with_default("SERVER_PORT", &port);
        let allowed_hosts = self.list("ALLOWED_HOSTS", &allowed_host);
        let allowed_origins = self.list("ALLOWED_ORIGINS", &allowed_origin);

        let backend = self.optional("BACKEND_API_BASE_URL", &backend);
        let methods = self.with_default("ALLOWED_METHODS", &|text| full_list(text, method));
        let allowed_endpoints = self.optional("ALLOWED_ENDPOINTS", &patterns);
        let denied_endpoints = self.optional("DENIED_ENDPOINTS", &patterns);
        let allowed_request_headers =
            self.optional("ALLOWED_REQUEST_HEADERS", &AllowedHeaders::parse);
        let backend_headers = self.backend_headers();
        let download_hosts = self.optional("DOWNLOAD_HOSTS", &DownloadHosts::parse);
        let session_cookies = self.list("BACKEND_SESSION_COOKIES", &cookie_name);
        let policy = methods.map(|methods| Policy {
            methods,
            allowed: allowed_endpoints.unwrap_or_default(),
            denied: denied_endpoints.unwrap_or_default(),
            headers: allowed_request_headers.unwrap_or_default(),
        });
        let api_tools = self.with_default("API_TOOLS", &api_tools);
        let description =
            self.description(backend.as_ref(), policy.as_ref(), backend_headers.as_ref());
        let max_response_bytes = self.with_default("MAX_RESPONSE_BYTES", &max_response_bytes);
        let max_request_bytes = self.with_default("MAX_REQUEST_BYTES", &max_request_bytes);
        let files_dir = self.optional("FILES_DIR", &files_dir);
        let max_file_bytes = self.with_default("MAX_FILE_BYTES", &max_file_bytes);

        let token_cache_file = self.with_default("TOKEN_CACHE_FILE", &|text| Ok(text.into()));
        let audit_log = self.optional("AUDIT_LOG", &|text| {
            audit_log(text, token_cache_file.as_deref())
        });
        let audit_log_required = self.with_default("AUDIT_LOG_REQUIRED", &true_or_false);
        let log_level = self.with_default("LOG_LEVEL", &log_level);

        let server_port = server_port?;
        let sign_in_method = sign_in_method?;
        let redirect_uri_is_default = redirect_uri.is_none();
        let redirect_uri = match redirect_uri {
            Some(redirect_uri) => redirect_uri,
            None => default_redirect_uri(server_port).ok()?,
        };
        Some(Config {
            client_id: client_id?,
            authority: authority?,
            server_host: server_host?,
            backend,
            scopes: scopes.unwrap_or_default(),
            token_cache_file: token_cache_file?,
            response_mode: response_mode?,
            domain_hint,
            sign_in_method,
            allow_device_code: allow_device_code? || sign_in_method == SignInMethod::DeviceCode,
            sign_in_wait: sign_in_wait?,
            allowed_hosts,
            allowed_origins,
            access_key,
            backend_headers,
            download_hosts,
            policy: policy?,
            description,
            api_tools: api_tools?,
            session_cookies,
            max_response_bytes: max_response_bytes?,
            max_request_bytes: max_request_bytes?,
            files_dir,
            max_file_bytes: max_file_bytes?,
            log_level: log_level?,
            audit_log,
            audit_log_required: audit_log_required?,
            server_port,
            redirect_uri,
            redirect_uri_is_default,
        })
    }

    /// The tenant at `AZURE_AUTHORITY_HOST`, or at the host of `AZURE_CLOUD`.
    fn authority(&mut self) -> Option<Authority> {
        let tenant = self.required("AZURE_TENANT_ID", &tenant);
        let is_cloud_set = value(self.variables, "AZURE_CLOUD").is_some();
        let cloud = self.with_default("AZURE_CLOUD", &cloud_host);
        let must_be = cloud.as_ref().filter(|_| is_cloud_set);
        let host = self.optional("AZURE_AUTHORITY_HOST", &|text| {
            authority_host(text, must_be, tenant.as_ref())
        });
        Some(Authority::new(host.or(cloud)?, tenant?))
    }

    /// Of the key itself, no mistake shows anything.
    fn access_key(&mut self) -> Option<AccessKey> {
        let key = value(self.variables, ACCESS_KEY);
        let file = value(self.variables, "SERVER_ACCESS_KEY_FILE");
        let read = match (key, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => Err(
                "SERVER_ACCESS_KEY and SERVER_ACCESS_KEY_FILE are both set: leave one out"
                    .to_owned(),
            ),
            (Some(key), None) => {
                AccessKey::parse(key).map_err(|mend| format!("SERVER_ACCESS_KEY {mend}"))
            }
            (None, Some(file)) => AccessKey::read(file, self.is_handed_over(file))
                .map_err(|mistake| format!("SERVER_ACCESS_KEY_FILE is {mistake}")),
        };
        self.noted(read)
    }

    /// Of what stands in the file, no mistake shows a value.
    fn backend_headers(&mut self) -> Option<FixedHeaders> {
        let file = value(self.variables, "BACKEND_HEADERS_FILE")?;
        let read = FixedHeaders::read(file, self.is_handed_over(file))
            .map_err(|mistake| format!("BACKEND_HEADERS_FILE is {mistake}"));
        self.noted(read)
    }

    /// The description of the API, of which the other settings say what is offered.
    fn description(
        &mut self,
        backend: Option<&Url>,
        policy: Option<&Policy>,
        fixed_headers: Option<&FixedHeaders>,
    ) -> Option<Arc<Description>> {
        let wanted = Wanted {
            include: self
                .optional("OPENAPI_INCLUDE", &entries)
                .unwrap_or_default(),
            exclude: self
                .optional("OPENAPI_EXCLUDE", &entries)
                .unwrap_or_default(),
        };
        // Where that is a mistake, the file is looked at all the same.
        let everything = Policy {
            methods: METHODS.to_vec(),
            ..Policy::default()
        };
        let surroundings = Surroundings {
            policy: policy.unwrap_or(&everything),
            base: backend,
            fixed_headers,
            wanted: &wanted,
        };
        self.optional("OPENAPI_FILE", &|path| {
            let contents = openapi_file(path)?;
            Description::read(contents, &surroundings).map(Arc::new)
        })
    }

    /// Whether systemd hands the file over. It protects it, and not only by the mode
    /// (systemd.exec, LoadCredential=).
    fn is_handed_over(&self, file: &str) -> bool {
        let directory = value(self.variables, "CREDENTIALS_DIRECTORY");
        directory.is_some_and(|directory| Path::new(file).starts_with(directory))
    }

    /// The value of a setting that may be missing.
    fn optional<T>(
        &mut self,
        setting: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = value(self.variables, setting)?;
        let parsed = parse(value).map_err(|mend| mistake(setting, value, &mend));
        self.noted(parsed)
    }

    /// The value of a setting, or else its default; `None` only for a mistake.
    fn with_default<T>(
        &mut self,
        setting: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if value(self.variables, setting).is_some() {
            return self.optional(setting, parse);
        }
        parse(named(setting)?.default?).ok()
    }

    fn required<T>(
        &mut self,
        setting: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if value(self.variables, setting).is_none() {
            self.mistakes.push(format!(
                "{setting} is not set: copy it from the overview of the app registration"
            ));
        }
        self.optional(setting, parse)
    }

    fn list<T>(
        &mut self,
        setting: &'static str,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        self.optional(setting, &|text| list(text, parse))
            .unwrap_or_default()
    }

    fn noted<T>(&mut self, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.mistakes.push(mistake);
                None
            }
        }
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

/// A number from `least` to `most` of what is named `unit`.
fn number<T: Copy + Display + FromStr + PartialOrd>(
    text: &str,
    unit: &str,
    least: T,
    most: T,
) -> Result<T, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("write a number of {unit} from {least} to {most}")),
    }
}

fn max_response_bytes(text: &str) -> Result<usize, String> {
    number(text, "bytes", 1, MOST_RESPONSE_BYTES)
}

fn max_request_bytes(text: &str) -> Result<usize, String> {
    number(text, "bytes", LEAST_REQUEST_BYTES, MOST_REQUEST_BYTES)
}

fn files_dir(text: &str) -> Result<PathBuf, String> {
    demand(
        !text.contains(char::is_control),
        "write the path of a directory",
    )?;
    Ok(PathBuf::from(text))
}

fn max_file_bytes(text: &str) -> Result<u64, String> {
    number(text, "bytes", 1, MOST_FILE_BYTES)
}

fn response_mode(text: &str) -> Result<ResponseMode, String> {
    let mut modes = [ResponseMode::FormPost, ResponseMode::Query].into_iter();
    let mode = modes.find(|mode| mode.name() == text);
    mode.ok_or_else(|| "write form_post or query".to_owned())
}

fn sign_in_method(text: &str) -> Result<SignInMethod, String> {
    let mut methods = [SignInMethod::Browser, SignInMethod::DeviceCode].into_iter();
    let method = methods.find(|method| method.name() == text);
    method.ok_or_else(|| "write browser or device_code".to_owned())
}

fn api_tools(text: &str) -> Result<ApiTools, String> {
    let mut all = [
        ApiTools::Auto,
        ApiTools::Named,
        ApiTools::Search,
        ApiTools::Generic,
    ]
    .into_iter();
    let tools = all.find(|tools| tools.name() == text);
    tools.ok_or_else(|| "write auto, named, search or generic".to_owned())
}

/// The contents of a description.
fn openapi_file(path: &str) -> Result<Vec<u8>, String> {
    let unreadable = |error: &io::Error| format!("it cannot be read ({error})");
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let mut contents = Vec::new();
    let read = file.take(MOST_OPENAPI_BYTES + 1).read_to_end(&mut contents);
    read.map_err(|error| unreadable(&error))?;
    demand(
        contents.len() as u64 <= MOST_OPENAPI_BYTES,
        "it is larger than 32 MiB: cut it down to the paths that are needed",
    )?;
    Ok(contents)
}

/// Entries that are separated by commas or line ends. What is within them may have spaces.
fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let entries = text.split([',', '\n', '\r']).map(str::trim);
    let entries = entries.filter(|entry| !entry.is_empty());
    let entries: Vec<Entry> = entries.map(Entry::parse).collect::<Result<_, _>>()?;
    demand(!entries.is_empty(), "name at least one")?;
    Ok(entries)
}

fn true_or_false(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

fn sign_in_wait(text: &str) -> Result<Duration, String> {
    let seconds = number(text, "seconds", 0, MOST_SIGN_IN_WAIT_SECONDS)?;
    Ok(Duration::from_secs(seconds))
}

fn domain_hint(text: &str) -> Result<String, String> {
    let mend = "write a domain name such as contoso.com, or organizations, consumers";
    let hint = Tenant::parse(text).ok_or(mend)?;
    let names_accounts = hint.guid().is_none() && hint.segment() != "common";
    demand(names_accounts, mend)?;
    Ok(hint.segment().to_owned())
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    use log::LevelFilter::{Debug, Error, Info, Warn};
    match text.parse() {
        Ok(level @ (Error | Warn | Info | Debug)) => Ok(level),
        _ => Err("write error, warn, info or debug".to_owned()),
    }
}

fn audit_log(text: &str, token_cache_file: Option<&Path>) -> Result<AuditTarget, String> {
    let path = Path::new(text);
    demand(
        !text.ends_with('/') && path.file_name().is_some(),
        "write the path of a file, or - for standard output",
    )?;
    demand(
        token_cache_file != Some(path),
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

/// The message about a `value` that `setting` cannot have.
#[cold]
fn mistake(setting: &str, value: &str, mend: &str) -> String {
    format!("{setting} is {:?}: {mend}", without_password(value))
}

/// An absolute web URL without userinfo, query and fragment.
fn bare_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::RelativeUrlWithoutBase => {
            "write the whole URL, such as https://example.com".to_owned()
        }
        error => format!("write a URL such as https://example.com ({error})"),
    })?;
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
    let mend = || {
        let names: Vec<&str> = CLOUDS.iter().map(|cloud| cloud.name).collect();
        format!("write one of {}", names.join(", "))
    };
    let cloud = CLOUDS
        .iter()
        .find(|cloud| cloud.name == name)
        .ok_or_else(mend)?;
    Url::parse(cloud.origin).map_err(|_| mend())
}

/// `cloud` is the host of `AZURE_CLOUD`, where that is set; `tenant` the one that signs in there.
fn authority_host(text: &str, cloud: Option<&Url>, tenant: Option<&Tenant>) -> Result<Url, String> {
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
    Authority::check(&url, tenant)?;
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
    let is_bad = |c: &char| !c.is_ascii_graphic() || "!$'(),;*".contains(*c);
    if let Some(bad) = text.chars().find(is_bad) {
        return Err(format!("leave out {bad:?}: Entra takes no such character"));
    }
    demand(
        !TAKEN_PATHS.contains(&url.path()),
        "choose another path: this one is an endpoint of this server",
    )?;
    demand(
        !url.path().contains("//"),
        "leave out '//': what follows it would be taken for a host",
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

fn default_redirect_uri(port: u16) -> Result<RedirectUri, String> {
    redirect_uri(&format!("http://localhost:{port}/auth/callback"))
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
    let mut methods = METHODS.into_iter();
    let method = methods.find(|method| method.eq_ignore_ascii_case(text));
    method.ok_or_else(|| format!("write some of {}", METHODS.join(", ")))
}

fn patterns(text: &str) -> Result<Vec<Pattern>, String> {
    full_list(text, Pattern::parse)
}

/// A token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
fn cookie_name(text: &str) -> Result<String, String> {
    let is_in_a_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let mend = format!("write names of cookies, such as session, not {text:?}");
    demand(text.chars().all(is_in_a_token), &mend)?;
    Ok(text.to_owned())
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
    match bare_url(text) {
        Ok(url) if url.path() == "/" => Ok(url.origin().ascii_serialization()),
        _ => Err(format!(
            "write origins such as http://localhost:6274, not {:?}",
            without_password(text)
        )),
    }
}
