//! What is known of a root filesystem template.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The program that a guest's process 1 is; decides the signals that stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitKind {
    Systemd,
    Openrc,
    Busybox,
    Sysvinit,
    Unknown,
}

/// How an init is asked for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Send it this signal, by number: real-time signals count from glibc's SIGRTMIN, 34.
    Signal(i32),
    /// Run this in the guest.
    Run(&'static [&'static str]),
    /// Where the guest has this directory, the one word, send it this signal and no other.
    SignalWhere(&'static [&'static str; 1], i32),
}

/// There where systemd is process 1: sd_booted(3).
const SYSTEMD: &[&str; 1] = &["/run/systemd/system"];

impl InitKind {
    /// How to ask for a power-off (systemd(1), busybox's init.c, openrc-init(8), init(8)): ways to be
    /// tried in turn, each when those before it have failed. A signal that an init has no use for does
    /// nothing to a process 1; lxc.container.conf(5) sends SIGPWR.
    pub fn shutdown(self) -> &'static [Ask] {
        const PWR: Ask = Ask::Signal(30);
        match self {
            InitKind::Systemd => &[Ask::Signal(38)],
            InitKind::Openrc => &[Ask::Signal(15)],
            InitKind::Busybox => &[Ask::Signal(12)],
            InitKind::Sysvinit => {
                &[Ask::Run(&["/sbin/init", "0"]), Ask::Run(&["poweroff"]), Ask::SignalWhere(SYSTEMD, 38), PWR]
            }
            // What restarts at SIGINT has ended all the same when it was asked to.
            InitKind::Unknown => &[
                Ask::Run(&["poweroff"]),
                Ask::SignalWhere(SYSTEMD, 38),
                PWR,
                Ask::Signal(15),
                Ask::Signal(2),
            ],
        }
    }

    /// How to ask for a restart, in the same way.
    pub fn reboot(self) -> &'static [Ask] {
        match self {
            InitKind::Systemd => &[Ask::Signal(39)],
            InitKind::Openrc => &[Ask::Signal(2)],
            InitKind::Busybox => &[Ask::Signal(15)],
            InitKind::Sysvinit => {
                &[Ask::Run(&["/sbin/init", "6"]), Ask::Run(&["reboot"]), Ask::SignalWhere(SYSTEMD, 39)]
            }
            InitKind::Unknown => &[Ask::Run(&["reboot"]), Ask::SignalWhere(SYSTEMD, 39), Ask::Signal(2)],
        }
    }
}

/// Which of the guest's own tools configures its network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkStyle {
    Networkd,
    /// Debian's, in C.
    Ifupdown,
    /// The scripts of CentOS 7 and its like.
    Ifcfg,
    Netplan,
    NetworkManager,
    /// busybox's ifupdown, or ifupdown-ng.
    Alpine,
    /// Nothing that we know: the kernel's configuration stands alone.
    #[default]
    None,
}

/// Facts read out of an unpacked tree. Strings come from the tree: bounded, printable, untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFacts {
    /// What `/sbin/init` is. Without it nobody could say how its guests are shut down.
    pub init: InitKind,
    /// What sets up its network.
    #[serde(default)]
    pub network: NetworkStyle,
    /// PRETTY_NAME of os-release, at most 100 characters, control characters removed; may be empty.
    #[serde(default)]
    pub os: String,
    /// As uname(2) would say of the ELF init: `x86_64`, `aarch64`, …, or `unknown`.
    #[serde(default)]
    pub arch: String,
}

/// One unpacked root filesystem in the pool, however many names it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Names its directory in the pool.
    pub id: TemplateId,
    /// What was read out of its tree.
    pub facts: TemplateFacts,
    /// What its files take on disk.
    pub bytes: u64,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// Whether `text` may name a template: 1 to 128 of ASCII letters, digits and `.`, `_`, `:`, `/`,
/// `+`, `@`, `-`, beginning with a letter or a digit. Wide enough for `ubuntu/22.04` and for
/// the reference of an OCI image; it is never a path.
pub fn is_template_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/+@-".contains(&b))
}

/// SHA-256 of the template's uncompressed tar stream: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateId(String);

/// A string that is not 64 hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a template id (64 hexadecimal digits)")]
pub struct TemplateIdError(String);

impl TemplateId {
    /// Reads an id. Errors: `text` is not 64 hexadecimal digits in lower case.
    pub fn new(text: &str) -> Result<Self, TemplateIdError> {
        let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(TemplateIdError(text.to_owned())) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as users see it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TemplateId {
    type Error = TemplateIdError;
    fn try_from(text: String) -> Result<Self, TemplateIdError> {
        Self::new(&text)
    }
}

impl From<TemplateId> for String {
    fn from(id: TemplateId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;

    #[test]
    fn facts_outlive_versions() {
        let (os, arch) = ("Debian".to_owned(), "x86_64".to_owned());
        let (init, network) = (InitKind::Systemd, NetworkStyle::Networkd);
        value_outlives(&TemplateFacts { init, network, os, arch }, &["init"], &[]);
    }

    #[test]
    fn template_names_are_bounded_and_plain() {
        for good in ["centos7", "ubuntu/22.04", "docker.io/library/debian:12@sha256", &"x".repeat(128)] {
            assert!(is_template_name(good), "{good}");
        }
        for bad in ["", "-a", "/a", ".", "a b", "a\n", "a\"", "ä", &"x".repeat(129)] {
            assert!(!is_template_name(bad), "{bad:?}");
        }
    }
}
