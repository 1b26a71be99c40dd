//! PostgreSQL connections, as a driver makes them: TLS with the cluster's authority, SCRAM with the pgpass file.

use crate::node::Node;
use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects to a node as `root`.
pub async fn connect(node: &Node) -> Result<Client> {
    connect_at(&node.data, node.pg_port).await
}

/// Connects to any PostgreSQL server, named by its URL, as libpq would: TLS where the server has it, unless the URL says
/// otherwise, without a look at the certificate. The password may stand in `$PGPASSWORD`.
pub async fn connect_url(url: &str) -> Result<Client> {
    let mut config: Config =
        url.parse().context("that is not a PostgreSQL URL such as postgres://user@host:5432/database")?;
    if config.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        config.password(password);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// What `sslmode=require` means to libpq: encrypted, with whoever answers. For measuring, never for secrets.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects to a port of the loopback with the credentials in a data folder.
pub async fn connect_at(data: &Path, port: u16) -> Result<Client> {
    let pgpass = std::fs::read_to_string(data.join("pgpass"))?;
    let password =
        pgpass.lines().next().and_then(|line| line.rsplit(':').next()).context("pgpass has a line")?.to_string();
    let mut config = Config::new();
    config.host("localhost").port(port).user("root").dbname("rockpool").password(password).ssl_mode(SslMode::Require);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(data.join("ca.crt")).context("ca.crt")? {
        roots.add(certificate?)?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await?;
    tokio::spawn(connection);
    Ok(client)
}
