//! What networks, interfaces and domains may be called.

/// Whether `text` may name a network. Where it names the interface too, that has no more room.
pub fn is_network_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Whether `text` may name a network interface: below the kernel's 16 bytes, and without anything
/// that an nftables string or a path would read differently.
pub fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A domain's name of labels in lower case (RFC 1123).
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 200 && text.split('.').all(label) && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_name() {
        for bad in ["", "a b", "A", "-a", "sixteen-letters0", "a;b", "1a", "a.b"] {
            assert!(!is_network_name(bad), "{bad}");
        }
        for bad in ["", "a b", "a/b", "a\"", "sixteen-letters0", ".", "-a"] {
            assert!(!is_interface_name(bad), "{bad}");
        }
        for bad in ["", "UPPER", "a b", "-x.example", "192.0.2.1"] {
            assert!(!is_domain(bad), "{bad}");
        }
    }
}
