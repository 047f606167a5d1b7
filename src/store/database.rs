//! The open database, and the transactions that all work on it is done in.

use std::path::PathBuf;

use rusqlite::{Connection, TransactionBehavior};

use super::error::{Attempt, Failure, StoreError};
use super::reserve;
use crate::sys::fs::lock::Lock;

/// An open database.
#[derive(Debug)]
pub struct Store {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    /// It was opened for reading only, and leaves everything as it is.
    pub(super) looks_only: bool,
    /// For a database that is being made in another's place.
    pub(super) place: Option<Place>,
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.looks_only && self.place.is_none() {
            reserve::keep(&self.path);
        }
    }
}

impl Store {
    /// Runs `queries`; `doing` completes "cannot …".
    pub(super) fn read<T>(
        &self,
        doing: &'static str,
        queries: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        queries(&self.conn).map_err(|err| StoreError::from_sqlite(&self.path, doing, err))
    }

    /// Runs `changes` in one immediate transaction, which is rolled back unless they succeed.
    pub(super) fn write<T>(
        &mut self,
        doing: &'static str,
        changes: impl FnOnce(&Connection) -> Attempt<T>,
    ) -> Result<T, StoreError> {
        let result = (|| {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = changes(&tx)?;
            tx.commit()?;
            Ok(value)
        })();
        match result {
            Ok(value) => {
                tracing::debug!("committed: {doing}");
                Ok(value)
            }
            Err(Failure::Refused(refusal)) => Err(*refusal),
            Err(Failure::Sqlite(err)) => Err(StoreError::from_sqlite(&self.path, doing, err)),
        }
    }

    /// As `write`, for what need not outlast a power cut. It outlasts the death of any process.
    pub(super) fn write_unflushed<T>(
        &mut self,
        doing: &'static str,
        changes: impl FnOnce(&Connection) -> Attempt<T>,
    ) -> Result<T, StoreError> {
        let sqlite = |err| StoreError::from_sqlite(&self.path, doing, err);
        self.conn.execute_batch("PRAGMA synchronous = NORMAL").map_err(sqlite)?;
        let done = self.write(doing, changes);
        let sqlite = |err| StoreError::from_sqlite(&self.path, doing, err);
        self.conn.execute_batch("PRAGMA synchronous = FULL").map_err(sqlite)?;
        done
    }
}

/// Where a new database is to be, and the lock that keeps others from making one there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) _lock: Lock,
}
