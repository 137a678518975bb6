//! `Retry-After` (RFC 9110 §10.2.3): how long to wait before the next request.

use std::time::{Duration, SystemTime};

/// The longest wait, in seconds: sixty-eight years (RFC 9111 §1.2.2).
const LONGEST: u64 = 1 << 31;

/// How long `field` says to wait from `now` on, in whole seconds. It gives a number of seconds or a
/// date. `None` if it gives neither, or if the date has passed.
pub fn parse(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a long time, too.
        let seconds: u64 = field.parse().unwrap_or(LONGEST);
        return Some(Duration::from_secs(seconds.min(LONGEST)));
    }
    let date = httpdate::parse_http_date(field).ok()?;
    let wait = date.duration_since(now).ok()?;
    let has_fraction = wait.subsec_nanos() > 0;
    Some(Duration::from_secs(
        wait.as_secs() + u64::from(has_fraction),
    ))
}
