//! Single changes of the policy.

use std::net::IpAddr;

use super::caution::Caution;
use super::policy::{change, change_about};
use crate::app::error::{AppError, AppResult};
use crate::app::instance::App;
use crate::app::network;
use crate::model::firewall::policy::{Action, Direction, Forward, GroupPolicy, Policy, Proto, Rule, Target};
use crate::model::name::Name;
use crate::model::suggest;
use crate::sys::net::sockets;
use crate::sys::net::sockets::Transport;

/// Where in a list, counted from 1; None: at its end.
pub type Position = Option<usize>;

pub(super) fn no_such(kind: &str, name: &str, all: impl Iterator<Item = String>) -> AppError {
    let all: Vec<String> = all.collect();
    let near = suggest::nearest(name, all.iter().map(String::as_str));
    let near = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
    AppError::Refused(format!("there is no {kind} '{name}'{near}"))
}

/// Checks that the container or network exists. The policy itself knows its groups.
pub(super) fn check_target(app: &App, target: &Target) -> AppResult<()> {
    match target {
        Target::Container(name) => match Name::new(name) {
            Ok(name) => app.find(&name).map(drop),
            Err(e) => Err(AppError::Refused(e.to_string())),
        },
        Target::Network(name) => network::find(app, name).map(drop),
        Target::Group(_) => Ok(()),
    }
}

/// Changes the part of the policy about `target`, and nothing else.
fn change_of<T>(
    app: &mut App,
    caution: &Caution,
    target: &Target,
    edit: impl FnOnce(&mut Policy) -> AppResult<T>,
) -> AppResult<T> {
    check_target(app, target)?;
    match target {
        Target::Container(name) => change_about(app, caution, name, edit),
        Target::Network(_) | Target::Group(_) => change(app, caution, edit),
    }
}

pub fn add_rule(
    app: &mut App,
    caution: &Caution,
    target: &Target,
    direction: Direction,
    rule: Rule,
    at: Position,
) -> AppResult<()> {
    change_of(app, caution, target, |policy| {
        let rules = list(policy, target, direction)?;
        let at = at.unwrap_or(rules.len() + 1);
        if at == 0 || at > rules.len() + 1 {
            return Err(AppError::Refused(format!(
                "there is no place {at} among the {} rules of {target}, direction {}",
                rules.len(),
                direction.as_str()
            )));
        }
        rules.insert(at - 1, rule);
        Ok(())
    })
}

/// Returns the rule that it was.
pub fn remove_rule(
    app: &mut App,
    caution: &Caution,
    target: &Target,
    direction: Direction,
    number: usize,
) -> AppResult<Rule> {
    change_of(app, caution, target, |policy| {
        let rules = list(policy, target, direction)?;
        if number == 0 || number > rules.len() {
            return Err(AppError::Refused(format!(
                "there is no rule {number} of {target}, direction {}: it has {}",
                direction.as_str(),
                rules.len()
            )));
        }
        Ok(rules.remove(number - 1))
    })
}

fn list<'a>(policy: &'a mut Policy, target: &Target, direction: Direction) -> AppResult<&'a mut Vec<Rule>> {
    if let Target::Group(name) = target
        && !policy.groups.contains_key(name)
    {
        return Err(no_such("group", name, policy.groups.keys().cloned()));
    }
    let missing = || AppError::Refused(format!("there is no {target}"));
    policy.rules_mut(target, direction).ok_or_else(missing)
}

/// Sets what is done where no rule matches. None: a container leaves it to its network, a network allows.
pub fn set_defaults(
    app: &mut App,
    caution: &Caution,
    target: &Target,
    defaults: &[(Direction, Option<Action>)],
) -> AppResult<()> {
    change_of(app, caution, target, |policy| {
        let (inward, outward) = match target {
            Target::Container(name) => {
                let found = policy.containers.entry(name.clone()).or_default();
                (&mut found.default_in, &mut found.default_out)
            }
            Target::Network(name) => {
                let found = policy.networks.entry(name.clone()).or_default();
                (&mut found.default_in, &mut found.default_out)
            }
            Target::Group(_) => {
                return Err(AppError::Refused("a group has rules only, no default".to_owned()));
            }
        };
        for (direction, action) in defaults {
            match direction {
                Direction::In => *inward = *action,
                Direction::Out => *outward = *action,
            }
        }
        Ok(())
    })
}

pub fn create_set(app: &mut App, name: &str, members: &[String]) -> AppResult<()> {
    change(app, &Caution::default(), |policy| {
        if policy.sets.contains_key(name) {
            return Err(AppError::Refused(format!("there is a set '{name}' already")));
        }
        policy.sets.insert(name.to_owned(), members.to_vec());
        Ok(())
    })
}

pub fn delete_set(app: &mut App, caution: &Caution, name: &str) -> AppResult<()> {
    change(app, caution, |policy| match policy.sets.remove(name) {
        Some(_) => Ok(()),
        None => Err(no_such("set", name, policy.sets.keys().cloned())),
    })
}

fn set<'a>(policy: &'a mut Policy, name: &str) -> AppResult<&'a mut Vec<String>> {
    if !policy.sets.contains_key(name) {
        return Err(no_such("set", name, policy.sets.keys().cloned()));
    }
    Ok(policy.sets.entry(name.to_owned()).or_default())
}

/// Adds members to a set; members that it has already are no error.
pub fn add_to_set(app: &mut App, caution: &Caution, name: &str, members: &[String]) -> AppResult<()> {
    change(app, caution, |policy| {
        let found = set(policy, name)?;
        for member in members {
            if !found.contains(member) {
                found.push(member.clone());
            }
        }
        Ok(())
    })
}

pub fn remove_from_set(app: &mut App, caution: &Caution, name: &str, members: &[String]) -> AppResult<()> {
    change(app, caution, |policy| {
        let found = set(policy, name)?;
        if let Some(missing) = members.iter().find(|member| !found.contains(member)) {
            return Err(AppError::Refused(format!("'{missing}' is not in set '{name}'")));
        }
        found.retain(|member| !members.contains(member));
        Ok(())
    })
}

pub fn create_group(app: &mut App, name: &str) -> AppResult<()> {
    change(app, &Caution::default(), |policy| {
        if policy.groups.contains_key(name) {
            return Err(AppError::Refused(format!("there is a group '{name}' already")));
        }
        policy.groups.insert(name.to_owned(), GroupPolicy::default());
        Ok(())
    })
}

/// Deletes a group; one with containers only with `force`.
pub fn delete_group(app: &mut App, caution: &Caution, name: &str) -> AppResult<()> {
    change(app, caution, |policy| {
        if policy.groups.remove(name).is_none() {
            return Err(no_such("group", name, policy.groups.keys().cloned()));
        }
        let is_in = |groups: &Vec<String>| groups.iter().any(|group| group == name);
        let member = policy.containers.iter().find(|(_, container)| is_in(&container.groups));
        if let Some((member, _)) = member.filter(|_| !caution.force) {
            let why = format!("container '{member}' is in group '{name}'; --force takes all out of it");
            return Err(AppError::Refused(why));
        }
        for container in policy.containers.values_mut() {
            container.groups.retain(|group| group != name);
        }
        Ok(())
    })
}

pub fn join_group(app: &mut App, caution: &Caution, name: &str, containers: &[Name]) -> AppResult<()> {
    change(app, caution, |policy| {
        if !policy.groups.contains_key(name) {
            return Err(no_such("group", name, policy.groups.keys().cloned()));
        }
        for container in containers {
            let groups = &mut policy.containers.entry(container.to_string()).or_default().groups;
            if !groups.iter().any(|group| group == name) {
                groups.push(name.to_owned());
            }
        }
        Ok(())
    })
}

pub fn leave_group(app: &mut App, caution: &Caution, name: &str, containers: &[Name]) -> AppResult<()> {
    change(app, caution, |policy| {
        for container in containers {
            let groups = policy.containers.get_mut(container.as_str()).map(|c| &mut c.groups);
            match groups.filter(|groups| groups.iter().any(|group| group == name)) {
                Some(groups) => groups.retain(|group| group != name),
                None => {
                    let why = format!("container '{container}' is not in group '{name}'");
                    return Err(AppError::Refused(why));
                }
            }
        }
        Ok(())
    })
}

/// Returns which of the host's own programs are no longer reached from outside by these ports.
pub fn add_forward(app: &mut App, caution: &Caution, forward: Forward) -> AppResult<Vec<String>> {
    let shadowed = shadowed(&forward);
    change(app, caution, |policy| {
        policy.forwards.push(forward);
        Ok(())
    })?;
    Ok(shadowed)
}

/// The same of one that takes another's place.
pub fn replace_forward(
    app: &mut App,
    caution: &Caution,
    former: &Forward,
    forward: Forward,
) -> AppResult<Vec<String>> {
    let shadowed = shadowed(&forward);
    change(app, caution, |policy| {
        policy.forwards.retain(|other| other != former);
        policy.forwards.push(forward);
        Ok(())
    })?;
    Ok(shadowed)
}

/// Ports that are looked at, for each forward.
const MOST_LOOKED_AT: usize = 16;

fn shadowed(forward: &Forward) -> Vec<String> {
    let transport = match forward.proto {
        Proto::Tcp => Transport::Tcp,
        Proto::Udp => Transport::Udp,
        _ => return Vec::new(),
    };
    let (first, last) = forward.listen.split_once('-').unwrap_or((&forward.listen, &forward.listen));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return Vec::new() };
    // Loopback addresses are never forwarded.
    let addresses: Vec<IpAddr> = match forward.address.parse() {
        Ok(address) => vec![address],
        Err(_) => sockets::own_addresses().into_iter().filter(|ip| !ip.is_loopback()).collect(),
    };
    let found = (first..=last).take(MOST_LOOKED_AT).filter_map(|port| {
        let listener = sockets::listener(transport, port, &addresses)?;
        let who = listener.process.map_or_else(
            || "a program of the host".to_owned(),
            |(pid, name)| format!("'{name}' (process {pid})"),
        );
        let (proto, container) = (forward.proto.as_str(), &forward.container);
        Some(format!(
            "{who} listens on {proto} {port} of the host: from outside, connections go to '{container}' instead"
        ))
    });
    found.collect()
}

/// Makes the forwards that a container has by its profiles these.
pub fn set_shared_forwards(app: &mut App, container: &Name, wanted: &[Forward]) -> AppResult<Vec<String>> {
    let new: Vec<String> = wanted.iter().flat_map(shadowed).collect();
    change(app, &Caution::default(), |policy| {
        policy.forwards.retain(|old| !(old.by_profile && old.container == container.as_str()));
        policy.forwards.extend(wanted.iter().cloned());
        Ok(())
    })?;
    Ok(new)
}

/// Removes the forward that listens at these ports, and returns it.
pub fn remove_forward(app: &mut App, caution: &Caution, wanted: &Forward) -> AppResult<Forward> {
    change(app, caution, |policy| {
        let same = |forward: &Forward| {
            forward.container == wanted.container
                && forward.proto == wanted.proto
                && forward.listen == wanted.listen
                && forward.address == wanted.address
        };
        let found = policy.forwards.iter().position(same);
        let missing = || {
            let (proto, listen) = (wanted.proto.as_str(), &wanted.listen);
            let what = match wanted.address.as_str() {
                "" => format!("{proto} {listen} is not forwarded to '{}'", wanted.container),
                at => format!("{proto} {listen} of {at} is not forwarded to '{}'", wanted.container),
            };
            AppError::advised(what, "see what is: nagaya forward list")
        };
        let found = found.ok_or_else(missing)?;
        let Forward { container, device, by_profile, .. } = &policy.forwards[found];
        if *by_profile {
            return Err(AppError::advised(
                format!("it is device '{device}', which '{container}' has by a profile"),
                format!(
                    "change the profile, or take it from this container: nagaya device add {container} {device} none"
                ),
            ));
        }
        Ok(policy.forwards.remove(found))
    })
}
