//! The tools that call the API: their arguments as a call.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::api_result;
use super::described::DescribedTool;
use super::listing::method_of;
use crate::api::files::{Files, Watch};
use crate::api::request::Backend;
use crate::api::{Api, Call, Data};
use crate::auth::Auth;
use crate::config::Config;
use crate::error::Failure;
use crate::mcp::jsonrpc::{Object, read};
use crate::openapi::PreparedBody;
use crate::pieces::Pieces;

/// The API of `config`, called with the tokens of `auth`.
///
/// # Errors
/// `FILES_DIR` cannot be used.
pub(super) fn open(config: &Config, auth: Arc<Auth>) -> Result<Api, Failure> {
    let files = match &config.files_dir {
        Some(directory) => {
            let files = Files::open(directory, config.max_file_bytes, &config.own_files());
            Some(files?)
        }
        None => None,
    };
    let backend = config.backend.clone().map(|base| {
        let fixed_headers = config.backend_headers.clone();
        let download_hosts = config.download_hosts.clone();
        Backend::new(
            base,
            fixed_headers,
            download_hosts,
            config.max_response_bytes,
            config.session_cookies.clone(),
        )
    });
    Ok(Api::new(backend, config.policy.clone(), files, auth))
}

/// For whom a call is made.
pub(super) struct Caller<'a> {
    /// What the client calls itself.
    pub(super) client: &'a str,
    pub(super) user_id: Option<&'a str>,
    pub(super) watch: Watch<'a>,
}

/// Calls the API for the generic tool `tool`; gives the members of the result.
///
/// # Errors
/// Those of [`Api::call`].
pub(super) fn call(
    api: &Api,
    tool: &str,
    caller: &Caller<'_>,
    arguments: &Object<'_>,
) -> Result<Pieces, Failure> {
    let method = method_of(tool).unwrap_or_default();
    let call = Call {
        client: caller.client,
        method: &method,
        user_id: caller.user_id,
        endpoint: arguments.text("endpoint").unwrap_or_default(),
        parameters: parameters(arguments),
        headers: arguments.read("headers").unwrap_or_default(),
        data: arguments.get("data").map(Data::Given),
        body_file: arguments.text("body_file"),
        save_to: arguments.text("save_to"),
        select: arguments.get("select"),
        max_bytes: max_bytes(arguments, "max_bytes"),
        watch: caller.watch,
    };
    api.call(&call).map(api_result::of)
}

/// Calls the operation of `tool`, as [`call`] would if the caller had written out what it means.
///
/// # Errors
/// Those of [`Api::call`]; an argument cannot be sent.
pub(super) fn call_operation(
    api: &Api,
    tool: &DescribedTool,
    caller: &Caller<'_>,
    arguments: &Object<'_>,
) -> Result<Pieces, Failure> {
    let operation = &tool.operation;
    let prepared = operation.prepare(&tool.body, arguments)?;
    let call = Call {
        client: caller.client,
        method: operation.method,
        user_id: caller.user_id,
        endpoint: prepared.endpoint.into(),
        parameters: Vec::new(),
        headers: prepared.headers,
        data: match prepared.body {
            PreparedBody::None => None,
            PreparedBody::Given(json) => Some(Data::Given(json)),
            PreparedBody::Bytes(bytes) => Some(Data::Bytes(bytes)),
            PreparedBody::AroundFile {
                before,
                file,
                after,
            } => Some(Data::AroundFile {
                before,
                file,
                after,
            }),
        },
        body_file: arguments.text(&tool.ours("body_file")),
        save_to: arguments.text(&tool.ours("save_to")),
        select: arguments.get(&tool.ours("select")),
        max_bytes: max_bytes(arguments, &tool.ours("max_bytes")),
        watch: caller.watch,
    };
    api.call(&call).map(api_result::of)
}

/// An integer may be written as `2048.0` or `2.048e3`.
fn max_bytes(arguments: &Object<'_>, name: &str) -> Option<usize> {
    let number: f64 = arguments.read(name)?;
    number.to_string().parse().ok()
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
