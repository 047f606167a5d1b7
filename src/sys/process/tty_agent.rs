//! polkit's agent for terminals. A desktop has an agent that asks for passwords; over ssh there is none,
//! and polkit refuses without asking. So whoever may be asked starts one, as systemctl(1) does.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;

use super::child::{self, Child};
use super::descriptors;
use super::fork::Fork;
use super::program::Program;
use crate::model::waits;
use crate::sys::programs::search;
use crate::sys::{Context, SysResult, timespec};

/// Asks at the terminal on behalf of this process, until dropped.
pub struct Agent {
    process: Child,
}

/// None without a terminal, and where there is no such program or polkit does not want it.
pub fn start() -> Option<Agent> {
    std::io::stdin().is_terminal().then_some(())?;
    start_program(&search::PKTTYAGENT.find().ok()?).ok()
}

fn start_program(program: &Path) -> SysResult<Agent> {
    // It speaks to the terminal itself. What it is given as its output it closes once it is ready. An
    // agent that is there already, a desktop's, comes first.
    let program = Program::at(program, ["--notify-fd", "1", "--fallback"])?.with_caller_environment()?;
    let (ready, output) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).cannot(|| "make a pipe")?;
    let null = descriptors::null()?;
    let fork = Fork::new("ask at the terminal")
        .streams([Some(null.as_fd()), Some(output.as_fd()), Some(null.as_fd())])
        .death_signal(Signal::TERM);
    let agent = Agent { process: fork.exec(&program)? };
    drop(output);
    let mut fds = [PollFd::new(&ready, PollFlags::IN)];
    let _ = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut fds, Some(&timespec(waits::POLKIT_AGENT_START)))
    });
    Ok(agent)
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = child::signal(&self.process.pidfd, libc::SIGTERM);
        if !matches!(self.process.wait_within(waits::POLKIT_AGENT_END), Ok(Some(_))) {
            self.process.kill();
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
        assert!(start_program(Path::new("/nonexistent")).is_err());
        // One that does not want to.
        assert!(start_program(Path::new("/bin/false")).is_ok());
    }
}
