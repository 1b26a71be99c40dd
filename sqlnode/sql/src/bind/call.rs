//! Binding of calls: scalar functions, aggregates, set-returning functions, and what only looks like a function.

use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments};

use super::{Aggregates, Binder};
use crate::catalog::PG_CATALOG;
use crate::error::{Result, SqlError, SqlState};
use crate::func::{Kind, function_exists, function_kind, resolve_function};
use crate::kind::{fold, name_parts};
use crate::plan::{AggregateCall, Expr, FunctionCall, Position, SequenceCall, SortKey, SubqueryKind};
use crate::types::{CastContext, Type, Value};

/// The parts of a call that matter here.
pub(super) struct CallParts<'a> {
    pub(super) name: String,
    args: Vec<&'a ast::Expr>,
    /// Arguments with a name, after those without.
    named: Vec<(String, &'a ast::Expr)>,
    star: bool,
    distinct: bool,
    order: &'a [ast::OrderByExpr],
    filter: Option<&'a ast::Expr>,
}

impl Binder<'_> {
    /// Takes a call apart, refusing what nothing here understands.
    pub(super) fn call_parts<'a>(&self, function: &'a ast::Function, place: Position) -> Result<CallParts<'a>> {
        let refuse = |what: &str| Err(SqlError::unsupported(what).at(place.get()));
        let parts = name_parts(&function.name)?;
        let name = match parts.as_slice() {
            [name] => name.clone(),
            [schema, name] if schema == PG_CATALOG => name.clone(),
            _ => {
                let message = format!("function {} does not exist", parts.join("."));
                return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(place.get()));
            }
        };
        if function.over.is_some() {
            return refuse("a window function");
        }
        if !function.within_group.is_empty() || function.null_treatment.is_some() {
            return refuse("WITHIN GROUP or IGNORE NULLS");
        }
        if !matches!(function.parameters, FunctionArguments::None) || function.uses_odbc_syntax {
            return refuse("this form of call");
        }
        let mut call = CallParts {
            name,
            args: vec![],
            named: vec![],
            star: false,
            distinct: false,
            order: &[],
            filter: function.filter.as_deref(),
        };
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(_) => return refuse("a subquery as the only argument"),
            FunctionArguments::List(list) => {
                call.distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
                for arg in &list.args {
                    match arg {
                        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                            call.named.push((fold(name), expr));
                        }
                        FunctionArg::ExprNamed {
                            name: ast::Expr::Identifier(name),
                            arg: FunctionArgExpr::Expr(expr),
                            ..
                        } => call.named.push((fold(name), expr)),
                        FunctionArg::Unnamed(_) if !call.named.is_empty() => {
                            let message = "positional argument cannot follow named argument";
                            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(place.get()));
                        }
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => call.args.push(expr),
                        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => call.star = true,
                        _ => return refuse("a named argument"),
                    }
                }
                for clause in &list.clauses {
                    match clause {
                        ast::FunctionArgumentClause::OrderBy(order) => call.order = order,
                        _ => return refuse("this clause of a call"),
                    }
                }
            }
        }
        if call.named.is_empty() || call.name == "make_interval" { Ok(call) } else { refuse("a named argument") }
    }

    pub(super) fn bind_call(&mut self, function: &ast::Function, whole: &ast::Expr) -> Result<Expr> {
        let place: Position = function
            .name
            .0
            .first()
            .and_then(|part| part.as_ident())
            .and_then(|ident| self.at(ident))
            .or(self.place(whole).get())
            .into();
        if let FunctionArguments::Subquery(query) = &function.args
            && name_parts(&function.name)? == ["array"]
        {
            let query = self.deeper(|binder| binder.bind_subquery(query))?;
            let [column] = query.columns.as_slice() else {
                return Err(
                    SqlError::new(SqlState::SYNTAX_ERROR, "subquery must return only one column").at(place.get())
                );
            };
            let element = column.ty.clone();
            let ty = Type::array_of(element.clone());
            return Ok(self.subquery(SubqueryKind::Array(element), query.plan, ty, place));
        }
        let call = self.call_parts(function, place)?;
        match function_kind(&call.name) {
            Some(Kind::Aggregate) => return self.bind_aggregate(call, place),
            Some(Kind::Set) => return self.bind_set_function(call, place),
            _ => {}
        }
        if call.star || call.distinct || call.filter.is_some() || !call.order.is_empty() {
            return Err(match function_exists(&call.name) {
                true => {
                    let message = format!("{} is not an aggregate function", call.name);
                    SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(place.get())
                }
                false => {
                    let message = format!("function {}() does not exist", call.name);
                    SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(place.get())
                }
            });
        }
        if !call.named.is_empty() {
            return self.bind_make_interval(&call, place);
        }
        self.bind_plain_call(&call.name, &call.args, whole)
    }

    /// The one function whose arguments are better named: `make_interval(days => 10)`.
    fn bind_make_interval(&mut self, call: &CallParts<'_>, place: Position) -> Result<Expr> {
        const NAMES: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
        let mut args: Vec<Option<&ast::Expr>> = call.args.iter().copied().map(Some).collect();
        args.resize(NAMES.len().max(args.len()), None);
        for (name, arg) in &call.named {
            match NAMES.iter().position(|known| known == name) {
                Some(at) if args[at].is_none() => args[at] = Some(*arg),
                _ => {
                    let message = format!("function make_interval({name} => ...) does not exist");
                    return Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, message).at(place.get()));
                }
            }
        }
        let zero = || Ok(Expr::Constant(Value::Int4(0), Type::Int4));
        let bound = args.into_iter().map(|arg| arg.map_or_else(zero, |arg| self.bind_expr(arg)));
        let bound = bound.collect::<Result<Vec<_>>>()?;
        self.call_function(&call.name, bound, place)
    }

    /// A call of a scalar function, or of what is written like one.
    pub(super) fn bind_plain_call(&mut self, name: &str, args: &[&ast::Expr], whole: &ast::Expr) -> Result<Expr> {
        let place = match whole {
            ast::Expr::Function(function) => {
                function.name.0.first().and_then(|part| part.as_ident()).and_then(|ident| self.at(ident)).into()
            }
            other => self.place(other),
        };
        let mut bound = Vec::new();
        let mut places = Vec::new();
        for arg in args {
            bound.push(self.bind_expr(arg)?);
            places.push(self.place(arg));
        }
        match (name, bound.len()) {
            ("coalesce", 1..) => {
                let (list, ty) = self.bind_alike(bound, &places, "COALESCE", place)?;
                Ok(Expr::Coalesce(list, ty))
            }
            ("greatest" | "least", 1..) => {
                let (list, ty) =
                    self.bind_alike(bound, &places, if name == "least" { "LEAST" } else { "GREATEST" }, place)?;
                crate::func::resolve_operator("<", Some(&ty), &ty).map_err(|error| error.at(place.get()))?;
                Ok(Expr::Extreme(name == "greatest", list, ty))
            }
            ("nullif", 2) => {
                let (right, left) = (bound.pop(), bound.pop());
                let (Some(left), Some(right)) = (left, right) else {
                    return Err(SqlError::internal("two arguments were counted"));
                };
                let equal = self.operator("=", (left.clone(), places[0]), (right, places[1]))?;
                // The result is of the first type, but for an integer that was compared with another kind of number.
                let compared = match &equal {
                    Expr::Compare { left, .. } => left.ty(),
                    Expr::Call { args, .. } if !args.is_empty() => args[0].ty(),
                    _ => left.ty(),
                };
                let ty = match (left.ty(), compared) {
                    (Type::Unknown, compared) => compared,
                    (
                        Type::Int2 | Type::Int4 | Type::Int8 | Type::Numeric(_),
                        compared @ (Type::Numeric(_) | Type::Float8),
                    ) => compared,
                    (first, _) => first,
                };
                let left = self.coerce(left, &ty, CastContext::Implicit, places[0])?;
                let left = self.settle(left)?;
                let ty = left.ty();
                Ok(Expr::Case { branches: vec![(equal, Expr::null(ty.clone()))], otherwise: Box::new(left), ty })
            }
            ("nextval" | "currval", 1) | ("lastval", 0) | ("setval", 2 | 3) => {
                self.bind_sequence_call(name, bound, place)
            }
            ("row", _) => {
                let list = bound.into_iter().map(|field| self.settle(field)).collect::<Result<_>>()?;
                Ok(Expr::Record(list, None))
            }
            _ => self.call_with_places(name, bound, &places, place),
        }
    }

    /// A call of a scalar function over bound arguments.
    pub(super) fn call_function(&mut self, name: &str, args: Vec<Expr>, place: Position) -> Result<Expr> {
        self.call_with_places(name, args, &[], place)
    }

    fn call_with_places(&mut self, name: &str, args: Vec<Expr>, places: &[Position], place: Position) -> Result<Expr> {
        let types: Vec<Type> = args.iter().map(Expr::ty).collect();
        // A call with a type's name and one argument is a cast, where there is no such function.
        if let ([_], false) = (types.as_slice(), function_exists(name))
            && let Some(ty) = Type::all().find(|ty| ty.internal_name() == name && *ty != Type::Unknown)
        {
            let arg = args.into_iter().next().ok_or_else(|| SqlError::internal("one argument was counted"))?;
            return self.coerce(arg, &ty, CastContext::Explicit, place);
        }
        let function = resolve_function(name, &types).map_err(|error| error.at(place.get()))?;
        let args = self.coerce_args(args, &function.arguments, places, place)?;
        Ok(Expr::Call { function: function.into(), args, position: place })
    }

    fn coerce_args(
        &mut self,
        args: Vec<Expr>,
        types: &[Type],
        places: &[Position],
        place: Position,
    ) -> Result<Vec<Expr>> {
        let mut coerced = Vec::new();
        for (at, arg) in args.into_iter().enumerate() {
            let ty = types.get(at).cloned().unwrap_or_else(|| arg.ty());
            let place = places.get(at).copied().unwrap_or(place);
            let ty = if ty == Type::Unknown { Type::Text } else { ty };
            coerced.push(self.coerce(arg, &ty, CastContext::Implicit, place)?);
        }
        Ok(coerced)
    }

    fn bind_alike(
        &mut self,
        args: Vec<Expr>,
        places: &[Position],
        what: &str,
        place: Position,
    ) -> Result<(Vec<Expr>, Type)> {
        let types: Vec<Type> = args.iter().map(Expr::ty).collect();
        let ty = self.common(&types, what, place)?;
        let mut list = Vec::new();
        for (arg, place) in args.into_iter().zip(places) {
            list.push(self.coerce(arg, &ty, CastContext::Implicit, *place)?);
        }
        Ok((list, ty))
    }

    fn bind_sequence_call(&mut self, name: &str, args: Vec<Expr>, place: Position) -> Result<Expr> {
        let (call, types): (_, &[Type]) = match name {
            "nextval" => (SequenceCall::Next, &[Type::Regclass]),
            "currval" => (SequenceCall::Curr, &[Type::Regclass]),
            "lastval" => (SequenceCall::Last, &[]),
            _ => (SequenceCall::Set, &[Type::Regclass, Type::Int8, Type::Bool]),
        };
        let mut list = Vec::new();
        for (arg, ty) in args.into_iter().zip(types) {
            let arg = match (&arg.ty(), ty) {
                (Type::Text | Type::Varchar(_), Type::Regclass) => Expr::Cast {
                    expr: Box::new(arg),
                    to: Type::Regclass,
                    context: CastContext::Explicit,
                    position: place,
                },
                _ => self.coerce(arg, ty, CastContext::Implicit, place)?,
            };
            list.push(arg);
        }
        Ok(Expr::Sequence { call, args: list, position: place })
    }

    fn bind_aggregate(&mut self, call: CallParts<'_>, place: Position) -> Result<Expr> {
        if let Aggregates::Refused(clause) = self.aggregates {
            let message = match clause {
                "" => "aggregate function calls cannot be nested".to_string(),
                clause => format!("aggregate functions are not allowed in {clause}"),
            };
            return Err(SqlError::new(SqlState::GROUPING_ERROR, message).at(place.get()));
        }
        let outer = std::mem::replace(&mut self.aggregates, Aggregates::Refused(""));
        let bound = self.bind_aggregate_call(&call, place);
        self.aggregates = outer;
        let bound = bound?;
        let ty = bound.function.result.clone();
        let Aggregates::Allowed(list) = &self.aggregates else {
            return Err(SqlError::internal("aggregates were allowed a moment ago"));
        };
        let alike = |other: &AggregateCall| {
            other.function.name == bound.function.name
                && other.function.arguments == bound.function.arguments
                && other.distinct == bound.distinct
                && other.order.is_empty()
                && bound.order.is_empty()
                && other.args.len() == bound.args.len()
                && other.args.iter().zip(&bound.args).all(|(a, b)| a.same(b))
                && match (&other.filter, &bound.filter) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.same(b),
                    _ => false,
                }
        };
        if let Some((id, _)) = list.iter().find(|(_, other)| alike(other)) {
            return Ok(Expr::column(*id, ty));
        }
        let id = self.new_column();
        if let Aggregates::Allowed(list) = &mut self.aggregates {
            list.push((id, bound));
        }
        Ok(Expr::column(id, ty))
    }

    fn bind_aggregate_call(&mut self, call: &CallParts<'_>, place: Position) -> Result<AggregateCall> {
        if call.args.is_empty() && !call.star {
            let message = format!("{}(*) must be used to call a parameterless aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(place.get()));
        }
        let mut args = Vec::new();
        let mut places = Vec::new();
        for arg in &call.args {
            args.push(self.bind_expr(arg)?);
            places.push(self.place(arg));
        }
        let types: Vec<Type> = args.iter().map(Expr::ty).collect();
        let function = resolve_function(&call.name, &types).map_err(|error| error.at(place.get()))?;
        let args = self.coerce_args(args, &function.arguments, &places, place)?;
        let filter = match call.filter {
            Some(filter) => {
                let filter = self.bind_expr(filter)?;
                Some(self.condition(filter, "FILTER")?)
            }
            None => None,
        };
        let mut order = Vec::new();
        for key in call.order {
            let expr = self.bind_expr(&key.expr)?;
            let expr = self.settle(expr)?;
            order.push(sort_key(expr, &key.options));
        }
        Ok(AggregateCall { function: function.into(), args, distinct: call.distinct, filter, order })
    }

    /// A set-returning function in a select list: its rows multiply the row at hand.
    fn bind_set_function(&mut self, call: CallParts<'_>, place: Position) -> Result<Expr> {
        if self.set_functions.is_none() {
            let message = "set-returning functions are not allowed here";
            return Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message).at(place.get()));
        }
        let bound = self.bind_function_call(&call, place)?;
        let expr = Expr::column(bound.column, bound.function.result.clone());
        if let Some(list) = &mut self.set_functions {
            list.push(bound);
        }
        Ok(expr)
    }

    /// A call that yields rows, in FROM or in a select list. A scalar function yields one.
    pub(super) fn bind_function_call(&mut self, call: &CallParts<'_>, place: Position) -> Result<FunctionCall> {
        if call.star || call.distinct || call.filter.is_some() || !call.order.is_empty() {
            let message = format!("{} is not an aggregate function", call.name);
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(place.get()));
        }
        let mut args = Vec::new();
        let mut places = Vec::new();
        for arg in &call.args {
            args.push(self.bind_expr(arg)?);
            places.push(self.place(arg));
        }
        let types: Vec<Type> = args.iter().map(Expr::ty).collect();
        let function = resolve_function(&call.name, &types).map_err(|error| error.at(place.get()))?;
        if function.kind == Kind::Aggregate {
            let message = "aggregate functions are not allowed in functions in FROM";
            return Err(SqlError::new(SqlState::GROUPING_ERROR, message).at(place.get()));
        }
        let args = self.coerce_args(args, &function.arguments, &places, place)?;
        Ok(FunctionCall { function: function.into(), args, column: self.new_column() })
    }
}

/// The order that `ASC`, `DESC` and `NULLS ...` ask for.
pub(super) fn sort_key(expr: Expr, options: &ast::OrderByOptions) -> SortKey {
    let descending = matches!(options.sort, Some(ast::OrderBySort::Desc));
    SortKey { expr, descending, nulls_first: options.nulls_first.unwrap_or(descending) }
}
