//! The distribution's dnsmasq: starting one, and finding it again by its pid file.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::search::{self, NotInstalled};
use crate::model::waits;
use crate::sys::process::child;
use crate::sys::process::fork::Fork;
use crate::sys::process::program::Program;
use crate::sys::{Context, SysError, SysResult, process};

/// Why one could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DnsmasqError {
    #[error(transparent)]
    NoProgram(#[from] NotInstalled),
    #[error("dnsmasq has ended: {0}")]
    Ended(String),
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// The program.
pub fn find() -> Result<PathBuf, NotInstalled> {
    search::DNSMASQ.find()
}

/// Its arguments: the file holds all else.
pub fn arguments(config: &Path) -> Vec<String> {
    vec![format!("--conf-file={}", config.display())]
}

/// Starts one that goes to the background once it serves, in this thread's network namespace. Its
/// complaints go to `said`. It reads what guests send, so it has no rights beyond `capabilities`, bits of
/// capabilities(7).
pub fn start(config: &Path, said: &Path, capabilities: u64) -> Result<(), DnsmasqError> {
    // Not a pipe: it would end at its first message after this command has ended.
    let log = std::fs::File::create(said).cannot(|| format!("write {}", said.display()))?;
    let program = Program::at(&find()?, arguments(config))?;
    let fork = Fork::new("run dnsmasq")
        .without_terminal()
        .streams([None, None, Some(log.as_fd())])
        .service_capabilities(capabilities);
    let exit = fork.exec(&program)?.wait()?;
    if exit.is_success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let complaint = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let complaint = complaint.map(|line| line.trim_start_matches("dnsmasq: ").to_owned());
    Err(DnsmasqError::Ended(complaint.unwrap_or_else(|| exit.to_string())))
}

/// The running dnsmasq of this configuration, by its pid file.
pub fn running(config: &Path, pid_file: &Path) -> Option<OwnedFd> {
    let pid: i32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let process = child::pidfd_open(pid).ok()?;
    let wanted = arguments(config);
    let found = process::command_line(pid);
    let is_it = found.iter().skip(1).filter(|word| !word.is_empty()).eq(wanted.iter().map(String::as_bytes));
    // Its number could be another's by now: the descriptor would tell.
    (is_it && !process::is_zombie(pid) && child::signal(&process, 0).is_ok()).then_some(process)
}

/// Ends it and waits for that.
pub fn end(process: &OwnedFd) -> SysResult<()> {
    if child::signal(process, libc::SIGTERM).is_err() {
        return Ok(());
    }
    if child::ends_within(process, waits::DNSMASQ_END)? {
        return Ok(());
    }
    let _ = child::signal(process, libc::SIGKILL);
    match child::ends_within(process, waits::DNSMASQ_END)? {
        true => Ok(()),
        false => Err(SysError::new("end dnsmasq", std::io::ErrorKind::TimedOut)),
    }
}
