//! From `rockpool://HOST:PORT/#FINGERPRINT` to a certificate authority that can be trusted.
//!
//! The nodes' certificates are issued by an authority that the cluster's first node made; no public authority knows
//! them. The fingerprint in the address (SHA-256 of the authority's certificate) was handed over by a person, so it is
//! the root of trust: a node sends its authority along in the handshake, and the one that has that hash is the one.

use crate::api::{ApiError, ErrorCode};
use base64::Engine as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The name that every node's certificate carries, whatever its addresses.
pub(crate) const CLUSTER_NAME: &str = "rockpool.internal";

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const DEFAULT_PORT: u16 = 7400;

/// What an operator hands to people: where the cluster is, and how to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// `HOST:PORT`.
    pub address: String,
    /// Lower-case hex SHA-256 of the authority's certificate.
    pub fingerprint: String,
}

impl FromStr for ServerAddress {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let invalid = |what: &str| {
            ApiError::new(
                ErrorCode::Invalid,
                format!("{what}. An address looks like rockpool://HOST:7400/#FINGERPRINT"),
            )
        };
        let rest = text
            .trim()
            .strip_prefix("rockpool://")
            .ok_or_else(|| invalid("the address does not begin with rockpool://"))?;
        let (address, fingerprint) = rest.split_once('#').ok_or_else(|| {
            invalid("the address has no #FINGERPRINT, without which nobody could tell the cluster from an impostor")
        })?;
        let address = address.trim_end_matches('/');
        if address.is_empty() || address.contains(['/', '@', ' ']) {
            return Err(invalid("the address has no host"));
        }
        let fingerprint = fingerprint.to_ascii_lowercase();
        if fingerprint.len() != 64 || !fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid("the fingerprint is not 64 hexadecimal digits"));
        }
        let has_port = match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                port.parse::<u16>().map_err(|_| invalid("the port is not a number up to 65535"))?;
                true
            }
            _ => false,
        };
        let address = if has_port { address.to_string() } else { format!("{address}:{DEFAULT_PORT}") };
        Ok(ServerAddress { address, fingerprint })
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rockpool://{}/#{}", self.address, self.fingerprint)
    }
}

/// Connects once, checks the node against the fingerprint, and returns the authority's certificate as PEM.
pub async fn fetch_authority(server: &ServerAddress) -> Result<String, ApiError> {
    let unreachable = |what: String| {
        ApiError::new(ErrorCode::Unavailable, format!("no cluster answers at {}: {what}", server.address))
    };
    let verifier = Arc::new(PinnedAuthority::new(&server.fingerprint));
    let config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let handshake = async {
        let stream = TcpStream::connect(&server.address).await.map_err(|error| unreachable(error.to_string()))?;
        let name = ServerName::try_from(CLUSTER_NAME).expect("a constant DNS name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| {
            if verifier.mismatch.get().is_some() {
                ApiError::new(
                    ErrorCode::Denied,
                    format!(
                        "the node at {} does not have the fingerprint in the address: it belongs to another cluster, or \
                         somebody is in between. Ask the operator for the address again",
                        server.address
                    ),
                )
            } else {
                unreachable(error.to_string())
            }
        })
    };
    let mut stream = tokio::time::timeout(CONNECT_DEADLINE, handshake)
        .await
        .map_err(|_| unreachable("no answer in time".into()))??;
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
    let der = verifier.authority.get().expect("the handshake succeeds only after the authority was found");
    Ok(pem(der))
}

fn pem(der: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        lines.push_str(&text[start..text.len().min(start + 64)]);
        lines.push('\n');
    }
    lines.push_str("-----END CERTIFICATE-----\n");
    lines
}

/// Trusts exactly one certificate authority, recognised by its hash in the chain that the server sends.
#[derive(Debug)]
struct PinnedAuthority {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
    authority: OnceLock<CertificateDer<'static>>,
    mismatch: OnceLock<()>,
}

impl PinnedAuthority {
    fn new(fingerprint: &str) -> Self {
        Self {
            fingerprint: fingerprint.to_string(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            authority: OnceLock::new(),
            mismatch: OnceLock::new(),
        }
    }
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned =
            intermediates.iter().find(|certificate| hex::encode(Sha256::digest(certificate)) == self.fingerprint);
        let Some(authority) = pinned else {
            let _ = self.mismatch.set(());
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verified = webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let _ = self.authority.set(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_with_a_reason() {
        let fingerprint = "ab".repeat(32);
        let good = format!("rockpool://example.org:7400/#{}", fingerprint.to_uppercase());
        let address: ServerAddress = good.parse().unwrap();
        assert_eq!(address.address, "example.org:7400");
        assert_eq!(address.to_string(), format!("rockpool://example.org:7400/#{fingerprint}"));
        let bare: ServerAddress = format!("rockpool://[::1]/#{fingerprint}").parse().unwrap();
        assert_eq!(bare.address, "[::1]:7400");
        for (text, reason) in [
            ("https://example.org", "does not begin"),
            ("rockpool://example.org:7400/", "no #FINGERPRINT"),
            ("rockpool://example.org:7400/#12", "64 hexadecimal"),
            (&format!("rockpool:///#{fingerprint}"), "no host"),
            (&format!("rockpool://a:99999/#{fingerprint}"), "port"),
        ] {
            let error = text.parse::<ServerAddress>().unwrap_err();
            assert!(error.message.contains(reason), "{text}: {error}");
        }
    }
}
