//! A D-Bus connection between the two halves of one process, over the socket pair that they were
//! born with. Neither has to prove who it is, so there is no handshake; the library's own would
//! look up the peer's groups, in a second thread, which the broker must not have.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// Most descriptors in one message of ours.
pub const MAX_FDS: usize = 16;
/// Most that a message can have: SCM_MAX_FD of the kernel.
const ANY_FDS: usize = 253;

/// One end of the pair, shared by its two directions.
#[derive(Debug)]
struct Pair(Arc<UnixStream>);

/// One direction of a connection.
#[derive(Debug)]
pub struct Half(Arc<UnixStream>);

/// The two directions of `stream`. Needs a tokio runtime.
pub fn halves(stream: StdStream) -> io::Result<(Half, Half)> {
    stream.set_nonblocking(true)?;
    let stream = Arc::new(UnixStream::from_std(stream)?);
    Ok((Half(stream.clone()), Half(stream)))
}

/// A connection over `stream`, which is one end of a socket pair. Needs the tokio runtime that the
/// connection is to run on.
pub fn builder(stream: StdStream) -> io::Result<Builder<'static>> {
    stream.set_nonblocking(true)?;
    let pair = Pair(Arc::new(UnixStream::from_std(stream)?));
    Ok(Builder::authenticated_socket(pair, zbus::Guid::generate()).p2p())
}

impl Socket for Pair {
    type ReadHalf = Half;
    type WriteHalf = Half;

    fn split(self) -> Split<Half, Half> {
        Split::new(Half(self.0.clone()), Half(self.0))
    }
}

#[async_trait]
impl ReadHalf for Half {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.0.readable().await?;
            match self.0.try_io(Interest::READABLE, || receive(&self.0, buffer)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

#[async_trait]
impl WriteHalf for Half {
    async fn sendmsg(&mut self, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        loop {
            self.0.writable().await?;
            match self.0.try_io(Interest::WRITABLE, || send(&self.0, buffer, fds)) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&*self.0, rustix::net::Shutdown::Both)?)
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ANY_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [io::IoSliceMut::new(buffer)];
    let got = rustix::net::recvmsg(stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((got.bytes, fds))
}

fn send(stream: &UnixStream, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(rustix::net::sendmsg(stream, &[io::IoSlice::new(buffer)], &mut control, SendFlags::NOSIGNAL)?)
}
