//! Conditions move down to where their columns come from, so that rows are dropped before they are joined or sorted.

use crate::exec::Runtime;
use crate::plan::{ColumnId, Expr, Join, JoinKind, Plan};

pub(super) fn push_down(plan: Plan, _runtime: &Runtime<'_>) -> Plan {
    push(plan, vec![])
}

/// Puts conditions as far down in a plan as they may go.
fn push(plan: Plan, conditions: Vec<Expr>) -> Plan {
    match plan {
        Plan::Filter { input, conditions: own } => {
            // What is volatile stays where it was written, as does whatever stood above it.
            if own.iter().any(Expr::is_volatile) {
                return push(*input, vec![]).filter(own).filter(conditions);
            }
            push(*input, own.into_iter().chain(conditions).collect())
        }
        Plan::Scan(mut scan) => {
            let (movable, fixed) = split(conditions, |condition| !condition.is_volatile());
            scan.conditions.extend(movable);
            Plan::Scan(scan).filter(fixed)
        }
        Plan::Project { input, columns } => {
            let (mut movable, fixed) = split(conditions, |condition| can_substitute(condition, &columns));
            movable.iter_mut().for_each(|condition| substitute(condition, &columns));
            Plan::Project { input: Box::new(push(*input, movable)), columns }.filter(fixed)
        }
        Plan::Join(join) => push_join(*join, conditions),
        Plan::Aggregate { input, groups, aggregates } => {
            // A condition over groups alone holds for all rows of a group or for none.
            let over_groups = |condition: &Expr| {
                let from_aggregates = condition.columns().iter().any(|id| aggregates.iter().any(|(a, _)| a == id));
                !groups.is_empty() && !from_aggregates && can_substitute(condition, &groups)
            };
            let (mut movable, fixed) = split(conditions, over_groups);
            movable.iter_mut().for_each(|condition| substitute(condition, &groups));
            Plan::Aggregate { input: Box::new(push(*input, movable)), groups, aggregates }.filter(fixed)
        }
        Plan::Sort { input, keys, top: None } => {
            let (movable, fixed) = split(conditions, |condition| !condition.is_volatile());
            Plan::Sort { input: Box::new(push(*input, movable)), keys, top: None }.filter(fixed)
        }
        Plan::Distinct { input, keys } => {
            let is_key =
                |id: &ColumnId| keys.iter().any(|key| matches!(key, Expr::Column { id: key, .. } if key == id));
            let outer = input.columns();
            let (movable, fixed) = split(conditions, |condition| {
                !condition.is_volatile() && condition.columns().iter().all(|id| is_key(id) || !outer.contains(id))
            });
            Plan::Distinct { input: Box::new(push(*input, movable)), keys }.filter(fixed)
        }
        mut other => {
            if !matches!(other, Plan::SetOperation { .. }) {
                for input in other.inputs_mut() {
                    let taken = std::mem::replace(input, Plan::unit());
                    *input = push(taken, vec![]);
                }
            }
            other.filter(conditions)
        }
    }
}

fn split(conditions: Vec<Expr>, test: impl Fn(&Expr) -> bool) -> (Vec<Expr>, Vec<Expr>) {
    conditions.into_iter().partition(test)
}

/// True if a condition over an operator's outputs can be said over its inputs.
fn can_substitute(condition: &Expr, columns: &[(ColumnId, Expr)]) -> bool {
    if condition.is_volatile() {
        return false;
    }
    let reads = condition.columns();
    let read = columns.iter().filter(|(id, _)| reads.contains(id));
    // Within a subquery nothing is replaced: there, columns must keep their names.
    let same = |(id, expr): &(ColumnId, Expr)| matches!(expr, Expr::Column { id: inner, .. } if inner == id);
    match condition.has_subquery() {
        true => read.into_iter().all(same),
        false => read.into_iter().all(|(_, expr)| !expr.is_volatile() && !expr.has_subquery()),
    }
}

fn substitute(condition: &mut Expr, columns: &[(ColumnId, Expr)]) {
    super::walk_mut(condition, &mut |part| {
        if let Expr::Column { id, .. } = part
            && let Some((_, expr)) = columns.iter().find(|(column, _)| column == id)
        {
            *part = expr.clone();
        }
    });
}

fn reads_any(condition: &Expr, columns: &[ColumnId]) -> bool {
    condition.columns().iter().any(|id| columns.contains(id))
}

fn push_join(mut join: Join, conditions: Vec<Expr>) -> Plan {
    let (left, right) = (join.left.columns(), join.right.columns());
    let only_left = |condition: &Expr| !condition.is_volatile() && !reads_any(condition, &right);
    let only_right =
        |condition: &Expr| !condition.is_volatile() && !reads_any(condition, &left) && reads_any(condition, &right);
    let (mut to_left, mut to_right, mut above) = (vec![], vec![], vec![]);
    match join.kind {
        JoinKind::Inner => {
            let mut on = Vec::new();
            for condition in std::mem::take(&mut join.on).into_iter().chain(conditions) {
                match () {
                    () if only_left(&condition) => to_left.push(condition),
                    () if only_right(&condition) => to_right.push(condition),
                    () if condition.is_volatile() => above.push(condition),
                    () => on.push(condition),
                }
            }
            join.on = on;
        }
        // What WHERE says of the kept side is said of its rows; what ON says of the other side, of that side's.
        JoinKind::Left => {
            (to_left, above) = split(conditions, only_left);
            (to_right, join.on) = split(join.on, only_right);
        }
        JoinKind::Right => {
            (to_right, above) = split(conditions, only_right);
            let to_left_only = |condition: &Expr| only_left(condition) && reads_any(condition, &left);
            (to_left, join.on) = split(join.on, to_left_only);
        }
        JoinKind::Full => above = conditions,
    }
    join.left = push(join.left, to_left);
    join.right = push(join.right, to_right);
    Plan::Join(Box::new(join)).filter(above)
}
