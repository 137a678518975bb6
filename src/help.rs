//! What `help` shows: the overview, how a verb is used, or a topic of the manual. No line is longer
//! than [`WIDTH`].

use std::fmt::Write as _;

use crate::command_line::{COMMON_FLAGS, Flag, OVERVIEW, Usage, VERBS, did_you_mean, usage_of};
use crate::config::{SETTINGS, Setting};
use crate::manual::{TOPICS, Topic};

/// The longest line, in characters.
const WIDTH: usize = 100;
/// Where the meanings begin in lists of verbs and flags.
const MEANING: usize = 20;
/// The same for settings and topics, whose names are longer.
const MEANING_OF_TOPIC: usize = 26;

/// A space at which no line ends.
const NO_BREAK: &str = "\u{a0}";

/// The overview, or what `topic` names: a verb or a topic.
///
/// # Errors
/// There is no such topic; says which one may be meant.
pub fn help(topic: Option<&str>) -> Result<String, String> {
    let Some(name) = topic else {
        return Ok(overview());
    };
    let usage = usage_of(name).map(about);
    let topic = TOPICS.iter().find(|topic| topic.name == name);
    match (usage, topic.map(Topic::text)) {
        // `tools` is a verb and a topic.
        (Some(usage), Some(topic)) => return Ok(format!("{usage}\n{topic}")),
        (Some(text), None) | (None, Some(text)) => return Ok(text),
        (None, None) => {}
    }
    let mut known: Vec<&str> = VERBS.iter().map(Usage::name).collect();
    known.extend(TOPICS.iter().map(|topic| topic.name));
    Err(format!(
        "There is no help on {name:?}.{} {OVERVIEW}",
        did_you_mean(name, &known)
    ))
}

fn overview() -> String {
    let mut text = String::from(
        "Signs users in with Microsoft Entra ID and lets MCP clients call one API as them.\n\n\
         Usage: entra-auth-mcp [VERB] [FLAGS]\n\n",
    );
    for usage in VERBS {
        text += &row(&words(usage), usage.summary, MEANING);
    }
    text += "\nFlags of all verbs that read the settings:\n";
    text += &flags(COMMON_FLAGS.iter());
    text +=
        "\nSettings, from the environment and .env, which init writes (help settings says more):\n";
    for setting in SETTINGS {
        text += &row(setting.name, &meaning(setting), MEANING_OF_TOPIC);
    }
    text += "\nTopics of the manual:\n";
    for topic in TOPICS {
        text += &row(topic.name, topic.title, MEANING_OF_TOPIC);
    }
    text += "\nentra-auth-mcp help NAME shows how a verb is used, or a topic.\n";
    text += &wrapped(
        "Exit code: 0 after success, 1 after a failure (for status: nobody is signed in), 2 if the command \
         line or the settings cannot be used. doctor has its own exit codes: see help doctor.",
        0,
    );
    text
}

/// How `usage` is called, without its flags.
fn words(usage: &Usage) -> String {
    match usage.operand {
        Some(operand) => format!("{} [{operand}]", usage.name()),
        None => usage.name().to_owned(),
    }
}

fn about(usage: &Usage) -> String {
    let mut line = format!("Usage: entra-auth-mcp {}", words(usage));
    for flag in usage.all_flags() {
        // No line ends between a flag and its value.
        let flag = written(flag).replace(' ', NO_BREAK);
        let _ = write!(line, " [{flag}]");
    }
    let mut text = wrapped(&line, "Usage: entra-auth-mcp ".len()).replace(NO_BREAK, " ");
    text += "\n";
    text += &wrapped(&sentence(usage.summary), 0);
    if !usage.details.is_empty() {
        text += &wrapped(usage.details, 0);
    }
    if usage.all_flags().next().is_some() {
        text += "\nFlags:\n";
        text += &flags(usage.all_flags());
    }
    text
}

fn sentence(summary: &str) -> String {
    let mut characters = summary.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    let rest = characters.as_str();
    format!("{}{rest}.", first.map(String::from).unwrap_or_default())
}

fn flags(flags: impl Iterator<Item = &'static Flag>) -> String {
    flags
        .map(|flag| row(&written(flag), flag.meaning, MEANING))
        .collect()
}

fn written(flag: &Flag) -> String {
    match flag.value {
        Some(value) => format!("{} {value}", flag.name),
        None => flag.name.to_owned(),
    }
}

fn meaning(setting: &Setting) -> String {
    match setting.default {
        Some(default) => format!("{} (default {default})", setting.meaning),
        None => setting.meaning.to_owned(),
    }
}

/// `left`, and `right` in a column of its own that begins at `column`.
fn row(left: &str, right: &str, column: usize) -> String {
    let room = column.saturating_sub(2);
    wrapped(&format!("  {left:<room$} {right}"), column + 1)
}

/// `text` in lines of at most [`WIDTH`] characters, all but the first indented by `indent`. White
/// space within a line stays.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_inclusive(' ') {
        let is_full = line.chars().count() + word.trim_end().chars().count() > WIDTH;
        if is_full && !line.trim().is_empty() {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(indent);
        }
        line += word;
    }
    lines += line.trim_end();
    lines.push('\n');
    lines
}
