//! What a guest may send: a classic BPF program for the ingress of the host's end of its link. It goes with
//! the link, costs the same however many containers there are, and no flush of a firewall removes it.
//!
//! The decisions, where the protocols leave a choice:
//! - A load from behind a frame's end would let it pass, so its length is asked before each.
//! - Frames with a VLAN tag are dropped, stripped by the kernel (the outer one) or not.
//! - ARP: requests and replies about IPv4 on Ethernet, from the guest's own address; an address probe
//!   (RFC 5227, sender 0.0.0.0) for its own address only, for it would stop another from taking its.
//! - DHCP goes by ports, and servers' messages are known by where they come from (67, 547) as well as
//!   by where they go (68, 546): clients look at the latter alone.
//! - A fragment that is not the first has no ports and cannot overwrite those of the first, which
//!   is at least 8 bytes long where there is another; only its source is looked at.
//! - IPv6 link-local: the one that goes with the Ethernet address (RFC 4291, appendix A) and no
//!   other, for nobody else would know which guest made up which.
//! - Unspecified IPv6 source: duplicate address detection for an address of its own, router
//!   solicitations, multicast listener reports.
//! - Neighbour advertisements are about the guest's own addresses. Which Ethernet address they give
//!   is not looked at: a guest can only misdirect what is meant for itself.
//! - Extension headers may hide ICMPv6 from a filter that does not follow the chain. So a hop-by-hop
//!   header stands only before multicast listener messages, which must have one; destination options
//!   only before what is neither ICMPv6 nor UDP nor another extension header; routing, authentication,
//!   mobility, HIP and shim6 headers nowhere.
//! - A fragment's next header counts only in the first fragment; there it may not be an extension
//!   header, nor neighbour discovery, which hosts ignore in fragments (RFC 6980) but not all did.
//! - Any other Ethernet type is dropped where addresses are filtered: what it carries is not looked at.

mod assembler;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use assembler::Instruction;
use assembler::{Assembler, Is, Label, Size};

use crate::model::mac::Mac;
use crate::model::nic::Nic;

/// The addresses that a guest may send from. `None` switches that filter off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoofFilter {
    pub mac: Option<Mac>,
    pub ipv4: Option<Vec<Ipv4Addr>>,
    /// The link-local address too.
    pub ipv6: Option<Vec<Ipv6Addr>>,
}

impl SpoofFilter {
    /// The filter of an interface; none if nothing is filtered or the interface has no host link.
    pub fn of(nic: &Nic) -> Option<Self> {
        let settings = &nic.settings;
        let own6 = nic.ipv6.map(|net| net.ip());
        let spoof_filter = Self {
            mac: settings.mac_filtering.then_some(nic.mac),
            ipv4: settings.ipv4_filtering.then(|| nic.ipv4.iter().map(|net| net.ip()).collect()),
            ipv6: settings
                .ipv6_filtering
                .then(|| std::iter::once(nic.mac.link_local()).chain(own6).collect()),
        };
        let on = spoof_filter.mac.is_some() || spoof_filter.ipv4.is_some() || spoof_filter.ipv6.is_some();
        (on && nic.has_host_end()).then_some(spoof_filter)
    }
}

const ETHERNET: u32 = 14;
/// Where the payload of an IPv6 header without extensions begins.
const BEHIND_IPV6: u32 = ETHERNET + 40;
/// Where that of one extension header of 8 bytes begins.
const BEHIND_EXTENSION: u32 = BEHIND_IPV6 + 8;

const ARP: u32 = 0x0806;
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const VLAN: [u32; 2] = [0x8100, 0x88a8];

const UDP: u32 = 17;
const ICMPV6: u32 = 58;
const HOP_BY_HOP: u32 = 0;
const FRAGMENT: u32 = 44;
const DESTINATION_OPTIONS: u32 = 60;
/// Routing, authentication, mobility, HIP, shim6.
const OTHER_EXTENSIONS: [u32; 5] = [43, 51, 135, 139, 140];

const ROUTER_SOLICITATION: u32 = 133;
const ROUTER_ADVERTISEMENT: u32 = 134;
const NEIGHBOUR_SOLICITATION: u32 = 135;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
const REDIRECT: u32 = 137;
/// Query, report and done of version 1, report of version 2.
const MULTICAST_LISTENER: [u32; 4] = [130, 131, 132, 143];

/// Ports of servers, then of clients.
const DHCPV4: (u32, u32) = (67, 68);
const DHCPV6: (u32, u32) = (547, 546);

/// The program that drops what the guest may not send and leaves the rest to later filters.
pub fn program(spoof_filter: &SpoofFilter) -> Vec<Instruction> {
    let mut asm = Assembler::default();
    let (arp, ipv4, ipv6, pass) = (asm.label(), asm.label(), asm.label(), asm.label());
    ethernet(&mut asm, spoof_filter);
    asm.load(Size::Half, 12);
    for tagged in VLAN {
        asm.forbid(Is::Equal(tagged));
    }
    asm.goto_if(Is::Equal(ARP), arp);
    asm.goto_if(Is::Equal(IPV4), if spoof_filter.ipv4.is_some() { ipv4 } else { pass });
    asm.goto_if(Is::Equal(IPV6), if spoof_filter.ipv6.is_some() { ipv6 } else { pass });
    match spoof_filter.ipv4.is_some() || spoof_filter.ipv6.is_some() {
        true => asm.drop(),
        false => asm.pass(),
    }
    asm.place(arp);
    arp_rules(&mut asm, spoof_filter, pass);
    if let Some(own) = &spoof_filter.ipv4 {
        asm.place(ipv4);
        ipv4_rules(&mut asm, own, pass);
    }
    if let Some(own) = &spoof_filter.ipv6 {
        asm.place(ipv6);
        ipv6_rules(&mut asm, own, pass);
    }
    asm.place(pass);
    asm.pass();
    asm.finish()
}

fn ethernet(asm: &mut Assembler, spoof_filter: &SpoofFilter) {
    asm.need(ETHERNET);
    asm.load_vlan_tag_present();
    asm.require(Is::Equal(0));
    if let Some(mac) = spoof_filter.mac {
        require_mac(asm, 6, mac);
    }
}

fn require_mac(asm: &mut Assembler, offset: u32, mac: Mac) {
    let [a, b, c, d, e, f] = mac.0;
    asm.load(Size::Word, offset);
    asm.require(Is::Equal(u32::from_be_bytes([a, b, c, d])));
    asm.load(Size::Half, offset + 4);
    asm.require(Is::Equal(u32::from_be_bytes([0, 0, e, f])));
}

fn arp_rules(asm: &mut Assembler, spoof_filter: &SpoofFilter, pass: Label) {
    const REQUEST: u32 = 1;
    const REPLY: u32 = 2;
    const SENDER: u32 = ETHERNET + 14;
    const TARGET: u32 = ETHERNET + 24;
    if spoof_filter.mac.is_some() || spoof_filter.ipv4.is_some() {
        asm.need(ETHERNET + 28);
        // Hardware type Ethernet and protocol IPv4, with addresses of that length.
        asm.load(Size::Word, ETHERNET);
        asm.require(Is::Equal(0x0001_0000 | IPV4));
        asm.load(Size::Half, ETHERNET + 4);
        asm.require(Is::Equal(0x0604));
    }
    if let Some(mac) = spoof_filter.mac {
        require_mac(asm, ETHERNET + 8, mac);
    }
    if let Some(own) = &spoof_filter.ipv4 {
        let (known, announced) = (asm.label(), asm.label());
        asm.load(Size::Half, ETHERNET + 6);
        asm.goto_if(Is::Equal(REPLY), announced);
        asm.require(Is::Equal(REQUEST));
        asm.load(Size::Word, SENDER);
        asm.goto_unless(Is::Equal(0), announced);
        goto_if_any4(asm, TARGET, own, pass);
        asm.drop();
        asm.place(announced);
        goto_if_any4(asm, SENDER, own, known);
        asm.drop();
        asm.place(known);
    }
    asm.goto(pass);
}

fn ipv4_rules(asm: &mut Assembler, own: &[Ipv4Addr], pass: Label) {
    const FRAGMENT_FIELD: u32 = ETHERNET + 6;
    const PROTOCOL: u32 = ETHERNET + 9;
    const SOURCE: u32 = ETHERNET + 12;
    const OFFSET_BITS: u32 = 0x1fff;
    const MORE_BIT: u32 = 0x2000;
    let sourced = asm.label();
    asm.need(ETHERNET + 20);
    goto_if_any4(asm, SOURCE, own, sourced);
    // A DHCP client has no address yet.
    asm.load(Size::Word, SOURCE);
    asm.require(Is::Equal(0));
    asm.load(Size::Byte, PROTOCOL);
    asm.require(Is::Equal(UDP));
    asm.load(Size::Half, FRAGMENT_FIELD);
    asm.forbid(Is::Bits(MORE_BIT | OFFSET_BITS));
    udp_behind_ipv4(asm);
    let (server, client) = DHCPV4;
    asm.load_behind_x(Size::Half, ETHERNET);
    asm.require(Is::Equal(client));
    asm.load_behind_x(Size::Half, ETHERNET + 2);
    asm.require(Is::Equal(server));
    asm.goto(pass);
    asm.place(sourced);
    asm.load(Size::Byte, PROTOCOL);
    asm.goto_unless(Is::Equal(UDP), pass);
    asm.load(Size::Half, FRAGMENT_FIELD);
    asm.goto_if(Is::Bits(OFFSET_BITS), pass);
    udp_behind_ipv4(asm);
    asm.load_behind_x(Size::Half, ETHERNET);
    asm.forbid(Is::Equal(server));
    asm.load_behind_x(Size::Half, ETHERNET + 2);
    asm.forbid(Is::Equal(client));
    asm.goto(pass);
}

/// Makes sure of the whole UDP header and lets the index register point to it, less the Ethernet
/// header.
fn udp_behind_ipv4(asm: &mut Assembler) {
    asm.load(Size::Byte, ETHERNET);
    asm.and(0x0f);
    asm.require(Is::AtLeast(5));
    asm.header_length_to_x(ETHERNET);
    asm.need_behind_x(ETHERNET + 8);
    asm.header_length_to_x(ETHERNET);
}

fn ipv6_rules(asm: &mut Assembler, own: &[Ipv6Addr], pass: Label) {
    const NEXT_HEADER: u32 = ETHERNET + 6;
    const SOURCE: u32 = ETHERNET + 8;
    let (sourced, unsourced, listener) = (asm.label(), asm.label(), asm.label());
    asm.need(BEHIND_IPV6);
    goto_if_any6(asm, SOURCE, own, sourced);
    goto_if_any6(asm, SOURCE, &[Ipv6Addr::UNSPECIFIED], unsourced);
    asm.drop();

    asm.place(unsourced);
    asm.load(Size::Byte, NEXT_HEADER);
    asm.goto_if(Is::Equal(HOP_BY_HOP), listener);
    asm.require(Is::Equal(ICMPV6));
    asm.need(BEHIND_IPV6 + 4);
    asm.load(Size::Byte, BEHIND_IPV6);
    asm.goto_if(Is::Equal(ROUTER_SOLICITATION), pass);
    asm.require(Is::Equal(NEIGHBOUR_SOLICITATION));
    pass_if_target_is(asm, own, pass);

    asm.place(sourced);
    let (icmp, udp, fragment, options) = (asm.label(), asm.label(), asm.label(), asm.label());
    asm.load(Size::Byte, NEXT_HEADER);
    asm.goto_if(Is::Equal(ICMPV6), icmp);
    asm.goto_if(Is::Equal(UDP), udp);
    asm.goto_if(Is::Equal(HOP_BY_HOP), listener);
    asm.goto_if(Is::Equal(FRAGMENT), fragment);
    asm.goto_if(Is::Equal(DESTINATION_OPTIONS), options);
    for extension in OTHER_EXTENSIONS {
        asm.forbid(Is::Equal(extension));
    }
    asm.goto(pass);

    asm.place(listener);
    asm.need(BEHIND_EXTENSION + 4);
    // The next header, and a length of 8 bytes.
    asm.load(Size::Half, BEHIND_IPV6);
    asm.require(Is::Equal(ICMPV6 << 8));
    asm.load(Size::Byte, BEHIND_EXTENSION);
    for kind in MULTICAST_LISTENER {
        asm.goto_if(Is::Equal(kind), pass);
    }
    asm.drop();

    asm.place(icmp);
    asm.need(BEHIND_IPV6 + 4);
    asm.load(Size::Byte, BEHIND_IPV6);
    asm.forbid(Is::Equal(ROUTER_ADVERTISEMENT));
    asm.forbid(Is::Equal(REDIRECT));
    asm.goto_unless(Is::Equal(NEIGHBOUR_ADVERTISEMENT), pass);
    pass_if_target_is(asm, own, pass);

    asm.place(udp);
    udp_behind_ipv6(asm, BEHIND_IPV6, pass);

    asm.place(options);
    asm.need(BEHIND_EXTENSION);
    asm.load(Size::Byte, BEHIND_IPV6);
    for hidden in [ICMPV6, UDP] {
        asm.forbid(Is::Equal(hidden));
    }
    forbid_extensions(asm);
    asm.goto(pass);

    asm.place(fragment);
    fragment_rules(asm, pass);
}

fn fragment_rules(asm: &mut Assembler, pass: Label) {
    const OFFSET: u32 = BEHIND_IPV6 + 2;
    let udp = asm.label();
    asm.need(BEHIND_EXTENSION);
    asm.load(Size::Half, OFFSET);
    asm.goto_if(Is::Bits(0xfff8), pass);
    asm.load(Size::Byte, BEHIND_IPV6);
    forbid_extensions(asm);
    asm.goto_if(Is::Equal(UDP), udp);
    asm.goto_unless(Is::Equal(ICMPV6), pass);
    asm.need(BEHIND_EXTENSION + 4);
    asm.load(Size::Byte, BEHIND_EXTENSION);
    asm.goto_if(Is::Above(REDIRECT), pass);
    asm.forbid(Is::AtLeast(ROUTER_SOLICITATION));
    asm.goto(pass);
    asm.place(udp);
    udp_behind_ipv6(asm, BEHIND_EXTENSION, pass);
}

/// Drops where the next header, in the accumulator, is an extension header.
fn forbid_extensions(asm: &mut Assembler) {
    for extension in [HOP_BY_HOP, FRAGMENT, DESTINATION_OPTIONS].into_iter().chain(OTHER_EXTENSIONS) {
        asm.forbid(Is::Equal(extension));
    }
}

fn udp_behind_ipv6(asm: &mut Assembler, at: u32, pass: Label) {
    let (server, client) = DHCPV6;
    asm.need(at + 8);
    asm.load(Size::Half, at);
    asm.forbid(Is::Equal(server));
    asm.load(Size::Half, at + 2);
    asm.forbid(Is::Equal(client));
    asm.goto(pass);
}

/// Of a neighbour solicitation or advertisement without extension headers.
fn pass_if_target_is(asm: &mut Assembler, own: &[Ipv6Addr], pass: Label) {
    asm.need(BEHIND_IPV6 + 24);
    goto_if_any6(asm, BEHIND_IPV6 + 8, own, pass);
    asm.drop();
}

fn goto_if_any4(asm: &mut Assembler, offset: u32, own: &[Ipv4Addr], label: Label) {
    for address in own {
        asm.goto_if_words(offset, &[u32::from(*address)], label);
    }
}

fn goto_if_any6(asm: &mut Assembler, offset: u32, own: &[Ipv6Addr], label: Label) {
    for address in own {
        let bits = u128::from(*address);
        asm.goto_if_words(offset, &[96, 64, 32, 0].map(|shift| (bits >> shift) as u32), label);
    }
}

#[cfg(test)]
pub(crate) mod frames;
#[cfg(test)]
mod tests;
