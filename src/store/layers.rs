//! Layers, and the chains of them that containers stand on. A layer stays while a container or a snapshot stands
//! on it. What loses the last of them is marked in the same transaction, so that its files are deleted however the
//! command ends.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::error::Attempt;
use super::templates::doom_if_unused;
use super::{Store, StoreError, pools};
use crate::model::layer::{Chain, LayerId};
use crate::model::name::ContainerId;
use crate::model::pool::PoolName;
use crate::model::template::TemplateId;
use crate::sys::kernel::clock::now;

impl Store {
    /// What a container stands on.
    pub fn chain(&self, id: &ContainerId) -> Result<Chain, StoreError> {
        let found = self.read("read what a container stands on", |conn| {
            let mut chains = conn
                .prepare_cached("SELECT template, template_name FROM container WHERE id = ?1")?
                .query_map([id], |row| {
                    Ok(Chain { template: row.get(0)?, template_name: row.get(1)?, layers: Vec::new() })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            for chain in &mut chains {
                chain.layers = of_container(conn, id)?;
            }
            Ok(chains.pop())
        })?;
        found.ok_or_else(|| StoreError::NoSuchContainer { id: id.clone() })
    }

    /// Layers whose files are to be deleted or half are, with the pools that they are in.
    pub fn doomed_layers(&self) -> Result<BTreeMap<PoolName, Vec<LayerId>>, StoreError> {
        self.read("list the layers to be deleted", |conn| {
            let mut doomed: BTreeMap<_, Vec<_>> = BTreeMap::new();
            let mut query =
                conn.prepare_cached("SELECT id, pool FROM layer WHERE deleting = 1 ORDER BY id")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                doomed.entry(pools::of_column(row.get(1)?)).or_default().push(row.get(0)?);
            }
            Ok(doomed)
        })
    }

    /// All layers that something stands on, or that are being deleted.
    pub fn layers(&self) -> Result<Vec<LayerId>, StoreError> {
        self.read("list the layers", |conn| {
            conn.prepare_cached("SELECT id FROM layer ORDER BY id")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// How many containers and snapshots stand on a layer.
    pub fn uses_of_layer(&self, id: &LayerId) -> Result<u32, StoreError> {
        self.read("count what stands on a layer", |conn| {
            conn.prepare_cached(
                "SELECT (SELECT count(*) FROM container_layer WHERE layer = ?1)
                      + (SELECT count(*) FROM snapshot_layer WHERE layer = ?1)",
            )?
            .query_row([id], |row| row.get(0))
        })
    }

    /// Drops the records of a pool's doomed layers: the pool is gone with their files.
    pub fn forget_layers_of(&mut self, pool: &PoolName) -> Result<(), StoreError> {
        self.write("forget the layers of a lost pool", |tx| {
            tx.execute("DELETE FROM layer WHERE pool = ?1 AND deleting = 1", [pool])?;
            Ok(())
        })
    }

    /// Drops the records of doomed layers, their files being out of the way.
    pub fn forget_layers(&mut self, ids: &[LayerId]) -> Result<(), StoreError> {
        self.write("forget deleted layers", |tx| {
            let mut delete = tx.prepare_cached("DELETE FROM layer WHERE id = ?1 AND deleting = 1")?;
            ids.iter().try_for_each(|id| Ok(delete.execute([id]).map(drop)?))
        })
    }
}

/// The layers of a container, the lowest first.
pub(super) fn of_container(conn: &Connection, id: &ContainerId) -> rusqlite::Result<Vec<LayerId>> {
    conn.prepare_cached("SELECT layer FROM container_layer WHERE container = ?1 ORDER BY position")?
        .query_map([id], |row| row.get(0))?
        .collect()
}

/// Records a layer, if it is not recorded yet.
pub(super) fn add(conn: &Connection, id: &LayerId, pool: &PoolName) -> Attempt<()> {
    conn.prepare_cached("INSERT OR IGNORE INTO layer VALUES (?1, ?2, 0, ?3)")?.execute((
        id,
        now(),
        pools::column(pool),
    ))?;
    Ok(())
}

/// Has a container stand on `layers`, the lowest first, instead of those that it stands on. All are recorded.
pub(super) fn put(conn: &Connection, id: &ContainerId, layers: &[LayerId]) -> Attempt<()> {
    conn.prepare_cached("DELETE FROM container_layer WHERE container = ?1")?.execute([id])?;
    let mut insert = conn.prepare_cached("INSERT INTO container_layer VALUES (?1, ?2, ?3)")?;
    for (position, layer) in (1u32..).zip(layers) {
        insert.execute((id, position, layer))?;
    }
    Ok(())
}

/// Has a container stand on another chain, and marks what nothing stands on any more.
pub(super) fn replace(conn: &Connection, id: &ContainerId, chain: &Chain) -> Attempt<()> {
    let old: TemplateId = conn
        .prepare_cached("SELECT template FROM container WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    conn.prepare_cached("UPDATE container SET template = ?2, template_name = ?3 WHERE id = ?1")?
        .execute((id, &chain.template, &chain.template_name))?;
    put(conn, id, &chain.layers)?;
    doom_unused(conn)?;
    doom_if_unused(conn, &old)?;
    Ok(())
}

/// Marks layers that nothing stands on. Returns whether there are some.
pub(super) fn doom_unused(conn: &Connection) -> Attempt<bool> {
    let marked = conn
        .prepare_cached(
            "UPDATE layer SET deleting = 1 WHERE NOT deleting
             AND NOT EXISTS (SELECT 1 FROM container_layer WHERE layer = layer.id)
             AND NOT EXISTS (SELECT 1 FROM snapshot_layer WHERE layer = layer.id)",
        )?
        .execute([])?;
    Ok(marked > 0)
}
