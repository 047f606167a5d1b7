//! Rules, blocks and whole policies of the firewall.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::model::firewall::Policy;
use crate::model::firewall::operator::SshConnection;
use crate::model::firewall::policy::{self, Action, Direction, Proto, Target};
use crate::model::name::Name;
use crate::model::time::Timestamp;

/// What keeps a change from shutting out whoever makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caution {
    /// The connection over which the operator works on the host.
    pub ssh: Option<SshConnection>,
    /// Not to ask whether that would be cut.
    pub force: bool,
}

/// All rules, or those of a network or a group, or all that hold for a container, in their order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRules {
    #[serde(default)]
    pub target: Option<Target>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRule {
    pub target: Target,
    pub direction: Direction,
    pub rule: policy::Rule,
    /// Its place in the list, from 1; none: the end.
    #[serde(default)]
    pub at: Option<usize>,
    #[serde(default)]
    pub caution: Caution,
}

/// Tells what the rule was.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRule {
    pub target: Target,
    pub direction: Direction,
    /// From 1.
    pub number: usize,
    #[serde(default)]
    pub caution: Caution,
}

/// What is done where no rule decides.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDefaults {
    pub target: Target,
    /// None: a container leaves it to its network, a network allows.
    pub defaults: BTreeMap<Direction, Option<Action>>,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListBlocks {}

/// In both directions, and at once. Blocks of these addresses that there are get replaced.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddBlocks {
    pub addresses: Vec<IpNetwork>,
    /// None: for all containers.
    #[serde(default)]
    pub container: Option<Name>,
    /// How long; none: until it is taken back.
    #[serde(default)]
    pub seconds: Option<u64>,
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub caution: Caution,
}

/// Exactly as they were made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveBlocks {
    pub addresses: Vec<IpNetwork>,
    #[serde(default)]
    pub container: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {}

/// Whether a policy can be, and what it would change.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    pub policy: Policy,
}

/// All of it or, where anything is wrong, nothing. Tells what it has changed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    pub policy: Policy,
    /// Seconds since 1970: until then, unless it is confirmed. The first request after that goes back, so
    /// whoever asks sees to it that there is one.
    #[serde(default)]
    pub deadline: Option<i64>,
    #[serde(default)]
    pub caution: Caution,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {}

/// Tell the kernel the policy again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {}

/// What would become of the first packet of a connection, and why.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    pub container: Name,
    pub direction: Direction,
    pub proto: Proto,
    /// Whom it comes from or goes to.
    pub peer: IpAddr,
    /// The port that it is sent to, of protocols that have ports.
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rule {
    pub target: String,
    pub direction: &'static str,
    /// None: what is done where no rule decides.
    pub number: Option<usize>,
    pub action: &'static str,
    pub proto: &'static str,
    pub ports: String,
    /// From whom, or to whom.
    pub peers: Vec<String>,
    pub log: bool,
    /// Decided by it since it is there, like the next.
    pub packets: u64,
    pub bytes: u64,
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Block {
    pub address: String,
    /// None: all.
    pub container: Option<String>,
    pub hits: Hits,
    /// None: until it is taken back.
    pub until: Option<Timestamp>,
    pub reason: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hits {
    pub packets: u64,
    pub bytes: u64,
}
