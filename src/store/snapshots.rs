//! Snapshots of containers.

use std::collections::BTreeMap;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::columns::json;
use super::error::Attempt;
use super::templates::{check_known, doom_if_unused};
use super::{Store, StoreError, layers, pools};
use crate::model::config::Config;
use crate::model::layer::Chain;
use crate::model::name::{ContainerId, Name};
use crate::model::snapshot::{Snapshot, SnapshotName};
use crate::model::template::TemplateId;

/// What a row has besides its columns.
#[derive(Serialize, Deserialize)]
struct Spec {
    template_name: String,
    #[serde(default)]
    was_running: bool,
    #[serde(default)]
    is_automatic: bool,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    config: Config,
}

const COLUMNS: &str = "s.name, s.created_at, s.expires_at, s.template, s.spec, \
     (SELECT json_group_array(layer) FROM (SELECT layer FROM snapshot_layer l \
      WHERE l.container = s.container AND l.snapshot = s.name ORDER BY position))";

impl Store {
    /// The snapshots of a container, the oldest first.
    pub fn snapshots(&self, id: &ContainerId) -> Result<Vec<Snapshot>, StoreError> {
        self.read("list the snapshots of a container", |conn| all_of(conn, id))
    }

    /// One snapshot of a container.
    pub fn snapshot(&self, id: &ContainerId, name: &SnapshotName) -> Result<Option<Snapshot>, StoreError> {
        self.read("read a snapshot", |conn| {
            let sql = format!(
                "SELECT {COLUMNS} FROM snapshot s WHERE s.container = ?1 AND s.name = ?2 AND s.ready"
            );
            conn.prepare_cached(&sql)?.query_row((id, name), from_row).optional()
        })
    }

    /// The snapshot that an unfinished operation makes.
    pub fn unready_snapshot(&self, id: &ContainerId) -> Result<Option<Snapshot>, StoreError> {
        self.read("read a snapshot that is being made", |conn| {
            let sql = format!("SELECT {COLUMNS} FROM snapshot s WHERE s.container = ?1 AND NOT s.ready");
            conn.prepare_cached(&sql)?.query_row([id], from_row).optional()
        })
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(
        &mut self,
        id: &ContainerId,
        from: &SnapshotName,
        to: &SnapshotName,
    ) -> Result<(), StoreError> {
        self.write("rename a snapshot", |tx| {
            if from != to {
                check_free(tx, id, to)?;
            }
            tx.prepare_cached("UPDATE snapshot SET name = ?3 WHERE container = ?1 AND name = ?2")?
                .execute((id, from, to))?;
            Ok(())
        })
    }

    /// Sets when a snapshot expires.
    pub fn set_expiry(
        &mut self,
        id: &ContainerId,
        name: &SnapshotName,
        expires_at: Option<i64>,
    ) -> Result<(), StoreError> {
        self.write("set when a snapshot expires", |tx| {
            tx.prepare_cached("UPDATE snapshot SET expires_at = ?3 WHERE container = ?1 AND name = ?2")?
                .execute((id, name, expires_at))?;
            Ok(())
        })
    }

    /// When the schedules were looked at last that had something to do, or were seen first: seconds since 1970.
    pub fn schedule_looks(&self) -> Result<BTreeMap<ContainerId, i64>, StoreError> {
        self.read("read when schedules were looked at", |conn| {
            conn.prepare_cached("SELECT container, looked_at FROM schedule_look")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Records that.
    pub fn set_schedule_look(&mut self, id: &ContainerId, at: i64) -> Result<(), StoreError> {
        self.write("record that a schedule was looked at", |tx| {
            tx.prepare_cached("INSERT OR REPLACE INTO schedule_look VALUES (?1, ?2)")?.execute((id, at))?;
            Ok(())
        })
    }

    /// Forgets snapshots of a container, and marks what nothing stands on any more.
    pub fn delete_snapshots(&mut self, id: &ContainerId, names: &[SnapshotName]) -> Result<(), StoreError> {
        self.write("delete a snapshot", |tx| {
            let mut delete = tx.prepare_cached(
                "DELETE FROM snapshot WHERE container = ?1 AND name = ?2 AND ready RETURNING template",
            )?;
            for name in names {
                let template: Option<TemplateId> =
                    delete.query_row((id, name), |row| row.get(0)).optional()?;
                template.map_or(Ok(false), |template| doom_if_unused(tx, &template))?;
            }
            layers::doom_unused(tx)?;
            Ok(())
        })
    }
}

/// Refuses a name that a snapshot of the container has.
fn check_free(conn: &Connection, id: &ContainerId, name: &SnapshotName) -> Attempt<()> {
    let is_taken: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM snapshot WHERE container = ?1 AND name = ?2)")?
        .query_row((id, name), |row| row.get(0))?;
    if !is_taken {
        return Ok(());
    }
    let container: Name =
        conn.query_row("SELECT name FROM container WHERE id = ?1", [id], |row| row.get(0))?;
    Err(StoreError::SnapshotTaken { container, name: name.clone() }.into())
}

/// Stores a snapshot, all of whose layers are recorded or are recorded by it.
pub(super) fn insert(conn: &Connection, id: &ContainerId, new: &Snapshot, is_ready: bool) -> Attempt<()> {
    check_free(conn, id, &new.name)?;
    check_known(conn, &new.chain.template)?;
    let spec = Spec {
        template_name: new.chain.template_name.clone(),
        was_running: new.was_running,
        is_automatic: new.is_automatic,
        comment: new.comment.clone(),
        config: new.config.clone(),
    };
    conn.prepare_cached("INSERT INTO snapshot VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute((
        id,
        &new.name,
        is_ready,
        new.created_at,
        new.expires_at,
        &new.chain.template,
        json(&spec)?,
    ))?;
    let mut insert = conn.prepare_cached("INSERT INTO snapshot_layer VALUES (?1, ?2, ?3, ?4)")?;
    let pool = pools::of_container(conn, id)?;
    for (position, layer) in (1u32..).zip(&new.chain.layers) {
        layers::add(conn, layer, &pool)?;
        insert.execute((id, &new.name, position, layer))?;
    }
    Ok(())
}

/// The snapshots of a container, the oldest first.
pub(super) fn all_of(conn: &Connection, id: &ContainerId) -> rusqlite::Result<Vec<Snapshot>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM snapshot s WHERE s.container = ?1 AND s.ready ORDER BY s.created_at, s.name"
    );
    conn.prepare_cached(&sql)?.query_map([id], from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    fn read<T: for<'de> Deserialize<'de>>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
        let text = row.get_ref(at)?.as_str()?;
        serde_json::from_str(text)
            .map_err(|err| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(err)))
    }
    let Spec { template_name, was_running, is_automatic, comment, config } = read(row, 4)?;
    Ok(Snapshot {
        name: row.get(0)?,
        created_at: row.get(1)?,
        expires_at: row.get(2)?,
        was_running,
        is_automatic,
        comment,
        chain: Chain { template: row.get(3)?, template_name, layers: read(row, 5)? },
        config,
    })
}
