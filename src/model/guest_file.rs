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
