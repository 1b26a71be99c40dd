//! The extended protocol: parameters and results in both formats, descriptions, portals, errors with positions.

use futures::{StreamExt, TryStreamExt, pin_mut};
use tokio_postgres::types::Type;

use crate::support::{Server, code};

#[tokio::test(flavor = "multi_thread")]
async fn values_travel_in_binary_both_ways() {
    let server = Server::start().await;
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE TABLE t (id int8 PRIMARY KEY, b bool, s int2, i int4, f float8, t text, y bytea, u uuid, j jsonb)",
        )
        .await
        .unwrap();
    let insert = "INSERT INTO t (id, b, s, i, f, t, y) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let bytes = vec![0u8, 255, 7];
    let text = "zähe Ülme \u{1F41A}";
    let written = client.execute(insert, &[&1i64, &true, &-2i16, &3i32, &4.5f64, &text, &bytes]).await.unwrap();
    assert_eq!(written, 1);
    client
        .execute(insert, &[&2i64, &None::<bool>, &None::<i16>, &None::<i32>, &None::<f64>, &"", &Vec::<u8>::new()])
        .await
        .unwrap();
    let row = client.query_one("SELECT id, b, s, i, f, t, y FROM t WHERE id = $1", &[&1i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    assert_eq!((row.get::<_, bool>(1), row.get::<_, i16>(2), row.get::<_, i32>(3)), (true, -2, 3));
    assert_eq!((row.get::<_, f64>(4), row.get::<_, &str>(5)), (4.5, text));
    assert_eq!(row.get::<_, Vec<u8>>(6), bytes);
    let row = client.query_one("SELECT b, i, t FROM t WHERE id = 2", &[]).await.unwrap();
    assert_eq!((row.get::<_, Option<bool>>(0), row.get::<_, Option<i32>>(1), row.get::<_, &str>(2)), (None, None, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_described_before_any_value_exists() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int8 PRIMARY KEY, name text)").await.unwrap();
    let statement = client.prepare("SELECT name, id FROM t WHERE id = $1 AND name <> $2").await.unwrap();
    assert_eq!(statement.params(), [Type::INT8, Type::TEXT]);
    let columns: Vec<(&str, &Type)> = statement.columns().iter().map(|it| (it.name(), it.type_())).collect();
    assert_eq!(columns, [("name", &Type::TEXT), ("id", &Type::INT8)]);
    assert!(client.prepare("INSERT INTO t VALUES ($1, $2)").await.unwrap().columns().is_empty());
    assert_eq!(client.prepare("SHOW timezone").await.unwrap().columns().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_a_code_and_a_position_and_the_connection_lives_on() {
    let server = Server::start().await;
    let client = server.connect().await;
    let error = client.query("SELECT nothing FROM nowhere", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "42P01");
    assert!(error.position().is_some(), "{error:?}");
    assert_eq!(code(client.query("SELEC 1", &[]).await), "42601");
    assert_eq!(code(client.query("SELECT 1; SELECT 2", &[]).await), "42601");
    client.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY, n int4 NOT NULL)").await.unwrap();
    client.execute("INSERT INTO t VALUES (1, 1)", &[]).await.unwrap();
    let error = client.execute("INSERT INTO t VALUES (1, 2)", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.table()), ("23505", Some("t")));
    assert_eq!(code(client.execute("INSERT INTO t VALUES (2, NULL)", &[]).await), "23502");
    assert_eq!(code(client.query("SELECT 1 / (id - 1) FROM t", &[]).await), "22012");
    assert_eq!(client.query("SELECT id FROM t", &[]).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_hands_out_its_rows_a_few_at_a_time() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await.unwrap();
    for start in (0..1_000).step_by(100) {
        let rows: Vec<String> = (start..start + 100).map(|id| format!("({id})")).collect();
        client.batch_execute(&format!("INSERT INTO t VALUES {}", rows.join(","))).await.unwrap();
    }
    let transaction = client.transaction().await.unwrap();
    let statement = transaction.prepare("SELECT id FROM t ORDER BY id").await.unwrap();
    let portal = transaction.bind(&statement, &[]).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let rows = transaction.query_portal(&portal, 300).await.unwrap();
        if rows.is_empty() {
            break;
        }
        seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        assert!(seen.len() <= 1_000);
    }
    assert_eq!(seen, (0..1_000).collect::<Vec<i32>>());
    transaction.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_stream_and_pipelined_statements_keep_their_order() {
    let server = Server::start().await;
    let client = server.connect().await;
    let none: [&str; 0] = [];
    let rows = client.query_raw("SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g", none).await.unwrap();
    pin_mut!(rows);
    let mut count = 0;
    while let Some(row) = rows.next().await {
        count += 1;
        assert_eq!(row.unwrap().get::<_, i32>(0), count);
    }
    assert_eq!(count, 20_000);
    let one = client.prepare("SELECT $1::int4").await.unwrap();
    let asked: futures::stream::FuturesOrdered<_> = (0..50)
        .map(|number: i32| {
            let (client, one) = (&client, &one);
            async move { client.query_one(one, &[&number]).await.map(|row| row.get::<_, i32>(0)) }
        })
        .collect();
    let answers: Vec<i32> = asked.try_collect().await.unwrap();
    assert_eq!(answers, (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_outlives_a_schema_change_where_it_can() {
    let server = Server::start().await;
    let client = server.connect().await;
    client.batch_execute("CREATE TABLE t (id int4 PRIMARY KEY)").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let statement = client.prepare("SELECT id FROM t").await.unwrap();
    client.batch_execute("CREATE TABLE unrelated (id int4 PRIMARY KEY)").await.unwrap();
    assert_eq!(client.query(&statement, &[]).await.unwrap().len(), 1);
    client.batch_execute("DROP TABLE t").await.unwrap();
    assert_eq!(code(client.query(&statement, &[]).await), "42P01");
}
