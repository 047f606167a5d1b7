//! Resource limits of guests' programs, setrlimit(2), where nobody says otherwise; and how far an
//! ordinary user may raise them.

use super::config::value::NO_LIMIT;
use super::limits::RLIMITS;

/// Files that a guest's process has open at most.
pub const USUAL_FILES: u64 = 1 << 20;

/// Resource, soft and hard limit: what the kernel gives to a machine's own init
/// (include/asm-generic/resource.h), but for open files, of which systemd wants many, and counts of a
/// user, which other limits bound. A `core` of 1 is the kernel's word for "no dump, also not to a
/// program" (fs/coredump.c): of 0, the host's program that takes dumps would read a guest's memory.
pub const DEFAULTS: [(&str, u64, u64); RLIMITS.len()] = [
    ("as", NO_LIMIT, NO_LIMIT),
    ("core", 1, 1),
    ("cpu", NO_LIMIT, NO_LIMIT),
    ("data", NO_LIMIT, NO_LIMIT),
    ("fsize", NO_LIMIT, NO_LIMIT),
    ("locks", NO_LIMIT, NO_LIMIT),
    ("memlock", 8 << 20, NO_LIMIT),
    ("msgqueue", 819_200, NO_LIMIT),
    ("nice", 0, 0),
    ("nofile", 1024, USUAL_FILES),
    ("nproc", NO_LIMIT, NO_LIMIT),
    ("rtprio", 0, 0),
    ("rttime", NO_LIMIT, NO_LIMIT),
    ("sigpending", NO_LIMIT, NO_LIMIT),
    ("stack", 8 << 20, NO_LIMIT),
];

/// What the host's own users are not given without bound either. systemd asks for 64 MiB of locked
/// memory.
const OF_USERS: [(&str, u64); 3] = [("memlock", 64 << 20), ("msgqueue", 819_200), ("sigpending", 64 * 1024)];

/// The hard limit of an ordinary user's guests where no grant says more.
pub fn most_of_users(resource: &str) -> u64 {
    let own = OF_USERS.iter().find(|(name, _)| *name == resource).map(|(_, most)| *most);
    let usual = || DEFAULTS.iter().find(|(name, ..)| *name == resource).map(|(_, _, hard)| *hard);
    own.or_else(usual).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_has_a_default_and_a_bound() {
        assert_eq!(DEFAULTS.map(|(name, ..)| name), RLIMITS);
        for (name, _, hard) in DEFAULTS {
            assert!(most_of_users(name) <= hard, "{name}");
        }
        assert!(OF_USERS.iter().all(|(name, _)| RLIMITS.contains(name)));
        assert_eq!((most_of_users("rtprio"), most_of_users("memlock")), (0, 64 << 20));
    }
}
