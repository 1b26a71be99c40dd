//! Rows and index entries as pairs of the store.
//!
//! ```text
//!   row           <table, primary index> key parts            ->  all columns
//!   unique entry  <table, index> parts                        ->  the row's key parts
//!   other entry   <table, index> parts, the row's key parts   ->  the row's key parts
//! ```
//!
//! A unique index's entry with a NULL among its parts is stored like the entry of any other index, since it conflicts with
//! none.

use crate::catalog::{Index, Table, index_prefix};
use crate::codec::{ColumnId, KeyOrder, RowReader, encode_key, encode_row};
use crate::error::Result;
use crate::session::Row;
use crate::types::Value;

/// The key parts of a row, without the prefix of the primary index.
pub(crate) fn key_suffix(table: &Table, row: &[Value]) -> Result<Vec<u8>> {
    let mut suffix = Vec::new();
    for &column in &table.primary().columns {
        encode_key(&row[column], KeyOrder::ASCENDING, &mut suffix)?;
    }
    Ok(suffix)
}

/// Where a row is stored.
pub(crate) fn primary_key(table: &Table, row: &[Value]) -> Result<Vec<u8>> {
    let mut key = index_prefix(table.id, table.primary().id);
    key.extend(key_suffix(table, row)?);
    Ok(key)
}

/// The key of a row's entry in an index, and whether it is the only one that may be there.
pub(crate) fn entry_key(table: &Table, index: &Index, row: &[Value], suffix: &[u8]) -> Result<(Vec<u8>, bool)> {
    let mut key = index_prefix(table.id, index.id);
    let mut has_null = false;
    for &column in &index.columns {
        has_null |= row[column].is_null();
        encode_key(&row[column], KeyOrder::ASCENDING, &mut key)?;
    }
    let exclusive = index.unique && !has_null;
    if !exclusive {
        key.extend(suffix);
    }
    Ok((key, exclusive))
}

/// A row's columns as stored.
pub(crate) fn encode_stored(table: &Table, row: &[Value]) -> Result<Vec<u8>> {
    let columns = table.columns.iter().zip(row).enumerate().filter(|(_, (column, _))| !column.dropped);
    encode_row(columns.map(|(at, (_, value))| (ColumnId(at as u32), value)))
}

/// A stored row, with NULL for columns that were added since or dropped.
pub(crate) fn decode_stored(table: &Table, bytes: &[u8]) -> Result<Row> {
    let places: Vec<usize> = (0..table.columns.len()).collect();
    let mut row = vec![Value::Null; table.columns.len()];
    decode_some(table, bytes, &places, |at, value| row[places[at]] = value)?;
    Ok(row)
}

/// Decodes the columns at ascending places, each handed over with its number in the list.
pub(crate) fn decode_some(
    table: &Table,
    bytes: &[u8],
    places: &[usize],
    mut take: impl FnMut(usize, Value),
) -> Result<()> {
    let live = || places.iter().enumerate().filter(|(_, place)| !table.columns[**place].dropped);
    let wanted = live().map(|(_, &place)| (ColumnId(place as u32), &table.columns[place].ty));
    let values = RowReader::new(bytes)?.columns(wanted)?;
    for ((at, _), value) in live().zip(values) {
        take(at, value.unwrap_or(Value::Null));
    }
    Ok(())
}
