//! The broker as a service of the host: root, on a socket that only nagaya-hostd may reach. Each connection
//! begins with the uid of a user whom hostd has authenticated. It gets a worker, and a byte that says so.
//! The worker does for this user what a broker does, and nothing else.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::serve::serve as serve_command;
use super::workers::{Worker, Workers};
use crate::host::api::address::{HIRED, NOT_HIRED, WORKERS_OF_USER, broker_socket};
use crate::host::setup;
use crate::host::setup::Account;
use crate::model::instance::Instance;
use crate::model::waits;
use crate::sys::accounts::passwd;
use crate::sys::accounts::subid::IdFiles;
use crate::sys::process::child;
use crate::sys::process::fork::Fork;
use crate::sys::process::userns;
use crate::sys::systemd::activation;
use crate::sys::{Context, SysError, SysResult, timespec};

/// Workers at once, of all users.
const WORKERS: usize = 1024;
/// Workers of one user beyond that number, whose commands have ended and who have not ended yet.
const ENDING_OF_USER: usize = 16;
/// Connections at once that have not named their user yet.
const NEWCOMERS: usize = 64;

/// Serves on the socket that systemd passes, until nobody has connected for `idle`.
pub fn run(instance: &Instance, idle: Duration) -> SysResult<()> {
    let refused = |why: &str| SysError::new("be the broker", std::io::Error::other(why.to_owned()));
    if !rustix::process::geteuid().is_root() {
        return Err(refused("that takes root; systemd starts it for nagaya-hostd"));
    }
    let listener = activation::socket()?
        .ok_or_else(|| refused("no socket came along; systemd's nagaya-broker.socket passes one"))?;
    serve(instance, &listener, front_end(instance)?.uid, &Until::Idle(idle))
}

/// Splits a hostd that was started as root, where there is no systemd to start the broker: a child
/// stays root and listens as long as this process lives, which becomes the unprivileged user. What is
/// returned closes at its other end when the child ends.
pub fn beside(instance: &Instance) -> SysResult<UnixStream> {
    let account = front_end(instance)?;
    let path = broker_socket(instance);
    let listener = listen(&path, account)?;
    let hostd = child::pidfd_open(std::process::id() as i32)?;
    let inode = |path: &Path| std::fs::symlink_metadata(path).ok().map(|file| file.ino());
    let own = inode(&path);
    let fork = Fork::new("be the broker beside nagaya-hostd").keep([&listener, &hostd]);
    let (_, ours) = fork.start_with_stream(|theirs| {
        let served = serve(instance, &listener, account.uid, &Until::Ended(&hostd));
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
fn front_end(instance: &Instance) -> SysResult<Account> {
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
enum Until<'a> {
    /// Until nobody has connected for so long, and no worker is left.
    Idle(Duration),
    /// Until this process has ended.
    Ended(&'a OwnedFd),
}

/// A connection that has not sent its uid yet.
struct Newcomer {
    stream: UnixStream,
    since: Instant,
}

struct Server<'a> {
    instance: &'a Instance,
    listener: &'a OwnedFd,
    /// Who may connect, besides root.
    front_end: u32,
    newcomers: Vec<Newcomer>,
    workers: Workers,
    /// No new connection is accepted; the broker goes on until the last worker has ended.
    is_ending: bool,
}

fn serve(instance: &Instance, listener: &OwnedFd, front_end: u32, until: &Until<'_>) -> SysResult<()> {
    let (newcomers, workers) = (Vec::new(), Workers::default());
    let mut server = Server { instance, listener, front_end, newcomers, workers, is_ending: false };
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
        server.get_worker(&ready)?;
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
    fn wait(&self, until: &Until<'_>) -> SysResult<HashSet<i32>> {
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
        // The worker reads from these; poll reports the end of the other side without being asked to.
        let peers = self.workers.iter().filter_map(Worker::peer);
        polled.extend(peers.map(|fd| PollFd::new(fd, PollFlags::empty())));
        match rustix::event::poll(&mut polled, Some(&timespec(waits::BROKER_POLL))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("wait for connections", e)),
        }
        let ready = polled.iter().filter(|fd| !fd.revents().is_empty());
        Ok(ready.map(|fd| fd.as_fd().as_raw_fd()).collect())
    }

    /// Accepts a connection if it is hostd's.
    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(stream) = rustix::net::accept_with(self.listener, flags) else { return };
        let peer = rustix::net::sockopt::socket_peercred(&stream);
        if peer.is_ok_and(|peer| peer.uid.as_raw() == self.front_end || peer.uid.is_root()) {
            self.newcomers.push(Newcomer { stream: UnixStream::from(stream), since: Instant::now() });
        }
    }

    /// Starts workers for the connections that have named their user.
    fn get_worker(&mut self, ready: &HashSet<i32>) -> SysResult<()> {
        let (said, silent): (Vec<Newcomer>, Vec<Newcomer>) = std::mem::take(&mut self.newcomers)
            .into_iter()
            .partition(|newcomer| ready.contains(&newcomer.stream.as_raw_fd()));
        self.newcomers = silent.into_iter().filter(|new| new.since.elapsed() < waits::WORKER_UID).collect();
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
                // A worker that outlives the broker must not hold its socket, nor another worker's.
                let fork = Fork::new("serve a user").keep([&stream]);
                let child = fork.start(|| work(self.instance, &stream, uid))?;
                self.workers.add(Worker::new(child, uid, peer.into()));
            }
        }
        Ok(())
    }
}

/// The worker's life.
fn work(instance: &Instance, stream: &UnixStream, uid: u32) -> i32 {
    let Ok(files) = IdFiles::read(Path::new("/etc")) else { return 1 };
    let Some(user) = passwd::users(&files.passwd).find(|user| user.uid == uid && uid != 0) else { return 1 };
    let instance = instance.of_user(uid, &user.name);
    let owner = setup::look(&files, &instance).ok().flatten();
    serve_command(&instance, owner, stream)
}
