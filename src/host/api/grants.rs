//! The administrator's grants: a file for each user below the instance's grants directory, and one
//! called `default` for everybody. Root writes them, everybody may read them. Settings of a later version
//! are kept and have no effect, unless that has given the file another number.

use std::io;
use std::path::{Path, PathBuf};

use crate::host::record;
use crate::host::record::RecordError;
use crate::host::setup;
use crate::host::setup::SetupError;
use crate::model::fault::{Code, Facts, Fault};
use crate::model::grant::{GRANT_KEYS, Grant, Grantee};
use crate::model::instance::Instance;
use crate::model::stored::{self, Document, StoredError};
use crate::model::suggest;
use crate::sys::SysError;
use crate::sys::fs::atomic_file;
use crate::sys::fs::atomic_file::Lasting;

const VERSION: u32 = 1;
/// The file for those who have none of their own. No user has that name: a dot is in it.
const EVERYBODY: &str = "default.toml";
/// Longer than any grant by far.
const MAX_BYTES: u64 = 64 * 1024;

/// A grant that cannot be read or written. Until that is corrected it grants nothing, because nobody knows
/// what it bounds and whom it bars.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Sys(#[from] SysError),
    #[error("{} says nothing: what stood there is lost", .0.display())]
    Empty(PathBuf),
    #[error("{} is no file of at most {MAX_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    #[error("{} is not a grant", path.display())]
    Stored {
        path: PathBuf,
        #[source]
        source: StoredError,
    },
    /// Somebody has typed it: it was to be a bound.
    #[error("{} has a setting '{key}', which is no '{nearest}'", path.display())]
    Mistyped { path: PathBuf, key: String, nearest: String },
    #[error("'{0}' cannot be in the name of a file")]
    BadUser(String),
}

impl Fault for GrantsError {
    fn facts(&self) -> Facts {
        match self {
            Self::Stored { source, .. } if source.is_newer() => Facts::newer(),
            Self::Empty(_)
            | Self::TooLong(_)
            | Self::Record(_)
            | Self::Stored { .. }
            | Self::Mistyped { .. } => Facts::user(Code::GrantUnreadable)
                .hint("see what is in it, or take it away and give it anew: nagaya grant USER --remove"),
            Self::Setup(error) => error.facts(),
            Self::Sys(error) => error.facts(),
            Self::BadUser(_) => Facts::user(Code::InvalidName),
        }
    }
}

/// The user's own grant, if the administrator has given one.
pub fn own(instance: &Instance, user: &str) -> Result<Option<Grant>, GrantsError> {
    stored(instance, &Grantee::User(user.to_owned()))
}

/// What holds for the user: the user's own grant, and where that says nothing, everybody's.
pub fn effective(instance: &Instance, user: &str) -> Result<Grant, GrantsError> {
    let everybody = stored(instance, &Grantee::Everybody)?.unwrap_or_default();
    Ok(own(instance, user)?.unwrap_or_default().or(everybody))
}

/// The grant as it is in the file.
pub fn stored(instance: &Instance, grantee: &Grantee) -> Result<Option<Grant>, GrantsError> {
    Ok(read(&path(instance, grantee)?)?.map(|document| document.content))
}

/// Settings in the file that this version does not know.
pub fn strangers(instance: &Instance, grantee: &Grantee) -> Result<Vec<String>, GrantsError> {
    let document = read(&path(instance, grantee)?)?;
    Ok(document.iter().flat_map(Document::strangers).map(str::to_owned).collect())
}

/// Puts what `change` makes of the present grant in its place. The caller is root.
pub fn change<E: From<GrantsError>>(
    instance: &Instance,
    grantee: &Grantee,
    change: impl FnOnce(Grant) -> Result<Grant, E>,
) -> Result<(), E> {
    let _lock = setup::lock().map_err(GrantsError::from)?;
    let mut document = read(&path(instance, grantee)?)?.unwrap_or_else(empty);
    document.content = change(document.content)?;
    Ok(store(instance, grantee, &document)?)
}

fn empty() -> Document<Grant> {
    Document::new(VERSION, Grant::default())
}

/// Removes the grant, even one that cannot be read. The caller is root.
pub fn remove(instance: &Instance, grantee: &Grantee) -> Result<(), GrantsError> {
    let _lock = setup::lock()?;
    store(instance, grantee, &empty())
}

/// A grant that says nothing has no file, so that an empty one is known to be damaged.
fn store(instance: &Instance, grantee: &Grantee, document: &Document<Grant>) -> Result<(), GrantsError> {
    let path = path(instance, grantee)?;
    if *document == empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RecordError::io("remove", &path)(e).into()),
            _ => Ok(()),
        };
    }
    let text = record::to_toml(&path, document)?;
    std::fs::create_dir_all(instance.grants_dir())
        .map_err(RecordError::io("make the directory of", &path))?;
    Ok(atomic_file::replace(&path, text, 0o644, Lasting::OnDisk)?)
}

/// Users with a grant of their own, sorted.
pub fn users(instance: &Instance) -> Result<Vec<String>, GrantsError> {
    let dir = instance.grants_dir();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RecordError::io("list", &dir)(e).into()),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut users: Vec<String> = names
        .filter_map(|name| name.strip_prefix("user.")?.strip_suffix(".toml").map(str::to_owned))
        .collect();
    users.sort();
    Ok(users)
}

fn path(instance: &Instance, grantee: &Grantee) -> Result<PathBuf, GrantsError> {
    let name = match grantee {
        Grantee::Everybody => EVERYBODY.to_owned(),
        Grantee::User(user) if user.is_empty() || user.contains(['/', '\0']) => {
            return Err(GrantsError::BadUser(user.clone()));
        }
        Grantee::User(user) => format!("user.{user}.toml"),
    };
    Ok(instance.grants_dir().join(name))
}

fn read(path: &Path) -> Result<Option<Document<Grant>>, GrantsError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RecordError::io("read", path)(e).into()),
    };
    if !file.metadata().is_ok_and(|found| found.is_file() && found.len() <= MAX_BYTES) {
        return Err(GrantsError::TooLong(path.to_owned()));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(RecordError::io("read", path))?;
    if text.trim().is_empty() {
        return Err(GrantsError::Empty(path.to_owned()));
    }
    understand(&text, path).map(Some)
}

fn understand(text: &str, path: &Path) -> Result<Document<Grant>, GrantsError> {
    let stored = |source| GrantsError::Stored { path: path.to_owned(), source };
    let document: Document<Grant> = Document::read(text, VERSION).map_err(stored)?;
    // Where no version stands, no later nagaya has written it.
    if stored::version(text).map_err(stored)?.is_none() {
        let names = || GRANT_KEYS.keys.iter().map(|key| key.name);
        let near = |key: &str| suggest::nearest(key, names()).map(|near| (key.to_owned(), near.to_owned()));
        if let Some((key, nearest)) = document.strangers().find_map(near) {
            return Err(GrantsError::Mistyped { path: path.to_owned(), key, nearest });
        }
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_grants_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user.ann.toml");
        assert_eq!(read(&path).unwrap(), None::<Document<Grant>>);
        let long = format!("containers = 1\n{}", "#".repeat(MAX_BYTES as usize));
        for damaged in ["", "\n \n", "containers = 1\ncontain", "container = 1\n", "\0\0\0\0", &long] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).is_err(), "{damaged:.20}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, "containers = 1\n").unwrap();
        assert_eq!(read(&path).unwrap().and_then(|document| document.content.containers), Some(1));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn what_a_later_version_has_granted_is_kept_or_refused() {
        let path = Path::new("/user.ann.toml");
        let text = "version = 1\ncontainers = 1\ndisks = 5\n[rates]\nsent = 1\n";
        let mut document = understand(text, path).unwrap();
        assert_eq!(document.strangers().collect::<Vec<_>>(), ["disks", "rates"]);
        document.content.set("containers", "").unwrap();
        assert_ne!(document, empty(), "there is something to keep");
        let written = record::to_toml(path, &document).unwrap();
        assert_eq!(written, "version = 1\ndisks = 5\n\n[rates]\nsent = 1\n");
        let later = understand(&text.replace("version = 1", "version = 2"), path).unwrap_err();
        assert!(matches!(&later, GrantsError::Stored { source, .. } if source.is_newer()), "{later:?}");
        assert!(understand("disks = 5\ncontainers = 1", path).is_ok());
        assert!(matches!(understand("container = 1", path), Err(GrantsError::Mistyped { .. })));
    }

    #[test]
    fn grants_of_version_0_1_0_are_as_they_were() {
        let dir =
            Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released/0.1.0/etc/released/grants.d"));
        let read = |file: &str| read(&dir.join(file)).unwrap().unwrap().content;
        let everybody = read(EVERYBODY);
        assert_eq!((everybody.allow, everybody.containers), (Some(false), Some(2)));
        let settings = [
            "allow=true",
            "containers=5",
            "memory=8GiB",
            "cpu=200",
            "processes=1000",
            "networks=3",
            "addresses=203.0.113.8/29,2001:db8:9::/64",
            "ports=80,8000-8999",
            "parents=office0",
            "kernel.rtprio=50",
            "kernel.memlock=unlimited",
        ];
        let mut ann = Grant::default();
        for (key, value) in settings.iter().map(|setting| Grant::key_and_value(setting).unwrap()) {
            ann.set(key, value).unwrap();
        }
        assert_eq!(read("user.ann.toml"), ann);
    }
}
