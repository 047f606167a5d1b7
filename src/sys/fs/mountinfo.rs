//! Which file system something is on, by the kernel's own list of mounts. statfs(2) would ask the file
//! system: with FUSE that is a user's program, which may never answer.

use std::os::fd::{AsFd, AsRawFd};

use crate::sys::{Context, SysResult};

/// The mounts of this process's mount namespace.
pub struct Mounts(String);

impl Mounts {
    pub fn read() -> SysResult<Self> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").cannot(|| "read /proc/self/mountinfo")?;
        Ok(Self(text))
    }

    /// The type of the file system that `fd` is on; none where that is not mounted here.
    pub fn kind_of(&self, fd: impl AsFd) -> Option<&str> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        self.kind_of_mount(id)
    }

    /// Whether a call on `fd` may have to wait for a program: on FUSE, and on unknown mounts.
    pub fn may_hang(&self, fd: impl AsFd) -> bool {
        self.kind_of(fd).is_none_or(|kind| kind.starts_with("fuse"))
    }

    /// proc_pid_mountinfo(5): the type is the first word behind the hyphen that ends the optional fields.
    fn kind_of_mount(&self, id: &str) -> Option<&str> {
        let line = self.0.lines().find(|line| line.split(' ').next() == Some(id))?;
        line.split_once(" - ")?.1.split(' ').next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_on_what_is_mounted_there() {
        let mounts = Mounts::read().unwrap();
        let open = |path: &str| std::fs::File::open(path).unwrap();
        assert_eq!(mounts.kind_of(open("/proc/self/status")), Some("proc"));
        assert!(!mounts.may_hang(open("/proc/self/status")));
        // A file of the kernel's own, which is mounted nowhere.
        let nowhere = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(mounts.kind_of(&nowhere).is_none() && mounts.may_hang(&nowhere));
    }

    #[test]
    fn fuse_is_known_by_its_type() {
        let text = "36 35 98:0 / /a rw,noatime master:1 - ext4 /dev/root rw\n\
                    367 36 0:52 / /b rw shared:7 master:1 - fuse.sshfs ann@x:/ rw,user_id=1000\n";
        let mounts = Mounts(text.to_owned());
        assert_eq!(mounts.kind_of_mount("36"), Some("ext4"));
        assert_eq!(mounts.kind_of_mount("367"), Some("fuse.sshfs"));
        assert_eq!(mounts.kind_of_mount("3"), None);
    }
}
