//! The answer of the API: how much of it is read, and what of it is handed on.

use std::io::{self, Read as _};
use std::string::FromUtf8Error;
use std::time::{Duration, SystemTime};

use base64::prelude::*;
use serde_json::{Map, Value, json, value::RawValue};
use ureq::Body;
use ureq::http::header::{CONTENT_TYPE, LINK, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, HeaderValue, Response};

use super::endpoint::{Base, Target};
use super::files::{Destination, Moved, NotSaved, Watch};
use super::link;
use super::select::Selection;
use crate::auth::challenge::Challenge;
use crate::error::Kind;
use crate::json_pointer;
use crate::media_type;
use crate::outgoing::retry_after;

/// What a redirect is called in `error`.
pub(crate) const REDIRECT: &str = "redirect";
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

/// What came back, and what of it is handed on.
pub(crate) struct Answer {
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

impl Answer {
    /// What it is called in `error`, where it is one.
    pub(crate) fn error_code(&self) -> Option<&'static str> {
        match self.status {
            ..300 | 304 => None,
            300..400 => Some(REDIRECT),
            // The API's answer stands, but it is for the settings to mend.
            400.. if self.missing_scopes().is_some() => Some(Kind::Configuration.code()),
            400.. => Some("http_error"),
        }
    }

    /// The scopes that the API misses in the token (RFC 6750 §3.1), when it refuses the call for that; it need not
    /// name them.
    pub(crate) fn missing_scopes(&self) -> Option<&[String]> {
        match (self.status, &self.challenge) {
            (403, Some(Challenge::InsufficientScope(scopes))) => Some(scopes),
            _ => None,
        }
    }

    /// What the API calls the request by, where it says so.
    pub(crate) fn correlation_id(&self) -> Option<String> {
        let named = |end: &str| {
            let mut headers = self.headers.iter();
            headers.find(|(name, _)| name.ends_with(end))
        };
        let (_, id) = named("correlation-id").or_else(|| named("request-id"))?;
        id.as_str().map(str::to_owned)
    }
}

/// What the caller wants of a successful answer.
pub(crate) struct Wanted<'a> {
    /// Parts of it, when it is JSON.
    pub(crate) select: Option<Selection>,
    /// The file to be made of it, instead of handing it on.
    pub(crate) save_to: Option<Destination<'a>>,
}

/// How an answer is read.
pub(crate) struct Reading<'a> {
    pub(crate) base: &'a Base,
    /// What was called.
    pub(crate) called: &'a Target,
    pub(crate) wanted: &'a Wanted<'a>,
    /// Watches over a file that is made.
    pub(crate) watch: Watch<'a>,
    /// How much is handed on.
    pub(crate) max_bytes: usize,
}

impl Reading<'_> {
    /// Reads `response` to its end, or as far as it counts.
    ///
    /// # Errors
    /// It breaks off, or the file cannot be made.
    pub(crate) fn answer(&self, mut response: Response<Body>) -> Result<Answer, NotSaved> {
        let content_type = response.headers().get(CONTENT_TYPE).map(text);
        let part = self.part(&mut response, content_type.as_deref())?;
        let headers = response.headers();
        let is_page = response.status().is_success();
        let next = if is_page {
            self.next_page(part.next_link, headers)
        } else {
            None
        };
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenge = Challenge::of_backend(challenges.filter_map(|value| value.to_str().ok()));
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, SystemTime::now()));
        let is_cut = part.truncated.is_some();
        let (data, image) = present(part.body, content_type.as_deref(), is_cut);
        Ok(Answer {
            status: response.status().as_u16(),
            endpoint: self.called.as_str().to_owned(),
            challenge,
            headers: known(headers),
            data,
            retry_after,
            image,
            truncated: part.truncated,
            length: part.length,
            not_found: part.not_found,
            next,
            file: part.saved,
            content_type,
        })
    }

    fn part(
        &self,
        response: &mut Response<Body>,
        content_type: Option<&str>,
    ) -> Result<Part, NotSaved> {
        let is_success = response.status().is_success();
        // 204 and 205 have no content (RFC 9110 §15.3.5).
        let has_content = is_success && !matches!(response.status().as_u16(), 204 | 205);
        match &self.wanted.save_to {
            Some(destination) if has_content => self.saved(response, destination),
            _ => self
                .handed_on(response, content_type, is_success)
                .map_err(NotSaved::There),
        }
    }

    fn saved(
        &self,
        response: &mut Response<Body>,
        destination: &Destination<'_>,
    ) -> Result<Part, NotSaved> {
        let declared = response.body().content_length();
        let reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let moved = destination.save(reader, declared, self.watch)?;
        Ok(Part {
            length: moved.bytes,
            body: Ok(String::new()),
            truncated: None,
            not_found: Vec::new(),
            next_link: None,
            saved: Some((destination.name.clone(), moved)),
        })
    }

    /// As much of the body as is handed on, or of what is selected of it.
    fn handed_on(
        &self,
        response: &mut Response<Body>,
        content_type: Option<&str>,
        is_success: bool,
    ) -> io::Result<Part> {
        let is_json = is_success
            && media_type::is_json(&media_type::essence(content_type.unwrap_or_default()));
        let selection = self.wanted.select.as_ref().filter(|_| is_success);
        let most = self.max_bytes;
        let read_most = if is_json && selection.is_some() {
            most.saturating_mul(SELECTED_FROM)
        } else {
            most
        };
        let (bytes, truncated) = read(response, read_most)?;
        let mut part = Part {
            length: truncated.unwrap_or(bytes.len() as u64),
            body: String::from_utf8(bytes),
            truncated,
            not_found: Vec::new(),
            next_link: None,
            saved: None,
        };
        let is_whole_json = is_json && truncated.is_none();
        let text = part.body.as_ref().ok().filter(|_| is_whole_json);
        let is_worth_it = |text: &&String| selection.is_some() || text.contains(NEXT_LINK);
        let json = text
            .filter(is_worth_it)
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let next_link = json
            .and_then(|json| json_pointer::member(json, NEXT_LINK))
            .and_then(|link| serde_json::from_str(link.get()).ok());
        match (selection, json) {
            (Some(selection), Some(json)) => {
                let selected = selection.of(json, most);
                part.body = String::from_utf8(selected.parts);
                part.truncated = (selected.length > most).then_some(selected.length as u64);
                part.not_found = selected.not_found;
            }
            // What is no JSON is handed on as it is, however much was read.
            (Some(selection), None) => {
                let (body, cut) = cut(part.body, most);
                part.body = body;
                part.truncated = truncated.or(cut);
                part.not_found = selection.pointers();
            }
            (None, _) => {}
        }
        part.next_link = next_link;
        Ok(part)
    }

    /// Where the body or a `Link` (RFC 8288 §3.2: relative to what was called) says that the next page is.
    fn next_page(&self, next_link: Option<String>, headers: &HeaderMap) -> Option<NextPage> {
        let fields = headers
            .get_all(LINK)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let link = next_link.or_else(|| link::next(fields).map(str::to_owned))?;
        let link = self.called.join(&link).ok().filter(|_| !link.is_empty())?;
        let target = self.base.target(link.as_str(), &[]);
        Some(target.map_or_else(
            |_| NextPage::Elsewhere(link.into()),
            |target| NextPage::Here(target.as_str().to_owned()),
        ))
    }
}

/// The body of an answer, or what is handed on of it.
struct Part {
    /// Of the whole body, as far as it was read.
    length: u64,
    /// Text, or bytes that are none.
    body: Result<String, FromUtf8Error>,
    truncated: Option<u64>,
    not_found: Vec<String>,
    next_link: Option<String>,
    /// The file that was made of it.
    saved: Option<(String, Moved)>,
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
fn read(response: &mut Response<Body>, most: usize) -> io::Result<(Vec<u8>, Option<u64>)> {
    let declared = response.body().content_length();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
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
        let _ = io::copy(&mut rest, &mut io::sink());
        limit + 1 + MOST_COUNTED_BYTES - rest.limit()
    };
    Ok((bytes, Some(declared.unwrap_or_else(counted))))
}

/// The headers that a caller gets to see. Several of one name are one list (RFC 9110 §5.3).
fn known(headers: &HeaderMap) -> Map<String, Value> {
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
