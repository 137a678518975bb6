//! Endpoints are confined to the API's base URL. One that would leave it, or that some server could
//! read as if it did, is refused before a token is fetched.

use std::borrow::Cow;

use ureq::http::Uri;
use url::{Url, form_urlencoded};

use crate::error::{Failure, Kind};

/// The base URL; its path ends in a slash.
pub struct Base(pub Url);

/// A URL below the base, to which the token may be sent.
pub struct Target {
    url: Url,
    uri: Uri,
}

impl Target {
    /// The whole URL.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The same URL, in the type of the HTTP client.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Resolves a `link` that was found there (RFC 3986 §5).
    pub(crate) fn join(&self, link: &str) -> Result<Url, url::ParseError> {
        self.url.join(link)
    }

    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    /// The query, empty if there is none.
    pub(crate) fn query(&self) -> &str {
        self.url.query().unwrap_or_default()
    }
}

impl Base {
    /// The URL of `endpoint`, a path below the base or an absolute URL below it, with `parameters`
    /// added to its query.
    ///
    /// # Errors
    /// The endpoint would leave the base, or the API could read it as if it did.
    pub fn target(
        &self,
        endpoint: &str,
        parameters: &[(String, String)],
    ) -> Result<Target, Failure> {
        let refuse = |reason: &str| {
            Failure::new(
                Kind::InvalidRequest,
                format!("The endpoint {endpoint:?} is refused: {reason}."),
            )
            .hint(format!(
                "Give a path below {}, or an absolute URL that begins with it. In a name, '#' is written %23, '?' \
                 %3F and '%' %25.",
                self.0
            ))
        };
        let below = self.below_base(endpoint).map_err(refuse)?;
        // `./`, so that nothing in it is taken for a scheme or a host (RFC 3986 §4.2).
        let mut url = self
            .0
            .join(&format!("./{below}"))
            .map_err(|error| refuse(&error.to_string()))?;
        if !parameters.is_empty() {
            let own = url.query().filter(|query| !query.is_empty());
            let mut query = own.map(|query| format!("{query}&")).unwrap_or_default();
            let encoded = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(parameters)
                .finish();
            // A space as %20: not every backend takes a plus for one. A plus itself is %2B here.
            query.push_str(&encoded.replace('+', "%20"));
            url.set_query(Some(&query));
        }
        // In case the checks above missed something: the URL must lie below the base.
        if !self.is_own_origin(&url)
            || !url.path().starts_with(self.0.path())
            || url.fragment().is_some()
        {
            return Err(refuse("it leads out of the base URL"));
        }
        let uri = Uri::try_from(url.as_str()).map_err(|error| refuse(&error.to_string()))?;
        Ok(Target { url, uri })
    }

    /// The page to which a `link` of the API leads. An API behind a proxy may write another scheme
    /// than the one by which it is called, and some APIs write the base path in another case. If
    /// the link differs in nothing else, the page is called below the base.
    ///
    /// # Errors
    /// It lies elsewhere.
    pub fn page(&self, link: &str) -> Result<Target, Failure> {
        match self.below_base_in_any_form(link) {
            Some(below) => self.target(&format!("{}{below}", self.0), &[]),
            None => self.target(link, &[]),
        }
    }

    /// What `link` adds to the base, if the scheme and the case of the path do not count.
    fn below_base_in_any_form(&self, link: &str) -> Option<String> {
        let url = Url::parse(link).ok()?;
        // With another scheme, the default port is another.
        let is_same_port = url.port() == self.0.port()
            || url.port_or_known_default() == self.0.port_or_known_default();
        let is_same_place = matches!(url.scheme(), "http" | "https")
            && url.host() == self.0.host()
            && is_same_port
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        // The base may be written without its last slash.
        let path = format!("{}/", url.path());
        let base = self.0.path();
        let is_below = path
            .get(..base.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(base));
        if !is_same_place || !is_below {
            return None;
        }
        let below = url.path().get(base.len()..).unwrap_or_default();
        let query = url.query().map(|query| format!("?{query}"));
        Some(format!("{below}{}", query.unwrap_or_default()))
    }

    /// The path of `target` below the base, as it is sent.
    pub(crate) fn path<'t>(&self, target: &'t Target) -> &'t str {
        target
            .path()
            .strip_prefix(self.0.path())
            .unwrap_or_default()
    }

    fn origin(&self) -> (&str, Option<&str>, Option<u16>) {
        (
            self.0.scheme(),
            self.0.host_str(),
            self.0.port_or_known_default(),
        )
    }

    fn is_own_origin(&self, url: &Url) -> bool {
        (url.scheme(), url.host_str(), url.port_or_known_default()) == self.origin()
            && url.username().is_empty()
            && url.password().is_none()
    }

    /// What `endpoint` adds to the base. The checks look at it as it was written.
    fn below_base<'e>(&self, endpoint: &'e str) -> Result<&'e str, &'static str> {
        if endpoint.contains('#') {
            return Err("'#' would begin a fragment");
        }
        if endpoint.chars().any(|c| c.is_control() || c == '\\') {
            return Err("it holds a control character or a backslash");
        }
        if endpoint.starts_with("//") {
            return Err("it begins with two slashes");
        }
        let below = match endpoint.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                // `url` would map or decode such a host; the base's own host is plain.
                if authority.is_empty() || !authority.is_ascii() || authority.contains('%') {
                    return Err("it does not lie under the base URL");
                }
                let url = Url::parse(endpoint).map_err(|_| "it is not a URL")?;
                // The base may be written without its last slash.
                let is_base = self.0.path().strip_suffix('/') == Some(path);
                let below = if is_base {
                    Some("")
                } else {
                    path.strip_prefix(self.0.path())
                };
                // An empty userinfo is lost in parsing.
                let is_own = self.is_own_origin(&url) && !authority.contains('@');
                below
                    .filter(|_| is_own)
                    .ok_or("it does not lie under the base URL")?
            }
            _ => endpoint.strip_prefix('/').unwrap_or(endpoint),
        };
        let path = below.split('?').next().unwrap_or_default();
        if path.split('/').any(escapes) {
            return Err(
                "it holds a segment that leads upwards or could be read so, an encoded control character, or %u and a number",
            );
        }
        Ok(below)
    }
}

/// How many times a segment is decoded. What is still encoded then is refused: for a long segment,
/// going on could take hours.
const MOST_DECODINGS: usize = 16;

/// Whether a segment could be read as `.` or `..`, however often a server decodes it, whichever
/// slash it takes for one, and with or without path parameters or white space (RFC 3986 §3.3,
/// §5.2.4). What is not UTF-8 is refused: a lax decoder takes overlong forms for dots (RFC 3629
/// §10).
fn escapes(segment: &str) -> bool {
    let mut decoded = Cow::Borrowed(segment);
    for _ in 0..=MOST_DECODINGS {
        let is_upward = |part: &str| {
            matches!(
                part.split([';', '?', '#']).next().map(str::trim),
                Some("." | "..")
            )
        };
        let plain = without_lookalikes(&decoded);
        if plain.split(['/', '\\']).any(is_upward)
            || has_disguised_dots(&decoded)
            || has_disguised_dots(&plain)
            || decoded.contains(char::is_control)
            || has_wide_escape(&decoded)
        {
            return true;
        }
        decoded = match percent_encoding::percent_decode_str(&decoded).decode_utf8() {
            // Nothing was encoded.
            Ok(Cow::Borrowed(_)) => return false,
            Ok(Cow::Owned(once_more)) => once_more.into(),
            Err(_) => return true,
        }
    }
    true
}

/// Replaces the characters that compatibility mappings (Unicode TR #15, best-fit code pages) turn
/// into dots, slashes and backslashes.
fn without_lookalikes(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    text.replace(['\u{2024}', '\u{fe52}', '\u{ff0e}'], ".")
        .replace(['\u{2025}', '\u{fe30}'], "..")
        .replace(['\u{2044}', '\u{2215}', '\u{ff0f}'], "/")
        .replace(['\u{fe68}', '\u{ff3c}'], "\\")
        .into()
}

/// Whether two dots stand beside a character that is not ASCII, or have an invisible one between
/// them. Some APIs map such a character to a slash or a backslash (`∖`, `¥`, `₩`, `⧵`, `⧸`), others
/// drop it.
fn has_disguised_dots(segment: &str) -> bool {
    let mut runs = segment.split(|c: char| c.is_ascii() && c != '.');
    runs.any(|run| {
        let is_kept = |c: &char| *c == '.' || c.is_alphanumeric();
        let kept: String = run.chars().filter(is_kept).collect();
        !run.is_ascii() && kept.contains("..")
    })
}

/// Whether `text` contains `%u` and four hexadecimal digits. That is not an encoding (RFC 3986
/// §2.1), but http.sys of Windows decodes it.
fn has_wide_escape(text: &str) -> bool {
    let is_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let is_wide = |rest: &str| matches!(rest.as_bytes(), [b'u' | b'U', a, b, c, d, ..] if is_digits(&[*a, *b, *c, *d]));
    text.split('%').skip(1).any(is_wide)
}
