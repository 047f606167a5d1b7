//! Finding, making and upgrading the database file.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, AtFlags, CWD};

use super::schema::{MIGRATIONS, VERSION};
use super::{Store, StoreError, replace, reserve};
use crate::sys::lock::{self, Lock};

const OPEN: &str = "open the database";
/// How long a command waits for another one that makes or upgrades the database.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Store {
    /// Opens the database at `path`, an absolute path; makes it where there is none, and brings an
    /// older one to the present schema. Its directory must exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::open_existing(path) {
            Err(StoreError::NotSetUp { .. }) => {
                let lock = lock(path)?;
                if !exists(path)? && !replace::finish(path)? {
                    create(path)?;
                }
                drop(lock);
                Self::open_existing(path)
            }
            opened => opened,
        }
    }

    /// As `open`, but where there is none that is the error `NotSetUp`.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        reserve::give_up_if_full(path);
        let mut conn = connect(path)?;
        let found = version(&conn, path)?;
        if found > VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        // A database is complete before it is given its name, so this one was made by others.
        if found <= 0 {
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
        if found < VERSION {
            let _lock = lock(path)?;
            migrate(&mut conn, path)?;
        }
        Ok(Self { conn, path: path.to_owned(), looks_only: false, place: None })
    }

    /// Opens the database at `path` to be read only, as it is: none is made or brought to another
    /// schema, and nobody is waited for longer than a moment.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(|err| unopened(path, err))?;
        let settle = || {
            conn.busy_timeout(Duration::from_millis(200))?;
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        };
        settle().map_err(|err| unopened(path, err))?;
        match version(&conn, path)? {
            VERSION => Ok(Self { conn, path: path.to_owned(), looks_only: true, place: None }),
            found if found > VERSION => {
                Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION })
            }
            _ => Err(StoreError::Foreign { path: path.to_owned() }),
        }
    }
}

/// A connection to an existing file, with the settings that do not live in it.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|err| unopened(path, err))?;
    let settle = || {
        conn.busy_timeout(Duration::from_secs(10))?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
        // Commands come one at a time, so nearly each is the last to close the file; it is not to
        // pay for two more flushes by copying the WAL each time. The WAL is kept short instead,
        // for the next command reads through it.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 100;")?;
        conn.set_prepared_statement_cache_capacity(32);
        Ok(())
    };
    settle().map_err(|err| unopened(path, err))?;
    Ok(conn)
}

fn version(conn: &Connection, path: &Path) -> Result<i32, StoreError> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|err| unopened(path, err))
}

/// SQLite says no more than "unable to open database file"; the kernel says why.
fn unopened(path: &Path, err: rusqlite::Error) -> StoreError {
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
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
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
    // This once everything has to be in the file itself, which closing then sees to.
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
fn migrate(conn: &mut Connection, path: &Path) -> Result<(), StoreError> {
    // A step that puts a new table in an old one's place would delete what refers to that.
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

/// Waits until no other process makes, upgrades or moves the database.
pub(super) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let (dir, lock_path) = (path.parent().unwrap_or(Path::new("/")), beside(path, ".lock"));
    let name = lock_path.file_name().unwrap_or_default();
    lock::exclusive(dir, name, PATIENCE).map_err(|source| StoreError::Lock { source })
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|source| StoreError::File { doing: "look for", path: path.to_owned(), source })
}

pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::File { doing: "remove", path: path.to_owned(), source: err })
        }
        _ => Ok(()),
    }
}

/// Makes what was renamed beside `path` outlast a power cut.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| StoreError::File {
        doing: "flush directory",
        path: dir.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::network;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_database_is_private_and_durable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        let mut store = Store::open(&path).unwrap();
        store.add_network(&network()).unwrap();
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        assert!(!beside(&path, ".new").exists() && !beside(&path, ".lock").exists());
        let pragma =
            |name| store.conn.query_row(name, [], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        assert_eq!(pragma("PRAGMA journal_mode"), "wal".to_owned().into());
        assert_eq!(pragma("PRAGMA synchronous"), 2i64.into());
        assert_eq!(pragma("PRAGMA foreign_keys"), 1i64.into());
        assert_eq!(pragma("PRAGMA busy_timeout"), 10_000i64.into());
    }

    #[test]
    fn what_is_stored_outlasts_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        Store::open(&path).unwrap().add_network(&network()).unwrap();
        assert_eq!(Store::open_existing(&path).unwrap().networks().unwrap(), [network()]);
    }

    #[test]
    fn without_a_database_nothing_is_set_up() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().join("nagaya.db"), dir.path().join("missing/nagaya.db")] {
            let err = Store::open_existing(&path).unwrap_err();
            assert!(matches!(&err, StoreError::NotSetUp { path: named } if *named == path), "{err:?}");
            assert!(!path.exists());
        }
        assert!(matches!(Store::open(&dir.path().join("missing/nagaya.db")), Err(StoreError::Lock { .. })));
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        let store = Store::open(&path).unwrap();
        store.conn.pragma_update(None, "user_version", VERSION + 1).unwrap();
        drop(store);
        for result in [Store::open(&path), Store::open_existing(&path)] {
            let err = result.unwrap_err();
            assert!(matches!(err, StoreError::Newer { found, known, .. } if found == known + 1), "{err:?}");
        }
    }

    #[test]
    fn files_that_are_not_ours_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        fs::write(&path, "These are not the bytes of a database. ".repeat(200)).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Corrupt { .. })));
        fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (c)").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Foreign { .. })));
    }

    #[test]
    fn a_damaged_database_is_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        drop(Store::open(&path).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[100..].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        let result = Store::open(&path).and_then(|store| store.containers());
        assert!(
            matches!(&result, Err(StoreError::Corrupt { path: named, .. }) if *named == path),
            "{result:?}"
        );
    }

    #[test]
    fn remains_of_an_interrupted_creation_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        for suffix in [".new", ".new-wal", ".new-shm", ".new-journal", "-shm"] {
            fs::write(beside(&path, suffix), "rubbish").unwrap();
        }
        let store = Store::open(&path).unwrap();
        assert_eq!(store.containers().unwrap(), []);
    }

    #[test]
    fn the_wal_of_a_lost_database_is_not_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        Store::open(&path).unwrap().add_network(&network()).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(beside(&path, "-wal").exists());
        assert_eq!(Store::open(&path).unwrap().networks().unwrap(), []);
    }
}
