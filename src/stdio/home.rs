//! Which server the messages go to. Whoever owns the token file is the server: this process, or
//! another one, at the origin that its owner file names.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use url::Url;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::outgoing::is_loopback_host;
use crate::owner::{self, OwnerInfo};
use crate::serve::Server;
use crate::sync::locked;
use crate::verbs::running_server;

/// How long a process that only checks the lock of the token file may hold it.
const GLANCE: Duration = Duration::from_millis(300);
/// The pause before this process tries again to become the server.
const PAUSE: Duration = Duration::from_secs(1);

/// A server.
pub(super) struct Place {
    url: Url,
    /// The value of `Host`.
    host: String,
    process: Process,
}

/// Whose server it is.
enum Process {
    This(Server),
    /// What its owner file says.
    Other(OwnerInfo),
}

impl Place {
    /// # Errors
    /// It is not on this machine, where nobody can read what is sent.
    fn new(origin: &str, process: Process) -> Result<Self, Failure> {
        let url = Url::parse(origin).ok().filter(is_on_this_machine);
        let Some(url) = url else {
            let message = format!("The server at {origin} cannot be spoken to with stdio.");
            return Err(Failure::new(Kind::Configuration, message)
                .hint("Let it listen on this machine alone: SERVER_HOST=localhost."));
        };
        let host = origin.strip_prefix("http://").unwrap_or_default();
        Ok(Self {
            host: host.to_owned(),
            url,
            process,
        })
    }

    /// `None` where it is another process.
    fn server(&self) -> Option<&Server> {
        match &self.process {
            Process::This(server) => Some(server),
            Process::Other(_) => None,
        }
    }

    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.host)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        let addresses = self.url.socket_addrs(|| None)?;
        let socket = TcpStream::connect(addresses.as_slice())?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

fn is_on_this_machine(url: &Url) -> bool {
    url.scheme() == "http" && url.host_str().is_some_and(is_loopback_host)
}

/// Where the server is at the moment.
pub(super) struct Home {
    config: Config,
    /// `None` while there is no server.
    place: Mutex<Option<Arc<Place>>>,
}

impl Home {
    /// Finds a server, or becomes one.
    ///
    /// # Errors
    /// There is none, and this process cannot be one.
    pub(super) fn open(config: Config) -> Result<Self, Failure> {
        let home = Self {
            config,
            place: Mutex::default(),
        };
        home.place()?;
        Ok(home)
    }

    /// The server. If the last one has ended, finds another.
    ///
    /// # Errors
    /// There is none, and this process cannot be one.
    pub(super) fn place(&self) -> Result<Arc<Place>, Failure> {
        let mut place = locked(&self.place);
        if let Some(current) = &*place
            && self.is_owned_by(current)
        {
            return Ok(Arc::clone(current));
        }
        *place = None;
        let found = Arc::new(self.find()?);
        *place = Some(Arc::clone(&found));
        Ok(found)
    }

    fn find(&self) -> Result<Place, Failure> {
        loop {
            let token_file = &self.config.token_cache_file;
            if let Some(origin) = running_server(token_file)? {
                let owner = owner::current(token_file).unwrap_or_default();
                match owner.filter(|owner| owner.origin.as_ref() == Some(&origin)) {
                    Some(owner) => return Place::new(&origin, Process::Other(owner)),
                    // It has just ended.
                    None => continue,
                }
            }
            let limits = Limits {
                owner: GLANCE,
                ..Limits::default()
            };
            match Server::start(self.config.clone(), Clock::system(), limits) {
                Ok(server) => {
                    let origin = server.local_origin().to_owned();
                    log::info!("this process is the server now, at {origin}");
                    return Place::new(&origin, Process::This(server));
                }
                // Another process was faster.
                Err(_) if matches!(owner::current(token_file), Ok(Some(_))) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Whether the process of `place` still owns the token file. Once it has ended, anybody may
    /// listen at its port, and another owner later.
    pub(super) fn is_owned_by(&self, place: &Place) -> bool {
        match &place.process {
            Process::This(_) => true,
            Process::Other(known) => {
                let owner = owner::current(&self.config.token_cache_file);
                owner.is_ok_and(|owner| owner.as_ref() == Some(known))
            }
        }
    }

    /// Waits for the end of another process's server, to compete for its place, until this process
    /// is the server: links that people have must lead somewhere.
    pub(super) fn watch(&self) {
        let mut is_told = false;
        loop {
            match self.place() {
                Ok(place) if place.server().is_some() => return,
                Ok(_) if owner::wait_for_end(&self.config.token_cache_file).is_ok() => {
                    is_told = false;
                    continue;
                }
                Err(failure) if !is_told => {
                    log::warn!("there is no server at the moment: {}", failure.text());
                    is_told = true;
                }
                Ok(_) | Err(_) => {}
            }
            thread::sleep(PAUSE);
        }
    }

    /// Opens the audit log anew, where this process writes it.
    pub(super) fn reopen_audit_log(&self) {
        let place = locked(&self.place).clone();
        if let Some(server) = place.as_ref().and_then(|place| place.server()) {
            // A failure to open it is logged. The next call tries again.
            let _ = server.reopen_audit_log();
        }
    }

    /// Ends the server of this process, after the requests of others that are under way.
    pub(super) fn close(&self) {
        let place = locked(&self.place).clone();
        if let Some(server) = place.as_ref().and_then(|place| place.server()) {
            server.stop();
        }
    }
}
