//! The revisions of the protocol that are spoken here.

/// The revision with per-request metadata.
pub(super) const MODERN: &str = "2026-07-28";
/// The revisions that begin with `initialize`, the newest first.
pub(super) const LEGACY: [&str; 3] = ["2025-11-25", "2025-06-18", BATCHING];
/// The only revision with batches. It is meant where a request names no version.
pub(super) const BATCHING: &str = "2025-03-26";
/// Every revision, the newest first.
pub(super) const VERSIONS: [&str; 4] = [MODERN, LEGACY[0], LEGACY[1], LEGACY[2]];
