//! Who vouches for a server's certificate, so that a proxy that inspects TLS shows.
//!
//! Nothing is ever sent over these connections but the start of a handshake: the verifier here takes notes and
//! accepts no certificate at all. Whether one can be trusted is for ureq to say, where it sends a request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::iter;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use ureq::{Proxy, ProxyProtocol};
use url::Url;

use crate::sync::locked;

/// A proxy's answer to CONNECT is shorter.
const MOST_HEAD_BYTES: u64 = 16 * 1024;

/// Notes whose certificates it is shown, and ends the handshake.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<String>>);

type Signed = Result<HandshakeSignatureValid, Error>;

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *locked(&self.0) = iter::once(end_entity)
            .chain(intermediates)
            .filter_map(|shown| names(shown))
            .collect();
        Err(Error::HandshakeNotComplete)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signed {
        Err(Error::HandshakeNotComplete)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Signed {
        Err(Error::HandshakeNotComplete)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Whom the certificates are for that the server at `url`, reached through `proxy`, sends, and who issued them.
pub fn certificates(url: &Url, proxy: Option<&Proxy>) -> Option<String> {
    let name = ServerName::try_from(url.host_str()?.trim_matches(['[', ']']).to_owned()).ok()?;
    let recorder = Arc::new(Recorder::default());
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    // "Dangerous" is every verifier of one's own.
    let config = builder
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous();
    let config = config
        .with_custom_certificate_verifier(Arc::<Recorder>::clone(&recorder))
        .with_no_client_auth();
    let mut stream = match proxy {
        Some(proxy) if proxy.protocol() == ProxyProtocol::Http => tunnel(url, proxy)?,
        // The way to the proxy itself is TLS.
        Some(_) => return None,
        None => TcpStream::connect(url.socket_addrs(|| None).ok()?.as_slice()).ok()?,
    };
    // It fails: that is how it ends.
    let _ = ClientConnection::new(Arc::new(config), name)
        .ok()?
        .complete_io(&mut stream);
    let names = locked(&recorder.0).join("; ");
    (!names.is_empty()).then(|| format!("It shows the certificates of {names}."))
}

/// A connection through an HTTP proxy (RFC 9110 §9.3.6).
fn tunnel(url: &Url, proxy: &Proxy) -> Option<TcpStream> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let mut stream =
        TcpStream::connect((proxy.host().trim_matches(['[', ']']), proxy.port())).ok()?;
    let authorization = proxy.username().map_or_else(String::new, |name| {
        let credentials =
            BASE64_STANDARD.encode(format!("{name}:{}", proxy.password().unwrap_or_default()));
        format!("Proxy-Authorization: Basic {credentials}\r\n")
    });
    let request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    // Nothing that belongs to TLS is lost in the buffer: there the client speaks first.
    let lines = BufReader::new(stream.try_clone().ok()?.take(MOST_HEAD_BYTES))
        .lines()
        .map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    head.first()?
        .split(' ')
        .nth(1)?
        .starts_with('2')
        .then_some(stream)
}

/// Whom a certificate is for and who issued it (RFC 5280 §4.1).
fn names(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = elements(certificate).next()?;
    let (_, to_be_signed) = elements(certificate).next()?;
    // The version, [0], may be absent; then come serial number, algorithm, issuer, validity, subject.
    let mut fields = elements(to_be_signed).filter(|(tag, _)| *tag != 0xa0);
    let (_, issuer) = fields.nth(2)?;
    let (_, subject) = fields.nth(1)?;
    Some(format!("{:?}, issued by {:?}", name(subject), name(issuer)))
}

/// What a distinguished name says, without saying what is what (RFC 5280 §4.1.2.4).
fn name(distinguished: &[u8]) -> String {
    let attributes = elements(distinguished).flat_map(|(_, set)| elements(set));
    let values = attributes.filter_map(|(_, attribute)| elements(attribute).nth(1));
    values
        .map(|(_, value)| String::from_utf8_lossy(value))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Tag and contents of the DER elements that stand in `der` one after the other, as far as they can be read.
fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    iter::from_fn(move || {
        let (&[tag, first], rest) = der.split_first_chunk()?;
        // Above 0x7f it is not the length but the number of its digits (X.690 §8.1.3.5).
        let (digits, rest) = if first < 0x80 {
            (&[first][..], rest)
        } else {
            rest.split_at_checked(usize::from(first & 0x7f))?
        };
        let push =
            |length: usize, digit: &u8| length.checked_mul(256)?.checked_add(usize::from(*digit));
        let (contents, rest) = rest.split_at_checked(digits.iter().try_fold(0, push)?)?;
        der = rest;
        Some((tag, contents))
    })
}
