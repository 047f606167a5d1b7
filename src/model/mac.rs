//! Ethernet addresses.

use serde::{Deserialize, Serialize};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A string that is not six bytes as `02:00:00:00:00:00` in lower case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address (02:00:00:00:00:00, lower case)")]
pub struct MacError(pub String);

impl std::str::FromStr for Mac {
    type Err = MacError;

    /// Reads back what `Display` writes and nothing else.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let bad = || MacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts.next().and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(bad)?;
        }
        let mac = Self(bytes);
        if mac.to_string() == text { Ok(mac) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl Mac {
    /// A guest's address: locally administered unicast, from 5 random bytes.
    pub fn guest(random: [u8; 5]) -> Self {
        let [a, b, c, d, e] = random;
        Self([0x02, a, b, c, d, e])
    }

    /// The host end of a guest's link. It begins with fe, the highest locally administered unicast
    /// prefix, for a bridge takes over the lowest address among its ports.
    pub fn host_end(self) -> Self {
        let mut bytes = self.0;
        bytes[0] = 0xfe;
        Self(bytes)
    }

    /// Whether one machine may have it: neither a group's nor all zeros.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The link-local address that an interface with this address makes itself (RFC 4291, appendix
    /// A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_read_back_as_they_are_written() {
        let mac = Mac([2, 0, 0x1f, 0xff, 7, 9]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        let long = "02:00:00:00:00:00:00";
        for bad in [
            "",
            "2:0:0:0:0:0",
            "02:00:00:00:00",
            long,
            "02:00:00:00:00:0G",
            "02:00:00:00:00:FF",
            "+2:00:00:00:00:00",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn macs_are_unicast_and_local() {
        let mac = Mac::guest([1, 2, 3, 4, 255]);
        assert_eq!(mac.to_string(), "02:01:02:03:04:ff");
        assert_eq!(mac.host_end().to_string(), "fe:01:02:03:04:ff");
        assert!(mac.is_unicast() && !Mac([0xff; 6]).is_unicast() && !Mac([0; 6]).is_unicast());
        assert_eq!(mac.link_local().to_string(), "fe80::1:2ff:fe03:4ff");
    }
}
