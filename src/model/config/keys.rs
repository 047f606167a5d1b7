//! The keys that there are, in the order in which they are shown.

use super::value::Kind;

/// When a change of a key takes effect in a container that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// At once.
    Now,
    /// In programs that are run from now on; in the guest's init at the next start.
    NewPrograms,
    NextStart,
    /// When the host boots or shuts down.
    Host,
    /// It has no effect of its own.
    None,
}

impl Live {
    /// As the table of keys shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Now => "at once",
            Self::NewPrograms => "in new programs",
            Self::NextStart => "at the next start",
            Self::Host => "with the host",
            Self::None => "no effect",
        }
    }
}

/// A key, or with '*' at its end a family of keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Empty: nothing is set, nothing is limited.
    pub default: &'static str,
    pub live: Live,
    /// One line.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, live: Live, help: &'static str) -> Key {
    Key { name, kind, default, live, help }
}

const fn rlimit(name: &'static str, help: &'static str) -> Key {
    Key { name, kind: Kind::Rlimit, default: "", live: Live::NextStart, help }
}

/// LXD's names, types and defaults.
pub const KEYS: &[Key] = &[
    key("boot.autostart", Kind::Bool, "false", Live::Host, "Start it when the host boots"),
    key(
        "boot.autostart.delay",
        Kind::Integer(0, 86_400),
        "0",
        Live::Host,
        "Seconds to wait after its start before the next",
    ),
    key("boot.autostart.priority", Kind::Integer(-1000, 1000), "0", Live::Host, "Higher is started earlier"),
    key(
        "boot.host_shutdown_timeout",
        Kind::Integer(0, 86_400),
        "30",
        Live::Host,
        "Seconds that it gets to shut down with the host",
    ),
    key("boot.stop.priority", Kind::Integer(-1000, 1000), "0", Live::Host, "Higher is stopped earlier"),
    key(
        "environment.*",
        Kind::Text,
        "",
        Live::NewPrograms,
        "A variable of its init and of programs that are run in it",
    ),
    key("limits.cpu", Kind::Cpus, "", Live::Now, "How many CPUs it may use, or which ('0-3,5')"),
    key(
        "limits.cpu.allowance",
        Kind::Allowance,
        "100%",
        Live::Now,
        "Its share under load ('50%'), or time in every period ('25ms/100ms')",
    ),
    key(
        "limits.cpu.priority",
        Kind::Integer(0, 10),
        "10",
        Live::Now,
        "Its priority among containers of the same allowance",
    ),
    key("limits.disk.priority", Kind::Integer(0, 10), "5", Live::Now, "Its share of a busy disk"),
    rlimit("limits.kernel.as", "Bytes of address space of a process"),
    rlimit("limits.kernel.core", "Bytes of a core dump"),
    rlimit("limits.kernel.cpu", "Seconds of CPU time of a process"),
    rlimit("limits.kernel.data", "Bytes of a process's data segment"),
    rlimit("limits.kernel.fsize", "Bytes of a file that a process writes"),
    rlimit("limits.kernel.locks", "File locks of a process"),
    rlimit("limits.kernel.memlock", "Bytes of memory that a process may lock"),
    rlimit("limits.kernel.msgqueue", "Bytes of a user's POSIX message queues"),
    rlimit("limits.kernel.nice", "Ceiling of a process's priority, as 20 minus the nice value"),
    rlimit("limits.kernel.nofile", "Open files of a process"),
    rlimit("limits.kernel.nproc", "Processes of a user"),
    rlimit("limits.kernel.rtprio", "Ceiling of a process's realtime priority"),
    rlimit("limits.kernel.rttime", "Microseconds of realtime computing without a pause"),
    rlimit("limits.kernel.sigpending", "Signals queued for a user's processes"),
    rlimit("limits.kernel.stack", "Bytes of a process's stack"),
    key(
        "limits.memory",
        Kind::Memory,
        "",
        Live::Now,
        "Memory, with a unit ('512MiB') or in percent of the host's",
    ),
    key(
        "limits.memory.enforce",
        Kind::Enforce,
        "hard",
        Live::Now,
        "What happens at that limit: 'hard' ends processes, 'soft' slows them",
    ),
    key(
        "limits.memory.swap",
        Kind::Swap,
        "true",
        Live::Now,
        "Whether it may be swapped out, or how much of it",
    ),
    key("limits.processes", Kind::Integer(1, 4_194_304), "", Live::Now, "Processes and threads"),
    key(
        "limits.read",
        Kind::Rate,
        "",
        Live::Now,
        "What it may read of the disk in a second ('20MiB', '500iops')",
    ),
    key("limits.write", Kind::Rate, "", Live::Now, "What it may write to the disk in a second"),
    key(
        "security.syscalls.deny_default",
        Kind::Bool,
        "true",
        Live::NextStart,
        "Refuse system calls and sockets that a guest has no use for",
    ),
    key("user.*", Kind::Text, "", Live::None, "Anything that you wish to keep with it"),
];

/// The entry for `key`, which may be one of a family.
pub fn find(key: &str) -> Option<&'static Key> {
    KEYS.iter().find(|known| match known.name.strip_suffix('*') {
        Some(prefix) => key.starts_with(prefix),
        None => known.name == key,
    })
}

/// The resource that a key of `limits.kernel` limits.
pub fn rlimit_of(key: &str) -> Option<&str> {
    key.strip_prefix("limits.kernel.")
}

/// Variables that tell a guest what it runs in.
const OWN_VARIABLES: [&str; 3] = ["container", "container_uuid", "NOTIFY_SOCKET"];

/// What stands in place of a family's '*'.
pub(super) fn check_rest(family: &Key, rest: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if rest.is_empty() || rest.len() > 128 {
        return Err("it needs a name after the dot, of at most 128 characters");
    }
    if family.name == "environment.*" {
        if rest.as_bytes()[0].is_ascii_digit() || !rest.bytes().all(word) {
            return Err("a variable's name is made of letters, digits and '_', no digit first");
        }
        if OWN_VARIABLES.contains(&rest) {
            return Err("that variable is nagaya's own");
        }
        return Ok(());
    }
    if rest.bytes().all(|b| word(b) || matches!(b, b'.' | b'-' | b':' | b'/')) {
        Ok(())
    } else {
        Err("it may hold letters, digits and '._-:/' only")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_values() {
        assert!(KEYS.is_sorted_by_key(|k| k.name));
        for key in KEYS {
            if !key.default.is_empty() {
                assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
            }
            assert!(key.help.len() <= 80, "{}", key.name);
        }
    }

    #[test]
    fn families_are_found_by_their_prefix() {
        assert_eq!(find("environment.LANG").unwrap().name, "environment.*");
        assert_eq!(find("limits.cpu").unwrap().name, "limits.cpu");
        assert_eq!(find("limits.cpu.").map(|k| k.name), None);
        assert_eq!(rlimit_of("limits.kernel.nofile"), Some("nofile"));
    }
}
