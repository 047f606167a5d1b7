//! Limits in the files of a guest's cgroup, which are the host's: the guest owns only those that
//! were delegated. Every value is read back, and all are as before when one is not taken.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

use crate::model::config::value::{NO_LIMIT, cpu_list, cpu_set};
use crate::model::limits::{IoMax, Limits, USUAL_PERIOD, USUAL_WEIGHT, no_controller};

/// Why limits were not applied; those of before hold.
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
    /// Nothing is asked for: a file that is not there limits nothing either.
    is_usual: bool,
    holds: Holds,
}

/// How what a file says is compared with what was written.
enum Holds {
    Exactly(String),
    /// The kernel rounds down to pages.
    Bytes(u64),
    Cpus(BTreeSet<u32>),
    /// These, which are all, or nothing, which means the same.
    AllCpus(BTreeSet<u32>),
    /// "default 100", and lines of devices.
    Default(String),
    Io(Vec<IoMax>),
}

fn max_or(value: u64) -> String {
    if value == NO_LIMIT { "max".to_owned() } else { value.to_string() }
}

fn bytes(key: &'static str, file: &'static str, value: u64) -> Setting {
    Setting {
        key,
        controller: "memory",
        file,
        writes: vec![max_or(value)],
        is_usual: value == NO_LIMIT,
        holds: Holds::Bytes(value),
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
    vec![
        cpu_setting(&limits.cpus, all_cpus),
        exactly("limits.cpu.allowance", "cpu", "cpu.max", quota, usual_quota),
        exactly("limits.cpu.allowance", "cpu", "cpu.weight", weight.to_string(), weight == USUAL_WEIGHT),
        exactly("limits.processes", "pids", "pids.max", max_or(limits.pids_max), limits.pids_max == NO_LIMIT),
        Setting {
            key: "limits.read or limits.write",
            controller: "io",
            file: "io.max",
            writes: io_writes(&limits.io_max, old_io),
            is_usual: limits.io_max.is_empty(),
            holds: Holds::Io(limits.io_max.clone()),
        },
        bytes("limits.memory.swap", "memory.swap.max", limits.swap_max),
        bytes("limits.memory", "memory.high", limits.memory_high),
        bytes("limits.memory", "memory.max", limits.memory_max),
    ]
}

/// A cpuset with processes never becomes empty again (kernel/cgroup/cpuset.c, ENOSPC): to take a
/// limit back is to name all CPUs.
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

/// Makes `limits`, all of them, those of the cgroup behind `payload`; what they do not limit gets
/// the kernel's default.
pub fn apply(payload: BorrowedFd<'_>, limits: &Limits) -> Result<(), ApplyError> {
    let all_cpus = read(payload, "../cpuset.cpus.effective").unwrap_or_default();
    let mut all = settings(limits, &read(payload, "io.max").unwrap_or_default(), &all_cpus);
    all.extend(weight_settings(payload, limits.io_weight));
    let mut done: Vec<(&Setting, String)> = Vec::new();
    for setting in &all {
        let before = match read(payload, setting.file) {
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

/// Best effort: what was there before was good.
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

    /// CPUs that a cgroup above does not have are not there, whatever is written here.
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
            Holds::Bytes(wanted) => {
                let got = if text == "max" { Some(NO_LIMIT) } else { text.parse::<u64>().ok() };
                // Pages have at most 64 KiB.
                got.is_some_and(|got| {
                    got == *wanted || (*wanted != NO_LIMIT && got <= *wanted && *wanted - got < 65_536)
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
    let controllers = read(payload, "cgroup.controllers").unwrap_or_default();
    let reason = if controllers.split(' ').any(|name| name == setting.controller) {
        format!("this host's kernel has no {}", setting.file)
    } else {
        no_controller(setting.controller, legacy_controllers().contains(setting.controller))
    };
    ApplyError::Lacking { key: setting.key, reason }
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
        let error = apply(fd.as_fd(), &Limits { memory_max: 1 << 30, ..Limits::default() }).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("limits.memory cannot be enforced: this host's cgroup v2 has no 'memory'"),
            "{text}"
        );
        let (_dir, fd) = cgroup(&[("cgroup.controllers", "memory\n")]);
        let error = apply(fd.as_fd(), &Limits { swap_max: 0, ..Limits::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "limits.memory.swap cannot be enforced: this host's kernel has no memory.swap.max"
        );
    }

    #[test]
    fn what_was_changed_is_put_back_when_a_later_one_fails() {
        let files = [("pids.max", "50\n"), ("cpu.max", "max 100000\n"), ("cpu.weight", "100\n")];
        let (dir, fd) = cgroup(&files);
        let wanted = Limits { pids_max: 9, cpu_quota: 50_000, memory_max: 1 << 30, ..Limits::default() };
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
    fn bytes_may_be_rounded_down_to_pages() {
        let setting = bytes("limits.memory", "memory.max", 1_000_000);
        assert!(setting.is_held("999424") && setting.is_held("1000000"));
        assert!(!setting.is_held("max") && !setting.is_held("1003520") && !setting.is_held("4096"));
        assert!(bytes("limits.memory", "memory.max", NO_LIMIT).is_held("max"));
    }
}
