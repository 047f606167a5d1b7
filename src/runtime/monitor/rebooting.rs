//! A guest that boots again: the steps of its end and its next boot, while the monitor serves everybody
//! else.

use std::os::fd::AsFd;
use std::time::Instant;

use super::freezer;
use super::stage::Stage;
use super::state::Monitor;
use crate::model::template::InitKind;
use crate::model::waits;
use crate::runtime::boot::{Booted, Booting};
use crate::runtime::init::Boot;
use crate::runtime::protocol::Ended;
use crate::runtime::rootfs;
use crate::sys::{SysResult, cgroup};

/// More boots than this in `waits::REBOOT_WINDOW` are a guest that cannot come up.
const REBOOTS: usize = 8;

impl Monitor {
    /// Continues the guest's end or boot; `about_init`: init's descriptor is ready.
    pub(super) fn guest(&mut self, about_init: bool) -> SysResult<Option<Ended>> {
        let now = Instant::now();
        match &mut self.stage {
            Stage::Up if about_init => self.guest_ended(now),
            Stage::Ending { since, look_at } if *look_at <= now => {
                let since = *since;
                self.guest_ended(since)
            }
            Stage::Clearing { until, look_at } if *look_at <= now => {
                let until = *until;
                self.clear_and_boot(until)
            }
            Stage::Booting(booting) if about_init || booting.until() <= now => {
                match booting.advance(|| Ok(())) {
                    Ok(None) => Ok(None),
                    Ok(Some(booted)) => {
                        self.has_booted(booted);
                        Ok(None)
                    }
                    Err(_) if self.stopping => Ok(self.stopped_by_force()),
                    Err(e) => Err(e),
                }
            }
            _ => Ok(None),
        }
    }

    fn stopped_by_force(&self) -> Option<Ended> {
        Some(Ended { reason: "stopped by force".to_owned(), clean: true, asked: true })
    }

    /// Of the former boot, the next one keeps only files, interfaces and the watchers of the console.
    pub(super) fn boot_again(&mut self) -> SysResult<Option<Ended>> {
        let now = Instant::now();
        self.boots.retain(|t| now.duration_since(*t) < waits::REBOOT_WINDOW);
        if self.boots.len() > REBOOTS {
            let reason = format!("it rebooted {REBOOTS} times within {} s", waits::REBOOT_WINDOW.as_secs());
            return Ok(Some(Ended { reason, clean: false, asked: self.stopping }));
        }
        self.boots.push(now);
        if let Some(mut asking) = self.asking.take() {
            for (client, reply) in asking.heeded() {
                self.clients.reply(client, &reply, &[]);
            }
        }
        (self.notify, self.devpts) = (None, None);
        self.record.ready = self.config.init_kind != InitKind::Systemd;
        self.write_record();
        // Not by cgroup.kill: after that the kernel (6.12 to 6.18 at least; kill_seq in cgroup_css_set_fork)
        // kills whatever is born into the cgroup from outside.
        for event in self.programs.give_up_entering() {
            self.tell_of(Some(event));
        }
        // A guest may have frozen itself before its end.
        freezer::order(&self.payload, false)?;
        // A guest that was taken over has a root of its own, from the monitor before.
        match self.config.adopt.take() {
            Some(_) => rootfs::mount_overlay()?,
            None => rootfs::renew_overlay()?,
        }
        self.clear_and_boot(now + waits::REBOOT_CLEARING)
    }

    /// The guest that has gone may have left its cgroup as an inner node.
    fn clear_and_boot(&mut self, until: Instant) -> SysResult<Option<Ended>> {
        if self.stopping {
            return Ok(self.stopped_by_force());
        }
        let now = Instant::now();
        match cgroup::guest_dir(self.payload.as_fd()).and_then(|dir| cgroup::clean(dir.as_fd())) {
            Err(e) if e.errno() == Some(libc::EBUSY) && now < until => {
                self.stage = Stage::Clearing { until, look_at: now + waits::REBOOT_CLEARING_POLL };
                return Ok(None);
            }
            other => other?,
        }
        self.killed_before = cgroup::oom_kills(self.payload.as_fd());
        let booting = Booting::begin(&self.config, &self.payload, &self.network, Boot::Again)?;
        self.stage = Stage::Booting(booting);
        Ok(None)
    }

    fn has_booted(&mut self, booted: Booted) {
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
        self.write_record();
        self.stage = Stage::Up;
        self.do_deferred();
    }
}
