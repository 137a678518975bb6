//! The main job without a tenant: the server, a stand-in for Entra with a sign-in page, and a sample
//! API, all on this machine. `cargo run --example demo`; Ctrl-C ends it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod events;

use std::time::Duration;

use entra_auth_mcp::clients;
use entra_auth_mcp::os::Signals;
use support::backend::Backend;
use support::entra::{ADA, Entra, TENANT_ID, User};
use support::server::{Running, Setup, TempDir};

/// The port of the README's examples; where it is taken, a free one serves.
const PORT: &str = "8000";

/// What the sample API says of itself.
const DESCRIPTION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/demo/sample.openapi.json"
);

/// Somebody whom Entra turns away after the account was picked.
const CAROL: &str = "carol@contoso.example";
const CAROL_OID: &str = "0a1b2c3d-5555-4aaa-8bbb-000000000005";
const BLOCKED: &str = "Access has been blocked by Conditional Access policies.";

fn main() {
    println!("Starting the server, a stand-in for Entra and a sample API on this machine.");
    let mut signals = Signals::register(false).expect("signals can be waited for");
    let entra = Entra::start_lenient();
    entra.set(|settings| {
        settings
            .users
            .push(User::new(CAROL_OID, TENANT_ID, CAROL, "Carol Blocked"));
        settings.fail_authorize = Some(("access_denied", 53003, BLOCKED));
        settings.fail_only = Some(CAROL_OID);
        // So that /cae is seen to need a sign-in.
        settings.interaction_for_claims = true;
    });
    let backend = Backend::start_for(&entra);
    let directory = TempDir::new();
    let audit_log = directory.file("audit.jsonl");
    let audit_log_path = audit_log.to_str().expect("the path is UTF-8 text");
    let setup = || {
        let setup = Setup::new(&entra, Some(&backend))
            .with("LOG_LEVEL", "info")
            .with("AUDIT_LOG", audit_log_path)
            .with("OPENAPI_FILE", DESCRIPTION)
            .with("ALLOW_DEVICE_CODE", "true");
        // Whoever watches a call wait for a sign-in sees soon that it does.
        setup.limits(|limits| limits.keep_alive = Duration::from_secs(1))
    };
    let server = match setup().with("SERVER_PORT", PORT).try_start() {
        Ok(server) => server,
        Err(failure) => {
            let why = failure.message;
            println!("{why} So the demo takes a free port: use the addresses below.");
            setup().start()
        }
    };
    print!("{}", welcome(&server, &entra, &backend));
    events::print_from(&audit_log);
    signals.wait();
}

fn welcome(server: &Running, entra: &Entra, backend: &Backend) -> String {
    let url = server.url();
    let entra = entra.authority_host();
    let backend = backend.url();
    let connections = clients::connections_text(&format!("{url}/mcp"), false);
    format!(
        r#"
entra-auth-mcp, on stand-ins: nothing here is real, and nothing leaves this machine.

  MCP endpoint   {url}/mcp
  Start page     {url}/
  Sign in        {url}/auth/login?user_id={ADA}
  Entra          {entra}   (a stand-in with a sign-in page; device codes: {entra}/device)
  API            {backend}   (a sample: /me, /me/messages, /tasks, /photo, /report.csv)
  Its operations are tools: getMe, listMessages, createTask and others (OPENAPI_FILE)

Connect one of these clients (not Claude Desktop, which would start a server of its own):

{connections}
Then ask it: "Who am I, according to the company API?" It will ask you to sign in first.
Ask it for GET /cae to see a second sign-in: there, the API demands more than the first one gave.
Sign in as Carol to see a sign-in that is refused.
Ctrl-C ends the demo and forgets everything. Until then, each sign-in and each call gets a line here:

"#
    )
}
