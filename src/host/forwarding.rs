//! That the host forwards: switched on for guests, for all of the kernel. Where it was off, the host
//! must not become a router between the networks that it was on before.

use std::path::Path;

use crate::model::instance::ALIAS;
use crate::render::nft::forwarding as rules;
use crate::sys::nft::{Batch, NftError};
use crate::sys::sysctl::{self, SysctlError};

/// Why the host does not forward.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("cannot keep the host's own networks apart")]
    Nft(#[from] NftError),
}

/// Has the host forward IPv4 and, if that is wanted, IPv6. What is forwarded from an interface that was
/// there before to another one is dropped from then on, until the next boot; guests' interfaces and
/// those that somebody else adds are not among them.
pub fn enable(ipv6: bool) -> Result<(), ForwardingError> {
    let off = |v4| Ok::<bool, SysctlError>((v4 || ipv6) && !sysctl::forwards(v4)?);
    let families: Vec<bool> = match (off(true)?, off(false)?) {
        (false, false) => return Ok(()),
        (v4, v6) => [(true, v4), (false, v6)].into_iter().filter(|(_, off)| *off).map(|(v4, _)| v4).collect(),
    };
    // First the rules, then what makes them necessary.
    let mut batch = Batch::new();
    batch.add(&rules::table(&interfaces_of_others(), &families));
    batch.commit()?;
    sysctl::enable_forwarding(ipv6)?;
    Ok(())
}

/// All but those that say by their alias that they are nagaya's. They are named by the kernel and not by
/// /sys, which may be that of another network namespace.
fn interfaces_of_others() -> Vec<String> {
    let all = nix::net::if_::if_nameindex();
    let names = all.iter().flat_map(|all| all.iter()).filter_map(|one| one.name().to_str().ok());
    let others = names.filter(|name| {
        let alias = Path::new("/sys/class/net").join(name).join("ifalias");
        *name != "lo" && !std::fs::read_to_string(alias).unwrap_or_default().starts_with(ALIAS)
    });
    others.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns_fixture::{Netns, in_new_netns, pings, run};
    use std::os::fd::{AsFd, AsRawFd};

    /// A machine beyond `name`, in whose subnet the host has the first address.
    fn beyond(name: &str, subnet: &str) -> Netns {
        let machine = Netns::new();
        let (pid, fd) = (std::process::id(), machine.as_fd().as_raw_fd());
        run("ip", &format!("link add {name} type veth peer name eth0"));
        run("ip", &format!("link set eth0 netns /proc/{pid}/fd/{fd}"));
        run("ip", &format!("address add {subnet}.1/24 dev {name}"));
        run("ip", &format!("link set {name} up"));
        machine.run(|| {
            run("ip", "link set lo up");
            run("ip", &format!("address add {subnet}.2/24 dev eth0"));
            run("ip", "link set eth0 up");
            run("ip", &format!("route add default via {subnet}.1"));
        });
        machine
    }

    #[test]
    fn the_hosts_own_networks_stay_apart() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            let (inner, _outer) = (beyond("inner0", "10.1.0"), beyond("outer0", "10.2.0"));
            enable(false).unwrap();
            // Whoever comes later, as guests do, is let through to either side.
            let later = beyond("later0", "10.3.0");
            assert!(later.run(|| pings("10.1.0.2") && pings("10.2.0.2")));
            assert!(inner.run(|| pings("10.2.0.1") && !pings("10.2.0.2")));
            assert!(inner.run(|| pings("10.3.0.2")));
            let before = run("nft", "list ruleset");
            enable(false).unwrap();
            assert_eq!(run("nft", "list ruleset"), before);
            assert!(!before.contains("ipv6"), "{before}");
            enable(true).unwrap();
            assert!(run("nft", "list ruleset").contains("ipv6"));
        });
    }

    #[test]
    fn a_host_that_forwards_already_is_left_alone() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            enable(false).unwrap();
            assert_eq!(run("nft", "list ruleset"), "");
        });
    }
}
