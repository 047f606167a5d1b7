//! The cgroup v2 tree of one container; `cgroup_home` says where it is.
//!
//! | cgroup | whose | what for |
//! |---|---|---|
//! | `monitor` | the host's | the container's monitor |
//! | `payload` | the host's | limits, freezer and kill of everything that runs in the guest |
//! | `payload/guest` | delegated | the guest's init, and the root of what the guest sees |
//! | `payload/exec` | the host's | programs that cannot be born in the guest's own cgroups |

use std::ffi::{CStr, CString};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{Context, SysError, SysResult};

/// Files of a cgroup that its delegate may write, as /sys/kernel/cgroup/delegate lists them.
const DELEGATED: [&str; 3] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
/// Below `payload`: the guest's own cgroup, and the one that the guest cannot spoil.
const GUEST: &str = "guest";
const EXEC: &str = "exec";
/// Files of `payload` that the monitor writes on the operator's behalf.
const MONITORS: [&str; 2] = ["cgroup.freeze", "cgroup.kill"];
/// Controllers to enable for cgroups below, where the host has them.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "io", "cpuset"];

/// How deep below its own a guest may make cgroups, and how many: they take the host's memory, and all of
/// them have to be removed again. systemd makes one for each unit.
const MAX_DEPTH: &str = "64";
const MAX_DESCENDANTS: &str = "16384";

/// Where cgroup v2 is mounted, from the text of /proc/self/mountinfo.
pub fn find_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (right.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

/// The host's cgroup v2 mount.
///
/// # Errors
/// When there is none.
pub fn mount_dir() -> SysResult<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").cannot(|| "read /proc/self/mountinfo")?;
    find_mount(&text).ok_or_else(|| {
        let hint = "none is mounted; try: mount -t cgroup2 cgroup2 /sys/fs/cgroup";
        SysError::new("find the cgroup v2 hierarchy", std::io::Error::other(hint))
    })
}

/// The cgroup of one container: directories of the hierarchy as the caller sees it mounted.
pub struct ContainerCgroup {
    pub monitor: OwnedFd,
    pub payload: OwnedFd,
}

impl ContainerCgroup {
    /// The cgroup of a running container, in `dir` (`Home::container_dir`).
    pub fn open(dir: &Path) -> SysResult<Self> {
        Ok(Self { monitor: open_dir(&dir.join("monitor"))?, payload: open_dir(&dir.join("payload"))? })
    }
}

fn open_dir(path: &Path) -> SysResult<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())
        .cannot(|| format!("open {}", path.display()))
}

fn make_dir(path: &Path) -> SysResult<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.cannot(|| format!("make cgroup {}", path.display())),
    }
}

/// Enables the host's controllers for the children of `path`.
fn enable_controllers(path: &Path) -> SysResult<()> {
    let file = path.join("cgroup.controllers");
    let have = std::fs::read_to_string(&file).cannot(|| format!("read {}", file.display()))?;
    let wanted = have.split_whitespace().filter(|c| CONTROLLERS.contains(c));
    let all: Vec<String> = wanted.map(|controller| format!("+{controller}")).collect();
    if all.is_empty() {
        return Ok(());
    }
    let file = path.join("cgroup.subtree_control");
    let all = all.join(" ");
    std::fs::write(&file, &all).cannot(|| format!("write '{all}' to {}", file.display()))
}

/// Moves the processes in `dir` itself to `leaf` below it.
pub fn move_to_leaf(dir: &Path, leaf: &str) -> SysResult<()> {
    let path = dir.join(leaf);
    make_dir(&path)?;
    let leaf = open_dir(&path)?;
    for pid in processes(dir) {
        match write_at(leaf.as_fd(), "cgroup.procs", &pid.to_string()) {
            // It has ended meanwhile.
            Err(e) if e.errno() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Makes cgroup `dir` and what is missing above it, with controllers enabled for the next level.
pub fn make_parents(dir: &Path) -> SysResult<()> {
    if dir.exists() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_parents(parent)?;
        enable_controllers(parent)?;
    }
    make_dir(dir)?;
    enable_controllers(dir)
}

/// Makes `dir` (`Home::container_dir`) and what belongs in it; what is the guest's is delegated to uid and
/// gid `owner`. A process in `dir` itself, `inhabitant`, moves to `monitor`: a cgroup with processes of its
/// own cannot pass controllers on to those below it.
pub fn create(dir: &Path, owner: u32, inhabitant: Option<i32>) -> SysResult<ContainerCgroup> {
    make_parents(dir.parent().unwrap_or(dir))?;
    make_dir(dir)?;
    let (monitor, payload) = (dir.join("monitor"), dir.join("payload"));
    make_dir(&monitor)?;
    make_dir(&payload)?;
    if let Some(pid) = inhabitant {
        write_at(open_dir(&monitor)?.as_fd(), "cgroup.procs", &pid.to_string())?;
    }
    enable_controllers(dir)?;
    // Moving a process between two cgroups takes write access to their common ancestor's list.
    chown_at(&open_dir(dir)?, "cgroup.procs", owner)?;
    let guest = payload.join(GUEST);
    make_dir(&guest)?;
    let exec = payload.join(EXEC);
    make_dir(&exec)?;
    enable_controllers(&payload)?;
    let payload = open_dir(&payload)?;
    write_at(payload.as_fd(), "cgroup.max.depth", MAX_DEPTH)?;
    write_at(payload.as_fd(), "cgroup.max.descendants", MAX_DESCENDANTS)?;
    for file in MONITORS {
        chown_at(&payload, file, owner)?;
    }
    let guest = open_dir(&guest)?;
    rustix::fs::fchown(&guest, uid(owner), gid(owner)).cannot(|| "delegate the guest's cgroup")?;
    for file in DELEGATED {
        chown_at(&guest, file, owner)?;
    }
    chown_at(&open_dir(&exec)?, "cgroup.procs", owner)?;
    Ok(ContainerCgroup { monitor: open_dir(&monitor)?, payload })
}

/// The guest's own cgroup below `payload`, in which its init is born. A container that was started by
/// nagaya 0.1 has none: there it is `payload` itself.
pub fn guest_dir(payload: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    let found = match rustix::fs::openat(payload, GUEST, SUBDIR, Mode::empty()) {
        Err(Errno::NOENT) => rustix::io::fcntl_dupfd_cloexec(payload, 3),
        other => other,
    };
    found.cannot(|| "open the guest's cgroup")
}

/// Flags to open a directory directly below another.
const SUBDIR: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn uid(id: u32) -> Option<rustix::fs::Uid> {
    Some(rustix::fs::Uid::from_raw(id))
}

fn gid(id: u32) -> Option<rustix::fs::Gid> {
    Some(rustix::fs::Gid::from_raw(id))
}

fn chown_at(dir: &OwnedFd, file: &str, owner: u32) -> SysResult<()> {
    match rustix::fs::chownat(dir, file, uid(owner), gid(owner), AtFlags::SYMLINK_NOFOLLOW) {
        // cgroup.kill came with Linux 5.14.
        Err(Errno::NOENT) => Ok(()),
        other => other.cannot(|| format!("delegate {file}")),
    }
}

/// What cgroup.events says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// A process lives in the cgroup or below it.
    pub populated: bool,
    /// All of them are frozen.
    pub frozen: bool,
}

/// The cgroup's state; none where there is no such cgroup.
///
/// # Errors
/// When the kernel does not tell: nothing is known of the cgroup then.
pub fn events(dir: &Path) -> SysResult<Option<Events>> {
    let file = dir.join("cgroup.events");
    events_of(std::fs::read_to_string(&file)).cannot(|| format!("read {}", file.display()))
}

fn events_of(text: std::io::Result<String>) -> std::io::Result<Option<Events>> {
    match text {
        Ok(text) => {
            Ok(Some(Events { populated: text.contains("populated 1"), frozen: text.contains("frozen 1") }))
        }
        // ENODEV: it was removed while it was read.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a process lives in the cgroup or below it, or may live there, for all that can be read;
/// false where there is no such cgroup.
pub fn populated(dir: &Path) -> bool {
    events(dir).map_or(true, |events| events.is_some_and(|events| events.populated))
}

/// Process numbers directly in the cgroup, as seen from the host.
pub fn processes(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

/// Process numbers in the cgroup and all below it.
pub fn all_processes(dir: &Path) -> Vec<i32> {
    let mut found = processes(dir);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.extend(all_processes(&entry.path()));
        }
    }
    found
}

/// Opens a file of a cgroup by its directory's descriptor and writes to it.
pub fn write_at(dir: BorrowedFd<'_>, file: &str, text: &str) -> SysResult<()> {
    let fd = rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    fd.map_err(std::io::Error::from)
        .and_then(|fd| std::fs::File::from(fd).write_all(text.as_bytes()))
        .cannot(|| format!("write '{text}' to {file}"))
}

/// Reads a short file of a cgroup by its directory's descriptor.
pub fn read_at(dir: BorrowedFd<'_>, file: &str) -> SysResult<String> {
    let mut text = String::new();
    rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|fd| std::fs::File::from(fd).take(4096).read_to_string(&mut text))
        .cannot(|| format!("read {file}"))?;
    Ok(text)
}

/// How many processes in the cgroup and below it the kernel has killed for lack of memory; 0 where memory
/// is not counted.
pub fn oom_kills(dir: BorrowedFd<'_>) -> u64 {
    let text = read_at(dir, "memory.events").unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Where a program of `exec` may start, best first: in a leaf of the guest's own cgroup, whose root may
/// have children by now; and if the guest has made that impossible or has frozen it, in a leaf that is not
/// the guest's. Both are below the cgroup that limits, freezes and counts the container.
pub fn exec_leaves(payload: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let is_frozen =
        |leaf: &OwnedFd| read_at(leaf.as_fd(), "cgroup.freeze").is_ok_and(|text| text.starts_with('1'));
    let guests = guest_leaf(payload).ok().filter(|leaf| !is_frozen(leaf));
    let hosts = rustix::fs::openat(payload, EXEC, SUBDIR, Mode::empty()).ok();
    guests.into_iter().chain(hosts).collect()
}

fn guest_leaf(payload: BorrowedFd<'_>) -> SysResult<OwnedFd> {
    const LEAF: &str = ".exec";
    let guest = guest_dir(payload)?;
    match rustix::fs::openat(&guest, LEAF, SUBDIR, Mode::empty()) {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(&guest, LEAF, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(SysError::new("make the cgroup for exec", e)),
            }
            rustix::fs::openat(&guest, LEAF, SUBDIR, Mode::empty())
        }
        other => other,
    }
    .cannot(|| "open the cgroup for exec")
}

/// Kills every process in the cgroup and below, frozen or not, and waits until they are gone.
pub fn kill(dir: &Path, timeout: std::time::Duration) -> SysResult<()> {
    if !populated(dir) {
        return Ok(());
    }
    let file = dir.join("cgroup.kill");
    match std::fs::write(&file, "1") {
        // systemd takes a scope's away once the last process has ended.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
        done => done.cannot(|| format!("write {}", file.display()))?,
    }
    wait_empty(dir, timeout)
}

/// Waits until no process is left in the cgroup or below it.
pub fn wait_empty(dir: &Path, timeout: std::time::Duration) -> SysResult<()> {
    let what = || format!("watch {}", dir.display());
    let mut file = match std::fs::File::open(dir.join("cgroup.events")) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(SysError::new(what(), e)),
    };
    let end = std::time::Instant::now() + timeout;
    // The kernel reports changes since the file was last read through this descriptor; without a first read
    // it would report one without end.
    while read_again(&mut file).map_or(true, |events| events.is_some_and(|events| events.populated)) {
        let left = end.saturating_duration_since(std::time::Instant::now());
        if left.is_zero() {
            let what = format!("empty cgroup {}: processes {:?}", dir.display(), processes(dir));
            return Err(SysError::new(what, std::io::ErrorKind::TimedOut));
        }
        // The kernel reports a change of this file as an exceptional condition.
        let mut fds = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::PRI)];
        let wait = left.min(std::time::Duration::from_millis(20));
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
    }
    Ok(())
}

fn read_again(file: &mut std::fs::File) -> std::io::Result<Option<Events>> {
    use std::io::Seek;
    let mut text = String::new();
    events_of(file.rewind().and_then(|()| file.read_to_string(&mut text)).map(|_| text))
}

/// Removes an empty cgroup and all below it, deepest first; one that is gone is fine. A guest can
/// have made many, with paths longer than a path may be: each is named by its parent's descriptor.
/// How deep they go is bounded by `MAX_DEPTH`.
pub fn remove(dir: &Path) -> SysResult<()> {
    let what = || format!("remove cgroup {}", dir.display());
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { return Ok(()) };
    let name = CString::new(name.as_bytes()).map_err(std::io::Error::from).cannot(what)?;
    match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(SysError::new(what(), e)),
        Ok(parent) => remove_at(parent.as_fd(), &name, 100).cannot(what),
    }
}

/// A cgroup that is busy is tried again `times`, with pauses.
fn remove_at(parent: BorrowedFd<'_>, name: &CStr, times: u32) -> rustix::io::Result<()> {
    for attempt in 0.. {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if attempt == 0 => remove_children(parent, name, times)?,
            // The last process's exit is still being worked off.
            Err(Errno::BUSY) if attempt < times => std::thread::sleep(std::time::Duration::from_millis(2)),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn remove_children(parent: BorrowedFd<'_>, name: &CStr, times: u32) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            remove_at(dir.as_fd(), entry.file_name(), times)?;
        }
    }
    Ok(())
}

/// Makes a cgroup without processes what it was when it was new: without cgroups below it, and
/// without controllers for those, which would keep a process from being born in it (`EBUSY`).
///
/// # Errors
/// `EBUSY` while the exit of a process in one of them is still being worked off: that is not waited for.
pub fn clean(dir: BorrowedFd<'_>) -> SysResult<()> {
    remove_children(dir, c".", 1).cannot(|| "remove the guest's cgroups")?;
    for controller in read_at(dir, "cgroup.subtree_control")?.split_whitespace() {
        write_at(dir, "cgroup.subtree_control", &format!("-{controller}"))?;
    }
    Ok(())
}

/// Whether process `pid` is in the cgroup v2 directory `below` (relative to the mount's root,
/// beginning with '/') or deeper.
pub fn holds(below: &str, pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines()
        .filter_map(|l| l.strip_prefix("0::"))
        .any(|path| path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_is_waited_for_without_asking_all_the_time() {
        let cpu = || {
            let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            Duration::from(nix::time::clock_gettime(clock).unwrap())
        };
        let dir = mount_dir().unwrap().join(format!("nagaya-wait-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        let before = cpu();
        let waited = wait_empty(&dir, Duration::from_millis(400));
        let used = cpu() - before;
        sleeper.kill().unwrap();
        let ended = wait_empty(&dir, Duration::from_secs(10));
        sleeper.wait().unwrap();
        remove(&dir).unwrap();
        assert!(waited.unwrap_err().to_string().contains("empty cgroup"));
        ended.unwrap();
        assert!(used < Duration::from_millis(60), "{used:?}");
    }

    #[test]
    fn counts_what_was_killed_for_want_of_memory() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        assert_eq!(oom_kills(fd.as_fd()), 0);
        let text = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        std::fs::write(dir.path().join("memory.events"), text).unwrap();
        assert_eq!(oom_kills(fd.as_fd()), 2);
    }

    #[test]
    fn finds_pure_and_hybrid_mounts() {
        let pure = "30 24 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(find_mount(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        let hybrid = "31 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let part = "32 30 0:29 /user /mnt rw - cgroup2 cgroup2 rw\n";
        assert_eq!(find_mount(part), None);
    }
}
