//! Stand-ins for everything around the server: Entra, the backend, and a browser.
//!
//! They share no code with the server, so that both cannot be wrong in the same way.
#![allow(
    dead_code, // each test crate uses a part
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::format_push_string,
    clippy::needless_pass_by_value, // `json!` at each call reads best
    clippy::struct_excessive_bools, // settings of a stand-in are switches
)]

pub mod backend;
pub mod browser;
pub mod entra;
pub mod http;
pub mod mcp;
pub mod random;
pub mod schema;
pub mod server;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Longer than anything healthy takes: a hang becomes a failure, not a test that never ends.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Fields in the order in which they arrived, because duplicates matter.
pub type Pairs = Vec<(String, String)>;

/// The first value of `name`.
pub fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.as_str())
}

pub fn decode_pairs(encoded: &[u8]) -> Pairs {
    url::form_urlencoded::parse(encoded).into_owned().collect()
}

pub fn encode_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes
}

/// 256 random bits as text.
pub fn random_token() -> String {
    base64url(&random_bytes::<32>())
}

pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// RFC 9110 §5.6.7: a time in seconds since 1970 as `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(time: i64) -> String {
    let (days, second) = (time.div_euclid(86400), time.rem_euclid(86400));
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        [usize::try_from(days.rem_euclid(7)).unwrap()];
    let (mut year, mut day) = (1970, days);
    let is_leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while day >= 365 + i64::from(is_leap(year)) {
        day -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + i64::from(is_leap(year));
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut lengths = months
        .into_iter()
        .zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]);
    let month = lengths
        .find(|(_, length)| {
            day < *length || {
                day -= length;
                false
            }
        })
        .unwrap()
        .0;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "{weekday}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT",
        day + 1
    )
}

/// A handler that panicked poisons its lock; what the lock guards is still worth asserting on.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Holds threads until the test lets them go: order without sleeps.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    open: bool,
    arrivals: usize,
}

impl Gate {
    /// Called by whoever is to be held.
    pub fn pass(&self) {
        lock(&self.0.0).arrivals += 1;
        self.0.1.notify_all();
        self.wait_until("the test to open a gate", |state| state.open);
    }

    pub fn open(&self) {
        lock(&self.0.0).open = true;
        self.0.1.notify_all();
    }

    pub fn wait_for_arrivals(&self, count: usize) {
        self.wait_until("requests to arrive at a gate", |state| {
            state.arrivals >= count
        });
    }

    pub fn arrivals(&self) -> usize {
        lock(&self.0.0).arrivals
    }

    fn wait_until(&self, what: &str, ready: impl Fn(&GateState) -> bool) {
        let waiting = |state: &mut GateState| !ready(state);
        let (_guard, timeout) = self
            .0
            .1
            .wait_timeout_while(lock(&self.0.0), PATIENCE, waiting)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(!timeout.timed_out(), "waited in vain for {what}");
    }
}

/// A gate that opens when the test drops it.
pub struct Hold(pub Gate);

impl Hold {
    /// Blocks until `count` requests are held.
    pub fn wait_for_arrivals(&self, count: usize) {
        self.0.wait_for_arrivals(count);
    }

    pub fn arrivals(&self) -> usize {
        self.0.arrivals()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.open();
    }
}
