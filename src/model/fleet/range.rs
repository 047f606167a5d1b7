//! Names of several machines in one: `web[01-50]`.

/// Most machines of one range.
const MOST: u32 = 10_000;

/// The names that `text` stands for, or itself. Numbers are as wide as the first one.
///
/// # Errors
/// Why it cannot be; completes "'…' ".
pub fn expand(text: &str) -> Result<Vec<String>, &'static str> {
    let Some((before, rest)) = text.split_once('[') else { return Ok(vec![text.to_owned()]) };
    const FORM: &str = "is no range: it has the form web[01-50]";
    let (range, after) = rest.split_once(']').ok_or(FORM)?;
    let (first, last) = range.split_once('-').ok_or(FORM)?;
    let number = |text: &str| -> Option<u32> {
        let digits = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    let (from, to) = (number(first).ok_or(FORM)?, number(last).ok_or(FORM)?);
    if after.contains(['[', ']']) {
        return Err("has more than one range");
    }
    if to < from {
        return Err("is a range that ends before it begins");
    }
    if to - from >= MOST {
        return Err("is a range of more than 10,000 machines");
    }
    let width = first.len();
    Ok((from..=to).map(|n| format!("{before}{n:0width$}{after}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_wide_as_the_first() {
        assert_eq!(expand("web").unwrap(), ["web"]);
        assert_eq!(expand("web[08-11]").unwrap(), ["web08", "web09", "web10", "web11"]);
        assert_eq!(expand("a[9-10]b").unwrap(), ["a9b", "a10b"]);
        assert_eq!(expand("a[0-10000]").unwrap_err(), "is a range of more than 10,000 machines");
        for bad in
            ["a[1", "a[1]", "a[-2]", "a[1-]", "a[2-1]", "a[1-2][1-2]", "a[1-x]", "a[1-999999]", "a[+1-2]"]
        {
            assert!(expand(bad).is_err(), "{bad}");
        }
    }
}
