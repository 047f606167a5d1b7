//! The settings of a container or a profile, as `edit` shows and takes them.

use toml_edit::DocumentMut;

use super::devices::{devices, put_devices};
use super::error::{DocumentError, Fault};
use super::place::Place;
use super::reader::{Document, Pair};
use super::writer::{put_pairs, put_string, put_strings};
use crate::model::config::Config;
use crate::model::profile::{Layered, Profile, ProfileName, ProfileSpec, check_description};

/// Most bytes of such a text.
pub const MAX_TEXT: usize = 64 * 1024;

/// What is written above a text that nobody has edited.
const CONTAINER: &str = "\
# The settings of a container. 'nagaya config keys' lists the keys and what they take.
# A key that does not stand here has the value of a profile, or its default.
# Comments are kept.

# In their order: what a later one sets counts.
profiles = []

[config]
";
const PROFILE: &str = "\
# The settings of a profile. 'nagaya config keys' lists the keys and what they take.
# Devices are tables such as [devices.data], with type, source and path.
# Comments are kept.

description = \"\"

[config]
";

/// What such a text says of a container.
#[derive(Debug, PartialEq, Eq)]
pub struct ContainerText {
    /// None: it says nothing of them.
    pub profiles: Option<Vec<(ProfileName, Place)>>,
    pub config: Config,
}

/// What it says of a profile.
#[derive(Debug, PartialEq, Eq)]
pub struct ProfileText {
    pub description: String,
    pub spec: ProfileSpec,
}

/// The text of a container, without keys of a later version, which cannot be typed; `edited` is what somebody has made of an earlier one.
pub fn container_text(edited: Option<&str>, config: &Layered) -> String {
    let mut document = begun(edited, CONTAINER);
    put_strings(
        &mut document,
        "profiles",
        &config.profile_names().map(ProfileName::as_str).collect::<Vec<_>>(),
    );
    put_pairs(&mut document, "config", &config.own().without_strangers());
    document.to_string()
}

/// The text of a profile.
pub fn profile_text(edited: Option<&str>, profile: &Profile) -> String {
    let mut document = begun(edited, PROFILE);
    put_string(&mut document, "description", &profile.description);
    put_pairs(&mut document, "config", &profile.config().without_strangers());
    put_devices(&mut document, profile.devices());
    document.to_string()
}

fn begun(edited: Option<&str>, fresh: &str) -> DocumentMut {
    edited.and_then(|text| text.parse().ok()).or_else(|| fresh.parse().ok()).unwrap_or_default()
}

/// Errors: the first mistake, with its place.
pub fn read_container(text: &str) -> Result<ContainerText, DocumentError> {
    check_length(text)?;
    let document = Document::parse(text)?;
    let root = document.root("a container's settings");
    root.only(&["profiles", "config"])?;
    let profile = |(name, place): (String, Place)| {
        let name = ProfileName::new(&name).map_err(|e| DocumentError::wrong(place, e.to_string()))?;
        Ok((name, place))
    };
    let profiles = root.strings("profiles")?.map(|all| all.into_iter().map(profile).collect());
    Ok(ContainerText { profiles: profiles.transpose()?, config: checked(root.pairs("config")?)? })
}

/// Errors: the first mistake, with its place.
pub fn read_profile(text: &str) -> Result<ProfileText, DocumentError> {
    check_length(text)?;
    let document = Document::parse(text)?;
    let root = document.root("a profile");
    if let Some((_, place)) = root.strings("profiles")?.and_then(|all| all.into_iter().next()) {
        return Err(DocumentError::wrong(place, "a profile cannot use other profiles"));
    }
    root.only(&["description", "config", "devices", "profiles"])?;
    let (description, place) = root.string("description")?.unwrap_or_else(|| (String::new(), root.place()));
    check_description(&description).map_err(|e| DocumentError { place, fault: Fault::Key(e) })?;
    let (config, devices) = (checked(root.pairs("config")?)?, devices(&root)?);
    Ok(ProfileText { description, spec: ProfileSpec { config, devices } })
}

/// All keys with their values, each of them checked.
pub fn checked(pairs: Vec<Pair>) -> Result<Config, DocumentError> {
    let mut config = Config::default();
    for Pair { key, value, place } in pairs {
        config.set(&key, &value).map_err(|e| DocumentError { place, fault: Fault::Key(e) })?;
    }
    Ok(config)
}

fn check_length(text: &str) -> Result<(), DocumentError> {
    match text.len() > MAX_TEXT {
        true => Err(DocumentError::wrong(Place::of(text, MAX_TEXT), "the text is longer than 64 KiB")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::{Device, DeviceType};
    use proptest::prelude::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::of(pairs.iter().copied()).unwrap()
    }

    fn web(own: &[(&str, &str)], profiles: &[&str]) -> Layered {
        let profiles = profiles.iter().map(|name| Profile::new(ProfileName::new(name).unwrap()));
        Layered::new(config(own), profiles.collect())
    }

    #[test]
    fn a_text_that_nobody_has_edited_tells_what_it_is() {
        let text = container_text(None, &web(&[("limits.cpu", "2"), ("user.note", "a \"b\"")], &["default"]));
        snapbox::assert_data_eq!(
            text.as_str(),
            snapbox::str![[r#"
# The settings of a container. 'nagaya config keys' lists the keys and what they take.
# A key that does not stand here has the value of a profile, or its default.
# Comments are kept.

# In their order: what a later one sets counts.
profiles = ["default"]

[config]
"limits.cpu" = "2"
"user.note" = 'a "b"'

"#]]
        );
        let read = read_container(&text).unwrap();
        assert_eq!(read.config, config(&[("limits.cpu", "2"), ("user.note", "a \"b\"")]));
        assert_eq!(read.profiles.unwrap()[0].0.as_str(), "default");
        assert_eq!(read_container("").unwrap(), ContainerText { profiles: None, config: Config::default() });
    }

    #[test]
    fn comments_outlive_changes_by_other_ways() {
        let edited = "\
# For Ann, until May.
profiles = [\"default\"] # not gold

[config]
# Agreed on the phone.
limits.memory = \"1GiB\"   # was 2
boot.autostart = true
user.old = 'x'
";
        let now = web(
            &[("limits.memory", "3GiB"), ("boot.autostart", "true"), ("limits.cpu", "1")],
            &["default", "gold"],
        );
        snapbox::assert_data_eq!(
            container_text(Some(edited), &now).as_str(),
            snapbox::str![[r#"
# For Ann, until May.
profiles = ["default", "gold"] # not gold

[config]
# Agreed on the phone.
limits.memory = "3GiB"   # was 2
boot.autostart = true
"limits.cpu" = "1"

"#]]
        );
        let same =
            web(&[("limits.memory", "1GiB"), ("boot.autostart", "true"), ("user.old", "x")], &["default"]);
        assert_eq!(container_text(Some(edited), &same), edited);
    }

    #[test]
    fn a_profile_has_a_description() {
        let mut profile = Profile::new(ProfileName::new("gold").unwrap());
        profile.description = "It's large".to_owned();
        profile.spec.config = config(&[("limits.cpu", "4")]);
        let text = profile_text(None, &profile);
        let read = read_profile(&text).unwrap();
        assert_eq!((read.description.as_str(), read.spec), ("It's large", profile.spec.clone()));
        let pairs = [("source", "tmpfs:"), ("path", "/cache")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        profile.spec.devices.push(Device::of("cache", DeviceType::Disk, &pairs.into()).unwrap());
        let text = profile_text(None, &profile);
        assert_eq!(read_profile(&text).unwrap().spec, profile.spec, "{text}");
        let error = read_profile("profiles = ['default']\n").unwrap_err().to_string();
        assert_eq!(error, "line 1, column 13: a profile cannot use other profiles");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let hint = |text: &str| {
            let error = read_container(text).unwrap_err();
            (error.to_string(), crate::model::fault::Fault::facts(&error).hint.unwrap_or_default())
        };
        let (said, hint_) = hint("\n[config]\n\"limits.memroy\" = \"1GiB\"\n");
        assert_eq!(said, "line 3, column 1: there is no configuration key 'limits.memroy'");
        assert_eq!(hint_, "did you mean 'limits.memory'?");
        let (said, _) = hint("[config]\nlimits.memory = \"5M\"\n");
        assert!(said.starts_with("line 2, column 8: limits.memory cannot be '5M': it must be"), "{said}");
        assert_eq!(hint("profiles = ['a b']").0, "line 1, column 13: 'a b' cannot name a profile");
        assert_eq!(hint(&"#\n".repeat(MAX_TEXT)).0, "line 32769, column 1: the text is longer than 64 KiB");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            pairs in proptest::collection::btree_map("(user|environment)[.][a-zA-Z]{1,9}", "\\PC{0,40}", 0..6),
        ) {
            let config = Config::try_from(pairs).unwrap_or_default();
            let text = container_text(None, &config.clone().into());
            prop_assert_eq!(read_container(&text).unwrap().config, config);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = read_container(&text);
            let _ = container_text(Some(&text), &Layered::default());
        }
    }
}
