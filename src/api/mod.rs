//! One call of the API: what may be called, what is sent, and what of the answer is handed on.

pub mod endpoint;
pub(crate) mod files;
pub mod headers;
pub(crate) mod link;
pub mod policy;
pub(crate) mod request;
pub(crate) mod select;
