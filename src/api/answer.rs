//! The API's answer: how much of it is read, and which parts the caller gets.

use std::io::{self, ErrorKind, Read};
use std::string::FromUtf8Error;
use std::time::{Duration, SystemTime};

use base64::prelude::*;
use serde_json::{Map, Value, json, value::RawValue};
use ureq::Body;
use ureq::http::header::{CONTENT_TYPE, LINK, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, HeaderValue, Response};

use super::charset::{BYTE_ORDER_MARK, Charset};
use super::coding::Codings;
use super::endpoint::{Base, Target};
use super::files::{Destination, Moved, NotSaved, Watch};
use super::json_text::Found;
use super::link;
use super::next_link::{self, NEXT_LINK};
use super::response_headers;
use super::select::Selection;
use super::tokens::Tokens;
use crate::auth::challenge::Challenge;
use crate::error;
use crate::json_pointer;
use crate::media_type;
use crate::outgoing::retry_after;

/// What a redirect is called in `error`.
pub(crate) const REDIRECT: &str = "redirect";
/// How far a body is read to learn its length, when it is longer than the caller gets.
const MOST_COUNTED_BYTES: u64 = 64 * 1024 * 1024;

/// How many times longer than the caller gets an answer may be for parts of it to be selected.
const SELECTED_FROM: usize = 16;
/// An answer, as the caller gets it.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The URL that was called.
    pub(crate) endpoint: String,
    /// The media type, with parameters.
    pub(crate) content_type: Option<String>,
    /// What the API demands of the next token.
    pub(crate) challenge: Option<Challenge>,
    /// Its headers, but for some.
    pub(crate) headers: Map<String, Value>,
    /// How many of them did not fit.
    pub(crate) headers_left_out: usize,
    /// The body as JSON, for the member `data` of the tool result.
    pub(crate) data: String,
    /// How long to wait before the next call (RFC 9110 §10.2.3).
    pub(crate) retry_after: Option<Duration>,
    /// An image: its media type and its bytes in Base64.
    pub(crate) image: Option<(String, String)>,
    /// When `data` was cut: the length of the whole body, or of all that was selected.
    pub(crate) truncated: Option<u64>,
    /// The length of the body, as far as it was read.
    pub(crate) length: u64,
    /// The pointers that select nothing.
    pub(crate) not_found: Vec<String>,
    /// Where the next page is.
    pub(crate) next: Option<NextPage>,
    /// The file that was sent, or that the body was saved to, by its name.
    pub(crate) file: Option<(String, Moved)>,
    /// Why the body is not whole. What the head says holds all the same.
    pub(crate) broken_off: Option<BrokenOff>,
    /// The content coding that could not be undone.
    pub(crate) packed: Option<String>,
    /// Whether a token was taken out of it.
    pub(crate) had_token: bool,
    /// Whether any part of it can be selected.
    pub(crate) can_select: bool,
}

/// Why a body could not be read to its end.
pub(crate) struct BrokenOff {
    pub(crate) reason: String,
    /// Whether another try may bring all of it.
    pub(crate) may_pass: bool,
}

impl BrokenOff {
    fn by(error: io::Error) -> Self {
        // What cannot be unpacked would be the same the next time.
        let is_malformed = matches!(
            error.kind(),
            ErrorKind::InvalidInput | ErrorKind::InvalidData
        );
        let error = ureq::Error::from(error);
        Self {
            may_pass: !is_malformed && matches!(error, ureq::Error::Io(_)),
            reason: error.to_string(),
        }
    }
}

/// Where the next page is.
pub(crate) enum NextPage {
    /// Below the base, so that it can be called.
    Here(String),
    /// Elsewhere, where the token is not sent.
    Elsewhere(String),
}

impl Answer {
    /// Whether the API has done what it was asked for.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.status, 200..300)
    }

    /// The code for the member `error` of the result; `None` for a success.
    pub(crate) fn error_code(&self) -> Option<&'static str> {
        match self.status {
            ..300 | 304 => None,
            300..400 => Some(REDIRECT),
            // The settings must be changed before this call can succeed.
            400.. if self.missing_scopes().is_some() => Some(error::Kind::Configuration.code()),
            400.. => Some("http_error"),
        }
    }

    /// The scopes that the token lacks, when the API refuses the call for that (RFC 6750 §3.1). The
    /// list is empty when the API does not name them.
    pub(crate) fn missing_scopes(&self) -> Option<&[String]> {
        match (self.status, &self.challenge) {
            (403, Some(Challenge::InsufficientScope(scopes))) => Some(scopes),
            _ => None,
        }
    }

    /// The API's own id of the request, if it sent one.
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
    /// Which parts of it, when it is JSON.
    pub(crate) select: Option<Selection>,
    /// The file that it is saved to; the caller then gets no `data`.
    pub(crate) save_to: Option<Destination<'a>>,
}

/// How an answer is read.
pub(crate) struct Reading<'a> {
    pub(crate) base: &'a Base,
    /// What was called.
    pub(crate) called: &'a Target,
    pub(crate) wanted: &'a Wanted<'a>,
    /// Watches a file being saved.
    pub(crate) watch: Watch<'a>,
    /// How much of a body the caller gets.
    pub(crate) max_bytes: usize,
    /// What the caller must not get.
    pub(crate) tokens: &'a Tokens<'a>,
}

impl Reading<'_> {
    /// Reads `response` as far as it is needed.
    ///
    /// # Errors
    /// The connection breaks, or the file cannot be written.
    pub(crate) fn answer(&self, mut response: Response<Body>) -> Result<Answer, NotSaved> {
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| self.text(value));
        let part = self.part(&mut response, content_type.as_deref())?;
        let headers = response.headers();
        let packed = Codings::of(headers)
            .unknown()
            .map(|name| self.tokens.taken_out_of(name.to_owned()));
        let is_page = response.status().is_success();
        let next = if is_page {
            self.next_page(part.next_link, headers)
        } else {
            None
        };
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges.filter(|value| value.to_str().is_ok());
        // Scopes and claims are shown.
        let challenges: Vec<_> = challenges.map(|value| self.text(value)).collect();
        let challenge = Challenge::of_backend(challenges.iter().map(String::as_str));
        let (handed_on, headers_left_out) =
            response_headers::handed_on(headers, |value| self.text(value));
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| retry_after::parse(value.to_str().ok()?, SystemTime::now()));
        let form = Form {
            content_type: content_type.as_deref(),
            kind: Kind::of(content_type.as_deref(), packed.is_some()),
            is_packed: packed.is_some(),
            is_fit: part.is_fit,
            is_cut: part.truncated.is_some() || part.broken_off.is_some(),
        };
        let (data, image) = present(part.body, &form);
        Ok(Answer {
            status: response.status().as_u16(),
            endpoint: self.called.as_str().to_owned(),
            challenge,
            headers: handed_on,
            headers_left_out,
            data,
            retry_after,
            image,
            truncated: part.truncated,
            can_select: part.can_select,
            length: part.length,
            not_found: part.not_found,
            next,
            file: part.saved,
            broken_off: part.broken_off,
            packed,
            content_type,
            had_token: self.tokens.has_removed(),
        })
    }

    fn part(
        &self,
        response: &mut Response<Body>,
        content_type: Option<&str>,
    ) -> Result<Part, NotSaved> {
        let is_success = response.status().is_success();
        // These have no content, whatever their headers say (RFC 9110 §15.3.5, §15.3.6, §15.4.5).
        if matches!(response.status().as_u16(), 204 | 205 | 304) {
            return Ok(self.empty());
        }
        match &self.wanted.save_to {
            Some(destination) if is_success => self.saved(response, destination),
            _ => Ok(self.handed_on(response, content_type, is_success)),
        }
    }

    fn empty(&self) -> Part {
        let selection = self.wanted.select.as_ref();
        Part {
            not_found: selection.map(Selection::pointers).unwrap_or_default(),
            ..Part::default()
        }
    }

    fn saved(
        &self,
        response: &mut Response<Body>,
        destination: &Destination<'_>,
    ) -> Result<Part, NotSaved> {
        let codings = Codings::of(response.headers());
        let declared = response.body().content_length();
        let declared = declared.filter(|_| codings.is_plain());
        let reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let reader = codings
            .unpacked(Box::new(reader))
            .map_err(NotSaved::There)?;
        let moved = destination.save(reader, declared, self.watch)?;
        Ok(Part {
            length: moved.bytes,
            saved: Some((destination.name.clone(), moved)),
            ..Part::default()
        })
    }

    /// The body, or the selected parts of it, cut to what the caller gets.
    fn handed_on(
        &self,
        response: &mut Response<Body>,
        content_type: Option<&str>,
        is_success: bool,
    ) -> Part {
        let codings = Codings::of(response.headers());
        let kind = Kind::of(content_type, codings.unknown().is_some());
        let is_json = kind == Kind::Json;
        let selection = self.wanted.select.as_ref().filter(|_| is_success);
        let most = self.max_bytes;
        let read_most = if is_json && selection.is_some() {
            most.saturating_mul(SELECTED_FROM)
        } else {
            most
        };
        let limits = Limits {
            most: read_most,
            // UTF-16 has two bytes for each of them.
            more: 2 + 2 * self.tokens.longest(),
            searched: (is_json && is_success).then(|| most.saturating_mul(SELECTED_FROM)),
        };
        let (bytes, ending, next_of_cut) = read(response, &codings, &limits);
        let length = bytes.len() as u64;
        let (bytes, end) = match kind {
            Kind::Other => (bytes, read_most),
            Kind::Json | Kind::Text => {
                let declared =
                    content_type.and_then(|value| media_type::parameter(value, "charset"));
                Charset::of(&bytes, declared, is_json).decoded(bytes, read_most)
            }
        };
        let decoded = bytes.len();
        // Before anything is cut: half a token could not be found.
        let bytes = self.tokens.taken_out(bytes, end.min(read_most));
        let (truncated, broken_off) = match ending {
            // In UTF-8 it may be longer than it was.
            Ending::Whole if decoded > read_most => (Some(decoded as u64), None),
            Ending::Whole => (None, None),
            Ending::Longer(length) => (Some(length), None),
            Ending::Broken(broken) => (None, Some(broken)),
        };
        let reach = most.saturating_mul(SELECTED_FROM) as u64;
        let is_in_reach = truncated.is_none_or(|length| length <= reach);
        let is_whole_json = is_json && truncated.is_none() && broken_off.is_none();
        let mut part = Part {
            length: truncated.unwrap_or(length),
            body: String::from_utf8(bytes),
            truncated,
            broken_off,
            can_select: is_json && is_success && is_in_reach,
            ..Part::default()
        };
        if is_whole_json && let Ok(text) = part.body {
            let found = Found::in_text(&text);
            part.body = Ok(found.mended(text));
            part.is_fit = found.is_fit;
        }
        part.next_link = next_of_cut;
        self.selected(part, selection, is_whole_json && is_success)
    }

    /// `part` with its next page, and no more of its body than was selected. Only the body of a
    /// success that `is_whole_json` has either.
    fn selected(&self, mut part: Part, selection: Option<&Selection>, is_whole_json: bool) -> Part {
        let most = self.max_bytes;
        let text = part.body.as_ref().ok();
        let text = text.filter(|_| is_whole_json);
        let is_worth_it = |text: &&String| selection.is_some() || text.contains(NEXT_LINK);
        let json = text
            .filter(is_worth_it)
            .and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
        let next_link = json
            .and_then(|json| json_pointer::member(json, NEXT_LINK))
            .and_then(|link| serde_json::from_str::<String>(link.get()).ok());
        match (selection, json) {
            (Some(selection), Some(json)) => {
                let selected = selection.of(json, most);
                part.body = String::from_utf8(selected.parts);
                // A part is less deep than the whole.
                part.is_fit = part.is_fit || is_fit(&part.body);
                part.truncated = (selected.length > most).then_some(selected.length as u64);
                part.not_found = selected.not_found;
            }
            // Nothing can be selected from it: the caller gets it as it is.
            (Some(selection), None) => {
                let (body, cut) = cut(part.body, most);
                part.body = body;
                part.truncated = part.truncated.or(cut);
                part.not_found = selection.pointers();
            }
            (None, _) => {}
        }
        part.next_link = next_link.or(part.next_link);
        part
    }

    /// The text of a header.
    fn text(&self, value: &HeaderValue) -> String {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.tokens.taken_out_of(text)
    }

    /// The next page, by the body or by a `Link` header (RFC 8288 §3.2: relative to the URL that
    /// was called).
    fn next_page(&self, next_link: Option<String>, headers: &HeaderMap) -> Option<NextPage> {
        let fields = headers
            .get_all(LINK)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let link = next_link.or_else(|| link::next(fields).map(str::to_owned))?;
        let link = self.called.join(&link).ok().filter(|_| !link.is_empty())?;
        let link = self.tokens.taken_out_of(link.into());
        let target = self.base.page(&link);
        Some(target.map_or_else(
            |_| NextPage::Elsewhere(link.clone()),
            |target| NextPage::Here(target.as_str().to_owned()),
        ))
    }
}

/// The body of an answer, as far as the caller gets it.
struct Part {
    /// The length of the whole body, as far as it was read.
    length: u64,
    /// Text, or bytes that are not UTF-8.
    body: Result<String, FromUtf8Error>,
    /// Whether it can be handed on as JSON, if it is JSON.
    is_fit: bool,
    can_select: bool,
    truncated: Option<u64>,
    broken_off: Option<BrokenOff>,
    not_found: Vec<String>,
    next_link: Option<String>,
    /// The file that it was saved to.
    saved: Option<(String, Moved)>,
}

impl Default for Part {
    fn default() -> Self {
        Self {
            length: 0,
            body: Ok(String::new()),
            is_fit: true,
            can_select: false,
            truncated: None,
            broken_off: None,
            not_found: Vec::new(),
            next_link: None,
            saved: None,
        }
    }
}

/// How reading a body ended.
enum Ending {
    Whole,
    /// The body goes on; so long is all of it.
    Longer(u64),
    Broken(BrokenOff),
}

fn is_fit(body: &Result<String, FromUtf8Error>) -> bool {
    body.as_ref().is_ok_and(|text| Found::in_text(text).is_fit)
}

/// The first `most` bytes of `body`, and its length when it was longer.
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

/// How far a body is read.
struct Limits {
    /// What may be handed on,
    most: usize,
    /// what is read beyond that, to find what stands across the border,
    more: usize,
    /// and how much of a longer JSON answer is searched for the next page.
    searched: Option<usize>,
}

/// The beginning of the body, unpacked, how it ended, and the next page if it is longer than may be
/// handed on.
fn read(
    response: &mut Response<Body>,
    codings: &Codings,
    limits: &Limits,
) -> (Vec<u8>, Ending, Option<String>) {
    let declared = response.body().content_length();
    let declared = declared.filter(|_| codings.is_plain());
    let limit = u64::try_from(limits.most.saturating_add(limits.more)).unwrap_or(u64::MAX);
    let expected = usize::try_from(declared.unwrap_or_default().min(limit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(expected + 1);
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut reader = match codings.unpacked(Box::new(reader)) {
        Ok(reader) => reader,
        Err(error) => return (bytes, Ending::Broken(BrokenOff::by(error)), None),
    };
    let read = reader.by_ref().take(limit).read_to_end(&mut bytes);
    if bytes.len() > limits.most {
        let mut rest = reader.take(MOST_COUNTED_BYTES);
        let searched = limits.searched.map(|searched| searched as u64);
        let next_link = searched.and_then(|searched| {
            // What not even `select` could reach is not read for this.
            let more = searched.saturating_sub(bytes.len() as u64);
            let is_in_reach = declared.is_none_or(|declared| declared <= searched);
            let more = rest.by_ref().take(if is_in_reach { more } else { 0 });
            let start = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
            next_link::in_stream(start.chain(more))
        });
        let counted = || {
            // The caller's part is complete; the rest is read only to be counted.
            let _ = io::copy(&mut rest, &mut io::sink());
            bytes.len() as u64 + MOST_COUNTED_BYTES - rest.limit()
        };
        let length = declared.unwrap_or_else(counted);
        return (bytes, Ending::Longer(length), next_link);
    }
    let ending = read.map_or_else(
        |error| Ending::Broken(BrokenOff::by(error)),
        |_| Ending::Whole,
    );
    (bytes, ending, None)
}

/// What a body is, by its header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Other,
}

impl Kind {
    /// Nothing can be made of one that is still packed.
    fn of(content_type: Option<&str>, is_packed: bool) -> Self {
        let content_type = content_type.unwrap_or_default();
        let media_type = media_type::essence(content_type);
        let is_medium = ["image/", "audio/", "video/", "font/"]
            .iter()
            .any(|start| media_type.starts_with(start));
        let has_charset = || media_type::parameter(content_type, "charset").is_some();
        if is_packed {
            Self::Other
        } else if media_type::is_called_json(&media_type) {
            Self::Json
        } else if media_type.is_empty()
            || media_type::is_text(&media_type)
            || (!is_medium && has_charset())
        {
            Self::Text
        } else {
            Self::Other
        }
    }
}

/// What is known of a body besides its bytes.
struct Form<'a> {
    content_type: Option<&'a str>,
    kind: Kind,
    /// In a content coding that could not be undone.
    is_packed: bool,
    /// Whether every parser takes it, if it is JSON.
    is_fit: bool,
    is_cut: bool,
}

/// The member `data`: JSON byte for byte, text as a string, anything else in Base64. An image is
/// returned as one, too.
fn present(
    body: Result<String, FromUtf8Error>,
    form: &Form<'_>,
) -> (String, Option<(String, String)>) {
    let media_type = media_type::essence(form.content_type.unwrap_or_default());
    let (is_json, is_text) = (form.kind == Kind::Json, form.kind != Kind::Other);
    let bytes = match body {
        Ok(text) if text.is_empty() => return ("null".to_owned(), None),
        Ok(json)
            if is_json
                && form.is_fit
                && !form.is_cut
                && serde_json::from_str::<&RawValue>(&json).is_ok() =>
        {
            return (json, None);
        }
        Ok(text) if is_text => return (Value::from(text).to_string(), None),
        Ok(text) => text.into_bytes(),
        // A cut may fall into the middle of a character.
        Err(error) if is_text && form.is_cut && error.utf8_error().error_len().is_none() => {
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
        json!(form.content_type),
        bytes.len()
    );
    (
        data,
        (media_type.starts_with("image/") && !form.is_cut && !form.is_packed)
            .then_some((media_type, base64)),
    )
}
