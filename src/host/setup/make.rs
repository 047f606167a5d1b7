//! `nagaya setup`: the service user, its ids and its directories, made once by real root.

#[cfg(test)]
mod tests;

use super::error::SetupError;
use super::owner::{Account, Owner};
use super::{accounts, dirs, lock};
use crate::model::ids::SubordinateIds;
use crate::model::instance::Instance;
use crate::model::subid::{DEFAULT_ID_RANGES, USERS_ID_RANGES};

/// What may be asked of [`setup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupOptions {
    /// How many id ranges are allotted, the storage ids included. Subordinate ids that exist stay as they
    /// are.
    pub id_ranges: u32,
}

impl Default for SetupOptions {
    fn default() -> Self {
        Self { id_ranges: DEFAULT_ID_RANGES }
    }
}

impl SetupOptions {
    /// The usual options of an instance.
    pub fn of(instance: &Instance) -> Self {
        if instance.uid_of_user().is_some() { Self { id_ranges: USERS_ID_RANGES } } else { Self::default() }
    }
}

/// What [`setup`] found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupDone {
    pub uid: u32,
    pub gid: u32,
    pub range: SubordinateIds,
    /// One phrase for each thing that was not there before.
    pub created: Vec<String>,
}

impl SetupDone {
    pub fn owner(&self) -> Option<Owner> {
        Owner::of(Account { uid: self.uid, gid: self.gid }, self.range)
    }
}

/// Makes sure of user, group, ids and directories. Safe to run twice, at once too: what is there
/// and right is left alone, what is there and wrong is refused.
pub fn setup(instance: &Instance, options: SetupOptions) -> Result<SetupDone, SetupError> {
    require_root(instance)?;
    let lock = lock::acquire()?;
    let mut created = Vec::new();
    let account = accounts::ensure_user(instance, &mut created)?;
    let range = accounts::ensure_range(instance, options.id_ranges, &mut created)?;
    let owner = Owner::of(account, range).ok_or(SetupError::NoRoom { id_ranges: 1 })?;
    dirs::ensure_state(instance, &owner, &mut created, &lock)?;
    if dirs::ensure_run(instance, account, Some(&lock))? {
        created.push(format!("directory {}", instance.run_dir().display()));
    }
    Ok(SetupDone { uid: owner.uid, gid: owner.gid, range, created })
}

/// Makes the directory of sockets and locks, which a reboot takes away. Cheap where it is there.
/// The caller is root.
pub fn ensure_run_dir(instance: &Instance, owner: &Owner) -> Result<(), SetupError> {
    dirs::ensure_run(instance, Account { uid: owner.uid, gid: owner.gid }, None).map(drop)
}

pub fn require_root(instance: &Instance) -> Result<(), SetupError> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(SetupError::NotRoot(instance.name().to_owned()))
    }
}
