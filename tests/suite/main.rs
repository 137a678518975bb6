//! Behaviour, through the public surface: an HTTP client, a browser and the built program against strict stand-ins.
//! One crate, so that it is compiled and linked once.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines, // a table of cases is long
    clippy::needless_pass_by_value // `json!` at each call reads best
)]

#[path = "../support/mod.rs"]
mod support;

mod aadsts;
mod access_key;
mod accounts;
mod adversity;
mod answers;
mod attacks;
mod audit;
mod big_bodies;
mod bindings;
mod browsers;
mod challenges;
mod clients;
mod confinement;
mod corpus;
mod device_code;
mod doctor;
mod documents;
mod downloads;
mod elicitation;
mod faults;
mod files;
mod fixed_headers;
mod hostile;
mod http;
mod init;
mod mcp;
mod openapi;
mod openapi_faults;
mod openapi_work;
mod operations;
mod outgoing;
mod owner;
mod pages;
mod policy;
mod properties;
mod retries;
mod search;
mod secrets;
mod select;
mod session_cookies;
mod settings;
mod shortened;
mod shutdown;
mod sign_in;
mod simplechat;
mod standins;
mod stdio;
mod step_up;
mod story;
mod streams;
mod tls;
mod tokens;
mod tools;
mod units;
mod verbs;
