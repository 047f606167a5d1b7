//! What a monitor holds, and how it comes to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::asking::Asking;
use super::changes::Changes;
use super::clients::Clients;
use super::deferred::Deferred;
use super::freezer::Freezer;
use super::host_stop::HostStop;
use super::programs::Programs;
use super::stage::Stage;
use crate::model::monitor::StartReport;
use crate::model::template::InitKind;
use crate::runtime::boot::{self, Init};
use crate::runtime::config::{Inherited, MonitorConfig};
use crate::runtime::console::{Console, Log};
use crate::runtime::exec::Confinement;
use crate::runtime::protocol::StateRecord;
use crate::runtime::rootfs;
use crate::sys::net::seqpacket;
use crate::sys::{SysError, SysResult, cgroup};

/// The uid and gid that the kernel shows for users that this user namespace does not map.
const OVERFLOW_ID: u32 = 65_534;

pub struct Monitor {
    pub(super) config: MonitorConfig,
    pub(super) filter: Vec<u8>,
    pub(super) state: OwnedFd,
    pub(super) payload: OwnedFd,
    /// The guest's network namespace: kept, for its interface must outlive a reboot.
    pub(super) network: OwnedFd,
    pub(super) init: Init,
    pub(super) stage: Stage,
    pub(super) console: Option<Console>,
    pub(super) devpts: Option<OwnedFd>,
    pub(super) notify: Option<OwnedFd>,
    pub(super) clients: Clients,
    pub(super) programs: Programs,
    pub(super) freezer: Freezer,
    /// Of the guest's devices.
    pub(super) changes: Changes,
    pub(super) host_stop: HostStop,
    /// What init is asked for.
    pub(super) asking: Option<Asking>,
    /// Requests that wait until the guest has booted.
    pub(super) deferred: Vec<Deferred>,
    pub(super) record: StateRecord,
    pub(super) boots: Vec<Instant>,
    /// How many processes the kernel had killed for lack of memory when the guest booted.
    pub(super) killed_before: u64,
    /// The operator has asked for the guest's end, so a reboot counts as an end too.
    pub(super) stopping: bool,
}

impl Monitor {
    pub(super) fn start(mut inherited: Inherited) -> SysResult<Self> {
        let config = MonitorConfig::read(&mut inherited.config)?;
        let _ = rustix::process::setsid();
        let host_stop = HostStop::new()?;
        let log = Log::open(inherited.logs)?;
        let broker = inherited.broker;
        let booted = if let Some(pid) = config.adopt {
            boot::adopt(pid, inherited.init, inherited.network)?
        } else {
            rootfs::mount_overlay()?;
            boot::boot(&config, &inherited.payload, &inherited.network, || {
                match seqpacket::recv::<()>(&broker)? {
                    Some(_) => Ok(()),
                    None => Err(SysError::new("start the guest", std::io::ErrorKind::ConnectionAborted)),
                }
            })?
        };
        let record = StateRecord {
            monitor_pid: std::process::id() as i32,
            init_pid: booted.init.pid,
            // A guest that was taken over is past its boot and will not report it again.
            ready: config.adopt.is_some() || config.init_kind != InitKind::Systemd,
            boots: 1,
            stopping: false,
            ended: None,
        };
        let (master, devpts) = booted.terminals.map_or((None, None), |(m, d)| (Some(m), Some(d)));
        let monitor = Self {
            filter: config.filter(),
            state: inherited.state,
            killed_before: cgroup::oom_kills(inherited.payload.as_fd()),
            payload: inherited.payload,
            network: booted.network,
            console: master.map(|m| Console::new(m, log)),
            devpts,
            notify: booted.notify,
            clients: Clients::new(inherited.control, is_outside),
            programs: Programs::default(),
            freezer: Freezer::default(),
            changes: Changes::default(),
            host_stop,
            asking: None,
            deferred: Vec::new(),
            boots: vec![Instant::now()],
            stopping: false,
            record,
            init: booted.init,
            stage: Stage::Up,
            config,
        };
        monitor.write_record();
        seqpacket::send(&broker, &StartReport::Started { init_pid: monitor.init.pid }, &[])?;
        Ok(monitor)
    }

    pub(super) fn write_record(&self) {
        let _ = rustix::io::pwrite(&self.state, &self.record.to_bytes(), 0);
    }

    pub(super) fn confinement(&self) -> Confinement<'_> {
        Confinement { filter: &self.filter, rlimits: &self.config.rlimits }
    }
}

/// Only processes outside the guest's user namespace may speak to the monitor; the socket's directory,
/// which only the owner can enter, keeps all other users away.
fn is_outside(socket: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|peer| peer.uid.as_raw() == OVERFLOW_ID && peer.gid.as_raw() == OVERFLOW_ID)
}
