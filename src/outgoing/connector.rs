//! How a connection is made: through the proxy or directly, to the first address that answers, with
//! TLS where the URL says so.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::unversioned::transport::time::Duration as UreqDuration;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};
use ureq::{Proxy, ProxyProtocol};

use super::public::{Judge, NotAllowed};
use super::resolver::{NamedBy, addresses_of};
use super::trailers::BoundTrailers;
use crate::sync::locked;

/// How long the first round waits for each address. If eight do not answer, the ninth is still
/// reached within two seconds.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How many times longer each next round waits, in case the network is slow.
const GROWTH: u32 = 3;
/// How long to wait for an address that has answered before.
const PROVEN_WAIT: Duration = Duration::from_secs(1);
/// How long a family of addresses may take to answer.
const SILENCE: Duration = Duration::from_secs(3);

/// Makes the connections of one agent: through `proxy`, if there is one, otherwise to addresses for
/// which `is_allowed` holds.
pub(super) fn new(proxy: Option<&Proxy>, is_allowed: Option<Judge>) -> impl Connector {
    let proxy = proxy.map(|proxy| proxy.uri().clone());
    let dialer = Dialer {
        tcp: TcpConnector::default(),
        is_allowed,
        proven: Mutex::default(),
    };
    ().chain(ConnectProxyConnector::default())
        .chain(dialer)
        .chain(RustlsConnector::default())
        .chain(BoundTrailers { proxy })
}

/// Opens the TCP connection, unless there is a tunnel through the proxy.
struct Dialer {
    tcp: TcpConnector,
    /// `None` if all addresses are allowed, as for the hosts of the settings.
    is_allowed: Option<Judge>,
    /// The address that answered last. It is tried first, so that only the first connection looks
    /// for one among many that do not answer, or are far away.
    proven: Mutex<Option<SocketAddr>>,
}

impl<In: Transport> Connector<In> for Dialer {
    type Out = <TcpConnector as Connector<In>>::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        tunnel: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if tunnel.is_some() {
            return self.tcp.connect(details, tunnel);
        }
        check_proxy(details)?;
        let begun = Instant::now();
        let budget = *details.timeout.after;
        let addresses = resolved(details, self.named_by(), budget)?;
        let addresses = self.allowed(addresses)?;
        let left = budget.saturating_sub(begun.elapsed());
        let proven = *locked(&self.proven);
        let reached = first_to_answer(&addresses, proven, left, |address, wait| {
            let transport = connect_to(&self.tcp, details, address, wait)?;
            Ok((address, transport))
        });
        match reached {
            Ok((address, transport)) => {
                *locked(&self.proven) = Some(address);
                Ok(transport)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                Err(ureq::Error::Timeout(details.timeout.reason))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Dialer {
    fn named_by(&self) -> NamedBy {
        match self.is_allowed {
            Some(_) => NamedBy::Others,
            None => NamedBy::Settings,
        }
    }

    /// Those of `addresses` that are allowed. Only these are connected to, so it is of no use to
    /// change the address of a name after it was checked (DNS rebinding).
    fn allowed(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, ureq::Error> {
        let Some(is_allowed) = self.is_allowed else {
            return Ok(addresses);
        };
        let first = addresses.first().copied();
        let mut allowed = addresses;
        allowed.retain(|address| is_allowed(address.ip()));
        match first {
            Some(first) if allowed.is_empty() => {
                Err(ureq::Error::Other(Box::new(NotAllowed(first.ip()))))
            }
            _ => Ok(allowed),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialer")
    }
}

/// Without this, a connection would be made past a SOCKS proxy.
fn check_proxy(details: &ConnectionDetails<'_>) -> Result<(), ureq::Error> {
    let Some(proxy) = details.config.proxy() else {
        return Ok(());
    };
    let is_http = matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    if is_http || proxy.is_no_proxy(details.uri) {
        return Ok(());
    }
    let reason = format!("{} is not supported", proxy.protocol());
    Err(ureq::Error::ConnectProxyFailed(reason))
}

/// The addresses and the port of the URL's host.
fn resolved(
    details: &ConnectionDetails<'_>,
    named_by: NamedBy,
    patience: Duration,
) -> Result<Vec<SocketAddr>, ureq::Error> {
    let default_port = if details.needs_tls() { 443 } else { 80 };
    let port = details.uri.port_u16().unwrap_or(default_port);
    let host = details.uri.host().unwrap_or_default();
    let found = addresses_of(host, named_by, patience);
    let found = found.map_err(|unresolved| ureq::Error::Other(Box::new(unresolved)))?;
    Ok(found
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

/// Connects to one address within a time limit.
fn connect_to<In: Transport>(
    tcp: &TcpConnector,
    details: &ConnectionDetails<'_>,
    address: SocketAddr,
    wait: Duration,
) -> io::Result<Option<<TcpConnector as Connector<In>>::Out>> {
    let mut addrs = details.resolver.empty();
    addrs.push(address);
    let timeout = NextTimeout {
        after: UreqDuration::Exact(wait),
        ..details.timeout
    };
    let attempt = ConnectionDetails {
        addrs,
        timeout,
        now: (details.current_time)(),
        uri: details.uri,
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    };
    tcp.connect(&attempt, None).map_err(|error| match error {
        ureq::Error::Timeout(_) => ErrorKind::TimedOut.into(),
        error => error.into_io(),
    })
}

/// Connects to the first of `addresses` that answers, and returns what `connect` gives for it. In
/// the spirit of RFC 8305, the families take turns, and no address is waited for long while others
/// are left. `connect` gets an address and how long to wait for it. `budget` is the time for all of
/// them. The `proven` address is tried first if it is one of them.
///
/// # Errors
/// The last error, if each address has refused; `TimedOut`, if one has not answered.
pub fn first_to_answer<T>(
    addresses: &[SocketAddr],
    proven: Option<SocketAddr>,
    budget: Duration,
    mut connect: impl FnMut(SocketAddr, Duration) -> io::Result<T>,
) -> io::Result<T> {
    let mut left = budget;
    if let Some(proven) = proven.filter(|proven| addresses.contains(proven)) {
        let wait = PROVEN_WAIT.min(left);
        match connect(proven, wait) {
            Err(error) if error.kind() == ErrorKind::TimedOut => left -= wait,
            Err(_) => {}
            connected => return connected,
        }
    }
    let mut untried = in_turns(addresses);
    let mut longest = FIRST_WAIT;
    let mut last_error = ErrorKind::TimedOut.into();
    loop {
        let is_alone = untried.len() == 1;
        let mut silent = Vec::new();
        for address in untried {
            let wait = if is_alone { left } else { longest.min(left) };
            if wait.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            match connect(address, wait) {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    left -= wait;
                    silent.push(address);
                }
                Err(error) => last_error = error,
                connected => return connected,
            }
        }
        if silent.is_empty() {
            return Err(last_error);
        }
        untried = silent;
        longest *= GROWTH;
    }
}

/// The families of `addresses` of which no address answers at `port`. A refusal is an answer.
pub fn silent_families(addresses: &[IpAddr], port: u16) -> Vec<&'static str> {
    let is_silent = |is_ipv4: bool| {
        let family: Vec<SocketAddr> = addresses
            .iter()
            .filter(|address| address.is_ipv4() == is_ipv4)
            .map(|&address| SocketAddr::new(address, port))
            .collect();
        let connect = |address, wait| TcpStream::connect_timeout(&address, wait);
        let reached = first_to_answer(&family, None, SILENCE, connect);
        !family.is_empty() && reached.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    };
    let families = [("IPv4", true), ("IPv6", false)];
    families
        .into_iter()
        .filter(|&(_, is_ipv4)| is_silent(is_ipv4))
        .map(|(name, _)| name)
        .collect()
}

/// The addresses, alternating between the families, the family of the first address first
/// (RFC 8305 §4).
fn in_turns(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let is_like_first = |address: &SocketAddr| address.is_ipv4() == first_is_ipv4;
    let (like_first, others): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_like_first);
    let mut others = others.into_iter();
    let mut turns = Vec::with_capacity(addresses.len());
    for address in like_first {
        turns.push(address);
        turns.extend(others.next());
    }
    turns.extend(others);
    turns
}
