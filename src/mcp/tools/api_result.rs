//! Results of calls of the API: its answer, and what to make of it.

use serde_json::json;

use super::result::{self as tool_result, Members};
use crate::api::request::{self as backend, NextPage};
use crate::pieces::Pieces;

const REDIRECT: &str = "redirect";
const NOT_FOLLOWED: &str = "The API answered with a redirect, which is not followed: the token goes below the base URL only.";

/// What an answer with this status is called in `error`, where it is one.
pub(super) fn error_code(status: u16) -> Option<&'static str> {
    match status {
        ..300 | 304 => None,
        300..400 => Some(REDIRECT),
        400.. => Some("http_error"),
    }
}

/// What the API calls the request by, where it says so.
pub(super) fn correlation_id(reply: &backend::Reply) -> Option<String> {
    let named = |end: &str| {
        reply
            .headers
            .iter()
            .find(|(name, _)| name.ends_with(end))
            .map(|(_, value)| value)
    };
    let id = named("correlation-id").or_else(|| named("request-id"))?;
    id.as_str().map(str::to_owned)
}

/// The members of the result of a call that the API has answered. `sent_as` is the media type of a file that was
/// sent.
pub(super) fn of(reply: backend::Reply, sent_as: Option<&str>) -> Pieces {
    let error = error_code(reply.status);
    let message = error.map(|error| match error {
        REDIRECT => NOT_FOLLOWED.to_owned(),
        _ => format!("The API answered with status {}.", reply.status),
    });
    let mut members = Members::new();
    members.add("success", Some(error.is_none()));
    members.add("status", Some(reply.status));
    members.add("endpoint", Some(&reply.endpoint));
    members.add("content_type", Some(&reply.content_type));
    members.add("truncated", Some(reply.truncated.is_some()));
    members.add("total_bytes", reply.truncated);
    members.add("error", error);
    members.add("message", message);
    members.add("hint", status_hint(reply.status).or(select_hint(&reply)));
    members.add(
        "not_found",
        Some(&reply.not_found).filter(|pointers| !pointers.is_empty()),
    );
    members.add(
        "retry_after_seconds",
        reply.retry_after.map(|wait| wait.as_secs()),
    );
    if let Some((path, moved)) = reply.file {
        let content_type = sent_as.or(reply.content_type.as_deref());
        let file = json!({"path": path, "bytes": moved.bytes, "sha256": moved.sha256, "content_type": content_type});
        members.add("file", Some(file));
    }
    match reply.next {
        Some(NextPage::Here(url)) => members.add("next", Some(url)),
        Some(NextPage::Elsewhere(url)) => members.add("next_outside_base", Some(url)),
        None => {}
    }
    members.add(
        "redirect_target",
        reply
            .headers
            .get("location")
            .filter(|_| error == Some(REDIRECT)),
    );
    members.add("headers", Some(&reply.headers));
    let members = members.into_json();
    let image = reply.image.as_ref();
    // The body stands last and as it came: it is not read into a tree. A picture speaks for itself.
    let text = image.map(|_| members.as_str());
    tool_result::content(text, &members, Some(reply.data), image, error.is_some())
}

fn select_hint(reply: &backend::Reply) -> Option<&'static str> {
    (!reply.not_found.is_empty()).then_some(
        "not_found names the pointers of select that found nothing; an answer that is not JSON, or is too long to be read \
         as a whole, is handed on as it is.",
    )
}

fn status_hint(status: u16) -> Option<&'static str> {
    match status {
        401 => Some(
            "The API does not accept the token: check that CUSTOM_API_SCOPE belongs to this API.",
        ),
        403 => Some(
            "The API knows the user and refuses: the account lacks a permission, or CUSTOM_API_SCOPE a scope.",
        ),
        429 | 503 => {
            Some("Wait for retry_after_seconds, or a minute where that is absent, then call again.")
        }
        _ => None,
    }
}
