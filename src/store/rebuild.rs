//! Putting containers back into a new database from what their manifests say.

use rusqlite::Connection;

use super::allot::may_run_on;
use super::containers::{check_free, check_lease, check_template, insert};
use super::error::{Attempt, Failure};
use super::{Store, StoreError, setup};
use crate::model::container::Container;
use crate::model::ids::Range;
use crate::model::name::Name;

/// A container that could not be put back.
#[derive(Debug)]
pub struct Rejected {
    pub name: Name,
    pub reason: StoreError,
}

impl Store {
    /// Inserts `containers` as they are, in one transaction, and returns those that do not fit:
    /// manifests are files, which may be old, copied or changed. The range and the templates'
    /// content have to be there; a network that is not is made from the first lease on it.
    pub fn rebuild(&mut self, containers: &[Container]) -> Result<Vec<Rejected>, StoreError> {
        self.write("put containers back", |tx| {
            let range = setup::range(tx)?.ok_or(StoreError::NoRange)?;
            let mut rejected = Vec::new();
            for container in containers {
                match put_back(tx, range, container) {
                    Ok(()) => {}
                    Err(Failure::Refused(reason)) => {
                        rejected.push(Rejected { name: container.name.clone(), reason: *reason });
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok(rejected)
        })
    }
}

/// Checks everything before it changes anything, so that a refusal leaves no trace.
fn put_back(conn: &Connection, range: Range, container: &Container) -> Attempt<()> {
    let name = || container.name.clone();
    container.check().map_err(|source| StoreError::BadField { name: name(), source })?;
    check_free(conn, &container.name, &container.id, &container.uuid)?;
    check_template(conn, &container.template)?;
    let slice = container.slice;
    let shared = setup::is_shared(conn)?;
    if !may_run_on(range, shared, slice) {
        return Err(StoreError::SliceOutsideRange { slice }.into());
    }
    if !shared && conn.prepare_cached("SELECT 1 FROM container WHERE slice = ?1")?.exists([slice])? {
        return Err(StoreError::SliceTaken { slice }.into());
    }
    if let Some(lease) = &container.lease {
        let network = lease.network();
        let is_new = setup::may_add(conn, &network)?;
        check_lease(conn, &network, lease.ipv4.ip(), lease.mac)?;
        if is_new {
            setup::insert(conn, &network)?;
        }
    }
    insert(conn, container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::container::Phase;
    use crate::model::ids::Slice;
    use crate::model::lan::Lease;
    use crate::model::manifest::{from_toml, to_toml};
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

    #[test]
    fn manifests_bring_a_lost_database_back() {
        let (lost, _dir, mut new) = lost_and_new();
        let manifests: Vec<String> = lost.iter().map(to_toml).collect();
        let read: Vec<Container> = manifests.iter().map(|text| from_toml(text).unwrap()).collect();
        assert!(new.rebuild(&read).unwrap().is_empty());
        assert_eq!(new.containers().unwrap(), lost);
        assert_eq!(new.networks().unwrap(), [network()]);
        assert_eq!(new.create_container(&web(4)).unwrap().slice, RANGE.runtime(3).unwrap());
    }

    #[test]
    fn what_does_not_fit_is_returned_and_the_rest_is_put_back() {
        let (lost, _dir, mut new) = lost_and_new();
        let first = &lost[0];
        let lease = || first.lease.clone().unwrap();
        let other = |n: u32| {
            let fresh = web(n);
            let slice = RANGE.runtime(n).unwrap();
            Container {
                id: fresh.id,
                name: fresh.name,
                uuid: fresh.uuid,
                slice,
                lease: None,
                ..first.clone()
            }
        };
        let on = |n, lease: Lease| Container { lease: Some(lease), ..other(n) };
        let mac = web(99).nic.unwrap().mac;
        let odd = Slice::at(RANGE.runtime(50).unwrap().base() + 1).unwrap();
        let bad = [
            first.clone(),
            Container { slice: first.slice, ..other(10) },
            Container { slice: RANGE.storage().unwrap(), ..other(11) },
            Container { slice: odd, ..other(12) },
            Container { template: template('e').id, ..other(13) },
            on(14, Lease { mac, ..lease() }),
            on(15, Lease { ipv4: "10.9.0.99/24".parse().unwrap(), ..lease() }),
            on(16, Lease { mac, ipv4: "10.9.0.98/25".parse().unwrap(), ..lease() }),
            on(17, Lease { mac, bridge: "b1".into(), ..lease() }),
            Container { uuid: "x".into(), ..other(18) },
        ];
        let rejected = new.rebuild(&[&lost[..], &bad[..]].concat()).unwrap();
        let reasons: Vec<String> = rejected.iter().map(|r| format!("{:?}", r.reason)).collect();
        let kinds: Vec<&str> = reasons.iter().map(|r| r.split(' ').next().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "NameTaken",
                "SliceTaken",
                "SliceOutsideRange",
                "SliceOutsideRange",
                "TemplateGone",
                "AddressTaken",
                "MacTaken",
                "NetworkTaken",
                "NetworkOverlaps",
                "BadField",
            ]
        );
        assert_eq!(rejected[1].name, web(10).name);
        assert_eq!(new.containers().unwrap(), lost);
        assert_eq!(new.networks().unwrap(), [network()]);
    }
}
