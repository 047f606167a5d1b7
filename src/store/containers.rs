//! Containers, and the slices that are theirs.

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::allot::{lowest_free, runtime_bases};
use super::columns::Connected;
use super::error::Attempt;
use super::setup::{is_shared, range};
use super::templates::{doom_if_unused, is_doomed};
use super::{Store, StoreError, firewall, nics};
use crate::model::config::Config;
use crate::model::container::{Container, NewContainer, Phase};
use crate::model::ids::{Range, Slice};
use crate::model::name::{ContainerId, Name};
use crate::model::template::TemplateId;

const SELECT: &str = "SELECT c.id, c.name, c.template, c.template_name, c.slice, c.uuid, c.created_at, \
     c.phase, c.wanted_up, \
     (SELECT json_group_array(json_array(json(n.spec), json(w.spec))) FROM nic n \
      LEFT JOIN network w ON w.name = n.network WHERE n.container = c.id), \
     (SELECT json_group_object(key, value) FROM config WHERE container = c.id) FROM container c";

impl Store {
    /// Stores a container with the lowest free runtime slice and the address asked for, or the
    /// lowest free one: all or nothing, however many others are being created.
    pub fn create_container(&mut self, new: &NewContainer) -> Result<Container, StoreError> {
        self.write("create a container", |tx| {
            check_free(tx, &new.name, &new.id, &new.uuid)?;
            check_template(tx, &new.template)?;
            let range = range(tx)?.ok_or(StoreError::NoRange)?;
            let mut container = Container {
                id: new.id.clone(),
                name: new.name.clone(),
                template: new.template.clone(),
                template_name: new.template_name.clone(),
                slice: pick_slice(tx, range, is_shared(tx)?)?,
                uuid: new.uuid.clone(),
                created_at: new.created_at,
                phase: new.phase,
                wanted_up: new.wanted_up,
                nics: Vec::new(),
                config: new.config.clone(),
            };
            insert(tx, &container)?;
            for request in &new.nics {
                let nic = nics::allot(tx, &new.id, request)?;
                nics::insert(tx, &new.id, &nic)?;
                container.nics.push(nic);
            }
            check(&container)?;
            Ok(container)
        })
    }

    /// Records what is being done, and with `Some` whether the container is wanted up.
    pub fn set_phase(
        &mut self,
        id: &ContainerId,
        phase: Phase,
        wanted_up: Option<bool>,
    ) -> Result<(), StoreError> {
        self.write("record a container's phase", |tx| {
            let sql = "UPDATE container SET phase = ?2, wanted_up = coalesce(?3, wanted_up) WHERE id = ?1";
            changed_one(id, tx.prepare_cached(sql)?.execute((id, phase, wanted_up))?)
        })
    }

    /// Records whether the container is wanted up, and leaves the phase to who has its lock.
    pub fn set_wanted_up(&mut self, id: &ContainerId, wanted_up: bool) -> Result<(), StoreError> {
        self.write("record whether a container is wanted up", |tx| {
            let sql = "UPDATE container SET wanted_up = ?2 WHERE id = ?1";
            changed_one(id, tx.prepare_cached(sql)?.execute((id, wanted_up))?)
        })
    }

    /// Gives a container another name, also in what the firewall's policy says of it.
    pub fn rename(&mut self, id: &ContainerId, name: &Name) -> Result<(), StoreError> {
        self.write("rename a container", |tx| {
            let taken = "SELECT EXISTS (SELECT 1 FROM container WHERE name = ?1 AND id <> ?2)";
            if tx.query_row(taken, (name, id), |row| row.get(0))? {
                return Err(StoreError::NameTaken { name: name.clone() }.into());
            }
            let old: Option<String> = tx
                .query_row("SELECT name FROM container WHERE id = ?1", [id], |row| row.get(0))
                .optional()?;
            changed_one(id, tx.execute("UPDATE container SET name = ?2 WHERE id = ?1", (id, name))?)?;
            Ok(old.map_or(Ok(()), |old| firewall::renamed(tx, &old, name.as_str()))?)
        })
    }

    /// Replaces the whole configuration.
    pub fn set_config(&mut self, id: &ContainerId, config: &Config) -> Result<(), StoreError> {
        self.write("store a container's configuration", |tx| {
            if !tx.prepare_cached("SELECT 1 FROM container WHERE id = ?1")?.exists([id])? {
                return Err(StoreError::NoSuchContainer { id: id.clone() }.into());
            }
            tx.prepare_cached("DELETE FROM config WHERE container = ?1")?.execute([id])?;
            insert_config(tx, id, config)
        })
    }

    /// Forgets a container; its slice and address are free. Returns its template's content if that
    /// is doomed now, having had no name and no other container.
    pub fn delete_container(&mut self, id: &ContainerId) -> Result<Option<TemplateId>, StoreError> {
        self.write("delete a container", |tx| {
            let template: Option<TemplateId> = tx
                .query_row("DELETE FROM container WHERE id = ?1 RETURNING template", [id], |row| row.get(0))
                .optional()?;
            let template = template.ok_or_else(|| StoreError::NoSuchContainer { id: id.clone() })?;
            Ok(doom_if_unused(tx, &template)?.then_some(template))
        })
    }

    pub fn container(&self, name: &Name) -> Result<Option<Container>, StoreError> {
        let found = self.read("read a container", |conn| select(conn, "WHERE c.name = ?1", [name]))?;
        Ok(found.into_iter().next())
    }

    pub fn container_by_id(&self, id: &ContainerId) -> Result<Option<Container>, StoreError> {
        let found = self.read("read a container", |conn| select(conn, "WHERE c.id = ?1", [id]))?;
        Ok(found.into_iter().next())
    }

    /// All containers, sorted by name.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        self.read("list the containers", |conn| select(conn, "ORDER BY c.name", []))
    }

    /// Containers to which something is being done, or was when a command died.
    pub fn unsettled(&self) -> Result<Vec<Container>, StoreError> {
        self.read("list unsettled containers", |conn| {
            select(conn, "WHERE c.phase <> 'settled' ORDER BY c.name", [])
        })
    }
}

/// `count` rows were changed by a statement about `id`.
fn changed_one(id: &ContainerId, count: usize) -> Attempt<()> {
    if count == 0 { Err(StoreError::NoSuchContainer { id: id.clone() }.into()) } else { Ok(()) }
}

/// Refuses a name, an id or a uuid that a container has.
pub(super) fn check_free(conn: &Connection, name: &Name, id: &ContainerId, uuid: &str) -> Attempt<()> {
    let same_name: Option<bool> = conn
        .prepare_cached("SELECT max(name = ?1) FROM container WHERE name = ?1 OR id = ?2 OR uuid = ?3")?
        .query_row((name, id, uuid), |row| row.get(0))?;
    match same_name {
        None => Ok(()),
        Some(true) => Err(StoreError::NameTaken { name: name.clone() }.into()),
        Some(false) => Err(StoreError::IdTaken { id: id.clone() }.into()),
    }
}

/// Refuses content that is unknown or being deleted.
pub(super) fn check_template(conn: &Connection, id: &TemplateId) -> Attempt<()> {
    match is_doomed(conn, id)? {
        Some(false) => Ok(()),
        Some(true) | None => Err(StoreError::TemplateGone { id: id.clone() }.into()),
    }
}

fn pick_slice(conn: &Connection, range: Range, shared: bool) -> Attempt<Slice> {
    if shared {
        return range.storage().ok_or_else(|| StoreError::NoSliceLeft { total: 0 }.into());
    }
    let mut taken = conn.prepare_cached("SELECT slice FROM container ORDER BY slice")?;
    let base = lowest_free(runtime_bases(range), taken.query_map([], |row| row.get(0))?)?;
    base.and_then(Slice::at)
        .ok_or_else(|| StoreError::NoSliceLeft { total: range.slices().saturating_sub(1) }.into())
}

fn check(container: &Container) -> Attempt<()> {
    let wrong = |source| StoreError::BadField { name: container.name.clone(), source };
    Ok(container.check().map_err(wrong)?)
}

/// Stores a container all of whose parts were found free, but for its interfaces.
pub(super) fn insert(conn: &Connection, container: &Container) -> Attempt<()> {
    check(container)?;
    conn.prepare_cached("INSERT INTO container VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute((
        &container.id,
        &container.name,
        &container.template,
        &container.template_name,
        container.slice,
        &container.uuid,
        container.created_at,
        container.phase,
        container.wanted_up,
    ))?;
    insert_config(conn, &container.id, &container.config)
}

fn insert_config(conn: &Connection, id: &ContainerId, config: &Config) -> Attempt<()> {
    let mut insert = conn.prepare_cached("INSERT INTO config VALUES (?1, ?2, ?3)")?;
    for (key, value) in config.iter() {
        insert.execute((id, key, value))?;
    }
    Ok(())
}

fn select(conn: &Connection, rest: &str, params: impl Params) -> rusqlite::Result<Vec<Container>> {
    conn.prepare_cached(&format!("{SELECT} {rest}"))?.query_map(params, from_row)?.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Container> {
    let Connected(connected) = row.get(9)?;
    let mut nics: Vec<_> = connected
        .into_iter()
        .map(|(mut nic, network)| {
            if let Some(network) = network {
                // What the network says counts: it may have changed since.
                let (ipv4, ipv6) = (nic.ipv4.map(|net| net.ip()), nic.ipv6.map(|net| net.ip()));
                nics::place(&mut nic, &network, ipv4, ipv6);
            }
            nic
        })
        .collect();
    nics.sort_by_key(|nic| nic.slot);
    Ok(Container {
        id: row.get(0)?,
        name: row.get(1)?,
        template: row.get(2)?,
        template_name: row.get(3)?,
        slice: row.get(4)?,
        uuid: row.get(5)?,
        created_at: row.get(6)?,
        phase: row.get(7)?,
        wanted_up: row.get(8)?,
        nics,
        config: row.get(10)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::SLICE;
    use crate::model::network::Network;
    use crate::model::nic::{NicKind, Wanted};
    use crate::store::fixture::{RANGE, store, template, web};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, last)
    }

    fn asking_for(n: u32, wanted: Ipv4Addr) -> NewContainer {
        let mut new = web(n);
        new.nics[0].ipv4 = Wanted::At(wanted);
        new
    }

    fn on(n: u32, network: &str) -> NewContainer {
        let mut new = web(n);
        new.nics[0].kind = NicKind::Bridged { network: network.to_owned() };
        new
    }

    fn address(container: &Container) -> Ipv4Addr {
        container.nics[0].ipv4.unwrap().ip()
    }

    #[test]
    fn what_is_created_is_read_back() {
        let (_dir, mut store) = store();
        let with = store.create_container(&web(1)).unwrap();
        let without = store
            .create_container(&NewContainer {
                nics: vec![],
                phase: Phase::Starting,
                wanted_up: true,
                ..web(2)
            })
            .unwrap();
        assert_eq!(with.slice, RANGE.runtime(0).unwrap());
        let nic = &with.nics[0];
        assert_eq!(nic.ipv4.unwrap().to_string(), "10.9.0.2/24");
        assert_eq!(nic.ipv6.unwrap().to_string(), "fd00:9::2/64");
        assert_eq!((nic.gateway4, nic.gateway6), (Some(ip(1)), Some("fd00:9::1".parse().unwrap())));
        assert_eq!((with.phase, with.wanted_up), (Phase::Creating, false));
        assert_eq!((without.phase, without.wanted_up), (Phase::Starting, true));
        assert_eq!(without.nics, []);
        assert_eq!(store.container(&with.name).unwrap(), Some(with.clone()));
        assert_eq!(store.container_by_id(&without.id).unwrap(), Some(without.clone()));
        assert_eq!(store.container(&web(3).name).unwrap(), None);
        assert_eq!(store.containers().unwrap(), [with, without]);
    }

    #[test]
    fn a_configuration_is_kept_replaced_and_forgotten() {
        let (_dir, mut store) = store();
        let config = Config::of([("limits.memory", "1GiB"), ("user.note", "it's \"quoted\"")]).unwrap();
        let made = store.create_container(&NewContainer { config: config.clone(), ..web(1) }).unwrap();
        let other = store.create_container(&web(2)).unwrap();
        assert_eq!(store.container(&made.name).unwrap().unwrap().config, config);
        let new = Config::of([("limits.cpu", "1")]).unwrap();
        store.set_config(&made.id, &new).unwrap();
        assert_eq!(store.container_by_id(&made.id).unwrap().unwrap(), Container { config: new, ..made });
        assert_eq!(store.container(&other.name).unwrap().unwrap().config, Config::default());
        store.delete_container(&web(1).id).unwrap();
        let rows: i64 = store.conn.query_row("SELECT count(*) FROM config", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
        let gone = store.set_config(&web(1).id, &config);
        assert!(matches!(gone, Err(StoreError::NoSuchContainer { .. })));
        store.conn.execute("INSERT INTO config VALUES (?1, 'raw.lxc', 'x')", [&other.id]).unwrap();
        assert!(matches!(store.containers(), Err(StoreError::Corrupt { .. })));
    }

    #[test]
    fn the_lowest_free_slice_and_address_are_given() {
        let (_dir, mut store) = store();
        for n in 1..=4 {
            store.create_container(&web(n)).unwrap();
        }
        for n in [3, 2] {
            store.delete_container(&web(n).id).unwrap();
        }
        let again = store.create_container(&web(5)).unwrap();
        assert_eq!(again.slice, RANGE.runtime(1).unwrap());
        assert_eq!(address(&again), ip(3));
    }

    #[test]
    fn a_requested_address_is_checked() {
        let (_dir, mut store) = store();
        assert_eq!(address(&store.create_container(&asking_for(1, ip(2))).unwrap()), ip(2));
        assert_eq!(address(&store.create_container(&web(2)).unwrap()), ip(3), "past the one asked for");
        let taken = store.create_container(&asking_for(3, ip(2)));
        assert!(
            matches!(taken, Err(StoreError::AddressTaken { ip: which, .. }) if which == IpAddr::V4(ip(2)))
        );
        for bad in [ip(0), ip(1), ip(255), Ipv4Addr::new(10, 9, 1, 2)] {
            let outside = store.create_container(&asking_for(3, bad));
            assert!(matches!(outside, Err(StoreError::OutsideNetwork { .. })), "{bad}");
        }
    }

    #[test]
    fn what_another_has_is_refused_and_nothing_is_kept() {
        let (_dir, mut store) = store();
        let first = store.create_container(&web(1)).unwrap();
        let mut refused = |new: NewContainer| store.create_container(&new).unwrap_err();
        let same_name = refused(NewContainer { name: web(1).name, ..web(2) });
        assert!(matches!(same_name, StoreError::NameTaken { name } if name == web(1).name));
        let same_name_and_id = refused(NewContainer { template: template('e').id, ..web(1) });
        assert!(matches!(same_name_and_id, StoreError::NameTaken { .. }));
        assert!(matches!(refused(NewContainer { id: web(1).id, ..web(2) }), StoreError::IdTaken { .. }));
        assert!(matches!(refused(NewContainer { uuid: web(1).uuid, ..web(2) }), StoreError::IdTaken { .. }));
        assert!(matches!(refused(NewContainer { nics: web(1).nics, ..web(2) }), StoreError::MacTaken { .. }));
        let gone = refused(NewContainer { template: template('e').id, ..web(2) });
        assert!(matches!(gone, StoreError::TemplateGone { .. }));
        let bad_uuid = refused(NewContainer { uuid: "U".repeat(32), ..web(2) });
        assert!(matches!(bad_uuid, StoreError::BadField { .. }));
        assert!(matches!(refused(on(2, "b9")), StoreError::NoSuchNetwork { name } if name == "b9"));
        assert_eq!(store.containers().unwrap(), [first]);
    }

    #[test]
    fn slices_and_addresses_run_out() {
        let (_dir, mut store) = store();
        let small = Network::new("b1", "b1", Some("10.8.0.1/30".parse().unwrap()), None);
        store.add_network(&small).unwrap();
        let on_small = |n| on(n, "b1");
        store.create_container(&on_small(1)).unwrap();
        let full = store.create_container(&on_small(2));
        assert!(matches!(full, Err(StoreError::NoAddressLeft { name }) if name == "b1"));
        store.set_range(Range { start: RANGE.start, count: 3 * SLICE }).unwrap();
        store.create_container(&web(2)).unwrap();
        assert!(matches!(store.create_container(&web(3)), Err(StoreError::NoSliceLeft { total: 2 })));
        store.delete_container(&web(1).id).unwrap();
        assert_eq!(store.create_container(&on_small(3)).unwrap().slice, RANGE.runtime(0).unwrap());
    }

    #[test]
    fn without_a_range_nothing_can_be_created() {
        let (_dir, mut store) = store();
        store.conn.execute("DELETE FROM meta", []).unwrap();
        assert!(matches!(store.create_container(&web(1)), Err(StoreError::NoRange)));
    }

    #[test]
    fn phases_are_recorded() {
        let (_dir, mut store) = store();
        for n in [2, 1, 3] {
            store.create_container(&web(n)).unwrap();
        }
        store.set_phase(&web(1).id, Phase::Settled, Some(true)).unwrap();
        store.set_phase(&web(1).id, Phase::Deleting, None).unwrap();
        store.set_phase(&web(3).id, Phase::Settled, None).unwrap();
        let unsettled = store.unsettled().unwrap();
        let seen: Vec<_> = unsettled.iter().map(|c| (c.name.as_str(), c.phase, c.wanted_up)).collect();
        assert_eq!(seen, [("web01", Phase::Deleting, true), ("web02", Phase::Creating, false)]);
        let missing = store.set_phase(&web(9).id, Phase::Settled, None);
        assert!(matches!(missing, Err(StoreError::NoSuchContainer { id }) if id == web(9).id));
    }

    #[test]
    fn renaming_moves_the_name_alone() {
        let (_dir, mut store) = store();
        let before = store.create_container(&web(1)).unwrap();
        store.create_container(&web(2)).unwrap();
        assert!(matches!(store.rename(&before.id, &web(2).name), Err(StoreError::NameTaken { .. })));
        store.rename(&before.id, &before.name).unwrap();
        let name = Name::new("mail").unwrap();
        store.rename(&before.id, &name).unwrap();
        let after = store.container(&name).unwrap().unwrap();
        assert_eq!(after, Container { name: name.clone(), ..before });
        assert_eq!(store.container(&web(1).name).unwrap(), None);
        assert!(matches!(store.rename(&web(9).id, &web(9).name), Err(StoreError::NoSuchContainer { .. })));
    }

    #[test]
    fn a_deleted_container_leaves_nothing() {
        let (_dir, mut store) = store();
        store.create_container(&web(1)).unwrap();
        assert_eq!(store.delete_container(&web(1).id).unwrap(), None, "its template has a name");
        let nics: i64 = store.conn.query_row("SELECT count(*) FROM nic", [], |row| row.get(0)).unwrap();
        assert_eq!(nics, 0);
        assert!(matches!(store.delete_container(&web(1).id), Err(StoreError::NoSuchContainer { .. })));
        store.create_container(&web(1)).unwrap();
    }

    #[test]
    fn rows_that_we_would_not_have_written_are_damage() {
        let (_dir, mut store) = store();
        store.create_container(&web(1)).unwrap();
        store.conn.execute("UPDATE container SET name = '../etc'", []).unwrap();
        let err = store.containers().unwrap_err();
        assert!(matches!(&err, StoreError::Corrupt { path, .. } if path == store.path()), "{err:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        /// Whatever is created and deleted in whatever order: no slice or address twice, always
        /// the lowest free ones, and refusal exactly when there are none.
        #[test]
        fn allotment_agrees_with_a_simple_model(
            steps in proptest::collection::vec((0u32..10, proptest::option::of(0u8..9)), 1..40),
        ) {
            let (_dir, mut store) = store();
            let tiny = Network::new("tiny", "tiny", Some("10.7.0.1/29".parse().unwrap()), None);
            store.add_network(&tiny).unwrap();
            store.set_range(Range { start: RANGE.start, count: 5 * SLICE }).unwrap();
            let mut model: Vec<(u32, u32, Ipv4Addr)> = Vec::new();
            for (n, wanted) in steps {
                if let Some(at) = model.iter().position(|(id, ..)| *id == n) {
                    store.delete_container(&web(n).id).unwrap();
                    model.remove(at);
                    continue;
                }
                let wanted = wanted.map(|last| Ipv4Addr::new(10, 7, 0, last));
                let mut new = on(n, "tiny");
                new.nics[0].ipv4 = wanted.map_or(Wanted::Auto, Wanted::At);
                let slice = (0..4).find(|k| model.iter().all(|(_, slice, _)| slice != k));
                let free = |ip: &Ipv4Addr| model.iter().all(|(.., taken)| taken != ip);
                let ip = match wanted {
                    Some(ip) => Some(ip).filter(|ip| tiny.is_guest_address4(*ip) && free(ip)),
                    None => tiny.guest_addresses4().find(free),
                };
                match (store.create_container(&new), slice, ip) {
                    (Ok(made), Some(slice), Some(ip)) => {
                        prop_assert_eq!(made.slice, RANGE.runtime(slice).unwrap());
                        prop_assert_eq!(address(&made), ip);
                        model.push((n, slice, ip));
                    }
                    (result, slice, ip) => prop_assert!(result.is_err() && (slice.is_none() || ip.is_none())),
                }
                let stored = store.containers().unwrap();
                prop_assert_eq!(stored.len(), model.len());
                prop_assert_eq!(stored.iter().map(|c| c.slice).collect::<BTreeSet<_>>().len(), model.len());
                prop_assert_eq!(stored.iter().map(address).collect::<BTreeSet<_>>().len(), model.len());
            }
        }
    }
}
