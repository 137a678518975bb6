//! The Model Context Protocol over streamable HTTP: JSON-RPC messages, the versions and headers of
//! both eras, and the tools.

mod call_answer;
pub mod elicitation;
pub mod jsonrpc;
mod progress;
pub mod protocol;
pub mod tools;
mod version;
