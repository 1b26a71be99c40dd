//! The cluster's certificate authority and what it issues.
//!
//! The first node makes it; every node that joins is handed its key, over a connection that its fingerprint in the token
//! has authenticated, so that any node can let the next one in. It issues to nodes only: whoever shows one of its
//! certificates is a node of this cluster, and the certificate says which.
//!
//! Clients of every kind verify the name [`INTERNAL_NAME`], so that a node may be reached under any address. The host
//! names in the certificate besides are for `psql` with `sslmode=verify-full`.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rockpool_proto::NodeId;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::folder::{read_small, write_whole};
use crate::error::StartError;

/// The DNS name in every node's certificate.
pub const INTERNAL_NAME: &str = "rockpool.internal";
/// How a node's subject begins; its number follows.
const NODE_SUBJECT_PREFIX: &str = "rockpool node ";

/// SHA-256 of the authority's certificate (DER): what addresses and tokens carry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = hex::decode(text).map_err(|_| "a fingerprint is 64 hexadecimal digits".to_owned())?;
        let bytes = bytes.try_into().map_err(|_| "a fingerprint is 64 hexadecimal digits".to_owned())?;
        Ok(Fingerprint(bytes))
    }
}

/// The authority: its certificate and the key that signs.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

/// A node's own key, and the request for its certificate.
pub struct NodeKey {
    key: Zeroizing<Vec<u8>>,
    /// PKCS #10, DER.
    pub request: Vec<u8>,
}

/// What a node shows to others and checks them against.
#[derive(Clone)]
pub struct NodeTls {
    /// The authority's certificate.
    pub authority: CertificateDer<'static>,
    /// The node's certificate.
    pub certificate: CertificateDer<'static>,
    key: Arc<Zeroizing<Vec<u8>>>,
}

fn tls_error(error: impl fmt::Display) -> StartError {
    StartError::Tls(error.to_string())
}

fn key_pair(pkcs8: &[u8]) -> Result<KeyPair, StartError> {
    KeyPair::try_from(pkcs8).map_err(tls_error)
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Rockpool");
    subject.push(DnType::CommonName, name);
    subject
}

impl Authority {
    /// A new authority.
    pub fn generate(cluster: &str) -> Result<Authority, StartError> {
        let key = KeyPair::generate().map_err(tls_error)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("rockpool cluster {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(tls_error)?;
        Ok(Authority { certificate: certificate.der().clone(), key: Zeroizing::new(key.serialize_der()) })
    }

    /// An authority received from another node; refuses a key that isn't the certificate's.
    pub fn from_parts(certificate: Vec<u8>, key: Vec<u8>) -> Result<Authority, StartError> {
        let authority = Authority { certificate: certificate.into(), key: Zeroizing::new(key) };
        let (_, parsed) = x509_parser::parse_x509_certificate(&authority.certificate).map_err(tls_error)?;
        let public = key_pair(&authority.key)?;
        if parsed.public_key().subject_public_key.data != public.public_key_raw() {
            return Err(StartError::Tls("the authority's key is not its certificate's".to_owned()));
        }
        Ok(authority)
    }

    /// What addresses and tokens carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, PKCS #8: for a node that joins.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// A secret that every node can derive and nobody else: see `PgSecrets::nobody_secret`.
    pub fn nobody_secret(&self) -> [u8; 32] {
        blake3::derive_key("rockpool 2026 salts of roles that are not there v1", &self.key)
    }

    /// A certificate for a node's request. Names and uses come from here, never from the request.
    pub fn issue(&self, request: &[u8], node_id: NodeId, host: &str) -> Result<CertificateDer<'static>, StartError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(tls_error)?;
        let mut names = vec![INTERNAL_NAME, "localhost", "127.0.0.1", "::1"];
        if !names.contains(&host) {
            names.push(host);
        }
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).map_err(tls_error)?;
        params.distinguished_name = named(&format!("{NODE_SUBJECT_PREFIX}{}", node_id.0));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, key_pair(&self.key)?).map_err(tls_error)?;
        let certificate = params.signed_by(&request.public_key, &issuer).map_err(tls_error)?;
        Ok(certificate.der().clone())
    }

    /// Writes certificate and key into the folder.
    pub fn write(&self, folder: &Path) -> Result<(), StartError> {
        write_whole(&folder.join("tls/ca.key"), pem("PRIVATE KEY", &self.key).as_bytes(), 0o600)?;
        write_whole(&folder.join("ca.crt"), pem("CERTIFICATE", &self.certificate).as_bytes(), 0o644)
    }

    /// Reads it from the folder.
    pub fn read(folder: &Path) -> Result<Authority, StartError> {
        let certificate = read_pem(&folder.join("ca.crt"), "CERTIFICATE")?;
        Authority::from_parts(certificate, read_pem(&folder.join("tls/ca.key"), "PRIVATE KEY")?)
    }
}

impl NodeKey {
    /// A new key and a request for it.
    pub fn generate() -> Result<NodeKey, StartError> {
        let key = KeyPair::generate().map_err(tls_error)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("rockpool node");
        let request = params.serialize_request(&key).map_err(tls_error)?;
        Ok(NodeKey { key: Zeroizing::new(key.serialize_der()), request: request.der().to_vec() })
    }

    /// Key and certificate together.
    pub fn with_certificate(self, authority: &Authority, certificate: CertificateDer<'static>) -> NodeTls {
        NodeTls { authority: authority.certificate.clone(), certificate, key: Arc::new(self.key) }
    }
}

impl NodeTls {
    /// Writes the node's certificate (with the authority's behind it) and key.
    pub fn write(&self, folder: &Path) -> Result<(), StartError> {
        write_whole(&folder.join("tls/node.key"), self.key_pem().as_bytes(), 0o600)?;
        write_whole(&folder.join("tls/node.pem"), self.chain_pem().as_bytes(), 0o644)
    }

    /// Reads what the folder holds.
    pub fn read(folder: &Path) -> Result<NodeTls, StartError> {
        Ok(NodeTls {
            authority: read_pem(&folder.join("ca.crt"), "CERTIFICATE")?.into(),
            certificate: read_pem(&folder.join("tls/node.pem"), "CERTIFICATE")?.into(),
            key: Arc::new(Zeroizing::new(read_pem(&folder.join("tls/node.key"), "PRIVATE KEY")?)),
        })
    }

    /// The node's certificate and the authority's: a client that knows the fingerprint finds the authority in there.
    pub fn chain_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate) + &self.authority_pem()
    }

    /// The authority's certificate.
    pub fn authority_pem(&self) -> String {
        Self::pem_of(&self.authority)
    }

    /// A certificate as PEM.
    pub fn pem_of(certificate: &[u8]) -> String {
        pem("CERTIFICATE", certificate)
    }

    /// The node's key.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", &self.key))
    }

    /// Settings of a TLS server that asks nobody for a certificate: for PostgreSQL clients.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, StartError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        let chain = vec![self.certificate.clone(), self.authority.clone()];
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(tls_error)
    }

    /// What the channel binding `tls-server-end-point` (RFC 5929) hashes: the certificate, with the hash of its signature.
    pub fn certificate_hash(&self) -> [u8; 32] {
        // The authority signs with ECDSA and SHA-256, always: `KeyPair::generate`.
        Sha256::digest(&self.certificate).into()
    }

    /// Which node a verified certificate of the authority belongs to.
    pub fn node_of(certificate: &[u8]) -> Option<NodeId> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
        name.strip_prefix(NODE_SUBJECT_PREFIX)?.parse().ok().filter(|id| *id > 0).map(NodeId)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The first block with that label.
fn read_pem(path: &Path, label: &str) -> Result<Vec<u8>, StartError> {
    use base64::Engine as _;
    let damaged = || StartError::Damaged {
        path: path.to_owned(),
        reason: "the file is missing or damaged; restore it from a copy, or join again with an empty folder".to_owned(),
    };
    let text = Zeroizing::new(read_small(path)?.ok_or_else(damaged)?);
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----")).ok_or_else(damaged)?;
    let (body, _) = rest.split_once("-----END").ok_or_else(damaged)?;
    let body: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(authority: &Authority, id: u64) -> NodeTls {
        let key = NodeKey::generate().unwrap();
        let certificate = authority.issue(&key.request, NodeId(id), "node.example").unwrap();
        key.with_certificate(authority, certificate)
    }

    #[test]
    fn a_certificate_says_which_node_and_under_which_names() {
        let authority = Authority::generate("x").unwrap();
        let tls = node(&authority, 42);
        assert_eq!(NodeTls::node_of(&tls.certificate), Some(NodeId(42)));
        assert_eq!(NodeTls::node_of(authority.certificate()), None);
        assert_eq!(NodeTls::node_of(b"rubbish"), None);
        let roots = {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate().clone()).unwrap();
            Arc::new(roots)
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider).build().unwrap();
        use rustls::client::danger::ServerCertVerifier;
        let now = rustls::pki_types::UnixTime::now();
        for name in [INTERNAL_NAME, "localhost", "127.0.0.1", "::1", "node.example"] {
            let name = rustls::pki_types::ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(&tls.certificate, &[], &name, &[], now).unwrap();
        }
        let stranger = rustls::pki_types::ServerName::try_from("elsewhere.example").unwrap();
        assert!(verifier.verify_server_cert(&tls.certificate, &[], &stranger, &[], now).is_err());
    }

    #[test]
    fn what_is_written_reads_back_and_keys_must_match() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tls")).unwrap();
        let authority = Authority::generate("x").unwrap();
        let tls = node(&authority, 1);
        authority.write(folder.path()).unwrap();
        tls.write(folder.path()).unwrap();
        let read = Authority::read(folder.path()).unwrap();
        assert_eq!(read.fingerprint(), authority.fingerprint());
        let read = NodeTls::read(folder.path()).unwrap();
        assert_eq!((&read.certificate, &read.authority), (&tls.certificate, authority.certificate()));
        read.server_config().unwrap();
        let other = Authority::generate("y").unwrap();
        assert!(Authority::from_parts(authority.certificate().to_vec(), other.key().to_vec()).is_err());
        assert!(Authority::from_parts(vec![1, 2, 3], vec![4]).is_err());
    }

    #[test]
    fn a_fingerprint_is_written_as_it_is_read() {
        let fingerprint = Fingerprint::of(b"x");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!("abc".parse::<Fingerprint>().is_err());
    }
}
