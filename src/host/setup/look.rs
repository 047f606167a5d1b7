//! Whether an instance is set up, from the host's files alone.

use std::path::Path;

use super::accounts::{self, ETC};
use super::error::SetupError;
use super::owner::{Account, Owner};
use crate::model::ids::SubordinateIds;
use crate::model::instance::Instance;
use crate::sys::accounts::passwd::User;
use crate::sys::accounts::subid::IdFiles;

/// Whether user and ids are there and nobody else has the same ids, from four small files alone.
/// `None` means that [`setup`] has something to make, or an error to tell.
pub fn is_set_up(instance: &Instance) -> Option<Owner> {
    look(&IdFiles::read(Path::new(ETC)).ok()?, instance).ok().flatten()
}

/// What `files` say of the instance. `Ok(None)` where [`setup`] has something to make.
///
/// # Errors
/// Where something of another kind stands in its place: what [`setup`] would refuse.
pub fn look(files: &IdFiles, instance: &Instance) -> Result<Option<Owner>, SetupError> {
    let Some(user) = accounts::find_owner(files, instance)? else { return Ok(None) };
    let Some(range) = accounts::whole_range(files, &user, instance)? else { return Ok(None) };
    accounts::check_overlap(files, &user, range)?;
    Ok(Owner::of(Account { uid: user.uid, gid: user.gid }, range))
}

/// The subordinate ids of an ordinary user: at least one id range, and nobody else's. None if the files
/// have none.
pub fn own_range(files: &IdFiles, user: &User) -> Result<Option<SubordinateIds>, SetupError> {
    let range = accounts::range_of(files, user)?;
    if let Some(range) = range {
        accounts::check_overlap(files, user, range)?;
    }
    Ok(range)
}
