//! What running containers have yet to see of a change.

use std::collections::BTreeMap;

use super::note;
use crate::api::config::Pending;
use crate::api::profiles::Waiting;
use crate::model::keys::Live;

/// A line for each key that waits for a restart of a container.
pub fn of_container(name: &str, pending: &[Pending]) {
    for Pending { key, live } in pending {
        note(&match live {
            Live::NewPrograms => {
                format!(
                    "{key}: programs see it from now on, the container's init after: nagaya restart {name}"
                )
            }
            _ => format!("{key} takes effect at the next start: nagaya restart {name}"),
        });
    }
}

/// Which containers each key waits for.
pub fn of_profile(waiting: &[Waiting]) {
    let mut keys: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for Waiting { container, pending } in waiting {
        for Pending { key, live } in pending {
            keys.entry((key, live.as_str())).or_default().push(container.as_str());
        }
    }
    for ((key, when), containers) in keys {
        let (listed, typed) = (containers.join(", "), containers.join(" "));
        note(&format!("{key} takes effect {when} of: {listed} (nagaya restart {typed})"));
    }
}
