//! Signing in with a device code (RFC 8628): the person enters it in any browser, while we ask Entra now
//! and then whether they have finished.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::audit::{Entry, Event, MOST_CHARS};
use crate::auth::authority::Application;
use crate::auth::device_code::{self, DeviceAuthorization};
use crate::auth::pending::{Attempt, Outcome, Way};
use crate::auth::request::Demand;
use crate::auth::sign_in::{PAUSE, SignIn, check_user_id};
use crate::error::{Failure, Kind};
use crate::sync::locked;

const PURPOSE: &str = "the sign-in with a device code";

/// When Entra has refused a device code: during which seconds since 1970 it is not asked for the same again, and why.
#[derive(Default)]
pub struct DeviceSignIn {
    closed: Mutex<Option<(Range<u64>, Demand, Failure)>>,
}

impl DeviceSignIn {
    /// A sign-in of `user_id` with a device code, which must bring `demand`: one that still waits for the
    /// person, or a new one, on record as that of a client that calls itself `client`.
    ///
    /// # Errors
    /// A `user_id` that cannot be one; Entra gives no code.
    pub fn offer(
        &self,
        sign_in: &Arc<SignIn>,
        user_id: &str,
        demand: Demand,
        client: &str,
    ) -> Result<Arc<Attempt>, Failure> {
        check_user_id(user_id)?;
        let now = sign_in.now();
        if let Some(attempt) = sign_in.pending().offered(user_id, &demand, true, now) {
            return Ok(attempt);
        }
        let is_same = |(during, asked, failure): &&(Range<u64>, Demand, Failure)| {
            during.contains(&now)
                && (*asked
                    == Demand {
                        person: None,
                        ..demand.clone()
                    }
                    || failure.kind == Kind::RetryLater)
        };
        if let Some((_, _, failure)) = locked(&self.closed).as_ref().filter(is_same) {
            return Err(failure.clone());
        }
        sign_in.audit.ready()?;
        let device = self.ask(sign_in, &demand)?;
        let attempt = sign_in
            .pending()
            .begin_with_code(user_id, demand, device, now)?;
        let (own, pending, client) = (
            Arc::clone(sign_in),
            Arc::clone(&attempt),
            client.chars().take(MOST_CHARS).collect::<String>(),
        );
        let spawned = thread::Builder::new()
            .name("device code".to_owned())
            .spawn(move || {
                if let Way::Device(device) = &pending.way
                    && let Some(outcome) = poll(&own, &pending, device)
                {
                    // Nobody is at the other end of a connection.
                    let _ = own.end(
                        &pending,
                        outcome,
                        Entry::new(Event::SignIn, &pending.user_id, &client),
                    );
                }
            });
        spawned.map(|_| Arc::clone(&attempt)).map_err(|error| {
            sign_in.pending().withdraw(&attempt.handle);
            Failure::new(
                Kind::Internal,
                format!("There was no thread to wait for the sign-in with ({error})."),
            )
        })
    }

    fn ask(&self, sign_in: &SignIn, demand: &Demand) -> Result<DeviceAuthorization, Failure> {
        let scopes = sign_in.scopes(demand);
        let application = Application {
            scopes: &scopes,
            ..sign_in.config.application()
        };
        let form = device_code::request(&application, &demand.claims);
        sign_in
            .entra
            .device_code(&sign_in.config, form, PURPOSE)
            .map_err(|refusal| {
                let (now, pause) = (
                    sign_in.now(),
                    refusal.failure.retry_after.unwrap_or(PAUSE).as_secs(),
                );
                *locked(&self.closed) = Some((
                    now..now + pause,
                    Demand {
                        person: None,
                        ..demand.clone()
                    },
                    refusal.failure.clone(),
                ));
                refusal.failure
            })
    }
}

/// Asks until there is an answer; `None` when the sign-in was given up or its time is over.
fn poll(sign_in: &SignIn, attempt: &Attempt, device: &DeviceAuthorization) -> Option<Outcome> {
    let claims = &attempt.demand.claims;
    let (mut interval, mut pause) = (device.interval, Duration::ZERO);
    while sign_in.pending().sleep(
        &attempt.handle,
        pause.max(Duration::from_secs(interval)),
        || sign_in.now(),
    ) {
        let form = device_code::poll(&sign_in.config.application(), device, claims);
        match sign_in.entra.token(&sign_in.config, form, PURPOSE) {
            Ok(tokens) => {
                let recordable = sign_in.audit.ready();
                return Some(recordable.and_then(|()| sign_in.accept(attempt, tokens, None, None)));
            }
            Err(refusal) => match refusal.error {
                Some(error) if error.kind() != Kind::RetryLater => {
                    let Some(longer) = device_code::next_interval(&error.error, interval) else {
                        sign_in.note_refusal(&attempt.user_id, &attempt.demand, &error);
                        return Some(Err(refused(refusal.failure)));
                    };
                    (interval, pause) = (longer, Duration::ZERO);
                }
                // Entra cannot be had: not before it likes, once, and less often from now on.
                _ => {
                    pause = refusal.failure.retry_after.unwrap_or_default();
                    interval = device_code::less_often(interval);
                }
            },
        }
    }
    None
}

/// Many organizations block device codes, whatever Entra's words for it.
fn refused(failure: Failure) -> Failure {
    let hint = format!(
        "{} Where device codes are blocked, sign in with the browser instead: set SIGN_IN_METHOD=browser, or call authenticate_user with method \"browser\".",
        failure.hint
    );
    failure.hint(hint.trim())
}
