//! What only the network can tell. Nobody is signed in and no token is sent: there is none here.

use std::env;
use std::io::ErrorKind;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Body, Proxy, ProxyProtocol};
use url::Url;

use super::{Finding, Level, tls};
use crate::auth::aadsts;
use crate::auth::authority::ResponseMode;
use crate::auth::request::{self, Hints, Prompt, Proofs, Requirements};
use crate::auth::response::{self, Arrival};
use crate::auth::token_endpoint::OauthError;
use crate::auth::token_endpoint::refusal;
use crate::clock::Clock;
use crate::config::{Config, SignInMethod};
use crate::error::Kind;
use crate::outgoing::{agent_config, mend};
use crate::text::is_guid;

/// For each step.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How far our clock and Entra's may be apart, in seconds: more is worth a warning, or fails sign-ins.
const GOOD_SKEW: u64 = 60;
const MOST_SKEW: u64 = 300;
/// The variables that ureq takes a proxy from, in its order.
const PROXIES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];
/// "Nobody is signed in", which is what we ask for.
const NOBODY: u32 = 50058;
/// The redirect URI is not registered, or none is.
const OF_REDIRECT_URI: [u32; 2] = [50011, 500_113];

/// What was answered, or the failure to get an answer.
type Answer = Result<Response<Body>, Finding>;

/// Everything about the authority and the backend of `config`. What would come after a failure is left out:
/// it would fail for the same reason.
pub fn check(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) {
    for (name, _) in proxy_variables().filter(|(_, is_url)| !is_url) {
        let mend = "Write a URL such as http://proxy.example:3128, with user name and password percent-encoded.";
        findings.push(Finding::warning(
            "proxy",
            &format!("{name} is not a proxy's URL and is skipped."),
            mend,
        ));
    }
    let last = entra(config, clock, findings).unwrap_or_else(|failure| failure);
    findings.push(last);
    let last = config
        .backend
        .as_ref()
        .map(|base| backend(base, findings).unwrap_or_else(|failure| failure));
    findings.extend(last);
}

fn entra(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) -> Result<Finding, Finding> {
    let mut answer = reach(
        "discovery",
        &config.authority.discovery(),
        "AZURE_AUTHORITY_HOST",
        findings,
    )?;
    findings.extend(skew(answer.headers(), clock));
    findings.push(discovery(config, &mut answer)?);
    registration(config)
}

/// The variables that are set, and whether ureq can make a proxy of them.
fn proxy_variables() -> impl Iterator<Item = (&'static str, bool)> {
    let values = PROXIES
        .into_iter()
        .filter_map(|name| Some((name, env::var(name).ok()?)));
    values
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, Proxy::new(&value).is_ok()))
}

/// The answer of whoever is at `url`, which `setting` names, after a look at proxy, name and TLS on the way there.
fn reach(check: &'static str, url: &Url, setting: &str, findings: &mut Vec<Finding>) -> Answer {
    let (host, config) = (
        url.host_str().unwrap_or_default(),
        agent_config(url).build(),
    );
    let is_meant = |proxy: &&Proxy| {
        url.as_str()
            .parse::<Uri>()
            .is_ok_and(|uri| !proxy.is_no_proxy(&uri))
    };
    let proxy = config.proxy().filter(is_meant).cloned();
    if let Some(proxy) = &proxy {
        findings.push(through(host, proxy)?);
    } else {
        findings.push(Finding::ok(
            "proxy",
            &format!("{host} is reached without a proxy."),
        ));
        findings.push(name(url, setting)?);
    }
    if url.scheme() == "http" {
        findings.push(Finding::ok(
            "tls",
            &format!("{host}: no TLS, as it is a loopback host."),
        ));
        return get(check, url, "");
    }
    let target = url.clone();
    let shown = in_time(move || tls::certificates(&target, proxy.as_ref()))
        .flatten()
        .unwrap_or_default();
    let answer = get(check, url, &shown)?;
    let note = "If an issuer is a proxy of your organization, it reads this traffic.";
    findings.push(Finding::ok(
        "tls",
        &format!("{host} is trusted. {shown} {note}"),
    ));
    Ok(answer)
}

fn through(host: &str, proxy: &Proxy) -> Result<Finding, Finding> {
    let name = proxy_variables()
        .find(|(_, is_url)| *is_url)
        .map_or("", |(name, _)| name);
    let (protocol, address) = (
        proxy.protocol(),
        format!("{}:{}", proxy.host(), proxy.port()),
    );
    let message = format!(
        "{host} is reached through {address} ({name}), and looked up by the proxy ({protocol})."
    );
    if matches!(protocol, ProxyProtocol::Http | ProxyProtocol::Https) {
        return Ok(Finding::ok("proxy", &message));
    }
    Err(Finding::failure(
        "proxy",
        &message,
        "SOCKS is not supported: name an HTTP proxy, or add the host to NO_PROXY.",
    ))
}

fn name(url: &Url, setting: &str) -> Result<Finding, Finding> {
    let (host, target) = (url.host_str().unwrap_or_default(), url.clone());
    let found = in_time(move || target.socket_addrs(|| None))
        .unwrap_or_else(|| Err(ErrorKind::TimedOut.into()));
    let addresses = found.map_err(|error| {
        let mend =
            format!("Check {setting}, the network, and whether a proxy is needed (HTTPS_PROXY).");
        Finding::failure(
            "dns",
            &format!("{host} cannot be looked up ({error})."),
            &mend,
        )
    })?;
    let addresses: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    Ok(Finding::ok(
        "dns",
        &format!("{host} is {}.", addresses.join(", ")),
    ))
}

/// What `work` gives within the deadline; afterwards its thread is left to itself.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .spawn(move || sender.send(work()))
        .ok()?;
    receiver.recv_timeout(DEADLINE).ok()
}

/// The answer of whoever is at `url`, without a token. Where there is none, that is a failure of `check`, or of
/// TLS, if it is about the certificates; `shown` says which they are.
fn get(check: &'static str, url: &Url, shown: &str) -> Answer {
    let agent = agent_config(url)
        .timeout_global(Some(DEADLINE))
        .build()
        .new_agent();
    agent.get(url.as_str()).call().map_err(|error| {
        let check = if error.to_string().contains("certificate") {
            "tls"
        } else {
            check
        };
        let message = format!("{} cannot be reached: {error}. {shown}", url.authority());
        Finding::failure(check, &message, mend(&error))
    })
}

/// The tenant's discovery document (OpenID Connect Discovery §4).
fn discovery(config: &Config, answer: &mut Response<Body>) -> Result<Finding, Finding> {
    let (status, text) = (
        answer.status().as_u16(),
        answer.body_mut().read_to_string().unwrap_or_default(),
    );
    if let Some(error) = OauthError::parse(text.as_bytes()) {
        return Err(Finding::failed(
            "discovery",
            refusal(config, &error, "the discovery document"),
        ));
    }
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let member = |name: &str| {
        document
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (authority, tenant) = (&config.authority, config.authority.tenant());
    let (origin, issuer) = (authority.origin(), member("issuer"));
    let is_template = tenant.guid().is_none() && authority.issues(issuer, "{tenantid}");
    // The tenant may stand in the endpoints by another of its names.
    let is_ours = |name: &&str| match *name {
        "issuer" => is_template || authority.may_be_issuer(issuer),
        endpoint => member(endpoint).starts_with(&format!("{origin}/")),
    };
    if let Some(name) = ["issuer", "authorization_endpoint", "token_endpoint"]
        .iter()
        .find(|name| !is_ours(name))
    {
        let message = format!(
            "The discovery document (status {status}) has another {name}: {:?}.",
            member(name)
        );
        let mend = format!(
            "Check AZURE_AUTHORITY_HOST ({origin}), and whether a proxy answers in Entra's place."
        );
        return Err(Finding::failure("discovery", &message, &mend));
    }
    let tid = issuer
        .split('/')
        .rev()
        .nth(1)
        .filter(|tid| is_guid(tid) && tenant.segment().contains('.'));
    let mend = tid.map(|tid| {
        format!("Set AZURE_TENANT_ID to {tid}: then tokens of any other tenant are refused.")
    });
    let message = format!("{} is known; its issuer is {issuer}.", tenant.segment());
    Ok(Finding::new(
        "discovery",
        Level::Ok,
        &message,
        &mend.unwrap_or_default(),
    ))
}

/// How far our clock is from the `Date` of Entra's answer (RFC 9110 §6.6.1).
fn skew(headers: &HeaderMap, clock: &Clock) -> Option<Finding> {
    let date = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
    let seconds = clock
        .now()
        .abs_diff(date.duration_since(UNIX_EPOCH).ok()?.as_secs());
    let (level, mend) = match seconds {
        _ if seconds > MOST_SKEW => (Level::Failure, "Set this machine's clock, best by NTP."),
        _ if seconds > GOOD_SKEW => (Level::Warning, "Set this machine's clock, best by NTP."),
        _ => (Level::Ok, ""),
    };
    Some(Finding::new(
        "clock",
        level,
        &format!("Our clock and Entra's are {seconds} seconds apart."),
        mend,
    ))
}

/// Asks Entra to answer the redirect URI without a page, as nobody is signed in here: it does so only when
/// client and redirect URI are registered. What it sends there goes nowhere.
fn registration(config: &Config) -> Result<Finding, Finding> {
    let proofs = Proofs::random().map_err(|failure| Finding::failed("registration", failure))?;
    let demand = Requirements {
        prompt: Some(Prompt::None),
        ..Requirements::default()
    };
    let application = config.application();
    let url = request::url(
        &application,
        ResponseMode::Query,
        &proofs,
        &demand,
        Hints::default(),
    );
    let mut answer = get("registration", &url, "")?;
    let location = answer
        .headers()
        .get("location")
        .and_then(|location| location.to_str().ok());
    let query = location.and_then(|location| {
        location
            .strip_prefix(application.redirect_uri)?
            .split_once('?')
    });
    let error = match query.and_then(|(_, query)| response::parse(query.as_bytes()).ok()) {
        Some(Arrival::Response(response)) => response.outcome.err(),
        Some(Arrival::AdminConsent) => None,
        None => on_page(&answer.body_mut().read_to_string().unwrap_or_default()),
    };
    let Some(error) = error else {
        let rows = aadsts::own_page(&application);
        let rows = rows
            .iter()
            .map(|(number, advice)| format!("AADSTS{number}: {}. {}", advice.title, advice.remedy));
        let mend = format!(
            "Sign in once. If Entra's page shows an error: {}",
            rows.collect::<Vec<_>>().join(" ")
        );
        let message = "Entra does not tell without a person whether the registration is right.";
        return Ok(Finding::new("registration", Level::Ok, message, &mend));
    };
    if error.kind() == Kind::SignInRequired || error.details.aadsts == Some(NOBODY) {
        return Ok(Finding::ok(
            "registration",
            "Entra knows the client id and the redirect URI.",
        ));
    }
    let is_of_redirect_uri = error
        .details
        .aadsts
        .is_some_and(|number| OF_REDIRECT_URI.contains(&number));
    if is_of_redirect_uri && config.sign_in_method == SignInMethod::DeviceCode {
        let message =
            "Entra knows the client id, and not the redirect URI, which device codes do without.";
        return Ok(Finding::ok("registration", message));
    }
    Err(Finding::failed(
        "registration",
        refusal(config, &error, "a trial of the authorization request"),
    ))
}

/// The error that stands on a page of Entra's, which is for people.
fn on_page(page: &str) -> Option<OauthError> {
    // A number without a colon is some script's.
    let is_error = |text: &&str| {
        text.split_once(':')
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
    };
    let text = page
        .split("AADSTS")
        .skip(1)
        .find(is_error)?
        .split(['<', '"'])
        .next()?;
    Some(OauthError::new("invalid_request", &format!("AADSTS{text}")))
}

/// What the backend says to somebody without a token.
fn backend(base: &Url, findings: &mut Vec<Finding>) -> Result<Finding, Finding> {
    let answer = reach("backend", base, "BACKEND_API_BASE_URL", findings)?;
    let mut challenges = answer.headers().get_all("www-authenticate").iter();
    let wants_token = challenges.any(|challenge| {
        challenge
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"bearer")
    });
    let redirected = "Redirects are not followed: set BACKEND_API_BASE_URL to where it leads, if that is your API.";
    let status = answer.status().as_u16();
    let (level, meaning, mend) = match status {
        401 if wants_token => (Level::Ok, ": it wants a token, as it should", ""),
        200..=299 => (Level::Ok, ": this address needs no token", ""),
        300..=399 => (Level::Warning, ", a redirect", redirected),
        _ => (Level::Ok, "", ""),
    };
    let message =
        format!("{base} answers a request without a token with status {status}{meaning}.");
    Ok(Finding::new("backend", level, &message, mend))
}
