//! What the kernel is told of a container's limits: plain numbers, worked out of its configuration
//! and of what the host has.

mod numbers;

use crate::model::fault::{Code, Facts, Fault};
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::config::value::{Allowance, Cpus, Memory, NO_LIMIT, Pair, Rate, Swap, cpu_list, integer};
use super::config::{CONFIG_KEYS, Config, rlimit_of};
pub use numbers::{
    LEAST_MEMORY, MEMORY_HIGH, MEMORY_MAX, NUMBERS, Number, Numbers, PIDS_MAX, SWAP_MAX, lacking,
};

/// The kernel's own default of cpu.weight and io.weight.
pub const USUAL_WEIGHT: u32 = 100;
/// Microseconds; the kernel's own default.
pub const USUAL_PERIOD: u64 = 100_000;

/// Resources of setrlimit(2) that can be limited, as `limits.kernel.*` names them.
pub const RLIMITS: [&str; 15] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Limits of a container. `NO_LIMIT` stands for none; the default limits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Files that take one number.
    pub numbers: Numbers,
    /// Microseconds in a period.
    pub cpu_quota: u64,
    /// Microseconds.
    pub cpu_period: u64,
    /// 1 to 10000.
    pub cpu_weight: u32,
    /// As in "0-3,5"; empty for all.
    pub cpus: String,
    /// 1 to 10000.
    pub io_weight: u32,
    /// One entry for each disk that is limited.
    pub io_max: Vec<IoMax>,
    /// Those that were set; others are the usual ones.
    pub rlimits: Vec<Rlimit>,
}

/// What a container may do on one disk in a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// The disk's device number.
    pub major: u32,
    /// The disk's device number.
    pub minor: u32,
    /// Bytes.
    pub rbps: u64,
    /// Bytes that are written.
    pub wbps: u64,
    /// Operations.
    pub riops: u64,
    /// Operations that write.
    pub wiops: u64,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// One of `RLIMITS`.
    pub resource: String,
    /// What holds, in the resource's unit; [`NO_LIMIT`] for none.
    pub soft: u64,
    /// How far a process may raise it.
    pub hard: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            numbers: Numbers::default(),
            cpu_quota: NO_LIMIT,
            cpu_period: USUAL_PERIOD,
            cpu_weight: USUAL_WEIGHT,
            cpus: String::new(),
            io_weight: USUAL_WEIGHT,
            io_max: Vec::new(),
            rlimits: Vec::new(),
        }
    }
}

/// What of the host matters for limits.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Bytes.
    pub memory: u64,
    /// Numbers of the CPUs that are online.
    pub cpus: BTreeSet<u32>,
    /// Controllers of cgroup v2.
    pub controllers: BTreeSet<String>,
    /// Those that are bound to cgroup v1.
    pub legacy: BTreeSet<String>,
    /// How many other containers are pinned to a CPU.
    pub pinned: BTreeMap<u32, u32>,
    /// The CPUs that this container is pinned to at present.
    pub present: BTreeSet<u32>,
    /// The disks that its files are on, or why they cannot be limited.
    pub disks: Result<Vec<Disk>, String>,
    /// fs.nr_open.
    pub most_open_files: u64,
}

impl Default for HostFacts {
    /// A host that has nothing.
    fn default() -> Self {
        Self {
            memory: 0,
            cpus: BTreeSet::new(),
            controllers: BTreeSet::new(),
            legacy: BTreeSet::new(),
            pinned: BTreeMap::new(),
            present: BTreeSet::new(),
            disks: Ok(Vec::new()),
            most_open_files: 0,
        }
    }
}

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its device number.
    pub major: u32,
    /// Its device number.
    pub minor: u32,
    /// The kernel's name for it.
    pub name: String,
    /// It is shared out by weight: BFQ or io.cost is at work.
    pub by_weight: bool,
}

/// A limit that cannot be had on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} cannot be '{value}' here: {reason}")]
pub struct LimitError {
    /// The configuration's key.
    pub key: String,
    /// What it was set to.
    pub value: String,
    /// Why not; completes "cannot be … here: …".
    pub reason: String,
    /// The host lacks something, as opposed to a value that makes no sense on it.
    pub lacking: bool,
}

impl Fault for LimitError {
    fn facts(&self) -> Facts {
        match self.lacking {
            true => {
                Facts::host(Code::HostLacks).hint("see which limits this host can enforce: nagaya doctor")
            }
            false => Facts::user(Code::LimitRefused),
        }
    }
}

/// The limits that `config` asks for on `host`.
///
/// # Errors
/// The first key whose value the host cannot enforce.
pub fn resolve(config: &Config, host: &HostFacts) -> Result<Limits, LimitError> {
    let asked = Asked { config, host };
    let mut limits = Limits::default();
    asked.memory(&mut limits)?;
    asked.cpu(&mut limits)?;
    for number in NUMBERS {
        if let Some(read) = number.read
            && let Some(value) = asked.value(number.key, number.needs)?
        {
            limits.numbers.set(number.file, read(value).unwrap_or(NO_LIMIT));
        }
    }
    asked.disk(&mut limits)?;
    asked.rlimits(&mut limits)?;
    Ok(limits)
}

struct Asked<'a> {
    config: &'a Config,
    host: &'a HostFacts,
}

impl<'a> Asked<'a> {
    /// What `key` was set to, provided that there is the controller which enforces it.
    fn value(&self, key: &str, needs: &str) -> Result<Option<&'a str>, LimitError> {
        let Some(value) = self.config.get(key) else { return Ok(None) };
        match lacking(needs, &self.host.controllers, &self.host.legacy) {
            None => Ok(Some(value)),
            Some(reason) => Err(LimitError { lacking: true, ..wrong(key, value, reason) }),
        }
    }

    fn memory(&self, limits: &mut Limits) -> Result<(), LimitError> {
        let soft = self.value("limits.memory.enforce", "memory")? == Some("soft");
        if let Some(value) = self.value("limits.memory", "memory")? {
            let bytes = match Memory::parse(value) {
                Some(Memory::Bytes(bytes)) => bytes,
                Some(Memory::Percent(percent)) => self.host.memory / 100 * u64::from(percent),
                None => NO_LIMIT,
            };
            if bytes < LEAST_MEMORY {
                let reason = format!("it leaves {bytes} bytes, and at least 1MiB is needed");
                return Err(wrong("limits.memory", value, reason));
            }
            limits.numbers.set(if soft { MEMORY_HIGH } else { MEMORY_MAX }, bytes);
        }
        match self.value("limits.memory.swap", "memory")?.and_then(Swap::parse) {
            Some(Swap::Allowed(false)) => limits.numbers.set(SWAP_MAX, 0),
            Some(Swap::Bytes(bytes)) => limits.numbers.set(SWAP_MAX, bytes),
            Some(Swap::Allowed(true)) | None => {}
        }
        Ok(())
    }

    fn cpu(&self, limits: &mut Limits) -> Result<(), LimitError> {
        if let Some(value) = self.value("limits.cpu", "cpuset")? {
            limits.cpus = self.cpus(value)?;
        }
        let mut percent = 100;
        match self.value("limits.cpu.allowance", "cpu")?.and_then(Allowance::parse) {
            Some(Allowance::Percent(share)) => percent = share,
            Some(Allowance::Time { quota, period }) => {
                (limits.cpu_quota, limits.cpu_period) = (quota, period);
            }
            None => {}
        }
        let priority = self.value("limits.cpu.priority", "cpu")?.and_then(integer).unwrap_or(10);
        // 100 % is the kernel's usual weight; priority 0 gets half of what priority 10 gets.
        let weight = i64::from(percent) * (10 + priority) / 20;
        limits.cpu_weight = u32::try_from(weight).unwrap_or(USUAL_WEIGHT).max(1);
        Ok(())
    }

    /// A count is met by those CPUs that fewest other containers are pinned to; a container that is
    /// pinned to that many already keeps them.
    fn cpus(&self, value: &str) -> Result<String, LimitError> {
        let refused = |reason| Err(wrong("limits.cpu", value, reason));
        let online = &self.host.cpus;
        match Cpus::parse(value) {
            Some(Cpus::Set(set)) => match set.difference(online).next() {
                Some(cpu) => refused(format!("there is no CPU {cpu}; this host has {}", cpu_list(online))),
                None => Ok(cpu_list(&set)),
            },
            Some(Cpus::Count(count)) => {
                let count = count as usize;
                if count > online.len() {
                    return refused(format!("this host has {}", amount(online.len(), "CPU")));
                }
                let present = &self.host.present;
                if present.len() == count && present.is_subset(online) {
                    return Ok(cpu_list(present));
                }
                let mut by_use: Vec<u32> = online.iter().copied().collect();
                by_use.sort_by_key(|cpu| (self.host.pinned.get(cpu).copied().unwrap_or(0), *cpu));
                Ok(cpu_list(&by_use.into_iter().take(count).collect()))
            }
            None => Ok(String::new()),
        }
    }

    fn disk(&self, limits: &mut Limits) -> Result<(), LimitError> {
        if let Some(value) = self.value("limits.disk.priority", "io")? {
            let disks = self.disks("limits.disk.priority", value)?;
            if let Some(disk) = disks.iter().find(|disk| !disk.by_weight) {
                let reason = format!(
                    "disk {0} is not shared out by weight; try: echo bfq > /sys/block/{0}/queue/scheduler",
                    disk.name
                );
                return Err(LimitError { lacking: true, ..wrong("limits.disk.priority", value, reason) });
            }
            // Priority 5 is the usual weight.
            let priority = integer(value).and_then(|n| u32::try_from(n).ok()).unwrap_or(5);
            limits.io_weight = (priority * USUAL_WEIGHT / 5).max(2);
        }
        let read = self.value("limits.read", "io")?.map(|value| ("limits.read", value));
        let write = self.value("limits.write", "io")?.map(|value| ("limits.write", value));
        let Some((key, value)) = read.or(write) else { return Ok(()) };
        let (rbps, riops) = rates(read.map(|(_, value)| value));
        let (wbps, wiops) = rates(write.map(|(_, value)| value));
        let disks = self.disks(key, value)?.iter();
        limits.io_max = disks
            .map(|disk| IoMax { major: disk.major, minor: disk.minor, rbps, wbps, riops, wiops })
            .collect();
        Ok(())
    }

    fn disks(&self, key: &str, value: &str) -> Result<&'a [Disk], LimitError> {
        match &self.host.disks {
            Ok(disks) => Ok(disks),
            Err(reason) => Err(LimitError { lacking: true, ..wrong(key, value, reason.clone()) }),
        }
    }

    fn rlimits(&self, limits: &mut Limits) -> Result<(), LimitError> {
        for (key, value) in self.config.iter().filter(|(key, _)| CONFIG_KEYS.find(key).is_some()) {
            let (Some(resource), Some(Pair { soft, hard })) = (rlimit_of(key), Pair::parse(value)) else {
                continue;
            };
            let most = self.host.most_open_files;
            if resource == "nofile" && hard > most {
                return Err(wrong(key, value, format!("the kernel allows {most} (sysctl fs.nr_open)")));
            }
            limits.rlimits.push(Rlimit { resource: resource.to_owned(), soft, hard });
        }
        Ok(())
    }
}

fn wrong(key: &str, value: &str, reason: String) -> LimitError {
    LimitError { key: key.to_owned(), value: value.to_owned(), reason, lacking: false }
}

/// Bytes and operations in a second.
fn rates(value: Option<&str>) -> (u64, u64) {
    match value.and_then(Rate::parse) {
        Some(Rate::Bytes(bytes)) => (bytes, NO_LIMIT),
        Some(Rate::Operations(operations)) => (NO_LIMIT, operations),
        None => (NO_LIMIT, NO_LIMIT),
    }
}

fn amount(count: usize, of: &str) -> String {
    if count == 1 { format!("{count} {of}") } else { format!("{count} {of}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host() -> HostFacts {
        HostFacts {
            memory: 8 << 30,
            cpus: (0..4).collect(),
            controllers: ["cpu", "cpuset", "io", "memory", "pids"].map(str::to_owned).into(),
            disks: Ok(vec![Disk { major: 254, minor: 0, name: "vda".into(), by_weight: true }]),
            most_open_files: 1 << 20,
            ..HostFacts::default()
        }
    }

    fn limits(pairs: &[(&str, &str)]) -> Limits {
        resolve(&Config::of(pairs.iter().copied()).unwrap(), &host()).unwrap()
    }

    fn refusal(host: &HostFacts, key: &str, value: &str) -> LimitError {
        resolve(&Config::of([(key, value)]).unwrap(), host).unwrap_err()
    }

    #[test]
    fn nothing_asked_is_nothing_limited() {
        assert_eq!(limits(&[]), Limits::default());
        assert_eq!(limits(&[("user.x", "y"), ("boot.autostart", "true")]), Limits::default());
        let usual =
            [("limits.cpu.allowance", "100%"), ("limits.cpu.priority", "10"), ("limits.disk.priority", "5")];
        assert_eq!(limits(&usual), Limits::default());
    }

    #[test]
    fn memory_is_hard_or_soft() {
        let number = |pairs: &[_], file| limits(pairs).numbers.get(file);
        assert_eq!(number(&[("limits.memory", "512MiB")], MEMORY_MAX), 512 << 20);
        let soft = limits(&[("limits.memory", "50%"), ("limits.memory.enforce", "soft")]);
        assert_eq!(soft.numbers, [(MEMORY_HIGH, (8u64 << 30) / 100 * 50)].into());
        assert_eq!(number(&[("limits.memory.swap", "false")], SWAP_MAX), 0);
        assert_eq!(number(&[("limits.memory.swap", "1GiB")], SWAP_MAX), 1 << 30);
        assert_eq!(number(&[("limits.memory.swap", "true")], SWAP_MAX), NO_LIMIT);
        assert_eq!(number(&[("limits.processes", "500")], PIDS_MAX), 500);
        assert!(!refusal(&host(), "limits.memory", "4kB").lacking);
    }

    #[test]
    fn huge_pages_are_those_taken_and_those_reserved() {
        let mut host = host();
        host.controllers.extend(["hugetlb", "hugetlb.2MB"].map(str::to_owned));
        let config = Config::of([("limits.hugepages.2MB", "64MiB")]).unwrap();
        let wanted = [("hugetlb.2MB.max", 64 << 20), ("hugetlb.2MB.rsvd.max", 64 << 20)];
        assert_eq!(resolve(&config, &host).unwrap().numbers, wanted.into());
        let refused = refusal(&host, "limits.hugepages.1GB", "1GiB");
        assert!(refused.lacking && refused.reason.ends_with("no huge pages of 1GB"), "{refused}");
    }

    #[test]
    fn cpus_are_counted_or_named() {
        assert_eq!(limits(&[("limits.cpu", "2")]).cpus, "0-1");
        assert_eq!(limits(&[("limits.cpu", "1,3")]).cpus, "1,3");
        let busy = HostFacts { pinned: [(0, 2), (1, 1), (2, 1)].into(), ..host() };
        let config = Config::of([("limits.cpu", "2")]).unwrap();
        assert_eq!(resolve(&config, &busy).unwrap().cpus, "1,3");
        let kept = HostFacts { present: [0, 2].into(), ..busy };
        assert_eq!(resolve(&config, &kept).unwrap().cpus, "0,2");
        let gone = HostFacts { present: [0, 9].into(), ..host() };
        assert_eq!(resolve(&config, &gone).unwrap().cpus, "0-1");
        assert_eq!(
            refusal(&host(), "limits.cpu", "99").to_string(),
            "limits.cpu cannot be '99' here: this host has 4 CPUs"
        );
        assert_eq!(
            refusal(&host(), "limits.cpu", "2-7").to_string(),
            "limits.cpu cannot be '2-7' here: there is no CPU 4; this host has 0-3"
        );
    }

    #[test]
    fn shares_are_weights_and_times_are_quotas() {
        assert_eq!(limits(&[("limits.cpu.allowance", "50%")]).cpu_weight, 50);
        let low = limits(&[("limits.cpu.allowance", "1%"), ("limits.cpu.priority", "0")]);
        assert_eq!(low.cpu_weight, 1);
        assert_eq!(limits(&[("limits.cpu.priority", "0")]).cpu_weight, 50);
        let time = limits(&[("limits.cpu.allowance", "25ms/200ms")]);
        assert_eq!((time.cpu_quota, time.cpu_period, time.cpu_weight), (25_000, 200_000, 100));
    }

    #[test]
    fn disks_are_limited_each() {
        let limits =
            limits(&[("limits.read", "10MiB"), ("limits.write", "100iops"), ("limits.disk.priority", "0")]);
        let wanted =
            IoMax { major: 254, minor: 0, rbps: 10 << 20, wbps: NO_LIMIT, riops: NO_LIMIT, wiops: 100 };
        assert_eq!((limits.io_max, limits.io_weight), (vec![wanted], 2));
        let none = HostFacts { disks: Err("it is on tmpfs".into()), ..host() };
        let refused = refusal(&none, "limits.write", "1MB");
        assert!(refused.lacking && refused.to_string().ends_with("it is on tmpfs"), "{refused}");
        let deaf = Disk { major: 8, minor: 0, name: "sda".into(), by_weight: false };
        let deaf = HostFacts { disks: Ok(vec![deaf]), ..host() };
        assert!(
            refusal(&deaf, "limits.disk.priority", "9").reason.contains("/sys/block/sda/queue/scheduler")
        );
    }

    #[test]
    fn rlimits_are_passed_on() {
        let limits = limits(&[("limits.kernel.nofile", "1024:4096"), ("limits.kernel.core", "unlimited")]);
        let rlimit = |resource: &str, soft, hard| Rlimit { resource: resource.into(), soft, hard };
        assert_eq!(limits.rlimits, [rlimit("core", NO_LIMIT, NO_LIMIT), rlimit("nofile", 1024, 4096)]);
        assert!(refusal(&host(), "limits.kernel.nofile", "unlimited").reason.contains("fs.nr_open"));
        for resource in RLIMITS {
            assert!(CONFIG_KEYS.find(&format!("limits.kernel.{resource}")).is_some(), "{resource}");
        }
    }

    #[test]
    fn what_no_controller_enforces_is_refused() {
        let bare = HostFacts {
            controllers: BTreeSet::new(),
            legacy: ["memory", "cpu", "cpuset", "pids"].map(str::to_owned).into(),
            ..host()
        };
        assert_eq!(
            refusal(&bare, "limits.memory", "1GiB").to_string(),
            "limits.memory cannot be '1GiB' here: this host's cgroup v2 has no 'memory' controller: it is bound to \
             cgroup v1"
        );
        for (key, value) in [
            ("limits.memory.swap", "false"),
            ("limits.memory.enforce", "soft"),
            ("limits.cpu", "1"),
            ("limits.cpu.allowance", "50%"),
            ("limits.cpu.priority", "3"),
            ("limits.processes", "100"),
            ("limits.disk.priority", "1"),
            ("limits.read", "1MB"),
            ("limits.write", "1MB"),
        ] {
            let refused = refusal(&bare, key, value);
            assert!(refused.lacking && refused.key == key, "{refused}");
        }
        let config = Config::of([("limits.kernel.nofile", "1024")]).unwrap();
        assert_eq!(resolve(&config, &bare).unwrap().rlimits.len(), 1);
    }

    proptest! {
        #[test]
        fn a_count_gives_as_many_cpus(online in proptest::collection::btree_set(0u32..64, 1..20), n in 1u32..30) {
            let host = HostFacts { cpus: online.clone(), ..host() };
            let config = Config::of([("limits.cpu", n.to_string().as_str())]).unwrap();
            match resolve(&config, &host) {
                Ok(limits) => {
                    let set = crate::model::config::value::cpu_set(&limits.cpus).unwrap();
                    prop_assert!(set.len() == n as usize && set.is_subset(&online));
                }
                Err(_) => prop_assert!(n as usize > online.len()),
            }
        }
    }
}
