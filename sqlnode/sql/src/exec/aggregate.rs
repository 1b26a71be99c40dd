//! Grouping: one accumulator per group and aggregate. Groups come out in the order of their keys.

use std::collections::{BTreeMap, BTreeSet};

use super::eval::{Env, eval, eval_all, holds};
use super::operators::compare_keys;
use super::{Context, Frame, Rows, open};
use crate::error::Result;
use crate::func::Accumulator;
use crate::plan::{AggregateCall, ColumnId, Expr, Plan};
use crate::session::Row;

struct State {
    accumulator: Box<dyn Accumulator>,
    /// Arguments seen so far, of a DISTINCT aggregate. They are aggregated in their order, at the end.
    seen: BTreeSet<Row>,
    /// Sort keys and arguments, of an ordered aggregate.
    ordered: Vec<(Row, Row)>,
}

pub(super) fn open_aggregate<'a>(
    input: &'a Plan,
    groups: &'a [(ColumnId, Expr)],
    aggregates: &'a [(ColumnId, AggregateCall)],
    frame: Option<&'a Frame<'a>>,
    ctx: &'a Context<'a>,
) -> Result<Rows<'a>> {
    let start = || -> Result<Vec<State>> {
        let state = |(_, call): &(ColumnId, AggregateCall)| {
            let accumulator = call.function.accumulator()?;
            Ok(State { accumulator, seen: BTreeSet::new(), ordered: vec![] })
        };
        aggregates.iter().map(state).collect()
    };
    let mut table: BTreeMap<Row, Vec<State>> = BTreeMap::new();
    for row in open(input, frame, ctx)? {
        let row = row?;
        let env = Env::new(&row, frame);
        let key = groups.iter().map(|(_, expr)| eval(expr, env, ctx)).collect::<Result<Row>>()?;
        let states = match table.get_mut(&key) {
            Some(states) => states,
            None => {
                ctx.runtime.hold(&key)?;
                ctx.runtime.hold_bytes(128 * aggregates.len())?;
                table.entry(key).or_insert(start()?)
            }
        };
        for ((_, call), state) in aggregates.iter().zip(states) {
            update(call, state, env, ctx)?;
        }
    }
    // Without GROUP BY there is one group, even of no rows.
    if groups.is_empty() && table.is_empty() {
        table.insert(vec![], start()?);
    }
    Ok(Box::new(table.into_iter().map(move |(mut row, states)| {
        for ((_, call), mut state) in aggregates.iter().zip(states) {
            if call.order.is_empty() {
                for args in &state.seen {
                    state.accumulator.update(args, &ctx.eval)?;
                }
            }
            state.ordered.sort_by(|a, b| compare_keys(&call.order, &a.0, &b.0));
            for (_, args) in &state.ordered {
                state.accumulator.update(args, &ctx.eval)?;
            }
            row.push(state.accumulator.finish(&ctx.eval)?);
        }
        Ok(row)
    })))
}

fn update(call: &AggregateCall, state: &mut State, env: Env<'_>, ctx: &Context<'_>) -> Result<()> {
    if let Some(filter) = &call.filter
        && !holds(std::slice::from_ref(filter), env, ctx)?
    {
        return Ok(());
    }
    let args = eval_all(&call.args, env, ctx)?;
    if call.distinct && call.order.is_empty() {
        if !state.seen.contains(&args) {
            ctx.runtime.hold(&args)?;
            state.seen.insert(args);
        }
        return Ok(());
    }
    if call.distinct {
        if state.seen.contains(&args) {
            return Ok(());
        }
        ctx.runtime.hold(&args)?;
        state.seen.insert(args.clone());
    }
    if call.order.is_empty() {
        if state.accumulator.keeps_rows() {
            ctx.runtime.hold(&args)?;
        }
        return state.accumulator.update(&args, &ctx.eval);
    }
    let keys = call.order.iter().map(|key| eval(&key.expr, env, ctx)).collect::<Result<Row>>()?;
    ctx.runtime.hold(&keys)?;
    ctx.runtime.hold(&args)?;
    state.ordered.push((keys, args));
    Ok(())
}
