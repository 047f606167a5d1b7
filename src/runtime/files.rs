//! Work on the files of a living guest: a process that enters the guest's mount namespace, and no other, and does there
//! what nagaya's own code does with files. No program of the guest's has a part in it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::thread::ThreadNameSpaceType;

use super::exec::{self, Entering, Report};
use super::not_started::NotStarted;
use crate::model::file_job::FileJob;
use crate::sys::error_text;
use crate::sys::fs::{mount, transfer};
use crate::sys::net::seqpacket;
use crate::sys::process::fork::Fork;
use crate::sys::process::{caps, descriptors, interrupt, sandbox, seccomp};

const WHAT: &str = "work on the guest's files";

/// Begins `job` with `streams`: what is pushed, what is pulled, and what is told of it. Otherwise as `exec::begin`.
///
/// # Errors
/// When no process can be made.
pub fn begin(
    job: &FileJob,
    streams: &[OwnedFd; 3],
    init: &OwnedFd,
    payload: &OwnedFd,
) -> Result<Entering, NotStarted> {
    exec::in_leaf(WHAT, payload, |fork| {
        let fork = fork.keep([init]).streams(streams.each_ref().map(|fd| Some(fd.as_fd())));
        fork.start_with_socket(|report| enter(job, init, &report))
    })
}

/// Enters the guest's mount namespace and makes the process that works there. The guest cannot name it: it is in none of
/// its pid namespaces.
fn enter(job: &FileJob, init: &OwnedFd, report: &OwnedFd) -> i32 {
    caps::undumpable();
    interrupt::reset();
    interrupt::ignore_hangups();
    let _ = sandbox::leave_keyring();
    rustix::process::umask(rustix::fs::Mode::empty());
    let made = exec::join(init, ThreadNameSpaceType::MOUNT).and_then(|()| {
        let root = mount::open_dir("/").map_err(exec::other)?;
        descriptors::keep_only([report.as_raw_fd(), root.as_raw_fd()].into_iter());
        let fork = Fork::new(WHAT).sibling().keep([&root]);
        fork.start(|| work(job, &root)).map_err(exec::other)
    });
    match made {
        Ok(child) => i32::from(seqpacket::send(report, &Report::Entered(child.pid), &[]).is_err()),
        Err(failed) => exec::tell(report, failed),
    }
}

fn work(job: &FileJob, root: &OwnedFd) -> i32 {
    let [input, output, report] = descriptors::take_streams();
    // Made here and not before: nobody waits for this process to begin.
    let confined = seccomp::copier_filter().and_then(|filter| {
        sandbox::keep_to_files()?;
        Ok(sandbox::shut_in(&filter)?)
    });
    match confined {
        Ok(()) => transfer::serve(job, root.as_fd(), input, output, &report),
        Err(e) => {
            transfer::refuse(&report, &error_text(&e), e.errno());
            1
        }
    }
}
