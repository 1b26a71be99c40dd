//! The replicated engine behind [`Backend`]: the one place where the engine's words become the database's.

use std::any::Any;

use async_trait::async_trait;
use rockpool_runtime::{Class, Engine, EngineError, Transaction, TransactionError};
use rockpool_sql::{Direction, Savepoint, Scan, Store, StoreError};

use crate::database::{Backend, BackendTransaction, DbError};

/// The engine as a backend.
#[derive(Clone)]
pub struct EngineBackend {
    engine: Engine,
}

impl EngineBackend {
    /// A backend over a running engine.
    pub fn new(engine: Engine) -> Self {
        EngineBackend { engine }
    }
}

#[async_trait]
impl Backend for EngineBackend {
    async fn begin(&self) -> Result<Box<dyn BackendTransaction>, DbError> {
        let transaction = self.engine.begin().await.map_err(not_begun)?;
        Ok(Box::new(EngineTransaction(transaction)))
    }

    async fn commit(&self, transaction: Box<dyn BackendTransaction>) -> Result<(), DbError> {
        let transaction: Box<dyn Any> = transaction;
        let transaction = transaction
            .downcast::<EngineTransaction>()
            .map_err(|_| DbError::Fatal("a transaction of another backend was handed in".to_owned()))?;
        self.engine.commit(transaction.0).await.map(drop).map_err(database_error)
    }
}

/// Nothing has been read or written yet, so whatever asks for another try is the cluster's silence.
fn not_begun(error: EngineError) -> DbError {
    match error.class() {
        Class::Retry => DbError::Unavailable(error.to_string()),
        _ => database_error(error),
    }
}

fn database_error(error: EngineError) -> DbError {
    let text = error.to_string();
    match (error.class(), &error) {
        (_, EngineError::ShuttingDown) => DbError::Stopping,
        // A refusal comes from a node that can't serve now: it has no leader, or no state of the group yet.
        (_, EngineError::Retry(_) | EngineError::Refused(_)) => DbError::Unavailable(text),
        (Class::Retry, _) => DbError::Conflict(text),
        (Class::Unknown, _) => DbError::OutcomeUnknown(text),
        (Class::Limit, _) => DbError::Limit(text),
        (Class::Fatal, _) => DbError::Fatal(text),
    }
}

struct EngineTransaction(Transaction);

impl BackendTransaction for EngineTransaction {}

fn store_error(error: TransactionError) -> StoreError {
    let text = error.to_string();
    match error {
        TransactionError::TooOld | TransactionError::NoState(_) => StoreError::Retry(text),
        TransactionError::KeyTooLong { .. }
        | TransactionError::ValueTooLong { .. }
        | TransactionError::TooLarge { .. } => StoreError::Limit(text),
        TransactionError::Store(_) => StoreError::Fatal(text),
    }
}

impl Store for EngineTransaction {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key).map_err(store_error)
    }

    fn scan<'a>(&'a self, start: &[u8], end: &[u8], direction: Direction) -> Result<Scan<'a>, StoreError> {
        let direction = match direction {
            Direction::Forward => rockpool_runtime::Direction::Forward,
            Direction::Backward => rockpool_runtime::Direction::Backward,
        };
        Ok(Box::new(self.0.scan(start, end, direction).map(|pair| pair.map_err(store_error))))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.0.put(key, value).map_err(store_error)
    }

    fn delete(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.0.delete(key).map_err(store_error)
    }

    fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.0.savepoint().0)
    }

    fn rollback_to(&mut self, savepoint: Savepoint) {
        self.0.rollback_to(rockpool_runtime::Savepoint(savepoint.0));
    }
}
