//! What the API tools do: one call of the backend, checked before a token is fetched, recorded, and made again where
//! the API wants another token.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use ureq::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::api_result;
use crate::api::files::{Files, Watch};
use crate::api::policy::Form;
use crate::api::request::{self as backend, Backend, Call, Content};
use crate::api::select::Selection;
use crate::audit::{Entry, Event};
use crate::auth::Auth;
use crate::auth::challenge::Challenge;
use crate::auth::token_file::Account;
use crate::config::Config;
use crate::error::{Failure, Kind};
use crate::mcp::jsonrpc::{Object, read};
use crate::media_type;
use crate::pieces::Pieces;

/// The API of one server.
pub(super) struct Api {
    config: Arc<Config>,
    sign_in: Arc<Auth>,
    backend: Option<Backend>,
    files: Option<Files>,
}

impl Api {
    /// The API of `config`, called with the tokens of `sign_in`.
    ///
    /// # Errors
    /// `FILES_DIR` cannot be used.
    pub(super) fn new(config: Arc<Config>, sign_in: Arc<Auth>) -> Result<Self, Failure> {
        let files = config.files_dir.as_ref();
        let files = files
            .map(|directory| Files::open(directory, config.max_file_bytes, &config.own_files()));
        let backend = config
            .backend
            .clone()
            .map(|base| Backend::new(base, config.max_response_bytes));
        Ok(Self {
            files: files.transpose()?,
            backend,
            config,
            sign_in,
        })
    }

    /// Whether calls may move files.
    pub(super) fn has_files(&self) -> bool {
        self.files.is_some()
    }

    /// The place that the argument `name` gives to a file, made of it by `open`.
    fn file<'f, T>(
        &'f self,
        arguments: &Object<'_>,
        name: &str,
        open: impl Fn(&'f Files, &str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(path) = arguments.text(name) else {
            return Ok(None);
        };
        let files = self.files.as_ref().ok_or_else(|| {
            Failure::new(
                Kind::Configuration,
                format!("{name} needs a directory for files: FILES_DIR is not set."),
            )
            .hint("Ask whoever runs this server to set FILES_DIR, or make the call without it.")
        })?;
        let other = ["data", "select"]
            .into_iter()
            .find(|other| arguments.get(other).is_some());
        match (name, other) {
            ("body_file", Some("data")) | ("save_to", Some("select")) => {
                let message = format!(
                    "{name} and {} cannot both be given.",
                    other.unwrap_or_default()
                );
                Err(Failure::new(Kind::InvalidRequest, message).hint("Leave one of the two out."))
            }
            _ => open(files, &path).map(Some),
        }
    }

    /// Calls the API with `method` as `user_id`, for a client that calls itself `client`; gives the members of the
    /// result.
    ///
    /// # Errors
    /// A sign-in is due; the call is not allowed, or not one; the API cannot be reached, or a file not be moved; the
    /// audit log cannot be written.
    pub(super) fn call(
        &self,
        client: &str,
        method: &str,
        user_id: Option<&str>,
        arguments: &Object<'_>,
        watch: Watch<'_>,
    ) -> Result<Pieces, Failure> {
        self.sign_in.audit.ready()?;
        let mut entry = Entry::new(Event::ApiCall, user_id.unwrap_or_default(), client);
        entry.method = method;
        let result = self.exchange(&mut entry, user_id, arguments, watch);
        match &result {
            Ok((reply, _)) => {
                (entry.status, entry.bytes) = (Some(reply.status), Some(reply.length));
                entry.correlation_id = api_result::correlation_id(reply);
                entry.ended(api_result::error_code(reply.status).unwrap_or("ok"));
            }
            Err(failure) => entry.failed(Some(failure)),
        }
        let recorded = self.sign_in.audit.record(&entry);
        let (reply, sent_as) = result?;
        recorded.map(|()| api_result::of(reply, sent_as.as_deref()))
    }

    /// The API's answer, and the media type of a file that was sent.
    fn exchange(
        &self,
        entry: &mut Entry<'_>,
        user_id: Option<&str>,
        arguments: &Object<'_>,
        watch: Watch<'_>,
    ) -> Result<(backend::Reply, Option<String>), Failure> {
        let method = entry.method;
        let backend = self.backend.as_ref().ok_or_else(|| {
            Failure::new(Kind::Configuration, "This server has no API to call: BACKEND_API_BASE_URL is not set.")
                .hint("Ask whoever runs it to set BACKEND_API_BASE_URL (and CUSTOM_API_SCOPE) and to start it again.")
        })?;
        // Everything is checked before a token is touched.
        self.config.policy.check_method(method)?;
        let endpoint = arguments.text("endpoint").unwrap_or_default();
        entry.asked_for(&endpoint);
        let target = backend.base.target(&endpoint, &parameters(arguments))?;
        target.path().clone_into(&mut entry.path);
        self.config.policy.check_path(backend.base.path(&target))?;
        let given = arguments.read("headers").unwrap_or_default();
        let mut headers = self.config.policy.headers.checked(&given)?;
        backend::check_head(&target, &headers)?;
        let data = arguments
            .get("data")
            .map(|data| request_body(data, &mut headers))
            .transpose()?;
        let source = self.file(arguments, "body_file", Files::source)?;
        let save_to = self.file(arguments, "save_to", Files::destination)?;
        let body = match (source, data) {
            (Some(source), _) => {
                let any = HeaderValue::from_static("application/octet-stream");
                headers.entry(CONTENT_TYPE).or_insert(any);
                Content::File(source)
            }
            (None, data) => data.map_or(Content::Nothing, Content::Bytes),
        };
        let sent_as = headers
            .get(CONTENT_TYPE)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let form = form(sent_as.as_deref(), &body);
        self.config
            .policy
            .check_overrides(target.query(), &headers, &form)?;
        let select = arguments.get("select").map(Selection::parse).transpose()?;
        let chosen = self.sign_in.choose(user_id)?;
        chosen.user_id.clone_into(&mut entry.user_id);
        let mut account = self.sign_in.acquire(&chosen, entry.client)?;
        entry.account = Some(Arc::clone(&account));
        // A refresh may just have been the first that could not be recorded.
        self.sign_in.audit.ready()?;
        let call = Call {
            method,
            target,
            headers,
            body,
            select: select.as_ref(),
            save_to,
            watch,
        };
        let mut reply = self.send(backend, &call, &account)?;
        let first = reply.challenge.clone();
        // Twice where the other token may be one without the claims: fetched by somebody else, or before the API
        // has asked for them.
        for _ in 0..2 {
            let may_renew = first.is_none() || reply.challenge == first;
            let Some(renewed) =
                self.renewed(&chosen.user_id, entry.client, &account, &reply, may_renew)?
            else {
                break;
            };
            account = renewed;
            if call.is_given_up() {
                break;
            }
            reply = self.send(backend, &call, &account)?;
        }
        Ok((
            reply,
            sent_as.filter(|_| matches!(call.body, Content::File(_))),
        ))
    }

    fn send(
        &self,
        backend: &Backend,
        call: &Call<'_>,
        account: &Account,
    ) -> Result<backend::Reply, Failure> {
        match &account.access_token {
            Some(token) => backend.send(call, token),
            None => Err(Failure::new(Kind::SignInRequired, "The sign-in has ended.")),
        }
    }

    /// The account with another token, for an API that does not take the one that it was sent; `None` where
    /// the API's answer stands.
    ///
    /// # Errors
    /// A sign-in is due, or Entra refuses what the API wants.
    fn renewed(
        &self,
        user_id: &str,
        client: &str,
        rejected: &Account,
        reply: &backend::Reply,
        may_renew: bool,
    ) -> Result<Option<Arc<Account>>, Failure> {
        let claims = match (reply.status, &reply.challenge) {
            (401, Some(Challenge::Claims(claims))) => Some(claims),
            (401, _) => None,
            (403, Some(Challenge::InsufficientScope(missing))) => {
                return Err(missing_scope(missing));
            }
            _ => return Ok(None),
        };
        self.sign_in
            .renew(user_id, client, rejected, claims, may_renew)
    }
}

fn missing_scope(missing: &[String]) -> Failure {
    let message = format!(
        "The API wants a permission that is missing: {}.",
        missing.join(", ")
    );
    Failure::new(Kind::Configuration, message)
}

/// JSON goes as it was written, with its own media type; a string with a given `Content-Type` as
/// its text.
fn request_body<'a>(data: &'a RawValue, headers: &mut HeaderMap) -> Result<Cow<'a, [u8]>, Failure> {
    let content_type = headers
        .entry(CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    let media_type = media_type::essence(content_type.to_str().unwrap_or_default());
    if media_type::is_json(&media_type) {
        return Ok(data.get().as_bytes().into());
    }
    read(data)
        .map(|text: String| text.into_bytes().into())
        .ok_or_else(|| {
            Failure::new(
                Kind::InvalidRequest,
                format!("data must be a string to be sent as {media_type}."),
            )
            .hint("Leave out Content-Type to send it as JSON.")
        })
}

/// The form that a body is, by its media type.
fn form<'b>(content_type: Option<&str>, body: &'b Content<'_>) -> Form<'b> {
    let media_type = media_type::essence(content_type.unwrap_or_default());
    let is_multipart = match media_type.as_str() {
        "application/x-www-form-urlencoded" => false,
        "multipart/form-data" => true,
        _ => return Form::None,
    };
    match body {
        Content::Nothing => Form::None,
        Content::File(_) => Form::InFile,
        Content::Bytes(bytes) if is_multipart => Form::Multipart(String::from_utf8_lossy(bytes)),
        Content::Bytes(bytes) => Form::UrlEncoded(String::from_utf8_lossy(bytes)),
    }
}

/// `params` as the pairs of a query; an array repeats its key.
fn parameters(arguments: &Object<'_>) -> Vec<(String, String)> {
    let params: Object<'_> = arguments.read("params").unwrap_or_default();
    let scalar = |raw: &RawValue| read(raw).unwrap_or_else(|| raw.get().to_owned());
    let pairs = params.0.into_iter().flat_map(|(name, value)| {
        let items = read(value).unwrap_or_else(|| vec![value]);
        items
            .into_iter()
            .map(move |item| (name.clone().into_owned(), scalar(item)))
    });
    pairs.collect()
}
