//! Work on the files of a guest, and what is told of it: what passes between whoever asks and the process that works in
//! the guest's tree. That process may be of another version: members are only ever added, with defaults.

use serde::{Deserialize, Serialize};

use super::byte_string::ByteString;

/// The highest id of a container's.
pub const HIGHEST_ID: u32 = 65_535;

/// What is to be done. Paths are the guest's own, and its links lead where they lead in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileJob {
    /// What comes as frames from standard input is written.
    Push(Push),
    /// What is there is written as frames to standard output.
    Pull(Pull),
    List(List),
    Delete(Delete),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// A directory to put things into, or the file to write.
    pub path: ByteString,
    /// It must be a directory.
    #[serde(default)]
    pub into: bool,
    /// Directories that are missing on the way are made.
    #[serde(default)]
    pub parents: bool,
    /// In place of what the frames say.
    #[serde(default)]
    pub uid: Option<u32>,
    #[serde(default)]
    pub gid: Option<u32>,
    /// Of files; directories have their own.
    #[serde(default)]
    pub mode: Option<u32>,
    /// A file that is there keeps its owner and its mode.
    #[serde(default)]
    pub keep: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    pub path: ByteString,
    /// A directory is pulled with all that is in it.
    #[serde(default)]
    pub recursive: bool,
    /// What the guest's root directory is called.
    #[serde(default)]
    pub root_name: ByteString,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub path: ByteString,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    pub path: ByteString,
    /// A directory with all that is in it.
    #[serde(default)]
    pub recursive: bool,
    /// It is no error if there is nothing.
    #[serde(default)]
    pub if_exists: bool,
}

/// A line of what is told of a job. The last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileReport {
    /// Bytes so far.
    Progress(u64),
    Entry(FileEntry),
    Done(Counts),
    Failed(Failed),
}

/// What a job has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    #[serde(default)]
    pub entries: u64,
    #[serde(default)]
    pub bytes: u64,
    /// Fifos, sockets, devices and file systems of the kernel's, which stay where they are.
    #[serde(default)]
    pub skipped: u64,
}

/// Why a job was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Begins with "cannot ".
    pub text: String,
    #[serde(default)]
    pub errno: Option<i32>,
    #[serde(default)]
    pub kind: FailedKind,
}

/// What can be done about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailedKind {
    /// A tree was meant.
    IsDirectory,
    /// The directory that it is to be in is not there.
    NoParent,
    /// A container has no such user or group id.
    NoSuchId,
    /// The other side has ended before it was done.
    Cut,
    /// Nothing is there.
    NotFound,
    #[default]
    #[serde(other)]
    Other,
}

/// Something in a directory of a guest's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub name: ByteString,
    pub kind: EntryKind,
    /// Permissions, set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
    /// Where a link leads.
    #[serde(default)]
    pub target: Option<ByteString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    Directory,
    File,
    Link,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
    #[serde(other)]
    Unknown,
}

impl EntryKind {
    /// As ls(1) has it.
    pub fn letter(self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File => '-',
            Self::Link => 'l',
            Self::Fifo => 'p',
            Self::Socket => 's',
            Self::CharacterDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Unknown => '?',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_of_another_version_is_understood() {
        let job: FileJob = serde_json::from_str(r#"{"push":{"path":"/etc/motd","new":1}}"#).unwrap();
        let FileJob::Push(push) = job else { panic!("{job:?}") };
        assert!(!push.into && !push.keep && push.uid.is_none());
        let failed: FileReport =
            serde_json::from_str(r#"{"failed":{"text":"cannot x","kind":"something-new"}}"#).unwrap();
        let FileReport::Failed(failed) = failed else { panic!("{failed:?}") };
        assert_eq!(failed.kind, FailedKind::Other);
    }
}
