use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags};

use crate::app::App;
use crate::app::containers::run as service;
use crate::cli::error::{CliError, CliResult, DONE};
use crate::cli::output::note;
use crate::cli::output::text::Plain;
use crate::model::fault::Code;
use crate::model::name::Name;
use crate::model::waits;
use crate::runtime::protocol::Ended;
use crate::sys::process::signals::Signals;
use crate::sys::systemd::notify::Notifier;
use crate::sys::timespec;

/// Run a container as a service, in the foreground
///
/// Starts the container, unless it runs, and stays until the guest has ended. Prints what the guest's
/// console prints, without control sequences, and tells the service manager when the guest is up
/// (sd_notify). SIGTERM and SIGINT shut the guest down. A guest that takes too long is ended by force;
/// a second signal does that at once.
///
/// Exit codes: 0 when the guest was stopped or shut itself down, 1 when it crashed. This command does
/// not change whether the container starts with the host.
///
/// Examples:
///   nagaya run web01
///   systemctl enable --now nagaya@web01
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct RunArgs {
    /// The container
    name: String,
}

/// The guest crashed.
const CRASHED: i32 = 1;

pub fn run(args: RunArgs) -> CliResult<i32> {
    let name = crate::cli::name(&args.name)?;
    let notifier = Notifier::from_environment().map_err(crate::app::AppError::from)?;
    let signals = Signals::take([Signal::SIGTERM, Signal::SIGINT]).map_err(CliError::Terminal)?;
    let mut app = crate::cli::open()?;
    service::ensure_started(&mut app, &name)?;
    let mut service = Service { app, name, notifier, signals, stopping: None };
    let ended = service.follow()?;
    service.notifier.tell(&format!("STATUS={}", ended.reason));
    if ended.clean || service.stopping.is_some() {
        return Ok(DONE);
    }
    note(&format!("{} has ended: {}", service.name, ended.reason));
    Ok(CRASHED)
}

struct Service {
    app: App,
    name: Name,
    notifier: Notifier,
    signals: Signals,
    /// When the guest is ended by force.
    stopping: Option<Instant>,
}

impl Service {
    /// Follows the guest until it has ended, however often its monitor is killed.
    fn follow(&mut self) -> CliResult<Ended> {
        let mut is_ready = false;
        loop {
            let watched = service::watch(&mut self.app, &self.name).map_err(CliError::from);
            match watched.and_then(|watch| self.until_over(&watch, &mut is_ready)) {
                Ok(()) => {}
                Err(CliError::App(e)) if e.code == Code::ContainerNotRunning => {}
                Err(e) => return Err(e),
            }
            if let Some(ended) = service::ended(&mut self.app, &self.name)? {
                return Ok(ended);
            }
        }
    }

    /// Until the guest has ended, or the monitor that `watch` is connected to.
    fn until_over(&mut self, watch: &service::Watch, is_ready: &mut bool) -> CliResult<()> {
        if self.stopping.is_some() {
            watch.ask_shutdown()?;
        }
        let (mut prints, mut awaited) = (true, true);
        let mut plain = Plain::default();
        loop {
            let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
            fds.push(PollFd::from_borrowed_fd(watch.end(), PollFlags::IN));
            let idle = PollFlags::empty();
            let when = |wanted| if wanted { PollFlags::IN } else { idle };
            fds.push(PollFd::new(watch.readiness(), when(awaited)));
            fds.push(PollFd::from_borrowed_fd(watch.console(), when(prints)));
            self.poll(&mut fds)?;
            let [signal, over, ready, printed] = [0, 1, 2, 3].map(|i| !fds[i].revents().is_empty());
            if printed && prints {
                prints = pass_on(watch, &mut plain)?;
            }
            if ready && awaited {
                awaited = false;
                if watch.is_ready()? && !std::mem::replace(is_ready, true) {
                    self.notifier.tell(&format!("READY=1\nSTATUS={} is up", self.name));
                }
            }
            if signal {
                self.stop(watch)?;
            }
            if over && watch.is_over()? {
                while prints && readable(watch) {
                    prints = pass_on(watch, &mut plain)?;
                }
                return Ok(());
            }
            if self.stopping.is_some_and(|deadline| Instant::now() >= deadline) {
                service::kill(&mut self.app, &self.name)?;
                return Ok(());
            }
        }
    }

    fn poll(&self, fds: &mut [PollFd<'_>]) -> CliResult<()> {
        let left = self.stopping.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        rustix::io::retry_on_intr(|| rustix::event::poll(fds, timeout.as_ref()))
            .map(drop)
            .map_err(|e| CliError::Relay(e.into()))
    }

    fn stop(&mut self, watch: &service::Watch) -> CliResult<()> {
        while self.signals.next().is_some() {
            if self.stopping.is_some() {
                self.stopping = Some(Instant::now());
                continue;
            }
            self.notifier.tell(&format!("STOPPING=1\nSTATUS={} shuts down", self.name));
            let timeout = service::shutdown_timeout(&mut self.app, &self.name)?;
            self.stopping = Some(Instant::now() + timeout);
            watch.ask_shutdown()?;
        }
        Ok(())
    }
}

fn readable(watch: &service::Watch) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(watch.console(), PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timespec(Duration::ZERO))).is_ok_and(|n| n > 0)
}

/// Passes on what the guest has printed; false once it will print no more, or nobody reads.
fn pass_on(watch: &service::Watch, plain: &mut Plain) -> CliResult<bool> {
    let mut bytes = [0u8; 4096];
    let count = match rustix::io::read(watch.console(), &mut bytes) {
        Ok(0) => return Ok(false),
        Ok(count) => count,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
        Err(e) => return Err(CliError::Relay(e.into())),
    };
    // A journal shows no entry that holds control sequences, and a terminal here is not the guest's.
    let text = plain.push(&bytes[..count]);
    let mut stdout = io::stdout();
    let stdout_fd = stdout.as_fd().try_clone_to_owned().map_err(CliError::Output)?;
    let mut fds = [PollFd::new(&stdout_fd, PollFlags::OUT)];
    if !matches!(rustix::event::poll(&mut fds, Some(&timespec(waits::RUN_READER))), Ok(n) if n > 0) {
        return Ok(true);
    }
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok())
}
