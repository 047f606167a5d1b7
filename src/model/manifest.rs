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
use super::mac::Mac;
use super::name::{ContainerId, Name};
use super::network::{KeyError, Network};
use super::nic::{Nic, NicKind, NicSettings};
use super::template::TemplateId;

/// The version written. Of those that are read too, version 1 has no configuration and version 2 one
/// interface at most, with the one network that there was.
const VERSION: u32 = 3;

/// Longer than any manifest, in which every character of the configuration may take two; longer
/// input is not looked at.
const MAX_BYTES: usize = 64 * 1024 + 4 * config::MAX_BYTES;

/// What a manifest describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// In phase `Settled`.
    pub container: Container,
    /// Those that its interfaces are on.
    pub networks: Vec<Network>,
}

/// Why a text is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest of {0} bytes is longer than any that nagaya writes")]
    TooLong(usize),
    #[error("cannot read the manifest as TOML of version 1, 2 or 3")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("the manifest has version {0}, and only versions 1 to 3 are known")]
    Version(i64),
    #[error("the manifest has parts that its version does not know")]
    TooNew,
    #[error("the manifest's slice cannot begin at id {0}")]
    Slice(u32),
    #[error("the manifest's network breaks a rule")]
    Network(#[source] KeyError),
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    networks: Vec<Network>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nics: Vec<Nic>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseTable {
    bridge: String,
    mac: Mac,
    ipv4: Ipv4Network,
    gateway: Ipv4Addr,
}

/// The manifest of `container`, of whose networks `networks` are; the phase is left out.
pub fn to_toml(container: &Container, networks: &[Network]) -> String {
    let used = |network: &&Network| container.nics.iter().any(|nic| nic.network() == Some(&network.name));
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
        lease: None,
        config: container.config.clone(),
        networks: networks.iter().filter(used).cloned().collect(),
        nics: container.nics.clone(),
    };
    toml::to_string(&document).expect("strings, integers and tables, which come last, are TOML")
}

/// What `text` describes. Unknown and missing fields are errors, and so is every value that could not
/// have been stored.
pub fn from_toml(text: &str) -> Result<Manifest, ManifestError> {
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
    let later = !document.nics.is_empty() || !document.networks.is_empty();
    let too_new = (version < 2 && !document.config.is_empty()) || (version < 3 && later);
    if too_new || (version == 3 && document.lease.is_some()) {
        return Err(ManifestError::TooNew);
    }
    let (nics, networks) = match document.lease {
        Some(lease) => (vec![of_lease(&lease)], vec![network_of(&lease)?]),
        None => (document.nics, document.networks),
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
        nics,
        config: document.config,
    };
    container.check().map_err(ManifestError::Field)?;
    networks.iter().try_for_each(Network::check).map_err(ManifestError::Network)?;
    for nic in &container.nics {
        let on = networks.iter().find(|network| Some(network.name.as_str()) == nic.network());
        let fits = on.is_none_or(|network| {
            let prefix4 = network.ipv4.map(|net| net.prefix());
            let prefix6 = network.ipv6.map(|net| net.prefix());
            nic.ipv4.is_none_or(|net| network.is_guest_address4(net.ip()) && prefix4 == Some(net.prefix()))
                && nic
                    .ipv6
                    .is_none_or(|net| network.is_guest_address6(net.ip()) && prefix6 == Some(net.prefix()))
        });
        if !fits || (nic.network().is_some() && on.is_none()) {
            let value = nic.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
            let rule = "a guest's address on its network";
            return Err(ManifestError::Field(FieldError { field: "nics", value, rule }));
        }
    }
    Ok(Manifest { container, networks })
}

/// The one interface that a container of the older versions had.
fn of_lease(lease: &LeaseTable) -> Nic {
    Nic {
        device: "eth0".to_owned(),
        name: "eth0".to_owned(),
        slot: 0,
        kind: NicKind::Bridged { network: lease.bridge.clone() },
        mac: lease.mac,
        ipv4: Some(lease.ipv4),
        gateway4: Some(lease.gateway),
        ipv6: None,
        gateway6: None,
        settings: NicSettings::default(),
    }
}

fn network_of(lease: &LeaseTable) -> Result<Network, ManifestError> {
    let wrong =
        |_| ManifestError::Network(KeyError::wrong("gateway", &lease.gateway.to_string(), "an address"));
    let gateway = Ipv4Network::new(lease.gateway, lease.ipv4.prefix()).map_err(wrong)?;
    Ok(Network::new(&lease.bridge, &lease.bridge, Some(gateway), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What all versions begin with.
    macro_rules! head {
        () => {
            r#"id = "0a1b2c3d"
name = "web01"
template = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
template_name = "centos7"
slice = 1065536
uuid = "00112233445566778899aabbccddeeff"
created_at = 1700000000
wanted_up = true
"#
        };
    }

    /// The same as versions before 0.2 wrote it.
    const WEB01_OF_VERSION_2: &str = concat!(
        "version = 2\n",
        head!(),
        r#"
[lease]
bridge = "nagaya0"
mac = "02:01:02:03:04:05"
ipv4 = "10.9.0.2/24"
gateway = "10.9.0.1"

[config]
"limits.memory" = "512MiB"
"user.note" = "it's here"
"#
    );

    const WEB01: &str = concat!(
        "version = 3\n",
        head!(),
        r#"
[config]
"limits.memory" = "512MiB"
"user.note" = "it's here"

[[networks]]
name = "nagaya0"
bridge = "nagaya0"
foreign = false
ipv4 = "10.9.0.1/24"
nat4 = "masquerade"
dhcp4 = false
nat6 = "off"
dhcp6 = false
isolated = false

[networks.notes]

[[nics]]
device = "eth0"
name = "eth0"
slot = 0
mac = "02:01:02:03:04:05"
ipv4 = "10.9.0.2/24"
gateway4 = "10.9.0.1"

[nics.kind]
type = "bridged"
network = "nagaya0"

[nics.settings]
mac_filtering = true
ipv4_filtering = true
ipv6_filtering = true
port_isolation = false
dhcp = false
"#
    );

    fn rendered(manifest: &Manifest) -> String {
        to_toml(&manifest.container, &manifest.networks)
    }

    #[test]
    fn the_format_of_version_3_stays() {
        let manifest = from_toml(WEB01).unwrap();
        let container = &manifest.container;
        assert_eq!(container.config.get("limits.memory"), Some("512MiB"));
        assert_eq!(container.name.as_str(), "web01");
        assert_eq!(container.nics[0].gateway4, Some(Ipv4Addr::new(10, 9, 0, 1)));
        assert_eq!(rendered(&manifest), WEB01);
    }

    #[test]
    fn older_versions_are_read() {
        assert_eq!(from_toml(WEB01_OF_VERSION_2).unwrap(), from_toml(WEB01).unwrap());
        let (first, _) = WEB01_OF_VERSION_2.split_once("\n[config]").unwrap();
        let first = first.replace("version = 2", "version = 1");
        let old = from_toml(&first).unwrap().container;
        assert_eq!(old, Container { config: Config::default(), ..from_toml(WEB01).unwrap().container });
        for (text, version) in [(WEB01_OF_VERSION_2, "1"), (WEB01_OF_VERSION_2, "3"), (WEB01, "2")] {
            let mixed = format!("version = {version}{}", &text["version = 2".len()..]);
            assert!(matches!(from_toml(&mixed), Err(ManifestError::TooNew)), "{mixed}");
        }
    }

    #[test]
    fn an_unsettled_container_is_read_back_settled() {
        let mut manifest = from_toml(WEB01).unwrap();
        for phase in [Phase::Creating, Phase::Starting, Phase::Deleting] {
            manifest.container.phase = phase;
            assert_eq!(from_toml(&rendered(&manifest)).unwrap().container.phase, Phase::Settled);
        }
    }

    #[test]
    fn every_field_is_needed_and_none_is_added() {
        let optional = ["limits.memory", "user.note", "ipv4 =", "gateway4 ="];
        for line in WEB01.lines().filter(|line| line.contains('=')) {
            let without = WEB01.replacen(&format!("{line}\n"), "", 1);
            let needed = !optional.iter().any(|key| line.contains(key));
            assert_eq!(from_toml(&without).is_err(), needed || line.contains(".1/24"), "without {line}");
        }
        assert!(from_toml(&format!("extra = 1\n{WEB01}")).is_err());
        assert!(from_toml(&format!("{WEB01}extra = 1\n")).is_err());
        assert!(from_toml(&format!("{WEB01}dhcp = true\n")).is_err());
    }

    #[test]
    fn other_versions_are_named() {
        let later = WEB01.replace("version = 3", "version = 4\nnews = true");
        assert!(matches!(from_toml(&later), Err(ManifestError::Version(4))));
        let odd = WEB01.replace("version = 3", "version = -1");
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
            ("ipv4 = \"10.9.0.1/24\"", "ipv4 = \"10.9.0.0/24\""),
            ("gateway4 = \"10.9.0.1\"", "gateway4 = \"::1\""),
            ("network = \"nagaya0\"", "network = \"other\""),
            ("slot = 0", "slot = 6"),
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
        /// An interface on a network of its own, whose number is its slot.
        fn connected(slot: u8)(
            prefix in 8u8..=29, subnet in any::<u32>(), gateway in any::<u32>(), guest in any::<u32>(),
            mac in any::<[u8; 5]>(), bits in any::<[bool; 5]>(), mtu in proptest::option::of(1280u32..9000),
        ) -> (Nic, Network) {
            let size = 1u32 << (32 - prefix);
            // Class A, so that no subnet is a loopback's, a group's or a link's.
            let start = (0x0a00_0000 | (subnet & 0x00ff_ffff)) & !(size - 1);
            let gateway = 1 + gateway % (size - 2);
            // Of the size - 3 addresses left, one that is not the gateway's.
            let guest = 1 + guest % (size - 3);
            let guest = guest + u32::from(guest >= gateway);
            let net = |n| Ipv4Network::new(Ipv4Addr::from(start + n), prefix).unwrap();
            let net6 = |n: u8| format!("fd00:{slot}::{n}/64").parse().unwrap();
            let name = format!("net{slot}");
            let network = Network::new(&name, &name, Some(net(gateway)), bits[0].then(|| net6(1)));
            let [_, mac_filtering, ipv4_filtering, port_isolation, dhcp] = bits;
            let nic = Nic {
                device: format!("dev{slot}"),
                name: format!("eth{slot}"),
                slot,
                kind: NicKind::Bridged { network: name },
                mac: Mac::guest(mac),
                ipv4: Some(net(guest)),
                gateway4: Some(net(gateway).ip()),
                ipv6: bits[0].then(|| net6(2)),
                gateway6: bits[0].then(|| net6(1).ip()),
                settings: NicSettings { mtu, mac_filtering, ipv4_filtering, port_isolation, dhcp, ..Default::default() },
            };
            (nic, network)
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
        fn manifest()(
            id in any::<u32>(), name in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", template in "[0-9a-f]{64}",
            template_name in "[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}", base in 1..=u32::MAX - 65_536,
            uuid in "[0-9a-f]{32}", created_at in 0i64..=253_402_300_799, wanted_up in any::<bool>(),
            connected in (connected(0), connected(3)), nics in 0..3usize, config in config(),
        ) -> Manifest {
            let (nics, networks): (Vec<Nic>, Vec<Network>) =
                [connected.0, connected.1].into_iter().take(nics).unzip();
            let container = Container {
                id: ContainerId::from_random(id),
                name: Name::new(&name).unwrap(),
                template: TemplateId::new(&template).unwrap(),
                template_name,
                slice: Slice::at(base).unwrap(),
                uuid,
                created_at,
                phase: Phase::Settled,
                wanted_up,
                nics,
                config,
            };
            Manifest { container, networks }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(manifest in manifest()) {
            let text = rendered(&manifest);
            prop_assert!(text.len() < MAX_BYTES);
            prop_assert_eq!(from_toml(&text).unwrap(), manifest);
        }

        #[test]
        fn damaged_text_never_panics(at in 0..WEB01.len(), byte in 0u8..128) {
            let mut bytes = WEB01.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(manifest) = from_toml(&String::from_utf8(bytes).unwrap()) {
                prop_assert_eq!(manifest.container.check(), Ok(()));
            }
        }
    }
}
