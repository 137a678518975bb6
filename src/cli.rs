//! The command line: verbs, usage, exit codes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use log::LevelFilter;

use crate::browser::{self, Link};
use crate::clock::Clock;
use crate::config::env_file;
use crate::config::{self, AuditTarget, Config, SETTINGS, Setting};
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::os::{Signals, Told};
use crate::secret::{ACCESS_KEY, Secret};
use crate::serve::Server;
use crate::tool_report::ToolReport;
use crate::{doctor, logging, text, verbs};

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

/// What there is to print, and the exit code.
struct Done {
    text: String,
    code: u8,
}

impl Done {
    fn well(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// Why nothing came of it.
enum Trouble {
    /// The command line or the settings cannot be used, and why.
    Misuse(String),
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<String> for Trouble {
    fn from(misuse: String) -> Self {
        Self::Misuse(misuse)
    }
}

/// Runs the program with `arguments` (without the program's own name).
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    logging::set_level(LevelFilter::Info);
    match perform(arguments) {
        Ok(done) => {
            print(&done.text);
            ExitCode::from(done.code)
        }
        Err(Trouble::Failed(failure)) => {
            log::error!("{}", failure.text());
            ExitCode::from(FAILED)
        }
        Err(Trouble::Misuse(misuse)) => {
            // There is nobody else to tell.
            let _ = writeln!(io::stderr(), "{}", misuse.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

fn perform(arguments: impl Iterator<Item = String>) -> Result<Done, Trouble> {
    let line = parse(arguments)?;
    let env_file = line.env_file.as_deref();
    match line.verb.as_deref().unwrap_or("serve") {
        "serve" => {
            // The text of the access key goes with the variables.
            let (config, _) = load(env_file, LevelFilter::Debug)?;
            serve(config)?;
            Ok(Done::well(String::new()))
        }
        "login" => Ok(Done::well(login(&line)?)),
        "logout" => {
            let (config, variables) = load_quietly(env_file)?;
            let access_key = access_key(&config, variables)?;
            let user_id = line.user_id.as_deref();
            let text = verbs::logout(config, user_id, access_key.as_ref())?;
            Ok(Done::well(text))
        }
        "status" => {
            let (config, _) = load_quietly(env_file)?;
            let (text, is_anybody) = verbs::status(&config, line.has_flag)?;
            let code = if is_anybody { 0 } else { FAILED };
            Ok(Done { text, code })
        }
        "doctor" => {
            let report = doctor::run(variables(env_file), &Clock::system());
            let text = if line.has_flag {
                report.json()
            } else {
                report.text()
            };
            let code = report.exit_code();
            Ok(Done { text, code })
        }
        "tools" => {
            let (config, _) = load_quietly(env_file)?;
            let report = ToolReport::of(&config);
            let text = if line.has_flag {
                report.json()
            } else {
                report.text()
            };
            Ok(Done::well(text))
        }
        "--check-config" => {
            let (config, variables) = load(env_file, LevelFilter::Warn)?;
            Ok(Done::well(config.effective(&variables)))
        }
        "--help" | "-h" => Ok(Done::well(help())),
        "--version" | "-V" => {
            let version = concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n");
            Ok(Done::well(version.to_owned()))
        }
        other => Err(Trouble::Misuse(format!(
            "{other:?} is not known here; entra-auth-mcp --help shows what is"
        ))),
    }
}

/// Signs a person in who sits at this terminal.
fn login(line: &CommandLine) -> Result<String, Trouble> {
    let (config, variables) = load_quietly(line.env_file.as_deref())?;
    let access_key = access_key(&config, variables)?;
    let login = verbs::Login {
        user_id: line.user_id.as_deref(),
        with_code: line.has_flag,
        access_key: access_key.as_ref(),
    };
    // The page that leads to the link stays until the end.
    let redirect = RefCell::new(None);
    let show = |text: &str, link: Option<&Link>| {
        // How the sign-in ends is told here, and so not logged as well.
        logging::set_level(LevelFilter::Error);
        print(text);
        redirect.replace(link.and_then(browser::open));
    };
    Ok(verbs::login(config, Clock::system(), login, &show)?)
}

/// What the arguments ask for. `Err` says why they cannot be used.
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
        Some("status" | "doctor" | "tools") => (false, Some("--json")),
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
             ..
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
fn load_quietly(env_file: Option<&str>) -> Result<(Config, BTreeMap<String, String>), String> {
    load(env_file, LevelFilter::Warn)
}

/// The text of the access key, for a verb that shows it to a server.
fn access_key(
    config: &Config,
    mut variables: BTreeMap<String, String>,
) -> Result<Option<Secret>, String> {
    let Some(key) = &config.access_key else {
        return Ok(None);
    };
    let text = match &key.file {
        None => variables.remove(ACCESS_KEY).unwrap_or_default(),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| format!("SERVER_ACCESS_KEY_FILE cannot be read ({error})"))?,
    };
    let text = Secret::new(text);
    let text = Secret::new(text.expose().trim().to_owned());
    if !key.matches(text.expose()) {
        return Err(
            "SERVER_ACCESS_KEY_FILE cannot be read twice, or has just changed: name a regular file"
                .to_owned(),
        );
    }
    Ok(Some(text))
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
fn serve(config: Config) -> Result<(), Failure> {
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
    Ok(())
}

/// Names come from outside, and none shall steer the terminal: escaped as in JSON, which this may
/// be.
fn print(text: &str) {
    let steers = |c: char| !text::is_plain(c) && !matches!(c, '\n' | '\t');
    let escaped = |c: char| {
        if steers(c) {
            text::json_escaped(&c.to_string())
        } else {
            c.into()
        }
    };
    let text: String = text.chars().map(escaped).collect();
    let mut out = io::stdout().lock();
    // A closed pipe, as behind `head`, is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
