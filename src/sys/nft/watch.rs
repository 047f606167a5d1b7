//! Hears of every change of the kernel's rules, whoever makes it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::NftError;
use super::listing::is_change;
use super::message::read_all;

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;

/// Listens from the time it is made.
pub struct Watch(Socket);

impl Watch {
    pub fn new() -> Result<Self, NftError> {
        let listen = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.add_membership(GROUP)?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        listen().map(Self).map_err(failed)
    }

    /// Waits until something has changed, at most as long as `patience`. What has come before counts;
    /// many changes may count as one.
    pub fn changed(&mut self, patience: Duration) -> Result<bool, NftError> {
        let end = std::time::Instant::now() + patience;
        loop {
            if self.drain().map_err(failed)? {
                return Ok(true);
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self, PollFlags::IN)];
            let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)));
            if ready.map_err(|e| failed(e.into()))? == 0 {
                return Ok(false);
            }
        }
    }

    fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        let mut bytes = Vec::with_capacity(1 << 16);
        loop {
            bytes.clear();
            match self.0.recv(&mut bytes, 0) {
                Ok(_) => {
                    changed |= read_all(&bytes, |message| Ok(is_change(message.kind)))?;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                // More has changed than the socket could hold.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

fn failed(source: io::Error) -> NftError {
    NftError::List { what: "changes of its rules".to_owned(), source }
}
