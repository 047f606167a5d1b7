//! What is set up once: the range of ids.

use rusqlite::{Connection, OptionalExtension};

use super::allot::may_run_on;
use super::{Store, StoreError};
use crate::model::ids::{Range, Slice};

impl Store {
    /// The subordinate ids that containers are made of; none before the first setup.
    pub fn range(&self) -> Result<Option<Range>, StoreError> {
        self.read("read the id range", range)
    }

    /// Sets the range. Once something stands on it, it may grow or shrink at its end, but not so
    /// far that a container would lose its slice, and not at its start, where the storage slice is.
    pub fn set_range(&mut self, new: Range) -> Result<(), StoreError> {
        self.put_range(new, false)
    }

    /// The same where all containers are on the storage slice.
    pub fn set_shared_range(&mut self, new: Range) -> Result<(), StoreError> {
        self.put_range(new, true)
    }

    fn put_range(&mut self, new: Range, shared: bool) -> Result<(), StoreError> {
        self.write("set the id range", |tx| {
            if let Some(old) = range(tx)? {
                let slices: Vec<Slice> = tx
                    .prepare_cached("SELECT slice FROM container")?
                    .query_map([], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                let templates: bool =
                    tx.query_row("SELECT EXISTS (SELECT 1 FROM template)", [], |row| row.get(0))?;
                let moved = templates && new.start != old.start;
                if moved || !slices.iter().all(|slice| may_run_on(new, shared, *slice)) {
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

pub(super) fn range(conn: &Connection) -> rusqlite::Result<Option<Range>> {
    conn.prepare_cached("SELECT range_start, range_count FROM meta")?
        .query_row([], |row| Ok(Range { start: row.get(0)?, count: row.get(1)? }))
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
    use crate::model::ids::SLICE;
    use crate::model::manifest::Manifest;
    use crate::store::fixture::{RANGE, store, web};

    #[test]
    fn where_all_share_the_storage_slice_it_is_every_containers() {
        use crate::store::fixture::{store, web};
        let (_dir, mut store) = store();
        store.set_shared_range(RANGE).unwrap();
        let storage = RANGE.storage().unwrap();
        let made: Vec<_> = (1..4).map(|n| store.create_container(&web(n)).unwrap()).collect();
        assert!(made.iter().all(|container| container.slice == storage));
        assert!(store.set_range(RANGE).is_err(), "its containers would lose their slice");
        let mut new = crate::store::fixture::store();
        new.1.set_shared_range(RANGE).unwrap();
        let manifests: Vec<_> =
            made.into_iter().map(|container| Manifest { container, networks: vec![] }).collect();
        assert!(new.1.rebuild(&manifests).unwrap().is_empty());
    }

    #[test]
    fn a_range_is_kept_by_what_stands_on_it() {
        let (_dir, mut store) = store();
        assert_eq!(store.range().unwrap(), Some(RANGE));
        let in_use = |result| matches!(result, Err(StoreError::RangeInUse { start }) if start == RANGE.start);
        let shifted = Range { start: RANGE.start - SLICE, count: RANGE.count + SLICE };
        assert!(in_use(store.set_range(shifted)), "a template stands on the storage slice");
        store.create_container(&web(1)).unwrap();
        let last = store.create_container(&web(2)).unwrap();
        let two = Range { start: RANGE.start, count: 3 * SLICE };
        assert!(two.holds(last.slice));
        store.set_range(two).unwrap();
        assert!(in_use(store.set_range(Range { start: RANGE.start, count: 3 * SLICE - 1 })));
        store.set_range(RANGE).unwrap();
        assert_eq!(store.range().unwrap(), Some(RANGE));
    }

    #[test]
    fn an_unused_range_can_be_exchanged() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("nagaya.db")).unwrap();
        assert_eq!(store.range().unwrap(), None);
        store.set_range(RANGE).unwrap();
        let other = Range { start: 7, count: u32::MAX };
        store.set_range(other).unwrap();
        assert_eq!(store.range().unwrap(), Some(other));
    }
}
