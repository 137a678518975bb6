//! The servers that are compared: how each is started, asked and looked at.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::Client;

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    List,
    /// A GET of this path.
    Call(&'static str),
}

pub struct Peer {
    pub name: &'static str,
    pub command: Vec<String>,
    /// Whether it speaks MCP; else a path is called and its answer is the backend's.
    pub is_mcp: bool,
}

/// A server that runs; it is killed when it is dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    /// From exec to the first answer, in milliseconds.
    pub start_up: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    pub fn start(&self, backend: &str, work: &Path) -> Result<Running, String> {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .unwrap();
        let tokens = work.join("tokens.json");
        let account = json!({
            "user_id": "ada",
            "client_id": CLIENT_ID,
            "authority": "https://login.microsoftonline.com",
            "tenant": "contoso.example",
            "tid": "7d1c4e0a-9f35-4b6e-8a2d-1f0e5c3b7a94",
            "oid": "1f0e5c3b-4b6e-4b6e-8a2d-7d1c4e0a9f35",
            "username": "ada",
            "name": "Ada",
            "requested_scope": "openid profile offline_access api://backend/access",
            "granted_scope": "",
            "access_token": "bench",
            "expires_at": 4_102_444_800_u64,
            "refresh_at": null,
            "refresh_token": null,
            "signed_in_at": 1_785_236_400
        });
        let file = json!({"version": 2, "accounts": [account]});
        fs::write(&tokens, file.to_string()).unwrap();
        let fill = |word: &String| {
            word.replace("{port}", &address.port().to_string())
                .replace("{backend}", backend)
        };
        let begun = Instant::now();
        let child = Command::new(&self.command[0])
            .args(self.command[1..].iter().map(fill))
            .current_dir(work)
            .env("AZURE_CLIENT_ID", CLIENT_ID)
            .env("AZURE_TENANT_ID", "contoso.example")
            .env("BACKEND_API_BASE_URL", backend)
            .env("CUSTOM_API_SCOPE", "api://backend/access")
            .env("TOKEN_CACHE_FILE", &tokens)
            .env("SERVER_PORT", address.port().to_string())
            .env("LOG_LEVEL", "error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.command[0]))?;
        let mut running = Running {
            child,
            address,
            start_up: 0.0,
        };
        let request = self.request(address, Ask::List);
        while begun.elapsed() < Duration::from_secs(30) {
            if Client::connect(address).is_ok_and(|mut client| client.exchange(&request).is_ok()) {
                running.start_up = begun.elapsed().as_secs_f64() * 1000.0;
                return Ok(running);
            }
            thread::sleep(Duration::from_micros(100));
        }
        Err(format!("{} does not answer", self.name))
    }

    /// The bytes that ask it.
    pub fn request(&self, address: SocketAddr, ask: Ask) -> Vec<u8> {
        let (path, method, params) = match ask {
            Ask::List if !self.is_mcp => ("/list", "", json!({})),
            Ask::Call(path) if !self.is_mcp => (path, "", json!({})),
            Ask::List => ("/mcp", "tools/list", json!({})),
            Ask::Call(path) => (
                "/mcp",
                "tools/call",
                json!({"name": "api_get_request", "arguments": {"endpoint": path}}),
            ),
        };
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-06-18\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Whether `body` is the answer to `ask`, when the API's is `data`.
    pub fn is_right(&self, body: &[u8], ask: Ask, data: &str) -> bool {
        match ask {
            Ask::Call(_) if !self.is_mcp => return body == data.as_bytes(),
            Ask::List if !self.is_mcp => return !body.is_empty(),
            _ => {}
        }
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        if ask == Ask::List {
            let tools = answer.pointer("/result/tools").and_then(Value::as_array);
            return tools
                .is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "api_get_request"));
        }
        let data: Value = serde_json::from_str(data).unwrap();
        let text = answer
            .pointer("/result/content/0/text")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let text: Value = serde_json::from_str(text).unwrap_or_default();
        answer.pointer("/result/structuredContent/data") == Some(&data) && text["data"] == data
    }
}

impl Running {
    /// Processor time so far, in seconds. The clock of /proc ticks 100 times a second (proc(5)).
    pub fn cpu(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(") ")
            .next()
            .unwrap_or_default()
            .split(' ')
            .collect();
        [11, 12]
            .iter()
            .filter_map(|&at| fields.get(at)?.parse::<f64>().ok())
            .sum::<f64>()
            / 100.0
    }

    /// A figure of /proc/PID/status in MiB: `VmRSS` or `VmHWM`.
    pub fn memory(&self, name: &str) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim_start_matches(":")
            .split_whitespace()
            .next()
            .and_then(|kib| kib.parse::<f64>().ok())
            .unwrap_or_default()
            / 1024.0
    }
}
