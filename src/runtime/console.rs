//! A guest's console: history on two bounded files, and those who watch.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::sys::{Context, SysResult};

/// Bytes in each of the two files of the history.
pub const LOG_HALF: u64 = 512 * 1024;
/// Bytes of history that a new watcher is shown.
const BACKLOG: u64 = 8 * 1024;

/// The console's history: one file is filled, then the other is emptied and filled.
pub struct Log {
    files: [OwnedFd; 2],
    current: usize,
    length: u64,
}

impl Log {
    /// Goes on in the file that was written last.
    pub fn open(files: [OwnedFd; 2]) -> SysResult<Self> {
        let stat = |fd| rustix::fs::fstat(fd).cannot(|| "look at the console's log");
        let (a, b) = (stat(&files[0])?, stat(&files[1])?);
        let newer = (b.st_mtime, b.st_mtime_nsec) > (a.st_mtime, a.st_mtime_nsec) && b.st_size > 0;
        let current = usize::from(newer);
        let length = if newer { b.st_size } else { a.st_size } as u64;
        Ok(Self { files, current, length })
    }

    /// A full disk loses history, never the guest.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.length >= LOG_HALF {
            self.current = 1 - self.current;
            self.length = 0;
            let _ = rustix::fs::ftruncate(&self.files[self.current], 0);
        }
        if let Ok(n) = rustix::io::pwrite(&self.files[self.current], bytes, self.length) {
            self.length += n as u64;
        }
    }

    fn tail(&self) -> Vec<u8> {
        let from = self.length.saturating_sub(BACKLOG);
        let mut bytes = vec![0u8; (self.length - from) as usize];
        let n = rustix::io::pread(&self.files[self.current], &mut bytes[..], from).unwrap_or(0);
        bytes.truncate(n);
        bytes
    }
}

fn open_slave(master: &OwnedFd) -> Option<OwnedFd> {
    use rustix::pty::OpenptFlags;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    rustix::pty::ioctl_tiocgptpeer(master, flags).ok()
}

/// The console's master side, its history and its watchers.
pub struct Console {
    master: OwnedFd,
    /// Held open, or reading the master would fail whenever no process of the guest has the
    /// console open.
    slave: Option<OwnedFd>,
    log: Log,
    /// Non-blocking stream sockets.
    watchers: Vec<OwnedFd>,
}

impl Console {
    pub fn new(master: OwnedFd, log: Log) -> Self {
        let slave = open_slave(&master);
        Self { master, slave, log, watchers: Vec::new() }
    }

    pub fn master(&self) -> &OwnedFd {
        &self.master
    }

    /// Whether there is a guest's side: false for a guest whose /dev was in no state for one.
    pub fn is_open(&self) -> bool {
        self.slave.is_some()
    }

    /// The guest's next boot has a console of its own; watchers stay.
    pub fn replace(&mut self, master: OwnedFd) {
        self.slave = open_slave(&master);
        self.master = master;
    }

    /// Shows the latest history to a new watcher, and from now on what comes.
    pub fn watch(&mut self, stream: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&stream, true);
        let _ = rustix::net::send(&stream, &self.log.tail(), rustix::net::SendFlags::NOSIGNAL);
        self.watchers.push(stream);
    }

    pub fn watchers(&self) -> &[OwnedFd] {
        &self.watchers
    }

    /// Whether the last that the guest has printed is an init's announcement of a restart.
    pub fn says_reboot(&self) -> bool {
        // systemd-shutdown, busybox init, sysvinit and OpenRC.
        const WORDS: [&str; 4] =
            ["Rebooting.", "Requesting system reboot", "Restarting system", "going down for reboot"];
        const LAST: usize = 256;
        let tail = self.log.tail();
        let last = String::from_utf8_lossy(&tail[tail.len().saturating_sub(LAST)..]).into_owned();
        WORDS.iter().any(|words| last.contains(words))
    }

    /// Says something to history and watchers that the guest did not.
    pub fn note(&mut self, text: &str) {
        self.spread(format!("\r\n[nagaya] {text}\r\n").as_bytes());
    }

    /// Whether the guest has written something that was not taken yet.
    pub fn has_more(&self) -> bool {
        rustix::io::ioctl_fionread(&self.master).is_ok_and(|n| n > 0)
    }

    /// Takes what the guest has written. A guest's init hangs its console up now and then, and
    /// our own open end with it: that is opened again.
    pub fn drain(&mut self) {
        let mut bytes = [0u8; 4096];
        match rustix::io::read(&self.master, &mut bytes) {
            Ok(0) | Err(Errno::IO) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
                self.slave = open_slave(&self.master);
            }
            Ok(n) => self.spread(&bytes[..n]),
            Err(_) => {}
        }
    }

    /// A watcher that does not read loses what it is too slow for; it never holds the guest up.
    fn spread(&mut self, bytes: &[u8]) {
        self.log.append(bytes);
        self.watchers.retain(|stream| {
            match rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL) {
                Err(e) => e == Errno::AGAIN,
                Ok(_) => true,
            }
        });
    }

    /// Passes on what watcher number `index` has typed; forgets it once it has closed.
    pub fn input(&mut self, index: usize) {
        let mut bytes = [0u8; 512];
        match rustix::io::read(&self.watchers[index], &mut bytes) {
            Ok(n) if n > 0 => {
                let _ = rustix::io::write(&self.master, &bytes[..n]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => drop(self.watchers.swap_remove(index)),
        }
    }
}
