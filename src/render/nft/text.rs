//! Tables in nft's syntax, for readers and for tests: nft can read them, and they mean the same as what the
//! kernel is told.

use std::fmt::{Display, Formatter, Result, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::table::{
    Base, Chain, Element, ElementValue, Family, Field, Hook, KeyPart, Rule, Set, SetValue, Statement, Table,
    TableName, Test, Verdict,
};

impl Display for TableName {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        };
        write!(f, "{family} {}", self.name)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "table {} {{", self.name)?;
        for set in &self.sets {
            let elements = self.elements.iter().filter(|(name, _)| *name == set.name).flat_map(|(_, e)| e);
            show_set(f, set, &elements.collect::<Vec<_>>())?;
        }
        for chain in &self.chains {
            show_chain(f, chain)?;
        }
        writeln!(f, "}}")
    }
}

fn show_set(f: &mut Formatter<'_>, set: &Set, elements: &[&Element]) -> Result {
    let kind = if set.value.is_some() { "map" } else { "set" };
    write!(f, "\t{kind} {} {{\n\t\ttype {}", set.name, parts(&set.key))?;
    match &set.value {
        None => writeln!(f)?,
        Some(SetValue::Verdict) => writeln!(f, " : verdict")?,
        Some(SetValue::Target(target)) => writeln!(f, " : {}", parts(target))?,
    }
    let flags: Vec<_> = [(set.interval, "interval"), (set.timeout, "timeout")]
        .into_iter()
        .filter_map(|(on, flag)| on.then_some(flag))
        .collect();
    if !flags.is_empty() {
        writeln!(f, "\t\tflags {}", flags.join(","))?;
    }
    if set.counter {
        writeln!(f, "\t\tcounter")?;
    }
    if !elements.is_empty() {
        let shown: Vec<_> = show_elements(set, elements);
        writeln!(f, "\t\telements = {{ {} }}", shown.join(", "))?;
    }
    writeln!(f, "\t}}\n")
}

fn show_elements(set: &Set, elements: &[&Element]) -> Vec<String> {
    let mut shown = Vec::new();
    for (n, element) in elements.iter().enumerate().filter(|(_, element)| !element.ends) {
        let mut text = show_key(&set.key, &element.key);
        if set.interval {
            let end = elements.get(n + 1).filter(|next| next.ends);
            let last = end.map_or_else(|| vec![u8::MAX; element.key.len()], |end| before(&end.key));
            if last != element.key {
                text = format!("{text}-{}", show_key(&set.key, &last));
            }
        }
        if element.timeout > 0 {
            let _ = write!(text, " timeout {}ms", element.timeout);
        }
        match (&element.value, &set.value) {
            (Some(ElementValue::Verdict(verdict)), _) => {
                let _ = write!(text, " : {verdict}");
            }
            (Some(ElementValue::Bytes(bytes)), Some(SetValue::Target(target))) => {
                let _ = write!(text, " : {}", show_key(target, bytes));
            }
            _ => {}
        }
        shown.push(text);
    }
    shown
}

/// The key before this one.
fn before(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    bytes
}

fn parts(parts: &[KeyPart]) -> String {
    let name = |part: &KeyPart| match part {
        KeyPart::Link => "ifname",
        KeyPart::Ipv4 => "ipv4_addr",
        KeyPart::Ipv6 => "ipv6_addr",
        KeyPart::Proto => "inet_proto",
        KeyPart::Port => "inet_service",
    };
    parts.iter().map(name).collect::<Vec<_>>().join(" . ")
}

fn show_key(parts: &[KeyPart], mut bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    for part in parts {
        let filled = if parts.len() > 1 { part.size().next_multiple_of(4) } else { part.size() };
        let (value, rest) = bytes.split_at_checked(filled).unwrap_or((bytes, &[]));
        bytes = rest;
        shown.push(match part {
            KeyPart::Link => link(value),
            KeyPart::Ipv4 | KeyPart::Ipv6 => address(value),
            KeyPart::Proto => value.first().copied().unwrap_or_default().to_string(),
            KeyPart::Port => integer(&value[..2.min(value.len())]).to_string(),
        });
    }
    shown.join(" . ")
}

fn link(bytes: &[u8]) -> String {
    let name: Vec<u8> = bytes.iter().copied().take_while(|byte| *byte != 0).collect();
    format!("\"{}\"", String::from_utf8_lossy(&name))
}

fn address(bytes: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ipv4Addr::from(octets).to_string();
    }
    <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).to_string()).unwrap_or_default()
}

fn integer(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn show_chain(f: &mut Formatter<'_>, chain: &Chain) -> Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(Base { nat, hook, priority }) = chain.base {
        let kind = if nat { "nat" } else { "filter" };
        let hook = match hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}\n")
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let mut words: Vec<String> = self.statements.iter().map(ToString::to_string).collect();
        words.extend(self.comment.iter().map(|comment| format!("comment \"{comment}\"")));
        f.write_str(&words.join(" "))
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Match(field, test) => show_match(f, *field, test),
            Self::Vmap(field, map) => write!(f, "{} vmap @{map}", name(*field)),
            Self::Counter => f.write_str("counter"),
            Self::Log { prefix, each_second } => {
                write!(f, "limit rate {each_second}/second log prefix \"{prefix}\"")
            }
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Reject => f.write_str("reject with icmpx port-unreachable"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Snat(ip) => write!(f, "snat {} to {ip}", if ip.is_ipv4() { "ip" } else { "ip6" }),
            Self::Dnat { v6, key, map } => {
                let key: Vec<_> = key.iter().map(|field| name(*field)).collect();
                write!(f, "dnat {} to {} map @{map}", if *v6 { "ip6" } else { "ip" }, key.join(" . "))
            }
            Self::SetEtherDaddr(mac) => write!(f, "ether daddr set {mac}"),
            Self::ToHost => f.write_str("meta pkttype set host"),
        }
    }
}

fn name(field: Field) -> &'static str {
    match field {
        Field::Iifname => "iifname",
        Field::Oifname => "oifname",
        Field::Nfproto => "meta nfproto",
        Field::L4proto => "meta l4proto",
        Field::EtherType => "ether type",
        Field::EtherDaddr => "ether daddr",
        Field::Saddr4 => "ip saddr",
        Field::Daddr4 => "ip daddr",
        Field::Saddr6 => "ip6 saddr",
        Field::Daddr6 => "ip6 daddr",
        Field::Dport => "th dport",
        Field::IcmpType => "icmp type",
        Field::Icmpv6Type => "icmpv6 type",
        Field::CtState => "ct state",
        Field::CtStatus => "ct status",
        Field::DaddrType => "fib daddr type",
        Field::DaddrTypeHere => "fib daddr . iif type",
    }
}

fn value(field: Field, bytes: &[u8]) -> String {
    match field {
        Field::Iifname | Field::Oifname => link(bytes),
        Field::Saddr4 | Field::Daddr4 | Field::Saddr6 | Field::Daddr6 => address(bytes),
        Field::Nfproto if bytes == [2] => "ipv4".to_owned(),
        Field::Nfproto => "ipv6".to_owned(),
        Field::EtherType => match integer(bytes) {
            0x0806 => "arp".to_owned(),
            0x0800 => "ip".to_owned(),
            0x86dd => "ip6".to_owned(),
            other => format!("{other:#06x}"),
        },
        Field::EtherDaddr => bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":"),
        Field::DaddrType | Field::DaddrTypeHere => "local".to_owned(),
        _ => integer(bytes).to_string(),
    }
}

fn show_match(f: &mut Formatter<'_>, field: Field, test: &Test) -> Result {
    f.write_str(name(field))?;
    let range = |(first, last): &(Vec<u8>, Vec<u8>)| match first == last {
        true => value(field, first),
        false => format!("{}-{}", value(field, first), value(field, last)),
    };
    match test {
        Test::Is(bytes) => write!(f, " {}", value(field, bytes)),
        Test::IsNot(bytes) => write!(f, " != {}", value(field, bytes)),
        Test::Under(mask, bytes) => write!(f, " {}/{}", value(field, bytes), ones(mask)),
        Test::NotUnder(mask, bytes) => write!(f, " != {}/{}", value(field, bytes), ones(mask)),
        Test::OneOf(ranges) if ranges.len() == 1 => write!(f, " {}", range(&ranges[0])),
        Test::OneOf(ranges) | Test::NotOneOf(ranges) => {
            let shown: Vec<_> = ranges.iter().map(range).collect();
            let not = if matches!(test, Test::NotOneOf(_)) { "!= " } else { "" };
            write!(f, " {not}{{ {} }}", shown.join(", "))
        }
        Test::In(set) => write!(f, " @{set}"),
        Test::NotIn(set) => write!(f, " != @{set}"),
        Test::UnderIn(mask, set) => write!(f, " & {} @{set}", address(mask)),
        Test::AnyBit(bits) => write!(f, " {}", words(field, *bits)),
        Test::NoBit(bits) => write!(f, " & {bits} == 0"),
    }
}

fn ones(mask: &[u8]) -> u32 {
    mask.iter().map(|byte| byte.count_ones()).sum()
}

fn words(field: Field, bits: u32) -> String {
    use super::table::{DNAT, ESTABLISHED, RELATED};
    let names: &[(u32, &str)] = match field {
        Field::CtState => &[(ESTABLISHED, "established"), (RELATED, "related")],
        _ => &[(DNAT, "dnat")],
    };
    let found: Vec<_> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    found.join(",")
}
