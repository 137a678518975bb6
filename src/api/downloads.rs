//! Redirects to downloads, such as the content of a file that an API keeps elsewhere. They are
//! followed to the hosts of `DOWNLOAD_HOSTS`, without anything that is meant for the API.

use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT, LOCATION};
use ureq::http::{Request, Response};
use ureq::{Agent, Body};
use url::{Host, Url};

use crate::error::{Failure, Kind};
use crate::outgoing::public::{Judge, NotAllowed, is_public};
use crate::outgoing::{agent_config, explain, judging_agent};

/// The most redirects that are followed for one call.
const MOST_HOPS: usize = 3;
/// Connections kept open for the next download.
const IDLE_CONNECTIONS: usize = 8;

/// Where downloads may come from.
#[derive(Clone, Debug)]
pub struct DownloadHosts {
    names: Vec<Name>,
    is_allowed: Judge,
}

/// One entry of the setting, in lower case.
#[derive(Clone, Debug)]
enum Name {
    /// This host.
    Host(String),
    /// Every host whose name ends with this text, which begins with a dot.
    Below(String),
}

impl DownloadHosts {
    /// Reads the setting: names of hosts, separated by spaces or commas. `*.` at the beginning of a
    /// name stands for any labels.
    ///
    /// # Errors
    /// How to correct it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text
            .split([',', ' ', '\t'])
            .filter(|name| !name.is_empty())
            .map(Name::parse);
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            is_allowed: is_public,
        })
    }

    /// The same hosts, at the addresses that `is_allowed` accepts.
    pub fn at(self, is_allowed: Judge) -> Self {
        Self { is_allowed, ..self }
    }

    fn have(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name {
            Name::Host(name) => host == name,
            Name::Below(end) => host.len() > end.len() && host.ends_with(end.as_str()),
        })
    }
}

impl Name {
    fn parse(text: &str) -> Result<Self, String> {
        let mend = || {
            format!(
                "write names of hosts, such as files.example.com or *.example.com, not {text:?}"
            )
        };
        let (is_below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let Ok(Host::Domain(host)) = Host::parse(name) else {
            return Err(mend());
        };
        let is_plain =
            host.eq_ignore_ascii_case(name) && !host.contains('*') && !host.ends_with('.');
        if !is_plain {
            return Err(mend());
        }
        if is_below && !host.contains('.') {
            return Err(format!(
                "name more than the last part of the hosts behind {text:?}"
            ));
        }
        Ok(if is_below {
            Self::Below(format!(".{host}"))
        } else {
            Self::Host(host)
        })
    }
}

/// Fetches downloads from the hosts of the setting.
pub(crate) struct Downloads {
    hosts: DownloadHosts,
    agent: Agent,
}

/// The result of a call of the API and of the redirects that followed.
pub(crate) struct Followed {
    pub(crate) response: Response<Body>,
    /// The host that it comes from, if that is not the API's.
    pub(crate) from: Option<String>,
    /// The host of a redirect that was not followed, but that the setting could allow.
    pub(crate) unlisted: Option<String>,
}

impl Followed {
    /// An answer of the API, without a redirect that was followed.
    pub(crate) fn none(response: Response<Body>) -> Self {
        Self {
            response,
            from: None,
            unlisted: None,
        }
    }
}

impl Downloads {
    /// Downloads of an API at `base`.
    pub(crate) fn new(hosts: DownloadHosts, base: &Url) -> Self {
        let config = agent_config(base)
            .https_only(true)
            // A proxy would look up the name itself.
            .proxy(None)
            .accept_encoding("gzip")
            .max_idle_connections(IDLE_CONNECTIONS)
            .build();
        Self {
            agent: judging_agent(config, hosts.is_allowed),
            hosts,
        }
    }

    /// The answer of `url`. The request contains nothing of the call that led there.
    fn fetch(&self, url: &Url, host: &str, deadline: Instant) -> Result<Response<Body>, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = Request::get(url.as_str()).header(ACCEPT, "*/*").body(());
        let result = request.map_err(ureq::Error::from).and_then(|request| {
            let request = self.agent.configure_request(request);
            // Zero would mean no limit.
            let left = left.max(Duration::from_millis(1));
            self.agent.run(request.timeout_global(Some(left)).build())
        });
        result.map_err(|error| failure(host, &error))
    }
}

fn failure(host: &str, error: &ureq::Error) -> Failure {
    let led = format!("The API answered with a redirect to {host}");
    if let Some(not_allowed) = NotAllowed::of(error) {
        let message = format!("{led}, which is not followed: {not_allowed}.");
        return Failure::new(Kind::Refused, message)
            .hint("DOWNLOAD_HOSTS of this server allows hosts of the public Internet alone.");
    }
    let message = format!("{led}, and that did not answer: {}", explain(error));
    Failure::new(Kind::BackendUnreachable, message)
        .hint("The API itself has answered. Downloads are not made through a proxy.")
}

/// Follows the redirects of `response`, the answer of `called`, as far as they lead to hosts from
/// which `downloads` may come. The last answer may be a redirect that is not followed.
///
/// # Errors
/// An allowed host does not answer, or has no public address.
pub(crate) fn follow(
    downloads: Option<&Downloads>,
    response: Response<Body>,
    called: &Url,
    deadline: Instant,
) -> Result<Followed, Failure> {
    let mut followed = Followed::none(response);
    let mut at = called.clone();
    for hop in 0..=MOST_HOPS {
        let Some(next) = redirect(&followed.response, &at) else {
            break;
        };
        let host = next.host_str().unwrap_or_default().to_owned();
        let Some(downloads) = downloads.filter(|downloads| downloads.hosts.have(&host)) else {
            followed.unlisted = Some(host);
            break;
        };
        if hop == MOST_HOPS {
            break;
        }
        followed.response = downloads.fetch(&next, &host, deadline)?;
        followed.from = Some(host);
        at = next;
    }
    Ok(followed)
}

/// The URL to which `response`, the answer of `at`, redirects (RFC 9110 §15.4), if a download can
/// be there: by https, at a host that has a name, and without credentials.
fn redirect(response: &Response<Body>, at: &Url) -> Option<Url> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    let mut url = at.join(location).ok()?;
    url.set_fragment(None);
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    let is_download = url.scheme() == "https" && url.domain().is_some() && !has_credentials;
    is_download.then_some(url)
}
