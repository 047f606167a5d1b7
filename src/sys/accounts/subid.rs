//! The four files that say which ids exist on the host, read at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::ids::SubordinateIds;
use crate::model::subid;

use super::passwd;

/// A file of ids that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read '{}'", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

/// The text of /etc/passwd, /etc/group, /etc/subuid and /etc/subgid, the last two empty where the
/// file does not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdFiles {
    pub passwd: String,
    pub group: String,
    pub subuid: String,
    pub subgid: String,
}

impl IdFiles {
    /// Reads them below `etc`, which is `/etc` except in tests.
    pub fn read(etc: &Path) -> Result<Self, ReadError> {
        Ok(Self {
            passwd: read(etc.join("passwd"))?,
            group: read(etc.join("group"))?,
            subuid: read(etc.join("subuid"))?,
            subgid: read(etc.join("subgid"))?,
        })
    }

    /// Everything that a new range must not overlap: the ranges of both files, and each uid and gid.
    pub fn taken(&self) -> Vec<SubordinateIds> {
        let ranges = [&self.subuid, &self.subgid]
            .into_iter()
            .flat_map(|text| subid::parse(text).0.into_iter().map(|entry| entry.range));
        let uids = passwd::users(&self.passwd).flat_map(|user| [user.uid, user.gid]);
        let gids = passwd::groups(&self.group).map(|group| group.gid);
        ranges.chain(uids.chain(gids).map(|id| SubordinateIds { start: id, count: 1 })).collect()
    }
}

/// A name in Latin-1 must not hide the rest of the file, so bytes that are no text are replaced.
fn read(path: PathBuf) -> Result<String, ReadError> {
    match fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(ReadError { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_files_are_empty_and_every_id_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("passwd"), b"\xff:x:7:8::/:/bin/sh\nann:x:1000:1001::/:/bin/sh\n").unwrap();
        fs::write(dir.path().join("subuid"), "ann:100000:65536\n").unwrap();
        fs::create_dir(dir.path().join("subgid")).unwrap();
        let error = IdFiles::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("subgid"), "{error}");
        fs::remove_dir(dir.path().join("subgid")).unwrap();
        let files = IdFiles::read(dir.path()).unwrap();
        assert_eq!(files.group, "");
        let taken: Vec<_> = files.taken().iter().map(|r| (r.start, r.count)).collect();
        assert_eq!(taken, [(100_000, 65_536), (7, 1), (8, 1), (1000, 1), (1001, 1)]);
    }
}
