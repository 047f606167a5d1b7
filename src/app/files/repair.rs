//! `mount`: a shell in which a directory shows the files of a container that is stopped, for its repair. Nobody else on
//! the host sees them there: the mount is in a namespace of the shell's own, and goes with it.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use super::stopped::Trees;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::{App, lock};
use crate::app::snapshots::layering;
use crate::model::name::Name;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::process::{identity, interrupt, sandbox};
use crate::sys::{Context, SysError, SysResult, error_text};

/// The exit code of a shell that could not be begun.
const NOT_BEGUN: i32 = 127;

/// Runs `program`, the words of a command, in `dir`, which shows the container's files; without words, a shell. Returns
/// its exit code. It is root of the storage ids, who has rights to these files and to nothing of the host's.
pub fn run(app: &mut App, name: &Name, dir: &Path, program: &[OsString]) -> AppResult<i32> {
    // What is typed at the terminal is for the shell.
    interrupt::arm();
    app.expect_storage();
    let (container, lock) = lock::found(app, name)?;
    layering::refuse_unfinished(app, &container)?;
    if layering::is_running(app, &container)? {
        return Err(AppError::advised(
            format!("container '{name}' is running"),
            format!("open a shell in it: nagaya shell {name}; or stop it first: nagaya stop {name}"),
        ));
    }
    let dir = dir.canonicalize().cannot(|| format!("find {}", dir.display()))?;
    let program = match program.is_empty() {
        true => Program::at(&shell(), Vec::<OsString>::new())?,
        false => {
            let words = ["-c", r#"exec "$@""#, "sh"].into_iter().map(OsString::from);
            Program::at(Path::new("/bin/sh"), words.chain(program.iter().cloned()))?
        }
    };
    let program = program.in_caller_dir().with_caller_environment()?;
    let trees = Trees::of(app, &container)?;
    let proc = open("/proc")?;
    let (namespace, pool) = app.storage(&container.pool)?;
    let fork = Fork::new("open a shell for the container's files")
        .keep([&lock])
        .keep([pool, trees.templates(), &proc])
        .root_of(namespace)
        // This process has the container's lock.
        .dies_with_parent();
    let (child, mut told) = fork.start_with_stream(|mut tell| {
        let failed = match enter(pool, &trees, &proc, &dir) {
            Ok(()) => program.execute(),
            Err(e) => e,
        };
        let _ =
            tell.write_all(&serde_json::to_vec(&(error_text(&failed), failed.errno())).unwrap_or_default());
        NOT_BEGUN
    })?;
    let mut failure = Vec::new();
    told.read_to_end(&mut failure).cannot(|| "hear whether the shell was opened")?;
    let exit = child.wait()?;
    match serde_json::from_slice::<(String, Option<i32>)>(&failure) {
        Err(_) => Ok(exit.code()),
        Ok((text, errno)) => Err(SysError::from_worker(&text, errno).into()),
    }
}

/// The caller's own.
fn shell() -> PathBuf {
    let own = std::env::var_os("SHELL").map(PathBuf::from).filter(|path| path.is_absolute() && path.exists());
    own.unwrap_or_else(|| "/bin/sh".into())
}

fn open(path: &str) -> SysResult<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).cannot(|| format!("open {path}"))
}

/// In the child: mounts the files in a namespace of its own and shows them at `dir`, where it works from then on. It
/// gives up what files do not take.
fn enter(pool: &OwnedFd, trees: &Trees, proc: &OwnedFd, dir: &Path) -> SysResult<()> {
    let root = trees.mount(pool)?;
    // To mount them, the pool had to be its root directory: that becomes the host's again.
    identity::leave_chroot(proc)?;
    let what = || format!("show the container's files at {}", dir.display());
    let source = format!("/proc/self/fd/{}", root.as_fd().as_raw_fd());
    rustix::mount::mount_bind(source.as_str(), dir).cannot(what)?;
    rustix::process::chdir(dir).cannot(what)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sandbox::keep_to_files()?;
    Ok(sandbox::gain_nothing()?)
}
