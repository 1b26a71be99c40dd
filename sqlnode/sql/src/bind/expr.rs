//! Binding of scalar expressions.

use sqlparser::ast::{self, BinaryOperator, Spanned, UnaryOperator, Value as Literal};

use super::nested::single_column;
use super::{Aggregates, Binder, position_of};
use crate::error::{Result, SqlError, SqlState};
use crate::func::resolve_operator;
use crate::kind::{fold, name_parts};
use crate::plan::{CompareOp, Expr, Position, SubqueryKind};
use crate::types::{CastContext, Type, Value, common_type};

impl Binder<'_> {
    pub(super) fn place(&self, ast: &ast::Expr) -> Position {
        self.position(ast.span()).into()
    }

    /// Binds an expression over the innermost scope.
    pub(super) fn bind_expr(&mut self, ast: &ast::Expr) -> Result<Expr> {
        use ast::Expr as Ast;
        match ast {
            Ast::Nested(inner) => self.bind_expr(inner),
            Ast::Identifier(ident) => self.bind_name(std::slice::from_ref(ident)),
            Ast::CompoundIdentifier(parts) => self.bind_name(parts),
            Ast::Value(value) => self.bind_literal(&value.value, self.position(value.span).into()),
            Ast::TypedString(typed) => {
                let ty = super::bind_type(&typed.data_type).map_err(|error| error.at(self.place(ast).get()))?;
                let text = self.bind_literal(&typed.value.value, Position::default())?;
                self.coerce(text, &ty, CastContext::Explicit, self.position(typed.value.span).into())
            }
            Ast::BinaryOp { .. } => self.bind_binary_chain(ast),
            Ast::UnaryOp { op, expr } => self.bind_unary(op, expr, ast),
            Ast::IsNull(expr) => Ok(Expr::IsNull(Box::new(self.bind_any(expr)?))),
            Ast::IsNotNull(expr) => Ok(match self.bind_any(expr)? {
                // A row is so if each field is, which is not the opposite of being null.
                Expr::Record(fields, _) => {
                    Expr::And(fields.into_iter().map(|field| not(Expr::IsNull(Box::new(field)))).collect())
                }
                other => not(Expr::IsNull(Box::new(other))),
            }),
            Ast::IsTrue(expr) => self.bind_truth(expr, true, "IS TRUE"),
            Ast::IsNotTrue(expr) => self.bind_truth(expr, true, "IS NOT TRUE").map(not),
            Ast::IsFalse(expr) => self.bind_truth(expr, false, "IS FALSE"),
            Ast::IsNotFalse(expr) => self.bind_truth(expr, false, "IS NOT FALSE").map(not),
            Ast::IsUnknown(expr) => {
                let expr = self.bind_expr(expr)?;
                Ok(Expr::IsNull(Box::new(self.condition(expr, "IS UNKNOWN")?)))
            }
            Ast::IsNotUnknown(expr) => {
                let expr = self.bind_expr(expr)?;
                Ok(not(Expr::IsNull(Box::new(self.condition(expr, "IS NOT UNKNOWN")?))))
            }
            Ast::IsDistinctFrom(left, right) => self.bind_same(left, right).map(not),
            Ast::IsNotDistinctFrom(left, right) => self.bind_same(left, right),
            Ast::InList { expr, list, negated } => self.bind_in_list(expr, list).map(|e| negate_if(e, *negated)),
            Ast::InSubquery { expr, subquery, negated } => {
                let place = self.place(expr);
                let found = self.bind_quantified_subquery(expr, "=", subquery, false, place)?;
                Ok(negate_if(found, *negated))
            }
            Ast::Between { expr, negated, low, high } => {
                let low = self.bind_compare(expr, ">=", low)?;
                let high = self.bind_compare(expr, "<=", high)?;
                Ok(negate_if(Expr::And(vec![low, high]), *negated))
            }
            Ast::Like { negated, any: false, expr, pattern, escape_char } => {
                self.bind_like(if *negated { "!~~" } else { "~~" }, expr, pattern, escape_char.as_deref(), ast)
            }
            Ast::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.bind_like(if *negated { "!~~*" } else { "~~*" }, expr, pattern, escape_char.as_deref(), ast)
            }
            Ast::SimilarTo { negated, expr, pattern, escape_char } => {
                let (places, whole) = ((self.place(expr), self.place(pattern)), self.place(ast));
                let expr = self.bind_expr(expr)?;
                let mut args = vec![self.bind_expr(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(self.bind_expr(escape)?);
                }
                let pattern = self.call_function("similar_to_escape", args, whole)?;
                self.operator(if *negated { "!~" } else { "~" }, (expr, places.0), (pattern, places.1))
            }
            Ast::AnyOp { left, compare_op, right, .. } => self.bind_any_all(left, compare_op, right, false, ast),
            Ast::AllOp { left, compare_op, right } => self.bind_any_all(left, compare_op, right, true, ast),
            Ast::Cast { kind: ast::CastKind::Cast | ast::CastKind::DoubleColon, expr, data_type, format: None } => {
                let ty = super::bind_type(data_type).map_err(|error| error.at(self.place(ast).get()))?;
                let position = self.place(expr);
                let expr = self.bind_typed(expr, Some(&ty))?;
                self.coerce(expr, &ty, CastContext::Explicit, position)
            }
            Ast::Case { operand, conditions, else_result, .. } => {
                self.bind_case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Ast::Exists { subquery, negated } => {
                let query = self.deeper(|binder| binder.bind_subquery(subquery))?;
                let found = self.subquery(SubqueryKind::Exists, query.plan, Type::Bool, self.place(ast));
                Ok(negate_if(found, *negated))
            }
            Ast::Subquery(query) => {
                let position = self.place(ast);
                let query = self.deeper(|binder| binder.bind_subquery(query))?;
                let ty = single_column(&query.columns, position, "subquery must return only one column")?;
                Ok(self.subquery(SubqueryKind::Scalar, query.plan, ty, position))
            }
            Ast::Tuple(items) => {
                let items = items.iter().map(|item| self.bind_any(item)).collect::<Result<_>>()?;
                Ok(Expr::Record(items, None))
            }
            Ast::Array(array) => self.bind_array(&array.elem, None),
            Ast::CompoundFieldAccess { root, access_chain } => self.bind_subscript(root, access_chain, ast),
            Ast::Collate { expr, collation } => match name_parts(collation)?.last().map(String::as_str) {
                Some("default" | "C" | "POSIX" | "ucs_basic") => self.bind_expr(expr),
                _ => Err(self.unsupported("this collation", ast)),
            },
            Ast::Interval(interval) if interval.leading_field.is_none() => {
                let place = self.place(&interval.value);
                let text = self.bind_expr(&interval.value)?;
                self.coerce(text, &Type::Interval(None), CastContext::Explicit, place)
            }
            Ast::Interval(interval) if interval.last_field.is_none() && interval.leading_precision.is_none() => {
                // INTERVAL '3' DAY: the field is the unit of a plain number.
                let unit = interval.leading_field.as_ref().map(ToString::to_string).unwrap_or_default();
                match self.bind_expr(&interval.value)? {
                    Expr::Constant(Value::Text(text), Type::Unknown) => {
                        let literal = Expr::Constant(Value::text(format!("{text} {unit}")), Type::Unknown);
                        self.coerce(literal, &Type::Interval(None), CastContext::Explicit, self.place(ast))
                    }
                    _ => Err(self.unsupported("this form of INTERVAL", ast)),
                }
            }
            Ast::Function(function) => self.bind_call(function, ast),
            // Functions with a grammar of their own are ordinary functions underneath.
            Ast::AtTimeZone { timestamp, time_zone } => self.bind_plain_call("timezone", &[time_zone, timestamp], ast),
            Ast::Extract { field, expr, .. } => {
                let field = Expr::Constant(Value::text(field.to_string().to_lowercase()), Type::Text);
                let expr = self.bind_any(expr)?;
                self.call_function("extract", vec![field, expr], self.place(ast))
            }
            Ast::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.bind_plain_call("ceil", &[expr], ast)
            }
            Ast::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                self.bind_plain_call("floor", &[expr], ast)
            }
            Ast::Position { expr, r#in } => self.bind_plain_call("position", &[r#in, expr], ast),
            Ast::Substring { expr, substring_from, substring_for, .. } => match (substring_from, substring_for) {
                (Some(from), Some(length)) => self.bind_plain_call("substring", &[expr, from, length], ast),
                (Some(from), None) => self.bind_plain_call("substring", &[expr, from], ast),
                (None, Some(length)) => {
                    let (expr, length) = (self.bind_any(expr)?, self.bind_any(length)?);
                    let from = Expr::Constant(Value::Int4(1), Type::Int4);
                    self.call_function("substring", vec![expr, from, length], self.place(ast))
                }
                (None, None) => Err(self.unsupported("this form of substring", ast)),
            },
            Ast::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "btrim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                let what = trim_what.as_deref().or(trim_characters.as_ref().and_then(|list| list.first()));
                match what {
                    Some(what) => self.bind_plain_call(name, &[expr, what], ast),
                    None => self.bind_plain_call(name, &[expr], ast),
                }
            }
            Ast::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args: Vec<&ast::Expr> = vec![expr, overlay_what, overlay_from];
                args.extend(overlay_for.as_deref());
                self.bind_plain_call("overlay", &args, ast)
            }
            other => Err(self.unsupported(&format!("the expression {other}"), other)),
        }
    }

    pub(super) fn unsupported(&self, what: &str, ast: &ast::Expr) -> SqlError {
        SqlError::unsupported(what).at(self.place(ast).get())
    }

    /// Binds an expression whose type does not matter: an untyped one becomes text.
    pub(super) fn bind_any(&mut self, ast: &ast::Expr) -> Result<Expr> {
        let expr = self.bind_expr(ast)?;
        self.settle(expr)
    }

    /// Binds an expression that is about to become this type; array constructors look at it.
    pub(super) fn bind_typed(&mut self, ast: &ast::Expr, ty: Option<&Type>) -> Result<Expr> {
        match ast {
            ast::Expr::Nested(inner) => self.bind_typed(inner, ty),
            ast::Expr::Array(array) => self.bind_array(&array.elem, ty.and_then(Type::element)),
            other => self.bind_expr(other),
        }
    }

    fn bind_literal(&mut self, literal: &Literal, position: Position) -> Result<Expr> {
        let text = |text: &str| Ok(Expr::Constant(Value::text(text), Type::Unknown));
        match literal {
            Literal::Null => Ok(Expr::null(Type::Unknown)),
            Literal::Boolean(truth) => Ok(Expr::boolean(*truth)),
            Literal::Number(digits, false) => self.bind_number(digits, position),
            Literal::SingleQuotedString(s) | Literal::EscapedStringLiteral(s) | Literal::UnicodeStringLiteral(s) => {
                text(s)
            }
            Literal::DollarQuotedString(quoted) => text(&quoted.value),
            Literal::Placeholder(name) => self.bind_param(name, position),
            other => Err(SqlError::unsupported(format!("the literal {other}")).at(position.get())),
        }
    }

    fn bind_number(&mut self, digits: &str, position: Position) -> Result<Expr> {
        if let Ok(number) = digits.parse::<i32>() {
            return Ok(Expr::Constant(Value::Int4(number), Type::Int4));
        }
        if let Ok(number) = digits.parse::<i64>() {
            return Ok(Expr::Constant(Value::Int8(number), Type::Int8));
        }
        let literal = Expr::Constant(Value::text(digits), Type::Unknown);
        self.coerce(literal, &Type::Numeric(None), CastContext::Explicit, position)
    }

    fn bind_param(&mut self, name: &str, position: Position) -> Result<Expr> {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        match number {
            Some(number @ 1..=super::PARAMS_MAX) => {
                if self.params.len() < number {
                    self.params.resize(number, Type::Unknown);
                }
                Ok(Expr::Param(number - 1, self.params[number - 1].clone()))
            }
            _ => {
                let message = format!("there is no parameter {name}");
                Err(SqlError::new(SqlState::UNDEFINED_PARAMETER, message).at(position.get()))
            }
        }
    }

    /// A column by its bare or qualified name, looked for from the innermost scope outwards.
    fn bind_name(&mut self, parts: &[ast::Ident]) -> Result<Expr> {
        let position = parts.first().and_then(|ident| self.at(ident));
        let names: Vec<String> = parts.iter().map(fold).collect();
        let (schema, table, column) = match names.as_slice() {
            [column] => (None, None, column),
            [table, column] => (None, Some(table), column),
            [schema, table, column] | [_, schema, table, column] => (Some(schema.as_str()), Some(table), column),
            _ => return Err(SqlError::new(SqlState::SYNTAX_ERROR, "improper qualified name").at(position)),
        };
        for scope in self.scopes.iter().rev() {
            match table {
                None => {
                    if let Some(found) = scope.column(column).map_err(|error| error.at(position))? {
                        return Ok(found.expr(position.into()));
                    }
                    // A table's bare name is its whole row.
                    if let Some(found) = scope.table(None, column).map_err(|error| error.at(position))? {
                        let fields = found.columns.iter().map(|field| field.expr(position.into())).collect();
                        let names = found.columns.iter().map(|field| field.name.clone()).collect();
                        return Ok(Expr::Record(fields, Some(names)));
                    }
                }
                Some(table) => {
                    if let Some(found) = scope.table(schema, table).map_err(|error| error.at(position))? {
                        let column_found = found.columns.iter().find(|candidate| candidate.name == *column);
                        return match column_found {
                            Some(found) => Ok(found.expr(position.into())),
                            None => {
                                let message = format!("column {table}.{column} does not exist");
                                Err(SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(position))
                            }
                        };
                    }
                }
            }
        }
        // Functions that are called without parentheses, and that the parser takes for names.
        if let [ident] = parts
            && ident.quote_style.is_none()
            && matches!(column.as_str(), "current_schema" | "current_role")
        {
            return self.call_function(column, vec![], position.into());
        }
        Err(match table {
            Some(table) => {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                SqlError::new(SqlState::UNDEFINED_TABLE, message).at(position)
            }
            None => {
                let message = format!("column \"{column}\" does not exist");
                SqlError::new(SqlState::UNDEFINED_COLUMN, message).at(position)
            }
        })
    }

    /// A chain of operators leans to the left; it is walked without recursing into each.
    fn bind_binary_chain(&mut self, ast: &ast::Expr) -> Result<Expr> {
        let mut spine = Vec::new();
        let mut first = ast;
        while let ast::Expr::BinaryOp { left, op, right } = first {
            spine.push((op, right.as_ref(), first));
            first = left;
        }
        let mut left_ast = first;
        let mut bound = None;
        while let Some((op, right, whole)) = spine.pop() {
            let left = match bound.take() {
                Some(left) => left,
                // A comparison with a row or a quantifier looks at the syntax of both sides.
                None => match self.bind_row_comparison(left_ast, op, right)? {
                    Some(done) => {
                        bound = Some(done);
                        left_ast = whole;
                        continue;
                    }
                    None => self.bind_expr(left_ast)?,
                },
            };
            bound = Some(self.bind_binary(left, self.place(left_ast), op, right, whole)?);
            left_ast = whole;
        }
        bound.ok_or_else(|| SqlError::internal("a chain without operators"))
    }

    fn bind_binary(
        &mut self,
        left: Expr,
        left_place: Position,
        op: &BinaryOperator,
        right: &ast::Expr,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        let right_place = self.place(right);
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                let clause = if *op == BinaryOperator::And { "AND" } else { "OR" };
                let right = self.bind_expr(right)?;
                let (left, right) = (self.condition(left, clause)?, self.condition(right, clause)?);
                Ok(match (op, left, right) {
                    (BinaryOperator::And, Expr::And(mut list), right) => {
                        list.push(right);
                        Expr::And(list)
                    }
                    (BinaryOperator::Or, Expr::Or(mut list), right) => {
                        list.push(right);
                        Expr::Or(list)
                    }
                    (BinaryOperator::And, left, right) => Expr::And(vec![left, right]),
                    (_, left, right) => Expr::Or(vec![left, right]),
                })
            }
            op => {
                let right = self.bind_expr(right)?;
                let Some(symbol) = operator_symbol(op) else {
                    return Err(self.unsupported(&format!("the operator {op}"), whole));
                };
                self.operator(&symbol, (left, left_place), (right, right_place))
            }
        }
    }

    pub(super) fn bind_compare(&mut self, left: &ast::Expr, symbol: &str, right: &ast::Expr) -> Result<Expr> {
        let places = (self.place(left), self.place(right));
        let (left, right) = (self.bind_expr(left)?, self.bind_expr(right)?);
        self.operator(symbol, (left, places.0), (right, places.1))
    }

    /// An operator over bound operands.
    pub(super) fn operator(&mut self, symbol: &str, left: (Expr, Position), right: (Expr, Position)) -> Result<Expr> {
        let position = if left.1.get().is_some() { left.1 } else { right.1 };
        let function =
            resolve_operator(symbol, Some(&left.0.ty()), &right.0.ty()).map_err(|error| error.at(position.get()))?;
        let [left_ty, right_ty] = function.arguments.as_slice() else {
            return Err(SqlError::internal(format!("operator {symbol} does not take two operands")));
        };
        let (left_ty, right_ty) = (left_ty.clone(), right_ty.clone());
        let left = self.coerce(left.0, &left_ty, CastContext::Implicit, left.1)?;
        let right = self.coerce(right.0, &right_ty, CastContext::Implicit, right.1)?;
        let plain = left_ty.same_base(&right_ty) && !matches!(left_ty, Type::Char(_) | Type::Record);
        match CompareOp::parse(symbol) {
            Some(op) if plain && function.result == Type::Bool => {
                Ok(Expr::Compare { op, left: Box::new(left), right: Box::new(right) })
            }
            _ => Ok(Expr::Call { function: function.into(), args: vec![left, right], position }),
        }
    }

    fn bind_unary(&mut self, op: &UnaryOperator, operand: &ast::Expr, whole: &ast::Expr) -> Result<Expr> {
        // A sign belongs to the base: `-2 ^ 2` is four. The parser has it the other way around.
        if matches!(operand, ast::Expr::BinaryOp { op: BinaryOperator::PGExp, .. }) {
            let mut power = operand.clone();
            let mut base = &mut power;
            while let ast::Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = base {
                base = left;
            }
            *base = ast::Expr::UnaryOp { op: *op, expr: Box::new(base.clone()) };
            return self.bind_expr(&power);
        }
        if *op == UnaryOperator::Minus
            && let Some(number) = signed_number(operand)
        {
            let negative = number.strip_prefix('-').map_or_else(|| format!("-{number}"), str::to_string);
            return self.bind_number(&negative, self.place(operand));
        }
        if *op == UnaryOperator::Not {
            let expr = self.bind_expr(operand)?;
            return Ok(not(self.condition(expr, "NOT")?));
        }
        let symbol = match op {
            UnaryOperator::Minus => "-",
            UnaryOperator::Plus => "+",
            UnaryOperator::BitwiseNot => "~",
            UnaryOperator::PGAbs => "@",
            UnaryOperator::PGSquareRoot => "|/",
            UnaryOperator::PGCubeRoot => "||/",
            other => return Err(self.unsupported(&format!("the operator {other}"), whole)),
        };
        let position = self.place(operand);
        let expr = self.bind_expr(operand)?;
        let function = resolve_operator(symbol, None, &expr.ty()).map_err(|error| error.at(position.get()))?;
        let Some(ty) = function.arguments.last().cloned() else {
            return Err(SqlError::internal(format!("operator {symbol} takes no operand")));
        };
        let arg = self.coerce(expr, &ty, CastContext::Implicit, position)?;
        Ok(Expr::Call { function: function.into(), args: vec![arg], position })
    }

    fn bind_truth(&mut self, expr: &ast::Expr, wanted: bool, clause: &str) -> Result<Expr> {
        let expr = self.bind_expr(expr)?;
        Ok(Expr::IsTruth(Box::new(self.condition(expr, clause)?), wanted))
    }

    fn bind_same(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Expr> {
        if let (Some(lefts), Some(rights)) = (row_fields(left), row_fields(right)) {
            if lefts.len() != rights.len() {
                let message = "unequal number of entries in row expressions";
                return Err(SqlError::new(SqlState::SYNTAX_ERROR, message).at(self.place(right).get()));
            }
            let pairs = lefts.into_iter().zip(rights);
            return Ok(Expr::And(pairs.map(|(left, right)| self.bind_same(left, right)).collect::<Result<_>>()?));
        }
        match self.bind_compare(left, "=", right)? {
            Expr::Compare { left, right, .. } => Ok(Expr::Same(left, right)),
            Expr::Call { mut args, .. } if args.len() == 2 => {
                let (right, left) = (args.pop(), args.pop());
                let (Some(mut left), Some(mut right)) = (left, right) else {
                    return Err(SqlError::internal("an operator without operands"));
                };
                // Numbers of two widths are compared as they are by `=`, but here they must be of one type.
                if !left.ty().same_base(&right.ty()) {
                    let ty = self.common(&[left.ty(), right.ty()], "IS DISTINCT FROM", Position::default())?;
                    left = self.coerce(left, &ty, CastContext::Implicit, Position::default())?;
                    right = self.coerce(right, &ty, CastContext::Implicit, Position::default())?;
                }
                Ok(Expr::Same(Box::new(left), Box::new(right)))
            }
            _ => Err(self.unsupported("IS DISTINCT FROM over these types", left)),
        }
    }

    fn bind_in_list(&mut self, expr: &ast::Expr, list: &[ast::Expr]) -> Result<Expr> {
        if row_fields(expr).is_some() {
            let mut any = Vec::new();
            for item in list {
                match self.bind_row_comparison(expr, &BinaryOperator::Eq, item)? {
                    Some(equal) => any.push(equal),
                    None => return Err(self.unsupported("IN with rows and other things", item)),
                }
            }
            return Ok(Expr::Or(any));
        }
        let place = self.place(expr);
        let left = self.bind_expr(expr)?;
        let mut items = Vec::new();
        for item in list {
            items.push((self.bind_expr(item)?, self.place(item)));
        }
        let types: Vec<Type> = items.iter().map(|(item, _)| item.ty()).chain([left.ty()]).collect();
        // Mixed types that share none are compared one by one, where the operator says what is wrong.
        let Ok(common) = common_type(&types, "IN") else {
            let mut any = Vec::new();
            for item in items {
                any.push(self.operator("=", (left.clone(), place), item)?);
            }
            return Ok(Expr::Or(any));
        };
        if matches!(common, Type::Char(_)) || resolve_operator("=", Some(&common), &common).is_err() {
            let mut any = Vec::new();
            for item in items {
                any.push(self.operator("=", (left.clone(), place), item)?);
            }
            return Ok(Expr::Or(any));
        }
        let left = self.coerce(left, &common, CastContext::Implicit, place)?;
        let mut list = Vec::new();
        for (item, place) in items {
            list.push(self.coerce(item, &common, CastContext::Implicit, place)?);
        }
        Ok(Expr::InList { expr: Box::new(left), list })
    }

    fn bind_like(
        &mut self,
        symbol: &str,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::Expr>,
        whole: &ast::Expr,
    ) -> Result<Expr> {
        let places = (self.place(expr), self.place(pattern));
        let expr = self.bind_expr(expr)?;
        let mut pattern = self.bind_expr(pattern)?;
        if let Some(escape) = escape {
            let escape = self.bind_expr(escape)?;
            pattern = self.call_function("like_escape", vec![pattern, escape], self.place(whole))?;
        }
        self.operator(symbol, (expr, places.0), (pattern, places.1))
    }

    fn bind_case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Expr> {
        let mut branches = Vec::new();
        for branch in conditions {
            let when = match operand {
                Some(operand) => self.bind_compare(operand, "=", &branch.condition)?,
                None => {
                    let when = self.bind_expr(&branch.condition)?;
                    self.condition(when, "CASE/WHEN")?
                }
            };
            branches.push((when, self.bind_expr(&branch.result)?, self.place(&branch.result)));
        }
        let (otherwise, place) = match otherwise {
            Some(ast) => (self.bind_expr(ast)?, self.place(ast)),
            None => (Expr::null(Type::Unknown), Position::default()),
        };
        let types: Vec<Type> = branches.iter().map(|(_, then, _)| then.ty()).chain([otherwise.ty()]).collect();
        let ty = self.common(&types, "CASE", place)?;
        let otherwise = Box::new(self.coerce(otherwise, &ty, CastContext::Implicit, place)?);
        let mut bound = Vec::new();
        for (when, then, place) in branches {
            bound.push((when, self.coerce(then, &ty, CastContext::Implicit, place)?));
        }
        Ok(Expr::Case { branches: bound, otherwise, ty })
    }

    /// The common type, text if all are untyped.
    pub(super) fn common(&self, types: &[Type], what: &str, position: Position) -> Result<Type> {
        common_type(types, what).map_err(|error| error.at(position.get()))
    }

    /// Binds a condition of a clause in which aggregates mean something wrong.
    pub(super) fn bind_condition(&mut self, ast: &ast::Expr, clause: &'static str) -> Result<Expr> {
        let outer = std::mem::replace(&mut self.aggregates, Aggregates::Refused(clause));
        let bound = self.bind_expr(ast);
        self.aggregates = outer;
        let bound = bound?;
        let position = position_of(&bound);
        self.condition(bound, clause).map_err(|error| error.at(position.get().or(self.place(ast).get())))
    }
}

/// The fields of a row that is written out: `(a, b)`, `ROW(a, b)`.
pub(super) fn row_fields(ast: &ast::Expr) -> Option<Vec<&ast::Expr>> {
    match ast {
        ast::Expr::Nested(inner) => row_fields(inner),
        ast::Expr::Tuple(fields) => Some(fields.iter().collect()),
        ast::Expr::Function(function) if name_parts(&function.name).is_ok_and(|parts| parts == ["row"]) => {
            let ast::FunctionArguments::List(list) = &function.args else { return None };
            let fields = list.args.iter().map(|arg| match arg {
                ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(field)) => Some(field),
                _ => None,
            });
            fields.collect()
        }
        _ => None,
    }
}

/// The digits of a number, with its sign: what is read as one constant, as `-9223372036854775808` must be.
fn signed_number(ast: &ast::Expr) -> Option<String> {
    match ast {
        ast::Expr::Nested(inner) => signed_number(inner),
        ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let number = signed_number(expr)?;
            Some(number.strip_prefix('-').map_or_else(|| format!("-{number}"), str::to_string))
        }
        ast::Expr::Value(value) => match &value.value {
            Literal::Number(digits, false) => Some(digits.clone()),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn not(expr: Expr) -> Expr {
    Expr::Not(Box::new(expr))
}

fn negate_if(expr: Expr, negated: bool) -> Expr {
    if negated { not(expr) } else { expr }
}

/// The operator's name in PostgreSQL's catalog.
pub(super) fn operator_symbol(op: &BinaryOperator) -> Option<String> {
    use BinaryOperator as Op;
    let symbol = match op {
        Op::NotEq => "<>",
        Op::BitwiseXor | Op::PGBitwiseXor => "#",
        Op::PGExp => "^",
        Op::PGCustomBinaryOperator(parts) => {
            return match parts.as_slice() {
                [symbol] => Some(symbol.clone()),
                [schema, symbol] if schema == crate::catalog::PG_CATALOG => Some(symbol.clone()),
                _ => None,
            };
        }
        Op::Custom(symbol) => symbol,
        Op::And | Op::Or | Op::Xor | Op::Spaceship | Op::DuckIntegerDivide | Op::MyIntegerDivide => return None,
        Op::Match | Op::Regexp | Op::Glob | Op::Overlaps | Op::Assignment => return None,
        other => return Some(other.to_string()),
    };
    Some(symbol.to_string())
}
