//! Signing people in with Microsoft Entra ID: OAuth 2.0 and OpenID Connect as it speaks them.

pub mod aadsts;
pub mod authority;
pub mod challenge;
pub mod device_code;
pub(crate) mod device_sign_in;
pub mod entra;
pub mod id_token;
pub(crate) mod pending;
pub mod pkce;
pub mod request;
pub mod response;
pub mod scope;
pub(crate) mod sign_in;
pub mod token_endpoint;
pub mod token_file;
