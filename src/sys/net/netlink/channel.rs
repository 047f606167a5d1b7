//! A route netlink socket on which several requests go out in one system call. The kernel
//! works through them in order before that call returns, so nothing is ever waited for, and nothing
//! is gained by another thread or an event loop.

use std::io;
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// More than the kernel puts into one datagram of a dump (32 KiB).
const LARGEST_ANSWER: usize = 64 << 10;

/// Requests to a system call: their answers wait in the socket's buffer (208 KiB unless the host was
/// told otherwise), where the description of a link takes some 4 KiB.
const MOST_AT_ONCE: usize = 16;

/// Something to ask the kernel for.
#[derive(Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

impl Request {
    /// Makes what must not be there yet.
    pub fn create(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_CREATE | NLM_F_EXCL }
    }

    /// Makes it, or makes it so.
    pub fn put(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_CREATE | NLM_F_REPLACE }
    }

    /// Changes, deletes or looks up what is there.
    pub fn on(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: 0 }
    }

    /// Looks up what the kernel tells of as if it had changed: queues. Without this flag it would tell all
    /// listeners but who has asked.
    pub fn told(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_ECHO }
    }

    /// Lists all of a kind. Only the last of several requests may be one.
    pub fn list(message: RouteNetlinkMessage) -> Self {
        Self { message, flags: NLM_F_DUMP }
    }
}

/// What one request brought, or why it was refused. That of a list which changed meanwhile is
/// `Interrupted`.
pub type Reply = io::Result<Vec<RouteNetlinkMessage>>;

/// In the network namespace of the thread that opened it.
pub struct Channel(Mutex<Line>);

struct Line {
    socket: Socket,
    next: u32,
}

impl Channel {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Connected to the kernel, it takes messages from no one else.
        socket.connect(&SocketAddr::new(0, 0))?;
        // A report without a copy of the request that it is about.
        socket.set_cap_ack(true)?;
        // Strict checks (Linux 4.20) make the kernel honour a list's filters.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self(Mutex::new(Line { socket, next: 1 })))
    }

    /// Sends all requests, 16 to a system call, and returns what each brought. After a failed one the
    /// later ones are tried all the same. Only the last of a call is acknowledged where it succeeds, so
    /// two or three system calls normally do for 16 requests.
    ///
    /// # Errors
    /// The socket failed, or the kernel's answer makes no sense.
    pub fn exchange(&self, requests: Vec<Request>) -> io::Result<Vec<Reply>> {
        let mut line = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut replies = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            replies.extend(line.exchange(requests.by_ref().take(MOST_AT_ONCE).collect())?);
        }
        Ok(replies)
    }
}

impl Line {
    /// The same with all in one call; there is at least one.
    fn exchange(&mut self, requests: Vec<Request>) -> io::Result<Vec<Reply>> {
        let count = requests.len();
        let mut replies: Vec<Reply> = (0..count).map(|_| Ok(Vec::new())).collect();
        let first = self.next;
        self.next = first.wrapping_add(count as u32);
        let bytes = serialized(requests, first);
        uninterrupted(|| self.socket.send(&bytes, 0))?;
        let mut buffer = Vec::with_capacity(LARGEST_ANSWER);
        loop {
            buffer.clear();
            uninterrupted(|| self.socket.recv(&mut buffer, 0))?;
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                let (message, behind) = parse(rest)?;
                rest = behind;
                let number = message.header.sequence_number.wrapping_sub(first) as usize;
                // The answer to an earlier exchange that was broken off is nobody's any more.
                let Some(reply) = replies.get_mut(number) else { continue };
                if take(reply, message) && number + 1 == count {
                    return Ok(replies);
                }
            }
        }
    }
}

/// Again as long as signals get in the way, before anything was done.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn serialized(requests: Vec<Request>, first: u32) -> Vec<u8> {
    let last = requests.len().saturating_sub(1);
    let mut bytes = Vec::new();
    for (n, request) in requests.into_iter().enumerate() {
        let mut message = NetlinkMessage::from(request.message);
        message.header.sequence_number = first.wrapping_add(n as u32);
        message.header.flags = NLM_F_REQUEST | request.flags;
        // A list ends with a message of its own.
        if n == last && request.flags & NLM_F_DUMP != NLM_F_DUMP {
            message.header.flags |= NLM_F_ACK;
        }
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
    bytes
}

/// Adds a message to the reply that it belongs to. Tells whether it was the last.
fn take(reply: &mut Reply, message: NetlinkMessage<RouteNetlinkMessage>) -> bool {
    if message.header.flags & NLM_F_DUMP_INTR != 0 && reply.is_ok() {
        *reply = Err(io::ErrorKind::Interrupted.into());
    }
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => {
            if let Ok(list) = reply {
                list.push(inner);
            }
            false
        }
        NetlinkPayload::Error(report) => {
            if report.code.is_some() {
                *reply = Err(report.to_io());
            }
            true
        }
        NetlinkPayload::Done(done) => {
            if done.code < 0 {
                *reply = Err(io::Error::from_raw_os_error(-done.code));
            }
            true
        }
        _ => false,
    }
}

/// The first message of a datagram, and what stands behind it.
pub fn parse(bytes: &[u8]) -> io::Result<(NetlinkMessage<RouteNetlinkMessage>, &[u8])> {
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = NetlinkBuffer::new_checked(bytes).map_err(|e| malformed(e.to_string()))?.length() as usize;
    let own = bytes.get(..length).ok_or_else(|| malformed("an answer that is cut short".to_owned()))?;
    let message = NetlinkMessage::deserialize(own).map_err(|e| malformed(e.to_string()))?;
    Ok((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

pub(super) fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}

/// `Ok` also where it failed for one of these reasons.
pub(super) fn but(reply: Reply, fine: &[i32]) -> io::Result<()> {
    match reply {
        Ok(_) => Ok(()),
        Err(error) if fine.iter().any(|errno| is(&error, *errno)) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::*;
    use crate::sys::net::netns_fixture::{in_new_netns, run};

    fn named(name: &str) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message
    }

    #[test]
    fn each_request_gets_its_own_answer() {
        in_new_netns(|| {
            run("ip", "link add two type bridge");
            let channel = Channel::open().unwrap();
            for _ in 0..2 {
                let get = |name| Request::on(RouteNetlinkMessage::GetLink(named(name)));
                let all = Request::list(RouteNetlinkMessage::GetLink(LinkMessage::default()));
                let replies = channel.exchange(vec![get("lo"), get("one"), get("two"), all]).unwrap();
                let counts: Vec<_> = replies.iter().map(|reply| reply.as_ref().map(Vec::len).ok()).collect();
                assert_eq!(counts[..3], [Some(1), None, Some(1)]);
                assert!(counts[3].unwrap() >= 2);
                assert_eq!(replies[1].as_ref().unwrap_err().raw_os_error(), Some(libc::ENODEV));
                // What is acknowledged only because it comes last.
                let replies = channel.exchange(vec![get("one"), get("lo")]).unwrap();
                assert_eq!(replies[1].as_ref().unwrap().len(), 1);
                assert!(replies[0].is_err());
            }
            assert!(channel.exchange(Vec::new()).unwrap().is_empty());
            // More than the socket's buffer could hold the answers to.
            let many = (0..1000).map(|n| {
                let name = if n % 100 == 0 { "none" } else { "two" };
                Request::on(RouteNetlinkMessage::GetLink(named(name)))
            });
            let replies = channel.exchange(many.collect()).unwrap();
            assert_eq!(replies.len(), 1000);
            for (n, reply) in replies.iter().enumerate() {
                assert_eq!(reply.as_ref().is_ok_and(|found| found.len() == 1), n % 100 != 0, "{n}");
            }
        });
    }

    #[test]
    fn a_short_answer_is_an_error() {
        assert!(parse(&[1, 0, 0]).is_err());
        let mut header = vec![0u8; 16];
        header[0] = 200;
        assert!(parse(&header).is_err());
        header[0] = 3;
        assert!(parse(&header).is_err());
    }
}
