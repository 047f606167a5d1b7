//! The policy as a document: what is written in a file, kept in the database, and changed by verbs.
//! Nothing in it is believed before it has become a [`Plan`](super::Plan).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Allow,
    /// Dropped: the sender hears nothing.
    Deny,
    /// Dropped, and the sender is told.
    Reject,
}

impl Action {
    /// As it is typed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
        }
    }

    /// For sentences: "the packet is allowed".
    pub fn done(self) -> &'static str {
        match self {
            Self::Allow => "allowed",
            Self::Deny => "denied",
            Self::Reject => "rejected",
        }
    }
}

/// As a container sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    In,
    Out,
}

impl Direction {
    /// Both, in the order in which they are shown.
    pub const BOTH: [Self; 2] = [Self::In, Self::Out];

    /// As it is typed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Protocols above IP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    #[default]
    Any,
    Tcp,
    Udp,
    Sctp,
    /// ICMP over IPv4 and ICMPv6.
    Icmp,
    Gre,
    Esp,
    Ah,
}

impl Proto {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] =
        [Self::Any, Self::Tcp, Self::Udp, Self::Sctp, Self::Icmp, Self::Gre, Self::Esp, Self::Ah];

    /// As it is typed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
            Self::Gre => "gre",
            Self::Esp => "esp",
            Self::Ah => "ah",
        }
    }

    /// Whether its packets have port numbers.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }

    /// By the numbers of IANA, ICMP by one for each family; None: any.
    pub fn number(self, v4: bool) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::Sctp => Some(132),
            Self::Icmp if v4 => Some(1),
            Self::Icmp => Some(58),
            Self::Gre => Some(47),
            Self::Esp => Some(50),
            Self::Ah => Some(51),
        }
    }

    fn is_any(&self) -> bool {
        *self == Self::Any
    }
}

impl std::str::FromStr for Proto {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|proto| proto.as_str() == text).ok_or(())
    }
}

/// One rule, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is done with packets that match.
    pub action: Action,
    /// The protocol above IP.
    #[serde(default, skip_serializing_if = "Proto::is_any")]
    pub proto: Proto,
    /// `80,443,8000-8100`: the ports that a connection is made to. Empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ports: String,
    /// In rules only: addresses, subnets, `set:NAME`. Empty: anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// The same for rules of packets that leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// Whether packets that match are logged.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log: bool,
    /// The operator's own, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Rule {}

/// As one would say it: `allow tcp 80,443 from 192.0.2.0/24`.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.action.as_str(), self.proto.as_str())?;
        if !self.ports.is_empty() {
            write!(f, " {}", self.ports)?;
        }
        for (word, peers) in [("from", &self.from), ("to", &self.to)] {
            if !peers.is_empty() {
                write!(f, " {word} {}", peers.join(","))?;
            }
        }
        if self.log { f.write_str(" log") } else { Ok(()) }
    }
}

/// Rules that containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupPolicy {
    /// For packets to a container.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub inward: Vec<Rule>,
    /// For packets from a container.
    #[serde(rename = "out", skip_serializing_if = "Vec::is_empty")]
    pub outward: Vec<Rule>,
}

/// What holds for all of a network, where a container has no other word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct NetworkPolicy {
    /// For packets to a container where no rule matches. None: allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_in: Option<Action>,
    /// For packets from a container where no rule matches. None: allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_out: Option<Action>,
    /// For packets to a container.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub inward: Vec<Rule>,
    /// For packets from a container.
    #[serde(rename = "out", skip_serializing_if = "Vec::is_empty")]
    pub outward: Vec<Rule>,
}

/// One container's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ContainerPolicy {
    /// In the order in which it joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// For packets to it where no rule matches. None: the network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_in: Option<Action>,
    /// For packets from it where no rule matches. None: the network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_out: Option<Action>,
    /// For packets to it.
    #[serde(rename = "in", skip_serializing_if = "Vec::is_empty")]
    pub inward: Vec<Rule>,
    /// For packets from it.
    #[serde(rename = "out", skip_serializing_if = "Vec::is_empty")]
    pub outward: Vec<Rule>,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// The container's name.
    pub container: String,
    /// tcp, udp or sctp.
    pub proto: Proto,
    /// A port or a range of them.
    pub listen: String,
    /// One address, or empty: any of the host's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The container's port or range. Empty: the same as `listen`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// The device of the container's that it is; empty for most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// It is the container's by one of its profiles.
    #[serde(default, skip_serializing_if = "is_false", rename = "by-profile")]
    pub by_profile: bool,
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let to = if self.to.is_empty() { &self.listen } else { &self.to };
        write!(f, "{} {}:{to} to {}", self.proto.as_str(), self.listen, self.container)?;
        if self.address.is_empty() { Ok(()) } else { write!(f, " at {}", self.address) }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Addresses and subnets under a name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, Vec<String>>,
    /// Groups by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupPolicy>,
    /// Networks by name, of which something is said.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, NetworkPolicy>,
    /// Containers by name, of which something is said.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub containers: BTreeMap<String, ContainerPolicy>,
    /// Ports of the host that lead to containers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
}

/// Whose rules they are, as it is typed: `web01`, `network:lan`, `group:web`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Container(String),
    Network(String),
    Group(String),
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some(("network", name)) => Self::Network(name.to_owned()),
            Some(("group", name)) => Self::Group(name.to_owned()),
            _ => Self::Container(text.to_owned()),
        })
    }
}

/// As in a sentence: "rule 3 of network lan".
impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Container(name) => write!(f, "container {name}"),
            Self::Network(name) => write!(f, "network {name}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl Target {
    /// As it is typed.
    pub fn typed(&self) -> String {
        match self {
            Self::Container(name) => name.clone(),
            Self::Network(name) => format!("network:{name}"),
            Self::Group(name) => format!("group:{name}"),
        }
    }
}

impl Policy {
    /// The rules of a target; none where nothing is said of it.
    pub fn rules(&self, target: &Target, direction: Direction) -> &[Rule] {
        let both = match target {
            Target::Container(name) => self.containers.get(name).map(|c| (&c.inward, &c.outward)),
            Target::Network(name) => self.networks.get(name).map(|n| (&n.inward, &n.outward)),
            Target::Group(name) => self.groups.get(name).map(|g| (&g.inward, &g.outward)),
        };
        match (both, direction) {
            (None, _) => &[],
            (Some((inward, _)), Direction::In) => inward,
            (Some((_, outward)), Direction::Out) => outward,
        }
    }

    /// The same to be changed. A container and a network come to be by it, a group does not.
    pub fn rules_mut(&mut self, target: &Target, direction: Direction) -> Option<&mut Vec<Rule>> {
        let (inward, outward) = match target {
            Target::Container(name) => {
                let found = self.containers.entry(name.clone()).or_default();
                (&mut found.inward, &mut found.outward)
            }
            Target::Network(name) => {
                let found = self.networks.entry(name.clone()).or_default();
                (&mut found.inward, &mut found.outward)
            }
            Target::Group(name) => {
                let found = self.groups.get_mut(name)?;
                (&mut found.inward, &mut found.outward)
            }
        };
        Some(if direction == Direction::In { inward } else { outward })
    }

    /// Everything that has rules or could have them, in the order of the document.
    pub fn targets(&self) -> Vec<Target> {
        let groups = self.groups.keys().cloned().map(Target::Group);
        let networks = self.networks.keys().cloned().map(Target::Network);
        groups.chain(networks).chain(self.containers.keys().cloned().map(Target::Container)).collect()
    }

    /// Pieces to be kept apart, so that a change of one is a change of one: what is said of each
    /// container, by its name, and all else, by "".
    pub fn parts(&self) -> BTreeMap<&str, Self> {
        let mut parts: BTreeMap<&str, Self> = BTreeMap::new();
        for (name, container) in &self.containers {
            parts.entry(name).or_default().containers.insert(name.clone(), container.clone());
        }
        for forward in &self.forwards {
            parts.entry(&forward.container).or_default().forwards.push(forward.clone());
        }
        let rest = Self { containers: BTreeMap::new(), forwards: Vec::new(), ..self.clone() };
        if rest != Self::default() {
            parts.insert("", rest);
        }
        parts
    }

    /// Takes in a piece.
    pub fn join(&mut self, part: Self) {
        self.sets.extend(part.sets);
        self.groups.extend(part.groups);
        self.networks.extend(part.networks);
        self.containers.extend(part.containers);
        self.forwards.extend(part.forwards);
    }

    /// Without what says nothing.
    pub fn tidied(mut self) -> Self {
        self.containers.retain(|_, c| *c != ContainerPolicy::default());
        self.networks.retain(|_, n| *n != NetworkPolicy::default());
        self
    }

    /// Forgets a container that is deleted.
    pub fn forget(&mut self, container: &str) {
        self.containers.remove(container);
        self.forwards.retain(|forward| forward.container != container);
    }

    /// Knows a container by its new name.
    pub fn rename(&mut self, old: &str, new: &str) {
        if let Some(found) = self.containers.remove(old) {
            self.containers.insert(new.to_owned(), found);
        }
        for forward in self.forwards.iter_mut().filter(|forward| forward.container == old) {
            new.clone_into(&mut forward.container);
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::office_and_web;
    use crate::model::stored::{self, tests::outlives};

    const DOCUMENT: &str = concat!(
        office_and_web!(),
        r#"
[networks.nagaya0]
default-in = "deny"

[containers.web01]
groups = ["web"]
default-out = "reject"
in = [{ action = "allow", proto = "tcp", ports = "22", from = ["set:office"], log = true, note = "us" }]

[[forwards]]
container = "web01"
proto = "tcp"
listen = "8080"
to = "80"
"#
    );

    #[test]
    fn a_document_is_read_back_as_it_was_written() {
        let policy: Policy = toml::from_str(DOCUMENT).unwrap();
        assert_eq!(policy.rules(&"web01".parse().unwrap(), Direction::In).len(), 1);
        assert_eq!(policy.networks["nagaya0"].default_in, Some(Action::Deny));
        let text = toml::to_string(&policy).unwrap();
        assert_eq!(toml::from_str::<Policy>(&text).unwrap(), policy, "{text}");
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        assert_eq!(toml::to_string(&Policy::default()).unwrap(), "");
    }

    /// As it is stored; where it is typed, `unknown_words_are_errors`.
    #[test]
    fn a_stored_policy_outlives_versions() {
        let document = serde_json::to_value(toml::from_str::<Policy>(DOCUMENT).unwrap()).unwrap();
        let needed = [
            "groups.web.in.*.action",
            "containers.web01.in.*.action",
            "forwards.*.container",
            "forwards.*.proto",
            "forwards.*.listen",
        ];
        let maps = ["sets", "groups", "networks", "containers"];
        let read = |value: serde_json::Value| stored::from_json::<Policy>(&value.to_string());
        outlives(&document, read, &needed, &maps);
        assert!(
            stored::from_json::<Policy>("{\"sets\": 1}").is_err()
                && stored::from_json::<Policy>("{").is_err()
        );
    }

    #[test]
    fn unknown_words_are_errors() {
        for bad in [
            "[sett]\na=1",
            "[networks.n]\ndefault = \"deny\"",
            "[groups.g]\ndefault-in = \"deny\"",
            "[containers.c]\nin = [{ action = \"accept\" }]",
            "[containers.c]\nin = [{ action = \"allow\", port = \"80\" }]",
            "[containers.c]\nin = [{ action = \"allow\", proto = \"icmpv6\" }]",
            "[containers.c]\nin = [{ proto = \"tcp\" }]",
        ] {
            assert!(toml::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_read_like_what_is_typed() {
        let policy: Policy = toml::from_str(DOCUMENT).unwrap();
        let rule = &policy.containers["web01"].inward[0];
        assert_eq!(rule.to_string(), "allow tcp 22 from set:office log");
        assert_eq!(policy.forwards[0].to_string(), "tcp 8080:80 to web01");
        assert_eq!("group:web".parse(), Ok(Target::Group("web".into())));
        assert_eq!(Target::Network("n".into()).typed(), "network:n");
    }

    #[test]
    fn a_container_is_forgotten_and_renamed_everywhere() {
        let mut policy: Policy = toml::from_str(DOCUMENT).unwrap();
        policy.rename("web01", "web02");
        assert_eq!(policy.forwards[0].container, "web02");
        assert!(policy.containers.contains_key("web02"));
        policy.forget("web02");
        assert!(policy.forwards.is_empty() && policy.containers.is_empty());
    }
}
