//! The audit log: who did what with whose account, one line of JSON each. Only this file touches it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use crate::auth::token_file::Account;
use crate::clock::Clock;
use crate::config::{AuditTarget, Config};
use crate::error::{Failure, Kind};
use crate::os;
use crate::sync::locked;

/// Of the names and paths that others have chosen, so many characters are recorded.
pub(crate) const MOST_CHARS: usize = 1024;
/// Of an id, which is shorter, whatever somebody put in its place.
const MOST_ID_CHARS: usize = 64;
/// Lines that wait in memory until they can be written; beyond it the oldest is lost.
const MOST_UNWRITTEN: usize = 1000;

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

    /// Where it should go, as somebody has written it: without userinfo, query and fragment, where secrets may
    /// stand.
    pub(crate) fn asked_for(&mut self, endpoint: &str) {
        let path = endpoint.split(['?', '#']).next().unwrap_or_default();
        let authority = path
            .split_once("//")
            .map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        let userinfo = authority
            .rsplit_once('@')
            .map_or(String::new(), |(userinfo, _)| format!("{userinfo}@"));
        self.path = path.replacen(&userinfo, "", 1);
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
    fn line(&self, now: String) -> String {
        let event = match self.event {
            Event::SignIn => "sign_in",
            Event::Refresh => "refresh",
            Event::SignOut => "sign_out",
            Event::ApiCall => "api_call",
        };
        let person = self
            .account
            .as_deref()
            .and_then(|account| account.person.as_ref());
        let tid = person.map_or("", |person| person.tid.as_str());
        let oid = person.map_or("", |person| person.oid.as_str());
        let duration = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let members = [
            ("time", now.into()),
            ("event", event.into()),
            ("user_id", short(&self.user_id, MOST_CHARS)),
            ("tid", short(tid, MOST_ID_CHARS)),
            ("oid", short(oid, MOST_ID_CHARS)),
            ("client", short(self.client, MOST_CHARS)),
            ("method", self.method.into()),
            ("path", short(&self.path, MOST_CHARS)),
            ("status", self.status.into()),
            ("bytes", self.bytes.into()),
            ("duration_ms", duration.into()),
            (
                "correlation_id",
                short(
                    self.correlation_id.as_deref().unwrap_or_default(),
                    MOST_ID_CHARS,
                ),
            ),
            ("outcome", self.outcome.into()),
        ];
        let is_known = |value: &Value| !value.is_null() && value != "";
        let members = members.into_iter().filter(|(_, value)| is_known(value));
        let members: Vec<String> = members
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        // JSON leaves DEL and the C1 controls as they are; a terminal does not.
        let escaped = |c: char| {
            if c.is_control() {
                format!("\\u{:04x}", u32::from(c))
            } else {
                c.into()
            }
        };
        let line: String = members.join(",").chars().map(escaped).collect();
        format!("{{{line}}}\n")
    }
}

fn short(text: &str, most: usize) -> Value {
    text.chars().take(most).collect::<String>().into()
}

#[derive(Default)]
struct State {
    /// Open, unless it must be opened anew.
    file: Option<File>,
    /// What could not be written yet, the oldest first.
    unwritten: VecDeque<String>,
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
        let (target, is_required) = (config.audit_log.clone(), config.audit_log_required);
        let log = Self {
            target,
            is_required,
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

    /// To be asked before something is done that must be recorded. That the log cannot be written is known
    /// once it has failed; then it is tried again here.
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

    /// Writes `entry`. What cannot be written is kept, and comes first when the log can be written again.
    ///
    /// # Errors
    /// It is required and cannot be written.
    pub(crate) fn record(&self, entry: &Entry<'_>) -> Result<(), Failure> {
        if self.target.is_none() {
            return Ok(());
        }
        let line = entry.line(self.clock.iso8601_millis());
        let mut state = locked(&self.state);
        if state.unwritten.len() >= MOST_UNWRITTEN {
            state.unwritten.pop_front();
        }
        state.unwritten.push_back(line);
        let hint = "It was done all the same, and nothing more is done until it can be recorded.";
        self.write_out(&mut state).map_err(|failure| {
            let hint = format!("{hint} {}", failure.hint);
            failure.hint(hint)
        })
    }

    fn write_out(&self, state: &mut State) -> Result<(), Failure> {
        let place = || self.target.as_ref().map_or_else(String::new, place);
        let written = self
            .try_to_write_out(state)
            .map_err(|error| failure(&place(), &error));
        match &written {
            Err(failure) if !state.is_broken => log::error!("{}", failure.text()),
            Ok(()) if state.is_broken => log::warn!("the audit log can be written again"),
            _ => {}
        }
        state.is_broken = written.is_err();
        if self.is_required { written } else { Ok(()) }
    }

    fn try_to_write_out(&self, state: &mut State) -> io::Result<()> {
        let file = match &self.target {
            None => return Ok(()),
            Some(AuditTarget::StandardOutput) => None,
            Some(AuditTarget::File(path)) => {
                Some(state.file.take().map_or_else(|| open(path), Ok)?)
            }
        };
        while let Some(line) = state.unwritten.front() {
            if let Some(file) = &file {
                append(file, line.as_bytes())?;
            } else {
                let mut out = io::stdout().lock();
                out.write_all(line.as_bytes()).and_then(|()| out.flush())?;
            }
            state.unwritten.pop_front();
        }
        state.file = file;
        Ok(())
    }
}

/// Where `target` is written, as far as can be told without making or changing anything: the file takes more, or
/// there is a directory to make it in.
///
/// # Errors
/// Why it could not.
pub(crate) fn look(target: &AuditTarget) -> Result<String, Failure> {
    let place = place(target);
    let AuditTarget::File(path) = target else {
        return Ok(place);
    };
    let opened =
        check_regular(path).and_then(|()| OpenOptions::new().append(true).open(path).map(drop));
    let looked = opened.or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(parent))
            if parent.as_os_str().is_empty() || parent.is_dir() =>
        {
            Ok(())
        }
        _ => Err(error),
    });
    looked
        .map_err(|error| failure(&place, &error))
        .map(|()| place)
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

/// The file at `path`, for its owner alone; made where there is none. As for the token file, a link or a device
/// in its place is refused.
fn open(path: &Path) -> io::Result<File> {
    // Asked before, since to open a pipe may take for ever,
    check_regular(path)?;
    let file = os::private(OpenOptions::new().create(true).append(true)).open(path)?;
    // and after, since a link may have been put there meanwhile.
    let (there, opened) = (fs::symlink_metadata(path)?, file.metadata()?);
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
    // The disk is full. What went into the file is taken back, unless somebody else's line stands behind it.
    let end = file.stream_position()?;
    if file.metadata()?.len() == end {
        file.set_len(end.saturating_sub(u64::try_from(written).unwrap_or_default()))?;
    }
    Err(io::ErrorKind::StorageFull.into())
}
