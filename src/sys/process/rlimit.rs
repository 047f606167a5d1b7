//! Resource limits of processes, setrlimit(2): what a guest starts with, whatever the shell of
//! whoever starts it had.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::config::value::NO_LIMIT;
use crate::model::limits;
use crate::model::rlimits::{DEFAULTS, USUAL_FILES, most_of_users};
use crate::sys::{Context, SysResult};

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

/// Allows this process as many open files as it may have.
pub fn raise_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
}

/// What may be counted in a user namespace, whoever counts in there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceilings {
    /// A guest's, with so many processes.
    OfGuest { processes: u64 },
    /// An ordinary user's, who may have as much inside as outside.
    OfUser(u32),
}

impl Ceilings {
    pub const NONE: Self = Self::OfGuest { processes: NO_LIMIT };
}

/// What is counted for each user: its name, and what /proc/PID/limits calls it. The last is for a user
/// of whom nothing is known: files are worked on with few processes.
const COUNTED: [(&str, &str, u64); 4] = [
    ("nproc", "Max processes", 64),
    ("sigpending", "Max pending signals", 64),
    ("msgqueue", "Max msgqueue size", 0),
    ("memlock", "Max locked memory", 64 << 10),
];

/// To be called before a user namespace is made: the soft limits of its maker are recorded in it
/// as ceilings of all that is ever counted there (Linux 5.14, kernel/ucount.c).
pub fn set_ceilings(ceilings: Ceilings) {
    for (name, told_as, few) in COUNTED {
        let most = match ceilings {
            Ceilings::OfGuest { processes } if name == "nproc" => processes,
            Ceilings::OfGuest { .. } => NO_LIMIT,
            Ceilings::OfUser(uid) => highest_of(uid, told_as).unwrap_or(few),
        };
        if let Some(resource) = resource(name) {
            set_near(resource, most, NO_LIMIT);
        }
    }
}

/// The highest hard limit that a process of this user has: whoever calls is one of them.
fn highest_of(uid: u32, told_as: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let all = std::fs::read_dir("/proc").ok()?.flatten();
    let own = all.filter(|entry| {
        let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        is_process && entry.metadata().is_ok_and(|meta| meta.uid() == uid)
    });
    let texts = own.filter_map(|entry| std::fs::read_to_string(entry.path().join("limits")).ok());
    texts.filter_map(|text| hard_limit(&text, told_as)).max()
}

/// How many open files this process can give to those whom it starts, as far as guests want them. Found
/// out by lifting its own hard limit, which not even every root may.
pub fn files_to_give() -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.maximum.is_some_and(|most| most < USUAL_FILES) {
        set_near(Resource::Nofile, now.current.unwrap_or(USUAL_FILES), USUAL_FILES);
    }
    getrlimit(Resource::Nofile).maximum.unwrap_or(NO_LIMIT)
}

/// How many files a process may have open, as it was given to it.
pub fn files_of(pid: i32) -> Option<u64> {
    hard_limit(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?, "Max open files")
}

/// Of /proc/PID/limits: name, soft limit, hard limit, unit.
fn hard_limit(text: &str, told_as: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(told_as))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(NO_LIMIT),
        number => number.parse().ok(),
    }
}

/// How many processes and threads a guest has at most where its configuration does not say more: half
/// of those that the host has room for, so that no guest takes all of them.
pub fn usual_processes() -> u64 {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let all = number("pid_max").into_iter().chain(number("threads-max")).min();
    all.map_or(NO_LIMIT, |all| all / 2)
}

/// Gives this process, which is to be a monitor, the defaults, an ordinary user's where `of_user`
/// says so; hard limits above them where `asked` has such. Its guest's processes inherit them and
/// take on what was asked by `apply`, which a monitor itself could not live with: CPU seconds, for
/// example.
///
/// # Errors
/// Where a hard limit that was asked for cannot be had; defaults come as near as they may.
pub fn prepare(asked: &[limits::Rlimit], of_user: bool) -> SysResult<()> {
    for (name, soft, hard) in DEFAULTS {
        let Some(resource) = resource(name) else { continue };
        let usual = if of_user { most_of_users(name) } else { hard };
        let asked = asked.iter().find(|limit| limit.resource == name);
        // Never first lowered and then raised, which takes a right that not everybody has.
        let hard = asked.map_or(usual, |limit| limit.hard.max(usual));
        set_near(resource, soft.min(hard), hard);
        let Some(limit) = asked else { continue };
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
    fn limits_of_a_process_are_read_as_the_kernel_writes_them() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        for (name, told_as, _) in COUNTED {
            let hard = getrlimit(resource(name).unwrap()).maximum.unwrap_or(NO_LIMIT);
            assert_eq!(hard_limit(&text, told_as), Some(hard), "{name}");
        }
        let own = rustix::process::geteuid().as_raw();
        assert!(highest_of(own, "Max processes") >= hard_limit(&text, "Max processes"));
        assert_eq!(highest_of(4_000_000_000, "Max processes"), None);
        assert_eq!(files_of(std::process::id() as i32), getrlimit(Resource::Nofile).maximum);
        assert_eq!(files_to_give(), getrlimit(Resource::Nofile).maximum.unwrap_or(NO_LIMIT));
        assert!((64..=1 << 21).contains(&usual_processes()));
    }

    #[test]
    fn every_resource_of_the_model_is_known() {
        assert!(limits::RLIMITS.iter().all(|name| resource(name).is_some()));
    }
}
