//! The binder: from syntax to plans. Every name is resolved, every type decided, everything not understood refused.
//!
//! ```text
//!   scope    names that can be seen
//!   types    names of types
//!   expr     expressions          call     functions, aggregates      nested   rows, arrays, subqueries
//!   from     FROM, joins          select   one SELECT       query   WITH, set operations, ORDER BY, LIMIT
//!   dml      INSERT, UPDATE, DELETE
//! ```
//!
//! Literals in quotes and parameters begin without a type and take that of what they meet. Whatever a parameter met first
//! decides; one that meets nothing is text.

mod call;
mod dml;
mod expr;
mod from;
mod nested;
mod query;
mod scope;
mod select;
mod types;

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Span;

pub(crate) use dml::{ConflictAction, Delete, Insert, OnConflict, RowChecks, Update};
pub(crate) use types::bind_type;

use crate::catalog::{Catalog, Table};
use crate::error::{Result, SqlError, SqlState};
use crate::exec::Runtime;
use crate::parse::Source;
use crate::plan::{ColumnId, Expr, OnceNumbers, Plan, Position, Recursion};
use crate::prepare::{Column, Touched};
use crate::session::SessionInfo;
use crate::types::{CastContext, Type, Value};
use scope::{Scope, ScopeColumn, ScopeTable};

/// Subqueries within subqueries within ...: each costs stack when it runs.
const QUERY_DEPTH_MAX: usize = 32;
/// Parameters of a statement, as the wire protocol counts them.
const PARAMS_MAX: usize = 65_535;
/// WITH queries of a statement; one that mentions another twice, and so on, would otherwise double them each time.
const CTES_BOUND_MAX: usize = 1_000;

/// A column of a query's result.
#[derive(Clone, Debug)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) id: ColumnId,
    pub(crate) ty: Type,
    pub(crate) source: Option<(u32, i16)>,
}

impl OutputColumn {
    pub(crate) fn public(&self) -> Column {
        let (table_oid, column_number) = self.source.unwrap_or((0, 0));
        Column { name: self.name.clone(), ty: self.ty.clone(), table_oid, column_number }
    }
}

/// A bound query: its plan yields exactly the columns, in order.
#[derive(Clone, Debug)]
pub(crate) struct BoundQuery {
    pub(crate) plan: Plan,
    pub(crate) columns: Vec<OutputColumn>,
}

/// A WITH query that names may refer to.
#[derive(Clone)]
struct Cte {
    name: String,
    /// Its rows may be kept: nothing outside its own query level can be in it.
    query: sqlparser::ast::Query,
    aliases: Vec<String>,
    /// The query planned, when its rows are computed once.
    shared: Option<SharedCte>,
    /// WITH queries that it can see itself.
    visible: usize,
}

/// A WITH query that reads no outer row.
#[derive(Clone)]
struct SharedCte {
    number: usize,
    rows: SharedRows,
    columns: Vec<OutputColumn>,
}

/// Where the rows of such a query come from.
#[derive(Clone)]
enum SharedRows {
    /// They are computed once.
    Plan {
        plan: std::sync::Arc<Plan>,
        /// How many there may be.
        estimate: f64,
    },
    /// They follow from each other.
    Recursion(std::sync::Arc<Recursion>),
    /// It is being bound, and mentioned in its own recursive part; so deep, and no deeper, may that be.
    Work { depth: usize },
}

pub(crate) struct Binder<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) session: &'a SessionInfo,
    runtime: &'a Runtime<'a>,
    source: &'a Source,
    params: Vec<Type>,
    next_column: u32,
    next_cte: usize,
    /// WITH queries bound so far, each time that one is: those that read outer rows are bound at every mention.
    ctes_bound: usize,
    /// Recursive queries, by number, that mention themselves.
    recursive: std::collections::BTreeSet<usize>,
    /// Numbers for what the statement computes once.
    pub(crate) once: OnceNumbers,
    /// The query levels around, the innermost last.
    scopes: Vec<Scope>,
    ctes: Vec<Cte>,
    /// Aggregates found at the level at hand; `None` where they are not allowed, with the clause's name.
    aggregates: Aggregates,
    depth: usize,
    /// Set-returning functions found in the select list at hand; `None` where they are not allowed.
    set_functions: Option<Vec<crate::plan::FunctionCall>>,
    /// Stored tables that were named, at any level.
    touched: Vec<Touched>,
}

enum Aggregates {
    Allowed(Vec<(ColumnId, crate::plan::AggregateCall)>),
    Refused(&'static str),
}

impl<'a> Binder<'a> {
    pub(crate) fn new(
        catalog: &'a Catalog,
        session: &'a SessionInfo,
        runtime: &'a Runtime<'a>,
        source: &'a Source,
        hints: &[Option<Type>],
    ) -> Self {
        Binder {
            catalog,
            session,
            runtime,
            source,
            params: hints.iter().map(|hint| hint.clone().unwrap_or(Type::Unknown)).collect(),
            next_column: 0,
            next_cte: 0,
            ctes_bound: 0,
            recursive: Default::default(),
            once: OnceNumbers::default(),
            scopes: vec![],
            ctes: vec![],
            aggregates: Aggregates::Refused("this clause"),
            depth: 0,
            set_functions: None,
            touched: vec![],
        }
    }

    /// The types of all parameters (what met no type is text), and the stored tables that were named.
    pub(crate) fn finish(self) -> (Vec<Type>, Vec<Touched>) {
        let params = self.params.into_iter().map(|ty| if ty == Type::Unknown { Type::Text } else { ty });
        (params.collect(), self.touched)
    }

    /// Notes that a stored table is read or changed.
    fn touch(&mut self, table: &Table, change: bool) {
        let touched = Touched { schema: table.schema.clone(), name: table.name.clone(), change };
        if !self.touched.contains(&touched) {
            self.touched.push(touched);
        }
    }

    fn new_column(&mut self) -> ColumnId {
        self.next_column += 1;
        ColumnId(self.next_column)
    }

    fn position(&self, span: Span) -> Option<usize> {
        self.source.position(span.start)
    }

    fn at(&self, ident: &Ident) -> Option<usize> {
        self.position(ident.span)
    }

    /// One level deeper into subqueries, if that is still allowed.
    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= QUERY_DEPTH_MAX {
            let message = "statement is nested too deeply";
            let hint = format!("At most {QUERY_DEPTH_MAX} subqueries within each other.");
            return Err(SqlError::new(SqlState::STATEMENT_TOO_COMPLEX, message).with_hint(hint));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// The scope over a stored table's columns, and the columns with their places.
    fn table_scope(&mut self, table: &Table, alias: &str) -> (ScopeTable, Vec<(ColumnId, usize)>) {
        let ids: Vec<ColumnId> = table.columns.iter().map(|_| self.new_column()).collect();
        let columns = table
            .visible()
            .map(|(at, column)| ScopeColumn {
                name: column.name.clone(),
                id: ids[at],
                ty: column.ty.clone(),
                source: Some((table.id, at as i16 + 1)),
                bare: true,
            })
            .collect();
        let key = match table.has_primary_key() {
            true => table.primary().columns.iter().map(|&at| ids[at]).collect(),
            false => vec![],
        };
        let schema = (alias == table.name).then(|| table.schema.clone());
        let all = ids.into_iter().enumerate().map(|(at, id)| (id, at)).collect();
        (ScopeTable { name: Some(alias.to_string()), schema, columns, key }, all)
    }

    /// Binds an expression that stands in the catalog, over a table's columns.
    pub(crate) fn bind_stored(&mut self, sql: &str, over: Option<(&Table, &[ColumnId])>, ty: &Type) -> Result<Expr> {
        let ast = crate::parse::parse_expression(sql)?;
        self.bind_over(&ast, over, ty)
    }

    /// Binds an expression over a table's columns alone, as checks, defaults and index conditions are.
    pub(crate) fn bind_over(
        &mut self,
        ast: &sqlparser::ast::Expr,
        over: Option<(&Table, &[ColumnId])>,
        ty: &Type,
    ) -> Result<Expr> {
        let mut scope = Scope::default();
        if let Some((table, ids)) = over {
            let (mut entry, _) = self.table_scope(table, &table.name);
            for column in &mut entry.columns {
                let at = column.source.map_or(0, |(_, number)| number as usize - 1);
                column.id = ids[at];
            }
            scope.tables.push(entry);
        }
        let outer = std::mem::replace(&mut self.scopes, vec![scope]);
        let aggregates = std::mem::replace(&mut self.aggregates, Aggregates::Refused("this clause"));
        let result = self.bind_expr(ast).and_then(|expr| self.assign(expr, ty, ""));
        self.scopes = outer;
        self.aggregates = aggregates;
        result
    }

    /// Converts an expression to a type, as far as the context allows.
    pub(crate) fn coerce(&mut self, expr: Expr, to: &Type, context: CastContext, position: Position) -> Result<Expr> {
        let from = expr.ty();
        if from == *to || (context == CastContext::Implicit && from.same_base(to)) {
            return Ok(expr);
        }
        match expr {
            Expr::Param(number, Type::Unknown) => {
                // A parameter takes the plain type; a length is applied to its value.
                let plain = to.base();
                // Names are looked up when the statement runs: until then they are text.
                if to.is_oid() && *to != Type::Oid {
                    self.params[number] = Type::Text;
                    let expr = Box::new(Expr::Param(number, Type::Text));
                    return Ok(Expr::Cast { expr, to: to.clone(), context: CastContext::Explicit, position });
                }
                self.params[number] = plain.clone();
                return self.coerce(Expr::Param(number, plain), to, context, position);
            }
            Expr::Constant(Value::Null, _) => return Ok(Expr::null(to.clone())),
            Expr::Constant(value, Type::Unknown) if literal_is_fixed(to) => {
                let value = self
                    .runtime
                    .eval(|eval| crate::types::cast(&value, &Type::Unknown, to, context, eval))
                    .map_err(|error| error.at(position.get()))?;
                return Ok(Expr::Constant(value, to.clone()));
            }
            _ => {}
        }
        if from != Type::Unknown && !crate::types::can_cast(&from, to, context) {
            let message = format!("cannot cast type {from} to {to}");
            return Err(SqlError::new(SqlState::CANNOT_COERCE, message).at(position.get()));
        }
        Ok(Expr::Cast { expr: Box::new(expr), to: to.clone(), context, position })
    }

    /// Converts what is to be stored in a column.
    fn assign(&mut self, expr: Expr, to: &Type, column: &str) -> Result<Expr> {
        let from = expr.ty();
        let position = position_of(&expr);
        if from != Type::Unknown && from != *to && !crate::types::can_cast(&from, to, CastContext::Assignment) {
            let message = match column {
                "" => format!("expression must be of type {to}, not {from}"),
                _ => format!("column \"{column}\" is of type {} but expression is of type {}", to.base(), from.base()),
            };
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression.")
                .at(position.get()));
        }
        self.coerce(expr, to, CastContext::Assignment, position)
    }

    /// A condition: boolean, or what can be read as one.
    fn condition(&mut self, expr: Expr, clause: &str) -> Result<Expr> {
        let (ty, position) = (expr.ty(), position_of(&expr));
        if ty != Type::Bool && ty != Type::Unknown {
            let message = format!("argument of {clause} must be type boolean, not type {ty}");
            return Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(position.get()));
        }
        self.coerce(expr, &Type::Bool, CastContext::Implicit, position)
    }

    /// Gives text to what has found no type.
    fn settle(&mut self, expr: Expr) -> Result<Expr> {
        match expr.ty() {
            Type::Unknown => self.coerce(expr, &Type::Text, CastContext::Implicit, Position::default()),
            _ => Ok(expr),
        }
    }
}

/// True if a literal of this type means the same in every session, so that it may be converted while binding.
fn literal_is_fixed(ty: &Type) -> bool {
    match ty {
        Type::Timestamptz(_) | Type::Timestamp(_) | Type::Date | Type::Time(_) => false,
        Type::Regclass | Type::Regtype | Type::Regproc | Type::Regnamespace => false,
        Type::Array(element) => literal_is_fixed(element),
        _ => true,
    }
}

/// Where an expression stands, as far as it remembers.
fn position_of(expr: &Expr) -> Position {
    match expr {
        Expr::Column { position, .. } | Expr::Call { position, .. } | Expr::Cast { position, .. } => *position,
        Expr::Sequence { position, .. } => *position,
        Expr::Subquery(subquery) => subquery.position,
        other => other.children().into_iter().map(position_of).find(|at| at.get().is_some()).unwrap_or_default(),
    }
}
