//! Who gets in: TLS, SCRAM, roles.

use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

use crate::support::{Server, code, options};

#[tokio::test(flavor = "multi_thread")]
async fn root_logs_in_with_tls_and_scram_and_is_told_what_drivers_ask() {
    let server = Server::start().await;
    let client = server.connect().await;
    let row = client.query_one("SELECT current_user, current_database()", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("root", "rockpool"));
    let shown = client.simple_query("SHOW server_version").await.unwrap();
    let version = shown.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert!(version.is_some_and(|version| version.starts_with("15.0 (Rockpool ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_unknown_roles_and_other_databases_are_refused() {
    let server = Server::start().await;
    assert_eq!(code(server.connect_with(server.config().password("wrong")).await.map(drop)), "28P01");
    assert_eq!(code(server.connect_with(server.config().user("nobody")).await.map(drop)), "28P01");
    assert_eq!(code(server.connect_with(server.config().dbname("elsewhere")).await.map(drop)), "3D000");
    let options = server.config().options("-c no_such_setting=1").to_owned();
    assert_eq!(code(server.connect_with(&options).await.map(drop)), "42704");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_connections_are_refused_unless_allowed_on_loopback() {
    let server = Server::start().await;
    let mut config = server.config();
    config.ssl_mode(SslMode::Disable);
    assert_eq!(code(config.connect(NoTls).await.map(drop)), "28000");
    let allowed =
        rockpool_sqlnode::pg::PgOptions { plaintext: rockpool_sqlnode::config::Plaintext::Loopback, ..options() };
    let server = Server::start_with(allowed).await;
    let mut config = server.config();
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_made_changed_and_dropped_by_superusers_only() {
    let server = Server::start().await;
    let root = server.connect().await;
    root.batch_execute("CREATE ROLE ann LOGIN PASSWORD 'first'").await.unwrap();
    let mut config = server.config();
    config.user("ann").password("first");
    let ann = server.connect_with(&config).await.unwrap();
    assert_eq!(code(ann.batch_execute("CREATE ROLE eve LOGIN PASSWORD 'x'").await), "42501");
    ann.batch_execute("ALTER ROLE ann PASSWORD 'second'").await.unwrap();
    assert_eq!(code(server.connect_with(&config).await.map(drop)), "28P01");
    config.password("second");
    server.connect_with(&config).await.unwrap();
    root.batch_execute("ALTER ROLE ann NOLOGIN").await.unwrap();
    assert_eq!(code(server.connect_with(&config).await.map(drop)), "28P01");
    root.batch_execute("DROP ROLE ann").await.unwrap();
    assert_eq!(code(root.batch_execute("DROP ROLE ann").await), "42704");
    root.batch_execute("DROP ROLE IF EXISTS ann").await.unwrap();
    assert_eq!(code(root.batch_execute("DROP ROLE root").await), "55006");
    assert_eq!(code(root.batch_execute("CREATE ROLE root").await), "42710");
}
