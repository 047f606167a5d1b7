//! The distribution's dnsmasq: starting one, and finding it again by its pid file.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{Context, SysError, SysResult, caps, clone, process};

const PROGRAMS: [&str; 3] = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq", "/usr/local/sbin/dnsmasq"];
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why one could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DnsmasqError {
    #[error("'dnsmasq' is not installed (package 'dnsmasq-base', or 'dnsmasq')")]
    NoProgram,
    #[error("dnsmasq has ended: {0}")]
    Ended(String),
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// The program, not looked for in PATH: the caller may be root with a user's environment.
pub fn find() -> Result<&'static str, DnsmasqError> {
    PROGRAMS.into_iter().find(|path| Path::new(path).is_file()).ok_or(DnsmasqError::NoProgram)
}

/// Its arguments: the file holds all else.
pub fn arguments(config: &Path) -> Vec<String> {
    vec![format!("--conf-file={}", config.display())]
}

/// Starts one that goes to the background once it serves, in this thread's network namespace. What it
/// complains of goes to `said`. It hears guests, so it has no right beyond `capabilities`, bits of
/// capabilities(7).
pub fn start(config: &Path, said: &Path, capabilities: u64) -> Result<(), DnsmasqError> {
    // A pipe would be its end, should it have something to say once this command is over.
    let log = std::fs::File::create(said).cannot(|| format!("write {}", said.display()))?;
    let mut command = Command::new(find()?);
    // SAFETY: between fork and exec, prctl(2) only.
    unsafe {
        command.pre_exec(move || caps::confine_service(capabilities).map_err(std::io::Error::other));
    }
    let status = command
        .args(arguments(config))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .cannot(|| "run dnsmasq")?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(said).unwrap_or_default();
    let complaint = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let complaint = complaint.map(|line| line.trim_start_matches("dnsmasq: ").to_owned());
    Err(DnsmasqError::Ended(complaint.unwrap_or_else(|| status.to_string())))
}

/// The one of this configuration that runs, by the file in which it has noted its number.
pub fn running(config: &Path, pid_file: &Path) -> Option<OwnedFd> {
    let pid: i32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let process = clone::pidfd_open(pid).ok()?;
    let wanted = arguments(config);
    let found = process::command_line(pid);
    let is_it = found.iter().skip(1).filter(|word| !word.is_empty()).eq(wanted.iter().map(String::as_bytes));
    // Its number could be another's by now: the descriptor would tell.
    (is_it && !process::is_zombie(pid) && clone::signal(&process, 0).is_ok()).then_some(process)
}

/// Ends it and waits for that.
pub fn end(process: &OwnedFd) -> SysResult<()> {
    if clone::signal(process, libc::SIGTERM).is_err() {
        return Ok(());
    }
    if has_ended(process, PATIENCE)? {
        return Ok(());
    }
    let _ = clone::signal(process, libc::SIGKILL);
    match has_ended(process, PATIENCE)? {
        true => Ok(()),
        false => Err(SysError::new("end dnsmasq", std::io::ErrorKind::TimedOut)),
    }
}

fn has_ended(process: &OwnedFd, patience: Duration) -> SysResult<bool> {
    let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&timeout)));
    ready.map(|count| count > 0).cannot(|| "wait for dnsmasq")
}
