//! Which of the host's ports lead to whose guests. If two owners forwarded one port, the kernel would take
//! the later one. So root's part keeps a record, in which no port has two owners, also for owners whose
//! firewall is not in place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::host::record::{self, Record, RecordError};
use crate::model::firewall::plan::ForwardPlan;
use crate::model::firewall::policy::Proto;
use crate::model::instance::Instance;
use crate::sys::error_text;

const FILE: &str = "ports.toml";

/// Why a port cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    #[error("{} port {port} leads to a container of '{owner}' already", proto.as_str())]
    Taken { proto: Proto, port: u16, owner: String },
    #[error(transparent)]
    Record(#[from] RecordError),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Port {
    proto: Proto,
    port: u16,
    /// An address of the host's; `0.0.0.0` and `::` are all of them.
    address: IpAddr,
}

impl Port {
    fn of(forward: &ForwardPlan) -> Self {
        let any = match forward.to {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self { proto: forward.proto, port: forward.port, address: forward.listen.unwrap_or(any) }
    }

    /// Whether a packet can match both.
    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (self.address, other.address);
        (self.proto, self.port, a.is_ipv4()) == (other.proto, other.port, b.is_ipv4())
            && (a == b || a.is_unspecified() || b.is_unspecified())
    }
}

/// By the names of the owners' tables.
type Owners = BTreeMap<String, BTreeSet<Port>>;

/// An owner's ports, to be kept once the kernel has them. Until then the owner also has the former ones; if
/// the claim is dropped, only those.
pub struct Claim {
    /// None where there is no record to keep.
    instance: Option<Instance>,
    owner: String,
    had: BTreeSet<Port>,
    wanted: BTreeSet<Port>,
}

/// Claims the ports of all the forwards that an owner is to have. The record is not locked while the kernel
/// is told, because that takes longer for a longer plan; the caller holds the lock of the owner's firewall.
///
/// # Errors
/// `Taken` where another owner has one of the ports.
pub fn claim(instance: &Instance, forwards: &[ForwardPlan]) -> Result<Claim, PortsError> {
    let (owner, wanted) = (instance.nft_table(), forwards.iter().map(Port::of).collect::<BTreeSet<_>>());
    // A daemonless owner has a network of their own and shares no ports.
    if instance.is_daemonless() || (wanted.is_empty() && !record::exists(instance, FILE)) {
        return Ok(Claim { instance: None, owner, had: BTreeSet::new(), wanted });
    }
    let mut record: Record<Owners> = record::open(instance, FILE)?;
    let others = record.content().iter().filter(|(other, _)| **other != owner);
    if let Some((port, owner)) = taken(&wanted, others) {
        return Err(PortsError::Taken { proto: port.proto, port: port.port, owner: owner.clone() });
    }
    let had = record.content().get(&owner).cloned().unwrap_or_default();
    set(&mut record, &owner, had.union(&wanted).cloned().collect())?;
    Ok(Claim { instance: Some(instance.clone()), owner, had, wanted })
}

/// The first of `wanted` that somebody has.
fn taken<'a>(
    wanted: &'a BTreeSet<Port>,
    others: impl Iterator<Item = (&'a String, &'a BTreeSet<Port>)>,
) -> Option<(&'a Port, &'a String)> {
    let mut by_number: BTreeMap<(Proto, u16), Vec<(&Port, &String)>> = BTreeMap::new();
    for (owner, ports) in others {
        for port in ports {
            by_number.entry((port.proto, port.port)).or_default().push((port, owner));
        }
    }
    wanted.iter().find_map(|port| {
        let near = by_number.get(&(port.proto, port.port))?;
        near.iter().find(|(other, _)| port.meets(other)).map(|(_, owner)| (port, *owner))
    })
}

/// Writes the record only if it differs.
fn set(record: &mut Record<Owners>, owner: &str, ports: BTreeSet<Port>) -> Result<(), RecordError> {
    if record.content().get(owner).map_or(ports.is_empty(), |has| *has == ports) {
        return Ok(());
    }
    match ports.is_empty() {
        true => record.content_mut().remove(owner),
        false => record.content_mut().insert(owner.to_owned(), ports),
    };
    record.write()
}

impl Claim {
    /// The kernel has the ports.
    pub fn keep(mut self) -> Result<(), RecordError> {
        let Some(instance) = self.instance.take() else { return Ok(()) };
        set(&mut record::open(&instance, FILE)?, &self.owner, std::mem::take(&mut self.wanted))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(instance) = self.instance.take() else { return };
        let restored = record::open(&instance, FILE)
            .and_then(|mut record| set(&mut record, &self.owner, std::mem::take(&mut self.had)));
        if let Err(e) = restored {
            tracing::warn!("ports stay reserved for '{}': {}", self.owner, error_text(&e));
        }
    }
}

/// Removes a record that is empty.
pub fn forget(instance: &Instance) {
    if let Ok(record) = record::open::<Owners>(instance, FILE)
        && record.content().is_empty()
    {
        record.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(all: &[(Proto, u16, &str)]) -> BTreeSet<Port> {
        let port = |(proto, port, address): &(Proto, u16, &str)| Port {
            proto: *proto,
            port: *port,
            address: address.parse().unwrap(),
        };
        all.iter().map(port).collect()
    }

    #[test]
    fn one_port_has_one_owner() {
        let ann = "nagaya-1000".to_owned();
        let has = ports(&[(Proto::Tcp, 80, "0.0.0.0"), (Proto::Tcp, 443, "203.0.113.1")]);
        let is_taken = |proto, port, address: &str| {
            taken(&ports(&[(proto, port, address)]), std::iter::once((&ann, &has))).is_some()
        };
        assert!(is_taken(Proto::Tcp, 80, "0.0.0.0") && is_taken(Proto::Tcp, 80, "203.0.113.9"));
        assert!(is_taken(Proto::Tcp, 443, "203.0.113.1") && is_taken(Proto::Tcp, 443, "0.0.0.0"));
        assert!(!is_taken(Proto::Tcp, 443, "203.0.113.2") && !is_taken(Proto::Udp, 80, "0.0.0.0"));
        assert!(!is_taken(Proto::Tcp, 80, "::") && !is_taken(Proto::Tcp, 81, "0.0.0.0"));
    }

    #[test]
    fn a_record_of_version_0_1_0_is_as_it_was() {
        let all: Owners = record::released("ports.toml");
        let (own, ann) = (&all["released"], &all["released-1000"]);
        assert_eq!((own.len(), own.iter().filter(|port| port.proto == Proto::Udp).count()), (13, 11));
        assert_eq!(*ann, ports(&[(Proto::Tcp, 8081, "0.0.0.0"), (Proto::Tcp, 8081, "::")]));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let all = Owners::from([("nagaya-1000".to_owned(), ports(&[(Proto::Udp, 53, "2001:db8::1")]))]);
        let text = toml::to_string(&all).unwrap();
        assert_eq!(toml::from_str::<Owners>(&text).unwrap(), all);
    }
}
