//! The server under test, in this process on a free port, and an MCP client for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::error::Failure;
use entra_auth_mcp::http::Limits;
use entra_auth_mcp::serve::Server;
use serde_json::{Value, json};

use super::backend::Backend;
use super::browser::Browser;
use super::entra::{self, Entra};
use super::http::{Client, EventReader, Reply};

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
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A clock that a test moves.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::from_fn(move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::SeqCst)))
    }
}

/// Settings, clock and limits of a server that is yet to start.
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

    #[must_use]
    pub fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// # Errors
    /// The server's own.
    pub fn try_start(&self) -> Result<Running, Failure> {
        let config = Config::from_variables(&self.variables).expect("the settings are right");
        let server = Server::start(config, self.clock.clock(), self.limits.clone())?;
        Ok(Running { server, clock: self.clock.clone(), directory: Arc::clone(&self.directory) })
    }

    /// Starts a server; several of one setup share the token file.
    pub fn start(&self) -> Running {
        self.try_start().unwrap_or_else(|failure| panic!("{}", failure.text()))
    }
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
        Self { server: setup.start(), setup, backend, entra }
    }

    /// Ada is signed in.
    pub fn signed_in() -> Self {
        let world = Self::new();
        world.server.modern().sign_in(entra::ADA);
        world
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

    /// An MCP client of the newest revision.
    pub fn modern(&self) -> Mcp {
        Mcp { http: self.client(), era: Era::Modern, next_id: 0 }
    }

    /// An MCP client of a legacy `revision`, initialized.
    pub fn legacy(&self, revision: &str) -> Mcp {
        let era = Era::Legacy { revision: revision.to_owned(), session: None };
        let mut mcp = Mcp { http: self.client(), era, next_id: 0 };
        mcp.initialize();
        mcp
    }
}

/// The built binary in a process of its own, killed (SIGKILL) when it is dropped.
pub struct Process {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Process {
    /// Runs `command` with the settings of `setup` and nothing else in its environment, and waits
    /// until it is ready.
    pub fn start(mut command: Command, setup: &Setup) -> Self {
        let log = setup.directory.file(&format!("{}.log", super::random_token()));
        command.env_clear().envs(&setup.variables).current_dir(&setup.directory.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let Some(port) = ready.trim_end().rsplit(' ').next().and_then(|port| port.parse().ok()) else {
            panic!("{ready:?} names no port: {}", std::fs::read_to_string(&log).unwrap());
        };
        Self { child, port, log }
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
        Mcp { http: self.client(), era: Era::Modern, next_id: 0 }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the process to end; `None` when a signal has ended it.
    pub fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < super::PATIENCE, "the process does not end: {}", self.log());
            std::thread::yield_now();
        }
        self.child.wait().unwrap().code()
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

#[derive(Clone, Debug)]
pub enum Era {
    Modern,
    Legacy { revision: String, session: Option<String> },
}

/// An MCP client of one era, which sends what the revision demands.
pub struct Mcp {
    pub http: Client,
    pub era: Era,
    next_id: u64,
}

pub const MODERN: &str = "2026-07-28";

impl Mcp {
    fn initialize(&mut self) {
        let Era::Legacy { revision, .. } = self.era.clone() else { unreachable!() };
        let params =
            json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string();
        let reply = self.http.request("POST", "/mcp", &MEDIA_TYPES, body.as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["result"]["protocolVersion"], revision.as_str());
        let session = reply.header("Mcp-Session-Id").map(str::to_owned);
        self.era = Era::Legacy { revision, session };
        let body = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        let headers = self.headers("notifications/initialized", None);
        let reply = self.http.request("POST", "/mcp", &as_refs(&headers), body.as_bytes());
        assert_eq!((reply.status, reply.body.len()), (202, 0));
    }

    /// The headers of a request for `method`, of the tool `name`.
    pub fn headers(&self, method: &str, name: Option<&str>) -> Vec<(String, String)> {
        let mut headers: Vec<(String, String)> =
            MEDIA_TYPES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
        match &self.era {
            Era::Modern => {
                add("MCP-Protocol-Version", MODERN);
                add("Mcp-Method", method);
                if let Some(name) = name {
                    add("Mcp-Name", name);
                }
            }
            Era::Legacy { revision, session } => {
                if revision != "2025-03-26" {
                    add("MCP-Protocol-Version", revision);
                }
                if let Some(session) = session {
                    add("Mcp-Session-Id", session);
                }
            }
        }
        headers
    }

    /// A request body; modern ones carry their metadata.
    pub fn body(&mut self, method: &str, mut params: Value) -> String {
        self.next_id += 1;
        if matches!(self.era, Era::Modern) {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            match params["_meta"].as_object_mut() {
                Some(given) => given.extend(meta.as_object().unwrap().clone()),
                None => params["_meta"] = meta,
            }
        }
        json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params}).to_string()
    }

    /// Sends a request and gives the HTTP answer.
    pub fn send(&mut self, method: &str, params: Value) -> Reply {
        let headers = self.headers(method, params["name"].as_str());
        let body = self.body(method, params);
        self.http.request("POST", "/mcp", &as_refs(&headers), body.as_bytes())
    }

    /// Sends a request that is answered by a stream.
    pub fn open(&mut self, method: &str, params: Value) -> (Reply, EventReader) {
        let headers = self.headers(method, params["name"].as_str());
        let body = self.body(method, params);
        self.http.open_stream("POST", "/mcp", &as_refs(&headers), body.as_bytes())
    }

    /// Sends a request and gives its result.
    pub fn result(&mut self, method: &str, params: Value) -> Value {
        let reply = self.send(method, params);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut response = reply.json();
        assert_eq!(response["id"], self.next_id, "{response}");
        assert!(response.get("error").is_none(), "{response}");
        response["result"].take()
    }

    /// Calls a tool and gives the whole result.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// Calls a tool that succeeds and gives its structured content.
    pub fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{result}");
        assert_eq!(result["structuredContent"]["success"], true, "{result}");
        result["structuredContent"].take()
    }

    /// Signs `user` in, in a browser of its own.
    pub fn sign_in(&mut self, user: &str) {
        let begun = self.ok("authenticate_user", json!({"user_id": user}));
        let page = Browser::new().sign_in(begun["sign_in_url"].as_str().unwrap(), user);
        assert_eq!(page.status, 200, "{}", page.text());
    }

    /// Calls a tool that fails and gives its structured content.
    pub fn fails(&mut self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        assert_eq!(result["structuredContent"]["success"], false, "{result}");
        result["structuredContent"].take()
    }
}

pub const MEDIA_TYPES: [(&str, &str); 2] =
    [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];

pub fn as_refs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
