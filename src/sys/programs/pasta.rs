//! pasta (package passt): the uplink of a network namespace that an ordinary user has made. It runs outside
//! as the user and carries the traffic of an interface inside.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::search::{self, NotInstalled};
use crate::model::waits;
use crate::sys::fs::atomic_file::{self, Lasting};
use crate::sys::process::child;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::{Context, SysError, SysResult, process};

/// The interface inside.
pub const LINK: &str = "outside0";
/// Where a guest asks for names if the host's own resolvers listen on loopback alone: pasta passes the
/// question on. It is link-local, so it is nobody's address anywhere.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 53, 53);

const TUN: &str = "/dev/net/tun";

/// Without these a guest would reach what listens on the host's loopback alone, or nothing.
const NEEDED: [&str; 3] = ["--config-net", "--no-map-gw", "--ns-ifname"];

/// Why there is no uplink.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    #[error(transparent)]
    NoProgram(#[from] NotInstalled),
    #[error("{TUN} cannot be opened by this user")]
    NoDevice(#[source] std::io::Error),
    #[error("pasta is too old: it has no {0}")]
    TooOld(&'static str),
    #[error("pasta has ended: {0}")]
    Ended(String),
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// The program, where all that it takes is there.
pub fn find() -> Result<PathBuf, PastaError> {
    let path = search::PASTA.find()?;
    std::fs::OpenOptions::new().read(true).write(true).open(TUN).map_err(PastaError::NoDevice)?;
    Ok(path)
}

/// Whether the pasta that `mark` records runs.
pub fn is_running(mark: &Path) -> bool {
    marked(mark).is_some()
}

/// Starts it for the namespaces of process `pid`, and records it in `mark`. Does nothing if it runs
/// already.
pub fn start(pid: i32, mark: &Path) -> Result<(), PastaError> {
    if is_running(mark) {
        return Ok(());
    }
    let path = find()?;
    let mut arguments = options(&help(&path)?)?;
    let ready = mark.with_extension("ready");
    // Not a pipe: it would end at its first message after this command has ended.
    let log = mark.with_extension("log");
    let said = std::fs::File::create(&log).cannot(|| format!("write {}", log.display()))?;
    let _ = std::fs::remove_file(&ready);
    let namespace = |kind: &str| OsString::from(format!("/proc/{pid}/ns/{kind}"));
    arguments.extend(["--pid".into(), ready.clone().into_os_string()]);
    arguments.extend(["--userns".into(), namespace("user"), "--netns".into(), namespace("net")]);
    let program = Program::at(&path, arguments)?;
    let fork = Fork::new("run pasta").without_terminal().streams([None, None, Some(said.as_fd())]);
    let child = fork.exec(&program)?;
    let end = Instant::now() + waits::PASTA_START;
    loop {
        if let Some(exit) = child.try_wait()? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(PastaError::Ended(complaint(&said).unwrap_or_else(|| exit.to_string())));
        }
        if ready.exists() {
            break;
        }
        if Instant::now() >= end {
            child.kill();
            return Err(PastaError::Ended(format!(
                "it was not ready within {} s",
                waits::PASTA_START.as_secs()
            )));
        }
        std::thread::sleep(waits::PASTA_POLL);
    }
    let _ = std::fs::remove_file(&ready);
    let number = child.pid;
    let started = process::started(number).unwrap_or_default();
    atomic_file::replace(mark, format!("{number} {started}\n"), 0o600, Lasting::UntilPowerCut)?;
    Ok(())
}

/// Ends the pasta that `mark` records, if it runs.
pub fn end(mark: &Path) {
    if let Some(process) = marked(mark) {
        let _ = child::signal(&process, libc::SIGTERM);
    }
    let _ = std::fs::remove_file(mark);
}

/// Its process number.
pub fn number(mark: &Path) -> Option<i32> {
    std::fs::read_to_string(mark).ok()?.split_whitespace().next()?.parse().ok()
}

fn marked(mark: &Path) -> Option<std::os::fd::OwnedFd> {
    let text = std::fs::read_to_string(mark).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let pid: i32 = pid.parse().ok()?;
    let process = child::pidfd_open(pid).ok()?;
    // A zombie's number is not another's yet, but it serves nobody.
    let lives = child::signal(&process, 0).is_ok() && !process::is_zombie(pid);
    (lives && process::started(pid)? == started.parse::<u64>().ok()?).then_some(process)
}

fn help(program: &Path) -> SysResult<String> {
    let program = Program::at(program, ["--help"])?;
    let output = Fork::new("ask pasta for its options").deadline(waits::PASTA_START).output(&program, "")?;
    Ok(output.stdout + &output.stderr)
}

/// The options for this version: IPv4 alone, a configured interface, and no ports passed on in either
/// direction.
fn options(help: &str) -> Result<Vec<OsString>, PastaError> {
    if let Some(missing) = NEEDED.into_iter().find(|option| !help.contains(option)) {
        return Err(PastaError::TooOld(missing));
    }
    let mut words = vec!["--foreground", "--quiet", "--config-net", "--no-map-gw", "--ns-ifname", LINK];
    words.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    words.extend(Some("--ipv4-only").filter(|option| help.contains(option)));
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    if help.contains("--dns-forward") {
        words.extend(["--dns-forward".into(), RESOLVER.to_string().into()]);
    }
    Ok(words)
}

/// The last message of its own; it also complains of a missing system log.
fn complaint(said: &str) -> Option<String> {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| !line.contains("syslog")).collect();
    lines.last().map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn every_version_is_kept_from_the_hosts_loopback() {
        let old =
            "  -I, --ns-ifname NAME\n --dns-forward ADDR\n  --no-map-gw\n  -4, --ipv4-only\n --config-net\n";
        let words = options(old).unwrap().join(OsStr::new(" "));
        assert_eq!(
            words,
            "--foreground --quiet --config-net --no-map-gw --ns-ifname outside0 -t none -u none -T none \
             -U none --ipv4-only --dns-forward 169.254.53.53"
        );
        let without = old.replace("--no-map-gw", "");
        assert!(matches!(options(&without), Err(PastaError::TooOld("--no-map-gw"))));
    }

    #[test]
    fn its_own_complaint_is_told_from_that_about_the_log() {
        let said = "Failed to send 51 bytes to syslog\nCouldn't open network namespace\nFailed to send 9 bytes to syslog\n";
        assert_eq!(complaint(said).as_deref(), Some("Couldn't open network namespace"));
        assert_eq!(complaint("\n"), None);
    }
}
