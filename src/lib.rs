//! An MCP server that signs users in with Microsoft Entra ID (OAuth 2.0 authorization code with PKCE,
//! public client) and calls one backend API with their tokens.
//!
//! ```text
//! main -> cli -> serve -> routes -> mcp, pages, sign_in
//! mcp/tools -> sign_in, backend
//! sign_in -> oauth (pure), pending, entra, token_cache
//! ```

pub mod backend;
pub mod cli;
pub mod clock;
pub mod config;
pub mod entra;
pub mod env_file;
pub mod error;
pub mod http;
pub mod logging;
pub mod mcp;
mod media_type;
pub mod oauth;
pub mod os;
pub mod pages;
pub mod pending;
pub mod routes;
pub mod secret;
pub mod serve;
pub mod sign_in;
pub mod token_cache;
