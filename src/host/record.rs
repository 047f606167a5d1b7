//! Records that root's part keeps of what it has given to whom, as TOML files in its own directory.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::instance::Instance;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `what` is what it was to be, with its article.
    #[error("{} is not {what}", path.display())]
    Syntax {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl RecordError {
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    pub fn syntax(path: &Path, what: &'static str) -> impl FnOnce(toml::de::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Syntax { path, what, source: Box::new(source) }
    }
}

/// A record, locked with all others while it is in hand.
pub struct Record<T> {
    path: PathBuf,
    pub content: T,
    _lock: OwnedFd,
}

/// The record called `file`; one that is not there is empty. Waits for others, so nobody opens two.
pub fn open<T: DeserializeOwned + Default>(
    instance: &Instance,
    file: &str,
) -> Result<Record<T>, RecordError> {
    let dir = instance.hostd_state_dir();
    let path = dir.join(file);
    std::fs::create_dir_all(&dir).map_err(RecordError::io("make the directory of", &path))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let lock =
        rustix::fs::open(&dir, flags, Mode::empty()).map_err(|e| RecordError::io("lock", &path)(e.into()))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| RecordError::io("lock", &path)(e.into()))?;
    let content = match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).map_err(RecordError::syntax(&path, "a record of nagaya's"))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => T::default(),
        Err(e) => return Err(RecordError::io("read", &path)(e)),
    };
    Ok(Record { path, content, _lock: lock })
}

/// Whether there is one.
pub fn exists(instance: &Instance, file: &str) -> bool {
    instance.hostd_state_dir().join(file).exists()
}

impl<T: Serialize> Record<T> {
    pub fn write(&self) -> Result<(), RecordError> {
        use std::io::Write;
        let new = self.path.with_extension("new");
        let text = toml::to_string(&self.content).unwrap_or_default();
        std::fs::File::create(&new)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_data()))
            .and_then(|()| std::fs::rename(&new, &self.path))
            .map_err(RecordError::io("write", &self.path))
    }

    /// Removes the file.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
