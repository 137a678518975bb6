//! An MCP server that signs users in with Microsoft Entra ID (OAuth 2.0 authorization code with PKCE,
//! public client) and calls one backend API with their tokens.
//!
//! ```text
//! main -> cli -> serve -> routes -> mcp, pages, sign_in
//! cli -> verbs -> serve, mcp/tools, sign_in
//! cli -> doctor -> oauth, entra, token_cache
//! mcp/tools -> sign_in, mcp/api -> policy, confinement, files, select, backend
//! device_sign_in -> sign_in -> oauth (pure), pending, entra, token_cache, audit
//! ```

pub mod access_key;
mod audit;
mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confinement;
mod device_sign_in;
pub mod doctor;
pub mod entra;
pub mod env_file;
pub mod error;
mod files;
pub mod http;
mod json_pointer;
mod link;
mod logging;
pub mod mcp;
mod media_type;
pub mod oauth;
pub mod os;
mod pages;
mod pending;
pub mod pieces;
pub mod policy;
mod request_headers;
mod resolver;
pub mod retry_after;
mod routes;
pub mod secret;
mod select;
pub mod serve;
mod sign_in;
mod sync;
pub mod token_cache;
pub mod verbs;
