//! The file that describes machines.

use std::net::IpAddr;

use super::range;
use crate::model::config::Config;
use crate::model::device::Device;
use crate::model::document::{Document, DocumentError, Fault, Place, Section, checked, devices};
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::profile::{Profile, ProfileName, ProfileSpec, check_description};

/// Most bytes of such a file.
pub const MAX_TEXT: usize = 1024 * 1024;
/// Most machines of one.
const MOST: usize = 10_000;
/// Most bytes of its name.
const MOST_NAME: usize = 255;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    /// What it calls itself.
    pub name: Option<String>,
    pub profiles: Vec<Profile>,
    /// In the order of the text.
    pub machines: Vec<Machine>,
}

/// A machine as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub name: Name,
    pub template: String,
    pub profiles: Vec<ProfileName>,
    /// Its own keys.
    pub config: Config,
    /// Its own besides interfaces, by name.
    pub devices: Vec<Device>,
    /// None: a new one gets what a launch gives it, and one that is there keeps what it has.
    pub networks: Option<Vec<String>>,
    pub addresses: Vec<IpAddr>,
    /// None: a new one is in `default`, and one that is there stays where it is.
    pub storage: Option<PoolName>,
    pub run: Run,
}

/// Whether it is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Running,
    Stopped,
}

impl Fleet {
    /// The devices of the profiles that it describes.
    pub fn devices_of_profiles(&self) -> impl Iterator<Item = &Device> {
        self.profiles.iter().flat_map(Profile::devices)
    }
}

/// What a table says of a machine, or of all that say nothing themselves.
#[derive(Clone, Default)]
struct Said {
    template: Option<String>,
    profiles: Option<Vec<ProfileName>>,
    config: Config,
    devices: Vec<Device>,
    networks: Option<Vec<String>>,
    storage: Option<PoolName>,
    run: Option<Run>,
}

/// Errors: the first mistake, with its place.
pub fn read(text: &str) -> Result<Fleet, DocumentError> {
    if text.len() > MAX_TEXT {
        return Err(DocumentError::wrong(Place::of(text, MAX_TEXT), "the file is longer than 1 MiB"));
    }
    let document = Document::parse(text)?;
    let root = document.root("a file of machines");
    root.only(&["name", "defaults", "profiles", "machines"])?;
    let defaults = match root.section("defaults")? {
        Some(section) => {
            section.only(&["template", "profiles", "config", "devices", "networks", "storage", "state"])?;
            said(&section)?
        }
        None => Said::default(),
    };
    let profiles = root.sections("profiles")?.iter().map(profile).collect::<Result<_, _>>()?;
    let mut machines: Vec<Machine> = Vec::new();
    for (name, section) in root.sections("machines")? {
        for machine in described(&name, &section, &defaults)? {
            if machines.iter().any(|other| other.name == machine.name) {
                let what = format!("machine '{}' stands there twice", machine.name);
                return Err(DocumentError::wrong(section.place(), what));
            }
            machines.push(machine);
        }
        if machines.len() > MOST {
            return Err(DocumentError::wrong(section.place(), "there are more than 10,000 machines"));
        }
    }
    Ok(Fleet { name: fleet_name(&root)?, profiles, machines })
}

fn fleet_name(root: &Section<'_>) -> Result<Option<String>, DocumentError> {
    let Some((name, place)) = root.string("name")? else { return Ok(None) };
    let good = (1..=MOST_NAME).contains(&name.len()) && !name.chars().any(char::is_control);
    match good {
        true => Ok(Some(name)),
        false => Err(DocumentError::wrong(place, "the name must be a line of at most 255 bytes")),
    }
}

fn profile((name, section): &(String, Section<'_>)) -> Result<Profile, DocumentError> {
    section.only(&["description", "config", "devices"])?;
    let place = section.place();
    let name = ProfileName::new(name).map_err(|e| DocumentError::wrong(place, e.to_string()))?;
    let (description, place) = section.string("description")?.unwrap_or((String::new(), place));
    check_description(&description).map_err(|e| DocumentError { place, fault: Fault::Key(e) })?;
    let (config, devices) = (checked(section.pairs("config")?)?, devices(section)?);
    Ok(Profile { name, description, spec: ProfileSpec { config, devices } })
}

/// The machines of one table; several, where its name is a range.
fn described(name: &str, section: &Section<'_>, defaults: &Said) -> Result<Vec<Machine>, DocumentError> {
    section.only(&[
        "template",
        "profiles",
        "config",
        "devices",
        "networks",
        "addresses",
        "storage",
        "state",
    ])?;
    let wrong = |what: String| DocumentError::wrong(section.place(), what);
    let names = range::expand(name).map_err(|why| wrong(format!("'{name}' {why}")))?;
    let own = said(section)?;
    let template = own.template.or_else(|| defaults.template.clone()).ok_or_else(|| {
        wrong(format!("machine '{name}' has no template: write template = \"…\" here or in [defaults]"))
    })?;
    let addresses = addresses(section)?;
    if names.len() > 1 && !addresses.is_empty() {
        return Err(wrong(format!("'{name}' are several machines, and cannot have the same addresses")));
    }
    let profiles = own.profiles.or_else(|| defaults.profiles.clone());
    let networks = own.networks.or_else(|| defaults.networks.clone());
    let machine = |name: &String| {
        Ok(Machine {
            name: Name::new(name).map_err(|e| wrong(e.to_string()))?,
            template: template.clone(),
            profiles: profiles.clone().unwrap_or_else(|| vec![ProfileName::default_one()]),
            config: Config::merged([&defaults.config, &own.config]),
            devices: merged(&defaults.devices, &own.devices),
            networks: networks.clone(),
            addresses: addresses.clone(),
            storage: own.storage.clone().or_else(|| defaults.storage.clone()),
            run: own.run.or(defaults.run).unwrap_or(Run::Running),
        })
    };
    names.iter().map(machine).collect()
}

fn said(section: &Section<'_>) -> Result<Said, DocumentError> {
    let profile = |(name, place): (String, Place)| {
        ProfileName::new(&name).map_err(|e| DocumentError::wrong(place, e.to_string()))
    };
    let profiles = section.strings("profiles")?.map(|all| all.into_iter().map(profile).collect());
    let names = |all: Vec<(String, Place)>| all.into_iter().map(|(name, _)| name).collect();
    let run = section.string("state")?.map(|(state, place)| match state.as_str() {
        "running" => Ok(Run::Running),
        "stopped" => Ok(Run::Stopped),
        _ => Err(DocumentError::wrong(place, "state must be \"running\" or \"stopped\"")),
    });
    let storage = section
        .string("storage")?
        .map(|(name, place)| PoolName::new(&name).map_err(|e| DocumentError::wrong(place, e.to_string())));
    Ok(Said {
        template: section.string("template")?.map(|(name, _)| name),
        profiles: profiles.transpose()?,
        config: checked(section.pairs("config")?)?,
        devices: devices(section)?,
        networks: section.strings("networks")?.map(names),
        storage: storage.transpose()?,
        run: run.transpose()?,
    })
}

/// What all have and what one has; of two of the same name, that one's.
fn merged(all: &[Device], own: &[Device]) -> Vec<Device> {
    let other = all.iter().filter(|device| own.iter().all(|mine| mine.name != device.name));
    let mut devices: Vec<Device> = other.chain(own).cloned().collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

fn addresses(section: &Section<'_>) -> Result<Vec<IpAddr>, DocumentError> {
    let address = |(text, place): (String, Place)| {
        text.parse().map_err(|_| DocumentError::wrong(place, format!("'{text}' is not an address")))
    };
    section.strings("addresses")?.unwrap_or_default().into_iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fault::Fault as _;

    const SHOP: &str = r#"
name = "shop"

[defaults]
template = "debian12"
profiles = ["default", "gold"]
config = { "user.owner" = "ann", "limits.cpu" = 1 }

[profiles.gold]
description = "The large plan"
config = { limits.memory = "4GiB" }

[machines."web[1-2]"]

[machines.db]
template = "debian13"
profiles = []
state = "stopped"
networks = "lan"
storage = "fast"
addresses = ["10.0.0.9", "fd00::9"]
[machines.db.config]
limits.cpu = 4
"#;

    #[test]
    fn what_a_machine_does_not_say_the_defaults_do() {
        let fleet = read(SHOP).unwrap();
        assert_eq!(fleet.name.as_deref(), Some("shop"));
        assert_eq!(fleet.profiles[0].config().get("limits.memory"), Some("4GiB"));
        let names: Vec<&str> = fleet.machines.iter().map(|machine| machine.name.as_str()).collect();
        assert_eq!(names, ["web1", "web2", "db"]);
        let (web, db) = (&fleet.machines[1], &fleet.machines[2]);
        assert_eq!((web.template.as_str(), web.run, &web.networks), ("debian12", Run::Running, &None));
        assert_eq!(web.profiles.len(), 2);
        assert_eq!((db.template.as_str(), db.run, db.profiles.len()), ("debian13", Run::Stopped, 0));
        assert_eq!((db.config.get("limits.cpu"), db.config.get("user.owner")), (Some("4"), Some("ann")));
        assert_eq!(db.storage.as_ref().map(PoolName::as_str), Some("fast"));
        assert_eq!((db.networks.as_ref().unwrap().len(), db.addresses.len()), (1, 2));
        assert_eq!(read("").unwrap(), Fleet::default());
        let plain = read("machines.a.template = 'x'").unwrap().machines.remove(0);
        assert_eq!(plain.profiles, [ProfileName::default_one()]);
    }

    #[test]
    fn machines_and_profiles_have_devices() {
        let fleet = read(
            "[defaults]\ntemplate = 'tiny'\n[defaults.devices.a]\ntype = 'disk'\nsource = '/all'\npath = '/a'\n\
             [profiles.gold.devices.http]\ntype = 'proxy'\nlisten = 'tcp:0.0.0.0:80'\nconnect = 'tcp:127.0.0.1:80'\n\
             [machines.web]\n[machines.db.devices.a]\ntype = 'none'\n[machines.db.devices.kvm]\n\
             type = 'unix-char'\nsource = '/dev/kvm'\n",
        );
        let fleet = fleet.unwrap();
        let lines = |devices: &[Device]| devices.iter().map(Device::line).collect::<Vec<_>>();
        assert_eq!(lines(&fleet.machines[0].devices), ["disk path=/a source=/all"]);
        assert_eq!(lines(&fleet.machines[1].devices), ["none", "unix-char source=/dev/kvm"]);
        assert_eq!(fleet.profiles[0].device("http").unwrap().source(), "tcp:0.0.0.0:80");
        assert_eq!(fleet.devices_of_profiles().count(), 1);
        let wrong = read("[machines.a]\ntemplate = 'x'\n[machines.a.devices.e]\ntype = 'nic'").unwrap_err();
        assert!(wrong.to_string().starts_with("line 3, column 21: 'e' cannot be a nic here"), "{wrong}");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let told = |text: &str| {
            let error = read(text).unwrap_err();
            (error.to_string(), error.facts().hint.unwrap_or_default())
        };
        let (said, hint) = told("[machines.a]\ntemplate = 'x'\nprofile = 'gold'\n");
        assert_eq!(said, "line 3, column 1: there is no 'profile' in 'a'");
        assert_eq!(hint, "did you mean 'profiles'?");
        assert_eq!(told("[machine.a]\n").1, "did you mean 'machines'?");
        for (text, said) in [
            ("[machines.a]\n", "line 1, column 11: machine 'a' has no template"),
            ("[machines.A]\ntemplate='x'", "line 1, column 11: 'A' may hold only"),
            ("[machines.'a[1-']\ntemplate='x'", "line 1, column 11: 'a[1-' is no range"),
            (
                "[machines.a1]\ntemplate='x'\n[machines.'a[1-2]']\ntemplate='x'",
                "line 3, column 11: machine 'a1' stands",
            ),
            (
                "[machines.'a[1-2]']\ntemplate='x'\naddresses=['10.0.0.1']",
                "line 1, column 11: 'a[1-2]' are several",
            ),
            ("[machines.a]\ntemplate='x'\nstate='up'", "line 3, column 7: state must be"),
            ("[machines.a]\ntemplate='x'\naddresses=['x']", "line 3, column 12: 'x' is not an address"),
            (
                "[machines.a]\ntemplate='x'\n[machines.a.config]\nlimits.cpu='x'",
                "line 4, column 8: limits.cpu cannot",
            ),
            ("[defaults]\naddresses=['x']", "line 2, column 1: there is no 'addresses' in 'defaults'"),
            ("[profiles.a]\nprofiles=['x']", "line 2, column 1: there is no 'profiles' in 'a'"),
            ("name = \"a\\nb\"", "line 1, column 8: the name must be a line"),
        ] {
            let found = told(text).0;
            assert!(found.starts_with(said), "{text}: {found}");
        }
    }
}
