//! Addresses that are kept from containers altogether.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::address;
use crate::model::fault::{Code, Facts, Fault};
use crate::model::name::{ContainerId, Name};

/// An address or a subnet that containers neither hear from nor reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// What is blocked; a single address has its full prefix length.
    pub address: IpNetwork,
    /// None: kept from all containers.
    pub container: Option<Name>,
    /// Unix time in seconds; None: until it is taken back.
    pub until: Option<i64>,
    /// The operator's note, as [`check_reason`] allows it.
    pub reason: Option<String>,
    /// Unix time in seconds.
    pub created_at: i64,
}

/// What can be wrong with one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("{0}")]
    Address(String),
    #[error("'{0}' is everybody; a default of deny says that: nagaya firewall default CONTAINER in=deny")]
    Everybody(IpNetwork),
    #[error("a reason has 200 characters at most, none of them a control character")]
    Reason,
    #[error("line {line}: {source}")]
    Line { line: usize, source: Box<BlockError> },
}

impl Fault for BlockError {
    fn facts(&self) -> Facts {
        match self {
            Self::Line { source, .. } => source.facts(),
            Self::Reason => Facts::user(Code::InvalidValue),
            Self::Address(_) | Self::Everybody(_) => Facts::user(Code::InvalidAddress),
        }
    }
}

/// An address or a subnet.
pub fn parse(text: &str) -> Result<IpNetwork, BlockError> {
    let net = address::parse(text).map_err(BlockError::Address)?;
    if net.prefix() == 0 { Err(BlockError::Everybody(net)) } else { Ok(net) }
}

/// Without the prefix length where that says nothing.
pub fn text(net: IpNetwork) -> String {
    address::text(net)
}

/// A list with one address a line; `#` begins a comment.
pub fn parse_list(text: &str) -> Result<Vec<IpNetwork>, BlockError> {
    let meant = |(n, line): (usize, &str)| {
        let word = line.split('#').next().unwrap_or_default().trim();
        (!word.is_empty())
            .then(|| parse(word).map_err(|source| BlockError::Line { line: n + 1, source: Box::new(source) }))
    };
    text.lines().enumerate().filter_map(meant).collect()
}

/// Whether `text` may be a block's reason. Errors: it is too long or has control characters.
pub fn check_reason(text: &str) -> Result<(), BlockError> {
    let good = text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(BlockError::Reason) }
}

/// A block as the kernel is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelBlock {
    /// What is blocked.
    pub address: IpNetwork,
    /// The container's id as a number.
    pub container: Option<u32>,
    /// How long it holds from now on, in seconds; 0: until it is taken back.
    pub seconds: u64,
}

impl KernelBlock {
    /// The container that it is about; None: all.
    pub fn id(&self) -> Option<ContainerId> {
        self.container.map(ContainerId::from_random)
    }
}

/// Prefix byte, of which the highest bit says IPv6, then flags: 1, a container's id follows; 2, a
/// time follows. 6 bytes for an IPv4 address that holds for all and for good.
const V6: u16 = 0x100;
const WITH_CONTAINER: u8 = 1;
const WITH_TIME: u8 = 2;

/// Many blocks in few bytes, for the way to the broker.
pub fn encode(blocks: &[KernelBlock]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(blocks.len() * 8);
    for block in blocks {
        let flags = (u8::from(block.container.is_some()) * WITH_CONTAINER)
            | (u8::from(block.seconds > 0) * WITH_TIME);
        let family = if block.address.is_ipv4() { 0 } else { V6 };
        bytes.extend((family | u16::from(block.address.prefix())).to_be_bytes());
        bytes.push(flags);
        match block.address.network() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        if let Some(id) = block.container {
            bytes.extend(id.to_be_bytes());
        }
        if block.seconds > 0 {
            bytes.extend(block.seconds.to_be_bytes());
        }
    }
    bytes
}

/// None: these bytes are no list of blocks.
pub fn decode(mut bytes: &[u8]) -> Option<Vec<KernelBlock>> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (head, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*head)
    }
    let mut blocks = Vec::new();
    while !bytes.is_empty() {
        let kind = u16::from_be_bytes(take(&mut bytes)?);
        let [flags] = take(&mut bytes)?;
        let prefix = u8::try_from(kind & !V6).ok()?;
        let ip = match kind & V6 {
            0 => IpAddr::V4(Ipv4Addr::from(take::<4>(&mut bytes)?)),
            _ => IpAddr::V6(Ipv6Addr::from(take::<16>(&mut bytes)?)),
        };
        let address = IpNetwork::new(ip, prefix).ok()?;
        let container = match flags & WITH_CONTAINER {
            0 => None,
            _ => Some(u32::from_be_bytes(take(&mut bytes)?)),
        };
        let seconds = match flags & WITH_TIME {
            0 => 0,
            _ => u64::from_be_bytes(take(&mut bytes)?),
        };
        if address.network() != ip || prefix == 0 || flags > (WITH_CONTAINER | WITH_TIME) {
            return None;
        }
        blocks.push(KernelBlock { address, container, seconds });
    }
    Some(blocks)
}

/// What an address or subnet that is blocked has kept off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    /// What is blocked.
    pub address: IpNetwork,
    /// None: it is blocked for all containers.
    pub container: Option<ContainerId>,
    /// Packets that were dropped.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_slips_are_found() {
        let list = "# of the day\n192.0.2.1\n\n 198.51.100.0/24 # a whole office\n2001:db8::/32\n";
        let text: Vec<_> = parse_list(list).unwrap().iter().map(IpNetwork::to_string).collect();
        assert_eq!(text, ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]);
        assert!(parse_list("192.0.2.1\nx").unwrap_err().to_string().starts_with("line 2:"));
        assert!(matches!(parse("0.0.0.0/0"), Err(BlockError::Everybody(_))));
        assert!(parse("192.0.2.1/24").is_err());
        assert!(check_reason("a\nb").is_err() && check_reason("brute force").is_ok());
    }

    #[test]
    fn blocks_come_through_as_bytes() {
        let block = |text: &str, container, seconds| KernelBlock {
            address: text.parse().unwrap(),
            container,
            seconds,
        };
        let all = [
            block("192.0.2.1/32", None, 0),
            block("192.0.2.0/24", Some(0xab), 90),
            block("2001:db8::/32", None, 7200),
            block("2001:db8::1/128", Some(u32::MAX), 0),
        ];
        let bytes = encode(&all);
        assert_eq!(decode(&bytes).unwrap(), all);
        for cut in 1..bytes.len() {
            assert!(decode(&bytes[..cut]).is_none_or(|some| some.len() < all.len()), "{cut}");
        }
        for bad in [
            &[0, 33, 0, 1, 2, 3, 4][..],
            &[0, 24, 0, 1, 2, 3, 4],
            &[0, 0, 0, 0, 0, 0, 0],
            &[0, 32, 8, 1, 1, 1, 1],
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
