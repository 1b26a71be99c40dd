//! What ends a statement or a connection: cancel requests, timeouts, too many clients, a node that stops.

use std::time::Duration;

use rockpool_proto::limits::SQL_STATEMENT_BYTES_MAX;
use rockpool_sqlnode::pg::PgOptions;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::support::{Server, code, eventually, options};

/// A statement that takes long in any executor: billions of pairs.
const LONG: &str = "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_ends_the_statement_and_not_the_connection() {
    let server = Server::start().await;
    let client = server.connect().await;
    let token = client.cancel_token();
    let tls = MakeRustlsConnect::new(server.tls());
    let running = async { code(client.batch_execute(LONG).await) };
    tokio::pin!(running);
    // The request may come before the statement has begun, and then ends nothing: it is sent until it does.
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            () = tokio::time::sleep(Duration::from_millis(50)) => token.cancel_query(tls.clone()).await.unwrap(),
        }
    };
    assert_eq!(ended, "57014");
    assert_eq!(client.query_one("SELECT 1", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_too_long_is_refused_with_the_bound_and_the_connection_lives_on() {
    let server = Server::start().await;
    let client = server.connect().await;
    let long = format!("SELECT 1 --{}", "x".repeat(SQL_STATEMENT_BYTES_MAX));
    let error = client.batch_execute(&long).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "54000");
    assert!(error.message().contains(&SQL_STATEMENT_BYTES_MAX.to_string()), "{error}");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_ends_at_its_timeout() {
    let server = Server::start_with(PgOptions { statement_timeout: Duration::from_millis(80), ..options() }).await;
    let client = server.connect().await;
    assert_eq!(code(client.batch_execute(LONG).await), "57014");
    let error = client.query(LONG, &[]).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("statement timeout"), "{error}");
    client.batch_execute("SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_waits_too_long_is_ended() {
    let limited = PgOptions { idle_in_transaction_timeout: Duration::from_millis(80), ..options() };
    let server = Server::start_with(limited).await;
    let client = server.connect().await;
    client.batch_execute("BEGIN").await.unwrap();
    eventually("the end of the connection", async || client.is_closed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_allowed_are_told_so() {
    let server = Server::start_with(PgOptions { connections_max: 2, ..options() }).await;
    let (_one, two) = (server.connect().await, server.connect().await);
    assert_eq!(code(server.connect_with(&server.config()).await.map(drop)), "53300");
    drop(two);
    eventually("a free place", async || server.connect_with(&server.config()).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_lets_open_blocks_finish_and_ends_idle_connections() {
    let server = Server::start().await;
    let (idle, busy) = (server.connect().await, server.connect().await);
    busy.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await.unwrap();
    busy.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    server.pg.stop();
    eventually("the end of the idle connection", async || idle.is_closed()).await;
    busy.batch_execute("COMMIT").await.unwrap();
    eventually("the end of the busy connection", async || busy.is_closed()).await;
    server.pg.drained(Duration::from_secs(5)).await;
    assert_eq!(server.pg.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_and_failures_are_counted() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(code(client.batch_execute("SELECT nothing").await), "42703");
    let text = server.metrics.encode();
    assert!(text.contains("rockpool_sql_statement_duration_seconds_count{kind=\"query\"} 1"), "{text}");
    assert!(text.contains("rockpool_sql_statement_failures_total{sqlstate=\"42703\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_and_says_nothing_keeps_nobody_out_and_holds_up_no_end() {
    let server = Server::start_with(PgOptions { connections_max: 2, ..options() }).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    server.connect().await.batch_execute("SELECT 1").await.unwrap();
    let began = std::time::Instant::now();
    server.pg.stop();
    server.pg.drained(Duration::from_secs(15)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_all_portals_of_a_session_is_bounded() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let transaction = client.transaction().await.unwrap();
    let large = "SELECT repeat('x', 1000000) FROM generate_series(1, 40)";
    let one = transaction.bind(large, &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&one, 1).await.unwrap().len(), 1);
    let two = transaction.bind(large, &[]).await.unwrap();
    assert_eq!(code(transaction.query_portal(&two, 1).await), "54000");
}
