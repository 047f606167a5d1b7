//! What a container uses, from the files of its cgroup and its links' counters. A host without a controller
//! does not count what that would count. Nothing here enters a guest.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use crate::model::config::CONFIG_KEYS;
use crate::sys::cgroup;

/// How many of a guest's cgroups are searched for its processes, where no controller counts them.
const MOST_CGROUPS: usize = 1024;
/// Longest file that is read.
const LONGEST: u64 = 64 << 10;

/// What is not counted on this host is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Bytes, without the cache of files that can be dropped at once.
    pub memory: Option<u64>,
    /// Bytes, the most that there was, such cache included.
    pub memory_peak: Option<u64>,
    /// Bytes.
    pub swap: Option<u64>,
    /// Microseconds of CPU time since the start.
    pub cpu: Option<u64>,
    pub processes: Option<u64>,
    /// Bytes read from and written to disks since the start.
    pub io_read: Option<u64>,
    pub io_written: Option<u64>,
    /// Bytes that the guest has received and sent.
    pub net_received: Option<u64>,
    pub net_sent: Option<u64>,
    /// Processes that the kernel has ended for want of memory.
    pub oom_kills: Option<u64>,
    /// None where the kernel does not measure it (boot it with psi=1).
    pub pressure: Option<Pressure>,
}

/// How much of the last 10, 60 and 300 seconds some process has waited, in percent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pressure {
    pub cpu: [f64; 3],
    pub memory: [f64; 3],
    pub io: [f64; 3],
}

/// The usage of the guest whose cgroup is `payload` and whose host links are `links`.
pub fn read(payload: &Path, links: &[String]) -> Usage {
    let file = |name: &str| text(&payload.join(name));
    let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
    let keyed = |name: &str, key: &str| file(name).and_then(|text| keyed(&text, key));
    let cache = keyed("memory.stat", "inactive_file").unwrap_or(0);
    let io = file("io.stat").map(|text| io_sums(&text));
    let counter = |name: &str| {
        let one = |link: &String| {
            let path = Path::new("/sys/class/net").join(link).join("statistics").join(name);
            text(&path)?.trim().parse::<u64>().ok()
        };
        links.iter().filter_map(one).reduce(|sum, bytes| sum + bytes)
    };
    let pressure = |name: &str| file(name).and_then(|text| averages(&text));
    Usage {
        memory: number("memory.current").map(|bytes| bytes.saturating_sub(cache)),
        memory_peak: number("memory.peak"),
        swap: number("memory.swap.current"),
        cpu: keyed("cpu.stat", "usage_usec"),
        processes: number("pids.current").or_else(|| count(payload)),
        io_read: io.map(|(read, _)| read),
        io_written: io.map(|(_, written)| written),
        // What comes out of the guest comes into the host's end.
        net_received: counter("tx_bytes"),
        net_sent: counter("rx_bytes"),
        oom_kills: keyed("memory.events", "oom_kill"),
        pressure: match (pressure("cpu.pressure"), pressure("memory.pressure"), pressure("io.pressure")) {
            (Some(cpu), Some(memory), Some(io)) => Some(Pressure { cpu, memory, io }),
            _ => None,
        },
    }
}

/// The limits that the kernel enforces: the cgroup's files, by name, as they are.
pub fn limits(payload: &Path) -> BTreeMap<&'static str, String> {
    let files = CONFIG_KEYS.keys.iter().flat_map(|key| key.sets).chain([&"cpuset.cpus.effective"]);
    let found = files.filter_map(|name| Some((*name, text(&payload.join(name))?)));
    found.map(|(name, text)| (name, text.trim_end().replace('\n', "; "))).collect()
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The number after `key` in a file of lines "key number".
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Bytes read and written on all devices.
fn io_sums(text: &str) -> (u64, u64) {
    let sum = |key: &str| -> u64 {
        text.split_whitespace()
            .filter_map(|w| w.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
            .sum()
    };
    (sum("rbytes"), sum("wbytes"))
}

fn averages(text: &str) -> Option<[f64; 3]> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let value = |key: &str| some.split(' ').find_map(|word| word.strip_prefix(key)?.parse().ok());
    Some([value("avg10=")?, value("avg60=")?, value("avg300=")?])
}

/// Processes in the cgroup and below it; none where a guest has made so many cgroups that looking
/// would take long.
fn count(payload: &Path) -> Option<u64> {
    let mut left = vec![payload.to_owned()];
    let (mut seen, mut total) = (0, 0);
    while let Some(dir) = left.pop() {
        seen += 1;
        if seen + left.len() > MOST_CGROUPS {
            return None;
        }
        total += cgroup::processes(&dir).len() as u64;
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(
            below
                .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
                .map(|entry| entry.path())
                .take(MOST_CGROUPS + 1),
        );
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let psi = "some avg10=1.50 avg60=0.20 avg300=0.00 total=5\nfull avg10=9.00 avg60=9.00 avg300=9.00 total=1\n";
        for (name, text) in [
            ("memory.current", "10000\n"),
            ("memory.stat", "anon 5\ninactive_file 4000\nactive_file 7\n"),
            ("memory.peak", "20000\n"),
            ("memory.events", "oom 2\noom_kill 1\n"),
            ("cpu.stat", "usage_usec 123\nuser_usec 100\n"),
            ("pids.current", "7\n"),
            (
                "io.stat",
                "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=2 rios=1\n",
            ),
            ("cpu.pressure", psi),
            ("memory.pressure", psi),
            ("io.pressure", psi),
            ("cpu.max", "25000 100000\n"),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let usage = read(dir.path(), &["no-such-link".to_owned()]);
        assert_eq!((usage.memory, usage.memory_peak, usage.cpu), (Some(6000), Some(20_000), Some(123)));
        assert_eq!((usage.io_read, usage.io_written, usage.oom_kills), (Some(11), Some(22), Some(1)));
        assert_eq!((usage.processes, usage.swap, usage.net_sent), (Some(7), None, None));
        assert_eq!(usage.pressure.unwrap().io, [1.5, 0.2, 0.0]);
        assert_eq!(limits(dir.path()), [("cpu.max", "25000 100000".to_owned())].into());
    }

    #[test]
    fn a_host_that_counts_nothing_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), &[]), Usage { processes: Some(0), ..Usage::default() });
        for n in 0..=MOST_CGROUPS {
            std::fs::create_dir(dir.path().join(n.to_string())).unwrap();
        }
        assert_eq!(read(dir.path(), &[]).processes, None);
    }
}
