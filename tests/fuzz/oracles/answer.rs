//! What an API answers: whatever it is, the result of the call is JSON in UTF-8 that other languages
//! read, too, shows no token, and says failed of nothing that was answered with success.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use entra_auth_mcp::clock::Clock;
use entra_auth_mcp::config::Config;
use entra_auth_mcp::http::Limits;
use entra_auth_mcp::serve::Server;
use serde_json::{Value, json};

const CLIENT_ID: &str = "11111111-2222-3333-4444-555555555555";
/// What stands in the place of this byte of the answer is the token.
const ECHO: u8 = 1;
const TOKEN: &str = "an+opaque/access.token-0123456789==";
/// Without 401, which ends in a sign-in.
const STATUSES: [u16; 16] = [
    200, 200, 200, 201, 202, 204, 205, 206, 299, 302, 304, 400, 403, 404, 429, 500,
];
/// Those of the framing are set here, and a body is sent whole.
const FRAMING: [&str; 3] = ["content-length", "transfer-encoding", "connection"];
/// Both end at what they cannot read, and at a text that has half a character.
const PYTHON: &str = "
import json, sys
while head := sys.stdin.buffer.readline():
    text = json.loads(sys.stdin.buffer.read(int(head)).decode())
    json.dumps(text, ensure_ascii=False).encode()
    print(len(text), flush=True)
";
const JAVASCRIPT: &str = "
let left = Buffer.alloc(0);
process.stdin.on('data', (piece) => {
    left = Buffer.concat([left, piece]);
    const end = left.indexOf(10);
    const start = end + 1, length = Number(left.subarray(0, end));
    if (end < 0 || left.length < start + length) return;
    const bytes = left.subarray(start, start + length);
    const value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (!JSON.stringify(value).isWellFormed()) process.exit(1);
    left = left.subarray(start + length);
    console.log(Object.keys(value).length);
});
";

/// One at a time: they share the answer.
static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::start()));

pub fn holds(input: &[u8]) {
    let (choice, rest) = super::choice(input);
    let status = STATUSES[choice % STATUSES.len()];
    let framing = choice / STATUSES.len() % 3;
    let (head, body) = split(rest);
    let mut world = WORLD.lock().unwrap_or_else(|poisoned| {
        // The answer of the last one may still be on its way.
        let mut world = poisoned.into_inner();
        world.client = connect(&world.server);
        world
    });
    *world.answer.lock().unwrap() = answer(status, framing, head, body);

    let reply = world.call();
    let text = str::from_utf8(&reply).expect("it is UTF-8");
    let message: Value = serde_json::from_str(text).expect("it is JSON");
    assert!(!text.contains(TOKEN), "{text}");
    for parser in &mut world.parsers {
        parser.read(text);
    }
    let result = &message["result"];
    let content = &result["structuredContent"];
    let is_success = status < 300 || status == 304;
    assert_eq!(content["success"], is_success, "{status}: {content}");
    assert_eq!(result["isError"], !is_success);
    assert_eq!(content["status"], status);
    let shown = result["content"][0]["text"].as_str().unwrap();
    if content["content_type"]
        .as_str()
        .is_none_or(|of| !of.contains("image/"))
    {
        let shown: Value = serde_json::from_str(shown).expect("the text is JSON");
        assert_eq!(shown, *content);
    }
}

/// The lines of the head, and the body behind an empty one.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.windows(2).position(|pair| pair == b"\n\n");
    end.map_or((&[], text), |end| (&text[..end], &text[end + 2..]))
}

fn answer(status: u16, framing: usize, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} \r\n").into_bytes();
    for line in head.split(|byte| *byte == b'\n') {
        let line = echoing(line);
        if is_field(&line) {
            answer.extend(line);
            answer.extend(b"\r\n");
        }
    }
    let body = echoing(body);
    let body = if matches!(status, 204 | 304) {
        Vec::new()
    } else {
        body
    };
    match framing {
        0 => answer.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes()),
        1 if !body.is_empty() => {
            answer
                .extend(format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()).bytes());
            answer.extend(body);
            answer.extend(b"\r\n0\r\n\r\n");
            return answer;
        }
        _ => answer.extend(b"Connection: close\r\n\r\n"),
    }
    answer.extend(body);
    answer
}

fn echoing(bytes: &[u8]) -> Vec<u8> {
    let mut echoing = Vec::new();
    for byte in bytes {
        if *byte == ECHO {
            echoing.extend(TOKEN.bytes());
        } else {
            echoing.push(*byte);
        }
    }
    echoing
}

/// Whether HTTP allows the line (RFC 9110 §5.1, §5.5), and it is not about the framing.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let (name, value) = line.split_at(colon);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_framing = |framing: &&str| name.eq_ignore_ascii_case(framing.as_bytes());
    !name.is_empty()
        && name.iter().all(is_token)
        && value
            .iter()
            .all(|byte| *byte == b'\t' || !byte.is_ascii_control())
        && !FRAMING.iter().any(is_framing)
}

struct World {
    server: Server,
    client: BufReader<TcpStream>,
    answer: Arc<Mutex<Vec<u8>>>,
    /// Those that are installed.
    parsers: Vec<Parser>,
}

impl World {
    fn start() -> Self {
        let answer = Arc::default();
        let backend = backend(Arc::clone(&answer));
        let name = format!("entra-auth-mcp-fuzz-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        let tokens = directory.join("tokens.json");
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
            "access_token": TOKEN,
            "expires_at": 4_102_444_800_u64,
            "refresh_at": null,
            "refresh_token": null,
            "signed_in_at": 1_785_236_400
        });
        let file = json!({"version": 2, "accounts": [account]});
        fs::write(&tokens, file.to_string()).unwrap();
        let variables = [
            ("AZURE_CLIENT_ID", CLIENT_ID),
            ("AZURE_TENANT_ID", "contoso.example"),
            ("BACKEND_API_BASE_URL", &backend),
            ("CUSTOM_API_SCOPE", "api://backend/access"),
            ("TOKEN_CACHE_FILE", tokens.to_str().unwrap()),
            ("SERVER_PORT", "0"),
            // So that some answers are too long.
            ("MAX_RESPONSE_BYTES", "200"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::from_variables(&BTreeMap::from(variables)).unwrap();
        let server = Server::start(config, Clock::system(), Limits::default());
        let server = server.unwrap_or_else(|failure| panic!("{}", failure.text()));
        let parsers = [
            Parser::start("python3", "-c", PYTHON),
            Parser::start("node", "-e", JAVASCRIPT),
        ];
        Self {
            client: connect(&server),
            server,
            answer,
            parsers: parsers.into_iter().flatten().collect(),
        }
    }

    /// The body of the answer to a call.
    fn call(&mut self) -> Vec<u8> {
        let call = json!({"name": "api_post_request", "arguments": {"endpoint": "/x"}});
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call});
        let body = body.to_string();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             MCP-Protocol-Version: 2025-06-18\r\nContent-Length: {}\r\n\r\n{body}",
            self.server.port(),
            body.len()
        );
        self.client.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.client.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut reply = vec![0; length];
        self.client.read_exact(&mut reply).unwrap();
        reply
    }
}

fn connect(server: &Server) -> BufReader<TcpStream> {
    BufReader::new(TcpStream::connect(("127.0.0.1", server.port())).unwrap())
}

/// An API that gives `answer` to whoever asks; gives its base URL.
fn backend(answer: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // Who has had enough of an answer hangs up.
            thread::spawn(move || drop(serve(stream, &answer)));
        }
    });
    url
}

fn serve(mut stream: TcpStream, answer: &Mutex<Vec<u8>>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let answer = answer.lock().unwrap().clone();
        stream.write_all(&answer)?;
        if answer.windows(17).any(|part| part == b"Connection: close") {
            return Ok(());
        }
    }
}

/// A parser of another language, which says how much it has read.
struct Parser {
    name: &'static str,
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Parser {
    fn start(name: &'static str, option: &str, program: &str) -> Option<Self> {
        let mut command = Command::new(name);
        command.args([option, program]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let said = BufReader::new(child.stdout.take()?);
        Some(Self { name, child, said })
    }

    fn read(&mut self, text: &str) {
        let mut input = self.child.stdin.as_ref().unwrap();
        let written = input.write_all(format!("{}\n{text}", text.len()).as_bytes());
        let mut line = String::new();
        let read = self.said.read_line(&mut line).unwrap_or_default();
        assert!(written.is_ok() && read > 0, "{}: {text}", self.name);
    }
}
