//! Names with wildcards, as a shell has them: `*` for any characters, `?` for one.

/// Whether `text` is a pattern, not a name.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Whether `pattern` stands for all of `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last '*' was, and what it stands for so far ends: it takes one more when the rest fails.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, end)) => {
                    star = Some((at, end + 1));
                    (p, t) = (at + 1, end + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_whole_names() {
        for (pattern, yes, no) in [
            ("web*", &["web", "web01", "web-a"][..], &["aweb", "we"][..]),
            ("*", &["a", ""], &[]),
            ("web0?", &["web01"], &["web0", "web011"]),
            ("*-db*2", &["a-db2", "a-db-db12", "-db2"], &["a-db", "db2"]),
            ("a**b", &["ab", "axb"], &["a", "abc"]),
        ] {
            assert!(yes.iter().all(|name| matches(pattern, name)), "{pattern}");
            assert!(!no.iter().any(|name| matches(pattern, name)), "{pattern}");
        }
        assert!(is_pattern("w?b") && !is_pattern("web"));
        // No time without bounds for one that backtracks.
        assert!(!matches(&"*a".repeat(60), &"a".repeat(59)));
    }
}
