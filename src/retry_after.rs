//! `Retry-After` (RFC 9110 §10.2.3): how long a server wants to be left alone.

use std::time::{Duration, SystemTime};

/// The longest wait that is told apart: sixty-eight years (RFC 9111 §1.2.2).
const LONGEST: u64 = 1 << 31;

/// How long `field` says to wait, counted from `now`: so many seconds, or until a date. `None` where it says neither,
/// or the date has passed.
pub fn wait(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(field.parse().map_or(LONGEST, |seconds: u64| seconds.min(LONGEST))));
    }
    httpdate::parse_http_date(field).ok()?.duration_since(now).ok()
}
