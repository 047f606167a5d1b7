//! A file that nagaya places in a guest's tree, and what becomes of one that the guest has changed.

use serde::{Deserialize, Serialize};

/// First line of a file that is nagaya's as a whole.
pub const MARKER: &str = "# Written by nagaya.";

/// The lines around those that are nagaya's in a file of which the rest is the guest's.
pub const BEGIN: &str = "# --- BEGIN nagaya ---";
/// The line behind those that are nagaya's.
pub const END: &str = "# --- END nagaya ---";

/// Where the guest's tree has what was last written to each file, so that a change of the guest's is
/// known for one. In the tree and not beside it: a copy of the tree takes it along.
pub const RECORD: &str = "/etc/.nagaya.json";

/// A file of this name and that of another one, beside it, keeps nagaya's hands off that.
pub const IGNORE: &str = ".nagaya-ignore.";

/// When and how far a file is written, judged against what the guest's tree already has at its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    Always,
    /// As long as the guest has not changed what was last written; a link that it has made is a change.
    UnlessChanged,
    /// Lines of its own, between [`BEGIN`] and [`END`], as long as the guest has not changed those.
    /// What stands around them is the guest's.
    Block {
        /// For a new file: what comes behind the block.
        rest: String,
        /// What the tree came with is replaced by the first start; otherwise the block is put at
        /// its end.
        replaces: bool,
    },
}

/// A file for a guest. The writer resolves `path` inside the guest's tree and never through a
/// link that leads out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute, as the guest sees it.
    pub path: String,
    /// Of a block: the lines between the marks; an empty one goes.
    pub content: String,
    /// Permission bits of a new file; the owner is the guest's root.
    pub mode: u32,
    /// Whether it is written over what the guest has there.
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

/// Whether the file at `path` is for one interface. Where it is nagaya's alone too and is not written
/// again, that interface is gone and the file is to go with it.
pub fn is_interface_file(path: &str) -> bool {
    OF_INTERFACES.iter().any(|(dir, beginning, end)| {
        let name = path.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/'));
        name.and_then(|name| name.strip_prefix(beginning)?.strip_suffix(end))
            .is_some_and(|interface| !interface.is_empty() && !interface.contains('/'))
    })
}
