//! What the administrator lets an ordinary user have on the host.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::config::value::{NO_LIMIT, size};
use super::ids::SLICE;
use super::limits::RLIMITS;
use super::network::is_interface_name;

/// One user's grant. What is not said has a default, or no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    /// False: the user may have no container here. True: without being asked for a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<bool>,
    /// Containers that run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<u32>,
    /// Bytes of memory of all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Percent of one CPU for all of them together: 200 is two CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Processes and threads of all of them together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Networks of the user's own on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
    /// Addresses of the host's world that the user's containers may have, besides private ones of the
    /// user's own networks; and that port forwards may listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<IpNetwork>>,
    /// Ports of the host that the user may forward to containers, `8000-8999` or single ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortRange>>,
    /// Interfaces of the host that containers may be on: bridges to join, others to share by macvlan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    /// Resource limits, setrlimit(2), of each process, by their names in `limits.kernel.*`. A table,
    /// which TOML wants behind all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<BTreeMap<String, u64>>,
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub fn holds(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl std::str::FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("'{text}' is not a port or a range of them")),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("'{0}' is no setting of a grant: {keys}, kernel.NAME", keys = KEYS.join(", "))]
    UnknownKey(String),
    #[error("'{0}' is not KEY=VALUE")]
    NotASetting(String),
    #[error("{key}={value}: it must be {rule}")]
    BadValue { key: &'static str, value: String, rule: &'static str },
}

/// What can be set.
pub const KEYS: [&str; 9] =
    ["allow", "containers", "memory", "cpu", "processes", "networks", "addresses", "ports", "parents"];

/// Containers at once where nothing is said.
const CONTAINERS: u32 = 16;
/// Networks where nothing is said.
const NETWORKS: u32 = 1;
/// A container's memory below which nothing starts.
const LEAST_MEMORY: u64 = 16 << 20;
/// A file of grants holds signed numbers: the highest stands for no limit.
const UNLIMITED: u64 = i64::MAX as u64;

impl Grant {
    pub fn containers(&self) -> u32 {
        self.containers.unwrap_or(CONTAINERS)
    }

    pub fn networks(&self) -> u32 {
        self.networks.unwrap_or(NETWORKS)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        self.addresses.iter().flatten().copied()
    }

    pub fn ports(&self) -> impl Iterator<Item = PortRange> {
        self.ports.iter().flatten().copied()
    }

    pub fn parents(&self) -> impl Iterator<Item = &String> {
        self.parents.iter().flatten()
    }

    /// How high a resource limit may be by the grant: 0 where it says nothing, `NO_LIMIT` for any.
    pub fn resource(&self, resource: &str) -> u64 {
        match self.kernel.iter().flatten().find(|(name, _)| *name == resource) {
            Some((_, most)) if *most >= UNLIMITED => NO_LIMIT,
            Some((_, most)) => *most,
            None => 0,
        }
    }

    /// What `self`, a user's own grant, leaves open is taken from `default`, everybody's.
    pub fn or(self, default: Grant) -> Grant {
        Grant {
            allow: self.allow.or(default.allow),
            containers: self.containers.or(default.containers),
            memory: self.memory.or(default.memory),
            cpu: self.cpu.or(default.cpu),
            processes: self.processes.or(default.processes),
            networks: self.networks.or(default.networks),
            addresses: self.addresses.or(default.addresses),
            ports: self.ports.or(default.ports),
            parents: self.parents.or(default.parents),
            kernel: match (self.kernel, default.kernel) {
                (Some(own), Some(default)) => Some(default.into_iter().chain(own).collect()),
                (own, default) => own.or(default),
            },
        }
    }

    /// Takes one `KEY=VALUE`; an empty value takes the setting back.
    pub fn set(&mut self, setting: &str) -> Result<(), GrantError> {
        let (key, value) =
            setting.split_once('=').ok_or_else(|| GrantError::NotASetting(setting.to_owned()))?;
        match key {
            "allow" => self.allow = parsed("allow", value, "true or false", |_: &bool| true)?,
            "containers" => {
                let most = u32::MAX / SLICE - 1;
                self.containers = parsed("containers", value, "0 to 65534", |n| *n <= most)?;
            }
            "memory" => self.memory = memory(value)?,
            "cpu" => {
                let rule = "percent of one CPU, 1 to 1000000";
                let value = value.strip_suffix('%').unwrap_or(value);
                self.cpu = parsed("cpu", value, rule, |n| (1..=1_000_000).contains(n))?;
            }
            "processes" => self.processes = parsed("processes", value, "8 or more", |n| *n >= 8)?,
            "networks" => self.networks = parsed("networks", value, "0 to 35", |n| *n <= 35)?,
            "addresses" => self.addresses = listed("addresses", value, "addresses or subnets, by commas")?,
            "ports" => self.ports = listed("ports", value, "ports or ranges of them, by commas")?,
            "parents" => {
                let rule = "names of interfaces, by commas";
                let parents: Option<Vec<String>> = listed("parents", value, rule)?;
                if parents.iter().flatten().any(|name| !is_interface_name(name)) {
                    return Err(GrantError::BadValue { key: "parents", value: value.to_owned(), rule });
                }
                self.parents = parents;
            }
            other => match RLIMITS.iter().find(|name| other.strip_prefix("kernel.") == Some(name)) {
                Some(resource) => self.set_resource(resource, value)?,
                None => return Err(GrantError::UnknownKey(other.to_owned())),
            },
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &str, value: &str) -> Result<(), GrantError> {
        let rule = "a number, a size such as 1GiB, or unlimited";
        let bad = || GrantError::BadValue { key: "kernel.RESOURCE", value: value.to_owned(), rule };
        let mut all = self.kernel.take().unwrap_or_default();
        match value {
            "" => {
                all.remove(resource);
            }
            "unlimited" => {
                all.insert(resource.to_owned(), UNLIMITED);
            }
            _ => {
                all.insert(resource.to_owned(), size(value).filter(|n| *n < UNLIMITED).ok_or_else(bad)?);
            }
        }
        self.kernel = (!all.is_empty()).then_some(all);
        Ok(())
    }
}

fn parsed<T: std::str::FromStr>(
    key: &'static str,
    value: &str,
    rule: &'static str,
    good: impl Fn(&T) -> bool,
) -> Result<Option<T>, GrantError> {
    if value.is_empty() {
        return Ok(None);
    }
    match value.parse::<T>() {
        Ok(parsed) if good(&parsed) => Ok(Some(parsed)),
        _ => Err(GrantError::BadValue { key, value: value.to_owned(), rule }),
    }
}

/// Values between commas.
fn listed<T: std::str::FromStr>(
    key: &'static str,
    value: &str,
    rule: &'static str,
) -> Result<Option<Vec<T>>, GrantError> {
    const MOST: usize = 256;
    if value.is_empty() {
        return Ok(None);
    }
    let parsed: Result<Vec<T>, _> = value.split(',').map(str::parse).collect();
    match parsed {
        Ok(list) if list.len() <= MOST => Ok(Some(list)),
        _ => Err(GrantError::BadValue { key, value: value.to_owned(), rule }),
    }
}

fn memory(value: &str) -> Result<Option<u64>, GrantError> {
    let rule = "a size of 16MiB or more, such as 4GiB";
    let bad = || GrantError::BadValue { key: "memory", value: value.to_owned(), rule };
    if value.is_empty() {
        return Ok(None);
    }
    // A file of grants holds signed numbers.
    size(value).filter(|bytes| (LEAST_MEMORY..=i64::MAX as u64).contains(bytes)).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(settings: &[&str]) -> Result<Grant, GrantError> {
        let mut grant = Grant::default();
        settings.iter().try_for_each(|setting| grant.set(setting)).map(|()| grant)
    }

    #[test]
    fn settings_are_read_and_taken_back() {
        let mut got = grant(&["memory=4GiB", "cpu=150%", "containers=3", "allow=true"]).unwrap();
        assert_eq!((got.memory, got.cpu, got.containers()), (Some(4 << 30), Some(150), 3));
        assert_eq!((got.networks(), got.processes), (1, None));
        let more =
            grant(&["addresses=203.0.113.8/29,2001:db8::/64", "ports=80,8000-8999", "parents=br0"]).unwrap();
        assert!(more.ports().any(|range| range.holds(8080)) && !more.ports().any(|range| range.holds(443)));
        assert_eq!((more.addresses().count(), more.parents().count()), (2, 1));
        let mut more = more;
        for setting in ["kernel.rtprio=50", "kernel.memlock=unlimited", "kernel.nice=1", "kernel.nice="] {
            more.set(setting).unwrap();
        }
        assert_eq!((more.resource("rtprio"), more.resource("nice")), (50, 0));
        assert_eq!(more.resource("memlock"), NO_LIMIT);
        let everybody = grant(&["kernel.rtprio=1", "kernel.nice=2"]).unwrap();
        let both = more.clone().or(everybody);
        assert_eq!((both.resource("rtprio"), both.resource("nice")), (50, 2));
        let text = toml::to_string(&more).unwrap();
        assert_eq!(toml::from_str::<Grant>(&text).unwrap(), more);
        got.set("cpu=").unwrap();
        assert_eq!(got.cpu, None);
        let everybody = grant(&["cpu=50", "containers=9"]).unwrap();
        let both = got.or(everybody);
        assert_eq!((both.cpu, both.containers()), (Some(50), 3));
    }

    #[test]
    fn nonsense_is_named() {
        for bad in ["memory=1", "memory=1.5GiB", "memory=99999999TiB", "memory=-1", "cpu=0", "cpu=x"] {
            assert!(matches!(grant(&[bad]), Err(GrantError::BadValue { .. })), "{bad}");
        }
        for bad in [
            "allow=yes",
            "containers=65535",
            "networks=36",
            "processes=7",
            "addresses=x",
            "ports=0",
            "ports=9-8",
            "parents=a/b",
            "kernel.rtprio=-1",
            "kernel.rtprio=x",
        ] {
            assert!(matches!(grant(&[bad]), Err(GrantError::BadValue { .. })), "{bad}");
        }
        for key in KEYS {
            assert!(!matches!(grant(&[&format!("{key}=x")]), Err(GrantError::UnknownKey(_))), "{key}");
        }
        for unknown in ["disk=1", "kernel.=1", "kernel.disk=1", "rtprio=1"] {
            assert!(matches!(grant(&[unknown]), Err(GrantError::UnknownKey(_))), "{unknown}");
        }
        assert!(matches!(grant(&["memory"]), Err(GrantError::NotASetting(_))));
    }
}
