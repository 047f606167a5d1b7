//! The chains of nftables, asked of the kernel itself: cheap enough to look for strangers' before
//! every start.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::{Context, SysResult};

/// Where in a packet's way a chain stands, as far as it matters here (NF_INET_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Input,
    Forward,
    Other,
}

/// A chain of this network namespace, whoever's it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `ip`, `ip6`, `inet`, …
    pub family: &'static str,
    pub table: String,
    pub name: String,
    /// None of a chain that others jump to.
    pub hook: Option<Hook>,
    /// What no rule decides is dropped.
    pub drops: bool,
}

/// All chains. Needs CAP_NET_ADMIN.
pub fn list() -> SysResult<Vec<Chain>> {
    ask().cannot(|| "list the chains of nftables")
}

fn ask() -> io::Result<Vec<Chain>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    // Connected to the kernel, it takes messages from no one else.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&wire::get_chains(), 0)?;
    let mut chains = Vec::new();
    loop {
        // A dump comes in datagrams of at most 32 KiB (NLMSG_GOODSIZE and what readers offer).
        let mut datagram = Vec::with_capacity(64 << 10);
        socket.recv(&mut datagram, 0)?;
        if wire::read(&datagram, &mut chains)? {
            return Ok(chains);
        }
    }
}

/// The bytes, as linux/netfilter/nfnetlink.h and nf_tables.h lay them out.
mod wire {
    use std::io;

    use super::{Chain, Hook};

    const HEADER: usize = 16;
    /// Header of the message and of nfnetlink.
    const HEADERS: usize = HEADER + 4;
    const NLMSG_ERROR: u16 = 2;
    const NLMSG_DONE: u16 = 3;
    const NEW_CHAIN: u16 = 10 << 8 | 3;
    const GET_CHAIN: u16 = 10 << 8 | 4;
    const REQUEST_DUMP: u16 = 0x301;
    const CHAIN_TABLE: u16 = 1;
    const CHAIN_NAME: u16 = 3;
    const CHAIN_HOOK: u16 = 4;
    const CHAIN_POLICY: u16 = 5;
    const HOOK_NUMBER: u16 = 1;
    /// Without the bits that say "nested" and "network byte order".
    const TYPE_MASK: u16 = 0x3fff;
    const DROP: u32 = 0;

    pub fn get_chains() -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADERS);
        bytes.extend((HEADERS as u32).to_ne_bytes());
        bytes.extend(GET_CHAIN.to_ne_bytes());
        bytes.extend(REQUEST_DUMP.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0; 4]);
        bytes
    }

    /// Takes in one datagram. Whether it was the last.
    pub fn read(mut datagram: &[u8], chains: &mut Vec<Chain>) -> io::Result<bool> {
        while !datagram.is_empty() {
            let length = u32_at(datagram, 0)? as usize;
            let message = datagram.get(..length.max(HEADER)).ok_or_else(cut_short)?;
            match u16_at(message, 4)? {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => match (u32_at(message, HEADER)? as i32).wrapping_neg() {
                    0 => return Ok(true),
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                },
                NEW_CHAIN => chains.push(chain(message)?),
                _ => {}
            }
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }

    fn chain(message: &[u8]) -> io::Result<Chain> {
        let family = match message.get(HEADER).ok_or_else(cut_short)? {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "other",
        };
        let mut chain = Chain { family, table: String::new(), name: String::new(), hook: None, drops: false };
        let attributes = message.get(HEADERS..).ok_or_else(cut_short)?;
        each(attributes, |kind, value| {
            match kind {
                CHAIN_TABLE => chain.table = text(value),
                CHAIN_NAME => chain.name = text(value),
                CHAIN_HOOK => each(value, |kind, value| {
                    if kind == HOOK_NUMBER {
                        chain.hook = Some(match be32(value)? {
                            1 => Hook::Input,
                            2 => Hook::Forward,
                            _ => Hook::Other,
                        });
                    }
                    Ok(())
                })?,
                CHAIN_POLICY => chain.drops = be32(value)? == DROP,
                _ => {}
            }
            Ok(())
        })?;
        Ok(chain)
    }

    fn each(mut rest: &[u8], mut with: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        while !rest.is_empty() {
            let length = usize::from(u16_at(rest, 0)?);
            let value = rest.get(4..length).ok_or_else(cut_short)?;
            with(u16_at(rest, 2)? & TYPE_MASK, value)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn text(value: &[u8]) -> String {
        String::from_utf8_lossy(value.strip_suffix(b"\0").unwrap_or(value)).into_owned()
    }

    fn be32(value: &[u8]) -> io::Result<u32> {
        value.try_into().map(u32::from_be_bytes).map_err(|_| cut_short())
    }

    fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
        let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
        two.map(u16::from_ne_bytes).ok_or_else(cut_short)
    }

    fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(u32::from_ne_bytes).ok_or_else(cut_short)
    }

    fn cut_short() -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, "an answer that is cut short")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{in_new_netns, run};

    #[test]
    fn chains_are_listed_as_nft_made_them() {
        in_new_netns(|| {
            assert_eq!(list().unwrap(), []);
            run("nft", "add table inet mine");
            run("nft", "add chain inet mine way { type filter hook forward priority 0 ; policy drop ; }");
            run("nft", "add chain inet mine in { type filter hook input priority 0 ; }");
            run("nft", "add chain inet mine plain");
            let found = list().unwrap();
            let of = |name: &str| found.iter().find(|chain| chain.name == name).unwrap();
            let chain = |name: &str, hook, drops| Chain {
                family: "inet",
                table: "mine".into(),
                name: name.into(),
                hook,
                drops,
            };
            assert_eq!(*of("way"), chain("way", Some(Hook::Forward), true));
            assert_eq!(*of("in"), chain("in", Some(Hook::Input), false));
            assert_eq!(*of("plain"), chain("plain", None, false));
            // More than one datagram.
            for table in 0..40 {
                let chains: String = (0..50).map(|n| format!("chain c{n} {{ }}; ")).collect();
                run("nft", &format!("add table ip t{table} {{ {chains} }}"));
            }
            let start = std::time::Instant::now();
            assert_eq!(list().unwrap().len(), 3 + 40 * 50);
            println!("2003 chains: {:?}", start.elapsed());
        });
    }

    #[test]
    fn a_damaged_answer_is_an_error() {
        assert!(wire::read(&[1, 0, 0], &mut Vec::new()).is_err());
        let mut header = vec![0u8; 16];
        header[0] = 200;
        assert!(wire::read(&header, &mut Vec::new()).is_err());
    }
}
