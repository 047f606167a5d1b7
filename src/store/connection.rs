//! Connections to the database file, which is made or brought to the present schema here.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, AtFlags, CWD};

use super::error::StoreError;
use super::files::{beside, remove, sync_directory};
use super::schema::MIGRATIONS;
use crate::model::waits;

const OPEN: &str = "open the database";

/// A connection to an existing file, with the settings that do not live in it.
pub fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|err| unopened(path, err))?;
    let settle = || {
        conn.busy_timeout(waits::LOCK_DATABASE)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        // Commands come one at a time, so nearly every command is the last to close the file. It must not
        // pay for two more flushes by copying the WAL each time. The WAL is kept short instead, because the
        // next command reads through it.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 100;")?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(())
    };
    settle().map_err(|err| unopened(path, err))?;
    Ok(conn)
}

pub fn version(conn: &Connection, path: &Path) -> Result<i32, StoreError> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|err| unopened(path, err))
}

/// SQLite says no more than "unable to open database file"; the kernel says why.
pub fn unopened(path: &Path, err: rusqlite::Error) -> StoreError {
    if err.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
        let access = rustix::fs::accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS);
        match access.map_err(io::Error::from) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                return StoreError::NotSetUp { path: path.to_owned() };
            }
            Err(why) if why.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return StoreError::ReadOnly { doing: OPEN, path: path.to_owned(), cause: err };
            }
            Err(source) => return StoreError::File { doing: "open database", path: path.to_owned(), source },
            Ok(()) => {}
        }
    }
    StoreError::from_sqlite(path, OPEN, err)
}

/// Makes a database, complete before it appears under its name. The caller holds the lock.
pub fn create(path: &Path) -> Result<(), StoreError> {
    // SQLite would replay a WAL that an earlier database of this name left behind.
    let new = beside(path, ".new");
    for suffix in ["-wal", "-shm", ".new", ".new-wal", ".new-shm", ".new-journal"] {
        remove(&beside(path, suffix))?;
    }
    // The -wal and -shm that SQLite makes get the mode of the database.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .map_err(|source| StoreError::File { doing: "create database", path: new.clone(), source })?;
    let mut conn = connect(&new)?;
    let sqlite = |err| StoreError::from_sqlite(path, "create the database", err);
    conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0)).map_err(sqlite)?;
    migrate(&mut conn, path)?;
    // This once, everything has to be in the file itself; closing does that.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sqlite)?;
    conn.close().map_err(|(_, err)| sqlite(err))?;
    fs::rename(&new, path).map_err(|source| StoreError::File {
        doing: "create database",
        path: path.to_owned(),
        source,
    })?;
    sync_directory(path)
}

/// The caller holds the lock: the version is read before the transaction that changes it.
pub fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // With foreign keys on, a step that replaces a table would delete the rows that refer to it.
    let foreign_keys = |conn: &Connection, on| {
        let set = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, on);
        set.map_err(|err| StoreError::from_sqlite(path, "prepare the database for its new schema", err))
    };
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    foreign_keys(conn, false)?;
    let migrated = MIGRATIONS.to_latest(conn);
    foreign_keys(conn, true)?;
    migrated.map_err(|err| match err {
        rusqlite_migration::Error::RusqliteError { err, .. } => {
            StoreError::from_sqlite(path, "bring the database to this version's schema", err)
        }
        source => StoreError::Migration { path: path.to_owned(), source },
    })
}
