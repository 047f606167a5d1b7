//! What would happen to a packet, and what decides that.

use std::net::IpAddr;

use super::block::Block;
use super::plan::{ContainerPlan, NetworkPlan, Plan, RulePlan};
use super::policy::{Action, Direction, Policy, Proto, Target};

/// The first packet of a connection between a container and somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The container's name.
    pub container: &'a str,
    /// As the container sees it.
    pub direction: Direction,
    /// Its protocol above IP.
    pub proto: Proto,
    /// The other side's address.
    pub peer: IpAddr,
    /// The port that it is sent to.
    pub port: Option<u16>,
    /// It came by a port of the host's that leads to the container.
    pub forwarded: bool,
}

/// What is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the kernel does with it.
    pub action: Action,
    /// Continues "the packet is".
    pub why: String,
}

impl Decision {
    fn new(action: Action, why: impl std::fmt::Display) -> Self {
        Self { action, why: format!("{} {why}", action.done()) }
    }
}

/// Follows the packet as the kernel does. `blocks` are those that hold now.
///
/// # Errors
/// Why it cannot be such a packet.
pub fn trace(
    plan: &Plan,
    policy: &Policy,
    blocks: &[Block],
    packet: &Packet<'_>,
) -> Result<Decision, String> {
    let name = packet.container;
    let container = plan.container(name).ok_or_else(|| format!("there is no container '{name}'"))?;
    if container.addresses.is_empty() {
        return Err(format!("no address of container '{name}' passes through the host"));
    }
    if !container.addresses.iter().any(|ip| ip.is_ipv4() == packet.peer.is_ipv4()) {
        return Err(format!("container '{name}' has no address of the family of {}", packet.peer));
    }
    if let Some(block) = blocking(blocks, packet) {
        return Ok(Decision::new(Action::Deny, block_text(block)));
    }
    let host = plan.networks.iter().any(|network| network.is_gateway(packet.peer));
    if host && packet.direction == Direction::In {
        return Ok(Decision::new(Action::Allow, "because it is the host's own"));
    }
    if host && is_service(packet) {
        return Ok(Decision::new(Action::Allow, "because the host's DHCP and DNS are always within reach"));
    }
    let decision = follow(plan, policy, container, packet);
    let Some(other) = plan.owner_of(packet.peer).filter(|_| decision.action == Action::Allow) else {
        return Ok(decision);
    };
    Ok(beyond(plan, policy, container, other, packet).unwrap_or(decision))
}

/// What the rules of the other end say, where that is a container too, and only if they object.
fn beyond(
    plan: &Plan,
    policy: &Policy,
    container: &ContainerPlan,
    other: &ContainerPlan,
    packet: &Packet<'_>,
) -> Option<Decision> {
    let direction = if packet.direction == Direction::In { Direction::Out } else { Direction::In };
    let same = |ip: &&IpAddr| ip.is_ipv4() == packet.peer.is_ipv4();
    let peer = container.addresses.iter().find(same).copied()?;
    let there = Packet { container: other.name.as_str(), direction, peer, ..*packet };
    Some(follow(plan, policy, other, &there)).filter(|decision| decision.action != Action::Allow)
}

fn follow(plan: &Plan, policy: &Policy, container: &ContainerPlan, packet: &Packet<'_>) -> Decision {
    let direction = packet.direction;
    let own = Target::Container(packet.container.to_owned());
    let network = network_of(plan, container, packet.peer);
    let groups = container.groups.iter().filter_map(|name| plan.group(name));
    let groups = groups.map(|group| (Target::Group(group.name.clone()), group.rules.of(direction)));
    let networks = network.map(|n| (Target::Network(n.name.clone()), n.rules.of(direction)));
    let lists = std::iter::once((own.clone(), container.rules.of(direction))).chain(groups).chain(networks);
    for (target, rules) in lists {
        if let Some(n) = rules.iter().position(|rule| matches(plan, rule, packet)) {
            let text = policy.rules(&target, direction).get(n).map(ToString::to_string).unwrap_or_default();
            let why = format!("by rule {} of {target}, direction {} ({text})", n + 1, direction.as_str());
            return Decision::new(rules[n].action, why);
        }
    }
    let (target, action) = match (container.default(direction), network) {
        (Some(action), _) => (own, action),
        (None, Some(network)) => (Target::Network(network.name.clone()), network.default(direction)),
        (None, None) => (own, Action::Allow),
    };
    if action != Action::Allow && direction == Direction::In && packet.forwarded {
        return Decision::new(Action::Allow, "by the forward, which goes before a default");
    }
    Decision::new(action, format!("by the default of {target}, direction {}", direction.as_str()))
}

/// The network by which the container meets the peer: that which holds the peer, else its first.
fn network_of<'a>(plan: &'a Plan, container: &ContainerPlan, peer: IpAddr) -> Option<&'a NetworkPlan> {
    let bridges = || container.links.iter().map(|link| link.bridge.as_deref());
    let near = bridges().flatten().filter_map(|b| plan.network_of(b)).find(|n| n.holds(peer));
    near.or_else(|| bridges().next().flatten().and_then(|bridge| plan.network_of(bridge)))
}

fn matches(plan: &Plan, rule: &RulePlan, packet: &Packet<'_>) -> bool {
    let proto = rule.proto == Proto::Any || rule.proto == packet.proto;
    let within = |port: u16| rule.ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
    let ports = rule.ports.is_empty() || packet.port.is_some_and(within);
    let sets = rule.sets.iter().filter_map(|name| plan.sets.get(name)).flatten();
    let everybody = rule.nets.is_empty() && rule.sets.is_empty();
    proto && ports && (everybody || rule.nets.iter().chain(sets).any(|net| net.contains(packet.peer)))
}

fn blocking<'a>(blocks: &'a [Block], packet: &Packet<'_>) -> Option<&'a Block> {
    let mine = |block: &&Block| {
        block.address.contains(packet.peer)
            && block.container.as_ref().is_none_or(|name| name.as_str() == packet.container)
    };
    blocks.iter().filter(mine).max_by_key(|block| (block.container.is_some(), block.address.prefix()))
}

fn block_text(block: &Block) -> String {
    let from = match &block.container {
        Some(name) => format!("container {name}"),
        None => "all containers".to_owned(),
    };
    let reason = block.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("by the block of {} for {from}{reason}", super::address::text(block.address))
}

/// What a guest may always ask of the host.
fn is_service(packet: &Packet<'_>) -> bool {
    match packet.proto {
        Proto::Udp => matches!(packet.port, Some(53 | 67 | 547)),
        Proto::Tcp => packet.port == Some(53),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::{office_and_web, plan, policy};

    const POLICY: &str = concat!(
        office_and_web!(),
        r#"
out = [{ action = "reject", proto = "tcp", ports = "25" }]
[networks.lan]
default-in = "deny"
in = [{ action = "allow", proto = "icmp" }]
[containers.web01]
groups = ["web"]
in = [{ action = "deny", from = ["198.51.100.66"] }, { action = "allow", proto = "tcp", ports = "22", from = ["set:office"] }]
[containers.old01]
default-in = "reject"
"#
    );

    /// `asked` is a container, a direction, a protocol, the other end and, where there are some, a port.
    fn decided(asked: &str) -> String {
        let blocks = [Block {
            address: "203.0.113.0/24".parse().unwrap(),
            container: None,
            until: None,
            reason: Some("scans".into()),
            created_at: 0,
        }];
        let words: Vec<&str> = asked.split(' ').collect();
        let packet = Packet {
            container: words[0],
            direction: if words[1] == "in" { Direction::In } else { Direction::Out },
            proto: words[2].parse().unwrap(),
            peer: words[3].parse().unwrap(),
            port: words.get(4).map(|port| port.parse().unwrap()),
            forwarded: false,
        };
        trace(&plan(POLICY), &policy(POLICY), &blocks, &packet).map_or_else(|e| e, |d| d.why)
    }

    #[test]
    fn every_decision_names_what_made_it() {
        let by_set = "allowed by rule 2 of container web01, direction in (allow tcp 22 from set:office)";
        for (asked, why) in [
            (
                "web01 in tcp 198.51.100.66 80",
                "denied by rule 1 of container web01, direction in (deny any from 198.51.100.66)",
            ),
            ("web01 in tcp 198.51.100.7 22", by_set),
            ("web01 in tcp 2001:db8:1::7 22", by_set),
            ("web01 in tcp 192.0.2.1 443", "allowed by rule 1 of group web, direction in (allow tcp 80,443)"),
            ("web01 in icmp 192.0.2.1", "allowed by rule 1 of network lan, direction in (allow icmp)"),
            ("web01 in udp 192.0.2.1 80", "denied by the default of network lan, direction in"),
            (
                "web01 in tcp 203.0.113.9 80",
                "denied by the block of 203.0.113.0/24 for all containers (scans)",
            ),
            ("web01 out tcp 192.0.2.1 25", "rejected by rule 1 of group web, direction out (reject tcp 25)"),
            ("web01 out tcp 192.0.2.1 80", "allowed by the default of network lan, direction out"),
            ("web01 out tcp 10.7.0.3 80", "denied by the default of network lan, direction in"),
            ("web01 in tcp 10.7.0.1 9", "allowed because it is the host's own"),
            ("web01 out udp 10.7.0.1 53", "allowed because the host's DHCP and DNS are always within reach"),
            ("old01 in tcp 192.0.2.1 80", "rejected by the default of container old01, direction in"),
            ("far01 in tcp 192.0.2.1 80", "allowed by the default of container far01, direction in"),
            ("old01 in tcp fd00::1 80", "container 'old01' has no address of the family of fd00::1"),
            ("out01 in tcp 192.0.2.1 80", "no address of container 'out01' passes through the host"),
            ("nobody in tcp 192.0.2.1 80", "there is no container 'nobody'"),
        ] {
            assert_eq!(decided(asked), why, "{asked}");
        }
    }

    #[test]
    fn a_forward_goes_before_a_default_but_not_before_a_rule() {
        let mut packet = Packet {
            container: "db01",
            direction: Direction::In,
            proto: Proto::Tcp,
            peer: "192.0.2.1".parse().unwrap(),
            port: Some(5432),
            forwarded: true,
        };
        let ask = |packet: &Packet<'_>| trace(&plan(POLICY), &policy(POLICY), &[], packet).unwrap().action;
        assert_eq!(ask(&packet), Action::Allow);
        packet.forwarded = false;
        assert_eq!(ask(&packet), Action::Deny);
        packet.container = "web01";
        (packet.forwarded, packet.peer) = (true, "198.51.100.66".parse().unwrap());
        assert_eq!(ask(&packet), Action::Deny);
    }
}
