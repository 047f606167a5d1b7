//! Requests about sets of addresses and groups of containers.

use std::collections::BTreeMap;

use super::door::{Listener, Perform};
use crate::api::{groups, sets};
use crate::app::error::AppResult;
use crate::app::firewall;
use crate::app::instance::App;
use crate::model::firewall::policy::GroupPolicy;

impl Perform for sets::List {
    type Answer = BTreeMap<String, Vec<String>>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Self::Answer> {
        Ok(firewall::export(app)?.sets)
    }
}

impl Perform for sets::Create {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::create_set(app, &self.name, &self.addresses)
    }
}

impl Perform for sets::Add {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::add_to_set(app, &self.caution.into(), &self.name, &self.addresses)
    }
}

impl Perform for sets::Remove {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::remove_from_set(app, &self.caution.into(), &self.name, &self.addresses)
    }
}

impl Perform for sets::Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::delete_set(app, &self.caution.into(), &self.name)
    }
}

impl Perform for groups::List {
    type Answer = Vec<groups::Group>;

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<Vec<groups::Group>> {
        let policy = firewall::export(app)?;
        let group = |(name, group): (&String, &GroupPolicy)| {
            let members = policy.containers.iter().filter(|(_, c)| c.groups.contains(name));
            groups::Group {
                name: name.clone(),
                rules: group.inward.len() + group.outward.len(),
                containers: members.map(|(container, _)| container.clone()).collect(),
            }
        };
        Ok(policy.groups.iter().map(group).collect())
    }
}

impl Perform for groups::Create {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::create_group(app, &self.name)
    }
}

impl Perform for groups::Delete {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::delete_group(app, &self.caution.into(), &self.name)
    }
}

impl Perform for groups::Join {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::join_group(app, &self.caution.into(), &self.name, &self.containers)
    }
}

impl Perform for groups::Leave {
    type Answer = ();

    fn perform(self, app: &mut App, _: &mut dyn Listener) -> AppResult<()> {
        firewall::leave_group(app, &self.caution.into(), &self.name, &self.containers)
    }
}
