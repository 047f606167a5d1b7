//! The administrator's grants: a file for each user below the instance's grants directory, and one
//! called `default` for everybody. Root writes them, everybody may read them.

use std::io;
use std::path::{Path, PathBuf};

use super::record::RecordError;
use crate::model::grant::Grant;
use crate::model::instance::Instance;

/// The file for those who have none of their own. No user has that name: a dot is in it.
const EVERYBODY: &str = "default.toml";
/// Longer than any grant by far.
const MAX_BYTES: u64 = 16 * 1024;

/// A grant that cannot be read or written. It grants nothing meanwhile.
#[derive(Debug, thiserror::Error)]
pub enum GrantsError {
    #[error(transparent)]
    Record(#[from] RecordError),
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

/// Writes a grant in the place of an older one; `None` takes it away. The caller is root.
pub fn store(instance: &Instance, grantee: &Grantee, grant: Option<&Grant>) -> Result<(), GrantsError> {
    let path = path(instance, grantee)?;
    let Some(grant) = grant else {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RecordError::io("remove", &path)(e).into()),
            _ => Ok(()),
        };
    };
    let text = toml::to_string(grant).unwrap_or_default();
    let dir = instance.grants_dir();
    let new = path.with_extension("new");
    std::fs::create_dir_all(&dir)
        .and_then(|()| std::fs::write(&new, text))
        .and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644))
        })
        .and_then(|()| std::fs::rename(&new, &path))
        .map_err(RecordError::io("write", &path))?;
    Ok(())
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
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(RecordError::io("read", path))?;
    Ok(Some(toml::from_str(&text).map_err(RecordError::syntax(path, "a grant"))?))
}
