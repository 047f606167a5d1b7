//! What is to be done so that a host matches a file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::document::{Fleet, Machine, Run};
use crate::model::config::{CONFIG_KEYS, Config};
use crate::model::container::State;
use crate::model::device::{Device, device_key};
use crate::model::keys::Live;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::profile::{Layered, Profile, ProfileName};

/// What there is.
#[derive(Debug, Clone, Default)]
pub struct Present {
    pub profiles: Vec<Profile>,
    pub machines: Vec<PresentMachine>,
}

/// A machine as it is.
#[derive(Debug, Clone)]
pub struct PresentMachine {
    pub name: Name,
    /// The name it was launched from.
    pub template: String,
    pub config: Layered,
    /// Its own besides interfaces.
    pub devices: Vec<Device>,
    pub networks: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub storage: PoolName,
    pub state: State,
    /// The file that has made it.
    pub fleet: Option<String>,
}

/// What is done to one profile or machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub kind: Kind,
    pub name: String,
    pub action: Action,
    /// Of a machine that is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What is otherwise than it is now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Whether it is started afterwards.
    #[serde(default)]
    pub start: bool,
    /// Why it cannot be done, for a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Profile,
    Machine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Change,
    Start,
    Stop,
    Delete,
    /// What the file says cannot be done to what there is.
    Conflict,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub key: String,
    /// None: it is not set.
    pub from: Option<String>,
    pub to: Option<String>,
    /// It takes effect at the machine's next start only.
    pub restart: bool,
}

impl Step {
    fn new(kind: Kind, name: &str, action: Action) -> Self {
        let (name, changes) = (name.to_owned(), Vec::new());
        Self { kind, name, action, template: None, changes, start: false, reason: None }
    }
}

/// The steps, in their order; none where the host matches. `fleet` is how the file is known; with `prune`, machines
/// that it has made and that it does not name any more are deleted.
pub fn plan(file: &Fleet, present: &Present, fleet: Option<&str>, prune: bool) -> Vec<Step> {
    let profiles = file.profiles.iter().filter_map(|wanted| of_profile(wanted, present));
    let machines = file.machines.iter().filter_map(|wanted| of_machine(wanted, file, present));
    let named: BTreeSet<&Name> = file.machines.iter().map(|machine| &machine.name).collect();
    let is_left = |machine: &&PresentMachine| {
        prune && fleet.is_some() && machine.fleet.as_deref() == fleet && !named.contains(&machine.name)
    };
    let gone = present.machines.iter().filter(is_left);
    let gone = gone.map(|machine| Step::new(Kind::Machine, machine.name.as_str(), Action::Delete));
    profiles.chain(machines).chain(gone).collect()
}

fn of_profile(wanted: &Profile, present: &Present) -> Option<Step> {
    let known = present.profiles.iter().find(|profile| profile.name == wanted.name);
    let step = |action| Step::new(Kind::Profile, wanted.name.as_str(), action);
    let Some(known) = known else {
        let mut changes = changes(wanted.config(), &Config::default(), false);
        changes.extend(device_changes(wanted.devices(), &[], false));
        return Some(Step { changes, ..step(Action::Create) });
    };
    let mut changes = changes(wanted.config(), &known.config().without_strangers(), false);
    changes.extend(device_changes(wanted.devices(), known.devices(), false));
    if wanted.description != known.description {
        changes.push(text("description", &known.description, &wanted.description));
    }
    (!changes.is_empty()).then(|| Step { changes, ..step(Action::Change) })
}

fn of_machine(wanted: &Machine, file: &Fleet, present: &Present) -> Option<Step> {
    let step = |action| Step::new(Kind::Machine, wanted.name.as_str(), action);
    let conflict = |reason: String| Some(Step { reason: Some(reason), ..step(Action::Conflict) });
    let missing = |name: &&ProfileName| {
        let is = |profile: &Profile| profile.name == **name;
        !file.profiles.iter().any(is) && !present.profiles.iter().any(is)
    };
    if let Some(name) = wanted.profiles.iter().find(missing) {
        return conflict(format!("there is no profile '{name}'"));
    }
    let Some(known) = present.machines.iter().find(|machine| machine.name == wanted.name) else {
        let mut changes = changes(&wanted.config, &Config::default(), false);
        changes.extend(device_changes(&wanted.devices, &[], false));
        let (template, start) = (Some(wanted.template.clone()), wanted.run == Run::Running);
        return Some(Step { changes, template, start, ..step(Action::Create) });
    };
    if let Some(reason) = unlike(wanted, known) {
        return conflict(reason);
    }
    let lives = known.state != State::Stopped;
    let mut changes = changes(&wanted.config, &known.config.own().without_strangers(), lives);
    changes.extend(device_changes(&wanted.devices, &known.devices, lives));
    let profiles: Vec<&ProfileName> = known.config.profile_names().collect();
    if profiles != wanted.profiles.iter().collect::<Vec<_>>() {
        let listed =
            |all: &[&ProfileName]| all.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",");
        let wanted: Vec<&ProfileName> = wanted.profiles.iter().collect();
        changes.insert(0, text("profiles", &listed(&profiles), &listed(&wanted)));
    }
    let start = wanted.run == Run::Running && !lives;
    let stop = wanted.run == Run::Stopped && matches!(known.state, State::Running | State::Frozen);
    match (changes.is_empty(), start, stop) {
        (true, false, false) => None,
        (true, true, _) => Some(Step { start, ..step(Action::Start) }),
        // What waits for a restart waits no longer.
        (_, _, true) => Some(Step { changes, ..step(Action::Stop) }),
        (false, _, _) => Some(Step { changes, start, ..step(Action::Change) }),
    }
}

/// What of a machine that is there cannot be changed in this way.
fn unlike(wanted: &Machine, known: &PresentMachine) -> Option<String> {
    let name = &wanted.name;
    if wanted.template != known.template {
        let (is, to) = (&known.template, &wanted.template);
        return Some(format!("it was made from template '{is}', and the file says '{to}'"));
    }
    if let Some(storage) = wanted.storage.as_ref().filter(|storage| **storage != known.storage) {
        let is = &known.storage;
        return Some(format!("it is in storage pool '{is}', and the file says '{storage}'"));
    }
    if wanted
        .networks
        .as_ref()
        .is_some_and(|networks| *networks != known.networks && !is_none(networks, known))
    {
        let on = known.networks.join(", ");
        return Some(format!("its interfaces are on other networks ({on}): nagaya device list {name}"));
    }
    let lacking = wanted.addresses.iter().find(|address| !known.addresses.contains(address))?;
    Some(format!("it does not have address {lacking}: nagaya device list {name}"))
}

/// `none` stands for no network.
fn is_none(networks: &[String], known: &PresentMachine) -> bool {
    known.networks.is_empty() && matches!(networks, [one] if one == "none")
}

fn changes(wanted: &Config, known: &Config, lives: bool) -> Vec<Change> {
    let value = |config: &Config, key: &str| config.get(key).map(str::to_owned);
    let waits = |key: &str| {
        CONFIG_KEYS.find(key).is_some_and(|key| matches!(key.live, Live::NextStart | Live::NewPrograms))
    };
    let change = |key: &str| Change {
        key: key.to_owned(),
        from: value(known, key),
        to: value(wanted, key),
        restart: lives && waits(key),
    };
    wanted.changed(known).into_iter().map(change).collect()
}

/// A guest that runs keeps a directory or node as it is until its next start.
fn device_changes(wanted: &[Device], known: &[Device], lives: bool) -> Vec<Change> {
    let names: BTreeSet<&str> = wanted.iter().chain(known).map(|device| device.name.as_str()).collect();
    let find = |all: &[Device], name: &str| all.iter().find(|device| device.name == name).cloned();
    let change = |name: &str| {
        let (from, to) = (find(known, name), find(wanted, name));
        let both = from.as_ref().zip(to.as_ref());
        let waits = both.is_some_and(|(from, to)| from.is_mounted() && to.is_mounted());
        (from != to).then(|| Change {
            key: device_key(name),
            from: from.as_ref().map(Device::line),
            to: to.as_ref().map(Device::line),
            restart: lives && waits,
        })
    };
    names.into_iter().filter_map(change).collect()
}

fn text(key: &str, from: &str, to: &str) -> Change {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Change { key: key.to_owned(), from: some(from), to: some(to), restart: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fleet::read;

    fn machine(name: &str, pairs: &[(&str, &str)], state: State, fleet: Option<&str>) -> PresentMachine {
        let default = Profile::new(ProfileName::default_one());
        PresentMachine {
            name: Name::new(name).unwrap(),
            template: "tiny".to_owned(),
            config: Layered::new(Config::of(pairs.iter().copied()).unwrap(), vec![default]),
            devices: Vec::new(),
            networks: vec!["lan".to_owned()],
            storage: PoolName::default_one(),
            addresses: vec!["10.0.0.2".parse().unwrap()],
            state,
            fleet: fleet.map(str::to_owned),
        }
    }

    fn present(machines: Vec<PresentMachine>) -> Present {
        Present { profiles: vec![Profile::new(ProfileName::default_one())], machines }
    }

    /// The steps in a few words each.
    fn told(text: &str, present: &Present, prune: bool) -> Vec<String> {
        let steps = plan(&read(text).unwrap(), present, Some("shop"), prune);
        let change = |change: &Change| {
            let [from, to] = [&change.from, &change.to].map(|value| value.as_deref().unwrap_or("-"));
            format!(" {}:{from}>{to}{}", change.key, if change.restart { "!" } else { "" })
        };
        let told = |step: &Step| {
            let changes: String = step.changes.iter().map(change).collect();
            let start = if step.start { " start" } else { "" };
            let reason = step.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
            format!("{} {:?}{changes}{start}{reason}", step.name, step.action)
        };
        steps.iter().map(told).collect()
    }

    const TINY: &str = "[defaults]\ntemplate = 'tiny'\n";

    #[test]
    fn what_matches_needs_nothing() {
        let there = present(vec![
            machine("a", &[("user.x", "1")], State::Running, None),
            machine("b", &[], State::Stopped, None),
            machine("other", &[], State::Stopped, None),
        ]);
        let text = format!(
            "{TINY}[machines.a]\nconfig = {{ user.x = 1 }}\nnetworks = 'lan'\naddresses = '10.0.0.2'\n\
             [machines.b]\nstate = 'stopped'\n[profiles.default]\n"
        );
        assert_eq!(told(&text, &there, true), Vec::<String>::new());
    }

    #[test]
    fn each_machine_gets_what_it_lacks() {
        let there = present(vec![
            machine("a", &[("user.x", "1"), ("limits.kernel.nofile", "9")], State::Running, None),
            machine("b", &[], State::Stopped, None),
            machine("c", &[], State::Running, None),
            machine("d", &[("user.x", "1")], State::Stopped, None),
        ]);
        let text = format!(
            "{TINY}profiles = ['gold']\n[profiles.gold]\nconfig = {{ limits.cpu = 2 }}\ndescription = 'x'\n\
             [machines.a]\nprofiles = 'default'\nconfig = {{ user.x = 2 }}\n[machines.b]\nprofiles = 'default'\n\
             [machines.c]\nstate = 'stopped'\nprofiles = ['default']\n[machines.d]\n[machines.e]\n"
        );
        assert_eq!(
            told(&text, &there, false),
            [
                "gold Create limits.cpu:->2",
                "a Change limits.kernel.nofile:9>-! user.x:1>2",
                "b Start start",
                "c Stop",
                "d Change profiles:default>gold user.x:1>- start",
                "e Create start",
            ]
        );
    }

    #[test]
    fn devices_become_what_the_file_says() {
        let of = |text: &str| {
            read(&format!("[machines.a]\ntemplate = 'tiny'\n{text}")).unwrap().machines.remove(0).devices
        };
        let mut there = machine("a", &[], State::Running, None);
        let disk = |name: &str, path: &str| {
            format!("[machines.a.devices.{name}]\ntype = 'disk'\nsource = 'tmpfs:'\npath = '{path}'\n")
        };
        there.devices = of(&[disk("b", "/b"), disk("c", "/c"), disk("d", "/d")].concat());
        let wanted = [disk("a", "/a"), disk("b", "/b"), disk("c", "/x")].concat();
        let text = format!(
            "[machines.a]\ntemplate = 'tiny'\n{wanted}[profiles.gold]\n[profiles.gold.devices.a]\ntype = 'none'\n"
        );
        let all = present(vec![there]);
        assert_eq!(
            told(&text, &all, false),
            [
                "gold Create devices.a:->none",
                "a Change devices.a:->disk path=/a source=tmpfs: \
                 devices.c:disk path=/c source=tmpfs:>disk path=/x source=tmpfs:! \
                 devices.d:disk path=/d source=tmpfs:>-",
            ]
        );
    }

    #[test]
    fn only_what_the_file_has_made_is_pruned() {
        let there = present(vec![
            machine("a", &[], State::Running, Some("shop")),
            machine("b", &[], State::Running, Some("shop")),
            machine("c", &[], State::Running, Some("other")),
            machine("d", &[], State::Running, None),
        ]);
        let text = format!("{TINY}[machines.a]\n");
        assert_eq!(told(&text, &there, true), ["b Delete"]);
        assert!(told(&text, &there, false).is_empty());
        let steps = plan(&read(&text).unwrap(), &there, None, true);
        assert_eq!(steps, [], "a file without a name has made nothing");
    }

    #[test]
    fn what_cannot_be_changed_is_a_conflict_of_that_machine_alone() {
        let there = present(vec![
            machine("a", &[], State::Running, None),
            machine("b", &[], State::Running, None),
            machine("c", &[], State::Running, None),
        ]);
        let text = "[machines.a]\ntemplate = 'big'\n[machines.b]\ntemplate = 'tiny'\nnetworks = 'dmz'\n\
                    [machines.c]\ntemplate = 'tiny'\naddresses = '10.0.0.3'\n[machines.d]\ntemplate = 'tiny'\n\
                    profiles = 'gold'\n[machines.e]\ntemplate = 'tiny'\n";
        let found = told(text, &there, false);
        assert!(found[0].starts_with("a Conflict it was made from template 'tiny', and the file says 'big'"));
        assert!(found[1].starts_with("b Conflict its interfaces are on other networks (lan)"), "{found:?}");
        assert!(found[2].starts_with("c Conflict it does not have address 10.0.0.3"), "{found:?}");
        assert_eq!(found[3], "d Conflict there is no profile 'gold'");
        assert_eq!(found[4], "e Create start");
    }
}
