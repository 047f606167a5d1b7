//! Starting a container: its cgroup, its namespaces, its trees, its links and its monitor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::passed::{Handed, Passed, PassedMount};
use super::program;
use super::stage::{Stage, StageTrees};
use crate::host::broker::network;
use crate::host::services::bus;
use crate::host::services::scope;
use crate::model::config::value::NO_LIMIT;
use crate::model::ids::IdRange;
use crate::model::instance::Instance;
use crate::model::limits::{Limits, PIDS_MAX};
use crate::model::monitor::StartReport;
use crate::model::name::ContainerId;
use crate::model::nic::NicOrder;
use crate::model::waits;
use crate::sys::cgroup::home::Home;
use crate::sys::cgroup::limits;
use crate::sys::cgroup::limits::ApplyError;
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::net::netlink::{Netlink, NetlinkError};
use crate::sys::net::seqpacket;
use crate::sys::process::child;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::process::rlimit;
use crate::sys::process::rlimit::Ceilings;
use crate::sys::process::userns;
use crate::sys::process::userns::{Creator, Helper};
use crate::sys::{Context, SysError, SysResult, cgroup, error_text};

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("cannot give container {container} its interface {device}")]
    Link {
        container: ContainerId,
        device: String,
        #[source]
        source: NetlinkError,
    },
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    #[error(transparent)]
    Limits(#[from] ApplyError),
    #[error("{0}")]
    Guest(String),
    /// The host has no cgroup v2 hierarchy.
    #[error(transparent)]
    NoHierarchy(SysError),
}

/// A container to start, checked.
pub struct Order {
    /// The container's id.
    pub container: ContainerId,
    /// Shown in the list of processes.
    pub name: String,
    /// The container's runtime ids.
    pub id_range: IdRange,
    /// Its interfaces, each with the index of the bridge that it will be a port of.
    pub links: Vec<(Option<u32>, NicOrder)>,
    /// An init to take over instead of booting one.
    pub adopt: Option<i32>,
    /// The guest's, of those that the monitor's own list has.
    pub devices: Vec<&'static str>,
    /// Limits of its cgroup and of its processes.
    pub limits: Limits,
}

impl Order {
    /// Also where the host has no cgroup controller that counts processes.
    fn ceilings(&self) -> Ceilings {
        let asked = Some(self.limits.numbers.get(PIDS_MAX)).filter(|most| *most != NO_LIMIT).unwrap_or(0);
        Ceilings::OfGuest { processes: rlimit::usual_processes().max(asked) }
    }
}

/// A start's first steps: processes on their way to namespaces.
pub struct Begun {
    /// On its way to the guest's own namespaces; none for a guest that has them already.
    home: Option<Helper>,
    /// On its way to the user namespace by which a mount maps storage ids to runtime ids; a daemonless
    /// owner's guests need none.
    shift: Option<Helper>,
}

/// The launcher context: where an owner's containers have their cgroups, and which ids own their files.
pub struct LauncherContext {
    /// The owner's instance.
    pub instance: Instance,
    /// The owner's storage ids.
    pub storage: IdRange,
}

/// The namespaces that a monitor is started with.
struct Namespaces {
    user: OwnedFd,
    network: OwnedFd,
    /// The init to take over.
    init: Option<OwnedFd>,
}

impl LauncherContext {
    /// How many other containers of this owner have processes. Where these are `most` or more, those whose guest
    /// has ended or was killed are waited for a moment: they go, or their guest is booted again.
    pub fn running_beside(&self, id: &ContainerId, most: usize) -> usize {
        let Ok(home) = Home::find(&self.instance) else { return 0 };
        let end = Instant::now() + waits::ROOM;
        loop {
            let others = home.containers().into_iter().filter(|other| other != id);
            let mut dirs: Vec<PathBuf> = others.map(|other| home.container_dir(&other)).collect();
            dirs.retain(|dir| cgroup::populated(dir));
            let may_go = |dir: &PathBuf| cgroup::is_dying(&dir.join("payload"));
            if dirs.len() < most || Instant::now() >= end || !dirs.iter().any(may_go) {
                return dirs.len();
            }
            std::thread::sleep(waits::ROOM_POLL);
        }
    }

    /// Begins to make the namespaces that `order` needs; to be spawned next.
    pub fn begin(&self, order: &Order) -> SysResult<Begun> {
        let home = match order.adopt {
            None => Some(userns::start(self.creator(order.id_range), true, order.ceilings())?),
            Some(_) => None,
        };
        let shift = match self.instance.is_daemonless() {
            false => Some(userns::start(Creator::Caller, false, Ceilings::NONE)?),
            true => None,
        };
        Ok(Begun { home, shift })
    }

    /// Starts `order` and waits until its init runs. Calls `meanwhile` while it waits, once the links
    /// exist. Returns the monitor's and init's process numbers. On failure nothing of it is left.
    pub async fn spawn(
        &self,
        order: &Order,
        begun: Begun,
        passed: &Passed,
        netlink: &Netlink,
        meanwhile: impl FnOnce(),
    ) -> Result<(i32, i32), SpawnError> {
        let home = Home::find(&self.instance).map_err(SpawnError::NoHierarchy)?;
        let started = self.try_spawn(order, begun, passed, netlink, &home, meanwhile).await;
        if started.is_err() && order.adopt.is_none() {
            self.clear(&order.container, netlink).await;
        }
        started
    }

    async fn try_spawn(
        &self,
        order: &Order,
        begun: Begun,
        passed: &Passed,
        netlink: &Netlink,
        place: &Home,
        meanwhile: impl FnOnce(),
    ) -> Result<(i32, i32), SpawnError> {
        let Begun { home, shift } = begun;
        let dir = place.container_dir(&order.container);
        // A guest that is taken over has its scope already.
        let scope = place.scope(&order.container).filter(|_| order.adopt.is_none());
        // Mounts that files were opened through.
        let mut behind = Vec::new();
        let cgroups = match (&scope, order.adopt) {
            (None, None) => Some(self.cgroups(order, &dir, None, &mut behind)?),
            (None, Some(_)) => Some(self.as_passed(cgroup::ContainerCgroup::open(&dir)?, &mut behind)?),
            (Some(_), _) => None,
        };
        let user = home.as_ref().map(|h| h.map(0, order.id_range)).transpose()?;
        let trees = self.trees(order, shift.as_ref(), passed, &mut behind)?;
        let namespaces = match (&home, user, order.adopt) {
            (Some(home), Some(user), _) => Namespaces { user, network: home.network()?, init: None },
            (_, _, Some(pid)) => self.namespaces_of(order, pid, place)?,
            _ => return Err(SpawnError::Guest("nothing to start".to_owned())),
        };
        let (child, ours) = self.fork_stage(order, passed, &trees, &namespaces, cgroups.as_ref())?;
        if let Some(scope) = scope {
            let enclosed = self.enclose(order, &scope, child.pid, &dir, &mut behind).await;
            let sent = enclosed.and_then(|c| Ok(seqpacket::send(&ours, &(), &[c.payload.as_fd()])?));
            sent.inspect_err(|_| child.kill())?;
        }
        for link in &order.links {
            let netns = namespaces.network.as_fd();
            let attached = network::attach(&self.instance, netlink, &order.container, link, netns);
            attached.map_err(|source| {
                child.kill();
                let (container, device) = (order.container.clone(), link.1.nic.device.clone());
                SpawnError::Link { container, device, source }
            })?;
        }
        let meanwhile = || {
            // What they have made is held by descriptors, and what was opened holds the mounts.
            drop((home, shift, behind));
            meanwhile();
        };
        match lead(&ours, meanwhile) {
            Ok(init_pid) => Ok((child.pid, init_pid)),
            Err(e) => {
                child.kill();
                Err(e)
            }
        }
    }

    /// Who makes a container's user namespace: the first of its own ids.
    fn creator(&self, id_range: IdRange) -> Creator {
        match self.instance.is_daemonless() {
            true => Creator::Within(id_range.base()),
            false => Creator::Id(id_range.base()),
        }
    }

    /// What the monitor gets of the host's file systems.
    fn trees<'a>(
        &self,
        order: &Order,
        shift: Option<&Helper>,
        passed: &'a Passed,
        behind: &mut Vec<OwnedFd>,
    ) -> SysResult<StageTrees<'a>> {
        let (program, exe) = program::monitors(&self.instance)?;
        let Some(shift) = shift else { return Ok(StageTrees::ToBeOpened { passed, program }) };
        let shift = shift.map(self.storage.base(), order.id_range)?;
        let flags = NODEV | NOSUID | NOEXEC;
        let exe = mount::clone_tree(exe.as_fd())?;
        // Where /run forbids to execute, this mount does not.
        mount::set_attr(exe.as_fd(), RDONLY | NODEV | NOSUID, NOEXEC, false)?;
        let idmapped = |tree: &OwnedFd, more: u64| mount::idmapped(tree.as_fd(), &shift, flags | more);
        let shifted = |mount: &PassedMount| {
            let tree = idmapped(&mount.tree, if mount.is_read_only { RDONLY } else { 0 })?;
            Ok((mount.name.clone(), tree))
        };
        let mut mounts = passed.mounts.iter().map(shifted).collect::<SysResult<Vec<_>>>()?;
        for disk in &passed.disks {
            match disk.mapped(self.storage, order.id_range) {
                Ok(tree) => mounts.push((disk.name.clone(), tree)),
                // The guest runs without it, or has it already.
                Err(e) if order.adopt.is_some() => tracing::warn!("{}", error_text(&e)),
                Err(e) => return Err(e),
            }
        }
        Ok(StageTrees::Handed(Handed {
            layers: passed.layers.iter().map(|tree| idmapped(tree, RDONLY)).collect::<SysResult<_>>()?,
            mounts,
            state: detached(&passed.state, behind)?,
            logs: [detached(&passed.logs[0], behind)?, detached(&passed.logs[1], behind)?],
            exe,
        }))
    }

    /// Replaces the guest's cgroup by a descriptor from which no path leads to the host's root, as a
    /// monitor may have it. A daemonless owner's stage child opens it again by itself.
    fn as_passed(
        &self,
        mut cgroups: cgroup::ContainerCgroup,
        behind: &mut Vec<OwnedFd>,
    ) -> SysResult<cgroup::ContainerCgroup> {
        if !self.instance.is_daemonless() {
            cgroups.payload = detached(&cgroups.payload, behind)?;
        }
        Ok(cgroups)
    }

    /// Has systemd make the container's scope around the stage child, and makes it ready.
    async fn enclose(
        &self,
        order: &Order,
        unit: &str,
        pid: i32,
        dir: &Path,
        behind: &mut Vec<OwnedFd>,
    ) -> Result<cgroup::ContainerCgroup, SpawnError> {
        scope::start(&self.instance, &order.name, unit, pid).await?;
        self.cgroups(order, dir, Some(pid), behind)
    }

    /// Makes the container's cgroups, with its limits, around `pid` if there is one.
    fn cgroups(
        &self,
        order: &Order,
        dir: &Path,
        pid: Option<i32>,
        behind: &mut Vec<OwnedFd>,
    ) -> Result<cgroup::ContainerCgroup, SpawnError> {
        let cgroups = cgroup::create(dir, order.id_range.base(), pid)?;
        if order.limits != Limits::default() {
            limits::apply(cgroups.payload.as_fd(), &order.limits)?;
        }
        Ok(self.as_passed(cgroups, behind)?)
    }

    /// The child, and the connection to it and to the monitor that it becomes. Without `cgroups` the child
    /// waits until it has been moved to its own, and is sent the guest's.
    fn fork_stage(
        &self,
        order: &Order,
        passed: &Passed,
        trees: &StageTrees<'_>,
        namespaces: &Namespaces,
        cgroups: Option<&cgroup::ContainerCgroup>,
    ) -> SysResult<(Child, OwnedFd)> {
        let mut fork = Fork::new("start a monitor")
            .keep([&namespaces.user, &namespaces.network, &passed.config, &passed.control])
            .keep(&namespaces.init)
            .keep(trees.descriptors());
        if let Some(cgroups) = cgroups {
            fork = fork.cgroup(cgroups.monitor.as_fd()).keep([&cgroups.payload]);
        }
        fork.start_with_socket(|broker| {
            let stage = Stage {
                name: &order.name,
                id_range: order.id_range,
                rlimits: &order.limits.rlimits,
                of_user: self.instance.uid_of_user().is_some(),
                user_namespace: &namespaces.user,
                network: &namespaces.network,
                init: namespaces.init.as_ref(),
                devices: &order.devices,
                nodes: &passed.nodes,
                config: &passed.config,
                control: &passed.control,
                broker,
                trees,
            };
            match cgroups {
                Some(cgroups) => stage.enter(cgroups.payload.as_fd()),
                None => match scope::await_payload(&stage.broker) {
                    Ok(payload) => stage.enter(payload.as_fd()),
                    Err(e) => stage.fail(&e),
                },
            }
        })
    }

    /// The namespaces of a guest whose monitor is gone. `pid` comes from the owner, so it is checked to be
    /// process 1 of a container in this cgroup and with these ids.
    fn namespaces_of(&self, order: &Order, pid: i32, place: &Home) -> SysResult<Namespaces> {
        let refused = |why: &str| {
            SysError::new(format!("take over process {pid}"), std::io::Error::other(why.to_owned()))
        };
        let init = child::pidfd_open(pid)?;
        let payload = format!("{}/payload", place.path(&order.container));
        if !cgroup::holds(&payload, pid) {
            return Err(refused("it is not in the container's cgroup"));
        }
        if !userns::is_mapped_to(pid, order.id_range) {
            return Err(refused("its ids are not the container's"));
        }
        if userns::pid_namespace_depth(pid) != Some((2, 1)) {
            return Err(refused("it is not the container's init"));
        }
        // The owner of init's pid namespace never changes; what /proc says of its user namespace
        // could be one that the guest has made within its own.
        let user = userns::owner_of(&userns::open_ns(pid, "pid")?)?;
        let network = userns::open_ns(pid, "net")?;
        // Had the process ended in between, its number could be another's by now.
        child::signal(&init, 0)?;
        Ok(Namespaces { user, network, init: Some(init) })
    }
}

/// As `mount::detached`; the mount goes to those that are closed later.
fn detached(fd: &OwnedFd, behind: &mut Vec<OwnedFd>) -> SysResult<OwnedFd> {
    let (opened, mount) = mount::detached_by(fd.as_fd())?;
    behind.push(mount);
    Ok(opened)
}

/// Lets a monitor go on, now that its guest's link is there, and waits for its init, doing something
/// else meanwhile.
fn lead(monitor: &OwnedFd, meanwhile: impl FnOnce()) -> Result<i32, SpawnError> {
    rustix::net::sockopt::set_socket_timeout(
        monitor,
        rustix::net::sockopt::Timeout::Recv,
        Some(waits::MONITOR_START),
    )
    .cannot(|| "bound the wait for the monitor")?;
    // A monitor that is dead already has said why; its words are read next.
    let _ = seqpacket::send(monitor, &(), &[]);
    meanwhile();
    match seqpacket::recv::<StartReport>(monitor)? {
        Some((StartReport::Started { init_pid }, _)) => Ok(init_pid),
        Some((StartReport::Failed { reason, errno: None }, _)) => Err(SpawnError::Guest(reason)),
        Some((StartReport::Failed { reason, errno }, _)) => Err(SysError::from_worker(&reason, errno).into()),
        None => Err(SpawnError::Guest("the monitor died while it started".to_owned())),
    }
}
