//! Answers to guests' DHCP, DNS and router solicitations: a dnsmasq for each network that wants one.
//! It knows a guest by a file in its directory, which it reads by itself when that appears.

use std::collections::HashSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::bus::{self, BusError};
use super::systemd::{Service, Systemd};
use crate::host::broker::container_lock::{self, ContainerLock};
use crate::model::instance::Instance;
use crate::model::keys::KeyError;
use crate::model::network::Network;
pub use crate::render::dnsmasq::DnsLease;
use crate::render::dnsmasq::{self as render, Place};
use crate::sys::accounts::passwd;
use crate::sys::fs::atomic_file::{self, Lasting};
use crate::sys::net::host_resolvers;
use crate::sys::net::sockets::{self, Listener, Transport};
use crate::sys::process::child;
use crate::sys::programs::dnsmasq::{self, DnsmasqError};
use crate::sys::programs::pasta;
use crate::sys::{Context, SysError, SysResult};

/// Accounts that it may run as, in this order.
const ACCOUNTS: [&str; 2] = ["dnsmasq", "nobody"];
/// CAP_CHOWN, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE.
const CAPABILITIES: u64 = 1 | 1 << 6 | 1 << 7 | 1 << 10;
/// CAP_NET_ADMIN, CAP_NET_RAW.
const CAPABILITIES_OF_DHCP: u64 = 1 << 12 | 1 << 13;
const DNS: u16 = 53;
const DHCP: u16 = 67;
const DHCP6: u16 = 547;

/// Why a network's guests have no answers.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("network '{network}' cannot have this")]
    Key { network: String, source: KeyError },
    #[error("{address} is no address of a guest of network '{network}'")]
    Lease { network: String, address: IpAddr },
    #[error("{0}")]
    Guests(String),
    #[error("there is no bridge '{0}'")]
    NoBridge(String),
    #[error("there is neither a user 'dnsmasq' nor a user 'nobody' to run dnsmasq as")]
    NoAccount,
    #[error("{}", taken(.0))]
    Taken(Listener),
    #[error("cannot start dnsmasq for network '{network}'")]
    Start { network: String, source: DnsmasqError },
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Sys(#[from] SysError),
}

fn taken(listener: &Listener) -> String {
    let Listener { transport, address, port, process } = listener;
    let who = match process {
        Some((pid, name)) => format!("'{name}' (process {pid})"),
        None => "another program".to_owned(),
    };
    format!(
        "{who} has {} port {port} of {address}, at which guests would be answered: have it listen on the \
         host's other addresses only, or take dns.domain, ipv4.dhcp and ipv6.dhcp from the network",
        transport.as_str()
    )
}

/// Whether a server is to answer the network's guests: the network's settings say so, or the host's
/// resolvers listen on loopback alone and a server can ask them for the guests.
pub fn is_wanted(instance: &Instance, network: &Network) -> bool {
    network.wants_dnsmasq() || is_go_between(instance, network)
}

/// Whether a server is wanted only to ask the host's resolvers for the guests.
pub fn is_go_between(instance: &Instance, network: &Network) -> bool {
    let is_ours = !network.foreign && (network.ipv4.is_some() || network.ipv6.is_some());
    // A daemonless owner's guests reach the host's resolvers through pasta.
    !network.wants_dnsmasq()
        && is_ours
        && !instance.is_daemonless()
        && host_resolvers::are_kept_to_host()
        && dnsmasq::find().is_ok()
}

/// Makes sure that the network's server runs with this configuration and knows these guests and no
/// others. Whether it had to be started.
///
/// # Errors
/// `Taken` where another program has a port that it needs. The network works without it, and so do
/// its guests that have static addresses.
pub async fn ensure(instance: &Instance, network: &Network, leases: &[DnsLease]) -> Result<bool, DnsError> {
    let server = Server::of(instance, network)?;
    leases.iter().try_for_each(|lease| server.check(lease))?;
    check_distinct(leases)?;
    let _lock = server.made_and_locked()?;
    let change = server.write_guests(leases)?;
    let config = server.config()?;
    let stale = server.lease_file() != render::current_leases(&server.lease_file(), leases);
    let is_same = std::fs::read_to_string(server.path(render::CONFIG)).is_ok_and(|text| text == config);
    if let Some(process) = server.running().filter(|_| is_same && !stale) {
        if change == Change::Less {
            child::signal(&process, libc::SIGHUP)?;
        }
        return Ok(false);
    }
    server.stop().await?;
    server.write_leases(&render::current_leases(&server.lease_file(), leases))?;
    server.write(&server.path(render::CONFIG), &config)?;
    server.start().await?;
    Ok(true)
}

/// Two guests with the same address would get two files that say the same; two with the same Ethernet
/// address would get one file.
fn check_distinct(leases: &[DnsLease]) -> Result<(), DnsError> {
    let (mut macs, mut addresses) = (HashSet::new(), HashSet::new());
    for lease in leases {
        if !macs.insert(lease.mac) {
            return Err(DnsError::Guests(format!("two guests have the Ethernet address {}", lease.mac)));
        }
        let own = lease.ipv4.map(IpAddr::V4).into_iter().chain(lease.ipv6.map(IpAddr::V6));
        if let Some(ip) = own.into_iter().find(|ip| !addresses.insert(*ip)) {
            return Err(DnsError::Guests(format!("two guests have the address {ip}")));
        }
    }
    Ok(())
}

/// Ends the network's server, if there is one, and removes all that it had.
pub async fn stop(instance: &Instance, network: &Network) -> Result<(), DnsError> {
    let server = Server::of(instance, network)?;
    // The last server removes the directory of all servers.
    let sweep = || drop(server.dir.parent().map(std::fs::remove_dir));
    if !server.dir.is_dir() {
        // A broker that was killed may have left nothing but that directory.
        sweep();
        return Ok(());
    }
    let lock = server.lock()?;
    server.stop().await?;
    let what = || format!("remove {}", server.dir.display());
    match std::fs::remove_dir_all(&server.dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(SysError::new(what(), e).into()),
        _ => {}
    }
    sweep();
    drop(lock);
    Ok(())
}

/// Whether the network's server runs.
#[cfg(test)]
pub fn is_running(instance: &Instance, network: &Network) -> bool {
    Server::of(instance, network).is_ok_and(|server| server.running().is_some())
}

/// What has changed in the files that dnsmasq reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    None,
    More,
    /// Something is gone or replaced.
    Less,
}

/// The account that the server runs as.
struct Account {
    name: String,
    group: String,
    gid: u32,
}

/// One network's server.
struct Server<'a> {
    instance: Instance,
    network: &'a Network,
    dir: PathBuf,
    account: Account,
    resolvers: Vec<IpAddr>,
    /// Its systemd service, on a host with systemd.
    unit: Option<String>,
}

impl<'a> Server<'a> {
    /// The network is as a caller has described it: what would be read differently in a line of
    /// configuration, or as part of a path, is refused.
    fn of(instance: &Instance, network: &'a Network) -> Result<Self, DnsError> {
        let key = |source| DnsError::Key { network: network.name.clone(), source };
        network.check().map_err(key)?;
        if let Some(domain) = &network.domain {
            network.clone().set("dns.domain", domain).map_err(key)?;
        }
        let daemonless = instance.is_daemonless();
        let run = if daemonless { instance.run_dir() } else { instance.hostd_run_dir() };
        let has_systemd = !daemonless && Path::new("/run/systemd/system").is_dir();
        Ok(Self {
            instance: instance.clone(),
            network,
            dir: run.join("dns").join(&network.bridge),
            account: if daemonless { Account::root() } else { Account::find()? },
            resolvers: if daemonless { daemonless_resolvers() } else { Vec::new() },
            unit: has_systemd.then(|| format!("{}-dns-{}.service", instance.name(), network.bridge)),
        })
    }

    fn check(&self, lease: &DnsLease) -> Result<(), DnsError> {
        let wrong = |address| DnsError::Lease { network: self.network.name.clone(), address };
        match (lease.ipv4, lease.ipv6) {
            (Some(ip), _) if !self.network.is_guest_address4(ip) => Err(wrong(ip.into())),
            (_, Some(ip)) if !self.network.is_guest_address6(ip) => Err(wrong(ip.into())),
            (None, None) => Err(DnsError::Guests(format!("guest {} has no address", lease.mac))),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The configuration names the bridge's index: on a bridge that was made anew, dnsmasq would go on
    /// listening on the former one.
    fn config(&self) -> Result<String, DnsError> {
        let bridge = &self.network.bridge;
        let index =
            nix::net::if_::if_nametoindex(bridge.as_str()).map_err(|_| DnsError::NoBridge(bridge.clone()))?;
        let place = Place {
            dir: &self.dir.to_string_lossy(),
            user: &self.account.name,
            group: &self.account.group,
            resolvers: &self.resolvers,
        };
        Ok(format!("{}# the bridge's index: {index}\n", render::config(self.network, place)))
    }

    /// Only root and the server may look: others need not know what guests there are.
    fn make_dirs(&self) -> SysResult<()> {
        let what = || format!("make {}", self.dir.display());
        if let Some(parent) = self.dir.parent() {
            std::fs::create_dir_all(parent).cannot(what)?;
            rustix::fs::chmod(parent, Mode::from_raw_mode(0o755)).cannot(what)?;
        }
        for dir in [self.dir.clone(), self.path(render::HOSTS), self.path(render::DHCP)] {
            std::fs::create_dir_all(&dir).cannot(what)?;
            std::os::unix::fs::chown(&dir, None, Some(self.account.gid)).cannot(what)?;
            rustix::fs::chmod(&dir, Mode::from_raw_mode(0o750)).cannot(what)?;
        }
        Ok(())
    }

    /// One command at a time; waits for others. The lock is not in the server's directory: what guests
    /// speak to must hold nothing that the broker waits for.
    fn lock(&self) -> SysResult<ContainerLock> {
        container_lock::names(&self.instance, &self.network.bridge)
    }

    fn made_and_locked(&self) -> SysResult<ContainerLock> {
        let lock = self.lock()?;
        self.make_dirs()?;
        Ok(lock)
    }

    fn write_guests(&self, leases: &[DnsLease]) -> SysResult<Change> {
        let mut change = Change::None;
        let names: HashSet<OsString> = leases.iter().map(|lease| render::file_name(lease).into()).collect();
        for dir in [render::HOSTS, render::DHCP].map(|name| self.path(name)) {
            let entries = std::fs::read_dir(&dir).cannot(|| format!("read {}", dir.display()))?;
            for entry in entries.flatten() {
                if !names.contains(&entry.file_name()) {
                    remove_file(&entry.path())?;
                    change = Change::Less;
                }
            }
        }
        for lease in leases {
            change = change.max(self.write_guest(lease)?);
        }
        Ok(change)
    }

    fn write_guest(&self, lease: &DnsLease) -> SysResult<Change> {
        let name = render::file_name(lease);
        let hosts = render::hosts(lease, self.network.domain.as_deref());
        let mut change = Change::None;
        for (dir, text) in [(render::HOSTS, hosts), (render::DHCP, render::dhcp_host(lease))] {
            let path = self.path(dir).join(&name);
            match std::fs::read_to_string(&path) {
                Ok(there) if there == text => continue,
                Ok(_) => change = Change::Less,
                Err(_) => change = change.max(Change::More),
            }
            self.write(&path, &text)?;
        }
        Ok(change)
    }

    /// In one step, for dnsmasq reads a file as soon as it appears. It leaves names with a dot in
    /// front alone.
    fn write(&self, path: &Path, text: &str) -> SysResult<()> {
        atomic_file::replace(path, text, 0o644, Lasting::UntilPowerCut)
    }

    fn lease_file(&self) -> String {
        std::fs::read_to_string(self.path(render::LEASES)).unwrap_or_default()
    }

    fn write_leases(&self, text: &str) -> SysResult<()> {
        match text == self.lease_file() {
            true => Ok(()),
            false => self.write(&self.path(render::LEASES), text),
        }
    }

    /// Answering names takes fewer rights than giving addresses out.
    fn capabilities(&self) -> u64 {
        let gives_addresses = self.network.dhcp4 || self.network.dhcp6;
        CAPABILITIES | if gives_addresses { CAPABILITIES_OF_DHCP } else { 0 }
    }

    fn running(&self) -> Option<OwnedFd> {
        dnsmasq::running(&self.path(render::CONFIG), &self.path(render::PID))
    }

    async fn start(&self) -> Result<(), DnsError> {
        let program = dnsmasq::find();
        let started = match (program, &self.unit) {
            (Err(e), _) => Err(e.into()),
            (Ok(program), Some(unit)) => return self.start_service(unit, &program).await,
            (Ok(_), None) => {
                dnsmasq::start(&self.path(render::CONFIG), &self.path("said"), self.capabilities())
            }
        };
        started.map_err(|source| match (self.taken_port(), source) {
            (Some(listener), DnsmasqError::Ended(_)) => DnsError::Taken(listener),
            (_, source) => DnsError::Start { network: self.network.name.clone(), source },
        })
    }

    async fn start_service(&self, unit: &str, program: &Path) -> Result<(), DnsError> {
        let pid_file = self.path(render::PID).display().to_string();
        let description = format!("DHCP and DNS of network {}", self.network.name);
        let service = Service {
            unit,
            description: &description,
            program: &program.to_string_lossy(),
            arguments: dnsmasq::arguments(&self.path(render::CONFIG)),
            pid_file: &pid_file,
            dir: &self.dir.to_string_lossy(),
            capabilities: self.capabilities(),
        };
        let started = Systemd::connect(Path::new(bus::SYSTEM)).await?.start_service(&service).await;
        started.map_err(|e| self.taken_port().map_or(DnsError::Bus(e), DnsError::Taken))
    }

    /// Which program has a port that the server needs; the server itself does not run.
    fn taken_port(&self) -> Option<Listener> {
        let network = self.network;
        let gateways: Vec<IpAddr> = network
            .ipv4
            .map(|net| net.ip().into())
            .into_iter()
            .chain(network.ipv6.map(|net| net.ip().into()))
            .collect();
        let udp = |port| sockets::listener(Transport::Udp, port, &gateways);
        sockets::listener(Transport::Tcp, DNS, &gateways)
            .or_else(|| udp(DNS))
            .or_else(|| network.dhcp4.then(|| udp(DHCP)).flatten())
            .or_else(|| network.dhcp6.then(|| udp(DHCP6)).flatten())
    }

    async fn stop(&self) -> Result<(), DnsError> {
        if let Some(unit) = &self.unit {
            Systemd::connect(Path::new(bus::SYSTEM)).await?.stop_service(unit).await?;
        }
        if let Some(process) = self.running() {
            dnsmasq::end(&process)?;
        }
        remove_file(&self.path(render::PID))?;
        Ok(())
    }
}

impl Account {
    /// In a user namespace: there root is the owner, and other accounts may not be mapped.
    fn root() -> Self {
        Self { name: "root".to_owned(), group: "root".to_owned(), gid: 0 }
    }

    fn find() -> Result<Self, DnsError> {
        let read = |path: &str| std::fs::read_to_string(path).cannot(|| format!("read {path}"));
        let (users, groups) = (read("/etc/passwd")?, read("/etc/group")?);
        let user = ACCOUNTS.iter().find_map(|name| passwd::user(&users, name));
        let user = user.filter(|user| user.uid != 0 && user.gid != 0).ok_or(DnsError::NoAccount)?;
        let group = passwd::groups(&groups).find(|group| group.gid == user.gid).ok_or(DnsError::NoAccount)?;
        Ok(Self { name: user.name, group: group.name, gid: group.gid })
    }
}

/// The host's resolvers as a daemonless owner's network reaches them: through pasta, which passes questions
/// on to those on the host's loopback.
fn daemonless_resolvers() -> Vec<IpAddr> {
    let found = host_resolvers::usable();
    if found.is_empty() { vec![pasta::RESOLVER.into()] } else { found }
}

/// Whether there was one.
fn remove_file(path: &Path) -> SysResult<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(SysError::new(format!("remove {}", path.display()), e)),
    }
}

#[cfg(test)]
mod tests;
