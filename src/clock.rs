//! Wall-clock time: read in one place, so that a test can move it, and written as ISO 8601 or as
//! HTTP writes it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// 10000-01-01T00:00:00Z: a year has four digits.
const YEAR_10_000: u64 = 253_402_300_800;

/// Where the time of day comes from.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that shows what `now` gives.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Seconds since 1970-01-01T00:00:00Z; an earlier time counts as 0.
    pub fn now(&self) -> u64 {
        self.since_1970().as_secs()
    }

    /// The same as ISO 8601 in UTC, with milliseconds: `2026-07-28T12:00:00.123Z`.
    pub fn iso8601_millis(&self) -> String {
        let since = self.since_1970();
        let seconds = iso8601_seconds(since.as_secs());
        format!(
            "{}.{:03}Z",
            seconds.trim_end_matches('Z'),
            since.subsec_millis()
        )
    }

    fn since_1970(&self) -> Duration {
        (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// Seconds since 1970 as ISO 8601 in UTC: `2026-07-28T12:00:00Z`.
pub fn iso8601_seconds(epoch: u64) -> String {
    let (days, second_of_day) = (epoch / 86_400, epoch % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// `now` as HTTP writes it (RFC 9110 §5.6.7). `HttpDate` panics before 1970 and after 9999; then
/// there is none.
pub fn http_date(now: SystemTime) -> Option<HttpDate> {
    let since_1970 = now.duration_since(UNIX_EPOCH).ok()?;
    (since_1970.as_secs() < YEAR_10_000).then(|| HttpDate::from(now))
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the
/// leap day is the last day of a year and every month before it has a fixed start.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097; // 400 years
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
