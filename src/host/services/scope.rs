//! A container's cgroup on a host with systemd: a scope that systemd makes around the stage child.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bus::{self, BusError};
use super::systemd::{Scope, Systemd};
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::net::seqpacket;
use crate::sys::{SysError, SysResult, cgroup};

/// Has systemd make the scope `unit` of container `name` around process `pid`.
pub async fn start(instance: &Instance, name: &str, unit: &str, pid: i32) -> Result<(), BusError> {
    let service = instance.name();
    let mut before = vec![format!("{service}.service")];
    let mut description = format!("Container {name}");
    match instance.uid_of_user() {
        Some(_) => description.push_str(&format!(" of {}", instance.user())),
        None => before.push(format!("{service}@{name}.service")),
    }
    let slice = instance.slice_unit();
    let scope = Scope { unit, slice: &slice, description: &description, pid, before };
    Systemd::connect(&bus_of(instance)).await?.start_scope(&scope).await
}

/// The bus of the systemd whose units the instance's containers are.
pub fn bus_of(instance: &Instance) -> PathBuf {
    match instance.run_dir().parent() {
        Some(dir) if instance.is_daemonless() => dir.join("bus"),
        _ => PathBuf::from(bus::SYSTEM),
    }
}

/// The same for a daemonless owner. None if there is none, or if it is not the owner's: its directory may
/// be one that all users can write.
pub fn own_bus(instance: &Instance) -> Option<PathBuf> {
    let bus = bus_of(instance);
    let uid = rustix::process::geteuid().as_raw();
    let is_ours = rustix::fs::lstat(&bus).is_ok_and(|stat| stat.st_uid == uid);
    (instance.is_daemonless() && is_ours).then_some(bus)
}

/// In the stage child: waits until the broker has moved it to its cgroup; the descriptor of the
/// guest's comes along.
pub fn await_payload(broker: &OwnedFd) -> SysResult<OwnedFd> {
    let gone = || SysError::new("enter the container's cgroup", std::io::ErrorKind::ConnectionAborted);
    let (_, fds) = seqpacket::recv::<()>(broker)?.ok_or_else(gone)?;
    fds.into_iter().next().ok_or_else(gone)
}

/// Removes what is ours in a scope without processes, and waits until systemd has removed the scope.
pub async fn dismiss(instance: &Instance, unit: &str, dir: &Path) -> Result<(), BusError> {
    for below in ["monitor", "payload"] {
        cgroup::remove(&dir.join(below))?;
    }
    if gone(dir, waits::SCOPE_EMPTY).await {
        return Ok(());
    }
    match Systemd::connect(&bus_of(instance)).await?.stop(unit).await {
        // systemd has forgotten a scope whose cgroup it could not remove, because a process was not quite
        // gone at that moment. Nobody else removes the directory then.
        Err(e) if e.name() == Some("org.freedesktop.systemd1.NoSuchUnit") => cgroup::remove(dir)?,
        other => other?,
    }
    if gone(dir, waits::SCOPE_STOP).await {
        return Ok(());
    }
    let reason = format!("{} is still there", dir.display());
    Err(BusError::Failed { what: format!("have systemd stop {unit}"), reason })
}

async fn gone(dir: &Path, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    while dir.exists() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(waits::SCOPE_POLL).await;
    }
    true
}
