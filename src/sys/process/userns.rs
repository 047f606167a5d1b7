//! User namespaces: made, mapped, and held by a descriptor.
#![allow(unsafe_code)]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::thread::{CapabilitiesSecureBits, LinkNameSpaceType, UnshareFlags};

use super::child::Child;
use super::failed::{Doing, Failed};
use super::fork::Fork;
use super::identity::{become_ids, unshare};
use super::rlimit::{self, Ceilings};
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::sys::{Context, SysError, SysResult};

/// A process on its way to a namespace of its own, waiting for its id maps.
pub struct Helper {
    child: Child,
    /// Once for each step it says that it has done it, and we that it may go on.
    steps: OwnedFd,
}

/// Which ids the process that makes the namespace takes on before it does.
#[derive(Clone, Copy)]
pub enum Creator {
    /// The caller's own.
    Caller,
    /// This uid and gid, with no supplementary group. The kernel charges what the namespace's
    /// processes use of per-user limits (inotify instances, namespaces) to the uid that made it.
    Id(u32),
    /// The same, where the caller is root of a user namespace and not of the host: the process's
    /// files in /proc stay in the caller's reach.
    Within(u32),
}

impl Creator {
    fn take_on(self) -> Result<(), Failed> {
        if let Creator::Id(id) | Creator::Within(id) = self {
            // Keeps the capabilities across the change of uid: hosts that forbid unprivileged
            // user namespaces let this process make one.
            rustix::thread::set_capabilities_secure_bits(
                CapabilitiesSecureBits::NO_SETUID_FIXUP | CapabilitiesSecureBits::KEEP_CAPS,
            )
            .doing("keep capabilities")?;
            become_ids(id, id)?;
        }
        if let Creator::Within(_) = self {
            // A change of ids gives them to the host's root.
            rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)
                .doing("keep the process in reach")?;
        }
        Ok(())
    }
}

/// Becomes uid and gid 0 of the user namespace that the process is in.
pub fn become_root_inside() -> SysResult<()> {
    Ok(become_ids(0, 0)?)
}

/// Becomes `uid` and `gid` with no supplementary group and no capability, for good.
pub fn become_user(uid: u32, gid: u32) -> SysResult<()> {
    Ok(become_ids(uid, gid)?)
}

/// Starts a process that unshares a user namespace as `creator`; with `network`, once it is mapped
/// and has become its root, a network namespace too, which that root then owns.
pub fn start(creator: Creator, network: bool, ceilings: Ceilings) -> SysResult<Helper> {
    let fork = Fork::new("make a namespace");
    let (child, steps) = fork.start_with_socket(|steps| {
        let run = || -> SysResult<()> {
            rlimit::set_ceilings(ceilings);
            creator.take_on()?;
            unshare(UnshareFlags::NEWUSER)?;
            step(&steps)?;
            wait_for(&steps)?;
            if network {
                become_root_inside()?;
                unshare(UnshareFlags::NEWNET)?;
                step(&steps)?;
                wait_for(&steps)?;
            }
            Ok(())
        };
        i32::from(run().is_err())
    })?;
    Ok(Helper { child, steps })
}

/// A user namespace that maps its ids from 0 on to those of `id_range`. As for a container, a process makes it
/// that has become the first of these ids and has kept its capabilities: the kernel charges what the
/// namespace uses to that id, and hosts that forbid unprivileged namespaces allow this one. The caller is
/// real root.
pub fn over(id_range: IdRange) -> SysResult<OwnedFd> {
    start(Creator::Id(id_range.base()), false, Ceilings::NONE)?.map(0, id_range)
}

impl Helper {
    /// Writes the same map for users and groups: ids from `inside` on to those of `outside`. The
    /// namespace lives as long as the descriptor that comes back, or a process in it.
    pub fn map(&self, inside: u32, outside: IdRange) -> SysResult<OwnedFd> {
        let line = format!("{inside} {} {IDS_PER_RANGE}\n", outside.base());
        self.map_lines(&line, &line)
    }

    /// The same with the lines of both maps.
    pub fn map_lines(&self, uids: &str, gids: &str) -> SysResult<OwnedFd> {
        wait_for(&self.steps).map_err(|_| self.failed("make a user namespace"))?;
        for (file, lines) in [("uid_map", uids), ("gid_map", gids)] {
            let path = format!("/proc/{}/{file}", self.child.pid);
            std::fs::write(&path, lines).cannot(|| format!("write '{}' to {path}", lines.trim_end()))?;
        }
        let namespace = self.open("user")?;
        step(&self.steps)?;
        Ok(namespace)
    }

    /// The network namespace, for a helper that was asked for one and has been mapped.
    pub fn network(&self) -> SysResult<OwnedFd> {
        wait_for(&self.steps).map_err(|_| self.failed("make a network namespace"))?;
        self.open("net")
    }

    fn open(&self, kind: &str) -> SysResult<OwnedFd> {
        open_ns(self.child.pid, kind)
    }

    fn failed(&self, what: &str) -> SysError {
        SysError::new(what, std::io::Error::other("the helper process gave up (see user.max_*_namespaces)"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.child.kill();
    }
}

/// Opens namespace `kind` (as in /proc/PID/ns) of process `pid`.
pub fn open_ns(pid: i32, kind: &str) -> SysResult<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    std::fs::File::open(&path).map(OwnedFd::from).cannot(|| format!("open {path}"))
}

/// Enters the namespace behind `fd`.
pub fn enter(fd: &OwnedFd, kind: LinkNameSpaceType, name: &str) -> SysResult<()> {
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(fd), Some(kind))
        .cannot(|| format!("enter the {name} namespace"))
}

/// Whether process `pid` is in a user namespace that maps 0 on to exactly `id_range`.
pub fn is_mapped_to(pid: i32, id_range: IdRange) -> bool {
    ["uid_map", "gid_map"].iter().all(|file| {
        let mut text = String::new();
        let path = Path::new("/proc").join(pid.to_string()).join(file);
        let read = std::fs::File::open(path).and_then(|f| f.take(4096).read_to_string(&mut text));
        let words: Vec<_> = text.split_whitespace().collect();
        read.is_ok() && words == ["0", &id_range.base().to_string(), &IDS_PER_RANGE.to_string()]
    })
}

/// The number of `uid` in the namespace outside this process's.
pub fn uid_outside(uid: u32) -> u32 {
    let text = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outside(&text, uid).unwrap_or(uid)
}

fn outside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut words = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (words.next()?.ok()?, words.next()?.ok()?, words.next()?.ok()?);
        let offset = uid.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

fn step(fd: &OwnedFd) -> SysResult<()> {
    rustix::io::write(fd, b"x").cannot(|| "signal a step").map(drop)
}

fn wait_for(fd: &OwnedFd) -> SysResult<()> {
    let mut byte = [0u8; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut byte)).cannot(|| "wait for a step")? {
        0 => Err(SysError::new("wait for a step", std::io::ErrorKind::UnexpectedEof)),
        _ => Ok(()),
    }
}

/// How many pid namespaces process `pid` is in, the host's included, and its number in the
/// innermost.
pub fn pid_namespace_depth(pid: i32) -> Option<(usize, i32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers: Vec<i32> = status
        .lines()
        .find_map(|l| l.strip_prefix("NSpid:"))?
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    Some((numbers.len(), *numbers.last()?))
}

/// The user namespace that owns namespace `ns`.
pub fn owner_of(ns: &OwnedFd) -> SysResult<OwnedFd> {
    use std::os::fd::{AsRawFd, FromRawFd};
    /// NS_GET_USERNS = _IO(0xb7, 1), ioctl_ns(2).
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument and returns a new descriptor.
    let fd = unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(SysError::last("find the owner of a namespace"));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_processes_have_an_end_without_a_cgroup() {
        use std::os::unix::process::CommandExt;
        let id_range = IdRange::at(3_900_000_256).unwrap();
        let ceilings = Ceilings::OfGuest { processes: 20 };
        let namespace =
            start(Creator::Id(id_range.base()), false, ceilings).unwrap().map(0, id_range).unwrap();
        let script = "n=0; while [ $n -lt 40 ]; do sleep 2 & n=$((n+1)); done; echo all";
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]);
        let mut run = |raised: bool| {
            let namespace = namespace.try_clone().unwrap();
            // SAFETY: between fork and exec, system calls only.
            unsafe {
                command.pre_exec(move || {
                    if raised {
                        enter(&namespace, LinkNameSpaceType::User, "test's user")
                            .map_err(std::io::Error::other)?;
                        become_root_inside().map_err(std::io::Error::other)?;
                    }
                    Ok(())
                });
            }
            let output = command.output().unwrap();
            (
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )
        };
        assert_eq!(run(false).0, "all\n");
        let (said, complaint) = run(true);
        assert!(said.is_empty() && complaint.to_lowercase().contains("fork"), "{said} {complaint}");
    }

    #[test]
    fn a_map_is_read_from_within() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 65536), Some(165_535));
        assert_eq!(outside(map, 65537), None);
        assert_eq!(outside("0 0 4294967295\n", 1000), Some(1000));
    }
}
