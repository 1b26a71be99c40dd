//! Bind and Describe: values for a prepared statement, and what it takes and returns.

use rockpool_proto::limits::PG_PREPARED_MAX;
use rockpool_sql::types::{SECOND_MICROS, TextContext, UNIX_OFFSET_SECONDS};
use rockpool_sql::{Column, SqlError, SqlState, StatementKind};

use super::connection::{Connection, no_portal, no_statement, text_columns};
use super::encoding::{Format, decode};
use super::frontend::{Bind, Target};
use super::portal::{Portal, PortalState};
use crate::session::PreparedStatement;

impl Connection {
    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), SqlError> {
        let Some(statement) = self.statements.get(&bind.statement).cloned() else {
            return Err(no_statement(&bind.statement));
        };
        if let Some(parsed) = &statement.statement {
            self.refuse_if_failed(parsed.kind())?;
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            let message = format!("portal \"{}\" already exists", bind.portal);
            return Err(SqlError::new(SqlState::DUPLICATE_CURSOR, message));
        }
        if self.portals.len() >= PG_PREPARED_MAX {
            let message = format!("a session may hold {PG_PREPARED_MAX} portals");
            return Err(SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        let types = statement.prepared.as_ref().map_or(&[][..], |prepared| prepared.params());
        if types.len() != bind.params.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                bind.params.len(),
                bind.statement,
                types.len()
            );
            return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let formats = spread(&bind.param_formats, types.len(), "parameter")?;
        let mut params = Vec::with_capacity(types.len());
        let names = statement.prepared.as_ref().map(|prepared| prepared.names(self.session.info()));
        let mut context = TextContext {
            time_zone: self.session.time_zone(),
            now: self.session.info().transaction_time_us - UNIX_OFFSET_SECONDS * SECOND_MICROS,
            ..TextContext::utc()
        };
        if let Some(names) = &names {
            // A parameter of a type such as `regclass` may be a name.
            context.catalog = &**names;
        }
        for (index, (bytes, ty)) in bind.params.iter().zip(types).enumerate() {
            params.push(match bytes {
                None => rockpool_sql::Value::Null,
                Some(bytes) => decode(bytes, ty, formats[index], &context).map_err(|error| {
                    let detail = format!("parameter ${} of type {ty}", index + 1);
                    if error.detail.is_some() { error } else { error.with_detail(detail) }
                })?,
            });
        }
        drop(names);
        let columns = columns_of(&statement).map_or(0, |columns| columns.len());
        let formats = spread(&bind.result_formats, columns, "result column")?;
        self.portals.insert(bind.portal, Portal { statement, params, formats, state: PortalState::Ready });
        self.output.bind_complete();
        Ok(())
    }

    pub(super) fn describe(&mut self, target: Target, name: &str) -> Result<(), SqlError> {
        let (statement, formats) = match target {
            Target::Statement => {
                let statement = self.statements.get(name).ok_or_else(|| no_statement(name))?;
                let types = statement.prepared.as_ref().map_or(&[][..], |prepared| prepared.params());
                self.output.parameter_description(types);
                (statement, &[][..])
            }
            Target::Portal => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                (&portal.statement, &portal.formats[..])
            }
        };
        match columns_of(statement) {
            Some(columns) => self.output.row_description(&columns, formats),
            None => self.output.no_data(),
        }
        Ok(())
    }
}

/// What a statement returns.
pub(super) fn columns_of(statement: &PreparedStatement) -> Option<Vec<Column>> {
    if let Some(prepared) = &statement.prepared {
        return prepared.columns().map(<[Column]>::to_vec);
    }
    match statement.statement.as_ref()?.kind() {
        StatementKind::Show(name) if name == "all" => Some(text_columns(&["name", "setting", "description"])),
        StatementKind::Show(name) => Some(text_columns(&[name])),
        _ => None,
    }
}

/// One format for each of `count`: none given means text, one given holds for all.
fn spread(codes: &[i16], count: usize, what: &str) -> Result<Vec<Format>, SqlError> {
    let formats = codes.iter().map(|code| Format::from_code(*code)).collect::<Result<Vec<_>, _>>()?;
    match formats[..] {
        [] => Ok(vec![Format::Text; count]),
        [one] => Ok(vec![one; count]),
        _ if formats.len() == count => Ok(formats),
        _ => Err(SqlError::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("bind message has {} {what} formats but {count} {what}s", formats.len()),
        )),
    }
}
