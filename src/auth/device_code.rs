//! The device code grant (RFC 8628): what is asked for, and what comes back. The flow is in
//! [`super::device_sign_in`].

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::authority::Application;
use super::challenge::{self, Claims};
use super::request::Requirements;
use crate::error::{Failure, Kind};
use crate::outgoing::is_loopback_host;
use crate::secret::{Secret, SecretJson};
use crate::sync::locked;

/// The fields of a form, in the order in which they are sent.
type Form<'a> = Vec<(&'static str, &'a str)>;

/// The `grant_type` of a poll (§3.4).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

const MOST_USER_CODE_CHARS: usize = 32;
/// In seconds; Entra's codes live for a quarter of an hour.
const LONGEST_LIFE: u64 = 3600;
/// In seconds (§3.2).
const DEFAULT_INTERVAL: u64 = 5;
const LONGEST_INTERVAL: u64 = 60;
/// By so many seconds `slow_down` lengthens the interval (§3.5).
const SLOWER_BY: u64 = 5;

/// Asks for a device code (§3.1).
pub fn request<'a>(application: &Application<'a>, claims: Option<&'a Claims>) -> Form<'a> {
    vec![
        ("client_id", application.client_id),
        ("scope", application.scopes.requested()),
        ("claims", challenge::parameter(claims)),
    ]
}

/// Asks whether the person has signed in by now (§3.4).
pub fn poll<'a>(
    application: &Application<'a>,
    device: &'a DeviceAuthorization,
    claims: Option<&'a Claims>,
) -> Form<'a> {
    vec![
        ("grant_type", GRANT_TYPE),
        ("client_id", application.client_id),
        ("device_code", device.device_code.expose()),
        ("claims", challenge::parameter(claims)),
    ]
}

/// A device authorization response (§3.2).
#[derive(Debug)]
pub struct DeviceAuthorization {
    /// What the person enters: letters, digits, hyphens and spaces.
    pub user_code: String,
    /// What we poll with.
    pub device_code: Secret,
    /// Where the person enters it.
    pub verification_uri: Url,
    /// Lifetime of both codes, in seconds from the response.
    pub expires_in: u64,
    /// How long to wait before each poll, in seconds.
    pub interval: u64,
}

impl DeviceAuthorization {
    /// Reads the body of a 200 answer. Numbers may arrive as strings, as in a token response.
    ///
    /// # Errors
    /// What is missing or not fit to be shown; the body itself is never quoted.
    pub fn parse(body: &[u8]) -> Result<Self, &'static str> {
        let body = SecretJson(serde_json::from_slice(body).map_err(|_| "it is not JSON")?);
        let text = |name| {
            body.get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let seconds = |name| {
            text(name).map_or_else(
                || body.get(name)?.as_u64(),
                |digits| digits.trim().parse().ok(),
            )
        };
        let user_code = text("user_code").ok_or("there is no user_code in it")?;
        if user_code.len() > MOST_USER_CODE_CHARS || !is_legible(user_code) {
            return Err("its user_code is not a short one of letters and digits");
        }
        let verification_uri = text("verification_uri").and_then(|uri| Url::parse(uri).ok());
        Ok(Self {
            user_code: user_code.to_owned(),
            device_code: Secret::new(
                text("device_code")
                    .ok_or("there is no device_code in it")?
                    .to_owned(),
            ),
            verification_uri: verification_uri
                .filter(is_safe)
                .ok_or("its verification_uri is no https address")?,
            expires_in: seconds("expires_in")
                .ok_or("its expires_in is not a number of seconds")?
                .min(LONGEST_LIFE),
            interval: seconds("interval")
                .unwrap_or(DEFAULT_INTERVAL)
                .clamp(1, LONGEST_INTERVAL),
        })
    }
}

/// The interval after a poll that ended in `error`, in seconds, where it was `interval` before;
/// `None` when there is nothing more to poll for (§3.5). The kind of the error then says why.
pub fn next_interval(error: &str, interval: u64) -> Option<u64> {
    match error {
        "authorization_pending" => Some(interval),
        "slow_down" => Some(interval.saturating_add(SLOWER_BY)),
        _ => None,
    }
}

/// The interval after a poll that could not be made, in seconds, where it was `interval` before
/// (§3.5).
pub fn less_often(interval: u64) -> u64 {
    interval
        .saturating_mul(2)
        .min(LONGEST_INTERVAL)
        .max(interval)
}

/// Whether people can read and type `code`.
fn is_legible(code: &str) -> bool {
    code.contains(|c: char| c.is_ascii_alphanumeric())
        && code
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | ' '))
}

/// Whether a person may be sent to `uri`.
fn is_safe(uri: &Url) -> bool {
    uri.scheme() == "https"
        || (uri.scheme() == "http" && uri.host_str().is_some_and(is_loopback_host))
}

/// The last device code that Entra has refused: the same is not asked for again for a while
/// (AADSTS50196).
#[derive(Default)]
pub(crate) struct DeviceRefusal(Mutex<Option<Refused>>);

struct Refused {
    /// In seconds since 1970. A clock that is set back ends it, too.
    during: Range<u64>,
    requirements: Requirements,
    failure: Failure,
}

impl DeviceRefusal {
    pub(super) fn note(
        &self,
        now: u64,
        pause: Duration,
        requirements: &Requirements,
        failure: &Failure,
    ) {
        *locked(&self.0) = Some(Refused {
            during: now..now + pause.as_secs(),
            requirements: without_person(requirements),
            failure: failure.clone(),
        });
    }

    /// Why no device code is asked for at `now` that must bring `requirements`.
    pub(super) fn failure(&self, now: u64, requirements: &Requirements) -> Option<Failure> {
        let refused = locked(&self.0);
        let refused = refused.as_ref()?;
        let is_same = refused.requirements == without_person(requirements)
            || refused.failure.kind == Kind::RetryLater;
        (refused.during.contains(&now) && is_same).then(|| refused.failure.clone())
    }
}

/// Entra gives device codes to anybody alike.
fn without_person(requirements: &Requirements) -> Requirements {
    Requirements {
        person: None,
        ..requirements.clone()
    }
}
