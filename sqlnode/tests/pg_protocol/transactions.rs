//! Blocks, savepoints, implicit transactions, conflicts and trying again, numbers of sequences.

use tokio_postgres::SimpleQueryMessage;

use crate::support::{Server, code};

async fn count(client: &tokio_postgres::Client) -> i64 {
    client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_commit_roll_back_and_return_to_savepoints() {
    let server = Server::start().await;
    let client = server.connect().await;
    let other = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    assert_eq!((count(&client).await, count(&other).await), (1, 0));
    client.batch_execute("SAVEPOINT a; INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(code(client.batch_execute("INSERT INTO t VALUES (1)").await), "23505");
    assert_eq!(code(client.batch_execute("SELECT 1").await), "25P02");
    client.batch_execute("ROLLBACK TO a; INSERT INTO t VALUES (3); RELEASE a; COMMIT").await.unwrap();
    assert_eq!((count(&client).await, count(&other).await), (2, 2));
    client.batch_execute("BEGIN; DELETE FROM t").await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(count(&client).await, 2);
    client.batch_execute("BEGIN").await.unwrap();
    assert_eq!(code(client.batch_execute("nonsense").await), "42601");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(count(&client).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_of_several_statements_is_one_transaction() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await.unwrap();
    let failed =
        client.batch_execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2); INSERT INTO t VALUES (1)").await;
    assert_eq!(code(failed), "23505");
    assert_eq!(count(&client).await, 0);
    let messages = client.simple_query("INSERT INTO t VALUES (1); SELECT id FROM t; ; SELECT 2").await.unwrap();
    let rows = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count();
    assert_eq!(rows, 2);
    assert_eq!(count(&client).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_blocks_are_told_to_retry_and_single_statements_retry_themselves() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY, n int8 NOT NULL)").await.unwrap();
    one.batch_execute("INSERT INTO t VALUES (1, 0)").await.unwrap();
    for client in [&one, &two] {
        client.batch_execute("BEGIN; UPDATE t SET n = n + 1 WHERE id = 1").await.unwrap();
    }
    one.batch_execute("COMMIT").await.unwrap();
    assert_eq!(code(two.batch_execute("COMMIT").await), "40001");
    assert_eq!(code(two.batch_execute("SAVEPOINT x").await), "25P01");

    let mut tasks = Vec::new();
    for _ in 0..8 {
        let client = server.connect().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..25 {
                client.execute("UPDATE t SET n = n + $1 WHERE id = 1", &[&1i64]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let row = one.query_one("SELECT n FROM t WHERE id = 1", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_changed_shown_and_undone() {
    let server = Server::start().await;
    let client = server.connect().await;
    let show = async |name: &str| match client.simple_query(&format!("SHOW {name}")).await.unwrap().remove(1) {
        SimpleQueryMessage::Row(row) => row.get(0).unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    };
    // Programs ask in both ways for settings that nobody has changed.
    let row = client.query_one("SELECT current_setting('server_version_num'), current_setting('Search_Path')", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("150000", show("search_path").await.as_str()));
    client.batch_execute("SET statement_timeout = '5s'").await.unwrap();
    assert_eq!(show("statement_timeout").await, "5000");
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = 7; ROLLBACK").await.unwrap();
    assert_eq!(show("statement_timeout").await, "5000");
    client.batch_execute("RESET ALL").await.unwrap();
    assert_eq!(show("statement_timeout").await, "0");
    assert_eq!(code(client.batch_execute("SET nonsense = 1").await), "42704");
    assert!(client.simple_query("SHOW ALL").await.unwrap().len() > 20);
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_draw_from_one_sequence_do_not_conflict() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE TABLE t (id bigserial PRIMARY KEY, who text)").await.unwrap();
    for _ in 0..30 {
        for client in [&one, &two] {
            client.batch_execute("BEGIN").await.unwrap();
            client.batch_execute("INSERT INTO t (who) VALUES ('a'), ('b')").await.unwrap();
        }
        two.batch_execute("COMMIT").await.unwrap();
        one.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(count(&one).await, 120);
    assert_eq!(number(&one, "SELECT max(id) FROM t").await, 120);
    // Many at once, over several blocks; each number once.
    one.batch_execute("INSERT INTO t (who) SELECT 'c' FROM generate_series(1, 5000)").await.unwrap();
    assert_eq!(number(&two, "SELECT count(DISTINCT id) FROM t").await, 5120);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_given_once_and_a_sequence_that_is_set_begins_there() {
    let server = Server::start().await;
    let (one, two) = (server.connect().await, server.connect().await);
    one.batch_execute("CREATE SEQUENCE s").await.unwrap();
    let next = "SELECT nextval('s')";
    assert_eq!((number(&one, next).await, number(&two, next).await), (1, 2));
    // What is rolled back is not given again.
    one.batch_execute("BEGIN; SELECT nextval('s'); ROLLBACK").await.unwrap();
    assert_eq!((number(&two, next).await, number(&one, "SELECT currval('s')").await), (4, 3));
    // Setting it belongs to its transaction, which counts on from there; the others see it when it is committed.
    one.batch_execute("BEGIN; SELECT setval('s', 100)").await.unwrap();
    assert_eq!((number(&one, next).await, number(&one, next).await, number(&two, next).await), (101, 102, 5));
    one.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(number(&one, next).await, 6);
    one.batch_execute("SELECT setval('s', 100)").await.unwrap();
    assert_eq!((number(&two, next).await, number(&one, next).await), (101, 102));
    // One that is not committed yet is its transaction's own.
    one.batch_execute("BEGIN; CREATE TABLE t (id serial, n int); INSERT INTO t (n) VALUES (1), (2)").await.unwrap();
    one.batch_execute("INSERT INTO t (n) VALUES (3); COMMIT; INSERT INTO t (n) VALUES (4)").await.unwrap();
    assert_eq!(number(&two, "SELECT sum(id) FROM t").await, 1 + 2 + 3 + 4);
    two.batch_execute("TRUNCATE t RESTART IDENTITY; INSERT INTO t (n) VALUES (1)").await.unwrap();
    assert_eq!(number(&two, "SELECT sum(id) FROM t").await, 1);
    // The end is reached at the same number as ever.
    one.batch_execute("CREATE SEQUENCE few MAXVALUE 3").await.unwrap();
    assert_eq!(number(&one, "SELECT sum(nextval('few'))::int8 FROM generate_series(1, 3)").await, 6);
    assert_eq!(code(one.batch_execute("SELECT nextval('few')").await), "2200H");
    one.batch_execute("CREATE SEQUENCE round MINVALUE 1 MAXVALUE 2 CYCLE").await.unwrap();
    assert_eq!(number(&one, "SELECT sum(nextval('round'))::int8 FROM generate_series(1, 5)").await, 7);
}
