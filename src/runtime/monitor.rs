//! The monitor: one small process per container, inside the container's user namespace, as the
//! uid that is the guest's root. It boots the guest, holds its console, tells a reboot from a
//! power-off, and serves the control socket.
//!
//! It has one thread and waits in one place, for all at once: whatever may take long is begun, and gone
//! on with when its descriptor is ready or its time is over. Neither a client nor the guest can hold up
//! anybody else.

mod asking;
mod clients;
mod ending;
mod freezer;
mod host_stop;
mod programs;
mod rebooting;
mod requests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;

use self::asking::Asking;
use self::clients::{CLIENTS, Clients, Wait};
use self::freezer::Freezer;
use self::host_stop::HostStop;
use self::programs::{Event, Outcome, Programs, Whose};
use self::rebooting::Stage;
use self::requests::Deferred;
use super::boot::{self, Init};
use super::config::{Inherited, MonitorConfig};
use super::console::{Console, Log, WATCHERS};
use super::exec;
use super::interests::{Interests, Source};
use super::protocol::{Ended, Reply, StateRecord};
use super::rootfs;
use crate::model::monitor::StartReport;
use crate::model::template::InitKind;
use crate::sys::error_text;
use crate::sys::{SysError, SysResult, caps, cgroup, seqpacket};

/// uid and gid of whoever has none in this user namespace, as the kernel shows them.
const OVERFLOW_ID: u32 = 65_534;

/// What is open besides: the guest's own, and what comes with a request or is needed for a boot.
const OTHER_DESCRIPTORS: usize = 128;
/// The soft limit that a monitor starts with (`sys::rlimit`).
const MOST_DESCRIPTORS: usize = 1024;
const _: () = assert!(
    CLIENTS + WATCHERS + programs::DESCRIPTORS + 3 * requests::MOST_DEFERRED + OTHER_DESCRIPTORS
        <= MOST_DESCRIPTORS
);

/// The process's whole life. Returns its exit code.
pub fn run() -> i32 {
    // By the file that it was executed from it is out of the guest's reach already; this holds where
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
        Ok(mut monitor) => monitor.serve(),
        Err(e) => {
            if let Ok(broker) = broker {
                let _ = seqpacket::send(&broker, &StartReport::Failed { reason: error_text(&e) }, &[]);
            }
            1
        }
    }
}

struct Monitor {
    config: MonitorConfig,
    filter: Vec<u8>,
    state: OwnedFd,
    payload: OwnedFd,
    /// The guest's network namespace: kept, for its interface must outlive a reboot.
    network: OwnedFd,
    init: Init,
    stage: Stage,
    console: Option<Console>,
    devpts: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    clients: Clients,
    programs: Programs,
    freezer: Freezer,
    host_stop: HostStop,
    /// What init is asked for.
    asking: Option<Asking>,
    /// Requests for when the guest has booted.
    deferred: Vec<Deferred>,
    record: StateRecord,
    boots: Vec<Instant>,
    /// Processes that the kernel had killed for want of memory when the guest was booted.
    killed_before: u64,
    /// The operator has asked for the end: a reboot is none then.
    stopping: bool,
}

impl Monitor {
    fn start(mut inherited: Inherited) -> SysResult<Self> {
        let config = MonitorConfig::read(&mut inherited.config)?;
        let _ = rustix::process::setsid();
        let host_stop = HostStop::new()?;
        let log = Log::open(inherited.logs)?;
        let broker = inherited.broker;
        let booted = if let Some(pid) = config.adopt {
            boot::adopt(pid, inherited.init, inherited.network)?
        } else {
            rootfs::mount_overlay()?;
            boot::boot(&config, &inherited.payload, &inherited.network, || {
                match seqpacket::recv::<()>(&broker)? {
                    Some(_) => Ok(()),
                    None => Err(SysError::new("start the guest", std::io::ErrorKind::ConnectionAborted)),
                }
            })?
        };
        let record = StateRecord {
            monitor_pid: std::process::id() as i32,
            init_pid: booted.init.pid,
            // A guest that was taken over is past its boot; it will not say so again.
            ready: config.adopt.is_some() || config.init_kind != InitKind::Systemd,
            boots: 1,
            stopping: false,
            ended: None,
        };
        let (master, devpts) = booted.terminals.map_or((None, None), |(m, d)| (Some(m), Some(d)));
        let monitor = Self {
            filter: config.filter(),
            state: inherited.state,
            killed_before: cgroup::oom_kills(inherited.payload.as_fd()),
            payload: inherited.payload,
            network: booted.network,
            console: master.map(|m| Console::new(m, log)),
            devpts,
            notify: booted.notify,
            clients: Clients::new(inherited.control, is_outside),
            programs: Programs::default(),
            freezer: Freezer::default(),
            host_stop,
            asking: None,
            deferred: Vec::new(),
            boots: vec![Instant::now()],
            stopping: false,
            record,
            init: booted.init,
            stage: Stage::Up,
            config,
        };
        monitor.write_record();
        seqpacket::send(&broker, &StartReport::Started { init_pid: monitor.init.pid }, &[])?;
        Ok(monitor)
    }

    fn write_record(&self) {
        let _ = rustix::io::pwrite(&self.state, &self.record.to_bytes(), 0);
    }

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
        interests.read(Source::Signal, &self.host_stop);
        interests.wake(self.host_stop.wakes_at());
        interests.wake(self.asking.as_ref().and_then(Asking::wakes_at));
        interests
    }

    /// The guest's end comes last, so that what it said before is taken first.
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
        for event in self.programs.tick(now, &[self.init.pid, booting]) {
            self.tell_of(Some(event));
        }
        for (client, reply) in self.freezer.answers(&self.payload, now) {
            self.clients.reply(client, &reply, &[]);
        }
        self.go_on_asking(now);
        self.end_late_guest(now);
        self.clients.tick(now);
        for client in self.clients.take_closed() {
            self.programs.left_by(client);
            self.deferred.retain(|deferred| deferred.client != client);
        }
    }

    /// Tells whom it concerns what has become of a program.
    fn tell_of(&mut self, event: Option<Event>) {
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

    fn confinement(&self) -> exec::Confinement<'_> {
        exec::Confinement { filter: &self.filter, rlimits: &self.config.rlimits }
    }
}

/// Only processes outside the guest's user namespace may speak to the monitor; the socket's directory,
/// which only the owner can enter, keeps all other users away.
fn is_outside(socket: BorrowedFd<'_>) -> bool {
    rustix::net::sockopt::socket_peercred(socket)
        .is_ok_and(|peer| peer.uid.as_raw() == OVERFLOW_ID && peer.gid.as_raw() == OVERFLOW_ID)
}
