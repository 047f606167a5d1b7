//! Requests about storage pools.

use super::door::{Listener, Perform};
use crate::api::storage::{Create, Delete, Disk, List, Pool, Set, Show};
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::storage::pools::{self, Described};
use crate::model::pool;

impl From<pools::Disk> for Disk {
    fn from(disk: pools::Disk) -> Self {
        let pools::Disk { kind, size, free, inodes, free_inodes, quota, reflink } = disk;
        Self { filesystem: kind, size, free, inodes, free_inodes, quota, reflink }
    }
}

impl From<Described> for Pool {
    fn from(pool: Described) -> Self {
        let Described { name, path, description, disk, users } = pool;
        let path = path.to_string_lossy().into_owned();
        Self { name, path, description, disk: disk.map(Disk::from), used_by: users }
    }
}

impl Perform for List {
    type Answer = Vec<Pool>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Pool>> {
        Ok(pools::list(app)?.into_iter().map(Pool::from).collect())
    }
}

impl Perform for Show {
    type Answer = Pool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Pool> {
        Ok(pools::show(app, &self.name)?.into())
    }
}

impl Perform for Create {
    type Answer = Pool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Pool> {
        let Self { name, directory, description } = self;
        pools::create(app, &pool::Pool { name: name.clone(), directory, description })?;
        Ok(pools::show(app, &name)?.into())
    }
}

impl Perform for Set {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        pools::set_description(app, &self.name, self.description)
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        pools::delete(app, &self.name, self.lost)
    }
}
