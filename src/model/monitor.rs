//! What the broker, which starts a monitor, and the monitor agree on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The monitor's own program name: the binary that is executed under it is a monitor.
pub const ARGV0: &str = "nagaya-monitor";

/// The program name of a short-lived process that tells systemd-machined of a container.
pub const REGISTRAR: &str = "nagaya-register";

/// What a service manager sends to all processes of a container to end it: the monitor takes it for a
/// shutdown, and to others it means nothing (SIGURG), so that the guest's own init ends them in order.
pub const SCOPE_STOP_SIGNAL: i32 = 23;

/// How long it waits then before it kills them.
pub const SCOPE_STOP_PATIENCE: Duration = Duration::from_secs(45);

/// Largest configuration of a monitor, in bytes: the arguments, files and filter of one guest.
pub const MAX_CONFIG: u64 = 4 << 20;

/// Places in the monitor's own tree: the broker makes them, the monitor finds them.
pub mod place {
    /// The template: shared by all, locked read-only.
    pub const TEMPLATE: &str = "/template";
    /// The container's own data: `upper` and `work` of the overlay.
    pub const DATA: &str = "/data";
    /// Where the overlay goes.
    pub const ROOTFS: &str = "/rootfs";
    /// Device nodes made by the host, to be bound one by one.
    pub const DEVICES: &str = "/devices";
    /// A file that nobody may open, to be bound over others.
    pub const NOTHING: &str = "/devices/nothing";
    /// The host's lxcfs, where it has one that runs; an empty directory elsewhere.
    pub const LXCFS: &str = "/lxcfs";
    /// Closed to everybody: instances of proc and sysfs without which the kernel refuses a user
    /// namespace to mount its own (mount_too_revealing).
    pub const VISIBLE: &str = "/.visible";
}

/// Device nodes of every guest: name and numbers. All are safe in a user namespace; tun and fuse
/// are what VPNs and rootless tools want.
pub const DEVICES: [(&str, u32, u32); 8] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
    ("tun", 10, 200),
];

/// What lxcfs has for a guest in place of the host's own: files of /proc.
pub const LXCFS_PROC: [&str; 7] = ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"];
/// And a directory of /sys, as the directory that it is in and its name there.
pub const LXCFS_SYS: (&str, &str) = ("devices/system", "cpu");

/// The program name of the process that holds a private owner's namespaces.
pub const KEEPER: &str = "nagaya-keeper";

/// What a new monitor says to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartReport {
    /// Init runs, or has been taken over.
    Started {
        init_pid: i32,
    },
    Failed {
        reason: String,
    },
}
