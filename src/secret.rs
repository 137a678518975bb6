//! Values that must never be printed: tokens, authorization codes, code verifiers, states.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Failure, Kind};

/// The environment variable of the access key, the only setting that is a secret. No program that
/// this one starts inherits it.
pub const ACCESS_KEY: &str = "SERVER_ACCESS_KEY";

/// A string that has no `Display`, whose `Debug` hides it, and which only [`Secret::expose`] hands
/// out, so that every use of it can be found by that word. Its memory is wiped when it is dropped.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `value` into custody.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// 256 random bits of the operating system's generator, base64url without padding
    /// (43 characters).
    ///
    /// # Errors
    /// A failure of kind [`Kind::Internal`] when the operating system has no randomness to give.
    pub fn random() -> Result<Self, Failure> {
        random_base64url::<32>().map(Self::new)
    }

    /// The value itself, to be sent where it belongs. Nothing else formats it: see
    /// [`Secret::between`].
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `before`, the value and `after` as one text, which is a secret as well: a link, a header, a
    /// cookie.
    pub fn between(&self, before: &str, after: &str) -> Self {
        let length = before.len() + self.0.len() + after.len();
        // A buffer that grows would leave copies behind that nobody wipes.
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(before);
        text.push_str(&self.0);
        text.push_str(after);
        Self(text)
    }

    /// Whether `other` is the value. The time that it takes depends on the lengths alone.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// JSON with secrets in it, whose texts are wiped when it is dropped.
pub struct SecretJson(pub Value);

impl Deref for SecretJson {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(json: &mut Value) {
    match json {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        _ => {}
    }
}

/// `N` random bytes of the operating system's generator, base64url without padding.
///
/// # Errors
/// A failure of kind [`Kind::Internal`] when the operating system has no randomness to give.
pub fn random_base64url<const N: usize>() -> Result<String, Failure> {
    let mut bytes = Zeroizing::new([0; N]);
    SysRng
        .try_fill_bytes(bytes.as_mut_slice())
        .map_err(|error| {
            Failure::new(
                Kind::Internal,
                format!("The operating system gave no random numbers ({error})."),
            )
            .hint("Try again; if it persists, look at the system's entropy source.")
        })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}
