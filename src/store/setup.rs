//! What is set up once: the owner's subordinate ids.

use rusqlite::{Connection, OptionalExtension};

use super::allot::may_run_on;
use super::{Store, StoreError};
use crate::model::ids::{IdRange, SubordinateIds};

impl Store {
    /// The subordinate ids that containers are made of; none before the first setup.
    pub fn range(&self) -> Result<Option<SubordinateIds>, StoreError> {
        self.read("read the id range", range)
    }

    /// Sets the subordinate ids. Once something uses them, they may grow or shrink at their end, but not so
    /// far that a container would lose its ids, and not at their start, where the storage ids are.
    pub fn set_range(&mut self, new: SubordinateIds) -> Result<(), StoreError> {
        self.put_range(new, false)
    }

    /// The same for an owner whose containers all run on the storage ids.
    pub fn set_shared_range(&mut self, new: SubordinateIds) -> Result<(), StoreError> {
        self.put_range(new, true)
    }

    fn put_range(&mut self, new: SubordinateIds, shared: bool) -> Result<(), StoreError> {
        self.write("set the id range", |tx| {
            if let Some(old) = range(tx)? {
                let id_ranges: Vec<IdRange> = tx
                    .prepare_cached("SELECT slice FROM container")?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                let templates: bool =
                    tx.query_row("SELECT EXISTS (SELECT 1 FROM template)", [], |row| row.get(0))?;
                let moved = templates && new.start != old.start;
                if moved || !id_ranges.iter().all(|id_range| may_run_on(new, shared, *id_range)) {
                    return Err(StoreError::RangeInUse { start: old.start }.into());
                }
            }
            tx.execute(
                "INSERT OR REPLACE INTO meta (one, range_start, range_count, shared) VALUES (1, ?1, ?2, ?3)",
                (new.start, new.count, shared),
            )?;
            Ok(())
        })
    }
}

pub(super) fn range(conn: &Connection) -> rusqlite::Result<Option<SubordinateIds>> {
    conn.prepare_cached("SELECT range_start, range_count FROM meta")?
        .query_row([], |row| Ok(SubordinateIds { start: row.get(0)?, count: row.get(1)? }))
        .optional()
}

/// False before the first setup.
pub(super) fn is_shared(conn: &Connection) -> rusqlite::Result<bool> {
    let found = conn.prepare_cached("SELECT shared FROM meta")?.query_row([], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::IDS_PER_RANGE;
    use crate::model::manifest::Manifest;
    use crate::store::fixture::{RANGE, store, web};

    #[test]
    fn where_all_share_the_storage_ids_they_are_every_containers() {
        use crate::store::fixture::{store, web};
        let (_dir, mut store) = store();
        store.set_shared_range(RANGE).unwrap();
        let storage = RANGE.storage().unwrap();
        let made: Vec<_> = (1..4).map(|n| store.create_container(&web(n)).unwrap()).collect();
        assert!(made.iter().all(|container| container.id_range == storage));
        assert!(store.set_range(RANGE).is_err(), "its containers would lose their id range");
        let mut new = crate::store::fixture::store();
        new.1.set_shared_range(RANGE).unwrap();
        let manifests: Vec<_> = made
            .into_iter()
            .map(|container| Manifest {
                container,
                pool: None,
                networks: vec![],
                layers: vec![],
                snapshots: vec![],
            })
            .collect();
        assert!(new.1.rebuild(&manifests).unwrap().is_empty());
    }

    #[test]
    fn a_range_is_kept_by_what_stands_on_it() {
        let (_dir, mut store) = store();
        assert_eq!(store.range().unwrap(), Some(RANGE));
        let in_use = |result| matches!(result, Err(StoreError::RangeInUse { start }) if start == RANGE.start);
        let shifted =
            SubordinateIds { start: RANGE.start - IDS_PER_RANGE, count: RANGE.count + IDS_PER_RANGE };
        assert!(in_use(store.set_range(shifted)), "a template stands on the storage ids");
        store.create_container(&web(1)).unwrap();
        let last = store.create_container(&web(2)).unwrap();
        let two = SubordinateIds { start: RANGE.start, count: 3 * IDS_PER_RANGE };
        assert!(two.holds(last.id_range));
        store.set_range(two).unwrap();
        assert!(in_use(store.set_range(SubordinateIds { start: RANGE.start, count: 3 * IDS_PER_RANGE - 1 })));
        store.set_range(RANGE).unwrap();
        assert_eq!(store.range().unwrap(), Some(RANGE));
    }

    #[test]
    fn an_unused_range_can_be_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("nagaya.db")).unwrap();
        assert_eq!(store.range().unwrap(), None);
        store.set_range(RANGE).unwrap();
        let other = SubordinateIds { start: 7, count: u32::MAX };
        store.set_range(other).unwrap();
        assert_eq!(store.range().unwrap(), Some(other));
    }
}
