//! The command line: verbs, usage, exit codes.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::clock::Clock;
use crate::config::{self, Config, SETTINGS, Setting};
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::os::StopSignals;
use crate::serve::Server;
use crate::{doctor, env_file, logging};

/// Something went wrong while running.
const FAILED: u8 = 1;
/// The command line or the settings cannot be used.
const MISUSED: u8 = 2;

/// Runs the program with `arguments` (without the program's own name).
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    logging::set_level(log::LevelFilter::Info);
    match parse(arguments).and_then(|(verb, env_file, json)| perform(&verb, env_file.as_deref(), json)) {
        Ok(code) => code,
        Err(misuse) => {
            // There is nobody else to tell.
            let _ = writeln!(io::stderr(), "{}", misuse.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

/// `Err` holds the text for a command line or settings that cannot be used.
fn perform(verb: &str, env_file: Option<&str>, json: bool) -> Result<ExitCode, String> {
    let text = match verb {
        "doctor" => return Ok(doctor(env_file, json)),
        _ if json => return Err("--json goes with doctor; entra-auth-mcp --help shows the usage".to_owned()),
        "serve" => return Ok(serve(load(env_file)?.0).unwrap_or_else(|failure| failed(&failure))),
        "--check-config" => {
            let (config, variables) = load(env_file)?;
            config.effective(&variables)
        }
        "--help" | "-h" => help(),
        "--version" | "-V" => concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n").to_owned(),
        other => return Err(format!("{other:?} is not known here; entra-auth-mcp --help shows what is")),
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// The verb, the path behind `--env-file`, and whether there is `--json`.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(String, Option<String>, bool), String> {
    let (mut verb, mut env_file, mut json) = (None, None, false);
    while let Some(argument) = arguments.next() {
        if argument == "--env-file" {
            env_file = Some(arguments.next().ok_or("--env-file needs a path")?);
        } else if let Some(path) = argument.strip_prefix("--env-file=") {
            env_file = Some(path.to_owned());
        } else if argument == "--json" {
            json = true;
        } else if verb.is_some() {
            return Err(format!("{argument:?} is one too many; entra-auth-mcp --help shows the usage"));
        } else {
            verb = Some(argument);
        }
    }
    Ok((verb.unwrap_or_else(|| "serve".to_owned()), env_file, json))
}

fn help() -> String {
    SETTINGS.iter().fold(include_str!("usage.txt").to_owned(), |text, Setting { name, default, meaning }| {
        let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
        text + &format!("  {name:<22}{meaning}{default}\n")
    })
}

/// The variables of the environment and the file, which the environment wins over.
fn variables(env_file: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let mut variables = read_env_file(env_file)?;
    for (name, value) in env::vars_os() {
        // Nobody's setting has a name that is not UTF-8.
        let Ok(name) = name.into_string() else { continue };
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

/// The settings; what looks misspelt or unwise is warned of.
fn load(env_file: Option<&str>) -> Result<(Config, BTreeMap<String, String>), String> {
    let variables = variables(env_file)?;
    for (name, setting) in config::misspelt(variables.keys().map(String::as_str)) {
        log::warn!("{name} is not a setting; {setting} is");
    }
    let config = Config::from_variables(&variables).map_err(|mistakes| {
        format!("The settings cannot be used:\n  {}\nentra-auth-mcp --help lists every setting.", mistakes.join("\n  "))
    })?;
    for doubt in config.doubts() {
        log::warn!("{doubt}");
    }
    logging::set_level(config.log_level);
    Ok((config, variables))
}

/// `.env` need not exist; a file that was named must.
fn read_env_file(named: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let path = named.unwrap_or(".env");
    let text = match std::fs::read_to_string(path) {
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.map_err(|error| format!("{path} cannot be read ({error})"))?,
    };
    env_file::parse(&text).map(|variables| variables.into_iter().collect()).map_err(|bad| {
        let lines: Vec<String> = bad.iter().map(|line| format!("line {}: {}", line.number, line.reason)).collect();
        format!("{path} has lines that are not NAME=value:\n  {}", lines.join("\n  "))
    })
}

fn failed(failure: &Failure) -> ExitCode {
    log::error!("{}", failure.text());
    ExitCode::from(FAILED)
}

fn serve(config: Config) -> Result<ExitCode, Failure> {
    // Before anybody can know that we are ready, so that being told to stop is never missed.
    let mut signals = StopSignals::register().map_err(|error| {
        Failure::new(Kind::Internal, format!("The signals to stop cannot be waited for ({error})."))
    })?;
    let server = Server::start(config, Clock::system(), Limits::default())?;
    let (version, port, origin) = (env!("CARGO_PKG_VERSION"), server.port(), server.origin());
    print(&format!(
        "entra-auth-mcp {version} is ready on port {port}\n  MCP endpoint  {origin}/mcp\n  start page    {origin}/\n"
    ));
    signals.wait();
    log::info!("stopping: requests in flight are let finish");
    server.stop();
    Ok(ExitCode::SUCCESS)
}

fn doctor(env_file: Option<&str>, json: bool) -> ExitCode {
    let report = doctor::run(variables(env_file), &Clock::system());
    print(&if json { report.json() } else { report.text() });
    ExitCode::from(report.exit_code())
}

fn print(text: &str) {
    let mut out = io::stdout().lock();
    // A closed pipe, as behind `head`, is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
