//! Resource limits of processes, setrlimit(2): what a guest starts with, whatever the shell of
//! whoever starts it had.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Context, SysResult};
use crate::model::config::value::NO_LIMIT;
use crate::model::limits;

/// What a guest has where its configuration says nothing: what the kernel gives to a machine's own
/// init (include/asm-generic/resource.h), but for open files, of which systemd wants many, and
/// counts of a user, which other limits bound. `core` is off, as there.
const DEFAULTS: [(&str, u64, u64); 15] = [
    ("as", NO_LIMIT, NO_LIMIT),
    ("core", 0, NO_LIMIT),
    ("cpu", NO_LIMIT, NO_LIMIT),
    ("data", NO_LIMIT, NO_LIMIT),
    ("fsize", NO_LIMIT, NO_LIMIT),
    ("locks", NO_LIMIT, NO_LIMIT),
    ("memlock", 8 << 20, NO_LIMIT),
    ("msgqueue", 819_200, NO_LIMIT),
    ("nice", 0, 0),
    ("nofile", 1024, 1 << 20),
    ("nproc", NO_LIMIT, NO_LIMIT),
    ("rtprio", 0, 0),
    ("rttime", NO_LIMIT, NO_LIMIT),
    ("sigpending", NO_LIMIT, NO_LIMIT),
    ("stack", 8 << 20, NO_LIMIT),
];

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

fn value(number: u64) -> Option<u64> {
    (number != NO_LIMIT).then_some(number)
}

/// Sets this process's limit; where hard limits may not be raised, as near to it as may be.
fn set_near(resource: Resource, soft: u64, hard: u64) {
    let wanted = Rlimit { current: value(soft), maximum: value(hard) };
    if setrlimit(resource, wanted) == Err(Errno::PERM) {
        let most = getrlimit(resource).maximum.unwrap_or(NO_LIMIT);
        let (soft, hard) = (soft.min(most), hard.min(most));
        let _ = setrlimit(resource, Rlimit { current: value(soft), maximum: value(hard) });
    }
}

/// To be called before a user namespace is made: the soft limits of its maker are recorded in it
/// as ceilings of all that is ever counted there (Linux 5.14, kernel/ucount.c).
pub fn lift_ceilings() {
    for name in ["nproc", "sigpending", "msgqueue", "memlock"] {
        if let Some(resource) = resource(name) {
            set_near(resource, NO_LIMIT, NO_LIMIT);
        }
    }
}

/// Gives this process, which is to be a monitor, the defaults; hard limits above them where
/// `asked` has such. Its guest's processes inherit them and take on what was asked by `apply`,
/// which a monitor itself could not live with: CPU seconds, for example.
///
/// # Errors
/// Where a hard limit that was asked for cannot be had; defaults come as near as they may.
pub fn prepare(asked: &[limits::Rlimit]) -> SysResult<()> {
    for (name, soft, hard) in DEFAULTS {
        let Some(resource) = resource(name) else { continue };
        set_near(resource, soft, hard);
        let Some(limit) = asked.iter().find(|limit| limit.resource == name) else { continue };
        let now = getrlimit(resource);
        if now.maximum.is_some_and(|most| limit.hard > most) {
            setrlimit(resource, Rlimit { current: now.current, maximum: value(limit.hard) })
                .cannot(|| describe(limit))?;
        }
    }
    Ok(())
}

/// Gives this process the limits of a guest's programs; the defaults are inherited.
pub fn apply(asked: &[limits::Rlimit]) -> SysResult<()> {
    for limit in asked {
        let Some(resource) = resource(&limit.resource) else { continue };
        let wanted = Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        setrlimit(resource, wanted).cannot(|| describe(limit))?;
    }
    Ok(())
}

fn describe(limit: &limits::Rlimit) -> String {
    let text = |n| value(n).map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    format!("set limits.kernel.{} to {}:{}", limit.resource, text(limit.soft), text(limit.hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_of_the_model_has_a_default() {
        assert_eq!(DEFAULTS.map(|(name, ..)| name), limits::RLIMITS);
        assert!(limits::RLIMITS.iter().all(|name| resource(name).is_some()));
    }
}
