//! What daemonless mode has on this host, and what is missing.

use crate::host::rootless::cgroup;
use crate::host::rootless::owner;
use crate::model::instance::Instance;
use crate::sys::error_text;
use crate::sys::process::outer_ns;
use crate::sys::process::outer_ns::OuterError;
use crate::sys::programs::pasta;

use super::check::{Check, Packages};

const AREA: &str = "daemonless";
/// What only a broker with the host's rights can give.
const HOSTD: &str = "as root: install the package nagaya, whose nagaya-hostd serves ordinary users";

/// Whether a check says anything in daemonless mode: those that only root can make, and those of the
/// service user's instance, do not.
pub fn concerns(check: &Check) -> bool {
    let root_only = check.fix.as_deref() == Some("sudo nagaya doctor");
    let host_network = ["IPv4 forwarding", "other firewalls", "br_netfilter", "/dev/net/tun"];
    let accounts = ["useradd", "usermod"];
    let own_budget = ["inotify", "keys"];
    !(root_only
        || check.area == "ids"
        || host_network.contains(&check.name)
        || accounts.contains(&check.name)
        || own_budget.contains(&check.name))
}

pub fn checks(instance: &Instance, packages: Packages) -> Vec<Check> {
    let mut checks = vec![ids(instance), namespaces(), cgroup(instance), uplink(packages)];
    checks.extend(lingering(instance));
    checks.extend([
        Check::degraded(
            AREA,
            "id ranges",
            "one for all containers of this user: they have the same ids",
            HOSTD,
        ),
        Check::degraded(
            AREA,
            "inotify",
            "one budget for all containers of this user",
            super::check::sysctl("fs.inotify.max_user_instances", 8192),
        ),
        Check::degraded(
            AREA,
            "network",
            "no bridge of the host's; nobody outside reaches a container",
            HOSTD,
        ),
    ]);
    checks
}

fn ids(instance: &Instance) -> Check {
    const NAME: &str = "subordinate ids";
    match owner::owner() {
        Ok(owner) => {
            let last = owner.storage.base() + (crate::model::ids::IDS_PER_RANGE - 1);
            let detail = format!("{}-{last} of user '{}'", owner.storage.base(), instance.user());
            Check::ok(AREA, NAME, detail)
        }
        Err(e) => Check::missing(AREA, NAME, error_text(&e), e.fix().unwrap_or_else(|| HOSTD.to_owned())),
    }
}

fn namespaces() -> Check {
    const NAME: &str = "namespaces";
    match outer_ns::probe() {
        Ok(()) => Check::ok(AREA, NAME, "ordinary users may make their own"),
        Err(e) => {
            let fix = match &e {
                OuterError::Forbidden { key, wanted, .. } => super::check::sysctl(key, wanted),
                _ => HOSTD.to_owned(),
            };
            Check::missing(AREA, NAME, error_text(&e), fix)
        }
    }
}

fn cgroup(instance: &Instance) -> Check {
    const NAME: &str = "cgroup of your own";
    match cgroup::look(instance) {
        Ok(place) => Check::ok(AREA, NAME, place),
        Err(e) => Check::missing(AREA, NAME, e.why().to_owned(), e.remedy().to_owned()),
    }
}

fn uplink(packages: Packages) -> Check {
    const NAME: &str = "uplink";
    match pasta::find() {
        Ok(path) => Check::ok(AREA, NAME, format!("{}, IPv4 alone", path.display())),
        Err(e) => {
            let fix = match &e {
                pasta::PastaError::NoDevice(_) => "as root: chmod 0666 /dev/net/tun".to_owned(),
                _ => format!("as root: {}", packages.install_program(&crate::sys::programs::search::PASTA)),
            };
            let detail = format!("containers reach nothing but each other: {}", error_text(&e));
            Check::degraded(AREA, NAME, detail, fix)
        }
    }
}

fn lingering(instance: &Instance) -> Option<Check> {
    const NAME: &str = "lingering";
    Some(match owner::lingers(instance)? {
        true => Check::ok(AREA, NAME, "on: containers outlive your last session"),
        false => {
            let fix = format!("loginctl enable-linger {}", instance.user());
            Check::degraded(AREA, NAME, "off: containers end with your last session", fix)
        }
    })
}
