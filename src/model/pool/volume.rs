//! A volume: a directory in a pool that containers have as a disk, and that outlives them.

use serde::{Deserialize, Serialize};

use super::{PoolName, VolumeName};
use crate::model::config::value::size_text;
use crate::model::device::{INODES, SIZE, inodes, quota_size};
use crate::model::keys::{Key, KeyError, Live, Subject, Table};
use crate::model::profile::check_description;

/// Volumes that an owner may have in a pool.
pub const MOST_VOLUMES: usize = 4096;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub pool: PoolName,
    pub name: VolumeName,
    #[serde(flatten)]
    pub settings: VolumeSettings,
    /// Seconds since 1970.
    pub created_at: i64,
}

/// What can be changed of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSettings {
    /// Most bytes; None: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Most files, directories and links; None: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
    /// A line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// How a key is set, and read; None where it has the default.
#[derive(Clone, Copy)]
pub struct Field {
    set: fn(&mut VolumeSettings, &str) -> Option<()>,
    get: fn(&VolumeSettings) -> Option<String>,
}

impl Subject for VolumeSettings {
    type Draft = Self;
    type Sets = Field;
    const EMPTY_RESETS: bool = false;

    fn put(key: &Key<Self>, settings: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        (key.sets.set)(settings, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

pub const VOLUME_KEYS: Table<VolumeSettings> =
    Table { what: "volume", listed_by: "nagaya storage volume keys", keys: KEYS, absent: &[] };

const KEYS: &[Key<VolumeSettings>] = &[
    Key::new(
        "size",
        SIZE,
        "",
        Live::Now,
        "Bytes that it may take of the disk, such as 10GiB",
        Field {
            set: |settings, text| {
                settings.size = Some(quota_size(text)?);
                Some(())
            },
            get: |settings| settings.size.map(|bytes| size_text(bytes).replace(' ', "")),
        },
    ),
    Key::new(
        "inodes",
        INODES,
        "",
        Live::Now,
        "How many files, directories and links may be in it",
        Field {
            set: |settings, text| {
                settings.inodes = Some(inodes(text)?);
                Some(())
            },
            get: |settings| settings.inodes.map(|n| n.to_string()),
        },
    )
    .ours(),
];

impl VolumeSettings {
    /// The same with other keys; those of `unset` have their defaults. Errors: the key that cannot be so.
    pub fn changed(&self, pairs: &[(String, String)], unset: &[String]) -> Result<Self, KeyError> {
        let mut settings = Self { description: self.description.clone(), ..Self::default() };
        for key in unset {
            VOLUME_KEYS.known(key)?;
        }
        let kept = self.config().filter(|(key, _)| !unset.iter().any(|gone| gone == key));
        for (key, value) in kept.collect::<Vec<_>>() {
            VOLUME_KEYS.set(&mut settings, key, &value)?;
        }
        for (key, value) in pairs {
            VOLUME_KEYS.set(&mut settings, key, value)?;
        }
        Ok(settings)
    }

    /// Its keys that are set.
    pub fn config(&self) -> impl Iterator<Item = (&'static str, String)> {
        VOLUME_KEYS.keys.iter().filter_map(|key| Some((key.name, (key.sets.get)(self)?)))
    }

    /// # Errors
    /// A part that cannot be so.
    pub fn check(&self) -> Result<(), KeyError> {
        check_description(&self.description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_changed_and_taken_back() {
        let pairs = |all: &[(&str, &str)]| {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let plain = VolumeSettings { description: "mail".to_owned(), ..VolumeSettings::default() };
        let sized = plain.changed(&pairs(&[("size", "10GiB"), ("inodes", "1000")]), &[]).unwrap();
        assert_eq!(
            (sized.size, sized.inodes, sized.description.as_str()),
            (Some(10 << 30), Some(1000), "mail")
        );
        assert_eq!(sized.config().collect::<Vec<_>>()[0], ("size", "10GiB".to_owned()));
        let back = sized.changed(&[], &["size".to_owned(), "inodes".to_owned()]).unwrap();
        assert_eq!(back, plain);
        assert!(plain.changed(&pairs(&[("siz", "1GiB")]), &[]).is_err());
        assert!(plain.changed(&pairs(&[("size", "1")]), &[]).is_err());
        assert!(plain.changed(&[], &["siz".to_owned()]).is_err());
    }
}
