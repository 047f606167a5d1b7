//! What has to be done for one plan to become another, where that is less than everything.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::plan::{ContainerPlan, ForwardPlan, GroupPlan, NetworkPlan, Plan};
use crate::model::name::ContainerId;

/// The parts of a plan that are to be put in the place of what the kernel has under their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Sets that are new or hold other addresses.
    pub sets: BTreeMap<String, Vec<IpNetwork>>,
    /// Sets that are to be deleted.
    pub gone_sets: Vec<String>,
    /// Groups that are new or have other rules.
    pub groups: Vec<GroupPlan>,
    /// Groups that are to be deleted.
    pub gone_groups: Vec<String>,
    /// With other rules or defaults; all else of them is as it was.
    pub networks: Vec<NetworkPlan>,
    /// Containers that are new or differ in anything.
    pub containers: Vec<ContainerPlan>,
    /// Containers that are to be deleted.
    pub gone_containers: Vec<ContainerId>,
    /// The addresses that containers which changed or went had before.
    pub former: Vec<(ContainerId, Vec<IpAddr>)>,
    /// All of them, where there is any difference.
    pub forwards: Option<Vec<ForwardPlan>>,
}

impl Change {
    /// None: networks come, go or are connected otherwise, for which the whole plan is to be applied.
    pub fn between(old: &Plan, new: &Plan) -> Option<Self> {
        if old.networks.len() != new.networks.len() {
            return None;
        }
        let mut change = Self::default();
        for (before, after) in old.networks.iter().zip(&new.networks) {
            let same = NetworkPlan {
                rules: after.rules.clone(),
                default_in: after.default_in,
                default_out: after.default_out,
                ..before.clone()
            };
            if same != *after {
                return None;
            }
            if before != after {
                change.networks.push(after.clone());
            }
        }
        for (name, nets) in &new.sets {
            if old.sets.get(name) != Some(nets) {
                change.sets.insert(name.clone(), nets.clone());
            }
        }
        change.gone_sets = old.sets.keys().filter(|name| !new.sets.contains_key(*name)).cloned().collect();
        change.groups = new.groups.iter().filter(|g| old.group(&g.name) != Some(g)).cloned().collect();
        let gone = |group: &&GroupPlan| new.group(&group.name).is_none();
        change.gone_groups = old.groups.iter().filter(gone).map(|g| g.name.clone()).collect();
        change.differing_containers(old, new);
        change.forwards = (old.forwards != new.forwards).then(|| new.forwards.clone());
        Some(change)
    }

    fn differing_containers(&mut self, old: &Plan, new: &Plan) {
        let by_id = |plan: &Plan| -> BTreeMap<ContainerId, ContainerPlan> {
            plan.containers.iter().map(|c| (c.id.clone(), c.clone())).collect()
        };
        let (before, after) = (by_id(old), by_id(new));
        let differs = |(id, c): &(&ContainerId, &ContainerPlan)| before.get(*id) != Some(*c);
        self.containers = after.iter().filter(differs).map(|(_, c)| c.clone()).collect();
        self.gone_containers = before.keys().filter(|id| !after.contains_key(*id)).cloned().collect();
        let touched = self.containers.iter().map(|c| &c.id).chain(&self.gone_containers);
        let former = |id: &ContainerId| before.get(id).map(|c| (id.clone(), c.addresses.clone()));
        self.former = touched.filter_map(former).collect();
    }

    /// Whether both plans are the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::firewall::fixture::plan;

    const OLD: &str = r#"
[sets]
a = ["192.0.2.1"]
b = []
[groups.g]
[groups.h]
[networks.lan]
default-in = "deny"
[containers.web01]
groups = ["g"]
"#;

    #[test]
    fn only_what_differs_is_changed() {
        let new = OLD.replace("192.0.2.1", "192.0.2.2").replace("b = []\n", "").replace("[groups.h]\n", "");
        let change = Change::between(&plan(OLD), &plan(&new)).unwrap();
        assert_eq!((change.sets.len(), change.gone_sets.clone()), (1, vec!["b".to_owned()]));
        assert_eq!(change.gone_groups, ["h"]);
        assert!(change.networks.is_empty() && change.containers.is_empty() && change.forwards.is_none());

        let new = OLD.replace("\"deny\"", "\"reject\"").replace("groups = [\"g\"]", "groups = [\"h\"]");
        let change = Change::between(&plan(OLD), &plan(&new)).unwrap();
        assert_eq!((change.networks.len(), change.containers.len()), (1, 1));
        assert_eq!(change.containers[0].name.as_str(), "web01");
        assert!(Change::between(&plan(OLD), &plan(OLD)).unwrap().is_empty());

        let mut without = plan(OLD);
        let gone = without.containers.pop().unwrap().id;
        let change = Change::between(&plan(OLD), &without).unwrap();
        assert_eq!(change.gone_containers, std::slice::from_ref(&gone));
        assert_eq!(change.former, [(gone, Vec::new())]);
    }

    #[test]
    fn networks_that_are_connected_otherwise_need_everything() {
        assert_eq!(Change::between(&plan(""), &plan(OLD)), None, "lan is routed from now on");
        let mut other = plan(OLD);
        other.networks.pop();
        assert_eq!(Change::between(&plan(OLD), &other), None);
    }
}
