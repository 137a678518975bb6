//! What answers the requests.

use super::answer::Answer;
use super::message::{Reply, Request};

/// The longest body that is accepted from everybody, in bytes.
pub const SMALL_BODY: usize = 64 * 1024;

/// The application behind the connections.
pub trait Application: Send + Sync {
    /// Whether a body of more than [`SMALL_BODY`] is waited for. `request` has no body yet.
    fn takes_large_body(&self, request: &Request<'_>) -> bool;

    /// Answers one request, on the thread of the connection. If `answer` has become a stream
    /// meanwhile, the body of the reply is the last event.
    fn answer(&self, request: &Request<'_>, answer: &mut Answer<'_>) -> Reply;

    /// The answer to a browser whose cookies make the head too long.
    fn too_many_cookies(&self) -> Reply;
}
