//! `doctor`, through the built program: what it finds, how it says so, that it changes nothing, and that it
//! sends nothing that is secret.

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::backend::Backend;
use crate::support::entra::{
    ACCESS_TOKEN_MARK, ADA, CLIENT_ID, Entra, OTHER_TENANT_ID, REFRESH_TOKEN_MARK, TENANT_ID,
};
use crate::support::http::{Answer, Reply, Request, StandIn, deafen, proxy};
use crate::support::server::Setup;
use crate::support::{lock, value_of};
use entra_auth_mcp::clock::Clock;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entra-auth-mcp");

/// What `doctor` printed and how it ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    text: String,
    errors: String,
}

fn run(setup: &Setup, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(PROGRAM);
    command
        .args(arguments)
        .env_clear()
        .envs(&setup.variables)
        .current_dir(&setup.directory.0)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code(),
        text: text(output.stdout),
        errors: text(output.stderr),
    }
}

/// The report as programs read it; the exit code fits it.
fn diagnose(setup: &Setup) -> Value {
    let outcome = run(setup, &["doctor", "--json"]);
    let report: Value =
        serde_json::from_str(&outcome.text).unwrap_or_else(|_| panic!("{outcome:?}"));
    let code = match (
        report["failures"].as_u64().unwrap(),
        report["warnings"].as_u64().unwrap(),
    ) {
        (0, 0) => 0,
        (0, _) => 1,
        _ => 2,
    };
    assert_eq!(
        (outcome.code, outcome.errors.as_str()),
        (Some(code), ""),
        "{report:#}"
    );
    report
}

/// Message and mend of the only finding of `level` of `check`.
fn found(report: &Value, check: &str, level: &str) -> String {
    let findings = report["findings"].as_array().unwrap();
    let of_check = |finding: &&Value| finding["check"] == check && finding["level"] == level;
    let [finding] = findings.iter().filter(of_check).collect::<Vec<_>>()[..] else {
        panic!("not one {level} of {check}: {report:#}")
    };
    format!(
        "{} {}",
        finding["message"].as_str().unwrap(),
        finding["mend"].as_str().unwrap_or_default()
    )
}

/// The same where nothing else is wrong.
fn only(report: &Value, check: &str, level: &str) -> String {
    let counts = [
        report["warnings"].as_u64().unwrap(),
        report["failures"].as_u64().unwrap(),
    ];
    assert_eq!(
        counts,
        if level == "warning" { [1, 0] } else { [0, 1] },
        "{report:#}"
    );
    found(report, check, level)
}

/// Entra, a backend and settings with which nothing is wrong.
struct Sound {
    setup: Setup,
    backend: Backend,
    entra: Entra,
}

impl Sound {
    fn new() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        Self {
            setup: Setup::new(&entra, Some(&backend)),
            backend,
            entra,
        }
    }

    fn with(self, name: &str, value: &str) -> Self {
        Self {
            setup: self.setup.with(name, value),
            ..self
        }
    }

    fn diagnose(&self) -> Value {
        diagnose(&self.setup)
    }

    fn token_file(&self) -> PathBuf {
        self.setup.directory.file("token_cache.json")
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A token file with one account, whose tokens can be told.
fn token_file(expires_at: u64, refresh_token: Option<&str>) -> String {
    let account = json!({
        "client_id": CLIENT_ID, "tid": TENANT_ID, "oid": "oid", "username": ADA, "name": "Ada",
        "requested_scope": "openid", "granted_scope": "openid", "access_token": format!("{ACCESS_TOKEN_MARK}kept"),
        "expires_at": expires_at, "refresh_at": null, "refresh_token": refresh_token, "signed_in_at": 1,
    });
    json!({"version": 1, "accounts": {ADA: account}}).to_string()
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    set_mode(path, 0o600);
}

#[cfg_attr(not(unix), allow(unused_variables))]
fn set_mode(path: &Path, mode: u32) {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

// ---- All is well ----

#[test]
fn where_nothing_is_wrong_every_finding_is_ok_and_no_token_leaves() {
    let sound = Sound::new();
    let text = token_file(now() + 3600, Some(&format!("{REFRESH_TOKEN_MARK}kept")));
    write_private(&sound.token_file(), &text);
    let outcome = run(&sound.setup, &["doctor"]);
    assert_eq!(
        (outcome.code, outcome.errors.as_str()),
        (Some(0), ""),
        "{outcome:?}"
    );
    let (findings, rest) = outcome.text.split_once("\n\n").unwrap();
    for check in [
        "settings",
        "scopes",
        "redirect-uri",
        "token-file",
        "port",
        "clock",
        "proxy",
        "dns",
        "tls",
        "discovery",
    ] {
        assert!(
            findings
                .lines()
                .any(|line| line.split_whitespace().nth(1) == Some(check)),
            "{check}: {findings}"
        );
    }
    assert!(
        findings.lines().all(|line| line.starts_with("ok ")),
        "{findings}"
    );
    assert!(
        findings.contains("Entra knows the client id and the redirect URI"),
        "{findings}"
    );
    assert!(
        findings.contains("it wants a token, as it should"),
        "{findings}"
    );
    assert!(rest.contains("0 warnings, 0 failures"), "{rest}");
    let update = format!(
        "az ad app update --id {CLIENT_ID} --public-client-redirect-uris http://localhost/auth/callback\n"
    );
    assert!(
        rest.contains(&update) && rest.contains("admin-consent") && rest.contains("replaces"),
        "{rest}"
    );

    let arrived = sound.backend.requests();
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].header("Authorization"), None);
    assert!(sound.entra.token_requests().is_empty());
    let sent = format!(
        "{arrived:?}{:?}{outcome:?}",
        sound.entra.authorize_requests()
    );
    // The marks alone are so short that a random state or challenge may hold one.
    for mark in [ACCESS_TOKEN_MARK, REFRESH_TOKEN_MARK] {
        assert!(!sent.contains(&format!("{mark}kept")), "{sent}");
    }
    assert_eq!(fs::read_to_string(sound.token_file()).unwrap(), text);
    assert_eq!(
        fs::read_dir(&sound.setup.directory.0).unwrap().count(),
        1,
        "something was left beside the token file"
    );
}

#[test]
fn the_trial_of_the_registration_asks_for_no_page() {
    let sound = Sound::new();
    sound.diagnose();
    let asked = sound.entra.last_authorize();
    for (name, value) in [
        ("prompt", "none"),
        ("response_mode", "query"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(value_of(&asked, name), Some(value), "{asked:?}");
    }
    assert_eq!(sound.entra.authorize_requests().len(), 1);
}

#[test]
fn for_programs_the_report_is_json() {
    let report = Sound::new().diagnose();
    let names: Vec<&String> = report.as_object().unwrap().keys().collect();
    assert_eq!(names, ["commands", "failures", "findings", "warnings"]);
    for finding in report["findings"].as_array().unwrap() {
        let names: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(names, ["check", "level", "mend", "message"]);
        assert_eq!(
            (&finding["level"], &finding["mend"]),
            (&json!("ok"), &Value::Null),
            "{finding}"
        );
    }
    assert!(
        report["commands"]
            .as_array()
            .unwrap()
            .iter()
            .all(|command| command.as_str().unwrap().starts_with("az ad app "))
    );
    let misused = run(&Sound::new().setup, &["--check-config", "--json"]);
    assert_eq!(
        (misused.code, misused.text.as_str()),
        (Some(2), ""),
        "{misused:?}"
    );
}

// ---- Settings ----

#[test]
fn every_mistake_is_a_failure_and_what_does_not_hang_on_it_is_checked() {
    let sound = Sound::new()
        .with("AZURE_CLIENT_ID", "my-app")
        .with("SERVER_PORT", "many");
    write_private(&sound.token_file(), "not JSON");
    let report = sound.diagnose();
    let findings = report["findings"].to_string();
    assert!(
        findings.contains("AZURE_CLIENT_ID is") && findings.contains("SERVER_PORT is"),
        "{findings}"
    );
    assert!(found(&report, "token-file", "failure").contains("cannot be understood"));
    assert!(found(&report, "scopes", "ok").contains("api://backend/access"));
    for unchecked in [
        "\"port\"",
        "\"redirect-uri\"",
        "\"discovery\"",
        "\"backend\"",
    ] {
        assert!(
            !findings.contains(&format!("\"check\":{unchecked}")),
            "{findings}"
        );
    }
    assert_eq!(report["commands"], json!([]));
    assert!(sound.backend.requests().is_empty() && sound.entra.authorize_requests().is_empty());
}

#[test]
fn what_is_doubtful_is_a_warning() {
    let entra = Entra::start();
    let without_backend = Setup::new(&entra, None);
    assert!(
        only(&diagnose(&without_backend), "settings", "warning")
            .contains("BACKEND_API_BASE_URL is not set")
    );
    let misspelt = Sound::new().with("AZURE_CLIENTID", CLIENT_ID).diagnose();
    assert!(only(&misspelt, "settings", "warning").contains("Rename it to AZURE_CLIENT_ID"));
    let elsewhere = Sound::new()
        .with("REDIRECT_URI", "http://localhost:9/auth/callback")
        .diagnose();
    assert!(only(&elsewhere, "settings", "warning").contains("REDIRECT_URI"));
}

#[test]
fn a_misspelt_name_is_told_where_the_setting_is_missing_for_it() {
    let mut sound = Sound::new().with("AZURE_CLIENTID", CLIENT_ID);
    sound.setup.variables.remove("AZURE_CLIENT_ID");
    let report = sound.diagnose();
    assert!(found(&report, "settings", "failure").contains("AZURE_CLIENT_ID is not set"));
    assert!(found(&report, "settings", "warning").contains("Rename it to AZURE_CLIENT_ID"));
}

#[test]
fn a_description_in_yaml_is_a_failure_that_says_how_to_convert_it() {
    let sound = Sound::new();
    let directory = &sound.setup.directory;
    let file = directory.write("api.yaml", "openapi: 3.0.3\npaths: {}\n");
    let sound = sound.with("OPENAPI_FILE", file.to_str().unwrap());
    let failure = only(&sound.diagnose(), "settings", "failure");
    assert!(
        failure.contains("OPENAPI_FILE") && failure.contains("yq -o=json"),
        "{failure}"
    );
}

#[test]
fn a_settings_file_that_cannot_be_read_is_a_failure() {
    let sound = Sound::new();
    sound.setup.directory.write(".env", "this is no setting\n");
    let failure = only(&sound.diagnose(), "settings", "failure");
    assert!(
        failure.contains(".env") && failure.contains("line 1"),
        "{failure}"
    );
    sound.setup.directory.write(".env", "LOG_LEVEL=info\n");
    assert!(found(&sound.diagnose(), "env-file", "ok").contains("are read from"));
    let outcome = run(&sound.setup, &["doctor", "--env-file", "absent.env"]);
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.text.contains("failure  settings") && outcome.text.contains("absent.env"),
        "{outcome:?}"
    );
}

#[test]
fn without_any_setting_it_names_init() {
    let mut sound = Sound::new();
    let finding = found(&sound.diagnose(), "env-file", "ok");
    assert!(finding.contains("those of the environment"), "{finding}");
    sound.setup.variables.clear();
    let finding = found(&sound.diagnose(), "env-file", "failure");
    let file = sound.setup.directory.file(".env");
    assert!(
        finding.contains(file.to_str().unwrap()) && finding.contains("entra-auth-mcp init"),
        "{finding}"
    );
}

// ---- The registration ----

#[test]
fn an_error_that_entra_shows_on_its_own_page_is_explained() {
    let unknown = "11111111-2222-3333-4444-555555555555";
    let sound = Sound::new().with("AZURE_CLIENT_ID", unknown);
    let failure = only(&sound.diagnose(), "registration", "failure");
    for part in [
        "The application is not known in this tenant.",
        "AADSTS700016",
        "AZURE_CLIENT_ID",
        "correlation id",
    ] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    let sound = Sound::new();
    sound
        .entra
        .set(|settings| settings.redirect_uris = vec!["http://localhost/elsewhere".to_owned()]);
    let failure = only(&sound.diagnose(), "registration", "failure");
    for part in [
        "The redirect URI is not registered.",
        "AADSTS50011",
        "Mobile and desktop",
        "trace id",
        "timestamp",
    ] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
}

#[test]
fn device_codes_need_no_redirect_uri_and_a_known_client_all_the_same() {
    let sound = Sound::new().with("SIGN_IN_METHOD", "device_code");
    sound
        .entra
        .set(|settings| settings.redirect_uris = vec!["http://localhost/elsewhere".to_owned()]);
    let finding = found(&sound.diagnose(), "registration", "ok");
    assert!(
        finding.contains("which device codes do not need"),
        "{finding}"
    );
    let sound = sound.with("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555");
    only(&sound.diagnose(), "registration", "failure");
}

#[test]
fn an_unknown_tenant_is_told_with_what_support_asks_for() {
    let sound = Sound::new().with("AZURE_TENANT_ID", "99999999-2222-3333-4444-555555555555");
    let failure = only(&sound.diagnose(), "discovery", "failure");
    for part in [
        "AADSTS90002",
        "AZURE_TENANT_ID",
        "correlation id",
        "trace id",
        "timestamp 2026",
    ] {
        assert!(failure.contains(part), "{part}: {failure}");
    }
    assert!(sound.entra.authorize_requests().is_empty());
}

#[test]
fn an_error_at_the_redirect_uri_is_explained() {
    let entra = like_entra(Reply::empty(302).with(
        "Location",
        "http://localhost:8000/auth/callback?state=s&error=invalid_resource&error_description=AADSTS500011%3A+No",
    ));
    let setup = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
    let setup = setup.with("REDIRECT_URI", "http://localhost:8000/auth/callback");
    let failure = found(&setup.diagnose(), "registration", "failure");
    assert!(
        failure.contains("The API is not known") && failure.contains("CUSTOM_API_SCOPE"),
        "{failure}"
    );
}

// CASES C22
#[test]
fn an_error_without_a_number_is_explained_by_its_name() {
    for answer in [
        Reply::of_json(400, &json!({"error": "unauthorized_client"})),
        Reply::empty(302).with(
            "Location",
            "http://localhost:8000/auth/callback?state=s&error=unauthorized_client",
        ),
    ] {
        let entra = like_entra(answer);
        let sound = Sound::new()
            .with("AZURE_AUTHORITY_HOST", &entra.url())
            .with("REDIRECT_URI", "http://localhost:8000/auth/callback");
        let failure = found(&sound.diagnose(), "registration", "failure");
        assert!(
            failure.contains(&format!("Compare AZURE_CLIENT_ID ({CLIENT_ID})")),
            "{failure}"
        );
    }
}

#[test]
fn an_answer_that_is_cut_short_is_a_failure() {
    let entra = StandIn::serve(|_: &Request| {
        Answer::raw(*b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    });
    let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
    let failure = only(&sound.diagnose(), "discovery", "failure");
    assert!(failure.contains("cannot be read"), "{failure}");
}

#[test]
fn where_entra_does_not_tell_its_pages_are_explained() {
    let entra = like_entra(Reply::of_html(
        200,
        "<p>Pick an account. AADSTS is no number.</p><script>codes = ['AADSTS50012', 'AADSTS7']; a: 1</script>",
    ));
    let report = Sound::new()
        .with("AZURE_AUTHORITY_HOST", &entra.url())
        .diagnose();
    assert_eq!(
        (report["warnings"].as_u64(), report["failures"].as_u64()),
        (Some(0), Some(0)),
        "{report:#}"
    );
    let finding = found(&report, "registration", "ok");
    for number in ["AADSTS50011", "AADSTS700016", "AADSTS90002"] {
        assert!(finding.contains(number), "{finding}");
    }
}

/// Entra with any discovery document and the given answer to authorization requests.
fn like_entra(authorize: Reply) -> StandIn {
    StandIn::serve(move |request: &Request| {
        let document = Reply::of_json(200, &document(&request.origin, TENANT_ID));
        if request.path.ends_with("/authorize") {
            authorize.clone()
        } else {
            document
        }
    })
}

fn document(origin: &str, tid: &str) -> Value {
    json!({
        "issuer": format!("{origin}/{tid}/v2.0"),
        "authorization_endpoint": format!("{origin}/{tid}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{origin}/{tid}/oauth2/v2.0/token"),
    })
}

/// What doctor says of a discovery document that `change` has changed.
fn diagnose_document(change: impl Fn(&mut Value) + Send + Sync + 'static) -> (Value, String) {
    let entra = StandIn::serve(move |request: &Request| {
        let mut answer = document(&request.origin, TENANT_ID);
        change(&mut answer);
        Reply::of_json(200, &answer)
    });
    let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
    (sound.diagnose(), entra.url())
}

// CASES C6
#[test]
fn an_issuer_that_sign_ins_will_refuse_is_a_failure_that_names_the_host_to_set() {
    for (host, mend) in [
        (
            "https://login.microsoftonline.us",
            "Set AZURE_CLOUD to usgov and leave AZURE_AUTHORITY_HOST out.",
        ),
        (
            "https://contoso.ciamlogin.com",
            "Set AZURE_AUTHORITY_HOST to https://contoso.ciamlogin.com if you trust that host.",
        ),
    ] {
        let (report, ours) = diagnose_document(move |document| {
            document["issuer"] = json!(format!("{host}/{TENANT_ID}/v2.0"));
        });
        let failure = only(&report, "discovery", "failure");
        assert!(
            failure.contains(&format!("{host}/{TENANT_ID}/v2.0")) && failure.contains(mend),
            "{failure}"
        );
        assert!(
            failure.contains(&format!("a proxy answers in Entra's place at {ours}")),
            "{failure}"
        );
    }
    let (report, ours) = diagnose_document(|document| document["issuer"] = json!("elsewhere"));
    let failure = only(&report, "discovery", "failure");
    assert!(
        failure.contains(&format!("AZURE_AUTHORITY_HOST ({ours})")),
        "{failure}"
    );
}

#[test]
fn an_issuer_of_another_tenant_is_a_failure_that_names_the_tenant_setting() {
    let entra = StandIn::serve(|request: &Request| {
        Reply::of_json(200, &document(&request.origin, OTHER_TENANT_ID))
    });
    let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
    let failure = only(&sound.diagnose(), "discovery", "failure");
    assert!(
        failure.contains(OTHER_TENANT_ID)
            && failure.contains(&format!("Check AZURE_TENANT_ID ({TENANT_ID})")),
        "{failure}"
    );
}

#[test]
fn endpoints_at_another_host_are_a_warning() {
    let other = "https://login.microsoftonline.us";
    for member in ["authorization_endpoint", "token_endpoint"] {
        let (report, ours) = diagnose_document(move |answer| {
            answer[member] = document(other, TENANT_ID)[member].clone();
        });
        let warning = only(&report, "discovery", "warning");
        for part in [member, other, &ours, "Set AZURE_CLOUD to usgov"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }
}

// CASES C20
#[test]
fn a_discovery_document_that_is_not_there_names_the_tenant_setting() {
    for answer in [
        Reply::empty(404),
        Reply::empty(400),
        Reply::of_json(400, &json!({"message": "no such tenant"})),
        Reply::of_html(200, "<p>Please accept the terms of this network.</p>"),
        Reply::of_json(200, &json!({})),
        Reply::of_json(200, &json!([1])),
        Reply::empty(302).with("Location", "https://elsewhere.example/"),
    ] {
        let status = answer.status;
        let entra = StandIn::serve(move |_: &Request| answer.clone());
        let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
        let failure = only(&sound.diagnose(), "discovery", "failure");
        for part in [
            &format!(
                "There is no discovery document at {}/{TENANT_ID}/v2.0/",
                entra.url()
            ),
            &format!("(status {status})"),
            &format!("AZURE_TENANT_ID ({TENANT_ID})"),
            &format!("AZURE_AUTHORITY_HOST ({})", entra.url()),
        ] {
            assert!(failure.contains(part.as_str()), "{part}: {failure}");
        }
        assert!(!failure.contains("issuer"), "{failure}");
    }
    let entra = StandIn::serve(|_: &Request| Reply::empty(503));
    let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
    let failure = only(&sound.diagnose(), "discovery", "failure");
    assert!(
        failure.contains("status 503") && failure.contains("in some minutes"),
        "{failure}"
    );
}

// CASES C20
#[test]
fn a_trial_that_is_refused_without_a_reason_is_a_failure() {
    for (status, level, parts) in [
        (
            400,
            "failure",
            [
                "status 400",
                CLIENT_ID,
                TENANT_ID,
                "http://localhost/auth/callback",
            ],
        ),
        (
            401,
            "failure",
            [
                "status 401",
                "AZURE_CLIENT_ID",
                "AZURE_TENANT_ID",
                "Mobile and desktop",
            ],
        ),
        (429, "warning", ["status 429", "some minutes", "", ""]),
        (502, "warning", ["status 502", "some minutes", "", ""]),
    ] {
        let page = "<h1>invalid_request</h1><p>The client or the redirect_uri is not valid.</p>";
        let entra = like_entra(Reply::of_html(status, page));
        let sound = Sound::new().with("AZURE_AUTHORITY_HOST", &entra.url());
        let finding = only(&sound.diagnose(), "registration", level);
        for part in parts {
            assert!(finding.contains(part), "{part}: {finding}");
        }
        if status == 400 {
            // It may be the redirect URI alone, which they do not need.
            let sound = sound.with("SIGN_IN_METHOD", "device_code");
            only(&sound.diagnose(), "registration", "warning");
        }
    }
}

#[test]
fn for_a_domain_name_the_guid_is_recommended() {
    let entra = like_entra(Reply::empty(204));
    let sound = Sound::new()
        .with("AZURE_AUTHORITY_HOST", &entra.url())
        .with("AZURE_TENANT_ID", "contoso.example");
    let report = sound.diagnose();
    assert!(
        found(&report, "discovery", "ok").contains(&format!("Set AZURE_TENANT_ID to {TENANT_ID}")),
        "{report:#}"
    );
}

#[test]
fn the_issuer_of_any_tenant_is_right_where_any_is_meant() {
    let report = Sound::new()
        .with("AZURE_TENANT_ID", "organizations")
        .diagnose();
    assert!(
        found(&report, "discovery", "ok").contains("{tenantid}"),
        "{report:#}"
    );
}

// ---- Who cannot be reached ----

#[test]
fn nobody_at_the_other_end_is_a_failure() {
    let sound = Sound::new();
    sound.entra.down();
    let failure = only(&sound.diagnose(), "discovery", "failure");
    let host = sound.entra.authority_host().replace("http://", "");
    assert!(
        failure.contains(&host) && failure.contains("Nothing listens there"),
        "{failure}"
    );

    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let sound = Sound::new().with("BACKEND_API_BASE_URL", &format!("http://{free}/v1"));
    let failure = only(&sound.diagnose(), "backend", "failure");
    assert!(
        failure.contains(&free.to_string()) && failure.contains("Nothing listens there"),
        "{failure}"
    );
}

#[test]
fn a_host_without_an_address_is_a_failure() {
    let sound = Sound::new().with("BACKEND_API_BASE_URL", "https://api.invalid");
    let failure = only(&sound.diagnose(), "dns", "failure");
    assert!(
        failure.contains("api.invalid") && failure.contains("BACKEND_API_BASE_URL"),
        "{failure}"
    );
}

// CASES B9
#[cfg(target_os = "linux")]
#[test]
fn a_family_of_addresses_that_does_not_answer_is_named() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let _filling = deafen(&silent);
    let url = format!("http://{}/v1", silent.local_addr().unwrap());
    let sound = Sound::new().with("BACKEND_API_BASE_URL", &url);
    let failure = only(&sound.diagnose(), "connect", "failure");
    assert!(
        failure.contains("127.0.0.1 does not answer over IPv4"),
        "{failure}"
    );
}

#[test]
fn what_the_backend_says_without_a_token_is_told() {
    let redirect = Reply::empty(302).with("Location", "https://elsewhere.example/");
    for (answer, level, part) in [
        (redirect, "warning", "a redirect"),
        (Reply::of_json(200, &json!({})), "ok", "needs no token"),
        (Reply::empty(401), "ok", "status 401."),
        (Reply::empty(503), "ok", "status 503."),
    ] {
        let backend = StandIn::serve(move |_: &Request| answer.clone());
        let report = Sound::new()
            .with("BACKEND_API_BASE_URL", &backend.url())
            .diagnose();
        assert!(
            found(&report, "backend", level).contains(part),
            "{report:#}"
        );
    }
}

#[test]
fn what_others_say_is_one_line_without_control_characters() {
    let entra = StandIn::serve(|_: &Request| {
        let description = format!("first\r\nfailure  forged\u{1b}[2J\u{7}{}", "x".repeat(5000));
        Reply::of_json(
            400,
            &json!({"error": "invalid_request", "error_description": description}),
        )
    });
    let outcome = run(
        &Sound::new()
            .with("AZURE_AUTHORITY_HOST", &entra.url())
            .setup,
        &["doctor"],
    );
    assert!(
        outcome
            .text
            .contains("first failure forged\\u{1b}[2J\\u{7}xxx"),
        "{outcome:?}"
    );
    assert!(!outcome.text.contains(['\u{1b}', '\u{7}', '\r']));
    assert!(outcome.text.lines().all(|line| line.chars().count() < 1500));
    assert!(
        !outcome
            .text
            .lines()
            .any(|line| line.starts_with("failure  forged")),
        "{outcome:?}"
    );
}

// ---- The token file ----

#[test]
fn what_is_wrong_with_the_token_file_is_told_and_left_as_it_is() {
    let newer = json!({"version": 3, "accounts": []}).to_string();
    for (text, level, part) in [
        (
            "{\"version\":1,".to_owned(),
            "failure",
            "cannot be understood",
        ),
        (newer, "failure", "version 3"),
        (token_file(1, None), "warning", ADA),
    ] {
        let sound = Sound::new();
        write_private(&sound.token_file(), &text);
        let finding = only(&sound.diagnose(), "token-file", level);
        assert!(finding.contains(part), "{finding}");
        assert_eq!(fs::read_to_string(sound.token_file()).unwrap(), text);
        assert_eq!(fs::read_dir(&sound.setup.directory.0).unwrap().count(), 1);
    }
}

#[test]
fn a_token_file_of_the_python_server_is_not_converted() {
    let sound = Sound::new();
    let text =
        json!({ADA: {"access_token": "AT", "expires_in": 3600, "timestamp": 4e9, "refresh_token": "RT"}}).to_string();
    write_private(&sound.token_file(), &text);
    assert!(found(&sound.diagnose(), "token-file", "ok").contains("token_cache.json: 1."));
    assert_eq!(fs::read_to_string(sound.token_file()).unwrap(), text);
    assert_eq!(fs::read_dir(&sound.setup.directory.0).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_token_file_that_others_can_read_is_a_warning_and_stays_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let sound = Sound::new();
    write_private(&sound.token_file(), &token_file(now() + 3600, Some("RT")));
    set_mode(&sound.token_file(), 0o644);
    assert!(only(&sound.diagnose(), "token-file", "warning").contains("chmod 600"));
    assert_eq!(
        fs::metadata(sound.token_file())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o644
    );
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_token_file_is_a_failure() {
    let sound = Sound::new();
    std::os::unix::fs::symlink("elsewhere.json", sound.token_file()).unwrap();
    assert!(only(&sound.diagnose(), "token-file", "failure").contains("not a regular file"));
}

// CASES C15
#[cfg(target_os = "linux")]
#[test]
fn a_token_file_that_is_mounted_as_a_single_file_is_a_failure() {
    for name in ["token_cache.json", "a \\ b.json"] {
        let sound = Sound::new().with("TOKEN_CACHE_FILE", name);
        let file = sound.setup.directory.file(name);
        let host = sound.setup.directory.file("of the host.json");
        let text = token_file(now() + 3600, Some("RT"));
        write_private(&file, &text);
        write_private(&host, &text);
        // Its own view of the file system, which ends with it. Who is not root needs a user namespace for that.
        let own_mounts = if is_root() {
            ["--mount"].as_slice()
        } else {
            &["--map-root-user", "--mount"]
        };
        let script = r#"mount --bind "$1" "$2" && exec "$3" doctor --json"#;
        let mut command = Command::new("unshare");
        command
            .args(own_mounts)
            .args(["sh", "-c", script, "sh"])
            .args([&host, &file])
            .arg(PROGRAM)
            .envs(&sound.setup.variables)
            .current_dir(&sound.setup.directory.0);
        let output = command.output().unwrap();
        if output.stdout.is_empty() {
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(!is_root(), "root must be able to mount: {why}");
            // Past the capture of the test's output.
            let _ = writeln!(io::stderr(), "NOT CHECKED: a mounted token file ({why})");
            return;
        }
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failure = only(&report, "token-file", "failure");
        assert!(
            failure.contains(name) && failure.contains("Mount its directory"),
            "{failure}"
        );
        // Outside, nothing is mounted there.
        assert_eq!(sound.diagnose()["failures"], 0);
    }
}

#[cfg(target_os = "linux")]
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn a_directory_that_takes_no_files_is_a_failure() {
    let sound = Sound::new().with("TOKEN_CACHE_FILE", "absent/token_cache.json");
    let failure = only(&sound.diagnose(), "token-file", "failure");
    assert!(
        failure.contains("absent") && failure.contains("TOKEN_CACHE_FILE"),
        "{failure}"
    );
}

// ---- The audit log ----

#[test]
fn an_audit_log_that_cannot_be_written_is_told_and_none_is_made() {
    let at = |path: &str| Sound::new().with("AUDIT_LOG", path);
    let sound = at("audit.jsonl");
    assert!(found(&sound.diagnose(), "audit-log", "ok").contains("audit.jsonl"));
    assert!(!sound.setup.directory.file("audit.jsonl").exists());
    assert!(found(&at("-").diagnose(), "audit-log", "ok").contains("standard output"));
    for path in ["absent/audit.jsonl", "directory"] {
        let sound = at(path);
        fs::create_dir(sound.setup.directory.file("directory")).unwrap();
        let failure = only(&sound.diagnose(), "audit-log", "failure");
        assert!(failure.contains("AUDIT_LOG"), "{failure}");
        // Calls go through all the same.
        only(
            &sound.with("AUDIT_LOG_REQUIRED", "false").diagnose(),
            "audit-log",
            "warning",
        );
    }
}

// ---- The port ----

#[test]
fn a_port_that_somebody_else_holds_is_a_failure_and_our_own_server_is_none() {
    let other = StandIn::serve(|_: &Request| Reply::empty(404));
    let sound = Sound::new().with("SERVER_PORT", &other.addr().port().to_string());
    assert!(only(&sound.diagnose(), "port", "failure").contains("SERVER_PORT"));

    // Anybody can answer as we do: ours owns the token file.
    let other = StandIn::serve(|_: &Request| Reply::empty(200).with("Server", "entra-auth-mcp"));
    let sound = Sound::new().with("SERVER_PORT", &other.addr().port().to_string());
    assert!(only(&sound.diagnose(), "port", "failure").contains("SERVER_PORT"));

    let sound = Sound::new();
    let running = sound.setup.start();
    let sound = sound.with("SERVER_PORT", &running.server.port().to_string());
    let report = sound.diagnose();
    assert!(found(&report, "port", "ok").contains("A running entra-auth-mcp"));
    // Its token file can be looked at meanwhile.
    assert!(found(&report, "token-file", "ok").contains("token_cache.json: 0."));
    assert_eq!(report["failures"], 0, "{report:#}");
}

// ---- The clock ----

#[test]
fn a_clock_that_is_off_is_told_by_how_much() {
    // The test takes its time, too.
    for (offset, level) in [
        (0, "ok"),
        (-200, "warning"),
        (200, "warning"),
        (-4000, "failure"),
        (4000, "failure"),
    ] {
        let entra = StandIn::serve(move |request: &Request| {
            let theirs = now().checked_add_signed(offset).unwrap();
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(theirs));
            Reply::of_json(200, &document(&request.origin, TENANT_ID)).with("Date", &date)
        });
        let report = Sound::new()
            .with("AZURE_AUTHORITY_HOST", &entra.url())
            .diagnose();
        let findings = report["findings"].as_array().unwrap();
        let finding = findings
            .iter()
            .filter(|finding| finding["check"] == "clock")
            .nth(1)
            .unwrap();
        assert_eq!(finding["level"], level, "{offset}: {finding}");
        assert!(
            finding["message"]
                .as_str()
                .unwrap()
                .contains("seconds apart"),
            "{finding}"
        );
    }
}

#[test]
fn a_clock_before_this_program_is_a_failure() {
    let report = entra_auth_mcp::doctor::run(
        Err("no settings".to_owned()),
        &Clock::from_fn(|| UNIX_EPOCH),
    );
    let finding = report
        .findings
        .iter()
        .find(|finding| finding.check == "clock")
        .unwrap();
    assert!(
        finding.message.contains("1970") && finding.mend.as_deref().unwrap().contains("clock"),
        "{finding:?}"
    );
    assert_eq!(report.exit_code(), 2);
}

// ---- TLS and proxies ----

/// A certificate authority, as an inspecting proxy has one.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Inspecting Proxy");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Contoso IT");
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// An API at `name` that answers 401 and keeps what it is asked, as text.
    fn serve(&self, name: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "the API");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        let (listener, config) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(config));
        let port = listener.local_addr().unwrap().port();
        let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
        let requests = Arc::clone(&arrived);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, stream.unwrap());
                // Who does not trust us, or only looks, hangs up.
                if let Ok(head) = read_head(&mut stream) {
                    lock(&requests).push(head);
                    let _ = stream.write_all(
                        b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                }
            }
        });
        (port, arrived)
    }

    fn trusted_by(&self, sound: Sound) -> Sound {
        let store = sound.setup.directory.file("authority.pem");
        fs::write(&store, &self.pem).unwrap();
        sound.with("SSL_CERT_FILE", store.to_str().unwrap())
    }
}

fn read_head(stream: &mut impl io::Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8(head).unwrap())
}

#[test]
fn a_trusted_certificate_is_ok_and_one_request_is_sent() {
    let authority = Authority::new();
    let (port, arrived) = authority.serve("127.0.0.1");
    let sound = Sound::new().with("BACKEND_API_BASE_URL", &format!("https://127.0.0.1:{port}"));
    let report = authority.trusted_by(sound).diagnose();
    let findings = report["findings"].to_string();
    for part in ["trusts the certificate of 127.0.0.1", "status 401"] {
        assert!(findings.contains(part), "{part}: {report:#}");
    }
    assert_eq!(report["failures"], 0, "{report:#}");
    let [request] = &lock(&arrived)[..] else {
        panic!("not one request arrived")
    };
    assert!(
        !request.to_ascii_lowercase().contains("authorization"),
        "{request}"
    );
}

#[test]
fn an_untrusted_certificate_is_a_failure_of_tls_and_nothing_is_sent() {
    let authority = Authority::new();
    let (port, arrived) = authority.serve("127.0.0.1");
    let (other_port, _) = authority.serve("other.example");
    let without_roots = Sound::new();
    let empty = without_roots.setup.directory.file("empty.pem");
    fs::write(&empty, "").unwrap();
    let without_roots = without_roots.with("SSL_CERT_FILE", empty.to_str().unwrap());
    let with_another = Authority::new().trusted_by(Sound::new());
    let of_another_host = authority.trusted_by(Sound::new());
    for (sound, port, parts) in [
        (
            with_another,
            port,
            [
                "invalid peer certificate",
                "add the proxy's root certificate",
                "SSL_CERT_FILE",
            ],
        ),
        (
            without_roots,
            port,
            [
                "No CA certificates",
                "install ca-certificates",
                "SSL_CERT_FILE",
            ],
        ),
        (
            of_another_host,
            other_port,
            [
                "not valid for name",
                "is for another host",
                "check the host name",
            ],
        ),
    ] {
        let sound = sound.with("BACKEND_API_BASE_URL", &format!("https://127.0.0.1:{port}"));
        let failure = only(&sound.diagnose(), "tls", "failure");
        for part in parts {
            assert!(failure.contains(part), "{part}: {failure}");
        }
    }
    assert!(lock(&arrived).is_empty());
}

#[test]
fn through_a_proxy_the_certificate_is_checked_and_the_password_is_not_shown() {
    let authority = Authority::new();
    let (port, _) = authority.serve("api.example.invalid");
    let (proxy, heads) = proxy(port);
    let sound = Sound::new().with("BACKEND_API_BASE_URL", "https://api.example.invalid/v1");
    let sound = sound
        .with(
            "https_proxy",
            &format!("http://ada:secret@127.0.0.1:{proxy}"),
        )
        .with("HTTP_PROXY", "ht tp");
    let report = authority.trusted_by(sound).diagnose();
    assert!(only(&report, "proxy", "warning").contains("HTTP_PROXY is not the URL of a proxy"));
    let findings = report["findings"].to_string();
    for part in [
        &format!("127.0.0.1:{proxy} (https_proxy, HTTP)"),
        "which resolves the name",
        "trusts the certificate of api.example.invalid",
        "status 401",
    ] {
        assert!(findings.contains(part), "{part}: {report:#}");
    }
    assert!(!findings.contains("secret"), "{findings}");
    let heads = lock(&heads);
    assert_eq!(heads.len(), 1, "{heads:?}");
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with("CONNECT api.example.invalid:443 ")),
        "{heads:?}"
    );
    assert!(
        heads.iter().all(|head| head
            .to_ascii_lowercase()
            .contains("proxy-authorization: basic ")),
        "{heads:?}"
    );
}

#[test]
fn a_proxy_that_is_not_supported_is_a_failure() {
    let sound = Sound::new().with("BACKEND_API_BASE_URL", "https://api.example.invalid/v1");
    let sound = sound.with("ALL_PROXY", "socks5://127.0.0.1:1080");
    let failure = only(&sound.diagnose(), "proxy", "failure");
    assert!(
        failure.contains("SOCKS") && failure.contains("ALL_PROXY"),
        "{failure}"
    );
}

#[test]
fn a_directory_for_files_is_looked_at_where_one_is_set() {
    let entra = Entra::start();
    let setup = Setup::new(&entra, None);
    let files = |setup: &Setup| {
        let report = diagnose(setup);
        let found = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["check"] == "files")
            .cloned();
        found.map(|finding| finding["level"].as_str().unwrap().to_owned())
    };
    assert_eq!(files(&setup), None);
    let within = setup.directory.file("within");
    std::fs::create_dir(&within).unwrap();
    let setup = setup.with("FILES_DIR", within.to_str().unwrap());
    assert_eq!(files(&setup).as_deref(), Some("ok"));
    // Where the token file is, there must be none.
    let directory = setup.directory.0.to_str().unwrap().to_owned();
    assert_eq!(
        files(&setup.with("FILES_DIR", &directory)).as_deref(),
        Some("failure")
    );
}
