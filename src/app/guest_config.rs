//! From a container's row to what its monitor is told.

use std::net::IpAddr;

use super::error::AppResult;
use crate::model::config::{Config, value};
use crate::model::container::Container;
use crate::model::guest_file::{GuestFile, When};
use crate::model::limits::Rlimit;
use crate::model::network::Network;
use crate::model::template::{InitKind, TemplateFacts};
use crate::render::guest_files;
use crate::runtime::config::MonitorConfig;
use crate::sys::{SysResult, pasta, seccomp};

/// The monitor's configuration for a start, or for taking over init `adopt`. `networks` are those that
/// its interfaces are on, in their order; `private` says that what leaves them goes through pasta.
pub fn build(
    container: &Container,
    facts: &TemplateFacts,
    rlimits: &[Rlimit],
    adopt: Option<i32>,
    networks: &[Network],
    private: bool,
) -> AppResult<MonitorConfig> {
    let domain = networks.iter().find_map(|network| network.domain.as_deref());
    Ok(MonitorConfig {
        name: container.name.clone(),
        uuid: container.uuid.clone(),
        init: vec!["/sbin/init".to_owned()],
        init_kind: facts.init,
        env: environment(container, facts),
        seccomp: MonitorConfig::hex(&filter(&container.config)?),
        files: files(container, facts, &resolvers(networks, private), domain),
        nics: container.nics.clone(),
        rlimits: rlimits.to_vec(),
        adopt,
    })
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
    env.retain(|(name, _)| container.config.environment().all(|(own, _)| own != *name));
    env.extend(container.config.environment());
    env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn files(
    container: &Container,
    facts: &TemplateFacts,
    resolvers: &[IpAddr],
    domain: Option<&str>,
) -> Vec<GuestFile> {
    let mut files =
        guest_files::guest_files(facts.network, &container.name, &container.nics, resolvers, domain);
    // The machine's identity is the container's, never that of the machine the template was.
    files.push(GuestFile {
        path: "/etc/machine-id".to_owned(),
        content: format!("{}\n", container.uuid),
        mode: 0o444,
        when: When::Always,
    });
    files
}

/// The first network's own, where it answers for names; else the host's.
fn resolvers(networks: &[Network], private: bool) -> Vec<IpAddr> {
    let answering = networks.iter().find(|network| network.domain.is_some());
    if let Some(network) = answering {
        let gateways = [network.gateway4().map(IpAddr::V4), network.gateway6().map(IpAddr::V6)];
        return gateways.into_iter().flatten().collect();
    }
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let resolved = std::fs::read_to_string("/run/systemd/resolve/resolv.conf").ok();
    let found = guest_files::resolvers(&own, resolved.as_deref());
    // The host's own are on its loopback, where only pasta reaches them.
    if found.is_empty() && private { vec![pasta::RESOLVER.into()] } else { found }
}
