//! Values that must never be printed: tokens, authorization codes, code verifiers, states.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::error::{Failure, Kind};

/// A string that has no `Display`, whose `Debug` hides it, and which only [`Secret::expose`]
/// hands out, so that every use of it can be found by that word.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes `value` into custody.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// 256 random bits of the operating system's generator, base64url without padding
    /// (43 characters).
    ///
    /// # Errors
    /// A failure of kind [`Kind::Internal`] when the operating system has no randomness to give.
    pub fn random() -> Result<Self, Failure> {
        random_base64url::<32>().map(Self)
    }

    /// The value itself. Send it where it belongs; never format it into anything else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on the lengths alone.
    pub fn matches(&self, other: &str) -> bool {
        let (left, right) = (self.0.as_bytes(), other.as_bytes());
        left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `N` random bytes of the operating system's generator, base64url without padding.
///
/// # Errors
/// A failure of kind [`Kind::Internal`] when the operating system has no randomness to give.
pub fn random_base64url<const N: usize>() -> Result<String, Failure> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| {
        Failure::new(Kind::Internal, format!("The operating system gave no random numbers ({error})."))
            .hint("Try again; if it persists, look at the system's entropy source.")
    })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
