//! TLS toward a cluster that is known by its fingerprint only.
//!
//! A node presents its certificate and, behind it, the authority's. Whoever holds the fingerprint finds the authority in
//! that chain, and from then on verifies as anybody who has the file: the node's certificate must be signed by it, for
//! the name every node has.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::StartError;
use crate::identity::{Fingerprint, INTERNAL_NAME};

/// How long one TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches the authority's certificate from a node, and verifies the node against it.
pub(super) async fn fetch_authority(
    address: &str,
    fingerprint: Fingerprint,
) -> Result<CertificateDer<'static>, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Arc::new(Pinned { fingerprint, provider: Arc::clone(&provider), found: Mutex::new(None) });
    let tls_error = |error: rustls::Error| StartError::Tls(error.to_string());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&pinned) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let unreachable = |why: String| {
        StartError::Unreachable(format!(
            "can't reach {address} to join ({why}); is a node of the cluster running there?"
        ))
    };
    let handshake = async {
        let socket = TcpStream::connect(address).await.map_err(|error| unreachable(error.to_string()))?;
        let name = ServerName::try_from(INTERNAL_NAME).map_err(|error| StartError::Tls(error.to_string()))?;
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.map_err(|error| {
            let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match refused {
                Some(rustls::Error::InvalidCertificate(_)) => StartError::Foreign(format!(
                    "the node at {address} belongs to another cluster than the token; check --join, or ask a node of \
                     that cluster for a token"
                )),
                _ => unreachable(error.to_string()),
            }
        })
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(connected) => drop(connected?),
        Err(_) => return Err(unreachable("no answer".to_owned())),
    }
    let found = pinned.found.lock().take();
    found.ok_or_else(|| StartError::Tls("the handshake ended without a certificate".to_owned()))
}

/// Accepts a chain that holds the certificate with the fingerprint, and a leaf that it signed.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
    found: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.fingerprint);
        let authority = authority.ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        *self.found.lock() = Some(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
