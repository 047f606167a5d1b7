//! Natural order: `n2` before `n10`.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::str::Chars;

/// Digits are compared as the number that they are, all else letter by letter. Texts that only
/// leading zeros set apart are in the order of their letters, so that two texts are equal only if
/// they are the same.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.chars().peekable(), b.chars().peekable());
    loop {
        let order = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return a.cmp(b),
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (x, y) = (digits(&mut left), digits(&mut right));
                x.len().cmp(&y.len()).then(x.cmp(&y))
            }
            (x, y) => {
                left.next();
                right.next();
                x.cmp(&y)
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the digits that come next, without leading zeros.
fn digits(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut all = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        all.push(digit);
    }
    all.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["n10", "n2", "n1", "web", "n02", "n1-b9", "n1-b10", "a", "n"];
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, ["a", "n", "n1", "n1-b9", "n1-b10", "n02", "n2", "n10", "web"]);
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[a0-2]{0,6}", b in "[a0-2]{0,6}", c in "[a0-2]{0,6}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &b).is_eq(), a == b);
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }
    }
}
