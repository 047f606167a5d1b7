//! Operations: what takes more than one step that must be undone or finished.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer::LayerId;
use super::name::ContainerId;

/// An operation's identity: 16 hexadecimal digits, drawn at random. Temporary directories are named after it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(String);

impl OperationId {
    pub fn from_random(bits: u64) -> Self {
        Self(format!("{bits:016x}"))
    }

    /// An identity that was stored.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an operation does. The kind decides what becomes of one whose command was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Makes a container and starts it: undone.
    Launch,
    /// Makes a container: undone.
    Create,
    /// Deletes a container: finished.
    Delete,
    /// Makes a container that stands on what another one has: undone.
    Copy,
    /// Makes a snapshot of a container: undone.
    Snapshot,
    /// Makes a layer of what a container has of its own, for a copy: undone.
    Seal,
    /// Puts a container back to one of its snapshots, or to what another container has: undone.
    Restore,
    /// Gives a container the root of a template, and keeps its old one as a snapshot: undone.
    Rebuild,
    /// Merges the layers that a container stands on: undone.
    Optimize,
    /// Makes a template of what a container has: undone.
    TemplatePublish,
    /// Builds a template from its recipe: undone.
    TemplateBuild,
    /// Takes a template from an archive: undone.
    TemplateImport,
    /// Takes a name from a template: finished.
    TemplateDelete,
    /// Brings a change of a profile to the containers that use it: finished.
    ProfileChange,
    /// Makes a storage pool: finished.
    StorageCreate,
    /// Deletes a storage pool: finished.
    StorageDelete,
    /// Makes a volume: finished.
    VolumeCreate,
    /// Deletes a volume: finished.
    VolumeDelete,
    /// Makes a new database from what stands beside it: the pool is looked through afterwards.
    Repair,
}

impl OperationKind {
    pub const ALL: [Self; 19] = [
        Self::Launch,
        Self::Create,
        Self::Delete,
        Self::Copy,
        Self::Snapshot,
        Self::Seal,
        Self::Restore,
        Self::Rebuild,
        Self::Optimize,
        Self::TemplatePublish,
        Self::TemplateBuild,
        Self::TemplateImport,
        Self::TemplateDelete,
        Self::ProfileChange,
        Self::StorageCreate,
        Self::StorageDelete,
        Self::VolumeCreate,
        Self::VolumeDelete,
        Self::Repair,
    ];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Snapshot => "snapshot",
            Self::Seal => "seal",
            Self::Restore => "restore",
            Self::Rebuild => "rebuild",
            Self::Optimize => "optimize",
            Self::TemplatePublish => "template-publish",
            Self::TemplateBuild => "template-build",
            Self::TemplateImport => "template-import",
            Self::TemplateDelete => "template-delete",
            Self::ProfileChange => "profile-change",
            Self::StorageCreate => "storage-create",
            Self::StorageDelete => "storage-delete",
            Self::VolumeCreate => "volume-create",
            Self::VolumeDelete => "volume-delete",
            Self::Repair => "repair",
        }
    }

    /// The names of its steps, the first of which is taken together with the record of the operation.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Launch => &["record", "files", "start"],
            Self::Create => &["record", "files"],
            Self::Delete => &["record", "stop", "files"],
            Self::Copy => &["record", "layer", "files", "merge"],
            Self::Snapshot | Self::Seal | Self::Rebuild => &["record", "layer"],
            Self::Restore => &["record", "put aside"],
            Self::Optimize => &["record", "merge"],
            Self::TemplatePublish => &["record", "copy", "publish"],
            Self::TemplateBuild | Self::TemplateImport => &["record", "unpack", "publish"],
            Self::ProfileChange => &["record", "containers"],
            Self::StorageCreate | Self::StorageDelete | Self::VolumeCreate | Self::VolumeDelete => {
                &["record"]
            }
            Self::TemplateDelete | Self::Repair => &["record"],
        }
    }

    /// Whether the container that it is about stays, also where it is undone.
    pub fn leaves_container(self) -> bool {
        !matches!(self, Self::Launch | Self::Create | Self::Copy | Self::Delete)
    }

    /// Whether it is about a pool or a volume, which the next command finishes.
    pub fn is_finished_later(self) -> bool {
        matches!(self, Self::StorageCreate | Self::StorageDelete | Self::VolumeCreate | Self::VolumeDelete)
    }

    /// Whether it works in the pool, whose lock its command holds. Others hold their container's, or the profiles'.
    pub fn is_about_pool(self) -> bool {
        matches!(
            self,
            Self::TemplateBuild
                | Self::TemplateImport
                | Self::TemplateDelete
                | Self::TemplatePublish
                | Self::StorageCreate
                | Self::StorageDelete
                | Self::VolumeCreate
                | Self::VolumeDelete
                | Self::Repair
        )
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationStatus {
    /// Under way; or its command was killed, and the next command sees to it.
    Running,
    /// What it did is being undone.
    Undoing,
    /// It did all that it was to do.
    Done,
    /// It failed, and nothing of it is left.
    Failed,
}

impl OperationStatus {
    pub const ALL: [Self; 4] = [Self::Running, Self::Undoing, Self::Done, Self::Failed];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// What is recorded of an operation before its first effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// The name of what it is about, for people: a container's, a template's or a profile's.
    pub subject: String,
    pub container: Option<ContainerId>,
    /// What was asked for, as JSON.
    pub params: serde_json::Value,
    /// The process that began it.
    pub holder: u32,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

/// An operation that is under way or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operation {
    pub id: OperationId,
    pub kind: OperationKind,
    /// The name that its subject had: a container's, a template's or a profile's.
    pub subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
    /// What was asked for.
    pub params: serde_json::Value,
    /// The step that was begun last; see [`OperationKind::steps`].
    pub step: u32,
    pub status: OperationStatus,
    /// The process that began it. Another one may have ended it.
    pub holder: u32,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970; none while it is under way.
    pub ended_at: Option<i64>,
    /// Why it failed, or could not be ended yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Operation {
    /// The name of the step that was begun last.
    pub fn step_name(&self) -> &'static str {
        let steps = self.kind.steps();
        usize::try_from(self.step).ok().and_then(|step| steps.get(step)).or(steps.last()).unwrap_or(&"")
    }

    /// The layer that it makes of what a container has of its own, if it makes one.
    pub fn layer(&self) -> Option<LayerId> {
        self.params["layer"].as_str().and_then(|text| LayerId::new(text).ok())
    }

    /// The same, to be recorded in another database.
    pub fn anew(&self) -> NewOperation {
        NewOperation {
            id: self.id.clone(),
            kind: self.kind,
            subject: self.subject.clone(),
            container: self.container.clone(),
            params: self.params.clone(),
            holder: self.holder,
            created_at: self.created_at,
        }
    }

    /// Milliseconds from its beginning to its end.
    pub fn duration(&self) -> Option<i64> {
        self.ended_at.map(|end| end.saturating_sub(self.created_at).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for kind in OperationKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert!(!kind.steps().is_empty());
        }
        for status in OperationStatus::ALL {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
