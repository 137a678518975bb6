//! A strict little browser: what it sends along, and what it keeps back, is what Chromium does
//! for a top-level navigation. Stricter in two points, so that what works here works everywhere:
//! `Secure` cookies need https even on loopback (Safari), and a cookie without `SameSite` is Lax
//! from the first second (Chromium waits two minutes).

use super::http::{Client, Reply, target_of};
use super::{Pairs, encode_pairs};
use url::{Position, Url};

const MAX_REDIRECTS: usize = 20;

/// The Fetch Metadata of an address that a person has typed, for requests without a [`Browser`].
pub const TYPED: [(&str, &str); 3] = [
    ("Sec-Fetch-Site", "none"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

#[derive(Clone, Debug)]
pub struct Cookie {
    pub name: String,
    pub value: String,
    pub host: String,
    /// For the hosts below `host`, too.
    pub has_domain: bool,
    pub path: String,
    pub secure: bool,
    pub http_only: bool,
    pub same_site: SameSite,
}

impl Cookie {
    /// `None` where a browser refuses it. The flag says that it deletes (RFC 6265bis §5.6, 5.7).
    fn parse(header: &str, url: &Url) -> Option<(Self, bool)> {
        // RFC 6265bis §5.6: no other white space.
        let mut parts = header.split(';').map(|part| part.trim_matches([' ', '\t']));
        let (name, value) = parts.next()?.split_once('=')?;
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            host: url.host_str()?.to_owned(),
            has_domain: false,
            path: default_path(url.path()),
            secure: false,
            http_only: false,
            same_site: SameSite::Lax,
        };
        let mut expired = false;
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match key.to_ascii_lowercase().as_str() {
                "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
                "max-age" => expired = value.parse::<i64>().is_ok_and(|age| age <= 0),
                "expires" => expired |= value.contains("1970"),
                "secure" => cookie.secure = true,
                "httponly" => cookie.http_only = true,
                "domain" => {
                    cookie.has_domain = true;
                    value.trim_start_matches('.').clone_into(&mut cookie.host);
                }
                "samesite" => {
                    cookie.same_site = match value.to_ascii_lowercase().as_str() {
                        "strict" => SameSite::Strict,
                        "none" => SameSite::None,
                        _ => SameSite::Lax,
                    }
                }
                _ => {}
            }
        }
        let prefix = |prefix: &str| name.to_lowercase().starts_with(prefix);
        let needs_secure =
            cookie.same_site == SameSite::None || prefix("__secure-") || prefix("__host-");
        let refused = cookie.secure && url.scheme() != "https"
            || needs_secure && !cookie.secure
            || prefix("__host-") && (cookie.has_domain || cookie.path != "/")
            || !cookie.is_for_host_of(url);
        (!refused).then_some((cookie, expired))
    }

    fn is_for_host_of(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        let above = host.strip_suffix(self.host.as_str());
        let is_below = above.is_some_and(|name| name.ends_with('.'));
        host == self.host || (self.has_domain && is_below)
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.host, &self.path) == (&other.name, &other.host, &other.path)
    }

    /// Ports do not matter to cookies (RFC 6265bis §8.5), paths and sites do.
    fn goes_with(&self, url: &Url, navigation: &Navigation<'_>) -> bool {
        let same_site = navigation.is_same_site(url);
        let is_safe = matches!(navigation.method, "GET" | "HEAD");
        let site_allows = match self.same_site {
            SameSite::None => true,
            SameSite::Lax => same_site || (is_safe && navigation.load == Load::Window),
            SameSite::Strict => same_site,
        };
        let below = url.path().strip_prefix(&self.path);
        let path_matches = below.is_some_and(|rest| {
            self.path.ends_with('/') || rest.is_empty() || rest.starts_with('/')
        });
        site_allows
            && path_matches
            && self.is_for_host_of(url)
            && (!self.secure || url.scheme() == "https")
    }
}

fn default_path(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(end) => path[..end].to_owned(),
    }
}

/// Fetch Metadata goes to such origins alone (Fetch Metadata §2; Secure Contexts §3.1).
fn is_trustworthy(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https" || host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// An IP address or `localhost` is a site of its own; ports do not matter.
fn is_same_site(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host_str()) == (b.scheme(), b.host_str())
}

/// A page in the window.
#[derive(Clone, Debug)]
pub struct Page {
    pub url: Url,
    pub status: u16,
    pub headers: Pairs,
    pub body: String,
}

impl Page {
    /// One with nothing in it.
    pub fn empty(url: &str) -> Self {
        Self {
            url: Url::parse(url).expect("an absolute URL"),
            status: 200,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let named = headers.find(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    pub fn forms(&self) -> Vec<Form> {
        elements(&self.body, "form")
            .into_iter()
            .map(|(attributes, inner)| Form::parse(&attributes, &inner))
            .collect()
    }

    /// The only form.
    pub fn form(&self) -> Form {
        let mut forms = self.forms();
        assert_eq!(forms.len(), 1, "one form on {}: {}", self.url, self.body);
        forms.remove(0)
    }

    /// `(href, text)` of every link.
    pub fn links(&self) -> Pairs {
        elements(&self.body, "a")
            .into_iter()
            .map(|(attributes, inner)| {
                (
                    attribute(&attributes, "href").unwrap_or_default(),
                    text_of(&inner),
                )
            })
            .collect()
    }

    /// Where the button leads of the page that asks whether a sign-in is meant.
    pub fn confirmation(&self) -> Option<String> {
        let links = self.links().into_iter();
        let mut buttons = links.filter(|(href, _)| href.contains("confirm="));
        buttons.next().map(|(href, _)| href)
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        let head_end = self.body.find("<body").unwrap_or(0);
        text_of(&self.body[head_end..])
    }

    /// A `form_post` page, which a browser posts on by itself.
    pub fn submits_itself(&self) -> bool {
        self.body.contains("document.forms[0].submit()")
    }

    /// CSP `form-action` holds for the whole chain of a submission, redirects included, in
    /// Chromium: a sign-in form with `'self'` never reaches Entra.
    fn allows_submission_to(&self, url: &Url) -> bool {
        let policy = self.header("Content-Security-Policy").unwrap_or_default();
        let mut directives = policy.split(';').map(str::trim);
        let Some(sources) = directives.find_map(|d| d.strip_prefix("form-action")) else {
            return true;
        };
        let matches = |source: &str| match source {
            "'self'" => url.origin() == self.url.origin(),
            "'none'" => false,
            "https:" | "http:" => url.scheme() == source.trim_end_matches(':'),
            other => Url::parse(other).is_ok_and(|allowed| allowed.origin() == url.origin()),
        };
        sources.split_whitespace().any(matches)
    }
}

#[derive(Clone, Debug)]
pub struct Form {
    pub action: String,
    pub method: String,
    /// Hidden fields, and those to type into.
    pub fields: Pairs,
    pub buttons: Vec<Button>,
}

#[derive(Clone, Debug)]
pub struct Button {
    pub name: Option<String>,
    pub value: String,
    pub text: String,
}

impl Form {
    fn parse(attributes: &str, inner: &str) -> Self {
        let method = attribute(attributes, "method").unwrap_or_default();
        let mut form = Self {
            action: attribute(attributes, "action").unwrap_or_default(),
            method: method.to_uppercase().replace("DIALOG", "GET"),
            fields: Vec::new(),
            buttons: Vec::new(),
        };
        for input in tags(inner, "input") {
            let value = attribute(input, "value").unwrap_or_default();
            let name = attribute(input, "name");
            match (attribute(input, "type").as_deref(), name) {
                (Some("submit"), name) => form.buttons.push(Button {
                    name,
                    text: value.clone(),
                    value,
                }),
                (_, Some(name)) => form.fields.push((name, value)),
                _ => {}
            }
        }
        for (attributes, inner) in elements(inner, "button") {
            form.buttons.push(Button {
                name: attribute(&attributes, "name"),
                value: attribute(&attributes, "value").unwrap_or_default(),
                text: text_of(&inner),
            });
        }
        form
    }

    /// By its value, or by a part of its text.
    pub fn button(&self, label: &str) -> Option<&Button> {
        let by_value = self.buttons.iter().find(|b| b.value == label);
        by_value.or_else(|| self.buttons.iter().find(|b| b.text.contains(label)))
    }
}

/// The attributes of every `<name …>`.
fn tags<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let open = format!("<{name}");
    let rests = html.split(&open).skip(1);
    let ours = rests.filter(|rest| rest.starts_with([' ', '>', '\n', '/']));
    ours.map(|rest| rest.split('>').next().unwrap_or_default())
        .collect()
}

/// Attributes and content of every `<name …>…</name>`; our pages do not nest them.
fn elements(html: &str, name: &str) -> Vec<(String, String)> {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let rests = html.split(&open).skip(1);
    rests
        .filter(|rest| rest.starts_with([' ', '>', '\n']))
        .filter_map(|rest| rest.split_once('>'))
        .map(|(attributes, rest)| {
            let inner = rest.split(&close).next().unwrap_or_default();
            (attributes.to_owned(), inner.to_owned())
        })
        .collect()
}

fn attribute(attributes: &str, name: &str) -> Option<String> {
    let at = attributes.find(&format!(" {name}=\""))?;
    let value = &attributes[at + name.len() + 3..];
    Some(unescape_html(value.split('"').next()?))
}

fn text_of(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        let content = piece.split_once('>').map_or(piece, |(_, content)| content);
        let hidden = piece.starts_with("style") || piece.starts_with("script");
        if !hidden {
            text += &unescape_html(content);
            text.push(' ');
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unescape_html(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}

/// What an address is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// The window itself.
    Window,
    /// A frame in a page.
    Frame,
    Image,
    /// In advance, by `<link rel="prefetch">`.
    Prefetch,
    /// In advance, as a page (speculation rules).
    Prerender,
    /// `fetch(…, {mode: "no-cors", credentials: "include"})`.
    Fetch,
}

impl Load {
    /// `Sec-Fetch-Mode`, `Sec-Fetch-Dest` and `Sec-Purpose`.
    fn metadata(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Window => ("navigate", "document", None),
            Self::Frame => ("navigate", "iframe", None),
            Self::Image => ("no-cors", "image", None),
            Self::Prefetch => ("no-cors", "empty", Some("prefetch")),
            Self::Prerender => ("navigate", "document", Some("prefetch;prerender")),
            Self::Fetch => ("no-cors", "empty", None),
        }
    }
}

/// A navigation on its way.
struct Navigation<'a> {
    /// The page that started it; `None` where the person typed or followed a link from outside.
    initiator: Option<&'a Page>,
    load: Load,
    is_submission: bool,
    /// The person has clicked or typed: no script has.
    is_by_person: bool,
    method: &'static str,
    form: Option<String>,
    /// Every URL of the chain so far.
    chain: Vec<Url>,
}

impl<'a> Navigation<'a> {
    fn new(initiator: Option<&'a Page>) -> Self {
        Self {
            initiator,
            load: Load::Window,
            is_submission: false,
            is_by_person: true,
            method: "GET",
            form: None,
            chain: Vec::new(),
        }
    }

    fn is_same_site(&self, url: &Url) -> bool {
        self.initiator
            .is_none_or(|page| is_same_site(&page.url, url))
    }

    /// Fetch Metadata §2.3: the worst of the chain.
    fn fetch_site(&self) -> &'static str {
        let Some(page) = self.initiator else {
            return "none";
        };
        if self
            .chain
            .iter()
            .all(|url| url.origin() == page.url.origin())
        {
            "same-origin"
        } else if self.chain.iter().all(|url| is_same_site(&page.url, url)) {
            "same-site"
        } else {
            "cross-site"
        }
    }

    /// Fetch §3.2, "append a request Origin header".
    fn origin(&self) -> Option<String> {
        let page = self.initiator.filter(|_| self.method != "GET")?;
        let own = page.url.origin();
        let is_taint = |hop: &[Url]| hop[0].origin() != own && hop[1].origin() != hop[0].origin();
        let tainted = self.chain.windows(2).any(is_taint);
        let hidden = page.header("Referrer-Policy") == Some("no-referrer");
        let opaque = tainted || hidden;
        Some(if opaque {
            "null".to_owned()
        } else {
            own.ascii_serialization()
        })
    }

    /// Under `strict-origin-when-cross-origin`, the default.
    fn referer(&self, url: &Url) -> Option<String> {
        let page = self.initiator?;
        match page.header("Referrer-Policy") {
            Some("no-referrer") => None,
            _ if page.url.origin() == url.origin() => Some(page.url.to_string()),
            _ => Some(page.url.origin().ascii_serialization() + "/"),
        }
    }

    /// Fetch Metadata §2, as Chromium sends it.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        let (mode, destination, purpose) = self.load.metadata();
        let mut fields = vec![
            ("Sec-Fetch-Site", self.fetch_site().to_owned()),
            ("Sec-Fetch-Mode", mode.to_owned()),
            ("Sec-Fetch-Dest", destination.to_owned()),
        ];
        if self.is_by_person && self.load == Load::Window {
            fields.push(("Sec-Fetch-User", "?1".to_owned()));
        }
        fields.extend(purpose.map(|purpose| ("Sec-Purpose", purpose.to_owned())));
        fields
    }

    fn redirected(&mut self, status: u16) {
        if matches!(status, 301..=303) {
            self.method = "GET";
            self.form = None;
        }
    }
}

#[derive(Default)]
pub struct Browser {
    /// Sends no Fetch Metadata, as old browsers do and some for plain http.
    pub without_metadata: bool,
    /// A redirect to this path is not followed yet: the page is empty and has the address.
    pub stops_at: Option<&'static str>,
    /// Origins that a proxy serves, and its address. It ends TLS.
    pub proxies: Vec<(String, String)>,
    pub cookies: Vec<Cookie>,
    /// Every URL that was requested, as an address bar or a history could show it.
    pub history: Vec<String>,
    /// Every answer on the way, redirects included, with the URL that it came from.
    pub answers: Vec<(Url, Reply)>,
}

impl Browser {
    pub fn new() -> Self {
        Self::default()
    }

    /// As typed, or from a link in another program.
    pub fn navigate(&mut self, url: &str) -> Page {
        let url = Url::parse(url).expect("an absolute URL");
        self.go(url, Navigation::new(None))
    }

    /// Follows a link, or what a script on `page` would open.
    pub fn follow(&mut self, page: &Page, href: &str) -> Page {
        let url = page.url.join(href).expect("a URL");
        self.go(url, Navigation::new(Some(page)))
    }

    /// What `page` loads by itself, without a click.
    pub fn load_from(&mut self, page: &Page, url: &str, load: Load) -> Page {
        let url = page.url.join(url).expect("a URL");
        let mut navigation = Navigation::new(Some(page));
        navigation.load = load;
        navigation.is_by_person = false;
        self.go(url, navigation)
    }

    /// Presses a button, found by its value or text.
    pub fn submit(&mut self, page: &Page, button: &str) -> Page {
        self.submit_with(page, button, &[])
    }

    /// As [`Browser::submit`], after typing into fields.
    pub fn submit_with(&mut self, page: &Page, button: &str, typed: &[(&str, &str)]) -> Page {
        let forms = page.forms();
        let mut found = forms
            .iter()
            .filter_map(|form| Some((form, form.button(button)?)));
        let Some((form, button)) = found.next() else {
            panic!("no button {button:?} on {}: {}", page.url, page.body)
        };
        let mut fields = form.fields.clone();
        for (name, text) in typed {
            let field = fields
                .iter_mut()
                .find(|(field, _)| field == name)
                .expect("a field of this name");
            (*text).clone_into(&mut field.1);
        }
        let pressed = button.name.clone().map(|name| (name, button.value.clone()));
        fields.extend(pressed);
        self.send(page, form, &fields, true)
    }

    /// Lets the page's script send its form.
    pub fn auto_submit(&mut self, page: &Page) -> Page {
        assert!(page.submits_itself(), "no form_post page: {}", page.body);
        let form = page.form();
        self.send(page, &form, &form.fields, false)
    }

    /// Opens a sign-in link, and presses the button if a page with one comes first.
    pub fn open(&mut self, link: &str) -> Page {
        let page = self.navigate(link);
        match page.confirmation() {
            Some(href) => self.follow(&page, &href),
            None => page,
        }
    }

    /// As [`Browser::sign_in`], but refuses consent.
    pub fn decline(&mut self, link: &str) -> Page {
        self.sign_in(link, "Deny consent")
    }

    /// Opens a sign-in link, picks the account at Entra, and goes on to the last page.
    pub fn sign_in(&mut self, link: &str, username: &str) -> Page {
        let accounts = self.open(link);
        let page = self.submit(&accounts, username);
        if page.submits_itself() {
            self.auto_submit(&page)
        } else {
            page // the response mode `query`, or an error on Entra's own page
        }
    }

    pub fn cookie(&self, name: &str) -> Option<&Cookie> {
        self.cookies.iter().find(|cookie| cookie.name == name)
    }

    fn send(&mut self, page: &Page, form: &Form, fields: &Pairs, is_by_person: bool) -> Page {
        let mut url = page.url.join(&form.action).expect("a form's action");
        let mut navigation = Navigation::new(Some(page));
        navigation.is_submission = true;
        navigation.is_by_person = is_by_person;
        if form.method == "POST" {
            navigation.method = "POST";
            navigation.form = Some(encode_pairs(fields));
        } else {
            url.set_query(Some(&encode_pairs(fields)));
        }
        self.go(url, navigation)
    }

    fn go(&mut self, mut url: Url, mut navigation: Navigation) -> Page {
        for _ in 0..MAX_REDIRECTS {
            if let Some(page) = navigation.initiator.filter(|_| navigation.is_submission) {
                assert!(
                    page.allows_submission_to(&url),
                    "form-action of {} forbids {url}",
                    page.url
                );
            }
            let reply = self.load(&mut navigation, &url);
            match reply.header("Location") {
                Some(location) if matches!(reply.status, 301..=303 | 307 | 308) => {
                    let fragment = url.fragment().map(str::to_owned);
                    url = url.join(location).expect("a Location");
                    // RFC 9110 §10.2.2
                    if url.fragment().is_none() {
                        url.set_fragment(fragment.as_deref());
                    }
                    navigation.redirected(reply.status);
                    if self.stops_at.is_some_and(|path| url.path().ends_with(path)) {
                        return Page::empty(url.as_str());
                    }
                }
                _ => {
                    return Page {
                        url,
                        status: reply.status,
                        body: reply.text(),
                        headers: reply.headers,
                    };
                }
            }
        }
        panic!("redirected without end: {:?}", self.history);
    }

    fn load(&mut self, navigation: &mut Navigation, url: &Url) -> Reply {
        self.history.push(url.to_string());
        navigation.chain.push(url.clone());
        let mut headers = vec![
            (
                "Accept",
                "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8".to_owned(),
            ),
            ("User-Agent", "Mozilla/5.0 (stand-in)".to_owned()),
            (
                "Host",
                url[Position::BeforeHost..Position::AfterPort].to_owned(),
            ),
        ];
        if !self.without_metadata && is_trustworthy(url) {
            headers.extend(navigation.metadata());
        }
        headers.extend(navigation.origin().map(|origin| ("Origin", origin)));
        headers.extend(navigation.referer(url).map(|referer| ("Referer", referer)));
        if navigation.form.is_some() {
            let media_type = "application/x-www-form-urlencoded";
            headers.push(("Content-Type", media_type.to_owned()));
        }
        let cookies = self.cookies_for(url, navigation);
        if !cookies.is_empty() {
            headers.push(("Cookie", cookies));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let body = navigation.form.as_deref().unwrap_or_default();
        let mut client = Client::new(&self.address_of(url));
        let reply = client.request(
            navigation.method,
            &target_of(url),
            &headers,
            body.as_bytes(),
        );
        self.answers.push((url.clone(), reply.clone()));
        for header in reply.headers_named("Set-Cookie") {
            self.store(header, url);
        }
        reply
    }

    fn address_of(&self, url: &Url) -> String {
        let origin = url.origin().ascii_serialization();
        let proxy = self.proxies.iter().find(|(served, _)| *served == origin);
        proxy.map_or_else(|| url.to_string(), |(_, address)| address.clone())
    }

    fn cookies_for(&self, url: &Url, navigation: &Navigation<'_>) -> String {
        let sent = self.cookies.iter().filter(|c| c.goes_with(url, navigation));
        let pairs: Vec<String> = sent.map(|c| format!("{}={}", c.name, c.value)).collect();
        pairs.join("; ")
    }

    fn store(&mut self, header: &str, url: &Url) {
        if let Some((cookie, expired)) = Cookie::parse(header, url) {
            self.cookies.retain(|old| !old.is_same(&cookie));
            if !expired {
                self.cookies.push(cookie);
            }
        }
    }
}
