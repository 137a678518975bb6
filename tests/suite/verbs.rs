//! The verbs at a terminal, as the built binary and as a running server sees what they do.
#![cfg(unix)]

use std::cell::RefCell;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, iter};

use crate::support::PATIENCE;
use crate::support::backend::Backend;
use crate::support::browser::{Browser, Page};
use crate::support::entra::{
    ACCESS_TOKEN_MARK, ADA, CODE_MARK, DEVICE_CODE_MARK, Entra, GRACE, REFRESH_TOKEN_MARK,
    TENANT_ID, TokenFailure, User,
};
use crate::support::http::{Reply, StandIn};
use crate::support::server::{Process, Setup, TempDir, Verb, World};
use entra_auth_mcp::browser::Link;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::error::{Failure, Kind};
use entra_auth_mcp::owner::{self, Owner, Purpose};
use entra_auth_mcp::secret::Secret;
use entra_auth_mcp::text::is_plain;
use entra_auth_mcp::verbs::{self, Login};
use serde_json::{Value, json};

const SECRETS: [&str; 4] = [
    ACCESS_TOKEN_MARK,
    REFRESH_TOKEN_MARK,
    CODE_MARK,
    DEVICE_CODE_MARK,
];

/// What an ended verb left behind.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(verb: Verb) -> Self {
        let (code, stdout, stderr) = verb.end();
        assert!(
            !holds_secret(&format!("{stdout}{stderr}")),
            "{stdout}{stderr}"
        );
        assert!(
            !stderr.contains(" info ") && !stderr.contains(" debug "),
            "{stderr}"
        );
        Self {
            code,
            stdout,
            stderr,
        }
    }

    /// It went well, without a word on standard error; gives the other words.
    fn well(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// It failed with one line on standard error; gives that.
    fn failed(self) -> String {
        assert_eq!((self.code, self.stderr.lines().count()), (1, 1), "{self:?}");
        // A sentence for a person, not a line of a log.
        assert!(!self.stderr.contains("Z error "), "{self:?}");
        self.stderr
    }
}

/// A number comes behind each mark. A ticket or a user code may look like one by chance.
fn holds_secret(text: &str) -> bool {
    let words = || {
        text.split_whitespace()
            .filter(|word| !word.contains("?ticket="))
    };
    let is_number = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    SECRETS
        .iter()
        .any(|mark| words().any(|word| word.split(mark).skip(1).any(is_number)))
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_entra-auth-mcp"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str], setup: &Setup) -> Ended {
    Ended::of(Verb::start(command(arguments), setup))
}

fn run_at(port: u16, arguments: &[&str], setup: &Setup) -> Ended {
    Ended::of(Verb::start(at(port, arguments), setup))
}

/// For a server on `port`.
fn at(port: u16, arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("SERVER_PORT", port.to_string());
    command
}

fn url_in(line: &str) -> Option<&str> {
    line.trim().split(' ').find(|word| word.starts_with("http"))
}

/// The link that a login prints.
fn link_of(login: &mut Verb) -> String {
    let lines = iter::from_fn(|| login.line());
    let link = lines
        .into_iter()
        .find_map(|line| url_in(&line).map(str::to_owned));
    link.unwrap_or_else(|| panic!("no link: {}", login.log()))
}

/// The same for a device code: the address and the code.
fn code_of(login: &mut Verb) -> (String, String) {
    let line = iter::from_fn(|| login.line())
        .find(|line| url_in(line).is_some())
        .expect("an address");
    (
        url_in(&line).unwrap().to_owned(),
        line.rsplit(' ').next().unwrap().to_owned(),
    )
}

fn sign_in(link: &str, account: &str) -> Page {
    Browser::new().sign_in(link, account)
}

/// Signs `account` in as `user_id` at the terminal.
fn signed_in_as(user_id: &str, account: &str, setup: &Setup) {
    let mut login = Verb::start(command(&["login", user_id]), setup);
    sign_in(&link_of(&mut login), account);
    Ended::of(login).well();
}

fn token_file(setup: &Setup) -> String {
    fs::read_to_string(setup.directory.file("token_cache.json")).unwrap_or_default()
}

fn world() -> (Entra, Setup) {
    let entra = Entra::start();
    let setup = Setup::new(&entra, Some(&Backend::start_for(&entra)));
    (entra, setup)
}

// ---- Signing in, no server running ----

#[test]
fn login_signs_in_without_a_server_and_says_what_the_page_says() {
    for user_id in [ADA, "work", "Ada \"the\" Gräfin; %s"] {
        let (_entra, setup) = world();
        let mut login = Verb::start(command(&["login", user_id]), &setup);
        let link = link_of(&mut login);
        assert!(link.contains("/auth/login?user_id="), "{link}");
        let page = sign_in(&link, ADA);
        assert_eq!(page.status, 200, "{}", page.text());
        let stdout = Ended::of(login).well();
        let last = stdout.lines().last().unwrap();
        let expected = match user_id {
            ADA => format!("{ADA} is signed in."),
            _ => format!("{ADA} is signed in. Clients call this account {user_id}."),
        };
        assert_eq!(last, expected);
        assert!(page.text().contains(last), "{}", page.text());
        let accounts: Value = serde_json::from_str(&token_file(&setup)).unwrap();
        assert_eq!(accounts["accounts"][0]["user_id"], user_id);
        assert_eq!(accounts["accounts"][0]["username"], ADA);
    }
}

#[test]
fn login_says_how_to_get_there_from_another_machine() {
    let (_entra, setup) = world();
    let mut login = Verb::start(command(&["login"]), &setup);
    let link = link_of(&mut login);
    let port = link.split(['/', ':']).nth(4).unwrap();
    let help = login.line().unwrap();
    assert!(
        help.contains(&format!("ssh -L {port}:localhost:{port}")),
        "{help}"
    );
}

#[test]
fn login_serves_for_no_longer_than_the_sign_in_takes() {
    let (_entra, setup) = world();
    let mut login = Verb::start(command(&["login"]), &setup);
    let link = link_of(&mut login);
    let address = url::Url::parse(&link)
        .unwrap()
        .socket_addrs(|| None)
        .unwrap();
    let listens = |address: &SocketAddr| std::net::TcpStream::connect(address).is_ok();
    assert!(address.iter().any(listens));
    sign_in(&link, ADA);
    Ended::of(login).well();
    assert!(!address.iter().any(listens));
}

#[test]
fn ctrl_c_ends_a_login() {
    let (_entra, setup) = world();
    // A shell that has started the tests in the background has them ignore the signal.
    let mut command = Command::new("env");
    command.args([
        "--default-signal=INT",
        env!("CARGO_BIN_EXE_entra-auth-mcp"),
        "login",
    ]);
    let mut login = Verb::start(command, &setup);
    link_of(&mut login);
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &login.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert!(iter::from_fn(|| login.line()).all(|line| !line.contains("signed in as")));
    assert_eq!(login.log(), "");
}

#[test]
fn login_fails_in_the_words_of_the_page() {
    type Change = fn(&Entra);
    let cases: [(Change, &str, &str); 4] = [
        (
            |_| {},
            GRACE,
            "You signed in as grace@contoso.example, not as ada@contoso.example",
        ),
        (|_| {}, "Deny consent", "65004"),
        (
            |entra| {
                entra.set(|settings| {
                    settings.fail_authorize = Some(("access_denied", 50105, "Not assigned."));
                });
            },
            ADA,
            "50105",
        ),
        (
            |entra| entra.fail_tokens(TokenFailure::Status(503, None)),
            ADA,
            "status 503",
        ),
    ];
    for (change, account, said) in cases {
        let (entra, setup) = world();
        change(&entra);
        let mut login = Verb::start(command(&["login", ADA]), &setup);
        let page = sign_in(&link_of(&mut login), account);
        let stderr = Ended::of(login).failed();
        assert!(
            stderr.contains(said) && page.text().contains(said),
            "{stderr} {}",
            page.text()
        );
        assert!(!token_file(&setup).contains(ADA));
    }
}

#[test]
fn login_without_a_user_means_the_only_account_or_default() {
    let (_entra, setup) = world();
    let mut login = Verb::start(command(&["login"]), &setup);
    sign_in(&link_of(&mut login), ADA);
    assert!(
        Ended::of(login)
            .well()
            .ends_with(&format!("{ADA} is signed in.\n"))
    );
    assert!(run(&["logout"], &setup).well().contains("default"));

    signed_in_as("work", ADA, &setup);
    let mut login = Verb::start(command(&["login"]), &setup);
    sign_in(&link_of(&mut login), ADA);
    assert!(Ended::of(login).well().ends_with(&format!(
        "{ADA} is signed in. Clients call this account work.\n"
    )));
}

#[test]
fn with_several_accounts_one_must_be_named() {
    let (_entra, setup) = world();
    signed_in_as("work", ADA, &setup);
    signed_in_as("home", GRACE, &setup);
    for verb in ["login", "logout"] {
        let ended = run(&[verb], &setup);
        assert_eq!(ended.stdout, "");
        let stderr = ended.failed();
        assert!(
            stderr.contains("home, work") && stderr.contains(&format!("{verb} USER")),
            "{stderr}"
        );
    }
    assert!(run(&["logout", "home"], &setup).well().contains("home"));
    assert!(run(&["logout"], &setup).well().contains("work"));
}

#[test]
fn what_cannot_be_a_user_is_not_signed_in() {
    let (_entra, setup) = world();
    for user_id in ["", " ", "a\nb", &"x".repeat(257)] {
        assert!(
            run(&["login", user_id], &setup)
                .failed()
                .contains("256 characters"),
            "{user_id:?}"
        );
    }
}

// ---- Opening the browser ----

/// A program that notes its arguments, one a line, in a file beside it.
fn stand_in_browser(directory: &TempDir, name: &str) -> PathBuf {
    let (source, program) = (directory.file(&format!("{name}.sh")), directory.file(name));
    fs::write(
        &source,
        "#!/bin/sh\n{ printf '%s\\n' \"$@\"; echo '(end)'; } >\"$0.arguments\"\n",
    )
    .unwrap();
    // Another process writes it: a file that a fork of this one may hold open cannot be run.
    assert!(
        Command::new("install")
            .args(["-m", "755"])
            .args([&source, &program])
            .status()
            .unwrap()
            .success()
    );
    program
}

fn noted(program: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(program.with_extension("arguments")).ok()?;
    Some(
        text.strip_suffix("(end)\n")?
            .lines()
            .map(str::to_owned)
            .collect(),
    )
}

/// The arguments, as soon as it has run.
fn arguments_of(program: &Path) -> Vec<String> {
    let start = Instant::now();
    loop {
        if let Some(arguments) = noted(program) {
            return arguments;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{} was not run",
            program.display()
        );
        thread::yield_now();
    }
}

/// Opens the link as the browser was told to, and ends the login.
fn finish(mut login: Verb, opened: &str) {
    assert_eq!(link_of(&mut login), opened);
    assert!(!opened.contains("ticket="), "{opened}");
    sign_in(opened, ADA);
    Ended::of(login).well();
}

#[test]
fn the_browser_of_the_environment_gets_the_link_as_one_argument() {
    let around = [
        ("", &[][..], &[][..]),
        (" --new -x %s --end", &["--new", "-x"], &["--end"]),
    ];
    for user_id in [
        "default",
        "a b",
        "ü\"'`$(touch pwned);touch pwned&&%s%20\\|>pwned<#?&c=d",
    ] {
        for (more, before, behind) in around {
            let (_entra, setup) = world();
            let program = stand_in_browser(&setup.directory, "browser");
            let mut login = command(&["login", user_id]);
            // White space may stand anywhere; `DISPLAY` and `PATH` do not count.
            login
                .env("BROWSER", format!(" {} {more}", program.display()))
                .env("DISPLAY", ":0")
                .env("PATH", "/");
            let login = Verb::start(login, &setup);
            let mut arguments = arguments_of(&program);
            assert_eq!(
                arguments.len(),
                before.len() + 1 + behind.len(),
                "{arguments:?}"
            );
            let link = arguments.remove(before.len());
            assert_eq!(arguments, [before, behind].concat());
            finish(login, &link);
            assert!(!setup.directory.file("pwned").exists());
        }
    }
}

#[test]
fn the_link_may_be_a_part_of_the_browsers_argument() {
    let (_entra, setup) = world();
    let program = stand_in_browser(&setup.directory, "browser");
    let mut login = command(&["login"]);
    login.env("BROWSER", format!("{} --app=%s", program.display()));
    let login = Verb::start(login, &setup);
    let arguments = arguments_of(&program);
    finish(login, arguments[0].strip_prefix("--app=").unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_named_browser_the_systems_own_opens_the_link() {
    let (display, wayland, wsl) = (
        ("DISPLAY", ":0"),
        ("WAYLAND_DISPLAY", "wayland-0"),
        ("WSL_DISTRO_NAME", "Debian"),
    );
    let both = &["wslview", "xdg-open"][..];
    for (variables, installed, opens) in [
        (&[display][..], both, "xdg-open"),
        (&[wayland], both, "xdg-open"),
        (&[display, ("BROWSER", " ")], both, "xdg-open"),
        (&[wsl], both, "wslview"),
        (&[wsl, display], both, "wslview"),
        (&[wsl, display], &["xdg-open"], "xdg-open"),
    ] {
        let (_entra, setup) = world();
        for name in installed {
            stand_in_browser(&setup.directory, name);
        }
        let mut login = command(&["login"]);
        login
            .envs(variables.iter().copied())
            .env("PATH", &setup.directory.0);
        let login = Verb::start(login, &setup);
        let arguments = arguments_of(&setup.directory.file(opens));
        assert_eq!(arguments.len(), 1, "{variables:?}");
        finish(login, &arguments[0]);
        assert_eq!(
            installed
                .iter()
                .filter(|name| noted(&setup.directory.file(name)).is_some())
                .count(),
            1
        );
    }
}

// CASES C9
#[test]
fn a_link_with_a_ticket_never_stands_on_a_command_line() {
    for is_beside_a_server in [false, true] {
        let (_entra, setup) = world();
        let setup = setup.with("SERVER_ACCESS_KEY", KEY);
        let server = is_beside_a_server.then(|| setup.start());
        let program = stand_in_browser(&setup.directory, "browser");
        let system = stand_in_browser(&setup.directory, "xdg-open");
        let at_a_desktop = || {
            let mut login = command(&["login", ADA]);
            login
                .env("DISPLAY", ":0")
                .env("TMPDIR", &setup.directory.0)
                .env("PATH", &setup.directory.0);
            login
        };

        // What an unknown program makes of a file is unknown.
        let mut login = at_a_desktop();
        login.env("BROWSER", &program);
        let mut login = Verb::start(login, &setup);
        sign_in(&link_of(&mut login), ADA);
        Ended::of(login).well();
        assert_eq!((noted(&program), noted(&system)), (None, None));

        let mut login = Verb::start(at_a_desktop(), &setup);
        let link = link_of(&mut login);
        assert!(link.contains("ticket="), "{link}");
        let arguments = arguments_of(&system);
        assert_eq!(arguments.len(), 1, "{arguments:?}");
        let page = PathBuf::from(&arguments[0]);
        let mode_of = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode_of(&page), 0o600);
        assert_eq!(mode_of(page.parent().unwrap()), 0o700);
        let text = fs::read_to_string(&page).unwrap();
        assert!(
            text.contains(&format!("content=\"0;url={link}\"")),
            "{text}"
        );
        sign_in(&link, ADA);
        Ended::of(login).well();
        assert!(!page.parent().unwrap().exists());
        drop(server);
    }
}

// CASES C9
#[test]
fn without_a_browser_no_page_with_a_ticket_stays() {
    let (_entra, setup) = world();
    let setup = setup.with("SERVER_ACCESS_KEY", KEY);
    let nowhere = setup.directory.file("not-there");
    for (display, directory) in [("", &setup.directory.0), (":0", &nowhere)] {
        let mut login = command(&["login", ADA]);
        login
            .env("DISPLAY", display)
            .env("TMPDIR", directory)
            .env("PATH", &setup.directory.0);
        let mut login = Verb::start(login, &setup);
        let link = link_of(&mut login);
        sign_in(&link, ADA);
        Ended::of(login).well();
        let is_page = |entry: &fs::DirEntry| entry.file_type().unwrap().is_dir();
        let entries = fs::read_dir(&setup.directory.0).unwrap();
        assert_eq!(entries.flatten().filter(is_page).count(), 0);
    }
}

#[test]
fn without_a_browser_the_link_is_good_all_the_same() {
    for browser in ["", "/no/such/browser", "/no/such/browser %s"] {
        let (_entra, setup) = world();
        let program = stand_in_browser(&setup.directory, "xdg-open");
        let mut login = command(&["login"]);
        login
            .env("BROWSER", browser)
            .env("DISPLAY", "")
            .env("PATH", &setup.directory.0);
        let mut login = Verb::start(login, &setup);
        let link = link_of(&mut login);
        sign_in(&link, ADA);
        Ended::of(login).well();
        assert_eq!(noted(&program), None);
    }
}

// ---- Beside a running server ----

#[test]
fn login_uses_a_server_that_runs_and_its_calls_go_through() {
    for user_id in [ADA, "a b", "ü\"'$(x);&#?%s%20+"] {
        let world = World::new();
        let mut mcp = world.server.modern();
        let me = json!({"endpoint": "/me", "user_id": user_id});
        assert_eq!(
            mcp.fails("api_get_request", me.clone())["error"],
            "sign_in_required"
        );

        let mut login = at(world.server.server.port(), &["login", user_id]);
        // A proxy is not asked whether it runs.
        login.envs(
            ["ALL_PROXY", "HTTP_PROXY", "http_proxy"].map(|name| (name, "http://127.0.0.1:9")),
        );
        let mut login = Verb::start(login, &world.setup);
        let link = link_of(&mut login);
        assert!(
            link.starts_with(&format!("{}/auth/login?user_id=", world.server.url())),
            "{link}"
        );
        let parsed = url::Url::parse(&link).unwrap();
        assert_eq!(
            parsed.query_pairs().collect::<Vec<_>>(),
            [("user_id".into(), user_id.into())]
        );
        assert!(
            link.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b":/?=%+_.-".contains(&byte)),
            "{link}"
        );

        let page = sign_in(&link, ADA);
        let stdout = Ended::of(login).well();
        assert!(
            page.text().contains(stdout.lines().last().unwrap()),
            "{} {stdout}",
            page.text()
        );
        assert_eq!(
            mcp.ok("api_get_request", me)["data"]["userPrincipalName"],
            ADA
        );
    }
}

#[test]
fn login_mends_a_sign_in_that_the_server_has_seen_end() {
    let world = World::new();
    let mut mcp = world.server.modern();
    // Not in the second in which the other process signs in.
    world.advance(60);
    mcp.sign_in(ADA);
    world.entra.revoke_all();
    world.advance(4000);
    assert_eq!(
        mcp.fails("api_get_request", json!({"endpoint": "/me"}))["error"],
        "sign_in_required"
    );
    // The settings do not say where the server is; the owner file does.
    let mut login = Verb::start(command(&["login"]), &world.setup);
    world.entra.set(|settings| settings.expires_in = 8000);
    sign_in(&link_of(&mut login), ADA);
    Ended::of(login).well();
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(
        mcp.ok("authenticate_user", json!({"user_id": ADA}))["already_signed_in"],
        true
    );
}

#[test]
fn logout_is_seen_by_a_running_server_at_its_next_call() {
    let world = World::signed_in();
    let mut mcp = world.server.modern();
    mcp.ok("api_get_request", json!({"endpoint": "/me"}));
    run_at(world.server.server.port(), &["logout"], &world.setup).well();
    assert_eq!(
        mcp.fails("api_get_request", json!({"endpoint": "/me"}))["error"],
        "sign_in_required"
    );
}

#[test]
fn the_link_is_for_the_redirect_uri_and_the_port_is_asked_where_that_is_not_ours() {
    let (_entra, setup) = world();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let origin = format!("https://localhost:{closed}");
    let setup = setup.with("REDIRECT_URI", &format!("{origin}/auth/callback"));
    let server = setup.start();
    let mut login = Verb::start(at(server.server.port(), &["login", "a b"]), &setup);
    assert_eq!(
        link_of(&mut login),
        format!("{origin}/auth/login?user_id=a+b")
    );
    let status = run_at(server.server.port(), &["status", "--json"], &setup);
    assert_eq!(
        serde_json::from_str::<Value>(&status.stdout).unwrap()["server"],
        format!("http://{}", server.address())
    );
}

#[test]
fn a_port_that_another_program_has_is_told() {
    let (_entra, setup) = world();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = StandIn::serve(|_| Reply::empty(200).with("Server", "entra-auth-mcp/2"));
    for port in [silent.local_addr().unwrap().port(), other.addr().port()] {
        let ended = run_at(port, &["login"], &setup);
        assert_eq!(ended.stdout, "");
        let stderr = ended.failed();
        assert!(
            stderr.contains(&format!("Could not listen on localhost port {port}")),
            "{stderr}"
        );
        assert!(stderr.contains("SERVER_PORT"), "{stderr}");
    }
    let status = run_at(other.addr().port(), &["status"], &setup).stdout;
    assert!(status.contains("Server: none is running\n"), "{status}");
    let address = other.addr();
    let said = format!("Port: something else listens on {address}; it is not the server");
    assert!(status.contains(&said), "{status}");
    let free = run(&["status"], &setup).stdout;
    assert!(!free.contains("Port:"), "{free}");
}

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A server with an access key, which the verbs of `setup` know as well.
fn world_with_key() -> World {
    World::new().with(|setup| setup.with("SERVER_ACCESS_KEY", KEY))
}

#[test]
fn login_and_logout_beside_a_server_with_a_key_send_it_so_that_nobody_has_to_type_it() {
    let world = world_with_key();
    let mut mcp = world.server.modern().with_key(KEY);
    let key_file = world.setup.directory.file("key");
    fs::write(&key_file, format!("{KEY}\n")).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    for has_file in [false, true] {
        let with_key = |arguments: &[&str]| {
            let mut command = command(arguments);
            if has_file {
                command.env("SERVER_ACCESS_KEY", "");
                command.env("SERVER_ACCESS_KEY_FILE", &key_file);
            }
            command
        };
        let mut login = Verb::start(with_key(&["login", ADA]), &world.setup);
        let link = link_of(&mut login);
        assert!(link.contains("/auth/login?ticket="), "{link}");
        sign_in(&link, ADA);
        let stdout = Ended::of(login).well();
        assert!(stdout.ends_with(&format!("{ADA} is signed in.\n")));
        mcp.ok("api_get_request", json!({"endpoint": "/me"}));
        let logout = Ended::of(Verb::start(with_key(&["logout"]), &world.setup)).well();
        assert!(logout.contains(ADA), "{logout}");
        mcp.fails("api_get_request", json!({"endpoint": "/me"}));
    }
}

#[test]
fn login_without_a_server_starts_one_with_the_key() {
    let (_entra, setup) = world();
    let setup = setup.with("SERVER_ACCESS_KEY", KEY);
    let mut login = Verb::start(command(&["login", ADA]), &setup);
    let link = link_of(&mut login);
    assert!(link.contains("/auth/login?ticket="), "{link}");
    sign_in(&link, ADA);
    Ended::of(login).well();
}

#[test]
fn a_verb_with_another_key_than_the_server_is_told() {
    let world = world_with_key();
    let cases = [
        ("", "wants its access key"),
        (
            "fedcba9876543210fedcba9876543210",
            "does not take the access key",
        ),
    ];
    for (key, said) in cases {
        for verb in ["login", "logout"] {
            let mut command = command(&[verb]);
            command.env("SERVER_ACCESS_KEY", key);
            let stderr = Ended::of(Verb::start(command, &world.setup)).failed();
            assert!(stderr.contains(said), "{stderr}");
            assert!(stderr.contains("SERVER_ACCESS_KEY"), "{stderr}");
        }
    }
}

/// Something that listens where a server might be, and whose requests are counted.
fn listener() -> (StandIn, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::default());
    let counted = Arc::clone(&count);
    let stand_in = StandIn::serve(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Reply::empty(200).with("Server", "entra-auth-mcp")
    });
    (stand_in, count)
}

#[test]
fn who_merely_listens_on_the_port_is_sent_nothing() {
    let (_entra, setup) = world();
    let setup = setup.with("SERVER_ACCESS_KEY", KEY);
    let (other, requests) = listener();
    let port = other.addr().port();
    // As a killed server has left it.
    let owner_file = setup.directory.file("token_cache.json.owner");
    let stale =
        json!({"pid": 1, "origin": format!("http://127.0.0.1:{port}"), "purpose": "server"});
    fs::write(&owner_file, stale.to_string()).unwrap();
    fs::set_permissions(&owner_file, fs::Permissions::from_mode(0o600)).unwrap();

    let stderr = run_at(port, &["login"], &setup).failed();
    assert!(stderr.contains("Could not listen"), "{stderr}");
    let stderr = run_at(port, &["logout"], &setup).failed();
    assert!(stderr.contains("Nobody is signed in."), "{stderr}");
    let stdout = run_at(port, &["status"], &setup).stdout;
    assert!(stdout.contains("none is running"), "{stdout}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);

    // Nor does a lock help whose owner does not say who it is.
    fs::write(&owner_file, stale.to_string()).unwrap();
    fs::set_permissions(&owner_file, fs::Permissions::from_mode(0o600)).unwrap();
    let lock = fs::File::create(setup.directory.file("token_cache.json.lock")).unwrap();
    lock.lock().unwrap();
    let stderr = run_at(port, &["logout"], &setup).failed();
    assert!(stderr.contains("does not say which one it is"), "{stderr}");
    let stdout = run_at(port, &["status"], &setup).stdout;
    assert!(stdout.contains("does not say which one it is"), "{stdout}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[test]
fn who_takes_the_port_of_a_server_that_ends_during_a_login_is_sent_nothing() {
    let World {
        server,
        setup,
        backend: _backend,
        entra: _entra,
    } = world_with_key();
    let config = Config::from_variables(&setup.variables).unwrap();
    let port = server.server.port();
    let server = RefCell::new(Some(server));
    let (sender, heard) = mpsc::channel();
    let show = |_: &str, _: Option<&Link>| {
        drop(server.take());
        // The thread that has accepted there is about to let go of it.
        let begun = Instant::now();
        let other = loop {
            match TcpListener::bind(("127.0.0.1", port)) {
                Ok(other) => break other,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            thread::yield_now();
        };
        let sender = sender.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            let length = other.accept().unwrap().0.read(&mut bytes).unwrap();
            sender.send(bytes[..length].to_vec()).unwrap();
        });
    };
    let key = Secret::new(KEY.to_owned());
    let login = Login {
        user_id: Some(ADA),
        access_key: Some(&key),
        ..Login::default()
    };
    let failure = verbs::login(config, setup.clock.clock(), login, &show).unwrap_err();
    let heard = heard.try_recv().unwrap_or_default();
    assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    assert!(failure.text().contains("has ended"), "{}", failure.text());
}

#[test]
fn the_key_is_sent_neither_to_another_machine_without_encryption_nor_to_a_proxy() {
    let (_entra, setup) = world();
    let setup = setup.with("SERVER_ACCESS_KEY", KEY);
    let (proxy, requests) = listener();
    let token_file = setup.directory.file("token_cache.json");
    let owner = Owner::acquire(&token_file, Purpose::Server, PATIENCE).unwrap();
    let origins = [
        "http://192.0.2.1:8000",
        "http://mcp.example",
        "ftp://localhost",
        "no origin",
    ];
    for origin in origins {
        owner.announce(origin);
        for verb in ["login", "logout"] {
            let stderr = run(&[verb], &setup).failed();
            assert!(stderr.contains("without encryption"), "{stderr}");
        }
    }
    // Nothing listens there.
    owner.announce("http://127.0.0.1:9");
    let mut logout = command(&["logout"]);
    for name in ["ALL_PROXY", "HTTP_PROXY", "http_proxy"] {
        logout.env(name, format!("http://{}", proxy.addr()));
    }
    let stderr = Ended::of(Verb::start(logout, &setup)).failed();
    assert!(stderr.contains("does not answer"), "{stderr}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

// CASES C24
#[test]
fn login_beside_a_server_says_why_the_sign_in_failed() {
    for world in [World::new(), world_with_key()] {
        // The second failure is in the words of the first.
        for _ in 0..2 {
            let mut login = Verb::start(command(&["login", ADA]), &world.setup);
            let page = sign_in(&link_of(&mut login), GRACE);
            let stderr = Ended::of(login).failed();
            let said = "You signed in as grace@contoso.example, not as ada@contoso.example";
            assert!(stderr.contains(said), "{stderr}");
            assert!(page.text().contains(said), "{}", page.text());
        }
    }
}

// CASES C24
#[test]
fn login_says_at_once_why_a_sign_in_cannot_begin() {
    let world = World::new().with(|setup| setup.with("ALLOW_DEVICE_CODE", "true"));
    world.entra.down();
    let stderr = run(&["login", "--device-code"], &world.setup).failed();
    assert!(stderr.contains("could not be reached"), "{stderr}");
}

#[test]
fn login_beside_a_server_signs_in_anew_whoever_is_signed_in() {
    for key in [None, Some(KEY)] {
        let world = match key {
            Some(_) => world_with_key(),
            None => World::new(),
        };
        let mut mcp = world.server.modern();
        mcp.key = key.map(str::to_owned);
        let begun = mcp.ok("authenticate_user", json!({"user_id": "work"}));
        sign_in(begun["sign_in_url"].as_str().unwrap(), ADA);

        let mut login = Verb::start(command(&["login"]), &world.setup);
        let link = link_of(&mut login);
        sign_in(&link, GRACE);
        let stdout = Ended::of(login).well();
        assert!(
            stdout.ends_with(&format!(
                "{GRACE} is signed in. Clients call this account work.\n"
            )),
            "{stdout}"
        );
        let me = mcp.ok("api_get_request", json!({"endpoint": "/me"}));
        assert_eq!(me["data"]["userPrincipalName"], GRACE);
        if key.is_some() {
            let prompt = ("prompt".to_owned(), "select_account".to_owned());
            assert!(world.entra.last_authorize().contains(&prompt));
        }
    }
}

#[test]
fn a_device_code_beside_a_server_needs_its_permission() {
    let world = World::new();
    let stderr = run(&["login", "--device-code"], &world.setup).failed();
    for said in [
        "does not allow device codes",
        "ALLOW_DEVICE_CODE=true",
        "stop it first",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert_eq!(world.entra.device_requests().len(), 0);

    let world = world.with(|setup| setup.with("ALLOW_DEVICE_CODE", "true"));
    let mut login = Verb::start(command(&["login", "--device-code", ADA]), &world.setup);
    let (address, code) = code_of(&mut login);
    assert_eq!(address, format!("{}/device", world.entra.authority_host()));
    world.entra.approve_device(&code, ADA);
    let stdout = Ended::of(login).well();
    assert!(stdout.ends_with(&format!("{ADA} is signed in.\n")));
    world
        .server
        .modern()
        .ok("api_get_request", json!({"endpoint": "/me"}));
}

#[test]
fn while_a_device_code_is_waited_for_nobody_else_has_the_token_file() {
    let (entra, setup) = world();
    let mut login = Verb::start(command(&["login", "--device-code", ADA]), &setup);
    let (_, code) = code_of(&mut login);
    for arguments in [&["login"][..], &["login", "--device-code"], &["logout"]] {
        let stderr = run(arguments, &setup).failed();
        for said in ["login --device-code", "15 minutes", &login.id().to_string()] {
            assert!(stderr.contains(said), "{arguments:?} {said}: {stderr}");
        }
    }
    let stdout = run(&["status"], &setup).stdout;
    assert!(
        stdout.contains("login --device-code is under way"),
        "{stdout}"
    );
    let setup = setup.limits(|limits| limits.owner = Duration::ZERO);
    let refusal = setup.try_start().err().unwrap().text();
    assert!(refusal.contains("login --device-code"), "{refusal}");

    entra.approve_device(&code, ADA);
    Ended::of(login).well();
    setup.try_start().map(drop).unwrap();
}

#[test]
fn wherever_a_server_listens_the_verbs_speak_to_an_address_that_nobody_else_can_have() {
    let hosts = [
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
    ];
    for (host, address) in hosts {
        let (_entra, setup) = world();
        let setup = setup
            .with("SERVER_ACCESS_KEY", KEY)
            .with("SERVER_HOST", host);
        let server = setup.start();
        let owner = owner::current(&server.token_file()).unwrap().unwrap();
        let origin = format!("http://{address}:{}", server.server.port());
        assert_eq!(owner.origin, Some(origin), "{host}");
        let ended = run(&["logout", "work"], &setup);
        assert!(ended.stderr.contains("work is not signed in"), "{ended:?}");
    }
}

// CASES C25
#[test]
fn a_logout_of_nobody_says_what_to_do_at_a_terminal() {
    let (_entra, setup) = world();
    let alone = run(&["logout", "work"], &setup).failed();
    let server = setup.start();
    let beside_a_server = run(&["logout", "work"], &setup).failed();
    for stderr in [alone, beside_a_server] {
        assert!(stderr.contains("entra-auth-mcp status"), "{stderr}");
        assert!(!stderr.contains("check_auth_status"), "{stderr}");
    }
    drop(server);
}

#[test]
fn a_second_server_does_not_start_on_a_token_file_and_says_whose_it_is() {
    let (_entra, setup) = world();
    let setup = setup.limits(|limits| limits.owner = Duration::ZERO);
    let server = setup.start();
    let refusal = setup.try_start().err().unwrap();
    assert_eq!(refusal.kind, Kind::TokenCache);
    let text = refusal.text();
    for said in [
        format!("http://{}", server.address()),
        format!("process {}", std::process::id()),
        "TOKEN_CACHE_FILE of its own".to_owned(),
    ] {
        assert!(text.contains(&said), "{said}: {text}");
    }
    // It answers as before.
    server.modern().ok("ping", json!({}));
    drop(server);
    setup.limits(|limits| limits.owner = PATIENCE).start();
}

#[test]
fn a_server_that_could_not_start_leaves_the_token_file_to_the_next() {
    let (_entra, setup) = world();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let setup = setup
        .with("SERVER_PORT", &port)
        .limits(|limits| limits.owner = Duration::ZERO);
    let refusal = setup.try_start().err().unwrap();
    assert!(refusal.text().contains("Could not listen"));
    setup.with("SERVER_PORT", "0").start();
}

#[test]
fn a_killed_server_owns_nothing() {
    let (_entra, setup) = world();
    let mut server = Process::start(command(&[]), &setup);
    assert!(run(&["status"], &setup).stdout.contains("running at"));
    server.kill();
    assert!(run(&["status"], &setup).stdout.contains("none is running"));
    signed_in_as("work", ADA, &setup);
}

// CASES C15
#[cfg(target_os = "linux")]
#[test]
fn a_token_file_that_is_mounted_alone_is_noticed_at_the_start() {
    let (_entra, setup) = world();
    let token_file = setup.directory.file("token cache.json");
    fs::write(&token_file, "").unwrap();
    let setup = setup.with("TOKEN_CACHE_FILE", token_file.to_str().unwrap());
    for verb in ["serve", "login", "logout"] {
        let mut mounted = Command::new("unshare");
        mounted.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        mounted.arg("mount --bind \"$1\" \"$1\" && exec \"$2\" \"$3\"");
        mounted.arg("sh").arg(&token_file);
        mounted.args([env!("CARGO_BIN_EXE_entra-auth-mcp"), verb]);
        mounted.env("PATH", std::env::var_os("PATH").unwrap());
        let (code, stdout, stderr) = Verb::run(mounted, &setup);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.contains("mounted as a single file"), "{stderr}");
        assert!(stderr.contains("Mount its directory"), "{stderr}");
    }
}

/// `login` in this process, so that time can be moved; gives the link, and what comes of it in the end.
fn login_here(
    setup: &Setup,
    port: u16,
    user_id: &str,
) -> (String, thread::JoinHandle<Result<String, Failure>>) {
    let mut variables = setup.variables.clone();
    variables.insert("SERVER_PORT".to_owned(), port.to_string());
    let config = Config::from_variables(&variables).unwrap();
    let (clock, user_id) = (setup.clock.clock(), user_id.to_owned());
    let (sender, links) = mpsc::channel();
    let show = move |_: &str, link: Option<&Link>| {
        sender.send(link.unwrap().expose().to_owned()).unwrap();
    };
    let login = thread::spawn(move || {
        let login = Login {
            user_id: Some(&user_id),
            ..Login::default()
        };
        verbs::login(config, clock, login, &show)
    });
    (links.recv_timeout(PATIENCE).expect("a link"), login)
}

/// Lets ten minutes pass, again and again.
fn too_late(setup: &Setup, login: thread::JoinHandle<Result<String, Failure>>) -> String {
    let start = Instant::now();
    while !login.is_finished() {
        assert!(start.elapsed() < PATIENCE, "it waits for ever");
        setup.clock.advance(600);
        thread::yield_now();
    }
    login.join().unwrap().unwrap_err().text()
}

#[test]
fn login_gives_up_when_nobody_has_signed_in_for_ten_minutes() {
    let (_entra, setup) = world();
    let (_, login) = login_here(&setup, 0, ADA);
    let text = too_late(&setup, login);
    assert!(text.contains(ADA) && text.contains("in time"), "{text}");
    let server = setup.start();
    let (_, login) = login_here(&setup, 0, ADA);
    let text = too_late(&setup, login);
    assert!(text.contains(ADA) && text.contains("in time"), "{text}");
    drop(server);
}

#[test]
fn only_a_new_sign_in_ends_the_wait_for_one() {
    let world = World::signed_in();
    let port = world.server.server.port();
    let (_, login) = login_here(&world.setup, port, ADA);
    // A refresh changes the file, too, as does somebody else's sign-in.
    world.advance(3700);
    world
        .server
        .modern()
        .ok("api_get_request", json!({"endpoint": "/me"}));
    assert_eq!(world.entra.refreshes(), 1);
    world.server.modern().sign_in(GRACE);
    assert!(too_late(&world.setup, login).contains(ADA));

    let (link, login) = login_here(&world.setup, port, ADA);
    world.advance(60);
    sign_in(&link, ADA);
    assert_eq!(
        login.join().unwrap().unwrap().trim_end(),
        format!("{ADA} is signed in.")
    );
}

// ---- With a device code ----

#[test]
fn a_device_code_signs_in_without_a_listener_or_leave() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (arguments, method) in [
        (&["login", ADA, "--device-code"][..], "browser"),
        (&["login", "--device-code", ADA], "browser"),
        (&["login", ADA], "device_code"),
    ] {
        let (entra, setup) = world();
        let setup = setup
            .with("SIGN_IN_METHOD", method)
            .with("ALLOW_DEVICE_CODE", "false");
        let program = stand_in_browser(&setup.directory, "browser");
        let mut login = at(port, arguments);
        login.env("BROWSER", &program);
        let mut login = Verb::start(login, &setup);
        let (address, code) = code_of(&mut login);
        assert_eq!(address, format!("{}/device", entra.authority_host()));
        entra.approve_device(&code, ADA);
        assert!(
            Ended::of(login)
                .well()
                .ends_with(&format!("{ADA} is signed in.\n"))
        );
        assert!(token_file(&setup).contains(REFRESH_TOKEN_MARK));
        assert_eq!(noted(&program), None, "there is nothing to open here");
    }
}

#[test]
fn a_device_code_that_brings_nothing_fails() {
    type Act = fn(&Entra, &str);
    let acts: [(Act, &str); 4] = [
        (|entra, code| entra.decline_device(code), "65004"),
        // CASES C25
        (
            |entra, code| entra.decline_device(code),
            "SIGN_IN_METHOD=browser and without --device-code",
        ),
        (|entra, code| entra.expire_device(code), "70020"),
        (
            |entra, code| entra.approve_device(code, GRACE),
            "not as ada@contoso.example",
        ),
    ];
    for (act, said) in acts {
        let (entra, setup) = world();
        let mut login = Verb::start(command(&["login", ADA, "--device-code"]), &setup);
        act(&entra, &code_of(&mut login).1);
        let stderr = Ended::of(login).failed();
        assert!(stderr.contains(said), "{stderr}");
    }
    let (entra, setup) = world();
    entra.down();
    assert!(
        run(&["login", "--device-code"], &setup)
            .failed()
            .contains("could not be reached")
    );
}

#[test]
fn a_device_code_that_nobody_enters_in_time_fails() {
    let (entra, setup) = world();
    entra.set(|settings| (settings.device_expires_in, settings.device_interval) = (1, 5));
    let login = Verb::start(command(&["login", "--device-code"]), &setup);
    let stderr = Ended::of(login).failed();
    // Nobody has called the account `default`.
    assert!(stderr.contains("Nobody signed in in time."), "{stderr}");
}

// ---- Signing out ----

#[test]
fn logout_forgets_the_tokens_and_says_what_lives_on() {
    let (entra, setup) = world();
    signed_in_as("work", ADA, &setup);
    signed_in_as("home", GRACE, &setup);
    let stdout = run(&["logout", "work"], &setup).well();
    for said in [
        "work",
        "live on",
        &format!("{}/{TENANT_ID}/oauth2/v2.0/logout", entra.authority_host()),
    ] {
        assert!(stdout.contains(said), "{stdout}");
    }
    let left = token_file(&setup);
    assert!(
        holds_secret(&left),
        "what the outputs are searched for is what the tokens look like"
    );
    assert!(!left.contains(ADA) && left.contains(GRACE), "{left}");
}

#[test]
fn logout_of_nobody_fails() {
    let (_entra, setup) = world();
    assert!(
        run(&["logout"], &setup)
            .failed()
            .contains("Nobody is signed in.")
    );
    assert!(
        run(&["logout", "work"], &setup)
            .failed()
            .contains("work is not signed in")
    );
    signed_in_as("work", ADA, &setup);
    assert!(
        run(&["logout", "WORK"], &setup)
            .failed()
            .contains("WORK is not signed in")
    );
}

// ---- Status ----

#[test]
fn status_of_nobody_says_so_with_exit_code_1() {
    let (_entra, setup) = world();
    let ended = run(&["status"], &setup);
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    assert!(
        ended.stdout.contains("Nobody is signed in.") && ended.stdout.contains("none is running"),
        "{ended:?}"
    );
    // Nor does a directory for files that is not there matter.
    let setup = setup.with("FILES_DIR", "/nowhere/at/all");
    let ended = run(&["status", "--json"], &setup);
    let file = setup.directory.file("token_cache.json");
    assert_eq!((ended.code, ended.stderr.as_str()), (1, ""));
    assert_eq!(
        serde_json::from_str::<Value>(&ended.stdout).unwrap(),
        json!({"authenticated": false, "accounts": [], "token_file": file, "server": null})
    );
}

#[test]
fn status_shows_every_account_the_file_and_the_server() {
    let world = World::signed_in();
    world.entra.set(|settings| settings.expires_in = 86_400);
    world.server.modern().sign_in(GRACE);
    let (port, file) = (world.server.server.port(), world.server.token_file());

    let stdout = run_at(port, &["status"], &world.setup).well();
    let lines: Vec<&str> = stdout.lines().collect();
    let known = world.server.modern().ok("check_auth_status", json!({}));
    for (line, account) in lines.iter().zip(known["accounts"].as_array().unwrap()) {
        let until = account["expires_at"].as_str().unwrap();
        let start = format!(
            "{0}: {0}, tenant {TENANT_ID}, ",
            account["user_id"].as_str().unwrap()
        );
        assert!(
            line.starts_with(&start) && line.contains(until) && line.contains("refreshed"),
            "{line}"
        );
    }
    let rest = [
        format!("Token file: {}", file.display()),
        format!(
            "Server: running at http://{} (process {})",
            world.server.address(),
            std::process::id()
        ),
    ];
    assert_eq!(lines[2..], rest);

    let stdout = run_at(port, &["status", "--json"], &world.setup).well();
    let mut status: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&status["token_file"], &status["server"]),
        (
            &json!(file),
            &json!(format!("http://{}", world.server.address()))
        )
    );
    assert_eq!(
        (&status["authenticated"], &known["authenticated"]),
        (&json!(true), &json!(true))
    );
    let without_time = |status: &mut Value| {
        let mut accounts = status["accounts"].take();
        for account in accounts.as_array_mut().unwrap() {
            assert!(
                account
                    .as_object_mut()
                    .unwrap()
                    .remove("expires_in_seconds")
                    .is_some()
            );
        }
        accounts
    };
    let mut known = known;
    assert_eq!(without_time(&mut status), without_time(&mut known));
}

#[test]
fn a_sign_in_that_has_ended_is_no_sign_in_to_status() {
    let (entra, setup) = world();
    signed_in_as("work", ADA, &setup);
    let server = setup.start();
    entra.revoke_all();
    server.clock.advance(4000);
    server
        .modern()
        .fails("api_get_request", json!({"endpoint": "/me"}));
    let ended = run(&["status"], &setup);
    assert!(
        ended.code == 1 && ended.stdout.contains("the sign-in has ended"),
        "{ended:?}"
    );
    let ended = run(&["status", "--json"], &setup);
    assert!(
        ended.code == 1 && ended.stdout.contains("\"authenticated\": false"),
        "{ended:?}"
    );
}

#[test]
fn a_relative_token_file_is_shown_with_its_directory() {
    let (_entra, setup) = world();
    let setup = setup.with("TOKEN_CACHE_FILE", "here.json");
    let shown = setup.directory.0.canonicalize().unwrap().join("here.json");
    assert!(
        run(&["status"], &setup)
            .stdout
            .contains(&format!("Token file: {}\n", shown.display()))
    );
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    const NAME: &str =
        "e\u{1b}]0;owned\u{7}\u{9b}31mve@contoso.example\nwork: eve\u{202e}\u{e0041}";
    let (entra, setup) = world();
    entra.set(|settings| {
        settings.users.push(User::new(
            "0a1b2c3d-5555-4aaa-8bbb-000000000005",
            TENANT_ID,
            NAME,
            NAME,
        ));
    });
    let mut login = Verb::start(command(&["login"]), &setup);
    sign_in(&link_of(&mut login), NAME);
    let login = Ended::of(login).well();
    let [status, json] =
        [&["status"][..], &["status", "--json"]].map(|arguments| run(arguments, &setup).well());
    for stdout in [&login, &status, &json] {
        assert!(
            stdout.contains("owned") && !stdout.contains(|c: char| !is_plain(c) && c != '\n'),
            "{stdout:?}"
        );
        assert!(!stdout.contains("\nwork: "), "{stdout:?}");
    }
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["accounts"][0]["username"], NAME);
}

// ---- The command line ----

#[test]
fn every_verb_takes_its_settings_from_the_file_that_is_named() {
    let (_entra, mut setup) = world();
    let line = |(name, value): (&String, &String)| format!("{name}={value}\n");
    let lines: String = setup.variables.iter().map(line).collect();
    setup.directory.write("my.env", lines);
    setup.variables.clear();
    let mut login = Verb::start(command(&["login", "--env-file", "my.env", "work"]), &setup);
    sign_in(&link_of(&mut login), ADA);
    Ended::of(login).well();
    run(&["--env-file=my.env", "status", "--json"], &setup).well();
    run(&["logout", "work", "--env-file=my.env"], &setup).well();
    for verb in ["login", "logout", "status"] {
        let ended = run(&[verb, "--env-file", "other.env"], &setup);
        assert!(
            ended.code == 2 && ended.stderr.contains("other.env"),
            "{ended:?}"
        );
        let ended = run(&[verb], &setup);
        assert!(
            ended.code == 2 && ended.stderr.contains("AZURE_CLIENT_ID"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_misused_verb_does_nothing_and_exits_with_2() {
    let (_entra, setup) = world();
    for arguments in [
        &["login", "ada", "grace"][..],
        &["login", "--json"],
        &["login", "-x"],
        &["login", "--device-code=yes"],
        &["--device-code", "login"],
        &["logout", "ada", "grace"],
        &["logout", "--device-code"],
        &["status", "ada"],
        &["status", "--device-code"],
        &["serve", "--json"],
        &["signin"],
        &["login", "--env-file"],
    ] {
        let ended = run(arguments, &setup);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (2, ""),
            "{arguments:?} {ended:?}"
        );
        assert!(!ended.stderr.is_empty());
    }
}

#[test]
fn warnings_go_to_standard_error_beside_the_result() {
    let (_entra, setup) = world();
    let setup = setup.with("CUSTOM_API_SCOPE", "");
    let ended = run(&["status"], &setup);
    assert!(
        ended.stderr.starts_with("Warning: CUSTOM_API_SCOPE"),
        "{ended:?}"
    );
    assert!(!ended.stdout.contains("CUSTOM_API_SCOPE"), "{ended:?}");
}
