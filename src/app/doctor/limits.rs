//! Limits of the host that all containers share, and what is left of each.

use super::check::{Check, read, sysctl};
use crate::model::config::value::NO_LIMIT;
use crate::model::rlimits::USUAL_FILES;
use crate::sys::process::rlimit;

const AREA: &str = "limits";
const PID_MAX: &str = "kernel.pid_max";

/// `starts_itself`: the caller starts containers, and no broker that has limits of its own.
pub fn checks(containers: u64, starts_itself: bool) -> Vec<Check> {
    let get = |path: &str| read(path).unwrap_or_default();
    let arp = get("/proc/net/arp").lines().count().saturating_sub(1) as u64;
    vec![
        inotify(
            &get("/proc/sys/fs/inotify/max_user_instances"),
            &get("/proc/sys/fs/inotify/max_user_watches"),
        ),
        keys(
            &get("/proc/key-users"),
            &get("/proc/sys/kernel/keys/maxkeys"),
            &get("/proc/sys/kernel/keys/maxbytes"),
        ),
        pids(&get("/proc/loadavg"), &get("/proc/sys/kernel/pid_max")),
        files(&get("/proc/sys/fs/file-nr")),
        files_of_a_process(number(&get("/proc/sys/fs/nr_open")), starts_itself.then(rlimit::files_to_give)),
        terminals(
            &get("/proc/sys/kernel/pty/nr"),
            &get("/proc/sys/kernel/pty/max"),
            &get("/proc/sys/kernel/pty/reserve"),
        ),
        aio(&get("/proc/sys/fs/aio-nr"), &get("/proc/sys/fs/aio-max-nr")),
        neighbours(&get("/proc/sys/net/ipv4/neigh/default/gc_thresh3"), arp, containers),
    ]
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A resource of which `used` out of `max` are taken. With less than a fifth left, somebody should raise
/// the limit.
fn share(name: &'static str, what: &str, counts: Option<(u64, u64)>, key: &str) -> Check {
    let Some((used, max)) = counts else {
        return Check::degraded(AREA, name, "cannot be read", format!("sysctl {key}"));
    };
    let left = max.saturating_sub(used);
    // The kernel's way to say that there is no limit.
    if max >= 1 << 53 {
        return Check::ok(AREA, name, format!("{used} {what}, no limit"));
    }
    let detail = format!("{used} of {max} {what} in use, {left} left");
    if left < max / 5 {
        // More than 2^22 process numbers the kernel refuses.
        let more = max.saturating_mul(4);
        let more = if key == PID_MAX { more.min(1 << 22) } else { more };
        Check::degraded(AREA, name, detail, sysctl(key, more))
    } else {
        Check::ok(AREA, name, detail)
    }
}

/// The first of a container's own ids makes its namespace, and the kernel charges inotify objects to that
/// id. So the limits hold for each container, not for all together.
fn inotify(instances: &str, watches: &str) -> Check {
    const NAME: &str = "inotify";
    let (Some(instances), Some(watches)) = (number(instances), number(watches)) else {
        return Check::degraded(AREA, NAME, "cannot be read", "sysctl fs.inotify");
    };
    let detail = format!("{instances} instances and {watches} watches for each container of its own");
    // A guest with systemd holds tens of instances, and wants room for its services' own.
    if instances < 100 {
        return Check::degraded(AREA, NAME, detail, sysctl("fs.inotify.max_user_instances", 128));
    }
    if watches < 8192 {
        return Check::degraded(AREA, NAME, detail, sysctl("fs.inotify.max_user_watches", 65_536));
    }
    Check::ok(AREA, NAME, detail)
}

/// /proc/key-users: `uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes`. Charged to the uid
/// outside, so each container has a budget of its own.
fn keys(users: &str, max_keys: &str, max_bytes: &str) -> Check {
    const NAME: &str = "keys";
    let (Some(keys), Some(bytes)) = (number(max_keys), number(max_bytes)) else {
        return Check::degraded(AREA, NAME, "cannot be read", "sysctl kernel.keys");
    };
    let ratio = |text: &str| -> Option<(u64, u64)> {
        let (used, max) = text.split_once('/')?;
        Some((number(used)?, number(max)?))
    };
    let tight = users.lines().find_map(|line| {
        let (uid, rest) = line.split_once(':')?;
        let mut words = rest.split_whitespace().skip(2);
        let (keys, bytes) = (ratio(words.next()?)?, ratio(words.next()?)?);
        let near = |(used, max): (u64, u64)| used > max / 5 * 4;
        if near(keys) {
            Some((uid.trim(), "maxkeys", keys))
        } else {
            near(bytes).then(|| (uid.trim(), "maxbytes", bytes))
        }
    });
    match tight {
        Some((uid, key, (used, max))) => {
            let key = format!("kernel.keys.{}{key}", if uid == "0" { "root_" } else { "" });
            let detail = format!("uid {uid} uses {used} of {max} ({key})");
            Check::degraded(AREA, NAME, detail, sysctl(&key, max.saturating_mul(4)))
        }
        None => Check::ok(AREA, NAME, format!("{keys} keys and {bytes} bytes for each container of its own")),
    }
}

/// The fourth word of /proc/loadavg is `running/all`, in threads: each has a number.
fn pids(loadavg: &str, max: &str) -> Check {
    let threads = loadavg.split(' ').nth(3).and_then(|word| number(word.split_once('/')?.1));
    share("processes", "numbers", threads.zip(number(max)), PID_MAX)
}

fn files(file_nr: &str) -> Check {
    let words: Vec<_> = file_nr.split_whitespace().filter_map(number).collect();
    let counts = match words.as_slice() {
        [used, _, max] => Some((*used, *max)),
        _ => None,
    };
    share("open files", "files", counts, "fs.file-max")
}

/// The open files of a guest's process without a limit in its configuration: as many as the process that
/// starts the guest can give, if that is known.
fn files_of_a_process(nr_open: Option<u64>, to_give: Option<u64>) -> Check {
    const NAME: &str = "files of a process";
    const KEY: &str = "fs.nr_open";
    let Some(nr_open) = nr_open else {
        return Check::degraded(AREA, NAME, "cannot be read", format!("sysctl {KEY}"));
    };
    let hard = to_give.unwrap_or(NO_LIMIT);
    let most = nr_open.min(hard);
    if most >= USUAL_FILES {
        return Check::ok(AREA, NAME, format!("at most {USUAL_FILES} open in guests"));
    }
    let whose = if nr_open <= hard { KEY } else { "the hard limit 'nofile' of who starts them" };
    let detail = format!("guests have at most {most} open, not {USUAL_FILES}: {whose}");
    let fix = match nr_open <= hard {
        true => sysctl(KEY, USUAL_FILES),
        false => format!(
            "echo '* hard nofile {USUAL_FILES}' >/etc/security/limits.d/90-nagaya.conf, and log in again; \
             of a service: LimitNOFILE={USUAL_FILES}"
        ),
    };
    Check::degraded(AREA, NAME, detail, fix)
}

/// The last `reserve` terminals are the host's own.
fn terminals(used: &str, max: &str, reserve: &str) -> Check {
    let max = number(max).map(|max| max.saturating_sub(number(reserve).unwrap_or(0)));
    share("terminals", "terminals for containers", number(used).zip(max), "kernel.pty.max")
}

fn aio(used: &str, max: &str) -> Check {
    share("asynchronous I/O", "requests", number(used).zip(number(max)), "fs.aio-max-nr")
}

/// One table for all network namespaces. A container takes two entries: the host's of it, and its
/// own of the gateway.
fn neighbours(threshold: &str, entries: u64, containers: u64) -> Check {
    const NAME: &str = "ARP and NDP table";
    const KEY: &str = "net.ipv4.neigh.default.gc_thresh3";
    let Some(max) = number(threshold) else {
        return Check::degraded(AREA, NAME, "cannot be read", format!("sysctl {KEY}"));
    };
    let wanted = entries.max(containers * 2);
    let detail = format!("{wanted} of {max} entries needed, room for {} containers", max / 2);
    if wanted > max / 5 * 4 {
        Check::degraded(AREA, NAME, detail, sysctl(KEY, (wanted * 4).next_power_of_two()))
    } else {
        Check::ok(AREA, NAME, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_fifth_left_is_time_to_say_so() {
        assert_eq!(files("800 0 1000").detail, "800 of 1000 files in use, 200 left");
        assert_eq!(files("800 0 1000").status, Status::Ok);
        let full = files("801\t0\t1000");
        assert_eq!(full.status, Status::Degraded);
        assert!(full.fix.unwrap().contains("fs.file-max = 4000"));
        assert_eq!(files("800 0 9223372036854775807").detail, "800 files, no limit");
        assert_eq!(files("").status, Status::Degraded);
        assert_eq!(aio("65000", "65536").status, Status::Degraded);
    }

    #[test]
    fn a_hosts_limit_of_open_files_below_that_of_guests_is_told() {
        assert_eq!(files_of_a_process(Some(1 << 20), None).status, Status::Ok);
        assert_eq!(files_of_a_process(Some(1 << 30), Some(1 << 20)).status, Status::Ok);
        let of_process = files_of_a_process(Some(1 << 20), Some(20_000));
        assert!(of_process.detail.contains("at most 20000 open, not 1048576: the hard limit"));
        assert!(of_process.fix.unwrap().contains("nofile 1048576"));
        let of_kernel = files_of_a_process(Some(65_536), Some(65_536));
        assert!(of_kernel.fix.unwrap().contains("fs.nr_open = 1048576"));
        assert_eq!(files_of_a_process(None, None).status, Status::Degraded);
    }

    #[test]
    fn threads_and_terminals_are_counted_as_the_kernel_does() {
        let check = pids("0.10 0.20 0.30 2/30000 4711", "32768");
        assert_eq!(check.status, Status::Degraded);
        assert_eq!(check.detail, "30000 of 32768 numbers in use, 2768 left");
        assert!(check.fix.unwrap().contains("kernel.pid_max = 131072"));
        let most = pids("0.10 0.20 0.30 2/4000000 4711", "4194304");
        assert!(most.fix.unwrap().contains("kernel.pid_max = 4194304'"), "more than the kernel takes");
        assert_eq!(pids("0.10 0.20 0.30 2/300 4711", "32768").status, Status::Ok);
        assert_eq!(
            terminals("2", "4096", "1024").detail,
            "2 of 3072 terminals for containers in use, 3070 left"
        );
        assert_eq!(terminals("3000", "4096", "1024").status, Status::Degraded);
    }

    #[test]
    fn per_container_budgets_are_fine_at_the_kernels_defaults() {
        assert_eq!(inotify("128", "192536").status, Status::Ok);
        assert_eq!(inotify("64", "192536").status, Status::Degraded);
        assert_eq!(inotify("128", "100").status, Status::Degraded);
        let users = "    0:    94 93/93 85/1000000 1845/25000000\n  990:     3 3/3 3/200 60/20000\n";
        assert_eq!(keys(users, "200", "20000").status, Status::Ok);
        let check = keys("  990:     3 3/3 190/200 60/20000\n", "200", "20000");
        assert_eq!(check.detail, "uid 990 uses 190 of 200 (kernel.keys.maxkeys)");
        let root = keys("0: 3 3/3 1/1000 24000/25000\n", "200", "20000");
        assert!(root.fix.unwrap().contains("kernel.keys.root_maxbytes = 100000"));
    }

    #[test]
    fn the_neighbour_table_must_hold_two_for_each_container() {
        assert_eq!(neighbours("1024", 5, 100).status, Status::Ok);
        let check = neighbours("1024", 5, 500);
        assert_eq!(check.status, Status::Degraded);
        assert!(check.fix.unwrap().contains("gc_thresh3 = 4096"));
        assert_eq!(neighbours("1024", 1000, 0).status, Status::Degraded);
    }
}
