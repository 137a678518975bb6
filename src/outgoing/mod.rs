//! Connections that this server makes: to Entra, to the API, and to ask whether a server runs here.
//! One set of rules for all of them: TLS by the system's certificates, no redirects, bounded header
//! fields.

pub mod connector;
pub mod public;
pub mod resolver;
pub mod retry_after;
mod trailers;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::crypto::{CryptoProvider, KeyProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use url::Url;

use self::public::Judge;
use self::resolver::Unresolved;
use self::trailers::MOST_FIELD_BYTES;

/// For the look-up of the name, the connection and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The buffer of a connection for what it reads. If an unfinished head filled it, ureq would
/// believe that the connection has ended.
const INPUT_BYTES: usize = MOST_FIELD_BYTES + 1;
/// The buffer of a connection for what it sends. It must hold each line of a request's head, so it
/// is larger than what most servers accept.
pub const OUTPUT_BYTES: usize = 32 * 1024;

/// There are no client certificates here, so what signs with their keys is not compiled in.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _key: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("no private keys".to_owned()))
    }
}

/// The settings of an agent that verifies TLS with the operating system's certificates, follows no
/// redirect and speaks plain HTTP only to a loopback host.
pub fn agent_config(url: &Url) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    let is_loopback = url.host_str().is_some_and(is_loopback_host);
    let builder = Agent::config_builder();
    // For a proxy on another machine, localhost is that machine.
    let builder = if is_loopback {
        builder.proxy(None)
    } else {
        builder
    };
    let provider = CryptoProvider {
        key_provider: &NoKeys,
        ..ring::default_provider()
    };
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(provider));
    builder
        .tls_config(tls.root_certs(RootCerts::PlatformVerifier).build())
        .https_only(!is_loopback)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .input_buffer_size(INPUT_BYTES)
        // `trailers` bounds heads. ureq would also count what follows an interim response.
        .max_response_header_size(INPUT_BYTES)
        .output_buffer_size(OUTPUT_BYTES)
        // Without this header, any coding is acceptable (RFC 9110 §12.5.3).
        .accept_encoding("identity")
        .user_agent(concat!("entra-auth-mcp/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIMEOUT))
}

/// An agent with the settings `config`, whose connections keep the rules of this module.
pub fn agent(config: Config) -> Agent {
    let connector = connector::new(config.proxy(), None);
    Agent::with_parts(config, connector, resolver::Later)
}

/// The same, but it connects only to addresses for which `is_allowed` holds. `config` must have no
/// proxy, as that would choose the address.
pub fn judging_agent(config: Config, is_allowed: Judge) -> Agent {
    let connector = connector::new(config.proxy(), Some(is_allowed));
    Agent::with_parts(config, connector, resolver::Later)
}

/// A transport error in words, with what to do about it.
pub fn explain(error: &ureq::Error) -> String {
    format!("{}. {}", describe(error), mend(error))
}

/// A transport error in words.
pub fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Other(error) => error.to_string(),
        ureq::Error::ConnectProxyFailed(reason) => match refused_by_proxy(error) {
            Some("407") => "the proxy wants credentials (status 407)".to_owned(),
            Some(status) => format!("the proxy refused the connection with status {status}"),
            None => format!("the proxy gave no connection: {reason}"),
        },
        _ => error.to_string(),
    }
}

/// The status with which the proxy has answered CONNECT. ureq gives it only in these words.
fn refused_by_proxy(error: &ureq::Error) -> Option<&str> {
    let ureq::Error::ConnectProxyFailed(reason) = error else {
        return None;
    };
    let status = reason.strip_prefix("proxy server responded ")?;
    status.split('/').next()
}

/// Whether the name of the host could not be resolved.
pub fn is_unresolved(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Other(error) if error.is::<Unresolved>())
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
        ureq::Error::ConnectProxyFailed(_) if refused_by_proxy(error) == Some("407") => {
            "Put a user name and a password into the proxy's URL, as in http://user:password@proxy.example:3128, both \
             percent-encoded. Basic is the only kind of credentials that this server can give a proxy; if the proxy takes \
             others alone, or does not take these, ask whoever runs it."
        }
        ureq::Error::ConnectProxyFailed(_) if refused_by_proxy(error).is_some() => {
            "Ask whoever runs the proxy whether it may connect to that host, or add the host to NO_PROXY."
        }
        ureq::Error::ConnectProxyFailed(_) => {
            "Check the proxy settings: it must be an HTTP proxy (HTTPS_PROXY), or the host must be in NO_PROXY."
        }
        ureq::Error::Timeout(_) => {
            "The other side took too long: check the network, and what stands between here and there (firewall, proxy)."
        }
        ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionRefused => {
            "Nothing listens there, or a proxy is needed (HTTPS_PROXY)."
        }
        ureq::Error::Protocol(_) => {
            "What answers there does not keep to HTTP: check the host and the port, and tell whoever runs it."
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

/// Whether this machine has no root certificates. Neither ureq nor rustls has a variant for it.
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
        // Above all, an unknown issuer.
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
