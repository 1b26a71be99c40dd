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

#[tokio::test(flavor = "multi_thread")]
async fn only_superusers_get_at_the_tables_of_the_cluster() {
    let server = Server::start().await;
    let root = server.connect().await;
    root.batch_execute(
        "CREATE TABLE meta.accounts (account_id int PRIMARY KEY);
         CREATE TABLE meta.sessions (access_hash int PRIMARY KEY);
         CREATE TABLE public.own (a int PRIMARY KEY, b text)",
    )
    .await
    .unwrap();
    root.batch_execute("CREATE ROLE ann LOGIN PASSWORD 'first'").await.unwrap();
    let mut config = server.config();
    config.user("ann").password("first");
    let ann = server.connect_with(&config).await.unwrap();

    let refused = [
        "UPDATE system.roles SET superuser = true WHERE name = 'ann'",
        "INSERT INTO system.roles SELECT * FROM system.roles ON CONFLICT (name) DO UPDATE SET superuser = true",
        "DELETE FROM system.roles",
        "SELECT verifier FROM system.roles",
        "SELECT (SELECT max(verifier) FROM system.roles)",
        "SELECT 1 FROM own WHERE EXISTS (SELECT 1 FROM own JOIN system.roles ON b = verifier)",
        "WITH r AS (SELECT * FROM system.roles), s AS (SELECT * FROM r) SELECT * FROM s, s t",
        "INSERT INTO own SELECT 1, verifier FROM system.roles",
        "UPDATE own SET b = verifier FROM system.roles",
        "UPDATE own SET b = (SELECT max(verifier) FROM system.roles)",
        "DELETE FROM own USING system.roles WHERE b = verifier RETURNING verifier",
        "SELECT 1 UNION ALL SELECT count(*)::int FROM system.join_tokens",
        "SELECT * FROM rockpool.system.roles",
        "SELECT * FROM meta.sessions",
        "INSERT INTO meta.accounts VALUES (1)",
        "TRUNCATE system.roles",
        "DROP TABLE system.roles",
        "DROP SCHEMA meta CASCADE",
        "DROP SCHEMA system CASCADE",
        "ALTER TABLE system.roles DROP COLUMN verifier",
        "ALTER TABLE own ADD COLUMN c int REFERENCES meta.accounts (account_id)",
        "CREATE TABLE other (c int REFERENCES meta.accounts (account_id))",
        "CREATE TABLE other (c int, FOREIGN KEY (c) REFERENCES meta.accounts (account_id))",
        "CREATE INDEX slow ON meta.accounts (account_id)",
        "DROP INDEX meta.accounts_pkey",
        "ALTER INDEX meta.accounts_pkey RENAME TO other",
        "CREATE TABLE system.mine (a int)",
        "CREATE SEQUENCE meta.mine",
        "EXPLAIN SELECT * FROM system.roles",
    ];
    for sql in refused {
        // The simple protocol; the extended one; again, from the cache of plans that root filled.
        assert_eq!(code(ann.batch_execute(sql).await), "42501", "{sql}");
        assert_eq!(code(ann.query(sql, &[]).await), "42501", "{sql}");
    }
    root.query("SELECT verifier FROM system.roles", &[]).await.unwrap();
    let error = ann.simple_query("SELECT verifier FROM system.roles").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "permission denied for table system.roles");
    assert!(error.hint().is_some());

    // Names that come to mean something else after the statement was prepared.
    ann.batch_execute("CREATE TABLE roles (name text, superuser bool)").await.unwrap();
    ann.batch_execute("SET search_path = public, system").await.unwrap();
    let update = ann.prepare("UPDATE roles SET superuser = true WHERE name = 'ann'").await.unwrap();
    let drop = ann.prepare("DROP TABLE roles").await.unwrap();
    ann.execute(&update, &[]).await.unwrap();
    ann.batch_execute("SET search_path = system").await.unwrap();
    assert_eq!(code(ann.execute(&drop, &[]).await), "42501");
    ann.batch_execute("SET search_path = public, system; DROP TABLE public.roles").await.unwrap();
    assert_eq!(code(ann.execute(&update, &[]).await), "42501");

    // The rest is hers, and what she was given she loses at once.
    ann.batch_execute("INSERT INTO own VALUES (1, 'x'); SELECT * FROM meta.accounts; SELECT * FROM pg_tables")
        .await
        .unwrap();
    root.batch_execute("ALTER ROLE ann SUPERUSER").await.unwrap();
    ann.query("SELECT verifier FROM system.roles", &[]).await.unwrap();
    root.batch_execute("ALTER ROLE ann NOSUPERUSER").await.unwrap();
    assert_eq!(code(ann.query("SELECT verifier FROM system.roles", &[]).await), "42501");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_can_be_bound_to_its_tls_connection() {
    let server = Server::start().await;
    let mut config = server.config();
    config.channel_binding(tokio_postgres::config::ChannelBinding::Require);
    server.connect_with(&config).await.unwrap().batch_execute("SELECT 1").await.unwrap();
    config.channel_binding(tokio_postgres::config::ChannelBinding::Disable);
    server.connect_with(&config).await.unwrap().batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_beyond_ascii_open_as_they_were_typed() {
    let server = Server::start().await;
    let root = server.connect().await;
    // What clients turn into another text before they hash it.
    for (index, password) in ["p\u{bd}x", "zähe\u{a0}Ülme", "\u{fb01}sh…"].iter().enumerate() {
        root.batch_execute(&format!("CREATE ROLE r{index} LOGIN PASSWORD '{password}'")).await.unwrap();
        server.connect_with(server.config().user(format!("r{index}")).password(password)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slow_and_being_right_is_not_held_up_by_it() {
    let server = Server::start().await;
    let began = std::time::Instant::now();
    let mut wrong = server.config();
    wrong.password("wrong");
    let wrong = server.connect_with(&wrong);
    let right = async {
        server.connect().await;
        began.elapsed()
    };
    let (refused, right) = tokio::join!(wrong, right);
    assert_eq!(code(refused.map(drop)), "28P01");
    assert!(began.elapsed() >= std::time::Duration::from_secs(1) && right < began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_whether_they_are_superusers() {
    let server = Server::start().await;
    let root = server.connect().await;
    root.batch_execute("CREATE ROLE ann LOGIN PASSWORD 'first'").await.unwrap();
    let ann = server.connect_with(server.config().user("ann").password("first")).await.unwrap();
    for (client, told) in [(&root, "on"), (&ann, "off")] {
        let shown = client.simple_query("SHOW is_superuser").await.unwrap();
        let value = shown.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(value, Some(told));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_says_before_it_lends_a_connection_again_is_understood() {
    let server = Server::start().await;
    let client = server.connect().await;
    // asyncpg; its startup packet quotes the encoding.
    client.batch_execute("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL").await.unwrap();
    client.batch_execute("SET client_encoding = '''utf-8'''").await.unwrap();
    client.batch_execute("DISCARD ALL").await.unwrap();
}
