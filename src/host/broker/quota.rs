//! What an ordinary user's containers may use together: the grant, enforced by the kernel on the
//! cgroup that holds them all.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::host::services::bus;
use crate::host::services::bus::BusError;
use crate::host::services::systemd::Systemd;
use crate::model::grant::Grant;
use crate::sys::cgroup::home::Home;
use crate::sys::{Context, SysError, cgroup};

/// systemd's word for no bound.
const INFINITY: u64 = u64::MAX;
/// Microseconds of a period in which processor time is shared out.
const PERIOD: u64 = 100_000;

/// Why a bound is not in force.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The host has no controller that enforces the bound.
    #[error("your grant bounds {what}, which this host cannot enforce: its cgroup v2 has no '{controller}'")]
    Lacking { what: &'static str, controller: &'static str },
}

/// Puts the grant's bounds on the cgroup of all containers of this owner, and removes other bounds.
pub async fn apply(home: &Home, grant: &Grant) -> Result<(), QuotaError> {
    match home.slice() {
        Some(slice) => Ok(by_systemd(&slice, grant).await?),
        None => by_hand(&home.owner_dir(), grant),
    }
}

async fn by_systemd(slice: &str, grant: &Grant) -> Result<(), BusError> {
    let cpu = grant.cpu.map_or(INFINITY, |percent| u64::from(percent) * 10_000);
    let properties = [
        ("MemoryMax", grant.memory.unwrap_or(INFINITY)),
        ("MemorySwapMax", grant.memory.unwrap_or(INFINITY)),
        ("TasksMax", grant.processes.unwrap_or(INFINITY)),
        // Microseconds of processor time in a second.
        ("CPUQuotaPerSecUSec", cpu),
    ];
    Systemd::connect(Path::new(bus::SYSTEM)).await?.set_properties(slice, &properties).await
}

fn by_hand(dir: &Path, grant: &Grant) -> Result<(), QuotaError> {
    cgroup::make_parents(dir)?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty()).cannot(|| format!("open {}", dir.display()))?;
    let number = |bound: Option<u64>| bound.map_or("max".to_owned(), |n| n.to_string());
    let cpu = grant.cpu.map_or("max".to_owned(), |percent| (u64::from(percent) * PERIOD / 100).to_string());
    let bounds = [
        ("memory", "memory.max", number(grant.memory), grant.memory.is_some(), "memory"),
        // Swap is bounded by as many bytes as memory. Not every host has it.
        ("memory", "memory.swap.max", number(grant.memory), false, "swap"),
        ("pids", "pids.max", number(grant.processes), grant.processes.is_some(), "processes"),
        ("cpu", "cpu.max", format!("{cpu} {PERIOD}"), grant.cpu.is_some(), "processor time"),
    ];
    for (controller, file, value, wanted, what) in bounds {
        if dir.join(file).exists() {
            cgroup::write_at(fd.as_fd(), file, &value)?;
        } else if wanted {
            return Err(QuotaError::Lacking { what, controller });
        }
    }
    Ok(())
}
