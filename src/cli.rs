//! The program: from the arguments to a verb, and from how it ended to what is printed and the exit
//! code.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use log::LevelFilter;

use crate::browser::{self, Link};
use crate::clock::Clock;
use crate::command_line::{CommandLine, DEVICE_CODE, ENV_FILE, HOST, JSON, PORT, Verb};
use crate::config::sources::Unknown;
use crate::config::{AuditTarget, Config, Sources};
use crate::error::{Failure, Kind};
use crate::help::help;
use crate::http::Limits;
use crate::init::{self, Init, Terminal};
use crate::os::{Signals, Told};
use crate::secret::{ACCESS_KEY, Secret};
use crate::serve::{self, Server};
use crate::tool_report::ToolReport;
use crate::{doctor, logging, os, stdio, sync, text, verbs};

/// Something went wrong while running.
const FAILED: u8 = 1;
/// The command line or the settings cannot be used.
const MISUSED: u8 = 2;

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
    // Before there is anything secret in it.
    os::keep_memory_out_of_core_dumps();
    logging::set_level(LevelFilter::Info);
    logging::log_panics();
    match perform(arguments) {
        Ok(done) => {
            print(&done.text);
            ExitCode::from(done.code)
        }
        Err(Trouble::Failed(failure)) => {
            // No name or answer from outside makes a line of its own.
            complain(&text::json_escaped(&failure.text()));
            ExitCode::from(FAILED)
        }
        Err(Trouble::Misuse(misuse)) => {
            complain(&misuse);
            ExitCode::from(MISUSED)
        }
    }
}

fn perform(arguments: impl Iterator<Item = String>) -> Result<Done, Trouble> {
    let line = CommandLine::parse(arguments)?;
    match line.verb {
        Verb::Serve => serve(&line),
        Verb::Stdio => carry(&line),
        Verb::Init => init(&line),
        Verb::Login => login(&line),
        Verb::Logout => logout(&line),
        Verb::Status => {
            let loaded = load_quietly(&line)?;
            let (text, is_anybody) = verbs::status(&loaded.config, line.has(JSON))?;
            let code = if is_anybody { 0 } else { FAILED };
            Ok(Done { text, code })
        }
        Verb::Doctor => {
            let report = doctor::run(sources(&line), &Clock::system());
            let text = if line.has(JSON) {
                report.json()
            } else {
                report.text()
            };
            let code = report.exit_code();
            Ok(Done { text, code })
        }
        Verb::Tools => {
            let Loaded { config, .. } = load_quietly(&line)?;
            let report = ToolReport::of(&config);
            let text = if line.has(JSON) {
                report.json()
            } else {
                report.text()
            };
            Ok(Done::well(text))
        }
        Verb::CheckConfig => check_config(&line),
        Verb::Help => Ok(Done::well(help(line.operand.as_deref())?)),
        Verb::Version => {
            let version = concat!("entra-auth-mcp ", env!("CARGO_PKG_VERSION"), "\n");
            Ok(Done::well(version.to_owned()))
        }
    }
}

// ---- The verbs ----

/// Serves until the program is told to stop.
fn serve(line: &CommandLine) -> Result<Done, Trouble> {
    logging::never_block().map_err(|error| serve::no_thread(&error))?;
    let Loaded { config, sources } = load(line, Warnings::Logged)?;
    let file = sources.file.display();
    if sources.has_file {
        log::info!("settings are read from {file}");
    } else {
        log::info!("there is no settings file {file}: all settings come from the environment");
    }
    // It may hold the text of the access key.
    drop(sources);
    // Before anybody can know that we are ready, so that being told to stop is never missed.
    let mut signals = Signals::register(matches!(config.audit_log, Some(AuditTarget::File(_))))
        .map_err(|error| {
            Failure::new(
                Kind::Internal,
                format!("The signals to stop cannot be waited for ({error})."),
            )
        })?;
    let server = Server::start(config, Clock::system(), Limits::default())?;
    let version = env!("CARGO_PKG_VERSION");
    let port = server.port();
    let origin = server.origin();
    let ready = format!(
        "entra-auth-mcp {version} is ready on port {port}\n  MCP endpoint  {origin}/mcp\n  start page    {origin}/\n"
    );
    // Nobody may read it, and the program must still see that it is told to stop.
    sync::spawn(thread::Builder::new(), Box::new(move || print(&ready)))
        .map_err(|error| serve::no_thread(&error))?;
    while signals.wait() == Told::Reopen {
        // What keeps it from being opened is logged, and tried again with the next call.
        let _ = server.reopen_audit_log();
    }
    log::info!("stopping: requests that are under way may finish");
    drop(server);
    Ok(Done::well(String::new()))
}

/// Writes a settings file, and shows what comes next.
fn init(line: &CommandLine) -> Result<Done, Trouble> {
    let init = Init::new(line).map_err(of_init)?;
    let mut input = io::stdin().lock();
    let is_terminal = input.is_terminal() && io::stdout().is_terminal();
    let terminal = is_terminal.then_some(Terminal {
        input: &mut input,
        show: &print,
    });
    let written = init.write(terminal).map_err(of_init)?;
    print(&written.text());
    let report = doctor::run(sources(line), &Clock::system());
    print(&format!("\n{}", report.findings_text()));
    let code = if report.has_failure() { FAILED } else { 0 };
    let text = init::next_steps(&written, line.value(ENV_FILE));
    Ok(Done { text, code })
}

/// A value that cannot be used is a mistake in the command line.
fn of_init(failure: Failure) -> Trouble {
    if failure.kind == Kind::InvalidRequest {
        Trouble::Misuse(failure.text())
    } else {
        Trouble::Failed(failure)
    }
}

/// Carries the messages of a client that has started this program.
fn carry(line: &CommandLine) -> Result<Done, Trouble> {
    let Loaded { config, sources } = load(line, Warnings::Logged)?;
    let mistakes = stdio::mistakes(&config, &sources.values);
    if !mistakes.is_empty() {
        return Err(Trouble::Misuse(unusable(&mistakes, &sources, line.verb)));
    }
    let access_key = access_key(&config, sources.values)?;
    stdio::run(config, access_key)?;
    Ok(Done::well(String::new()))
}

/// Signs a person in who sits at this terminal.
fn login(line: &CommandLine) -> Result<Done, Trouble> {
    let Loaded { config, sources } = load_quietly(line)?;
    let access_key = access_key(&config, sources.values)?;
    let login = verbs::Login {
        user_id: line.operand.as_deref(),
        with_code: line.has(DEVICE_CODE),
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
    let text = verbs::login(config, Clock::system(), login, &show)?;
    Ok(Done::well(text))
}

fn logout(line: &CommandLine) -> Result<Done, Trouble> {
    let Loaded { config, sources } = load_quietly(line)?;
    let access_key = access_key(&config, sources.values)?;
    let text = verbs::logout(config, line.operand.as_deref(), access_key.as_ref())?;
    Ok(Done::well(text))
}

/// Shows the settings, and what would keep the server from starting with them.
fn check_config(line: &CommandLine) -> Result<Done, Trouble> {
    let Loaded { config, sources } = load_quietly(line)?;
    let text = config.effective(&sources);
    let hindrances = doctor::hindrances(&config, &Clock::system());
    if hindrances.is_empty() {
        return Ok(Done::well(text));
    }
    complain(&format!(
        "The server cannot start with these settings:\n  {}",
        hindrances.join("\n  ")
    ));
    Ok(Done { text, code: FAILED })
}

// ---- The settings ----

/// The settings, and what they are read from.
struct Loaded {
    config: Config,
    sources: Sources,
}

/// How a person is told what is probably not meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Warnings {
    /// In the log of a server.
    Logged,
    /// In sentences on standard error.
    Told,
}

impl Warnings {
    fn give(self, warning: &str) {
        match self {
            Self::Logged => log::warn!("{warning}"),
            Self::Told => complain(&format!("Warning: {warning}")),
        }
    }
}

/// What the settings are read from; `--host` and `--port` win over everything else.
fn sources(line: &CommandLine) -> Result<Sources, String> {
    let mut sources = match line.value(ENV_FILE) {
        // The working directory is the client's: a `.env` there may be anybody's.
        None if line.verb == Verb::Stdio => Sources::of_environment()?,
        Some(path) if line.verb == Verb::Stdio && !Path::new(path).is_absolute() => {
            return Err(format!(
                "{ENV_FILE} is {path:?}: with stdio, write the whole path, since the client chooses the working directory"
            ));
        }
        named => Sources::read(named)?,
    };
    for (flag, setting) in [(HOST, "SERVER_HOST"), (PORT, "SERVER_PORT")] {
        if let Some(value) = line.value(flag) {
            sources.override_with(setting, value, flag);
        }
    }
    Ok(sources)
}

/// The settings. Placeholders are refused; what has no effect or looks unwise gets a warning. From
/// then on, a server logs at the level of the settings, and a verb logs only warnings and errors.
fn load(line: &CommandLine, warnings: Warnings) -> Result<Loaded, String> {
    let sources = sources(line)?;
    if sources.shows_key {
        warnings.give(&format!(
            "{} holds {ACCESS_KEY} and can be read or written by others: chmod 600 it.",
            sources.file.display()
        ));
    }
    for Unknown { message, mend } in sources.unknown() {
        warnings.give(&format!("{message} {mend}"));
    }
    let config = Config::from_variables(&sources.values)
        .map_err(|mistakes| unusable(&mistakes, &sources, line.verb))?;
    let placeholders = config.placeholders();
    if !placeholders.is_empty() {
        return Err(unusable(&placeholders, &sources, line.verb));
    }
    for doubt in config.doubts() {
        warnings.give(&doubt);
    }
    logging::set_level(match warnings {
        Warnings::Logged => config.log_level,
        Warnings::Told => config.log_level.min(LevelFilter::Warn),
    });
    Ok(Loaded { config, sources })
}

/// The settings for a verb whose results a person reads.
fn load_quietly(line: &CommandLine) -> Result<Loaded, String> {
    load(line, Warnings::Told)
}

/// What is said of `mistakes` in the settings.
fn unusable(mistakes: &[String], sources: &Sources, verb: Verb) -> String {
    let mistakes = mistakes.join("\n  ");
    let file = if sources.has_file {
        String::new()
    } else if verb == Verb::Stdio {
        format!("With stdio, only {ENV_FILE} names a settings file.\n")
    } else {
        format!(
            "There is no settings file {}. entra-auth-mcp init writes one.\n",
            sources.file.display()
        )
    };
    format!(
        "The settings cannot be used:\n  {mistakes}\n{file}entra-auth-mcp help settings lists every setting."
    )
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

// ---- The terminal ----

/// Names come from outside, and none shall steer the terminal: escaped as in JSON, which this may
/// be.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if text::is_plain(c) || matches!(c, '\n' | '\t') {
            plain.push(c);
        } else {
            plain += &text::json_escaped(&c.to_string());
        }
    }
    plain
}

fn print(text: &str) {
    // Another thread may be stuck with the first lines of a server, and keep standard output.
    if text.is_empty() {
        return;
    }
    let text = plain(text);
    let mut out = io::stdout().lock();
    // A closed pipe, as behind `head`, is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says on standard error what went wrong.
fn complain(text: &str) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{}", plain(text.trim_end()));
}
