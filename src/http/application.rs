//! What answers the requests.

use super::answer::Answer;
use super::message::{Reply, Request};

/// What is taken from everybody, in bytes.
pub const SMALL_BODY: usize = 64 * 1024;

/// The application behind the connections.
pub trait Application: Send + Sync {
    /// Whether a body of more than [`SMALL_BODY`] is waited for; the body of `request` has not come
    /// yet.
    fn takes_large_body(&self, request: &Request<'_>) -> bool;

    /// Answers one request; called on the connection's thread. Where `answer` has become a stream
    /// meanwhile, the body of the reply is its last event.
    fn answer(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Reply;

    /// The answer to a browser whose cookies make the head too long to be read.
    fn too_many_cookies(&self) -> Reply;
}
