//! What `doctor` has found, for people and for programs.

use serde_json::{Value, json};

use crate::error::Failure;

/// How much of a message is shown. Others send what they like.
const MOST_CHARS: usize = 2000;

/// What to know before the command is run that sets the redirect URIs.
pub const REPLACES_ALL: &str = "The update replaces all redirect URIs that the first command shows: name every one that is to stay.";

/// How bad a finding is.
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
    /// The name of the check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in one line.
    pub message: String,
    /// What to do about it, in one line, where there is something to do.
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, level: Level, message: &str, mend: Option<&str>) -> Self {
        Self {
            check,
            level,
            message: one_line(message),
            mend: mend.map(one_line),
        }
    }

    /// All is well.
    pub fn ok(check: &'static str, message: &str) -> Self {
        Self::new(check, Level::Ok, message, None)
    }

    /// All is well, and there is something to do all the same.
    pub fn advice(check: &'static str, message: &str, mend: &str) -> Self {
        Self::new(check, Level::Ok, message, Some(mend))
    }

    /// It works, but perhaps not as it is meant.
    pub fn warning(check: &'static str, message: &str, mend: &str) -> Self {
        Self::new(check, Level::Warning, message, Some(mend))
    }

    /// It does not work.
    pub fn failure(check: &'static str, message: &str, mend: &str) -> Self {
        Self::new(check, Level::Failure, message, Some(mend))
    }

    /// It does not work, for the reason that `failure` gives.
    pub fn failed(check: &'static str, failure: Failure) -> Self {
        let mend = failure.hint.clone();
        let what = Failure {
            hint: String::new(),
            ..failure
        };
        Self::failure(check, &what.text(), &mend)
    }
}

/// Text from anywhere as one line of bounded length that no terminal takes for a command.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut line = String::new();
    for character in words.join(" ").chars().take(MOST_CHARS) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// Commands of the Azure CLI that show the app registration and correct it.
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
        let worst = self.findings.iter().map(|finding| finding.level).max();
        match worst {
            None | Some(Level::Ok) => 0,
            Some(Level::Warning) => 1,
            Some(Level::Failure) => 2,
        }
    }

    /// Whether something does not work.
    pub fn has_failure(&self) -> bool {
        self.count(Level::Failure) > 0
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = self.finding_lines();
        if !self.commands.is_empty() {
            lines.push("\nTo look at the app registration and to correct it:".to_owned());
            for command in &self.commands {
                lines.push(format!("  {command}"));
            }
            lines.push(REPLACES_ALL.to_owned());
        }
        lines.push(self.summary());
        lines.join("\n")
    }

    /// For people who have the commands already.
    pub fn findings_text(&self) -> String {
        let mut lines = self.finding_lines();
        lines.push(self.summary());
        lines.join("\n")
    }

    fn finding_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in &self.findings {
            let level = finding.level.name();
            lines.push(format!(
                "{level:<7}  {:<12}  {}",
                finding.check, finding.message
            ));
            if let Some(mend) = &finding.mend {
                lines.push(format!("{:23}{mend}", ""));
            }
        }
        lines
    }

    fn summary(&self) -> String {
        let findings = self.findings.len();
        let warnings = self.count(Level::Warning);
        let failures = self.count(Level::Failure);
        format!("\n{findings} findings: {warnings} warnings, {failures} failures\n")
    }

    /// For programs.
    pub fn json(&self) -> String {
        let mut findings: Vec<Value> = Vec::new();
        for finding in &self.findings {
            findings.push(json!({
                "check": finding.check,
                "level": finding.level.name(),
                "message": finding.message,
                "mend": finding.mend,
            }));
        }
        let report = json!({
            "findings": findings,
            "commands": self.commands,
            "warnings": self.count(Level::Warning),
            "failures": self.count(Level::Failure),
        });
        format!("{report:#}\n")
    }
}
