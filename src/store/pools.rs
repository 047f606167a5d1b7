//! Pools besides the one that is always there, and what is in them.

use rusqlite::{Connection, OptionalExtension};

use super::columns::json;
use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::name::{ContainerId, Name};
use crate::model::pool::{MOST_POOLS, Pool, PoolName};

impl Store {
    pub fn pool(&self, name: &PoolName) -> Result<Option<Pool>, StoreError> {
        self.read("read a storage pool", |conn| pool(conn, name))
    }

    /// All of them, sorted by name.
    pub fn pools(&self) -> Result<Vec<Pool>, StoreError> {
        self.read("list the storage pools", all)
    }

    /// The containers that are in a pool, sorted by name.
    pub fn pool_users(&self, name: &PoolName) -> Result<Vec<Name>, StoreError> {
        self.read("list what is in a storage pool", |conn| users(conn, name))
    }

    /// Adds a pool whose name no other has.
    pub fn add_pool(&mut self, new: &Pool) -> Result<(), StoreError> {
        self.write("add a storage pool", |tx| {
            let all = all(tx)?;
            if all.iter().any(|pool| pool.name == new.name) || new.name.is_default_one() {
                return Err(StoreError::PoolTaken { name: new.name.clone() }.into());
            }
            if let Some(other) = all.iter().find(|pool| pool.directory == new.directory) {
                let (directory, other) = (new.directory.clone(), other.name.clone());
                return Err(StoreError::PoolsClash { directory, other }.into());
            }
            if all.len() >= MOST_POOLS {
                return Err(StoreError::TooManyPools.into());
            }
            put(tx, new)
        })
    }

    /// Replaces what is said of a pool that is there.
    pub fn set_pool(&mut self, pool: &Pool) -> Result<(), StoreError> {
        self.write("change a storage pool", |tx| put(tx, pool))
    }

    /// Puts a pool back into a database that is made anew.
    pub fn put_pool(&mut self, pool: &Pool) -> Result<(), StoreError> {
        self.write("put a storage pool back", |tx| put(tx, pool))
    }

    /// Forgets a pool in which nothing is.
    pub fn delete_pool(&mut self, name: &PoolName) -> Result<(), StoreError> {
        self.write("delete a storage pool", |tx| {
            let users = users(tx, name)?;
            // What is still to be deleted there has no user.
            let is_in_use = tx.prepare_cached("SELECT 1 FROM layer WHERE pool = ?1")?.exists([name])?;
            if !users.is_empty() || is_in_use {
                return Err(StoreError::PoolInUse { name: name.clone(), users }.into());
            }
            let sql = "SELECT name FROM volume WHERE pool = ?1 ORDER BY name LIMIT 1";
            if let Some(volume) = tx.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()? {
                return Err(StoreError::PoolHasVolumes { pool: name.clone(), volume }.into());
            }
            match tx.execute("DELETE FROM pool WHERE name = ?1", [name])? {
                0 => Err(StoreError::NoSuchPool { name: name.clone() }.into()),
                _ => Ok(()),
            }
        })
    }
}

/// How a column names a pool: the one that is always there is not named.
pub(super) fn column(name: &PoolName) -> Option<&PoolName> {
    Some(name).filter(|name| !name.is_default_one())
}

/// The pool that a column names.
pub(super) fn of_column(name: Option<PoolName>) -> PoolName {
    name.unwrap_or_else(PoolName::default_one)
}

/// Adds a pool, or puts it in the place of the one of its name.
pub(super) fn put(conn: &Connection, pool: &Pool) -> Attempt<()> {
    let sql = "INSERT INTO pool VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET spec = excluded.spec";
    conn.prepare_cached(sql)?.execute((&pool.name, json(pool)?))?;
    Ok(())
}

/// Refuses a pool that there is not, or that is being deleted.
pub(super) fn check_known(conn: &Connection, name: &PoolName) -> Attempt<()> {
    match name.is_default_one() || pool(conn, name)?.is_some() {
        true => Ok(()),
        false => Err(StoreError::NoSuchPool { name: name.clone() }.into()),
    }
}

/// The pool that a container is in.
pub(super) fn of_container(conn: &Connection, id: &ContainerId) -> rusqlite::Result<PoolName> {
    let sql = "SELECT pool FROM container WHERE id = ?1";
    let found = conn.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(of_column(found.flatten()))
}

fn pool(conn: &Connection, name: &PoolName) -> rusqlite::Result<Option<Pool>> {
    conn.prepare_cached("SELECT spec FROM pool WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn all(conn: &Connection) -> rusqlite::Result<Vec<Pool>> {
    conn.prepare_cached("SELECT spec FROM pool ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
}

fn users(conn: &Connection, name: &PoolName) -> rusqlite::Result<Vec<Name>> {
    conn.prepare_cached("SELECT name FROM container WHERE pool IS ?1 ORDER BY name")?
        .query_map([column(name)], |row| row.get(0))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::NewContainer;
    use crate::store::fixture::{store, web};

    fn named(name: &str) -> Pool {
        let name = PoolName::new(name).unwrap();
        Pool { directory: format!("/srv/{name}"), name, description: String::new() }
    }

    #[test]
    fn a_pool_stays_while_something_is_in_it() {
        let (_dir, mut store) = store();
        let fast = named("fast");
        let new = NewContainer { pool: fast.name.clone(), ..web(1) };
        assert!(matches!(store.create_container(&new), Err(StoreError::NoSuchPool { .. })));
        store.add_pool(&fast).unwrap();
        let made = store.create_container(&new).unwrap();
        assert_eq!(store.containers().unwrap(), std::slice::from_ref(&made));
        assert_eq!(store.pool_users(&fast.name).unwrap(), [made.name]);
        assert!(matches!(store.delete_pool(&fast.name), Err(StoreError::PoolInUse { .. })));
        store.create_container(&web(2)).unwrap();
        assert_eq!(store.pool_users(&PoolName::default_one()).unwrap(), [web(2).name]);
        store.delete_container(&made.id).unwrap();
        store.delete_pool(&fast.name).unwrap();
        assert!(matches!(store.delete_pool(&fast.name), Err(StoreError::NoSuchPool { .. })));
    }

    #[test]
    fn pools_have_names_and_directories_of_their_own() {
        let (_dir, mut store) = store();
        store.add_pool(&named("fast")).unwrap();
        let again = Pool { directory: "/srv/other".into(), ..named("fast") };
        assert!(matches!(store.add_pool(&again), Err(StoreError::PoolTaken { .. })));
        assert!(matches!(store.add_pool(&named("default")), Err(StoreError::PoolTaken { .. })));
        let same = Pool { directory: "/srv/fast".into(), ..named("slow") };
        assert!(matches!(store.add_pool(&same), Err(StoreError::PoolsClash { .. })));
        let renamed = Pool { description: "two disks".into(), ..named("fast") };
        store.set_pool(&renamed).unwrap();
        assert_eq!(store.pools().unwrap(), [renamed]);
        (1..MOST_POOLS).for_each(|n| store.add_pool(&named(&format!("p{n}"))).unwrap());
        assert!(matches!(store.add_pool(&named("more")), Err(StoreError::TooManyPools)));
    }
}
