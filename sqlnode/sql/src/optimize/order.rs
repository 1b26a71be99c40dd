//! Sorts that only need the first rows keep no others, and those whose rows come in order anyway are dropped.

use crate::exec::Runtime;
use crate::plan::{Access, ColumnId, Expr, JoinKind, Plan, Scan, SortKey, Strategy};
use crate::store::Direction;

pub(super) fn sort_less(plan: Plan, _runtime: &Runtime<'_>) -> Plan {
    rewrite(plan, false)
}

fn rewrite(mut plan: Plan, limited: bool) -> Plan {
    match plan {
        Plan::Limit { input, bounds } => {
            let limited = bounds.limit.is_some();
            let mut input = rewrite(*input, limited);
            if let Plan::Sort { top, .. } = &mut input
                && limited
            {
                *top = Some(bounds.clone());
            }
            Plan::Limit { input: Box::new(input), bounds }
        }
        Plan::Sort { input, keys, top } => {
            let mut input = rewrite(*input, false);
            let wanted: Option<Vec<(ColumnId, bool)>> = keys.iter().map(plain_key).collect();
            match wanted {
                Some(wanted) if provide(&mut input, &wanted, limited) => input,
                _ => Plan::Sort { input: Box::new(input), keys, top },
            }
        }
        Plan::SetOperation { .. } => plan,
        _ => {
            let through = limited && matches!(plan, Plan::Project { .. });
            for input in plan.inputs_mut() {
                let taken = std::mem::replace(input, Plan::unit());
                *input = rewrite(taken, through);
            }
            plan
        }
    }
}

/// A key that an index may provide: a column, with NULLs where an index has them.
fn plain_key(key: &SortKey) -> Option<(ColumnId, bool)> {
    match &key.expr {
        Expr::Column { id, .. } if key.nulls_first == key.descending => Some((*id, key.descending)),
        _ => None,
    }
}

/// Makes a plan give its rows in this order, if that takes no sorting.
fn provide(plan: &mut Plan, wanted: &[(ColumnId, bool)], limited: bool) -> bool {
    match plan {
        Plan::Filter { input, .. } => provide(input, wanted, limited),
        Plan::Project { input, columns } => {
            let inner = |(id, descending): &(ColumnId, bool)| {
                let (_, expr) = columns.iter().find(|(column, _)| column == id)?;
                match expr {
                    Expr::Column { id, .. } => Some((*id, *descending)),
                    _ => None,
                }
            };
            match wanted.iter().map(inner).collect::<Option<Vec<_>>>() {
                Some(wanted) => provide(input, &wanted, limited),
                None => false,
            }
        }
        // Joins keep the order of their left rows, and nothing is known among the partners of one.
        Plan::Join(join) => {
            let keeps = matches!(join.kind, JoinKind::Inner | JoinKind::Left);
            let cheap = !limited || matches!(join.strategy, Strategy::Lateral | Strategy::Hash { .. });
            keeps && cheap && provide(&mut join.left, wanted, limited)
        }
        Plan::Scan(scan) => provide_by_scan(scan, wanted, limited),
        _ => false,
    }
}

fn provide_by_scan(scan: &mut Scan, wanted: &[(ColumnId, bool)], limited: bool) -> bool {
    let Some(descending) = wanted.first().map(|(_, descending)| *descending) else { return true };
    if wanted.iter().any(|(_, other)| *other != descending) {
        return false;
    }
    let place = |id: &ColumnId| scan.columns.iter().find(|(column, _)| column == id).map(|(_, place)| *place);
    let Some(places) = wanted.iter().map(|(id, _)| place(id)).collect::<Option<Vec<_>>>() else { return false };
    let fits = |index: usize, equal: usize| {
        let columns = &scan.table.indexes[index].columns;
        // Columns that are equal in all rows order nothing.
        let places: Vec<usize> = places.iter().copied().filter(|place| !columns[..equal].contains(place)).collect();
        let rest = &columns[equal..];
        let unique = scan.table.indexes[index].unique && rest.iter().all(|&at| scan.table.columns[at].not_null);
        match places.len() <= rest.len() {
            true => places == rest[..places.len()],
            // What a unique key orders, further keys don't change.
            false => unique && places[..rest.len()] == *rest,
        }
    };
    let chosen = match &scan.access {
        Access::Range { index, equal, .. } => fits(*index, equal.len()),
        Access::Full if fits(0, 0) => true,
        Access::Full if limited => {
            let index =
                (1..scan.table.indexes.len()).find(|&at| scan.table.indexes[at].predicate.is_none() && fits(at, 0));
            if let Some(index) = index {
                scan.access = Access::Range { index, equal: vec![], lower: None, upper: None };
            }
            index.is_some()
        }
        Access::Keys { index, .. } => scan.table.indexes[*index].columns.len() == 1 && fits(*index, 0),
        Access::Full => false,
    };
    if chosen && descending {
        scan.direction = Direction::Backward;
    }
    chosen
}
