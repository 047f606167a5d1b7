//! A container's configuration in its layers: what its profiles say, in their order, and what was set for it alone.

use std::collections::BTreeMap;

use super::{Profile, ProfileName};
use crate::model::config::{Config, MAX_BYTES};
use crate::model::device::{self, Device};
use crate::model::field::FieldError;

/// Most profiles of a container.
pub const MOST_PROFILES: usize = 16;

/// What was set for a container, what its profiles say, and what comes out of both. Whoever reads it says which of
/// them is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layered {
    own: Config,
    profiles: Vec<Profile>,
    expanded: Config,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Own,
    Profile(ProfileName),
}

impl Layered {
    /// Of two profiles with the same key the later one counts; the container's own value comes before both.
    pub fn new(own: Config, profiles: Vec<Profile>) -> Self {
        let layers = profiles.iter().map(Profile::config).chain([&own]);
        let expanded = Config::merged(layers);
        Self { own, profiles, expanded }
    }

    /// What was set for the container alone.
    pub fn own(&self) -> &Config {
        &self.own
    }

    /// In the order in which they count.
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    pub fn profile_names(&self) -> impl Iterator<Item = &ProfileName> {
        self.profiles.iter().map(|profile| &profile.name)
    }

    /// What holds. Whatever has an effect reads this.
    pub fn expanded(&self) -> &Config {
        &self.expanded
    }

    /// The same container with other keys of its own.
    pub fn with_own(&self, own: Config) -> Self {
        Self::new(own, self.profiles.clone())
    }

    /// The same container with other profiles.
    pub fn with_profiles(&self, profiles: Vec<Profile>) -> Self {
        Self::new(self.own.clone(), profiles)
    }

    /// The same with `profile` as it is now, in place of the one that is called `name`.
    pub fn with_profile(&self, name: &ProfileName, profile: &Profile) -> Self {
        let put = |old: &Profile| if old.name == *name { profile.clone() } else { old.clone() };
        self.with_profiles(self.profiles.iter().map(put).collect())
    }

    /// Where the value of a key comes from; none where it is not set.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        if self.own.get(key).is_some() {
            return Some(Origin::Own);
        }
        let last = self.profiles.iter().rev().find(|profile| profile.config().get(key).is_some());
        last.map(|profile| Origin::Profile(profile.name.clone()))
    }

    /// The devices of the profiles that count: of two of the same name the later one. By name, without those whose
    /// name `own` has, and without what only says that there is none.
    pub fn devices(&self, own: impl Fn(&str) -> bool) -> Vec<(&ProfileName, &Device)> {
        let mut all: BTreeMap<&str, (&ProfileName, &Device)> = BTreeMap::new();
        for profile in &self.profiles {
            all.extend(
                profile.devices().iter().map(|device| (device.name.as_str(), (&profile.name, device))),
            );
        }
        all.into_values().filter(|(_, device)| device.is_there() && !own(&device.name)).collect()
    }

    /// The rules about the whole: a profile counts once, and all of it has a bound, because programs that are run in
    /// a guest are told of its variables in one message.
    pub fn check(&self) -> Result<(), FieldError> {
        let wrong = |field, value: String, rule| Err(FieldError { field, value, rule });
        if self.profiles.len() > MOST_PROFILES {
            return wrong("profiles", self.profiles.len().to_string(), "a number of profiles up to 16");
        }
        for (n, profile) in self.profiles.iter().enumerate() {
            if self.profiles[..n].iter().any(|before| before.name == profile.name) {
                return wrong("profiles", profile.name.to_string(), "a profile that it uses once");
            }
        }
        self.profiles.iter().try_for_each(|profile| device::check_all(profile.devices(), &[]))?;
        let bytes = self.own.bytes() + self.profiles.iter().map(Profile::bytes).sum::<usize>();
        match bytes > MAX_BYTES {
            true => wrong("config", format!("{bytes} bytes"), "32 KiB at most, its profiles included"),
            false => Ok(()),
        }
    }
}

impl From<Config> for Layered {
    fn from(own: Config) -> Self {
        Self::new(own, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::DeviceType;

    fn profile(name: &str, pairs: &[(&str, &str)]) -> Profile {
        let mut profile = Profile::new(ProfileName::new(name).unwrap());
        profile.spec.config = Config::of(pairs.iter().copied()).unwrap();
        profile
    }

    fn web() -> Layered {
        let small = profile("small", &[("limits.memory", "1GiB"), ("limits.cpu", "1"), ("user.a", "small")]);
        let fast = profile("fast", &[("limits.cpu", "4"), ("user.a", "fast")]);
        Layered::new(Config::of([("user.a", "own")]).unwrap(), vec![small, fast])
    }

    #[test]
    fn the_later_profile_counts_and_the_containers_own_before_all() {
        let web = web();
        let all: Vec<_> = web.expanded().iter().collect();
        assert_eq!(all, [("limits.cpu", "4"), ("limits.memory", "1GiB"), ("user.a", "own")]);
        assert_eq!(web.own().iter().collect::<Vec<_>>(), [("user.a", "own")]);
        let turned = web.with_profiles(web.profiles().iter().rev().cloned().collect());
        assert_eq!(turned.expanded().get("limits.cpu"), Some("1"));
        assert_eq!(web.with_own(Config::default()).expanded().get("user.a"), Some("fast"));
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let of = |name| Some(Origin::Profile(ProfileName::new(name).unwrap()));
        let web = web();
        let found = ["user.a", "limits.cpu", "limits.memory", "user.b"].map(|key| web.origin(key));
        assert_eq!(found, [Some(Origin::Own), of("fast"), of("small"), None]);
    }

    #[test]
    fn a_changed_profile_takes_the_place_of_the_old_one() {
        let name = ProfileName::new("small").unwrap();
        let changed = web().with_profile(&name, &profile("tiny", &[("limits.memory", "256MiB")]));
        assert_eq!(changed.expanded().get("limits.memory"), Some("256MiB"));
        let names: Vec<_> = changed.profile_names().map(ProfileName::as_str).collect();
        assert_eq!(names, ["tiny", "fast"]);
    }

    #[test]
    fn devices_of_later_profiles_count_and_a_name_of_the_containers_own_before_all() {
        let device = |name: &str, text: &str| {
            let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let of = if text.is_empty() { DeviceType::None } else { DeviceType::Disk };
            Device::of(name, of, &pairs).unwrap()
        };
        let (mut small, mut fast) = (profile("small", &[]), profile("fast", &[]));
        small.spec.devices = ["a", "b", "c", "d"].map(|name| device(name, "source=/s path=/x")).into();
        fast.spec.devices = vec![device("b", "source=/f path=/x"), device("c", "")];
        let web = Layered::new(Config::default(), vec![small, fast]);
        let found = web.devices(|name| name == "d");
        let found: Vec<_> = found.iter().map(|(of, device)| (of.as_str(), device.source())).collect();
        assert_eq!(found, [("small", "/s"), ("fast", "/f")]);
        assert!(web.check().unwrap_err().to_string().contains("another device's path"));
    }

    #[test]
    fn the_whole_has_bounds() {
        assert_eq!(web().check(), Ok(()));
        let twice = web().with_profiles(vec![profile("a", &[]), profile("a", &[])]);
        assert!(twice.check().is_err());
        let many = (0..=MOST_PROFILES).map(|n| profile(&format!("p{n}"), &[])).collect();
        assert!(web().with_profiles(many).check().is_err());
        let long = "x".repeat(20 * 1024);
        let two = vec![profile("a", &[("user.x", &long)]), profile("b", &[("user.x", &long)])];
        assert!(web().with_profiles(two).check().unwrap_err().to_string().contains("32 KiB"));
    }
}
