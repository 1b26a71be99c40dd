//! What programs ask about the server, the session and the catalog.

use super::registry::{Call, Entry};
use super::values::{boolean, int, numeric, text};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Type, Value};

/// The PostgreSQL whose language and catalog this is.
const SERVER_VERSION: &str = "15.0";
fn version(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::text(format!("PostgreSQL {SERVER_VERSION} (Rockpool {})", env!("CARGO_PKG_VERSION"))))
}

fn name(text: impl AsRef<str>) -> Result<Value> {
    Ok(Value::text(text))
}

fn current_schema(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(visible_schemas(call).next().map_or(Value::Null, Value::text))
}

/// The schemas of the search path that exist.
fn visible_schemas<'a>(call: &'a Call<'_>) -> impl Iterator<Item = &'a str> {
    let path = call.context.search_path.iter().map(String::as_str);
    path.filter(|name| call.context.catalog.schema_oid(name).is_some())
}

fn current_schemas(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let implicit = boolean(&a[0]).then_some("pg_catalog");
    let schemas = implicit.into_iter().chain(visible_schemas(call));
    Ok(Value::array(Type::Name, schemas.map(Value::text).collect()))
}

fn role_name(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let oid = int(&a[0]) as u32;
    name(call.context.catalog.role_name(oid).unwrap_or_else(|| format!("unknown (OID={oid})")))
}

fn format_type(a: &[Value], _: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Ok(Value::Null);
    }
    let typmod = if a[1].is_null() { -1 } else { int(&a[1]) as i32 };
    let oid = int(&a[0]) as u32;
    name(match Type::from_oid(oid, typmod) {
        Some(Type::Char(None)) if a[1].is_null() => "character".to_string(),
        Some(ty) => ty.to_string(),
        None if oid == 0 => "-".to_string(),
        None => "???".to_string(),
    })
}

fn table_is_visible(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(call.context.catalog.relation_is_visible(int(&a[0]) as u32).map_or(Value::Null, Value::Bool))
}

fn yes(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(true))
}

fn no(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Bool(false))
}

fn null(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Null)
}

fn zero(_: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Value::Int4(0))
}

/// Expressions are kept as text, so there is nothing to turn back.
fn expression(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(a[0].clone())
}

fn optional(found: Option<String>) -> Result<Value> {
    Ok(found.map_or(Value::Null, Value::text))
}

fn index_definition(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let column = a.get(1).map_or(0, int) as i32;
    optional(call.context.catalog.index_definition(int(&a[0]) as u32, column))
}

fn comment(a: &[Value], call: &Call<'_>) -> Result<Value> {
    optional(call.context.catalog.comment(int(&a[0]) as u32, 0))
}

fn column_comment(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let column = u32::try_from(int(&a[1])).ok().filter(|column| *column > 0);
    optional(column.and_then(|column| call.context.catalog.comment(int(&a[0]) as u32, column)))
}

fn constraint_definition(a: &[Value], call: &Call<'_>) -> Result<Value> {
    optional(call.context.catalog.constraint_definition(int(&a[0]) as u32))
}

fn relation_size(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(call.context.catalog.relation_size(int(&a[0]) as u32).map_or(Value::Null, Value::Int8))
}

fn to_regclass(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(call.context.catalog.relation_oid(text(&a[0])).map_or(Value::Null, Value::Oid))
}

fn to_regtype(a: &[Value], _: &Call<'_>) -> Result<Value> {
    Ok(Type::by_name(text(&a[0])).map_or(Value::Null, |ty| Value::Oid(ty.oid())))
}

fn to_regnamespace(a: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(call.context.catalog.schema_oid(text(&a[0])).map_or(Value::Null, Value::Oid))
}

/// Bytes as people read them: below ten units of a kind the smaller kind is shown.
fn size_pretty(a: &[Value], _: &Call<'_>) -> Result<Value> {
    let mut size = numeric(&a[0]).round(0)?.to_i64().unwrap_or(i64::MAX);
    for unit in ["bytes", "kB", "MB", "GB", "TB"] {
        if size.unsigned_abs() < 10 * 1024 || unit == "TB" {
            return name(format!("{size} {unit}"));
        }
        // Half a unit is rounded away from zero.
        size = size.saturating_add(512 * size.signum()) / 1024;
    }
    name(format!("{size} PB"))
}

fn unrecognized(setting: &str) -> SqlError {
    SqlError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{setting}\""))
}

fn current_setting(a: &[Value], call: &Call<'_>) -> Result<Value> {
    let setting = text(&a[0]);
    let missing_ok = a.get(1).is_some_and(boolean);
    match call.context.settings.get(&setting.to_ascii_lowercase()) {
        Some(value) => name(value),
        None if missing_ok => Ok(Value::Null),
        None => Err(unrecognized(setting)),
    }
}

fn set_config(a: &[Value], call: &Call<'_>) -> Result<Value> {
    if a[0].is_null() {
        return Err(SqlError::new(SqlState::NULL_VALUE_NOT_ALLOWED, "SET requires parameter name"));
    }
    let value = a[1].as_str().unwrap_or("");
    name(call.context.settings.set(&text(&a[0]).to_ascii_lowercase(), value, boolean(&a[2]))?)
}

fn encoding_name(a: &[Value], _: &Call<'_>) -> Result<Value> {
    name(if int(&a[0]) == 6 { "UTF8" } else { "" })
}

fn random_uuid(_: &[Value], call: &Call<'_>) -> Result<Value> {
    let mut bytes = [0; 16];
    call.context.random.fill(&mut bytes);
    Ok(Value::Uuid(uuid::Builder::from_random_bytes(bytes).into_uuid()))
}

fn transaction_id(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Int8(call.context.transaction_time))
}

fn start_time(_: &[Value], call: &Call<'_>) -> Result<Value> {
    Ok(Value::Timestamptz(call.context.transaction_time))
}

fn nulls(a: &[Value], wanted: bool) -> Result<Value> {
    let count = a.iter().filter(|value| value.is_null() == wanted).count();
    Ok(Value::Int4(count as i32))
}

pub(super) const FUNCTIONS: &[Entry] = &[
    Entry::scalar("version", "", "text", version).stable(),
    Entry::scalar("current_database", "", "name", |_, call| name(call.context.database)).stable(),
    Entry::scalar("current_catalog", "", "name", |_, call| name(call.context.database)).stable(),
    Entry::scalar("current_schema", "", "name", current_schema).stable(),
    Entry::scalar("current_schemas", "bool", "name[]", current_schemas).stable(),
    Entry::scalar("current_user", "", "name", |_, call| name(call.context.user)).stable(),
    Entry::scalar("current_role", "", "name", |_, call| name(call.context.user)).stable(),
    Entry::scalar("user", "", "name", |_, call| name(call.context.user)).stable(),
    Entry::scalar("session_user", "", "name", |_, call| name(call.context.session_user)).stable(),
    Entry::scalar("pg_backend_pid", "", "int4", |_, call| Ok(Value::Int4(call.context.backend_pid))).stable(),
    Entry::scalar("pg_get_userbyid", "oid", "name", role_name).stable(),
    Entry::scalar("format_type", "oid int4", "text", format_type).stable().with_nulls(),
    Entry::scalar("pg_table_is_visible", "oid", "bool", table_is_visible).stable(),
    Entry::scalar("pg_type_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_function_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_opclass_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_operator_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_collation_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_statistics_obj_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_get_expr", "text oid", "text", expression).stable(),
    Entry::scalar("pg_get_expr", "text oid bool", "text", expression).stable(),
    Entry::scalar("pg_get_indexdef", "oid", "text", index_definition).stable(),
    Entry::scalar("pg_get_indexdef", "oid int4 bool", "text", index_definition).stable(),
    Entry::scalar("pg_get_constraintdef", "oid", "text", constraint_definition).stable(),
    Entry::scalar("pg_get_constraintdef", "oid bool", "text", constraint_definition).stable(),
    Entry::scalar("pg_get_viewdef", "oid", "text", null).stable(),
    Entry::scalar("pg_get_viewdef", "oid bool", "text", null).stable(),
    Entry::scalar("pg_get_triggerdef", "oid", "text", null).stable(),
    Entry::scalar("pg_get_triggerdef", "oid bool", "text", null).stable(),
    Entry::scalar("pg_get_ruledef", "oid", "text", null).stable(),
    Entry::scalar("pg_get_ruledef", "oid bool", "text", null).stable(),
    Entry::scalar("pg_get_partkeydef", "oid", "text", null).stable(),
    Entry::scalar("pg_get_statisticsobjdef_columns", "oid", "text", null).stable(),
    Entry::scalar("pg_get_serial_sequence", "text text", "text", null).stable(),
    Entry::scalar("pg_get_function_result", "oid", "text", null).stable(),
    Entry::scalar("pg_get_function_arguments", "oid", "text", null).stable(),
    Entry::scalar("pg_get_function_identity_arguments", "oid", "text", null).stable(),
    Entry::scalar("pg_relation_is_publishable", "regclass", "bool", no).stable(),
    Entry::scalar("pg_relation_is_updatable", "regclass bool", "int4", zero).stable(),
    Entry::scalar("pg_is_in_recovery", "", "bool", no).stable(),
    Entry::scalar("pg_is_other_temp_schema", "oid", "bool", no).stable(),
    Entry::scalar("pg_my_temp_schema", "", "oid", |_, _| Ok(Value::Oid(0))).stable(),
    Entry::scalar("obj_description", "oid name", "text", comment).stable(),
    Entry::scalar("obj_description", "oid", "text", comment).stable(),
    Entry::scalar("col_description", "oid int4", "text", column_comment).stable(),
    Entry::scalar("shobj_description", "oid name", "text", null).stable(),
    Entry::scalar("pg_relation_size", "regclass", "int8", relation_size).stable(),
    Entry::scalar("pg_table_size", "regclass", "int8", relation_size).stable(),
    Entry::scalar("pg_total_relation_size", "regclass", "int8", relation_size).stable(),
    Entry::scalar("pg_indexes_size", "regclass", "int8", relation_size).stable(),
    Entry::scalar("pg_database_size", "name", "int8", null).stable(),
    Entry::scalar("pg_database_size", "oid", "int8", null).stable(),
    Entry::scalar("pg_tablespace_size", "oid", "int8", null).stable(),
    Entry::scalar("pg_tablespace_location", "oid", "text", |_, _| name("")).stable(),
    Entry::scalar("pg_size_pretty", "int8", "text", size_pretty),
    Entry::scalar("pg_size_pretty", "numeric", "text", size_pretty),
    Entry::scalar("to_regclass", "text", "regclass", to_regclass).stable(),
    Entry::scalar("to_regtype", "text", "regtype", to_regtype).stable(),
    Entry::scalar("to_regnamespace", "text", "regnamespace", to_regnamespace).stable(),
    Entry::scalar("has_table_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("has_table_privilege", "any any text", "bool", yes).stable(),
    Entry::scalar("has_any_column_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("has_column_privilege", "any any text", "bool", yes).stable(),
    Entry::scalar("has_schema_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("has_schema_privilege", "any any text", "bool", yes).stable(),
    Entry::scalar("has_database_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("has_database_privilege", "any any text", "bool", yes).stable(),
    Entry::scalar("has_function_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("has_sequence_privilege", "any text", "bool", yes).stable(),
    Entry::scalar("pg_has_role", "any text", "bool", yes).stable(),
    Entry::scalar("pg_has_role", "any any text", "bool", yes).stable(),
    Entry::scalar("current_setting", "text", "text", current_setting).stable(),
    Entry::scalar("current_setting", "text bool", "text", current_setting).stable(),
    Entry::scalar("set_config", "text text bool", "text", set_config).volatile().with_nulls(),
    // Nobody can take one.
    Entry::scalar("pg_advisory_unlock_all", "", "void", |_, _| Ok(Value::text(""))).volatile(),
    Entry::scalar("pg_encoding_to_char", "int4", "name", encoding_name).stable(),
    Entry::scalar("pg_char_to_encoding", "name", "int4", |_, _| Ok(Value::Int4(6))).stable(),
    Entry::scalar("pg_ts_config_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_ts_dict_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_conversion_is_visible", "oid", "bool", yes).stable(),
    Entry::scalar("pg_client_encoding", "", "name", |_, _| name("UTF8")).stable(),
    Entry::scalar("getdatabaseencoding", "", "name", |_, _| name("UTF8")).stable(),
    Entry::scalar("gen_random_uuid", "", "uuid", random_uuid).volatile(),
    Entry::scalar("txid_current", "", "int8", transaction_id).stable(),
    Entry::scalar("pg_postmaster_start_time", "", "timestamptz", start_time).stable(),
    Entry::scalar("pg_conf_load_time", "", "timestamptz", start_time).stable(),
    Entry::scalar("inet_server_addr", "", "text", null).stable(),
    Entry::scalar("inet_server_port", "", "int4", null).stable(),
    Entry::scalar("inet_client_addr", "", "text", null).stable(),
    Entry::scalar("inet_client_port", "", "int4", null).stable(),
    Entry::scalar("pg_stat_get_numscans", "oid", "int8", |_, _| Ok(Value::Int8(0))).stable(),
    Entry::scalar("num_nulls", "variadic any", "int4", |a, _| nulls(a, true)).with_nulls(),
    Entry::scalar("num_nonnulls", "variadic any", "int4", |a, _| nulls(a, false)).with_nulls(),
];
