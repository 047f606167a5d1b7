//! One opened instance: who owns it, its database, its broker.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use super::pool_dirs;
use crate::app::error::{AppError, AppResult};
use crate::host::client::{Broker, Ending};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::Name;
use crate::model::pool::PoolName;
use crate::model::suggest;
use crate::store::Store;
use crate::sys::cgroup::home::Home;

/// Everything a verb works with. While it lives, this process is the service user's.
pub struct App {
    pub instance: Instance,
    /// Tells the operator what is worth knowing and no error. The app itself never prints.
    pub tell: fn(&str),
    pub store: Store,
    pub broker: Broker,
    /// Where its containers' cgroups are; none where the host has no cgroup v2 hierarchy.
    pub home: Option<Home>,
    /// Those that were needed, by their names.
    pools: BTreeMap<PoolName, OwnedFd>,
    storage_ns: Option<OwnedFd>,
    /// Pools whose disks are gone for good: what the database has of their containers is forgotten without their files.
    lost: Vec<PoolName>,
}

impl Drop for App {
    fn drop(&mut self) {
        // The broker ends while the database is closed.
        self.broker.hang_up();
    }
}

impl App {
    /// Closes everything; the broker ends while the caller goes on with something else.
    pub fn close(mut self) -> Option<Ending> {
        self.broker.end()
    }

    /// Puts together what was opened.
    pub fn new(instance: Instance, store: Store, broker: Broker) -> Self {
        let home = Home::find(&instance).ok();
        Self {
            instance,
            store,
            broker,
            home,
            pools: BTreeMap::new(),
            storage_ns: None,
            lost: Vec::new(),
            tell: |_| (),
        }
    }

    /// The container of that name.
    pub fn find(&self, name: &Name) -> AppResult<Container> {
        if let Some(found) = self.store.container(name)? {
            return Ok(found);
        }
        let all = self.store.containers()?;
        let nearest = suggest::nearest(name.as_str(), all.iter().map(|c| c.name.as_str())).map(str::to_owned);
        Err(AppError::NoContainer { name: name.clone(), nearest })
    }

    /// A pool's directory, for path lookups only: its content belongs to the storage ids.
    pub fn pool(&mut self, name: &PoolName) -> AppResult<&OwnedFd> {
        if !self.pools.contains_key(name) {
            let opened = pool_dirs::open(&self.instance, &self.store, name)?;
            self.pools.insert(name.clone(), opened);
        }
        self.pools.get(name).ok_or_else(|| AppError::Refused("the pool is not open".to_owned()))
    }

    /// Gives the files of a pool up.
    pub fn lose_pool(&mut self, name: &PoolName) {
        self.lost.push(name.clone());
    }

    pub fn has_lost(&self, name: &PoolName) -> bool {
        self.lost.contains(name)
    }

    /// A pool that has gone is not to be used again.
    pub fn forget_pool(&mut self, name: &PoolName) {
        self.pools.remove(name);
    }

    /// The directory of the pool that is always there, which has the templates.
    pub fn templates(&mut self) -> AppResult<&OwnedFd> {
        self.pool(&PoolName::default_one())
    }

    /// Lets the broker begin with what `storage` will ask for.
    pub fn expect_storage(&mut self) {
        if self.storage_ns.is_none() {
            self.broker.expect_storage();
        }
    }

    /// The user namespace for file work, and the pool to work in.
    pub fn storage(&mut self, name: &PoolName) -> AppResult<(&OwnedFd, &OwnedFd)> {
        if self.storage_ns.is_none() {
            self.storage_ns = Some(self.broker.storage_namespace()?);
        }
        self.pool(name)?;
        match (&self.storage_ns, self.pools.get(name)) {
            (Some(namespace), Some(pool)) => Ok((namespace, pool)),
            _ => Err(AppError::Refused("the pool is not open".to_owned())),
        }
    }
}
