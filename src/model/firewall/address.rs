//! Ranges of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// First and last address as numbers.
pub(super) fn bounds(net: IpNetwork) -> (u128, u128) {
    let (first, last) = (net.network(), net.broadcast());
    (number(first), number(last))
}

pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match v4 {
        true => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        false => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// Whether all of `inner` is in `outer`.
pub(super) fn holds(outer: IpNetwork, inner: IpNetwork) -> bool {
    let ((a, b), (c, d)) = (bounds(outer), bounds(inner));
    outer.is_ipv4() == inner.is_ipv4() && a <= c && d <= b
}

/// The addresses of one family as ranges, ascending, that neither overlap nor touch.
pub fn merged(nets: impl IntoIterator<Item = IpNetwork>, v4: bool) -> Vec<(IpAddr, IpAddr)> {
    let mut ranges: Vec<_> =
        nets.into_iter().filter(|net| net.is_ipv4() == v4).map(bounds).collect::<Vec<_>>();
    ranges.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => out.push((first, last)),
        }
    }
    out.into_iter().map(|(first, last)| (address(first, v4), address(last, v4))).collect()
}

/// An address or a subnet. A subnet is written with its first address: other bits would be a slip.
pub(super) fn parse(text: &str) -> Result<IpNetwork, String> {
    let net: IpNetwork = text
        .parse()
        .map_err(|_| format!("'{text}' is neither an address nor a subnet, such as 192.0.2.0/24"))?;
    if net.network() != net.ip() {
        return Err(format!(
            "'{text}' has bits behind its prefix; did you mean {}/{}?",
            net.network(),
            net.prefix()
        ));
    }
    Ok(net)
}

/// Without the prefix length where that says nothing.
pub(super) fn text(net: IpNetwork) -> String {
    let whole = if net.is_ipv4() { 32 } else { 128 };
    if net.prefix() == whole { net.ip().to_string() } else { net.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_within_a_family() {
        let nets = ["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7", "10.0.3.0/24", "::/0", "fd00::/8"];
        let nets = nets.map(|net| parse(net).unwrap());
        let text = |v4| -> Vec<String> {
            merged(nets, v4).iter().map(|(first, last)| format!("{first}-{last}")).collect()
        };
        assert_eq!(text(true), ["10.0.0.0-10.0.1.255", "10.0.3.0-10.0.3.255"]);
        assert_eq!(text(false), ["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    }

    #[test]
    fn stray_bits_are_pointed_out() {
        assert!(parse("10.0.0.1/24").unwrap_err().contains("10.0.0.0/24"));
        assert!(parse("10.0.0").is_err() && parse("10.0.0.0/33").is_err());
        assert_eq!(text(parse("10.0.0.1").unwrap()), "10.0.0.1");
    }
}
