//! What the program can be asked to do: the one list of verbs, and how arguments are read.

use std::collections::BTreeMap;

use crate::spelling::nearest;

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Run the server.
    Serve,
    /// Carry the messages of a client that starts programs.
    Stdio,
    /// Write a settings file.
    Init,
    /// Sign a person in.
    Login,
    /// Forget the tokens of an account.
    Logout,
    /// Show who is signed in.
    Status,
    /// Find what is wrong.
    Doctor,
    /// Show the tools.
    Tools,
    /// Check the settings.
    CheckConfig,
    /// Show what there is, or how a verb is used.
    Help,
    /// Show the version.
    Version,
}

/// A flag of the command line.
pub struct Flag {
    /// With its dashes.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// What it does, in a few words.
    pub meaning: &'static str,
}

/// How one verb is used.
pub struct Usage {
    /// What it is about.
    pub verb: Verb,
    /// The verb as it is written; the first name is the one that is shown.
    pub names: &'static [&'static str],
    /// What the word behind it is called, if it takes one.
    pub operand: Option<&'static str>,
    /// Its flags, beside [`COMMON_FLAGS`].
    pub flags: &'static [Flag],
    /// What it does, in a few words.
    pub summary: &'static str,
    /// What else there is to know of it.
    pub details: &'static str,
}

impl Usage {
    /// The name that is shown.
    pub fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// Whether it reads the settings, and so takes the flags that are about them.
    pub fn reads_settings(&self) -> bool {
        !matches!(self.verb, Verb::Help | Verb::Version)
    }

    /// Every flag that it takes.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> {
        let common: &[Flag] = if self.reads_settings() {
            COMMON_FLAGS
        } else {
            &[]
        };
        self.flags.iter().chain(common)
    }
}

const fn switch(name: &'static str, meaning: &'static str) -> Flag {
    Flag {
        name,
        value: None,
        meaning,
    }
}

const fn valued(name: &'static str, value: &'static str, meaning: &'static str) -> Flag {
    Flag {
        name,
        value: Some(value),
        meaning,
    }
}

/// Names the settings file.
pub const ENV_FILE: &str = "--env-file";
/// Where to listen.
pub const HOST: &str = "--host";
/// At which port to listen.
pub const PORT: &str = "--port";
/// Asks for JSON.
pub const JSON: &str = "--json";
/// Asks for a device code.
pub const DEVICE_CODE: &str = "--device-code";

/// Where to look for what there is.
pub const OVERVIEW: &str = "entra-auth-mcp --help shows what there is.";

/// The flags of every verb that reads the settings.
pub const COMMON_FLAGS: &[Flag] = &[
    valued(
        ENV_FILE,
        "PATH",
        "read the settings from PATH instead of .env; the environment overrides the file",
    ),
    valued(HOST, "HOST", "listen at HOST, whatever SERVER_HOST says"),
    valued(PORT, "PORT", "listen at PORT, whatever SERVER_PORT says"),
];

/// Every verb, in the order of `help`.
pub const VERBS: &[Usage] = &[
    Usage {
        verb: Verb::Serve,
        names: &["serve"],
        operand: None,
        flags: &[],
        summary: "run the server; also without a verb",
        details: "Prints the address of the MCP endpoint and of the start page when it is ready. Ctrl-C or \
                  SIGTERM ends it.",
    },
    Usage {
        verb: Verb::Stdio,
        names: &["stdio"],
        operand: None,
        flags: &[],
        summary: "run for a client that starts programs: MCP over standard input and output",
        details: "Programs that are started so share one token file: one of them is the server. The client \
                  chooses the working directory, so every path in the settings must be a whole one, and no \
                  .env is read but the file that --env-file names.",
    },
    Usage {
        verb: Verb::Init,
        names: &["init"],
        operand: None,
        flags: &[
            valued(
                "--tenant",
                "TENANT",
                "the \"Directory (tenant) ID\" on the overview page of the app registration, or a domain name of \
                 the tenant (AZURE_TENANT_ID)",
            ),
            valued(
                "--client-id",
                "ID",
                "the \"Application (client) ID\" on the same page (AZURE_CLIENT_ID)",
            ),
            valued(
                "--api",
                "URL",
                "the address of the API, such as https://graph.microsoft.com/v1.0 (BACKEND_API_BASE_URL)",
            ),
            valued(
                "--scope",
                "SCOPES",
                "the permissions to ask for, all in one pair of quotes, such as \"User.Read Mail.Read\" \
                 (CUSTOM_API_SCOPE)",
            ),
        ],
        summary: "write a settings file, and say how to register the app and connect a client",
        details: "At a terminal, it asks for the values that no flag gives. It writes .env, or the file that \
                  --env-file names, but never overwrites a file; AZURE_CLOUD or AZURE_AUTHORITY_HOST of \
                  the environment is written, too. Then it shows what the app registration needs, runs \
                  doctor, and shows how to connect a client. It exits with 1 if doctor finds a failure.",
    },
    Usage {
        verb: Verb::Login,
        names: &["login"],
        operand: Some("USER"),
        flags: &[switch(
            DEVICE_CODE,
            "sign in with a code that is entered on any device, instead of in a browser here",
        )],
        summary: "sign in; USER is your own label for the account, needed only if you use several",
        details: "Opens the link in a browser, prints it, and waits until you have signed in. Without USER, it signs \
                  in the only account again, or an account that is called \"default\".",
    },
    Usage {
        verb: Verb::Logout,
        names: &["logout"],
        operand: Some("USER"),
        flags: &[],
        summary: "forget the tokens of USER, or of the only signed-in account",
        details: "Prints the link that ends the browser's own session with Microsoft.",
    },
    Usage {
        verb: Verb::Status,
        names: &["status"],
        operand: None,
        flags: &[switch(JSON, "the same as JSON")],
        summary: "show who is signed in, in which token file, and whether a server is running",
        details: "Exits with 1 if nobody is signed in.",
    },
    Usage {
        verb: Verb::Doctor,
        names: &["doctor"],
        operand: None,
        flags: &[switch(JSON, "the same as JSON")],
        summary: "find what is wrong: settings, token file, network, app registration",
        details: "Sends no token and changes nothing. Exits with 0, with 1 after warnings, or with 2 after \
                  failures.",
    },
    Usage {
        verb: Verb::Tools,
        names: &["tools"],
        operand: None,
        flags: &[switch(JSON, "the same as JSON")],
        summary: "show the tools, what they cost a client's context, and which operations are skipped",
        details: "Needs no network and no sign-in. The operations are those of OPENAPI_FILE, each with the \
                  reason why it is skipped.",
    },
    Usage {
        verb: Verb::CheckConfig,
        names: &["--check-config"],
        operand: None,
        flags: &[],
        summary: "check the settings, and show each value and where it comes from",
        details: "Needs no network. Exits with 2 if the settings cannot be used, and with 1 if the server \
                  could not start with them, because a file or directory is not to be had.",
    },
    Usage {
        verb: Verb::Help,
        names: &["help", "--help", "-h"],
        operand: Some("TOPIC"),
        flags: &[],
        summary: "show the overview, how a verb is used, or a topic of the manual",
        details: "",
    },
    Usage {
        verb: Verb::Version,
        names: &["version", "--version", "-V"],
        operand: None,
        flags: &[],
        summary: "show the version",
        details: "",
    },
];

/// The verb that is written as `name`.
pub fn usage_of(name: &str) -> Option<&'static Usage> {
    VERBS.iter().find(|usage| usage.names.contains(&name))
}

/// What was asked for.
pub struct CommandLine {
    /// `serve` where no verb is given.
    pub verb: Verb,
    /// The word behind the verb.
    pub operand: Option<String>,
    switches: Vec<&'static str>,
    values: BTreeMap<&'static str, String>,
}

impl CommandLine {
    /// Reads `arguments`, which come without the program's own name.
    ///
    /// # Errors
    /// They mean nothing; says why, and what may be meant.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut reader = Reader {
            usage: None,
            operand: None,
            switches: Vec::new(),
            values: BTreeMap::new(),
            wants_help: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            reader.take(&argument, &mut arguments)?;
        }
        Ok(reader.command_line())
    }

    /// Whether the switch `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.switches.contains(&name)
    }

    /// The value of the flag `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// The arguments so far.
struct Reader {
    usage: Option<&'static Usage>,
    operand: Option<String>,
    switches: Vec<&'static str>,
    values: BTreeMap<&'static str, String>,
    wants_help: bool,
}

impl Reader {
    /// Takes one more `argument`; the value of a flag may be the one behind it.
    fn take(
        &mut self,
        argument: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        if matches!(argument, "--help" | "-h") {
            self.wants_help = true;
            return Ok(());
        }
        if self.usage.is_none()
            && let Some(usage) = usage_of(argument)
        {
            self.usage = Some(usage);
            return Ok(());
        }
        // A verb may be written as a flag, and be what help is asked for.
        let is_topic = self.asks_for_help() && usage_of(argument).is_some();
        if argument.starts_with('-') && !is_topic {
            return self.take_flag(argument, rest);
        }
        match self.usage {
            None => Err(unknown_verb(argument)),
            Some(usage) if usage.operand.is_some() && self.operand.is_none() => {
                self.operand = Some(argument.to_owned());
                Ok(())
            }
            Some(usage) => Err(format!(
                "{argument:?} is one word too many. {}",
                see(usage.name())
            )),
        }
    }

    fn asks_for_help(&self) -> bool {
        self.usage.is_some_and(|usage| usage.verb == Verb::Help)
    }

    fn take_flag(
        &mut self,
        argument: &str,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), String> {
        let (name, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument, None),
        };
        let mut flags = flags_of(self.usage);
        let Some(flag) = flags.find(|flag| flag.name == name) else {
            return Err(unknown_flag(name, self.usage));
        };
        match (flag.value, joined) {
            (None, None) => self.switches.push(flag.name),
            (None, Some(_)) => return Err(format!("{name} takes no value.")),
            (Some(called), joined) => {
                let value = joined.or_else(|| rest.next()).unwrap_or_default();
                if value.trim().is_empty() {
                    return Err(format!("{name} needs a value: {name} {called}"));
                }
                self.values.insert(flag.name, value);
            }
        }
        Ok(())
    }

    fn command_line(self) -> CommandLine {
        let verb = self.usage.map_or(Verb::Serve, |usage| usage.verb);
        let (verb, operand) = match (self.wants_help, self.usage) {
            (false, _) => (verb, self.operand),
            // `--help VERB` and `help VERB` are the same.
            (true, Some(usage)) if usage.verb == Verb::Help => (verb, self.operand),
            (true, usage) => (Verb::Help, usage.map(|usage| usage.name().to_owned())),
        };
        CommandLine {
            verb,
            operand,
            switches: self.switches,
            values: self.values,
        }
    }
}

/// The flags that may come behind the verb of `usage`, or where no verb has come yet.
fn flags_of(usage: Option<&'static Usage>) -> impl Iterator<Item = &'static Flag> {
    let own = usage.map(Usage::all_flags);
    let common: &[Flag] = if usage.is_none() { COMMON_FLAGS } else { &[] };
    own.into_iter().flatten().chain(common)
}

fn unknown_flag(name: &str, usage: Option<&'static Usage>) -> String {
    let mut known: Vec<&str> = flags_of(usage).map(|flag| flag.name).collect();
    let Some(usage) = usage else {
        known.extend(names_of_verbs());
        return format!(
            "There is no flag {name:?}.{} {OVERVIEW}",
            did_you_mean(name, &known)
        );
    };
    known.push("--help");
    format!(
        "{} has no flag {name:?}.{} {}",
        usage.name(),
        did_you_mean(name, &known),
        see(usage.name())
    )
}

fn names_of_verbs() -> impl Iterator<Item = &'static str> {
    VERBS.iter().flat_map(|usage| usage.names.iter().copied())
}

fn unknown_verb(word: &str) -> String {
    let known: Vec<&str> = names_of_verbs().collect();
    format!(
        "There is no verb {word:?}.{} {OVERVIEW}",
        did_you_mean(word, &known)
    )
}

/// Which of the `known` names may be meant by `word`, with a space before it; empty if none is
/// near.
pub fn did_you_mean(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!(" Did you mean {near}?"),
        None => String::new(),
    }
}

fn see(verb: &str) -> String {
    format!("entra-auth-mcp {verb} --help shows how it is used.")
}
