//! Paths that devices have, on the host and in their guests.

use crate::model::keys::{Kind, Words, is_unprintable};

/// Longest path of a device, in bytes.
const MAX_PATH: usize = 1024;

pub const GUEST_PATH: Kind = Kind {
    name: "path",
    words: Words::NONE,
    rule: "an absolute path in the guest, without '.' and '..', and neither '/' nor in /proc or /sys nor /dev \
           itself",
    check: is_guest_path,
};

/// Whether `path` is absolute, and names each of its directories.
pub fn is_clean_path(path: &str) -> bool {
    let names = path.strip_prefix('/').unwrap_or_default();
    let is_name = |name: &str| !name.is_empty() && name != "." && name != ".." && name.len() <= 255;
    (2..=MAX_PATH).contains(&path.len()) && names.split('/').all(is_name) && !path.chars().any(is_unprintable)
}

fn is_guest_path(path: &str) -> bool {
    let is_below =
        |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/') || rest.is_empty());
    is_clean_path(path) && path != "/dev" && !is_below("/proc") && !is_below("/sys")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_guest_are_its_own() {
        for good in ["/data", "/srv/www/a b", "/dev/kvm", "/process", "/mnt/é"] {
            assert!(is_guest_path(good), "{good}");
        }
        let long = format!("/{}", "x/".repeat(600));
        for bad in [
            "", "/", "data", "/data/", "//a", "/a/../b", "/a/./b", "/proc", "/proc/x", "/sys", "/dev",
            "/a\nb", &long,
        ] {
            assert!(!is_guest_path(bad), "{bad}");
        }
    }
}
