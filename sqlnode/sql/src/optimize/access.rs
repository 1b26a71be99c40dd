//! Scans read by key or range of an index where their conditions allow it.

use crate::catalog::Index;
use crate::exec::Runtime;
use crate::plan::{Access, ColumnId, CompareOp, Expr, KeyList, Limit, Plan, Scan};

pub(super) fn choose(mut plan: Plan, _runtime: &Runtime<'_>) -> Plan {
    super::each_operator(&mut plan, &mut |plan| {
        if let Plan::Scan(scan) = plan
            && matches!(scan.access, Access::Full)
        {
            let own: Vec<ColumnId> = scan.columns.iter().map(|(id, _)| *id).collect();
            choose_for(scan, &own);
        }
    });
    plan
}

/// What a condition says about a column: an operator, and a value that is known before the scan begins.
struct Bound<'a> {
    condition: usize,
    place: usize,
    op: CompareOp,
    value: &'a Expr,
}

/// Chooses the best access path for a scan; conditions that the path satisfies are dropped. Values may not read the
/// `unknown` columns. Returns how good it is: 0 for a full scan.
pub(super) fn choose_for(scan: &mut Scan, unknown: &[ColumnId]) -> u32 {
    let mut best: Option<(u32, Access, Vec<usize>)> = None;
    for at in 0..scan.table.indexes.len() {
        if scan.table.indexes[at].predicate.is_some() {
            continue;
        }
        if let Some(candidate) = by_index(scan, at, unknown)
            && best.as_ref().is_none_or(|(score, ..)| candidate.0 > *score)
        {
            best = Some(candidate);
        }
    }
    let Some((score, access, used)) = best else { return 0 };
    scan.access = access;
    let mut at = 0;
    scan.conditions.retain(|_| {
        at += 1;
        !used.contains(&(at - 1))
    });
    score
}

fn bounds<'a>(scan: &'a Scan, unknown: &[ColumnId]) -> Vec<Bound<'a>> {
    let known = |expr: &Expr| !expr.is_volatile() && !expr.columns().iter().any(|id| unknown.contains(id));
    let place = |expr: &Expr| match expr {
        Expr::Column { id, .. } => scan.columns.iter().find(|(column, _)| column == id).map(|(_, place)| *place),
        _ => None,
    };
    let mut found = Vec::new();
    for (condition, expr) in scan.conditions.iter().enumerate() {
        let Expr::Compare { op, left, right } = expr else { continue };
        if let Some(place) = place(left)
            && known(right)
        {
            found.push(Bound { condition, place, op: *op, value: right });
        } else if let Some(place) = place(right)
            && known(left)
        {
            found.push(Bound { condition, place, op: op.flipped(), value: left });
        }
    }
    found
}

fn by_index(scan: &Scan, at: usize, unknown: &[ColumnId]) -> Option<(u32, Access, Vec<usize>)> {
    let index: &Index = &scan.table.indexes[at];
    let bounds = bounds(scan, unknown);
    let mut used = Vec::new();
    let mut equal = Vec::new();
    for column in &index.columns {
        let Some(bound) = bounds.iter().find(|bound| bound.place == *column && bound.op == CompareOp::Eq) else {
            break;
        };
        equal.push(bound.value.clone());
        used.push(bound.condition);
    }
    let primary = u32::from(at == 0);
    if equal.len() == index.columns.len() && index.unique {
        let access = Access::Range { index: at, equal, lower: None, upper: None };
        return Some((1_000 + primary, access, used));
    }
    if equal.is_empty()
        && let Some((condition, keys)) = key_list(scan, index.columns[0], unknown)
    {
        let score = if index.unique && index.columns.len() == 1 { 500 } else { 90 };
        return Some((score + primary, Access::Keys { index: at, keys }, vec![condition]));
    }
    let (mut lower, mut upper) = (None, None);
    if let Some(next) = index.columns.get(equal.len()) {
        for bound in bounds.iter().filter(|bound| bound.place == *next) {
            let limit = |inclusive| Some(Limit { value: bound.value.clone(), inclusive });
            let (side, limit) = match bound.op {
                CompareOp::Gt | CompareOp::GtEq => (&mut lower, limit(bound.op == CompareOp::GtEq)),
                CompareOp::Lt | CompareOp::LtEq => (&mut upper, limit(bound.op == CompareOp::LtEq)),
                _ => continue,
            };
            if side.is_none() {
                *side = limit;
                used.push(bound.condition);
            }
        }
    }
    let score = equal.len() as u32 * 100 + u32::from(lower.is_some()) * 20 + u32::from(upper.is_some()) * 20;
    (score > 0).then(|| (score + primary, Access::Range { index: at, equal, lower, upper }, used))
}

/// `column IN (...)` or `column = ANY (array)`.
fn key_list(scan: &Scan, column: usize, unknown: &[ColumnId]) -> Option<(usize, KeyList)> {
    let known = |expr: &Expr| !expr.is_volatile() && !expr.columns().iter().any(|id| unknown.contains(id));
    let is_column = |expr: &Expr| match expr {
        Expr::Column { id, .. } => scan.columns.iter().any(|(own, place)| own == id && *place == column),
        _ => false,
    };
    scan.conditions.iter().enumerate().find_map(|(at, condition)| match condition {
        Expr::InList { expr, list } if is_column(expr) && list.iter().all(known) => {
            Some((at, KeyList::List(list.clone())))
        }
        Expr::Quantified { left, array, comparison, all: false } if is_column(left) && known(array) => {
            match comparison.as_ref() {
                Expr::Compare { op: CompareOp::Eq, left, right }
                    if matches!((left.as_ref(), right.as_ref()), (Expr::Element(0, _), Expr::Element(1, _))) =>
                {
                    Some((at, KeyList::Array((**array).clone())))
                }
                _ => None,
            }
        }
        _ => None,
    })
}
