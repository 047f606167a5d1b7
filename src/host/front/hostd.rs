//! nagaya-hostd: the broker's interface on the system bus, for ordinary users. It has no right of its
//! own: it learns from the bus who calls, from polkit and the administrator's grants whether that
//! user may, and passes the call on to a worker of the broker's that stands for this user alone. What
//! is large passes through as a memory file, unread.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::net::UnixStream;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, OwnedUniqueName};

use super::bounded_bus;
use super::callers::Callers;
use crate::host::api::address::{BUS_NAME, PATH};
use crate::host::api::error::HostError;
use crate::host::api::line::{Answers, Object};
use crate::host::api::packet::Packet;
use crate::host::api::verbs::Verb;
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::{Context, SysError, SysResult, error_text};

/// The object on the bus.
struct FrontEnd {
    callers: Arc<Callers>,
}

/// Serves until nobody has called for `idle`. To be run as an unprivileged user who may connect to
/// the broker's socket; root has `beside` leave a broker behind and becomes that user.
pub fn run(
    instance: &Instance,
    idle: Duration,
    beside: impl FnOnce(&Instance) -> SysResult<StdStream>,
) -> SysResult<()> {
    let broker = match rustix::process::geteuid().is_root() {
        true => Some(beside(instance)?),
        false => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .cannot(|| "start the event loop")?;
    let served = runtime.block_on(serve(instance, idle, broker));
    served.map_err(|e| SysError::new("serve on the system bus", std::io::Error::other(error_text(&e))))
}

/// `broker` is the connection to the broker beside it, if there is one: without that broker nobody new can
/// be served.
async fn serve(instance: &Instance, idle: Duration, broker: Option<StdStream>) -> zbus::Result<()> {
    let callers = Arc::new(Callers::new(instance));
    let front = FrontEnd { callers: callers.clone() };
    let connection = bounded_bus::builder()?.serve_at(PATH, Object(front)).build().await?;
    let mut departures = DBusProxy::new(&connection).await?.receive_name_owner_changed().await?;
    connection.request_name(BUS_NAME).await?;
    let mut end = std::pin::pin!(end_of(broker));
    let (mut busy, mut is_ending) = (Instant::now(), false);
    while !is_ending || !callers.is_empty() {
        let change = std::pin::pin!(tokio::time::timeout(waits::HOSTD_POLL, departures.next()));
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
                // Calls that come from now on start another hostd; those that are here already are served.
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

impl Answers for FrontEnd {
    /// The caller's worker answers, if the caller may call the verb.
    async fn answer(
        &self,
        verb: Verb,
        request: Packet,
        header: &Header<'_>,
        connection: &Connection,
    ) -> Result<Packet, HostError> {
        let call = self.callers.call(header.sender(), connection, verb.spec().action).await?;
        call.pass(verb, &request).await
    }
}
