//! The last step before running: where each column's value will be.
//!
//! An expression sees the row of its operator and, further out, the rows of the queries around it: a correlated subquery's
//! outer row, a lateral join's left row. Each of these is a *frame*; a column is found in the nearest that has it.

use super::{Access, Bounds, ColumnId, Expr, Join, Plan, Slot, Strategy, SubqueryKind};
use crate::error::{Result, SqlError};

/// Layouts of the rows around, the outermost first.
type Frames = Vec<Vec<ColumnId>>;

/// Numbers for what is computed once in a statement, over all its plans and expressions.
#[derive(Debug, Default)]
pub(crate) struct OnceNumbers(usize);

impl OnceNumbers {
    fn next(&mut self) -> usize {
        self.0 += 1;
        self.0
    }
}

struct Resolver<'a> {
    frames: Frames,
    once: &'a mut OnceNumbers,
    /// The outermost frame that the subquery at hand has reached for; its own frames don't count.
    reached: usize,
}

/// Fills in all slots of a plan that runs without outer rows, and of expressions over its rows.
pub(crate) fn resolve(plan: &mut Plan, exprs: &mut [&mut Expr], once: &mut OnceNumbers) -> Result<()> {
    let mut resolver = Resolver { frames: vec![], once, reached: usize::MAX };
    resolver.plan(plan)?;
    let layout = plan.columns();
    exprs.iter_mut().try_for_each(|expr| resolver.expr(expr, &layout))
}

impl Resolver<'_> {
    fn expr(&mut self, expr: &mut Expr, row: &[ColumnId]) -> Result<()> {
        if let Expr::Column { id, slot, .. } = expr {
            *slot = self.find(*id, row)?;
        }
        for child in expr.children_mut() {
            self.expr(child, row)?;
        }
        if let Expr::Subquery(subquery) = expr {
            let outside = std::mem::replace(&mut self.reached, usize::MAX);
            self.frames.push(row.to_vec());
            let result = self.plan(&mut subquery.plan);
            self.frames.pop();
            result?;
            if let SubqueryKind::Quantified { comparison, .. } = &mut subquery.kind {
                // The comparison's operands are `Element`s; nothing else stands in it.
                self.expr(comparison, &[])?;
            }
            if self.reached == usize::MAX && !plan_is_volatile(&subquery.plan) {
                subquery.once = Some(self.once.next());
            }
            // What the subquery reached for beyond this row, the query around it reaches for as well.
            let beyond = if self.reached < self.frames.len() { self.reached } else { usize::MAX };
            self.reached = outside.min(beyond);
        }
        Ok(())
    }

    fn find(&mut self, id: ColumnId, row: &[ColumnId]) -> Result<Slot> {
        let place = |layout: &[ColumnId]| layout.iter().position(|column| *column == id);
        let slot = |depth: usize, index: usize| match (u16::try_from(depth), u16::try_from(index)) {
            (Ok(depth), Ok(index)) => Ok(Slot { depth, index }),
            _ => Err(SqlError::new(crate::SqlState::TOO_MANY_COLUMNS, "a row has too many columns")),
        };
        if let Some(index) = place(row) {
            return slot(0, index);
        }
        for (out, layout) in self.frames.iter().rev().enumerate() {
            if let Some(index) = place(layout) {
                self.reached = self.reached.min(self.frames.len() - 1 - out);
                return slot(out + 1, index);
            }
        }
        Err(SqlError::internal(format!("column {} is nowhere to be found", id.0)))
    }

    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a mut Expr>, row: &[ColumnId]) -> Result<()> {
        exprs.into_iter().try_for_each(|expr| self.expr(expr, row))
    }

    fn bounds(&mut self, bounds: &mut Bounds) -> Result<()> {
        self.exprs(bounds.limit.iter_mut().chain(&mut bounds.offset), &[])
    }

    fn plan(&mut self, plan: &mut Plan) -> Result<()> {
        match plan {
            Plan::Rows { rows, .. } => self.exprs(rows.iter_mut().flatten(), &[]),
            Plan::Scan(scan) => {
                let layout: Vec<ColumnId> = scan.columns.iter().map(|(id, _)| *id).collect();
                self.exprs(Access::exprs_mut(&mut scan.access), &[])?;
                self.exprs(&mut scan.conditions, &layout)
            }
            Plan::System { .. } => Ok(()),
            Plan::Functions { functions, .. } => self.exprs(functions.iter_mut().flat_map(|call| &mut call.args), &[]),
            Plan::Filter { input, conditions } => {
                self.plan(input)?;
                self.exprs(conditions, &input.columns())
            }
            Plan::Project { input, columns } => {
                self.plan(input)?;
                self.exprs(columns.iter_mut().map(|(_, expr)| expr), &input.columns())
            }
            Plan::Join(join) => self.join(join),
            Plan::Aggregate { input, groups, aggregates } => {
                self.plan(input)?;
                let layout = input.columns();
                self.exprs(groups.iter_mut().map(|(_, expr)| expr), &layout)?;
                for (_, call) in aggregates {
                    let order = call.order.iter_mut().map(|key| &mut key.expr);
                    self.exprs(call.args.iter_mut().chain(&mut call.filter).chain(order), &layout)?;
                }
                Ok(())
            }
            Plan::Distinct { input, keys } => {
                self.plan(input)?;
                self.exprs(keys, &input.columns())
            }
            Plan::Sort { input, keys, top } => {
                self.plan(input)?;
                self.exprs(keys.iter_mut().map(|key| &mut key.expr), &input.columns())?;
                top.as_mut().map_or(Ok(()), |bounds| self.bounds(bounds))
            }
            Plan::Limit { input, bounds } => {
                self.plan(input)?;
                self.bounds(bounds)
            }
            Plan::SetOperation { left, right, .. } => {
                self.plan(left)?;
                self.plan(right)
            }
            // It was resolved where it stands, since it reads nothing around it.
            Plan::With { .. } | Plan::Recursive { .. } | Plan::Work { .. } => Ok(()),
        }
    }

    fn join(&mut self, join: &mut Join) -> Result<()> {
        self.plan(&mut join.left)?;
        let left = join.left.columns();
        let right = join.right.columns();
        match &mut join.strategy {
            Strategy::Nested => self.plan(&mut join.right)?,
            Strategy::Lateral => {
                let before = self.reached;
                self.frames.push(left.clone());
                let result = self.plan(&mut join.right);
                self.frames.pop();
                result?;
                // Reaching for the left row is not reaching out of this query.
                if self.reached >= self.frames.len() {
                    self.reached = before;
                }
            }
            Strategy::Hash { left_keys, right_keys } => {
                self.plan(&mut join.right)?;
                self.exprs(left_keys, &left)?;
                self.exprs(right_keys, &right)?;
            }
        }
        let row: Vec<ColumnId> = left.into_iter().chain(right).collect();
        self.exprs(&mut join.on, &row)
    }
}

fn plan_is_volatile(plan: &Plan) -> bool {
    let mut volatile = false;
    plan.walk_exprs(&mut |expr| {
        volatile |= match expr {
            Expr::Call { function, .. } => function.volatility == crate::func::Volatility::Volatile,
            Expr::Sequence { .. } | Expr::RowId => true,
            _ => false,
        };
    });
    volatile
}
