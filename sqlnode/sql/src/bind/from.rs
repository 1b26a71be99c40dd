//! FROM: tables, subqueries, functions and joins.

use sqlparser::ast::{self, JoinConstraint, JoinOperator, TableFactor};

use super::{Binder, BoundQuery, Scope, ScopeColumn, ScopeTable, SharedRows};
use crate::catalog::Relation;
use crate::error::{Result, SqlError, SqlState};
use crate::kind::{fold, name_parts};
use crate::plan::{Access, ColumnId, Expr, Join, JoinKind, Plan, Position, Scan, Strategy};
use crate::store::Direction;
use crate::system::SystemTable;
use crate::types::{CastContext, Type, common_type};

/// Tables that one FROM may join; each costs stack when it runs.
const JOINS_MAX: usize = 64;

impl Binder<'_> {
    /// All items of a FROM clause, joined; they see each other only where LATERAL says so.
    pub(super) fn bind_from(&mut self, items: &[ast::TableWithJoins]) -> Result<(Plan, Scope)> {
        if items.iter().map(|item| 1 + item.joins.len()).sum::<usize>() > JOINS_MAX {
            let message = format!("a FROM clause may join at most {JOINS_MAX} tables");
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message));
        }
        let mut result: Option<(Plan, Scope)> = None;
        for item in items {
            let left = result.as_ref().map(|(_, scope)| scope.clone());
            let (plan, scope, lateral) = self.bind_table_with_joins(item, left)?;
            result = Some(match result {
                None => (plan, scope),
                Some((left, mut names)) => {
                    names.merge(scope)?;
                    (join(JoinKind::Inner, left, plan, vec![], lateral), names)
                }
            });
        }
        Ok(result.unwrap_or_else(|| (Plan::unit(), Scope::default())))
    }

    fn bind_table_with_joins(
        &mut self,
        item: &ast::TableWithJoins,
        left: Option<Scope>,
    ) -> Result<(Plan, Scope, bool)> {
        let (mut plan, mut scope, mut lateral) = self.bind_factor(&item.relation, left.as_ref())?;
        for step in &item.joins {
            if step.global {
                return Err(SqlError::unsupported("GLOBAL JOIN"));
            }
            let mut visible = left.clone().unwrap_or_default();
            visible.tables.extend(scope.tables.iter().cloned());
            let (right, names, right_lateral) = self.bind_factor(&step.relation, Some(&visible))?;
            let none = JoinConstraint::None;
            let (kind, constraint) = match &step.join_operator {
                JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinKind::Inner, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (JoinKind::Left, constraint),
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => (JoinKind::Right, constraint),
                JoinOperator::FullOuter(constraint) => (JoinKind::Full, constraint),
                JoinOperator::CrossJoin(JoinConstraint::None) => (JoinKind::Inner, &none),
                _ => return Err(SqlError::unsupported("this kind of join")),
            };
            let cross = matches!(step.join_operator, JoinOperator::CrossJoin(_));
            if matches!(constraint, JoinConstraint::None) && !cross {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "JOIN needs ON, USING or NATURAL"));
            }
            if right_lateral && matches!(kind, JoinKind::Right | JoinKind::Full) {
                let message = "the combining JOIN type must be INNER or LEFT for a LATERAL reference";
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
            }
            lateral |= right_lateral;
            (plan, scope) = self.bind_join(kind, (plan, scope), (right, names), constraint, right_lateral)?;
        }
        Ok((plan, scope, lateral))
    }

    fn bind_join(
        &mut self,
        kind: JoinKind,
        (left, left_scope): (Plan, Scope),
        (right, right_scope): (Plan, Scope),
        constraint: &JoinConstraint,
        lateral: bool,
    ) -> Result<(Plan, Scope)> {
        let names = match constraint {
            JoinConstraint::None => vec![],
            JoinConstraint::On(condition) => {
                let mut scope = left_scope;
                scope.merge(right_scope)?;
                self.scopes.push(scope);
                let bound = self.bind_condition(condition, "JOIN/ON");
                let scope = self.scopes.pop().unwrap_or_default();
                return Ok((join(kind, left, right, bound?.into_conjuncts(), lateral), scope));
            }
            JoinConstraint::Using(columns) => {
                let mut names = Vec::new();
                for column in columns {
                    match name_parts(column)?.as_slice() {
                        [name] => names.push(name.clone()),
                        _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "USING takes bare column names")),
                    }
                }
                names
            }
            JoinConstraint::Natural => {
                let right: Vec<&str> = right_scope.star().map(|column| column.name.as_str()).collect();
                let shared = left_scope.star().filter(|column| right.contains(&column.name.as_str()));
                shared.map(|column| column.name.clone()).collect()
            }
        };
        self.bind_using(kind, (left, left_scope), (right, right_scope), &names, lateral)
    }

    fn bind_using(
        &mut self,
        kind: JoinKind,
        (left, mut left_scope): (Plan, Scope),
        (right, mut right_scope): (Plan, Scope),
        names: &[String],
        lateral: bool,
    ) -> Result<(Plan, Scope)> {
        let mut on = Vec::new();
        let mut merged = Vec::new();
        let mut computed = Vec::new();
        for name in names {
            let take = |scope: &mut Scope, side: &str| -> Result<ScopeColumn> {
                let Some(found) = scope.column(name)?.cloned() else {
                    let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
                    return Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message));
                };
                for table in &mut scope.tables {
                    table
                        .columns
                        .iter_mut()
                        .filter(|c| c.id == found.id && c.name == *name)
                        .for_each(|c| c.bare = false);
                }
                Ok(found)
            };
            let a = take(&mut left_scope, "left")?;
            let b = take(&mut right_scope, "right")?;
            let place = Position::default();
            let (left_expr, right_expr) = (a.expr(place), b.expr(place));
            on.push(self.operator("=", (left_expr.clone(), place), (right_expr.clone(), place))?);
            let ty = common_type(&[a.ty.clone(), b.ty.clone()], "JOIN/USING")?;
            let same = a.ty == ty && b.ty == ty;
            merged.push(match kind {
                JoinKind::Inner | JoinKind::Left if a.ty == ty => a,
                JoinKind::Right if b.ty == ty => b,
                _ => {
                    let id = self.new_column();
                    let expr = if same || kind == JoinKind::Full {
                        let left = self.coerce(left_expr, &ty, CastContext::Implicit, place)?;
                        let right = self.coerce(right_expr, &ty, CastContext::Implicit, place)?;
                        Expr::Coalesce(vec![left, right], ty.clone())
                    } else {
                        let side = if kind == JoinKind::Right { right_expr } else { left_expr };
                        self.coerce(side, &ty, CastContext::Implicit, place)?
                    };
                    computed.push((id, expr));
                    ScopeColumn { name: name.clone(), id, ty, source: None, bare: true }
                }
            });
        }
        let mut plan = join(kind, left, right, on, lateral);
        if !computed.is_empty() {
            plan = extend(plan, computed, &[&left_scope, &right_scope]);
        }
        let columns = merged.into_iter().map(|column| ScopeColumn { bare: true, ..column }).collect();
        let mut scope = Scope { tables: vec![ScopeTable { name: None, schema: None, columns, key: vec![] }] };
        scope.merge(left_scope)?;
        scope.merge(right_scope)?;
        Ok((plan, scope))
    }

    /// One item, its names, and whether it may refer to what stands left of it.
    fn bind_factor(&mut self, factor: &TableFactor, left: Option<&Scope>) -> Result<(Plan, Scope, bool)> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                let (plan, scope) = self.bind_table(name, alias.as_ref())?;
                Ok((plan, scope, false))
            }
            TableFactor::Table { name, alias, args: Some(args), with_ordinality, sample: None, .. }
                if args.settings.is_none() =>
            {
                let list =
                    ast::FunctionArgumentList { duplicate_treatment: None, args: args.args.clone(), clauses: vec![] };
                self.bind_function_factor(name, list, alias.as_ref(), *with_ordinality, left)
            }
            TableFactor::Function { name, args, with_ordinality, alias, .. } => {
                let list = ast::FunctionArgumentList { duplicate_treatment: None, args: args.clone(), clauses: vec![] };
                self.bind_function_factor(name, list, alias.as_ref(), *with_ordinality, left)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } => {
                let (plan, scope) = self.with_lateral(left, |binder| {
                    let mut functions = Vec::new();
                    for array in array_exprs {
                        let place = binder.place(array);
                        let arg = binder.bind_expr(array)?;
                        let function = crate::func::resolve_function("unnest", &[arg.ty()])
                            .map_err(|error| error.at(place.get()))?;
                        let arg = match function.arguments.first().cloned() {
                            Some(ty) => binder.coerce(arg, &ty, CastContext::Implicit, place)?,
                            None => arg,
                        };
                        let column = binder.new_column();
                        functions.push(crate::plan::FunctionCall {
                            function: function.into(),
                            args: vec![arg],
                            column,
                        });
                    }
                    binder.function_scope("unnest", functions, &[], alias.as_ref(), *with_ordinality)
                })?;
                Ok((plan, scope, true))
            }
            TableFactor::Derived { lateral, subquery, alias, sample: None } => {
                let left = if *lateral { left } else { None };
                let query = self.with_lateral(left, |binder| binder.deeper(|binder| binder.bind_subquery(subquery)))?;
                let scope = self.derived_scope(&query, alias.as_ref())?;
                Ok((query.plan, scope, *lateral))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.bind_table_with_joins(table_with_joins, left.cloned())
            }
            other => Err(SqlError::unsupported(format!("the FROM item {other}"))),
        }
    }

    /// Runs with the left items' names visible one level out.
    fn with_lateral<T>(&mut self, left: Option<&Scope>, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let pushed = left.is_some();
        self.scopes.extend(left.cloned());
        let outer = std::mem::replace(&mut self.aggregates, super::Aggregates::Refused("FROM"));
        let result = run(self);
        self.aggregates = outer;
        if pushed {
            self.scopes.pop();
        }
        result
    }

    fn bind_table(&mut self, name: &ast::ObjectName, alias: Option<&ast::TableAlias>) -> Result<(Plan, Scope)> {
        let place = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident));
        let parts = name_parts(name)?;
        if let [cte] = parts.as_slice()
            && let Some(at) = self.ctes.iter().rposition(|candidate| candidate.name == *cte)
        {
            return self.bind_cte(at, alias);
        }
        if let Some(table) = self.find_system_table(&parts) {
            let ids: Vec<ColumnId> = table.columns.iter().map(|_| self.new_column()).collect();
            let columns = table.columns.iter().zip(&ids).enumerate().map(|(at, ((name, ty), id))| ScopeColumn {
                name: name.to_string(),
                id: *id,
                ty: ty.clone(),
                source: Some((table.oid, at as i16 + 1)),
                bare: true,
            });
            let entry = ScopeTable {
                name: Some(table.name.to_string()),
                schema: Some(table.schema.to_string()),
                columns: columns.collect(),
                key: vec![],
            };
            let scope = Scope { tables: vec![self.aliased(entry, alias)?] };
            return Ok((Plan::System { table, columns: ids }, scope));
        }
        let path = self.search_path();
        let table = match self.catalog.find(&parts, &path).map_err(|error| error.at(place))? {
            Some(Relation::Table(table)) => table.clone(),
            Some(other) => {
                let message = format!("cannot read from {} \"{}\"", other.noun(), parts.join("."));
                return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(place));
            }
            None => return Err(self.no_relation(&parts, place)),
        };
        self.touch(&table, false);
        let (entry, columns) = self.table_scope(&table, &table.name);
        let entry = self.aliased(entry, alias)?;
        let alias = entry.name.clone().unwrap_or_default();
        let (conditions, access, direction) = (vec![], Access::Full, Direction::Forward);
        let plan = Plan::Scan(Scan { table, alias, columns, conditions, access, direction });
        Ok((plan, Scope { tables: vec![entry] }))
    }

    pub(super) fn no_relation(&self, parts: &[String], place: Option<usize>) -> SqlError {
        let message = format!("relation \"{}\" does not exist", parts.join("."));
        SqlError::new(SqlState::UNDEFINED_TABLE, message).at(place)
    }

    /// The schemas in which bare names are looked up, in order.
    pub(crate) fn search_path(&self) -> Vec<String> {
        crate::session::search_path(self.session)
    }

    fn find_system_table(&self, parts: &[String]) -> Option<&'static SystemTable> {
        match parts {
            [name] => {
                let path = self.search_path();
                let before = path.iter().take_while(|schema| self.catalog.relation(schema, name).is_none());
                before.into_iter().find_map(|schema| crate::system::find(schema, name))
            }
            [schema, name] | [_, schema, name] => crate::system::find(schema, name),
            _ => None,
        }
    }

    /// Applies `AS alias (column, ...)`.
    fn aliased(&self, mut entry: ScopeTable, alias: Option<&ast::TableAlias>) -> Result<ScopeTable> {
        let Some(alias) = alias else { return Ok(entry) };
        if alias.at.is_some() {
            return Err(SqlError::unsupported("AT"));
        }
        let name = fold(&alias.name);
        if alias.columns.len() > entry.columns.len() {
            let message = format!(
                "table \"{name}\" has {} columns available but {} columns specified",
                entry.columns.len(),
                alias.columns.len()
            );
            return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(self.at(&alias.name)));
        }
        for (column, given) in entry.columns.iter_mut().zip(&alias.columns) {
            if given.data_type.is_some() {
                return Err(SqlError::unsupported("a column definition list").at(self.at(&given.name)));
            }
            column.name = fold(&given.name);
        }
        entry.name = Some(name);
        entry.schema = None;
        Ok(entry)
    }

    /// The names under which a query's columns are seen from outside.
    pub(super) fn derived_scope(&self, query: &BoundQuery, alias: Option<&ast::TableAlias>) -> Result<Scope> {
        let columns = query
            .columns
            .iter()
            .map(|column| ScopeColumn {
                name: column.name.clone(),
                id: column.id,
                ty: column.ty.clone(),
                source: column.source,
                bare: true,
            })
            .collect();
        let entry = ScopeTable { name: None, schema: None, columns, key: vec![] };
        Ok(Scope { tables: vec![self.aliased(entry, alias)?] })
    }

    fn bind_cte(&mut self, at: usize, alias: Option<&ast::TableAlias>) -> Result<(Plan, Scope)> {
        let cte = self.ctes[at].clone();
        let mut query = match &cte.shared {
            Some(shared) => {
                // Each reference has column ids of its own, so that it may be joined with itself.
                let mut columns = shared.columns.clone();
                for column in &mut columns {
                    column.id = self.new_column();
                }
                let ids = columns.iter().map(|column| column.id).collect();
                let (number, name) = (shared.number, cte.name.clone());
                let plan = match &shared.rows {
                    SharedRows::Plan { plan, estimate } => {
                        Plan::With { number, name, plan: plan.clone(), rows: *estimate, columns: ids }
                    }
                    SharedRows::Recursion(recursion) => {
                        Plan::Recursive { name, recursion: recursion.clone(), columns: ids }
                    }
                    SharedRows::Work { depth } if *depth == self.depth => {
                        self.recursive.insert(number);
                        Plan::Work { number, columns: ids }
                    }
                    SharedRows::Work { .. } => {
                        let message =
                            format!("recursive reference to query \"{name}\" must not appear within a subquery");
                        return Err(SqlError::new(SqlState::INVALID_RECURSION, message));
                    }
                };
                BoundQuery { plan, columns }
            }
            None => {
                self.count_cte()?;
                let hidden = self.ctes.split_off(cte.visible);
                let query = self.deeper(|binder| binder.bind_subquery(&cte.query));
                self.ctes.extend(hidden);
                query?
            }
        };
        for (column, name) in query.columns.iter_mut().zip(&cte.aliases) {
            column.name = name.clone();
        }
        let mut scope = self.derived_scope(&query, None)?;
        for table in &mut scope.tables {
            table.name = Some(cte.name.clone());
        }
        let tables = scope.tables.into_iter().map(|table| self.aliased(table, alias)).collect::<Result<_>>()?;
        Ok((query.plan, Scope { tables }))
    }

    fn bind_function_factor(
        &mut self,
        name: &ast::ObjectName,
        list: ast::FunctionArgumentList,
        alias: Option<&ast::TableAlias>,
        ordinality: bool,
        left: Option<&Scope>,
    ) -> Result<(Plan, Scope, bool)> {
        let place: Position = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident)).into();
        let function = ast::Function {
            name: name.clone(),
            uses_odbc_syntax: false,
            parameters: ast::FunctionArguments::None,
            args: ast::FunctionArguments::List(list),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: vec![],
        };
        let (plan, scope) = self.with_lateral(left, |binder| {
            let mut parts = binder.call_parts(&function, place)?;
            let name = parts.name.clone();
            // The rows of these have two columns, each made by a function of its own.
            let (columns, makers): (&[&str], [&str; 2]) = match name.as_str() {
                "jsonb_each" => (&["key", "value"], ["jsonb_object_keys", "jsonb_object_values"]),
                "jsonb_each_text" => (&["key", "value"], ["jsonb_object_keys", "jsonb_object_values_text"]),
                "json_each" => (&["key", "value"], ["json_object_keys", "json_object_values"]),
                "json_each_text" => (&["key", "value"], ["json_object_keys", "json_object_values_text"]),
                _ => {
                    let call = binder.bind_function_call(&parts, place)?;
                    return binder.function_scope(&name, vec![call], &[], alias, ordinality);
                }
            };
            let mut calls = Vec::new();
            for maker in makers {
                parts.name = maker.to_string();
                calls.push(binder.bind_function_call(&parts, place)?);
            }
            binder.function_scope(&name, calls, columns, alias, ordinality)
        })?;
        Ok((plan, scope, true))
    }

    fn function_scope(
        &mut self,
        name: &str,
        functions: Vec<crate::plan::FunctionCall>,
        names: &[&str],
        alias: Option<&ast::TableAlias>,
        ordinality: bool,
    ) -> Result<(Plan, Scope)> {
        // One column of a function with an alias but no column names is called like the alias.
        let single = match (functions.len(), alias) {
            (1, Some(alias)) => fold(&alias.name),
            _ => name.to_string(),
        };
        let mut columns: Vec<ScopeColumn> = functions
            .iter()
            .enumerate()
            .map(|(at, call)| ScopeColumn {
                name: names.get(at).map_or_else(|| single.clone(), |name| name.to_string()),
                id: call.column,
                ty: call.function.result.clone(),
                source: None,
                bare: true,
            })
            .collect();
        let ordinality = ordinality.then(|| self.new_column());
        if let Some(id) = ordinality {
            columns.push(ScopeColumn { name: "ordinality".to_string(), id, ty: Type::Int8, source: None, bare: true });
        }
        let entry = ScopeTable { name: Some(name.to_string()), schema: None, columns, key: vec![] };
        let scope = Scope { tables: vec![self.aliased(entry, alias)?] };
        Ok((Plan::Functions { functions, ordinality }, scope))
    }
}

pub(super) fn join(kind: JoinKind, left: Plan, right: Plan, on: Vec<Expr>, lateral: bool) -> Plan {
    // Joining with the one row of an empty FROM is no join.
    if let (Plan::Rows { columns, rows }, JoinKind::Inner, true) = (&left, kind, on.is_empty())
        && columns.is_empty()
        && rows.len() == 1
    {
        return right;
    }
    let strategy = if lateral { Strategy::Lateral } else { Strategy::Nested };
    Plan::Join(Box::new(Join { kind, left, right, on, strategy }))
}

/// Adds computed columns to the ones that a plan has.
fn extend(plan: Plan, computed: Vec<(ColumnId, Expr)>, scopes: &[&Scope]) -> Plan {
    let types: std::collections::BTreeMap<ColumnId, Type> = scopes
        .iter()
        .flat_map(|scope| scope.tables.iter().flat_map(|table| &table.columns))
        .map(|column| (column.id, column.ty.clone()))
        .collect();
    let mut columns: Vec<(ColumnId, Expr)> = plan
        .columns()
        .into_iter()
        .map(|id| (id, Expr::column(id, types.get(&id).cloned().unwrap_or(Type::Unknown))))
        .collect();
    columns.extend(computed);
    Plan::Project { input: Box::new(plan), columns }
}
