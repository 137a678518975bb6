//! An MCP server that signs users in with Microsoft Entra ID (OAuth 2.0 authorization code with
//! PKCE, public client) and calls one backend API with their tokens.
//!
//! This page is the map of the source. `.ci/arrows` has the table of who may use whom, and checks
//! that there is no cycle of imports.
//!
//! # The auth path
//!
//! An auditor of the auth path reads these files, in this order, about 3,000 lines:
//!
//! 1. `auth/mod.rs` (240 lines): the story in prose; [`auth::Auth`], the only door to the rest
//! 2. `auth/request.rs` (140 lines): state, nonce, code verifier; the authorization request
//! 3. `auth/response.rs` (80 lines): what comes back to the redirect URI
//! 4. `auth/pending.rs` (510 lines): the sign-ins that are under way, and what ties each to one
//!    browser
//! 5. `auth/sign_in.rs` (450 lines): begin, open, complete, store, sign out
//! 6. `auth/id_token.rs` (100 lines): what an ID token must say
//! 7. `auth/token_endpoint.rs` (310 lines): one form for each grant, one POST, one answer
//! 8. `auth/accounts.rs` (380 lines): one slot for each account, and when it is written
//! 9. `auth/asked.rs` (100 lines): the refreshes of a moment ago, and what came of them
//! 10. `auth/acquire.rs` (380 lines): from "a call needs a token" to the token
//! 11. `routes/auth.rs` (330 lines): where browsers come in
//!
//! Then the leaves, each a contract that is read once, about 2,100 lines: `auth/account.rs`,
//! `auth/token_file.rs`, `auth/challenge.rs`, `auth/authority.rs`, `auth/scope.rs`,
//! `auth/oauth_error.rs`, `auth/standing.rs`, `auth/waiting.rs`, `auth/device_code.rs` with
//! `auth/device_sign_in.rs`, `auth/aadsts.rs`, `auth/python_file.rs`. Around the path: `secret.rs`,
//! `owner.rs`, and `api/endpoint.rs` with `api/request.rs`, where the token leaves.
//!
//! # All modules
//!
//! The program:
//!
//! - [`cli`]: from the arguments to a verb, and to the exit code
//! - [`command_line`]: the one list of verbs, and how arguments are read
//! - `help`: what `help` shows
//! - [`init`]: asks for what a settings file must say, and writes it
//! - [`clients`]: how MCP clients are connected
//! - [`verbs`]: `login`, `logout` and `status`, for a person at a terminal
//! - `owner_client`: speaks to the server that owns the token file
//! - `stdio`: the verb of that name: MCP over standard input and output, carried to a server
//! - [`browser`]: opens a link without showing its ticket on a command line
//! - [`manual`]: the manual that `help` prints
//! - [`doctor`]: finds what is wrong, offline and online
//! - [`tool_report`]: `tools`: what is listed, and what that costs a client's context
//! - [`serve`]: a running server, put together
//!
//! What comes in:
//!
//! - `routes`: `Host`, `Origin` and access key, the path table; `routes/auth.rs`; the pages
//! - [`mcp`]: JSON-RPC, the revisions of the protocol, the tools, the elicitation
//!
//! What is done:
//!
//! - [`api`]: one call of the API: confinement, policy, headers, request, answer, selection, files
//! - [`auth`]: the auth path
//! - [`openapi`]: the API's description: its operations, what they take, how that is sent
//!
//! What they stand on:
//!
//! - [`config`]: the one table of settings, and the validated [`config::Config`]
//! - [`http`]: the only folder that accepts connections; HTTP/1.1 on `std::net`
//! - [`outgoing`]: the agents with which Entra and the API are called, and their connections
//! - [`access_key`]: the key that callers bring
//! - `audit`: the audit log, the only file that touches it
//! - [`owner`]: which process owns the token file
//!
//! Leaves, which use leaves alone: [`secret`] (a value that cannot be printed, and is wiped),
//! [`error`], [`clock`], [`os`] (all that differs between systems), [`cookie_jar`], `logging`,
//! `line_writer`, [`text`], [`pieces`], `sorted`, `spelling`, `sync`, `json_object`,
//! `json_pointer`, `json_string`, `media_type`.

pub mod access_key;
pub mod api;
mod audit;
pub mod auth;
pub mod browser;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod command_line;
pub mod config;
pub mod cookie_jar;
pub mod doctor;
pub mod error;
mod help;
pub mod http;
pub mod init;
mod json_object;
mod json_pointer;
mod json_string;
mod line_writer;
mod logging;
pub mod manual;
pub mod mcp;
mod media_type;
pub mod openapi;
pub mod os;
pub mod outgoing;
pub mod owner;
mod owner_client;
pub mod pieces;
mod routes;
pub mod secret;
pub mod serve;
mod sorted;
mod spelling;
mod stdio;
mod sync;
pub mod text;
pub mod tool_report;
pub mod verbs;
