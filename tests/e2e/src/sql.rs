//! PostgreSQL connections, as a driver makes them: TLS with the cluster's authority, SCRAM with the pgpass file.

use crate::node::Node;
use anyhow::{Context, Result};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Connects to a node as `root`.
pub async fn connect(node: &Node) -> Result<Client> {
    connect_at(&node.data, node.pg_port).await
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
