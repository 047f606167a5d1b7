//! Which program listens where, as /proc says, for errors that name the program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::process;

/// A transport whose ports are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// A socket that waits at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub transport: Transport,
    pub address: IpAddr,
    pub port: u16,
    /// Its process, where that can be found: number and name.
    pub process: Option<(i32, String)>,
}

/// A socket of this thread's network namespace that occupies `port` of one of `addresses`: it is bound to
/// that address or to all.
pub fn listener(transport: Transport, port: u16, addresses: &[IpAddr]) -> Option<Listener> {
    let files = match transport {
        Transport::Udp => ["udp", "udp6"],
        Transport::Tcp => ["tcp", "tcp6"],
    };
    files.iter().find_map(|file| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
        let (address, inode) = rows(&text, transport)
            .filter(|row| row.port == port)
            .find(|row| row.address.is_unspecified() || addresses.contains(&row.address))
            .map(|row| (row.address, row.inode))?;
        Some(Listener { transport, address, port, process: holder(inode) })
    })
}

/// The addresses of this thread's network namespace; none where they cannot be listed.
pub fn own_addresses() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|own| own.address);
    let ip = |address: nix::sys::socket::SockaddrStorage| match address.as_sockaddr_in() {
        Some(v4) => Some(IpAddr::V4(v4.ip())),
        None => address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())),
    };
    all.filter_map(ip).collect()
}

struct Row {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// proc_net_udp(5): local address and port in the second column, state in the fourth, inode in the
/// tenth.
fn rows(text: &str, transport: Transport) -> impl Iterator<Item = Row> + '_ {
    const TCP_LISTEN: &str = "0A";
    text.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if transport == Transport::Tcp && *words.get(3)? != TCP_LISTEN {
            return None;
        }
        let (address, port) = words.get(1)?.split_once(':')?;
        Some(Row {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: words.get(9)?.parse().ok()?,
        })
    })
}

/// Words of 32 bits in the machine's order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |n: usize| u32::from_str_radix(hex.get(8 * n..8 * n + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn holder(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |pid: &i32| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .any(|link| link.as_os_str() == &*wanted)
    };
    // A child that has not yet closed what it was born with is not the one to name.
    let pid = process::all().filter(has_it).min_by_key(|pid| process::started(*pid).unwrap_or(u64::MAX))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some((pid, name.trim().escape_default().to_string()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    #[test]
    fn a_holder_is_found_by_address_and_by_none() {
        in_new_netns(|| {
            run("ip", "link set lo up");
            run("ip", "addr add 192.0.2.1/24 dev lo");
            let here: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()];
            assert_eq!(listener(Transport::Udp, 5353, &here), None);
            let one = UdpSocket::bind("192.0.2.1:5353").unwrap();
            let found = listener(Transport::Udp, 5353, &here).unwrap();
            assert_eq!(found.address, here[0]);
            assert_eq!(found.process.unwrap().0, std::process::id() as i32);
            assert_eq!(listener(Transport::Udp, 5353, &here[1..]), None);
            assert_eq!(listener(Transport::Tcp, 5353, &here), None);
            drop(one);
            let _all = TcpListener::bind("[::]:5353").unwrap();
            let found = listener(Transport::Tcp, 5353, &here[..1]).unwrap();
            assert!(found.address.is_unspecified() && found.address.is_ipv6());
        });
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        let text = "  sl  local_address\n\n 1: XX:0035 0 07 0 0 0 0 0 1\n \
                    2: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 4711 2\n";
        let found: Vec<_> =
            rows(text, Transport::Udp).map(|row| (row.address, row.port, row.inode)).collect();
        assert_eq!(found, [(IpAddr::V4(Ipv4Addr::LOCALHOST), 53, 4711)]);
    }
}
