//! The iptables programs, in both of their kinds: in front of nftables, and of the kernel's former
//! tables.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{SysError, SysResult};
use crate::render::iptables::Family;

const DIRS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
/// Seconds to wait for another that works on the tables.
const PATIENCE: &str = "5";

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
            let find =
                |name: String| DIRS.iter().map(|dir| Path::new(dir).join(&name)).find(|path| path.exists());
            Some(Self {
                program: find(format!("{name}{kind}"))?,
                restore: find(format!("{name}{kind}-restore"))?,
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
        let printed = self.run(&self.program, &["-w", PATIENCE, "-t", "filter", "-S"], "")?;
        Ok(printed.lines().map(|line| line.replace('"', "")).collect())
    }

    /// Applies a change in one step and leaves all else as it is.
    pub fn restore(&self, text: &str) -> SysResult<()> {
        self.run(&self.restore, &["-w", PATIENCE, "--noflush"], text).map(drop)
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> SysResult<String> {
        let failed = |source: std::io::Error| SysError::new(format!("run {}", program.display()), source);
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // One that ends before it has read everything says why on its standard error.
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.trim().lines().next().unwrap_or("it failed without a word").to_owned();
            return Err(failed(std::io::Error::other(line)));
        }
        written.map_err(failed)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
