//! Connections to the monitor: which client waits for what, and the replies. It knows nothing of the guest.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SocketFlags;

use crate::model::waits;
use crate::runtime::interests::{Id, Interests, Source};
use crate::runtime::protocol::{Reply, Request};
use crate::sys::error_text;
use crate::sys::net::seqpacket;

/// Connections at once; the operator's commands need one each.
pub const CLIENTS: usize = 256;

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Ready,
    Stopped,
}

struct Client {
    id: Id,
    /// Non-blocking.
    socket: OwnedFd,
    since: Instant,
    has_asked: bool,
    waits: Vec<Wait>,
    closed: bool,
}

/// Whether the process at the other end may speak to the monitor.
pub type Admit = fn(BorrowedFd<'_>) -> bool;

pub struct Clients {
    listener: OwnedFd,
    admit: Admit,
    all: Vec<Client>,
    last_id: Id,
    /// No connection is accepted before this time.
    closed_until: Option<Instant>,
}

impl Clients {
    pub fn new(listener: OwnedFd, admit: Admit) -> Self {
        let _ = rustix::io::ioctl_fionbio(&listener, true);
        Self { listener, admit, all: Vec::new(), last_id: 0, closed_until: None }
    }

    /// Without room for another client, the listener is left alone, and new clients wait in its queue.
    pub fn interests<'a>(&'a self, interests: &mut Interests<'a>) {
        for client in &self.all {
            interests.read(Source::Client(client.id), &client.socket);
        }
        if self.closed_until.is_some() {
            interests.wake(self.closed_until);
        } else if self.all.len() < CLIENTS {
            interests.read(Source::Listener, &self.listener);
        } else {
            interests.wake(
                self.all.iter().filter(|c| !c.has_asked).map(|c| c.since + waits::CLIENT_SILENCE).min(),
            );
        }
    }

    /// If there is no room, drops clients that have never sent a request.
    pub fn tick(&mut self, now: Instant) {
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
        if self.all.len() >= CLIENTS {
            let silent =
                self.all.iter_mut().filter(|c| !c.has_asked && c.since + waits::CLIENT_SILENCE <= now);
            silent.for_each(|c| c.closed = true);
        }
    }

    /// A new connection.
    pub fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) if (self.admit)(socket.as_fd()) => drop(self.add(socket)),
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => self.closed_until = Some(Instant::now() + waits::ACCEPT_PAUSE),
        }
    }

    fn add(&mut self, socket: OwnedFd) -> Id {
        self.last_id += 1;
        let (id, since) = (self.last_id, Instant::now());
        self.all.push(Client { id, socket, since, has_asked: false, waits: Vec::new(), closed: false });
        id
    }

    fn get(&mut self, id: Id) -> Option<&mut Client> {
        self.all.iter_mut().find(|c| c.id == id)
    }

    /// What client `id` asks for, if it is a request.
    pub fn hear(&mut self, id: Id) -> Option<(Request, Vec<OwnedFd>)> {
        let client = self.get(id)?;
        match seqpacket::recv::<Request>(&client.socket) {
            Ok(Some(heard)) => {
                client.has_asked = true;
                return Some(heard);
            }
            Err(e) if matches!(e.errno(), Some(libc::EAGAIN | libc::EINTR)) => {}
            Ok(None) => client.closed = true,
            Err(e) => {
                // A command that is newer than this monitor, for example.
                client.reply(&Reply::failed(error_text(&e)), &[]);
                client.closed = true;
            }
        }
        None
    }

    pub fn reply(&mut self, id: Id, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        if let Some(client) = self.get(id) {
            client.reply(reply, fds);
        }
    }

    /// Client `id` waits for this.
    pub fn expect(&mut self, id: Id, wait: Wait) {
        if let Some(client) = self.get(id)
            && !client.waits.contains(&wait)
        {
            client.waits.push(wait);
        }
    }

    /// Tells all who wait for it.
    pub fn tell(&mut self, wait: Wait, reply: &Reply) {
        for client in &mut self.all {
            for _ in client.waits.extract_if(.., |w| *w == wait).collect::<Vec<_>>() {
                client.reply(reply, &[]);
            }
        }
    }

    /// Forgets clients that are gone, and returns them.
    pub fn take_closed(&mut self) -> Vec<Id> {
        self.all.extract_if(.., |c| c.closed).map(|c| c.id).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType};

    /// A listener at an address of its own, which no file stands for.
    fn clients(name: &str) -> (Clients, SocketAddrUnix) {
        let address =
            SocketAddrUnix::new_abstract_name(format!("nagaya-{name}-{}", std::process::id()).as_bytes());
        let address = address.unwrap();
        let listener = socket();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 128).unwrap();
        (Clients::new(listener, |_| true), address)
    }

    fn socket() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
    }

    fn connect(address: &SocketAddrUnix) -> OwnedFd {
        let socket = socket();
        rustix::net::connect(&socket, address).unwrap();
        socket
    }

    /// One turn of the loop: whether anything was ready, and what was asked.
    fn turn(clients: &mut Clients) -> (bool, Vec<(Id, Request, usize)>) {
        let mut interests = Interests::default();
        clients.interests(&mut interests);
        interests.wake(Some(Instant::now()));
        let ready = interests.wait().unwrap();
        let mut asked = Vec::new();
        for (source, _) in &ready {
            match source {
                Source::Listener => clients.accept(),
                Source::Client(id) => {
                    asked.extend(clients.hear(*id).map(|(request, fds)| (*id, request, fds.len())));
                }
                other => panic!("{other:?}"),
            }
        }
        clients.take_closed();
        (!ready.is_empty(), asked)
    }

    fn settle(clients: &mut Clients) -> Vec<(Id, Request, usize)> {
        let mut all = Vec::new();
        for _ in 0..10_000 {
            match turn(clients) {
                (true, asked) => all.extend(asked),
                (false, _) => return all,
            }
        }
        panic!("the loop does not come to rest");
    }

    fn reply(socket: &OwnedFd) -> Option<Reply> {
        seqpacket::recv::<Reply>(socket).unwrap().map(|(reply, _)| reply)
    }

    #[test]
    fn requests_come_with_who_asked_and_replies_go_there() {
        let (mut clients, address) = clients("replies");
        let (one, two) = (connect(&address), connect(&address));
        seqpacket::send(&two, &Request::Thaw, &[]).unwrap();
        let asked = settle(&mut clients);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].1, Request::Thaw);
        clients.reply(asked[0].0, &Reply::Done, &[]);
        assert_eq!(reply(&two), Some(Reply::Done));
        assert!(seqpacket::recv::<Reply>(&one).is_err(), "nothing was said to the other");
    }

    #[test]
    fn who_waits_is_told_once_for_each_wish() {
        let (mut clients, address) = clients("waits");
        let one = connect(&address);
        seqpacket::send(&one, &Request::WaitReady, &[]).unwrap();
        let id = settle(&mut clients)[0].0;
        for wait in [Wait::Stopped, Wait::Ready, Wait::Ready] {
            clients.expect(id, wait);
        }
        clients.tell(Wait::Ready, &Reply::Done);
        clients.tell(Wait::Ready, &Reply::Done);
        let ended = crate::runtime::protocol::Ended { reason: String::new(), clean: true, asked: true };
        clients.tell(Wait::Stopped, &Reply::Stopped(ended.clone()));
        assert_eq!(reply(&one), Some(Reply::Done));
        assert_eq!(reply(&one), Some(Reply::Stopped(ended)));
    }

    #[test]
    fn nonsense_is_answered_and_ends_the_connection() {
        let (mut clients, address) = clients("nonsense");
        for text in [&b"{"[..], b"\"dance\"", b"[1,2]", &[0xff; 60_000]] {
            let one = connect(&address);
            rustix::net::send(&one, text, SendFlags::NOSIGNAL).unwrap();
            assert_eq!(settle(&mut clients), []);
            assert!(matches!(reply(&one), Some(Reply::Failed { .. })));
            assert_eq!(reply(&one), None);
        }
        let one = connect(&address);
        // An empty packet cannot be told from the end.
        rustix::net::send(&one, b"", SendFlags::NOSIGNAL).unwrap();
        assert_eq!(settle(&mut clients), []);
        assert_eq!(clients.all.len(), 0);
    }

    #[test]
    fn descriptors_beyond_what_a_request_takes_are_not_taken_in() {
        let (mut clients, address) = clients("descriptors");
        // Other tests of this process open and close other files meanwhile.
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || {
            let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            all.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == file.path())).count()
        };
        let before = open();
        let one = connect(&address);
        let request = serde_json::to_vec(&Request::Console).unwrap();
        for _ in 0..20 {
            let fds = [file.as_fd(); 200];
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
            control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds));
            let text = [std::io::IoSlice::new(&request)];
            let flags = SendFlags::NOSIGNAL;
            if rustix::net::sendmsg(&one, &text, &mut control, flags).is_err() {
                break;
            }
        }
        assert_eq!(settle(&mut clients), []);
        assert_eq!(clients.all.len(), 0);
        drop(one);
        assert_eq!(open(), before);
    }

    #[test]
    fn who_takes_no_replies_is_dropped() {
        let (mut clients, address) = clients("deaf");
        let deaf = connect(&address);
        seqpacket::send(&deaf, &Request::Thaw, &[]).unwrap();
        let id = settle(&mut clients)[0].0;
        for _ in 0..100_000 {
            clients.reply(id, &Reply::Done, &[]);
            if !clients.take_closed().is_empty() {
                return;
            }
        }
        panic!("it is still there");
    }

    #[test]
    fn a_full_house_keeps_newcomers_waiting_and_shows_the_silent_out() {
        let (mut clients, address) = clients("full");
        let mut there = Vec::new();
        while there.len() < CLIENTS {
            there.push(connect(&address));
            settle(&mut clients);
        }
        seqpacket::send(&there[0], &Request::WaitStopped, &[]).unwrap();
        settle(&mut clients);
        let newcomer = connect(&address);
        seqpacket::send(&newcomer, &Request::Thaw, &[]).unwrap();
        assert!(!turn(&mut clients).0, "the listener is left alone");
        clients.tick(Instant::now());
        clients.take_closed();
        assert_eq!(clients.all.len(), CLIENTS);
        clients.tick(Instant::now() + waits::CLIENT_SILENCE);
        clients.take_closed();
        assert_eq!(clients.all.len(), 1, "who has asked stays");
        let asked = settle(&mut clients);
        assert_eq!(asked[0].1, Request::Thaw);
    }

    #[test]
    fn a_want_of_descriptors_does_not_spin() {
        let (mut clients, _address) = clients("want");
        // Accepting on what does not listen fails as a full table does: the connection stays there.
        clients.listener = socket();
        clients.accept();
        assert!(clients.closed_until.is_some());
        assert!(!turn(&mut clients).0);
        clients.tick(Instant::now() + waits::ACCEPT_PAUSE);
        assert!(clients.closed_until.is_none());
    }
}
