//! `init`: asks for the required settings, and writes a settings file.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Write as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::auth::aadsts;
use crate::clients;
use crate::command_line::{CommandLine, ENV_FILE, HOST, PORT};
use crate::config::env_file;
use crate::config::sources::DEFAULT_FILE;
use crate::config::{Config, PLACEHOLDER};
use crate::doctor;
use crate::error::{Failure, Kind};
use crate::os;
use crate::sorted;

/// One value of the settings file.
struct Question {
    flag: &'static str,
    setting: &'static str,
    is_required: bool,
    /// What a person is asked for.
    asked: &'static str,
    /// The comment above it in the file.
    comment: &'static str,
    /// The line, as a comment, that the file has if there is no value.
    example: &'static str,
}

const TENANT: Question = Question {
    flag: "--tenant",
    setting: "AZURE_TENANT_ID",
    is_required: true,
    asked: "Directory (tenant) ID, or a domain name of the tenant",
    comment: "\"Directory (tenant) ID\" on the overview page of the app registration, or a domain name of the tenant.",
    example: "",
};
const CLIENT_ID: Question = Question {
    flag: "--client-id",
    setting: "AZURE_CLIENT_ID",
    is_required: true,
    asked: "Application (client) ID of the app registration",
    comment: "\"Application (client) ID\" on the same page.",
    example: "",
};
const API: Question = Question {
    flag: "--api",
    setting: "BACKEND_API_BASE_URL",
    is_required: false,
    asked: "Base URL of the API to call (Enter for none yet)",
    comment: "The API that the tools call. The token goes to what lies below this URL, and nowhere else.",
    example: "https://api.example.com/v1",
};
const SCOPE: Question = Question {
    flag: "--scope",
    setting: "CUSTOM_API_SCOPE",
    is_required: false,
    asked: "Scopes of that API, separated by spaces (Enter for none yet)",
    comment: "The scopes of that API, separated by spaces: scopes of one resource, or only its .default.",
    example: "api://your-api/scope",
};
const QUESTIONS: [&Question; 4] = [&TENANT, &CLIENT_ID, &API, &SCOPE];
/// Further settings, which are not asked for.
const LISTENING: [(&str, &str); 2] = [(HOST, "SERVER_HOST"), (PORT, "SERVER_PORT")];
/// Where people sign in. They are copied from the environment, because `doctor` checks with them,
/// and the server may be started without them.
const SIGN_IN_HOST: [&str; 2] = ["AZURE_CLOUD", "AZURE_AUTHORITY_HOST"];

const PORTAL: &str = "the Entra admin center (https://entra.microsoft.com, or that of your cloud)";

/// Where a person can be asked.
pub struct Terminal<'a> {
    /// What the person types.
    pub input: &'a mut dyn BufRead,
    /// Shows a text.
    pub show: &'a dyn Fn(&str),
}

/// A settings file that is about to be written.
pub struct Init {
    path: PathBuf,
    /// By the name of the setting.
    values: BTreeMap<String, String>,
}

/// A settings file that was written.
pub struct Written {
    path: PathBuf,
    config: Config,
}

impl Init {
    /// What `line` asks for.
    ///
    /// # Errors
    /// The file is there already, or cannot be made; a value cannot be used.
    pub fn new(line: &CommandLine) -> Result<Self, Failure> {
        let named = line.value(ENV_FILE).unwrap_or(DEFAULT_FILE);
        let path = std::path::absolute(named).unwrap_or_else(|_| named.into());
        check_place(&path)?;
        let token_file = path.with_file_name("token_cache.json");
        let Some(token_file) = token_file.to_str() else {
            let message = format!("The path {} is not UTF-8 text.", path.display());
            return Err(Failure::new(Kind::Configuration, message)
                .hint("Name another file with --env-file."));
        };
        let mut values = sorted::map([("TOKEN_CACHE_FILE".to_owned(), token_file.to_owned())]);
        let asked = QUESTIONS.map(|question| (question.flag, question.setting));
        for (flag, setting) in asked.into_iter().chain(LISTENING) {
            if let Some(value) = line.value(flag) {
                values.insert(setting.to_owned(), value.trim().to_owned());
            }
        }
        for setting in SIGN_IN_HOST {
            let value = env::var(setting).unwrap_or_default();
            if !value.trim().is_empty() {
                values.insert(setting.to_owned(), value.trim().to_owned());
            }
        }
        let init = Self { path, values };
        let mistakes = init.mistakes();
        if mistakes.is_empty() {
            return Ok(init);
        }
        Err(unusable(&mistakes))
    }

    /// Asks at `terminal` for what is missing, and writes the file.
    ///
    /// # Errors
    /// Something that is required is missing, and there is nobody to ask; the file cannot be
    /// written.
    pub fn write(mut self, terminal: Option<Terminal<'_>>) -> Result<Written, Failure> {
        if let Some(mut terminal) = terminal {
            self.ask(&mut terminal)?;
        }
        let missing: Vec<&str> = QUESTIONS
            .iter()
            .filter(|question| question.is_required && !self.has(question))
            .map(|question| question.flag)
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "{} must be given. Nothing was written.",
                missing.join(" and ")
            );
            return Err(Failure::new(Kind::InvalidRequest, message).hint(
                "entra-auth-mcp init asks for them at a terminal; entra-auth-mcp help init shows the flags.",
            ));
        }
        let config =
            Config::from_variables(&self.values).map_err(|mistakes| unusable(&mistakes))?;
        let text = self.text();
        if !self.is_read_back_from(&text) {
            let message = "A value cannot stand in a settings file. Nothing was written.";
            return Err(Failure::new(Kind::InvalidRequest, message)
                .hint("Leave out quotes, line breaks and '#'."));
        }
        write_new(&self.path, &text).map_err(|error| not_written(&self.path, &error))?;
        Ok(Written {
            path: self.path,
            config,
        })
    }

    fn has(&self, question: &Question) -> bool {
        self.values.contains_key(question.setting)
    }

    fn ask(&mut self, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        if !self.has(&CLIENT_ID) {
            (terminal.show)(&how_to_register(&self.redirect_uri()?));
        }
        for question in QUESTIONS {
            while !self.has(question) {
                (terminal.show)(&format!("{}: ", question.asked));
                let answer = read_line(terminal.input)?;
                if answer.is_empty() {
                    if question.is_required {
                        continue;
                    }
                    break;
                }
                self.values.insert(question.setting.to_owned(), answer);
                let mistakes = self.mistakes();
                if !mistakes.is_empty() {
                    self.values.remove(question.setting);
                    (terminal.show)(&format!("  {}\n", mistakes.join("\n  ")));
                }
            }
        }
        Ok(())
    }

    /// What is wrong with the values so far, by the rules of the settings.
    fn mistakes(&self) -> Vec<String> {
        match self.so_far() {
            Err(mistakes) => mistakes,
            Ok(config) => {
                let mut mistakes = config.placeholders();
                // A missing value is a mistake, too.
                mistakes.retain(|mistake| {
                    let setting = mistake.split(' ').next().unwrap_or_default();
                    self.values.contains_key(setting)
                });
                mistakes
            }
        }
    }

    /// The settings of the values so far, with a placeholder for what is required and not given.
    fn so_far(&self) -> Result<Config, Vec<String>> {
        let mut values = self.values.clone();
        for question in QUESTIONS {
            if question.is_required && !self.has(question) {
                values.insert(question.setting.to_owned(), PLACEHOLDER.to_owned());
            }
        }
        Config::from_variables(&values)
    }

    /// The redirect URI to register.
    fn redirect_uri(&self) -> Result<String, Failure> {
        let config = self.so_far().map_err(|mistakes| unusable(&mistakes))?;
        Ok(aadsts::registered(&config.redirect_uri.text))
    }

    /// The text of the file.
    fn text(&self) -> String {
        let mut text = "# Settings of entra-auth-mcp, written by entra-auth-mcp init. A variable of the environment wins\n\
                        # over this file. entra-auth-mcp help settings lists every setting, and entra-auth-mcp --check-config\n\
                        # shows the values in use.\n"
            .to_owned();
        for question in QUESTIONS {
            let _ = write!(text, "\n# {}\n", question.comment);
            match self.values.get(question.setting) {
                Some(value) => text += &line(question.setting, value),
                None => {
                    let _ = writeln!(text, "#{}={}", question.setting, question.example);
                }
            }
        }
        let sign_in_host = SIGN_IN_HOST.map(|setting| (setting, "Where people sign in."));
        let listening = LISTENING.map(|(_, setting)| (setting, "Where this server listens."));
        for (setting, comment) in sign_in_host.into_iter().chain(listening) {
            if let Some(value) = self.values.get(setting) {
                let _ = write!(text, "\n# {comment}\n{}", line(setting, value));
            }
        }
        if let Some(value) = self.values.get("TOKEN_CACHE_FILE") {
            text += "\n# Where the tokens are kept. Each server needs a file of its own.\n";
            text += &line("TOKEN_CACHE_FILE", value);
        }
        text
    }

    /// Whether reading `text` as a settings file gives exactly the values.
    fn is_read_back_from(&self, text: &str) -> bool {
        let Ok(variables) = env_file::parse(text) else {
            return false;
        };
        let variables = variables.into_iter();
        let read = variables.map(|variable| (variable.name, variable.value));
        sorted::map(read) == self.values
    }
}

impl Written {
    /// What was written, and how the app is registered for it.
    pub fn text(&self) -> String {
        let path = self.path.display();
        let token_file = self.config.token_cache_file.display();
        let uri = aadsts::registered(&self.config.redirect_uri.text);
        let mut text = format!(
            "{path} is written. The tokens will be kept in {token_file}.\n\n\
             The app registration needs the redirect URI and the permissions, and no secret. In\n\
             {PORTAL}, under App registrations, open the app:\n  \
             Authentication > Add a platform > Mobile and desktop applications: enter {uri}\n  \
             API permissions > Add a permission > your API > Delegated permissions: tick what CUSTOM_API_SCOPE names\n\
             The same with the Azure CLI:\n"
        );
        for command in doctor::commands(&self.config) {
            let _ = writeln!(text, "  {command}");
        }
        let id = &self.config.client_id;
        let _ = write!(
            text,
            "{}\n\
             If it lacks a permission, look up the id of the API's scope, and add it:\n  \
             az ad sp show --id API_ID --query \"oauth2PermissionScopes[].{{scope:value, id:id}}\" --output table\n  \
             az ad app permission add --id {id} --api API_ID --api-permissions SCOPE_ID=Scope\n",
            doctor::REPLACES_ALL
        );
        text
    }
}

/// How the app is registered, by hand or with the Azure CLI.
fn how_to_register(redirect_uri: &str) -> String {
    format!(
        "If the app is not registered yet, register it in {PORTAL}:\n  \
         App registrations > New registration. Redirect URI: Public client/native (mobile & desktop), {redirect_uri}\n  \
         The app's overview page then shows the two ids.\n\
         Or with the Azure CLI. The first command prints the application (client) ID:\n  \
         az ad app create --display-name \"Company API over MCP\" --sign-in-audience AzureADMyOrg \
         --public-client-redirect-uris {redirect_uri} --query appId --output tsv\n  \
         az ad sp create --id ID\n\n"
    )
}

/// How the server is started, and a client connected to it.
pub fn next_steps(written: &Written, env_file: Option<&str>) -> String {
    let config = &written.config;
    let flag = env_file.map_or_else(String::new, |path| format!(" {ENV_FILE} {path}"));
    let url = format!("{}/mcp", config.redirect_uri.base());
    let mut clients = clients::connections_text(&url, config.access_key.is_some());
    if let Ok(program) = env::current_exe() {
        clients = clients.replace(clients::PROGRAM, &quoted(&program));
    }
    let clients = clients.replace(clients::SETTINGS_FILE, &quoted(&written.path));
    format!("\nStart the server:\n  entra-auth-mcp{flag}\n\nConnect a client:\n{clients}")
}

/// `path` as JSON.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}

fn check_place(path: &Path) -> Result<(), Failure> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(not_written(path, &io::ErrorKind::AlreadyExists.into()));
    }
    let has_directory = path.parent().is_some_and(Path::is_dir);
    if has_directory {
        return Ok(());
    }
    Err(not_written(path, &io::ErrorKind::NotFound.into()))
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    let (message, hint) = match error.kind() {
        io::ErrorKind::AlreadyExists => (
            format!("{path} is there already. Nothing was changed."),
            "Edit it, or name another file with --env-file. entra-auth-mcp --check-config shows the values in use.",
        ),
        io::ErrorKind::NotFound => (
            format!("There is no directory for {path}. Nothing was written."),
            "Make the directory first, or name another file with --env-file.",
        ),
        _ => (
            format!("{path} could not be written ({error})."),
            "Choose a directory that you may write in, or name another file with --env-file.",
        ),
    };
    Failure::new(Kind::Configuration, message).hint(hint)
}

/// Writes a file that nobody else can read, and that was not there.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = os::private(options.write(true).create_new(true)).open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a file would stand in the way of the next try.
        let _ = fs::remove_file(path);
    }
    written
}

fn unusable(mistakes: &[String]) -> Failure {
    let message = format!("{}. Nothing was written.", mistakes.join("; "));
    Failure::new(Kind::InvalidRequest, message)
}

/// An answer without the white space around it.
fn read_line(input: &mut dyn BufRead) -> Result<String, Failure> {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(0) | Err(_) => {
            let message = "The input has ended. Nothing was written.";
            Err(Failure::new(Kind::InvalidRequest, message))
        }
        Ok(_) => Ok(line.trim().to_owned()),
    }
}

/// `NAME=value`, quoted only where it must be: some programs that read such files know no quotes.
fn line(name: &str, value: &str) -> String {
    let is_plain = !value.starts_with(['\'', '"', '#']) && !value.contains(" #");
    if is_plain {
        format!("{name}={value}\n")
    } else {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{escaped}\"\n")
    }
}
