//! The firewall's policy, blocked addresses, and what has passed containers' links.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::json;
use super::{Store, StoreError};
use crate::model::firewall::policy::ContainerPolicy;
use crate::model::firewall::traffic::Traffic;
use crate::model::firewall::{Block, Policy};
use crate::model::name::{ContainerId, Name};
use crate::model::stored;

/// A change of the policy that somebody has still to confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPolicy {
    pub previous: Policy,
    /// Unix time in seconds at which the previous policy comes back.
    pub deadline: i64,
}

impl Store {
    /// What was stored last; an empty policy before.
    pub fn policy(&self) -> Result<Policy, StoreError> {
        self.read("read the firewall's policy", whole)
    }

    /// The policy without what it says of containers other than `container`.
    pub fn policy_about(&self, container: &str) -> Result<Policy, StoreError> {
        self.read("read the firewall's policy", |conn| {
            let sql = "SELECT document FROM policy WHERE container IN ('', ?1)";
            joined(conn.prepare_cached(sql)?.query_map([container], |row| parsed(row, 0))?)
        })
    }

    /// The networks on which there is a container other than `container` that has rules.
    pub fn networks_with_rules(&self, container: &str) -> Result<BTreeSet<String>, StoreError> {
        self.read("look which networks have rules", |conn| {
            let sql = "SELECT DISTINCT n.network FROM policy p JOIN container c ON c.name = p.container \
                 JOIN nic n ON n.container = c.id \
                 WHERE p.has_rules AND p.container <> ?1 AND n.network IS NOT NULL";
            conn.prepare_cached(sql)?.query_map([container], |row| row.get(0))?.collect()
        })
    }

    /// Stores the policy's part about one container, which is all that `policy` contains; nobody has to
    /// confirm it.
    pub fn set_policy_about(&mut self, container: &str, policy: &Policy) -> Result<(), StoreError> {
        self.write("store the firewall's policy", |tx| {
            match policy.parts().get(container) {
                Some(part) => put_part(tx, container, part, &json(part)?)?,
                None => drop_part(tx, container)?,
            }
            Ok(())
        })
    }

    /// Stores a policy that nobody has to confirm.
    pub fn set_policy(&mut self, policy: &Policy) -> Result<(), StoreError> {
        self.write("store the firewall's policy", |tx| {
            put(tx, policy)?;
            tx.execute("DELETE FROM pending_policy", [])?;
            Ok(())
        })
    }

    /// Stores a policy from which something was removed or renamed. If it has to be confirmed, it still has
    /// to.
    pub fn amend_policy(&mut self, policy: &Policy) -> Result<(), StoreError> {
        self.write("store the firewall's policy", |tx| Ok(put(tx, policy)?))
    }

    /// Stores a policy that is to be confirmed before `deadline`.
    pub fn try_policy(&mut self, policy: &Policy, deadline: i64) -> Result<(), StoreError> {
        self.write("store the firewall's policy", |tx| {
            let previous = whole(tx)?;
            put(tx, policy)?;
            let sql = "INSERT OR REPLACE INTO pending_policy (one, previous, deadline) VALUES (1, ?1, ?2)";
            tx.execute(sql, (json(&previous)?, deadline))?;
            Ok(())
        })
    }

    pub fn pending_policy(&self) -> Result<Option<PendingPolicy>, StoreError> {
        self.read("read the policy to be confirmed", pending)
    }

    /// The policy stays. Tells whether there was anything to confirm.
    pub fn confirm_policy(&mut self) -> Result<bool, StoreError> {
        self.write(
            "confirm the firewall's policy",
            |tx| Ok(tx.execute("DELETE FROM pending_policy", [])? > 0),
        )
    }

    /// Goes back to the policy before the one that nobody has confirmed. None: there is none to be
    /// confirmed.
    pub fn take_policy_back(&mut self) -> Result<Option<Policy>, StoreError> {
        self.write("take the firewall's policy back", |tx| {
            let Some(pending) = pending(tx)? else { return Ok(None) };
            put(tx, &pending.previous)?;
            tx.execute("DELETE FROM pending_policy", [])?;
            Ok(Some(pending.previous))
        })
    }

    /// Blocks that hold at `now`, by address.
    pub fn blocks(&self, now: i64) -> Result<Vec<Block>, StoreError> {
        self.read("list the blocks", |conn| {
            let sql = "SELECT b.address, c.name, b.until, b.reason, b.created_at FROM block b \
                 LEFT JOIN container c ON c.id = b.container \
                 WHERE b.until IS NULL OR b.until > ?1 ORDER BY b.address, c.name";
            conn.prepare_cached(sql)?.query_map([now], block)?.collect()
        })
    }

    pub fn has_blocks(&self) -> Result<bool, StoreError> {
        self.read("look for blocks", |conn| {
            conn.query_row("SELECT EXISTS (SELECT 1 FROM block)", [], |row| row.get(0))
        })
    }

    /// Stores all of them or none, in the place of those of the same addresses and containers. Those
    /// that ended before `now` are forgotten.
    pub fn add_blocks(
        &mut self,
        blocks: &[(IpNetwork, Option<ContainerId>)],
        until: Option<i64>,
        reason: Option<&str>,
        now: i64,
    ) -> Result<(), StoreError> {
        self.write("store blocks", |tx| {
            tx.execute("DELETE FROM block WHERE until <= ?1", [now])?;
            let sql = "INSERT OR REPLACE INTO block (address, container, until, reason, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5)";
            let mut insert = tx.prepare_cached(sql)?;
            for (address, container) in blocks {
                insert.execute((address.to_string(), container, until, reason, now))?;
            }
            Ok(())
        })
    }

    /// Forgets those that there are; returns how many.
    pub fn remove_blocks(
        &mut self,
        blocks: &[(IpNetwork, Option<ContainerId>)],
    ) -> Result<usize, StoreError> {
        self.write("forget blocks", |tx| {
            let sql = "DELETE FROM block WHERE address = ?1 AND ifnull(container, '') = ifnull(?2, '')";
            let mut delete = tx.prepare_cached(sql)?;
            let mut gone = 0;
            for (address, container) in blocks {
                gone += delete.execute((address.to_string(), container))?;
            }
            Ok(gone)
        })
    }

    /// Adds what has passed since the last look.
    pub fn record_traffic(&mut self, now: &[(ContainerId, String, Traffic)]) -> Result<(), StoreError> {
        self.write("record traffic", |tx| {
            for (container, link, counted) in now {
                let sql = "SELECT total, seen FROM traffic WHERE container = ?1 AND link = ?2";
                let found = tx.prepare_cached(sql)?.query_row((container, link), both).optional()?;
                let (total, seen) = found.unwrap_or_default();
                let total = total.continued(seen, *counted);
                let sql =
                    "INSERT OR REPLACE INTO traffic (container, link, total, seen) VALUES (?1, ?2, ?3, ?4)";
                tx.prepare_cached(sql)?.execute((container, link, json(&total)?, json(counted)?))?;
            }
            Ok(())
        })
    }

    /// The traffic of every link since it was made.
    pub fn traffic(&self) -> Result<BTreeMap<(ContainerId, String), Traffic>, StoreError> {
        self.read("read the traffic", |conn| {
            let sql = "SELECT total, seen, container, link FROM traffic";
            let row = |row: &Row<'_>| Ok(((row.get(2)?, row.get(3)?), both(row)?.0));
            conn.prepare_cached(sql)?.query_map([], row)?.collect()
        })
    }
}

fn whole(conn: &Connection) -> rusqlite::Result<Policy> {
    let sql = "SELECT document FROM policy ORDER BY container";
    joined(conn.prepare_cached(sql)?.query_map([], |row| parsed(row, 0))?)
}

fn joined(parts: impl Iterator<Item = rusqlite::Result<Policy>>) -> rusqlite::Result<Policy> {
    let mut policy = Policy::default();
    for part in parts {
        policy.join(part?);
    }
    Ok(policy)
}

/// Renames a container in the policy.
pub(super) fn renamed(conn: &Connection, from: &str, to: &str) -> rusqlite::Result<()> {
    let mut policy = whole(conn)?;
    policy.rename(from, to);
    put(conn, &policy)
}

/// Writes what differs from what is stored.
fn put(conn: &Connection, policy: &Policy) -> rusqlite::Result<()> {
    let sql = "SELECT container, document FROM policy";
    let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let mut old: BTreeMap<String, String> =
        conn.prepare_cached(sql)?.query_map([], row)?.collect::<Result<_, _>>()?;
    for (container, part) in policy.parts() {
        let document = json(&part)?;
        if old.remove(container).as_ref() != Some(&document) {
            put_part(conn, container, &part, &document)?;
        }
    }
    old.keys().try_for_each(|container| drop_part(conn, container))
}

fn put_part(conn: &Connection, container: &str, part: &Policy, document: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO policy (container, has_rules, document) VALUES (?1, ?2, ?3)";
    let has_rules = part.containers.values().any(|said| *said != ContainerPolicy::default());
    conn.prepare_cached(sql)?.execute((container, has_rules, document)).map(drop)
}

fn drop_part(conn: &Connection, container: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM policy WHERE container = ?1")?.execute([container]).map(drop)
}

fn pending(conn: &Connection) -> rusqlite::Result<Option<PendingPolicy>> {
    let row = |row: &Row<'_>| Ok(PendingPolicy { previous: parsed(row, 0)?, deadline: row.get(1)? });
    conn.query_row("SELECT previous, deadline FROM pending_policy", [], row).optional()
}

fn both(row: &Row<'_>) -> rusqlite::Result<(Traffic, Traffic)> {
    Ok((parsed(row, 0)?, parsed(row, 1)?))
}

fn block(row: &Row<'_>) -> rusqlite::Result<Block> {
    let address = row.get_ref(0)?.as_str()?.parse();
    let name: Option<Name> = row.get(1)?;
    Ok(Block {
        address: address.map_err(|err| unfit(0, err))?,
        container: name,
        until: row.get(2)?,
        reason: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// Column `index`, JSON.
fn parsed<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    stored::from_json(row.get_ref(index)?.as_str()?).map_err(|err| unfit(index, err))
}

fn unfit(index: usize, err: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(err))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::policy;
    use crate::store::fixture::{store, web};

    #[test]
    fn a_policy_is_tried_and_confirmed_or_taken_back() {
        let (_dir, mut store) = store();
        assert_eq!(store.policy().unwrap(), Policy::default());
        let first = policy("[networks.lan]\ndefault-in = \"deny\"");
        let second = policy("[networks.lan]\ndefault-in = \"reject\"");
        store.set_policy(&first).unwrap();
        store.try_policy(&second, 100).unwrap();
        assert_eq!(store.policy().unwrap(), second);
        let pending = store.pending_policy().unwrap().unwrap();
        assert_eq!((pending.previous, pending.deadline), (first.clone(), 100));
        assert_eq!(store.take_policy_back().unwrap().as_ref(), Some(&first));
        assert_eq!((store.policy().unwrap(), store.pending_policy().unwrap()), (first, None));
        assert_eq!(store.take_policy_back().unwrap(), None);
        store.try_policy(&second, 100).unwrap();
        assert!(store.confirm_policy().unwrap() && !store.confirm_policy().unwrap());
        assert_eq!(store.policy().unwrap(), second);
    }

    #[test]
    fn a_policy_is_kept_in_pieces() {
        let (_dir, mut store) = store();
        store.create_container(&web(1)).unwrap();
        let network = store.networks().unwrap()[0].name.clone();
        let all = policy(
            "[sets]\na = [\"192.0.2.1\"]\n[containers.web01]\ndefault-in = \"deny\"\n[containers.gone]\ndefault-in = \"deny\"\n\
             [[forwards]]\ncontainer = \"db01\"\nproto = \"tcp\"\nlisten = \"80\"",
        );
        store.set_policy(&all).unwrap();
        assert_eq!(store.policy().unwrap(), all);
        let mut about = store.policy_about("web01").unwrap();
        assert_eq!((about.sets.len(), about.containers.len(), about.forwards.len()), (1, 1, 0));
        assert_eq!(store.networks_with_rules("db01").unwrap(), BTreeSet::from([network]));
        assert!(store.networks_with_rules("web01").unwrap().is_empty());
        let mut silent = about.clone();
        silent.containers.insert("web01".to_owned(), ContainerPolicy::default());
        store.set_policy_about("web01", &silent).unwrap();
        assert!(store.networks_with_rules("db01").unwrap().is_empty(), "nothing is said of it");
        about.containers.clear();
        store.set_policy_about("web01", &about).unwrap();
        let left = store.policy().unwrap();
        assert_eq!(left.containers.keys().collect::<Vec<_>>(), ["gone"]);
        assert_eq!((left.sets, left.forwards), (all.sets, all.forwards));
        store.set_policy(&Policy::default()).unwrap();
        assert_eq!(store.policy().unwrap(), Policy::default());
    }

    #[test]
    fn blocks_are_one_for_an_address_and_a_container_and_go_with_it() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        let (a, b) = (net("192.0.2.1/32"), net("2001:db8::/32"));
        store.add_blocks(&[(a, None), (a, Some(id.clone()))], Some(50), Some("scans"), 10).unwrap();
        store.add_blocks(&[(a, None), (b, Some(id.clone()))], None, None, 20).unwrap();
        let found = store.blocks(30).unwrap();
        let text: Vec<_> = found
            .iter()
            .map(|b| (b.address.to_string(), b.container.as_ref().map(Name::to_string), b.until))
            .collect();
        let web = Some("web01".to_owned());
        assert_eq!(
            text,
            [
                ("192.0.2.1/32".to_owned(), None, None),
                ("192.0.2.1/32".to_owned(), web.clone(), Some(50)),
                ("2001:db8::/32".to_owned(), web, None)
            ]
        );
        assert_eq!(store.blocks(50).unwrap().len(), 2, "one has ended");
        store.add_blocks(&[], None, None, 60).unwrap();
        assert_eq!(store.remove_blocks(&[(a, None), (a, Some(id.clone())), (b, None)]).unwrap(), 1);
        assert!(store.has_blocks().unwrap());
        store.delete_container(&id).unwrap();
        assert!(!store.has_blocks().unwrap());
    }

    #[test]
    fn traffic_adds_up_over_restarts_of_the_host() {
        let (_dir, mut store) = store();
        let id = store.create_container(&web(1)).unwrap().id;
        let count = |bytes| Traffic { sent_bytes: bytes, received_bytes: 1, ..Traffic::default() };
        for bytes in [100, 150, 7] {
            store.record_traffic(&[(id.clone(), "ng1".into(), count(bytes))]).unwrap();
        }
        assert_eq!(store.traffic().unwrap()[&(id, "ng1".to_owned())].sent_bytes, 157);
    }
}
