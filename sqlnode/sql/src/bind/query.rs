//! Whole queries: WITH, set operations, VALUES, ORDER BY, LIMIT.

use std::sync::Arc;

use sqlparser::ast::{self, LimitClause, OrderByKind, SetExpr, SetOperator, SetQuantifier};

use super::call::sort_key;
use super::select::BoundSelect;
use super::{Aggregates, Binder, BoundQuery, CTES_BOUND_MAX, Cte, OutputColumn, SharedCte, SharedRows};
use crate::error::{Result, SqlError, SqlState};
use crate::kind::fold;
use crate::plan::{Bounds, Expr, Plan, Position, Recursion, SetOperation, SortKey, resolve};
use crate::types::{CastContext, Type, common_type};

/// Types of columns of which nothing is expected.
static UNTYPED: [Type; super::select::OUTPUT_COLUMNS_MAX] =
    [const { Type::Unknown }; super::select::OUTPUT_COLUMNS_MAX];

/// Arms of set operations that are put together at once.
struct Run {
    op: SetOperation,
    all: bool,
    arms: Vec<BoundQuery>,
}

impl Binder<'_> {
    /// A query that stands alone, or feeds a statement whose columns have these types.
    pub(crate) fn bind_query(&mut self, query: &ast::Query, expected: Option<&[Type]>) -> Result<BoundQuery> {
        let visible = self.ctes.len();
        let aggregates = std::mem::replace(&mut self.aggregates, Aggregates::Refused("this clause"));
        let set_functions = self.set_functions.take();
        let result = self.bind_query_inside(query, expected);
        self.ctes.truncate(visible);
        self.aggregates = aggregates;
        self.set_functions = set_functions;
        result
    }

    /// A query within another statement's expression or FROM.
    pub(super) fn bind_subquery(&mut self, query: &ast::Query) -> Result<BoundQuery> {
        self.bind_query(query, None)
    }

    fn bind_query_inside(&mut self, query: &ast::Query, expected: Option<&[Type]>) -> Result<BoundQuery> {
        let extras = [
            (query.for_clause.is_some(), "FOR XML, FOR JSON and FOR BROWSE"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe operator"),
        ];
        if let Some((_, what)) = extras.iter().find(|(present, _)| *present) {
            return Err(SqlError::unsupported(what));
        }
        if let Some(with) = &query.with {
            self.bind_with(with)?;
        }
        if let Some(lock) = query.locks.iter().find(|lock| lock.nonblock.is_some()) {
            return Err(SqlError::unsupported(lock));
        }
        let order: &[ast::OrderByExpr] = match &query.order_by {
            None => &[],
            Some(ast::OrderBy { kind: OrderByKind::Expressions(order), interpolate: None }) => order,
            Some(_) => return Err(SqlError::unsupported("ORDER BY ALL")),
        };
        if let Some(lock) = query.locks.first()
            && !matches!(query.body.as_ref(), SetExpr::Select(_))
        {
            return Err(SqlError::unsupported(format!("{lock} with UNION, INTERSECT, EXCEPT or VALUES")));
        }
        let bound = self.bind_body(&query.body, order, expected)?;
        let BoundSelect { mut plan, columns, order } = bound;
        if !order.is_empty() {
            plan = Plan::Sort { input: Box::new(plan), keys: order, top: None };
        }
        if let Some(bounds) = self.bind_bounds(query)? {
            plan = Plan::Limit { input: Box::new(plan), bounds };
        }
        // Columns that were only there to sort by are dropped, and repeated ones repeated.
        let ids: Vec<_> = columns.iter().map(|column| column.id).collect();
        if plan.columns() != ids {
            let columns =
                columns.iter().map(|column| (column.id, Expr::column(column.id, column.ty.clone()))).collect();
            plan = Plan::Project { input: Box::new(plan), columns };
        }
        Ok(BoundQuery { plan, columns })
    }

    /// The WITH before an INSERT, UPDATE or DELETE; what else a query has, these don't.
    pub(crate) fn bind_with_of(&mut self, query: &ast::Query) -> Result<()> {
        let bare = query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
        if !bare || !query.locks.is_empty() {
            return Err(SqlError::unsupported("ORDER BY, LIMIT or FOR UPDATE of a change"));
        }
        query.with.as_ref().map_or(Ok(()), |with| self.bind_with(with))
    }

    fn bind_with(&mut self, with: &ast::With) -> Result<()> {
        for cte in &with.cte_tables {
            let name = fold(&cte.alias.name);
            if cte.from.is_some() {
                return Err(SqlError::unsupported("FROM in WITH"));
            }
            let aliases: Vec<String> = cte.alias.columns.iter().map(|column| fold(&column.name)).collect();
            let visible = self.ctes.len();
            let recursive = if with.recursive { self.bind_recursive_cte(&name, &aliases, &cte.query)? } else { None };
            let shared = match recursive {
                Some(recursive) => Some(recursive),
                None => self.bind_shared_cte(&cte.query)?,
            };
            if let Some(shared) = &shared
                && aliases.len() > shared.columns.len()
            {
                let message = format!(
                    "WITH query \"{name}\" has {} columns available but {} columns specified",
                    shared.columns.len(),
                    aliases.len()
                );
                return Err(SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(self.at(&cte.alias.name)));
            }
            self.ctes.push(Cte { name, query: (*cte.query).clone(), aliases, shared, visible });
        }
        Ok(())
    }

    /// Counts one more WITH query that is bound.
    pub(super) fn count_cte(&mut self) -> Result<()> {
        self.ctes_bound += 1;
        if self.ctes_bound > CTES_BOUND_MAX {
            let message = format!("a statement may have at most {CTES_BOUND_MAX} WITH queries, each mention counted");
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message));
        }
        Ok(())
    }

    /// Plans a WITH query whose rows can be computed once for all mentions: one that reads no outer row, as none at the
    /// top does. It is optimized and resolved here, once, however often it is mentioned.
    fn bind_shared_cte(&mut self, query: &ast::Query) -> Result<Option<SharedCte>> {
        self.count_cte()?;
        let outer = std::mem::take(&mut self.scopes);
        let at_top = outer.is_empty();
        let bound = self.deeper(|binder| binder.bind_subquery(query));
        self.scopes = outer;
        let BoundQuery { plan, columns } = match bound {
            Ok(bound) => bound,
            Err(error) if at_top => return Err(error),
            // Perhaps it reads an outer row, perhaps it is wrong: binding it where it is mentioned will tell.
            Err(_) => return Ok(None),
        };
        self.next_cte += 1;
        let mut plan = crate::optimize::optimize(plan, crate::optimize::rules_of(self.session), self.runtime);
        resolve(&mut plan, &mut [], &mut self.once)?;
        let estimate = crate::optimize::estimate(&plan);
        let rows = SharedRows::Plan { plan: Arc::new(plan), estimate };
        Ok(Some(SharedCte { number: self.next_cte, rows, columns }))
    }

    /// Plans `base UNION [ALL] step`, where the step mentions the query itself; nothing if it does not.
    fn bind_recursive_cte(&mut self, name: &str, aliases: &[String], query: &ast::Query) -> Result<Option<SharedCte>> {
        let plain = |query: &ast::Query| {
            query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none()
        };
        let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, right } = query.body.as_ref() else {
            return Ok(None);
        };
        if !plain(query) {
            return Ok(None);
        }
        let mut right = right.as_ref();
        while let SetExpr::Query(inner) = right
            && plain(inner)
        {
            right = inner.body.as_ref();
        }
        self.count_cte()?;
        self.next_cte += 1;
        let number = self.next_cte;
        let outer = std::mem::take(&mut self.scopes);
        let bound = self.bind_recursion(number, name, aliases, query, (left, right));
        self.scopes = outer;
        let (base, step) = bound?;
        if !self.recursive.contains(&number) {
            return Ok(None);
        }
        let columns = base.columns.clone();
        let (base, step) = (self.as_base(base), self.as_step(name, step, &columns)?);
        let mut finish = |plan: Plan| -> Result<Plan> {
            let mut plan = crate::optimize::optimize(plan, crate::optimize::rules_of(self.session), self.runtime);
            resolve(&mut plan, &mut [], &mut self.once)?;
            Ok(plan)
        };
        let all = *set_quantifier == SetQuantifier::All;
        let recursion = Recursion { number, base: finish(base)?, step: finish(step)?, all };
        Ok(Some(SharedCte { number, rows: SharedRows::Recursion(Arc::new(recursion)), columns }))
    }

    fn bind_recursion(
        &mut self,
        number: usize,
        name: &str,
        aliases: &[String],
        query: &ast::Query,
        (left, right): (&SetExpr, &SetExpr),
    ) -> Result<(BoundQuery, BoundQuery)> {
        let arm = |binder: &mut Self, body: &SetExpr, expected: Option<&[Type]>| {
            let bound = binder.deeper(|binder| binder.bind_body(body, &[], expected))?;
            Ok::<_, SqlError>(BoundQuery { plan: bound.plan, columns: bound.columns })
        };
        let base = arm(self, left, None)?;
        let types: Vec<Type> = base.columns.iter().map(|column| column.ty.clone()).collect();
        let rows = SharedRows::Work { depth: self.depth + 1 };
        let shared = Some(SharedCte { number, rows, columns: base.columns.clone() });
        let (visible, aliases) = (self.ctes.len(), aliases.to_vec());
        self.ctes.push(Cte { name: name.to_string(), query: query.clone(), aliases, shared, visible });
        let step = arm(self, right, Some(&types));
        self.ctes.truncate(visible);
        Ok((base, step?))
    }

    /// Exactly the columns of a query, in their order.
    fn as_base(&mut self, base: BoundQuery) -> Plan {
        let column = |column: &OutputColumn| Expr::column(column.id, column.ty.clone());
        let columns = base.columns.iter().map(|output| (self.new_column(), column(output))).collect();
        Plan::Project { input: Box::new(base.plan), columns }
    }

    /// The columns of the recursive part, in the types of the first part.
    fn as_step(&mut self, name: &str, step: BoundQuery, wanted: &[OutputColumn]) -> Result<Plan> {
        if step.columns.len() != wanted.len() {
            let message = "each UNION query must have the same number of columns";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
        }
        let mut columns = Vec::new();
        for (number, (column, wanted)) in step.columns.iter().zip(wanted).enumerate() {
            let both = common_type(&[wanted.ty.clone(), column.ty.clone()], "UNION")?;
            if !both.same_base(&wanted.ty) {
                let message = format!(
                    "recursive query \"{name}\" column {} has type {} in non-recursive term but type {both} overall",
                    number + 1,
                    wanted.ty
                );
                return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                    .with_hint("Cast the output of the non-recursive term to the correct type."));
            }
            let expr = Expr::column(column.id, column.ty.clone());
            let expr = self.coerce(expr, &wanted.ty, CastContext::Implicit, Position::default())?;
            columns.push((self.new_column(), expr));
        }
        Ok(Plan::Project { input: Box::new(step.plan), columns })
    }

    fn bind_body(
        &mut self,
        body: &SetExpr,
        order: &[ast::OrderByExpr],
        expected: Option<&[Type]>,
    ) -> Result<BoundSelect> {
        match body {
            SetExpr::Select(select) => self.bind_select(select, order, expected),
            SetExpr::Query(query) => {
                let query = self.deeper(|binder| binder.bind_query(query, expected))?;
                self.ordered_by_output(query, order)
            }
            SetExpr::Values(values) => {
                let query = self.bind_values(values, expected)?;
                self.ordered_by_output(query, order)
            }
            SetExpr::SetOperation { .. } => {
                let query = self.deeper(|binder| binder.bind_set_operations(body, expected))?;
                self.ordered_by_output(query, order)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(SqlError::unsupported("a data-modifying statement in WITH"))
            }
            SetExpr::Table(_) => Err(SqlError::unsupported("TABLE name")),
        }
    }

    /// Where only output columns can be named: their numbers, names, and expressions over them.
    fn ordered_by_output(&mut self, query: BoundQuery, order: &[ast::OrderByExpr]) -> Result<BoundSelect> {
        let mut keys: Vec<SortKey> = Vec::new();
        let scope = self.derived_scope(&query, None)?;
        for key in order {
            let position = match &key.expr {
                ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) => {
                    digits.parse().ok()
                }
                _ => None,
            };
            let expr = match position {
                Some(number) => {
                    let at: usize = number;
                    let Some(column) = at.checked_sub(1).and_then(|at| query.columns.get(at)) else {
                        let message = format!("ORDER BY position {number} is not in select list");
                        return Err(
                            SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message).at(self.place(&key.expr).get())
                        );
                    };
                    Expr::column(column.id, column.ty.clone())
                }
                None => {
                    self.scopes.push(scope.clone());
                    let bound = self.bind_expr(&key.expr);
                    self.scopes.pop();
                    match bound? {
                        column @ Expr::Column { .. } => column,
                        _ => {
                            let message = "invalid UNION/INTERSECT/EXCEPT ORDER BY clause";
                            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                                .with_detail("Only result column names can be used, not expressions or functions.")
                                .at(self.place(&key.expr).get()));
                        }
                    }
                }
            };
            keys.push(sort_key(expr, &key.options));
        }
        Ok(BoundSelect { plan: query.plan, columns: query.columns, order: keys })
    }

    /// A chain of set operations, `a UNION b EXCEPT c ...`, from the left. A run of UNIONs of one kind is put together
    /// as a balanced tree, so that a long one is no deep one.
    fn bind_set_operations(&mut self, body: &SetExpr, expected: Option<&[Type]>) -> Result<BoundQuery> {
        let mut steps = Vec::new();
        let mut first = body;
        while let SetExpr::SetOperation { op, set_quantifier, left, right } = first {
            steps.push((*op, *set_quantifier, right.as_ref()));
            first = left.as_ref();
        }
        let left = self.bind_arm(first, expected.unwrap_or(&UNTYPED))?;
        let mut types: Vec<Type> = left.columns.iter().map(|column| column.ty.clone()).collect();
        let mut run = Run { op: SetOperation::Union, all: true, arms: vec![left] };
        let mut runs = 0;
        for (op, quantifier, right) in steps.into_iter().rev() {
            let (op, name) = match op {
                SetOperator::Union => (SetOperation::Union, "UNION"),
                SetOperator::Intersect => (SetOperation::Intersect, "INTERSECT"),
                SetOperator::Except => (SetOperation::Except, "EXCEPT"),
                SetOperator::Minus => {
                    return Err(SqlError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"MINUS\""));
                }
            };
            let all = match quantifier {
                SetQuantifier::All => true,
                SetQuantifier::None | SetQuantifier::Distinct => false,
                _ => return Err(SqlError::unsupported(format!("{name} BY NAME"))),
            };
            // An untyped literal on the right takes the type that the left has.
            let right = self.bind_arm(right, expected.unwrap_or(&types))?;
            if types.len() != right.columns.len() {
                let message = format!("each {name} query must have the same number of columns");
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message));
            }
            let before = types.clone();
            for (ty, column) in types.iter_mut().zip(&right.columns) {
                let both = [ty.clone(), column.ty.clone()];
                if both.iter().any(|ty| *ty != Type::Unknown) {
                    *ty = common_type(&both, name)?;
                }
            }
            let goes_on = op == SetOperation::Union && run.op == op && (run.all == all || run.arms.len() == 1);
            // Whatever was united before, duplicates of the whole go.
            let swallows = op == SetOperation::Union && run.op == op && !all;
            if !goes_on && !swallows && run.arms.len() > 1 {
                runs += 1;
                if self.depth + runs > super::QUERY_DEPTH_MAX {
                    let message = "statement is nested too deeply";
                    let hint =
                        format!("At most {} set operations of different kinds in a row.", super::QUERY_DEPTH_MAX);
                    return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message).with_hint(hint));
                }
                let left = self.put_together(run, &before)?;
                run = Run { op, all, arms: vec![left] };
            }
            (run.op, run.all) = (op, all);
            run.arms.push(right);
        }
        // What is untyped in all arms is text.
        types.iter_mut().filter(|ty| **ty == Type::Unknown).for_each(|ty| *ty = Type::Text);
        self.put_together(run, &types)
    }

    /// One plan for a run of arms, with columns of these types, as far as they are known.
    fn put_together(&mut self, run: Run, types: &[Type]) -> Result<BoundQuery> {
        let names: Vec<String> = run.arms[0].columns.iter().map(|column| column.name.clone()).collect();
        let mut arms = Vec::new();
        for arm in run.arms {
            let mut columns = Vec::new();
            for (column, ty) in arm.columns.iter().zip(types) {
                let expr = Expr::column(column.id, column.ty.clone());
                let expr = self.coerce(expr, ty, CastContext::Implicit, Position::default())?;
                columns.push((self.new_column(), expr));
            }
            arms.push(Plan::Project { input: Box::new(arm.plan), columns });
        }
        let plan = self.balance(run.op, run.all, arms, types.len());
        let column = |((name, ty), id): ((String, &Type), _)| OutputColumn { name, id, ty: ty.clone(), source: None };
        let columns = names.into_iter().zip(types).zip(plan.columns()).map(column).collect();
        Ok(BoundQuery { plan, columns })
    }

    fn balance(&mut self, op: SetOperation, all: bool, mut arms: Vec<Plan>, width: usize) -> Plan {
        let half = |binder: &mut Self, mut arms: Vec<Plan>| match arms.len() {
            1 => Box::new(arms.swap_remove(0)),
            // Duplicates go at the top.
            _ => Box::new(binder.balance(op, true, arms, width)),
        };
        let right = arms.split_off(arms.len().div_ceil(2));
        let (left, right) = (half(self, arms), half(self, right));
        let columns = (0..width).map(|_| self.new_column()).collect();
        Plan::SetOperation { op, all, left, right, columns }
    }

    /// An arm of a set operation. Literals without a type stay so where none is expected.
    fn bind_arm(&mut self, body: &SetExpr, expected: &[Type]) -> Result<BoundQuery> {
        let bound = self.bind_body(body, &[], Some(expected))?;
        Ok(BoundQuery { plan: bound.plan, columns: bound.columns })
    }

    fn bind_values(&mut self, values: &ast::Values, expected: Option<&[Type]>) -> Result<BoundQuery> {
        if values.explicit_row || values.value_keyword {
            return Err(SqlError::unsupported("ROW in VALUES"));
        }
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let mut bound = Vec::new();
        for row in &values.rows {
            if row.content.len() != width {
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
            }
            let mut items = Vec::new();
            for ast in &row.content {
                items.push((self.bind_expr(ast)?, self.place(ast)));
            }
            bound.push(items);
        }
        let mut columns = Vec::new();
        for at in 0..width {
            let types: Vec<Type> = bound.iter().map(|row| row[at].0.ty()).collect();
            let untyped = types.iter().all(|ty| *ty == Type::Unknown);
            let ty = match expected.and_then(|types| types.get(at)) {
                Some(ty) if untyped => ty.base(),
                _ => self.common(&types, "VALUES", bound[0][at].1)?,
            };
            columns.push(OutputColumn { name: format!("column{}", at + 1), id: self.new_column(), ty, source: None });
        }
        let mut rows = Vec::new();
        for row in bound {
            let mut items = Vec::new();
            for ((expr, place), column) in row.into_iter().zip(&columns) {
                items.push(self.coerce(expr, &column.ty, CastContext::Implicit, place)?);
            }
            rows.push(items);
        }
        let ids = columns.iter().map(|column| column.id).collect();
        Ok(BoundQuery { plan: Plan::Rows { columns: ids, rows }, columns })
    }

    fn bind_bounds(&mut self, query: &ast::Query) -> Result<Option<Bounds>> {
        let (mut limit, offset) = match &query.limit_clause {
            None => (None, None),
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
            }
            Some(_) => return Err(SqlError::unsupported("this form of LIMIT")),
        };
        let one = ast::Expr::Value(ast::Value::Number("1".to_string(), false).into());
        if let Some(fetch) = &query.fetch {
            if fetch.with_ties || fetch.percent || limit.is_some() {
                return Err(SqlError::unsupported("this form of FETCH"));
            }
            limit = Some(fetch.quantity.as_ref().unwrap_or(&one));
        }
        // LIMIT ALL and LIMIT NULL are no limit.
        let scopes = std::mem::take(&mut self.scopes);
        let mut bind = |ast: Option<&ast::Expr>| -> Result<Option<Expr>> {
            let Some(ast) = ast else { return Ok(None) };
            let place = self.place(ast);
            let expr = self.bind_expr(ast)?;
            let expr = self.coerce(expr, &Type::Int8, CastContext::Assignment, place)?;
            Ok((!matches!(expr, Expr::Constant(crate::types::Value::Null, _))).then_some(expr))
        };
        let bounds = bind(limit).and_then(|limit| Ok(Bounds { limit, offset: bind(offset)? }));
        self.scopes = scopes;
        let bounds = bounds?;
        Ok((bounds.limit.is_some() || bounds.offset.is_some()).then_some(bounds))
    }
}
