//! Constraints of columns and tables.

use sqlparser::ast::{self, ColumnOption, TableConstraint};

use super::Ddl;
use crate::bind::Binder;
use crate::catalog::{Check, ForeignKey, Index, ReferentialAction, Relation, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::kind::{fold, name_parts};
use crate::plan::ColumnId;
use crate::types::Type;

impl Ddl<'_> {
    pub(super) fn column_constraints(&mut self, table: &mut Table, def: &ast::ColumnDef) -> Result<()> {
        let at = table.column_or_error(&fold(&def.name))?;
        for option in &def.options {
            let name = option.name.as_ref().map(fold);
            match &option.option {
                ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Default(_) => {}
                ColumnOption::Generated { generation_expr: None, .. } => {}
                ColumnOption::PrimaryKey(_) => self.primary_key(table, name, vec![at])?,
                ColumnOption::Unique(unique) => {
                    refuse_deferrable(&unique.characteristics)?;
                    if unique.nulls_distinct == ast::NullsDistinctOption::NotDistinct {
                        return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
                    }
                    self.unique(table, name, vec![at])?;
                }
                ColumnOption::ForeignKey(key) => {
                    self.foreign_key(table, key.name.as_ref().map(fold).or(name), vec![at], key)?;
                }
                ColumnOption::Check(check) => {
                    self.check(table, check.name.as_ref().map(fold).or(name), &check.expr, Some(at))?;
                }
                ColumnOption::Collation(collation) => match name_parts(collation)?.last().map(String::as_str) {
                    Some("default" | "C" | "POSIX" | "ucs_basic") => {}
                    _ => return Err(SqlError::unsupported("this collation")),
                },
                other => return Err(SqlError::unsupported(format!("the column option {other}"))),
            }
        }
        Ok(())
    }

    pub(super) fn table_constraint(&mut self, table: &mut Table, constraint: &TableConstraint) -> Result<()> {
        match constraint {
            TableConstraint::PrimaryKey(key) if key.include.is_empty() => {
                refuse_deferrable(&key.characteristics)?;
                let columns = self.constraint_columns(table, &key.columns)?;
                self.primary_key(table, key.name.as_ref().map(fold), columns)
            }
            TableConstraint::Unique(unique) if unique.include.is_empty() => {
                refuse_deferrable(&unique.characteristics)?;
                if unique.nulls_distinct == ast::NullsDistinctOption::NotDistinct {
                    return Err(SqlError::unsupported("NULLS NOT DISTINCT"));
                }
                let columns = self.constraint_columns(table, &unique.columns)?;
                self.unique(table, unique.name.as_ref().map(fold), columns)
            }
            TableConstraint::ForeignKey(key) => {
                let mut columns = Vec::new();
                for column in &key.columns {
                    columns.push(self.column(table, column)?);
                }
                self.foreign_key(table, key.name.as_ref().map(fold), columns, key)
            }
            TableConstraint::Check(check) => self.check(table, check.name.as_ref().map(fold), &check.expr, None),
            other => Err(SqlError::unsupported(format!("the constraint {other}"))),
        }
    }

    fn column(&self, table: &Table, ident: &ast::Ident) -> Result<usize> {
        let name = fold(ident);
        table.column(&name).ok_or_else(|| {
            let message = format!("column \"{name}\" named in key does not exist");
            SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(self.source.position(ident.span.start))
        })
    }

    fn constraint_columns(&self, table: &Table, columns: &[ast::IndexColumn]) -> Result<Vec<usize>> {
        let mut places = Vec::new();
        for column in columns {
            let ast::Expr::Identifier(ident) = &column.column.expr else {
                return Err(SqlError::unsupported("an expression in a constraint"));
            };
            let at = self.column(table, ident)?;
            if places.contains(&at) {
                let message = format!("column \"{}\" appears twice in constraint", fold(ident));
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message));
            }
            places.push(at);
        }
        Ok(places)
    }

    /// Refuses types that have no order, of which no key can be made.
    pub(super) fn check_key_types(&self, table: &Table, columns: &[usize]) -> Result<()> {
        for &at in columns {
            let ty = &table.columns[at].ty;
            if matches!(ty, Type::Json) || crate::func::resolve_operator("<", Some(ty), ty).is_err() {
                let message = format!("data type {ty} has no default operator class for access method \"btree\"");
                return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
            }
        }
        Ok(())
    }

    /// The constraint's name: the given one, if it is free, or one made from the table's and columns' names.
    fn constraint_name(&self, table: &Table, given: Option<String>, columns: &[usize], suffix: &str) -> Result<String> {
        let taken: Vec<String> = table
            .indexes
            .iter()
            .map(|index| &index.name)
            .chain(table.foreign_keys.iter().map(|key| &key.name))
            .chain(table.checks.iter().map(|check| &check.name))
            .chain([&table.name])
            .cloned()
            .collect();
        match given {
            Some(name) => {
                crate::catalog::check_name(&name)?;
                if taken.contains(&name) {
                    let message = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
                    return Err(SqlError::new(SqlState::DUPLICATE_OBJECT, message));
                }
                // The indexes behind keys are relations like any other.
                if matches!(suffix, "pkey" | "key") && self.catalog.relation(&table.schema, &name).is_some() {
                    let message = format!("relation \"{name}\" already exists");
                    return Err(SqlError::new(SqlState::DUPLICATE_TABLE, message));
                }
                Ok(name)
            }
            None => {
                let mut parts = vec![table.name.as_str()];
                parts.extend(columns.iter().map(|&at| table.columns[at].name.as_str()));
                parts.push(suffix);
                Ok(self.catalog.free_name(&table.schema, &parts.join("_"), &taken))
            }
        }
    }

    fn primary_key(&mut self, table: &mut Table, name: Option<String>, columns: Vec<usize>) -> Result<()> {
        let is_new = table.indexes[0].columns.is_empty();
        if !is_new && table.has_primary_key() {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            return Err(SqlError::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        self.check_key_types(table, &columns)?;
        let name = self.constraint_name(table, name, &[], "pkey")?;
        let before = (!is_new).then(|| table.clone());
        for &at in &columns {
            table.columns[at].not_null = true;
        }
        let index = &mut table.indexes[0];
        index.columns = columns;
        index.name = name;
        index.constraint = true;
        match before {
            Some(before) => self.rekey(&before, table),
            None => Ok(()),
        }
    }

    pub(super) fn unique(&mut self, table: &mut Table, name: Option<String>, columns: Vec<usize>) -> Result<()> {
        self.check_key_types(table, &columns)?;
        let name = self.constraint_name(table, name, &columns, "key")?;
        let id = self.writer.new_id();
        let (unique, primary, constraint, predicate) = (true, false, true, None);
        table.indexes.push(Index { id, name, columns, unique, primary, constraint, predicate });
        Ok(())
    }

    pub(super) fn check(
        &mut self,
        table: &mut Table,
        name: Option<String>,
        condition: &ast::Expr,
        column: Option<usize>,
    ) -> Result<()> {
        let ids: Vec<ColumnId> = (0..table.columns.len()).map(|at| ColumnId(u32::MAX - at as u32)).collect();
        let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
        let bound = binder.bind_over(condition, Some((table, &ids)), &Type::Bool)?;
        if bound.has_subquery() {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in check constraint"));
        }
        let columns: Vec<usize> = match column {
            Some(at) => vec![at],
            None => match bound.columns().as_slice() {
                [only] => ids.iter().position(|id| id == only).into_iter().collect(),
                _ => vec![],
            },
        };
        let name = self.constraint_name(table, name, &columns, "check")?;
        let id = self.writer.new_id();
        table.checks.push(Check { id, name, condition: condition.to_string() });
        Ok(())
    }

    pub(super) fn foreign_key(
        &mut self,
        table: &mut Table,
        name: Option<String>,
        columns: Vec<usize>,
        key: &ast::ForeignKeyConstraint,
    ) -> Result<()> {
        refuse_deferrable(&key.characteristics)?;
        if !matches!(key.match_kind, None | Some(ast::ConstraintReferenceMatchKind::Simple)) {
            return Err(SqlError::unsupported("MATCH FULL and MATCH PARTIAL"));
        }
        let parts = name_parts(&key.foreign_table)?;
        let own = parts.last() == Some(&table.name)
            && match parts.as_slice() {
                [_] => self.path.contains(&table.schema),
                [schema, _] => *schema == table.schema,
                _ => false,
            };
        let found = match self.find(&key.foreign_table)? {
            Some(Relation::Table(parent)) if parent.id != table.id => Some(parent.as_ref().clone()),
            _ if own => None,
            Some(Relation::Table(_)) => None,
            _ => Some(self.table(&key.foreign_table)?),
        };
        let parent = found.as_ref().unwrap_or(table);
        let mut parent_columns = Vec::new();
        for column in &key.referred_columns {
            let name = fold(column);
            parent_columns.push(parent.column(&name).ok_or_else(|| {
                let message = format!("column \"{name}\" referenced in foreign key constraint does not exist");
                SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(self.source.position(column.span.start))
            })?);
        }
        if parent_columns.is_empty() {
            if !parent.has_primary_key() || parent.primary().columns.is_empty() {
                let message = format!("there is no primary key for referenced table \"{}\"", parent.name);
                return Err(SqlError::new(SqlState::UNDEFINED_OBJECT, message));
            }
            parent_columns = parent.primary().columns.clone();
        }
        if parent_columns.len() != columns.len() {
            let message = "number of referencing and referenced columns for foreign key disagree";
            return Err(SqlError::new(SqlState::INVALID_FOREIGN_KEY, message));
        }
        let covers = |index: &Index| {
            let alike = index.columns.len() == parent_columns.len()
                && index.columns.iter().all(|column| parent_columns.contains(column));
            index.unique && index.predicate.is_none() && alike
        };
        if !parent.indexes.iter().any(covers) {
            let message =
                format!("there is no unique constraint matching given keys for referenced table \"{}\"", parent.name);
            return Err(SqlError::new(SqlState::INVALID_FOREIGN_KEY, message));
        }
        for (&child, &other) in columns.iter().zip(&parent_columns) {
            let (a, b) = (&table.columns[child].ty, &parent.columns[other].ty);
            let integers = |ty: &Type| matches!(ty, Type::Int2 | Type::Int4 | Type::Int8);
            let texts = |ty: &Type| matches!(ty, Type::Text | Type::Varchar(_));
            if !(a.same_base(b) || (integers(a) && integers(b)) || (texts(a) && texts(b))) {
                let name = name.unwrap_or_else(|| format!("{}_{}_fkey", table.name, table.columns[child].name));
                let message = format!("foreign key constraint \"{name}\" cannot be implemented");
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).with_detail(format!(
                    "Key columns \"{}\" and \"{}\" are of incompatible types: {a} and {b}.",
                    table.columns[child].name, parent.columns[other].name
                )));
            }
        }
        let parent_id = parent.id;
        let name = self.constraint_name(table, name, &columns, "fkey")?;
        table.foreign_keys.push(ForeignKey {
            id: self.writer.new_id(),
            name,
            columns,
            parent: parent_id,
            parent_columns,
            on_delete: action(key.on_delete),
            on_update: action(key.on_update),
        });
        Ok(())
    }
}

fn action(given: Option<ast::ReferentialAction>) -> ReferentialAction {
    match given {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

/// Constraints are checked at the end of each statement; asking for the end of the transaction is refused.
fn refuse_deferrable(characteristics: &Option<ast::ConstraintCharacteristics>) -> Result<()> {
    match characteristics {
        Some(given) if given.deferrable == Some(true) || given.initially.is_some() || given.enforced == Some(false) => {
            Err(SqlError::unsupported("a deferrable or unenforced constraint"))
        }
        _ => Ok(()),
    }
}
