//! A sign-in as URL elicitation: the client shows the person where to sign in, and the same call
//! then goes through (MCP 2026-07-28 and 2025-11-25, "Elicitation").

use base64::prelude::*;
use ring::hmac;
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};

use super::jsonrpc::{INVALID_PARAMS, Object, RpcError, quoted, read};
use crate::error::Failure;
use crate::json_pointer::Text;
use crate::secret::Secret;

/// The call cannot be done before the person has been somewhere (2025-11-25, "URL Elicitation
/// Required Error").
const URL_ELICITATION_REQUIRED: i32 = -32042;
/// The key of our one input request.
const SIGN_IN: &str = "sign_in";

/// How a client asks a person to open the URL of a sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlElicitation {
    /// It does not: the model shows the link that stands in the result.
    Unsupported,
    /// The client opens what an error asks for, then repeats the call (2025-11-25).
    RequiredError,
    /// The client opens what the result asks for, then repeats the call with what came of it
    /// (2026-07-28).
    InputRequired,
}

/// What the person said to being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Goes there; not that they have finished.
    Accept,
    /// Does not want to.
    Decline,
    /// Has not decided.
    Cancel,
}

/// A call that was repeated after its sign-in was asked for.
pub(super) struct Returned {
    /// Names the sign-in.
    pub(super) handle: String,
    /// Who was to sign in.
    pub(super) user_id: String,
    /// Absent when the client has left out the response.
    pub(super) action: Option<Action>,
}

/// A person being asked to sign in.
pub(super) struct Elicitation<'a> {
    /// Names the sign-in.
    pub(super) handle: &'a str,
    /// Who is to sign in.
    pub(super) user_id: &'a str,
    /// Where.
    pub(super) url: &'a str,
    /// Why, for the person to read.
    pub(super) message: &'a str,
    /// Until when, in seconds since 1970.
    pub(super) expires_at: u64,
}

impl Elicitation<'_> {
    /// The parameters of the request. 2026-07-28 has no `elicitationId` any more, but Copilot CLI
    /// 1.0 does not show a request of that revision without one.
    fn params(&self) -> Value {
        json!({"mode": "url", "elicitationId": self.handle, "url": self.url, "message": self.message})
    }
}

/// `requestState` goes through the client, which may be anybody's: it is good only with our code,
/// for the same tool and arguments, until it expires (MCP 2026-07-28 mrtr, "Server Requirements").
pub(super) struct Seal(hmac::Key);

impl Seal {
    /// With a key that ends with this process, as the sign-ins do that it is for.
    ///
    /// # Errors
    /// No randomness.
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self(hmac::Key::new(
            hmac::HMAC_SHA256,
            Secret::random()?.expose().as_bytes(),
        )))
    }

    /// The members of a result that asks the person.
    pub(super) fn input_required(
        &self,
        asked: &Elicitation<'_>,
        tool: &str,
        arguments: &Object<'_>,
    ) -> String {
        let Elicitation {
            handle,
            user_id,
            expires_at,
            ..
        } = asked;
        let request = json!({"method": "elicitation/create", "params": asked.params()});
        let payload =
            BASE64_URL_SAFE_NO_PAD.encode(json!([handle, user_id, expires_at]).to_string());
        let code = hmac::sign(&self.0, &sealed(&payload, tool, arguments));
        let state = format!("{payload}.{}", BASE64_URL_SAFE_NO_PAD.encode(code));
        format!(
            r#""inputRequests":{{"{SIGN_IN}":{request}}},"requestState":{}"#,
            quoted(&state)
        )
    }

    /// What the `params` of a call of `tool` bring back; `None` for a first call. `now` is in
    /// seconds since 1970.
    ///
    /// # Errors
    /// State that is not ours, of another call, or expired; a response that is none.
    pub(super) fn open(
        &self,
        params: &Object<'_>,
        tool: &str,
        arguments: &Object<'_>,
        now: u64,
    ) -> Result<Option<Returned>, RpcError> {
        let invalid = |message: &str| RpcError::new(INVALID_PARAMS, message);
        if params.get("requestState").is_none() {
            return Ok(None);
        }
        let state: String = params
            .read("requestState")
            .ok_or_else(|| invalid("requestState must be a string."))?;
        let (handle, user_id) = self.verified(&state, tool, arguments, now).ok_or_else(|| {
            invalid("This requestState is not of this call, or has expired. Make the call again without it.")
        })?;
        let action = params
            .get("inputResponses")
            .map_or(Ok(None), |_| action(params));
        let action = action
            .map_err(|()| invalid("inputResponses must hold the result of an elicitation."))?;
        Ok(Some(Returned {
            handle,
            user_id,
            action,
        }))
    }

    fn verified(
        &self,
        state: &str,
        tool: &str,
        arguments: &Object<'_>,
        now: u64,
    ) -> Option<(String, String)> {
        let (payload, code) = state.split_once('.')?;
        let code = BASE64_URL_SAFE_NO_PAD.decode(code).ok()?;
        hmac::verify(&self.0, &sealed(payload, tool, arguments), &code).ok()?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
        let (handle, user_id, expires_at): (_, _, u64) = serde_json::from_slice(&payload).ok()?;
        (expires_at > now).then_some((handle, user_id))
    }
}

/// What the code is made over: neither white space nor the order of members matters.
fn sealed(payload: &str, tool: &str, arguments: &Object<'_>) -> Vec<u8> {
    let mut digest = Sha256::new_with_prefix(quoted(tool));
    digest_members(&mut digest, arguments);
    [payload.as_bytes(), b".", digest.finalize().as_slice()].concat()
}

/// The members of `object` in the order of their names.
fn digest_members(digest: &mut Sha256, object: &Object<'_>) {
    let mut members: Vec<_> = object.0.iter().collect();
    members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    digest.update("{");
    for (name, value) in members {
        digest.update(quoted(name));
        digest.update(":");
        digest_value(digest, value);
        digest.update(",");
    }
    digest.update("}");
}

/// `value`, the same for all that mean the same. Numbers stay as they were written: as a floating
/// point number, a long one would pass for its neighbour.
fn digest_value(digest: &mut Sha256, value: &RawValue) {
    let first = value.get().as_bytes().first();
    if first == Some(&b'{')
        && let Some(object) = read(value)
    {
        digest_members(digest, &object);
    } else if first == Some(&b'[')
        && let Some(items) = read::<Vec<&RawValue>>(value)
    {
        digest.update("[");
        for item in items {
            digest_value(digest, item);
            digest.update(",");
        }
        digest.update("]");
    } else if first == Some(&b'"')
        && let Some(Text(text)) = read(value)
    {
        digest.update(quoted(&text));
    } else {
        digest.update(value.get());
    }
}

/// The person's answer among `inputResponses`, where it is among them; anything else there is
/// ignored.
fn action(params: &Object<'_>) -> Result<Option<Action>, ()> {
    let responses: Object<'_> = params.read("inputResponses").ok_or(())?;
    if responses.get(SIGN_IN).is_none() {
        return Ok(None);
    }
    let response: Object<'_> = responses.read(SIGN_IN).ok_or(())?;
    match response.read::<String>("action").as_deref() {
        Some("accept") => Ok(Some(Action::Accept)),
        Some("decline") => Ok(Some(Action::Decline)),
        Some("cancel") => Ok(Some(Action::Cancel)),
        _ => Err(()),
    }
}

/// The error that asks the person.
pub(super) fn required(asked: &Elicitation<'_>) -> RpcError {
    let data = json!({"elicitations": [asked.params()]});
    RpcError {
        data: Some(data.to_string()),
        ..RpcError::new(URL_ELICITATION_REQUIRED, asked.message)
    }
}
