//! Results of calls of the API: its answer, and what to make of it.

use serde_json::{Map, json};

use super::result::{self as tool_result, Members};
use crate::api::Called;
use crate::api::answer::{Answer, Lost, NextPage, REDIRECT};
use crate::api::redirect::Redirect;
use crate::pieces::Pieces;

const NOT_FOLLOWED: &str = "The API answered with a redirect, which is not followed: the token goes below the base URL only.";

const SIGN_IN_PAGE: &str = "The API sends the caller to a sign-in page, so it does not take the token: check that CUSTOM_API_SCOPE \
                            belongs to this API, and that the API takes bearer tokens. Whether the API has acted on a call that \
                            changes something is not known.";

const CUT: &str = "data was cut. The whole answer is still in reach: call again with select, a JSON Pointer such as \
                   /value/40 or a list of them.";

/// The members of the result of a call that the API has answered.
pub(super) fn of(called: Called) -> Pieces {
    let Called { answer, sent_as } = called;
    let error = answer.error_code();
    let mut members = Members::new();
    members.add("success", Some(error.is_none()));
    members.add("status", Some(answer.status));
    members.add("endpoint", Some(&answer.endpoint));
    members.add("downloaded_from", answer.downloaded_from.as_ref());
    members.add("content_type", Some(&answer.content_type));
    let is_cut = answer.truncated.is_some() || answer.broken_off.is_some();
    members.add("truncated", Some(is_cut));
    members.add("total_bytes", answer.truncated);
    let mut left_out = Map::new();
    for lost in &answer.left_out {
        left_out.insert(lost.pointer.clone(), lost.count.into());
    }
    members.add(
        "left_out",
        Some(left_out).filter(|left_out| !left_out.is_empty()),
    );
    members.add("error", error);
    members.add("message", error.map(|error| message(error, &answer)));
    members.add("hint", hint(&answer));
    members.add(
        "not_found",
        Some(&answer.not_found).filter(|pointers| !pointers.is_empty()),
    );
    members.add(
        "retry_after_seconds",
        answer.retry_after.map(|wait| wait.as_secs()),
    );
    if let Some((path, moved)) = answer.file {
        let content_type = sent_as.or(answer.content_type);
        let file = json!({"path": path, "bytes": moved.bytes, "sha256": moved.sha256, "content_type": content_type});
        members.add("file", Some(file));
    }
    match answer.next {
        Some(NextPage::Here(url)) => members.add("next", Some(url)),
        Some(NextPage::Elsewhere(url)) => members.add("next_outside_base", Some(url)),
        None => {}
    }
    members.add(
        "redirect_target",
        answer.redirect.as_ref().map(|redirect| &redirect.target),
    );
    members.add("headers", Some(&answer.headers));
    let members = members.into_json();
    let image = answer.image.as_ref();
    // The body stands last and as it came: it is not read into a tree. A picture speaks for itself.
    let text = image.map(|_| members.as_str());
    tool_result::content(text, &members, Some(answer.data), image, error.is_some())
}

fn message(error: &str, answer: &Answer) -> String {
    let status = answer.status;
    match answer.missing_scopes() {
        Some([]) => {
            format!("The API answered with status {status}: the token lacks a scope that it wants.")
        }
        Some(scopes) => format!(
            "The API answered with status {status}: the token lacks a scope that it wants: {}.",
            scopes.join(", ")
        ),
        None if error == REDIRECT => NOT_FOLLOWED.to_owned(),
        None => match &answer.downloaded_from {
            Some(host) => format!("The download from {host} was answered with status {status}."),
            None => format!("The API answered with status {status}."),
        },
    }
}

/// What to make of the answer, a sentence or two for each thing that is not as it should be.
fn hint(answer: &Answer) -> Option<String> {
    let mut hints = Vec::new();
    if let Some(broken) = &answer.broken_off {
        let acted = if answer.is_done() {
            "The API has done what it was asked for: do not repeat a call that changes something. "
        } else {
            ""
        };
        hints.push(format!(
            "{acted}Its answer broke off ({}); data has what came of it.",
            broken.reason
        ));
    }
    if answer.unanswered_tries > 0 && !answer.is_done() {
        hints.push(
            "The API did not answer an earlier try of this call: it may have acted on that one."
                .to_owned(),
        );
    }
    hints.extend(hint_of_truncated(answer));
    if let Some(coding) = &answer.packed {
        hints.push(format!(
            "The body is packed in a way that this server does not undo ({coding}): it is as it came."
        ));
    }
    if answer.had_token {
        hints.push(
            "The API has sent back a secret of this call, such as its access token; it was removed."
                .to_owned(),
        );
    }
    if answer.headers_left_out > 0 {
        hints.push(format!(
            "{} response headers were left out: together they are too long.",
            answer.headers_left_out
        ));
    }
    // Where a download leads is nothing that a tool can call.
    if let Some(redirect) = &answer.redirect
        && answer.downloaded_from.is_none()
    {
        hints.push(hint_of_redirect(redirect, answer.status).to_owned());
    }
    if let Some(host) = &answer.unlisted_host {
        hints.push(format!(
            "If it is a download, whoever runs this server can add {host} to DOWNLOAD_HOSTS: then it is followed, without \
             the token."
        ));
    }
    hints.extend(hint_of_status(answer).map(str::to_owned));
    (!hints.is_empty()).then(|| hints.join(" "))
}

/// How to get at what `data` does not have.
fn hint_of_truncated(answer: &Answer) -> Option<String> {
    answer.truncated?;
    let mut hint = match answer.left_out.iter().max_by_key(|lost| lost.kept) {
        Some(lost) => hint_of_lost(lost, answer.can_select),
        None if answer.can_select => CUT.to_owned(),
        None => return None,
    };
    if answer.next.is_some() {
        hint.push_str(" The next page is at next.");
    }
    Some(hint)
}

fn hint_of_lost(lost: &Lost, can_select: bool) -> String {
    let Lost { pointer, kept, .. } = lost;
    let of = if pointer.is_empty() {
        String::new()
    } else {
        format!(" of {pointer}")
    };
    let mut hint = format!(
        "data was shortened: it has the first {kept} elements{of}; left_out says how many it does not have."
    );
    if can_select {
        let others = format!(
            " Call again with select to get others, such as {pointer}/{kept} or a list of such pointers."
        );
        hint.push_str(&others);
    }
    hint
}

/// What to do about a redirect, by what its status says of the call (RFC 9110 §15.4).
fn hint_of_redirect(redirect: &Redirect, status: u16) -> &'static str {
    match status {
        _ if redirect.is_sign_in => SIGN_IN_PAGE,
        303 => {
            "The API has acted on the call: do not repeat one that changes something. What came of it is at \
             redirect_target; if that is below the base URL, get it from there."
        }
        307 | 308 => {
            "The API has not acted on the call. If redirect_target is below the base URL, call again with it as the \
             endpoint."
        }
        _ => {
            "If redirect_target is below the base URL, call again with it as the endpoint. Whether the API has acted \
             on a call that changes something is not known."
        }
    }
}

fn hint_of_status(answer: &Answer) -> Option<&'static str> {
    match answer.status {
        401 if answer.has_set_cookie => Some(
            "The API has set a session cookie, so the call was not made again by itself: call again if that is meant.",
        ),
        401 | 403 if answer.downloaded_from.is_some() => Some(
            "The host of the download refuses it. Such links expire: call again to get a new one.",
        ),
        401 => Some(
            "The API does not accept the token: check that CUSTOM_API_SCOPE belongs to this API.",
        ),
        403 if answer.missing_scopes().is_some() => Some(
            "CUSTOM_API_SCOPE says which scopes are asked for: whoever runs this server can add what is missing, and \
             the user then signs in again. A scope that stands there already was not granted to this user.",
        ),
        403 => Some(
            "The API knows the user and refuses: the account lacks a permission, or CUSTOM_API_SCOPE a scope.",
        ),
        502 | 504 if answer.downloaded_from.is_none() => Some(
            "A gateway answers in place of the API: whether the API has acted on a call that changes something is not known.",
        ),
        429 | 503 => {
            Some("Wait for retry_after_seconds, or a minute where that is absent, then call again.")
        }
        _ if answer.not_found.is_empty() => None,
        _ => Some(
            "not_found names the pointers of select that found nothing; an answer that is not JSON, or is too long to \
             be read as a whole, is handed on as it is.",
        ),
    }
}
