//! The whole story, once per era: discover or initialize, list, call without a sign-in, sign in as a
//! browser would, call, expire, refresh, restart, call, sign out.

use crate::support::backend::Backend;
use crate::support::browser::Browser;
use crate::support::entra::{ADA, Entra};
use crate::support::server::{Mcp, Running, Setup};
use serde_json::json;

fn story(connect: impl Fn(&Running) -> Mcp) {
    let entra = Entra::start();
    let backend = Backend::start_for(&entra);
    let setup = Setup::new(&entra, Some(&backend));
    let server = setup.start();
    let mut mcp = connect(&server);

    let tools = mcp.result("tools/list", json!({}));
    assert_eq!(tools["tools"].as_array().unwrap().len(), 11);

    // Nobody is signed in: the call says so and gives the link.
    let refused = mcp.fails("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(refused["error"], "sign_in_required");
    assert!(
        refused["sign_in_url"]
            .as_str()
            .unwrap()
            .starts_with(&server.url())
    );
    assert!(backend.requests().is_empty());

    // The person signs in, in a browser.
    let begun = mcp.ok("authenticate_user", json!({"user_id": ADA}));
    assert_eq!(begun["sign_in_url"], begun["auth_url"]);
    let mut browser = Browser::new();
    let page = browser.sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("You are signed in"), "{}", page.text());
    assert!(
        browser.history.iter().all(|url| !url.contains("code=")),
        "{:?}",
        browser.history
    );

    let status = mcp.ok(
        "check_auth_status",
        json!({"user_id": ADA, "wait_seconds": 1}),
    );
    assert_eq!(
        (&status["authenticated"], &status["can_refresh"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(mcp.ok("view_userid", json!({}))["user_id"], ADA);

    // The call goes through, as that person.
    let me = mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(
        (&me["status"], &me["data"]["userPrincipalName"]),
        (&json!(200), &json!(ADA))
    );
    let first = backend.last().header("authorization").unwrap().to_owned();

    // The token expires and is refreshed.
    server.clock.advance(4000);
    entra.advance(4000);
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(entra.refreshes(), 1);
    assert_ne!(backend.last().header("authorization").unwrap(), first);

    // The server is started anew and still knows the person.
    drop(server);
    let server = setup.start();
    let mut mcp = connect(&server);
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(entra.refreshes(), 1);
    server.clock.advance(4000);
    entra.advance(4000);
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!((entra.refreshes(), entra.reused_refresh_tokens()), (2, 0));

    // Signing out forgets it all.
    let gone = mcp.ok("logout_user", json!({"user_id": ADA}));
    assert!(
        gone["logout_url"]
            .as_str()
            .unwrap()
            .ends_with("/oauth2/v2.0/logout")
    );
    assert_eq!(
        mcp.fails("api_get_request", json!({"endpoint": "/me"}))["error"],
        "sign_in_required"
    );
    let file = std::fs::read_to_string(server.token_file()).unwrap();
    assert!(!file.contains("RT-") && !file.contains("AT-"), "{file}");
}

#[test]
fn in_2026_07_28() {
    story(Running::modern);
}

#[test]
fn in_2025_11_25() {
    story(|server| server.legacy("2025-11-25"));
}

#[test]
fn in_2025_06_18() {
    story(|server| server.legacy("2025-06-18"));
}

#[test]
fn in_2025_03_26() {
    story(|server| server.legacy("2025-03-26"));
}
