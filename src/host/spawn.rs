//! Starting a container: its cgroup, its namespaces, its lent trees, its link, and the monitor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::bus;
use super::lent::Lent;
use super::program;
use super::scope;
use super::stage::{Handed, Lending, Stage};
use crate::model::config::value::NO_LIMIT;
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::monitor::StartReport;
use crate::model::name::ContainerId;
use crate::model::nic::{MOST_NICS, NicOrder};
use crate::sys::cgroup_home::Home;
use crate::sys::clone::{self, CloneSpec};
use crate::sys::error_text;
use crate::sys::limits::{self, ApplyError};
use crate::sys::mount::{self, NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::netlink::{Netlink, NetlinkError, Plug};
use crate::sys::rlimit::{self, Ceilings};
use crate::sys::userns::{self, Creator, Helper};
use crate::sys::{Context, SysError, SysResult, cgroup, seqpacket};

/// How long a monitor may take to start its guest.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long the kernel may take to end a container's processes.
pub const KILL_PATIENCE: Duration = Duration::from_secs(20);

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
    pub container: ContainerId,
    /// Shown in the list of processes.
    pub name: String,
    pub slice: Slice,
    /// Its interfaces, each with the index of the bridge that it will be a port of.
    pub links: Vec<(Option<u32>, NicOrder)>,
    /// An init to take over instead of booting one.
    pub adopt: Option<i32>,
    pub limits: Limits,
}

impl Order {
    /// Also where the host has no cgroup controller that counts processes.
    fn ceilings(&self) -> Ceilings {
        let asked = Some(self.limits.pids_max).filter(|most| *most != NO_LIMIT).unwrap_or(0);
        Ceilings::OfGuest { processes: rlimit::usual_processes().max(asked) }
    }
}

/// A start's first steps: processes on their way to namespaces.
pub struct Begun {
    /// To the guest's own; none for a guest that has them already.
    home: Option<Helper>,
    /// To the one by which files of the storage slice are the guest's; a private owner's need none.
    shift: Option<Helper>,
}

/// Where containers' cgroups are and whose files they stand on.
pub struct Ground {
    pub instance: Instance,
    pub storage: Slice,
}

/// The namespaces that a monitor is started with.
struct Namespaces {
    user: OwnedFd,
    network: OwnedFd,
    /// The init to take over.
    init: Option<OwnedFd>,
}

impl Ground {
    /// How many other containers of this owner have processes.
    pub fn running_beside(&self, id: &ContainerId) -> usize {
        let Ok(home) = Home::find(&self.instance) else { return 0 };
        let others = home.containers().into_iter().filter(|other| other != id);
        others.filter(|other| cgroup::populated(&home.container_dir(other))).count()
    }

    /// Begins to make the namespaces that `order` needs; to be spawned next.
    pub fn begin(&self, order: &Order) -> SysResult<Begun> {
        let home = match order.adopt {
            None => Some(userns::start(self.creator(order.slice), true, order.ceilings())?),
            Some(_) => None,
        };
        let shift = match self.instance.is_private() {
            false => Some(userns::start(Creator::Caller, false, Ceilings::NONE)?),
            true => None,
        };
        Ok(Begun { home, shift })
    }

    /// Starts `order` and waits until its init runs. Meanwhile, once its links are there, `meanwhile` is
    /// done. Returns the monitor's and init's process numbers. On failure nothing of it is left.
    pub async fn spawn(
        &self,
        order: &Order,
        begun: Begun,
        lent: &Lent,
        netlink: &Netlink,
        meanwhile: impl FnOnce(),
    ) -> Result<(i32, i32), SpawnError> {
        let home = Home::find(&self.instance).map_err(SpawnError::NoHierarchy)?;
        let started = self.try_spawn(order, begun, lent, netlink, &home, meanwhile).await;
        if started.is_err() && order.adopt.is_none() {
            self.clear(&order.container, netlink).await;
        }
        started
    }

    async fn try_spawn(
        &self,
        order: &Order,
        begun: Begun,
        lent: &Lent,
        netlink: &Netlink,
        place: &Home,
        meanwhile: impl FnOnce(),
    ) -> Result<(i32, i32), SpawnError> {
        let Begun { home, shift } = begun;
        let dir = place.container_dir(&order.container);
        // A guest that is taken over has its scope already.
        let scope = place.scope(&order.container).filter(|_| order.adopt.is_none());
        let cgroups = match (&scope, order.adopt) {
            (None, None) => Some(self.cgroups(order, &dir, None)?),
            (None, Some(_)) => Some(self.as_lent(cgroup::ContainerCgroup::open(&dir)?)?),
            (Some(_), _) => None,
        };
        let user = home.as_ref().map(|h| h.map(0, order.slice)).transpose()?;
        let lending = self.lending(order, shift.as_ref(), lent)?;
        let namespaces = match (&home, user, order.adopt) {
            (Some(home), Some(user), _) => Namespaces { user, network: home.network()?, init: None },
            (_, _, Some(pid)) => self.namespaces_of(order, pid, place)?,
            _ => return Err(SpawnError::Guest("nothing to start".to_owned())),
        };
        let (ours, theirs) = seqpacket::pair()?;
        let child =
            self.fork_stage(order, lent, &lending, &namespaces, cgroups.as_ref(), [&ours, &theirs])?;
        drop(theirs);
        if let Some(scope) = scope {
            let enclosed = self.enclose(order, &scope, child.pid, &dir).await;
            let sent = enclosed.and_then(|c| Ok(seqpacket::send(&ours, &(), &[c.payload.as_fd()])?));
            sent.inspect_err(|_| child.kill())?;
        }
        for (bridge, link) in &order.links {
            let plug = Plug {
                nic: &link.nic,
                host_name: &self.instance.host_link(&order.container, link.nic.slot),
                shaper_name: &self.instance.shaper_link(&order.container, link.nic.slot),
                bridge: *bridge,
                network_mtu: link.mtu,
                isolated: link.isolated,
                netns: namespaces.network.as_fd(),
            };
            let plugged = netlink.plug(&plug).and_then(|()| match bridge {
                Some(index) => netlink.forget_neighbours(&link.bridge, *index, link.nic.addresses()),
                None => Ok(()),
            });
            plugged.map_err(|source| {
                child.kill();
                let (container, device) = (order.container.clone(), link.nic.device.clone());
                SpawnError::Link { container, device, source }
            })?;
        }
        let meanwhile = || {
            // What they have made is held by descriptors.
            drop((home, shift));
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

    /// Who makes a container's user namespace: its slice's own first id.
    fn creator(&self, slice: Slice) -> Creator {
        match self.instance.is_private() {
            true => Creator::Within(slice.base()),
            false => Creator::Id(slice.base()),
        }
    }

    /// What is handed to the monitor of the host's file systems.
    fn lending<'a>(&self, order: &Order, shift: Option<&Helper>, lent: &'a Lent) -> SysResult<Lending<'a>> {
        let (program, exe) = program::monitors(&self.instance)?;
        let Some(shift) = shift else { return Ok(Lending::ToBeOpened { lent, program }) };
        let shift = shift.map(self.storage.base(), order.slice)?;
        let flags = NODEV | NOSUID | NOEXEC;
        let exe = mount::clone_tree(exe.as_fd())?;
        // Where /run forbids to execute, this mount does not.
        mount::set_attr(exe.as_fd(), RDONLY | NODEV | NOSUID, NOEXEC, false)?;
        Ok(Lending::Handed(Handed {
            template: mount::idmapped(lent.template.as_fd(), &shift, flags | RDONLY)?,
            data: mount::idmapped(lent.data.as_fd(), &shift, flags)?,
            state: mount::detached(lent.state.as_fd())?,
            logs: [mount::detached(lent.logs[0].as_fd())?, mount::detached(lent.logs[1].as_fd())?],
            exe,
        }))
    }

    /// With the guest's cgroup as a monitor may have it: no way leads from it to the host's root. A
    /// private owner's stage child opens it anew by itself.
    fn as_lent(&self, mut cgroups: cgroup::ContainerCgroup) -> SysResult<cgroup::ContainerCgroup> {
        if !self.instance.is_private() {
            cgroups.payload = mount::detached(cgroups.payload.as_fd())?;
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
    ) -> Result<cgroup::ContainerCgroup, SpawnError> {
        scope::start(&self.instance, &order.name, unit, pid).await?;
        self.cgroups(order, dir, Some(pid))
    }

    /// Makes the container's cgroups, with its limits, around `pid` if there is one.
    fn cgroups(
        &self,
        order: &Order,
        dir: &Path,
        pid: Option<i32>,
    ) -> Result<cgroup::ContainerCgroup, SpawnError> {
        let cgroups = cgroup::create(dir, order.slice.base(), pid)?;
        if order.limits != Limits::default() {
            limits::apply(cgroups.payload.as_fd(), &order.limits)?;
        }
        Ok(self.as_lent(cgroups)?)
    }

    /// The last argument are the two ends of the pair between this process and the child. Without
    /// `cgroups` the child waits until it has been moved to its own, and is sent the
    /// guest's.
    fn fork_stage(
        &self,
        order: &Order,
        lent: &Lent,
        lending: &Lending<'_>,
        namespaces: &Namespaces,
        cgroups: Option<&cgroup::ContainerCgroup>,
        [ours, broker]: [&OwnedFd; 2],
    ) -> SysResult<clone::Child> {
        let stage = Stage {
            name: &order.name,
            slice: order.slice,
            rlimits: &order.limits.rlimits,
            of_user: self.instance.person().is_some(),
            user_namespace: &namespaces.user,
            network: &namespaces.network,
            init: namespaces.init.as_ref(),
            config: &lent.config,
            control: &lent.control,
            broker,
            lending,
        };
        let spec = CloneSpec { flags: 0, cgroup: cgroups.map(|c| c.monitor.as_fd()) };
        clone::fork(&spec, || {
            // Held here too, it would never tell that the broker has been killed.
            clone::close(ours);
            match cgroups {
                Some(cgroups) => stage.enter(cgroups.payload.as_fd()),
                None => match scope::await_payload(broker) {
                    Ok(payload) => stage.enter(payload.as_fd()),
                    Err(e) => stage.fail(&e),
                },
            }
        })
    }

    /// The namespaces of a guest whose monitor is gone. `pid` comes from the owner: it must be the
    /// process 1 of a container in this very cgroup and slice.
    fn namespaces_of(&self, order: &Order, pid: i32, place: &Home) -> SysResult<Namespaces> {
        let refused = |why: &str| {
            SysError::new(format!("take over process {pid}"), std::io::Error::other(why.to_owned()))
        };
        let init = clone::pidfd_open(pid)?;
        let payload = format!("{}/payload", place.path(&order.container));
        if !cgroup::holds(&payload, pid) {
            return Err(refused("it is not in the container's cgroup"));
        }
        if !userns::is_mapped_to(pid, order.slice) {
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
        clone::signal(&init, 0)?;
        Ok(Namespaces { user, network, init: Some(init) })
    }

    /// Ends every process of the container and removes its cgroup and links. Idempotent; what
    /// cannot be removed now is found again by the next call.
    pub async fn clear(&self, container: &ContainerId, netlink: &Netlink) -> Vec<String> {
        let mut failures = Vec::new();
        let mut note = |what: Result<(), String>| failures.extend(what.err());
        match Home::find(&self.instance) {
            Ok(home) => {
                let dir = home.container_dir(container);
                note(cgroup::kill(&dir, KILL_PATIENCE).map_err(|e| error_text(&e)));
                match home.scope(container) {
                    None => note(cgroup::remove(&dir).map_err(|e| error_text(&e))),
                    Some(unit) => {
                        note(scope::dismiss(&self.instance, &unit, &dir).await.map_err(|e| error_text(&e)))
                    }
                }
            }
            // Its processes may live all the same, where this command cannot see them.
            Err(e) => note(Err(error_text(&e))),
        }
        let pairs: Vec<(String, String)> = (0..MOST_NICS)
            .map(|slot| {
                (self.instance.host_link(container, slot), self.instance.shaper_link(container, slot))
            })
            .collect();
        note(netlink.unplug_all(&pairs).map_err(|e| error_text(&e)));
        failures
    }
}

/// Lets a monitor go on, now that its guest's link is there, and waits for its init, doing something
/// else meanwhile.
fn lead(monitor: &OwnedFd, meanwhile: impl FnOnce()) -> Result<i32, SpawnError> {
    rustix::net::sockopt::set_socket_timeout(
        monitor,
        rustix::net::sockopt::Timeout::Recv,
        Some(START_PATIENCE),
    )
    .cannot(|| "bound the wait for the monitor")?;
    // A monitor that is dead already has said why; its words are read next.
    let _ = seqpacket::send(monitor, &(), &[]);
    meanwhile();
    match seqpacket::recv::<StartReport>(monitor)? {
        Some((StartReport::Started { init_pid }, _)) => Ok(init_pid),
        Some((StartReport::Failed { reason }, _)) => Err(SpawnError::Guest(reason)),
        None => Err(SpawnError::Guest("the monitor died while it started".to_owned())),
    }
}
