//! INSERT, UPDATE, DELETE.
//!
//! Each is a plan that yields the rows to work on, and expressions over these rows. For INSERT the plan yields complete
//! rows of the table, defaults filled in; for UPDATE and DELETE the table's old row, followed by what FROM or USING joined.

use std::sync::Arc;

use sqlparser::ast::{self, AssignmentTarget, FromTable, SelectItem, SetExpr, TableFactor, TableObject};

use super::{Aggregates, Binder, OutputColumn, Scope, ScopeTable};
use crate::catalog::{Identity, Relation, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::kind::{fold, name_parts};
use crate::plan::{Access, ColumnId, Expr, JoinKind, Plan, Scan};
use crate::store::Direction;
use crate::types::{CastContext, Type};

/// A new value for the column at a place.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) column: usize,
    pub(crate) value: Expr,
}

/// What every new row of a table must satisfy beyond its keys.
#[derive(Clone, Debug)]
pub(crate) struct RowChecks {
    /// The columns over which the conditions are bound: the table's, in order.
    pub(crate) columns: Vec<ColumnId>,
    /// Names and conditions of CHECK constraints.
    pub(crate) checks: Vec<(String, Expr)>,
    /// For each index its condition, where only some rows are indexed.
    pub(crate) predicates: Vec<Option<Expr>>,
}

#[derive(Clone, Debug)]
pub(crate) enum ConflictAction {
    Nothing,
    Update { assignments: Vec<Assignment>, condition: Option<Expr> },
}

/// ON CONFLICT: over the existing row followed by the excluded one.
#[derive(Clone, Debug)]
pub(crate) struct OnConflict {
    /// The indexes in which a conflict is expected; all, if none is named.
    pub(crate) indexes: Vec<usize>,
    pub(crate) columns: Vec<ColumnId>,
    pub(crate) action: ConflictAction,
}

#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) table: Arc<Table>,
    pub(crate) source: Plan,
    pub(crate) checks: RowChecks,
    pub(crate) conflict: Option<OnConflict>,
    /// The columns of the stored row, over which RETURNING is bound.
    pub(crate) row: Vec<ColumnId>,
    pub(crate) returning: Option<Vec<(OutputColumn, Expr)>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub(crate) table: Arc<Table>,
    pub(crate) source: Plan,
    pub(crate) assignments: Vec<Assignment>,
    pub(crate) checks: RowChecks,
    /// Over the new row in the place of the old one.
    pub(crate) returning: Option<Vec<(OutputColumn, Expr)>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Delete {
    pub(crate) table: Arc<Table>,
    pub(crate) source: Plan,
    pub(crate) returning: Option<Vec<(OutputColumn, Expr)>>,
}

impl Binder<'_> {
    /// The stored table that a statement changes.
    fn target(&mut self, name: &ast::ObjectName) -> Result<Arc<Table>> {
        let place = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident));
        let parts = name_parts(name)?;
        match self.catalog.find(&parts, &self.search_path()).map_err(|error| error.at(place))? {
            Some(Relation::Table(table)) => {
                let table = table.clone();
                self.touch(&table, true);
                Ok(table)
            }
            Some(other) => {
                let message = format!("cannot change {} \"{}\"", other.noun(), parts.join("."));
                Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(place))
            }
            None => Err(self.no_relation(&parts, place)),
        }
    }

    pub(crate) fn row_checks(&mut self, table: &Table) -> Result<RowChecks> {
        let columns: Vec<ColumnId> = table.columns.iter().map(|_| self.new_column()).collect();
        let mut checks = Vec::new();
        for check in &table.checks {
            let condition = self.bind_stored(&check.condition, Some((table, &columns)), &Type::Bool)?;
            checks.push((check.name.clone(), condition));
        }
        let mut predicates = Vec::new();
        for index in &table.indexes {
            predicates.push(match &index.predicate {
                Some(predicate) => Some(self.bind_stored(predicate, Some((table, &columns)), &Type::Bool)?),
                None => None,
            });
        }
        Ok(RowChecks { columns, checks, predicates })
    }

    /// What a column gets when nothing is given.
    pub(crate) fn default_value(&mut self, table: &Table, column: usize) -> Result<Expr> {
        let column = &table.columns[column];
        if column.hidden {
            return Ok(Expr::RowId);
        }
        match &column.default {
            Some(sql) if !column.dropped => self.bind_stored(sql, None, &column.ty),
            _ => Ok(Expr::null(column.ty.clone())),
        }
    }

    pub(crate) fn bind_insert(&mut self, insert: &ast::Insert) -> Result<Insert> {
        let extras = [
            (insert.or.is_some() || insert.ignore || insert.replace_into, "INSERT OR, IGNORE or REPLACE"),
            (insert.overwrite || insert.partitioned.is_some(), "INSERT OVERWRITE"),
            (!insert.assignments.is_empty(), "INSERT ... SET"),
            (insert.priority.is_some() || insert.insert_alias.is_some(), "this form of INSERT"),
            (insert.output.is_some() || insert.settings.is_some() || insert.format_clause.is_some(), "OUTPUT"),
            (insert.multi_table_insert_type.is_some() || !insert.after_columns.is_empty(), "this form of INSERT"),
            (insert.has_table_keyword || !insert.optimizer_hints.is_empty(), "this form of INSERT"),
        ];
        if let Some((_, what)) = extras.iter().find(|(present, _)| *present) {
            return Err(SqlError::unsupported(what));
        }
        let TableObject::TableName(name) = &insert.table else {
            return Err(SqlError::unsupported("INSERT into anything but a table"));
        };
        let table = self.target(name)?;
        let alias = insert.table_alias.as_ref().map_or_else(|| table.name.clone(), |alias| fold(&alias.alias));
        let mut targets = Vec::new();
        for column in &insert.columns {
            let place = column.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident));
            let [name] = name_parts(column)?.try_into().map_err(|_| SqlError::unsupported("a qualified target"))?;
            let at = table.column_or_error(&name).map_err(|error| error.at(place))?;
            if targets.contains(&at) {
                let message = format!("column \"{name}\" specified more than once");
                return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(place));
            }
            targets.push(at);
        }
        let source = self.bind_insert_source(insert, &table, targets)?;
        let checks = self.row_checks(&table)?;
        let (entry, columns) = self.table_scope(&table, &alias);
        let conflict = match &insert.on {
            None => None,
            Some(ast::OnInsert::OnConflict(conflict)) => Some(self.bind_conflict(conflict, &table, &entry, &columns)?),
            Some(_) => return Err(SqlError::unsupported("ON DUPLICATE KEY UPDATE")),
        };
        let row = columns.iter().map(|(id, _)| *id).collect();
        self.scopes.push(Scope { tables: vec![entry] });
        let returning = self.bind_returning(insert.returning.as_deref());
        self.scopes.pop();
        Ok(Insert { table, source, checks, conflict, row, returning: returning? })
    }

    /// A plan that yields whole rows of the table.
    fn bind_insert_source(&mut self, insert: &ast::Insert, table: &Table, targets: Vec<usize>) -> Result<Plan> {
        let all: Vec<usize> = table.visible().map(|(at, _)| at).collect();
        let Some(query) = &insert.source else {
            // DEFAULT VALUES
            return self.complete(table, Plan::unit(), &[]);
        };
        let named = !targets.is_empty();
        let mut targets = if named { targets } else { all };
        if let SetExpr::Values(values) = query.body.as_ref()
            && query.order_by.is_none()
            && query.limit_clause.is_none()
            && query.with.is_none()
        {
            return self.bind_insert_values(table, &values.rows, targets, named);
        }
        let types: Vec<Type> = targets.iter().map(|&at| table.columns[at].ty.clone()).collect();
        let query = self.bind_query(query, Some(&types))?;
        check_width(query.columns.len(), targets.len(), named)?;
        targets.truncate(query.columns.len());
        let mut given = Vec::new();
        for (&at, column) in targets.iter().zip(&query.columns) {
            let target = &table.columns[at];
            self.refuse_generated(table, at, false)?;
            let value = self.assign(Expr::column(column.id, column.ty.clone()), &target.ty, &target.name)?;
            given.push((at, value));
        }
        self.complete(table, query.plan, &given)
    }

    fn bind_insert_values(
        &mut self,
        table: &Table,
        rows: &[ast::Parens<Vec<ast::Expr>>],
        mut targets: Vec<usize>,
        named: bool,
    ) -> Result<Plan> {
        let width = rows.first().map_or(0, |row| row.content.len());
        check_width(width, targets.len(), named)?;
        targets.truncate(width);
        let mut bound = Vec::new();
        // Defaults of columns that are not named are the same in every row.
        let mut rest = Vec::new();
        for at in 0..table.columns.len() {
            rest.push(if targets.contains(&at) { None } else { Some(self.default_value(table, at)?) });
        }
        for row in rows {
            if row.content.len() != width {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
            }
            let mut values = rest.clone();
            for (ast, &at) in row.content.iter().zip(&targets) {
                values[at] = Some(if is_default(ast) {
                    self.default_value(table, at)?
                } else {
                    self.refuse_generated(table, at, false)?;
                    self.bind_assigned(ast, table, at)?
                });
            }
            let complete: Option<Vec<Expr>> = values.into_iter().collect();
            bound.push(complete.ok_or_else(|| SqlError::internal("each column was given a value"))?);
        }
        let columns = table.columns.iter().map(|_| self.new_column()).collect();
        Ok(Plan::Rows { columns, rows: bound })
    }

    /// An expression stored into a column.
    fn bind_assigned(&mut self, ast: &ast::Expr, table: &Table, at: usize) -> Result<Expr> {
        let column = &table.columns[at];
        let expr = self.bind_expr(ast)?;
        let place = self.place(ast);
        match expr.ty() {
            Type::Unknown => self.coerce(expr, &column.ty, CastContext::Assignment, place),
            _ => self.assign(expr, &column.ty, &column.name).map_err(|error| error.at(place.get())),
        }
    }

    fn refuse_generated(&self, table: &Table, at: usize, update: bool) -> Result<()> {
        let column = &table.columns[at];
        if column.identity != Some(Identity::Always) {
            return Ok(());
        }
        let name = &column.name;
        let message = match update {
            true => format!("column \"{name}\" can only be updated to DEFAULT"),
            false => format!("cannot insert a non-DEFAULT value into column \"{name}\""),
        };
        Err(SqlError::new(SqlState::GENERATED_ALWAYS, message)
            .with_detail(format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS.")))
    }

    /// Fills in the defaults of columns that are not given.
    fn complete(&mut self, table: &Table, input: Plan, given: &[(usize, Expr)]) -> Result<Plan> {
        let mut columns = Vec::new();
        for at in 0..table.columns.len() {
            let value = match given.iter().find(|(column, _)| *column == at) {
                Some((_, value)) => value.clone(),
                None => self.default_value(table, at)?,
            };
            columns.push((self.new_column(), value));
        }
        Ok(Plan::Project { input: Box::new(input), columns })
    }

    fn bind_conflict(
        &mut self,
        conflict: &ast::OnConflict,
        table: &Arc<Table>,
        entry: &ScopeTable,
        columns: &[(ColumnId, usize)],
    ) -> Result<OnConflict> {
        let indexes = match &conflict.conflict_target {
            None => vec![],
            Some(ast::ConflictTarget::Columns(names)) => {
                let mut wanted = Vec::new();
                for name in names {
                    wanted.push(table.column_or_error(&fold(name)).map_err(|error| error.at(self.at(name)))?);
                }
                wanted.sort_unstable();
                let matches = |index: &crate::catalog::Index| {
                    let mut columns = index.columns.clone();
                    columns.sort_unstable();
                    index.unique && columns == wanted && index.predicate.is_none()
                };
                let found: Vec<usize> = (0..table.indexes.len()).filter(|&at| matches(&table.indexes[at])).collect();
                if found.is_empty() {
                    let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
                    return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
                }
                found
            }
            Some(ast::ConflictTarget::OnConstraint(name)) => {
                let parts = name_parts(name)?;
                let name = parts.last().cloned().unwrap_or_default();
                let found = table.indexes.iter().position(|index| index.constraint && index.name == name);
                vec![found.ok_or_else(|| {
                    let message = format!("constraint \"{name}\" for table \"{}\" does not exist", table.name);
                    SqlError::new(SqlState::UNDEFINED_OBJECT, message)
                })?]
            }
        };
        let mut all: Vec<ColumnId> = columns.iter().map(|(id, _)| *id).collect();
        let action = match &conflict.action {
            ast::OnConflictAction::DoNothing => ConflictAction::Nothing,
            ast::OnConflictAction::DoUpdate(update) => {
                if indexes.is_empty() {
                    let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                }
                let (mut excluded, ids) = self.table_scope(table, "excluded");
                excluded.schema = None;
                all.extend(ids.iter().map(|(id, _)| *id));
                // A bare name is the existing row's; the excluded row is always named.
                for column in &mut excluded.columns {
                    column.bare = false;
                }
                self.scopes.push(Scope { tables: vec![entry.clone(), excluded] });
                let assignments = self.bind_assignments(&update.assignments, table);
                let condition =
                    update.selection.as_ref().map(|ast| self.bind_condition(ast, "ON CONFLICT ... WHERE")).transpose();
                self.scopes.pop();
                ConflictAction::Update { assignments: assignments?, condition: condition? }
            }
        };
        Ok(OnConflict { indexes, columns: all, action })
    }

    fn bind_assignments(&mut self, assignments: &[ast::Assignment], table: &Table) -> Result<Vec<Assignment>> {
        let outer = std::mem::replace(&mut self.aggregates, Aggregates::Refused("UPDATE"));
        let result = self.bind_assignments_inside(assignments, table);
        self.aggregates = outer;
        result
    }

    fn bind_assignments_inside(&mut self, assignments: &[ast::Assignment], table: &Table) -> Result<Vec<Assignment>> {
        let mut bound: Vec<Assignment> = Vec::new();
        for assignment in assignments {
            let pairs: Vec<(&ast::ObjectName, &ast::Expr)> = match (&assignment.target, &assignment.value) {
                (AssignmentTarget::ColumnName(name), value) => vec![(name, value)],
                (AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) if names.len() == values.len() => {
                    names.iter().zip(values).collect()
                }
                (AssignmentTarget::Tuple(names), value) if names.len() == 1 => vec![(&names[0], value)],
                (_, value) => return Err(self.unsupported("this form of multiple assignment", value)),
            };
            for (name, value) in pairs {
                let place = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident));
                let parts = name_parts(name)?;
                let [column] = parts.as_slice() else {
                    let message = format!("column \"{}\" of relation \"{}\" does not exist", parts[0], table.name);
                    return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(place));
                };
                let at = table.column_or_error(column).map_err(|error| error.at(place))?;
                if bound.iter().any(|other| other.column == at) {
                    let message = format!("multiple assignments to same column \"{column}\"");
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(place));
                }
                let value = if is_default(value) {
                    self.default_value(table, at)?
                } else {
                    self.refuse_generated(table, at, true)?;
                    self.bind_assigned(value, table, at)?
                };
                bound.push(Assignment { column: at, value });
            }
        }
        Ok(bound)
    }

    /// The scan of the table to change, and its names.
    fn bind_target_scan(&mut self, item: &ast::TableWithJoins) -> Result<(Arc<Table>, Plan, ScopeTable)> {
        let plain = item.joins.is_empty();
        let TableFactor::Table { name, alias, args: None, sample: None, version: None, .. } = &item.relation else {
            return Err(SqlError::unsupported("changing anything but a table"));
        };
        if !plain {
            return Err(SqlError::unsupported("a join as the table to change"));
        }
        let table = self.target(name)?;
        let alias = match alias {
            Some(alias) if alias.columns.is_empty() => fold(&alias.name),
            Some(_) => return Err(SqlError::unsupported("column aliases of the table to change")),
            None => table.name.clone(),
        };
        let (entry, columns) = self.table_scope(&table, &alias);
        let (conditions, access, direction) = (vec![], Access::Full, Direction::Forward);
        let scan = Scan { table: table.clone(), alias, columns, conditions, access, direction };
        Ok((table, Plan::Scan(scan), entry))
    }

    /// The rows to change: the table's, joined with the other items, filtered.
    fn bind_change_source(
        &mut self,
        target: Plan,
        entry: ScopeTable,
        others: &[ast::TableWithJoins],
        selection: Option<&ast::Expr>,
    ) -> Result<(Plan, Scope)> {
        let mut scope = Scope { tables: vec![entry] };
        let mut plan = target;
        if !others.is_empty() {
            let (other, names) = self.bind_from(others)?;
            scope.merge(names)?;
            plan = super::from::join(JoinKind::Inner, plan, other, vec![], false);
        }
        if let Some(condition) = selection {
            self.scopes.push(scope);
            let condition = self.bind_condition(condition, "WHERE");
            scope = self.scopes.pop().unwrap_or_default();
            plan = plan.filter(condition?.into_conjuncts());
        }
        Ok((plan, scope))
    }

    pub(crate) fn bind_update(&mut self, update: &ast::Update) -> Result<Update> {
        let extras = [
            (update.or.is_some() || update.output.is_some(), "this form of UPDATE"),
            (!update.order_by.is_empty() || update.limit.is_some(), "UPDATE with ORDER BY or LIMIT"),
        ];
        if let Some((_, what)) = extras.iter().find(|(present, _)| *present) {
            return Err(SqlError::unsupported(what));
        }
        let (table, target, entry) = self.bind_target_scan(&update.table)?;
        let others: &[ast::TableWithJoins] = match &update.from {
            None => &[],
            Some(ast::UpdateTableFromKind::AfterSet(others)) => others,
            Some(_) => return Err(SqlError::unsupported("FROM before SET")),
        };
        let (source, scope) = self.bind_change_source(target, entry, others, update.selection.as_ref())?;
        self.scopes.push(scope);
        let assignments = self.bind_assignments(&update.assignments, &table);
        let returning = self.bind_returning(update.returning.as_deref());
        self.scopes.pop();
        let checks = self.row_checks(&table)?;
        Ok(Update { table, source, assignments: assignments?, checks, returning: returning? })
    }

    pub(crate) fn bind_delete(&mut self, delete: &ast::Delete) -> Result<Delete> {
        let extras = [
            (!delete.tables.is_empty() || delete.output.is_some(), "this form of DELETE"),
            (!delete.order_by.is_empty() || delete.limit.is_some(), "DELETE with ORDER BY or LIMIT"),
        ];
        if let Some((_, what)) = extras.iter().find(|(present, _)| *present) {
            return Err(SqlError::unsupported(what));
        }
        let FromTable::WithFromKeyword(from) = &delete.from else {
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, "DELETE needs FROM"));
        };
        let [item] = from.as_slice() else {
            return Err(SqlError::unsupported("DELETE from several tables"));
        };
        let (table, target, entry) = self.bind_target_scan(item)?;
        let others = delete.using.as_deref().unwrap_or_default();
        let (source, scope) = self.bind_change_source(target, entry, others, delete.selection.as_ref())?;
        self.scopes.push(scope);
        let returning = self.bind_returning(delete.returning.as_deref());
        self.scopes.pop();
        Ok(Delete { table, source, returning: returning? })
    }

    fn bind_returning(&mut self, items: Option<&[SelectItem]>) -> Result<Option<Vec<(OutputColumn, Expr)>>> {
        let Some(items) = items else { return Ok(None) };
        let outer = std::mem::replace(&mut self.aggregates, Aggregates::Refused("RETURNING"));
        let items = self.bind_returning_items(items);
        self.aggregates = outer;
        items.map(Some)
    }
}

fn check_width(given: usize, targets: usize, named: bool) -> Result<()> {
    if given > targets {
        let message = "INSERT has more expressions than target columns";
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    }
    if given < targets && named {
        let message = "INSERT has more target columns than expressions";
        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
    }
    Ok(())
}

fn is_default(ast: &ast::Expr) -> bool {
    matches!(ast, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}
