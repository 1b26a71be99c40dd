//! COPY from and to the client, in both protocols.

use futures::{SinkExt, TryStreamExt};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::{Server, code};

async fn copy_in(client: &Client, sql: &str, pieces: &[&[u8]]) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in(sql).await?;
    let mut sink = std::pin::pin!(sink);
    for piece in pieces {
        sink.send(::bytes::Bytes::copy_from_slice(piece)).await?;
    }
    sink.finish().await
}

async fn copy_out(client: &Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    let pieces: Vec<::bytes::Bytes> = client.copy_out(sql).await?.try_collect().await?;
    Ok(String::from_utf8(pieces.concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_copied_in_and_out() {
    let server = Server::start().await;
    let client = server.connect().await;
    client
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, name varchar(5), at timestamptz, note text DEFAULT 'none')")
        .await
        .unwrap();
    let pieces: [&[u8]; 3] =
        [b"1\tann\t2024-01-02 03:04:05+0", b"0\tx\\ty\n2\t\\N\t\\N\t\\N\n", b"3\tb\\\\b\t\\N\t\n\\.\n"];
    assert_eq!(copy_in(&client, "COPY t FROM STDIN", &pieces).await.unwrap(), 3);
    let text = copy_out(&client, "COPY t TO STDOUT").await.unwrap();
    assert_eq!(text, "1\tann\t2024-01-02 03:04:05+00\tx\\ty\n2\t\\N\t\\N\t\\N\n3\tb\\\\b\t\\N\t\n");
    assert_eq!(
        copy_in(&client, "COPY t (name, id) FROM STDIN WITH (FORMAT csv, HEADER)", &[b"name,id\n\"a,b\",4\n,5"])
            .await
            .unwrap(),
        2
    );
    let query = "COPY (SELECT id, name, note FROM t WHERE id > 3) TO STDOUT (FORMAT csv, HEADER)";
    assert_eq!(copy_out(&client, query).await.unwrap(), "id,name,note\n4,\"a,b\",none\n5,,none\n");
    // Many rows, over several INSERTs, each with its own default.
    client.batch_execute("CREATE TABLE many (id uuid DEFAULT gen_random_uuid(), n int UNIQUE)").await.unwrap();
    let lines: String = (0..2_000).map(|n| format!("{n}\n")).collect();
    let pieces: Vec<&[u8]> = lines.as_bytes().chunks(700).collect();
    assert_eq!(copy_in(&client, "COPY many (n) FROM STDIN", &pieces).await.unwrap(), 2_000);
    let row = client.query_one("SELECT count(DISTINCT id), sum(n) FROM many", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2_000, 1_999_000));
    assert_eq!(copy_out(&client, "COPY many (n) TO STDOUT").await.unwrap().lines().count(), 2_000);
    // In a block, with what was written before, and in the simple protocol.
    client.batch_execute("BEGIN; DELETE FROM many WHERE n > 0").await.unwrap();
    assert_eq!(copy_out(&client, "COPY many (n) TO STDOUT").await.unwrap(), "0\n");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(client.simple_query("COPY t (id) TO STDOUT; SELECT 1").await.is_err(), "tokio-postgres can't, but goes on");
    let messages = client.simple_query("SELECT 1").await.unwrap();
    assert!(messages.iter().any(|message| matches!(message, SimpleQueryMessage::Row(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_leaves_nothing_and_the_connection_goes_on() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, name varchar(5))").await.unwrap();
    let wrong: [(&[u8], &str); 6] = [
        (b"1\tann\nx\tbob\n", "22P02"),
        (b"1\tann\n2\n", "22P04"),
        (b"1\tann\n2\tbob\tmore\n", "22P04"),
        (b"1\tann\n2\ttoolong\n", "22001"),
        (b"1\tann\n1\tbob\n", "23505"),
        (b"1\tann\n\xff\t\n", "22021"),
    ];
    for (data, state) in wrong {
        let failed = copy_in(&client, "COPY t FROM STDIN", &[data, b"9\tafter\n"]).await;
        assert_eq!(code(failed), state, "{:?}", String::from_utf8_lossy(data));
        let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 0);
    }
    // A client that gives up.
    {
        let sink = client.copy_in::<_, ::bytes::Bytes>("COPY t FROM STDIN").await.unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(::bytes::Bytes::from_static(b"1\tann\n")).await.unwrap();
    }
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get::<_, i64>(0), 0);
    for refused in ["COPY t FROM '/etc/passwd'", "COPY t TO PROGRAM 'cat'"] {
        assert_eq!(code(client.batch_execute(refused).await), "0A000");
    }
    assert_eq!(code(copy_out(&client, "COPY nowhere TO STDOUT").await), "42P01");
    assert_eq!(code(copy_out(&client, "COPY (SELECT 1 / 0) TO STDOUT").await), "22012");
    assert_eq!(code(client.batch_execute("COPY (SELECT verifier FROM system.nowhere) TO STDOUT").await), "42P01");
}
