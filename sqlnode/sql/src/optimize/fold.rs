//! Constants are computed once.

use super::each_expr_mut;
use crate::exec::{Context, Runtime, eval_constant};
use crate::func::Volatility;
use crate::plan::{Expr, Plan};
use crate::store::MemoryStore;
use crate::types::{Type, Value};

pub(super) fn fold(mut plan: Plan, runtime: &Runtime<'_>) -> Plan {
    let store = MemoryStore::new();
    let ctx = Context::new(&store, runtime);
    each_expr_mut(&mut plan, &mut |expr| fold_one(expr, &ctx));
    super::bottom_up(plan, &mut drop_constant_conditions)
}

fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Constant(..))
}

/// True if a value of the type means the same in all sessions.
fn is_fixed(ty: &Type) -> bool {
    use crate::types::Category;
    matches!(ty.category(), Category::Boolean | Category::Numeric | Category::String | Category::User) && !ty.is_oid()
}

fn fold_one(expr: &mut Expr, ctx: &Context<'_>) {
    match expr {
        Expr::And(list) => fold_logic(std::mem::take(list), false, expr),
        Expr::Or(list) => fold_logic(std::mem::take(list), true, expr),
        Expr::Compare { op, left, right } => {
            if let (Expr::Cast { expr: inner, to, .. }, Expr::Constant(value, _)) = (left.as_ref(), right.as_ref())
                && let Some(narrow) = narrowed(&inner.ty(), to, value)
                && matches!(inner.as_ref(), Expr::Column { .. })
            {
                let (op, ty) = (*op, inner.ty());
                let left = inner.clone();
                *expr = Expr::Compare { op, left, right: Box::new(Expr::Constant(narrow, ty)) };
                return;
            }
            if is_constant(left) && is_constant(right) {
                compute(expr, ctx);
            }
        }
        Expr::Call { function, args, .. } => {
            let fixed = is_fixed(&function.result) && args.iter().all(|arg| is_fixed(&arg.ty()));
            if function.volatility == Volatility::Immutable && fixed && args.iter().all(is_constant) {
                compute(expr, ctx);
            }
        }
        Expr::Cast { expr: inner, to, .. } if is_constant(inner) && is_fixed(&inner.ty()) && is_fixed(to) => {
            compute(expr, ctx);
        }
        Expr::Not(inner) | Expr::IsNull(inner) | Expr::IsTruth(inner, _) if is_constant(inner) => compute(expr, ctx),
        _ => {}
    }
}

/// What fails stays as it is, and fails when it runs (or never, behind a CASE).
fn compute(expr: &mut Expr, ctx: &Context<'_>) {
    if let Ok(value) = eval_constant(expr, ctx) {
        *expr = Expr::Constant(value, expr.ty());
    }
}

/// Takes out what decides nothing; `decisive` decides everything.
fn fold_logic(list: Vec<Expr>, decisive: bool, into: &mut Expr) {
    let mut kept = Vec::new();
    for item in list {
        match item {
            Expr::Constant(Value::Bool(truth), _) if truth == decisive => {
                *into = Expr::boolean(decisive);
                return;
            }
            Expr::Constant(Value::Bool(_), _) => {}
            other => kept.push(other),
        }
    }
    *into = match (kept.len(), decisive) {
        (0, _) => Expr::boolean(!decisive),
        (1, _) => kept.remove(0),
        (_, false) => Expr::And(kept),
        (_, true) => Expr::Or(kept),
    };
}

/// A wider integer constant in a narrower column's type, if it fits: so that the column's index can be used.
fn narrowed(column: &Type, compared: &Type, value: &Value) -> Option<Value> {
    let wider =
        |from: &Type, to: &Type| matches!((from, to), (Type::Int2, Type::Int4 | Type::Int8) | (Type::Int4, Type::Int8));
    let number = value.as_i64()?;
    match column {
        Type::Int2 if wider(column, compared) => Some(Value::Int2(i16::try_from(number).ok()?)),
        Type::Int4 if wider(column, compared) => Some(Value::Int4(i32::try_from(number).ok()?)),
        _ => None,
    }
}

/// A filter by true is none; one by false or NULL lets nothing through.
fn drop_constant_conditions(plan: Plan) -> Plan {
    let Plan::Filter { input, conditions } = plan else { return plan };
    let mut kept = Vec::new();
    for condition in conditions.into_iter().flat_map(Expr::into_conjuncts) {
        match condition {
            Expr::Constant(Value::Bool(true), _) => {}
            Expr::Constant(Value::Bool(false) | Value::Null, _) => return Plan::nothing(input.columns()),
            other => kept.push(other),
        }
    }
    input.filter(kept)
}
