//! CREATE TABLE.

use sqlparser::ast::{self, ColumnOption};

use super::{Ddl, new_ident};
use crate::bind::{Binder, bind_type};
use crate::catalog::{Identity, Index, TABLE_COLUMNS_MAX, Table, TableColumn};
use crate::error::{Result, SqlError, SqlState};
use crate::exec::quote_name;
use crate::kind::name_parts;
use crate::types::Type;

/// The hidden column of a table without primary key.
const ROW_ID: &str = "rowid";

impl Ddl<'_> {
    pub(super) fn create_table(&mut self, create: &ast::CreateTable) -> Result<&'static str> {
        refuse_extras(create)?;
        let Some((schema, name)) = self.new_name(&create.name, create.if_not_exists)? else {
            return Ok("CREATE TABLE");
        };
        let owner = self.runtime.session.user.clone();
        let mut table = Table {
            id: self.writer.new_id(),
            schema,
            name,
            columns: vec![],
            indexes: vec![],
            foreign_keys: vec![],
            checks: vec![],
            owner,
        };
        // The primary index comes first in the list, whatever is declared first.
        table.indexes.push(Index {
            id: self.writer.new_id(),
            name: String::new(),
            columns: vec![],
            unique: true,
            primary: true,
            constraint: false,
            predicate: None,
        });
        for column in &create.columns {
            self.add_column(&mut table, column)?;
        }
        for column in &create.columns {
            self.column_constraints(&mut table, column)?;
        }
        for constraint in &create.constraints {
            self.table_constraint(&mut table, constraint)?;
        }
        if table.indexes[0].columns.is_empty() {
            table.indexes[0].columns = vec![table.columns.len()];
            table.indexes[0].name = format!("{}_rowid", table.name);
            table.columns.push(TableColumn {
                name: ROW_ID.to_string(),
                ty: Type::Int8,
                not_null: true,
                default: None,
                identity: None,
                dropped: false,
                hidden: true,
            });
        }
        self.writer.put_table(&table)?;
        Ok("CREATE TABLE")
    }

    /// Adds a column with its type, default and NOT NULL; other constraints follow when all columns are there.
    pub(super) fn add_column(&mut self, table: &mut Table, def: &ast::ColumnDef) -> Result<()> {
        let place = self.source.position(def.name.span.start);
        let name = new_ident(&def.name).map_err(|error| error.at(place))?;
        if table.columns.len() >= TABLE_COLUMNS_MAX {
            let message = format!("tables can have at most {TABLE_COLUMNS_MAX} columns");
            return Err(SqlError::new(SqlState::TOO_MANY_COLUMNS, message).at(place));
        }
        if table.column(&name).is_some() {
            let message = format!("column \"{name}\" specified more than once");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(place));
        }
        if crate::catalog::is_system_column(&name) {
            let message = format!("column name \"{name}\" conflicts with a system column name");
            return Err(SqlError::new(SqlState::DUPLICATE_COLUMN, message).at(place));
        }
        let mut column = TableColumn {
            name,
            ty: Type::Text,
            not_null: false,
            default: None,
            identity: None,
            dropped: false,
            hidden: false,
        };
        let serial = serial_type(&def.data_type);
        column.ty = match &serial {
            Some(ty) => ty.clone(),
            None => bind_type(&def.data_type).map_err(|error| error.at(place))?,
        };
        let at = table.columns.len();
        if serial.is_some() {
            column.not_null = true;
            column.default = Some(self.owned_sequence(table, &column, at, &[])?);
        }
        for option in &def.options {
            match &option.option {
                ColumnOption::NotNull => column.not_null = true,
                ColumnOption::Default(expr) => column.default = Some(expr.to_string()),
                ColumnOption::Generated { generated_as, sequence_options, generation_expr: None, .. } => {
                    column.identity = Some(match generated_as {
                        ast::GeneratedAs::Always => Identity::Always,
                        ast::GeneratedAs::ByDefault => Identity::ByDefault,
                        ast::GeneratedAs::ExpStored => {
                            return Err(SqlError::unsupported("a generated column").at(place));
                        }
                    });
                    column.not_null = true;
                    let options = sequence_options.as_deref().unwrap_or_default();
                    column.default = Some(self.owned_sequence(table, &column, at, options)?);
                }
                _ => {}
            }
        }
        if let Some(default) = &column.default {
            self.check_default(table, default, &column)?;
        }
        table.columns.push(column);
        Ok(())
    }

    /// Binds a default to see that it fits, where that can be seen before the sequence exists.
    pub(super) fn check_default(&mut self, _table: &Table, default: &str, column: &TableColumn) -> Result<()> {
        let mut binder = Binder::new(self.catalog, self.runtime.session, self.runtime, self.source, &[]);
        let bound = binder.bind_stored(default, None, &column.ty).map_err(|mut error| {
            // The position is one in the default's own text.
            error.position = None;
            if error.state == SqlState::UNDEFINED_COLUMN {
                error.state = SqlState::FEATURE_NOT_SUPPORTED;
                error.message = "cannot use column reference in DEFAULT expression".to_string();
            }
            error
        })?;
        if bound.has_subquery() {
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, "cannot use subquery in DEFAULT expression"));
        }
        Ok(())
    }

    /// Makes the sequence that numbers a column; returns the column's default.
    fn owned_sequence(
        &mut self,
        table: &Table,
        column: &TableColumn,
        at: usize,
        options: &[ast::SequenceOptions],
    ) -> Result<String> {
        let base = format!("{}_{}_seq", table.name, column.name);
        let taken: Vec<String> =
            self.made.iter().map(|sequence| &sequence.name).chain([&table.name]).cloned().collect();
        let name = self.catalog.free_name(&table.schema, &base, &taken);
        let mut sequence = self.sequence(table.schema.clone(), name, &column.ty, options)?;
        sequence.owned_by = Some((table.id, at));
        self.writer.put_sequence(&sequence, self.runtime.nonce())?;
        let name = format!("{}.{}", quote_name(&sequence.schema), quote_name(&sequence.name));
        self.made.push(sequence);
        Ok(format!("nextval('{}'::regclass)", name.replace('\'', "''")))
    }
}

/// The integer type behind `serial` and its like.
fn serial_type(ty: &ast::DataType) -> Option<Type> {
    let ast::DataType::Custom(name, modifiers) = ty else { return None };
    let parts = name_parts(name).ok()?;
    match (parts.as_slice(), modifiers.is_empty()) {
        ([name], true) => match name.as_str() {
            "serial" | "serial4" => Some(Type::Int4),
            "bigserial" | "serial8" => Some(Type::Int8),
            "smallserial" | "serial2" => Some(Type::Int2),
            _ => None,
        },
        _ => None,
    }
}

/// True for what tells PostgreSQL how to lay out its pages or when to clean them up, which means nothing here.
pub(super) fn is_storage_option(option: &ast::SqlOption) -> bool {
    let ast::SqlOption::KeyValue { key, .. } = option else { return false };
    let key = key.value.to_lowercase();
    matches!(key.as_str(), "fillfactor" | "parallel_workers" | "toast_tuple_target" | "deduplicate_items")
        || key.starts_with("autovacuum_")
        || key.starts_with("vacuum_")
}

/// The parser takes the table options of many dialects; none may be passed over in silence.
fn refuse_extras(create: &ast::CreateTable) -> Result<()> {
    let options = match &create.table_options {
        ast::CreateTableOptions::None => false,
        ast::CreateTableOptions::With(options) => !options.iter().all(is_storage_option),
        _ => true,
    };
    let extras = [
        (create.temporary || create.transient || create.volatile, "a temporary table"),
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (create.external || create.dynamic || create.iceberg, "this kind of table"),
        (create.query.is_some(), "CREATE TABLE AS"),
        (create.like.is_some() || create.clone.is_some(), "CREATE TABLE LIKE"),
        (create.inherits.is_some() || create.partition_of.is_some(), "inheritance and partitions"),
        (create.partition_by.is_some() || create.for_values.is_some(), "partitions"),
        (create.on_commit.is_some() || create.without_rowid || create.strict, "this table option"),
        (options || create.comment.is_some() || create.order_by.is_some(), "this table option"),
        (create.primary_key.is_some() || create.cluster_by.is_some(), "this table option"),
        (create.clustered_by.is_some() || create.location.is_some(), "this table option"),
    ];
    match extras.iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(SqlError::unsupported(what)),
        None => Ok(()),
    }
}
