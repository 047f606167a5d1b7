//! Frames for tests: what a guest sends that means well, and what one sends that does not.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::SpoofFilter;
use crate::model::mac::Mac;

pub const MAC: Mac = Mac([2, 1, 2, 3, 4, 1]);
const OTHER_MAC: Mac = Mac([2, 1, 2, 3, 4, 9]);
pub const OWN4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);
const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 6);
pub const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 5);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 6);
const NONE4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const NONE6: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// Everything is filtered.
pub fn spoof_filter() -> SpoofFilter {
    SpoofFilter { mac: Some(MAC), ipv4: Some(vec![OWN4]), ipv6: Some(vec![MAC.link_local(), OWN6]) }
}

pub fn ethernet(source: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6], &source.0[..], &kind.to_be_bytes(), payload].concat()
}

fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&head[..], &sender.0.0, &sender.1.octets(), &[0; 6], &target.octets()].concat();
    ethernet(MAC, 0x0806, &body)
}

/// `words` are 32-bit words of options, `fragment` the field with flags and offset.
fn ipv4(source: Ipv4Addr, protocol: u8, fragment: u16, words: usize, payload: &[u8]) -> Vec<u8> {
    let length = (20 + 4 * words + payload.len()) as u16;
    let head =
        [&[0x45 + words as u8, 0][..], &length.to_be_bytes(), &[0, 7], &fragment.to_be_bytes()].concat();
    let rest =
        [&[64, protocol, 0, 0][..], &source.octets(), &[255; 4], &vec![1; 4 * words], payload].concat();
    ethernet(MAC, 0x0800, &[head, rest].concat())
}

pub fn udp(source: u16, target: u16) -> Vec<u8> {
    [&source.to_be_bytes()[..], &target.to_be_bytes(), &[0, 12, 0, 0], b"data"].concat()
}

fn ipv6(source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
    let length = (payload.len() as u16).to_be_bytes();
    let head = [&[0x60, 0, 0, 0][..], &length, &[next, 255], &source.octets(), &all_nodes].concat();
    ethernet(MAC, 0x86dd, &[&head, payload].concat())
}

fn icmpv6(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

/// An extension header of 8 bytes before `payload`.
fn behind(next: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    [&[next, 0][..], &field.to_be_bytes(), &[0; 4], payload].concat()
}

/// What each frame is, and whether it passes [`spoof_filter`].
pub fn cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    [ethernet_cases(), arp_cases(), ipv4_cases(), ipv6_cases(), extension_cases()].concat()
}

fn ethernet_cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let ping = ipv4(OWN4, 1, 0, 0, &[8; 8]);
    let tagged = |kind: u16| {
        let mut frame = ping.clone();
        frame.splice(12..12, [&kind.to_be_bytes()[..], &[0, 5]].concat());
        frame
    };
    let mut stranger = ping.clone();
    stranger[6..12].copy_from_slice(&OTHER_MAC.0);
    vec![
        ("ping", true, ping.clone()),
        ("from another Ethernet address", false, stranger),
        ("with a VLAN tag", false, tagged(0x8100)),
        ("with a service tag", false, tagged(0x88a8)),
        ("of spanning tree", false, ethernet(MAC, 38, &[0x42; 46])),
        ("of LLDP", false, ethernet(MAC, 0x88cc, &[0; 46])),
        ("reverse ARP", false, ethernet(MAC, 0x8035, &[0; 46])),
        ("PPPoE", false, ethernet(MAC, 0x8863, &[0; 46])),
    ]
}

fn arp_cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let mut token_ring = arp(1, (MAC, OWN4), OTHER4);
    token_ring[15] = 6;
    let mut long = arp(1, (MAC, OWN4), OTHER4);
    long[19] = 16;
    vec![
        ("ARP request", true, arp(1, (MAC, OWN4), OTHER4)),
        ("ARP reply", true, arp(2, (MAC, OWN4), OTHER4)),
        ("ARP announcement", true, arp(1, (MAC, OWN4), OWN4)),
        ("ARP probe", true, arp(1, (MAC, NONE4), OWN4)),
        ("ARP probe for another's address", false, arp(1, (MAC, NONE4), OTHER4)),
        ("ARP reply from nowhere", false, arp(2, (MAC, NONE4), OWN4)),
        ("ARP for another", false, arp(2, (MAC, OTHER4), OWN4)),
        ("ARP request as another", false, arp(1, (MAC, OTHER4), OWN4)),
        ("ARP with another Ethernet address", false, arp(2, (OTHER_MAC, OWN4), OTHER4)),
        ("inverse ARP", false, arp(8, (MAC, OWN4), OTHER4)),
        ("ARP cut short", false, arp(1, (MAC, OWN4), OTHER4)[..41].to_vec()),
        ("ARP of token ring", false, token_ring),
        ("ARP of long addresses", false, long),
    ]
}

fn ipv4_cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let (more, last) = (0x2000, 0x0005);
    vec![
        ("TCP", true, ipv4(OWN4, 6, 0x4000, 0, &[0; 20])),
        ("UDP", true, ipv4(OWN4, 17, 0x4000, 0, &udp(5353, 53))),
        ("UDP behind options", true, ipv4(OWN4, 17, 0, 3, &udp(5353, 53))),
        ("first fragment", true, ipv4(OWN4, 17, more, 0, &udp(5353, 53))),
        ("last fragment", true, ipv4(OWN4, 17, last, 0, &udp(67, 68))),
        ("as another", false, ipv4(OTHER4, 6, 0, 0, &[0; 20])),
        ("last fragment as another", false, ipv4(OTHER4, 17, last, 0, &[0; 20])),
        ("as the broadcast address", false, ipv4(Ipv4Addr::BROADCAST, 1, 0, 0, &[8; 8])),
        ("DHCP discovery", true, ipv4(NONE4, 17, 0, 0, &udp(68, 67))),
        ("DHCP renewal", true, ipv4(OWN4, 17, 0, 0, &udp(68, 67))),
        ("DHCP discovery in fragments", false, ipv4(NONE4, 17, more, 0, &udp(68, 67))),
        ("later fragment from nowhere", false, ipv4(NONE4, 17, last, 0, &udp(68, 67))),
        ("UDP from nowhere", false, ipv4(NONE4, 17, 0, 0, &udp(68, 53))),
        ("TCP from nowhere", false, ipv4(NONE4, 6, 0, 0, &udp(68, 67))),
        ("DHCP offer", false, ipv4(OWN4, 17, 0, 0, &udp(67, 68))),
        ("DHCP offer behind options", false, ipv4(OWN4, 17, 0, 10, &udp(67, 68))),
        ("DHCP offer from another port", false, ipv4(OWN4, 17, 0, 0, &udp(6767, 68))),
        ("DHCP offer in fragments", false, ipv4(OWN4, 17, more, 0, &udp(67, 68))),
        ("from a DHCP server's port", false, ipv4(OWN4, 17, 0, 0, &udp(67, 6868))),
        ("UDP cut short", false, ipv4(OWN4, 17, more, 0, &[0, 67, 0, 68])),
        ("IPv4 cut short", false, ipv4(OWN4, 17, 0, 0, &[])[..33].to_vec()),
        ("UDP in a header of 4 words", false, {
            let mut frame = ipv4(OWN4, 17, 0, 0, &udp(5353, 53));
            frame[14] = 0x44;
            frame
        }),
    ]
}

fn ipv6_cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let local = MAC.link_local();
    let others_local = OTHER_MAC.link_local();
    vec![
        ("TCP over IPv6", true, ipv6(OWN6, 6, &[0; 20])),
        ("ping over IPv6", true, ipv6(OWN6, 58, &icmpv6(128, NONE6))),
        ("link-local ping", true, ipv6(local, 58, &icmpv6(128, NONE6))),
        ("IPv6 as another", false, ipv6(OTHER6, 6, &[0; 20])),
        ("as another's link-local address", false, ipv6(others_local, 58, &icmpv6(128, NONE6))),
        ("as a link-local address made up", false, ipv6("fe80::1".parse().unwrap(), 58, &icmpv6(128, NONE6))),
        ("as all nodes", false, ipv6("ff02::1".parse().unwrap(), 58, &icmpv6(128, NONE6))),
        ("router solicitation", true, ipv6(local, 58, &icmpv6(133, NONE6))),
        ("router solicitation from nowhere", true, ipv6(NONE6, 58, &icmpv6(133, NONE6))),
        ("router advertisement", false, ipv6(local, 58, &icmpv6(134, NONE6))),
        ("router advertisement from nowhere", false, ipv6(NONE6, 58, &icmpv6(134, NONE6))),
        ("redirect", false, ipv6(local, 58, &icmpv6(137, OWN6))),
        ("neighbour solicitation", true, ipv6(OWN6, 58, &icmpv6(135, OTHER6))),
        ("detection of a duplicate", true, ipv6(NONE6, 58, &icmpv6(135, OWN6))),
        ("detection of a link-local duplicate", true, ipv6(NONE6, 58, &icmpv6(135, local))),
        ("denial of another's address", false, ipv6(NONE6, 58, &icmpv6(135, OTHER6))),
        ("neighbour advertisement", true, ipv6(OWN6, 58, &icmpv6(136, OWN6))),
        ("link-local neighbour advertisement", true, ipv6(local, 58, &icmpv6(136, OWN6))),
        ("advertisement of another's address", false, ipv6(OWN6, 58, &icmpv6(136, OTHER6))),
        ("advertisement from nowhere", false, ipv6(NONE6, 58, &icmpv6(136, OWN6))),
        ("advertisement cut short", false, ipv6(OWN6, 58, &icmpv6(136, OWN6)[..23])),
        ("ICMPv6 cut short", false, ipv6(OWN6, 58, &[])),
        ("IPv6 cut short", false, ipv6(OWN6, 6, &[])[..53].to_vec()),
        ("UDP over IPv6", true, ipv6(OWN6, 17, &udp(5353, 53))),
        ("DHCPv6 request", true, ipv6(local, 17, &udp(546, 547))),
        ("DHCPv6 reply", false, ipv6(local, 17, &udp(547, 546))),
        ("DHCPv6 reply from another port", false, ipv6(local, 17, &udp(5470, 546))),
        ("from a DHCPv6 server's port", false, ipv6(local, 17, &udp(547, 5460))),
        ("UDP from nowhere over IPv6", false, ipv6(NONE6, 17, &udp(546, 547))),
        ("UDP cut short over IPv6", false, ipv6(OWN6, 17, &[2, 35, 2, 34])),
        ("IPv6 from a mapped address", false, ipv6(OTHER4.to_ipv6_mapped(), 6, &[0; 20])),
    ]
}

fn extension_cases() -> Vec<(&'static str, bool, Vec<u8>)> {
    let local = MAC.link_local();
    let advertisement = icmpv6(134, NONE6);
    let (first, later) = (0x0001, 0x0008);
    let mut long = behind(58, 0, &[&[0; 8][..], &icmpv6(143, NONE6)].concat());
    long[1] = 1;
    vec![
        ("listener report", true, ipv6(local, 0, &behind(58, 0x0502, &icmpv6(143, NONE6)))),
        ("listener report from nowhere", true, ipv6(NONE6, 0, &behind(58, 0x0502, &icmpv6(143, NONE6)))),
        ("listener report, version 1", true, ipv6(local, 0, &behind(58, 0x0502, &icmpv6(131, NONE6)))),
        ("advertisement behind hop-by-hop options", false, ipv6(local, 0, &behind(58, 0, &advertisement))),
        ("long hop-by-hop options", false, ipv6(local, 0, &long)),
        ("UDP behind hop-by-hop options", false, ipv6(local, 0, &behind(17, 0, &udp(1, 2)))),
        ("listener report as another", false, ipv6(OTHER6, 0, &behind(58, 0x0502, &icmpv6(143, NONE6)))),
        ("advertisement behind destination options", false, ipv6(local, 60, &behind(58, 0, &advertisement))),
        ("advertisement behind two", false, ipv6(local, 60, &behind(60, 0, &behind(58, 0, &advertisement)))),
        ("UDP behind destination options", false, ipv6(local, 60, &behind(17, 0, &udp(547, 546)))),
        ("tunnel behind destination options", true, ipv6(OWN6, 60, &behind(41, 0x0401, &[0; 40]))),
        ("behind a routing header", false, ipv6(OWN6, 43, &behind(6, 0, &[0; 20]))),
        ("behind authentication", false, ipv6(OWN6, 51, &behind(58, 0, &advertisement))),
        ("behind a mobility header", false, ipv6(OWN6, 135, &behind(58, 0, &advertisement))),
        ("IPsec", true, ipv6(OWN6, 50, &[0; 40])),
        ("first fragment of a ping", true, ipv6(OWN6, 44, &behind(58, first, &icmpv6(128, NONE6)))),
        ("later fragment of a ping", true, ipv6(OWN6, 44, &behind(58, later, &[134; 8]))),
        ("first fragment of UDP", true, ipv6(OWN6, 44, &behind(17, first, &udp(5353, 53)))),
        ("later fragment as another", false, ipv6(OTHER6, 44, &behind(17, later, &[0; 8]))),
        ("fragment from nowhere", false, ipv6(NONE6, 44, &behind(58, later, &icmpv6(135, OWN6)))),
        ("advertisement in fragments", false, ipv6(local, 44, &behind(58, first, &advertisement))),
        ("advertisement in one fragment", false, ipv6(local, 44, &behind(58, 0, &advertisement))),
        (
            "neighbour advertisement in fragments",
            false,
            ipv6(OWN6, 44, &behind(58, first, &icmpv6(136, OWN6))),
        ),
        ("fragment with its type cut off", false, ipv6(OWN6, 44, &behind(58, first, &[]))),
        ("DHCPv6 reply in fragments", false, ipv6(local, 44, &behind(17, first, &udp(547, 546)))),
        ("options in a fragment", false, ipv6(local, 44, &behind(60, first, &behind(58, 0, &advertisement)))),
        (
            "fragment in a fragment",
            false,
            ipv6(local, 44, &behind(44, first, &behind(58, 0, &advertisement))),
        ),
        ("fragment cut short", false, ipv6(local, 44, &[58, 0, 0, 1])),
    ]
}
