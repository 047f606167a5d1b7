//! Opening an instance: who owns it, its broker, its database, and what a killed command has left in it.

use super::{App, daemonless, layout};
use crate::app::error::{AppError, AppResult};
use crate::app::operations::reconcile;
use crate::host::client::{Broker, Ending};
use crate::host::halves;
use crate::host::setup::{self, Owner, SetupOptions};
use crate::host::sources::{self, Source};
use crate::model::instance::Instance;
use crate::store::{Store, StoreError};

/// An instance whose database nobody has asked for yet.
pub struct Unopened {
    instance: Instance,
    owner: Owner,
    broker: Broker,
}

/// Becomes the instance's owner, and sets the instance up first if necessary. Call it once, while the process has
/// one thread: root's process forks the broker here and gives up root for good.
pub fn begin(instance: Instance) -> AppResult<Unopened> {
    begin_allowing(instance, &[])
}

/// The same; before root is given up, it is recorded that `sources` may be disks of root's containers.
fn begin_allowing(instance: Instance, sources: &[Source]) -> AppResult<Unopened> {
    let (owner, broker) = if rustix::process::geteuid().is_root() {
        as_root(&instance, sources)?
    } else if instance.uid_of_user().is_some() {
        by_hostd(&instance)?
    } else {
        daemonless::open(&instance)?
    };
    Ok(Unopened { instance, owner, broker })
}

/// Opens the instance, as `begin` and `Unopened::open` do together.
pub fn open(instance: Instance) -> AppResult<App> {
    begin(instance)?.open()
}

/// The same for a command in which `sources` were typed as disks of containers.
pub fn open_allowing(instance: Instance, sources: &[Source]) -> AppResult<App> {
    begin_allowing(instance, sources)?.open()
}

impl Unopened {
    /// Opens the database, and finishes or undoes what killed commands have left.
    pub fn open(self) -> AppResult<App> {
        let mut app = self.open_with(|instance| Ok(Store::open(&layout::database(instance))?))?;
        reconcile::unsettled(&mut app)?;
        Ok(app)
    }

    /// Lets the broker end while the caller goes on with something else.
    pub fn close(mut self) -> Option<Ending> {
        self.broker.end()
    }

    fn open_with(self, open_store: impl FnOnce(&Instance) -> AppResult<Store>) -> AppResult<App> {
        let Self { instance, owner, broker } = self;
        let mut store = open_store(&instance)?;
        if store.range()? != Some(owner.range) {
            match instance.is_daemonless() {
                true => store.set_shared_range(owner.range)?,
                false => store.set_range(owner.range)?,
            }
        }
        Ok(App::new(instance, store, broker))
    }
}

/// The same with an empty database, which the caller fills from the manifests and puts in the present one's
/// place. Also returns the present one, if it can be opened.
pub fn open_for_repair(instance: Instance) -> AppResult<(App, Option<Store>)> {
    let mut present = None;
    let mut app = begin(instance)?.open_with(|instance| {
        let path = layout::database(instance);
        present = match Store::open_existing(&path) {
            // It has what the manifests that this version can read do not say.
            Err(e @ StoreError::Newer { .. }) => return Err(e.into()),
            opened => opened.ok(),
        };
        Ok(Store::anew(&path)?)
    })?;
    if let Some(store) = present {
        // A container that a killed command has half made or half deleted has a manifest too.
        let new = std::mem::replace(&mut app.store, store);
        reconcile::unsettled(&mut app).unwrap_or_else(|e| tracing::warn!("cannot tidy up: {e}"));
        present = Some(std::mem::replace(&mut app.store, new));
    }
    Ok((app, present))
}

/// Root becomes the owner, and leaves a broker behind.
fn as_root(instance: &Instance, sources: &[Source]) -> AppResult<(Owner, Broker)> {
    let owner = match setup::is_set_up(instance) {
        Some(owner) if instance.uid_of_user().is_none() || instance.state_dir().exists() => owner,
        _ => {
            setup::setup(instance, SetupOptions::of(instance))?;
            setup::is_set_up(instance).ok_or_else(no_effect)?
        }
    };
    setup::ensure_run_dir(instance, &owner)?;
    sources::allow(instance, sources)?;
    Ok((owner, halves::split(instance, owner)?))
}

/// An ordinary user is the owner already, and has the host's broker.
fn by_hostd(instance: &Instance) -> AppResult<(Owner, Broker)> {
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
