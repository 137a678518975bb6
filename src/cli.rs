//! The command line: verbs, usage, exit codes.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::clock::Clock;
use crate::config::{self, Config, SETTINGS};
use crate::env_file;
use crate::http::Limits;
use crate::serve::Server;
use crate::{logging, os};

/// Something went wrong while running.
const FAILED: u8 = 1;
/// The command line or the settings cannot be used.
const MISUSED: u8 = 2;

const USAGE: &str = "\
Signs users in with Microsoft Entra ID and lets MCP clients call one API as them.

Usage: entra-auth-mcp [serve] [--env-file PATH]
       entra-auth-mcp --check-config [--env-file PATH]
       entra-auth-mcp --help | --version

  serve           run the server (this is what happens without a verb, too)
  --check-config  check the settings, print what holds, and exit
  --env-file      read settings from PATH instead of .env; the environment wins over the file

Settings:
";

/// A command line that cannot be used: the text to print.
struct Misuse(String);

enum Verb {
    Serve,
    CheckConfig,
    Help,
    Version,
}

/// Runs the program with `arguments` (without the program's own name).
#[must_use]
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    logging::set_level(log::LevelFilter::Info);
    let result = parse(arguments).and_then(|(verb, env_file)| match verb {
        Verb::Help => print(&help()),
        Verb::Version => print(concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n")),
        Verb::CheckConfig => load(env_file.as_deref()).and_then(|config| print(&effective(&config))),
        Verb::Serve => load(env_file.as_deref()).and_then(serve),
    });
    match result {
        Ok(code) => code,
        Err(Misuse(text)) => {
            // There is nobody else to tell.
            let _ = writeln!(io::stderr(), "{}", text.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(Verb, Option<String>), Misuse> {
    let (mut verb, mut env_file) = (None, None);
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (argument.as_str(), None),
        };
        let parsed = match name {
            "serve" => Verb::Serve,
            "--check-config" => Verb::CheckConfig,
            "--help" | "-h" => Verb::Help,
            "--version" | "-V" => Verb::Version,
            "--env-file" => {
                let path = value.or_else(|| arguments.next());
                env_file = Some(path.ok_or_else(|| Misuse("--env-file needs a path".to_owned()))?);
                continue;
            }
            _ => return Err(Misuse(format!("{argument:?} is not known here; entra-auth-mcp --help shows what is"))),
        };
        if value.is_some() || verb.replace(parsed).is_some() {
            return Err(Misuse(format!("{argument:?} is one too many; entra-auth-mcp --help shows the usage")));
        }
    }
    Ok((verb.unwrap_or(Verb::Serve), env_file))
}

fn help() -> String {
    let mut text = USAGE.to_owned();
    for setting in SETTINGS {
        let default =
            if setting.default.is_empty() { String::new() } else { format!(" (default {})", setting.default) };
        text.push_str(&format!("  {:<22}{}{default}\n", setting.name, setting.meaning));
    }
    text
}

fn effective(config: &Config) -> String {
    config.effective().into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

/// The settings from the environment and the file; what looks misspelt or unwise is warned of.
fn load(env_file: Option<&str>) -> Result<Config, Misuse> {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let file = read_env_file(env_file)?;
    for (name, setting) in config::misspelt(environment.keys().chain(file.keys()).map(String::as_str)) {
        log::warn!("{name} is not a setting; {setting} is");
    }
    let mut variables = file;
    variables.extend(environment.into_iter().filter(|(_, value)| !value.trim().is_empty()));
    let config = Config::from_variables(&variables).map_err(|mistakes| {
        let lines: String = mistakes.iter().map(|mistake| format!("  {mistake}\n")).collect();
        Misuse(format!("The settings cannot be used:\n{lines}entra-auth-mcp --help lists every setting."))
    })?;
    logging::set_level(config.log_level);
    for doubt in config.doubts() {
        log::warn!("{doubt}");
    }
    Ok(config)
}

/// `.env` need not exist; a file that was named must.
fn read_env_file(named: Option<&str>) -> Result<BTreeMap<String, String>, Misuse> {
    let path = Path::new(named.unwrap_or(".env"));
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| Misuse(format!("{} is not UTF-8 text", path.display())))?,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Misuse(format!("{} cannot be read ({error})", path.display()))),
    };
    let variables = env_file::parse(&text).map_err(|bad| {
        let lines: String = bad.iter().map(|line| format!("  line {}: {}\n", line.number, line.reason)).collect();
        Misuse(format!("{} has lines that are not NAME=value:\n{lines}", path.display()))
    })?;
    Ok(variables.into_iter().collect())
}

fn serve(config: Config) -> Result<ExitCode, Misuse> {
    let server = match Server::start(config, Clock::system(), Limits::default()) {
        Ok(server) => server,
        Err(failure) => {
            log::error!("{}", failure.text());
            return Ok(ExitCode::from(FAILED));
        }
    };
    let origin = server.origin();
    print(&format!(
        "entra-auth-mcp {} is ready on port {}\n  MCP endpoint  {origin}/mcp\n  start page    {origin}/\n",
        env!("CARGO_PKG_VERSION"),
        server.port()
    ))?;
    if let Err(error) = os::wait_for_stop() {
        log::error!("signals cannot be waited for ({error})");
        return Ok(ExitCode::from(FAILED));
    }
    log::info!("stopping: requests in flight are let finish");
    server.stop();
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<ExitCode, Misuse> {
    let mut out = io::stdout().lock();
    // A closed pipe, as behind `head`, is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(ExitCode::SUCCESS)
}
