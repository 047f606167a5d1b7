//! Forwarding by the host: it is switched on for guests, and then holds for the whole kernel. Where
//! forwarding was off, the host must not become a router between the networks that it was on before.

use std::path::Path;

use crate::model::fault::{Code, Facts, Fault};
use crate::model::instance::ALIAS;
use crate::render::nft::forwarding as rules;
use crate::render::nft::table::link_bytes;
use crate::sys::net::nft;
use crate::sys::net::nft::{Batch, NftError};
use crate::sys::net::sysctl;
use crate::sys::net::sysctl::SysctlError;

/// Why forwarding could not be switched on or off.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("cannot keep the host's own networks apart")]
    Nft(#[from] NftError),
}

impl Fault for ForwardingError {
    fn facts(&self) -> Facts {
        Facts::user(Code::SystemCall)
    }
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

/// Undoes [`enable`] once no owner has guests any more, and says so. It changes nothing if an interface
/// came later, such as another program's bridge: that one may need forwarding, and a host that forwards
/// needs the rules.
pub fn disable() -> Result<Option<String>, ForwardingError> {
    let was_off: Vec<bool> = nft::sets(&rules::name())?
        .iter()
        .filter_map(|set| [true, false].into_iter().find(|v4| set.name == rules::before(*v4)))
        .collect();
    for v4 in &was_off {
        let before = nft::elements(&rules::name(), rules::before(*v4))?.unwrap_or_default();
        let is_new = |link: &String| !before.iter().any(|one| one.key == link_bytes(link));
        if interfaces().iter().any(is_new) {
            return Ok(None);
        }
    }
    if was_off.is_empty() {
        return Ok(None);
    }
    for v4 in &was_off {
        sysctl::disable_forwarding(*v4)?;
    }
    let mut batch = Batch::new();
    batch.remove(&rules::name());
    batch.commit()?;
    let families: Vec<&str> = was_off.iter().map(|v4| if *v4 { "IPv4" } else { "IPv6" }).collect();
    Ok(Some(format!("forwarding of {}, which was off before", families.join(" and "))))
}

/// All but the loopback one. They are named by the kernel and not by /sys, which may be that of another
/// network namespace.
fn interfaces() -> Vec<String> {
    let all = nix::net::if_::if_nameindex();
    let names = all.iter().flat_map(|all| all.iter()).filter_map(|one| one.name().to_str().ok());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// All but those that say by their alias that they are nagaya's.
fn interfaces_of_others() -> Vec<String> {
    let is_ours = |name: &String| {
        let alias = Path::new("/sys/class/net").join(name).join("ifalias");
        std::fs::read_to_string(alias).is_ok_and(|alias| alias.starts_with(ALIAS))
    };
    interfaces().into_iter().filter(|name| !is_ours(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::{Netns, in_new_netns, pings, run};
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

    /// With br_netfilter, which the kernel has or not, the frames of a bridge meet the rules of packets.
    #[test]
    fn the_machines_of_a_bridge_go_on_reaching_one_another() {
        in_new_netns(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            let (one, other) = (beyond("one0", "10.1.0"), beyond("other0", "10.2.0"));
            run("ip", "link add lan0 type bridge");
            run("ip", "link set lan0 up");
            for (link, machine, address) in [("one0", &one, "10.9.0.2"), ("other0", &other, "10.9.0.3")] {
                run("ip", &format!("link set {link} master lan0"));
                machine.run(|| run("ip", &format!("address add {address}/24 dev eth0")));
            }
            assert!(one.run(|| pings("10.9.0.3")));
            enable(false).unwrap();
            assert!(one.run(|| pings("10.9.0.3")));
        });
    }

    #[test]
    fn a_host_is_again_as_it_was_unless_somebody_else_came() {
        in_new_netns(|| {
            let forwards = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            let _inner = beyond("inner0", "10.1.0");
            assert_eq!(disable().unwrap(), None);
            enable(false).unwrap();
            run("ip", "link add other0 type bridge");
            assert_eq!(disable().unwrap(), None);
            assert!(forwards().trim() == "1" && run("nft", "list ruleset").contains("before_ipv4"));
            run("ip", "link delete other0");
            let told = disable().unwrap().unwrap();
            assert!(told.contains("IPv4") && !told.contains("IPv6"), "{told}");
            assert_eq!((forwards().trim(), run("nft", "list ruleset").as_str()), ("0", ""));
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            assert_eq!(disable().unwrap(), None);
            assert_eq!(forwards().trim(), "1");
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
