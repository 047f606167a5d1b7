//! Files of containers, whether they run or not.
//!
//! Paths are the guest's own: its links lead where they lead in the guest, and never out of it. Descriptors come beside
//! the requests. A `stream` is a pipe with files as docs/files.md describes it; an `input` or `output` holds the content
//! of one file.

use serde::{Deserialize, Serialize};

use crate::model::byte_string::ByteString;
use crate::model::file_job::EntryKind;
use crate::model::name::Name;
use crate::model::time::Timestamp;

/// Write what a stream holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Push {
    pub name: Name,
    /// A directory to put things into, or the file to write.
    pub path: ByteString,
    pub stream: i32,
    /// How many bytes that will be, for whoever is told how far it is.
    #[serde(default)]
    pub bytes: Option<u64>,
    #[serde(default)]
    pub how: How,
    /// `path` is a directory.
    #[serde(default)]
    pub into: bool,
}

/// Write one file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    pub name: Name,
    pub path: ByteString,
    pub input: i32,
    #[serde(default)]
    pub bytes: Option<u64>,
    #[serde(default)]
    pub how: How,
}

/// Whose it is to be, and with which mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct How {
    /// In place of what the stream says; of one file 0.
    #[serde(default)]
    pub uid: Option<u32>,
    #[serde(default)]
    pub gid: Option<u32>,
    /// Of files; of one file 0644.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Directories that are missing on the way are made.
    #[serde(default)]
    pub parents: bool,
    /// A file that is there keeps its owner and mode.
    #[serde(default)]
    pub keep: bool,
}

/// Send a file or, with all that is in it, a directory as a stream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pull {
    pub name: Name,
    pub path: ByteString,
    pub stream: i32,
    #[serde(default)]
    pub recursive: bool,
}

/// Send the content of one file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    pub name: Name,
    pub path: ByteString,
    pub output: i32,
}

/// What is in a directory, or one file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub name: Name,
    pub path: ByteString,
}

/// Delete a file or directory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub name: Name,
    pub path: ByteString,
    /// A directory with all that is in it.
    #[serde(default)]
    pub recursive: bool,
    /// It is no error if there is nothing.
    #[serde(default)]
    pub if_exists: bool,
}

/// Something in a guest's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    pub name: ByteString,
    pub kind: EntryKind,
    /// Permissions, set-id and sticky bits, as chmod(1) takes them: `0644`.
    pub mode: String,
    /// Owner and group, as the guest numbers them.
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub modified_at: Timestamp,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<ByteString>,
}

/// What was transferred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Transferred {
    /// Files, directories and links.
    pub entries: u64,
    pub bytes: u64,
    /// Fifos, sockets, devices and the kernel's own file systems, which are not transferred.
    pub skipped: u64,
}
