//! pasta (package passt): the way out of a network namespace that an ordinary user has made. It
//! stands outside as the user and carries what comes out of an interface within.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::atomic_file::{self, Lasting};
use super::{Context, SysError, SysResult, clone, process};

/// The interface within.
pub const LINK: &str = "outside0";
/// Where a guest may ask for names if the host's own resolvers listen on its loopback alone: pasta
/// passes such a question on. Link-local, so it is nobody's address anywhere.
pub const RESOLVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 53, 53);

const PROGRAM_DIRS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];
const TUN: &str = "/dev/net/tun";
/// How long it may take until its interface is there.
const PATIENCE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(5);

/// Without these a guest would reach what listens on the host's loopback alone, or nothing.
const NEEDED: [&str; 3] = ["--config-net", "--no-map-gw", "--ns-ifname"];

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum PastaError {
    #[error("'pasta' is not installed (package 'passt')")]
    NoProgram,
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
    let path = PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join("pasta")).find(|path| path.is_file());
    let path = path.ok_or(PastaError::NoProgram)?;
    std::fs::OpenOptions::new().read(true).write(true).open(TUN).map_err(PastaError::NoDevice)?;
    Ok(path)
}

/// Whether the one that `mark` tells of runs.
pub fn is_running(mark: &Path) -> bool {
    marked(mark).is_some()
}

/// Starts it for the namespaces of process `pid`, and leaves a mark by which it is known again.
/// Without effect where it runs already.
pub fn start(pid: i32, mark: &Path) -> Result<(), PastaError> {
    if is_running(mark) {
        return Ok(());
    }
    let program = find()?;
    let options = options(&help(&program)?)?;
    let ready = mark.with_extension("ready");
    // A pipe would be its end, should it have something to say once this command is over.
    let log = mark.with_extension("log");
    let said = std::fs::File::create(&log).cannot(|| format!("write {}", log.display()))?;
    let _ = std::fs::remove_file(&ready);
    let mut command = Command::new(&program);
    command
        .args(options)
        .arg("--pid")
        .arg(&ready)
        .args(["--userns", &format!("/proc/{pid}/ns/user"), "--netns", &format!("/proc/{pid}/ns/net")])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    // SAFETY: setsid(2) alone is called between fork and exec.
    unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
    let mut child = command.spawn().cannot(|| "run pasta")?;
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().cannot(|| "wait for pasta")? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(PastaError::Ended(complaint(&said).unwrap_or_else(|| status.to_string())));
        }
        if ready.exists() {
            break;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(PastaError::Ended(format!("it was not ready within {} s", PATIENCE.as_secs())));
        }
        std::thread::sleep(GLANCE);
    }
    let _ = std::fs::remove_file(&ready);
    let number = child.id() as i32;
    let started = process::started(number).unwrap_or_default();
    atomic_file::replace(mark, format!("{number} {started}\n"), 0o600, Lasting::UntilPowerCut)?;
    Ok(())
}

/// Ends the one that `mark` tells of, if it runs.
pub fn end(mark: &Path) {
    if let Some(process) = marked(mark) {
        let _ = clone::signal(&process, libc::SIGTERM);
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
    let process = clone::pidfd_open(pid).ok()?;
    // A zombie's number is not another's yet, but it serves nobody.
    let lives = clone::signal(&process, 0).is_ok() && !process::is_zombie(pid);
    (lives && process::started(pid)? == started.parse::<u64>().ok()?).then_some(process)
}

fn help(program: &Path) -> SysResult<String> {
    let output =
        Command::new(program).arg("--help").env_clear().output().cannot(|| "ask pasta for its options")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// What this version is told: IPv4 alone, an interface that is configured, and no port of the host
/// or the guests passed on, in neither direction.
fn options(help: &str) -> Result<Vec<String>, PastaError> {
    if let Some(missing) = NEEDED.into_iter().find(|option| !help.contains(option)) {
        return Err(PastaError::TooOld(missing));
    }
    let mut words = vec!["--foreground", "--quiet", "--config-net", "--no-map-gw", "--ns-ifname", LINK];
    words.extend(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    words.extend(Some("--ipv4-only").filter(|option| help.contains(option)));
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if help.contains("--dns-forward") {
        words.extend(["--dns-forward".to_owned(), RESOLVER.to_string()]);
    }
    Ok(words)
}

/// The last thing that it said itself; it also complains of a system log that is not there.
fn complaint(said: &str) -> Option<String> {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.filter(|line| !line.contains("syslog")).collect();
    lines.last().map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_kept_from_the_hosts_loopback() {
        let old =
            "  -I, --ns-ifname NAME\n --dns-forward ADDR\n  --no-map-gw\n  -4, --ipv4-only\n --config-net\n";
        let words = options(old).unwrap().join(" ");
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
