//! The manifest that stands beside each container's data: what the database knows of it, as TOML,
//! so that a lost database can be rebuilt.
//!
//! It says nothing of the phase, and what is read from it is settled. A manifest may be older
//! than the database that was lost, and a stale `creating` or `deleting` would have the next
//! command destroy a container that was whole.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::config::{self, Config};
use super::container::{Container, FieldError, Phase};
use super::ids::Slice;
use super::lan::Lease;
use super::mac::{Mac, MacError};
use super::name::{ContainerId, Name};
use super::template::TemplateId;

/// The version written. Version 1, which is read too, has no configuration.
const VERSION: u32 = 2;

/// Longer than any manifest, in which every character of the configuration may take two; longer
/// input is not looked at.
const MAX_BYTES: usize = 16 * 1024 + 4 * config::MAX_BYTES;

/// Why a text is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {0} bytes is longer than any that nagaya writes")]
    TooLong(usize),
    #[error("cannot read the manifest as TOML of version 1 or 2")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("the manifest has version {0}, and only versions 1 and 2 are known")]
    Version(i64),
    #[error("the manifest has a configuration, which version 1 does not know")]
    TooNew,
    #[error("the manifest's slice cannot begin at id {0}")]
    Slice(u32),
    #[error("cannot read the manifest's lease")]
    Mac(#[source] MacError),
    #[error("the manifest breaks a rule")]
    Field(#[source] FieldError),
}

#[derive(Deserialize)]
struct Versioned {
    version: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    id: ContainerId,
    name: Name,
    template: TemplateId,
    template_name: String,
    slice: u32,
    uuid: String,
    created_at: i64,
    wanted_up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseTable>,
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    config: Config,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseTable {
    bridge: String,
    mac: String,
    ipv4: Ipv4Network,
    gateway: Ipv4Addr,
}

/// The manifest of `container`; the phase is left out.
pub fn to_toml(container: &Container) -> String {
    let lease = container.lease.as_ref().map(|lease| LeaseTable {
        bridge: lease.bridge.clone(),
        mac: lease.mac.to_string(),
        ipv4: lease.ipv4,
        gateway: lease.gateway,
    });
    let document = Document {
        version: VERSION,
        id: container.id.clone(),
        name: container.name.clone(),
        template: container.template.clone(),
        template_name: container.template_name.clone(),
        slice: container.slice.base(),
        uuid: container.uuid.clone(),
        created_at: container.created_at,
        wanted_up: container.wanted_up,
        lease,
        config: container.config.clone(),
    };
    toml::to_string(&document).expect("strings, integers and tables, which come last, are TOML")
}

/// The container that `text` describes, in phase `Settled`. Unknown and missing fields are errors,
/// and so is every value that could not have been stored.
pub fn from_toml(text: &str) -> Result<Container, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.len()));
    }
    let syntax = |err| ManifestError::Syntax(Box::new(err));
    // The version first: a later one is entitled to fields that we do not know.
    let Versioned { version } = toml::from_str(text).map_err(syntax)?;
    if !(1..=i64::from(VERSION)).contains(&version) {
        return Err(ManifestError::Version(version));
    }
    let document: Document = toml::from_str(text).map_err(syntax)?;
    if version == 1 && !document.config.is_empty() {
        return Err(ManifestError::TooNew);
    }
    let lease = match document.lease {
        Some(table) => Some(Lease {
            bridge: table.bridge,
            mac: table.mac.parse::<Mac>().map_err(ManifestError::Mac)?,
            ipv4: table.ipv4,
            gateway: table.gateway,
        }),
        None => None,
    };
    let container = Container {
        id: document.id,
        name: document.name,
        template: document.template,
        template_name: document.template_name,
        slice: Slice::at(document.slice).ok_or(ManifestError::Slice(document.slice))?,
        uuid: document.uuid,
        created_at: document.created_at,
        phase: Phase::Settled,
        wanted_up: document.wanted_up,
        lease,
        config: document.config,
    };
    container.check().map_err(ManifestError::Field)?;
    Ok(container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEB01: &str = r#"version = 2
id = "0a1b2c3d"
name = "web01"
template = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
template_name = "centos7"
slice = 1065536
uuid = "00112233445566778899aabbccddeeff"
created_at = 1700000000
wanted_up = true

[lease]
bridge = "nagaya0"
mac = "02:01:02:03:04:05"
ipv4 = "10.9.0.2/24"
gateway = "10.9.0.1"

[config]
"limits.memory" = "512MiB"
"user.note" = "it's here"
"#;

    /// The same as versions before 0.2 wrote it.
    fn web01_of_version_1() -> String {
        let (text, _) = WEB01.split_once("\n[config]").unwrap();
        text.replace("version = 2", "version = 1")
    }

    #[test]
    fn the_format_of_version_2_stays() {
        let container = from_toml(WEB01).unwrap();
        assert_eq!(container.config.get("limits.memory"), Some("512MiB"));
        assert_eq!(container.name.as_str(), "web01");
        assert_eq!(container.lease.as_ref().unwrap().gateway, Ipv4Addr::new(10, 9, 0, 1));
        assert_eq!(to_toml(&container), WEB01);
    }

    #[test]
    fn version_1_is_read_and_has_no_configuration() {
        let old = from_toml(&web01_of_version_1()).unwrap();
        assert_eq!(old, Container { config: Config::default(), ..from_toml(WEB01).unwrap() });
        let mixed = WEB01.replace("version = 2", "version = 1");
        assert!(matches!(from_toml(&mixed), Err(ManifestError::TooNew)));
    }

    #[test]
    fn an_unsettled_container_is_read_back_settled() {
        let mut container = from_toml(WEB01).unwrap();
        for phase in [Phase::Creating, Phase::Starting, Phase::Deleting] {
            container.phase = phase;
            assert_eq!(from_toml(&to_toml(&container)).unwrap().phase, Phase::Settled);
        }
    }

    #[test]
    fn every_field_is_needed_and_none_is_added() {
        let text = web01_of_version_1();
        for line in text.lines().filter(|line| line.contains('=')) {
            let without = text.replace(&format!("{line}\n"), "");
            assert!(from_toml(&without).is_err(), "without {line}");
        }
        assert!(from_toml(&format!("extra = 1\n{WEB01}")).is_err());
        assert!(from_toml(&format!("{text}extra = 1\n")).is_err());
        assert!(from_toml(&format!("{text}bridge = \"twice\"\n")).is_err());
    }

    #[test]
    fn other_versions_are_named() {
        let later = WEB01.replace("version = 2", "version = 3\nnews = true");
        assert!(matches!(from_toml(&later), Err(ManifestError::Version(3))));
        let odd = WEB01.replace("version = 2", "version = -1");
        assert!(matches!(from_toml(&odd), Err(ManifestError::Version(-1))));
    }

    #[test]
    fn every_value_is_bounded() {
        let long_name = "x".repeat(64);
        for (good, bad) in [
            ("0a1b2c3d", "../a/b/c"),
            ("web01", "../../etc"),
            ("web01", long_name.as_str()),
            ("aaaaaaaa\"", "aaaaaaaA\""),
            ("centos7", "a b"),
            ("centos7", ""),
            ("slice = 1065536", "slice = 0"),
            ("slice = 1065536", "slice = -1"),
            ("slice = 1065536", "slice = 4294967295"),
            ("slice = 1065536", "slice = 4294967296"),
            ("00112233445566778899aabbccddeeff", "0011"),
            ("00112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF"),
            ("1700000000", "-1"),
            ("1700000000", "9223372036854775807"),
            ("wanted_up = true", "wanted_up = 1"),
            ("nagaya0", "a/b"),
            ("nagaya0", "sixteen-letters0"),
            ("02:01:02:03:04:05", "03:01:02:03:04:05"),
            ("02:01:02:03:04:05", "02:01:02:03:04"),
            ("10.9.0.2/24", "10.9.1.2/24"),
            ("10.9.0.2/24", "10.9.0.0/24"),
            ("10.9.0.2/24", "10.9.0.255/24"),
            ("10.9.0.2/24", "10.9.0.1/24"),
            ("10.9.0.2/24", "10.9.0.2/33"),
            ("10.9.0.2/24", "10.9.0.2"),
            ("gateway = \"10.9.0.1\"", "gateway = \"10.9.0.0\""),
            ("gateway = \"10.9.0.1\"", "gateway = \"::1\""),
            ("512MiB", "512M"),
            ("limits.memory", "raw.lxc"),
            ("limits.memory", "limits.memroy"),
            ("it's", "it\\u0007s"),
        ] {
            let changed = WEB01.replacen(good, bad, 1);
            assert_ne!(changed, WEB01, "{good}");
            assert!(from_toml(&changed).is_err(), "{good} -> {bad}");
        }
    }

    #[test]
    fn huge_input_is_not_parsed() {
        let huge = format!("{WEB01}#{}", "x".repeat(MAX_BYTES));
        assert!(matches!(from_toml(&huge), Err(ManifestError::TooLong(_))));
    }

    prop_compose! {
        fn lease()(
            prefix in 8u8..=29, network in any::<u32>(), gateway in any::<u32>(), guest in any::<u32>(),
            mac in any::<[u8; 5]>(), bridge in "[a-z0-9-]{1,15}",
        ) -> Lease {
            let size = 1u32 << (32 - prefix);
            let start = network & !(size - 1);
            let gateway = 1 + gateway % (size - 2);
            // Of the size - 3 addresses left, one that is not the gateway's.
            let guest = 1 + guest % (size - 3);
            let guest = guest + u32::from(guest >= gateway);
            Lease {
                bridge,
                mac: Mac::guest(mac),
                ipv4: Ipv4Network::new(Ipv4Addr::from(start + guest), prefix).unwrap(),
                gateway: Ipv4Addr::from(start + gateway),
            }
        }
    }

    prop_compose! {
        fn config()(
            pairs in proptest::collection::btree_map("(user|environment)[.][a-zA-Z]{1,9}", "\\PC{0,40}", 0..6),
        ) -> Config {
            Config::try_from(pairs).unwrap_or_default()
        }
    }

    prop_compose! {
        fn container()(
            id in any::<u32>(), name in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", template in "[0-9a-f]{64}",
            template_name in "[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}", base in 1..=u32::MAX - 65_536,
            uuid in "[0-9a-f]{32}", created_at in 0i64..=253_402_300_799, wanted_up in any::<bool>(),
            lease in proptest::option::of(lease()), config in config(),
        ) -> Container {
            Container {
                id: ContainerId::from_random(id),
                name: Name::new(&name).unwrap(),
                template: TemplateId::new(&template).unwrap(),
                template_name,
                slice: Slice::at(base).unwrap(),
                uuid,
                created_at,
                phase: Phase::Settled,
                wanted_up,
                lease,
                config,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(container in container()) {
            let text = to_toml(&container);
            prop_assert!(text.len() < MAX_BYTES);
            prop_assert_eq!(from_toml(&text).unwrap(), container);
        }

        #[test]
        fn damaged_text_never_panics(at in 0..WEB01.len(), byte in 0u8..128) {
            let mut bytes = WEB01.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(container) = from_toml(&String::from_utf8(bytes).unwrap()) {
                prop_assert_eq!(container.check(), Ok(()));
            }
        }
    }
}
