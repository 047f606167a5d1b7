//! hostd's connection to the system bus. Anybody on the bus may send it messages, of up to 32 MiB
//! each, and the library reads a message whole before it asks whose it is. So a message that is too
//! long is cut down to its header as it arrives: the call then lacks its arguments, which its
//! sender is told. What is large travels as a memory file.

use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use zbus::address::{Transport, transport::UnixSocket};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split};
use zbus::export::async_trait::async_trait;

use crate::host::api::socket;
use crate::host::api::socket::{Half, MAX_FDS};

/// Longest message, in bytes.
pub const LONGEST: usize = 64 * 1024;
/// What every message begins with, up to the length of its header's fields (D-Bus specification,
/// "Message Format").
const FIXED: usize = 16;

/// A connection to the system bus. Needs a tokio runtime.
pub fn builder() -> zbus::Result<Builder<'static>> {
    let address = zbus::Address::system()?;
    let Transport::Unix(unix) = address.transport() else { return Err(zbus::Error::Unsupported) };
    let address = match unix.path() {
        UnixSocket::File(path) => SocketAddr::from_pathname(path)?,
        UnixSocket::Abstract(name) => SocketAddr::from_abstract_name(name.as_encoded_bytes())?,
        _ => return Err(zbus::Error::Unsupported),
    };
    Ok(Builder::socket(Bounded::new(UnixStream::connect_addr(&address)?)?))
}

#[derive(Debug)]
struct Bounded {
    read: Reader,
    write: Half,
}

impl Bounded {
    fn new(stream: UnixStream) -> io::Result<Self> {
        let (read, write) = socket::halves(stream)?;
        let read = Reader { half: read, at: At::Line { is_start: true }, head: [0; FIXED], fds: Vec::new() };
        Ok(Self { read, write })
    }
}

impl Socket for Bounded {
    type ReadHalf = Reader;
    type WriteHalf = Half;

    fn split(self) -> Split<Reader, Half> {
        Split::new(self.read, self.write)
    }
}

#[derive(Debug)]
struct Reader {
    half: Half,
    at: At,
    /// The beginning of the message that is being read, and its descriptors.
    head: [u8; FIXED],
    fds: Vec<OwnedFd>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Lines of the handshake, none of which begins with the letter that a message does.
    Line { is_start: bool },
    /// The beginning of a message, of which so many bytes are here.
    Head { here: usize },
    /// That beginning goes on to the library, from this byte.
    Tell { from: usize, plan: Plan },
    /// The rest of a message.
    Rest(Plan),
}

/// How much of a message goes on, and how much after that is thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    pass: u64,
    drop: u64,
}

/// What becomes of the message that begins so; whether its beginning goes on. A body that does not is
/// taken out of the beginning.
fn judge(head: &mut [u8; FIXED], fds: usize) -> (bool, Plan) {
    let is_little = head[0] == b'l';
    let number = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        u64::from(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let (body, fields) = (number(4), number(12));
    let fields = fields.next_multiple_of(8);
    let longest = LONGEST as u64;
    if FIXED as u64 + fields > longest || fds > MAX_FDS {
        return (false, Plan { pass: 0, drop: fields + body });
    }
    if FIXED as u64 + fields + body > longest {
        head[4..8].fill(0);
        return (true, Plan { pass: fields, drop: body });
    }
    (true, Plan { pass: fields + body, drop: 0 })
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        const SCRATCH: usize = 16 * 1024;
        if buffer.is_empty() {
            return Ok((0, Vec::new()));
        }
        loop {
            match self.at {
                At::Line { is_start } => {
                    let (got, _) = self.half.recvmsg(&mut buffer[..1]).await?;
                    if got == 1 && is_start && matches!(buffer[0], b'l' | b'B') {
                        self.head[0] = buffer[0];
                        self.at = At::Head { here: 1 };
                        continue;
                    }
                    self.at = At::Line { is_start: buffer[0] == b'\n' };
                    return Ok((got, Vec::new()));
                }
                At::Head { here } if here < FIXED => {
                    let (got, fds) = self.half.recvmsg(&mut self.head[here..]).await?;
                    if got == 0 {
                        return Ok((0, Vec::new()));
                    }
                    self.fds.extend(fds);
                    self.at = At::Head { here: here + got };
                }
                At::Head { .. } => {
                    let (is_told, plan) = judge(&mut self.head, self.fds.len());
                    if !is_told {
                        self.fds.clear();
                    }
                    self.at = if is_told { At::Tell { from: 0, plan } } else { At::Rest(plan) };
                }
                At::Tell { from, plan } => {
                    let part = &self.head[from..FIXED.min(from + buffer.len())];
                    buffer[..part.len()].copy_from_slice(part);
                    let upto = from + part.len();
                    let length = part.len();
                    self.at = if upto < FIXED { At::Tell { from: upto, plan } } else { At::Rest(plan) };
                    return Ok((length, std::mem::take(&mut self.fds)));
                }
                At::Rest(Plan { pass: 0, drop: 0 }) => self.at = At::Head { here: 0 },
                At::Rest(Plan { pass: 0, drop }) => {
                    let mut scratch = [0; SCRATCH];
                    let most = SCRATCH.min(usize::try_from(drop).unwrap_or(SCRATCH));
                    let (got, _) = self.half.recvmsg(&mut scratch[..most]).await?;
                    if got == 0 {
                        return Ok((0, Vec::new()));
                    }
                    self.at = At::Rest(Plan { pass: 0, drop: drop - got as u64 });
                }
                At::Rest(Plan { pass, drop }) => {
                    let most = buffer.len().min(usize::try_from(pass).unwrap_or(usize::MAX));
                    let (got, fds) = self.half.recvmsg(&mut buffer[..most]).await?;
                    self.at = At::Rest(Plan { pass: pass - got as u64, drop });
                    return Ok((got, fds));
                }
            }
        }
    }

    fn can_pass_unix_fd(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Echo;

    #[zbus::interface(name = "org.nagaya.Echo")]
    impl Echo {
        fn length(&self, text: &str) -> u64 {
            text.len() as u64
        }
    }

    #[zbus::proxy(
        interface = "org.nagaya.Echo",
        default_path = "/org/nagaya/Echo",
        default_service = "org.nagaya.Echo"
    )]
    trait Echoing {
        fn length(&self, text: &str) -> zbus::Result<u64>;
    }

    #[test]
    fn a_long_call_is_refused_and_the_next_is_served() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, server) = UnixStream::pair().unwrap();
            let bounded = Bounded::new(server).unwrap();
            let server = Builder::authenticated_socket(bounded, zbus::Guid::generate())
                .p2p()
                .serve_at("/org/nagaya/Echo", Echo)
                .build()
                .await
                .unwrap();
            let client = socket::builder(client).unwrap().build().await.unwrap();
            let echo = EchoingProxy::new(&client).await.unwrap();
            assert_eq!(echo.length("abc").await.unwrap(), 3);
            assert_eq!(echo.length(&"x".repeat(LONGEST - 1024)).await.unwrap(), LONGEST as u64 - 1024);
            for _ in 0..3 {
                let error = echo.length(&"x".repeat(8 << 20)).await.unwrap_err();
                assert!(
                    matches!(&error, zbus::Error::FDO(e) if matches!(**e, zbus::fdo::Error::InvalidArgs(_))),
                    "{error:?}"
                );
                assert_eq!(echo.length("abc").await.unwrap(), 3);
            }
            drop(server);
        });
    }

    #[test]
    fn lines_and_messages_are_told_apart_wherever_they_are_cut() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut sender, receiver) = UnixStream::pair().unwrap();
            let mut reader = Bounded::new(receiver).unwrap().read;
            let lines = b"OK 0123\r\nAGREE_UNIX_FD\r\n";
            let message = |fields: u32, body: u32| {
                let mut bytes = vec![b'l', 1, 0, 1];
                bytes.extend(body.to_le_bytes());
                bytes.extend(7u32.to_le_bytes());
                bytes.extend(fields.to_le_bytes());
                bytes.extend(std::iter::repeat_n(b'f', fields.next_multiple_of(8) as usize));
                bytes.extend(std::iter::repeat_n(b'b', body as usize));
                bytes
            };
            let long = LONGEST as u32;
            let mut sent = lines.to_vec();
            let mut wanted = lines.to_vec();
            for (fields, body) in [(9, 0), (8, 100), (9, long), (long, 10), (1, 1)] {
                sent.extend(message(fields, body));
                match (fields == long, body == long) {
                    (true, _) => {}
                    (_, true) => wanted.extend(message(fields, 0)),
                    _ => wanted.extend(message(fields, body)),
                }
            }
            let writer = std::thread::spawn(move || sender.write_all(&sent).unwrap());
            let (mut got, mut buffer) = (Vec::new(), [0; 7]);
            loop {
                match reader.recvmsg(&mut buffer).await.unwrap() {
                    (0, _) => break,
                    (n, _) => got.extend_from_slice(&buffer[..n]),
                }
            }
            writer.join().unwrap();
            assert_eq!(got, wanted);
        });
    }
}
