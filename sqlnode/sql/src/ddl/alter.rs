//! ALTER TABLE.

use std::collections::BTreeSet;

use sqlparser::ast::{self, AlterColumnOperation, AlterTableOperation as Op};

use super::{Ddl, new_ident};
use crate::bind::{Binder, bind_type};
use crate::catalog::{Table, index_prefix};
use crate::codec::prefix_end;
use crate::error::{Result, SqlError, SqlState};
use crate::exec::{self, Context};
use crate::kind::{fold, name_parts};
use crate::numbers;
use crate::plan::{ColumnId, Expr, Plan};
use crate::session::Row;
use crate::store::{Direction, Store};
use crate::types::{CastContext, Type, Value};

/// Rows read between two writes.
const BATCH_ROWS: usize = 1_024;

impl Ddl<'_> {
    pub(super) fn alter_table(&mut self, alter: &ast::AlterTable) -> Result<&'static str> {
        if alter.only || alter.location.is_some() || alter.on_cluster.is_some() || alter.table_type.is_some() {
            return Err(SqlError::unsupported("this form of ALTER TABLE"));
        }
        if alter.if_exists && self.find(&alter.name)?.is_none() {
            return Ok("ALTER TABLE");
        }
        let mut table = self.table(&alter.name)?;
        for operation in &alter.operations {
            self.alter(&mut table, operation)?;
        }
        self.writer.put_table(&table)?;
        Ok("ALTER TABLE")
    }

    fn alter(&mut self, table: &mut Table, operation: &Op) -> Result<()> {
        match operation {
            Op::AddColumn { if_not_exists, column_def, column_position: None, .. } => {
                self.alter_add_column(table, column_def, *if_not_exists)
            }
            Op::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                let cascade = matches!(drop_behavior, Some(ast::DropBehavior::Cascade));
                column_names.iter().try_for_each(|name| self.drop_column(table, name, *if_exists, cascade))
            }
            Op::RenameColumn { old_column_name, new_column_name } => {
                let at = table.column_or_error(&fold(old_column_name))?;
                let name = new_ident(new_column_name)?;
                if table.column(&name).is_some() {
                    let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
                }
                if !table.checks.is_empty() || table.indexes.iter().any(|index| index.predicate.is_some()) {
                    // Conditions are kept as text, which names the column.
                    return Err(SqlError::unsupported("renaming a column of a table with CHECKs or partial indexes"));
                }
                table.columns[at].name = name;
                Ok(())
            }
            Op::RenameTable { table_name } => {
                let (ast::RenameTableNameKind::To(name) | ast::RenameTableNameKind::As(name)) = table_name;
                let [name] = name_parts(name)?
                    .try_into()
                    .map_err(|_| SqlError::new(SqlState::SYNTAX_ERROR, "the new name has one part"))?;
                crate::catalog::check_name(&name)?;
                if self.catalog.relation(&table.schema, &name).is_some() {
                    let message = format!("relation \"{name}\" already exists");
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                let conditions = table.checks.iter().map(|check| &check.condition);
                let conditions = conditions.chain(table.indexes.iter().filter_map(|index| index.predicate.as_ref()));
                let prefixes = [format!("{}.", table.name), format!("{}.", exec::quote_name(&table.name))];
                if conditions.into_iter().any(|sql| prefixes.iter().any(|prefix| sql.contains(prefix))) {
                    // Conditions are kept as text, which names the table.
                    return Err(SqlError::unsupported("renaming a table that its CHECKs or partial indexes name"));
                }
                table.name = name;
                Ok(())
            }
            Op::AddConstraint { constraint, not_valid: false } => self.add_constraint(table, constraint),
            Op::DropConstraint { if_exists, name, drop_behavior } => {
                let cascade = matches!(drop_behavior, Some(ast::DropBehavior::Cascade));
                self.drop_constraint(table, &fold(name), *if_exists, cascade)
            }
            Op::AlterColumn { column_name, op } => {
                let at = table.column_or_error(&fold(column_name))?;
                self.alter_column(table, at, op)
            }
            Op::OwnerTo { new_owner: ast::Owner::Ident(owner) } => {
                table.owner = fold(owner);
                Ok(())
            }
            other => Err(SqlError::unsupported(format!("ALTER TABLE ... {other}"))),
        }
    }

    fn alter_column(&mut self, table: &mut Table, at: usize, op: &AlterColumnOperation) -> Result<()> {
        match op {
            AlterColumnOperation::SetDefault { value } => {
                let default = value.to_string();
                let column = table.columns[at].clone();
                self.check_default(table, &default, &column)?;
                table.columns[at].default = Some(default);
                Ok(())
            }
            AlterColumnOperation::DropDefault => {
                table.columns[at].default = None;
                Ok(())
            }
            AlterColumnOperation::SetNotNull => {
                let name = table.columns[at].name.clone();
                self.each_row(table, |table, row, _| match row[at].is_null() {
                    true => Err(contains_nulls(table, &name)),
                    false => Ok(()),
                })?;
                table.columns[at].not_null = true;
                Ok(())
            }
            AlterColumnOperation::DropNotNull => {
                if table.primary().columns.contains(&at) {
                    let message = format!("column \"{}\" is in a primary key", table.columns[at].name);
                    return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
                }
                table.columns[at].not_null = false;
                Ok(())
            }
            AlterColumnOperation::SetDataType { data_type, using, .. } => {
                let ty = bind_type(data_type)?;
                self.change_type(table, at, ty, using.as_ref())
            }
            other => Err(SqlError::unsupported(format!("ALTER COLUMN ... {other}"))),
        }
    }

    /// Gives a column another type, and its values in all rows.
    fn change_type(&mut self, table: &mut Table, at: usize, ty: Type, using: Option<&ast::Expr>) -> Result<()> {
        let before = table.clone();
        let name = before.columns[at].name.clone();
        let referred = self.catalog.referrers(table.id).any(|(_, key)| key.parent_columns.contains(&at));
        if before.primary().columns.contains(&at) || referred {
            return Err(SqlError::unsupported(
                "changing the type of a column of a primary key, or that is referred to",
            ));
        }
        if before.foreign_keys.iter().any(|key| key.columns.contains(&at)) {
            return Err(SqlError::unsupported("changing the type of a column that refers to another table"));
        }
        if before.columns[at].identity.is_some() {
            return Err(SqlError::unsupported("changing the type of an identity column"));
        }
        let ids: Vec<ColumnId> = (0..table.columns.len()).map(|at| ColumnId(u32::MAX - at as u32)).collect();
        let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
        let own = ast::Expr::Identifier(ast::Ident::with_quote('"', &name));
        let mut value = binder.bind_over(using.unwrap_or(&own), Some((&before, &ids)), &ty).map_err(|error| {
            if error.state != SqlState::DATATYPE_MISMATCH || using.is_some() {
                return error;
            }
            let message = format!("column \"{name}\" cannot be cast automatically to type {ty}");
            SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint(format!("You might need to specify \"USING {name}::{ty}\"."))
        })?;
        if value.has_subquery() {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in transform expression"));
        }
        crate::plan::resolve(&mut Plan::nothing(ids), &mut [&mut value], &mut binder.once)?;
        table.columns[at].ty = ty;
        if let Some(default) = table.columns[at].default.clone() {
            let column = table.columns[at].clone();
            self.check_default(table, &default, &column)?;
        }
        let changed: Vec<usize> =
            (0..table.indexes.len()).filter(|n| table.indexes[*n].columns.contains(&at)).collect();
        for &index in &changed {
            self.check_key_types(table, &table.indexes[index].columns)?;
        }
        let (after, runtime) = (&*table, self.runtime);
        self.rewrite_rows(&before, |store, key, bytes| {
            let mut row = exec::decode_stored(&before, &bytes)?;
            row[at] = exec::eval_row(&value, &row, &Context::new(&*store, runtime))?;
            if after.columns[at].not_null && row[at].is_null() {
                return Err(contains_nulls(after, &name));
            }
            Ok(store.put(key, exec::encode_stored(after, &row)?)?)
        })?;
        // Conditions may mean something else now: partial indexes are made anew, too, and checks looked at again.
        for index in 1..table.indexes.len() {
            if changed.contains(&index) || table.indexes[index].predicate.is_some() {
                self.build_index(table, index)?;
            }
        }
        self.validate(table, table.foreign_keys.len(), table.indexes.len(), 0)
    }

    /// Visits all rows of a table.
    fn each_row(
        &mut self,
        table: &Table,
        mut visit: impl FnMut(&Table, &Row, &Context<'_>) -> Result<()>,
    ) -> Result<()> {
        let prefix = index_prefix(table.id, table.primary().id);
        let store = self.writer.store();
        let ctx = Context::new(&*store, self.runtime);
        for pair in store.scan(&prefix, &prefix_end(&prefix), Direction::Forward)? {
            self.runtime.tick()?;
            visit(table, &exec::decode_stored(table, &pair?.1)?, &ctx)?;
        }
        Ok(())
    }

    fn alter_add_column(&mut self, table: &mut Table, def: &ast::ColumnDef, if_not_exists: bool) -> Result<()> {
        let name = fold(&def.name);
        if table.column(&name).is_some() {
            if if_not_exists {
                return Ok(());
            }
            let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        let (keys, indexes, checks) = (table.foreign_keys.len(), table.indexes.len(), table.checks.len());
        self.add_column(table, def)?;
        let at = table.columns.len() - 1;
        self.fill_column(table, at)?;
        self.column_constraints(table, def)?;
        self.validate(table, keys, indexes, checks)
    }

    /// Gives a new column its default in all rows.
    fn fill_column(&mut self, table: &Table, at: usize) -> Result<()> {
        let column = &table.columns[at];
        if column.default.is_none() && !column.not_null {
            return Ok(());
        }
        // A sequence of its own is not yet in the catalog that expressions see.
        let sequence = self.made.iter().find(|sequence| sequence.owned_by == Some((table.id, at))).cloned();
        let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
        let mut default = match sequence {
            Some(_) => Expr::null(column.ty.clone()),
            None => binder.default_value(table, at)?,
        };
        crate::plan::resolve(&mut Plan::unit(), &mut [&mut default], &mut binder.once)?;
        let mut last = None;
        let runtime = self.runtime;
        self.rewrite_rows(table, |store, key, bytes| {
            let mut row = exec::decode_stored(table, &bytes)?;
            row[at] = match &sequence {
                Some(sequence) => {
                    let next = numbers::next_after(sequence, last)?;
                    last = Some(next);
                    let ctx = Context::new(&*store, runtime);
                    crate::types::cast(&Value::Int8(next), &Type::Int8, &column.ty, CastContext::Assignment, &ctx.eval)?
                }
                None => exec::eval_constant(&default, &Context::new(&*store, runtime))?,
            };
            if column.not_null && row[at].is_null() {
                return Err(contains_nulls(table, &column.name));
            }
            Ok(store.put(key, exec::encode_stored(table, &row)?)?)
        })?;
        match (sequence, last) {
            (Some(sequence), Some(last)) => numbers::write_last(self.writer.store(), sequence.id, last),
            _ => Ok(()),
        }
    }

    /// Hands out the rows of a table as they are stored, some at a time, to be written again.
    fn rewrite_rows(
        &mut self,
        table: &Table,
        mut write: impl FnMut(&mut dyn Store, Vec<u8>, Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let prefix = index_prefix(table.id, table.primary().id);
        let end = prefix_end(&prefix);
        let mut start = prefix;
        loop {
            let store = self.writer.store();
            let batch: Vec<(Vec<u8>, Vec<u8>)> =
                store.scan(&start, &end, Direction::Forward)?.take(BATCH_ROWS).collect::<Result<_, _>>()?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            start = last.clone();
            start.push(0);
            for (key, bytes) in batch {
                self.runtime.tick()?;
                write(store, key, bytes)?;
            }
        }
    }

    /// Gives the rows of a table without primary key the keys of its new one, which `table` has already. Entries of the
    /// other indexes lead to rows by their keys, so they are made anew.
    pub(super) fn rekey(&mut self, before: &Table, table: &mut Table) -> Result<()> {
        for &hidden in &before.primary().columns {
            let column = &mut table.columns[hidden];
            (column.dropped, column.not_null) = (true, false);
        }
        table.indexes[0].id = self.writer.new_id();
        let (after, runtime) = (&*table, self.runtime);
        self.rewrite_rows(before, |store, key, bytes| {
            let row = exec::decode_stored(before, &bytes)?;
            if let Some(at) = after.primary().columns.iter().find(|at| row[**at].is_null()) {
                return Err(contains_nulls(after, &after.columns[*at].name));
            }
            let place = exec::primary_key(after, &row)?;
            if store.get(&place)?.is_some() {
                return Err(super::index::not_unique(after, after.primary(), &row, &Context::new(&*store, runtime)));
            }
            store.put(place, exec::encode_stored(after, &row)?)?;
            Ok(store.delete(key)?)
        })?;
        (1..table.indexes.len()).try_for_each(|at| self.build_index(table, at))
    }

    /// Checks new constraints against the rows that are there, and builds new indexes.
    fn validate(&mut self, table: &Table, keys: usize, indexes: usize, checks: usize) -> Result<()> {
        for at in indexes..table.indexes.len() {
            self.build_index(table, at)?;
        }
        if table.checks.len() > checks {
            let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
            let mut bound = binder.row_checks(table)?;
            bound.resolve()?;
            self.each_row(table, |table, row, ctx| {
                for (name, condition) in &bound.checks[checks..] {
                    if exec::eval_row(condition, row, ctx)?.as_bool() == Some(false) {
                        let message = format!(
                            "check constraint \"{name}\" of relation \"{}\" is violated by some row",
                            table.name
                        );
                        return Err(SqlError::new(SqlState::CHECK_VIOLATION, message)
                            .with_table(&table.schema, &table.name)
                            .with_constraint(name));
                    }
                }
                Ok(())
            })?;
        }
        if table.foreign_keys.len() > keys {
            self.each_row(table, |table, row, ctx| {
                table.foreign_keys[keys..].iter().try_for_each(|key| exec::check_foreign_key(table, key, row, ctx))
            })?;
        }
        Ok(())
    }

    fn add_constraint(&mut self, table: &mut Table, constraint: &ast::TableConstraint) -> Result<()> {
        let (keys, indexes, checks) = (table.foreign_keys.len(), table.indexes.len(), table.checks.len());
        self.table_constraint(table, constraint)?;
        if let Some(index) = table.indexes.get(indexes)
            && self.catalog.relation(&table.schema, &index.name).is_some()
        {
            let message = format!("relation \"{}\" already exists", index.name);
            return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
        }
        self.validate(table, keys, indexes, checks)
    }

    fn drop_constraint(&mut self, table: &mut Table, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        if let Some(at) = table.checks.iter().position(|check| check.name == name) {
            table.checks.remove(at);
            return Ok(());
        }
        if let Some(at) = table.foreign_keys.iter().position(|key| key.name == name) {
            table.foreign_keys.remove(at);
            return Ok(());
        }
        if let Some(at) = table.indexes.iter().position(|index| index.constraint && index.name == name) {
            if at == 0 {
                return Err(SqlError::unsupported("dropping a primary key"));
            }
            self.must_not_be_needed(table, at, cascade)?;
            let index = table.indexes.remove(at);
            self.writer.drop_comments(index.id)?;
            return exec::remove_prefix(self.writer.store(), index_prefix(table.id, index.id));
        }
        if if_exists {
            return Ok(());
        }
        let message = format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name);
        Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message))
    }

    fn drop_column(&mut self, table: &mut Table, name: &ast::Ident, if_exists: bool, cascade: bool) -> Result<()> {
        let at = match table.column(&fold(name)) {
            Some(at) => at,
            None if if_exists => return Ok(()),
            None => {
                let place = self.source.position(name.span.start);
                return table.column_or_error(&fold(name)).map(|_| ()).map_err(|error| error.at(place));
            }
        };
        if table.primary().columns.contains(&at) {
            return Err(SqlError::unsupported("dropping a column of the primary key"));
        }
        let depends = self.catalog.referrers(table.id).any(|(_, key)| key.parent_columns.contains(&at));
        if depends {
            if cascade {
                return Err(SqlError::unsupported("CASCADE to foreign keys here"));
            }
            let message = format!(
                "cannot drop column {} of table {} because other objects depend on it",
                table.columns[at].name, table.name
            );
            return Err(SqlError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        // Checks and conditions that name the column go with it, as do its indexes and foreign keys.
        let mentions = |sql: &str, ddl: &mut Self, table: &Table| -> Result<bool> {
            let ids: Vec<crate::plan::ColumnId> =
                (0..table.columns.len()).map(|at| crate::plan::ColumnId(u32::MAX - at as u32)).collect();
            let mut binder = Binder::new(ddl.catalog, ddl.runtime.session, ddl.runtime, ddl.source, &[]);
            let bound = binder.bind_stored(sql, Some((table, &ids)), &crate::types::Type::Bool)?;
            Ok(bound.columns().contains(&ids[at]))
        };
        let mut gone = BTreeSet::new();
        for check in table.checks.clone() {
            if mentions(&check.condition, self, table)? {
                gone.insert(check.id);
            }
        }
        for index in table.indexes.clone() {
            let condition = match &index.predicate {
                Some(predicate) => mentions(predicate, self, table)?,
                None => false,
            };
            if condition || index.columns.contains(&at) {
                gone.insert(index.id);
                self.writer.drop_comments(index.id)?;
                exec::remove_prefix(self.writer.store(), index_prefix(table.id, index.id))?;
            }
        }
        table.checks.retain(|check| !gone.contains(&check.id));
        table.indexes.retain(|index| !gone.contains(&index.id));
        table.foreign_keys.retain(|key| !key.columns.contains(&at));
        for sequence in self.catalog.sequences() {
            if sequence.owned_by == Some((table.id, at)) {
                self.writer.drop_sequence(sequence.id)?;
            }
        }
        self.writer.put_comment(table.id, at as u32 + 1, None)?;
        let column = &mut table.columns[at];
        column.dropped = true;
        column.not_null = false;
        column.default = None;
        column.identity = None;
        Ok(())
    }
}

fn contains_nulls(table: &Table, column: &str) -> SqlError {
    let message = format!("column \"{column}\" of relation \"{}\" contains null values", table.name);
    SqlError::new(SqlState::NOT_NULL_VIOLATION, message).with_table(&table.schema, &table.name).with_column(column)
}
