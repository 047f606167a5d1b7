//! Starting a guest's init, or taking over one whose monitor was killed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::config::MonitorConfig;
use super::init::{self, Boot, InitReport};
use super::interests::{Interests, Source};
use super::rootfs;
use crate::model::waits;
use crate::sys::error_text;
use crate::sys::net::seqpacket;
use crate::sys::process::caps;
use crate::sys::process::child;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::{Context, SysError, SysResult, cgroup};

/// The guest's process 1.
pub struct Init {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// Whether it is our child, so that the kernel tells us how it ends.
    pub ours: bool,
}

/// What the monitor keeps of a boot.
pub struct Booted {
    pub init: Init,
    /// The console's master side, and the root of the guest's devpts; none where a guest that was
    /// taken over has no usable /dev.
    pub terminals: Option<(OwnedFd, OwnedFd)>,
    /// Where init says that it is up; none for a guest that was taken over.
    pub notify: Option<OwnedFd>,
    /// The guest's network namespace.
    pub network: OwnedFd,
}

/// A boot under way.
pub struct Booting {
    child: Child,
    /// To the newborn init. Non-blocking.
    socket: OwnedFd,
    /// Its console, devpts, notification socket and network, once its tree is built.
    fds: Option<[OwnedFd; 4]>,
    until: Instant,
}

/// Boots the guest below cgroup `payload` for the first time, and waits for that. Between the building of
/// its tree and the exec of its init `go` is called, which may wait for the network.
///
/// # Errors
/// What init's first steps said; nothing is left running then.
pub fn boot(
    config: &MonitorConfig,
    payload: &OwnedFd,
    network: &OwnedFd,
    mut go: impl FnMut() -> SysResult<()>,
) -> SysResult<Booted> {
    let mut booting = Booting::begin(config, payload, network, Boot::First)?;
    loop {
        let mut interests = Interests::default();
        interests.read(Source::Init, &booting.socket);
        interests.wake(Some(booting.until));
        interests.wait()?;
        if let Some(booted) = booting.advance(&mut go)? {
            return Ok(booted);
        }
    }
}

impl Booting {
    /// Makes the process that will be init, and returns at once.
    pub fn begin(
        config: &MonitorConfig,
        payload: &OwnedFd,
        network: &OwnedFd,
        boot: Boot,
    ) -> SysResult<Self> {
        let boot_id = random_uuid()?;
        let mut flags = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWCGROUP;
        if boot == Boot::Again {
            flags |= libc::CLONE_NEWNET;
        }
        let guest = cgroup::guest_dir(payload.as_fd())?;
        // Init gets nothing else of what the monitor has open, above all neither the control socket nor the
        // operators' connections.
        let fork = Fork::new("boot the guest").namespaces(flags).cgroup(guest.as_fd()).keep([network]);
        let (child, socket) =
            fork.start_with_socket(|report| init::run(config, boot, &boot_id, network, &report))?;
        rustix::io::ioctl_fionbio(&socket, true).cannot(|| "prepare to hear of init")?;
        Ok(Self { child, socket, fds: None, until: Instant::now() + waits::INIT_BUILD })
    }

    /// Ready when `advance` has something to do.
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// When the boot has taken too long.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// The newborn init's process number.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Its descriptor.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.child.pidfd
    }

    /// Goes on without waiting; returns the booted guest once it has booted. `go` is called before init may
    /// execute.
    ///
    /// # Errors
    /// What init's first steps said, or that they take too long; nothing is left running then.
    pub fn advance(&mut self, go: impl FnOnce() -> SysResult<()>) -> SysResult<Option<Booted>> {
        let heard = self.hear(go);
        if heard.is_err() {
            let _ = child::signal(&self.child.pidfd, libc::SIGKILL);
            let _ = self.child.wait_within(waits::INIT_KILL);
        }
        heard
    }

    fn hear(&mut self, go: impl FnOnce() -> SysResult<()>) -> SysResult<Option<Booted>> {
        let failed = |reason: &str| SysError::new("boot the guest", std::io::Error::other(reason.to_owned()));
        let heard = match seqpacket::recv::<InitReport>(&self.socket) {
            Err(e) if matches!(e.errno(), Some(libc::EAGAIN | libc::EINTR)) => {
                let late = Instant::now() >= self.until;
                return if late { Err(failed("its first process takes too long")) } else { Ok(None) };
            }
            other => other?,
        };
        match (heard, self.fds.take()) {
            (Some((InitReport::Failed { reason, errno: None }, _)), _) => Err(failed(&reason)),
            (Some((InitReport::Failed { reason, errno }, _)), _) => {
                Err(SysError::from_worker(&format!("boot the guest: {reason}"), errno))
            }
            (Some((InitReport::Built, fds)), None) => {
                let fds = fds.try_into().map_err(|_| failed("its first process sent no descriptors"))?;
                self.fds = Some(fds);
                go()?;
                // If it has failed meanwhile, the send fails; its report is read next.
                let _ = seqpacket::send(&self.socket, &(), &[]);
                Ok(None)
            }
            (Some((InitReport::Built, _)), Some(_)) => Err(failed("its first process is out of step")),
            (None, None) => Err(failed("its first process died while its tree was built")),
            (None, Some(fds)) => self.booted(fds).map(Some),
        }
    }

    fn booted(&self, [master, devpts, notify, network]: [OwnedFd; 4]) -> SysResult<Booted> {
        let pidfd = self.child.pidfd.try_clone().cannot(|| "duplicate a descriptor")?;
        Ok(Booted {
            init: Init { pid: self.child.pid, pidfd, ours: true },
            terminals: Some((master, devpts)),
            notify: Some(notify),
            network,
        })
    }
}

/// Takes over the guest whose init is process `pid`, with a new console.
pub fn adopt(pid: i32, pidfd: OwnedFd, network: OwnedFd) -> SysResult<Booted> {
    let fork = Fork::new("renew the guest's console").keep([&pidfd]);
    let (child, ours) = fork.start_with_socket(|theirs| {
        caps::undumpable();
        let renewed = rustix::thread::move_into_thread_name_spaces(
            pidfd.as_fd(),
            rustix::thread::ThreadNameSpaceType::MOUNT,
        )
        .cannot(|| "enter the guest's mount namespace")
        .and_then(|()| rootfs::renew_console());
        match renewed {
            Ok((master, devpts)) => {
                let _ = seqpacket::send(&theirs, &(), &[master.as_fd(), devpts.as_fd()]);
            }
            Err(e) => tracing::debug!("no console for an adopted guest: {}", error_text(&e)),
        }
        0
    })?;
    // The child looks at the guest's /dev, where a file system may be mounted that never answers.
    if child.wait_within(waits::ADOPTED_CONSOLE)?.is_none() {
        let _ = child::signal(&child.pidfd, libc::SIGKILL);
        tracing::debug!("no console for an adopted guest: its /dev does not answer");
    }
    rustix::io::ioctl_fionbio(&ours, true).cannot(|| "hear of the guest's console")?;
    let terminals = seqpacket::recv::<()>(&ours).unwrap_or(None).and_then(|((), fds)| {
        let mut fds = fds.into_iter();
        Some((fds.next()?, fds.next()?))
    });
    Ok(Booted { init: Init { pid, pidfd, ours: false }, terminals, notify: None, network })
}

/// As /proc/sys/kernel/random/boot_id: a version 4 UUID and a newline.
fn random_uuid() -> SysResult<String> {
    let mut b = [0u8; 16];
    rustix::rand::getrandom(&mut b, rustix::rand::GetRandomFlags::empty()).cannot(|| "draw a boot id")?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex = MonitorConfig::hex(&b);
    Ok(format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
