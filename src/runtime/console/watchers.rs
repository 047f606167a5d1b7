//! The watchers of a console. Each may type, and the monitor waits for none: it reads what one types only
//! as fast as the guest takes it, and a watcher that reads too slowly loses what comes meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, sockopt};

use crate::model::waits;
use crate::runtime::interests::{Id, Interests, Source};
use crate::sys::{SysError, SysResult};

/// Watchers at once.
pub const WATCHERS: usize = 64;
/// Bytes that are read from one watcher before the guest has to take them.
const PIECE: usize = 512;

struct Watcher {
    id: Id,
    stream: OwnedFd,
    /// Typed, but not taken by the guest yet. While there is some, no more is read.
    typed: Vec<u8>,
    /// When to check whether a watcher is still there whose input the guest does not take.
    look_at: Instant,
}

#[derive(Default)]
pub struct Watchers {
    all: Vec<Watcher>,
    last_id: Id,
}

impl Watchers {
    /// Adds a watcher and shows it `first`.
    ///
    /// # Errors
    /// For what is no stream socket, and when there are too many.
    pub fn add(&mut self, stream: OwnedFd, first: &[u8]) -> SysResult<()> {
        let refused = |why: &str| SysError::new("follow the console", std::io::Error::other(why.to_owned()));
        // On any other file, a read or write might wait whatever its flags say.
        let right = sockopt::socket_domain(&stream) == Ok(AddressFamily::UNIX)
            && sockopt::socket_type(&stream) == Ok(SocketType::STREAM);
        if !right {
            return Err(refused("what came along is no stream socket"));
        }
        if self.all.len() >= WATCHERS {
            return Err(refused(&format!("{WATCHERS} follow it already")));
        }
        self.last_id += 1;
        let (id, typed) = (self.last_id, Vec::new());
        self.all.push(Watcher { id, stream, typed, look_at: Instant::now() });
        self.spread_to(|w| w.id == id, first);
        Ok(())
    }

    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        for watcher in &self.all {
            if watcher.typed.is_empty() {
                interests.read(Source::Watcher(watcher.id), &watcher.stream);
            } else {
                interests.wake(Some(watcher.look_at));
            }
        }
    }

    /// Whether something waits for the guest.
    pub fn have_typed(&self) -> bool {
        self.all.iter().any(|w| !w.typed.is_empty())
    }

    /// Shows `bytes` to all. A watcher that does not read loses what it is too slow for; it never
    /// holds the guest up.
    pub fn spread(&mut self, bytes: &[u8]) {
        self.spread_to(|_| true, bytes);
    }

    fn spread_to(&mut self, whom: impl Fn(&Watcher) -> bool, bytes: &[u8]) {
        // Each call has the flag, because the descriptor's own flag is shared with whoever sent it.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.all.retain(|w| {
            !whom(w) || matches!(rustix::net::send(&w.stream, bytes, flags), Ok(_) | Err(Errno::AGAIN))
        });
    }

    /// Takes what watcher `id` has typed; forgets it once it has closed.
    pub fn hear(&mut self, id: Id) {
        let Some(index) = self.all.iter().position(|w| w.id == id && w.typed.is_empty()) else { return };
        let watcher = &mut self.all[index];
        let mut bytes = [0u8; PIECE];
        match rustix::net::recv(&watcher.stream, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, n)) if n > 0 => {
                watcher.typed.extend_from_slice(&bytes[..n]);
                watcher.look_at = Instant::now() + waits::CONSOLE_LAST_WORDS;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => drop(self.all.swap_remove(index)),
        }
    }

    /// Gives what was typed to `take`, which returns how much it has taken: less than all if it can take no
    /// more now. Each watcher gets a turn.
    pub fn give(&mut self, mut take: impl FnMut(&[u8]) -> usize) {
        for watcher in self.all.iter_mut().filter(|w| !w.typed.is_empty()) {
            let taken = take(&watcher.typed).min(watcher.typed.len());
            watcher.typed.drain(..taken);
            if taken > 0 {
                watcher.look_at = Instant::now() + waits::CONSOLE_LAST_WORDS;
            }
            if !watcher.typed.is_empty() {
                // The other watchers come first the next time.
                let id = watcher.id;
                self.all.sort_by_key(|w| w.id == id);
                return;
            }
        }
    }

    /// Drops what was typed for a guest that has ended.
    pub fn forget_typed(&mut self) {
        self.all.iter_mut().for_each(|w| w.typed.clear());
    }

    /// Forgets watchers that are gone and whose input nobody takes.
    pub fn tick(&mut self, now: Instant) {
        self.all.retain_mut(|w| {
            if w.typed.is_empty() || w.look_at > now {
                return true;
            }
            w.look_at = now + waits::CONSOLE_LAST_WORDS;
            !has_hung_up(&w.stream)
        });
    }
}

fn has_hung_up(stream: &OwnedFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&at_once)).is_ok_and(|n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> (OwnedFd, OwnedFd) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    fn ready(watchers: &Watchers) -> Vec<Id> {
        let mut interests = Interests::default();
        watchers.interests(&mut interests);
        interests.wake(Some(Instant::now()));
        let ready = interests.wait().unwrap().into_iter();
        ready
            .filter_map(|(source, _)| if let Source::Watcher(id) = source { Some(id) } else { None })
            .collect()
    }

    #[test]
    fn what_is_typed_waits_in_the_typists_own_socket() {
        let (mut watchers, (theirs, ours)) = (Watchers::default(), stream());
        watchers.add(ours, b"").unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        // More than all buffers on the way hold.
        let mut sent = 0;
        while let Ok(n) = rustix::io::write(&theirs, &[b'x'; 4096]) {
            sent += n;
        }
        let mut taken = 0;
        for id in ready(&watchers) {
            watchers.hear(id);
            watchers.hear(id);
            watchers.give(|bytes| {
                taken += bytes.len().min(10);
                bytes.len().min(10)
            });
        }
        assert_eq!(taken, 10);
        assert!(watchers.have_typed() && ready(&watchers).is_empty());
        while taken < sent {
            watchers.give(|bytes| {
                taken += bytes.len();
                bytes.len()
            });
            ready(&watchers).into_iter().for_each(|id| watchers.hear(id));
        }
        assert_eq!(taken, sent);
    }

    #[test]
    fn one_whose_words_nobody_takes_holds_up_no_other() {
        let (mut watchers, pairs) = (Watchers::default(), [stream(), stream()]);
        let [(first, ours), (second, other)] = pairs;
        watchers.add(ours, b"").unwrap();
        watchers.add(other, b"").unwrap();
        rustix::io::write(&first, b"aa").unwrap();
        rustix::io::write(&second, b"b").unwrap();
        ready(&watchers).into_iter().for_each(|id| watchers.hear(id));
        let mut got = Vec::new();
        for _ in 0..3 {
            watchers.give(|bytes| {
                got.push(bytes[0]);
                usize::from(bytes[0] == b'b')
            });
        }
        assert!(got.contains(&b'b'), "{got:?}");
    }

    #[test]
    fn who_is_gone_is_forgotten_at_once_or_after_a_time_for_the_last_words() {
        let (mut watchers, (theirs, ours)) = (Watchers::default(), stream());
        watchers.add(ours, b"").unwrap();
        drop(theirs);
        ready(&watchers).into_iter().for_each(|id| watchers.hear(id));
        assert_eq!(watchers.all.len(), 0);

        let (theirs, ours) = stream();
        watchers.add(ours, b"").unwrap();
        rustix::io::write(&theirs, b"last").unwrap();
        ready(&watchers).into_iter().for_each(|id| watchers.hear(id));
        let now = Instant::now();
        watchers.tick(now + waits::CONSOLE_LAST_WORDS);
        assert_eq!(watchers.all.len(), 1, "it is there, and may wait for as long as it likes");
        drop(theirs);
        assert!(ready(&watchers).is_empty(), "its end does not keep the loop awake");
        watchers.tick(now + waits::CONSOLE_LAST_WORDS);
        assert_eq!(watchers.all.len(), 1);
        watchers.tick(now + 3 * waits::CONSOLE_LAST_WORDS);
        assert_eq!(watchers.all.len(), 0);
    }

    #[test]
    fn who_does_not_read_is_not_waited_for() {
        let (mut watchers, (_theirs, ours)) = (Watchers::default(), stream());
        watchers.add(ours, b"").unwrap();
        for _ in 0..1000 {
            watchers.spread(&[b'x'; 4096]);
        }
        assert_eq!(watchers.all.len(), 1);
    }

    #[test]
    fn only_so_many_stream_sockets_are_followed() {
        let mut watchers = Watchers::default();
        let (pipe, _write) = rustix::pipe::pipe().unwrap();
        assert!(watchers.add(pipe, b"").is_err());
        let (packets, _other) = crate::sys::net::seqpacket::pair().unwrap();
        assert!(watchers.add(packets, b"").is_err());
        let kept: Vec<_> = (0..WATCHERS)
            .map(|_| {
                let (theirs, ours) = stream();
                watchers.add(ours, b"hello").unwrap();
                theirs
            })
            .collect();
        assert!(watchers.add(stream().0, b"").is_err());
        drop(kept);
    }
}
