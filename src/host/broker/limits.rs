//! Limits as the broker gets them from its caller, who is not trusted: it checks them and applies them to a
//! container's cgroup.

use std::collections::HashSet;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::spawn::LauncherContext;
use crate::host::api::error::HostError;
use crate::model::config::value::{NO_LIMIT, cpu_set};
use crate::model::grant::Grant;
use crate::model::granted;
use crate::model::instance::Instance;
use crate::model::limits::{Limits, RLIMITS};
use crate::model::name::ContainerId;
use crate::sys::cgroup::home::Home;
use crate::sys::cgroup::limits;
use crate::sys::cgroup::limits::ApplyError;
use crate::sys::{Context, cgroup, error_text};

/// Most disks that are limited at once.
const MOST_DISKS: usize = 64;
/// Longest list of CPUs.
const LONGEST_LIST: usize = 4096;

/// Whether the kernel would take these limits, on devices that exist.
pub fn check(limits: &Limits) -> Result<(), HostError> {
    let rule = |good: bool, what: &str| {
        if good { Ok(()) } else { Err(HostError::Refused(format!("these limits make no sense: {what}"))) }
    };
    rule(limits.numbers.are_sound(), "too little, or of nothing that can be limited")?;
    rule((1000..=1_000_000).contains(&limits.cpu_period), "the CPU period is not 1 ms to 1 s")?;
    let quota = limits.cpu_quota;
    rule(
        quota == NO_LIMIT || (1000..=1_000_000_000).contains(&quota),
        "the CPU quota is not 1 ms to 1000 s",
    )?;
    let weights = [limits.cpu_weight, limits.io_weight];
    rule(weights.iter().all(|weight| (1..=10_000).contains(weight)), "a weight is not 1 to 10000")?;
    rule(limits.cpus.len() <= LONGEST_LIST && cpu_set(&limits.cpus).is_some(), "no list of CPUs")?;
    rule(limits.io_max.len() <= MOST_DISKS, "too many disks")?;
    let mut seen = HashSet::new();
    for disk in &limits.io_max {
        let number = format!("{}:{}", disk.major, disk.minor);
        rule(seen.insert((disk.major, disk.minor)), "a disk twice")?;
        rule([disk.rbps, disk.wbps, disk.riops, disk.wiops].iter().all(|n| *n > 0), "no reading or writing")?;
        rule(Path::new("/sys/dev/block").join(&number).exists(), &format!("there is no disk {number}"))?;
    }
    let mut named = HashSet::new();
    rule(
        limits.rlimits.iter().all(|limit| {
            limit.soft <= limit.hard
                && RLIMITS.contains(&limit.resource.as_str())
                && named.insert(&limit.resource)
        }),
        "a resource limit",
    )
}

/// A limit above what the administrator grants the caller is refused: a promise that would not be
/// kept, or more of the host than the caller may have.
pub fn check_grant(instance: &Instance, limits: &Limits, grant: Option<&Grant>) -> Result<(), HostError> {
    let Some(grant) = grant else { return Ok(()) };
    match granted::clamp(&mut limits.clone(), grant).first() {
        Some(excess) => Err(HostError::Refused(excess.told(instance.user()))),
        None => Ok(()),
    }
}

/// The error for limits that could not be applied.
pub fn told(error: &ApplyError) -> HostError {
    match error {
        ApplyError::Lacking { .. } => HostError::Lacking(error_text(error)),
        _ => HostError::Failed(error_text(error)),
    }
}

impl LauncherContext {
    /// Applies `limits`, which were checked, to a container that runs.
    pub fn set_limits(&self, container: &ContainerId, limits: &Limits) -> Result<(), HostError> {
        let failed = |e: crate::sys::SysError| HostError::Failed(error_text(&e));
        let dir = Home::find(&self.instance).map_err(failed)?.container_dir(container);
        // While the guest boots again, only its monitor runs.
        if !cgroup::populated(&dir) {
            return Err(HostError::Refused(format!("container {container} is not running")));
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = dir.join("payload");
        let payload = rustix::fs::open(&dir, flags, Mode::empty())
            .cannot(|| format!("open {}", dir.display()))
            .map_err(failed)?;
        limits::apply(std::os::fd::AsFd::as_fd(&payload), limits).map_err(|e| told(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::{IoMax, Rlimit};

    fn refused(limits: &Limits) -> bool {
        matches!(check(limits), Err(HostError::Refused(_)))
    }

    #[test]
    fn nonsense_is_refused() {
        let usual = Limits::default;
        let number = |file, n| Limits { numbers: [(file, n)].into(), ..usual() };
        check(&usual()).unwrap();
        let disk = |minor| IoMax { major: 0, minor, rbps: 1, wbps: 1, riops: 1, wiops: 1 };
        let rlimit = |resource: &str, soft, hard| vec![Rlimit { resource: resource.into(), soft, hard }];
        let twice = [rlimit("nofile", 1, 2), rlimit("nofile", 1, 2)].concat();
        for bad in [
            number("memory.max", 0),
            number("memory.high", 4096),
            number("../pids.max", 5),
            number("cgroup.procs", 1),
            Limits { cpu_period: 0, ..usual() },
            Limits { cpu_period: NO_LIMIT, ..usual() },
            Limits { cpu_quota: 1, ..usual() },
            Limits { cpu_weight: 0, ..usual() },
            Limits { io_weight: 10_001, ..usual() },
            Limits { cpus: "0\n1".into(), ..usual() },
            Limits { cpus: "0-4294967295".into(), ..usual() },
            Limits { cpus: "0,".repeat(LONGEST_LIST), ..usual() },
            number("pids.max", 0),
            Limits { io_max: vec![disk(4_294_967_295)], ..usual() },
            Limits { io_max: (0..65).map(disk).collect(), ..usual() },
            Limits { rlimits: rlimit("nofile", 2, 1), ..usual() },
            Limits { rlimits: rlimit("../nofile", 1, 1), ..usual() },
            Limits { rlimits: twice, ..usual() },
        ] {
            assert!(refused(&bad), "{bad:?}");
        }
        check(&Limits { cpus: "0-3,5".into(), rlimits: rlimit("nofile", 1, 2), ..usual() }).unwrap();
    }
}
