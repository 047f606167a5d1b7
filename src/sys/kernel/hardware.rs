//! What limits are computed from: the disks below a directory, CPUs, memory.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::config::value::cpu_set;
use crate::model::limits::Disk;

const BLOCK: &str = "/sys/dev/block";

/// The whole disk that the file system of `dir` is on.
///
/// # Errors
/// Where it is on none, or on several at once: then the kernel numbers the file system itself, and
/// none of its disks.
pub fn disks_under(dir: &Path, cgroup_mount: Option<&Path>) -> Result<Vec<Disk>, String> {
    let device = std::fs::metadata(dir).map_err(|e| format!("{}: {e}", dir.display()))?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let entry = Path::new(BLOCK).join(format!("{major}:{minor}"));
    let entry = std::fs::canonicalize(entry).map_err(|_| {
        format!("the file system of {} has no disk of its own (device {major}:{minor})", dir.display())
    })?;
    // A partition is not limited: its disk is.
    let whole = if entry.join("partition").exists() { entry.parent().unwrap_or(&entry) } else { &entry };
    let number = std::fs::read_to_string(whole.join("dev")).unwrap_or_default();
    let number = number.trim();
    let parsed = number.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (major, minor) = parsed.ok_or_else(|| format!("{} is not a disk", whole.display()))?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scheduler = std::fs::read_to_string(whole.join("queue/scheduler")).unwrap_or_default();
    let cost = cgroup_mount.and_then(|mount| std::fs::read_to_string(mount.join("io.cost.qos")).ok());
    let by_cost = cost.unwrap_or_default().lines().any(|line| {
        let mut words = line.split(' ');
        words.next() == Some(number) && words.any(|word| word == "enable=1")
    });
    Ok(vec![Disk { major, minor, name, by_weight: scheduler.contains("[bfq]") || by_cost }])
}

/// CPUs that are on.
pub fn online_cpus() -> BTreeSet<u32> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    cpu_set(text.trim()).filter(|set| !set.is_empty()).unwrap_or_else(|| [0].into())
}

/// Bytes.
pub fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The kernel's ceiling of open files, fs.nr_open.
pub fn most_open_files() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
    text.trim().parse().unwrap_or(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_a_disk_is_refused() {
        assert!(disks_under(Path::new("/proc"), None).unwrap_err().contains("no disk of its own"));
    }

    #[test]
    fn the_host_has_cpus_and_memory() {
        assert!(!online_cpus().is_empty() && memory() > 1 << 20 && most_open_files() > 0);
    }
}
