//! polkit's agent for terminals. A desktop has an agent that asks for passwords; over ssh there is none,
//! and polkit refuses without asking. So whoever may be asked starts one, as systemctl(1) does.

use std::io::{IsTerminal, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal};

/// Of polkit's package wherever it is.
const PROGRAM: &str = "/usr/bin/pkttyagent";
/// How long it may take to be known to polkit.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// How long it may take to end; it puts the terminal right first.
const ENDING: Duration = Duration::from_secs(2);

/// Asks at the terminal on behalf of this process, until dropped.
pub struct Agent {
    process: Child,
}

/// None without a terminal, and where there is no such program or polkit does not want it.
pub fn start() -> Option<Agent> {
    std::io::stdin().is_terminal().then(|| start_program(Path::new(PROGRAM))).flatten()
}

fn start_program(program: &Path) -> Option<Agent> {
    let mut command = Command::new(program);
    // It speaks to the terminal itself. What it is given as its output it closes once it is ready. An
    // agent that is there already, a desktop's, comes first.
    command.args(["--notify-fd", "1", "--fallback"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec, one system call that allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let mut process = command.spawn().ok()?;
    let mut ready = process.stdout.take();
    let agent = Agent { process };
    let pipe = ready.as_mut()?;
    let mut fds = [PollFd::new(&*pipe, PollFlags::IN)];
    let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&PATIENCE)));
    if polled == Ok(1) {
        let _ = pipe.read(&mut [0]);
    }
    Some(agent)
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // It is a child that has not been waited for: the number is still its own.
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + ENDING;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_agent_is_waited_for_and_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (program, log) = (dir.path().join("agent"), dir.path().join("log"));
        let script = format!(
            "#!/bin/sh\ntrap 'echo ended >>{0}; exit' TERM\nsleep 0.1\necho \"$*\" >{0}\nexec >&-\n\
             while :; do sleep 0.01; done\n",
            log.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let agent = start_program(&program).unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "--notify-fd 1 --fallback\n");
        drop(agent);
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("ended\n"));
        assert!(start_program(Path::new("/nonexistent")).is_none());
        // One that does not want to.
        assert!(start_program(Path::new("/bin/false")).is_some());
    }
}
