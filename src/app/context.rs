//! One opened instance: who owns it, its database, its broker.

use std::os::fd::OwnedFd;

use super::error::{AppError, AppResult};
use super::{layout, private_way, reconcile};
use crate::host::broker::{self, Broker, Ending};
use crate::host::setup::{self, Owner, SetupOptions};
use crate::model::container::Container;
use crate::model::instance::Instance;
use crate::model::name::Name;
use crate::model::suggest;
use crate::store::Store;
use crate::sys::cgroup_home::Home;

/// Everything a verb works with. While it lives, this process is the service user's.
pub struct App {
    pub instance: Instance,
    /// Where the operator is told what is no error and yet to be known. The app itself never prints.
    pub tell: fn(&str),
    pub(super) store: Store,
    pub(super) broker: Broker,
    /// Where its containers' cgroups are; none where the host has no cgroup v2 hierarchy.
    pub(super) home: Option<Home>,
    /// The process that holds a private owner's namespaces.
    pub(super) keeper: Option<i32>,
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

    /// Opens the instance, which is set up first if it is not. To be called once, while the process
    /// has one thread: root's forks the broker and gives up root for good. What a killed command has
    /// left is finished or undone here.
    pub fn open(instance: Instance) -> AppResult<Self> {
        let mut app = Self::open_with(instance, |instance| Ok(Store::open(&layout::database(instance))?))?;
        reconcile::unsettled(&mut app)?;
        Ok(app)
    }

    /// The same with an empty database, to be filled from the manifests and put in the place of the
    /// present one; and that, if it can be opened.
    pub(super) fn open_for_repair(instance: Instance) -> AppResult<(Self, Option<Store>)> {
        let mut present = None;
        let mut app = Self::open_with(instance, |instance| {
            let path = layout::database(instance);
            present = Store::open_existing(&path).ok();
            Ok(Store::anew(&path)?)
        })?;
        if let Some(store) = present {
            // What a killed command has half made or half deleted has a manifest, too.
            let new = std::mem::replace(&mut app.store, store);
            reconcile::unsettled(&mut app).unwrap_or_else(|e| tracing::warn!("cannot tidy up: {e}"));
            present = Some(std::mem::replace(&mut app.store, new));
        }
        Ok((app, present))
    }

    fn open_with(
        instance: Instance,
        open_store: impl FnOnce(&Instance) -> AppResult<Store>,
    ) -> AppResult<Self> {
        let mut keeper = None;
        let (owner, broker) = if rustix::process::geteuid().is_root() {
            as_root(&instance)?
        } else if instance.person().is_some() {
            as_person(&instance)?
        } else {
            let private = private_way::open(&instance)?;
            keeper = Some(private.keeper);
            (private.owner, private.broker)
        };
        let mut store = open_store(&instance)?;
        if store.range()? != Some(owner.range) {
            match instance.is_private() {
                true => store.set_shared_range(owner.range)?,
                false => store.set_range(owner.range)?,
            }
        }
        let home = Home::find(&instance).ok();
        Ok(Self { instance, store, broker, home, keeper, pool: None, storage_ns: None, tell: |_| () })
    }

    /// The container of that name.
    pub(super) fn find(&self, name: &Name) -> AppResult<Container> {
        if let Some(found) = self.store.container(name)? {
            return Ok(found);
        }
        let all = self.store.containers()?;
        let nearest = suggest::nearest(name.as_str(), all.iter().map(|c| c.name.as_str())).map(str::to_owned);
        Err(AppError::NoContainer { name: name.clone(), nearest })
    }

    /// The pool's directory.
    pub(super) fn pool(&mut self) -> AppResult<&OwnedFd> {
        if self.pool.is_none() {
            self.pool = Some(layout::open_pool(&self.instance)?);
        }
        self.pool.as_ref().ok_or_else(|| AppError::Refused("the pool is not open".to_owned()))
    }

    /// Has the broker begin with what `storage` will ask of it.
    pub(super) fn expect_storage(&mut self) {
        if self.storage_ns.is_none() {
            self.broker.expect_storage();
        }
    }

    /// The user namespace for file work, and the pool to work in.
    pub(super) fn storage(&mut self) -> AppResult<(&OwnedFd, &OwnedFd)> {
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

/// Root becomes the owner, and leaves a broker behind.
fn as_root(instance: &Instance) -> AppResult<(Owner, Broker)> {
    let owner = match setup::is_set_up(instance) {
        Some(owner) if instance.person().is_none() || instance.state_dir().exists() => owner,
        _ => {
            setup::setup(instance, SetupOptions::of(instance))?;
            setup::is_set_up(instance).ok_or_else(no_effect)?
        }
    };
    setup::ensure_run_dir(instance, &owner)?;
    Ok((owner, broker::split(instance, owner)?))
}

/// An ordinary user is the owner already, and has the host's broker.
fn as_person(instance: &Instance) -> AppResult<(Owner, Broker)> {
    let mut broker = Broker::of_host(instance);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let there = instance.state_dir().join("pool").exists() && instance.run_dir().exists();
    if let (true, Some(owner)) = (there, setup::is_set_up(instance)) {
        return Ok((owner, broker));
    }
    broker.setup()?;
    Ok((setup::is_set_up(instance).ok_or_else(no_effect)?, broker))
}

fn no_effect() -> AppError {
    AppError::Refused("the set-up did not take effect".to_owned())
}
