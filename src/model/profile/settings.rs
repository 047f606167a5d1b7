//! A profile.

use serde::{Deserialize, Serialize};

use super::ProfileName;
use crate::model::config::Config;
use crate::model::device::Device;
use crate::model::keys::{KeyError, is_unprintable};

/// Most bytes of a profile's description.
pub const MAX_DESCRIPTION: usize = 1024;

/// Settings under a name. A profile holds no profiles, so none can contain itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub name: ProfileName,
    /// A line for people.
    #[serde(default)]
    pub description: String,
    #[serde(flatten)]
    pub spec: ProfileSpec,
}

/// What a profile gives to the containers that use it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSpec {
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
    /// Those besides interfaces, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
}

impl Profile {
    pub fn new(name: ProfileName) -> Self {
        Self { name, description: String::new(), spec: ProfileSpec::default() }
    }

    /// Its keys with their values.
    pub fn config(&self) -> &Config {
        &self.spec.config
    }

    /// Its devices, which containers that use it have.
    pub fn devices(&self) -> &[Device] {
        &self.spec.devices
    }

    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices().iter().find(|device| device.name == name)
    }

    /// How long all is that it says, in bytes.
    pub fn bytes(&self) -> usize {
        let of_pair = |(key, value): (String, String)| key.len() + value.len();
        let of_device =
            |device: &Device| device.name.len() + device.config().into_iter().map(of_pair).sum::<usize>();
        self.config().bytes() + self.devices().iter().map(of_device).sum::<usize>()
    }
}

/// Refuses a description that is no line.
pub fn check_description(text: &str) -> Result<(), KeyError> {
    match text.len() <= MAX_DESCRIPTION && !text.chars().any(is_unprintable) {
        true => Ok(()),
        false => Err(KeyError::wrong("description", text, "one line of at most 1,024 bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_a_line() {
        assert!(check_description("Gold: 2 GiB, 'fast'").is_ok());
        assert!(check_description("a\nb").is_err() && check_description(&"x".repeat(1025)).is_err());
    }

    #[test]
    fn what_is_missing_has_a_default_and_what_is_not_known_is_left_out() {
        let read: Profile = serde_json::from_str(r#"{"name":"gold","news":{"a":1}}"#).unwrap();
        assert_eq!(read, Profile::new(ProfileName::new("gold").unwrap()));
        let text =
            r#"{"name":"gold","devices":[{"name":"a","type":"disk","source":"/a","path":"/b","news":1}]}"#;
        let read: Profile = serde_json::from_str(text).unwrap();
        assert_eq!(read.device("a").unwrap().line(), "disk path=/b source=/a");
        let toml = toml::to_string(&read).unwrap();
        assert_eq!(toml::from_str::<Profile>(&toml).unwrap(), read);
        assert_eq!(read.bytes(), "a".len() + "path/bsource/a".len());
    }
}
