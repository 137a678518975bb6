//! How MCP clients are connected: one row for each, with and without an access key.

use std::fmt::Write as _;

/// How one client is connected.
#[derive(Debug)]
pub struct Connection {
    /// Its name.
    pub client: &'static str,
    /// Where the text belongs: what comes behind "in".
    pub place: &'static str,
    /// A command, or a piece of a file.
    pub text: String,
    /// What else to know.
    pub note: Option<&'static str>,
}

struct Row {
    client: &'static str,
    place: &'static str,
    /// `URL` stands for the address of the endpoint. With a key, a client reads it from a variable
    /// where it can, so that the key stands in no file.
    text: &'static str,
    text_with_key: &'static str,
    note: Option<&'static str>,
    note_with_key: Option<&'static str>,
}

const FROM_VARIABLE: Option<&str> = Some("It reads the key from the variable COMPANY_API_KEY.");
const COMMAND: &str = "a terminal";
/// A program that the client starts. It is the server, or finds the one that runs.
/// The paths stand for those of this machine.
const STARTED: &str = r#"{ "mcpServers": { "company-api": { "command": "/path/to/entra-auth-mcp", "args": ["stdio", "--env-file", "/path/to/.env"] } } }"#;

const ROWS: &[Row] = &[
    Row {
        client: "VS Code",
        place: ".vscode/mcp.json",
        text: r#"{ "servers": { "company-api": { "type": "http", "url": "URL" } } }"#,
        text_with_key: r#"{ "inputs": [ { "type": "promptString", "id": "company-api-key", "description": "Access key", "password": true } ], "servers": { "company-api": { "type": "http", "url": "URL", "headers": { "Authorization": "Bearer ${input:company-api-key}" } } } }"#,
        note: None,
        note_with_key: Some("It asks for the key and keeps it."),
    },
    Row {
        client: "Claude Code",
        place: COMMAND,
        text: "claude mcp add --transport http company-api URL",
        text_with_key: "claude mcp add --transport http company-api URL --header 'Authorization: Bearer ${COMPANY_API_KEY}'",
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "Cursor",
        place: ".cursor/mcp.json",
        text: r#"{ "mcpServers": { "company-api": { "url": "URL" } } }"#,
        text_with_key: r#"{ "mcpServers": { "company-api": { "url": "URL", "headers": { "Authorization": "Bearer ${env:COMPANY_API_KEY}" } } } }"#,
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "Claude Desktop",
        place: "claude_desktop_config.json",
        text: STARTED,
        text_with_key: STARTED,
        note: Some("It starts the program, as its own connectors cannot reach this machine."),
        note_with_key: Some("It starts the program, which has the key from its settings."),
    },
    Row {
        client: "Codex",
        place: COMMAND,
        text: "codex mcp add company-api --url URL",
        text_with_key: "codex mcp add company-api --url URL --bearer-token-env-var COMPANY_API_KEY",
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "Copilot CLI",
        place: COMMAND,
        text: "copilot mcp add --transport http company-api URL",
        text_with_key: "copilot mcp add --transport http company-api URL --header 'Authorization: Bearer ${COMPANY_API_KEY}'",
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "Gemini CLI",
        place: COMMAND,
        text: "gemini mcp add --scope user --transport http company-api URL",
        text_with_key: "gemini mcp add --scope user --transport http company-api URL --header 'Authorization: Bearer ${COMPANY_API_KEY}'",
        note: Some("It connects to no server in a folder that it does not trust."),
        note_with_key: Some(
            "It reads the key from the variable COMPANY_API_KEY. It connects to no server in a folder that it does not trust.",
        ),
    },
    Row {
        client: "Qwen Code",
        place: COMMAND,
        text: "qwen mcp add --transport http company-api URL",
        text_with_key: "qwen mcp add --transport http company-api URL --header 'Authorization: Bearer ${COMPANY_API_KEY}'",
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "opencode",
        place: COMMAND,
        text: "opencode mcp add company-api --url URL",
        text_with_key: "opencode mcp add company-api --url URL --header 'Authorization=Bearer {env:COMPANY_API_KEY}'",
        note: None,
        note_with_key: FROM_VARIABLE,
    },
    Row {
        client: "MCP Inspector",
        place: COMMAND,
        text: "npx @modelcontextprotocol/inspector --transport http --server-url URL",
        text_with_key: "npx @modelcontextprotocol/inspector",
        note: Some("It needs Node.js 22.19 or newer."),
        note_with_key: Some(
            "It needs Node.js 22.19 or newer. Add a server by hand with the transport streamable-http and the address of the endpoint. In its settings, under Custom Headers, enter Authorization with Bearer and the key.",
        ),
    },
];

/// How each client is connected to the endpoint at `url`; with the header of the access key where
/// there `is` one. The key itself is not known here.
pub fn connections(url: &str, has_key: bool) -> Vec<Connection> {
    let mut connections = Vec::new();
    for row in ROWS {
        let (text, note) = if has_key {
            (row.text_with_key, row.note_with_key)
        } else {
            (row.text, row.note)
        };
        connections.push(Connection {
            client: row.client,
            place: row.place,
            text: text.replace("URL", url),
            note,
        });
    }
    connections
}

/// In [`connections_text`], the path of this program as JSON.
pub const PROGRAM: &str = "\"/path/to/entra-auth-mcp\"";
/// In [`connections_text`], the path of the settings file as JSON.
pub const SETTINGS_FILE: &str = "\"/path/to/.env\"";

/// The same as text for a terminal.
pub fn connections_text(url: &str, has_key: bool) -> String {
    let mut text = String::new();
    for connection in connections(url, has_key) {
        let Connection {
            client,
            place,
            text: command,
            note,
        } = connection;
        // Writing into memory cannot fail.
        let _ = write!(text, "  {client}, in {place}:\n    {command}\n");
        if let Some(note) = note {
            let _ = writeln!(text, "    ({note})");
        }
    }
    text
}
