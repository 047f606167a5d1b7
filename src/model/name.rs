//! Names that users choose, and the identifiers that nagaya makes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("'{0}' is longer than 63 characters")]
    TooLong(String),
    #[error("'{0}' may hold only a-z, 0-9 and '-'")]
    BadCharacter(String),
    #[error("'{0}' may not start or end with '-'")]
    EdgeHyphen(String),
    #[error("'{0}' may not be digits only")]
    DigitsOnly(String),
}

/// A container's name: an RFC 1123 label in lower case, for it becomes a host name. Digits only is refused:
/// some resolvers would read such a name as an address, and users as a pid.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks `text` against RFC 1123: 1 to 63 of `[a-z0-9-]`, no hyphen at either edge.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 63 {
            return Err(NameError::TooLong(text.to_owned()));
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(NameError::BadCharacter(text.to_owned()));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::EdgeHyphen(text.to_owned()));
        }
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NameError::DigitsOnly(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

/// A container's identity: 8 hexadecimal digits drawn once, never shown to be typed. Directories,
/// cgroups and the host ends of links are named after it, so a rename moves nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A string that is not 8 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a container id (8 hexadecimal digits)")]
pub struct IdError(String);

impl ContainerId {
    /// Reads an id. Errors: `text` is not 8 hexadecimal digits in lower case.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let good = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(IdError(text.to_owned())) }
    }

    /// The id that is this number.
    pub fn from_random(bits: u32) -> Self {
        Self(format!("{bits:08x}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as the number that it is.
    pub fn number(&self) -> u32 {
        u32::from_str_radix(&self.0, 16).unwrap_or_default()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_rfc_1123() {
        for good in ["a", "web01", "a-b", "0a", &"x".repeat(63)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "a/b", "..", "a\n", "12", "ä", &"x".repeat(64)]
        {
            assert!(Name::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ids_are_eight_hex_digits() {
        assert_eq!(ContainerId::from_random(0xab).as_str(), "000000ab");
        for bad in ["", "000000a", "000000abc", "000000aG", "../../..", "000000AB"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
