//! `Retry-After` (RFC 9110 §10.2.3): how long a server wants to be left alone.

use std::time::{Duration, SystemTime};

/// The longest wait that is told apart: sixty-eight years (RFC 9111 §1.2.2).
const LONGEST: u64 = 1 << 31;

/// How long `field` says to wait, counted from `now`, in whole seconds: so many, or until a date.
/// `None` where it says neither, or the date has passed.
pub fn parse(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(
            field
                .parse()
                .map_or(LONGEST, |seconds: u64| seconds.min(LONGEST)),
        ));
    }
    let until = httpdate::parse_http_date(field)
        .ok()?
        .duration_since(now)
        .ok()?;
    Some(Duration::from_secs(
        until.as_secs() + u64::from(until.subsec_nanos() > 0),
    ))
}
