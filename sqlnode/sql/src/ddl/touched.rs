//! What a schema change would touch, told before it runs.
//!
//! Names are looked up as the change itself looks them up: over the same catalog, with the search path of the session
//! that runs it. What can't be found is left out, for the change will fail on it, or pass over it.

use sqlparser::ast::{self, AlterTableOperation, ColumnOption, ObjectType, Statement as Ast, TableConstraint};

use crate::catalog::{Catalog, PG_CATALOG, Relation};
use crate::kind::name_parts;
use crate::prepare::Touched;
use crate::session::{SessionInfo, search_path};

struct Found<'a> {
    catalog: &'a Catalog,
    path: Vec<String>,
    touched: Vec<Touched>,
}

/// The relations that a schema change makes, changes, drops or points a foreign key at. A schema has no relation's name.
pub(crate) fn touched(statement: &Ast, catalog: &Catalog, session: &SessionInfo) -> Vec<Touched> {
    let mut found = Found { catalog, path: search_path(session), touched: vec![] };
    match statement {
        Ast::CreateTable(create) => {
            found.made(&create.name);
            create.columns.iter().for_each(|column| found.column(column));
            create.constraints.iter().for_each(|constraint| found.constraint(constraint));
        }
        Ast::CreateIndex(create) => found.there(&create.table_name),
        Ast::AlterTable(alter) => {
            found.there(&alter.name);
            for operation in &alter.operations {
                match operation {
                    AlterTableOperation::AddColumn { column_def, .. } => found.column(column_def),
                    AlterTableOperation::AddConstraint { constraint, .. } => found.constraint(constraint),
                    _ => {}
                }
            }
        }
        Ast::AlterIndex { name, .. } => found.there(name),
        Ast::CreateSchema { schema_name: ast::SchemaName::Simple(name), .. } => found.schema(name),
        Ast::CreateSequence { name, .. } => found.made(name),
        Ast::Comment { object_type: ast::CommentObject::Schema, object_name, .. } => found.schema(object_name),
        Ast::Comment { object_type: ast::CommentObject::Column, object_name, .. } => {
            let mut table = object_name.clone();
            table.0.pop();
            found.there(&table);
        }
        Ast::Comment { object_name, .. } => found.there(object_name),
        Ast::Truncate(truncate) => truncate.table_names.iter().for_each(|target| found.there(&target.name)),
        Ast::Drop { object_type: ObjectType::Schema, names, .. } => names.iter().for_each(|name| found.schema(name)),
        Ast::Drop { names, .. } => names.iter().for_each(|name| found.there(name)),
        _ => {}
    }
    found.touched
}

impl Found<'_> {
    fn add(&mut self, schema: &str, name: &str) {
        self.touched.push(Touched { schema: schema.to_owned(), name: name.to_owned(), change: true });
    }

    fn schema(&mut self, name: &ast::ObjectName) {
        if let Ok(parts) = name_parts(name) {
            self.add(&parts.join("."), "");
        }
    }

    /// Something that is to exist already.
    fn there(&mut self, name: &ast::ObjectName) {
        let Ok(parts) = name_parts(name) else { return };
        match self.catalog.find(&parts, &self.path) {
            Ok(Some(Relation::Table(table) | Relation::Index(table, _))) => self.add(&table.schema, &table.name),
            Ok(Some(Relation::Sequence(sequence))) => self.add(&sequence.schema, &sequence.name),
            Ok(None) | Err(_) => {}
        }
    }

    /// Something new.
    fn made(&mut self, name: &ast::ObjectName) {
        let Ok(parts) = name_parts(name) else { return };
        let path: Vec<String> = self.path.iter().filter(|schema| *schema != PG_CATALOG).cloned().collect();
        if let Ok((schema, name)) = self.catalog.creation_place(&parts, &path) {
            self.add(&schema, &name);
        }
    }

    fn column(&mut self, column: &ast::ColumnDef) {
        for option in &column.options {
            if let ColumnOption::ForeignKey(key) = &option.option {
                self.there(&key.foreign_table);
            }
        }
    }

    fn constraint(&mut self, constraint: &TableConstraint) {
        if let TableConstraint::ForeignKey(key) = constraint {
            self.there(&key.foreign_table);
        }
    }
}
