//! HTTP/1.1 (RFC 9110, RFC 9112) on `std::net`: a bounded number of connections, a thread each,
//! with absolute deadlines and strict framing.
//!
//! Everything above this folder uses the `Method`, `StatusCode` and `Header` of `tiny_http`. The
//! server in that crate cannot be exposed to clients (`help source`), so this folder accepts, reads
//! and writes.

pub(crate) mod answer;
pub(crate) mod application;
pub mod body;
mod connection;
pub mod head;
pub(crate) mod listener;
pub(crate) mod message;
mod slots;
mod ticker;
pub mod workers;

use std::time::Duration;

use crate::owner;

/// What clients may cost. Each duration is how long the server waits at most, for what the field
/// says.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most connections, and so threads, at a time.
    pub connections: usize,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// From the end of the head to the last byte of the body.
    pub body: Duration,
    /// For the first byte of a request.
    pub idle: Duration,
    /// For work, until a thread gives back the memory that its last call has left.
    pub quiet: Duration,
    /// For the result of a call, until the answer becomes a stream, if the client accepts one.
    pub silence: Duration,
    /// For something to send on a stream, until it gets a sign of life.
    pub keep_alive: Duration,
    /// For the client to read one answer, or one event of a stream.
    pub answer: Duration,
    /// For requests in flight to finish when the server is told to stop.
    pub shutdown: Duration,
    /// The most bytes of a request body (413).
    pub body_bytes: usize,
    /// For the previous owner of the token file to end, at the start.
    pub owner: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            quiet: Duration::from_secs(1),
            silence: Duration::from_secs(5),
            keep_alive: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            shutdown: Duration::from_secs(10),
            body_bytes: 4 * 1024 * 1024,
            owner: owner::PATIENCE,
        }
    }
}

/// The most bytes of a request head (431).
pub const MOST_HEAD_BYTES: usize = 16 * 1024;
/// The most fields of a request head (431).
pub const MOST_FIELDS: usize = 100;
