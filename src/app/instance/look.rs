//! A read-only view of an instance: it sets up, begins, finishes and waits for nothing, and asks no broker.

use super::layout;
use super::owner::{self, Wish};
use crate::app::images::templates;
use crate::host::setup;
use crate::model::container::{Container, Phase};
use crate::model::instance::Instance;
use crate::model::name::ContainerId;
use crate::model::snapshot::Snapshot;
use crate::store::Store;
use crate::sys::cgroup;
use crate::sys::cgroup::home::Home;
use crate::sys::process::userns;

/// What a container does, as its cgroup tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Runs,
    Paused,
    Nothing,
}

/// An instance that is looked at.
pub struct Look {
    /// None where nothing is set up.
    store: Option<Store>,
    home: Option<Home>,
}

impl Look {
    /// Opens the view. Root becomes the instance's owner for good. What cannot be read counts as missing.
    pub fn open(base: &Instance, wish: &Wish) -> Self {
        let opened = owner::resolve_to_look(base, wish).ok().filter(give_up_root);
        let Some(instance) = opened else { return Self::nothing() };
        Self { store: Store::look(&layout::database(&instance)).ok(), home: Home::find(&instance).ok() }
    }

    pub fn nothing() -> Self {
        Self { store: None, home: None }
    }

    pub fn containers(&self) -> Vec<(Container, Doing)> {
        let all = self.store.as_ref().and_then(|store| store.containers().ok()).unwrap_or_default();
        let here = all.into_iter().filter(|container| container.phase != Phase::Deleting);
        here.map(|container| {
            let doing = self.doing(&container);
            (container, doing)
        })
        .collect()
    }

    fn doing(&self, container: &Container) -> Doing {
        let payload = self.home.as_ref().map(|home| home.container_dir(&container.id).join("payload"));
        match payload.and_then(|dir| cgroup::events(&dir).ok().flatten()) {
            Some(events) if events.populated && events.frozen => Doing::Paused,
            Some(events) if events.populated => Doing::Runs,
            _ => Doing::Nothing,
        }
    }

    pub fn snapshots(&self, id: &ContainerId) -> Vec<Snapshot> {
        self.store.as_ref().and_then(|store| store.snapshots(id).ok()).unwrap_or_default()
    }

    pub fn templates(&self) -> Vec<String> {
        let all = self.store.as_ref().and_then(|store| store.templates().ok()).unwrap_or_default();
        all.into_iter().map(|(name, _)| name).collect()
    }

    /// Names and descriptions.
    pub fn recipes(&self) -> Vec<(String, String)> {
        templates::recipes()
    }

    pub fn profiles(&self) -> Vec<String> {
        let all = self.store.as_ref().and_then(|store| store.profiles().ok()).unwrap_or_default();
        all.into_iter().map(|profile| profile.name.to_string()).collect()
    }

    pub fn pools(&self) -> Vec<String> {
        let all = self.store.as_ref().and_then(|store| store.pools().ok()).unwrap_or_default();
        all.into_iter().map(|pool| pool.name.to_string()).chain(["default".to_owned()]).collect()
    }

    pub fn volumes(&self) -> Vec<String> {
        let all = self.store.as_ref().and_then(|store| store.volumes(None).ok()).unwrap_or_default();
        all.into_iter().map(|volume| volume.name.to_string()).collect()
    }

    pub fn networks(&self) -> Vec<String> {
        let all = self.store.as_ref().and_then(|store| store.networks().ok()).unwrap_or_default();
        all.into_iter().map(|network| network.name).collect()
    }

    /// Of the firewall.
    pub fn groups(&self) -> Vec<String> {
        self.policy().map(|policy| policy.groups.into_keys().collect()).unwrap_or_default()
    }

    /// Of addresses.
    pub fn sets(&self) -> Vec<String> {
        self.policy().map(|policy| policy.sets.into_keys().collect()).unwrap_or_default()
    }

    fn policy(&self) -> Option<crate::model::firewall::Policy> {
        self.store.as_ref().and_then(|store| store.policy().ok())
    }
}

/// Whether this process is the instance's owner now.
fn give_up_root(instance: &Instance) -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let owner = setup::is_set_up(instance);
    owner.is_some_and(|owner| userns::become_user(owner.uid, owner.gid).is_ok())
}
