//! One authenticated call of the backend API. The token goes to the backend's origin, below its base
//! path, and nowhere else.

use std::borrow::Cow;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use ureq::{Agent, Body};
use url::Url;

use crate::entra::{agent_config, explain};
use crate::error::{Failure, Kind};
use crate::secret::Secret;

/// For one whole call: a slow API gets its time, a dead one does not hold the client for ever.
const TIMEOUT: Duration = Duration::from_secs(100);
/// Connections kept open for the next call.
const IDLE_CONNECTIONS: usize = 64;
/// A body that is longer than is handed on is counted up to so many bytes.
const MOST_COUNTED_BYTES: u64 = 64 * 1024 * 1024;

/// Request headers that a caller may set, beside those that begin with `x-`.
const ALLOWED: [&str; 7] =
    ["accept", "content-type", "if-match", "if-none-match", "prefer", "consistencylevel", "idempotency-key"];
/// Those that begin with `x-` and are refused all the same: they tell a server or a proxy another
/// client, host, path or method than the one that was checked here.
const REFUSED: [&str; 11] = [
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-",
    "x-rewrite-url",
    "x-host",
    "x-http-method",
    "x-method-override",
    "x-ms-client-principal",
    "x-ms-token",
];
/// Response headers that are handed on.
const HANDED_ON: [&str; 12] = [
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "link",
    "request-id",
    "x-request-id",
    "client-request-id",
    "x-correlation-id",
    "x-ms-request-id",
    "x-ms-correlation-request-id",
    "preference-applied",
];

/// A URL below the backend's base, fit to be sent the token.
#[derive(Debug)]
pub struct Target(Url);

/// A request header that was checked.
pub type Header = (HeaderName, HeaderValue);

/// The header that says that the body is JSON.
#[must_use]
pub fn json_content_type() -> Header {
    (HeaderName::from_static("content-type"), HeaderValue::from_static("application/json"))
}

/// What is to be sent.
pub struct Call<'a> {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// Where to.
    pub target: Target,
    /// Checked by [`headers`].
    pub headers: Vec<Header>,
    /// The body, as bytes.
    pub body: Option<Cow<'a, [u8]>>,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The URL that was called.
    pub endpoint: String,
    /// The media type, with parameters.
    pub content_type: Option<String>,
    /// Selected headers.
    pub headers: Map<String, Value>,
    /// As JSON: what the tool result has under `data`.
    pub data: String,
    /// An image: its media type and its bytes in Base64.
    pub image: Option<(String, String)>,
    /// The length of the whole body, when it was longer than what `data` has of it.
    pub truncated: Option<u64>,
}

/// The backend.
pub struct Backend {
    agent: Agent,
    base: Url,
    max_response_bytes: usize,
}

impl Backend {
    /// `base` ends in a slash.
    #[must_use]
    pub fn new(base: Url, max_response_bytes: usize) -> Self {
        let config = agent_config(&base)
            .timeout_global(Some(TIMEOUT))
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build();
        Self { agent: config.new_agent(), base, max_response_bytes }
    }

    /// The URL that `endpoint` (a path below the base, or an absolute URL under it) and `parameters`
    /// mean.
    ///
    /// # Errors
    /// Whatever would leave the base, or could be read by the backend as if it did.
    pub fn target(&self, endpoint: &str, parameters: &[(String, String)]) -> Result<Target, Failure> {
        let refuse = |reason: &str| {
            Failure::new(Kind::InvalidRequest, format!("The endpoint {endpoint:?} is refused: {reason}."))
                .hint(format!("Give a path below {}, or an absolute URL that begins with it.", self.base))
        };
        let text = self.confine(endpoint).map_err(refuse)?;
        let mut url = Url::parse(&text).map_err(|error| refuse(&error.to_string()))?;
        if !parameters.is_empty() {
            let mut query = url.query().map(|query| format!("{query}&")).unwrap_or_default();
            let encoded: String =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
            // A space as %20: not every backend takes a plus for one. A plus itself is %2B here.
            query.push_str(&encoded.replace('+', "%20"));
            url.set_query(Some(&query));
        }
        // Whatever the checks above missed: the URL that is called lies under the base.
        let is_below = url.origin() == self.base.origin()
            && url.path().starts_with(self.base.path())
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        if !is_below {
            return Err(refuse("it leads out of the base URL"));
        }
        ureq::http::Uri::try_from(url.as_str()).map_err(|error| refuse(&error.to_string()))?;
        Ok(Target(url))
    }

    /// The absolute URL as text, its every part checked as it was written.
    fn confine(&self, endpoint: &str) -> Result<String, &'static str> {
        if endpoint.chars().any(|c| c.is_control() || c == '\\' || c == '#') {
            return Err("it holds a control character, a backslash or a fragment");
        }
        let base = self.base.as_str();
        let below = if is_absolute(endpoint) {
            self.below_base(endpoint)?
        } else if endpoint.starts_with("//") {
            return Err("it begins with two slashes");
        } else {
            endpoint.strip_prefix('/').unwrap_or(endpoint)
        };
        let path = below.split('?').next().unwrap_or_default();
        if path.split('/').any(escapes) {
            return Err("it holds a segment that leads upwards, or an encoded control character");
        }
        Ok(format!("{base}{below}"))
    }

    /// What follows the base in an absolute URL.
    fn below_base<'e>(&self, endpoint: &'e str) -> Result<&'e str, &'static str> {
        const OUTSIDE: &str = "it does not lie under the base URL";
        let url = Url::parse(endpoint).map_err(|_| "it is not a URL")?;
        if url.origin() != self.base.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(OUTSIDE);
        }
        let rest = endpoint.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
        match path.strip_prefix(self.base.path()) {
            Some(below) => Ok(below),
            None if path == self.base.path().trim_end_matches('/') => Ok(""),
            None => Err(OUTSIDE),
        }
    }

    /// Sends `call` with the bearer token (RFC 6750 §2.1). Redirects are not followed.
    ///
    /// # Errors
    /// The backend cannot be reached, or does not finish its answer.
    pub fn send(&self, call: Call<'_>, access_token: &Secret) -> Result<Reply, Failure> {
        let endpoint = call.target.0.to_string();
        let unreachable = |error: &ureq::Error| {
            Failure::new(Kind::BackendUnreachable, format!("The API did not answer {endpoint}: {}", explain(error)))
                .hint("Whether the API has acted on the request is not known.")
        };
        let mut request = Request::builder().method(call.method).uri(call.target.0.as_str());
        request = request.header("authorization", format!("Bearer {}", access_token.expose()));
        if !call.headers.iter().any(|(name, _)| name == "accept") {
            request = request.header("accept", "application/json, */*;q=0.8");
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let answer = match &call.body {
            Some(body) => {
                request.body(body.as_ref()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request))
            }
            None => request.body(()).map_err(ureq::Error::from).and_then(|request| self.agent.run(request)),
        };
        let mut answer = answer.map_err(|error| unreachable(&error))?;
        let (bytes, truncated) = self.read(&mut answer).map_err(|error| unreachable(&error.into()))?;
        let content_type = text(answer.headers(), "content-type");
        let (data, image) = present(&bytes, content_type.as_deref(), truncated.is_some());
        let names =
            HANDED_ON.iter().filter_map(|name| Some(((*name).to_owned(), text(answer.headers(), name)?.into())));
        let headers = names.collect();
        Ok(Reply { status: answer.status().as_u16(), endpoint, content_type, headers, data, image, truncated })
    }

    /// As much of the body as is handed on, and the length of the whole when that is more.
    fn read(&self, answer: &mut Response<Body>) -> std::io::Result<(Vec<u8>, Option<u64>)> {
        let declared =
            answer.headers().get("content-encoding").is_none().then(|| answer.body().content_length()).flatten();
        let most = u64::try_from(self.max_response_bytes).unwrap_or(u64::MAX);
        let mut reader = answer.body_mut().with_config().limit(u64::MAX).reader();
        let mut bytes = Vec::new();
        reader.by_ref().take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() <= self.max_response_bytes {
            return Ok((bytes, None));
        }
        bytes.truncate(self.max_response_bytes);
        let total = match declared {
            Some(length) => length,
            None => most + 1 + std::io::copy(&mut reader.take(MOST_COUNTED_BYTES), &mut std::io::sink())?,
        };
        Ok((bytes, Some(total)))
    }
}

fn is_absolute(endpoint: &str) -> bool {
    endpoint
        .split_once("://")
        .is_some_and(|(scheme, _)| ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)))
}

/// Whether a segment could be read as `.` or `..`, however often a server decodes it, whichever
/// slash it takes for one, and with or without path parameters (RFC 3986 §3.3, §5.2.4).
fn escapes(segment: &str) -> bool {
    let mut decoded = segment.as_bytes().to_vec();
    loop {
        let is_upward = |part: &[u8]| matches!(part.split(|&byte| byte == b';').next(), Some(b"." | b".."));
        if decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(is_upward) || decoded.iter().any(u8::is_ascii_control)
        {
            return true;
        }
        let once_more: Vec<u8> = percent_encoding::percent_decode(&decoded).collect();
        if once_more == decoded {
            return false;
        }
        decoded = once_more;
    }
}

/// The caller's headers, when all of them are harmless.
///
/// # Errors
/// Which one is not.
pub fn headers<'a>(given: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> Result<Vec<Header>, Failure> {
    let mut headers: Vec<Header> = Vec::new();
    for (name, value) in given {
        let refuse = |reason: &str| {
            Failure::new(Kind::InvalidRequest, format!("The header {name:?} is refused: {reason}."))
                .hint(format!("Allowed are {} and X-… headers.", ALLOWED.join(", ")))
        };
        let lower = name.to_ascii_lowercase();
        let is_allowed = ALLOWED.contains(&lower.as_str())
            || (lower.starts_with("x-") && !REFUSED.iter().any(|refused| lower.starts_with(refused)));
        if !is_allowed {
            return Err(refuse("callers may not set it"));
        }
        let name = HeaderName::from_bytes(lower.as_bytes()).map_err(|_| refuse("it is not a header name"))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| refuse("its value holds characters that a header cannot carry"))?;
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(refuse("it is given twice"));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// JSON as JSON, byte for byte; text as text; anything else as Base64.
fn present(bytes: &[u8], content_type: Option<&str>, truncated: bool) -> (String, Option<(String, String)>) {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bytes.is_empty() {
        return ("null".to_owned(), None);
    }
    let is_json = media_type == "application/json" || media_type.ends_with("+json");
    if is_json
        && !truncated
        && let Ok(json) = serde_json::from_slice::<&RawValue>(bytes)
    {
        return (json.get().to_owned(), None);
    }
    let is_text = is_json || media_type.is_empty() || is_text(&media_type);
    // A cut may fall into the middle of a character.
    let readable = match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if truncated && error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
        }
        Err(_) => None,
    };
    if is_text && let Some(text) = readable {
        return (Value::from(text).to_string(), None);
    }
    let base64 = BASE64_STANDARD.encode(bytes);
    let image = (media_type.starts_with("image/") && !truncated).then(|| (media_type, base64.clone()));
    (json!({"base64": base64, "content_type": content_type, "size": bytes.len()}).to_string(), image)
}

fn is_text(media_type: &str) -> bool {
    let known = [
        "application/xml",
        "application/javascript",
        "application/yaml",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
    ];
    media_type.starts_with("text/") || media_type.ends_with("+xml") || known.contains(&media_type)
}
