//! The manual, which is part of the program: what `help TOPIC` prints.

use crate::config::SETTINGS;
use crate::text;

/// One text of the manual.
pub struct Topic {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub title: &'static str,
    text: Text,
}

enum Text {
    Written(&'static str),
    /// Printed from the table of settings.
    Settings,
}

const fn topic(name: &'static str, title: &'static str, text: &'static str) -> Topic {
    Topic {
        name,
        title,
        text: Text::Written(text),
    }
}

/// Every topic, in the order in which a new user meets them; then the recipes, which are files to
/// be used as they are.
pub const TOPICS: &[Topic] = &[
    topic(
        "registration",
        "register the app in Entra, by hand or with the Azure CLI",
        include_str!("manual/registration.md"),
    ),
    Topic {
        name: "settings",
        title: "every setting, its default and its meaning",
        text: Text::Settings,
    },
    topic(
        "clients",
        "connect each client, with an access key and without",
        include_str!("manual/clients.md"),
    ),
    topic(
        "sign-in",
        "how a sign-in goes, also where there is no browser beside the server",
        include_str!("manual/sign-in.md"),
    ),
    topic(
        "terminal",
        "login, logout and status",
        include_str!("manual/terminal.md"),
    ),
    topic(
        "tools",
        "the tools, their arguments and their results",
        include_str!("manual/tools.md"),
    ),
    topic(
        "operations",
        "the API's own description: its operations as tools",
        include_str!("manual/operations.md"),
    ),
    topic(
        "policies",
        "which methods and endpoints may be called",
        include_str!("manual/policies.md"),
    ),
    topic(
        "endpoints",
        "the HTTP endpoints of the server",
        include_str!("manual/endpoints.md"),
    ),
    topic(
        "token-file",
        "where the tokens are, and who owns the file",
        include_str!("manual/token-file.md"),
    ),
    topic(
        "audit-log",
        "what it records, and what is guaranteed",
        include_str!("manual/audit-log.md"),
    ),
    topic(
        "troubleshooting",
        "the doctor, Entra's error codes, symptoms",
        include_str!("manual/troubleshooting.md"),
    ),
    topic(
        "administration",
        "hosts, ports, files, rights, log; how to remove it",
        include_str!("manual/administration.md"),
    ),
    topic(
        "service",
        "run it all the time: systemd, containers, macOS, Windows",
        include_str!("manual/service.md"),
    ),
    topic(
        "proxies",
        "what reverse proxies need",
        include_str!("manual/proxies.md"),
    ),
    topic(
        "upgrade",
        "to a newer version; from version 0.1.0 and back; from the Python server",
        include_str!("manual/upgrade.md"),
    ),
    topic(
        "source",
        "where to read in the source, and why each dependency",
        include_str!("manual/source.md"),
    ),
    topic(
        "measurements",
        "speed, memory and size, beside others",
        include_str!("manual/measurements.md"),
    ),
    topic(
        "entra-auth-mcp.service",
        "a recipe: the systemd unit",
        include_str!("manual/recipes/entra-auth-mcp.service"),
    ),
    topic(
        "entra-auth-mcp@.service",
        "a recipe: the systemd unit for several people, one server for each",
        include_str!("manual/recipes/entra-auth-mcp@.service"),
    ),
    topic(
        "Dockerfile",
        "a recipe: a container",
        include_str!("manual/recipes/Dockerfile"),
    ),
    topic(
        "entra-auth-mcp.plist",
        "a recipe: an agent of launchd",
        include_str!("manual/recipes/entra-auth-mcp.plist"),
    ),
    topic(
        "scheduled-task.ps1",
        "a recipe: the Task Scheduler of Windows",
        include_str!("manual/recipes/scheduled-task.ps1"),
    ),
];

impl Topic {
    /// What is printed.
    pub fn text(&self) -> String {
        match self.text {
            Text::Written(text) => text.to_owned(),
            Text::Settings => settings(),
        }
    }
}

/// The table of settings, for a terminal.
fn settings() -> String {
    let mut paragraphs = vec![
        "# Settings\n\n\
        They come from the environment and from `.env`. The environment overrides the file, and\n\
        an empty value counts as not set. The server warns about names that look misspelt, and\n\
        about those in the file that are no settings.\n"
            .to_owned(),
    ];
    for setting in SETTINGS {
        let default = match setting.default {
            Some(default) => format!(" (default: {default})"),
            None => String::new(),
        };
        let detail = text::wrapped(setting.detail, 96).join("\n    ");
        let name = setting.name;
        paragraphs.push(format!("{name}{default}\n    {detail}\n"));
    }
    paragraphs.join("\n")
}
