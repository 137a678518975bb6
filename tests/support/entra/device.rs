//! The device authorization grant (RFC 8628): its endpoint, its polls, and the page for the code.

use super::token::Grant;
use super::{
    Checked, DEVICE_CODE_MARK, Device, INVALID, Progress, Refusal, State, TokenFailure, claims_of,
    pages, scope_set,
};
use crate::support::http::{Reply, Request};
use crate::support::{Pairs, random_bytes, random_token, value_of};
use serde_json::{Value, json};

pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628 §6.1: no vowels, so no words.
/// No `T`, so that no code reads like the mark of a refresh token.
const LETTERS: &[u8; 19] = b"BCDFGHJKLMNPQRSVWXZ";
/// RFC 8628 §3.5, in milliseconds.
const SLOWER: i64 = 5000;

impl State {
    pub(super) fn devicecode(&mut self, tenant: &str, request: &Request) -> Reply {
        let params = request.form();
        self.device_requests.push(params.clone());
        let begun = self
            .check_form_request(tenant, request, &params)
            .and_then(|()| {
                let scope = scope_set(value_of(&params, "scope").unwrap_or_default());
                let message = "The scope 'openid' must be requested to sign a user in.";
                self.must(scope.contains("openid"), INVALID, 900_144, message)?;
                self.check_one_resource(&scope)
            });
        match begun {
            Ok(()) => Reply::of_json(200, &self.begin_device(tenant, &params, &request.origin)),
            Err(refusal) => refusal.to_reply(request),
        }
    }

    fn begin_device(&mut self, tenant: &str, params: &Pairs, origin: &str) -> Value {
        let letters =
            random_bytes::<8>().map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
        let [first, second] =
            [&letters[..4], &letters[4..]].map(|half| half.iter().collect::<String>());
        let (expires_in, interval) = (
            self.settings.device_expires_in,
            self.settings.device_interval,
        );
        let device = Device {
            user_code: format!("{first}-{second}"),
            secret: format!("{DEVICE_CODE_MARK}{}-{}", self.serial(), random_token()),
            tenant: tenant.to_owned(),
            scope: scope_set(value_of(params, "scope").unwrap_or_default()),
            claims: claims_of(params),
            polls: 0,
            redeemed: false,
            progress: Progress::Pending,
            expires: self.now() + expires_in,
            interval: interval * 1000,
            next_poll: 0,
        };
        let uri = format!("{origin}/device");
        let answer = json!({
            "user_code": device.user_code,
            "device_code": device.secret,
            "verification_uri": uri,
            "expires_in": self.number(expires_in),
            "interval": self.number(interval),
            "message": format!("To sign in, open {uri} in a browser and enter the code {}.", device.user_code),
        });
        self.devices.push(device);
        answer
    }

    /// Keeps count of a poll, and refuses one that comes too soon.
    pub(super) fn note_poll(&mut self, params: &Pairs) -> Checked {
        let now = self.now_in_milliseconds();
        let Some(device) = self.polled_device(params) else {
            return Ok(());
        };
        device.polls += 1;
        let in_time = now >= device.next_poll;
        let message = format!(
            "The device grant was polled {} ms too soon.",
            device.next_poll - now
        );
        if !in_time {
            device.interval += SLOWER;
        }
        device.next_poll = now + device.interval;
        self.must(in_time, "slow_down", 70016, message)
    }

    /// The client was told to slow down, or got no answer, and must poll less often from now on.
    pub(super) fn slow_down(&mut self, params: &Pairs, failure: &TokenFailure) {
        let now = self.now_in_milliseconds();
        let Some(device) = self.polled_device(params) else {
            return;
        };
        let mut pause = 0;
        match failure {
            TokenFailure::Oauth {
                error: "slow_down", ..
            } => device.interval += SLOWER,
            TokenFailure::Oauth {
                error: "server_error" | "temporarily_unavailable",
                ..
            } => device.interval *= 2,
            TokenFailure::Oauth { .. } => {}
            failure => {
                device.interval *= 2;
                if let TokenFailure::Status(_, Some(seconds)) = failure {
                    pause = i64::from(*seconds) * 1000;
                }
            }
        }
        device.next_poll = now + pause.max(device.interval);
    }

    fn polled_device(&mut self, params: &Pairs) -> Option<&mut Device> {
        let device_code = value_of(params, "device_code").unwrap_or_default();
        self.devices
            .iter_mut()
            .find(|device| device.secret == device_code)
    }

    pub(super) fn redeem_device(&mut self, tenant: &str, params: &Pairs) -> Result<Grant, Refusal> {
        let message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
        Refusal::unless(
            self.settings.device_code_allowed,
            "invalid_client",
            7_000_218,
            message,
        )?;
        let Some(device) = self.polled_device(params).cloned() else {
            let message = "The provided value for the input parameter 'device_code' is not valid.";
            return Err(Refusal::new("bad_verification_code", 70018, message));
        };
        let message =
            "The device code was issued for another tenant segment than it is redeemed at.";
        self.must(device.tenant == tenant, "invalid_grant", 700_005, message)?;
        self.must(
            !device.redeemed,
            "invalid_grant",
            54005,
            "The device code was already redeemed.",
        )?;
        let (error, aadsts) = if self.settings.says_code_expired {
            ("code_expired", 70019)
        } else {
            ("expired_token", 70020)
        };
        Refusal::unless(
            self.now() < device.expires,
            error,
            aadsts,
            "This device code has expired.",
        )?;
        match device.progress {
            Progress::Pending => {
                let message =
                    "OAuth 2.0 device flow error. Authorization is pending. Continue polling.";
                Err(Refusal::new("authorization_pending", 70016, message))
            }
            Progress::Declined => {
                let message = "User declined to consent to access the app.";
                Err(Refusal::new("authorization_declined", 65004, message))
            }
            Progress::Approved(user) => {
                self.polled_device(params).unwrap().redeemed = true;
                Ok(Grant {
                    user,
                    scope: device.scope,
                    nonce: None,
                    claims: device.claims,
                })
            }
        }
    }

    /// A person with the code, who is still in time.
    fn shown_device(&mut self, user_code: &str) -> Result<&mut Device, Refusal> {
        let (typed, now) = (user_code.trim().to_uppercase(), self.now());
        let mut devices = self.devices.iter_mut();
        devices
            .find(|device| device.user_code == typed && now < device.expires)
            .ok_or_else(|| {
                let message = "That code didn't work. Check the code and try again.";
                Refusal::new(INVALID, 70018, message)
            })
    }

    pub(super) fn approve_device(&mut self, user_code: &str, username: &str) -> Checked {
        let tenant = self.shown_device(user_code)?.tenant.clone();
        let user = self.settings.pick_user(&tenant, username)?;
        let device = self.shown_device(user_code)?;
        device.progress = Progress::Approved(user.clone());
        let scope = device.scope.clone();
        self.accept(&user, &scope);
        Ok(())
    }

    pub(super) fn decline_device(&mut self, user_code: &str) -> Checked {
        self.shown_device(user_code)?.progress = Progress::Declined;
        Ok(())
    }

    pub(super) fn expire_device(&mut self, user_code: &str) -> Checked {
        let now = self.now();
        self.shown_device(user_code)?.expires = now;
        Ok(())
    }

    /// What the person did on the page for the code.
    pub(super) fn answer_device(&mut self, request: &Request) -> Reply {
        let form = request.form();
        let value = |name| value_of(&form, name).unwrap_or_default();
        let done = match value_of(&form, "deny") {
            Some(_) => self.decline_device(value("user_code")),
            None => self
                .page_error()
                .and_then(|()| self.approve_device(value("user_code"), value("account"))),
        };
        match done {
            Ok(()) => Reply::of_html(200, pages::device_done()),
            Err(refusal) => refusal.to_page(request),
        }
    }
}
