//! Snapshots of containers, copies of both, and what else changes what a container stands on.

use serde::{Deserialize, Serialize};

use super::containers::Ending;
use super::pairs::Pairs;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::snapshot::{SnapshotName, Source};
use crate::model::time::Timestamp;

/// Of a container as it is now, whether it runs or not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    pub container: Name,
    /// None: as the key `snapshots.pattern` has it.
    #[serde(default)]
    pub name: Option<SnapshotName>,
    #[serde(default)]
    pub comment: Option<String>,
    /// None: as the key `snapshots.expiry.manual` has it, or never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// All of a container, the oldest first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub container: Name,
}

/// One, with its size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    pub container: Name,
    pub name: SnapshotName,
}

/// Root and configuration; what the container has written since is lost.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    pub container: Name,
    pub name: SnapshotName,
    /// How a running container is stopped for that, to be started again afterwards; none: it is refused.
    #[serde(default)]
    pub stop: Option<Ending>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    pub container: Name,
    pub name: SnapshotName,
    pub new_name: SnapshotName,
}

/// When it is deleted by itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expire {
    pub container: Name,
    pub name: SnapshotName,
    /// None: it is kept until it is deleted.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// All of them or, where one is not there, none.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    pub container: Name,
    pub names: Vec<SnapshotName>,
}

/// A new container that begins as another one is, or was. It is not started.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// `NAME` or `NAME/SNAPSHOT`.
    pub source: Source,
    /// None: a random name is chosen.
    #[serde(default)]
    pub name: Option<Name>,
    /// Keys that differ from the source's.
    #[serde(default)]
    pub config: Pairs,
    /// Networks instead of the source's.
    #[serde(default)]
    pub networks: Vec<String>,
    /// Addresses on those.
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
    /// The source's snapshots are copied too.
    #[serde(default)]
    pub snapshots: bool,
    /// The copy is there already, and becomes what the source is.
    #[serde(default)]
    pub refresh: bool,
    /// Where the copy is to be; none said: where the source is. In another pool it shares nothing with it.
    #[serde(default)]
    pub storage: Option<PoolName>,
}

/// A template that is as a container is, or was.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// `NAME` or `NAME/SNAPSHOT`.
    pub source: Source,
    /// The template's name.
    pub template: String,
    /// The name may stand for another template.
    #[serde(default)]
    pub replace: bool,
}

/// A fresh root for a container; its old one is kept as a snapshot, whose name is answered.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    pub container: Name,
    /// None: the one that it was launched from.
    #[serde(default)]
    pub template: Option<String>,
    /// How a running container is stopped for that, to be started again afterwards; none: it is refused.
    #[serde(default)]
    pub stop: Option<Ending>,
}

/// Merges the layers that a stopped container stands on; answers how many there were.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimize {
    pub container: Name,
}

/// What differs in a container from its template, or from one of its snapshots.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// `NAME` or `NAME/SNAPSHOT`.
    pub source: Source,
    /// A snapshot of the same container; none: its template.
    #[serde(default)]
    pub from: Option<SnapshotName>,
}

/// The same as a tar archive, in which an empty file `.wh.NAME` says that NAME was deleted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveDiff {
    /// `NAME` or `NAME/SNAPSHOT`.
    pub source: Source,
    #[serde(default)]
    pub from: Option<SnapshotName>,
    /// The number of a descriptor to which it is written.
    pub archive: i32,
}

/// What such an archive has.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Archived {
    pub entries: u64,
    /// Of the files' content, without holes.
    pub bytes: u64,
    /// Entries that it cannot have: sockets, names that begin with `.wh.`, what changed while it was read.
    pub left_out: u64,
    /// The first of them, with the reason.
    pub named: Vec<String>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    pub container: String,
    pub name: String,
    pub created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether the container ran: its programs may have been in the middle of something.
    pub was_running: bool,
    /// Whether it was made by itself.
    pub is_automatic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    pub template: String,
    /// Layers that it stands on above its template.
    pub layers: usize,
}

/// A snapshot with its size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// Bytes of disk that its topmost layer takes.
    pub bytes: u64,
    /// Entries of that.
    pub files: u64,
    /// Whether deleting the snapshot frees that.
    pub is_own: bool,
}

/// What was made of a container: a snapshot or a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    pub name: String,
    /// Milliseconds for which the guest was frozen; none where it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_ms: Option<u64>,
}

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Changed,
    Deleted,
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub kind: Kind,
    /// From the container's root; bytes that are not UTF-8 are replaced.
    pub path: String,
}
