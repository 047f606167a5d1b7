//! From a container's row to what its monitor is told.

use std::net::IpAddr;

use crate::app::error::AppResult;
use crate::host::services::dns;
use crate::model::config::{Config, value};
use crate::model::container::Container;
use crate::model::guest_settings::GuestSettings;
use crate::model::instance::Instance;
use crate::model::limits::Rlimit;
use crate::model::name::Name;
use crate::model::network::Network;
use crate::model::nic::Nic;
use crate::model::template::{InitKind, TemplateFacts};
use crate::runtime::config::MonitorConfig;
use crate::sys::SysResult;
use crate::sys::net::host_resolvers;
use crate::sys::process::seccomp;
use crate::sys::programs::pasta;

/// The monitor's configuration for a start, or for taking over init `adopt`. `networks` are those that
/// its interfaces are on, in their order; `resolvers` whom it is to ask for names.
pub fn build(
    container: &Container,
    facts: &TemplateFacts,
    rlimits: &[Rlimit],
    adopt: Option<i32>,
    networks: &[Network],
    resolvers: Vec<IpAddr>,
) -> AppResult<MonitorConfig> {
    let config = container.config.expanded();
    Ok(MonitorConfig {
        name: container.name.clone(),
        uuid: container.uuid.clone(),
        init: vec!["/sbin/init".to_owned()],
        init_kind: facts.init,
        env: environment(container, facts),
        seccomp: MonitorConfig::hex(&filter(config)?),
        guest: GuestSettings {
            hostname: config.get("hostname").map(str::to_owned),
            resolvers,
            domain: networks.iter().find_map(|network| network.domain.clone()),
        },
        nics: nics(container, networks),
        mounts: Vec::new(),
        rlimits: rlimits.to_vec(),
        adopt,
    })
}

/// The interfaces with their MTU: their own or, if they have none, the network's.
fn nics(container: &Container, networks: &[Network]) -> Vec<Nic> {
    let mut nics = container.nics.clone();
    for nic in &mut nics {
        let network = networks.iter().find(|network| nic.network() == Some(&network.name));
        nic.settings.mtu = nic.settings.mtu.or(network.and_then(|network| network.mtu));
    }
    nics
}

/// The system call filter, compiled; empty where the owner wants none.
fn filter(config: &Config) -> SysResult<Vec<u8>> {
    let wanted = config.effective("security.syscalls.deny_default").ok().and_then(value::boolean);
    if wanted == Some(false) { Ok(Vec::new()) } else { seccomp::default_filter() }
}

/// What init finds in its environment, and nothing else: systemd's container interface. The
/// manager calls itself lxc, for OpenRC and many images know only that.
fn environment(container: &Container, facts: &TemplateFacts) -> Vec<(String, String)> {
    let mut env = vec![
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("container", "lxc"),
        ("container_uuid", &container.uuid),
        ("HOME", "/root"),
        ("TERM", "linux"),
    ];
    if facts.init == InitKind::Systemd {
        env.push(("NOTIFY_SOCKET", "/run/host/notify"));
    }
    // What the configuration sets comes in place of a variable of ours.
    let config = container.config.expanded();
    env.retain(|(name, _)| config.environment().all(|(own, _)| own != *name));
    env.extend(config.environment());
    env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A remark for the operator if a container cannot look up names, with what would help.
pub fn lack_of_resolvers(name: &Name, nics: &[Nic], resolvers: &[IpAddr]) -> Option<String> {
    // A guest that asks for its addresses gets its resolvers with them.
    let nic = nics.iter().find(|nic| !nic.settings.dhcp)?;
    if !resolvers.is_empty() {
        return None;
    }
    let help = match nic.network() {
        Some(_) => ": with dnsmasq on the host (package dnsmasq-base), networks ask those in guests' place",
        None => "",
    };
    Some(format!(
        "'{name}' has no resolver, for those of the host listen on its loopback alone, if there are any{help}"
    ))
}

/// The resolvers for a guest: the first network's own server, if it answers names; else the host's; and if
/// those listen on loopback alone, the server that asks them for guests.
pub fn resolvers(instance: &Instance, networks: &[Network]) -> Vec<IpAddr> {
    let answering = networks.iter().find(|network| network.domain.is_some());
    if let Some(network) = answering {
        return gateways(network);
    }
    let found = host_resolvers::usable();
    if !found.is_empty() {
        return found;
    }
    if instance.is_daemonless() {
        return vec![pasta::RESOLVER.into()];
    }
    networks.iter().find(|network| dns::is_wanted(instance, network)).map(gateways).unwrap_or_default()
}

/// The host's own addresses on a network.
pub fn gateways(network: &Network) -> Vec<IpAddr> {
    let both = [network.gateway4().map(IpAddr::V4), network.gateway6().map(IpAddr::V6)];
    both.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::netns_fixture::nic;

    #[test]
    fn a_container_without_resolvers_is_named_and_told_of_help() {
        let name = Name::new("web01").unwrap();
        assert_eq!(lack_of_resolvers(&name, &[], &[]), None);
        let mut nics = [nic("eth0", 1)];
        let note = lack_of_resolvers(&name, &nics, &[]).unwrap();
        assert!(note.starts_with("'web01' has no resolver"), "{note}");
        assert!(note.contains("package dnsmasq-base"), "{note}");
        assert_eq!(lack_of_resolvers(&name, &nics, &["192.0.2.1".parse().unwrap()]), None);
        nics[0].settings.dhcp = true;
        assert_eq!(lack_of_resolvers(&name, &nics, &[]), None);
    }
}
