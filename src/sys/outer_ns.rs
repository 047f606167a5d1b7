//! The namespaces in which an ordinary user is root: a user namespace over the user and 65,536 of
//! the user's subordinate ids, and a network namespace that its root owns. The user's containers
//! are within.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::clone::{self, CloneSpec};
use super::forked::{self, Doing};
use super::{Context, SysError, SysResult, userns};
use crate::model::ids::{SLICE, Slice};

/// Where the subordinate ids begin inside; 0 is the user.
pub const INSIDE: u32 = 1;

const PROGRAM_DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];

/// Who is mapped: inside, 0 is `uid` and `gid`, and 1 to 65536 are those of `slice`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside {
    pub uid: u32,
    pub gid: u32,
    pub slice: Slice,
}

/// Both namespaces, held by descriptors.
pub struct Outer {
    pub user: OwnedFd,
    pub network: OwnedFd,
}

/// Why there are no such namespaces.
#[derive(Debug, thiserror::Error)]
pub enum OuterError {
    #[error("'{0}' is not installed (package 'uidmap' or 'shadow-utils')")]
    NoProgram(&'static str),
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
    let tried = forked::run(&[], |_| {
        // SAFETY: of a child with one thread; nothing is left of it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }
            .doing("make a user namespace")
    });
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
        let process = clone::pidfd_open(pid)?;
        let found = Self { user: userns::open_ns(pid, "user")?, network: userns::open_ns(pid, "net")? };
        if !is_mapped(pid, outside) {
            return Err(wrong("it maps other ids"));
        }
        // Had it ended in between, its number could be another's by now.
        clone::signal(&process, 0)?;
        found.check(outside).map_err(|why| wrong(&why))?;
        Ok(found)
    }

    /// Those around a monitor, which stands in a namespace within and in the network namespace.
    pub fn around(pid: i32, outside: &Outside) -> SysResult<Self> {
        let process = clone::pidfd_open(pid)?;
        let network = userns::open_ns(pid, "net")?;
        let found = Self { user: userns::owner_of(&network)?, network };
        let inner = userns::is_mapped_to(pid, outside.slice);
        clone::signal(&process, 0)?;
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
        words == [0, own, 1, INSIDE, outside.slice.base(), SLICE]
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

/// Makes new ones, and executes `exe` as `argv` in them as their root, in a session of its own.
/// Returns the process number once it is executed.
pub fn start(outside: &Outside, exe: &OwnedFd, argv: &[CString]) -> Result<i32, OuterError> {
    let (made_read, made) = pipe()?;
    let (go, go_write) = pipe()?;
    let child = clone::fork(&CloneSpec::default(), || {
        let run = || -> SysResult<std::convert::Infallible> {
            // Nobody else would end it, were the command killed now.
            super::storage_ns::die_with_parent()?;
            userns::unshare(UnshareFlags::NEWUSER)?;
            rustix::io::write(&made, &0i32.to_ne_bytes()).cannot(|| "signal a step")?;
            let mut byte = [0u8; 1];
            if rustix::io::read(&go, &mut byte).cannot(|| "wait for the ids")? == 0 {
                return Err(SysError::new("wait for the ids", std::io::ErrorKind::UnexpectedEof));
            }
            userns::become_root_inside()?;
            userns::unshare(UnshareFlags::NEWNET)?;
            Err(settle(exe, argv, &made))
        };
        let Err(error) = run();
        let _ = rustix::io::write(&made, &error.errno().unwrap_or(libc::EIO).to_ne_bytes());
        1
    })?;
    let finish = || -> Result<(), OuterError> {
        hear(&made_read, "make a user namespace")?;
        map(child.pid, outside)?;
        rustix::io::write(&go_write, b"x").cannot(|| "signal a step")?;
        // Its end closes with the exec; until then there is only a failure to hear of.
        drop(made);
        hear_end(&made_read, "execute the keeper")
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

/// Executes `exe` in namespaces that exist.
pub fn restart(outer: &Outer, exe: &OwnedFd, argv: &[CString]) -> Result<i32, OuterError> {
    let (made_read, made) = pipe()?;
    let child = clone::fork(&CloneSpec::default(), || {
        let error = outer.enter().map_or_else(|e| e, |()| settle(exe, argv, &made));
        let _ = rustix::io::write(&made, &error.errno().unwrap_or(libc::EIO).to_ne_bytes());
        1
    })?;
    drop(made);
    match hear_end(&made_read, "execute the keeper") {
        Ok(()) => Ok(child.pid),
        Err(e) => {
            child.kill();
            Err(e)
        }
    }
}

/// Leaves the command's session and terminal behind and executes `exe`. Returns only on failure.
fn settle(exe: &OwnedFd, argv: &[CString], made: &OwnedFd) -> SysError {
    let prepare = || -> SysResult<OwnedFd> {
        rustix::process::set_parent_process_death_signal(None).cannot(|| "outlive the command")?;
        rustix::process::setsid().cannot(|| "start a session")?;
        rustix::process::chdir(c"/").cannot(|| "leave the working directory")?;
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty()).cannot(|| "open /dev/null")
    };
    let null = match prepare() {
        Ok(null) => null,
        Err(e) => return e,
    };
    // The pipe comes along as number 3, to be closed by exec; a failure is told through it.
    let fds = [null.as_fd(), null.as_fd(), null.as_fd(), made.as_fd()];
    let error = match clone::arrange_fds(&fds, &[exe.as_fd()]) {
        Ok(exe) => {
            clone::close_on_exec(3);
            clone::exec_fd(exe[0].as_fd(), argv, &[])
        }
        Err(e) => e,
    };
    clone::tell_errno(3, &error);
    // Nothing may be dropped any more: other descriptors have the numbers by now.
    clone::exit_now(1)
}

fn pipe() -> SysResult<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe")
}

/// The next word of the child: how its step went.
fn hear(pipe: &OwnedFd, what: &str) -> Result<(), OuterError> {
    match word(pipe)? {
        Some(0) => Ok(()),
        Some(errno) => Err(SysError::new(what, std::io::Error::from_raw_os_error(errno)).into()),
        None => Err(SysError::new(what, std::io::ErrorKind::UnexpectedEof).into()),
    }
}

fn hear_end(pipe: &OwnedFd, what: &str) -> Result<(), OuterError> {
    match word(pipe)? {
        None => Ok(()),
        Some(errno) => Err(SysError::new(what, std::io::Error::from_raw_os_error(errno)).into()),
    }
}

fn word(pipe: &OwnedFd) -> SysResult<Option<i32>> {
    let mut bytes = [0u8; 4];
    match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut bytes)).cannot(|| "hear the keeper")? {
        0 => Ok(None),
        _ => Ok(Some(i32::from_ne_bytes(bytes))),
    }
}

/// Has the distribution's programs write the maps: they may, and check /etc/subuid and /etc/subgid.
fn map(pid: i32, outside: &Outside) -> Result<(), OuterError> {
    for (program, own) in [("newuidmap", outside.uid), ("newgidmap", outside.gid)] {
        let path = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|path| path.is_file());
        let path = path.ok_or(OuterError::NoProgram(program))?;
        let numbers = [pid as u32, 0, own, 1, INSIDE, outside.slice.base(), SLICE].map(|n| n.to_string());
        let output = Command::new(path).args(&numbers).env_clear().env("LC_ALL", "C").output();
        let output = output.cannot(|| format!("run {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().lines().last().unwrap_or("it says nothing").to_owned();
            return Err(OuterError::Program { command: format!("{program} {}", numbers.join(" ")), said });
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
