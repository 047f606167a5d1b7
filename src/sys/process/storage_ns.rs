//! File work: in a forked child that is uid 0 of a user namespace over the storage ids, so it can touch the
//! files of these ids and nothing else of the host. It has a root directory below which the work is, no
//! descriptor of the command's but those that the job names, no terminal, and a system call filter that
//! leaves it files.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::thread::UnshareFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fork::Fork;
use super::report::{Reporter, Running, Tell, Watch};
use super::{rlimit, seccomp};
use crate::sys::SysResult;

/// How much less of the processor work in the background gets, as nice(1) counts.
const BACKGROUND: i32 = 10;

/// What a worker is given of the host.
pub struct Job<'a> {
    /// The user namespace over the storage ids.
    pub namespace: &'a OwnedFd,
    /// The directory that becomes the worker's root; it may have been opened with `O_PATH`.
    pub root: &'a OwnedFd,
    /// What the work reads from, or writes to, besides.
    pub kept: &'a [BorrowedFd<'a>],
}

/// Runs `body` as root of the storage ids of `namespace`, with `root` as its root directory. The caller has
/// a single thread, and goes on with something else until it asks for the result. A child that dies in
/// between is an error.
pub fn start<T, E, F>(namespace: &OwnedFd, root: &OwnedFd, body: F) -> SysResult<Running<Result<T, E>>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T, E>,
{
    let filter = seccomp::worker_filter()?;
    begin(&Job { namespace, root, kept: &[] }, UnshareFlags::empty(), &filter, |_| body())
}

/// The same for work that copies what files have besides their content.
pub fn start_copying<T, E, F>(
    namespace: &OwnedFd,
    root: &OwnedFd,
    body: F,
) -> SysResult<Running<Result<T, E>>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce() -> Result<T, E>,
{
    let filter = seccomp::copier_filter()?;
    begin(&Job { namespace, root, kept: &[] }, UnshareFlags::empty(), &filter, |_| body())
}

/// The same for work that copies trees, which `watch` follows and may end.
pub fn copy_with<T, E, F>(job: &Job<'_>, body: F, watch: &mut dyn Watch) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    let filter = seccomp::copier_filter()?;
    let body = |reporter: &Reporter<'_>| {
        // One for each layer and directory that it is in.
        rlimit::raise_files();
        body(&mut |done| reporter.progress(done))
    };
    begin(job, UnshareFlags::empty(), &filter, body)?.follow(watch)
}

/// Has a child do `body` as such a worker, which goes on when this process has ended.
pub fn leave(namespace: &OwnedFd, root: &OwnedFd, body: impl FnOnce() -> SysResult<()>) -> SysResult<()> {
    let filter = seccomp::worker_filter()?;
    let fork = worker("delete files in the background", &filter).root_of(namespace).in_root(root);
    fork.start(|| {
        // Whoever waits for something else of the disk goes first.
        let _ = rustix::process::nice(BACKGROUND);
        i32::from(body().is_err())
    })
    .map(drop)
}

/// The same for long work on untrusted input, which `watch` follows and may end. It has no network either.
pub fn run_with<T, E, F>(job: &Job<'_>, body: F, watch: &mut dyn Watch) -> SysResult<Result<T, E>>
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
    F: FnOnce(Tell<'_>) -> Result<T, E>,
{
    let apart = UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    let filter = seccomp::worker_filter()?;
    begin(job, apart, &filter, |reporter| body(&mut |done| reporter.progress(done)))?.follow(watch)
}

/// A child that has given up everything that `job` does not name.
fn begin<T>(
    job: &Job<'_>,
    apart: UnshareFlags,
    filter: &[u8],
    body: impl FnOnce(&Reporter<'_>) -> T,
) -> SysResult<Running<T>>
where
    T: Serialize + DeserializeOwned,
{
    worker("finish the file work", filter)
        .keep(job.kept)
        .root_of(job.namespace)
        .unshare(apart)
        .in_root(job.root)
        .dies_with_parent()
        .begin(body)
}

fn worker<'a>(what: &'static str, filter: &'a [u8]) -> Fork<'a> {
    Fork::new(what).without_terminal().with_file_rights_only().filter(filter)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::{Read, Write};

    use super::*;
    use crate::model::ids::IdRange;
    use crate::sys::process::userns;
    use std::os::fd::AsFd;

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
        let namespace = userns::over(IdRange::at(1_994_000_000).unwrap()).unwrap();
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
            let job = Job { namespace: &namespace, root: &root, kept: &[input.as_fd()] };
            let body = |tell: Tell<'_>| -> Result<(), String> {
                // Its number where the test stands, which the worker cannot ask for.
                tell(itself().as_raw_nonzero().get() as u64);
                let mut byte = [0u8; 1];
                rustix::io::read(&input, &mut byte).map(drop).map_err(|e| e.to_string())
            };
            begin(&job, apart, &seccomp::worker_filter().unwrap(), |reporter| {
                body(&mut |done| reporter.progress(done))
            })
            .unwrap()
            .follow(looker)
            .unwrap()
            .unwrap();
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
        let namespace = userns::over(IdRange::at(1_994_100_000).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "x").unwrap();
        let inside = dir.path().join("root");
        fs::create_dir(&inside).unwrap();
        for path in [dir.path(), &inside] {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        }
        let root = OwnedFd::from(File::open(&inside).unwrap());
        let found: Result<Vec<bool>, ()> = start(&namespace, &root, || {
            let there = |name: &str| {
                let mut text = String::new();
                File::open(name).and_then(|mut file| file.read_to_string(&mut text)).is_ok()
                    || rustix::fs::statat(&root, name, rustix::fs::AtFlags::empty()).is_ok()
            };
            Ok(vec![there("../outside"), there("/etc/passwd"), there("../../../../etc/passwd"), there(".")])
        })
        .unwrap()
        .finish()
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
        let namespace = userns::over(IdRange::at(1_994_200_000).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let (input, _feed) = std::io::pipe().unwrap();
        let input = OwnedFd::from(input);
        let job = Job { namespace: &namespace, root: &root, kept: &[input.as_fd()] };
        let body = |tell: Tell<'_>| -> Result<(), String> {
            tell(1);
            rustix::io::read(&input, &mut [0u8; 1]).map(drop).map_err(|e| e.to_string())
        };
        let error = run_with(&job, body, &mut Impatient).unwrap_err();
        assert!(error.to_string().contains("finish the file work"), "{error}");
    }
}
