//! Bound expressions: every name resolved, every function found, every type known.
//!
//! Columns are named by a [`ColumnId`] that is unique in the statement, whichever operator yields them, so rules may move an
//! expression anywhere below which its columns are there. Only the last step before running ([`resolve`](super::resolve))
//! says at which place of which row a column is found.

use std::sync::Arc;

use super::Plan;
use crate::func::Resolved;
use crate::types::{CastContext, Type, Value};

/// One column of one occurrence of a table, or one computed column; unique in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ColumnId(pub(crate) u32);

/// Where in the statement something stands: 1-based character, 0 when not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position(pub(crate) u32);

impl Position {
    pub(crate) fn get(self) -> Option<usize> {
        (self.0 > 0).then_some(self.0 as usize)
    }
}

impl From<Option<usize>> for Position {
    fn from(position: Option<usize>) -> Self {
        Position(position.and_then(|at| u32::try_from(at).ok()).unwrap_or(0))
    }
}

/// Where a column's value is at run time: in the row at hand (0) or the one so many frames out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) depth: u16,
    pub(crate) index: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

impl CompareOp {
    pub(crate) fn parse(operator: &str) -> Option<Self> {
        Some(match operator {
            "=" => CompareOp::Eq,
            "<>" => CompareOp::NotEq,
            "<" => CompareOp::Lt,
            "<=" => CompareOp::LtEq,
            ">" => CompareOp::Gt,
            ">=" => CompareOp::GtEq,
            _ => return None,
        })
    }

    pub(crate) fn symbol(self) -> &'static str {
        match self {
            CompareOp::Eq => "=",
            CompareOp::NotEq => "<>",
            CompareOp::Lt => "<",
            CompareOp::LtEq => "<=",
            CompareOp::Gt => ">",
            CompareOp::GtEq => ">=",
        }
    }

    /// The operator with its operands exchanged.
    pub(crate) fn flipped(self) -> Self {
        match self {
            CompareOp::Lt => CompareOp::Gt,
            CompareOp::LtEq => CompareOp::GtEq,
            CompareOp::Gt => CompareOp::Lt,
            CompareOp::GtEq => CompareOp::LtEq,
            same => same,
        }
    }

    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            CompareOp::Eq => order.is_eq(),
            CompareOp::NotEq => order.is_ne(),
            CompareOp::Lt => order.is_lt(),
            CompareOp::LtEq => order.is_le(),
            CompareOp::Gt => order.is_gt(),
            CompareOp::GtEq => order.is_ge(),
        }
    }
}

/// What counts a sequence, or looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SequenceCall {
    Next,
    Curr,
    Last,
    Set,
}

/// How a subquery's rows become one value.
#[derive(Clone, Debug)]
pub(crate) enum SubqueryKind {
    /// Its only value, NULL without a row.
    Scalar,
    /// Whether there is a row.
    Exists,
    /// `left op ANY (...)`, `IN`; or ALL.
    Quantified { left: Box<Expr>, comparison: Box<Expr>, all: bool },
    /// `ARRAY(SELECT ...)`
    Array(Type),
}

/// A query inside an expression.
#[derive(Clone, Debug)]
pub(crate) struct Subquery {
    pub(crate) kind: SubqueryKind,
    pub(crate) plan: Plan,
    pub(crate) ty: Type,
    /// Needs no row of the outer query, so it runs once; the number names its result. Set when columns are resolved.
    pub(crate) once: Option<usize>,
    pub(crate) position: Position,
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Constant(Value, Type),
    Param(usize, Type),
    Column {
        id: ColumnId,
        ty: Type,
        slot: Slot,
        position: Position,
    },
    Call {
        function: Arc<Resolved>,
        args: Vec<Expr>,
        position: Position,
    },
    /// Both sides of one type, compared by its order.
    Compare {
        op: CompareOp,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Cast {
        expr: Box<Expr>,
        to: Type,
        context: CastContext,
        position: Position,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull(Box<Expr>),
    /// `IS TRUE`, `IS FALSE`.
    IsTruth(Box<Expr>, bool),
    /// `IS NOT DISTINCT FROM`
    Same(Box<Expr>, Box<Expr>),
    Case {
        branches: Vec<(Expr, Expr)>,
        otherwise: Box<Expr>,
        ty: Type,
    },
    Coalesce(Vec<Expr>, Type),
    /// The greatest (true) or least of the arguments that are not NULL.
    Extreme(bool, Vec<Expr>, Type),
    /// `expr IN (list)`: all of one type.
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
    },
    /// `left op ANY (array)`: the comparison is over two parameters of its own, see [`Expr::Element`].
    Quantified {
        left: Box<Expr>,
        array: Box<Expr>,
        comparison: Box<Expr>,
        all: bool,
    },
    /// Inside a quantified comparison: the left operand (0) or the element (1).
    Element(usize, Type),
    Array(Vec<Expr>, Type),
    /// Fields, and their names if they are those of a table.
    Record(Vec<Expr>, Option<Arc<[String]>>),
    Subscript {
        array: Box<Expr>,
        indexes: Vec<Expr>,
        ty: Type,
    },
    Sequence {
        call: SequenceCall,
        args: Vec<Expr>,
        position: Position,
    },
    Subquery(Box<Subquery>),
    /// A row id for a table without primary key.
    RowId,
}

impl Expr {
    pub(crate) fn null(ty: Type) -> Expr {
        Expr::Constant(Value::Null, ty)
    }

    pub(crate) fn boolean(truth: bool) -> Expr {
        Expr::Constant(Value::Bool(truth), Type::Bool)
    }

    pub(crate) fn column(id: ColumnId, ty: Type) -> Expr {
        Expr::Column { id, ty, slot: Slot::default(), position: Position::default() }
    }

    pub(crate) fn ty(&self) -> Type {
        match self {
            Expr::Constant(_, ty)
            | Expr::Param(_, ty)
            | Expr::Column { ty, .. }
            | Expr::Case { ty, .. }
            | Expr::Coalesce(_, ty)
            | Expr::Extreme(_, _, ty)
            | Expr::Element(_, ty)
            | Expr::Array(_, ty)
            | Expr::Subscript { ty, .. } => ty.clone(),
            Expr::Call { function, .. } => function.result.clone(),
            Expr::Cast { to, .. } => to.clone(),
            Expr::Compare { .. }
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsTruth(..)
            | Expr::Same(..)
            | Expr::InList { .. }
            | Expr::Quantified { .. } => Type::Bool,
            Expr::Record(..) => Type::Record,
            Expr::Sequence { .. } | Expr::RowId => Type::Int8,
            Expr::Subquery(subquery) => subquery.ty.clone(),
        }
    }

    /// The direct parts, subqueries' plans not counted.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Constant(..) | Expr::Param(..) | Expr::Column { .. } | Expr::Element(..) | Expr::RowId => vec![],
            Expr::Call { args, .. } | Expr::Sequence { args, .. } => args.iter().collect(),
            Expr::Compare { left, right, .. } | Expr::Same(left, right) => vec![left, right],
            Expr::Cast { expr, .. } | Expr::Not(expr) | Expr::IsNull(expr) | Expr::IsTruth(expr, _) => vec![expr],
            Expr::And(list) | Expr::Or(list) | Expr::Record(list, _) => list.iter().collect(),
            Expr::Coalesce(list, _) | Expr::Extreme(_, list, _) | Expr::Array(list, _) => list.iter().collect(),
            Expr::Case { branches, otherwise, .. } => {
                branches.iter().flat_map(|(when, then)| [when, then]).chain([otherwise.as_ref()]).collect()
            }
            Expr::InList { expr, list } => [expr.as_ref()].into_iter().chain(list).collect(),
            Expr::Quantified { left, array, comparison, .. } => vec![left, array, comparison],
            Expr::Subscript { array, indexes, .. } => [array.as_ref()].into_iter().chain(indexes).collect(),
            Expr::Subquery(subquery) => match &subquery.kind {
                SubqueryKind::Quantified { left, comparison, .. } => vec![left, comparison],
                _ => vec![],
            },
        }
    }

    /// As [`children`](Self::children), to change them.
    pub(crate) fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Constant(..) | Expr::Param(..) | Expr::Column { .. } | Expr::Element(..) | Expr::RowId => vec![],
            Expr::Call { args, .. } | Expr::Sequence { args, .. } => args.iter_mut().collect(),
            Expr::Compare { left, right, .. } | Expr::Same(left, right) => vec![left, right],
            Expr::Cast { expr, .. } | Expr::Not(expr) | Expr::IsNull(expr) | Expr::IsTruth(expr, _) => vec![expr],
            Expr::And(list) | Expr::Or(list) | Expr::Record(list, _) => list.iter_mut().collect(),
            Expr::Coalesce(list, _) | Expr::Extreme(_, list, _) | Expr::Array(list, _) => list.iter_mut().collect(),
            Expr::Case { branches, otherwise, .. } => {
                branches.iter_mut().flat_map(|(when, then)| [when, then]).chain([otherwise.as_mut()]).collect()
            }
            Expr::InList { expr, list } => [expr.as_mut()].into_iter().chain(list).collect(),
            Expr::Quantified { left, array, comparison, .. } => vec![left, array, comparison],
            Expr::Subscript { array, indexes, .. } => [array.as_mut()].into_iter().chain(indexes).collect(),
            Expr::Subquery(subquery) => match &mut subquery.kind {
                SubqueryKind::Quantified { left, comparison, .. } => vec![left, comparison],
                _ => vec![],
            },
        }
    }

    /// Calls `visit` on this and all parts, and on the expressions in subqueries' plans.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
        if let Expr::Subquery(subquery) = self {
            subquery.plan.walk_exprs(visit);
        }
    }

    /// Columns that are read, in subqueries too (where those that the subquery itself yields are among them).
    pub(crate) fn columns(&self) -> Vec<ColumnId> {
        let mut columns = Vec::new();
        self.walk(&mut |expr| {
            if let Expr::Column { id, .. } = expr {
                columns.push(*id);
            }
        });
        columns
    }

    /// True if any part satisfies `test`.
    pub(crate) fn any(&self, test: &dyn Fn(&Expr) -> bool) -> bool {
        let mut found = false;
        self.walk(&mut |expr| found |= test(expr));
        found
    }

    /// True if evaluating it twice may give two answers, or has an effect.
    pub(crate) fn is_volatile(&self) -> bool {
        self.any(&|expr| match expr {
            Expr::Call { function, .. } => function.volatility == crate::func::Volatility::Volatile,
            Expr::Sequence { .. } | Expr::RowId => true,
            _ => false,
        })
    }

    pub(crate) fn has_subquery(&self) -> bool {
        self.any(&|expr| matches!(expr, Expr::Subquery(_)))
    }

    /// The parts of a condition that must all hold.
    pub(crate) fn into_conjuncts(self) -> Vec<Expr> {
        match self {
            Expr::And(list) => list.into_iter().flat_map(Expr::into_conjuncts).collect(),
            other => vec![other],
        }
    }

    /// True if both are the same expression, wherever in the text they stand.
    pub(crate) fn same(&self, other: &Expr) -> bool {
        let alike = match (self, other) {
            (Expr::Constant(a, ta), Expr::Constant(b, tb)) => ta == tb && format!("{a:?}") == format!("{b:?}"),
            (Expr::Param(a, _), Expr::Param(b, _)) => a == b,
            (Expr::Column { id: a, .. }, Expr::Column { id: b, .. }) => a == b,
            (Expr::Call { function: a, .. }, Expr::Call { function: b, .. }) => {
                a.name == b.name && a.arguments == b.arguments
            }
            (Expr::Compare { op: a, .. }, Expr::Compare { op: b, .. }) => a == b,
            (Expr::Cast { to: a, .. }, Expr::Cast { to: b, .. }) => a == b,
            (Expr::IsTruth(_, a), Expr::IsTruth(_, b)) => a == b,
            (Expr::Extreme(a, ..), Expr::Extreme(b, ..)) => a == b,
            (Expr::Element(a, _), Expr::Element(b, _)) => a == b,
            (Expr::Quantified { all: a, .. }, Expr::Quantified { all: b, .. }) => a == b,
            (Expr::Sequence { .. }, _) | (Expr::Subquery(_), _) | (Expr::RowId, _) => false,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        };
        let (mine, others) = (self.children(), other.children());
        alike && mine.len() == others.len() && mine.iter().zip(others).all(|(a, b)| a.same(b))
    }
}
