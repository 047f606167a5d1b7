//! Two networks and some containers, for tests.

use super::check::{Facts, Member};
use super::plan::Plan;
use super::policy::Policy;
use crate::model::mac::Mac;
use crate::model::name::{ContainerId, Name};
use crate::model::network::Network;
use crate::model::nic::{Nic, NicKind, NicSettings};

/// A container's `slot`th interface of kind `kind`; its addresses are number `n` of its network's.
pub fn nic(n: u8, slot: u8, kind: NicKind, ipv4: Option<&str>, ipv6: Option<&str>) -> (String, Nic) {
    let nic = Nic {
        device: format!("eth{slot}"),
        name: format!("eth{slot}"),
        slot,
        kind,
        mac: Mac::guest([0, 0, 0, slot, n]),
        ipv4: ipv4.map(|ip| ip.parse().unwrap()),
        gateway4: None,
        ipv6: ipv6.map(|ip| ip.parse().unwrap()),
        gateway6: None,
        settings: NicSettings::default(),
    };
    (format!("ng{n:08x}{}", if slot == 0 { String::new() } else { format!("-{slot}") }), nic)
}

pub fn member(n: u8, name: &str, nics: Vec<(String, Nic)>) -> Member {
    Member { id: ContainerId::from_random(n.into()), name: Name::new(name).unwrap(), nics }
}

/// Networks `lan` (10.7.0.1/24, fd07::1/64), `old` (10.8.0.1/24) and `site` (the host's own bridge);
/// containers `web01` and `db01` on `lan`, `old01` on `old`, `far01` by a link of its own, `out01`
/// beside the host and `site01` on `site`.
pub fn facts() -> Facts {
    let lan = Network::new("lan", "lan0", "10.7.0.1/24".parse().ok(), "fd07::1/64".parse().ok());
    let old = Network::new("old", "old0", "10.8.0.1/24".parse().ok(), None);
    let mut site = Network::new("site", "br9", None, None);
    site.foreign = true;
    let on = |network: &str| NicKind::Bridged { network: network.to_owned() };
    let outside = NicKind::Macvlan { parent: "eth0".into() };
    Facts {
        networks: vec![lan, old, site],
        containers: vec![
            member(1, "web01", vec![nic(1, 0, on("lan"), Some("10.7.0.2/24"), Some("fd07::2/64"))]),
            member(2, "db01", vec![nic(2, 0, on("lan"), Some("10.7.0.3/24"), Some("fd07::3/64"))]),
            member(3, "old01", vec![nic(3, 0, on("old"), Some("10.8.0.2/24"), None)]),
            member(4, "far01", vec![nic(4, 0, NicKind::Routed, Some("192.0.2.7/32"), None)]),
            member(5, "out01", vec![nic(5, 0, outside, Some("198.51.100.7/24"), None)]),
            member(6, "site01", vec![nic(6, 0, on("site"), Some("198.51.100.8/24"), None)]),
        ],
    }
}

/// The beginning of a policy; lines that follow are the group's.
macro_rules! office_and_web {
    () => {
        r#"
[sets]
office = ["198.51.100.0/24", "2001:db8:1::/48"]
[groups.web]
in = [{ action = "allow", proto = "tcp", ports = "80,443" }]
"#
    };
}
pub(super) use office_and_web;

pub fn policy(text: &str) -> Policy {
    toml::from_str(text).unwrap_or_else(|e| panic!("{e}"))
}

pub fn plan(text: &str) -> Plan {
    Plan::of(&policy(text), &facts()).unwrap_or_else(|e| panic!("{e}"))
}
