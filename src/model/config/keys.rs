//! The keys of a container's configuration.

use std::collections::BTreeMap;

use super::kinds::{
    ALLOWANCE, CPUS, ENFORCE, EXPIRY, GUEST_PROGRAM, HOSTNAME, MEMORY, PATTERN, RATE, RETENTION, RLIMIT,
    SCHEDULE, SWAP,
};
use super::value::size;
use crate::model::keys::{Absent, BOOL, Key, KeyError, Kind, Live, Subject, TEXT, Table, Words, number};

/// What has the keys below: the configuration of a container.
pub struct Configuration;

impl Subject for Configuration {
    type Draft = BTreeMap<String, String>;
    /// The files of the container's cgroup that hold to it; none for what is no limit of a cgroup.
    type Sets = &'static [&'static str];
    const EMPTY_RESETS: bool = false;

    fn put(_: &Key<Self>, pairs: &mut Self::Draft, key: &str, value: &str) -> Result<(), KeyError> {
        pairs.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    fn check_rest(family: &Key<Self>, rest: &str) -> Result<(), &'static str> {
        check_rest(family, rest)
    }
}

pub const CONFIG_KEYS: Table<Configuration> =
    Table { what: "configuration", listed_by: "nagaya config keys", keys: KEYS, absent: ABSENT };

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    live: Live,
    help: &'static str,
) -> Key<Configuration> {
    Key::<Configuration>::new(name, kind, default, live, help, &[])
}

/// A limit of the cgroup.
const fn limit(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    files: &'static [&'static str],
) -> Key<Configuration> {
    Key::new(name, kind, default, Live::Now, help, files)
}

const fn rlimit(name: &'static str, help: &'static str) -> Key<Configuration> {
    key(name, RLIMIT, "", Live::NextStart, help)
}

const SIZE: Kind = Kind {
    name: "size",
    words: Words::NONE,
    rule: "a number of bytes with a unit (B, kB, MB, GB, TB; KiB, MiB, GiB, TiB)",
    check: |text| size(text).is_some(),
};

/// Huge pages of one size, those that a container takes and those that it reserves.
const fn hugepages(name: &'static str, files: &'static [&'static str]) -> Key<Configuration> {
    limit(name, SIZE, "", "Bytes of huge pages of that size", files)
}

/// LXD's names, types and defaults.
const KEYS: &[Key<Configuration>] = &[
    key("boot.autostart", BOOL, "", Live::Host, "Start it when the host boots [default: if it ran before]"),
    key(
        "boot.autostart.delay",
        number!(0, 86_400),
        "0",
        Live::Host,
        "Seconds to wait after its start before those of lower priority",
    ),
    key(
        "boot.autostart.priority",
        number!(-1000, 1000),
        "0",
        Live::Host,
        "Containers with a higher one start earlier",
    ),
    key(
        "boot.host_shutdown_timeout",
        number!(0, 86_400),
        "30",
        Live::Host,
        "Seconds that it may take to shut down with the host",
    ),
    key(
        "boot.stop.priority",
        number!(-1000, 1000),
        "0",
        Live::Host,
        "Containers with a higher one stop earlier",
    ),
    key(
        "environment.*",
        TEXT,
        "",
        Live::NewPrograms,
        "A variable of its init and of programs that are run in it",
    ),
    key(
        "hostname",
        HOSTNAME,
        "",
        Live::NextStart,
        "Its host name, which may be a full one ('mail.example.org') [default: its name]",
    )
    .ours(),
    limit("limits.cpu", CPUS, "", "How many CPUs it may use, or which ('0-3,5')", &["cpuset.cpus"]),
    limit(
        "limits.cpu.allowance",
        ALLOWANCE,
        "100%",
        "Its share under load ('50%'), or time in every period ('25ms/100ms')",
        &["cpu.max", "cpu.weight"],
    ),
    limit(
        "limits.cpu.priority",
        number!(0, 10),
        "10",
        "Its priority among containers of the same allowance",
        &["cpu.weight"],
    ),
    limit(
        "limits.disk.priority",
        number!(0, 10),
        "5",
        "Its share of a busy disk",
        &["io.weight", "io.bfq.weight"],
    ),
    hugepages("limits.hugepages.1GB", &["hugetlb.1GB.max", "hugetlb.1GB.rsvd.max"]),
    hugepages("limits.hugepages.1MB", &["hugetlb.1MB.max", "hugetlb.1MB.rsvd.max"]),
    hugepages("limits.hugepages.2MB", &["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]),
    hugepages("limits.hugepages.64KB", &["hugetlb.64KB.max", "hugetlb.64KB.rsvd.max"]),
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
    limit(
        "limits.memory",
        MEMORY,
        "",
        "Memory, with a unit ('512MiB') or in percent of the host's",
        &["memory.max", "memory.high"],
    ),
    limit(
        "limits.memory.enforce",
        ENFORCE,
        "hard",
        "What happens at that limit: 'hard' ends processes, 'soft' slows them",
        &[],
    ),
    limit(
        "limits.memory.swap",
        SWAP,
        "true",
        "Whether it may be swapped out, or how much of it",
        &["memory.swap.max"],
    ),
    limit("limits.processes", number!(1, 4_194_304), "", "Processes and threads", &["pids.max"]),
    limit(
        "limits.read",
        RATE,
        "",
        "What it may read of the disk in a second ('20MiB', '500iops')",
        &["io.max"],
    )
    .differs("a key of its disk devices"),
    limit("limits.write", RATE, "", "What it may write to the disk in a second", &["io.max"])
        .differs("a key of its disk devices"),
    key(
        "security.syscalls.deny_default",
        BOOL,
        "true",
        Live::NextStart,
        "Refuse system calls and sockets that a guest has no use for",
    ),
    key(
        "snapshots.expiry",
        EXPIRY,
        "",
        Live::Now,
        "For how long a snapshot is kept that was made by itself ('2w')",
    ),
    key(
        "snapshots.expiry.manual",
        EXPIRY,
        "",
        Live::Now,
        "For how long a snapshot is kept that was made without --expires",
    ),
    key(
        "snapshots.hook",
        GUEST_PROGRAM,
        "",
        Live::Now,
        "The guest's program for snapshots: 'PROGRAM freeze' before, 'PROGRAM thaw' after",
    )
    .ours(),
    key("snapshots.pattern", PATTERN, "snap%d", Live::Now, "How snapshots are called that are not named"),
    key(
        "snapshots.retention",
        RETENTION,
        "",
        Live::Now,
        "Which snapshots of the schedule are kept ('24 hourly, 7 daily') [default: all]",
    )
    .ours(),
    key("snapshots.schedule", SCHEDULE, "", Live::Now, "When snapshots are made by themselves ('@daily')"),
    key(
        "snapshots.schedule.stopped",
        BOOL,
        "false",
        Live::Now,
        "Make them also while the container is stopped",
    ),
    key("user.*", TEXT, "", Live::None, "A note of your own"),
];

/// Configuration keys that LXD's instances have, without those of virtual machines, and what to use instead.
const ABSENT: &[Absent] = &[
    Absent::instead("boot.autorestart", "a service does that: systemctl enable --now nagaya@NAME"),
    Absent::instead(
        "boot.host_shutdown_action",
        "a host that shuts down asks its containers to; how long they get is boot.host_shutdown_timeout",
    ),
    Absent::instead("cloud-init.*", "set it up once it runs: nagaya exec NAME -- COMMAND"),
    Absent::key("cluster.evacuate"),
    Absent::key("image.*"),
    Absent::instead("limits.cpu.nodes", "name the CPUs of the node: limits.cpu=0-7"),
    Absent::key("limits.memory.hugepages"),
    Absent::instead(
        "limits.memory.oom_priority",
        "a container that is out of its own memory harms no other: limits.memory=1GiB",
    ),
    Absent::instead(
        "limits.memory.swap.priority",
        "whether it may be swapped out, or how much of it: limits.memory.swap=512MiB",
    ),
    Absent::instead(
        "limits.network.priority",
        "rates are limited by interface: nagaya device set NAME eth0 limits.egress=10Mbit",
    ),
    Absent::instead("linux.kernel_modules", "load them on the host: a line in a file of /etc/modules-load.d"),
    Absent::instead(
        "linux.kernel_modules.load",
        "load them on the host: a line in a file of /etc/modules-load.d",
    ),
    Absent::instead("linux.sysctl.*", "a guest's root sets those of its own namespaces in its /etc/sysctl.d"),
    Absent::key("migration.incremental.memory"),
    Absent::key("migration.incremental.memory.goal"),
    Absent::key("migration.incremental.memory.iterations"),
    Absent::key("nvidia.driver.capabilities"),
    Absent::key("nvidia.require.cuda"),
    Absent::key("nvidia.require.driver"),
    Absent::key("nvidia.runtime"),
    Absent::key("raw.apparmor"),
    Absent::instead("raw.idmap", "every container has 65,536 ids of its own anyway"),
    Absent::key("raw.lxc"),
    Absent::instead(
        "raw.seccomp",
        "the filter is one for all containers; to switch it off: security.syscalls.deny_default=false",
    ),
    Absent::key("security.bpffs.delegate_attachs"),
    Absent::key("security.bpffs.delegate_cmds"),
    Absent::key("security.bpffs.delegate_maps"),
    Absent::key("security.bpffs.delegate_progs"),
    Absent::key("security.bpffs.path"),
    Absent::key("security.devlxd"),
    Absent::key("security.devlxd.images"),
    Absent::key("security.guestapi"),
    Absent::key("security.guestapi.images"),
    Absent::instead("security.idmap.base", "every container has 65,536 ids of its own anyway"),
    Absent::instead("security.idmap.isolated", "every container has 65,536 ids of its own anyway"),
    Absent::instead("security.idmap.size", "every container has 65,536 ids of its own anyway"),
    Absent::instead(
        "security.nesting",
        "there is nothing to switch: what a guest may do is the same for all containers",
    ),
    Absent::instead("security.privileged", "every container is unprivileged, and none can be made otherwise"),
    Absent::key("security.protection.delete"),
    Absent::key("security.protection.shift"),
    Absent::key("security.protection.start"),
    Absent::key("security.selinux.label_rootfs"),
    Absent::instead(
        "security.syscalls.allow",
        "the filter is one for all containers; to switch it off: security.syscalls.deny_default=false",
    ),
    Absent::instead(
        "security.syscalls.deny",
        "the filter is one for all containers; to switch it off: security.syscalls.deny_default=false",
    ),
    Absent::instead(
        "security.syscalls.deny_compat",
        "the filter is one for all containers; to switch it off: security.syscalls.deny_default=false",
    ),
    Absent::key("security.syscalls.intercept.bpf"),
    Absent::key("security.syscalls.intercept.bpf.devices"),
    Absent::key("security.syscalls.intercept.mknod"),
    Absent::key("security.syscalls.intercept.mount"),
    Absent::key("security.syscalls.intercept.mount.allowed"),
    Absent::key("security.syscalls.intercept.mount.fuse"),
    Absent::key("security.syscalls.intercept.mount.shift"),
    Absent::key("security.syscalls.intercept.sched_setscheduler"),
    Absent::key("security.syscalls.intercept.setxattr"),
    Absent::key("security.syscalls.intercept.sysinfo"),
    Absent::key("smbios11.*"),
    Absent::key("systemd.credential-binary.*"),
    Absent::key("systemd.credential.*"),
    Absent::key("volatile.*"),
];

/// The resource that a key of `limits.kernel` limits.
pub fn rlimit_of(key: &str) -> Option<&str> {
    key.strip_prefix("limits.kernel.")
}

/// Variables that tell a guest what it runs in.
const OWN_VARIABLES: [&str; 3] = ["container", "container_uuid", "NOTIFY_SOCKET"];

/// What stands in place of a family's '*'.
fn check_rest(family: &Key<Configuration>, rest: &str) -> Result<(), &'static str> {
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
    fn the_table_is_sorted() {
        assert!(KEYS.is_sorted_by_key(|k| k.name));
    }

    #[test]
    fn families_are_found_by_their_prefix() {
        assert_eq!(CONFIG_KEYS.find("environment.LANG").unwrap().name, "environment.*");
        assert_eq!(CONFIG_KEYS.find("limits.cpu").unwrap().name, "limits.cpu");
        assert_eq!(CONFIG_KEYS.find("limits.cpu.").map(|k| k.name), None);
        assert_eq!(rlimit_of("limits.kernel.nofile"), Some("nofile"));
    }
}
