//! The API's answer: how much of it is read, and which parts the caller gets.

use std::io::{self, ErrorKind, Read};
use std::string::FromUtf8Error;
use std::time::{Duration, SystemTime};

use base64::prelude::*;
use memchr::memmem;
use serde_json::{Map, Value, json, value::RawValue};
use ureq::Body;
use ureq::http::header::{CONTENT_TYPE, LINK, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::charset::Charset;
use super::coding::Codings;
use super::endpoint::{Base, Target};
use super::files::{Destination, Moved, NotSaved, Watch};
use super::json_text::Found;
use super::link;
use super::next_link::{self, NEXT_LINK};
use super::redirect::Redirect;
use super::response_headers;
use super::select::Selection;
use super::shortened::{LeftOut, shortened};
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
    /// The host that was redirected to and has given this answer.
    pub(crate) downloaded_from: Option<String>,
    /// Where it leads, if it is a redirect that says so.
    pub(crate) redirect: Option<Redirect>,
    /// The host of a redirect that `DOWNLOAD_HOSTS` could allow.
    pub(crate) unlisted_host: Option<String>,
    /// The body as JSON, for the member `data` of the tool result.
    pub(crate) data: String,
    /// How long to wait before the next call (RFC 9110 §10.2.3).
    pub(crate) retry_after: Option<Duration>,
    /// An image: its media type and its bytes in Base64.
    pub(crate) image: Option<(String, String)>,
    /// If `data` was cut or shortened: the length of the whole body, or of all that was selected.
    pub(crate) truncated: Option<u64>,
    /// What `data` has lost, if it was shortened and is still JSON.
    pub(crate) left_out: Vec<Lost>,
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
    /// The names of the content codings, if they were not undone.
    pub(crate) packed: Option<String>,
    /// Whether a token, a key or a session cookie was taken out of it.
    pub(crate) had_token: bool,
    /// Whether it has set a session cookie.
    pub(crate) has_set_cookie: bool,
    /// Whether any part of it can be selected.
    pub(crate) can_select: bool,
    /// How many earlier tries of the call may have made the API act.
    pub(crate) unanswered_tries: usize,
}

/// How many elements an array has lost.
pub(crate) struct Lost {
    /// The array, as `select` names it.
    pub(crate) pointer: String,
    /// How many of its first elements are still there.
    pub(crate) kept: usize,
    pub(crate) count: usize,
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

    /// Whether the API wants another token.
    pub(crate) fn refuses_token(&self) -> bool {
        self.status == 401 && self.downloaded_from.is_none()
    }

    /// The code for the member `error` of the result; `None` for a success.
    pub(crate) fn error_code(&self) -> Option<&'static str> {
        match self.status {
            200..300 | 304 => None,
            300..400 => Some(REDIRECT),
            // The settings must be changed before this call can succeed.
            _ if self.missing_scopes().is_some() => Some(error::Kind::Configuration.code()),
            _ => Some("http_error"),
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
    /// How much of it, when that is less than the settings allow.
    pub(crate) max_bytes: Option<usize>,
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
    /// The host that the answer comes from, if that is not the API's.
    pub(crate) downloaded_from: Option<String>,
    /// The host of a redirect that `DOWNLOAD_HOSTS` could allow.
    pub(crate) unlisted_host: Option<String>,
    /// Watches a file being saved.
    pub(crate) watch: Watch<'a>,
    /// How much of a body the caller gets.
    pub(crate) max_bytes: usize,
    /// How long JSON may be if parts of it are to be selected.
    pub(crate) reach: usize,
    /// What the caller must not get.
    pub(crate) tokens: &'a Tokens<'a>,
    /// Whether the response has set a session cookie.
    pub(crate) has_set_cookie: bool,
}

impl Reading<'_> {
    /// Reads `response` as far as it is needed.
    ///
    /// # Errors
    /// The connection breaks, or the file cannot be written.
    pub(crate) fn answer(self, mut response: Response<Body>) -> Result<Answer, NotSaved> {
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.map(|value| self.text(value));
        let part = self.part(&mut response, content_type.as_deref())?;
        let headers = response.headers();
        let packed = Codings::of(headers)
            .unknown()
            .map(|name| self.tokens.taken_out_of(name.to_owned()));
        let is_download = self.downloaded_from.is_some();
        let is_page = response.status().is_success() && !is_download;
        let next = if is_page {
            self.next_page(part.next_link, headers)
        } else {
            None
        };
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges.filter(|value| value.to_str().is_ok());
        // The caller is shown their scopes and claims.
        let challenges: Vec<_> = challenges.map(|value| self.text(value)).collect();
        let challenges = challenges.iter().map(String::as_str);
        // The host of a download has no say in what the token must have.
        let challenge = if is_download {
            None
        } else {
            Challenge::of_backend(challenges)
        };
        let redirect = self.redirect(response.status(), headers);
        let has_sign_in = redirect.as_ref().is_some_and(|to| to.is_sign_in);
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
            is_cut: part.is_cut,
        };
        let (data, image) = present(part.body, &form);
        Ok(Answer {
            status: response.status().as_u16(),
            endpoint: self.called.as_str().to_owned(),
            challenge,
            headers: handed_on,
            headers_left_out,
            redirect,
            data,
            retry_after,
            image,
            truncated: part.truncated,
            left_out: part.left_out,
            can_select: part.can_select,
            unanswered_tries: 0,
            length: part.length,
            not_found: part.not_found,
            next,
            file: part.saved,
            broken_off: part.broken_off,
            packed,
            content_type,
            had_token: self.tokens.has_removed(),
            has_set_cookie: self.has_set_cookie,
            downloaded_from: self.downloaded_from,
            // A page for signing in is no download.
            unlisted_host: self.unlisted_host.filter(|_| !has_sign_in),
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
        // Of a packed body, the head says how long it is while it is packed.
        let declared = response.body().content_length();
        let declared = declared.filter(|_| codings.is_plain());
        let most = self.most_to_read(kind, declared);
        // In UTF-16, each character of a token has two bytes.
        let more = 2 + 2 * self.tokens.longest();
        let (bytes, ending) = read(response, &codings, declared, most, more);
        let length = bytes.len() as u64;
        let (bytes, end) = match kind {
            Kind::Other => (bytes, most),
            Kind::Json | Kind::Text => {
                let declared =
                    content_type.and_then(|value| media_type::parameter(value, "charset"));
                Charset::of(&bytes, declared, is_json).decoded(bytes, most)
            }
        };
        let decoded = bytes.len();
        // This comes before anything is cut, as half a token could not be found.
        let bytes = self.tokens.taken_out(bytes, end.min(most));
        let mut part = Part::default();
        match ending {
            // The text may have become longer when it was turned into UTF-8.
            Ending::Whole if decoded > most => part.truncated = Some(decoded as u64),
            Ending::Whole => {}
            Ending::Longer(length) => part.truncated = Some(length),
            Ending::Broken(broken) => part.broken_off = Some(broken),
        }
        part.length = part.truncated.unwrap_or(length);
        part.is_cut = part.truncated.is_some() || part.broken_off.is_some();
        let selection = self.wanted.select.as_ref().filter(|_| is_success);
        match String::from_utf8(bytes) {
            Ok(text) if is_json && !part.is_cut => self.of_json(part, text, selection, is_success),
            body => self.of_other(part, body, selection, is_json && is_success),
        }
    }

    /// How much is read of a body whose length may be `declared`. JSON is read further than the
    /// caller gets it, unless it is too long for parts of it to be selected.
    fn most_to_read(&self, kind: Kind, declared: Option<u64>) -> usize {
        let is_in_reach = declared.is_none_or(|declared| declared <= self.reach as u64);
        if kind == Kind::Json && is_in_reach {
            self.reach
        } else {
            self.max_bytes
        }
    }

    /// Completes `part` with what the caller gets of `text`, a whole body whose type is JSON.
    fn of_json(
        &self,
        mut part: Part,
        text: String,
        selection: Option<&Selection>,
        is_success: bool,
    ) -> Part {
        let found = Found::in_text(&text);
        let text = found.mended(text);
        part.is_fit = found.is_fit;
        part.can_select = is_success;
        let has_next = || memmem::find(text.as_bytes(), NEXT_LINK.as_bytes()).is_some();
        let is_worth_it = is_success && (selection.is_some() || has_next());
        let json: Option<&RawValue> = if is_worth_it {
            serde_json::from_str(&text).ok()
        } else {
            None
        };
        part.next_link = json
            .and_then(|json| json_pointer::member(json, NEXT_LINK))
            .and_then(|link| serde_json::from_str(link.get()).ok());
        let (Some(selection), Some(json)) = (selection, json) else {
            // Nothing can be selected from text that is not JSON: the caller gets it as it is.
            part.not_found = selection.map(Selection::pointers).unwrap_or_default();
            return self.fitted(part, text, None);
        };
        let selected = selection.of(json, self.reach);
        part.not_found = selected.not_found;
        match String::from_utf8(selected.parts) {
            Ok(text) if text.len() == selected.length => self.fitted(part, text, Some(selection)),
            body => {
                part.cut(body, self.max_bytes);
                part.truncated = Some(selected.length as u64);
                part
            }
        }
    }

    /// Completes `part` with as much of `json` as the caller gets.
    fn fitted(&self, mut part: Part, json: String, selection: Option<&Selection>) -> Part {
        let length = json.len();
        if length <= self.max_bytes {
            // A selected part has fewer levels than the whole, so it may fit where that does not.
            part.is_fit = part.is_fit || Found::in_text(&json).is_fit;
            part.body = Ok(json);
            return part;
        }
        part.truncated = Some(length as u64);
        let Some(shortened) = shortened(&json, self.max_bytes) else {
            part.cut(Ok(json), self.max_bytes);
            return part;
        };
        part.is_fit = part.is_fit || Found::in_text(&shortened.json).is_fit;
        part.body = Ok(shortened.json);
        let lost = shortened.left_out.iter();
        part.left_out = lost.map(|lost| Lost::of(lost, selection)).collect();
        part
    }

    /// Completes `part` with what the caller gets of a `body` that is not JSON, or not whole.
    fn of_other(
        &self,
        mut part: Part,
        body: Result<String, FromUtf8Error>,
        selection: Option<&Selection>,
        may_have_next: bool,
    ) -> Part {
        part.not_found = selection.map(Selection::pointers).unwrap_or_default();
        if may_have_next && part.truncated.is_some() {
            let start = body
                .as_ref()
                .map_or_else(FromUtf8Error::as_bytes, String::as_bytes);
            part.next_link = next_link::in_beginning(start);
        }
        part.cut(body, self.max_bytes);
        part
    }

    /// The text of a header, without tokens.
    fn text(&self, value: &HeaderValue) -> String {
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.tokens.taken_out_of(text)
    }

    /// Where an answer of this `status` leads.
    fn redirect(&self, status: StatusCode, headers: &HeaderMap) -> Option<Redirect> {
        if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
            return None;
        }
        let location = headers.get(LOCATION)?;
        let text = self.text(location);
        // A text with a marker, or with U+FFFD for what is not UTF-8, is not a URL. The location of
        // a download is relative to a URL that is not known here.
        let is_changed = text.as_bytes() != location.as_bytes();
        if is_changed || self.downloaded_from.is_some() {
            return Some(Redirect::unresolved(text));
        }
        let redirect = Redirect::new(self.called, text);
        // The parser of URLs drops tabs. A token that tabs have broken up is whole again only now.
        let target = self.tokens.taken_out_of(redirect.target);
        Some(Redirect { target, ..redirect })
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
    /// Whether that stops somewhere in the middle.
    is_cut: bool,
    /// Whether it is JSON that every parser accepts.
    is_fit: bool,
    can_select: bool,
    truncated: Option<u64>,
    left_out: Vec<Lost>,
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
            is_cut: false,
            is_fit: false,
            can_select: false,
            truncated: None,
            left_out: Vec::new(),
            broken_off: None,
            not_found: Vec::new(),
            next_link: None,
            saved: None,
        }
    }
}

impl Part {
    /// Takes the first `most` bytes of `body`.
    fn cut(&mut self, body: Result<String, FromUtf8Error>, most: usize) {
        let mut bytes = body.map_or_else(FromUtf8Error::into_bytes, String::into_bytes);
        if bytes.len() > most {
            self.truncated = self.truncated.or(Some(bytes.len() as u64));
            self.is_cut = true;
            bytes.truncate(most);
        }
        self.body = String::from_utf8(bytes);
    }
}

impl Lost {
    /// What an array of the parts that `selection` chose has lost.
    fn of(lost: &LeftOut, selection: Option<&Selection>) -> Self {
        let pointer = match selection {
            Some(selection) => selection.pointer_to(&lost.path),
            None => json_pointer::to_text(&lost.path),
        };
        Self {
            pointer,
            kept: lost.kept,
            count: lost.count,
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

/// Reads and unpacks the body: its first `most` bytes, and so many `more` that a token which begins
/// within `most` is found. Also returns how the body ended. `declared` is its length, if the head
/// says it.
fn read(
    response: &mut Response<Body>,
    codings: &Codings,
    declared: Option<u64>,
    most: usize,
    more: usize,
) -> (Vec<u8>, Ending) {
    let limit = most.saturating_add(more) as u64;
    let expected = usize::try_from(declared.unwrap_or_default().min(limit)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(expected + 1);
    let reader = response.body_mut().with_config().limit(u64::MAX).reader();
    let mut reader = match codings.unpacked(Box::new(reader)) {
        Ok(reader) => reader,
        Err(error) => return (bytes, Ending::Broken(BrokenOff::by(error))),
    };
    let read = reader.by_ref().take(limit).read_to_end(&mut bytes);
    if bytes.len() > most {
        let length = declared.unwrap_or_else(|| {
            // The caller gets nothing of the rest: it is only counted.
            let mut rest = reader.take(MOST_COUNTED_BYTES);
            let _ = io::copy(&mut rest, &mut io::sink());
            bytes.len() as u64 + MOST_COUNTED_BYTES - rest.limit()
        });
        return (bytes, Ending::Longer(length));
    }
    let ending = read.map_or_else(
        |error| Ending::Broken(BrokenOff::by(error)),
        |_| Ending::Whole,
    );
    (bytes, ending)
}

/// What a body is, by its header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Other,
}

impl Kind {
    /// What a body of this `Content-Type` is. One that is still packed cannot be read.
    fn of(content_type: Option<&str>, is_packed: bool) -> Self {
        if is_packed {
            return Self::Other;
        }
        let content_type = content_type.unwrap_or_default();
        let media_type = media_type::essence(content_type);
        if media_type::is_called_json(&media_type) {
            return Self::Json;
        }
        // What is not a media type says nothing, so the body may be text.
        if !media_type.contains('/') || media_type::is_text(&media_type) {
            return Self::Text;
        }
        let is_medium = ["image/", "audio/", "video/", "font/"]
            .iter()
            .any(|start| media_type.starts_with(start));
        if !is_medium && media_type::parameter(content_type, "charset").is_some() {
            return Self::Text;
        }
        Self::Other
    }
}

/// What is known of a body besides its bytes.
struct Form<'a> {
    content_type: Option<&'a str>,
    kind: Kind,
    /// Whether it has content codings that were not undone.
    is_packed: bool,
    /// Whether it is JSON that every parser takes.
    is_fit: bool,
    is_cut: bool,
}

/// The member `data`: JSON byte for byte, text as a string, anything else in Base64. Of a whole
/// image, also returns its media type and its bytes in Base64.
fn present(
    body: Result<String, FromUtf8Error>,
    form: &Form<'_>,
) -> (String, Option<(String, String)>) {
    let is_text = form.kind != Kind::Other;
    let bytes = match body {
        Ok(text) if text.is_empty() => return ("null".to_owned(), None),
        Ok(json) if form.kind == Kind::Json && form.is_fit && !form.is_cut => return (json, None),
        Ok(text) if is_text => return (Value::from(text).to_string(), None),
        Ok(text) => text.into_bytes(),
        Err(error) if is_text && form.is_cut && ends_within_character(&error) => {
            let end = error.utf8_error().valid_up_to();
            let whole = error.as_bytes().get(..end).unwrap_or_default();
            let text = String::from_utf8_lossy(whole);
            return (Value::from(text).to_string(), None);
        }
        Err(error) => error.into_bytes(),
    };
    let base64 = BASE64_STANDARD.encode(&bytes);
    let data = format!(
        r#"{{"base64":"{base64}","content_type":{},"size":{}}}"#,
        json!(form.content_type),
        bytes.len()
    );
    let media_type = media_type::essence(form.content_type.unwrap_or_default());
    let is_image = media_type.starts_with("image/") && !form.is_cut && !form.is_packed;
    (data, is_image.then_some((media_type, base64)))
}

/// Whether bytes are UTF-8 up to a character that is not complete, as a cut leaves it.
fn ends_within_character(error: &FromUtf8Error) -> bool {
    error.utf8_error().error_len().is_none()
}
