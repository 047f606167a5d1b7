//! Limits in the files of a guest's cgroup, which are the host's: the guest owns only those that were
//! delegated. Every value is read back; if the kernel refuses one, all are set back.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::model::config::value::{NO_LIMIT, cpu_list, cpu_set};
use crate::model::limits::{IoMax, Limits, NUMBERS, Number, USUAL_PERIOD, USUAL_WEIGHT, lacking};
use crate::sys::{Context, SysResult};

/// Why limits were not applied; the former ones hold.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("{key} cannot be enforced: {reason}")]
    Lacking { key: &'static str, reason: String },
    #[error("{key}: the kernel refuses '{value}' for {file}")]
    Refused {
        key: &'static str,
        file: &'static str,
        value: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{key}: {file} is '{got}' after '{value}' was written")]
    NotTaken { key: &'static str, file: &'static str, value: String, got: String },
}

/// One file of the cgroup, and what it is to hold.
struct Setting {
    /// The configuration key that it is for.
    key: &'static str,
    controller: &'static str,
    file: &'static str,
    /// What is written; more than one for a file that takes a line for each device.
    writes: Vec<String>,
    /// No limit is asked for, so a file that does not exist is no error.
    is_usual: bool,
    holds: Holds,
}

/// As much or more stands in files for no limit: the greatest number that the kernel counts, in whole huge pages
/// (mm/hugetlb_cgroup.c).
const MOST_BYTES: u64 = (i64::MAX as u64) - (1 << 40);

/// How the content of a file is compared with what was written.
enum Holds {
    Exactly(String),
    /// The kernel rounds down to a multiple of `step`, or of less.
    Number {
        wanted: u64,
        step: u64,
    },
    Cpus(BTreeSet<u32>),
    /// These CPUs, which are all, or nothing, which means the same.
    AllCpus(BTreeSet<u32>),
    /// "default 100", and lines of devices.
    Default(String),
    Io(Vec<IoMax>),
}

fn max_or(value: u64) -> String {
    if value == NO_LIMIT { "max".to_owned() } else { value.to_string() }
}

fn number(number: &Number, limits: &Limits) -> Setting {
    let wanted = limits.numbers.get(number.file);
    Setting {
        key: number.key,
        controller: number.controller(),
        file: number.file,
        writes: vec![max_or(wanted)],
        is_usual: wanted == NO_LIMIT,
        holds: Holds::Number { wanted, step: number.step },
    }
}

fn exactly(
    key: &'static str,
    controller: &'static str,
    file: &'static str,
    value: String,
    is_usual: bool,
) -> Setting {
    Setting { key, controller, file, writes: vec![value.clone()], is_usual, holds: Holds::Exactly(value) }
}

/// Those whose file a later write could still break come first.
fn settings(limits: &Limits, old_io: &str, all_cpus: &str) -> Vec<Setting> {
    let weight = limits.cpu_weight;
    let quota = format!("{} {}", max_or(limits.cpu_quota), limits.cpu_period);
    let usual_quota = limits.cpu_quota == NO_LIMIT && limits.cpu_period == USUAL_PERIOD;
    let mut all = vec![
        cpu_setting(&limits.cpus, all_cpus),
        exactly("limits.cpu.allowance", "cpu", "cpu.max", quota, usual_quota),
        exactly("limits.cpu.allowance", "cpu", "cpu.weight", weight.to_string(), weight == USUAL_WEIGHT),
        Setting {
            key: "limits.read or limits.write",
            controller: "io",
            file: "io.max",
            writes: io_writes(&limits.io_max, old_io),
            is_usual: limits.io_max.is_empty(),
            holds: Holds::Io(limits.io_max.clone()),
        },
    ];
    all.extend(NUMBERS.iter().map(|of| number(of, limits)));
    all
}

/// A cpuset with processes never becomes empty again (kernel/cgroup/cpuset.c, ENOSPC): removing the limit
/// means naming all CPUs.
fn cpu_setting(cpus: &str, all_cpus: &str) -> Setting {
    let is_usual = cpus.is_empty();
    let set = cpu_set(if is_usual { all_cpus } else { cpus }).unwrap_or_default();
    Setting {
        key: "limits.cpu",
        controller: "cpuset",
        file: "cpuset.cpus",
        writes: vec![cpu_list(&set)],
        is_usual,
        holds: if is_usual { Holds::AllCpus(set) } else { Holds::Cpus(set) },
    }
}

/// io.weight is io.cost's, io.bfq.weight the scheduler's: which there are depends on the kernel.
fn weight_settings(payload: BorrowedFd<'_>, weight: u32) -> Vec<Setting> {
    let is_usual = weight == USUAL_WEIGHT;
    let there: Vec<_> =
        ["io.bfq.weight", "io.weight"].into_iter().filter(|file| read(payload, file).is_ok()).collect();
    let files = if there.is_empty() { vec!["io.weight"] } else { there };
    let setting = |file| Setting {
        key: "limits.disk.priority",
        controller: "io",
        file,
        writes: vec![format!("default {weight}")],
        is_usual,
        holds: Holds::Default(weight.to_string()),
    };
    files.into_iter().map(setting).collect()
}

/// A line for each device that is or was limited.
fn io_writes(wanted: &[IoMax], old: &str) -> Vec<String> {
    let number = |io: &IoMax| format!("{}:{}", io.major, io.minor);
    let gone = old.lines().filter_map(|line| line.split(' ').next());
    let gone = gone.filter(|device| wanted.iter().all(|io| number(io) != *device));
    let off = gone.map(|device| format!("{device} rbps=max wbps=max riops=max wiops=max"));
    off.chain(wanted.iter().map(|io| {
        let [rbps, wbps, riops, wiops] = [io.rbps, io.wbps, io.riops, io.wiops].map(max_or);
        format!("{} rbps={rbps} wbps={wbps} riops={riops} wiops={wiops}", number(io))
    }))
    .collect()
}

/// Applies all of `limits` to the cgroup behind `payload`; what they do not limit gets the kernel's
/// default.
pub fn apply(payload: BorrowedFd<'_>, limits: &Limits) -> Result<(), ApplyError> {
    let all_cpus = read(payload, "../cpuset.cpus.effective").unwrap_or_default();
    let mut all = settings(limits, &read(payload, "io.max").unwrap_or_default(), &all_cpus);
    all.extend(weight_settings(payload, limits.io_weight));
    let mut done: Vec<(&Setting, String)> = Vec::new();
    for setting in &all {
        let mut before = read(payload, setting.file);
        if before.is_err() && !setting.is_usual {
            hand_on(payload, setting.controller);
            before = read(payload, setting.file);
        }
        let before = match before {
            Ok(before) => before,
            Err(_) if setting.is_usual => continue,
            Err(_) => {
                undo(payload, &done, &all_cpus);
                return Err(missing(payload, setting));
            }
        };
        if setting.is_held(&before) {
            continue;
        }
        done.push((setting, before));
        if let Err(e) = setting.apply(payload) {
            undo(payload, &done, &all_cpus);
            return Err(e);
        }
    }
    Ok(())
}

/// A file that does not hold what `apply` would write.
#[derive(Debug, PartialEq, Eq)]
pub struct Differing {
    pub key: &'static str,
    pub file: &'static str,
    /// What it holds.
    pub live: String,
}

/// The files of the cgroup at `payload` that hold something else than `limits` say.
pub fn differing(payload: &Path, limits: &Limits) -> SysResult<Vec<Differing>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir =
        rustix::fs::open(payload, flags, Mode::empty()).cannot(|| format!("open {}", payload.display()))?;
    let dir = dir.as_fd();
    let all_cpus = read(dir, "../cpuset.cpus.effective").unwrap_or_default();
    let mut all = settings(limits, "", &all_cpus);
    all.extend(weight_settings(dir, limits.io_weight));
    let differs = |setting: &Setting| match read(dir, setting.file) {
        Ok(live) => (!setting.is_held(&live)).then_some(live),
        Err(_) => (!setting.is_usual).then(|| "not there".to_owned()),
    };
    let found = all.iter().filter_map(|setting| Some((setting, differs(setting)?)));
    Ok(found.map(|(setting, live)| Differing { key: setting.key, file: setting.file, live }).collect())
}

/// Best effort: the former values were accepted once.
fn undo(payload: BorrowedFd<'_>, done: &[(&Setting, String)], all_cpus: &str) {
    for (setting, before) in done.iter().rev() {
        let lines: Vec<String> = match &setting.holds {
            Holds::Io(wanted) => {
                let off = wanted
                    .iter()
                    .map(|io| format!("{}:{} rbps=max wbps=max riops=max wiops=max", io.major, io.minor));
                off.chain(before.lines().map(str::to_owned)).collect()
            }
            Holds::Cpus(_) if before.is_empty() => vec![all_cpus.to_owned()],
            Holds::Default(_) => before.lines().take(1).map(str::to_owned).collect(),
            _ => vec![format!("{before}\n")],
        };
        for line in lines {
            if let Err(e) = write(payload, setting.file, &line) {
                tracing::warn!("cannot put '{line}' back into {}: {e}", setting.file);
            }
        }
    }
}

impl Setting {
    fn apply(&self, payload: BorrowedFd<'_>) -> Result<(), ApplyError> {
        let refused = |value: &str, source| ApplyError::Refused {
            key: self.key,
            file: self.file,
            value: value.trim_end().to_owned(),
            source,
        };
        for text in &self.writes {
            write(payload, self.file, text).map_err(|e| refused(text, e))?;
        }
        let got = read(payload, self.file).map_err(|e| refused("", e))?;
        if !self.is_held(&got) {
            let value = self.writes.join("; ").trim_end().to_owned();
            return Err(ApplyError::NotTaken { key: self.key, file: self.file, value, got });
        }
        self.check_effective(payload)
    }

    /// The kernel ignores CPUs that a cgroup above does not have, whatever is written here.
    fn check_effective(&self, payload: BorrowedFd<'_>) -> Result<(), ApplyError> {
        let Holds::Cpus(wanted) = &self.holds else { return Ok(()) };
        let Ok(got) = read(payload, "cpuset.cpus.effective") else { return Ok(()) };
        if wanted.is_empty() || cpu_set(&got).as_ref() == Some(wanted) {
            return Ok(());
        }
        let (key, file, value) = (self.key, "cpuset.cpus.effective", cpu_list(wanted));
        Err(ApplyError::NotTaken { key, file, value, got })
    }

    fn is_held(&self, text: &str) -> bool {
        match &self.holds {
            Holds::Exactly(wanted) => text == wanted,
            Holds::Number { wanted, step } => {
                let got = if text == "max" { Some(NO_LIMIT) } else { text.parse::<u64>().ok() };
                got.is_some_and(|got| match *wanted {
                    NO_LIMIT => got >= MOST_BYTES,
                    wanted => got <= wanted && wanted - got < *step,
                })
            }
            Holds::Cpus(wanted) => cpu_set(text).as_ref() == Some(wanted),
            Holds::AllCpus(all) => text.is_empty() || cpu_set(text).as_ref() == Some(all),
            Holds::Default(wanted) => text.lines().any(|line| {
                line == wanted || line.strip_prefix("default ").is_some_and(|rest| rest == wanted)
            }),
            Holds::Io(wanted) => {
                let limits: Vec<_> = text.lines().collect();
                let all = io_writes(wanted, "");
                // A device without any limit is not listed.
                let all: Vec<_> = all.iter().filter(|line| line.matches("=max").count() < 4).collect();
                limits.len() == all.len() && all.iter().all(|line| limits.contains(&line.as_str()))
            }
        }
    }
}

/// Why there is no such file.
fn missing(payload: BorrowedFd<'_>, setting: &Setting) -> ApplyError {
    let text = read(payload, "cgroup.controllers").unwrap_or_default();
    let controllers = text.split(' ').map(str::to_owned).collect();
    let reason = lacking(setting.controller, &controllers, &legacy_controllers())
        .unwrap_or_else(|| format!("this host's kernel has no {}", setting.file));
    ApplyError::Lacking { key: setting.key, reason }
}

/// What the hierarchy of cgroup v2 at `mount` can limit: its controllers, and behind that of huge pages
/// the sizes that there are, such as "hugetlb.2MB".
pub fn controllers(mount: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
    let mut all: BTreeSet<String> = text.split_whitespace().map(str::to_owned).collect();
    if all.contains("hugetlb") {
        let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        all.extend(sizes.filter_map(|entry| page_size(entry.file_name().to_str()?)));
    }
    all
}

/// "hugepages-2048kB" as the controller's files have it.
fn page_size(directory: &str) -> Option<String> {
    let kib: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let (number, unit) = match kib {
        kib if kib >= 1 << 20 => (kib >> 20, "GB"),
        kib if kib >= 1 << 10 => (kib >> 10, "MB"),
        kib => (kib, "KB"),
    };
    Some(format!("hugetlb.{number}{unit}"))
}

/// Has the cgroups above `payload` hand on a controller that one of them has: not all are handed on to
/// every container, and systemd hands on those alone that it knows.
fn hand_on(payload: BorrowedFd<'_>, controller: &str) {
    const DEEPEST: usize = 16;
    let above = |n: usize, file: &str| format!("{}{file}", "../".repeat(n));
    let has = |n: &usize| {
        let names = read(payload, &above(*n, "cgroup.controllers")).unwrap_or_default();
        names.split(' ').any(|name| name == controller)
    };
    let Some(from) = (0..DEEPEST).find(has) else { return };
    for n in (1..=from).rev() {
        let file = above(n, "cgroup.subtree_control");
        if let Err(e) = write(payload, &file, &format!("+{controller}")) {
            tracing::warn!("cannot hand '{controller}' on in {file}: {e}");
            return;
        }
    }
}

/// Controllers that a hierarchy of cgroup v1 holds, under their names in v2.
pub fn legacy_controllers() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let held = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, hierarchy) = (words.next()?, words.next()?);
        (hierarchy != "0").then(|| if name == "blkio" { "io".to_owned() } else { name.to_owned() })
    });
    held.collect()
}

fn open(dir: BorrowedFd<'_>, file: &str, flags: OFlags) -> std::io::Result<std::fs::File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, file, flags, Mode::empty())?.into())
}

/// Without the last newline.
fn read(dir: BorrowedFd<'_>, file: &str) -> std::io::Result<String> {
    let mut text = String::new();
    open(dir, file, OFlags::RDONLY)?.take(64 << 10).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// In one write(2), which is what the kernel takes for one value.
fn write(dir: BorrowedFd<'_>, file: &str, text: &str) -> std::io::Result<()> {
    open(dir, file, OFlags::WRONLY)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// A directory with files such as a cgroup has; unlike the kernel's they hold what was written.
    fn cgroup(files: &[(&str, &str)]) -> (tempfile::TempDir, std::os::fd::OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let fd = std::fs::File::open(dir.path()).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn limits_that_nobody_asked_for_need_no_file() {
        let (_dir, fd) = cgroup(&[]);
        apply(fd.as_fd(), &Limits::default()).unwrap();
    }

    #[test]
    fn a_limit_without_its_file_is_lacking_and_names_both() {
        let (_dir, fd) = cgroup(&[("cgroup.controllers", "cpu pids\n")]);
        let error =
            apply(fd.as_fd(), &Limits { numbers: [("memory.max", 1 << 30)].into(), ..Limits::default() })
                .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("limits.memory cannot be enforced: this host's cgroup v2 has no 'memory'"),
            "{text}"
        );
        let (_dir, fd) = cgroup(&[("cgroup.controllers", "memory\n")]);
        let error =
            apply(fd.as_fd(), &Limits { numbers: [("memory.swap.max", 0)].into(), ..Limits::default() })
                .unwrap_err();
        assert_eq!(
            error.to_string(),
            "limits.memory.swap cannot be enforced: this host's kernel has no memory.swap.max"
        );
    }

    #[test]
    fn what_was_changed_is_put_back_when_a_later_one_fails() {
        let files = [("pids.max", "50\n"), ("cpu.max", "max 100000\n"), ("cpu.weight", "100\n")];
        let (dir, fd) = cgroup(&files);
        let numbers = [("pids.max", 9), ("memory.max", 1 << 30)].into();
        let wanted = Limits { cpu_quota: 50_000, numbers, ..Limits::default() };
        apply(fd.as_fd(), &wanted).unwrap_err();
        let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text("pids.max").lines().next(), Some("50"));
        assert_eq!(text("cpu.max").lines().next(), Some("max 100000"));
    }

    #[test]
    fn io_lines_are_compared_as_the_kernel_writes_them() {
        let disk = IoMax { major: 8, minor: 0, rbps: 5, wbps: NO_LIMIT, riops: NO_LIMIT, wiops: 7 };
        let all = settings(
            &Limits { io_max: vec![disk], ..Limits::default() },
            "8:16 rbps=1 wbps=max riops=max wiops=max",
            "0-1",
        );
        let io = all.iter().find(|setting| setting.file == "io.max").unwrap();
        assert_eq!(
            io.writes,
            ["8:16 rbps=max wbps=max riops=max wiops=max", "8:0 rbps=5 wbps=max riops=max wiops=7"]
        );
        assert!(io.is_held("8:0 rbps=5 wbps=max riops=max wiops=7"));
        assert!(!io.is_held("") && !io.is_held("8:0 rbps=6 wbps=max riops=max wiops=7"));
    }

    #[test]
    fn cpus_are_all_again_when_no_limit_is_left() {
        let (dir, fd) = cgroup(&[("cpuset.cpus", "1\n")]);
        let setting = cpu_setting("", "0-3");
        assert!(setting.is_held("") && setting.is_held("0-3") && !setting.is_held("1"));
        std::fs::remove_file(dir.path().join("cpuset.cpus")).unwrap();
        apply(fd.as_fd(), &Limits::default()).unwrap();
        assert_eq!(setting.writes, ["0-3"]);
    }

    #[test]
    fn sizes_of_huge_pages_are_named_as_the_controller_names_them() {
        for (directory, size) in [
            ("hugepages-64kB", "hugetlb.64KB"),
            ("hugepages-2048kB", "hugetlb.2MB"),
            ("hugepages-1048576kB", "hugetlb.1GB"),
        ] {
            assert_eq!(page_size(directory).as_deref(), Some(size));
        }
        assert_eq!(page_size("x"), None);
    }

    #[test]
    fn bytes_may_be_rounded_down_to_pages() {
        let setting = |n| {
            let limits = Limits { numbers: [("memory.max", n)].into(), ..Limits::default() };
            settings(&limits, "", "").pop().unwrap()
        };
        let some = setting(1_000_000);
        assert!(some.is_held("999424") && some.is_held("1000000"));
        assert!(!some.is_held("max") && !some.is_held("1003520") && !some.is_held("4096"));
        assert!(setting(NO_LIMIT).is_held("max"));
    }
}
