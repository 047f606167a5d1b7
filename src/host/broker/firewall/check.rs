//! Whether everything that a plan names belongs to the caller. The caller is not trusted: names become
//! parts of the kernel's tables, and addresses decide whose packets a rule is about.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::bounds::{Bounds, MOST_ADDRESSES};
use super::error::{FirewallError, FirewallResult};
use crate::model::firewall::plan::{
    ContainerPlan, ForwardPlan, GroupPlan, LinkPlan, NetworkPlan, Plan, RulesPlan,
};
use crate::model::firewall::{Change, is_label};
use crate::model::name::ContainerId;
use crate::model::network::{Nat, is_interface_name, is_network_name};
use crate::model::nic::MOST_NICS;

/// Bounds of one plan.
const MOST_CONTAINERS: usize = 65_536;
const MOST_FORWARDS: usize = 65_536;
const MOST_RULES: usize = 256;
const MOST_NETS: usize = 65_536;

type LinkTest = Box<dyn Fn(&ContainerId, &str) -> bool + Send + Sync>;

/// What belongs to a caller.
pub struct Owned {
    /// The name of its tables.
    pub owner: String,
    /// The instance's name, which begins the name of the table that keeps owners apart.
    pub instance: String,
    /// Its bridges, each with its subnets; those of a bridge of the host's own are none.
    pub bridges: BTreeMap<String, Vec<IpNetwork>>,
    /// The subnets in which addresses may be routed to single guests.
    pub routed: Vec<IpNetwork>,
    /// Whether a link is one of this container's.
    pub link: LinkTest,
    /// The host's ports that may lead to its guests.
    pub ports: Ports,
    /// Addresses that its guests may go out with, besides the outgoing interface's; None: any.
    pub nat: Option<Vec<IpNetwork>>,
    /// How much an ordinary user may have the kernel keep; None: any.
    pub bounds: Option<Bounds>,
}

/// Which of the host's ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    /// First and last of each range that may be had at any of the host's addresses.
    pub anywhere: Vec<(u16, u16)>,
    /// Where any port may be had; None: at every address.
    pub at: Option<Vec<IpNetwork>>,
}

impl Ports {
    /// All ports at all addresses.
    pub fn all() -> Self {
        Self { anywhere: vec![(1, u16::MAX)], at: None }
    }

    fn allow(&self, forward: &ForwardPlan) -> bool {
        match (forward.listen, &self.at) {
            (None, _) => self.anywhere.iter().any(|(first, last)| (*first..=*last).contains(&forward.port)),
            (Some(_), None) => true,
            (Some(ip), Some(nets)) => nets.iter().any(|net| net.contains(ip)),
        }
    }
}

fn refused<T>(what: impl Into<String>) -> FirewallResult<T> {
    Err(FirewallError::Refused(what.into()))
}

impl Owned {
    /// Checks a whole plan. Errors: something that it names does not belong to the caller.
    pub fn check(&self, plan: &Plan) -> FirewallResult<()> {
        if plan.containers.len() > MOST_CONTAINERS {
            return refused(format!("{} containers are too many", plan.containers.len()));
        }
        if let Some(bounds) = self.bounds {
            bounds.check(plan)?;
        }
        self.check_sets(&plan.sets)?;
        self.check_networks(&plan.networks)?;
        self.check_groups(&plan.groups)?;
        self.check_containers(&plan.containers)?;
        self.check_forwards(&plan.forwards)?;
        for rules in all_rules(&plan.networks, &plan.groups, &plan.containers) {
            let sets = rules.inward.iter().chain(&rules.outward).flat_map(|rule| &rule.sets);
            if let Some(missing) = sets.into_iter().find(|set| !plan.sets.contains_key(*set)) {
                return refused(format!("there is no set '{missing}'"));
            }
        }
        let groups: BTreeSet<&str> = plan.groups.iter().map(|group| group.name.as_str()).collect();
        let named = plan.containers.iter().flat_map(|container| &container.groups);
        match named.into_iter().find(|group| !groups.contains(group.as_str())) {
            Some(missing) => refused(format!("there is no group '{missing}'")),
            None => Ok(()),
        }
    }

    /// The kernel tells whether the sets and groups that it names exist.
    pub fn check_change(&self, change: &Change) -> FirewallResult<()> {
        if let Some(bounds) = self.bounds {
            bounds.check_change(change)?;
        }
        self.check_sets(&change.sets)?;
        self.check_networks(&change.networks)?;
        self.check_groups(&change.groups)?;
        self.check_containers(&change.containers)?;
        self.check_forwards(change.forwards.as_deref().unwrap_or_default())?;
        let labels = change.gone_sets.iter().chain(&change.gone_groups);
        labels.into_iter().try_for_each(|name| label(name))
    }

    fn check_sets(&self, sets: &BTreeMap<String, Vec<IpNetwork>>) -> FirewallResult<()> {
        for (name, nets) in sets {
            label(name)?;
            if nets.len() > MOST_NETS {
                return refused(format!("set '{name}' is too large"));
            }
        }
        Ok(())
    }

    fn check_networks(&self, networks: &[NetworkPlan]) -> FirewallResult<()> {
        let mut seen = BTreeSet::new();
        for network in networks {
            let bridge = network.bridge.as_str();
            let good = is_interface_name(bridge) && is_network_name(&network.name) && seen.insert(bridge);
            let Some(subnets) = self.bridges.get(bridge).filter(|_| good) else {
                return refused(format!("'{bridge}' is not a network of yours"));
            };
            let own = |net: IpNetwork| subnets.iter().any(|own| within(*own, net));
            let nets = network.ipv4.map(IpNetwork::V4).into_iter().chain(network.ipv6.map(IpNetwork::V6));
            if let Some(strange) = nets.into_iter().find(|net| !own(*net)) {
                return refused(format!("{strange} is not a subnet of '{bridge}'"));
            }
            for (nat, v4) in [(network.nat4, true), (network.nat6, false)] {
                if let Nat::To(ip) = nat
                    && (ip.is_ipv4() != v4
                        || self.nat.as_ref().is_some_and(|some| !some.iter().any(|net| net.contains(ip))))
                {
                    return refused(format!("your guests may not go out with the address {ip}"));
                }
            }
            check_rules(&network.rules)?;
        }
        Ok(())
    }

    fn check_groups(&self, groups: &[GroupPlan]) -> FirewallResult<()> {
        let mut seen = BTreeSet::new();
        for group in groups {
            label(&group.name)?;
            check_rules(&group.rules)?;
            if !seen.insert(group.name.as_str()) {
                return refused(format!("group '{}' is there twice", group.name));
            }
        }
        Ok(())
    }

    fn check_containers(&self, containers: &[ContainerPlan]) -> FirewallResult<()> {
        let (mut ids, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for container in containers {
            if !ids.insert(&container.id) {
                return refused(format!("container {} is there twice", container.id));
            }
            self.check_links(&container.id, &container.links)?;
            if container.addresses.len() > MOST_ADDRESSES {
                return refused(format!(
                    "container {} has more than {MOST_ADDRESSES} addresses",
                    container.id
                ));
            }
            for ip in &container.addresses {
                self.check_guest(*ip)?;
                if !addresses.insert(*ip) {
                    return refused(format!("two containers have the address {ip}"));
                }
            }
            container.groups.iter().try_for_each(|name| label(name))?;
            check_rules(&container.rules)?;
        }
        Ok(())
    }

    /// Checks a container's links. Errors: one is not a link of this container, or its bridge is not the
    /// caller's.
    pub fn check_links(&self, id: &ContainerId, links: &[LinkPlan]) -> FirewallResult<()> {
        if links.len() > usize::from(MOST_NICS) {
            return refused(format!("container {id} has more than {MOST_NICS} links"));
        }
        for LinkPlan { link, bridge } in links {
            if !is_interface_name(link) || !(self.link)(id, link) {
                return refused(format!("'{link}' is not a link of container {id}"));
            }
            if let Some(bridge) = bridge.as_ref().filter(|bridge| !self.bridges.contains_key(*bridge)) {
                return refused(format!("'{bridge}' is not a network of yours"));
            }
        }
        Ok(())
    }

    /// An address that a guest of this caller's may have.
    pub fn check_guest(&self, ip: IpAddr) -> FirewallResult<()> {
        let mut own = self.bridges.values().flatten().chain(&self.routed);
        match own.any(|net| net.contains(ip)) {
            true => Ok(()),
            false => {
                refused(format!("{ip} is not an address of your networks, nor one that your grant holds"))
            }
        }
    }

    fn check_forwards(&self, forwards: &[ForwardPlan]) -> FirewallResult<()> {
        if forwards.len() > MOST_FORWARDS {
            return refused(format!("{} forwards are too many", forwards.len()));
        }
        let mut seen = BTreeSet::new();
        for forward in forwards {
            self.check_guest(forward.to)?;
            let (proto, port) = (forward.proto.as_str(), forward.port);
            if !forward.proto.has_ports() || port == 0 || forward.to_port == 0 {
                return refused(format!("{proto} port {port} cannot be forwarded"));
            }
            if !self.ports.allow(forward) {
                let at = forward.listen.map_or_else(|| "any address".to_owned(), |ip| ip.to_string());
                let way = "an administrator grants ports: nagaya grant USER ports=FIRST-LAST";
                return refused(format!("you may not have {proto} port {port} at {at}; {way}"));
            }
            if forward.listen.is_some_and(|ip| ip.is_ipv4() != forward.to.is_ipv4()) {
                return refused(format!("{proto} port {port} cannot lead to {}", forward.to));
            }
            if !seen.insert((proto, forward.listen, forward.to.is_ipv4(), port)) {
                return refused(format!("{proto} port {port} is forwarded twice"));
            }
        }
        Ok(())
    }
}

fn all_rules<'a>(
    networks: &'a [NetworkPlan],
    groups: &'a [GroupPlan],
    containers: &'a [ContainerPlan],
) -> impl Iterator<Item = &'a RulesPlan> {
    let groups = groups.iter().map(|g| &g.rules);
    networks.iter().map(|n| &n.rules).chain(groups).chain(containers.iter().map(|c| &c.rules))
}

fn within(outer: IpNetwork, inner: IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.ip())
}

fn label(name: &str) -> FirewallResult<()> {
    match is_label(name) {
        true => Ok(()),
        false => refused(format!("'{name}' cannot name a set or a group")),
    }
}

fn check_rules(rules: &RulesPlan) -> FirewallResult<()> {
    for list in [&rules.inward, &rules.outward] {
        if list.len() > MOST_RULES {
            return refused(format!("{} rules in one list are too many", list.len()));
        }
        for rule in list {
            rule.sets.iter().try_for_each(|name| label(name))?;
            let ports = rule.ports.iter().all(|(first, last)| 0 < *first && first <= last);
            if !ports || rule.ports.len() > 64 || (!rule.ports.is_empty() && !rule.proto.has_ports()) {
                return refused("a rule's ports make no sense");
            }
            if rule.nets.len() > 1024 {
                return refused("a rule has too many addresses");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::broker::firewall::packet_tests::owned;
    use crate::model::firewall::fixture::plan;

    fn full() -> Plan {
        plan(
            "[groups.g]\n[sets]\ns = []\n[containers.web01]\ngroups = [\"g\"]\nin = [{ action = \"deny\", from = [\"set:s\"] }]\n[[forwards]]\ncontainer = \"web01\"\nproto = \"tcp\"\nlisten = \"80\"",
        )
    }

    #[test]
    fn a_plan_of_ones_own_things_passes() {
        owned().check(&full()).unwrap();
        let change = Change { containers: full().containers, ..Change::default() };
        owned().check_change(&change).unwrap();
    }

    #[test]
    fn what_is_anothers_is_refused() {
        type Edit = fn(&mut Plan);
        let edits: [(&str, Edit); 20] = [
            ("bridge", |p| p.networks[0].bridge = "docker0".into()),
            ("bridge name", |p| p.networks[0].bridge = "lan0 accept".into()),
            ("network's name", |p| p.networks[0].name = "a\"b".into()),
            ("same bridge twice", |p| p.networks[1].bridge = p.networks[0].bridge.clone()),
            ("subnet", |p| p.networks[0].ipv4 = "10.0.0.1/8".parse().ok()),
            ("subnet beside", |p| p.networks[0].ipv4 = "10.9.0.1/24".parse().ok()),
            ("outgoing address", |p| p.networks[0].nat4 = Nat::To("203.0.113.1".parse().unwrap())),
            ("link", |p| p.containers[0].links[0].link = "eth0".into()),
            ("other's link", |p| p.containers[0].links[0].link = "ng00000002".into()),
            ("link's bridge", |p| p.containers[0].links[0].bridge = Some("docker0".into())),
            ("address", |p| p.containers[0].addresses[0] = "192.168.1.1".parse().unwrap()),
            ("same address", |p| p.containers[0].addresses = p.containers[1].addresses.clone()),
            ("same id", |p| p.containers[0].id = p.containers[1].id.clone()),
            ("group's name", |p| p.groups[0].name = "a b".into()),
            ("missing group", |p| p.containers[0].groups = vec!["other".into()]),
            ("missing set", |p| p.sets.clear()),
            ("forward elsewhere", |p| p.forwards[0].to = "192.168.1.1".parse().unwrap()),
            ("forward twice", |p| p.forwards.push(p.forwards[0].clone())),
            ("forward of families", |p| p.forwards[0].listen = "2001:db8::1".parse().ok()),
            ("ports", |p| p.containers[0].rules.inward[0].ports = vec![(1, 2)]),
        ];
        for (what, edit) in edits {
            let mut plan = full();
            edit(&mut plan);
            let refused = matches!(owned().check(&plan), Err(FirewallError::Refused(_)));
            assert!(refused, "{what}");
        }
    }

    #[test]
    fn ports_and_addresses_are_granted() {
        let mut owned = owned();
        owned.ports = Ports { anywhere: vec![(20_000, 20_999)], at: Some(Vec::new()) };
        assert!(owned.check(&full()).is_err());
        let mut plan = full();
        plan.forwards.iter_mut().for_each(|forward| forward.port = 20_500);
        owned.check(&plan).unwrap();
        plan.forwards.truncate(1);
        plan.forwards[0].listen = "203.0.113.1".parse().ok();
        assert!(owned.check(&plan).is_err());
        owned.ports.at = Some(vec!["203.0.113.0/29".parse().unwrap()]);
        plan.forwards[0].port = 80;
        owned.check(&plan).unwrap();
    }
}
