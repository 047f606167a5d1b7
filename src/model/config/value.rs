//! What values of keys mean.

use std::collections::BTreeSet;

/// No limit, as a number: what the kernel calls "max" and RLIM_INFINITY.
pub const NO_LIMIT: u64 = u64::MAX;

/// The highest number of a CPU that is believed in.
const LAST_CPU: u32 = 8191;

/// RFC 1123, and no longer than the kernel takes. The last label is not all digits: the whole could be
/// an address.
pub fn is_hostname(text: &str) -> bool {
    const MAX: usize = 64;
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX
        && text.split('.').all(label)
        && !text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()))
}

/// A bool as it may be typed. None: it is none.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Digits with an optional '-', nothing that `str::parse` would take besides.
pub fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    text.parse().ok()
}

/// A number of bytes: decimal units are powers of 1000, binary ones of 1024.
pub fn size(text: &str) -> Option<u64> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let (base, power): (u64, u32) = match unit {
        "" | "B" => (1, 1),
        "kB" => (1000, 1),
        "MB" => (1000, 2),
        "GB" => (1000, 3),
        "TB" => (1000, 4),
        "PB" => (1000, 5),
        "EB" => (1000, 6),
        "KiB" => (1024, 1),
        "MiB" => (1024, 2),
        "GiB" => (1024, 3),
        "TiB" => (1024, 4),
        "PiB" => (1024, 5),
        "EiB" => (1024, 6),
        _ => return None,
    };
    // The highest number of all stands for no limit.
    number(digits)?.checked_mul(base.checked_pow(power)?).filter(|bytes| *bytes != NO_LIMIT)
}

/// A number of bytes for users: in the largest unit of which it is a whole number.
pub fn size_text(bytes: u64) -> String {
    let units = [(60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units.into_iter().find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    match whole {
        Some((bits, unit)) => format!("{} {unit}", bytes >> bits),
        None => format!("{bytes} B"),
    }
}

fn percent(text: &str) -> Option<u32> {
    let number = number(text.strip_suffix('%')?)?;
    (1..=100).contains(&number).then_some(number as u32)
}

/// `limits.memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Of the host's.
    Percent(u32),
}

impl Memory {
    /// `512MiB` or `50%`. None: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        percent(text).map(Self::Percent).or_else(|| size(text).filter(|bytes| *bytes > 0).map(Self::Bytes))
    }
}

/// `limits.memory.swap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    Allowed(bool),
    Bytes(u64),
}

impl Swap {
    /// A bool or a size. None: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        boolean(text).map(Self::Allowed).or_else(|| size(text).map(Self::Bytes))
    }
}

/// `limits.cpu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cpus {
    Count(u32),
    Set(BTreeSet<u32>),
}

impl Cpus {
    /// A number alone is a count: a set of the one CPU 3 is "3-3" or "3,".
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().ok().filter(|n| (1..=LAST_CPU + 1).contains(n)).map(Self::Count);
        }
        cpu_set(text.strip_suffix(',').unwrap_or(text)).filter(|set| !set.is_empty()).map(Self::Set)
    }
}

/// CPUs as the kernel lists them: "0-3,5"; an empty text is an empty set.
pub fn cpu_set(text: &str) -> Option<BTreeSet<u32>> {
    let mut set = BTreeSet::new();
    if text.is_empty() {
        return Some(set);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let cpu = |text| number(text).filter(|n| *n <= LAST_CPU.into()).map(|n| n as u32);
        let (first, last) = (cpu(first)?, cpu(last)?);
        (first <= last).then_some(())?;
        set.extend(first..=last);
    }
    Some(set)
}

/// What `cpu_set` reads, in its shortest form.
pub fn cpu_list(set: &BTreeSet<u32>) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for cpu in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => parts.push((*cpu, *cpu)),
        }
    }
    let text = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

/// `limits.cpu.allowance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// A share that counts only while others want the CPUs too.
    Percent(u32),
    /// Microseconds of CPU time in every period of so many microseconds, whatever else goes on.
    Time { quota: u64, period: u64 },
}

impl Allowance {
    /// `50%`, or `25ms/100ms`: time in each period. None: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = percent(text) {
            return Some(Self::Percent(percent));
        }
        let (quota, period) = text.split_once('/')?;
        let time = |text: &str| number(text.strip_suffix("ms")?)?.checked_mul(1000);
        let (quota, period) = (time(quota)?, time(period)?);
        // The kernel's own bounds (kernel/sched/core.c: at least 1 ms, a period of at most 1 s).
        let good = (1000..=1_000_000).contains(&period) && (1000..=1_000_000_000).contains(&quota);
        good.then_some(Self::Time { quota, period })
    }
}

/// `limits.read`, `limits.write`: in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Bytes(u64),
    Operations(u64),
}

impl Rate {
    /// `10MiB` or `500iops`. None: it is neither.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix("iops") {
            // The kernel keeps operations in 32 bits.
            Some(n) => number(n).filter(|n| (1..u64::from(u32::MAX)).contains(n)).map(Self::Operations),
            None => size(text).filter(|bytes| *bytes > 0).map(Self::Bytes),
        }
    }
}

/// `limits.kernel.*`: a soft and a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// What holds, in the resource's unit; [`NO_LIMIT`] for none.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

impl Pair {
    /// `1024`, `unlimited` or `soft:hard`. None: it is none of them, or the soft limit is above the hard
    /// one.
    pub fn parse(text: &str) -> Option<Self> {
        let one = |text: &str| if text == "unlimited" { Some(NO_LIMIT) } else { number(text) };
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let (soft, hard) = (one(soft)?, one(hard)?);
        (soft <= hard).then_some(Self { soft, hard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("1B", 1),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("512MiB", 512 << 20),
            ("2GB", 2_000_000_000),
            ("3TiB", 3 << 40),
            ("1EiB", 1 << 60),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "B", "-1", "+1", "1.5GiB", "1 GiB", "1K", "1M", "1gib", "16EiB", "18446744073709551615"]
        {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn memory_is_bytes_or_percent() {
        assert_eq!(Memory::parse("50%"), Some(Memory::Percent(50)));
        assert_eq!(Memory::parse("1GiB"), Some(Memory::Bytes(1 << 30)));
        assert!(["0", "0%", "101%", "-5%", "%", "5 %"].iter().all(|t| Memory::parse(t).is_none()));
    }

    #[test]
    fn swap_is_a_bool_or_bytes() {
        assert_eq!(Swap::parse("false"), Some(Swap::Allowed(false)));
        assert_eq!(Swap::parse("0"), Some(Swap::Allowed(false)));
        assert_eq!(Swap::parse("100MiB"), Some(Swap::Bytes(100 << 20)));
        assert_eq!(Swap::parse("perhaps"), None);
    }

    #[test]
    fn cpus_are_a_count_or_a_set() {
        assert_eq!(Cpus::parse("2"), Some(Cpus::Count(2)));
        assert_eq!(Cpus::parse("0-2,5"), Some(Cpus::Set([0, 1, 2, 5].into())));
        assert_eq!(Cpus::parse("3-3"), Some(Cpus::Set([3].into())));
        assert_eq!(Cpus::parse("3,"), Some(Cpus::Set([3].into())));
        for text in ["", "0", ",", "3-1", "-1", "1-", "a", "0-4294967295", "1,,2", "99999999999"] {
            assert_eq!(Cpus::parse(text), None, "{text}");
        }
    }

    #[test]
    fn allowances_are_shares_or_times() {
        assert_eq!(Allowance::parse("50%"), Some(Allowance::Percent(50)));
        let time = Allowance::Time { quota: 25_000, period: 100_000 };
        assert_eq!(Allowance::parse("25ms/100ms"), Some(time));
        assert_eq!(
            Allowance::parse("200ms/100ms"),
            Some(Allowance::Time { quota: 200_000, period: 100_000 })
        );
        for text in
            ["", "0%", "150%", "25ms", "25/100", "0ms/100ms", "25ms/0ms", "1ms/2000ms", "25ms/100ms/1ms"]
        {
            assert_eq!(Allowance::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rates_are_bytes_or_operations() {
        assert_eq!(Rate::parse("20MiB"), Some(Rate::Bytes(20 << 20)));
        assert_eq!(Rate::parse("500iops"), Some(Rate::Operations(500)));
        assert!(["0", "0iops", "iops", "4294967295iops", "5 iops"].iter().all(|t| Rate::parse(t).is_none()));
    }

    #[test]
    fn host_names_are_labels_with_dots_in_between() {
        let label = "x".repeat(63);
        for good in ["web01", "mail.customer.example", "Web-1.example", "3com.example", label.as_str()] {
            assert!(is_hostname(good), "{good}");
        }
        let long = format!("{label}.x");
        for bad in
            ["", ".", "a.", ".a", "a..b", "-a", "a-.b", "a_b", "a b", "a\n", "ä", "192.0.2.1", "7", &long]
        {
            assert!(!is_hostname(bad), "{bad}");
        }
    }

    #[test]
    fn pairs_are_soft_and_hard() {
        assert_eq!(Pair::parse("1024"), Some(Pair { soft: 1024, hard: 1024 }));
        assert_eq!(Pair::parse("0:unlimited"), Some(Pair { soft: 0, hard: NO_LIMIT }));
        assert_eq!(Pair::parse("unlimited"), Some(Pair { soft: NO_LIMIT, hard: NO_LIMIT }));
        assert!(
            ["", "2:1", "unlimited:5", "1:2:3", "-1", "1:", ":1"].iter().all(|t| Pair::parse(t).is_none())
        );
    }

    proptest! {
        #[test]
        fn sets_of_cpus_are_read_as_they_are_written(set in proptest::collection::btree_set(0u32..200, 0..40)) {
            prop_assert_eq!(cpu_set(&cpu_list(&set)), Some(set));
        }

        #[test]
        fn sizes_grow_with_their_numbers(n in 1u64..1_000_000, unit in 0usize..7) {
            let unit = ["B", "kB", "KiB", "MB", "MiB", "GB", "GiB"][unit];
            let (one, more) = (size(&format!("{n}{unit}")), size(&format!("{}{unit}", n + 1)));
            prop_assert!(one.is_some() && one < more);
        }
    }
}
