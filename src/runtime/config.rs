//! What a monitor is told at its start, and the descriptors that it is given.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::model::guest_file::GuestFile;
use crate::model::limits::Rlimit;
use crate::model::name::Name;
use crate::model::nic::Nic;
use crate::model::template::InitKind;
use crate::sys::{Context, SysError, SysResult};

/// Travels in a sealed memory file, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorConfig {
    pub name: Name,
    /// 32 hexadecimal digits.
    pub uuid: String,
    pub init: Vec<String>,
    pub init_kind: InitKind,
    /// For the guest's init and nothing else.
    pub env: Vec<(String, String)>,
    /// Classic BPF as `sys::seccomp::default_filter` made it, in hexadecimal; empty for none.
    pub seccomp: String,
    pub files: Vec<GuestFile>,
    /// By slot.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Limits of the guest's processes.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Process number of an init to take over, whose monitor was killed, rather than boot one.
    pub adopt: Option<i32>,
}

/// The descriptors that a monitor finds open, by number. 0 to 2 are /dev/null.
pub struct Inherited {
    pub config: File,
    /// Listening SOCK_SEQPACKET.
    pub control: OwnedFd,
    /// Where the state record goes.
    pub state: OwnedFd,
    /// The console's history: two files, written in turn.
    pub logs: [OwnedFd; 2],
    /// The guest's cgroup.
    pub payload: OwnedFd,
    /// The guest's network namespace.
    pub network: OwnedFd,
    /// To the broker, until the guest has started.
    pub broker: OwnedFd,
    /// The guest's init, when it is to be adopted; otherwise /dev/null.
    pub init: OwnedFd,
}

impl Inherited {
    /// How many descriptors a monitor starts with, 0 to 2 included.
    pub const COUNT: i32 = 12;

    /// Takes the descriptors over; to be called once, first thing.
    ///
    /// # Errors
    /// When one of them is not open: this process was not started as a monitor.
    pub fn take() -> SysResult<Self> {
        for number in 0..Self::COUNT {
            // SAFETY: fcntl(2) on any number is harmless.
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
                return Err(SysError::last(format!("use descriptor {number}: not started as a monitor")));
            }
        }
        // SAFETY: each number is open, as just seen, and nothing else in this process owns it.
        let fd = |number: i32| unsafe { OwnedFd::from_raw_fd(number) };
        Ok(Self {
            config: File::from(fd(3)),
            control: fd(4),
            state: fd(5),
            logs: [fd(6), fd(7)],
            payload: fd(8),
            network: fd(9),
            broker: fd(10),
            init: fd(11),
        })
    }
}

impl MonitorConfig {
    /// A memory file that nobody can change any more.
    pub fn seal(&self) -> SysResult<OwnedFd> {
        use rustix::fs::{MemfdFlags, SealFlags};
        let what = || "seal the monitor's configuration";
        let text = serde_json::to_vec(self).map_err(std::io::Error::from).cannot(what)?;
        let fd = rustix::fs::memfd_create("nagaya-config", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .cannot(what)?;
        let mut rest = &text[..];
        let mut at = 0;
        while !rest.is_empty() {
            let n = rustix::io::pwrite(&fd, rest, at).cannot(what)?;
            at += n as u64;
            rest = &rest[n..];
        }
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&fd, seals).cannot(what)?;
        Ok(fd)
    }

    /// Reads what `seal` wrote.
    pub fn read(file: &mut File) -> SysResult<Self> {
        let mut text = Vec::new();
        file.take(1 << 20).read_to_end(&mut text).cannot(|| "read the monitor's configuration")?;
        serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .cannot(|| "understand the monitor's configuration")
    }

    /// The system call filter as bytes.
    pub fn filter(&self) -> Vec<u8> {
        let digit = |b: u8| (b as char).to_digit(16).unwrap_or(0) as u8;
        self.seccomp.as_bytes().chunks_exact(2).map(|p| digit(p[0]) << 4 | digit(p[1])).collect()
    }

    /// What `filter` undoes.
    pub fn hex(bytes: &[u8]) -> String {
        use std::fmt::Write;
        bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        })
    }
}
