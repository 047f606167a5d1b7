//! Which bridge was given which subnets: root's record of what ordinary users have been granted, so
//! that nobody takes a subnet whose owner's containers are not running.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::record::RecordError;
use crate::model::instance::Instance;
use crate::model::network::Network;

const FILE: &str = "networks.toml";

/// Why a subnet is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{wanted} overlaps {taken}, which another network of this host has")]
    Overlaps { wanted: IpNetwork, taken: IpNetwork },
    #[error("your grant is {most} networks of your own on this host, and you have them")]
    TooMany { most: u32 },
    #[error(transparent)]
    Record(#[from] RecordError),
}

type Networks = BTreeMap<String, Subnets>;

/// A bridge's; older records have one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Subnets {
    Many(Vec<IpNetwork>),
    One(IpNetwork),
}

impl Subnets {
    fn of(network: &Network) -> Self {
        let ipv4 = network.ipv4.map(IpNetwork::V4);
        Self::Many(ipv4.into_iter().chain(network.ipv6.map(IpNetwork::V6)).collect())
    }

    fn iter(&self) -> std::slice::Iter<'_, IpNetwork> {
        match self {
            Self::Many(subnets) => subnets.iter(),
            Self::One(subnet) => std::slice::from_ref(subnet).iter(),
        }
    }
}

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

/// The record, locked while it is in hand.
struct Ledger {
    path: PathBuf,
    networks: Networks,
    _lock: OwnedFd,
}

/// Records that the bridge has these subnets; its owner may have `most` bridges.
///
/// # Errors
/// When another bridge has been given a part of them.
pub fn claim(instance: &Instance, network: &Network, most: u32) -> Result<(), LedgerError> {
    let mut ledger = open(instance)?;
    let wanted = Subnets::of(network);
    if ledger.networks.get(&network.bridge) == Some(&wanted) {
        return Ok(());
    }
    let others = || ledger.networks.iter().filter(|(bridge, _)| **bridge != network.bridge);
    for (wanted, taken) in
        others().flat_map(|(_, taken)| wanted.iter().flat_map(|w| taken.iter().map(move |t| (*w, *t))))
    {
        if overlap(wanted, taken) {
            return Err(LedgerError::Overlaps { wanted, taken });
        }
    }
    let own = others().filter(|(bridge, _)| instance.may_be_bridge(bridge)).count();
    if own >= most as usize {
        return Err(LedgerError::TooMany { most });
    }
    ledger.networks.insert(network.bridge.clone(), wanted);
    ledger.write()
}

/// An owner's bridges with their subnets.
pub fn of(instance: &Instance) -> Result<BTreeMap<String, Vec<IpNetwork>>, LedgerError> {
    if !instance.hostd_state_dir().join(FILE).exists() {
        return Ok(BTreeMap::new());
    }
    let own = open(instance)?.networks.into_iter().filter(|(bridge, _)| instance.may_be_bridge(bridge));
    Ok(own.map(|(bridge, subnets)| (bridge, subnets.iter().copied().collect())).collect())
}

/// Forgets the bridge.
pub fn release(instance: &Instance, bridge: &str) -> Result<(), LedgerError> {
    if !instance.hostd_state_dir().join(FILE).exists() {
        return Ok(());
    }
    let mut ledger = open(instance)?;
    if ledger.networks.remove(bridge).is_some() { ledger.write() } else { Ok(()) }
}

/// Removes a record that is empty.
pub fn forget(instance: &Instance) {
    let empty = open(instance).is_ok_and(|ledger| ledger.networks.is_empty());
    if empty {
        let _ = std::fs::remove_file(instance.hostd_state_dir().join(FILE));
    }
}

fn open(instance: &Instance) -> Result<Ledger, LedgerError> {
    let dir = instance.hostd_state_dir();
    let path = dir.join(FILE);
    let failed = |operation| RecordError::io(operation, &path);
    std::fs::create_dir_all(&dir).map_err(failed("make the directory of"))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&dir, flags, Mode::empty()).map_err(|e| failed("lock")(e.into()))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed("lock")(e.into()))?;
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed("read")(e).into()),
    };
    let networks = toml::from_str(&text).map_err(RecordError::syntax(&path, "a record of networks"))?;
    Ok(Ledger { path, networks, _lock: lock })
}

impl Ledger {
    fn write(&self) -> Result<(), LedgerError> {
        use std::io::Write;
        let new = self.path.with_extension("new");
        let text = toml::to_string(&self.networks).unwrap_or_default();
        std::fs::File::create(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_data()))
            .and_then(|()| std::fs::rename(&new, &self.path))
            .map_err(RecordError::io("write", &self.path))?;
        Ok(())
    }
}
