//! Golden scripts: SQL after `>`, and what it answers.
//!
//! Each line runs in a transaction of its own that commits. `[$1=value]`-like parameters are written as a comment at the
//! end, `-- $ 'a', 'b'`: their text forms, `null` for NULL. `UPDATE_GOLDENFILES=1 cargo test -p rockpool-sql` rewrites the
//! expected output; read the difference.
//!
//! Every script also runs with the optimizer off, and with each of its rules alone, where each statement must answer the
//! same rows, in any order.
//!
//! `tests/answers` holds what PostgreSQL 15 answered to expressions (UTC, collation C): statements after `>`, rows after
//! `=`, an SQLSTATE after `!`. They were recorded there and are not rewritten here.

use std::error::Error;
use std::path::{Path, PathBuf};

use rockpool_sql::types::{TextContext, decode_text, encode_text};
use rockpool_sql::{Caches, MemoryStore, Row, SessionInfo, SqlError, StatementKind, Value, execute, parse, prepare};

/// A store with one session.
struct Database {
    store: MemoryStore,
    session: SessionInfo,
    caches: Caches,
}

/// What a statement answered.
struct Answer {
    columns: Option<Vec<rockpool_sql::Column>>,
    rows: Vec<Row>,
    tag: String,
}

impl Database {
    fn new(optimizer: &str) -> Self {
        let mut session = SessionInfo::new("root", "rockpool");
        session.transaction_time_us = 1_700_000_000_000_000;
        session.statement_time_us = session.transaction_time_us;
        session.settings.insert("optimizer".to_string(), optimizer.to_string());
        Database { store: MemoryStore::new(), session, caches: Caches::new() }
    }

    fn run(&mut self, line: &str) -> Result<Vec<Answer>, SqlError> {
        let (sql, params) = match line.split_once("-- $") {
            Some((sql, params)) => (sql, params.trim()),
            None => (line, ""),
        };
        let mut answers = Vec::new();
        for statement in parse(sql)? {
            self.session.statement_time_us += 1;
            self.session.random_seed[0] = self.session.random_seed[0].wrapping_add(1);
            let prepared = prepare(&statement, &self.store, &self.session, &self.caches, &[])?;
            let texts: Vec<&str> = if params.is_empty() { vec![] } else { params.split(',').map(str::trim).collect() };
            let mut values = Vec::new();
            for (text, ty) in texts.iter().zip(prepared.params()) {
                values.push(match *text {
                    "null" => Value::Null,
                    text => decode_text(text.trim_matches('\''), ty, &TextContext::utc())?,
                });
            }
            let mut rows: Vec<Row> = Vec::new();
            let tag = execute(&prepared, &values, &mut self.store, &self.session, &mut rows)?;
            self.store.commit();
            let columns = prepared.columns().map(<[_]>::to_vec);
            answers.push(Answer { columns, rows, tag: tag.to_string() });
        }
        Ok(answers)
    }
}

fn show_rows(answer: &Answer) -> Vec<String> {
    let columns = answer.columns.as_deref().unwrap_or_default();
    let show = |row: &Row| {
        let shown = row.iter().zip(columns).map(|(value, column)| match value {
            Value::Null => "NULL".to_string(),
            value => encode_text(value, &column.ty, &TextContext::utc()),
        });
        shown.collect::<Vec<_>>().join(" | ")
    };
    answer.rows.iter().map(show).collect()
}

fn show_error(error: &SqlError) -> String {
    let mut text = format!("ERROR {}: {}", error.state, error.message);
    if let Some(position) = error.position {
        text.push_str(&format!(" [at {position}]"));
    }
    if let Some(detail) = &error.detail {
        text.push_str(&format!("\nDETAIL: {detail}"));
    }
    text
}

struct Runner(Database);

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut lines = Vec::new();
        if context.tags.contains("params") {
            for statement in parse(&command.name)? {
                let db = &self.0;
                match prepare(&statement, &db.store, &db.session, &db.caches, &[]) {
                    Ok(prepared) => lines.extend(prepared.params().iter().map(ToString::to_string)),
                    Err(error) => lines.push(show_error(&error)),
                }
            }
            return Ok(lines.join("\n"));
        }
        if context.tags.contains("plan") {
            match self.0.run(&format!("EXPLAIN {}", command.name)) {
                Ok(answers) => lines.extend(answers.iter().flat_map(show_rows)),
                Err(error) => return Ok(show_error(&error)),
            }
        }
        match self.0.run(&command.name) {
            Ok(answers) => {
                for answer in answers {
                    if let Some(columns) = &answer.columns
                        && context.tags.contains("header")
                    {
                        let names = columns.iter().map(|column| format!("{} {}", column.name, column.ty));
                        lines.push(names.collect::<Vec<_>>().join(" | "));
                    }
                    lines.extend(show_rows(&answer));
                    if !answer.tag.starts_with("SELECT") && answer.tag != "EXPLAIN" {
                        lines.push(answer.tag);
                    }
                }
            }
            Err(error) => lines.push(show_error(&error)),
        }
        Ok(lines.join("\n"))
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}

#[test]
fn scripts_answer_as_written() {
    let paths = scripts();
    assert!(!paths.is_empty());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Runner(Database::new("on")), path).unwrap();
    }
}

/// Rows or the SQLSTATE, as the files of answers have them.
fn recorded(result: Result<Vec<Answer>, SqlError>) -> Vec<String> {
    match result {
        Ok(answers) => {
            answers.iter().flat_map(show_rows).map(|row| format!("= {row}").trim_end().to_string()).collect()
        }
        Err(error) => vec![format!("! {}", error.state)],
    }
}

#[test]
fn expressions_answer_as_in_postgresql() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/answers");
    let mut different = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let mut db = Database::new("on");
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(sql) = line.strip_prefix("> ") else { continue };
            let mut expected = Vec::new();
            while let Some(answer) = lines.next_if(|line| line.starts_with(['=', '!'])) {
                expected.push(answer.trim_end().to_string());
            }
            count += 1;
            let answered = recorded(db.run(sql));
            if answered != expected {
                different.push(format!("{sql}\n  PostgreSQL: {expected:?}\n  here:       {answered:?}"));
            }
        }
    }
    assert!(count > 1_000, "only {count} answers were found");
    assert!(different.is_empty(), "{} of {count} differ:\n{}", different.len(), different.join("\n"));
}

/// What a statement answered, in an order of its own; of errors only the code counts.
fn unordered(result: Result<Vec<Answer>, SqlError>) -> String {
    match result {
        Ok(answers) => {
            let mut rows: Vec<String> = answers.iter().flat_map(show_rows).collect();
            rows.sort();
            rows.join("\n")
        }
        Err(error) => error.state.to_string(),
    }
}

#[test]
fn the_optimizer_changes_no_rows() {
    for path in scripts() {
        let text = std::fs::read_to_string(&path).unwrap();
        for rules in ["off", "fold", "push", "push,joins", "push,access", "push,access,order", "order", "prune"] {
            let (mut all, mut some) = (Database::new("on"), Database::new(rules));
            let lines = text.lines().filter_map(|line| line.split_once("> ")).filter(|(tags, _)| !tags.contains(' '));
            for (_, line) in lines {
                let explains = parse(line).is_ok_and(|list| list.iter().any(|s| *s.kind() == StatementKind::Explain));
                if !explains {
                    assert_eq!(
                        unordered(all.run(line)),
                        unordered(some.run(line)),
                        "{} {rules}: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}
