//! File work as the storage slice: in a forked child that is uid 0 of a user namespace over that
//! slice, so it can touch the slice's files and nothing else of the host. It has a root directory below
//! which the work is, no descriptor of the command's but those that the job names, no terminal, and a
//! system call filter that leaves it files.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::clone::{self, Child, CloneSpec, Exit};
use super::{Context, SysError, SysResult, error_text, interrupt, sandbox, seccomp, seqpacket, userns};

/// What a worker says.
#[derive(Serialize, serde::Deserialize)]
enum Word<T> {
    /// How far it is; for `run_with`.
    Progress(u64),
    Outcome(T),
}

/// What a worker is given of the host.
pub struct Job<'a> {
    /// The user namespace over the storage slice.
    pub namespace: &'a OwnedFd,
    /// The directory that becomes the worker's root; it may have been opened with `O_PATH`.
    pub root: &'a OwnedFd,
    /// The one descriptor that the work reads from.
    pub input: Option<&'a OwnedFd>,
}

/// Tells how far the work is.
pub type Tell<'a> = &'a mut dyn FnMut(u64);

/// Runs `body` in the storage slice behind `namespace`, with `root` as its root directory, and hands
/// back what it returns. The caller has a single thread. A child that dies in between is an error.
pub fn run<T, E, F>(namespace: &OwnedFd, root: &OwnedFd, body: F) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T, E>,
{
    start(namespace, root, body)?.finish()
}

/// The same, not waited for: the caller goes on with something else meanwhile.
pub fn start<T, E, F>(namespace: &OwnedFd, root: &OwnedFd, body: F) -> SysResult<Running<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T, E>,
{
    let job = Job { namespace, root, input: None };
    begin(&job, UnshareFlags::empty(), |_| body())
}

/// The same for long work on what strangers have written, which `watch` follows and may end. It has no
/// network either.
pub fn run_with<T, E, F>(job: &Job<'_>, body: F, watch: &mut dyn Watch) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    work(job, UnshareFlags::NEWNET | UnshareFlags::NEWIPC, body, watch)
}

/// Follows long work.
pub trait Watch {
    /// How far the worker is; false ends it.
    fn progress(&mut self, done: u64) -> bool;
    /// Something else to wait for meanwhile.
    fn side(&self) -> Option<BorrowedFd<'_>>;
    /// That has become readable, or was closed.
    fn side_ready(&mut self);
}

struct Unwatched;

impl Watch for Unwatched {
    fn progress(&mut self, _: u64) -> bool {
        true
    }
    fn side(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn side_ready(&mut self) {}
}

/// Waits until the worker has said something, serving the watcher's side meanwhile. False when the
/// user has interrupted.
fn wait_for_word(worker: &OwnedFd, watch: &mut dyn Watch) -> SysResult<bool> {
    loop {
        let mut fds = vec![PollFd::new(worker, PollFlags::IN)];
        fds.extend(watch.side().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) if interrupt::pending() => return Ok(false),
            Err(rustix::io::Errno::INTR) => continue,
            other => other.cannot(|| "wait for the file worker")?,
        };
        let (said, side) =
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|f| !f.revents().is_empty()));
        if side {
            watch.side_ready();
        }
        if said {
            return Ok(true);
        }
    }
}

/// A worker that is at work. Dropped, it is ended wherever it is.
#[must_use]
pub struct Running<T, E> {
    /// None once it has been collected.
    child: Option<Child>,
    socket: OwnedFd,
    outcome: PhantomData<fn() -> Result<T, E>>,
}

impl<T, E> Drop for Running<T, E> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Running<T, E> {
    /// Waits for its end and hands back what it returns.
    pub fn finish(self) -> SysResult<Result<T, E>> {
        self.follow(&mut Unwatched)
    }

    fn follow(mut self, watch: &mut dyn Watch) -> SysResult<Result<T, E>> {
        let interrupted = || SysError::new("go on with the file work", std::io::ErrorKind::Interrupted);
        loop {
            if !wait_for_word(&self.socket, watch)? {
                return Err(interrupted());
            }
            match seqpacket::recv::<Word<Result<Result<T, E>, String>>>(&self.socket)? {
                Some((Word::Progress(done), _)) => {
                    if !watch.progress(done) {
                        return Err(interrupted());
                    }
                }
                Some((Word::Outcome(outcome), _)) => {
                    self.collect()?;
                    return outcome
                        .map_err(|e| SysError::new("begin the file work", std::io::Error::other(e)));
                }
                None => return Err(died(self.collect()?)),
            }
        }
    }

    fn collect(&mut self) -> SysResult<Exit> {
        self.child.take().map_or(Ok(Exit::Code(0)), |child| child.wait())
    }
}

fn work<T, E, F>(
    job: &Job<'_>,
    apart: UnshareFlags,
    body: F,
    watch: &mut dyn Watch,
) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    begin(job, apart, body)?.follow(watch)
}

fn begin<T, E, F>(job: &Job<'_>, apart: UnshareFlags, body: F) -> SysResult<Running<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    let (socket, theirs) = seqpacket::pair()?;
    let filter = seccomp::worker_filter()?;
    let parent = rustix::process::getpid();
    let child = clone::fork(&CloneSpec::default(), || {
        let ready = shut_in(job, &theirs, apart, parent, &filter).map_err(|e| error_text(&e));
        let mut tell = |done: u64| {
            let _ = seqpacket::send(&theirs, &Word::<()>::Progress(done), &[]);
        };
        let outcome: Result<Result<T, E>, String> = ready.map(|()| body(&mut tell));
        i32::from(seqpacket::send(&theirs, &Word::Outcome(outcome), &[]).is_err())
    })?;
    Ok(Running { child: Some(child), socket, outcome: PhantomData })
}

/// In the child: gives up everything that `job` does not name.
fn shut_in(
    job: &Job<'_>,
    socket: &OwnedFd,
    apart: UnshareFlags,
    parent: Pid,
    filter: &[u8],
) -> SysResult<()> {
    let mut kept = vec![socket.as_fd(), job.root.as_fd()];
    kept.extend(job.input.map(AsFd::as_fd));
    sandbox::leave_behind(&[&kept[..], &[job.namespace.as_fd()]].concat())?;
    enter(job.namespace)?;
    clone::close(job.namespace);
    if !apart.is_empty() {
        userns::unshare(apart)?;
    }
    rustix::process::fchdir(job.root)
        .and_then(|()| rustix::process::chroot(c"."))
        .cannot(|| "change the worker's root directory")?;
    sandbox::keep_to_files()?;
    sandbox::die_with(parent)?;
    Ok(sandbox::shut_in(filter)?)
}

/// A killed command's worker must not write on. To be called last: a change of ids undoes it.
pub fn die_with_parent() -> SysResult<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .cannot(|| "tie the worker to its command")
}

fn died(exit: Exit) -> SysError {
    let how = match exit {
        Exit::Code(code) => format!("it ended with code {code}"),
        Exit::Signal(signal) => format!("it was killed by signal {signal}"),
    };
    SysError::new("finish the file work", std::io::Error::other(how))
}

/// Makes this process uid 0 of the storage slice, with every capability there and none elsewhere.
pub fn enter(namespace: &OwnedFd) -> SysResult<()> {
    userns::enter(namespace, LinkNameSpaceType::User, "storage slice's user")?;
    userns::become_root_inside()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::{Read, Write};

    use super::*;
    use crate::model::ids::Slice;
    use crate::sys::forked;

    /// Looks at the worker as soon as it is at work, and then lets it go on.
    struct Looker<'a> {
        feed: &'a std::io::PipeWriter,
        status: BTreeMap<String, String>,
        stat: Vec<String>,
        fds: BTreeMap<String, String>,
        namespaces: BTreeMap<&'static str, bool>,
    }

    impl Watch for Looker<'_> {
        fn progress(&mut self, pid: u64) -> bool {
            let proc = format!("/proc/{pid}");
            let status = fs::read_to_string(format!("{proc}/status")).unwrap();
            self.status = status
                .lines()
                .filter_map(|line| line.split_once(":"))
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect();
            let stat = fs::read_to_string(format!("{proc}/stat")).unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
            self.stat = fields.map(str::to_owned).collect();
            for entry in fs::read_dir(format!("{proc}/fd")).unwrap().flatten() {
                let target = fs::read_link(entry.path()).unwrap().display().to_string();
                self.fds.insert(entry.file_name().to_string_lossy().into_owned(), target);
            }
            for kind in ["user", "net", "ipc"] {
                let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
                self.namespaces.insert(kind, link(&pid.to_string()) == link("self"));
            }
            self.feed.write_all(b"x").unwrap();
            true
        }
        fn side(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn side_ready(&mut self) {}
    }

    #[test]
    fn a_worker_is_left_with_files_and_nothing_of_the_command() {
        let namespace = forked::user_namespace(Slice::at(1_994_000_000).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let (input, feed) = std::io::pipe().unwrap();
        let input = OwnedFd::from(input);
        let itself = rustix::process::getpid;
        let looker = || Looker {
            feed: &feed,
            status: BTreeMap::new(),
            stat: Vec::new(),
            fds: BTreeMap::new(),
            namespaces: BTreeMap::new(),
        };
        let mut seen = [looker(), looker()];
        for (looker, apart) in seen.iter_mut().zip([UnshareFlags::empty(), UnshareFlags::NEWNET]) {
            let job = Job { namespace: &namespace, root: &root, input: Some(&input) };
            let body = |tell: Tell<'_>| -> Result<(), String> {
                // Its number where the test stands, which the worker cannot ask for.
                tell(itself().as_raw_nonzero().get() as u64);
                let mut byte = [0u8; 1];
                rustix::io::read(&input, &mut byte).map(drop).map_err(|e| e.to_string())
            };
            work(&job, apart, body, looker).unwrap().unwrap();
        }
        for looker in &seen {
            assert_eq!(looker.stat[4], "0", "its terminal");
            assert_eq!(looker.stat[3], looker.status["Pid"], "its session");
            assert_eq!(looker.status["Seccomp"], "2");
            assert_eq!(looker.status["NoNewPrivs"], "1");
            // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, SETFCAP of linux/capability.h
            assert_eq!(looker.status["CapPrm"], "000000008000001f");
            assert!(!looker.namespaces["user"]);
            let (null, others): (Vec<_>, Vec<_>) =
                looker.fds.iter().partition(|(number, _)| ["0", "1", "2"].contains(&number.as_str()));
            assert!(null.iter().all(|(_, target)| *target == "/dev/null"), "{null:?}");
            // The socket to its command, its root, what it reads.
            assert_eq!(others.len(), 3, "{others:?}");
        }
        assert!(seen[0].namespaces["net"] && !seen[1].namespaces["net"]);
    }

    #[test]
    fn a_worker_cannot_leave_its_root() {
        let namespace = forked::user_namespace(Slice::at(1_994_100_000).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        let inside = dir.path().join("root");
        fs::create_dir(&inside).unwrap();
        for path in [dir.path(), &inside] {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let root = OwnedFd::from(File::open(&inside).unwrap());
        let found: Result<Vec<bool>, ()> = run(&namespace, &root, || {
            let there = |name: &str| {
                let mut text = String::new();
                File::open(name).and_then(|mut file| file.read_to_string(&mut text)).is_ok()
                    || rustix::fs::statat(&root, name, rustix::fs::AtFlags::empty()).is_ok()
            };
            Ok(vec![there("../outside"), there("/etc/passwd"), there("../../../../etc/passwd"), there(".")])
        })
        .unwrap();
        assert_eq!(found.unwrap(), [false, false, false, true]);
    }

    #[test]
    fn work_is_ended_when_its_watcher_says_so() {
        struct Impatient;
        impl Watch for Impatient {
            fn progress(&mut self, _: u64) -> bool {
                false
            }
            fn side(&self) -> Option<BorrowedFd<'_>> {
                None
            }
            fn side_ready(&mut self) {}
        }
        let namespace = forked::user_namespace(Slice::at(1_994_200_000).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let (input, _feed) = std::io::pipe().unwrap();
        let input = OwnedFd::from(input);
        let job = Job { namespace: &namespace, root: &root, input: Some(&input) };
        let body = |tell: Tell<'_>| -> Result<(), String> {
            tell(1);
            rustix::io::read(&input, &mut [0u8; 1]).map(drop).map_err(|e| e.to_string())
        };
        let error = run_with(&job, body, &mut Impatient).unwrap_err();
        assert!(error.to_string().contains("go on with the file work"), "{error}");
    }
}
