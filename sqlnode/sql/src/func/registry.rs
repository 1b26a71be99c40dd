//! Looking up and calling functions.

use super::context::EvalContext;
use crate::error::{Result, SqlError, SqlState};
use crate::types::{Type, Value};

/// How far a result may be reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Same arguments, same answer, for ever: may be folded while planning.
    Immutable,
    /// Same answer within a statement.
    Stable,
    /// May differ at each call.
    Volatile,
}

/// What a function yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One value per call: [`Resolved::call`].
    Scalar,
    /// One value per group: [`Resolved::accumulator`].
    Aggregate,
    /// Rows per call: [`Resolved::rows`].
    Set,
}

/// What runs a scalar function.
pub(super) type ScalarFn = fn(&[Value], &Call<'_>) -> Result<Value>;

/// What a running function may look at besides its arguments.
pub(super) struct Call<'a> {
    pub(super) context: &'a EvalContext<'a>,
    pub(super) types: &'a [Type],
    pub(super) result: &'a Type,
}

/// A function or operator that was found for certain argument types.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its name, or the operator's.
    pub name: &'static str,
    /// What each argument must be cast to.
    pub arguments: Vec<Type>,
    /// What a call yields; for [`Kind::Set`] each row's type.
    pub result: Type,
    /// What is yielded.
    pub kind: Kind,
    /// How far results may be reused.
    pub volatility: Volatility,
    /// True if a NULL argument makes the result NULL (already observed by [`Resolved::call`]).
    pub strict: bool,
    body: ScalarFn,
}

/// An aggregate's state for one group.
pub trait Accumulator {
    /// Takes one row's arguments; the aggregate itself decides what NULLs mean.
    fn update(&mut self, arguments: &[Value], context: &EvalContext<'_>) -> Result<()>;
    /// The result for the rows so far.
    fn finish(&mut self, context: &EvalContext<'_>) -> Result<Value>;
}

impl Resolved {
    /// Calls a scalar function with arguments that are already of the types in `arguments`.
    pub fn call(&self, arguments: &[Value], context: &EvalContext<'_>) -> Result<Value> {
        if self.strict && arguments.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        (self.body)(arguments, &Call { context, types: &self.arguments, result: &self.result })
    }

    /// Starts a group of an aggregate.
    pub fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        Err(SqlError::internal(format!("{} is not an aggregate", self.name)))
    }

    /// Calls a set-returning function.
    pub fn rows(
        &self,
        arguments: &[Value],
        context: &EvalContext<'_>,
    ) -> Result<Box<dyn Iterator<Item = Result<Value>>>> {
        let value = self.call(arguments, context)?;
        Ok(Box::new(std::iter::once(Ok(value))))
    }
}

/// True if any function has this (lower-case, unqualified) name.
pub fn function_exists(name: &str) -> bool {
    function_kind(name).is_some()
}

/// What the functions of this name yield.
pub fn function_kind(_name: &str) -> Option<Kind> {
    None
}

/// Finds the function of this (lower-case, unqualified) name for arguments of these types.
///
/// `count(*)` is `count` without arguments. An argument of [`Type::Unknown`] is an untyped literal or parameter.
pub fn resolve_function(name: &str, arguments: &[Type]) -> Result<Resolved> {
    let list: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", list.join(", ")))
        .with_hint("No function matches the given name and argument types. You might need to add explicit type casts."))
}

/// Finds the operator for operands of these types; a prefix operator has no left one.
pub fn resolve_operator(operator: &str, left: Option<&Type>, right: &Type) -> Result<Resolved> {
    let left = left.map(|ty| format!("{ty} ")).unwrap_or_default();
    Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {left}{operator} {right}"))
        .with_hint("No operator matches the given name and argument types. You might need to add explicit type casts."))
}
