//! A container's configuration: keys and values as users type them, under the names that LXD's
//! users know. Whatever is in a `Config` has been checked; what the host makes of it, `limits`
//! works out.

mod keys;
mod lxd;
pub mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use keys::{KEYS, Key, Live, find, rlimit_of};

use super::suggest;

/// Most bytes of all keys and values together: the programs that are run in a guest are told of
/// its variables in one message.
pub const MAX_BYTES: usize = 32 * 1024;

/// Why a key or a value cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no configuration key '{key}'")]
    Unknown { key: String, nearest: Option<String> },
    #[error("'{key}' is a key of LXD's that nagaya does not have")]
    Foreign { key: String },
    #[error("{key} cannot be '{value}': it must be {rule}")]
    Value { key: String, value: String, rule: String },
    #[error("'{key}' cannot be set: {reason}")]
    Key { key: String, reason: &'static str },
    #[error("{key} is not set")]
    NotSet { key: String },
    #[error("the configuration would be longer than {} KiB", MAX_BYTES / 1024)]
    TooLong,
}

/// Keys and values, each of which has been checked on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Config(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for Config {
    type Error = ConfigError;

    fn try_from(pairs: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(&key, &value)?;
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
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (key, value) in pairs {
            config.set(key, value)?;
        }
        Ok(config)
    }

    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        check(key, value)?;
        self.0.insert(key.to_owned(), value.to_owned());
        let bytes: usize = self.0.iter().map(|(k, v)| k.len() + v.len()).sum();
        if bytes > MAX_BYTES { Err(ConfigError::TooLong) } else { Ok(()) }
    }

    pub fn unset(&mut self, key: &str) -> Result<(), ConfigError> {
        known(key)?;
        self.0.remove(key).map(drop).ok_or_else(|| ConfigError::NotSet { key: key.to_owned() })
    }

    /// What was set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// What holds: what was set or the key's default, which is empty where there is none.
    pub fn effective(&self, key: &str) -> Result<&str, ConfigError> {
        let known = known(key)?;
        Ok(self.get(key).unwrap_or(known.default))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
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

/// The entry of the table for `key`.
pub fn known(key: &str) -> Result<&'static Key, ConfigError> {
    if let Some(found) = find(key) {
        return Ok(found);
    }
    if lxd::has(key) {
        return Err(ConfigError::Foreign { key: key.to_owned() });
    }
    let names = KEYS.iter().map(|k| k.name).chain(lxd::names());
    let nearest = suggest::nearest(key, names).map(str::to_owned);
    Err(ConfigError::Unknown { key: key.to_owned(), nearest })
}

/// Whether `key` may have `value`.
fn check(key: &str, value: &str) -> Result<(), ConfigError> {
    let entry = known(key)?;
    let refused = |reason| ConfigError::Key { key: key.to_owned(), reason };
    let wrong = |rule: String| ConfigError::Value { key: key.to_owned(), value: value.to_owned(), rule };
    if let Some(rest) = entry.name.strip_suffix('*').and_then(|prefix| key.strip_prefix(prefix)) {
        keys::check_rest(entry, rest).map_err(refused)?;
    }
    if value.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(wrong("without control characters".to_owned()));
    }
    entry.kind.check(value).map_err(|rule| wrong(rule.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(config.unset("user.owner"), Err(ConfigError::NotSet { key: "user.owner".into() }));
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
        assert_eq!(
            Config::of([("limits.memry", "1GiB")]).unwrap_err(),
            ConfigError::Unknown { key: "limits.memry".into(), nearest: Some("limits.memory".into()) }
        );
        for key in
            ["security.privileged", "raw.lxc", "limits.hugepages.2MB", "linux.sysctl.net.ipv4.ip_forward"]
        {
            assert_eq!(known(key), Err(ConfigError::Foreign { key: key.into() }), "{key}");
        }
        assert!(matches!(known(""), Err(ConfigError::Unknown { nearest: None, .. })));
        assert!(matches!(known("limits.kernel.nofiles"), Err(ConfigError::Unknown { .. })));
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
        assert_eq!(config.set("user.3", &long), Err(ConfigError::TooLong));
    }

    #[test]
    fn reading_checks_what_setting_checks() {
        assert!(serde_json::from_str::<Config>(r#"{"limits.memory":"1GiB"}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"limits.memory":"0"}"#).is_err());
        assert!(serde_json::from_str::<Config>(r#"{"raw.lxc":"x"}"#).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(key in "\\PC{0,40}", value in any::<String>()) {
            let _ = Config::of([(key.as_str(), value.as_str())]);
        }

        #[test]
        fn every_key_takes_or_refuses_any_value(at in 0..KEYS.len(), value in "[0-9a-zA-Z%/:,.-]{0,12}") {
            let key = KEYS[at].name.replace('*', "x");
            if let Ok(config) = Config::of([(key.as_str(), value.as_str())]) {
                let text = serde_json::to_string(&config).unwrap();
                prop_assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
            }
        }
    }
}
