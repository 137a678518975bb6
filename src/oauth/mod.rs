//! OAuth 2.0 and OpenID Connect as Microsoft Entra ID speaks them, one protocol step a file.
//! Pure: no I/O, no clock, no threads, no logging.

pub mod aadsts;
pub mod authority;
pub mod authorize;
pub mod callback;
pub mod claims_challenge;
pub mod device_code;
pub mod id_token;
pub mod pkce;
pub mod scope;
pub mod token;
