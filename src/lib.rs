//! An MCP server that signs users in with Microsoft Entra ID (OAuth 2.0 authorization code with PKCE,
//! public client) and calls one backend API with their tokens.

pub mod access_key;
pub mod api;
mod audit;
pub mod auth;
pub mod browser;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod error;
pub mod http;
mod json_pointer;
mod logging;
pub mod mcp;
mod media_type;
pub mod os;
pub mod outgoing;
pub mod owner;
mod owner_client;
pub mod pieces;
mod routes;
pub mod secret;
pub mod serve;
mod sync;
pub mod text;
pub mod verbs;
