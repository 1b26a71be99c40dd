//! Reading stored tables: all of them, by ranges of an index, or by keys.

use std::collections::BTreeSet;

use super::eval::{Env, eval, eval_all, holds};
use super::key::decode_some;
use super::{Context, Frame, Rows, flatten};
use crate::catalog::{Index, index_prefix};
use crate::codec::{KeyOrder, encode_key, prefix_end};
use crate::error::{Result, SqlError};
use crate::plan::{Access, KeyList, Scan};
use crate::session::Row;
use crate::store::Direction;
use crate::types::Value;

/// First and last bytes to read, the last excluded.
type Span = (Vec<u8>, Vec<u8>);

pub(super) fn open_scan<'a>(scan: &'a Scan, frame: Option<&'a Frame<'a>>, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let env = Env::new(&[], frame);
    let (index, spans) = match &scan.access {
        Access::Full => {
            let prefix = index_prefix(scan.table.id, scan.table.primary().id);
            let end = prefix_end(&prefix);
            (0, vec![Lookup::Span((prefix, end))])
        }
        Access::Range { index, equal, lower, upper } => {
            let values = eval_all(equal, env, ctx)?;
            if values.iter().any(Value::is_null) {
                return Ok(Box::new(std::iter::empty()));
            }
            let chosen = &scan.table.indexes[*index];
            if equal.len() == chosen.columns.len() && chosen.unique {
                (*index, vec![Lookup::Point(key_of(scan, chosen, &values)?)])
            } else {
                let lower = match lower {
                    Some(limit) => Some((eval(&limit.value, env, ctx)?, limit.inclusive)),
                    None => None,
                };
                let upper = match upper {
                    Some(limit) => Some((eval(&limit.value, env, ctx)?, limit.inclusive)),
                    None => None,
                };
                match range(key_of(scan, chosen, &values)?, lower, upper)? {
                    Some(span) => (*index, vec![Lookup::Span(span)]),
                    None => return Ok(Box::new(std::iter::empty())),
                }
            }
        }
        Access::Keys { index, keys } => {
            let values = match keys {
                KeyList::List(list) => eval_all(list, env, ctx)?,
                KeyList::Array(array) => match eval(array, env, ctx)? {
                    Value::Array(array) => array.values.clone(),
                    _ => vec![],
                },
            };
            let chosen = &scan.table.indexes[*index];
            let distinct: BTreeSet<Value> = values.into_iter().filter(|value| !value.is_null()).collect();
            let point = chosen.unique && chosen.columns.len() == 1;
            let mut lookups = Vec::new();
            for value in distinct {
                let key = key_of(scan, chosen, std::slice::from_ref(&value))?;
                lookups.push(if point { Lookup::Point(key) } else { Lookup::Span((key.clone(), prefix_end(&key))) });
            }
            if scan.direction == Direction::Backward {
                lookups.reverse();
            }
            (*index, lookups)
        }
    };
    let rows = spans.into_iter().map(move |lookup| read(scan, index, lookup, ctx));
    Ok(Box::new(flatten(rows).filter_map(move |row| check(scan, row, frame, ctx))))
}

fn check(scan: &Scan, row: Result<Row>, frame: Option<&Frame<'_>>, ctx: &Context<'_>) -> Option<Result<Row>> {
    let row = match row.and_then(|row| ctx.runtime.tick().map(|()| row)) {
        Ok(row) => row,
        Err(error) => return Some(Err(error)),
    };
    match holds(&scan.conditions, Env::new(&row, frame), ctx) {
        Ok(true) => Some(Ok(row)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    }
}

enum Lookup {
    /// One key of a unique index.
    Point(Vec<u8>),
    Span(Span),
}

/// An index's prefix followed by the first key parts.
fn key_of(scan: &Scan, index: &Index, values: &[Value]) -> Result<Vec<u8>> {
    let mut key = index_prefix(scan.table.id, index.id);
    for value in values {
        encode_key(value, KeyOrder::ASCENDING, &mut key)?;
    }
    Ok(key)
}

/// The keys after a prefix whose next part lies within the bounds. NULL parts sort last and satisfy no bound.
fn range(prefix: Vec<u8>, lower: Option<(Value, bool)>, upper: Option<(Value, bool)>) -> Result<Option<Span>> {
    let bounded = lower.is_some() || upper.is_some();
    if [&lower, &upper].into_iter().flatten().any(|(value, _)| value.is_null()) {
        return Ok(None);
    }
    let part = |value: &Value| -> Result<Vec<u8>> {
        let mut key = prefix.clone();
        encode_key(value, KeyOrder::ASCENDING, &mut key)?;
        Ok(key)
    };
    let start = match &lower {
        None => prefix.clone(),
        Some((value, true)) => part(value)?,
        Some((value, false)) => prefix_end(&part(value)?),
    };
    let end = match &upper {
        Some((value, true)) => prefix_end(&part(value)?),
        Some((value, false)) => part(value)?,
        // Stop before the NULLs.
        None if bounded => part(&Value::Null)?,
        None => prefix_end(&prefix),
    };
    Ok((start < end).then_some((start, end)))
}

fn read<'a>(scan: &'a Scan, index: usize, lookup: Lookup, ctx: &'a Context<'a>) -> Result<Rows<'a>> {
    let places: Vec<usize> = scan.columns.iter().map(|(_, place)| *place).collect();
    let decode = move |bytes: &[u8]| -> Result<Row> {
        let mut row = vec![Value::Null; places.len()];
        decode_some(&scan.table, bytes, &places, |at, value| row[at] = value)?;
        Ok(row)
    };
    let fetch = move |suffix: &[u8]| -> Result<Vec<u8>> {
        let mut key = index_prefix(scan.table.id, scan.table.primary().id);
        key.extend(suffix);
        ctx.store.get(&key)?.ok_or_else(|| {
            let index = &scan.table.indexes[index].name;
            SqlError::corrupted(format!("an entry of index \"{index}\" has no row"))
        })
    };
    match lookup {
        Lookup::Point(key) => {
            let found = ctx.store.get(&key)?;
            let row = match found {
                None => None,
                Some(bytes) if index == 0 => Some(decode(&bytes)),
                Some(suffix) => Some(fetch(&suffix).and_then(|bytes| decode(&bytes))),
            };
            Ok(Box::new(row.into_iter()))
        }
        Lookup::Span((start, end)) => {
            let pairs = ctx.store.scan(&start, &end, scan.direction)?;
            Ok(Box::new(pairs.map(move |pair| {
                let (_, value) = pair?;
                match index {
                    0 => decode(&value),
                    _ => decode(&fetch(&value)?),
                }
            })))
        }
    }
}
