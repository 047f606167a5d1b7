//! What can go wrong with the database, and what it refuses.

mod facts;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::model::field::FieldError;
use crate::model::ids::IdRange;
use crate::model::keys::KeyError;
use crate::model::mac::Mac;
use crate::model::name::{ContainerId, Name};
use crate::model::pool::{MOST_POOLS, MOST_VOLUMES, PoolName, VolumeName};
use crate::model::profile::ProfileName;
use crate::model::snapshot::SnapshotName;
use crate::model::template::TemplateId;
use crate::sys::fs::lock::LockError;

/// Why the database did not do what was asked. Nothing was changed. A `cause` has nothing to add to
/// the message.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("nothing is set up: there is no database '{path}'")]
    NotSetUp { path: PathBuf },
    #[error("database '{path}' has schema version {found}, and this nagaya knows only {known}")]
    Newer { path: PathBuf, found: i32, known: i32 },
    #[error("'{path}' is not a database of nagaya's")]
    Foreign { path: PathBuf },
    #[error("cannot {doing} '{path}'")]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Lock { source: LockError },
    #[error("cannot {doing}: database '{path}' stayed locked by another command")]
    Busy { doing: &'static str, path: PathBuf, cause: rusqlite::Error },
    #[error("cannot {doing}: no space is left for database '{path}'")]
    Full { doing: &'static str, path: PathBuf, cause: rusqlite::Error },
    #[error("cannot {doing}: database '{path}' cannot be written")]
    ReadOnly { doing: &'static str, path: PathBuf, cause: rusqlite::Error },
    #[error("cannot {doing}: database '{path}' is damaged")]
    Corrupt { doing: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("cannot {doing} in database '{path}'")]
    Sqlite { doing: &'static str, path: PathBuf, source: rusqlite::Error },
    #[error("cannot bring database '{path}' to this version's schema")]
    Migration { path: PathBuf, source: rusqlite_migration::Error },

    #[error("no range of subordinate ids is set")]
    NoRange,
    #[error("templates or containers stand on the ids of the present range, from {start}, and need them")]
    RangeInUse { start: u32 },
    #[error("there is a network '{name}' already")]
    NetworkTaken { name: String },
    #[error("network '{name}' would have {what}, which network '{other}' has")]
    NetworksClash { name: String, other: String, what: String },
    #[error("network '{name}' cannot be so")]
    BadNetwork { name: String, source: KeyError },
    #[error("there is no network '{name}'")]
    NoSuchNetwork { name: String },
    #[error("network '{name}' is used by {}", listed(users))]
    NetworkInUse { name: String, users: Vec<Name> },
    #[error("network '{name}' would leave container '{container}' without its address")]
    AddressLost { name: String, container: Name },

    #[error("there is a profile '{name}' already")]
    ProfileTaken { name: ProfileName },
    #[error("there is no profile '{name}'")]
    NoSuchProfile { name: ProfileName },
    #[error("profile '{name}' is used by {}", listed(users))]
    ProfileInUse { name: ProfileName, users: Vec<Name> },

    #[error("there is a storage pool '{name}' already")]
    PoolTaken { name: PoolName },
    #[error("storage pool '{other}' is in {directory} already")]
    PoolsClash { directory: String, other: PoolName },
    #[error("there are as many storage pools as there can be: {MOST_POOLS}")]
    TooManyPools,
    #[error("there is no storage pool '{name}'")]
    NoSuchPool { name: PoolName },
    #[error("storage pool '{name}' is used by {}", in_pool(users))]
    PoolInUse { name: PoolName, users: Vec<Name> },

    #[error("storage pool '{pool}' has volumes, such as '{volume}'")]
    PoolHasVolumes { pool: PoolName, volume: VolumeName },
    #[error("storage pool '{pool}' has a volume '{name}' already")]
    VolumeTaken { pool: PoolName, name: VolumeName },
    #[error("storage pool '{pool}' has as many volumes as it can: {MOST_VOLUMES}")]
    TooManyVolumes { pool: PoolName },

    #[error("'{name}' cannot name a template")]
    BadTemplateName { name: String },
    #[error("there is a template '{name}' already")]
    TemplateNameTaken { name: String },
    #[error("there is no template '{name}'")]
    NoSuchTemplate { name: String },
    #[error("template '{name}' is used by {}", listed(users))]
    TemplateInUse { name: String, users: Vec<Name> },
    #[error("template content {} is gone", .id.short())]
    TemplateGone { id: TemplateId },
    #[error("template content {} is being deleted", .id.short())]
    TemplateDoomed { id: TemplateId },

    #[error("container '{container}' has a snapshot '{name}' already")]
    SnapshotTaken { container: Name, name: SnapshotName },

    #[error("there is a container '{name}' already")]
    NameTaken { name: Name },
    #[error("container id {id} or its uuid is taken")]
    IdTaken { id: ContainerId },
    #[error("there is no container with id {id}")]
    NoSuchContainer { id: ContainerId },
    #[error("all {total} runtime id ranges are in use")]
    NoIdRangeLeft { total: u32 },
    #[error("the id range from {} on belongs to another container", .id_range.base())]
    IdRangeTaken { id_range: IdRange },
    #[error("the id range from {} on is none of the instance's runtime id ranges", .id_range.base())]
    IdRangeOutside { id_range: IdRange },
    #[error("network '{name}' has no address left")]
    NoAddressLeft { name: String },
    #[error("address {ip} belongs to another interface ({place})")]
    AddressTaken { place: String, ip: IpAddr },
    #[error("{ip} is not an address that a guest may have on network '{name}'")]
    OutsideNetwork { name: String, ip: IpAddr },
    #[error("a routed address may not be inside network '{name}', whose bridge has the route")]
    RoutedInside { name: String },
    #[error("there is no device '{device}'")]
    NoSuchDevice { device: String },
    #[error("the container has a device '{device}' or an interface '{name}' already")]
    DeviceTaken { device: String, name: String },
    #[error("a container has 6 interfaces at most")]
    NoSlotLeft,
    #[error("an interface was to be stored without an Ethernet address")]
    NoMac,
    #[error("the Ethernet address {mac} belongs to another interface")]
    MacTaken { mac: Mac },
    #[error("cannot store container '{name}'")]
    BadField { name: Name, source: FieldError },
}

/// The hint if a template does not exist.
pub const NO_TEMPLATE: &str = "'nagaya template list' shows the templates, 'nagaya template recipes' what can be \
                               built; 'nagaya template import FILE --name NAME' adds one";

/// The first few of `names`, and how many more there are.
fn listed(names: &[Name]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(Name::as_str).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// What is in a pool.
fn in_pool(users: &[Name]) -> String {
    if users.is_empty() { "files that are still to be deleted".to_owned() } else { listed(users) }
}

impl StoreError {
    /// Sorts SQLite's errors by what the user can do about them.
    pub(super) fn from_sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let Some(&failure) = source.sqlite_error() else {
            // Any other error is about a value that we would not have stored.
            return match source {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::InvalidColumnType(..) => Self::Corrupt { doing, path, source },
                _ => Self::Sqlite { doing, path, source },
            };
        };
        // On a full disk the index of the WAL cannot grow, which SQLite does not call SQLITE_FULL.
        if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
            return Self::Full { doing, path, cause: source };
        }
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy { doing, path, cause: source },
            ErrorCode::DiskFull => Self::Full { doing, path, cause: source },
            ErrorCode::ReadOnly => Self::ReadOnly { doing, path, cause: source },
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt { doing, path, source },
            _ => Self::Sqlite { doing, path, source },
        }
    }
}

/// Result of a step inside a transaction.
pub(super) type Attempt<T> = Result<T, Failure>;

/// Why a transaction is rolled back.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Refused(Box<StoreError>),
}

impl From<rusqlite::Error> for Failure {
    fn from(err: rusqlite::Error) -> Self {
        Self::Sqlite(err)
    }
}

impl From<StoreError> for Failure {
    fn from(err: StoreError) -> Self {
        Self::Refused(Box::new(err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_template_are_listed_up_to_a_point() {
        let names: Vec<Name> = (1..=7).map(|n| Name::new(&format!("web{n}")).unwrap()).collect();
        let text = |users: &[Name]| {
            StoreError::TemplateInUse { name: "c7".into(), users: users.to_vec() }.to_string()
        };
        assert_eq!(text(&names[..2]), "template 'c7' is used by web1, web2");
        assert_eq!(text(&names), "template 'c7' is used by web1, web2, web3, web4, web5 and 2 more");
    }
}
