//! What is wrong with the settings, this machine, the network or the app registration, found out without
//! sending a token and without changing anything; an empty file shows whether the directory takes any.

mod offline;
mod online;
mod tls;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::error::Failure;
use crate::oauth::aadsts;

/// So much of a message is shown: what others send has no end.
const MOST_CHARS: usize = 2000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but perhaps not as it is meant.
    Warning,
    /// It does not work.
    Failure,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What one check has found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it, in one line; empty where nothing is to be done.
    pub mend: String,
}

impl Finding {
    fn new(check: &'static str, level: Level, message: &str, mend: &str) -> Self {
        Self { check, level, message: one_line(message), mend: one_line(mend) }
    }

    fn ok(check: &'static str, message: impl AsRef<str>) -> Self {
        Self::new(check, Level::Ok, message.as_ref(), "")
    }

    fn warning(check: &'static str, message: impl AsRef<str>, mend: impl AsRef<str>) -> Self {
        Self::new(check, Level::Warning, message.as_ref(), mend.as_ref())
    }

    fn failure(check: &'static str, message: impl AsRef<str>, mend: impl AsRef<str>) -> Self {
        Self::new(check, Level::Failure, message.as_ref(), mend.as_ref())
    }

    fn failed(check: &'static str, mut failure: Failure) -> Self {
        let mend = std::mem::take(&mut failure.hint);
        Self::failure(check, failure.text(), mend)
    }

    fn or_failure(self) -> Result<Self, Self> {
        if self.level == Level::Failure { Err(self) } else { Ok(self) }
    }
}

/// Text from anywhere as one line of bounded length that no terminal takes for a command.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    words.chars().take(MOST_CHARS).map(escaped).collect()
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// What makes the app registration right, for the Azure CLI.
    pub commands: Vec<String>,
}

impl Report {
    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// 0 when all is well, 1 with warnings, 2 with failures.
    pub fn exit_code(&self) -> u8 {
        match (self.count(Level::Failure), self.count(Level::Warning)) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let lines = |Finding { check, level, message, mend }: &Finding| {
            let line = format!("{:<7}  {check:<12}  {message}\n", level.name());
            if mend.is_empty() { line } else { format!("{line}{:23}{mend}\n", "") }
        };
        let findings: String = self.findings.iter().map(lines).collect();
        let commands = if self.commands.is_empty() {
            String::new()
        } else {
            let (title, list) = ("To look at the app registration and to make it right:", self.commands.join("\n  "));
            let caution = "The update replaces the list that the first one shows: name every URI that is to stay.";
            format!("\n{title}\n  {list}\n{caution}\n")
        };
        let (warnings, failures) = (self.count(Level::Warning), self.count(Level::Failure));
        format!("{findings}{commands}\n{} findings: {warnings} warnings, {failures} failures\n", self.findings.len())
    }

    /// For programs.
    pub fn json(&self) -> String {
        let finding = |Finding { check, level, message, mend }: &Finding| {
            let mend = Some(mend).filter(|mend| !mend.is_empty());
            json!({"check": check, "level": level.name(), "message": message, "mend": mend})
        };
        let findings: Vec<Value> = self.findings.iter().map(finding).collect();
        let (warnings, failures) = (self.count(Level::Warning), self.count(Level::Failure));
        let report =
            json!({"findings": findings, "commands": self.commands, "warnings": warnings, "failures": failures});
        format!("{report:#}\n")
    }
}

/// Checks what can be checked; the network only with settings that can be used. `variables` are the
/// settings, or why they cannot be read.
pub fn run(variables: Result<BTreeMap<String, String>, String>, clock: &Clock) -> Report {
    let mut findings: Vec<Finding> = online::malformed_proxies().collect();
    let variables = match variables {
        Ok(variables) => variables,
        Err(why) => {
            findings.push(Finding::failure("settings", why, "Mend the file, or name another one with --env-file."));
            findings.push(offline::clock(clock));
            return Report { findings, commands: Vec::new() };
        }
    };
    let (config, mistakes) = match Config::from_variables(&variables) {
        Ok(config) => (Some(config), Vec::new()),
        Err(mistakes) => (offline::without(&mistakes, variables.clone()), mistakes),
    };
    let is_right =
        |settings: &[&str]| !mistakes.iter().any(|mistake| settings.iter().any(|setting| mistake.starts_with(setting)));
    findings.extend(offline::mistakes(&mistakes));
    findings.push(offline::clock(clock));
    let Some(mut config) = config else { return Report { findings, commands: Vec::new() } };
    if is_right(&["SERVER_HOST", "SERVER_PORT"]) {
        let finding;
        (finding, config) = offline::port(config);
        findings.push(finding);
    }
    if is_right(&["CUSTOM_API_SCOPE"]) {
        findings.push(offline::scopes(&config));
    }
    if is_right(&["REDIRECT_URI", "SERVER_PORT"]) {
        findings.push(offline::redirect_uri(&config));
    }
    findings.extend(offline::token_file(&config, clock));
    let mut commands = Vec::new();
    if mistakes.is_empty() {
        findings.splice(..0, offline::doubts(&config, &variables));
        findings.extend(online::check(&config, clock));
        commands = self::commands(&config);
    }
    Report { findings, commands }
}

fn commands(config: &Config) -> Vec<String> {
    let (id, uri) = (&config.client_id, aadsts::registered(&config.redirect_uri.text));
    let is_plain = uri.chars().all(|c| c.is_ascii_alphanumeric() || ":/.-_~%".contains(c));
    let uri = if is_plain { uri } else { format!("'{uri}'") };
    let mut commands = vec![
        format!("az ad app show --id {id} --query publicClient.redirectUris"),
        format!("az ad app update --id {id} --public-client-redirect-uris {uri}"),
        format!("az ad app permission list --id {id}"),
        format!("az ad app permission admin-consent --id {id}"),
    ];
    if config.allow_device_code {
        // The portal calls it "Allow public client flows".
        commands.push(format!("az ad app update --id {id} --is-fallback-public-client true"));
    }
    commands
}
