//! Connections that this server makes: to Entra, to the API, and to ask whether a server runs here.
//! One set of rules for all of them: TLS by the system's certificates, no redirects, bounded heads.

pub mod resolver;
pub mod retry_after;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a connection reads into, and one byte more than the head of an answer may have: one that fills it would
/// else look like a connection that has ended;
const INPUT_BYTES: usize = 64 * 1024;
/// and what it sends from, which holds each line of the head of a request: more than most servers take.
pub const OUTPUT_BYTES: usize = 32 * 1024;
/// An agent that verifies TLS with the operating system's certificates, follows no redirect and
/// speaks plain HTTP only to a loopback host.
pub fn agent_config(url: &Url) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    let is_loopback = url.host_str().is_some_and(is_loopback_host);
    let builder = Agent::config_builder();
    // What a proxy on another machine calls localhost is not what we do.
    let builder = if is_loopback {
        builder.proxy(None)
    } else {
        builder
    };
    let tls =
        TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    builder
        .tls_config(tls.root_certs(RootCerts::PlatformVerifier).build())
        .https_only(!is_loopback)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .input_buffer_size(INPUT_BYTES)
        .max_response_header_size(INPUT_BYTES - 1)
        .output_buffer_size(OUTPUT_BYTES)
        .user_agent(concat!("entra-auth-mcp/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
}

/// A transport error in words, with what to do about it.
pub fn explain(error: &ureq::Error) -> String {
    format!("{error}. {}", mend(error))
}

/// Whether the name of the host could not be resolved. The standard library has no kind for it: on Unix there are its
/// words, on Windows the numbers from WSAHOST_NOT_FOUND to WSANO_DATA.
pub fn is_unresolved(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) if matches!(error.raw_os_error(), Some(11001..=11004)) => true,
        _ => error.to_string().contains("failed to lookup address"),
    }
}

/// What to do about a transport error.
pub fn mend(error: &ureq::Error) -> &'static str {
    let text = error.to_string();
    match error {
        _ if is_unresolved(error) => "Check the host name, the network and the proxy settings.",
        ureq::Error::Timeout(_) => "The other side took too long.",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) if text.contains("No CA certificates") => {
            "This machine has no root certificates: install ca-certificates, or set SSL_CERT_FILE."
        }
        _ if text.contains("certificate") => {
            "Its TLS certificate was not accepted; where a proxy inspects TLS, add the proxy's root certificate to the \
             system's store or name it in SSL_CERT_FILE."
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "Nothing listens there, or a proxy is needed (HTTPS_PROXY)."
        }
        _ => "Check the network, and what stands between here and there (firewall, proxy).",
    }
}

/// Whether `host` names this machine alone.
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
