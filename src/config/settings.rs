//! The one table of settings: their names, defaults and meanings.

use std::collections::BTreeMap;

use crate::spelling::is_within;

/// One setting, as `--help`, the manual and `.env.example` name it.
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What holds when it is not set.
    pub default: Option<&'static str>,
    /// What it means, in a few words, as `--help` says it.
    pub meaning: &'static str,
    /// All that is to be known of it, as the manual says it.
    pub detail: &'static str,
}

const fn setting(
    name: &'static str,
    default: Option<&'static str>,
    meaning: &'static str,
    detail: &'static str,
) -> Setting {
    Setting {
        name,
        default,
        meaning,
        detail,
    }
}

/// Every setting, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    setting(
        "AZURE_CLIENT_ID",
        None,
        "required: the application (client) id of the app registration",
        "Application (client) ID of the app registration.",
    ),
    setting(
        "AZURE_TENANT_ID",
        None,
        "required: the tenant: its GUID, a domain name, or common, organizations, consumers",
        "The tenant: its GUID, one of its domain names, or `common`, `organizations` (no personal \
         accounts), `consumers` (only those). With a GUID, tokens of other tenants are refused.",
    ),
    setting(
        "REDIRECT_URI",
        Some("http://localhost:{SERVER_PORT}/auth/callback"),
        "the redirect URI, with the port of this server",
        "The redirect URI, with the port to which the browser comes back.",
    ),
    setting(
        "SERVER_HOST",
        Some("localhost"),
        "the address to listen on; localhost listens on 127.0.0.1 and ::1",
        "The address to listen on. `localhost` listens on 127.0.0.1 and ::1, and so do these two \
         addresses if `REDIRECT_URI` says `localhost`. Any other address needs an access key: \
         read SECURITY.md first.",
    ),
    setting(
        "SERVER_PORT",
        Some("8000"),
        "the port to listen on; 0 takes a free one",
        "The port to listen on; `0` takes a free one, which the server prints when it is ready.",
    ),
    setting(
        "BACKEND_API_BASE_URL",
        None,
        "the API that the tools call; the token goes there and nowhere else",
        "The API that the tools call; `https`, or `http` for a loopback host. Without it, the API \
         tools explain what to set.",
    ),
    setting(
        "CUSTOM_API_SCOPE",
        None,
        "the scopes of that API, separated by spaces",
        "The scopes of that API, separated by spaces: scopes of one resource, or only its \
         `.default`. `openid profile offline_access` are added.",
    ),
    setting(
        "TOKEN_CACHE_FILE",
        Some("token_cache.json"),
        "the file that holds the tokens",
        "The file that holds the tokens. Each server needs its own.",
    ),
    setting(
        "AZURE_CLOUD",
        Some("public"),
        "your cloud: public, usgov, china, france, germany or singapore",
        "The cloud of your tenant: `public` (with GCC), `usgov` (GCC High, DoD), `china`, \
         `france`, `germany` or `singapore`.",
    ),
    setting(
        "AZURE_AUTHORITY_HOST",
        None,
        "the sign-in host of your cloud; by default the host of AZURE_CLOUD",
        "The sign-in host, instead of `AZURE_CLOUD`, such as `https://login.microsoftonline.us`, \
         or `https://contoso.ciamlogin.com` for External ID. Set only one of the two. Azure AD \
         B2C is not supported.",
    ),
    setting(
        "AUTH_RESPONSE_MODE",
        Some("form_post"),
        "form_post, or query for a registration that needs it",
        "How Entra's answer arrives: `form_post`, or `query` for a registration that needs it.",
    ),
    setting(
        "DOMAIN_HINT",
        None,
        "whose sign-in page to show: a domain name, organizations or consumers",
        "The organization whose sign-in page Microsoft shows without asking: a domain name, or \
         `organizations` or `consumers` for any account of that kind.",
    ),
    setting(
        "SIGN_IN_METHOD",
        Some("browser"),
        "browser, or device_code to sign in on another device",
        "How people sign in: `browser`, or `device_code` (a code to type on another device).",
    ),
    setting(
        "ALLOW_DEVICE_CODE",
        Some("false"),
        "whether callers may ask for a device code; such codes can be phished",
        "Whether callers may ask for a device code; `SIGN_IN_METHOD=device_code` implies it. Such \
         codes can be phished, and many organizations block them.",
    ),
    setting(
        "SIGN_IN_WAIT_SECONDS",
        Some("120"),
        "how many seconds a call waits for the sign-in that it needs; 0 does not wait",
        "How many seconds a call waits for the sign-in that it asked for before it asks again, \
         from 0 to 600.",
    ),
    setting(
        "ALLOWED_HOSTS",
        None,
        "further Host values that are accepted, separated by commas: name or name:port",
        "Further `Host` values that are accepted, separated by commas: `name` or `name:port`.",
    ),
    setting(
        "ALLOWED_ORIGINS",
        None,
        "web origins that may call /mcp from a browser, separated by commas",
        "Web origins whose pages may call this server, separated by commas.",
    ),
    setting(
        "SERVER_ACCESS_KEY",
        None,
        "the key that callers must send as a bearer token; required beyond loopback",
        "The key that callers must send as a bearer token: 32 to 1024 printable ASCII characters \
         without spaces.",
    ),
    setting(
        "SERVER_ACCESS_KEY_FILE",
        None,
        "a file that holds that key",
        "A file that holds the access key, instead of `SERVER_ACCESS_KEY`.",
    ),
    setting(
        "ALLOWED_METHODS",
        Some("GET POST PUT PATCH DELETE"),
        "the methods of the API that may be called",
        "The methods of the API that may be called, for example only `GET`. The tools of the \
         other methods are not listed.",
    ),
    setting(
        "ALLOWED_ENDPOINTS",
        None,
        "patterns of the only paths that may be called: * within a segment, ** for segments",
        "Patterns of the paths that may be called. If set, no other path may be called (topic \
         `policies`).",
    ),
    setting(
        "DENIED_ENDPOINTS",
        None,
        "patterns of paths that may not be called, even if ALLOWED_ENDPOINTS has them",
        "Patterns of paths that may not be called, even if `ALLOWED_ENDPOINTS` has them.",
    ),
    setting(
        "ALLOWED_REQUEST_HEADERS",
        None,
        "further headers that a call may set; a name may end with *",
        "Headers that calls may set in addition to the built-in list (topic `tools`), separated \
         by spaces or commas. A name may end with `*`, as in `X-Trace-*`. Headers of the \
         connection, `Authorization`, `Cookie`, `Host` and `Content-Length` can never be added.",
    ),
    setting(
        "BACKEND_HEADERS_FILE",
        None,
        "a file of headers for every call of the API: one \"Name: value\" on each line",
        "A file of headers for every call of the API, such as the key of a gateway or a version. \
         Each line is one `Name: value`, at most 32; `#` begins a comment. Only you should be \
         able to read it (mode 0600). The values are sent only to the API and shown nowhere, and \
         no caller can replace them.",
    ),
    setting(
        "DOWNLOAD_HOSTS",
        None,
        "hosts to which redirects of a GET are followed, without the token; *. before a name",
        "Hosts to which redirects of a `GET` are followed, for APIs that keep their files \
         elsewhere. Names are separated by spaces or commas; `*.` before a name means its \
         subdomains. The hosts get neither the token nor any header of the call. Only `https` and \
         public addresses are called, without a proxy.",
    ),
    setting(
        "BACKEND_SESSION_COOKIES",
        None,
        "the API's session cookies to keep for each account, in memory only",
        "Names of cookies, separated by spaces or commas, for an API that keeps a session. The \
         server keeps such a cookie for each account, in memory only, and sends it with the \
         account's calls, in addition to the token. No client sees it, and it ends with the \
         sign-in.",
    ),
    setting(
        "OPENAPI_FILE",
        None,
        "the API's OpenAPI or Swagger description (JSON); its operations become tools",
        "A local file with the API's own description: JSON, OpenAPI 3.0 to 3.2 or Swagger 2.0, at \
         most 32 MiB. Its operations are offered to models as `API_TOOLS` says. It is read at the \
         start.",
    ),
    setting(
        "OPENAPI_INCLUDE",
        None,
        "only these operations, separated by commas: tag:NAME, an operation id, METHOD /pattern",
        "The operations of `OPENAPI_FILE` that are offered. Entries are separated by commas or \
         line ends. Each is `tag:NAME`, an operation id, or `METHOD /pattern` with a pattern as \
         in `ALLOWED_ENDPOINTS`. A deprecated operation is offered only if it is named here. This \
         setting forbids nothing.",
    ),
    setting(
        "OPENAPI_EXCLUDE",
        None,
        "operations that are not offered, written in the same way",
        "Operations that are not offered, even if `OPENAPI_INCLUDE` has them; written in the same \
         way. This setting forbids nothing: use `DENIED_ENDPOINTS` for that.",
    ),
    setting(
        "API_TOOLS",
        Some("auto"),
        "auto, named (a tool for each operation), search (tools that find them) or generic \
         (neither)",
        "How operations are offered: `named` (a tool for each), `search` (two tools that find and \
         describe them), `generic` (not at all), or `auto`, which means `named` for at most 25 \
         operations of at most 64 KB together, else `search`. The generic tools are there in \
         every mode.",
    ),
    setting(
        "MAX_RESPONSE_BYTES",
        Some("1048576"),
        "the longest answer of the API that is handed on, in bytes",
        "The longest answer of the API that is handed on, in bytes, from 1 to 268435456. A longer \
         one is cut.",
    ),
    setting(
        "MAX_REQUEST_BYTES",
        Some("4194304"),
        "the longest body of a request to this server, in bytes",
        "The longest body of a request to this server, in bytes, from 65536 to 268435456.",
    ),
    setting(
        "FILES_DIR",
        None,
        "the directory of the files that calls may send and make; without it, calls use no files",
        "The directory of the files that calls may send (`body_file`) and make (`save_to`). \
         Without it, calls use no files.",
    ),
    setting(
        "MAX_FILE_BYTES",
        Some("104857600"),
        "the largest such file, in bytes",
        "The largest such file, in bytes, from 1 to 1099511627776.",
    ),
    setting(
        "LOG_LEVEL",
        Some("info"),
        "error, warn, info or debug",
        "`error`, `warn`, `info` or `debug`, on standard error; no level logs a secret.",
    ),
    setting(
        "AUDIT_LOG",
        None,
        "a file that gets a line of JSON for each sign-in, refresh, sign-out and API call; - is \
         stdout",
        "A file that gets a line of JSON for each sign-in, refresh, sign-out and API call; `-` is \
         standard output (topic `audit-log`).",
    ),
    setting(
        "AUDIT_LOG_REQUIRED",
        Some("true"),
        "whether calls fail while the audit log cannot be written",
        "While the audit log cannot be written, calls fail before anything is sent; `false` lets \
         them go through with a warning.",
    ),
];

/// The value of the setting `name`, without the white space around it; an empty one counts as not
/// set. It is called for each setting, at the start alone: never inlined, to stay small.
#[inline(never)]
pub fn value<'v>(variables: &'v BTreeMap<String, String>, name: &str) -> Option<&'v str> {
    let value = variables.get(name)?.trim();
    (!value.is_empty()).then_some(value)
}

/// The setting `name`, if there is one.
pub fn named(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The setting that differs from `name` in at most every fifth character.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let is_near = |setting: &&Setting| {
        let most = setting.name.len() / 5;
        is_within(&name, setting.name, most)
    };
    SETTINGS.iter().find(is_near).map(|setting| setting.name)
}
