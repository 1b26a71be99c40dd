//! Plans: trees of operators, as the binder makes them and the optimizer rewrites them.
//!
//! ```text
//!   bind      SQL -> a plan that is right: scans read whole tables, joins are nested loops
//!   optimize  the same rows with less work: keys are looked up, joins hashed, sorts bounded
//!   resolve   each column's place in the rows is filled in
//!   execute   rows are pulled from the root
//! ```

mod explain;
mod expr;
mod resolve;

use std::sync::Arc;

pub(crate) use explain::explain;
pub(crate) use expr::{ColumnId, CompareOp, Expr, Position, SequenceCall, Slot, Subquery, SubqueryKind};
pub(crate) use resolve::{OnceNumbers, resolve};

use crate::catalog::Table;
use crate::func::Resolved;
use crate::store::Direction;
use crate::system::SystemTable;

#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// Computed rows; one row without columns is what a SELECT without FROM reads.
    Rows {
        columns: Vec<ColumnId>,
        rows: Vec<Vec<Expr>>,
    },
    Scan(Scan),
    /// A table of the system catalog, computed from ours.
    System {
        table: &'static SystemTable,
        columns: Vec<ColumnId>,
    },
    /// Set-returning functions side by side, the shorter ones padded with NULLs.
    Functions {
        functions: Vec<FunctionCall>,
        ordinality: Option<ColumnId>,
    },
    Filter {
        input: Box<Plan>,
        conditions: Vec<Expr>,
    },
    Project {
        input: Box<Plan>,
        columns: Vec<(ColumnId, Expr)>,
    },
    Join(Box<Join>),
    Aggregate {
        input: Box<Plan>,
        groups: Vec<(ColumnId, Expr)>,
        aggregates: Vec<(ColumnId, AggregateCall)>,
    },
    /// Of the rows that agree in the keys, the first.
    Distinct {
        input: Box<Plan>,
        keys: Vec<Expr>,
    },
    Sort {
        input: Box<Plan>,
        keys: Vec<SortKey>,
        top: Option<Bounds>,
    },
    Limit {
        input: Box<Plan>,
        bounds: Bounds,
    },
    SetOperation {
        op: SetOperation,
        all: bool,
        left: Box<Plan>,
        right: Box<Plan>,
        columns: Vec<ColumnId>,
    },
    /// A WITH query's result, computed at first use; the number names it. Its plan is finished already and shared by all
    /// mentions, so nothing looks into it from here.
    With {
        number: usize,
        name: String,
        plan: Arc<Plan>,
        /// How many rows it may give.
        rows: f64,
        columns: Vec<ColumnId>,
    },
    /// A recursive WITH query, from its first rows on; like [`Plan::With`], not looked into.
    Recursive {
        name: String,
        recursion: Arc<Recursion>,
        columns: Vec<ColumnId>,
    },
    /// Within the recursion of this number: the rows that were found last.
    Work {
        number: usize,
        columns: Vec<ColumnId>,
    },
}

/// The two parts of a recursive WITH query, finished: resolved, and shared by all mentions.
#[derive(Clone, Debug)]
pub(crate) struct Recursion {
    /// Names the rows that [`Plan::Work`] reads.
    pub(crate) number: usize,
    /// What it begins with.
    pub(crate) base: Plan,
    /// What follows from the rows found last.
    pub(crate) step: Plan,
    /// `UNION ALL`: rows that were found before are found again.
    pub(crate) all: bool,
}

/// Reads a stored table.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) table: Arc<Table>,
    /// The name that the statement gives it.
    pub(crate) alias: String,
    /// The columns that are wanted: which, and their place in the table.
    pub(crate) columns: Vec<(ColumnId, usize)>,
    pub(crate) conditions: Vec<Expr>,
    pub(crate) access: Access,
    pub(crate) direction: Direction,
}

/// How a scan finds its rows.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// All rows, by the primary index.
    Full,
    /// Entries of an index: the first columns equal these, the next lies within these bounds.
    Range { index: usize, equal: Vec<Expr>, lower: Option<Limit>, upper: Option<Limit> },
    /// One or more full keys of a unique index, or prefixes of any: each row once.
    Keys { index: usize, keys: KeyList },
}

/// The keys of an `IN` list, or the elements of an array.
#[derive(Clone, Debug)]
pub(crate) enum KeyList {
    List(Vec<Expr>),
    Array(Expr),
}

/// One side of a range.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) value: Expr,
    pub(crate) inclusive: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct FunctionCall {
    pub(crate) function: Arc<Resolved>,
    pub(crate) args: Vec<Expr>,
    pub(crate) column: ColumnId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}

#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    pub(crate) left: Plan,
    pub(crate) right: Plan,
    pub(crate) on: Vec<Expr>,
    pub(crate) strategy: Strategy,
}

#[derive(Clone, Debug)]
pub(crate) enum Strategy {
    /// The right side is read once and compared with each left row.
    Nested,
    /// The right side is read for each left row, which it may refer to.
    Lateral,
    /// The right side is hashed by its keys.
    Hash { left_keys: Vec<Expr>, right_keys: Vec<Expr> },
}

#[derive(Clone, Debug)]
pub(crate) struct AggregateCall {
    pub(crate) function: Arc<Resolved>,
    pub(crate) args: Vec<Expr>,
    pub(crate) distinct: bool,
    pub(crate) filter: Option<Expr>,
    pub(crate) order: Vec<SortKey>,
}

#[derive(Clone, Debug)]
pub(crate) struct SortKey {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// LIMIT and OFFSET.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) limit: Option<Expr>,
    pub(crate) offset: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOperation {
    Union,
    Intersect,
    Except,
}

impl Plan {
    /// One row without columns.
    pub(crate) fn unit() -> Plan {
        Plan::Rows { columns: vec![], rows: vec![vec![]] }
    }

    /// No rows, with these columns.
    pub(crate) fn nothing(columns: Vec<ColumnId>) -> Plan {
        Plan::Rows { columns, rows: vec![] }
    }

    /// The columns of its rows, in order.
    pub(crate) fn columns(&self) -> Vec<ColumnId> {
        match self {
            Plan::Rows { columns, .. }
            | Plan::System { columns, .. }
            | Plan::SetOperation { columns, .. }
            | Plan::With { columns, .. }
            | Plan::Recursive { columns, .. }
            | Plan::Work { columns, .. } => columns.clone(),
            Plan::Scan(scan) => scan.columns.iter().map(|(id, _)| *id).collect(),
            Plan::Functions { functions, ordinality } => {
                functions.iter().map(|call| call.column).chain(*ordinality).collect()
            }
            Plan::Filter { input, .. }
            | Plan::Distinct { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. } => input.columns(),
            Plan::Project { columns, .. } => columns.iter().map(|(id, _)| *id).collect(),
            Plan::Join(join) => {
                let mut columns = join.left.columns();
                columns.extend(join.right.columns());
                columns
            }
            Plan::Aggregate { groups, aggregates, .. } => {
                groups.iter().map(|(id, _)| *id).chain(aggregates.iter().map(|(id, _)| *id)).collect()
            }
        }
    }

    /// The operators directly below.
    pub(crate) fn inputs(&self) -> Vec<&Plan> {
        match self {
            Plan::Rows { .. } | Plan::Scan(_) | Plan::System { .. } | Plan::Functions { .. } => vec![],
            Plan::With { .. } | Plan::Recursive { .. } | Plan::Work { .. } => vec![],
            Plan::Filter { input, .. }
            | Plan::Project { input, .. }
            | Plan::Aggregate { input, .. }
            | Plan::Distinct { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. } => vec![input],
            Plan::Join(join) => vec![&join.left, &join.right],
            Plan::SetOperation { left, right, .. } => vec![left, right],
        }
    }

    /// As [`inputs`](Self::inputs), to change them.
    pub(crate) fn inputs_mut(&mut self) -> Vec<&mut Plan> {
        match self {
            Plan::Rows { .. } | Plan::Scan(_) | Plan::System { .. } | Plan::Functions { .. } => vec![],
            Plan::With { .. } | Plan::Recursive { .. } | Plan::Work { .. } => vec![],
            Plan::Filter { input, .. }
            | Plan::Project { input, .. }
            | Plan::Aggregate { input, .. }
            | Plan::Distinct { input, .. }
            | Plan::Sort { input, .. }
            | Plan::Limit { input, .. } => vec![input],
            Plan::Join(join) => {
                let Join { left, right, .. } = join.as_mut();
                vec![left, right]
            }
            Plan::SetOperation { left, right, .. } => vec![left, right],
        }
    }

    /// The operator's own expressions.
    pub(crate) fn exprs(&self) -> Vec<&Expr> {
        match self {
            Plan::Rows { rows, .. } => rows.iter().flatten().collect(),
            Plan::Scan(scan) => scan.access.exprs().into_iter().chain(&scan.conditions).collect(),
            Plan::System { .. } | Plan::SetOperation { .. } | Plan::With { .. } => vec![],
            Plan::Recursive { .. } | Plan::Work { .. } => vec![],
            Plan::Functions { functions, .. } => functions.iter().flat_map(|call| &call.args).collect(),
            Plan::Filter { conditions, .. } => conditions.iter().collect(),
            Plan::Project { columns, .. } => columns.iter().map(|(_, expr)| expr).collect(),
            Plan::Join(join) => {
                let mut exprs: Vec<&Expr> = join.on.iter().collect();
                if let Strategy::Hash { left_keys, right_keys } = &join.strategy {
                    exprs.extend(left_keys.iter().chain(right_keys));
                }
                exprs
            }
            Plan::Aggregate { groups, aggregates, .. } => {
                let calls = aggregates.iter().flat_map(|(_, call)| {
                    call.args.iter().chain(&call.filter).chain(call.order.iter().map(|key| &key.expr))
                });
                groups.iter().map(|(_, expr)| expr).chain(calls).collect()
            }
            Plan::Distinct { keys, .. } => keys.iter().collect(),
            Plan::Sort { keys, top, .. } => {
                keys.iter().map(|key| &key.expr).chain(top.iter().flat_map(Bounds::exprs)).collect()
            }
            Plan::Limit { bounds, .. } => bounds.exprs().collect(),
        }
    }

    /// As [`exprs`](Self::exprs), to change them.
    pub(crate) fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Plan::Rows { rows, .. } => rows.iter_mut().flatten().collect(),
            Plan::Scan(scan) => scan.access.exprs_mut().into_iter().chain(&mut scan.conditions).collect(),
            Plan::System { .. } | Plan::SetOperation { .. } | Plan::With { .. } => vec![],
            Plan::Recursive { .. } | Plan::Work { .. } => vec![],
            Plan::Functions { functions, .. } => functions.iter_mut().flat_map(|call| &mut call.args).collect(),
            Plan::Filter { conditions, .. } => conditions.iter_mut().collect(),
            Plan::Project { columns, .. } => columns.iter_mut().map(|(_, expr)| expr).collect(),
            Plan::Join(join) => {
                let Join { on, strategy, .. } = join.as_mut();
                let mut exprs: Vec<&mut Expr> = on.iter_mut().collect();
                if let Strategy::Hash { left_keys, right_keys } = strategy {
                    exprs.extend(left_keys.iter_mut().chain(right_keys));
                }
                exprs
            }
            Plan::Aggregate { groups, aggregates, .. } => {
                let calls = aggregates.iter_mut().flat_map(|(_, call)| {
                    let order = call.order.iter_mut().map(|key| &mut key.expr);
                    call.args.iter_mut().chain(&mut call.filter).chain(order)
                });
                groups.iter_mut().map(|(_, expr)| expr).chain(calls).collect()
            }
            Plan::Distinct { keys, .. } => keys.iter_mut().collect(),
            Plan::Sort { keys, top, .. } => {
                let bounds = top.iter_mut().flat_map(|bounds| bounds.limit.iter_mut().chain(&mut bounds.offset));
                keys.iter_mut().map(|key| &mut key.expr).chain(bounds).collect()
            }
            Plan::Limit { bounds, .. } => bounds.limit.iter_mut().chain(&mut bounds.offset).collect(),
        }
    }

    /// Calls `visit` on every expression in the tree, and on all their parts.
    pub(crate) fn walk_exprs(&self, visit: &mut dyn FnMut(&Expr)) {
        for expr in self.exprs() {
            expr.walk(visit);
        }
        for input in self.inputs() {
            input.walk_exprs(visit);
        }
    }

    /// Puts a filter on top, unless there is nothing to filter by.
    pub(crate) fn filter(self, conditions: Vec<Expr>) -> Plan {
        match conditions.is_empty() {
            true => self,
            false => Plan::Filter { input: Box::new(self), conditions },
        }
    }
}

impl Access {
    pub(crate) fn exprs(&self) -> Vec<&Expr> {
        match self {
            Access::Full => vec![],
            Access::Range { equal, lower, upper, .. } => {
                equal.iter().chain(lower.iter().chain(upper).map(|limit| &limit.value)).collect()
            }
            Access::Keys { keys: KeyList::List(list), .. } => list.iter().collect(),
            Access::Keys { keys: KeyList::Array(array), .. } => vec![array],
        }
    }

    pub(crate) fn exprs_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Access::Full => vec![],
            Access::Range { equal, lower, upper, .. } => {
                equal.iter_mut().chain(lower.iter_mut().chain(upper).map(|limit| &mut limit.value)).collect()
            }
            Access::Keys { keys: KeyList::List(list), .. } => list.iter_mut().collect(),
            Access::Keys { keys: KeyList::Array(array), .. } => vec![array],
        }
    }
}

impl Bounds {
    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.limit.iter().chain(&self.offset)
    }
}
