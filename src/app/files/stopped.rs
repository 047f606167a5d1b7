//! The tree of a container that does not run: a file worker mounts it for itself alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;

use crate::app::error::AppResult;
use crate::app::instance::{App, layout};
use crate::model::container::Container;
use crate::model::file_job::FileJob;
use crate::sys::fs::lock::Lock;
use crate::sys::fs::transfer;
use crate::sys::process::child::Child;
use crate::sys::process::fork::Fork;
use crate::sys::process::{descriptors, identity, interrupt, sandbox, seccomp};
use crate::sys::{Context, SysResult, error_text};

/// What the tree of a stopped container is made of.
pub struct Trees {
    data: String,
    /// Below the pool, or below `templates` where they begin with a slash; the topmost first.
    lower: Vec<String>,
    templates: OwnedFd,
}

impl Trees {
    pub fn of(app: &mut App, container: &Container) -> AppResult<Self> {
        let layers = app.store.chain(&container.id)?.layers;
        let lower = layers.iter().rev().map(layout::layer_in_pool);
        let lower = lower.chain([format!("/{}", layout::template_in_pool(&container.template))]).collect();
        let templates = app.templates()?.try_clone().cannot(|| "keep the templates' directory")?;
        Ok(Self { data: layout::data_in_pool(&container.id), lower, templates })
    }

    /// What whoever mounts them has to be given, besides the pool.
    pub fn templates(&self) -> &OwnedFd {
        &self.templates
    }

    /// Mounts the tree in a mount namespace of this process's own, and opens it. The pool of templates is its root
    /// directory afterwards.
    pub fn mount(&self, pool: &OwnedFd) -> SysResult<OwnedFd> {
        let Self { data, lower, templates } = self;
        let what = || "mount the container's files";
        // In this order: the directory in which a process stands and its root directory go with it into a new mount
        // namespace, and what it has open does not.
        rustix::process::fchdir(templates).and_then(|()| rustix::process::chroot(c".")).cannot(what)?;
        rustix::process::fchdir(pool).cannot(what)?;
        identity::unshare(UnshareFlags::NEWNS)?;
        // As its monitor mounts it. One page takes the names of all layers.
        let lower = lower.join(":");
        let options =
            format!("lowerdir={lower},upperdir={data}/upper,workdir={data}/work,userxattr,index=off");
        let options = std::ffi::CString::new(options).map_err(std::io::Error::from).cannot(what)?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("nagaya", data.as_str(), "overlay", flags, options.as_c_str()).cannot(what)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, data.as_str(), flags, Mode::empty()).cannot(what)
    }
}

/// Begins `job` in the tree of a container that is stopped; `lock` is the container's, which the worker holds too until it
/// has ended.
pub fn begin(
    app: &mut App,
    container: &Container,
    lock: &Lock,
    job: &FileJob,
    streams: [BorrowedFd<'_>; 3],
) -> AppResult<Child> {
    let trees = Trees::of(app, container)?;
    let filter = seccomp::copier_filter()?;
    let (namespace, pool) = app.storage(&container.pool)?;
    let fork = Fork::new("work on the container's files")
        .without_terminal()
        .streams(streams.map(Some))
        .keep([lock])
        .keep([pool, &trees.templates])
        .root_of(namespace);
    Ok(fork.start(|| {
        let root = match enter(pool, &trees, &filter) {
            Ok(root) => root,
            Err(e) => {
                transfer::refuse(&descriptors::take_streams()[2], &error_text(&e), e.errno());
                return 1;
            }
        };
        let [input, output, report] = descriptors::take_streams();
        transfer::serve(job, root.as_fd(), input, output, &report)
    })?)
}

/// Mounts the tree in this process's own mount namespace, makes it its root and gives up what files do not take.
fn enter(pool: &OwnedFd, trees: &Trees, filter: &[u8]) -> SysResult<OwnedFd> {
    // Whoever asks may go: then the streams end, and what is half done is tidied up.
    interrupt::ignore_hangups();
    let root = trees.mount(pool)?;
    let enter = rustix::process::fchdir(&root).and_then(|()| rustix::process::chroot(c"."));
    enter.cannot(|| "mount the container's files")?;
    rustix::process::umask(Mode::empty());
    [pool, &trees.templates].into_iter().for_each(|dir| descriptors::close(dir.as_fd()));
    sandbox::keep_to_files()?;
    sandbox::shut_in(filter)?;
    Ok(root)
}
