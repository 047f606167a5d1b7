//! One opened instance: who owns it, its database, its broker.

use std::os::fd::OwnedFd;

use super::layout;
use crate::app::error::{AppError, AppResult};
use crate::host::client::{Broker, Ending};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::Name;
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
    pool: Option<OwnedFd>,
    storage_ns: Option<OwnedFd>,
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
        Self { instance, store, broker, home, pool: None, storage_ns: None, tell: |_| () }
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

    /// The pool's directory.
    pub fn pool(&mut self) -> AppResult<&OwnedFd> {
        if self.pool.is_none() {
            self.pool = Some(layout::open_pool(&self.instance)?);
        }
        self.pool.as_ref().ok_or_else(|| AppError::Refused("the pool is not open".to_owned()))
    }

    /// Lets the broker begin with what `storage` will ask for.
    pub fn expect_storage(&mut self) {
        if self.storage_ns.is_none() {
            self.broker.expect_storage();
        }
    }

    /// The user namespace for file work, and the pool to work in.
    pub fn storage(&mut self) -> AppResult<(&OwnedFd, &OwnedFd)> {
        if self.storage_ns.is_none() {
            self.storage_ns = Some(self.broker.storage_namespace()?);
        }
        self.pool()?;
        match (&self.storage_ns, &self.pool) {
            (Some(namespace), Some(pool)) => Ok((namespace, pool)),
            _ => Err(AppError::Refused("the pool is not open".to_owned())),
        }
    }
}
