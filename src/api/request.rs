//! One authenticated call of the backend API. The token goes to the backend's origin, below its base
//! path, and nowhere else.

use std::borrow::Cow;
use std::io::{ErrorKind, Read as _};
use std::string::FromUtf8Error;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::prelude::*;
use serde_json::{Map, Value, json, value::RawValue};
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, LINK, RETRY_AFTER, WWW_AUTHENTICATE,
};
use ureq::http::{HeaderMap, HeaderValue, Request, Response};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, SendBody, Timeout};
use url::Url;
use zeroize::Zeroizing;

use crate::api::endpoint::{Base, Target};
use crate::api::files::{Destination, Moved, NotSaved, Source, Watch};
use crate::api::link;
use crate::api::select::{Selected, Selection};
use crate::auth::challenge::Challenge;
use crate::error::{Failure, Kind};
use crate::json_pointer;
use crate::media_type;
use crate::outgoing::resolver::RememberingResolver;
use crate::outgoing::retry_after;
use crate::outgoing::{OUTPUT_BYTES, agent_config, explain, is_unresolved};
use crate::secret::Secret;

/// For one whole call: a slow API gets its time, a dead one does not hold the client for ever.
const TIMEOUT: Duration = Duration::from_secs(100);
/// The same for one that moves a file.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(900);
/// When a call may be made again that has failed: so long after each failure,
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(450)];
/// after this where the backend wants less (429) and does not say when,
const THROTTLED: Duration = Duration::from_secs(1);
/// and not later than this after the first time: somebody waits.
const RETRY_WINDOW: Duration = Duration::from_secs(10);
/// Connections kept open for the next call.
const IDLE_CONNECTIONS: usize = 64;
/// The URL and each header have so much room, beside what else stands in their line.
const MOST_LINE_BYTES: usize = OUTPUT_BYTES - 1024;
/// A body that is longer than is handed on is counted up to so many bytes.
const MOST_COUNTED_BYTES: u64 = 64 * 1024 * 1024;

/// Of how much more than is handed on a part may be selected.
const SELECTED_FROM: usize = 16;
/// Where OData says that there is another page (OData JSON Format 4.01 §4.5.5).
const NEXT_LINK: &str = "@odata.nextLink";

/// Response headers that are handed on, beside those that name a request or a correlation id.
const HANDED_ON: [&str; 6] = [
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "link",
    "preference-applied",
];

/// What is to be sent.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: Target,
    /// Checked by [`crate::api::headers`].
    pub(crate) headers: HeaderMap,
    pub(crate) body: Content<'a>,
    /// What is wanted of a successful answer, when it is JSON.
    pub(crate) select: Option<&'a Selection>,
    /// Where a successful answer goes, instead of into the reply.
    pub(crate) save_to: Option<Destination<'a>>,
    /// Watches over a file that is moved, and says whether the call is still wanted.
    pub(crate) watch: Watch<'a>,
}

/// The body of a request.
pub(crate) enum Content<'a> {
    /// None.
    Nothing,
    /// These bytes.
    Bytes(Cow<'a, [u8]>),
    /// What is in this file.
    File(Source),
}

impl Call<'_> {
    /// Whether nobody waits for it any longer: then it is not sent again (MCP 2026-07-28 cancellation).
    pub(crate) fn is_given_up(&self) -> bool {
        (self.watch)(0, None).is_err()
    }

    fn moves_a_file(&self) -> bool {
        self.save_to.is_some() || matches!(self.body, Content::File(_))
    }
}

/// What came back.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The URL that was called.
    pub(crate) endpoint: String,
    /// The media type, with parameters.
    pub(crate) content_type: Option<String>,
    /// What it demands of the next token.
    pub(crate) challenge: Option<Challenge>,
    /// Selected headers.
    pub(crate) headers: Map<String, Value>,
    /// As JSON: what the tool result has under `data`.
    pub(crate) data: String,
    /// How long the backend wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// An image: its media type and its bytes in Base64.
    pub(crate) image: Option<(String, String)>,
    /// The length of the whole body, or of what was selected, when it was longer than what `data` has of it.
    pub(crate) truncated: Option<u64>,
    /// The length of the body, as far as it was read.
    pub(crate) length: u64,
    /// The pointers that select nothing.
    pub(crate) not_found: Vec<String>,
    /// Where the next page is.
    pub(crate) next: Option<NextPage>,
    /// The file that was sent, or that the body was saved to: its name and what was moved.
    pub(crate) file: Option<(String, Moved)>,
}

/// Where an answer says that it goes on.
pub(crate) enum NextPage {
    /// Below the base: it can be called.
    Here(String),
    /// The token does not go there.
    Elsewhere(String),
}

/// What of an answer is handed on.
struct Part {
    /// Of the whole body, as far as it was read.
    length: u64,
    /// Text, or bytes that are none.
    body: Result<String, FromUtf8Error>,
    truncated: Option<u64>,
    not_found: Vec<String>,
    next_link: Option<String>,
    saved: Option<Moved>,
}

/// The backend.
pub struct Backend {
    agent: Agent,
    /// What every call lies below.
    pub(crate) base: Base,
    max_response_bytes: usize,
}

impl Backend {
    /// `base` ends in a slash.
    pub fn new(base: Url, max_response_bytes: usize) -> Self {
        let config = agent_config(&base)
            .timeout_global(Some(TIMEOUT))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        let agent = Agent::with_parts(
            config,
            DefaultConnector::new(),
            RememberingResolver::default(),
        );
        Self {
            agent,
            base: Base(base),
            max_response_bytes,
        }
    }

    /// Sends `call` with the bearer token (RFC 6750 §2.1). Redirects are not followed. What has failed is sent
    /// again, a little later, on a new connection; but not where it could then be done twice.
    ///
    /// # Errors
    /// The token is too long to be sent; the backend cannot be reached, or does not finish its answer.
    pub(crate) fn send(&self, call: &Call<'_>, access_token: &Secret) -> Result<Reply, Failure> {
        if access_token.expose().len() > MOST_LINE_BYTES {
            let message = format!("The access token has more than {MOST_LINE_BYTES} bytes.");
            return Err(Failure::new(Kind::Configuration, message)
                .hint("Few servers take that. Have fewer claims put into it: in the API's app registration, groups above all."));
        }
        let ended = |result: Result<Result<Reply, Failure>, ureq::Error>| {
            result
                .map_err(|error| unanswered(&call.target, &error))
                .flatten()
        };
        let begun = Instant::now();
        // A file that broke off is moved again only when somebody asks for it again.
        let mut pauses = PAUSES.into_iter().filter(|_| !call.moves_a_file());
        let mut left = call.moves_a_file().then_some(TRANSFER_TIMEOUT);
        loop {
            let result = self.exchange(call, access_token, left);
            let pause = pauses
                .next()
                .and_then(|pause| pause_before_retry(call.method, &result, pause));
            let Some(pause) = pause.filter(|pause| begun.elapsed() + *pause < RETRY_WINDOW) else {
                return ended(result);
            };
            thread::sleep(pause);
            if call.is_given_up() {
                return ended(result);
            }
            left = Some(TIMEOUT.saturating_sub(begun.elapsed()));
        }
    }

    /// The inner failure is one of ours: a file that cannot be sent or made.
    fn exchange(
        &self,
        call: &Call<'_>,
        access_token: &Secret,
        left: Option<Duration>,
    ) -> Result<Result<Reply, Failure>, ureq::Error> {
        let request = Request::builder()
            .method(call.method)
            .uri(call.target.uri().clone());
        let bearer = Zeroizing::new(format!("Bearer {}", access_token.expose()));
        let mut bearer = HeaderValue::from_str(&bearer).map_err(ureq::http::Error::from)?;
        bearer.set_sensitive(true);
        let request = request.header(AUTHORIZATION, bearer);
        let request = call.headers.iter().fold(request, |request, (name, value)| {
            request.header(name, value)
        });
        let mut sent = None;
        let mut answer = match &call.body {
            Content::Nothing if matches!(call.method, "GET" | "DELETE") => {
                self.run(request.body(())?, left)?
            }
            // A method that anticipates content says so when there is none (RFC 9110 §8.6).
            Content::Nothing => self.run(request.body(&[][..])?, left)?,
            Content::Bytes(bytes) => self.run(request.body(bytes.as_ref())?, left)?,
            Content::File(source) => {
                let mut reader = source.reader(call.watch)?;
                // An API that does not take the token says so before the file is sent (RFC 9110 §10.1.1).
                let request = if source.size == 0 {
                    request
                } else {
                    request.header(EXPECT, "100-continue")
                };
                let request = request
                    .header(CONTENT_LENGTH, source.size)
                    .body(SendBody::from_reader(&mut reader))?;
                let answer = self.run(request, left);
                let moved = match reader.ended() {
                    Ok(moved) => moved,
                    Err(failure) => return Ok(Err(failure)),
                };
                let answer = answer?;
                let is_whole = moved.bytes == source.size;
                if answer.status().is_success() && !is_whole {
                    let message = format!(
                        "The API answered with status {} before it had the file.",
                        answer.status().as_u16()
                    );
                    return Ok(Err(Failure::new(Kind::BackendUnreachable, message)
                        .hint("Whether the API has acted on the request is not known; it does not have the file.")));
                }
                sent = is_whole.then(|| (source.name.clone(), moved));
                answer
            }
        };
        let content_type = answer.headers().get(CONTENT_TYPE).map(text);
        let part = match self.part(&mut answer, content_type.as_deref(), call) {
            Ok(part) => part,
            Err(NotSaved::Here(failure)) => return Ok(Err(failure)),
            Err(NotSaved::There(error)) => return Err(error.into()),
        };
        let Part {
            length,
            body,
            truncated,
            not_found,
            next_link,
            saved,
        } = part;
        let file = saved
            .and_then(|saved| Some((call.save_to.as_ref()?.name.clone(), saved)))
            .or(sent);
        let (data, image) = present(body, content_type.as_deref(), truncated.is_some());
        let is_page = answer.status().is_success();
        let next = is_page
            .then(|| self.next_page(next_link, answer.headers(), &call.target))
            .flatten();
        let (status, headers) = (answer.status().as_u16(), handed_on(answer.headers()));
        let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = Challenge::of_backend(challenges.filter_map(|value| value.to_str().ok()));
        let endpoint = call.target.as_str().to_owned();
        let retry_after = answer
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, SystemTime::now()));
        Ok(Ok(Reply {
            status,
            endpoint,
            content_type,
            challenge,
            headers,
            data,
            retry_after,
            image,
            truncated,
            length,
            not_found,
            next,
            file,
        }))
    }

    /// Sends the request; where there is so much time `left` for it, on a new connection: the others that idle may
    /// be as stale as one that has failed.
    fn run<B: AsSendBody>(
        &self,
        request: Request<B>,
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

    /// As much of the body as is handed on, or of what is selected of it, unless a file is made of it.
    fn part(
        &self,
        answer: &mut Response<Body>,
        content_type: Option<&str>,
        call: &Call<'_>,
    ) -> Result<Part, NotSaved> {
        // 204 and 205 have no content (RFC 9110 §15.3.5).
        let has_content =
            answer.status().is_success() && !matches!(answer.status().as_u16(), 204 | 205);
        if let Some(destination) = call.save_to.as_ref().filter(|_| has_content) {
            let declared = answer.body().content_length();
            let reader = answer.body_mut().with_config().limit(u64::MAX).reader();
            let saved = destination.save(reader, declared, call.watch)?;
            return Ok(Part {
                length: saved.bytes,
                body: Ok(String::new()),
                truncated: None,
                not_found: Vec::new(),
                next_link: None,
                saved: Some(saved),
            });
        }
        let is_success = answer.status().is_success();
        let is_json = is_success
            && media_type::is_json(&media_type::essence(content_type.unwrap_or_default()));
        let selection = call.select.filter(|_| is_success);
        let most = self.max_response_bytes;
        let read_most = if is_json && selection.is_some() {
            most.saturating_mul(SELECTED_FROM)
        } else {
            most
        };
        let (bytes, truncated) = read(answer, read_most).map_err(NotSaved::There)?;
        let length = truncated.unwrap_or(bytes.len() as u64);
        let body = String::from_utf8(bytes);
        let text = body
            .as_ref()
            .ok()
            .filter(|_| is_json && truncated.is_none());
        let is_worth_it = |text: &&String| selection.is_some() || text.contains(NEXT_LINK);
        let json = text
            .filter(is_worth_it)
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let next_link = json.and_then(|json| json_pointer::member(json, NEXT_LINK));
        let next_link = next_link.and_then(|link| serde_json::from_str(link.get()).ok());
        let (body, truncated, not_found) = match (selection, json) {
            (Some(selection), Some(json)) => {
                let Selected {
                    parts,
                    length,
                    not_found,
                    ..
                } = selection.of(json, most);
                (
                    String::from_utf8(parts),
                    (length > most).then_some(length as u64),
                    not_found,
                )
            }
            // What is no JSON is handed on as it is, however much was read.
            (Some(selection), None) => {
                let (body, cut) = cut(body, most);
                (body, truncated.or(cut), selection.pointers())
            }
            (None, _) => (body, truncated, Vec::new()),
        };
        Ok(Part {
            length,
            body,
            truncated,
            not_found,
            next_link,
            saved: None,
        })
    }

    /// Where the body or a `Link` (RFC 8288 §3.2: relative to what was called) says that the next page is.
    fn next_page(
        &self,
        next_link: Option<String>,
        headers: &HeaderMap,
        called: &Target,
    ) -> Option<NextPage> {
        let fields = headers
            .get_all(LINK)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let link = next_link.or_else(|| link::next(fields).map(str::to_owned))?;
        let link = called.join(&link).ok().filter(|_| !link.is_empty())?;
        let target = self.base.target(link.as_str(), &[]);
        Some(target.map_or_else(
            |_| NextPage::Elsewhere(link.into()),
            |target| NextPage::Here(target.as_str().to_owned()),
        ))
    }
}

/// Refuses a request with a longer line in its head than can be sent.
///
/// # Errors
/// There is one.
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

/// `body` of `most` bytes at most, and its length when that was more.
fn cut(
    body: Result<String, FromUtf8Error>,
    most: usize,
) -> (Result<String, FromUtf8Error>, Option<u64>) {
    let mut bytes = body.map_or_else(FromUtf8Error::into_bytes, String::into_bytes);
    let length = bytes.len();
    bytes.truncate(most);
    (
        String::from_utf8(bytes),
        (length > most).then_some(length as u64),
    )
}

/// As much of the body as `most` bytes, and the length of the whole when that is more.
fn read(answer: &mut Response<Body>, most: usize) -> std::io::Result<(Vec<u8>, Option<u64>)> {
    let declared = answer.body().content_length();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut reader = answer.body_mut().with_config().limit(u64::MAX).reader();
    let expected = usize::try_from(declared.unwrap_or_default().min(limit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(expected + 1);
    reader.by_ref().take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() <= most {
        return Ok((bytes, None));
    }
    bytes.truncate(most);
    let counted = || {
        let mut rest = reader.take(MOST_COUNTED_BYTES);
        // What is handed on has come; the rest may break off.
        let _ = std::io::copy(&mut rest, &mut std::io::sink());
        limit + 1 + MOST_COUNTED_BYTES - rest.limit()
    };
    Ok((bytes, Some(declared.unwrap_or_else(counted))))
}

/// How long to wait before a call is made again that ended in `result`; `None` where it is not.
fn pause_before_retry(
    method: &str,
    result: &Result<Result<Reply, Failure>, ureq::Error>,
    pause: Duration,
) -> Option<Duration> {
    // RFC 9110 §9.2.2
    let is_idempotent = matches!(method, "GET" | "HEAD" | "PUT" | "DELETE");
    match result {
        Err(ureq::Error::Timeout(_)) => None,
        Err(error) if has_bad_certificate(error) => None,
        // An answer that cannot be understood will be no better the next time.
        Err(error) => {
            let is_broken_off = matches!(error, ureq::Error::Io(_));
            ((is_idempotent && is_broken_off) || was_not_sent(error)).then_some(pause)
        }
        Ok(Ok(Reply {
            status,
            retry_after,
            ..
        })) if is_idempotent => match status {
            429 => Some(retry_after.unwrap_or(THROTTLED)),
            502..=504 => Some(retry_after.unwrap_or(pause)),
            _ => None,
        },
        Ok(_) => None,
    }
}

/// Whether there was no connection to send the request on.
fn was_not_sent(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_) => true,
        ureq::Error::Timeout(phase) => matches!(phase, Timeout::Resolve | Timeout::Connect),
        ureq::Error::Io(io) if io.kind() == ErrorKind::ConnectionRefused => true,
        _ => is_unresolved(error) || has_bad_certificate(error),
    }
}

/// Whether the backend has shown a certificate that does not hold: before anything was sent.
fn has_bad_certificate(error: &ureq::Error) -> bool {
    let ureq::Error::Io(error) = error else {
        return false;
    };
    let error = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

fn unanswered(target: &Target, error: &ureq::Error) -> Failure {
    let acted = if was_not_sent(error) {
        "The request was not sent."
    } else {
        "Whether the API has acted on the request is not known."
    };
    Failure::new(
        Kind::BackendUnreachable,
        format!(
            "The API did not answer {}: {}",
            target.as_str(),
            explain(error)
        ),
    )
    .hint(acted)
}

/// The headers that a caller gets to see. Several of one name are one list (RFC 9110 §5.3).
fn handed_on(headers: &HeaderMap) -> Map<String, Value> {
    let is_handed_on = |name: &str| {
        HANDED_ON.contains(&name)
            || name.ends_with("request-id")
            || name.ends_with("correlation-id")
    };
    let names = headers.keys().filter(|name| is_handed_on(name.as_str()));
    let list = |name| {
        headers
            .get_all(name)
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join(", ")
    };
    names
        .map(|name| (name.to_string(), list(name).into()))
        .collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// JSON as JSON, byte for byte; text as text; anything else as Base64, and images as such, too.
fn present(
    body: Result<String, FromUtf8Error>,
    content_type: Option<&str>,
    truncated: bool,
) -> (String, Option<(String, String)>) {
    let media_type = media_type::essence(content_type.unwrap_or_default());
    let is_json = media_type::is_json(&media_type);
    let is_text = is_json || media_type.is_empty() || media_type::is_text(&media_type);
    let bytes = match body {
        Ok(text) if text.is_empty() => return ("null".to_owned(), None),
        Ok(json) if is_json && !truncated && serde_json::from_str::<&RawValue>(&json).is_ok() => {
            return (json, None);
        }
        Ok(text) if is_text => return (Value::from(text).to_string(), None),
        Ok(text) => text.into_bytes(),
        // A cut may fall into the middle of a character.
        Err(error) if is_text && truncated && error.utf8_error().error_len().is_none() => {
            let whole = error
                .as_bytes()
                .get(..error.utf8_error().valid_up_to())
                .unwrap_or_default();
            return (
                Value::from(String::from_utf8_lossy(whole)).to_string(),
                None,
            );
        }
        Err(error) => error.into_bytes(),
    };
    let base64 = BASE64_STANDARD.encode(&bytes);
    let data = format!(
        r#"{{"base64":"{base64}","content_type":{},"size":{}}}"#,
        json!(content_type),
        bytes.len()
    );
    (
        data,
        (media_type.starts_with("image/") && !truncated).then_some((media_type, base64)),
    )
}
