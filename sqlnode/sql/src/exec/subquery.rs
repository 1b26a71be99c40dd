//! Queries within expressions. One that reads no outer row runs once; its rows are kept, those of `IN` as a set.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::eval::{Env, eval, quantify};
use super::runtime::row_bytes;
use super::{Context, Frame, collect, open};
use crate::error::{Result, SqlError, SqlState};
use crate::func::stack;
use crate::plan::{CompareOp, Expr, Subquery, SubqueryKind};
use crate::types::Value;

/// The kept result of a subquery that runs once.
pub(super) enum Once {
    Value(Value),
    List { values: Vec<Value>, set: BTreeSet<Value>, has_null: bool },
}

pub(super) fn eval_subquery(subquery: &Subquery, env: Env<'_>, ctx: &Context<'_>) -> Result<Value> {
    let frame = Frame { row: env.row, parent: env.frame };
    let Some(number) = subquery.once else {
        return ctx.runtime.passing(|| run(subquery, env, &frame, ctx));
    };
    let kept = ctx.runtime.once.borrow().get(&number).cloned();
    let once = match kept {
        Some(once) => once,
        None => {
            let once = Rc::new(match &subquery.kind {
                SubqueryKind::Quantified { .. } => {
                    let rows = ctx.runtime.passing(|| collect(&subquery.plan, Some(&frame), ctx))?;
                    ctx.runtime.keep_bytes(rows.iter().map(row_bytes).sum())?;
                    let values: Vec<Value> = rows.into_iter().filter_map(|row| row.into_iter().next()).collect();
                    let has_null = values.iter().any(Value::is_null);
                    let set = values.iter().filter(|value| !value.is_null()).cloned().collect();
                    Once::List { values, set, has_null }
                }
                _ => Once::Value(ctx.runtime.passing(|| run(subquery, env, &frame, ctx))?),
            });
            ctx.runtime.once.borrow_mut().insert(number, once.clone());
            once
        }
    };
    match (once.as_ref(), &subquery.kind) {
        (Once::Value(value), _) => Ok(value.clone()),
        (Once::List { values, set, has_null }, SubqueryKind::Quantified { left, comparison, all, .. }) => {
            let left = eval(left, env, ctx)?;
            // `= ANY` over one type is a look into the set.
            if let (Expr::Compare { op: CompareOp::Eq, left: a, right: b }, false) = (comparison.as_ref(), *all)
                && matches!((a.as_ref(), b.as_ref()), (Expr::Element(0, _), Expr::Element(1, _)))
            {
                return Ok(match () {
                    () if values.is_empty() => Value::Bool(false),
                    () if left.is_null() => Value::Null,
                    () if set.contains(&left) => Value::Bool(true),
                    () if *has_null => Value::Null,
                    () => Value::Bool(false),
                });
            }
            quantify(left, values.iter().map(|value| Ok(value.clone())), comparison, *all, env, ctx)
        }
        _ => Err(SqlError::internal("a kept subquery of another kind")),
    }
}

fn run(subquery: &Subquery, env: Env<'_>, frame: &Frame<'_>, ctx: &Context<'_>) -> Result<Value> {
    let mut rows = open(&subquery.plan, Some(frame), ctx)?;
    let first = |row: Option<Result<Vec<Value>>>| -> Result<Option<Value>> {
        Ok(row.transpose()?.map(|row| row.into_iter().next().unwrap_or(Value::Null)))
    };
    match &subquery.kind {
        SubqueryKind::Exists => Ok(Value::Bool(rows.next().transpose()?.is_some())),
        SubqueryKind::Scalar => {
            let value = first(rows.next())?.unwrap_or(Value::Null);
            if rows.next().transpose()?.is_some() {
                let message = "more than one row returned by a subquery used as an expression";
                return Err(SqlError::new(SqlState::CARDINALITY_VIOLATION, message));
            }
            Ok(value)
        }
        SubqueryKind::Quantified { left, comparison, all, .. } => {
            let left = eval(left, env, ctx)?;
            let items = rows.map(|row| Ok(row?.into_iter().next().unwrap_or(Value::Null)));
            quantify(left, items, comparison, *all, env, ctx)
        }
        SubqueryKind::Array(element) => {
            let mut values = Vec::new();
            for row in rows {
                let row = row?;
                ctx.runtime.hold(&row)?;
                values.extend(row.into_iter().next());
            }
            match element.element() {
                Some(inner) => stack(inner.clone(), &values),
                None => Ok(Value::array(element.clone(), values)),
            }
        }
    }
}
