//! What travels between a caller and the broker: a request or an answer, as JSON text, with descriptors by name.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::message::Message;
use zbus::{Fd, OwnedFd as BusFd};

use super::error::{HostError, refused};
use crate::sys::fs::sealed;
use crate::sys::net::seqpacket;
use crate::sys::{SysResult, error_text};

/// The version of the wire format. Fields and descriptors that an older side may ignore are added within a
/// version; whatever changes what a request means needs another one.
pub const VERSION: u32 = 1;
/// What every verb takes and returns: version, JSON text, descriptors by name.
pub const SIGNATURE: &str = "usa{sh}";
/// Longest text that goes in the message itself, in bytes: hostd takes messages of twice that. A longer one is
/// in a sealed memory file.
const INLINE: usize = 32 * 1024;
/// The name of that file among the descriptors.
const BODY: &str = "body";

/// Descriptors by name.
#[derive(Debug, Default)]
pub struct Descriptors(HashMap<String, OwnedFd>);

impl Descriptors {
    pub fn of<const N: usize>(named: [(&str, OwnedFd); N]) -> Self {
        Self(named.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The descriptor `name`, which is in nobody else's hands then.
    pub fn take(&mut self, name: &str) -> Result<OwnedFd, HostError> {
        self.0.remove(name).ok_or_else(|| refused(format!("the descriptor '{name:.64}' is missing")))
    }

    pub fn add(&mut self, name: &str, fd: OwnedFd) {
        self.0.insert(name.to_owned(), fd);
    }

    /// Adds those of a queue under this name, if it came along: the system bus carries no more than 16 descriptors in one
    /// message. What is in the queue is there already, and nobody is waited for.
    pub fn unpack(&mut self, queue: &str, most: usize) -> Result<(), HostError> {
        let Some(queue) = self.0.remove(queue) else { return Ok(()) };
        for _ in 0..most {
            match seqpacket::recv_now::<String>(&queue) {
                Ok(Some((name, fds))) => {
                    let [fd] = <[OwnedFd; 1]>::try_from(fds)
                        .map_err(|_| refused("a queue has one descriptor for each name"))?;
                    if self.0.insert(name, fd).is_some() {
                        return Err(refused("a descriptor comes twice"));
                    }
                }
                Ok(None) => return Ok(()),
                Err(e) => return Err(refused(error_text(&e))),
            }
        }
        Err(refused("a queue has too many descriptors"))
    }

    /// Adds a queue of descriptors under this name; nothing where there are none.
    pub fn pack(&mut self, queue: &str, named: Vec<(String, OwnedFd)>) -> SysResult<()> {
        if named.is_empty() {
            return Ok(());
        }
        let (ours, theirs) = seqpacket::pair()?;
        for (name, fd) in &named {
            seqpacket::send_now(&ours, name, &[fd.as_fd()])?;
        }
        self.add(queue, theirs);
        Ok(())
    }

    /// Refuses what nobody has taken.
    pub fn end(&self) -> Result<(), HostError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(refused(format!("there is no use for a descriptor '{name:.64}'"))),
        }
    }
}

/// A request or an answer. Those that descriptors travel with say where they are kept.
pub trait Carries {
    fn descriptors(&mut self) -> Option<&mut Descriptors> {
        None
    }
}

/// A request or an answer on its way.
#[derive(Debug)]
pub struct Packet {
    version: u32,
    text: String,
    descriptors: Descriptors,
}

impl Packet {
    pub fn seal(mut content: impl Serialize + Carries) -> Result<Self, HostError> {
        let text = serde_json::to_string(&content).map_err(|e| HostError::Failed(e.to_string()))?;
        let descriptors = content.descriptors().map(std::mem::take).unwrap_or_default();
        Self::of(text, descriptors)
    }

    /// The same of text that is JSON already, or is to be taken for it.
    pub fn of(text: String, mut descriptors: Descriptors) -> Result<Self, HostError> {
        if text.len() <= INLINE {
            return Ok(Self { version: VERSION, text, descriptors });
        }
        let file = sealed::write(text.as_bytes()).map_err(|e| HostError::Failed(error_text(&e)))?;
        descriptors.add(BODY, file);
        Ok(Self { version: VERSION, text: String::new(), descriptors })
    }

    /// What is in it, if that is no longer than `most` bytes. Fields that this side does not know are ignored.
    pub fn open<T: DeserializeOwned + Carries>(mut self, most: usize) -> Result<T, HostError> {
        if self.version != VERSION {
            return Err(HostError::Version(format!(
                "it speaks version {} of the broker's interface, and this one version {VERSION}",
                self.version
            )));
        }
        let text = match self.descriptors.0.remove(BODY) {
            Some(file) => sealed::read(&file, most).map_err(|e| refused(error_text(&e)))?,
            None if self.text.len() > most => {
                return Err(refused(format!("the request is longer than {most} bytes")));
            }
            None => self.text.into_bytes(),
        };
        let mut content: T = serde_json::from_slice(&text).map_err(|e| refused(e.to_string()))?;
        match content.descriptors() {
            Some(place) => *place = self.descriptors,
            None => self.descriptors.end()?,
        }
        Ok(content)
    }

    /// What a message has; none if the message is of another shape.
    pub fn of_message(message: &Message) -> Option<Self> {
        let body = message.body();
        let (version, text, fds) = body.deserialize::<(u32, String, HashMap<String, BusFd>)>().ok()?;
        let fds = fds.into_iter().map(|(name, fd)| (name, OwnedFd::from(fd)));
        Some(Self { version, text, descriptors: Descriptors(fds.collect()) })
    }

    /// The body of a message that has it.
    pub fn body(&self) -> (u32, &str, HashMap<&str, Fd<'_>>) {
        let fds = self.descriptors.0.iter().map(|(name, fd)| (name.as_str(), Fd::from(fd.as_fd())));
        (self.version, &self.text, fds.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    #[serde(default)]
    struct Words {
        words: Vec<String>,
        count: u32,
    }

    impl Carries for Words {}

    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct WithFile {
        #[serde(skip)]
        descriptors: Descriptors,
    }

    impl Carries for WithFile {
        fn descriptors(&mut self) -> Option<&mut Descriptors> {
            Some(&mut self.descriptors)
        }
    }

    fn file() -> OwnedFd {
        sealed::write(b"x").unwrap()
    }

    #[test]
    fn what_is_long_travels_in_a_file_and_has_a_bound_there_too() {
        for count in [0, 10, 100_000] {
            let words = || Words { words: vec!["word".to_owned(); count], count: count as u32 };
            let packet = Packet::seal(words()).unwrap();
            assert!(packet.body().1.len() <= INLINE);
            assert_eq!(packet.open::<Words>(1 << 20).unwrap(), words());
            let refused = Packet::seal(words()).unwrap().open::<Words>(10).unwrap_err();
            assert!(matches!(refused, HostError::Refused(_)), "{refused:?}");
        }
    }

    #[test]
    fn fields_may_be_missing_or_unknown() {
        let open =
            |text: &str| Packet::of(text.to_owned(), Descriptors::default()).unwrap().open::<Words>(1000);
        assert_eq!(open("{\"count\": 1, \"later\": [1, {}]}").unwrap().count, 1);
        for bad in ["", "x", "{\"count\": -1}", "{\"count\"", "{} {}"] {
            assert!(matches!(open(bad), Err(HostError::Refused(_))), "{bad}");
        }
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        for version in [0, VERSION + 1] {
            let packet = Packet { version, text: "x".to_owned(), descriptors: Descriptors::default() };
            assert!(matches!(packet.open::<Words>(1000), Err(HostError::Version(_))));
        }
    }

    #[test]
    fn a_queue_has_more_than_a_message_carries() {
        let named = || (0..40).map(|n| (format!("d{n}"), file())).collect::<Vec<_>>();
        let mut all = Descriptors::default();
        all.pack("queue", named()).unwrap();
        all.unpack("queue", 64).unwrap();
        for n in 0..40 {
            all.take(&format!("d{n}")).unwrap();
        }
        all.end().unwrap();
        let bad = |fd: OwnedFd| Descriptors::of([("queue", fd), ("d1", file())]).unpack("queue", 64);
        // No queue; one that has no end; one with more than may be; one of a name that is there.
        assert!(bad(file()).is_err() && bad(seqpacket::pair().unwrap().0).is_err());
        let mut many = Descriptors::default();
        many.pack("queue", named()).unwrap();
        assert!(many.unpack("queue", 39).is_err());
        let mut twice = Descriptors::of([("d1", file())]);
        twice.pack("queue", named()).unwrap();
        assert!(twice.unpack("queue", 64).is_err());
        Descriptors::default().unpack("queue", 1).unwrap();
    }

    #[test]
    fn descriptors_come_by_name_and_only_where_they_are_of_use() {
        let packet = |name| Packet::of("{}".to_owned(), Descriptors::of([(name, file())])).unwrap();
        let mut content: WithFile = packet("a").open(1000).unwrap();
        assert!(content.descriptors.take("b").is_err());
        content.descriptors.take("a").unwrap();
        assert!(content.descriptors.take("a").is_err() && content.descriptors.end().is_ok());
        assert!(packet("a").open::<Words>(1000).is_err());
        // A file that could change while it is read.
        let pipe = rustix::pipe::pipe().unwrap().0;
        let packet = Packet::of("{}".to_owned(), Descriptors::of([(BODY, pipe)])).unwrap();
        assert!(packet.open::<Words>(1000).is_err());
    }
}
