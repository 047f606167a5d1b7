//! Records that root's part keeps of what it has given to whom, as TOML files in its own directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::instance::Instance;
use crate::sys::SysError;
use crate::sys::atomic_file::{self, Lasting};
use crate::sys::lock::{self, Lock, LockError};

/// A record is in hand for as long as it takes to read and write it.
const PATIENCE: Duration = Duration::from_secs(30);

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
    #[error("cannot write {}", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: Box<toml::ser::Error>,
    },
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Sys(#[from] SysError),
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

/// A record, locked while it is in hand.
pub struct Record<T> {
    path: PathBuf,
    pub content: T,
    _lock: Lock,
}

/// The record called `file`; one that is not there is empty. Waits for others.
pub fn open<T: DeserializeOwned + Default>(
    instance: &Instance,
    file: &str,
) -> Result<Record<T>, RecordError> {
    let dir = instance.hostd_state_dir();
    let path = dir.join(file);
    lock::closed_dir(&dir)?;
    let lock = lock::exclusive(&dir, format!("{file}.lock"), PATIENCE)?;
    if lock.was_left()? {
        atomic_file::sweep(&dir, Some(file));
    }
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
        Ok(atomic_file::replace(&self.path, to_toml(&self.path, &self.content)?, 0o600, Lasting::OnDisk)?)
    }

    /// Removes the file.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What cannot be written as it is must not be written as nothing.
pub fn to_toml(path: &Path, content: &impl Serialize) -> Result<String, RecordError> {
    toml::to_string(content)
        .map_err(|source| RecordError::Unwritable { path: path.to_owned(), source: Box::new(source) })
}
