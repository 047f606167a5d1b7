//! The end of a guest: whether it is one, why, and what comes after.

use std::os::fd::AsFd;

use super::{Monitor, Task};
use crate::model::template::InitKind;
use crate::runtime::boot;
use crate::runtime::console::Console;
use crate::runtime::init::Boot;
use crate::runtime::protocol::{Ended, Reply};
use crate::runtime::rootfs;
use crate::sys::SysResult;
use crate::sys::cgroup;
use crate::sys::clone::{self, Exit};

/// More boots than this in `REBOOT_WINDOW` are a guest that cannot come up.
const REBOOTS: usize = 8;
const REBOOT_WINDOW: std::time::Duration = std::time::Duration::from_secs(60);

impl Monitor {
    /// Init has ended: for good, or to be booted again. reboot(2) shows as the signal that ended
    /// it: SIGHUP for a restart, SIGINT for a halt or power-off.
    pub(super) fn guest_ended(&mut self) -> SysResult<Option<Ended>> {
        // The kernel ends an init last of all in its guest: nothing can print any more.
        while let Some(console) = self.console.as_mut().filter(|c| c.has_more()) {
            console.drain();
        }
        let exit = match self.init.ours {
            true => Some(clone::wait_pid(self.init.pid)?),
            false if self.said_reboot() => None,
            false => clone::exit_of_foreign(&self.init.pidfd),
        };
        let asked = self.stopping;
        let ended = |reason: &str, clean| Ok(Some(Ended { reason: reason.to_owned(), clean, asked }));
        match exit {
            Some(Exit::Signal(libc::SIGHUP)) if !self.stopping => self.boot_again(),
            // Of a process that is not its child the kernel does not tell reboot(2)'s signal: there
            // the guest's last words decide, and over nobody but itself.
            _ if !self.init.ours && !self.stopping && self.said_reboot() => self.boot_again(),
            Some(Exit::Signal(libc::SIGHUP | libc::SIGINT)) => ended("shut down", true),
            Some(Exit::Code(0)) => ended("its init ended", true),
            Some(Exit::Signal(libc::SIGKILL)) if self.stopping => ended("stopped by force", true),
            Some(Exit::Signal(signal)) => ended(&format!("its init was killed by signal {signal}"), false),
            Some(Exit::Code(code)) => ended(&format!("its init exited with code {code}"), false),
            None if self.stopping => ended("shut down", true),
            None => ended("its init ended, how is not known", false),
        }
    }

    fn said_reboot(&self) -> bool {
        self.console.as_ref().is_some_and(Console::says_reboot)
    }

    fn boot_again(&mut self) -> SysResult<Option<Ended>> {
        let now = std::time::Instant::now();
        self.boots.retain(|t| now.duration_since(*t) < REBOOT_WINDOW);
        if self.boots.len() > REBOOTS {
            let reason = format!("it rebooted {REBOOTS} times within {} s", REBOOT_WINDOW.as_secs());
            return Ok(Some(Ended { reason, clean: false, asked: self.stopping }));
        }
        self.boots.push(now);
        for client in &mut self.clients {
            if let Task::Exec(execed) = std::mem::replace(&mut client.task, Task::Idle) {
                let exit = execed.child.wait().unwrap_or(Exit::Code(70));
                client.reply(&Reply::Exited(exit.code()), &[]);
            }
        }
        // A guest that was taken over has a root of its own, from the monitor before.
        match self.config.adopt.take() {
            Some(_) => rootfs::mount_overlay()?,
            None => rootfs::renew_overlay()?,
        }
        // The guest that has gone may have left its cgroup as an inner node.
        cgroup::clean(cgroup::guest_dir(self.payload.as_fd())?.as_fd())?;
        let booted = boot::boot(&self.config, &self.payload, &self.network, Boot::Again, || Ok(()))?;
        if let (Some((master, devpts)), Some(console)) = (booted.terminals, &mut self.console) {
            console.replace(master);
            console.note("rebooted");
            self.devpts = Some(devpts);
        }
        self.init = booted.init;
        self.notify = booted.notify;
        self.network = booted.network;
        self.record.init_pid = self.init.pid;
        self.record.boots = self.record.boots.saturating_add(1);
        self.record.ready = self.config.init_kind != InitKind::Systemd;
        self.write_record();
        Ok(None)
    }

    pub(super) fn finish(&mut self, ended: Ended) {
        if let Some(console) = &mut self.console {
            console.note(&ended.reason);
        }
        self.record.ended = Some(ended.clone());
        self.write_record();
        self.answer_all(|task| matches!(task, Task::Stopped), &Reply::Stopped(ended));
    }
}
