//! The optimizer: a table of rules, each a rewrite that gives the same rows with less work, each switchable.
//!
//! Nothing is known of how many rows a table has; what a scan costs is guessed from how it finds its rows (a key, a range,
//! everything), which is enough to begin at the table that a statement names a key of and to look the others up from there.

mod access;
mod fold;
mod joins;
mod order;
mod prune;
mod push;

use crate::exec::Runtime;
use crate::plan::{Expr, Plan};
use crate::session::SessionInfo;
use crate::types::Type;

/// Which rules run: a bit for each place in [`RULES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rules(u32);

impl Rules {
    pub(crate) const ALL: Rules = Rules(u32::MAX);
    pub(crate) const NONE: Rules = Rules(0);

    /// The rules that a setting names: `on`, `off`, or some of them.
    pub(crate) fn parse(setting: &str) -> Rules {
        match setting {
            "on" => Rules::ALL,
            "off" => Rules::NONE,
            names => {
                let named = |name: &str| names.split(',').any(|part| part.trim() == name);
                let bits = RULES.iter().enumerate().filter(|(_, (name, _))| named(name));
                Rules(bits.map(|(bit, _)| 1 << bit).sum())
            }
        }
    }
}

/// The rules that a session wants: all, unless its setting `optimizer` says otherwise.
pub(crate) fn rules_of(session: &SessionInfo) -> Rules {
    session.settings.get("optimizer").map_or(Rules::ALL, |setting| Rules::parse(setting))
}

type Rule = fn(Plan, &Runtime<'_>) -> Plan;

/// The rules with their names, in the order in which they run.
const RULES: &[(&str, Rule)] = &[
    ("fold", fold::fold),
    ("push", push::push_down),
    ("joins", joins::choose),
    ("access", access::choose),
    ("order", order::sort_less),
    ("prune", prune::prune),
];

/// Applies the rules that are on. The columns stay as they are, in their order.
pub(crate) fn optimize(plan: Plan, rules: Rules, runtime: &Runtime<'_>) -> Plan {
    let mut plan = plan;
    each_inner(&mut plan, &mut |inner| {
        let taken = std::mem::replace(inner, Plan::unit());
        *inner = optimize(taken, rules, runtime);
    });
    let columns = plan.columns();
    for (bit, (_, rule)) in RULES.iter().enumerate() {
        if rules.0 & (1 << bit) != 0 {
            plan = rule(plan, runtime);
        }
    }
    if plan.columns() == columns {
        return plan;
    }
    let columns = columns.into_iter().map(|id| (id, Expr::column(id, Type::Unknown))).collect();
    Plan::Project { input: Box::new(plan), columns }
}

/// Visits plans that stand for themselves: those of subqueries and the arms of set operations. Each is optimized alone,
/// since its rows are taken by position. WITH queries were, when they were bound.
fn each_inner(plan: &mut Plan, visit: &mut dyn FnMut(&mut Plan)) {
    each_expr_mut(plan, &mut |expr| {
        if let Expr::Subquery(subquery) = expr {
            visit(&mut subquery.plan);
        }
    });
    each_operator(plan, &mut |plan| {
        if let Plan::SetOperation { left, right, .. } = plan {
            visit(left);
            visit(right);
        }
    });
}

/// Visits all operators that take part in this plan's own optimization, the root first.
fn each_operator(plan: &mut Plan, visit: &mut dyn FnMut(&mut Plan)) {
    visit(plan);
    if matches!(plan, Plan::SetOperation { .. }) {
        return;
    }
    for input in plan.inputs_mut() {
        each_operator(input, visit);
    }
}

/// Visits all expressions of these operators, with all their parts, parts first.
fn each_expr_mut(plan: &mut Plan, visit: &mut dyn FnMut(&mut Expr)) {
    each_operator(plan, &mut |plan| {
        for expr in plan.exprs_mut() {
            walk_mut(expr, visit);
        }
    });
}

fn walk_mut(expr: &mut Expr, visit: &mut dyn FnMut(&mut Expr)) {
    for child in expr.children_mut() {
        walk_mut(child, visit);
    }
    visit(expr);
}

/// Rewrites a plan from the leaves up. Arms of set operations were rewritten on their own.
fn bottom_up(mut plan: Plan, rewrite: &mut dyn FnMut(Plan) -> Plan) -> Plan {
    if !matches!(plan, Plan::SetOperation { .. }) {
        for input in plan.inputs_mut() {
            let taken = std::mem::replace(input, Plan::unit());
            *input = bottom_up(taken, rewrite);
        }
    }
    rewrite(plan)
}

/// How many rows an operator may give: a guess from its form.
pub(crate) fn estimate(plan: &Plan) -> f64 {
    use crate::plan::{Access, JoinKind, KeyList};
    match plan {
        Plan::Rows { rows, .. } => rows.len() as f64,
        Plan::Scan(scan) => {
            let found = match &scan.access {
                Access::Full => 1_000.0,
                Access::Range { index, equal, lower, upper } => {
                    let chosen = &scan.table.indexes[*index];
                    match (chosen.unique && equal.len() == chosen.columns.len(), equal.len()) {
                        (true, _) => 1.0,
                        (false, 0) if lower.is_none() && upper.is_none() => 1_000.0,
                        (false, 0) => 200.0,
                        (false, _) => 10.0,
                    }
                }
                Access::Keys { keys: KeyList::List(list), .. } => list.len() as f64,
                Access::Keys { keys: KeyList::Array(_), .. } => 10.0,
            };
            found * 0.5f64.powi(scan.conditions.len().min(8) as i32)
        }
        Plan::System { .. } => 500.0,
        Plan::Functions { .. } => 100.0,
        Plan::Filter { input, conditions } => estimate(input) * 0.5f64.powi(conditions.len().min(8) as i32),
        Plan::Project { input, .. } | Plan::Sort { input, .. } | Plan::Distinct { input, .. } => estimate(input),
        Plan::Join(join) => {
            let (left, right) = (estimate(&join.left), estimate(&join.right));
            match (join.on.is_empty(), join.kind) {
                (true, JoinKind::Inner) => left * right,
                _ => left.max(right),
            }
        }
        Plan::Aggregate { input, groups, .. } => {
            if groups.is_empty() {
                1.0
            } else {
                estimate(input) * 0.5
            }
        }
        Plan::Limit { input, .. } => estimate(input).min(100.0),
        Plan::SetOperation { left, right, .. } => estimate(left) + estimate(right),
        Plan::With { rows, .. } => *rows,
        Plan::Recursive { .. } => 100.0,
        Plan::Work { .. } => 10.0,
    }
}
