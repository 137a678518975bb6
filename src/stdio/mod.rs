//! The verb `stdio`, for clients that only start programs: MCP over standard input and output, one
//! message a line (MCP, transports, "stdio").
//!
//! Every message goes to the `/mcp` of one server, over loopback HTTP, and what comes back goes to
//! standard output. Which server that is, [`home`] decides: several of these programs share one
//! token file, and whoever owns it is the server, inside the same process. A request has a thread
//! and a connection of its own ([`exchange`]), so that cancelling it is closing its connection.

mod exchange;
mod home;
mod message;
mod output;
mod under_way;

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};
use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::exchange::{Exchanged, Header};
use self::home::Home;
use self::message::{Message, Routed};
use self::output::Output;
use self::under_way::{Entry, UnderWay};
use crate::config::{AuditTarget, Config, SETTINGS};
use crate::error::Failure;
use crate::logging;
use crate::os::{Signals, Told};
use crate::secret::Secret;
use crate::serve::no_thread;
use crate::sync::{self, locked};

/// How long a request that could not be sent waits for a server: longer than one takes to stop.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause between two tries meanwhile.
const STEP: Duration = Duration::from_millis(50);
/// How long what is under way may take when the program is told to stop.
const STOPPING: Duration = Duration::from_secs(10);

/// A line up to this many times longer than a request may be is still read, to learn what it asks
/// for.
const READ_MORE: usize = 4;

/// The settings that are paths.
const PATHS: [&str; 6] = [
    "TOKEN_CACHE_FILE",
    "SERVER_ACCESS_KEY_FILE",
    "BACKEND_HEADERS_FILE",
    "FILES_DIR",
    "OPENAPI_FILE",
    "AUDIT_LOG",
];

/// Settings that a server allows and `stdio` does not, each with its correction. `config` was read
/// from `variables`.
pub fn mistakes(config: &Config, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut mistakes = Vec::new();
    if config.audit_log == Some(AuditTarget::StandardOutput) {
        mistakes.push(
            "AUDIT_LOG is \"-\": with stdio, standard output is for messages; write the path of a file"
                .to_owned(),
        );
    }
    if config.server_port == 0 {
        mistakes.push(
            "SERVER_PORT is 0: with stdio, write a fixed port, since browsers come back to it"
                .to_owned(),
        );
    }
    for setting in SETTINGS
        .iter()
        .filter(|setting| PATHS.contains(&setting.name))
    {
        let given = variables.get(setting.name).map(|value| value.trim());
        let given = given.filter(|value| !value.is_empty());
        let path = given.or(setting.default).unwrap_or("-");
        if path != "-" && !Path::new(path).is_absolute() {
            mistakes.push(format!(
                "{} is {path:?}: with stdio, write the whole path, since the client chooses the working directory",
                setting.name
            ));
        }
    }
    mistakes
}

/// What the main thread waits for. It does nothing else, so that the program can always be told to
/// stop.
enum Event {
    /// The input has ended, and all that came from it is done.
    Done,
    Told(Told),
}

/// What comes from standard input.
enum Input {
    Line(Vec<u8>),
    /// A line that is too long to be read.
    TooLong,
    End,
}

/// Carries messages until standard input ends, or the program is told to stop.
///
/// # Errors
/// There is no server to carry them to, and none can be started.
pub fn run(config: Config, access_key: Option<Secret>) -> Result<(), Failure> {
    // Before a server can be known to others, so that being told to stop is never missed.
    let has_audit_file = matches!(config.audit_log, Some(AuditTarget::File(_)));
    let signals = Signals::register(has_audit_file).map_err(|error| no_thread(&error))?;
    // Not every client reads the log.
    logging::never_block().map_err(|error| no_thread(&error))?;
    let most_bytes = config.max_request_bytes;
    let most_read = most_bytes.saturating_mul(READ_MORE);
    let home = Arc::new(Home::open(config)?);
    let bridge = Arc::new(Bridge {
        home: Arc::clone(&home),
        access_key,
        most_bytes,
        session: Mutex::default(),
        under_way: Arc::default(),
        output: Output::default(),
    });
    let (sender, events) = mpsc::sync_channel(1);
    let for_signals = sender.clone();
    start("signals", move || tell_signals(signals, &for_signals))?;
    let for_input = Arc::clone(&bridge);
    start("input", move || {
        for_input.take_lines(most_read);
        // Nobody waits for it, if the program was told to stop.
        let _ = sender.send(Event::Done);
    })?;
    start("owner", move || home.watch())?;
    for event in events {
        match event {
            Event::Done => break,
            Event::Told(Told::Reopen) => bridge.home.reopen_audit_log(),
            Event::Told(Told::Stop) => {
                bridge.end(Some(STOPPING));
                break;
            }
        }
    }
    bridge.home.close();
    Ok(())
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let thread = thread::Builder::new().name(name.to_owned());
    sync::spawn(thread, Box::new(work)).map_err(|error| no_thread(&error))
}

fn tell_signals(mut signals: Signals, events: &SyncSender<Event>) {
    while events.send(Event::Told(signals.wait())).is_ok() {}
}

/// The next line of `input`. What is longer than `most_bytes` is thrown away.
fn next_line(input: &mut impl BufRead, most_bytes: usize) -> Input {
    let mut line = Vec::new();
    let most = u64::try_from(most_bytes).unwrap_or(u64::MAX);
    let read = input.by_ref().take(most).read_until(b'\n', &mut line);
    match read {
        Ok(0) | Err(_) => Input::End,
        Ok(length) if length == most_bytes && !line.ends_with(b"\n") => match skip_line(input) {
            Ok(()) => Input::TooLong,
            Err(_) => Input::End,
        },
        Ok(_) => Input::Line(line),
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (used, is_over) = match end {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if is_over {
            return Ok(());
        }
    }
}

/// What the client and the server have agreed on in `initialize`.
#[derive(Clone, Default)]
struct Session {
    id: Option<String>,
    /// What the client calls itself.
    client: Option<String>,
}

/// Between one client and the server.
struct Bridge {
    home: Arc<Home>,
    /// What the server wants to be shown.
    access_key: Option<Secret>,
    /// The most bytes of a message.
    most_bytes: usize,
    session: Mutex<Session>,
    under_way: Arc<UnderWay>,
    output: Output,
}

impl Bridge {
    /// Takes every line of standard input, and waits until what they ask for is done.
    fn take_lines(self: &Arc<Self>, most_bytes: usize) {
        let mut input = io::stdin().lock();
        loop {
            match next_line(&mut input, most_bytes) {
                Input::Line(line) => self.take(line),
                Input::TooLong => self.refuse_long_line(&[]),
                Input::End => break,
            }
        }
        self.end(None);
    }

    /// Takes no more requests, and waits for those that are under way, where there is a `patience`
    /// no longer than that.
    fn end(&self, patience: Option<Duration>) {
        self.under_way.close();
        self.under_way.end_subscriptions();
        self.under_way.wait_for_end(patience);
    }

    /// Handles a line of the client.
    fn take(self: &Arc<Self>, line: Vec<u8>) {
        match message::parse(&line) {
            Routed::Nothing => {}
            Routed::Cancellation(id) => self.under_way.cancel(&id),
            Routed::Message(message) if line.len() > self.most_bytes => {
                self.refuse_long_line(&message.ids);
            }
            Routed::Message(message) => {
                let ids = message.ids.clone();
                let Some(request) = self.under_way.begin(&message) else {
                    let text = "Too many requests are under way, or the program is stopping. Nothing was done: try again.";
                    self.output.write_errors(&ids, text);
                    return;
                };
                if message.is_initialize {
                    // The messages after it need what was agreed on.
                    self.carry(&line, &message, &request);
                    return;
                }
                let this = Arc::clone(self);
                let started = start("request", move || this.carry(&line, &message, &request));
                if let Err(failure) = started {
                    self.output.write_errors(&ids, &failure.text());
                }
            }
        }
    }

    fn refuse_long_line(&self, ids: &[Value]) {
        let most = self.most_bytes;
        let text = format!(
            "This message has more than {most} bytes (MAX_REQUEST_BYTES). Nothing was done."
        );
        self.output.write_errors(ids, &text);
    }

    /// Carries `line` to the server, and what comes back to the client.
    fn carry(&self, line: &[u8], message: &Message, entry: &Entry) {
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            match self.exchange(line, message, entry) {
                Exchanged::Answered | Exchanged::Cancelled => return,
                Exchanged::Broken(error) => {
                    break format!(
                        "The server ended, or its connection broke ({error}). Whether the API has acted on this \
                         request is not known."
                    );
                }
                Exchanged::Refused(text) => break text,
                Exchanged::NotSent(text) if Instant::now() >= deadline => {
                    break format!("{text} Nothing was done: try again.");
                }
                Exchanged::NotSent(_) => thread::sleep(STEP),
            }
        };
        if !entry.is_cancelled() {
            self.output.write_errors(&message.ids, &text);
        }
    }

    fn exchange(&self, line: &[u8], message: &Message, entry: &Entry) -> Exchanged {
        let place = match self.home.place() {
            Ok(place) => place,
            Err(failure) => return Exchanged::NotSent(failure.text()),
        };
        let socket = match place.connect() {
            Ok(socket) => socket,
            Err(error) => {
                let text = format!(
                    "The server at {} does not answer ({error}).",
                    place.origin()
                );
                return Exchanged::NotSent(text);
            }
        };
        // The owner is checked after connecting, so that it is known who listens there.
        if !self.home.is_owned_by(&place) {
            return Exchanged::NotSent("The server is just ending.".to_owned());
        }
        if !entry.attach(&socket) {
            return Exchanged::Cancelled;
        }
        let session = locked(&self.session).clone();
        let head = self.head(place.host(), line.len(), message, &session);
        let mut answer = match exchange::send(socket, head.expose(), line) {
            Ok(answer) => answer,
            Err(error) => return Exchanged::Broken(error),
        };
        if message.is_initialize {
            *locked(&self.session) = Session {
                id: answer.session.take(),
                client: message.client.clone(),
            };
        }
        answer.hand_on(message, entry, &self.output)
    }

    /// The head of the request that carries `message`.
    fn head(&self, host: &str, length: usize, message: &Message, session: &Session) -> Secret {
        let mut header = Header::new(host, length);
        header.add("User-Agent", session.client.as_deref());
        header.add(
            "Mcp-Session-Id",
            session.id.as_deref().filter(|_| !message.is_initialize),
        );
        header.add("MCP-Protocol-Version", message.version.as_deref());
        if message.version.is_some() {
            header.add("Mcp-Method", message.method.as_deref());
            header.add("Mcp-Name", message.encoded_name().as_deref());
        }
        header.with_key(self.access_key.as_ref())
    }
}
