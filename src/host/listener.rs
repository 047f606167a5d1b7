//! The broker as a service of the host: root, on a socket that only nagaya-hostd may reach. Each
//! connection begins with the uid of a user, whom hostd has let in, and gets a worker, and a byte that
//! says so. The worker does for this user what a broker does, and nothing else.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::broker;
use super::setup::{self, Account};
use super::workers::{Worker, Workers};
use crate::model::instance::Instance;
use crate::sys::clone::{self, CloneSpec};
use crate::sys::subid::IdFiles;
use crate::sys::{Context, SysError, SysResult, activation, passwd, userns};

/// Workers at once, of all users.
const WORKERS: usize = 1024;
/// Commands of one user at once: each has a worker.
pub const WORKERS_OF_USER: usize = 64;
/// Workers of one user beyond that whose commands have ended, and who have still to.
const ENDING_OF_USER: usize = 16;
/// Connections at once that have not said for whom they are.
const NEWCOMERS: usize = 64;
/// The broker's answer to a uid: there is a worker, or there are too many.
pub const HIRED: u8 = 1;
const NOT_HIRED: u8 = 0;
/// How long hostd may take to say for whom a connection is.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Where the broker listens.
pub fn socket_path(instance: &Instance) -> PathBuf {
    instance.hostd_run_dir().join("broker.sock")
}

/// Serves on the socket that systemd passes, until nobody has connected for `idle`.
pub fn run(instance: &Instance, idle: Duration) -> SysResult<()> {
    let refused = |why: &str| SysError::new("be the broker", std::io::Error::other(why.to_owned()));
    if !rustix::process::geteuid().is_root() {
        return Err(refused("that takes root; systemd starts it for nagaya-hostd"));
    }
    let listener = activation::socket()?
        .ok_or_else(|| refused("no socket came along; systemd's nagaya-broker.socket passes one"))?;
    serve(instance, &listener, frontend(instance)?.uid, &Until::Idle(idle))
}

/// Splits a hostd that was started as root, where there is no systemd to start the broker: a child
/// stays root and listens as long as this process lives, which becomes the unprivileged user. What is
/// returned closes at its other end when the child ends.
pub fn beside(instance: &Instance) -> SysResult<UnixStream> {
    let account = frontend(instance)?;
    let path = socket_path(instance);
    let listener = listen(&path, account)?;
    let hostd = clone::pidfd_open(std::process::id() as i32)?;
    let inode = |path: &Path| std::fs::symlink_metadata(path).ok().map(|file| file.ino());
    let own = inode(&path);
    let (ours, theirs) = UnixStream::pair().cannot(|| "make a socket pair")?;
    clone::fork(&CloneSpec::default(), || {
        let served = serve(instance, &listener, account.uid, &Until::Ended(hostd));
        // The next hostd's broker may listen there by now.
        if inode(&path) == own {
            let _ = std::fs::remove_file(&path);
        }
        drop(theirs);
        i32::from(served.is_err())
    })?;
    userns::become_user(account.uid, account.gid)?;
    Ok(ours)
}

/// The unprivileged user of hostd.
fn frontend(instance: &Instance) -> SysResult<Account> {
    let name = format!("{}-hostd", instance.name());
    let files = IdFiles::read(Path::new("/etc")).map_err(|e| SysError::new("read the users", e.source))?;
    let user = passwd::user(&files.passwd, &name).filter(|user| user.uid != 0 && user.gid != 0);
    let user = user.ok_or_else(|| {
        let why = format!("there is no user '{name}'; make it: useradd --system --user-group {name}");
        SysError::new("find the user of nagaya-hostd", std::io::Error::other(why))
    })?;
    Ok(Account { uid: user.uid, gid: user.gid })
}

fn listen(path: &Path, owner: Account) -> SysResult<OwnedFd> {
    let what = || format!("listen at {}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).cannot(what)?;
    let _ = std::fs::remove_file(path);
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .cannot(what)?;
    // Closed to everybody from its first moment on.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &SocketAddrUnix::new(path).cannot(what)?);
    rustix::process::umask(before);
    bound.cannot(what)?;
    std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).cannot(what)?;
    rustix::net::listen(&socket, 128).cannot(what)?;
    Ok(socket)
}

/// How long to serve.
enum Until {
    /// Until nobody has connected for so long, and no worker is left.
    Idle(Duration),
    /// Until this process has ended.
    Ended(OwnedFd),
}

/// A connection whose first word, the uid, is still to come.
struct Newcomer {
    stream: UnixStream,
    since: Instant,
}

struct Server<'a> {
    instance: &'a Instance,
    listener: &'a OwnedFd,
    /// Who may connect, besides root.
    frontend: u32,
    newcomers: Vec<Newcomer>,
    workers: Workers,
    /// Nobody new is let in; it goes on until the last worker has ended.
    is_ending: bool,
}

fn serve(instance: &Instance, listener: &OwnedFd, frontend: u32, until: &Until) -> SysResult<()> {
    let (newcomers, workers) = (Vec::new(), Workers::default());
    let mut server = Server { instance, listener, frontend, newcomers, workers, is_ending: false };
    let mut busy = Instant::now();
    loop {
        let ready = server.wait(until)?;
        server.workers.settle(|fd| ready.contains(&fd.as_raw_fd()));
        server.workers.end_overdue();
        if matches!(until, Until::Ended(fd) if ready.contains(&fd.as_raw_fd())) {
            server.is_ending = true;
            server.newcomers.clear();
        }
        if !server.workers.is_empty() || !server.newcomers.is_empty() {
            busy = Instant::now();
        } else if server.is_ending {
            return Ok(());
        }
        server.hire(&ready)?;
        if ready.contains(&listener.as_raw_fd()) {
            server.accept();
            busy = Instant::now();
        } else if matches!(until, Until::Idle(idle) if busy.elapsed() >= *idle) {
            return Ok(());
        }
    }
}

impl Server<'_> {
    /// The numbers of the descriptors at which something has happened.
    fn wait(&self, until: &Until) -> SysResult<HashSet<i32>> {
        let mut fds: Vec<&OwnedFd> = Vec::new();
        if !self.is_ending {
            if self.workers.len() < WORKERS && self.newcomers.len() < NEWCOMERS {
                fds.push(self.listener);
            }
            if let Until::Ended(fd) = until {
                fds.push(fd);
            }
        }
        fds.extend(self.workers.iter().map(Worker::end));
        let mut polled: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        polled.extend(self.newcomers.iter().map(|new| PollFd::new(&new.stream, PollFlags::IN)));
        // What is to be read there is the worker's; that nobody is left is told unasked.
        let peers = self.workers.iter().filter_map(Worker::peer);
        polled.extend(peers.map(|fd| PollFd::new(fd, PollFlags::empty())));
        match rustix::event::poll(&mut polled, Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("wait for connections", e)),
        }
        let ready = polled.iter().filter(|fd| !fd.revents().is_empty());
        Ok(ready.map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    /// Lets a connection in that is hostd's.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(stream) = rustix::net::accept_with(self.listener, flags) else { return };
        let peer = rustix::net::sockopt::socket_peercred(&stream);
        if peer.is_ok_and(|peer| peer.uid.as_raw() == self.frontend || peer.uid.is_root()) {
            self.newcomers.push(Newcomer { stream: UnixStream::from(stream), since: Instant::now() });
        }
    }

    /// Gives workers to those who have said for whom.
    fn hire(&mut self, ready: &HashSet<i32>) -> SysResult<()> {
        let (said, silent): (Vec<Newcomer>, Vec<Newcomer>) = std::mem::take(&mut self.newcomers)
            .into_iter()
            .partition(|newcomer| ready.contains(&newcomer.stream.as_raw_fd()));
        self.newcomers = silent.into_iter().filter(|new| new.since.elapsed() < PATIENCE).collect();
        for Newcomer { mut stream, .. } in said {
            let mut uid = [0u8; 4];
            if !matches!(stream.read(&mut uid), Ok(4)) || stream.set_nonblocking(false).is_err() {
                continue;
            }
            let uid = u32::from_le_bytes(uid);
            if self.workers.of_user(uid) >= WORKERS_OF_USER + ENDING_OF_USER {
                let _ = stream.write_all(&[NOT_HIRED]);
                continue;
            }
            let Ok(peer) = stream.try_clone() else { continue };
            if stream.write_all(&[HIRED]).is_ok() {
                let child = clone::fork(&CloneSpec::default(), || work(self.instance, stream, uid))?;
                self.workers.add(Worker::new(child, uid, peer.into()));
            }
        }
        Ok(())
    }
}

/// The worker's life.
fn work(instance: &Instance, stream: UnixStream, uid: u32) -> i32 {
    // A worker that outlives the broker must not hold its socket, nor another worker's.
    let fd = OwnedFd::from(stream);
    clone::keep_only(&[&fd]);
    let stream = UnixStream::from(fd);
    let Ok(files) = IdFiles::read(Path::new("/etc")) else { return 1 };
    let Some(user) = passwd::users(&files.passwd).find(|user| user.uid == uid && uid != 0) else { return 1 };
    let instance = instance.of_user(uid, &user.name);
    let owner = setup::look(&files, &instance).ok().flatten();
    broker::serve(&instance, owner, &stream)
}
