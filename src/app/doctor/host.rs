//! All checks of a host.

use crate::model::instance::Instance;
use crate::model::name::ContainerId;

use super::check::{self, Check, Packages};
use super::{cgroup, daemonless, guests, ids, kernel, limits, network, programs, storage, users};

/// Looks at the whole host. If the caller is not root, what only root can try is reported as untried.
pub fn run(instance: &Instance) -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let packages = Packages::of(&check::read("/etc/os-release").unwrap_or_default());
    let dir = storage::existing(&instance.state_dir());
    let containers = containers(instance);
    let (owner, ids) = match instance.is_daemonless() {
        true => (None, Vec::new()),
        false => ids::checks(instance, containers),
    };
    let mut checks = kernel::checks(owner.map(|owner| owner.storage), &dir, packages, root);
    checks.extend(cgroup::checks());
    checks.extend(ids);
    checks.extend(storage::checks(&dir));
    checks.extend(network::checks(instance, packages, root));
    // A daemonless owner's guests are in a network namespace of their own.
    if !instance.is_daemonless() {
        checks.extend(guests::checks(instance));
    }
    checks.extend(programs::checks(packages));
    checks.extend(limits::checks(containers, root || instance.is_daemonless()));
    if instance.is_daemonless() {
        checks.retain(daemonless::concerns);
        checks.extend(daemonless::checks(instance, packages));
    } else {
        checks.push(users::check(instance));
    }
    checks
}

/// How many containers there are, by their directories; 0 for callers who may not look.
fn containers(instance: &Instance) -> u64 {
    let Ok(entries) = std::fs::read_dir(instance.state_dir().join("containers")) else { return 0 };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| ContainerId::new(name).is_ok()).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::doctor::Status;

    #[test]
    fn every_fault_comes_with_a_command_and_every_line_is_one() {
        let checks = run(&Instance::default());
        for area in ["kernel", "cgroup", "ids", "storage", "network", "programs", "limits", "users"] {
            assert!(checks.iter().any(|check| check.area == area), "{area}");
        }
        for check in &checks {
            println!(
                "{:8} {:22} {:?}: {} [{:?}]",
                check.area, check.name, check.status, check.detail, check.fix
            );
            assert_eq!(check.fix.is_some(), check.status >= Status::Degraded, "{check:?}");
            assert!(!check.detail.is_empty() && !check.detail.contains('\n'), "{check:?}");
            assert!(!check.fix.as_deref().unwrap_or_default().contains('\n'), "{check:?}");
        }
        let mut names: Vec<_> = checks.iter().map(|check| (check.area, check.name)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), checks.len());
    }
}
