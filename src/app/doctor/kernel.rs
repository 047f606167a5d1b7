//! What the kernel is and what it lets us do.

use std::path::Path;

use crate::model::ids::IdRange;
use crate::sys::kernel::probe;
use crate::sys::process::userns;

use super::check::{Check, Packages, Tried, read, sysctl};

const AREA: &str = "kernel";

/// Ids that a trial maps where the instance has none yet.
const TRIAL_IDS: u32 = 1_879_048_192;

/// `storage` are the storage ids, if there are any; `dir` is the state directory, or its nearest parent
/// that exists.
pub fn checks(storage: Option<IdRange>, dir: &Path, packages: Packages, root: bool) -> Vec<Check> {
    let newer = packages.newer_kernel();
    let mut checks = vec![
        version(&read("/proc/sys/kernel/osrelease").unwrap_or_default(), packages),
        user_namespaces(
            read("/proc/sys/kernel/unprivileged_userns_clone").as_deref(),
            read("/proc/sys/user/max_user_namespaces").as_deref(),
        ),
        apparmor(
            read("/sys/module/apparmor/parameters/enabled").as_deref(),
            read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref(),
        ),
        seccomp(read("/proc/sys/kernel/seccomp/actions_avail").as_deref(), packages),
        core_dumps(&read("/proc/sys/kernel/core_pattern").unwrap_or_default()),
    ];
    let modprobe = "modprobe overlay && echo overlay >/etc/modules-load.d/overlay.conf";
    let namespace = match (root, storage.or(IdRange::at(TRIAL_IDS))) {
        (true, Some(id_range)) => Some(userns::over(id_range)),
        _ => None,
    };
    let made = namespace.as_ref().map_or(Tried::NotRoot, |made| Tried::of(made.as_ref()));
    let fix = "dmesg | grep -i -e apparmor -e userns | tail";
    checks.push(made.judge(
        AREA,
        "container's namespace",
        "a user namespace with a container's ids works",
        fix,
    ));
    let overlay = if root { Tried::of(probe::overlay()) } else { Tried::NotRoot };
    checks.push(overlay.judge(AREA, "overlayfs", "there", modprobe));
    if namespace.is_none() {
        checks.push(Tried::NotRoot.judge(AREA, "idmapped mounts", "", ""));
    }
    if let Some(Ok(namespace)) = &namespace {
        let mapped = Tried::of(probe::idmapped_mount(dir, namespace));
        let works = format!("work on the file system of {}", dir.display());
        let fix = format!("mount an ext4, XFS or btrfs file system on {}", dir.display());
        let mapped_works = mapped == Tried::Worked;
        checks.push(mapped.judge(AREA, "idmapped mounts", &works, fix));
        if mapped_works {
            let stacked = Tried::of(probe::overlay_on_idmapped(dir, namespace));
            checks.push(stacked.judge(AREA, "overlay on idmapped", "works", newer));
        }
    }
    checks
}

/// `release` as uname(2) says it.
fn version(release: &str, packages: Packages) -> Check {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    let known: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let fix = packages.newer_kernel();
    if known < (5, 19) {
        let detail = format!("{release}: before 5.19 overlays do not take idmapped layers");
        return Check::missing(AREA, "version", detail, fix);
    }
    Check::ok(AREA, "version", release)
}

fn user_namespaces(unprivileged: Option<&str>, max: Option<&str>) -> Check {
    const NAME: &str = "user namespaces";
    match (unprivileged, max) {
        (_, None) => Check::missing(
            AREA,
            NAME,
            "this kernel has none (CONFIG_USER_NS)",
            "zgrep CONFIG_USER_NS /proc/config.gz /boot/config-$(uname -r)",
        ),
        (_, Some("0")) => Check::missing(
            AREA,
            NAME,
            "forbidden: user.max_user_namespaces is 0",
            sysctl("user.max_user_namespaces", 65_536),
        ),
        (Some("0"), _) => Check::degraded(
            AREA,
            NAME,
            "kernel.unprivileged_userns_clone is 0: none for ordinary users, nor inside containers",
            sysctl("kernel.unprivileged_userns_clone", 1),
        ),
        (_, Some(max)) => Check::ok(AREA, NAME, format!("enabled, at most {max} for each user")),
    }
}

fn apparmor(enabled: Option<&str>, restricts: Option<&str>) -> Check {
    const NAME: &str = "AppArmor";
    match (enabled, restricts) {
        (_, Some("1")) => Check::degraded(
            AREA,
            NAME,
            "kernel.apparmor_restrict_unprivileged_userns is 1: user namespaces only for programs \
             whose profile allows them",
            sysctl("kernel.apparmor_restrict_unprivileged_userns", 0),
        ),
        (Some("Y"), _) => Check::ok(AREA, NAME, "enabled, does not restrict user namespaces"),
        _ => Check::ok(AREA, NAME, "not enabled"),
    }
}

fn seccomp(actions: Option<&str>, packages: Packages) -> Check {
    const NAME: &str = "seccomp";
    match actions {
        Some(actions) if actions.split(' ').any(|action| action == "errno") => {
            Check::ok(AREA, NAME, "filters are there")
        }
        _ => Check::missing(
            AREA,
            NAME,
            "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)",
            packages.newer_kernel(),
        ),
    }
}

/// core(5): what begins with '|' is a program, and with '@' (Linux 6.16) the socket of one. A guest's
/// limit of 1 keeps its dumps from a program, but 0 does not, and a guest may lower it to that.
fn core_dumps(pattern: &str) -> Check {
    const NAME: &str = "core dumps";
    let word = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    match (pattern.strip_prefix('|').map(word), pattern.strip_prefix('@').map(word)) {
        (None, None) => Check::ok(AREA, NAME, "no program of the host's takes them"),
        (program, socket) => {
            let taker = program.unwrap_or_else(|| format!("who listens at {}", socket.unwrap_or_default()));
            let detail = format!(
                "a guest can have {taker} read what it likes, which runs on the host, often as root: \
                 kernel.core_pattern"
            );
            Check::degraded(AREA, NAME, detail, sysctl("kernel.core_pattern", "core"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn the_floor_is_5_19() {
        let status = |release| version(release, Packages::Apt).status;
        for (release, expected) in [
            ("6.18.44-fc", Status::Ok),
            ("5.19", Status::Ok),
            ("5.18.0-1-amd64", Status::Missing),
            ("5.15.0", Status::Missing),
            ("5.9.0", Status::Missing),
            ("4.18.0-553.el8", Status::Missing),
            ("10.0.0", Status::Ok),
            ("", Status::Missing),
            ("rubbish", Status::Missing),
        ] {
            assert_eq!(status(release), expected, "{release}");
        }
    }

    #[test]
    fn what_forbids_user_namespaces_is_named_with_the_sysctl() {
        assert_eq!(user_namespaces(Some("1"), Some("96365")).status, Status::Ok);
        assert_eq!(user_namespaces(None, Some("96365")).status, Status::Ok);
        assert_eq!(user_namespaces(None, None).status, Status::Missing);
        let none = user_namespaces(Some("0"), Some("0"));
        assert_eq!(none.status, Status::Missing);
        assert!(none.fix.unwrap().contains("user.max_user_namespaces = 65536"));
        let debian = user_namespaces(Some("0"), Some("1"));
        assert_eq!(debian.status, Status::Degraded);
        assert!(debian.fix.unwrap().contains("unprivileged_userns_clone = 1"));
    }

    #[test]
    fn ubuntus_restriction_is_named() {
        assert_eq!(apparmor(Some("Y"), Some("0")).status, Status::Ok);
        assert_eq!(apparmor(None, None).detail, "not enabled");
        let ubuntu = apparmor(Some("Y"), Some("1"));
        assert_eq!(ubuntu.status, Status::Degraded);
        assert!(ubuntu.fix.unwrap().contains("apparmor_restrict_unprivileged_userns = 0"));
    }

    #[test]
    fn a_program_that_takes_dumps_is_named() {
        for pattern in ["core", "/var/crash/core.%p", ""] {
            assert_eq!(core_dumps(pattern).status, Status::Ok, "{pattern}");
        }
        let piped = core_dumps("|/usr/lib/systemd/systemd-coredump %P %u");
        assert!(piped.detail.contains(" /usr/lib/systemd/systemd-coredump read"), "{}", piped.detail);
        assert!(piped.fix.unwrap().contains("kernel.core_pattern = core"));
        assert!(core_dumps("@/run/dumps").detail.contains("listens at /run/dumps"));
    }

    #[test]
    fn filters_need_the_errno_action() {
        let all = "kill_process kill_thread trap errno user_notif trace log allow";
        assert_eq!(seccomp(Some(all), Packages::Apt).status, Status::Ok);
        assert_eq!(seccomp(Some(""), Packages::Apt).status, Status::Missing);
        assert_eq!(seccomp(None, Packages::Other).status, Status::Missing);
    }
}
