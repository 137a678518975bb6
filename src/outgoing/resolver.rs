//! The addresses of host names. The operating system may take long to look up a name, and cannot be
//! told to give up. So each look-up has its own thread, and serves everybody who waits for that
//! name.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Condvar, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::sync::{self, locked};

/// How long an answer is reused: shorter than names usually keep their addresses.
const LIFETIME: Duration = Duration::from_secs(10);
/// How many look-ups there are at a time in the whole process, each on its own thread.
const MOST_LOOK_UPS: usize = 4;
/// A look-up for [`NamedBy::Others`] begins only while there are fewer than this, so that names of
/// the settings have room.
const MOST_FOR_OTHERS: usize = 2;

/// The names that the operating system resolves.
static SYSTEM: LazyLock<Names> = LazyLock::new(|| Names::new(ask_system));

fn ask_system(host: &str) -> io::Result<Vec<IpAddr>> {
    let addresses = (host, 0).to_socket_addrs()?;
    Ok(addresses.map(|address| address.ip()).collect())
}

/// Who has named a host.
#[derive(Clone, Copy, Debug)]
pub enum NamedBy {
    /// The settings.
    Settings,
    /// Somebody else, such as an API that redirects there. Their name servers may never answer.
    Others,
}

impl NamedBy {
    fn most_look_ups(self) -> usize {
        match self {
            Self::Settings => MOST_LOOK_UPS,
            Self::Others => MOST_FOR_OTHERS,
        }
    }
}

/// The addresses of `host`, a name or an address. Waits at most for `patience`.
///
/// # Errors
/// It has no address, or the answer did not come in time.
pub fn addresses_of(
    host: &str,
    named_by: NamedBy,
    patience: Duration,
) -> Result<Vec<IpAddr>, Unresolved> {
    let literal = host.trim_matches(['[', ']']).parse();
    match literal {
        Ok(address) => Ok(vec![address]),
        Err(_) => SYSTEM.look_up(host, named_by, patience),
    }
}

/// A host name without an address.
#[derive(Clone, Debug)]
pub struct Unresolved {
    host: String,
    /// Why, if the operating system has answered.
    reason: Option<String>,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match &self.reason {
            Some(reason) => write!(f, "DNS has no address for {host} ({reason})"),
            None => write!(f, "DNS did not give the address of {host} in time"),
        }
    }
}

impl Error for Unresolved {}

/// How the operating system is asked for the addresses of a host.
type Ask = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// Host names that are being looked up, and those that were looked up a moment ago.
pub struct Names {
    ask: Ask,
    state: Mutex<State>,
    /// Signals that a look-up has ended.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The names that are being looked up.
    asked: BTreeSet<String>,
    answers: BTreeMap<String, Answer>,
}

struct Answer {
    at: Instant,
    addresses: Result<Vec<IpAddr>, Unresolved>,
}

impl Answer {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < LIFETIME
    }

    /// Whether this serves a caller who has waited since `begun`. A failure serves only those who
    /// were waiting when it came.
    fn serves(&self, begun: Instant) -> bool {
        self.at >= begun || (self.addresses.is_ok() && self.is_fresh())
    }
}

impl Names {
    /// Names whose addresses `ask` finds.
    pub fn new(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self {
            ask: Box::new(ask),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The addresses of `host`. Waits at most for `patience`.
    ///
    /// # Errors
    /// It has no address, or the answer did not come in time.
    pub fn look_up(
        &'static self,
        host: &str,
        named_by: NamedBy,
        patience: Duration,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let begun = Instant::now();
        let mut state = locked(&self.state);
        loop {
            let answer = state.answers.get(host);
            if let Some(answer) = answer.filter(|answer| answer.serves(begun)) {
                return answer.addresses.clone();
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Unresolved {
                    host: host.to_owned(),
                    reason: None,
                });
            }
            let has_room = state.asked.len() < named_by.most_look_ups();
            if has_room && state.asked.insert(host.to_owned()) {
                drop(state);
                self.start(host);
                state = locked(&self.state);
                continue;
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start(&'static self, host: &str) {
        let name = host.to_owned();
        let finish = Box::new(move || self.finish(&name));
        let started = sync::spawn(thread::Builder::new(), finish);
        if started.is_err() {
            // No thread is left, so this one looks the name up, however long that takes.
            self.finish(host);
        }
    }

    /// Looks `host` up and tells everybody who waits.
    fn finish(&self, host: &str) {
        let found = match (self.ask)(host) {
            Ok(addresses) if addresses.is_empty() => Err("it has none".to_owned()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        };
        let addresses = found.map_err(|reason| Unresolved {
            host: host.to_owned(),
            reason: Some(reason),
        });
        let at = Instant::now();
        let mut state = locked(&self.state);
        state.asked.remove(host);
        state.answers.retain(|_, answer| answer.is_fresh());
        state
            .answers
            .insert(host.to_owned(), Answer { at, addresses });
        self.changed.notify_all();
    }
}

/// Resolves nothing. ureq resolves a name even if a connection to it is open. Instead, the
/// connector looks the name up when it makes a connection.
#[derive(Debug)]
pub(super) struct Later;

impl Resolver for Later {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}
