//! What the broker, which starts a monitor, and the monitor agree on.

use serde::{Deserialize, Serialize};

/// The monitor's own program name: the binary that is executed under it is a monitor.
pub const ARGV0: &str = "nagaya-monitor";

/// The program name of a short-lived process that tells systemd-machined of a container.
pub const REGISTRAR: &str = "nagaya-register";

/// What a service manager sends to all processes of a container to end it: the monitor takes it for a
/// shutdown, and to others it means nothing (SIGURG), so that the guest's own init ends them in order.
pub const SCOPE_STOP_SIGNAL: i32 = 23;

/// Largest configuration of a monitor, in bytes: the arguments, files and filter of one guest.
pub const MAX_CONFIG: u64 = 4 << 20;

/// Places in the monitor's own tree: the broker makes them, the monitor finds them.
pub mod place {
    /// The template, the lowest layer: shared by all, locked read-only.
    pub const TEMPLATE: &str = "/template";
    /// The layers above it, likewise, as `1`, `2` and so on from below.
    pub const LAYERS: &str = "/layers";
    /// The container's own data: `upper` and `work` of the overlay.
    pub const DATA: &str = "/data";
    /// That mount's name.
    pub const DATA_MOUNT: &str = "data";
    /// The other mounts, by their names.
    pub const MOUNTS: &str = "/mounts";
    /// Mounts that come while the guest runs, by their numbers.
    pub const PLUGGED: &str = "/plugged";
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

/// Layers that a container stands on at most.
pub const MOST_LAYERS: usize = 64;
/// Mounts that its monitor has at most.
pub const MOST_MOUNTS: usize = 64;

/// The descriptors that a new monitor finds open from number 3 on, in this order. Broker and monitor are one program:
/// the list may change with every version. `init` is /dev/null unless there is an init to take over.
pub const DESCRIPTORS: [&str; 9] =
    ["config", "control", "state", "log", "other-log", "payload", "network", "broker", "init"];

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

/// A device node of the host's that a guest gets where its operator asks for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    pub path: &'static str,
    pub major: u32,
    pub minor: u32,
}

/// All of them: safe in a user namespace, or made for it.
pub const NODES: [Node; 3] = [
    Node { path: "/dev/fuse", major: 10, minor: 229 },
    Node { path: "/dev/kvm", major: 10, minor: 232 },
    Node { path: "/dev/net/tun", major: 10, minor: 200 },
];

/// What a guest has of a device besides interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMount {
    /// The device's name.
    pub device: String,
    /// Where it is mounted in the guest.
    pub path: String,
    pub source: MountSource,
    /// Without it the guest does not boot.
    #[serde(default)]
    pub required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// The directory or node at this place in the monitor's tree.
    Place(String),
    /// A file system in memory, made in the guest.
    Tmpfs { size: Option<u64>, readonly: bool },
}

/// What lxcfs has for a guest in place of the host's own: files of /proc.
pub const LXCFS_PROC: [&str; 7] = ["cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime"];
/// And a directory of /sys, as the directory that it is in and its name there.
pub const LXCFS_SYS: (&str, &str) = ("devices/system", "cpu");

/// The program name of the namespace holder.
pub const NAMESPACE_HOLDER: &str = "nagaya-keeper";

/// What a new monitor says to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartReport {
    /// Init runs, or has been taken over.
    Started { init_pid: i32 },
    Failed {
        /// Begins with "cannot ".
        reason: String,
        /// The kernel's answer, where that was the cause.
        #[serde(default)]
        errno: Option<i32>,
    },
}
