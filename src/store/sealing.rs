//! The sealing of what a container has of its own into a layer, and other changes of what it stands on: each begins
//! and ends with an operation.

use rusqlite::Connection;

use super::error::Attempt;
use super::operations::{begin, end};
use super::{Store, StoreError, containers, layers, pools, snapshots};
use crate::model::config::Config;
use crate::model::layer::{Chain, LayerId};
use crate::model::name::ContainerId;
use crate::model::operation::{NewOperation, OperationId, OperationStatus};
use crate::model::snapshot::Snapshot;

/// What is about to be done with what a container has of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealing {
    pub container: ContainerId,
    /// What it becomes.
    pub layer: LayerId,
    /// The container goes on to stand on the layer; otherwise only the snapshot does.
    pub is_of_container: bool,
    /// What is made of it.
    pub snapshot: Option<Snapshot>,
}

impl Store {
    /// Records what is about to be sealed. Refused if the container has a snapshot of that name.
    pub fn begin_sealing(&mut self, sealing: &Sealing, operation: &NewOperation) -> Result<(), StoreError> {
        let Sealing { container, layer, is_of_container, snapshot } = sealing;
        self.write("record the making of a snapshot", |tx| {
            begin(tx, operation)?;
            layers::add(tx, layer, &pools::of_container(tx, container)?)?;
            if *is_of_container {
                let mut chain = layers::of_container(tx, container)?;
                chain.push(layer.clone());
                layers::put(tx, container, &chain)?;
            }
            match snapshot {
                Some(snapshot) => snapshots::insert(tx, container, snapshot, false),
                None => Ok(()),
            }
        })
    }

    /// Ends that: what was made is there from now on. Where the layer would have been empty, `is_needed` is false,
    /// and nothing stands on it. With `rebuilt`, the container stands on that chain.
    pub fn end_sealing(
        &mut self,
        operation: &OperationId,
        sealing: &Sealing,
        is_needed: bool,
        rebuilt: Option<&Chain>,
    ) -> Result<(), StoreError> {
        let Sealing { container, layer, snapshot, .. } = sealing;
        self.write("record a snapshot", |tx| {
            end(tx, operation, OperationStatus::Done, None)?;
            if !is_needed {
                drop_layer(tx, layer)?;
            }
            if let Some(snapshot) = snapshot {
                tx.prepare_cached("UPDATE snapshot SET ready = 1 WHERE container = ?1 AND name = ?2")?
                    .execute((container, &snapshot.name))?;
            }
            match rebuilt {
                Some(chain) => layers::replace(tx, container, chain),
                None => Ok(()),
            }
        })
    }

    /// Ends it where it was undone.
    pub fn fail_sealing(
        &mut self,
        operation: &OperationId,
        sealing: &Sealing,
        error: &str,
    ) -> Result<(), StoreError> {
        let Sealing { container, layer, snapshot, .. } = sealing;
        self.write("record that there is no snapshot", |tx| {
            end(tx, operation, OperationStatus::Failed, Some(error))?;
            if let Some(snapshot) = snapshot {
                tx.prepare_cached("DELETE FROM snapshot WHERE container = ?1 AND name = ?2 AND NOT ready")?
                    .execute((container, &snapshot.name))?;
            }
            // Whatever stood on it does no more; its files, if any, are removed as those of every other such layer.
            tx.prepare_cached("DELETE FROM container_layer WHERE layer = ?1")?.execute([layer])?;
            tx.prepare_cached("DELETE FROM snapshot_layer WHERE layer = ?1")?.execute([layer])?;
            layers::doom_unused(tx)?;
            Ok(())
        })
    }

    /// Has a container stand on another chain, with another configuration where that is said. Ends the operation.
    pub fn end_replacing(
        &mut self,
        operation: &OperationId,
        id: &ContainerId,
        chain: &Chain,
        config: Option<&Config>,
    ) -> Result<(), StoreError> {
        self.write("record what a container stands on", |tx| {
            end(tx, operation, OperationStatus::Done, None)?;
            layers::replace(tx, id, chain)?;
            config.map_or(Ok(()), |config| containers::put_config(tx, id, config))
        })
    }
}

/// A layer that was not needed after all.
fn drop_layer(conn: &Connection, layer: &LayerId) -> Attempt<()> {
    conn.prepare_cached("DELETE FROM container_layer WHERE layer = ?1")?.execute([layer])?;
    conn.prepare_cached("DELETE FROM snapshot_layer WHERE layer = ?1")?.execute([layer])?;
    conn.prepare_cached("DELETE FROM layer WHERE id = ?1")?.execute([layer])?;
    Ok(())
}
