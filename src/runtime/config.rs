//! What a monitor is told at its start, and the descriptors that it is given.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::model::guest_settings::GuestSettings;
use crate::model::limits::Rlimit;
use crate::model::monitor::{DESCRIPTORS, GuestMount, MAX_CONFIG};
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
    pub guest: GuestSettings,
    /// By slot.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// What it has of other devices, those further up first.
    #[serde(default)]
    pub mounts: Vec<GuestMount>,
    /// Limits of the guest's processes.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Process number of an init to take over, whose monitor was killed, rather than boot one.
    pub adopt: Option<i32>,
}

/// The descriptors that a monitor finds open, by name. 0 to 2 are /dev/null.
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
    /// Takes the descriptors over; to be called once, first thing.
    ///
    /// # Errors
    /// When one of them is not open: this process was not started as a monitor.
    pub fn take() -> SysResult<Self> {
        let end = 3 + DESCRIPTORS.len() as i32;
        for number in 0..end {
            // SAFETY: fcntl(2) on any number is harmless.
            if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
                return Err(SysError::last(format!("use descriptor {number}: not started as a monitor")));
            }
        }
        // SAFETY: each number is open, as just seen, and nothing else in this process owns it.
        let mut given: HashMap<&str, OwnedFd> = DESCRIPTORS
            .into_iter()
            .zip(3..end)
            .map(|(name, n)| (name, unsafe { OwnedFd::from_raw_fd(n) }))
            .collect();
        let mut fd = |name: &str| {
            let none = || SysError::new(format!("use descriptor '{name}'"), std::io::ErrorKind::NotFound);
            given.remove(name).ok_or_else(none)
        };
        Ok(Self {
            config: File::from(fd("config")?),
            control: fd("control")?,
            state: fd("state")?,
            logs: [fd("log")?, fd("other-log")?],
            payload: fd("payload")?,
            network: fd("network")?,
            broker: fd("broker")?,
            init: fd("init")?,
        })
    }
}

impl MonitorConfig {
    /// A memory file that nobody can change any more.
    pub fn seal(&self) -> SysResult<OwnedFd> {
        use rustix::fs::{MemfdFlags, SealFlags};
        let what = || "seal the monitor's configuration";
        let text = serde_json::to_vec(self).map_err(std::io::Error::from).cannot(what)?;
        if text.len() as u64 > MAX_CONFIG {
            let most = format!("its files and arguments take more than {} MiB", MAX_CONFIG >> 20);
            return Err(SysError::new(what(), std::io::Error::other(most)));
        }
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
        file.take(MAX_CONFIG).read_to_end(&mut text).cannot(|| "read the monitor's configuration")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(content: String) -> MonitorConfig {
        MonitorConfig {
            name: Name::new("web01").unwrap(),
            uuid: String::new(),
            init: Vec::new(),
            init_kind: InitKind::Unknown,
            env: vec![("A".to_owned(), content)],
            seccomp: String::new(),
            guest: GuestSettings::default(),
            nics: Vec::new(),
            mounts: Vec::new(),
            rlimits: Vec::new(),
            adopt: None,
        }
    }

    #[test]
    fn what_may_be_passed_can_be_read() {
        let large = config("x".repeat(MAX_CONFIG as usize - 1000));
        let mut file = File::from(large.seal().unwrap());
        assert_eq!(MonitorConfig::read(&mut file).unwrap(), large);
        assert!(config("x".repeat(MAX_CONFIG as usize)).seal().is_err());
    }
}
