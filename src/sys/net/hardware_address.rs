//! The Ethernet addresses of interfaces.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use sha2::{Digest, Sha256};

use crate::model::mac::Mac;

/// The address that a bridge of ours gets: on one host always the same one, so that guests which keep
/// their gateway's in mind, and rules which name it, are right about a bridge that was made anew.
pub fn of_new_bridge(name: &str) -> Mac {
    let host = std::fs::read("/etc/machine-id").unwrap_or_default();
    let digest = Sha256::new().chain_update(host).chain_update(name).finalize();
    let mut bytes = [0; 5];
    bytes.copy_from_slice(&digest[..5]);
    Mac::guest(bytes)
}

/// The address of the interface `link` in the calling thread's network namespace (SIOCGIFHWADDR);
/// None where there is no such interface. Asked of a socket, for sysfs shows the network namespace
/// in which it was mounted.
pub fn of(link: &str) -> Option<Mac> {
    if link.len() >= libc::IFNAMSIZ {
        return None;
    }
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    // SAFETY: an ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open, and the kernel reads and writes one ifreq at this address.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    if done != 0 {
        return None;
    }
    // SAFETY: the kernel has filled in the address, which is what this request asks for.
    let data = unsafe { request.ifr_ifru.ifru_hwaddr.sa_data };
    let mut bytes = [0; 6];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = from as u8;
    }
    Some(Mac(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    #[test]
    fn a_bridge_made_anew_has_the_same() {
        assert_eq!(of_new_bridge("b0"), of_new_bridge("b0"));
        assert_ne!(of_new_bridge("b0"), of_new_bridge("b1"));
    }

    #[test]
    fn it_is_that_of_the_own_namespaces_interface() {
        in_new_netns(|| {
            assert_eq!(of("b0"), None);
            run("ip", "link add b0 address 02:aa:00:00:00:01 type bridge");
            assert_eq!(of("b0"), Some(Mac([2, 0xaa, 0, 0, 0, 1])));
            assert_eq!(of("a-name-that-is-too-long"), None);
        });
    }
}
