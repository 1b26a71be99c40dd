//! Expressions made of several values: rows, arrays, quantified comparisons, subqueries.

use sqlparser::ast::{self, BinaryOperator};

use super::Binder;
use super::expr::{not, operator_symbol, row_fields};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::{CompareOp, Expr, Plan, Position, Subquery, SubqueryKind};
use crate::types::{CastContext, Type, Value};

impl Binder<'_> {
    /// `(a, b) = (1, 2)` and its like.
    pub(super) fn bind_row_comparison(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
    ) -> Result<Option<Expr>> {
        let (Some(lefts), Some(rights)) = (row_fields(left), row_fields(right)) else {
            return Ok(None);
        };
        let Some(op) = operator_symbol(op).and_then(|symbol| CompareOp::parse(&symbol)) else {
            return Ok(None);
        };
        if lefts.len() != rights.len() {
            let message = "unequal number of entries in row expressions";
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(self.place(right).get()));
        }
        let mut equal = Vec::new();
        for (left, right) in lefts.iter().zip(&rights) {
            equal.push(self.bind_compare(left, "=", right)?);
        }
        if op == CompareOp::Eq {
            return Ok(Some(Expr::And(equal)));
        }
        if op == CompareOp::NotEq {
            return Ok(Some(not(Expr::And(equal))));
        }
        // (a, b) < (x, y)  is  a < x OR a = x AND b < y
        let strict = if matches!(op, CompareOp::Lt | CompareOp::LtEq) { "<" } else { ">" };
        let mut any = Vec::new();
        for at in 0..lefts.len() {
            let symbol = if at + 1 == lefts.len() { op.symbol() } else { strict };
            let mut all: Vec<Expr> = equal[..at].to_vec();
            all.push(self.bind_compare(lefts[at], symbol, rights[at])?);
            any.push(Expr::And(all));
        }
        Ok(Some(Expr::Or(any)))
    }

    pub(super) fn bind_array(&mut self, items: &[ast::Expr], element: Option<&Type>) -> Result<Expr> {
        let mut bound = Vec::new();
        for item in items {
            let nested = element.map(|element| Type::array_of(element.clone()));
            bound.push((self.bind_typed(item, nested.as_ref())?, self.place(item)));
        }
        let types: Vec<Type> = bound.iter().map(|(item, _)| item.ty()).collect();
        let common = match element {
            Some(element) if !types.iter().any(|ty| matches!(ty, Type::Array(_))) => element.clone(),
            _ if items.is_empty() => {
                let message = "cannot determine type of empty array";
                return Err(SqlError::new(SqlState::INDETERMINATE_DATATYPE, message)
                    .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
            }
            _ => self.common(&types, "ARRAY", bound[0].1)?,
        };
        let mut list = Vec::new();
        for (item, place) in bound {
            list.push(self.coerce(item, &common, CastContext::Explicit, place)?);
        }
        Ok(Expr::Array(list, Type::array_of(common)))
    }

    pub(super) fn bind_subscript(
        &mut self,
        root: &ast::Expr,
        chain: &[ast::AccessExpr],
        whole: &ast::Expr,
    ) -> Result<Expr> {
        let array = self.bind_expr(root)?;
        let is_slice = |access: &ast::AccessExpr| {
            matches!(access, ast::AccessExpr::Subscript(ast::Subscript::Slice { stride: None, .. }))
        };
        if matches!(array.ty(), Type::Array(_)) && chain.iter().any(is_slice) {
            return self.bind_slice(array, chain, whole);
        }
        let mut indexes = Vec::new();
        for access in chain {
            let ast::AccessExpr::Subscript(ast::Subscript::Index { index }) = access else {
                return Err(self.unsupported("this kind of subscript", whole));
            };
            let place = self.place(index);
            let bound = self.bind_expr(index)?;
            indexes.push((bound, place));
        }
        match array.ty() {
            Type::Array(element) => {
                let mut bound = Vec::new();
                for (index, place) in indexes {
                    bound.push(self.coerce(index, &Type::Int4, CastContext::Assignment, place)?);
                }
                Ok(Expr::Subscript { array: Box::new(array), indexes: bound, ty: *element })
            }
            Type::Jsonb => {
                let place = self.place(root);
                let mut value = array;
                for index in indexes {
                    value = self.operator("->", (value, place), index)?;
                }
                Ok(value)
            }
            ty => {
                let message = format!("cannot subscript type {ty} because it does not support subscripting");
                Err(SqlError::new(SqlState::DATATYPE_MISMATCH, message).at(self.place(whole).get()))
            }
        }
    }

    /// `array[2:3][:]`: what one subscript asks for as a slice, all do; a plain `n` then means `1:n`.
    fn bind_slice(&mut self, array: Expr, chain: &[ast::AccessExpr], whole: &ast::Expr) -> Result<Expr> {
        let mut bound = |ast: Option<&ast::Expr>, otherwise: i32| match ast {
            // Bounds are cut to those of the array.
            None => Ok(Expr::Constant(Value::Int4(otherwise), Type::Int4)),
            Some(ast) => {
                let place = self.place(ast);
                let index = self.bind_expr(ast)?;
                self.coerce(index, &Type::Int4, CastContext::Assignment, place)
            }
        };
        let (mut lowers, mut uppers) = (Vec::new(), Vec::new());
        for access in chain {
            match access {
                ast::AccessExpr::Subscript(ast::Subscript::Slice { lower_bound, upper_bound, stride: None }) => {
                    lowers.push(bound(lower_bound.as_ref(), i32::MIN)?);
                    uppers.push(bound(upper_bound.as_ref(), i32::MAX)?);
                }
                ast::AccessExpr::Subscript(ast::Subscript::Index { index }) => {
                    lowers.push(bound(None, 1)?);
                    uppers.push(bound(Some(index), 1)?);
                }
                _ => return Err(self.unsupported("this kind of subscript", whole)),
            }
        }
        let integers = || Type::array_of(Type::Int4);
        let args = vec![array, Expr::Array(lowers, integers()), Expr::Array(uppers, integers())];
        self.call_function("array_slice", args, self.place(whole))
    }

    /// `left op ANY (...)`: over a subquery or an array.
    pub(super) fn bind_any_all(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        all: bool,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        let Some(symbol) = operator_symbol(op) else {
            return Err(self.unsupported(&format!("the operator {op}"), whole));
        };
        let mut inner = right;
        while let ast::Expr::Nested(nested) = inner {
            inner = nested;
        }
        let position = self.place(left);
        if let ast::Expr::Subquery(query) = inner {
            return self.bind_quantified_subquery(left, &symbol, query, all, position);
        }
        let left = self.bind_expr(left)?;
        let array_place = self.place(inner);
        let array = match self.bind_expr(inner)? {
            array if array.ty() == Type::Unknown => {
                let element = if left.ty() == Type::Unknown { Type::Text } else { left.ty() };
                self.coerce(array, &Type::array_of(element.base()), CastContext::Implicit, array_place)?
            }
            array => array,
        };
        let Type::Array(element) = array.ty() else {
            let message = "op ANY/ALL (array) requires array on right side";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(array_place.get()));
        };
        let (left, comparison) = self.element_comparison(&symbol, left, position, *element)?;
        Ok(Expr::Quantified { left: Box::new(left), array: Box::new(array), comparison: Box::new(comparison), all })
    }

    /// A comparison between two [`Expr::Element`]s, the left one of the left operand's type.
    fn element_comparison(
        &mut self,
        symbol: &str,
        left: Expr,
        position: Position,
        element: Type,
    ) -> Result<(Expr, Expr)> {
        let left = match left.ty() {
            Type::Unknown => self.coerce(left, &element.base(), CastContext::Implicit, position)?,
            _ => left,
        };
        let operands = ((Expr::Element(0, left.ty()), position), (Expr::Element(1, element), position));
        let comparison = self.operator(symbol, operands.0, operands.1)?;
        if comparison.ty() != Type::Bool {
            let message = "op ANY/ALL requires operator to yield boolean";
            return Err(SqlError::new(SqlState::WRONG_OBJECT_TYPE, message).at(position.get()));
        }
        Ok((left, comparison))
    }

    pub(super) fn bind_quantified_subquery(
        &mut self,
        left: &ast::Expr,
        symbol: &str,
        query: &ast::Query,
        all: bool,
        position: Position,
    ) -> Result<Expr> {
        if let Some(fields) = row_fields(left) {
            if symbol != "=" && symbol != "<>" {
                return Err(self.unsupported("a row compared with a subquery but for equality", left));
            }
            return self.bind_row_in_subquery(&fields, symbol, query, all, position);
        }
        let left = self.bind_expr(left)?;
        let query = self.deeper(|binder| binder.bind_subquery(query))?;
        let element_ty = single_column(&query.columns, position, "subquery has too many columns")?;
        let (left, comparison) = self.element_comparison(symbol, left, position, element_ty)?;
        let kind = SubqueryKind::Quantified { left: Box::new(left), comparison: Box::new(comparison), all };
        Ok(self.subquery(kind, query.plan, Type::Bool, position))
    }

    /// `(a, b) IN (SELECT x, y ...)`: both sides become rows, with fields of the types that their operators want.
    fn bind_row_in_subquery(
        &mut self,
        fields: &[&ast::Expr],
        symbol: &str,
        query: &ast::Query,
        all: bool,
        position: Position,
    ) -> Result<Expr> {
        let query = self.deeper(|binder| binder.bind_subquery(query))?;
        if fields.len() != query.columns.len() {
            let which = if fields.len() < query.columns.len() { "many" } else { "few" };
            let message = format!("subquery has too {which} columns");
            return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(position.get()));
        }
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for (field, column) in fields.iter().zip(&query.columns) {
            let place = self.place(field);
            let left = self.bind_expr(field)?;
            let right = Expr::column(column.id, column.ty.clone());
            let function = crate::func::resolve_operator("=", Some(&left.ty()), &right.ty())
                .map_err(|error| error.at(place.get()))?;
            lefts.push(self.coerce(left, &function.arguments[0], CastContext::Implicit, place)?);
            rights.push(self.coerce(right, &function.arguments[1], CastContext::Implicit, place)?);
        }
        let columns = vec![(self.new_column(), Expr::Record(rights, None))];
        let plan = Plan::Project { input: Box::new(query.plan), columns };
        let left = Expr::Record(lefts, None);
        let (left, comparison) = self.element_comparison(symbol, left, position, Type::Record)?;
        let kind = SubqueryKind::Quantified { left: Box::new(left), comparison: Box::new(comparison), all };
        Ok(self.subquery(kind, plan, Type::Bool, position))
    }

    pub(super) fn subquery(&self, kind: SubqueryKind, plan: Plan, ty: Type, position: Position) -> Expr {
        Expr::Subquery(Box::new(Subquery { kind, plan, ty, once: None, position }))
    }
}

pub(super) fn single_column(columns: &[super::OutputColumn], position: Position, many: &str) -> Result<Type> {
    match columns {
        [column] => Ok(column.ty.clone()),
        [] => Err(SqlError::new(SqlState::SYNTAX_ERROR, "subquery has no columns").at(position.get())),
        _ => Err(SqlError::new(SqlState::SYNTAX_ERROR, many).at(position.get())),
    }
}
