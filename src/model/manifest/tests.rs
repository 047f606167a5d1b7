//! Manifests of every version, written and read.

use super::*;
use crate::model::device::DeviceType;
use crate::model::stored::tests::outlives;
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
    "version = 4\n",
    head!(),
    r#"
[config]
"limits.memory" = "512MiB"
"user.note" = "it's here"

[[profiles]]
name = "gold"
description = "For the shop"

[profiles.config]
"limits.cpu" = "4"
"limits.memory" = "2GiB"

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
    to_toml(manifest)
}

#[test]
fn the_format_of_version_4_stays() {
    let manifest = from_toml(WEB01).unwrap();
    let container = &manifest.container;
    let expanded = container.config.expanded();
    assert_eq!((expanded.get("limits.memory"), expanded.get("limits.cpu")), (Some("512MiB"), Some("4")));
    assert_eq!(container.name.as_str(), "web01");
    assert_eq!(container.nics[0].gateway4, Some(Ipv4Addr::new(10, 9, 0, 1)));
    assert_eq!(rendered(&manifest), WEB01);
}

const STANDING: &str = r#"
[[snapshots]]
name = "before-upgrade"
created_at = 1700000000
was_running = true
is_automatic = false
template = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
template_name = "centos7"
layers = ["0123456789abcdef"]

[snapshots.config]
"limits.memory" = "256MiB"
"#;

#[test]
fn the_format_of_version_4_has_layers_and_snapshots() {
    let text = WEB01.replace("version = 3", "version = 4");
    let text = text.replace("wanted_up = true\n", "wanted_up = true\nlayers = [\"00000000000000ab\"]\n");
    let text = format!("{text}{STANDING}");
    let manifest = from_toml(&text).unwrap();
    assert_eq!(manifest.layers[0].as_str(), "00000000000000ab");
    assert_eq!(manifest.snapshots[0].config.get("limits.memory"), Some("256MiB"));
    assert_eq!(rendered(&manifest), text);
    // Versions before it had none, and would lose them.
    let old = text.replace("version = 4", "version = 3");
    assert!(matches!(from_toml(&old), Err(ManifestError::TooNew)));
}

/// As version 3 was, which had no profiles.
fn without_profiles() -> String {
    let (head, rest) = WEB01.split_once("[[profiles]]").unwrap();
    let (_, networks) = rest.split_once("[[networks]]").unwrap();
    format!("{head}[[networks]]{networks}").replace("version = 4", "version = 3")
}

#[test]
fn the_format_of_version_4_has_devices() {
    let devices = r#"
[[devices]]
name = "data"
type = "disk"
source = "/srv/data"
path = "/data"
readonly = true
shift = true
required = true
"#;
    let text = format!("{}{devices}", WEB01.replace("version = 3", "version = 4"));
    let manifest = from_toml(&text).unwrap();
    assert!(manifest.container.devices[0].disk().unwrap().readonly);
    assert_eq!(rendered(&manifest), text);
    let old = text.replace("version = 4", "version = 3");
    assert!(matches!(from_toml(&old), Err(ManifestError::TooNew)));
    for (good, bad) in
        [("/srv/data", "/srv/../data"), ("\"disk\"", "\"floppy\""), ("name = \"data\"", "name = \"eth0\"")]
    {
        assert!(from_toml(&text.replacen(good, bad, 1)).is_err(), "{good} -> {bad}");
    }
}

#[test]
fn older_versions_are_read() {
    let third = from_toml(&without_profiles()).unwrap();
    assert_eq!(from_toml(WEB01_OF_VERSION_2).unwrap(), third);
    let (first, _) = WEB01_OF_VERSION_2.split_once("\n[config]").unwrap();
    let first = first.replace("version = 2", "version = 1");
    let old = from_toml(&first).unwrap().container;
    assert_eq!(old, Container { config: Config::default().into(), ..third.container });
    for (text, version) in [(WEB01_OF_VERSION_2, "1"), (WEB01_OF_VERSION_2, "3"), (WEB01, "2"), (WEB01, "3")]
    {
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
fn what_has_a_default_may_be_missing_and_what_is_not_known_is_left_out() {
    let read = |document: serde_json::Value| from_toml(&toml::to_string(&document).unwrap());
    let needed = [
        "version",
        "id",
        "name",
        "template",
        "slice",
        "uuid",
        // The networks that the interfaces are on, with their addresses.
        "networks",
        "networks.*.name",
        "networks.*.bridge",
        "networks.*.ipv4",
        "profiles.*.name",
        "nics.*.device",
        "nics.*.name",
        "nics.*.slot",
        "nics.*.mac",
        "nics.*.kind",
        "nics.*.kind.type",
        "nics.*.kind.network",
    ];
    let document = toml::from_str(WEB01).unwrap();
    outlives(&document, read, &needed, &["config", "networks.*.notes", "profiles.*.config"]);
    let unnamed = from_toml(&WEB01.replace("template_name = \"centos7\"\n", "")).unwrap().container;
    assert_eq!(unnamed.template_name, unnamed.template.as_str());
    assert!(from_toml(&format!("{WEB01}dhcp = true\n")).is_err(), "a key stands there twice");
}

#[test]
fn other_versions_are_named() {
    let later = WEB01.replace("version = 4", "version = 5\nnews = true");
    assert!(matches!(from_toml(&later), Err(ManifestError::Version(5))));
    let odd = WEB01.replace("version = 4", "version = -1");
    assert!(matches!(from_toml(&odd), Err(ManifestError::Version(-1))));
    assert!(from_toml(&later).unwrap_err().is_newer() && !from_toml(&odd).unwrap_err().is_newer());
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
        ("it's", "it\\u0007s"),
        ("2GiB", "2G"),
        ("\"gold\"", "\"a/b\""),
        ("the shop", "the\\nshop"),
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

fn profile(config: Config) -> Profile {
    let name = crate::model::profile::ProfileName::new("gold").unwrap();
    Profile { spec: crate::model::profile::ProfileSpec { config, devices: Vec::new() }, ..Profile::new(name) }
}

prop_compose! {
    fn config()(
        pairs in proptest::collection::btree_map("(user|environment)[.][a-zA-Z]{1,9}", "\\PC{0,40}", 0..6),
    ) -> Config {
        Config::try_from(pairs).unwrap_or_default()
    }
}

prop_compose! {
    fn devices()(
        paths in proptest::collection::btree_set("/[a-z \"']{1,9}", 0..4), readonly in any::<bool>(),
    ) -> Vec<Device> {
        let disk = |(n, path): (usize, String)| {
            let readonly = if readonly { "true" } else { "false" };
            let pairs = [("source", "tmpfs:"), ("path", &*path), ("readonly", readonly)];
            let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            Device::of(&format!("d{n}"), DeviceType::Disk, &pairs).ok()
        };
        paths.into_iter().enumerate().filter_map(disk).collect()
    }
}

prop_compose! {
    fn manifest()(
        id in any::<u32>(), name in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?", template in "[0-9a-f]{64}",
        template_name in "[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}", base in 1..=u32::MAX - 65_536,
        uuid in "[0-9a-f]{32}", created_at in 0i64..=253_402_300_799, wanted_up in any::<bool>(),
        connected in (connected(0), connected(3)), nics in 0..3usize, config in config(), gold in config(),
        devices in devices(), directory in "/[a-z]{1,9}(/[a-z]{1,9})?", is_elsewhere in any::<bool>(),
    ) -> Manifest {
        let (nics, networks): (Vec<Nic>, Vec<Network>) =
            [connected.0, connected.1].into_iter().take(nics).unzip();
        let fast = Pool { name: PoolName::new("fast").unwrap(), directory, description: String::new() };
        let pool = is_elsewhere.then_some(fast);
        let container = Container {
            id: ContainerId::from_random(id),
            name: Name::new(&name).unwrap(),
            template: TemplateId::new(&template).unwrap(),
            template_name,
            pool: pool.as_ref().map_or_else(PoolName::default_one, |pool| pool.name.clone()),
            id_range: IdRange::at(base).unwrap(),
            uuid,
            created_at,
            phase: Phase::Settled,
            wanted_up,
            nics,
            devices,
            config: Layered::new(config, vec![profile(gold)]),
        };
        Manifest { container, pool, networks, layers: Vec::new(), snapshots: Vec::new() }
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
