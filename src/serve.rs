//! A running server: settings, token file, listener and routes put together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use url::Url;

use crate::auth::Auth;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::http::Limits;
use crate::http::listener::{HttpServer, Listeners, NotBound};
use crate::http::message::SERVER_NAME;
use crate::os;
use crate::outgoing::{agent, agent_config};
use crate::owner::{Owner, Purpose};
use crate::routes::Routes;

/// How long a server may take to say that it runs.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Open files of the server itself: listeners, logs, the token file and its locks, and a few to
/// spare.
const OWN_DESCRIPTORS: usize = 16;

const MIB: usize = 1024 * 1024;
/// Address space for all connections' threads and the answers that they hold, and to spare.
const ADDRESS_SPACE: usize = 2048 * MIB;
/// What glibc sets aside for each processor: 8 arenas of 64 MiB.
const ARENAS: usize = 512 * MIB;

/// Where a server that listens at `host` can be asked.
pub fn origin_of(host: &str, port: u16) -> String {
    let host = if matches!(host, "0.0.0.0" | "::") {
        "localhost"
    } else {
        host
    };
    if host.contains(':') {
        format!("http://[{host}]:{port}")
    } else {
        format!("http://{host}:{port}")
    }
}

/// Whether it is a server of ours that answers at `origin`. It is asked without a proxy.
pub fn is_ours(origin: &str) -> bool {
    let Ok(url) = Url::parse(&format!("{origin}/healthz")) else {
        return false;
    };
    // Also an address that is no loopback one may be this machine's.
    let config = agent_config(&url)
        .https_only(false)
        .proxy(None)
        .timeout_global(Some(PROBE_TIMEOUT))
        .build();
    let answer = agent(config).get(url.as_str()).call();
    answer.is_ok_and(|answer| {
        answer
            .headers()
            .get("server")
            .is_some_and(|name| name == SERVER_NAME)
    })
}

/// The address of the settings at which somebody listens already. Nothing is sent there.
pub fn taken_address(config: &Config) -> Option<String> {
    let host = &config.server_host;
    let bound = Listeners::bind(host, config.server_port, config.is_reached_as_localhost());
    let not_bound = bound.err()?;
    (not_bound.error.kind() == io::ErrorKind::AddrInUse).then_some(not_bound.address)
}

/// A server; it stops when it is dropped.
pub struct Server {
    http: HttpServer,
    config: Arc<Config>,
    auth: Arc<Auth>,
    /// Where the verbs on this machine speak to it.
    local_origin: String,
}

impl Server {
    /// Takes the token file, listens, and serves from now on, on threads of its own.
    ///
    /// # Errors
    /// Another process owns the token file, the file is out of order, or the address cannot be had.
    pub fn start(config: Config, clock: Clock, mut limits: Limits) -> Result<Self, Failure> {
        check_address_space(os::most_address_space())?;
        let owner = Owner::acquire(&config.token_cache_file, Purpose::Server, limits.owner)?;
        let listeners = Listeners::bind(
            &config.server_host,
            config.server_port,
            config.is_reached_as_localhost(),
        )
        .map_err(|not_bound| cannot_listen(&config, &not_bound))?;
        limits.body_bytes = config.max_request_bytes;
        limits.connections = places(limits.connections, os::most_descriptors());
        let address = listeners.address();
        let config = Arc::new(config.at_port(listeners.port()));
        let auth = Arc::new(Auth::start(Arc::clone(&config), clock, owner)?);
        let routes = Routes::new(Arc::clone(&config), Arc::clone(&auth))?;
        // Before anybody is served: later, clients may have taken the last descriptors.
        let local_origin = local_origin(address, &config);
        auth.announce(Some(&local_origin));
        let http = listeners
            .serve(Box::new(routes), limits)
            .map_err(|error| no_thread(&error))?;
        Ok(Self {
            http,
            config,
            auth,
            local_origin,
        })
    }

    /// The port that is listened on.
    pub fn port(&self) -> u16 {
        self.config.server_port
    }

    /// The origin that browsers and clients know the server by, without a trailing slash.
    pub fn origin(&self) -> String {
        self.config.redirect_uri.origin.clone()
    }

    /// The origin at which processes of this machine can speak to it.
    pub(crate) fn local_origin(&self) -> &str {
        &self.local_origin
    }

    /// Opens the audit log anew, as after it was rotated.
    ///
    /// # Errors
    /// It is required and cannot be opened; then calls fail until it can be.
    pub fn reopen_audit_log(&self) -> Result<(), Failure> {
        self.auth.audit.reopen()
    }

    /// Accepts nothing more, lets requests in flight finish, and returns.
    pub fn stop(&self) {
        // Requests in flight may take a while; whoever wants to speak to this server waits for its
        // end.
        self.auth.announce(None);
        self.http.stop();
        // Those who still ask Entra whether a device code was used end, too.
        if let Err(failure) = self.auth.close() {
            log::error!("tokens that Entra has renewed are lost: {}", failure.text());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where processes of this machine can speak to a server that listens at `address`. It is an
/// address, not `localhost`: another user's process may listen on the loopback address of the other
/// family.
fn local_origin(address: Option<SocketAddr>, config: &Config) -> String {
    let Some(mut address) = address else {
        return config.redirect_uri.origin.clone();
    };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        // Not without encryption, where that can be.
        ip if !ip.is_loopback() && config.redirect_uri.is_https => {
            return config.redirect_uri.origin.clone();
        }
        _ => {}
    }
    format!("http://{address}")
}

pub(crate) fn no_thread(error: &io::Error) -> Failure {
    Failure::new(
        Kind::Internal,
        format!("There was no thread to serve with ({error})."),
    )
    .hint("Raise the limit of threads for this process.")
}

fn cannot_listen(config: &Config, not_bound: &NotBound) -> Failure {
    let NotBound { address, error } = not_bound;
    let hint = if error.kind() != io::ErrorKind::AddrInUse {
        "Set SERVER_HOST and SERVER_PORT to an address and a port that this program may have."
    } else if config.is_reached_as_localhost() {
        "Another program listens there. Browsers look for localhost at 127.0.0.1 and at [::1], so \
         this server needs both: stop that program, or set SERVER_PORT to a free port."
    } else {
        "Another program listens there: stop it, or set SERVER_PORT to a free port."
    };
    let message = format!(
        "Could not listen on {} port {} ({address}: {error}).",
        config.server_host, config.server_port
    );
    Failure::new(Kind::Configuration, message).hint(hint)
}

/// Refuses a limit of address space that a crowd of clients could reach: an allocation that fails
/// ends the process. A limit of the memory that is used does no such harm.
fn check_address_space(limit: Option<usize>) -> Result<(), Failure> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let needed = ADDRESS_SPACE.saturating_add(processors.saturating_mul(ARENAS));
    if limit.is_none_or(|limit| limit >= needed) {
        return Ok(());
    }
    let message = format!(
        "This process may have too little address space: it needs {} MiB here.",
        needed / MIB
    );
    let hint = "Raise or remove the limit (`ulimit -v`, `LimitAS=`). To bound the memory that is used, set \
                `MemoryMax=` or a container's limit.";
    Err(Failure::new(Kind::Configuration, message).hint(hint))
}

/// How many of `most` connections this process has descriptors for: one more for the call of the
/// API that each may make, half a one for those that end or are refused, and some for files.
fn places(most: usize, descriptors: Option<usize>) -> usize {
    let Some(descriptors) = descriptors else {
        return most;
    };
    let places = (descriptors.saturating_sub(OWN_DESCRIPTORS) / 5 * 2).max(1);
    if places < most {
        log::warn!(
            "connections at a time: at most {places}, as only {descriptors} open files are allowed (`ulimit -n`)"
        );
    }
    places.min(most)
}
