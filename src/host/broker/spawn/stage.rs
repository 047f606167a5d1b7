//! The stage child: a child of the broker that becomes a monitor. Still with the host's rights it builds
//! the small tree that the monitor will live in, and then it gives up every right.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::node::PassedNode;
use super::passed::{Handed, Passed};
use super::rootless_stage;
use crate::host::services::lxcfs;
use crate::model::ids::IdRange;
use crate::model::limits::Rlimit;
use crate::model::monitor::{ARGV0, DESCRIPTORS, DEVICES, StartReport, place};
use crate::sys::fs::mount;
use crate::sys::fs::mount::{NODEV, NOEXEC, NOSUID, RDONLY};
use crate::sys::net::seqpacket;
use crate::sys::process::fork::exit_now;
use crate::sys::process::program::Program;
use crate::sys::process::{descriptors, identity, rlimit, userns};
use crate::sys::{Context, SysError, SysResult, error_text};

/// What the monitor gets of the host's file systems, at the time when the stage child is forked.
pub enum StageTrees<'a> {
    Handed(Handed),
    /// A daemonless owner's broker can make mounts only in the child's mount namespace.
    ToBeOpened {
        passed: &'a Passed,
        program: PathBuf,
    },
}

impl StageTrees<'_> {
    /// What the child must have of it.
    pub fn descriptors(&self) -> Vec<&OwnedFd> {
        match self {
            Self::Handed(Handed { layers, mounts, state, logs, exe }) => {
                let trees = layers.iter().chain(mounts.iter().map(|(_, tree)| tree));
                trees.chain([state, exe]).chain(logs).collect()
            }
            Self::ToBeOpened { passed, .. } => {
                let trees = passed.layers.iter().chain(passed.mounts.iter().map(|mount| &mount.tree));
                let trees = trees.chain(passed.disks.iter().map(|disk| &disk.tree));
                trees.chain([&passed.state]).chain(&passed.logs).collect()
            }
        }
    }
}

/// Everything the child needs, opened before it is forked.
pub struct Stage<'a> {
    /// Shown in the list of processes.
    pub name: &'a str,
    /// The container's runtime ids.
    pub id_range: IdRange,
    /// Resource limits of the monitor, and so of its guest.
    pub rlimits: &'a [Rlimit],
    /// The container is an ordinary user's.
    pub of_user: bool,
    /// The container's user namespace.
    pub user_namespace: &'a OwnedFd,
    /// The container's network namespace.
    pub network: &'a OwnedFd,
    /// The init to take over.
    pub init: Option<&'a OwnedFd>,
    /// Those of the guest that every guest can have.
    pub devices: &'a [&'static str],
    /// Those that its operator asks for.
    pub nodes: &'a [PassedNode],
    /// The monitor's configuration, a sealed memory file.
    pub config: &'a OwnedFd,
    /// The monitor's listening socket.
    pub control: &'a OwnedFd,
    /// Where a failure is told.
    pub broker: OwnedFd,
    /// The trees and files, opened or to be opened.
    pub trees: &'a StageTrees<'a>,
}

/// A monitor's tree.
struct Tree {
    root: OwnedFd,
    /// Its own /dev/null.
    null: OwnedFd,
}

impl Stage<'_> {
    /// Runs in the child, which is still root; `payload` is the guest's cgroup.
    pub fn enter(&self, payload: BorrowedFd<'_>) -> ! {
        let Err(error) = self.build(payload);
        self.fail(&error)
    }

    /// Tells the broker why there will be no monitor.
    pub fn fail(&self, error: &SysError) -> ! {
        fail(&self.broker, error)
    }

    fn build(&self, payload: BorrowedFd<'_>) -> SysResult<Infallible> {
        rlimit::prepare(self.rlimits, self.of_user)?;
        identity::unshare(UnshareFlags::NEWNS)?;
        mount::make_private()?;
        let opened;
        let (handed, payload) = match self.trees {
            StageTrees::Handed(handed) => (handed, payload),
            StageTrees::ToBeOpened { passed, program } => {
                opened = rootless_stage::open(passed, program, payload)?;
                (&opened.0, opened.1.as_fd())
            }
        };
        let tree = self.tree(handed)?;
        mount::pivot_into(tree.root.as_fd())?;
        mount::set_attr(tree.root.as_fd(), RDONLY, 0, false)?;
        let named = self.named(handed, payload);
        let null = tree.null.as_fd();
        let passed = DESCRIPTORS.iter().map(|name| named.iter().find(|(given, _)| given == name));
        let mut fds = vec![null; 3];
        fds.extend(passed.map(|found| found.map_or(null, |(_, fd)| *fd)));
        // From here on this process holds what the monitor will hold, and nothing else: it is about to
        // become one of the container's.
        let until_exec = [self.user_namespace.as_fd(), handed.exe.as_fd(), self.broker.as_fd()];
        let placed = descriptors::arrange(&fds, &until_exec)?;
        let Ok([user_namespace, exe, broker]) = <[OwnedFd; 3]>::try_from(placed) else {
            return Err(SysError::new("place a descriptor", std::io::ErrorKind::Other));
        };
        // What has been opened above is closed, and must not be closed again: no way back from here.
        fail(&broker, &self.become_monitor(user_namespace, &exe))
    }

    /// What the monitor is given, by its names in [`DESCRIPTORS`].
    fn named<'fd>(
        &'fd self,
        handed: &'fd Handed,
        payload: BorrowedFd<'fd>,
    ) -> Vec<(&'static str, BorrowedFd<'fd>)> {
        let [log, other_log] = &handed.logs;
        let mut named = vec![
            ("config", self.config.as_fd()),
            ("control", self.control.as_fd()),
            ("state", handed.state.as_fd()),
            ("log", log.as_fd()),
            ("other-log", other_log.as_fd()),
            ("payload", payload),
            ("network", self.network.as_fd()),
            ("broker", self.broker.as_fd()),
        ];
        named.extend(self.init.map(|init| ("init", init.as_fd())));
        named
    }

    /// Returns only on failure.
    fn become_monitor(&self, user_namespace: OwnedFd, exe: &OwnedFd) -> SysError {
        let enter = || -> SysResult<()> {
            userns::enter(&user_namespace, LinkNameSpaceType::User, "container's user")?;
            drop(user_namespace);
            userns::become_root_inside()?;
            // The copy that this makes belongs to the container's user namespace. In it, and only in
            // it, read-only, nodev and nosuid of what was attached so far are locked.
            Ok(identity::unshare(UnshareFlags::NEWNS)?)
        };
        if let Err(e) = enter() {
            return e;
        }
        match Program::in_file(exe, [ARGV0, self.name]) {
            Ok(monitor) => monitor.execute_with_descriptors(),
            Err(e) => e,
        }
    }

    /// An otherwise empty file system with the container's trees in it.
    fn tree(&self, handed: &Handed) -> SysResult<Tree> {
        let inodes = (64 + handed.layers.len() + handed.mounts.len() + self.nodes.len()).to_string();
        let options = [("mode", "755"), ("size", "64k"), ("nr_inodes", &inodes)];
        let root = mount::fresh("tmpfs", &options, NOSUID | NOEXEC)?;
        mount::attach(root.as_fd(), mount::open_dir("/tmp")?.as_fd())?;
        let dir = |name: &str| mount::mount_point(root.as_fd(), name.trim_start_matches('/'));
        let (layers, mounts) = (dir(place::LAYERS)?, dir(place::MOUNTS)?);
        for (number, layer) in handed.layers.iter().enumerate() {
            let target = match number {
                0 => dir(place::TEMPLATE)?,
                _ => mount::mount_point(layers.as_fd(), &number.to_string())?,
            };
            mount::attach(layer.as_fd(), target.as_fd())?;
        }
        for (name, tree) in &handed.mounts {
            let target = match name.as_str() {
                place::DATA_MOUNT => dir(place::DATA)?,
                _ => mount::mount_point(mounts.as_fd(), name)?,
            };
            mount::attach(tree.as_fd(), target.as_fd())?;
        }
        dir(place::ROOTFS)?;
        dir(place::PLUGGED)?;
        lxcfs::lend(dir(place::LXCFS)?.as_fd());
        let (devices, visible_dir) = (dir(place::DEVICES)?, dir(place::VISIBLE)?);
        if matches!(self.trees, StageTrees::ToBeOpened { .. }) {
            rootless_stage::devices(&devices, self.devices)?;
            self.nodes.iter().try_for_each(|node| node.bind(&devices))?;
            rootless_stage::visible(&visible_dir)?;
        } else {
            self.devices(&devices)?;
            self.nodes.iter().try_for_each(|node| node.make(&devices, self.id_range))?;
            visible(&visible_dir)?;
        }
        let null = rustix::fs::openat(&devices, "null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .cannot(|| "open the monitor's /devices/null")?;
        Ok(Tree { root, null })
    }

    /// Real device nodes, which only the host can make; guests get them bound one by one.
    fn devices(&self, dir: &OwnedFd) -> SysResult<()> {
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(self.id_range.base()),
            rustix::fs::Gid::from_raw(self.id_range.base()),
        );
        rustix::process::umask(Mode::empty());
        for (name, major, minor) in DEVICES.into_iter().filter(|(name, ..)| self.devices.contains(name)) {
            let device = rustix::fs::makedev(major, minor);
            let mode = Mode::from_raw_mode(0o666);
            rustix::fs::mknodat(dir, name, FileType::CharacterDevice, mode, device)
                .and_then(|()| {
                    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                })
                .cannot(|| format!("make device {name}"))?;
        }
        let nothing = place::NOTHING.rsplit('/').next().unwrap_or_default();
        rustix::fs::mknodat(dir, nothing, FileType::RegularFile, Mode::empty(), 0)
            .cannot(|| "make the file that covers others")
    }
}

fn fail(broker: &OwnedFd, error: &SysError) -> ! {
    let report = StartReport::Failed { reason: error_text(error), errno: error.errno() };
    let _ = seqpacket::send(broker, &report, &[]);
    exit_now(1)
}

/// Whole instances of proc and sysfs, in a directory that only the host's root may enter: their
/// being there is what lets a user namespace mount its own. This proc shows no process of others.
fn visible(dir: &OwnedFd) -> SysResult<()> {
    let flags = NOSUID | NODEV | NOEXEC;
    let proc = mount::fresh("proc", &[("hidepid", "ptraceable"), ("subset", "pid")], flags)?;
    mount::attach(proc.as_fd(), mount::mount_point(dir.as_fd(), "proc")?.as_fd())?;
    let sys = mount::fresh("sysfs", &[], flags)?;
    mount::attach(sys.as_fd(), mount::mount_point(dir.as_fd(), "sys")?.as_fd())?;
    // An O_PATH descriptor takes no fchmod; "." of it does.
    rustix::fs::chmodat(dir, c".", Mode::empty(), AtFlags::empty()).cannot(|| "close a directory")
}
