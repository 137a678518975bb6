//! What is wrong with the settings, this machine, the network or the app registration, found out without
//! sending a token and without changing anything; an empty file shows whether the directory takes any.

mod offline;
mod online;
mod tls;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::auth::aadsts;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Failure;

/// So much of a message is shown: what others send has no end.
const MOST_CHARS: usize = 2000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        Self {
            check,
            level,
            message: one_line(message),
            mend: one_line(mend),
        }
    }

    fn ok(check: &'static str, message: &str) -> Self {
        Self::new(check, Level::Ok, message, "")
    }

    fn warning(check: &'static str, message: &str, mend: &str) -> Self {
        Self::new(check, Level::Warning, message, mend)
    }

    fn failure(check: &'static str, message: &str, mend: &str) -> Self {
        Self::new(check, Level::Failure, message, mend)
    }

    fn failed(check: &'static str, mut failure: Failure) -> Self {
        let mend = std::mem::take(&mut failure.hint);
        Self::failure(check, &failure.text(), &mend)
    }
}

/// Text from anywhere as one line of bounded length that no terminal takes for a command.
fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
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
        self.findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    }

    /// 0 when all is well, 1 with warnings, 2 with failures.
    pub fn exit_code(&self) -> u8 {
        self.findings
            .iter()
            .map(|finding| finding.level as u8)
            .max()
            .unwrap_or_default()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for Finding {
            check,
            level,
            message,
            mend,
        } in &self.findings
        {
            lines.push(format!("{:<7}  {check:<12}  {message}", level.name()));
            lines.extend(Some(format!("{:23}{mend}", "")).filter(|_| !mend.is_empty()));
        }
        if !self.commands.is_empty() {
            let (title, list) = (
                "To look at the app registration and to make it right:",
                self.commands.join("\n  "),
            );
            let caution = "The update replaces the list that the first one shows: name every URI that is to stay.";
            lines.push(format!("\n{title}\n  {list}\n{caution}"));
        }
        let (warnings, failures) = (self.count(Level::Warning), self.count(Level::Failure));
        lines.push(format!(
            "\n{} findings: {warnings} warnings, {failures} failures\n",
            self.findings.len()
        ));
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> String {
        let finding = |Finding {
                           check,
                           level,
                           message,
                           mend,
                       }: &Finding| {
            let mend = Some(mend).filter(|mend| !mend.is_empty());
            json!({"check": check, "level": level.name(), "message": message, "mend": mend})
        };
        let findings: Vec<Value> = self.findings.iter().map(finding).collect();
        let (warnings, failures) = (self.count(Level::Warning), self.count(Level::Failure));
        let report = json!({"findings": findings, "commands": self.commands, "warnings": warnings, "failures": failures});
        format!("{report:#}\n")
    }
}

/// Checks what can be checked; the network only with settings that can be used. `variables` are the
/// settings, or why they cannot be read.
pub fn run(variables: Result<BTreeMap<String, String>, String>, clock: &Clock) -> Report {
    let mut findings = vec![offline::clock(clock)];
    let checked = variables.map(|variables| offline::check(variables, clock, &mut findings));
    let mend = "Mend that, or name another file with --env-file.";
    let config = checked
        .map_err(|why| findings.push(Finding::failure("settings", &why, mend)))
        .ok()
        .flatten();
    if let Some(config) = &config {
        online::check(config, clock, &mut findings);
    }
    Report {
        findings,
        commands: config.as_ref().map(commands).unwrap_or_default(),
    }
}

/// The commands that show the registration of `config` and make it right.
fn commands(config: &Config) -> Vec<String> {
    let (id, uri) = (
        &config.client_id,
        aadsts::registered(&config.redirect_uri.text),
    );
    let is_plain = uri
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || ":/.-_~%".contains(c));
    let uri = if is_plain { uri } else { format!("'{uri}'") };
    let mut commands = vec![
        format!("az ad app show --id {id} --query publicClient.redirectUris"),
        format!("az ad app update --id {id} --public-client-redirect-uris {uri}"),
        format!("az ad app permission list --id {id}"),
        format!("az ad app permission admin-consent --id {id}"),
    ];
    if config.allow_device_code {
        // The portal calls it "Allow public client flows".
        commands.push(format!(
            "az ad app update --id {id} --is-fallback-public-client true"
        ));
    }
    commands
}
