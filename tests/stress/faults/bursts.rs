//! Crowds of calls at the moment when the tokens expire.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::server;
use crate::support::backend::Backend;
use crate::support::entra::{Entra, TENANT_ID, User};
use crate::support::server::{Process, Setup};

const CALLS: usize = 200;
const ACCOUNTS: usize = 5;

pub fn run(rounds: usize) -> String {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend)).with("LOG_LEVEL", "warn");
    let users: Vec<_> = (0..ACCOUNTS)
        .map(|number| format!("user{number}@contoso.example"))
        .collect();
    entra.set(|settings| {
        let user = |(number, name): (usize, &String)| {
            User::new(
                &format!("0a1b2c3d-6666-4aaa-8bbb-00000000000{number}"),
                TENANT_ID,
                name,
                "One of Five",
            )
        };
        settings.users.extend(users.iter().enumerate().map(user));
    });
    let process = Process::start(server(), &setup);
    let mut slowest = 0.0_f64;
    for round in 1..=rounds {
        // What they sign in with has expired at once; what they get then has not.
        entra.expires_in(0);
        for user in &users {
            let mut mcp = process.modern();
            mcp.result(
                "tools/call",
                json!({"name": "logout_user", "arguments": {"user_id": user}}),
            );
            mcp.sign_in(user);
        }
        entra.expires_in(3900);
        let start = Barrier::new(CALLS + 1);
        thread::scope(|scope| {
            let calls: Vec<_> = (0..CALLS)
                .map(|number| {
                    let mut mcp = process.modern();
                    let user = &users[number % ACCOUNTS];
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        let me = mcp.ok(
                            "api_get_request",
                            json!({"endpoint": "/me", "user_id": user}),
                        );
                        assert_eq!(me["data"]["userPrincipalName"], user.as_str());
                    })
                })
                .collect();
            start.wait();
            let begun = Instant::now();
            for call in calls {
                call.join().unwrap();
            }
            slowest = slowest.max(begun.elapsed().as_secs_f64());
        });
        assert_eq!(
            (entra.refreshes(), entra.reused_refresh_tokens()),
            (ACCOUNTS * round, 0),
            "round {round}"
        );
    }
    format!(
        "{rounds} times {CALLS} calls of {ACCOUNTS} accounts: {ACCOUNTS} refreshes each, none failed, slowest {slowest:.2} s"
    )
}
