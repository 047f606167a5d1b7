//! The namespaces in which an ordinary user is root: a user namespace over the user and 65,536 of
//! the user's subordinate ids, and a network namespace that its root owns. The user's containers
//! are within.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::fork::Fork;
use super::program::Program;
use super::{child, identity, sandbox, userns};
use crate::model::ids::{IDS_PER_RANGE, IdRange};
use crate::sys::net::seqpacket;
use crate::sys::programs::search::{self, NotInstalled};
use crate::sys::{Context, SysError, SysResult};

/// Where the subordinate ids begin inside; 0 is the user.
pub const INSIDE: u32 = 1;

/// Who is mapped: inside, 0 is `uid` and `gid`, and 1 to 65536 are those of `id_range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    pub uid: u32,
    pub gid: u32,
    pub id_range: IdRange,
}

/// Both namespaces, held by descriptors.
pub struct Outer {
    pub user: OwnedFd,
    pub network: OwnedFd,
}

/// Why there are no such namespaces.
#[derive(Debug, thiserror::Error)]
pub enum OuterError {
    #[error(transparent)]
    NoProgram(#[from] NotInstalled),
    #[error("'{command}' failed: {said}")]
    Program { command: String, said: String },
    /// A sysctl forbids them.
    #[error("this host forbids ordinary users their own user namespaces: {key} is {value}")]
    Forbidden { key: &'static str, value: String, wanted: &'static str },
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// What keeps an ordinary user from a user namespace: Debian's and Ubuntu's own switches, and the
/// kernel's. The value that forbids, and one that does not.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "65536"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
];

/// The switch that forbids user namespaces, as `read` has the values of sysctls. A program that an
/// AppArmor profile allows them may have them all the same.
pub fn forbidden(read: impl Fn(&str) -> Option<String>) -> Option<OuterError> {
    SWITCHES.iter().find_map(|(key, forbids, wanted)| {
        let value = read(key).map(|value| value.trim().to_owned()).filter(|value| value == forbids)?;
        Some(OuterError::Forbidden { key, value, wanted })
    })
}

/// Whether this process may make a user namespace and have rights in it.
///
/// # Errors
/// `Forbidden` with the switch, where one is why.
pub fn probe() -> Result<(), OuterError> {
    let trial = Fork::new("try to make a user namespace");
    let tried = trial.attempt(|_| identity::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET));
    tried.map_err(|e| {
        let errno = std::io::Error::from_raw_os_error(e.errno().unwrap_or(libc::EPERM));
        forbidden(sysctl).unwrap_or_else(|| SysError::new("make a user namespace", errno).into())
    })
}

/// The value of a sysctl by its dotted name.
pub fn sysctl(key: &str) -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys").join(key.replace('.', "/"))).ok()
}

impl Outer {
    /// Those that process `pid` stands in, if they are what [`start`] makes: its user namespace is
    /// the caller's and maps `outside`, and owns its network namespace.
    pub fn of_process(pid: i32, outside: &Outside) -> SysResult<Self> {
        let wrong = |why: &str| {
            SysError::new(
                format!("use the namespaces of process {pid}"),
                std::io::Error::other(why.to_owned()),
            )
        };
        let process = child::pidfd_open(pid)?;
        let found = Self { user: userns::open_ns(pid, "user")?, network: userns::open_ns(pid, "net")? };
        if !is_mapped(pid, outside) {
            return Err(wrong("it maps other ids"));
        }
        // If the process had ended in between, its number could be another's by now.
        child::signal(&process, 0)?;
        found.check(outside).map_err(|why| wrong(&why))?;
        Ok(found)
    }

    /// Those around a monitor, which stands in a namespace within and in the network namespace.
    pub fn around(pid: i32, outside: &Outside) -> SysResult<Self> {
        let process = child::pidfd_open(pid)?;
        let network = userns::open_ns(pid, "net")?;
        let found = Self { user: userns::owner_of(&network)?, network };
        let inner = userns::is_mapped_to(pid, outside.id_range);
        child::signal(&process, 0)?;
        let checked = if inner { found.check(outside) } else { Err("it is no monitor".to_owned()) };
        checked.map_err(|why| {
            SysError::new(format!("use the namespaces around process {pid}"), std::io::Error::other(why))
        })?;
        Ok(found)
    }

    fn check(&self, outside: &Outside) -> Result<(), String> {
        if owner_uid(&self.user).map_err(|e| e.to_string())? != outside.uid {
            return Err("its user namespace is somebody else's".to_owned());
        }
        let owner = userns::owner_of(&self.network).map_err(|e| e.to_string())?;
        if !is_same(&owner, &self.user) {
            return Err("its network namespace is not its own".to_owned());
        }
        Ok(())
    }

    /// Becomes root of the user namespace, within the network namespace. The caller is its owner
    /// and has one thread.
    pub fn enter(&self) -> SysResult<()> {
        userns::enter(&self.user, LinkNameSpaceType::User, "user's own user")?;
        userns::become_root_inside()?;
        userns::enter(&self.network, LinkNameSpaceType::Network, "user's own network")
    }
}

fn is_mapped(pid: i32, outside: &Outside) -> bool {
    [("uid_map", outside.uid), ("gid_map", outside.gid)].into_iter().all(|(file, own)| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let words: Vec<_> = text.split_whitespace().filter_map(|w| w.parse::<u32>().ok()).collect();
        words == [0, own, 1, INSIDE, outside.id_range.base(), IDS_PER_RANGE]
    })
}

fn is_same(a: &OwnedFd, b: &OwnedFd) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

fn owner_uid(user: &OwnedFd) -> SysResult<u32> {
    /// NS_GET_OWNER_UID = _IO(0xb7, 4), ioctl_ns(2).
    const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;
    let mut uid: libc::uid_t = 0;
    // SAFETY: the request writes one uid_t.
    if unsafe { libc::ioctl(user.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) } != 0 {
        return Err(SysError::last("find whose a user namespace is"));
    }
    Ok(uid)
}

/// What a namespace holder on its way says: that its user namespace is there, or why it will never be executed. The end
/// of what it says is the exec.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Word {
    Made,
    Failed(i32),
}

/// Makes new ones, and has `holder` executed in them as their root, in a session of its own. Returns the
/// process number once it is executed.
pub fn start(outside: &Outside, holder: &Program<'_>) -> Result<i32, OuterError> {
    // Nobody else would end it, were the command killed now.
    let fork = Fork::new("make the namespaces' holder").dies_with_parent().keep(holder.file());
    let (child, socket) = fork.start_with_socket(|socket| {
        let prepare = || -> SysResult<()> {
            identity::unshare(UnshareFlags::NEWUSER)?;
            seqpacket::send(&socket, &Word::Made, &[])?;
            if seqpacket::recv::<()>(&socket)?.is_none() {
                return Err(SysError::new("wait for the ids", std::io::ErrorKind::UnexpectedEof));
            }
            userns::become_root_inside()?;
            Ok(identity::unshare(UnshareFlags::NEWNET)?)
        };
        settle(prepare(), holder, &socket)
    })?;
    let finish = || -> Result<(), OuterError> {
        match hear(&socket, "make a user namespace")? {
            Some(()) => {}
            None => {
                return Err(SysError::new("make a user namespace", std::io::ErrorKind::UnexpectedEof).into());
            }
        }
        map(child.pid, outside)?;
        seqpacket::send(&socket, &(), &[])?;
        Ok(hear(&socket, "execute the namespace holder").map(drop)?)
    };
    match finish() {
        Ok(()) => Ok(child.pid),
        Err(e) => {
            child.kill();
            Err(match e {
                // Whatever failed, a switch that forbids it is why.
                OuterError::Sys(e) => forbidden(sysctl).unwrap_or(OuterError::Sys(e)),
                other => other,
            })
        }
    }
}

/// Has `holder` executed in namespaces that exist.
pub fn restart(outer: &Outer, holder: &Program<'_>) -> Result<i32, OuterError> {
    let fork = Fork::new("enter the namespaces").keep([&outer.user, &outer.network]).keep(holder.file());
    let (child, socket) = fork.start_with_socket(|socket| settle(outer.enter(), holder, &socket))?;
    match hear(&socket, "execute the namespace holder") {
        Ok(_) => Ok(child.pid),
        Err(e) => {
            child.kill();
            Err(e.into())
        }
    }
}

/// Leaves the command's session and terminal behind and executes `holder`. Returns only on failure.
fn settle(prepared: SysResult<()>, holder: &Program<'_>, socket: &OwnedFd) -> i32 {
    let leave = || -> SysResult<()> {
        prepared?;
        rustix::process::set_parent_process_death_signal(None).cannot(|| "outlive the command")?;
        Ok(sandbox::leave_terminal()?)
    };
    let error = leave().map_or_else(|e| e, |()| holder.execute());
    let _ = seqpacket::send(socket, &Word::Failed(error.errno().unwrap_or(libc::EIO)), &[]);
    1
}

/// The next word of the child: how its step went. None once there will be no further one.
fn hear(socket: &OwnedFd, what: &str) -> SysResult<Option<()>> {
    match seqpacket::recv::<Word>(socket)? {
        Some((Word::Made, _)) => Ok(Some(())),
        Some((Word::Failed(errno), _)) => Err(SysError::new(what, std::io::Error::from_raw_os_error(errno))),
        None => Ok(None),
    }
}

/// Has the distribution's programs write the maps: they may, and check /etc/subuid and /etc/subgid.
fn map(pid: i32, outside: &Outside) -> Result<(), OuterError> {
    for (program, own) in [(&search::NEWUIDMAP, outside.uid), (&search::NEWGIDMAP, outside.gid)] {
        let path = program.find()?;
        let numbers =
            [pid as u32, 0, own, 1, INSIDE, outside.id_range.base(), IDS_PER_RANGE].map(|n| n.to_string());
        let command = format!("{} {}", program.name, numbers.join(" "));
        let program = Program::at(&path, numbers)?.env("LC_ALL", "C")?;
        let output = Fork::new("map the ids").output(&program, "")?;
        if !output.exit.is_success() {
            let said = output.complaint().unwrap_or("it says nothing").to_owned();
            return Err(OuterError::Program { command, said });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_forbids_is_named_with_the_value_that_does_not() {
        let host = |set: &'static [(&str, &str)]| {
            move |key: &str| set.iter().find(|(k, _)| *k == key).map(|(_, v)| format!("{v}\n"))
        };
        assert!(forbidden(host(&[])).is_none());
        let open = &[
            ("kernel.unprivileged_userns_clone", "1"),
            ("user.max_user_namespaces", "96365"),
            ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ];
        assert!(forbidden(host(open)).is_none());
        let closed: [(&'static [(&str, &str)], &str); 3] = [
            (&[("kernel.unprivileged_userns_clone", "0")], "1"),
            (&[("user.max_user_namespaces", "0")], "65536"),
            (&[("kernel.apparmor_restrict_unprivileged_userns", "1")], "0"),
        ];
        for (set, value) in closed {
            match forbidden(host(set)) {
                Some(OuterError::Forbidden { key, wanted, .. }) => {
                    assert_eq!((key, wanted), (set[0].0, value));
                }
                other => panic!("{set:?}: {other:?}"),
            }
        }
    }
}
