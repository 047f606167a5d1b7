//! Names of profiles.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is not a profile's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot name a profile")]
pub struct ProfileNameError(String);

impl ProfileNameError {
    /// What such a name is made of.
    pub const RULE: &'static str = "1 to 63 of a-z, A-Z, 0-9 and '._-', a letter or digit first";
}

/// A profile's name. It stands in lists with commas and in tables of files, so it holds neither commas nor
/// white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProfileName(String);

impl ProfileName {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, ProfileNameError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        match first && text.len() <= 63 && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(ProfileNameError(text.to_owned())),
        }
    }

    /// That of the profile which is always there, and which new containers use unless others are named.
    pub fn default_one() -> Self {
        Self("default".to_owned())
    }

    /// Whether it is that one's.
    pub fn is_default_one(&self) -> bool {
        self.0 == "default"
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProfileName {
    type Error = ProfileNameError;

    fn try_from(text: String) -> Result<Self, ProfileNameError> {
        Self::new(&text)
    }
}

impl From<ProfileName> for String {
    fn from(name: ProfileName) -> String {
        name.0
    }
}

impl std::str::FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, ProfileNameError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_lists_and_files() {
        for good in ["default", "Gold.2", "a_b-c", "0"] {
            assert_eq!(ProfileName::new(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", ".a", "a,b", "a b", "a/b", "ü", "a\n", long.as_str()] {
            assert!(ProfileName::new(bad).is_err(), "{bad}");
        }
    }
}
