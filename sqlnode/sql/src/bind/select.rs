//! One SELECT: its FROM, WHERE, grouping, select list.
//!
//! ```text
//!   FROM -> WHERE -> GROUP BY, aggregates -> HAVING -> set-returning functions -> select list -> DISTINCT
//! ```
//!
//! ORDER BY belongs to the query around, but may name anything that the select list may; so its expressions are bound here
//! and travel as extra columns.

use sqlparser::ast::{self, GroupByExpr, SelectItem, SelectItemQualifiedWildcardKind};

use super::call::sort_key;
use super::{Aggregates, Binder, OutputColumn, Scope, ScopeColumn};
use crate::error::{Result, SqlError, SqlState};
use crate::kind::{fold, name_parts};
use crate::plan::{AggregateCall, ColumnId, Expr, JoinKind, Plan, Position, SortKey};
use crate::types::{CastContext, Type};

/// Columns in a select list, `*` counted in full.
pub(super) const OUTPUT_COLUMNS_MAX: usize = 1_664;

/// A SELECT's plan, its columns, and by what it is to be sorted.
pub(super) struct BoundSelect {
    pub(super) plan: Plan,
    pub(super) columns: Vec<OutputColumn>,
    pub(super) order: Vec<SortKey>,
}

/// One column of the select list.
struct Item {
    name: String,
    expr: Expr,
    source: Option<(u32, i16)>,
}

/// What grouping leaves visible.
struct Grouping {
    groups: Vec<(ColumnId, Expr)>,
    aggregates: Vec<(ColumnId, AggregateCall)>,
}

impl Binder<'_> {
    pub(super) fn bind_select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        expected: Option<&[Type]>,
    ) -> Result<BoundSelect> {
        refuse_extras(select)?;
        let (from, scope) = self.bind_from(&select.from)?;
        self.scopes.push(scope);
        let aggregates = std::mem::replace(&mut self.aggregates, Aggregates::Refused("WHERE"));
        let set_functions = self.set_functions.take();
        let result = self.bind_over_from(select, order, expected, from);
        self.aggregates = aggregates;
        self.set_functions = set_functions;
        self.scopes.pop();
        result
    }

    fn bind_over_from(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        expected: Option<&[Type]>,
        from: Plan,
    ) -> Result<BoundSelect> {
        let mut plan = match &select.selection {
            Some(condition) => {
                let condition = self.bind_condition(condition, "WHERE")?;
                from.filter(condition.into_conjuncts())
            }
            None => from,
        };
        // The select list, with aggregates allowed.
        self.aggregates = Aggregates::Allowed(vec![]);
        self.set_functions = Some(vec![]);
        let mut items = self.bind_items(&select.projection, expected)?;
        let set_functions = self.set_functions.replace(vec![]).unwrap_or_default();
        let mut order_exprs = Vec::new();
        for key in order {
            order_exprs.push(self.bind_order(key, &items)?);
        }
        let mut distinct_on = match &select.distinct {
            Some(ast::Distinct::On(exprs)) => {
                let mut keys = Vec::new();
                for expr in exprs {
                    keys.push(self.bind_output(expr, &items, "DISTINCT ON")?);
                }
                keys
            }
            _ => vec![],
        };
        self.set_functions = None;
        let mut having = match &select.having {
            Some(condition) => {
                let bound = self.bind_expr(condition)?;
                Some(self.condition(bound, "HAVING")?)
            }
            None => None,
        };
        let found = std::mem::replace(&mut self.aggregates, Aggregates::Refused("GROUP BY"));
        let Aggregates::Allowed(aggregates) = found else {
            return Err(SqlError::internal("aggregates were allowed a moment ago"));
        };
        let groups = self.bind_groups(&select.group_by, &items)?;
        let mut set_functions = set_functions;
        if !aggregates.is_empty() || !groups.is_empty() || having.is_some() || has_group_by(&select.group_by) {
            let mut grouping = Grouping { groups, aggregates };
            let all = items.iter_mut().map(|item| &mut item.expr).chain(having.as_mut());
            let all = all.chain(order_exprs.iter_mut().map(|key| &mut key.expr)).chain(&mut distinct_on);
            for expr in all.chain(set_functions.iter_mut().flat_map(|call| &mut call.args)) {
                self.over_groups(expr, &mut grouping)?;
            }
            plan = Plan::Aggregate { input: Box::new(plan), groups: grouping.groups, aggregates: grouping.aggregates };
            plan = plan.filter(having.map(Expr::into_conjuncts).unwrap_or_default());
        }
        if !set_functions.is_empty() {
            let rows = Plan::Functions { functions: set_functions, ordinality: None };
            plan = super::from::join(JoinKind::Inner, plan, rows, vec![], true);
        }
        self.project(select, plan, items, order_exprs, distinct_on)
    }

    /// The select list as an operator, with what ORDER BY needs beside it, and DISTINCT over it.
    fn project(
        &mut self,
        select: &ast::Select,
        plan: Plan,
        items: Vec<Item>,
        mut order: Vec<SortKey>,
        mut distinct_on: Vec<Expr>,
    ) -> Result<BoundSelect> {
        let mut computed: Vec<(ColumnId, Expr)> = Vec::new();
        let mut columns = Vec::new();
        for item in items {
            let id = self.compute(&mut computed, item.expr.clone());
            let ty = item.expr.ty();
            columns.push(OutputColumn { name: item.name, id, ty, source: item.source });
        }
        let outputs = computed.len();
        let keys = order.iter_mut().map(|key| &mut key.expr);
        for expr in keys.chain(&mut distinct_on) {
            if !matches!(expr, Expr::Constant(..)) {
                let ty = expr.ty();
                let id = self.compute(&mut computed, expr.clone());
                *expr = Expr::column(id, ty);
            }
        }
        let more = computed.len() > outputs;
        let mut plan = Plan::Project { input: Box::new(plan), columns: computed };
        match &select.distinct {
            None | Some(ast::Distinct::All) => {}
            Some(ast::Distinct::Distinct) => {
                if more {
                    let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
                    return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
                }
                let keys = columns.iter().map(|column| Expr::column(column.id, column.ty.clone())).collect();
                plan = Plan::Distinct { input: Box::new(plan), keys };
            }
            Some(ast::Distinct::On(_)) => {
                let leading = order.iter().take(distinct_on.len());
                if !leading.clone().all(|key| distinct_on.iter().any(|expr| expr.same(&key.expr))) {
                    let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
                    return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
                }
                if !order.is_empty() {
                    plan = Plan::Sort { input: Box::new(plan), keys: order.clone(), top: None };
                }
                plan = Plan::Distinct { input: Box::new(plan), keys: distinct_on };
            }
        }
        Ok(BoundSelect { plan, columns, order })
    }

    /// The column that an expression becomes: its own if it is one, an earlier equal one, or a new one.
    fn compute(&mut self, computed: &mut Vec<(ColumnId, Expr)>, expr: Expr) -> ColumnId {
        if let Expr::Column { id, .. } = &expr {
            let id = *id;
            if !computed.iter().any(|(other, _)| *other == id) {
                computed.push((id, expr));
            }
            return id;
        }
        if !expr.is_volatile()
            && let Some((id, _)) = computed.iter().find(|(_, other)| other.same(&expr))
        {
            return *id;
        }
        let id = self.new_column();
        computed.push((id, expr));
        id
    }

    fn bind_items(&mut self, projection: &[SelectItem], expected: Option<&[Type]>) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(ast) => {
                    let item = self.bind_item(ast, None, expected.and_then(|types| types.get(items.len())))?;
                    items.push(item);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let item = self.bind_item(expr, Some(alias), expected.and_then(|types| types.get(items.len())))?;
                    items.push(item);
                }
                SelectItem::Wildcard(options) => {
                    refuse_wildcard_options(options)?;
                    let scope = self.scopes.last().cloned().unwrap_or_default();
                    if scope.tables.is_empty() {
                        let message = "SELECT * with no tables specified is not valid";
                        return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
                    }
                    items.extend(scope.star().map(star_item));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    refuse_wildcard_options(options)?;
                    items.extend(self.bind_table_star(name)?);
                }
                _ => return Err(SqlError::unsupported("this item of a select list")),
            }
            if items.len() > OUTPUT_COLUMNS_MAX {
                let message = format!("target lists can have at most {OUTPUT_COLUMNS_MAX} entries");
                return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message));
            }
        }
        Ok(items)
    }

    /// The items of RETURNING, which is a select list over rows that are changed.
    pub(super) fn bind_returning_items(&mut self, items: &[SelectItem]) -> Result<Vec<(OutputColumn, Expr)>> {
        let items = self.bind_items(items, None)?;
        let output = |item: Item| {
            let (id, ty) = (self.new_column(), item.expr.ty());
            (OutputColumn { name: item.name, id, ty, source: item.source }, item.expr)
        };
        Ok(items.into_iter().map(output).collect())
    }

    fn bind_table_star(&mut self, name: &ast::ObjectName) -> Result<Vec<Item>> {
        let place = name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident));
        let parts = name_parts(name)?;
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table),
            [schema, table] | [_, schema, table] => (Some(schema.as_str()), table),
            _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "improper qualified name").at(place)),
        };
        for scope in self.scopes.iter().rev() {
            if let Some(found) = scope.table(schema, table).map_err(|error| error.at(place))? {
                return Ok(found.columns.iter().map(star_item).collect());
            }
        }
        let message = format!("missing FROM-clause entry for table \"{table}\"");
        Err(SqlError::new(SqlState::UNDEFINED_TABLE, message).at(place))
    }

    fn bind_item(&mut self, ast: &ast::Expr, alias: Option<&ast::Ident>, expected: Option<&Type>) -> Result<Item> {
        // The parser takes these for names, without AS as well; PostgreSQL for a syntax error and for operators.
        if let Some(alias) = alias {
            let refuse = |message: &str| Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(self.at(alias)));
            if alias.quote_style == Some('\'') {
                return refuse("a name is not written between single quotes; two literals are joined with ||");
            }
            if alias.quote_style.is_none() && matches!(fold(alias).as_str(), "isnull" | "notnull") {
                return refuse("ISNULL and NOTNULL are not known here; write IS NULL, IS NOT NULL, or quote the name");
            }
        }
        let mut expr = self.bind_expr(ast)?;
        if let (Type::Unknown, Some(ty)) = (expr.ty(), expected) {
            expr = self.coerce(expr, ty, CastContext::Assignment, self.place(ast))?;
        }
        // A literal or parameter in an arm of a set operation may yet take the type of another arm.
        let open = expected == Some(&Type::Unknown) && matches!(expr, Expr::Constant(..) | Expr::Param(..));
        let expr = if open { expr } else { self.settle(expr)? };
        let source = match &expr {
            Expr::Column { id, .. } => self.scopes.last().and_then(|scope| {
                let column = scope.owner(*id)?.columns.iter().find(|column| column.id == *id)?;
                column.source
            }),
            _ => None,
        };
        let name = alias.map_or_else(|| output_name(ast).unwrap_or_else(|| "?column?".to_string()), fold);
        Ok(Item { name, expr, source })
    }

    /// An expression of ORDER BY: the number or name of an output column, or an expression over the input.
    fn bind_order(&mut self, key: &ast::OrderByExpr, items: &[Item]) -> Result<SortKey> {
        if key.with_fill.is_some() {
            return Err(SqlError::unsupported("WITH FILL"));
        }
        let expr = self.bind_output(&key.expr, items, "ORDER BY")?;
        let ty = expr.ty();
        crate::func::resolve_operator("<", Some(&ty), &ty).map_err(|_| {
            let message = format!("could not identify an ordering operator for type {ty}");
            SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(self.place(&key.expr).get())
        })?;
        if matches!(key.options.sort, Some(ast::OrderBySort::Using(_))) {
            return Err(self.unsupported("ORDER BY USING", &key.expr));
        }
        Ok(sort_key(expr, &key.options))
    }

    fn bind_output(&mut self, ast: &ast::Expr, items: &[Item], clause: &str) -> Result<Expr> {
        if let Some(position) = ordinal(ast) {
            return match position.checked_sub(1).and_then(|at| items.get(at)) {
                Some(item) => Ok(item.expr.clone()),
                None => {
                    let message = format!("{clause} position {position} is not in select list");
                    Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(self.place(ast).get()))
                }
            };
        }
        if let ast::Expr::Identifier(ident) = ast {
            let name = fold(ident);
            let mut named = items.iter().filter(|item| item.name == name);
            if let Some(first) = named.next() {
                if named.any(|other| !other.expr.same(&first.expr)) {
                    let message = format!("{clause} \"{name}\" is ambiguous");
                    return Err(SqlError::new(SqlState::AMBIGUOUS_COLUMN, message).at(self.at(ident)));
                }
                return Ok(first.expr.clone());
            }
        }
        let expr = self.bind_expr(ast)?;
        self.settle(expr)
    }

    fn bind_groups(&mut self, group_by: &GroupByExpr, items: &[Item]) -> Result<Vec<(ColumnId, Expr)>> {
        let exprs = match group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs,
            _ => return Err(SqlError::unsupported("this form of GROUP BY")),
        };
        let mut groups: Vec<(ColumnId, Expr)> = Vec::new();
        for ast in exprs {
            let is_empty = matches!(ast, ast::Expr::Tuple(list) if list.is_empty());
            if is_empty {
                continue;
            }
            let expr = self.bind_group(ast, items)?;
            if groups.iter().any(|(_, other)| other.same(&expr)) {
                continue;
            }
            let id = match &expr {
                Expr::Column { id, .. } => *id,
                _ => self.new_column(),
            };
            groups.push((id, expr));
        }
        Ok(groups)
    }

    /// GROUP BY prefers input columns over output names; ORDER BY the other way round.
    fn bind_group(&mut self, ast: &ast::Expr, items: &[Item]) -> Result<Expr> {
        if let Some(position) = ordinal(ast) {
            return match position.checked_sub(1).and_then(|at| items.get(at)) {
                Some(item) if item.expr.any(&|part| matches!(part, Expr::Subquery(_))) => {
                    Err(self.unsupported("GROUP BY a subquery", ast))
                }
                Some(item) => Ok(item.expr.clone()),
                None => {
                    let message = format!("GROUP BY position {position} is not in select list");
                    Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(self.place(ast).get()))
                }
            };
        }
        if let ast::Expr::Identifier(ident) = ast {
            let name = fold(ident);
            let input = self.scopes.last().map(|scope| scope.column(&name)).transpose();
            if let (Ok(None | Some(None)), Some(item)) = (&input, items.iter().find(|item| item.name == name)) {
                return Ok(item.expr.clone());
            }
        }
        if matches!(ast, ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_)) {
            return Err(self.unsupported("GROUPING SETS, CUBE and ROLLUP", ast));
        }
        let expr = self.bind_expr(ast)?;
        self.settle(expr)
    }

    /// Rewrites an expression over input rows into one over groups, or says which column is in neither.
    fn over_groups(&mut self, expr: &mut Expr, grouping: &mut Grouping) -> Result<()> {
        if let Some((id, group)) = grouping.groups.iter().find(|(_, group)| group.same(expr)) {
            *expr = Expr::column(*id, group.ty());
            return Ok(());
        }
        if let Expr::Column { id, ty, position, .. } = expr {
            if grouping.aggregates.iter().any(|(aggregate, _)| aggregate == id) {
                return Ok(());
            }
            let Some(scope) = self.scopes.last() else { return Ok(()) };
            let owner = scope.owner(*id).filter(|owner| owner.name.is_some());
            let input = owner.is_some() || scope.tables.iter().any(|t| t.columns.iter().any(|c| c.id == *id));
            if !input {
                return Ok(());
            }
            // A table's other columns follow from its primary key.
            if let Some(owner) = owner
                && !owner.key.is_empty()
                && owner.key.iter().all(|key| grouping.groups.iter().any(|(group, _)| group == key))
            {
                grouping.groups.push((*id, Expr::column(*id, ty.clone())));
                return Ok(());
            }
            return Err(ungrouped(scope, *id, *position));
        }
        if let Expr::Subquery(subquery) = expr {
            // A correlated subquery may read group columns only; what it reads of them keeps its id.
            let mut reads = Vec::new();
            subquery.plan.walk_exprs(&mut |part| {
                if let Expr::Column { id, ty, position, .. } = part {
                    reads.push((*id, ty.clone(), *position));
                }
            });
            for (id, ty, position) in reads {
                let mut column = Expr::Column { id, ty, slot: Default::default(), position };
                self.over_groups(&mut column, grouping)?;
            }
        }
        for child in expr.children_mut() {
            self.over_groups(child, grouping)?;
        }
        Ok(())
    }
}

fn ungrouped(scope: &Scope, id: ColumnId, position: Position) -> SqlError {
    let owner = scope.owner(id);
    let name = owner.and_then(|table| table.columns.iter().find(|column| column.id == id)).map_or("?", |c| &c.name);
    let qualified = match owner.and_then(|table| table.name.as_deref()) {
        Some(table) => format!("{table}.{name}"),
        None => name.to_string(),
    };
    let message =
        format!("column \"{qualified}\" must appear in the GROUP BY clause or be used in an aggregate function");
    SqlError::new(SqlState::GROUPING_ERROR, message).at(position.get())
}

fn star_item(column: &ScopeColumn) -> Item {
    Item { name: column.name.clone(), expr: column.expr(Position::default()), source: column.source }
}

fn has_group_by(group_by: &GroupByExpr) -> bool {
    !matches!(group_by, GroupByExpr::Expressions(exprs, _) if exprs.is_empty())
}

/// The number of an output column, where a plain integer stands for one.
fn ordinal(ast: &ast::Expr) -> Option<usize> {
    match ast {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) => digits.parse().ok(),
        _ => None,
    }
}

/// The name that PostgreSQL gives to a column without alias.
fn output_name(ast: &ast::Expr) -> Option<String> {
    named_by(ast).map(|(name, _)| name)
}

/// The name that an expression lends its column, and whether it is its own: a cast, `CASE` and the like give one only if
/// nothing inside them has one of its own.
fn named_by(ast: &ast::Expr) -> Option<(String, bool)> {
    use ast::Expr as Ast;
    let type_name = |ty: &ast::DataType| {
        let ty = super::bind_type(ty).ok()?;
        Some((ty.element().unwrap_or(&ty).internal_name(), false))
    };
    let own = |name: &str| Some((name.to_string(), true));
    match ast {
        Ast::Identifier(ident) => Some((fold(ident), true)),
        Ast::CompoundIdentifier(parts) => Some((fold(parts.last()?), true)),
        Ast::Function(function) => Some((name_parts(&function.name).ok()?.pop()?, true)),
        Ast::Nested(inner) | Ast::Collate { expr: inner, .. } => named_by(inner),
        Ast::CompoundFieldAccess { root, .. } => named_by(root),
        Ast::Cast { expr, data_type, .. } => named_by(expr).filter(|(_, own)| *own).or_else(|| type_name(data_type)),
        Ast::TypedString(typed) => type_name(&typed.data_type),
        Ast::Interval(_) => Some(("interval".to_string(), false)),
        Ast::Case { else_result, .. } => else_result
            .as_deref()
            .and_then(named_by)
            .filter(|(_, own)| *own)
            .or_else(|| Some(("case".to_string(), false))),
        Ast::Exists { .. } => own("exists"),
        Ast::Array(_) => own("array"),
        Ast::Tuple(_) => own("row"),
        Ast::Subquery(query) => match query.body.as_ref() {
            ast::SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => named_by(expr).map(|(name, _)| (name, true)),
                SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
                _ => None,
            },
            _ => None,
        },
        Ast::Value(ast::ValueWithSpan { value: ast::Value::Boolean(_), .. }) => Some(("bool".to_string(), false)),
        Ast::AtTimeZone { .. } => own("timezone"),
        Ast::Extract { .. } => own("extract"),
        Ast::Ceil { .. } => own("ceil"),
        Ast::Floor { .. } => own("floor"),
        Ast::Position { .. } => own("position"),
        Ast::Substring { shorthand: true, .. } => own("substr"),
        Ast::Substring { .. } => own("substring"),
        Ast::Overlay { .. } => own("overlay"),
        Ast::Trim { trim_where, .. } => match trim_where {
            Some(ast::TrimWhereField::Leading) => own("ltrim"),
            Some(ast::TrimWhereField::Trailing) => own("rtrim"),
            _ => own("btrim"),
        },
        _ => None,
    }
}

fn refuse_wildcard_options(options: &ast::WildcardAdditionalOptions) -> Result<()> {
    let plain = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if plain { Ok(()) } else { Err(SqlError::unsupported("an option of *")) }
}

/// The parser takes clauses of many dialects; none may be passed over in silence.
fn refuse_extras(select: &ast::Select) -> Result<()> {
    let extras: [(bool, &str); 16] = [
        (!select.optimizer_hints.is_empty(), "an optimizer hint"),
        (select.select_modifiers.is_some(), "a SELECT modifier"),
        (select.top.is_some(), "TOP"),
        (select.exclude.is_some(), "EXCLUDE"),
        (select.into.is_some(), "SELECT INTO"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty(), "CLUSTER BY"),
        (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (select.qualify.is_some(), "QUALIFY"),
        (select.value_table_mode.is_some(), "SELECT AS VALUE"),
        (select.flavor != ast::SelectFlavor::Standard, "FROM before SELECT"),
        (select.top_before_distinct, "TOP"),
    ];
    match extras.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}
