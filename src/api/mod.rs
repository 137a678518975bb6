//! One call of the API: what may be called, what is sent, and what the caller gets of the answer.
//!
//! First the whole call is checked: its endpoint must lie below the base URL ([`endpoint`]), the
//! settings must allow it ([`policy`], [`headers`], [`fixed_headers`]), and a file that it moves
//! must lie below `FILES_DIR` ([`files`]). Only then is the user's access token acquired and sent
//! ([`request`]). If the API does not accept the token, the call is repeated with a new one. If
//! only a sign-in can bring that, the call fails and says so.
//!
//! The answer is read as far as the caller gets it ([`answer`]). It is unpacked ([`coding`]),
//! turned into UTF-8 ([`charset`]), and freed of the token and other keys ([`tokens`]). The caller
//! may get selected parts ([`select`]), JSON that every parser accepts ([`json_text`]), and no more
//! than it wants ([`shortened`]). A link to the next page is looked for ([`link`], [`next_link`]).
//! A redirect to a download may be followed, without the token ([`downloads`]); any other is
//! reported ([`redirect`]).
//!
//! Every call leaves one line in the audit log.

pub(crate) mod answer;
mod charset;
mod coding;
pub mod downloads;
pub mod endpoint;
pub(crate) mod files;
pub mod fixed_headers;
pub mod headers;
mod json_text;
pub(crate) mod link;
mod next_link;
pub mod policy;
pub(crate) mod redirect;
pub(crate) mod request;
mod response_headers;
pub(crate) mod select;
mod shortened;
mod tokens;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::value::RawValue;
use ureq::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use self::answer::{Answer, Wanted};
use self::files::{Files, Watch};
use self::policy::{Form, Policy};
use self::request::{Backend, Caller, Content, Request};
use self::select::Selection;
use crate::audit::{Entry, Event};
use crate::auth::Auth;
use crate::auth::account::Account;
use crate::auth::challenge::Challenge;
use crate::error::{Failure, Kind};
use crate::json_object::json_in_string;
use crate::media_type;

/// The API of one server.
pub(crate) struct Api {
    backend: Option<Backend>,
    policy: Policy,
    files: Option<Files>,
    auth: Arc<Auth>,
}

/// A call as the caller asks for it, not checked yet.
pub(crate) struct Call<'a> {
    /// What the client calls itself.
    pub(crate) client: &'a str,
    pub(crate) method: &'a str,
    pub(crate) user_id: Option<&'a str>,
    pub(crate) endpoint: Cow<'a, str>,
    /// Added to the endpoint's query.
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) data: Option<Data<'a>>,
    /// The name of the file to be sent in place of `data`.
    pub(crate) body_file: Option<Cow<'a, str>>,
    /// The name of the file that the answer is saved to.
    pub(crate) save_to: Option<Cow<'a, str>>,
    pub(crate) select: Option<&'a RawValue>,
    /// How much of the answer the caller wants at most.
    pub(crate) max_bytes: Option<usize>,
    pub(crate) watch: Watch<'a>,
}

/// What is sent as a body.
pub(crate) enum Data<'a> {
    /// A value of the caller. The `Content-Type` says how it is sent.
    Given(&'a RawValue),
    /// Bytes, which are sent as they are.
    Bytes(Vec<u8>),
    /// Bytes with a file of `FILES_DIR` between them.
    AroundFile {
        before: Vec<u8>,
        file: String,
        after: Vec<u8>,
    },
}

/// A call that the API has answered.
pub(crate) struct Called {
    pub(crate) answer: Answer,
    /// The media type of the file that was sent, if one was.
    pub(crate) sent_as: Option<String>,
}

impl Api {
    /// `backend`, called with the tokens of `auth` as far as `policy` allows it.
    pub(crate) fn new(
        backend: Option<Backend>,
        policy: Policy,
        files: Option<Files>,
        auth: Arc<Auth>,
    ) -> Self {
        Self {
            backend,
            policy,
            files,
            auth,
        }
    }

    /// Makes `call` and records it.
    ///
    /// # Errors
    /// A sign-in is due; the call is not allowed, or not one; the API cannot be reached, or a file
    /// not be moved; the audit log cannot be written.
    pub(crate) fn call(&self, call: &Call<'_>) -> Result<Called, Failure> {
        self.auth.audit.ready()?;
        let user_id = call.user_id.unwrap_or_default();
        let mut entry = Entry::new(Event::ApiCall, user_id, call.client);
        entry.method = call.method;
        // A bug must not keep the call off the record: the API may have had it.
        let exchange = AssertUnwindSafe(|| self.exchange(&mut entry, call));
        let result = catch_unwind(exchange).unwrap_or_else(|_| Err(bug()));
        match &result {
            Ok(Called { answer, .. }) => {
                entry.status = Some(answer.status);
                entry.bytes = Some(answer.length);
                entry.correlation_id = answer.correlation_id();
                entry.ended(answer.error_code().unwrap_or("ok"));
            }
            Err(failure) => entry.failed(Some(failure)),
        }
        let recorded = self.auth.audit.record(&entry);
        let called = result?;
        recorded.map(|()| called)
    }

    fn exchange(&self, entry: &mut Entry<'_>, call: &Call<'_>) -> Result<Called, Failure> {
        let backend = self.backend.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, "This server has no API to call: BACKEND_API_BASE_URL is not set.")
                .hint("Ask whoever runs it to set BACKEND_API_BASE_URL (and CUSTOM_API_SCOPE) and to start it again.")
        })?;
        let chosen = self.auth.choose(call.user_id);
        // Also what is refused is recorded with the account that it was meant for.
        if let Ok(chosen) = &chosen {
            chosen.user_id.clone_into(&mut entry.user_id);
        }
        // Everything is checked before a token is touched.
        let request = self.checked(backend, entry, call)?;
        let chosen = chosen?;
        let mut account = self.auth.acquire(&chosen, call.client)?;
        entry.account = Some(Arc::clone(&account));
        // Recording the refresh may have failed.
        self.auth.audit.ready()?;
        let mut answer = backend.send(&request, &self.caller(&account, &[]), 0)?;
        let mut used = Vec::new();
        // Twice, because the first new token may lack the claims: another call has fetched it, or
        // the API had not asked for them yet. Nothing is done about a missing scope (403): only the
        // settings say which scopes the user is asked for.
        for _ in 0..2 {
            if !answer.refuses_token() {
                break;
            }
            let claims = match &answer.challenge {
                Some(Challenge::Claims(claims)) => Some(claims),
                _ => None,
            };
            let renewed = self
                .auth
                .renew(&chosen.user_id, call.client, &account, claims)?;
            // The API's answer stands.
            let Some(renewed) = renewed else { break };
            used.push(account);
            account = renewed;
            // If the API has begun a session with this call, only the next one uses the new token.
            if answer.has_set_cookie || request.is_given_up() {
                break;
            }
            let caller = self.caller(&account, &used);
            answer = backend.send(&request, &caller, answer.unanswered_tries)?;
        }
        let sent_as = match request.body {
            Content::File(_) => content_type(&request.headers),
            Content::Nothing | Content::Bytes(_) => None,
        };
        Ok(Called { answer, sent_as })
    }

    fn caller<'a>(&self, account: &'a Account, earlier: &'a [Arc<Account>]) -> Caller<'a> {
        Caller {
            account,
            earlier,
            now: self.auth.now(),
        }
    }

    /// The request to be sent for `call`, if all of it is allowed.
    fn checked<'c>(
        &'c self,
        backend: &Backend,
        entry: &mut Entry<'_>,
        call: &'c Call<'_>,
    ) -> Result<Request<'c>, Failure> {
        let policy = &self.policy;
        entry.asked_for(&call.endpoint);
        policy.check_method(call.method)?;
        let target = backend.base.target(&call.endpoint, &call.parameters)?;
        target.path().clone_into(&mut entry.path);
        policy.check_path(backend.base.path(&target))?;
        if let Some(fixed) = &backend.fixed_headers {
            fixed.check(&call.headers)?;
        }
        let mut headers = policy.headers.checked(&call.headers)?;
        request::check_head(&target, &headers)?;
        let body = self.body(call, &mut headers)?;
        let save_to = match &call.save_to {
            Some(name) => {
                let files = self.files("save_to")?;
                not_both("save_to", "select", call.select.is_some())?;
                Some(files.destination(name)?)
            }
            None => None,
        };
        policy.check_overrides(target.query(), &headers, &form(&headers, &body))?;
        let select = call.select.map(Selection::parse).transpose()?;
        Ok(Request {
            method: call.method,
            target,
            headers,
            body,
            wanted: Wanted {
                max_bytes: call.max_bytes,
                select,
                save_to,
            },
            watch: call.watch,
        })
    }

    fn body<'c>(
        &self,
        call: &'c Call<'_>,
        headers: &mut HeaderMap,
    ) -> Result<Content<'c>, Failure> {
        if let Some(name) = &call.body_file {
            let files = self.files("body_file")?;
            not_both("body_file", "data", call.data.is_some())?;
            let source = files.source(name)?;
            headers
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/octet-stream"));
            return Ok(Content::File(source));
        }
        match &call.data {
            Some(Data::Given(data)) => encoded(data, headers).map(Content::Bytes),
            Some(Data::Bytes(bytes)) => Ok(Content::Bytes(bytes.as_slice().into())),
            Some(Data::AroundFile {
                before,
                file,
                after,
            }) => {
                let source = self.files("path")?.source(file)?;
                Ok(Content::File(source.within(before.clone(), after.clone())))
            }
            None => Ok(Content::Nothing),
        }
    }

    /// The files, for the argument `name` of a call.
    fn files(&self, name: &str) -> Result<&Files, Failure> {
        self.files.as_ref().ok_or_else(|| {
            let message = format!("{name} needs a directory for files: FILES_DIR is not set.");
            Failure::new(Kind::Configuration, message)
                .hint("Ask whoever runs this server to set FILES_DIR, or make the call without it.")
        })
    }
}

fn bug() -> Failure {
    Failure::new(
        Kind::Internal,
        "This call hit a bug of the server; its log says more.",
    )
    .hint("Whether the API has acted on it is not known.")
}

fn not_both(name: &str, other: &str, has_other: bool) -> Result<(), Failure> {
    if !has_other {
        return Ok(());
    }
    let message = format!("{name} and {other} cannot both be given.");
    Err(Failure::new(Kind::InvalidRequest, message).hint("Leave one of the two out."))
}

/// The bytes to be sent. If `Content-Type` is JSON, or missing, `data` is sent as it was written.
/// With another `Content-Type`, `data` must be a string, and its text is sent.
///
/// Some clients write JSON into a string. Such a string is replaced by the object or the array in
/// it, as no API wants the string.
fn encoded<'a>(data: &'a RawValue, headers: &mut HeaderMap) -> Result<Cow<'a, [u8]>, Failure> {
    let content_type = headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    let media_type = media_type::essence(content_type.to_str().unwrap_or_default());
    if media_type::is_json(&media_type) {
        return Ok(json_in_string(data).map_or_else(
            || data.get().as_bytes().into(),
            |text| text.into_bytes().into(),
        ));
    }
    let text: String = serde_json::from_str(data.get()).map_err(|_| {
        let message = format!("data must be a string to be sent as {media_type}.");
        Failure::new(Kind::InvalidRequest, message)
            .hint("Leave out Content-Type to send it as JSON.")
    })?;
    Ok(text.into_bytes().into())
}

/// The form that is in a body, by its media type.
fn form<'b>(headers: &HeaderMap, body: &'b Content<'_>) -> Form<'b> {
    let media_type = media_type::essence(&content_type(headers).unwrap_or_default());
    let is_multipart = match media_type.as_str() {
        "application/x-www-form-urlencoded" => false,
        "multipart/form-data" => true,
        _ => return Form::None,
    };
    match body {
        Content::Nothing => Form::None,
        Content::File(source) => match source.around() {
            Some(around) if is_multipart => Form::Multipart(around.into()),
            _ => Form::InFile,
        },
        Content::Bytes(bytes) if is_multipart => Form::Multipart(String::from_utf8_lossy(bytes)),
        Content::Bytes(bytes) => Form::UrlEncoded(String::from_utf8_lossy(bytes)),
    }
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}
