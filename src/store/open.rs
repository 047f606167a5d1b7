//! Opening the database.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::connection::{connect, create, migrate, unopened, version};
use super::database::Store;
use super::error::StoreError;
use super::files::{beside, exists, lock, sync_directory};
use super::schema::VERSION;
use super::{replace, reserve};
use crate::model::waits;

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

    /// As `open`, but if there is no database, that is the error `NotSetUp`.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        reserve::give_up_if_full(path);
        let is_logged = exists(&beside(path, "-wal"))?;
        let mut conn = connect(path)?;
        let found = version(&conn, path)?;
        if !is_logged {
            // SQLite has made it just now, and does not flush directories (.cargo/config.toml).
            sync_directory(path)?;
        }
        if found > VERSION {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
        }
        // A database is complete before it gets its name, so another program made this one.
        if found <= 0 {
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
        if found < VERSION {
            let _lock = lock(path)?;
            migrate(&mut conn, path)?;
        }
        Ok(Self { conn, path: path.to_owned(), looks_only: false, place: None })
    }

    /// Opens the database at `path` for reading only, as it is: it makes none, changes no schema, and waits
    /// for nobody longer than a moment.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(|err| unopened(path, err))?;
        let settle = || {
            conn.busy_timeout(waits::LOCK_DATABASE_TO_LOOK)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

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
