//! What a prepared statement costs without a network or a disk: the SQL library alone, over the store in memory.
//!
//!     cargo bench -p rockpool-bench --bench sql

use criterion::{Criterion, criterion_group, criterion_main};
use rockpool_sql::{Caches, MemoryStore, Row, SessionInfo, Store, Value, execute, parse, prepare};
use std::hint::black_box;
use std::sync::Arc;

const ROWS: i64 = 10_000;

struct Database {
    store: MemoryStore,
    session: SessionInfo,
    caches: Caches,
}

impl Database {
    fn filled() -> Database {
        let session = SessionInfo::new("root", "rockpool");
        let mut database = Database { store: MemoryStore::new(), session, caches: Caches::new() };
        database.run("CREATE TABLE bench (id int8 PRIMARY KEY, body text NOT NULL)", &[]);
        database
            .run(&format!("INSERT INTO bench SELECT n, repeat('x', 256) FROM generate_series(0, {}) n", ROWS - 1), &[]);
        database.store.commit();
        database
    }

    fn run(&mut self, sql: &str, params: &[Value]) -> Vec<Row> {
        let statement = &parse(sql).expect("it parses")[0];
        let prepared = prepare(statement, &self.store, &self.session, &self.caches, &[]).expect("it binds");
        let mut rows = Vec::new();
        execute(&prepared, params, &mut self.store, &self.session, &mut rows).expect("it runs");
        rows
    }
}

fn statements(criterion: &mut Criterion) {
    let mut database = Database::filled();
    let select = "SELECT body FROM bench WHERE id = $1";
    let insert = "INSERT INTO bench VALUES ($1, $2)";
    let text = |text: &str| Value::Text(Arc::from(text));

    let mut id = 0;
    criterion.bench_function("point select, text to rows", |bencher| {
        bencher.iter(|| {
            id = (id + 7919) % ROWS;
            black_box(database.run(select, &[Value::Int8(id)]))
        });
    });

    let statement = parse(select).expect("it parses").remove(0);
    let prepared = prepare(&statement, &database.store, &database.session, &database.caches, &[]).expect("it binds");
    criterion.bench_function("point select, prepared", |bencher| {
        bencher.iter(|| {
            id = (id + 7919) % ROWS;
            let mut rows: Vec<Row> = Vec::new();
            execute(&prepared, &[Value::Int8(id)], &mut database.store, &database.session, &mut rows).expect("it runs");
            black_box(rows)
        });
    });

    let statement = parse(insert).expect("it parses").remove(0);
    let prepared = prepare(&statement, &database.store, &database.session, &database.caches, &[]).expect("it binds");
    let body = "y".repeat(256);
    criterion.bench_function("single-row insert, prepared, undone", |bencher| {
        bencher.iter(|| {
            let mark = database.store.savepoint();
            let params = [Value::Int8(ROWS), text(&body)];
            let mut rows: Vec<Row> = Vec::new();
            execute(&prepared, &params, &mut database.store, &database.session, &mut rows).expect("it runs");
            database.store.rollback_to(mark);
        });
    });
    criterion.bench_function("aggregate over 10,000 rows", |bencher| {
        bencher.iter(|| black_box(database.run("SELECT id % 10, count(*), max(body) FROM bench GROUP BY 1", &[])));
    });
}

criterion_group!(benches, statements);
criterion_main!(benches);
