//! Putting containers back into a new database from what their manifests say.

use std::net::IpAddr;

use rusqlite::Connection;

use super::allot::may_run_on;
use super::containers::{check_free, insert};
use super::error::{Attempt, Failure};
use super::templates::check_known;
use super::{Store, StoreError, layers, networks, nics, pools, profiles, setup, snapshots};
use crate::model::ids::SubordinateIds;
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::model::nic::Nic;

/// A container that could not be put back.
#[derive(Debug)]
pub struct Rejected {
    pub name: Name,
    pub reason: StoreError,
}

impl Store {
    /// Inserts what `manifests` describe, in one transaction, and returns those that do not fit: manifests
    /// are files, which may be old, copied or changed. The subordinate ids and the templates' content must
    /// be stored before; a network or a profile is made as the first manifest that names it says.
    pub fn rebuild(&mut self, manifests: &[Manifest]) -> Result<Vec<Rejected>, StoreError> {
        self.write("put containers back", |tx| {
            let range = setup::range(tx)?.ok_or(StoreError::NoRange)?;
            let mut rejected = Vec::new();
            for manifest in manifests {
                match put_back(tx, range, manifest) {
                    Ok(()) => {}
                    Err(Failure::Refused(reason)) => {
                        rejected.push(Rejected { name: manifest.container.name.clone(), reason: *reason });
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok(rejected)
        })
    }
}

/// Checks everything before it changes anything, so that a refusal leaves no trace.
fn put_back(conn: &Connection, range: SubordinateIds, manifest: &Manifest) -> Attempt<()> {
    let container = &manifest.container;
    let name = || container.name.clone();
    container.check().map_err(|source| StoreError::BadField { name: name(), source })?;
    check_free(conn, &container.name, &container.id, &container.uuid)?;
    check_known(conn, &container.template)?;
    manifest.snapshots.iter().try_for_each(|snapshot| check_known(conn, &snapshot.chain.template))?;
    let id_range = container.id_range;
    let shared = setup::is_shared(conn)?;
    if !may_run_on(range, shared, id_range) {
        return Err(StoreError::IdRangeOutside { id_range }.into());
    }
    if !shared && conn.prepare_cached("SELECT 1 FROM container WHERE slice = ?1")?.exists([id_range])? {
        return Err(StoreError::IdRangeTaken { id_range }.into());
    }
    let mut new = Vec::new();
    for network in &manifest.networks {
        if networks::network(conn, &network.name)?.is_none() && networks::may_add(conn, network)? {
            new.push(network);
        }
    }
    for nic in &container.nics {
        fits(conn, manifest, nic)?;
        nics::check_free(conn, &container.id, nic)?;
    }
    new.into_iter().try_for_each(|network| networks::insert(conn, network))?;
    for profile in container.config.profiles() {
        // A new database has an empty one that is called `default`.
        let known = profiles::profile(conn, &profile.name)?;
        if known.is_none_or(|known| known.config().is_empty()) {
            profiles::put(conn, profile)?;
        }
    }
    if let Some(pool) = &manifest.pool {
        pools::put(conn, pool)?;
    }
    insert(conn, container)?;
    manifest.layers.iter().try_for_each(|layer| layers::add(conn, layer, &container.pool))?;
    layers::put(conn, &container.id, &manifest.layers)?;
    for snapshot in &manifest.snapshots {
        snapshots::insert(conn, &container.id, snapshot, true)?;
    }
    container.nics.iter().try_for_each(|nic| nics::insert(conn, &container.id, nic))
}

/// Whether the network, or the one that will be made, has the addresses.
fn fits(conn: &Connection, manifest: &Manifest, nic: &Nic) -> Attempt<()> {
    let Some(name) = nic.network() else { return Ok(()) };
    let network = match networks::network(conn, name)? {
        Some(network) => Some(network),
        None => manifest.networks.iter().find(|network| network.name == name).cloned(),
    };
    let network = network.ok_or_else(|| StoreError::NoSuchNetwork { name: name.to_owned() })?;
    let outside = |ip| match ip {
        IpAddr::V4(ip) => !network.is_guest_address4(ip),
        IpAddr::V6(ip) => !network.is_guest_address6(ip),
    };
    match nic.addresses().find(|ip| outside(*ip)) {
        Some(ip) => Err(StoreError::OutsideNetwork { name: network.name, ip }.into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::{Container, Phase};
    use crate::model::ids::IdRange;
    use crate::model::manifest::{from_toml, to_toml};
    use crate::model::network::Network;
    use crate::model::nic::NicKind;
    use crate::store::fixture::{RANGE, network, store, template, web};
    use tempfile::TempDir;

    /// Three containers, and a new database with a range and a template but nothing else.
    fn lost_and_new() -> (Vec<Container>, TempDir, Store) {
        let (_dir, mut old) = store();
        for n in 1..=3 {
            old.create_container(&web(n)).unwrap();
            old.set_phase(&web(n).id, Phase::Settled, Some(n == 2)).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let mut new = Store::open(&dir.path().join("nagaya.db")).unwrap();
        new.set_range(RANGE).unwrap();
        new.add_template("c7", &template('c'), false).unwrap();
        (old.containers().unwrap(), dir, new)
    }

    fn manifest(container: &Container) -> Manifest {
        let networks = vec![network()];
        Manifest { container: container.clone(), pool: None, networks, layers: vec![], snapshots: vec![] }
    }

    #[test]
    fn manifests_bring_a_lost_database_back() {
        let (lost, _dir, mut new) = lost_and_new();
        let manifests: Vec<String> = lost.iter().map(|c| to_toml(&manifest(c))).collect();
        let read: Vec<Manifest> = manifests.iter().map(|text| from_toml(text).unwrap()).collect();
        assert!(new.rebuild(&read).unwrap().is_empty());
        assert_eq!(new.containers().unwrap(), lost);
        assert_eq!(new.networks().unwrap(), [network()]);
        assert_eq!(new.create_container(&web(4)).unwrap().id_range, RANGE.runtime(3).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_returned_and_the_rest_is_put_back() {
        let (lost, _dir, mut new) = lost_and_new();
        let first = &lost[0];
        let other = |n: u32| {
            let fresh = web(n);
            let id_range = RANGE.runtime(n).unwrap();
            let (id, name, uuid) = (fresh.id, fresh.name, fresh.uuid);
            Container { id, name, uuid, id_range, nics: vec![], ..first.clone() }
        };
        let mac = web(99).nics[0].mac.unwrap();
        let on = |n, nic: Nic| manifest(&Container { nics: vec![nic], ..other(n) });
        let nic = || first.nics[0].clone();
        let at = |ip: &str| Nic { mac, ipv4: Some(ip.parse().unwrap()), ipv6: None, ..nic() };
        let odd = IdRange::at(RANGE.runtime(50).unwrap().base() + 1).unwrap();
        let elsewhere = NicKind::Bridged { network: "b1".into() };
        let clash = Network { name: "b1".into(), bridge: "b1".into(), ..network() };
        let bad = [
            manifest(first),
            manifest(&Container { id_range: first.id_range, ..other(10) }),
            manifest(&Container { id_range: RANGE.storage().unwrap(), ..other(11) }),
            manifest(&Container { id_range: odd, ..other(12) }),
            manifest(&Container { template: template('e').id, ..other(13) }),
            on(14, Nic { mac, ..nic() }),
            on(15, Nic { mac: nic().mac, ..at("10.9.0.99/24") }),
            on(16, at("10.8.0.98/24")),
            on(17, Nic { kind: elsewhere.clone(), ..at("10.9.0.98/24") }),
            Manifest { networks: vec![clash], ..on(17, Nic { kind: elsewhere, ..at("10.9.0.98/24") }) },
            manifest(&Container { uuid: "x".into(), ..other(18) }),
        ];
        let good: Vec<Manifest> = lost.iter().map(manifest).collect();
        let rejected = new.rebuild(&[&good[..], &bad[..]].concat()).unwrap();
        let reasons: Vec<String> = rejected.iter().map(|r| format!("{:?}", r.reason)).collect();
        let kinds: Vec<&str> = reasons.iter().map(|r| r.split(' ').next().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "NameTaken",
                "IdRangeTaken",
                "IdRangeOutside",
                "IdRangeOutside",
                "TemplateGone",
                "AddressTaken",
                "MacTaken",
                "OutsideNetwork",
                "NoSuchNetwork",
                "NetworksClash",
                "BadField",
            ]
        );
        assert_eq!(rejected[1].name, web(10).name);
        assert_eq!(new.containers().unwrap(), lost);
        assert_eq!(new.networks().unwrap(), [network()]);
    }
}
