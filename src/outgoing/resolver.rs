//! The addresses of the host that is called, remembered for a moment: ureq looks them up for each
//! request, on a thread of its own, also where the connection is open already.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::uri::Authority;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::sync::locked;

/// Shorter than names keep their addresses.
const LIFETIME: Duration = Duration::from_secs(10);

/// Asks the operating system, at most once in [`LIFETIME`] for the host that was asked for last.
#[derive(Default)]
pub struct RememberingResolver {
    system: DefaultResolver,
    last: Mutex<Option<(Authority, Instant, ResolvedSocketAddrs)>>,
}

impl Resolver for RememberingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let is_known = |(authority, at, _): &&(Authority, Instant, ResolvedSocketAddrs)| {
            uri.authority() == Some(authority) && at.elapsed() < LIFETIME
        };
        if let Some((_, _, addresses)) = locked(&self.last).as_ref().filter(is_known) {
            return Ok(addresses.clone());
        }
        let addresses = self.system.resolve(uri, config, timeout)?;
        *locked(&self.last) = uri
            .authority()
            .map(|known| (known.clone(), Instant::now(), addresses.clone()));
        Ok(addresses)
    }
}

impl fmt::Debug for RememberingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RememberingResolver")
    }
}
