//! Settings and command line, through the built program: what is taken, what is refused and how the
//! mend is told, where settings come from, and that the documents name exactly those that there are.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::support::browser::TYPED;
use crate::support::entra::Entra;
use crate::support::http::{self, Client};
use crate::support::server::{Setup, TempDir};
use entra_auth_mcp::command_line::{VERBS, Verb};
use entra_auth_mcp::config::{Config, SETTINGS, SignInMethod};
use entra_auth_mcp::manual::TOPICS;
use serde_json::json;

const CLIENT_ID: &str = "22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11";
const TENANT_ID: &str = "7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94";
const REQUIRED: [(&str, &str); 2] = [
    ("AZURE_CLIENT_ID", CLIENT_ID),
    ("AZURE_TENANT_ID", TENANT_ID),
];
const DEFAULTS: [(&str, &str); 35] = [
    ("REDIRECT_URI", "http://localhost:8000/auth/callback"),
    ("SERVER_HOST", "localhost"),
    ("SERVER_PORT", "8000"),
    ("BACKEND_API_BASE_URL", ""),
    ("CUSTOM_API_SCOPE", ""),
    ("TOKEN_CACHE_FILE", "token_cache.json"),
    ("AZURE_CLOUD", "public"),
    ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com"),
    ("AUTH_RESPONSE_MODE", "form_post"),
    ("DOMAIN_HINT", ""),
    ("SIGN_IN_METHOD", "browser"),
    ("ALLOW_DEVICE_CODE", "false"),
    ("SIGN_IN_WAIT_SECONDS", "120"),
    ("ALLOWED_HOSTS", ""),
    ("ALLOWED_ORIGINS", ""),
    ("SERVER_ACCESS_KEY", ""),
    ("SERVER_ACCESS_KEY_FILE", ""),
    ("ALLOWED_METHODS", "GET POST PUT PATCH DELETE"),
    ("ALLOWED_ENDPOINTS", ""),
    ("DENIED_ENDPOINTS", ""),
    ("ALLOWED_REQUEST_HEADERS", ""),
    ("BACKEND_HEADERS_FILE", ""),
    ("DOWNLOAD_HOSTS", ""),
    ("BACKEND_SESSION_COOKIES", ""),
    ("OPENAPI_FILE", ""),
    ("OPENAPI_INCLUDE", ""),
    ("OPENAPI_EXCLUDE", ""),
    ("API_TOOLS", "auto"),
    ("MAX_RESPONSE_BYTES", "1048576"),
    ("MAX_REQUEST_BYTES", "4194304"),
    ("FILES_DIR", ""),
    ("MAX_FILE_BYTES", "104857600"),
    ("LOG_LEVEL", "info"),
    ("AUDIT_LOG", ""),
    ("AUDIT_LOG_REQUIRED", "true"),
];

/// The built program in a working directory of its own, with an empty environment.
struct Program(TempDir);

impl Program {
    fn new() -> Self {
        Self(TempDir::new())
    }

    fn with_file(name: &str, contents: impl AsRef<[u8]>) -> Self {
        let program = Self::new();
        program.0.write(name, contents);
        program
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(&self.0.0)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        self.command(arguments)
            .envs(variables.iter().copied())
            .output()
            .unwrap()
            .into()
    }

    /// `--check-config` with the required settings and `variables`.
    fn check(&self, variables: &[(&str, &str)]) -> Outcome {
        self.run(&["--check-config"], &[&REQUIRED, variables].concat())
    }
}

#[cfg(unix)]
fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What the program printed and how it ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// The value of `name` as `--check-config` prints it.
    fn value(&self, name: &str) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        let line = self
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {self:?}"));
        line.rsplit_once("  # ").unwrap().0
    }

    /// Where the value of `name` comes from, as `--check-config` says it.
    fn origin(&self, name: &str) -> &str {
        let mut lines = self.stdout.lines();
        let line = lines.find(|line| line.starts_with(&format!("{name}=")));
        line.unwrap().rsplit_once("  # ").unwrap().1
    }

    /// The only line about `name` in a report of mistakes.
    fn mistake(&self, name: &str) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:?}");
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| line.trim_start().starts_with(&format!("{name} ")))
            .collect();
        assert_eq!(lines.len(), 1, "{name} in {self:?}");
        lines[0]
    }
}

fn check(variables: &[(&str, &str)]) -> Outcome {
    Program::new().check(variables)
}

// ---- Mistakes ----

#[test]
fn a_wrong_value_is_reported_with_name_value_and_mend() {
    let long = format!("https://example.com/{}", "x".repeat(256));
    for (name, value, mend) in [
        ("AZURE_CLIENT_ID", "my-app", "GUID"),
        (
            "AZURE_CLIENT_ID",
            "22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b1",
            "GUID",
        ),
        (
            "AZURE_CLIENT_ID",
            "{22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11}",
            "GUID",
        ),
        ("AZURE_TENANT_ID", "contoso", "domain name"),
        ("AZURE_TENANT_ID", "your-tenant-id", "GUID"),
        ("AZURE_TENANT_ID", "contoso.com/../x", "organizations"),
        ("REDIRECT_URI", "localhost:8000/auth/callback", "https"),
        ("REDIRECT_URI", "/auth/callback", "URL"),
        ("REDIRECT_URI", "http://example.com/auth/callback", "https"),
        // Entra takes no http for it.
        (
            "REDIRECT_URI",
            "http://[::1]:8000/auth/callback",
            "localhost",
        ),
        ("REDIRECT_URI", "myapp://auth", "https"),
        ("REDIRECT_URI", "https://example.com/auth?x=1", "'?'"),
        ("REDIRECT_URI", "https://example.com/auth#x", "'#'"),
        ("REDIRECT_URI", "https://example.com/it's", "'\\''"),
        ("REDIRECT_URI", "https://*.example.com/auth", "'*'"),
        ("REDIRECT_URI", "https://example.com/a b", "' '"),
        ("REDIRECT_URI", &long, "256"),
        ("REDIRECT_URI", "http://localhost:8000/mcp", "another path"),
        // Where our own paths are below `/`, `//auth/complete` is a page of the host `auth`.
        ("REDIRECT_URI", "https://example.com//auth/callback", "'//'"),
        (
            "REDIRECT_URI",
            "https://example.com//evil.example/auth/callback",
            "'//'",
        ),
        (
            "REDIRECT_URI",
            "http://localhost:8000/auth/login",
            "another path",
        ),
        (
            "REDIRECT_URI",
            "http://localhost:8000/auth/complete",
            "another path",
        ),
        (
            "REDIRECT_URI",
            "http://localhost:8000/auth/key",
            "another path",
        ),
        ("SERVER_HOST", "http://localhost", "without a scheme"),
        ("SERVER_HOST", "localhost:8000", "without a scheme and port"),
        ("SERVER_HOST", "local host", "host name"),
        ("SERVER_PORT", "-1", "0 to 65535"),
        ("SERVER_PORT", "65536", "0 to 65535"),
        ("SERVER_PORT", "eight", "0 to 65535"),
        ("SERVER_PORT", "80 81", "0 to 65535"),
        ("BACKEND_API_BASE_URL", "api.example.com", "URL"),
        ("BACKEND_API_BASE_URL", "http://api.example.com", "https"),
        ("BACKEND_API_BASE_URL", "ftp://api.example.com", "https"),
        (
            "BACKEND_API_BASE_URL",
            "https://api.example.com/v1?x=1",
            "'?'",
        ),
        (
            "BACKEND_API_BASE_URL",
            "https://api.example.com/v1#x",
            "'#'",
        ),
        ("BACKEND_API_BASE_URL", "https://", "URL"),
        (
            "CUSTOM_API_SCOPE",
            "api://a/.default api://a/read",
            ".default",
        ),
        (
            "CUSTOM_API_SCOPE",
            "api://a/read api://b/read",
            "one resource",
        ),
        ("CUSTOM_API_SCOPE", "api://a/\"read\"", "RFC 6749"),
        ("CUSTOM_API_SCOPE", "api://a", "api://a/.default"),
        (
            "AZURE_AUTHORITY_HOST",
            "login.microsoftonline.com",
            "write the whole URL, such as https://",
        ),
        (
            "AZURE_AUTHORITY_HOST",
            "http://login.microsoftonline.com",
            "loopback",
        ),
        (
            "AZURE_AUTHORITY_HOST",
            "https://login.microsoftonline.com/common",
            "AZURE_TENANT_ID",
        ),
        (
            "AZURE_AUTHORITY_HOST",
            "https://login.microsoftonline.com?x",
            "'?'",
        ),
        (
            "AZURE_AUTHORITY_HOST",
            "https://login.microsoftonline.de",
            "closed; set AZURE_CLOUD",
        ),
        (
            "AZURE_CLOUD",
            "AzureUSGovernment",
            "public, usgov, china, france, germany, singapore",
        ),
        ("AZURE_CLOUD", "https://login.microsoftonline.us", "usgov"),
        ("AUTH_RESPONSE_MODE", "fragment", "form_post or query"),
        ("DOMAIN_HINT", "contoso", "domain name"),
        ("DOMAIN_HINT", "common", "organizations, consumers"),
        ("DOMAIN_HINT", TENANT_ID, "domain name"),
        ("DOMAIN_HINT", "https://contoso.com", "domain name"),
        ("SIGN_IN_METHOD", "device", "browser or device_code"),
        ("ALLOW_DEVICE_CODE", "yes", "true or false"),
        ("SIGN_IN_WAIT_SECONDS", "601", "from 0 to 600"),
        ("SIGN_IN_WAIT_SECONDS", "-1", "from 0 to 600"),
        ("SIGN_IN_WAIT_SECONDS", "2m", "from 0 to 600"),
        ("ALLOWED_HOSTS", "http://example.com", "host names"),
        ("ALLOWED_HOSTS", "example.com, a/b", "a/b"),
        ("ALLOWED_HOSTS", "*", "host names"),
        ("ALLOWED_HOSTS", "*.example.com", "host names"),
        ("ALLOWED_HOSTS", "example.com:99999", "host names"),
        ("ALLOWED_HOSTS", "example.com?x", "host names"),
        ("ALLOWED_ORIGINS", "localhost:6274", "http://localhost:6274"),
        (
            "ALLOWED_ORIGINS",
            "http://localhost:6274 https://example.com/path",
            "https://example.com/path",
        ),
        ("ALLOWED_ORIGINS", "https://example.com#x", "origins"),
        ("ALLOWED_ORIGINS", "https://example.com?x", "origins"),
        ("ALLOWED_ORIGINS", "*", "origins"),
        ("ALLOWED_ORIGINS", "null", "origins"),
        ("ALLOWED_ORIGINS", "file:///", "origins"),
        ("SERVER_HOST", "0.0.0.0", "SERVER_ACCESS_KEY"),
        ("ALLOWED_METHODS", "HEAD", "GET, POST, PUT, PATCH, DELETE"),
        (
            "ALLOWED_METHODS",
            "GET;POST",
            "GET, POST, PUT, PATCH, DELETE",
        ),
        ("ALLOWED_METHODS", ",", "at least one"),
        ("ALLOWED_ENDPOINTS", ",", "at least one"),
        ("ALLOWED_ENDPOINTS", "/me?x=1", "'?'"),
        ("ALLOWED_ENDPOINTS", "/me /a%20b", "'%'"),
        (
            "ALLOWED_ENDPOINTS",
            "https://api.example.com/v1/me",
            "empty segments",
        ),
        ("DENIED_ENDPOINTS", "/a//b", "empty segments"),
        ("DENIED_ENDPOINTS", "//", "empty segments"),
        ("DENIED_ENDPOINTS", "/a/../b", "empty segments"),
        ("DENIED_ENDPOINTS", "/a/./b", "empty segments"),
        ("DENIED_ENDPOINTS", "/a;x", "';'"),
        ("DENIED_ENDPOINTS", "/a#x", "'#'"),
        ("DENIED_ENDPOINTS", "/admin**", "/reports/**"),
        ("ALLOWED_REQUEST_HEADERS", "*", "beginning"),
        ("ALLOWED_REQUEST_HEADERS", "X-A *", "beginning"),
        ("ALLOWED_REQUEST_HEADERS", "X-*-Id", "names of headers"),
        ("ALLOWED_REQUEST_HEADERS", "X-A**", "names of headers"),
        ("ALLOWED_REQUEST_HEADERS", "X-A: b", "names of headers"),
        ("ALLOWED_REQUEST_HEADERS", "X-A;X-B", "names of headers"),
        ("ALLOWED_REQUEST_HEADERS", "X-Ä", "names of headers"),
        ("ALLOWED_REQUEST_HEADERS", "X-A, cookie", "leave out"),
        ("ALLOWED_REQUEST_HEADERS", "Proxy-*", "leave out"),
        ("ALLOWED_REQUEST_HEADERS", "host*", "leave out"),
        ("BACKEND_SESSION_COOKIES", "a, b=c", "names of cookies"),
        ("BACKEND_SESSION_COOKIES", "a;b", "names of cookies"),
        ("BACKEND_SESSION_COOKIES", "sitzüng", "names of cookies"),
        ("DOWNLOAD_HOSTS", "https://a.example", "names of hosts"),
        ("DOWNLOAD_HOSTS", "a.example:443", "names of hosts"),
        ("DOWNLOAD_HOSTS", "a.example/x", "names of hosts"),
        ("DOWNLOAD_HOSTS", "a.example.", "names of hosts"),
        ("DOWNLOAD_HOSTS", "a.example 10.0.0.1", "names of hosts"),
        ("DOWNLOAD_HOSTS", "[2001:db8::1]", "names of hosts"),
        ("DOWNLOAD_HOSTS", "0x7f.1", "names of hosts"),
        ("DOWNLOAD_HOSTS", "*", "names of hosts"),
        ("DOWNLOAD_HOSTS", "*.*.example", "names of hosts"),
        ("DOWNLOAD_HOSTS", "a.*.example", "names of hosts"),
        ("DOWNLOAD_HOSTS", "*a.example", "names of hosts"),
        ("DOWNLOAD_HOSTS", "münchen.example", "names of hosts"),
        ("DOWNLOAD_HOSTS", "*.com", "more than the last part"),
        ("MAX_RESPONSE_BYTES", "0", "from 1 to"),
        ("MAX_RESPONSE_BYTES", "-1", "from 1 to"),
        ("MAX_RESPONSE_BYTES", "1MB", "from 1 to"),
        ("MAX_RESPONSE_BYTES", "99999999999999999999", "from 1 to"),
        ("MAX_REQUEST_BYTES", "65535", "from 65536 to 268435456"),
        ("MAX_REQUEST_BYTES", "268435457", "from 65536 to 268435456"),
        ("MAX_REQUEST_BYTES", "4M", "from 65536 to 268435456"),
        ("MAX_FILE_BYTES", "0", "from 1 to 1099511627776"),
        ("MAX_FILE_BYTES", "1099511627777", "from 1 to 1099511627776"),
        ("LOG_LEVEL", "verbose", "error, warn, info or debug"),
        ("LOG_LEVEL", "trace", "error, warn, info or debug"),
        ("AUDIT_LOG", "logs/", "the path of a file"),
        ("AUDIT_LOG", "..", "the path of a file"),
        ("AUDIT_LOG", "token_cache.json", "TOKEN_CACHE_FILE"),
        ("AUDIT_LOG_REQUIRED", "yes", "true or false"),
    ] {
        let outcome = check(&[(name, value)]);
        let mistake = outcome.mistake(name);
        assert!(
            mistake.contains(&format!("{value:?}")) && mistake.contains(mend),
            "{name}={value}: {mistake}"
        );
    }
}

/// CASES C6: what cannot work is refused at the start, and not at the end of each sign-in.
#[test]
fn a_host_at_which_nobody_can_sign_in_is_a_mistake_that_names_one_where_they_can() {
    for (tenant, host, mend) in [
        (
            TENANT_ID,
            "https://sts.windows.net",
            "https://login.microsoftonline.com",
        ),
        (
            TENANT_ID,
            "https://contoso.b2clogin.com",
            "https://contoso.ciamlogin.com",
        ),
        (
            "contoso.onmicrosoft.com",
            "https://contoso.b2clogin.cn/",
            "user flow",
        ),
        ("common", "https://contoso.ciamlogin.com", "AZURE_TENANT_ID"),
        (
            "organizations",
            "https://contoso.ciamlogin.com",
            "no organizations",
        ),
    ] {
        let outcome = check(&[("AZURE_TENANT_ID", tenant), ("AZURE_AUTHORITY_HOST", host)]);
        let mistake = outcome.mistake("AZURE_AUTHORITY_HOST");
        assert!(mistake.contains(mend), "{host}: {mistake}");
    }
    // All mistakes at once, here too.
    let outcome = check(&[
        ("AZURE_TENANT_ID", "contoso"),
        ("AZURE_AUTHORITY_HOST", "https://contoso.b2clogin.com"),
    ]);
    assert!(outcome.mistake("AZURE_TENANT_ID").contains("domain name"));
    assert!(
        outcome
            .mistake("AZURE_AUTHORITY_HOST")
            .contains("user flow")
    );
    for (tenant, host) in [
        (TENANT_ID, "https://contoso.ciamlogin.com"),
        ("contoso.onmicrosoft.com", "https://contoso.ciamlogin.com"),
        ("common", "https://login.windows.net"),
        (TENANT_ID, "https://b2clogin.com.contoso.com"),
        (TENANT_ID, "http://127.0.0.1:9000"),
    ] {
        let outcome = check(&[("AZURE_TENANT_ID", tenant), ("AZURE_AUTHORITY_HOST", host)]);
        assert_eq!(outcome.value("AZURE_AUTHORITY_HOST"), host);
    }
}

#[test]
fn a_cloud_and_the_host_of_another_are_a_mistake_that_names_both() {
    let usgov = ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us");
    for cloud in ["public", "china"] {
        let outcome = check(&[("AZURE_CLOUD", cloud), usgov]);
        assert!(
            outcome
                .mistake("AZURE_AUTHORITY_HOST")
                .contains("AZURE_CLOUD"),
            "{outcome:?}"
        );
    }
    assert_eq!(check(&[("AZURE_CLOUD", "usgov"), usgov]).code, Some(0));
}

#[test]
fn what_is_required_and_missing_is_reported_with_its_mend() {
    for arguments in [["--check-config"], ["serve"]] {
        let outcome = Program::new().run(&arguments, &[("AZURE_TENANT_ID", " ")]);
        for name in ["AZURE_CLIENT_ID", "AZURE_TENANT_ID"] {
            let mistake = outcome.mistake(name);
            assert!(
                mistake.contains("not set") && mistake.contains("app registration"),
                "{mistake}"
            );
        }
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let variables: Vec<(&str, &str)> = SETTINGS
        .iter()
        .map(|setting| (setting.name, "<wrong\u{1}>"))
        .collect();
    let outcome = Program::new().run(&[], &variables);
    // Nothing of the key is shown.
    let is_shown =
        |name: &str| name != "TOKEN_CACHE_FILE" && !name.starts_with("SERVER_ACCESS_KEY");
    assert!(
        outcome
            .mistake("SERVER_ACCESS_KEY")
            .contains("are both set"),
        "{outcome:?}"
    );
    for setting in SETTINGS.iter().filter(|setting| is_shown(setting.name)) {
        assert!(
            outcome.mistake(setting.name).contains("<wrong"),
            "{outcome:?}"
        );
    }
    assert!(!outcome.stderr.contains('\u{1}'), "{outcome:?}");
    assert!(outcome.stderr.contains("help settings"), "{outcome:?}");
}

// Read at the start, so that nobody learns of it from a model.
#[test]
fn a_description_that_cannot_be_used_is_a_mistake_that_says_what_to_do() {
    const MOST: u64 = 32 * 1024 * 1024;
    let program = Program::with_file("api.yaml", "openapi: 3.0.3\npaths: {}\n");
    for (name, length) in [("most.json", MOST), ("larger.json", MOST + 1)] {
        let file = fs::File::create(program.0.file(name)).unwrap();
        file.set_len(length).unwrap();
    }
    for (file, mend) in [
        ("api.yaml", "convert it, such as with `yq -o=json"),
        ("absent.json", "it cannot be read"),
        ("most.json", "it is not JSON"),
        ("larger.json", "larger than 32 MiB: cut it down"),
    ] {
        let variables = [&REQUIRED, &[("OPENAPI_FILE", file)][..]].concat();
        for arguments in [["--check-config"], ["serve"]] {
            let outcome = program.run(&arguments, &variables);
            let mistake = outcome.mistake("OPENAPI_FILE");
            assert!(
                mistake.contains(file) && mistake.contains(mend),
                "{mistake}"
            );
        }
    }
}

#[test]
fn a_password_in_a_url_is_refused_and_never_shown() {
    const URLS: &[&str] = &[
        "REDIRECT_URI",
        "BACKEND_API_BASE_URL",
        "AZURE_AUTHORITY_HOST",
    ];
    const LISTS: &[&str] = &["ALLOWED_HOSTS", "ALLOWED_ORIGINS"];
    let both = [URLS, LISTS].concat();
    for (names, value) in [
        (both.as_slice(), "https://ada:hunter2@example.com"),
        (&both, "https://ada:hunter2@example.com/path"),
        (&both, "https://:hunter2@example.com/?x#y"),
        (&both, "https://ada:hunter2@"),
        (&both, "https://ada:p@hunter2@example.com"),
        (&both, "https://ada:hunter2@exa mple.com"),
        (&both, "http://ada:hunter2@example.com"),
        (&both, "ftp://ada:hunter2@example.com"),
        (&both, "https:ada:hunter2@example.com"),
        (&both, "https:/ada:hunter2@example.com"),
        (&both, "https:\\\\ada:hunter2@example.com"),
        (&both, "//ada:hunter2@example.com"),
        (&both, "ada:hunter2@example.com"),
        (LISTS, "https://one.example,https://ada:hunter2@example.com"),
        (LISTS, "https://ada:hunter2@one.example https://example.com"),
    ] {
        for name in names {
            let Outcome {
                code,
                stdout,
                stderr,
            } = check(&[(name, value)]);
            assert_eq!(code, Some(2), "{name}={value} was taken");
            assert!(
                !format!("{stdout}{stderr}").contains("hunter2"),
                "{name}={value}: {stderr}"
            );
        }
    }
}

// ---- What is taken ----

#[test]
fn check_config_prints_every_setting_and_changes_nothing() {
    let program = Program::new();
    let outcome = program.check(&[]);
    let origin = |value: &str| {
        if value.is_empty() {
            "not set"
        } else {
            "default"
        }
    };
    let required = REQUIRED.map(|(name, value)| format!("{name}={value}  # environment\n"));
    let defaults = DEFAULTS.map(|(name, value)| format!("{name}={value}  # {}\n", origin(value)));
    assert_eq!(outcome.stdout, required.concat() + &defaults.concat());
    assert_eq!(outcome.code, Some(0));
    assert_eq!(
        fs::read_dir(&program.0.0).unwrap().count(),
        0,
        "no token file, no lock"
    );
}

/// What version 0.1.0 had in its `.env.example`, uncommented, with the placeholders filled in.
const OF_0_1_0: &str = "\
AZURE_CLIENT_ID=22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11
AZURE_TENANT_ID=7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94
BACKEND_API_BASE_URL=https://api.contoso.com/v1
CUSTOM_API_SCOPE=api://22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11/.default
ALLOWED_METHODS=GET POST PUT PATCH DELETE
ALLOWED_ENDPOINTS=/me/** /users/*/photo
DENIED_ENDPOINTS=/$batch /**/secrets/**
SERVER_HOST=localhost
SERVER_PORT=8000
REDIRECT_URI=http://localhost:8000/auth/callback
AZURE_CLOUD=public
AZURE_AUTHORITY_HOST=https://login.microsoftonline.com
AUTH_RESPONSE_MODE=form_post
DOMAIN_HINT=contoso.com
SIGN_IN_METHOD=browser
ALLOW_DEVICE_CODE=false
SIGN_IN_WAIT_SECONDS=120
TOKEN_CACHE_FILE=token_cache.json
ALLOWED_HOSTS=
ALLOWED_ORIGINS=
SERVER_ACCESS_KEY=
SERVER_ACCESS_KEY_FILE=
MAX_RESPONSE_BYTES=1048576
MAX_REQUEST_BYTES=4194304
FILES_DIR=api-files
MAX_FILE_BYTES=104857600
LOG_LEVEL=info
AUDIT_LOG=audit.jsonl
AUDIT_LOG_REQUIRED=true
";

#[test]
fn the_settings_of_version_0_1_0_mean_the_same() {
    let program = Program::with_file(".env", OF_0_1_0);
    fs::create_dir(program.0.file("api-files")).unwrap();
    let outcome = program.run(&["--check-config"], &[]);
    for line in OF_0_1_0.lines() {
        let (name, value) = line.split_once('=').unwrap();
        assert_eq!(outcome.value(name), value, "{name}");
    }
    assert_eq!(outcome.stderr, "");
}

#[test]
fn every_setting_can_be_set() {
    let variables = [
        ("AZURE_TENANT_ID", "contoso.onmicrosoft.com"),
        ("REDIRECT_URI", "https://mcp.example.com/auth/callback"),
        ("SERVER_HOST", "127.0.0.1"),
        ("SERVER_PORT", "8443"),
        ("BACKEND_API_BASE_URL", "https://api.example.com/v2/"),
        ("CUSTOM_API_SCOPE", "api://a/read api://a/write"),
        ("TOKEN_CACHE_FILE", "tokens.json"),
        ("AZURE_CLOUD", "usgov"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us"),
        ("AUTH_RESPONSE_MODE", "query"),
        ("DOMAIN_HINT", "contoso.com"),
        ("SIGN_IN_METHOD", "device_code"),
        ("ALLOW_DEVICE_CODE", "true"),
        ("SIGN_IN_WAIT_SECONDS", "30"),
        ("ALLOWED_HOSTS", "mcp.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com"),
        ("SERVER_ACCESS_KEY", "(set)0123456789012345678901234567890"),
        ("ALLOWED_METHODS", "GET"),
        ("ALLOWED_ENDPOINTS", "/me/**"),
        ("DENIED_ENDPOINTS", "/me/secrets"),
        ("ALLOWED_REQUEST_HEADERS", "X-Tenant"),
        ("BACKEND_SESSION_COOKIES", "session"),
        ("DOWNLOAD_HOSTS", "*.example.com"),
        ("MAX_RESPONSE_BYTES", "65536"),
        ("MAX_REQUEST_BYTES", "8388608"),
        ("FILES_DIR", "files"),
        ("MAX_FILE_BYTES", "1000000000"),
        ("LOG_LEVEL", "debug"),
        ("AUDIT_LOG", "audit.jsonl"),
        ("AUDIT_LOG_REQUIRED", "false"),
    ];
    let program = Program::new();
    fs::create_dir(program.0.file("files")).unwrap();
    let outcome = program.check(&variables);
    for (name, value) in variables {
        let shown = if name == "SERVER_ACCESS_KEY" {
            "(set)"
        } else {
            value
        };
        assert_eq!(outcome.value(name), shown, "{name}: {outcome:?}");
    }
}

#[test]
fn the_forms_that_a_value_may_have_are_taken() {
    for (name, values) in [
        (
            "AZURE_CLIENT_ID",
            &["22961FBC-5A1E-4C5E-9D3B-0C6A3F7E8B11"][..],
        ),
        (
            "AZURE_TENANT_ID",
            &[
                "7D1C4E0A-9F35-4B6E-8A2D-1F0E5C3B7A94",
                "contoso.com",
                "common",
                "organizations",
            ],
        ),
        ("AZURE_TENANT_ID", &["consumers", " common "]),
        (
            "REDIRECT_URI",
            &[
                "http://localhost",
                "http://localhost/",
                "http://localhost:9000/signin-oidc",
                "http://127.0.0.1:8000/auth/callback",
                "https://mcp.example.com/auth/callback",
                "https://mcp.example.com:8443/x/y",
            ],
        ),
        ("SERVER_HOST", &["localhost", "127.0.0.1", "::1", "[::1]"]),
        ("SERVER_PORT", &["0", "1", "65535"]),
        (
            "BACKEND_API_BASE_URL",
            &[
                "https://api.example.com",
                "https://api.example.com:8443/v1/",
            ],
        ),
        (
            "BACKEND_API_BASE_URL",
            &[
                "http://localhost:5000",
                "http://127.0.0.1:5000/v1",
                "http://[::1]:5000",
            ],
        ),
        (
            "CUSTOM_API_SCOPE",
            &[
                "User.Read",
                "User.Read Mail.Read",
                "api://a/.default",
                "https://x//.default",
            ],
        ),
        (
            "AZURE_AUTHORITY_HOST",
            &[
                "https://login.microsoftonline.us",
                "http://localhost:9000",
                "http://[::1]:9000",
            ],
        ),
        ("AUTH_RESPONSE_MODE", &["form_post", "query"]),
        (
            "DOMAIN_HINT",
            &[
                "contoso.com",
                "Contoso.OnMicrosoft.com",
                "organizations",
                "consumers",
            ],
        ),
        ("SIGN_IN_METHOD", &["browser", "device_code"]),
        ("ALLOW_DEVICE_CODE", &["true", "false"]),
        ("SIGN_IN_WAIT_SECONDS", &["0", "600"]),
        (
            "ALLOWED_HOSTS",
            &[
                "a.example",
                "a.example:8443,b.example",
                "[::1]:80",
                "10.0.0.1",
            ],
        ),
        (
            "ALLOWED_ORIGINS",
            &[
                "http://localhost:6274",
                "https://a.example, https://b.example:8443",
            ],
        ),
        (
            "ALLOWED_METHODS",
            &["GET", "get", "GET,POST", "PUT PATCH, DELETE"],
        ),
        (
            "ALLOWED_ENDPOINTS",
            &[
                "/",
                "**",
                "/me",
                "me/",
                "/users/*/photo, /tasks/**",
                "/Users('*')/Ä@b:c",
            ],
        ),
        (
            "DENIED_ENDPOINTS",
            &["/$batch", "/admin*/**", "/**/secrets/**"],
        ),
        (
            "ALLOWED_REQUEST_HEADERS",
            &["X-Tenant", "x-tenant,X-Trace-*", "X_A t*"],
        ),
        (
            "BACKEND_SESSION_COOKIES",
            &["session", "__Host-session, .AspNetCore.Session ARRAffinity"],
        ),
        (
            "DOWNLOAD_HOSTS",
            &[
                "files.example.com",
                "Files.Example.COM, *.sharepoint.example",
                "localhost",
                "xn--mnchen-3ya.example",
            ],
        ),
        ("MAX_RESPONSE_BYTES", &["1", "268435456"]),
        ("MAX_REQUEST_BYTES", &["65536", "268435456"]),
        ("FILES_DIR", &["files", "/srv/files"]),
        ("MAX_FILE_BYTES", &["1", "1099511627776"]),
        ("LOG_LEVEL", &["error", "warn", "info", "debug"]),
        (
            "AUDIT_LOG",
            &["-", "audit.jsonl", "/var/log/entra-auth-mcp/audit.jsonl"],
        ),
        ("AUDIT_LOG_REQUIRED", &["true", "false"]),
    ] {
        for value in values {
            // 1: a file or a directory is not to be had.
            let outcome = check(&[(name, value)]);
            assert!(matches!(outcome.code, Some(0 | 1)), "{name}={value}");
            assert!(outcome.stdout.contains(&format!("{name}=")), "{outcome:?}");
        }
    }
}

#[test]
fn each_cloud_has_its_sign_in_host() {
    for (cloud, host) in [
        ("public", "https://login.microsoftonline.com"),
        ("usgov", "https://login.microsoftonline.us"),
        ("china", "https://login.partner.microsoftonline.cn"),
        ("france", "https://login.sovcloud-identity.fr"),
        ("germany", "https://login.sovcloud-identity.de"),
        ("singapore", "https://login.sovcloud-identity.sg"),
    ] {
        assert_eq!(
            check(&[("AZURE_CLOUD", cloud)]).value("AZURE_AUTHORITY_HOST"),
            host
        );
        assert_eq!(
            check(&[("AZURE_AUTHORITY_HOST", host)]).value("AZURE_CLOUD"),
            cloud
        );
    }
    assert_eq!(
        check(&[("AZURE_AUTHORITY_HOST", "https://login.example.com")]).value("AZURE_CLOUD"),
        ""
    );
}

#[test]
fn the_default_redirect_uri_has_the_port_or_says_that_a_free_one_is_taken() {
    for (port, shown) in [("9000", "9000"), ("0", "{the free port}")] {
        let redirect_uri = format!("http://localhost:{shown}/auth/callback");
        assert_eq!(
            check(&[("SERVER_PORT", port)]).value("REDIRECT_URI"),
            redirect_uri
        );
    }
}

#[test]
fn the_settings_of_a_sign_in_are_read() {
    let config = |variables: &[(&str, &str)]| {
        let all = REQUIRED
            .iter()
            .chain(variables)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_variables(&all.collect()).unwrap()
    };
    let plain = config(&[]);
    assert_eq!(
        (plain.domain_hint, plain.sign_in_wait),
        (None, Duration::from_secs(120))
    );
    assert_eq!(
        (plain.sign_in_method, plain.allow_device_code),
        (SignInMethod::Browser, false)
    );
    let set = config(&[
        ("DOMAIN_HINT", "Contoso.com"),
        ("SIGN_IN_WAIT_SECONDS", "0"),
        ("ALLOW_DEVICE_CODE", "true"),
    ]);
    assert_eq!(
        (set.domain_hint.as_deref(), set.sign_in_wait),
        (Some("contoso.com"), Duration::ZERO)
    );
    assert_eq!(
        (set.sign_in_method, set.allow_device_code),
        (SignInMethod::Browser, true)
    );
    // The method implies the permission, and so it is shown.
    let implied = [
        ("SIGN_IN_METHOD", "device_code"),
        ("ALLOW_DEVICE_CODE", "false"),
    ];
    assert!(
        config(&implied).allow_device_code
            && config(&implied).sign_in_method == SignInMethod::DeviceCode
    );
    assert_eq!(check(&implied).value("ALLOW_DEVICE_CODE"), "true");
}

/// `openid profile offline_access` are ours to add; what was asked for stays in its order, once.
#[test]
fn scopes_are_completed_and_never_doubled() {
    let entra = Entra::start();
    for (custom, requested) in [
        ("", "openid profile offline_access"),
        ("User.Read", "openid profile offline_access User.Read"),
        (
            "  Mail.Read\tUser.Read  Mail.Read ",
            "openid profile offline_access Mail.Read User.Read",
        ),
        (
            "offline_access openid api://a/read",
            "openid profile offline_access api://a/read",
        ),
        (
            "api://a/.default openid",
            "openid profile offline_access api://a/.default",
        ),
        (
            "email User.Read",
            "openid profile offline_access email User.Read",
        ),
    ] {
        let server = Setup::new(&entra, None)
            .with("CUSTOM_API_SCOPE", custom)
            .start();
        assert_eq!(
            server.modern().ok("get_server_info", json!({}))["scopes"],
            requested
        );
    }
}

#[test]
fn allowed_hosts_count_with_their_port_or_with_any() {
    let entra = Entra::start();
    let server = Setup::new(&entra, None)
        .with(
            "ALLOWED_HOSTS",
            "A.example, b.example:9000 [2001:db8::1]:9000",
        )
        .start();
    for (host, status) in [
        ("a.example", 200),
        ("a.EXAMPLE:1234", 200),
        ("b.example:9000", 200),
        ("b.example:9001", 403),
        ("b.example", 403),
        ("[2001:db8::1]:9000", 200),
        ("x.a.example", 403),
        ("a.example.evil.example", 403),
    ] {
        let reply = server
            .client()
            .request("GET", "/healthz", &[("Host", host)], b"");
        assert_eq!(reply.status, status, "{host}");
    }
}

#[test]
fn allowed_origins_are_compared_as_browsers_write_them() {
    let entra = Entra::start();
    let origins = "https://App.Example.com:443/,http://localhost:6274";
    let server = Setup::new(&entra, None)
        .with("ALLOWED_ORIGINS", origins)
        .start();
    for (origin, status) in [
        ("https://app.example.com", 200),
        ("http://localhost:6274", 200),
        ("http://app.example.com", 403),
        ("https://app.example.com:444", 403),
        ("http://localhost:6275", 403),
        ("null", 403),
    ] {
        let reply = server
            .client()
            .request("GET", "/healthz", &[("Origin", origin)], b"");
        assert_eq!(reply.status, status, "{origin}");
    }
}

// ---- Doubts ----

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let backend = ("BACKEND_API_BASE_URL", "https://api.example.com");
    let scope = ("CUSTOM_API_SCOPE", "api://a/read");
    let key = ("SERVER_ACCESS_KEY", "0123456789abcdef0123456789abcdef");
    for (variables, warning) in [
        (vec![], "BACKEND_API_BASE_URL is not set"),
        (vec![backend], "CUSTOM_API_SCOPE is not set"),
        (
            vec![backend, ("CUSTOM_API_SCOPE", "openid email")],
            "CUSTOM_API_SCOPE",
        ),
        (
            vec![backend, scope, key, ("SERVER_HOST", "0.0.0.0")],
            "SERVER_HOST",
        ),
        (
            vec![backend, scope, key, ("SERVER_HOST", "::")],
            "SERVER_HOST",
        ),
        (
            vec![
                backend,
                scope,
                ("REDIRECT_URI", "http://localhost:9000/auth/callback"),
            ],
            "REDIRECT_URI",
        ),
        (
            vec![backend, scope, ("SERVER_HOST", "127.0.0.2")],
            "listens on 127.0.0.2 alone",
        ),
        (
            vec![backend, scope, key, ("SERVER_HOST", "192.0.2.1")],
            "listens on 192.0.2.1 alone",
        ),
        (
            vec![
                backend,
                scope,
                ("AZURE_AUTHORITY_HOST", "https://login.chinacloudapi.cn"),
            ],
            "AZURE_CLOUD=china",
        ),
        (
            vec![
                backend,
                scope,
                ("AZURE_AUTHORITY_HOST", "https://login.windows.net"),
            ],
            "AZURE_CLOUD=public",
        ),
        (
            vec![
                backend,
                scope,
                ("AZURE_TENANT_ID", "consumers"),
                ("DOMAIN_HINT", "contoso.com"),
            ],
            "DOMAIN_HINT",
        ),
        (
            vec![
                backend,
                scope,
                ("AZURE_TENANT_ID", "organizations"),
                ("DOMAIN_HINT", "consumers"),
            ],
            "DOMAIN_HINT",
        ),
    ] {
        let outcome = check(&variables);
        assert!(
            outcome.code == Some(0) && outcome.stderr.contains(warning),
            "{variables:?}: {outcome:?}"
        );
    }
    for tenant_and_hint in [
        &[][..],
        &[("SERVER_HOST", "::1")],
        &[("SERVER_HOST", "127.0.0.1")],
        // A guest of a tenant may well have a personal account.
        &[("DOMAIN_HINT", "consumers")],
        &[("AZURE_TENANT_ID", "consumers")],
        &[
            ("AZURE_TENANT_ID", "consumers"),
            ("DOMAIN_HINT", "consumers"),
        ],
        &[
            ("AZURE_TENANT_ID", "organizations"),
            ("DOMAIN_HINT", "contoso.com"),
        ],
    ] {
        let nothing = check(&[&[backend, scope], tenant_and_hint].concat());
        assert_eq!((nothing.code, nothing.stderr.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_misspelt_setting_earns_a_warning() {
    let backend = [
        ("BACKEND_API_BASE_URL", "https://api.example.com"),
        ("CUSTOM_API_SCOPE", "api://a/read"),
    ];
    for (name, setting) in [
        ("AZURE_CLIENTID", "AZURE_CLIENT_ID"),
        ("AZURE_CLIENT_IDS", "AZURE_CLIENT_ID"),
        ("AZURE_TENNANT_ID", "AZURE_TENANT_ID"),
        ("azure_tenant_id", "AZURE_TENANT_ID"),
        ("REDIRECT_URL", "REDIRECT_URI"),
        ("SERVERPORT", "SERVER_PORT"),
        ("BACKEND_API_BASEURL", "BACKEND_API_BASE_URL"),
        ("BACKEND_BASE_URL", "BACKEND_API_BASE_URL"),
        ("CUSTOM_API_SCOPES", "CUSTOM_API_SCOPE"),
        ("TOKEN_CACHEFILE", "TOKEN_CACHE_FILE"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("ALLOWED_ORIGIN", "ALLOWED_ORIGINS"),
        ("LOGLEVEL", "LOG_LEVEL"),
    ] {
        let in_environment = check(&[&backend[..], &[(name, "s3cret")]].concat());
        let in_file = Program::with_file(".env", format!("{name}=s3cret\n")).check(&backend);
        for outcome in [in_environment, in_file] {
            assert_eq!(outcome.code, Some(0));
            let warnings: Vec<&str> = outcome.stderr.lines().collect();
            assert_eq!(warnings.len(), 1, "{outcome:?}");
            assert!(
                warnings[0].contains(name) && warnings[0].contains(setting),
                "{outcome:?}"
            );
            assert!(!warnings[0].contains("s3cret"), "{outcome:?}");
        }
    }
}

#[test]
fn names_that_are_nobodys_misspelling_earn_none() {
    let mut variables = vec![
        ("BACKEND_API_BASE_URL", "https://api.example.com"),
        ("CUSTOM_API_SCOPE", "api://a/read"),
    ];
    for name in [
        "PATH",
        "HOME",
        "PORT",
        "HOST",
        "AZURE_CONFIG_DIR",
        "AZURE_SUBSCRIPTION_ID",
        "SSL_CERT_FILE",
        "HTTPS_PROXY",
    ] {
        variables.push((name, "/x"));
    }
    let outcome = check(&variables);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
}

// ---- The file ----

#[test]
fn what_has_no_effect_in_the_file_earns_a_warning() {
    let backend = [
        ("BACKEND_API_BASE_URL", "https://api.example.com"),
        ("CUSTOM_API_SCOPE", "api://a/read"),
    ];
    for (name, mend) in [
        ("METHODS", "entra-auth-mcp help settings"),
        ("ACCESS_KEY", "entra-auth-mcp help settings"),
        ("HTTPS_PROXY", "Set it in the environment"),
        ("no_proxy", "Set it in the environment"),
        ("SSL_CERT_FILE", "Set it in the environment"),
    ] {
        let text = format!("LOG_LEVEL=warn\n{name}=s3cret\n");
        let program = Program::with_file(".env", text);
        let outcome = program.check(&backend);
        assert_eq!(outcome.code, Some(0));
        let warnings: Vec<&str> = outcome.stderr.lines().collect();
        assert_eq!(warnings.len(), 1, "{outcome:?}");
        let place = format!("{name} (.env, line 2)");
        assert!(
            warnings[0].contains(&place) && warnings[0].contains(mend),
            "{outcome:?}"
        );
        assert!(!warnings[0].contains("s3cret"), "{outcome:?}");
        // In the environment, it may be meant for others.
        let outcome = program.check(&[&backend[..], &[(name, "s3cret")]].concat());
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn every_way_of_writing_a_value_in_the_file_is_read() {
    for (file, value) in [
        ("TOKEN_CACHE_FILE=plain.json", "plain.json"),
        ("TOKEN_CACHE_FILE=plain.json\n", "plain.json"),
        ("  TOKEN_CACHE_FILE = spaced.json  \n", "spaced.json"),
        ("export TOKEN_CACHE_FILE=exported.json", "exported.json"),
        ("export\tTOKEN_CACHE_FILE=exported.json", "exported.json"),
        (
            "TOKEN_CACHE_FILE=\"double quoted.json\"",
            "double quoted.json",
        ),
        (
            "TOKEN_CACHE_FILE=\"a \\\"b\\\" \\\\ \\$c # d\"",
            "a \"b\" \\ $c # d",
        ),
        ("TOKEN_CACHE_FILE=\"C:\\dir\\x.json\"", "C:\\dir\\x.json"),
        (
            "TOKEN_CACHE_FILE='single \\n $x # quoted'",
            "single \\n $x # quoted",
        ),
        ("TOKEN_CACHE_FILE='quoted.json' # comment", "quoted.json"),
        ("TOKEN_CACHE_FILE=bare.json # comment", "bare.json"),
        ("TOKEN_CACHE_FILE=a#b=c.json", "a#b=c.json"),
        ("TOKEN_CACHE_FILE=größe.json", "größe.json"),
        (
            "# TOKEN_CACHE_FILE=x\n\n\t# comment\nTOKEN_CACHE_FILE=y.json\n#",
            "y.json",
        ),
        (
            "TOKEN_CACHE_FILE=first.json\nTOKEN_CACHE_FILE=last.json",
            "last.json",
        ),
        (
            "LOG_LEVEL=warn\r\nTOKEN_CACHE_FILE=crlf.json\r\nSERVER_PORT=1\r\n",
            "crlf.json",
        ),
        ("\u{feff}TOKEN_CACHE_FILE=bom.json", "bom.json"),
        (
            "\u{feff}# comment\r\nTOKEN_CACHE_FILE=\"bom and crlf.json\"\r\n",
            "bom and crlf.json",
        ),
        ("TOKEN_CACHE_FILE=", "token_cache.json"),
        ("TOKEN_CACHE_FILE=\"\"", "token_cache.json"),
        ("TOKEN_CACHE_FILE= # nothing", "token_cache.json"),
        ("", "token_cache.json"),
    ] {
        assert_eq!(
            Program::with_file(".env", file)
                .check(&[])
                .value("TOKEN_CACHE_FILE"),
            value,
            "{file:?}"
        );
    }
}

#[test]
fn a_bad_line_of_the_file_is_named_by_its_number_and_not_quoted() {
    let file = "# comment\nLOG_LEVEL=info\nhunter2\n1SECRET=hunter2\nMY SECRET=hunter2\n=hunter2\n\
                A='hunter2\nB=\"hunter2\nC=\"hunter2\\\"\nD='a' hunter2\nE=\"a\"hunter2\nSERVER_PORT=1\n";
    let outcome = Program::with_file(".env", file).check(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
    let named = outcome
        .stderr
        .lines()
        .filter_map(|line| line.trim().strip_prefix("line ")?.split_once(':'));
    assert_eq!(
        named.map(|(number, _)| number).collect::<Vec<_>>(),
        ["3", "4", "5", "6", "7", "8", "9", "10", "11"]
    );
    assert!(
        outcome.stderr.contains(".env") && !outcome.stderr.contains("hunter2"),
        "{outcome:?}"
    );
}

#[test]
fn another_file_can_be_named() {
    let program = Program::with_file(".env", "TOKEN_CACHE_FILE=default.json");
    let other = program.0.write("other.env", "TOKEN_CACHE_FILE=other.json");
    let absolute = format!("--env-file={}", other.display());
    for arguments in [
        &["--check-config", "--env-file", "other.env"][..],
        &["--env-file", "other.env", "--check-config"],
        &["--check-config", "--env-file=other.env"],
        &["--check-config", &absolute],
    ] {
        assert_eq!(
            program.run(arguments, &REQUIRED).value("TOKEN_CACHE_FILE"),
            "other.json"
        );
    }
    assert_eq!(program.check(&[]).value("TOKEN_CACHE_FILE"), "default.json");
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let program = Program::new();
    fs::create_dir(program.0.file("directory")).unwrap();
    fs::write(program.0.file("latin1"), b"TOKEN_CACHE_FILE=gr\xfc\xdfe").unwrap();
    fs::write(program.0.file("utf16"), b"\xff\xfeA\0=\0b\0").unwrap();
    for name in ["missing", "directory", "latin1", "utf16"] {
        let outcome = program.run(&["--check-config", "--env-file", name], &REQUIRED);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(2), ""),
            "{name}"
        );
        assert!(outcome.stderr.contains(name), "{outcome:?}");
    }
    fs::create_dir(program.0.file(".env")).unwrap();
    assert_eq!(
        program.check(&[]).code,
        Some(2),
        "a .env that is there but cannot be read"
    );
}

/// CASES C11: the settings say where people sign in and where their tokens go.
#[cfg(unix)]
#[test]
fn a_file_that_others_can_write_is_refused() {
    let program = Program::with_file(".env", "SERVER_PORT=0\n");
    let path = program.0.file(".env");
    for arguments in [
        &["--check-config"][..],
        &["--check-config", "--env-file", ".env"],
        &["serve"],
        &["login"],
        &["logout"],
        &["status"],
    ] {
        for mode in [0o620, 0o602, 0o666] {
            set_mode(&path, mode);
            let outcome = program.run(arguments, &REQUIRED);
            assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
            assert!(
                outcome.stderr.contains("/.env") && outcome.stderr.contains("chmod go-w"),
                "{outcome:?}"
            );
        }
    }
    for mode in [0o600, 0o400, 0o644] {
        set_mode(&path, mode);
        assert_eq!(program.check(&[]).value("SERVER_PORT"), "0", "{mode:o}");
    }
    let nothing = program.run(&["--check-config", "--env-file", "/dev/null"], &REQUIRED);
    assert_eq!(nothing.value("SERVER_PORT"), "8000");
}

/// CASES C11. Only root can make such a file.
#[cfg(unix)]
#[test]
fn a_file_of_another_user_is_refused() {
    const NOBODY: u32 = 65534;
    let program = Program::with_file("theirs", "SERVER_PORT=0\n");
    let theirs = program.0.file("theirs");
    if std::os::unix::fs::chown(&theirs, Some(NOBODY), None).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let own = program.0.write("own", "SERVER_PORT=0\n");
    let their_link = program.0.file("link");
    std::os::unix::fs::symlink(&own, &their_link).unwrap();
    let own_link = program.0.file("own-link");
    std::os::unix::fs::symlink(&own, &own_link).unwrap();
    std::os::unix::fs::lchown(&their_link, Some(NOBODY), None).unwrap();
    for (file, code) in [("theirs", 2), ("link", 2), ("own", 0), ("own-link", 0)] {
        let outcome = program.run(&["--check-config", "--env-file", file], &REQUIRED);
        assert_eq!(outcome.code, Some(code), "{file}: {outcome:?}");
        assert_eq!(outcome.stderr.contains("another user"), code == 2, "{file}");
    }
    fs::rename(theirs, program.0.file(".env")).unwrap();
    assert_eq!(program.check(&[]).code, Some(2));

    // A pipe that nobody writes into would be waited for.
    let pipe = program.0.file("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    std::os::unix::fs::chown(&pipe, Some(NOBODY), None).unwrap();
    let outcome = program.run(&["--check-config", "--env-file", "pipe"], &REQUIRED);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains("another user"), "{outcome:?}");
}

/// CASES C11
#[test]
fn the_file_that_was_read_is_logged() {
    let program = Program::with_file(".env", "SERVER_PORT=0\nTOKEN_CACHE_FILE=no/such/file\n");
    fs::copy(program.0.file(".env"), program.0.file("other.env")).unwrap();
    for (arguments, file) in [
        (&["serve"][..], ".env"),
        (&["serve", "--env-file", "other.env"], "other.env"),
    ] {
        let outcome = program.run(arguments, &REQUIRED);
        let path = program.0.0.canonicalize().unwrap().join(file);
        let line = format!(" info settings are read from {}", path.display());
        assert!(outcome.stderr.contains(&line), "{outcome:?}");
        let quiet = [&REQUIRED[..], &[("LOG_LEVEL", "warn")]].concat();
        let outcome = program.run(arguments, &quiet);
        assert!(!outcome.stderr.contains("are read from"), "{outcome:?}");
    }
    let without = Program::new().run(
        &["serve"],
        &[&REQUIRED[..], &[("TOKEN_CACHE_FILE", "no/such/file")]].concat(),
    );
    assert!(!without.stderr.contains("are read from"), "{without:?}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let program = Program::with_file(
        ".env",
        "TOKEN_CACHE_FILE=file.json\nSERVER_PORT=not a port\n",
    );
    let outcome = program.check(&[
        ("TOKEN_CACHE_FILE", "environment.json"),
        ("SERVER_PORT", "9000"),
    ]);
    assert_eq!(
        (
            outcome.value("TOKEN_CACHE_FILE"),
            outcome.value("SERVER_PORT")
        ),
        ("environment.json", "9000")
    );
    assert_eq!(
        outcome.value("REDIRECT_URI"),
        "http://localhost:9000/auth/callback"
    );
}

#[test]
fn an_empty_variable_does_not_hide_what_the_file_says() {
    let program = Program::with_file(".env", "TOKEN_CACHE_FILE=file.json\n");
    for empty in ["", " ", "\t"] {
        assert_eq!(
            program
                .check(&[("TOKEN_CACHE_FILE", empty)])
                .value("TOKEN_CACHE_FILE"),
            "file.json"
        );
    }
}

/// What cannot be read must not be passed over: the setting would silently be another.
#[cfg(unix)]
#[test]
fn a_setting_that_is_not_utf8_is_a_mistake() {
    use std::os::unix::ffi::OsStrExt as _;
    let program = Program::new();
    let mut command = program.command(&["--check-config"]);
    command.envs(REQUIRED).env(
        "TOKEN_CACHE_FILE",
        std::ffi::OsStr::from_bytes(b"gr\xfc\xdfe.json"),
    );
    let outcome = Outcome::from(command.output().unwrap());
    assert!(
        outcome.code == Some(2) && outcome.stderr.contains("TOKEN_CACHE_FILE"),
        "{outcome:?}"
    );
}

// ---- The command line ----

#[test]
fn help_lists_every_setting_with_default_and_meaning() {
    let outcome = Program::with_file(".env", "not read").run(&["help"], &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
    let text = words.join(" ");
    for setting in SETTINGS {
        let meant = format!("{} {}", setting.name, setting.meaning);
        let row = match setting.default {
            Some(default) => format!("{meant} (default {default})"),
            None => meant,
        };
        assert!(text.contains(&row), "{row}: {text}");
    }
}

#[test]
fn help_names_every_verb_and_every_verb_has_help() {
    let program = Program::with_file(".env", "not read");
    let overview = program.run(&["--help"], &[]);
    for arguments in [&["-h"][..], &["help"], &["--help", "--port", "1"]] {
        assert_eq!(program.run(arguments, &[]).stdout, overview.stdout);
    }
    assert!(overview.stdout.contains("help settings"), "{overview:?}");
    for usage in VERBS {
        let name = usage.name();
        assert!(overview.stdout.contains(&format!("\n  {name}")), "{name}");
        let about = program.run(&["help", name], &[]);
        assert_eq!((about.code, about.stderr.as_str()), (Some(0), ""));
        let first = format!("Usage: entra-auth-mcp {name}");
        assert!(about.stdout.starts_with(&first), "{about:?}");
        for flag in usage.all_flags() {
            assert!(about.stdout.contains(flag.name), "{}", flag.name);
        }
        for arguments in [[name, "--help"], [name, "-h"], ["--help", name]] {
            // `help help` is about `help`, `help --help` is the overview.
            if usage.verb != Verb::Help {
                let asked = program.run(&arguments, &[]);
                assert_eq!(asked.stdout, about.stdout, "{arguments:?}");
            }
        }
    }
}

#[test]
fn help_prints_each_topic_of_the_manual() {
    let program = Program::new();
    let overview = program.run(&["help"], &[]).stdout;
    for topic in TOPICS {
        assert!(overview.contains(topic.title), "{}", topic.name);
        let outcome = program.run(&["help", topic.name], &[]);
        assert_eq!(outcome.code, Some(0), "{}", topic.name);
        // Where it is the name of a verb, too, that comes first.
        let is_verb = VERBS.iter().any(|usage| usage.name() == topic.name);
        let text = topic.text();
        let is_shown = if is_verb {
            outcome.stdout.ends_with(&text)
        } else {
            outcome.stdout == text
        };
        assert!(is_shown, "{}", topic.name);
    }
}

#[test]
fn no_line_of_help_has_more_than_a_hundred_columns() {
    let program = Program::new();
    let mut pages = vec![program.run(&["help"], &[]).stdout];
    for usage in VERBS {
        pages.push(program.run(&["help", usage.name()], &[]).stdout);
    }
    for line in pages.iter().flat_map(|page| page.lines()) {
        assert!(line.chars().count() <= 100, "{line}");
        assert_eq!(line.trim_end(), line);
    }
}

#[test]
fn a_misspelt_word_or_flag_gets_the_nearest_one_named() {
    let program = Program::new();
    for (arguments, said) in [
        (&["logn"][..], "no verb \"logn\". Did you mean login?"),
        (&["hlep"], "Did you mean help?"),
        (&["statsu"], "Did you mean status?"),
        (&["check-config"], "Did you mean --check-config?"),
        (&["--check-confg"], "Did you mean --check-config?"),
        (&["--prot", "1"], "Did you mean --port?"),
        (&["status", "--jsn"], "Did you mean --json?"),
        (&["login", "--devicecode"], "Did you mean --device-code?"),
        (&["doctor", "--env-fil", "x"], "Did you mean --env-file?"),
        (&["init", "--tenent", "x"], "Did you mean --tenant?"),
        (&["help", "setting"], "Did you mean settings?"),
        (&["help", "docter"], "Did you mean doctor?"),
    ] {
        let outcome = program.run(arguments, &REQUIRED);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
        assert!(outcome.stderr.contains(said), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
    for arguments in [&["quickly"][..], &["--frobnicate"], &["login", "--verbose"]] {
        let outcome = program.run(arguments, &REQUIRED);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(!outcome.stderr.contains("Did you mean"), "{outcome:?}");
    }
}

#[test]
fn host_and_port_of_the_command_line_win_over_environment_and_file() {
    let program = Program::with_file(".env", "SERVER_PORT=9000\nSERVER_HOST=127.0.0.1\n");
    let variables = [&REQUIRED[..], &[("SERVER_PORT", "9001")]].concat();
    let arguments = ["--check-config", "--port", "9002", "--host=::1"];
    let outcome = program.run(&arguments, &variables);
    assert_eq!(outcome.value("SERVER_PORT"), "9002");
    assert_eq!(outcome.origin("SERVER_PORT"), "--port");
    assert_eq!(outcome.value("SERVER_HOST"), "::1");
    assert_eq!(outcome.origin("SERVER_HOST"), "--host");
    let redirect_uri = "http://localhost:9002/auth/callback";
    assert_eq!(outcome.value("REDIRECT_URI"), redirect_uri);
    for (flag, value, setting) in [
        ("--port", "65536", "SERVER_PORT"),
        ("--port", "http", "SERVER_PORT"),
        ("--host", "http://localhost", "SERVER_HOST"),
        // As by SERVER_HOST, not without a key.
        ("--host", "0.0.0.0", "SERVER_HOST"),
    ] {
        let outcome = program.run(&["serve", flag, value], &variables);
        outcome.mistake(setting);
    }
}

#[test]
fn version_is_that_of_the_package() {
    for argument in ["version", "--version", "-V"] {
        let outcome = Program::new().run(&[argument], &[]);
        assert_eq!(outcome.code, Some(0));
        assert_eq!(
            outcome.stdout,
            concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n")
        );
    }
}

#[test]
fn what_the_command_line_cannot_mean_is_refused() {
    for arguments in [
        &["run"][..],
        &["--nope"],
        &["-x"],
        &[""],
        &["serve", "now"],
        &["serve", "serve"],
        &["serve", "--check-config"],
        &["--check-config=yes"],
        &["--env-file"],
        &["--check-config", "--env-file="],
        &["--port"],
        &["--port="],
        &["--host", " "],
        &["status", "--json=yes"],
        &["version", "--port", "1"],
        &["help", "login", "logout"],
    ] {
        let outcome = Program::new().run(arguments, &REQUIRED);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
    let outcome = Program::new().run(&["--nope"], &REQUIRED);
    assert!(
        outcome.stderr.contains("--nope") && outcome.stderr.contains("--help"),
        "{outcome:?}"
    );
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let program = Program::new();
    let mut command = program.command(&["--check-config", "--env-file"]);
    command
        .arg(std::ffi::OsStr::from_bytes(b"gr\xfc\xdfe.env"))
        .envs(REQUIRED);
    let outcome = Outcome::from(command.output().unwrap());
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
}

// ---- Starting ----

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn port_zero_takes_a_free_port_and_the_ready_line_says_which() {
    for arguments in [&[][..], &["serve"]] {
        let program = Program::with_file(".env", "SERVER_PORT=0\n");
        let mut command = program.command(arguments);
        let mut server = Killed(
            command
                .envs(REQUIRED)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let mut lines = BufReader::new(server.0.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let ready = lines.next().unwrap();
        let port: u16 = ready.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(
            port != 0 && ready.contains("ready") && ready.contains(env!("CARGO_PKG_VERSION")),
            "{ready}"
        );
        let origin = format!("http://localhost:{port}");
        assert!(lines.next().unwrap().ends_with(&format!("{origin}/mcp")));
        // Both loopback families answer, and the redirect URI has the port.
        for host in ["127.0.0.1", "[::1]"] {
            let reply = http::get(&format!("http://{host}:{port}/healthz"));
            assert_eq!(reply.status, 200, "{host}");
        }
        let login = Client::new(&origin).request("GET", "/auth/login?user_id=ada", &TYPED, b"");
        let redirect_uri =
            format!("redirect_uri=http%3A%2F%2Flocalhost%3A{port}%2Fauth%2Fcallback");
        assert!(
            login.header("Location").unwrap().contains(&redirect_uri),
            "{login:?}"
        );
    }
}

#[test]
fn a_port_in_use_ends_the_start_and_says_what_to_do() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let outcome = Program::new().run(
        &["serve"],
        &[&REQUIRED[..], &[("SERVER_PORT", &port)]].concat(),
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome.stderr.contains(&port) && outcome.stderr.contains("SERVER_PORT"),
        "{outcome:?}"
    );
}

#[test]
fn a_token_file_that_cannot_be_had_ends_the_start_and_says_what_to_do() {
    let variables = [
        ("SERVER_PORT", "0"),
        ("TOKEN_CACHE_FILE", "no/such/directory/tokens.json"),
    ];
    let outcome = Program::new().run(&["serve"], &[&REQUIRED[..], &variables].concat());
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(
        outcome.stderr.contains("no/such/directory") && outcome.stderr.contains("TOKEN_CACHE_FILE"),
        "{outcome:?}"
    );
}

// ---- The documents ----

fn document(name: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The settings and their defaults, as users see them.
fn settings() -> Vec<(&'static str, &'static str)> {
    SETTINGS
        .iter()
        .map(|setting| (setting.name, setting.default.unwrap_or_default()))
        .collect()
}

fn is_setting_name(text: &str) -> bool {
    text.len() > 1
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[test]
fn the_manual_lists_the_settings_and_their_defaults() {
    let manual = Program::new().run(&["help", "settings"], &[]).stdout;
    for (name, default) in settings() {
        let heading = match default {
            "" => format!("\n{name}\n"),
            default => format!("\n{name} (default: {default})\n"),
        };
        assert!(manual.contains(&heading), "{name}");
    }
}

/// What the README says of settings is about settings that there are.
#[test]
fn the_readme_names_no_setting_that_there_is_not() {
    let readme = document("README.md");
    let mut count = 0;
    for code in readme.split('`').skip(1).step_by(2) {
        let is_table = code.contains('_') && is_setting_name(code);
        if is_table && code != "COMPANY_API_KEY" {
            let is_known = settings().iter().any(|(name, _)| *name == code);
            assert!(is_known, "{code}");
            count += 1;
        }
    }
    assert!(count > 8, "{count}");
}

/// `NAME=value` lines, with or without a `#` before them.
fn example_lines(text: &str) -> Vec<(String, String)> {
    let assignment = |line: &str| {
        let (name, value) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
        is_setting_name(name).then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(assignment).collect()
}

#[test]
fn the_example_file_names_exactly_the_settings_and_their_defaults() {
    let mut listed = example_lines(&document(".env.example"));
    let mut expected = settings();
    listed.sort();
    expected.sort_unstable();
    assert_eq!(
        listed.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        expected.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for ((name, value), (_, default)) in listed
        .iter()
        .zip(&expected)
        .filter(|(_, (_, default))| !default.is_empty())
    {
        assert_eq!(*value, default.replace("{SERVER_PORT}", "8000"), "{name}");
    }
}

/// What is to be replaced, with what is written in its place.
fn replaced(text: &str) -> String {
    text.replace("00000000-0000-0000-0000-000000000000", CLIENT_ID)
        .replace("https://api.example.com/v1", "https://api.example.com/v2")
}

#[test]
fn the_example_file_can_be_used_with_its_placeholders_replaced_and_with_everything_in_it() {
    let text = replaced(&document(".env.example"));
    let all: Vec<String> = example_lines(&text)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    for (file, codes) in [(text, [0, 0]), (all.join("\n"), [0, 1])] {
        let outcome = Program::with_file(".env", file).run(&["--check-config"], &[]);
        // Not every machine has the directory for files.
        assert!(codes.contains(&outcome.code.unwrap()), "{outcome:?}");
        assert!(!outcome.stdout.is_empty());
    }
}

#[test]
fn an_untouched_placeholder_is_refused() {
    let text = document(".env.example");
    let all: Vec<String> = example_lines(&text)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let outcome = Program::with_file(".env", all.join("\n")).run(&["--check-config"], &[]);
    for name in [
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
        "BACKEND_API_BASE_URL",
        "CUSTOM_API_SCOPE",
    ] {
        let mistake = outcome.mistake(name);
        assert!(mistake.contains("placeholder"), "{mistake}");
    }
    let program = Program::with_file(".env", text);
    for arguments in [&["--check-config"][..], &[], &["login"], &["status"]] {
        let untouched = program.run(arguments, &[]);
        untouched.mistake("AZURE_CLIENT_ID");
        untouched.mistake("AZURE_TENANT_ID");
    }
    let diagnosed = program.run(&["doctor"], &[]);
    assert!(
        diagnosed
            .stdout
            .contains("AZURE_CLIENT_ID is the placeholder"),
        "{diagnosed:?}"
    );
    assert!(
        !diagnosed.stdout.contains("microsoftonline"),
        "{diagnosed:?}"
    );
    assert!(
        !diagnosed.stdout.contains("All settings are valid"),
        "{diagnosed:?}"
    );
}

#[test]
fn check_config_says_where_each_value_comes_from() {
    let program = Program::with_file(
        "my.env",
        "# a comment\nSERVER_PORT=9000\n\nLOG_LEVEL=warn\nLOG_LEVEL=error\n",
    );
    let variables = [
        &REQUIRED[..],
        &[("SIGN_IN_METHOD", "device_code"), ("AZURE_CLOUD", "china")],
    ]
    .concat();
    let outcome = program.run(&["--check-config", "--env-file", "my.env"], &variables);
    for (name, origin) in [
        ("AZURE_CLIENT_ID", "environment"),
        ("SERVER_PORT", "my.env, line 2"),
        ("LOG_LEVEL", "my.env, line 5"),
        ("SERVER_HOST", "default"),
        ("REDIRECT_URI", "default"),
        ("DOMAIN_HINT", "not set"),
        ("ALLOW_DEVICE_CODE", "by SIGN_IN_METHOD"),
        ("AZURE_AUTHORITY_HOST", "by AZURE_CLOUD"),
    ] {
        assert_eq!(outcome.origin(name), origin, "{name}: {outcome:?}");
    }
    // It is a settings file itself.
    let again = Program::with_file(".env", &outcome.stdout).run(&["--check-config"], &[]);
    assert_eq!(again.value("SERVER_PORT"), "9000");
    assert_eq!(again.value("SIGN_IN_METHOD"), "device_code");
}

#[test]
fn check_config_notices_what_would_keep_the_server_from_starting() {
    for (name, value, said) in [
        ("FILES_DIR", "missing", "missing"),
        ("AUDIT_LOG", "missing/audit.jsonl", "missing/audit.jsonl"),
        ("TOKEN_CACHE_FILE", "missing/tokens.json", "missing"),
    ] {
        let outcome = check(&[(name, value)]);
        assert_eq!(outcome.code, Some(1), "{name}: {outcome:?}");
        assert!(
            outcome
                .stdout
                .contains(&format!("{name}={value}  # environment\n"))
        );
        assert!(outcome.stderr.contains("cannot start"), "{outcome:?}");
        assert!(outcome.stderr.contains(said), "{outcome:?}");
    }
    // It starts all the same.
    let optional = check(&[
        ("AUDIT_LOG", "missing/audit.jsonl"),
        ("AUDIT_LOG_REQUIRED", "false"),
    ]);
    assert_eq!(optional.code, Some(0), "{optional:?}");
}

#[test]
fn without_settings_the_start_says_which_file_was_looked_for_and_names_init() {
    let program = Program::new();
    let path = program.0.0.canonicalize().unwrap().join(".env");
    let path = path.display();
    for arguments in [&[][..], &["serve"], &["--check-config"], &["status"]] {
        let outcome = program.run(arguments, &[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""));
        let said = format!("There is no settings file {path}. entra-auth-mcp init writes one.");
        assert!(outcome.stderr.contains(&said), "{outcome:?}");
    }
    // With settings, a line of the log says so.
    let variables = [&REQUIRED[..], &[("TOKEN_CACHE_FILE", "no/such/file")]].concat();
    let outcome = program.run(&["serve"], &variables);
    let said = format!(" info there is no settings file {path}");
    assert!(outcome.stderr.contains(&said), "{outcome:?}");
    let there = Program::with_file(".env", "").run(&["serve"], &[]);
    assert!(!there.stderr.contains("init"), "{there:?}");
}
