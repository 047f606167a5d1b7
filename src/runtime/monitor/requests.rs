//! What clients and the host ask for, and what asks the guest's init.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::asking::{Act, Asking, Wish};
use super::clients::{Clients, Wait};
use super::deferred::{Deferred, MOST_DEFERRED};
use super::freezer;
use super::programs::{Outcome, Whose};
use super::stage::Stage;
use super::state::Monitor;
use crate::model::file_job::FileJob;
use crate::runtime::exec::{self, Stdio};
use crate::runtime::files;
use crate::runtime::interests::Id;
use crate::runtime::not_started::NotStarted;
use crate::runtime::protocol::{ExecRequest, Reply, Request, WindowSize};
use crate::runtime::rootfs;
use crate::sys::net::seqpacket;
use crate::sys::process::child;
use crate::sys::{SysError, SysResult, cgroup, error_text};

impl Monitor {
    /// Carries a request out, or puts it off until it can be.
    pub(super) fn answer(&mut self, client: Id, request: Request, fds: Vec<OwnedFd>) {
        let early = match &request {
            Request::Signal(_) | Request::Resize(_) | Request::Console => false,
            Request::Kill | Request::WaitStopped => false,
            _ => !matches!(self.stage, Stage::Up),
        };
        if early {
            return self.defer(Deferred { client, request, fds });
        }
        match request {
            Request::Exec(request) => self.exec(client, &request, fds),
            Request::Files(job) => self.files(client, &job, fds),
            Request::Signal(number) => self.programs.signal(client, number),
            Request::Console => {
                let watched = self.watch(fds);
                self.reply_done(client, watched);
            }
            Request::Resize(size) => {
                if let Some(console) = &self.console {
                    let _ = rustix::termios::tcsetwinsize(console.master(), winsize(size));
                }
            }
            Request::Shutdown => self.wish(Some(client), Wish::Shutdown),
            Request::Reboot => self.wish(Some(client), Wish::Reboot),
            Request::Kill => {
                self.begin_stopping();
                self.asking = None;
                let killed = self.kill_guest();
                self.reply_done(client, killed);
            }
            Request::Freeze => self.freeze(client, true),
            Request::Thaw => self.freeze(client, false),
            Request::Hold => {
                if let Err(e) = self.freezer.hold(&self.payload, client) {
                    self.reply_done(client, Err(e));
                }
            }
            Request::WaitReady if self.record.ready => self.reply_done(client, Ok(())),
            Request::WaitReady => self.clients.expect(client, Wait::Ready),
            Request::WaitStopped => self.clients.expect(client, Wait::Stopped),
            Request::Mount(mount) => self.mount_device(client, mount, &fds),
            Request::Unmount(unmount) => self.unmount_device(client, unmount),
            Request::SetUp(nic) => self.set_up_interface(client, nic),
            Request::Forget(device) => self.forget_interface(client, &device),
        }
    }

    fn defer(&mut self, deferred: Deferred) {
        if self.deferred.len() < MOST_DEFERRED {
            return self.deferred.push(deferred);
        }
        let reason = "the guest is restarting".to_owned();
        let reply = match deferred.request {
            Request::Exec(_) | Request::Files(_) => NotStarted { code: 126, reason }.reply(),
            _ => Reply::failed(reason),
        };
        self.clients.reply(deferred.client, &reply, &[]);
    }

    /// The guest has booted: carries out the requests that waited for that.
    pub(super) fn do_deferred(&mut self) {
        for Deferred { client, request, fds } in std::mem::take(&mut self.deferred) {
            self.answer(client, request, fds);
        }
    }

    fn reply_done(&mut self, client: Id, result: SysResult<()>) {
        let reply = result.map_or_else(|e| Reply::failed(error_text(&e)), |()| Reply::Done);
        self.clients.reply(client, &reply, &[]);
    }

    fn freeze(&mut self, client: Id, frozen: bool) {
        if let Err(e) = self.freezer.ask(&self.payload, client, frozen) {
            self.reply_done(client, Err(e));
        }
    }

    /// Starts a program for a client, which gets a reply once it has entered the guest.
    fn exec(&mut self, client: Id, request: &ExecRequest, fds: Vec<OwnedFd>) {
        if let Err(failed) = self.begin_program(client, request, fds) {
            self.clients.reply(client, &failed.reply(), &[]);
        }
    }

    fn begin_program(
        &mut self,
        client: Id,
        request: &ExecRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<(), NotStarted> {
        let refused = |why: &str| NotStarted { code: 126, reason: format!("cannot run a program: {why}") };
        if self.programs.are_of(client) {
            return Err(refused("this connection has one already"));
        }
        if !self.programs.have_room() {
            return Err(refused("too many run already that were started so"));
        }
        let (stdio, master) = match request.tty {
            Some(_) if request.detach => return Err(refused("one that is to stay has no terminal")),
            None if request.detach => (Stdio::Null, None),
            None => {
                let fds = <[OwnedFd; 3]>::try_from(fds)
                    .map_err(|_| refused("standard input, output and error did not come along"))?;
                (Stdio::Separate { fds, null: request.null }, None)
            }
            Some(size) => {
                let devpts = self.devpts.as_ref().ok_or_else(|| refused("the guest has no terminals"))?;
                let (master, slave) = rootfs::open_terminal(devpts.as_fd(), 0)
                    .map_err(|e| NotStarted { code: 126, reason: error_text(&e) })?;
                let _ = rustix::termios::tcsetwinsize(&master, winsize(size));
                (Stdio::Terminal(slave), Some(master))
            }
        };
        let entering = exec::begin(request, &stdio, &self.init.pidfd, &self.payload, &self.confinement())?;
        let whose = if request.detach { Whose::Starter(client) } else { Whose::Client(client) };
        self.programs.add(entering, whose, master);
        Ok(())
    }

    /// Starts work on the guest's files for a client, which gets a reply once that has ended.
    fn files(&mut self, client: Id, job: &FileJob, fds: Vec<OwnedFd>) {
        if let Err(failed) = self.begin_file_work(client, job, fds) {
            self.clients.reply(client, &failed.reply(), &[]);
        }
    }

    fn begin_file_work(&mut self, client: Id, job: &FileJob, fds: Vec<OwnedFd>) -> Result<(), NotStarted> {
        let refused =
            |why: &str| NotStarted { code: 126, reason: format!("cannot work on the guest's files: {why}") };
        if self.programs.are_of(client) {
            return Err(refused("this connection has a program already"));
        }
        if !self.programs.have_room() {
            return Err(refused("too many programs run already that were started so"));
        }
        let streams =
            <[OwnedFd; 3]>::try_from(fds).map_err(|_| refused("the pipes for it did not come along"))?;
        let entering = files::begin(job, &streams, &self.init.pidfd, &self.payload)?;
        self.programs.add(entering, Whose::Client(client), None);
        Ok(())
    }

    fn watch(&mut self, fds: Vec<OwnedFd>) -> SysResult<()> {
        let refused = |why: &str| SysError::new("follow the console", std::io::Error::other(why.to_owned()));
        let stream = fds.into_iter().next().ok_or_else(|| refused("no stream came along"))?;
        let console = self.console.as_mut().ok_or_else(|| refused("the guest has none"))?;
        console.watch(stream)
    }

    /// From now on a reboot counts as an end.
    fn begin_stopping(&mut self) {
        self.stopping = true;
        if !self.record.stopping {
            self.record.stopping = true;
            self.write_record();
        }
    }

    pub(super) fn kill_guest(&self) -> SysResult<()> {
        let process = match &self.stage {
            Stage::Booting(booting) => booting.pidfd(),
            _ => &self.init.pidfd,
        };
        // Without cgroup.kill (before Linux 5.14) the end of process 1 ends all the others.
        cgroup::write_at(self.payload.as_fd(), "cgroup.kill", "1")
            .or_else(|_| child::signal(process, libc::SIGKILL))
    }

    /// Asks init for something, for a client or, without one, for the sender of a signal.
    pub(super) fn wish(&mut self, client: Option<Id>, wish: Wish) {
        let fail = |clients: &mut Clients, reason: String| {
            if let Some(client) = client {
                clients.reply(client, &Reply::failed(reason), &[]);
            }
        };
        if wish == Wish::Reboot && self.stopping {
            return fail(&mut self.clients, "the guest is being stopped".to_owned());
        }
        if wish == Wish::Shutdown {
            self.begin_stopping();
        }
        // A frozen init receives no signal.
        if let Err(e) = freezer::order(&self.payload, false) {
            return fail(&mut self.clients, error_text(&e));
        }
        let now = Instant::now();
        if self.asking.as_ref().is_none_or(|asking| asking.wish != wish) {
            let kind = self.config.init_kind;
            let asks = if wish == Wish::Shutdown { kind.shutdown() } else { kind.reboot() };
            self.asking = Some(Asking::new(wish, asks, now));
        }
        if let Some(asking) = &mut self.asking {
            asking.wished_by(client, now);
        }
        self.go_on_asking(now);
    }

    /// The program that asks init has ended.
    pub(super) fn has_asked(&mut self, program: Id, outcome: &Outcome) {
        let now = Instant::now();
        if let Some(asking) = self.asking.as_mut().filter(|asking| asking.is_by(program)) {
            let act = asking.ended(outcome, now);
            self.act(act, now);
        }
    }

    /// Carries out the next acts as long as there are any.
    pub(super) fn go_on_asking(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Up) {
            return;
        }
        while let Some(act) = self.asking.as_mut().and_then(|asking| asking.due(now)) {
            self.act(Some(act), now);
        }
        if let Some(asking) = &mut self.asking {
            for (client, reply) in asking.take_answers() {
                self.clients.reply(client, &reply, &[]);
            }
        }
    }

    fn act(&mut self, act: Option<Act>, now: Instant) {
        match act {
            Some(Act::Signal(number)) => {
                // It fails if init has ended, which is reported elsewhere.
                let _ = child::signal(&self.init.pidfd, number);
                self.asking.iter_mut().for_each(|asking| asking.signalled(number, now));
            }
            Some(Act::Run(words)) => {
                let run = self.run_for_init(words);
                let Some(asking) = &mut self.asking else { return };
                match run {
                    Ok(program) => asking.runs(program),
                    Err(failed) => drop(asking.ended(&Outcome::NotStarted(failed), now)),
                }
            }
            None => {}
        }
    }

    fn run_for_init(&mut self, words: &[&str]) -> Result<Id, NotStarted> {
        // Reads end at once, writes fail.
        let null = || match seqpacket::pair() {
            Ok((one, _other)) => Ok(one),
            Err(e) => Err(NotStarted { code: 126, reason: error_text(&e) }),
        };
        let request = ExecRequest {
            argv: words.iter().map(|w| (*w).into()).collect(),
            env: Vec::new(),
            cwd: Some("/".into()),
            user: "0".to_owned(),
            tty: None,
            null: [false; 3],
            detach: false,
        };
        let stdio = Stdio::Separate { fds: [null()?, null()?, null()?], null: [false; 3] };
        let entering = exec::begin(&request, &stdio, &self.init.pidfd, &self.payload, &self.confinement())?;
        Ok(self.programs.add(entering, Whose::Monitor, None))
    }

    pub(super) fn hear_signal(&mut self) {
        if self.host_stop.hear(Instant::now()) {
            self.wish(None, Wish::Shutdown);
        }
    }

    /// Ends a guest by force that has not shut down in time.
    pub(super) fn end_late_guest(&mut self, now: Instant) {
        if self.host_stop.is_over(now) {
            self.asking = None;
            let _ = self.kill_guest();
        }
    }
}

fn winsize(size: WindowSize) -> rustix::termios::Winsize {
    rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
