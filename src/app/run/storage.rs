//! Requests about storage pools.

use super::door::{Listener, Perform};
use crate::api::storage::{
    Create, CreateVolume, Delete, DeleteVolume, Disk, List, ListVolumes, Pool, RenameVolume, Set, SetVolume,
    Show, ShowVolume, Volume,
};
use crate::app::containers::lost;
use crate::app::error::AppResult;
use crate::app::instance::App;
use crate::app::storage::pool_admin::{self, Described};
use crate::app::storage::volumes;
use crate::model::pool;
use crate::model::pool::VolumeSettings;
use crate::model::time::Timestamp;

impl From<pool_admin::Disk> for Disk {
    fn from(disk: pool_admin::Disk) -> Self {
        let pool_admin::Disk { kind, size, free, inodes, free_inodes, quota, reflink } = disk;
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
        Ok(pool_admin::list(app)?.into_iter().map(Pool::from).collect())
    }
}

impl Perform for Show {
    type Answer = Pool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Pool> {
        Ok(pool_admin::show(app, &self.name)?.into())
    }
}

impl Perform for Create {
    type Answer = Pool;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Pool> {
        let Self { name, directory, description } = self;
        pool_admin::create(app, &pool::Pool { name: name.clone(), directory, description })?;
        Ok(pool_admin::show(app, &name)?.into())
    }
}

impl Perform for Set {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        pool_admin::set_description(app, &self.name, self.description)
    }
}

impl Perform for Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        match self.lost {
            true => lost::give_up(app, &self.name),
            false => pool_admin::delete(app, &self.name),
        }
    }
}

impl From<volumes::Described> for Volume {
    fn from(volumes::Described { volume, users }: volumes::Described) -> Self {
        let pool::Volume { pool, name, settings, created_at } = volume;
        let config = settings.config().map(|(key, value)| (key.to_owned(), value)).collect();
        Self {
            pool,
            name,
            description: settings.description,
            config,
            created_at: Timestamp(created_at),
            used_by: users,
            bytes: None,
            files: None,
        }
    }
}

impl Perform for ListVolumes {
    type Answer = Vec<Volume>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<Volume>> {
        Ok(volumes::list(app, self.pool.as_ref())?.into_iter().map(Volume::from).collect())
    }
}

impl Perform for ShowVolume {
    type Answer = Volume;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Volume> {
        let (found, taken) = volumes::show(app, &self.pool, &self.name)?;
        let (bytes, files) = taken.unzip();
        Ok(Volume { bytes, files, ..found.into() })
    }
}

impl Perform for CreateVolume {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let Self { pool, name, config, description } = self;
        let settings = VolumeSettings { description, ..VolumeSettings::default() };
        volumes::create(app, &pool, &name, settings.changed(&config.0, &[])?)
    }
}

impl Perform for SetVolume {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        let Self { pool, name, config, unset, description } = self;
        volumes::set(app, &pool, &name, &config.0, &unset, description)
    }
}

impl Perform for RenameVolume {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        volumes::rename(app, &self.pool, &self.name, &self.new_name)
    }
}

impl Perform for DeleteVolume {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        volumes::delete(app, &self.pool, &self.name)
    }
}
