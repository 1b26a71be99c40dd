//! Schemas, types, roles, databases, settings, functions: what isn't a relation.

use super::Definition;
use super::row::{
    C_COLLATION, DATABASE, DEFAULT_COLLATION, DEFAULT_TABLESPACE, ROOT, char, collation, int2, int4, oid, text, vector,
    yes,
};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::func::{EvalContext, Kind, all_functions};
use crate::session::Row;
use crate::types::{Category, Type, Value};

pub(super) const TABLES: &[Definition] = &[
    ("pg_namespace", 2615, "oid oid, nspname name, nspowner oid, nspacl text[]", pg_namespace),
    (
        "pg_type",
        1247,
        "oid oid, typname name, typnamespace oid, typowner oid, typlen int2, typbyval bool, typtype \"char\",
         typcategory \"char\", typispreferred bool, typisdefined bool, typdelim \"char\", typrelid oid,
         typsubscript regproc, typelem oid, typarray oid, typinput regproc, typoutput regproc, typreceive regproc,
         typsend regproc, typmodin regproc, typmodout regproc, typanalyze regproc, typalign \"char\",
         typstorage \"char\", typnotnull bool, typbasetype oid, typtypmod int4, typndims int4, typcollation oid,
         typdefaultbin text, typdefault text, typacl text[]",
        pg_type,
    ),
    ("pg_am", 2601, "oid oid, amname name, amhandler regproc, amtype \"char\"", pg_am),
    (
        "pg_database",
        1262,
        "oid oid, datname name, datdba oid, encoding int4, datlocprovider \"char\", datistemplate bool,
         datallowconn bool, datconnlimit int4, datfrozenxid int8, datminmxid int8, dattablespace oid, datcollate text,
         datctype text, daticulocale text, datcollversion text, datacl text[]",
        pg_database,
    ),
    (
        "pg_roles",
        12_010,
        "rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool, rolcanlogin bool,
         rolreplication bool, rolconnlimit int4, rolpassword text, rolvaliduntil timestamptz, rolbypassrls bool,
         rolconfig text[], oid oid",
        pg_roles,
    ),
    (
        "pg_authid",
        1260,
        "oid oid, rolname name, rolsuper bool, rolinherit bool, rolcreaterole bool, rolcreatedb bool,
         rolcanlogin bool, rolreplication bool, rolbypassrls bool, rolconnlimit int4, rolpassword text,
         rolvaliduntil timestamptz",
        pg_authid,
    ),
    (
        "pg_user",
        12_011,
        "usename name, usesysid oid, usecreatedb bool, usesuper bool, userepl bool, usebypassrls bool, passwd text,
         valuntil timestamptz, useconfig text[]",
        pg_user,
    ),
    (
        "pg_settings",
        12_012,
        "name text, setting text, unit text, category text, short_desc text, extra_desc text, context text,
         vartype text, source text, min_val text, max_val text, enumvals text[], boot_val text, reset_val text,
         sourcefile text, sourceline int4, pending_restart bool",
        pg_settings,
    ),
    (
        "pg_proc",
        1255,
        "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, procost float4, prorows float4,
         provariadic oid, prosupport regproc, prokind \"char\", prosecdef bool, proleakproof bool, proisstrict bool,
         proretset bool, provolatile \"char\", proparallel \"char\", pronargs int2, pronargdefaults int2, prorettype oid,
         proargtypes oid[], proallargtypes oid[], proargmodes \"char\"[], proargnames text[], proargdefaults text,
         protrftypes oid[], prosrc text, probin text, prosqlbody text, proconfig text[], proacl text[]",
        pg_proc,
    ),
    (
        "pg_collation",
        3456,
        "oid oid, collname name, collnamespace oid, collowner oid, collprovider \"char\", collisdeterministic bool,
         collencoding int4, collcollate text, collctype text, colliculocale text, collversion text",
        pg_collation,
    ),
    (
        "pg_tablespace",
        1213,
        "oid oid, spcname name, spcowner oid, spcacl text[], spcoptions text[]",
        pg_tablespace,
    ),
    (
        "pg_language",
        2612,
        "oid oid, lanname name, lanowner oid, lanispl bool, lanpltrusted bool, lanplcallfoid oid, laninline oid,
         lanvalidator oid, lanacl text[]",
        pg_language,
    ),
    (
        "pg_stat_activity",
        12_013,
        "datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, application_name text,
         client_addr text, client_hostname text, client_port int4, backend_start timestamptz, xact_start timestamptz,
         query_start timestamptz, state_change timestamptz, wait_event_type text, wait_event text, state text,
         backend_xid int8, backend_xmin int8, query_id int8, query text, backend_type text",
        pg_stat_activity,
    ),
];

fn pg_namespace(catalog: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |schema: &crate::catalog::Schema| vec![oid(schema.id), text(&schema.name), oid(ROOT), Value::Null];
    Ok(catalog.schemas().map(row).collect())
}

fn category(ty: &Type) -> char {
    match ty.category() {
        Category::Array => 'A',
        Category::Boolean => 'B',
        Category::DateTime => 'D',
        Category::Numeric => 'N',
        Category::Pseudo => 'P',
        Category::String => 'S',
        Category::Timespan => 'T',
        Category::User => 'U',
        Category::Unknown => 'X',
        Category::Internal => 'Z',
    }
}

fn type_row(ty: &Type) -> Row {
    let length = ty.length();
    let pseudo = matches!(ty, Type::Unknown | Type::Record | Type::Void);
    let align = match length {
        1 => 'c',
        2 => 's',
        8 | 16 => 'd',
        _ => 'i',
    };
    let mut row = vec![
        oid(ty.oid()),
        text(ty.internal_name()),
        oid(11),
        oid(ROOT),
        Value::Int2(length),
        yes((1..=8).contains(&length)),
        char(if pseudo { 'p' } else { 'b' }),
        char(category(ty)),
        yes(ty.is_preferred()),
        yes(true),
        char(','),
        oid(0),
        oid(0),
        oid(ty.element().map_or(0, Type::oid)),
        oid(ty.array_oid()),
    ];
    row.extend(std::iter::repeat_n(oid(0), 7));
    row.extend([
        char(align),
        char(if length < 0 { 'x' } else { 'p' }),
        yes(false),
        oid(0),
        int4(-1),
        int4(0),
        oid(collation(ty)),
        Value::Null,
        Value::Null,
        Value::Null,
    ]);
    row
}

fn pg_type(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let arrays = Type::all().filter(|ty| ty.array_oid() != 0).map(Type::array_of);
    Ok(Type::all().chain(arrays).map(|ty| type_row(&ty)).collect())
}

fn pg_am(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    Ok(vec![
        vec![oid(super::row::HEAP), text("heap"), oid(0), char('t')],
        vec![oid(super::row::BTREE), text("btree"), oid(0), char('i')],
    ])
}

fn pg_database(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    Ok(vec![vec![
        oid(DATABASE),
        text(context.database),
        oid(ROOT),
        int4(6),
        char('c'),
        yes(false),
        yes(true),
        int4(-1),
        Value::Int8(0),
        Value::Int8(0),
        oid(DEFAULT_TABLESPACE),
        text("C"),
        text("C"),
        Value::Null,
        Value::Null,
        Value::Null,
    ]])
}

/// The roles that a statement can know of: the first one and its own.
fn roles(context: &EvalContext<'_>) -> Vec<(u32, String)> {
    let mut roles = vec![(ROOT, "root".to_string())];
    if context.session_user != "root" {
        roles.push((ROOT + 1, context.session_user.to_string()));
    }
    roles
}

fn pg_roles(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(id, name): (u32, String)| {
        let root = id == ROOT;
        vec![
            text(name),
            yes(root),
            yes(true),
            yes(root),
            yes(root),
            yes(true),
            yes(false),
            int4(-1),
            text("********"),
            Value::Null,
            yes(root),
            Value::Null,
            oid(id),
        ]
    };
    Ok(roles(context).into_iter().map(row).collect())
}

fn pg_authid(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(id, name): (u32, String)| {
        let root = id == ROOT;
        vec![
            oid(id),
            text(name),
            yes(root),
            yes(true),
            yes(root),
            yes(root),
            yes(true),
            yes(false),
            yes(root),
            int4(-1),
            Value::Null,
            Value::Null,
        ]
    };
    Ok(roles(context).into_iter().map(row).collect())
}

fn pg_user(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(id, name): (u32, String)| {
        let root = id == ROOT;
        vec![
            text(name),
            oid(id),
            yes(root),
            yes(root),
            yes(false),
            yes(root),
            text("********"),
            Value::Null,
            Value::Null,
        ]
    };
    Ok(roles(context).into_iter().map(row).collect())
}

/// The settings that programs ask for by query; `SHOW` and `current_setting` know every other as well.
const SETTINGS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "extra_float_digits",
    "integer_datetimes",
    "intervalstyle",
    "lc_collate",
    "max_identifier_length",
    "max_index_keys",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_isolation",
];

fn pg_settings(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |name: &&str| {
        let value = context.settings.get(name)?;
        let mut row = vec![text(name), text(&value), Value::Null, text("Rockpool"), text(name), Value::Null];
        row.extend([text("user"), text("string"), text("session"), Value::Null, Value::Null, Value::Null]);
        row.extend([text(&value), text(&value), Value::Null, Value::Null, yes(false)]);
        Some(row)
    };
    Ok(SETTINGS.iter().filter_map(row).collect())
}

fn pg_proc(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |(at, (name, kind, arguments)): (usize, (&str, Kind, usize))| {
        vec![
            oid(14_000 + at as u32),
            text(name),
            oid(11),
            oid(ROOT),
            oid(12),
            Value::Float4(1.0),
            Value::Float4(if kind == Kind::Set { 1000.0 } else { 0.0 }),
            oid(0),
            oid(0),
            char(if kind == Kind::Aggregate { 'a' } else { 'f' }),
            yes(false),
            yes(false),
            yes(false),
            yes(kind == Kind::Set),
            char('s'),
            char('s'),
            int2(arguments),
            int2(0),
            oid(0),
            vector(Type::Oid, Vec::new()),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            text(name),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    };
    Ok(all_functions().enumerate().map(row).collect())
}

fn pg_collation(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let row = |id: u32, name: &str, provider: char| {
        let mut row = vec![oid(id), text(name), oid(11), oid(ROOT), char(provider), yes(true), int4(-1)];
        row.extend([text("C"), text("C"), Value::Null, Value::Null]);
        row
    };
    Ok(vec![row(DEFAULT_COLLATION, "default", 'd'), row(C_COLLATION, "C", 'c'), row(951, "POSIX", 'c')])
}

fn pg_tablespace(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    Ok(vec![vec![oid(DEFAULT_TABLESPACE), text("pg_default"), oid(ROOT), Value::Null, Value::Null]])
}

fn pg_language(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut row = vec![oid(12), text("internal"), oid(ROOT), yes(false), yes(false)];
    row.extend([oid(0), oid(0), oid(0), Value::Null]);
    Ok(vec![row])
}

/// The session that asks: others are in the metrics and the console.
fn pg_stat_activity(_: &Catalog, context: &EvalContext<'_>) -> Result<Vec<Row>> {
    let mut row = vec![
        oid(DATABASE),
        text(context.database),
        int4(context.backend_pid),
        Value::Null,
        oid(ROOT),
        text(context.session_user),
        text(context.settings.get("application_name").unwrap_or_default()),
    ];
    row.extend(std::iter::repeat_n(Value::Null, 3));
    row.extend([Value::Null, Value::Timestamptz(context.transaction_time), Value::Timestamptz(context.statement_time)]);
    row.extend([Value::Timestamptz(context.statement_time), Value::Null, Value::Null, text("active")]);
    row.extend(std::iter::repeat_n(Value::Null, 4));
    row.push(text("client backend"));
    Ok(vec![row])
}
