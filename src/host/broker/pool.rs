//! Pools in directories that an owner names: the broker makes a directory there that is the owner's, and in it the pool,
//! which is the storage ids'. Somebody with the right to say so has named the directory: root, who types it; the
//! administrator, in a user's grant; or, without nagaya-hostd, the user who owns it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::host1::Host1;
use crate::host::api::error::{HostError, failed, refused};
use crate::host::api::requests::{Done, MakePool, RemovePool};
use crate::host::record;
use crate::host::setup::{Account, Place, ensure_pool, remove_pool};
use crate::host::sources::{self, SourceError};
use crate::model::instance::Instance;
use crate::model::pool::MOST_POOLS;

const FILE: &str = "pools.toml";

/// The directories in which pools were made, by the names of the owners' tables.
type Made = BTreeMap<String, BTreeSet<String>>;

impl Host1 {
    pub fn make_pool_in(&self, MakePool { directory }: MakePool) -> Result<Done, HostError> {
        let authorised = self.authorised()?;
        let parent = match (self.grant()?, self.instance.is_daemonless()) {
            (Some(grant), _) if !grant.pools().any(|granted| *granted == directory) => {
                return Err(refused(format!("no pool in {directory} is granted to you")));
            }
            (Some(_), _) | (None, true) => sources::open(&directory).map_err(refusal)?,
            (None, false) => sources::open_allowed(&self.instance, &directory).map_err(refusal)?,
        };
        closed(&directory, &parent)?;
        let mut record = self.made()?;
        if let Some(record) = &mut record {
            let own = record.content_mut().entry(self.instance.nft_table()).or_default();
            own.insert(directory.clone());
            if own.len() > MOST_POOLS {
                return Err(refused(format!("you have {MOST_POOLS} pools already")));
            }
            // Before it is made, so that it can be removed whatever happens.
            record.write().map_err(failed)?;
        }
        let name = self.instance.pool_dir();
        let owner = &authorised.owner;
        let place = Place {
            parent: parent.as_fd(),
            name: &name,
            path: Path::new(&directory).join(&name),
            owner: Account { uid: owner.uid, gid: owner.gid },
        };
        let storage = Account { uid: owner.storage.base(), gid: owner.storage.base() };
        ensure_pool(&place, storage).map_err(|e| refused(crate::sys::error_text(&e)))?;
        Ok(Done {})
    }

    pub fn remove_pool_from(&self, RemovePool { directory }: RemovePool) -> Result<Done, HostError> {
        self.authorised()?;
        let mut record = self.made()?;
        if let Some(record) = &record
            && !record.content().get(&self.instance.nft_table()).is_some_and(|own| own.contains(&directory))
        {
            return Err(refused(format!("no pool was made in {directory} for you")));
        }
        match sources::open(&directory) {
            Err(SourceError::Open { source: Errno::NOENT, .. }) => {}
            parent => self.remove_from(&parent.map_err(refusal)?, &directory)?,
        }
        if let Some(record) = &mut record {
            let owners = record.content_mut();
            if let Some(own) = owners.get_mut(&self.instance.nft_table()) {
                own.remove(&directory);
            }
            owners.retain(|_, own| !own.is_empty());
            record.write().map_err(failed)?;
        }
        Ok(Done {})
    }

    fn remove_from(&self, parent: &OwnedFd, directory: &str) -> Result<(), HostError> {
        closed(directory, parent)?;
        // Whoever's it is: one with something in it stays.
        match remove_pool(parent.as_fd(), &self.instance.pool_dir()) {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(refused(format!("the pool in {directory} is not empty")))
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// None for a daemonless owner, whose directories are the owner's.
    fn made(&self) -> Result<Option<record::Record<Made>>, HostError> {
        match self.instance.is_daemonless() {
            true => Ok(None),
            false => record::open(&self.instance, FILE).map(Some).map_err(failed),
        }
    }
}

fn refusal(error: SourceError) -> HostError {
    refused(crate::sys::error_text(&error))
}

/// Refuses a directory in which others could put something else in the pool's place.
fn closed(directory: &str, parent: &OwnedFd) -> Result<(), HostError> {
    let stat = rustix::fs::fstat(parent).map_err(failed)?;
    // Of a daemonless owner's namespace, that is the owner.
    if stat.st_uid != 0 {
        return Err(refused(format!(
            "{directory} belongs to somebody else than the one who decides about it"
        )));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(refused(format!("others can write to {directory}: chmod go-w {directory}")));
    }
    Ok(())
}

/// Removes the record.
pub fn forget(instance: &Instance) {
    if record::exists(instance, FILE)
        && let Ok(record) = record::open::<Made>(instance, FILE)
    {
        record.remove();
    }
}
