//! `nagaya doctor`: whether this host can do what nagaya needs, one line for each part, and the
//! command that mends what is not right. Reading alone; what is tried is undone by itself.

mod cgroup;
mod check;
mod guests;
mod ids;
mod kernel;
mod limits;
mod network;
mod private;
mod programs;
mod storage;
mod users;

use crate::model::instance::Instance;
use crate::model::name::ContainerId;

use check::Packages;
pub use check::{Check, Status};

/// Looks at the whole host. What only root can try is said to be untried where the caller is not.
pub fn run(instance: &Instance) -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let packages = Packages::of(&check::read("/etc/os-release").unwrap_or_default());
    let dir = storage::existing(&instance.state_dir());
    let containers = containers(instance);
    let (owner, ids) = match instance.is_private() {
        true => (None, Vec::new()),
        false => ids::checks(instance, containers),
    };
    let mut checks = kernel::checks(owner.map(|owner| owner.storage), &dir, packages, root);
    checks.extend(cgroup::checks());
    checks.extend(ids);
    checks.extend(storage::checks(&dir));
    checks.extend(network::checks(instance, packages, root));
    // Those of a private owner are in a network of their own.
    if !instance.is_private() {
        checks.extend(guests::checks(instance));
    }
    checks.extend(programs::checks(packages));
    checks.extend(limits::checks(containers, root || instance.is_private()));
    if instance.is_private() {
        checks.retain(private::concerns);
        checks.extend(private::checks(instance, packages));
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
