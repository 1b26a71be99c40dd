//! Choosing among functions of one name, after PostgreSQL's chapter 10.
//!
//! 1. Arguments of exactly the parameter types win.
//! 2. Otherwise the candidates are those whose parameters the arguments convert to silently; unknown literals convert to
//!    anything.
//! 3. Keep those with the most exact matches; then those with the most preferred types where a conversion is needed.
//! 4. Unknown literals are taken as strings if any candidate takes one there, else as the category that all agree on.
//! 5. If all known arguments are of one type, unknown ones are taken to be of it too.

use super::registry::{FUNCTIONS, Function, OPERATORS, Parameter, Resolved, kind_of};
use crate::error::{Result, SqlError, SqlState};
use crate::types::{CastContext, Category, Type, can_cast, common_type};

/// Finds the function of this (lower-case, unqualified) name for arguments of these types.
///
/// `count(*)` is `count` without arguments. An argument of [`Type::Unknown`] is an untyped literal or parameter.
pub fn resolve_function(name: &str, arguments: &[Type]) -> Result<Resolved> {
    let candidates = FUNCTIONS.get(name).map_or(&[][..], Vec::as_slice);
    let list = || arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match choose(candidates, arguments) {
        Choice::One(resolved) => Ok(resolved),
        Choice::None => {
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", list()))
                .with_hint(
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                ))
        }
        Choice::Several => {
            Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("function {name}({}) is not unique", list()))
                .with_hint("Could not choose a best candidate function. You might need to add explicit type casts."))
        }
    }
}

/// Finds the operator for operands of these types; a prefix operator has no left one.
pub fn resolve_operator(operator: &str, left: Option<&Type>, right: &Type) -> Result<Resolved> {
    let candidates = OPERATORS.get(operator).map_or(&[][..], Vec::as_slice);
    let arguments: Vec<Type> = left.into_iter().chain([right]).cloned().collect();
    let shown = || format!("{}{operator} {right}", left.map(|ty| format!("{ty} ")).unwrap_or_default());
    match choose(candidates, &arguments) {
        Choice::One(resolved) => Ok(resolved),
        Choice::None => {
            Err(SqlError::new(SqlState::UNDEFINED_FUNCTION, format!("operator does not exist: {}", shown())).with_hint(
                "No operator matches the given name and argument types. You might need to add explicit type casts.",
            ))
        }
        Choice::Several => {
            Err(SqlError::new(SqlState::AMBIGUOUS_FUNCTION, format!("operator is not unique: {}", shown()))
                .with_hint("Could not choose a best candidate operator. You might need to add explicit type casts."))
        }
    }
}

enum Choice {
    None,
    One(Resolved),
    Several,
}

/// A function with its parameters made concrete for these arguments.
struct Candidate {
    function: &'static Function,
    types: Vec<Type>,
    /// False where the parameter is polymorphic, which counts as neither an exact match nor a preferred type.
    declared: Vec<bool>,
    result: Type,
}

fn choose(functions: &'static [Function], arguments: &[Type]) -> Choice {
    let arguments: Vec<Type> = arguments.iter().map(Type::base).collect();
    // Step 5 first for operators and functions of two: `x = 'literal'` means x's type if that fits exactly.
    let known: Vec<&Type> = arguments.iter().filter(|ty| **ty != Type::Unknown).collect();
    let same_known = known.first().filter(|first| known.iter().all(|ty| ty == *first)).copied().cloned();
    if let Some(ty) = same_known.as_ref().filter(|_| known.len() < arguments.len()) {
        let assumed = vec![ty.clone(); arguments.len()];
        if let Some(candidate) = exact(functions, &assumed) {
            return Choice::One(candidate.resolved());
        }
        // Of an array and a literal, the literal is an array as well: `array || null`.
        let array_too = |function: &Function| {
            function.variadic.is_none() && function.parameters.iter().all(|p| *p == Parameter::AnyArray)
        };
        let candidates = functions.iter().filter(|function| array_too(function));
        if matches!(ty, Type::Array(_))
            && let Some(candidate) = candidates.filter_map(|function| Candidate::new(function, &assumed)).next()
        {
            return Choice::One(candidate.resolved());
        }
    }
    if let Some(candidate) = exact(functions, &arguments) {
        return Choice::One(candidate.resolved());
    }
    let mut candidates: Vec<Candidate> = Vec::new();
    for candidate in functions.iter().filter_map(|function| Candidate::new(function, &arguments)) {
        // A polymorphic function that comes out the same as a plain one, which stands before it, adds nothing.
        if candidates.iter().all(|earlier| earlier.types != candidate.types) {
            candidates.push(candidate);
        }
    }
    let is_exact = |candidate: &Candidate, i: usize| candidate.declared[i] && candidate.types[i] == arguments[i];
    let is_preferred = |candidate: &Candidate, i: usize| {
        arguments[i] != Type::Unknown && candidate.declared[i] && candidate.types[i].is_preferred()
    };
    let count = arguments.len();
    keep_best(&mut candidates, |candidate| (0..count).filter(|i| is_exact(candidate, *i)).count());
    keep_best(&mut candidates, |candidate| {
        (0..count).filter(|i| is_exact(candidate, *i) || is_preferred(candidate, *i)).count()
    });
    if candidates.len() > 1 {
        for (i, _) in arguments.iter().enumerate().filter(|(_, argument)| **argument == Type::Unknown) {
            let categories = || candidates.iter().map(|candidate| candidate.types[i].category());
            let strings = categories().any(|category| category == Category::String);
            let first = categories().next();
            let agreed = first.filter(|first| categories().all(|category| category == *first));
            let Some(category) = (if strings { Some(Category::String) } else { agreed }) else { continue };
            candidates.retain(|candidate| candidate.types[i].category() == category);
            if candidates.iter().any(|candidate| candidate.types[i].is_preferred()) {
                candidates.retain(|candidate| candidate.types[i].is_preferred());
            }
        }
    }
    if candidates.len() > 1
        && let Some(ty) = same_known
    {
        let fits = |candidate: &Candidate| {
            candidate.types.iter().all(|parameter| can_cast(&ty, parameter, CastContext::Implicit))
        };
        if candidates.iter().filter(|candidate| fits(candidate)).count() == 1 {
            candidates.retain(fits);
        }
    }
    match candidates.len() {
        0 => Choice::None,
        1 => Choice::One(candidates.remove(0).resolved()),
        _ => Choice::Several,
    }
}

/// Keeps the candidates with the highest score.
fn keep_best(candidates: &mut Vec<Candidate>, score: impl Fn(&Candidate) -> usize) {
    let best = candidates.iter().map(&score).max().unwrap_or(0);
    candidates.retain(|candidate| score(candidate) == best);
}

fn exact(functions: &'static [Function], arguments: &[Type]) -> Option<Candidate> {
    let concrete = |function: &&Function| {
        function.variadic.is_none() && function.parameters.iter().all(|p| matches!(p, Parameter::Exactly(_)))
    };
    let found = functions.iter().filter(concrete).find(|function| {
        function.parameters.len() == arguments.len()
            && function.parameters.iter().zip(arguments).all(|(p, a)| *p == Parameter::Exactly(a.clone()))
    })?;
    Candidate::new(found, arguments)
}

impl Candidate {
    /// The function for these arguments, if they convert silently.
    fn new(function: &'static Function, arguments: &[Type]) -> Option<Candidate> {
        let fixed = function.parameters.len();
        let enough = match function.variadic {
            Some(_) => arguments.len() > fixed,
            None => arguments.len() == fixed,
        };
        if !enough {
            return None;
        }
        let parameters: Vec<&Parameter> = (0..arguments.len())
            .map(|i| function.parameters.get(i).or(function.variadic.as_ref()))
            .collect::<Option<_>>()?;
        // What `anyelement` stands for: the common type of what is given for it and for the elements of `anyarray`.
        let mut given = Vec::new();
        let mut polymorphic = false;
        for (parameter, argument) in parameters.iter().zip(arguments) {
            match (parameter, argument) {
                (Parameter::AnyElement, ty) => {
                    polymorphic = true;
                    given.push(ty.clone());
                }
                (Parameter::AnyArray, Type::Array(element)) => {
                    polymorphic = true;
                    given.push((**element).clone());
                }
                (Parameter::AnyArray, Type::Unknown) => polymorphic = true,
                (Parameter::AnyArray, _) | (Parameter::AnyNonArray, Type::Array(_)) => return None,
                _ => {}
            }
        }
        let needs_known = parameters.iter().any(|p| **p == Parameter::AnyArray);
        if polymorphic && needs_known && given.iter().all(|ty| *ty == Type::Unknown) {
            return None;
        }
        let element = if polymorphic { common_type(&given, "argument").ok()? } else { Type::Unknown };
        let concrete = |parameter: &Parameter, argument: &Type| match parameter {
            Parameter::Exactly(ty) => ty.clone(),
            Parameter::AnyElement => element.clone(),
            Parameter::AnyArray => Type::array_of(element.clone()),
            Parameter::Any | Parameter::AnyNonArray if *argument == Type::Unknown => Type::Text,
            Parameter::Any | Parameter::AnyNonArray => argument.clone(),
        };
        let types: Vec<Type> = parameters.iter().zip(arguments).map(|(p, a)| concrete(p, a)).collect();
        let fits = types.iter().zip(arguments).all(|(ty, argument)| can_cast(argument, ty, CastContext::Implicit));
        let result = concrete(&function.result, &Type::Text);
        let declared = parameters.iter().map(|parameter| matches!(parameter, Parameter::Exactly(_))).collect();
        fits.then_some(Candidate { function, types, declared, result })
    }

    fn resolved(self) -> Resolved {
        Resolved {
            name: self.function.name,
            arguments: self.types,
            result: self.result,
            kind: kind_of(&self.function.body),
            volatility: self.function.volatility,
            strict: self.function.strict,
            body: self.function.body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(left: Type, name: &str, right: Type) -> String {
        match resolve_operator(name, Some(&left), &right) {
            Ok(found) => format!("{} {} -> {}", found.arguments[0], found.arguments[1], found.result),
            Err(error) => error.state.to_string(),
        }
    }

    #[test]
    fn operators_are_found_as_postgresql_finds_them() {
        use Type::*;
        assert_eq!(operator(Int4, "+", Int8), "bigint bigint -> bigint");
        assert_eq!(operator(Int4, "/", Numeric(None)), "numeric numeric -> numeric");
        assert_eq!(operator(Int4, "+", Unknown), "integer integer -> integer");
        assert_eq!(operator(Varchar(Some(3)), "=", Unknown), "text text -> boolean");
        assert_eq!(operator(Name, "=", Unknown), "name name -> boolean");
        assert_eq!(operator(Unknown, "=", Unknown), "text text -> boolean");
        assert_eq!(operator(Oid, "=", Int4), "oid oid -> boolean");
        assert_eq!(operator(Regclass, "=", Oid), "oid oid -> boolean");
        assert_eq!(operator(Text, "||", Int4), "text integer -> text");
        assert_eq!(operator(Unknown, "||", Unknown), "text text -> text");
        assert_eq!(
            operator(Timestamptz(None), "-", Unknown),
            "timestamp with time zone timestamp with time zone -> interval"
        );
        assert_eq!(
            operator(Timestamptz(None), "+", Interval(None)),
            "timestamp with time zone interval -> timestamp with time zone"
        );
        assert_eq!(operator(Jsonb, "->", Unknown), "jsonb text -> jsonb");
        assert_eq!(operator(Type::array_of(Int4), "||", Int4), "integer[] integer -> integer[]");
        assert_eq!(operator(Type::array_of(Text), "=", Unknown), "text[] text[] -> boolean");
        assert_eq!(operator(Type::array_of(Text), "||", Unknown), "text[] text[] -> text[]");
        assert_eq!(operator(Int4, "^", Int4), "double precision double precision -> double precision");
        assert_eq!(
            operator(Time(None), "+", Interval(None)),
            "time without time zone interval -> time without time zone"
        );
        assert_eq!(
            operator(Interval(None), "+", Time(None)),
            "interval time without time zone -> time without time zone"
        );
        assert_eq!(operator(Int4, "=", Text), "42883");
        assert_eq!(operator(Date, "+", Int4), "date integer -> date");
    }

    #[test]
    fn functions_are_found_as_postgresql_finds_them() {
        let find = |name: &str, arguments: &[Type]| match resolve_function(name, arguments) {
            Ok(found) => found.result.to_string(),
            Err(error) => error.state.to_string(),
        };
        assert_eq!(find("sum", &[Type::Int4]), "bigint");
        assert_eq!(find("sum", &[Type::Int8]), "numeric");
        assert_eq!(find("avg", &[Type::Int2]), "numeric");
        assert_eq!(find("max", &[Type::Varchar(Some(9))]), "text");
        assert_eq!(find("count", &[]), "bigint");
        assert_eq!(find("length", &[Type::Unknown]), "integer");
        assert_eq!(find("abs", &[Type::Int4]), "integer");
        assert_eq!(find("round", &[Type::Int4]), "double precision");
        assert_eq!(find("round", &[Type::Numeric(None), Type::Int4]), "numeric");
        assert_eq!(find("array_length", &[Type::array_of(Type::Int4), Type::Int4]), "integer");
        assert_eq!(find("array_agg", &[Type::Int4]), "integer[]");
        assert_eq!(find("unnest", &[Type::array_of(Type::Text)]), "text");
        assert_eq!(find("concat", &[Type::Int4, Type::Unknown]), "text");
        assert_eq!(find("nothing", &[]), "42883");
        assert_eq!(find("length", &[Type::Int4]), "42883");
    }
}
