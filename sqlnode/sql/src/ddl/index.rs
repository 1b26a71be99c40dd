//! CREATE INDEX, DROP INDEX, and building an index over the rows that are there.

use sqlparser::ast;

use super::{Ddl, new_ident};
use crate::bind::Binder;
use crate::catalog::{Index, Relation, Table, index_prefix};
use crate::codec::prefix_end;
use crate::error::{Result, SqlError, SqlState};
use crate::exec::{self, Context};
use crate::kind::name_parts;
use crate::plan::ColumnId;
use crate::session::Row;
use crate::store::Direction;
use crate::types::Type;

/// Rows indexed between two writes.
const BACKFILL_ROWS: usize = 1_024;

/// Two rows of a table have the key of this one.
pub(super) fn not_unique(table: &Table, index: &Index, row: &Row, ctx: &Context<'_>) -> SqlError {
    let message = format!("could not create unique index \"{}\"", index.name);
    SqlError::new(SqlState::UNIQUE_VIOLATION, message)
        .with_detail(format!("Key {} is duplicated.", exec::show_key(table, &index.columns, row, ctx)))
        .with_table(&table.schema, &table.name)
        .with_constraint(&index.name)
}

/// `fillfactor = 70` and its like.
fn is_storage_parameter(option: &ast::Expr) -> bool {
    let ast::Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, .. } = option else { return false };
    matches!(left.as_ref(), ast::Expr::Identifier(name)
        if matches!(name.value.to_lowercase().as_str(), "fillfactor" | "deduplicate_items"))
}

impl Ddl<'_> {
    pub(super) fn create_index(&mut self, create: &ast::CreateIndex) -> Result<&'static str> {
        let extras = [
            (!matches!(create.using, None | Some(ast::IndexType::BTree)), "an index method other than btree"),
            (!create.include.is_empty(), "INCLUDE"),
            (create.nulls_distinct == Some(false), "NULLS NOT DISTINCT"),
            (!create.index_options.is_empty(), "an index option"),
            (!create.with.iter().all(is_storage_parameter), "an index option"),
            (!create.alter_options.is_empty() || create.r#async, "an index option"),
        ];
        if let Some((_, what)) = extras.iter().find(|(present, _)| *present) {
            return Err(SqlError::unsupported(what));
        }
        let mut table = self.table(&create.table_name)?;
        let mut columns = Vec::new();
        for column in &create.columns {
            let ast::Expr::Identifier(ident) = &column.column.expr else {
                return Err(SqlError::unsupported("an index over an expression"));
            };
            // DESC and NULLS FIRST only say in which order the index could be read. All are kept ascending, and read from
            // either end.
            if column.operator_class.is_some() {
                return Err(SqlError::unsupported("an operator class"));
            }
            let place = self.source.position(ident.span.start);
            let name = crate::kind::fold(ident);
            let at = table.column(&name).ok_or_else(|| {
                SqlError::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")).at(place)
            })?;
            columns.push(at);
        }
        self.check_key_types(&table, &columns)?;
        let name = match &create.name {
            Some(given) => {
                let parts = name_parts(given)?;
                let Some(name) = parts.last().cloned() else {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "an index needs a name"));
                };
                crate::catalog::check_name(&name)?;
                if self.catalog.relation(&table.schema, &name).is_some() {
                    if create.if_not_exists {
                        return Ok("CREATE INDEX");
                    }
                    let message = format!("relation \"{name}\" already exists");
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                name
            }
            None => {
                let mut parts = vec![table.name.as_str()];
                parts.extend(columns.iter().map(|&at| table.columns[at].name.as_str()));
                parts.push("idx");
                self.catalog.free_name(&table.schema, &parts.join("_"), &[])
            }
        };
        let predicate = match &create.predicate {
            Some(predicate) => {
                let ids: Vec<ColumnId> = (0..table.columns.len()).map(|at| ColumnId(u32::MAX - at as u32)).collect();
                let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
                let bound = binder.bind_over(predicate, Some((&table, &ids)), &Type::Bool)?;
                if bound.has_subquery() || bound.is_volatile() {
                    let message = "functions in index predicate must be marked IMMUTABLE";
                    return Err(SqlError::new(SqlState::INVALID_OBJECT_DEFINITION, message));
                }
                Some(predicate.to_string())
            }
            None => None,
        };
        let id = self.writer.new_id();
        let (unique, primary, constraint) = (create.unique, false, false);
        table.indexes.push(Index { id, name, columns, unique, primary, constraint, predicate });
        let at = table.indexes.len() - 1;
        self.build_index(&table, at)?;
        self.writer.put_table(&table)?;
        Ok("CREATE INDEX")
    }

    /// Writes the entries of an index for the rows that are there; older ones go.
    pub(super) fn build_index(&mut self, table: &Table, at: usize) -> Result<()> {
        let index = &table.indexes[at];
        exec::remove_prefix(self.writer.store(), index_prefix(table.id, index.id))?;
        let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
        let mut checks = binder.row_checks(table)?;
        checks.resolve()?;
        let predicate = checks.predicates[at].clone();
        let prefix = index_prefix(table.id, table.primary().id);
        let end = prefix_end(&prefix);
        let mut start = prefix.clone();
        loop {
            let store = self.writer.store();
            let batch: Vec<(Vec<u8>, Vec<u8>)> =
                store.scan(&start, &end, Direction::Forward)?.take(BACKFILL_ROWS).collect::<Result<_, _>>()?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            start = last.clone();
            start.push(0);
            for (key, bytes) in &batch {
                self.runtime.tick()?;
                let row = exec::decode_stored(table, bytes)?;
                if let Some(predicate) = &predicate {
                    let ctx = Context::new(&*store, self.runtime);
                    if exec::eval_row(predicate, &row, &ctx)?.as_bool() != Some(true) {
                        continue;
                    }
                }
                let suffix = &key[prefix.len()..];
                let (entry, exclusive) = exec::entry_key(table, index, &row, suffix)?;
                if exclusive && store.get(&entry)?.is_some() {
                    return Err(not_unique(table, index, &row, &Context::new(&*store, self.runtime)));
                }
                store.put(entry, suffix.to_vec())?;
            }
        }
    }

    /// The table and place of an index's name.
    fn index_of(&self, name: &ast::ObjectName, if_exists: bool) -> Result<Option<(Table, usize)>> {
        let shown = name_parts(name)?.join(".");
        match self.find(name)? {
            Some(Relation::Index(table, at)) => Ok(Some((table.as_ref().clone(), *at))),
            Some(_) => {
                let message = format!("\"{shown}\" is not an index");
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(self.at(name)))
            }
            None if if_exists => Ok(None),
            None => {
                let message = format!("index \"{shown}\" does not exist");
                Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message).at(self.at(name)))
            }
        }
    }

    pub(super) fn drop_index(&mut self, name: &ast::ObjectName, if_exists: bool, cascade: bool) -> Result<()> {
        let Some((mut table, at)) = self.index_of(name, if_exists)? else { return Ok(()) };
        let index = table.indexes[at].clone();
        if index.constraint || at == 0 {
            let message = format!(
                "cannot drop index {0} because constraint {0} on table {1} requires it",
                index.name, table.name
            );
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_hint(format!("You can drop constraint {} on table {} instead.", index.name, table.name)));
        }
        self.must_not_be_needed(&table, at, cascade)?;
        table.indexes.remove(at);
        self.writer.drop_comments(index.id)?;
        exec::remove_prefix(self.writer.store(), index_prefix(table.id, index.id))?;
        self.writer.put_table(&table)
    }

    /// Refuses to take away the only unique index that a foreign key relies on.
    pub(super) fn must_not_be_needed(&self, table: &Table, at: usize, cascade: bool) -> Result<()> {
        let index = &table.indexes[at];
        for (child, key) in self.catalog.referrers(table.id) {
            let covers = |other: &Index| {
                other.unique
                    && other.predicate.is_none()
                    && other.columns.len() == key.parent_columns.len()
                    && other.columns.iter().all(|column| key.parent_columns.contains(column))
            };
            let others = table.indexes.iter().filter(|other| other.id != index.id && covers(other)).count();
            if covers(index) && others == 0 {
                if cascade {
                    return Err(SqlError::unsupported("CASCADE to foreign keys here"));
                }
                let message = format!("cannot drop index {} because other objects depend on it", index.name);
                return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_detail(format!(
                    "constraint {} on table {} depends on index {}",
                    key.name, child.name, index.name
                )));
            }
        }
        Ok(())
    }

    pub(super) fn rename_index(&mut self, name: &ast::ObjectName, to: &ast::ObjectName) -> Result<&'static str> {
        let Some((mut table, at)) = self.index_of(name, false)? else { return Ok("ALTER INDEX") };
        let Some(ident) = to.0.last().and_then(|part| part.as_ident()) else {
            return Err(SqlError::unsupported("a computed name"));
        };
        let to = new_ident(ident)?;
        if self.catalog.relation(&table.schema, &to).is_some() {
            let message = format!("relation \"{to}\" already exists");
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        table.indexes[at].name = to;
        self.writer.put_table(&table)?;
        Ok("ALTER INDEX")
    }
}
