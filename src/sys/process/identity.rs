//! Whom a process works as, and which namespaces it leaves. Nothing here asks for memory.

use rustix::thread::UnshareFlags;

use super::failed::{Doing, Failed};

/// Becomes `uid` and `gid` with no supplementary group.
pub fn become_ids(uid: u32, gid: u32) -> Result<(), Failed> {
    let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
    rustix::thread::set_thread_groups(&[]).doing("drop the supplementary groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).doing("change the group")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).doing("change the user")
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
