//! The machine, driven by SQL text.

use rockpool_sql::{SqlState, parse};

use super::*;

fn session() -> SqlSession {
    SqlSession::new("ann", false, "rockpool", Settings::default())
}

fn plan(session: &mut SqlSession, sql: &str) -> Result<Step, SqlState> {
    let statement = parse(sql).unwrap().remove(0);
    session.plan(statement.kind()).map_err(|error| error.state)
}

#[test]
fn a_block_runs_commits_and_ends() {
    let mut session = session();
    assert_eq!(plan(&mut session, "BEGIN"), Ok(Step::Done("BEGIN")));
    assert_eq!(plan(&mut session, "SELECT 1"), Ok(Step::Run));
    assert_eq!(session.phase(), Phase::Open);
    assert_eq!(plan(&mut session, "COMMIT"), Ok(Step::Commit));
    session.ended(Outcome::Committed);
    assert_eq!(session.phase(), Phase::Idle);
    assert!(session.take_notices().is_empty());
}

#[test]
fn a_failed_block_takes_nothing_but_its_end() {
    let mut session = session();
    plan(&mut session, "BEGIN").unwrap();
    session.failed();
    assert_eq!(plan(&mut session, "SELECT 1"), Err(SqlState::IN_FAILED_SQL_TRANSACTION));
    assert_eq!(plan(&mut session, "BEGIN"), Err(SqlState::IN_FAILED_SQL_TRANSACTION));
    assert_eq!(plan(&mut session, "COMMIT"), Ok(Step::Rollback { tag: "ROLLBACK" }));
    session.ended(Outcome::RolledBack);
    assert_eq!(plan(&mut session, "SELECT 1"), Ok(Step::Run));
}

#[test]
fn an_implicit_transaction_ends_with_its_failure_and_becomes_a_block_by_begin() {
    let mut session = session();
    plan(&mut session, "SELECT 1").unwrap();
    assert_eq!(session.phase(), Phase::Implicit);
    session.failed();
    assert_eq!(session.phase(), Phase::Idle);
    plan(&mut session, "SELECT 1").unwrap();
    plan(&mut session, "BEGIN").unwrap();
    assert_eq!(session.phase(), Phase::Open);
    plan(&mut session, "BEGIN").unwrap();
    assert_eq!(session.take_notices()[0].state, SqlState::ACTIVE_SQL_TRANSACTION);
}

#[test]
fn ends_without_a_block_warn() {
    for sql in ["COMMIT", "ROLLBACK"] {
        let mut session = session();
        assert!(matches!(plan(&mut session, sql), Ok(Step::Done(_))));
        assert_eq!(session.take_notices()[0].state, SqlState::NO_ACTIVE_SQL_TRANSACTION);
    }
}

#[test]
fn savepoints_nest_and_are_returned_to() {
    let mut session = session();
    assert_eq!(plan(&mut session, "SAVEPOINT a"), Err(SqlState::NO_ACTIVE_SQL_TRANSACTION));
    plan(&mut session, "BEGIN").unwrap();
    for (name, at) in [("a", 1), ("b", 2), ("a", 3)] {
        assert_eq!(plan(&mut session, &format!("SAVEPOINT {name}")), Ok(Step::Mark(name.to_owned())));
        session.marked(name.to_owned(), Savepoint(at));
    }
    session.failed();
    assert_eq!(plan(&mut session, "ROLLBACK TO a"), Ok(Step::RollbackTo(Savepoint(3))));
    assert_eq!(session.phase(), Phase::Open);
    assert_eq!(plan(&mut session, "RELEASE a"), Ok(Step::Done("RELEASE")));
    assert_eq!(plan(&mut session, "ROLLBACK TO a"), Ok(Step::RollbackTo(Savepoint(1))));
    assert_eq!(plan(&mut session, "ROLLBACK TO b"), Err(SqlState::INVALID_SAVEPOINT_SPECIFICATION));
}

#[test]
fn settings_follow_the_transaction() {
    let mut session = session();
    let show = |session: &mut SqlSession| match plan(session, "SHOW application_name") {
        Ok(Step::Show { value, .. }) => value,
        other => panic!("{other:?}"),
    };
    plan(&mut session, "SET application_name = 'one'").unwrap();
    plan(&mut session, "BEGIN").unwrap();
    plan(&mut session, "SET application_name = 'two'").unwrap();
    session.marked("s".to_owned(), Savepoint(0));
    plan(&mut session, "SET LOCAL application_name = 'three'").unwrap();
    assert_eq!(show(&mut session), "three");
    plan(&mut session, "ROLLBACK TO s").unwrap();
    assert_eq!(show(&mut session), "two");
    plan(&mut session, "SET LOCAL application_name = 'four'").unwrap();
    session.ended(Outcome::Committed);
    assert_eq!(show(&mut session), "two");
    plan(&mut session, "BEGIN").unwrap();
    plan(&mut session, "SET application_name = 'five'").unwrap();
    session.ended(Outcome::RolledBack);
    assert_eq!(show(&mut session), "two");
    plan(&mut session, "SET LOCAL application_name = 'six'").unwrap();
    assert_eq!(session.take_notices().len(), 1);
    assert_eq!(show(&mut session), "two");
}

#[test]
fn a_read_only_block_refuses_writes() {
    let mut session = session();
    plan(&mut session, "BEGIN READ ONLY").unwrap();
    assert_eq!(plan(&mut session, "SELECT 1"), Ok(Step::Run));
    assert_eq!(plan(&mut session, "DELETE FROM t"), Err(SqlState::READ_ONLY_SQL_TRANSACTION));
    assert_eq!(plan(&mut session, "CREATE TABLE t (a int)"), Err(SqlState::READ_ONLY_SQL_TRANSACTION));
    session.ended(Outcome::RolledBack);
    assert_eq!(plan(&mut session, "DELETE FROM t"), Ok(Step::Run));
}

#[test]
fn chaining_opens_the_next_block() {
    let mut session = session();
    plan(&mut session, "BEGIN READ ONLY").unwrap();
    plan(&mut session, "COMMIT AND CHAIN").unwrap();
    session.ended(Outcome::Committed);
    assert_eq!(session.phase(), Phase::Open);
    assert_eq!(plan(&mut session, "DELETE FROM t"), Err(SqlState::READ_ONLY_SQL_TRANSACTION));
}

#[test]
fn settings_are_checked() {
    let mut session = session();
    assert_eq!(plan(&mut session, "SET no_such_thing = 1"), Err(SqlState::UNDEFINED_OBJECT));
    assert_eq!(plan(&mut session, "SHOW no_such_thing"), Err(SqlState::UNDEFINED_OBJECT));
    assert_eq!(plan(&mut session, "SET server_version = '1'"), Err(SqlState::CANT_CHANGE_RUNTIME_PARAM));
    assert_eq!(plan(&mut session, "SET client_encoding = 'LATIN1'"), Err(SqlState::INVALID_PARAMETER_VALUE));
    assert_eq!(plan(&mut session, "SET statement_timeout = 'soon'"), Err(SqlState::INVALID_PARAMETER_VALUE));
    assert_eq!(plan(&mut session, "SET timezone = 'Mars/Phobos'"), Err(SqlState::INVALID_PARAMETER_VALUE));
    plan(&mut session, "SET timezone = 'Europe/Berlin'").unwrap();
    // asyncpg writes the quotes into its startup packet.
    for name in ["utf-8", "UTF8", "unicode", "''utf-8''"] {
        plan(&mut session, &format!("SET client_encoding = '{name}'")).unwrap();
        assert!(matches!(plan(&mut session, "SHOW client_encoding"), Ok(Step::Show { value, .. }) if value == "UTF8"));
    }
    assert!(matches!(plan(&mut session, "SHOW is_superuser"), Ok(Step::Show { value, .. }) if value == "off"));
    plan(&mut session, "SET my.own = 'x'").unwrap();
    assert!(matches!(plan(&mut session, "SHOW my.own"), Ok(Step::Show { value, .. }) if value == "x"));
    plan(&mut session, "SET search_path = alpha, \"$user\", public").unwrap();
    assert_eq!(session.info().search_path, ["alpha", "ann", "public"]);
    plan(&mut session, "RESET ALL").unwrap();
    assert_eq!(session.info().search_path, ["ann", "public"]);
}
