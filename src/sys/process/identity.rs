//! Whom a process works as, and which namespaces it leaves. Nothing here asks for memory.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::failed::{Doing, Failed};

/// Becomes `uid` and `gid` with no supplementary group.
pub fn become_ids(uid: u32, gid: u32) -> Result<(), Failed> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).doing("drop the supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("change the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("change the user")
}

/// Has the root of this process's mount namespace as its root directory and stands there, wherever chroot(2) has led it.
/// `proc` is the host's `/proc`. Who enters a mount namespace, also the one that it is in, is put there.
pub fn leave_chroot(proc: &OwnedFd) -> Result<(), Failed> {
    let what = "leave the pool";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(proc, "self/ns/mnt", flags, Mode::empty()).doing(what)?;
    rustix::thread::move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).doing(what)
}

/// unshare(2); only for processes with a single thread, or for a thread of which nothing is left.
pub fn unshare(flags: UnshareFlags) -> Result<(), Failed> {
    let what = match flags {
        UnshareFlags::NEWUSER => "make a user namespace",
        UnshareFlags::NEWNET => "make a network namespace",
        UnshareFlags::NEWNS => "make a mount namespace",
        _ => "make namespaces",
    };
    let flags = nix::sched::CloneFlags::from_bits_retain(flags.bits() as i32);
    nix::sched::unshare(flags).map_err(|e| rustix::io::Errno::from_raw_os_error(e as i32)).doing(what)
}
