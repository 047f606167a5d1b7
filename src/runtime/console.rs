//! A guest's console: what the guest prints goes to the history and to the watchers, and what these type
//! goes to the guest. Nothing here waits for the guest or for a watcher.

mod log;
mod watchers;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

pub use self::log::Log;
pub use self::watchers::WATCHERS;
use self::watchers::Watchers;
use super::interests::{Id, Interests, Source};
use crate::model::waits;
use crate::sys::SysResult;

/// Bytes that are read from the guest at once.
const PIECE: usize = 4096;
/// Bytes that a terminal may hold: the kernel's limit is 64 KiB (drivers/tty/tty_buffer.c), doubled for
/// line ends.
const LEFT_IN_TERMINAL: usize = 128 * 1024;

fn open_slave(master: &OwnedFd) -> Option<OwnedFd> {
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).ok()
}

/// The console's master side, its history and its watchers.
pub struct Console {
    /// Non-blocking.
    master: OwnedFd,
    /// The guest's side, held open: otherwise reading the master fails whenever no process of the guest has
    /// the console open. A guest's init hangs its console up now and then, and this descriptor with it.
    slave: Option<OwnedFd>,
    /// When a console that was hung up is opened again, and the present pause.
    reopen: (Instant, Duration),
    log: Log,
    watchers: Watchers,
}

impl Console {
    pub fn new(master: OwnedFd, log: Log) -> Self {
        let reopen = (Instant::now(), waits::CONSOLE_REOPEN);
        let mut console = Self { master, slave: None, reopen, log, watchers: Watchers::default() };
        console.open();
        console
    }

    fn open(&mut self) {
        let _ = rustix::io::ioctl_fionbio(&self.master, true);
        self.slave = open_slave(&self.master);
        self.reopen = (Instant::now() + waits::CONSOLE_REOPEN, waits::CONSOLE_REOPEN);
    }

    pub fn master(&self) -> &OwnedFd {
        &self.master
    }

    /// The guest's next boot has a console of its own; watchers stay.
    pub fn replace(&mut self, master: OwnedFd) {
        self.master = master;
        self.open();
        self.watchers.forget_typed();
    }

    /// Shows a new watcher the latest history, and from now on what the guest prints.
    ///
    /// # Errors
    /// For what is no stream socket, and when too many watch.
    pub fn watch(&mut self, stream: OwnedFd) -> SysResult<()> {
        self.watchers.add(stream, &self.log.tail())
    }

    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        self.watchers.interests(interests);
        // The master of a terminal that is hung up would always be ready.
        if self.slave.is_none() {
            return interests.wake(Some(self.reopen.0));
        }
        let out = if self.watchers.have_typed() { PollFlags::OUT } else { PollFlags::empty() };
        interests.add(Source::Console, self.master.as_fd(), PollFlags::IN | out);
    }

    /// The master is ready.
    pub fn advance(&mut self, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.give();
        }
        if flags != PollFlags::OUT {
            self.drain();
        }
    }

    /// Watcher `id` has typed something, or is gone.
    pub fn hear(&mut self, id: Id) {
        self.watchers.hear(id);
        if self.slave.is_some() {
            self.give();
        }
    }

    /// Passes on to the guest what was typed, as far as its terminal has room.
    fn give(&mut self) {
        let master = &self.master;
        self.watchers.give(|bytes| match rustix::io::write(master, bytes) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // The terminal is gone, so nobody will ever take it.
            Err(_) => bytes.len(),
        });
    }

    pub fn tick(&mut self, now: Instant) {
        self.watchers.tick(now);
        let (reopen_at, pause) = self.reopen;
        if self.slave.is_none() && reopen_at <= now {
            let pause = (pause * 2).min(waits::CONSOLE_REOPEN_MOST);
            self.slave = open_slave(&self.master);
            self.reopen = (now + pause, pause);
        }
    }

    /// Whether the last lines that the guest printed announce a restart.
    pub fn says_reboot(&self) -> bool {
        // systemd-shutdown, busybox init, sysvinit and OpenRC.
        const WORDS: [&str; 4] =
            ["Rebooting.", "Requesting system reboot", "Restarting system", "going down for reboot"];
        const LAST: usize = 256;
        let tail = self.log.tail();
        let last = String::from_utf8_lossy(&tail[tail.len().saturating_sub(LAST)..]).into_owned();
        WORDS.iter().any(|words| last.contains(words))
    }

    /// Writes a line of nagaya's own to history and watchers.
    pub fn note(&mut self, text: &str) {
        self.spread(format!("\r\n[nagaya] {text}\r\n").as_bytes());
    }

    /// Reads everything that a guest that has ended has printed.
    pub fn drain_rest(&mut self) {
        for _ in 0..LEFT_IN_TERMINAL / PIECE {
            if !rustix::io::ioctl_fionread(&self.master).is_ok_and(|n| n > 0) || !self.drain() {
                return;
            }
        }
    }

    /// Reads what the guest has printed; returns whether there was anything.
    fn drain(&mut self) -> bool {
        let mut bytes = [0u8; PIECE];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(n) if n > 0 => {
                self.spread(&bytes[..n]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            _ => {
                self.hung_up();
                false
            }
        }
    }

    fn hung_up(&mut self) {
        self.slave = None;
        self.reopen = (Instant::now() + waits::CONSOLE_REOPEN, waits::CONSOLE_REOPEN);
    }

    fn spread(&mut self, bytes: &[u8]) {
        self.log.append(bytes);
        self.watchers.spread(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};

    fn console() -> (Console, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = open_slave(&master).unwrap();
        let file = || OwnedFd::from(tempfile::tempfile().unwrap());
        (Console::new(master, Log::open([file(), file()]).unwrap()), slave)
    }

    fn watch(console: &mut Console) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (theirs, ours) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        console.watch(ours).unwrap();
        theirs
    }

    /// One turn of the loop, at most until `timeout` is over; whether anything was ready.
    fn turn(console: &mut Console, timeout: Duration) -> bool {
        let mut interests = Interests::default();
        console.interests(&mut interests);
        interests.wake(Some(Instant::now() + timeout));
        let ready = interests.wait().unwrap();
        for (source, flags) in &ready {
            match source {
                Source::Console => console.advance(*flags),
                Source::Watcher(id) => console.hear(*id),
                other => panic!("{other:?}"),
            }
        }
        console.tick(Instant::now());
        !ready.is_empty()
    }

    fn settle(console: &mut Console) {
        let end = Instant::now() + Duration::from_secs(20);
        while turn(console, Duration::from_millis(20)) {
            assert!(Instant::now() < end, "the loop does not come to rest");
        }
    }

    fn raw(slave: &OwnedFd) {
        let mut modes = rustix::termios::tcgetattr(slave).unwrap();
        modes.make_raw();
        rustix::termios::tcsetattr(slave, rustix::termios::OptionalActions::Now, &modes).unwrap();
    }

    #[test]
    fn a_guest_that_does_not_read_stops_who_types_and_nobody_else() {
        let (mut console, slave) = console();
        raw(&slave);
        let typist = watch(&mut console);
        let mut sent = 0;
        // As much as goes: until the guest's buffers and those on the way are full.
        let mut full = 0;
        while full < 5 {
            match rustix::io::write(&typist, &[b'p'; 1000]) {
                Ok(n) => sent += n,
                Err(e) => {
                    assert_eq!(e, Errno::AGAIN);
                    full += 1;
                }
            }
            settle(&mut console);
        }
        assert!(sent > 80_000, "{sent}");
        let other = watch(&mut console);
        rustix::io::write(&slave, b"still here").unwrap();
        settle(&mut console);
        let mut bytes = [0u8; 64];
        let n = rustix::io::read(&other, &mut bytes).unwrap();
        assert_eq!(&bytes[..n], b"still here");
        // Not a byte is lost once the guest reads.
        rustix::io::ioctl_fionbio(&slave, true).unwrap();
        let mut got = 0;
        let end = Instant::now() + Duration::from_secs(20);
        while got < sent && Instant::now() < end {
            let mut bytes = [0u8; 4096];
            match rustix::io::read(&slave, &mut bytes) {
                Ok(n) => got += n,
                Err(_) => drop(turn(&mut console, Duration::from_millis(5))),
            }
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn a_console_that_is_hung_up_is_opened_again_without_a_wait() {
        let (mut console, slave) = console();
        // As vhangup(2) leaves it: nobody has the guest's side open.
        drop(slave);
        console.hung_up();
        let begun = Instant::now();
        assert!(!turn(&mut console, Duration::from_millis(100)));
        assert!(begun.elapsed() >= waits::CONSOLE_REOPEN);
        assert!(console.slave.is_some());
        let slave = open_slave(&console.master).unwrap();
        rustix::io::write(&slave, b"back").unwrap();
        settle(&mut console);
        assert_eq!(console.log.tail(), b"back");
    }
}
