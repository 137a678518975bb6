//! What only the network can tell. Nobody is signed in and no token is sent: there is none here.

use std::env;
use std::io::{ErrorKind, Read as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Body, Proxy, ProxyProtocol};
use url::Url;

use super::{Finding, one_line, tls};
use crate::clock::Clock;
use crate::config::Config;
use crate::entra::{agent_config, mend, refusal};
use crate::oauth::aadsts::{self, Advice};
use crate::oauth::authority::is_guid;
use crate::oauth::authorize::{self, Demand, Hints, Prompt, Proofs, ResponseMode};
use crate::oauth::callback;
use crate::oauth::token::OauthError;

/// For each step.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// A page of Entra's is a few hundred kilobytes.
const MOST_ANSWER_BYTES: u64 = 1024 * 1024;
/// How far our clock and Entra's may be apart, in seconds: it is worth a warning, and it fails sign-ins.
const ODD_SKEW: u64 = 60;
const BAD_SKEW: u64 = 300;
/// The variables that ureq takes a proxy from, in its order.
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// "Nobody is signed in", which is what we ask for.
const NOBODY: u32 = 50058;

/// Everything about the authority and the backend of `config`.
pub fn check(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    // What comes after a failure would fail for the same reason.
    if let Err(failure) = entra(config, clock, &mut findings) {
        findings.push(failure);
    }
    if let Some(base) = &config.backend {
        let found = way_to(base, "BACKEND_API_BASE_URL", &mut findings).and_then(|()| backend(base));
        findings.push(found.unwrap_or_else(|failure| failure));
    }
    findings
}

fn entra(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    let authority = &config.authority;
    way_to(&authority.endpoint("authorize"), "AZURE_AUTHORITY_HOST", findings)?;
    let mut answer = get("discovery", &authority.discovery())?;
    findings.push(skew(answer.headers(), clock));
    findings.push(discovery(config, &mut answer).or_failure()?);
    findings.push(registration(config)?);
    Ok(())
}

/// A warning for each proxy variable that is skipped.
pub fn malformed_proxies() -> impl Iterator<Item = Finding> {
    let is_malformed = |name: &&str| env::var(name).is_ok_and(|value| !value.is_empty() && Proxy::new(&value).is_err());
    PROXIES.into_iter().filter(is_malformed).map(|name| {
        let mend = "Write a URL such as http://proxy.example:3128, with user name and password percent-encoded.";
        Finding::warning("proxy", format!("{name} is not a proxy's URL and is skipped."), mend)
    })
}

/// Proxy, name and TLS on the way to `url`, which `setting` names.
fn way_to(url: &Url, setting: &str, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    let proxy = proxy_for(url);
    findings.push(through(url, proxy.as_ref()).or_failure()?);
    findings.push(name(url, setting, proxy.is_some()).or_failure()?);
    findings.push(tls::check(url, proxy).or_failure()?);
    Ok(())
}

fn through(url: &Url, proxy: Option<&Proxy>) -> Finding {
    let host = url.host_str().unwrap_or_default();
    let Some(proxy) = proxy else { return Finding::ok("proxy", format!("{host} is reached without a proxy.")) };
    let is_proxy = |name: &&str| env::var(name).is_ok_and(|value| Proxy::new(&value).is_ok());
    let name = PROXIES.into_iter().find(is_proxy).unwrap_or_default();
    let (protocol, address) = (proxy.protocol(), format!("{}:{}", proxy.host(), proxy.port()));
    let message = format!("{host} is reached through the {protocol} proxy {address} ({name}).");
    let mend = "SOCKS is not supported: name an HTTP proxy, or add the host to NO_PROXY.";
    match protocol {
        ProxyProtocol::Http | ProxyProtocol::Https => Finding::ok("proxy", message),
        _ => Finding::failure("proxy", message, mend),
    }
}

fn name(url: &Url, setting: &str, by_proxy: bool) -> Finding {
    let host = url.host_str().unwrap_or_default();
    if by_proxy {
        return Finding::ok("dns", format!("{host} is looked up by the proxy."));
    }
    let target = url.clone();
    match in_time(move || target.socket_addrs(|| None)).unwrap_or_else(|| Err(ErrorKind::TimedOut.into())) {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Finding::ok("dns", format!("{host} is {}.", addresses.join(", ")))
        }
        Err(error) => {
            let mend = format!("Check {setting}, the network, and whether a proxy is needed (HTTPS_PROXY).");
            Finding::failure("dns", format!("{host} cannot be looked up ({error})."), mend)
        }
    }
}

/// The proxy that ureq would use.
fn proxy_for(url: &Url) -> Option<Proxy> {
    let uri: Uri = url.as_str().parse().ok()?;
    agent_config(url).build().proxy().filter(|proxy| !proxy.is_no_proxy(&uri)).cloned()
}

/// What `work` gives within the deadline; afterwards its thread is left to itself.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(work())).ok()?;
    receiver.recv_timeout(DEADLINE).ok()
}

/// The answer of whoever is at `url`, without a token; or that there is none, as a finding of `check`.
fn get(check: &'static str, url: &Url) -> Result<Response<Body>, Finding> {
    let agent = agent_config(url).timeout_global(Some(DEADLINE)).build().new_agent();
    let host = url.authority();
    agent
        .get(url.as_str())
        .call()
        .map_err(|error| Finding::failure(check, format!("{host} cannot be reached: {error}."), mend_of(&error)))
}

/// What to do about a transport error.
pub fn mend_of(error: &ureq::Error) -> &'static str {
    match mend(error) {
        "" => "Check the network, and what stands between here and there (firewall, proxy).",
        mend => mend,
    }
}

/// As much of the body as is looked at, as text; nothing where it breaks off.
fn body(answer: &mut Response<Body>) -> String {
    let mut bytes = Vec::new();
    let read = answer.body_mut().as_reader().take(MOST_ANSWER_BYTES).read_to_end(&mut bytes);
    read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The tenant's discovery document (OpenID Connect Discovery §4).
fn discovery(config: &Config, answer: &mut Response<Body>) -> Finding {
    let (status, text) = (answer.status().as_u16(), body(answer));
    match OauthError::parse(text.as_bytes()) {
        Some(error) => Finding::failed("discovery", refusal(config, &error, "the discovery document")),
        None if status == 200 => document(config, &serde_json::from_str(&text).unwrap_or_default()),
        None => Finding::failure(
            "discovery",
            format!("The discovery document is not there (status {status})."),
            "Check AZURE_AUTHORITY_HOST and whether a proxy answers in Entra's place.",
        ),
    }
}

fn document(config: &Config, document: &Value) -> Finding {
    let authority = &config.authority;
    let member = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    let (origin, issuer, tenant) = (authority.origin(), member("issuer"), authority.tenant());
    let is_template = tenant.guid().is_none() && issuer == authority.issuer("{tenantid}");
    // The tenant may stand in them by another of its names.
    let is_endpoint = |endpoint: &str, name: &str| {
        endpoint.starts_with(&format!("{origin}/")) && endpoint.ends_with(&format!("/oauth2/v2.0/{name}"))
    };
    let fits = [
        ("issuer", is_template || authority.may_be_issuer(issuer)),
        ("authorization_endpoint", is_endpoint(member("authorization_endpoint"), "authorize")),
        ("token_endpoint", is_endpoint(member("token_endpoint"), "token")),
    ];
    if let Some((name, _)) = fits.iter().find(|(_, fits)| !fits) {
        let found = member(name);
        return Finding::failure(
            "discovery",
            format!("The discovery document of {} has another {name}: {found:?}.", tenant.segment()),
            format!("Check AZURE_AUTHORITY_HOST ({origin}): the tenant may be in another cloud."),
        );
    }
    let mut finding = Finding::ok("discovery", format!("{} is known; its issuer is {issuer}.", tenant.segment()));
    let tid = issuer.split('/').rev().nth(1).filter(|tid| is_guid(tid));
    if let Some(tid) = tid.filter(|_| tenant.segment().contains('.')) {
        finding.mend = format!("Set AZURE_TENANT_ID to {tid}: then tokens of any other tenant are refused.");
    }
    finding
}

/// How far our clock is from the `Date` of Entra's answer (RFC 9110 §6.6.1).
fn skew(headers: &HeaderMap, clock: &Clock) -> Finding {
    let date = headers.get("date").and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let Some(theirs) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else {
        return Finding::ok("clock", "Entra's answer has no time to compare ours with.");
    };
    let seconds = clock.now().abs_diff(theirs.as_secs());
    let message = format!("Our clock and Entra's are {seconds} seconds apart.");
    let mend = "Set this machine's clock, best by NTP.";
    if seconds > BAD_SKEW {
        Finding::failure("clock", message, mend)
    } else if seconds > ODD_SKEW {
        Finding::warning("clock", message, mend)
    } else {
        Finding::ok("clock", message)
    }
}

/// Asks Entra to answer the redirect URI without a page, as nobody is signed in here: it does so only when
/// client and redirect URI are registered. What it sends there goes nowhere.
fn registration(config: &Config) -> Result<Finding, Finding> {
    let proofs = Proofs::random().map_err(|failure| Finding::failed("registration", failure))?;
    let demand = Demand { prompt: Some(Prompt::Nothing), ..Demand::default() };
    let application = config.application();
    let url = authorize::url(&application, ResponseMode::Query, &proofs, &demand, Hints::default());
    let mut answer = get("registration", &url)?;
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
    let query = location.and_then(|location| {
        location.strip_prefix(config.redirect_uri.text.as_str())?.trim_start_matches('/').strip_prefix('?')
    });
    let error = match query.and_then(|query| callback::parse(query.as_bytes()).ok()) {
        Some(response) => response.outcome.err(),
        None => on_page(&body(&mut answer)),
    };
    let is_expected = |error: &OauthError| {
        error.details.aadsts == Some(NOBODY) || ["login_required", "interaction_required"].contains(&&*error.error)
    };
    Ok(match error {
        Some(error) if !is_expected(&error) => {
            Finding::failed("registration", refusal(config, &error, "a trial of the authorization request"))
        }
        Some(_) => Finding::ok("registration", "Entra knows the client id and the redirect URI."),
        None => Finding {
            mend: one_line(&on_its_page(config)),
            ..Finding::ok("registration", "Entra does not tell without a person whether the registration is right.")
        },
    })
}

/// The error that stands on a page of Entra's, which is for people.
fn on_page(page: &str) -> Option<OauthError> {
    let texts = page.match_indices("AADSTS").filter_map(|(at, _)| page.get(at..)?.split(['<', '"']).next());
    // A number without a colon is some script's.
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let texts =
        texts.filter(|text| text.trim_start_matches("AADSTS").split_once(':').is_some_and(|(n, _)| is_number(n)));
    let mut errors = texts.map(|text| OauthError::new("invalid_request".to_owned(), text));
    errors.find(|error| error.details.aadsts.is_some())
}

fn on_its_page(config: &Config) -> String {
    let rows = aadsts::own_page(&config.application());
    let rows = rows.iter().map(|(number, Advice { title, remedy })| format!("AADSTS{number}: {title}. {remedy}"));
    format!("Sign in once. If Entra's page shows an error: {}", rows.collect::<Vec<_>>().join(" "))
}

/// What the backend says to somebody without a token.
fn backend(base: &Url) -> Result<Finding, Finding> {
    let answer = get("backend", base)?;
    let status = answer.status().as_u16();
    let mut challenges = answer.headers().get_all("www-authenticate").iter();
    let wants_token = challenges.any(|challenge| challenge.as_bytes().to_ascii_lowercase().starts_with(b"bearer"));
    let answered = format!("{base} answers a request without a token with status {status}");
    Ok(match status {
        300..=399 => {
            let mend = "Redirects are not followed: set BACKEND_API_BASE_URL to where it leads, if that is your API.";
            Finding::warning("backend", format!("{answered}, a redirect."), mend)
        }
        401 if wants_token => Finding::ok("backend", format!("{answered}: it wants a token, as it should.")),
        200..=299 => Finding::ok("backend", format!("{answered}: this address needs no token.")),
        _ => Finding::ok("backend", format!("{answered}.")),
    })
}
