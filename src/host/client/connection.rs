//! The manager's way to a broker: the half of this process that has kept its rights, over a socket pair; for an
//! ordinary user's command the host's, on the system bus.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use tokio::task::JoinHandle;

use crate::host::api::address::BUS_NAME;
use crate::host::api::error::HostError;
use crate::host::api::line::Line;
use crate::host::api::packet::Descriptors;
use crate::host::api::requests as ask;
use crate::host::api::requests::{LendDevice, Spawn};
use crate::host::api::verbs::Request;
use crate::host::api::{access, grants, socket};
use crate::model::container::Container;
use crate::model::fault::{Code, Facts, Fault};
use crate::model::firewall::Change;
use crate::model::firewall::block::{self, Hits, KernelBlock};
use crate::model::firewall::plan::Plan;
use crate::model::firewall::traffic::{RuleCount, Traffic};
use crate::model::ids::IdRange;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::nic::NicOrder;
use crate::render::dnsmasq::DnsLease;
use crate::sys::error_text;
use crate::sys::fs::quota::Amount;
use crate::sys::fs::sealed;
use crate::sys::process::child::Child;
use crate::sys::process::outer_ns::INSIDE;
use crate::sys::process::tty_agent;
use crate::sys::process::tty_agent::Agent;
use crate::sys::{Context, SysError, SysResult};

/// Why the broker could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The owner has no right to it, or the request makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The host lacks something.
    #[error("{0}")]
    Lacking(String),
    /// It has run out of something.
    #[error("{reason}")]
    Exhausted { lack: Code, reason: String },
    #[error("{0}")]
    Failed(String),
    /// The broker speaks another version of the interface.
    #[error("another version of nagaya-hostd runs than this command: {0}")]
    OtherVersion(String),
    /// A daemonless owner's, for want of something of the host's.
    #[error("{reason}")]
    NotMade { reason: String, facts: Facts },
    #[error("cannot reach the broker")]
    Unreachable(#[source] zbus::Error),
    #[error("cannot run the broker")]
    Start(#[from] SysError),
}

impl Fault for BrokerError {
    fn facts(&self) -> Facts {
        match self {
            Self::Refused(_) => Facts::user(Code::Refused),
            Self::Lacking(_) => Facts::host(Code::HostLacks),
            Self::Exhausted { lack, .. } => Facts::host(*lack),
            Self::Failed(_) => Facts::user(Code::BrokerFailed),
            Self::OtherVersion(_) => Facts::host(Code::HostLacks).hint(
                "have it end, as root: systemctl restart nagaya-hostd nagaya-broker; without systemd it ends by \
                 itself after a minute without commands",
            ),
            Self::NotMade { facts, .. } => facts.clone(),
            Self::Unreachable(_) => Facts::bug(Code::BrokerUnreachable),
            Self::Start(error) => error.facts(),
        }
    }
}

impl From<HostError> for BrokerError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Bus(e) => Self::Unreachable(e),
            HostError::Refused(m) => Self::Refused(m),
            HostError::Lacking(m) => Self::Lacking(m),
            HostError::Full(reason) => Self::Exhausted { lack: Code::DiskFull, reason },
            HostError::ReadOnly(reason) => Self::Exhausted { lack: Code::ReadOnly, reason },
            HostError::Version(m) => Self::OtherVersion(m),
            HostError::Failed(m) => Self::Failed(m),
        }
    }
}

/// The manager's end: connects at its first call, so that commands which need no broker pay for a
/// fork at most, and in daemonless mode for none.
pub struct Broker {
    way: Way,
    connection: Option<(tokio::runtime::Runtime, Line)>,
    ahead: Ahead,
    /// It ends once it has nobody to talk to: what is above goes first.
    process: Option<Ending>,
    /// The ids that a daemonless owner's broker knows by other numbers.
    outside: Option<IdRange>,
    /// Asks the user for a password where polkit wants one.
    _agent: Option<Agent>,
}

/// Answers that were asked for before they are needed: the broker works on them meanwhile.
#[derive(Default)]
struct Ahead {
    storage: Option<JoinHandle<Result<ask::Namespace, HostError>>>,
    networks: Vec<(Network, JoinHandle<Result<ask::InPlace, HostError>>)>,
}

/// A broker's process. No process of a command's outlives it: dropping this waits.
pub struct Ending(Option<Child>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            let _ = process.wait();
        }
    }
}

/// Makes the other half of this process, which has one thread, and the connection to it.
pub type Half = Box<dyn FnOnce() -> Result<(Child, UnixStream), BrokerError>>;

/// How the broker is reached.
enum Way {
    /// The other half of this process.
    Pair(UnixStream),
    /// The same, which is made at the first call.
    Later(Half),
    /// nagaya-hostd, for the user whose instance it is.
    SystemBus(Instance),
    /// Taken already.
    Used,
}

/// Whether the host has a broker for ordinary users: somebody owns its name on the system bus, or
/// would be started.
pub fn is_on_host() -> bool {
    let asked = || -> zbus::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connection = zbus::Connection::system().await?;
            let dbus = zbus::fdo::DBusProxy::new(&connection).await?;
            let wanted = |name: &zbus::names::OwnedBusName| name.as_str() == BUS_NAME;
            Ok(dbus.list_activatable_names().await?.iter().any(wanted)
                || dbus.list_names().await?.iter().any(wanted))
        })
    };
    asked().unwrap_or(false)
}

fn runtime() -> SysResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().cannot(|| "start the event loop")
}

impl Broker {
    /// The half `process` of this command, at the other end of `stream`.
    pub fn beside((process, stream): (Child, UnixStream)) -> Self {
        Self { process: Some(Ending(Some(process))), ..Self::by(Way::Pair(stream)) }
    }

    /// A half that is made at the first call. `outside` is the ids that a daemonless owner's broker knows by other
    /// numbers.
    pub fn later(half: Half, outside: IdRange) -> Self {
        Self { outside: Some(outside), ..Self::by(Way::Later(half)) }
    }

    /// The host's broker, for an ordinary user.
    pub fn of_host(instance: &Instance) -> Self {
        Self::by(Way::SystemBus(instance.clone()))
    }

    fn by(way: Way) -> Self {
        Self { way, connection: None, ahead: Ahead::default(), process: None, outside: None, _agent: None }
    }

    /// Lets the broker end while the caller goes on with something else.
    pub fn end(&mut self) -> Option<Ending> {
        self.hang_up();
        self.process.take()
    }

    /// Closes the connection, so that the broker begins to end.
    pub fn hang_up(&mut self) {
        self.way = Way::Used;
        self.ahead = Ahead::default();
        self.connection = None;
    }

    /// Asks for the user namespace over the storage ids, which `storage_namespace` returns later.
    pub fn expect_storage(&mut self) {
        if self.ahead.storage.is_none() {
            self.ahead.storage = self.ask_ahead(ask::StorageNamespace {});
        }
    }

    /// Asks for the network as it is now; `ensure_network` returns the answer later.
    pub fn expect_network(&mut self, network: &Network) {
        let asked = self.ask_ahead(ask::EnsureNetwork { network: network.clone() });
        self.ahead.networks.extend(asked.map(|asked| (network.clone(), asked)));
    }

    /// Sends a request without waiting for its answer. None where that is not possible: the request is then
    /// sent when its answer is needed, and fails then. The host's broker may want a password for each
    /// request, so it gets one at a time.
    fn ask_ahead<R: Request + 'static>(
        &mut self,
        request: R,
    ) -> Option<JoinHandle<Result<R::Answer, HostError>>> {
        /// Sending takes the runtime a few turns.
        const TURNS: usize = 4;
        if self.process.is_none() && !matches!(self.way, Way::Later(_)) {
            return None;
        }
        let (runtime, line) = self.connect().ok()?;
        let line = line.clone();
        let asked = runtime.spawn(async move { line.ask(request).await });
        runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        Some(asked)
    }

    fn connect(&mut self) -> Result<(&tokio::runtime::Runtime, &Line), BrokerError> {
        let mut way = std::mem::replace(&mut self.way, Way::Used);
        if let Way::Later(half) = way {
            let (process, stream) = half()?;
            self.process = Some(Ending(Some(process)));
            way = Way::Pair(stream);
        }
        if !matches!(way, Way::Used) {
            let runtime = runtime()?;
            if let Way::SystemBus(instance) = &way
                && may_be_asked(instance)
            {
                self._agent = tty_agent::start();
            }
            let is_pair = matches!(way, Way::Pair(_));
            let connection = runtime.block_on(async {
                let builder = match way {
                    Way::Pair(stream) => socket::builder(stream)?,
                    _ => zbus::connection::Builder::system(),
                };
                builder.build().await
            });
            let connection = connection.map_err(BrokerError::Unreachable)?;
            let line = if is_pair { Line::to_peer(connection) } else { Line::to_hostd(connection) };
            self.connection = Some((runtime, line));
        }
        let (runtime, line) =
            self.connection.as_ref().ok_or_else(|| BrokerError::Failed("the broker is gone".to_owned()))?;
        Ok((runtime, line))
    }

    fn ask<R: Request>(&mut self, request: R) -> Result<R::Answer, BrokerError> {
        let (runtime, line) = self.connect()?;
        Ok(runtime.block_on(line.ask(request))?)
    }

    /// A user namespace over the storage ids.
    pub fn storage_namespace(&mut self) -> Result<OwnedFd, BrokerError> {
        let mut made = match self.ahead.storage.take() {
            Some(asked) => self.heard(asked)?,
            None => self.ask(ask::StorageNamespace {})?,
        };
        Ok(made.descriptors.take("namespace")?)
    }

    /// The answer to a question that was asked ahead.
    fn heard<T>(&mut self, asked: JoinHandle<Result<T, HostError>>) -> Result<T, BrokerError> {
        let (runtime, _) = self.connect()?;
        Ok(runtime.block_on(asked).map_err(|e| BrokerError::Failed(error_text(&e)))??)
    }

    pub fn setup(&mut self) -> Result<(), BrokerError> {
        self.ask(ask::Setup {}).map(drop)
    }

    /// Returns whether the firewall is in place and knows the network.
    pub fn ensure_network(&mut self, network: &Network) -> Result<bool, BrokerError> {
        let asked = self.ahead.networks.iter().position(|(asked, _)| asked == network);
        let made = match asked.map(|place| self.ahead.networks.swap_remove(place).1) {
            Some(asked) => self.heard(asked)?,
            None => self.ask(ask::EnsureNetwork { network: network.clone() })?,
        };
        Ok(made.is_in_place)
    }

    pub fn remove_network(&mut self, network: &Network) -> Result<(), BrokerError> {
        self.ask(ask::RemoveNetwork { network: network.clone() }).map(drop)
    }

    pub fn firewall_in_place(&mut self) -> Result<bool, BrokerError> {
        Ok(self.ask(ask::FirewallInPlace {})?.is_in_place)
    }

    /// Returns whether blocks are to be told again, and what drops guests' traffic all the same.
    pub fn apply_firewall(
        &mut self,
        plan: &Plan,
        if_needed: bool,
    ) -> Result<(bool, Vec<String>), BrokerError> {
        let applied = self.ask(ask::ApplyFirewall { plan: plan.clone(), if_needed })?;
        Ok((applied.lacks_blocks, applied.dropping))
    }

    pub fn change_firewall(&mut self, change: &Change) -> Result<(), BrokerError> {
        self.ask(ask::ChangeFirewall { change: change.clone() }).map(drop)
    }

    pub fn forget_container(&mut self, container: &str, addresses: &[IpAddr]) -> Result<(), BrokerError> {
        let (container, addresses) = (container.to_owned(), addresses.to_vec());
        self.ask(ask::ForgetContainer { container, addresses }).map(drop)
    }

    pub fn block(
        &mut self,
        add: &[KernelBlock],
        remove: &[KernelBlock],
        members: &[(ContainerId, Vec<IpAddr>)],
    ) -> Result<(), BrokerError> {
        let list = |blocks| sealed::write(&block::encode(blocks));
        let descriptors = Descriptors::of([("add", list(add)?), ("remove", list(remove)?)]);
        self.ask(ask::Block { members: members.to_vec(), descriptors }).map(drop)
    }

    pub fn block_hits(&mut self) -> Result<Vec<Hits>, BrokerError> {
        Ok(self.ask(ask::BlockHits {})?.hits)
    }

    pub fn traffic(&mut self) -> Result<BTreeMap<String, Traffic>, BrokerError> {
        Ok(self.ask(ask::Traffic {})?.links)
    }

    pub fn rule_counts(&mut self) -> Result<Vec<RuleCount>, BrokerError> {
        Ok(self.ask(ask::RuleCounts {})?.rules)
    }

    pub fn remove_firewall(&mut self, bridges: Vec<String>) -> Result<(), BrokerError> {
        self.ask(ask::RemoveFirewall { bridges }).map(drop)
    }

    pub fn ensure_names(&mut self, network: &Network, leases: &[DnsLease]) -> Result<(), BrokerError> {
        self.ask(ask::EnsureNames { network: network.clone(), leases: leases.to_vec() }).map(drop)
    }

    pub fn adjust_link(&mut self, container: &str, order: &NicOrder) -> Result<(), BrokerError> {
        self.ask(ask::AdjustLink { container: container.to_owned(), nic: order.clone() }).map(drop)
    }

    /// Returns whether the link is there at all, and what of it was not as it was made.
    pub fn mend_link(
        &mut self,
        container: &str,
        order: &NicOrder,
    ) -> Result<(bool, Vec<String>), BrokerError> {
        let mended = self.ask(ask::MendLink { container: container.to_owned(), nic: order.clone() })?;
        Ok((mended.is_there, mended.faults))
    }

    /// Returns the process numbers of monitor and init.
    pub fn spawn(&mut self, mut spawn: Spawn) -> Result<(i32, i32), BrokerError> {
        if self.outside.is_some_and(|id_range| id_range.base() == spawn.first_id) {
            spawn.first_id = INSIDE;
        }
        let spawned = self.ask(spawn)?;
        Ok((spawned.monitor, spawned.init))
    }

    /// A mount of a directory or device node for a running container; none of a directory that is missing and may be.
    pub fn lend_device(&mut self, mut device: LendDevice) -> Result<Option<OwnedFd>, BrokerError> {
        if self.outside.is_some_and(|id_range| id_range.base() == device.first_id) {
            device.first_id = INSIDE;
        }
        let mut lent = self.ask(device)?;
        match lent.descriptors.is_empty() {
            true => Ok(None),
            false => Ok(Some(lent.descriptors.take("mount")?)),
        }
    }

    pub fn attach_link(&mut self, container: &str, nic: &NicOrder) -> Result<(), BrokerError> {
        self.ask(ask::AttachLink { container: container.to_owned(), nic: nic.clone() }).map(drop)
    }

    pub fn detach_link(&mut self, container: &str, slot: u8) -> Result<(), BrokerError> {
        self.ask(ask::DetachLink { container: container.to_owned(), slot }).map(drop)
    }

    /// Tells which directories disks are made of.
    pub fn keep_sources(&mut self, directories: Vec<String>) -> Result<(), BrokerError> {
        self.ask(ask::KeepSources { directories }).map(drop)
    }

    /// Bounds what the volume whose directory this is may take of the disk.
    pub fn set_volume_quota(
        &mut self,
        most: Amount,
        setting: ask::Setting,
        data: OwnedFd,
    ) -> Result<(), BrokerError> {
        let (container, first_id, descriptors) = (String::new(), 0, Descriptors::of([("data", data)]));
        let Amount { bytes, files } = most;
        self.ask(ask::SetDiskQuota { container, first_id, setting, bytes, files, descriptors }).map(drop)
    }

    /// Has a pool be made in a directory.
    pub fn make_pool(&mut self, directory: &str) -> Result<(), BrokerError> {
        self.ask(ask::MakePool { directory: directory.to_owned() }).map(drop)
    }

    /// Has an empty one be removed.
    pub fn remove_pool(&mut self, directory: &str) -> Result<(), BrokerError> {
        self.ask(ask::RemovePool { directory: directory.to_owned() }).map(drop)
    }

    /// Bounds what the container whose directory `data` is may take of the disk.
    pub fn set_disk_quota(
        &mut self,
        container: &Container,
        most: Amount,
        setting: ask::Setting,
        data: OwnedFd,
    ) -> Result<(), BrokerError> {
        let mut request = ask::SetDiskQuota {
            container: container.id.to_string(),
            first_id: container.id_range.base(),
            setting,
            bytes: most.bytes,
            files: most.files,
            descriptors: Descriptors::default(),
        };
        request.descriptors.add("data", data);
        self.ask(request).map(drop)
    }

    pub fn set_limits(&mut self, container: &str, limits: Limits) -> Result<(), BrokerError> {
        self.ask(ask::SetLimits { container: container.to_owned(), limits }).map(drop)
    }

    /// Returns what could not be removed.
    pub fn clear(&mut self, container: &str) -> Result<Vec<String>, BrokerError> {
        Ok(self.ask(ask::Clear { container: container.to_owned(), is_killed: false })?.left)
    }

    /// The same for one whose monitor has killed its guest. The broker may go on with that after this command,
    /// which then does not wait for the broker's end.
    pub fn clear_killed(&mut self, container: &str) -> Result<Vec<String>, BrokerError> {
        let cleared = self.ask(ask::Clear { container: container.to_owned(), is_killed: true })?;
        if let Some(Ending(process)) = self.process.as_mut().filter(|_| cleared.goes_on) {
            *process = None;
        }
        Ok(cleared.left)
    }

    pub fn attach_lxcfs(&mut self, container: &str) -> Result<(), BrokerError> {
        self.ask(ask::AttachLxcfs { container: container.to_owned() }).map(drop)
    }

    pub fn register_machine(&mut self, container: &str, name: &str, uuid: &str) -> Result<(), BrokerError> {
        let (container, name, uuid) = (container.to_owned(), name.to_owned(), uuid.to_owned());
        self.ask(ask::RegisterMachine { container, name, uuid }).map(drop)
    }
}

/// Whether polkit may ask this user for a password: hostd asks polkit about users without a grant, and
/// members of the group pass without a password.
fn may_be_asked(instance: &Instance) -> bool {
    let (user, uid) = (instance.user(), rustix::process::geteuid().as_raw());
    let is_silent = grants::own(instance, user).is_ok_and(|grant| grant.is_none_or(|g| g.allow.is_none()));
    is_silent && !access::is_member(user, uid, instance.name())
}
