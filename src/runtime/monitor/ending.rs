//! The end of a guest: whether it is a reboot, why it ended, and what comes next.

use std::os::fd::AsFd;
use std::time::Instant;

use super::clients::Wait;
use super::stage::Stage;
use super::state::Monitor;
use crate::model::waits;
use crate::runtime::console::Console;
use crate::runtime::protocol::{Ended, Reply};
use crate::sys::process::child;
use crate::sys::process::child::{Exit, Foreign};
use crate::sys::{SysResult, cgroup};

/// How an init has ended, as far as the kernel tells.
enum Told {
    NotYet { look_at: Instant },
    Exit(Exit),
    Never,
}

impl Monitor {
    /// Init has ended, at `since`: for good, or to be booted again. reboot(2) shows as the signal that
    /// ended it: SIGHUP for a restart, SIGINT for a halt or power-off.
    pub(super) fn guest_ended(&mut self, since: Instant) -> SysResult<Option<Ended>> {
        // The kernel ends an init last of all in its guest: nothing can print any more.
        self.console.iter_mut().for_each(Console::drain_rest);
        let exit = match self.ask_how(since)? {
            Told::NotYet { look_at } => {
                self.stage = Stage::Ending { since, look_at };
                return Ok(None);
            }
            Told::Exit(exit) => Some(exit),
            Told::Never => None,
        };
        let asked = self.stopping;
        let ended = |reason: &str, clean| Ok(Some(Ended { reason: reason.to_owned(), clean, asked }));
        match exit {
            Some(Exit::Signal(libc::SIGHUP)) if !self.stopping => self.boot_again(),
            // For a process that is not its child, the kernel does not report reboot(2)'s signal. So the
            // guest's last console lines decide; they concern nobody but the guest.
            _ if !self.init.ours && !self.stopping && self.said_reboot() => self.boot_again(),
            Some(Exit::Signal(libc::SIGHUP | libc::SIGINT)) => ended("shut down", true),
            Some(Exit::Code(0)) => ended("its init ended", true),
            Some(Exit::Signal(libc::SIGKILL)) if self.stopping => ended("stopped by force", true),
            Some(Exit::Signal(signal)) => {
                let memory = signal == libc::SIGKILL && self.wanted_memory();
                let why = if memory { " for want of memory" } else { "" };
                ended(&format!("its init was killed by signal {signal}{why}"), false)
            }
            Some(Exit::Code(code)) => ended(&format!("its init exited with code {code}"), false),
            None if self.stopping => ended("shut down", true),
            None => ended("its init ended, how is not known", false),
        }
    }

    fn ask_how(&self, since: Instant) -> SysResult<Told> {
        let now = Instant::now();
        if self.init.ours {
            let exit = child::try_wait_pid(self.init.pid)?;
            return Ok(exit.map_or(Told::NotYet { look_at: now + waits::INIT_EXIT_POLL_TRACED }, Told::Exit));
        }
        if self.said_reboot() {
            return Ok(Told::Never);
        }
        Ok(match child::exit_of_foreign(&self.init.pidfd) {
            Foreign::NotYet if now < since + waits::INIT_EXIT => {
                Told::NotYet { look_at: now + waits::INIT_EXIT_POLL }
            }
            Foreign::Ended(exit) => Told::Exit(exit),
            Foreign::NotYet | Foreign::Unknown => Told::Never,
        })
    }

    /// Whether the kernel has killed processes of this boot for lack of memory.
    fn wanted_memory(&self) -> bool {
        cgroup::oom_kills(self.payload.as_fd()) > self.killed_before
    }

    fn said_reboot(&self) -> bool {
        self.console.as_ref().is_some_and(Console::says_reboot)
    }

    pub(super) fn finish(&mut self, ended: Ended) {
        if let Some(console) = &mut self.console {
            console.note(&ended.reason);
        }
        self.record.ended = Some(ended.clone());
        self.write_record();
        if let Some(asking) = &mut self.asking {
            for (client, reply) in asking.heeded() {
                self.clients.reply(client, &reply, &[]);
            }
        }
        self.clients.tell(Wait::Stopped, &Reply::Stopped(ended));
    }
}
