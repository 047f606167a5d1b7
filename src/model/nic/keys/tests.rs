use std::net::Ipv4Addr;

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::*;
use crate::model::mac::Mac;

fn of(pairs: &[(&str, &str)]) -> Result<NicRequest, KeyError> {
    let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    NicRequest::of("eth1", &pairs, "nagaya0")
}

#[test]
fn nothing_said_is_the_default_network_with_all_filters() {
    assert_eq!(of(&[]).unwrap(), NicRequest::on("eth1", "nagaya0"));
}

#[test]
fn keys_are_read() {
    let nic = of(&[
        ("network", "dmz"),
        ("name", "lan0"),
        ("hwaddr", "02:AA:00:00:00:01"),
        ("ipv4.address", "10.1.2.3"),
        ("ipv6.address", "none"),
        ("limits.ingress", "100Mbit"),
        ("security.ipv6_filtering", "false"),
        ("mtu", "1400"),
    ])
    .unwrap();
    assert_eq!(nic.kind, NicKind::Bridged { network: "dmz".into() });
    assert_eq!((nic.ipv4, nic.ipv6), (Wanted::At(Ipv4Addr::new(10, 1, 2, 3)), Wanted::None));
    assert_eq!(nic.mac.unwrap().to_string(), "02:aa:00:00:00:01");
    assert_eq!((nic.settings.ingress, nic.settings.mtu), (Some(100_000_000), Some(1400)));
    assert!(nic.settings.ipv4_filtering && !nic.settings.ipv6_filtering);
}

#[test]
fn a_macvlan_asks_unless_it_is_told() {
    let asks = of(&[("nictype", "macvlan"), ("parent", "eth0")]).unwrap();
    assert!(asks.settings.dhcp && !asks.settings.mac_filtering);
    let told = of(&[
        ("nictype", "macvlan"),
        ("parent", "eth0"),
        ("ipv4.address", "192.0.2.7/24"),
        ("ipv4.gateway", "192.0.2.1"),
    ])
    .unwrap();
    assert_eq!(told.outside4, Some((24, Some(Ipv4Addr::new(192, 0, 2, 1)))));
    assert!(!told.settings.dhcp);
}

#[test]
fn nonsense_is_named() {
    for (key, value) in [
        ("hwaddr", "01:00:5e:00:00:01"),
        ("hwaddr", "00:00:00:00:00:00"),
        ("hwaddr", "2:1"),
        ("name", "sixteen-letters0"),
        ("name", "a/b"),
        ("name", "lo"),
        ("ipv4.address", "10.1.2.3/24"),
        ("ipv4.address", "fd00::1"),
        ("ipv6.address", "10.1.2.3"),
        ("limits.egress", "fast"),
        ("limits.egress", "1kbit"),
        ("mtu", "100"),
        ("nictype", "sriov"),
        ("nictype", "macvlan"),
        ("nictype", "routed"),
        ("parent", "eth0"),
        ("ipv4.gateway", "10.0.0.1"),
        ("security.mac_filtering", "maybe"),
        ("vlan", "3"),
    ] {
        let error = of(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert!(NicRequest::of("Eth 0", &BTreeMap::new(), "n").is_err());
}

#[test]
fn what_an_interface_says_of_itself_makes_it_again() {
    for pairs in [
        vec![("security.port_isolation", "true"), ("limits.ingress", "5Mbit"), ("mtu", "1400")],
        vec![("security.mac_filtering", "false"), ("ipv6.address", "none")],
        vec![("nictype", "routed"), ("ipv6.address", "2001:db8::7")],
        vec![("nictype", "macvlan"), ("parent", "eth0")],
        vec![
            ("nictype", "macvlan"),
            ("parent", "eth0"),
            ("ipv4.address", "192.0.2.7/24"),
            ("ipv4.gateway", "192.0.2.1"),
        ],
    ] {
        let mut request = of(&pairs).unwrap();
        request.mac = Some(Mac::guest([1, 2, 3, 4, 5]));
        request.name = Some("eth1".into());
        let address4 = match (request.ipv4, request.outside4) {
            (Wanted::At(ip), outside) => Ipv4Network::new(ip, outside.map_or(32, |(prefix, _)| prefix)).ok(),
            _ => None,
        };
        let address6 = match request.ipv6 {
            Wanted::At(ip) => Some(Ipv6Network::from(ip)),
            _ => None,
        };
        let nic = Nic {
            device: request.device.clone(),
            name: "eth1".into(),
            slot: 1,
            kind: request.kind.clone(),
            mac: request.mac.unwrap(),
            ipv4: address4,
            gateway4: request.outside4.and_then(|(_, gateway)| gateway),
            ipv6: address6,
            gateway6: None,
            settings: request.settings.clone(),
        };
        let again = NicRequest::of("eth1", &nic.config(), "nagaya0").unwrap();
        assert_eq!((again.kind, again.settings), (request.kind, request.settings), "{pairs:?}");
        assert_eq!(again.outside4, request.outside4);
    }
}
