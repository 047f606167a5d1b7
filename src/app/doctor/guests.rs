//! Whether running guests are connected, and whether their packets fit the uplink.

use std::path::Path;

use super::check::{Check, chain, read};
use crate::app::containers::attached;
use crate::app::containers::attached::Attached;
use crate::model::instance::Instance;
use crate::sys::cgroup;
use crate::sys::cgroup::home::Home;
use crate::sys::net::netlink::Netlink;

const AREA: &str = "network";

pub fn checks(instance: &Instance) -> Vec<Check> {
    let netlink = Netlink::open().map_err(|error| chain(&error));
    let uplink = netlink.and_then(|netlink| netlink.uplink_mtu().map_err(|error| chain(&error)));
    vec![links(&cut_off(instance)), mtu(uplink, &bridges(instance))]
}

/// The guests that are cut off from the host, a sentence for each.
fn cut_off(instance: &Instance) -> Result<Vec<String>, String> {
    let Ok(home) = Home::find(instance) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for id in home.containers() {
        if !cgroup::populated(&home.container_dir(&id).join("payload")) {
            continue;
        }
        let Some(started) = Attached::read(instance, &id) else { continue };
        let faults = attached::cut_off(instance, &id, &started.nics).map_err(|error| chain(&error))?;
        found.extend(faults.into_iter().map(|fault| format!("'{}': {fault}", started.container)));
    }
    found.sort();
    Ok(found)
}

fn links(cut_off: &Result<Vec<String>, String>) -> Check {
    const NAME: &str = "guests' links";
    match cut_off {
        Err(why) => Check::degraded(AREA, NAME, why, "ip -d link"),
        Ok(all) if all.is_empty() => Check::ok(AREA, NAME, "all that run are connected"),
        Ok(all) => {
            let more = if all.len() > 1 { format!(", and {} more", all.len() - 1) } else { String::new() };
            Check::degraded(AREA, NAME, format!("{}{more}", all[0]), "nagaya network repair")
        }
    }
}

/// The bridges of this owner's networks, with the networks' names and the bridges' MTUs.
fn bridges(instance: &Instance) -> Vec<(String, u32)> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let network = |path: &Path| -> Option<(String, u32)> {
        let alias = read(&path.join("ifalias").to_string_lossy())?;
        let name = alias.strip_prefix("nagaya: network ")?.split(' ').next()?;
        let is_own = alias == instance.bridge_alias(name);
        let mtu = read(&path.join("mtu").to_string_lossy())?.parse().ok()?;
        is_own.then(|| (name.to_owned(), mtu))
    };
    let mut found: Vec<_> = entries.filter_map(|entry| network(&entry.path())).collect();
    found.sort();
    found
}

/// A packet that is too large for the uplink is answered by ICMP, which routers on the way often drop.
fn mtu(uplink: Result<Option<(String, u32)>, String>, bridges: &[(String, u32)]) -> Check {
    const NAME: &str = "MTU of networks";
    match uplink {
        Err(why) => Check::degraded(AREA, NAME, why, "ip route show default"),
        Ok(None) => Check::ok(AREA, NAME, "the host has no uplink"),
        Ok(Some((uplink, most))) => match bridges.iter().find(|(_, mtu)| *mtu > most) {
            None => Check::ok(AREA, NAME, format!("none is above that of {uplink}, {most}")),
            Some((network, mtu)) => Check::degraded(
                AREA,
                NAME,
                format!(
                    "network '{network}' has {mtu}, the uplink {uplink} {most}: connections of guests may hang"
                ),
                format!("nagaya network set {network} mtu={most}"),
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_network_whose_packets_are_too_large_is_named() {
        let up = |most| Ok(Some(("eth0".to_owned(), most)));
        let bridges = [("dmz".to_owned(), 1400), ("nagaya0".to_owned(), 1500)];
        assert_eq!(mtu(up(1500), &bridges).status, Status::Ok);
        assert_eq!(mtu(Ok(None), &bridges).status, Status::Ok);
        let found = mtu(up(1400), &bridges);
        assert_eq!(found.fix.as_deref(), Some("nagaya network set nagaya0 mtu=1400"), "{found:?}");
    }

    #[test]
    fn the_first_guest_that_is_cut_off_is_named_and_the_rest_counted() {
        assert_eq!(links(&Ok(Vec::new())).status, Status::Ok);
        let found = links(&Ok(vec!["'web': its link is down".into(), "'db': its link is down".into()]));
        assert_eq!(found.detail, "'web': its link is down, and 1 more");
    }
}
