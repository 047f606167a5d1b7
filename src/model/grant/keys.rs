//! The keys of a grant.

use std::str::FromStr;

use super::settings::{Grant, PortRange, UNLIMITED};
use crate::model::config::value::{boolean, size};
use crate::model::device::is_clean_path;
use crate::model::ids::IDS_PER_RANGE;
use crate::model::keys::{BOOL, Key, KeyError, KeyFault, Kind, Live, Subject, Table, Words};
use crate::model::network::is_interface_name;

impl Subject for Grant {
    type Draft = Self;
    /// Sets the key of that name to a value of its kind; None where it is not of it. An empty value
    /// takes it back.
    type Sets = fn(&mut Grant, &str, &str) -> Option<()>;
    const EMPTY_RESETS: bool = true;

    fn put(key: &Key<Self>, grant: &mut Self, name: &str, value: &str) -> Result<(), KeyError> {
        (key.sets)(grant, name, value).ok_or_else(|| KeyError::wrong(name, value, key.kind.rule))
    }
}

impl Grant {
    /// Sets a key; an empty value takes the setting back.
    ///
    /// # Errors
    /// The key that there is not, or that cannot be so.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), KeyError> {
        GRANT_KEYS.set(self, key, value)
    }

    /// The two sides of a `KEY=VALUE`.
    ///
    /// # Errors
    /// Where there is no `=`.
    pub fn key_and_value(setting: &str) -> Result<(&str, &str), KeyError> {
        setting.split_once('=').ok_or_else(|| KeyFault::NoValue { text: setting.to_owned() }.into())
    }

    fn set_resource(&mut self, resource: &str, value: &str) -> Option<()> {
        let mut all = self.kernel.take().unwrap_or_default();
        match value {
            "" => all.remove(resource),
            value => all.insert(resource.to_owned(), most(value)?),
        };
        self.kernel = (!all.is_empty()).then_some(all);
        Some(())
    }
}

/// All of them are nagaya's own: LXD bounds its projects, and not its users.
pub const GRANT_KEYS: Table<Grant> =
    Table { what: "grant", listed_by: "nagaya grant --help", keys: KEYS, absent: &[] };

const fn kind(name: &'static str, rule: &'static str, check: fn(&str) -> bool) -> Kind {
    Kind { name, words: Words::NONE, rule, check }
}

const CONTAINERS: Kind =
    kind("integer", "0 to 65534", |text| within::<u32>(text, 0, u32::MAX / IDS_PER_RANGE - 1).is_some());
const MEMORY: Kind = kind("size", "a size of 16MiB or more, such as 4GiB", |text| memory(text).is_some());
const CPU: Kind = kind("percent", "percent of one CPU, 1 to 1000000", |text| percent(text).is_some());
const PROCESSES: Kind = kind("integer", "8 or more", |text| within::<u64>(text, 8, u64::MAX).is_some());
const NETWORKS: Kind = kind("integer", "0 to 35", |text| within::<u32>(text, 0, 35).is_some());
const ADDRESSES: Kind =
    kind("list", "addresses or subnets, by commas", |text| listed::<ipnetwork::IpNetwork>(text).is_some());
const PORTS: Kind =
    kind("list", "ports or ranges of them, by commas", |text| listed::<PortRange>(text).is_some());
const PARENTS: Kind = kind("list", "names of interfaces, by commas", |text| parents(text).is_some());
const POOLS: Kind =
    kind("list", "absolute paths of directories, by commas", |text| directories(text).is_some());
const RESOURCE: Kind = Kind {
    name: "number",
    words: Words::These(&["unlimited"]),
    rule: "a number, a size such as 1GiB, or unlimited",
    check: |text| most(text).is_some(),
};

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    live: Live,
    help: &'static str,
    set: fn(&mut Grant, &str, &str) -> Option<()>,
) -> Key<Grant> {
    Key::new(name, kind, default, live, help, set).ours()
}

/// How high a resource limit may be.
const fn resource(name: &'static str, help: &'static str) -> Key<Grant> {
    key(name, RESOURCE, "", Live::NextStart, help, |grant, name, text| {
        grant.set_resource(name.strip_prefix("kernel.")?, text)
    })
}

const KEYS: &[Key<Grant>] = &[
    key(
        "allow",
        BOOL,
        "",
        Live::Now,
        "true: without a password, also outside the group 'nagaya'; false: not at all",
        |grant, _, text| set(&mut grant.allow, text, boolean),
    ),
    key("containers", CONTAINERS, "16", Live::Now, "how many run at once", |grant, _, text| {
        set(&mut grant.containers, text, |text| text.parse().ok())
    }),
    key(
        "memory",
        MEMORY,
        "",
        Live::NextStart,
        "of all containers together, such as 4GiB",
        |grant, _, text| set(&mut grant.memory, text, memory),
    ),
    key(
        "cpu",
        CPU,
        "",
        Live::NextStart,
        "of all together, in percent of one CPU: 200 is two CPUs",
        |grant, _, text| set(&mut grant.cpu, text, percent),
    ),
    key("processes", PROCESSES, "", Live::NextStart, "of all together", |grant, _, text| {
        set(&mut grant.processes, text, |text| text.parse().ok())
    }),
    key("networks", NETWORKS, "1", Live::Now, "networks of the user's own on the host", |grant, _, text| {
        set(&mut grant.networks, text, |text| text.parse().ok())
    }),
    key(
        "addresses",
        ADDRESSES,
        "",
        Live::Now,
        "addresses and subnets, besides private ones, that containers may have",
        |grant, _, text| set(&mut grant.addresses, text, listed),
    ),
    key(
        "ports",
        PORTS,
        "",
        Live::Now,
        "ports of the host that may be forwarded to containers, such as 8000-8999",
        |grant, _, text| set(&mut grant.ports, text, listed),
    ),
    key(
        "parents",
        PARENTS,
        "",
        Live::Now,
        "interfaces of the host that containers may be on",
        |grant, _, text| set(&mut grant.parents, text, parents),
    ),
    key(
        "pools",
        POOLS,
        "",
        Live::Now,
        "directories of the host's in which the user may have a storage pool",
        |grant, _, text| set(&mut grant.pools, text, directories),
    ),
    resource("kernel.as", "how high limits.kernel.as may be"),
    resource("kernel.core", "how high limits.kernel.core may be"),
    resource("kernel.cpu", "how high limits.kernel.cpu may be"),
    resource("kernel.data", "how high limits.kernel.data may be"),
    resource("kernel.fsize", "how high limits.kernel.fsize may be"),
    resource("kernel.locks", "how high limits.kernel.locks may be"),
    resource("kernel.memlock", "how high limits.kernel.memlock may be"),
    resource("kernel.msgqueue", "how high limits.kernel.msgqueue may be"),
    resource("kernel.nice", "how high limits.kernel.nice may be"),
    resource("kernel.nofile", "how high limits.kernel.nofile may be"),
    resource("kernel.nproc", "how high limits.kernel.nproc may be"),
    resource("kernel.rtprio", "how high limits.kernel.rtprio may be"),
    resource("kernel.rttime", "how high limits.kernel.rttime may be"),
    resource("kernel.sigpending", "how high limits.kernel.sigpending may be"),
    resource("kernel.stack", "how high limits.kernel.stack may be"),
];

fn set<T>(field: &mut Option<T>, text: &str, read: impl Fn(&str) -> Option<T>) -> Option<()> {
    *field = if text.is_empty() { None } else { Some(read(text)?) };
    Some(())
}

fn within<T: FromStr + PartialOrd>(text: &str, from: T, to: T) -> Option<T> {
    text.parse().ok().filter(|n| (from..=to).contains(n))
}

fn percent(text: &str) -> Option<u32> {
    within(text.strip_suffix('%').unwrap_or(text), 1, 1_000_000)
}

/// Below 16 MiB nothing starts.
fn memory(text: &str) -> Option<u64> {
    // A file of grants holds signed numbers.
    size(text).filter(|bytes| ((16 << 20)..=i64::MAX as u64).contains(bytes))
}

/// Values between commas.
fn listed<T: FromStr>(text: &str) -> Option<Vec<T>> {
    const MOST: usize = 256;
    let list: Vec<T> = text.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    (list.len() <= MOST).then_some(list)
}

fn directories(text: &str) -> Option<Vec<String>> {
    text.split(',').map(|path| is_clean_path(path).then(|| path.to_owned())).collect()
}

fn parents(text: &str) -> Option<Vec<String>> {
    listed(text).filter(|names: &Vec<String>| names.iter().all(|name| is_interface_name(name)))
}

fn most(text: &str) -> Option<u64> {
    if text == "unlimited" { Some(UNLIMITED) } else { size(text).filter(|n| *n < UNLIMITED) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::value::NO_LIMIT;
    use crate::model::limits::RLIMITS;
    use crate::model::stored::{Document, tests::outlives};

    #[test]
    fn grants_outlive_versions() {
        let settings =
            ["allow=true", "containers=5", "memory=8GiB", "cpu=200", "processes=1000", "networks=3"];
        let more = ["addresses=203.0.113.8/29", "ports=80", "parents=br0", "kernel.rtprio=50"];
        let document = Document::new(1, grant(&[&settings[..], &more[..]].concat()).unwrap());
        let value = serde_json::to_value(document).unwrap();
        let read = |value: serde_json::Value| {
            Document::<Grant>::read(&toml::to_string(&value).unwrap(), 1).map(|document| document.content)
        };
        outlives(&value, read, &[], &["kernel"]);
    }

    fn grant(settings: &[&str]) -> Result<Grant, KeyError> {
        let mut grant = Grant::default();
        for setting in settings {
            let (key, value) = Grant::key_and_value(setting)?;
            grant.set(key, value)?;
        }
        Ok(grant)
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
            let (key, value) = Grant::key_and_value(setting).unwrap();
            more.set(key, value).unwrap();
        }
        assert_eq!((more.resource("rtprio"), more.resource("nice")), (50, 0));
        assert_eq!(more.resource("memlock"), NO_LIMIT);
        let everybody = grant(&["kernel.rtprio=1", "kernel.nice=2"]).unwrap();
        let both = more.clone().or(everybody);
        assert_eq!((both.resource("rtprio"), both.resource("nice")), (50, 2));
        let text = toml::to_string(&more).unwrap();
        assert_eq!(toml::from_str::<Grant>(&text).unwrap(), more);
        got.set("cpu", "").unwrap();
        assert_eq!(got.cpu, None);
        let everybody = grant(&["cpu=50", "containers=9"]).unwrap();
        let both = got.or(everybody);
        assert_eq!((both.cpu, both.containers()), (Some(50), 3));
    }

    #[test]
    fn every_resource_can_be_granted() {
        for resource in RLIMITS {
            assert!(GRANT_KEYS.find(&format!("kernel.{resource}")).is_some(), "{resource}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for bad in ["memory=1", "memory=1.5GiB", "memory=99999999TiB", "memory=-1", "cpu=0", "cpu=x"] {
            assert!(matches!(grant(&[bad]), Err(KeyError { fault: KeyFault::Wrong { .. }, .. })), "{bad}");
        }
        for bad in [
            "allow=perhaps",
            "containers=65535",
            "networks=36",
            "processes=7",
            "addresses=x",
            "ports=0",
            "ports=9-8",
            "parents=a/b",
            "pools=fast",
            "pools=/srv/../etc",
            "kernel.rtprio=-1",
            "kernel.rtprio=x",
        ] {
            assert!(matches!(grant(&[bad]), Err(KeyError { fault: KeyFault::Wrong { .. }, .. })), "{bad}");
        }
        for unknown in ["disk=1", "kernel.=1", "kernel.disk=1", "rtprio=1"] {
            assert!(
                matches!(grant(&[unknown]), Err(KeyError { fault: KeyFault::Unknown { .. }, .. })),
                "{unknown}"
            );
        }
        assert!(matches!(grant(&["memory"]), Err(KeyError { fault: KeyFault::NoValue { .. }, .. })));
    }
}
