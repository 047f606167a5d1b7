//! The manager's way to a broker. When root has typed the command, the process forks: one half stays
//! root and serves the interface on a socket pair, the other becomes the owner for good. An
//! ordinary user's command finds the host's broker on the system bus.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tokio::task::{JoinError, JoinHandle};
use zbus::Fd;

use super::caller::Caller;
use super::dns::DnsLease;
use super::error::HostError;
use super::firewall::{RuleCount, Traffic};
use super::interface::{Host1, Host1CallerProxy, PATH, SpawnOrder};
use super::setup::Owner;
use super::{grants, polkit, private, private_socket};
use crate::model::firewall::Change;
use crate::model::firewall::block::{self, Hits, KernelBlock};
use crate::model::firewall::plan::Plan;
use crate::model::ids::Slice;
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::model::name::ContainerId;
use crate::model::network::Network;
use crate::model::nic::NicOrder;
use crate::sys::clone::{self, Child, CloneSpec};
use crate::sys::error_text;
use crate::sys::outer_ns::{INSIDE, Outer};
use crate::sys::tty_agent::{self, Agent};
use crate::sys::{Context, SysError, SysResult, sandbox, sealed, seccomp, userns};

/// Why the broker could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It makes no sense, or the owner may not have it.
    #[error("{0}")]
    Refused(String),
    /// The host lacks something.
    #[error("{0}")]
    Lacking(String),
    #[error("{0}")]
    Failed(String),
    #[error("cannot reach the broker")]
    Unreachable(#[source] zbus::Error),
    #[error("cannot run the broker")]
    Start(#[from] SysError),
}

impl From<HostError> for BrokerError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Bus(e) => Self::Unreachable(e),
            HostError::Refused(m) => Self::Refused(m),
            HostError::Lacking(m) => Self::Lacking(m),
            HostError::Failed(m) => Self::Failed(m),
        }
    }
}

/// The manager's end: connects at its first call, so that commands which need no broker pay for a
/// fork at most.
pub struct Broker {
    way: Way,
    connection: Option<(tokio::runtime::Runtime, Host1CallerProxy<'static>)>,
    ahead: Ahead,
    /// It ends once it has nobody to talk to: what is above goes first.
    process: Option<Ending>,
    /// The slice that a private owner's broker knows by another number.
    outside: Option<Slice>,
    /// Asks the user for a password where polkit wants one.
    _agent: Option<Agent>,
}

/// What was asked for before it is wanted: the broker works on it meanwhile.
#[derive(Default)]
struct Ahead {
    storage: Option<JoinHandle<Result<zbus::OwnedFd, HostError>>>,
    networks: Vec<(Network, JoinHandle<Result<bool, HostError>>)>,
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

/// How the broker is reached.
enum Way {
    /// The other half of this process.
    Pair(UnixStream),
    /// nagaya-hostd, for the user whose instance it is.
    SystemBus(Instance),
    /// Taken already.
    Used,
}

/// Splits this process, which is root's and has one thread. In the parent, which the user's shell
/// waits for, every right is given up: it becomes `owner` and goes on as the manager.
pub fn split(instance: &Instance, owner: Owner) -> SysResult<Broker> {
    let broker = fork(|stream| serve(instance, Some(owner), stream), None)?;
    userns::become_user(owner.uid, owner.gid)?;
    // Root's shell reads from the same terminal.
    sandbox::shut_in(&seccomp::manager_filter()?)?;
    // Files of the service user's other processes, memory included, stay closed to this one's
    // core dumps and tracers as a matter of course; what it makes is its own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(broker)
}

/// The same for an ordinary user without a broker on the host: one half becomes root of the user's
/// own namespaces, the other stays what it is. The caller has one thread.
pub fn split_private(instance: &Instance, outside: Slice, outer: &Outer) -> SysResult<Broker> {
    let work = |stream: &UnixStream| match outer.enter() {
        Ok(()) => serve(instance, private::inside(), stream),
        Err(e) => {
            eprintln!("nagaya: the broker cannot work: {}", error_text(&e));
            1
        }
    };
    let broker = fork(work, Some(outside))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(broker)
}

/// The manager's end; the broker's half does `work`, whose result is its exit code, and ends.
fn fork(work: impl FnOnce(&UnixStream) -> i32, outside: Option<Slice>) -> SysResult<Broker> {
    let (manager, broker) = UnixStream::pair().cannot(|| "make a socket pair")?;
    match clone::clone3(&CloneSpec::default())? {
        clone::Forked::Parent(child) => {
            drop(broker);
            let way = Way::Pair(manager);
            let process = Some(Ending(Some(child)));
            Ok(Broker { way, connection: None, ahead: Ahead::default(), process, outside, _agent: None })
        }
        clone::Forked::Child => {
            // Were it open here too, this half would never see the other's end.
            drop(manager);
            clone::exit_now(work(&broker))
        }
    }
}

/// The root half. Nothing is set up before the manager speaks. Without an owner, the first thing to
/// ask for is Setup.
pub(super) fn serve(instance: &Instance, owner: Option<Owner>, stream: &UnixStream) -> i32 {
    ignore_terminal_signals();
    // Owners look into the cgroups that are made here, and a container's root passes through its
    // directories, whatever the umask of whoever typed the command.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut fds = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::IN)];
    let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None));
    let mut byte = [0u8; 1];
    let peeked = rustix::net::recv(stream, &mut byte[..], rustix::net::RecvFlags::PEEK);
    if !matches!(peeked, Ok((_, 1))) {
        return 0;
    }
    let run = || -> Result<(), String> {
        let runtime = runtime().map_err(|e| error_text(&e))?;
        runtime.block_on(async {
            let caller = Caller::at(stream).map_err(|e| e.to_string())?;
            let stream = stream.try_clone().map_err(|e| e.to_string())?;
            let host = Host1::new(instance.clone(), owner, caller);
            let builder = private_socket::builder(stream).map_err(|e| e.to_string())?;
            let builder = builder.serve_at(PATH, host.map_err(|e| e.to_string())?);
            let connection = builder.build().await.map_err(|e| e.to_string())?;
            connection.closed().await;
            Ok(())
        })
    };
    match run() {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("nagaya: the broker cannot work: {e}");
            1
        }
    }
}

/// Whether the host has a broker for ordinary users: somebody owns its name on the system bus, or
/// would be started.
pub fn is_on_host() -> bool {
    let asked = || -> zbus::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connection = zbus::Connection::system().await?;
            let dbus = zbus::fdo::DBusProxy::new(&connection).await?;
            let wanted = |name: &zbus::names::OwnedBusName| name.as_str() == super::hostd::BUS_NAME;
            Ok(dbus.list_activatable_names().await?.iter().any(wanted)
                || dbus.list_names().await?.iter().any(wanted))
        })
    };
    asked().unwrap_or(false)
}

/// What a user types at the terminal is for the manager; the broker finishes what it has begun and
/// ends with the manager.
fn ignore_terminal_signals() {
    use nix::sys::signal::{SigSet, Signal};
    let signals: SigSet = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGTSTP]
        .into_iter()
        .collect();
    let _ = signals.thread_block();
}

fn runtime() -> SysResult<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().cannot(|| "start the event loop")
}

impl Broker {
    /// The host's, for an ordinary user.
    pub fn of_host(instance: &Instance) -> Self {
        let way = Way::SystemBus(instance.clone());
        Self { way, connection: None, ahead: Ahead::default(), process: None, outside: None, _agent: None }
    }

    /// Has it end while the caller goes on with something else.
    pub fn end(&mut self) -> Option<Ending> {
        self.hang_up();
        self.process.take()
    }

    /// Nothing more is asked of it: it begins to end.
    pub fn hang_up(&mut self) {
        self.way = Way::Used;
        self.ahead = Ahead::default();
        self.connection = None;
    }

    /// Asks for the storage slice's namespace, which `storage_namespace` hands out later.
    pub fn expect_storage(&mut self) {
        if self.ahead.storage.is_none() {
            self.ahead.storage = self.ask_ahead(|proxy| async move { proxy.storage_namespace().await });
        }
    }

    /// Begins with what `ensure_network` hands out later for this network as it is now.
    pub fn expect_network(&mut self, network: &Network) {
        let Ok(text) = json(network) else { return };
        let asked = self.ask_ahead(|proxy| async move { proxy.ensure_network(&text).await });
        self.ahead.networks.extend(asked.map(|asked| (network.clone(), asked)));
    }

    /// Has a question sent off and not waited for. None where that is not possible: it is asked when
    /// its answer is wanted, and tells then what is wrong. The host's broker may want a password for
    /// each question, and is asked one at a time.
    fn ask_ahead<T, F>(&mut self, ask: impl FnOnce(Host1CallerProxy<'static>) -> F) -> Option<JoinHandle<T>>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        /// Sending takes the runtime a few turns.
        const TURNS: usize = 4;
        self.process.as_ref()?;
        let (runtime, proxy) = self.connect().ok()?;
        let asked = runtime.spawn(ask(proxy.clone()));
        runtime.block_on(async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        });
        Some(asked)
    }

    fn connect(&mut self) -> Result<(&tokio::runtime::Runtime, &Host1CallerProxy<'static>), BrokerError> {
        let way = std::mem::replace(&mut self.way, Way::Used);
        if !matches!(way, Way::Used) {
            let runtime = runtime()?;
            if let Way::SystemBus(instance) = &way
                && may_be_asked(instance)
            {
                self._agent = tty_agent::start();
            }
            let proxy = runtime
                .block_on(async {
                    let builder = match way {
                        Way::Pair(stream) => private_socket::builder(stream)?,
                        _ => zbus::connection::Builder::system(),
                    };
                    let connection = builder.build().await?;
                    Host1CallerProxy::builder(&connection)
                        .cache_properties(zbus::proxy::CacheProperties::No)
                        .build()
                        .await
                })
                .map_err(BrokerError::Unreachable)?;
            self.connection = Some((runtime, proxy));
        }
        let (runtime, proxy) =
            self.connection.as_ref().ok_or_else(|| BrokerError::Failed("the broker is gone".to_owned()))?;
        Ok((runtime, proxy))
    }

    /// A user namespace over the storage slice.
    pub fn storage_namespace(&mut self) -> Result<std::os::fd::OwnedFd, BrokerError> {
        let asked = self.ahead.storage.take();
        let (runtime, proxy) = self.connect()?;
        Ok(match asked {
            Some(asked) => heard(runtime.block_on(asked))?,
            None => runtime.block_on(proxy.storage_namespace())?,
        }
        .into())
    }

    /// See `Host1::setup`.
    pub fn setup(&mut self) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.setup()).map(drop)?)
    }

    /// See `Host1::ensure_network`.
    pub fn ensure_network(&mut self, network: &Network) -> Result<bool, BrokerError> {
        let asked = self.ahead.networks.iter().position(|(asked, _)| asked == network);
        let asked = asked.map(|place| self.ahead.networks.swap_remove(place).1);
        let (runtime, proxy) = self.connect()?;
        match asked {
            Some(asked) => heard(runtime.block_on(asked)),
            None => Ok(runtime.block_on(proxy.ensure_network(&json(network)?))?),
        }
    }

    /// See `Host1::remove_network`.
    pub fn remove_network(&mut self, network: &Network) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.remove_network(&json(network)?))?)
    }

    /// See `Host1::firewall_in_place`.
    pub fn firewall_in_place(&mut self) -> Result<bool, BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.firewall_in_place())?)
    }

    /// See `Host1::apply_firewall`.
    pub fn apply_firewall(
        &mut self,
        plan: &Plan,
        if_needed: bool,
    ) -> Result<(bool, Vec<String>), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        let plan = sealed_json(plan)?;
        Ok(runtime.block_on(proxy.apply_firewall(Fd::from(&plan), if_needed))?)
    }

    /// See `Host1::change_firewall`.
    pub fn change_firewall(&mut self, change: &Change) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        let change = sealed_json(change)?;
        Ok(runtime.block_on(proxy.change_firewall(Fd::from(&change)))?)
    }

    /// See `Host1::forget_container`.
    pub fn forget_container(&mut self, container: &str, addresses: &[IpAddr]) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        let addresses = addresses.iter().map(IpAddr::to_string).collect();
        Ok(runtime.block_on(proxy.forget_container(container, addresses))?)
    }

    /// See `Host1::block`.
    pub fn block(
        &mut self,
        add: &[KernelBlock],
        remove: &[KernelBlock],
        members: &[(ContainerId, Vec<IpAddr>)],
    ) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        let (add, remove) = (sealed::write(&block::encode(add))?, sealed::write(&block::encode(remove))?);
        let members = sealed_json(&members)?;
        Ok(runtime.block_on(proxy.block(Fd::from(&add), Fd::from(&remove), Fd::from(&members)))?)
    }

    /// See `Host1::block_hits`.
    pub fn block_hits(&mut self) -> Result<Vec<Hits>, BrokerError> {
        let (runtime, proxy) = self.connect()?;
        parsed(runtime.block_on(proxy.block_hits())?)
    }

    /// See `Host1::traffic`.
    pub fn traffic(&mut self) -> Result<BTreeMap<String, Traffic>, BrokerError> {
        let (runtime, proxy) = self.connect()?;
        parsed(runtime.block_on(proxy.traffic())?)
    }

    /// See `Host1::rule_counts`.
    pub fn rule_counts(&mut self) -> Result<Vec<RuleCount>, BrokerError> {
        let (runtime, proxy) = self.connect()?;
        parsed(runtime.block_on(proxy.rule_counts())?)
    }

    /// See `Host1::remove_firewall`.
    pub fn remove_firewall(&mut self, bridges: Vec<String>) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.remove_firewall(bridges))?)
    }

    /// See `Host1::ensure_names`.
    pub fn ensure_names(&mut self, network: &Network, leases: &[DnsLease]) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        let leases = sealed_json(&leases)?;
        Ok(runtime.block_on(proxy.ensure_names(&json(network)?, Fd::from(&leases)))?)
    }

    /// See `Host1::adjust_link`.
    pub fn adjust_link(&mut self, container: &str, order: &NicOrder) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.adjust_link(container, &json(order)?))?)
    }

    /// See `Host1::mend_link`.
    pub fn mend_link(
        &mut self,
        container: &str,
        order: &NicOrder,
    ) -> Result<(bool, Vec<String>), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.mend_link(container, &json(order)?))?)
    }

    /// See `Host1::spawn`.
    pub fn spawn(
        &mut self,
        mut order: SpawnOrder,
        nics: &[NicOrder],
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(i32, i32), BrokerError> {
        if self.outside.is_some_and(|slice| slice.base() == order.slice) {
            order.slice = INSIDE;
        }
        order.nics = json(&nics)?;
        let (runtime, proxy) = self.connect()?;
        let fds = fds.iter().map(|fd| Fd::from(fd.as_fd())).collect();
        Ok(runtime.block_on(proxy.spawn(order, fds))?)
    }

    /// See `Host1::set_limits`.
    pub fn set_limits(&mut self, container: &str, limits: Limits) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.set_limits(container, limits))?)
    }

    /// See `Host1::clear`.
    pub fn clear(&mut self, container: &str) -> Result<Vec<String>, BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.clear(container))?)
    }

    /// See `Host1::attach_lxcfs`.
    pub fn attach_lxcfs(&mut self, container: &str) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.attach_lxcfs(container))?)
    }

    /// See `Host1::register_machine`.
    pub fn register_machine(&mut self, container: &str, name: &str, uuid: &str) -> Result<(), BrokerError> {
        let (runtime, proxy) = self.connect()?;
        Ok(runtime.block_on(proxy.register_machine(container, name, uuid))?)
    }
}

/// Whether polkit may want to ask this user for a password: hostd asks it about those of whom the
/// administrator has said nothing, and members of the group pass unasked.
fn may_be_asked(instance: &Instance) -> bool {
    let (user, uid) = (instance.user(), rustix::process::geteuid().as_raw());
    let is_silent = grants::own(instance, user).is_ok_and(|grant| grant.is_none_or(|g| g.allow.is_none()));
    is_silent && !polkit::is_member(user, uid, instance.name())
}

/// The answer to a question that was asked ahead.
fn heard<T>(answer: Result<Result<T, HostError>, JoinError>) -> Result<T, BrokerError> {
    Ok(answer.map_err(|e| BrokerError::Failed(error_text(&e)))??)
}

/// Data of the model as the interface takes it.
fn json(value: &impl serde::Serialize) -> Result<String, BrokerError> {
    serde_json::to_string(value).map_err(|e| BrokerError::Failed(e.to_string()))
}

/// The same in a sealed memory file, which may be of any size.
fn sealed_json(value: &impl serde::Serialize) -> Result<OwnedFd, BrokerError> {
    Ok(sealed::write(json(value)?.as_bytes())?)
}

/// An answer: the broker is trusted to have its bounds.
fn parsed<T: serde::de::DeserializeOwned>(fd: zbus::OwnedFd) -> Result<T, BrokerError> {
    let text = sealed::read(&fd.into(), usize::MAX)?;
    serde_json::from_slice(&text).map_err(|e| BrokerError::Failed(e.to_string()))
}
