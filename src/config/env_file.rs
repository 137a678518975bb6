//! The `.env` file: `NAME=value` lines as shells and other tools write them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use crate::os;

/// The text of the file at `path`, and whether others can read it.
///
/// # Errors
/// It cannot be read, or others could have written it: it says where people sign in and where their
/// tokens go.
pub fn read(path: &Path) -> io::Result<(String, bool)> {
    // Somebody's pipe would be waited for at opening.
    check(path, &fs::metadata(path)?)?;
    let mut file = File::open(path)?;
    check(path, &file.metadata()?)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, os::others_have_access(&file.metadata()?)))
}

fn check(path: &Path, file: &Metadata) -> io::Result<()> {
    if os::is_written_by_this_user_alone(path, file)? {
        return Ok(());
    }
    Err(io::Error::other(
        "another user owns it or can write to it, and could send your sign-ins and tokens \
         elsewhere: make it your own with chown, and chmod go-w",
    ))
}

/// A line that is `NAME=value`.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// What stands before the `=`.
    pub name: String,
    /// What stands behind it, without quotes.
    pub value: String,
    /// The number of the line, counted from 1.
    pub line: usize,
}

/// A line that is not `NAME=value`. The text of the line is not kept: it may hold a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub number: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads the text of a `.env` file: `NAME=value` or `export NAME=value`, values bare, in single
/// quotes (taken literally) or in double quotes (with `\n`, `\r`, `\t`, `\"`, `\\` and `\$`),
/// comments, CRLF, a byte-order mark. A later line wins over an earlier one of the same name.
///
/// # Errors
/// Every line that is none of these.
pub fn parse(text: &str) -> Result<Vec<Variable>, Vec<BadLine>> {
    let mut variables = Vec::new();
    let mut bad = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let number = index + 1;
        match parse_line(line.trim()) {
            Ok(Some((name, value))) => variables.push(Variable {
                name,
                value,
                line: number,
            }),
            Ok(None) => {}
            Err(reason) => bad.push(BadLine { number, reason }),
        }
    }
    if bad.is_empty() {
        Ok(variables)
    } else {
        Err(bad)
    }
}

fn parse_line(line: &str) -> Result<Option<(String, String)>, &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let exported = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with([' ', '\t']));
    let (name, value) = exported
        .unwrap_or(line)
        .split_once('=')
        .ok_or("there is no '=' in it")?;
    let name = name.trim();
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err("what stands before '=' is not a name");
    }
    Ok(Some((name.to_owned(), parse_value(value.trim_start())?)))
}

fn parse_value(value: &str) -> Result<String, &'static str> {
    let (parsed, rest) = if let Some(quoted) = value.strip_prefix('\'') {
        let (literal, rest) = quoted
            .split_once('\'')
            .ok_or("its single quote is not closed")?;
        (literal.to_owned(), rest)
    } else if let Some(quoted) = value.strip_prefix('"') {
        double_quoted(quoted)?
    } else {
        return Ok(bare(value).to_owned());
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(parsed)
    } else {
        Err("something follows its closing quote")
    }
}

/// A bare value ends where a comment begins: at a `#` behind white space.
fn bare(value: &str) -> &str {
    let comment = value.char_indices().find(|&(at, c)| {
        c == '#'
            && value
                .get(..at)
                .is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
    });
    comment
        .and_then(|(at, _)| value.get(..at))
        .unwrap_or(value)
        .trim_end()
}

fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => return Ok((value, characters.as_str())),
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some('t') => value.push('\t'),
                Some(escaped @ ('"' | '\\' | '$')) => value.push(escaped),
                // Not an escape: Windows paths keep their backslash.
                Some(other) => value.extend(['\\', other]),
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err("its double quote is not closed")
}
