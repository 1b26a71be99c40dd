//! Expressions made of several values: rows, arrays, quantified comparisons, subqueries.

use sqlparser::ast::{self, BinaryOperator};

use super::Binder;
use super::expr::{not, operator_symbol};
use crate::error::{Result, SqlError, SqlState};
use crate::plan::{CompareOp, Expr, Plan, Position, Subquery, SubqueryKind};
use crate::types::{CastContext, Type};

impl Binder<'_> {
    /// `(a, b) = (1, 2)` and its like.
    pub(super) fn bind_row_comparison(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
    ) -> Result<Option<Expr>> {
        let (ast::Expr::Tuple(lefts), ast::Expr::Tuple(rights)) = (left, right) else {
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
        for (left, right) in lefts.iter().zip(rights) {
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
            all.push(self.bind_compare(&lefts[at], symbol, &rights[at])?);
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
        if matches!(left, ast::Expr::Tuple(_)) {
            return Err(self.unsupported("a row compared with a subquery", left));
        }
        let left = self.bind_expr(left)?;
        let query = self.deeper(|binder| binder.bind_subquery(query))?;
        let element_ty = single_column(&query.columns, position, "subquery has too many columns")?;
        let (left, comparison) = self.element_comparison(symbol, left, position, element_ty)?;
        let kind = SubqueryKind::Quantified { left: Box::new(left), comparison: Box::new(comparison), all };
        Ok(self.subquery(kind, query.plan, Type::Bool, position))
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
