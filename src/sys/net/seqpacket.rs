//! Messages with descriptors over AF_UNIX SOCK_SEQPACKET: one send is one message.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::{Context, SysError, SysResult};

/// Longest message, in bytes. An exec's arguments and environment must fit.
pub const MAX_MESSAGE: usize = 128 * 1024;
/// Most descriptors in one message.
pub const MAX_FDS: usize = 4;

/// A connected pair.
pub fn pair() -> SysResult<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .cannot(|| "make a socket pair")
}

/// Sends `message` as JSON with `fds`.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> SysResult<()> {
    send_flags(socket, message, fds, SendFlags::NOSIGNAL)
}

/// The same, failing with `EAGAIN` rather than waiting for a reader.
pub fn send_now<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> SysResult<()> {
    send_flags(socket, message, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_flags<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> SysResult<()> {
    let what = || "send a message";
    let text = serde_json::to_vec(message).map_err(|e| SysError::new(what(), std::io::Error::from(e)))?;
    if text.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(SysError::new(what(), std::io::ErrorKind::ArgumentListTooLong));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(&socket, &[IoSlice::new(&text)], &mut control, flags))
        .cannot(what)
        .map(drop)
}

/// Receives one message; none when the other side has closed.
pub fn recv<T: DeserializeOwned>(socket: impl AsFd) -> SysResult<Option<(T, Vec<OwnedFd>)>> {
    recv_flags(socket, RecvFlags::empty())
}

/// The same, failing with `EAGAIN` rather than waiting for a message.
pub fn recv_now<T: DeserializeOwned>(socket: impl AsFd) -> SysResult<Option<(T, Vec<OwnedFd>)>> {
    recv_flags(socket, RecvFlags::DONTWAIT)
}

/// Receives the next packet as it is; empty when the other side has closed.
pub fn recv_bytes(socket: impl AsFd) -> SysResult<Vec<u8>> {
    Ok(recv_packet(socket, RecvFlags::empty())?.0)
}

fn recv_flags<T: DeserializeOwned>(
    socket: impl AsFd,
    flags: RecvFlags,
) -> SysResult<Option<(T, Vec<OwnedFd>)>> {
    let (text, fds) = recv_packet(socket, flags)?;
    if text.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(&text)
        .map_err(|e| SysError::new("receive a message", std::io::Error::from(e)))?;
    Ok(Some((message, fds)))
}

fn recv_packet(socket: impl AsFd, flags: RecvFlags) -> SysResult<(Vec<u8>, Vec<OwnedFd>)> {
    let what = || "receive a message";
    // The length is asked for first: a buffer of the largest size would stay with the process.
    let mut none = [0u8; 0];
    let (_, length) =
        past_reset(|| rustix::net::recv(&socket, &mut none[..], RecvFlags::PEEK | RecvFlags::TRUNC | flags))
            .cannot(what)?;
    if length > MAX_MESSAGE {
        return Err(SysError::new(what(), std::io::Error::other("the message is too long")));
    }
    let mut text = vec![0u8; length.max(1)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = past_reset(|| {
        let buffers = &mut [IoSliceMut::new(&mut text)];
        rustix::net::recvmsg(&socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC | flags)
    })
    .cannot(what)?;
    let fds: Vec<OwnedFd> = control
        .drain()
        .flat_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(SysError::new(what(), std::io::Error::other("the message was cut")));
    }
    text.truncate(got.bytes);
    Ok((text, fds))
}

/// Whether all that was sent has been read; the end of the other side counts as that.
pub fn is_read(socket: impl AsFd) -> SysResult<bool> {
    let mut unread: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the kernel writes one int (unix(7), SIOCOUTQ, which has the
    // number of TIOCOUTQ).
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    match done {
        0 => Ok(unread == 0),
        _ => Err(SysError::new("see whether a message was read", std::io::Error::last_os_error())),
    }
}

/// Whether the other side has closed without having read all that was sent to it. That is told once.
pub fn is_reset(socket: impl AsFd) -> bool {
    let error = rustix::net::sockopt::socket_error(socket);
    matches!(error, Ok(Err(rustix::io::Errno::CONNRESET)))
}

/// The other side may close without having read all that was sent to it. That is told once, ahead
/// of what it said last; asked again, the socket gives that, or its end.
fn past_reset<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match rustix::io::retry_on_intr(&mut call) {
        Err(rustix::io::Errno::CONNRESET) => rustix::io::retry_on_intr(call),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_told_from_what_was_not() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &"one", &[]).unwrap();
        assert!(!is_read(&ours).unwrap() && !is_reset(&ours));
        recv::<String>(&theirs).unwrap();
        assert!(is_read(&ours).unwrap() && !is_reset(&ours));
        drop(theirs);
        assert!(is_read(&ours).unwrap() && !is_reset(&ours));

        let (ours, theirs) = pair().unwrap();
        send(&ours, &"one", &[]).unwrap();
        drop(theirs);
        assert!(is_read(&ours).unwrap() && is_reset(&ours) && !is_reset(&ours));
    }

    /// Of a listener that ends before it has accepted a connection.
    #[test]
    fn what_was_sent_to_nobody_was_not_read() {
        let name = format!("nagaya-nobody-{}", std::process::id());
        let address = rustix::net::SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let socket = || {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
        };
        let (listener, ours) = (socket(), socket());
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        rustix::net::connect(&ours, &address).unwrap();
        send(&ours, &"one", &[]).unwrap();
        assert!(!is_read(&ours).unwrap());
        drop(listener);
        assert!(is_read(&ours).unwrap() && is_reset(&ours));
    }

    #[test]
    fn the_last_words_of_a_side_that_did_not_listen_are_heard() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, &"unread", &[]).unwrap();
        send(&theirs, &"bye", &[]).unwrap();
        drop(theirs);
        assert_eq!(recv::<String>(&ours).unwrap().map(|(text, _)| text).as_deref(), Some("bye"));
        assert!(recv::<String>(&ours).unwrap().is_none());

        let (ours, theirs) = pair().unwrap();
        send(&ours, &"unread", &[]).unwrap();
        drop(theirs);
        assert!(recv::<String>(&ours).unwrap().is_none());
    }
}
