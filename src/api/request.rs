//! The request to the API. The token is sent to URLs below the base URL and nowhere else.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, RANGE};
use ureq::http::{self, HeaderMap, HeaderValue, Response};
use ureq::{Agent, AsSendBody, Body, SendBody, Timeout};
use url::Url;

use super::answer::{Answer, Reading, Wanted};
use super::downloads::{DownloadHosts, Downloads, Followed, follow};
use super::endpoint::{Base, Target};
use super::files::{Moved, NotSaved, Source, Watch};
use super::fixed_headers::FixedHeaders;
use super::tokens::Tokens;
use crate::auth::account::Account;
use crate::cookie_jar::CookieJar;
use crate::error::{Failure, Kind};
use crate::outgoing::{OUTPUT_BYTES, agent, agent_config, explain, is_unresolved};
use crate::secret::Secret;

/// The time limit of a whole call.
const TIMEOUT: Duration = Duration::from_secs(100);
/// The time limit of a call that moves a file.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(900);
/// The pauses before a failed call is repeated.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(450)];
/// The pause after a 429 that does not name one.
const THROTTLED: Duration = Duration::from_secs(1);
/// How long after its beginning a call may still be repeated: somebody is waiting.
const RETRY_WINDOW: Duration = Duration::from_secs(10);
/// Connections kept open for the next call.
const IDLE_CONNECTIONS: usize = 64;
/// The longest URL or header value. The rest of the buffer holds what else is in its line.
const MOST_LINE_BYTES: usize = OUTPUT_BYTES - 1024;
/// How many times longer than `MAX_RESPONSE_BYTES` JSON may be if parts of it are to be selected.
const REACH: usize = 16;
/// How long JSON may be at most if parts of it are to be selected.
const MOST_REACH: usize = 256 * 1024 * 1024;

/// A request whose every part has been checked.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Content<'a>,
    pub(crate) wanted: Wanted<'a>,
    /// Watches a file being moved, and says whether the call is still wanted.
    pub(crate) watch: Watch<'a>,
}

/// The body of a request.
pub(crate) enum Content<'a> {
    Nothing,
    Bytes(Cow<'a, [u8]>),
    File(Source),
}

impl Request<'_> {
    /// Whether the client has cancelled the call (MCP 2026-07-28 cancellation).
    pub(crate) fn is_given_up(&self) -> bool {
        (self.watch)(0, None).is_err()
    }

    fn moves_a_file(&self) -> bool {
        self.wanted.save_to.is_some() || matches!(self.body, Content::File(_))
    }
}

/// On whose behalf a request is sent.
pub(crate) struct Caller<'a> {
    /// The account whose token and cookies are sent.
    pub(crate) account: &'a Account,
    /// Accounts whose tokens were sent with the same call before.
    pub(crate) earlier: &'a [Arc<Account>],
    /// In seconds since 1970.
    pub(crate) now: u64,
}

/// The backend.
pub struct Backend {
    agent: Agent,
    pub(crate) base: Base,
    pub(crate) fixed_headers: Option<FixedHeaders>,
    downloads: Option<Downloads>,
    max_response_bytes: usize,
    /// The names of the cookies that are kept for each account.
    session_cookies: Vec<String>,
}

impl Backend {
    /// `base` ends in a slash. Each call has the `fixed_headers`. Downloads may come from
    /// `download_hosts`. Cookies of the names `session_cookies` are kept for each account.
    pub fn new(
        base: Url,
        fixed_headers: Option<FixedHeaders>,
        download_hosts: Option<DownloadHosts>,
        max_response_bytes: usize,
        session_cookies: Vec<String>,
    ) -> Self {
        let config = agent_config(&base)
            .timeout_global(Some(TIMEOUT))
            .accept_encoding("gzip")
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        Self {
            agent: agent(config),
            downloads: download_hosts.map(|hosts| Downloads::new(hosts, &base)),
            base: Base(base),
            fixed_headers,
            max_response_bytes,
            session_cookies,
        }
    }

    /// Sends `request` for `caller`, with the bearer token (RFC 6750 §2.1). Redirects are not
    /// followed, except to downloads that are allowed, and then without the token. A failed request
    /// is repeated after a pause, on a new connection, unless the API could then act twice. The
    /// answer contains neither the caller's tokens and cookies nor the keys of the fixed headers.
    /// With another token, the API may have acted on `unanswered_tries` of the same call.
    ///
    /// # Errors
    /// The token is too long; the API cannot be reached, or its answer is incomplete; a file cannot
    /// be moved.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        caller: &Caller<'_>,
        mut unanswered_tries: usize,
    ) -> Result<Answer, Failure> {
        let access_token = caller.account.token()?;
        if access_token.expose().len() > MOST_LINE_BYTES {
            let message = format!("The access token has more than {MOST_LINE_BYTES} bytes.");
            return Err(Failure::new(Kind::Configuration, message)
                .hint("Few servers take that. Have fewer claims put into it: in the API's app registration, groups above all."));
        }
        let begun = Instant::now();
        // A call that moves a file is not repeated: the caller decides.
        let mut pauses = PAUSES.into_iter().filter(|_| !request.moves_a_file());
        let mut left = request.moves_a_file().then_some(TRANSFER_TIMEOUT);
        loop {
            let result = self.exchange(request, caller, access_token, left);
            let pause = pauses
                .next()
                .and_then(|pause| pause_before_retry(request.method, &result, pause));
            let Some(pause) = pause.filter(|pause| begun.elapsed() + *pause < RETRY_WINDOW) else {
                return ended(request, result, unanswered_tries);
            };
            thread::sleep(pause);
            if request.is_given_up() {
                return ended(request, result, unanswered_tries);
            }
            unanswered_tries += usize::from(may_have_acted(&result));
            left = Some(TIMEOUT.saturating_sub(begun.elapsed()));
        }
    }

    fn exchange(
        &self,
        request: &Request<'_>,
        caller: &Caller<'_>,
        access_token: &Secret,
        left: Option<Duration>,
    ) -> Result<Answer, Unanswered> {
        let bearer = access_token.between("Bearer ", "");
        let mut head = http::Request::builder()
            .method(request.method)
            .uri(request.target.uri().clone())
            .header(AUTHORIZATION, sensitive(&bearer)?);
        let has_cookies = !self.session_cookies.is_empty();
        let jar = has_cookies.then_some(&*caller.account.cookies);
        let mut cookies = jar.map(CookieJar::values).unwrap_or_default();
        let cookie = jar.and_then(|jar| jar.header(request.target.url(), caller.now));
        if let Some(cookie) = cookie {
            head = head.header(COOKIE, sensitive(&cookie)?);
        }
        for (name, value) in &request.headers {
            // The caller cannot set a fixed header, but a default may have the same name.
            let is_fixed = |fixed: &FixedHeaders| fixed.has(name.as_str());
            if !self.fixed_headers.as_ref().is_some_and(is_fixed) {
                head = head.header(name, value);
            }
        }
        for (name, value) in self.fixed_headers.iter().flat_map(FixedHeaders::iter) {
            head = head.header(name, value);
        }
        // A range of what is packed could not be unpacked (RFC 9110 §14.2).
        if request.headers.contains_key(RANGE) && !request.headers.contains_key(ACCEPT_ENCODING) {
            head = head.header(ACCEPT_ENCODING, "identity");
        }
        let deadline = Instant::now() + left.unwrap_or(TIMEOUT);
        let mut sent = None;
        let response = match &request.body {
            Content::Nothing if matches!(request.method, "GET" | "DELETE") => {
                self.run(head.body(())?, left)?
            }
            // A method that anticipates content says so when there is none (RFC 9110 §8.6).
            Content::Nothing => self.run(head.body(&[][..])?, left)?,
            Content::Bytes(bytes) => self.run(head.body(bytes.as_ref())?, left)?,
            Content::File(source) => {
                let (response, moved) = self.run_with_file(head, source, request.watch, left)?;
                sent = moved.map(|moved| (source.name.clone(), moved));
                response
            }
        };
        let has_set_cookie = jar.is_some_and(|jar| {
            let names = &self.session_cookies;
            jar.keep(response.headers(), names, request.target.url(), caller.now)
        });
        if has_set_cookie {
            cookies.extend(caller.account.cookies.values());
        }
        let earlier = caller.earlier.iter();
        let mut access_tokens = vec![access_token];
        access_tokens.extend(earlier.filter_map(|account| account.token().ok()));
        let keys = self.fixed_headers.iter().flat_map(FixedHeaders::keys);
        let tokens = Tokens::new(&access_tokens, keys, &cookies);
        let followed = if request.method == "GET" {
            let downloads = self.downloads.as_ref();
            let followed = follow(downloads, response, request.target.url(), deadline);
            followed.map_err(Unanswered::Here)?
        } else {
            Followed::none(response)
        };
        let most = self.max_response_bytes;
        let wanted = request.wanted.max_bytes.unwrap_or(most);
        let reading = Reading {
            base: &self.base,
            called: &request.target,
            wanted: &request.wanted,
            downloaded_from: followed.from,
            unlisted_host: followed.unlisted,
            watch: request.watch,
            max_bytes: wanted.min(most),
            reach: most.saturating_mul(REACH).min(MOST_REACH),
            tokens: &tokens,
            has_set_cookie,
        };
        let mut answer = reading.answer(followed.response)?;
        answer.file = answer.file.or(sent);
        Ok(answer)
    }

    /// Sends the file with `head`. Returns what was moved, if it was the whole file.
    fn run_with_file(
        &self,
        head: http::request::Builder,
        source: &Source,
        watch: Watch<'_>,
        left: Option<Duration>,
    ) -> Result<(Response<Body>, Option<Moved>), Unanswered> {
        let mut reader = source.reader(watch)?;
        let mut head = head.header(CONTENT_LENGTH, source.length());
        if source.length() > 0 {
            // An API that does not take the token says so before the file is sent (RFC 9110
            // §10.1.1).
            head = head.header(EXPECT, "100-continue");
        }
        let request = head.body(SendBody::from_reader(&mut reader))?;
        let result = self.run(request, left);
        let moved = reader.ended().map_err(Unanswered::Here)?;
        let response = result?;
        let is_whole = moved.bytes == source.size;
        if response.status().is_success() && !is_whole {
            let message = format!(
                "The API answered with status {} before it had the file.",
                response.status().as_u16()
            );
            let hint =
                "Whether the API has acted on the request is not known; it does not have the file.";
            let failure = Failure::new(Kind::BackendUnreachable, message).hint(hint);
            return Err(Unanswered::Here(failure));
        }
        Ok((response, is_whole.then_some(moved)))
    }

    /// Sends the request. One with a limit of time `left` goes on a new connection, since idle ones
    /// may be as stale as the one that has failed.
    fn run<B: AsSendBody>(
        &self,
        request: http::Request<B>,
        left: Option<Duration>,
    ) -> Result<Response<Body>, ureq::Error> {
        if left.is_none() {
            return self.agent.run(request);
        }
        let again = self
            .agent
            .configure_request(request)
            .max_idle_age(Duration::ZERO);
        self.agent.run(again.timeout_global(left).build())
    }
}

/// A header that no log shows.
fn sensitive(value: &Secret) -> Result<HeaderValue, http::Error> {
    let mut header = HeaderValue::from_str(value.expose())?;
    header.set_sensitive(true);
    Ok(header)
}

/// Why a request has no answer.
enum Unanswered {
    /// A file cannot be sent or written.
    Here(Failure),
    /// The connection or the API has failed.
    There(ureq::Error),
}

impl Unanswered {
    fn failure(self, target: &Target, unanswered_tries: usize) -> Failure {
        let error = match self {
            Self::Here(failure) => return failure,
            Self::There(error) => error,
        };
        let acted = if was_not_sent(&error) && unanswered_tries == 0 {
            "The request was not sent."
        } else {
            "Whether the API has acted on the request is not known."
        };
        let url = target.as_str();
        let reason = explain(&error);
        let message = if matches!(error, ureq::Error::Protocol(_)) {
            format!("The API's answer to {url} cannot be read: {reason}")
        } else {
            format!("The API did not answer {url}: {reason}")
        };
        Failure::new(Kind::BackendUnreachable, message).hint(acted)
    }
}

impl From<ureq::Error> for Unanswered {
    fn from(error: ureq::Error) -> Self {
        Self::There(error)
    }
}

impl From<http::Error> for Unanswered {
    fn from(error: http::Error) -> Self {
        Self::There(error.into())
    }
}

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Self {
        Self::There(error.into())
    }
}

impl From<NotSaved> for Unanswered {
    fn from(not_saved: NotSaved) -> Self {
        match not_saved {
            NotSaved::Here(failure) => Self::Here(failure),
            NotSaved::There(error) => Self::There(error.into()),
        }
    }
}

/// Refuses a URL or a header that is too long to be sent.
///
/// # Errors
/// One is.
pub(crate) fn check_head(target: &Target, headers: &HeaderMap) -> Result<(), Failure> {
    let longest = headers
        .values()
        .map(HeaderValue::len)
        .chain([target.as_str().len()])
        .max();
    if longest.is_none_or(|longest| longest <= MOST_LINE_BYTES) {
        return Ok(());
    }
    let message =
        format!("The URL or a header of this call has more than {MOST_LINE_BYTES} bytes.");
    Err(Failure::new(Kind::InvalidRequest, message)
        .hint("Few servers take that. Ask for less at a time, or send it in a body."))
}

/// How long to wait before a request that ended in `result` is repeated; `None` if it is not.
fn pause_before_retry(
    method: &str,
    result: &Result<Answer, Unanswered>,
    pause: Duration,
) -> Option<Duration> {
    // RFC 9110 §9.2.2
    let is_idempotent = matches!(method, "GET" | "HEAD" | "PUT" | "DELETE");
    match result {
        // A second session is not begun by itself.
        Ok(answer) if answer.has_set_cookie => None,
        // The API has done it, and only its answer was lost: done again, a DELETE would find
        // nothing.
        Ok(answer) if answer.is_done() => {
            let is_worth_it = answer
                .broken_off
                .as_ref()
                .is_some_and(|broken| broken.may_pass);
            (method == "GET" && is_worth_it).then_some(pause)
        }
        Ok(answer) if is_idempotent => match answer.status {
            429 => Some(answer.retry_after.unwrap_or(THROTTLED)),
            502..=504 => Some(answer.retry_after.unwrap_or(pause)),
            _ => None,
        },
        Ok(_) | Err(Unanswered::Here(_) | Unanswered::There(ureq::Error::Timeout(_))) => None,
        Err(Unanswered::There(error)) if has_bad_certificate(error) => None,
        // A malformed answer would be the same the next time.
        Err(Unanswered::There(error)) => {
            let is_broken_off = matches!(error, ureq::Error::Io(_));
            ((is_idempotent && is_broken_off) || was_not_sent(error)).then_some(pause)
        }
    }
}

/// What the last try of `request` has ended in, with how many tries before the API may have acted
/// on. A GET changes nothing.
fn ended(
    request: &Request<'_>,
    last: Result<Answer, Unanswered>,
    unanswered_tries: usize,
) -> Result<Answer, Failure> {
    let answer = last.map_err(|last| last.failure(&request.target, unanswered_tries))?;
    if request.method == "GET" {
        return Ok(answer);
    }
    Ok(Answer {
        unanswered_tries,
        ..answer
    })
}

/// Whether the API may have acted on a request that ended in `result`. A gateway that answers in
/// its place (502, 504) does not know.
fn may_have_acted(result: &Result<Answer, Unanswered>) -> bool {
    match result {
        Ok(answer) => matches!(answer.status, 502 | 504),
        Err(Unanswered::Here(_)) => false,
        Err(Unanswered::There(error)) => !was_not_sent(error),
    }
}

/// Whether the request cannot have reached the API.
fn was_not_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => true,
        ureq::Error::Timeout(phase) => matches!(phase, Timeout::Resolve | Timeout::Connect),
        ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => true,
        _ => is_unresolved(error) || has_bad_certificate(error),
    }
}

/// Whether the API's certificate was refused, which happens before anything is sent.
fn has_bad_certificate(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else {
        return false;
    };
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}
