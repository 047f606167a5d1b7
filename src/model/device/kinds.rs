//! A device of whatever kind, as it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Disk, DiskSource, ProxyEnds, ROOT_DEVICE, UnixChar};
use crate::model::field::FieldError;
use crate::model::keys::{KeyError, KeyFault};
use crate::model::nic::{Nic, is_device_name};

/// Devices besides interfaces that a container may have at most.
const MOST_DEVICES: usize = 16;

/// The types of device that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceType {
    #[default]
    Nic,
    Disk,
    UnixChar,
    /// A forward of the firewall's, and stored there.
    Proxy,
    /// None, in place of the one of that name that a profile has.
    None,
}

impl DeviceType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nic => "nic",
            Self::Disk => "disk",
            Self::UnixChar => "unix-char",
            Self::Proxy => "proxy",
            Self::None => "none",
        }
    }

    /// As it is typed.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Nic, Self::Disk, Self::UnixChar, Self::Proxy, Self::None];
        all.into_iter().find(|known| known.as_str() == text)
    }
}

/// A device besides interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// By which the operator speaks of it.
    pub name: String,
    #[serde(flatten)]
    pub kind: DeviceKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum DeviceKind {
    Disk(Disk),
    UnixChar(UnixChar),
    /// Of a profile alone: a container's own is a forward in the firewall's policy.
    Proxy(ProxyEnds),
    /// The container does not have the device of that name that a profile has.
    None {},
}

impl Device {
    /// From its keys.
    ///
    /// # Errors
    /// The name or the key that cannot be so, and what it must be.
    pub fn of(
        name: &str,
        device_type: DeviceType,
        pairs: &BTreeMap<String, String>,
    ) -> Result<Self, KeyError> {
        if !is_device_name(name) {
            return Err(KeyError::wrong(
                "device",
                name,
                "1 to 32 of a-z, 0-9, '-', '_' and '.', a letter first",
            ));
        }
        let is_disk = device_type == DeviceType::Disk;
        let is_root =
            is_disk && name == ROOT_DEVICE && !pairs.contains_key("source") && !pairs.contains_key("path");
        let path = Some(("path", "/")).filter(|_| is_root);
        let pairs = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).chain(path);
        let kind = match device_type {
            DeviceType::Disk => DeviceKind::Disk(Disk::of(pairs)?),
            DeviceType::UnixChar => DeviceKind::UnixChar(UnixChar::of(pairs)?),
            DeviceType::Proxy => DeviceKind::Proxy(ProxyEnds::of(pairs)?),
            DeviceType::None => match pairs.into_iter().next() {
                None => DeviceKind::None {},
                Some((key, _)) => {
                    return Err(KeyError::not_for(key, "a device that there is: type none has no keys,"));
                }
            },
            DeviceType::Nic => {
                return Err(KeyError::wrong("type", "nic", "disk, unix-char, proxy or none"));
            }
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    pub fn device_type(&self) -> DeviceType {
        match &self.kind {
            DeviceKind::Disk(_) => DeviceType::Disk,
            DeviceKind::UnixChar(_) => DeviceType::UnixChar,
            DeviceKind::Proxy(_) => DeviceType::Proxy,
            DeviceKind::None {} => DeviceType::None,
        }
    }

    /// The keys that describe it, as they can be set.
    pub fn config(&self) -> BTreeMap<String, String> {
        let owned = |(key, value): (&str, String)| (key.to_owned(), value);
        match &self.kind {
            DeviceKind::Disk(disk) => disk.config().map(owned).collect(),
            DeviceKind::UnixChar(node) => node.config().map(owned).collect(),
            DeviceKind::Proxy(proxy) => proxy.config().map(owned).into(),
            DeviceKind::None {} => BTreeMap::new(),
        }
    }

    /// In one line: its type, and its keys with their values.
    pub fn line(&self) -> String {
        let pairs = self.config().into_iter().map(|(key, value)| format!(" {key}={value}"));
        format!("{}{}", self.device_type().as_str(), pairs.collect::<String>())
    }

    /// The same with some keys set and others back at their defaults.
    ///
    /// # Errors
    /// The key that cannot be so, or was not set.
    pub fn changed(&self, pairs: &[(String, String)], unset: &[String]) -> Result<Self, KeyError> {
        let mut wanted = self.config();
        for key in unset {
            if wanted.remove(key).is_none() && pairs.is_empty() {
                return Err(KeyFault::NotSet { key: key.clone() }.into());
            }
        }
        wanted.extend(pairs.iter().cloned());
        Self::of(&self.name, self.device_type(), &wanted)
    }

    /// Where it is in the guest; empty where there is none.
    pub fn path(&self) -> &str {
        match &self.kind {
            DeviceKind::Disk(disk) => &disk.path,
            DeviceKind::UnixChar(node) => &node.path,
            DeviceKind::Proxy(proxy) => &proxy.connect,
            DeviceKind::None {} => "",
        }
    }

    /// What of the host's it is; empty where there is none.
    pub fn source(&self) -> &str {
        match &self.kind {
            DeviceKind::Disk(disk) => &disk.source,
            DeviceKind::UnixChar(node) => &node.source,
            DeviceKind::Proxy(proxy) => &proxy.listen,
            DeviceKind::None {} => "",
        }
    }

    /// Whether there is one: type `none` is the lack of one.
    pub fn is_there(&self) -> bool {
        !matches!(self.kind, DeviceKind::None {})
    }

    /// Whether a guest has it as a mount: a directory or a node.
    pub fn is_mounted(&self) -> bool {
        self.has_path() && !self.is_root()
    }

    /// Whether it is at a path in the guest.
    pub fn has_path(&self) -> bool {
        matches!(self.kind, DeviceKind::Disk(_) | DeviceKind::UnixChar(_))
    }

    pub fn proxy(&self) -> Option<&ProxyEnds> {
        match &self.kind {
            DeviceKind::Proxy(proxy) => Some(proxy),
            _ => None,
        }
    }

    pub fn disk(&self) -> Option<&Disk> {
        match &self.kind {
            DeviceKind::Disk(disk) => Some(disk),
            _ => None,
        }
    }

    /// Whether it is the guest's root, of which it says how much it may take.
    pub fn is_root(&self) -> bool {
        self.disk().is_some_and(|disk| disk.source() == DiskSource::Root)
    }

    fn check(&self) -> Result<(), KeyError> {
        match &self.kind {
            DeviceKind::Disk(disk) => disk.check(),
            DeviceKind::UnixChar(node) => node.check(),
            DeviceKind::Proxy(proxy) => proxy.check(),
            DeviceKind::None {} => Ok(()),
        }
    }
}

/// A device as one of a container's settings.
pub fn device_key(device: &str) -> String {
    format!("devices.{device}")
}

/// The rules of all devices of one container, or of one profile.
pub fn check_all(devices: &[Device], nics: &[Nic]) -> Result<(), FieldError> {
    let rule = |good: bool, field, value: &dyn ToString, rule| {
        if good { Ok(()) } else { Err(FieldError { field, value: value.to_string(), rule }) }
    };
    rule(devices.len() <= MOST_DEVICES, "devices", &devices.len(), "a number of devices up to 16")?;
    for (n, device) in devices.iter().enumerate() {
        let before = &devices[..n];
        rule(is_device_name(&device.name), "device", &device.name, "a device's name")?;
        rule(device.check().is_ok(), "device", &device.name, "a device whose keys can be so")?;
        let is_new = before.iter().all(|other| other.name != device.name)
            && nics.iter().all(|nic| nic.device != device.name);
        rule(is_new, "device", &device.name, "another device's name")?;
        rule(
            !device.has_path()
                || before.iter().all(|other| !other.has_path() || other.path() != device.path()),
            "path",
            &device.path(),
            "another device's path",
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stored::tests::value_outlives;

    fn pairs(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn disk(name: &str, path: &str) -> Device {
        Device::of(name, DeviceType::Disk, &pairs(&[("source", "/srv"), ("path", path)])).unwrap()
    }

    #[test]
    fn devices_outlive_versions() {
        value_outlives(&disk("data", "/data"), &["name", "type", "path"], &[]);
        let kvm = Device::of("kvm", DeviceType::UnixChar, &pairs(&[("source", "/dev/kvm")])).unwrap();
        value_outlives(&kvm, &["name", "type", "source", "path"], &[]);
        let root = Device::of("root", DeviceType::Disk, &pairs(&[("size", "10GiB")])).unwrap();
        assert!(root.is_root() && !disk("root", "/mnt").is_root());
        value_outlives(&root, &["name", "type", "path"], &[]);
        let pairs = pairs(&[("listen", "tcp:0.0.0.0:8080"), ("connect", "tcp:127.0.0.1:80")]);
        let http = Device::of("http", DeviceType::Proxy, &pairs).unwrap();
        value_outlives(&http, &["name", "type", "listen", "connect"], &[]);
        let none = Device::of("data", DeviceType::None, &BTreeMap::new()).unwrap();
        value_outlives(&none, &["name", "type"], &[]);
        let text = toml::to_string(&kvm).unwrap();
        assert_eq!(toml::from_str::<Device>(&text).unwrap(), kvm);
    }

    #[test]
    fn a_change_is_whole_or_refused() {
        let data = disk("data", "/data");
        let set = |pairs: &[(&str, &str)], unset: &[&str]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            data.changed(&pairs, &unset.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        let changed = set(&[("readonly", "true")], &[]).unwrap();
        assert!(changed.disk().unwrap().readonly && changed.path() == "/data");
        assert_eq!(changed.changed(&[], &["readonly".to_owned()]).unwrap(), data);
        assert!(set(&[], &["readonly"]).is_err() && set(&[], &["path"]).is_err());
        assert!(set(&[("readonly", "true"), ("path", "x")], &[]).is_err());
    }

    #[test]
    fn a_type_without_a_device_has_no_keys() {
        let none = Device::of("data", DeviceType::None, &pairs(&[("path", "/data")])).unwrap_err();
        assert!(none.to_string().contains("path is only for"), "{none}");
        let nic = Device::of("eth1", DeviceType::Nic, &BTreeMap::new()).unwrap_err();
        assert!(nic.to_string().contains("disk, unix-char, proxy or none"), "{nic}");
        let data = disk("data", "/data");
        assert_eq!(data.line(), "disk path=/data source=/srv");
        let masks = ["a", "root"].map(|name| Device::of(name, DeviceType::None, &BTreeMap::new()).unwrap());
        check_all(&masks, &[]).unwrap();
    }

    #[test]
    fn a_container_has_each_name_and_path_once() {
        check_all(&[disk("a", "/a"), disk("b", "/a/b")], &[]).unwrap();
        assert!(check_all(&[disk("a", "/a"), disk("a", "/b")], &[]).is_err());
        assert!(check_all(&[disk("a", "/a"), disk("b", "/a")], &[]).is_err());
        let many: Vec<_> = (0..17).map(|n| disk(&format!("d{n}"), &format!("/d{n}"))).collect();
        assert!(check_all(&many, &[]).is_err() && check_all(&many[1..], &[]).is_ok());
    }
}
