//! A database that is made anew beside the present one and takes its place when it is whole. A command that
//! is killed before that has changed nothing.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::connection::{connect, create};
use super::database::{Place, Store};
use super::error::StoreError;
use super::files::{beside, exists, lock, remove, rename, sync_directory};

/// Suffixes: of a database that is being filled, and of one that is whole and only has to get its name.
const UNDER_WAY: &str = ".rebuilding";
const WHOLE: &str = ".rebuilt";

impl Store {
    /// An empty database that is to take the place of the one at `path`, by `take_place`.
    pub fn anew(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let new = beside(path, UNDER_WAY);
        for suffix in ["", "-wal", "-shm"] {
            remove(&beside(&new, suffix))?;
        }
        // An older one that was never put in place.
        remove(&beside(path, WHOLE))?;
        create(&new)?;
        let place = Place { path: path.to_owned(), _lock: lock };
        Ok(Self { conn: connect(&new)?, path: new, looks_only: false, place: Some(place) })
    }

    /// Puts a database that `anew` has made in its place. The one that was there is kept beside it.
    pub fn take_place(&mut self) -> Result<(), StoreError> {
        let Some(place) = self.place.take() else { return Ok(()) };
        let sqlite = |err| StoreError::from_sqlite(&self.path, "finish the database", err);
        let conn = std::mem::replace(&mut self.conn, Connection::open_in_memory().map_err(sqlite)?);
        // Everything has to be in the file itself, which closing then sees to.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(sqlite)?;
        conn.close().map_err(|(_, err)| sqlite(err))?;
        rename(&self.path, &beside(&place.path, WHOLE))?;
        sync_directory(&place.path)?;
        if exists(&place.path)? {
            // From here on no database has that name; whoever opens it then finishes with the new one.
            rename(&place.path, &free_name(&place.path)?.0)?;
        }
        finish(&place.path)?;
        self.conn = connect(&place.path)?;
        self.path = place.path;
        Ok(())
    }
}

/// Gives a whole database its name, if no database has that name. The caller holds the lock. Returns
/// whether it did.
pub(super) fn finish(path: &Path) -> Result<bool, StoreError> {
    let whole = beside(path, WHOLE);
    if !exists(&whole)? {
        return Ok(false);
    }
    // The old WAL belongs to the database that was set aside, and would be replayed into this one.
    let wal = beside(path, "-wal");
    if exists(&wal)? {
        match free_name(path)?.1 {
            Some(last) => rename(&wal, &beside(&last, "-wal"))?,
            None => remove(&wal)?,
        }
    }
    remove(&beside(path, "-shm"))?;
    rename(&whole, path)?;
    sync_directory(path)?;
    Ok(true)
}

/// The first free name for a database that is set aside, and the last one in use.
fn free_name(path: &Path) -> Result<(PathBuf, Option<PathBuf>), StoreError> {
    let mut last = None;
    for number in 1u32.. {
        let aside = beside(path, &format!(".aside{number}"));
        if !exists(&aside)? {
            return Ok((aside, last));
        }
        last = Some(aside);
    }
    unreachable!("some number is free")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::fixture::{RANGE, network, stocked, web};

    #[test]
    fn until_it_takes_its_place_the_old_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nagaya.db");
        let mut old = stocked(&path);
        old.create_container(&web(1)).unwrap();
        drop(old);
        for _ in 0..2 {
            let mut new = Store::anew(&path).unwrap();
            new.set_range(RANGE).unwrap();
            drop(new);
            assert_eq!(Store::open(&path).unwrap().containers().unwrap().len(), 1);
        }
        for number in 1..=2 {
            let mut new = Store::anew(&path).unwrap();
            new.set_range(RANGE).unwrap();
            new.add_network(&network()).unwrap();
            new.take_place().unwrap();
            assert_eq!(new.networks().unwrap(), [network()]);
            new.create_container(&web(9)).unwrap_err();
            drop(new);
            let now = Store::open(&path).unwrap();
            assert_eq!((now.containers().unwrap().len(), now.networks().unwrap().len()), (0, 1));
            let aside = dir.path().join(format!("nagaya.db.aside{number}"));
            let kept = Store::open_existing(&aside).unwrap().containers().unwrap().len();
            assert_eq!(kept, 2 - number);
        }
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        let is_new = |name: &std::ffi::OsString| name.to_string_lossy().contains("rebuil");
        assert!(!left.iter().any(is_new), "{left:?}");
    }

    /// As it is left by a kill between any two of the last steps.
    #[test]
    fn whoever_comes_next_finishes_it() {
        for with_wal in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("nagaya.db");
            let mut old = stocked(&path);
            old.create_container(&web(1)).unwrap();
            drop(old);
            let mut new = Store::anew(&path).unwrap();
            new.set_range(RANGE).unwrap();
            new.add_network(&network()).unwrap();
            let conn = std::mem::replace(&mut new.conn, Connection::open_in_memory().unwrap());
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).unwrap();
            conn.close().unwrap();
            drop(new);
            rename(&beside(&path, UNDER_WAY), &beside(&path, WHOLE)).unwrap();
            let aside = beside(&path, ".aside1");
            rename(&path, &aside).unwrap();
            assert!(beside(&path, "-wal").exists());
            if !with_wal {
                rename(&beside(&path, "-wal"), &beside(&aside, "-wal")).unwrap();
            }
            let now = Store::open(&path).unwrap();
            assert_eq!(now.networks().unwrap(), [network()]);
            assert_eq!(now.containers().unwrap(), []);
            assert_eq!(Store::open_existing(&aside).unwrap().containers().unwrap().len(), 1);
        }
    }
}
