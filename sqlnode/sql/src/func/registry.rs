//! The tables of functions and operators, and what a lookup yields.
//!
//! Each module of functions exports a table of [`Entry`]; arguments and results are written as PostgreSQL writes them
//! (`"text int4"`), with the pseudo-types `anyelement`, `anyarray`, `any` and a leading `variadic` for the last one.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::context::EvalContext;
use super::{
    aggregate, arithmetic, array, compare, convert, datetime, datetime_fields, json, math, number_template, pattern,
    series, string, system, time_template,
};
use crate::error::{Result, SqlError};
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
/// What starts a group of an aggregate.
pub(super) type AggregateFn = fn(&[Type], &Type) -> Box<dyn Accumulator>;
/// What runs a set-returning function.
pub(super) type SetFn = fn(&[Value], &Call<'_>) -> Result<Rows>;

/// The rows of a set-returning function, made as they are asked for.
pub type Rows = Box<dyn Iterator<Item = Result<Value>>>;

/// What a running function may look at besides its arguments.
pub(super) struct Call<'a> {
    pub(super) context: &'a EvalContext<'a>,
    pub(super) types: &'a [Type],
    pub(super) result: &'a Type,
}

/// The code of a function.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Scalar(ScalarFn),
    Aggregate(AggregateFn),
    Set(SetFn),
}

/// A row of a table of functions.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) result: &'static str,
    pub(super) volatility: Volatility,
    pub(super) strict: bool,
    pub(super) body: Body,
}

impl Entry {
    /// An immutable scalar function of which NULL makes NULL: the usual case.
    pub(super) const fn scalar(
        name: &'static str,
        arguments: &'static str,
        result: &'static str,
        body: ScalarFn,
    ) -> Entry {
        Entry { name, arguments, result, volatility: Volatility::Immutable, strict: true, body: Body::Scalar(body) }
    }

    /// An aggregate.
    pub(super) const fn aggregate(
        name: &'static str,
        arguments: &'static str,
        result: &'static str,
        body: AggregateFn,
    ) -> Entry {
        Entry { name, arguments, result, volatility: Volatility::Immutable, strict: false, body: Body::Aggregate(body) }
    }

    /// A set-returning function.
    pub(super) const fn set(name: &'static str, arguments: &'static str, result: &'static str, body: SetFn) -> Entry {
        Entry { name, arguments, result, volatility: Volatility::Immutable, strict: true, body: Body::Set(body) }
    }

    /// The same with an answer that holds for one statement only.
    pub(super) const fn stable(mut self) -> Entry {
        self.volatility = Volatility::Stable;
        self
    }

    /// The same with an answer that changes from call to call.
    pub(super) const fn volatile(mut self) -> Entry {
        self.volatility = Volatility::Volatile;
        self
    }

    /// The same, called with NULLs too.
    pub(super) const fn with_nulls(mut self) -> Entry {
        self.strict = false;
        self
    }
}

/// The type of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Parameter {
    Exactly(Type),
    /// `anyelement`: one type for all of them.
    AnyElement,
    /// `anyarray`: an array of the type of `anyelement`.
    AnyArray,
    /// `any`: each its own type.
    Any,
    /// `anynonarray`: any type but an array.
    AnyNonArray,
}

/// An entry with its types read.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) parameters: Vec<Parameter>,
    /// The last parameter may be given any number of times, once or more; `None` if there is no such.
    pub(super) variadic: Option<Parameter>,
    pub(super) result: Parameter,
    pub(super) volatility: Volatility,
    pub(super) strict: bool,
    pub(super) body: Body,
}

impl Function {
    fn read(entry: &Entry) -> Function {
        let mut parameters: Vec<Parameter> = Vec::new();
        let mut variadic = None;
        let mut words = entry.arguments.split_whitespace();
        while let Some(word) = words.next() {
            if word == "variadic" {
                variadic = words.next().map(parameter);
            } else {
                parameters.push(parameter(word));
            }
        }
        Function {
            name: entry.name,
            parameters,
            variadic,
            result: parameter(entry.result),
            volatility: entry.volatility,
            strict: entry.strict,
            body: entry.body,
        }
    }
}

fn parameter(word: &str) -> Parameter {
    match word {
        "anyelement" => Parameter::AnyElement,
        "anyarray" => Parameter::AnyArray,
        "any" => Parameter::Any,
        "anynonarray" => Parameter::AnyNonArray,
        "\"char\"" => Parameter::Exactly(Type::CharByte),
        word => Parameter::Exactly(Type::by_name(word).expect("the tables name existing types: a test reads them all")),
    }
}

type Table = BTreeMap<&'static str, Vec<Function>>;

fn read(tables: &[&[Entry]]) -> Table {
    let mut table = Table::new();
    for entry in tables.iter().copied().flatten() {
        table.entry(entry.name).or_default().push(Function::read(entry));
    }
    table
}

/// Functions by name.
pub(super) static FUNCTIONS: LazyLock<Table> = LazyLock::new(|| {
    read(&[
        aggregate::FUNCTIONS,
        array::FUNCTIONS,
        convert::FUNCTIONS,
        datetime::FUNCTIONS,
        datetime_fields::FUNCTIONS,
        json::FUNCTIONS,
        math::FUNCTIONS,
        number_template::FUNCTIONS,
        pattern::FUNCTIONS,
        series::FUNCTIONS,
        string::FUNCTIONS,
        system::FUNCTIONS,
        time_template::FUNCTIONS,
    ])
});

/// Operators by name; prefix operators have one argument.
pub(super) static OPERATORS: LazyLock<Table> = LazyLock::new(|| {
    let [int2, int4, int8, others] = arithmetic::OPERATORS;
    let mut table = read(&[
        int2,
        int4,
        int8,
        others,
        array::OPERATORS,
        datetime::OPERATORS,
        json::OPERATORS,
        math::OPERATORS,
        pattern::OPERATORS,
        string::OPERATORS,
    ]);
    for function in compare::operators() {
        table.entry(function.name).or_default().push(function);
    }
    table
});

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
    pub(super) body: Body,
}

/// An aggregate's state for one group.
pub trait Accumulator {
    /// Takes one row's arguments; the aggregate itself decides what NULLs mean.
    fn update(&mut self, arguments: &[Value], context: &EvalContext<'_>) -> Result<()>;
    /// True if what is taken stays in memory until the end, and so must be accounted for.
    fn keeps_rows(&self) -> bool {
        false
    }
    /// The result for the rows so far.
    fn finish(&mut self, context: &EvalContext<'_>) -> Result<Value>;
}

impl Resolved {
    fn frame<'a>(&'a self, context: &'a EvalContext<'a>) -> Call<'a> {
        Call { context, types: &self.arguments, result: &self.result }
    }

    /// Calls a scalar function with arguments that are already of the types in `arguments`.
    pub fn call(&self, arguments: &[Value], context: &EvalContext<'_>) -> Result<Value> {
        if self.strict && arguments.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        match self.body {
            Body::Scalar(body) => body(arguments, &self.frame(context)),
            _ => Err(SqlError::internal(format!("{} does not give one value", self.name))),
        }
    }

    /// Starts a group of an aggregate.
    pub fn accumulator(&self) -> Result<Box<dyn Accumulator>> {
        match self.body {
            Body::Aggregate(body) => Ok(body(&self.arguments, &self.result)),
            _ => Err(SqlError::internal(format!("{} is not an aggregate", self.name))),
        }
    }

    /// Calls a set-returning function.
    pub fn rows(&self, arguments: &[Value], context: &EvalContext<'_>) -> Result<Rows> {
        if self.strict && arguments.iter().any(Value::is_null) {
            return Ok(Box::new(std::iter::empty()));
        }
        match self.body {
            Body::Set(body) => body(arguments, &self.frame(context)),
            Body::Scalar(_) => Ok(Box::new(std::iter::once(Ok(self.call(arguments, context)?)))),
            Body::Aggregate(_) => Err(SqlError::internal(format!("{} does not give rows", self.name))),
        }
    }
}

/// True if any function has this (lower-case, unqualified) name.
pub fn function_exists(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

/// What the functions of this name yield.
pub fn function_kind(name: &str) -> Option<Kind> {
    FUNCTIONS.get(name)?.first().map(|function| kind_of(&function.body))
}

pub(super) fn kind_of(body: &Body) -> Kind {
    match body {
        Body::Scalar(_) => Kind::Scalar,
        Body::Aggregate(_) => Kind::Aggregate,
        Body::Set(_) => Kind::Set,
    }
}

/// Every function: name, kind, argument types and result as `pg_proc` lists them.
pub(crate) fn all_functions() -> impl Iterator<Item = (&'static str, Kind, usize)> {
    FUNCTIONS.values().flatten().map(|function| {
        (function.name, kind_of(&function.body), function.parameters.len() + usize::from(function.variadic.is_some()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::func::resolve::{resolve_function, resolve_operator};
    use crate::func::testing::with_context;
    use crate::types::{CastContext, cast};

    #[test]
    fn every_table_names_existing_types() {
        assert!(FUNCTIONS.len() > 150, "{}", FUNCTIONS.len());
        assert!(OPERATORS.len() > 30, "{}", OPERATORS.len());
    }

    /// Texts of values at the edges of a type.
    fn edges(ty: &Type) -> &'static [&'static str] {
        match ty {
            Type::Bool => &["t", "f"],
            Type::Int2 => &["-32768", "32767", "0", "-1"],
            Type::Int4 => &["-2147483648", "2147483647", "0", "-1", "3"],
            Type::Int8 => &["-9223372036854775808", "9223372036854775807", "0", "-1", "3"],
            Type::Float4 | Type::Float8 => &["NaN", "Infinity", "-Infinity", "-0", "1e37", "-1e-37", "2.5"],
            Type::Numeric(_) => &["NaN", "Infinity", "-Infinity", "0.00", "-1.5", "1e300", "1e-300", "123456789"],
            Type::Bytea => &["", "\\x00ff"],
            Type::Uuid => &["00000000-0000-0000-0000-000000000000"],
            Type::Timestamptz(_) | Type::Timestamp(_) => {
                &["infinity", "-infinity", "4713-01-01 BC", "294276-12-31 23:59:59", "2024-02-29 12:34:56.789"]
            }
            Type::Date => &["infinity", "-infinity", "4713-01-01 BC", "294276-12-31", "2024-02-29"],
            Type::Time(_) => &["00:00", "24:00", "12:34:56.789"],
            Type::Interval(_) => &["0", "-178000000 years", "178000000 years 2147483647 days", "-1 day 5.5 seconds"],
            Type::Jsonb | Type::Json => &["null", "[]", "{}", "[1,[2,null],\"x\"]", "{\"a\":{\"b\":1}}", "-1.5"],
            ty if ty.is_oid() => &["0", "23", "4294967295"],
            Type::Array(element) => match **element {
                Type::Text | Type::Name => &["{}", "{a,NULL}", "{{a},{b}}"],
                Type::Int2 | Type::Int4 => &["{}", "{1,NULL}", "[-5:-4]={1,2}", "{{1},{2}}"],
                _ => &["{}"],
            },
            Type::Record | Type::Void => &[],
            _ => &[
                "",
                "é",
                "a%\\",
                "2024-01-01",
                "year",
                "[[:alpha:]]*(x)?",
                "hex",
                "FM999.0S",
                "\"Q.x",
                "Europe/Berlin",
                "1",
            ],
        }
    }

    /// All values at the edges, and NULL.
    fn values(ty: &Type, context: &EvalContext<'_>) -> Vec<Value> {
        let read = |text: &&str| cast(&Value::text(text), &Type::Unknown, ty, CastContext::Explicit, context);
        edges(ty)
            .iter()
            .map(|text| read(text).unwrap_or_else(|e| panic!("{ty} {text}: {e}")))
            .chain([Value::Null])
            .collect()
    }

    fn call_all(found: &Resolved, context: &EvalContext<'_>) -> usize {
        let pools: Vec<Vec<Value>> = found.arguments.iter().map(|ty| values(ty, context)).collect();
        let all: usize = pools.iter().map(Vec::len).product();
        // All combinations of few arguments, a spread-out sample of many (a prime is no multiple of a pool's size).
        let count = all.min(5_000);
        for index in 0..count {
            let mut number = index * 7_919 % all;
            let arguments: Vec<Value> = pools
                .iter()
                .map(|pool| {
                    let value = pool[number % pool.len()].clone();
                    number /= pool.len();
                    value
                })
                .collect();
            match found.kind {
                Kind::Scalar => {
                    let _ = found.call(&arguments, context);
                }
                Kind::Set => {
                    let _ = found.rows(&arguments, context).map(|rows| rows.take(20).count());
                }
                Kind::Aggregate => {
                    let mut state = found.accumulator().unwrap();
                    let _ = state.update(&arguments, context).and_then(|()| state.update(&arguments, context));
                    let _ = state.finish(context);
                }
            }
        }
        count
    }

    #[test]
    fn no_function_panics_at_the_edges() {
        let stand_in = |parameter: &Parameter| match parameter {
            Parameter::Exactly(ty) => ty.clone(),
            Parameter::AnyArray => Type::array_of(Type::Int4),
            _ => Type::Int4,
        };
        let calls = with_context(|context| {
            let (mut calls, mut panicked) = (0, Vec::new());
            for (table, operators) in [(&*FUNCTIONS, false), (&*OPERATORS, true)] {
                for function in table.values().flatten() {
                    let arguments: Vec<Type> =
                        function.parameters.iter().chain(&function.variadic).map(stand_in).collect();
                    let found = match arguments.as_slice() {
                        [right] if operators => resolve_operator(function.name, None, right),
                        [left, right] if operators => resolve_operator(function.name, Some(left), right),
                        _ => resolve_function(function.name, &arguments),
                    };
                    let found = found.unwrap_or_else(|error| panic!("{error}"));
                    let run = std::panic::AssertUnwindSafe(|| call_all(&found, context));
                    match std::panic::catch_unwind(run) {
                        Ok(count) => calls += count,
                        Err(_) => panicked.push(format!("{}({arguments:?})", function.name)),
                    }
                }
            }
            assert!(panicked.is_empty(), "{}", panicked.join("\n"));
            calls
        });
        assert!(calls > 10_000, "{calls}");
    }
}
