//! Connections that this server makes: to Entra, to the API, and to ask whether a server runs here.
//! One set of rules for all of them: TLS by the system's certificates, no redirects, bounded heads.

pub mod public;
pub mod resolver;
pub mod retry_after;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a connection reads into, and one byte more than the head of an answer may have: one that
/// fills it would else look like a connection that has ended;
const INPUT_BYTES: usize = 64 * 1024;
/// and what it sends from, which holds each line of the head of a request: more than most servers
/// take.
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
        // Without this header any coding would do (RFC 9110 §12.5.3).
        .accept_encoding("identity")
        .user_agent(concat!("entra-auth-mcp/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
}

/// A transport error in words, with what to do about it.
pub fn explain(error: &ureq::Error) -> String {
    format!("{error}. {}", mend(error))
}

/// Whether the name of the host could not be resolved. The standard library has no kind for it: on
/// Unix there are its words, on Windows the numbers from WSAHOST_NOT_FOUND to WSANO_DATA.
pub fn is_unresolved(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) if matches!(error.raw_os_error(), Some(11001..=11004)) => true,
        _ => error.to_string().contains("failed to lookup address"),
    }
}

/// What to do about a transport error.
pub fn mend(error: &ureq::Error) -> &'static str {
    if let Some(reason) = refused_certificate(error) {
        return mend_certificate(reason);
    }
    if has_no_roots(error) {
        return "This machine has no root certificates: install ca-certificates, or set SSL_CERT_FILE.";
    }
    if is_unresolved(error) {
        return "Check the host name, the network and the proxy settings (HTTPS_PROXY).";
    }
    match error {
        ureq::Error::Timeout(_) => {
            "The other side took too long: check the network, and what stands between here and there (firewall, proxy)."
        }
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "Nothing listens there, or a proxy is needed (HTTPS_PROXY)."
        }
        _ if matches!(tls_error(error), Some(rustls::Error::InvalidMessage(_))) => {
            "What answers there does not speak TLS: check the host and the port."
        }
        _ => "Check the network, and what stands between here and there (firewall, proxy).",
    }
}

/// Whether the other side was reached, but is not trusted.
pub fn is_untrusted(error: &ureq::Error) -> bool {
    refused_certificate(error).is_some() || has_no_roots(error)
}

/// Why the certificate of the other side was refused, where it was.
fn refused_certificate(error: &ureq::Error) -> Option<&CertificateError> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(reason) => Some(reason),
        _ => None,
    }
}

fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        // What fails during the handshake comes as an error of the connection.
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Neither ureq nor rustls has a variant for it.
fn has_no_roots(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Rustls(_) | ureq::Error::Tls(_))
        && error.to_string().contains("No CA certificates")
}

fn mend_certificate(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "Its certificate has expired: check this machine's clock, and have the certificate renewed."
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "Its certificate is not valid yet: check this machine's clock."
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "Its certificate is for another host: check the host name, and whether a proxy answers in its place."
        }
        CertificateError::Revoked => {
            "Its certificate was revoked: ask whoever runs that host to replace it."
        }
        // An unknown issuer, most of all.
        _ => {
            "This machine does not trust its certificate. Where a proxy inspects TLS, add the proxy's root certificate to \
             the system's store or name it in SSL_CERT_FILE."
        }
    }
}

/// Whether `host` names this machine alone.
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
