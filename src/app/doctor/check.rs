//! One line of the doctor's report, and what all of its chapters share.

use std::error::Error;
use std::fs;

use crate::sys::programs::search::Packaged;

pub use crate::api::doctor::{Check, Status};

impl Check {
    pub fn ok(area: &'static str, name: &'static str, detail: impl Into<String>) -> Self {
        Self { area, name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    pub fn later(area: &'static str, name: &'static str, detail: impl Into<String>) -> Self {
        Self { status: Status::Later, ..Self::ok(area, name, detail) }
    }

    pub fn degraded(
        area: &'static str,
        name: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (detail, fix) = (detail.into(), Some(fix.into()));
        Self { area, name, status: Status::Degraded, detail, fix }
    }

    pub fn missing(
        area: &'static str,
        name: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status: Status::Missing, ..Self::degraded(area, name, detail, fix) }
    }
}

/// How a trial on the live kernel went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tried {
    Worked,
    /// The error with its causes.
    Failed(String),
    /// Only root can try it.
    NotRoot,
}

impl Tried {
    pub fn of<T, E: Error>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Worked,
            Err(error) => Self::Failed(chain(&error)),
        }
    }

    /// The check that follows where a failure means that containers cannot run.
    pub fn judge(self, area: &'static str, name: &'static str, works: &str, fix: impl Into<String>) -> Check {
        match self {
            Self::Worked => Check::ok(area, name, works),
            Self::Failed(why) => Check::missing(area, name, why, fix),
            Self::NotRoot => Check {
                status: Status::Untried,
                ..Check::ok(area, name, "only root can try that: sudo nagaya doctor")
            },
        }
    }
}

/// The distribution's family of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packages {
    Apt,
    Dnf,
    Other,
}

impl Packages {
    /// From the contents of /etc/os-release.
    pub fn of(os_release: &str) -> Self {
        let words: Vec<&str> = os_release
            .lines()
            .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
            .flat_map(|value| value.trim_matches('"').split(' '))
            .collect();
        let any = |names: &[&str]| words.iter().any(|word| names.contains(word));
        if any(&["debian", "ubuntu"]) {
            Self::Apt
        } else if any(&["fedora", "rhel", "centos"]) {
            Self::Dnf
        } else {
            Self::Other
        }
    }

    /// The command that installs a package, which has one name at Debian and one at Fedora.
    pub fn install(self, debian: &str, fedora: &str) -> String {
        match self {
            Self::Apt => format!("apt-get install {debian}"),
            Self::Dnf => format!("dnf install {fedora}"),
            Self::Other => format!("install the package that Debian calls '{debian}'"),
        }
    }

    pub fn install_program(self, program: &Packaged) -> String {
        self.install(program.debian, program.fedora)
    }

    pub fn newer_kernel(self) -> &'static str {
        match self {
            Self::Apt => "apt-get update && apt-get full-upgrade && reboot",
            Self::Dnf => "dnf upgrade kernel && reboot",
            Self::Other => "install Linux 5.19 or newer and reboot",
        }
    }
}

/// The command that sets a sysctl for now and for the next boots.
pub fn sysctl(key: &str, value: impl std::fmt::Display) -> String {
    let file = "/etc/sysctl.d/90-nagaya.conf";
    format!("echo '{key} = {value}' >>{file} && sysctl -p {file}")
}

/// The contents of a small file of /proc, /sys or /etc without white space around; none where it
/// cannot be read.
pub fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// An error and its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // A transparent variant repeats its source.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_by_id_and_likeness() {
        assert_eq!(Packages::of("NAME=x\nID=debian\n"), Packages::Apt);
        assert_eq!(Packages::of("ID=mint\nID_LIKE=\"ubuntu debian\"\n"), Packages::Apt);
        assert_eq!(Packages::of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"), Packages::Dnf);
        assert_eq!(Packages::of("ID=void\n"), Packages::Other);
        assert_eq!(Packages::Apt.install("uidmap", "shadow-utils"), "apt-get install uidmap");
    }

    #[test]
    fn a_failed_trial_says_why_and_what_to_do() {
        let check = Tried::Failed("no".into()).judge("kernel", "x", "works", "do it");
        assert_eq!(check, Check::missing("kernel", "x", "no", "do it"));
        assert_eq!(Tried::Worked.judge("kernel", "x", "works", "do it"), Check::ok("kernel", "x", "works"));
        let json = serde_json::to_value(Tried::NotRoot.judge("kernel", "x", "works", "do it")).unwrap();
        assert_eq!(json["status"], "untried");
        assert!(json["fix"].is_null());
    }
}
