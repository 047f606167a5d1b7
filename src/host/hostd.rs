//! nagaya-hostd: the broker's interface on the system bus, for ordinary users. It has no right of its
//! own: it learns from the bus who calls, from polkit and the administrator's grants whether that
//! user may, and passes the call on to a worker of the broker's that stands for this user alone.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::Mutex;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, Fd, OwnedFd as BusFd};

use super::error::HostError;
use super::interface::{Host1CallerProxy, PATH, SpawnOrder};
use super::polkit::{self, Action, Verdict};
use super::{grants, listener, private_socket};
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::sys::{Context, SysError, SysResult, error_text, passwd};

/// The name on the bus.
pub const BUS_NAME: &str = "org.nagaya.Host1";
/// Commands of one user at once: each has a worker.
const WORKERS_OF_USER: usize = 64;
/// How often it is looked whether there is anything left to do.
const GLANCE: Duration = Duration::from_secs(1);

/// Somebody on the bus who has called, until that connection closes.
struct Caller {
    uid: u32,
    user: String,
    worker: Option<Host1CallerProxy<'static>>,
    allowed: HashSet<Action>,
}

type Callers = Arc<Mutex<HashMap<OwnedUniqueName, Caller>>>;

/// The object on the bus.
struct Front {
    instance: Instance,
    broker_socket: PathBuf,
    callers: Callers,
}

/// Serves until nobody has called for `idle`. To be run as an unprivileged user who may connect to
/// the broker's socket; root gives itself up to become that user.
pub fn run(instance: &Instance, idle: Duration) -> SysResult<()> {
    if rustix::process::geteuid().is_root() {
        listener::beside(instance)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .cannot(|| "start the event loop")?;
    let served = runtime.block_on(serve(instance, idle));
    served.map_err(|e| SysError::new("serve on the system bus", std::io::Error::other(error_text(&e))))
}

async fn serve(instance: &Instance, idle: Duration) -> zbus::Result<()> {
    let callers = Callers::default();
    let front = Front {
        instance: instance.clone(),
        broker_socket: listener::socket_path(instance),
        callers: callers.clone(),
    };
    let connection = zbus::connection::Builder::system().serve_at(PATH, front).build().await?;
    let mut departures = DBusProxy::new(&connection).await?.receive_name_owner_changed().await?;
    connection.request_name(BUS_NAME).await?;
    let mut busy = Instant::now();
    loop {
        match tokio::time::timeout(GLANCE, departures.next()).await {
            Ok(Some(change)) => {
                let args = change.args()?;
                if let (BusName::Unique(name), None) = (args.name(), args.new_owner().as_ref()) {
                    callers.lock().await.remove(&OwnedUniqueName::from(name.to_owned()));
                    busy = Instant::now();
                }
            }
            // The bus is gone.
            Ok(None) => return Ok(()),
            Err(_) if !callers.lock().await.is_empty() => busy = Instant::now(),
            Err(_) if busy.elapsed() >= idle => break,
            Err(_) => {}
        }
    }
    // Calls that come from here on start another hostd; those that are here already are served.
    connection.release_name(BUS_NAME).await?;
    while !callers.lock().await.is_empty() {
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

fn failed(error: impl std::error::Error) -> HostError {
    HostError::Failed(error_text(&error))
}

impl Front {
    /// The worker of whoever calls, if it may do `action`.
    async fn worker(
        &self,
        header: &Header<'_>,
        connection: &Connection,
        action: Action,
    ) -> Result<Host1CallerProxy<'static>, HostError> {
        let sender =
            header.sender().ok_or_else(|| HostError::Refused("the call has no sender".to_owned()))?;
        let sender = OwnedUniqueName::from(sender.to_owned());
        self.welcome(&sender, connection).await?;
        let (user, uid, allowed) = {
            let callers = self.callers.lock().await;
            let caller = callers.get(&sender).ok_or_else(gone)?;
            (caller.user.clone(), caller.uid, caller.allowed.contains(&action))
        };
        if !allowed {
            self.authorise(&sender, connection, &user, uid, action).await?;
        }
        let mut callers = self.callers.lock().await;
        let caller = callers.get_mut(&sender).ok_or_else(gone)?;
        caller.allowed.insert(action);
        if let Some(worker) = &caller.worker {
            return Ok(worker.clone());
        }
        let worker = self.hire(uid).await?;
        caller.worker = Some(worker.clone());
        Ok(worker)
    }

    /// Learns who the sender is.
    async fn welcome(&self, sender: &OwnedUniqueName, connection: &Connection) -> Result<(), HostError> {
        if self.callers.lock().await.contains_key(sender) {
            return Ok(());
        }
        let dbus = DBusProxy::new(connection).await.map_err(HostError::Bus)?;
        let name = BusName::Unique(sender.as_ref());
        let uid = dbus.get_connection_unix_user(name.clone()).await.map_err(failed)?;
        let user = user_of(uid)?;
        let mut callers = self.callers.lock().await;
        if callers.values().filter(|caller| caller.uid == uid).count() >= WORKERS_OF_USER {
            let why = format!("{WORKERS_OF_USER} of your commands are at work; wait for one of them");
            return Err(HostError::Refused(why));
        }
        callers.insert(sender.clone(), Caller { uid, user, worker: None, allowed: HashSet::new() });
        drop(callers);
        // One that left before it was in the list would stay there for good.
        if !dbus.name_has_owner(name).await.map_err(failed)? {
            self.callers.lock().await.remove(sender);
            return Err(gone());
        }
        Ok(())
    }

    /// The administrator's grant decides, and where that is silent polkit does.
    async fn authorise(
        &self,
        sender: &OwnedUniqueName,
        connection: &Connection,
        user: &str,
        uid: u32,
        action: Action,
    ) -> Result<(), HostError> {
        let id = action.id();
        match grants::own(&self.instance, user).map_err(failed)?.and_then(|grant| grant.allow) {
            Some(true) => return Ok(()),
            Some(false) => {
                return Err(HostError::Refused(format!("the administrator has barred user '{user}' ({id})")));
            }
            None => {}
        }
        let group = self.instance.name();
        match polkit::check(connection, sender.as_str(), action).await.map_err(failed)? {
            Verdict::Yes => Ok(()),
            Verdict::Absent if polkit::is_member(user, uid, group) => Ok(()),
            _ => Err(HostError::Refused(format!(
                "user '{user}' may not do this ({id}); an administrator can allow it: \
                 adduser {user} {group}, or: nagaya grant {user} allow=true"
            ))),
        }
    }

    /// A worker that stands for this user.
    async fn hire(&self, uid: u32) -> Result<Host1CallerProxy<'static>, HostError> {
        let hired = || -> std::io::Result<UnixStream> {
            let mut stream = UnixStream::connect(&self.broker_socket)?;
            stream.write_all(&uid.to_le_bytes())?;
            Ok(stream)
        };
        let stream = hired().map_err(|e| {
            HostError::Failed(format!("cannot reach the broker at {}: {e}", self.broker_socket.display()))
        })?;
        let connection = private_socket::builder(stream).map_err(failed)?.build().await?;
        let proxy = Host1CallerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await?;
        Ok(proxy)
    }
}

fn gone() -> HostError {
    HostError::Failed("the caller has left the bus".to_owned())
}

fn user_of(uid: u32) -> Result<String, HostError> {
    if uid == 0 {
        return Err(HostError::Refused("root needs no help: it has a broker of its own".to_owned()));
    }
    let text = std::fs::read("/etc/passwd").map_err(failed)?;
    let user = passwd::users(&String::from_utf8_lossy(&text)).find(|user| user.uid == uid);
    user.map(|user| user.name).ok_or_else(|| HostError::Refused(format!("uid {uid} is not in /etc/passwd")))
}

fn lent(fds: &[OwnedFd]) -> Vec<Fd<'_>> {
    fds.iter().map(Fd::from).collect()
}

/// What each verb does and checks is said at `Host1`; here it is only decided who may.
#[zbus::interface(name = "org.nagaya.Host1")]
impl Front {
    async fn setup(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<(u32, u32, u32, u32), HostError> {
        self.worker(&header, connection, Action::Setup).await?.setup().await
    }

    async fn storage_namespace(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<BusFd, HostError> {
        self.worker(&header, connection, Action::Containers).await?.storage_namespace().await
    }

    async fn ensure_network(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        network: &str,
    ) -> Result<bool, HostError> {
        self.worker(&header, connection, Action::Network).await?.ensure_network(network).await
    }

    async fn remove_network(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        network: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.remove_network(network).await
    }

    async fn firewall_in_place(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<bool, HostError> {
        self.worker(&header, connection, Action::Network).await?.firewall_in_place().await
    }

    async fn apply_firewall(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        plan: &str,
        if_needed: bool,
    ) -> Result<(bool, Vec<String>), HostError> {
        self.worker(&header, connection, Action::Network).await?.apply_firewall(plan, if_needed).await
    }

    async fn change_firewall(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        change: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.change_firewall(change).await
    }

    async fn forget_container(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
        addresses: Vec<String>,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.forget_container(container, addresses).await
    }

    async fn block(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        add: Vec<u8>,
        remove: Vec<u8>,
        members: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.block(add, remove, members).await
    }

    async fn block_hits(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, HostError> {
        self.worker(&header, connection, Action::Network).await?.block_hits().await
    }

    async fn traffic(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, HostError> {
        self.worker(&header, connection, Action::Network).await?.traffic().await
    }

    async fn rule_counts(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, HostError> {
        self.worker(&header, connection, Action::Network).await?.rule_counts().await
    }

    async fn remove_firewall(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        bridges: Vec<String>,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.remove_firewall(bridges).await
    }

    async fn ensure_names(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        network: &str,
        leases: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.ensure_names(network, leases).await
    }

    async fn adjust_link(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
        nic: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Containers).await?.adjust_link(container, nic).await
    }

    async fn mend_link(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
        nic: &str,
    ) -> Result<(bool, Vec<String>), HostError> {
        self.worker(&header, connection, Action::Containers).await?.mend_link(container, nic).await
    }

    async fn spawn(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        order: SpawnOrder,
        fds: Vec<BusFd>,
    ) -> Result<(i32, i32), HostError> {
        let fds: Vec<OwnedFd> = fds.into_iter().map(OwnedFd::from).collect();
        self.worker(&header, connection, Action::Containers).await?.spawn(order, lent(&fds)).await
    }

    async fn clear(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
    ) -> Result<Vec<String>, HostError> {
        self.worker(&header, connection, Action::Containers).await?.clear(container).await
    }

    async fn attach_lxcfs(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Containers).await?.attach_lxcfs(container).await
    }

    async fn register_machine(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
        name: &str,
        uuid: &str,
    ) -> Result<(), HostError> {
        let worker = self.worker(&header, connection, Action::Containers).await?;
        worker.register_machine(container, name, uuid).await
    }

    async fn set_limits(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        container: &str,
        limits: Limits,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Containers).await?.set_limits(container, limits).await
    }
}
