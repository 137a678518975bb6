//! Where the settings come from: the command line, the environment and the settings file, in this
//! order.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use super::env_file::{self, Variable};
use super::settings::{SETTINGS, named, nearest, value};
use crate::secret::ACCESS_KEY;

/// The settings file where none is named. It need not exist.
pub const DEFAULT_FILE: &str = ".env";

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Environment,
    /// A line of the settings file.
    Line(usize),
}

/// The values that the settings are made of, and where each comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// By the name of the variable.
    pub values: BTreeMap<String, String>,
    origins: BTreeMap<String, Source>,
    /// The settings file that is meant.
    pub file: PathBuf,
    /// Whether it is there, and was read.
    pub has_file: bool,
    /// Whether it holds the access key, and others can read it.
    pub shows_key: bool,
}

/// What the libraries read from the environment.
const OF_ENVIRONMENT: [&str; 6] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A variable without effect, in two sentences.
pub struct Unknown {
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub mend: String,
}

impl Sources {
    /// The environment and the settings file that is `named`, else [`DEFAULT_FILE`]. An empty
    /// variable of the environment does not hide what the file says.
    ///
    /// # Errors
    /// The file cannot be read, or has a line that is not `NAME=value`; a setting is not UTF-8.
    pub fn read(named: Option<&str>) -> Result<Self, String> {
        let path = PathBuf::from(named.unwrap_or(DEFAULT_FILE));
        let has_file = named.is_some() || path.try_exists().unwrap_or(true);
        let mut sources = Self {
            file: std::path::absolute(&path).unwrap_or(path),
            has_file,
            ..Self::default()
        };
        if has_file {
            sources.read_file()?;
        }
        sources.read_environment()?;
        Ok(sources)
    }

    /// The environment alone.
    ///
    /// # Errors
    /// A setting is not UTF-8.
    pub fn of_environment() -> Result<Self, String> {
        let path = PathBuf::from(DEFAULT_FILE);
        let mut sources = Self {
            file: std::path::absolute(&path).unwrap_or(path),
            ..Self::default()
        };
        sources.read_environment()?;
        Ok(sources)
    }

    fn read_file(&mut self) -> Result<(), String> {
        let path = self.file.display().to_string();
        let (text, is_exposed) = env_file::read(&self.file)
            .map_err(|error| format!("{path} cannot be read ({error})"))?;
        let variables = env_file::parse(&text).map_err(|bad| {
            let lines: Vec<String> = bad
                .iter()
                .map(|line| format!("line {}: {}", line.number, line.reason))
                .collect();
            format!(
                "{path} has lines that are not NAME=value:\n  {}",
                lines.join("\n  ")
            )
        })?;
        for Variable { name, value, line } in variables {
            self.set(name, value, Source::Line(line));
        }
        self.shows_key = is_exposed && self.values.contains_key(ACCESS_KEY);
        Ok(())
    }

    fn read_environment(&mut self) -> Result<(), String> {
        for (name, value) in env::vars_os() {
            // Nobody's setting has a name that is not UTF-8.
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) if !value.trim().is_empty() => {
                    self.set(name, value, Source::Environment);
                }
                Err(_) if SETTINGS.iter().any(|setting| setting.name == name) => {
                    return Err(format!("{name} is not UTF-8 text"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts `value`, which comes from `flag`, in the place of what the setting `name` had.
    pub fn override_with(&mut self, name: &str, value: &str, flag: &'static str) {
        self.set(name.to_owned(), value.to_owned(), Source::Flag(flag));
    }

    fn set(&mut self, name: String, value: String, source: Source) {
        self.origins.insert(name.clone(), source);
        self.values.insert(name, value);
    }

    /// The variables without effect: misspelt settings, and what the settings file has that is no
    /// setting.
    pub fn unknown(&self) -> Vec<Unknown> {
        let names = self.values.keys().filter(|name| named(name).is_none());
        names.filter_map(|name| self.of_unknown(name)).collect()
    }

    fn of_unknown(&self, name: &str) -> Option<Unknown> {
        if let Some(setting) = nearest(name) {
            return Some(Unknown {
                message: format!("{name} is not a setting."),
                mend: format!("Rename it to {setting}."),
            });
        }
        let Some(Source::Line(line)) = self.origins.get(name) else {
            return None;
        };
        let place = format!("{name} ({}, line {line})", self.file_name());
        let is_of_environment = OF_ENVIRONMENT.contains(&name.to_ascii_uppercase().as_str());
        Some(if is_of_environment {
            Unknown {
                message: format!("{place} has no effect in a settings file."),
                mend: "Set it in the environment.".to_owned(),
            }
        } else {
            Unknown {
                message: format!("{place} is not a setting."),
                mend: "entra-auth-mcp help settings lists every setting.".to_owned(),
            }
        })
    }

    /// Where the value of `name` comes from, in words; `None` if it has none.
    pub(super) fn origin(&self, name: &str) -> Option<String> {
        value(&self.values, name)?;
        Some(match self.origins.get(name)? {
            Source::Flag(flag) => (*flag).to_owned(),
            Source::Environment => "environment".to_owned(),
            Source::Line(line) => format!("{}, line {line}", self.file_name()),
        })
    }

    /// The last part of the file's path.
    fn file_name(&self) -> String {
        let name = self.file.file_name().map(Path::new);
        name.unwrap_or(&self.file).display().to_string()
    }
}
