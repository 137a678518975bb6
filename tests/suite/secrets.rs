//! Secrets stay where they belong, and their memory is wiped when nobody needs it any more.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::{env, panic, thread};

use crate::support::backend::{Backend, cae_claims, claims_challenge};
use crate::support::browser::Browser;
use crate::support::entra::{ADA, CODE_MARK, DEVICE_CODE_MARK, Entra, GRACE, TokenFailure};
use crate::support::http::{Answer, Client, Reply};
use crate::support::server::{Mcp, Setup, Verb};
#[cfg(target_os = "linux")]
use crate::support::server::{Process, World};
use crate::support::{encode_pairs, lock, value_of};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use entra_auth_mcp::cli;
use entra_auth_mcp::secret::Secret;
use entra_auth_mcp::text::of_panic;
use serde_json::{Value, json};
use url::Url;

#[cfg(target_os = "linux")]
mod memory {
    use std::fs::{self, File};
    use std::io::BufRead as _;
    use std::os::unix::fs::FileExt as _;
    use std::sync::{Arc, Mutex};

    use entra_auth_mcp::auth::account::{Account, Binding};
    use entra_auth_mcp::auth::token_endpoint::TokenResponse;
    use entra_auth_mcp::auth::token_file::TokenFile;
    use entra_auth_mcp::clock::Clock;
    use entra_auth_mcp::secret::Secret;
    use serde_json::json;

    use crate::support::lock;
    use crate::support::server::TempDir;

    /// Whoever looks has parts of the memory in its own.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    const MASK: u8 = 0x5a;
    /// An allocator overwrites the beginning of what it takes back, so that tells nothing.
    const TAIL: usize = 24;

    /// The end of `secret`, so that this is not taken for it.
    fn masked_tail(secret: &str) -> Vec<u8> {
        secret
            .bytes()
            .skip(secret.len() - TAIL)
            .map(|byte| byte ^ MASK)
            .collect()
    }

    fn count_in(part: &[u8], masked: &[u8]) -> usize {
        let (mut rest, mut count) = (part, 0);
        // From one byte that may be the first to the next.
        while rest.skip_until(masked[0] ^ MASK).unwrap() > 0 {
            let found = part[part.len() - rest.len() - 1..].iter().zip(masked);
            count += usize::from(
                found
                    .filter(|(byte, masked)| *byte ^ MASK == **masked)
                    .count()
                    == TAIL,
            );
        }
        count
    }

    /// How often the secret of `masked` stands in the memory of this process.
    fn copies(masked: &[u8]) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let mut copies = 0;
        let mut part = vec![0; (1 << 12) + TAIL];
        let nothing = part.clone();
        let own = part.as_ptr().addr() as u64;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
            // Not what was just read.
            for (start, end) in [
                (start, end.min(own)),
                (start.max(own + part.len() as u64), end),
            ] {
                // Parts that overlap by one byte less than is looked for.
                for at in (start..end.max(start)).step_by(part.len() - (TAIL - 1)) {
                    let count = part.len().min(usize::try_from(end - at).unwrap());
                    // What is not there at all cannot be read.
                    if memory.read_exact_at(&mut part[..count], at).is_ok()
                        && part[..count] != nothing[..count]
                    {
                        copies += count_in(&part[..count], masked);
                    }
                    part.fill(0);
                }
            }
        }
        copies
    }

    #[test]
    fn a_secret_is_wiped_when_it_is_dropped() {
        let _turn = lock(&ONE_AT_A_TIME);
        let secret = Secret::random().unwrap();
        let masked = masked_tail(secret.expose());
        let copy = secret.clone();
        assert_eq!(copies(&masked), 2);
        drop((secret, copy));
        assert_eq!(copies(&masked), 0);
    }

    #[test]
    fn of_a_token_response_nothing_stays_but_the_tokens_and_they_only_while_it_is_kept() {
        let _turn = lock(&ONE_AT_A_TIME);
        let token = Secret::random().unwrap();
        let masked = masked_tail(token.expose());
        let mut body = json!({"token_type": "Bearer", "expires_in": 1, "access_token": ""})
            .to_string()
            .into_bytes();
        let at = body
            .windows(15)
            .position(|window| window == b"access_token\":\"")
            .unwrap()
            + 15;
        body.reserve_exact(token.expose().len());
        body.splice(at..at, token.expose().bytes());
        drop(token);
        let response = TokenResponse::parse(&body).unwrap();
        body.fill(0);
        assert_eq!(copies(&masked), 1);
        drop(response);
        assert_eq!(copies(&masked), 0);
    }

    #[test]
    fn of_what_is_written_to_the_token_file_nothing_stays_but_the_account() {
        let _turn = lock(&ONE_AT_A_TIME);
        let directory = TempDir::new();
        let binding = Binding {
            client_id: String::new(),
            authority: String::new(),
            tenant: String::new(),
        };
        let path = directory.file("tokens.json");
        let (mut file, _) = TokenFile::open(&path, Clock::system(), &binding, "").unwrap();
        let access_token = Secret::random().unwrap();
        let masked = masked_tail(access_token.expose());
        let account = Account {
            binding,
            person: None,
            username: String::new(),
            name: String::new(),
            requested_scope: String::new(),
            granted_scope: String::new(),
            access_token: Some(access_token),
            expires_at: 0,
            refresh_at: None,
            refresh_token: None,
            signed_in_at: 0,
            cookies: Arc::default(),
        };
        file.write([("ada", &account)].into_iter()).unwrap();
        assert_eq!(copies(&masked), 1);
    }
}

/// The beginnings of the first two parts of the stand-in's ID tokens.
const ID_TOKEN_MARKS: [&str; 2] = ["eyJhbGciOi", "eyJhdWQiOi"];

/// The program as it was told to tell all, everything that was heard of it, and every secret that there was.
struct Story {
    entra: Entra,
    backend: Backend,
    setup: Setup,
    server: Verb,
    base: String,
    heard: Vec<(String, String)>,
    secrets: BTreeSet<String>,
    tickets: BTreeSet<String>,
}

impl Story {
    fn begin(mode: &str) -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend))
            .with("LOG_LEVEL", "debug")
            .with("AUTH_RESPONSE_MODE", mode)
            .with("ALLOW_DEVICE_CODE", "true");
        let file = setup.directory.file("audit.jsonl");
        let setup = setup
            .with("AUDIT_LOG", file.to_str().unwrap())
            .with("SIGN_IN_WAIT_SECONDS", "0");
        let mut server = Verb::start(Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp")), &setup);
        let ready = server.line().unwrap();
        let base = format!("http://localhost:{}", ready.rsplit(' ').next().unwrap());
        // So that every call wants a refresh.
        entra.expires_in(60);
        let (heard, secrets, tickets) = Default::default();
        Self {
            entra,
            backend,
            setup,
            server,
            base,
            heard,
            secrets,
            tickets,
        }
    }

    fn mcp(&self) -> Mcp {
        Mcp::modern(Client::new(&self.base), json!({}))
    }

    fn hear(&mut self, what: &str, text: impl Into<String>) {
        self.heard.push((what.to_owned(), text.into()));
    }

    /// All of an answer, but for what belongs where it stands.
    fn reply(&mut self, what: &str, reply: &Reply) {
        for (name, value) in &reply.headers {
            let value = match (what, name.as_str()) {
                // A secret for this browser alone.
                ("/auth/login", "Set-Cookie") => {
                    let (name, rest) = value.split_once('=').unwrap();
                    let (secret, attributes) = rest.split_once(';').unwrap();
                    self.secrets.insert(secret.to_owned());
                    format!("{name}={attributes}")
                }
                // The way to Entra: with the state and the nonce, and nothing else that is secret.
                ("/auth/login", "Location") => {
                    let mut url = Url::parse(value).unwrap();
                    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
                    assert!(value.starts_with(&self.entra.authority_host()), "{value}");
                    let (belong, rest): (Vec<_>, Vec<_>) = query
                        .into_iter()
                        .partition(|(name, _)| ["state", "nonce"].contains(&name.as_str()));
                    assert_eq!(belong.len(), 2, "{value}");
                    self.secrets
                        .extend(belong.into_iter().map(|(_, secret)| secret));
                    url.set_query(Some(&encode_pairs(&rest)));
                    url.into()
                }
                // The way to the last page: with the receipt. What is no answer leads elsewhere.
                ("/auth/callback", "Location") if !value.starts_with('?') => {
                    let (before, receipt) = value.split_once("&receipt=").unwrap();
                    assert!(before.starts_with("/auth/complete?sign_in="), "{value}");
                    self.secrets.insert(receipt.to_owned());
                    before.to_owned()
                }
                _ => value.clone(),
            };
            self.hear(&format!("{name} of {what}"), value);
        }
        let mut text = reply.text();
        if what == "/auth/login" {
            // The button has the ticket of the link that was opened.
            for ticket in &self.tickets {
                text = text.replace(&format!("?ticket={ticket}&amp;"), "?");
            }
        }
        self.hear(what, text);
    }

    /// A tool's answer. A link may stand in it: it is for whoever has asked.
    fn tool(&mut self, mcp: &mut Mcp, name: &str, arguments: &Value) -> Value {
        let reply = mcp.send("tools/call", json!({"name": name, "arguments": arguments}));
        let mut text = reply.text();
        while let Some((before, rest)) = text.split_once("/auth/login?ticket=") {
            let (ticket, after) = rest.split_at(43);
            self.tickets.insert(ticket.to_owned());
            text = format!("{before}/auth/login{after}");
        }
        for (header, value) in &reply.headers {
            self.hear(&format!("{header} of {name}"), value.clone());
        }
        self.hear(name, text);
        // A stream is heard as it is.
        serde_json::from_slice::<Value>(&reply.body).unwrap_or_default()["result"]["structuredContent"].take()
    }

    /// What a browser was answered here, and which addresses it got to see.
    fn browser(&mut self, browser: Browser) {
        for (url, reply) in browser.answers {
            if url.as_str().starts_with(&self.base) {
                self.reply(url.path(), &reply);
                // Whoever opens a link has it in the address, and the last page has its receipt there.
                let has_own = url
                    .query_pairs()
                    .any(|(name, _)| ["ticket", "receipt"].contains(&name.as_ref()));
                if !has_own && !url.path().ends_with("/callback") {
                    self.hear("an address", url.as_str());
                }
            }
        }
    }

    /// Signs in as `username` for Ada's label, and does with the answer all that one should not.
    fn sign_in(&mut self, username: &str, failure: Option<TokenFailure>) {
        let mut mcp = self.mcp();
        let begun = self.tool(&mut mcp, "authenticate_user", &json!({"user_id": ADA}));
        let link = begun["sign_in_url"].as_str().unwrap();
        let mut browser = Browser::new();
        // It gets the page with the button.
        let mut other = Browser {
            without_metadata: true,
            ..Browser::default()
        };
        other.open(link);
        let accounts = browser.navigate(link);
        if let Some(failure) = failure {
            self.entra.fail_next_token(failure);
        }
        let answer = browser.submit(&accounts, username);
        if answer.submits_itself() {
            let last = browser.auto_submit(&answer);
            browser.auto_submit(&answer);
            browser.navigate(last.url.as_str());
            other.navigate(last.url.as_str());
            other.navigate(link);
            // As somebody would who was talked into it: a code in an address is his own, and not shown again.
            other.navigate(&format!(
                "{}/auth/callback?{}",
                self.base,
                encode_pairs(&answer.form().fields)
            ));
            let mut twice = answer.form().fields;
            twice.extend(twice.clone());
            let form = [("Content-Type", "application/x-www-form-urlencoded")];
            let reply = Client::new(&self.base).request(
                "POST",
                "/auth/callback",
                &form,
                encode_pairs(&twice).as_bytes(),
            );
            self.reply("a malformed answer", &reply);
        }
        self.browser(browser);
        self.browser(other);
        self.look_into_the_file();
    }

    fn call(&mut self, endpoint: &str) -> Value {
        let mut mcp = self.mcp();
        let result = self.tool(
            &mut mcp,
            "api_get_request",
            &json!({"endpoint": endpoint, "user_id": ADA}),
        );
        self.look_into_the_file();
        result
    }

    /// The tokens that are kept at the moment.
    fn look_into_the_file(&mut self) {
        let Ok(text) = fs::read(Path::new(&self.setup.variables["TOKEN_CACHE_FILE"])) else {
            return;
        };
        let accounts =
            serde_json::from_slice::<Value>(&text).unwrap_or_default()["accounts"].take();
        for account in accounts.as_array().into_iter().flatten() {
            let tokens = ["access_token", "refresh_token"]
                .into_iter()
                .filter_map(|name| account[name].as_str());
            self.secrets
                .extend(tokens.filter(|token| !token.is_empty()).map(str::to_owned));
        }
    }

    fn verb(&mut self, arguments: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
        command.args(arguments);
        let (_, stdout, stderr) = Verb::run(command, &self.setup);
        self.hear(&format!("stdout of {arguments:?}"), stdout);
        self.hear(&format!("stderr of {arguments:?}"), stderr);
    }

    fn with_a_device(&mut self, user_id: &str, then: impl FnOnce(&Entra, &str)) {
        let mut mcp = self.mcp();
        let arguments = json!({"user_id": user_id, "method": "device_code"});
        let begun = self.tool(&mut mcp, "authenticate_user", &arguments);
        then(&self.entra, begun["user_code"].as_str().unwrap());
        self.tool(
            &mut mcp,
            "check_auth_status",
            &json!({"user_id": user_id, "wait_seconds": 20}),
        );
        self.look_into_the_file();
    }

    /// Ends the server; gives everything that was heard and all that is secret.
    fn end(mut self) -> (Vec<(String, String)>, BTreeSet<String>) {
        let id = self.server.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &id])
                .status()
                .unwrap()
                .success()
        );
        let (code, stdout, stderr) = self.server.end();
        assert_eq!(code, 0, "{stderr}");
        let audit = fs::read_to_string(&self.setup.variables["AUDIT_LOG"]).unwrap();
        for (what, text) in [
            ("stdout", stdout),
            ("stderr", stderr),
            ("the audit log", audit),
        ] {
            self.heard.push((what.to_owned(), text));
        }
        for request in self.entra.token_requests() {
            let names = ["code", "code_verifier", "refresh_token", "device_code"];
            self.secrets.extend(
                names
                    .into_iter()
                    .filter_map(|name| value_of(&request, name).map(str::to_owned)),
            );
        }
        for request in self.backend.requests() {
            // The doctor sends no token.
            let bearer = request
                .header("authorization")
                .and_then(|value| value.strip_prefix("Bearer "));
            self.secrets.extend(bearer.map(str::to_owned));
        }
        self.secrets.append(&mut self.tickets);
        (self.heard, self.secrets)
    }
}

/// `secret` as it stands, with every byte percent-encoded, and as what Base64 makes of it wherever it stands in
/// what is encoded.
fn forms(secret: &str) -> Vec<String> {
    let percent = secret.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    });
    let mut forms = vec![secret.to_owned(), percent.to_lowercase(), percent];
    for before in 0..3 {
        let text = format!("{}{secret}", "?".repeat(before));
        for encoded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)] {
            // Without the letters that what stands before and behind has a part in.
            forms.push(encoded[before + before.min(1)..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// No form of a secret is as short.
const LEAST: usize = 40;

fn oauth(error: &'static str, aadsts: u32) -> TokenFailure {
    TokenFailure::Oauth {
        error,
        aadsts,
        suberror: None,
        claims: None,
    }
}

#[cfg(unix)]
#[test]
fn no_secret_shows_anywhere_but_where_it_belongs() {
    let mut story = Story::begin("form_post");
    // Sign-ins of every ending.
    story.sign_in("Deny consent", None);
    story.sign_in(GRACE, None); // another account than the one that was asked for
    for failure in [
        oauth("invalid_grant", 54005),
        oauth("invalid_client", 7_000_218),
        TokenFailure::Status(503, Some(1)),
        TokenFailure::CloseWithoutAnswer,
        TokenFailure::LoseAnswer,
        TokenFailure::Garbage,
        TokenFailure::Huge(2 << 20),
    ] {
        story.sign_in(ADA, Some(failure));
    }
    for claim in ["nonce", "aud", "iss"] {
        story
            .entra
            .id_token_tamper(move |claims| claims[claim] = json!("wrong"));
        story.sign_in(ADA, None);
    }
    story.entra.heal();
    story.with_a_device("declined", Entra::decline_device);
    story.with_a_device("expired", Entra::expire_device);
    story.with_a_device("other", |entra, code| entra.approve_device(code, GRACE));
    story.sign_in(ADA, None);

    // Calls of every ending, each with a refresh.
    for endpoint in [
        "/me",
        "/status/500",
        "/status/401",
        "/redirect",
        "/echo",
        "/none",
        "//evil.example",
    ] {
        story.call(endpoint);
    }
    story
        .backend
        .on(|request| match request.path.rsplit('/').next() {
            Some("closed") => Some(Answer::Close),
            Some("broken") => Some(Answer::raw(
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            )),
            Some("garbage") => Some(Answer::raw("garbage")),
            Some("claims") => Some(claims_challenge(&cae_claims()).into()),
            _ => None,
        });
    for endpoint in ["/closed", "/broken", "/garbage", "/claims"] {
        story.call(endpoint);
    }
    for failure in [
        TokenFailure::Garbage,
        TokenFailure::Huge(2 << 20),
        TokenFailure::Status(429, Some(0)),
    ] {
        story.entra.fail_next_token(failure);
        story.call("/me");
    }
    // Asked for by every kind of client.
    let mut asking = [
        Mcp::modern(Client::new(&story.base), Mcp::can_open_urls()),
        Mcp::legacy(Client::new(&story.base), "2025-11-25", Mcp::can_open_urls()),
        Mcp::legacy(Client::new(&story.base), "2025-03-26", json!({})),
    ];
    for mcp in &mut asking {
        story.tool(
            mcp,
            "api_get_request",
            &json!({"endpoint": "/me", "user_id": "nobody"}),
        );
    }
    let mut mcp = story.mcp();
    for name in [
        "check_auth_status",
        "view_userid",
        "get_server_info",
        "ping",
        "authenticate_user",
    ] {
        story.tool(&mut mcp, name, &json!({"user_id": ADA}));
    }
    for target in [
        "/",
        "/auth/status",
        "/healthz",
        "/auth/complete?sign_in=x",
        "/auth/logout-complete",
    ] {
        let reply = Client::new(&story.base).get(target);
        story.reply(target, &reply);
    }
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["--check-config"],
    ] {
        story.verb(arguments);
    }
    story.entra.fail_next_token(oauth("invalid_grant", 50173));
    story.call("/me");
    // A token file that cannot be understood; the server does not look at it again.
    let file = story.setup.variables["TOKEN_CACHE_FILE"].clone();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() - 9]).unwrap();
    story.call("/me");
    story.verb(&["status"]);
    story.verb(&["doctor"]);
    fs::write(&file, &text).unwrap();
    story.verb(&["logout", ADA]);
    story.tool(&mut mcp, "logout_user", &json!({"user_id": "other"}));

    let redemptions = story.entra.redemptions();
    let refreshes = story.entra.refreshes();
    assert!(
        redemptions >= 6 && refreshes >= 10,
        "it was a day worth listening to: {redemptions} redemptions, {refreshes} refreshes"
    );
    let (heard, secrets) = story.end();
    let is_of = |mark: &str| secrets.iter().any(|secret| secret.starts_with(mark));
    assert!(
        ["AT-", "RT-", DEVICE_CODE_MARK, CODE_MARK]
            .into_iter()
            .all(is_of),
        "{secrets:?}"
    );
    assert!(
        secrets.len() > 80 && secrets.iter().all(|secret| secret.len() >= 43),
        "{secrets:?}"
    );
    let told = |place: &str, part: &str| {
        heard
            .iter()
            .any(|(what, text)| what == place && text.contains(part))
    };
    assert!(
        told("stderr", " debug ")
            && told("stderr", "could not be refreshed")
            && told("stdout", "is ready")
    );
    assert!(
        ["sign_in", "refresh", "api_call", "sign_out"]
            .into_iter()
            .all(|event| told("the audit log", event))
    );
    assert!(!told("stderr", "panicked"), "{heard:?}");
    assert_nothing_is_told(&heard, &secrets);
}

/// What comes by GET is not logged and not shown either.
#[cfg(unix)]
#[test]
fn no_secret_of_a_sign_in_in_query_mode_shows_anywhere_but_where_it_belongs() {
    let mut story = Story::begin("query");
    story.sign_in("Deny consent", None);
    story.sign_in(GRACE, None);
    story.sign_in(ADA, Some(oauth("invalid_grant", 54005)));
    let mut mcp = story.mcp();
    let begun = story.tool(&mut mcp, "authenticate_user", &json!({"user_id": ADA}));
    let link = begun["sign_in_url"].as_str().unwrap();
    // Another browser delivers the answer, then the right one does.
    let mut browser = Browser::new();
    browser.stops_at = Some("/auth/callback");
    let accounts = browser.navigate(link);
    let answer = browser.submit(&accounts, ADA);
    browser.stops_at = None;
    for mut browser in [Browser::new(), browser] {
        browser.navigate(answer.url.as_str());
        story.browser(browser);
    }
    story.sign_in(ADA, None);
    assert_eq!(story.entra.redemptions(), 2);
    let (heard, secrets) = story.end();
    assert!(secrets.len() > 30, "{secrets:?}");
    assert_nothing_is_told(&heard, &secrets);
}

#[track_caller]
fn assert_nothing_is_told(heard: &[(String, String)], secrets: &BTreeSet<String>) {
    let forms: BTreeSet<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let is_of_a_form = |c: char| c.is_ascii_alphanumeric() || "-_+/=%.".contains(c);
    assert!(
        forms
            .iter()
            .all(|form| form.len() > LEAST && form.chars().all(is_of_a_form))
    );
    for (what, text) in heard {
        for run in text
            .split(|c| !is_of_a_form(c))
            .filter(|run| run.len() > LEAST)
        {
            let told = forms.iter().find(|form| run.contains(form.as_str()));
            assert!(told.is_none(), "{what} tells {told:?}: {text}");
        }
        for mark in ID_TOKEN_MARKS {
            assert!(!text.contains(mark), "{what} tells an ID token: {text}");
        }
    }
}

// CASES D8
#[cfg(target_os = "linux")]
#[test]
fn a_core_dump_holds_no_token() {
    let (setup, backend, _entra) = World::signed_in().stop();
    let mut command = Command::new("sh");
    // A shell that has started the tests in the background has them ignore the signal.
    let script = "ulimit -c unlimited; exec env --default-signal=QUIT \"$0\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_entra-auth-mcp")]);
    let mut process = Process::start(command, &setup);
    // The token is in memory by now.
    process
        .modern()
        .ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(backend.requests().len(), 1);
    let filter = fs::read_to_string(format!("/proc/{}/coredump_filter", process.id())).unwrap();
    assert_eq!(u32::from_str_radix(filter.trim(), 16), Ok(0));

    let id = process.id().to_string();
    let killed = Command::new("kill").args(["-s", "QUIT", &id]).status();
    assert!(killed.unwrap().success());
    assert_eq!(process.exit_code(), None);
    let account = setup.stored_account(ADA);
    let tokens = ["access_token", "refresh_token"].map(|name| account[name].as_str().unwrap());
    for entry in fs::read_dir(&setup.directory.0).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("core")
        {
            continue;
        }
        // Where the system writes it elsewhere, or none, there is nothing to be read.
        let core = fs::read(&path).unwrap();
        for token in tokens {
            let is_there = core
                .windows(token.len())
                .any(|part| part == token.as_bytes());
            assert!(!is_there, "{}", path.display());
        }
    }
}

#[test]
fn a_secret_that_is_formatted_or_panicked_with_stays_hidden() {
    let secret = Secret::new("s3cret-s3cret".to_owned());
    let panic = std::panic::catch_unwind(|| panic!("{secret:?} {:?}", Some(&secret))).unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert_eq!(message, "Secret(…) Some(Secret(…))");
}

/// A bug may be anywhere, and so may the text that its message quotes.
// CASES D1
#[test]
fn the_log_of_a_panic_quotes_nothing_that_the_program_worked_on() {
    let this = thread::current().id();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&said);
    let hook_of_others = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if thread::current().id() == this {
            lock(&heard).push(of_panic(panic));
        } else {
            hook_of_others(panic);
        }
    }));
    let token = "é.S3cret".to_owned();
    let bugs: [fn(&str); 3] = [
        |token| assert!(token[1..].is_empty()),
        |token| assert_eq!(token, "another one"),
        |_| panic!("a fixed text"),
    ];
    for bug in bugs {
        panic::catch_unwind(|| bug(&token)).unwrap_err();
    }
    let said = lock(&said);
    assert_eq!(said.len(), 3, "{said:?}");
    for line in said.iter() {
        assert!(line.contains("secrets.rs:"), "{line}");
        assert!(!line.contains("S3cret"), "{line}");
    }
    assert!(said[2].ends_with(": a fixed text"), "{said:?}");
}

/// Set in the process that a test starts to run itself in.
const IS_A_VERB: &str = "TEST_IS_A_VERB";

/// No verb can be made to panic from outside, so the panic comes after a verb of the same process.
#[test]
fn from_the_first_verb_on_a_panic_is_logged_without_what_it_quotes() {
    if env::var_os(IS_A_VERB).is_some() {
        let _ = cli::run(["version".to_owned()].into_iter());
        panic::catch_unwind(|| assert_eq!("S3cret", "another one")).unwrap_err();
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let name = "secrets::from_the_first_verb_on_a_panic_is_logged_without_what_it_quotes";
    command.args(["--exact", name, "--nocapture"]);
    let output = command.env(IS_A_VERB, "yes").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("1 passed"), "{text}");
    assert!(text.contains("secrets.rs:"), "{text}");
    assert!(!text.contains("S3cret"), "{text}");
}
