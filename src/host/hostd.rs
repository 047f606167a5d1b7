//! nagaya-hostd: the broker's interface on the system bus, for ordinary users. It has no right of its
//! own: it learns from the bus who calls, from polkit and the administrator's grants whether that
//! user may, and passes the call on to a worker of the broker's that stands for this user alone. What
//! is large passes through as a memory file, unread.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::net::UnixStream;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::{Connection, Fd, OwnedFd as BusFd};

use super::callers::{Call, Callers};
use super::error::HostError;
use super::interface::{PATH, SpawnOrder};
use super::polkit::Action;
use super::{bounded_bus, listener};
use crate::model::instance::Instance;
use crate::model::limits::Limits;
use crate::sys::{Context, SysError, SysResult, error_text};

/// The name on the bus.
pub const BUS_NAME: &str = "org.nagaya.Host1";
/// How often it is looked whether there is anything left to do.
const GLANCE: Duration = Duration::from_secs(1);

/// The object on the bus.
struct Front {
    callers: Arc<Callers>,
}

/// Serves until nobody has called for `idle`. To be run as an unprivileged user who may connect to
/// the broker's socket; root gives itself up to become that user.
pub fn run(instance: &Instance, idle: Duration) -> SysResult<()> {
    let broker = match rustix::process::geteuid().is_root() {
        true => Some(listener::beside(instance)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .cannot(|| "start the event loop")?;
    let served = runtime.block_on(serve(instance, idle, broker));
    served.map_err(|e| SysError::new("serve on the system bus", std::io::Error::other(error_text(&e))))
}

/// `broker` is the one beside it, if there is: without that nobody new can be served.
async fn serve(instance: &Instance, idle: Duration, broker: Option<StdStream>) -> zbus::Result<()> {
    let callers = Arc::new(Callers::new(instance));
    let front = Front { callers: callers.clone() };
    let connection = bounded_bus::builder()?.serve_at(PATH, front).build().await?;
    let mut departures = DBusProxy::new(&connection).await?.receive_name_owner_changed().await?;
    connection.request_name(BUS_NAME).await?;
    let mut end = std::pin::pin!(end_of(broker));
    let (mut busy, mut is_ending) = (Instant::now(), false);
    while !is_ending || !callers.is_empty() {
        let change = std::pin::pin!(tokio::time::timeout(GLANCE, departures.next()));
        let heard = match is_ending {
            true => Some(change.await),
            false => match select(change, &mut end).await {
                Either::Left((heard, _)) => Some(heard),
                Either::Right(_) => None,
            },
        };
        match heard {
            Some(Ok(Some(change))) => {
                let args = change.args()?;
                if let (BusName::Unique(name), None) = (args.name(), args.new_owner().as_ref()) {
                    callers.depart(&OwnedUniqueName::from(name.to_owned()));
                    busy = Instant::now();
                }
            }
            // The bus is gone.
            Some(Ok(None)) => return Ok(()),
            Some(Err(_)) if !callers.is_empty() => busy = Instant::now(),
            Some(Err(_)) if busy.elapsed() < idle || is_ending => {}
            // Nobody has called for long, or the broker has ended.
            _ => {
                // Calls that come from here on start another hostd; those that are here already are served.
                connection.release_name(BUS_NAME).await?;
                is_ending = true;
            }
        }
    }
    Ok(())
}

/// Waits until the other end is closed; for ever where there is none.
async fn end_of(stream: Option<StdStream>) {
    let watched = stream.and_then(|stream| {
        stream.set_nonblocking(true).ok()?;
        UnixStream::from_std(stream).ok()
    });
    match watched {
        Some(stream) => drop(stream.readable().await),
        None => std::future::pending().await,
    }
}

impl Front {
    /// The worker of whoever calls, if it may do `action`.
    async fn worker(
        &self,
        header: &Header<'_>,
        connection: &Connection,
        action: Action,
    ) -> Result<Call, HostError> {
        self.callers.call(header.sender(), connection, action).await
    }
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
        plan: BusFd,
        if_needed: bool,
    ) -> Result<(bool, Vec<String>), HostError> {
        let worker = self.worker(&header, connection, Action::Network).await?;
        worker.apply_firewall(Fd::from(&plan), if_needed).await
    }

    async fn change_firewall(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        change: BusFd,
    ) -> Result<(), HostError> {
        self.worker(&header, connection, Action::Network).await?.change_firewall(Fd::from(&change)).await
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
        add: BusFd,
        remove: BusFd,
        members: BusFd,
    ) -> Result<(), HostError> {
        let worker = self.worker(&header, connection, Action::Network).await?;
        worker.block(Fd::from(&add), Fd::from(&remove), Fd::from(&members)).await
    }

    async fn block_hits(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<BusFd, HostError> {
        self.worker(&header, connection, Action::Network).await?.block_hits().await
    }

    async fn traffic(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<BusFd, HostError> {
        self.worker(&header, connection, Action::Network).await?.traffic().await
    }

    async fn rule_counts(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<BusFd, HostError> {
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
        leases: BusFd,
    ) -> Result<(), HostError> {
        let worker = self.worker(&header, connection, Action::Network).await?;
        worker.ensure_names(network, Fd::from(&leases)).await
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
