//! Plans as text, an operator a line, inputs indented below.

use super::{
    Access, AggregateCall, Expr, JoinKind, KeyList, Plan, Scan, SetOperation, SortKey, Strategy, SubqueryKind,
};
use crate::catalog::Table;
use crate::store::Direction;
use crate::types::{Value, encode_text};

/// Names of the columns that expressions mention.
type Names = std::collections::BTreeMap<super::ColumnId, String>;

/// The plan's lines.
pub(crate) fn explain(plan: &Plan) -> Vec<String> {
    let mut names = Names::new();
    name_columns(plan, &mut names);
    let mut shown = Shown::default();
    show(plan, 0, &names, &mut shown);
    shown.lines
}

/// What was printed so far.
#[derive(Default)]
struct Shown {
    lines: Vec<String>,
    /// WITH queries, whose plans are printed where they are first mentioned.
    withs: std::collections::BTreeSet<usize>,
}

fn name_columns(plan: &Plan, names: &mut Names) {
    match plan {
        Plan::Scan(scan) => {
            for (id, place) in &scan.columns {
                names.insert(*id, format!("{}.{}", scan.alias, scan.table.columns[*place].name));
            }
        }
        Plan::System { table, columns } => {
            for (id, (name, _)) in columns.iter().zip(table.columns) {
                names.insert(*id, format!("{}.{name}", table.name));
            }
        }
        Plan::Functions { functions, .. } => {
            for call in functions {
                names.insert(call.column, call.function.name.to_string());
            }
        }
        _ => {}
    }
    for input in plan.inputs() {
        name_columns(input, names);
    }
    for expr in plan.exprs() {
        expr.walk(&mut |part| {
            if let Expr::Subquery(subquery) = part {
                name_columns(&subquery.plan, names);
            }
        });
    }
    match plan {
        Plan::Project { columns, .. } | Plan::Aggregate { groups: columns, .. } => {
            for (id, expr) in columns {
                if !names.contains_key(id) {
                    let text = show_expr(expr, names);
                    names.insert(*id, text);
                }
            }
        }
        _ => {}
    }
    if let Plan::Aggregate { aggregates, .. } = plan {
        for (id, call) in aggregates {
            let text = show_call(call, names);
            names.insert(*id, text);
        }
    }
}

fn list(exprs: &[Expr], names: &Names, separator: &str) -> String {
    exprs.iter().map(|expr| show_expr(expr, names)).collect::<Vec<_>>().join(separator)
}

fn show_call(call: &AggregateCall, names: &Names) -> String {
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let args = if call.args.is_empty() { "*".to_string() } else { list(&call.args, names, ", ") };
    format!("{}({distinct}{args})", call.function.name)
}

fn show(plan: &Plan, depth: usize, names: &Names, shown: &mut Shown) {
    let indent = "  ".repeat(depth);
    let line = match plan {
        Plan::Rows { rows, columns } if rows.len() == 1 && columns.is_empty() => "Result".to_string(),
        Plan::Rows { rows, .. } if rows.is_empty() => "Nothing".to_string(),
        Plan::Rows { rows, .. } => format!("Values: {} rows", rows.len()),
        Plan::Scan(scan) => show_scan(scan, names),
        Plan::System { table, .. } => format!("System Scan on {}.{}", table.schema, table.name),
        Plan::Functions { functions, .. } => {
            let calls =
                functions.iter().map(|call| format!("{}({})", call.function.name, list(&call.args, names, ", ")));
            format!("Function Scan: {}", calls.collect::<Vec<_>>().join(", "))
        }
        Plan::Filter { conditions, .. } => format!("Filter: {}", list(conditions, names, " AND ")),
        Plan::Project { columns, .. } => {
            let exprs: Vec<String> = columns.iter().map(|(_, expr)| show_expr(expr, names)).collect();
            format!("Project: {}", exprs.join(", "))
        }
        Plan::Join(join) => {
            let kind = match join.kind {
                JoinKind::Inner => "Inner",
                JoinKind::Left => "Left",
                JoinKind::Right => "Right",
                JoinKind::Full => "Full",
            };
            let on = match join.on.is_empty() {
                true => String::new(),
                false => format!(" on {}", list(&join.on, names, " AND ")),
            };
            match &join.strategy {
                Strategy::Nested => format!("{kind} Nested Loop Join{on}"),
                Strategy::Lateral => format!("{kind} Lookup Join{on}"),
                Strategy::Hash { left_keys, right_keys } => {
                    let keys = left_keys.iter().zip(right_keys);
                    let keys = keys.map(|(a, b)| format!("{} = {}", show_expr(a, names), show_expr(b, names)));
                    let and = if join.on.is_empty() {
                        String::new()
                    } else {
                        format!(" and {}", list(&join.on, names, " AND "))
                    };
                    format!("{kind} Hash Join on {}{and}", keys.collect::<Vec<_>>().join(", "))
                }
            }
        }
        Plan::Aggregate { groups, aggregates, .. } => {
            let calls: Vec<String> = aggregates.iter().map(|(_, call)| show_call(call, names)).collect();
            let by: Vec<String> = groups.iter().map(|(_, expr)| show_expr(expr, names)).collect();
            match by.is_empty() {
                true => format!("Aggregate: {}", calls.join(", ")),
                false => format!("Aggregate: {} by {}", calls.join(", "), by.join(", ")),
            }
        }
        Plan::Distinct { keys, .. } => format!("Distinct: {}", list(keys, names, ", ")),
        Plan::Sort { keys, top, .. } => {
            let keys: Vec<String> = keys.iter().map(|key| show_key(key, names)).collect();
            let top = if top.is_some() { "Top-N " } else { "" };
            format!("{top}Sort: {}", keys.join(", "))
        }
        Plan::Limit { bounds, .. } => {
            let mut parts = Vec::new();
            if let Some(limit) = &bounds.limit {
                parts.push(format!("Limit: {}", show_expr(limit, names)));
            }
            if let Some(offset) = &bounds.offset {
                parts.push(format!("Offset: {}", show_expr(offset, names)));
            }
            parts.join(" ")
        }
        Plan::SetOperation { op, all, .. } => {
            let name = match op {
                SetOperation::Union => "Union",
                SetOperation::Intersect => "Intersect",
                SetOperation::Except => "Except",
            };
            format!("{name}{}", if *all { " All" } else { "" })
        }
        Plan::With { name, .. } => format!("With {name}"),
        Plan::Recursive { name, recursion, .. } => {
            format!("Recursive Union{} {name}", if recursion.all { " All" } else { "" })
        }
        Plan::Work { .. } => "Rows Found Last".to_string(),
    };
    shown.lines.push(format!("{indent}{line}"));
    for expr in plan.exprs() {
        show_subqueries(expr, depth + 1, names, shown);
    }
    for input in plan.inputs() {
        show(input, depth + 1, names, shown);
    }
    let shared: Vec<&Plan> = match plan {
        Plan::With { number, plan, .. } if shown.withs.insert(*number) => vec![plan],
        Plan::Recursive { recursion, .. } if shown.withs.insert(recursion.number) => {
            vec![&recursion.base, &recursion.step]
        }
        _ => vec![],
    };
    for plan in shared {
        let mut inner = names.clone();
        name_columns(plan, &mut inner);
        show(plan, depth + 1, &inner, shown);
    }
}

fn show_subqueries(expr: &Expr, depth: usize, names: &Names, shown: &mut Shown) {
    if let Expr::Subquery(subquery) = expr {
        let once = if subquery.once.is_some() { " (once)" } else { "" };
        shown.lines.push(format!("{}Subquery{once}", "  ".repeat(depth)));
        show(&subquery.plan, depth + 1, names, shown);
    }
    for child in expr.children() {
        show_subqueries(child, depth, names, shown);
    }
}

fn show_key(key: &SortKey, names: &Names) -> String {
    let direction = if key.descending { " DESC" } else { "" };
    let nulls = match (key.descending, key.nulls_first) {
        (false, true) => " NULLS FIRST",
        (true, false) => " NULLS LAST",
        _ => "",
    };
    format!("{}{direction}{nulls}", show_expr(&key.expr, names))
}

fn show_scan(scan: &Scan, names: &Names) -> String {
    let table = &scan.table;
    let on = match scan.alias == table.name {
        true => table.name.clone(),
        false => format!("{} {}", table.name, scan.alias),
    };
    let back = if scan.direction == Direction::Backward { " backward" } else { "" };
    let column = |table: &Table, index: usize, at: usize| table.columns[table.indexes[index].columns[at]].name.clone();
    let mut line = match &scan.access {
        Access::Full => format!("Full Scan{back} on {on}"),
        Access::Range { index, equal, lower, upper } => {
            let chosen = &table.indexes[*index];
            let mut parts: Vec<String> = equal
                .iter()
                .enumerate()
                .map(|(at, expr)| format!("{} = {}", column(table, *index, at), show_expr(expr, names)))
                .collect();
            for (limit, symbols) in [(lower, (">", ">=")), (upper, ("<", "<="))] {
                if let Some(limit) = limit {
                    let symbol = if limit.inclusive { symbols.1 } else { symbols.0 };
                    let name = column(table, *index, equal.len());
                    parts.push(format!("{name} {symbol} {}", show_expr(&limit.value, names)));
                }
            }
            let verb = match equal.len() == chosen.columns.len() && chosen.unique {
                true => "Get",
                false => "Range Scan",
            };
            let by = match parts.is_empty() {
                true => String::new(),
                false => format!(": {}", parts.join(", ")),
            };
            format!("{verb}{back} on {on} by {}{by}", chosen.name)
        }
        Access::Keys { index, keys } => {
            let keys = match keys {
                KeyList::List(keys) => format!("IN ({})", list(keys, names, ", ")),
                KeyList::Array(array) => format!("= ANY ({})", show_expr(array, names)),
            };
            format!("Keys{back} on {on} by {}: {} {keys}", table.indexes[*index].name, column(table, *index, 0))
        }
    };
    if !scan.conditions.is_empty() {
        line.push_str(&format!(" [{}]", list(&scan.conditions, names, " AND ")));
    }
    line
}

fn show_expr(expr: &Expr, names: &Names) -> String {
    let one = |expr: &Expr| show_expr(expr, names);
    match expr {
        Expr::Constant(Value::Null, _) => "NULL".to_string(),
        Expr::Constant(Value::Bool(truth), _) => truth.to_string(),
        Expr::Constant(value, ty) => {
            let text = encode_text(value, ty, &crate::types::TextContext::utc());
            match value {
                Value::Int2(_) | Value::Int4(_) | Value::Int8(_) | Value::Numeric(_) => text,
                _ => format!("'{text}'"),
            }
        }
        Expr::Param(number, _) => format!("${}", number + 1),
        Expr::Column { id, .. } => names.get(id).cloned().unwrap_or_else(|| format!("#{}", id.0)),
        Expr::Call { function, args, .. } => {
            let word = function.name.chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_');
            match (word, args.as_slice()) {
                (false, [left, right]) => format!("({} {} {})", one(left), function.name, one(right)),
                (false, [operand]) => format!("({}{})", function.name, one(operand)),
                _ => format!("{}({})", function.name, list(args, names, ", ")),
            }
        }
        Expr::Compare { op, left, right } => format!("({} {} {})", one(left), op.symbol(), one(right)),
        Expr::Cast { expr, to, .. } => format!("{}::{to}", one(expr)),
        Expr::And(exprs) => format!("({})", list(exprs, names, " AND ")),
        Expr::Or(exprs) => format!("({})", list(exprs, names, " OR ")),
        Expr::Not(expr) => format!("NOT {}", one(expr)),
        Expr::IsNull(expr) => format!("({} IS NULL)", one(expr)),
        Expr::IsTruth(expr, truth) => format!("({} IS {})", one(expr), if *truth { "TRUE" } else { "FALSE" }),
        Expr::Same(left, right) => format!("({} IS NOT DISTINCT FROM {})", one(left), one(right)),
        Expr::Case { branches, otherwise, .. } => {
            let whens = branches.iter().map(|(when, then)| format!("WHEN {} THEN {} ", one(when), one(then)));
            format!("CASE {}ELSE {} END", whens.collect::<String>(), one(otherwise))
        }
        Expr::Coalesce(exprs, _) => format!("COALESCE({})", list(exprs, names, ", ")),
        Expr::Extreme(greatest, exprs, _) => {
            format!("{}({})", if *greatest { "GREATEST" } else { "LEAST" }, list(exprs, names, ", "))
        }
        Expr::InList { expr, list: items } => format!("({} IN ({}))", one(expr), list(items, names, ", ")),
        Expr::Quantified { left, array, comparison, all } => {
            let op = match comparison.as_ref() {
                Expr::Compare { op, .. } => op.symbol(),
                Expr::Call { function, .. } => function.name,
                _ => "?",
            };
            format!("({} {op} {} ({}))", one(left), if *all { "ALL" } else { "ANY" }, one(array))
        }
        Expr::Element(which, _) => format!("element{which}"),
        Expr::Array(exprs, _) => format!("ARRAY[{}]", list(exprs, names, ", ")),
        Expr::Record(exprs, _) => format!("ROW({})", list(exprs, names, ", ")),
        Expr::Subscript { array, indexes, .. } => format!("{}[{}]", one(array), list(indexes, names, "]["),),
        Expr::Sequence { call, args, .. } => {
            format!("{}({})", format!("{call:?}val").to_lowercase(), list(args, names, ", "))
        }
        Expr::Subquery(subquery) => match &subquery.kind {
            SubqueryKind::Scalar => "(subquery)".to_string(),
            SubqueryKind::Exists => "EXISTS (subquery)".to_string(),
            SubqueryKind::Quantified { left, all, .. } => {
                format!("({} {} (subquery))", one(left), if *all { "ALL" } else { "ANY" })
            }
            SubqueryKind::Array(_) => "ARRAY(subquery)".to_string(),
        },
        Expr::RowId => "rowid()".to_string(),
    }
}
