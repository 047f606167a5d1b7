//! A container's configuration: keys and values as users type them, under the names that LXD's
//! users know. Whatever is in a `Config` has been checked; what the host makes of it, `limits`
//! works out.

mod keys;
mod kinds;
pub mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use keys::{CONFIG_KEYS, rlimit_of};

use super::keys::{KeyError, KeyFault, is_unprintable};

/// Most bytes of all keys and values together: the programs that are run in a guest are told of
/// its variables in one message.
pub const MAX_BYTES: usize = 32 * 1024;

/// Keys and values, each of which has been checked on its own. What was stored by a later version may have
/// keys that this one does not know: they are kept, and nothing is made of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Config(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Config {
    type Error = KeyError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, KeyError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            match is_strange(&key, &value) {
                true => config.put(&key, &value)?,
                false => config.set(&key, &value)?,
            }
        }
        Ok(config)
    }
}

impl From<Config> for BTreeMap<String, String> {
    fn from(config: Config) -> Self {
        config.0
    }
}

impl Config {
    /// The configuration with all of `pairs`.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, KeyError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(key, value)?;
        }
        Ok(config)
    }

    /// Sets a key. Errors: the key or the value cannot be, or all together would be longer than
    /// [`MAX_BYTES`].
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        CONFIG_KEYS.set(&mut self.0, key, value)?;
        self.check_length()
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        self.0.insert(key.to_owned(), value.to_owned());
        self.check_length()
    }

    /// What `layers` say together; of two with the same key the later one counts. Whether it is too long is for the
    /// caller to ask.
    pub fn merged<'a>(layers: impl IntoIterator<Item = &'a Self>) -> Self {
        let pairs = layers.into_iter().flat_map(|layer| &layer.0);
        Self(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// All keys and values together.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    fn check_length(&self) -> Result<(), KeyError> {
        match self.bytes() > MAX_BYTES {
            true => Err(KeyFault::TooLong { what: CONFIG_KEYS.what, kib: MAX_BYTES / 1024 }.into()),
            false => Ok(()),
        }
    }

    /// Takes a key back to its default. Errors: there is no such key, or it was not set.
    pub fn unset(&mut self, key: &str) -> Result<(), KeyError> {
        if !self.0.contains_key(key) {
            CONFIG_KEYS.known(key)?;
        }
        self.0.remove(key).map(drop).ok_or_else(|| KeyError::not_set(key))
    }

    /// What was set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// What holds: what was set or the key's default, which is empty where there is none.
    pub fn effective(&self, key: &str) -> Result<&str, KeyError> {
        let known = CONFIG_KEYS.known(key)?;
        Ok(self.get(key).unwrap_or(known.default))
    }

    /// Whether no key was set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Keys that this version does not know.
    pub fn strangers(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|key| CONFIG_KEYS.find(key).is_none())
    }

    /// Only those.
    pub fn of_strangers(&self) -> Self {
        let strange = |(key, _): &(&String, &String)| CONFIG_KEYS.find(key).is_none();
        Self(self.0.iter().filter(strange).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// All but those.
    pub fn without_strangers(&self) -> Self {
        let known = |(key, _): &(&String, &String)| CONFIG_KEYS.find(key).is_some();
        Self(self.0.iter().filter(known).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    /// Variables for the guest's init and for programs that are run in the guest.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|(key, value)| Some((key.strip_prefix("environment.")?, value)))
    }

    /// Keys that do not have the same value in both.
    pub fn changed<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let gone = other.0.keys().filter(|key| !self.0.contains_key(*key));
        let mut keys: Vec<&str> = self
            .0
            .iter()
            .filter(|(key, value)| other.0.get(*key) != Some(*value))
            .map(|(key, _)| key)
            .chain(gone)
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        keys
    }
}

/// Whether it may be a key of a later version's with its value.
fn is_strange(key: &str, value: &str) -> bool {
    let bounded = (1..=128).contains(&key.len()) && !key.chars().chain(value.chars()).any(is_unprintable);
    bounded && CONFIG_KEYS.find(key).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fault::Fault;
    use proptest::prelude::*;

    fn refusal(key: &str, value: &str) -> String {
        Config::of([(key, value)]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_set_is_kept_and_the_rest_has_defaults() {
        let mut config = Config::of([("limits.memory", "512MiB"), ("user.owner", "ann")]).unwrap();
        assert_eq!(config.get("limits.memory"), Some("512MiB"));
        assert_eq!(config.effective("limits.memory.enforce"), Ok("hard"));
        assert_eq!(config.effective("limits.cpu"), Ok(""));
        assert_eq!(config.effective("user.other"), Ok(""));
        config.unset("user.owner").unwrap();
        assert_eq!(config.unset("user.owner"), Err(KeyError::not_set("user.owner")));
        assert_eq!(config.iter().collect::<Vec<_>>(), [("limits.memory", "512MiB")]);
    }

    #[test]
    fn changes_are_found_in_both_directions() {
        let old = Config::of([("limits.memory", "1GiB"), ("limits.cpu", "1"), ("user.a", "x")]).unwrap();
        let new = Config::of([("limits.memory", "2GiB"), ("user.a", "x"), ("user.b", "y")]).unwrap();
        assert_eq!(new.changed(&old), ["limits.cpu", "limits.memory", "user.b"]);
        assert_eq!(old.changed(&old), Vec::<&str>::new());
    }

    #[test]
    fn strangers_are_told_apart() {
        let typo = Config::of([("limits.memry", "1GiB")]).unwrap_err();
        assert_eq!(typo.to_string(), "there is no configuration key 'limits.memry'");
        assert_eq!(typo.facts().hint.unwrap(), "did you mean 'limits.memory'?");
        for key in
            ["security.privileged", "raw.lxc", "limits.memory.hugepages", "linux.sysctl.net.ipv4.ip_forward"]
        {
            let fault = CONFIG_KEYS.known(key).err().unwrap().fault;
            assert!(matches!(fault, KeyFault::Absent { .. }), "{fault}");
        }
        for key in ["", "limits.kernel.nofiles"] {
            let fault = CONFIG_KEYS.known(key).err().unwrap().fault;
            assert!(matches!(fault, KeyFault::Unknown { .. }), "{fault}");
        }
    }

    #[test]
    fn refusals_name_key_value_and_rule() {
        assert_eq!(
            refusal("limits.memory", "512M"),
            "limits.memory cannot be '512M': it must be a number of bytes with a unit (B, kB, MB, GB, TB; KiB, \
             MiB, GiB, TiB), or percent of the host's memory ('50%')"
        );
        assert!(refusal("limits.cpu.priority", "11").ends_with("a number from 0 to 10"));
        assert!(refusal("boot.autostart", "maybe").ends_with("true or false"));
        assert!(refusal("user.note", "a\nb").contains("control characters"));
        assert!(refusal("user.note", "a\u{2028}b").contains("control characters"));
        assert!(refusal("environment.1A", "x").contains("a variable's name"));
        assert!(refusal("environment.container", "x").contains("nagaya's own"));
        assert!(refusal("user.", "x").contains("a name after the dot"));
        assert!(refusal("user.a b", "x").contains("letters"));
    }

    #[test]
    fn the_whole_is_bounded() {
        let mut config = Config::default();
        let long = "x".repeat(10 * 1024);
        for n in 0..3 {
            config.set(&format!("user.{n}"), &long).unwrap();
        }
        assert_eq!(
            config.set("user.3", &long).unwrap_err().to_string(),
            "the configuration would be longer than 32 KiB"
        );
    }

    #[test]
    fn reading_checks_what_setting_checks() {
        assert!(serde_json::from_str::<Config>(r#"{"limits.memory":"1GiB"}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"limits.memory":"0"}"#).is_err());
        assert!(Config::of([("raw.lxc", "x")]).is_err());
    }

    /// It may have been stored by a later version.
    #[test]
    fn a_stored_key_that_is_not_known_is_kept_and_can_be_taken_away() {
        let text = r#"{"limits.memory":"1GiB","limits.news":"1"}"#;
        let mut config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert_eq!(config.strangers().collect::<Vec<_>>(), ["limits.news"]);
        assert!(config.set("limits.news", "2").is_err());
        config.set("limits.memory", "2GiB").unwrap();
        assert_eq!(config.get("limits.news"), Some("1"));
        config.unset("limits.news").unwrap();
        let fault = config.unset("limits.news").unwrap_err().fault;
        assert!(matches!(fault, KeyFault::Unknown { .. }), "{fault}");
        for bad in [r#"{"":"x"}"#, r#"{"a\u0007":"x"}"#, r#"{"a":"x\u0007"}"#] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
        let long = format!(r#"{{"{}":"x"}}"#, "a".repeat(129));
        assert!(serde_json::from_str::<Config>(&long).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(key in "\\PC{0,40}", value in any::<String>()) {
            let _ = Config::of([(key.as_str(), value.as_str())]);
        }

        #[test]
        fn every_key_takes_or_refuses_any_value(at in 0..CONFIG_KEYS.keys.len(), value in "[0-9a-zA-Z%/:,.-]{0,12}") {
            let key = CONFIG_KEYS.keys[at].name.replace('*', "x");
            if let Ok(config) = Config::of([(key.as_str(), value.as_str())]) {
                let text = serde_json::to_string(&config).unwrap();
                prop_assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
            }
        }
    }
}
