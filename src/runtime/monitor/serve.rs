//! What a monitor waits for, and what it does when that is there.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;

use super::asking::Asking;
use super::clients::{CLIENTS, Wait};
use super::deferred::MOST_DEFERRED;
use super::programs::{self, Event, Outcome, Whose};
use super::stage::Stage;
use super::state::Monitor;
use crate::model::monitor::StartReport;
use crate::runtime::config::Inherited;
use crate::runtime::console::WATCHERS;
use crate::runtime::interests::{Interests, Source};
use crate::runtime::protocol::{Ended, Reply};
use crate::sys::net::seqpacket;
use crate::sys::process::{caps, heap};
use crate::sys::{SysResult, error_text};

/// Other open descriptors: the guest's own, and those that come with a request or are needed for a boot.
const OTHER_DESCRIPTORS: usize = 128;
/// The soft limit that a monitor starts with (`sys::rlimit`).
const MOST_DESCRIPTORS: usize = 1024;
const _: () = assert!(
    CLIENTS + WATCHERS + programs::DESCRIPTORS + 3 * MOST_DEFERRED + OTHER_DESCRIPTORS <= MOST_DESCRIPTORS
);

/// The process's whole life. Returns its exit code.
pub fn run() -> i32 {
    // The file that it was executed from already keeps it out of the guest's reach; this also works where
    // the host has `fs.suid_dumpable=1`.
    caps::undumpable();
    let inherited = match Inherited::take() {
        Ok(inherited) => inherited,
        Err(e) => {
            eprintln!("nagaya-monitor: {}", error_text(&e));
            return 70;
        }
    };
    let broker = inherited.broker.try_clone();
    match Monitor::start(inherited) {
        Ok(mut monitor) => {
            heap::give_back();
            monitor.serve()
        }
        Err(e) => {
            if let Ok(broker) = broker {
                let _ = seqpacket::send(
                    &broker,
                    &StartReport::Failed { reason: error_text(&e), errno: e.errno() },
                    &[],
                );
            }
            1
        }
    }
}

impl Monitor {
    /// Runs until the guest has ended for good.
    fn serve(&mut self) -> i32 {
        loop {
            let step = self.interests().wait().and_then(|ready| self.handle(&ready));
            match step {
                Ok(None) => {}
                Ok(Some(ended)) => {
                    self.finish(ended);
                    return 0;
                }
                Err(e) => {
                    let _ = self.kill_guest();
                    self.finish(Ended { reason: error_text(&e), clean: false, asked: self.stopping });
                    return 1;
                }
            }
        }
    }

    fn interests(&self) -> Interests<'_> {
        let mut interests = Interests::default();
        match &self.stage {
            Stage::Up => interests.read(Source::Init, &self.init.pidfd),
            Stage::Ending { look_at, .. } | Stage::Clearing { look_at, .. } => interests.wake(Some(*look_at)),
            Stage::Booting(booting) => {
                interests.read(Source::Init, booting.socket());
                interests.wake(Some(booting.until()));
            }
        }
        if let Some(notify) = &self.notify {
            interests.read(Source::Notify, notify);
        }
        if let Some(console) = &self.console {
            console.interests(&mut interests);
        }
        self.clients.interests(&mut interests);
        self.programs.interests(&mut interests);
        self.freezer.interests(&mut interests);
        self.changes.interests(&mut interests);
        interests.read(Source::Signal, &self.host_stop);
        interests.wake(self.host_stop.wakes_at());
        interests.wake(self.asking.as_ref().and_then(Asking::wakes_at));
        interests
    }

    /// The guest's end comes last, so that its earlier messages are handled first.
    fn handle(&mut self, ready: &[(Source, PollFlags)]) -> SysResult<Option<Ended>> {
        let mut about_init = false;
        for (source, flags) in ready {
            match *source {
                Source::Init => about_init = true,
                Source::Listener => self.clients.accept(),
                Source::Console => self.console.iter_mut().for_each(|c| c.advance(*flags)),
                Source::Watcher(id) => self.console.iter_mut().for_each(|c| c.hear(id)),
                Source::Notify => self.hear_notification(),
                Source::Program(id) => {
                    let event = self.programs.advance(id);
                    self.tell_of(event);
                }
                Source::Begun(id) => {
                    let event = self.programs.begun(id);
                    self.tell_of(event);
                }
                Source::Change(id) => self.has_changed(id),
                Source::Client(id) => {
                    if let Some((request, fds)) = self.clients.hear(id) {
                        self.answer(id, request, fds);
                    }
                }
                Source::Signal => self.hear_signal(),
                Source::Frozen => {}
            }
        }
        self.tick(Instant::now());
        self.guest(about_init)
    }

    /// What is due at this time.
    fn tick(&mut self, now: Instant) {
        self.console.iter_mut().for_each(|c| c.tick(now));
        let booting = if let Stage::Booting(booting) = &self.stage { booting.pid() } else { 0 };
        let others: Vec<i32> = [self.init.pid, booting].into_iter().chain(self.changes.children()).collect();
        for event in self.programs.tick(now, &others) {
            self.tell_of(Some(event));
        }
        for (client, reply) in self.freezer.answers(&self.payload, now) {
            self.clients.reply(client, &reply, &[]);
        }
        self.end_late_changes(now);
        self.go_on_asking(now);
        self.end_late_guest(now);
        self.clients.tick(now);
        let closed = self.clients.take_closed();
        let has_served = !closed.is_empty();
        for client in closed {
            self.programs.left_by(client);
            self.freezer.release(&self.payload, client);
            self.deferred.retain(|deferred| deferred.client != client);
        }
        if has_served {
            heap::give_back();
        }
    }

    /// Tells the clients concerned what has happened to a program.
    pub(super) fn tell_of(&mut self, event: Option<Event>) {
        let Some(Event { program, whose, outcome }) = event else { return };
        let client = match whose {
            Whose::Client(client) | Whose::Starter(client) => client,
            Whose::Monitor => return self.has_asked(program, &outcome),
            Whose::Nobody => return,
        };
        match outcome {
            Outcome::Terminal(master) => self.clients.reply(client, &Reply::Terminal, &[master.as_fd()]),
            Outcome::Runs => self.clients.reply(client, &Reply::Done, &[]),
            Outcome::Exited(exit) => self.clients.reply(client, &Reply::Exited(exit.code()), &[]),
            Outcome::NotStarted(failed) => self.clients.reply(client, &failed.reply(), &[]),
        }
    }

    fn hear_notification(&mut self) {
        let Some(socket) = &self.notify else { return };
        let mut text = [0u8; 4096];
        let got = rustix::net::recv(socket, &mut text[..], RecvFlags::DONTWAIT);
        let length = got.map_or(0, |(length, _)| length);
        if !self.record.ready && text[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
            self.record.ready = true;
            self.write_record();
            self.clients.tell(Wait::Ready, &Reply::Done);
            if let Some(asking) = &mut self.asking {
                asking.init_is_up(Instant::now());
            }
        }
    }
}
