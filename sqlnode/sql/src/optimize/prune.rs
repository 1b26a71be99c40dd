//! Scans decode only columns that somebody reads, and projections that change nothing are dropped.

use std::collections::BTreeSet;

use super::each_operator;
use crate::exec::Runtime;
use crate::plan::{ColumnId, Expr, Plan};

pub(super) fn prune(mut plan: Plan, _runtime: &Runtime<'_>) -> Plan {
    let mut read: BTreeSet<ColumnId> = plan.columns().into_iter().collect();
    plan.walk_exprs(&mut |expr| {
        if let Expr::Column { id, .. } = expr {
            read.insert(*id);
        }
    });
    each_operator(&mut plan, &mut |plan| {
        if let Plan::Scan(scan) = plan {
            scan.columns.retain(|(id, _)| read.contains(id));
        }
    });
    super::bottom_up(plan, &mut |plan| match plan {
        Plan::Project { input, columns } if is_identity(&input, &columns) => *input,
        other => other,
    })
}

fn is_identity(input: &Plan, columns: &[(ColumnId, Expr)]) -> bool {
    let passes = |(id, expr): &(ColumnId, Expr)| matches!(expr, Expr::Column { id: inner, .. } if inner == id);
    columns.iter().all(passes) && input.columns().iter().eq(columns.iter().map(|(id, _)| id))
}
