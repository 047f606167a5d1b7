//! Questions about the firewall that change nothing.

use std::net::IpAddr;

use super::edit::{check_target, no_such};
use super::facts::facts;
use super::policy::check_forwards;
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::model::firewall::difference::difference;
use crate::model::firewall::policy::{Action, Direction, Forward, Proto, Target};
use crate::model::firewall::trace::{self, Decision, Packet};
use crate::model::firewall::traffic::{RuleCount, Traffic};
use crate::model::firewall::{Facts, Plan, Policy};
use crate::model::name::Name;
use crate::sys::kernel::clock::now;

/// A rule or a default, with the packets that it has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    pub target: Target,
    pub direction: Direction,
    /// None for a default.
    pub number: Option<usize>,
    pub action: Action,
    pub proto: Proto,
    pub ports: String,
    /// From whom, or to whom.
    pub peers: Vec<String>,
    pub log: bool,
    pub note: Option<String>,
    pub packets: u64,
    pub bytes: u64,
}

/// A packet that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub container: Name,
    pub direction: Direction,
    pub proto: Proto,
    pub peer: IpAddr,
    pub port: Option<u16>,
}

/// All rules in the order of the document, or those of one target. For a container, all rules that hold for
/// it in the order in which they decide, each with its target: its own, its groups', its networks', the
/// default.
pub fn rules(app: &mut App, only: Option<&Target>) -> AppResult<Vec<RuleRow>> {
    let (policy, facts) = (app.store.policy()?, facts(app)?);
    let counts: Vec<RuleCount> = app.broker.rule_counts()?;
    if let Some(target) = only {
        check_target(app, target)?;
    }
    let targets = match only {
        Some(Target::Container(name)) => return effective(&policy, &facts, name, &counts),
        Some(Target::Group(name)) if !policy.groups.contains_key(name) => {
            return Err(no_such("group", name, policy.groups.keys().cloned()));
        }
        Some(target) => vec![target.clone()],
        None => policy.targets(),
    };
    let mut rows = Vec::new();
    for target in targets {
        let chain = chain(&facts, &target)?;
        for direction in Direction::BOTH {
            rows.extend(listed(&policy, &target, direction, &chain, &counts));
        }
    }
    Ok(rows)
}

fn effective(policy: &Policy, facts: &Facts, name: &str, counts: &[RuleCount]) -> AppResult<Vec<RuleRow>> {
    let own = Target::Container(name.to_owned());
    let mut targets = vec![own.clone()];
    let groups = policy.containers.get(name).map(|own| own.groups.clone()).unwrap_or_default();
    targets.extend(groups.into_iter().map(Target::Group));
    let member = facts.containers.iter().find(|member| member.name.as_str() == name);
    for network in member.iter().flat_map(|member| &member.nics).filter_map(|(_, nic)| nic.network()) {
        let target = Target::Network(network.to_owned());
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        let has_own = default(policy, &own, direction).is_some();
        let mut defaults = Vec::new();
        for target in &targets {
            let listed = listed(policy, target, direction, &chain(facts, target)?, counts);
            let (last, rules): (Vec<_>, Vec<_>) = listed.into_iter().partition(|row| row.number.is_none());
            rows.extend(rules);
            // The container's default goes before those of its networks.
            defaults.extend(last.into_iter().filter(|_| *target == own || !has_own));
        }
        rows.extend(defaults);
    }
    Ok(rows)
}

/// The parts of chain names that belong to a target: for its rules, and for its default.
fn chain(facts: &Facts, target: &Target) -> AppResult<(String, String)> {
    let missing = || AppError::Refused(format!("there is no {target}"));
    Ok(match target {
        Target::Group(name) => (format!("g-{name}"), format!("g-{name}")),
        Target::Container(name) => {
            let found = facts.containers.iter().find(|member| member.name.as_str() == name);
            let chain = format!("c-{}", found.ok_or_else(missing)?.id);
            (chain.clone(), chain)
        }
        Target::Network(name) => {
            let found = facts.networks.iter().find(|network| network.name == *name);
            let bridge = &found.ok_or_else(missing)?.bridge;
            (format!("n-{bridge}"), format!("d-{bridge}"))
        }
    })
}

fn listed(
    policy: &Policy,
    target: &Target,
    direction: Direction,
    (chain, default_chain): &(String, String),
    counts: &[RuleCount],
) -> Vec<RuleRow> {
    let counted = |chain: &str, rule: &str| {
        let chain = format!("{chain}-{}", direction.as_str());
        let found = counts.iter().find(|count| count.chain == chain && count.rule == rule);
        found.map_or((0, 0), |count| (count.packets, count.bytes))
    };
    let rules = policy.rules(target, direction).iter().enumerate().map(|(n, rule)| {
        let (packets, bytes) = counted(chain, &format!("rule {}", n + 1));
        RuleRow {
            target: target.clone(),
            direction,
            number: Some(n + 1),
            action: rule.action,
            proto: rule.proto,
            ports: rule.ports.clone(),
            peers: if direction == Direction::In { rule.from.clone() } else { rule.to.clone() },
            log: rule.log,
            note: rule.note.clone(),
            packets,
            bytes,
        }
    });
    let default = default(policy, target, direction).map(|action| {
        let (packets, bytes) = counted(default_chain, "default");
        RuleRow {
            target: target.clone(),
            direction,
            number: None,
            action,
            proto: Proto::Any,
            ports: String::new(),
            peers: Vec::new(),
            log: false,
            note: None,
            packets,
            bytes,
        }
    });
    rules.chain(default).collect()
}

fn default(policy: &Policy, target: &Target, direction: Direction) -> Option<Action> {
    let (inward, outward) = match target {
        Target::Container(name) => policy.containers.get(name).map(|c| (c.default_in, c.default_out)),
        Target::Network(name) => policy.networks.get(name).map(|n| (n.default_in, n.default_out)),
        Target::Group(_) => None,
    }?;
    if direction == Direction::In { inward } else { outward }
}

/// What would happen to a packet.
pub fn trace(app: &App, asked: &Asked) -> AppResult<Decision> {
    app.find(&asked.container)?;
    let policy = app.store.policy()?;
    let plan = Plan::of_stored(&policy, &facts(app)?);
    let blocks = app.store.blocks(now())?;
    let own = plan.container(asked.container.as_str()).map(|c| c.addresses.clone()).unwrap_or_default();
    let forwarded = plan
        .forwards
        .iter()
        .any(|f| f.proto == asked.proto && Some(f.to_port) == asked.port && own.contains(&f.to));
    let packet = Packet {
        container: asked.container.as_str(),
        direction: asked.direction,
        proto: asked.proto,
        peer: asked.peer,
        port: asked.port,
        forwarded: forwarded && asked.direction == Direction::In,
    };
    trace::trace(&plan, &policy, &blocks, &packet).map_err(AppError::Refused)
}

/// The policy as it is stored.
pub fn export(app: &App) -> AppResult<Policy> {
    Ok(app.store.policy()?)
}

/// What `new` would change, if it is valid.
pub fn check(app: &App, new: &Policy) -> AppResult<Vec<String>> {
    let old = app.store.policy()?;
    check_forwards(app, &old, new)?;
    Plan::of(new, &facts(app)?)?;
    Ok(difference(&old, &new.clone().tidied()))
}

pub fn forwards(app: &App) -> AppResult<Vec<Forward>> {
    Ok(app.store.policy()?.forwards)
}

/// Those that lead to this container.
pub fn forwards_of(app: &App, container: &Name) -> AppResult<Vec<Forward>> {
    Ok(app.store.policy_about(container.as_str())?.forwards)
}

/// The traffic of every container's links since they were made: the container, the host's name of the link,
/// and the counts.
pub fn traffic(app: &mut App) -> AppResult<Vec<(Name, String, Traffic)>> {
    let counted: std::collections::BTreeMap<String, Traffic> = app.broker.traffic()?;
    let mut now = Vec::new();
    let mut names = Vec::new();
    for container in app.store.containers()? {
        for nic in container.nics.iter().filter(|nic| nic.has_host_end()) {
            let link = app.instance.host_link(&container.id, nic.slot);
            if let Some(traffic) = counted.get(&link) {
                now.push((container.id.clone(), link.clone(), *traffic));
            }
            names.push((container.id.clone(), container.name.clone(), link));
        }
    }
    app.store.record_traffic(&now)?;
    let all = app.store.traffic()?;
    let one = |(id, name, link): (_, Name, String)| {
        let traffic = all.get(&(id, link.clone())).copied().unwrap_or_default();
        (name, link, traffic)
    };
    Ok(names.into_iter().map(one).collect())
}
