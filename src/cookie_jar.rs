//! The cookies that the API has set for one account (RFC 6265). They live in memory only, and end
//! with the sign-in that they belong to.
//!
//! A cookie goes back to the host that has set it and to no other: `Domain` never widens that. All
//! calls go to one host with one scheme, so neither is kept.

use std::cmp::Reverse;
use std::sync::Mutex;

use percent_encoding::percent_decode_str;
use ureq::http::header::{HeaderMap, SET_COOKIE};
use url::{Host, Url};

use crate::clock;
use crate::secret::Secret;
use crate::sorted;
use crate::sync::locked;

/// The most that the cookies of one account take, by [`Cookie::size`].
const MOST_BYTES: usize = 8 * 1024;
/// What a cookie takes besides its texts.
const OVERHEAD: usize = 64;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// The cookies of one account, in the order in which they were first set.
#[derive(Debug, Default)]
pub struct CookieJar(Mutex<Vec<Cookie>>);

#[derive(Debug)]
struct Cookie {
    name: String,
    value: Secret,
    path: String,
    /// In seconds since 1970; `None` if it lives as long as the sign-in.
    expires_at: Option<u64>,
}

impl CookieJar {
    /// Whether there is no cookie at `now`.
    pub fn is_empty(&self, now: u64) -> bool {
        !locked(&self.0).iter().any(|cookie| cookie.is_alive(now))
    }

    /// The value of `Cookie` for a request of `url` at `now` (RFC 6265 §5.4).
    pub fn header(&self, url: &Url, now: u64) -> Option<Secret> {
        let cookies = locked(&self.0);
        let is_sent = |cookie: &&Cookie| cookie.is_alive(now) && cookie.is_for(url.path());
        let mut sent: Vec<&Cookie> = Vec::new();
        for cookie in cookies.iter().filter(is_sent) {
            // Longer paths come first; among those of one length, the older cookie.
            sorted::insert(&mut sent, cookie, |cookie| Reverse(cookie.path.len()));
        }
        if sent.is_empty() {
            return None;
        }
        // A buffer that grows would leave copies behind that nobody wipes.
        let length = sent.iter().map(|cookie| cookie.size()).sum();
        let mut header = String::with_capacity(length);
        for cookie in sent {
            if !header.is_empty() {
                header.push_str("; ");
            }
            header.push_str(&cookie.name);
            header.push('=');
            header.push_str(cookie.value.expose());
        }
        Some(Secret::new(header))
    }

    /// Every value, as it is sent and as an API may show it: without percent-encoding.
    pub fn values(&self) -> Vec<Secret> {
        let cookies = locked(&self.0);
        let mut values = Vec::with_capacity(2 * cookies.len());
        for cookie in cookies.iter() {
            values.push(cookie.value.clone());
            let decoded = percent_decode_str(cookie.value.expose()).decode_utf8();
            if let Ok(decoded) = decoded
                && decoded.is_ascii()
                && decoded != cookie.value.expose()
            {
                values.push(Secret::new(decoded.into_owned()));
            }
        }
        values
    }

    /// Keeps those cookies of `names` that the answer to a request of `url` sets at `now`, and
    /// forgets those that it ends (RFC 6265 §5.3). Returns whether it has set one.
    pub fn keep(&self, headers: &HeaderMap, names: &[String], url: &Url, now: u64) -> bool {
        let mut cookies = locked(&self.0);
        cookies.retain(|cookie| cookie.is_alive(now));
        let mut has_set = false;
        for field in headers.get_all(SET_COOKIE) {
            let Some(set) = field.to_str().ok().and_then(SetCookie::parse) else {
                continue;
            };
            if !names.iter().any(|name| name == set.name) {
                continue;
            }
            if let Some(reason) = set.misfit(url) {
                log::warn!("the cookie {} of the API is ignored: {reason}", set.name);
                continue;
            }
            has_set |= put(&mut cookies, set.cookie(url, now), now);
        }
        has_set
    }
}

/// Puts `cookie` in the place of the one of its name and path. Returns whether it is there now.
fn put(cookies: &mut Vec<Cookie>, cookie: Cookie, now: u64) -> bool {
    let is_same = |other: &Cookie| other.name == cookie.name && other.path == cookie.path;
    // A new value does not make it younger (RFC 6265 §5.3, step 11).
    let place = cookies.iter().position(is_same).unwrap_or(cookies.len());
    cookies.retain(|other| !is_same(other));
    let size = cookie.size() + cookies.iter().map(Cookie::size).sum::<usize>();
    let is_kept = cookie.is_alive(now) && size <= MOST_BYTES;
    if size > MOST_BYTES {
        log::warn!(
            "the cookie {} of the API is not kept: one account may have cookies of {MOST_BYTES} bytes",
            cookie.name
        );
    }
    if is_kept {
        cookies.insert(place, cookie);
    }
    is_kept
}

impl Cookie {
    fn size(&self) -> usize {
        OVERHEAD + self.name.len() + self.value.expose().len() + self.path.len()
    }

    fn is_alive(&self, now: u64) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > now)
    }

    /// Whether its path matches that of a request (RFC 6265 §5.1.4).
    fn is_for(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&self.path) else {
            return false;
        };
        rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
    }
}

/// A `Set-Cookie` header (RFC 6265 §5.2). Of several attributes of one name, the last counts.
struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    domain: Option<&'a str>,
    path: Option<&'a str>,
    is_secure: bool,
    /// In seconds; none are left where it is negative.
    max_age: Option<u64>,
    /// In seconds since 1970.
    expires: Option<u64>,
}

impl<'a> SetCookie<'a> {
    /// `None` if it has no name.
    fn parse(field: &'a str) -> Option<Self> {
        let mut parts = field.split(';');
        let (name, value) = parts.next()?.split_once('=')?;
        let mut set = Self {
            name: name.trim(),
            value: value.trim(),
            domain: None,
            path: None,
            is_secure: false,
            max_age: None,
            expires: None,
        };
        for attribute in parts {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "domain" => set.domain = Some(value).filter(|domain| !domain.is_empty()),
                "path" => set.path = Some(value).filter(|path| path.starts_with('/')),
                "secure" => set.is_secure = true,
                "max-age" => set.max_age = max_age(value).or(set.max_age),
                "expires" => set.expires = date(value).or(set.expires),
                _ => {}
            }
        }
        (!set.name.is_empty()).then_some(set)
    }

    /// Why an answer to a request of `url` may not set it.
    fn misfit(&self, url: &Url) -> Option<&'static str> {
        if self.domain.is_some_and(|domain| !is_domain_of(domain, url)) {
            return Some("its Domain is not that of BACKEND_API_BASE_URL");
        }
        if self.is_secure && url.scheme() != "https" {
            return Some("it is Secure, and BACKEND_API_BASE_URL is not https");
        }
        None
    }

    fn cookie(&self, url: &Url, now: u64) -> Cookie {
        let path = self.path.unwrap_or_else(|| default_path(url));
        Cookie {
            name: self.name.to_owned(),
            value: Secret::new(self.value.to_owned()),
            path: path.to_owned(),
            // Max-Age has precedence (RFC 6265 §5.3, step 3).
            expires_at: match self.max_age {
                Some(seconds) => Some(now.saturating_add(seconds)),
                None => self.expires,
            },
        }
    }
}

/// Whether the host of `url` lies in `domain` (RFC 6265 §5.1.3).
fn is_domain_of(domain: &str, url: &Url) -> bool {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    let domain = domain.to_ascii_lowercase();
    let host = url.host_str().unwrap_or_default();
    let is_below = || {
        let rest = host.strip_suffix(&domain);
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    match url.host() {
        Some(Host::Domain(_)) => host == domain || is_below(),
        _ => host == domain,
    }
}

/// The path of a cookie that does not name one: that of the request up to its last slash (RFC 6265
/// §5.1.4).
fn default_path(url: &Url) -> &str {
    match url.path().rsplit_once('/') {
        Some((directory, _)) if !directory.is_empty() => directory,
        _ => "/",
    }
}

/// The seconds of `Max-Age`; 0 where they are negative.
fn max_age(value: &str) -> Option<u64> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if value.starts_with('-') {
        return Some(0);
    }
    // What does not fit is longer than any sign-in.
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The time of `Expires` in seconds since 1970. Servers write it in many ways (RFC 6265 §5.1.1).
fn date(value: &str) -> Option<u64> {
    let is_delimiter = |c: char| !c.is_ascii_alphanumeric() && c != ':';
    let words = value.split(is_delimiter).filter(|word| !word.is_empty());
    let mut time = None;
    let mut day: Option<u64> = None;
    let mut month = None;
    let mut year: Option<u64> = None;
    for word in words {
        if word.contains(':') {
            time = time.or(time_of_day(word));
        } else if let Ok(number) = word.parse() {
            if day.is_none() {
                day = Some(number);
            } else {
                year = year.or(Some(number));
            }
        } else {
            month = month.or(month_of(word));
        }
    }
    let year = match year? {
        short @ 0..70 => 2000 + short,
        short @ 70..100 => 1900 + short,
        year => year,
    };
    let day = day.filter(|day| (1..=31).contains(day))?;
    let days = clock::days_since_1970(year, month?, day)?;
    Some(days * 86_400 + time?)
}

/// The second of the day that `hh:mm:ss` is.
fn time_of_day(word: &str) -> Option<u64> {
    let mut parts = word.split(':').map(str::parse::<u64>);
    let hour = parts.next()?.ok().filter(|hour| *hour < 24)?;
    let minute = parts.next()?.ok().filter(|minute| *minute < 60)?;
    let second = parts.next()?.ok().filter(|second| *second < 60)?;
    Some(hour * 3600 + minute * 60 + second)
}

/// The number of the month that a word begins with.
fn month_of(word: &str) -> Option<u64> {
    let start = word.get(..3)?.to_ascii_lowercase();
    let months = MONTHS.iter().zip(1..);
    let mut found = months.filter(|(name, _)| **name == start);
    found.next().map(|(_, number)| number)
}
