//! Control groups: which hierarchy is mounted, and which limits it can therefore hold.

use super::check::{Check, read};

const AREA: &str = "cgroup";

/// A controller, and the configuration keys that cannot be enforced without it.
const CONTROLLERS: [(&str, &str); 5] = [
    ("memory", "limits.memory"),
    ("cpu", "limits.cpu.allowance, limits.cpu.priority"),
    ("cpuset", "limits.cpu"),
    ("pids", "limits.processes"),
    ("io", "limits.read, limits.write"),
];

pub fn checks() -> Vec<Check> {
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let found = hierarchies(&mounts);
    let controllers = found
        .unified
        .as_ref()
        .and_then(|path| read(&format!("{path}/cgroup.controllers")))
        .unwrap_or_default();
    vec![hierarchy(&found), limits(&found, &controllers)]
}

/// What /proc/mounts says of control groups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    /// Where cgroup v2 is mounted.
    unified: Option<String>,
    /// Controllers that a v1 hierarchy holds.
    legacy: Vec<String>,
}

fn hierarchies(mounts: &str) -> Hierarchies {
    let mut found = Hierarchies::default();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        match kind {
            "cgroup2" if found.unified.is_none() => found.unified = Some(path.to_owned()),
            "cgroup" => {
                let known = ["memory", "cpu", "cpuset", "pids", "blkio"];
                let held = options.split(',').filter(|option| known.contains(option));
                // cgroup v2 calls it io.
                found.legacy.extend(held.map(|name| name.replace("blkio", "io")));
            }
            _ => {}
        }
    }
    found
}

fn hierarchy(found: &Hierarchies) -> Check {
    const NAME: &str = "hierarchy";
    match (&found.unified, found.legacy.is_empty()) {
        (Some(path), true) => Check::ok(AREA, NAME, format!("version 2 alone, at {path}")),
        (Some(path), false) => Check::ok(AREA, NAME, format!("hybrid: version 2 at {path} beside version 1")),
        (None, _) => {
            Check::missing(AREA, NAME, "version 2 is not mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
        }
    }
}

/// `controllers` is cgroup.controllers of the root.
fn limits(found: &Hierarchies, controllers: &str) -> Check {
    const NAME: &str = "limits";
    let there: Vec<&str> = controllers.split_whitespace().collect();
    let lost: Vec<_> = CONTROLLERS.iter().filter(|(name, _)| !there.contains(name)).collect();
    if lost.is_empty() {
        return Check::ok(AREA, NAME, format!("all can be enforced ({})", there.join(" ")));
    }
    let keys: Vec<_> = lost.iter().map(|(_, keys)| *keys).collect();
    let detail = format!("cannot be enforced, so will be refused: {}", keys.join(", "));
    let held = lost.iter().any(|(name, _)| found.legacy.iter().any(|legacy| legacy == name));
    let fix = if held {
        "boot with 'systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all' on the kernel's command line"
    } else {
        "grep cgroup_disable /proc/cmdline; cat /proc/cgroups"
    };
    Check::degraded(AREA, NAME, detail, fix)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    const PURE: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\nproc /proc proc rw 0 0\n";
    const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
        cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
        cgroup /sys/fs/cgroup/blkio cgroup rw,relatime,blkio 0 0\n\
        cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn a_pure_host_enforces_everything() {
        let found = hierarchies(PURE);
        assert_eq!(found.unified.as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(hierarchy(&found).status, Status::Ok);
        assert_eq!(limits(&found, "cpuset cpu io memory hugetlb pids rdma misc").status, Status::Ok);
    }

    #[test]
    fn a_hybrid_host_says_which_limits_it_refuses() {
        let found = hierarchies(HYBRID);
        assert_eq!(found.legacy, ["memory", "io"]);
        assert!(hierarchy(&found).detail.contains("hybrid"));
        let check = limits(&found, "cpu cpuset pids");
        assert_eq!(check.status, Status::Degraded);
        assert_eq!(
            check.detail,
            "cannot be enforced, so will be refused: limits.memory, limits.read, limits.write"
        );
        assert!(check.fix.unwrap().contains("cgroup_no_v1=all"));
        assert!(limits(&hierarchies(PURE), "cpu cpuset pids io").fix.unwrap().contains("cgroup_disable"));
    }

    #[test]
    fn without_version_2_nothing_runs() {
        let found = hierarchies("cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\nshort\n");
        assert_eq!(hierarchy(&found).status, Status::Missing);
    }
}
