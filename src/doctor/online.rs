//! What only the network can tell. Nobody is signed in and no token is sent: there is none here.

use std::env;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Body, Proxy, ProxyProtocol};
use url::Url;

use super::report::Finding;
use crate::auth::aadsts;
use crate::auth::authority::{Application, Authority, CLOUDS, ResponseMode};
use crate::auth::oauth_error::OauthError;
use crate::auth::request::{self, Prompt, Proofs, Requirements};
use crate::auth::response::{self, Arrival, AuthorizationResponse};
use crate::clock::Clock;
use crate::config::{Config, PLACEHOLDER, SignInMethod};
use crate::error::Kind;
use crate::outgoing::connector::silent_families;
use crate::outgoing::resolver::{NamedBy, addresses_of};
use crate::outgoing::{agent, agent_config, describe, is_untrusted, mend};
use crate::text::is_guid;

/// How long each step may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How many seconds our clock and Entra's may differ: above the first there is a warning, above the
/// second sign-ins fail.
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
/// "Nobody is signed in": the answer to a right request.
const NOBODY: u32 = 50058;
/// The redirect URI is not registered, or none is.
const OF_REDIRECT_URI: [u32; 2] = [50011, 500_113];

/// Checks the authority and the backend of `config`. What would come after a failure is left out:
/// it would fail for the same reason.
pub fn check(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) {
    for proxy in proxy_variables() {
        if !proxy.is_url {
            let message = format!("{} is not the URL of a proxy and is ignored.", proxy.name);
            let mend = "Write a URL such as http://proxy.example:3128, with user name and password percent-encoded.";
            findings.push(Finding::warning("proxy", &message, mend));
        }
    }
    let last = match entra(config, clock, findings) {
        Ok(finding) | Err(finding) => finding,
    };
    findings.push(last);
    if let Some(base) = &config.backend {
        let last = match backend(base, findings) {
            Ok(finding) | Err(finding) => finding,
        };
        findings.push(last);
    }
}

/// The last finding about Entra, or the failure that ends the checks of it.
fn entra(config: &Config, clock: &Clock, findings: &mut Vec<Finding>) -> Result<Finding, Finding> {
    let url = config.authority.discovery();
    let setting = host_setting(&config.authority);
    let mut answer = reach("discovery", &url, setting, findings)?;
    findings.extend(skew(answer.headers(), clock));
    findings.push(discovery(config, &url, &mut answer)?);
    registration(config)
}

/// The setting that names the host of `authority`, as far as the host shows.
fn host_setting(authority: &Authority) -> &'static str {
    match cloud_of(&authority.origin()) {
        Some(_) => "AZURE_CLOUD",
        None => "AZURE_AUTHORITY_HOST",
    }
}

/// The cloud whose sign-in host `origin` is.
fn cloud_of(origin: &str) -> Option<&'static str> {
    CLOUDS
        .iter()
        .find(|cloud| cloud.origin == origin)
        .map(|cloud| cloud.name)
}

/// A variable that is set, and whether ureq can make a proxy of it.
struct ProxyVariable {
    name: &'static str,
    is_url: bool,
}

fn proxy_variables() -> Vec<ProxyVariable> {
    let mut found = Vec::new();
    for name in PROXIES {
        if let Ok(value) = env::var(name)
            && !value.is_empty()
        {
            let is_url = Proxy::new(&value).is_ok();
            found.push(ProxyVariable { name, is_url });
        }
    }
    found
}

/// The answer from `url`, which `setting` names, after a look at proxy, name and TLS on the way
/// there.
fn reach(
    check: &'static str,
    url: &Url,
    setting: &str,
    findings: &mut Vec<Finding>,
) -> Result<Response<Body>, Finding> {
    let host = url.host_str().unwrap_or_default();
    if let Some(proxy) = proxy_for(url) {
        findings.push(through(host, &proxy)?);
    } else {
        let message = format!("No proxy is set for {host}.");
        findings.push(Finding::ok("proxy", &message));
        name(url, setting, findings)?;
    }
    let answer = get(check, url)?;
    let message = if url.scheme() == "http" {
        format!("{host} is this machine: no TLS is needed.")
    } else {
        format!("This machine trusts the certificate of {host}.")
    };
    findings.push(Finding::ok("tls", &message));
    Ok(answer)
}

/// The proxy that requests to `url` go through.
fn proxy_for(url: &Url) -> Option<Proxy> {
    let config = agent_config(url).build();
    let proxy = config.proxy()?;
    let uri: Uri = url.as_str().parse().ok()?;
    (!proxy.is_no_proxy(&uri)).then(|| proxy.clone())
}

fn through(host: &str, proxy: &Proxy) -> Result<Finding, Finding> {
    let variables = proxy_variables();
    let used = variables.iter().find(|proxy| proxy.is_url);
    let variable = used.map_or("environment", |proxy| proxy.name);
    let address = format!("{}:{}", proxy.host(), proxy.port());
    let protocol = proxy.protocol();
    let message = format!(
        "{host} is reached through the proxy {address} ({variable}, {protocol}), which resolves the name."
    );
    if matches!(protocol, ProxyProtocol::Http | ProxyProtocol::Https) {
        return Ok(Finding::ok("proxy", &message));
    }
    let mend = "SOCKS is not supported: name an HTTP proxy, or add the host to NO_PROXY.";
    Err(Finding::failure("proxy", &message, mend))
}

/// Looks the host of `url` up and tries each family of its addresses.
fn name(url: &Url, setting: &str, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    let host = url.host_str().unwrap_or_default();
    let addresses = addresses_of(host, NamedBy::Settings, DEADLINE).map_err(|error| {
        let mend =
            format!("Check {setting}, the network, and whether a proxy is needed (HTTPS_PROXY).");
        Finding::failure("dns", &format!("{error}."), &mend)
    })?;
    let texts: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let message = format!("{host} resolves to {}.", texts.join(", "));
    findings.push(Finding::ok("dns", &message));
    let port = url.port_or_known_default().unwrap_or_default();
    let silent = silent_families(&addresses, port);
    let is_mixed = addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6);
    match silent.as_slice() {
        [] => Ok(()),
        [family] if is_mixed => {
            let message = format!("{host} does not answer over {family}.");
            let mend = format!(
                "Have this machine's {family} or the firewall mended: connections are made over the other family, later."
            );
            findings.push(Finding::warning("connect", &message, &mend));
            Ok(())
        }
        families => {
            let families = families.join(" or ");
            let message = format!("{host} does not answer over {families}.");
            let mend =
                "Check the network and the firewall, and whether a proxy is needed (HTTPS_PROXY).";
            Err(Finding::failure("connect", &message, mend))
        }
    }
}

/// The answer from `url`, without a token. Where there is none, that is a failure of `check`, or of
/// TLS where the other side is not trusted.
fn get(check: &'static str, url: &Url) -> Result<Response<Body>, Finding> {
    let config = agent_config(url).timeout_global(Some(DEADLINE)).build();
    agent(config).get(url.as_str()).call().map_err(|error| {
        let check = if is_untrusted(&error) { "tls" } else { check };
        let reason = describe(&error);
        let message = format!("{} cannot be reached: {reason}.", url.authority());
        Finding::failure(check, &message, mend(&error))
    })
}

/// The body of the answer from `url`.
fn text_of(check: &'static str, url: &Url, answer: &mut Response<Body>) -> Result<String, Finding> {
    match answer.body_mut().read_to_vec() {
        Ok(body) => Ok(String::from_utf8_lossy(&body).into_owned()),
        Err(error) => {
            let reason = describe(&error);
            let message = format!(
                "The answer of {} cannot be read: {reason}.",
                url.authority()
            );
            Err(Finding::failure(check, &message, mend(&error)))
        }
    }
}

/// The tenant's discovery document (OpenID Connect Discovery §4).
fn discovery(config: &Config, url: &Url, answer: &mut Response<Body>) -> Result<Finding, Finding> {
    let status = answer.status().as_u16();
    let text = text_of("discovery", url, answer)?;
    if let Some(error) = OauthError::parse(text.as_bytes()) {
        let failure = error.failure(&config.application(), "the discovery document");
        return Err(Finding::failed("discovery", failure));
    }
    if status == 429 || status >= 500 {
        let message = format!("{url} answers with status {status}.");
        let mend = "Run doctor again in some minutes.";
        return Err(Finding::failure("discovery", &message, mend));
    }
    let document: Map<String, Value> =
        serde_json::from_str(&text).map_err(|_| no_document(config, url, status))?;
    let Some(issuer) = document.get("issuer").and_then(Value::as_str) else {
        return Err(no_document(config, url, status));
    };
    let authority = &config.authority;
    if !is_accepted(authority, issuer) {
        return Err(other_issuer(authority, issuer));
    }
    for name in ["authorization_endpoint", "token_endpoint"] {
        let endpoint = document.get(name).and_then(Value::as_str);
        if let Some(finding) = endpoint.and_then(|endpoint| elsewhere(authority, name, endpoint)) {
            return Ok(finding);
        }
    }
    let tenant = authority.tenant().segment();
    let message = format!("The tenant {tenant} exists; its issuer is {issuer}.");
    // A domain name becomes its GUID in the issuer.
    let tid = issuer.split('/').rev().nth(1).filter(|tid| is_guid(tid));
    Ok(match tid {
        Some(tid) if tenant.contains('.') => {
            let mend = format!(
                "Set AZURE_TENANT_ID to {tid}: then tokens of any other tenant are refused."
            );
            Finding::advice("discovery", &message, &mend)
        }
        _ => Finding::ok("discovery", &message),
    })
}

/// What answers is no discovery document: most of all, the tenant is mistyped or of another cloud.
fn no_document(config: &Config, url: &Url, status: u16) -> Finding {
    let tenant = config.authority.tenant().segment();
    let host = config.authority.origin();
    let setting = host_setting(&config.authority);
    let message = format!("There is no discovery document at {url} (status {status}).");
    let mend = format!(
        "Check AZURE_TENANT_ID ({tenant}) and {setting} ({host}), and whether a proxy answers in Entra's place."
    );
    Finding::failure("discovery", &message, &mend)
}

/// Whether ID tokens of `issuer` are accepted. Where any tenant is meant, the document has a
/// template.
fn is_accepted(authority: &Authority, issuer: &str) -> bool {
    match authority.tenant().guid() {
        Some(_) => authority.may_be_issuer(issuer),
        None => authority.may_be_issuer(&issuer.replace("{tenantid}", PLACEHOLDER)),
    }
}

/// ID tokens will be refused, as they are of `issuer`.
fn other_issuer(authority: &Authority, issuer: &str) -> Finding {
    let message =
        format!("ID tokens will be refused: the discovery document names the issuer {issuer:?}.");
    let ours = authority.origin();
    let theirs = Url::parse(issuer).map(|url| url.origin().ascii_serialization());
    let mend = match theirs {
        Ok(origin) if origin == ours => format!(
            "Check AZURE_TENANT_ID ({}): that issuer is of another tenant.",
            authority.tenant().segment()
        ),
        Ok(origin) if origin.starts_with("https://") => format!(
            "{} Otherwise check whether a proxy answers in Entra's place at {ours}.",
            use_host(&origin)
        ),
        _ => format!(
            "Check {} ({ours}), and whether a proxy answers in Entra's place.",
            host_setting(authority)
        ),
    };
    Finding::failure("discovery", &message, &mend)
}

/// How to make `origin` the authority.
fn use_host(origin: &str) -> String {
    match cloud_of(origin) {
        Some(cloud) => format!("Set AZURE_CLOUD to {cloud} and leave AZURE_AUTHORITY_HOST out."),
        None => format!("Set AZURE_AUTHORITY_HOST to {origin} if you trust that host."),
    }
}

/// A warning where `endpoint` is not at the authority, which this server uses all the same.
fn elsewhere(authority: &Authority, name: &str, endpoint: &str) -> Option<Finding> {
    let ours = authority.origin();
    let theirs = Url::parse(endpoint).ok()?.origin().ascii_serialization();
    if theirs == ours {
        return None;
    }
    let message =
        format!("The discovery document has its {name} at {theirs}, but this server uses {ours}.");
    let mend = format!("If sign-ins fail: {}", use_host(&theirs));
    Some(Finding::warning("discovery", &message, &mend))
}

/// How far our clock is from the `Date` of Entra's answer (RFC 9110 §6.6.1).
fn skew(headers: &HeaderMap, clock: &Clock) -> Option<Finding> {
    let date = httpdate::parse_http_date(headers.get("date")?.to_str().ok()?).ok()?;
    let theirs = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let seconds = clock.now().abs_diff(theirs);
    let message = format!("This machine's clock and Entra's are {seconds} seconds apart.");
    let mend = "Set this machine's clock, best by NTP.";
    Some(if seconds > MOST_SKEW {
        Finding::failure("clock", &message, mend)
    } else if seconds > GOOD_SKEW {
        Finding::warning("clock", &message, mend)
    } else {
        Finding::ok("clock", &message)
    })
}

/// Asks Entra to answer the redirect URI without a page, as nobody is signed in here: it does so
/// only when client and redirect URI are registered. What it sends there goes nowhere.
fn registration(config: &Config) -> Result<Finding, Finding> {
    let proofs = Proofs::random().map_err(|failure| Finding::failed("registration", failure))?;
    let requirements = Requirements {
        prompt: Some(Prompt::None),
        ..Requirements::default()
    };
    let application = Application {
        response_mode: ResponseMode::Query,
        domain_hint: None,
        ..config.application()
    };
    let url = request::url(&application, &proofs, &requirements, None);
    let mut answer = get("registration", &url)?;
    let status = answer.status().as_u16();
    let returned = returned_to(application.redirect_uri, answer.headers());
    let error = if let Some(response) = returned {
        response.outcome.err()
    } else {
        let page = text_of("registration", &url, &mut answer)?;
        OauthError::parse(page.as_bytes()).or_else(|| on_page(&page))
    };
    match error {
        Some(error) => explained(config, &error),
        None => unexplained(config, status),
    }
}

/// The authorization response, where the answer sends one to `redirect_uri`.
fn returned_to(redirect_uri: &str, headers: &HeaderMap) -> Option<AuthorizationResponse> {
    let location = headers.get("location")?.to_str().ok()?;
    let (_, query) = location.strip_prefix(redirect_uri)?.split_once('?')?;
    match response::parse(query.as_bytes()).ok()? {
        Arrival::Response(response) => Some(*response),
        Arrival::AdminConsent => None,
    }
}

/// What `error`, the answer to the trial, says of the registration.
fn explained(config: &Config, error: &OauthError) -> Result<Finding, Finding> {
    let number = error.details.aadsts;
    if error.kind() == Kind::SignInRequired || number == Some(NOBODY) {
        let message = "Entra knows the client id and the redirect URI.";
        return Ok(Finding::ok("registration", message));
    }
    let is_of_redirect_uri = number.is_some_and(|number| OF_REDIRECT_URI.contains(&number));
    if is_of_redirect_uri && config.sign_in_method == SignInMethod::DeviceCode {
        let message = "Entra knows the client id. It does not know the redirect URI, which device codes do not need.";
        return Ok(Finding::ok("registration", message));
    }
    let failure = error.failure(
        &config.application(),
        "a trial of the authorization request",
    );
    Err(Finding::failed("registration", failure))
}

/// What `status`, the answer to the trial, says of the registration where no error can be read.
fn unexplained(config: &Config, status: u16) -> Result<Finding, Finding> {
    let application = config.application();
    if status == 429 || status >= 500 {
        let message = format!("The trial of a sign-in was answered with status {status}.");
        let mend = "Run doctor again in some minutes.";
        return Ok(Finding::warning("registration", &message, mend));
    }
    if status >= 400 {
        let message = format!(
            "The trial of a sign-in was refused with status {status}; the page does not say why."
        );
        let id = application.client_id;
        let tenant = application.authority.tenant().segment();
        let registered = aadsts::registered(application.redirect_uri);
        let mend = format!(
            "Check that AZURE_CLIENT_ID ({id}) is registered in AZURE_TENANT_ID ({tenant}), and that {registered} is \
             registered under \"Mobile and desktop applications\". Open a sign-in link to see the page."
        );
        return match config.sign_in_method {
            // It may be the redirect URI alone, which device codes do not need.
            SignInMethod::DeviceCode => Ok(Finding::warning("registration", &message, &mend)),
            SignInMethod::Browser => Err(Finding::failure("registration", &message, &mend)),
        };
    }
    let mut mend = vec!["Sign in once. If Entra's page shows an error:".to_owned()];
    for (number, advice) in aadsts::own_page(&application) {
        mend.push(format!(
            "AADSTS{number}: {}. {}",
            advice.title, advice.remedy
        ));
    }
    let message = "Entra does not tell without a person whether the registration is right.";
    Ok(Finding::advice("registration", message, &mend.join(" ")))
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
    let status = answer.status().as_u16();
    let message = format!("{base} answers a request without a token with status {status}");
    Ok(match status {
        401 if wants_token(answer.headers()) => Finding::ok(
            "backend",
            &format!("{message}: it wants a token, as it should."),
        ),
        200..=299 => Finding::ok(
            "backend",
            &format!("{message}: this address needs no token."),
        ),
        300..=399 => Finding::warning(
            "backend",
            &format!("{message}, a redirect."),
            "Redirects are not followed: set BACKEND_API_BASE_URL to where it leads, if that is your API.",
        ),
        _ => Finding::ok("backend", &format!("{message}.")),
    })
}

/// Whether a bearer token is asked for (RFC 6750 §3).
fn wants_token(headers: &HeaderMap) -> bool {
    headers.get_all("www-authenticate").iter().any(|challenge| {
        challenge
            .as_bytes()
            .to_ascii_lowercase()
            .starts_with(b"bearer")
    })
}
