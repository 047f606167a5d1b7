//! The iptables programs, in both of their kinds: in front of nftables, and of the kernel's former
//! tables.

use std::path::{Path, PathBuf};

use crate::render::iptables::Family;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::programs::search;
use crate::sys::{SysError, SysResult};

/// Seconds to wait for another that works on the tables.
const LOCK_SECONDS: &str = "5";

/// Which of the kernel's two firewalls a program speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nft,
    Legacy,
}

/// The programs of one family and kind.
#[derive(Debug, Clone)]
pub struct Iptables {
    program: PathBuf,
    restore: PathBuf,
}

impl Iptables {
    /// Under the name that says the kind, else under the plain one; none where it is not installed.
    pub fn find(family: Family, kind: Kind) -> Option<Self> {
        let name = match family {
            Family::Ip4 => "iptables",
            Family::Ip6 => "ip6tables",
        };
        let kind = match kind {
            Kind::Nft => "-nft",
            Kind::Legacy => "-legacy",
        };
        [kind, ""].into_iter().find_map(|kind| {
            Some(Self {
                program: search::find(&format!("{name}{kind}"))?,
                restore: search::find(&format!("{name}{kind}-restore"))?,
            })
        })
    }

    /// Whether the kernel's former firewall has a filter table of this family: looking into it would
    /// make one.
    pub fn has_legacy_filter(family: Family) -> bool {
        let file = match family {
            Family::Ip4 => "ip_tables_names",
            Family::Ip6 => "ip6_tables_names",
        };
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        text.lines().any(|line| line == "filter")
    }

    /// Chains and rules of the filter table, as `iptables -S` prints them.
    pub fn list(&self) -> SysResult<Vec<String>> {
        let printed = self.run(&self.program, &["-w", LOCK_SECONDS, "-t", "filter", "-S"], "")?;
        Ok(printed.lines().map(|line| line.replace('"', "")).collect())
    }

    /// Applies a change in one step and leaves all else as it is.
    pub fn restore(&self, text: &str) -> SysResult<()> {
        self.run(&self.restore, &["-w", LOCK_SECONDS, "--noflush"], text).map(drop)
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> SysResult<String> {
        let output = Fork::new("run iptables").output(&Program::at(program, arguments)?, input)?;
        if output.exit.is_success() {
            return Ok(output.stdout);
        }
        let line = output.stderr.trim().lines().next().unwrap_or("it failed without a word").to_owned();
        Err(SysError::new(format!("run {}", program.display()), std::io::Error::other(line)))
    }
}
