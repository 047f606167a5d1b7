//! Volumes: directories in pools that outlive containers.

use rusqlite::{Connection, OptionalExtension};

use super::columns::json;
use super::error::Attempt;
use super::{Store, StoreError, pools};
use crate::model::pool::{MOST_VOLUMES, PoolName, Volume, VolumeName};

impl Store {
    pub fn volume(&self, pool: &PoolName, name: &VolumeName) -> Result<Option<Volume>, StoreError> {
        self.read("read a volume", |conn| volume(conn, pool, name))
    }

    /// Those of one pool, or of all, sorted by pool and name.
    pub fn volumes(&self, pool: Option<&PoolName>) -> Result<Vec<Volume>, StoreError> {
        self.read("list the volumes", |conn| all(conn, pool))
    }

    /// Adds a volume whose name no other of its pool has.
    pub fn add_volume(&mut self, new: &Volume) -> Result<(), StoreError> {
        self.write("add a volume", |tx| {
            pools::check_known(tx, &new.pool)?;
            check_free(tx, &new.pool, &new.name)?;
            if all(tx, Some(&new.pool))?.len() >= MOST_VOLUMES {
                return Err(StoreError::TooManyVolumes { pool: new.pool.clone() }.into());
            }
            put(tx, new)
        })
    }

    /// Adds a volume, or puts it in the place of the one of its name.
    pub fn put_volume(&mut self, volume: &Volume) -> Result<(), StoreError> {
        self.write("store a volume", |tx| put(tx, volume))
    }

    /// Gives a volume another name.
    pub fn rename_volume(&mut self, volume: &Volume, to: &VolumeName) -> Result<(), StoreError> {
        self.write("rename a volume", |tx| {
            check_free(tx, &volume.pool, to)?;
            delete(tx, &volume.pool, &volume.name)?;
            put(tx, &Volume { name: to.clone(), ..volume.clone() })
        })
    }

    /// Forgets a volume, if it is known.
    pub fn delete_volume(&mut self, pool: &PoolName, name: &VolumeName) -> Result<(), StoreError> {
        self.write("delete a volume", |tx| delete(tx, pool, name))
    }
}

fn volume(conn: &Connection, pool: &PoolName, name: &VolumeName) -> rusqlite::Result<Option<Volume>> {
    conn.prepare_cached("SELECT spec FROM volume WHERE pool = ?1 AND name = ?2")?
        .query_row((pool, name), |row| row.get(0))
        .optional()
}

fn all(conn: &Connection, pool: Option<&PoolName>) -> rusqlite::Result<Vec<Volume>> {
    conn.prepare_cached("SELECT spec FROM volume WHERE ?1 IS NULL OR pool = ?1 ORDER BY pool, name")?
        .query_map([pool], |row| row.get(0))?
        .collect()
}

fn check_free(conn: &Connection, pool: &PoolName, name: &VolumeName) -> Attempt<()> {
    match volume(conn, pool, name)? {
        None => Ok(()),
        Some(_) => Err(StoreError::VolumeTaken { pool: pool.clone(), name: name.clone() }.into()),
    }
}

fn put(conn: &Connection, volume: &Volume) -> Attempt<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO volume VALUES (?1, ?2, ?3)")?.execute((
        &volume.pool,
        &volume.name,
        json(volume)?,
    ))?;
    Ok(())
}

fn delete(conn: &Connection, pool: &PoolName, name: &VolumeName) -> Attempt<()> {
    conn.prepare_cached("DELETE FROM volume WHERE pool = ?1 AND name = ?2")?.execute((pool, name))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pool::{Pool, VolumeSettings};
    use crate::store::fixture::store;

    fn named(pool: &str, name: &str) -> Volume {
        let (pool, name) = (PoolName::new(pool).unwrap(), VolumeName::new(name).unwrap());
        Volume { pool, name, settings: VolumeSettings::default(), created_at: 1 }
    }

    #[test]
    fn volumes_have_names_of_their_own_in_their_pool() {
        let (_dir, mut store) = store();
        let mail = named("default", "mail");
        store.add_volume(&mail).unwrap();
        assert!(matches!(store.add_volume(&mail), Err(StoreError::VolumeTaken { .. })));
        assert!(matches!(store.add_volume(&named("fast", "mail")), Err(StoreError::NoSuchPool { .. })));
        let fast = PoolName::new("fast").unwrap();
        let pool = Pool { name: fast.clone(), directory: "/srv".into(), description: String::new() };
        store.add_pool(&pool).unwrap();
        store.add_volume(&named("fast", "mail")).unwrap();
        assert!(matches!(store.delete_pool(&fast), Err(StoreError::PoolHasVolumes { .. })));
        store.rename_volume(&mail, &VolumeName::new("post").unwrap()).unwrap();
        assert_eq!(store.volumes(None).unwrap(), [named("default", "post"), named("fast", "mail")]);
        store.delete_volume(&fast, &mail.name).unwrap();
        assert_eq!(
            (store.volume(&fast, &mail.name).unwrap(), store.volumes(Some(&fast)).unwrap().len()),
            (None, 0)
        );
        store.delete_pool(&fast).unwrap();
    }
}
