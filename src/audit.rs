//! The audit log: who did what with whose account, one line of JSON each. Only this file touches
//! it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::auth::account::Account;
use crate::clock::Clock;
use crate::config::{AuditTarget, Config};
use crate::error::{Failure, Kind};
use crate::line_writer::LineWriter;
use crate::os;
use crate::sync::locked;
use crate::text::json_escaped;

/// Of the names and paths that others have chosen, so many characters are recorded.
pub(crate) const MOST_CHARS: usize = 1024;
/// Of an id, which is shorter, whatever somebody put in its place.
const MOST_ID_CHARS: usize = 64;
/// Lines that wait in memory until they can be written; beyond it the oldest is lost.
const MOST_UNWRITTEN: usize = 1000;
/// How long a line may take on standard output.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is recorded.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    /// A sign-in came to its end, good or bad.
    SignIn,
    /// Entra was asked for new tokens.
    Refresh,
    /// An account was forgotten.
    SignOut,
    /// A tool called the API, or tried to.
    ApiCall,
}

/// One line. What is empty is not known, and not written.
pub(crate) struct Entry<'a> {
    event: Event,
    begun: Instant,
    pub(crate) user_id: String,
    /// What the client calls itself.
    pub(crate) client: &'a str,
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) method: &'a str,
    pub(crate) path: String,
    pub(crate) status: Option<u16>,
    pub(crate) bytes: Option<u64>,
    pub(crate) correlation_id: Option<String>,
    outcome: &'static str,
}

impl<'a> Entry<'a> {
    /// Of what begins now, for `user_id`, by a client that calls itself `client`.
    pub(crate) fn new(event: Event, user_id: &str, client: &'a str) -> Self {
        Self {
            event,
            begun: Instant::now(),
            user_id: user_id.to_owned(),
            client,
            account: None,
            method: "",
            path: String::new(),
            status: None,
            bytes: None,
            correlation_id: None,
            outcome: "ok",
        }
    }

    /// Where it should go, as somebody has written it: without userinfo, query and fragment, where
    /// secrets may stand.
    pub(crate) fn asked_for(&mut self, endpoint: &str) {
        let path = endpoint.split(['?', '#']).next().unwrap_or_default();
        self.path = without_userinfo(path);
    }

    /// That it ended with `outcome`.
    pub(crate) fn ended(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// That it ended with `failure`, where there is one.
    pub(crate) fn failed(&mut self, failure: Option<&Failure>) {
        let Some(failure) = failure else { return };
        self.outcome = failure.kind.code();
        self.correlation_id = failure
            .entra
            .as_ref()
            .and_then(|entra| entra.correlation_id.clone());
    }

    /// As a line of JSON at the time `now`. Whatever others have put into it, it stays one line.
    fn line(&self, now: &str) -> String {
        let event = match self.event {
            Event::SignIn => "sign_in",
            Event::Refresh => "refresh",
            Event::SignOut => "sign_out",
            Event::ApiCall => "api_call",
        };
        let duration = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut line = Line::default();
        line.text("time", now, MOST_CHARS);
        line.text("event", event, MOST_CHARS);
        line.text("user_id", &self.user_id, MOST_CHARS);
        let account = self.account.as_deref();
        if let Some(person) = account.and_then(|account| account.person.as_ref()) {
            line.text("tid", &person.tid, MOST_ID_CHARS);
            line.text("oid", &person.oid, MOST_ID_CHARS);
        }
        line.text("client", self.client, MOST_CHARS);
        line.text("method", self.method, MOST_CHARS);
        line.text("path", &self.path, MOST_CHARS);
        if let Some(status) = self.status {
            line.number("status", status.into());
        }
        if let Some(bytes) = self.bytes {
            line.number("bytes", bytes);
        }
        line.number("duration_ms", duration);
        if let Some(correlation_id) = &self.correlation_id {
            line.text("correlation_id", correlation_id, MOST_ID_CHARS);
        }
        line.text("outcome", self.outcome, MOST_CHARS);
        line.end()
    }
}

/// An object of JSON in the making. A map would not keep the order, in which people read it.
#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    /// At most `most` characters of `text`; an empty one is left out.
    fn text(&mut self, name: &str, text: &str, most: usize) {
        if !text.is_empty() {
            let text: String = text.chars().take(most).collect();
            self.add(name, &text.into());
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.add(name, &number.into());
    }

    fn add(&mut self, name: &str, value: &Value) {
        self.0.push(format!("\"{name}\":{value}"));
    }

    /// With a newline behind it. JSON leaves some characters as they are at which a reader may end
    /// the line, or which a terminal obeys: they are escaped here.
    fn end(self) -> String {
        let members = self.0.join(",");
        format!("{{{}}}\n", json_escaped(&members))
    }
}

/// `path`, or a URL without its userinfo (RFC 3986 §3.2.1).
fn without_userinfo(path: &str) -> String {
    let Some((scheme, rest)) = path.split_once("//") else {
        return path.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}//{host}{path}")
}

#[derive(Default)]
struct State {
    /// Open, unless it must be opened anew.
    file: Option<File>,
    /// Standard output, once it was found fit.
    output: Option<LineWriter>,
    /// What could not be written yet, the oldest first.
    unwritten: VecDeque<Vec<u8>>,
    is_broken: bool,
}

/// The audit log of one process.
pub(crate) struct AuditLog {
    target: Option<AuditTarget>,
    is_required: bool,
    clock: Clock,
    state: Mutex<State>,
}

impl AuditLog {
    /// Opens what `config` says.
    ///
    /// # Errors
    /// It is required and cannot be opened.
    pub(crate) fn open(config: &Config, clock: Clock) -> Result<Self, Failure> {
        let log = Self {
            target: config.audit_log.clone(),
            is_required: config.audit_log_required,
            clock,
            state: Mutex::default(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file anew, as after it was rotated.
    ///
    /// # Errors
    /// It is required and cannot be opened.
    pub(crate) fn reopen(&self) -> Result<(), Failure> {
        let mut state = locked(&self.state);
        state.file = None;
        self.write_out(&mut state)
    }

    /// To be asked before something is done that must be recorded. That the log cannot be written
    /// is known once it has failed; then it is tried again here.
    ///
    /// # Errors
    /// It is required and still cannot be written.
    pub(crate) fn ready(&self) -> Result<(), Failure> {
        let mut state = locked(&self.state);
        if state.is_broken {
            self.write_out(&mut state)
        } else {
            Ok(())
        }
    }

    /// Whether it could not be written when that was tried last.
    pub(crate) fn is_broken(&self) -> bool {
        locked(&self.state).is_broken
    }

    /// Writes `entry`. What cannot be written is kept, and comes first when the log can be written
    /// again.
    ///
    /// # Errors
    /// It is required and cannot be written.
    pub(crate) fn record(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        if self.target.is_none() {
            return Ok(());
        }
        let line = entry.line(&self.clock.iso8601_millis());
        let mut state = locked(&self.state);
        if state.unwritten.len() >= MOST_UNWRITTEN {
            state.unwritten.pop_front();
        }
        state.unwritten.push_back(line.into_bytes());
        let hint = "It was done all the same, and nothing more is done until it can be recorded.";
        self.write_out(&mut state).map_err(|failure| {
            let hint = format!("{hint} {}", failure.hint);
            failure.hint(hint)
        })
    }

    fn write_out(&self, state: &mut State) -> Result<(), Failure> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let written = write_out(target, state).map_err(|error| failure(&place(target), &error));
        match &written {
            Err(failure) if !state.is_broken => log::error!("{}", failure.text()),
            Ok(()) if state.is_broken => log::warn!("the audit log can be written again"),
            _ => {}
        }
        state.is_broken = written.is_err();
        if self.is_required { written } else { Ok(()) }
    }
}

/// Writes the lines that wait, as far as it goes.
fn write_out(target: &AuditTarget, state: &mut State) -> io::Result<()> {
    match target {
        AuditTarget::StandardOutput => {
            let output = match &mut state.output {
                Some(output) => output,
                None => state.output.insert(LineWriter::start(
                    Box::new(os::standard_output()?),
                    PATIENCE,
                )?),
            };
            output.write(&mut state.unwritten)
        }
        AuditTarget::File(path) => {
            let file = match state.file.take() {
                Some(file) => file,
                None => open(path)?,
            };
            state.take_lines(|line| append(&file, line))?;
            // After a failure the file is opened anew.
            state.file = Some(file);
            Ok(())
        }
    }
}

impl State {
    /// Hands each line that waits to `write`, the oldest first, and forgets it once it is written.
    fn take_lines(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while let Some(line) = self.unwritten.front() {
            write(line)?;
            self.unwritten.pop_front();
        }
        Ok(())
    }
}

/// Where `target` is written, as far as can be told without making or changing anything: the file
/// takes more, or there is a directory to make it in.
///
/// # Errors
/// Why it could not.
pub(crate) fn look(target: &AuditTarget) -> Result<String, Failure> {
    let place = place(target);
    let AuditTarget::File(path) = target else {
        return Ok(place);
    };
    match look_at_file(path) {
        Ok(()) => Ok(place),
        Err(error) => Err(failure(&place, &error)),
    }
}

fn look_at_file(path: &Path) -> io::Result<()> {
    check_regular(path)?;
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_in_directory(path) => Ok(()),
        opened => opened.map(drop),
    }
}

/// Whether there is a directory to make the file in.
fn is_in_directory(path: &Path) -> bool {
    path.parent()
        .is_some_and(|parent| parent.as_os_str().is_empty() || parent.is_dir())
}

fn place(target: &AuditTarget) -> String {
    match target {
        AuditTarget::StandardOutput => "to standard output".to_owned(),
        AuditTarget::File(path) => format!("to {}", path.display()),
    }
}

fn failure(place: &str, error: &io::Error) -> Failure {
    Failure::new(
        Kind::Configuration,
        format!("The audit log cannot be written {place} ({error})."),
    )
    .hint(
        "See to AUDIT_LOG, its directory's permissions and the free space on the disk; with \
         AUDIT_LOG_REQUIRED=false calls go through unrecorded.",
    )
}

/// Refuses what is there and is no regular file.
fn check_regular(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(irregular()),
        _ => Ok(()),
    }
}

fn irregular() -> io::Error {
    io::Error::other("it is not a regular file but a link, a directory or a device")
}

/// The file at `path`, for its owner alone; made where there is none. As for the token file, a link
/// or a device in its place is refused.
fn open(path: &Path) -> io::Result<File> {
    // Asked before, since to open a pipe may take for ever,
    check_regular(path)?;
    let mut options = OpenOptions::new();
    os::private(options.create(true).append(true));
    let file = os::without_following(&mut options).open(path)?;
    // and after, since a link may have been put there meanwhile.
    let there = fs::symlink_metadata(path)?;
    let opened = file.metadata()?;
    if !there.is_file() || os::file_number(&there) != os::file_number(&opened) {
        return Err(irregular());
    }
    if os::others_have_access(&opened) {
        os::make_private(path)?;
        log::warn!(
            "{} could be read by others; its permissions were set to 0600",
            path.display()
        );
    }
    Ok(file)
}

/// Appends `line` with one write, so that processes can share the file; whole or not at all.
fn append(mut file: &File, line: &[u8]) -> io::Result<()> {
    let written = file.write(line)?;
    if written == line.len() {
        return Ok(());
    }
    // The disk is full. What went into the file is taken back, unless somebody else's line stands
    // behind it.
    let end = file.stream_position()?;
    if file.metadata()?.len() == end {
        file.set_len(end.saturating_sub(u64::try_from(written).unwrap_or_default()))?;
    }
    Err(io::ErrorKind::StorageFull.into())
}
