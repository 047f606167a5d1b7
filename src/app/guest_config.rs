//! From a container's row to what its monitor is told.

use std::net::IpAddr;

use super::error::AppResult;
use crate::model::container::Container;
use crate::model::guest_file::{GuestFile, When};
use crate::model::lan::Lease;
use crate::model::limits::Rlimit;
use crate::model::nic::{Nic, NicKind, NicSettings};
use crate::model::template::{InitKind, TemplateFacts};
use crate::render::guest_files;
use crate::runtime::config::MonitorConfig;
use crate::sys::{pasta, seccomp};

/// The monitor's configuration for a start, or for taking over init `adopt`. `private` says that
/// what leaves the guest's network goes through pasta.
pub fn build(
    container: &Container,
    facts: &TemplateFacts,
    rlimits: &[Rlimit],
    adopt: Option<i32>,
    private: bool,
) -> AppResult<MonitorConfig> {
    Ok(MonitorConfig {
        name: container.name.clone(),
        uuid: container.uuid.clone(),
        init: vec!["/sbin/init".to_owned()],
        init_kind: facts.init,
        env: environment(container, facts),
        seccomp: MonitorConfig::hex(&seccomp::default_filter()?),
        files: files(container, facts, &resolvers(private)),
        lease: container.lease.clone(),
        rlimits: rlimits.to_vec(),
        adopt,
    })
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
    env.retain(|(name, _)| container.config.environment().all(|(own, _)| own != *name));
    env.extend(container.config.environment());
    env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn files(container: &Container, facts: &TemplateFacts, resolvers: &[IpAddr]) -> Vec<GuestFile> {
    let mut files = match &container.lease {
        Some(lease) => {
            guest_files::guest_files(facts.network, &container.name, &[nic(lease)], resolvers, None)
        }
        None => Vec::new(),
    };
    // The machine's identity is the container's, never that of the machine the template was.
    files.push(GuestFile {
        path: "/etc/machine-id".to_owned(),
        content: format!("{}\n", container.uuid),
        mode: 0o444,
        when: When::Always,
    });
    files
}

/// The interface that a lease is of.
fn nic(lease: &Lease) -> Nic {
    Nic {
        device: "eth0".to_owned(),
        name: "eth0".to_owned(),
        slot: 0,
        kind: NicKind::Bridged { network: lease.bridge.clone() },
        mac: lease.mac,
        ipv4: Some(lease.ipv4),
        gateway4: Some(lease.gateway),
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    }
}

fn resolvers(private: bool) -> Vec<IpAddr> {
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolved = std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
    let found = guest_files::resolvers(&own, resolved.as_deref());
    // The host's own are on its loopback, where only pasta reaches them.
    if found.is_empty() && private { vec![pasta::RESOLVER.into()] } else { found }
}
