//! The monitor: one small process per container, inside the container's user namespace, as the
//! uid that is the guest's root. It boots the guest, holds its console, tells a reboot from a
//! power-off, and serves the control socket.

mod ending;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};

use super::boot::{self, Init};
use super::byte_string::ByteString;
use super::config::{Inherited, MonitorConfig};
use super::console::{Console, Log};
use super::exec::{self, Execed, NotStarted, Stdio};
use super::init::Boot;
use super::protocol::{Ended, ExecRequest, Reply, Request, StateRecord};
use super::rootfs;
use crate::model::monitor::StartReport;
use crate::model::template::{Ask, InitKind};
use crate::sys::clone::{self, Exit};
use crate::sys::error_text;
use crate::sys::{Context, SysError, SysResult, caps, cgroup, seqpacket};

/// Connections at once; the operator's commands need one each.
const CLIENTS: usize = 256;
/// uid and gid of whoever has none in this user namespace, as the kernel shows them.
const OVERFLOW_ID: u32 = 65_534;

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

/// What a connection is waiting for.
enum Task {
    Idle,
    Exec(Execed),
    Ready,
    Stopped,
}

struct Client {
    socket: OwnedFd,
    task: Task,
    closed: bool,
}

/// Something that can become readable.
#[derive(Clone, Copy)]
enum Source {
    Init,
    Control,
    Console,
    Notify,
    Watcher(usize),
    Client(usize),
    Execed(usize),
    Orphan(usize),
}

struct Monitor {
    config: MonitorConfig,
    filter: Vec<u8>,
    control: OwnedFd,
    state: OwnedFd,
    payload: OwnedFd,
    /// The guest's network namespace: kept, for its interface must outlive a reboot.
    network: OwnedFd,
    init: Init,
    console: Option<Console>,
    devpts: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    clients: Vec<Client>,
    /// Programs whose caller has gone: they run on, and are reaped when they end.
    orphans: Vec<clone::Child>,
    record: StateRecord,
    boots: Vec<std::time::Instant>,
    /// The operator has asked for the end: a reboot is none then.
    stopping: bool,
}

impl Monitor {
    fn start(mut inherited: Inherited) -> SysResult<Self> {
        let config = MonitorConfig::read(&mut inherited.config)?;
        let _ = rustix::process::setsid();
        let log = Log::open(inherited.logs)?;
        let broker = inherited.broker;
        let booted =
            if let Some(pid) = config.adopt {
                boot::adopt(pid, inherited.init, inherited.network)?
            } else {
                rootfs::mount_overlay()?;
                boot::boot(&config, &inherited.payload, &inherited.network, Boot::First, || {
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
            ended: None,
        };
        let (master, devpts) = booted.terminals.map_or((None, None), |(m, d)| (Some(m), Some(d)));
        let monitor = Self {
            filter: config.filter(),
            control: inherited.control,
            state: inherited.state,
            payload: inherited.payload,
            network: booted.network,
            console: master.map(|m| Console::new(m, log)),
            devpts,
            notify: booted.notify,
            clients: Vec::new(),
            orphans: Vec::new(),
            boots: vec![std::time::Instant::now()],
            stopping: false,
            record,
            init: booted.init,
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
            let step = self.wait().and_then(|ready| self.handle(&ready));
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

    fn wait(&self) -> SysResult<Vec<Source>> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> =
            vec![(Source::Init, self.init.pidfd.as_fd()), (Source::Control, self.control.as_fd())];
        if let Some(console) = &self.console {
            if console.is_open() {
                sources.push((Source::Console, console.master().as_fd()));
            }
            let watchers = console.watchers().iter().enumerate();
            sources.extend(watchers.map(|(i, w)| (Source::Watcher(i), w.as_fd())));
        }
        sources.extend(self.notify.as_ref().map(|n| (Source::Notify, n.as_fd())));
        for (i, client) in self.clients.iter().enumerate() {
            sources.push((Source::Client(i), client.socket.as_fd()));
            if let Task::Exec(execed) = &client.task {
                sources.push((Source::Execed(i), execed.child.pidfd.as_fd()));
            }
        }
        let orphans = self.orphans.iter().enumerate();
        sources.extend(orphans.map(|(i, o)| (Source::Orphan(i), o.pidfd.as_fd())));
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None)).cannot(|| "wait for events")?;
        let ready = sources.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|((source, _), _)| *source).collect())
    }

    /// The guest's end comes last, so that what it said before is taken first.
    fn handle(&mut self, ready: &[Source]) -> SysResult<Option<Ended>> {
        let mut init_ended = false;
        // From the back, for watchers and orphans are removed by index.
        for source in ready.iter().rev() {
            match *source {
                Source::Init => init_ended = true,
                Source::Control => self.accept(),
                Source::Console => self.console.iter_mut().for_each(Console::drain),
                Source::Notify => self.hear_notification(),
                Source::Watcher(i) => self.console.iter_mut().for_each(|c| c.input(i)),
                Source::Execed(i) => self.exec_ended(i),
                Source::Client(i) => self.serve_client(i),
                Source::Orphan(i) => drop(self.orphans.swap_remove(i).wait()),
            }
        }
        self.drop_closed();
        if init_ended { self.guest_ended() } else { Ok(None) }
    }

    /// A new connection. Only processes outside the guest's user namespace may speak to us; the
    /// socket's directory, which only the owner can enter, keeps all other users away.
    fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let Ok(socket) = rustix::net::accept_with(&self.control, flags) else { return };
        let outside = rustix::net::sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.as_raw() == OVERFLOW_ID && peer.gid.as_raw() == OVERFLOW_ID);
        if outside && self.clients.len() < CLIENTS {
            self.clients.push(Client { socket, task: Task::Idle, closed: false });
        }
    }

    fn hear_notification(&mut self) {
        let Some(socket) = &self.notify else { return };
        let mut text = [0u8; 4096];
        let length = rustix::io::read(socket, &mut text).unwrap_or(0);
        if !self.record.ready && text[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
            self.record.ready = true;
            self.write_record();
            self.answer_all(|task| matches!(task, Task::Ready), &Reply::Done);
        }
    }

    fn answer_all(&mut self, which: impl Fn(&Task) -> bool, reply: &Reply) {
        for client in self.clients.iter_mut().filter(|c| which(&c.task)) {
            client.task = Task::Idle;
            client.reply(reply, &[]);
        }
    }

    fn exec_ended(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Task::Exec(execed) = std::mem::replace(&mut client.task, Task::Idle) else { return };
        let exit = execed.child.wait().unwrap_or(Exit::Code(70));
        let reply = match execed.failure() {
            Some(failed) => Reply::NotStarted { code: failed.code, reason: failed.reason },
            None => Reply::Exited(exit.code()),
        };
        client.reply(&reply, &[]);
    }

    fn serve_client(&mut self, index: usize) {
        match seqpacket::recv::<Request>(&self.clients[index].socket) {
            Ok(Some((request, fds))) => {
                if let Some((reply, fd)) = self.answer(index, request, fds) {
                    let fds: Vec<BorrowedFd<'_>> = fd.iter().map(AsFd::as_fd).collect();
                    self.clients[index].reply(&reply, &fds);
                }
            }
            Ok(None) | Err(_) => self.clients[index].closed = true,
        }
    }

    /// Does what is asked; the reply, with a descriptor or without, unless it comes later.
    fn answer(
        &mut self,
        index: usize,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Option<(Reply, Option<OwnedFd>)> {
        let done = |result: SysResult<()>| {
            let reply = match result {
                Ok(()) => Reply::Done,
                Err(e) => Reply::Failed { reason: error_text(&e) },
            };
            Some((reply, None))
        };
        match request {
            Request::Exec(request) => match self.exec(index, &request, fds) {
                Ok(master) => master.map(|m| (Reply::Terminal, Some(m))),
                Err(failed) => Some((Reply::NotStarted { code: failed.code, reason: failed.reason }, None)),
            },
            Request::Signal(number) => {
                if let Task::Exec(execed) = &self.clients[index].task {
                    let _ = clone::signal(&execed.child.pidfd, number);
                }
                None
            }
            Request::Console => done(self.watch(fds)),
            Request::Resize(size) => {
                if let Some(console) = &self.console {
                    let _ = rustix::termios::tcsetwinsize(console.master(), winsize(size));
                }
                None
            }
            Request::Shutdown => {
                self.stopping = true;
                done(self.ask_init(self.config.init_kind.shutdown()))
            }
            Request::Reboot => done(self.ask_init(self.config.init_kind.reboot())),
            Request::Kill => {
                self.stopping = true;
                done(self.kill_guest())
            }
            Request::Freeze => done(self.freeze(true)),
            Request::Thaw => done(self.freeze(false)),
            Request::WaitReady if self.record.ready => done(Ok(())),
            Request::WaitReady => {
                self.clients[index].task = Task::Ready;
                None
            }
            Request::WaitStopped => {
                self.clients[index].task = Task::Stopped;
                None
            }
        }
    }

    fn exec(
        &mut self,
        index: usize,
        request: &ExecRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<OwnedFd>, NotStarted> {
        let refused = |why: &str| NotStarted { code: 126, reason: format!("cannot run a program: {why}") };
        if !matches!(self.clients[index].task, Task::Idle) {
            return Err(refused("this connection has one already"));
        }
        let (stdio, master) = match (request.tty, <[OwnedFd; 3]>::try_from(fds)) {
            (None, Ok(fds)) => (Stdio::Separate(fds), None),
            (None, Err(_)) => return Err(refused("standard input, output and error did not come along")),
            (Some(size), _) => {
                let devpts = self.devpts.as_ref().ok_or_else(|| refused("the guest has no terminals"))?;
                let (master, slave) = rootfs::open_terminal(devpts.as_fd(), 0)
                    .map_err(|e| NotStarted { code: 126, reason: error_text(&e) })?;
                let _ = rustix::termios::tcsetwinsize(&master, winsize(size));
                (Stdio::Terminal(slave), Some(master))
            }
        };
        let execed = exec::start(request, &stdio, &self.init.pidfd, &self.payload, &self.confinement())?;
        self.clients[index].task = Task::Exec(execed);
        Ok(master)
    }

    fn confinement(&self) -> exec::Confinement<'_> {
        exec::Confinement { filter: &self.filter, rlimits: &self.config.rlimits }
    }

    fn watch(&mut self, fds: Vec<OwnedFd>) -> SysResult<()> {
        let refused = |why: &str| SysError::new("follow the console", std::io::Error::other(why.to_owned()));
        let stream = fds.into_iter().next().ok_or_else(|| refused("no stream came along"))?;
        let console = self.console.as_mut().ok_or_else(|| refused("the guest has none"))?;
        console.watch(stream);
        Ok(())
    }

    fn ask_init(&mut self, ask: Ask) -> SysResult<()> {
        self.freeze(false)?;
        match ask {
            Ask::Signal(number) => clone::signal(&self.init.pidfd, number),
            Ask::Run(words) => {
                let null = || -> SysResult<OwnedFd> {
                    let (one, _other) = seqpacket::pair()?;
                    Ok(one)
                };
                let request = ExecRequest {
                    argv: words.iter().map(|w| ByteString::from(*w)).collect(),
                    env: Vec::new(),
                    cwd: Some("/".into()),
                    user: "0".to_owned(),
                    tty: None,
                };
                let stdio = Stdio::Separate([null()?, null()?, null()?]);
                let execed =
                    exec::start(&request, &stdio, &self.init.pidfd, &self.payload, &self.confinement())
                        .map_err(|failed| SysError::new("ask init", std::io::Error::other(failed.reason)))?;
                self.orphans.push(execed.child);
                Ok(())
            }
        }
    }

    fn freeze(&self, freeze: bool) -> SysResult<()> {
        let payload = self.payload.as_fd();
        cgroup::write_at(payload, "cgroup.freeze", if freeze { "1" } else { "0" })?;
        let wanted = if freeze { "frozen 1" } else { "frozen 0" };
        for _ in 0..2000 {
            if cgroup::read_at(payload, "cgroup.events")?.contains(wanted) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if freeze {
            cgroup::write_at(payload, "cgroup.freeze", "0")?;
        }
        Err(SysError::new("freeze or thaw the guest", std::io::ErrorKind::TimedOut))
    }

    fn kill_guest(&self) -> SysResult<()> {
        // Without cgroup.kill (before Linux 5.14) the end of process 1 ends all the others.
        cgroup::write_at(self.payload.as_fd(), "cgroup.kill", "1")
            .or_else(|_| clone::signal(&self.init.pidfd, libc::SIGKILL))
    }

    fn drop_closed(&mut self) {
        for client in self.clients.extract_if(.., |c| c.closed) {
            if let Task::Exec(execed) = client.task {
                self.orphans.push(execed.child);
            }
        }
    }
}

impl Client {
    /// A client that does not take its replies is dropped: nobody may hold the monitor up.
    fn reply(&mut self, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        if seqpacket::send_now(&self.socket, reply, fds).is_err() {
            self.closed = true;
        }
    }
}

fn winsize(size: super::protocol::WindowSize) -> rustix::termios::Winsize {
    rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
