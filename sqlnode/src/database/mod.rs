//! Transactions for the node's own use: what the services stand on.
//!
//! ```text
//!   services, rooms      prepared SQL inside `Database::transaction`
//!         |
//!      Database          begin, run the work, commit; again from the start on a conflict
//!         |
//!      Backend           begins and commits: the engine in production, `MemoryBackend` in tests
//! ```
//!
//! Only beginning and committing touch the network. The work between is plain synchronous code over one consistent
//! view, so a transaction may run several times and must not do anything that can't be done twice: it computes, and
//! what follows from it (telling a device, cutting a stream) is done by the caller after the commit.

mod environment;
mod error;
mod memory;
mod numbers;
mod tx;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rockpool_sql::{Caches, NumberSource, Store};

pub use environment::{Environment, ShiftedEnvironment, SystemEnvironment};
pub use error::{DbError, Refusal, RefusalKind};
pub use memory::MemoryBackend;
pub use tx::{Row, Tx, count, time, uuid};

/// How long a transaction is tried before its conflict, or the cluster's silence, is reported.
const RETRY_FOR: Duration = Duration::from_secs(6);
/// The first pause between two tries; it doubles, and a random part of it is taken.
const BACK_OFF_FIRST: Duration = Duration::from_millis(2);
/// The longest pause between two tries.
const BACK_OFF_MAX: Duration = Duration::from_millis(200);

/// What begins and commits transactions.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// A transaction that sees everything committed before this call (strict serializability).
    async fn begin(&self) -> Result<Box<dyn BackendTransaction>, DbError>;

    /// Commits a transaction that this backend began. Dropping one instead rolls it back. An implementation gets its
    /// own type back by upcasting: `let any: Box<dyn Any> = transaction; any.downcast::<Mine>()`.
    ///
    /// [`DbError::Conflict`] and [`DbError::Unavailable`] promise that nothing was written.
    async fn commit(&self, transaction: Box<dyn BackendTransaction>) -> Result<(), DbError>;
}

/// One transaction of a [`Backend`]: a view and a write set.
pub trait BackendTransaction: rockpool_sql::Store + Any + Send {}

/// The node's database. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    environment: Arc<dyn Environment>,
    caches: Caches,
    plans: tx::Plans,
    numbers: numbers::Numbers,
}

impl Database {
    /// A database over `backend`. SQL sessions and the services share `caches`.
    pub fn new(backend: Arc<dyn Backend>, caches: Caches, environment: Arc<dyn Environment>) -> Self {
        let plans = tx::Plans::new(caches.clone());
        Self { shared: Arc::new(Shared { backend, environment, caches, plans, numbers: Default::default() }) }
    }

    /// What all SQL sessions of this node share.
    pub fn caches(&self) -> &Caches {
        &self.shared.caches
    }

    /// What hands out numbers of sequences to SQL sessions, which share them. It blocks; statements may.
    pub fn numbers(&self) -> Arc<dyn NumberSource> {
        Arc::new(numbers::SessionNumbers(self.clone()))
    }

    /// The clock and the randomness of this node.
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.shared.environment
    }

    /// The statements that were run through [`Database::transaction`] so far, for looking at their plans.
    pub fn statements(&self) -> Vec<&'static str> {
        self.shared.plans.texts()
    }

    /// Begins a transaction by hand, for SQL sessions. The services use [`Database::transaction`].
    pub async fn begin(&self) -> Result<Box<dyn BackendTransaction>, DbError> {
        self.shared.backend.begin().await
    }

    /// Commits what [`Database::begin`] began.
    pub async fn commit(&self, transaction: Box<dyn BackendTransaction>) -> Result<(), DbError> {
        self.shared.backend.commit(transaction).await
    }

    /// Runs `work` in a strictly serializable transaction and commits it, again from its start after a conflict or
    /// while the cluster is without a leader, for some seconds. `work` may run several times.
    pub async fn transaction<T: Send>(
        &self,
        mut work: impl FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send,
    ) -> Result<T, DbError> {
        let deadline = Instant::now() + RETRY_FOR;
        let mut attempt = 0;
        loop {
            match self.attempt(&mut work).await {
                Err(error) if error.is_retryable() => {
                    let pause = self.back_off(attempt);
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt<T: Send>(
        &self,
        work: &mut (impl FnMut(&mut Tx<'_>) -> Result<T, DbError> + Send),
    ) -> Result<T, DbError> {
        let mut transaction = self.begin().await?;
        let environment = &self.shared.environment;
        let done = {
            let store: &mut dyn Store = &mut *transaction;
            work(&mut Tx::new(store, &self.shared.plans, environment.now_us(), environment.random()))?
        };
        self.commit(transaction).await?;
        Ok(done)
    }

    /// A pause before try number `attempt`: a random part of a doubling time.
    fn back_off(&self, attempt: u32) -> Duration {
        let full = BACK_OFF_FIRST.saturating_mul(1 << attempt.min(10)).min(BACK_OFF_MAX);
        let part = u32::from_le_bytes(self.shared.environment.random());
        full.mul_f64(0.5 + f64::from(part) / f64::from(u32::MAX) / 2.0)
    }
}
