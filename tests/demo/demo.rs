//! The main job without a tenant: the server, a stand-in for Entra with a sign-in page, and a sample
//! API, all on this machine. `cargo run --example demo`; Ctrl-C ends it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use entra_auth_mcp::os::StopSignals;
use support::backend::Backend;
use support::entra::{ADA, Entra};
use support::server::{Running, Setup};

/// The port of the README's examples; where it is taken, a free one serves.
const PORT: &str = "8000";

fn main() {
    let mut signals = StopSignals::register().expect("signals can be waited for");
    let entra = Entra::start_lenient();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend)).with("LOG_LEVEL", "info");
    let server = match setup.with("SERVER_PORT", PORT).try_start() {
        Ok(server) => server,
        Err(_) => Setup::new(&entra, Some(&backend)).start(),
    };
    print!("{}", welcome(&server, &entra, &backend));
    signals.wait();
}

fn welcome(server: &Running, entra: &Entra, backend: &Backend) -> String {
    let (url, entra, backend) = (server.url(), entra.authority_host(), backend.url());
    format!(
        r#"
entra-auth-mcp, on stand-ins: nothing here is real, and nothing leaves this machine.

  MCP endpoint   {url}/mcp
  Start page     {url}/
  Sign in        {url}/auth/login?user_id={ADA}
  Entra          {entra}   (a stand-in with a sign-in page)
  API            {backend}   (a sample: /me, /me/messages, /tasks, /photo, /report.csv)

Connect a client:

  VS Code, .vscode/mcp.json
    {{ "servers": {{ "company-api": {{ "type": "http", "url": "{url}/mcp" }} }} }}

  Claude Code
    claude mcp add --transport http company-api {url}/mcp

  Cursor, .cursor/mcp.json
    {{ "mcpServers": {{ "company-api": {{ "url": "{url}/mcp" }} }} }}

Then ask it: "Who am I, according to the company API?" It will ask you to sign in first.
Ctrl-C ends the demo and forgets everything.
"#
    )
}
