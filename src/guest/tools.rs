//! Which of a tree's own tools set up its network and look up names. Asked of a template when it is
//! imported, and of a guest at each of its boots, from inside: guests install and remove tools.

use rustix::io::Errno;

use crate::model::guest_tools::{GuestTools, Resolved};
use crate::model::template::{InitKind, NetworkStyle};
use crate::sys::fs::rooted::Rooted;

/// Looks at a guest. What cannot be looked at is not there.
pub fn look(tree: &Rooted<'_>, init: InitKind) -> GuestTools {
    let has = |path: &str| tree.is_regular_file(path).unwrap_or(false);
    let is_systemd = init == InitKind::Systemd;
    let has_resolved =
        is_systemd && (has("usr/lib/systemd/systemd-resolved") || has("lib/systemd/systemd-resolved"));
    let resolved = match has_resolved {
        false => Resolved::Absent,
        true if is_wanted(tree, "systemd-resolved.service").unwrap_or(false) => Resolved::Enabled,
        true => Resolved::Idle,
    };
    GuestTools {
        network: network_style(tree, init).unwrap_or(NetworkStyle::None),
        resolved,
        has_resolvconf: tree.is_directory("etc/resolvconf/resolv.conf.d").unwrap_or(false),
        is_interfaces_d_free: tree.names("etc/network/interfaces.d").is_ok_and(|names| names.is_empty()),
    }
}

/// In the order in which they would have the last word, were several there: netplan writes files for
/// the others; networkd is the administrator's choice where it is enabled; ifupdown makes
/// NetworkManager leave its interfaces alone, as do the network scripts.
pub fn network_style(tree: &Rooted<'_>, init: InitKind) -> Result<NetworkStyle, Errno> {
    let has = |path: &str| tree.is_regular_file(path);
    let has_any =
        |paths: &[&str]| paths.iter().try_fold(false, |found, path| Ok::<_, Errno>(found || has(path)?));
    let is_systemd = init == InitKind::Systemd;
    let has_networkd =
        is_systemd && has_any(&["lib/systemd/systemd-networkd", "usr/lib/systemd/systemd-networkd"])?;
    let has_manager = has_any(&["usr/sbin/NetworkManager", "usr/bin/NetworkManager"])?;
    if is_systemd
        && (has_networkd || has_manager)
        && has_any(&["usr/sbin/netplan", "usr/bin/netplan", "sbin/netplan"])?
        && tree.has_entry(b"etc", "netplan")?
    {
        return Ok(NetworkStyle::Netplan);
    }
    if has_networkd
        && (is_wanted(tree, "systemd-networkd.service")? || is_wanted(tree, "systemd-networkd.socket")?)
    {
        return Ok(NetworkStyle::Networkd);
    }
    let has_ifup = has_any(&["sbin/ifup", "usr/sbin/ifup"])?;
    if has_ifup && has("etc/alpine-release")? {
        return Ok(NetworkStyle::Alpine);
    }
    if has_ifup && has("etc/network/interfaces")? {
        return Ok(NetworkStyle::Ifupdown);
    }
    if has("etc/sysconfig/network-scripts/ifup-eth")?
        && has_any(&["etc/rc.d/init.d/network", "etc/init.d/network"])?
    {
        return Ok(NetworkStyle::Ifcfg);
    }
    if is_systemd && has_manager && is_wanted(tree, "NetworkManager.service")? {
        return Ok(NetworkStyle::NetworkManager);
    }
    Ok(NetworkStyle::None)
}

/// Whether systemd starts the unit at boot: it is enabled for some target, by the administrator or by
/// the distribution, and not masked.
fn is_wanted(tree: &Rooted<'_>, unit: &str) -> Result<bool, Errno> {
    const UNITS: &str = "etc/systemd/system";
    const TARGETS: [&str; 4] = ["multi-user", "sysinit", "network", "sockets"];
    if tree.link_target(UNITS, unit)?.is_some_and(|target| target == b"/dev/null") {
        return Ok(false);
    }
    for name in tree.names(UNITS)? {
        if name.ends_with(b".wants") || name.ends_with(b".requires") {
            let directory = [UNITS.as_bytes(), b"/", &name[..]].concat();
            if tree.has_entry(&directory, unit)? {
                return Ok(true);
            }
        }
    }
    for target in TARGETS {
        let directory = format!("usr/lib/systemd/system/{target}.target.wants");
        if tree.has_entry(directory.as_bytes(), unit)? {
            return Ok(true);
        }
    }
    Ok(false)
}
