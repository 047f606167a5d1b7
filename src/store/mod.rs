//! SQLite: what nagaya knows and the kernel does not. One file, owned by the instance's user and
//! readable by nobody else; the `-wal` beside it is part of it.
//!
//! Every method is one transaction. Those that write take the write lock before they read, so what
//! they checked is still so when they commit. A `Store` must not be carried across a fork: SQLite's
//! locks belong to the process.

mod allot;
mod columns;
mod containers;
#[cfg(test)]
mod contention;
#[cfg(test)]
mod disk;
mod error;
mod firewall;
#[cfg(test)]
mod fixture;
mod networks;
mod nics;
mod open;
mod rebuild;
mod replace;
mod reserve;
mod schema;
mod setup;
mod templates;
mod work;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

pub use error::StoreError;
use error::{Attempt, Failure};
pub use firewall::PendingPolicy;
pub use rebuild::Rejected;
pub use work::Work;

/// An open database.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    path: PathBuf,
    /// It was opened to be read only, and leaves everything as it is.
    looks_only: bool,
    /// Of one that is being made in another's place.
    place: Option<replace::Place>,
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.looks_only && self.place.is_none() {
            reserve::keep(&self.path);
        }
    }
}

impl Store {
    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `queries`; `doing` completes "cannot …".
    fn read<T>(
        &self,
        doing: &'static str,
        queries: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        queries(&self.conn).map_err(|err| StoreError::from_sqlite(&self.path, doing, err))
    }

    /// Runs `changes` in one immediate transaction, which is rolled back unless they succeed.
    fn write<T>(
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
}
