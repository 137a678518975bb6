//! The refreshes of an account a moment ago, and what came of them. What was refused is not asked
//! again for a while, and what an API does not take is not asked for again: Entra takes that for a
//! loop (AADSTS50196), and MSAL does it so.

use std::ops::Range;
use std::time::Duration;

use super::challenge::Claims;
use crate::error::{Failure, Kind};

/// How long the same is not asked again, unless Entra says.
pub const PAUSE: Duration = Duration::from_secs(60);
/// How often Entra is asked for one account in that time, whatever claims an API thinks of.
const MOST: usize = 16;

/// What came of a refresh.
#[derive(Clone)]
pub enum Came {
    /// Fresh tokens.
    Tokens,
    /// Nothing.
    Refusal(Failure),
}

/// One refresh.
struct Asked {
    /// The seconds since 1970 during which it counts. A clock that is set back ends it, too.
    during: Range<u64>,
    claims: Option<Claims>,
    came: Came,
}

impl Asked {
    /// Whether it can stand in for a refresh with `claims`.
    fn answers(&self, claims: Option<&Claims>) -> bool {
        match &self.came {
            // Entra is not to be had, for whatever claims.
            Came::Refusal(failure) if failure.kind == Kind::RetryLater => true,
            _ => self.claims.as_ref() == claims,
        }
    }
}

/// The refreshes of one account.
#[derive(Default)]
pub struct AskedOfLate {
    /// The oldest first.
    refreshes: Vec<Asked>,
    /// Whether refreshes fail until there is a new sign-in or other settings.
    is_refused: bool,
}

impl AskedOfLate {
    /// Notes at `now` (seconds since 1970) what came of a refresh with `claims`. It counts for
    /// `pause`.
    pub fn note(&mut self, now: u64, pause: Duration, claims: Option<&Claims>, came: Came) {
        self.refreshes
            .retain(|earlier| earlier.during.contains(&now));
        match &came {
            Came::Tokens => {
                self.is_refused = false;
                self.refreshes
                    .retain(|earlier| matches!(earlier.came, Came::Tokens));
            }
            Came::Refusal(failure) => {
                let is_lasting = claims.is_none() && failure.kind != Kind::RetryLater;
                self.is_refused |= is_lasting;
            }
        }
        self.refreshes.push(Asked {
            during: now..now + pause.as_secs(),
            claims: claims.cloned(),
            came,
        });
    }

    /// What came of the last refresh that can stand in at `now` for one with `claims`. A refusal
    /// says how long it still counts.
    pub fn before(&self, now: u64, claims: Option<&Claims>) -> Option<Came> {
        let counting = self
            .refreshes
            .iter()
            .filter(|asked| asked.during.contains(&now));
        let asked = counting.clone().rfind(|asked| asked.answers(claims));
        match asked {
            Some(Asked {
                during,
                came: Came::Refusal(failure),
                ..
            }) if failure.kind != Kind::SignInRequired => {
                let left = Duration::from_secs(during.end - now);
                Some(Came::Refusal(failure.clone().retry_after(left)))
            }
            Some(asked) => Some(asked.came.clone()),
            // There were as many tokens as an API may have in that time.
            None if counting.count() >= MOST => Some(Came::Tokens),
            None => None,
        }
    }

    /// Whether Entra has refused the last refresh for a reason that does not pass by itself.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }
}
