//! Records of the claims registry: what root's part has given to whom, as TOML files in its own directory.
//! Each has a version and the entries; nagaya 0.1.0 wrote the entries alone.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::instance::Instance;
use crate::model::stored::{self, Document, StoredError};
use crate::model::waits;
use crate::sys::SysError;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;
use crate::sys::fs::lock;
use crate::sys::fs::lock::{Lock, LockError};

const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {operation} {}", path.display())]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// `what` names the file's content, with an article.
    #[error("{} is not {what}", path.display())]
    Syntax {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The same, where it is of another version.
    #[error("cannot read {}", path.display())]
    Stored {
        path: PathBuf,
        #[source]
        source: StoredError,
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

/// A record, locked until it is dropped.
pub struct Record<T> {
    path: PathBuf,
    document: Document<Entries<T>>,
    _lock: Lock,
}

#[derive(Serialize, Deserialize)]
struct Entries<T> {
    entries: T,
}

/// The record called `file`; one that is not there is empty. Waits for others.
pub fn open<T: DeserializeOwned + Default>(
    instance: &Instance,
    file: &str,
) -> Result<Record<T>, RecordError> {
    let dir = instance.hostd_state_dir();
    let path = dir.join(file);
    lock::closed_dir(&dir)?;
    let lock = lock::exclusive(&dir, format!("{file}.lock"), waits::LOCK_CLAIMS)?;
    if lock.was_left()? {
        atomic_file::sweep(&dir, Some(file));
    }
    let document = match std::fs::read_to_string(&path) {
        Ok(text) => read(&path, &text)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => of(T::default()),
        Err(e) => return Err(RecordError::io("read", &path)(e)),
    };
    Ok(Record { path, document, _lock: lock })
}

fn of<T>(entries: T) -> Document<Entries<T>> {
    Document::new(VERSION, Entries { entries })
}

fn read<T: DeserializeOwned>(path: &Path, text: &str) -> Result<Document<Entries<T>>, RecordError> {
    let stored = |source| RecordError::Stored { path: path.to_owned(), source };
    match stored::version(text).map_err(stored)? {
        Some(_) => Document::read(text, VERSION).map_err(stored),
        None => toml::from_str(text).map(of).map_err(RecordError::syntax(path, "a record of nagaya's")),
    }
}

/// Whether there is one.
pub fn exists(instance: &Instance, file: &str) -> bool {
    instance.hostd_state_dir().join(file).exists()
}

impl<T> Record<T> {
    pub fn content(&self) -> &T {
        &self.document.content.entries
    }

    pub fn content_mut(&mut self) -> &mut T {
        &mut self.document.content.entries
    }
}

impl<T: Serialize> Record<T> {
    pub fn write(&self) -> Result<(), RecordError> {
        Ok(atomic_file::replace(&self.path, to_toml(&self.path, &self.document)?, 0o600, Lasting::OnDisk)?)
    }

    /// Removes the file.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A record that cannot be written as it is must not be written as an empty one.
pub fn to_toml(path: &Path, content: &impl Serialize) -> Result<String, RecordError> {
    toml::to_string(content)
        .map_err(|source| RecordError::Unwritable { path: path.to_owned(), source: Box::new(source) })
}

/// What version 0.1.0 has written.
#[cfg(test)]
pub fn released<T: DeserializeOwned>(file: &str) -> T {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/var/lib/released-hostd");
    let path = Path::new(dir).join(file);
    let text = std::fs::read_to_string(&path).expect("read a record");
    read(&path, &text).expect("understand a record").content.entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Numbers = BTreeMap<String, u32>;

    fn numbers(text: &str) -> Result<Document<Entries<Numbers>>, RecordError> {
        read(Path::new("/x.toml"), text)
    }

    #[test]
    fn entries_of_every_version_are_read_and_more_is_kept() {
        // An owner may be called so.
        let first = numbers("ann = 1\n").unwrap();
        let text = to_toml(Path::new("/"), &first).unwrap();
        assert_eq!(text, "version = 1\n\n[entries]\nann = 1\n");
        let mut more = numbers(&format!("news = true\n{text}")).unwrap();
        assert_eq!(more.content.entries, first.content.entries);
        more.content.entries.insert("bob".to_owned(), 2);
        let text = to_toml(Path::new("/"), &more).unwrap();
        assert!(text.contains("news = true") && text.contains("bob = 2"), "{text}");
        assert_eq!(numbers("").unwrap().content.entries, Numbers::new());
    }

    #[test]
    fn a_later_record_is_refused_by_its_version() {
        let err = numbers("version = 2\n[entries]\nann = [1]\n").err().unwrap();
        assert!(matches!(&err, RecordError::Stored { source, .. } if source.is_newer()), "{err:?}");
        assert!(numbers("version = 1\nentries = 7\n").is_err() && numbers("ann = [1]").is_err());
    }
}
