//! The key that callers have to bring, and the session of a browser in which it was entered.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::PathBuf;

use base64::prelude::*;
use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::error::Failure;
use crate::http::message::Request;
use crate::os;
use crate::secret::Secret;

/// Fewer characters could be guessed.
const LEAST_CHARS: usize = 32;
/// More do not fit well into a header.
const MOST_CHARS: usize = 1024;
/// How long a browser is let in, in seconds: other ports of the same host get its cookies, too
/// (RFC 6265 §8.5).
const SESSION: u64 = 3600;

/// What is known of the key: its hash. Hashes are of one length, so that comparing them does not
/// tell the key's.
#[derive(Clone, Debug)]
pub struct AccessKey {
    hash: Secret,
    /// Whether it came from a file that others can read or write.
    pub is_exposed: bool,
    /// The file that it came from.
    pub file: Option<PathBuf>,
}

impl AccessKey {
    /// Takes the key as it stands in a setting.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not show it.
    pub fn parse(key: &str) -> Result<Self, String> {
        let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        let length = key.chars().count();
        if !is_plain || !(LEAST_CHARS..=MOST_CHARS).contains(&length) {
            return Err(format!(
                "must have {LEAST_CHARS} to {MOST_CHARS} printable ASCII characters and no spaces: make one with \
                 openssl rand -hex 32"
            ));
        }
        Ok(Self {
            hash: hash(key),
            is_exposed: false,
            file: None,
        })
    }

    /// The same from a file, without the white space around it. One that `is_handed_over` is
    /// protected otherwise than by its mode.
    ///
    /// # Errors
    /// As above, and a file that cannot be read.
    pub fn read(path: &str, is_handed_over: bool) -> Result<Self, String> {
        let (text, metadata) =
            read_file(path).map_err(|error| format!("{path:?}, which cannot be read ({error})"))?;
        let key = Self::parse(text.expose().trim())
            .map_err(|mend| format!("{path:?}: what stands in it {mend}"))?;
        Ok(Self {
            is_exposed: os::others_have_access(&metadata) && !is_handed_over,
            file: Some(path.into()),
            ..key
        })
    }

    /// Compares in a time that tells nothing about the key.
    pub fn matches(&self, given: &str) -> bool {
        self.hash.matches(hash(given).expose())
    }

    /// Whether `request` brings it as a bearer token (RFC 6750 §2.1), and nothing else beside it.
    pub(crate) fn is_brought_by(&self, request: &Request<'_>) -> bool {
        let mut fields = request.fields("authorization");
        let (Some(credentials), None) = (fields.next(), fields.next()) else {
            return false;
        };
        match credentials.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.matches(token.trim_start_matches(' '))
            }
            _ => false,
        }
    }
}

fn read_file(path: &str) -> io::Result<(Secret, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut text = String::new();
    // A device may have no end.
    file.take(4 * MOST_CHARS as u64).read_to_string(&mut text)?;
    Ok((Secret::new(text), metadata))
}

fn hash(key: &str) -> Secret {
    Secret::new(BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(key)))
}

/// Browsers in which the key was entered: each keeps the end of its session, sealed with a key that
/// ends with this process. Nothing is kept here.
pub(crate) struct Sessions {
    seal: hmac::Key,
    cookie_name: String,
}

impl Sessions {
    /// For a server on `port`: ports share their host's cookies.
    ///
    /// # Errors
    /// No randomness.
    pub(crate) fn new(port: u16) -> Result<Self, Failure> {
        let seal = hmac::Key::new(hmac::HMAC_SHA256, Secret::random()?.expose().as_bytes());
        Ok(Self {
            seal,
            cookie_name: format!("entra_auth_mcp_{port}"),
        })
    }

    /// The `Set-Cookie` that begins a session at `now`. Of what another site leads to, nothing
    /// needs it: sign-in links bring their ticket, and Entra's answer its state.
    pub(crate) fn cookie(&self, now: u64, is_https: bool) -> String {
        let name = &self.cookie_name;
        let end = (now + SESSION).to_string();
        let code = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.seal, end.as_bytes()));
        let secure = if is_https { "; Secure" } else { "" };
        format!("{name}={end}.{code}; Max-Age={SESSION}; Path=/; HttpOnly; SameSite=Strict{secure}")
    }

    /// Whether `request` comes from such a browser.
    pub(crate) fn is_open(&self, request: &Request<'_>, now: u64) -> bool {
        // Another port of this host may have set one of the same name: it hides none of ours.
        request
            .cookies(&self.cookie_name)
            .any(|value| self.end_of(value).is_some_and(|end| now < end))
    }

    /// When the session of this cookie ends; `None` where the cookie is not one of ours.
    fn end_of(&self, cookie: &str) -> Option<u64> {
        let (end, code) = cookie.split_once('.')?;
        let code = BASE64_URL_SAFE_NO_PAD.decode(code).ok()?;
        hmac::verify(&self.seal, end.as_bytes(), &code).ok()?;
        end.parse().ok()
    }
}
