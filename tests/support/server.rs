//! The server under test: in this process on a free port, or the built binary.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::error::Failure;
use entra_auth_mcp::http::Limits;
use entra_auth_mcp::serve::Server;
use serde_json::{Value, json};

use super::backend::Backend;
use super::entra::{self, Entra};
use super::http::{Client, Reply};
pub use super::mcp::*;

/// A directory of its own, gone when it is dropped.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("entra-auth-mcp-{}", super::random_token()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file that nobody else can write, whatever the umask is.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, contents).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that a test moves.
#[derive(Clone, Default)]
pub struct TestClock {
    ahead: Arc<AtomicU64>,
    /// Where it stands while no test moves it; without this, it goes on by itself.
    stands_at: Option<SystemTime>,
}

impl TestClock {
    pub fn advance(&self, seconds: u64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    /// No further than it has been advanced.
    pub fn set_back(&self, seconds: u64) {
        self.ahead.fetch_sub(seconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let Self { ahead, stands_at } = self.clone();
        Clock::from_fn(move || {
            stands_at.unwrap_or_else(SystemTime::now)
                + Duration::from_secs(ahead.load(Ordering::SeqCst))
        })
    }
}

/// Settings, clock and limits of a server that is yet to start.
#[derive(Clone)]
pub struct Setup {
    pub variables: BTreeMap<String, String>,
    pub clock: TestClock,
    pub limits: Limits,
    pub directory: Arc<TempDir>,
}

impl Setup {
    /// A server for `entra` and, where there is one, `backend`, with a token file of its own.
    pub fn new(entra: &Entra, backend: Option<&Backend>) -> Self {
        let directory = TempDir::new();
        let file = directory.file("token_cache.json");
        let setup = Self {
            variables: BTreeMap::new(),
            clock: TestClock::default(),
            limits: Limits::default(),
            directory: Arc::new(directory),
        };
        let setup = setup
            .with("AZURE_CLIENT_ID", entra::CLIENT_ID)
            .with("AZURE_TENANT_ID", entra::TENANT_ID)
            .with("AZURE_AUTHORITY_HOST", &entra.authority_host())
            .with("CUSTOM_API_SCOPE", "api://backend/access")
            .with("TOKEN_CACHE_FILE", file.to_str().unwrap())
            .with("LOG_LEVEL", "debug")
            .with("SERVER_PORT", "0");
        match backend {
            Some(backend) => setup.with("BACKEND_API_BASE_URL", &backend.url()),
            None => setup,
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The server's clock stands still but for what a test adds, so that the very second of a change shows.
    #[must_use]
    pub fn by_the_second(mut self) -> Self {
        self.clock.stands_at = Some(SystemTime::now());
        self
    }

    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.file("token_cache.json")
    }

    /// What the token file holds.
    pub fn stored(&self) -> Value {
        serde_json::from_slice(&fs::read(self.token_file()).unwrap()).unwrap()
    }

    /// The account of `user_id` in the token file; `null` if there is none.
    pub fn stored_account(&self, user_id: &str) -> Value {
        let mut file = self.stored();
        account_in(&mut file, user_id).map_or(Value::Null, Value::take)
    }

    /// Every `user_id` in the token file, whatever its account belongs to.
    pub fn stored_user_ids(&self) -> Vec<String> {
        let file = self.stored();
        let accounts = file["accounts"].as_array().unwrap().iter();
        accounts
            .map(|account| account["user_id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Changes the account of `user_id` in the token file, which no server owns meanwhile.
    pub fn change_stored(&self, user_id: &str, change: impl FnOnce(&mut Value)) {
        let mut file = self.stored();
        change(account_in(&mut file, user_id).expect("they are signed in"));
        fs::write(self.token_file(), file.to_string()).unwrap();
    }

    /// # Errors
    /// The server's own.
    pub fn try_start(&self) -> Result<Running, Failure> {
        let config = Config::from_variables(&self.variables).expect("the settings are right");
        let server = Server::start(config, self.clock.clock(), self.limits.clone())?;
        Ok(Running {
            server,
            clock: self.clock.clone(),
            directory: Arc::clone(&self.directory),
        })
    }

    /// Starts a server. One of the same setup must have ended: it owns the token file.
    pub fn start(&self) -> Running {
        self.try_start()
            .unwrap_or_else(|failure| panic!("{}", failure.text()))
    }
}

/// The account of `user_id` in a token file.
pub fn account_in<'a>(file: &'a mut Value, user_id: &str) -> Option<&'a mut Value> {
    let mut accounts = file["accounts"].as_array_mut()?.iter_mut();
    accounts.find(|account| account["user_id"] == user_id)
}

/// A server, its settings, its backend and its Entra; they end in this order.
pub struct World {
    pub server: Running,
    pub setup: Setup,
    pub backend: Backend,
    pub entra: Entra,
}

impl World {
    pub fn new() -> Self {
        let entra = Entra::start();
        let backend = Backend::start_for(&entra);
        let setup = Setup::new(&entra, Some(&backend));
        Self {
            server: setup.start(),
            setup,
            backend,
            entra,
        }
    }

    /// Ada is signed in.
    pub fn signed_in() -> Self {
        let world = Self::new();
        world.server.modern().sign_in(entra::ADA);
        world
    }

    /// Ada is signed in; the clocks are moved by the test alone.
    pub fn by_the_second() -> Self {
        let world = Self::new().with(Setup::by_the_second);
        world.server.modern().sign_in(entra::ADA);
        world
    }

    /// With a server of other settings. Where its clock stands still, so does Entra's.
    #[must_use]
    pub fn with(self, change: impl FnOnce(Setup) -> Setup) -> Self {
        let Self {
            server,
            setup,
            backend,
            entra,
        } = self;
        // It owns the token file for as long as it lives.
        drop(server);
        let setup = change(setup);
        entra.set(|settings| settings.clock_stands_at = setup.clock.stands_at);
        Self {
            server: setup.start(),
            setup,
            backend,
            entra,
        }
    }

    /// A new server with the same settings, after the old one has ended.
    #[must_use]
    pub fn restarted(self) -> Self {
        self.with(|setup| setup)
    }

    /// With the account of `user_id` changed in the token file while no server runs.
    #[must_use]
    pub fn with_stored(self, user_id: &str, change: impl FnOnce(&mut Value)) -> Self {
        self.with(|setup| {
            setup.change_stored(user_id, change);
            setup
        })
    }

    /// Overwrites the token file while no server runs, then starts one.
    #[must_use]
    pub fn with_file(self, text: &str) -> Self {
        self.with(|setup| {
            fs::write(setup.token_file(), text).unwrap();
            setup
        })
    }

    /// Ends the server; what another one needs is left.
    pub fn stop(self) -> (Setup, Backend, Entra) {
        let Self {
            server,
            setup,
            backend,
            entra,
        } = self;
        drop(server);
        (setup, backend, entra)
    }

    /// Time passes for all of them.
    pub fn advance(&self, seconds: u64) {
        self.server.clock.advance(seconds);
        self.entra.advance(i64::try_from(seconds).unwrap());
    }
}

/// A server under test; it stops when it is dropped.
pub struct Running {
    pub server: Server,
    pub clock: TestClock,
    pub directory: Arc<TempDir>,
}

impl Running {
    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// `http://localhost:port`, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.server.port())
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.file("token_cache.json")
    }

    /// Loads `target` as a browser does for a person who has typed the address.
    pub fn navigate(&self, target: &str) -> Reply {
        let headers = [
            ("Sec-Fetch-Site", "none"),
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        self.client().request("GET", target, &headers, b"")
    }

    /// An MCP client of the newest revision.
    pub fn modern(&self) -> Mcp {
        self.modern_with(json!({}))
    }

    pub fn modern_with(&self, capabilities: Value) -> Mcp {
        Mcp::modern(self.client(), capabilities)
    }

    /// One that shows URLs to its user.
    pub fn modern_url(&self) -> Mcp {
        self.modern_with(Mcp::can_open_urls())
    }

    /// An MCP client of a legacy `revision`, initialized.
    pub fn legacy(&self, revision: &str) -> Mcp {
        self.legacy_with(revision, json!({}))
    }

    pub fn legacy_with(&self, revision: &str, capabilities: Value) -> Mcp {
        Mcp::legacy(self.client(), revision, capabilities)
    }

    /// One that shows URLs to its user.
    pub fn legacy_url(&self, revision: &str) -> Mcp {
        self.legacy_with(revision, Mcp::can_open_urls())
    }
}

/// The built binary in a process of its own, killed (SIGKILL) when it is dropped.
pub struct Process {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Process {
    /// Runs `command` and waits until it is ready. Then its standard output is closed.
    pub fn start(command: Command, setup: &Setup) -> Self {
        Self::start_with_output(command, setup).0
    }

    /// The same with its standard output, of which no more is read than that it is ready.
    pub fn start_with_output(
        mut command: Command,
        setup: &Setup,
    ) -> (Self, BufReader<ChildStdout>) {
        let (mut child, log) = spawn(&mut command, setup);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            let length = output.read_line(&mut line).unwrap();
            let log = || fs::read_to_string(&log).unwrap();
            assert!(length > 0, "it never was ready: {}", log());
            if let Some((_, port)) = line.trim_end().split_once(" is ready on port ") {
                break port.parse().unwrap();
            }
        };
        (Self { child, port, log }, output)
    }

    /// `http://localhost:port`, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url())
    }

    /// An MCP client of the newest revision.
    pub fn modern(&self) -> Mcp {
        Mcp::modern(self.client(), json!({}))
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had, in bytes; `None` where the system does not tell.
    pub fn peak_memory(&self) -> Option<usize> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
    }

    /// SIGKILL; it is gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end; `None` when a signal has ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        exit_code(&mut self.child, &self.log)
    }

    /// Everything that was logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A verb of the built binary, which ends by itself; killed (SIGKILL) when it is dropped.
pub struct Verb {
    child: Child,
    lines: Receiver<String>,
    stdout: String,
    log: PathBuf,
}

impl Verb {
    /// Runs `command` to its end; gives its exit code, standard output and standard error.
    pub fn run(command: Command, setup: &Setup) -> (i32, String, String) {
        Self::start(command, setup).end()
    }

    pub fn start(mut command: Command, setup: &Setup) -> Self {
        let (mut child, log) = spawn(&mut command, setup);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            stdout
                .lines()
                .try_for_each(|line| sender.send(line.unwrap()))
        });
        Self {
            child,
            lines,
            stdout: String::new(),
            log,
        }
    }

    /// The next line of standard output, as soon as it is there; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(super::PATIENCE) {
            Ok(line) => {
                self.stdout += &format!("{line}\n");
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line after {:?}: {}", self.stdout, self.log())
            }
        }
    }

    /// Everything that standard error got so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; gives exit code, all of standard output, and standard error.
    pub fn end(mut self) -> (i32, String, String) {
        while self.line().is_some() {}
        let code = exit_code(&mut self.child, &self.log).expect("no signal has ended it");
        (code, std::mem::take(&mut self.stdout), self.log())
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` in the directory of `setup`, with the settings of that and what the test set for the
/// command, and nothing else in its environment; standard error goes to a file.
fn spawn(command: &mut Command, setup: &Setup) -> (Child, PathBuf) {
    let log = setup
        .directory
        .file(&format!("{}.log", super::random_token()));
    let own = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
    let own: Vec<_> = command.get_envs().filter_map(own).collect();
    command
        .env_clear()
        .envs(&setup.variables)
        .envs(own)
        .current_dir(&setup.directory.0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap());
    (command.spawn().unwrap(), log)
}

fn exit_code(child: &mut Child, log: &Path) -> Option<i32> {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let log = || std::fs::read_to_string(log).unwrap();
        assert!(
            start.elapsed() < super::PATIENCE,
            "the process does not end: {}",
            log()
        );
        thread::yield_now();
    }
    child.wait().unwrap().code()
}
