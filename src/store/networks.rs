//! Networks.

use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::json;
use super::error::Attempt;
use super::{Store, StoreError};
use crate::model::name::Name;
use crate::model::network::Network;

impl Store {
    pub fn network(&self, name: &str) -> Result<Option<Network>, StoreError> {
        self.read("read a network", |conn| network(conn, name))
    }

    /// All networks, sorted by name.
    pub fn networks(&self) -> Result<Vec<Network>, StoreError> {
        self.read("list the networks", all)
    }

    /// Adds a network whose name, bridge and subnets no other has. Adding one again as it is changes
    /// nothing.
    pub fn add_network(&mut self, network: &Network) -> Result<(), StoreError> {
        self.write("add a network", |tx| {
            if may_add(tx, network)? {
                insert(tx, network)?;
            }
            Ok(())
        })
    }

    /// Adds a network that does not exist yet.
    pub fn add_network_anew(&mut self, network: &Network) -> Result<(), StoreError> {
        self.write("add a network", |tx| match may_add(tx, network)? {
            true => insert(tx, network),
            false => Err(StoreError::NetworkTaken { name: network.name.clone() }.into()),
        })
    }

    /// Puts `network` in the place of the one of its name. Every guest must be able to keep its
    /// addresses.
    pub fn set_network(&mut self, network: &Network) -> Result<(), StoreError> {
        self.write("change a network", |tx| {
            let name = || network.name.clone();
            let old = self::network(tx, &network.name)?.ok_or_else(|| StoreError::NoSuchNetwork { name: name() })?;
            network.check().map_err(|source| StoreError::BadNetwork { name: name(), source })?;
            let others = all(tx)?;
            others.iter().filter(|other| **other != old).try_for_each(|other| apart(other, network))?;
            let mut addresses = tx.prepare_cached(
                "SELECT c.name, n.ipv4, n.ipv6 FROM nic n JOIN container c ON c.id = n.container WHERE n.network = ?1",
            )?;
            let rows = addresses.query_map([&network.name], |row| {
                let ipv4: Option<u32> = row.get(1)?;
                let ipv6: Option<[u8; 16]> = row.get(2)?;
                Ok((row.get::<_, Name>(0)?, ipv4, ipv6))
            })?;
            for row in rows {
                let (container, ipv4, ipv6) = row?;
                let kept4 = ipv4.is_none_or(|ip| network.is_guest_address4(ip.into()));
                let kept6 = ipv6.is_none_or(|ip| network.is_guest_address6(ip.into()));
                if !kept4 || !kept6 {
                    return Err(StoreError::AddressLost { name: name(), container }.into());
                }
            }
            tx.prepare_cached("UPDATE network SET spec = ?2 WHERE name = ?1")?
                .execute((&network.name, json(network)?))?;
            Ok(())
        })
    }

    /// Forgets a network that nobody is on.
    pub fn delete_network(&mut self, name: &str) -> Result<(), StoreError> {
        self.write("delete a network", |tx| {
            let users: Vec<Name> = tx
                .prepare_cached(
                    "SELECT DISTINCT c.name FROM nic n JOIN container c ON c.id = n.container
                     WHERE n.network = ?1 ORDER BY c.name",
                )?
                .query_map([name], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            if !users.is_empty() {
                return Err(StoreError::NetworkInUse { name: name.to_owned(), users }.into());
            }
            match tx.execute("DELETE FROM network WHERE name = ?1", [name])? {
                0 => Err(StoreError::NoSuchNetwork { name: name.to_owned() }.into()),
                _ => Ok(()),
            }
        })
    }
}

pub(super) fn network(conn: &Connection, name: &str) -> rusqlite::Result<Option<Network>> {
    conn.prepare_cached("SELECT spec FROM network WHERE name = ?1")?.query_row([name], from_row).optional()
}

pub(super) fn all(conn: &Connection) -> rusqlite::Result<Vec<Network>> {
    conn.prepare_cached("SELECT spec FROM network ORDER BY name")?.query_map([], from_row)?.collect()
}

/// True: it is new and fits; false: it exists already.
pub(super) fn may_add(conn: &Connection, new: &Network) -> Attempt<bool> {
    new.check().map_err(|source| StoreError::BadNetwork { name: new.name.clone(), source })?;
    for old in all(conn)? {
        if old == *new {
            return Ok(false);
        }
        if old.name == new.name {
            return Err(StoreError::NetworkTaken { name: new.name.clone() }.into());
        }
        apart(&old, new)?;
    }
    Ok(true)
}

/// Refuses two networks that have something in common.
fn apart(one: &Network, other: &Network) -> Attempt<()> {
    let clash = |what: String| {
        let (name, other) = (other.name.clone(), one.name.clone());
        Err(StoreError::NetworksClash { name, other, what }.into())
    };
    if one.bridge == other.bridge {
        return clash(format!("the bridge {}", one.bridge));
    }
    if let (Some(a), Some(b)) = (one.ipv4, other.ipv4)
        && a.overlaps(b)
    {
        return clash(format!("a part of {b}"));
    }
    if let (Some(a), Some(b)) = (one.ipv6, other.ipv6)
        && a.overlaps(b)
    {
        return clash(format!("a part of {b}"));
    }
    Ok(())
}

pub(super) fn insert(conn: &Connection, network: &Network) -> Attempt<()> {
    conn.execute(
        "INSERT INTO network VALUES (?1, ?2, ?3)",
        (&network.name, &network.bridge, json(network)?),
    )?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Network> {
    row.get(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixture::{network, store, web};

    fn lan(name: &str, ipv4: &str) -> Network {
        Network::new(name, name, Some(ipv4.parse().unwrap()), None)
    }

    #[test]
    fn networks_neither_overlap_nor_share_a_name() {
        let (_dir, mut store) = store();
        let b = lan("b1", "10.8.0.1/24");
        store.add_network(&b).unwrap();
        store.add_network(&b).unwrap();
        assert!(matches!(store.add_network_anew(&b), Err(StoreError::NetworkTaken { .. })));
        assert_eq!(store.networks().unwrap(), [b.clone(), network()]);
        assert_eq!(store.network("b1").unwrap(), Some(b));
        assert_eq!(store.network("b2").unwrap(), None);
        let changed = store.add_network(&lan("b1", "10.8.0.2/24"));
        assert!(matches!(changed, Err(StoreError::NetworkTaken { .. })));
        let wide = store.add_network(&lan("b2", "10.8.1.1/16")).unwrap_err();
        assert!(matches!(&wide, StoreError::NetworksClash { other, .. } if other == "b1"), "{wide}");
        let same = Network { ipv6: network().ipv6, ..lan("b2", "10.7.0.1/24") };
        assert!(matches!(store.add_network(&same), Err(StoreError::NetworksClash { .. })));
        let bridge = Network { bridge: "b1".into(), ..lan("b2", "10.7.0.1/24") };
        assert!(matches!(store.add_network(&bridge), Err(StoreError::NetworksClash { .. })));
        for bad in [lan("b/2", "10.7.0.1/24"), lan("b2", "10.7.0.1/31"), lan("b2", "10.7.0.0/24")] {
            assert!(matches!(store.add_network(&bad), Err(StoreError::BadNetwork { .. })), "{bad:?}");
        }
        assert_eq!(store.networks().unwrap().len(), 2);
    }

    #[test]
    fn a_network_changes_only_as_its_guests_can() {
        let (_dir, mut store) = store();
        store.create_container(&web(1)).unwrap();
        let mut wider = network();
        wider.set("ipv4.address", "10.9.0.1/20").unwrap();
        store.set_network(&wider).unwrap();
        assert_eq!(store.container(&web(1).name).unwrap().unwrap().nics[0].ipv4.unwrap().prefix(), 20);
        let mut elsewhere = network();
        elsewhere.set("ipv4.address", "10.8.0.1/24").unwrap();
        let lost = store.set_network(&elsewhere).unwrap_err();
        assert!(
            matches!(&lost, StoreError::AddressLost { container, .. } if *container == web(1).name),
            "{lost}"
        );
        let mut without = network();
        without.set("ipv6.address", "none").unwrap();
        assert!(matches!(store.set_network(&without), Err(StoreError::AddressLost { .. })));
        assert!(matches!(
            store.set_network(&lan("b9", "10.1.0.1/24")),
            Err(StoreError::NoSuchNetwork { .. })
        ));
        assert_eq!(store.network("nagaya0").unwrap(), Some(wider));
    }

    #[test]
    fn a_network_that_somebody_is_on_stays() {
        let (_dir, mut store) = store();
        store.create_container(&web(1)).unwrap();
        let used = store.delete_network("nagaya0").unwrap_err();
        assert!(matches!(&used, StoreError::NetworkInUse { users, .. } if users == &[web(1).name]), "{used}");
        store.delete_container(&web(1).id).unwrap();
        store.delete_network("nagaya0").unwrap();
        assert!(matches!(store.delete_network("nagaya0"), Err(StoreError::NoSuchNetwork { .. })));
    }
}
