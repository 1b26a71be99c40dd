//! What bounds a statement, and what becomes of plans when the catalog changes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rockpool_sql::{
    Caches, MemoryStore, Prepared, Result, Row, RowSink, SessionInfo, SqlError, SqlState, Value, execute, parse,
    prepare,
};

struct Database {
    store: MemoryStore,
    session: SessionInfo,
    caches: Caches,
}

impl Database {
    fn new() -> Self {
        Database { store: MemoryStore::new(), session: SessionInfo::new("root", "rockpool"), caches: Caches::new() }
    }

    fn prepare(&self, sql: &str) -> Result<Arc<Prepared>> {
        prepare(&parse(sql)?[0], &self.store, &self.session, &self.caches, &[])
    }

    fn run(&mut self, sql: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for statement in parse(sql)? {
            self.session.random_seed[0] = self.session.random_seed[0].wrapping_add(1);
            let prepared = prepare(&statement, &self.store, &self.session, &self.caches, &[])?;
            execute(&prepared, &[], &mut self.store, &self.session, &mut rows)?;
        }
        Ok(rows)
    }
}

fn state(result: Result<Vec<Row>>) -> SqlState {
    result.expect_err("the statement fails").state
}

#[test]
fn nesting_as_deep_as_is_allowed_fits_a_small_stack() {
    let run = || {
        let mut db = Database::new();
        db.run("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
        for depth in 1..100 {
            let shapes = [
                format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)),
                format!("SELECT {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth)),
                format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(depth), ") x".repeat(depth)),
                format!("SELECT {}1{}", "abs(".repeat(depth), ")".repeat(depth)),
                format!("SELECT {}1 {}", "CASE WHEN true THEN ".repeat(depth), "END ".repeat(depth)),
                format!("SELECT 1 WHERE {}true{}", "NOT (".repeat(depth), ")".repeat(depth)),
                format!("SELECT 1{}", " UNION SELECT 1".repeat(depth * 9)),
                format!("SELECT 1{}", " UNION SELECT 1 EXCEPT SELECT 2".repeat(depth * 4)),
                format!("SELECT NULL::int{}", "[]".repeat(depth * 9)),
                format!("SELECT x{} FROM (SELECT ARRAY[1] AS x) q", "[1]".repeat(depth * 9)),
                format!("SELECT 1{}", " + 1".repeat(depth * 9)),
                format!("SELECT true{}", " AND true".repeat(depth * 9)),
                format!("SELECT 1 FROM t{}", (0..depth).map(|n| format!(" JOIN t t{n} ON true")).collect::<String>()),
            ];
            for sql in shapes {
                if let Err(error) = db.run(&sql) {
                    assert_eq!(error.state, SqlState::STATEMENT_TOO_COMPLEX, "{error}: {sql}");
                }
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_statement_is_held_to_its_memory() {
    let mut db = Database::new();
    db.session.limits.memory_bytes_max = 100_000;
    let sorted = "SELECT g FROM generate_series(1, 100000) g ORDER BY g DESC";
    assert_eq!(state(db.run(sorted)), SqlState::OUT_OF_MEMORY);
    let grouped = "SELECT g, count(*) FROM generate_series(1, 100000) g GROUP BY g";
    assert_eq!(state(db.run(grouped)), SqlState::OUT_OF_MEMORY);
    for collected in [
        "SELECT array_agg(g) FROM generate_series(1, 100000) g",
        "SELECT count(c) FROM (SELECT string_agg(g::text, '') c FROM generate_series(1, 100000) g GROUP BY g % 10) x",
        "SELECT jsonb_agg(g ORDER BY -g) FROM generate_series(1, 100000) g",
        "SELECT count(DISTINCT g) FROM generate_series(1, 100000) g",
        "SELECT g FROM (SELECT g, to_jsonb(repeat('x', 1000)) FROM generate_series(1, 200) g) t(g, j) ORDER BY j, g",
    ] {
        assert_eq!(state(db.run(collected)), SqlState::OUT_OF_MEMORY, "{collected}");
    }
    // Of a bounded sort only what is wanted is held.
    assert_eq!(db.run(&format!("{sorted} LIMIT 2")).unwrap(), [[Value::Int4(100_000)], [Value::Int4(99_999)]]);
    assert_eq!(db.run("SELECT count(*) FROM generate_series(1, 100000)").unwrap(), [[Value::Int8(100_000)]]);
}

#[test]
fn rows_that_are_gone_are_not_counted() {
    let mut db = Database::new();
    db.session.limits.memory_bytes_max = 200_000;
    // Each run of the inner query sorts, groups or joins anew.
    for inner in [
        "SELECT i FROM generate_series(1, 100) i WHERE i > g % 50 ORDER BY i DESC LIMIT 1",
        "SELECT count(*) FROM (SELECT DISTINCT i % 50 FROM generate_series(1, 100) i WHERE i > g) d",
        "SELECT count(*) FROM generate_series(1, 100) i JOIN generate_series(1, 100) j ON i = j WHERE i <> g",
    ] {
        let rows = db.run(&format!("SELECT count(({inner})) FROM generate_series(1, 500) g")).unwrap();
        assert_eq!(rows, [[Value::Int8(500)]], "{inner}");
        let rows = db.run(&format!("SELECT count(*) FROM generate_series(1, 500) g, LATERAL ({inner}) x")).unwrap();
        assert_eq!(rows, [[Value::Int8(500)]], "{inner}");
    }
}

#[test]
fn what_one_left_row_is_joined_with_is_held_to_the_memory() {
    let mut db = Database::new();
    db.session.limits.memory_bytes_max = 100_000;
    let lateral = "SELECT count(*) FROM (VALUES (100000), (1)) v (a), LATERAL generate_series(1, a)";
    assert_eq!(state(db.run(lateral)), SqlState::OUT_OF_MEMORY);
    let in_list = "SELECT count(*) FROM (SELECT generate_series(1, a) FROM (VALUES (100000), (1)) v (a)) s";
    assert_eq!(state(db.run(in_list)), SqlState::OUT_OF_MEMORY);
}

#[test]
fn rows_within_rows_are_bounded() {
    let mut db = Database::new();
    assert!(db.run(&format!("SELECT {}1{}", "(1, ".repeat(12), ")".repeat(12))).is_ok());
    let deep = format!("SELECT {}1{}", "(1, ".repeat(40), ")".repeat(40));
    assert_eq!(state(db.run(&deep)), SqlState::PROGRAM_LIMIT_EXCEEDED);
    let deep = (0..20).fold("SELECT 1 AS x".to_string(), |inner, _| format!("SELECT ROW(1, x) AS x FROM ({inner}) s"));
    assert_eq!(state(db.run(&deep)), SqlState::PROGRAM_LIMIT_EXCEEDED);
}

#[test]
fn too_many_columns_are_noticed_at_once() {
    let mut db = Database::new();
    let columns = |count: usize| (0..count).map(|at| format!("c{at} int")).collect::<Vec<_>>().join(", ");
    assert_eq!(state(db.run(&format!("CREATE TABLE t ({})", columns(100_000)))), SqlState::TOO_MANY_COLUMNS);
    db.run(&format!("CREATE TABLE t ({})", columns(1_599))).unwrap();
    assert_eq!(state(db.run("ALTER TABLE t ADD COLUMN more int")), SqlState::TOO_MANY_COLUMNS);
}

#[test]
fn a_cancelled_statement_stops() {
    let mut db = Database::new();
    db.session.limits.cancel = Some(Arc::new(AtomicBool::new(true)));
    assert_eq!(state(db.run("SELECT count(*) FROM generate_series(1, 1000000000)")), SqlState::QUERY_CANCELED);
}

#[test]
fn a_failed_statement_leaves_nothing() {
    let mut db = Database::new();
    db.run("CREATE TABLE t (a int PRIMARY KEY)").unwrap();
    assert_eq!(state(db.run("INSERT INTO t VALUES (1), (2), (1)")), SqlState::UNIQUE_VIOLATION);
    assert_eq!(db.run("SELECT count(*) FROM t").unwrap(), [[Value::Int8(0)]]);
    db.run("INSERT INTO t VALUES (1)").unwrap();
    assert_eq!(state(db.run("CREATE UNIQUE INDEX i ON nowhere (a)")), SqlState::UNDEFINED_TABLE);
}

#[test]
fn a_plan_outlives_changes_that_leave_its_columns_alone() {
    let mut db = Database::new();
    db.run("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 10), (2, 20)").unwrap();
    let prepared = db.prepare("SELECT a FROM t WHERE b = $1").unwrap();
    let star = db.prepare("SELECT * FROM t").unwrap();
    assert!(!prepared.is_stale(&db.store).unwrap());
    assert!(Arc::ptr_eq(&prepared, &db.prepare("SELECT a FROM t WHERE b = $1").unwrap()));
    db.run("CREATE INDEX ON t (b); ALTER TABLE t ADD COLUMN c int").unwrap();
    assert!(prepared.is_stale(&db.store).unwrap());
    let mut rows: Vec<Row> = Vec::new();
    execute(&prepared, &[Value::Int4(20)], &mut db.store, &db.session, &mut rows).unwrap();
    assert_eq!(rows, [[Value::Int4(2)]]);
    let error = execute(&star, &[], &mut db.store, &db.session, &mut rows).unwrap_err();
    assert_eq!(error.state, SqlState::FEATURE_NOT_SUPPORTED);
}

/// Takes one batch.
struct One(usize);

impl RowSink for One {
    fn rows(&mut self, batch: Vec<Row>) -> Result<ControlFlow<()>, SqlError> {
        self.0 += batch.len();
        Ok(ControlFlow::Break(()))
    }
}

#[test]
fn rows_come_in_batches_and_can_be_stopped() {
    let mut db = Database::new();
    let prepared = db.prepare("SELECT g FROM generate_series(1, 1000000000) g").unwrap();
    let mut sink = One(0);
    execute(&prepared, &[], &mut db.store, &db.session, &mut sink).unwrap();
    assert_eq!(sink.0, rockpool_sql::BATCH_ROWS);
}

#[test]
fn uncommitted_catalogs_are_not_confused() {
    // Two transactions begin at one catalog and each make another; both share the caches.
    let mut db = Database::new();
    db.run("CREATE TABLE base (a int)").unwrap();
    db.store.commit();
    let mut other = Database { store: db.store.clone(), session: db.session.clone(), caches: db.caches.clone() };
    other.session.random_seed = [9; 32];
    db.run("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    other.run("CREATE TABLE t (b text, c text); INSERT INTO t VALUES ('x', 'y')").unwrap();
    assert_eq!(db.run("SELECT * FROM t").unwrap(), [[Value::Int4(1)]]);
    assert_eq!(other.run("SELECT * FROM t").unwrap(), [[Value::text("x"), Value::text("y")]]);
}
