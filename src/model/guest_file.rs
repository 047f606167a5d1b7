//! A file that nagaya places in a guest's tree.

use serde::{Deserialize, Serialize};

/// First line of a file that is replaced only while it is still ours.
pub const MARKER: &str = "# Written by nagaya.";

/// When a file is written, judged against what the guest's tree already has at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Always,
    /// Only where nothing is, not even a dangling link.
    IfMissing,
    /// Where nothing is, or a regular file whose first line is [`MARKER`].
    IfMissingOrOurs,
    /// Unless the path is a symbolic link: the guest then keeps the file elsewhere by itself.
    UnlessLink,
}

/// A file for a guest. The writer resolves `path` inside the guest's tree and never through a
/// link that leads out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute, as the guest sees it.
    pub path: String,
    pub content: String,
    /// Permission bits; the owner is the guest's root.
    pub mode: u32,
    pub when: When,
}

/// Directory, beginning and end of the files that a guest has for each interface, in every style.
const OF_INTERFACES: [(&str, &str, &str); 4] = [
    ("/etc/systemd/network", "05-nagaya-", ".network"),
    ("/etc/NetworkManager/system-connections", "nagaya-", ".nmconnection"),
    ("/etc/sysconfig/network-scripts", "ifcfg-", ""),
    ("/etc/sysconfig/network-scripts", "route-", ""),
];

/// Directories in which there are files for single interfaces.
pub fn interface_file_dirs() -> impl Iterator<Item = &'static str> {
    let mut dirs: Vec<_> = OF_INTERFACES.iter().map(|(dir, ..)| *dir).collect();
    dirs.dedup();
    dirs.into_iter()
}

/// Whether the file at `path` is for one interface. Where its first line is [`MARKER`] too and it is
/// not written again, that interface is gone and the file is to go with it.
pub fn is_interface_file(path: &str) -> bool {
    OF_INTERFACES.iter().any(|(dir, beginning, end)| {
        let name = path.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/'));
        name.and_then(|name| name.strip_prefix(beginning)?.strip_suffix(end))
            .is_some_and(|interface| !interface.is_empty() && !interface.contains('/'))
    })
}
