//! Signing in with a device code (RFC 8628): the person enters it in a browser on any device, while
//! we ask Entra now and then whether they have finished. It is off by default, because such codes
//! can be phished.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Auth;
use super::asked::PAUSE;
use super::device_code::{self, DeviceAuthorization, less_often, next_interval};
use super::pending::{Attempt, Method, Outcome};
use super::request::Requirements;
use super::sign_in::check_user_id;
use super::token_endpoint::Refusal;
use crate::audit::{Entry, Event, MOST_CHARS};
use crate::error::{Failure, Kind};
use crate::sync;

const PURPOSE: &str = "the sign-in with a device code";

impl Auth {
    /// A sign-in of `user_id` with a device code, which must bring `requirements`: one that still
    /// waits for the person, or a new one, on record as that of a client that calls itself
    /// `client`.
    ///
    /// # Errors
    /// A `user_id` that cannot be one; Entra gives no code, or has given none a moment ago.
    pub fn offer_device_code(
        self: &Arc<Self>,
        user_id: &str,
        requirements: Requirements,
        client: &str,
    ) -> Result<Arc<Attempt>, Failure> {
        check_user_id(user_id)?;
        if let Some(attempt) = self.pending.offered(user_id, &requirements, true) {
            return Ok(attempt);
        }
        if let Some(failure) = self.device_refusal.failure(self.now(), &requirements) {
            return Err(failure);
        }
        self.audit.ready()?;
        let device = self.ask_for_code(&requirements)?;
        let attempt = self
            .pending
            .begin_with_code(user_id, requirements, device)?;
        let this = Arc::clone(self);
        let polled = Arc::clone(&attempt);
        let client: String = client.chars().take(MOST_CHARS).collect();
        let poll = move || {
            if let Some(outcome) = this.poll(&polled) {
                let entry = Entry::new(Event::SignIn, &polled.user_id, &client);
                // Nobody is at the other end of a connection.
                let _ = this.end(&polled, outcome, entry);
            }
        };
        let thread = thread::Builder::new().name("device code".to_owned());
        match sync::spawn(thread, Box::new(poll)) {
            Ok(()) => Ok(attempt),
            Err(error) => {
                self.pending.withdraw(&attempt.handle);
                Err(Failure::new(
                    Kind::Internal,
                    format!("There was no thread to wait for the sign-in with ({error})."),
                )
                .hint("Try again, or sign in with the browser."))
            }
        }
    }

    fn ask_for_code(&self, requirements: &Requirements) -> Result<DeviceAuthorization, Failure> {
        let form = device_code::request(&self.config.application(), requirements.claims.as_ref());
        match self.token_endpoint.device_code(form, PURPOSE) {
            Ok(device) => Ok(device),
            Err(refusal) => {
                let failure = refusal.failure;
                let pause = failure.retry_after.unwrap_or(PAUSE);
                self.device_refusal
                    .note(self.now(), pause, requirements, &failure);
                Err(failure)
            }
        }
    }

    /// Asks until there is an answer; `None` if the sign-in was given up or its time is over.
    fn poll(&self, attempt: &Attempt) -> Option<Outcome> {
        let Method::DeviceCode(device) = &attempt.method else {
            return None;
        };
        let claims = attempt.requirements.claims.as_ref();
        let mut interval = device.interval;
        let mut pause = Duration::ZERO;
        loop {
            let length = pause.max(Duration::from_secs(interval));
            if !self.pending.sleep(&attempt.handle, length) {
                return None;
            }
            let form = device_code::poll(&self.config.application(), device, claims);
            let refusal = match self.token_endpoint.token(form, PURPOSE) {
                Ok(tokens) => {
                    let accepted = self
                        .audit
                        .ready()
                        .and_then(|()| self.identify(&tokens, None, PURPOSE))
                        .and_then(|identity| self.accept(attempt, identity, tokens));
                    return Some(accepted);
                }
                Err(refusal) => refusal,
            };
            let Refusal { failure, error } = refusal;
            match error {
                Some(error) if error.kind() != Kind::RetryLater => {
                    let Some(longer) = next_interval(&error.error, interval) else {
                        self.note_refusal(attempt, &error);
                        return Some(Err(refused(failure)));
                    };
                    interval = longer;
                    pause = Duration::ZERO;
                }
                // Entra cannot be had: not before it likes, once, and less often from now on.
                _ => {
                    pause = failure.retry_after.unwrap_or_default();
                    interval = less_often(interval);
                }
            }
        }
    }
}

/// Many organizations block device codes, in whatever words of Entra's.
fn refused(failure: Failure) -> Failure {
    let hint = format!(
        "{} If device codes are blocked in your organization, sign in with the browser.",
        failure.hint
    );
    failure.hint(hint.trim())
}
