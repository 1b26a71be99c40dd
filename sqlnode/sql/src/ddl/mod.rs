//! Statements that change the catalog.
//!
//! Each works on the catalog as the transaction sees it, writes the objects that it changes, and a new version. Whatever
//! has to be computed over the rows that are there (a new index, a check of old rows) is done within the statement.

mod alter;
mod constraint;
mod index;
mod table;
mod touched;

use std::sync::Arc;

pub(crate) use touched::touched;

use sqlparser::ast::{self, ObjectType, Statement as Ast};

use crate::catalog::{Catalog, CatalogWriter, Relation, Schema, Sequence, Table, check_name};
use crate::error::{Result, SqlError, SqlState};
use crate::exec::{self, Runtime};
use crate::kind::{fold, name_parts};
use crate::parse::{Source, Statement};
use crate::session::{CommandTag, search_path};
use crate::store::Store;

/// What a schema change works with.
pub(super) struct Ddl<'a> {
    catalog: &'a Catalog,
    runtime: &'a Runtime<'a>,
    source: &'a Source,
    path: Vec<String>,
    writer: CatalogWriter<'a>,
    /// Sequences made for columns by this statement.
    made: Vec<Sequence>,
}

pub(crate) fn run(
    statement: &Statement,
    catalog: &Arc<Catalog>,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
) -> Result<CommandTag> {
    // Of several objects to drop, each is dropped from the catalog that the one before left: two indexes may be of one
    // table. Tables go together, since they may refer to each other.
    if let Ast::Drop { object_type, names, .. } = statement.ast()
        && *object_type != ObjectType::Table
        && let Some((first, others)) = names.split_first()
        && !others.is_empty()
    {
        let mut tag = run_over(statement, Some(first), catalog, store, runtime)?;
        for name in others {
            let catalog = Catalog::read(store)?;
            tag = run_over(statement, Some(name), &catalog, store, runtime)?;
        }
        return Ok(tag);
    }
    run_over(statement, None, catalog, store, runtime)
}

/// Runs a schema change over a catalog; of a DROP only the part about one object, if one is given.
fn run_over(
    statement: &Statement,
    only: Option<&ast::ObjectName>,
    catalog: &Catalog,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
) -> Result<CommandTag> {
    let path = search_path(runtime.session);
    let writer = CatalogWriter::new(store, catalog);
    let mut ddl = Ddl { catalog, runtime, source: statement.source(), path, writer, made: vec![] };
    let tag = match statement.ast() {
        Ast::CreateTable(create) => ddl.create_table(create)?,
        Ast::CreateIndex(create) => ddl.create_index(create)?,
        Ast::AlterTable(alter) => ddl.alter_table(alter)?,
        Ast::AlterIndex { name, operation: ast::AlterIndexOperation::RenameIndex { index_name } } => {
            ddl.rename_index(name, index_name)?
        }
        Ast::CreateSchema { schema_name, if_not_exists, with: None, options: None, .. } => {
            ddl.create_schema(schema_name, *if_not_exists)?
        }
        Ast::CreateSequence { temporary: false, if_not_exists, name, data_type, sequence_options, owned_by: None } => {
            ddl.create_sequence(name, *if_not_exists, data_type.as_ref(), sequence_options)?
        }
        Ast::Comment { object_type, object_name, comment, if_exists: false } => {
            ddl.comment(*object_type, object_name, comment.as_deref())?
        }
        Ast::Truncate(truncate) => ddl.truncate(truncate)?,
        Ast::Drop { object_type, if_exists, names, cascade, purge: false, temporary: false, table: None, .. } => {
            ddl.drop_objects(*object_type, *if_exists, only.map_or(names, std::slice::from_ref), *cascade)?
        }
        other => return Err(SqlError::unsupported(format!("this form of {}", first_words(&other.to_string())))),
    };
    let nonce = runtime.nonce();
    ddl.writer.finish(catalog.version, nonce)?;
    Ok(CommandTag::Command(tag))
}

fn first_words(text: &str) -> String {
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

impl Ddl<'_> {
    fn at(&self, name: &ast::ObjectName) -> Option<usize> {
        let ident = name.0.first()?.as_ident()?;
        self.source.position(ident.span.start)
    }

    fn find(&self, name: &ast::ObjectName) -> Result<Option<&Relation>> {
        self.catalog.find(&name_parts(name)?, &self.path).map_err(|error| error.at(self.at(name)))
    }

    /// The table of a name, as a copy to change.
    fn table(&self, name: &ast::ObjectName) -> Result<Table> {
        let shown = name_parts(name)?.join(".");
        match self.find(name)? {
            Some(Relation::Table(table)) => Ok(table.as_ref().clone()),
            Some(_) => {
                let message = format!("\"{shown}\" is not a table");
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(self.at(name)))
            }
            None => {
                let message = format!("relation \"{shown}\" does not exist");
                Err(SqlError::new(SqlState::UNDEFINED_TABLE, message).at(self.at(name)))
            }
        }
    }

    /// Schema and name for a new object, or nothing if there is one and that is allowed.
    fn new_name(&self, name: &ast::ObjectName, if_not_exists: bool) -> Result<Option<(String, String)>> {
        let parts = name_parts(name)?;
        let path: Vec<String> =
            self.path.iter().filter(|schema| *schema != crate::catalog::PG_CATALOG).cloned().collect();
        let (schema, name_only) =
            self.catalog.creation_place(&parts, &path).map_err(|error| error.at(self.at(name)))?;
        if self.catalog.relation(&schema, &name_only).is_some() {
            if if_not_exists {
                return Ok(None);
            }
            let message = format!("relation \"{name_only}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        Ok(Some((schema, name_only)))
    }

    fn comment(
        &mut self,
        kind: ast::CommentObject,
        name: &ast::ObjectName,
        text: Option<&str>,
    ) -> Result<&'static str> {
        use ast::CommentObject as Kind;
        let parts = name_parts(name)?;
        let shown = parts.join(".");
        let wrong = |error: SqlError| error.at(self.at(name));
        let (oid, column) = match (kind, self.find_of(kind, &parts).map_err(wrong)?) {
            (Kind::Table, Some(Relation::Table(table))) => (table.id, 0),
            (Kind::Index, Some(Relation::Index(table, at))) => (table.indexes[*at].id, 0),
            (Kind::Sequence, Some(Relation::Sequence(sequence))) => (sequence.id, 0),
            (Kind::Column, Some(Relation::Table(table))) => {
                let column = table.column_or_error(parts.last().map_or("", String::as_str)).map_err(wrong)?;
                (table.id, column as u32 + 1)
            }
            (Kind::Schema, _) => match self.catalog.schema(&shown) {
                Some(schema) => (schema.id, 0),
                None => {
                    let message = format!("schema \"{shown}\" does not exist");
                    return Err(wrong(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message)));
                }
            },
            (Kind::Table | Kind::Index | Kind::Sequence | Kind::Column, None) => {
                let message = format!("relation \"{shown}\" does not exist");
                return Err(wrong(SqlError::new(SqlState::UNDEFINED_TABLE, message)));
            }
            (Kind::Table | Kind::Index | Kind::Sequence | Kind::Column, Some(_)) => {
                let message = format!("\"{shown}\" is not that kind of object");
                return Err(wrong(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message)));
            }
            _ => return Err(SqlError::unsupported(format!("COMMENT ON {kind}"))),
        };
        // An empty comment is none.
        self.writer.put_comment(oid, column, text.filter(|text| !text.is_empty()))?;
        Ok("COMMENT")
    }

    /// The relation that a comment is about: a column's name stands behind its table's.
    fn find_of(&self, kind: ast::CommentObject, parts: &[String]) -> Result<Option<&Relation>> {
        match (kind, parts) {
            (ast::CommentObject::Schema, _) | (_, []) => Ok(None),
            (ast::CommentObject::Column, [_]) => {
                Err(SqlError::new(SqlState::SYNTAX_ERROR, "column name must be qualified"))
            }
            (ast::CommentObject::Column, [table @ .., _]) => self.catalog.find(table, &self.path),
            (_, parts) => self.catalog.find(parts, &self.path),
        }
    }

    fn create_schema(&mut self, name: &ast::SchemaName, if_not_exists: bool) -> Result<&'static str> {
        let ast::SchemaName::Simple(name) = name else {
            return Err(SqlError::unsupported("CREATE SCHEMA AUTHORIZATION"));
        };
        let [name] = name_parts(name)?
            .try_into()
            .map_err(|_| SqlError::new(SqlState::SYNTAX_ERROR, "a schema's name has one part"))?;
        check_name(&name)?;
        if name.starts_with("pg_") {
            let message = format!("unacceptable schema name \"{name}\"");
            return Err(SqlError::new(SqlState::RESERVED_NAME, message)
                .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        if self.catalog.schema(&name).is_some() {
            if if_not_exists {
                return Ok("CREATE SCHEMA");
            }
            let message = format!("schema \"{name}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_SCHEMA, message));
        }
        let id = self.writer.new_id();
        self.writer.put_schema(&Schema { id, name })?;
        Ok("CREATE SCHEMA")
    }

    fn create_sequence(
        &mut self,
        name: &ast::ObjectName,
        if_not_exists: bool,
        ty: Option<&ast::DataType>,
        options: &[ast::SequenceOptions],
    ) -> Result<&'static str> {
        if let Some((schema, name)) = self.new_name(name, if_not_exists)? {
            let ty = ty.map_or(Ok(crate::types::Type::Int8), crate::bind::bind_type)?;
            let sequence = self.sequence(schema, name, &ty, options)?;
            self.writer.put_sequence(&sequence, self.runtime.nonce())?;
        }
        Ok("CREATE SEQUENCE")
    }

    /// A sequence with the bounds of a type and the options given.
    fn sequence(
        &mut self,
        schema: String,
        name: String,
        ty: &crate::types::Type,
        options: &[ast::SequenceOptions],
    ) -> Result<Sequence> {
        use crate::types::Type;
        let (least, greatest) = match ty {
            Type::Int2 => (i64::from(i16::MIN), i64::from(i16::MAX)),
            Type::Int4 => (i64::from(i32::MIN), i64::from(i32::MAX)),
            Type::Int8 => (i64::MIN, i64::MAX),
            _ => {
                let message = "sequence type must be smallint, integer, or bigint";
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
        let number = |expr: &ast::Expr| -> Result<i64> {
            expr.to_string().parse().map_err(|_| {
                SqlError::new(SqlState::SYNTAX_ERROR, format!("a sequence option needs a number, not {expr}"))
            })
        };
        let (mut increment, mut min, mut max, mut start, mut cycle) = (1, None, None, None, false);
        for option in options {
            match option {
                ast::SequenceOptions::IncrementBy(by, _) => increment = number(by)?,
                ast::SequenceOptions::MinValue(value) => min = value.as_ref().map(number).transpose()?,
                ast::SequenceOptions::MaxValue(value) => max = value.as_ref().map(number).transpose()?,
                ast::SequenceOptions::StartWith(value, _) => start = Some(number(value)?),
                ast::SequenceOptions::Cycle(no) => cycle = !no,
                // How many numbers are handed out ahead is not for the sequence to say.
                ast::SequenceOptions::Cache(_) => {}
            }
        }
        let up = increment > 0;
        let min = min.unwrap_or(if up { 1 } else { least });
        let max = max.unwrap_or(if up { greatest } else { -1 });
        let start = start.unwrap_or(if up { min } else { max });
        if increment == 0 || min > max || !(min..=max).contains(&start) {
            let message = format!("sequence bounds don't fit: increment {increment}, {min}..{max}, start {start}");
            return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let id = self.writer.new_id();
        Ok(Sequence { id, schema, name, increment, min, max, start, cycle, owned_by: None })
    }

    fn truncate(&mut self, truncate: &ast::Truncate) -> Result<&'static str> {
        if truncate.partitions.is_some() || truncate.if_exists || truncate.on_cluster.is_some() {
            return Err(SqlError::unsupported("this form of TRUNCATE"));
        }
        let mut tables = Vec::new();
        for target in &truncate.table_names {
            tables.push(self.table(&target.name)?);
        }
        let mut next = 0;
        while next < tables.len() {
            let referrers: Vec<Table> =
                self.catalog.referrers(tables[next].id).map(|(child, _)| child.as_ref().clone()).collect();
            for child in referrers {
                if tables.iter().any(|table| table.id == child.id) {
                    continue;
                }
                if !matches!(truncate.cascade, Some(ast::CascadeOption::Cascade)) {
                    let message = "cannot truncate a table referenced in a foreign key constraint";
                    return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                        .with_detail(format!("Table \"{}\" references \"{}\".", child.name, tables[next].name)));
                }
                tables.push(child);
            }
            next += 1;
        }
        for table in &tables {
            exec::truncate_table(self.writer.store(), table)?;
            if matches!(truncate.identity, Some(ast::TruncateIdentityOption::Restart)) {
                let owned = self.catalog.sequences().filter(|s| s.owned_by.is_some_and(|(id, _)| id == table.id));
                for sequence in owned {
                    let store = self.writer.store();
                    store.delete(crate::catalog::sequence_key(sequence.id))?;
                    crate::numbers::write_epoch(store, sequence.id, self.runtime.nonce())?;
                }
            }
        }
        Ok("TRUNCATE TABLE")
    }

    fn drop_objects(
        &mut self,
        kind: ObjectType,
        if_exists: bool,
        names: &[ast::ObjectName],
        cascade: bool,
    ) -> Result<&'static str> {
        match kind {
            ObjectType::Table => {
                let mut tables = Vec::new();
                for name in names {
                    match (self.find(name)?, if_exists) {
                        (None, true) => {}
                        _ => tables.push(self.table(name).map_err(|mut error| {
                            error.message = error.message.replace("relation", "table");
                            error
                        })?),
                    }
                }
                self.drop_tables(&tables, cascade)?;
                Ok("DROP TABLE")
            }
            ObjectType::Index => {
                for name in names {
                    self.drop_index(name, if_exists, cascade)?;
                }
                Ok("DROP INDEX")
            }
            ObjectType::Sequence => {
                for name in names {
                    self.drop_sequence(name, if_exists, cascade)?;
                }
                Ok("DROP SEQUENCE")
            }
            ObjectType::Schema => {
                for name in names {
                    self.drop_schema(name, if_exists, cascade)?;
                }
                Ok("DROP SCHEMA")
            }
            other => Err(SqlError::unsupported(format!("DROP {other}"))),
        }
    }

    /// Drops tables with what belongs to them; foreign keys of other tables that point here go only with CASCADE.
    fn drop_tables(&mut self, tables: &[Table], cascade: bool) -> Result<()> {
        let goes = |id: u32| tables.iter().any(|table| table.id == id);
        let mut cut: std::collections::BTreeMap<u32, Table> = std::collections::BTreeMap::new();
        for table in tables {
            for (child, key) in self.catalog.referrers(table.id) {
                if goes(child.id) {
                    continue;
                }
                if !cascade {
                    let message = format!("cannot drop table {} because other objects depend on it", table.name);
                    return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                        .with_detail(format!(
                            "constraint {} on table {} depends on table {}",
                            key.name, child.name, table.name
                        ))
                        .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
                }
                let child = cut.entry(child.id).or_insert_with(|| child.as_ref().clone());
                child.foreign_keys.retain(|other| other.id != key.id);
            }
        }
        for child in cut.values() {
            self.writer.put_table(child)?;
        }
        for table in tables {
            exec::truncate_table(self.writer.store(), table)?;
            for sequence in self.catalog.sequences() {
                if sequence.owned_by.is_some_and(|(id, _)| id == table.id) {
                    self.writer.drop_sequence(sequence.id)?;
                }
            }
            self.writer.drop_table(table.id)?;
        }
        Ok(())
    }

    fn drop_sequence(&mut self, name: &ast::ObjectName, if_exists: bool, cascade: bool) -> Result<()> {
        let shown = name_parts(name)?.join(".");
        let sequence = match self.find(name)? {
            Some(Relation::Sequence(sequence)) => sequence.clone(),
            None if if_exists => return Ok(()),
            Some(_) => {
                let message = format!("\"{shown}\" is not a sequence");
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(self.at(name)));
            }
            None => {
                let message = format!("sequence \"{shown}\" does not exist");
                return Err(SqlError::new(SqlState::UNDEFINED_TABLE, message).at(self.at(name)));
            }
        };
        if let Some((table, column)) = sequence.owned_by
            && let Some(table) = self.catalog.table_by_id(table)
        {
            if !cascade {
                let message = format!("cannot drop sequence {shown} because other objects depend on it");
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_detail(format!(
                    "default value for column {} of table {} depends on sequence {shown}",
                    table.columns[column].name, table.name
                )));
            }
            let mut table = table.as_ref().clone();
            table.columns[column].default = None;
            table.columns[column].identity = None;
            self.writer.put_table(&table)?;
        }
        self.writer.drop_sequence(sequence.id)
    }

    fn drop_schema(&mut self, name: &ast::ObjectName, if_exists: bool, cascade: bool) -> Result<()> {
        let shown = name_parts(name)?.join(".");
        let Some(schema) = self.catalog.schema(&shown).cloned() else {
            if if_exists {
                return Ok(());
            }
            let message = format!("schema \"{shown}\" does not exist");
            return Err(SqlError::new(SqlState::INVALID_SCHEMA_NAME, message).at(self.at(name)));
        };
        if schema.id < crate::catalog::FIRST_ID {
            let message = format!("schema \"{shown}\" is required by the system");
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        let tables: Vec<Table> =
            self.catalog.tables().filter(|table| table.schema == shown).map(|table| table.as_ref().clone()).collect();
        let sequences: Vec<u32> =
            self.catalog.sequences().filter(|sequence| sequence.schema == shown).map(|sequence| sequence.id).collect();
        let empty = tables.is_empty() && sequences.is_empty();
        if !cascade && !empty {
            let message = format!("cannot drop schema {shown} because other objects depend on it");
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        self.drop_tables(&tables, true)?;
        for sequence in sequences {
            self.writer.drop_sequence(sequence)?;
        }
        self.writer.drop_schema(schema.id)
    }
}

/// A name that stands alone, folded and checked.
fn new_ident(ident: &ast::Ident) -> Result<String> {
    let name = fold(ident);
    check_name(&name)?;
    Ok(name)
}
