//! Catalog objects as bytes: a format byte, then fields in order; lengths and counts as u32, all big-endian.

use super::{Check, ForeignKey, Identity, Index, ReferentialAction, Schema, Sequence, Table, TableColumn};
use crate::error::{Result, SqlError};
use crate::types::Type;

/// Rises when a field is added; decoding knows all earlier ones.
const FORMAT: u8 = 1;

#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Self {
        Writer(vec![FORMAT])
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn u32(&mut self, number: u32) {
        self.0.extend(number.to_be_bytes());
    }

    fn i64(&mut self, number: i64) {
        self.0.extend(number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("statements, and so what they define, are bounded to far less"));
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&String>) {
        self.byte(u8::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn positions(&mut self, positions: &[usize]) {
        self.count(positions.len());
        positions.iter().for_each(|&position| self.count(position));
    }
}

pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => Ok(Reader(rest)),
            Some((format, _)) => Err(SqlError::corrupted(format!("catalog entry of unknown format {format}"))),
            None => Err(SqlError::corrupted("empty catalog entry")),
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| SqlError::corrupted("catalog entry ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn flag(&mut self) -> Result<bool> {
        Ok(self.byte()? != 0)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    fn count(&mut self) -> Result<usize> {
        Ok(self.u32()? as usize)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count()?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| SqlError::corrupted("catalog entry is not UTF-8"))
    }

    fn optional(&mut self) -> Result<Option<String>> {
        Ok(if self.flag()? { Some(self.text()?) } else { None })
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.count()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn positions(&mut self) -> Result<Vec<usize>> {
        self.list(Self::count)
    }
}

fn write_type(w: &mut Writer, ty: &Type) {
    w.u32(ty.oid());
    w.u32(ty.typmod() as u32);
}

fn read_type(r: &mut Reader) -> Result<Type> {
    let (oid, modifier) = (r.u32()?, r.u32()? as i32);
    Type::from_oid(oid, modifier).ok_or_else(|| SqlError::corrupted(format!("unknown type {oid} in the catalog")))
}

fn action_byte(action: ReferentialAction) -> u8 {
    match action {
        ReferentialAction::NoAction => b'a',
        ReferentialAction::Restrict => b'r',
        ReferentialAction::Cascade => b'c',
        ReferentialAction::SetNull => b'n',
        ReferentialAction::SetDefault => b'd',
    }
}

fn read_action(r: &mut Reader) -> Result<ReferentialAction> {
    Ok(match r.byte()? {
        b'a' => ReferentialAction::NoAction,
        b'r' => ReferentialAction::Restrict,
        b'c' => ReferentialAction::Cascade,
        b'n' => ReferentialAction::SetNull,
        b'd' => ReferentialAction::SetDefault,
        other => return Err(SqlError::corrupted(format!("unknown referential action {other}"))),
    })
}

pub(super) fn encode_table(table: &Table) -> Vec<u8> {
    let mut w = Writer::new();
    w.u32(table.id);
    w.text(&table.schema);
    w.text(&table.name);
    w.text(&table.owner);
    w.count(table.columns.len());
    for column in &table.columns {
        w.text(&column.name);
        write_type(&mut w, &column.ty);
        let identity = match column.identity {
            None => 0,
            Some(Identity::Always) => 1,
            Some(Identity::ByDefault) => 2,
        };
        for byte in [u8::from(column.not_null), u8::from(column.dropped), u8::from(column.hidden), identity] {
            w.byte(byte);
        }
        w.optional(column.default.as_ref());
    }
    w.count(table.indexes.len());
    for index in &table.indexes {
        w.u32(index.id);
        w.text(&index.name);
        w.positions(&index.columns);
        for flag in [index.unique, index.primary, index.constraint] {
            w.byte(u8::from(flag));
        }
        w.optional(index.predicate.as_ref());
    }
    w.count(table.foreign_keys.len());
    for key in &table.foreign_keys {
        w.u32(key.id);
        w.text(&key.name);
        w.positions(&key.columns);
        w.u32(key.parent);
        w.positions(&key.parent_columns);
        w.byte(action_byte(key.on_delete));
        w.byte(action_byte(key.on_update));
    }
    w.count(table.checks.len());
    for check in &table.checks {
        w.u32(check.id);
        w.text(&check.name);
        w.text(&check.condition);
    }
    w.finish()
}

pub(super) fn decode_table(bytes: &[u8]) -> Result<Table> {
    let mut r = Reader::new(bytes)?;
    let (id, schema, name, owner) = (r.u32()?, r.text()?, r.text()?, r.text()?);
    let columns = r.list(|r| {
        let (name, ty) = (r.text()?, read_type(r)?);
        let (not_null, dropped, hidden) = (r.flag()?, r.flag()?, r.flag()?);
        let identity = match r.byte()? {
            1 => Some(Identity::Always),
            2 => Some(Identity::ByDefault),
            _ => None,
        };
        Ok(TableColumn { name, ty, not_null, default: r.optional()?, identity, dropped, hidden })
    })?;
    let indexes = r.list(|r| {
        let (id, name, columns) = (r.u32()?, r.text()?, r.positions()?);
        let (unique, primary, constraint) = (r.flag()?, r.flag()?, r.flag()?);
        Ok(Index { id, name, columns, unique, primary, constraint, predicate: r.optional()? })
    })?;
    let foreign_keys = r.list(|r| {
        let (id, name, columns, parent, parent_columns) =
            (r.u32()?, r.text()?, r.positions()?, r.u32()?, r.positions()?);
        let (on_delete, on_update) = (read_action(r)?, read_action(r)?);
        Ok(ForeignKey { id, name, columns, parent, parent_columns, on_delete, on_update })
    })?;
    let checks = r.list(|r| Ok(Check { id: r.u32()?, name: r.text()?, condition: r.text()? }))?;
    let table = Table { id, schema, name, columns, indexes, foreign_keys, checks, owner };
    let in_range = |positions: &[usize]| positions.iter().all(|&position| position < table.columns.len());
    let sound = !table.indexes.is_empty()
        && table.indexes.iter().all(|index| in_range(&index.columns))
        && table.foreign_keys.iter().all(|key| in_range(&key.columns));
    if !sound {
        return Err(SqlError::corrupted(format!("table {id} in the catalog refers to columns that it does not have")));
    }
    Ok(table)
}

pub(super) fn encode_sequence(sequence: &Sequence) -> Vec<u8> {
    let mut w = Writer::new();
    w.u32(sequence.id);
    w.text(&sequence.schema);
    w.text(&sequence.name);
    for number in [sequence.increment, sequence.min, sequence.max, sequence.start] {
        w.i64(number);
    }
    w.byte(u8::from(sequence.cycle));
    w.byte(u8::from(sequence.owned_by.is_some()));
    if let Some((table, column)) = sequence.owned_by {
        w.u32(table);
        w.count(column);
    }
    w.finish()
}

pub(super) fn decode_sequence(bytes: &[u8]) -> Result<Sequence> {
    let mut r = Reader::new(bytes)?;
    let (id, schema, name) = (r.u32()?, r.text()?, r.text()?);
    let (increment, min, max, start, cycle) = (r.i64()?, r.i64()?, r.i64()?, r.i64()?, r.flag()?);
    let owned_by = if r.flag()? { Some((r.u32()?, r.count()?)) } else { None };
    Ok(Sequence { id, schema, name, increment, min, max, start, cycle, owned_by })
}

pub(super) fn encode_schema(schema: &Schema) -> Vec<u8> {
    let mut w = Writer::new();
    w.u32(schema.id);
    w.text(&schema.name);
    w.finish()
}

pub(super) fn decode_schema(bytes: &[u8]) -> Result<Schema> {
    let mut r = Reader::new(bytes)?;
    Ok(Schema { id: r.u32()?, name: r.text()? })
}
