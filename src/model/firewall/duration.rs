//! Spans of time as users type them.

/// Longest span: some 30 years, well within what the kernel counts in milliseconds.
const LONGEST: u64 = 1_000_000_000;

/// Seconds of `90s`, `30m`, `2h`, `1d`, `1h30m`.
pub fn seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.bytes().position(|b| !b.is_ascii_digit())?;
        let unit = match rest.as_bytes()[end] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            b'w' => 7 * 86_400,
            _ => return None,
        };
        total = total.checked_add(rest[..end].parse::<u64>().ok()?.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    (1..=LONGEST).contains(&total).then_some(total)
}

/// The two largest units of it: `1h30m`, `2d`.
pub fn text(seconds: u64) -> String {
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts[..parts.len().min(2)].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (input, value) in
            [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("1h30m", 5400), ("1w", 604_800)]
        {
            assert_eq!(seconds(input), Some(value), "{input}");
        }
        for bad in
            ["", "2", "h", "2x", "-2h", "2 h", "0s", "99999999999d", "2h3", "ä", "18446744073709551615w"]
        {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_written_by_their_two_largest_units() {
        for (value, output) in
            [(0, "0s"), (59, "59s"), (5400, "1h30m"), (86_400, "1d"), (90_061, "1d1h"), (3601, "1h1s")]
        {
            assert_eq!(text(value), output);
        }
    }
}
