//! From the policy as it is written to the plan that holds, with every slip named by its field.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::plan::{ContainerPlan, ForwardPlan, GroupPlan, LinkPlan, NetworkPlan, Plan, RulePlan, RulesPlan};
use super::policy::{Action, ContainerPolicy, Direction, Forward, Policy, Rule};
use super::{address, covers};
use crate::model::fault;
use crate::model::fault::{Code, Fault};
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{Nic, NicKind};
use crate::model::suggest;

/// Bounds of one document, so that a slip or an ill will does not fill the kernel's memory.
const MOST_RULES: usize = 256;
const MOST_PEERS: usize = 1024;
const MOST_PORTS: usize = 64;
const MOST_SET: usize = 65_536;
const WIDEST_FORWARD: u16 = 1000;

/// What there is on the host that a policy can speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// All of the owner's networks.
    pub networks: Vec<Network>,
    /// All of the owner's containers.
    pub containers: Vec<Member>,
}

/// A container with its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The container's id.
    pub id: ContainerId,
    /// The container's name, by which the policy knows it.
    pub name: Name,
    /// The name of the host's end, and the interface.
    pub nics: Vec<(String, Nic)>,
}

/// One slip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `containers.web01.in[2].ports`; rules are counted from 1, as they are everywhere.
    pub field: String,
    /// What is wrong with it, as a sentence without its full stop.
    pub what: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// All of them, in the order of the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))]
pub struct Problems(pub Vec<Problem>);

impl Fault for Problems {
    fn facts(&self) -> fault::Facts {
        let hint = "see what there is: nagaya firewall rules; nagaya firewall export";
        fault::Facts::user(Code::PolicyInvalid).hint(hint)
    }
}

/// Whether `text` may name a set or a group: it becomes a part of names in nftables.
pub fn is_label(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Ports as they are written: `80,443,8000-8100`; empty is all.
///
/// # Errors
/// The part that is none.
pub fn ports(text: &str) -> Result<Vec<(u16, u16)>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<_> = text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>()?;
    match found.len() {
        0..=MOST_PORTS => Ok(found),
        n => Err(format!("{n} ports and ranges are more than {MOST_PORTS}")),
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { text.parse::<u16>().ok().filter(|port| *port > 0) } else { None };
        port.ok_or_else(|| format!("'{text}' is not a port: it must be 1 to 65535"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last { Err(format!("'{text}' ends before it begins")) } else { Ok((first, last)) }
}

/// Which IP versions something speaks.
#[derive(Clone, Copy)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    const BOTH: Self = Self { v4: true, v6: true };

    fn of(addresses: &[IpAddr]) -> Self {
        Self { v4: addresses.iter().any(IpAddr::is_ipv4), v6: addresses.iter().any(IpAddr::is_ipv6) }
    }

    fn meets(self, v4: bool) -> bool {
        if v4 { self.v4 } else { self.v6 }
    }
}

impl Plan {
    /// # Errors
    /// Everything that is wrong with the policy.
    pub fn of(policy: &Policy, facts: &Facts) -> Result<Self, Problems> {
        let mut checker = Checker { policy, facts, problems: Vec::new() };
        let plan = checker.plan();
        if checker.problems.is_empty() { Ok(plan) } else { Err(Problems(checker.problems)) }
    }
}

impl Plan {
    /// What holds of a policy that was right when it was stored, whatever has come or gone since:
    /// what it says of others is left out.
    pub fn of_stored(policy: &Policy, facts: &Facts) -> Self {
        Checker { policy, facts, problems: Vec::new() }.plan()
    }
}

struct Checker<'a> {
    policy: &'a Policy,
    facts: &'a Facts,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn say(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { field: field.into(), what: what.into() });
    }

    fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        for (name, members) in &self.policy.sets {
            let field = format!("sets.{name}");
            self.label(&field, name);
            let nets = self.nets(&field, members, MOST_SET);
            plan.sets.insert(name.clone(), nets);
        }
        for (name, group) in &self.policy.groups {
            let field = format!("groups.{name}");
            self.label(&field, name);
            let rules = self.both(&field, &group.inward, &group.outward, Families::BOTH);
            plan.groups.push(GroupPlan { name: name.clone(), rules });
        }
        self.known_names();
        for network in self.facts.networks.iter().filter(|network| !network.foreign) {
            plan.networks.push(self.network(network));
        }
        for member in &self.facts.containers {
            plan.containers.push(self.container(member));
        }
        for (n, forward) in self.policy.forwards.iter().enumerate() {
            let field = format!("forwards[{}]", n + 1);
            let made = self.forward(&field, forward, &plan.containers);
            self.taken(&field, &made, &plan.forwards);
            plan.forwards.extend(made);
        }
        route(&mut plan);
        plan
    }

    /// Whatever the policy speaks of has to be there.
    fn known_names(&mut self) {
        for name in self.policy.networks.keys() {
            let field = format!("networks.{name}");
            match self.facts.networks.iter().find(|network| network.name == *name) {
                None => {
                    let all = self.facts.networks.iter().map(|network| network.name.as_str());
                    let what = missing("network", name, all);
                    self.say(field, what);
                }
                Some(network) if network.foreign => {
                    let what =
                        format!("bridge '{}' is the host's own, whose traffic is not routed", network.bridge);
                    self.say(field, what);
                }
                Some(_) => {}
            }
        }
        for name in self.policy.containers.keys() {
            if !self.facts.containers.iter().any(|member| member.name.as_str() == name) {
                let all = self.facts.containers.iter().map(|member| member.name.as_str());
                let what = missing("container", name, all);
                self.say(format!("containers.{name}"), what);
            }
        }
    }

    fn network(&mut self, network: &Network) -> NetworkPlan {
        let said = self.policy.networks.get(&network.name).cloned().unwrap_or_default();
        let families = Families { v4: network.ipv4.is_some(), v6: network.ipv6.is_some() };
        NetworkPlan {
            name: network.name.clone(),
            bridge: network.bridge.clone(),
            ipv4: network.ipv4,
            ipv6: network.ipv6,
            nat4: network.nat4,
            nat6: network.nat6,
            routed: false,
            rules: self.both(&format!("networks.{}", network.name), &said.inward, &said.outward, families),
            default_in: said.default_in.unwrap_or(Action::Allow),
            default_out: said.default_out.unwrap_or(Action::Allow),
        }
    }

    fn container(&mut self, member: &Member) -> ContainerPlan {
        let addresses = filtered(member, &self.facts.networks);
        let said = self.policy.containers.get(member.name.as_str());
        let field = format!("containers.{}", member.name);
        if said.is_some_and(|said| *said != ContainerPolicy::default()) && addresses.is_empty() {
            self.say(&field, "no address of its passes through the host, where rules would meet it");
        }
        let said = said.cloned().unwrap_or_default();
        for (n, group) in said.groups.iter().enumerate() {
            let field = format!("{field}.groups[{}]", n + 1);
            if !self.policy.groups.contains_key(group) {
                let what = missing("group", group, self.policy.groups.keys().map(String::as_str));
                self.say(field, what);
            } else if said.groups[..n].contains(group) {
                self.say(field, format!("'{group}' is named twice"));
            }
        }
        let families = if addresses.is_empty() { Families::BOTH } else { Families::of(&addresses) };
        let rules = self.both(&field, &said.inward, &said.outward, families);
        ContainerPlan {
            id: member.id.clone(),
            name: member.name.clone(),
            links: links(member, &self.facts.networks),
            addresses,
            groups: said.groups,
            rules,
            default_in: said.default_in,
            default_out: said.default_out,
        }
    }

    fn both(&mut self, field: &str, inward: &[Rule], outward: &[Rule], families: Families) -> RulesPlan {
        RulesPlan {
            inward: self.rules(&format!("{field}.in"), inward, Direction::In, families),
            outward: self.rules(&format!("{field}.out"), outward, Direction::Out, families),
        }
    }

    fn rules(
        &mut self,
        field: &str,
        rules: &[Rule],
        direction: Direction,
        families: Families,
    ) -> Vec<RulePlan> {
        if rules.len() > MOST_RULES {
            self.say(field, format!("{} rules are more than {MOST_RULES}", rules.len()));
            return Vec::new();
        }
        let before = self.problems.len();
        let checked: Vec<_> = rules
            .iter()
            .enumerate()
            .map(|(n, rule)| self.rule(&format!("{field}[{}]", n + 1), rule, direction, families))
            .collect();
        if self.problems.len() == before
            && let Some((earlier, later)) = covers::contradiction(&checked)
        {
            let what = format!(
                "'{}' is never reached: rule {}, '{}', decides all that it is about",
                rules[later],
                earlier + 1,
                rules[earlier]
            );
            self.say(format!("{field}[{}]", later + 1), what);
        }
        checked
    }

    fn rule(&mut self, field: &str, rule: &Rule, direction: Direction, families: Families) -> RulePlan {
        let ports = ports(&rule.ports).unwrap_or_else(|what| {
            self.say(format!("{field}.ports"), what);
            Vec::new()
        });
        if !rule.ports.is_empty() && !rule.proto.has_ports() {
            let what = format!("{} has no ports; tcp, udp and sctp have", rule.proto.as_str());
            self.say(format!("{field}.ports"), what);
        }
        let (peers, word, other, stray) = match direction {
            Direction::In => (&rule.from, "from", "to", &rule.to),
            Direction::Out => (&rule.to, "to", "from", &rule.from),
        };
        if !stray.is_empty() {
            let what = format!("a rule of direction {} is about '{word}'", direction.as_str());
            self.say(format!("{field}.{other}"), what);
        }
        if let Some(note) = &rule.note
            && (note.chars().count() > 200 || note.chars().any(char::is_control))
        {
            self.say(
                format!("{field}.note"),
                "it has 200 characters at most, none of them a control character",
            );
        }
        let field = format!("{field}.{word}");
        let (sets, literal): (Vec<_>, Vec<_>) = peers.iter().cloned().partition(|p| p.starts_with("set:"));
        let nets = self.nets(&field, &literal, MOST_PEERS);
        let sets = self.sets(&field, &sets);
        self.family(&field, &nets, &sets, families);
        RulePlan { action: rule.action, proto: rule.proto, ports, nets, sets, log: rule.log }
    }

    fn sets(&mut self, field: &str, peers: &[String]) -> Vec<String> {
        let names: Vec<String> = peers.iter().map(|peer| peer["set:".len()..].to_owned()).collect();
        for name in &names {
            if !self.policy.sets.contains_key(name) {
                let what = missing("set", name, self.policy.sets.keys().map(String::as_str));
                self.say(field, what);
            }
        }
        names
    }

    /// A rule for addresses of one family, about somebody who only speaks the other.
    fn family(&mut self, field: &str, nets: &[IpNetwork], sets: &[String], families: Families) {
        // A set may be filled later.
        if nets.is_empty() || !sets.is_empty() || nets.iter().any(|net| families.meets(net.is_ipv4())) {
            return;
        }
        let (here, there) = if nets[0].is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        self.say(field, format!("{here} addresses never meet what has {there} only"));
    }

    fn nets(&mut self, field: &str, texts: &[String], most: usize) -> Vec<IpNetwork> {
        if texts.len() > most {
            self.say(field, format!("{} addresses are more than {most}", texts.len()));
            return Vec::new();
        }
        let mut nets = Vec::with_capacity(texts.len());
        for (n, text) in texts.iter().enumerate() {
            match address::parse(text) {
                Ok(net) => nets.push(net),
                Err(what) => self.say(format!("{field}[{}]", n + 1), what),
            }
        }
        nets
    }

    fn label(&mut self, field: &str, name: &str) {
        if !is_label(name) {
            self.say(field, format!("'{name}' is no name: 1 to 15 of a-z, 0-9 and '-', a letter first"));
        }
    }

    fn forward(&mut self, field: &str, forward: &Forward, containers: &[ContainerPlan]) -> Vec<ForwardPlan> {
        let Some(container) = containers.iter().find(|c| c.name.as_str() == forward.container) else {
            let all = containers.iter().map(|c| c.name.as_str());
            let what = missing("container", &forward.container, all);
            self.say(format!("{field}.container"), what);
            return Vec::new();
        };
        if !forward.proto.has_ports() {
            let what = format!("{} has no ports; tcp, udp and sctp have", forward.proto.as_str());
            self.say(format!("{field}.proto"), what);
        }
        let listen = self.listen(field, &forward.address);
        let (Some(ports), Some(to)) = (
            self.one_range(&format!("{field}.listen"), &forward.listen),
            self.one_range(
                &format!("{field}.to"),
                if forward.to.is_empty() { &forward.listen } else { &forward.to },
            ),
        ) else {
            return Vec::new();
        };
        if ports.1 - ports.0 != to.1 - to.0 {
            self.say(
                format!("{field}.to"),
                format!("{} and {} are not equally many ports", forward.listen, forward.to),
            );
            return Vec::new();
        }
        let wanted = |v4: bool| listen.is_none_or(|ip| ip.is_ipv4() == v4);
        let first = |v4: bool| container.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let targets: Vec<IpAddr> =
            [true, false].into_iter().filter(|v4| wanted(*v4)).filter_map(first).collect();
        if targets.is_empty() {
            let family = match listen {
                None => "address",
                Some(ip) if ip.is_ipv4() => "IPv4 address",
                Some(_) => "IPv6 address",
            };
            let what = format!("container '{}' has no {family} that the host routes to", forward.container);
            self.say(format!("{field}.container"), what);
        }
        let one = |target: &IpAddr, n: u16| ForwardPlan {
            container: container.id.clone(),
            proto: forward.proto,
            listen,
            port: ports.0 + n,
            to: *target,
            to_port: to.0 + n,
        };
        targets.iter().flat_map(|target| (0..=ports.1 - ports.0).map(move |n| one(target, n))).collect()
    }

    fn listen(&mut self, field: &str, text: &str) -> Option<IpAddr> {
        if text.is_empty() {
            return None;
        }
        let ip = text.parse::<IpAddr>().ok();
        match ip {
            Some(ip) if !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() => Some(ip),
            Some(ip) if ip.is_loopback() => {
                self.say(
                    format!("{field}.address"),
                    "packets to the loopback cannot be forwarded; leave it out for any address",
                );
                None
            }
            _ => {
                self.say(
                    format!("{field}.address"),
                    format!("'{text}' is not an address of the host's; leave it out for any"),
                );
                None
            }
        }
    }

    fn one_range(&mut self, field: &str, text: &str) -> Option<(u16, u16)> {
        match range(text) {
            Ok((first, last)) if last - first < WIDEST_FORWARD => Some((first, last)),
            Ok(_) => {
                self.say(field, format!("a forward has {WIDEST_FORWARD} ports at most"));
                None
            }
            Err(what) => {
                self.say(field, what);
                None
            }
        }
    }

    /// Two forwards that would listen at the same port.
    fn taken(&mut self, field: &str, made: &[ForwardPlan], before: &[ForwardPlan]) {
        let same = |a: &ForwardPlan, b: &ForwardPlan| {
            let address = match (a.listen, b.listen) {
                (Some(a), Some(b)) => a == b,
                _ => a.to.is_ipv4() == b.to.is_ipv4(),
            };
            a.proto == b.proto && a.port == b.port && address
        };
        let clash = made.iter().find_map(|new| before.iter().find(|old| same(new, old)));
        if let Some(old) = clash {
            let what = format!("{} port {} is forwarded to {} already", old.proto.as_str(), old.port, old.to);
            self.say(format!("{field}.listen"), what);
        }
    }
}

fn missing<'a>(kind: &str, name: &str, all: impl Iterator<Item = &'a str>) -> String {
    match suggest::nearest(name, all) {
        Some(near) => format!("there is no {kind} '{name}'; did you mean '{near}'?"),
        None => format!("there is no {kind} '{name}'"),
    }
}

/// The addresses of a container at which the host sees its packets.
fn filtered(member: &Member, networks: &[Network]) -> Vec<IpAddr> {
    let seen = |nic: &Nic| match &nic.kind {
        NicKind::Bridged { network } => networks.iter().any(|n| n.name == *network && !n.foreign),
        NicKind::Routed => true,
        NicKind::Macvlan { .. } => false,
    };
    member.nics.iter().filter(|(_, nic)| seen(nic)).flat_map(|(_, nic)| nic.addresses()).collect()
}

fn links(member: &Member, networks: &[Network]) -> Vec<LinkPlan> {
    let bridge = |name: &str| networks.iter().find(|n| n.name == name).map(|n| n.bridge.clone());
    let link = |(link, nic): &(String, Nic)| match &nic.kind {
        NicKind::Bridged { network } => {
            bridge(network).map(|bridge| LinkPlan { link: link.clone(), bridge: Some(bridge) })
        }
        NicKind::Routed => Some(LinkPlan { link: link.clone(), bridge: None }),
        NicKind::Macvlan { .. } => None,
    };
    member.nics.iter().filter_map(link).collect()
}

/// Guests of a network reach one another without the host, unless something is said of one of them.
fn route(plan: &mut Plan) {
    let named: Vec<String> = plan
        .containers
        .iter()
        .filter(|container| container.has_policy())
        .flat_map(|container| container.links.iter().filter_map(|link| link.bridge.clone()))
        .collect();
    for network in &mut plan.networks {
        network.routed = network.has_policy() || named.contains(&network.bridge);
    }
}

#[cfg(test)]
mod tests;
