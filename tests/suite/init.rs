//! `init`: what it writes, what it asks for, what it refuses, and what it shows.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::backend::Backend;
use crate::support::entra::{self, Entra};
use crate::support::server::TempDir;
use entra_auth_mcp::command_line::CommandLine;
use entra_auth_mcp::config::env_file;
use entra_auth_mcp::init::{Init, Terminal};

const CLIENT_ID: &str = "22961fbc-5a1e-4c5e-9d3b-0c6a3f7e8b11";
const GIVEN: [&str; 9] = [
    "init",
    "--tenant",
    "contoso.com",
    "--client-id",
    CLIENT_ID,
    "--api",
    "https://api.contoso.com/v1",
    "--scope",
    "api://backend/read api://backend/write",
];

/// The built program in `directory`, with nothing in its environment; nobody sits at a terminal.
fn program(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::null());
    command
}

fn outcome(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), stdout, stderr)
}

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(&program(directory, arguments).output().unwrap())
}

fn is_empty(directory: &TempDir) -> bool {
    fs::read_dir(&directory.0).unwrap().next().is_none()
}

/// The settings that the file at `path` makes, by name.
fn settings_in(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let variables = env_file::parse(&text).unwrap();
    let mut settings: Vec<(String, String)> = variables
        .into_iter()
        .map(|variable| (variable.name, variable.value))
        .collect();
    settings.sort();
    settings
}

/// What `init` with `arguments` shows to a person who types `answers`, and how it ends.
fn ask(directory: &TempDir, arguments: &[&str], answers: &str) -> (String, Result<(), String>) {
    let path = directory.file(".env");
    let named = format!("--env-file={}", path.display());
    let arguments = [&["init", &named][..], arguments].concat();
    let line = CommandLine::parse(arguments.into_iter().map(str::to_owned)).unwrap();
    let shown = RefCell::new(String::new());
    let show = |text: &str| shown.borrow_mut().push_str(text);
    let mut input = answers.as_bytes();
    let terminal = Terminal {
        input: &mut input,
        show: &show,
    };
    let written = Init::new(&line).and_then(|init| init.write(Some(terminal)));
    let ended = written.map(drop).map_err(|failure| failure.text());
    (shown.into_inner(), ended)
}

#[test]
fn it_writes_a_settings_file_that_only_its_owner_reads_and_that_check_config_takes() {
    let directory = TempDir::new();
    let (_, stdout, stderr) = run(&directory.0, &GIVEN);
    assert_eq!(stderr, "");
    let path = directory.0.canonicalize().unwrap().join(".env");
    assert!(stdout.contains(&format!("{} is written.", path.display())));
    let token_file = path.with_file_name("token_cache.json");
    let expected = [
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_TENANT_ID", "contoso.com"),
        ("BACKEND_API_BASE_URL", "https://api.contoso.com/v1"),
        ("CUSTOM_API_SCOPE", "api://backend/read api://backend/write"),
        ("TOKEN_CACHE_FILE", token_file.to_str().unwrap()),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(settings_in(&path), expected);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let text = fs::read_to_string(&path).unwrap();
    let comments = text.lines().filter(|line| line.starts_with("# ")).count();
    assert!(comments > 5, "{text}");
    let (code, stdout, stderr) = run(&directory.0, &["--check-config"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
}

#[test]
fn it_shows_the_registration_the_diagnosis_and_the_clients() {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let directory = TempDir::new();
    let arguments = [
        "init",
        "--tenant",
        entra::TENANT_ID,
        "--client-id",
        entra::CLIENT_ID,
        "--api",
        &backend.url(),
        "--scope",
        "api://backend/access",
        "--port",
        "0",
    ];
    let mut command = program(&directory.0, &arguments);
    command.env("AZURE_AUTHORITY_HOST", entra.authority_host());
    let (code, stdout, stderr) = outcome(&command.output().unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let parts = [
        "is written",
        "Mobile and desktop applications: enter http://localhost/auth/callback",
        "az ad app update --id",
        "az ad app permission admin-consent",
        "0 warnings, 0 failures",
        "Start the server:\n  entra-auth-mcp\n",
        "claude mcp add --transport http company-api http://localhost:",
        "codex mcp add company-api --url",
    ];
    // What was checked holds without the variable of the environment.
    let written = settings_in(&directory.file(".env"));
    let host = ("AZURE_AUTHORITY_HOST".to_owned(), entra.authority_host());
    assert!(written.contains(&host), "{written:?}");
    // Claude Desktop starts the program.
    let path = directory.0.canonicalize().unwrap().join(".env");
    let arguments = serde_json::json!(["stdio", "--env-file", path]).to_string();
    let arguments = arguments.replace(',', ", ");
    assert!(stdout.contains(&arguments), "{arguments}: {stdout}");
    assert!(!stdout.contains("/path/to"), "{stdout}");
    let mut rest = stdout.as_str();
    for part in parts {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{part}, in this order: {stdout}"));
        rest = after;
    }
}

#[test]
fn a_file_that_is_there_is_left_as_it_is() {
    let directory = TempDir::new();
    let path = directory.write(".env", "SERVER_PORT=1\n");
    let (code, stdout, stderr) = run(&directory.0, &GIVEN);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("is there already"), "{stderr}");
    assert!(stderr.contains("--env-file"), "{stderr}");
    assert_eq!(fs::read_to_string(path).unwrap(), "SERVER_PORT=1\n");
    // Nor is another one written in its place, or through a link that leads nowhere.
    #[cfg(unix)]
    {
        let link = directory.file("link");
        std::os::unix::fs::symlink(directory.file("elsewhere"), link).unwrap();
        let arguments = [&GIVEN[..], &["--env-file", "link"]].concat();
        let (code, _, stderr) = run(&directory.0, &arguments);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(!directory.file("elsewhere").exists());
    }
}

#[test]
fn a_value_that_cannot_be_used_changes_nothing() {
    for (flag, value, said) in [
        ("--tenant", "contoso", "AZURE_TENANT_ID is"),
        ("--client-id", "my-app", "AZURE_CLIENT_ID is"),
        ("--api", "http://api.contoso.com", "BACKEND_API_BASE_URL is"),
        ("--api", "https://ada:hunter2@api.contoso.com", "user name"),
        ("--api", "https://api.example.com/v1", "placeholder"),
        (
            "--client-id",
            "00000000-0000-0000-0000-000000000000",
            "placeholder",
        ),
        ("--scope", "a/read b/write", "CUSTOM_API_SCOPE is"),
        ("--scope", "a/read\nSERVER_HOST=0.0.0.0", "CUSTOM_API_SCOPE"),
        ("--port", "many", "SERVER_PORT is"),
        ("--host", "0.0.0.0", "SERVER_HOST is"),
        ("--env-file", "missing/.env", "There is no directory"),
    ] {
        let directory = TempDir::new();
        let arguments = [&GIVEN[..], &[flag, value]].concat();
        let (code, stdout, stderr) = run(&directory.0, &arguments);
        assert_eq!(stdout, "", "{flag} {value}");
        assert!(matches!(code, Some(1 | 2)), "{flag} {value}: {stderr}");
        assert!(stderr.contains(said), "{flag} {value}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
        assert!(is_empty(&directory), "{flag} {value}");
    }
}

#[test]
fn where_nobody_can_be_asked_the_missing_flags_are_named() {
    let directory = TempDir::new();
    let (code, stdout, stderr) = run(&directory.0, &["init"]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("--tenant and --client-id must be given"));
    let (code, _, stderr) = run(&directory.0, &["init", "--tenant", "contoso.com"]);
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("--client-id must be given"), "{stderr}");
    assert!(is_empty(&directory));
}

#[test]
fn at_a_terminal_it_asks_for_what_is_missing_until_it_can_be_used() {
    let directory = TempDir::new();
    let answers = format!("\nmy company\ncontoso.com\n{CLIENT_ID}\n\napi://backend/read\n");
    let (shown, ended) = ask(&directory, &[], &answers);
    assert_eq!(ended, Ok(()));
    // Who has not registered the app yet is told how.
    assert!(shown.contains("App registrations > New registration"));
    assert!(shown.contains("az ad app create"), "{shown}");
    assert!(shown.contains("--public-client-redirect-uris http://localhost/auth/callback"));
    assert_eq!(shown.matches("tenant) ID").count(), 3, "{shown}");
    assert!(
        shown.contains("AZURE_TENANT_ID is \"my company\""),
        "{shown}"
    );
    let settings = settings_in(&directory.file(".env"));
    let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "AZURE_CLIENT_ID",
        "AZURE_TENANT_ID",
        "CUSTOM_API_SCOPE",
        "TOKEN_CACHE_FILE",
    ];
    assert_eq!(names, expected);
    let text = fs::read_to_string(directory.file(".env")).unwrap();
    assert!(text.contains("\n#BACKEND_API_BASE_URL="), "{text}");
}

#[test]
fn what_is_given_is_not_asked_for() {
    let directory = TempDir::new();
    let (shown, ended) = ask(&directory, &GIVEN[1..], "");
    assert_eq!((shown.as_str(), ended), ("", Ok(())));
}

#[test]
fn who_ends_the_input_has_written_nothing() {
    let directory = TempDir::new();
    let (_, ended) = ask(&directory, &[], "contoso.com\n");
    assert!(ended.unwrap_err().contains("Nothing was written"));
    assert!(is_empty(&directory));
}

#[test]
fn any_directory_can_hold_the_files() {
    for name in ["with space", "a #b", "it's", "\"quoted\"", "back\\slash"] {
        let directory = TempDir::new();
        let inner = directory.file(name);
        fs::create_dir(&inner).unwrap();
        let (_, _, stderr) = run(&inner, &GIVEN);
        assert_eq!(stderr, "", "{name}");
        let token_file = inner.canonicalize().unwrap().join("token_cache.json");
        let settings = settings_in(&inner.join(".env"));
        let expected = token_file.to_str().unwrap();
        assert_eq!(settings[4].1, expected, "{name}");
    }
}
