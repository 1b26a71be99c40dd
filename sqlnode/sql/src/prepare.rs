//! From a statement to something that runs: the crate's front door.
//!
//! [`prepare`] binds and plans a statement against the catalog as the transaction sees it. Plans are kept by the
//! statement's text, so that a driver that never prepares does not plan each time. [`execute`] runs one; if the catalog has
//! changed since, it plans again first. Both read the catalog's version key, so a transaction that used a plan conflicts
//! with one that changes the catalog.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sqlparser::ast::{self, SetExpr, Statement as Ast};

use crate::bind::{Binder, BoundQuery, Delete, Insert, Update};
use crate::catalog::{Catalog, CatalogVersion, read_version};
use crate::ddl;
use crate::error::{Result, SqlError, SqlState};
use crate::exec::{self, Context, Runtime};
use crate::func::CatalogLookup;
use crate::kind::StatementKind;
use crate::optimize::{Rules, optimize, rules_of};
use crate::parse::Statement;
use crate::plan::{Expr, OnceNumbers, Plan, explain, resolve};
use crate::session::{CommandTag, RowSink, SessionInfo};
use crate::store::Store;
use crate::types::{Type, Value};

/// Decoded catalogs that are kept: the current one, and those of a few transactions that change it.
const CATALOGS_MAX: usize = 8;
/// Plans that are kept.
const PLANS_MAX: usize = 1_024;
/// Bytes of text up to which a statement's plan is kept.
const PLAN_TEXT_BYTES_MAX: usize = 8 * 1024;

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, with the modifier.
    pub ty: Type,
    /// The oid of the table that it comes from unchanged, or 0.
    pub table_oid: u32,
    /// The number of the column in that table (from 1), or 0.
    pub column_number: i16,
}

/// What all sessions of a node share: decoded catalogs and plans, both bounded. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Caches(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    catalogs: BTreeMap<CatalogVersion, Arc<Catalog>>,
    plans: BTreeMap<PlanKey, (Arc<Prepared>, u64)>,
    clock: u64,
}

/// What a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PlanKey {
    text: String,
    version: CatalogVersion,
    search_path: Vec<String>,
    user: String,
    rules: Rules,
    hints: Vec<Option<Type>>,
}

impl Caches {
    /// Empty caches.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The catalog that this transaction sees.
    pub(crate) fn catalog(&self, store: &dyn Store) -> Result<Arc<Catalog>> {
        let version = read_version(store)?;
        if let Some(catalog) = self.lock().catalogs.get(&version) {
            return Ok(catalog.clone());
        }
        let catalog = Arc::new(Catalog::read(store)?);
        let mut kept = self.lock();
        while kept.catalogs.len() >= CATALOGS_MAX {
            kept.catalogs.pop_first();
        }
        kept.catalogs.insert(version, catalog.clone());
        Ok(catalog)
    }

    fn plan(&self, key: &PlanKey) -> Option<Arc<Prepared>> {
        let mut kept = self.lock();
        kept.clock += 1;
        let clock = kept.clock;
        let (plan, used) = kept.plans.get_mut(key)?;
        *used = clock;
        Some(plan.clone())
    }

    fn keep(&self, key: PlanKey, plan: Arc<Prepared>) {
        let mut kept = self.lock();
        if kept.plans.len() >= PLANS_MAX {
            // Half of the plans go at once, those not used for longest, so that this is seldom.
            let mut uses: Vec<u64> = kept.plans.values().map(|(_, used)| *used).collect();
            uses.sort_unstable();
            let median = uses[uses.len() / 2];
            kept.plans.retain(|_, (_, used)| *used > median);
        }
        kept.clock += 1;
        let clock = kept.clock;
        kept.plans.insert(key, (plan, clock));
    }
}

/// What a prepared statement does.
#[derive(Debug)]
enum Action {
    Query(Box<Plan>),
    Insert(Box<Insert>),
    Update(Box<Update>),
    Delete(Box<Delete>),
    Ddl,
    /// Lines of text.
    Explain(Vec<String>),
    Nothing(&'static str),
}

/// A stored table that a statement reads or changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Its schema.
    pub schema: String,
    /// Its name; empty where a statement is about the schema itself.
    pub name: String,
    /// Rows or the table itself may be changed, or a foreign key is pointed at it.
    pub change: bool,
}

/// A statement bound and planned against one version of the catalog.
#[derive(Debug)]
pub struct Prepared {
    statement: Statement,
    catalog: Arc<Catalog>,
    params: Vec<Type>,
    columns: Option<Vec<Column>>,
    action: Action,
    touched: Vec<Touched>,
}

impl Prepared {
    /// The types of `$1`, `$2`, ...
    pub fn params(&self) -> &[Type] {
        &self.params
    }

    /// The types that its parameters have, as hints for planning it again.
    fn hints(&self) -> Vec<Option<Type>> {
        self.params.iter().cloned().map(Some).collect()
    }

    /// Whoever prepared the statement was told its columns: planned again, it must have the same.
    fn must_answer_alike(&self, fresh: &Prepared) -> Result<()> {
        match fresh.columns == self.columns && fresh.params == self.params {
            true => Ok(()),
            false => {
                let message = "cached plan must not change result type";
                Err(SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, message))
            }
        }
    }

    /// The columns of its result, if it returns rows.
    pub fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// The names behind oids, for printing results of types such as `regclass`.
    pub fn names<'a>(&'a self, session: &'a SessionInfo) -> Box<dyn CatalogLookup + 'a> {
        exec::names(&self.catalog, session)
    }

    /// The statement that it was made from.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// True if the catalog has changed since; [`execute`] then plans again.
    pub fn is_stale(&self, store: &dyn Store) -> Result<bool> {
        Ok(read_version(store)? != self.catalog.version)
    }

    /// The stored tables that running it in this session touches, however deep in the statement they are named; those
    /// behind foreign keys are not among them. Valid until the plan is stale: see [`refreshed`].
    pub fn touched(&self, session: &SessionInfo) -> Cow<'_, [Touched]> {
        match self.action {
            // A schema change looks its names up when it runs, by the search path of that moment.
            Action::Ddl => Cow::Owned(ddl::touched(self.statement.ast(), &self.catalog, session)),
            _ => Cow::Borrowed(&self.touched),
        }
    }

    /// True if running it writes nothing (a sequence may still count).
    pub fn is_read_only(&self) -> bool {
        matches!(self.action, Action::Query(_) | Action::Explain(_) | Action::Nothing(_))
    }
}

/// Binds and plans a statement. `param_hints` are the types that the client declared for `$1`, `$2`, ...
pub fn prepare(
    statement: &Statement,
    store: &dyn Store,
    session: &SessionInfo,
    caches: &Caches,
    param_hints: &[Option<Type>],
) -> Result<Arc<Prepared>> {
    let catalog = caches.catalog(store)?;
    if statement.text().len() > PLAN_TEXT_BYTES_MAX {
        return Ok(Arc::new(prepare_with(statement, catalog, session, param_hints)?));
    }
    let key = PlanKey {
        text: statement.text().to_string(),
        version: catalog.version,
        search_path: session.search_path.clone(),
        user: session.user.clone(),
        rules: rules_of(session),
        hints: param_hints.to_vec(),
    };
    if let Some(plan) = caches.plan(&key) {
        return Ok(plan);
    }
    let plan = Arc::new(prepare_with(statement, catalog, session, param_hints)?);
    caches.keep(key, plan.clone());
    Ok(plan)
}

fn prepare_with(
    statement: &Statement,
    catalog: Arc<Catalog>,
    session: &SessionInfo,
    hints: &[Option<Type>],
) -> Result<Prepared> {
    let (params, touched, columns, action) = {
        let runtime = Runtime::new(&catalog, session, &[]);
        let mut binder = Binder::new(&catalog, session, &runtime, statement.source(), hints);
        let (columns, action) = plan_action(statement, &mut binder, &runtime)?;
        let (params, touched) = binder.finish();
        (params, touched, columns, action)
    };
    Ok(Prepared { statement: statement.clone(), catalog, params, columns, action, touched })
}

fn plan_action(
    statement: &Statement,
    binder: &mut Binder<'_>,
    runtime: &Runtime<'_>,
) -> Result<(Option<Vec<Column>>, Action)> {
    let rules = rules_of(runtime.session);
    match (statement.kind(), statement.ast()) {
        (_, Ast::Query(query)) => {
            // WITH before a change belongs to the change.
            if let SetExpr::Insert(inner) | SetExpr::Update(inner) | SetExpr::Delete(inner) = query.body.as_ref() {
                binder.bind_with_of(query)?;
                return plan_change(inner, binder, rules, runtime);
            }
            let (plan, columns) = plan_query(query, binder, rules, runtime)?;
            Ok((Some(columns), Action::Query(Box::new(plan))))
        }
        (StatementKind::Dml, change) => plan_change(change, binder, rules, runtime),
        (StatementKind::Ddl, _) => Ok((None, Action::Ddl)),
        (StatementKind::Nothing(tag), _) => Ok((None, Action::Nothing(tag))),
        (_, Ast::Explain { analyze, verbose, statement: inner, format, options, estimate, query_plan, .. }) => {
            let other = format.is_some() || options.is_some() || *estimate || *query_plan || *verbose;
            if *analyze || other {
                return Err(SqlError::unsupported("an option of EXPLAIN"));
            }
            let lines = explain_statement(inner, binder, rules, runtime)?;
            let column = Column { name: "QUERY PLAN".to_string(), ty: Type::Text, table_oid: 0, column_number: 0 };
            Ok((Some(vec![column]), Action::Explain(lines)))
        }
        (StatementKind::Unsupported(what), _) => Err(SqlError::unsupported(what).at(Some(1))),
        _ => Err(SqlError::internal("a statement that belongs to the session came to the language")),
    }
}

fn plan_change(
    statement: &Ast,
    binder: &mut Binder<'_>,
    rules: Rules,
    runtime: &Runtime<'_>,
) -> Result<(Option<Vec<Column>>, Action)> {
    match statement {
        Ast::Insert(insert) => {
            let insert = plan_insert(insert, binder, rules, runtime)?;
            let columns = returning_columns(&insert.returning);
            Ok((columns, Action::Insert(Box::new(insert))))
        }
        Ast::Update(update) => {
            let update = plan_update(update, binder, rules, runtime)?;
            let columns = returning_columns(&update.returning);
            Ok((columns, Action::Update(Box::new(update))))
        }
        Ast::Delete(delete) => {
            let delete = plan_delete(delete, binder, rules, runtime)?;
            let columns = returning_columns(&delete.returning);
            Ok((columns, Action::Delete(Box::new(delete))))
        }
        _ => Err(SqlError::unsupported("this change of rows")),
    }
}

type Returning = Option<Vec<(crate::bind::OutputColumn, Expr)>>;

fn returning_columns(returning: &Returning) -> Option<Vec<Column>> {
    let items = returning.as_ref()?;
    Some(items.iter().map(|(column, _)| column.public()).collect())
}

fn plan_query(
    query: &ast::Query,
    binder: &mut Binder<'_>,
    rules: Rules,
    runtime: &Runtime<'_>,
) -> Result<(Plan, Vec<Column>)> {
    let BoundQuery { plan, columns } = binder.bind_query(query, None)?;
    let mut plan = optimize(plan, rules, runtime);
    resolve(&mut plan, &mut [], &mut binder.once)?;
    Ok((plan, columns.iter().map(|column| column.public()).collect()))
}

fn resolve_over(exprs: &mut [&mut Expr], columns: &[crate::plan::ColumnId], once: &mut OnceNumbers) -> Result<()> {
    resolve(&mut Plan::nothing(columns.to_vec()), exprs, once)
}

fn returning_exprs(returning: &mut Returning) -> Vec<&mut Expr> {
    returning.iter_mut().flatten().map(|(_, expr)| expr).collect()
}

fn plan_insert(insert: &ast::Insert, binder: &mut Binder<'_>, rules: Rules, runtime: &Runtime<'_>) -> Result<Insert> {
    let mut insert = binder.bind_insert(insert)?;
    insert.source = optimize(insert.source, rules, runtime);
    resolve(&mut insert.source, &mut [], &mut binder.once)?;
    insert.checks.resolve()?;
    if let Some(conflict) = &mut insert.conflict
        && let crate::bind::ConflictAction::Update { assignments, condition } = &mut conflict.action
    {
        let values = assignments.iter_mut().map(|assignment| &mut assignment.value);
        resolve_over(&mut values.chain(condition).collect::<Vec<_>>(), &conflict.columns, &mut binder.once)?;
    }
    resolve_over(&mut returning_exprs(&mut insert.returning), &insert.row, &mut binder.once)?;
    Ok(insert)
}

fn plan_update(update: &ast::Update, binder: &mut Binder<'_>, rules: Rules, runtime: &Runtime<'_>) -> Result<Update> {
    let mut update = binder.bind_update(update)?;
    update.source = optimize(update.source, rules, runtime);
    let mut exprs: Vec<&mut Expr> = update.assignments.iter_mut().map(|assignment| &mut assignment.value).collect();
    exprs.extend(returning_exprs(&mut update.returning));
    resolve(&mut update.source, &mut exprs, &mut binder.once)?;
    update.checks.resolve()?;
    Ok(update)
}

fn plan_delete(delete: &ast::Delete, binder: &mut Binder<'_>, rules: Rules, runtime: &Runtime<'_>) -> Result<Delete> {
    let mut delete = binder.bind_delete(delete)?;
    delete.source = optimize(delete.source, rules, runtime);
    resolve(&mut delete.source, &mut returning_exprs(&mut delete.returning), &mut binder.once)?;
    Ok(delete)
}

fn explain_statement(
    statement: &Ast,
    binder: &mut Binder<'_>,
    rules: Rules,
    runtime: &Runtime<'_>,
) -> Result<Vec<String>> {
    let under = |title: String, plan: &Plan| {
        let inner = explain(plan).into_iter().map(|line| format!("  {line}"));
        std::iter::once(title).chain(inner).collect::<Vec<_>>()
    };
    Ok(match statement {
        Ast::Query(query) => explain(&plan_query(query, binder, rules, runtime)?.0),
        Ast::Insert(insert) => {
            let insert = plan_insert(insert, binder, rules, runtime)?;
            under(format!("Insert on {}", insert.table.name), &insert.source)
        }
        Ast::Update(update) => {
            let update = plan_update(update, binder, rules, runtime)?;
            under(format!("Update on {}", update.table.name), &update.source)
        }
        Ast::Delete(delete) => {
            let delete = plan_delete(delete, binder, rules, runtime)?;
            under(format!("Delete on {}", delete.table.name), &delete.source)
        }
        _ => return Err(SqlError::unsupported("EXPLAIN of this statement")),
    })
}

impl crate::bind::RowChecks {
    /// Fills in where its columns are: in the table's row. There is no subquery in a check or an index's condition.
    pub(crate) fn resolve(&mut self) -> Result<()> {
        let checks = self.checks.iter_mut().map(|(_, condition)| condition);
        let mut exprs: Vec<&mut Expr> = checks.chain(self.predicates.iter_mut().flatten()).collect();
        resolve_over(&mut exprs, &self.columns, &mut OnceNumbers::default())
    }
}

/// The same statement, planned again if the catalog has changed since: what [`execute`] would run now. The new plan is
/// kept with the others, for whoever holds on to the old one.
pub fn refreshed(
    prepared: &Arc<Prepared>,
    store: &dyn Store,
    session: &SessionInfo,
    caches: &Caches,
) -> Result<Arc<Prepared>> {
    if !prepared.is_stale(store)? {
        return Ok(Arc::clone(prepared));
    }
    let fresh = prepare(&prepared.statement, store, session, caches, &prepared.hints())?;
    prepared.must_answer_alike(&fresh)?;
    Ok(fresh)
}

/// The statement planned again, if it has to be.
fn fresh(prepared: &Prepared, store: &dyn Store, session: &SessionInfo) -> Result<Option<Prepared>> {
    if !prepared.is_stale(store)? {
        return Ok(None);
    }
    let catalog = Arc::new(Catalog::read(store)?);
    let fresh = prepare_with(&prepared.statement, catalog, session, &prepared.hints())?;
    prepared.must_answer_alike(&fresh)?;
    Ok(Some(fresh))
}

/// Runs a prepared statement. When it fails, what it wrote is undone.
pub fn execute(
    prepared: &Prepared,
    params: &[Value],
    store: &mut dyn Store,
    session: &SessionInfo,
    sink: &mut dyn RowSink,
) -> Result<CommandTag> {
    match fresh(prepared, store, session)? {
        Some(fresh) => execute_fresh(&fresh, params, store, session, sink),
        None => execute_fresh(prepared, params, store, session, sink),
    }
}

fn execute_fresh(
    prepared: &Prepared,
    params: &[Value],
    store: &mut dyn Store,
    session: &SessionInfo,
    sink: &mut dyn RowSink,
) -> Result<CommandTag> {
    if params.len() != prepared.params.len() {
        let message = format!(
            "bind message supplies {} parameters, but prepared statement requires {}",
            params.len(),
            prepared.params.len()
        );
        return Err(SqlError::new(SqlState::PROTOCOL_VIOLATION, message));
    }
    let runtime = Runtime::new(&prepared.catalog, session, params);
    if let Action::Nothing(tag) = prepared.action {
        return Ok(CommandTag::Command(tag));
    }
    let savepoint = store.savepoint();
    let result = run(prepared, store, &runtime, sink);
    if result.is_err() {
        store.rollback_to(savepoint);
    }
    result
}

fn run(
    prepared: &Prepared,
    store: &mut dyn Store,
    runtime: &Runtime<'_>,
    sink: &mut dyn RowSink,
) -> Result<CommandTag> {
    let tag = match &prepared.action {
        Action::Query(plan) => {
            let ctx = Context::new(&*store, runtime);
            CommandTag::Select(exec::run_query(plan, &ctx, sink)?)
        }
        Action::Insert(insert) => CommandTag::Insert(exec::run_insert(insert, store, runtime, sink)?),
        Action::Update(update) => CommandTag::Update(exec::run_update(update, store, runtime, sink)?),
        Action::Delete(delete) => CommandTag::Delete(exec::run_delete(delete, store, runtime, sink)?),
        Action::Ddl => ddl::run(&prepared.statement, &prepared.catalog, store, runtime)?,
        Action::Explain(lines) => {
            let rows = lines.iter().map(|line| vec![Value::text(line)]).collect();
            let _ = sink.rows(rows)?;
            CommandTag::Command("EXPLAIN")
        }
        Action::Nothing(tag) => CommandTag::Command(tag),
    };
    exec::write_sequences(store, runtime)?;
    Ok(tag)
}
