//! Configuration keys that LXD's instances have and nagaya's containers have not: whoever types
//! one has not mistyped it, and is told so.

/// Without those of virtual machines.
const KEYS: &[&str] = &[
    "boot.autorestart",
    "boot.host_shutdown_action",
    "cloud-init.network-config",
    "cloud-init.user-data",
    "cloud-init.vendor-data",
    "cluster.evacuate",
    "limits.cpu.nodes",
    "limits.hugepages.1GB",
    "limits.hugepages.1MB",
    "limits.hugepages.2MB",
    "limits.hugepages.64KB",
    "limits.memory.hugepages",
    "limits.memory.oom_priority",
    "limits.memory.swap.priority",
    "limits.network.priority",
    "linux.kernel_modules",
    "linux.kernel_modules.load",
    "migration.incremental.memory",
    "migration.incremental.memory.goal",
    "migration.incremental.memory.iterations",
    "nvidia.driver.capabilities",
    "nvidia.require.cuda",
    "nvidia.require.driver",
    "nvidia.runtime",
    "raw.apparmor",
    "raw.idmap",
    "raw.lxc",
    "raw.seccomp",
    "security.bpffs.delegate_attachs",
    "security.bpffs.delegate_cmds",
    "security.bpffs.delegate_maps",
    "security.bpffs.delegate_progs",
    "security.bpffs.path",
    "security.devlxd",
    "security.devlxd.images",
    "security.guestapi",
    "security.guestapi.images",
    "security.idmap.base",
    "security.idmap.isolated",
    "security.idmap.size",
    "security.nesting",
    "security.privileged",
    "security.protection.delete",
    "security.protection.shift",
    "security.protection.start",
    "security.selinux.label_rootfs",
    "security.syscalls.allow",
    "security.syscalls.deny",
    "security.syscalls.deny_compat",
    "security.syscalls.intercept.bpf",
    "security.syscalls.intercept.bpf.devices",
    "security.syscalls.intercept.mknod",
    "security.syscalls.intercept.mount",
    "security.syscalls.intercept.mount.allowed",
    "security.syscalls.intercept.mount.fuse",
    "security.syscalls.intercept.mount.shift",
    "security.syscalls.intercept.sched_setscheduler",
    "security.syscalls.intercept.setxattr",
    "security.syscalls.intercept.sysinfo",
    "snapshots.expiry",
    "snapshots.expiry.manual",
    "snapshots.pattern",
    "snapshots.schedule",
    "snapshots.schedule.stopped",
];

/// Families of keys.
const FAMILIES: &[&str] = &[
    "linux.sysctl.",
    "smbios11.",
    "systemd.credential-binary.",
    "systemd.credential.",
    "image.",
    "volatile.",
];

pub(super) fn has(key: &str) -> bool {
    KEYS.contains(&key) || FAMILIES.iter().any(|family| key.starts_with(family))
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_of_them_is_ours() {
        for key in KEYS {
            assert_eq!(super::super::find(key), None, "{key}");
        }
    }
}
