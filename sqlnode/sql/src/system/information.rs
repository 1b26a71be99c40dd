//! The standard's views of the catalog. Only ordinary tables and their constraints are listed.

use std::sync::Arc;

use super::Definition;
use super::relations::{indexes, numbered};
use super::row::{int4, optional, text};
use crate::catalog::{Catalog, Identity, ReferentialAction, Table};
use crate::error::Result;
use crate::func::EvalContext;
use crate::session::Row;
use crate::types::{Type, Value};

pub(super) const TABLES: &[Definition] = &[
    (
        "schemata",
        13_501,
        "catalog_name name, schema_name name, schema_owner name, default_character_set_catalog name,
         default_character_set_schema name, default_character_set_name name, sql_path text",
        schemata,
    ),
    (
        "tables",
        13_502,
        "table_catalog name, table_schema name, table_name name, table_type text, self_referencing_column_name name,
         reference_generation text, user_defined_type_catalog name, user_defined_type_schema name,
         user_defined_type_name name, is_insertable_into text, is_typed text, commit_action text",
        tables,
    ),
    (
        "columns",
        13_503,
        "table_catalog name, table_schema name, table_name name, column_name name, ordinal_position int4,
         column_default text, is_nullable text, data_type text, character_maximum_length int4,
         character_octet_length int4, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4,
         datetime_precision int4, interval_type text, interval_precision int4, character_set_catalog name,
         character_set_schema name, character_set_name name, collation_catalog name, collation_schema name,
         collation_name name, domain_catalog name, domain_schema name, domain_name name, udt_catalog name,
         udt_schema name, udt_name name, scope_catalog name, scope_schema name, scope_name name,
         maximum_cardinality int4, dtd_identifier name, is_self_referencing text, is_identity text,
         identity_generation text, identity_start text, identity_increment text, identity_maximum text,
         identity_minimum text, identity_cycle text, is_generated text, generation_expression text, is_updatable text",
        columns,
    ),
    (
        "table_constraints",
        13_504,
        "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name,
         table_name name, constraint_type text, is_deferrable text, initially_deferred text, enforced text,
         nulls_distinct text",
        table_constraints,
    ),
    (
        "key_column_usage",
        13_505,
        "constraint_catalog name, constraint_schema name, constraint_name name, table_catalog name, table_schema name,
         table_name name, column_name name, ordinal_position int4, position_in_unique_constraint int4",
        key_column_usage,
    ),
    (
        "constraint_column_usage",
        13_506,
        "table_catalog name, table_schema name, table_name name, column_name name, constraint_catalog name,
         constraint_schema name, constraint_name name",
        constraint_column_usage,
    ),
    (
        "referential_constraints",
        13_507,
        "constraint_catalog name, constraint_schema name, constraint_name name, unique_constraint_catalog name,
         unique_constraint_schema name, unique_constraint_name name, match_option text, update_rule text,
         delete_rule text",
        referential_constraints,
    ),
    (
        "check_constraints",
        13_508,
        "constraint_catalog name, constraint_schema name, constraint_name name, check_clause text",
        check_constraints,
    ),
    (
        "sequences",
        13_509,
        "sequence_catalog name, sequence_schema name, sequence_name name, data_type text, numeric_precision int4,
         numeric_precision_radix int4, numeric_scale int4, start_value text, minimum_value text, maximum_value text,
         increment text, cycle_option text",
        sequences,
    ),
    ("views", 13_510, "table_catalog name, table_schema name, table_name name, view_definition text", nothing),
    (
        "routines",
        13_511,
        "specific_catalog name, specific_schema name, specific_name name, routine_catalog name, routine_schema name,
         routine_name name, routine_type text, data_type text",
        nothing,
    ),
    (
        "triggers",
        13_512,
        "trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation text,
         event_object_catalog name, event_object_schema name, event_object_table name",
        nothing,
    ),
    (
        "table_privileges",
        13_513,
        "grantor name, grantee name, table_catalog name, table_schema name, table_name name, privilege_type text,
         is_grantable text, with_hierarchy text",
        nothing,
    ),
];

fn nothing(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}

fn word(value: bool) -> Value {
    text(if value { "YES" } else { "NO" })
}

fn nulls(count: usize) -> impl Iterator<Item = Value> {
    std::iter::repeat_n(Value::Null, count)
}

fn schemata(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |schema: &crate::catalog::Schema| {
        let mut row = vec![text(context.database), text(&schema.name), text("root")];
        row.extend(nulls(4));
        row
    };
    Ok(catalog.schemas().map(row).collect())
}

fn tables(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |schema: &str, name: &str, kind: &str| {
        let mut row = vec![text(context.database), text(schema), text(name), text(kind)];
        row.extend(nulls(5));
        row.extend([word(kind == "BASE TABLE"), word(false), Value::Null]);
        row
    };
    let ours = catalog.tables().map(|table| row(&table.schema, &table.name, "BASE TABLE"));
    let system = super::TABLES
        .iter()
        .map(|table| row(table.schema, table.name, if table.schema == "pg_catalog" { "BASE TABLE" } else { "VIEW" }));
    Ok(ours.chain(system).collect())
}

/// What a type says of itself: length in characters, precision, its base, scale, precision of seconds.
struct Facets {
    characters: Option<i32>,
    precision: Option<i32>,
    radix: Option<i32>,
    scale: Option<i32>,
    seconds: Option<i32>,
}

fn facets(ty: &Type) -> Facets {
    let mut facets = Facets { characters: None, precision: None, radix: None, scale: None, seconds: None };
    let binary = match ty {
        Type::Int2 => Some(16),
        Type::Int4 => Some(32),
        Type::Int8 => Some(64),
        Type::Float4 => Some(24),
        Type::Float8 => Some(53),
        _ => None,
    };
    match ty {
        Type::Varchar(length) | Type::Char(length) => facets.characters = length.map(|length| length as i32),
        Type::Int2 | Type::Int4 | Type::Int8 => {
            (facets.precision, facets.radix, facets.scale) = (binary, Some(2), Some(0));
        }
        Type::Float4 | Type::Float8 => (facets.precision, facets.radix) = (binary, Some(2)),
        Type::Numeric(modifier) => {
            facets.precision = modifier.map(|(precision, _)| i32::from(precision));
            facets.scale = modifier.map(|(_, scale)| i32::from(scale));
            facets.radix = Some(10);
        }
        Type::Timestamptz(_) | Type::Timestamp(_) | Type::Time(_) | Type::Interval(_) => {
            facets.seconds = Some(i32::from(ty.fraction().unwrap_or(6)));
        }
        Type::Date => facets.seconds = Some(0),
        _ => {}
    }
    facets
}

fn number(value: Option<i32>) -> Value {
    value.map_or(Value::Null, int4)
}

struct ColumnRow<'a> {
    schema: &'a str,
    table: &'a str,
    name: &'a str,
    ty: &'a Type,
    position: usize,
    default: Option<&'a str>,
    not_null: bool,
    identity: Option<Identity>,
}

impl ColumnRow<'_> {
    fn row(&self, context: &EvalContext<'_>) -> Row {
        let facets = facets(self.ty);
        let base = self.ty.base();
        let shown = match &base {
            Type::Array(_) => "ARRAY".to_string(),
            Type::Char(_) => "character".to_string(),
            other => other.to_string(),
        };
        let octets = match self.ty {
            Type::Varchar(Some(length)) | Type::Char(Some(length)) => Some((*length as i32).saturating_mul(4)),
            Type::Text | Type::Varchar(None) => Some(1 << 30),
            _ => None,
        };
        let mut row = vec![
            text(context.database),
            text(self.schema),
            text(self.table),
            text(self.name),
            int4(self.position as i32),
            optional(self.default),
            word(!self.not_null),
            text(shown),
            number(facets.characters),
            number(octets),
            number(facets.precision),
            number(facets.radix),
            number(facets.scale),
            number(facets.seconds),
        ];
        row.extend(nulls(11));
        row.extend([text(context.database), text("pg_catalog"), text(base.internal_name())]);
        row.extend(nulls(4));
        row.extend([text(self.position.to_string()), word(false), word(self.identity.is_some())]);
        row.push(optional(self.identity.map(|identity| match identity {
            Identity::Always => "ALWAYS",
            Identity::ByDefault => "BY DEFAULT",
        })));
        row.extend(nulls(4));
        row.extend([word(false), text("NEVER"), Value::Null, word(true)]);
        row
    }
}

fn columns(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let ours = catalog.tables().flat_map(|table| {
        numbered(table).filter(|(_, column)| !column.dropped).map(move |(position, column)| {
            ColumnRow {
                schema: &table.schema,
                table: &table.name,
                name: &column.name,
                ty: &column.ty,
                position,
                default: column.default.as_deref(),
                not_null: column.not_null,
                identity: column.identity,
            }
            .row(context)
        })
    });
    let system = super::TABLES.iter().flat_map(|table| {
        table.columns.iter().enumerate().map(move |(at, (name, ty))| {
            let (schema, table, position) = (table.schema, table.name, at + 1);
            ColumnRow { schema, table, name, ty, position, default: None, not_null: false, identity: None }.row(context)
        })
    });
    Ok(ours.chain(system).collect())
}

/// A constraint: its table, name, kind and columns; a foreign key's parent, its columns, and what happens.
struct Constraint<'a> {
    table: &'a Arc<Table>,
    name: &'a str,
    kind: &'static str,
    columns: &'a [usize],
    parent: Option<(&'a Arc<Table>, &'a [usize], ReferentialAction, ReferentialAction)>,
}

fn constraints(catalog: &Catalog) -> Vec<Constraint<'_>> {
    let mut found = Vec::new();
    for table in catalog.tables() {
        for index in indexes(table).filter(|index| index.constraint) {
            let kind = if index.primary { "PRIMARY KEY" } else { "UNIQUE" };
            found.push(Constraint { table, name: &index.name, kind, columns: &index.columns, parent: None });
        }
        for key in &table.foreign_keys {
            let parent = catalog
                .table_by_id(key.parent)
                .map(|parent| (parent, key.parent_columns.as_slice(), key.on_update, key.on_delete));
            found.push(Constraint { table, name: &key.name, kind: "FOREIGN KEY", columns: &key.columns, parent });
        }
        for check in &table.checks {
            found.push(Constraint { table, name: &check.name, kind: "CHECK", columns: &[], parent: None });
        }
    }
    found
}

fn table_constraints(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |constraint: Constraint<'_>| {
        vec![
            text(context.database),
            text(&constraint.table.schema),
            text(constraint.name),
            text(context.database),
            text(&constraint.table.schema),
            text(&constraint.table.name),
            text(constraint.kind),
            word(false),
            word(false),
            word(true),
            if constraint.kind == "UNIQUE" { word(true) } else { Value::Null },
        ]
    };
    Ok(constraints(catalog).into_iter().map(row).collect())
}

fn key_column_usage(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for constraint in constraints(catalog) {
        for (at, column) in constraint.columns.iter().enumerate() {
            // The place of the column referred to in the key that it belongs to.
            let position = constraint.parent.and_then(|(parent, columns, ..)| {
                let key = parent.indexes.iter().find(|index| {
                    index.unique
                        && columns.len() == index.columns.len()
                        && columns.iter().all(|c| index.columns.contains(c))
                })?;
                key.columns.iter().position(|column| *column == columns[at])
            });
            rows.push(vec![
                text(context.database),
                text(&constraint.table.schema),
                text(constraint.name),
                text(context.database),
                text(&constraint.table.schema),
                text(&constraint.table.name),
                text(&constraint.table.columns[*column].name),
                int4(at as i32 + 1),
                number(position.map(|position| position as i32 + 1)),
            ]);
        }
    }
    Ok(rows)
}

fn constraint_column_usage(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for constraint in constraints(catalog) {
        let (table, columns) = constraint.parent.map_or((constraint.table, constraint.columns), |(p, c, ..)| (p, c));
        rows.extend(columns.iter().map(|column| {
            vec![
                text(context.database),
                text(&table.schema),
                text(&table.name),
                text(&table.columns[*column].name),
                text(context.database),
                text(&constraint.table.schema),
                text(constraint.name),
            ]
        }));
    }
    Ok(rows)
}

fn rule(action: ReferentialAction) -> Value {
    text(match action {
        ReferentialAction::NoAction => "NO ACTION",
        ReferentialAction::Restrict => "RESTRICT",
        ReferentialAction::Cascade => "CASCADE",
        ReferentialAction::SetNull => "SET NULL",
        ReferentialAction::SetDefault => "SET DEFAULT",
    })
}

fn referential_constraints(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |constraint: Constraint<'_>| {
        let (parent, columns, on_update, on_delete) = constraint.parent?;
        let key = parent.indexes.iter().find(|index| index.unique && index.columns == columns);
        Some(vec![
            text(context.database),
            text(&constraint.table.schema),
            text(constraint.name),
            text(context.database),
            text(&parent.schema),
            optional(key.map(|key| &key.name)),
            text("NONE"),
            rule(on_update),
            rule(on_delete),
        ])
    };
    Ok(constraints(catalog).into_iter().filter_map(row).collect())
}

fn check_constraints(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let rows = catalog.tables().flat_map(|table| {
        table.checks.iter().map(move |check| {
            vec![text(context.database), text(&table.schema), text(&check.name), text(format!("({})", check.condition))]
        })
    });
    Ok(rows.collect())
}

fn sequences(catalog: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let rows = catalog.sequences().map(|sequence| {
        vec![
            text(context.database),
            text(&sequence.schema),
            text(&sequence.name),
            text("bigint"),
            int4(64),
            int4(2),
            int4(0),
            text(sequence.start.to_string()),
            text(sequence.min.to_string()),
            text(sequence.max.to_string()),
            text(sequence.increment.to_string()),
            word(sequence.cycle),
        ]
    });
    Ok(rows.collect())
}
