//! Kernel and host facilities, one file each. `unsafe` lives here and in `runtime`.
#![allow(unsafe_code)]

pub mod activation;
pub mod atomic_file;
pub mod caps;
pub mod cgroup;
pub mod cgroup_home;
pub mod clone;
pub mod dnsmasq;
pub mod erase;
pub mod forked;
pub mod guest_net;
pub mod guest_tools;
pub mod hardware;
pub mod hardware_address;
pub mod host_resolvers;
pub mod interrupt;
pub mod iptables;
pub mod limits;
pub mod lock;
pub mod mount;
pub mod mountinfo;
pub mod netlink;
#[cfg(test)]
pub(crate) mod netns_fixture;
pub mod nft;
pub mod notify;
pub mod outer_ns;
#[cfg(test)]
mod packet_fixture;
pub mod passwd;
pub mod pasta;
pub mod probe;
pub mod process;
pub mod rlimit;
pub mod rooted;
pub mod sandbox;
pub mod sealed;
pub mod seccomp;
pub mod seqpacket;
pub mod services;
pub mod sockets;
pub mod ssh;
pub mod storage_ns;
pub mod subid;
pub mod sysctl;
pub mod tc;
pub mod tty_agent;
pub mod usage;
pub mod userns;

/// A kernel call that failed: what was being done, on what, and the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct SysError {
    what: String,
    #[source]
    source: std::io::Error,
}

impl SysError {
    /// `what` continues the sentence "cannot …" and names the object.
    pub fn new(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// A failure that a child process has described as `text`, which begins with "cannot ".
    pub fn from_worker(text: &str, errno: Option<i32>) -> Self {
        let (what, _) = text.rsplit_once(": ").unwrap_or((text, ""));
        match errno {
            Some(errno) => {
                Self::new(what.trim_start_matches("cannot "), std::io::Error::from_raw_os_error(errno))
            }
            None => Self::new("do the file work", std::io::Error::other(text.to_owned())),
        }
    }

    /// The last system call's errno.
    pub fn last(what: impl Into<String>) -> Self {
        Self::new(what, std::io::Error::last_os_error())
    }

    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// No space or no quota is left.
    pub fn is_host_full(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOSPC | libc::EDQUOT))
    }

    pub fn is_read_only(&self) -> bool {
        self.errno() == Some(libc::EROFS)
    }
}

pub type SysResult<T> = Result<T, SysError>;

/// Attaches the operation to an error of rustix, nix or std.
pub trait Context<T> {
    /// `what` continues the sentence "cannot …" and names the object.
    fn cannot<S: Into<String>>(self, what: impl FnOnce() -> S) -> SysResult<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for Result<T, E> {
    fn cannot<S: Into<String>>(self, what: impl FnOnce() -> S) -> SysResult<T> {
        self.map_err(|e| SysError::new(what(), e))
    }
}

/// An error with its whole chain of causes on one line.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}
