//! What is set up once: the range of ids and the networks.

use ipnetwork::Ipv4Network;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::allot::may_run_on;
use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::ids::{Range, Slice};
use crate::model::lan::{Network, is_bridge_name};

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

    pub fn network(&self, bridge: &str) -> Result<Option<Network>, StoreError> {
        self.read("read a network", |conn| network(conn, bridge))
    }

    /// All networks, sorted by name.
    pub fn networks(&self) -> Result<Vec<Network>, StoreError> {
        self.read("list the networks", networks)
    }

    /// Adds a network whose subnet no other has. Adding one again as it is changes nothing.
    pub fn add_network(&mut self, network: &Network) -> Result<(), StoreError> {
        self.write("add a network", |tx| {
            if may_add(tx, network)? {
                insert(tx, network)?;
            }
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

pub(super) fn network(conn: &Connection, bridge: &str) -> rusqlite::Result<Option<Network>> {
    conn.prepare_cached("SELECT bridge, ipv4 FROM network WHERE bridge = ?1")?
        .query_row([bridge], from_row)
        .optional()
}

fn networks(conn: &Connection) -> rusqlite::Result<Vec<Network>> {
    conn.prepare_cached("SELECT bridge, ipv4 FROM network ORDER BY bridge")?
        .query_map([], from_row)?
        .collect()
}

/// True: it is new and fits; false: it is there already.
pub(super) fn may_add(conn: &Connection, new: &Network) -> Attempt<bool> {
    let bridge = new.bridge.clone();
    if !is_bridge_name(&bridge) || !new.has_guest_addresses() {
        return Err(StoreError::BadNetwork { bridge }.into());
    }
    for old in networks(conn)? {
        if old == *new {
            return Ok(false);
        }
        if old.bridge == bridge {
            return Err(StoreError::NetworkTaken { bridge }.into());
        }
        if old.ipv4.overlaps(new.ipv4) {
            return Err(StoreError::NetworkOverlaps { bridge, other: old.bridge }.into());
        }
    }
    Ok(true)
}

pub(super) fn insert(conn: &Connection, network: &Network) -> rusqlite::Result<()> {
    conn.execute("INSERT INTO network VALUES (?1, ?2)", (&network.bridge, network.ipv4.to_string()))?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Network> {
    Ok(Network { bridge: row.get(0)?, ipv4: ipv4_with_prefix(row, 1)? })
}

/// Column `index`, text such as `10.9.0.1/24`.
pub(super) fn ipv4_with_prefix(row: &Row<'_>, index: usize) -> rusqlite::Result<Ipv4Network> {
    let text = row.get_ref(index)?.as_str()?;
    text.parse().map_err(|err| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(err)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::SLICE;
    use crate::store::fixture::{RANGE, network, store, web};

    fn bridge(name: &str, ipv4: &str) -> Network {
        Network { bridge: name.into(), ipv4: ipv4.parse().unwrap() }
    }

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
        assert!(new.1.rebuild(&made).unwrap().is_empty());
    }

    #[test]
    fn networks_neither_change_nor_overlap() {
        let (_dir, mut store) = store();
        let b = bridge("b1", "10.8.0.1/24");
        store.add_network(&b).unwrap();
        store.add_network(&b).unwrap();
        assert_eq!(store.networks().unwrap(), [b.clone(), network()]);
        assert_eq!(store.network("b1").unwrap(), Some(b));
        assert_eq!(store.network("b2").unwrap(), None);
        let changed = store.add_network(&bridge("b1", "10.8.0.2/24"));
        assert!(matches!(changed, Err(StoreError::NetworkTaken { .. })));
        let wide = store.add_network(&bridge("b2", "10.8.1.1/16"));
        assert!(matches!(wide, Err(StoreError::NetworkOverlaps { other, .. }) if other == "b1"));
        for bad in [bridge("b/2", "10.7.0.1/24"), bridge("b2", "10.7.0.1/31"), bridge("b2", "10.7.0.0/24")] {
            assert!(matches!(store.add_network(&bad), Err(StoreError::BadNetwork { .. })), "{bad:?}");
        }
        assert_eq!(store.networks().unwrap().len(), 2);
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
