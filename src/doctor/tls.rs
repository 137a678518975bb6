//! Who vouches for a server's certificate, so that a proxy that inspects TLS shows.
//!
//! Nothing is ever sent over these connections but the handshake, and no certificate is accepted that ureq
//! would not accept: the verifier here asks the same one, and only takes notes.

use std::io::{self, Read as _, Write as _};
use std::iter;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use rustls_platform_verifier::Verifier;
use ureq::{Proxy, ProxyProtocol};
use url::Url;

use super::Finding;
use super::online::{in_time, mend_of};
use crate::sync::locked;

/// A proxy's answer to CONNECT is shorter.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// commonName and organizationName (X.520, 2.5.4.3 and 2.5.4.10).
const NAMING: [&[u8]; 2] = [&[0x55, 4, 3], &[0x55, 4, 10]];

/// Asks the system's verifier, and keeps what was shown to it.
#[derive(Debug)]
struct Recorder {
    system: Result<Verifier, Error>,
    provider: Arc<CryptoProvider>,
    shown: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *locked(&self.shown) = iter::once(end_entity).chain(intermediates).map(|shown| shown.to_vec()).collect();
        let system = self.system.as_ref().map_err(Clone::clone)?;
        system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate of the server at `url`, reached through `proxy`.
pub fn check(url: &Url, proxy: Option<Proxy>) -> Finding {
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "http" {
        return Finding::ok("tls", format!("{host}: no TLS, as it is a loopback host."));
    }
    if proxy.as_ref().is_some_and(|proxy| proxy.protocol() != ProxyProtocol::Http) {
        return Finding::ok("tls", format!("{host}: not looked at, as the way to the proxy itself is TLS."));
    }
    let target = url.clone();
    let looked = in_time(move || look(&target, proxy.as_ref()));
    let (shown, outcome) = looked.unwrap_or_else(|| (None, Err(ureq::Error::Timeout(ureq::Timeout::Global))));
    let shown = shown.unwrap_or_default();
    match outcome {
        Ok(()) => {
            let note = "If the issuer is a proxy of your organization, it reads this traffic.";
            Finding::ok("tls", format!("{host} is trusted. {shown} {note}"))
        }
        Err(error) => {
            Finding::failure("tls", format!("There is no TLS with {host}: {error}. {shown}"), mend_of(&error))
        }
    }
}

/// One handshake, and the end: what was shown, and whether it was accepted.
fn look(url: &Url, proxy: Option<&Proxy>) -> (Option<String>, Result<(), ureq::Error>) {
    let provider = Arc::new(ring::default_provider());
    let system = Verifier::new(Arc::clone(&provider));
    let recorder = Arc::new(Recorder { system, provider, shown: Mutex::default() });
    let outcome = shake_hands(url, proxy, &recorder);
    let shown = locked(&recorder.shown);
    (describe(&shown), outcome)
}

fn shake_hands(url: &Url, proxy: Option<&Proxy>, recorder: &Arc<Recorder>) -> Result<(), ureq::Error> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|_| ureq::Error::HostNotFound)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&recorder.provider));
    // "Dangerous" is every verifier of one's own; this one accepts what the system's accepts.
    let config = builder.with_safe_default_protocol_versions()?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::<Recorder>::clone(recorder)).with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = match proxy {
        Some(proxy) => tunnel(url, proxy)?,
        None => TcpStream::connect(url.socket_addrs(|| None)?.as_slice())?,
    };
    while connection.is_handshaking() {
        let tried = connection.complete_io(&mut stream);
        tried.map_err(|error| error.downcast::<Error>().map_or_else(ureq::Error::Io, ureq::Error::Rustls))?;
    }
    Ok(())
}

/// A connection through an HTTP proxy (RFC 9110 §9.3.6).
fn tunnel(url: &Url, proxy: &Proxy) -> io::Result<TcpStream> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let mut stream = TcpStream::connect((proxy.host().trim_matches(['[', ']']), proxy.port()))?;
    let authorization = proxy.username().map_or_else(String::new, |name| {
        let credentials = BASE64_STANDARD.encode(format!("{name}:{}", proxy.password().unwrap_or_default()));
        format!("Proxy-Authorization: Basic {credentials}\r\n")
    });
    write!(stream, "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MOST_HEAD_BYTES {
        // Not a byte more: what follows is TLS.
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let is_through = line.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
    if is_through { Ok(stream) } else { Err(io::Error::other(format!("the proxy answered CONNECT with {line:?}"))) }
}

/// Whom the first of the certificates is for, and who issued it and the last one.
fn describe(shown: &[Vec<u8>]) -> Option<String> {
    let ((subject, issuer), (_, last)) = (names(shown.first()?)?, names(shown.last()?)?);
    Some(format!("Its certificate is for {subject:?}, issued by {issuer:?}; the last one sent was issued by {last:?}."))
}

/// Subject and issuer of a certificate (RFC 5280 §4.1).
fn names(certificate: &[u8]) -> Option<(String, String)> {
    let (_, certificate) = elements(certificate).next()?;
    let (_, to_be_signed) = elements(certificate).next()?;
    // The version, [0], may be absent; then come serial number, algorithm, issuer, validity, subject.
    let mut fields = elements(to_be_signed).filter(|(tag, _)| *tag != 0xa0);
    let (_, issuer) = fields.nth(2)?;
    let (_, subject) = fields.nth(1)?;
    Some((name(subject), name(issuer)))
}

/// Common name and organization of a distinguished name (RFC 5280 §4.1.2.4), in its order.
fn name(distinguished: &[u8]) -> String {
    let value = |(_, attribute)| {
        let mut parts = elements(attribute);
        let ((_, kind), (_, value)) = (parts.next()?, parts.next()?);
        NAMING.contains(&kind).then(|| String::from_utf8_lossy(value).into_owned())
    };
    let attributes = elements(distinguished).flat_map(|(_, set)| elements(set));
    attributes.filter_map(value).collect::<Vec<_>>().join(", ")
}

/// Tag and contents of the DER elements that stand in `der` one after the other, as far as they can be read.
fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    iter::from_fn(move || {
        let (&[tag, first], rest) = der.split_first_chunk()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let push = |length: usize, digit: &u8| length.checked_mul(256)?.checked_add(usize::from(*digit));
            (digits.iter().try_fold(0, push)?, rest)
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        der = rest;
        Some((tag, contents))
    })
}
