//! Proof Key for Code Exchange (RFC 7636).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::secret::Secret;

/// The only challenge method that is ever sent: Entra would accept `plain`, and takes a missing
/// method for `plain` (RFC 7636 §4.3).
pub const METHOD: &str = "S256";

/// `code_challenge = BASE64URL(SHA256(code_verifier))` (RFC 7636 §4.2). The verifier is
/// [`Secret::random`]: 32 random bytes as 43 unreserved characters, as §4.1 recommends.
pub fn code_challenge(verifier: &Secret) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.expose().as_bytes()))
}
