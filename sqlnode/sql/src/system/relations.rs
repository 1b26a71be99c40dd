//! Tables, their columns, indexes and constraints.

use std::sync::Arc;

use super::row::{
    BTREE, HEAP, PG_CLASS, PG_NAMESPACE, ROOT, char, collation, int2, int4, numbers, oid, optional, text, vector, yes,
};
use super::{Definition, TABLES as SYSTEM_TABLES};
use crate::catalog::{
    Catalog, FIRST_ID, ForeignKey, Identity, Index, ReferentialAction, Table, TableColumn, index_definition,
};
use crate::error::Result;
use crate::func::EvalContext;
use crate::session::Row;
use crate::types::{Type, Value};

pub(super) const TABLES: &[Definition] = &[
    (
        "pg_class",
        PG_CLASS,
        "oid oid, relname name, relnamespace oid, reltype oid, reloftype oid, relowner oid, relam oid, relfilenode oid,
         reltablespace oid, relpages int4, reltuples float4, relallvisible int4, reltoastrelid oid, relhasindex bool,
         relisshared bool, relpersistence \"char\", relkind \"char\", relnatts int2, relchecks int2, relhasrules bool,
         relhastriggers bool, relhassubclass bool, relrowsecurity bool, relforcerowsecurity bool, relispopulated bool,
         relreplident \"char\", relispartition bool, relrewrite oid, relacl text[], reloptions text[], relpartbound text",
        pg_class,
    ),
    (
        "pg_attribute",
        1249,
        "attrelid oid, attname name, atttypid oid, attstattarget int4, attlen int2, attnum int2, attndims int4,
         attcacheoff int4, atttypmod int4, attbyval bool, attalign \"char\", attstorage \"char\", attcompression \"char\",
         attnotnull bool, atthasdef bool, atthasmissing bool, attidentity \"char\", attgenerated \"char\",
         attisdropped bool, attislocal bool, attinhcount int4, attcollation oid, attacl text[], attoptions text[],
         attfdwoptions text[], attmissingval text",
        pg_attribute,
    ),
    ("pg_attrdef", 2604, "oid oid, adrelid oid, adnum int2, adbin text", pg_attrdef),
    (
        "pg_index",
        2610,
        "indexrelid oid, indrelid oid, indnatts int2, indnkeyatts int2, indisunique bool, indnullsnotdistinct bool,
         indisprimary bool, indisexclusion bool, indimmediate bool, indisclustered bool, indisvalid bool,
         indcheckxmin bool, indisready bool, indislive bool, indisreplident bool, indkey int2[], indcollation oid[],
         indclass oid[], indoption text, indexprs text, indpred text",
        pg_index,
    ),
    (
        "pg_constraint",
        2606,
        "oid oid, conname name, connamespace oid, contype \"char\", condeferrable bool, condeferred bool,
         convalidated bool, conrelid oid, contypid oid, conindid oid, conparentid oid, confrelid oid,
         confupdtype \"char\", confdeltype \"char\", confmatchtype \"char\", conislocal bool, coninhcount int4,
         connoinherit bool, conkey int2[], confkey int2[], conpfeqop oid[], conppeqop oid[], conffeqop oid[],
         confdelsetcols int2[], conexclop oid[], conbin text",
        pg_constraint,
    ),
    (
        "pg_sequence",
        2224,
        "seqrelid oid, seqtypid oid, seqstart int8, seqincrement int8, seqmax int8, seqmin int8, seqcache int8,
         seqcycle bool",
        pg_sequence,
    ),
    ("pg_description", 2609, "objoid oid, classoid oid, objsubid int4, description text", pg_description),
    (
        "pg_depend",
        2608,
        "classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, refobjsubid int4, deptype \"char\"",
        pg_depend,
    ),
    (
        "pg_tables",
        12_001,
        "schemaname name, tablename name, tableowner name, tablespace name, hasindexes bool, hasrules bool,
         hastriggers bool, rowsecurity bool",
        pg_tables,
    ),
    ("pg_indexes", 12_002, "schemaname name, tablename name, indexname name, tablespace name, indexdef text", pg_indexes),
    (
        "pg_sequences",
        12_003,
        "schemaname name, sequencename name, sequenceowner name, data_type regtype, start_value int8, min_value int8,
         max_value int8, increment_by int8, cycle bool, cache_size int8, last_value int8",
        pg_sequences,
    ),
];

pub(super) fn schema_oid(catalog: &Catalog, name: &str) -> u32 {
    catalog.schema(name).map_or(0, |schema| schema.id)
}

/// The columns that have a number: hidden ones have none, dropped ones keep theirs.
pub(super) fn numbered(table: &Table) -> impl Iterator<Item = (usize, &TableColumn)> {
    table.columns.iter().enumerate().filter(|(_, column)| !column.hidden).map(|(at, column)| (at + 1, column))
}

/// The indexes that are seen: not the one over hidden row ids.
pub(super) fn indexes(table: &Table) -> impl Iterator<Item = &Index> {
    let skip = usize::from(!table.has_primary_key());
    table.indexes.iter().skip(skip)
}

/// Tables with each of their indexes.
fn all_indexes(catalog: &Catalog) -> impl Iterator<Item = (&Arc<Table>, &Index)> {
    catalog.tables().flat_map(|table| indexes(table).map(move |index| (table, index)))
}

struct Relation<'a> {
    id: u32,
    name: &'a str,
    schema: u32,
    method: u32,
    kind: char,
    columns: usize,
    checks: usize,
    has_index: bool,
    has_triggers: bool,
}

impl Relation<'_> {
    fn row(&self) -> Row {
        vec![
            oid(self.id),
            text(self.name),
            oid(self.schema),
            oid(0),
            oid(0),
            oid(ROOT),
            oid(self.method),
            oid(self.id),
            oid(0),
            int4(0),
            Value::Float4(-1.0),
            int4(0),
            oid(0),
            yes(self.has_index),
            yes(false),
            char('p'),
            char(self.kind),
            int2(self.columns),
            int2(self.checks),
            yes(false),
            yes(self.has_triggers),
            yes(false),
            yes(false),
            yes(false),
            yes(true),
            char(if self.kind == 'r' && self.id >= FIRST_ID { 'd' } else { 'n' }),
            yes(false),
            oid(0),
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    }
}

fn pg_class(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for table in catalog.tables() {
        let schema = schema_oid(catalog, &table.schema);
        rows.push(
            Relation {
                id: table.id,
                name: &table.name,
                schema,
                method: HEAP,
                kind: 'r',
                columns: numbered(table).count(),
                checks: table.checks.len(),
                has_index: indexes(table).next().is_some(),
                // Foreign keys are enforced by triggers in PostgreSQL, and its tools look for them only then.
                has_triggers: !table.foreign_keys.is_empty() || catalog.referrers(table.id).next().is_some(),
            }
            .row(),
        );
        for index in indexes(table) {
            let (id, name, columns) = (index.id, index.name.as_str(), index.columns.len());
            let (has_index, has_triggers, checks) = (false, false, 0);
            rows.push(
                Relation { id, name, schema, method: BTREE, kind: 'i', columns, checks, has_index, has_triggers }.row(),
            );
        }
    }
    for sequence in catalog.sequences() {
        let (id, name, schema) = (sequence.id, sequence.name.as_str(), schema_oid(catalog, &sequence.schema));
        let (columns, checks, has_index, has_triggers) = (3, 0, false, false);
        rows.push(Relation { id, name, schema, method: 0, kind: 'S', columns, checks, has_index, has_triggers }.row());
    }
    for table in SYSTEM_TABLES.iter() {
        let (kind, method) = if table.schema == "pg_catalog" { ('r', HEAP) } else { ('v', 0) };
        let (id, name, schema) = (table.oid, table.name, schema_oid(catalog, table.schema));
        let (columns, checks, has_index, has_triggers) = (table.columns.len(), 0, false, false);
        rows.push(Relation { id, name, schema, method, kind, columns, checks, has_index, has_triggers }.row());
    }
    Ok(rows)
}

struct Attribute<'a> {
    relation: u32,
    name: &'a str,
    ty: &'a Type,
    number: usize,
    not_null: bool,
    has_default: bool,
    identity: Option<Identity>,
    dropped: bool,
}

impl Attribute<'_> {
    fn row(&self) -> Row {
        let name =
            if self.dropped { format!("........pg.dropped.{}........", self.number) } else { self.name.to_string() };
        let length = self.ty.length();
        let varies = length < 0;
        let align = match length {
            1 => 'c',
            2 => 's',
            8 | 16 => 'd',
            _ => 'i',
        };
        vec![
            oid(self.relation),
            text(name),
            oid(if self.dropped { 0 } else { self.ty.oid() }),
            int4(-1),
            Value::Int2(length),
            int2(self.number),
            int4(i32::from(self.ty.element().is_some())),
            int4(-1),
            int4(self.ty.typmod()),
            yes(!varies && length <= 8),
            char(align),
            char(match self.ty {
                Type::Numeric(_) => 'm',
                _ if varies => 'x',
                _ => 'p',
            }),
            Value::CharByte(0),
            yes(self.not_null),
            yes(self.has_default),
            yes(false),
            match self.identity {
                Some(Identity::Always) => char('a'),
                Some(Identity::ByDefault) => char('d'),
                None => Value::CharByte(0),
            },
            Value::CharByte(0),
            yes(self.dropped),
            yes(true),
            int4(0),
            oid(collation(self.ty)),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    }
}

fn pg_attribute(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let plain = |relation, name, ty, number, not_null| {
        Attribute { relation, name, ty, number, not_null, has_default: false, identity: None, dropped: false }.row()
    };
    for table in catalog.tables() {
        for (number, column) in numbered(table) {
            rows.push(
                Attribute {
                    relation: table.id,
                    name: &column.name,
                    ty: &column.ty,
                    number,
                    not_null: column.not_null,
                    has_default: column.default.is_some(),
                    identity: column.identity,
                    dropped: column.dropped,
                }
                .row(),
            );
        }
        for index in indexes(table) {
            for (at, column) in index.columns.iter().enumerate() {
                let column = &table.columns[*column];
                rows.push(plain(index.id, &column.name, &column.ty, at + 1, false));
            }
        }
    }
    for sequence in catalog.sequences() {
        let columns = [("last_value", &Type::Int8), ("log_cnt", &Type::Int8), ("is_called", &Type::Bool)];
        for (at, (name, ty)) in columns.into_iter().enumerate() {
            rows.push(plain(sequence.id, name, ty, at + 1, true));
        }
    }
    for table in SYSTEM_TABLES.iter() {
        for (at, (name, ty)) in table.columns.iter().enumerate() {
            rows.push(plain(table.oid, name, ty, at + 1, false));
        }
    }
    Ok(rows)
}

fn pg_attrdef(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let defaults = catalog.tables().flat_map(|table| {
        numbered(table).filter(|(_, column)| !column.dropped).filter_map(|(number, column)| {
            let default = column.default.as_ref()?;
            // Unique among defaults, which have no oids of their own.
            let id = table.id.wrapping_mul(1_600).wrapping_add(number as u32);
            Some(vec![oid(id), oid(table.id), int2(number), text(default)])
        })
    });
    Ok(defaults.collect())
}

fn pg_index(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(table, index): (&Arc<Table>, &Index)| {
        let count = index.columns.len();
        let each =
            |value: &dyn Fn(usize) -> Value| index.columns.iter().map(|column| value(*column)).collect::<Vec<_>>();
        vec![
            oid(index.id),
            oid(table.id),
            int2(count),
            int2(count),
            yes(index.unique),
            yes(false),
            yes(index.primary),
            yes(false),
            yes(true),
            yes(false),
            yes(true),
            yes(false),
            yes(true),
            yes(true),
            yes(false),
            vector(Type::Int2, each(&|column| int2(column + 1))),
            vector(Type::Oid, each(&|column| oid(collation(&table.columns[column].ty)))),
            vector(Type::Oid, each(&|_| oid(0))),
            // Text, as drivers take an int2vector apart themselves.
            text(vec!["0"; count].join(" ")),
            Value::Null,
            optional(index.predicate.as_ref()),
        ]
    };
    Ok(all_indexes(catalog).map(row).collect())
}

fn pg_description(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(id, column, comment): (u32, u32, &str)| {
        let class = if catalog.schemas().any(|schema| schema.id == id) { PG_NAMESPACE } else { PG_CLASS };
        vec![oid(id), oid(class), int4(column as i32), text(comment)]
    };
    Ok(catalog.comments().map(row).collect())
}

fn action(action: ReferentialAction) -> Value {
    char(match action {
        ReferentialAction::NoAction => 'a',
        ReferentialAction::Restrict => 'r',
        ReferentialAction::Cascade => 'c',
        ReferentialAction::SetNull => 'n',
        ReferentialAction::SetDefault => 'd',
    })
}

struct Constraint<'a> {
    id: u32,
    name: &'a str,
    kind: char,
    columns: &'a [usize],
    index: u32,
    foreign: Option<&'a ForeignKey>,
    condition: Option<&'a str>,
}

impl Constraint<'_> {
    fn row(&self, catalog: &Catalog, table: &Table) -> Row {
        let foreign = |f: &dyn Fn(&ForeignKey) -> Value, other: Value| self.foreign.map_or(other, f);
        vec![
            oid(self.id),
            text(self.name),
            oid(schema_oid(catalog, &table.schema)),
            char(self.kind),
            yes(false),
            yes(false),
            yes(true),
            oid(table.id),
            oid(0),
            oid(self.index),
            oid(0),
            foreign(&|key| oid(key.parent), oid(0)),
            foreign(&|key| action(key.on_update), char(' ')),
            foreign(&|key| action(key.on_delete), char(' ')),
            foreign(&|_| char('s'), char(' ')),
            yes(true),
            int4(0),
            yes(true),
            if self.columns.is_empty() { Value::Null } else { numbers(self.columns.iter().map(|column| column + 1)) },
            foreign(&|key| numbers(key.parent_columns.iter().map(|column| column + 1)), Value::Null),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            optional(self.condition),
        ]
    }
}

fn pg_constraint(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for table in catalog.tables() {
        for index in indexes(table).filter(|index| index.constraint) {
            let kind = if index.primary { 'p' } else { 'u' };
            let (id, name, columns) = (index.id, index.name.as_str(), index.columns.as_slice());
            rows.push(
                Constraint { id, name, kind, columns, index: id, foreign: None, condition: None }.row(catalog, table),
            );
        }
        for key in &table.foreign_keys {
            // The index of the key referred to.
            let parent = catalog.table_by_id(key.parent);
            let unique =
                parent.and_then(|parent| parent.indexes.iter().find(|index| index.columns == key.parent_columns));
            let (id, name, columns, kind) = (key.id, key.name.as_str(), key.columns.as_slice(), 'f');
            let index = unique.map_or(0, |index| index.id);
            rows.push(
                Constraint { id, name, kind, columns, index, foreign: Some(key), condition: None }.row(catalog, table),
            );
        }
        for check in &table.checks {
            let (id, name, condition) = (check.id, check.name.as_str(), Some(check.condition.as_str()));
            rows.push(
                Constraint { id, name, kind: 'c', columns: &[], index: 0, foreign: None, condition }
                    .row(catalog, table),
            );
        }
    }
    Ok(rows)
}

fn pg_sequence(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let rows = catalog.sequences().map(|sequence| {
        vec![
            oid(sequence.id),
            oid(Type::Int8.oid()),
            Value::Int8(sequence.start),
            Value::Int8(sequence.increment),
            Value::Int8(sequence.max),
            Value::Int8(sequence.min),
            Value::Int8(1),
            yes(sequence.cycle),
        ]
    });
    Ok(rows.collect())
}

/// Sequences depend on the columns that own them: internally on identity columns, otherwise automatically.
fn pg_depend(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let rows = catalog.sequences().filter_map(|sequence| {
        let (table, column) = sequence.owned_by?;
        let identity = catalog.table_by_id(table).and_then(|table| table.columns.get(column)?.identity).is_some();
        Some(vec![
            oid(PG_CLASS),
            oid(sequence.id),
            int4(0),
            oid(PG_CLASS),
            oid(table),
            int4(column as i32 + 1),
            char(if identity { 'i' } else { 'a' }),
        ])
    });
    Ok(rows.collect())
}

fn pg_tables(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let ours = catalog.tables().map(|table| {
        let has_index = indexes(table).next().is_some();
        (table.schema.as_str(), table.name.as_str(), table.owner.as_str(), has_index, !table.foreign_keys.is_empty())
    });
    let catalog_tables = SYSTEM_TABLES.iter().filter(|table| table.schema == "pg_catalog");
    let system = catalog_tables.map(|table| (table.schema, table.name, "root", false, false));
    let row = |(schema, name, owner, has_index, has_triggers): (&str, &str, &str, bool, bool)| {
        vec![
            text(schema),
            text(name),
            text(owner),
            Value::Null,
            yes(has_index),
            yes(false),
            yes(has_triggers),
            yes(false),
        ]
    };
    Ok(ours.chain(system).map(row).collect())
}

fn pg_indexes(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(table, index): (&Arc<Table>, &Index)| {
        let definition = index_definition(catalog, index.id, 0);
        vec![text(&table.schema), text(&table.name), text(&index.name), Value::Null, optional(definition)]
    };
    Ok(all_indexes(catalog).map(row).collect())
}

fn pg_sequences(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let rows = catalog.sequences().map(|sequence| {
        vec![
            text(&sequence.schema),
            text(&sequence.name),
            text("root"),
            oid(Type::Int8.oid()),
            Value::Int8(sequence.start),
            Value::Int8(sequence.min),
            Value::Int8(sequence.max),
            Value::Int8(sequence.increment),
            yes(sequence.cycle),
            Value::Int8(1),
            Value::Null,
        ]
    });
    Ok(rows.collect())
}
