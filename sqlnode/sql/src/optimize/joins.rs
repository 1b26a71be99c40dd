//! The order of inner joins, and how each join finds partners.
//!
//! Inner joins that stand together are taken apart into their inputs and conditions. It begins with the input that gives
//! the fewest rows by its own conditions, then adds the one that is looked up by a key from what is there, or else the
//! smallest that some condition connects.

use super::access::choose_for;
use super::estimate;
use crate::exec::Runtime;
use crate::plan::{Access, ColumnId, CompareOp, Expr, Join, JoinKind, Plan, Strategy};

/// Looking a row up costs about this many rows of a scan.
const LOOKUP_COST: f64 = 3.0;
/// A side that is looked up is taken to have at least as many rows, whatever its conditions leave.
const LOOKUP_ROWS: f64 = 200.0;

pub(super) fn choose(plan: Plan, _runtime: &Runtime<'_>) -> Plan {
    rewrite(plan)
}

fn rewrite(mut plan: Plan) -> Plan {
    match plan {
        Plan::Join(join) if is_free(&join) => {
            let (mut inputs, mut conditions) = (vec![], vec![]);
            take_apart(Plan::Join(join), &mut inputs, &mut conditions);
            put_together(inputs.into_iter().map(rewrite).collect(), conditions)
        }
        Plan::Join(mut join) => {
            join.left = rewrite(join.left);
            join.right = rewrite(join.right);
            choose_strategy(*join)
        }
        Plan::SetOperation { .. } => plan,
        _ => {
            for input in plan.inputs_mut() {
                let taken = std::mem::replace(input, Plan::unit());
                *input = rewrite(taken);
            }
            plan
        }
    }
}

/// An inner join whose sides don't depend on each other.
fn is_free(join: &Join) -> bool {
    join.kind == JoinKind::Inner && !is_lateral(join) && !join.on.iter().any(Expr::is_volatile)
}

/// True if the right side really reads the left row.
fn is_lateral(join: &Join) -> bool {
    if !matches!(join.strategy, Strategy::Lateral) {
        return false;
    }
    let left = join.left.columns();
    let mut reads = false;
    join.right.walk_exprs(&mut |expr| {
        reads |= match expr {
            Expr::Column { id, .. } => left.contains(id),
            // A volatile function is called for each left row.
            Expr::Call { function, .. } => function.volatility == crate::func::Volatility::Volatile,
            Expr::Sequence { .. } => true,
            _ => false,
        };
    });
    reads
}

fn take_apart(plan: Plan, inputs: &mut Vec<Plan>, conditions: &mut Vec<Expr>) {
    match plan {
        Plan::Join(join) if is_free(&join) => {
            take_apart(join.left, inputs, conditions);
            take_apart(join.right, inputs, conditions);
            conditions.extend(join.on);
        }
        other => inputs.push(other),
    }
}

fn reads_only(expr: &Expr, all: &[ColumnId], available: &[ColumnId]) -> bool {
    expr.columns().iter().all(|id| !all.contains(id) || available.contains(id))
}

fn put_together(mut inputs: Vec<Plan>, mut conditions: Vec<Expr>) -> Plan {
    let all: Vec<ColumnId> = inputs.iter().flat_map(Plan::columns).collect();
    let size = |plan: &Plan| {
        let mut plan = plan.clone();
        own_access(&mut plan);
        estimate(&plan)
    };
    let least = |inputs: &[Plan], rank: &dyn Fn(&Plan) -> f64| {
        let mut best = (0, f64::INFINITY);
        for (at, plan) in inputs.iter().enumerate() {
            let value = rank(plan);
            if value < best.1 {
                best = (at, value);
            }
        }
        best.0
    };
    let first = least(&inputs, &size);
    let mut plan = inputs.remove(first);
    while !inputs.is_empty() {
        let here = plan.columns();
        let connected = |candidate: &Plan| {
            let theirs = candidate.columns();
            let both: Vec<ColumnId> = here.iter().chain(&theirs).copied().collect();
            conditions.iter().any(|condition| {
                reads_only(condition, &all, &both) && condition.columns().iter().any(|id| theirs.contains(id))
            })
        };
        let rank = |candidate: &Plan| {
            let lookup = look_up(candidate, &conditions, &all, &here).map_or(0, |(score, ..)| score);
            let base = size(candidate);
            match (lookup, connected(candidate)) {
                (1_000.., _) => base.min(1.0),
                (100.., _) => base.min(10.0),
                (_, true) => base,
                (_, false) => base * 1e6,
            }
        };
        let next = least(&inputs, &rank);
        let right = inputs.remove(next);
        let available: Vec<ColumnId> = here.iter().copied().chain(right.columns()).collect();
        let (on, rest) = conditions.into_iter().partition(|condition| reads_only(condition, &all, &available));
        conditions = rest;
        plan = choose_strategy(Join { kind: JoinKind::Inner, left: plan, right, on, strategy: Strategy::Nested });
    }
    plan.filter(conditions)
}

/// A scan that finds its rows by keys from the left row: how good, the scan, and the conditions that it leaves.
fn look_up(right: &Plan, conditions: &[Expr], all: &[ColumnId], left: &[ColumnId]) -> Option<(u32, Plan, Vec<Expr>)> {
    let Plan::Scan(scan) = right else { return None };
    if !matches!(scan.access, Access::Full) {
        return None;
    }
    let own: Vec<ColumnId> = scan.columns.iter().map(|(id, _)| *id).collect();
    let available: Vec<ColumnId> = left.iter().chain(&own).copied().collect();
    let (usable, rest): (Vec<Expr>, Vec<Expr>) =
        conditions.iter().cloned().partition(|condition| reads_only(condition, all, &available));
    let mut scan = scan.clone();
    scan.conditions.extend(usable);
    let score = choose_for(&mut scan, &own);
    // It must be the left row that makes the difference.
    let reads_left = scan.access.exprs().iter().any(|expr| expr.columns().iter().any(|id| left.contains(id)));
    (score >= 100 && reads_left).then_some((score, Plan::Scan(scan), rest))
}

/// Lets a scan use an index by its own conditions.
fn own_access(plan: &mut Plan) {
    if let Plan::Scan(scan) = plan
        && matches!(scan.access, Access::Full)
    {
        let own: Vec<ColumnId> = scan.columns.iter().map(|(id, _)| *id).collect();
        choose_for(scan, &own);
    }
}

fn choose_strategy(mut join: Join) -> Plan {
    if matches!(join.strategy, Strategy::Lateral) {
        if is_lateral(&join) {
            return Plan::Join(Box::new(join));
        }
        join.strategy = Strategy::Nested;
    }
    let (left, right) = (join.left.columns(), join.right.columns());
    if matches!(join.kind, JoinKind::Inner | JoinKind::Left) && !join.on.iter().any(Expr::is_volatile) {
        let all: Vec<ColumnId> = left.iter().chain(&right).copied().collect();
        own_access(&mut join.left);
        if let Some((score, scan, rest)) = look_up(&join.right, &join.on, &all, &left) {
            let each = if score >= 1_000 { LOOKUP_COST } else { LOOKUP_COST * 5.0 };
            if estimate(&join.left) * each <= estimate(&join.right).max(LOOKUP_ROWS) {
                join.right = scan;
                join.on = rest;
                join.strategy = Strategy::Lateral;
                return Plan::Join(Box::new(join));
            }
        }
    }
    own_access(&mut join.right);
    let (mut left_keys, mut right_keys, mut on) = (vec![], vec![], vec![]);
    for condition in std::mem::take(&mut join.on) {
        match equality(condition, &left, &right) {
            Ok((a, b)) => {
                left_keys.push(a);
                right_keys.push(b);
            }
            Err(other) => on.push(other),
        }
    }
    join.on = on;
    if !left_keys.is_empty() {
        join.strategy = Strategy::Hash { left_keys, right_keys };
    }
    Plan::Join(Box::new(join))
}

/// The two sides of `left = right`, each over its own side of the join.
fn equality(condition: Expr, left: &[ColumnId], right: &[ColumnId]) -> Result<(Expr, Expr), Expr> {
    if condition.is_volatile() || condition.has_subquery() {
        return Err(condition);
    }
    let over = |expr: &Expr, mine: &[ColumnId], other: &[ColumnId]| {
        let columns = expr.columns();
        columns.iter().any(|id| mine.contains(id)) && !columns.iter().any(|id| other.contains(id))
    };
    match condition {
        Expr::Compare { op: CompareOp::Eq, left: a, right: b } => {
            if over(&a, left, right) && over(&b, right, left) {
                Ok((*a, *b))
            } else if over(&b, left, right) && over(&a, right, left) {
                Ok((*b, *a))
            } else {
                Err(Expr::Compare { op: CompareOp::Eq, left: a, right: b })
            }
        }
        other => Err(other),
    }
}
