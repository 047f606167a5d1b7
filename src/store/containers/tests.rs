//! Containers as they are stored, and the ids and addresses that they get.

use super::*;
use crate::model::ids::IDS_PER_RANGE;
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
        .create_container(&NewContainer { nics: vec![], phase: Phase::Starting, wanted_up: true, ..web(2) })
        .unwrap();
    assert_eq!(with.id_range, RANGE.runtime(0).unwrap());
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
    assert_eq!(*store.container(&made.name).unwrap().unwrap().config.own(), config);
    let new = Config::of([("limits.cpu", "1")]).unwrap();
    store.set_config(&made.id, &new).unwrap();
    assert_eq!(store.container_by_id(&made.id).unwrap().unwrap(), Container { config: new.into(), ..made });
    assert!(store.container(&other.name).unwrap().unwrap().config.own().is_empty());
    store.delete_container(&web(1).id).unwrap();
    let rows: i64 = store.conn.query_row("SELECT count(*) FROM config", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
    let gone = store.set_config(&web(1).id, &config);
    assert!(matches!(gone, Err(StoreError::NoSuchContainer { .. })));
    store.conn.execute("INSERT INTO config VALUES (?1, 'limits.memory', 'x')", [&other.id]).unwrap();
    assert!(matches!(store.containers(), Err(StoreError::Corrupt { .. })));
}

#[test]
fn what_has_made_a_container_is_known_as_long_as_it_is_there() {
    let (_dir, mut store) = store();
    let made = store.create_container(&NewContainer { fleet: Some("shop".into()), ..web(1) }).unwrap();
    store.create_container(&web(2)).unwrap();
    assert_eq!(store.fleets().unwrap(), [(made.id.clone(), "shop".to_owned())].into());
    store.delete_container(&made.id).unwrap();
    assert!(store.fleets().unwrap().is_empty());
}

#[test]
fn what_is_written_of_settings_is_kept_with_them() {
    let (_dir, mut store) = store();
    let made = store.create_container(&web(1)).unwrap();
    let config = Layered::from(Config::of([("limits.cpu", "1")]).unwrap());
    store.set_settings(&made.id, &config, Some("# mine")).unwrap();
    assert_eq!(store.config_text(&made.id).unwrap().as_deref(), Some("# mine"));
    assert_eq!(store.container_by_id(&made.id).unwrap().unwrap().config, config);
    store.set_settings(&made.id, &config, None).unwrap();
    assert_eq!(store.config_text(&made.id).unwrap(), None);
    store.set_settings(&made.id, &config, Some("# mine")).unwrap();
    store.delete_container(&made.id).unwrap();
    assert_eq!(store.config_text(&made.id).unwrap(), None);
}

#[test]
fn the_lowest_free_id_range_and_address_are_given() {
    let (_dir, mut store) = store();
    for n in 1..=4 {
        store.create_container(&web(n)).unwrap();
    }
    for n in [3, 2] {
        store.delete_container(&web(n).id).unwrap();
    }
    let again = store.create_container(&web(5)).unwrap();
    assert_eq!(again.id_range, RANGE.runtime(1).unwrap());
    assert_eq!(address(&again), ip(3));
}

#[test]
fn a_requested_address_is_checked() {
    let (_dir, mut store) = store();
    assert_eq!(address(&store.create_container(&asking_for(1, ip(2))).unwrap()), ip(2));
    assert_eq!(address(&store.create_container(&web(2)).unwrap()), ip(3), "past the one asked for");
    let taken = store.create_container(&asking_for(3, ip(2)));
    assert!(matches!(taken, Err(StoreError::AddressTaken { ip: which, .. }) if which == IpAddr::V4(ip(2))));
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
fn id_ranges_and_addresses_run_out() {
    let (_dir, mut store) = store();
    let small = Network::new("b1", "b1", Some("10.8.0.1/30".parse().unwrap()), None);
    store.add_network(&small).unwrap();
    let on_small = |n| on(n, "b1");
    store.create_container(&on_small(1)).unwrap();
    let full = store.create_container(&on_small(2));
    assert!(matches!(full, Err(StoreError::NoAddressLeft { name }) if name == "b1"));
    store.set_range(SubordinateIds { start: RANGE.start, count: 3 * IDS_PER_RANGE }).unwrap();
    store.create_container(&web(2)).unwrap();
    assert!(matches!(store.create_container(&web(3)), Err(StoreError::NoIdRangeLeft { total: 2 })));
    store.delete_container(&web(1).id).unwrap();
    assert_eq!(store.create_container(&on_small(3)).unwrap().id_range, RANGE.runtime(0).unwrap());
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
    assert!(!store.pending().unwrap().starts);
    store.set_phase(&web(3).id, Phase::Starting, Some(true)).unwrap();
    let all = store.containers().unwrap();
    let seen: Vec<_> = all.iter().map(|c| (c.name.as_str(), c.phase, c.wanted_up)).collect();
    let wanted = [
        ("web01", Phase::Deleting, true),
        ("web02", Phase::Creating, false),
        ("web03", Phase::Starting, true),
    ];
    assert_eq!(seen, wanted);
    let starting: Vec<_> = store.starting().unwrap().into_iter().map(|c| c.id).collect();
    assert_eq!((starting, store.pending().unwrap().starts), (vec![web(3).id], true));
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
    assert!(matches!(&err, StoreError::Corrupt { path, .. } if *path == store.path), "{err:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is created and deleted in whatever order: no ids or address twice, always the lowest
    /// free ones, and refusal exactly when there are none.
    #[test]
    fn allotment_agrees_with_a_simple_model(
        steps in proptest::collection::vec((0u32..10, proptest::option::of(0u8..9)), 1..40),
    ) {
        let (_dir, mut store) = store();
        let tiny = Network::new("tiny", "tiny", Some("10.7.0.1/29".parse().unwrap()), None);
        store.add_network(&tiny).unwrap();
        store.set_range(SubordinateIds { start: RANGE.start, count: 5 * IDS_PER_RANGE }).unwrap();
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
            let id_range = (0..4).find(|k| model.iter().all(|(_, id_range, _)| id_range != k));
            let free = |ip: &Ipv4Addr| model.iter().all(|(.., taken)| taken != ip);
            let ip = match wanted {
                Some(ip) => Some(ip).filter(|ip| tiny.is_guest_address4(*ip) && free(ip)),
                None => tiny.guest_addresses4().find(free),
            };
            match (store.create_container(&new), id_range, ip) {
                (Ok(made), Some(id_range), Some(ip)) => {
                    prop_assert_eq!(made.id_range, RANGE.runtime(id_range).unwrap());
                    prop_assert_eq!(address(&made), ip);
                    model.push((n, id_range, ip));
                }
                (result, id_range, ip) => prop_assert!(result.is_err() && (id_range.is_none() || ip.is_none())),
            }
            let stored = store.containers().unwrap();
            prop_assert_eq!(stored.len(), model.len());
            prop_assert_eq!(stored.iter().map(|c| c.id_range).collect::<BTreeSet<_>>().len(), model.len());
            prop_assert_eq!(stored.iter().map(address).collect::<BTreeSet<_>>().len(), model.len());
        }
    }
}
