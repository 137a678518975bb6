//! The tools that call the API: their arguments as a call.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::api_result;
use crate::api::files::{Files, Watch};
use crate::api::{Api, Call};
use crate::auth::Auth;
use crate::config::Config;
use crate::error::Failure;
use crate::mcp::jsonrpc::{Object, read};
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
    Ok(Api::new(
        config.backend.clone(),
        config.max_response_bytes,
        config.session_cookies.clone(),
        config.policy.clone(),
        files,
        auth,
    ))
}

/// Calls the API with `method` as `user_id`, for a client that calls itself `client`; gives the
/// members of the result.
///
/// # Errors
/// Those of [`Api::call`].
pub(super) fn call(
    api: &Api,
    client: &str,
    method: &str,
    user_id: Option<&str>,
    arguments: &Object<'_>,
    watch: Watch<'_>,
) -> Result<Pieces, Failure> {
    let call = Call {
        client,
        method,
        user_id,
        endpoint: arguments.text("endpoint").unwrap_or_default(),
        parameters: parameters(arguments),
        headers: arguments.read("headers").unwrap_or_default(),
        data: arguments.get("data"),
        body_file: arguments.text("body_file"),
        save_to: arguments.text("save_to"),
        select: arguments.get("select"),
        watch,
    };
    api.call(&call).map(api_result::of)
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
