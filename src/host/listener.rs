//! The broker as a service of the host: root, on a socket that only nagaya-hostd may reach. Each
//! connection begins with the uid of a user, whom hostd has let in, and gets a worker that does for
//! this user what a broker does, and nothing else.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::broker;
use super::setup::{self, Account};
use crate::model::instance::Instance;
use crate::sys::clone::{self, Child, CloneSpec};
use crate::sys::subid::IdFiles;
use crate::sys::{Context, SysError, SysResult, activation, passwd, userns};

/// Workers at once, of all users.
const WORKERS: usize = 1024;
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
/// stays root and listens as long as this process lives, which becomes the unprivileged user.
pub fn beside(instance: &Instance) -> SysResult<()> {
    let account = frontend(instance)?;
    let path = socket_path(instance);
    let listener = listen(&path, account)?;
    let hostd = clone::pidfd_open(std::process::id() as i32)?;
    clone::fork(&CloneSpec::default(), || {
        let served = serve(instance, &listener, account.uid, &Until::Ended(hostd));
        let _ = std::fs::remove_file(&path);
        i32::from(served.is_err())
    })?;
    userns::become_user(account.uid, account.gid)
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

fn serve(instance: &Instance, listener: &OwnedFd, frontend: u32, until: &Until) -> SysResult<()> {
    let mut workers: Vec<Child> = Vec::new();
    let mut busy = Instant::now();
    loop {
        let mut fds = vec![PollFd::new(listener, PollFlags::IN)];
        if let Until::Ended(fd) = until {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        let first_worker = fds.len();
        fds.extend(workers.iter().map(|worker| PollFd::new(&worker.pidfd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("wait for connections", e)),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        for index in (first_worker..ready.len()).rev().filter(|index| ready[*index]) {
            let _ = workers.swap_remove(index - first_worker).wait();
        }
        if !workers.is_empty() {
            busy = Instant::now();
        }
        if matches!(until, Until::Ended(_)) && ready[1] {
            return Ok(());
        }
        if ready[0] && workers.len() < WORKERS {
            workers.extend(accept(instance, listener, frontend)?);
            busy = Instant::now();
        } else if matches!(until, Until::Idle(idle) if busy.elapsed() >= *idle) {
            return Ok(());
        }
    }
}

/// A worker for the next connection; none for one that is not hostd's or has gone.
fn accept(instance: &Instance, listener: &OwnedFd, frontend: u32) -> SysResult<Option<Child>> {
    let Ok(stream) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) else { return Ok(None) };
    let peer = rustix::net::sockopt::socket_peercred(&stream);
    if !peer.is_ok_and(|peer| peer.uid.as_raw() == frontend || peer.uid.is_root()) {
        return Ok(None);
    }
    let stream = UnixStream::from(stream);
    let child = clone::fork(&CloneSpec::default(), || work(instance, stream))?;
    Ok(Some(child))
}

/// The worker's life.
fn work(instance: &Instance, stream: UnixStream) -> i32 {
    use std::io::Read;
    // A worker that outlives the broker must not hold its socket, nor another worker's.
    let fd = OwnedFd::from(stream);
    clone::keep_only(&[&fd]);
    let mut stream = UnixStream::from(fd);
    let mut uid = [0u8; 4];
    let _ = stream.set_read_timeout(Some(PATIENCE));
    if stream.read_exact(&mut uid).is_err() {
        return 1;
    }
    let _ = stream.set_read_timeout(None);
    let uid = u32::from_le_bytes(uid);
    let files = IdFiles::read(Path::new("/etc")).unwrap_or_default();
    let Some(user) = passwd::users(&files.passwd).find(|user| user.uid == uid && uid != 0) else { return 1 };
    let instance = instance.of_user(uid, &user.name);
    let owner = setup::look(&files, &instance).ok().flatten();
    broker::serve(&instance, owner, &stream)
}
