use proptest::prelude::*;

use super::assembler::{DROP, PASS};
use super::frames::{MAC, OWN4, OWN6, cases, spoof_filter};
use super::*;

/// Runs a program as the kernel would (Documentation/networking/filter.rst).
///
/// # Panics
/// A load from behind the frame's end, which would let it pass, and anything that is no program.
fn verdict(program: &[Instruction], frame: &[u8], tagged: bool) -> u32 {
    let load = |size: u16, at: usize| {
        let bytes = match size {
            0x00 => frame.get(at..at + 4),
            0x08 => frame.get(at..at + 2),
            _ => frame.get(at..at + 1),
        };
        let bytes = bytes.unwrap_or_else(|| panic!("load of {at} in a frame of {}", frame.len()));
        bytes.iter().fold(0, |word: u32, byte| word << 8 | u32::from(*byte))
    };
    let (mut a, mut x, mut at) = (0u32, 0u32, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 | 0x28 | 0x30 if k == 0xffff_f000 + 48 => a = u32::from(tagged),
            0x20 | 0x28 | 0x30 => a = load(code & 0x18, k as usize),
            0x40 | 0x48 | 0x50 => a = load(code & 0x18, x as usize + k as usize),
            0x80 => a = frame.len() as u32,
            0xb1 => x = 4 * (load(0x10, k as usize) & 0x0f),
            0x54 => a &= k,
            0x04 => a += k,
            0x07 => x = a,
            0x87 => a = x,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x3d => at += jump(a >= x),
            0x45 => at += jump(a & k != 0),
            0x06 => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn passes(spoof_filter: &SpoofFilter, frame: &[u8], tagged: bool) -> bool {
    match verdict(&program(spoof_filter), frame, tagged) {
        PASS => true,
        DROP => false,
        other => panic!("verdict {other}"),
    }
}

/// The same rules over again, said as one would read them.
mod oracle {
    use super::super::SpoofFilter;

    fn part<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
        frame.get(at..at + N)?.try_into().ok()
    }

    fn half(frame: &[u8], at: usize) -> Option<u16> {
        part(frame, at).map(u16::from_be_bytes)
    }

    pub fn passes(spoof_filter: &SpoofFilter, frame: &[u8], tagged: bool) -> bool {
        whole(spoof_filter, frame, tagged).unwrap_or(false)
    }

    /// None where the frame ends too early.
    fn whole(spoof_filter: &SpoofFilter, frame: &[u8], tagged: bool) -> Option<bool> {
        let kind = half(frame, 12)?;
        let from_own = spoof_filter.mac.is_none_or(|mac| frame[6..12] == mac.0);
        if tagged || !from_own || kind == 0x8100 || kind == 0x88a8 {
            return Some(false);
        }
        match kind {
            0x0806 => arp(spoof_filter, frame),
            0x0800 => spoof_filter.ipv4.as_ref().map_or(Some(true), |own| ipv4(own, frame)),
            0x86dd => spoof_filter.ipv6.as_ref().map_or(Some(true), |own| ipv6(own, frame)),
            _ => Some(spoof_filter.ipv4.is_none() && spoof_filter.ipv6.is_none()),
        }
    }

    fn arp(spoof_filter: &SpoofFilter, frame: &[u8]) -> Option<bool> {
        if spoof_filter.mac.is_none() && spoof_filter.ipv4.is_none() {
            return Some(true);
        }
        let body = part::<28>(frame, 14)?;
        if body[..6] != [0, 1, 8, 0, 6, 4] || spoof_filter.mac.is_some_and(|mac| body[8..14] != mac.0) {
            return Some(false);
        }
        let Some(own) = &spoof_filter.ipv4 else { return Some(true) };
        let (sender, target) = (part::<4>(&body, 14)?.into(), part::<4>(&body, 24)?.into());
        Some(match (&body[6..8], sender) {
            ([0, 1], std::net::Ipv4Addr::UNSPECIFIED) => own.contains(&target),
            ([0, 1] | [0, 2], _) => own.contains(&sender),
            _ => false,
        })
    }

    fn ipv4(own: &[std::net::Ipv4Addr], frame: &[u8]) -> Option<bool> {
        let head = part::<20>(frame, 14)?;
        let source = part::<4>(&head, 12)?.into();
        let (udp, field) = (head[9] == 17, half(&head, 6)?);
        let ports = || {
            let behind = 4 * usize::from(head[0] & 15);
            let header = part::<8>(frame, 14 + behind).filter(|_| behind >= 20)?;
            Some((half(&header, 0)?, half(&header, 2)?))
        };
        if own.contains(&source) {
            return Some(
                !udp || field & 0x1fff != 0 || ports().is_some_and(|(from, to)| from != 67 && to != 68),
            );
        }
        Some(source.is_unspecified() && udp && field & 0x3fff == 0 && ports() == Some((68, 67)))
    }

    const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

    fn ipv6(own: &[std::net::Ipv6Addr], frame: &[u8]) -> Option<bool> {
        let head = part::<40>(frame, 14)?;
        let body = &frame[54..];
        let source = part::<16>(&head, 8)?.into();
        let is_own = |target: Option<[u8; 16]>| target.is_some_and(|target| own.contains(&target.into()));
        let listener = || {
            let kind = body.get(8).filter(|_| body.len() >= 12);
            body.starts_with(&[58, 0]) && kind.is_some_and(|kind| [130, 131, 132, 143].contains(kind))
        };
        let kind = body.first().copied().filter(|_| body.len() >= 4);
        let (owned, nowhere) = (own.contains(&source), u128::from(source) == 0);
        Some(match head[6] {
            0 => (owned || nowhere) && listener(),
            58 if nowhere => kind? == 133 || kind? == 135 && is_own(part(body, 8)),
            _ if !owned => false,
            58 => match kind? {
                134 | 137 => false,
                136 => is_own(part(body, 8)),
                _ => true,
            },
            17 => udp(body)?,
            44 => fragment(part(body, 0)?, &body[8..])?,
            60 => ![58, 17].contains(&part::<8>(body, 0)?[0]) && !EXTENSIONS.contains(&body[0]),
            other => !EXTENSIONS.contains(&other),
        })
    }

    fn udp(body: &[u8]) -> Option<bool> {
        let header = part::<8>(body, 0)?;
        Some(half(&header, 0)? != 547 && half(&header, 2)? != 546)
    }

    fn fragment(header: [u8; 8], body: &[u8]) -> Option<bool> {
        Some(match header[0] {
            _ if half(&header, 2)? >> 3 != 0 => true,
            58 => !(133..=137).contains(&part::<4>(body, 0)?[0]),
            17 => udp(body)?,
            next => !EXTENSIONS.contains(&next),
        })
    }
}

#[test]
fn each_frame_is_judged_as_it_should_be() {
    for (what, expected, frame) in cases() {
        assert_eq!(passes(&spoof_filter(), &frame, false), expected, "{what}");
        assert_eq!(oracle::passes(&spoof_filter(), &frame, false), expected, "oracle: {what}");
        assert!(!passes(&spoof_filter(), &frame, true), "{what} with its tag stripped");
    }
}

#[test]
fn what_is_not_filtered_passes() {
    let mac_only = SpoofFilter { mac: Some(MAC), ipv4: None, ipv6: None };
    let ipv4_only = SpoofFilter { mac: None, ipv4: Some(vec![OWN4]), ipv6: None };
    let ipv6_only = SpoofFilter { mac: None, ipv4: None, ipv6: Some(vec![OWN6]) };
    let verdicts = |spoof_filter: &SpoofFilter, wanted: &str| {
        let frame = cases().into_iter().find(|(what, ..)| *what == wanted).unwrap().2;
        passes(spoof_filter, &frame, false)
    };
    for (what, expected) in [
        ("from another Ethernet address", [false, true, true]),
        ("with a VLAN tag", [false; 3]),
        ("of LLDP", [true, false, false]),
        ("ARP with another Ethernet address", [false, true, true]),
        ("ARP for another", [true, false, true]),
        ("as another", [true, false, true]),
        ("IPv6 as another", [true, true, false]),
        ("router advertisement", [true, true, false]),
        ("DHCP offer", [true, false, true]),
    ] {
        let found = [&mac_only, &ipv4_only, &ipv6_only].map(|spoof_filter| verdicts(spoof_filter, what));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn every_length_of_every_frame_is_judged_without_reading_behind_it() {
    for (what, _, frame) in cases() {
        for length in 0..frame.len() {
            let cut = &frame[..length];
            assert_eq!(
                passes(&spoof_filter(), cut, false),
                oracle::passes(&spoof_filter(), cut, false),
                "{what}, {length}"
            );
        }
    }
}

#[test]
fn a_spoof_filter_is_made_of_what_is_switched_on() {
    let nic = |json: &str| serde_json::from_str::<Nic>(json).unwrap();
    let mut nic =
        nic(r#"{"device": "eth0", "name": "eth0", "slot": 0, "kind": {"type": "bridged", "network": "lan"},
            "mac": "02:01:02:03:04:01", "ipv4": "10.9.0.5/24", "gateway4": null, "ipv6": "fd00:9::5/64",
            "gateway6": null, "settings": {"mtu": null, "ingress": null, "egress": null,
            "mac_filtering": true, "ipv4_filtering": true, "ipv6_filtering": true,
            "port_isolation": false, "dhcp": false}}"#);
    assert_eq!(SpoofFilter::of(&nic), Some(spoof_filter()));
    (nic.ipv4, nic.ipv6) = (None, None);
    let nowhere = SpoofFilter { mac: Some(MAC), ipv4: Some(vec![]), ipv6: Some(vec![MAC.link_local()]) };
    assert_eq!(SpoofFilter::of(&nic), Some(nowhere));
    nic.settings.ipv6_filtering = false;
    nic.settings.mac_filtering = false;
    assert_eq!(SpoofFilter::of(&nic), Some(SpoofFilter { mac: None, ipv4: Some(vec![]), ipv6: None }));
    nic.settings.ipv4_filtering = false;
    assert_eq!(SpoofFilter::of(&nic), None);
    nic.settings.ipv4_filtering = true;
    nic.kind = crate::model::nic::NicKind::Macvlan { parent: "eth0".to_owned() };
    assert_eq!(SpoofFilter::of(&nic), None);
}

#[test]
fn a_program_fits_what_the_kernel_takes() {
    // Linux takes 4096 instructions (BPF_MAXINSNS).
    let many = SpoofFilter {
        mac: Some(MAC),
        ipv4: Some((0..64).map(|n| Ipv4Addr::from(0x0a09_0000 + n)).collect()),
        ipv6: Some((0..64).map(|n| Ipv6Addr::from((0xfd_u128 << 120) + n)).collect()),
    };
    let length = program(&many).len();
    assert!(length <= 4096, "{length}");
    println!("usual: {} instructions", program(&spoof_filter()).len());
    let last = ethernet_of(u128::from(many.ipv6.as_ref().unwrap()[63]));
    assert!(passes(&many, &last, false));
}

fn ethernet_of(source: u128) -> Vec<u8> {
    let body = [&[0x60, 0, 0, 0, 0, 0, 59, 1][..], &source.to_be_bytes(), &[0; 16]].concat();
    super::frames::ethernet(MAC, 0x86dd, &body)
}

/// A known frame with some bytes replaced by such as mean something, or anything, and cut anywhere.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let all: Vec<Vec<u8>> = cases().into_iter().map(|(.., frame)| frame).collect();
    let telling = prop::sample::select(vec![
        0u8, 1, 2, 4, 5, 6, 8, 17, 34, 35, 43, 44, 58, 60, 67, 68, 130, 133, 134, 135, 136, 137, 143, 255,
    ]);
    let edits = prop::collection::vec((0usize..90, prop_oneof![3 => telling, 1 => any::<u8>()]), 0..5);
    (prop::sample::select(all), edits, prop_oneof![3 => Just(usize::MAX), 1 => 0usize..100]).prop_map(
        |(mut frame, edits, length)| {
            for (at, byte) in edits {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(length);
            frame
        },
    )
}

fn spoof_filters() -> impl Strategy<Value = SpoofFilter> {
    let own4 = prop::option::of(prop::sample::subsequence(vec![OWN4, Ipv4Addr::new(10, 9, 0, 7)], 0..=2));
    let own6 = prop::option::of(prop::sample::subsequence(vec![MAC.link_local(), OWN6], 0..=2));
    (prop::option::of(Just(MAC)), own4, own6).prop_map(|(mac, ipv4, ipv6)| SpoofFilter { mac, ipv4, ipv6 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_program_does_what_the_rules_say(spoof_filter in spoof_filters(), frame in frames(), tagged in prop::bool::weighted(0.1)) {
        prop_assert_eq!(passes(&spoof_filter, &frame, tagged), oracle::passes(&spoof_filter, &frame, tagged));
    }
}
