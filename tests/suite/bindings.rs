//! What an account belongs to: one application, one authority and one tenant; and who it is. Tokens of one are never
//! sent to another, whatever becomes of the settings, the token file and Entra's answers.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::browser::Browser;
use crate::support::entra::{
    ADA, ADA_OID, Entra, GRACE, GRACE_OID, OTHER_TENANT_ID, TENANT_ID, TokenFailure,
};
use crate::support::server::{Process, Running, Setup, World};
use crate::support::{encode_pairs, value_of};
use serde_json::{Value, json};

const OTHER_CLIENT_ID: &str = "5d2e8c1f-7b64-4d0a-9c3e-6f1a2b8d4e70";
/// As long as an access token lives.
const EXPIRED: u64 = 3950;

fn of_ada() -> Value {
    json!({"endpoint": "/me", "user_id": ADA})
}

impl World {
    /// A call of Ada's that goes through.
    fn serves_ada(&self) {
        let me = self.server.modern().ok("api_get_request", of_ada());
        assert_eq!(me["data"]["userPrincipalName"], ADA);
    }

    /// A call of Ada's that needs a sign-in, for which nothing is sent to the API.
    fn wants_ada(&self) -> Value {
        let calls = self.backend.requests().len();
        let refused = self.server.modern().fails("api_get_request", of_ada());
        assert_eq!(refused["error"], "sign_in_required", "{refused}");
        assert_eq!(self.backend.requests().len(), calls);
        refused
    }
}

fn sign_in(server: &Running, user_id: &str, username: &str) -> u16 {
    let query = encode_pairs(&[("user_id", user_id)]);
    let login = format!("{}/auth/login?{query}", server.url());
    Browser::new().sign_in(&login, username).status
}

fn status(server: &Running, user_id: &str) -> Value {
    let arguments = json!({"user_id": user_id});
    server.modern().ok("check_auth_status", arguments)
}

fn says_signed_in(server: &Running, user_id: &str) -> bool {
    let arguments = json!({"user_id": user_id});
    let answer = server.modern().ok("authenticate_user", arguments);
    answer["already_signed_in"] == true
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// The path of the only file beside the token file whose name says that it was `reason`.
fn kept(setup: &Setup, reason: &str) -> std::path::PathBuf {
    let start = format!("token_cache.json.{reason}-");
    let entries = fs::read_dir(&setup.directory.0).unwrap();
    let mut kept = entries.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&start)
    });
    let path = kept.next().expect("a file is kept");
    assert!(kept.next().is_none(), "it is kept once");
    path
}

// ---- One owner ----

// Issue 13 §1
#[test]
fn a_second_server_on_one_token_file_does_not_start_and_says_whose_it_is() {
    let world = World::signed_in();
    let before = world.setup.stored();
    let failure = world.setup.try_start().err().expect("a refusal").text();
    for part in [
        world.setup.token_file().to_str().unwrap(),
        &format!("http://{}", world.server.address()),
        &format!("process {}", std::process::id()),
        "TOKEN_CACHE_FILE of its own",
    ] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    // The first one is none the worse.
    world.serves_ada();
    assert_eq!(world.setup.stored(), before);
}

#[test]
fn a_server_that_starts_while_the_last_one_stops_waits_for_it() {
    let World {
        server,
        setup,
        backend: _backend,
        entra: _entra,
    } = World::signed_in();
    let next = thread::scope(|scope| {
        let next = scope.spawn(|| setup.start());
        drop(server);
        next.join().unwrap()
    });
    assert_eq!(status(&next, ADA)["authenticated"], true);
}

// ---- Older files ----

/// As version 0.1.0 writes it.
fn version_1(account: &Value) -> Value {
    let mut ada = account.clone();
    let members = ada.as_object_mut().unwrap();
    for name in ["user_id", "authority", "tenant"] {
        members.remove(name);
    }
    members.insert("extra_scope".to_owned(), json!(""));
    let mut of_another_application = ada.clone();
    of_another_application["client_id"] = json!(OTHER_CLIENT_ID);
    // Once taken over from the Python server, and not refreshed since.
    let mut of_python = ada.clone();
    of_python["tid"] = json!("");
    of_python["oid"] = json!("");
    json!({"version": 1, "accounts": {
        ADA: ada, "other": of_another_application, "python": of_python,
    }})
}

// Issue 13 §1
#[test]
fn a_file_of_version_1_is_converted_and_kept_and_the_log_says_how_to_go_back() {
    let (setup, backend, entra) = World::signed_in().stop();
    let before = setup.stored_account(ADA);
    let old = version_1(&before).to_string();
    fs::write(setup.token_file(), &old).unwrap();

    let process = Process::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
    assert_eq!(setup.stored()["version"], 2);
    assert_eq!(setup.stored_account(ADA), before);
    let other = setup.stored_account("other");
    assert_eq!(other["client_id"], OTHER_CLIENT_ID);
    assert_eq!(other["authority"], entra.authority_host());
    let unknown = setup.stored_account("python");
    assert_eq!(
        (&unknown["tid"], &unknown["oid"]),
        (&Value::Null, &Value::Null)
    );
    process.modern().ok("api_get_request", of_ada());
    assert_eq!(backend.requests().len(), 1);
    assert_eq!(entra.token_requests().len(), 1, "for the sign-in alone");

    let kept = kept(&setup, "version1");
    assert_eq!(fs::read_to_string(&kept).unwrap(), old);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let log = process.log();
    assert!(log.contains("to go back to version 0.1.0"), "{log}");
    assert!(log.contains(kept.to_str().unwrap()), "{log}");

    // A second start converts nothing.
    drop(process);
    let converted = setup.stored();
    drop(setup.start());
    assert_eq!(setup.stored(), converted);
    self::kept(&setup, "version1");
}

/// As the Python server writes it, without a word of who it is; the access token has expired.
fn python_file(refresh_token: &Value) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let ada = json!({ADA: {
        "access_token": "AT-of-python", "refresh_token": refresh_token, "expires_in": 3599, "timestamp": now - 1e6,
    }});
    ada.to_string()
}

// Issue 13 §1
#[test]
fn an_account_of_the_python_server_is_bound_by_its_first_refresh() {
    let world = World::signed_in();
    let old = python_file(&world.setup.stored_account(ADA)["refresh_token"]);
    let world = world.with_file(&old);
    assert_eq!(world.setup.stored_account(ADA)["oid"], Value::Null);
    world.serves_ada();
    assert_eq!(world.entra.refreshes(), 1);
    let bound = world.setup.stored_account(ADA);
    for (name, value) in [
        ("tid", TENANT_ID),
        ("oid", ADA_OID),
        ("username", ADA),
        ("name", "Ada Lovelace"),
    ] {
        assert_eq!(bound[name], value, "{name}");
    }
    // From now on it is hers.
    world
        .entra
        .id_token_tamper(|claims| claims["oid"] = json!(GRACE_OID));
    world.advance(EXPIRED);
    world.wants_ada();
}

#[test]
fn an_account_of_the_python_server_is_not_taken_over_if_its_first_refresh_does_not_say_whose_it_is()
{
    for (claim, value) in [
        ("iss", json!("https://evil.example/v2.0")),
        ("aud", json!(OTHER_CLIENT_ID)),
        ("tid", json!(OTHER_TENANT_ID)),
        ("tid", Value::Null),
        ("oid", Value::Null),
        ("ver", json!("1.0")),
    ] {
        let world = World::signed_in();
        let old = python_file(&world.setup.stored_account(ADA)["refresh_token"]);
        let world = world.with_file(&old);
        let before = world.setup.stored_account(ADA);
        let tampered = value.clone();
        world
            .entra
            .id_token_tamper(move |claims| claims[claim] = tampered.clone());
        world.wants_ada();
        assert_eq!(world.setup.stored_account(ADA), before, "{claim} {value}");
    }
    // Nor without an ID token.
    let world = World::signed_in();
    let old = python_file(&world.setup.stored_account(ADA)["refresh_token"]);
    let world = world.with_file(&old);
    world.entra.token_tamper(|body| {
        body.as_object_mut().unwrap().remove("id_token");
    });
    world.wants_ada();
    assert_eq!(world.setup.stored_account(ADA)["oid"], Value::Null);
}

// ---- Other settings with the same token file ----

// CASES C5
#[test]
fn with_another_application_authority_cloud_or_tenant_nothing_of_the_old_account_is_sent() {
    let elsewhere = Entra::start();
    let elsewhere_host = elsewhere.authority_host();
    for (name, value) in [
        ("AZURE_CLIENT_ID", OTHER_CLIENT_ID),
        ("AZURE_TENANT_ID", OTHER_TENANT_ID),
        ("AZURE_TENANT_ID", "contoso.example"),
        ("AZURE_TENANT_ID", "consumers"),
        ("AZURE_AUTHORITY_HOST", &elsewhere_host),
        ("AZURE_CLOUD", "usgov"),
    ] {
        let world = World::signed_in();
        let before = world.setup.stored_account(ADA);
        let of_old = world.setup.variables.clone();
        let mut world = world.with(|mut setup| {
            if name == "AZURE_CLOUD" {
                setup.variables.remove("AZURE_AUTHORITY_HOST");
            }
            setup.with(name, value)
        });
        for seconds in [0, EXPIRED] {
            world.advance(seconds);
            world.wants_ada();
        }
        let status = status(&world.server, ADA);
        assert_eq!(
            (&status["authenticated"], &status["has_token"]),
            (&json!(false), &json!(false)),
            "{name}"
        );
        assert!(!says_signed_in(&world.server, ADA));
        let nobody = world.server.modern().ok("view_userid", json!({}));
        assert_eq!(nobody["user_ids"], json!([]), "{name}");
        // Nor can it be signed out from here.
        let arguments = json!({"user_id": ADA});
        world.server.modern().fails("logout_user", arguments);
        assert_eq!(world.entra.token_requests().len(), 1, "{name}: the sign-in");
        assert_eq!(elsewhere.token_requests().len(), 0, "{name}");
        assert_eq!(world.setup.stored_account(ADA), before, "{name}");

        // It serves again when the settings change back.
        world.setup.variables = of_old;
        let world = world.restarted();
        assert_eq!(world.setup.stored_account(ADA), before, "{name}");
        world.serves_ada();
        assert_eq!(world.entra.redemptions(), 1, "{name}");
    }
}

// CASES C5
#[test]
fn accounts_of_another_application_stay_in_the_file_while_others_sign_in_and_out() {
    let world = World::signed_in();
    let adas = world.setup.stored_account(ADA);
    let world = world.with(|setup| setup.with("AZURE_CLIENT_ID", OTHER_CLIENT_ID));
    world
        .entra
        .set(|settings| settings.client_id = OTHER_CLIENT_ID.to_owned());
    world.server.modern().sign_in(GRACE);
    let only = world.server.modern().ok("view_userid", json!({}));
    assert_eq!(only["user_id"], GRACE);
    assert_eq!(world.setup.stored_account(ADA), adas);
    world
        .server
        .modern()
        .ok("logout_user", json!({"user_id": GRACE}));
    assert_eq!(world.setup.stored_account(ADA), adas);

    let client_id = crate::support::entra::CLIENT_ID;
    world
        .entra
        .set(|settings| settings.client_id = client_id.to_owned());
    let world = world.with(|setup| setup.with("AZURE_CLIENT_ID", client_id));
    world.serves_ada();
    assert_eq!(world.setup.stored_user_ids(), [ADA]);
}

// CASES C5
#[test]
fn an_account_serves_at_another_name_of_its_tenant_only_if_that_is_certain() {
    for (before, after, serves) in [
        // A domain name becomes its GUID.
        ("contoso.example", TENANT_ID, true),
        ("common", TENANT_ID, true),
        ("organizations", TENANT_ID, true),
        (TENANT_ID, "organizations", true),
        (TENANT_ID, "common", true),
        ("contoso.example", OTHER_TENANT_ID, false),
        ("organizations", OTHER_TENANT_ID, false),
        // Which tenant a domain name stands for, Entra alone knows.
        ("contoso.example", "fabrikam.example", false),
        (TENANT_ID, "contoso.example", false),
        ("common", "consumers", false),
    ] {
        let world = World::new().with(|setup| setup.with("AZURE_TENANT_ID", before));
        world.server.modern().sign_in(ADA);
        let world = world.with(|setup| setup.with("AZURE_TENANT_ID", after));
        if serves {
            world.serves_ada();
            world.advance(EXPIRED);
            world.serves_ada();
            assert_eq!(world.entra.refreshes(), 1, "{before} {after}");
        } else {
            world.wants_ada();
            assert_eq!(world.entra.token_requests().len(), 1, "{before} {after}");
        }
        let world = world.with(|setup| setup.with("AZURE_TENANT_ID", before));
        world.serves_ada();
        assert_eq!(world.entra.redemptions(), 1, "{before} {after}");
    }
}

/// A name may have an account at each of two names of one tenant. Where both would do, the last sign-in counts.
#[test]
fn of_two_accounts_of_one_name_that_both_fit_the_one_that_signed_in_last_serves() {
    let world = World::signed_in();
    let first = world.setup.stored_account(ADA);
    let world = world.with(|setup| setup.with("AZURE_TENANT_ID", "contoso.example"));
    world.advance(10);
    world.server.modern().sign_in(ADA);
    assert_eq!(world.setup.stored_user_ids(), [ADA, ADA]);
    let newest = world.setup.stored()["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|account| account["tenant"] == "contoso.example")
        .unwrap()
        .clone();
    assert_ne!(newest["access_token"], first["access_token"]);

    let world = world.with(|setup| setup.with("AZURE_TENANT_ID", TENANT_ID));
    world.serves_ada();
    let bearer = format!("Bearer {}", text(&newest["access_token"]));
    assert_eq!(
        world.backend.last().header("authorization"),
        Some(bearer.as_str())
    );
}

/// Who signs out at one name of the tenant is not signed in again when the settings change back.
#[test]
fn signing_out_forgets_the_account_at_every_name_of_the_tenant() {
    let world = World::signed_in();
    let world = world.with(|setup| setup.with("AZURE_TENANT_ID", "contoso.example"));
    world.server.modern().sign_in(ADA);
    // Somebody else of the other application is none of this.
    let world = world.with(|setup| {
        let mut file = setup.stored();
        let accounts = file["accounts"].as_array_mut().unwrap();
        let mut other = accounts[0].clone();
        other["client_id"] = json!(OTHER_CLIENT_ID);
        accounts.push(other);
        fs::write(setup.token_file(), file.to_string()).unwrap();
        setup
    });
    assert_eq!(world.setup.stored_user_ids(), [ADA, ADA, ADA]);
    let arguments = json!({"user_id": ADA});
    world.server.modern().ok("logout_user", arguments);
    assert_eq!(
        world.setup.stored_account(ADA)["client_id"],
        OTHER_CLIENT_ID
    );
    let world = world.with(|setup| setup.with("AZURE_TENANT_ID", TENANT_ID));
    world.wants_ada();
    assert_eq!(world.setup.stored_user_ids(), [ADA]);
}

// ---- Whose the tokens of a refresh are ----

// CASES C5; OpenID Connect Core §12.2
#[test]
fn a_refresh_with_an_id_token_of_another_issuer_application_tenant_or_person_stores_nothing() {
    for (claim, value) in [
        ("iss", "https://evil.example/v2.0"),
        ("aud", OTHER_CLIENT_ID),
        ("tid", OTHER_TENANT_ID),
        ("oid", GRACE_OID),
    ] {
        let world = World::signed_in();
        let before = world.setup.stored_account(ADA);
        world.advance(EXPIRED);
        world
            .entra
            .id_token_tamper(move |claims| claims[claim] = json!(value));
        for _ in 0..2 {
            let refused = world.wants_ada();
            assert!(refused["sign_in_url"].is_string(), "{refused}");
            assert!(
                text(&refused["message"]).contains("Nothing was stored"),
                "{refused}"
            );
        }
        assert_eq!(
            world.entra.refreshes(),
            1,
            "the same is not asked again at once"
        );
        assert_eq!(world.setup.stored_account(ADA), before, "{claim}");
        // All agree that a sign-in is due.
        assert_eq!(status(&world.server, ADA)["authenticated"], false);
        assert!(!says_signed_in(&world.server, ADA));

        world.entra.id_token_tamper(|_| {});
        assert_eq!(sign_in(&world.server, ADA, ADA), 200);
        world.serves_ada();
        assert!(says_signed_in(&world.server, ADA));
    }
}

// CASES C5
#[test]
fn what_is_left_of_a_token_serves_while_a_refresh_brings_somebody_elses() {
    let world = World::signed_in();
    world.advance(3700);
    world
        .entra
        .id_token_tamper(|claims| claims["oid"] = json!(GRACE_OID));
    for _ in 0..3 {
        world.serves_ada();
    }
    assert_eq!(world.entra.refreshes(), 1);
    assert_eq!(status(&world.server, ADA)["authenticated"], true);
    assert!(!says_signed_in(&world.server, ADA), "a sign-in is due");
    world.advance(250);
    world.wants_ada();
}

// CASES C5
#[test]
fn a_refresh_for_a_challenge_that_brings_somebody_elses_tokens_leads_to_a_sign_in_for_the_challenge()
 {
    let world = World::signed_in();
    let before = world.setup.stored_account(ADA);
    world
        .entra
        .id_token_tamper(|claims| claims["oid"] = json!(GRACE_OID));
    let arguments = json!({"endpoint": "/cae", "user_id": ADA});
    let mut mcp = world.server.modern();
    for _ in 0..2 {
        let refused = mcp.fails("api_get_request", arguments.clone());
        assert_eq!(refused["error"], "sign_in_required", "{refused}");
    }
    assert_eq!(world.entra.refreshes(), 1);
    assert_eq!(world.setup.stored_account(ADA), before);
    // Calls that need no more go through.
    world.serves_ada();

    world.entra.heal();
    let refused = mcp.fails("api_get_request", arguments.clone());
    let page = Browser::new().sign_in(text(&refused["sign_in_url"]), ADA);
    assert_eq!(page.status, 200, "{}", page.text());
    let sent = world.entra.last_authorize();
    assert!(value_of(&sent, "claims").unwrap().contains("acrs"));
    mcp.ok("api_get_request", arguments);
}

// CASES C5
#[test]
fn the_audit_log_says_of_a_refresh_that_brings_somebody_elses_tokens_that_it_failed() {
    let world = World::new().with(|setup| {
        let log = setup.directory.file("audit.jsonl");
        setup.with("AUDIT_LOG", log.to_str().unwrap())
    });
    world.server.modern().sign_in(ADA);
    world.advance(EXPIRED);
    world
        .entra
        .id_token_tamper(|claims| claims["oid"] = json!(GRACE_OID));
    world.wants_ada();
    let log = fs::read_to_string(world.setup.directory.file("audit.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let refresh = lines.iter().find(|line| line["event"] == "refresh");
    let refresh = refresh.expect("a line");
    assert_ne!(refresh["outcome"], "ok", "{refresh}");
    assert_eq!(refresh["oid"], ADA_OID);
}

// CASES C5
#[test]
fn the_tenants_of_a_domain_name_are_not_mixed_up_by_a_refresh() {
    let world = World::new().with(|setup| setup.with("AZURE_TENANT_ID", "contoso.example"));
    world.server.modern().sign_in(ADA);
    let before = world.setup.stored_account(ADA);
    world.advance(EXPIRED);
    let issuer = format!("{}/{OTHER_TENANT_ID}/v2.0", world.entra.authority_host());
    world.entra.id_token_tamper(move |claims| {
        claims["tid"] = json!(OTHER_TENANT_ID);
        claims["iss"] = json!(issuer);
    });
    world.wants_ada();
    assert_eq!(world.setup.stored_account(ADA), before);
}

#[test]
fn names_that_have_changed_come_with_a_refresh() {
    let world = World::signed_in();
    world.advance(EXPIRED);
    world.entra.id_token_tamper(|claims| {
        claims["preferred_username"] = json!("countess@contoso.example");
        claims["name"] = json!("Countess of Lovelace");
    });
    world.serves_ada();
    let status = status(&world.server, ADA);
    assert_eq!(
        (&status["username"], &status["display_name"]),
        (
            &json!("countess@contoso.example"),
            &json!("Countess of Lovelace")
        )
    );
}

// ---- What the person is shown, and told ----

// CASES C7
#[test]
fn a_consent_that_is_missing_is_left_to_entra_to_ask_for() {
    for (error, suberror) in [
        ("invalid_grant", Some("consent_required")),
        ("consent_required", None),
        ("interaction_required", Some("consent_required")),
    ] {
        let world = World::signed_in();
        world.advance(EXPIRED);
        world.entra.fail_next_token(TokenFailure::Oauth {
            error,
            aadsts: 65001,
            suberror,
            claims: None,
        });
        let refused = world.wants_ada();
        let page = Browser::new().sign_in(text(&refused["sign_in_url"]), ADA);
        assert_eq!(page.status, 200, "{}", page.text());
        let sent = world.entra.last_authorize();
        assert_eq!(value_of(&sent, "prompt"), None, "{error}");
        world.serves_ada();
    }
}

// CASES C7
#[test]
fn after_a_sign_in_that_fails_for_want_of_consent_the_next_link_does_not_force_it() {
    let world = World::new();
    world.entra.set(|settings| {
        settings.fail_authorize = Some(("consent_required", 65001, "No consent."));
    });
    for _ in 0..2 {
        assert_eq!(sign_in(&world.server, ADA, ADA), 400);
        let sent = world.entra.last_authorize();
        assert_ne!(value_of(&sent, "prompt"), Some("consent"));
    }
}

// CASES C24
#[test]
fn the_status_of_all_says_why_each_last_sign_in_failed() {
    let world = World::new();
    let mut mcp = world.server.modern();
    let status = mcp.ok("check_auth_status", json!({}));
    assert_eq!(status["last_sign_in_error"], Value::Null, "{status}");
    for user_id in ["work", "home"] {
        assert_eq!(sign_in(&world.server, user_id, "Deny consent"), 400);
    }
    let status = mcp.ok("check_auth_status", json!({}));
    let failures = text(&status["last_sign_in_error"]);
    for user_id in ["work", "home"] {
        let line = failures
            .lines()
            .find(|line| line.starts_with(&format!("{user_id}: ")));
        assert!(line.unwrap().contains("AADSTS65004"), "{failures}");
    }
    // Who has signed in since has none any more.
    assert_eq!(sign_in(&world.server, "work", ADA), 200);
    let status = mcp.ok("check_auth_status", json!({}));
    let failures = text(&status["last_sign_in_error"]);
    assert!(
        failures.contains("home: ") && !failures.contains("work: "),
        "{failures}"
    );
}

// CASES C25
#[test]
fn signing_out_where_nobody_is_signed_in_says_what_to_do() {
    let world = World::new();
    for arguments in [json!({}), json!({"user_id": ADA})] {
        let failure = world.server.modern().fails("logout_user", arguments);
        assert!(
            text(&failure["hint"]).contains("check_auth_status"),
            "{failure}"
        );
    }
}
