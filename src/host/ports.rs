//! Which of the host's ports lead to whose guests. Of two owners' forwards of one port the kernel takes
//! whichever it was told of last, so root's part keeps a record by which there are no two: also of
//! owners whose firewall is not in place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::record::{self, Record, RecordError};
use crate::model::firewall::plan::ForwardPlan;
use crate::model::firewall::policy::Proto;
use crate::model::instance::Instance;

const FILE: &str = "ports.toml";

/// Why a port is not to be had.
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
    /// The host's; `0.0.0.0` and `::` are any.
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

    /// Whether some packet is for both.
    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (self.address, other.address);
        (self.proto, self.port, a.is_ipv4()) == (other.proto, other.port, b.is_ipv4())
            && (a == b || a.is_unspecified() || b.is_unspecified())
    }
}

/// By the names of the owners' tables.
type Owners = BTreeMap<String, BTreeSet<Port>>;

/// An owner's ports, to be kept once the kernel has them. Until then the record is locked.
pub struct Claim {
    record: Option<Record<Owners>>,
    owner: String,
    wanted: BTreeSet<Port>,
}

/// All the forwards that an owner is to have.
///
/// # Errors
/// `Taken` where another owner has one of the ports.
pub fn claim(instance: &Instance, forwards: &[ForwardPlan]) -> Result<Claim, PortsError> {
    let (owner, wanted) = (instance.nft_table(), forwards.iter().map(Port::of).collect::<BTreeSet<_>>());
    // Whoever has a network to himself shares no ports.
    if instance.is_private() || (wanted.is_empty() && !record::exists(instance, FILE)) {
        return Ok(Claim { record: None, owner, wanted });
    }
    let record: Record<Owners> = record::open(instance, FILE)?;
    let others = record.content.iter().filter(|(other, _)| **other != owner);
    if let Some((port, owner)) = taken(&wanted, others) {
        return Err(PortsError::Taken { proto: port.proto, port: port.port, owner: owner.clone() });
    }
    Ok(Claim { record: Some(record), owner, wanted })
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

impl Claim {
    pub fn keep(self) -> Result<(), RecordError> {
        let Some(mut record) = self.record else { return Ok(()) };
        let had = record.content.remove(&self.owner).unwrap_or_default();
        if had == self.wanted {
            return Ok(());
        }
        if !self.wanted.is_empty() {
            record.content.insert(self.owner, self.wanted);
        }
        record.write()
    }
}

/// Removes a record that is empty.
pub fn forget(instance: &Instance) {
    if let Ok(record) = record::open::<Owners>(instance, FILE)
        && record.content.is_empty()
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
    fn a_record_is_read_as_it_was_written() {
        let all = Owners::from([("nagaya-1000".to_owned(), ports(&[(Proto::Udp, 53, "2001:db8::1")]))]);
        let text = toml::to_string(&all).unwrap();
        assert_eq!(toml::from_str::<Owners>(&text).unwrap(), all);
    }
}
