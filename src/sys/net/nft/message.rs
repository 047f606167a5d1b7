//! Netlink messages as bytes: attributes are written into one buffer and read from what the kernel
//! answers. Layouts as in linux/netlink.h and linux/netfilter/nfnetlink.h.

use std::io;

use super::uapi;

pub const HEADER: usize = 16;
/// Header of the message and of nfnetlink.
pub const HEADERS: usize = HEADER + 4;
pub const NLMSG_ERROR: u16 = 2;
pub const NLMSG_DONE: u16 = 3;
/// The high byte of the kinds of nftables' messages.
pub const SUBSYSTEM: u16 = uapi::NFNL_SUBSYS_NFTABLES << 8;
pub const REQUEST: u16 = 1;
pub const ACK: u16 = 4;
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
/// Of a dump during which something changed.
pub const INTERRUPTED: u16 = 0x10;
const NESTED: u16 = 0x8000;
/// Without the bits that say "nested" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;

/// Messages one behind the other.
#[derive(Debug, Default)]
pub struct Buffer {
    pub bytes: Vec<u8>,
    /// An attribute was longer than its length can say; such a buffer is not to be sent.
    pub overflown: bool,
}

impl Buffer {
    /// A message of `kind`, with the attributes that `body` writes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(self);
        let length = self.bytes.len() - start;
        match u32::try_from(length) {
            Ok(length) => self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflown = true,
        }
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.headed(kind, |buffer| buffer.bytes.extend(value));
    }

    /// A string with its closing NUL.
    pub fn string(&mut self, kind: u16, text: &str) {
        self.headed(kind, |buffer| {
            buffer.bytes.extend(text.as_bytes());
            buffer.bytes.push(0);
        });
    }

    pub fn u32(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn u64(&mut self, kind: u16, value: u64) {
        self.attribute(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.headed(kind | NESTED, body);
    }

    fn headed(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        body(self);
        match u16::try_from(self.bytes.len() - start) {
            Ok(length) => self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes()),
            Err(_) => self.overflown = true,
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message that the kernel sent.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// All behind the first header.
    pub body: &'a [u8],
}

impl<'a> Received<'a> {
    /// The attributes behind the header of nfnetlink.
    pub fn attributes(&self) -> io::Result<Attributes<'a>> {
        Ok(Attributes(self.body.get(HEADERS - HEADER..).ok_or_else(cut_short)?))
    }

    /// The number of the family in the header of nfnetlink.
    pub fn family(&self) -> io::Result<u8> {
        self.body.first().copied().ok_or_else(cut_short)
    }

    /// The errno of an error message; 0 is an acknowledgement.
    pub fn errno(&self) -> io::Result<i32> {
        let four = self.body.first_chunk::<4>().ok_or_else(cut_short)?;
        Ok(i32::from_ne_bytes(*four).wrapping_neg())
    }
}

/// Calls `each` with every message in `bytes` until it says that it has enough.
pub fn read_all(bytes: &[u8], mut each: impl FnMut(Received<'_>) -> io::Result<bool>) -> io::Result<bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let header = rest.first_chunk::<HEADER>().ok_or_else(cut_short)?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = u32_at(0) as usize;
        let body = rest.get(HEADER..length).ok_or_else(cut_short)?;
        let received = Received { kind: u16_at(4), flags: u16_at(6), sequence: u32_at(8), body };
        if each(received)? {
            return Ok(true);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Attributes one behind the other: their kinds and values.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = io::Result<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = self.0;
        let read = || -> Option<(usize, u16, &'a [u8])> {
            let header = rest.first_chunk::<4>()?;
            let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
            let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
            Some((length, kind, rest.get(4..length)?))
        };
        match read() {
            Some((length, kind, value)) => {
                self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                Some(Ok((kind, value)))
            }
            None => {
                self.0 = &[];
                Some(Err(cut_short()))
            }
        }
    }
}

impl<'a> Attributes<'a> {
    /// The first of this kind.
    pub fn find(self, kind: u16) -> io::Result<Option<&'a [u8]>> {
        for attribute in self {
            let (found, value) = attribute?;
            if found == kind {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Attributes in the first of this kind.
    pub fn within(self, kind: u16) -> io::Result<Option<Attributes<'a>>> {
        Ok(self.find(kind)?.map(Attributes))
    }

    pub fn text(self, kind: u16) -> io::Result<Option<String>> {
        let value = self.find(kind)?;
        Ok(value.map(|bytes| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        }))
    }

    pub fn number(self, kind: u16) -> io::Result<Option<u64>> {
        let value = self.find(kind)?;
        Ok(value.map(|bytes| bytes.iter().take(8).fold(0, |n, byte| n << 8 | u64::from(*byte))))
    }
}

/// As nft calls the families (NFPROTO_* of linux/netfilter.h).
pub fn family_name(number: u8) -> &'static str {
    match number {
        uapi::NFPROTO_INET => "inet",
        uapi::NFPROTO_IPV4 => "ip",
        uapi::NFPROTO_ARP => "arp",
        uapi::NFPROTO_NETDEV => "netdev",
        uapi::NFPROTO_BRIDGE => "bridge",
        uapi::NFPROTO_IPV6 => "ip6",
        _ => "other",
    }
}

pub fn cut_short() -> io::Error {
    malformed("an answer that is cut short")
}

pub fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut buffer = Buffer::default();
        buffer.message(7, 4, 3, 1, 10, |m| {
            m.string(1, "name");
            m.nest(2, |m| m.u32(1, 5));
            m.u64(3, 1 << 40);
        });
        buffer.message(8, 0, 4, 1, 0, |_| {});
        let mut kinds = Vec::new();
        let done = read_all(&buffer.bytes, |message| {
            kinds.push((message.kind, message.flags, message.sequence));
            if message.kind == 7 {
                let attributes = message.attributes()?;
                assert_eq!(attributes.text(1)?.as_deref(), Some("name"));
                assert_eq!(attributes.within(2)?.unwrap().number(1)?, Some(5));
                assert_eq!(attributes.number(3)?, Some(1 << 40));
                assert_eq!(attributes.find(4)?, None);
            }
            Ok(false)
        });
        assert!(!done.unwrap() && kinds == [(7, 5, 3), (8, 1, 4)]);
    }

    #[test]
    fn what_is_damaged_is_an_error_and_what_is_too_long_is_noticed() {
        let mut buffer = Buffer::default();
        buffer.message(7, 0, 0, 1, 0, |m| m.string(1, "a longer name"));
        for cut in 1..buffer.bytes.len() {
            assert!(read_all(&buffer.bytes[..cut], |_| Ok(false)).is_err(), "{cut}");
        }
        for length in [0u16, 3, 200] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([1, 0, 9, 9, 9, 9]);
            assert!(Attributes(&bytes).find(5).is_err(), "{length}");
        }
        buffer.message(7, 0, 0, 1, 0, |m| m.attribute(1, &vec![0; 70_000]));
        assert!(buffer.overflown);
    }
}
