//! The administrator's grants: a file for each user below the instance's grants directory, and one
//! called `default` for everybody. Root writes them, everybody may read them.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{self, RecordError};
use super::setup::{self, SetupError};
use crate::model::grant::Grant;
use crate::model::instance::Instance;
use crate::sys::SysError;
use crate::sys::atomic_file::{self, Lasting};

/// The file for those who have none of their own. No user has that name: a dot is in it.
const EVERYBODY: &str = "default.toml";
/// Longer than any grant by far.
const MAX_BYTES: u64 = 64 * 1024;

/// A grant that cannot be read or written. It grants nothing meanwhile: what it bounds, and whom it
/// bars, is not known.
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
    #[error("'{0}' cannot be in the name of a file")]
    BadUser(String),
}

/// Whose grant is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    Everybody,
    User(String),
}

/// The user's own grant, if the administrator has given one.
pub fn own(instance: &Instance, user: &str) -> Result<Option<Grant>, GrantsError> {
    read(&path(instance, &Grantee::User(user.to_owned()))?)
}

/// What holds for the user: the own grant, and everybody's where that is silent.
pub fn effective(instance: &Instance, user: &str) -> Result<Grant, GrantsError> {
    let everybody = read(&path(instance, &Grantee::Everybody)?)?.unwrap_or_default();
    Ok(own(instance, user)?.unwrap_or_default().or(everybody))
}

/// The grant as it is in the file.
pub fn stored(instance: &Instance, grantee: &Grantee) -> Result<Option<Grant>, GrantsError> {
    read(&path(instance, grantee)?)
}

/// Puts what `change` makes of the present grant in its place. The caller is root.
pub fn change<E: From<GrantsError>>(
    instance: &Instance,
    grantee: &Grantee,
    change: impl FnOnce(Grant) -> Result<Grant, E>,
) -> Result<(), E> {
    let _lock = setup::lock().map_err(GrantsError::from)?;
    let grant = change(stored(instance, grantee)?.unwrap_or_default())?;
    Ok(store(instance, grantee, &grant)?)
}

/// Takes the grant away, one that cannot be read too. The caller is root.
pub fn remove(instance: &Instance, grantee: &Grantee) -> Result<(), GrantsError> {
    let _lock = setup::lock()?;
    store(instance, grantee, &Grant::default())
}

/// A grant that says nothing has no file, so that an empty one is known to be damaged.
fn store(instance: &Instance, grantee: &Grantee, grant: &Grant) -> Result<(), GrantsError> {
    let path = path(instance, grantee)?;
    if *grant == Grant::default() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RecordError::io("remove", &path)(e).into()),
            _ => Ok(()),
        };
    }
    let text = record::to_toml(&path, grant)?;
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

fn read(path: &Path) -> Result<Option<Grant>, GrantsError> {
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
    Ok(Some(toml::from_str(&text).map_err(RecordError::syntax(path, "a grant"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_grants_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("user.ann.toml");
        assert_eq!(read(&path).unwrap(), None);
        let long = format!("containers = 1\n{}", "#".repeat(MAX_BYTES as usize));
        for damaged in ["", "\n \n", "containers = 1\ncontain", "container = 1\n", "\0\0\0\0", &long] {
            std::fs::write(&path, damaged).unwrap();
            assert!(read(&path).is_err(), "{damaged:.20}");
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, "containers = 1\n").unwrap();
        assert_eq!(read(&path).unwrap().and_then(|grant| grant.containers), Some(1));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err());
    }
}
