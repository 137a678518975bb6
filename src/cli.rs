//! The command line: verbs, usage, exit codes.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use log::LevelFilter;

use crate::clock::Clock;
use crate::config::env_file;
use crate::config::{self, AuditTarget, Config, SETTINGS, Setting};
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::os::{self, Signals, Told};
use crate::secret::ACCESS_KEY;
use crate::serve::Server;
use crate::{doctor, logging, verbs};

/// Something went wrong while running.
const FAILED: u8 = 1;
/// The command line or the settings cannot be used.
const MISUSED: u8 = 2;

/// What was asked for.
#[derive(Default)]
struct CommandLine {
    verb: Option<String>,
    /// Behind a verb that takes one.
    user_id: Option<String>,
    /// Whether the verb's own flag was given.
    has_flag: bool,
    env_file: Option<String>,
}

/// Runs the program with `arguments` (without the program's own name).
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    logging::set_level(LevelFilter::Info);
    match parse(arguments).and_then(|line| perform(&line)) {
        Ok(Ok((text, code))) => {
            print(&text);
            ExitCode::from(code)
        }
        Ok(Err(failure)) => {
            log::error!("{}", failure.text());
            ExitCode::from(FAILED)
        }
        Err(misuse) => {
            // There is nobody else to tell.
            let _ = writeln!(io::stderr(), "{}", misuse.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

/// What there is to print, and the exit code. `Err` holds the text for a command line or settings that cannot
/// be used.
fn perform(line: &CommandLine) -> Result<Result<(String, u8), Failure>, String> {
    let (env_file, user_id) = (line.env_file.as_deref(), line.user_id.as_deref());
    let done = |text: String| (text, 0);
    Ok(match line.verb.as_deref().unwrap_or("serve") {
        "serve" => {
            // The text of the access key goes with the variables.
            let (config, _) = load(env_file, LevelFilter::Debug)?;
            serve(config).map(done)
        }
        "login" => verbs::login(
            load_quietly(env_file)?,
            Clock::system(),
            user_id,
            line.has_flag,
            &show,
        )
        .map(done),
        "logout" => verbs::logout(load_quietly(env_file)?, user_id).map(done),
        "status" => verbs::status(load_quietly(env_file)?, line.has_flag)
            .map(|(text, is_signed_in)| (text, if is_signed_in { 0 } else { FAILED })),
        "doctor" => {
            let report = doctor::run(variables(env_file), &Clock::system());
            let text = if line.has_flag {
                report.json()
            } else {
                report.text()
            };
            Ok((text, report.exit_code()))
        }
        "--check-config" => {
            let (config, variables) = load(env_file, LevelFilter::Warn)?;
            Ok(done(config.effective(&variables)))
        }
        "--help" | "-h" => Ok(done(help())),
        "--version" | "-V" => Ok(done(
            concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
        )),
        other => {
            return Err(format!(
                "{other:?} is not known here; entra-auth-mcp --help shows what is"
            ));
        }
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<CommandLine, String> {
    let mut line = CommandLine::default();
    while let Some(argument) = arguments.next() {
        let (takes_user, flag) = operands(line.verb.as_deref());
        if matches!(argument.as_str(), "--help" | "-h") {
            line.verb = Some(argument);
            return Ok(line);
        } else if argument == "--env-file" {
            line.env_file = Some(arguments.next().ok_or("--env-file needs a path")?);
        } else if let Some(path) = argument.strip_prefix("--env-file=") {
            line.env_file = Some(path.to_owned());
        } else if line.verb.is_none() {
            line.verb = Some(argument);
        } else if flag == Some(argument.as_str()) {
            line.has_flag = true;
        } else if takes_user && line.user_id.is_none() && !argument.starts_with('-') {
            line.user_id = Some(argument);
        } else {
            return Err(format!(
                "{argument:?} is one too many; entra-auth-mcp --help shows the usage"
            ));
        }
    }
    Ok(line)
}

/// What may follow the verb: a user, and which flag.
fn operands(verb: Option<&str>) -> (bool, Option<&'static str>) {
    match verb {
        Some("login") => (true, Some("--device-code")),
        Some("logout") => (true, None),
        Some("status" | "doctor") => (false, Some("--json")),
        _ => (false, None),
    }
}

fn help() -> String {
    SETTINGS.iter().fold(
        include_str!("usage.txt").to_owned(),
        |text,
         Setting {
             name,
             default,
             meaning,
         }| {
            let default = default.map_or_else(String::new, |text| format!(" (default {text})"));
            text + &format!("  {name:<24}{meaning}{default}\n")
        },
    )
}

/// The variables of the environment and the file, which the environment wins over.
fn variables(env_file: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let mut variables = read_env_file(env_file)?;
    for (name, value) in env::vars_os() {
        // Nobody's setting has a name that is not UTF-8.
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) if !value.trim().is_empty() => drop(variables.insert(name, value)),
            Err(_) if SETTINGS.iter().any(|setting| setting.name == name) => {
                return Err(format!("{name} is not UTF-8 text"));
            }
            _ => {}
        }
    }
    Ok(variables)
}

/// The settings; what looks misspelt or unwise is warned of. From then on, no more is logged than
/// they say, and no more than `most`.
fn load(
    env_file: Option<&str>,
    most: LevelFilter,
) -> Result<(Config, BTreeMap<String, String>), String> {
    let variables = variables(env_file)?;
    for (name, setting) in config::misspelt(variables.keys().map(String::as_str)) {
        log::warn!("{name} is not a setting; {setting} is");
    }
    let config = Config::from_variables(&variables).map_err(|mistakes| {
        format!(
            "The settings cannot be used:\n  {}\nentra-auth-mcp --help lists every setting.",
            mistakes.join("\n  ")
        )
    })?;
    for doubt in config.doubts() {
        log::warn!("{doubt}");
    }
    logging::set_level(config.log_level.min(most));
    if let Some(path) = env_file_path(env_file) {
        log::info!("settings are read from {}", path.display());
    }
    Ok((config, variables))
}

/// The settings for a verb whose results a person reads: no more is logged than warnings.
fn load_quietly(env_file: Option<&str>) -> Result<Config, String> {
    let (config, _) = load(env_file, LevelFilter::Warn)?;
    Ok(config)
}

/// The file that settings are read from. `.env` need not exist; a file that was named must.
fn env_file_path(named: Option<&str>) -> Option<PathBuf> {
    let path = PathBuf::from(named.unwrap_or(".env"));
    let is_there = named.is_some() || path.try_exists().unwrap_or(true);
    is_there.then(|| std::path::absolute(&path).unwrap_or(path))
}

fn read_env_file(named: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let Some(path) = env_file_path(named) else {
        return Ok(BTreeMap::new());
    };
    let (text, is_exposed) = env_file::read(&path)
        .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
    let variables = env_file::parse(&text).map_err(|bad| {
        let lines: Vec<String> = bad
            .iter()
            .map(|line| format!("line {}: {}", line.number, line.reason))
            .collect();
        format!(
            "{} has lines that are not NAME=value:\n  {}",
            path.display(),
            lines.join("\n  ")
        )
    })?;
    let variables: BTreeMap<String, String> = variables.into_iter().collect();
    if is_exposed && variables.contains_key(ACCESS_KEY) {
        log::warn!(
            "{} holds {ACCESS_KEY} and can be read or written by others: chmod 600 it.",
            path.display()
        );
    }
    Ok(variables)
}

/// Until the program is told to stop.
fn serve(config: Config) -> Result<String, Failure> {
    // Before anybody can know that we are ready, so that being told to stop is never missed.
    let mut signals = Signals::register(matches!(config.audit_log, Some(AuditTarget::File(_))))
        .map_err(|error| {
            Failure::new(
                Kind::Internal,
                format!("The signals to stop cannot be waited for ({error})."),
            )
        })?;
    let server = Server::start(config, Clock::system(), Limits::default())?;
    let (version, port, origin) = (env!("CARGO_PKG_VERSION"), server.port(), server.origin());
    print(&format!(
        "entra-auth-mcp {version} is ready on port {port}\n  MCP endpoint  {origin}/mcp\n  start page    {origin}/\n"
    ));
    while signals.wait() == Told::Reopen {
        // What keeps it from being opened is logged, and tried again with the next call.
        let _ = server.reopen_audit_log();
    }
    log::info!("stopping: requests in flight are let finish");
    drop(server);
    Ok(String::new())
}

/// Begins a sign-in at the terminal. How it ends is told there, and so not logged as well.
fn show(text: &str, link: Option<&str>) {
    logging::set_level(LevelFilter::Error);
    print(text);
    link.map(os::open_in_browser);
}

/// Names come from outside, and none shall steer the terminal: escaped as in JSON, which this may be.
fn print(text: &str) {
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    let escaped = |c: char| {
        if steers(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.into()
        }
    };
    let text: String = text.chars().map(escaped).collect();
    let mut out = io::stdout().lock();
    // A closed pipe, as behind `head`, is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
